"""
Which tick of which schedule a task was made for: its metadata says so.

Decision: 0126.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

_NOTHING: Final[Mapping[str, Any]] = {}


class MadeFor:
    """
    What a task knows of the schedule that has made it, or of the task that has.

    Attributes:
        schedule: The name of the schedule; None: no schedule has made it.
        slot: Its tick, in the zone of the schedule; for what was made by hand, when.
        parameters: Those of its run.
        adder: The id of the task of its run that has added it, in the run of that which
            did; "": none has, or an earlier taskorch has kept it.
        SCHEDULE: The name of the schedule, among the metadata of what it has made.
        SLOT: The tick there, as an ISO text in the zone of the schedule.
        PARAMETERS: The parameters of the run there.
        ADDED: The adder there.
    """

    __slots__ = ("adder", "parameters", "schedule", "slot")

    SCHEDULE: Final = "taskorch.schedule"
    SLOT: Final = "taskorch.slot"
    PARAMETERS: Final = "taskorch.parameters"
    ADDED: Final = "added"

    def __init__(self, metadata: Mapping[str, Any] | None) -> None:
        noted = _NOTHING if metadata is None else metadata
        name, slot = noted.get(MadeFor.SCHEDULE), noted.get(MadeFor.SLOT)
        is_made = isinstance(name, str) and isinstance(slot, str)
        self.schedule: str | None = name if is_made else None
        self.slot: datetime | None = _moment(slot) if is_made else None
        self.parameters: Mapping[str, Any] = noted.get(MadeFor.PARAMETERS, _NOTHING)
        adder = noted.get(MadeFor.ADDED)
        self.adder: str = adder if isinstance(adder, str) else ""

    @classmethod
    def note(
        cls, name: str, slot: datetime, parameters: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """
        Return the metadata of what the schedule *name* makes for *slot*.

        Args:
            name: The schedule.
            slot: The tick, in the zone of the schedule.
            parameters: Those of the run.
        """
        noted: dict[str, Any] = {cls.SCHEDULE: name, cls.SLOT: slot.isoformat()}
        if parameters:
            noted[cls.PARAMETERS] = dict(parameters)
        return noted


def inherited(metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a task that is added by one with this metadata knows of its schedule."""
    noted = _NOTHING if metadata is None else metadata
    return {
        key: noted[key]
        for key in (MadeFor.SCHEDULE, MadeFor.SLOT, MadeFor.PARAMETERS)
        if key in noted
    }


def _moment(text: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        # A text of the user's own.
        return None
