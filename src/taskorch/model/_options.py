"""The options that a function has for the tasks that call it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import FunctionType
from typing import Any, Final

import attrs

#: The attribute of a function that has what was declared with it.
DECLARED: Final = "__taskorch_task__"


@attrs.frozen
class Declared:
    """What `@taskorch.task` has noted of a function: its `TaskOptions`, and where."""

    options: Mapping[str, Any]
    executor: str | None = None


def declared(fn: Callable[..., Any]) -> Declared | None:
    """What was declared with *fn*, or with what an object, method or partial calls."""
    while True:
        declaration = getattr(fn, DECLARED, None)
        # The class is compared, since a mock has every attribute that it is asked for.
        if type(declaration) is Declared:
            return declaration
        if type(fn) is FunctionType:
            return None
        if not isinstance(fn, partial):
            break
        fn = fn.func
    # An instance is called by the method of its class.
    call = getattr(type(fn), "__call__", None)  # noqa: B004 - for what it has noted
    declaration = getattr(call, DECLARED, None)
    return declaration if type(declaration) is Declared else None
