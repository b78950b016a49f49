"""`check_invariants` finds what does not add up, and names all of it."""

import pytest
from tests.core.kernel.harness import SEC, Machine, Policies, S

from taskorch.core.kernel import Terms, check_invariants
from taskorch.core.kernel._rows import Reserving, RowExtra
from taskorch.errors import InternalError
from taskorch.model import Resources


def machine():
    made = Machine(policies=Policies(rigid=True), pools=Resources(cpu=2), concurrency=2)
    made.worker("a", "x", max_concurrency=1, capacity=Resources(memory=2))
    made.submit("runs", requires=("x",), resources=Resources(memory=1))
    made.submit("waits", requires=("x",))
    made.submit("child", after=["runs"])
    made.submit("date", not_before=9 * SEC)
    made.submit("full", resources=Resources(cpu=2))
    made.submit("open")
    made.submit("bad", type="bad", not_before=9 * SEC)
    made.cancel("bad")
    made.submit("blocked", after=["bad"])
    return made


def bucket(m, name="waits"):
    return m.row(name).bucket


def _swap_head(m):
    b = bucket(m, "open")
    m.kernel.submit("later", b, None, m.now)
    b.fifo.reverse()


def _been_through(m, **changes):
    """The task that runs has something behind it that its past does not say."""
    extra = m.row("runs").extra = RowExtra()
    for name, value in changes.items():
        setattr(extra, name, value)


#: How the state is bent, and a part of what is said of it.
FAULTS = {
    "past": (lambda m: _been_through(m, charged=1), "the past of runs is not known"),
    "due": (lambda m: _been_through(m, due_ns=5), "runs runs, and is due at 5"),
    "suspends": (
        lambda m: _been_through(m, suspending=True), "suspended, and is not to stop"
    ),
    "plain": (lambda m: setattr(m.kernel.workers["a"], "lease_ns", 5), "a is not plain"),
    "counter": (lambda m: setattr(m.kernel, "blocked", 7), "tasks are blocked, not 7"),
    "delayed": (lambda m: setattr(m.kernel, "delayed", 0), "1 tasks are delayed, not 0"),
    "slots": (lambda m: setattr(m.kernel, "running", 1), "2 slots are taken, not 1"),
    "concurrency": (lambda m: setattr(m.kernel, "concurrency", 1), "2 run, and 1 may"),
    "pool": (lambda m: setattr(m.kernel.pools["cpu"], "used", 1), "is held, not 1"),
    "pool total": (lambda m: setattr(m.kernel.pools["cpu"], "total", 1), "over-comm"),
    "agent runs": (lambda m: setattr(m.kernel.workers["a"], "running", 0), "a runs 1, not 0"),
    "worker limit": (lambda m: setattr(m.kernel.workers["a"], "limit", 0), "a runs 1 of 0"),
    "worker books": (lambda m: m.kernel.workers["a"].used.update(memory=5), "memory 1000000"),
    "capacity": (
        lambda m: m.kernel.workers["a"].capacity.update(memory=1), "a is over-committed"
    ),
    "size": (lambda m: setattr(bucket(m), "size", 5), "1 queued, not 5"),
    "head": (_swap_head, "is the head, not"),
    "unknown parking": (lambda m: m.kernel.parked.clear(), "parked, and not known"),
    "no entry": (lambda m: m.kernel.open.clear(), "queued tasks that nobody looks at"),
    "late entry": (
        lambda m: setattr(m.row("open"), "key", -(10**15)), "open is looked at too late"
    ),
    "parked and open": (
        lambda m: setattr(bucket(m), "entry", (0, 0, bucket(m))), "parked and open"
    ),
    "late wake": (
        lambda m: setattr(m.row("waits"), "key", -(10**15)), "waits is woken too late"
    ),
    "lost wake-up": (
        lambda m: setattr(m.kernel.workers["a"], "limit", 2), "nobody wakes it"
    ),
    "queue": (lambda m: bucket(m).fifo.clear(), "is queued, in the queue: False"),
    "alloc": (lambda m: setattr(m.row("open"), "alloc", (("cpu", 1),)), "holds (('cpu'"),
    "waiting": (lambda m: setattr(m.row("child").links, "waiting", 2), "waits for 1, not 2"),
    "early": (lambda m: setattr(m.row("child"), "state", S.RETRYING), "and waits for 1"),
    "stuck": (
        lambda m: (
            setattr(m.row("child").links, "parents", ()),
            setattr(m.row("child").links, "waiting", 0),
        ),
        "child is pending and waits for nothing",
    ),
    "awaited": (
        lambda m: m.kernel.awaited.update(go={m.row("open"): None}), "wait for an event"
    ),
    "asked": (
        lambda m: m.kernel.asked.update({m.row("open"): None}), "people are asked about"
    ),
    "denied": (lambda m: m.kernel.denied.update({m.row("open"): None}), "rules deny []"),
    "reached": (
        lambda m: setattr(m.row("blocked").links, "terms", Terms("finished")),
        "blocked is blocked, and may be reached",
    ),
    "blame": (lambda m: setattr(m.row("blocked").extra, "blocked_by", {}), "is blocked by"),
    "unreached": (
        lambda m: setattr(m.row("blocked"), "state", S.PENDING), "cannot be reached"
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_bent_is_found(fault):
    """Each law is really looked at."""
    made = machine()
    bend, said = FAULTS[fault]
    bend(made)
    with pytest.raises(InternalError) as caught:
        check_invariants(made.kernel)
    assert said in str(caught.value)


#: How what a kind of task knows of two workers, of which one is busy, is bent.
CROWD = {
    "it is free": (lambda room, a, b: room.enter(a), "has a room? Not as"),
    "it is busy": (lambda room, a, b: room.leave(b), "has b room? Not as"),
    "both": (lambda room, a, b: room.unplaced.update({b: None}), "b is on both sides"),
    "views": (lambda room, a, b: room.views.reverse(), "sees other workers"),
}


@pytest.mark.parametrize("how", CROWD)
def test_what_is_wrong_of_who_has_room_is_found(how):
    """Who has begun or ended something since is not looked at."""
    made = Machine()
    for name in "abc":
        made.worker(name, "x", max_concurrency=1)
    made.submit_all("t", "u", requires=("x",))
    made.end("u")
    made.policies.refuses = lambda row, worker: "not now"
    made.submit("waits", requires=("x",))
    check_invariants(made.kernel)
    bend, said = CROWD[how]
    bend(bucket(made).room, *[made.kernel.workers[name] for name in "ab"])
    with pytest.raises(InternalError) as caught:
        check_invariants(made.kernel)
    assert said in str(caught.value)


# -- each number, by one, either way ---------------------------------------------------


def everything():
    """A machine with a task in every state, and all that an attempt can hold."""
    policies = Policies(rigid=True)
    policies.watches = frozenset({(S.QUEUED, S.RUNNING)})
    policies.vetoes["vetoed", S.RUNNING] = "not now"
    policies.delays["retrying"] = [9 * SEC]
    made = Machine(policies=policies, pools=Resources(cpu=9), concurrency=5)
    made.worker("far", "x", lease=60.0, capacity=Resources(memory=9))
    each = {"requires": ("x",), "resources": Resources(cpu=1, memory=1)}
    made.submit_all("leaks", "held", "yielded", **each)
    made.cancel("leaks")
    made.after(11 * SEC)
    made.suspend("held", holdable=True)
    made.kernel.yield_slot(made.row("yielded"), 1, made.now)
    made.submit_all("retrying", "completed", "failed")
    made.fail("retrying")
    made.fail("failed")
    made.end("completed")
    made.submit("vetoed")
    made.submit("runs")
    made.submit("date", not_before=made.now + 9 * SEC)
    made.submit("suspended", not_before=made.now + 9 * SEC)
    made.suspend("suspended")
    made.submit("child", after=["runs", "held"])
    made.submit("blocked", after=["failed"])
    made.submit("waits", wait=("go", 9 * SEC, True), type="wait")
    made.submit("lost", after=["failed", "runs"], on_failure="run")
    made.submit("full", resources=Resources(cpu=8))
    made.submit("queued", resources=Resources(cpu=8))
    return made


def one_under_way(m):
    m.kernel.reserving = Reserving()
    m.kernel.reserving.under_way = {m.row("runs"): None}


#: How what stands beside the tasks is bent, and a part of what is said of it.
BESIDE = {
    "finished": (
        lambda m: m.kernel.finished.append(m.row("runs")),
        "not all that is finished has ended: [<TaskRow runs",
    ),
    "awaits": (
        lambda m: m.kernel.awaited.clear(),
        "waits for go, and would not hear of it",
    ),
    "retained": (
        lambda m: (
            m.emit("e", keep=SEC),
            setattr(m.kernel.retained["e"], "until_ns", 0),
        ),
        "e is kept, and is e until 0",
    ),
    "undecided": (
        lambda m: m.kernel.undecided.append((m.row("child"), "")),
        "nothing was decided about",
    ),
    "under way": (one_under_way, "under way are [<TaskRow held"),
    "holders": (
        lambda m: m.kernel.holders.update({m.row("queued"): False}),
        "hold what is elastic, not [<TaskRow queued",
    ),
    "leaks": (
        lambda m: setattr(m.kernel.workers["far"], "leaked", 2),
        "1 attempts have leaked on far, not 2",
    ),
    "twice in a run": (
        lambda m: m.kernel.runs.update(r=["runs", "runs"]),
        "a task stands in its run twice, or in two",
    ),
    "in a run that it is not of": (
        lambda m: m.kernel.runs.update(r=["runs"]),
        "runs is of the run '', and stands in 'r'",
    ),
    "an empty document": (
        lambda m: m.kernel.kept.update(mine={"key": ""}),
        "of mine there are empty documents: ['key']",
    ),
    "an extension without documents": (
        lambda m: m.kernel.kept.update(mine={}),
        "of mine there are empty documents: []",
    ),
}


@pytest.mark.parametrize("how", BESIDE)
def test_what_stands_beside_the_tasks_is_checked(how):
    made = everything()
    bend, said = BESIDE[how]
    bend(made)
    with pytest.raises(InternalError) as caught:
        check_invariants(made.kernel)
    assert said in str(caught.value)


COUNTS = {
    **{state.value: f"tasks are {state}, not" for state in S if state is not S.RUNNING},
    "active": "tasks are running, not",
    "running": "slots are taken, not",
    "delayed": "tasks are delayed, not",
}


@pytest.mark.parametrize("by", [-1, 1])
@pytest.mark.parametrize("name", COUNTS)
def test_each_counter_is_counted_again(name, by):
    made = everything()
    right = getattr(made.kernel, name)
    setattr(made.kernel, name, right + by)
    with pytest.raises(InternalError, match=f"{right} {COUNTS[name]} {right + by}"):
        check_invariants(made.kernel)


@pytest.mark.parametrize("by", [-1, 1])
def test_each_book_is_kept(by):
    """What a worker runs, what it and the pools gave, what waits, what is queued."""

    def worker(made):
        return made.kernel.workers["far"]

    for of, name, said in (
        (worker, "running", "far runs 2, not"),
        (lambda made: made.kernel.pools["cpu"], "used", "of cpu, 3000000 is held, not"),
        (lambda made: made.row("child").links, "waiting", "child waits for 2, not"),
        (lambda made: made.row("queued").bucket, "size", "call: 2 queued, not"),
    ):
        made = everything()
        right = getattr(of(made), name)
        setattr(of(made), name, right + by)
        with pytest.raises(InternalError, match=f"{said} {right + by}"):
            check_invariants(made.kernel)
    made = everything()
    worker(made).used["memory"] += by
    with pytest.raises(InternalError, match=f"far: memory 3000000≠{3_000_000 + by}"):
        check_invariants(made.kernel)


def lose(made):
    made.kernel.workers["far"].lost = True


def end_silently(made):
    """A task that waits for an event has ended, and still stands among those who wait."""
    made.kernel.blocked -= 1
    made.kernel.completed += 1
    made.kernel.delayed -= 1
    made.row("waits").state = S.COMPLETED


def also_blocked_though_it_runs(made):
    row = made.row("lost")
    row.state = S.BLOCKED
    made.kernel.pending -= 1
    made.kernel.blocked += 1


def pending_though_all_is_over(made):
    """It runs in any case: all its parents have ended, and nobody lets it."""
    links = made.row("lost").links
    links.parents, links.waiting = links.parents[:1], 1


#: How the state is bent, and all that is said of it.
BENT = {
    "lost": (lose, "far is lost, and runs 2"),
    "lease": (
        lambda m: m.kernel.workers["far"].seen.pop(m.row("held")),
        "far runs [<TaskRow held suspended attempt 1>, <TaskRow yielded running ",
    ),
    "ended": (end_silently, "not all of [<TaskRow waits completed attempt 0>] wait"),
    "caller": (
        lambda m: setattr(
            m.row("queued").bucket,
            "caller",
            m.row("queued").bucket.parked[0],
        ),
        "call: parked and open",
    ),
    "holds after its end": (
        lambda m: setattr(m.row("completed"), "alloc", (("cpu", 1),)),
        "completed is completed and holds (('cpu', 1),)",
    ),
    "runs in any case": (
        also_blocked_though_it_runs,
        "lost is blocked, and may be reached",
    ),
    "over in any case": (
        pending_though_all_is_over,
        "lost is pending, and cannot be reached",
    ),
}


@pytest.mark.parametrize("how", BENT)
def test_it_is_said_what_is_bent_and_nothing_else(how):
    made = everything()
    bend, said = BENT[how]
    bend(made)
    with pytest.raises(InternalError) as caught:
        check_invariants(made.kernel)
    assert str(caught.value).partition(" (this is a bug")[0].startswith(said)
    assert "; " not in str(caught.value)


@pytest.mark.parametrize("state", [S.QUEUED, S.RUNNING, S.RETRYING])
def test_who_waits_for_others_has_not_begun(state):
    made = everything()
    made.row("child").state = state
    with pytest.raises(InternalError, match=f"child is {state} and waits for 2"):
        check_invariants(made.kernel)


# -- wake-ups --------------------------------------------------------------------------


def parked():
    """Two buckets wait for the slot of one worker, and another one is open."""
    made = Machine(concurrency=9)
    made.worker("a", "x", "y", max_concurrency=1)
    made.worker("b", "z", max_concurrency=1)
    made.submit("runs", requires=("x",))
    made.now += 1
    made.submit("first", requires=("x",))
    made.now += 1
    made.submit("second", requires=("y",))
    made.kernel.paused = True
    made.submit("open", requires=("z",))
    return made


def enter(made, name, key, where):
    """The bucket of a task is open, at this place, and carries a wake-up."""
    bucket = made.row(name).bucket
    bucket.entry = (key, made.row(name).seq, bucket)
    bucket.caller = where
    made.kernel.open[:] = [bucket.entry]


def lost_wake_ups(made):
    with pytest.raises(InternalError) as caught:
        check_invariants(made.kernel)
    return str(caught.value).count("there is room, and nobody wakes it in its turn")


def test_somebody_must_wake_those_who_wait_where_there_is_room():
    """An open bucket that comes before them, and was woken by that place."""
    made = parked()
    check_invariants(made.kernel)
    slots = made.kernel.workers["a"].slots
    made.kernel.workers["a"].limit = 2
    assert lost_wake_ups(made) == 2
    early, late = made.row("first").key - 1, made.row("second").key + 1
    # It carries no wake-up, or one of another place.
    enter(made, "open", early, None)
    assert lost_wake_ups(made) == 2
    enter(made, "open", early, made.kernel.workers["b"].slots)
    assert lost_wake_ups(made) == 2
    # It comes too late: for all, for one; or the entry is none any more.
    enter(made, "open", late, slots)
    assert lost_wake_ups(made) == 2
    enter(made, "open", made.row("second").key - 1, slots)
    assert lost_wake_ups(made) == 1
    enter(made, "open", early, slots)
    check_invariants(made.kernel)
    bucket = made.row("open").bucket
    bucket.entry = (early, made.row("open").seq, bucket)
    assert lost_wake_ups(made) == 2
