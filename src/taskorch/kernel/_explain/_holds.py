"""Starts that are held back, in words."""

from __future__ import annotations

from taskorch.kernel._state import KernelState
from taskorch.model import Blocker, Remedy


def words_of_hold(who: str, most: int, why: str) -> str:
    """Who holds what back, and why: a sentence."""
    # An alert says its name in both.
    why = why.removeprefix(f"{who}: ")
    if most:
        return f"No more than {most} run at once, held by {who}: {why}."
    return f"Starts are held by {who}: {why}."


def words_of_holds(kernel: KernelState) -> list[str]:
    """All holds, the strictest first."""
    # Health takes no lock.
    holds = list(kernel.holds.items())
    holds.sort(key=lambda each: each[1][0])
    return [words_of_hold(who, most, why) for who, (most, why, _) in holds]


def remedy(kernel: KernelState, who: str) -> Remedy:
    """What ends a hold."""
    call = f"orch.release_starts({who!r})."
    _, _, lasts = kernel.holds[who]
    words = f"Call {call}" if lasts else f"It ends by itself, or call {call}"
    return Remedy("release_starts", words, name=who)


def hold_of_starts(kernel: KernelState, *, lasts: bool = False) -> Blocker | None:
    """Why nothing starts, if somebody holds all; *lasts*: in the next life, too."""
    for who, (most, why, outlives) in kernel.holds.items():
        if not most and (outlives or not lasts):
            detail = words_of_hold(who, most, why)
            return Blocker("starts_held", detail, remedies=(remedy(kernel, who),))
    return None
