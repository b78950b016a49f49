"""Snapshots: with far fewer facts, the state is that to which all of them lead."""

import json
from itertools import chain
from operator import itemgetter
from random import Random
from typing import Any

import attrs
import pytest
from hypothesis import example, given, strategies as st
from tests.kernel.commands import handle
from tests.kernel.harness import SEC, Machine, Nobody, Policies, S
from tests.kernel.random_run import Run
from tests.kernel.sharing import Sharing
from tests.kernel.test_fold import (
    documented,
    mended,
    probed,
    tripped,
)
from tests.tools.explore import explore

from taskorch.errors import InternalError
from taskorch.events import (
    CATALOGUE,
    TASK_ID,
    AllocationChanged,
    TaskCompleted,
    TaskEvent,
    TaskStarted,
    TaskSubmitted,
)
from taskorch.kernel import (
    Kernel,
    Restoration,
    Spec,
    TaskRow,
    _state,
    check_invariants,
    differences,
    fold,
    recover,
    take_snapshot,
    without_tasks,
)
from taskorch.kernel._queue import BREAKER, LEASE, RETAINED, is_alive
from taskorch.model import TERMINAL, Agent, Breaker, Elastic, Quota, Resources

# -- what a driver does --------------------------------------------------------------


def new_like(kernel, policies=None, pools=None, **config):
    """An empty kernel, with the same resources and the same settings but for *config*."""
    if pools is None:
        # A quota comes with its fact.
        pools = tuple(
            (pool.name, pool.total)
            for pool in kernel.pools.values()
            if not pool.is_quota
        )
    settings = attrs.evolve(kernel.config, **config)
    folding = policies or Nobody(ranks=kernel.shares is not None)
    return Kernel(settings, folding, Random(0), pools)


def folded(kernel, facts):
    for fact in facts:
        fold(kernel, fact)
    return kernel


class Journal:
    """Facts, found by their number and by their task; it counts what is read."""

    def __init__(self, facts):
        self.facts = list(facts)
        self.selected = 0
        self.by_task = {}
        for fact in self.facts:
            if issubclass(fact[0], TaskEvent):
                self.by_task.setdefault(fact[3], []).append(fact)

    def select(self, ids, until):
        assert len(set(ids)) == len(ids)
        found = chain.from_iterable(self.by_task.get(name, ()) for name in ids)
        for fact in sorted(found, key=lambda fact: fact[1]):
            if fact[1] <= until:
                self.selected += 1
                yield fact

    def read(self, after=0):
        return [fact for fact in self.facts if fact[1] > after]


def restore(kernel, state, journal):
    """Bring *kernel*, which is new, to where *state* was taken."""
    restoration = Restoration(kernel, json.loads(json.dumps(state)))
    seq = restoration.seq
    facts = chain(journal.select(restoration.ids, seq), journal.read(seq))
    while more := restoration.missing(facts):
        facts = journal.select(more, seq)
    for fact in journal.select(restoration.ids, seq):
        restoration.fold(fact)
    for fact in journal.facts:
        if fact[1] in restoration.events:
            restoration.fold(fact)
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
        list(kernel.agents),
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


def both_ways(live, state, facts, pools=None):
    """
    The two kernels to which *facts* lead, by way of *state* and without it.

    They are compared where *state* was taken, and after the last fact.
    """
    journal = Journal(facts)
    seq = state["counters"]["seq"]
    # The next life begins no earlier, whatever its clock says.
    assert state["at_ns"] >= max((f[2] for f in facts if f[1] <= seq), default=0)
    new = new_like(live, pools=pools)
    full = folded(new, [fact for fact in facts if fact[1] <= seq])
    short = restore(new_like(live), state, journal)
    assert_alike(full, short)
    for fact in journal.read(seq):
        fold(full, fact)
        fold(short, fact)
    assert_alike(full, short)
    return full, short


# -- the sequel ----------------------------------------------------------------------


def told_by(kernel, now):
    """What a new life of *kernel* tells in which everything comes to its end."""
    policies = Policies(rigid=True)
    policies.kernel = kernel
    kernel.deciders = policies
    sink = []
    kernel.listen(sink, frozenset(CATALOGUE))
    recover(kernel, kernel.epoch + 1, now)
    for agent in list(kernel.agents.values()):
        kernel.add_agent(agent.info, now)
    plenty = Resources(cpu=9, gpu=9, licence=9, memory_mb=9)
    kernel.add_agent(Agent("all", ("x", "y", "z"), capacity=plenty), now)
    kernel.change_quotas([(*whose, ()) for whose in kernel.quotas], now)
    for row in list(kernel.allocations.values()):
        kernel.release_allocation(row, now)
    kernel.change_pools(Resources(cpu=4, gpu=1, memory_mb=3).units, now)
    kernel.paused = False
    for number in range(400):
        now += SEC
        for agent in kernel.agents.values():
            kernel.beat(agent.name, [(row.id, row.attempt) for row in agent.seen], now)
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
    return [fact for fact, _ in sink]


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
@given(seed=st.integers(0, 10**6), keep=st.integers(0, 5), when=WHEN)
def test_a_snapshot_leads_where_all_facts_lead(seed, keep, when):
    """Of a random run, after random steps; and the next life tells the same."""
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
    facts = [fact for fact, _ in machine.sink]
    for state in states:
        full, short = both_ways(machine.kernel, state, facts, machine.pools)
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
    """Where messages are lost, agents die, and we crash as well."""
    snapshots = Snapshots()
    world: Any = explore(seed, 40, check=snapshots).world
    facts = [fact for fact, _ in world.journal.read()]
    seqs = sorted(seq for seq in snapshots.states if seq <= facts[-1][1])
    for place in when:
        state = snapshots.states[seqs[int(place * len(seqs))]]
        full, short = both_ways(world.life.kernel, state, facts)
        assert_same_sequel(full, short, facts[-1][2] + SEC)


# -- what is needed besides the tasks in memory --------------------------------------


def with_snapshot(before, after=lambda machine: None, **config):
    """Both ways through a story, with a snapshot in its middle; and what was read."""
    machine = Machine(**config)
    before(machine)
    state = take_snapshot(machine.kernel, machine.now)
    after(machine)
    facts = [fact for fact, _ in machine.sink]
    full, short = both_ways(machine.kernel, state, facts)
    assert_same_sequel(full, short, machine.now + SEC)
    return machine, state, facts


@pytest.mark.parametrize("story", [tripped, probed, mended, documented])
def test_what_an_agent_may_get_and_what_is_kept_is_in_a_snapshot(story):
    machine, state, facts = with_snapshot(story)
    short = restored(machine, state, facts)
    assert take_snapshot(short, machine.now) == take_snapshot(
        machine.kernel, machine.now
    )


def parents_of(kernel, name):
    links = kernel.row(name).links
    return [] if links is None else list(links.parents)


def restored(machine, state, facts):
    return restore(new_like(machine.kernel), state, Journal(facts))


def test_what_has_ended_can_be_left_out_of_a_snapshot_and_counts_all_the_same():
    """Its facts are gone; of the others, all is as it was."""
    machine = Machine()
    for name in ("gone", "kept", "also gone"):
        machine.submit(name)
        machine.end(name)
    machine.submit("late", after=["kept"])
    state = take_snapshot(machine.kernel, machine.now)
    ids = {"gone", "also gone"}
    gone = {(name,) for name in ids}
    facts = [fact for fact, _ in machine.sink if fact[TASK_ID:][:1] not in gone]
    short = restored(machine, without_tasks(state, ids), facts)
    assert list(short.tasks) == ["kept", "late"]
    assert short.completed == machine.kernel.completed == 3
    assert sums(short)[:3] == sums(machine.kernel)[:3]
    assert set(state["tasks"]) == {*ids, "kept", "late"}


def test_what_a_later_task_waits_for():
    """That it had ended before the snapshot is known; one of its batch is still to come."""

    def before(m):
        m.submit_all("good", "bad")
        m.end("good")
        m.fail("bad")

    def after(m):
        kernel = m.kernel
        bucket = kernel.bucket(Spec("call"))
        rows = {n: TaskRow(n, 0, bucket, None, m.now) for n in ("a", "b", "c")}
        for name, end in (("good", S.COMPLETED), ("bad", S.FAILED)):
            rows[name] = TaskRow(name, 0, bucket, None, m.now)
            rows[name].state = end
        # Those of a batch may name each other in any order.
        for name, parents in (("a", ("good", "c")), ("b", ("bad",)), ("c", ("good",))):
            of = [rows[parent] for parent in parents]
            kernel.accept(kernel.consider(rows[name], m.now, parents=of), m.now)
        m.settle()

    machine, _, _ = with_snapshot(before, after, keep_finished=0)
    assert machine.states("a", "b", "c") == [S.PENDING, S.BLOCKED, S.RUNNING]


@pytest.mark.parametrize("then", [(), (Quota(type="call"),)])
@pytest.mark.parametrize("first", [(), (Quota(type="call", max_parallel=9),)])
def test_an_attempt_that_holds_other_amounts_since_there_is_another_quota(first, then):
    """Its facts are read without those of quotas: what is held adds up all the same."""

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
    _, _, facts = with_snapshot(before, after, policies=Sharing(), pools=four)
    assert any(fact[0] is AllocationChanged for fact in facts)


def test_a_long_line_of_ancestors_is_not_read():
    """Of what has left memory, only parents of what has not: no grandparents."""
    machine = Machine(keep_finished=1)
    machine.submit("t0")
    for number in range(1, 200):
        machine.submit(f"t{number}", after=[f"t{number - 1}"])
        machine.end(f"t{number - 1}")
    facts = [fact for fact, _ in machine.sink]
    state = take_snapshot(machine.kernel, machine.now)
    assert state["tasks"] == ["t198", "t199"]

    journal = Journal(facts)
    short = restore(new_like(machine.kernel), state, journal)
    assert_alike(folded(new_like(machine.kernel), facts), short)
    assert len(facts) > 500
    # t197, t198 and t199, each of them twice.
    assert journal.selected <= 18
    assert dict(short.evicted.items()) == {"t197": S.COMPLETED}


# -- other lives, other settings -----------------------------------------------------


@pytest.mark.parametrize("keep", [0, 1, 2, 9])
def test_a_life_that_keeps_another_number_of_finished_tasks(keep):
    """Fewer than the last one did, or as many; where it is more, they are gone."""
    machine = Machine(keep_finished=2)
    machine.submit("parent")
    machine.fail("parent")
    machine.submit("child", after=["parent"])
    machine.submit("sister", after=["parent"])
    machine.submit("x")
    machine.end("x")
    machine.rerun("parent")
    for name in ("y", "z"):
        machine.submit(name)
        machine.end(name)
    facts = [fact for fact, _ in machine.sink]

    full = folded(new_like(machine.kernel, keep_finished=keep), facts)
    short = restore(
        new_like(machine.kernel, keep_finished=keep),
        take_snapshot(machine.kernel, machine.now),
        Journal(facts),
    )
    both = [name for name in full.tasks if name in short.tasks]
    assert differences(full, short, both) == []
    assert [row.id for row in short.finished] == ["y", "z"][-keep:] * (keep > 0)
    assert parents_of(short, "child") == [short.row("parent~2")]
    assert parents_of(short, "sister") == [short.row("parent~2")]


def test_a_slot_that_leaked_before_is_of_nothing_in_memory_later_on():
    """Although this life keeps more of what has ended."""
    machine = Machine(keep_finished=0)
    machine.submit("stubborn")
    machine.cancel("stubborn")
    machine.after(20 * SEC)
    facts = [fact for fact, _ in machine.sink]

    wide = new_like(machine.kernel, keep_finished=9)
    short = restore(wide, take_snapshot(machine.kernel, machine.now), Journal(facts))
    assert "stubborn" not in short.tasks
    assert dict(short.evicted.items()) == {"stubborn": S.CANCELLED}
    assert short.running == 1


def test_a_rerun_that_drives_out_what_it_runs_again():
    """It fails at once, and only one is kept: then its dependents are given to it."""

    def before(m):
        m.submit("parent")
        m.submit("child", after=["parent"])
        m.fail("parent")
        row = m.row("parent")
        again = m.kernel.submit_general(
            "again", row.bucket, None, m.now, deadline_ns=m.now, rerun_of=row
        )
        m.kernel.repoint(row, again, m.now)

    machine, state, _ = with_snapshot(before, keep_finished=1)
    assert state["tasks"] == ["child", "again"]
    assert list(machine.extra("child").blocked_by) == ["again"]


# -- what a snapshot is --------------------------------------------------------------


@given(seed=st.integers(0, 10**6))
def test_a_snapshot_is_json_and_says_what_the_facts_say(seed):
    """Taken of the live kernel, or of one that was restored, it is the same."""
    made = Run(Random(seed))
    for _ in range(30):
        made.step()
    live = made.machine.kernel
    state = take_snapshot(live, made.machine.now)
    assert json.loads(json.dumps(state)) == state
    facts = [fact for fact, _ in made.machine.sink]
    again = restore(new_like(live), state, Journal(facts))
    assert take_snapshot(again, made.machine.now) == state


def test_a_restoration_says_what_it_is_of():
    """Which fact it holds for, when it was taken, and what it needs to be told."""
    machine = Machine(keep_finished=0)
    machine.submit_all("a", "b")
    machine.end("a")
    machine.emit("go", keep=9 * SEC)
    event = machine.kernel.seq
    machine.submit("c")
    machine.after(3 * SEC)
    restoration = Restoration(
        new_like(machine.kernel), take_snapshot(machine.kernel, machine.now)
    )
    assert restoration.seq == machine.kernel.seq == event + 2
    assert restoration.at_ns == machine.now == 4 * SEC
    assert restoration.ids == ["b", "c"]
    assert restoration.events == [event]
    assert [restoration.is_kept(name) for name in "abc"] == [False, True, True]


def test_a_snapshot_does_not_change_with_the_kernel():
    machine = Machine()
    machine.submit("a")
    state = take_snapshot(machine.kernel, machine.now)
    before = json.dumps(state)
    machine.end("a")
    machine.submit("b")
    machine.fail("b")
    assert json.dumps(state) == before


def test_agents_are_as_they_joined():
    """Every field of an agent survives, and so does its record."""
    infos = [
        Agent("plain"),
        Agent(
            "rich",
            capabilities=("x", "y"),
            max_concurrency=3,
            capacity=Resources(cpu=2.5, gpu=1),
            request=Resources(cpu=0.1),
            lease=0.1,
            breaker=Breaker(failures=3),
            labels=("platform:linux", "python:3.12"),
            host="db1",
        ),
        Agent("poor", capacity=Resources(), max_concurrency=1),
    ]
    assert all(
        any(getattr(info, field.name) != field.default for info in infos)
        for field in attrs.fields(Agent)
    )
    machine = Machine()
    for info in infos:
        machine.kernel.add_agent(info, machine.now)
    for number in range(5):
        machine.submit(f"t{number}", requires=("x",))
        machine.after(10**8 // 3)
        machine.beat("rich", (f"t{number}", 1))
        machine.end(f"t{number}", "failed" if number == 3 else "completed")
    machine.after(9 * SEC)

    short = restored(
        machine,
        take_snapshot(machine.kernel, machine.now),
        [f for f, _ in machine.sink],
    )
    agents = list(short.agents.values())[1:]
    assert [agent.info for agent in agents] == infos
    assert [agent.lost for agent in agents] == [False, True, False]
    rich, live = agents[1], machine.kernel.agents["rich"]
    assert (rich.completed, rich.failed) == (4, 1)
    assert rich.view.performance("call") == live.view.performance("call")


def test_the_place_in_the_queue_is_that_of_the_submission():
    """Of tasks with like keys, what came first is first, before and after."""
    machine = Machine(keep_finished=0, concurrency=1)
    machine.submit_all("a", "b", "c", "d")
    machine.end("a")
    machine.prioritise("c", 0)
    state = take_snapshot(machine.kernel, machine.now)
    machine.submit("e")
    machine.prioritise("d", 0)
    _, short = both_ways(machine.kernel, state, [fact for fact, _ in machine.sink])
    assert [row.seq for row in short.tasks.values()] == [1, 2, 3, 4]
    assert [row.id for row in short.row("c").bucket.rows()] == ["c", "d", "e"]


# -- what does not fit ---------------------------------------------------------------


def test_a_snapshot_of_another_version_is_refused():
    machine = Machine()
    state = take_snapshot(machine.kernel, machine.now) | {"schema": 1}
    with pytest.raises(ValueError, match="schema 1"):
        Restoration(new_like(machine.kernel), state)


@pytest.mark.parametrize("kind", [TaskSubmitted, TaskStarted, TaskCompleted])
def test_facts_that_do_not_lead_there_are_noticed(kind):
    """Of each kind that is frequent, one is missing in the journal."""
    machine = Machine(keep_finished=1)
    machine.submit("a")
    machine.submit("b", after=["a"])
    machine.end("a")
    state = take_snapshot(machine.kernel, machine.now)
    facts = [fact for fact, _ in machine.sink]
    facts.remove(next(fact for fact in facts[::-1] if fact[0] is kind))
    with pytest.raises((InternalError, KeyError)):
        restore(new_like(machine.kernel), state, Journal(facts))


def test_what_only_tasks_that_are_gone_have_waited_for_is_not_read():
    """Neither from their submission, nor because it was added later."""

    def before(m):
        m.submit_all("first", "second")
        m.submit("gone", after=["first"])
        m.suspend("gone")
        m.add_parents("gone", "second")
        m.end("first")
        m.end("second")
        m.resume("gone")
        m.end("gone")
        m.submit("here")

    machine, state, facts = with_snapshot(before, lambda m: None, keep_finished=0)
    restoration = Restoration(machine.folded(0), state)
    assert restoration.ids == ["here"]
    assert restoration.missing(fact for fact in facts) == []
    # What has come since the snapshot is known by that, whichever came first.
    machine.submit("late")
    machine.submit("later", after=["late", "here"])
    since = [fact for fact, _ in machine.sink[len(facts) :]]
    assert restoration.missing(since) == []


def test_of_many_types_the_records_are_as_they_were(monkeypatch):
    """Of those that were counted together, none has its own record afterwards."""
    monkeypatch.setattr(_state, "MANY", 1)

    def before(machine):
        for number in range(3):
            machine.submit(f"t{number}", type=f"kind{number}")
            machine.end(f"t{number}")

    machine, state, facts = with_snapshot(before, keep_finished=1)
    records = restored(machine, state, facts).agents["local"].records
    assert [*records] == ["kind0", "(other)"]
