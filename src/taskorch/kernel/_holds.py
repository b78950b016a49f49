"""
Who holds starts back, and why: facts, so that readers and the next life know of it.

What a person holds outlives a restart. A hold that does not last is let go of when a
life begins: whoever had it decides anew.

Decision: 0120.
"""

from __future__ import annotations

from typing import Final

from taskorch.events import StartsHeld, StartsReleased
from taskorch.kernel import _driving
from taskorch.kernel._state import KernelState

#: Why holds that do not last are gone at the beginning of a life.
ANEW: Final = "the orchestrator has started anew"


def hold(
    kernel: KernelState, who: str, most: int, reason: str, now: int, *, lasts: bool
) -> bool:
    """
    Start nothing new while *most* run, until *who* says `release`.

    False if that is so already.
    """
    if kernel.holds.get(who) == (most, reason, lasts):
        return False
    kernel.note(StartsHeld, now, who, most, reason, lasts)
    _set(kernel, who, (most, reason, lasts))
    return True


def release(kernel: KernelState, who: str, now: int, reason: str = "") -> bool:
    """*who* holds nothing any more; False if they did not."""
    if who not in kernel.holds:
        return False
    kernel.note(StartsReleased, now, who, reason)
    _set(kernel, who, None)
    return True


def begin_life(kernel: KernelState, now: int) -> None:
    """Let go of what does not last."""
    for who, (_, _, lasts) in list(kernel.holds.items()):
        if not lasts:
            release(kernel, who, now, ANEW)


def held(kernel: KernelState, event: StartsHeld, _now: int) -> None:
    """What the fact does to the state."""
    _set(kernel, event.by, (event.most, event.reason, event.lasts))


def released(kernel: KernelState, event: StartsReleased, _now: int) -> None:
    """What the fact does to the state."""
    _set(kernel, event.by, None)


def restore(kernel: KernelState, who: str, hold: tuple[int, str, bool]) -> None:
    """As a snapshot says."""
    _set(kernel, who, hold)


def _set(kernel: KernelState, who: str, hold: tuple[int, str, bool] | None) -> None:
    kernel.holds.pop(who, None)
    if hold is not None:
        kernel.holds[who] = hold
    _driving.settle(kernel)
