"""One thread that waits for the next thing that is due."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol

from taskorch.core.engine._work import NEVER, MakesSteps, load_failures
from taskorch.kit.interrupts import begin_thread, defers_interrupts, join
from taskorch.kit.limits import NS

if TYPE_CHECKING:
    from taskorch.core.engine._governs import Governs

#: A little less than the longest wait of a lock, which is some three weeks.
_LONGEST: Final = 100_000.0
#: Looks per lease: of a worker that reports three times in a lease, none is missed.
_PULSES: Final = 4


class _Repeated:
    """A call that is repeated, but never while one is under way."""

    __slots__ = ("call", "due", "every", "is_under_way")

    def __init__(self, call: Callable[[], object], every: int, due: int) -> None:
        self.call = call
        self.every = every
        self.due = due
        self.is_under_way = False

    def __call__(self, _: object) -> None:
        try:
            self.call()
        finally:
            self.is_under_way = False


class TriesMore(Protocol):
    """Protocol: knows how many attempts the system has room for."""

    due: int

    def try_more(self, now: int) -> bool:
        """Try more attempts if due; return whether there is room again."""
        ...


class Logs(Protocol):
    """Protocol: logs errors that no caller has asked for."""

    def look_for_lost(self, now: int) -> int:
        """Find some, and return when to look again; hold the lock."""
        ...

    def has_room(self) -> None:
        """Log that the system has room again."""
        ...


class Timed(MakesSteps, Protocol):
    """
    Protocol: what the timer asks of the runtime.

    Attributes:
        monitor_interval: Seconds between two reports.
    """

    monitor_interval: float

    @property
    def governor(self) -> Governs | None:
        """The policies as data; None if there are none."""
        ...

    @property
    def notices(self) -> Logs:
        """The log of errors that no caller has asked for."""
        ...

    @property
    def room(self) -> TriesMore:
        """The limit of attempts while the system lacks room."""
        ...

    def report(self) -> None:
        """Publish statistics, health and performance, if they have listeners."""
        ...


class TimerThread:
    """
    Fires the kernel's timers, reports at an interval, and watches the publisher.

    The thread begins with the start, or with the first timer that is due before that.
    """

    def __init__(self, rt: Timed) -> None:
        self._rt = rt
        self._wake = threading.Lock()
        self._wake.acquire()
        self._thread: threading.Thread | None = None
        #: Until when the thread sleeps, in ns; the controller's lock guards it.
        self.until: int = NEVER
        #: When it last meant to look next, if nothing else happened before.
        self._planned = NEVER
        self._closing = False
        self._monitoring = False
        self._next_report = NEVER
        self._repeated: list[_Repeated] = []

    def wake_by(self, due: int) -> None:
        """Wake the thread by the time *due*; hold the controller's lock."""
        if due < self.until:
            self.until = due
            self._planned = min(self._planned, due)
            self._poke()

    @defers_interrupts
    def monitor(self, on: bool) -> None:
        """Report at an interval, or stop doing so."""
        with self._rt.lock:
            if on == self._monitoring:
                return
            self._monitoring = on
            every = int(self._rt.monitor_interval * NS)
            self._next_report = self._rt.now() + every if on else NEVER
            if on:
                self.wake_by(self._next_report)

    @defers_interrupts
    def repeat(self, seconds: float, call: Callable[[], object]) -> Callable[[], None]:
        """
        Call *call* every *seconds* on the publishing thread.

        Returns:
            A function that ends that.
        """
        every = int(seconds * NS)

        @defers_interrupts
        def end() -> None:
            with self._rt.lock:
                if repeated in self._repeated:
                    self._repeated.remove(repeated)

        with self._rt.lock:
            repeated = _Repeated(call, every, self._rt.now() + every)
            self._repeated.append(repeated)
            self.wake_by(repeated.due)
        return end

    def _repeat(self, now: int) -> int:
        """Make the calls that are due; return when to look again; hold the lock."""
        for repeated in self._repeated:
            if now >= repeated.due:
                repeated.due = now + repeated.every
                if not repeated.is_under_way:
                    repeated.is_under_way = True
                    self._rt.publisher.put([(repeated, None)])
        return min([repeated.due for repeated in self._repeated], default=NEVER)

    def watch(self, seconds: float) -> None:
        """Look after the publisher in *seconds*; hold the controller's lock."""
        self.wake_by(self._rt.now() + int(seconds * NS))

    def begin(self) -> None:
        """
        Start the thread, unless it runs; hold the controller's lock.

        Raises:
            RuntimeError: The system has none.
        """
        if self._thread is None and not self._closing:
            self._thread = begin_thread(self._loop, f"{self._rt.name}-timer")

    def _poke(self) -> None:
        if self._thread is None:
            # If the system has no thread left, the start tries again, or raises.
            with suppress(RuntimeError):
                self.begin()
        elif self._wake.locked():
            self._wake.release()

    def _loop(self) -> None:
        try:
            self._fire()
        except BaseException as error:  # noqa: BLE001 - the error is ours
            self._rt.fail_stop(error)

    def _fire(self) -> None:
        rt = self._rt
        if self.until == NEVER:
            self._wake.acquire()
        while not self._closing:
            watch = rt.publisher.relieve()
            report = False
            self._planned = min(self._planned, rt.now())
            self._load_failures()
            with rt.lock:
                now = rt.now()
                pulse = self._see_that_we_ran(now)
                rt.kernel.tick(now)
                has_room = rt.room.try_more(now)
                held = rt.governor
                if held is not None:
                    held.look_if_due(now)
                notices = rt.notices.look_for_lost(now)
                launch = rt.settle(now)
                if now >= self._next_report:
                    report = True
                    self._next_report = now + int(rt.monitor_interval * NS)
                due = rt.kernel.next_due()
                until = NEVER if due is None else due
                until = min(until, self._next_report, rt.room.due, notices, now + pulse)
                until = min(until, (0 if held is None else held.due_ns) or NEVER)
                if self._repeated:
                    until = min(until, self._repeat(now))
                if watch is not None:
                    until = min(until, now + int(watch * NS))
                self.until = self._planned = until
            rt.launch(launch)
            # The thread may sleep for long, and would keep these tasks in memory.
            del launch
            if has_room:
                rt.notices.has_room()
            if report:
                rt.report()
            left = (until - rt.now()) / NS
            if left > 0:
                self._wake.acquire(timeout=min(left, _LONGEST))

    def _load_failures(self) -> None:
        if self._rt.kernel.may_end_attempts(self._rt.now()):
            load_failures()

    def _see_that_we_ran(self, now: int) -> int:
        """
        Excuse workers whose signs of life may have been missed; hold the lock.

        The process may have been stopped, or another thread may have held the lock.

        Returns:
            Nanoseconds until the next look.
        """
        kernel = self._rt.kernel
        leases = [
            worker.lease_ns
            for worker in kernel.workers.values()
            if worker.lease_ns and not worker.lost
        ]
        if not leases:
            return NEVER
        pulse = min(leases) // _PULSES
        if now - self._planned > pulse:
            kernel.excuse(now)
        return pulse

    def end(self) -> None:
        """Tell the thread to end."""
        with self._rt.lock:
            self._closing = True
            if self._thread is not None and self._wake.locked():
                self._wake.release()

    def join(self, timeout: float) -> None:
        """Wait for the end of the thread."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            join(thread, timeout)
