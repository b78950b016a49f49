"""Soft quotas: who is above theirs starts when nobody else can use what is free."""

import pytest
from hypothesis import given, settings, strategies as st
from tests.kernel.harness import SEC, Machine, Policies, Twin
from tests.kernel.test_elastic import elastic, machine_of
from tests.tools.examples import examples

from taskorch.kernel import PolicyFault, check_invariants, explain, passed_over
from taskorch.kernel._limits import exceeded
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


# -- what it is --------------------------------------------------------------------


def test_it_is_set_changed_and_lifted_while_work_goes_on(machine):
    machine.submit_all("a", "b", "c", "d", type="render")
    machine.submit_all("e", "f", "g", type="render")
    machine.submit_all("x", "y", "z", type="upload")
    machine.change_quotas(soft(max_parallel=3))
    assert machine.end("a") == ["x"]
    machine.change_quotas(soft(max_parallel=4))
    assert machine.end("b") == ["e"]
    machine.change_quotas(soft(max_parallel=0))
    assert machine.end("c") == ["y"]
    machine.change_quotas(soft())
    assert machine.end("d") == ["f"]
    assert machine.kernel.quotas == {}
    assert not any(pool.is_quota for pool in machine.kernel.pools.values())


def test_a_later_life_knows_it(machine):
    machine.change_quotas(soft(max_parallel=1, resources={"cpu": 3}))
    machine.submit_all("a", "b", type="render", resources=ONE)
    machine.restart()
    machine.reopen()
    pools = machine.kernel.pools
    used = {n: p.used for n, p in pools.items() if p.is_quota}
    assert used == {
        "quota:soft type=render:cpu": 2_000_000,
        "quota:soft type=render:tasks": 2_000_000,
    }
    assert together(machine, *renders("c"), *others("x")) == ["x", "c"]


# -- what else keeps a task --------------------------------------------------------


def test_a_release_wakes_one_of_many_kinds_that_are_above():
    machine = Machine(policies=Policies(rigid=True), pools=Resources(cpu=1))
    kinds = [f"kind{n}" for n in range(50)]
    machine.change_quotas(*(soft(kind, max_parallel=0) for kind in kinds))
    machine.submit("first", type="upload", resources=ONE)
    for kind in kinds:
        machine.submit(kind, type=kind, resources=ONE)
    asked = len(machine.policies.asked)
    assert machine.end("first") == ["kind0"]
    # The one that starts; of the others, nobody was asked anything.
    assert machine.policies.asked[asked:] == ["router", "allocator"]
    parked = [bucket.parked for bucket in machine.kernel.parked]
    assert len(parked) == 49
    assert {len(places or ()) for places in parked} == {2}


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


def test_where_what_it_takes_depends_on_the_agent_any_of_them_counts(machine):
    machine.agent("small", "iron", request=Resources(cpu=1))
    machine.agent("large", "iron", request=Resources(cpu=2))
    machine.change_quotas(soft("forge", resources={"cpu": 1}))
    forge = ("f", {"type": "forge", "requires": ("iron",)})
    assert together(machine, forge, *others("x")) == ["x", "f"]


def test_a_policy_that_fails_when_it_is_their_turn(machine):
    machine.change_quotas(soft(max_parallel=0))
    machine.agent("smith", "iron")
    machine.policies.keeps_match = False
    asks = {"requires": ("iron",)}
    matched = machine.policies.match

    def match(row, agents, now):
        # When all that stays within its quotas has started, it is matched once more.
        if row.id == "a" and "x" in machine.running():
            raise PolicyFault("registry", ValueError("it broke"))
        return matched(row, agents, now)

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


def test_owners_share_among_those_above(machine):
    machine = Twin(policies=Policies(ranks=True), concurrency=2)
    machine.policies.ranking = lambda share: float(share.running)
    machine.change_quotas(soft(max_parallel=0))
    tasks = [*renders("a1", "a2", owner="ann"), *renders("b1", owner="bob")]
    assert together(machine, *tasks, *others("x", owner="ann")) == ["x", "b1"]
    assert machine.end("x") == ["a1"]
    assert machine.end("a1") == ["a2"]


def test_where_all_above_are_called_off_no_owner_has_a_turn(machine):
    machine = Twin(policies=Policies(ranks=True), concurrency=2)
    machine.change_quotas(soft(max_parallel=0))
    tasks = [*renders("a", owner="ann"), *others("x", "y", owner="bob")]
    assert together(machine, *tasks) == ["x", "y"]
    machine.kernel.cancel(machine.row("a"), machine.now, "")
    assert machine.end("x") == []
    assert machine.kernel.above == []


# -- what is said ------------------------------------------------------------------


def test_of_a_soft_quota_that_was_lifted_nothing_is_said_any_more(machine):
    machine.change_quotas(soft(max_parallel=1))
    machine.submit_all("a", "b", type="render")
    machine.submit_all("x", "y", "c", type="render")
    assert machine.why("c").order != ""
    machine.kernel.pause()
    machine.change_quotas(soft())
    assert exceeded(machine.kernel, machine.row("c").bucket) is None
    assert machine.why("c").order == ""


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


def test_what_only_an_agent_has_is_given_back_for_the_look(machine):
    machine.agent("smith", "iron", capacity=Resources(anvil=1))
    asks = {"type": "forge", "requires": ("iron",), "resources": Resources(anvil=1)}
    assert machine.submit_all("a", "b", **asks) == ["a"]
    rows = machine.row("a"), machine.row("b")
    assert passed_over(machine.kernel, rows[0], rows[1:], machine.now) is rows[1]
    assert machine.kernel.agents["smith"].used == {"anvil": 1_000_000}


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

KINDS = {"p": 1, "q": 2, "r": 1, "s": 3}


def expected(kernel, limits):
    """What is to start next, by the definition: one after the other, all are asked."""
    free, slots = 4 * 10**6, kernel.concurrency
    used = dict.fromkeys(KINDS, 0)
    queued = []
    for row in kernel.tasks.values():
        kind, units = row.bucket.spec.type, dict(row.bucket.spec.resources)["cpu"]
        if str(row.state) == "running":
            used[kind] += units
            free -= units
            slots -= 1
        elif str(row.state) == "queued":
            queued.append((row.key, row.seq, row.id, kind, units))
    queued.sort()
    found = []
    while slots:
        fits = [one for one in queued if one[4] <= free]
        within = [
            one for one in fits if used[one[3]] + one[4] <= limits.get(one[3], 10**9)
        ]
        if not fits:
            break
        one = (within or fits)[0]
        queued.remove(one)
        found.append(one[2])
        used[one[3]] += one[4]
        free -= one[4]
        slots -= 1
    return found


def of_state(machine, state):
    rows = machine.kernel.tasks.values()
    return [row for row in rows if str(row.state) == state]


def act(machine, limits, number, what, which, many):
    """One step of a run, which starts nothing."""
    if what == "submit":
        need = Resources(cpu=KINDS[which])
        names = [f"{which}{number}.{one}" for one in range(many)]
        machine.submit_all(*names, type=which, resources=need)
    elif what == "limit":
        limits[which] = many * 10**6
        machine.change_quotas(soft(which, resources={"cpu": many}))
    elif what == "end":
        for row in of_state(machine, "running")[which : which + many]:
            machine.end(row.id)
    elif rows := of_state(machine, "queued"):
        row = rows[which % len(rows)]
        if what == "cancel":
            machine.cancel(row.id)
        else:
            machine.prioritise(row.id, many)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), st.sampled_from(list(KINDS)), st.integers(1, 3)),
        st.tuples(st.just("end"), st.integers(0, 9), st.integers(0, 5)),
        st.tuples(st.just("limit"), st.sampled_from(list(KINDS)), st.integers(0, 5)),
        st.tuples(st.just("cancel"), st.integers(0, 30), st.just(0)),
        st.tuples(st.just("prioritise"), st.integers(0, 30), st.integers(-1, 2)),
    ),
    max_size=60,
)


@settings(max_examples=examples(200), deadline=None)
@given(steps=STEPS, slots=st.integers(1, 5), rigid=st.booleans())
def test_what_starts_is_what_the_definition_says(steps, slots, rigid):
    """Within first, in order; then above, in order; and nothing that fits waits."""
    policies = Policies(rigid=rigid)
    machine = Machine(policies=policies, pools=Resources(cpu=4), concurrency=slots)
    kernel, limits = machine.kernel, {}
    for number, step in enumerate(steps):
        kernel.paused = True
        machine.now += SEC
        act(machine, limits, number, *step)
        kernel.paused = False
        awaited = expected(kernel, limits)
        assert machine.settle() == awaited
        for row in of_state(machine, "queued"):
            assert not explain(kernel, row, machine.now).runnable
