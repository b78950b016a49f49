"""What a verb says of itself, where its method and its mark say it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Literal

import pytest

from taskorch.kit.verbs import (
    FOR_PROGRAMS,
    NAME,
    SECONDS,
    argument_texts,
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


def test_arguments_are_those_of_the_method():
    paint = VERBS["paint"]
    assert [(a.key, a.is_needed, a.is_keyword) for a in paint.arguments] == [
        ("room_id", True, False),
        ("wall", True, False),
        ("colour", True, False),
        ("by", True, True),
        ("coats", False, True),
    ]
    assert [a.text for a in paint.arguments[:3]] == [
        "Its name.",
        "Which one, from the door on.",
        "With what.",
    ]
    assert paint.arguments[2].form == {"enum": ["red", "blue"]}
    assert [a.name for a in paint.options] == ["by", "coats"]


def test_its_request_has_the_rest_in_its_body():
    paint, rooms = VERBS["paint"], VERBS["rooms"]
    assert (paint.method, paint.path) == ("POST", "/rooms/{room_id}/colour")
    assert paint.body == {
        "type": "object",
        "required": ["wall", "colour", "by"],
        "additionalProperties": False,
        "properties": {
            "wall": {"type": "integer"},
            "colour": {"enum": ["red", "blue"]},
            "by": NAME,
            "coats": {"type": "integer"},
        },
    }
    assert rooms.body is None
    assert rooms.arguments[0].form == SECONDS
    assert paint.changes
    assert not rooms.changes


def test_its_command_has_a_name_words_and_a_purpose():
    paint, rooms = VERBS["paint"], VERBS["rooms"]
    assert paint.command_name == "paint"
    assert paint.command_words == ["ROOM+WALL", "COLOUR"]
    assert paint.purpose == "paint a room"
    assert (rooms.command_name, rooms.command_words, rooms.purpose) == ("", [], "")


def test_what_has_no_form_over_http_must_be_said():
    """Whoever adds a verb is told what to write."""
    with pytest.raises(
        TypeError, match=r"matches: 'Iterable.bytes.'.*say it in forms="
    ):
        _ = VERBS["burn"].arguments


def test_texts_of_arguments_end_where_the_next_part_begins():
    assert argument_texts("Do it.") == {}
    assert argument_texts("Do.\n\nArgs:\n    a: One.\nReturns:\n    b: no.") == {
        "a": "One."
    }
