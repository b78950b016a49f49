"""Does one task: claims it, runs its program, and looks at what that left."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from taskorch.errors import (
    AttemptInterrupted,
    TaskCancelledError,
    TaskFailure,
    TaskTimeoutError,
    UnknownTaskError,
)
from taskorch.events import BudgetSpent
from taskorch.ext.task_files._claims import (
    Claims,
    FencedOffError,
    Held,
    TaskClaim,
    kill_group,
)
from taskorch.ext.task_files._config import AgentProgram, WorkspaceConfig
from taskorch.ext.task_files._layout import WorkspaceLayout
from taskorch.ext.task_files._progress import missing_inputs, missing_outputs
from taskorch.ext.task_files._status import Status, StatusRefusedError
from taskorch.ext.task_files._task_file import TaskFile, body_of
from taskorch.ext.task_files._tasks import SPENDING, judged, spends
from taskorch.kit.backoff import Backoff
from taskorch.kit.clock import MonotonicClock
from taskorch.kit.limits import NS
from taskorch.kit.words import amounts_in_words, fill, stamp
from taskorch.model import Program, ProgramResult, Resources, Task, Units

if TYPE_CHECKING:
    from taskorch.api._contexts import TaskContext
    from taskorch.api._orchestrator import TaskOrchestrator
    from taskorch.core.handles.handles import TaskHandle

#: Pauses between two looks at the claim of another runner.
_LOOKS: Final = Backoff(0.02, 0.5, factor=1.5)
#: Pauses before a failed program runs again.
_PAUSES: Final = Backoff(1.0, 60.0)
#: Seconds that the programs of a dead runner may take to end by themselves.
_LEFTOVER_SECONDS: Final = 5.0

#: Takes a line for people.
Tell = Callable[[str], object]


class Failed(Exception):  # noqa: N818 - it is what became of a task
    """A task has failed; the message is its `error`."""


class NotYet(Failed):
    """A task was not begun, or not once more, since something lacks: it waits."""


@attrs.define
class _Outcome:
    """Outcome of a program."""

    error: str | None = None
    exit_code: int | None = None
    lines: list[str] = attrs.field(factory=list[str])
    #: Whether it is not to be run again, whatever `retries` says.
    is_final: bool = False
    #: Limits that it was not held to.
    unenforced: tuple[str, ...] = ()
    #: What mended it, or tried to.
    repairs: list[str] = attrs.field(factory=list[str])


@attrs.frozen
class _Job:
    """A task of ours: its file, who does it, and our claim."""

    task: TaskFile
    agent: AgentProgram
    claim: TaskClaim


class TaskFileWorker:
    """
    Runs the tasks that the orchestrator starts.

    *find* says the task file of an id as it is now; None if it has gone. *held_up* says
    how many tasks wait for one, directly or not.
    """

    def __init__(
        self,
        orchestrator: TaskOrchestrator,
        layout: WorkspaceLayout,
        claims: Claims,
        config: WorkspaceConfig,
        *,
        find: Callable[[str], TaskFile | None],
        tell: Tell,
        held_up: Callable[[str], int],
    ) -> None:
        self._config = config
        #: The claim and the budget of each program that runs, by the id of its task.
        self._spending: dict[str, tuple[TaskClaim, str]] = {}
        orchestrator.signals.budget_spent.connect(self._hear_spent)
        self._orch = orchestrator
        self._layout = layout
        self._claims = claims
        self._find = find
        self._tell = tell
        self._held_up = held_up
        self._clock = MonotonicClock()
        self._slots = _Slots()
        self._numbers = count(1)
        #: Budgets of which people were told that little is left.
        self._low: set[str] = set()
        #: True once the run stops: a task that is cancelled then has not ended.
        self.is_stopping: bool = False

    def handler(
        self, agent: AgentProgram
    ) -> Callable[[Task[Any], TaskContext], Status]:
        """Return the function that does tasks by *agent*."""

        def do(task: Task[Any], context: TaskContext) -> Status:
            try:
                return self._do(task.payload, agent, context)
            except OSError as error:
                self._tell(f"ERROR: {task.payload}: {unkept(error)}")
                raise

        return do

    def _do(self, task_id: str, agent: AgentProgram, context: TaskContext) -> Status:
        task = self._find(task_id)
        if task is None:
            msg = f"{self._layout.task_file(task_id)} is gone"
            raise Failed(msg)
        missing = missing_inputs(self._layout, task)
        if missing:
            raise NotYet(waits_for(missing))
        why, note = judged(self._config, task)
        if why is not None:
            raise NotYet(why)
        if note is not None:
            self._tell(f"POLICY: {task_id}: {note}")
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
                outcome = self._run_until_done(_Job(task, agent, claim))
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
                raise Failed(str(error)) from error
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

    def _run_until_done(self, job: _Job) -> _Outcome:
        """Run the program, and again after a pause, as often as `retries` says."""
        task_id, remaining, pause = job.task.task_id, job.task.retries, 0.0
        pauses, log = _PAUSES.pauses(), self._layout.log(task_id)
        repairs: list[str] = []
        while True:
            outcome = self._run(job, pause)
            repairs += outcome.repairs
            if outcome.error is None or outcome.is_final or not remaining:
                return attrs.evolve(outcome, repairs=repairs)
            pause = next(pauses)
            self._note(task_id, outcome.lines)
            times = "once more" if remaining == 1 else f"up to {remaining} times more"
            message = f"Trying again: {task_id} ({outcome.error}; {times})"
            self._tell(message)
            with suppress(OSError):
                log.replace(f"{log}.{job.task.retries - remaining + 1}")
            remaining -= 1

    def _run(self, job: _Job, pause: float) -> _Outcome:
        """Run the program once, after *pause* seconds, with the reserved amounts."""
        # The program may report its spending before it is handed over.
        program_id = f"{self._claims.runner}-{next(self._numbers)}"
        budget = self._config.budget_of(job.task)
        if budget is None:
            return self._run_program(job, program_id, pause)
        short = self._claims.reserve(job.claim, budget, spends(job.task))
        if short is not None:
            raise NotYet(short.text)
        self._spending[program_id] = job.claim, budget
        try:
            return self._run_program(job, program_id, pause, SPENDING)
        finally:
            del self._spending[program_id]
            self._settle(program_id, job.claim, budget)

    def _run_program(
        self, job: _Job, program_id: str, pause: float, budget: str | None = None
    ) -> _Outcome:
        """Run the program as a task of this id, after *pause* seconds."""
        task = job.task
        self._tell(f"Launching task: {task.task_id}")
        try:
            self._layout.outputs(task.task_id).mkdir(parents=True, exist_ok=True)
            program = self._program(job)
        except (OSError, ValueError) as error:
            return _Outcome(str(error))
        kind, resources = "program", dict(task.resources.spends)
        if self._config.limits.measured and task.memory_mb:
            # A size is known of this, which is measured, and not of what waits for it.
            kind, resources["memory_mb"] = job.agent.name, task.memory_mb
        handle = self._orch.submit_task(
            Task(
                kind,
                program,
                id=program_id,
                timeout=self._config.timeout_of(task),
                not_before=pause or None,
                resources=resources,
                budget=budget,
            )
        )
        outcome = self._outcome_of(task, handle)
        if self._config.repairs:
            tried = self._orch.get_task_status(program_id).recovery_attempts
            outcome.repairs = [*map(str, tried)]
            lines = [f"Repair: {task.task_id}: {each}" for each in outcome.repairs]
            self._note(task.task_id, lines)
        return outcome

    def _outcome_of(self, task: TaskFile, handle: TaskHandle[Any]) -> _Outcome:
        """Wait for the program of a task, and return its outcome."""
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
        """Give back the part of its reservation that a program has not spent."""
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
                self._tell(f"ALERT: Budget {usage}")

    def _program(self, job: _Job) -> Program:
        task, agent, layout = job.task, job.agent, self._layout
        outputs = f"{layout.workspace}/outputs/{task.task_id}"
        names = {"task_file": task.path, "task_id": task.task_id, "outputs": outputs}
        args = agent.args if task.command is None else task.command
        env = {
            "TASK_ID": task.task_id,
            "TASK_FILE": task.path,
            "TASK_OUTPUTS": outputs,
            "TASK_FENCE": str(job.claim.fence),
            **self._claims.mark(job.claim),
        }
        stdin, enforce = None, self._config.limits.enforce
        if agent.stdin and task.command is None:
            stdin = body_of(layout.root / task.path)
        return Program(
            [fill(word, names) for word in args],
            env=env,
            # The program is the user's own, so it gets the environment of a shell.
            inherit_env=True,
            cwd=layout.root,
            stdin=stdin,
            # Recovery must hear of the exit code.
            check=bool(self._config.repairs),
            log=layout.log(task.task_id),
            pid_file=layout.pid(task.task_id),
            # A dead runner keeps its claims until its programs are gone, too.
            pass_fds=self._claims.files,
            limits=self._limits(task),
            # It was asked to hold what the task says, wherever that can be held.
            enforce="if possible" if enforce and not task.cpu else enforce,
        )

    def _limits(self, task: TaskFile) -> dict[str, float]:
        """Return the amounts that the program of a task is held to."""
        most, amounts = self._config.limits, {"written_mb": task.resources.disk_mb}
        amounts["cpu"] = task.cpu or (most.max_cpu_per_agent if most.enforce else 0.0)
        if not most.measured or not task.memory_mb:
            memory_mb = most.max_memory_mb if most.enforce else 0.0
            amounts["memory_mb"] = task.memory_mb or memory_mb
        return {name: much for name, much in amounts.items() if much}

    def _look(self, task: TaskFile, result: ProgramResult) -> _Outcome:
        """Look at the files that the program has left."""
        code = result.exit_code
        missing = missing_outputs(self._layout, task)
        lines = [f"ERROR: Missing output: {path}" for path in missing]
        error = "Missing outputs" if missing else None
        if code:
            error = _said_of_code(code)
        return _Outcome(error, code, lines, unenforced=result.unenforced)

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
            unenforced=outcome.unenforced or None,
            repairs=outcome.repairs or None,
        )
        self._note(claim.task_id, outcome.lines)
        try:
            self._claims.finish(claim, status)
        except FencedOffError as error:
            self._tell(f"ERROR: {error}: its outcome does not count")
            raise
        self._tell_end(status)
        return status

    def _give_back(self, claim: TaskClaim) -> None:
        try:
            self._claims.give_back(claim)
        except (FencedOffError, OSError) as error:
            self._tell(f"ERROR: {error}")

    def _note(self, task_id: str, lines: list[str]) -> None:
        """Tell what is missing, and write it into the log of the task, too."""
        for line in lines:
            self._tell(line)
        if lines:
            log: Path = self._layout.log(task_id)
            try:
                log.parent.mkdir(parents=True, exist_ok=True)
                with log.open("a", encoding="utf-8") as file:
                    file.writelines(f"{line}\n" for line in lines)
            except OSError as error:
                self._tell(f"ERROR: {log} could not be written: {error}")

    def _tell_end(self, status: Status) -> None:
        task_id, seconds = status.task_id, status.duration_seconds or 0.0
        unheld = f"; not held to {', '.join(status.unenforced or ())}"
        unheld = unheld if status.unenforced else ""
        if status.error is None:
            spent = f"; spent {amounts_in_words(status.spent)}" if status.spent else ""
            self._tell(f"Completed: {task_id} ({seconds:.1f} s{spent}{unheld})")
            return
        self._tell(f"Failed: {task_id} ({status.error}{unheld})")
        count = self._held_up(task_id)
        tasks = "task" if count == 1 else "tasks"
        self._tell(f"ALERT: Task {task_id} failed, blocking {count} {tasks}")


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
    """Return the reason why a task with *missing* inputs does not begin."""
    return f"it waits for its input {', '.join(missing)}"


def unkept(error: OSError) -> str:
    """Return the reason why the state of a task could not be written."""
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
