"""
Workers of other processes: each task is a program for them, and is judged here.

They need no part of ours: they run a program, and tell what it printed. It reads what
is to be run from the folder of the run, and leaves there what is to be judged. So a
worker that does not see this folder runs nothing, and cannot be believed by accident.

Decision: test-suites.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Any, Final, TypeAlias, TypeVar, cast

import attrs

from taskorch.api._orchestrator import TaskOrchestrator
from taskorch.core.executors.programs import spending_of
from taskorch.errors import (
    AttemptInterrupted,
    InvalidTaskError,
    NotRunningError,
    ProgramFailedError,
    TaskFailure,
    UnknownTaskError,
)
from taskorch.ext.suites._attempt import (
    AttemptInfo,
    SuiteAttempt,
    are_numbers,
    name_of,
)
from taskorch.ext.suites._folder import RunFolder, kept_in, write_json
from taskorch.ext.suites._model import Suite, parts_of
from taskorch.ext.suites._process import WORKER, AgentDiedError
from taskorch.model import (
    Agent,
    Program,
    ProgramResult,
    ProgramVariables,
    Resources,
    Task,
    TaskState,
)
from taskorch.policies import CapabilityRegistry
from taskorch.protocols import AgentView, Attempt, AttemptExecutor, Context, Match

B = TypeVar("B")
#: The prefix of the names of this process's workers, if workers elsewhere may join.
OWN: Final = "local_"
#: The measurements in the last event of an attempt.
_END: Final = ("exit_code", "seconds", "memory_mb", "cpu_seconds", "disk_mb")
#: Seconds that workers have to come back, once the service is there again: they look
#: for it every two.
_RETURN: Final = 10.0
#: Seconds between looks whether the service is to end.
_LOOK: Final = 0.1
#: A stand-in for the program that a worker ran: its results are judged, not its exit
#: code.
_UNCHECKED: Final = Program(["?"], check=False)


class NotSharedError(TaskFailure):
    """A worker does not see what it needs to run a task of the suite."""

    code = "not_shared"
    #: Another worker may see it.
    failure_class = "system_error"


class OthersFirst:
    """
    The AgentRegistry by which workers elsewhere do what they can while they are there.

    Who can do a task is said by its capabilities; what no other can do is for the
    workers of this process, its *own*.
    """

    def __init__(self, own: Collection[str]) -> None:
        self._own = frozenset(own)
        self._capable = CapabilityRegistry()

    def matches(
        self, task: Task, agents: Sequence[AgentView], context: Context
    ) -> Match:
        """The workers elsewhere that can do *task*, or else those of this process."""
        others = [a for a in agents if a.name not in self._own and not a.is_lost]
        match = self._capable.matches(task, others, context)
        if not match.agents:
            own = [worker for worker in agents if worker.name in self._own]
            match = self._capable.matches(task, own, context)
        return attrs.evolve(match, reusable=OthersFirst)

    def __repr__(self) -> str:
        return f"OthersFirst({sorted(self._own)})"


def room_for_any(suite: Suite, has: Resources | None) -> Resources | None:
    """Return the amounts of a machine, or of the largest task, if that is larger."""
    if has is None:
        return None
    tasks = parts_of(suite)
    return Resources(
        **{
            name: max([amount, *(task.resources.get(name, 0.0) for task in tasks)])
            for name, amount in has.items()
        }
    )


def admit(
    orchestrator: TaskOrchestrator, worker: Agent, executor: AttemptExecutor[Any]
) -> None:
    """
    Add a worker elsewhere to an orchestrator, by a name no local worker has.

    Raises:
        InvalidTaskError: One of ours may have it; or see `WorkerManager.join`.
    """
    if worker.name.startswith(OWN):
        msg = f"workers of the service itself have names that begin with {OWN!r}"
        raise InvalidTaskError(msg, hint="give it another name")
    orchestrator.agents.join(worker, executor)


def join(
    orchestrator: TaskOrchestrator,
    suite: Suite,
    folder: RunFolder,
    worker: Agent,
    executor: AttemptExecutor[Any],
) -> None:
    """
    Add a worker elsewhere to an orchestrator, for tasks of a run.

    One that can do classes of tests, by name, does only these; else it does all.

    Raises:
        InvalidTaskError: See `admit`.
    """
    kinds = {phase.kind for phase in suite.phases}
    does = kinds.intersection(worker.capabilities) or kinds
    admit(
        orchestrator,
        attrs.evolve(
            worker,
            capabilities=tuple(sorted(does)),
            capacity=room_for_any(suite, worker.capacity),
        ),
        Elsewhere(
            orchestrator, folder, worker.name, executor, enforce=suite.limits.enforce
        ),
    )


class Elsewhere(AttemptExecutor[B]):
    """Runs test tasks as programs of a worker elsewhere, and judges the results."""

    def __init__(
        self,
        orchestrator: TaskOrchestrator,
        folder: RunFolder,
        name: str,
        executor: AttemptExecutor[B],
        *,
        enforce: bool = False,
    ) -> None:
        self._enforce = enforce
        self._orchestrator = orchestrator
        self._folder = folder
        self._name = name
        self._executor = executor

    def begin(self, attempt: Attempt) -> B:
        """Give the worker the program."""
        info = AttemptInfo(
            *(attempt.task_id, attempt.fence),
            Resources.from_units(attempt.told("allocation", None)),
            partial(attempt.told, "progress"),
        )
        test_attempt = SuiteAttempt(self._name, self._folder, attempt.task, info)
        test_attempt.clear()
        program_attempt = _Given(
            attempt, test_attempt, self._counts, enforce=self._enforce
        )
        return self._executor.begin(cast("Attempt", program_attempt))

    def stop(self, begun: B, grace: float) -> None:
        """Have the worker end the program."""
        self._executor.stop(begun, grace)

    def _counts(self, attempt: Attempt) -> bool:
        """Return whether the attempt is still wanted, and so to be judged."""
        status = self._orchestrator.get_task_status(attempt.task_id)
        return status.state is TaskState.RUNNING and status.attempts == attempt.number


def _over_limit(error: ProgramFailedError) -> dict[str, Any]:
    """The last event of a task that has passed one of its limits."""
    result: ProgramResult = error.result
    return {
        "exit_code": result.exit_code,
        "seconds": result.duration,
        "memory_mb": result.memory_mb or 0.0,
        "cpu_seconds": result.cpu_seconds or 0.0,
        "disk_mb": result.written_mb or 0.0,
        "host": "",
        "exceeded": error.message,
        "limit": result.exceeded,
    }


class _Given:
    """An attempt as the executor of the worker sees it: as a program."""

    def __init__(
        self,
        attempt: Attempt,
        test_attempt: SuiteAttempt,
        counts: Any,
        *,
        enforce: bool,
    ) -> None:
        self._attempt = attempt
        self._made = test_attempt
        self._counts = counts
        #: Stands in this file alone. One of another run may lie there on a machine
        #: that does not share the folder.
        self._mark = secrets.token_hex(8)
        about = {
            "agent": test_attempt.worker,
            "began": test_attempt.began,
            "allocation": dict(test_attempt.told.allocation),
            "payload": dict(test_attempt.payload),
            "metadata": dict(attempt.task.metadata or {}),
        }
        write_json(
            test_attempt.request,
            {**test_attempt.job(), "mark": self._mark, "about": about},
        )
        args = [test_attempt.python, str(WORKER), str(test_attempt.request.resolve())]
        program = Program(args, inherit_env=True, check=False, enforce=enforce)
        self.task: Task = attrs.evolve(attempt.task, payload=program)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._attempt, name)

    def told(self, what: str, value: Any) -> Any:
        if what != "progress":
            return self._attempt.told(what, value)
        if isinstance(value, Mapping):
            self._made.hear(value)
        return None

    def end(self, value: Any = None, error: BaseException | None = None) -> None:
        attempt = self._attempt
        if attempt.cancelled:
            if self._counts(attempt):
                # Its worker says that it has stopped it, and no more.
                self._made.cut_off("cancel")
        elif not isinstance(error, AttemptInterrupted) and self._counts(attempt):
            try:
                value, error = self._judged(value, error), None
            except Exception as raised:  # noqa: BLE001 - it is the end of the attempt
                value, error = None, raised
        attempt.end(value, error)

    def _judged(self, result: object, error: BaseException | None) -> dict[str, Any]:
        """
        The result of the test task, from the *result* of its program.

        Raises:
            CriteriaNotMetError: It does not meet its criteria.
            AgentDiedError: It was killed.
            NotSharedError: It could not be run there.
        """
        if isinstance(error, ProgramFailedError) and error.result is not None:
            # There is no other for a program that is not checked.
            return self._made.end(_over_limit(error))
        if not isinstance(result, ProgramResult):
            raise self._not_shared(str(error or "it has run no program"))
        event = _last_event(result.stdout_tail, self._mark)
        if event is not None:
            spending = spending_of(self._attempt)
            if spending is not None and event["exit_code"] < 0:
                # Its program has ended as it should, and the task was cut off.
                spending.take_rest()
            return self._made.end(event)
        if (code := result.exit_code) < 0:
            msg = (
                f"what ran it on worker {self._made.worker} was ended by signal {-code}"
            )
            raise AgentDiedError(msg)
        reason = result.stderr_tail.strip() or f"it exited with {code}"
        raise self._not_shared(reason)

    def _not_shared(self, why: str) -> NotSharedError:
        attempt = self._made
        folder = attempt.folder.path.resolve()
        msg = f"worker {attempt.worker} cannot run tasks of this suite: {why}"
        hint = (
            f"a worker needs the folders {folder} and {attempt.payload['cwd']}, "
            f"{WORKER} and {attempt.python}, by these paths: run it on the machine of "
            "the service, or share them"
        )
        return NotSharedError(msg, hint=hint)


def _last_event(text: str, mark: str) -> dict[str, Any] | None:
    """The last event in the output of the program that has read the *mark*, or None."""
    try:
        event = json.loads(text)
    except ValueError:
        return None
    if not isinstance(event, dict) or event.get("event") != "ended":
        return None
    if event.get("mark") != mark:
        return None
    is_whole = are_numbers(event, _END) and isinstance(event.get("host"), str)
    return event if is_whole else None


# -- ends of attempts that an earlier incarnation of the service gave out --------------

#: A worker, a task, and the incarnation and number of an attempt at it.
_Key: TypeAlias = tuple[str, str, tuple[int, int]]


class EndsKept:
    """
    The ends of attempts that workers got from an earlier incarnation of the service.

    Between runs nobody can judge such an end: it is kept, and the worker is asked to
    report it again. A run that goes on judges it before any worker joins, and so before
    any attempt begins anew. An end is believed only if the folder of the run has the
    request for its attempt.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._until = monotonic() + _RETURN
        self._changed = threading.Condition()
        self._ends: dict[_Key, ProgramResult] = {}
        #: Whether each attempt counted that was judged since a run last began.
        self._fates: dict[_Key, bool] = {}
        self._run: TaskOrchestrator | None = None
        #: One is judged at a time: it may be told twice at once.
        self._judging = threading.Lock()

    # -- what sessions of workers ask -----------------------------------------------

    def program_of(self, task_id: str) -> Program:
        """The program that a worker was given: how that ends is judged here."""
        del task_id
        return _UNCHECKED

    def is_awaited(self, task_id: str, fence: tuple[int, int], worker: str) -> bool:
        """Return whether *worker* may go on with an attempt whose end is kept."""
        return self._run is None and bool(self._request(worker, task_id, fence))

    def bring_late(
        self,
        task_id: str,
        fence: tuple[int, int],
        value: Any = None,
        error: BaseException | None = None,
        *,
        agent: str,
    ) -> bool:
        """
        Take the end of an attempt: see `WorkerManager.bring_late`.

        Raises:
            NotRunningError: It is kept, and to be told again when a run goes on.
            InvalidTaskError: Nobody here knows of it.
            UnknownTaskError: No task has this id.
        """
        key = (agent, task_id, fence)
        with self._changed:
            if key in self._fates:
                return self._fates[key]
            orch = self._run
            if orch is None:
                if self._proof(key, value) is None:
                    msg = f"worker {agent!r} was given no such attempt at {task_id}"
                    raise InvalidTaskError(msg, task_id=task_id)
                self._ends[key] = value
                self._changed.notify_all()
                msg = f"the end of {task_id} is kept until a run of the suite goes on"
                raise NotRunningError(msg, hint="tell it again", task_id=task_id)
        return self._judge(orch, key, value, error)

    # -- what runs say -------------------------------------------------------------

    def begin(self, orch: TaskOrchestrator, is_ending: Callable[[], bool]) -> None:
        """
        A run begins, or goes on, in *orch*, which no worker has joined yet.

        When the service has just been started, workers that were at work get some
        seconds to come back and tell, unless it *is_ending*.
        """
        out = self._out(orch)
        with self._changed:
            while (
                out - self._ends.keys()
                and (seconds_left := self._until - monotonic()) > 0
                and not is_ending()
            ):
                self._changed.wait(min(seconds_left, _LOOK))
            ends, self._ends = self._ends, {}
            self._fates = {}
            self._run = orch
        for key, value in ends.items():
            with suppress(InvalidTaskError, UnknownTaskError):
                self._judge(orch, key, value, None)

    def end(self) -> None:
        """The run has ended: what is told from now on is for the next one."""
        with self._changed:
            self._run = None

    # -- judging -------------------------------------------------------------------

    def _out(self, orch: TaskOrchestrator) -> set[_Key]:
        """The attempts of which nobody has told how they ended."""
        out = set()
        for path in self._folder.under_way.glob("*/*/job.json"):
            job = kept_in(path)
            with suppress(KeyError, TypeError, ValueError, UnknownTaskError):
                task_id, worker = (
                    job["attempt"][ProgramVariables.TASK],
                    job["about"]["agent"],
                )
                epoch, number = map(int, path.parent.name.split("."))
                if orch.agents.awaits_end(task_id, (epoch, number), worker):
                    out.add((worker, task_id, (epoch, number)))
        return out

    def _request(
        self, worker: str, task_id: str, fence: tuple[int, int]
    ) -> dict[str, Any]:
        """Return the request to *worker*; empty if there is none, or it is over."""
        job = kept_in(self._folder.request(name_of(task_id), fence))
        about = job.get("about")
        is_it = job.get("attempt") == ProgramVariables.of_attempt(task_id, fence)
        is_its = isinstance(about, dict) and about.get("agent") == worker
        return job if is_it and is_its else {}

    def _proof(
        self, key: _Key, value: object
    ) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """The request, and the last event of a program that has read it; or None."""
        job = self._request(*key)
        if not job or not isinstance(value, ProgramResult):
            return None
        event = _last_event(value.stdout_tail, job["mark"])
        return None if event is None else (job, event)

    def _judge(
        self,
        orch: TaskOrchestrator,
        key: _Key,
        value: Any,
        error: BaseException | None,
    ) -> bool:
        """Judge an end in the run *orch*; whether it counts."""
        worker, task_id, fence = key
        with self._judging:
            if key in self._fates:
                return self._fates[key]
            bring = partial(orch.agents.bring_late, task_id, fence, agent=worker)
            proof = self._proof(key, value)
            if proof is None:
                why = (
                    f"nothing proves what worker {worker} did in an earlier incarnation"
                )
                return bring(error=error or NotSharedError(why))
            if orch.agents.awaits_end(task_id, fence, worker):
                counts = bring(*self._verdict(key, *proof), judged=True)
            elif self._folder.verdict(name_of(task_id), task_id, fence[1]):
                # It counted in an earlier incarnation, whose answer was lost.
                counts = True
            else:
                why = f"worker {worker} has ended it too late"
                counts = bring(error=error or AttemptInterrupted(why))
            self._fates[key] = counts
            return counts

    def _verdict(
        self, key: _Key, job: Mapping[str, Any], event: Mapping[str, Any]
    ) -> tuple[Any, BaseException | None]:
        """Return the result of an attempt, or the error that it failed with."""
        worker, task_id, fence = key
        about = job["about"]
        info = AttemptInfo(task_id, fence, about["allocation"], lambda _: None)
        task = Task("test", about["payload"], metadata=about["metadata"])
        attempt = SuiteAttempt(worker, self._folder, task, info, about["began"])
        try:
            return attempt.end_late(event), None
        except Exception as raised:  # noqa: BLE001 - it is the end of the attempt
            return None, raised
