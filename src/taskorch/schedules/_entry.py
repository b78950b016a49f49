"""
A schedule of this life with its times, and what is to be made for one of its ticks.

Decisions: 0085, 0096, 0255.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import takewhile
from typing import Any, Final

import attrs

from taskorch.errors import InvalidTaskError, UsageError
from taskorch.kit.limits import NS
from taskorch.kit.ticks import TickProgress
from taskorch.kit.visible import said, show
from taskorch.model import MadeFor, Task
from taskorch.schedules._definition import Definition, Work
from taskorch.schedules._times import SlotTimes
from taskorch.workflows import Workflow, WorkflowFunction
from taskorch.workflows._functions import checked, written
from taskorch.workflows._parameters import (
    DIGESTS,
    SLOT,
    as_json,
    as_text,
    digest_of,
    kept,
)

#: Ticks of cron that are counted at one time.
_MOST: Final = 10_000
_NO_SUCH_VALUES: Final = (
    "the parameters of a backfill are texts, numbers, flags and times"
)


@attrs.define(eq=False)
class LiveSchedule:
    """A schedule of this incarnation: its ticks, and how far they came."""

    definition: Definition
    #: None: nobody has said yet what it makes, or it cannot be read.
    work: Work | None
    times: SlotTimes
    #: How far its ticks came. It is replaced, once that is kept.
    progress: TickProgress
    #: The tick that comes next, and when it is due; None: none comes.
    slot_ns: int | None = None
    due_ns: int = 0
    #: What it made that may not have ended, the latest last.
    made: dict[str, None] = attrs.field(factory=dict[str, None])
    #: Ticks that are not decided about, and are a backfill's to make.
    claimed: frozenset[int] = frozenset()
    #: An earlier life may have made ticks, and died before it noted that.
    is_unsure: bool = False
    #: Ticks up to this one may have been made by a schedule of its name that was
    #: removed, before the system's clock was set back.
    older_ns: int = 0
    #: When one that was refused is tried again, in ns.
    again_ns: int = 0
    #: Why the tick that is due does not come.
    trouble: str = ""
    #: Which tick could not be made, as its id was another's, and when that was.
    taken: str = ""
    taken_ns: int = 0
    #: The schedule that makes the same and was said in this life, as this one was not:
    #: it has another name now, and makes nothing under the old one.
    renamed: str = ""

    @property
    def is_run(self) -> bool:
        return isinstance(self.work, Workflow | WorkflowFunction)

    @property
    def before_ns(self) -> int:
        """Up to when ticks may have been made before the clock was set back."""
        return max(self.definition.before_ns, self.older_ns)

    @property
    def done_ns(self) -> int:
        """Up to when each of its ticks is made, skipped or waits."""
        return self.progress.done_ns

    @property
    def waiting(self) -> dict[int, None]:
        """Ticks that have come, and wait for the run before to end, in their order."""
        return self.progress.waiting

    def slots(self, after_ns: int, until_ns: int | None) -> Iterator[int]:
        """The ticks after a time, up to another, that are not decided about."""
        definition, claimed = self.definition, self.claimed
        filled, waiting = self.progress.filled, self.waiting
        if definition.start_ns is not None:
            after_ns = max(after_ns, definition.start_ns - 1)
        slot = self.times.after(after_ns)
        while slot is not None:
            if until_ns is not None and slot > until_ns:
                return
            if definition.end_ns is not None and slot > definition.end_ns:
                return
            if slot not in filled and slot not in waiting and slot not in claimed:
                yield slot
            slot = self.times.after(slot)

    def due(self, now: int) -> Iterator[int]:
        """The ticks that are due and not done."""
        put_off = self.definition.put_off_ns
        return takewhile(
            lambda slot: slot + put_off(slot) <= now, self.slots(self.done_ns, now)
        )

    def missed(self, now: int, *, put_off: bool = True) -> tuple[int, int, list[int]]:
        """
        The ticks that are due and not done; without *put_off*, jitter is none.

        Returns:
            How many there are before those that came last; the last one of these, or
            0; and those that came last: several, if one was put off until others came.
            Of cron, they are counted up to a number.
        """
        definition, came = self.definition, 0
        since = max(self.done_ns, (definition.start_ns or 0) - 1)
        until = now if definition.end_ns is None else min(now, definition.end_ns)
        first, (count, since) = since, self.times.pass_over(since, until, _MOST)
        before, last, limit = since, list[int](), count + _MOST
        if count:
            decided = {*self.progress.filled, *self.waiting, *self.claimed}
            count -= sum(first < slot <= since for slot in decided)
        for slot in self.slots(since, now):
            moment = slot + definition.put_off_ns(slot) if put_off else slot
            if moment > now:
                break
            if moment > came:
                if last:
                    before = last[-1]
                    count += len(last)
                came, last = moment, []
            last.append(slot)
            if count >= limit:
                latest = self.times.until(until)
                return count, before, last if latest is None else [latest]
        return count, before if count else 0, last

    def moment(self, ns: int) -> datetime:
        """Return a time in the zone of the schedule."""
        return datetime.fromtimestamp(ns / NS, UTC).astimezone(self.times.zone)

    def moment_or_none(self, ns: int | None) -> datetime | None:
        """Return a time in the zone of the schedule; None: there is none."""
        return None if ns is None else self.moment(ns)


@attrs.frozen(eq=False)
class SlotOrder:
    """What is to be made for a tick."""

    entry: LiveSchedule
    slot_ns: int
    made_id: str
    #: `clock`, `trigger` or `backfill`.
    by: str
    #: What must have ended before.
    after: tuple[str, ...] = ()
    #: Those that are given besides the schedule's own.
    parameters: Mapping[str, Any] | None = None

    @property
    def values(self) -> dict[str, Any]:
        """The parameters that are given for it."""
        return {**self.entry.definition.parameters, **(self.parameters or {})}

    @property
    def slot(self) -> datetime:
        return self.entry.moment(self.slot_ns)

    def note(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """What is noted with what is made with these values."""
        return MadeFor.note(self.entry.definition.name, self.slot, values)


def task_of(work: Task, order: SlotOrder) -> Task:
    """Return the task of a tick."""
    metadata = {**(work.metadata or {}), **order.note(order.values)}
    if not order.after:
        return attrs.evolve(work, id=order.made_id, metadata=metadata)
    return attrs.evolve(
        work,
        id=order.made_id,
        metadata=metadata,
        after=(*work.after, *order.after),
        join="finished",
        on_parent_failure="run",
    )


def workflow_for(
    work: Workflow | WorkflowFunction[...], order: SlotOrder
) -> tuple[Workflow, dict[str, Any]]:
    """
    The workflow of a tick, and the parameters that are kept with its run.

    Raises:
        InvalidTaskError: The parameters are not those of the workflow, or the function
            that writes it down has raised.
    """
    try:
        return written(work, order.values, order.slot)
    except UsageError:
        raise
    except Exception as error:
        msg = f"{work.name} raises {': '.join(said(error))}"
        raise InvalidTaskError(msg) from error


def plain_parameters(
    entry: LiveSchedule, parameters: Mapping[str, Any] | None, slots: list[int]
) -> dict[str, Any]:
    """
    Parameters of a backfill as JSON has them.

    Raises:
        InvalidTaskError: They are not those of what is made, or JSON has none such.
    """
    if not parameters:
        return {}
    for slot in slots[:1]:
        values_of(entry, slot, parameters)
    plain_values = as_json(kept(parameters))
    as_text(plain_values)
    if plain_values.keys() != parameters.keys():
        raise InvalidTaskError(_NO_SUCH_VALUES)
    return plain_values


def values_of(
    entry: LiveSchedule, slot_ns: int, parameters: Mapping[str, Any]
) -> dict[str, Any]:
    """
    All parameters of what is made for a tick, if they are not the schedule's own.

    Args:
        entry: The schedule.
        slot_ns: The tick.
        parameters: Those besides the own ones.

    Returns:
        The parameters as JSON has them, without the tick if each has its own; none, if
        they are the schedule's own.

    Raises:
        InvalidTaskError: They are not those of what is made, or no id can say them.
    """
    work = entry.work
    if not parameters or work is None:
        return {}
    own = SlotOrder(entry, slot_ns, "", "backfill")
    every: list[dict[str, Any]] = []
    for order in (own, attrs.evolve(own, parameters=parameters)):
        values = order.values
        if not isinstance(work, Task):
            values = checked(work, values, order.slot)
        every.append(as_plain(values, has_slot=SLOT in order.values))
    if not parameters.keys() <= every[1].keys():
        raise InvalidTaskError(_NO_SUCH_VALUES)
    return {} if as_text(every[0]) == as_text(every[1]) else every[1]


def as_plain(values: Mapping[str, Any], *, has_slot: bool) -> dict[str, Any]:
    """Values as JSON has them; without the tick, if each tick has its own."""
    plain_values = as_json(kept(values))
    if not has_slot:
        plain_values.pop(SLOT, None)
    return plain_values


def id_with(
    entry: LiveSchedule,
    slot_ns: int,
    values: Mapping[str, Any],
    length: int = DIGESTS[0],
) -> str:
    """The id of what is made for a tick with *values*; none: with the own ones."""
    word = f"-{digest_of(values, length)}" if values else ""
    return entry.definition.slot_id(slot_ns, word)


def ticks_between(definition: Definition, first_ns: int, last_ns: int) -> Iterator[int]:
    """Reckon all ticks from a time to another, whatever became of them."""
    # With times of its own: those of the schedule are asked meanwhile.
    progress = TickProgress(first_ns - 1)
    bare = LiveSchedule(definition, None, definition.times(), progress)
    return bare.slots(first_ns - 1, last_ns)


def nobody_said(definition: Definition) -> str:
    """Say that the program has not said what a schedule makes."""
    work = next(iter(definition.work.values()), "?")
    return (
        f"Nobody has said in this life what {definition.name} makes ({show(work)}): "
        f"orch.schedules.add({definition.name!r}, …) does."
    )
