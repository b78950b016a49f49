"""When a task or a run ends, as an answer in sentences."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from taskorch.kit.frozen import frozen
from taskorch.kit.plain import fields_of
from taskorch.kit.visible import counted, visible
from taskorch.kit.words import duration, local_moment, stamp

#: Rows of a table, and others that a line names.
_SHOWN: Final = 30
_NAMED: Final = 3


@frozen
class Promise:
    """
    When a task or a run ends; `str()` of it says so in sentences.

    Attributes:
        id: The id of the task, or of the run.
        state: Its state.
        at: When it was asked.
        ended: When it ended; None: it has not.
        p50: It ends by then as likely as not; None: nobody knows.
        p90: It ends by then in nine of ten cases; None: nobody knows.
        not_before: Where there was no time to find out more: it does not end before.
        deadline: Its deadline, or the time that was asked about; None: it has none.
        risk: How likely it ends later than that, from 0 to 1; None: nobody knows.
        draws: How often it was carried out with other durations.
        unknown: Why nobody knows, in sentences.
        basis: What it rests on, in sentences.
        settled: Of the promises made here before, how many have ended since: each says
            of a task or a run when it ends, as it was asked first.
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
        """How long it is until then, and when that is."""
        seconds = max(0.0, (until - self.at).total_seconds())
        return f"{duration(seconds)} ({local_moment(until)})"

    def _record(self) -> str:
        """How many promises held before."""
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
        """The document that a service answers."""
        fields = fields_of(self)
        times = {
            name: None if value is None else stamp(value.timestamp(), "milliseconds")
            for name, value in fields.items()
            if name in ("at", "ended", "p50", "p90", "not_before", "deadline")
        }
        lists = {name: [*fields[name]] for name in ("unknown", "basis")}
        return {**fields, **times, **lists, "text": str(self)}


@frozen
class EndChange:
    """
    What a change does to the end of one run, or of one task on its own.

    Attributes:
        id: Its id.
        before: When it ends as things stand, as likely as not; None: nobody knows.
        after: When it ends after the change; None: nobody knows, or not as long as it
            lasts.
        seconds: By how much later that is; below 0: sooner; None: one is not known.
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
        """Its fields, as JSON has them."""
        return {
            **fields_of(self),
            "before": _stamp(self.before),
            "after": _stamp(self.after),
        }


@frozen
class WhatIf:
    """
    What changes would do to all that is open; `str()` of it is a table.

    Attributes:
        at: When it was asked.
        changes: The changes, as calls that make them: nothing is made unasked.
        ends: What it does to each run, and to each task on its own.
        draws: How often both were carried out, with the same durations.
        unknown: What nobody knows, in sentences.
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
        """The document that a service answers."""
        return {
            "at": _stamp(self.at),
            "changes": [*self.changes],
            "ends": [each.to_dict() for each in self.ends],
            "draws": self.draws,
            "unknown": [*self.unknown],
            "text": str(self),
        }


@frozen
class TimelyChange:
    """
    One change after which something ends in time.

    Attributes:
        kind: `priority`, `pool`, or `later`: another one waits until it has ended.
        call: The call that makes it.
        p90: It then ends by this time in nine of ten cases.
        ends: Which other runs and tasks end at another time then; None: there was no
            time to find that out.
    """

    kind: str
    call: str
    p90: datetime
    ends: tuple[EndChange, ...] | None = ()

    def __str__(self) -> str:
        until = ", until it has ended" if self.kind == "later" else ""
        if self.ends is None:
            return f"{self.call}{until}: what it does to others, nobody had time to see"
        others = "; ".join(map(str, self.ends[:_NAMED])) or "nothing else ends later"
        more = len(self.ends) - _NAMED
        rest = f"; and {more:,} more" if more > 0 else ""
        return f"{self.call}{until}: {others}{rest}"

    def to_dict(self) -> dict[str, Any]:
        """Its fields, as JSON has them."""
        ends = None if self.ends is None else [each.to_dict() for each in self.ends]
        return {**fields_of(self), "p90": _stamp(self.p90), "ends": ends}


@frozen
class InTime:
    """
    What would have to change for something to end in time; `str()` says so.

    Attributes:
        promise: When it ends as things stand.
        changes: The smallest changes of each kind after which it ends by its deadline
            in nine of ten cases; what delays others least comes first.
        unknown: What was not tried, or not found out, in sentences.
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
        """The document that a service answers."""
        return {
            "promise": self.promise.to_dict(),
            "changes": [each.to_dict() for each in self.changes],
            "unknown": [*self.unknown],
            "text": str(self),
        }


def _stamp(at: datetime | None) -> str | None:
    return None if at is None else stamp(at.timestamp(), "milliseconds")


def _difference(each: EndChange) -> str:
    if each.seconds is None:
        return ""
    if not each.seconds:
        return "as before"
    later = "later" if each.seconds > 0 else "sooner"
    return f"{duration(abs(each.seconds))} {later}"
