"""Numbers, times and lists in sentences: what can be read back is what was said."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, strategies as st

from taskorch.kit.words import (
    amounts_in_words,
    duration,
    in_a_line,
    in_words,
    moment,
    ns_of,
    some,
    stamp,
    sum_of,
)

UNITS = {"ns": 1e-9, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3_600.0}
UNITS |= {"d": 86_400.0, "days": 86_400.0}
FIRST, LAST = (datetime(year, 1, 1, tzinfo=UTC) for year in (1970, 2200))
MOMENTS = st.timedeltas(timedelta(0), LAST - FIRST).map(lambda delta: FIRST + delta)


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


@given(MOMENTS)
def test_a_stamp_is_the_moment_in_utc(at):
    text = stamp(at.timestamp(), "microseconds")
    assert text.endswith("Z")
    assert abs(datetime.fromisoformat(text) - at) <= timedelta(microseconds=1)
    assert moment(at.timestamp())[:19].replace(" ", "T") == stamp(at.timestamp())[:19]


@given(MOMENTS, st.integers(-23, 23))
def test_a_moment_is_the_same_number_in_each_zone(at, hours):
    ns = ns_of(at)
    assert ns_of(at.astimezone(timezone(timedelta(hours=hours)))) == ns
    seconds, rest = divmod(ns, 10**9)
    assert datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1_000) == at


def test_a_moment_without_a_zone_is_local_time():
    at = datetime(2030, 1, 31, 12)  # noqa: DTZ001 - it is meant
    assert ns_of(at) == ns_of(at.astimezone(UTC))


@given(st.lists(st.text("abc", min_size=1), max_size=30))
def test_some_names_are_said_and_the_others_counted(names):
    text = some(names)
    if more := re.search(r" and (\d+) more$", text):
        listed = text[: more.start()].split(", ")
        assert listed == names[: len(listed)]
        assert len(listed) + int(more[1]) == len(names)
    else:
        assert re.split(", | and ", text) == (names or [""])


@given(st.text(max_size=3_000))
def test_a_text_of_any_length_is_one_short_line(text):
    line = in_a_line(text)
    assert len(line.splitlines()) <= 1
    assert len(line) <= max(len(text), 1_010)
    assert in_a_line(line) == line


AMOUNTS = st.dictionaries(
    st.sampled_from(["tokens", "eur"]), st.integers(0, 10**9).map(lambda n: n / 1e6)
)


@given(st.lists(st.none() | AMOUNTS))
def test_amounts_are_added_to_the_millionth(amounts):
    total = sum_of(amounts)
    names = {name for each in amounts for name in each or ()}
    assert total.keys() == names
    for name in names:
        parts = [round((each or {}).get(name, 0) * 1e6) for each in amounts]
        assert round(total[name] * 1e6) == sum(parts)


def test_amounts_are_said_with_their_names():
    text = amounts_in_words({"tokens": 11_840.0, "eur": 0.06})
    assert text == "11840 tokens and 0.06 eur"
