"""
Starts that are held back, by hand or by alerts: what is kept, and is in the log.

Decision: 0120.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from taskorch._visible import visible
from taskorch.kernel import words_of_hold

if TYPE_CHECKING:
    from taskorch.runtime._runtime import Runtime

_LOG: Final = logging.getLogger("taskorch.starts")


def hold(runtime: Runtime, who: str, most: int, why: str, *, lasts: bool) -> None:
    """Hold starts back; what is to outlive this life is kept before this returns."""
    changed = runtime.step(
        lambda now: runtime.kernel.hold_starts(who, most, why, now, lasts=lasts),
        keep=lasts,
    )
    if changed:
        _LOG.warning("%s", visible(words_of_hold(who, most, why)))


def release(runtime: Runtime, who: str) -> bool:
    """Hold them back no more; False if nothing was."""
    _, _, lasts = runtime.kernel.holds.get(who, (0, "", True))
    # The journal may not have been opened yet: that makes another kernel.
    changed: bool = runtime.step(
        lambda now: runtime.kernel.release_starts(who, now), keep=lasts
    )
    if changed:
        _LOG.info("%s", visible(f"{who} holds no starts back any more"))
    return changed


def tell_of_earlier(runtime: Runtime) -> None:
    """Say in the log which holds of earlier lives go on."""
    for who, (most, why, _) in runtime.kernel.holds.items():
        words = words_of_hold(who, most, why)
        _LOG.warning("%s", visible(f"{words} It was so in an earlier life."))
