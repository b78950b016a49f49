"""The attempts that an agent makes: programs, and calls on threads."""

from __future__ import annotations

import base64
import json
import shutil
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from contextvars import Context, ContextVar
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

import attrs

from taskorch._visible import said
from taskorch.executors._ends import is_no_room, until_kill
from taskorch.executors._programs._executor import ProgramExecutor
from taskorch.executors._programs._process import ProgramEnd, ProgramProcess
from taskorch.frontends.agent._work import Abilities
from taskorch.model import Program
from taskorch.model._program import (
    ARTIFACTS_VARIABLE,
    FENCE_VARIABLE,
    PROGRESS_VARIABLE,
    TASK_VARIABLE,
)

#: Bytes that are read of what a program says of that, at its end; and of what a
#: function says.
_TAIL: Final = 16 << 10
#: Bytes of a result; of a part of a file. A message has at most 1 MiB.
MAX_RESULT: Final = 700_000
_PART: Final = 512 << 10
#: Characters of an error.
_MAX_ERROR: Final = 20_000


def progress(value: Any) -> None:
    """
    From a function that an agent elsewhere calls: it is so far, for all to see.

    The latest value is told with the next sign of life, a few times in a lease. Where
    no agent has called, nobody is told.

    Args:
        value: Whatever JSON can say, in at most 16 KiB.

    Raises:
        TypeError: JSON cannot say it.
        ValueError: It is too large, or has a number that is none.
    """
    if len(json.dumps(value, allow_nan=False)) > _TAIL:
        msg = f"progress has at most {_TAIL:,} bytes as JSON"
        raise ValueError(msg)
    run = _RUN.get()
    if run is not None:
        run.said.append(value)


@attrs.define(eq=False)
class Run:
    """One attempt."""

    order: Mapping[str, Any]
    folder: Path
    process: ProgramProcess | None = None
    log: Path | None = None
    #: It was told to stop.
    is_to_stop: bool = False
    #: Its lease is lost: nobody waits for it any more, and its end is not told.
    is_dropped: bool = False
    _progress: bytes = b""
    #: What its function has said last, if nobody has been told.
    said: deque[Any] = attrs.field(factory=lambda: deque(maxlen=1))

    @property
    def name(self) -> str:
        """What it is called on the wire."""
        return str(self.order["attempt"])

    def news(self) -> Any:
        """What it has said last of how far it is; None: nothing new."""
        with suppress(IndexError):
            return self.said.pop()
        try:
            with (self.folder / "progress").open("rb") as file:
                file.seek(max(0, file.seek(0, 2) - _TAIL))
                lines = file.read().split(b"\n")
        except OSError:
            return None
        # What follows the last end of a line is still being written.
        line = next((line for line in reversed(lines[:-1]) if line.strip()), b"")
        if line == self._progress or not line:
            return None
        self._progress = line
        try:
            return json.loads(line, parse_constant=str)
        except ValueError:
            return line.decode("utf-8", "replace")

    def files(self) -> list[tuple[str, Path]]:
        """What is to be sent: the names of files, and where they are."""
        place = self.folder / "artifacts"
        found = [
            (path.relative_to(place).as_posix(), path)
            for path in sorted(place.rglob("*"))
            if path.is_file() and not path.is_symlink()
        ]
        if self.log is not None and self.log.is_file():
            found.append(("output.log", self.log))
        return found

    def parts(self, name: str, path: Path) -> Iterator[dict[str, Any]]:
        """A file as messages; one that is empty is one message."""
        offset = 0
        with path.open("rb") as file:
            while data := file.read(_PART):
                yield self._part(name, offset, data)
                offset += len(data)
        if not offset:
            yield self._part(name, 0, b"")

    def _part(self, name: str, offset: int, data: bytes) -> dict[str, Any]:
        text = base64.b64encode(data).decode("ascii")
        return {"attempt": self.name, "name": name, "offset": offset, "data": text}


#: The attempt whose function runs.
_RUN: Final[ContextVar[Run | None]] = ContextVar("taskorch_agent_run", default=None)


class Runner:
    """
    Makes attempts.

    *run_id* marks the programs of this agent. *on_end* is told the end of each attempt,
    in words of the wire, on any thread.
    """

    def __init__(
        self,
        abilities: Abilities,
        at_once: int,
        run_id: str,
        on_end: Callable[[Run, dict[str, Any]], object],
    ) -> None:
        self._abilities = abilities
        self._on_end = on_end
        self._programs = ProgramExecutor(run_id=run_id)
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._at_once = at_once
        self._workers = 0
        #: Those that the system had no room for, and that are still to be begun.
        self._waiting: dict[Run, bool] = {}
        self._lock = threading.Lock()
        self._folder: Path | None = None
        self._count = 0

    def prepare(self, order: Mapping[str, Any]) -> Run:
        """An attempt that is still to be begun."""
        with self._lock:
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="taskorch-agent-"))
            self._count += 1
            return Run(order, self._folder / str(self._count))

    def begin(self, run: Run) -> None:
        """Begin it; what is wrong with it is told as its end."""
        try:
            work = self._abilities.work_of(run.order)
            if isinstance(work, Program):
                self._start(run, work)
            else:
                self._have_workers()
                self._calls.put(partial(self._call, run, work))
        except Exception as error:  # noqa: BLE001 - it is the end of the attempt
            self._not_begun(run, error)

    def begin_waiting(self) -> None:
        """Begin what the system had no room for; to be called now and then."""
        for run in list(self._waiting):
            if self._waits_no_more(run):
                self.begin(run)

    def is_waiting(self, run: Run) -> bool:
        """Whether the system had no room for it, and it is still to be begun."""
        return run in self._waiting

    def _waits_no_more(self, run: Run) -> bool:
        """Whether it was waiting: of several threads that ask, one is told so."""
        return self._waiting.pop(run, False)

    def _not_begun(self, run: Run, error: BaseException) -> None:
        if not is_no_room(error):
            self._fail(run, error)
        elif run.is_to_stop:
            self._on_end(run, {"outcome": "stopped"})
        else:
            self._waiting[run] = True

    def stop(self, run: Run, grace: float) -> None:
        """Ask it to end within so many seconds; a function cannot be asked."""
        run.is_to_stop = True
        if self._waits_no_more(run):
            self._on_end(run, {"outcome": "stopped"})
        elif run.process is not None:
            run.process.terminate(until_kill(grace))

    def forget(self, run: Run) -> None:
        """Nothing of it is needed any more."""
        shutil.rmtree(run.folder, ignore_errors=True)

    def close(self) -> None:
        """Kill what is left. A function that does not end is left behind."""
        self._programs.close(0)
        for _ in range(self._workers):
            self._calls.put(None)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    # -- programs ------------------------------------------------------------------

    def _start(self, run: Run, program: Program) -> None:
        artifacts = run.folder / "artifacts"
        artifacts.mkdir(parents=True, exist_ok=True)
        env = {
            TASK_VARIABLE: run.order["task_id"],
            FENCE_VARIABLE: run.order["fence"],
            ARTIFACTS_VARIABLE: str(artifacts),
            PROGRESS_VARIABLE: str(run.folder / "progress"),
        }

        def on_end(end: ProgramEnd) -> None:
            if end.error is None:
                self._ended(run, end)
            else:
                self._not_begun(run, end.error)

        run.process = self._programs.start(
            program,
            name=f"{run.order['task_id']}/{run.order['number']}",
            env=env,
            on_end=on_end,
        )
        if run.is_to_stop:
            # It was told so before it could be stopped.
            run.process.terminate(0)

    def _ended(self, run: Run, end: ProgramEnd) -> None:
        result = end.result
        assert result is not None  # noqa: S101 - there is no error
        run.log = result.log_path
        if run.is_to_stop and end.was_asked:
            self._on_end(run, {"outcome": "stopped"})
            return
        program = {
            "exit_code": result.exit_code,
            "stdout_tail": result.stdout_tail,
            "stderr_tail": result.stderr_tail,
            "duration": result.duration,
            "oom_killed": result.oom_killed,
        }
        self._on_end(run, {"outcome": "completed", "program": program})

    # -- functions -----------------------------------------------------------------

    def _have_workers(self) -> None:
        """As many threads as calls at once; one that hangs does not hold the exit."""
        with self._lock:
            if self._workers == self._at_once:
                return
            thread = threading.Thread(
                target=self._work, name="taskorch-call", daemon=True
            )
            try:
                thread.start()
            except RuntimeError:
                # There is no room for one more: those that there are must do.
                if not self._workers:
                    raise
            else:
                self._workers += 1

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call()

    def _call(self, run: Run, call: Callable[[], Any]) -> None:
        try:
            variables = Context()
            variables.run(_RUN.set, run)
            value = variables.run(call)
            _check_size(value)
        except BaseException as error:  # noqa: BLE001 - it is the end of the attempt
            self._fail(run, error)
            return
        self._on_end(run, {"outcome": "completed", "result": value})

    def _fail(self, run: Run, error: BaseException) -> None:
        kind, message = type(error).__name__, ""
        with suppress(Exception):
            kind, message = said(error)
        told = {"type": kind, "message": message[:_MAX_ERROR]}
        self._on_end(run, {"outcome": "failed", "error": told})


def _check_size(value: object) -> None:
    """
    Refuse what does not fit into a message.

    Raises:
        TypeError, ValueError: It cannot be said in JSON, or is too large.
    """
    if len(json.dumps(value, allow_nan=False)) > MAX_RESULT:
        msg = f"a result has at most {MAX_RESULT:,} bytes as JSON"
        raise ValueError(msg)
