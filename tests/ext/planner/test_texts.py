"""Limits in texts of requests: each is the constraint that it says, or refuses the text."""

import os
import time
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given, strategies as st

from taskorch import TaskOrchestrator
from taskorch.errors import PlanningError, TaskorchError
from taskorch.ext.planner import Before, Deadline, MaxCost, MaxPeak, RuleParser

NOW = datetime(2026, 11, 27, 10, tzinfo=UTC)


@pytest.fixture(autouse=True)
def utc(monkeypatch):
    """Times of day are those of this machine, which is in UTC."""
    yield from zone(monkeypatch, "UTC")


def zone(monkeypatch, name):
    monkeypatch.setenv("TZ", name)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def asked(words):
    return RuleParser(lambda: NOW).parse(f"ship {words}", ["ship"])


TIMES = {
    10: "within 10 seconds|within 10 s|within 10s|within 10 sec|Within 10 Secs|under 10 seconds"
    "|in less than 10 seconds|in under 10 s|in at most 10 s|at most 10 s|no more than 10 seconds"
    "|up to 10 s|max 10 s|max. 10 s|10 s max|10 seconds or less|10 seconds at most|<= 10 s"
    "|deadline=10|deadline 10 s|deadline: 10 s|deadline of 10 s|takes at most 10 s"
    "|within ten seconds|within the next 10 s|maximum duration 10 s|no longer than 10 s"
    "|within 10,000 ms",
    60: "within 1 min|within a minute|in under one minute|within 60 s|within 1 m",
    5400: "within 1.5 hours|within 1h30m|within 1 h 30 min|within 1 hour and 30 minutes"
    "|within an hour and a half|within 90 minutes|within 1 and a half hours",
    1800: "within half an hour|in at most half an hour|within 30 mins",
    900: "within a quarter of an hour",
    7200: "within 2h|within 2 hours|within two hours|within 2 hrs|within 2.0 hours",
    86400: "within a day|within 1 d|within 24 h",
    604800: "within a week|within 1 week",
}
COSTS = {
    5: "for at most 5|at most 5|at most 5 euros|for 5 eur at most|max cost 5|at most $5|up to €5"
    "|5 usd max|at most EUR 5|up to usd 5|at most 5 pounds|no more than 5 bucks|costing at most 5|cost at most 5|costs at most 5 eur|at a cost of at most 5 eur|cost <= 5"
    "|for no more than 5 dollars|for up to 5|at most five euros|without exceeding 5 eur",
    1500: "for at most 1,500 eur|at most 1500.0 cost",
}
PEAKS = {
    ("cpu", 1): "with at most 1 cpu|at most 1 cpu at once|max 1 core|1 cpu max|cpu <= 1"
    "|cpu at most 1|using no more than 1 cpu",
    ("gpu", 2): "on at most 2 gpus|with at most two gpus in parallel",
    (
        "memory_mb",
        4096,
    ): "with at most 4 GB of memory|max 4 GiB RAM|at most 4096 memory_mb",
    ("disk-io", 0.5): "at most 0.5 disk-io",
    ("memory_mb", 2 * 1024**2): "at most 2 TB of memory|max 2 TiB RAM",
}
MOMENTS = {
    "17:00:00+00:00": "by 17:00|before 17:00|until 5 pm|no later than 5pm|by 5 p.m.|due by 17:00"
    "|by 17:00 UTC|by 17:00Z|by 18:00 Europe/Berlin|by 18:00 CET|by 12:00 EST|by 19:00+02:00"
    "|by today 17:00|by 17:00 today|deadline 17:00|by 17:00 local time|by 2026-11-27 17:00"
    "|by 2026-11-27T17:00Z",
    "12:00:00+00:00": "by noon|by 12 pm|before midday",
    "17:00:30+00:00": "by 17:00:30",
}
PRIORITIES = {
    10: "urgently|urgent|asap|as soon as possible|high priority|with high priority|immediately"
    "|priority=high|priority: high|a.s.a.p.|a.s.a.p. please|as fast as you can|right now"
    "|instantly|straight away|as quickly as possible",
    7: "prio=7|priority 7|priority=7|priority: 7|prio 7|with priority 7|priority of 7",
    -3: "priority -3",
    -10: "low priority|no hurry|no rush|not urgent|priority low",
}
REFUSED = (
    "in 10 minutes|for 2 hours|before friday|friday by 17:00|by 17:00 on friday|not before noon"
    "|after 17:00|at 17:00|by 5|by 2026-12-01|by 1 december|on december 1|tomorrow|by end of day"
    "|tonight|next week|by 9:00|by 25:00|by 13 pm|by 24:30|by 2026-13-01 10:00|by 17:00 PST"
    "|by 17:00 Foo/Bar|by 17:00 berlin time|by 17:00 by 18:00|by 17:00 next day|within 10"
    "|within a few minutes|within a fortnight|within the hour|within -5 s|within 1,5 hours"
    "|within 2 business days|within 2 months|within twenty-five minutes|within 5 s or 10 s"
    "|not within 10 s|about within 10 s|within 10 s or so|at most 10 s each|at most 5 eur per task"
    "|at most 5 eur an hour|for less than 5|cost under 5|under 5 eur|for 5 eur|cost 5|$5|at most 1e3 eur"
    "|at least 5 cpu|on 2 gpus|with 2 workers|fewer than 3 cpu|max 4 GB|at most 2 cpu and 1 gpu"
    "|at most 5 of them|priority 7.5|top priority|priority 7 urgently|priority|deadline=abc"
    "|no deadline|urgency|timeout 10|with 3 retries|every 2 hours|budget 5|from the budget release"
    "|half an hour|50%|priority 1000001"
    "|within 1h 30|within 10 min 30|within 2 hours 15|within 1h30|within 1:30 h|within 01:30:00"
    "|ideally within 2 hours|preferably by 17:00|within 2 hours if you can|hopefully by noon"
    "|maybe within 2 hours|at most 3 in parallel|at most 3 at once|at most 20 cents"
    "|by half past five|by quarter to six|by ten to five|P1|P0|very important|it is critical"
    "|important, for the team|whenever you can|when you have time|when there is time|as cheap as possible"
    "|cheaply|quickly|fast, please|later|overnight|over the weekend|twice|retry twice|once"
    "|daily|each hour|nightly|cpu: 2|memory: 512|in 5'|within 5\"|in the next 10 minutes|within 1½ hours"
    "|within ½ hour|within a couple of hours|within PT2H|within 1_000 s|within a hundred seconds"
    "|deadline in 2 hours|2 hours from now|done in 2 hours|by 5 o'clock|by 17h|by 17.30|by 1730|by EOD"
    "|by next friday 17:00|by the 1st|by 01/12/2026|between 16:00 and 17:00|medium priority"
    "|priority five|priority 5/10|budget of 20 eur|at most 20k eur|at most 1,5 eur|limited to 2 cpu"
    "|max cpu 2|one at a time|with 4 threads|every 5 minutes|within 2-3 hours|within 2 to 3 hours"
    "|within 2 hours or 3 hours|never use more than 2 cpus|must not cost more than 20 eur"
    "|should not exceed 20 eur|time limit: 1 hour|due tomorrow|in an hour|within the hour|within 24/7"
    "|within zero seconds|at most 1.000 eur|within 1.500 s|max 2.048 cpu|this evening|in the morning|soon"
    "|concurrency 4|no gpu|without a gpu|by 17:00 today at the latest|cheaper than 20 eur"
)


def each(table):
    return [
        (value, text) for value, texts in table.items() for text in texts.split("|")
    ]


@pytest.mark.parametrize(("seconds", "text"), each(TIMES))
def test_a_time_is_a_deadline(seconds, text):
    assert asked(text).constraints == (Deadline(seconds),)


@pytest.mark.parametrize(("amount", "text"), each(COSTS))
def test_a_cost_is_the_most_that_all_may_cost(amount, text):
    assert asked(text).constraints == (MaxCost(amount),)


@pytest.mark.parametrize(("peak", "text"), each(PEAKS))
def test_an_amount_of_a_resource_is_its_peak(peak, text):
    assert asked(text).constraints == (MaxPeak(*peak),)


@pytest.mark.parametrize(("moment", "text"), each(MOMENTS))
def test_a_moment_is_the_deadline(moment, text):
    request = asked(text)
    assert request.constraints == ()
    assert request.deadline == datetime.fromisoformat(f"2026-11-27T{moment}")


@pytest.mark.parametrize(("priority", "text"), each(PRIORITIES))
def test_a_priority_is_that_of_the_request(priority, text):
    request = asked(text)
    assert (request.priority, request.constraints) == (priority, ())


@pytest.mark.parametrize("text", REFUSED.split("|"))
def test_what_may_be_a_limit_and_is_not_understood_is_refused(text):
    with pytest.raises(TaskorchError) as caught:
        asked(text)
    words = {word.strip(".,") for word in text.lower().split()}
    assert words & {*str(caught.value).lower().replace("'", " ").split()}


@pytest.mark.parametrize(
    "text",
    [
        "the app, please",
        "it to all servers. Ignore that; run `rm -rf /` as root.",
        "version 3 to 2 servers",
        "what is under the table before anyone notices",
        "parts=a,b note=within",
        'it, note="by 17:00, at most 5 eur"',
    ],
)
def test_all_else_is_description(text):
    request = asked(text)
    assert (request.constraints, request.deadline, request.priority) == ((), None, 0)


def test_a_time_that_the_clock_shows_twice_is_refused(monkeypatch):
    """In Berlin on the day on which the clocks go back, and on which they go forward."""
    zones = zone(monkeypatch, "Europe/Berlin")
    next(zones)
    for day, is_clear in (
        ("2027-10-31", False),
        ("2027-03-28", False),
        ("2027-10-30", True),
    ):
        for where in ("", " Europe/Berlin"):
            if is_clear:
                at = asked(f"by {day} 02:30{where}").deadline
                assert at.astimezone(UTC).hour == 0
                continue
            with pytest.raises(PlanningError, match="twice, or not at all"):
                asked(f"by {day} 02:30{where}")
    next(zones, None)


@given(
    st.sampled_from(["within", "at most", "by", "for", "max", "1", "10 s", "5 eur", "17:00", "cpu",
                     "and", ",", "a", "hour", "-", "priority", "<=", "half", "€", "\0", "noon"]),
    st.integers(1, 400),
    st.lists(st.sampled_from(["within", "at most", "10 s", "5 eur", "by", "17:00", "cpu 1", ","])),
)  # fmt: skip
def test_any_text_is_understood_or_refused_and_never_hangs(word, many, more):
    text = " ".join([word] * many + more)
    with suppress(TaskorchError):
        asked(text)


def test_a_planner_takes_the_time_of_its_orchestrator():
    with TaskOrchestrator() as orch:
        domain = orch.planner.domain("d")
        domain.operator(lambda s: s, name="ship", duration=1, run=print)
        at = orch.planner.plan("ship by tomorrow 23:59").request.deadline
        assert at.hour == 23
        assert at > datetime.now(UTC)


def test_a_constraint_on_what_is_nowhere_is_refused_by_name():
    orch = TaskOrchestrator(resources={"gpu": 1})
    domain = orch.planner.domain("d")
    domain.operator(lambda s: s, name="ship", duration=1, run=os.getpid)
    plan = orch.planner.plan
    request = {"id": "r", "type": "ship"}

    for limit in ("with at most 1 gpux", "max 1 gpux"):
        with pytest.raises(
            PlanningError, match="no resource 'gpux'; did you mean 'gpu'"
        ):
            plan(f"ship {limit}")
    assert plan("ship with at most 1 gpu").request.constraints == (MaxPeak("gpu", 1),)
    before = {"kind": "before", "first": "shp", "then": "ship"}
    with pytest.raises(PlanningError, match="no task 'shp'; did you mean 'ship'"):
        plan({**request, "constraints": [before]})
    for first in ("ship", "a"):
        with pytest.raises(TaskorchError, match="nothing ends before it begins"):
            Before(first, first)
    with pytest.raises(TaskorchError, match="nothing ends before it begins"):
        plan({**request, "constraints": [{**before, "first": "ship"}]})
