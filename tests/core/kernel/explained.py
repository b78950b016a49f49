"""
Long runs in which everything happens that can keep a task from starting, from a seed.

As a program it prints what is said of each task that waits, as a line of JSON: so what
two versions say can be compared, by `python -m tests.core.kernel.explained 0 100`.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from random import Random
from typing import Any

import attrs
from tests.core.kernel.harness import SEC, Policies
from tests.core.kernel.random_run import LIVE, NAMES, NEEDS, TENANTS, Run, S
from tests.core.kernel.sharing import Sharing

from taskorch.core.kernel import Search, TaskRow, check_invariants, explain
from taskorch.errors import UsageError
from taskorch.model import TERMINAL, Breaker, Elastic, Fallback, Resources

WAITING = tuple(state for state in LIVE if state is not S.RUNNING)
#: Steps of a run.
STEPS = 60


class Hindered(Run):
    """A run with workers that fail, holds, drains, and requests that are elastic."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        super().__init__(
            Random(seed),
            ranks=(None, False, True)[seed % 5 % 3],
            backfills=seed % 4 == 1,
        )
        machine = self.machine
        kernel = machine.kernel
        kernel.config = attrs.evolve(kernel.config, waits_for_better=seed % 5 < 2)
        breaker = Breaker(failures=2, open=4.0)
        if not seed % 3:
            kernel.config = attrs.evolve(kernel.config, concurrency=8)
            kernel.limit(8)
        machine.worker("fuse", "x", "y", max_concurrency=2, breaker=breaker)
        # This one opens late, if at all: a task that failed there avoids it before.
        late = Breaker(failures=50) if seed % 2 else breaker
        machine.worker("bad", "x", max_concurrency=1, breaker=late)
        poor = machine.worker("poor", "y", max_concurrency=2)
        for name in () if seed % 3 else "uv":
            # It has never been any good.
            kernel.record(poor, name).failed = poor.failed = 20

    def policies_of(self, **options: bool) -> Policies:
        """Who decides: one that divides, now and then."""
        if self.seed % 7 != 2:
            return super().policies_of(**options)
        policies = Sharing()
        policies.ranks, policies.backfills = options["ranks"], options["backfills"]
        return policies

    # -- commands ------------------------------------------------------------------

    def submit(self) -> None:
        """Some requests are elastic, where the allocator knows of that."""
        super().submit()
        if isinstance(self.machine.policies, Sharing) and self.dice.random() < 0.5:
            self.count += 1
            fallbacks: tuple[Fallback, ...] = ("best_effort", "all_or_nothing")
            request = Elastic(
                Resources(cpu=self.dice.choice([2, 4])),
                min={"cpu": self.dice.choice([1, 2])},
                fallback=self.dice.choice(fallbacks),
            )
            with suppress(UsageError):
                self.machine.submit(
                    f"t{self.count}",
                    type=self.dice.choice(NAMES),
                    resources=request,
                    requires=self.dice.choice(NEEDS),
                    owner=self.dice.choice(TENANTS),
                )

    def submit_alike(self) -> None:
        """Tasks that differ in little wait for the same few workers."""
        for _ in range(self.dice.randint(1, 5)):
            self.count += 1
            task_id = f"t{self.count}"
            self.machine.policies.delays[task_id] = [0, 0, 0, 0]
            with suppress(UsageError):
                self.machine.submit(
                    task_id,
                    type=self.dice.choice("uv"),
                    requires=(self.dice.choice("xy"),),
                    resources=Resources(cpu=self.dice.choice([0, 0, 1, 2, 3])),
                )

    def fall(self) -> None:
        """What runs on workers that are no good fails."""
        kernel = self.machine.kernel
        for task_id, attempt in list(self.out):
            row = kernel.tasks.get(task_id)
            if row is None or row.worker is None or row.attempt != attempt:
                continue
            if row.worker.name in ("bad", "fuse", "poor") and self.dice.random() < 0.9:
                self.out.remove((task_id, attempt))
                self.machine.end(task_id, "failed", attempt=attempt)

    def hold(self) -> None:
        """Somebody holds starts, or lets them go."""
        kernel, dice, now = self.machine.kernel, self.dice, self.machine.now
        who = dice.choice(["ann", "disk"])
        if who in kernel.holds:
            kernel.release_starts(who, now)
        else:
            most = dice.choice([0, 1, 2])
            kernel.hold_starts(who, most, "no room", now, lasts=who == "ann")
        self.machine.settle()

    def drain(self) -> None:
        """A worker gets nothing new, or something again."""
        kernel = self.machine.kernel
        name = self.dice.choice(["a", "fuse", "poor"])
        why = "" if kernel.workers[name].draining else "it is cleaned"
        kernel.drain(name, why, self.machine.now)
        self.machine.settle()

    def give_way(self) -> None:
        """Attempts wait for others, and wait for their slots again."""
        kernel, now = self.machine.kernel, self.machine.now
        running = self.rows(S.RUNNING)
        for row in running:
            if self.dice.random() < 0.5:
                kernel.yield_slot(row, row.attempt, now)
        self.machine.settle()
        for row in running:
            if row.state is S.RUNNING and self.dice.random() < 0.7:
                kernel.reclaim_slot(row, row.attempt, now)
        self.machine.settle()

    def lose(self) -> None:
        """The worker that lives elsewhere goes, or comes again."""
        kernel, now = self.machine.kernel, self.machine.now
        far = kernel.workers["far"]
        if far.lost:
            kernel.add_worker(far.info, now)
        else:
            kernel.leave("far", {*self.out}, now)
        self.machine.settle()

    def limit(self) -> None:
        """The system has room for less."""
        kernel = self.machine.kernel
        kernel.limit(max(kernel.running, self.dice.choice([1, 2, 8])), SEC)
        self.machine.settle()

    def step(self) -> None:
        """One command: of these, or of those of every run."""
        if self.seed % 3 and self.dice.random() < 0.5:
            super().step()
            return
        if not self.seed % 3:
            choices = [self.submit_alike] * 3 + [self.fall] * 3 + [self.end] * 4
            choices += [self.wait, self.change_pools, self.give_way]
            self.dice.choice(choices)()
            self.note_starts()
            return
        choices = [self.submit] * 6 + [self.fall] * 6
        choices += [self.hold, self.hold, self.drain, self.limit]
        choices += [self.give_way] * 3 + [self.lose]
        self.dice.choice(choices)()
        self.note_starts()

    def unsettle(self) -> None:
        """Much changes, and nothing has been dispatched since."""
        self.change_some()
        self.end_some()
        if self.dice.random() < 0.2:
            self.machine.kernel.pause()

    def settle(self) -> None:
        """Dispatch what the change has left."""
        self.machine.kernel.unpause()
        check_invariants(self.machine.kernel)
        self.machine.settle()
        self.note_starts()

    def waiting(self) -> list[TaskRow]:
        """The tasks that wait."""
        tasks = self.machine.kernel.tasks.values()
        return [row for row in tasks if row.state not in (*TERMINAL, S.RUNNING)]


def states(seed: int, steps: int = STEPS) -> Iterator[Hindered]:
    """A run after each of its steps; and now and then before it was dispatched."""
    run = Hindered(seed)
    for number in range(steps):
        run.step()
        yield run
        if number % 3 == 2:
            run.unsettle()
            yield run
            run.settle()


def answers(run: Hindered) -> Iterator[tuple[str, list[str]]]:
    """What is said of each task that waits: the id, and values and texts."""
    kernel, now = run.machine.kernel, run.machine.now
    for row in run.waiting():
        whole: Any = explain(kernel, row, now, whole=True, estimates=True)
        brief: Any = explain(kernel, row, now)
        yield row.id, [repr(whole), str(whole), repr(brief), str(brief)]
    search = Search(kernel, now, {})
    for _ in search.slices():
        pass
    for number, group in enumerate(search.groups):
        yield f"stuck {number}", [repr(group), str(group)]


def main(first: str, last: str) -> None:
    """Print what is said in the states of runs, from one seed up to another."""
    for seed in range(int(first), int(last)):
        for number, run in enumerate(states(seed)):
            for name, texts in answers(run):
                print(json.dumps([seed, number, name, texts]))


if __name__ == "__main__":
    main(*sys.argv[1:])
