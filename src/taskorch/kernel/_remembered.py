"""
Which task has the result of which key: so that like tasks need not be run again.

What a key is made of, and whether a result is still good, is for whoever drives the
kernel. Here nothing decides, and no result is held.

Decision: 0085.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from taskorch.events import ResultRemembered, ResultReused, ResultsForgotten
from taskorch.kernel._state import KernelState

#: Keys that are remembered: of more, the oldest go.
_MOST: Final = 100_000

#: The names of arguments, each with a digest of its value.
Parts = tuple[tuple[str, str], ...]


def remember(
    kernel: KernelState,
    task_id: str,
    kind: str,
    key: str,
    parts: Parts,
    why: str,
    now: int,
) -> None:
    """A task of a *kind* is about to make the result of *key*: that was not there."""
    kernel.note(ResultRemembered, now, task_id, kind, key, parts, why)
    _put(kernel, task_id, kind, key, parts, now)


def reuse(
    kernel: KernelState, task_id: str, key: str, source_id: str, why: str, now: int
) -> None:
    """A task has the result of another one: that changes nothing."""
    kernel.note(ResultReused, now, task_id, key, source_id, why)


def forget(kernel: KernelState, keys: Iterable[str], now: int) -> None:
    """Remember nothing of *keys*."""
    gone = tuple(key for key in keys if key in kernel.remembered)
    if gone:
        kernel.note(ResultsForgotten, now, gone)
        _drop(kernel, gone)


def remembered(kernel: KernelState, event: ResultRemembered, now: int) -> None:
    """What the fact does to the state."""
    _put(kernel, event.task_id, event.kind, event.key, event.parts, now)


def forgotten(kernel: KernelState, event: ResultsForgotten, _now: int) -> None:
    """What the fact does to the state."""
    _drop(kernel, event.keys)


def _put(
    kernel: KernelState, task_id: str, kind: str, key: str, parts: Parts, now: int
) -> None:
    kernel.remembered.pop(key, None)
    kernel.remembered[key] = task_id, kind, parts, now
    if len(kernel.remembered) > _MOST:
        del kernel.remembered[next(iter(kernel.remembered))]


def _drop(kernel: KernelState, keys: Iterable[str]) -> None:
    for key in keys:
        kernel.remembered.pop(key, None)
