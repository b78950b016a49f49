"""Which task starts next, and where."""

import pytest
from hypothesis import given, strategies as st
from tests.core.kernel.harness import SEC, Machine, Policies, S

from taskorch.events import TaskStarted
from taskorch.model import Resources


def rigid(request):
    return Machine(policies=Policies(rigid=request), pools=Resources(cpu=4, gpu=1))


@pytest.fixture(params=[False, True], ids=["any allocator", "rigid allocator"])
def machine(request):
    return rigid(request.param)


def test_concurrency():
    """No more attempts run at once than the orchestrator may."""
    machine = Machine(concurrency=2)
    assert machine.submit_all(*"abc") == ["a", "b"]
    assert machine.kinds("c") == ["slot"]
    assert machine.end("a") == ["c"]


def test_capabilities():
    """A task goes to a worker that has all that it needs."""
    machine = Machine()
    machine.worker("a", "x")
    machine.worker("b", "x", "y")
    machine.submit("t", requires=("x", "y"))
    assert machine.worker_of("t") == "b"
    assert machine.told(TaskStarted) == [("t", 1, "b", (), "first of 1")]


def test_workers_that_are_full_are_passed_over():
    """With one worker full the other does it; with both full the task waits."""
    machine = Machine()
    for name in "ab":
        machine.worker(name, "x", max_concurrency=1)
    assert machine.submit_all("t", "u", "v", requires=("x",)) == ["t", "u"]
    assert [machine.worker_of(i) for i in "tu"] == ["a", "b"]
    assert machine.kinds("v") == ["agent", "agent"]
    assert machine.submit("other") == ["other"]
    assert machine.end("u") == ["v"]
    assert machine.worker_of("v") == "b"


def test_capacity_of_a_worker(machine):
    """What a worker has is held by its attempts, and given back exactly."""
    machine.worker("a", "x", capacity=Resources(memory=3, cpu=9))
    spec = {"requires": ("x",), "resources": Resources(memory=2, cpu=1)}
    assert machine.submit_all("t", "u", **spec) == ["t"]
    row = machine.row("t")
    assert row.alloc == (("cpu", 1_000_000), ("memory", 2_000_000))
    assert row.worker.used == {"cpu": 1_000_000, "memory": 2_000_000}
    assert machine.kernel.pools["cpu"].used == 1_000_000
    (blocker,) = machine.why("u").blockers
    assert (blocker.kind, blocker.name, blocker.need, blocker.have) == (
        "agent",
        "a",
        2,
        1,
    )
    assert blocker.holders == ("t",)
    assert machine.end("t") == ["u"]


def test_request_of_a_worker(machine):
    """A task that does not say what it takes, takes what the worker says."""
    machine.worker("a", "x", request=Resources(cpu=3))
    assert machine.submit_all("t", "u", requires=("x",)) == ["t"]
    assert machine.row("t").alloc == (("cpu", 3_000_000),)
    assert machine.kinds("u") == ["resource"]
    assert machine.end("t") == ["u"]


def test_pools(machine):
    """Pools are never over-committed; what is released is used at once."""
    machine.submit_all("t", "u", resources=Resources(cpu=2))
    assert machine.submit("v", resources=Resources(cpu=1, gpu=1)) == []
    (blocker,) = machine.why("v").blockers
    assert (blocker.kind, blocker.name, blocker.need, blocker.have) == (
        "resource",
        "cpu",
        1,
        0,
    )
    assert blocker.holders == ("t", "u")
    assert machine.submit("free") == ["free"]
    assert machine.end("u") == ["v"]


def test_a_small_task_passes_a_large_one(machine):
    """What does not fit holds up its like only; others pass."""
    machine.submit("half", resources=Resources(cpu=2))
    assert machine.submit("large", resources=Resources(cpu=3)) == []
    assert machine.submit("also", resources=Resources(cpu=3), priority=1) == []
    assert machine.submit("small", resources=Resources(cpu=1)) == ["small"]
    assert machine.end("small") == []
    assert machine.end("half") == ["also"]
    assert machine.end("also") == ["large"]


def test_an_answer_that_can_be_kept_is_not_asked_for_again():
    """Router and allocator are asked once for like tasks that take nothing."""
    machine = Machine()
    machine.worker("a", "x", max_concurrency=1)
    machine.submit("t", requires=("x",))
    machine.policies.asked.clear()
    machine.submit("u", requires=("x",))
    assert machine.end("t") == ["u"]
    assert machine.policies.asked == []
    machine.worker("b", "x")
    assert machine.submit("v", requires=("x",)) == ["v"]
    assert machine.policies.asked == ["registry", "router", "allocator"]
    assert machine.worker_of("v") == "b"


@pytest.mark.parametrize("what", ["keeps_route", "keeps_alloc", "keeps_match"])
def test_an_answer_that_cannot_be_kept_is_asked_for_again(what):
    """Every start asks, if any of the answers holds for one task only."""
    machine = Machine()
    setattr(machine.policies, what, False)
    machine.worker("a", "x")
    machine.submit("t", requires=("x",))
    machine.policies.asked.clear()
    machine.submit("u", requires=("x",))
    assert machine.policies.asked[-2:] == ["router", "allocator"]


def test_the_router_is_asked_again_without_those_that_were_refused():
    """If the allocator grants nothing on one worker, another is tried."""
    machine = Machine()
    machine.worker("a", "x")
    machine.worker("b", "x")
    machine.policies.refuses = lambda row, worker: "no" if worker.name == "a" else None
    assert machine.submit("t", requires=("x",)) == ["t"]
    assert machine.worker_of("t") == "b"


def test_a_grant_may_be_smaller_than_the_request():
    """An allocator may be content with less than was asked; the books show that."""
    machine = Machine(pools=Resources(cpu=4))
    pool = machine.kernel.pools["cpu"]
    machine.policies.grants = lambda row, request: (
        ("cpu", min(request[0][1], pool.total - pool.used)),
    )
    machine.submit("t", resources=Resources(cpu=3))
    assert machine.submit("u", resources=Resources(cpu=3)) == ["u"]
    assert machine.row("u").alloc == (("cpu", 1_000_000),)
    machine.end("u")
    machine.end("t")
    assert pool.used == 0


# -- what a policy puts off --------------------------------------------------------


def test_an_allocator_that_puts_off_what_would_fit(machine):
    """It is asked again when something changes; until then `explain` gives its reason."""
    machine.policies.refuses = lambda row, worker: "wait" if row.id == "t" else None
    assert machine.submit("t", type="slow", resources=Resources(cpu=1)) == []
    assert machine.kinds("t") == ["allocator"]
    assert "puts it off: wait" in str(machine.why("t"))
    machine.policies.refuses = lambda row, worker: None
    assert machine.settle() == []
    assert machine.kinds("t") == ["allocator"]
    assert machine.submit("u") == ["u"]
    assert machine.end("u") == ["t"]


def test_explain_asks_the_allocator_before_dispatch_does(machine):
    """What has not been tried yet is asked for: the answer is what will happen."""
    machine.kernel.paused = True
    machine.submit("t", resources=Resources(cpu=1))
    machine.kernel.paused = False
    assert machine.kinds("t") == []
    machine.policies.refuses = lambda row, worker: ""
    assert machine.kinds("t") == ["allocator"]
    assert "no reason given" in str(machine.why("t"))
    assert machine.settle() == []
    assert "no reason given" in str(machine.why("t"))


def test_an_elastic_allocator_is_asked_when_its_pool_is_released():
    """Without a rigid allocator, any release may be enough."""
    machine = Machine(pools=Resources(cpu=4))
    machine.policies.refuses = lambda row, worker: (
        None if machine.kernel.pools["cpu"].used < 4_000_000 else "all is taken"
    )
    machine.policies.grants = lambda row, request: (("cpu", 1_000_000),)
    machine.submit_all(*"abcd", resources=Resources(cpu=1))
    assert machine.submit("t", resources=Resources(cpu=3)) == []
    assert machine.kinds("t") == ["resource"]
    assert machine.end("a") == ["t"]


def test_matching_workers_that_differ_from_task_to_task():
    """With a registry whose answers cannot be kept, a new head is asked about itself."""
    machine = Machine()
    machine.policies.keeps_match = False
    machine.policies.knows = lambda row, worker: worker.name == row.id[0]
    machine.worker("a", "x", max_concurrency=1)
    machine.worker("b", "x", max_concurrency=1)
    assert machine.submit_all("a1", "a2", "b1", requires=("x",)) == ["a1"]
    assert machine.kinds("a2") == ["agent"]
    assert machine.submit("b2", requires=("x",), priority=1) == ["b2"]
    assert machine.end("b2") == []  # a2 is first, and waits for a
    assert machine.cancel("a2") == ["b1"]


# -- vetoes of a start -------------------------------------------------------------


def watching():
    policies = Policies()
    policies.watches = frozenset({(S.QUEUED, S.RUNNING)})
    return Machine(policies=policies)


def test_a_vetoed_start_is_set_aside():
    """The task stays queued, others pass, and it is tried when something changes."""
    machine = watching()
    machine.policies.vetoes["t", S.RUNNING] = "not yet"
    assert machine.submit("t") == []
    assert machine.kinds("t") == ["veto"]
    assert machine.submit("u") == ["u"]
    del machine.policies.vetoes["t", S.RUNNING]
    assert machine.settle() == []
    assert machine.kinds("t") == ["veto"]
    assert machine.end("u") == ["t"]


def test_explain_asks_the_state_machine_before_dispatch_does():
    """A veto to come is a blocker already; one without a reason says so when it came."""
    machine = watching()
    machine.kernel.paused = True
    machine.submit("t")
    machine.kernel.paused = False
    machine.policies.vetoes["t", S.RUNNING] = ""
    assert machine.kinds("t") == ["veto"]
    machine.settle()
    # What was said then is told, whatever would be said now.
    machine.policies.vetoes.clear()
    assert "no reason given" in str(machine.why("t"))


def _miss_a_deadline(m):
    m.submit("late", not_before=m.now + 9 * SEC, deadline=m.now + SEC)
    m.after(SEC)


def _wait_too_long(m):
    m.policies.admits_all = False
    m.policies.admits = lambda row: (None, SEC)
    m.submit("old", not_before=m.now + 9 * SEC)
    m.after(SEC)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.end("u"),
        lambda m: m.fail("u"),
        lambda m: m.cancel("w"),
        lambda m: m.suspend("w"),
        lambda m: m.resume("s"),
        lambda m: m.prioritise("t", 1),
        lambda m: m.decide("d", "fail"),
        lambda m: m.expire(0),
        lambda m: m.worker("new", "x") and m.settle(),
        lambda m: m.kernel.yield_slot(m.row("u"), 1, m.now) and m.settle(),
        lambda m: m.change("s", timeout_ns=SEC),
        lambda m: m.emit("something"),
        _miss_a_deadline,
        _wait_too_long,
    ],
    ids=[
        "end",
        "fail",
        "cancel",
        "suspend",
        "resume",
        "prioritise",
        "decide",
        "expire",
        "join",
        "yield",
        "options",
        "event",
        "deadline",
        "age",
    ],
)
def test_what_counts_as_a_change(change):
    """After each of these, a vetoed start is tried again."""
    machine = watching()
    machine.submit("u")
    machine.submit("s", type="s", not_before=machine.now + SEC)
    machine.suspend("s")
    machine.submit("d", type="d", idempotent=False)
    machine.end("d", "lost")
    machine.policies.vetoes["w", S.RUNNING] = "never"
    machine.submit("w", type="w")
    machine.now += 1
    machine.policies.vetoes["t", S.RUNNING] = "not yet"
    machine.submit("t")
    asked = machine.policies.asked.count("state_machine")
    machine.policies.vetoes["t", S.RUNNING] = "still not"
    change(machine)
    assert machine.policies.asked.count("state_machine") > asked
    if machine.state("t") is S.QUEUED:
        assert machine.extra("t").veto == "still not"


# -- policies that fail ------------------------------------------------------------


@given(data=st.data())
def test_a_slot_goes_to_the_first_in_order_however_often_that_has_changed(data):
    """Also to the first of those who were set aside while there was none."""
    machine = Machine(concurrency=10)
    machine.worker("a", "x", max_concurrency=1)
    machine.submit("runs", requires=("x",))
    names = [f"t{number}" for number in range(4)]
    priorities = dict.fromkeys(names, 0)
    for name in names:
        machine.submit(name, type=name, requires=("x",))
    moves = st.lists(st.tuples(st.sampled_from(names), st.integers(-3, 3)), max_size=6)
    for name, priority in data.draw(moves):
        machine.prioritise(name, priority)
        priorities[name] = priority
    running = "runs"
    for name in sorted(names, key=lambda name: -priorities[name]):
        assert machine.end(running) == [name]
        running = name


def test_who_answers_for_all_like_it_is_asked_once():
    """Router and allocator have said that their answers can be kept."""
    machine = Machine(concurrency=9)
    machine.submit_all("a", "b", "c")
    assert machine.policies.asked.count("router") == 1
    assert machine.policies.asked.count("allocator") == 1
    machine.policies.asked.clear()
    machine.worker("other", "x")
    machine.submit_all("d", "e")
    assert machine.policies.asked.count("router") == 1
