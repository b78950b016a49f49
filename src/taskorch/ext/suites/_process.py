"""A worker: it runs test tasks in a process of its own, measures and judges them."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import selectors
import signal
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Final

import attrs

from taskorch.api._contexts import TaskContext
from taskorch.core.executors.programs import (
    Family,
    Governor,
    Hold,
    Spending,
    UnheldError,
)
from taskorch.errors import AttemptInterrupted, TaskFailure, UnenforceableError
from taskorch.ext.suites._attempt import AttemptInfo, SuiteAttempt
from taskorch.ext.suites._folder import RunFolder
from taskorch.ext.suites._judging import CriteriaNotMetError
from taskorch.kit.loop import LinePipe
from taskorch.model import ProgramVariables, Resources, Task

#: The program of the process; a worker elsewhere runs it, too.
WORKER: Final = Path(__file__).with_name("_worker.py")
#: Seconds between looks whether a task is to end.
_LOOK: Final = 0.1
#: Seconds that a process has to end when it is not needed any more.
_PATIENCE: Final = 5.0
#: Seconds between looks whether all of a task is gone.
_MOMENT: Final = 0.01
#: The variable by which the processes of a task that is held are known: its value is
#: that of no other attempt on the machine, as another suite may run a task of its name.
_HELD_VARIABLE: Final = "TASKORCH_HELD"
#: The most bytes of an event: beyond that it is none of ours.
_MAX_LINE: Final = 1 << 20


class AgentDiedError(TaskFailure):
    """The process of a worker has ended while it ran a task."""

    code = "agent_died"
    failure_class = "system_error"


class SuiteProcess:
    """
    A long-lived process that runs test tasks, one at a time.

    It is started with the first task, and again after it has died. *python* runs it,
    and pytest in it.
    """

    def __init__(self, python: str) -> None:
        self.python: str = python
        self._process: subprocess.Popen[bytes] | None = None
        self._read = b""
        #: The process group of the task that it runs; 0: none.
        self._group = 0

    def run(
        self,
        job: Mapping[str, Any],
        *,
        hear: Callable[[dict[str, Any]], object],
        is_to_end: Callable[[], bool],
        grace: float,
        begun: Callable[[int], object] | None = None,
        was_limit: Callable[[], bool] = lambda: False,
    ) -> dict[str, Any]:
        """
        Run one task to its end.

        What a *job* says: see `_worker`. *begun* is given its process group, and *hear*
        each event on the way; *is_to_end* is asked now and then whether it is to end
        early, within *grace* seconds, and *was_limit* whether a limit has killed it.

        Returns:
            The last event: how it ended.

        Raises:
            AgentDiedError: The process could not be started, or has died.
        """
        self._start()
        self._ask({"run": dict(job)})
        is_ending = False
        while True:
            if not is_ending and is_to_end():
                is_ending = True
                self._ask({"stop": grace})
            for event in self._events():
                if event["event"] == "ended":
                    self._group = 0
                    return event
                if event["event"] == "begun":
                    self._group = event["group"]
                    if begun is not None:
                        begun(self._group)
                elif event["event"] == "killed":
                    self._ask({"go_on": not was_limit()})
                else:
                    hear(event)

    def close(self) -> None:
        """End the process, and the programs that it runs."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None  # noqa: S101 - it was asked for
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        process.stdin.close()
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._end_left(process.pid)
        process.stdout.close()

    def _end_left(self, session: int) -> None:
        """End the task that the process has left behind, if it has."""
        group, self._group = self._group, 0
        with contextlib.suppress(OSError):
            # The number of a group belongs to it while one of its processes is there;
            # afterwards it may be that of a stranger, who is in another session.
            if group and _session_of(group) in (None, session):
                os.killpg(group, signal.SIGKILL)

    def _start(self) -> None:
        process = self._process
        if process is not None and process.poll() is None:
            return
        self.close()
        self._read = b""
        try:
            self._process = subprocess.Popen(  # noqa: S603 - a file of ours
                [self.python, str(WORKER)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                # Who runs us has asked us, and no test, for that.
                env={
                    n: t for n, t in os.environ.items() if n != ProgramVariables.SPENT
                },
                # Ctrl-C in a terminal is for the orchestrator, which asks it to end.
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            msg = f"{self.python} cannot be started: {error.strerror}"
            hint = "see python: of the template"
            raise AgentDiedError(msg, hint=hint) from error

    def _ask(self, request: dict[str, Any]) -> None:
        process = self._process
        assert process is not None and process.stdin is not None  # noqa: S101, PT018 - it was started
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
        except OSError:
            # It has died, and what it says, or rather no more says, tells why; without
            # what it left running, which goes on to say how far it is.
            self._end_left(process.pid)

    def _events(self) -> list[dict[str, Any]]:
        """Events of the process so far; empty if none comes for a moment."""
        process = self._process
        assert process is not None and process.stdout is not None  # noqa: S101, PT018 - a pipe
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            has_said = selector.select(_LOOK)
        if not has_said and process.poll() is None:
            return []
        # Where it has died, a task of pytest still holds the pipe, which does not end.
        data = os.read(process.stdout.fileno(), 1 << 16) if has_said else b""
        if not data or len(self._read) > _MAX_LINE:
            self.close()
            code = process.returncode
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            msg = f"the process of the worker ({self.python}) has ended: {how}"
            raise AgentDiedError(msg, hint="its standard error says more")
        *lines, self._read = (self._read + data).split(b"\n")
        return [json.loads(line) for line in lines]


def _session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


#: The share of the grace period that a process gets before it is killed.
_SHARE: Final = 0.8


#: The amounts that tell what a test task used.
_MEASURED: Final = ("memory_mb", "cpu_seconds")
#: The limit of a program for each reserved resource, and the words for these limits.
_LIMITED: Final = {"cpu": "cpu", "memory_mb": "memory_mb", "disk_mb": "written_mb"}
_OF: Final = {"memory_mb": "memory", "written_mb": "disk"}


class TaskHold:
    """Limits on the processes of a test task; None is no limit."""

    def __init__(self, hold: Hold | None) -> None:
        self._hold = hold
        #: The variables in the environment of its processes, by which they are found.
        self.env: dict[str, str] = (
            {} if hold is None else {_HELD_VARIABLE: secrets.token_hex(8)}
        )
        self.joins: tuple[str, ...] = () if hold is None else hold.joins
        #: Whether there is something that holds them.
        self.is_one: bool = hold is not None

    def begun(self, group: int) -> None:
        """Hold the process group *group* from now on."""
        if self._hold is not None:
            mark = f"{_HELD_VARIABLE}={self.env[_HELD_VARIABLE]}"
            self._hold.begin(Family(group, mark.encode()))

    def is_to_end(self) -> bool:
        """Kill the task if it has passed a limit; False: it needs no time to end."""
        hold = self._hold
        if hold is not None and monotonic() >= hold.next_look and hold.look():
            hold.kill()
        # It has no time to end by itself.
        return False

    def was_limit(self) -> bool:
        """Return whether a limit was the reason why the task was killed."""
        return self._hold is not None and bool(self._hold.look())

    def end(self, event: dict[str, Any]) -> dict[str, Any]:
        """Return the last *event* with measurements, once all processes are gone."""
        hold = self._hold
        if hold is None:
            return event
        hold.kill()
        while not hold.end():
            sleep(_MOMENT)
        hold.count(written_mb=event.get("disk_mb", 0.0) * 1e6 / (1 << 20))
        peak_mb = event.get("memory_mb")
        measured = {**event, "memory_mb": hold.most_memory(peak_mb) or peak_mb}
        name = hold.exceeded
        if name and name in hold.limits:
            used, limit = getattr(hold.used, name), hold.limits[name]
            way = hold.ways[name]
            measured["exceeded"] = (
                f"it used {used:.0f} of {limit:g} MB of {_OF[name]}, and was ended "
                f"({way})"
            )
        elif name:
            measured["exceeded"] = (
                "it left the group that holds its limits, and was ended"
            )
        if name:
            measured["limit"] = name
        return measured


class SpentPipe:
    """The pipe into which a test task writes what it spends of its budget, if any."""

    def __init__(self, context: TaskContext) -> None:
        tell = context._told  # noqa: SLF001 - of ours
        self._spending: Spending | None = None
        #: The variable that names it.
        self.env: dict[str, str] = {}
        if tell("reserved", None) is not None:
            self._spending = Spending(context.task_id, tell)
            self._pipe = LinePipe(None, self._spending.take)
            self.env[ProgramVariables.SPENT] = str(self._pipe.open("spent"))

    def read(self) -> None:
        """Take what has come."""
        if self._spending is not None:
            self._pipe.read()

    def close(self, *, is_known: bool) -> None:
        """Take what has come last; not *is_known*: it was cut off, and may lack."""
        if self._spending is not None:
            try:
                self._pipe.read(is_last=True)
                if not is_known:
                    self._spending.take_rest()
            finally:
                self._pipe.close()


@attrs.define(eq=False)
class SuiteWorker:
    """
    Runs one test task at a time; one that is to end has *grace* seconds for that.

    With a *governor*, each is held to what it has reserved.
    """

    name: str
    folder: RunFolder
    _grace: float
    _governor: Governor | None = None
    #: By the interpreter that each runs.
    _processes: dict[str, SuiteProcess] = attrs.field(
        init=False, factory=dict[str, SuiteProcess]
    )

    def close(self) -> None:
        """End the worker's processes, and the programs that they run."""
        for process in self._processes.values():
            process.close()

    def __call__(self, task: Task, context: TaskContext) -> dict[str, Any]:
        """
        Run an attempt at *task*.

        Returns:
            Its results: the numbers of tests, and its measures.

        Raises:
            CriteriaNotMetError: It has run, and does not meet its criteria.
            ResultsError: It has left no results.
            AgentDiedError: The process of this worker has died.
        """
        info = AttemptInfo(
            context.task_id, context.fence, context.allocation, context.progress
        )
        attempt = SuiteAttempt(self.name, self.folder, task, info)
        python = attempt.python
        process = self._processes.setdefault(python, SuiteProcess(python))
        attempt.clear()
        hold, spent = self._hold(context), SpentPipe(context)
        job = {**attempt.job(), "joins": hold.joins, "held": hold.is_one}
        job["attempt"] |= spent.env | hold.env

        def is_to_end() -> bool:
            spent.read()
            return context.cancelled or hold.is_to_end()

        is_known = False
        try:
            end = process.run(
                job,
                hear=attempt.hear,
                is_to_end=is_to_end,
                grace=self._grace * _SHARE,
                begun=hold.begun,
                was_limit=hold.was_limit,
            )
            is_known = end["exit_code"] >= 0
        except AgentDiedError:
            hold.end({})
            attempt.cut_off("died")
            raise
        finally:
            spent.close(is_known=is_known)
        end = hold.end(end)
        amounts = {name: end[name] for name in _MEASURED if end.get(name)}
        context._note_usage(Resources(**amounts))  # noqa: SLF001 - of ours
        try:
            # One that is being cancelled, or is out of time, stops here.
            context.checkpoint()
        except AttemptInterrupted as why:
            with suppress(CriteriaNotMetError):
                attempt.end(end, stopped=str(why))
            raise
        return attempt.end(end)

    def _hold(self, context: TaskContext) -> TaskHold:
        """
        Return the object that holds the process of an attempt to its limits.

        Raises:
            UnenforceableError: Nothing can, here.
        """
        if self._governor is None:
            return TaskHold(None)
        amounts = dict(context.allocation)
        limits = {
            limit: amounts[name]
            for name, limit in _LIMITED.items()
            if amounts.get(name)
        }
        try:
            hold, _ = self._governor.hold(limits, partly=False)
        except UnheldError as error:
            raise UnenforceableError(str(error), task_id=context.task_id) from error
        return TaskHold(hold if limits else None)
