"""What learns: it keeps its floor, knows again what it has learnt, and estimates well."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given, strategies as st

from taskorch import Task, TaskOrchestrator
from taskorch.errors import InvalidTaskError
from taskorch.events import (
    TaskCancelled,
    TaskCompleted,
    TaskFailed,
    TaskRetrying,
    TaskRewarded,
    TaskStarted,
    TaskSubmitted,
)
from taskorch.ext.learning import (
    Chosen,
    Learned,
    LearnedAllocator,
    LearnedQueue,
    LearnedRouter,
    LearnedValue,
    Learner,
)
from taskorch.policies import (
    FifoQueue,
    LeastLoadedRouter,
    PerformanceRouter,
    PoolAllocator,
    PriorityQueue,
    ProportionalAllocator,
)
from taskorch.protocols import ResourceAllocator, TaskQueue, TaskRouter

ARMS = ("a", "b", "c")
SEEDS = st.integers(0, 2**32)


class Journal:
    """The events of an incarnation, as a journal gives them to who recalls."""

    def __init__(self):
        self.entries = []

    def read(self, after=0):
        return [entry for entry in self.entries if entry[0].seq > after]

    def select(self, ids, until):
        return [entry for entry in self.entries if entry[0].task_id in ids]


class Orchestrator:
    """What a learner asks of one: it has the events of *journal* taken, to the last."""

    def __init__(self, journal):
        self.journal, self.signals, self.following = journal, self, None

    def follow(self, projection):
        self.following = projection

    def start(self):
        learner = self.following
        last = len(self.journal.entries)
        for event, value in self.journal.read(
            max(learner.position, last - learner.past)
        ):
            if type(event) in learner.wants:
                learner.take(event, value)


def again_with(learner, journal, kept=lambda name: {}):
    """As an orchestrator does it: it is attached, restored, and follows."""
    orch = Orchestrator(journal)
    learner.attach(orch)
    learner.restore(kept)
    orch.start()
    return learner


class Incarnation:
    """Tasks that come, begin, end and are rewarded at random; all of it is events."""

    def __init__(self, learner, seed, journal=None):
        self.learner, self.random = learner, random.Random(seed)
        self.journal = Journal() if journal is None else journal
        self.open, self.running, self.begun = {}, {}, []

    def say(self, kind, *fields, value=None):
        event = kind(len(self.journal.entries) + 1, 0, *fields)
        self.journal.entries.append((event, value))
        self.learner.hear(event)

    def step(self):
        act = self.random.choice(
            ["come", "come", "begin", "begin", "end", "lose", "reward", "cancel"]
        )
        getattr(self, act)()

    def come(self):
        name = f"t{len(self.journal.entries)}"
        task = Task(self.random.choice("xy"), id=name)
        self.open[name] = task, 0
        self.say(TaskSubmitted, name, task.type, 0, value=task)
        if self.random.random() < 0.5:
            self.learner.choose_for(task, self.random)

    def begin(self):
        if not self.open:
            return
        name = self.random.choice(list(self.open))
        task, attempt = self.open.pop(name)
        self.running[name] = task, attempt + 1
        self.begun.append((name, attempt + 1))
        self.learner.choose_for(task, self.random)
        choice = self.learner.choice_of(name, attempt + 1)
        self.say(TaskStarted, name, attempt + 1, "agent", (), "", choice)

    def running_one(self):
        name = self.random.choice(list(self.running))
        return name, *self.running.pop(name)

    def end(self):
        if self.running:
            name, _, attempt = self.running_one()
            if self.random.random() < 0.7:
                latency = self.random.randrange(1, 10**9)
                self.say(TaskCompleted, name, attempt, "agent", latency)
            else:
                cause = self.random.choice(["error", "timeout", "poisoned", "lost"])
                self.say(TaskFailed, name, attempt, "agent", "E", "", cause)

    def lose(self):
        if self.running:
            name, task, attempt = self.running_one()
            self.open[name] = task, attempt
            charged = self.random.random() < 0.5
            cause = "error" if charged else "lost"
            fields = name, attempt, "agent", "E", "", cause, 0, charged
            self.say(TaskRetrying, *fields)

    def cancel(self):
        for tasks in (self.open, self.running):
            if tasks and self.random.random() < 0.2:
                name = self.random.choice(list(tasks))
                del tasks[name]
                self.say(TaskCancelled, name, "no")

    def reward(self):
        if self.begun:
            value, source = self.random.uniform(-1, 1), self.random.choice("uv")
            self.say(TaskRewarded, *self.random.choice(self.begun), value, source)


def made(**options):
    options = {"name": "r", "context": ["type"], "memory": 50, **options}
    return Learner(ARMS, **options)


# -- events and snapshots -----------------------------------------------------------


@pytest.mark.parametrize("reward", ["outcome", "given"])
@pytest.mark.parametrize("algorithm", ["thompson", "ucb1", "linucb"])
@given(SEEDS, st.integers(0, 80), st.integers(0, 80))
def test_a_snapshot_and_the_events_after_it_are_what_was_learnt(
    algorithm, reward, seed, before, after
):
    options = {"algorithm": algorithm, "reward": reward, "sources": ["u"]}
    incarnation = Incarnation(made(**options), seed)
    for _ in range(before):
        incarnation.step()
    kept = json.loads(json.dumps(incarnation.learner.snapshot()))
    for _ in range(after):
        incarnation.step()
    names = []

    def documents(name):
        names.append(name)
        return {"r": kept}

    again = again_with(made(**options), incarnation.journal, documents)

    assert kept_by(again) == kept_by(incarnation.learner)
    assert names == ["population_state.judgement_snapshots"]
    # And goes on alike: what is under way is rewarded in the later incarnation.
    later = Incarnation(again, seed + 1, incarnation.journal)
    later.begun = incarnation.begun
    twin = incarnation.learner
    for _ in range(20):
        later.reward()
        twin.hear(
            incarnation.journal.entries[-1][0]
        ) if incarnation.journal.entries else None
    if reward == "given":
        assert kept_by(again) == kept_by(twin)


@pytest.mark.parametrize(
    "change",
    [{"version": 0}, {"algorithm": "ucb1"}, {"context": []}, {"learnt": {"x": [1]}}],
)
def test_what_was_learnt_otherwise_is_left_out(change, caplog):
    """And the events that were learnt from before are not learnt from again."""
    incarnation = Incarnation(made(), 1)
    for _ in range(100):
        incarnation.step()
    assert incarnation.learner.learned()
    snapshot = {**incarnation.learner.snapshot(), **change}
    again = again_with(made(), incarnation.journal, lambda name: {"r": snapshot})
    assert again.learned() == ()
    assert "what r had learnt is left out" in caplog.text


@given(SEEDS)
def test_without_a_snapshot_all_events_are(seed):
    incarnation = Incarnation(made(memory=None), seed)
    for _ in range(100):
        incarnation.step()
    again = made(memory=None)
    again.replay(incarnation.journal.entries)
    assert kept_by(again)["learnt"] == kept_by(incarnation.learner)["learnt"]
    kept_by_none = again_with(made(memory=None, keep=False), incarnation.journal)
    assert kept_by_none.learned() == ()


def kept_by(learner):
    """A snapshot without contexts in which nothing was rewarded yet."""
    snapshot = learner.snapshot()
    rewarded = {one.context for one in learner.learned()}
    learnt = {key: snapshot["learnt"][key] for key in rewarded}
    return {**snapshot, "learnt": learnt}


def start(name, arm, attempt=1, chance=0.5):
    return lambda seq: TaskStarted(seq, 0, name, attempt, "", (), "", (arm, chance))


def lost(seq):
    return TaskRetrying(seq, 0, "t", 1, "", "E", "", "lost", 0, False)


def facts(*parts):
    task = Task("x", id="t")
    events = [TaskSubmitted(1, 0, "t", "x", 0)]
    events += [part(seq) for seq, part in enumerate(parts, 2)]
    return [(e, task if isinstance(e, TaskSubmitted) else None) for e in events]


@pytest.mark.parametrize("reward", ["outcome", "given"])
def test_an_attempt_that_is_lost_through_no_fault_of_its_task_says_nothing(reward):
    """Neither at once nor by a word that comes late, and in no estimate."""
    parts = [
        start("t", "r:b"),
        lost,
        lambda seq: TaskRewarded(seq, 0, "t", 1, -1.0, "u"),
    ]
    entries = facts(*parts)
    learner = made(reward=reward)
    learner.replay(entries)
    assert learner.learned() == ()
    assert learner.values(event for event, _ in entries) == {}
    # As little as if that word comes in a later incarnation, which looks into the
    # journal.
    journal = Journal()
    journal.entries = entries[:-1]
    later = again_with(made(reward=reward), journal)
    journal.entries = entries
    later.hear(entries[-1][0])
    assert later.learned() == ()


@pytest.mark.parametrize("cause", ["lost", "poisoned", "dependency"])
def test_what_fails_through_no_fault_of_a_choice_is_awaited_no_more(cause):
    """It would count as nothing for the floor as long as the process lives."""
    learner, chance = made(context=(), floor=0.5, explore=0.5), random.Random(1)
    for number in range(20):
        task = Task("x", id=f"usual{number}")
        learner.choose_for(task, chance)
        learner.begin(task.id, 1)
        learner.give(task.id, 1.0)
    for number in range(1_000):
        task = Task("x", id=f"t{number}")
        learner.choose_for(task, chance)
        learner.begin(task.id, 1)
        end = (1, "", "E", "", cause)
        learner.hear(TaskFailed(number + 1, 0, task.id, *end))
    assert min(learner.chances("", chance).values()) > 0.1


def test_only_words_that_are_learnt_from_count_in_an_estimate():
    entries = facts(
        start("t", "r:b"),
        lambda seq: TaskRewarded(seq, 0, "t", 1, -1.0, "somebody"),
        lambda seq: TaskRewarded(seq, 0, "t", 1, 0.5, "judge"),
    )
    learner = made(reward="given", sources=["judge"])
    learner.replay(entries)
    (one,) = learner.learned()
    assert (one.arm, one.mean) == ("b", 0.5)
    values = learner.values(event for event, _ in entries)
    assert {arm: value.mean for arm, value in values.items()} == {("", "b"): 0.5}


@given(
    st.lists(st.text(min_size=1), min_size=2, max_size=5, unique=True),
    st.integers(0, 4),
    st.booleans(),
)
def test_an_arm_is_read_from_events_whatever_it_is_called(names, number, is_first):
    arm = names[number % len(names)]
    one = Learner(names, name="mine")
    other = Learner(ARMS, name="theirs")
    texts = [one.choice([Chosen("", arm, 0.5)])[0], "theirs:b"]
    text = " + ".join(texts if is_first else texts[::-1])
    assert one.choices_in(text) == [("", arm)]
    assert other.choices_in("mine:b + theirs:b") == [("", "b")]
    assert other.choices_in("mine:b") == []


def test_one_of_several_parts_is_known_by_its_whole_name():
    learner = Learner(["a", "a + b"], name="r")
    assert learner.choices_in("r:a + b") == [("", "a + b")]
    assert learner.choices_in("r:a + q:b") == [("", "a")]
    assert learner.choices_in("rr:a") == []


# -- contexts with arms of their own -----------------------------------------------


def test_each_context_may_have_arms_of_its_own_which_the_events_name():
    learner, chance = Learner(None, name="plan", reward="given"), random.Random(1)
    first = learner.choose("way to go", chance, arms=["walk", "ride"])
    second = learner.choose("rule of 1:2", chance, arms=["long", "short"])
    text, probability = learner.choice([first, second])
    assert text == f"plan way to go:{first.arm} + plan rule of 1:2:{second.arm}"
    assert probability == first.propensity * second.propensity
    events = [
        TaskStarted(1, 0, "t", 1, "", (), "", (text, probability)),
        TaskRewarded(2, 0, "t", 1, 0.5, "u"),
        TaskRewarded(3, 0, "t", 1, -0.5, "v"),
    ]
    again = Learner(None, name="plan", reward="given")
    for event in events:
        again.hear(event)
    assert {(one.context, one.arm, one.mean) for one in again.learned()} == {
        ("way to go", first.arm, 0.5),
        ("rule of 1:2", second.arm, 0.5),
    }
    assert again.values(events).keys() == {
        ("way to go", first.arm),
        ("rule of 1:2", second.arm),
    }
    # What is asked for later has other arms: those that are still there are known.
    chances = again.chances("way to go", chance, arms=["fly", first.arm])
    assert chances.keys() == {"fly", first.arm}
    (kept,) = [one for one in again.learned() if one.context == "way to go"]
    assert kept.pulls == 1


def test_a_context_of_which_nothing_is_known_may_begin_with_the_baseline():
    options = {"floor": 1.0, "explore": 0.0}
    chance = random.Random(1)
    any_of_them = Learner(ARMS, name="r", **options).chances("", chance)
    assert max(any_of_them.values()) < 1
    first = Learner(ARMS, name="r", begins="baseline", baseline=1, **options)
    assert first.chances("", chance) == {"a": 0.0, "b": 1.0, "c": 0.0}


# -- the floor ---------------------------------------------------------------------


@given(
    SEEDS,
    st.lists(st.floats(0, 1), min_size=3, max_size=3),
    st.integers(0, 2),
    st.sampled_from([0.05, 0.3]),
    st.integers(0, 60),
)
def test_the_floor_holds_however_late_rewards_are(seed, worth, baseline, floor, delay):
    """At every moment: all that was chosen by then comes to as much as it may cost."""
    chance = random.Random(seed)
    learner = Learner(
        ARMS, name="r", baseline=baseline, floor=floor, explore=0.3, memory=None
    )
    gained, waiting, begun = 0.0, [], []
    for number in range(1, 200):
        task = Task("x", id=f"t{number}")
        chosen = learner.choose_for(task, chance)
        value = worth[ARMS.index(chosen.arm)]
        gained += value
        assert gained >= (1 - floor) * worth[baseline] * number - 1e-9
        waiting.append((task.id, value))
        # Some are queued a while, and then under way; in any order.
        if len(waiting) > delay / 2:
            name, value = waiting.pop(chance.randrange(len(waiting)))
            learner.begin(name, 1)
            begun.append((name, value))
        if len(begun) > delay / 2:
            name, value = begun.pop(chance.randrange(len(begun)))
            learner.give(name, 2 * value - 1)


def test_one_good_reward_is_no_proof_for_a_hundred_that_are_under_way():
    learner, chance = Learner(ARMS, name="r", explore=0.9), random.Random(1)
    for _ in range(20):
        learner.learn(Chosen("", "a", 1.0), 0.8)
    learner.learn(Chosen("", "b", 1.0), 1.0)
    arms = []
    for number in range(100):
        chosen = learner.choose_for(Task("x", id=f"t{number}"), chance)
        learner.begin(f"t{number}", 1)
        arms.append(chosen.arm)
    # All of a part of 0.05 of 121 rewards, if the others bring nothing at all.
    assert 1 <= len(arms) - arms.count("a") <= 121 * 0.05 + 1


def test_one_good_reward_makes_up_for_no_loss():
    """The budget is spent: what was good once may not be so again."""
    learner, chance = Learner(ARMS, name="r", explore=0.9), random.Random(1)
    for arm, value in [*[("a", 0.8)] * 20, ("b", 1.0), ("c", 0.0)]:
        learner.learn(Chosen("", arm, 1.0), value)
    assert learner.chances("", chance) == pytest.approx({"a": 1.0, "b": 0.0, "c": 0.0})


@pytest.mark.parametrize("floor", [0.05, 0.3, 0.5])
def test_what_is_unproven_is_tried_at_the_price_of_the_floor_from_the_first(floor):
    """Before anything was rewarded: as many as the floor can pay, and no more."""
    learner, chance = (
        Learner(ARMS, name="r", floor=floor, memory=None),
        random.Random(1),
    )
    arms = []
    for number in range(100):
        chosen = learner.choose_for(Task("x", id=f"t{number}"), chance)
        learner.begin(f"t{number}", 1)
        arms.append(chosen.arm)
        assert len(arms) - arms.count("a") <= floor * len(arms) + 1e-9
    assert len(arms) - arms.count("a") >= floor * 100 - 3
    assert set(arms) == set(ARMS)


def test_an_arm_that_is_better_is_found_under_the_floor():
    learner, chance = Learner(ARMS, name="r", floor=0.05), random.Random(1)
    arms = []
    for number in range(1_000):
        task = Task("x", id=f"t{number}")
        chosen = learner.choose_for(task, chance)
        learner.begin(task.id, 1)
        learner.give(task.id, {"a": 0.0, "b": 0.8, "c": -1.0}[chosen.arm])
        arms.append(chosen.arm)
    assert arms[-200:].count("b") > 150


# -- what would have come ----------------------------------------------------------


def test_values_of_a_world_are_within_their_bounds():
    """Each arm is chosen by chances that change; what it would come to is known."""
    worth = {"a": 0.2, "b": 0.5, "c": 0.8}
    covered = 0
    for seed in range(20):
        chance = random.Random(seed)
        learner = Learner(ARMS, name="r", floor=1.0, explore=0.5, reward="given")
        events = []
        for number in range(300):
            task = Task("x", id=f"t{number}")
            chosen = learner.choose_for(task, chance)
            choice = learner.choice_of(task.id, 1)
            value = 1.0 if chance.random() < worth[chosen.arm] else -1.0
            seq = len(events)
            events.append(TaskStarted(seq, 0, task.id, 1, "", (), "", choice))
            events.append(TaskRewarded(seq + 1, 0, task.id, 1, value, "u"))
            learner.hear(events[-1])
        for (_, arm), value in learner.values(events).items():
            covered += value.low <= 2 * worth[arm] - 1 <= value.high
    assert covered >= 0.9 * 60


def test_what_is_chosen_where_it_is_good_is_not_thought_good_everywhere():
    """It is likely in one context, where it does well, and not in the other."""
    learner, chance = made(reward="given"), random.Random(1)
    events = []
    for number in range(1_000):
        is_good = number % 2
        likely = 0.9 if is_good else 0.1
        arm = "b" if chance.random() < likely else "a"
        choice = f"r:{arm}", likely if arm == "b" else 1 - likely
        events.append(TaskStarted(number, 0, f"t{number}", 1, "", (), "", choice))
        value = 1.0 if is_good else -1.0
        events.append(TaskRewarded(number, 0, f"t{number}", 1, value, "u"))
    for value in learner.values(events).values():
        assert abs(value.mean) < 0.2
        assert value.low < 0 < value.high


# -- the four ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arms", "cls", "protocol"),
    [
        ((LeastLoadedRouter(), PerformanceRouter()), LearnedRouter, TaskRouter),
        ((FifoQueue(), PriorityQueue()), LearnedQueue, TaskQueue),
        ((PoolAllocator(), PoolAllocator()), LearnedAllocator, ResourceAllocator),
        ((1, 2), LearnedValue, None),
    ],
)
def test_what_learns_is_what_its_arms_are_and_nothing_else(arms, cls, protocol):
    learned = Learned(arms)
    assert type(learned) is type(cls(arms)) is cls
    assert isinstance(learned, Learned)
    parts = {
        TaskRouter: "router",
        TaskQueue: "queue",
        ResourceAllocator: "allocator",
    }
    for other, name in parts.items():
        assert isinstance(learned, other) == (other is protocol)
        if other is not protocol:
            with pytest.raises(InvalidTaskError, match="has no method"):
                TaskOrchestrator(**{name: Learned(arms)})
    wrong = (1, 2) if protocol else (PoolAllocator(), ProportionalAllocator())
    with pytest.raises(InvalidTaskError, match="arms"):
        cls(wrong)


def test_a_value_is_one_for_all_attempts_and_the_first_word_counts():
    value, chance = Learned([1, "two"], name="size", reward="given"), random.Random(1)
    picked = value.pick("t", "x", chance)
    for attempt in (1, 2):
        text, _ = value.choice_of("t", attempt)
        assert text == f"size:{picked}"
    value.give("t", 0.5)
    value.give("t", -1)
    (one,) = value.learned()
    assert (one.arm, one.mean, value.rewards) == (str(picked), 0.5, 1)
    with pytest.raises(InvalidTaskError, match="from -1 to 1"):
        value.give("t", 1.5)
