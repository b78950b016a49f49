"""Does one task: claims it, runs its program, and looks at what that left."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import attrs

from taskorch.errors import (
    AttemptInterrupted,
    TaskCancelledError,
    TaskFailure,
    TaskTimeoutError,
    UnknownTaskError,
)
from taskorch.events import BudgetSpent
from taskorch.frontends.workspace._claims import (
    Claims,
    FencedOffError,
    Held,
    TaskClaim,
    kill_group,
)
from taskorch.frontends.workspace._config import AgentProgram, filled
from taskorch.frontends.workspace._layout import WorkspaceLayout
from taskorch.frontends.workspace._progress import missing_inputs, missing_outputs
from taskorch.frontends.workspace._status import Status, StatusRefusedError
from taskorch.frontends.workspace._task_file import TaskFile, body_of
from taskorch.frontends.workspace._tasks import SPENDING
from taskorch.kit.backoff import Backoff
from taskorch.kit.clock import MonotonicClock
from taskorch.kit.limits import NS
from taskorch.kit.words import amounts_in_words, stamp
from taskorch.model import Program, ProgramResult, Resources, Task, Units

if TYPE_CHECKING:
    from taskorch._contexts import TaskContext
    from taskorch._orchestrator import TaskOrchestrator

#: Between two looks at what another runner does.
_LOOKS: Final = Backoff(0.02, 0.5, factor=1.5)
#: Before a failed program is run again.
_PAUSES: Final = Backoff(1.0, 60.0)
#: Seconds that what a dead runner has left may take to end by itself.
_LEFTOVER_SECONDS: Final = 5.0

#: Told to people: what kind of line it is, and the line.
Tell = Callable[[Literal["launch", "end", "error", "alert"], str], object]


class Failed(Exception):  # noqa: N818 - it is what became of a task
    """A task has failed; the message is its `error`."""


class NotYet(Failed):
    """A task was not begun, or not once more, since something lacks: it waits."""


@attrs.define
class _Outcome:
    """What became of a program."""

    error: str | None = None
    exit_code: int | None = None
    lines: list[str] = attrs.field(factory=list[str])
    #: Whether it is not to be run again, whatever `retries` says.
    is_final: bool = False


class TaskFileWorker:
    """
    Runs the tasks that the orchestrator starts.

    *find* says the task file of an id as it is now, and the seconds that it may take;
    None if it has gone. *held_up* says how many tasks wait for one, directly or not.
    *enforce* says whether programs are held to the cores and the memory of their tasks,
    or else to *maxima*;
    *measured*, whether each asks for its memory itself, and its worker is its type;
    *mends*, whether a program that fails may be mended, and run again.
    *judged* says why policies deny a task, and what else they say of it.
    *draws* says on which budget a task draws, and what it reserves of it.
    """

    def __init__(
        self,
        orchestrator: TaskOrchestrator,
        layout: WorkspaceLayout,
        claims: Claims,
        *,
        find: Callable[[str], tuple[TaskFile, float | None] | None],
        tell: Tell,
        held_up: Callable[[str], int],
        draws: Callable[[TaskFile], tuple[str | None, Units]],
        judged: Callable[[TaskFile], tuple[str | None, str | None]],
        enforce: bool = False,
        maxima: Mapping[str, float] | None = None,
        measured: bool = False,
        mends: bool = False,
    ) -> None:
        self._mends = mends
        self._draws = draws
        self._judged = judged
        #: What programs that run, by the ids of their tasks, spend, and for whom.
        self._spending: dict[str, tuple[TaskClaim, str]] = {}
        orchestrator.signals.budget_spent.connect(self._hear_spent)
        self._orch = orchestrator
        self._layout = layout
        self._claims = claims
        self._find = find
        self._tell = tell
        self._held_up = held_up
        self._enforce = enforce
        self._maxima = maxima or {}
        self._measured = measured
        self._clock = MonotonicClock()
        self._slots = _Slots()
        self._numbers = count(1)
        #: The budgets of which it was told that little is left.
        self._low: set[str] = set()
        #: What is cancelled from now on has not ended: all is to stop.
        self.is_stopping: bool = False

    def handler(
        self, agent: AgentProgram
    ) -> Callable[[Task[Any], TaskContext], Status]:
        """What does tasks by *agent*."""

        def do(task: Task[Any], context: TaskContext) -> Status:
            try:
                return self._do(task.payload, agent, context)
            except OSError as error:
                self._tell("error", f"ERROR: {task.payload}: {unkept(error)}")
                raise

        return do

    def _do(self, task_id: str, agent: AgentProgram, context: TaskContext) -> Status:
        planned = self._find(task_id)
        if planned is None:
            msg = f"{self._layout.task_file(task_id)} is gone"
            raise Failed(msg)
        task, timeout = planned
        missing = missing_inputs(self._layout, task)
        if missing:
            raise NotYet(waits_for(missing))
        why, note = self._judged(task)
        if why is not None:
            raise NotYet(why)
        if note is not None:
            self._tell("alert", f"POLICY: {task_id}: {note}")
        with self._slots.taken(agent.name) as agent_id:
            now = self._clock.now_ns()
            started = Status(
                task_id, "running", started_at=stamp(now // NS), agent_id=agent_id
            )
            claim = self._claim(started, context)
            if isinstance(claim, Status):
                # Another runner has done it, or an earlier one.
                return _passed(claim)
            try:
                outcome = self._run_until_done(task, agent, timeout, claim)
            except BaseException:
                # We are to stop: it has not ended, and is done again.
                self._give_back(claim)
                raise
            return _passed(self._finish(claim, started, now, outcome))

    def _claim(self, started: Status, context: TaskContext) -> TaskClaim | Status:
        """Wait until the task is ours, or has ended."""
        first = time.monotonic()
        pauses = _LOOKS.pauses()
        while True:
            try:
                claim = self._claims.claim(started)
            except StatusRefusedError as error:
                path = self._layout.shown(self._layout.status(started.task_id))
                msg = f"{path} is not believed: {error}"
                raise Failed(msg) from error
            if not isinstance(claim, Held):
                return claim
            late = time.monotonic() - first > _LEFTOVER_SECONDS
            if late and claim.pid is not None and claim.is_ours:
                kill_group(claim.pid)
            is_still = True
            while is_still:
                time.sleep(next(pauses))
                context.checkpoint()
                is_still = self._claims.is_still(started.task_id, claim)

    # -- the program -----------------------------------------------------------------

    def _run_until_done(
        self,
        task: TaskFile,
        agent: AgentProgram,
        timeout: float | None,
        claim: TaskClaim,
    ) -> _Outcome:
        """Run the program, and again after a pause, as often as `retries` says."""
        remaining, pause = task.retries, 0.0
        pauses = _PAUSES.pauses()
        while True:
            outcome = self._run(task, agent, timeout, claim, pause)
            if outcome.error is None or outcome.is_final or not remaining:
                return outcome
            pause = next(pauses)
            self._note(task.task_id, outcome.lines)
            times = "once more" if remaining == 1 else f"up to {remaining} times more"
            message = f"Trying again: {task.task_id} ({outcome.error}; {times})"
            self._tell("error", message)
            remaining -= 1

    def _run(
        self,
        task: TaskFile,
        agent: AgentProgram,
        timeout: float | None,
        claim: TaskClaim,
        pause: float,
    ) -> _Outcome:
        """Run the program once, in *pause* seconds, on what its task reserves."""
        # What it spends may be told before it is handed over.
        program_id = f"{self._claims.runner}-{next(self._numbers)}"
        budget, units = self._draws(task)
        if budget is None:
            return self._run_program(task, agent, claim, program_id, (timeout, pause))
        short = self._claims.reserve(claim, budget, units)
        if short is not None:
            raise NotYet(short.text)
        self._spending[program_id] = claim, budget
        try:
            return self._run_program(
                task, agent, claim, program_id, (timeout, pause), SPENDING
            )
        finally:
            del self._spending[program_id]
            self._settle(program_id, claim, budget)

    def _run_program(
        self,
        task: TaskFile,
        agent: AgentProgram,
        claim: TaskClaim,
        program_id: str,
        times: tuple[float | None, float],
        budget: str | None = None,
    ) -> _Outcome:
        """Run the program as a task of this id; *times* are its timeout and pause."""
        timeout, pause = times
        self._tell("launch", f"Launching task: {task.task_id}")
        try:
            self._layout.outputs(task.task_id).mkdir(parents=True, exist_ok=True)
            program = self._program(task, agent, claim)
        except (OSError, ValueError) as error:
            return _Outcome(str(error))
        kind, resources = "program", dict(task.resources.spends)
        if self._measured and task.memory_mb:
            # A size is known of this, which is measured, and not of what waits for it.
            kind, resources["memory_mb"] = agent.name, task.memory_mb
        handle = self._orch.submit_task(
            Task(
                kind,
                program,
                id=program_id,
                timeout=timeout,
                not_before=pause or None,
                resources=resources,
                budget=budget,
            )
        )
        try:
            result = handle.result()
        except AttemptInterrupted as why:
            if self.is_stopping or why.args[0] != "cancel":
                # All is to stop, programs too: the task has not ended.
                raise
            ended = threading.Event()
            handle.add_done_callback(lambda _: ended.set())
            handle.cancel()
            # Only then may another have the task.
            ended.wait()
            return _Outcome("Cancelled", is_final=True)
        except TaskCancelledError:
            # Cancelled before it began, for one of the same reasons.
            raise
        except TaskTimeoutError:
            return _Outcome("Timeout")
        except (TaskFailure, OSError) as error:
            program_result = getattr(error, "result", None)
            if (
                isinstance(program_result, ProgramResult)
                and not program_result.exceeded
            ):
                return self._look(task, program_result)
            message = str(error).partition("\n")[0]
            return _Outcome(message.removeprefix(f"task {handle.task_id}: "))
        return self._look(task, result)

    def _hear_spent(self, event: BudgetSpent) -> None:
        """Note what a program that runs has spent: its runner may be killed."""
        claim, budget = self._spending.get(event.task_id, (None, ""))
        if claim is not None:
            with suppress(FencedOffError, OSError):
                units = self._spent(event.task_id)
                self._claims.spend(claim, budget, units, ended=False)

    def _settle(self, task_id: str, claim: TaskClaim, budget: str) -> None:
        """What a program has not spent that it had reserved is there for others."""
        try:
            status = self._orch.get_task_status(task_id)
        except UnknownTaskError:
            # It was not handed over.
            self._claims.spend(claim, budget, (), ended=True)
            return
        if status.state.is_terminal or not status.attempts:
            self._claims.spend(claim, budget, self._spent(task_id), ended=True)
        self._tell_low()

    def _spent(self, task_id: str) -> Units:
        return Resources(**(self._orch.get_task_status(task_id).spent or {})).units

    def _tell_low(self) -> None:
        for usage in self._claims.usages():
            if not usage.is_low:
                self._low.discard(usage.name)
            elif usage.name not in self._low:
                self._low.add(usage.name)
                self._tell("alert", f"ALERT: Budget {usage}")

    def _program(
        self, task: TaskFile, agent: AgentProgram, claim: TaskClaim
    ) -> Program:
        layout = self._layout
        outputs = f"{layout.workspace}/outputs/{task.task_id}"
        names = {"task_file": task.path, "task_id": task.task_id, "outputs": outputs}
        args = agent.args if task.command is None else task.command
        env = {
            "TASK_ID": task.task_id,
            "TASK_FILE": task.path,
            "TASK_OUTPUTS": outputs,
            "TASK_FENCE": str(claim.fence),
            **self._claims.mark(claim),
        }
        amounts = {"cpu": task.cpu or self._maxima.get("cpu", 0.0)}
        if not self._measured:
            most = self._maxima.get("memory_mb", 0.0)
            amounts["memory_mb"] = task.memory_mb or most
        stdin = None
        if agent.stdin and task.command is None:
            stdin = body_of(layout.root / task.path)
        return Program(
            [filled(word, names) for word in args],
            env=env,
            # It is the user's own, and gets what it would get from a shell.
            inherit_env=True,
            cwd=layout.root,
            stdin=stdin,
            # What an exit code means to recovery, that must be told.
            check=self._mends,
            log=layout.log(task.task_id),
            pid_file=layout.pid(task.task_id),
            # Who dies has no claims any more, but only once its programs are gone too.
            pass_fds=self._claims.files,
            limits={name: much for name, much in amounts.items() if much},
            enforce=self._enforce,
        )

    def _look(self, task: TaskFile, result: ProgramResult) -> _Outcome:
        """At what the program has left."""
        code = result.exit_code
        missing = missing_outputs(self._layout, task)
        lines = [f"ERROR: Missing output: {path}" for path in missing]
        if code:
            return _Outcome(_said_of_code(code), code, lines)
        return _Outcome("Missing outputs" if missing else None, code, lines)

    # -- its end -----------------------------------------------------------------------

    def _finish(
        self, claim: TaskClaim, started: Status, began: int, outcome: _Outcome
    ) -> Status:
        now = self._clock.now_ns()
        ran = outcome.exit_code is not None
        status = attrs.evolve(
            started,
            status="completed" if outcome.error is None else "failed",
            completed_at=stamp(now // NS),
            outputs_validated=ran and not outcome.lines,
            duration_seconds=round((now - began) / NS, 3),
            exit_code=outcome.exit_code,
            error=outcome.error,
            spent=self._claims.spent(claim.task_id) or None,
        )
        self._note(claim.task_id, outcome.lines)
        try:
            self._claims.finish(claim, status)
        except FencedOffError as error:
            self._tell("error", f"ERROR: {error}: its outcome does not count")
            raise
        self._tell_end(status)
        return status

    def _give_back(self, claim: TaskClaim) -> None:
        try:
            self._claims.give_back(claim)
        except (FencedOffError, OSError) as error:
            self._tell("error", f"ERROR: {error}")

    def _note(self, task_id: str, lines: list[str]) -> None:
        """Tell what is missing, and write it into the log of the task, too."""
        for line in lines:
            self._tell("error", line)
        if lines:
            log: Path = self._layout.log(task_id)
            try:
                log.parent.mkdir(parents=True, exist_ok=True)
                with log.open("a", encoding="utf-8") as file:
                    file.writelines(f"{line}\n" for line in lines)
            except OSError as error:
                self._tell("error", f"ERROR: {log} could not be written: {error}")

    def _tell_end(self, status: Status) -> None:
        task_id, seconds = status.task_id, status.duration_seconds or 0.0
        if status.error is None:
            spent = f"; spent {amounts_in_words(status.spent)}" if status.spent else ""
            self._tell("end", f"Completed: {task_id} ({seconds:.1f} s{spent})")
            return
        self._tell("end", f"Failed: {task_id} ({status.error})")
        count = self._held_up(task_id)
        tasks = "task" if count == 1 else "tasks"
        self._tell("alert", f"ALERT: Task {task_id} failed, blocking {count} {tasks}")


class _Slots:
    """Numbers for agents of one name that are at work: the lowest that is free."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: dict[str, set[int]] = {}

    @contextmanager
    def taken(self, name: str) -> Iterator[str]:
        """An agent of that name with a number, while the block lasts."""
        with self._lock:
            numbers = self._taken.setdefault(name, set())
            number = next(n for n in count(1) if n not in numbers)
            numbers.add(number)
        try:
            yield f"{name}-{number}"
        finally:
            with self._lock:
                numbers.discard(number)


def waits_for(missing: list[str]) -> str:
    """Why a task is not begun whose inputs are *missing*."""
    return f"it waits for its input {', '.join(missing)}"


def unkept(error: OSError) -> str:
    """Why what becomes of a task could not be written down."""
    return f"its files cannot be written: {error.strerror or error}"


def _passed(status: Status) -> Status:
    """
    *status*, if the task has completed.

    Raises:
        Failed: It has not.
    """
    if status.status != "completed":
        raise Failed(status.error or "it has failed earlier")
    return status


def _said_of_code(code: int) -> str:
    if code >= 0:
        return f"Exit code {code}"
    try:
        return f"Killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"Killed by signal {-code}"
