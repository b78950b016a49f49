"""The workspace: a folder of task files, and what became of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import attrs

from taskorch.errors import InvalidTaskError, ValidationFailedError
from taskorch.frontends.workspace._agents import agent_program
from taskorch.frontends.workspace._claims import Claims
from taskorch.frontends.workspace._config import read_config
from taskorch.frontends.workspace._layout import Layout
from taskorch.frontends.workspace._problems import Problem
from taskorch.frontends.workspace._report import Report, report_on
from taskorch.frontends.workspace._scan import Plan, Scanner
from taskorch.frontends.workspace._session import Session

__all__ = ("Workspace",)


class Workspace:
    """
    A folder of task files, `tasks/**/*.md`, and what became of them, `workspace/`.

    Args:
        root: The folder that both are in.
        agent: Who does a task that does not say by whom: a command line such as
            `agent run {task_file}`, or the name of a preset; None is what
            `workspace.yaml` says.
        stdin: Whether that agent reads the Markdown of the task from its standard
            input.
        tell: Takes a line for people about each thing that happens; None prints none.

    Raises:
        InvalidTaskError: There is no such folder, or no such agent.
    """

    def __init__(
        self,
        root: str | os.PathLike[str] = ".",
        *,
        agent: str | None = None,
        stdin: bool = False,
        tell: Callable[[str], object] | None = None,
    ) -> None:
        self.root: Path = Path(root).resolve()
        if not self.root.is_dir():
            msg = f"there is no folder {os.fspath(root)!r}"
            raise InvalidTaskError(msg, hint="taskorch workspace init makes one")
        self._faults: list[Problem] = []
        self.config = read_config(self.root, self._faults)
        if agent is not None:
            program = agent_program(agent, stdin=stdin)
            self.config = attrs.evolve(self.config, agent=program)
        elif stdin:
            program = attrs.evolve(self.config.agent, stdin=True)
            self.config = attrs.evolve(self.config, agent=program)
        self.layout = Layout(self.root, self.config.tasks, self.config.workspace)
        self._scanner = Scanner(self.layout, self.config)
        self._claims = Claims(self.layout)
        self._told = tell

    @property
    def plan(self) -> Plan:
        """The tasks, as their files say it now."""
        return self._scanner.scan()

    def lint(self) -> list[Problem]:
        """All that is wrong with `workspace.yaml` and the task files."""
        return [*sorted(self._faults), *self.plan.problems]

    def run(self) -> Report:
        """
        Run all that can run, until nothing can go on; what was done is not done again.

        Raises:
            ValidationFailedError: `workspace.yaml` cannot be used.
        """
        self._refuse_faults()
        with self._session() as session:
            session.run()
        return report_on(self.layout, session.plan, self._claims, session.held)

    def _refuse_faults(self) -> None:
        if self._faults:
            shown = "; ".join(map(str, self._faults))
            findings = tuple((str(fault), fault.text) for fault in self._faults)
            raise ValidationFailedError(shown, findings=findings, hint="mend it first")

    def _session(self) -> Session:
        return Session(self.layout, self.config, self._scanner, tell=self._tell)

    def _tell(self, _kind: str, line: str) -> None:
        if self._told is not None:
            self._told(line)
