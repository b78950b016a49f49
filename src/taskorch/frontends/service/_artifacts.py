"""The files that attempts elsewhere have made, as their agents send them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from taskorch.frontends.service._agent_messages import refuse
from taskorch.frontends.service._problems import Problem
from taskorch.model import id_problem

#: Bytes and files of one attempt.
MAX_BYTES: Final = 64 << 20
MAX_FILES: Final = 1_000


class Artifacts:
    """
    A folder in which every attempt has one of its own.

    Args:
        folder: The folder; it is made when the first file comes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def folder_of(self, task_id: str, fence: tuple[int, int]) -> Path:
        """Where the files of an attempt are. No part of an id begins with a dash."""
        epoch, number = fence
        return self._folder.joinpath(*task_id.split("/"), f"-{epoch}.{number}")

    def keep(
        self,
        task_id: str,
        fence: tuple[int, int],
        name: str,
        offset: object,
        data: bytes,
    ) -> int:
        """
        Keep a part of a file; one that comes twice is the same.

        Args:
            task_id: The id of the task.
            fence: Which attempt.
            name: The path of the file in the folder of its attempt.
            offset: The byte at which it begins: there are that many already.
            data: The part.

        Returns:
            How many bytes of the file there are.

        Raises:
            Problem: The name is none, the part is not the next, or it is too much.
        """
        problem = id_problem(name)
        if problem is not None:
            refuse("name", problem)
        if type(offset) is not int or offset < 0:
            refuse("offset", "a whole number from 0 is needed")
        folder = self.folder_of(task_id, fence)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / name
        there = {p: p.stat().st_size for p in folder.rglob("*") if p.is_file()}
        size = there.get(path, 0)
        if offset > size:
            text = f"offset: there are {size:,} bytes of this file"
            raise Problem(409, "part_missing", text, more={"size": size})
        total = sum(there.values()) - size + max(size, offset + len(data))
        if total > MAX_BYTES or len({*there, path}) > MAX_FILES:
            text = (
                f"an attempt has at most {MAX_FILES:,} files, of {MAX_BYTES >> 20} MiB "
                "in all"
            )
            raise Problem(413, "too_many_artifacts", text)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            refuse("name", "a folder and a file have one name")
        with os.fdopen(descriptor, "wb") as file:
            file.seek(offset)
            file.write(data)
        return max(size, offset + len(data))
