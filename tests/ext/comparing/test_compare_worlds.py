"""Of two runs of a random world with one planted difference, that one is named first."""

import random
from heapq import heappop, heappush

import attrs
import pytest

from taskorch import Task, TaskState
from taskorch.ext.comparing import Around, RunFacts, TaskFacts, compared
from taskorch.model import HistoryEntry, Resources, TaskStatus

HOST = {"host": "host1"}
PLANTED = ("slower", "worker", "retry", "argument", "code", "setting", "failure")


def work(rows):
    return rows


class World:
    """A graph of tasks with durations, and the workers that run them in turn."""

    def __init__(self, random_of: random.Random) -> None:
        self.random = random_of
        count = random_of.randint(6, 40)
        names = [f"t{n}" for n in range(count)]
        self.needs = {
            name: tuple(random_of.sample(names[:n], min(n, random_of.randint(0, 3))))
            for n, name in enumerate(names)
        }
        self.seconds = {name: random_of.lognormvariate(2, 1) for name in names}
        self.workers = random_of.randint(2, 5)
        self.tasks = {name: Task.call(work, 10, id=name) for name in names}
        self.codes = dict.fromkeys(names, "a")
        self.attempts = dict.fromkeys(names, 1)
        self.failed = ""

    def run(self, run_id: str) -> RunFacts:
        """What is known of a run: each duration is up to two parts in a hundred off."""
        took = {
            name: seconds * self.random.uniform(0.98, 1.02)
            for name, seconds in self.seconds.items()
        }
        ended: dict[str, float] = {}
        facts: dict[str, TaskFacts] = {}
        free = [(0.0, f"w{n}") for n in range(self.workers)]
        waiting = dict(self.needs)
        while waiting:
            at, worker = heappop(free)
            ready = {
                name: max((ended[each] for each in needs), default=0.0)
                for name, needs in waiting.items()
                if all(each in ended for each in needs)
            }
            name = min(ready, key=lambda each: (max(at, ready[each]), each))
            begun = max(at, ready[name])
            end = begun + took[name] * self.attempts[name]
            ended[name] = end
            heappush(free, (end, worker))
            del waiting[name]
            facts[name] = self._facts(run_id, name, begun, end, worker)
        state = "failed" if self.failed else "completed"
        return RunFacts(run_id, facts, 0.0, max(ended.values()), {}, state)

    def _facts(
        self, run_id: str, name: str, begun: float, end: float, worker: str
    ) -> TaskFacts:
        state = TaskState.FAILED if name == self.failed else TaskState.COMPLETED
        status = TaskStatus(
            task_id=f"{run_id}/{name}",
            type="call",
            state=state,
            label="",
            result=None,
            error=ValueError("no rows") if name == self.failed else None,
            attempts=self.attempts[name],
            history=(HistoryEntry(TaskState.RUNNING, "", begun),),
            agent_id=worker,
            allocation=Resources(),
            blocked_by=(),
        )
        codes = {"flow.work": self.codes[name]}
        task = self.tasks[name]
        needs = self.needs[name]
        is_cause = name == self.failed
        times = begun, end, end - begun
        return TaskFacts(name, status, needs, *times, task, codes, is_cause)

    def plant(self, kind: str, chain: list[str]) -> str:
        """Change one thing, mostly where it is felt; return the task, or ""."""
        name = self.random.choice(chain)
        longer = self.random.uniform(2, 6)
        if kind == "worker":
            self.workers = max(1, self.workers // 2)
            return ""
        if kind == "retry":
            self.attempts[name] += 1
        elif kind == "failure":
            self.failed = name
        elif kind == "setting":
            self.tasks[name] = attrs.evolve(self.tasks[name], timeout=20.0)
        else:
            self.seconds[name] = self.seconds[name] * longer + 5
            if kind == "argument":
                self.tasks[name] = Task.call(work, 1_000, id=name)
            elif kind == "code":
                self.codes[name] = "b"
        return name


def chain_of(run: RunFacts) -> list[str]:
    """The tasks of a run that its end came of, by the definition alone."""
    last = max(run.tasks.values(), key=lambda each: each.ended)
    names = [last.name]
    while last.needs:
        last = max((run.tasks[n] for n in last.needs), key=lambda each: each.ended)
        names.append(last.name)
    return names


@pytest.mark.parametrize("kind", PLANTED)
def test_what_tasks_account_for_sums_up_to_the_difference_of_the_chain(kind):
    for seed in range(5):
        world = World(random.Random(seed))
        earlier = world.run("good")
        world.plant(kind, chain_of(earlier))
        later = world.run("bad")
        last = max(later.tasks.values(), key=lambda each: each.ended)
        differences = compared(earlier, later).differences
        told = sum(each.seconds for each in differences if each.task)
        whole = (last.ended or 0.0) - (earlier.tasks[last.name].ended or 0.0)
        chance = 0.06 * (later.ended or 0.0) + 0.06 * (earlier.ended or 0.0)
        assert told == pytest.approx(whole, abs=chance)


@pytest.mark.parametrize("seed", range(4))
def test_a_run_does_not_differ_from_itself(seed):
    run = World(random.Random(seed)).run("good")
    assert compared(run, run).differences == ()


def test_what_was_run_again_since_is_not_what_a_task_waited_for():
    world = World(random.Random(1))
    world.needs = {"a": (), "b": ("a",), "c": ("b",)}
    world.tasks = {name: Task.call(work, 10, id=name) for name in "abc"}
    world.codes, world.attempts = dict.fromkeys("abc", "x"), dict.fromkeys("abc", 1)

    def run(run_id: str, begun: float) -> RunFacts:
        times = {"a": (begun, begun + 1), "b": (1, 3), "c": (3, 9)}
        facts = {
            name: world._facts(run_id, name, *at, "w") for name, at in times.items()
        }
        return RunFacts(run_id, facts, 0.0, 9.0, {}, "completed")

    assert compared(run("good", 0.0), run("bad", 5.0)).differences == ()


@pytest.mark.parametrize("seed", range(3))
def test_a_new_task_on_the_chain_is_told_with_what_it_accounts_for(seed):
    world = World(random.Random(seed))
    earlier = world.run("good")
    name = chain_of(earlier)[0]
    facts = dict(earlier.tasks)
    late = attrs.evolve(facts[name], name="late", needs=(name,), work=50.0)
    end = earlier.ended or 0.0
    facts["late"] = attrs.evolve(late, begun=end, ended=end + 50)
    later = attrs.evolve(earlier, run_id="bad", tasks=facts, ended=end + 50)
    (first,) = compared(earlier, later).differences
    assert (first.task, first.kind) == ("late", "added")
    assert first.seconds == pytest.approx(50)


def test_all_kinds_of_tasks_that_are_new_are_told():
    run = World(random.Random(1)).run("good")
    one = next(iter(run.tasks.values()))
    names = [f"{stem}/{n}" for stem in ("load", "check") for n in range(20)]
    more = {n: attrs.evolve(one, name=n, begun=None, ended=None) for n in names}
    later = attrs.evolve(run, run_id="bad", tasks={**run.tasks, **more})
    texts = [each.text for each in compared(run, later).differences]
    assert texts == ["20 tasks of load: each is new", "20 tasks of check: each is new"]


def made_by_hand(run_id: str, begun: dict[str, float], **more: object) -> RunFacts:
    """A run of `a`, which takes a second, and of `b`, which needs it and takes three."""
    world = World(random.Random(1))
    world.needs = {"a": (), "b": ("a",)}
    world.tasks = {name: Task.call(work, 10, id=name) for name in "ab"}
    world.codes, world.attempts = dict.fromkeys("ab", "x"), dict.fromkeys("ab", 1)
    facts = {}
    for name, seconds in (("a", 1.0), ("b", 3.0)):
        end = begun[name] + seconds
        task = world._facts(run_id, name, begun[name], end, "w")
        # It is ready as soon as what it needs has ended.
        ready = 0.0 if name == "a" else begun["a"] + 1.0
        facts[name] = attrs.evolve(task, ready=ready, **more)
    return RunFacts(run_id, facts, 0.0, begun["b"] + 3.0, {}, "completed")


def test_a_task_that_waited_before_too_waited_longer_by_the_difference():
    good = made_by_hand("good", {"a": 0.0, "b": 6.0})
    bad = made_by_hand("bad", {"a": 0.0, "b": 9.0})
    comparison = compared(good, bad)
    (waited,) = comparison.differences
    assert (waited.task, waited.kind, waited.seconds) == ("b", "waited", 3.0)
    assert waited.text == "waited 3 s longer"
    assert comparison.unknown == (
        "whether workers or resources were fewer, which only a journal keeps",
    )


def test_the_slots_workers_and_pools_for_which_tasks_waited_are_told():
    good = made_by_hand("good", {"a": 0.0, "b": 1.0})
    bad = made_by_hand("bad", {"a": 0.0, "b": 9.0})
    before = Around(4, {"w": 1, "x": 2}, pools={"db": 8.0})
    for now, text in (
        (Around(2, before.workers, pools=before.pools), "2 slots, 4 before"),
        (Around(4, {"w": 1}, pools=before.pools), "1 worker, 2 before (without x)"),
        (Around(4, {"w": 1, "x": 1}), "x runs 1 at once, 2 before"),
        (Around(4, before.workers, pools={"db": 1.0}), "the pool db has 1, 8 before"),
        (Around(4, before.workers, {"x": "silent"}), "x was lost: silent"),
        (Around(4, before.workers, holds=("noon",)), "starts were on hold: noon"),
    ):
        (first, *_) = compared(
            attrs.evolve(good, around=before), attrs.evolve(bad, around=now)
        ).differences
        assert (first.kind, first.seconds) == ("workers", 8.0)
        assert first.text == f"{text}; tasks waited 8 s longer"


def test_a_worker_that_said_no_host_before_is_not_on_another_machine():
    times = {"a": 0.0, "b": 1.0}
    good, bad = made_by_hand("good", times), made_by_hand("bad", times, machine=HOST)
    assert compared(good, bad).differences == ()


def test_many_tasks_that_each_took_a_little_longer_have_a_cause_together():
    names = [f"t{n}" for n in range(50)]
    runs = []
    for run_id, seconds, host in (("good", 1.0, "old"), ("bad", 2.0, "new")):
        world = World(random.Random(1))
        world.tasks = {name: Task.call(work, 10, id=name) for name in names}
        world.codes, world.attempts = dict.fromkeys(names, "a"), dict.fromkeys(names, 1)
        # A harmless change of one task is not the cause.
        world.codes["t7"] = host
        facts = {}
        for n, name in enumerate(names):
            world.needs = {name: tuple(names[max(0, n - 1) : n])}
            begun = seconds * n
            task = world._facts(run_id, name, begun, begun + seconds, "w")
            facts[name] = attrs.evolve(task, ready=begun, machine={"host": host})
        end = seconds * len(names)
        runs.append(RunFacts(run_id, facts, 0.0, end, {}, "completed"))
    first, *_ = compared(*runs).differences
    assert first.causes == ("machine",)
    assert first.seconds == pytest.approx(50.0)
    assert "took 50 s longer" in first.text
    again = attrs.evolve(
        runs[1],
        tasks={
            name: attrs.evolve(
                each, machine={"host": "old"}, codes=runs[0].tasks[name].codes
            )
            for name, each in runs[1].tasks.items()
        },
    )
    (slower,) = compared(runs[0], again).differences
    assert (slower.kind, slower.seconds) == ("slower", pytest.approx(50.0))
    assert slower.text == "50 tasks took 50 s longer, each by a little"


def test_more_room_is_no_reason_to_wait_longer():
    good = made_by_hand("good", {"a": 0.0, "b": 1.0})
    bad = made_by_hand("bad", {"a": 0.0, "b": 9.0})
    before = Around(2, {"w": 1}, pools={"db": 1.0})
    for now in (
        Around(4, before.workers, pools=before.pools),
        Around(2, {"w": 1, "x": 1}, pools=before.pools),
        Around(2, {"w": 2}, pools=before.pools),
        Around(2, {"w": None}, pools=before.pools),
        Around(2, before.workers, pools={"db": 8.0}),
    ):
        first, second = compared(
            attrs.evolve(good, around=before), attrs.evolve(bad, around=now)
        ).differences
        assert (first.task, first.kind, first.seconds) == ("b", "waited", 8.0)
        assert (second.kind, second.seconds) == ("workers", 0.0)
