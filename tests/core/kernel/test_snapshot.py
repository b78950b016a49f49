"""Snapshots: with far fewer events, the state is that to which all of them lead."""

import json
from itertools import chain
from operator import itemgetter
from random import Random
from typing import Any

import attrs
import pytest
from hypothesis import example, given, strategies as st
from tests.core.kernel.commands import handle
from tests.core.kernel.harness import SEC, Machine, Nobody, Policies, S
from tests.core.kernel.random_run import Run
from tests.core.kernel.sharing import Sharing
from tests.core.kernel.test_fold import (
    documented,
    mended,
    probed,
    tripped,
)
from tests.house.tools.explore import explore

from taskorch.core.kernel import (
    Kernel,
    Restoration,
    _state,
    check_invariants,
    differences,
    fold,
    recover,
    take_snapshot,
)
from taskorch.core.kernel._queue import BREAKER, LEASE, RETAINED, is_alive
from taskorch.errors import InternalError
from taskorch.events import (
    CATALOGUE,
    AllocationChanged,
    TaskCompleted,
    TaskEvent,
    TaskStarted,
    TaskSubmitted,
)
from taskorch.model import TERMINAL, Agent, Elastic, Quota, Resources

# -- what a driver does --------------------------------------------------------------


def new_like(kernel, policies=None, pools=None, **config):
    """An empty kernel, with the same resources and the same settings but for *config*."""
    if pools is None:
        # A quota comes with its event.
        pools = tuple(
            (pool.name, pool.total)
            for pool in kernel.pools.values()
            if not pool.is_quota
        )
    settings = attrs.evolve(kernel.config, **config)
    folding = policies or Nobody(ranks=kernel.shares is not None)
    return Kernel(settings, folding, Random(0), pools)


def folded(kernel, events):
    for event in events:
        fold(kernel, event)
    return kernel


class Journal:
    """Events, found by their number and by their task; it counts what is read."""

    def __init__(self, events):
        self.facts = list(events)
        self.selected = 0
        self.by_task = {}
        for event in self.facts:
            if issubclass(event[0], TaskEvent):
                self.by_task.setdefault(event[3], []).append(event)

    def select(self, ids, until):
        assert len(set(ids)) == len(ids)
        found = chain.from_iterable(self.by_task.get(name, ()) for name in ids)
        for event in sorted(found, key=lambda event: event[1]):
            if event[1] <= until:
                self.selected += 1
                yield event

    def read(self, after=0):
        return [event for event in self.facts if event[1] > after]


def restore(kernel, state, journal):
    """Bring *kernel*, which is new, to where *state* was taken."""
    restoration = Restoration(kernel, json.loads(json.dumps(state)))
    seq = restoration.seq
    events = chain(journal.select(restoration.ids, seq), journal.read(seq))
    while more := restoration.missing(events):
        events = journal.select(more, seq)
    for event in journal.select(restoration.ids, seq):
        restoration.fold(event)
    for event in journal.facts:
        if event[1] in restoration.events:
            restoration.fold(event)
    restoration.finish()
    return kernel


def sums(kernel):
    """What is neither in a row nor in the books."""
    types = {
        name: (
            *(row.completed, row.failed, row.cancelled, row.failures),
            *([*row.samples], [*(row.failing or ())]),
        )
        for name, row in kernel.types.items()
    }
    # What was refused has a type, and nobody was told.
    empty = (0, 0, 0, {}, [], [])
    return (
        kernel.causes,
        {name: told for name, told in types.items() if told != empty},
        list(kernel.workers),
        [row.id for row in kernel.finished],
        list(kernel.tasks),
        list(kernel.leaked),
        [
            (when, kind, row.id, attempt)
            for when, _, kind, row, attempt in sorted(
                kernel.timers, key=itemgetter(0, 1)
            )
            if kind not in (RETAINED, LEASE, BREAKER)
            and is_alive((when, 0, kind, row, attempt))
        ],
    )


def assert_alike(full, short):
    """Two kernels are the same, but that *short* need not know all that has ended."""
    assert set(short.evicted.items()) <= set(full.evicted.items())
    known, short.evicted = short.evicted, full.evicted
    assert differences(full, short) == []
    assert sums(full) == sums(short)
    # What was too much once is remembered only by who was there.
    assert all(pool.owed <= full.pools[name].owed for name, pool in short.pools.items())
    assert not short.not_folded
    check_invariants(short)
    short.evicted = known


def both_ways(live, state, events, pools=None):
    """
    The two kernels to which *events* lead, by way of *state* and without it.

    They are compared where *state* was taken, and after the last event.
    """
    journal = Journal(events)
    seq = state["counters"]["seq"]
    # The next incarnation begins no earlier, whatever its clock says.
    assert state["at_ns"] >= max((f[2] for f in events if f[1] <= seq), default=0)
    new = new_like(live, pools=pools)
    full = folded(new, [event for event in events if event[1] <= seq])
    short = restore(new_like(live), state, journal)
    assert_alike(full, short)
    for event in journal.read(seq):
        fold(full, event)
        fold(short, event)
    assert_alike(full, short)
    return full, short


# -- the sequel ----------------------------------------------------------------------


def told_by(kernel, now):
    """What a new incarnation of *kernel* tells in which everything comes to its end."""
    policies = Policies(rigid=True)
    policies.kernel = kernel
    kernel.deciders = policies
    sink = []
    kernel.listen(sink, frozenset(CATALOGUE))
    recover(kernel, kernel.epoch + 1, now)
    for worker in list(kernel.workers.values()):
        kernel.add_worker(worker.info, now)
    plenty = Resources(cpu=9, gpu=9, licence=9, memory_mb=9)
    kernel.add_worker(Agent("all", ("x", "y", "z"), capacity=plenty), now)
    kernel.change_quotas([(*whose, ()) for whose in kernel.quotas], now)
    for row in list(kernel.allocations.values()):
        kernel.release_allocation(row, now)
    kernel.change_pools(Resources(cpu=4, gpu=1, memory_mb=3).units, now)
    kernel.paused = False
    for number in range(400):
        now += SEC
        for worker in kernel.workers.values():
            kernel.beat(
                worker.name, [(row.id, row.attempt) for row in worker.seen], now
            )
        for row in list(kernel.tasks.values()):
            if row.state is S.SUSPENDED:
                kernel.resume(row, now)
            elif row.state is S.BLOCKED:
                kernel.decide(row, "fail" if number % 2 else "complete", now)
        starts, _ = handle(kernel, (), now)
        for row in starts:
            kernel.complete(row, row.attempt, now)
        if not any(row.state not in TERMINAL for row in kernel.tasks.values()):
            break
    assert not any(row.state not in TERMINAL for row in kernel.tasks.values())
    return [event for event, _ in sink]


def assert_same_sequel(full, short, now):
    assert told_by(full, now) == told_by(short, now)
    # By now the one that was restored has forgotten nothing that it needs.
    short.evicted = full.evicted
    assert differences(full, short) == []


# -- the law, over random histories --------------------------------------------------


#: Where among the steps of a run snapshots are taken.
WHEN = st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=4)


# Of what was skipped and has left memory, somebody asks where it began.
@example(seed=1981, keep=1, when=[0.5])
# What is allowed to fail has failed, and has left memory, before its dependents look at it.
@example(seed=15, keep=1, when=[0.5])
# An attempt is suspended although its function has returned, and its value is to be kept.
@example(seed=2, keep=1, when=[0.5])
@given(seed=st.integers(0, 10**6), keep=st.integers(0, 5), when=WHEN)
def test_a_snapshot_leads_where_all_events_lead(seed, keep, when):
    """Of a random run, after random steps; and the next incarnation tells the same."""
    made = Run(Random(seed))
    machine = made.machine
    settings = attrs.evolve(machine.kernel.config, keep_finished=keep)
    machine.kernel.config = made.shadow.config = settings
    machine.kernel.keep = keep
    places, states = {int(place * 50) for place in when}, []
    for step in range(50):
        made.step()
        if step in places:
            states.append(take_snapshot(machine.kernel, machine.now))
    events = [event for event, _ in machine.sink]
    for state in states:
        full, short = both_ways(machine.kernel, state, events, machine.pools)
        assert differences(machine.kernel, full) == []
        assert_same_sequel(full, short, machine.now + SEC)


class Snapshots:
    """An observer of a simulation, which takes a snapshot after every step."""

    def __init__(self):
        self.states = {}

    def step(self, kernel, items, now):
        if items:
            # A crash takes with it what was not kept: others have its numbers now.
            first = items[0][0][1]
            self.states = {seq: s for seq, s in self.states.items() if seq < first}
        self.states[kernel.seq] = take_snapshot(kernel, now)

    def crashed(self, acknowledged):
        pass

    def recovered(self, kernel, now):
        pass

    def finished(self, kernel):
        pass


@pytest.mark.slow("simulated worlds")
@given(seed=st.integers(0, 10**6), when=WHEN)
def test_the_same_of_a_simulated_world(seed, when):
    """Where messages are lost, workers die, and we crash as well."""
    snapshots = Snapshots()
    world: Any = explore(seed, 40, check=snapshots).world
    events = [event for event, _ in world.journal.read()]
    seqs = sorted(seq for seq in snapshots.states if seq <= events[-1][1])
    for place in when:
        state = snapshots.states[seqs[int(place * len(seqs))]]
        full, short = both_ways(world.incarnation.kernel, state, events)
        assert_same_sequel(full, short, events[-1][2] + SEC)


# -- what is needed besides the tasks in memory --------------------------------------


def with_snapshot(before, after=lambda machine: None, **config):
    """Both ways through a story, with a snapshot in its middle; and what was read."""
    machine = Machine(**config)
    before(machine)
    state = take_snapshot(machine.kernel, machine.now)
    after(machine)
    events = [event for event, _ in machine.sink]
    full, short = both_ways(machine.kernel, state, events)
    assert_same_sequel(full, short, machine.now + SEC)
    return machine, state, events


@pytest.mark.parametrize("story", [tripped, probed, mended, documented])
def test_what_a_worker_may_get_and_what_is_kept_is_in_a_snapshot(story):
    machine, state, events = with_snapshot(story)
    short = restored(machine, state, events)
    assert take_snapshot(short, machine.now) == take_snapshot(
        machine.kernel, machine.now
    )


def restored(machine, state, events):
    return restore(new_like(machine.kernel), state, Journal(events))


@pytest.mark.parametrize("then", [(), (Quota(type="call"),)])
@pytest.mark.parametrize("first", [(), (Quota(type="call", max_parallel=9),)])
def test_an_attempt_that_holds_other_amounts_since_there_is_another_quota(first, then):
    """Its events are read without those of quotas: what is held adds up as before."""

    def before(m):
        m.change_quotas(*first)
        for name in "tu":
            m.submit(name, resources=Elastic({"cpu": 4}, min={"cpu": 1}))
        m.change_quotas(Quota(type="call", max_parallel=8, resources={"cpu": 9}))
        m.change_quotas(*then)
        m.checkpoint("t")

    def after(m):
        assert m.states("t", "u") == [S.RUNNING, S.RUNNING]
        m.end("t")
        m.end("u")

    four = Resources(cpu=4)
    _, _, events = with_snapshot(before, after, policies=Sharing(), pools=four)
    assert any(event[0] is AllocationChanged for event in events)


# -- other incarnations, other settings ------------------------------------------------


def test_a_slot_that_leaked_before_is_of_nothing_in_memory_later_on():
    """Although this incarnation keeps more of what has ended."""
    machine = Machine(keep_finished=0)
    machine.submit("stubborn")
    machine.cancel("stubborn")
    machine.after(20 * SEC)
    events = [event for event, _ in machine.sink]

    wide = new_like(machine.kernel, keep_finished=9)
    short = restore(wide, take_snapshot(machine.kernel, machine.now), Journal(events))
    assert "stubborn" not in short.tasks
    assert dict(short.evicted.items()) == {"stubborn": S.CANCELLED}
    assert short.running == 1


# -- what does not fit ---------------------------------------------------------------


def test_a_snapshot_of_another_version_is_refused():
    machine = Machine()
    state = take_snapshot(machine.kernel, machine.now) | {"schema": 1}
    with pytest.raises(ValueError, match="schema 1"):
        Restoration(new_like(machine.kernel), state)


@pytest.mark.parametrize("kind", [TaskSubmitted, TaskStarted, TaskCompleted])
def test_events_that_do_not_lead_there_are_noticed(kind):
    """Of each kind that is frequent, one is missing in the journal."""
    machine = Machine(keep_finished=1)
    machine.submit("a")
    machine.submit("b", after=["a"])
    machine.end("a")
    state = take_snapshot(machine.kernel, machine.now)
    events = [event for event, _ in machine.sink]
    events.remove(next(event for event in events[::-1] if event[0] is kind))
    with pytest.raises((InternalError, KeyError)):
        restore(new_like(machine.kernel), state, Journal(events))


def test_of_many_types_the_records_are_as_they_were(monkeypatch):
    """Of those that were counted together, none has its own record afterwards."""
    monkeypatch.setattr(_state, "MANY", 1)

    def before(machine):
        for number in range(3):
            machine.submit(f"t{number}", type=f"kind{number}")
            machine.end(f"t{number}")

    machine, state, events = with_snapshot(before, keep_finished=1)
    records = restored(machine, state, events).workers["local"].records
    assert [*records] == ["kind0", "(other)"]
