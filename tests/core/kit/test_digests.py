"""Values and functions in bytes: the same for what is alike, and for no other."""

import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import Enum
from itertools import combinations

import pytest

from taskorch.kit.digests import (
    UndescribedError,
    described,
    described_function,
    digest_of,
    name_of,
    packed,
)


class Colour(Enum):
    RED = 1
    BLUE = 2


@dataclass
class Point:
    x: float
    y: float = 0.0


#: No two of these are alike.
DIFFERENT = (
    *(None, True, 1, 1.0, -0.0, 0.0, "1", b"1", 1 + 0j, ..., NotImplemented),
    *((), [], {}, set(), frozenset(), (1, 2), [1, 2], (1, (2,)), ((1,), 2)),
    *({"a": 1}, {"a": 1, "b": 2}, {"b": 2, "a": 1, "c": 3}, {1, 2}, frozenset({1, 2})),
    *(date(2026, 1, 2), datetime(2026, 1, 2, tzinfo=UTC)),
    *(Colour.RED, Colour.BLUE, Point(1), Point(1, 2), Point, Colour, len, max),
    *("a" * 100, "a" * 101, range(3), slice(1, 2)),
)


def test_what_is_different_has_another_description():
    told = [described(value) for value in DIFFERENT]
    for (one, first), (other, then) in combinations(
        zip(DIFFERENT, told, strict=True), 2
    ):
        assert first != then, (one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": [2.5]}, {"a": 1, "b": [5 / 2]}),
        ({3, 1, 2}, {2, 3, 1}),
        (float("nan"), -float("nan")),
        (Point(1.0), Point(1.0, 0.0)),
        ((1, "a" * 200), (1, "a" * 199 + "a")),
    ],
)
def test_what_is_alike_has_one_digest(one, other):
    assert digest_of(one) == digest_of(other)


def scaled(factor):
    def scale(number):
        return number * factor + _offset()

    return scale


def _offset():
    return 1


def test_a_function_is_what_it_does():
    """Its code, what it closes over, and what it reads of its module."""
    assert described_function(scaled(2)) == described_function(scaled(2))
    assert described_function(scaled(2)) != described_function(scaled(3))
    before = described_function(scaled(2))
    offset = scaled.__globals__["_offset"]
    scaled.__globals__["_offset"] = lambda: 2
    try:
        assert described_function(scaled(2)) != before
    finally:
        scaled.__globals__["_offset"] = offset
    assert described_function(scaled(2)) == before


@pytest.mark.parametrize(
    "value", [threading.Lock(), (n for n in ()), object(), [threading.Lock()]]
)
def test_what_is_like_no_other_has_none(value):
    with pytest.raises(UndescribedError) as raised:
        digest_of(value)
    assert str(raised.value)


def test_what_holds_itself_is_refused():
    ring: list[object] = []
    ring.append(ring)
    with pytest.raises((UndescribedError, RecursionError)):
        digest_of(ring)


def test_each_process_says_the_same():
    """Whatever its hashes are."""
    code = "from taskorch.kit.digests import digest_of; print(digest_of({'a', 'b', 1}))"
    done = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    ]
    assert done == [digest_of({"a", "b", 1})] * 2


def test_parts_can_be_told_from_each_other():
    assert packed(b"t", b"ab", b"c") != packed(b"t", b"a", b"bc")
    assert packed(b"t", b"a" * 100) != packed(b"u", b"a" * 100)
    assert len(packed(b"t", b"a" * 1000)) < 64


def test_the_name_of_a_function_says_its_module():
    assert name_of(scaled) == f"{__name__}.scaled"
