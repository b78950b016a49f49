"""Ids of tasks, and names of workflows."""

from __future__ import annotations

import os
import re
from collections.abc import Container
from functools import lru_cache
from typing import Final

from taskorch.core.workflows import _steps
from taskorch.model import Call, Program, Task

_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_-]+")
#: The most characters of a generated id, before its number.
_MAX_STEM: Final = 40


def stem_of(task: Task) -> str:
    """Return a readable word for *task*: its function, its program or its type."""
    payload = task.payload
    word = str(task.type)
    if isinstance(payload, Call):
        fn = payload.fn
        if fn in (_steps.mapped, _steps.reduced):
            fn = payload.args[0].fn
        # A partial is named after the function that it calls.
        fn = getattr(fn, "func", fn)
        name = getattr(fn, "__name__", None)
        word = name if isinstance(name, str) else type(fn).__name__
    elif isinstance(payload, Program):
        word = os.path.basename(os.fsdecode(payload.args[0]))  # noqa: PTH119 - or bytes
    return _safe(word)


@lru_cache(256)
def _safe(word: str) -> str:
    """Return *word* as the beginning of an id; many tasks call the same function."""
    return _UNSAFE.sub("-", word).strip("-")[:_MAX_STEM].strip("-") or "task"


def unused(stem: str, used_names: Container[str], counts: dict[str, int]) -> str:
    """Return *stem*, with the first number that is not used if it is taken."""
    number = counts.get(stem, 0)
    while True:
        number += 1
        name = stem if number == 1 else f"{stem}-{number}"
        if name not in used_names:
            counts[stem] = number
            return name
