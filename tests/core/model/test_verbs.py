"""What a verb says of itself, where its method and its mark say it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Literal

import pytest

from taskorch.kit.verbs import (
    FOR_PROGRAMS,
    NAME,
    verb,
    verbs_of,
)


class House:
    """What has verbs."""

    @verb(
        "Paint a room.",
        "commit",
        "POST /rooms/{room_id}/colour",
        operation="paint_room",
        keys={"name": "room_id"},
        forms={"by": NAME},
        apart=("ladder",),
        command="paint ROOM+WALL COLOUR: paint a room",
        is_final=True,
    )
    def paint(
        self,
        name: str,
        wall: int,
        colour: Literal["red", "blue"],
        *,
        by: str,
        coats: int | None = None,
        ladder: object = None,
    ) -> bool:
        """
        Paint a room.

        Args:
            name: Its name.
            wall: Which one,
                from the door on.
            colour: With what.

        Returns:
            Whether: it is new.
        """
        return bool(name)

    @verb("All rooms.", "not", "GET /rooms")
    def rooms(self, since: float | timedelta | None = None) -> Any:
        """All rooms."""

    @verb("Burn it.", "thread", lacks=FOR_PROGRAMS)
    def burn(self, matches: Iterable[bytes]) -> None:
        """Burn it."""

    def no_verb(self) -> None:
        """Nothing."""


VERBS = verbs_of(House)


def test_the_marked_methods_are_the_verbs():
    assert list(VERBS) == ["paint", "rooms", "burn"]
    assert House().paint("hall", 1, "red", by="ada")


def test_what_has_no_form_over_http_must_be_said():
    """Whoever adds a verb is told what to write."""
    with pytest.raises(
        TypeError, match=r"matches: 'Iterable.bytes.'.*say it in forms="
    ):
        _ = VERBS["burn"].arguments
