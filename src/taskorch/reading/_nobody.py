"""What is to be said of a journal that no orchestrator has open."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import attrs

from taskorch.kernel import Kernel
from taskorch.model import TERMINAL, Blocker, Explanation, Remedy, Stuck, TaskState

_RUN_IT: Final = Remedy("start", "Run the program again that has this journal.")
#: Why nothing starts.
NOBODY: Final = Blocker(
    "not_started",
    "No orchestrator has its journal open: nothing starts.",
    remedies=(_RUN_IT,),
)
_WAS_RUNNING: Final = Blocker(
    "not_started",
    "No orchestrator has its journal open: so it was when the last one ended. The next "
    "one runs it again, or asks a person if it must not run twice.",
    remedies=(_RUN_IT,),
)
#: What is for people to end, whether an orchestrator is there or not.
_HELD: Final = (TaskState.BLOCKED, TaskState.SUSPENDED)
#: What keeps a task whoever runs it: the rest depends on the agents, the slots and the
#: amounts that the next orchestrator has.
_LASTING: Final = frozenset(
    {
        *("not_started", "dependency", "delay", "deadline", "event", "decision"),
        *("suspended", "terminal"),
    }
)
_LASTING_CAUSES: Final = frozenset(
    {"dependency", "suspended", "decision", "event", "gone"}
)


def explained(explanation: Explanation, kernel: Kernel, nobody: Blocker) -> Explanation:
    """
    *explanation*, of a task of *kernel*, without what only an orchestrator could say.

    *nobody* says why nothing starts.
    """
    if explanation.state in TERMINAL:
        return explanation
    if explanation.state is TaskState.RUNNING:
        return attrs.evolve(explanation, blockers=(_WAS_RUNNING,), agent="", granted="")
    now, later = (
        _lasting(explanation.blockers, kernel),
        _lasting(explanation.then, kernel),
    )
    # What passes with time alone does so only while somebody looks.
    if explanation.state not in _HELD or any(each.until is not None for each in now):
        first = [each for each in (*now, *later) if each.kind == "not_started"]
        now = (*(first or [nobody]), *(each for each in now if each not in first))
        later = tuple(each for each in later if each not in first)
    return attrs.evolve(explanation, blockers=now, then=later, more_agents=0)


def stuck(groups: Iterable[Stuck]) -> tuple[Stuck, ...]:
    """Those of *groups* that are stuck whoever opens the journal."""
    return tuple(group for group in groups if group.kind in _LASTING_CAUSES)


def _lasting(blockers: Sequence[Blocker], kernel: Kernel) -> tuple[Blocker, ...]:
    return tuple(
        _of_its_parent(each, kernel) for each in blockers if each.kind in _LASTING
    )


def _of_its_parent(blocker: Blocker, kernel: Kernel) -> Blocker:
    """*blocker*; if it is a task that was running, that is what it says."""
    name = blocker.name
    parent = kernel.tasks.get(name) if blocker.kind == "dependency" else None
    if parent is None or parent.state is not TaskState.RUNNING:
        return blocker
    detail = f"It needs {name}, which was running when the last orchestrator ended."
    words = f"{name} must complete."
    remedies = (Remedy("complete", words, (name,)),)
    return attrs.evolve(blocker, detail=detail, remedies=remedies)
