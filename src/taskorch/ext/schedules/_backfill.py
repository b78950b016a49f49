"""
A backfill: past ticks of a schedule that are run, a few at a time, with its progress.

Decision: schedules.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import attrs

from taskorch.errors import InvalidTaskError
from taskorch.ext.schedules._definition import Definition
from taskorch.kit.checks import check_count, check_word, zone_of
from taskorch.kit.frozen import document_of, frozen
from taskorch.kit.limits import NS
from taskorch.kit.visible import counted, is_text, show
from taskorch.kit.words import some

#: The orders in which the ticks of a backfill are run.
ORDERS: Final = ("oldest", "newest")
#: The largest number of runs of one backfill at a time.
MOST_AT_ONCE: Final = 1_000
#: The time, in ns, of a backfill that is looked at only when one of its runs changes.
NOT_YET: Final = 2**63
#: The number of failures that a backfill names, the latest.
_NAMED: Final = 20


def check_options(limit: int, order: str, by: str) -> dict[str, Any]:
    """
    Return the options of a backfill, by their names.

    Raises:
        InvalidTaskError: An option has an invalid value.
    """
    check_count("limit", limit, least=1)
    if limit > MOST_AT_ONCE:
        msg = f"limit is at most {MOST_AT_ONCE:,}, not {limit:,}"
        raise InvalidTaskError(msg)
    check_word("order", order, ORDERS)
    if not is_text(by):
        msg = f"by is the name of somebody, not {show(by)}"
        raise InvalidTaskError(msg)
    return {"limit": limit, "order": order, "by": by}


class Backfilled(list[str]):
    """
    The ids of the tasks or runs for the ticks of a backfill.

    Attributes:
        already: The ids that existed already, for which nothing is done.
        backfill_id: The backfill that makes the others; "": there are none.
    """

    def __init__(
        self, ids: Iterable[str], already: Iterable[str] = (), backfill_id: str = ""
    ) -> None:
        super().__init__(ids)
        self.already: tuple[str, ...] = tuple(already)
        self.backfill_id: str = backfill_id


@attrs.frozen
class TickRun:
    """
    The task or run of a backfill for one tick, from the moment of its decision on.

    Attributes:
        slot_ns: The tick.
        before: The id of the run that is repeated; "": it is new.
        asked_ns: The time of the decision.
        is_begun: Whether it has been made.
    """

    slot_ns: int
    before: str
    asked_ns: int
    is_begun: bool = False


@attrs.define(eq=False)
class Backfill:
    """
    A backfill with its options and its progress; the journal keeps it as its text.

    Attributes:
        backfill_id: Its id.
        schedule: The schedule whose ticks it runs.
        times: The `when`, zone, start and end of the schedule as the backfill began.
        since_ns: The first moment.
        until_ns: The last one.
        limit: How many of its runs go on at a time.
        order: `oldest` or `newest` first.
        parameters: Parameters besides the schedule's own, as JSON has them.
        again: Whether runs that have ended are repeated.
        stop_on_failure: Whether it pauses once a run has failed.
        by: Who began it, or "".
        begun_ns: When it began, by the system's clock.
        asked_ns: When it began, by the clock of events: runs that go on then, or begin
            later, are not repeated.
        ticks: How many there are.
        place: The number of ticks, in its order, that are decided.
        already: The number of these that had their run before.
        done: How many runs have ended, but for the failed ones.
        failed: How many runs have failed or were cancelled.
        failures: The latest of these.
        runs: Its runs by id, without the ones known to have ended.
        paused: Why it begins none, until it is resumed; or "".
        cancelled: Why it begins none any more; or "".
        ended_ns: When it ended; 0: it has not.
        blocked: The runs that wait for a person, or for an event.
        which: The definition for repeated runs; "": as deployed, where that is known.
    """

    backfill_id: str
    schedule: str
    times: tuple[str, str, int | None, int | None]
    since_ns: int
    until_ns: int
    limit: int
    order: str
    parameters: dict[str, Any]
    again: bool
    stop_on_failure: bool
    by: str
    begun_ns: int
    asked_ns: int
    ticks: int
    place: int = 0
    already: int = 0
    done: int = 0
    failed: int = 0
    failures: tuple[str, ...] = ()
    runs: dict[str, TickRun] = attrs.Factory(dict)
    paused: str = ""
    cancelled: str = ""
    ended_ns: int = 0
    blocked: tuple[str, ...] = ()
    which: str = ""

    # -- of this incarnation: not kept ----------------------------------------------

    #: Why it starts no run although one could begin, or "".
    trouble: str = ""
    #: The next time at which it is looked at, in ns.
    look_ns: int = 0

    @property
    def number(self) -> int:
        """The number in its id, which rises with each backfill."""
        return int(self.backfill_id.rpartition("-")[2])

    @property
    def free(self) -> int:
        """The number of runs that may begin now."""
        if self.paused or self.cancelled:
            return 0
        return self.limit - len(self.runs) + len(self.blocked)

    @property
    def is_over(self) -> bool:
        """True if it starts no more runs."""
        return bool(self.cancelled) or self.place == self.ticks

    @property
    def may_begin(self) -> bool:
        """True if a run may begin now, or is decided and not made yet."""
        if self.free > 0 and not self.is_over:
            return True
        return not all(run.is_begun for run in self.runs.values())

    @property
    def goes_on(self) -> bool:
        """True if it makes progress without anybody's help."""
        if self.trouble:
            return False
        runs = len(self.runs) > len(self.blocked)
        return runs or not (self.is_over or self.paused)

    @property
    def is_open(self) -> bool:
        """True if a run of it may still begin or end."""
        return bool(self.runs) or not (self.is_over or self.paused)

    @property
    def state(self) -> str:
        """`running`, `paused`, `done` or `cancelled`."""
        if self.cancelled:
            return "cancelled"
        if self.is_over and not self.runs:
            return "done"
        return "paused" if self.paused else "running"

    def named_failures(self, failures: Iterable[str]) -> tuple[str, ...]:
        """Return the latest failures, with some new ones."""
        return (*self.failures, *failures)[-_NAMED:]

    def definition(self) -> Definition:
        """Return the definition of its schedule, for its ticks only."""
        when, zone, start_ns, end_ns = self.times
        return Definition(self.schedule, when, zone, start_ns=start_ns, end_ns=end_ns)

    def text(self) -> str:
        """Return the backfill as JSON."""
        runs = {made_id: attrs.astuple(run) for made_id, run in self.runs.items()}
        document = {name: getattr(self, name) for name in _KEPT}
        return json.dumps({**document, "runs": runs}, ensure_ascii=False)

    def status(self) -> BackfillStatus:
        """Return its status."""
        zone = zone_of(self.times[1])
        running = [each for each in self.runs if each not in self.blocked]
        begun = [each for each in running if self.runs[each].is_begun]
        return BackfillStatus(
            **{name: getattr(self, name) for name in _SAME},
            since=_moment(self.since_ns).astimezone(zone),
            until=_moment(self.until_ns).astimezone(zone),
            begun=_moment(self.begun_ns),
            ended=_moment(self.ended_ns) if self.ended_ns else None,
            running=tuple(begun),
            left=0
            if self.cancelled
            else self.ticks - self.place + len(running) - len(begun),
            parameters=dict(self.parameters),
        )


@frozen
class BackfillStatus:
    """
    The status of a backfill.

    Each tick counts in one of `already`, `done`, `failed`, `running`, `blocked` and
    `left`. If it was cancelled, ticks that never begin count in none.

    Attributes:
        backfill_id: Its id.
        schedule: The schedule whose ticks it runs.
        state: `running`, `paused`, `done` or `cancelled`.
        since: Its first moment.
        until: Its last moment.
        limit: How many of its runs go on at a time.
        order: Which ticks come first: `oldest` or `newest`.
        parameters: Parameters besides the schedule's own.
        again: Whether it repeats runs that have ended.
        stop_on_failure: Whether it pauses once a run has failed, or is blocked.
        by: Who began it, or "".
        begun: When it began, in UTC.
        ended: When it was over or was cancelled, in UTC; or None.
        ticks: How many there are.
        already: How many of them had their run before.
        done: How many runs have ended, but for the failed ones.
        failed: How many runs have failed or were cancelled.
        running: The runs that go on.
        blocked: The runs that wait for a person or for an event; they do not count for
            `limit`.
        left: How many have not begun.
        failures: The latest that have failed.
        paused: Why it is paused, or "".
        cancelled: Why it was cancelled, or "".
        trouble: Why it starts no run although one could begin, or "".
    """

    backfill_id: str
    schedule: str
    state: str
    since: datetime
    until: datetime
    limit: int
    order: str
    parameters: Mapping[str, Any]
    again: bool
    stop_on_failure: bool
    by: str
    begun: datetime
    ended: datetime | None
    ticks: int
    already: int
    done: int
    failed: int
    running: tuple[str, ...]
    blocked: tuple[str, ...]
    left: int
    failures: tuple[str, ...]
    paused: str
    cancelled: str
    trouble: str

    def __str__(self) -> str:
        who = f" by {self.by}" if self.by else ""
        counts = (
            f"Of {counted(self.ticks, 'tick')}: {self.done:,} done, "
            f"{self.failed:,} failed, {len(self.running):,} running, "
            f"{self.left:,} to come"
        )
        if self.already:
            counts += f", {self.already:,} had their run before"
        begun = self.begun.isoformat(timespec="seconds")
        state = f"{self.backfill_id} is {self.state}"
        why = self.cancelled or (self.paused if self.state == "paused" else "")
        sentences = [
            f"{state}: {why}." if why else f"{state}.",
            f"{counts}.",
            f"It began at {begun}{who}.",
        ]
        if self.blocked:
            sentences.append(f"{some(self.blocked)} wait for a person or an event.")
        if self.failures:
            sentences.append(f"The latest failures: {some(self.failures)}.")
        if self.trouble:
            sentences.append(self.trouble)
        return " ".join(sentences)

    def to_dict(self) -> dict[str, Any]:
        """Return the status as JSON has it."""
        return {**document_of(self), "text": str(self)}


#: Fields of a status that are the same in the backfill.
_SAME: Final = tuple(
    field.name
    for field in attrs.fields(BackfillStatus)
    if field.name != "parameters" and hasattr(Backfill, field.name)
)
#: Fields of a backfill that are kept, but for its runs.
_KEPT: Final = tuple(
    field.name
    for field in attrs.fields(Backfill)
    if field.name not in ("runs", "trouble", "look_ns")
)


def read_backfill(text: str) -> Backfill:
    """Read a backfill from its text."""
    document = json.loads(text)
    runs = {name: TickRun(*run) for name, run in document.pop("runs").items()}
    when, zone, start_ns, end_ns = document.pop("times")
    for name in ("failures", "blocked"):
        document[name] = tuple(document[name])
    # A later version may have more fields, and an earlier one fewer.
    document.setdefault("which", "")
    fields = {name: document[name] for name in _KEPT if name != "times"}
    return Backfill(**fields, times=(when, zone, start_ns, end_ns), runs=runs)


def _moment(ns: int) -> datetime:
    return datetime.fromtimestamp(ns / NS, UTC)
