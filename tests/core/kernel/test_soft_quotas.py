"""Soft quotas: who is above theirs starts when nobody else can use what is free."""

import pytest
from tests.core.kernel.harness import Policies, Twin
from tests.core.kernel.test_elastic import elastic, machine_of

from taskorch.core.kernel import PolicyFault, check_invariants, passed_over
from taskorch.model import Quota, Resources

ONE = Resources(cpu=1)


@pytest.fixture
def machine():
    pools = Resources(cpu=4, gpu=2)
    return Twin(policies=Policies(rigid=True), pools=pools, concurrency=4)


def soft(kind="render", **limits):
    return Quota(type=kind, soft=True, **limits)


def together(machine, *tasks):
    """Submit tasks at one moment: an id, and what it asks for; ids of what starts."""
    machine.kernel.paused = True
    for name, options in tasks:
        machine.submit(name, **options)
    machine.kernel.paused = False
    return machine.settle()


def renders(*names, **options):
    return [(name, {"type": "render", **options}) for name in names]


def others(*names, **options):
    return [(name, {"type": "upload", **options}) for name in names]


# -- what else keeps a task --------------------------------------------------------


def wake_one_that_has_no_turn(machine):
    """Of two above their quotas, one is woken, and the last slot is taken before."""
    machine.change_quotas(soft(max_parallel=0), soft("sweep", max_parallel=0))
    machine.submit_all("x", "y", "z", type="upload")
    machine.allocate("lab", cpu=4)
    machine.submit("a", type="render", resources=ONE)
    machine.submit("s", type="sweep", resources=ONE)
    machine.kernel.paused = True
    machine.release("lab")
    assert together(machine, *others("w")) == ["w"]
    assert machine.row("a").bucket.carried is not None


def test_a_wake_up_that_nobody_can_use_any_more_goes_on(machine):
    wake_one_that_has_no_turn(machine)
    machine.cancel("a")
    assert machine.end("x") == ["s"]


def test_a_wake_up_that_nobody_can_use_any_more_ends_where_there_is_no_room(machine):
    wake_one_that_has_no_turn(machine)
    machine.allocate("lab", cpu=4)
    machine.cancel("a")
    assert machine.end("x") == []
    assert machine.release("lab") == ["s"]


def test_a_policy_that_fails_when_it_is_their_turn(machine):
    machine.change_quotas(soft(max_parallel=0))
    machine.worker("smith", "iron")
    machine.policies.keeps_match = False
    asks = {"requires": ("iron",)}
    matched = machine.policies.match

    def match(row, workers, now):
        # When all that stays within its quotas has started, it is matched once more.
        if row.id == "a" and "x" in machine.running():
            raise PolicyFault("registry", ValueError("it broke"))
        return matched(row, workers, now)

    machine.policies.match = match
    assert together(machine, *renders("a", "b", **asks), *others("x")) == ["x", "b"]
    assert machine.error("a")[2] == "component"
    assert machine.kernel.last is None


def test_a_queue_that_fails_when_it_is_their_turn(machine):
    machine = Twin(policies=Policies(ranks=True), concurrency=2)

    def standing(share, now):
        if share.owner == "ann" and "x" in machine.running():
            raise PolicyFault("queue", ValueError("it broke"))
        return 0.0

    machine.policies.standing = standing
    machine.change_quotas(soft(max_parallel=0))
    tasks = [*renders("a", owner="ann"), *renders("b", owner="bob")]
    assert together(machine, *tasks, *others("x")) == ["x", "b"]
    assert machine.error("a")[2] == "component"


def test_where_all_above_are_called_off_no_tenant_has_a_turn(machine):
    machine = Twin(policies=Policies(ranks=True), concurrency=2)
    machine.change_quotas(soft(max_parallel=0))
    tasks = [*renders("a", owner="ann"), *others("x", "y", owner="bob")]
    assert together(machine, *tasks) == ["x", "y"]
    machine.kernel.cancel(machine.row("a"), machine.now, "")
    assert machine.end("x") == []
    assert machine.kernel.above == []


# -- what is said ------------------------------------------------------------------


def test_the_books_are_counted_and_a_turn_that_is_missing_is_found(machine):
    machine.change_quotas(soft(max_parallel=0))
    together(machine, *renders("a"), *others("x", "y", "z", "w"))
    kernel, bucket = machine.kernel, machine.row("a").bucket
    entry, kernel.above[:] = kernel.above[0], []
    with pytest.raises(Exception, match="above its soft quota, and it has no turn"):
        check_invariants(kernel)
    late = (entry[0] + 1, entry[1], bucket)
    bucket.above, kernel.above[:] = late, [late]
    with pytest.raises(Exception, match="a has its turn too late"):
        check_invariants(kernel)
    bucket.above, kernel.above[:] = entry, [entry]
    check_invariants(kernel)


def test_who_was_passed_over_is_found(machine):
    machine.change_quotas(soft(max_parallel=0))
    machine.allocate("lab", cpu=4)
    machine.submit("x", type="upload", resources=ONE)
    machine.submit_all("a", type="render")
    machine.submit_all("v", "w", "y", type="upload")
    machine.submit("z", type="upload")
    kernel = machine.kernel
    firsts = [machine.row("x"), machine.row("z")]
    # Had it not started, z would have a slot; x would not have its core.
    assert passed_over(kernel, machine.row("a"), firsts, machine.now) is firsts[1]
    assert passed_over(kernel, machine.row("a"), firsts[:1], machine.now) is None
    machine.submit("b", type="render")
    rest = [machine.row("b")]
    assert passed_over(kernel, machine.row("a"), rest, machine.now) is None
    check_invariants(kernel)


def test_what_a_pool_has_is_given_back_for_the_look(machine):
    machine.change_quotas(soft(max_parallel=0))
    machine.submit("a", type="render", resources=Resources(cpu=4))
    machine.submit("x", type="upload", resources=ONE)
    rows = machine.row("a"), machine.row("x")
    assert passed_over(machine.kernel, rows[0], rows[1:], machine.now) is rows[1]
    assert machine.kernel.pools["cpu"].used == 4_000_000
    check_invariants(machine.kernel)


def test_what_it_may_write_is_given_back_for_the_look(machine):
    machine.change_quotas(soft(max_parallel=0))
    assert machine.submit("a", type="render", writes=("src",)) == ["a"]
    machine.submit("x", type="upload", writes=("src/app.py",))
    rows = machine.row("a"), machine.row("x")
    assert machine.states("x") == ["queued"]
    assert passed_over(machine.kernel, rows[0], rows[1:], machine.now) is rows[1]
    check_invariants(machine.kernel)


def test_of_what_is_divided_nobody_says_who_was_passed_over(machine):
    machine = machine_of(cpu=4, concurrency=4)
    machine.submit("a", type="render", resources=elastic(cpu=2))
    machine.submit_all("w", "x", "y", "z", type="upload")
    firsts = [machine.row("z")]
    assert passed_over(machine.kernel, machine.row("a"), firsts, machine.now) is None
    assert (
        passed_over(machine.kernel, machine.row("w"), firsts, machine.now) is not None
    )


# -- the laws ----------------------------------------------------------------------


def test_what_only_a_worker_has_is_given_back_for_the_look(machine):
    machine.worker("smith", "iron", capacity=Resources(anvil=1))
    asks = {"type": "forge", "requires": ("iron",), "resources": Resources(anvil=1)}
    assert machine.submit_all("a", "b", **asks) == ["a"]
    rows = machine.row("a"), machine.row("b")
    assert passed_over(machine.kernel, rows[0], rows[1:], machine.now) is rows[1]
    assert machine.kernel.workers["smith"].used == {"anvil": 1_000_000}
