"""Later tasks pass the first that cannot start, and never put it off."""

from __future__ import annotations

from hypothesis import given, strategies as st
from tests.core.kernel.harness import SEC, Machine, Policies, S
from tests.core.kernel.random_run import Run
from tests.core.kernel.sharing import Sharing

from taskorch.core.kernel import Kernel, explain
from taskorch.core.kernel._limits import wanted
from taskorch.core.kernel._reservation import BEHIND, may_pass, reservation
from taskorch.model import Resources


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


def test_a_first_that_is_vetoed_when_it_is_looked_at_again_is_in_nobodys_way():
    policies = Policies(rigid=True, backfills=True)
    policies.watches = frozenset({(S.QUEUED, S.RUNNING)})
    policies.keeps_match = False
    m = Machine(policies=policies)
    for name in ("a", "b"):
        m.worker(name, "x", capacity=Resources(licence=5))

    def submit(name, licences, **options):
        need = Resources(licence=licences)
        return m.submit(name, type=name, requires=("x",), resources=need, **options)

    def check(row, before, after, reason, now):
        reserved = m.kernel.reserving.reserved
        is_later = reserved is not None and reserved.row is row
        return "not now" if row.id == "urgent" and is_later else None

    policies.check = check
    policies.knows = lambda row, worker: (
        worker.name == ("b" if row.id in ("other", "large") else "a")
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
    m.policies.refuses = lambda row, worker: "not today" if row.id == "odd" else None
    submit(m, "odd", 1, 1)
    assert kept(m) is None
    assert m.kinds("odd") == ["allocator"]


def sharing(cpu=8):
    policies = Sharing()
    policies.backfills = True
    return Machine(policies=policies, pools=Resources(cpu=cpu))


def check_nobody_waits_for_nothing(kernel: Kernel, now: int) -> None:
    """After a dispatch: whoever is put off would put off the first, on every worker."""
    if kernel.paused or kernel.running >= kernel.concurrency:
        return
    for bucket in kernel.parked:
        row = bucket.head()
        if bucket.refusal != BEHIND or row is None:
            continue
        for worker in bucket.workers:
            need = wanted(bucket, worker)
            free = all(
                kernel.pools[n].total - kernel.pools[n].used >= u
                for n, u in need
                if n in kernel.pools
            ) and all(u <= worker.free(n) for n, u in need if n in worker.capacity)
            if free and worker.running < worker.limit:
                assert not may_pass(kernel, row, worker, need, now)


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
