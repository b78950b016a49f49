"""Fault points: where the unusual but legal happens, the laws are the same."""

import re
from pathlib import Path
from random import Random

import pytest
from tests.core.kernel.harness import SEC, Machine, Only, S
from tests.core.kernel.random_run import Run, run
from tests.house.tools.examples import seeds

import taskorch.core.kernel
from taskorch.core.kernel._queue import DEADLINE, DUE, TOKEN
from taskorch.core.kernel._state import LEASE, TIMEOUT
from taskorch.events import AgentLost, TaskRetrying, make
from taskorch.model import Resources

SOURCES = Path(taskorch.core.kernel.__file__).parent.glob("*.py")
#: All points that there are.
POINTS = {
    name
    for source in SOURCES
    for name in re.findall(
        r'points\.hit\("([^"]+)"\)', source.read_text(encoding="utf-8")
    )
}
#: Those where only what nobody needs is let go of. (Without its dead timers, a kernel
#: may do in another order what is due at one and the same instant.)
TIDY = {
    "open.rebuild",
    "above.rebuild",
    "bucket.compact",
    "buckets.forget",
    "moved.forget",
}


class Dice(Only):
    """Hits any point now and then."""

    def __init__(self, seed):
        super().__init__(POINTS)
        self.dice = Random(seed)

    def hit(self, name):
        return super().hit(name) and self.dice.random() < 0.3


def facts(seed, points):
    return [make(event) for event, _ in run(seed, 60, points).sink]


def missing_timers(kernel, now):
    """What is to happen at a later time, and has no timer."""
    there = {
        (when, kind, row.name if kind in (LEASE, TOKEN) else row.id)
        for when, _, kind, row, _ in kernel.timers
    }
    due = set()
    for row in kernel.tasks.values():
        extra = row.extra
        if extra is None or row.state.is_terminal:
            continue
        if row.state in (S.PENDING, S.RETRYING, S.BLOCKED):
            due.add((extra.due_ns, DUE, row.id))
        if row.state is S.RUNNING:
            due.add((extra.timer, TIMEOUT, row.id))
        due.add((extra.deadline_ns or 0, DEADLINE, row.id))
    for worker in kernel.workers.values():
        if worker.lease_ns and not worker.lost:
            due.add((worker.lease_due_ns, LEASE, worker.name))
    return [timer for timer in due - there if timer[0] > now]


class Timed(Run):
    """A run where nothing of what is to come is forgotten, and workers start anew."""

    def step(self):
        super().step()
        if self.dice.random() < 0.1:
            self.anew()
            self.note_starts()

    def anew(self):
        self.machine.worker(
            "far",
            *self.dice.choice([("x",), ("x", "y"), ("z",)]),
            max_concurrency=self.dice.choice([1, 2, None]),
            capacity=self.dice.choice([None, Resources(cpu=2, memory_mb=2)]),
            lease=self.dice.choice([3.0, 6.0, 20.0]),
        )
        self.machine.settle()

    def check(self):
        super().check()
        for kernel in (self.machine.kernel, self.shadow):
            assert missing_timers(kernel, self.machine.now) == []


def timed_run(seed, points):
    made = Timed(Random(seed))
    made.machine.kernel.points = made.shadow.points = points
    for _ in range(60):
        made.step()
        made.check()
    made.finish()


@pytest.mark.parametrize("seed", seeds(2, 6))
def test_every_timer_is_there(seed):
    """Whatever is to happen at a time has a timer, in the kernel and in its fold."""
    timed_run(seed, None)


@pytest.mark.parametrize("seed", seeds(2, 6))
def test_every_timer_survives_a_clean_up(seed):
    """The same, where the timers are cleaned up whenever one is set."""
    timed_run(seed, Only({"timers.rebuild"}))


def test_a_date_and_a_deadline_with_a_clean_up_between():
    """The deadline's timer does not cost the timer of the date."""
    machine = Machine()
    machine.kernel.points = Only({"timers.rebuild"})
    machine.submit(
        "t", not_before=machine.now + 5 * SEC, deadline=machine.now + 9 * SEC
    )
    assert machine.after(5 * SEC) == ["t"]


@pytest.mark.parametrize("seed", seeds(2, 6))
def test_every_point_always(seed):
    """The laws of a random run hold when every point is hit whenever it is reached."""
    points = Only(POINTS)
    told = facts(seed + 100, points)
    assert points.seen
    assert {TaskRetrying, AgentLost} & {type(event) for event in told}


@pytest.mark.parametrize("seed", seeds(4, 10))
def test_points_at_random(seed):
    """The laws of a random run hold when points are hit now and then."""
    points = Dice(seed)
    run(seed + 200, 60, points)
    assert points.seen


@pytest.mark.parametrize("seed", seeds(2, 6))
def test_tidying_up_changes_nothing(seed):
    """Where only our own memory is cleared up, the events are the same."""
    points = Only(TIDY)
    assert facts(seed, points) == facts(seed, None)
    assert points.seen


def test_a_task_that_outlives_its_bucket():
    """Its place in the queue is kept, where it waits twice for one and the same thing."""
    machine = Machine()
    machine.worker("near", "x", max_concurrency=1)
    machine.submit_all("runs", "t", requires=("x",))
    machine.worker("far", "x", lease=5.0)
    assert machine.settle() == ["t"]
    machine.kernel.points = Only({"buckets.forget"})
    before = machine.row("t").bucket
    machine.submit("local")
    machine.after(5 * SEC)
    assert machine.state("t") is S.QUEUED
    assert machine.row("t").bucket is not before
    machine.submit("next", requires=("x",))
    assert machine.end("runs") == ["t"]
    assert machine.end("t") == ["next"]
