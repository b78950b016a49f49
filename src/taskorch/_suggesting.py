"""The error of an option that there is not: it names the one that was meant."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, Final, TypeVar

from taskorch._vocabulary import nearest

C = TypeVar("C", bound=type)
_EXAMPLES: Final = {
    "retry": "retry=RetryPolicy(max_attempts=3), which counts the first try",
    "max_attempts": "max_attempts=3, which counts the first try",
    "resources": "resources=Resources(cpu=2, memory_mb=512)",
}


def unknown_option(what: str, name: str, names: Iterable[str]) -> TypeError:
    """The error of an option that there is not: it names the one that was meant."""
    known = tuple(names)
    close = nearest(name, known)
    remedy = f"did you mean {close!r}?" if close else f"there are {', '.join(known)}"
    if close in _EXAMPLES and close != name:
        remedy += f" As in {_EXAMPLES[close]}"
    return TypeError(f"{what} has no option {name!r}: {remedy}")


def suggesting(cls: C) -> C:
    """Let *cls*, given an option that it has not, name the one that was meant."""
    make: Callable[..., None] = cls.__init__  # type: ignore[misc]  # of this very class
    # By its code: `inspect` takes longer to import than all that a name needs here.
    code = make.__code__
    names = code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]

    @wraps(make)
    def init(self: Any, *args: Any, **options: Any) -> None:
        try:
            make(self, *args, **options)
        except TypeError:
            # Checked only after a TypeError: mostly, every option is known.
            for name in options:
                if name not in names:
                    raise unknown_option(cls.__name__, name, names) from None
            raise

    # From Python 3.14 on, `wraps` hands on only what is evaluated when asked for.
    init.__annotations__ = make.__annotations__
    cls.__init__ = init  # type: ignore[misc]
    return cls
