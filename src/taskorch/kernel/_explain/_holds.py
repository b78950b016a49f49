"""Holds of starts, in words."""

from __future__ import annotations

from taskorch.kernel._state import KernelState
from taskorch.model import Blocker, Remedy


def words_of_hold(who: str, most: int, why: str) -> str:
    """Return a sentence on who holds starts back, how many may run, and why."""
    # An alert repeats its name in the reason.
    why = why.removeprefix(f"{who}: ")
    if most:
        return f"No more than {most} run at once, held by {who}: {why}."
    return f"Starts are held by {who}: {why}."


def words_of_holds(kernel: KernelState) -> list[str]:
    """Describe all holds, the strictest first."""
    # Reading the health takes no lock, so the mapping may change.
    holds = sorted(kernel.holds.copy().items(), key=lambda each: each[1][0])
    return [words_of_hold(who, most, why) for who, (most, why, _) in holds]


def remedy(kernel: KernelState, who: str) -> Remedy:
    """Return the call that ends a hold of starts."""
    call = f"orch.release_starts({who!r})."
    _, _, lasts = kernel.holds[who]
    words = f"Call {call}" if lasts else f"It ends by itself, or call {call}"
    return Remedy("release_starts", words, name=who)


def hold_of_starts(kernel: KernelState, *, lasts: bool = False) -> Blocker | None:
    """Explain a hold of all starts, if any; *lasts*: one that outlives a restart."""
    for who, (most, why, outlives) in kernel.holds.items():
        if not most and (outlives or not lasts):
            detail = words_of_hold(who, most, why)
            return Blocker("starts_held", detail, remedies=(remedy(kernel, who),))
    return None
