"""A policy that learns which of its arms does best, and keeps what it has learnt."""

from __future__ import annotations

import copy
import random
import subprocess
import sys
import textwrap

import pytest
from hypothesis import given, strategies as st

from taskorch import RetryPolicy, Task, TaskOrchestrator
from taskorch.errors import InvalidTaskError
from taskorch.events import TaskStarted
from taskorch.ext.learning import UCB1, Learned, LinUCB, Thompson
from taskorch.ext.learning._estimates import estimate
from taskorch.ext.views import JournalReader
from taskorch.policies import (
    FifoQueue,
    LeastLoadedRouter,
    PerformanceRouter,
    PriorityQueue,
    ProportionalAllocator,
)
from taskorch.protocols import Route
from taskorch.testing import Outcome, Simulation


class Always:
    def __init__(self, name):
        self.name = name

    def route(self, task, candidates, context):
        names = [worker.name for worker in candidates]
        return Route(self.name if self.name in names else names[0], "always")


def run(learned, tasks, journal=None, **options):
    orch = TaskOrchestrator(router=learned, journal=journal, seed=7, **options)

    @orch.agent("good", capabilities={"work"})
    def good(task, context):
        return 1

    @orch.agent("bad", capabilities={"work"})
    def bad(task, context):
        raise ValueError("no")

    with orch:
        handles = []
        for number in range(tasks):
            one = orch.submit_task(Task("work", number, requires=["work"]))
            handles.append(one)
            one.exception()
            orch.wait()
    return [handle.exception() is None for handle in handles]


def test_it_comes_to_ask_the_arm_that_does_best():
    learned = Learned([Always("bad"), Always("good")], floor=1, explore=0)
    came = run(learned, 60)
    assert sum(came[30:]) > 20
    means = {one.arm: one.mean for one in learned.learned()}
    assert means["good"] > means["bad"] == -1


def test_what_was_learnt_is_kept_and_forgotten(tmp_path):
    path = tmp_path / "runs.db"
    learned = Learned([Always("bad"), Always("good")], floor=1, explore=0)
    run(learned, 101, journal=path)
    again = Learned([Always("good"), Always("new")], floor=1)
    with TaskOrchestrator(journal=path, router=again):
        kept = {one.arm: one for one in again.learned()}
        assert kept.keys() == {"good"}
        assert kept["good"].pulls > 50
        again.reset()
        assert again.learned() == ()
    third = Learned([Always("good"), Always("new")])
    with TaskOrchestrator(journal=path, router=third):
        assert third.learned() == ()


NAMES = st.lists(
    st.sampled_from(["r", "r~2", "r~3", "r~2'", "s"]), min_size=2, max_size=7
)


@given(NAMES)
def test_arms_of_one_name_are_numbered(names):
    arms = Learned([Always(name) for name in names]).names
    assert len({*arms}) == len(arms)
    for place, (name, arm) in enumerate(zip(names, arms, strict=True)):
        assert arm == name or arm.startswith(f"{name}~")
        assert arm == name or name in arms[:place]
    alike = Learned([Always("r") for _ in names]).names
    assert alike == ("r", *(f"r~{number}" for number in range(2, len(names) + 1)))
    # The name of another arm is not given away.
    names = ["r", "r", "r", "r~3"]
    assert Learned(map(Always, names)).names == ("r", "r~2", "r~4", "r~3")


class Broken(Always):
    def route(self, task, candidates, context):
        msg = "no idea"
        raise RuntimeError(msg)


def test_an_arm_that_fails_learns_the_worst_and_another_is_asked():
    learned = Learned([Always("good"), Broken("x")], floor=1, explore=0.5)
    assert all(run(learned, 20))
    means = {one.arm: one.mean for one in learned.learned()}
    assert means["x"] == -1
    every = Learned([Broken("x"), Broken("y")], floor=1)
    assert not any(run(every, 3))


@pytest.mark.parametrize("snapshot", [0, 3])
def test_what_no_snapshot_says_is_learnt_from_the_events(tmp_path, snapshot):
    path = tmp_path / "runs.db"
    learned = Learned(
        [Always("bad"), Always("good")], floor=1, context=["type"], memory=None
    )
    run(learned, 3, journal=path)
    if snapshot:
        with TaskOrchestrator(journal=path, router=copy.deepcopy(learned)) as orch:
            orch._learners[0].save()
    run(copy.deepcopy(learned), 4, journal=path)
    again = Learned(
        [Always("good"), Always("bad")], floor=1, context=["type"], memory=None
    )
    with TaskOrchestrator(journal=path, router=again):
        assert sum(one.pulls for one in again.learned()) == 7
    other = Learned([Always("good"), Always("bad")], floor=1, keep=False)
    with TaskOrchestrator(journal=path, router=other):
        assert other.learned() == ()


def test_a_journal_says_what_other_arms_would_have_come_to(tmp_path):
    path = tmp_path / "runs.db"
    learned = Learned([Always("bad"), Always("good")], floor=1, explore=0.5)
    run(learned, 60, journal=path)
    events = list(JournalReader(path).happened())
    assert all(
        e.choice[0] in {"router:good", "router:bad"} and 0 < e.choice[1] <= 1
        for e in events
        if isinstance(e, TaskStarted)
    )
    values = learned.evaluate(events)
    assert values["bad"].mean == -1
    assert values["good"].low > -1
    assert values["good"].low <= values["good"].mean <= values["good"].high


def test_what_cannot_be_repeated_is_no_subject_of_experiments():
    learned = Learned([Always("good"), Always("bad")], floor=1, explore=1)
    orch = TaskOrchestrator(router=learned)
    for name in ("good", "bad"):
        orch.agent(name, capabilities={"work"})(lambda task, context: task.payload)
    with orch:
        for number in range(20):
            task = Task("work", number, requires=["work"], idempotent=False)
            handle = orch.submit_task(task)
            handle.result()
            assert orch.get_task_status(handle.task_id).agent_id == "good"


@pytest.mark.parametrize("algorithm", ["ucb1", "thompson", "linucb"])
@pytest.mark.parametrize(
    ("part", "arms"),
    [
        ("router", (LeastLoadedRouter(), PerformanceRouter())),
        ("queue", (PriorityQueue(), FifoQueue())),
        ("allocator", (ProportionalAllocator(), ProportionalAllocator())),
    ],
)
def test_it_is_a_router_a_queue_or_an_allocator(part, arms, algorithm):
    learned = Learned(arms, algorithm=algorithm, context=("type", "size"))
    with TaskOrchestrator(resources={"cpu": 4}, **{part: learned}) as orch:
        for number in range(20):
            call = Task.call(len, "ab", resources={"cpu": 1}, metadata={"size": number})
            assert orch.submit_task(call).result() == 2
        orch.wait()
        if part != "router":  # there is one worker only
            assert learned.learned()
    with pytest.raises(InvalidTaskError, match="another orchestrator"):
        TaskOrchestrator(**{part: learned})


def test_only_given_rewards_count_if_that_is_said():
    learned = Learned([PriorityQueue(), FifoQueue()], reward="given", sources=["judge"])
    with TaskOrchestrator(queue=learned) as orch:
        handle = orch.submit(len, "ab")
        handle.result()
        orch.reward_task(handle.task_id, 1.0, source="the unit itself")
        orch.wait()
        assert learned.learned() == ()
        orch.reward_task(handle.task_id, 0.5, source="judge")
        orch.reward_task(handle.task_id, -0.5, source="judge")
        orch.wait()
        (one,) = learned.learned()
        assert (one.pulls, one.mean) == (1, 0.5)


@pytest.mark.parametrize(
    "bad",
    [
        {"arms": [FifoQueue()]},
        {"arms": [FifoQueue(), LeastLoadedRouter()]},
        {"arms": [FifoQueue(), FifoQueue(backfill=True)]},
        {"arms": [ProportionalAllocator(), ProportionalAllocator({"cpu": 2})]},
        {"algorithm": "guess"},
        {"reward": "none"},
        {"floor": 2},
        {"explore": -1},
        {"baseline": 2},
        {"memory": 1},
    ],
)
def test_what_is_out_of_range_is_refused(bad):
    with pytest.raises(InvalidTaskError):
        Learned(**{"arms": [FifoQueue(), PriorityQueue()], **bad})


# -- the bandits -------------------------------------------------------------------


def regret(bandit, means, pulls, seed):
    chance = random.Random(seed)
    lost = 0.0
    for _ in range(pulls):
        chances = bandit.chances((), chance)
        arm = chance.choices(range(len(means)), chances)[0]
        lost += max(means) - means[arm]
        bandit.learn(arm, (), float(chance.random() < means[arm]))
    return lost


@pytest.mark.parametrize("make", [UCB1, Thompson])
def test_a_bandit_loses_less_than_chance(make):
    means = [0.2, 0.4, 0.9]
    lost = sum(regret(make(3), means, 300, seed) for seed in range(10)) / 10
    assert lost < 300 * (0.9 - 0.5) / 2


def test_a_linear_bandit_tells_contexts_apart():
    bandit, chance = LinUCB(2, 2, memory=200), random.Random(3)
    right = 0
    for number in range(400):
        x = (1.0, 0.0) if chance.random() < 0.5 else (0.0, 1.0)
        arm = bandit.chances(x, chance).index(1.0)
        is_right = arm == (0 if x[0] else 1)
        right += is_right and number >= 200
        bandit.learn(arm, x, float(is_right))
    assert right > 180
    again = LinUCB(2, 2)
    for arm, numbers in enumerate(bandit.state()):
        again.restore(arm, numbers)
    assert again.chances((1.0, 0.0), chance) == [1.0, 0.0]
    with pytest.raises(ValueError, match="another number"):
        again.restore(0, [1.0])


def test_the_floor_holds_while_an_arm_is_no_better():
    """At most the stated part is lost to finding out, and a little at the start."""
    learned = Learned([Always("a"), Always("b")], floor=0.05, explore=0.0)
    chance, gained = random.Random(5), 0.0
    for number in range(2_000):
        task = Task("x", id=f"t{number}")
        chosen = learned.learner.choose_for(task, chance)
        learned.choice_of(f"t{number}", 1)
        value = 0.5 if chosen.arm == "a" else -1.0
        gained += (value + 1) / 2
        learned.give(f"t{number}", value)
    assert gained >= 0.95 * 2_000 * 0.75


def test_what_was_learnt_is_known_after_a_kill_with_an_attempt_under_way(tmp_path):
    """Its retry is heard before the events are: those are not taken for known."""
    path = tmp_path / "jobs.db"
    program = textwrap.dedent(f"""
        import os, threading
        from taskorch import Task, TaskOrchestrator
        from taskorch.ext.learning import Learned
        from taskorch.policies import LeastLoadedRouter, PerformanceRouter

        router = Learned([LeastLoadedRouter(), PerformanceRouter()], name="r")
        orch = TaskOrchestrator(journal={str(path)!r}, router=router)
        begun = threading.Event()

        def work(task, context):
            if task.payload == "hang":
                begun.set()
                threading.Event().wait()

        for name in ("a", "b"):
            orch.agent(name, capabilities=["w"], max_concurrency=2)(work)
        with orch:
            for number in range(20):
                orch.submit_task(Task("w", number, requires=["w"])).result()
            orch.wait()
            orch.submit_task(Task("w", "hang", requires=["w"], id="hang"))
            begun.wait()
            print(sum(one.pulls for one in router.learned()), flush=True)
            os._exit(1)
    """)
    died = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert died.returncode == 1, died.stderr
    router = Learned([LeastLoadedRouter(), PerformanceRouter()], name="r")
    with TaskOrchestrator(journal=path, router=router) as orch:
        assert sum(one.pulls for one in router.learned()) == pytest.approx(
            float(died.stdout), abs=0.01
        )
        orch.cancel_task("hang")


# -- worlds ------------------------------------------------------------------------


def share(means_at, pulls, *, delay=0, seed=1, **options):
    """What was gained of what the best arm alone would have come to."""
    arms = len(means_at(0))
    options = {"floor": 1.0, **options}
    if options["floor"] is None:
        # As it is by default.
        del options["floor"]
    learned = Learned([float(arm) for arm in range(arms)], reward="given", **options)
    chance, gained, best = random.Random(seed), 0.0, [0.0] * arms
    under_way = []
    for number in range(pulls):
        means = means_at(number)
        arm = int(learned.pick(f"j{number}", "job", chance))
        gained += means[arm]
        best = [total + mean for total, mean in zip(best, means, strict=True)]
        value = 1.0 if chance.random() < means[arm] else -1.0
        under_way.append((f"j{number}", value))
        if len(under_way) > delay:
            learned.give(*under_way.pop(0))
    return gained / max(best)


def test_rewards_that_come_a_hundred_pulls_late_are_learnt_from():
    means = [0.9, 0.5, 0.45, 0.4, 0.4, 0.3, 0.3, 0.2, 0.1, 0.1]
    shares = [share(lambda _: means, 2_000, delay=100, seed=n) for n in range(2)]
    assert sum(shares) / 2 >= 0.9


def test_a_world_that_changes_is_learnt_anew():
    """Half way the worst arm becomes the best: no fixed arm does as well."""
    before, after = [0.9, 0.5, 0.1], [0.1, 0.5, 0.9]
    shares = [
        share(lambda n: before if n < 600 else after, 1_200, seed=n) for n in range(4)
    ]
    assert sum(shares) / 4 >= 1.5


def mean_reward(means_at, pulls, *, seed, scatter, delay=0, kinds="x", **options):
    """What came of each pull as it is by default: rewards that scatter by so much."""
    arms = len(means_at(0, kinds[0]))
    learned = Learned(range(arms), reward="given", context=["type"], **options)
    chance, gained, under_way = random.Random(seed), 0.0, []
    for number in range(pulls):
        kind = chance.choice(kinds)
        arm = learned.pick(f"j{number}", kind, chance)
        value = means_at(number, kind)[arm] + chance.gauss(0, scatter)
        gained += value
        under_way.append((f"j{number}", max(-1.0, min(1.0, value))))
        if len(under_way) > delay:
            learned.give(*under_way.pop(0))
    return gained / pulls


@pytest.mark.parametrize("memory", [200, 1_000])
def test_two_types_that_swap_half_way_are_learnt_anew_by_default(memory):
    """At each moment the best comes to 0.14, the best that stays to 0.02."""
    rewards = (0.32, 0.12, -0.52), (-0.28, -0.12, -0.04)

    def means_at(number, kind):
        return rewards[(kind == "a") is (number < 210)]

    options = {"scatter": 0.1, "kinds": "ab", "baseline": 1, "memory": memory}
    means = [mean_reward(means_at, 420, seed=seed, **options) for seed in range(5)]
    assert sum(means) / 5 >= 0.065


def test_rewards_that_differ_by_little_are_told_apart_if_they_scatter_by_little():
    means = [0.30, 0.34, 0.32, 0.28]
    came = [
        mean_reward(lambda *_: means, 800, seed=seed, scatter=0.03) for seed in range(3)
    ]
    assert sum(came) / 3 >= 0.33


def test_late_rewards_of_ten_arms_are_learnt_from_by_default():
    shares = []
    for seed in range(3):
        chance = random.Random(seed)
        means = [chance.random() for _ in range(10)]
        shares.append(
            share(lambda _, m=means: m, 2_000, delay=100, seed=seed, floor=None)
        )
    assert sum(shares) / 3 >= 0.93


def test_noise_that_changes_nothing_is_no_change():
    """The latest of one arm are worse, and it is the best still."""
    bandit = Thompson(2)
    for number in range(60):
        bandit.learn(0, (), 0.9 + 0.01 * (number % 2))
        bandit.learn(1, (), 0.1)
    for _ in range(10):
        bandit.learn(0, (), 0.7)
    assert [pulls for pulls, _ in bandit.means()] == [70, 60]
    for _ in range(10):
        bandit.learn(0, (), 0.0)
    pulls, _ = bandit.means()[1]
    assert pulls == 2
    assert bandit.means()[0][1] < 0.1 + bandit.means()[1][1]


def test_what_is_told_apart_by_sixteen_types_is_learnt_for_each():
    learned = Learned(
        [Always(f"r{number}") for number in range(2)],
        algorithm="linucb",
        context=["type", "size"],
        reward="given",
        floor=1.0,
    )
    chance, right = random.Random(2), 0
    for number in range(1_600):
        kind = number % 16
        task = Task(f"type-{kind}", id=f"t{number}", metadata={"size": number % 3})
        chosen = learned.learner.choose_for(task, chance)
        learned.choice_of(f"t{number}", 1)
        is_right = chosen.arm == f"r{kind % 2}"
        right += is_right and number >= 800
        learned.give(f"t{number}", 1.0 if is_right else -1.0)
    assert right >= 0.95 * 800


@pytest.mark.parametrize("make", [UCB1, Thompson, lambda arms: LinUCB(arms, 1)])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -0.1, 1.1])
def test_a_bandit_refuses_what_is_no_reward(make, bad):
    bandit = make(2)
    with pytest.raises(InvalidTaskError, match="from 0 to 1"):
        bandit.learn(0, (0.5,), bad)
    with pytest.raises(InvalidTaskError, match="features are numbers"):
        bandit.learn(0, (float("nan"),), 0.5)
    assert bandit.means() == [(0.0, 0.0)] * 2


def test_an_earlier_snapshot_of_thompson_is_read():
    bandit = Thompson(2)
    bandit.restore(0, [10.0, 9.0])
    assert bandit.means()[0] == (10.0, 0.9)
    again = Thompson(2)
    for arm, numbers in enumerate(bandit.state()):
        again.restore(arm, numbers)
    assert again.state() == bandit.state()


def _covered(concentration, mean, times):
    """How many of 100 intervals cover the mean of 300 rewards between 0 and 1."""
    shape = concentration * mean, concentration * (1 - mean)
    chance = random.Random(7)
    covered = 0
    for _ in range(times):
        value = estimate(
            [(1.0, 2 * chance.betavariate(*shape) - 1) for _ in range(300)]
        )
        covered += value.low <= 2 * mean - 1 <= value.high
    return 100 * covered / times


@pytest.mark.slow("narrow bounds take many draws")
@pytest.mark.parametrize("concentration", [2, 5, 10])
def test_intervals_cover_means_of_all_sizes(concentration):
    """From 93 to 97 of 100 cases, and what chance makes of 1,500: 0.6."""
    means = (0.005, 0.01, 0.02, 0.05, 0.1, 0.3, 0.5)
    covered = [_covered(concentration, mean, 1_500) for mean in means]
    assert min(covered) >= 93 - 0.6, covered
    assert max(covered) <= 97 + 0.6, covered


def test_an_interval_is_not_wider_than_it_must_be():
    """Rewards that vary little say more than as many of all or nothing."""
    chance = random.Random(3)
    alike = estimate([(1.0, chance.uniform(-0.1, 0.1)) for _ in range(300)])
    rough = estimate([(1.0, chance.choice([-1.0, 1.0])) for _ in range(300)])
    assert alike.high - alike.low < (rough.high - rough.low) / 10
    same = estimate([(1.0, 0.0)] * 300)
    assert 0.005 < same.high - same.low < alike.high - alike.low


def test_it_learns_in_a_simulation_too():
    arms = [Always("bad"), Always("good")]
    router = Learned(arms, floor=1, memory=None)
    simulation = Simulation(seed=1, router=router)
    for name, error in (("bad", OSError("no")), ("good", None)):
        work = Outcome(1.0, error=error)
        simulation.agent(name, capabilities=["w"], work=work)
    for number in range(40):
        simulation.at(
            number * 5,
            lambda number=number: simulation.submit_task(
                Task("x", number, requires=["w"], retry=RetryPolicy(max_attempts=1))
            ),
        )
    simulation.run(until=300)
    pulls = {one.arm: one.pulls for one in router.learned()}
    assert pulls["good"] > 25


def test_what_is_known_well_is_drawn_as_often_as_it_is_best():
    """Two means that are 1.73 standard deviations apart: 95.8 of 100 draws say so."""
    bandit = Thompson(2, draws=20_000, trust=1.0)
    for arm, successes in enumerate((300, 330)):
        for number in range(600):
            success = (number + 1) * successes // 600 - number * successes // 600
            bandit.learn(arm, (), float(success))
    assert bandit.chances((), random.Random(1))[1] == pytest.approx(0.958, abs=0.015)
