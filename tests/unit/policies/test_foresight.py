"""A pool of workers, and an allocator, that expect a load that recurs."""

from datetime import date, datetime, timedelta
from random import Random
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings, strategies as st
from tests.tools.examples import examples

from taskorch.errors import InvalidTaskError
from taskorch.model import AgentTemplate
from taskorch.policies import AgentPool

WORKER = AgentTemplate("worker", capabilities={"x": 1}, handler=print)
DAY = 86_400
MINUTE = 60
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

        agents = SimpleNamespace(spawn=spawn, terminate=self.there.discard)
        return SimpleNamespace(agents=agents, kept=self.kept)

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


def test_workers_are_there_when_a_load_comes_that_came_on_three_days():
    place = Place(at_nine, foresee="UTC")
    assert [ready(place, day) for day in range(5)] == [0, 0, 0, 10, 10]
    (ahead,) = [d for d in place.pool.decisions if "at 09:00, as on 3" in d.reason]
    assert ahead.reason.startswith(
        "expects 10 workers at 09:00, as on 3 of 3 days from Monday to Friday; load"
    )
    assert (ahead.before, ahead.after) == (0, 10)
    # As long before as a worker takes to start, and a look.
    assert moment(3, NINE) - ahead.at == 120
    # The next minutes are as they were without: none is started, none goes too late.
    assert [d.after for d in place.pool.decisions][-2:] == [10, 0]


def test_without_it_they_start_when_the_load_is_there():
    place = Place(at_nine)
    assert [ready(place, day) for day in range(5)] == [0] * 5


def test_saturday_is_no_working_day():
    place = Place(at_nine, foresee="UTC")
    assert [ready(place, day) for day in range(4, 9)] == [0, 0, 0, 0, 0]
    assert [ready(place, day) for day in range(9, 14)] == [10, 10, 10, 0, 0]
    assert "days of weekends" not in str(place.pool.decisions)


def test_weekends_are_compared_with_each_other():
    place = Place(lambda at: at_nine(at - timedelta(5)), foresee="UTC")
    days = [day for week in range(3) for day in (7 * week + 5, 7 * week + 6)]
    assert [ready(place, day) for day in days] == [0, 0, 0, 10, 10, 10]
    assert "as on 4 of 4 days of weekends" in place.pool.decisions[-2].reason


def test_what_comes_on_mondays_is_expected_on_mondays():
    place = Place(lambda at: at_nine(at) if at.weekday() == 0 else 0, foresee="UTC")
    for week in range(5):
        mine = [ready(place, 7 * week + day) for day in range(5)]
        assert mine == [10 if week >= 3 else 0, 0, 0, 0, 0]
    assert "at 09:00, as on 4 of 4 Mondays" in place.pool.decisions[-2].reason


def test_a_load_that_does_not_come_is_awaited_for_three_minutes():
    holiday = MONDAY + timedelta(7)
    place = Place(lambda at: at_nine(at) * (at.date() != holiday), foresee="UTC")
    for day in range(5):
        ready(place, day)
    counts = []
    place.go(moment(7, NINE - 30), moment(7, NINE + 30), lambda *n: counts.append(n))
    assert sum(there + coming > 0 for there, coming in counts) * 30 <= (3 + 3) * 60
    assert max(there for there, _ in counts) == 10
    # A holiday is no reason to be late on the day after.
    assert [ready(place, day) for day in (8, 9)] == [10, 10]


def test_a_rhythm_that_changes_is_forgotten_and_learnt():
    """From nine to eleven: after two weeks nobody comes at nine any more."""

    def load(at):
        late = at.date() >= MONDAY + timedelta(14)
        return at_nine(at - timedelta(hours=2) if late else at)

    place = Place(load, foresee="UTC")
    weekdays = [7 * week + day for week in range(2) for day in range(5)]
    assert [ready(place, day) for day in weekdays][3:] == [10] * 7
    new = [7 * week + day for week in range(2, 5) for day in range(5)]
    both = [(ready(place, day), ready(place, day, NINE + 120)) for day in new]
    assert [eleven for _, eleven in both][4:] == [10] * 11
    assert [nine for nine, _ in both][10:] == [0] * 5
    assert sum(nine for nine, _ in both) <= 100


def test_a_day_on_which_less_comes_is_not_taken_for_a_usual_one():
    """Forty from nine, eighty from two; on a holiday nobody comes at two, either."""
    holiday = MONDAY + timedelta(8)

    def load(at):
        usual = {9: 40, 14: 80}.get(at.hour, 40 if 9 < at.hour < 16 else 0)
        return 0 if at.weekday() >= 5 or at.date() == holiday else usual

    place = Place(load, foresee="UTC", max_agents=99)
    for day in [0, 1, 2, 3, 4, 7]:
        place.go(moment(day, 13 * 60), moment(day, 15 * 60))
    assert "expects 80 workers at 14:00" in str(place.pool.decisions)
    place.pool.decisions.clear()
    place.go(moment(8, 13 * 60), moment(8, 15 * 60))
    assert [d.after for d in place.pool.decisions if "at 14:00" in d.reason] == []


def test_those_that_are_needed_again_before_others_had_started_stay():
    """Two minutes of work, thirteen without; a start takes five."""

    def load(at):
        return 8 * (at.hour == 9 and at.minute % 15 < 2)

    for foresee in (None, "UTC"):
        place = Place(load, foresee=foresee, start=300, settle=300)
        for day in range(5):
            place.pool.decisions.clear()
            place.go(moment(day, NINE - 30), moment(day, NINE + 90))
        fewer = [each.at for each in place.pool.decisions if each.after < each.before]
        early = [at for at in fewer if at < moment(4, NINE + 45)]
        assert bool(early) == (foresee is None)
        # In the end they go.
        assert fewer


def test_a_rise_as_chance_makes_it_is_none():
    """Six more than thirty, each day at nine; without foresight they come then, too."""
    decisions = []
    for foresee in (None, "UTC"):
        place = Place(lambda at: 30 + at_nine(at, 6), foresee=foresee)
        for day in range(5):
            place.go(moment(day, NINE - 15), moment(day, NINE + 30))
        decisions.append(list(place.pool.decisions))
    assert decisions[0] == decisions[1]


LOADS = st.lists(st.integers(0, 9), min_size=8, max_size=48)


@settings(max_examples=examples(6), deadline=None)
@given(LOADS, st.integers(0, 3), st.integers(4, 9))
def test_where_nothing_recurs_it_decides_as_without(loads, least, most):
    """For two days, by chance; and for days of a load that never changes."""
    decisions = []
    for foresee in (None, "UTC"):
        place = Place(
            lambda at: loads[int(at.timestamp() // 900) % len(loads)],
            foresee=foresee,
            min_agents=least,
            max_agents=most,
        )
        for day in range(2):
            place.go(moment(day, 60), moment(day, 120))
        place.load = lambda at: loads[0] * bool(at)
        for day in range(3, 7):
            place.go(moment(day, 240), moment(day, 260))
        decisions.append(list(place.pool.decisions))
    assert decisions[0] == decisions[1]


@settings(max_examples=examples(6), deadline=None)
@given(st.randoms(use_true_random=False), st.integers(0, 3), st.integers(4, 9))
def test_there_are_never_more_than_the_most_nor_fewer_than_the_least(dice, least, most):
    """Whatever recurs, with restarts anywhere."""
    peaks = {dice.randint(NINE, NINE + 60): dice.randint(1, 30) for _ in range(3)}

    def load(at):
        minute = at.hour * 60 + at.minute
        return max(many * (0 <= minute - of < 5) for of, many in peaks.items())

    place = Place(load, foresee="UTC", min_agents=least, max_agents=most)

    def seen(there, coming):
        assert least <= there + coming <= most

    for day in range(5):
        place.go(moment(day, NINE - 10), moment(day, NINE + 70), seen)
        if dice.random() < 0.3:
            place.begin()
    assert all(each.after <= most for each in place.pool.decisions)


def test_chance_is_no_rhythm():
    """Bursts at any time, for two weeks: what is started ahead is next to nothing."""
    dice = Random(3)
    bursts = {(day, dice.randrange(480, 600)) for day in range(14) for _ in range(3)}

    def load(at):
        day, minute = (at.date() - MONDAY).days, at.hour * 60 + at.minute
        return 12 * any((day, minute - past) in bursts for past in range(3))

    spent = {}
    for foresee in (None, "UTC"):
        place = Place(load, foresee=foresee)
        seen = []
        for day in range(14):
            place.go(
                moment(day, 470),
                moment(day, 610),
                lambda n, m, seen=seen: seen.append(n + m),
            )
        spent[foresee] = sum(seen)
    assert spent["UTC"] <= 1.02 * spent[None]


def test_a_restart_learns_the_same_from_the_journal():
    """Each day it is another process, that knows what the earlier ones have kept."""
    one = Place(at_nine, foresee="UTC")
    other = Place(at_nine, foresee="UTC")
    for day in range(5):
        assert ready(one, day) == ready(other, day)
        other.begin()
    assert ready(other, 7) == 10
    # How long a start takes is known, too.
    ahead = [d for d in other.pool.decisions if "expects" in d.reason]
    assert moment(7, NINE) - ahead[0].at == 120


def test_days_that_are_too_old_are_dropped_in_this_life_and_the_next():
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


def test_a_restart_while_the_load_is_there():
    place = Place(at_nine, foresee="UTC")
    for day in range(3):
        place.go(moment(day, NINE - 30), moment(day, NINE + 5))
        place.begin()
        place.go(moment(day, NINE + 6), moment(day, NINE + 60))
    assert ready(place, 3) == 10


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


def test_days_on_which_it_was_off_are_unknown_and_not_without_load():
    place = Place(at_nine, foresee="UTC")
    for day in (0, 1, 2):
        ready(place, day)
    place.begin()
    assert [ready(place, day) for day in (9, 10)] == [10, 10]
    # An hour that is missing is unknown: two of the last four days are no rhythm yet.
    other = Place(at_nine, foresee="UTC")
    for day in (0, 1):
        ready(other, day)
    for day in (2, 3):
        other.go(moment(day, NINE + 60), moment(day, NINE + 90))
    assert ready(other, 4) == 0
    assert ready(other, 7) == 10


@pytest.mark.parametrize("day", [date(2026, 3, 23), date(2026, 10, 19)])
def test_hours_are_those_that_clocks_show_where_summer_time_is(day):
    """The clocks change on the Sunday after: nine is another hour of UTC then."""
    shift = (day - MONDAY).days
    for zone, after in (("Europe/Berlin", [10, 10]), ("UTC", [0, 0])):
        place = Place(at_nine, zone="Europe/Berlin", foresee=zone)

        def ready_in_berlin(day, place=place):
            nine = moment(shift + day, NINE, "Europe/Berlin")
            place.go(nine - 600, nine + 1)
            many = len(place.there)
            place.go(nine + 30, nine + 1_800)
            return many

        before = [ready_in_berlin(day) for day in range(5)]
        assert before == [0, 0, 0, 10, 10]
        place.go(
            moment(shift + 6, 0, "Europe/Berlin"),
            moment(shift + 6, 6 * 60, "Europe/Berlin"),
        )
        assert [ready_in_berlin(day) for day in (7, 8)] == after


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


def test_what_comes_between_two_looks_is_known_at_once():
    """A burst of ten seconds, while the next look is not due yet."""
    place = Place(lambda at: 0 * bool(at), foresee="UTC", start=0)
    for day in range(3):
        place.go(moment(day, NINE - 30), moment(day, NINE) + 1)
        for seconds, many in ((5, 10), (20, 0)):
            place.now = place.wall = moment(day, NINE) + seconds
            place.tasks = many
            commands, _ = place.pool.tick(place, place.now)
            spawned = [each for each in commands if hasattr(each, "template")]
            assert len(spawned) == (10 if many else 0)
        place.go(moment(day, NINE + 1), moment(day, NINE + 60))
    assert ready(place, 3) == 10


def test_a_load_at_midnight():
    place = Place(lambda at: 6 * (at.hour == 0 and at.minute < 10), foresee="UTC")
    many = [ready(place, day, 24 * 60) for day in range(4)]
    assert many == [0, 0, 0, 6]
    assert "at 00:00, as on 3 of 3 days" in str(place.pool.decisions)


def test_what_cannot_be():
    with pytest.raises(InvalidTaskError, match="no zone 'Europe/Berln'") as error:
        AgentPool(WORKER, foresee="Europe/Berln")
    assert "Europe/Berlin" in error.value.hint
    with pytest.raises(InvalidTaskError, match="named by a text, not True"):
        AgentPool(WORKER, foresee=True)
    with pytest.raises(InvalidTaskError, match="a look each minute"):
        AgentPool(WORKER, foresee="UTC", interval=61)
