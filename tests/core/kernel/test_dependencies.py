"""Dependencies as counters: what waits, what is blocked, and what unblocks it."""

import pytest
from tests.core.kernel.harness import SEC, Machine, S

from taskorch.core.kernel import (
    Spec,
    Terms,
    check_invariants,
    differences,
    take_snapshot,
)
from taskorch.errors import CycleError

SLOW = pytest.mark.slow("100,000 tasks")

MANY = 100_000


def test_a_rerun_that_cannot_run_itself():
    """Dependents of a re-run that is blocked from the start stay blocked, by that."""
    machine = Machine()
    machine.submit("a")
    machine.submit("b", after=["a"])
    machine.submit("c", after=["b"])
    machine.fail("a")
    machine.decide("b", "fail")
    machine.rerun("b")
    assert machine.state("b~2") is S.BLOCKED
    assert machine.state("c") is S.BLOCKED
    assert list(machine.extra("c").blocked_by) == ["b~2"]
    machine.rerun("a")
    assert machine.states("b~2", "c") == [S.PENDING] * 2


# -- many --------------------------------------------------------------------------


def big():
    machine = Machine(concurrency=1, listening=False, keep_finished=10 * MANY)
    kernel = machine.kernel
    bucket = kernel.bucket(Spec("call"))
    return machine, kernel, bucket


@SLOW
def test_a_chain_of_100_000():
    """Failing, mending and running a long chain needs no recursion."""
    machine, kernel, bucket = big()
    now = machine.now
    first = row = kernel.submit("t0", bucket, None, now)
    for n in range(1, MANY):
        row = kernel.submit_general(f"t{n}", bucket, None, now, parents=[row])
    kernel.dispatch(now)
    kernel.end_attempt(first, 1, "failed", now)
    assert kernel.blocked == MANY - 1
    assert machine.extra(row.id).roots == ("t0",)
    again = kernel.submit_general("t0~2", bucket, None, now, rerun_of=first)
    kernel.repoint(first, again, now)
    assert kernel.pending == MANY - 1
    kernel.dispatch(now)
    kernel.starts.remove(first)
    while kernel.starts:
        kernel.complete(kernel.starts.pop(), 1, now)
        kernel.dispatch(now)
    assert kernel.completed == MANY
    check_invariants(kernel)


@SLOW
@pytest.mark.parametrize("on_failure", ["skip", "fail", "run"])
def test_a_chain_of_100_000_with_terms(on_failure):
    """A failure, or a cancellation, goes down all of it, and so does its fold."""
    listening = on_failure == "skip"
    machine = Machine(concurrency=1, keep_finished=2 * MANY, listening=listening)
    kernel, now = machine.kernel, machine.now
    bucket = kernel.bucket(Spec("call"))
    first = row = kernel.submit("t0", bucket, None, now)
    for n in range(1, MANY):
        terms = Terms("all", on_failure)
        row = kernel.submit_general(
            f"t{n}", bucket, None, now, parents=[row], terms=terms
        )
    kernel.dispatch(now)
    kernel.starts.clear()
    if on_failure == "skip":
        kernel.end_attempt(first, 1, "failed", now)
    else:
        kernel.cancel(first, now, "called off")
        kernel.end_attempt(first, 1, "stopped", now)
    while on_failure == "run" and row.state is not S.COMPLETED:
        kernel.dispatch(now)
        kernel.complete(kernel.starts.pop(), 1, now)
    ended = {"skip": S.CANCELLED, "fail": S.FAILED, "run": S.COMPLETED}
    assert row.state is ended[on_failure]
    if on_failure != "run":
        assert machine.extra(row.id).first_roots == ("t0",)
    if listening:
        assert differences(kernel, machine.folded(), ["t0", row.id]) == []
    assert len(take_snapshot(kernel, now)["tasks"]) == MANY


@SLOW
def test_a_fan_in_of_100_000():
    """A join of many is counted, and not searched; so is a ring with it."""
    _, kernel, bucket = big()
    now = SEC
    rows = [kernel.submit(f"t{n}", bucket, None, now) for n in range(MANY)]
    task = kernel.submit_general(
        "join", bucket, None, now, parents=rows, terms=Terms("finished")
    )
    leaf = kernel.submit_general("leaf", bucket, None, now, parents=[task])
    with pytest.raises(CycleError) as caught:
        kernel.add_parents(task, [leaf], now)
    assert caught.value.cycle == ("join", "leaf")
    while leaf.state is not S.COMPLETED:
        kernel.dispatch(now)
        kernel.complete(kernel.starts.pop(), 1, now)


@SLOW
def test_a_fan_out_of_100_000():
    """One completion releases all that wait for it."""
    machine, kernel, bucket = big()
    now = machine.now
    root = kernel.submit("root", bucket, None, now)
    for n in range(MANY):
        kernel.submit_general(f"t{n}", bucket, None, now, parents=[root])
    kernel.dispatch(now)
    kernel.complete(root, 1, now)
    assert kernel.queued == MANY
    check_invariants(kernel)
