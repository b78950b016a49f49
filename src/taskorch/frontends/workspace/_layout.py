"""Where the files of a workspace are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import attrs

#: The folders in the folder of the workspace.
KINDS: Final = ("status", "outputs", "logs", "pids")


@attrs.frozen
class Layout:
    """
    The folders of a workspace.

    Attributes:
        root: The folder that all is in, absolute: programs run here.
        tasks: The name of the folder with the task files.
        workspace: The name of the folder for status, outputs, logs and pids.
    """

    root: Path
    tasks: str = "tasks"
    workspace: str = "workspace"

    def task_file(self, task_id: str) -> str:
        """The file of a task, as seen from `root`."""
        return f"{self.tasks}/{task_id}.md"

    def folder(self, kind: str) -> Path:
        """One of `KINDS`."""
        return Path(f"{self.root}/{self.workspace}/{kind}")

    def status(self, task_id: str) -> Path:
        """The status file of a task."""
        return self.folder(f"status/{task_id}.json")

    def outputs(self, task_id: str) -> Path:
        """The folder for what a task makes."""
        return self.folder(f"outputs/{task_id}")

    def log(self, task_id: str) -> Path:
        """The file for what the program of a task prints."""
        return self.folder(f"logs/{task_id}.log")

    def pid(self, task_id: str) -> Path:
        """The file with the process id of a task's program, while it runs."""
        return self.folder(f"pids/{task_id}.pid")

    def claim(self, task_id: str) -> Path:
        """The file that says which runner has a task."""
        return self.folder(f".taskorch/claims/{task_id}.json")

    @property
    def own(self) -> Path:
        """What runners tell each other; nobody else's concern."""
        return self.folder(".taskorch")

    def shown(self, path: Path) -> str:
        """*path* as seen from `root`."""
        with suppress(ValueError):
            return str(path.relative_to(self.root))
        return str(path)


def to_json(value: Mapping[str, Any]) -> str:
    """*value* as people read it."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
