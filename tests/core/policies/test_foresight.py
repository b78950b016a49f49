"""A pool of workers, and an allocator, that expect a load that recurs."""

from datetime import date, datetime, timedelta
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import pytest

from taskorch.errors import InvalidTaskError
from taskorch.model import AgentTemplate
from taskorch.policies import AgentPool

WORKER = AgentTemplate("worker", capabilities={"x": 1}, handler=print)
DAY = 86_400


#: A Monday, at midnight.
MONDAY = date(2026, 6, 1)
NINE = 9 * 60


class Place:
    """
    Workers that take so many seconds to start, and tasks that come and go by the clock.

    `load` says how many tasks there are at a moment that clocks in `zone` show.
    """

    def __init__(self, load, *, start=90, zone="UTC", kept=None, **numbers):
        self.load = load
        self.start = start
        self.zone = ZoneInfo(zone)
        self.numbers = {"max_agents": 50, "interval": 30, "settle": 120} | numbers
        self.documents = {} if kept is None else kept
        #: Workers that have joined, and when others will.
        self.there = set()
        self.coming = {}
        #: How far the system's clock is ahead.
        self.ahead = 0.0
        self.begin()

    def begin(self):
        """An incarnation begins."""
        self.pool = AgentPool(WORKER, **self.numbers)
        self.there.clear()
        self.coming.clear()
        return self

    # What a pool sees.

    def agents(self):
        busy = self.tasks
        for name in sorted(self.there):
            running, busy = min(1, busy), max(0, busy - 1)
            is_gone = {"is_lost": False, "is_draining": False}
            yield SimpleNamespace(name=name, running=running, labels=(), **is_gone)

    def waiting(self, _template):
        return {("x",): max(0, self.tasks - len(self.there))}

    def starting(self, _template):
        return list(self.coming)

    def is_of(self, name, template):
        return template.has_named(name)

    def agent_totals(self, _template):
        return 0, None

    def given_up(self, _template):
        return ""

    def kept(self, extension):
        assert extension == "foresight"
        return self.documents

    # What commands do.

    @property
    def orchestrator(self):
        def spawn(_template, config):
            if self.start:
                self.coming[config["id"]] = self.now + self.start
            else:
                self.there.add(config["id"])

        workers = SimpleNamespace(spawn=spawn, terminate=self.there.discard)
        return SimpleNamespace(agents=workers, kept=self.kept)

    def go(self, first, last, seen=None):
        """From one moment to another; *seen* is told how many there are."""
        now = first
        while now < last:
            self.now, self.wall = now, now + self.ahead
            joined = [name for name, at in self.coming.items() if at <= now]
            for name in joined:
                del self.coming[name]
                self.there.add(name)
            self.tasks = self.load(datetime.fromtimestamp(now, self.zone))
            commands, _ = self.pool.tick(self, now)
            for command in commands:
                command.apply(self.orchestrator)
            if seen is not None:
                seen(len(self.there), len(self.coming))
            now += 30
        return self


def moment(day, minute=0, zone="UTC"):
    """When clocks show a minute of a day, counted from that Monday."""
    on = MONDAY + timedelta(day)
    at = datetime(on.year, on.month, on.day, tzinfo=ZoneInfo(zone))
    return (at + timedelta(minutes=minute)).timestamp()


def at_nine(at, many=10):
    """Ten minutes from nine, from Monday to Friday."""
    return many if at.weekday() < 5 and at.hour == 9 and at.minute < 10 else 0


def ready(place, day, minute=NINE):
    """How many have joined when clocks show nine; ten minutes before it goes on."""
    place.go(moment(day, minute - 10), moment(day, minute) + 1)
    many = len(place.there)
    place.go(moment(day, minute) + 30, moment(day, minute + 30))
    return many


def test_days_that_are_too_old_are_dropped_in_this_incarnation_and_the_next():
    place = Place(at_nine, foresee="UTC")
    others = [
        "pool/worker/x/2020-01-01",
        "pool/workers/2020-01-01",
        "pool/worker/start",
    ]
    place.documents.update(dict.fromkeys(others, 1.0))
    for day in range(32):
        if day == 20:
            place.begin()
        place.go(moment(day, NINE - 5), moment(day, NINE + 5))
    ready(place, 75)
    place.begin()
    ready(place, 100)
    days = [key for key in place.documents if key not in others]
    gone = {key for key in days if place.documents[key] is None}
    first = f"pool/worker/{MONDAY + timedelta(100 - 28)}"
    assert {key for key in days if key < first} == gone
    assert len(gone) == 32
    assert all(place.documents[key] for key in others)


@pytest.mark.parametrize(
    "kept",
    [
        None,
        3,
        "levels",
        [[1, 2]],
        [[0, 1441]],
        [[0, 1440, 1]],
        [[1 << 80, 1440]],
        [[0, -60], [0, 1440], ["x", 60]],
        {"levels": []},
    ],
)
def test_what_others_have_kept_by_that_key_is_left_out(kept):
    names = [f"pool/worker/{MONDAY + timedelta(day)}" for day in range(3)]
    documents = dict.fromkeys([*names, "pool/worker/start"], kept)
    place = Place(at_nine, foresee="UTC", kept=documents)
    assert [ready(place, day) for day in range(3, 5)] == [0, 0]
    # Nor does it make it wait for another day.
    assert [ready(place, day) for day in range(7, 9)] == [0, 10]


@pytest.mark.parametrize("jump", [-56 * 365 * DAY, 70 * 365 * DAY, -3 * 3_600])
def test_a_clock_that_jumps_for_a_while_spoils_nothing(jump):
    place = Place(at_nine, foresee="UTC")
    # It knows as many days as it keeps; the last five of them by their mornings.
    for day in range(40):
        if day >= 35:
            ready(place, day)
        place.go(moment(day, 1_200), moment(day, 1_202))
    place.go(moment(39, 1_320), moment(39, 1_330))
    place.ahead = jump
    place.go(moment(39, 1_340), moment(39, 1_380))
    place.ahead = 0.0
    assert ready(place, 42) == 10


def test_what_cannot_be():
    with pytest.raises(InvalidTaskError, match="no zone 'Europe/Berln'") as error:
        AgentPool(WORKER, foresee="Europe/Berln")
    assert "Europe/Berlin" in error.value.hint
    with pytest.raises(InvalidTaskError, match="named by a text, not True"):
        AgentPool(WORKER, foresee=True)
    with pytest.raises(InvalidTaskError, match="a look each minute"):
        AgentPool(WORKER, foresee="UTC", interval=61)
