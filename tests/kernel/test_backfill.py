"""Later tasks pass the first that cannot start, and never put it off."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.kernel.harness import SEC, Machine, Policies, S
from tests.kernel.random_run import Run
from tests.kernel.test_elastic import Sharing

from taskorch.kernel import Kernel, explain
from taskorch.kernel._backfill import BEHIND, may_pass, reservation
from taskorch.kernel._limits import wanted
from taskorch.model import Elastic, Quota, Resources

CPU = ("", "cpu")


def machine(cpu=8, *, backfills=True, rigid=True, **options):
    policies = Policies(rigid=rigid, backfills=backfills)
    # First in, first out, but for priority.
    return Machine(policies=policies, pools=Resources(cpu=cpu, gpu=2), **options)


def submit(m, name, cpu, length=None, **options):
    """A task of a kind of its own; ids of what starts."""
    if length is not None:
        m.policies.lengths[name] = length
    options.setdefault("type", name)
    return m.submit(
        name, resources=Resources(cpu=cpu, **options.pop("more", {})), **options
    )


def kept(m):
    return reservation(m.kernel, m.now)


def spare(m):
    """What it leaves of cpu."""
    return kept(m).spare[CPU] // 1_000_000


def start_of(m):
    """When the reserved one is expected to start, in seconds from now."""
    return (kept(m).start_ns - m.now) / SEC


def test_what_ends_in_time_passes_and_what_does_not_waits():
    m = machine()
    assert submit(m, "runs", 6, 10) == ["runs"]
    assert submit(m, "large", 8, 5) == []
    assert (kept(m).row.id, start_of(m)) == ("large", 10)
    # It ends when the large one may start, at the latest.
    assert submit(m, "short", 1, 10) == ["short"]
    assert submit(m, "long", 1, 11) == []
    assert submit(m, "shorter", 1, 3) == ["shorter"]
    assert m.row("long").bucket.refusal == BEHIND
    m.now += 3 * SEC
    assert m.end("shorter") == []
    m.now += 7 * SEC
    assert m.end("short") == []
    assert m.end("runs") == ["large"]
    assert m.end("large") == ["long"]


def test_without_the_option_whatever_fits_starts():
    m = machine(backfills=False)
    submit(m, "runs", 6, 10)
    submit(m, "large", 8, 5)
    assert submit(m, "long", 1, 99) == ["long"]
    assert kept(m) is None


def test_what_takes_no_more_than_is_left_passes_however_long_it_takes():
    m = machine()
    submit(m, "one", 3, 10)
    submit(m, "two", 3, 20)
    submit(m, "large", 4, 5)
    # Once `one` has ended, five are free, of which it takes four.
    assert (start_of(m), spare(m)) == (10, 1)
    assert submit(m, "endless", 1) == ["endless"]
    assert spare(m) == 0
    assert submit(m, "other", 1, 11) == []
    assert submit(m, "else", 0, 99, more={"gpu": 1}) == ["else"]


def test_a_task_of_unknown_length_does_not_pass_by_its_length():
    m = machine()
    submit(m, "runs", 7, 10)
    submit(m, "large", 8)
    # It is not in its own way.
    assert m.kinds("large") == ["resource"]
    assert submit(m, "unknown", 1) == []
    told = m.why("unknown").blockers[0]
    assert (told.kind, told.name, told.until) == ("reservation", "large", 10.0)
    assert "nobody knows how long this one takes" in told.detail


def test_nobody_passes_while_the_length_of_what_runs_is_unknown():
    m = machine()
    submit(m, "runs", 6)
    submit(m, "large", 7, 5)
    assert kept(m).start_ns is None
    assert submit(m, "short", 1, 0.1) == []
    told = m.why("short")
    assert told.blockers[0].until is None
    assert "nobody knows how long some of what holds it takes" in str(told)
    # What it does not need, or leaves as things are now, is free for all.
    assert submit(m, "else", 0, more={"gpu": 2}) == ["else"]
    assert "nobody knows when that is" in m.why("large").order
    assert m.end("runs") == ["large", "short"]


def test_once_its_start_is_known_what_ends_before_may_pass():
    m = machine(9)
    submit(m, "runs", 4)
    submit(m, "known", 4, 10)
    submit(m, "large", 9, 5)
    assert kept(m).start_ns is None
    assert submit(m, "short", 1, 5) == []
    assert m.end("runs") == ["short"]
    assert start_of(m) == 10


def test_what_is_left_even_now_is_free_for_all_of_unknown_length():
    m = machine()
    submit(m, "runs", 2, more={"gpu": 2})
    submit(m, "large", 4, more={"gpu": 1})
    assert kept(m).start_ns is None
    assert spare(m) == 2
    assert submit(m, "two", 2) == ["two"]
    assert submit(m, "three", 1) == []


def test_lengths_are_learnt_from_the_type():
    m = machine()
    m.submit("first", type="kind", resources=Resources(cpu=6))
    m.now += 20 * SEC
    m.end("first")
    m.submit("second", type="kind", resources=Resources(cpu=6))
    submit(m, "large", 8)
    assert start_of(m) == 20
    m.now += 5 * SEC
    assert start_of(m) == 15


def test_an_expected_end_is_not_changed_by_what_is_learnt_later():
    m = machine(9)
    for name in ("first", "second"):
        m.submit(name, type="kind", resources=Resources(cpu=1))
    m.now += 20 * SEC
    m.end("first")
    submit(m, "large", 9)
    assert start_of(m) == 0
    m.submit("third", type="kind", resources=Resources(cpu=1))
    assert m.state("third") is S.QUEUED
    m.now += 20 * SEC
    assert m.end("second") == ["large"]


def test_once_its_time_has_come_nobody_passes_by_its_length():
    m = machine()
    submit(m, "late", 7, 10)
    submit(m, "large", 8, 5)
    m.now += 10 * SEC
    assert submit(m, "short", 1, 0) == []
    assert "which is due" in m.why("short").blockers[0].detail
    assert "others are late" in m.why("large").order
    m.now += 90 * SEC
    assert m.end("late") == ["large"]


def test_of_what_ends_at_this_very_instant_it_counts_on_what_it_needs_only():
    """Nobody knows which of it ends first; of what is to end yet, all is over then."""
    m = machine()
    submit(m, "one", 4, 10)
    submit(m, "other", 4, 10)
    submit(m, "next", 4, 5)
    assert spare(m) == 4
    m.after(10 * SEC)
    assert spare(m) == 0


def test_what_comes_first_in_order_needs_nobodys_leave():
    m = machine()
    submit(m, "runs", 6, 10)
    submit(m, "large", 8, 5)
    assert submit(m, "urgent", 2, 99, priority=9) == ["urgent"]
    # It has put off the large one, as what is more urgent does.
    assert start_of(m) == 99


def test_another_first_lets_others_pass():
    """A more urgent one that waits for something else takes the reservation over."""
    m = machine()
    submit(m, "runs", 6, 10, more={"gpu": 1})
    submit(m, "large", 8, 5)
    assert submit(m, "long", 1, 99) == []
    assert submit(m, "urgent", 0, 5, more={"gpu": 2}, priority=9) == ["long"]
    assert kept(m).row.id == "urgent"


@pytest.mark.parametrize("how", ["cancel", "suspend", "prioritise", "miss"])
def test_when_the_first_leaves_others_may_start(how):
    m = machine()
    submit(m, "runs", 6, 10)
    submit(m, "large", 8, 5, deadline=3 * SEC)
    assert submit(m, "long", 1, 99) == []
    if how == "prioritise":
        assert m.prioritise("large", -9) == ["long"]
    elif how == "miss":
        assert m.after(3 * SEC) == ["long"]
    else:
        assert getattr(m, how)("large") == ["long"]


def test_when_the_reservation_is_put_off_what_ends_before_may_pass():
    m = machine()
    submit(m, "runs", 6, 10)
    submit(m, "large", 8, 5)
    assert submit(m, "long", 1, 20) == []
    assert submit(m, "longer", 1, 100) == []
    assert submit(m, "urgent", 1, 99, priority=9) == ["urgent", "long"]
    assert (kept(m).row.id, start_of(m)) == ("large", 99)


@pytest.mark.parametrize("free", [0, 1])
def test_when_the_first_leaves_others_may_start_once_there_is_a_slot(free):
    m = machine(concurrency=2 + free)
    submit(m, "runs", 6, 10)
    submit(m, "large", 8, 5)
    assert submit(m, "long", 1, 99) == []
    assert submit(m, "brief", 1, 5) == ["brief"]
    assert m.cancel("large") == ["long"] * free
    assert m.end("brief") == ["long"] * (1 - free)


def test_when_the_first_leaves_nobody_starts_while_nothing_may():
    m = machine()
    submit(m, "runs", 6, 10)
    submit(m, "large", 8, 5)
    submit(m, "long", 1, 99)
    m.kernel.pause()
    assert m.cancel("large") == []
    m.kernel.unpause()
    assert m.settle() == ["long"]


def test_of_what_has_ended_no_end_is_expected_any_more():
    """However it ended, and however it was placed."""
    m = machine()
    m.policies.delays["again"] = [SEC]
    for name in ("plain", "next", "fails", "again", "gone"):
        m.submit(name, type="kind")
    submit(m, "holds", 1, 9)
    under_way = m.kernel.backfill.under_way
    assert len(under_way) == 6
    m.end("plain")
    m.end("next")
    m.end("holds")
    m.fail("fails")
    m.fail("again")
    m.cancel("gone")
    m.end("gone", "stopped")
    assert [*under_way] == []
    m.after(SEC)
    assert [*under_way] == [m.row("again")]


def test_a_first_whose_start_is_vetoed_is_in_nobodys_way():
    policies = Policies(rigid=True, backfills=True)
    policies.watches = frozenset({(S.QUEUED, S.RUNNING)})
    m = Machine(policies=policies, pools=Resources(cpu=8))
    submit(m, "runs", 6, 10)
    submit(m, "more", 1, 5)
    submit(m, "large", 8, 5)
    assert submit(m, "long", 1, 99) == []
    m.policies.vetoes["large", S.RUNNING] = "not today"
    assert m.end("more") == []
    assert m.end("runs") == ["long"]
    assert m.why("large").blockers[0].kind == "veto"


def test_of_two_that_wait_the_first_in_order_has_it_whichever_came_first():
    m = machine()
    submit(m, "runs", 6, 10)
    submit(m, "second", 7, 5)
    assert kept(m).row.id == "second"
    submit(m, "third", 8, 5)
    assert kept(m).row.id == "second"
    submit(m, "first", 8, 5, priority=9)
    assert kept(m).row.id == "first"


def test_what_is_held_by_hand_is_not_expected_to_come_free():
    m = machine()
    assert m.allocate("mine", cpu=4)
    assert submit(m, "large", 5, 5) == []
    assert kept(m) is None
    assert submit(m, "long", 4, 99) == ["long"]
    # Nor is what a pool never had.
    m.change_quotas(Quota(type="kept", max_parallel=0))
    m.submit("never", type="kept")
    assert kept(m) is None
    m.release("mine")
    assert (kept(m).row.id, start_of(m)) == ("large", 99)


def test_a_quota_is_a_pool_like_others():
    m = machine()
    m.change_quotas(Quota(type="kind", max_parallel=1))
    m.policies.lengths |= {"one": 10, "two": 10}
    m.submit("one", type="kind", resources=Resources(cpu=2))
    m.submit("two", type="kind", resources=Resources(cpu=4))
    assert (kept(m).row.id, start_of(m), spare(m)) == ("two", 10, 4)
    assert submit(m, "long", 4, 99) == ["long"]
    assert submit(m, "more", 1, 99) == []
    assert submit(m, "short", 1, 9) == ["short"]


def test_a_task_that_waits_for_a_slot_only_needs_no_reservation():
    m = machine()
    m.agent("solo", "x", max_concurrency=1)
    m.policies.lengths["one"] = 5
    m.submit("one", requires=("x",))
    m.submit("two", requires=("x",))
    assert kept(m) is None
    submit(m, "runs", 6, 10)
    submit(m, "large", 8)
    assert kept(m).row.id == "large"


def test_of_several_agents_one_is_enough():
    m = machine()
    for name in ("a", "b"):
        m.agent(name, "x", capacity=Resources(licence=2), max_concurrency=2)
    m.policies.lengths |= {"one": 20, "two": 10, "both": 5, "long": 99}
    for name in ("one", "two"):
        m.submit(name, type=name, requires=("x",), resources=Resources(licence=1))
    m.submit("both", type="both", requires=("x",), resources=Resources(licence=2))
    assert (kept(m).agent.name, start_of(m)) == ("b", 10)
    assert m.agent_of("two") == "b"
    m.submit("long", type="long", requires=("x",), resources=Resources(licence=1))
    assert m.agent_of("long") == "a"
    m.submit("third", type="third", requires=("x",), resources=Resources(licence=1))
    told = m.why("third")
    assert {(b.kind, b.agent) for b in told.blockers} >= {("reservation", "b")}
    m.now += 10 * SEC
    assert m.end("two") == ["both"]


@pytest.mark.parametrize("first", ["a", "b"])
def test_of_several_agents_the_one_counts_that_is_free_first(first):
    """In whatever order they have joined."""
    m = machine()
    for name in ("a", "b"):
        m.agent(name, "x", capacity=Resources(licence=1))
    ends = {"a": 10, "b": 20} if first == "a" else {"a": 20, "b": 10}
    for name, seconds in ends.items():
        m.policies.lengths[name] = seconds
        m.submit(name, type=name, requires=("x",), resources=Resources(licence=1))
        assert m.agent_of(name) == name
    m.submit("next", type="next", requires=("x",), resources=Resources(licence=1))
    assert (kept(m).agent.name, start_of(m)) == (first, 10)


def test_of_two_agents_that_are_both_late_the_first_counts():
    m = machine()
    for name, seconds in (("a", 5), ("b", 3)):
        m.agent(name, "x", capacity=Resources(licence=1))
        m.policies.lengths[name] = seconds
        m.submit(name, type=name, requires=("x",), resources=Resources(licence=1))
    m.submit("next", type="next", requires=("x",), resources=Resources(licence=1))
    assert kept(m).agent.name == "b"
    m.after(9 * SEC)
    assert (kept(m).agent.name, start_of(m)) == ("a", 0)


def test_where_the_registry_changes_its_mind_the_reservation_follows():
    """The first is looked at again in the same moment, and is to go elsewhere then."""
    m = machine()
    for name in ("a", "b"):
        m.agent(name, "x", capacity=Resources(licence=5))

    def knows(row, agent):
        reserved = m.kernel.backfill.reserved
        is_later = reserved is not None and reserved.row is row
        where = "b" if row.id == "other" or (row.id == "urgent" and is_later) else "a"
        return agent.name == where

    def submit(name, licences, **options):
        need = Resources(licence=licences)
        return m.submit(name, type=name, requires=("x",), resources=need, **options)

    m.policies.keeps_match = False
    m.policies.knows = knows
    m.policies.lengths |= {"runs": 10, "other": 10}
    assert submit("runs", 3) == ["runs"]
    assert submit("other", 5) == ["other"]
    assert submit("large", 5) == []
    assert submit("long", 2) == []
    assert submit("urgent", 4, priority=1) == ["long"]
    assert (kept(m).row.id, kept(m).agent.name) == ("urgent", "b")


def test_a_first_that_is_vetoed_when_it_is_looked_at_again_is_in_nobodys_way():
    policies = Policies(rigid=True, backfills=True)
    policies.watches = frozenset({(S.QUEUED, S.RUNNING)})
    policies.keeps_match = False
    m = Machine(policies=policies)
    for name in ("a", "b"):
        m.agent(name, "x", capacity=Resources(licence=5))

    def submit(name, licences, **options):
        need = Resources(licence=licences)
        return m.submit(name, type=name, requires=("x",), resources=need, **options)

    def check(row, before, after, reason, now):
        reserved = m.kernel.backfill.reserved
        is_later = reserved is not None and reserved.row is row
        return "not now" if row.id == "urgent" and is_later else None

    policies.check = check
    policies.knows = lambda row, agent: (
        agent.name == ("b" if row.id in ("other", "large") else "a")
    )
    policies.lengths |= {"runs": 10, "other": 10}
    assert submit("runs", 3) == ["runs"]
    assert submit("other", 5) == ["other"]
    assert submit("large", 5) == []
    # It is reserved for the urgent one, and so all are looked at again.
    m.kernel.paused = True
    submit("long", 2)
    submit("urgent", 4, priority=1)
    m.kernel.paused = False
    assert m.settle() == ["long"]
    assert kept(m).row.id == "large"


def test_what_nobody_can_do_is_kept_by_no_reservation():
    m = machine(refuse_unknown=False)
    submit(m, "runs", 6, 10)
    submit(m, "large", 8, 5)
    m.submit("odd", requires=("z",))
    assert m.kinds("odd") == ["capability"]


def test_a_stopped_program_has_no_expected_end():
    m = machine()
    submit(m, "runs", 6, 10)
    submit(m, "large", 8, 5)
    m.suspend("runs", holdable=True)
    assert m.row("runs").state is S.SUSPENDED
    assert kept(m).start_ns is None


def test_an_attempt_that_waits_holds_no_slot():
    m = machine(concurrency=3)
    submit(m, "outer", 1, 10)
    submit(m, "runs", 5, 10)
    submit(m, "large", 8, 5)
    m.kernel.yield_slot(m.row("outer"), 1, m.now)
    assert (start_of(m), kept(m).spare["", ""]) == (10, 2)


def test_what_is_explained():
    m = machine()
    submit(m, "runs", 6, 10)
    submit(m, "large", 8, 5)
    submit(m, "long", 1, 11)
    told = m.why("large")
    assert told.order == (
        "It is the first that cannot start: what it needs is reserved for it, on local "
        "in about 10 s; others pass it only if that does not put it off"
    )
    (blocker,) = m.why("long").blockers
    assert str(blocker) == (
        "large comes first: what it needs is reserved for it, in about 10 s; and this "
        "one takes about 11 s. This one passes it only if that does not put it off."
    )
    assert (blocker.until, blocker.remedies[0].tasks) == (10.0, ("large",))
    m.now += 9 * SEC + SEC // 2
    (blocker,) = m.why("long").blockers
    assert "is reserved for it, in about 500 ms; and" in blocker.detail
    m.now -= 9 * SEC + SEC // 2

    def guess(name):
        row = m.row(name)
        return explain(m.kernel, row, m.now, whole=True, estimates=True).estimate

    assert guess("large").seconds == 10
    assert "reserved" in guess("large").basis
    assert guess("long").seconds is None
    m.submit("other", type="large", resources=Resources(cpu=8))
    m.kernel.type_row("long").samples.append((0, 0, 0, 11 * SEC))
    m.kernel.type_row("runs").samples.append((0, 0, 0, 10 * SEC))
    assert guess("long").seconds >= 10
    m.suspend("runs", holdable=True)
    assert guess("long").seconds is None
    assert "nobody knows when large starts" in guess("long").basis


def test_an_allocator_that_puts_off_is_not_taken_for_a_reservation():
    m = machine(rigid=False)
    m.policies.refuses = lambda row, agent: "not today" if row.id == "odd" else None
    submit(m, "odd", 1, 1)
    assert kept(m) is None
    assert m.kinds("odd") == ["allocator"]


def elastic(m, name, most, least, length=None, fallback="best_effort"):
    if length is not None:
        m.policies.lengths[name] = length
    wants = Elastic(Resources(cpu=most), min={"cpu": least}, fallback=fallback)
    return m.submit(name, type=name, resources=wants)


def sharing(cpu=8):
    policies = Sharing()
    policies.backfills = True
    return Machine(policies=policies, pools=Resources(cpu=cpu))


def held(m, name):
    return dict(m.row(name).alloc).get("cpu", 0) // 1_000_000


def test_elastic_tasks_take_and_grow_no_further_than_a_reservation_leaves():
    m = sharing(12)
    submit(m, "one", 6, 10)
    submit(m, "small", 2, 99)
    submit(m, "large", 8, 5)
    assert (start_of(m), spare(m)) == (10, 2)
    # It ends in time, so it may have all.
    assert elastic(m, "brief", 4, 1, length=10) == ["brief"]
    assert held(m, "brief") == 4
    m.now += 5 * SEC
    m.end("brief")
    assert elastic(m, "wide", 4, 1, fallback="all_or_nothing") == []
    assert "a reservation, leaves less" in str(m.why("wide"))
    m.cancel("wide")
    assert elastic(m, "wider", 4, 1) == ["wider"]
    assert held(m, "wider") == 2
    m.checkpoint("wider")
    assert held(m, "wider") == 2
    assert m.cancel("large") == []
    m.checkpoint("wider")
    assert held(m, "wider") == 4


def test_a_share_that_is_not_free_is_the_allocators_word():
    m = sharing()
    elastic(m, "has", 6, 1)
    assert elastic(m, "wants", 8, 1, fallback="all_or_nothing") == []
    assert m.kinds("wants") == ["allocator"]


def test_what_grows_and_ends_in_time_may_have_all():
    m = sharing(8)
    submit(m, "one", 4, 10)
    submit(m, "two", 3, 5)
    elastic(m, "grows", 4, 1, length=9)
    submit(m, "large", 8, 5)
    assert held(m, "grows") == 1
    m.checkpoint("grows")
    m.now += 5 * SEC
    m.end("two")
    assert held(m, "grows") == 4
    assert start_of(m) == 5


def check_nobody_waits_for_nothing(kernel: Kernel, now: int) -> None:
    """After a dispatch: whoever is put off would put off the first, on every agent."""
    if kernel.paused or kernel.running >= kernel.concurrency:
        return
    for bucket in kernel.parked:
        row = bucket.head()
        if bucket.refusal != BEHIND or row is None:
            continue
        for agent in bucket.agents:
            need = wanted(bucket, agent)
            free = all(
                kernel.pools[n].total - kernel.pools[n].used >= u
                for n, u in need
                if n in kernel.pools
            ) and all(u <= agent.free(n) for n, u in need if n in agent.capacity)
            if free and agent.running < agent.limit:
                assert not may_pass(kernel, row, agent, need, now)


@given(seed=st.integers(0, 2**32))
def test_in_random_runs_all_invariants_hold(seed):
    from random import Random

    made = Run(Random(seed), ranks=False, backfills=True)
    machine = made.machine
    for _ in range(40):
        made.step()
        made.check()
        machine.settle()
        check_nobody_waits_for_nothing(machine.kernel, machine.now)
    made.finish()
