"""
The schedule and tick that a task was made for, kept in its metadata.

Decision: schedules.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

_NOTHING: Final[Mapping[str, Any]] = {}


class MadeFor:
    """
    Metadata of a task about the schedule, or the task, that made it.

    Attributes:
        schedule: The name of the schedule; None if no schedule has made it.
        slot: Its tick, in the zone of the schedule; for a run by hand, the time.
        parameters: The parameters of its run.
        adder: The id in the workflow of the task of its run that has added it; "" if
            none has, or in a journal of an earlier version.
        SCHEDULE: The key of the schedule's name in the metadata.
        SLOT: The key of the tick, an ISO text in the zone of the schedule.
        PARAMETERS: The key of the parameters of the run.
        ADDED: The key of the adder.
    """

    __slots__ = ("adder", "parameters", "schedule", "slot")

    SCHEDULE: Final = "taskorch.schedule"
    TICK: Final = "taskorch.slot"
    PARAMETERS: Final = "taskorch.parameters"
    ADDED: Final = "added"

    def __init__(self, metadata: Mapping[str, Any] | None) -> None:
        noted = _NOTHING if metadata is None else metadata
        name, tick = noted.get(MadeFor.SCHEDULE), noted.get(MadeFor.TICK)
        is_made = isinstance(name, str) and isinstance(tick, str)
        self.schedule: str | None = name if is_made else None
        self.slot: datetime | None = _moment(tick) if is_made else None
        self.parameters: Mapping[str, Any] = noted.get(MadeFor.PARAMETERS, _NOTHING)
        adder = noted.get(MadeFor.ADDED)
        self.adder: str = adder if isinstance(adder, str) else ""

    @classmethod
    def note(
        cls, name: str, slot: datetime, parameters: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """
        Return the metadata of the task that the schedule *name* makes for *slot*.

        Args:
            name: The name of the schedule.
            slot: The tick, in the zone of the schedule.
            parameters: The parameters of the run.
        """
        noted: dict[str, Any] = {cls.SCHEDULE: name, cls.TICK: slot.isoformat()}
        if parameters:
            noted[cls.PARAMETERS] = dict(parameters)
        return noted


def inherited(metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the metadata about a schedule that a task passes on to tasks it adds."""
    noted = _NOTHING if metadata is None else metadata
    return {
        key: noted[key]
        for key in (MadeFor.SCHEDULE, MadeFor.TICK, MadeFor.PARAMETERS)
        if key in noted
    }


def _moment(text: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        # The text is the user's own, and no tick.
        return None
