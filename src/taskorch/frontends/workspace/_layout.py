"""Where the files of a workspace are."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

import attrs

from taskorch.model import folder_of

#: The folders in the folder of the workspace.
KINDS: Final = ("status", "outputs", "logs", "pids")
_NUMBER: Final = re.compile("([0-9]+)")


@attrs.frozen
class WorkspaceLayout:
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
        """The folder of one of `KINDS`."""
        return Path(f"{self.root}/{self.workspace}/{kind}")

    def status(self, task_id: str) -> str:
        """The status file of a task: a text, as it is asked for often."""
        return f"{self.root}/{self.workspace}/status/{task_id}.json"

    def outputs(self, task_id: str) -> Path:
        """The folder for what a task makes."""
        return self.folder(f"outputs/{task_id}")

    def log(self, task_id: str) -> Path:
        """The file for what the program of a task prints."""
        return self.folder(f"logs/{task_id}.log")

    def pid(self, task_id: str) -> Path:
        """The file with the process id of a task's program, while it runs."""
        return self.folder(f"pids/{task_id}.pid")

    def approval(self, phase: str) -> Path:
        """The file that says who has approved a phase."""
        return self.folder(f"approvals/{phase}.json")

    @property
    def own(self) -> Path:
        """What runners tell each other; nobody else's concern."""
        return self.folder(".taskorch")

    def shown(self, path: str | os.PathLike[str]) -> str:
        """*path* as seen from `root`."""
        return os.fspath(path).removeprefix(f"{str(self.root).rstrip('/')}/")


def phase_of(task_id: str) -> str:
    """The folder of a task; "" for one directly in the folder of tasks."""
    return folder_of(task_id)


def by_numbers(name: str) -> tuple[list[str | int], str]:
    """By what names are sorted: numbers in them as such, 2 before 10."""
    parts = enumerate(_NUMBER.split(name))
    return [int(part) if place % 2 else part for place, part in parts], name


def read_start(path: str | os.PathLike[str], most: int) -> bytes:
    """
    The first *most* bytes of a file; all, if it has fewer.

    Raises:
        OSError: It cannot be read.
    """
    # What is no plain file, such as a pipe without a writer, must not hold us up.
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        data = chunk = os.read(file, most)
        while chunk and len(data) < most:
            chunk = os.read(file, most - len(data))
            data += chunk
        return data
    finally:
        os.close(file)
