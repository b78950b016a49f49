"""The members of a protocol are those that it names, and an object has all or not."""

from __future__ import annotations

from typing import Protocol

from taskorch.kit.members import answer_of, arguments_of, members_of, methods_of


class Doors(Protocol):
    number: int = 0

    def opened(self, by: str, at: float) -> bool: ...

    def closed(self) -> str: ...

    def _kept(self) -> None: ...


def test_members_are_read_in_order_and_private_ones_are_none():
    assert members_of(Doors) == ("number", "opened", "closed")
    assert methods_of(Doors) == ("opened", "closed")
    assert arguments_of(Doors, "opened") == ("by", "at")
    assert arguments_of(Doors, "closed") == ()
    assert answer_of(Doors, "opened") is bool
    assert answer_of(Doors, "closed") is str
