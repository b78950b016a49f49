"""
Troubles that no caller is told of: records of the log, and health.

Decisions: alerts-and-messages, executors.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from time import monotonic
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from taskorch.core.engine._publisher import Receiver
from taskorch.core.engine._work import (
    NEVER,
    MakesSteps,
    Work,
    detach_control,
    extra_of,
    raised_by,
)
from taskorch.core.kernel import (
    DEPENDENCY,
    Kernel,
    PoolRow,
    is_forgiven,
    is_lost,
    meaning_of,
    moves_of,
)
from taskorch.events import (
    CATALOGUE,
    VIEWS,
    Event,
    HealthReported,
    PerformanceReported,
    PolicyViolated,
    PoolRelieved,
    PoolSaturated,
    QuotaExceeded,
    QuotaRelieved,
    ReceiverFailed,
    StatsReported,
    TaskFailed,
    TaskReady,
)
from taskorch.kit.backoff import Backoff
from taskorch.kit.fence import log_of
from taskorch.kit.interrupts import defers_interrupts
from taskorch.kit.limits import ASIDE_NS, NS
from taskorch.kit.plain import SCHEDULES
from taskorch.kit.raised import trace_of
from taskorch.kit.visible import counted, said, visible
from taskorch.kit.words import some
from taskorch.model import TERMINAL, Call, HealthCheck, TaskState
from taskorch.model.ids import PHASE_LIMIT, makers_of, next_id, run_of

if TYPE_CHECKING:
    from taskorch.core.engine._governs import Governs
    from taskorch.core.engine._timer import TimerThread
    from taskorch.core.journal import MemoryJournal
    from taskorch.core.kernel import TaskRow
    from taskorch.core.signals import Signals


# -- pools that are nearly used up, and soft quotas that are exceeded ------------------

# Each is reported once, and again after it was clearly over.


_EVENTS: Final = frozenset[type[Event]](
    {PoolSaturated, PoolRelieved, QuotaExceeded, QuotaRelieved}
)
#: The share of a pool from which on it is saturated, and how far it must fall for that
#: to be over. A soft quota is over when its use is below the whole.
THRESHOLD: Final = 0.85
HYSTERESIS: Final = 0.1


class Saturation:
    """
    Reports saturated and relieved pools, and exceeded soft quotas, to listeners.

    It looks after each step, under the lock: units that are taken and given back at
    one instant are not reported.
    """

    def __init__(self) -> None:
        self.threshold: float = THRESHOLD
        self.relief: float = THRESHOLD - HYSTERESIS
        self._saturated: dict[str, None] = {}

    def look(self, kernel: Kernel, now: int, wanted: frozenset[type[Event]]) -> None:
        """Report what changed since the last look, if an event in *wanted* says so."""
        if wanted.isdisjoint(_EVENTS):
            return
        for name, pool in kernel.pools.items():
            if pool.beyond:
                self._look_at_quota(kernel, now, pool)
                continue
            if _is_limit(pool):
                continue
            if name in self._saturated:
                if pool.used < self.relief * pool.total or not pool.used:
                    del self._saturated[name]
                    kernel.note(PoolRelieved, now, name, pool.used, pool.total)
            elif pool.used and pool.used >= self.threshold * pool.total:
                self._saturated[name] = None
                kernel.note(PoolSaturated, now, name, pool.used, pool.total)

    def _look_at_quota(self, kernel: Kernel, now: int, pool: PoolRow) -> None:
        limit = pool.total - pool.beyond
        cls: type[Event]
        if pool.name in self._saturated:
            if pool.used and pool.used >= (1 - HYSTERESIS) * limit:
                return
            del self._saturated[pool.name]
            cls = QuotaRelieved
        elif pool.used > limit:
            self._saturated[pool.name] = None
            cls = QuotaExceeded
        else:
            return
        kernel.note(cls, now, *meaning_of(pool), pool.used, limit)


def _is_limit(pool: PoolRow) -> bool:
    """Return whether *pool* is a limit of a phase, or a quota, which may be used up."""
    return pool.is_quota or PHASE_LIMIT.fullmatch(pool.name) is not None


# -- what went wrong where nobody is told: records of the logger `taskorch`, and
# health

# taskorch never configures the logger: without a handler of the user's, Python prints
# warnings and errors.


_LOG: Final = log_of(__name__)
#: The id of a failed task, its error's name and message, and when it failed, in ns.
_Facts: TypeAlias = tuple[str, tuple[str, str], int]
#: Seconds between two records of the same kind.
_PAUSE: Final = 10.0
#: The most kinds of records that are kept in mind.
_MANY: Final = 1_000
#: Failed tasks that get a record each in that time, and that a line of health names.
_SHOWN: Final = 10
_NAMED: Final = 3
#: How long after a failure, and then how often, handles are counted; for how many tasks
#: at once, and for how many of their dependencies.
_PACE: Final = NS
_ROWS: Final = 1_000
_EDGES: Final = 10_000
#: Causes of failures that are reported in another way, or that a person gave.
_OF_OTHERS: Final = frozenset({"internal", DEPENDENCY})
_KNOWN: Final = _OF_OTHERS | {"decision"}
#: Modules whose listeners only show or count failures, so that nobody is told.
_VIEWS: Final = (
    # Not all of its package: a program that follows events does tell somebody.
    "taskorch.ext.notices.troubles",
    "taskorch.ext.learning.",
    "taskorch.ext.service.",
    "taskorch.ext.planner.",
    "taskorch.policies.",
    "taskorch.ext.telemetry.",
)


class Told(Protocol):
    """Protocol: hears of failures whose errors no caller was given."""

    def failed(self, task_id: str, error: tuple[str, str], at_ns: int) -> None:
        """Tell that a task failed: the name of its error, its message and the time."""
        ...

    def violated(
        self, event: PolicyViolated, violations: Sequence[tuple[str, ...]]
    ) -> None:
        """Tell of the violations in *event* that have not been told."""
        ...

    def refused(self, schedule: str, text: str, error: Exception) -> None:
        """Tell that a tick of a schedule was, or will be, refused."""
        ...

    def failing(self, schedule: str) -> str:
        """Return what is wrong with a schedule, by its runs; "" if nothing."""
        ...

    def begin(self) -> None:
        """Note that the orchestrator has started."""
        ...

    def close(self) -> None:
        """Note that nothing more comes."""
        ...


class Noticed(MakesSteps, Protocol):
    """
    Protocol: the runtime, for parts that report troubles and events.

    Attributes:
        memory: Keeps events in memory, if asked to.
        notices: Logs errors that no caller has asked for.
        room: Knows how many attempts the system has room for.
        signals: Has the listeners of the signals.
        timer: Calls at given times.
    """

    memory: MemoryJournal | None
    notices: Notices
    room: ResourceExhaustion
    signals: Signals
    timer: TimerThread
    _changing: threading.Lock

    @property
    def governor(self) -> Governs | None:
        """The policies as data; None if there are none."""
        ...


class Notices:
    """
    Logs the failures of one runtime, and reports them in its health.

    A task that failed is noted until a caller is given its error. It is logged once
    nobody has its handle any more, nor that of a task that it blocks, nor a future of
    one.
    """

    def __init__(self, rt: Noticed) -> None:
        self._rt = rt
        #: The other listener to such failures, if there is one.
        self.teller: Told | None = None
        #: Failed tasks whose error no caller has been given, by id.
        self._failed: dict[str, _Failed] = {}
        #: When these are looked at next, in ns.
        self._look_at = NEVER
        #: Failed tasks out of memory whose handles still exist.
        self._away: dict[str, weakref.finalize[Any, Work]] = {}
        #: Texts to log when the lock is free; empty for one of too many.
        self.due: deque[str] = deque()
        #: The number of tasks that were logged, and the ids of the latest.
        self._unasked = 0
        self._names: deque[str] = deque(maxlen=_NAMED)
        #: The start of the time in which records of single tasks are counted, their
        #: number, and the number of tasks without a record.
        self._since = monotonic()
        self._one_by_one = 0
        self._besides = 0
        #: The number of listeners' calls that raised, and the latest of them.
        self._raised = 0
        self._latest = ""
        #: Executors of the user's that have broken, with the error.
        self._broken: dict[str, str] = {}
        #: Names of the policies that were slow at the last look.
        self._blocked: set[str] = set()
        #: How the block ended, if it left work that could still proceed.
        self.cut_short: str = ""
        #: By kind: when it was logged last, and how often it was left out since.
        self._said: dict[object, tuple[float, int]] = {}
        self._lock = threading.Lock()
        self._is_closed = False

    # -- tasks that failed ---------------------------------------------------------

    def note_failed(self, row: TaskRow, work: Work) -> None:
        """Note that *row* has failed, or that a failure blocks it; hold the lock."""
        error = error_to_tell(self._rt.kernel, row)
        if error is None:
            return
        receivers = self._rt.publisher.receivers.get(TaskFailed, ())
        is_heard = any(map(_is_somebody, receivers))
        if is_heard and self.teller is None:
            return
        if not self._failed:
            self._look_at = self._rt.now() + _PACE
            self._rt.timer.wake_by(self._look_at)
        schedule, _ = schedule_of(self._rt.kernel.kept, row.id)
        self._enter(_Failed(row, work, error, schedule, is_heard=is_heard))

    def _enter(self, found: _Failed) -> None:
        name = found.row.id
        self._failed[name] = found
        if found.schedule:
            return
        # Another thread that was just given the error has set this mark first.
        extra = found.cargo._extra
        if extra is not None and extra.is_watched:
            self._failed.pop(name, None)

    def ask(self, work: Work) -> None:
        """Note that the error of *work* is asked for; for any thread."""
        extra_of(work).is_watched = True
        self.ask_named((work._row.id,))

    def ask_named(self, names: Iterable[str]) -> None:
        """Note that the errors of the tasks *names* are asked for."""
        for name in names:
            failed = self._failed.get(name)
            if failed is not None and failed.schedule:
                # To look at a failure of a schedule's run is not to deal with it.
                continue
            self._failed.pop(name, None)
            away = self._away.pop(name, None)
            if away is not None:
                away.detach()

    def look_for_lost(self, now: int) -> int:
        """
        Find a few failed tasks whose error no caller can ask for; hold the lock.

        Returns:
            When to look again, in ns.
        """
        if now >= self._look_at:
            is_fruitful = self._find_lost()
            if self._besides and monotonic() - self._since >= _PAUSE:
                self.hand_over()
            waits = self._failed or self._besides or self.due
            self._look_at = now + _PACE if waits else NEVER
            if is_fruitful and len(self._failed) > _ROWS:
                # There are very many of them, and each takes memory.
                self._look_at = now + _PACE // 64
        return self._look_at

    def _find_lost(self) -> bool:
        """Look at the first in the table; return whether one was lost."""
        committed, most, is_fruitful = self._rt.committed, _EDGES, False
        for found in list(islice(self._failed.values(), _ROWS)):
            if self._failed.pop(found.row.id, None) is None or _goes_well(found.row):
                continue
            if found.cargo._visible_after <= committed:
                if found.schedule:
                    is_fruitful = True
                    self._put(found)
                    continue
                held, most = _held((found,), most)
                if found.row not in held:
                    is_fruitful = True
                    if not _is_dealt_with(found.row):
                        self._put(found)
                    continue
            # It goes to the end, so that the others have their turn.
            self._enter(found)
            if most < 0:
                break
        return is_fruitful

    def _put(self, found: _Failed) -> None:
        self._pass_on(found.facts)
        if found.is_heard:
            return
        self._count(found.row.id)
        # Making the text takes longer than all the rest.
        text = self._text(found) if len(self.due) < _SHOWN else ""
        self.due.append(text)

    def _text(self, found: _Failed) -> str:
        return _told(found)

    def _pass_on(self, facts: _Facts) -> None:
        """Tell the teller of a failure whose error no caller was given."""
        if self.teller is not None:
            self.teller.failed(*facts)

    def forget(self, name: str, work: Work) -> None:
        """Log the error of evicted *work* once its handle is gone; hold the lock."""
        found = self._failed.pop(name, None)
        if found is not None and found.schedule:
            found.cargo = work
            self._put(found)
        elif found is not None and not _is_dealt_with(found.row):
            # The error itself is not kept: its frames may hold the handle, which then
            # stays.
            text = "" if found.is_heard else self._text(found)
            gone = weakref.finalize(work, self._gone, name, text, found.facts)
            self._away[name] = gone

    @defers_interrupts
    def _gone(self, name: str, text: str, facts: _Facts) -> None:
        if self._away.pop(name, None) is not None:
            self._pass_on(facts)
            if not text:
                return
            self._count(name)
            self.due.append(text)
        # A finalizer runs anywhere, so until the end the log's handlers are called
        # later.
        if self._is_closed:
            self.say_due()

    def hand_over(self) -> None:
        """Have the publisher's thread log all that is due; hold the lock."""
        self._rt.publisher.put([(self.say_due, None)])

    def say_due(self, _nothing: None = None) -> None:
        """Log all that is due, on the publisher's thread or at the end."""
        if monotonic() - self._since >= _PAUSE:
            self._say_besides()
        while self.due:
            text = self.due.popleft()
            if text and self._one_by_one < _SHOWN:
                self._one_by_one += 1
                _LOG.error("%s", text)
            else:
                self._besides += 1

    def _say_besides(self) -> None:
        more, self._besides, self._one_by_one = self._besides, 0, 0
        self._since = monotonic()
        if more:
            tasks = counted(more, "more task")
            whose = "its result" if more == 1 else "their results"
            _LOG.error("%s failed, and nobody asked for %s", tasks, whose)

    def close(self) -> None:
        """Log the failed tasks whose error nobody can ask for, at the stop."""
        self._is_closed = True
        failed, self._failed = self._failed, {}
        held, _ = _held(failed.values(), NEVER)
        for name, found in failed.items():
            is_dealt_with = not found.schedule and _is_dealt_with(found.row)
            if is_dealt_with or _goes_well(found.row):
                continue
            if found.row in held and not found.schedule:
                # The handle exists, and its error may be asked for until the exit.
                if found.is_heard:
                    continue
                text = self._text(found)
                ending = weakref.finalize(found.cargo, _LOG.error, "%s", text)
                self._away[name] = ending
            else:
                self._put(found)
        self.say_due()
        self._say_besides()
        if self.teller is not None:
            self.teller.close()

    def _count(self, name: str) -> None:
        self._unasked += 1
        self._names.append(name)

    # -- others --------------------------------------------------------------------

    def receiver_failed(self, receiver: Receiver, error: BaseException) -> None:
        """Log that a listener or a callback raised *error*."""
        what, where = _who(receiver)
        self._raised += 1
        self._latest = f"{receiver.name}: {type(error).__name__}"
        text = f"{what}{where}, {receiver.name}, raised {type(error).__name__}"
        self._say((receiver.signal, receiver.name), text, error)

    def executor_broke(self, name: str, error: BaseException) -> None:
        """Log that an executor of the user's broke."""
        kind, message = said(error)
        self._broken[name] = f"{kind}: {message}"
        text = f"the executor {name!r} broke, and what ran there is lost: {message}"
        self._say(("executor", name), text, error)

    def executor_works(self, name: str) -> None:
        """Note that the executor *name* accepts work."""
        if self._broken:
            self._broken.pop(name, None)

    def journal_ails(self, why: str) -> None:
        """Log a fault of the journal that does not prevent writing."""
        self._say("journal", why)

    def policy_was_slow(self, slow: tuple[str, float]) -> None:
        """Log a policy that took long, by its name and its seconds."""
        name, seconds = slow
        self._say(("slow", name), f"the {name} took {seconds:.1f} s for one answer")

    def receiver_was_slow(self, receiver: Receiver, seconds: float) -> None:
        """Log a listener or callback that took long; others did not wait for it."""
        what, where = _who(receiver)
        text = f"{what}{where}, {receiver.name}, took {seconds:.1f} s for one call"
        self._say(("slow", receiver.signal, receiver.name), text)

    def are_blocked(self, found: Mapping[str, str]) -> None:
        """Log the policies and coroutines that block all others now, and why."""
        for name in self._blocked - found.keys():
            self._blocked.discard(name)
            _LOG.info("the %s answers again, and holds nobody up any more", name)
        for name, text in found.items():
            self._blocked.add(name)
            self._say(("blocked", name), text)

    def no_room(self, why: str) -> None:
        """Log that the system has no room for an attempt that was to begin."""
        text = f"the system has no room for more, and it is tried again: {why}"
        self._say("room", text)

    def has_room(self) -> None:
        """Log that the system has room again."""
        _LOG.info("the system has room again for all that may run at once")

    def _say(self, kind: object, text: str, error: BaseException | None = None) -> None:
        """Write a record, unless one of this *kind* was written a moment ago."""
        with self._lock:
            now = monotonic()
            since, untold = self._said.get(kind, (now - _PAUSE, 0))
            if now - since < _PAUSE:
                self._said[kind] = since, untold + 1
                return
            if len(self._said) > _MANY:
                self._said.clear()
            self._said[kind] = now, 0
        more = f" (and {untold} times before, since it was last said)" if untold else ""
        _LOG.error("%s%s", visible(text), more, exc_info=error)

    # -- health --------------------------------------------------------------------

    def receivers(self) -> list[str]:
        """Return the lines of health about listeners."""
        count = self._raised
        what = "1 call" if count == 1 else f"{count} calls"
        return [f"{what} raised, the last {self._latest}"] if count else []

    def checks(self) -> list[HealthCheck]:
        """Return the health checks that are rarely needed."""
        room = self._rt.room.check()
        found = [] if room is None else [room]
        if self._broken:
            said = "; ".join(
                f"{name} broke: {why}" for name, why in self._broken.copy().items()
            )
            found.append(HealthCheck("executors", "degraded", said))
        failed = [n for n, row in self._failed.copy().items() if not row.is_heard]
        count = self._unasked + len(failed) + len(self._away)
        if count:
            names = [*self._names, *failed, *self._away][-_NAMED:]
            detail = f"{counted(count, 'task')} failed, and nobody has asked for the "
            detail += f"result: {', '.join(names)}{', …' if count > len(names) else ''}"
            found.append(HealthCheck("failures", "ok", detail))
        return found


def _who(receiver: Receiver) -> tuple[str, str]:
    """Return what *receiver* is, and its signal."""
    if receiver.signal == "done":
        return "a done-callback", ""
    if receiver.is_projection:
        return "a projection", ""
    return "a receiver", f" of {receiver.signal}"


def _is_somebody(receiver: Receiver) -> bool:
    """Return whether *receiver* is more than a view of ours or a projection."""
    module = getattr(receiver.call, "__module__", None)
    is_view = isinstance(module, str) and module.startswith(_VIEWS)
    return not (is_view or receiver.is_projection)


def error_to_tell(kernel: Kernel, row: TaskRow) -> tuple[str, str] | None:
    """
    Return the type and message of the error of *row*, which failed or is blocked.

    Return None if no record of it is needed.
    """
    error = _error_in(row)
    if error is None or is_forgiven(row):
        return None
    cause = error[2]
    if cause != "internal" and (row.run or schedule_of(kernel.kept, row.id)[0]):
        # Its run has failed, whatever runs after it, and whoever decided that.
        is_known = cause == DEPENDENCY and _is_told_of_another(kernel, row)
    else:
        is_known = cause in _KNOWN or _is_dealt_with(row)
    return None if is_known else error[:2]


def _error_in(row: TaskRow) -> tuple[str, str, str] | None:
    """Return the type, message and cause of the failure that ended or blocks *row*."""
    extra = row.extra
    if extra is None or row.state is TaskState.FAILED:
        return None if extra is None else extra.error
    if row.state is not TaskState.BLOCKED or not extra.blocked_by:
        return None
    text = f"it is blocked: {some([*extra.blocked_by])} did not complete"
    return "DependencyFailedError", text, DEPENDENCY


def _goes_well(row: TaskRow) -> bool:
    """Return whether nothing blocks *row* any more; a stop cancels what is blocked."""
    was_blocked = row.extra is not None and row.extra.first_roots
    is_cancelled = row.state is TaskState.CANCELLED and was_blocked
    return not is_cancelled and _error_in(row) is None


def _is_told_of_another(kernel: Kernel, row: TaskRow) -> bool:
    """Return whether a task of its run that failed, or was cancelled, is the cause."""
    run = row.run or row.id
    above = {} if row.links is None else {each.id: each for each in row.links.parents}
    for name in () if row.extra is None else row.extra.first_roots:
        # A later run of it may have mended that, and what it blocks is still blocked.
        while (later := next_id(name)) in kernel.tasks:
            name = later  # noqa: PLW2901 - the latest run counts
        root = above.get(name) or kernel.tasks.get(name)
        if root is None:
            is_cause = run_of(name) == run
        else:
            # A run in which a task was cancelled, and none failed, is cancelled.
            is_cause = root.run == run and not is_forgiven(root)
            is_cause &= root.state is not TaskState.COMPLETED
            is_cause &= TaskState.FAILED is root.state or row.state is TaskState.BLOCKED
        if is_cause:
            return True
    return False


def schedule_of(kept: Mapping[str, Mapping[str, str]], task_id: str) -> tuple[str, str]:
    """
    Return the schedule that made a task, or its run of a workflow, and the tick.

    Both are "" if none of the schedules in the documents *kept* made it.
    """
    schedules = kept.get(SCHEDULES)
    if schedules:
        for name, slot, _ in makers_of(task_id):
            if name in schedules:
                return name, slot
    return "", ""


def _is_dealt_with(row: TaskRow) -> bool:
    """Return whether another task goes on after the failure of *row*, of no run."""
    below = () if row.run or row.links is None else row.links.dependents
    return any(map(_goes_on, below))


def _goes_on(child: TaskRow) -> bool:
    terms = None if child.links is None else child.links.terms
    return terms is not None and (terms.on_failure == "run" or not is_lost(child))


class _Failed:
    """A failed task, whose row lets go of the work when it leaves memory."""

    __slots__ = ("cargo", "facts", "is_heard", "row", "schedule")

    def __init__(
        self,
        row: TaskRow,
        work: Work,
        error: tuple[str, str],
        schedule: str,
        *,
        is_heard: bool,
    ) -> None:
        self.row = row
        self.cargo = work
        self.facts: _Facts = row.id, error, moves_of(row)[-1][1]
        #: The schedule that made it, whose failures are always logged; or "".
        self.schedule = schedule
        #: Whether a listener of the user's has heard of it.
        self.is_heard = is_heard


def _count_references(owner: Any) -> int:
    return sys.getrefcount(owner.cargo)


#: The count for a work to which only its owner refers.
_OWN_REFERENCES: Final = _count_references(SimpleNamespace(cargo=object()))


def _held(failed: Iterable[_Failed], most: int) -> tuple[Collection[TaskRow], int]:
    """
    Return the tasks of *failed* whose error can still be asked for; hold the lock.

    It can if there is a handle of the task, or of one that it blocks, however far: the
    error of that leads to this one. At most *most* dependencies are looked at; beyond
    that, all tasks are returned.

    Returns:
        The tasks, with others that are blocked; and the rest of *most*.
    """
    #: The objects that refer to the work, for failed tasks and those they block.
    owners: dict[TaskRow, Any] = {found.row: found for found in failed}
    #: The number of our other references to a work, by its `id()`.
    ours = Counter(id(row.cargo) for row in owners if row.cargo is not None)
    seen = set(owners)
    region = list(owners)
    for row in region:
        for child in () if row.links is None else row.links.dependents:
            most -= 1
            if child in seen or child.cargo is None:
                continue
            seen.add(child)
            needed = list(_needed_ids(child.cargo))
            most -= len(needed)
            if most < 0:
                return owners, most
            ours.update(needed)
            if child.state not in TERMINAL:
                owners[child] = child
                region.append(child)
    todo = [
        row
        for row, owner in owners.items()
        if _count_references(owner) > _OWN_REFERENCES + ours[id(owner.cargo)]
    ]
    held = set(todo)
    for row in todo:
        for parent in () if row.links is None else row.links.parents:
            if parent not in held:
                held.add(parent)
                todo.append(parent)
    return held, most


def _needed_ids(work: Work) -> Iterator[int]:
    """Yield the `id()` of each object that *work* refers to as a dependency."""
    yield from map(id, work._above)
    yield from _ids_in(work._args)
    yield from _ids_in(tuple(work._kwargs.values()))
    task = work._task
    if task is None:
        return
    if (
        type(task.after) in (list, tuple)
        and sys.getrefcount(task.after) <= _OWN_REFERENCES
    ):
        yield from map(id, task.after)
    payload = task.payload
    if type(payload) is Call:
        if payload.args is not work._args:
            yield from _ids_in(payload.args)
        if payload.kwargs is not work._kwargs:
            yield from _ids_in(tuple(payload.kwargs.values()))


def _ids_in(things: tuple[Any, ...]) -> Iterator[int]:
    """Yield ids of *things*, and of items of lists that only we refer to."""
    for place in range(len(things)):
        each = things[place]
        yield id(each)
        # The name is one more reference.
        if type(each) is list and _count_of_item(things, place) <= _IN_ONE + 1:
            yield from map(id, each)


def _count_of_item(things: tuple[Any, ...], place: int) -> int:
    return sys.getrefcount(things[place])


#: The count for a list that is in a tuple, and nowhere else.
_IN_ONE: Final = _count_of_item(([],), 0)


def _told(found: _Failed) -> str:
    error, (name, described, _) = raised_by(found.cargo), found.facts
    trace = ": ".join(described) if error is None else trace_of(error).rstrip()
    if found.schedule:
        return visible(f"task {name} of the schedule {found.schedule} failed:\n{trace}")
    return visible(f"task {name} failed, and nobody asked for its result:\n{trace}")


# -- who listens to what: the events that listeners want are noted, and no others ------


#: Events that are reported at an interval, if they have listeners.
MONITORING: Final = (StatsReported, HealthReported, PerformanceReported)


def receivers_changed(rt: Noticed) -> None:
    """Listen to the events that listeners want now, and to no others."""
    rt.deciders.refuse_reentry()
    with rt._changing:
        _listen(rt)


@defers_interrupts
def _listen(rt: Noticed) -> None:
    old = {
        (cls, id(receiver.call)): receiver
        for cls, receivers in rt.publisher.receivers.items()
        for receiver in receivers
    }
    wanted: dict[type[Event], tuple[Receiver, ...]] = {
        cls: tuple(old.get((cls, id(call))) or Receiver(name, call) for call in calls)
        for cls, (name, calls) in rt.signals.connected().items()
    }
    for following in rt.publisher.projections:
        for cls in following.classes:
            wanted[cls] = (*wanted.get(cls, ()), following)
    facts = {
        fact: None
        for fact, views in VIEWS.items()
        if not wanted.keys().isdisjoint(views)
    }
    keep = rt.memory is None or rt.memory.keep_events
    heard = frozenset[type[Event]]() if rt.governor is None else rt.governor.wants
    with rt.lock:
        rt.publisher.receivers = wanted
        rt.wanted = frozenset(facts)
        if not rt.opened:
            # The events of earlier incarnations are not published.
            return
        sink = rt.kernel.sink
        if sink is None and (facts or keep or heard):
            sink = []
        elif not (facts or keep or heard):
            sink = None
        classes = frozenset(CATALOGUE if keep else facts) | heard
        rt.kernel.listen(sink, classes, ready=TaskReady in facts)
    rt.timer.monitor(any(cls in wanted for cls in MONITORING))


def receiver_failed(rt: Noticed, receiver: Receiver, error: BaseException) -> None:
    """Log and record that a listener raised."""
    rt.notices.receiver_failed(receiver, error)
    described = said(error)
    rt.step(
        lambda now: rt.kernel.note(
            ReceiverFailed, now, receiver.signal, receiver.name, *described
        )
    )


# -- starts that the system refuses for want of threads, processes or descriptors ------

# Such a start is tried again, and does not count as a try. While there is no room, no
# more attempts may run at once than do now; after a pause one more is tried, then more
# and more. A task whose start was refused steps aside for a while, so that tasks which
# need less get their turn.


#: Pauses between two looks whether there is room again.
_PAUSES: Final = Backoff(0.05, 1.0)
#: The longest time for which a task steps aside, in ns.
_LONGEST_ASIDE: Final = 30 * NS
_HINT: Final = (
    "lower concurrency=, or raise the limits (ulimit -u, ulimit -n, or the pids limit "
    "of the container)"
)


class ResourceExhaustion:
    """Limit of the running attempts while the system has no room for more."""

    def __init__(self, rt: Noticed) -> None:
        self._rt = rt
        #: The reason why there is no room; empty if there is.
        self._why = ""
        #: The start of the lack, and until when the task that was refused last steps
        #: aside.
        self._since = self._aside_until = 0
        #: When to look again, in ns, and how often that was put off.
        self.due: int = NEVER
        self._delays = 0
        #: The number of further attempts that are tried next.
        self._step = 1

    def refuse(
        self, row: TaskRow, attempt: int, work: Work, error: BaseException
    ) -> None:
        """Defer the start of an attempt for which the system has no room."""
        rt = self._rt
        why = getattr(error, "strerror", None) or said(error)[1]

        def change(now: int) -> bool:
            described = (type(error).__name__, why)
            is_new, self._why = not self._why, why
            if is_new:
                self._since = now
            aside = min(max(ASIDE_NS, now - self._since), _LONGEST_ASIDE)
            self._aside_until = now + aside
            rt.kernel.limit(rt.kernel.room, aside)
            rt.kernel.end_attempt(row, attempt, "unstarted", now, None, described)
            detach_control(work, attempt)
            rt.kernel.limit(min(rt.kernel.room, rt.kernel.running), aside)
            if is_new:
                self._delays = 0
            elif self._step > 1 or now >= self.due:
                self._delays += 1
            self._step = 1
            self.due = now + self._pause()
            rt.timer.wake_by(self.due)
            return is_new

        if rt.step(change):
            rt.notices.no_room(f"{why}; {_HINT}")

    def try_more(self, now: int) -> bool:
        """Try more attempts if due; return whether there is room again."""
        if now < self.due:
            return False
        kernel = self._rt.kernel
        most = kernel.config.concurrency
        if kernel.room >= most and now < self._aside_until:
            # The tasks that stepped aside are tried again before that is known.
            self.due = self._aside_until + self._pause()
            return False
        if kernel.room >= most:
            # All attempts that were to begin since the last look have begun.
            self._why, self.due = "", NEVER
            kernel.limit(most)
            return True
        kernel.limit(kernel.room + self._step, kernel.aside_ns)
        self._step *= 2
        self.due = now + self._pause()
        return False

    def _pause(self) -> int:
        return int(_PAUSES.after(self._delays) * NS)

    def check(self) -> HealthCheck | None:
        """Return the health check, while there is too little room."""
        if not self._why:
            return None
        room, most = self._rt.kernel.room, self._rt.kernel.config.concurrency
        many = f"room for {counted(room, 'attempt')} at once, of {most}"
        if room >= most:
            many = "no room for some that step aside"
        said = f"the system has {many}: {self._why}; {_HINT}"
        return HealthCheck("room", "degraded", said)
