"""
Running tasks of one run that meet: a barrier, and the exchange of a value.

Meetings are in memory only. An attempt waits for the others without its slot, as it
does for a task; after a crash the attempts run again, and meet again. A meeting that
was held counts for later attempts of its tasks, and for later runs unless all who met
run again: the others do not come twice. A meeting that
can never be held ends with an error for all who have come, as a nested `result()`
does: not enough tasks of the run are left, or they need what these hold.

Decision: workflows.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from taskorch.core.engine import (
    extra_of,
    holders_of,
    is_settled,
    resolve_on,
    row_of,
    stop_if_asked,
    work_of,
)
from taskorch.errors import (
    InvalidTaskError,
    NotRunningError,
    WouldBlockError,
    WouldDeadlockError,
)
from taskorch.events import TaskNoted
from taskorch.kit.checks import check_count, check_seconds
from taskorch.kit.fence import log_of
from taskorch.kit.words import some
from taskorch.model.ids import check_name, earlier_ids

if TYPE_CHECKING:
    from datetime import timedelta

    from taskorch.core.engine import AttemptContext, Runtime
    from taskorch.core.kernel import TaskRow

#: Events after which a task may not come any more, as it has ended or cannot start.
_NEWS: Final = (
    *("task_completed", "task_failed", "task_cancelled", "task_blocked"),
    *("agent_lost", "agent_draining", "agent_tripped", "agent_joined"),
    *("pools_changed", "quotas_changed", "budget_changed", "budget_spent"),
)
_LOG: Final = log_of(__name__)
BrokenBarrierError = threading.BrokenBarrierError


#: The key of data about meetings among those that extensions keep with a task.
_OWN: Final = "meetings"
#: The classes of values that can be told apart, for the exchange of a later run.
_PLAIN: Final = (type(None), bool, int, float, str, bytes)


class _HeldMeeting(NamedTuple):
    """
    A meeting that was held: the place of a task there, and the values of all.

    Its tasks are those who met, and later runs for which it counts.
    """

    place: int
    tasks: list[str]
    values: list[Any]

    def counts_for(self, value: Any, is_latest: Callable[[str], bool]) -> bool:
        """Return whether it counts for a later run, which brings *value*."""
        earlier = self.values[self.place]
        is_same = type(value) is type(earlier) and type(value) in _PLAIN
        return is_same and value == earlier and any(map(is_latest, self.tasks))


class _Came:
    """The meetings that were held with a task, and those of its latest attempt."""

    def __init__(self) -> None:
        self.held: dict[tuple[str, str, int], list[_HeldMeeting]] = defaultdict(list)
        self.attempt = 0
        self.counts: Counter[tuple[str, str, int]] = Counter()
        #: Sentences on the meetings that were given up.
        self.given_up: dict[str, None] = {}

    def words(self) -> Iterable[str]:
        """Return sentences for an explanation."""
        return self.given_up


def _came_of(row: TaskRow) -> _Came:
    came: _Came = extra_of(row.cargo).own.setdefault(_OWN, _Came())
    return came


class _Party:
    """An attempt that has come to a meeting, and waits for the others."""

    def __init__(self, row: TaskRow, value: Any, wake: Callable[[], object]) -> None:
        self.row = row
        self.value = value
        self.wake = wake


class _Meeting:
    """A meeting: the parties that have come, and how it ended."""

    def __init__(self, runtime: Runtime, run_id: str, name: str, size: int) -> None:
        self._rt = runtime
        self._run_id = run_id
        self._name = name
        self.size = size
        self.parties: list[_Party] = []
        #: Why it will never be held; "" if it was, None while it goes on.
        self.broken: str | None = None
        #: The party that waited no more, if that is why it is broken.
        self.left: _Party | None = None
        #: The tasks that hold what is missing, if that is why it is broken.
        self.holders: tuple[str, ...] = ()

    def missing(self) -> tuple[int, Iterable[TaskRow]]:
        """Return one, and who may come or add tasks that do; the lock is held."""
        if self.broken is not None:
            return 0, ()
        here = {party.row for party in self.parties}
        rows = (
            # The youngest come first, as these are the likeliest not to have ended.
            row
            for row in reversed(self._rt.kernel.tasks.values())
            if row.run == self._run_id and row not in here and not is_settled(row)
        )
        return 1, rows

    def words(self) -> str:
        """Return a sentence on the wait of a party; the lock is held."""
        missing = self.size - len(self.parties)
        return (
            f"It is at the meeting {self._name!r}: {missing} of {self.size} tasks are "
            "still to come."
        )

    def end(self, broken: str = "") -> None:
        """Wake all parties; hold the lock."""
        self.broken = broken
        for party in self.parties:
            party.wake()


class Meetings:
    """The meetings of all runs."""

    def __init__(self, runtime: Runtime) -> None:
        self._rt = runtime
        #: The meetings that go on, by run, name and size; the lock guards it.
        self._going: dict[tuple[str, str, int], _Meeting] = {}
        self._mutex = threading.Lock()
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
            WouldDeadlockError: They cannot start before those here end.
            WouldBlockError: The caller is on the loop that must do the work.
            AttemptInterrupted: The attempt is to stop.
        """
        seconds = self._check(inside, name, parties, timeout)
        if self._rt.loops.is_mine():
            msg = f"meeting at {name!r} would block the event loop"
            raise WouldBlockError(msg, hint="use await context.aio.workflow.…")
        gate = threading.Event()
        key = row_of(work_of(inside)).run, name, parties
        held = self._held_before(key, inside, value)
        if held is not None:
            return held.place, held.values
        meeting, party = self._come(key, inside, value, gate.set)
        with self._rt.waiting.holding(inside, meeting, gate.set):
            try:
                self._look()
                # A request to stop that came before the wait began would not wake it.
                if not inside.cancelled:
                    gate.wait(seconds)
            finally:
                self._leave(key, meeting, party)
        return self._outcome(inside, meeting, party, name, seconds)

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
        key = row_of(work_of(inside)).run, name, parties
        held = self._held_before(key, inside, value)
        if held is not None:
            return held.place, held.values
        waiting = self._rt.waiting
        wake = partial(resolve_on, loop, [future])
        meeting, party = self._come(key, inside, value, wake)
        waiting.enter(inside, meeting)
        try:
            try:
                self._look()
                await asyncio.wait([future], timeout=seconds)
            finally:
                self._leave(key, meeting, party)
        finally:
            await waiting.leave_async(inside, meeting)
        return self._outcome(inside, meeting, party, name, seconds)

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
        row = row_of(work_of(inside))
        if row.attempt != inside.attempt:
            msg = f"attempt {inside.attempt} of task {row.id} is over"
            raise NotRunningError(msg, task_id=row.id)
        return seconds

    def _held_before(
        self, key: tuple[str, str, int], inside: AttemptContext, value: Any
    ) -> _HeldMeeting | None:
        """Return the meeting that counts for this call, as it was held before."""
        rt, row = self._rt, row_of(work_of(inside))
        with rt.lock:
            came = _came_of(row)
            if came.attempt != inside.attempt:
                came.attempt, came.counts = inside.attempt, Counter()
            number, held = came.counts[key], came.held[key]
            if number == len(held):
                tasks = map(rt.kernel.tasks.get, reversed(earlier_ids(row.id)))
                runs = [
                    _came_of(run).held[key]
                    for run in tasks
                    if run is not None and run.cargo is not None
                ]
                before = next((run[number] for run in runs if number < len(run)), None)
                is_latest = rt.directory.reruns.is_latest
                if before is None or not before.counts_for(value, is_latest):
                    return None
                # So it counts for the others, too, if all who met run again.
                before.tasks.append(row.id)
                held.append(before)
            came.counts[key] += 1
            return held[number]

    def _come(
        self,
        key: tuple[str, str, int],
        inside: AttemptContext,
        value: Any,
        wake: Callable[[], object],
    ) -> tuple[_Meeting, _Party]:
        row = row_of(work_of(inside))
        party = _Party(row, value, wake)
        with self._rt.lock:
            meeting = self._going.get(key)
            if meeting is None:
                meeting = self._going[key] = _Meeting(self._rt, *key)
            if any(other.row is row for other in meeting.parties):
                msg = f"task {row.id} is at the meeting {key[1]!r} already"
                raise InvalidTaskError(msg, task_id=row.id)
            meeting.parties.append(party)
            if len(meeting.parties) == key[2]:
                # All have come: the name is free for the next meeting.
                del self._going[key]
                tasks = [each.row.id for each in meeting.parties]
                values = [each.value for each in meeting.parties]
                for place, each in enumerate(meeting.parties):
                    came = _came_of(each.row)
                    came.held[key].append(_HeldMeeting(place, tasks, values))
                    came.counts[key] += 1
                meeting.end()
        return meeting, party

    def _leave(
        self, key: tuple[str, str, int], meeting: _Meeting, party: _Party
    ) -> None:
        """End the wait of *party*; an incomplete meeting is broken."""
        with self._rt.lock:
            if meeting.broken is None:
                del self._going[key]
                meeting.left = party
                meeting.end(f"task {party.row.id} waits no more")

    def _outcome(
        self,
        inside: AttemptContext,
        meeting: _Meeting,
        party: _Party,
        name: str,
        timeout: float | None,
    ) -> tuple[int, list[Any]]:
        if not meeting.broken:
            parties = meeting.parties
            return parties.index(party), [each.value for each in parties]
        if inside.cancelled:
            stop_if_asked(inside)
        if meeting.left is party:
            msg = (
                f"the others have not come to the meeting {name!r} within {timeout:g} s"
            )
            raise TimeoutError(msg)
        msg = f"the meeting {name!r} is broken: {meeting.broken}"
        if meeting.holders:
            raise WouldDeadlockError(
                msg, holders=meeting.holders, task_id=inside.task_id
            )
        raise BrokenBarrierError(msg)

    def _listen(self) -> None:
        """Listen to news of tasks and resources while tasks wait for a meeting."""
        with self._mutex:
            if self._listening != bool(self._going):
                self._listening = not self._listening
                for name in _NEWS:
                    signal = getattr(self._rt.signals, name)
                    change = signal.connect if self._listening else signal.disconnect
                    change(self._look)

    def _look(self, _event: object = None) -> None:
        """Break the meetings that will never be held, as there is news."""
        # The last news may have come before the signals were connected.
        self._listen()
        texts: list[str] = []
        with self._rt.lock:
            for key, meeting in list(self._going.items()):
                if not any(meeting.missing()[1]):
                    del self._going[key]
                    why = (
                        f"{meeting.size} tasks are to come, and only "
                        f"{len(meeting.parties)} of workflow {key[0]} have not ended"
                    )
                    texts.append(self._give_up(key, meeting, why))
            while self._going and (waiting := self._rt.waiting.left().values()):
                waits = {each for _, targets in waiting for each in targets}
                keys = [key for key, each in self._going.items() if each in waits]
                if not keys:
                    break
                # The latest is broken, after which the others may be held.
                key = keys[-1]
                meeting = self._going.pop(key)
                meeting.holders = holders_of(waiting)
                why = (
                    f"{meeting.size - len(meeting.parties)} of {meeting.size} tasks "
                    f"cannot come before {some(meeting.holders)} let go of what they "
                    "hold"
                )
                texts.append(self._give_up(key, meeting, why))
        for text in texts:
            # A step publishes the notes.
            self._rt.step(lambda _: None)
            _LOG.warning("%s", text)
        self._listen()

    def _give_up(self, key: tuple[str, str, int], meeting: _Meeting, why: str) -> str:
        """End a meeting that will never be held; return a sentence; hold the lock."""
        text = f"The meeting {key[1]!r} of {key[0]} was given up: {why}."
        now, kernel = self._rt.now(), self._rt.kernel
        for party in meeting.parties:
            row = party.row
            _came_of(row).given_up[text] = None
            note = json.dumps(text)
            about = row.id, row.attempt, _OWN, key[1], note
            kernel.note(TaskNoted, now, *about, cargo=row.cargo)
        meeting.end(why)
        return text
