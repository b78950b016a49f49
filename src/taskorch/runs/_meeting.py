"""
Running tasks of one run that meet: a barrier, and the exchange of a value.

Meetings are in memory only. An attempt waits for the others without its slot, as it
does for a task; after a crash the attempts run again, and meet again.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from taskorch.errors import (
    AttemptInterrupted,
    InvalidTaskError,
    NotRunningError,
    WouldBlockError,
)
from taskorch.kit.checks import check_count, check_seconds
from taskorch.model.ids import check_name
from taskorch.runtime import is_settled, resolve_on

if TYPE_CHECKING:
    from datetime import timedelta

    from taskorch.kernel import TaskRow
    from taskorch.runtime import AttemptContext, Runtime

#: Events after which a task may not come any more.
_ENDS: Final = ("task_completed", "task_failed", "task_cancelled", "task_blocked")
BrokenBarrierError = threading.BrokenBarrierError


class _Party:
    """An attempt that has come to a meeting, and waits for the others."""

    def __init__(self, row: TaskRow, value: Any, wake: Callable[[], object]) -> None:
        self.row = row
        self.value = value
        self.wake = wake
        #: The values of all parties, in order of arrival; None until all have come.
        self.values: list[Any] | None = None
        self.place = 0
        self.broken = ""


class Meetings:
    """The meetings of all runs."""

    def __init__(self, runtime: Runtime) -> None:
        self._rt = runtime
        self._mutex = threading.Lock()
        #: The waiting parties, by the run, the name of the meeting, and its size.
        self._parties: dict[tuple[str, str, int], list[_Party]] = {}
        self._listening = False

    # -- from a thread -------------------------------------------------------------

    def meet(
        self,
        inside: AttemptContext,
        name: str,
        parties: int,
        value: Any,
        timeout: float | timedelta | None,
    ) -> tuple[int, list[Any]]:
        """
        Wait for the others; return the place of this one, and the values of all.

        Raises:
            TimeoutError: They have not all come in time.
            BrokenBarrierError: One of them will not come any more.
            WouldBlockError: The caller is on the loop that must do the work.
            AttemptInterrupted: The attempt is to stop.
        """
        seconds = self._check(inside, name, parties, timeout)
        if self._rt.loops.is_mine():
            msg = f"meeting at {name!r} would block the event loop"
            raise WouldBlockError(msg, hint="use await context.aio.workflow.…")
        gate = threading.Event()
        key = inside._row.run, name, parties
        with self._rt.waiting.holding(inside, (), gate.set):
            party = self._come(key, inside, value, gate.set)
            try:
                # A request to stop that came before the wait began would not wake it.
                if not inside.cancelled:
                    gate.wait(seconds)
            finally:
                self._leave(key, party)
        return self._outcome(inside, party, name, seconds)

    # -- from a coroutine ----------------------------------------------------------

    async def meet_async(
        self,
        inside: AttemptContext,
        name: str,
        parties: int,
        value: Any,
        timeout: float | timedelta | None,  # noqa: ASYNC109 - the same name as above
    ) -> tuple[int, list[Any]]:
        """Wait for a meeting without blocking the loop: see `meet`."""
        seconds = self._check(inside, name, parties, timeout)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        key = inside._row.run, name, parties
        waiting = self._rt.waiting
        waiting.enter(inside, ())
        try:
            party = self._come(key, inside, value, lambda: resolve_on(loop, [future]))
            try:
                await asyncio.wait([future], timeout=seconds)
            finally:
                self._leave(key, party)
        finally:
            await waiting.leave_async(inside, ())
        return self._outcome(inside, party, name, seconds)

    # -- how -----------------------------------------------------------------------

    def _check(
        self,
        inside: AttemptContext,
        name: str,
        parties: int,
        timeout: float | timedelta | None,
    ) -> float | None:
        check_name("the name of a meeting", name)
        check_count("parties", parties, least=1)
        seconds = None if timeout is None else check_seconds("timeout", timeout)
        row = inside._row
        if row.attempt != inside.attempt:
            msg = f"attempt {inside.attempt} of task {row.id} is over"
            raise NotRunningError(msg, task_id=row.id)
        return seconds

    def _come(
        self,
        key: tuple[str, str, int],
        inside: AttemptContext,
        value: Any,
        wake: Callable[[], object],
    ) -> _Party:
        party = _Party(inside._row, value, wake)
        with self._mutex:
            here = self._parties.setdefault(key, [])
            if any(other.row is party.row for other in here):
                msg = f"task {party.row.id} is at the meeting {key[1]!r} already"
                raise InvalidTaskError(msg, task_id=party.row.id)
            here.append(party)
            if len(here) == key[2]:
                # All have come: the name is free for the next meeting.
                del self._parties[key]
                for place, other in enumerate(here):
                    other.place, other.values = place, [each.value for each in here]
                for other in here:
                    other.wake()
        self._listen()
        # The last task that could come may have ended before the signals were
        # connected.
        self._break_hopeless(None)
        return party

    def _leave(self, key: tuple[str, str, int], party: _Party) -> None:
        """End the wait of *party*; an incomplete meeting is broken."""
        with self._mutex:
            here = self._parties.get(key, [])
            if party in here:
                del self._parties[key]
                for other in here:
                    if other is not party:
                        other.broken = f"task {party.row.id} waits no more"
                        other.wake()

    def _outcome(
        self, inside: AttemptContext, party: _Party, name: str, timeout: float | None
    ) -> tuple[int, list[Any]]:
        if party.values is not None:
            return party.place, party.values
        if inside.cancelled:
            raise AttemptInterrupted(inside._control.why)
        if party.broken:
            msg = f"the meeting {name!r} is broken: {party.broken}"
            raise BrokenBarrierError(msg)
        msg = f"the others have not come to the meeting {name!r} within {timeout:g} s"
        raise TimeoutError(msg)

    def _listen(self) -> None:
        """Connect to the ends of tasks while tasks wait for a meeting."""
        with self._mutex:
            if self._parties and not self._listening:
                self._listening = True
                for name in _ENDS:
                    getattr(self._rt.signals, name).connect(self._break_hopeless)

    def _break_hopeless(self, _event: object) -> None:
        """Break meetings with too few tasks left, as a task has ended."""
        with self._mutex:
            keys = list(self._parties)
        for key in keys:
            run_id, _, parties = key
            live = self._count(run_id, parties)
            with self._mutex:
                here = self._parties.get(key, [])
                # All waiting tasks are among the live ones.
                if here and live < parties:
                    del self._parties[key]
                    for party in here:
                        party.broken = (
                            f"{parties} tasks are to come, and only {live} of "
                            f"workflow {run_id} have not ended"
                        )
                        party.wake()
        with self._mutex:
            if self._listening and not self._parties:
                self._listening = False
                for name in _ENDS:
                    getattr(self._rt.signals, name).disconnect(self._break_hopeless)

    def _count(self, run_id: str, most: int) -> int:
        """Return how many tasks of a run may still come, up to *most*."""
        count = 0
        with self._rt.lock:
            # The youngest first, as these are the likeliest not to have ended.
            for row in reversed(self._rt.kernel.tasks.values()):
                if row.run == run_id and not is_settled(row):
                    count += 1
                    if count == most:
                        break
        return count
