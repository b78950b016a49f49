"""Numbers, times and lists in sentences: what can be read back is what was said."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given, strategies as st

from taskorch.kit.words import (
    amount,
    amounts_in_words,
    duration,
    in_words,
    ns_of,
    share,
)

UNITS = {"ns": 1e-9, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3_600.0}
UNITS |= {"d": 86_400.0, "days": 86_400.0}
FIRST, LAST = (datetime(year, 1, 1, tzinfo=UTC) for year in (1970, 2200))


def read(text: str) -> float:
    """The seconds that *text* says."""
    pairs = re.findall(r"([\d.,e+-]+) (\w+)", text)
    assert " ".join(f"{number} {unit}" for number, unit in pairs) == text
    return sum(float(number.replace(",", "")) * UNITS[unit] for number, unit in pairs)


@given(st.floats(1e-9, 3e9))
def test_a_duration_is_said_to_about_three_figures(seconds):
    assert read(duration(seconds)) == pytest.approx(seconds, rel=0.02)


@given(st.floats(1e-5, 3e9))
def test_a_time_in_a_sentence_has_two_figures(seconds):
    assert read(in_words(seconds)) == pytest.approx(seconds, rel=0.06)


def test_a_moment_without_a_zone_is_local_time():
    at = datetime(2030, 1, 31, 12)  # noqa: DTZ001 - it is meant
    assert ns_of(at) == ns_of(at.astimezone(UTC))


def test_amounts_are_said_with_their_names():
    text = amounts_in_words({"tokens": 11_840.0, "eur": 0.06})
    assert text == "11840 tokens and 0.06 eur"


def test_numbers_in_a_reason_are_short_but_amounts_are_in_full():
    assert [share(0.5), share(1 / 3)] == ["50 %", "33.3 %"]
    assert [amount(1.000001), amount(65536.0)] == ["1.000001", "65,536"]
