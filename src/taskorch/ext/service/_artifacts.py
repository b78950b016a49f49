"""The files that attempts elsewhere have made, as their workers send them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse

from taskorch.api._orchestrator import TaskOrchestrator
from taskorch.ext.service._bodies import HttpProblem, answer, refuse
from taskorch.ext.service._operations import Operation, named, told
from taskorch.kit.verbs import TEXT, listed
from taskorch.model.ids import folders_of, id_problem

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

#: The largest number of bytes, and of files, of one attempt.
MAX_BYTES: Final = 64 << 20
MAX_FILES: Final = 1_000
#: The folder of an attempt: its incarnation and its number.
_ATTEMPT: Final = re.compile(r"-([0-9]{1,18}\.[0-9]{1,18})", re.ASCII)
_BYTES: Final = "application/octet-stream"
_ARTIFACT: Final = told(attempt=TEXT, name=TEXT, bytes={"type": "integer"})


class Artifacts:
    """A folder, made when it is needed, in which every attempt has one of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def folder_of(self, task_id: str, fence: tuple[int, int]) -> Path:
        """Folder for the files of an attempt. No part of an id begins with a dash."""
        epoch, number = fence
        return self._folder.joinpath(*folders_of(task_id), f"-{epoch}.{number}")

    def of_task(self, task_id: str) -> list[dict[str, Any]]:
        """The files of all its attempts: which attempt, the name, and how large."""
        place = self._folder.joinpath(*folders_of(task_id))
        attempts = {
            tuple(map(int, match[1].split("."))): (match[1], folder)
            for folder in place.glob("-*")
            if (match := _ATTEMPT.fullmatch(folder.name)) is not None
        }
        return [
            {
                "attempt": attempt,
                "name": path.relative_to(folder).as_posix(),
                "bytes": path.stat().st_size,
            }
            for _, (attempt, folder) in sorted(attempts.items())
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        ]

    def find(self, task_id: str, attempt: str, name: str) -> Path | None:
        """The file of this name, if an attempt has made one."""
        folder = f"-{attempt}"
        if _ATTEMPT.fullmatch(folder) is None or id_problem(name) is not None:
            return None
        path = self._folder.joinpath(*folders_of(task_id), folder, name)
        return path if path.is_file() else None

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

        *name* is its path in the folder of its attempt; *offset*, the byte at which the
        part begins: there are that many already.

        Returns:
            How many bytes of the file there are.

        Raises:
            HttpProblem: The name is none, the part is not the next, or it is too much.
        """
        problem = id_problem(name)
        if problem is not None:
            refuse("name", problem)
        if type(offset) is not int or offset < 0:
            refuse("offset", "a whole number from 0 is needed")
        folder = self.folder_of(task_id, fence)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / name
        sizes = {p: p.stat().st_size for p in folder.rglob("*") if p.is_file()}
        size = sizes.get(path, 0)
        if offset > size:
            text = f"offset: there are {size:,} bytes of this file"
            raise HttpProblem(409, "part_missing", text, more={"size": size})
        total = sum(sizes.values()) - size + max(size, offset + len(data))
        if total > MAX_BYTES or len({*sizes, path}) > MAX_FILES:
            text = (
                f"an attempt has at most {MAX_FILES:,} files, of {MAX_BYTES >> 20} MiB "
                "in all"
            )
            raise HttpProblem(413, "too_many_artifacts", text)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            refuse("name", "a folder and a file have one name")
        with os.fdopen(descriptor, "wb") as file:
            file.seek(offset)
            file.write(data)
        return max(size, offset + len(data))


class ArtifactsOfTasks:
    """The operations on files of attempts elsewhere."""

    def __init__(self, orch: TaskOrchestrator, artifacts: Artifacts) -> None:
        self._orch = orch
        self._artifacts = artifacts

    def operations(self) -> list[Operation]:
        """The operations on artifacts."""
        every = "/api/v1/tasks/{task_id}/artifacts"
        return [
            Operation(
                *("GET", every, "artifacts", "List the files that a task has made."),
                self._list,
                answer=told(artifacts=listed(_ARTIFACT)),
                refuses=(404,),
            ),
            Operation(
                *("GET", f"{every}/{{attempt}}/{{name}}", "artifact"),
                "A file that an attempt has made.",
                self._send,
                answer={"type": "string", "format": "binary"},
                media=_BYTES,
                refuses=(404,),
            ),
        ]

    async def _list(self, request: Request) -> Response:
        task_id = named(request, "task_id")

        def found() -> list[dict[str, Any]]:
            self._orch.get_task_status(task_id)
            return self._artifacts.of_task(task_id)

        return answer({"artifacts": await run_in_threadpool(found)})

    async def _send(self, request: Request) -> Response:
        task_id, attempt, name = (
            named(request, part) for part in ("task_id", "attempt", "name")
        )

        def found() -> Path | None:
            self._orch.get_task_status(task_id)
            return self._artifacts.find(task_id, attempt, name)

        path = await run_in_threadpool(found)
        if path is None:
            raise HttpProblem(
                *(404, "no_artifact", f"attempt {attempt} has made no file {name!r}"),
                hint=f"GET /api/v1/tasks/{request.path_params['task_id']}/artifacts "
                "lists them",
            )
        return FileResponse(path, media_type=_BYTES, filename=path.name)
