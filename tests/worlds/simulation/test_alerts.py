"""Alerts that act and are undone, in virtual time."""

from __future__ import annotations

from random import Random

import attrs
import pytest

from taskorch import Task, TaskState
from taskorch.errors import InvalidTaskError
from taskorch.events import AlertCleared, AlertRaised, ComponentFailed
from taskorch.ext.recovery import AlertRule, Alerts
from taskorch.model import Resources
from taskorch.protocols import RemoveAgent
from taskorch.testing import Outcome, Simulation

BEGINNING = 1_767_225_600.0


def told(sim):
    return [
        (event.at - BEGINNING, event.name)
        for event in sim.events
        if isinstance(event, AlertRaised | AlertCleared)
    ]


def test_starts_are_held_while_too_much_fails_and_nothing_flaps():
    """Twice half an hour in which half of all fails: two alerts, and few failures."""
    sim = Simulation(seed=3, check=False)
    sim.agent("able", capabilities=("job",), max_concurrency=4)
    bad = ((1_800, 3_600), (7_200, 9_000))

    def work(_task, _attempt, random):
        is_bad = any(begin <= sim.now < end for begin, end in bad)
        error = ConnectionError("down") if is_bad and random.random() < 0.5 else None
        return Outcome(20.0, error=error)

    sim.work("job", work)
    sim.drivers.add(Alerts(interval=30.0))
    for number in range(1_080):
        sim.submit_task(Task("job", id=f"j{number}", not_before=number * 10.0))

    sim.run(until=4 * 3_600)

    assert [name for _, name in told(sim)] == ["high_failure_rate"] * 4
    raised, cleared, again, over = (at for at, _ in told(sim))
    assert 1_800 < raised < 2_200
    assert 3_600 < cleared < 4_400
    assert 7_200 < again < 7_800
    assert 9_000 < over < 10_000
    states = [status.state for status in sim.tasks()]
    assert states.count(TaskState.FAILED) < 200
    assert states.count(TaskState.COMPLETED) == 1_080 - states.count(TaskState.FAILED)


def test_fewer_run_while_memory_is_short():
    sim = Simulation(seed=1, resources=Resources(memory_mb=100))
    sim.agent("able", capabilities=("job",), max_concurrency=None)
    sim.work("job", lambda *_: 100.0)
    sim.drivers.add(Alerts())
    for number in range(40):
        needs = Resources(memory_mb=10)
        sim.submit_task(Task("job", id=f"j{number}", resources=needs))
    running = []
    for _ in range(60):
        sim.run(until=sim.now + 20)
        running.append(len(sim.tasks("running")))
    assert max(running) == 10
    assert 5 in running
    assert running[-1] == 0
    raised = [name for _, name in told(sim)]
    assert raised[:2] == ["memory_exhaustion"] * 2


def test_what_a_silent_worker_had_goes_to_others():
    """Each worker has an alert of its own, which is over once it has gone."""
    sim = Simulation(seed=1)
    sim.agent("far", capabilities=("job",))
    view = _View(sim)
    alerts = Alerts()

    def tick(now, **changes):
        stats = sim.get_stats()
        view.stats = attrs.evolve(
            stats, agents={"far": attrs.evolve(stats.agents["far"], **changes)}
        )
        return list(alerts.tick(view, now)[0])

    assert tick(0.0, silent=5.0) == []
    told, remove = tick(10.0, silent=130.0)
    assert told.fields[0] == "agent_unresponsive"
    assert remove == RemoveAgent("far")
    (alert,) = alerts.firing()
    assert (alert.subject, alert.severity) == ("far", "critical")
    assert tick(20.0, silent=None, lost=True) == []
    assert [alert.has_data for alert in alerts.firing()] == [False]
    assert [type(each).__name__ for each in tick(30.0, silent=1.0)] == ["_Tell"]
    assert alerts.firing() == ()


def test_who_has_left_in_order_owes_no_sign_of_life():
    sim = Simulation(seed=1)
    sim.agent("far", capabilities=("job",), lease=15.0)
    sim.drivers.add(Alerts())
    sim.at(10.0, lambda: sim.remove_agent("far"))
    sim.run(until=400)
    assert told(sim) == []


def test_waiting_holding_and_no_data():
    """A condition must last; an end must last; what is not known is a state."""
    values = {"at": 0.0}

    def value(measured):
        del measured
        now = values["at"]
        if 10 <= now < 13 or 20 <= now < 40:
            return True
        return None if 45 <= now < 60 else False

    done = []

    def act(_orchestrator, alert):
        done.append(("act", alert.name))
        return lambda _orch, _alert: done.append(("undo", alert.name))

    alerts = Alerts(
        rules=[AlertRule.of("mine", value, wait=5, hold=10, action=act)], interval=1
    )
    sim = Simulation(seed=1)
    seen = {}
    for second in range(90):
        values["at"] = float(second)
        commands, when = alerts.tick(_View(sim), second)
        assert when == second + 1
        for command in commands:
            if hasattr(command, "function"):
                command.apply(None)
        (alert,) = alerts.list()
        seen[second] = (alert.state, alert.has_data)
    assert seen[5] == ("ok", True)
    assert seen[11] == ("pending", True)
    assert seen[15] == ("ok", True)
    assert seen[26] == seen[42] == ("firing", True)
    assert seen[50] == ("firing", False)
    assert seen[75] == ("ok", True)
    assert done == [("act", "mine"), ("undo", "mine")]


class _View:
    def __init__(self, sim):
        self._sim = sim
        self.stats = None

    def get_stats(self):
        return self._sim.get_stats() if self.stats is None else self.stats


def firing(value, **options):
    """The seconds at which a rule fires that is looked at each second."""
    now = [0]
    rule = AlertRule.of("mine", lambda _: value(now[0]), **options)
    alerts = Alerts(rules=[rule], interval=1)
    view, seconds = _View(Simulation(seed=1)), []
    for now[0] in range(60):
        list(alerts.tick(view, float(now[0]))[0])
        seconds += [now[0]] * len(alerts.firing())
    return seconds


@pytest.mark.parametrize("gap", [None, True])
def test_begin_and_end_must_last_without_a_gap(gap):
    """What is not known in between begins and ends nothing, either."""

    def value(now):
        if now in (3, 35):
            return None if gap is None else now == 35
        return now < 30

    assert firing(value, wait=5, hold=10) == [*range(9, 46)]


@pytest.mark.parametrize("severity", ["info", "warning", "critical"])
def test_an_alert_spares_the_health_if_it_is_for_information(severity):
    alerts = Alerts(rules=[AlertRule.of("mine", "running >= 0", severity=severity)])
    list(alerts.tick(_View(Simulation(seed=1)), 0.0)[0])
    assert [alert.name for alert in alerts.firing()] == ["mine"]
    assert alerts.check().status == ("ok" if severity == "info" else "degraded")


def test_one_task_at_least_runs_while_memory_is_short():
    sim = Simulation(seed=1, resources=Resources(memory_mb=100))
    sim.agent("able", capabilities=("job",), max_concurrency=None)
    sim.work("job", 100.0)
    sim.drivers.add(Alerts())
    for _ in range(3):
        sim.submit_task(Task("job", resources=Resources(memory_mb=95)))
    sim.run(until=400)
    assert [each.start for each in sim.attempts] == [0.0, 100.0, 200.0]
    assert told(sim)


def test_a_rule_that_goes_on_to_raise_is_told_each_minute():
    def broken(_measured):
        raise LookupError("what I need is gone")

    sim = Simulation(seed=1)
    sim.drivers.add(Alerts(rules=[AlertRule.of("broken", broken)]))
    sim.run(until=150)
    faults = [e.at - BEGINNING for e in sim.events if isinstance(e, ComponentFailed)]
    assert [round(at) for at in faults] == [0, 60, 120]


def test_what_a_system_does_not_say_of_the_machine_is_no_data(monkeypatch):
    # As on Windows.
    monkeypatch.delattr("os.getloadavg")
    rules = [AlertRule.of("load", "machine_cpu_load >= 0")]
    alerts = Alerts(rules=rules, machine=True)
    list(alerts.tick(_View(Simulation(seed=1)), 0.0)[0])
    assert [alert.state for alert in alerts.list()] == ["no data"]


def test_a_rule_that_goes_undoes_what_it_did():
    alerts = Alerts(
        rules=[AlertRule.of("mine", "running >= 0", action="pause_new_tasks")]
    )
    sim = Simulation(seed=1)
    list(alerts.tick(_View(sim), 0.0)[0])
    assert [alert.name for alert in alerts.firing()] == ["mine"]
    assert alerts.remove("mine")
    assert not alerts.remove("mine")
    commands, _ = alerts.tick(_View(sim), 1.0)
    assert {type(command).__name__ for command in commands} == {"_Tell", "_Release"}
    assert alerts.rule("other", when="task_queue_length > 3", **{"for": 5}).wait == 5
    for wait in (9, 0):
        with pytest.raises(InvalidTaskError, match="for and wait are the same"):
            alerts.rule("both", when="running > 3", wait=wait, **{"for": 5})


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"when": "failure_rat > 1"}, "did you mean 'failure_rate'"),
        ({"when": "__import__('os')"}, "names and numbers"),
        ({"when": "1 +"}, "cannot be read"),
        ({"when": 3}, "is no condition"),
        ({"when": "running > 1", "action": "pause"}, "action is 'pause_new_tasks'"),
        ({"when": "running > 1", "action": "reassign_tasks"}, "per='agent'"),
        ({"when": "running > 1", "severity": "bad"}, "severity is 'info'"),
        ({"when": "running > 1", "hold": -1}, "hold"),
        ({"when": "running > 1", "per": "tasks"}, "per is 'system'"),
        ({"when": "running > 1", "per": "task"}, "deadline_risk"),
    ],
)
def test_a_rule_that_is_wrong_is_refused(fields, words):
    with pytest.raises(InvalidTaskError) as caught:
        Alerts().rule("mine", **fields)
    assert words in str(caught.value)


# -- what is refused, and what is alone with its fault ---------------------------------


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"when": "failure_rate"}, "is an amount"),
        ({"when": "failure_rate > 0.2 and running"}, "is an amount"),
        ({"when": "failure_rate > nan"}, "'nan'"),
        ({"when": "failure_rate > 1e999"}, "without end"),
        ({"when": "running > 1", "least": -5}, "least"),
        ({"when": "running > 1", "least": 0}, "least"),
        ({"when": "running > 1", "least": "ten"}, "least"),
        ({"when": "running > 1", "over": 0}, "over"),
        ({"when": "running > 1", "over": float("nan")}, "over"),
        ({"when": "running > 1", "wait": float("inf")}, "wait"),
        ({"when": "running > 1", "until": "runing < 1"}, "did you mean 'running'"),
        ({"when": "running > 10", "until": "running > 5"}, "running is"),
        ({"when": "running > 10", "until": "running <= 11"}, "running is"),
        ({"when": "running < 2", "until": "running < 3"}, "running is"),
    ],
)
def test_what_could_have_no_effect_or_would_flap_is_refused(fields, words):
    with pytest.raises(InvalidTaskError) as caught:
        AlertRule.of("mine", **fields)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("when", "until"),
    [
        ("running > 10", "running < 5"),
        ("running > 10", "running <= 10"),
        ("running > 10 and queue_age > 60", "running < 5"),
        ("running > 10", "queue_age < 5"),
        ("avg_execution_time > baseline_execution_time * 2", None),
        (
            "avg_execution_time > baseline_execution_time * 2",
            "avg_execution_time < baseline_execution_time * 1.5",
        ),
    ],
)
def test_conditions_that_exclude_each_other_are_taken(when, until):
    assert AlertRule.of("mine", when, until).when.text == when


def test_a_rule_that_raises_is_told_by_its_name_and_the_others_go_on():
    def broken(_measured):
        raise LookupError("what I need is gone")

    def misspelt(measured):
        return measured["runing"] > 1

    def short(measured):
        return measured["memory_usage"] > 1

    sim = Simulation(seed=1)
    alerts = Alerts(
        rules=[
            AlertRule.of("broken", broken),
            AlertRule.of("misspelt", misspelt),
            AlertRule.of("short", short),
            AlertRule.of("good", "running >= 0"),
        ]
    )
    sim.drivers.add(alerts)
    sim.run(until=25)
    assert [name for _, name in told(sim)] == ["good"]
    faults = [e for e in sim.events if isinstance(e, ComponentFailed)]
    assert ["broken" in e.message or "misspelt" in e.message for e in faults] == [
        True,
        True,
    ]
    assert "did you mean 'running'" in faults[1].message


@pytest.mark.parametrize("name", ["", "a" * 101, "a\u202eb", "a\nb", 3])
def test_a_name_that_could_not_be_read_in_a_line_is_refused(name):
    with pytest.raises(InvalidTaskError, match="name of an alert"):
        AlertRule.of(name, "running > 1")


# -- like is compared with like --------------------------------------------------------


SEEDS = [
    0,
    *(
        pytest.param(seed, marks=pytest.mark.slow("other courses of chance"))
        for seed in (1, 2)
    ),
]


def paced(durations):
    """The alerts that tasks of a type raise, which take so long, one after the other."""
    sim = Simulation(seed=1)
    sim.agent("able", capabilities=("job",), max_concurrency=1)
    seconds = iter(durations)
    sim.work("job", lambda *_: next(seconds))
    sim.drivers.add(Alerts(interval=1.0))
    for number in range(len(durations)):
        sim.submit_task(Task("job", id=f"j{number}"))
    sim.run(until=sum(durations) + 100)
    return [event.name for event in sim.events if isinstance(event, AlertRaised)]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_healthy_mixture_of_short_and_long_calls_is_no_alert(seed):
    random = Random(seed)
    assert paced([random.choice([0.5, 1, 2, 20]) for _ in range(100)]) == []


def test_calls_that_all_take_three_times_as_long_are_one():
    random = Random(1)
    usual = [random.uniform(0.8, 1.2) for _ in range(60)]
    assert paced([*usual, *(3 * each for each in usual)]) == ["performance_degradation"]


def test_what_is_slower_by_less_than_can_be_told_is_none():
    assert paced([0.0002] * 50 + [0.002] * 50) == []


@pytest.mark.parametrize(
    ("days", "seed"),
    [
        (0.5, 7),
        *(
            pytest.param(7, seed, marks=pytest.mark.slow("a week, for what is rare"))
            for seed in (1, 2)
        ),
    ],
)
def test_no_alert_while_all_is_healthy(days, seed):
    """Four types of task, each with its own spread; two of a hundred fail."""
    sim = Simulation(seed=seed, check=False)
    sim.agent("able", capabilities=("a", "b", "c", "d"), max_concurrency=8)

    def work(task, _attempt, random):
        middle = {"a": 5, "b": 20, "c": 60, "d": 300}[task.type]
        bad = OSError("flaky") if random.random() < 0.02 else None
        return Outcome(middle * random.lognormvariate(0, 1), error=bad)

    for name in "abcd":
        sim.work(name, work)
    sim.drivers.add(Alerts(interval=60.0))
    random = Random(seed)
    at = 0.0
    count = 0
    while at < days * 86_400:
        sim.submit_task(Task(random.choice("abcd"), id=f"t{count}", not_before=at))
        at += random.expovariate(1 / 240)
        count += 1
    sim.run(until=days * 86_400)
    assert told(sim) == []


def loaded(seed, seconds, every, share, *, default_interval=20.0):
    """The alerts of a load; *share* says which part of the attempts fails, and when."""
    sim = Simulation(seed=seed, resources=Resources(cpu=64), check=False)
    sim.agent("able", capabilities=("job",), max_concurrency=64)

    def work(_task, _attempt, random):
        bad = OSError("flaky") if random.random() < share(sim.now) else None
        return Outcome(2 * random.lognormvariate(0, 0.5), error=bad)

    sim.work("job", work)
    sim.drivers.add(Alerts(interval=default_interval))
    random = Random(seed)
    at, count = 0.0, 0
    while at < seconds:
        sim.submit_task(Task("job", id=f"t{count}", not_before=at))
        at += random.expovariate(1 / every)
        count += 1
    sim.run(until=seconds)
    return told(sim)


@pytest.mark.parametrize("seed", SEEDS)
def test_one_failure_in_twenty_is_no_alert_however_few_end(seed):
    assert loaded(seed + 1, 10_000, 30.0, lambda _: 0.05) == []


@pytest.mark.parametrize("seed", SEEDS)
def test_what_begins_to_fail_is_noticed_within_a_minute(seed):
    begin = 600.0
    share = lambda now: 0.6 if now >= begin else 0.02  # noqa: E731
    alerts = loaded(seed, begin + 60, 1.0, share, default_interval=10.0)

    assert [name for _, name in alerts] == ["high_failure_rate"]
    assert begin < alerts[0][0] <= begin + 60


# -- each task beside its own type -----------------------------------------------------


def types_of(seed, seconds, work, *, begin=3_600.0, common=0.0, interval=20.0):
    """
    The alerts that twenty types raise from *begin* on, with five tasks a minute.

    Each type takes its own time, of 1 to 40 s, and so long as *work* says: it is given
    the number of a type, whether it is time, and dice, and returns by what a task takes
    longer, and whether it fails. Type 0 has the share *common* of the tasks.
    """
    sim = Simulation(seed=seed, check=False)
    names = [f"kind{number}" for number in range(20)]
    sim.agent("able", capabilities=names, max_concurrency=None)

    def job(task, _attempt, random):
        number = int(task.type.removeprefix("kind"))
        longer, fails = work(number, sim.now >= begin, random)
        seconds = 1.2**number * random.lognormvariate(0, 0.3) * longer
        return Outcome(seconds, error=OSError("no") if fails else None)

    for name in names:
        sim.work(name, job)
    sim.drivers.add(alerts := Alerts(interval=interval))
    random, at, count = Random(seed), 0.0, 0
    while at < begin + seconds:
        at += random.expovariate(1 / 12)
        name = names[0] if random.random() < common else random.choice(names)
        sim.submit_task(Task(name, id=f"t{count}", not_before=at))
        count += 1
    sim.run(until=begin + seconds)
    raised = [
        (event.at - BEGINNING - begin, event.name, event.message)
        for event in sim.events
        if isinstance(event, AlertRaised)
    ]
    return raised, alerts


@pytest.mark.parametrize("seed", SEEDS)
def test_a_common_type_that_always_fails_is_told_by_its_name(seed):
    """It has a task a minute; the others go on, and are not held for it."""
    fail = lambda number, is_late, _: (1.0, is_late and number == 0)  # noqa: E731
    raised, alerts = types_of(seed, 450, fail, common=0.2)
    assert [name for _, name, _ in raised] == ["failing_type"]
    assert 0 < raised[0][0] <= 300
    assert raised[0][2].startswith("kind0: ")
    assert [(alert.name, alert.subject) for alert in alerts.firing()] == [
        ("failing_type", "kind0")
    ]


def test_if_all_types_begin_to_fail_it_is_told_once_before_much_has_ended():
    """
    It is no matter of each type.

    What fails more often than others of its type is looked at by itself.
    """
    fail = lambda _number, is_late, random: (1.0, is_late and random.random() < 0.6)  # noqa: E731
    raised, _ = types_of(2, 600, fail, interval=10.0)
    assert [name for _, name, _ in raised] == ["high_failure_rate"]
    assert raised[0][0] <= 120


WEEK = [pytest.mark.slow("a week, for what is rare"), pytest.mark.timeout(900)]


@pytest.mark.parametrize(
    ("seed", "hours"),
    [(3, 2), pytest.param(3, 168, marks=WEEK), pytest.param(4, 168, marks=WEEK)],
)
def test_many_types_that_fail_now_and_then_raise_nothing(seed, hours):
    """A type that fails half of the time is as usual; and none has a line of its own."""
    share = lambda number: 0.5 if number == 7 else 0.02  # noqa: E731
    work = lambda number, _is_late, random: (1.0, random.random() < share(number))  # noqa: E731
    raised, alerts = types_of(seed, hours * 3_600, work, interval=60.0)
    assert raised == []
    of_types = [alert for alert in alerts.list() if alert.name == "failing_type"]
    assert [(alert.subject, alert.state) for alert in of_types] == [("", "ok")]


def test_a_rule_may_judge_each_type_by_what_is_measured_of_it():
    rule = AlertRule.of("long", "avg_execution_time > 30", per="type")
    sim = Simulation(seed=1)
    sim.agent("able", capabilities=("short", "long"), max_concurrency=1)
    sim.work("short", lambda *_: 10.0)
    sim.work("long", lambda *_: 40.0)
    sim.drivers.add(alerts := Alerts(rules=[rule]))
    for number in range(30):
        sim.submit_task(Task("short", id=f"s{number}"))
        sim.submit_task(Task("long", id=f"l{number}"))
    sim.run(until=2_000)
    assert [alert.subject for alert in alerts.firing()] == ["long"]


def slow_ones(usual, late, every=60.0):
    """
    What is told of types that each took 10 s *usual* times, a task *every* so often.

    After that come tasks of *late*, types by number; each takes 50 s.
    """
    sim = Simulation(seed=1)
    names = [f"kind{number}" for number in range(10)]
    sim.agent("able", capabilities=names, max_concurrency=None)
    begin = usual * 10 * every
    for name in names:
        sim.work(name, lambda *_: 10.0 if sim.now < begin else 50.0)
    sim.drivers.add(Alerts(interval=every / 3))
    order = [*[number % 10 for number in range(usual * 10)], *late]
    for count, number in enumerate(order):
        at = count * every
        sim.submit_task(Task(names[number], id=f"t{count}", not_before=at))
    sim.run(until=begin + every * len(late) + 2 * every)
    return [event.message for event in sim.events if isinstance(event, AlertRaised)]


def test_where_little_is_known_a_few_slow_tasks_prove_nothing():
    assert slow_ones(4, [0, 1, 2], every=3_600.0) == []
    assert len(slow_ones(4, range(10), every=3_600.0)) == 1


def late_alerts(kinds, known, late, spoil):
    """
    What is told, raised or over, and how many late tasks had begun by then.

    A task begins each minute, and takes 10 s. Of each of so many kinds there are
    *known* ones before the late ones. *late* says the kind of each of these, and
    whether it comes to *spoil*.
    """
    sim = Simulation(seed=1)
    names = [f"kind{number}" for number in range(kinds)]
    sim.agent("able", capabilities=names, max_concurrency=None)
    order = [(number % kinds, False) for number in range(known * kinds)]
    begin = len(order)
    order += late

    def job(task, *_):
        is_spoilt = order[int(str(task.id).removeprefix("t"))][1]
        return spoil if is_spoilt else Outcome(10.0)

    for name in names:
        sim.work(name, job)
    sim.drivers.add(Alerts(interval=30.0))
    for count, (number, _) in enumerate(order):
        task = Task(names[number], id=f"t{count}", not_before=count * 60.0)
        sim.submit_task(task)
    sim.run(until=len(order) * 60.0)
    return [(at / 60 - begin, name) for at, name in told(sim)]


FAILED = Outcome(10.0, error=OSError("no"))
SLOW = Outcome(50.0)


def test_what_a_type_fails_lately_is_not_yet_usual_for_it():
    """Three of four fail: the first failures do not make the others look usual."""
    late = []
    for number in range(40):
        late += [(0, number % 4 != 3), (1 + number % 5, False)]
    ((at, name),) = late_alerts(6, 30, late, FAILED)
    assert (name, at < 12) == ("failing_type", True)


def test_what_is_slow_lately_is_not_yet_usual():
    """Of each type three tasks are known: those of all types say what is usual."""
    late = [(number % 10, True) for number in range(90)]
    # It lasts while what is slow is not yet most of what a type has done.
    ((at, name),) = late_alerts(10, 3, late[:60], SLOW)
    assert (name, at < 8) == ("performance_degradation", True)
    assert len(late_alerts(10, 5, late, SLOW)) == 1
