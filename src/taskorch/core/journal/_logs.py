"""
Logs and output of tasks, in files beside the journal: one for each attempt.

Programs write theirs in the same folder: see `taskorch.core.executors._programs`.

Decision: dashboard-and-views.
"""

from __future__ import annotations

import os
from codecs import getincrementaldecoder
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from taskorch.kit.visible import after_cut
from taskorch.model import TaskLog, TaskStatus
from taskorch.model.ids import folders_of

#: Bytes that are read at once.
_PART: Final = 2**16
_FLAGS: Final = (
    os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | getattr(os, "O_CLOEXEC", 0)
)


class LogFiles:
    """
    The log files of attempts of functions.

    Each line is appended by itself, and the file is closed again: so a kill loses no
    line that was written, and attempts hold no descriptors, however many run.

    Args:
        folder: The folder of the files; it is made with the first one.
        most: Bytes that the file of one attempt may have.
    """

    def __init__(self, folder: Path, most: int) -> None:
        self.folder: Path = folder
        self.most: int = most

    def write(self, task_id: str, attempt: int, text: str) -> None:
        """
        Append *text* to the file of an attempt, as far as it fits.

        Raises:
            OSError: It cannot be written.
        """
        data = text.encode(errors="backslashreplace")
        path = path_of(self.folder, task_id, attempt)
        try:
            file = os.open(path, _FLAGS, 0o600)
        except FileNotFoundError:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = os.open(path, _FLAGS, 0o600)
        try:
            room = self.most - os.fstat(file).st_size
            if len(data) <= room:
                os.write(file, data)
            elif room >= 0:
                # The note makes the file longer than its limit, so nothing comes after
                # it.
                note = (
                    f"\n(the log is full at {self.most} bytes: the rest is left out)\n"
                )
                os.write(file, data[:room] + note.encode())
        finally:
            os.close(file)


def path_of(folder: Path, task_id: str, attempt: int) -> Path:
    """Return the log file of an attempt."""
    return folder.joinpath(*folders_of(task_id), f"{attempt}.log")


def log_of(
    folder: Path | None, status: TaskStatus, attempt: int | None, after: int | None
) -> TaskLog:
    """
    Return a part of the log of a task.

    Args:
        folder: The folder with the logs of functions; None if there is none.
        status: The task.
        attempt: The number of the attempt; None: the latest.
        after: Where the part begins, in bytes; None, or beyond the end: the end of it.

    Raises:
        OSError: It is there, and cannot be read.
    """
    number = status.attempts if attempt is None else attempt
    path = status.log_path if number == status.attempts else None
    if path is None and folder is not None:
        path = path_of(folder, status.task_id, number)
    if path is None or not path.is_file():
        return TaskLog(status.task_id, number, "", 0, exists=False)
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        is_end = after is None or after > size
        begin = max(0, size - _PART) if is_end else after or 0
        file.seek(begin)
        content = file.read(_PART)
    decoder = getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(after_cut(content) if is_end and begin else content)
    # A letter that is incomplete, at the end of this part, begins the next one.
    end = begin + len(content) - len(decoder.getstate()[0])
    return TaskLog(status.task_id, number, text, end, exists=True)


def remove_logs(folder: Path, ids: Iterable[str]) -> None:
    """Remove all logs of the tasks of *ids*, as far as possible."""
    for task_id in ids:
        here = folder.joinpath(*folders_of(task_id))
        with suppress(OSError):
            for path in here.iterdir():
                if path.suffix == ".log":
                    path.unlink()
        # The folders of a workflow run go with the last of its tasks.
        while here != folder:
            try:
                here.rmdir()
            except OSError:
                break
            here = here.parent


def put_aside(folder: Path) -> Path | None:
    """
    Rename the folder of another journal of the same name; return the new name.

    Raises:
        OSError: It cannot be renamed.
    """
    if not folder.is_dir():
        return None
    number = 1
    while (aside := folder.with_name(f"{folder.name}.{number}")).exists():
        number += 1
    folder.rename(aside)
    return aside
