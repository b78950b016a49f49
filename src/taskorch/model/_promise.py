"""Predictions of the end of a task or a run, as sentences."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from taskorch.kit.frozen import document_of, frozen
from taskorch.kit.visible import counted, visible
from taskorch.kit.words import duration, local_moment, stamp

#: The most rows of a table, and the most further names in a line.
_SHOWN: Final = 30
_NAMED: Final = 3


@frozen
class Promise:
    """
    Prediction of the end of a task or a run; `str()` of it is in sentences.

    A task that fails for good has ended, too: `basis` says in how many draws it does.

    The record counts the first answer about each task or run; cancelled ones do not
    count, nor answers about schedules and about work that is not submitted yet. A task
    that has run for longer than all that were measured is given more time, and never
    none. Of 2,541 tasks of 26 recorded workflows, asked about while these ran on two to
    eight slots, 88 % ended by their `p90` and 52 % by their `p50`.

    Attributes:
        id: The id of the task, or of the run.
        state: Its state.
        at: The time of the question.
        ended: The time of its end; None if it has not ended.
        p50: The time by which it ends as likely as not; None if unknown.
        p90: The time by which it ends in nine of ten cases; None if unknown.
        not_before: A lower bound of its end, if there was no time to find out more.
        deadline: Its deadline, or the time that was asked about, or None.
        risk: The probability that it ends later than that, from 0 to 1; None if
            unknown.
        draws: The number of simulations with different durations.
        unknown: The reasons why a value is unknown, in sentences.
        basis: The basis of the prediction, in sentences.
        settled: How many earlier predictions have been settled by an end since; each is
            the first one about a task or a run.
        held_p50: How many of those ended by their `p50`.
        held_p90: How many of those ended by their `p90`.
    """

    id: str
    state: str
    at: datetime
    ended: datetime | None = None
    p50: datetime | None = None
    p90: datetime | None = None
    not_before: datetime | None = None
    deadline: datetime | None = None
    risk: float | None = None
    draws: int = 0
    unknown: tuple[str, ...] = ()
    basis: tuple[str, ...] = ()
    settled: int = 0
    held_p50: int = 0
    held_p90: int = 0

    def __str__(self) -> str:
        lines = [self._first(), *self._of_deadline()]
        if self.unknown:
            lines += self.unknown
        elif self.ended is None:
            lines += self.basis
        if self.settled and self.ended is None:
            lines.append(self._record())
        return visible("\n".join(lines))

    def _first(self) -> str:
        if self.ended is not None:
            return f"{self.id} ended at {local_moment(self.ended)}: it is {self.state}."
        if self.p50 is not None and self.p90 is not None:
            likely = f"within {self._span(self.p50)} as likely as not"
            most = f"within {self._span(self.p90)} in nine of ten cases"
            return f"{self.id} ends {likely}, and {most}."
        if self.p50 is not None:
            return f"{self.id} ends within {self._span(self.p50)} as likely as not."
        if self.not_before is not None:
            return f"{self.id} does not end within {self._span(self.not_before)}."
        return f"Nobody knows when {self.id} ends."

    def _span(self, until: datetime) -> str:
        """Return the duration until *until*, and the time, in words."""
        seconds = max(0.0, (until - self.at).total_seconds())
        return f"{duration(seconds)} ({local_moment(until)})"

    def _record(self) -> str:
        """Return how many earlier promises held, in words."""
        earlier = counted(self.settled, "such promise")
        return (
            f"Of {earlier} before it, {self.held_p90:,} ended by the time of nine in "
            f"ten, and {self.held_p50:,} by that of one in two."
        )

    def _of_deadline(self) -> list[str]:
        if self.deadline is None:
            return []
        when = local_moment(self.deadline)
        if self.ended is not None:
            met = "met" if self.ended <= self.deadline else "missed"
            return [f"Its deadline of {when} was {met}."]
        if self.risk is None:
            return [f"Whether it ends by {when}, nobody knows."]
        share = f"{round(100 * self.risk)} % ({self.draws:,} draws)"
        return [f"The risk that it ends later than {when} is {share}."]

    def to_dict(self) -> dict[str, Any]:
        """Return the document that a service answers."""
        return {**document_of(self, moment=_stamp), "text": str(self)}


@frozen
class EndChange:
    """
    Effect of a change on the end of one run, or of one task on its own.

    Attributes:
        id: Its id.
        before: The likely end without the change; None if unknown.
        after: The likely end with the change; None if unknown, or if it cannot end
            while the change lasts.
        seconds: The delay in seconds; below 0 if it ends sooner; None if one end is
            unknown.
    """

    id: str
    before: datetime | None
    after: datetime | None
    seconds: float | None

    def __str__(self) -> str:
        if self.seconds is None:
            return f"{self.id} has no end that is known"
        if not self.seconds:
            return f"{self.id} ends as before"
        later = "later" if self.seconds > 0 else "sooner"
        return f"{self.id} ends {duration(abs(self.seconds))} {later}"

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON has them."""
        return {**document_of(self, moment=_stamp), "text": str(self)}


@frozen
class WhatIf:
    """
    Effects of changes on all open runs and tasks; `str()` of it is a table.

    Attributes:
        at: The time of the question.
        changes: The changes, as calls that would make them; none was made.
        ends: The effect on each run, and on each task on its own.
        draws: The number of simulations of both cases, with the same durations.
        unknown: Unknown effects, in sentences.
    """

    at: datetime
    changes: tuple[str, ...]
    ends: tuple[EndChange, ...]
    draws: int = 0
    unknown: tuple[str, ...] = ()

    def __str__(self) -> str:
        rows = [("", "ends now", "would end", "")]
        rows += [
            (each.id, self._in(each.before), self._in(each.after), _difference(each))
            for each in self.ends[:_SHOWN]
        ]
        wide = [max(len(row[n]) for row in rows) for n in range(3)]
        lines = [f"If you call {each}:" for each in self.changes]
        lines += ["  ".join(map(str.ljust, row, (*wide, 0))).rstrip() for row in rows]
        more = len(self.ends) - _SHOWN
        if more > 0:
            lines.append(f"… and {more:,} more, which change less.")
        if not self.ends:
            lines = [*lines[:-1], "Nothing is open."]
        return visible("\n".join([*lines, *self.unknown]))

    def _in(self, end: datetime | None) -> str:
        if end is None:
            return "unknown"
        return f"in {duration(max(0.0, (end - self.at).total_seconds()))}"

    def to_dict(self) -> dict[str, Any]:
        """Return the document that a service answers."""
        return {**document_of(self, moment=_stamp), "text": str(self)}


@frozen
class TimelyChange:
    """
    One change after which a task or run ends in time, or two where no single one does.

    Attributes:
        kind: `priority`, `pool`, `worker` (more workers of a template), `slots` (more
            attempts at once, from the next start), or `later` (another run waits until
            this one has ended). Of two changes both, as in `priority and pool`.
        call: The call that makes it.
        p90: The time by which it then ends in nine of ten cases.
        ends: The other runs and tasks that then end at another time; None if there was
            no time to find out.
        requests: The same change as requests: of each the `operation`, its `subject`,
            and the `body`; empty if a service cannot make it.
    """

    kind: str
    call: str
    p90: datetime
    ends: tuple[EndChange, ...] | None = ()
    requests: tuple[Mapping[str, Any], ...] = ()

    def __str__(self) -> str:
        until = ""
        if self.kind == "later":
            until = ", until it has ended"
        elif "slots" in self.kind:
            until = ", from the next start of the program"
        if self.ends is None:
            return f"{self.call}{until}: what it does to others, nobody had time to see"
        others = "; ".join(map(str, self.ends[:_NAMED])) or "nothing else ends later"
        more = len(self.ends) - _NAMED
        rest = f"; and {more:,} more" if more > 0 else ""
        return f"{self.call}{until}: {others}{rest}"

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON has them."""
        return document_of(self, moment=_stamp)


@frozen
class InTime:
    """
    Changes for a task or run to end in time; `str()` of it is in sentences.

    Attributes:
        promise: The prediction as things stand.
        changes: The smallest changes of each kind after which it ends by its deadline
            in nine of ten cases, or pairs of changes where no single one does; the
            change that delays others least comes first.
        unknown: Changes that were not tried, and other gaps, in sentences.
    """

    promise: Promise
    changes: tuple[TimelyChange, ...] = ()
    unknown: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [str(self.promise)]
        if self.changes:
            lines.append("It ends in time, in nine of ten cases, after each of these:")
            lines += [f"- {each}" for each in self.changes]
        return visible("\n".join([*lines, *self.unknown]))

    def to_dict(self) -> dict[str, Any]:
        """Return the document that a service answers."""
        return {**document_of(self), "text": str(self)}


def _stamp(at: datetime) -> str:
    return stamp(at.timestamp(), "milliseconds")


def _difference(each: EndChange) -> str:
    if each.seconds is None:
        return ""
    if not each.seconds:
        return "as before"
    later = "later" if each.seconds > 0 else "sooner"
    return f"{duration(abs(each.seconds))} {later}"
