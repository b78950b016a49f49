"""The status of a schedule: its next tick, its unfinished runs, and why none comes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from taskorch.core.workflows import Workflow, WorkflowFunction
from taskorch.ext.schedules._definition import Definition, Work
from taskorch.ext.schedules._entry import LiveSchedule, nobody_said
from taskorch.kit.frozen import document_of, frozen
from taskorch.kit.limits import NS
from taskorch.kit.words import some

#: Fields of a status that are the same in the definition.
_SAME: Final = ["name", "when", "zone", "catch_up", "overlap", "jitter", "paused"]
#: The clock counts as set back if the progress of ticks is so far ahead of it, in ns.
_AHEAD: Final = NS
#: The seconds for which a schedule reports that the id of a tick was taken.
_TAKEN: Final = 3_600


@frozen
class ScheduleStatus:
    """
    The status of a schedule.

    Attributes:
        name: Its name.
        when: Its times.
        zone: The zone of its times.
        makes: The type of its tasks, or the name of its workflow.
        catch_up: The rule for ticks that were missed.
        overlap: The rule for a tick while the run before has not ended.
        jitter: Seconds within which ticks are delayed.
        next: Its next tick; None: there is none.
        done: The time up to which its ticks are done.
        running: The ids of its tasks or runs that have not ended.
        paused: Why it is paused, or "".
        trouble: Why the next tick will not come, or is late, or "".
        document: Its definition, as a document.
        failing: The failure in its latest runs that is not yet repaired, or "".
    """

    name: str
    when: str
    zone: str
    makes: str
    catch_up: str
    overlap: str
    jitter: float
    next: datetime | None
    done: datetime
    running: tuple[str, ...]
    paused: str
    trouble: str
    document: Mapping[str, Any]
    failing: str = ""

    def __str__(self) -> str:
        summary = f"{self.name} makes {self.makes} at {self.when!r} ({self.zone})."
        if self.paused:
            come = f"It is paused: {self.paused}."
        elif self.next is None:
            come = "It has no tick any more."
        else:
            come = f"Its next tick is {self.next.isoformat()}."
        sentences = [summary, come]
        if self.running:
            rule = {
                "skip": "a tick that comes before is skipped",
                "queue": "the next one waits",
                "cancel": "the next one cancels what runs",
            }[self.overlap]
            have = "has" if len(self.running) == 1 else "have"
            sentences.append(f"{some(self.running)} {have} not ended: {rule}.")
        if self.failing:
            sentences.append(f"It is not well: {self.failing}.")
        if self.trouble:
            sentences.append(self.trouble)
        return " ".join(sentences)

    def to_dict(self) -> dict[str, Any]:
        """Return the status of the schedule as JSON has it."""
        names = ("makes", "next", "done", "running", "paused", "failing", "trouble")
        about = {"definition": dict(self.document), "text": str(self)}
        return {**document_of(self, "name", *names), **about}


def status_of(entry: LiveSchedule, wall_ns: int, failing: str) -> ScheduleStatus:
    """Return the status of *entry*, under the lock of the book."""
    definition = entry.definition
    work = entry.work
    if work is None:
        makes = _named_in(next(iter(definition.work.values()), "?"))
    elif isinstance(work, Workflow | WorkflowFunction):
        makes = work.name
    else:
        makes = work.type
    first = next(entry.slots(max(entry.done_ns, 0), None), None)
    return ScheduleStatus(
        **{name: getattr(definition, name) for name in _SAME},
        makes=makes,
        next=None if first is None else entry.moment(first),
        done=entry.moment(entry.done_ns),
        running=tuple(entry.made),
        trouble=" ".join(troubles_of(entry, wall_ns)),
        document=definition.document(),
        failing=failing,
    )


def status_of_new(definition: Definition, work: Work, wall_ns: int) -> ScheduleStatus:
    """Return the status of a schedule of which the journal may know more."""
    return status_of(LiveSchedule.new(definition, work, wall_ns), wall_ns, "")


def _named_in(document: Any) -> str:
    """Return the name in a document of a function that this incarnation lacks."""
    if not isinstance(document, Mapping):
        return str(document)
    for key in ("workflow", "type", "call"):
        if key in document:
            return str(document[key]).rpartition(":")[2]
    return next(iter(document), "?")


def troubles_of(entry: LiveSchedule, wall_ns: int) -> list[str]:
    """Return the reasons why the next tick does not come, or comes late."""
    definition = entry.definition
    troubles: list[str] = []
    if entry.trouble:
        troubles.append(entry.trouble)
    if entry.taken and wall_ns < entry.taken_ns + _TAKEN * NS:
        troubles.append(entry.taken)
    elif entry.work is None and not entry.renamed:
        # That it was not declared is why its tick was put off, too.
        troubles = [nobody_said(definition)]
    if entry.renamed:
        troubles.append(
            f"Nobody has said it in this incarnation, and {entry.renamed} makes the "
            f"same: it makes nothing. "
            f"orch.schedules.remove({definition.name!r}) ends it."
        )
    elif definition.undeclared_ns:
        since = entry.moment(definition.undeclared_ns).isoformat(timespec="seconds")
        troubles.append(
            f"It is no longer declared: since {since}. "
            + ("" if entry.work is None else "It goes on: ")
            + f"orch.schedules.remove({definition.name!r}) ends it."
        )
    made_up_to = max(entry.done_ns, definition.before_ns)
    if made_up_to > wall_ns + _AHEAD:
        until = entry.moment(made_up_to).isoformat(timespec="seconds")
        troubles.append(
            f"The system's clock was set back: ticks up to {until} were made "
            "before that, and are not made twice."
        )
    return troubles
