"""
Starts that the system refuses for want of threads, processes or descriptors.

Such a start is tried again, and charged to no task. While there is no room, no more
attempts may run at once than do; after a pause one more is tried, then more and more.
A task whose start was refused steps aside for as long as there has been too little:
others, that may need none, get their turn, however many wait that do.

Decision: 0031.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from taskorch._limits import ASIDE_NS, NS
from taskorch._visible import counted
from taskorch.model import HealthCheck
from taskorch.runtime._driver import Driver
from taskorch.runtime._notices import Notices
from taskorch.runtime._timer import TimerThread
from taskorch.runtime._work import NEVER, Work, detach_control

if TYPE_CHECKING:
    from taskorch.kernel import TaskRow

#: Between two looks whether there is room again, in ns: at first and at the longest.
_FIRST_PAUSE: Final = NS // 20
_LONGEST_PAUSE: Final = NS
#: How long a task steps aside at the most, in ns.
_LONGEST_ASIDE: Final = 30 * NS
_HINT: Final = (
    "lower concurrency=, or raise the limits (ulimit -u, ulimit -n, or the pids limit "
    "of the container)"
)


class RoomHost(Driver, Protocol):
    """What resource exhaustion asks of its runtime."""

    notices: Notices
    timer: TimerThread


class ResourceExhaustion:
    """How many attempts the system has room for, if they are fewer than may run."""

    def __init__(self, host: RoomHost) -> None:
        self._rt = host
        #: Why there is none; empty if there is.
        self._why = ""
        #: Since when, and until when the latest of those that were refused is aside.
        self._since = self._aside_until = 0
        #: When to look again, in ns, and how long after that.
        self.due = NEVER
        self._pause = _FIRST_PAUSE
        #: How many more are tried next.
        self._step = 1

    def refuse(
        self, row: TaskRow, attempt: int, work: Work, error: BaseException
    ) -> None:
        """Defer the start of an attempt for which the system has no room."""
        rt = self._rt
        why = getattr(error, "strerror", None) or str(error)

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
                self._pause = _FIRST_PAUSE
            elif self._step > 1 or now >= self.due:
                self._pause = min(2 * self._pause, _LONGEST_PAUSE)
            self._step = 1
            self.due = now + self._pause
            rt.timer.wake_by(self.due)
            return is_new

        if rt.step(change):
            rt.notices.no_room(f"{why}; {_HINT}")

    def try_more(self, now: int) -> bool:
        """Under the lock: try more, if it is time to; whether there is room again."""
        if now < self.due:
            return False
        kernel = self._rt.kernel
        most = kernel.config.concurrency
        if kernel.room >= most and now < self._aside_until:
            # Whether there is enough is seen when those are tried again.
            self.due = self._aside_until + self._pause
            return False
        if kernel.room >= most:
            # All that wanted to has begun since the last look.
            self._why, self.due = "", NEVER
            kernel.limit(most)
            return True
        kernel.limit(kernel.room + self._step, kernel.aside_ns)
        self._step *= 2
        self.due = now + self._pause
        return False

    def check(self) -> HealthCheck | None:
        """What health says of it, while there is too little."""
        if not self._why:
            return None
        room, most = self._rt.kernel.room, self._rt.kernel.config.concurrency
        many = f"room for {counted(room, 'attempt')} at once, of {most}"
        if room >= most:
            many = "no room for some that step aside"
        said = f"the system has {many}: {self._why}; {_HINT}"
        return HealthCheck("room", "degraded", said)
