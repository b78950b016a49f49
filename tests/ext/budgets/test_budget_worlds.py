"""
Random worlds of budgets, beside a count of our own.

Tasks are retried, suspended, cancelled, stopped, run again and forgotten, lives end and
are read again from events or a snapshot, budgets get more, less, or other resources. Of
each attempt it is known what it reserved, what it said, and how it ended.
"""

from random import Random

import attrs
import pytest
from tests.core.kernel.harness import SEC, Policies, Twin

from taskorch.core.kernel import Restoration, is_under_way, take_snapshot
from taskorch.ext.budgets._kernel import change_budget, declare_budget
from taskorch.model import Resources, TaskState

S = TaskState
NAMES = ("all", "part", "other")
WHOLE = {"all": ("all",), "part": ("part", "all"), "other": ("other",)}


@attrs.define
class Counted:
    """An attempt: what it has reserved and said, by resource, in millionths."""

    budget: str
    reserved: dict
    said: dict


class World:
    def __init__(self, seed):
        self.draw = Random(seed)
        self.policies = Policies()
        self.machine = Twin(policies=self.policies, concurrency=4, keep_finished=3)
        self.under_way: dict[tuple[str, int], Counted] = {}
        self.paid: dict[str, dict[str, int]] = {}
        self.spent: dict[str, dict[str, int]] = {}
        self.specs: dict[str, tuple[str, dict[str, int]]] = {}
        self.resources = {"all": {"tokens"}, "part": {"tokens"}, "other": {"tokens"}}
        self.count = 0
        for name in NAMES:
            parent = "all" if name == "part" else ""
            units = Resources(tokens=self.draw.randint(20, 300)).units
            declare_budget(self.kernel, name, units, parent, self.machine.now)
        self.machine.settle()

    @property
    def kernel(self):
        return self.machine.kernel

    def known(self, budget):
        """The resources of a budget, and of what it is part of."""
        return set.union(*(self.resources[name] for name in WHOLE[budget]))

    def rows(self, *states):
        return [row for row in self.kernel.tasks.values() if row.state in states]

    # -- what happens ------------------------------------------------------------------

    def submit(self):
        self.count += 1
        name, budget = f"t{self.count}", self.draw.choice(NAMES)
        spends = {
            what: self.draw.randint(0, 40) * 1_000_000
            for what in sorted(self.known(budget))
        }
        spends = {what: units for what, units in spends.items() if units}
        self.policies.delays[name] = [0] * self.draw.randint(0, 3)
        self.specs[name] = budget, spends
        options = {"timeout_ns": SEC} if self.draw.random() < 0.3 else {}
        self.machine.submit(
            name, budget=budget, spends=tuple(sorted(spends.items())), **options
        )

    def spend(self):
        row = self.one(S.RUNNING)
        if row is not None and (row.id, row.attempt) in self.under_way:
            one = self.under_way[row.id, row.attempt]
            units = {
                what: self.draw.randint(0, 30) * 500_000
                for what in ("tokens", "eur")
                if self.draw.random() < 0.6
            }
            units = tuple(sorted(units.items()))
            self.kernel.spend(row, row.attempt, units, self.machine.now)
            for what, many in units:
                one.said[what] = one.said.get(what, 0) + many
                self.pay(row.id, one.budget, what, many)

    def end(self):
        row = self.one(S.RUNNING)
        if row is not None:
            how = self.draw.choice(["completed", "failed", "lost", "unstarted"])
            stop = "" if row.extra is None else row.extra.stop
            # Of one that was asked to stop, nobody knows: it may not have done all.
            is_cut = how == "lost" or stop in ("cancel", "timeout")
            self.ends = row.id, "cut" if is_cut else "known"
            if how == "unstarted" and not is_cut:
                self.ends = row.id, "unbegun"
            self.machine.end(row.id, how)

    def stop(self):
        """An attempt that was asked to stop does so."""
        rows = [r for r in self.rows(S.RUNNING) if r.extra is not None and r.extra.stop]
        if rows:
            row = self.draw.choice(rows)
            self.ends = row.id, "known" if row.extra.stop == "suspend" else "cut"
            self.machine.end(row.id, "stopped")

    def late(self):
        """An attempt that would not stop ends after all."""
        if self.kernel.leaked:
            name, attempt = self.draw.choice(sorted(self.kernel.leaked))
            if name in self.kernel.tasks:
                self.machine.end(name, attempt=attempt)

    def cancel(self):
        row = self.one(S.RUNNING, S.QUEUED, S.SUSPENDED)
        if row is not None:
            self.machine.cancel(row.id)

    def suspend(self):
        row = self.one(S.RUNNING, S.QUEUED)
        if row is not None:
            self.machine.suspend(row.id, holdable=self.draw.random() < 0.5)

    def resume(self):
        row = self.one(S.SUSPENDED)
        if row is not None:
            self.machine.resume(row.id)

    def rerun(self):
        rows = [r for r in self.rows(S.COMPLETED, S.FAILED) if "~" not in r.id]
        rows = [r for r in rows if r.extra is None or r.extra.rerun_id is None]
        if rows:
            row = self.draw.choice(rows)
            name = self.machine.rerun(row.id)
            self.specs[name] = self.specs[row.id]

    def change(self):
        name = self.draw.choice(NAMES)
        what = self.draw.choice(["tokens", "tokens", "eur"])
        units = ((what, self.draw.randint(1, 400) * 1_000_000),)
        change_budget(
            self.kernel, name, units, self.machine.now, is_open=self.draw.random() < 0.2
        )
        self.resources[name].add(what)
        self.machine.settle()

    def wait(self):
        due = self.kernel.next_due()
        if due is not None:
            self.machine.at(due)

    def restart(self):
        self.machine.restart()
        self.close(lambda _key: True)
        self.machine.reopen()

    def restore(self):
        """From a snapshot and the events of the tasks that it names, the same comes."""
        snapshot = take_snapshot(self.kernel, self.machine.now)
        kernel = self.machine.folded(0)
        restoration = Restoration(kernel, snapshot)
        events = [event for event, _ in self.machine.sink]
        while restoration.missing(
            event
            for event in events
            if getattr(event, "task_id", "") in restoration.ids
        ):
            pass
        for event, cargo in self.machine.sink:
            if getattr(event, "task_id", "") in restoration.ids:
                restoration.fold(event, cargo)
        restoration.finish()
        for name, row in self.kernel.budgets.items():
            other = kernel.budgets[name]
            assert other.spent == row.spent
            for what, pool in row.pools.items():
                assert other.pools[what].used == pool.used, (name, what)
        for name, row in self.kernel.tasks.items():
            paid = None if row.extra is None else row.extra.paid
            extra = kernel.tasks[name].extra
            assert (None if extra is None else extra.paid) == paid

    def one(self, *states):
        rows = self.rows(*states)
        return self.draw.choice(rows) if rows else None

    # -- what it comes to --------------------------------------------------------------

    def pay(self, task_id, budget, what, many):
        paid = self.paid.setdefault(task_id, {})
        paid[what] = paid.get(what, 0) + many
        for name in WHOLE[budget]:
            if what in self.resources[name]:
                spent = self.spent.setdefault(name, {})
                spent[what] = spent.get(what, 0) + many

    def close(self, is_cut):
        """Attempts that are over count as what they have said, or may have spent."""
        for key in list(self.under_way):
            row = self.kernel.tasks.get(key[0])
            goes_on = row is not None and row.attempt == key[1] and is_under_way(row)
            if goes_on or key in self.kernel.leaked:
                continue
            one = self.under_way.pop(key)
            how = self.ends[1] if self.ends[0] == key[0] and not is_cut(key) else "cut"
            for what, units in one.reserved.items():
                if how == "unbegun" or (how == "known" and what in one.said):
                    continue
                self.pay(
                    key[0], one.budget, what, max(0, units - one.said.get(what, 0))
                )

    def step(self):
        self.ends = "", ""
        what = self.draw.choice(
            [self.submit] * 4
            + [self.spend] * 4
            + [self.end] * 4
            + [self.stop, self.stop, self.late, self.cancel, self.suspend, self.resume]
            + [self.resume, self.rerun, self.change, self.wait, self.restore]
        )
        if self.draw.random() < 0.03:
            what = self.restart
        what()
        self.close(lambda _key: False)
        for row in self.kernel.tasks.values():
            key = row.id, row.attempt
            if (
                row.state is S.RUNNING
                and key not in self.under_way
                and key not in self.kernel.leaked
            ):
                budget, spends = self.specs[row.id]
                self.under_way[key] = Counted(budget, dict(spends), {})
                self.paid.setdefault(row.id, {})
        self.check(what.__name__)

    def check(self, after):
        for name, row in self.kernel.budgets.items():
            spent = {what: units for what, units in row.spent.items() if units}
            expected = {w: u for w, u in self.spent.get(name, {}).items() if u}
            assert spent == expected, (after, name)
            for what, pool in row.pools.items():
                reserved = sum(
                    max(0, one.reserved.get(what, 0) - one.said.get(what, 0))
                    for one in self.under_way.values()
                    if name in WHOLE[one.budget]
                )
                assert pool.used - row.spent[what] <= reserved, (after, name)
        for row in self.kernel.tasks.values():
            paid = row.extra.paid if row.extra is not None else None
            expected = self.paid.get(row.id)
            assert (paid or {}) == {
                w: u for w, u in (expected or {}).items() if u or w in (paid or {})
            }, after


def run(seed, steps):
    world = World(seed)
    for _ in range(steps):
        world.step()
    return world


@pytest.mark.parametrize("seed", range(6))
def test_what_is_spent_is_what_was_said_or_may_have_been_spent(seed):
    world = run(seed, 60)
    assert world.spent


@pytest.mark.slow("600 worlds")
def test_so_it_is_in_many_worlds():
    for seed in range(1_000, 1_600):
        run(seed, 60)
