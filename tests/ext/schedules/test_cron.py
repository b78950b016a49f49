"""
When the slots of cron come.

The rows restate what the tables of public projects agree on. Where they differ at the
changes of clocks, Debian's rules hold: what is missing from the clock comes at once, what
is there twice comes once, and what comes each hour or minute goes by real time. A second
reading of these rules, quarter by quarter, stands below.
"""

from __future__ import annotations

import calendar
import itertools
import random
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

import pytest

from taskorch.errors import InvalidTaskError
from taskorch.ext.schedules import TickTimes

pytest.importorskip("cronsim")
NS = 10**9
B, L, N, S = "Europe/Berlin", "Europe/London", "America/New_York", "Australia/Sydney"


def ns(text, zone="UTC"):
    return (
        round(datetime.fromisoformat(text).replace(tzinfo=zone_of(zone)).timestamp())
        * NS
    )


def zone_of(name):
    return UTC if name == "UTC" else ZoneInfo(name)


def slots(when, zone, since, count):
    times, found, at = TickTimes(when, zone), [], ns(since, zone)
    for _ in range(count):
        at = times.after(at)
        found.append(
            datetime.fromtimestamp(at / NS, zone_of(zone)).strftime(
                "%Y-%m-%dT%H:%M:%S%z"
            )
        )
    return found


#: Times, a moment, and the slots after it, all in UTC.
ROWS = [
    ("* * * * *", "2026-01-01T00:00:00", "01-01T00:01 01-01T00:02"),
    ("* * * * *", "2026-01-01T00:00:30", "01-01T00:01"),
    ("* * * * *", "2026-01-01T23:59:00", "01-02T00:00"),
    ("0 * * * *", "2026-01-01T00:59:59", "01-01T01:00 01-01T02:00"),
    ("30 * * * *", "2026-01-01T00:30:00", "01-01T01:30"),
    (
        "*/15 * * * *",
        "2026-01-01T00:00",
        "01-01T00:15 01-01T00:30 01-01T00:45 01-01T01:00",
    ),
    ("*/15 * * * *", "2026-01-01T00:45", "01-01T01:00"),
    ("*/35 * * * *", "2026-01-01T00:00", "01-01T00:35 01-01T01:00 01-01T01:35"),
    ("20-35/15 * * * *", "2026-01-01T00:00", "01-01T00:20 01-01T00:35 01-01T01:20"),
    ("5/20 * * * *", "2026-01-01T00:00", "01-01T00:05 01-01T00:25 01-01T00:45"),
    (
        "1,3,5 * * * *",
        "2026-01-01T00:00",
        "01-01T00:01 01-01T00:03 01-01T00:05 01-01T01:01",
    ),
    ("0 0 * * *", "2026-01-01T00:00", "01-02T00:00 01-03T00:00"),
    ("0 3 * * *", "2026-12-31T03:00", "2027-01-01T03:00"),
    ("0 0 31 * *", "2026-01-31T00:00", "03-31T00:00 05-31T00:00 07-31T00:00"),
    ("0 0 29 2 *", "2026-01-01T00:00", "2028-02-29T00:00 2032-02-29T00:00"),
    ("0 0 29 2 *", "2096-03-01T00:00", "2104-02-29T00:00"),
    ("0 0 L * *", "2026-01-31T00:00", "02-28T00:00 03-31T00:00 04-30T00:00"),
    ("0 0 1 1 *", "2026-01-01T00:00", "2027-01-01T00:00"),
    ("0 0 1 JAN *", "2026-01-01T00:00", "2027-01-01T00:00"),
    ("0 0 1 jan,jul *", "2026-01-01T00:00", "07-01T00:00 2027-01-01T00:00"),
    ("0 0 * * 0", "2026-01-01T00:00", "01-04T00:00 01-11T00:00"),
    ("0 0 * * 7", "2026-01-01T00:00", "01-04T00:00"),
    ("0 0 * * SUN", "2026-01-01T00:00", "01-04T00:00"),
    ("0 0 * * mon-fri", "2026-01-02T00:00", "01-05T00:00 01-06T00:00"),
    ("0 0 * * 1-5", "2026-01-02T00:00", "01-05T00:00"),
    ("0 0 * * 5#3", "2026-01-01T00:00", "01-16T00:00 02-20T00:00"),
    ("0 0 * * 5L", "2026-01-01T00:00", "01-30T00:00 02-27T00:00"),
    ("0 0 LW * *", "2026-01-01T00:00", "01-30T00:00 02-27T00:00 03-31T00:00"),
    # A day of the month or of the week; if one begins with a star, both.
    ("0 0 1,15 * SUN", "2026-01-01T00:00", "01-04T00:00 01-11T00:00 01-15T00:00"),
    ("0 0 13 * 5", "2026-01-01T00:00", "01-02T00:00 01-09T00:00 01-13T00:00"),
    ("0 0 */10 * SUN", "2026-01-01T00:00", "01-11T00:00 02-01T00:00"),
    ("0 0 * * */2", "2026-01-01T00:00", "01-03T00:00 01-04T00:00 01-06T00:00"),
    ("0 0 1 * *", "2026-11-30T23:59", "12-01T00:00 2027-01-01T00:00"),
    ("0 9-17/4 * * *", "2026-01-01T00:00", "01-01T09:00 01-01T13:00 01-01T17:00"),
    ("59 23 31 12 *", "2026-01-01T00:00", "12-31T23:59 2027-12-31T23:59"),
    ("@hourly", "2026-01-01T00:30", "01-01T01:00"),
    ("@daily", "2026-01-01T00:30", "01-02T00:00"),
    ("@midnight", "2026-01-01T00:30", "01-02T00:00"),
    ("@weekly", "2026-01-01T00:30", "01-04T00:00"),
    ("@monthly", "2026-01-01T00:30", "02-01T00:00"),
    ("@yearly", "2026-01-01T00:30", "2027-01-01T00:00"),
    ("@annually", "2026-01-01T00:30", "2027-01-01T00:00"),
    ("*/10 * * * * *", "2026-01-01T00:00:05", "01-01T00:00:10 01-01T00:00:20"),
    ("30 59 23 * * *", "2026-01-01T00:00:00", "01-01T23:59:30"),
    ("every 90m", "2026-01-01T00:00:00", "01-01T01:30 01-01T03:00"),
    ("every 7d", "2026-01-01T00:00:00", "01-08T00:00 01-15T00:00"),
]


#: At the changes of clocks: times, zone, a moment there, and the slots after it.
CHANGES = [
    # Berlin has no 2:00 to 3:00 on 29 March 2026, and has it twice on 25 October.
    ("30 2 * * *", B, "2026-03-28T12:00", "03-29T03:00+0200 03-30T02:30+0200"),
    ("0 2 * * *", B, "2026-03-28T12:00", "03-29T03:00+0200 03-30T02:00+0200"),
    ("0 3 * * *", B, "2026-03-28T12:00", "03-29T03:00+0200 03-30T03:00+0200"),
    ("30 1 * * *", B, "2026-03-28T12:00", "03-29T01:30+0100 03-30T01:30+0200"),
    ("0 * * * *", B, "2026-03-29T00:30", "03-29T01:00+0100 03-29T03:00+0200"),
    ("30 * * * *", B, "2026-03-29T01:00", "03-29T01:30+0100 03-29T03:30+0200"),
    ("*/30 * * * *", B, "2026-03-29T01:15", "03-29T01:30+0100 03-29T03:00+0200"),
    ("30 2 * * *", B, "2026-10-24T12:00", "10-25T02:30+0200 10-26T02:30+0100"),
    ("0 2 * * *", B, "2026-10-24T12:00", "10-25T02:00+0200 10-26T02:00+0100"),
    ("0 3 * * *", B, "2026-10-24T12:00", "10-25T03:00+0100"),
    (
        "0 * * * *",
        B,
        "2026-10-25T01:30",
        "10-25T02:00+0200 10-25T02:00+0100 10-25T03:00+0100",
    ),
    (
        "*/30 * * * *",
        B,
        "2026-10-25T01:45",
        "10-25T02:00+0200 10-25T02:30+0200 10-25T02:00+0100 10-25T02:30+0100 10-25T03:00+0100",
    ),
    ("30 2 29 3 *", B, "2026-01-01T00:00", "03-29T03:00+0200 2027-03-29T02:30+0200"),
    # London: no 1:00 to 2:00 on 29 March.
    ("15 1 * * *", L, "2026-03-28T12:00", "03-29T02:00+0100 03-30T01:15+0100"),
    ("59 1 25 10 *", L, "2026-10-01T00:00", "10-25T01:59+0100 2027-10-25T01:59+0100"),
    # New York: no 2:00 to 3:00 on 8 March; twice 1:00 to 2:00 on 1 November.
    ("30 2 * * *", N, "2026-03-07T12:00", "03-08T03:00-0400 03-09T02:30-0400"),
    ("15 1 * * *", N, "2026-10-31T12:00", "11-01T01:15-0400 11-02T01:15-0500"),
    ("0 0 * * *", N, "2026-10-31T12:00", "11-01T00:00-0400 11-02T00:00-0500"),
    # Sydney, where it is the other way round.
    ("30 2 * * *", S, "2026-10-03T12:00", "10-04T03:00+1100 10-05T02:30+1100"),
    ("30 2 * * *", S, "2026-04-04T12:00", "04-05T02:30+1100 04-06T02:30+1000"),
    # Half an hour, and a midnight that is missing.
    ("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00", "10-04T02:30+1100"),
    (
        "0 0 * * *",
        "Africa/Cairo",
        "2026-04-23T12:00",
        "04-24T01:00+0300 04-25T00:00+0300",
    ),
    ("0 3 * * *", "Asia/Kolkata", "2026-03-28T12:00", "03-29T03:00+0530"),
]


def test_ticks():
    rows = [(when, "UTC", *rest) for when, *rest in ROWS] + CHANGES
    for when, zone, since, coming in rows:
        expected = []
        for text in coming.split():
            whole = text if text.startswith("2") else f"{since[:4]}-{text}"
            moment = datetime.fromisoformat(whole if zone != "UTC" else f"{whole}+0000")
            expected.append(moment.strftime("%Y-%m-%dT%H:%M:%S%z"))
        assert slots(when, zone, since, len(expected)) == expected, (when, zone)


@pytest.mark.parametrize(
    "when",
    ["", "*", "* * * *", "* * * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *",
     "* * 32 * *", "* * * 13 *", "* * * 0 *", "* * * * 8", "a * * * *", "*/0 * * * *",
     "5-1 * * * *", "1- * * * *", "-1 * * * *", "1,, * * * *", "* * * foo *",
     "* * * * foo", "0 0 30 2 *", "0 0 31 4 *", "0 0 31 6,9 *", "* * * * 1#6",
     "* * * * 1#0", "@reboot", "@fortnightly", "every 5", "every m", "every -5m"],
)  # fmt: skip
def test_what_is_no_time_is_refused(when):
    with pytest.raises(InvalidTaskError):
        TickTimes(when)


# -- a second reading ------------------------------------------------------------------


def brute(when, zone, since, until):
    """The slots between two moments in s, by looking at every quarter of an hour."""
    fields = when.split()
    sets = [
        numbers(text, low, high)
        for text, (low, high) in zip(
            fields, ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7)), strict=True
        )
    ]
    both = fields[2].startswith("*") or fields[4].startswith("*")
    is_fixed = not fields[0].startswith("*") and not fields[1].startswith("*")
    place = zone_of(zone)

    def fits(at):
        day = at.day in sets[2]
        week = at.isoweekday() % 7 in {n % 7 for n in sets[4]}
        date = (day and week) if both else (day or week)
        return at.month in sets[3] and date

    found = set()
    if not is_fixed or zone == "UTC":
        for second, wall in quarters(zone, since, until):
            if wall.hour in sets[1] and fits(wall):
                found |= {
                    second + 60 * minute
                    for minute in range(15)
                    if wall.minute + minute in sets[0]
                }
    else:
        day = datetime.fromtimestamp(since, place).date() - timedelta(days=1)
        while day <= datetime.fromtimestamp(until, place).date():
            for hour, minute in itertools.product(sets[1], sets[0]):
                wall = datetime(day.year, day.month, day.day, hour, minute)  # noqa: DTZ001
                if fits(wall):
                    found.add(real(wall, place))
            day += timedelta(days=1)
    return sorted(second for second in found if since < second <= until)


@lru_cache(maxsize=1)
def quarters(zone, since, until):
    """All quarters of an hour, with what the clock shows: it is set between them."""
    place = zone_of(zone)
    return [
        (second, datetime.fromtimestamp(second, place))
        for second in range(since - since % 900, until + 1, 900)
    ]


def real(wall, place):
    """When a clock shows *wall* for the first time; if it never does, the next moment."""
    at = wall.replace(tzinfo=place)
    second = int(at.timestamp())
    shown = datetime.fromtimestamp(second, place).replace(tzinfo=None)
    if shown == wall:
        return second
    low, high = second - 86_400, second + 86_400
    # Between the two is the change: the first moment that shows more than *wall*.
    while low + 1 < high:
        middle = (low + high) // 2
        if datetime.fromtimestamp(middle, place).replace(tzinfo=None) > wall:
            high = middle
        else:
            low = middle
    return high


def numbers(text, low, high):
    found = set()
    for part in text.split(","):
        body, _, step = part.partition("/")
        if body == "*":
            first, last = low, high
        elif "-" in body:
            first, last = map(int, body.split("-"))
        else:
            first, last = int(body), high if step else int(body)
        found |= set(range(first, last + 1, int(step or 1)))
    return found


def expression(dice):
    """Times that come now and then, some only at a change of clocks."""
    minute = dice.choice(("0", "30", "15,45", "5", "*/20", "*", "59", "10-20/5"))
    hour = dice.choice(("*", "0", "1", "2", "2,3", "1-3", "*/6", "*/2", "23", "3"))
    if minute == "*" and hour in ("*", "*/2"):
        minute = "*/30"
    day = dice.choice(("*", "*", "*", "1", "29-31", "*/10", "25,29"))
    month = dice.choice(("*", "*", "*", "3,10", "3-4", "11"))
    week = dice.choice(("*", "*", "*", "0", "1-5", "7", "*/2"))
    return f"{minute} {hour} {day} {month} {week}"


def check(when, zone, since, years, dice):
    """The slots are those of the second reading, wherever somebody begins to ask."""
    until = since + years * 366 * 86_400
    expected = brute(when, zone, since, until)
    times, found, at = TickTimes(when, zone), [], since * NS
    while True:
        tick = times.after(at)
        if tick is None or tick > until * NS:
            break
        found.append(tick // NS)
        at = tick
        if dice.random() < 0.02:  # a restart: nothing is remembered
            times = TickTimes(when, zone)
            # Somebody asks later, but before the next minute.
            at += dice.choice((0, 1, NS, 17 * NS))
    assert found == expected, (when, zone)


ZONES = sorted(
    {B, L, N, S, "UTC", "Australia/Lord_Howe", "Africa/Cairo", "Asia/Kolkata",
     "America/Santiago", "America/Havana", "Asia/Beirut", "Africa/Casablanca",
     "Pacific/Auckland", "Pacific/Chatham", "Atlantic/Azores", "America/St_Johns",
     "Europe/Dublin", "Asia/Jerusalem", "America/Nuuk", "Antarctica/Troll"}
    & {*available_timezones(), "UTC"}
)  # fmt: skip


@pytest.mark.parametrize("zone", ZONES)
def test_a_second_reading_comes_to_the_same(zone):
    dice = random.Random(zone)
    check(expression(dice), zone, calendar.timegm((2025, 9, 1, 0, 0, 0)), 1, dice)


@pytest.mark.slow("each minute of ten years")
@pytest.mark.parametrize("zone", sorted(available_timezones())[::15])
def test_ten_years_in_forty_zones(zone):
    dice = random.Random(zone)
    for _ in range(5):
        check(expression(dice), zone, calendar.timegm((2024, 1, 1, 0, 0, 0)), 10, dice)


@pytest.mark.parametrize(
    ("when", "zone"),
    [
        ("30 2 * * *", B),
        ("0 1,2,3 * * *", N),
        ("15 0 * * *", "America/Santiago"),
        ("*/20 2 * * *", "Australia/Lord_Howe"),
        ("0 * * * *", B),
    ],
)
def test_six_fields_are_as_five_at_the_changes_of_clocks(when, zone):
    for day in ("2026-03-07", "2026-03-28", "2026-04-04", "2026-09-05", "2026-10-24"):
        since = f"{day}T12:00"
        five, six = (slots(text, zone, since, 40) for text in (when, f"0 {when}"))
        assert five == six
    # With seconds that have a star: each of them in one of the two hours that are shown.
    times, at = TickTimes("*/20 30 2 * * *", B), ns("2026-10-24T12:00", B)
    found = []
    for _ in range(6):
        at = times.after(at)
        found.append(at // NS)
    assert [b - a for a, b in itertools.pairwise(found)] == [20, 20, 89_960, 20, 20]


@pytest.mark.parametrize(
    ("when", "hint"),
    [
        ("hourly", "did you mean '@hourly'"),
        ("Daily", "did you mean '@daily'"),
        ("CRON_TZ=Europe/Berlin 0 3 * * *", "'0 3 * * *', zone='Europe/Berlin'"),
        ("TZ=UTC 0 3 * * *", "'0 3 * * *', zone='UTC'"),
    ],
)
def test_what_other_crons_take_is_refused_with_how_it_is_said_here(when, hint):
    with pytest.raises(InvalidTaskError) as caught:
        TickTimes(when, "UTC")
    assert hint in str(caught.value)
