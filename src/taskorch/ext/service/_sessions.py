"""
Sessions: the state of each worker that has said hello to the service.

Every message may be lost, or come twice. So important messages are repeated: an order
that a worker does not name when it asks for work, a request to stop that it has not
followed. A worker does nothing twice, and the name of an order, which no other has had,
tells what is current. An attempt that is begun again, as a recovery wishes, is another
order.
"""

from __future__ import annotations

import hmac
import re
import secrets
import threading
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import BrokenExecutor
from itertools import count
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import attrs

from taskorch.core.executors.programs import (
    as_declared,
    failure_of,
    spending_of,
)
from taskorch.core.workers._manager import WorkerManager
from taskorch.core.workflows._writing import write_work
from taskorch.errors import (
    AttemptInterrupted,
    InvalidTaskError,
    NotRunningError,
    TaskFailedError,
    UnknownTaskError,
)
from taskorch.ext.service._waiting import Waiter
from taskorch.model import Agent, Program, ProgramResult, Resources, Task
from taskorch.protocols import Attempt, AttemptExecutor

if TYPE_CHECKING:
    from taskorch.ext.suites._elsewhere import EndsKept

#: The name of an attempt on the wire: incarnation, number, mark of the order, task.
_NAME: Final = re.compile(r"([0-9]{1,18})\.([0-9]{1,18})\.\w+:(.*)", re.DOTALL)
#: The number of ends of a worker that are kept, in case it reports them again.
_ENDS: Final = 10_000

#: The fate of a result: it counts; its attempt had been given up, so that it is kept
#: without an effect; or the worker had no such attempt.
Fate: TypeAlias = Literal["counted", "late", "unknown"]


@attrs.frozen
class Result:
    """
    The report of a worker on the end of an attempt.

    Attributes:
        attempt: The name of the attempt.
        outcome: How it ended.
        value: The returned value.
        error: The class of the raised error, and its message.
        program: How its program ended, but for its arguments, if it was one.
        spent: Lines with its reports of spending.
    """

    attempt: str
    outcome: Literal["completed", "failed", "stopped"]
    value: Any = None
    error: tuple[str, str] = ("", "")
    program: Mapping[str, Any] | None = None
    spent: tuple[str, ...] = ()


@attrs.define(eq=False)
class _WorkerOrder:
    """An attempt on its way to a worker, or there."""

    attempt: Attempt
    #: The order as the worker gets it.
    said: Mapping[str, Any]
    #: The program to run.
    program: Program | None
    is_sent: bool = False
    is_to_stop: bool = False
    #: The time, in seconds, at which the worker named it last, or got it first; 0:
    #: never.
    since: float = 0.0

    @property
    def key(self) -> tuple[str, int]:
        """Task and number of the attempt, as `orch.agents` has them."""
        return self.attempt.task_id, self.attempt.number


def _parsed(name: str) -> tuple[str, tuple[int, int]] | None:
    """The task and the fence of an attempt of this name; None if there can be none."""
    match = _NAME.fullmatch(name)
    return None if match is None else (match[3], (int(match[1]), int(match[2])))


class WorkerSession(AttemptExecutor[str]):
    """
    The executor of one worker elsewhere: attempts wait until the worker asks.

    Args:
        agents: Where it is told what is heard of the worker.
        info: The description of the worker.
        secret: A secret that only the worker knows, so that no other speaks for it.
        late: Takes ends of attempts of an earlier incarnation; None: *agents*.
    """

    def __init__(
        self,
        workers: WorkerManager,
        info: Agent,
        secret: str,
        late: EndsKept | None = None,
    ) -> None:
        self.info = info
        self._workers = workers
        self._late = late
        self.secret = secret
        #: The seconds of its latest heartbeat, if it has reported that.
        self.round_trip: float | None = None
        #: A part of the names of its attempts. Another incarnation without a journal
        #: has the same numbers, and a worker does not repeat attempts that it knows.
        self._mark = secrets.token_hex(4)
        #: A counter, which distinguishes two starts of one attempt.
        self._counts = count(1)
        self._lock = threading.Lock()
        self._orders: dict[str, _WorkerOrder] = {}
        #: The names of orders that were not sent, the first one first.
        self._unsent: dict[str, None] = {}
        self._ended: OrderedDict[str, Fate] = OrderedDict()
        #: The attempts to stop that it got with the last answer.
        self._told: frozenset[str] = frozenset()
        self._waiter: Waiter | None = None
        self._has_left = False

    def has(self, secret: str) -> bool:
        """Return whether *secret* belongs to the session's worker."""
        return hmac.compare_digest(secret.encode(), self.secret.encode())

    # -- from the orchestrator -----------------------------------------------------

    def begin(self, attempt: Attempt) -> str:
        """Keep *attempt* for the worker's next request."""
        task = attempt.task
        fence = "{}.{}".format(*attempt.fence)
        mark = f"{self._mark}{next(self._counts)}"
        name = f"{fence}.{mark}:{attempt.task_id}"
        order = {
            "attempt": name,
            "task_id": attempt.task_id,
            "number": attempt.number,
            "fence": fence,
            **({} if task.timeout is None else {"timeout": task.timeout}),
            **({"spends": True} if spending_of(attempt) else {}),
            **write_work(_as_declared(attempt)),
        }
        if variables := attempt.told("variables", None):
            order["variables"] = dict(variables)
        if units := attempt.told("units", None):
            order["units"] = {name: [*names] for name, names in units.items()}
        program = task.payload if isinstance(task.payload, Program) else None
        with self._lock:
            self._orders[name] = _WorkerOrder(attempt, order, program)
            self._unsent[name] = None
            self._wake()
        return name

    def stop(self, begun: str, grace: float) -> None:
        """Have the worker stop an attempt; end one that was not sent yet."""
        del grace
        with self._lock:
            order = self._orders.get(begun)
            if order is None:
                return
            order.is_to_stop = True
            if order.is_sent:
                self._wake()
                return
            self._forget(begun)
        order.attempt.end(error=AttemptInterrupted("stopped before it began"))

    # -- from the worker ------------------------------------------------------------

    def hear(
        self,
        running: Collection[str],
        *,
        asks: bool = False,
        round_trip: float | None = None,
    ) -> list[str]:
        """
        A sign of life.

        Args:
            running: The names of the attempts that it runs, and of those that it has
                ended and not told.
            asks: Whether it asks for work: then it has got all that was sent, but for
                what it does not name. That is sent again.
            round_trip: Seconds that its latest sign of life took there and back.

        Returns:
            The names of those that it should stop.
        """
        with self._lock:
            if self._has_left:
                # The worker has sent this before it left, and must not come back by it.
                return list(running)
            ignored = self._again(running) if asks else []
            named = {
                order.key: name
                for name, order in self._orders.items()
                if not order.is_sent or name in running
            }
        if round_trip is not None:
            self.round_trip = round_trip
        outdated = self._workers.beat(self.info.name, named, round_trip=round_trip)
        gone = [named[key] for key in outdated]
        for order in ignored:
            msg = f"worker {self.info.name} has given it up"
            order.attempt.end(error=BrokenExecutor(msg))
        with self._lock:
            for name in gone:
                if name in self._unsent:
                    self._forget(name)
        unwanted = self.unwanted(running)
        return [name for name in running if name in gone or name in unwanted]

    def unwanted(self, running: Collection[str]) -> list[str]:
        """Return the names of attempts that it should stop, as far as known."""
        with self._lock:
            return [
                name
                for name in running
                if self._has_left
                or (
                    self._orders[name].is_to_stop
                    if name in self._orders
                    else not self._is_awaited(name)
                )
            ]

    def _is_awaited(self, name: str) -> bool:
        """Return whether an attempt of an earlier incarnation is to go on."""
        if self._late is None:
            return False
        parsed = _parsed(name)
        return parsed is not None and self._late.is_awaited(*parsed, self.info.name)

    def _again(self, running: Collection[str]) -> list[_WorkerOrder]:
        """
        Under the lock: send again what was sent, and is not among *running*.

        Returns:
            What it has not named for a whole lease, however often that was sent: it
            has given that up, and does nothing twice. It is not sent again.
        """
        now, lease = monotonic(), self.info.lease or 0.0
        ignored = []
        for name, order in [*self._orders.items()]:
            if name in running:
                order.since = now
            elif not order.is_sent:
                continue
            elif now - order.since > lease:
                self._forget(name)
                ignored.append(order)
            else:
                order.is_sent = False
                self._unsent[name] = None
        return ignored

    def are_news(self, stops: Iterable[str]) -> bool:
        """Return whether *stops* names an attempt for the first time."""
        before, self._told = self._told, frozenset(stops)
        return not self._told <= before

    def take(self, most: int) -> list[Mapping[str, Any]]:
        """Return up to *most* orders for the worker."""
        with self._lock:
            names = [name for name, _ in zip(self._unsent, range(most), strict=False)]
            for name in names:
                del self._unsent[name]
                order = self._orders[name]
                order.is_sent = True
                order.since = order.since or monotonic()
            return [self._orders[name].said for name in names]

    def progress(self, reports: Mapping[str, Any]) -> None:
        """Take reports of progress; those of unknown attempts are ignored."""
        for name, value in reports.items():
            order = self._orders.get(name)
            if order is not None:
                order.attempt.told("progress", value)

    def end(self, results: Iterable[Result]) -> list[Fate]:
        """
        Take results of attempts; what became of each, once it is kept.

        Raises:
            JournalUnavailableError: It cannot be kept now; it may say so again.
            NotRunningError: One cannot be judged now; it is to say it again.
        """
        reported = list(results)
        with self._lock:
            orders = {r.attempt: self._orders.get(r.attempt) for r in reported}
            named = {o.key: name for name, o in orders.items() if o is not None}
        # A worker that reports the end has had the attempt until now.
        late = [named[key] for key in self._workers.beat(self.info.name, named)]
        fates: list[Fate] = []
        again: NotRunningError | None = None
        for result in reported:
            try:
                fates.append(self._end(result, is_late=result.attempt in late))
            except NotRunningError as error:
                again = error
        self._workers.keep()
        if again is not None:
            raise again
        return fates

    def _end(self, result: Result, *, is_late: bool) -> Fate:
        name = result.attempt
        with self._lock:
            if name in self._ended:
                return self._ended[name]
            order = self._orders.get(name)
            fate: Fate = "late" if is_late else "counted"
            if order is not None:
                self._forget(name)
                self._remember(name, fate)
        if order is not None:
            _count_spent(order.attempt, result)
            order.attempt.end(*_end_of(result, order.attempt.task_id, order.program))
            return fate
        fate = self._bring_late(result)
        with self._lock:
            self._remember(name, fate)
        return fate

    def _bring_late(self, result: Result) -> Fate:
        """Take a result of an attempt that the session does not have."""
        parsed = _parsed(result.attempt)
        if parsed is None:
            return "unknown"
        task_id, fence = parsed
        late = self._workers if self._late is None else self._late
        try:
            program = late.program_of(task_id)
            counts = late.bring_late(
                task_id,
                fence,
                *_end_of(result, task_id, program),
                agent=self.info.name,
            )
        except (InvalidTaskError, UnknownTaskError):
            return "unknown"
        return "counted" if counts else "late"

    def leave(self, unbegun: Iterable[str]) -> None:
        """End the session of a worker that leaves without having begun *unbegun*."""
        with self._lock:
            wanted = {*unbegun, *self._unsent}
            never = {self._orders[name].key for name in wanted if name in self._orders}
            self._orders.clear()
            self._unsent.clear()
            self._has_left = True
            self._wake()
        self._workers.leave(self.info.name, never)

    def end_here(self) -> None:
        """Close the session, as the worker has joined another orchestrator."""
        with self._lock:
            self._has_left = True
            self._wake()

    def fence_of(self, name: str) -> tuple[str, tuple[int, int]] | None:
        """The task and the fence of the attempt of this name, if the worker has it."""
        order = self._orders.get(name)
        if order is not None:
            return order.attempt.task_id, order.attempt.fence
        parsed = _parsed(name)
        if parsed is None:
            return None
        try:
            self._workers.check_made(*parsed, self.info.name)
        except (InvalidTaskError, UnknownTaskError):
            return None
        return parsed

    # -- waiting -------------------------------------------------------------------

    def await_work(self, waiter: Waiter) -> None:
        """Wake *waiter*, and no other, when there are orders."""
        with self._lock:
            self._wake()
            self._waiter = waiter
            if self._has_left:
                waiter.wake()

    def wake(self) -> None:
        """Wake the waiting request of the worker."""
        with self._lock:
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None:
            self._waiter.wake()

    def is_awaited_by(self, waiter: Waiter) -> bool:
        """Return whether *waiter* is the latest, and the worker has not left."""
        return self._waiter is waiter and not self._has_left

    # -- under the lock ------------------------------------------------------------

    def _forget(self, name: str) -> None:
        del self._orders[name]
        self._unsent.pop(name, None)

    def _remember(self, name: str, fate: Fate) -> None:
        self._ended[name] = fate
        if len(self._ended) > _ENDS:
            self._ended.popitem(last=False)


def _as_declared(attempt: Attempt) -> Task:
    """Return the task of *attempt*, whose program states all its limits."""
    task = attempt.task
    if not isinstance(task.payload, Program):
        return task
    return attrs.evolve(task, payload=as_declared(task.payload, attempt, None))


def _count_spent(attempt: Attempt, result: Result) -> None:
    """Count the reported spending of *attempt* against its budget."""
    spending = spending_of(attempt)
    if spending is not None:
        spending.take([line.encode() for line in result.spent])
        if result.program is not None and result.program["exit_code"] < 0:
            spending.take_rest()


def _end_of(
    result: Result, task_id: str, program: Program | None
) -> tuple[Any, BaseException | None]:
    """The value and the error that a result tells of."""
    if result.outcome == "stopped":
        return None, AttemptInterrupted("stopped")
    value = result.value
    if result.program is not None:
        args = () if program is None else program.args
        end = dict(result.program)
        end["limits"] = Resources.of(end.get("limits", {}))
        end["unenforced"] = tuple(end.get("unenforced", ()))
        value = ProgramResult(args, log_path=None, **end)
        if program is None:
            program = Program(["?"])
        error = failure_of(task_id, program, value, was_asked=False)
        if error is not None or result.outcome == "completed":
            return (None if error is not None else value), error
    if result.outcome == "completed":
        return value, None
    kind, message = result.error
    text = f"task {task_id} raised {kind}: {message}".removesuffix(": ")
    return None, TaskFailedError(text, type=kind, hint="", task_id=task_id)
