"""
What is said to be short, is: without any, a task starts; what is lifted, is gone.

In random states, on copies, by the values of the shortages themselves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any, Self

import pytest
from tests.core.kernel.explained import Hindered, states
from tests.core.kernel.harness import Machine, S
from tests.core.kernel.test_explain_oracle import Image

from taskorch.core.kernel import (
    Kernel,
    Search,
    Shortage,
    TaskRow,
    _queue as queue,
    shortages,
)
from taskorch.core.kernel._control import heard
from taskorch.core.kernel._history import row_extra
from taskorch.core.kernel._rows import TOKEN, PoolRow
from taskorch.model import Agent

#: Of these it is told how much is short: with one less, it still is.
COUNTED = ("slot", "busy", "too small", "too little", "quota", "scope")
#: All kinds that random states have.
KINDS = {
    *("not_started", "slot", "veto", "capability", "draining", "busy"),
    *("breaker open", "breaker half-open", "failed there", "fails", "reservation"),
    *("too small", "too little", "quota", "rate", "allocator", "scope"),
}


class Trial:
    """A copy of a run in which one task is the first of all."""

    def __init__(self, run: Hindered, image: Image, task_id: str) -> None:
        self.run = run
        self.now = run.machine.now
        self.kernel: Kernel = image.copy()
        self.row: TaskRow = self.kernel.row(task_id)
        self.policies = run.machine.policies
        self.saved = dict(vars(self.policies)), dict(self.policies.vetoes)
        self.policies.kernel = self.kernel
        self.policies.ranking = lambda share: share is not self.row.bucket.share

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        vars(self.policies).clear()
        vars(self.policies).update(self.saved[0])
        self.policies.vetoes = self.saved[1]

    def put_first(self) -> None:
        """Nothing comes before it, and a soft quota keeps nobody from running."""
        for pool in self.kernel.pools.values():
            pool.beyond = 0
        self.kernel.set_priority(self.row, 1_000, self.now)
        queue.unpark_all(self.kernel)

    def shorts(self) -> list[Shortage]:
        """What is short for it now."""
        return shortages(self.kernel, self.row, self.now)

    def starts(self) -> bool:
        """Whether it starts at the next dispatch."""
        self.kernel.dispatch(self.now)
        return self.row.state is S.RUNNING

    def lift(self, short: Shortage, less: int = 0) -> None:
        """Let there be enough of what is *short*, or so much *less*; nothing else."""
        kernel, worker, name = self.kernel, short.worker, short.name
        missing = short.missing - less
        match short.kind:
            case "not_started":
                kernel.paused = False
            case "slot":
                kernel.concurrency += missing
            case "veto":
                self.policies.vetoes.pop((self.row.id, S.RUNNING), None)
                row_extra(self.row).veto = ""
            case "capability":
                self.join()
            case "rate":
                rate: Any = short.pool
                rate.spent, rate.at_ns = rate.total - TOKEN, self.now
            case "quota":
                kernel.pools[name].total += missing
                kernel.workers_version += 1
            case "reservation":
                kernel.cancel(kernel.row(name), self.now, "called off")
            case "fails":
                kernel.workers[name].running -= missing
            case "failed there":
                row_extra(self.row).failed_on = ()
            case _:
                getattr(self, f"lift_{short.kind.replace(' ', '_').replace('-', '_')}")(
                    worker, short, missing
                )

    def join(self) -> None:
        """A worker joins that the registry is content with."""
        for number in range(5):
            name, needs = "new" + "w" * number, self.row.bucket.spec.requires or ()
            worker = self.kernel.add_worker(Agent(name, needs), self.now)
            if self.policies.knows(self.row, worker):
                return

    def lift_lost(self, worker: Any, *_: object) -> None:
        heard(self.kernel, worker, self.now)

    def lift_scope(self, _: Any, short: Shortage, missing: int) -> None:
        self.kernel.beside[short.name].used -= missing

    def lift_turn(self, *_: object) -> None:
        scopes = self.kernel.limits[-1]
        scopes.turns_away(self.kernel, scopes.first)

    def lift_draining(self, worker: Any, *_: object) -> None:
        self.kernel.drain(worker.name, "", self.now)

    def lift_breaker_open(self, worker: Any, short: Shortage, _: int) -> None:
        worker.breakers[short.name].state = "closed"
        self.kernel.workers_version += 1

    lift_breaker_half_open = lift_breaker_open

    def lift_busy(self, worker: Any, _: Shortage, missing: int) -> None:
        worker.running -= missing

    def lift_too_little(self, worker: Any, short: Shortage, missing: int) -> None:
        if short.pool is not None:
            self.kernel.pools[short.name].used -= missing
        else:
            worker.used[short.name] -= missing

    def lift_too_small(self, worker: Any, short: Shortage, missing: int) -> None:
        self.kernel.workers_version += 1
        if short.pool is None and short.name in worker.capacity:
            worker.capacity[short.name] += missing
        else:
            self.kernel.pools.setdefault(short.name, PoolRow(short.name, 0))
            self.kernel.pools[short.name].total += missing

    def lift_allocator(self, worker: Any, *_: object) -> None:
        """It grants nothing at all, which is enough, and is asked again."""
        self.row.bucket.refusal = ""
        real: Callable[..., Any] = self.policies.allocate
        vars(self.policies)["allocate"] = lambda asked, on, *rest: (
            ((), "", False)
            if asked is self.row and on is worker
            else real(asked, on, *rest)
        )


def alike(short: Shortage) -> tuple[Any, ...]:
    """What it is about, however much of it is short."""
    worker = "" if short.worker is None else short.worker.name
    return short.kind, short.name, worker, short.pool is None


def check(run: Hindered, task_id: str, seen: Counter[str]) -> None:
    """The laws, for one task that is queued."""
    image = Image(run.machine.kernel, run.machine.policies)
    with Trial(run, image, task_id) as trial:
        many = len(trial.shorts())
    for number in range(many):
        with Trial(run, image, task_id) as trial:
            short = trial.shorts()[number]
            seen[short.kind] += 1
            # An allocator that may grant less is content with less; and who waits for a
            # better worker does not, once that one is not busy.
            divides = short.kind == "too little" and not trial.kernel.rigid
            waits = any(one.kind == "fails" for one in trial.shorts())
            if short.kind in COUNTED and not divides and not waits:
                trial.lift(short, less=1)
                assert alike(short) in map(alike, trial.shorts()), short
        with Trial(run, image, task_id) as trial:
            short = trial.shorts()[number]
            trial.lift(short)
            assert alike(short) not in map(alike, trial.shorts()), short
    with Trial(run, image, task_id) as trial:
        trial.put_first()
        kept = [alike(short) for short in trial.shorts()]
        assert trial.starts() == (not kept), (task_id, kept)
        seen["keeps" if kept else "starts"] += 1
    with Trial(run, image, task_id) as trial:
        trial.put_first()
        for _ in range(30):
            for short in trial.shorts()[:1]:
                trial.lift(short)
        # What was lifted by hand has told nobody.
        trial.kernel.workers_version += 1
        queue.unpark_all(trial.kernel)
        assert trial.starts(), (task_id, trial.shorts())
        seen["starts at last"] += 1


def explore(seed: int, seen: Counter[str], steps: int = 40) -> None:
    """In each state of a run, about one task that is queued."""
    dice = Random(seed)
    for run in states(seed, steps):
        queued = [row for row in run.waiting() if row.state is S.QUEUED]
        if queued:
            check(run, dice.choice(queued).id, seen)


@pytest.mark.parametrize("seed", [35, 71, 104])
def test_without_a_shortage_it_starts_and_what_is_lifted_is_gone(seed: int) -> None:
    """A task starts exactly if nothing is short; as much more as is missing is enough."""
    seen: Counter[str] = Counter()
    explore(seed, seen)
    assert seen["starts at last"]


@pytest.mark.slow("some kinds are rare")
def test_every_kind_of_shortage_is_what_it_says() -> None:
    """The same in many states, of which each kind of shortage keeps a task in some."""
    seen: Counter[str] = Counter()
    for seed in range(130):
        explore(seed, seen)
    assert seen.keys() >= KINDS
    assert seen["starts"] > 100


@pytest.mark.parametrize("seed", range(8))
def test_after_a_dispatch_nothing_waits_that_could_start(seed: int) -> None:
    """What is the first of its kind, and has not started, lacks something."""
    for run in states(seed, 30):
        run.settle()
        assert run.runnable() == []


def test_what_only_a_worker_without_new_work_can_do_is_stuck() -> None:
    """It is said why, and how the worker has work again."""
    machine = Machine()
    machine.worker("a", "x")
    machine.kernel.drain("a", "it is cleaned", machine.now)
    machine.submit("t", requires=("x",))
    search = Search(machine.kernel, machine.now, {})
    for _ in search.slices():
        pass
    (group,) = search.groups
    assert (group.kind, group.tasks) == ("agent", ("t",))
    assert group.detail == "Worker a gets no new work: it is cleaned."
    assert group.remedies[0].kind == "agent_back"
