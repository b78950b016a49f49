"""
The functions of the tasks that a workflow adds by itself.

Two of them have to know the run that they are part of: `orch.workflows` replaces them
with functions that do. Functions among their arguments come as a `Call` without
arguments, which a journal can keep.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

from taskorch.errors import NotRunningError
from taskorch.model import Call


def gathered(parts: list[Any]) -> list[Any]:
    """Return the results of all parts."""
    return parts


def reduced(call: Call, items: Iterable[Any], *start: Any) -> Any:
    """Reduce *items* with the function of *call*: see `functools.reduce`."""
    return functools.reduce(call.fn, items, *start)


def mapped(
    call: Call,
    items: Iterable[Any],
    options: Mapping[str, Any],
    max_parallel: int | None,
    allow_failures: int | str | None = None,
) -> NoReturn:
    """Run *call* for each item, as tasks of their own: see `Workflow.map`."""
    del call, items, options, max_parallel, allow_failures
    _alone("a map")


def gate(
    phase: str,
    checks: Sequence[Any],
    on_failure: str,
    timeout: float | None,
    before: str | None,
) -> NoReturn:
    """Return the verdict on a phase: see `Workflow.phase`."""
    del phase, checks, on_failure, timeout, before
    _alone("a gate")


def _alone(method: str) -> NoReturn:
    msg = f"{method} works in a run of its workflow only"
    raise NotRunningError(msg, hint="orch.workflows.start(workflow)")
