"""The workspace: a folder of task files, and what became of them."""

from __future__ import annotations

import os
from pathlib import Path

from taskorch.errors import InvalidTaskError
from taskorch.frontends.workspace._config import read_config
from taskorch.frontends.workspace._layout import Layout
from taskorch.frontends.workspace._problems import Problem
from taskorch.frontends.workspace._scan import Plan, Scanner

__all__ = ("Workspace",)


class Workspace:
    """
    A folder of task files, `tasks/**/*.md`, and what became of them, `workspace/`.

    Args:
        root: The folder that both are in.

    Raises:
        InvalidTaskError: There is no such folder.
    """

    def __init__(self, root: str | os.PathLike[str] = ".") -> None:
        self.root: Path = Path(root).resolve()
        if not self.root.is_dir():
            msg = f"there is no folder {os.fspath(root)!r}"
            raise InvalidTaskError(msg, hint="taskorch workspace init makes one")
        self._faults: list[Problem] = []
        self.config = read_config(self.root, self._faults)
        self.layout = Layout(self.root, self.config.tasks, self.config.workspace)
        self._scanner = Scanner(self.layout, self.config)

    @property
    def plan(self) -> Plan:
        """The tasks, as their files say it now."""
        return self._scanner.scan()

    def lint(self) -> list[Problem]:
        """All that is wrong with `workspace.yaml` and the task files."""
        return [*sorted(self._faults), *self.plan.problems]
