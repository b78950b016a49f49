"""Pools of workers and breakers, in virtual time."""

from collections import deque
from copy import deepcopy
from functools import partial
from random import Random
from types import SimpleNamespace

import pytest
from hypothesis import given, strategies as st

from taskorch import Resources, RetryPolicy, Task
from taskorch.errors import InvalidTaskError
from taskorch.model import AgentTemplate, Breaker
from taskorch.policies import AgentPool, PoolSample
from taskorch.policies._agent_pool import Spawn
from taskorch.testing import Faults, Outcome, Simulation

WORKER = AgentTemplate("worker", capabilities={"x": 1}, handler=print)
RETRY = RetryPolicy(max_attempts=3, wait="fixed", base=0)


def desired(*samples, now=None, **numbers):
    pool = AgentPool(WORKER, min_agents=1, max_agents=10, **numbers)
    return pool.desired(samples, samples[-1].at if now is None else now)


@pytest.mark.parametrize(
    ("sample", "workers", "words"),
    [
        (PoolSample(0, 0, 0, 0), 1, "fewer than min_agents"),
        (PoolSample(0, 0, 0, 4), 4, "fewer than min_agents"),
        (PoolSample(0, 12, 0, 0), 10, "more than max_agents"),
        (PoolSample(0, 4, 4, 0), 4, "load 1.00"),
        (PoolSample(0, 4, 3, 0), 3, "load 0.75"),
        (PoolSample(0, 4, 4, 1), 5, "4 running and 1 waiting need 5 of 4 slots"),
        (PoolSample(0, 4, 4, 90), 10, "above 0.8"),
        (PoolSample(0, 10, 10, 90), 10, "there are max_agents"),
        (PoolSample(0, 10, 2, 0), 2, "load 0.20"),
        (PoolSample(0, 1, 0, 0), 1, "load 0.00"),
    ],
)
def test_how_many_are_wished_for(sample, workers, words):
    wish, why = desired(sample)
    assert wish == workers
    assert words in why


def test_what_waits_needs_the_slots_that_begin_it_in_time():
    """In 10 s a slot begins ten tasks of a second, besides the one that it runs."""
    pool = AgentPool(WORKER, max_agents=99, wait=10)
    assert pool.demand([PoolSample(0, 0, 0, 110, 110, 1.0)]) == pytest.approx(10)
    # Five more come in each second: those, too, are to begin within ten.
    seen = [PoolSample(0, 9, 9, 9, 50, 1.0), PoolSample(10, 9, 9, 91, 100, 1.0)]
    assert pool.demand(seen) == pytest.approx((100 + 50) / 11)
    at_once = AgentPool(WORKER, max_agents=99, wait=0)
    assert at_once.demand(seen) == 100
    assert repr(pool) == "AgentPool('worker', min_agents=0, max_agents=99)"


SAMPLES = st.builds(
    PoolSample,
    st.integers(0, 1_000),
    st.integers(0, 50),
    st.integers(0, 200),
    st.integers(0, 200),
    st.integers(0, 100_000),
    st.none() | st.floats(0, 1e6),
)


@given(st.lists(SAMPLES, min_size=1, max_size=9), st.integers(1, 7))
def test_nobody_is_spawned_for_whom_there_is_nothing_to_do(samples, slots):
    template = AgentTemplate("w", capabilities={"x": 1}, max_concurrency=slots)
    pool = AgentPool(template, max_agents=1_000)
    samples.sort(key=lambda one: one.at)
    last = samples[-1]
    wish, why = pool.desired(samples, last.at)
    todo = last.running + last.waiting
    assert (wish - 1) * slots < max(1, todo)
    assert pool.demand(samples) <= todo
    assert f"{last.running} running and {last.waiting} waiting" in why


class Nobody:
    """What a pool sees of a template that was given up."""

    def agents(self):
        return []

    def waiting(self, _template=None):
        return {("x",): 3, ("y",): 9, None: 9}

    def starting(self, _template):
        return []

    def is_of(self, _worker_id, _template):
        return True

    def agent_totals(self, _template):
        return 0, None

    def given_up(self, _template):
        return "five have failed"


def test_why_none_is_spawned_is_said_once():
    pool = AgentPool(WORKER, max_agents=9)
    for now in (0.0, 10.0):
        assert pool.tick(Nobody(), now) == ([], now + 10)
    (said,) = pool.decisions
    assert said.reason == "no more are spawned: five have failed"
    assert (said.before, said.after) == (0, 0)


def test_a_clock_that_goes_back():
    late, early = PoolSample(9, 4, 4, 9), PoolSample(5, 4, 2, 0)
    assert desired(late, early)[0] == 2
    assert desired(late, early, now=20)[0] == 2
    assert desired(late, now=5) == (1, "nothing was seen yet")


@pytest.mark.parametrize(
    "numbers",
    [
        {"min_agents": 3, "max_agents": 2},
        {"scale_up_threshold": 0.3, "scale_down_threshold": 0.3},
        {"scale_up_threshold": 2},
        {"interval": 0},
        {"settle": -1},
        {"max_agents": 0},
    ],
)
def test_numbers_that_cannot_be(numbers):
    with pytest.raises(InvalidTaskError):
        AgentPool(WORKER, **numbers)


@pytest.mark.parametrize(
    ("names", "given", "others"),
    [
        ("{type}-{number}", ["a-1", "a-12"], ["a-b-1", "a-", "a-1-1", "ab-1", "a-x"]),
        ("agent_{number:03}", ["agent_001", "agent_1234"], ["agent_", "agents_001"]),
    ],
)
def test_which_workers_are_those_of_a_template(names, given, others):
    template = AgentTemplate("a", names=names)
    assert template.id_of(1) == given[0]
    assert [each for each in given + others if template.has_named(each)] == given


@pytest.mark.parametrize(
    "names", ["agent", "{number}{number}", "{nr}", "{number:>9}", "{", "{number.x}"]
)
def test_names_that_make_no_ids(names):
    with pytest.raises(InvalidTaskError, match="makes no ids"):
        AgentPool(AgentTemplate("a", names=names))


def test_a_service_that_has_gone_still_shows_what_the_next_one_can_hold():
    sim = Simulation(1, resources=Resources(cpu=100), unknown_capability="wait")
    far = AgentTemplate(
        "far", executor="service", start=("far",), capabilities={"x": 1}
    )
    sim.submit_task(Task("t", requires=["x"], resources=Resources(cpu=60)))
    sim.agent("far-1", capabilities=["x"], capacity=Resources(cpu=10), work=1)
    pool = AgentPool(far, min_agents=0, max_agents=3, interval=1, settle=10)
    sim.drivers.add(pool)
    sim.run(100)
    assert [(one.before, one.after) for one in pool.decisions] == [(1, 0)]
    sim.submit_task(Task("t", requires=["x"], resources=Resources(cpu=5)))
    sim.run(200)
    assert pool.decisions[1].after == 1


def test_a_template_without_limit_needs_no_pool():
    endless = AgentTemplate("worker", handler=print, max_concurrency=None)
    with pytest.raises(InvalidTaskError, match="one is enough"):
        AgentPool(endless)
    with pytest.raises(InvalidTaskError, match="AgentTemplate"):
        AgentPool("worker")


def under_chance(times, **numbers):
    """
    Tasks that come at these times; each takes a minute on average.

    Returns the agent-hours over the ideal, the p95 of waiting, how many workers were
    started, and the most that there were.
    """
    random = Random(7)
    lasts = {f"t{n}": random.lognormvariate(3.912, 0.6) for n in range(len(times))}
    sim = Simulation(1, check=False, concurrency=500, unknown_capability="wait")
    sim.work("t", lambda task, _attempt, _random: lasts[task.id])
    pool = AgentPool(WORKER, min_agents=1, max_agents=400, **numbers)
    pool.decisions = deque()  # all of them
    sim.drivers.add(pool)
    for number, at in enumerate(times):
        task = Task("t", id=f"t{number}", requires=["x"])
        sim.at(at, lambda task=task: sim.submit_task(task))
    sim.run(times[-1] + 900)
    spent = since = there = 0.0
    for one in pool.decisions:
        spent += (one.at - since) * there
        since, there = one.at, one.after
    begun = {one.task_id: one.start for one in sim.attempts}
    waits = sorted(begun[f"t{n}"] - at for n, at in enumerate(times))
    starts = sum(max(0, one.after - one.before) for one in pool.decisions)
    most = max(one.after for one in pool.decisions)
    return spent / sum(lasts.values()), waits[len(waits) * 95 // 100], starts, most


def poisson(rate, seconds, seed=3):
    random, times = Random(seed), [0.0]
    while (at := times[-1] + random.expovariate(rate)) < seconds:
        times.append(at)
    return times


def test_where_tasks_come_by_chance_few_workers_idle_and_few_tasks_wait():
    """
    A target of 0.8, and the highest wish of five minutes, have 1.9 times as many.

    A lower threshold is the price of fewer starts.
    """
    times = poisson(1 / 6, 2_400)
    hours, wait, starts, _ = under_chance(times)
    assert hours <= 1.35
    assert wait <= 0.1
    more, _, fewer, _ = under_chance(times, scale_down_threshold=0.05)
    assert fewer <= starts / 2
    assert hours < more <= 1.7


def test_a_burst_has_a_worker_for_each_task_and_they_go_when_it_is_over():
    times = sorted([*poisson(1 / 60, 3_600), *(1_800 + n / 100 for n in range(200))])
    hours, wait, _, most = under_chance(times)
    assert most <= 205
    assert wait <= 0.2
    assert hours <= 1.8


def test_a_short_lull_ends_nobody():
    sim = Simulation(1, unknown_capability="wait")
    sim.work("t", 10)
    pool = AgentPool(WORKER, max_agents=5, settle=60)
    sim.drivers.add(pool)
    tasks = [Task("t", requires=["x"]) for _ in range(5)]
    sim.submit_tasks(tasks)
    sim.at(50, lambda: sim.submit_tasks([Task("t", requires=["x"]) for _ in range(5)]))
    sim.run(60)
    assert [one.after >= one.before for one in pool.decisions] == [True]
    sim.run(300)
    assert pool.decisions[-1].after == 0


def black_hole(breaker, slots, bad=(1,), tasks=500, seed=1, **options):
    sim = Simulation(seed, concurrency=32, **options)
    for number in range(8):
        work = Outcome(0.001, error=OSError("no disk")) if number in bad else 0.05
        sim.agent(
            f"a{number}",
            capabilities=["x"],
            max_concurrency=slots,
            breaker=breaker,
            work=work,
        )
    sim.submit_tasks([Task("t", requires=["x"], retry=RETRY) for _ in range(tasks)])
    sim.run()
    stats = sim.get_stats()
    wasted = sum(worker.failed for worker in stats.agents.values())
    return stats.state_machine.failed, wasted


def test_two_black_holes():
    failed, wasted = black_hole(Breaker(), 4, bad=(1, 5))
    assert failed == 0
    assert wasted <= 25


@pytest.mark.parametrize("seed", range(10))
def test_breakers_hold_the_guarantees_under_faults(seed):
    """The orchestrator dies, messages are lost: every step is checked."""
    failed, _ = black_hole(
        Breaker(failures=2, open=0.2), 2, tasks=60, seed=seed, faults=Faults()
    )
    assert failed <= 60


def test_samples_of_a_clock_that_was_set_back_count_no_more():
    back = [PoolSample(100, 4, 4, 9), PoolSample(10, 4, 0, 0), PoolSample(20, 4, 0, 0)]
    assert desired(*back, now=100) == desired(*back[1:], now=100)


class Seen:
    """What a pool sees: workers by name, each with the attempts that it runs."""

    latency = 1.0

    def __init__(self, **running):
        self.running = running

    def agents(self):
        return [
            SimpleNamespace(
                name=name, running=many, is_lost=False, is_draining=False, labels=()
            )
            for name, many in self.running.items()
        ]

    def is_of(self, name, template):
        return name in self.running

    def starting(self, template):
        return []

    def waiting(self, _template=None):
        return {}

    def agent_totals(self, template):
        return 100, self.latency

    def given_up(self, template):
        return ""


def looks(pool, view, *times):
    """The workers that are let go at each of these times."""
    gone = []
    for now in times:
        commands, _ = pool.tick(view, float(now))
        gone.append([c.agent_id for c in commands if not hasattr(c, "template")])
    return gone


def test_no_worker_is_let_go_before_the_load_was_low_for_its_time():
    """
    Nor one that was there before the pool was: an earlier incarnation may have had it.
    """
    template = AgentTemplate("w", capabilities={"x": 1}, handler=print)
    pool = AgentPool(template, max_agents=5, settle=30, interval=5)
    view = Seen(a=0, b=0)
    assert looks(pool, view, 0, 5, 15, 29) == [[], [], [], []]
    assert looks(pool, view, 31) == [["b", "a"]]


def test_those_that_idle_are_let_go_and_none_that_works():
    template = AgentTemplate("w", capabilities={"x": 1}, handler=print)
    pool = AgentPool(template, max_agents=9, settle=30, interval=5)
    view = Seen(a=1, b=0, c=1, d=0, e=0, f=0, g=0, h=0, i=0)
    *early, gone = looks(pool, view, 0, 10, 20, 31)
    assert early == [[], [], []]
    assert gone
    assert set(gone).isdisjoint("ac")


def test_a_worker_stays_that_was_needed_for_its_share_of_the_time():
    """A second one, in three of ten looks; in two of ten it was needed too seldom."""
    template = AgentTemplate("w", capabilities={"x": 1}, handler=print)
    for busy, gone in ((3, []), (2, ["b"])):
        pool = AgentPool(template, min_agents=1, max_agents=9, settle=90, interval=10)
        for look in range(10):
            now_busy = look % 5 == 1 or (look == 4 and busy == 3)
            view = Seen(a=1, b=int(now_busy))
            view.latency = None
            ended = looks(pool, view, 10 * look)
        assert ended == [gone]
        if gone:
            assert pool.decisions[-1].reason.endswith("1 were needed in 30% of 90 s")


def test_it_looks_at_once_when_a_task_finds_no_slot():
    """Also one that waited for its parent: no look is due for hours."""
    sim = Simulation(1, unknown_capability="wait")
    sim.work("t", 60)
    sim.drivers.add(AgentPool(WORKER, max_agents=9, interval=9_999))
    sim.run(5)
    sim.submit_task(Task("t", id="a", requires=["x"]))
    sim.submit_task(Task("t", id="b", requires=["x"], after=["a"]))
    sim.submit_task(Task("t", id="c", requires=["x"], after=["a"]))
    sim.run(900)
    begun = {one.task_id: round(one.start) for one in sim.attempts}
    assert begun == {"a": 5, "b": 65, "c": 65}


def test_a_crowd_costs_few_looks():
    class Counting(Seen):
        asked = 0

        def waiting(self, _template):
            self.asked += 1
            return {("x",): 1}

    pool = AgentPool(WORKER, max_agents=3, interval=10)
    view = Counting(a=1, b=0, c=0)
    pool.tick(view, 0.0)
    view.asked = 0
    for number in range(1_000):
        commands, again = pool.tick(view, 1 + number / 1_000)
        assert commands == []
        assert again > 1 + number / 1_000
    assert view.asked <= 2 * 11


def test_each_incarnation_of_a_simulation_has_a_pool_of_the_same_numbers():
    numbers = {
        "min_agents": 2,
        "max_agents": 3,
        "scale_up_threshold": 0.7,
        "scale_down_threshold": 0.1,
        "settle": 9.0,
        "interval": 4.0,
        "wait": 3.0,
        "promise": 2.0,
    }
    again = deepcopy(AgentPool(WORKER, **numbers))
    assert {name: getattr(again, name) for name in numbers} == numbers


# -- a promise -------------------------------------------------------------------------


class Slow:
    """A pool whose workers join some time after they were spawned."""

    def __init__(self, sim, pool, seconds):
        self.sim, self.pool, self.seconds = sim, pool, seconds
        self.name, self.watches = pool.name, pool.watches
        self.coming = {}
        self.hours, self.since = 0.0, (0.0, 0)

    def __deepcopy__(self, memo):
        return self

    def __getattr__(self, name):
        return getattr(self.view, name)

    def starting(self, _template):
        return [*self.coming]

    def tick(self, view, now):
        self.view = view
        there = [a for a in view.agents() if not a.is_lost and a.name != "local"]
        at, many = self.since
        self.hours += (now - at) * many / 3_600
        self.since = now, len(there) + len(self.coming)
        commands, again = self.pool.tick(self, now)
        spawns = [each for each in commands if isinstance(each, Spawn)]
        for spawn in spawns:
            self.coming[spawn.agent_id] = spawn
            self.sim.at(self.sim.now + self.seconds, partial(self.join, spawn))
        return [each for each in commands if each not in spawns], again

    def join(self, spawn):
        del self.coming[spawn.agent_id]
        spawn.apply(self.sim)


def slowly(start, seed=3, **numbers):
    """
    The waits of tasks that come by chance, once half an hour is over, in order.

    Workers take *start* seconds to join. Besides, their hours, and why the pool decided
    so.
    """
    sim = Simulation(1, check=False, concurrency=999, unknown_capability="wait")
    sim.work("t", 60)
    pool = AgentPool(WORKER, max_agents=50, **numbers)
    sim.drivers.add(slow := Slow(sim, pool, start))
    times = poisson(0.1, 5_400, seed)
    for number, at in enumerate(times):
        task = Task("t", id=f"t{number}", requires=["x"])
        sim.at(at, lambda task=task: sim.submit_task(task))
    sim.run(5_400 + 600)
    begun = {one.task_id: one.start for one in sim.attempts}
    waits = [begun[f"t{n}"] - at for n, at in enumerate(times) if at >= 1_800]
    return sorted(waits), slow.hours, [one.reason for one in pool.decisions]


def test_what_is_promised_is_kept_though_workers_start_slowly():
    without, fewer, _ = slowly(90.0)
    assert without[int(0.95 * len(without))] > 30
    waits, hours, reasons = slowly(90.0, promise=5.0)
    assert fewer < hours < 1.5 * fewer
    said = [each for each in reasons if "more than the work needs" in each]
    assert any("95% of tasks begin in 5 s" in each for each in said)
    assert sum(wait > 5 for wait in waits) <= 0.05 * len(waits)


def test_a_promise_costs_nothing_where_workers_start_in_its_time():
    _, without, _ = slowly(3.0)
    waits, hours, reasons = slowly(3.0, promise=5.0)
    assert hours == pytest.approx(without, rel=0.02)
    assert waits[int(0.95 * len(waits))] <= 5
    assert not any("begin in" in each for each in reasons[-20:])
