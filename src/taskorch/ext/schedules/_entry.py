"""
A schedule of this incarnation with its times, and the order to make one tick.

Decisions: extensions, schedules.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import takewhile
from typing import Any, Final

import attrs

from taskorch.core.workflows import Workflow, WorkflowFunction
from taskorch.core.workflows._functions import checked, written
from taskorch.core.workflows._parameters import (
    DIGESTS,
    TICK,
    as_json,
    as_text,
    digest_of,
    kept,
)
from taskorch.errors import InvalidTaskError, UsageError
from taskorch.ext.schedules._definition import Definition, Work
from taskorch.ext.schedules._times import TickTimes
from taskorch.kit.fence import is_values
from taskorch.kit.limits import NS
from taskorch.kit.ticks import TickProgress
from taskorch.kit.visible import said, show
from taskorch.model import MadeFor, Task

#: The largest number of cron ticks that are counted at once.
_MOST: Final = 10_000
_NO_SUCH_VALUES: Final = (
    "the parameters of a backfill are texts, numbers, flags and times"
)


@attrs.define(eq=False)
class LiveSchedule:
    """A schedule of this incarnation, with its ticks and its progress."""

    definition: Definition
    #: The work; None: nobody has declared it yet, or it cannot be read.
    work: Work | None
    times: TickTimes
    #: The progress of its ticks, which is replaced once a new one is kept.
    progress: TickProgress
    #: The next tick, and when it is due; None: there is none.
    slot_ns: int | None = None
    due_ns: int = 0
    #: The ids of its work that may not have ended, the latest last.
    made: dict[str, None] = attrs.field(factory=dict[str, None])
    #: Undecided ticks that a backfill makes.
    claimed: frozenset[int] = frozenset()
    #: An earlier incarnation may have made ticks, and died before it noted that.
    is_unsure: bool = False
    #: The last tick that a removed schedule of the same name may have made before the
    #: system's clock was set back.
    older_ns: int = 0
    #: The time, in ns, at which a refused tick is tried again.
    again_ns: int = 0
    #: The reason why the due tick does not come.
    trouble: str = ""
    #: The tick whose id was taken by another task, and when that was found.
    taken: str = ""
    taken_ns: int = 0
    #: The new name of this schedule: another one of this incarnation has the same work,
    #: and this one was not declared. It makes nothing under the old name.
    renamed: str = ""

    @classmethod
    def new(cls, definition: Definition, work: Work, now: int) -> LiveSchedule:
        """Make one of which no tick before *now* is due."""
        return cls(definition, work, definition.times(), TickProgress(now))

    def redefine(self, definition: Definition, work: Work) -> None:
        """Take another definition, and its work."""
        self.definition, self.work = definition, work
        self.times, self.trouble = definition.times(), ""
        self.renamed, self.again_ns = "", 0

    @property
    def is_run(self) -> bool:
        return isinstance(self.work, Workflow | WorkflowFunction)

    def options(self) -> dict[str, Any]:
        """Return its options as `add` takes them, without name, times and work."""
        definition = self.definition
        return {
            "zone": definition.zone,
            "catch_up": definition.catch_up,
            "overlap": definition.overlap,
            "jitter": definition.jitter,
            "start": self.moment_or_none(definition.start_ns),
            "end": self.moment_or_none(definition.end_ns),
            "parameters": definition.parameters or None,
            "keep_for": definition.keep_for,
            "keep_latest": definition.keep_latest,
        }

    @property
    def before_ns(self) -> int:
        """The last tick that may exist from before the clock was set back."""
        return max(self.definition.before_ns, self.older_ns)

    @property
    def done_ns(self) -> int:
        """The time up to which each tick is made, skipped or waits."""
        return self.progress.done_ns

    @property
    def waiting(self) -> dict[int, None]:
        """Ticks that wait for the run before to end, in their order."""
        return self.progress.waiting

    def slots(self, after_ns: int, until_ns: int | None) -> Iterator[int]:
        """Return the undecided ticks after a time, up to another."""
        definition, claimed = self.definition, self.claimed
        filled, waiting = self.progress.filled, self.waiting
        if definition.start_ns is not None:
            after_ns = max(after_ns, definition.start_ns - 1)
        tick = self.times.after(after_ns)
        while tick is not None:
            if until_ns is not None and tick > until_ns:
                return
            if definition.end_ns is not None and tick > definition.end_ns:
                return
            if tick not in filled and tick not in waiting and tick not in claimed:
                yield tick
            tick = self.times.after(tick)

    def due(self, now: int) -> Iterator[int]:
        """Return the ticks that are due and not done."""
        put_off = self.definition.put_off_ns
        return takewhile(
            lambda tick: tick + put_off(tick) <= now, self.slots(self.done_ns, now)
        )

    def missed(self, now: int, *, put_off: bool = True) -> tuple[int, int, list[int]]:
        """
        Return the due ticks that are not done; without *put_off*, ignore jitter.

        Returns:
            The number of the earlier ones; the last of these, or 0; and the latest
            ones: several, if jitter has delayed one until others came. With cron, they
            are counted up to a limit.
        """
        definition, came = self.definition, 0
        since = max(self.done_ns, (definition.start_ns or 0) - 1)
        until = now if definition.end_ns is None else min(now, definition.end_ns)
        first, (count, since) = since, self.times.pass_over(since, until, _MOST)
        before, last, limit = since, list[int](), count + _MOST
        if count:
            decided = {*self.progress.filled, *self.waiting, *self.claimed}
            count -= sum(first < tick <= since for tick in decided)
        for tick in self.slots(since, now):
            moment = tick + definition.put_off_ns(tick) if put_off else tick
            if moment > now:
                break
            if moment > came:
                if last:
                    before = last[-1]
                    count += len(last)
                came, last = moment, []
            last.append(tick)
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
class TickOrder:
    """An order to make the task or run of a tick."""

    entry: LiveSchedule
    slot_ns: int
    made_id: str
    #: `clock`, `trigger` or `backfill`.
    by: str
    #: The ids that must have ended before.
    after: tuple[str, ...] = ()
    #: The parameters besides the schedule's own.
    parameters: Mapping[str, Any] | None = None

    @property
    def values(self) -> dict[str, Any]:
        """The parameters that are given for it."""
        return {**self.entry.definition.parameters, **(self.parameters or {})}

    @property
    def slot(self) -> datetime:
        return self.entry.moment(self.slot_ns)

    def note(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the metadata for its task or run with these values."""
        return MadeFor.note(self.entry.definition.name, self.slot, values)


def task_of(work: Task, order: TickOrder) -> Task:
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
    work: Workflow | WorkflowFunction[...], order: TickOrder
) -> tuple[Workflow, dict[str, Any]]:
    """
    Return the workflow of a tick, and the parameters that are kept with its run.

    Raises:
        InvalidTaskError: The workflow has no such parameters, or its function has
            raised an error.
    """
    try:
        return written(work, order.values, order.slot)
    except UsageError:
        raise
    except BaseException as error:
        # The function belongs to the user: its exit ends nothing else, either.
        if not (isinstance(error, SystemExit) or is_values(error)):
            raise
        msg = f"{work.name} raises {': '.join(said(error))}"
        raise InvalidTaskError(msg) from error


def plain_parameters(
    entry: LiveSchedule, parameters: Mapping[str, Any] | None, ticks: list[int]
) -> dict[str, Any]:
    """
    Return the parameters of a backfill as JSON has them.

    Raises:
        InvalidTaskError: The work has no such parameters, or JSON cannot hold them.
    """
    if not parameters:
        return {}
    for tick in ticks[:1]:
        values_of(entry, tick, parameters)
    plain_values = as_json(kept(parameters))
    as_text(plain_values)
    if plain_values.keys() != parameters.keys():
        raise InvalidTaskError(_NO_SUCH_VALUES)
    return plain_values


def values_of(
    entry: LiveSchedule, slot_ns: int, parameters: Mapping[str, Any]
) -> dict[str, Any]:
    """
    Return all parameters for a tick, if they differ from the schedule's own.

    Args:
        entry: The schedule.
        slot_ns: The tick.
        parameters: Parameters besides the schedule's own.

    Returns:
        The parameters as JSON has them, without the tick if each has its own; empty, if
        they are the schedule's own.

    Raises:
        InvalidTaskError: The work has no such parameters, or no id can hold them.
    """
    work = entry.work
    if not parameters or work is None:
        return {}
    own = TickOrder(entry, slot_ns, "", "backfill")
    every: list[dict[str, Any]] = []
    for order in (own, attrs.evolve(own, parameters=parameters)):
        values = order.values
        if not isinstance(work, Task):
            values = checked(work, values, order.slot)
        every.append(as_plain(values, has_tick=TICK in order.values))
    if not parameters.keys() <= every[1].keys():
        raise InvalidTaskError(_NO_SUCH_VALUES)
    return {} if as_text(every[0]) == as_text(every[1]) else every[1]


def as_plain(values: Mapping[str, Any], *, has_tick: bool) -> dict[str, Any]:
    """Return values as JSON has them; without the tick, if each tick has its own."""
    plain_values = as_json(kept(values))
    if not has_tick:
        plain_values.pop(TICK, None)
    return plain_values


def id_with(
    entry: LiveSchedule,
    slot_ns: int,
    values: Mapping[str, Any],
    length: int = DIGESTS[0],
) -> str:
    """Return the id for a tick with *values*; with none, its own id."""
    word = f"-{digest_of(values, length)}" if values else ""
    return entry.definition.tick_id(slot_ns, word)


def ticks_between(definition: Definition, first_ns: int, last_ns: int) -> Iterator[int]:
    """Compute all ticks from a time to another, whether they are done or not."""
    # A copy of the times, because other threads use those of the schedule meanwhile.
    progress = TickProgress(first_ns - 1)
    bare = LiveSchedule(definition, None, definition.times(), progress)
    return bare.slots(first_ns - 1, last_ns)


def nobody_said(definition: Definition) -> str:
    """Return the error that the program has not declared the work of a schedule."""
    work = next(iter(definition.work.values()), "?")
    return (
        f"Nobody has said in this incarnation what {definition.name} makes "
        f"({show(work)}): orch.schedules.add({definition.name!r}, …) does."
    )
