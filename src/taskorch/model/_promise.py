"""When a task or a run ends, as an answer in sentences."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from taskorch.kit.frozen import frozen
from taskorch.kit.plain import fields_of
from taskorch.kit.visible import counted, visible
from taskorch.kit.words import duration, local_moment, stamp


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
        made = counted(self.settled, "such promise")
        return (
            f"Of {made} before it, {self.held_p90:,} ended by the time of nine in ten, "
            f"and {self.held_p50:,} by that of one in two."
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
