"""Starts, drains and stops, and the signals that cause them."""

from __future__ import annotations

import atexit
import math
import os
import signal
import threading
import warnings
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Any, Final, TypeVar

from taskorch.core.engine._asyncio import asyncio
from taskorch.core.engine._context import AttemptContext, current_or_none
from taskorch.core.engine._loops import Latch, release_if_mine, wait_for_lock
from taskorch.core.engine._runtime import Runtime
from taskorch.core.kernel import Bucket, PolicyFault, TaskRow, is_under_way
from taskorch.errors import (
    InvalidTaskError,
    InvalidTransitionError,
    NotRunningError,
    UsageError,
)
from taskorch.events import OrchestratorStarted, OrchestratorStopped
from taskorch.kit import interrupts
from taskorch.kit.backoff import Backoff
from taskorch.kit.fence import log_of
from taskorch.kit.frozen import frozen
from taskorch.kit.interrupts import INTERRUPTS, StopSignal
from taskorch.kit.limits import NS, SERVICE_SECONDS
from taskorch.kit.visible import counted, show, visible
from taskorch.model import TERMINAL, StopReport, TaskState, Unfinished

# -- starting and stopping -------------------------------------------------------------


T = TypeVar("T")

_LOG: Final = log_of(__name__)
#: Runtimes that were started and not stopped, for the interpreter's exit.
_OPEN: Final[weakref.WeakSet[Runtime]] = weakref.WeakSet()
#: Seconds beyond the grace period of the attempts that each part has to end: killed
#: programs, a slow disk, and the timer, which may ask policies.
_MARGIN: Final = 2.0
_PROGRAM_MARGIN: Final = 5.0
_JOURNAL_MARGIN: Final = 5.0
_TIMER_MARGIN: Final = 5.0
#: Seconds that the exit of the process waits for an orchestrator that was not stopped.
_EXIT: Final = 1.0
#: Seconds that each part has at the least: it mostly needs less, and then nothing is
#: left behind for lack of time.
_MOMENT: Final = 0.05
#: The largest part of the time of a stop that the drain leaves to the grace period.
_GRACE_SHARE: Final = 0.25
#: States that wait for a person or an event, so that no exit waits for them.
_OUTSIDE: Final = frozenset({TaskState.BLOCKED, TaskState.SUSPENDED})
#: Seconds between two looks of a wait for a shorter time limit.
_SLICE: Final = 0.2
#: Seconds after which a drain reports what it waits for; the next report comes after
#: twice as many.
_SILENCES: Final = Backoff(5.0, math.inf)
#: The most tasks and the most reasons that a report names.
_NAMED: Final = 3
_REASONS: Final = 10
_NOT_CLOSED: Final = (
    "the journal is not closed yet, since its disk or server does not answer: "
    "until it does, the next start with it may be refused"
)


def _after_fork() -> None:
    """Give up the parent's runtimes, in the child of a fork."""
    for runtime in list(_OPEN):
        # A thread of the parent's may have held the lock, and does not exist here.
        runtime.lock, runtime.opening = threading.Lock(), threading.RLock()
        runtime.deciders.asking = runtime.deciders.forked = -1
        _OPEN.discard(runtime)
    interrupts.forget()


os.register_at_fork(after_in_child=_after_fork)


@atexit.register
def _at_exit() -> None:
    """
    Stop the runtimes that were not stopped, and hardly wait for that.

    Attempts of a durable orchestrator are interrupted, as by a crash, and their tasks
    go on in its next incarnation. A submission by a `__del__` after this is refused:
    the threads that would have to answer end silently.
    """
    for runtime in list(_OPEN):
        said = (
            "a TaskOrchestrator was started and never stopped: use it in a with block"
        )
        lifecycle: Lifecycle = runtime.lifecycle
        try:
            report = lifecycle.stop(drain=False, timeout=_EXIT)
            runtime.attempts.close(_PROGRAM_MARGIN)
            lifecycle.say_left(report, "the process ended")
        except Exception as error:  # noqa: BLE001 - the others are to end as well
            said = f"{said} ({type(error).__name__}: {error})"
        # A ResourceWarning would be hidden by default.
        warnings.warn(said, RuntimeWarning, stacklevel=1)


def open_runtime(what: str) -> Runtime:
    """
    Return the orchestrator that is to run *what*, where none is named.

    It is that of the task that the caller is part of, or else the only one that is open
    in this process.

    Raises:
        NotRunningError: None is open, or several are.
    """
    context: object = current_or_none()
    # In another process, the task has a copy of its context.
    runtimes = [context._rt] if isinstance(context, AttemptContext) else list(_OPEN)
    if len(runtimes) == 1:
        return runtimes[0]
    many = (
        "no orchestrator is open" if not runtimes else "several orchestrators are open"
    )
    msg = f"{what}.submit: {many} in this process"
    hint = f"say which one: orch.submit({what}, …), or decorate it with @orch.task"
    if not runtimes:
        hint = f"call it in `with orch:`, or after orch.start(); or {hint}"
    raise NotRunningError(msg, hint=hint)


def _begin_threads(rt: Runtime) -> None:
    """
    Start the timer's and the committer's thread, while an error can be raised.

    Raises:
        NotRunningError: The system has none.
    """
    try:
        with rt.lock:
            rt.timer.begin()
            if rt.committer is not None:
                rt.committer.begin()
    except RuntimeError as error:
        interrupts.unguard(rt)
        msg = f"the orchestrator cannot start: the system has no thread: {error}"
        hint = "end others, or raise the limit (ulimit -u); then start() again"
        raise NotRunningError(msg, hint=hint) from error


class Lifecycle:
    """
    The one start and the one stop of an orchestrator.

    Tasks that have not ended by then are cancelled; a durable orchestrator leaves them
    to its next incarnation.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._rt = runtime
        runtime.lifecycle = self
        # An RLock knows the thread that holds it: see release_if_mine.
        self._lock = threading.RLock()
        self._is_stopping = False
        self._report: StopReport | None = None
        #: The time limit of the stop that is under way; None if it has none.
        self._end: float | None = None
        #: Whether a drain was interrupted: the next interrupt ends it for good.
        self._was_interrupted = False
        #: The interrupt that came after the drain, or in a second one.
        self._interrupt: BaseException | None = None
        #: The signal that asked for the end, if one came: see `stop_on`.
        self.stop_signal: interrupts.StopSignal | None = None
        #: Whether somebody has said how long the end of a service may take, and that.
        self._has_limit = False
        self._service_timeout: float | None = SERVICE_SECONDS
        #: Seconds that such an end may take, and whether it drains the queue, too.
        self.signal_timeout: float = 0.0
        self.signal_drains = True

    @property
    def is_over(self) -> bool:
        """Whether the orchestrator has stopped, or is about to."""
        return self._rt.closed

    def limit_service(self, timeout: float | None) -> bool:
        """Let the end of a service take so long; return False if it has a limit."""
        if not (has_limit := self._has_limit):
            self._has_limit, self._service_timeout = True, timeout
        return not has_limit

    def end_service(self, *, leaves_queue: bool) -> str:
        """
        Stop what a command serves: what runs may end, maybe the queue, too.

        Returns:
            A text on what was left.
        """
        if leaves_queue:
            self.leave_queue()
        timeout = self._service_timeout
        try:
            report = self.stop(drain=True, timeout=timeout)
        except INTERRUPTS:
            report = self.stop(drain=False, timeout=timeout)
        self.say_left(report, "the service ended")
        return self.text_of_left(report)

    @property
    def is_stopping(self) -> bool:
        """Whether a stop is under way."""
        return self._is_stopping

    def signal_left(self) -> float:
        """Return the seconds that an end which a signal caused may still take."""
        came = monotonic() if self.stop_signal is None else self.stop_signal.at
        return max(0.0, came + self.signal_timeout - monotonic())

    @interrupts.defers_interrupts
    def start(self, restore: Callable[[], object]) -> None:
        """
        Begin work; tasks that were submitted before start now.

        If there is a journal, *restore* is called before that, once it has been read.
        A start that fails, or during which `stop` is called, leaves nothing open.
        Ctrl-C while it waits ends that wait alone.

        Raises:
            NotRunningError: The system has no thread: this may be tried again. Or it
                was stopped meanwhile.
        """
        rt = self._rt
        with rt.opening:
            if rt.started:
                return
            rt.refuse_submission()
            interrupts.guard(rt)
            # Nothing is claimed yet, so that this may fail and be tried again.
            _begin_threads(rt)
            _OPEN.add(rt)
            try:
                if rt.committer is None:
                    rt.note(OrchestratorStarted)
                else:
                    if not rt.opened:
                        rt.open()
                    # An interrupt may have ended the opening before that.
                    rt.carry_out_declared()
                    restore()
                    if rt.output is not None:
                        rt.output.begin()
                rt.begin_work()
                if rt.notices.teller is not None:
                    rt.notices.teller.begin()
            except BaseException as error:
                # Ctrl-C in a wait leaves it usable: start it again, or stop it.
                if rt.closed or not isinstance(error, INTERRUPTS):
                    self.end_start()
                raise

    def stop(self, *, drain: bool, timeout: float | None) -> StopReport:
        """
        Stop the orchestrator; a second call returns the first one's report.

        Of two threads that call it at once, the less patient one decides.

        Args:
            drain: Whether to wait until nothing can proceed.
            timeout: Seconds for all of it; None is for ever.

        Raises:
            WouldBlockError: The caller is on the loop that must do the work.
            WouldDeadlockError: The caller is a task, which would wait for itself.
            KeyboardInterrupt: It came while this waited: in the drain, which is over
                then, and nothing has stopped; in the drain of a second call, and what
                ran was asked to stop; or later, and the rest was done without waiting.
            SystemExit: A stop signal came, at one of these moments.
        """
        if self._report is not None:
            return self._report
        if timeout is None and self.stop_signal is not None:
            timeout = self.signal_left()
        self._rt.waiting.refuse_within("stop()")
        end = None if timeout is None else monotonic() + timeout
        # Of two listeners that call this, neither waits for the other.
        with self._rt.publisher.excused():
            if not drain and self._is_stopping:
                self.hurry()
            try:
                if not _take_lock(self._lock, end):
                    self.give_up()
                    _take_lock(self._lock, None)
                report = self._stop(end, drain=drain)
            finally:
                self._is_stopping = False
                release_if_mine(self._lock)
        self._raise_interrupt()
        return report

    @property
    def leaves_queue(self) -> bool:
        """Return whether a signal came that waits for running attempts only."""
        return self.stop_signal is not None and not self.signal_drains

    @interrupts.defers_interrupts
    def leave_queue(self) -> None:
        """Begin no more attempts: the drain ends with those that run."""
        rt = self._rt
        if not rt.started:
            return

        def change(_now: int) -> None:
            rt.kernel.pause()
            rt.begins = False

        rt.step(change)

    def hurry(self) -> None:
        """End the drain that is under way; the grace period, if the drain is over."""
        if self._rt.closed:
            self.give_up()
        else:
            self._rt.waiting.hurry()

    def give_up(self) -> None:
        """End all waits of a stop that is under way."""
        self._end = monotonic()
        self._rt.waiting.hurry()

    def _left(self, most: float) -> float:
        """Return how many of *most* seconds a wait may take now."""
        return (
            most if self._end is None else min(most, max(0.0, self._end - monotonic()))
        )

    def _wait(
        self, wait: Callable[[float], T], most: float, least: float = _MOMENT
    ) -> T | None:
        """
        Wait for up to *most* seconds within the time limit; in any case for *least*.

        An interrupt ends it, and leaves no time for the waits after it.
        """
        try:
            return _interruptibly(wait, max(self._left(most), least))
        except interrupts.INTERRUPTS as interrupt:
            self._interrupt = interrupt
            self._end = monotonic()
            return None

    def _stop(self, end: float | None, *, drain: bool) -> StopReport:
        if self._report is not None:
            return self._report
        self._end, self._is_stopping = end, True
        drained = False
        if not self._rt.started:
            # An opening or a start that is under way ends at its next step.
            self._rt.closed = True
        elif drain:
            self._rt.submit_rest()
            self._rt.draining = True
            if self.leaves_queue:
                self.leave_queue()
            try:
                drained = self._drain()
            except interrupts.INTERRUPTS as interrupt:
                self._rt.draining = False
                if not self._was_interrupted:
                    self._was_interrupted = True
                    raise
                # The user does not want to wait, and after this nobody can stop it
                # again.
                self._interrupt = interrupt
        return self._finish(drained)

    @interrupts.defers_interrupts
    def _finish(self, drained: bool) -> StopReport:
        opening = self._rt.opening
        try:
            is_mine = self._wait(self._take_opening, math.inf)
            if is_mine is None:
                # An interrupt may have come after it was taken.
                release_if_mine(opening)
                is_mine = self._wait(self._take_opening, 0.0)
            if is_mine:
                self._end_all(drained=drained)
            else:
                _LOG.warning(_NOT_CLOSED)
        finally:
            release_if_mine(opening)
        # A start that hangs ends all by itself, once it goes on.
        return self._report or StopReport(0, 0, 0, (), (), drained)

    def _take_opening(self, _seconds: float) -> bool:
        """Wait until no opening or start is under way; return whether none is."""
        while not self._rt.opening.acquire(timeout=_SLICE):
            if self._end is not None and monotonic() > self._end + _JOURNAL_MARGIN:
                return False
        return True

    def _raise_interrupt(self) -> None:
        if self._interrupt is not None:
            interrupt, self._interrupt = self._interrupt, None
            raise interrupt

    def end_start(self) -> None:
        """End whatever a start or an opening has begun; hold the opening's lock."""
        self._end_all(drained=False)
        self._raise_interrupt()

    def _end_all(self, *, drained: bool) -> None:
        """End whatever has begun, once; hold the lock of the opening."""
        rt = self._rt
        if self._report is not None:
            return
        rt.closed = True
        unfinished: list[_Left] = []
        given_up: list[str] = []
        if rt.opened:
            unfinished, given_up = self._end_work()
        elif rt.declared:
            _LOG.warning(
                "%s, such as a schedule or a budget, had no effect: the orchestrator "
                "was stopped before it had started",
                counted(len(rt.declared), "declaration"),
            )
        self._report = self._make_report(unfinished, given_up, drained)
        self._end_threads()
        if rt.output is not None:
            rt.output.end()
        rt.waiting.hurried = False
        _OPEN.discard(rt)
        # A deferred signal is raised now: sent after this, it has its earlier handler.
        self._wait(_raise_deferred, 0.0)
        interrupts.unguard(rt)
        interrupts.no_more(self)
        rt.notices.close()

    def _end_work(self) -> tuple[list[_Left], list[str]]:
        """End all attempts; return the tasks that were left, and attempts given up."""
        rt = self._rt
        with rt.lock:
            states = {row.state for row in rt.kernel.tasks.values()}
        if not states <= TERMINAL:
            _load_reasons()
        left: list[_Left] = rt.step(self._close)
        for document in () if rt.committer is None else [*rt.committer.elsewhere]:
            document.give_up()
        grace = rt.kernel.config.grace_ns / 1e9
        rt.attempts.end_all(self._left(grace))
        # The kernel itself gives up attempts that do not end in their grace period.
        self._wait(self._await_end, grace + _MARGIN)
        given_up: list[str] = rt.step(self._give_up)
        rt.halt()
        rt.note(OrchestratorStopped)
        if rt.committer is not None:
            # These ends are published, too.
            self._wait(rt.committer.write_all, _JOURNAL_MARGIN)
        return left, given_up

    def _close(self, now: int) -> list[_Left]:
        """Let nothing start any more, and end unfinished tasks; hold the lock."""
        rt = self._rt
        rt.kernel.pause()
        if rt.committer is not None:
            rt.committer.held_back.call_off()
        known: dict[Bucket, str] = {}
        rows = [row for row in rt.kernel.tasks.values() if row.state not in TERMINAL]
        left = [
            _Left(
                row,
                Unfinished(row.id, row.state, self._why(row, now, known)),
                rt.committer is None and not _is_cancelled(row),
            )
            for row in rows
        ]
        for row in rows:
            if rt.committer is None:
                _cancel(rt, row, now)
            elif is_under_way(row):
                # Its attempt ends as an interrupted one.
                rt.kernel.stop_attempt(row)
        return left

    def _give_up(self, now: int) -> list[str]:
        """Give up attempts that still run; return their names; hold the lock."""
        rt = self._rt
        given_up = [_name_of(*attempt) for attempt in rt.kernel.leaked]
        for row in list(rt.kernel.tasks.values()):
            if row.state not in TERMINAL and is_under_way(row):
                given_up.append(_name_of(row.id, row.attempt))
                if rt.committer is None and rt.fault is None:
                    rt.kernel.give_up(row, now)
        return given_up

    def _make_report(
        self, left: list[_Left], given_up: list[str], drained: bool
    ) -> StopReport:
        kernel = self._rt.kernel
        # Each task counts once, in the state that it had before the stop.
        still = [each for each in left if each.is_unfinished()]
        stopped = [each for each in still if each.row.state is TaskState.CANCELLED]
        return StopReport(
            kernel.completed,
            kernel.failed,
            kernel.cancelled - len(stopped),
            tuple(each.told for each in still),
            tuple(given_up),
            drained,
        )

    @interrupts.takes_interrupts
    def _drain(self) -> bool:
        """Wait until nothing can proceed; return whether that came in time."""
        rt, committer = self._rt, self._rt.committer
        end = self._end
        if end is not None:
            # Attempts that do not end in time get part of it to end in good order.
            grace = rt.kernel.config.grace_ns / 1e9
            end -= min(grace, _GRACE_SHARE * (end - monotonic()))
        pauses = _SILENCES.pauses()
        began, pause = monotonic(), next(pauses)
        while True:
            left = None if end is None else max(0.0, end - monotonic())
            if not rt.waiting.until_quiet(pause if left is None else min(left, pause)):
                if rt.waiting.hurried or (left is not None and left <= pause):
                    return False
                self._say_awaited(monotonic() - began)
                pause = next(pauses)
                continue
            if committer is not None:
                with rt.lock:
                    is_kept = not committer.trouble and rt.is_quiet()
                # The journal may have been in trouble for a moment only.
                if not is_kept:
                    if not committer.recovers(left):
                        return False
                    continue
            kernel = rt.kernel
            return rt.begins or not (kernel.queued or kernel.active or kernel.delayed)

    def _say_awaited(self, seconds: float) -> None:
        """Log what the drain still waits for."""
        rt = self._rt
        awaited: list[str] = []

        def look(now: int) -> int:
            # Running tasks come first: others mostly wait for them.
            rows = sorted(
                (
                    row
                    for row in rt.kernel.tasks.values()
                    if row.state not in TERMINAL and row.state not in _OUTSIDE
                ),
                key=lambda row: row.state is not TaskState.RUNNING,
            )
            for row in rows[:_NAMED]:
                if row.state is TaskState.RUNNING:
                    ran = max(0, now - row.started_ns) / NS
                    awaited.append(f"{row.id} (running for {ran:.0f} s)")
                else:
                    why = _why_not(rt, row, now)
                    awaited.append(f"{row.id} ({row.state.value}): {why}")
            return len(rows)

        _load_reasons()
        count: int = rt.step(look)
        names = "".join(f"\n  {each}" for each in awaited) + _and_more(count, "\n ")
        what = "receivers of events" if not count else counted(count, "task")
        if rt.committer is not None and rt.committer.trouble:
            what = f"the journal ({rt.committer.trouble})"
        said = f"the end has waited for {seconds:.0f} s, and waits for {what}"
        _LOG.warning("%s", visible(f"{said}{':' if names else ''}{names}"))

    def say_left(self, report: StopReport, why: str) -> None:
        """Log the tasks that *report* has as left; *why* says how it ended."""
        if report.left:
            if not report.drained:
                self._rt.notices.cut_short = f"{why}, and {_were(report)} left"
            _LOG.warning("%s; %s", why, self.text_of_left(report))

    def text_of_left(self, report: StopReport) -> str:
        """Return a text on the tasks that *report* has as left, by reason."""
        if not report.left:
            return "nothing was left"
        fate = "is" if len(report.left) == 1 else "are"
        fate += (
            " cancelled"
            if self._rt.committer is None
            else " kept for the next incarnation"
        )
        # Many wait for the same reason.
        alike: dict[tuple[TaskState, str], list[str]] = {}
        for one in report.left:
            alike.setdefault((one.state, one.reason), []).append(one.task_id)
        lines = [
            f"{', '.join(ids[:_NAMED])}{_and_more(len(ids))} ({state.value}): {reason}"
            for (state, reason), ids in list(alike.items())[:_REASONS]
        ]
        if len(alike) > _REASONS:
            lines.append(f"and {counted(len(alike) - _REASONS, 'more reason')}")
        if report.leaked:
            lines.append(f"given up as they did not stop: {', '.join(report.leaked)}")
        said = "".join(f"\n  {line}" for line in lines)
        return visible(f"{_were(report)} left, and {fate}:{said}")

    def _why(self, row: TaskRow, now: int, known: dict[Bucket, str]) -> str:
        if row.state is not TaskState.QUEUED:
            return self._ask_why(row, now)
        # Queued tasks with like requirements all wait for the same reason.
        if row.bucket not in known:
            known[row.bucket] = self._ask_why(row, now)
        return known[row.bucket]

    def _ask_why(self, row: TaskRow, now: int) -> str:
        kernel = self._rt.kernel
        kernel.unpause()
        try:
            return _why_not(self._rt, row, now)
        finally:
            kernel.pause()

    def _await_end(self, seconds: float) -> None:
        """Wait until every attempt has ended or been given up."""
        rt = self._rt
        soonest = monotonic() + _MOMENT
        end = monotonic() + seconds
        while True:
            latch = Latch()
            with rt.lock:
                if not rt.kernel.active and not _has_held(rt):
                    return
                rt.waiting.quiet.append(latch.set)
            try:
                # Another call of `stop` may come meanwhile, with a shorter time limit.
                while not latch.wait(min(_SLICE, max(0.0, end - monotonic()))):
                    if self._end is not None:
                        end = min(end, max(self._end, soonest))
                    if monotonic() >= end:
                        return
            finally:
                rt.waiting.forget_quiet(latch.set)

    def _end_threads(self) -> None:
        rt = self._rt
        if rt.driven is not None:
            self._wait(rt.driven.close, _MARGIN)
        if rt.fleet is not None:
            self._wait(rt.fleet.close, 2 * _PROGRAM_MARGIN)
        self._wait(rt.attempts.close, _PROGRAM_MARGIN)
        with rt.lock:
            # After a fault, a step may have taken a thread and not given it back.
            rt.threads.end_idle(unassigned=rt.fault is not None)
            publisher = rt.publisher.close()
        # The timer still watches the listeners.
        served = self._wait(rt.publisher.flush, _MARGIN)
        if served and publisher not in (None, threading.current_thread()):
            with suppress(RuntimeError):  # an interrupt came before it began
                self._wait(partial(interrupts.join, publisher), _MARGIN)
        # This is outside the wait, which an interrupt may end before it began.
        rt.timer.end()
        self._wait(rt.timer.join, _TIMER_MARGIN)
        if rt.committer is not None:
            before = self._interrupt
            # Nobody can open the journal before this, so no time limit of the stop
            # applies.
            closed = self._wait(rt.committer.close, _JOURNAL_MARGIN, _JOURNAL_MARGIN)
            if self._interrupt is not before:
                # The close was interrupted, so the journal may be held still.
                closed = self._wait(rt.committer.close, 0.0)
            if not closed:
                _LOG.warning(_NOT_CLOSED)
        end = monotonic() + _MARGIN
        for thread in rt.threads.ending():
            self._wait(partial(interrupts.join, thread), end - monotonic())
        self._wait(rt.loops.close, _MARGIN)


@frozen(eq=False)
class _Left:
    """A task that had not ended when the orchestrator was closed."""

    row: TaskRow
    told: Unfinished
    #: Whether it was cancelled only because of the stop.
    called_off: bool

    def is_unfinished(self) -> bool:
        """Return whether the task has not ended by itself since."""
        state = self.row.state
        return state not in TERMINAL or (
            self.called_off and state is TaskState.CANCELLED
        )


@interrupts.takes_interrupts
def _take_lock(lock: Any, end: float | None) -> bool:
    return wait_for_lock(lock, end)


@interrupts.takes_interrupts
def _interruptibly(wait: Callable[[float], T], seconds: float) -> T:
    return wait(seconds)


def _raise_deferred(_seconds: float) -> None:
    if interrupts.DEFERRED:
        interrupts.raise_deferred()


def _load_reasons() -> None:
    """Import the explanations first, as that would take long under the lock."""
    from taskorch.core.kernel import explain  # noqa: F401, PLC0415 - when needed


def _why_not(rt: Runtime, row: TaskRow, now: int) -> str:
    """Return why *row* has not ended yet; hold the lock; see `_load_reasons`."""
    from taskorch.core.kernel import explain  # noqa: PLC0415 - is loaded already

    try:
        blockers = explain(rt.kernel, row, now).blockers
    except PolicyFault as fault:
        return f"Nobody knows: {fault.component} failed."
    if row.state is TaskState.RUNNING and not blockers:
        return "It was still running."
    return " ".join(blocker.detail for blocker in blockers) or "Its turn had not come."


def _were(report: StopReport) -> str:
    count = len(report.left)
    return f"{counted(count, 'task')} {'was' if count == 1 else 'were'}"


def _and_more(count: int, before: str = "") -> str:
    return f"{before} and {count - _NAMED:,} more" if count > _NAMED else ""


def _is_cancelled(row: TaskRow) -> bool:
    """Return whether *row* was cancelled, and its attempt has not ended yet."""
    return row.extra is not None and row.extra.stop == "cancel"


def _name_of(task_id: str, attempt: int) -> str:
    return f"{task_id} (attempt {attempt})"


def _has_held(rt: Runtime) -> bool:
    """Return whether attempts of a durable orchestrator are to be ended."""
    return rt.committer is not None and any(
        is_under_way(row) for row in rt.kernel.tasks.values()
    )


def _cancel(rt: Runtime, row: TaskRow, now: int) -> None:
    try:
        rt.kernel.cancel(row, now, "the orchestrator stopped")
    except (InvalidTransitionError, PolicyFault):
        # A veto must not keep work alive in an orchestrator that has stopped.
        watches, rt.deciders.watches = rt.deciders.watches, frozenset()
        try:
            rt.kernel.cancel(row, now, "the orchestrator stopped")
        finally:
            rt.deciders.watches = watches


# -- the end of a block, and signals that bring it about: they leave time to finish ----


#: The part of the time of a stop that its drain gets on a loop.
_DRAIN_SHARE: Final = 0.75


def stop_on(
    lifecycle: Lifecycle, signals: tuple[Any, ...], timeout: float, *, drain: bool
) -> None:
    """
    See `TaskOrchestrator.stop_on`.

    Raises:
        UsageError: This is not the main thread.
        InvalidTaskError: One is no signal that can be handled.
        NotRunningError: The orchestrator has stopped.
    """
    if threading.current_thread() is not threading.main_thread():
        msg = "stop_on() is for the main thread: Python handles signals there only"
        raise UsageError(msg, hint="call it where the program begins, before threads")
    if lifecycle.is_over:
        msg = "the orchestrator has stopped: there is nothing to stop at a signal"
        raise NotRunningError(msg, hint="call stop_on() before or in the block")
    wanted = [_number(each) for each in signals]
    if not wanted:
        msg = "stop_on() was given no signal"
        raise InvalidTaskError(msg, hint="orch.stop_on(signal.SIGTERM)")
    lifecycle.signal_timeout, lifecycle.signal_drains = timeout, drain
    for number in wanted:
        try:
            interrupts.stop_on(lifecycle, number)
        except (OSError, ValueError) as error:
            msg = f"nothing can be done at {number.name}: {error}"
            raise InvalidTaskError(msg, hint="orch.stop_on(signal.SIGTERM)") from error


def _number(given: Any) -> signal.Signals:
    try:
        # True is 1, and nobody means SIGHUP by it.
        return signal.Signals(-1 if given is True else given)
    except ValueError as error:
        msg = f"{show(given)} is no signal"
        raise InvalidTaskError(msg, hint="orch.stop_on(signal.SIGTERM)") from error


def end_block(
    lifecycle: Lifecycle, timeout: float | None, error: BaseException | None
) -> None:
    """
    Stop at the end of a `with` block: it drains, unless *error* has ended the block.

    A block that a signal has ended drains, too, as long as the signal allows; a second
    signal, or Ctrl-C, cancels running attempts. Tasks that are left are logged.
    """
    if lifecycle.stop_signal is not None:
        _end_at_signal(lifecycle)
        return
    try:
        report = lifecycle.stop(drain=error is None, timeout=timeout)
    except INTERRUPTS as interrupt:
        if lifecycle.stop_signal is None:
            # It was Ctrl-C, or a signal that another orchestrator is to stop at.
            report = lifecycle.stop(drain=False, timeout=timeout)
            lifecycle.say_left(report, _ended_by(interrupt))
        else:
            # The signal came during the drain, after the block had ended by itself.
            _end_at_signal(lifecycle)
        raise
    lifecycle.say_left(report, _why_ended(report, error))


def _why_ended(report: StopReport, error: BaseException | None) -> str:
    if error is not None:
        return _ended_by(error)
    return "the block ended" if report.drained else "stop_timeout was over"


def _ended_by(error: BaseException) -> str:
    return f"the block ended by {type(error).__name__}"


def _end_at_signal(lifecycle: Lifecycle) -> None:
    _say_signal(lifecycle)
    try:
        report = lifecycle.stop(drain=True, timeout=lifecycle.signal_left())
    except INTERRUPTS:
        report = lifecycle.stop(drain=False, timeout=lifecycle.signal_left())
    _say_end(lifecycle, report)


async def end_block_of_coroutine(
    lifecycle: Lifecycle, stop: Any, error: BaseException | None
) -> None:
    """
    End an `async with` block, whose main task a signal may cancel.

    The block has raised *error*, and *stop* is that of `orch.aio`.

    Raises:
        StopSignal: The block was cancelled by a signal.
        asyncio.CancelledError: It was cancelled meanwhile, by other code.
    """
    told = lifecycle.stop_signal
    if told is not None:
        _say_signal(lifecycle)
    stopping = asyncio.ensure_future(
        stop(
            drain=error is None or told is not None,
            timeout=None if told is None else lifecycle.signal_left(),
        )
    )
    cancelled = error if isinstance(error, asyncio.CancelledError) else None
    again: BaseException | None = None
    while not stopping.done():
        try:
            await asyncio.shield(stopping)
        except asyncio.CancelledError as cancellation:
            again = cancellation
            if told is None and lifecycle.stop_signal is not None and error is None:
                # It drains already, and from now on has the time that the signal
                # allows.
                told = lifecycle.stop_signal
                _say_signal(lifecycle)
                left = _DRAIN_SHARE * lifecycle.signal_left()
                asyncio.get_running_loop().call_later(left, lifecycle.hurry)
            else:
                # A second signal ends the wait at once.
                lifecycle.hurry()
    report: StopReport = stopping.result()
    if told is not None:
        _say_end(lifecycle, report)
    else:
        lifecycle.say_left(report, _why_ended(report, error or again))
    if lifecycle.stop_signal is not None and (cancelled or again) is not None:
        raise lifecycle.stop_signal
    if again is not None:
        raise again


def _say_signal(lifecycle: Lifecycle) -> None:
    stop: StopSignal | None = lifecycle.stop_signal
    assert stop is not None  # noqa: S101 - only a signal ends it
    if lifecycle.leaves_queue:
        # This comes before the message, since its readers rely on it.
        lifecycle.leave_queue()
    what = "what runs" if lifecycle.leaves_queue else "what can still proceed"
    _LOG.warning(
        "%s: %s has %.3g s%s; another signal cancels what runs",
        stop.name,
        what,
        lifecycle.signal_left(),
        ", and the queue is left" if lifecycle.leaves_queue else "",
    )


def _say_end(lifecycle: Lifecycle, report: StopReport) -> None:
    stop = lifecycle.stop_signal
    if stop is not None:
        seconds, left = monotonic() - stop.at, lifecycle.text_of_left(report)
        _LOG.warning("%s: stopped after %.3g s; %s", stop.name, seconds, left)
