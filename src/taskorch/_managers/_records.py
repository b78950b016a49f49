"""What is remembered of runs beside their tasks: it can be found again."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Final

import attrs

from taskorch.model import is_below as begins_below
from taskorch.model import joined

#: Tasks that the tasks of one run may add to it, unless `start` says otherwise.
MAX_ADDED: Final = 100_000
#: What makes a name a pattern.
WILD: Final = frozenset("*?[")


@attrs.define
class RunRecord:
    """What is remembered of a run in this life, beside its tasks."""

    #: How many tasks the workflow had; None: it was started in an earlier life.
    size: int | None = None
    #: How many were added by tasks of its own, and how many may be.
    added: int = 0
    max_added: int = MAX_ADDED
    #: Where it is paused: "" is all of it, else names below which it is.
    paused: list[str] = attrs.field(factory=list[str])

    def is_paused_at(self, name: str) -> bool:
        """Whether a task called *name* is to be suspended when it is added."""
        return any(is_below(name, below) for below in self.paused)


def is_below(name: str, part: str) -> bool:
    """Whether *name* is *part*, or begins with it; "" is all."""
    if WILD.isdisjoint(part):
        return not part or name == part or begins_below(name, part)
    return fnmatchcase(name, part) or fnmatchcase(name, joined(part, "*"))
