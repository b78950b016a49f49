"""
The attempts that a worker makes: programs, and calls on threads.

It can run programs, and functions that its owner has named.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from contextvars import Context, ContextVar
from functools import partial
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final

import attrs

from taskorch.core.executors.programs import ProgramEnd, ProgramExecutor, ProgramProcess
from taskorch.core.workflows._documents import ProgramEntry
from taskorch.errors import InvalidTaskError
from taskorch.kit.ends import is_no_room, until_kill
from taskorch.kit.forms import keys_of
from taskorch.kit.plain import object_of
from taskorch.kit.temporary import make_temporary, remove_tree
from taskorch.kit.visible import said, show
from taskorch.model import Program, ProgramVariables, units_in, units_spent

if TYPE_CHECKING:
    from taskorch.model import Units

_HOLE: Final = re.compile(r"\{(\w+)\}")


@attrs.frozen
class Abilities:
    """
    The work of a worker for each type of task.

    Attributes:
        names: Capabilities beyond the others: for programs that require one.
        functions: The functions for the payload of a task, by type.
        templates: The program that is run for a task, by type: `{name}` stands for
            what its payload has by this name.
    """

    names: tuple[str, ...] = ()
    functions: Mapping[str, Callable[[Any], Any]] = attrs.field(factory=dict)
    templates: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)

    @classmethod
    def of(
        cls, names: Iterable[str], calls: Iterable[str], runs: Iterable[str]
    ) -> Abilities:
        """
        Read abilities from a command line.

        Args:
            names: Capabilities.
            calls: Each `TYPE=MODULE:FUNCTION`.
            runs: Each `TYPE=COMMAND`, which is split as a shell does.

        Raises:
            InvalidTaskError: One is not well formed, or there is no such function.
        """
        functions = {name: _function(work) for name, work in map(_pair, calls)}
        templates = {name: _template(work) for name, work in map(_pair, runs)}
        return cls(tuple(names), functions, templates)

    def capabilities(self) -> list[str]:
        """All abilities, sorted, as names of capabilities."""
        return sorted({*self.names, *self.functions, *self.templates})

    def work_of(self, order: Mapping[str, Any]) -> Program | Callable[[], Any]:
        """
        The program, or the call, that an order asks for.

        Raises:
            InvalidTaskError: This worker cannot do it.
        """
        kind, payload = order["type"], order.get("payload")
        if "program" in order:
            names = keys_of(ProgramEntry).items()
            options = {one.field: order[name] for name, one in names if name in order}
            # The order has the paths that its task writes beside the program.
            return Program(**options, writes=order.get("writes"))
        if kind in self.functions:
            function = self.functions[kind]
            return lambda: function(payload)
        if kind in self.templates:
            return Program([_filled(part, payload) for part in self.templates[kind]])
        msg = f"this worker does nothing for type {show(kind)}"
        hint = "start it with --call or --run for it, or give the task a program"
        raise InvalidTaskError(msg, hint=hint)


def _pair(text: str) -> tuple[str, str]:
    name, equals, work = text.partition("=")
    if not (name and equals and work):
        msg = f"{show(text)}: TYPE=… is needed"
        raise InvalidTaskError(msg)
    return name, work


def _function(path: str) -> Callable[[Any], Any]:
    module, _, name = path.partition(":")
    try:
        target: Any = import_module(module)
        for part in name.split("."):
            target = getattr(target, part)
    except (ImportError, AttributeError, ValueError) as error:
        msg = f"{path}: there is no such function: {error}"
        raise InvalidTaskError(msg, hint="MODULE:FUNCTION, as in json:dumps") from None
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        msg = f"{path} cannot be imported: {error!r}"
        raise InvalidTaskError(msg, hint="mend it there") from error
    if not callable(target):
        msg = f"{path} is no function"
        raise InvalidTaskError(msg)
    function: Callable[[Any], Any] = target
    return function


def _template(command: str) -> tuple[str, ...]:
    try:
        parts = tuple(shlex.split(command))
    except ValueError as error:
        msg = f"{show(command)} is no command: {error}"
        raise InvalidTaskError(msg) from None
    if not parts:
        msg = "a command is empty"
        raise InvalidTaskError(msg)
    return parts


def _filled(part: str, payload: object) -> str:
    def value_of(hole: re.Match[str]) -> str:
        name = hole[1]
        if not isinstance(payload, dict) or name not in payload:
            msg = f"the payload has no {name!r}, which the command needs"
            raise InvalidTaskError(msg)
        return str(payload[name])

    return _HOLE.sub(value_of, part)


#: The number of bytes that are read of such reports: of a program, at its end; and of a
#: function.
_TAIL: Final = 16 << 10
#: The number of bytes of a result; of a part of a file. A message has at most 1 MiB.
MAX_RESULT: Final = 700_000
_PART: Final = 512 << 10
#: The number of bytes of an unreadable line about spending.
_MAX_SPENT: Final = 500
#: The number of characters of an error.
_MAX_ERROR: Final = 20_000


def progress(value: Any) -> None:
    """
    Report the progress of the function that a worker elsewhere runs.

    The latest value is sent with the next heartbeat, a few times in a lease. Where no
    worker has called, nobody is told.

    Args:
        value: Whatever JSON can say, in at most 16 KiB.

    Raises:
        TypeError: JSON cannot say it.
        ValueError: It is too large or too deep, has a number that is none, or two keys
            that are one in JSON.
    """
    report = _as_json(value, _TAIL, "progress")
    run = _RUN.get()
    if run is not None:
        run.said.append(report)


def spent(**amounts: float) -> None:
    """
    Report how much of its budget the function that a worker elsewhere runs spent.

    As `context.spent` of a function that runs beside the orchestrator; it is told with
    the end of the attempt. Where no worker has called, nobody is told.

    Args:
        amounts: By resource, such as `tokens=1_840`.

    Raises:
        InvalidTaskError: An amount is negative, or no number.
    """
    units = units_spent(amounts)
    run = _RUN.get()
    if run is not None:
        run.add_spent(units)


def units(resource: str) -> tuple[str, ...]:
    """
    Return the names of the units of *resource* that the worker's function holds.

    As `context.units` of a function that runs beside the orchestrator: `units("gpu")`
    are the GPUs that nobody else uses, of those that the worker's capacity names. None,
    where no worker has called.
    """
    run = _RUN.get()
    names = {} if run is None else run.order.get("units", {})
    return tuple(names.get(resource, ()))


@attrs.define(eq=False)
class WorkerRun:
    """One attempt of the worker, with its folder and its process."""

    order: Mapping[str, Any]
    folder: Path
    process: ProgramProcess | None = None
    log: Path | None = None
    #: Whether it was told to stop.
    is_to_stop: bool = False
    #: Whether its lease is lost: nobody waits for it, and its end is not reported.
    is_dropped: bool = False
    _progress: bytes = b""
    #: The latest progress of its function, if it was not reported yet.
    said: deque[Any] = attrs.field(factory=lambda: deque(maxlen=1))
    #: The amounts that it has spent, in millionths, and a line that nobody can read.
    _spent: dict[str, int] = attrs.field(factory=dict[str, int])
    _unread: str = ""

    @property
    def name(self) -> str:
        """The attempt's name on the wire."""
        return str(self.order["attempt"])

    def news(self) -> Any:
        """The latest unreported progress; None if there is none."""
        with suppress(IndexError):
            return self.said.pop()
        try:
            with (self.folder / "progress").open("rb") as file:
                file.seek(max(0, file.seek(0, 2) - _TAIL))
                lines = file.read().split(b"\n")
        except OSError:
            return None
        # The last line without an end is still being written.
        line = next((line for line in reversed(lines[:-1]) if line.strip()), b"")
        if line == self._progress or not line:
            return None
        self._progress = line
        try:
            return json.loads(line, parse_constant=str)
        except (ValueError, RecursionError):
            return line.decode("utf-8", "replace")

    def add_spent(self, units: Units) -> None:
        """Add to the amounts that it has spent."""
        for name, much in units:
            self._spent[name] = self._spent.get(name, 0) + much

    def hear_spent(self, lines: list[bytes]) -> None:
        """Read *lines* in which its program reports its spending."""
        for line in lines:
            units = units_in(line) if line.strip() else ()
            if units is None:
                self._unread = line[:_MAX_SPENT].decode("utf-8", "replace")
            self.add_spent(units or ())

    def in_result(self) -> dict[str, list[str]]:
        """Return its spending for the report of its end: at most two lines."""
        lines = []
        if self._spent:
            lines.append(json.dumps({n: u / 1e6 for n, u in self._spent.items()}))
        if self._unread:
            lines.append(self._unread)
        return {"spent": lines} if lines and self.order.get("spends") else {}

    def files(self) -> Iterator[tuple[str, Path]]:
        """Yield the names and paths of the files to send."""
        if self.log is not None and self.log.is_file():
            yield "output.log", self.log
        place = self.folder / "artifacts"
        folders = [place]
        # A loop replaces recursion, because folders may be nested deeply.
        while folders:
            folder = folders.pop()
            # The folder may be gone, closed to us, or have too long a path.
            with suppress(OSError), os.scandir(folder) as entries:
                for entry in sorted(entries, key=attrgetter("name")):
                    path = folder / entry.name
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(path)
                    elif entry.is_file(follow_symlinks=False):
                        yield path.relative_to(place).as_posix(), path

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
_RUN: Final[ContextVar[WorkerRun | None]] = ContextVar(
    "taskorch_agent_run", default=None
)


class OrderRunner:
    """
    Makes attempts.

    *run_id* marks the programs of this worker. *on_end* is told the end of each
    attempt, in words of the wire, on any thread.
    """

    def __init__(
        self,
        abilities: Abilities,
        at_once: int,
        run_id: str,
        on_end: Callable[[WorkerRun, dict[str, Any]], object],
    ) -> None:
        self._abilities = abilities
        self._on_end = on_end
        self._programs = ProgramExecutor(run_id=run_id)
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._at_once = at_once
        self._workers = 0
        #: The attempts that the system had no room for, and that have still to begin.
        self._waiting: dict[WorkerRun, bool] = {}
        self._lock = threading.Lock()
        self._folder: Path | None = None
        self._count = 0

    def prepare(self, order: Mapping[str, Any]) -> WorkerRun:
        """An attempt that is still to be begun."""
        with self._lock:
            if self._folder is None:
                self._folder = make_temporary()
            self._count += 1
            return WorkerRun(order, self._folder / str(self._count))

    def begin(self, run: WorkerRun) -> None:
        """Begin the attempt; report an error as its end."""
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
        """Begin attempts that wait for room in the system; call it now and then."""
        for run in list(self._waiting):
            if self._waits_no_more(run):
                self.begin(run)

    def is_waiting(self, run: WorkerRun) -> bool:
        """Return whether it still waits for room in the system."""
        return run in self._waiting

    def _waits_no_more(self, run: WorkerRun) -> bool:
        """Return whether *run* was waiting; True for one thread only."""
        return self._waiting.pop(run, False)

    def _not_begun(self, run: WorkerRun, error: BaseException) -> None:
        if not is_no_room(error):
            self._fail(run, error)
        elif run.is_to_stop:
            self._on_end(run, {"outcome": "stopped"})
        else:
            self._waiting[run] = True

    def stop(self, run: WorkerRun, grace: float) -> None:
        """Ask the attempt to end within so many seconds; a function ignores it."""
        run.is_to_stop = True
        if self._waits_no_more(run):
            self._on_end(run, {"outcome": "stopped"})
        elif run.process is not None:
            run.process.terminate(until_kill(grace))

    def forget(self, run: WorkerRun) -> None:
        """Remove the folder of *run*."""
        remove_tree(run.folder)

    def close(self) -> None:
        """Kill the rest. A function that does not end is left behind."""
        self._programs.close(0)
        for _ in range(self._workers):
            self._calls.put(None)
        if self._folder is not None:
            remove_tree(self._folder)

    # -- programs ------------------------------------------------------------------

    def _start(self, run: WorkerRun, program: Program) -> None:
        artifacts = run.folder / "artifacts"
        artifacts.mkdir(parents=True, exist_ok=True)
        variables = run.order.get("variables", {})
        env = {
            # Programs of the worker's own templates get them, too; a program's own
            # values win.
            **{n: text for n, text in variables.items() if n not in program.env},
            ProgramVariables.TASK: run.order["task_id"],
            ProgramVariables.FENCE: run.order["fence"],
            ProgramVariables.ARTIFACTS: str(artifacts),
            ProgramVariables.PROGRESS: str(run.folder / "progress"),
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
            on_spent=run.hear_spent if run.order.get("spends") else None,
        )
        if run.is_to_stop:
            # The request to stop came before the program could be stopped.
            run.process.terminate(0)

    def _ended(self, run: WorkerRun, end: ProgramEnd) -> None:
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
            "memory_mb": result.memory_mb,
            "cpu_seconds": result.cpu_seconds,
            "processes": result.processes,
            "written_mb": result.written_mb,
            "limits": dict(result.limits),
            "enforced": result.enforced,
            "unenforced": list(result.unenforced),
            "exceeded": result.exceeded,
        }
        self._on_end(run, {"outcome": "completed", "program": program})

    # -- functions -----------------------------------------------------------------

    def _have_workers(self) -> None:
        """Start one more daemon thread for calls, unless there are enough."""
        with self._lock:
            if self._workers == self._at_once:
                return
            thread = threading.Thread(
                target=self._work, name="taskorch-call", daemon=True
            )
            try:
                thread.start()
            except RuntimeError:
                # There is no room for one more thread, so that the present ones must
                # do.
                if not self._workers:
                    raise
            else:
                self._workers += 1

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call()

    def _call(self, run: WorkerRun, call: Callable[[], Any]) -> None:
        try:
            variables = Context()
            variables.run(_RUN.set, run)
            value = _as_json(variables.run(call), MAX_RESULT, "a result")
        except BaseException as error:  # noqa: BLE001 - it is the end of the attempt
            self._fail(run, error)
            return
        self._on_end(run, {"outcome": "completed", "result": value})

    def _fail(self, run: WorkerRun, error: BaseException) -> None:
        kind, message = type(error).__name__, ""
        with suppress(Exception):
            kind, message = said(error)
        description = {"type": kind, "message": message[:_MAX_ERROR]}
        self._on_end(run, {"outcome": "failed", "error": description})


def _as_json(value: object, most: int, subject: str) -> Any:
    """
    Return a copy of *value* as JSON reads it; later changes do not reach the copy.

    Raises:
        TypeError: JSON cannot say it.
        ValueError: It has more than *most* bytes, is too deep, or has two keys that are
            one in JSON; *subject* is that of the message.
    """
    try:
        text = json.dumps(value, allow_nan=False)
        if len(text) <= most:
            return json.loads(text, object_pairs_hook=object_of)
        msg = f"{subject} has at most {most:,} bytes as JSON"
    except RecursionError:
        msg = f"{subject} is nested too deeply for JSON"
    raise ValueError(msg)
