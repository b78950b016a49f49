"""`check_invariants` finds what does not add up, and names all of it."""

import pytest
from tests.kernel.harness import SEC, Machine, Policies, S

from taskorch.errors import InternalError
from taskorch.kernel import Terms, check_invariants
from taskorch.model import Resources


def machine():
    made = Machine(policies=Policies(rigid=True), pools=Resources(cpu=2), concurrency=2)
    made.agent("a", "x", max_concurrency=1, capacity=Resources(memory=2))
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


#: How the state is bent, and a part of what is said of it.
FAULTS = {
    "counter": (lambda m: setattr(m.kernel, "blocked", 7), "tasks are blocked, not 7"),
    "delayed": (lambda m: setattr(m.kernel, "delayed", 0), "1 tasks are delayed, not 0"),
    "slots": (lambda m: setattr(m.kernel, "running", 1), "2 slots are taken, not 1"),
    "concurrency": (lambda m: setattr(m.kernel, "concurrency", 1), "2 run, and 1 may"),
    "pool": (lambda m: setattr(m.kernel.pools["cpu"], "used", 1), "is held, not 1"),
    "pool total": (lambda m: setattr(m.kernel.pools["cpu"], "total", 1), "over-comm"),
    "agent runs": (lambda m: setattr(m.kernel.agents["a"], "running", 0), "a runs 1, not 0"),
    "agent limit": (lambda m: setattr(m.kernel.agents["a"], "limit", 0), "a runs 1 of 0"),
    "agent books": (lambda m: m.kernel.agents["a"].used.update(memory=5), "memory 1000000"),
    "capacity": (
        lambda m: m.kernel.agents["a"].capacity.update(memory=1), "a is over-committed"
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
        lambda m: setattr(m.kernel.agents["a"], "limit", 2), "nobody wakes it"
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
    "reached": (
        lambda m: setattr(m.row("blocked").links, "terms", Terms("finished")),
        "blocked is blocked, and may be reached",
    ),
    "blame": (lambda m: setattr(m.row("blocked").extra, "blocked_by", {}), "is blocked by"),
    "unreached": (
        lambda m: setattr(m.row("blocked"), "state", S.PENDING), "cannot be reached"
    ),
}  # fmt: skip


def test_the_sound_state():
    """Nothing is found where nothing is wrong."""
    made = machine()
    check_invariants(made.kernel)
    assert made.states("waits", "open") == [S.QUEUED] * 2


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_bent_is_found(fault):
    """Each law is really looked at."""
    made = machine()
    bend, said = FAULTS[fault]
    bend(made)
    with pytest.raises(InternalError) as caught:
        check_invariants(made.kernel)
    assert said in str(caught.value)
