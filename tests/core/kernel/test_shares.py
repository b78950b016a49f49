"""Owners share: the one that stands lowest is served first."""

import pytest
from tests.core.kernel.harness import SEC, Machine, Policies
from tests.core.kernel.sharing import Sharing
from tests.core.kernel.test_elastic import elastic

from taskorch.core.kernel import Spec, check_invariants
from taskorch.core.kernel._rows import Share
from taskorch.core.kernel._state import MANY, ShareView
from taskorch.errors import InternalError
from taskorch.model import Resources, TaskState


def sharing(**options):
    machine = Machine(policies=Policies(ranks=True, rigid=True), **options)
    machine.worker("x", "x")
    return machine


def submit(machine, owner, count, name=None, **options):
    """So many tasks of *owner*; ids of what starts."""
    first = len(machine.kernel.tasks)
    return [
        started
        for number in range(first, first + count)
        for started in machine.submit(
            f"{name or owner}{number}", owner=owner, requires=("x",), **options
        )
    ]


def test_grants_that_change_count_for_their_tenant():
    policies = Sharing()
    policies.ranks = True
    machine = Machine(policies=policies, pools=Resources(cpu=8))
    machine.submit("hold", owner="ben", resources=Resources(cpu=4))
    machine.submit("a", owner="ann", resources=elastic(8, 1))
    share = machine.kernel.shares.by_tenant["ann"]
    assert share.held == {"cpu": 4_000_000}
    machine.checkpoint("a")
    machine.end("hold")
    assert share.held == {"cpu": 8_000_000}
    machine.submit("b", owner="ben", resources=elastic(8, 1))
    machine.checkpoint("a")
    assert share.held == {"cpu": 4_000_000}
    check_invariants(machine.kernel)


def test_shares_at_one_place_are_in_the_order_in_which_they_came():
    assert Share("ben", 1) < Share("ann", 2)
    assert not Share("ann", 2) < Share("ben", 1)


def test_who_waits_for_a_slot_only_is_ranked_anew_when_a_pool_changes():
    machine = sharing(concurrency=1, pools=Resources(cpu=2))
    total = machine.kernel.pools["cpu"]
    machine.policies.ranking = lambda share: (
        {"ann": 0, "ben": 1} if total.total < 5_000_000 else {"ann": 0.5, "ben": 0}
    ).get(share.owner, 9)
    submit(machine, "cid", 1)
    submit(machine, "ann", 2)
    submit(machine, "ben", 1)
    assert machine.end("cid0") == ["ann1"]
    machine.change_pools(cpu=8)
    assert machine.end("ann1") == ["ben3"]


def test_shares_without_tasks_are_forgotten_once_others_were_served_often():
    machine = sharing(concurrency=1)
    kernel = machine.kernel
    for number in range(3):
        submit(machine, f"owner{number}", 1, name=f"t{number}-")
    assert len(kernel.shares.by_tenant) == 3
    kernel.most_buckets = 0
    machine.end("t0-0")
    kernel.bucket(Spec("new", owner="late"))
    assert [*kernel.shares.by_tenant] == ["owner0", "owner1", "owner2", "late"]
    kernel.shares.served += MANY
    kernel.most_buckets = 0
    kernel.bucket(Spec("newer", owner="late"))
    # The one runs, the other waits, and the last was just named.
    assert [*kernel.shares.by_tenant] == ["owner1", "owner2", "late"]
    assert machine.end("t1-1") == ["t2-2"]
    machine.end("t2-2")
    kernel.most_buckets = 0
    kernel.bucket(Spec("newest", owner="late"))
    # However many were served before, the last one was served lately.
    assert [*kernel.shares.by_tenant] == ["owner2", "late"]


def test_a_tenant_who_is_in_no_queue_is_found():
    machine = sharing(concurrency=1)
    submit(machine, "ben", 1)
    submit(machine, "ann", 1)
    machine.kernel.open.clear()
    with pytest.raises(InternalError, match="ann may have something to start, and no"):
        check_invariants(machine.kernel)


def test_what_a_tenant_wants_is_what_it_holds_and_what_all_its_tasks_ask_for():
    machine = sharing(pools=Resources(cpu=4), concurrency=8)
    submit(machine, "ann", 4, resources=Resources(cpu=3))
    view = ShareView(machine.kernel, machine.row("ann0").bucket.share)
    assert view.name == "ann"
    assert (view.running, view.queued) == (1, 3)
    assert (view.held, view.wanted) == (Resources(cpu=3), Resources(cpu=12))
    assert (view.share, view.demand) == (3 / 4, 3)
    # Of what nothing is held yet, all is asked for.
    submit(machine, "ben", 2, resources=Resources(cpu=2))
    other = ShareView(machine.kernel, machine.row("ben4").bucket.share)
    assert (other.held, other.wanted) == (Resources(), Resources(cpu=4))


def test_only_what_there_is_a_pool_of_counts_for_the_share_of_a_tenant():
    """What only a worker has is held, too."""
    machine = sharing(pools=Resources(cpu=4, gpu=2), concurrency=10)
    machine.worker("y", "y", capacity=Resources(licence=2))
    machine.submit("a", owner="ann", requires=("y",), resources=Resources(licence=2))
    view = ShareView(machine.kernel, machine.row("a").bucket.share)
    assert (view.held, view.share) == (Resources(licence=2), 1 / 10)
    machine.submit("b", owner="ann", requires=("y",), resources=Resources(gpu=1))
    assert (view.share, view.demand) == (1 / 2, 1 / 2)
    # Of a pool that has become nothing, any part is far more than all.
    machine.change_pools(gpu=0)
    assert view.share == 1_000_000


def test_an_attempt_that_waits_has_given_its_slot_back():
    machine = sharing(concurrency=2)
    submit(machine, "ann", 1)
    row, kernel = machine.row("ann0"), machine.kernel
    share = kernel.shares.by_tenant["ann"]
    assert kernel.yield_slot(row, 1, machine.now)
    assert share.running == 0
    assert kernel.reclaim_slot(row, 1, machine.now)
    assert share.running == 1
    machine.after(SEC)
    machine.end("ann0")
    assert share.running == 0


def test_an_attempt_that_waits_for_its_slot_goes_before_all_tenants():
    machine = sharing(concurrency=1)
    submit(machine, "ann", 1)
    row, kernel = machine.row("ann0"), machine.kernel
    kernel.yield_slot(row, 1, machine.now)
    assert submit(machine, "ben", 2) == ["ben1"]
    assert not kernel.reclaim_slot(row, 1, machine.now)
    assert machine.end("ben1") == []
    assert kernel.shares.by_tenant["ann"].running == 1
    assert machine.end("ann0") == ["ben2"]


def test_what_takes_long_to_stop_is_held_for_its_tenant():
    machine = sharing(concurrency=2)
    submit(machine, "ann", 1)
    row, share = machine.row("ann0"), machine.kernel.shares.by_tenant["ann"]
    machine.cancel("ann0")
    machine.kernel.give_up(row, machine.now)
    check_invariants(machine.kernel)
    assert (row.state, share.running) == (TaskState.CANCELLED, 1)
    machine.end("ann0", "stopped", attempt=1)
    assert share.running == 0


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda share: setattr(share, "running", 3), "ann has 1 slots, not 3"),
        (lambda share: share.held.update(cpu=7), "ann holds 1000000 cpu, not 7"),
        (lambda share: setattr(share, "entry", None), "ann may have something to st"),
    ],
)
def test_what_does_not_add_up_is_found(spoil, said):
    machine = sharing(concurrency=1, pools=Resources(cpu=4))
    submit(machine, "ann", 2, resources=Resources(cpu=1))
    spoil(machine.kernel.shares.by_tenant["ann"])
    with pytest.raises(InternalError, match=said):
        check_invariants(machine.kernel)
