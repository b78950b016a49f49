"""All that is wrong with a configuration, gathered to be said at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from taskorch._base._vocabulary import meant
from taskorch.errors import ValidationFailedError
from taskorch.model._show import show
from taskorch.workflows._located import FilePlace, Located

#: Faults that a message names.
_MOST: Final = 50


class FaultList:
    """Gathers what is wrong, each with its place."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, int, int, str], FilePlace] = {}

    def add(self, place: FilePlace, message: str) -> None:
        """Note *message* at *place*; once, however often it is met."""
        self._found.setdefault((place.file, place.line, place.column, message), place)

    def wrong(self, node: Located, name: str, needed: str) -> None:
        """Note that *node*, the value of *name*, is not what is *needed*."""
        self.add(node.place, f"{name}: {needed} is needed, not {shown(node)}")

    def unknown(self, key: Located, within: str, candidates: Iterable[str]) -> None:
        """Note a name that there is not, with the nearest one that there is."""
        self.add(
            key.place, f"{within} has no {show(key.value, 40)}: {near(key, candidates)}"
        )

    def disagree(self, name: str, first: Located, second: Located) -> None:
        """Note that *name* is said twice, and not the same."""
        message = f"{name} is {shown(second)} here, and {shown(first)} at {first.place}"
        self.add(second.place, message)

    @property
    def findings(self) -> tuple[tuple[str, str], ...]:
        """All faults that were noted, in the order of the files."""
        order = {name: n for n, (name, *_) in reversed([*enumerate(self._found)])}
        keys = sorted(self._found, key=lambda key: (order[key[0]], *key[1:]))
        return tuple((str(self._found[key]), key[3]) for key in keys)

    def refuse(self) -> None:
        """
        End here if anything was noted.

        Raises:
            ValidationFailedError: With all that was.
        """
        findings = self.findings
        if not findings:
            return
        lines = [f"{place}: {message}" for place, message in findings[:_MOST]]
        if len(findings) > _MOST:
            lines.append(f"and {len(findings) - _MOST} more")
        msg = "\n".join(lines)
        raise ValidationFailedError(msg, findings=findings, hint="")


def near(key: Located, candidates: Iterable[str]) -> str:
    """A hint: the one of *candidates* that *key* may mean, or all of them."""
    names = tuple(candidates)
    every = f"there are {', '.join(names)}" if names else "there is none"
    return meant(key.value, names, every)


def shown(node: Located) -> str:
    """The value of *node* for a message."""
    value = node.value
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict | tuple):
        return "a mapping"
    return "nothing" if value is None else show(value, 40)
