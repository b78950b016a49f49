"""What the workflows of these tests call."""

from __future__ import annotations

from typing import Any

#: Names of what fails, while it does.
BROKEN: set[str] = set()
#: What was called, in order.
CALLS: list[str] = []


def zero() -> int:
    return 0


def add(*values: int) -> int:
    return sum(values)


def total(values: list[int]) -> int:
    return sum(values)


def echo(value: Any = None, **more: Any) -> Any:
    return (value, more) if more else value


def step(name: str, *values: Any) -> str:
    """Say that it was called, and what came before it; fail while it is broken."""
    CALLS.append(name)
    if name in BROKEN:
        raise RuntimeError(name)
    return f"{name}({','.join(map(str, values))})"


FUNCTIONS = {"zero": zero, "add": add, "total": total, "echo": echo, "step": step}
