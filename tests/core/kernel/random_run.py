"""Long runs of random commands, from a seed; as a program, it prints the events."""

import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from random import Random
from typing import Any

from tests.core.kernel.commands import DecideTask, EndAttempt
from tests.core.kernel.harness import SEC, Machine, Policies

from taskorch.core.kernel import (
    FaultPoints,
    Kernel,
    Spec,
    TaskRow,
    check_invariants,
    differences,
    exceeded,
    explain,
    fold,
    recover,
)
from taskorch.errors import UsageError
from taskorch.events import CATALOGUE
from taskorch.model import TERMINAL, Quota, Resources, TaskState
from taskorch.model.ids import run_of

S = TaskState
TENANTS = (None, None, "ann", "ben")
LIVE = tuple(state for state in S if state not in TERMINAL)
NAMES = ("p", "q", "r", "s")
#: Whom soft quotas are for.
WHOSE: tuple[dict[str, str], ...] = ({"owner": "ann"}, {"type": "s"}, {"workflow": "r"})
NEEDS: tuple[tuple[str, ...] | None, ...] = (
    None,
    None,
    ("x",),
    ("x",),
    ("y",),
    ("z",),
    ("x", "y"),
)
WAITS: tuple[tuple[str | None, int | None, bool] | None, ...] = (
    *[None] * 12,
    ("a", None, False),
    ("b", 4 * SEC, False),
    ("a", 9 * SEC, True),
    (None, SEC, True),
)
JOINS = ("all", "all", "all", "finished", "any", "asked", 1, 2)
FAILURES = ("block", "block", "skip", "fail", "run")
RESOURCES = (
    Resources(),
    Resources(),
    Resources(cpu=1),
    Resources(cpu=2),
    Resources(cpu=3, gpu=1),
    Resources(memory_mb=2),
    Resources(cpu=1, licence=1),
)
#: What some tasks may write.
WRITES: tuple[tuple[str, ...], ...] = (
    *[()] * 8,
    ("a",),
    ("a/b", "c"),
    ("a/b/x",),
    ("",),
    ("c/d",),
)


def _free(policies: Policies, name: str) -> int:
    pool = policies.kernel.pools[name]
    return pool.total - pool.used


class Run:
    """A machine, and the dice."""

    #: What tasks ask for.
    resources: tuple[Resources, ...] = RESOURCES
    #: What there is in the end.
    last: Mapping[str, Any] = {"cpu": 4, "gpu": 1, "memory_mb": 3}

    def __init__(
        self, dice: Random, *, ranks: bool | None = None, backfills: bool = False
    ) -> None:
        self.dice = dice
        drawn = dice.random() < 0.3
        policies = self.policies_of(
            rigid=dice.random() < 0.5,
            ranks=drawn if ranks is None else ranks,
            backfills=backfills,
        )
        # Of every third task, nobody knows how long it takes.
        policies.length = lambda row: row.seq % 7 if row.seq % 3 else None
        policies.keeps_match = dice.random() < 0.7
        policies.keeps_route = dice.random() < 0.7
        policies.keeps_alloc = dice.random() < 0.5
        if not policies.keeps_match and dice.random() < 0.5:
            # Tasks of one bucket that are not alike.
            policies.knows = lambda row, worker: (
                "x" in worker.info.capabilities and (row.seq + len(worker.name)) % 3 > 0
            )
        if dice.random() < 0.3:
            policies.aging_ns = None
        if dice.random() < 0.3:
            policies.watches = frozenset({(S.QUEUED, S.RUNNING)})
        if dice.random() < 0.2:
            policies.admits_all = False
            policies.admits = lambda row: (None, 50 * SEC)
        if dice.random() < 0.2:
            # An allocator that is content with less.
            policies.grants = lambda row, request: tuple(
                (name, min(units, max(1, _free(policies, name))))
                for name, units in request
            )
        self.machine = Machine(
            policies=policies,
            concurrency=dice.choice([1, 2, 4, 8]),
            pools=Resources(cpu=4, gpu=1, memory_mb=3),
            keep_finished=dice.choice([0, 3, 1000]),
            refuse_unknown=False,
        )
        self.machine.worker("a", "x", "y", max_concurrency=dice.choice([1, 2]))
        room = Resources(cpu=3, gpu=1, licence=1, memory_mb=3)
        self.machine.worker("b", "x", capacity=room, request=dice.choice(RESOURCES[:3]))
        self.machine.worker("far", "x", max_concurrency=dice.choice([1, 3]), lease=6.0)
        self.count = 0
        #: Attempts that nobody has ended.
        self.out: list[tuple[str, int]] = []
        self.ended: dict[str, TaskState] = {}
        self.events_seen = 0
        kernel = self.machine.kernel
        pools = self.machine.pools
        #: What the events so far lead to: it must be the same.
        folding = Policies(ranks=policies.ranks, backfills=backfills)
        self.shadow = Kernel(kernel.config, folding, Random(0), pools)

    def policies_of(self, **options: bool) -> Policies:
        """Who decides."""
        return Policies(**options)

    # -- choices -------------------------------------------------------------------

    def rows(self, *states: TaskState) -> list[TaskRow]:
        return [r for r in self.machine.kernel.tasks.values() if r.state in states]

    def pick(self, *states: TaskState) -> str | None:
        found = self.rows(*states)
        return self.dice.choice(found).id if found else None

    # -- commands ------------------------------------------------------------------

    def submit(self) -> None:
        dice, machine = self.dice, self.machine
        for _ in range(dice.randint(1, 6)):
            self.count += 1
            # Some are of a run.
            task_id = f"r/t{self.count}" if self.count % 5 == 0 else f"t{self.count}"
            machine.policies.delays[task_id] = dice.choices([0, 1, 5 * SEC], k=2)
            known = [row.id for row in self.rows(*S)[-8:]]
            many = dice.choice([0, 0, 1, 2, 3])
            if not many and dice.random() < 0.3:
                self.submit_plainly(task_id)
                continue
            try:
                machine.submit(
                    task_id,
                    type=dice.choice(NAMES),
                    after=dice.choices(known, k=many) if known else (),
                    priority=dice.choice([0, 0, 0, 1, -1]),
                    resources=dice.choice(self.resources),
                    requires=dice.choice(NEEDS),
                    timeout_ns=dice.choice([None, None, SEC, 10 * SEC]),
                    idempotent=dice.random() < 0.8,
                    allow_failure=self.count % 5 == 0,
                    owner=dice.choice(TENANTS),
                    not_before=dice.choice([None] * 5 + [machine.now + 9 * SEC]),
                    deadline=dice.choice(
                        [None] * 6 + [machine.now, machine.now + 30 * SEC]
                    ),
                    join=dice.choice(JOINS),
                    on_failure=dice.choice(FAILURES),
                    wait=dice.choice(WAITS),
                    writes=WRITES[self.count * 7 % len(WRITES)],
                )
            except UsageError:
                assert task_id not in machine.kernel.tasks

    def submit_plainly(self, task_id: str) -> None:
        """By the path that is written out for speed, as the runtime does it."""
        machine, kernel = self.machine, self.machine.kernel
        dice = self.dice
        needs, tenant = dice.choice(NEEDS), dice.choice(TENANTS)
        spec = Spec(dice.choice(NAMES), needs, owner=tenant)
        priority = self.dice.choice([0, 0, 1])
        # Some of these ids are of no run, though they look so.
        bucket, run = kernel.bucket(spec), run_of(task_id) if self.count % 10 else ""
        kernel.submit(task_id, bucket, None, machine.now, priority, run=run)
        check_invariants(kernel)
        machine.settle()

    def end(self) -> None:
        if self.out:
            task_id, attempt = self.out.pop(self.dice.randrange(len(self.out)))
            outcome = self.dice.choice(
                ["completed", "completed", "completed", "failed", "lost", "stopped"]
            )
            self.machine.end(task_id, outcome, attempt=attempt)

    def end_some(self) -> None:
        """Several end at one instant, before anything is dispatched."""
        kernel = self.machine.kernel
        for _ in range(min(len(self.out), self.dice.randint(1, 4))):
            task_id, attempt = self.out.pop(self.dice.randrange(len(self.out)))
            leak = kernel.leaked.get((task_id, attempt))
            row = kernel.tasks.get(task_id) if leak is None else leak.row
            if row is None:
                # Its worker was lost, another attempt finished it, and it is gone.
                continue
            kernel.end_attempt(row, attempt, "completed", self.machine.now)
            check_invariants(kernel)

    def change_some(self) -> None:
        """Several changes at one instant, before anything is dispatched."""
        kernel, now = self.machine.kernel, self.machine.now
        for _ in range(self.dice.randint(0, 3)):
            if (task_id := self.pick(S.QUEUED)) is None:
                return
            row = kernel.row(task_id)
            self.count += 1
            change = self.dice.choice(
                [
                    lambda r: kernel.set_priority(r, self.dice.randint(-3, 3), now),
                    lambda r: kernel.cancel(r, now, "called off"),
                    lambda r: kernel.suspend(r, now, holdable=False),
                    lambda r: kernel.submit_general(
                        f"t{self.count}",
                        r.bucket,
                        None,
                        now,
                        priority=self.dice.randint(0, 2),
                    ),
                ]
            )
            with suppress(UsageError):
                change(row)
            check_invariants(kernel)

    def end_and_settle(self) -> None:
        self.end_some()
        self.machine.settle()

    def end_again(self) -> None:
        task_id = self.pick(*S)
        if task_id is not None:
            row = self.machine.row(task_id)
            attempts = range(1, row.attempt + 1)
            late = [n for n in attempts if (task_id, n) not in self.out]
            if late:
                state = row.state
                self.machine.kernel.complete(row, late[-1], self.machine.now)
                assert row.state is state
                self.machine.settle()

    def cancel(self) -> None:
        if (task_id := self.pick(*LIVE)) is not None:
            self.machine.cancel(task_id)

    def suspend(self) -> None:
        if (
            task_id := self.pick(S.PENDING, S.QUEUED, S.RUNNING, S.RETRYING)
        ) is not None:
            self.machine.suspend(task_id, holdable=self.dice.random() < 0.5)

    def resume(self) -> None:
        if (task_id := self.pick(S.SUSPENDED, S.RUNNING)) is not None:
            self.machine.resume(task_id)

    def prioritise(self) -> None:
        if (task_id := self.pick(*LIVE)) is not None:
            self.machine.prioritise(task_id, self.dice.randint(-3, 3))

    def change(self) -> None:
        """It has other options."""
        if (task_id := self.pick(*LIVE)) is None:
            return
        dice, now = self.dice, self.machine.now
        names = dice.sample(["priority", "not_before", "deadline"], dice.randint(0, 3))
        with suppress(UsageError):
            self.machine.change(
                task_id,
                *names,
                priority=dice.randint(-2, 2),
                not_before=dice.choice([None, now, now + 4 * SEC]),
                deadline=dice.choice([None, now, now + SEC, now + 30 * SEC]),
                resources=dice.choice(self.resources),
                requires=dice.choice(NEEDS),
                timeout_ns=dice.choice([None, SEC, 10 * SEC]),
                idempotent=dice.random() < 0.8,
            )

    def decide(self) -> None:
        if (task_id := self.pick(S.BLOCKED)) is not None:
            extra = self.machine.row(task_id).extra
            assert extra is not None
            verdicts = ["fail", "complete"]
            if extra.decision:
                verdicts.append("retry")
            with suppress(UsageError):
                # A wait cannot be run.
                self.machine.decide(task_id, self.dice.choice(verdicts))

    def add_parents(self) -> None:
        states = (S.PENDING, S.BLOCKED, S.SUSPENDED)
        if (task_id := self.pick(*states)) is not None:
            known = [row.id for row in self.rows(*S)[-12:]]
            after = self.dice.choices(known, k=self.dice.choice([1, 2]))
            with suppress(UsageError):
                self.machine.add_parents(task_id, *after)

    def emit(self) -> None:
        keep = self.dice.choice([0, SEC, 9 * SEC])
        self.machine.emit(self.dice.choice("ab"), None, keep)

    def rerun(self) -> None:
        if (task_id := self.pick(S.FAILED, S.CANCELLED)) is not None:
            with suppress(UsageError):
                self.machine.rerun(task_id)

    def expire(self) -> None:
        self.machine.expire(self.dice.choice([SEC, 30 * SEC]))

    def wait(self) -> None:
        self.machine.after(self.dice.choice([1, SEC, 4 * SEC, 15 * SEC]))

    def join(self) -> None:
        number = len(self.machine.kernel.workers)
        if number < 6:
            limit = self.dice.choice([1, 2, None])
            self.machine.worker(
                f"n{number}", self.dice.choice("xz"), max_concurrency=limit
            )
            self.machine.settle()

    def change_pools(self) -> None:
        """There is more or less than before, maybe less than what is held."""
        name = self.dice.choice(["cpu", "gpu", "memory_mb"])
        self.machine.change_pools(**{name: self.dice.choice([0, 1, 2, 4])})

    def by_hand(self) -> None:
        """Somebody takes from the pools, or gives back what they hold."""
        held = list(self.machine.kernel.allocations)
        if held and self.dice.random() < 0.6:
            self.machine.release(self.dice.choice(held))
        else:
            self.count += 1
            name = self.dice.choice(["cpu", "gpu", "memory_mb"])
            self.machine.allocate(f"h{self.count}", **{name: self.dice.choice([1, 2])})

    def change_quotas(self) -> None:
        """Some may have more or less than before, maybe less than they have."""
        dice = self.dice
        most = dice.choice([None, None, 0, 1, 2, 3])
        cpu = dice.choice([{}, {"cpu": 1}, {"cpu": 3}, {"cpu": 4, "memory_mb": 2}])
        # No draw of its own: the others are what they have been.
        rate = (None, None, 0.4, 3)[self.count % 4]
        limits = {
            "resources": cpu,
            "max_parallel": most,
            "starts_per_second": rate,
            "burst": 1 if rate is None else 1 + self.count % 3,
        }
        if dice.random() < 0.2:
            self.machine.change_quotas(Quota(owner="ann", **limits))
        else:
            self.machine.change_quotas(Quota(type=dice.choice(NAMES), **limits))
        # Soft ones likewise, beside these.
        if self.count % 4:
            whose = WHOSE[self.count % 3]
            most = (None, 0, 1, 2, None)[self.count % 5]
            self.machine.change_quotas(
                Quota(**whose, resources=cpu, max_parallel=most, soft=True),
                Quota(type=NAMES[0], max_parallel=self.count % 3, soft=True),
            )
        else:
            most = (None, 0, 1, 2)[len(self.machine.kernel.tasks) % 4]
            self.machine.change_quotas(Quota(workflow="r", max_parallel=most))

    def beat(self) -> None:
        """The worker that lives elsewhere gives a sign of life, complete or not."""
        kernel, now = self.machine.kernel, self.machine.now
        named = [attempt for attempt in self.out if self.dice.random() < 0.8]
        far = kernel.workers["far"]
        abandoned = kernel.beat("far", named, now)
        check_invariants(kernel)
        current = {
            (row.id, row.attempt) for row in kernel.tasks.values() if row.worker is far
        }
        assert not far.lost
        assert all(attempt in named for attempt in abandoned)
        assert all(a in current for a in named if a not in abandoned)
        self.machine.settle()

    def leave(self) -> None:
        """The worker that lives elsewhere goes, and another of its name comes."""
        kernel, now = self.machine.kernel, self.machine.now
        unbegun = {attempt for attempt in self.out if self.dice.random() < 0.5}
        far = kernel.workers["far"]
        was_there = not far.lost
        assert kernel.leave("far", unbegun, now) is was_there
        check_invariants(kernel)
        assert far.lost
        assert far.running == far.leaked == 0
        assert not kernel.leave("far", unbegun, now)
        self.machine.settle()
        self.note_starts()
        kernel.add_worker(far.info, now)
        self.machine.settle()

    def crash(self) -> None:
        """We die, and begin anew with nothing but the events."""
        machine = self.machine
        old = machine.kernel
        kernel = Kernel(old.config, machine.policies, Random(3), machine.pools)
        for event, cargo in machine.sink:
            fold(kernel, event, cargo)
        assert not differences(old, kernel), differences(old, kernel)
        machine.kernel = machine.policies.kernel = kernel
        kernel.points = old.points
        kernel.listen(machine.sink, frozenset(CATALOGUE))
        machine.now += self.dice.choice([0, SEC, 100 * SEC])
        recover(kernel, old.epoch + 1, machine.now)
        check_invariants(kernel)
        assert not kernel.running
        assert not self.rows(S.RUNNING)
        for worker in old.workers.values():
            kernel.add_worker(worker.info, machine.now)
        machine.settle()
        # What ran in our own process died with it; what ran elsewhere may come back.
        states = {name: row.state for name, row in kernel.tasks.items()}
        for task_id, attempt in self.out:
            machine.do(EndAttempt(task_id, attempt, "completed", epoch=old.epoch))
        assert states == {name: row.state for name, row in kernel.tasks.items()}
        kernel.unpause()
        self.out.clear()
        machine.started.clear()
        machine.settle()

    def slot(self) -> None:
        machine = self.machine
        if (task_id := self.pick(S.RUNNING)) is not None:
            row = machine.row(task_id)
            kernel = machine.kernel
            # Some wait for another task, and some for a store.
            wait = partial(kernel.yield_slot, returned=kernel.seq % 3 == 0)
            change = self.dice.choice([wait, kernel.reclaim_slot])
            change(row, row.attempt, machine.now)
            check_invariants(machine.kernel)
            machine.settle()

    def whims(self) -> None:
        """The policies change their minds; something else must happen before they are asked."""
        policies = self.machine.policies
        unlucky = self.dice.choice([*NAMES, "", "", "0", "1"])
        if not policies.keeps_alloc:
            policies.refuses = lambda row, worker: (
                f"no {unlucky}"
                if row.bucket.spec.type == unlucky or str(row.seq % 2) == unlucky
                else None
            )
        policies.vetoes.clear()
        if policies.watches and (task_id := self.pick(*LIVE)) is not None:
            policies.vetoes[task_id, S.RUNNING] = "not now"
        self.prioritise()

    def fault(self) -> None:
        component = self.dice.choice(
            ["registry", "router", "allocator", "retry_handler"]
        )
        self.machine.policies.broken.add(component)
        self.end()
        self.machine.policies.broken.clear()

    def step(self) -> None:
        """One command, and the laws."""
        self.dice.choice(
            [self.submit] * 6
            + [self.end] * 8
            + [self.end_and_settle] * 3
            + [self.wait] * 3
            + [self.suspend, self.resume, self.prioritise, self.change] * 2
            + [self.slot] * 4
            + [self.beat] * 3
            + [self.crash, self.leave]
            + [self.add_parents] * 2
            + [self.emit] * 2
            + [self.change_pools, self.by_hand, self.change_quotas] * 2
            + [self.end_again, self.cancel, self.decide, self.rerun, self.expire]
            + [self.join, self.whims, self.fault, self.explained]
        )()
        self.note_starts()

    def note_starts(self) -> None:
        self.out += self.machine.started
        self.machine.started.clear()

    # -- the laws ------------------------------------------------------------------

    def runnable(self) -> list[TaskRow]:
        """
        What nothing keeps from running, and is the first of its bucket.

        One that is vetoed is set aside, and holds nobody up: unless there is more that
        keeps it, as that keeps all that are like it.
        """
        kernel = self.machine.kernel
        found = []
        for bucket in dict.fromkeys(row.bucket for row in self.rows(S.QUEUED)):
            for row in bucket.rows():
                told = explain(kernel, row, self.machine.now)
                if told.runnable:
                    found.append(row)
                if {blocker.kind for blocker in told.blockers} != {"veto"}:
                    break
        return found

    def check(self) -> None:
        """After a step: nothing that could run waits, and an end is final."""
        kernel = self.machine.kernel
        waits = self.runnable()
        assert not waits, [str(explain(kernel, r, self.machine.now)) for r in waits]
        for task_id, row in kernel.tasks.items():
            if row.state in TERMINAL:
                assert self.ended.setdefault(task_id, row.state) is row.state
            else:
                assert task_id not in self.ended
        for task_id, state in kernel.evicted.items():
            assert self.ended.setdefault(task_id, state) is state
        for event, cargo in self.machine.sink[self.events_seen :]:
            self.events_seen += 1
            assert event[1] == self.events_seen
            fold(self.shadow, event, cargo)
        assert kernel.seq == self.events_seen
        found = differences(kernel, self.shadow)
        assert not found, found

    def explained(self) -> None:
        """
        What `explain` says, with dispatch held, is what happens.

        Of all queued tasks that nothing blocks, and that are the first of their
        bucket, the one that is first in order starts at the next step: it, and no
        other; and if there is none, nothing starts.
        """
        machine, kernel = self.machine, self.machine.kernel
        self.change_some()
        self.end_some()
        self.change_some()
        real = kernel.concurrency
        # Attempts that waited for others go first: they are not queued.
        while kernel.returning:
            row = kernel.returning.popleft()
            if row.extra is not None and row.extra.yielded and row.id in kernel.tasks:
                self.out.remove((row.id, row.attempt))
                kernel.end_attempt(row, row.attempt, "completed", machine.now)
        check_invariants(kernel)
        while True:
            expected = min(self.runnable(), key=self.place, default=None)
            kernel.concurrency = min(real, kernel.running + 1)
            before = len(kernel.starts)
            kernel.dispatch(machine.now)
            kernel.concurrency = real
            check_invariants(kernel)
            started = kernel.starts[before:]
            assert started == ([] if expected is None else [expected]), (
                expected,
                started,
            )
            if expected is None:
                break
        machine.settle()

    def place(self, row: TaskRow) -> tuple[Any, ...]:
        """Who has less comes first, where owners are ranked; and who is above last."""
        share = row.bucket.share
        above = exceeded(self.machine.kernel, row.bucket) is not None
        place = (row.key, row.seq)
        if share is None:
            return above, *place
        return (above, self.machine.policies.ranking(share), share.served, *place)

    def finish(self) -> None:
        """In the end, everything comes to an end, and everything is free."""
        machine, kernel = self.machine, self.machine.kernel
        machine.policies.vetoes.clear()
        machine.policies.refuses = lambda row, worker: None
        kernel.claims.clear()
        for name in list(kernel.allocations):
            machine.release(name)
        machine.change_quotas(*(Quota(type=name) for name in NAMES))
        machine.change_quotas(Quota(owner="ann"), Quota(workflow="r"))
        machine.change_pools(**self.last)
        plenty = Resources(cpu=9, gpu=9, licence=9, memory_mb=9)
        machine.worker("all", "x", "y", "z", capacity=plenty)
        for _ in range(1_000):
            for row in self.rows(S.SUSPENDED):
                machine.resume(row.id)
            for row in self.rows(S.BLOCKED):
                if row.state is S.BLOCKED:
                    machine.do(DecideTask(row.id, "fail"))
            for row in self.rows(S.RUNNING):
                kernel.reclaim_slot(row, row.attempt, machine.now)
            machine.settle()
            self.note_starts()
            if not self.out and not self.rows(*LIVE):
                break
            out, self.out = self.out, []
            for task_id, attempt in out:
                machine.end(task_id, "completed", attempt=attempt)
            machine.after(SEC)
        assert not self.rows(*LIVE)
        assert kernel.quiescent()
        assert kernel.running == 0
        assert not kernel.leaked
        assert not any(pool.used for pool in kernel.pools.values())
        for worker in kernel.workers.values():
            assert worker.running == 0
            assert not any(worker.used.values())


def run(
    seed: int,
    steps: int,
    points: FaultPoints | None = None,
    *,
    ranks: bool | None = None,
    backfills: bool = False,
) -> Machine:
    """A run of so many steps, with the laws checked after each."""
    made = Run(Random(seed), ranks=ranks, backfills=backfills)
    made.machine.kernel.points = made.shadow.points = points
    for _ in range(steps):
        made.step()
        made.check()
    made.finish()
    return made.machine


def main(argv: list[str]) -> None:
    """Print all events of some runs."""
    for seed in map(int, argv[1:]):
        events: list[Any] = [event for event, _ in run(seed, 60).sink]
        print(*events, sep="\n")


if __name__ == "__main__":
    main(sys.argv)
