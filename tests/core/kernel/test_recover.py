"""`recover`: a new incarnation, and what becomes of what the last one had under way."""

import pytest
from tests.core.kernel.commands import EndAttempt
from tests.core.kernel.harness import SEC, Policies, S, Twin, unlike
from tests.core.kernel.test_control import (
    TABLE,
    held,
    retrying,
    running,
    stopping,
    suspending,
    timing_out,
    yielded,
)

from taskorch.events import (
    AgentJoined,
    AgentReturned,
    LateResultIgnored,
    OrchestratorStarted,
    TaskCompleted,
)
from taskorch.model import Resources

GRACE = 10 * SEC


def twin(**config):
    policies = Policies()
    policies.watches = frozenset({(S.QUEUED, S.RUNNING)})
    made = Twin(policies=policies, pools=Resources(cpu=2), **config)
    made.worker("a", "x", max_concurrency=1)
    return made


def in_situation(situation):
    made = twin()
    situation(made)
    return made


# -- more situations ---------------------------------------------------------------


def unsafe(m):
    m.submit("t", idempotent=False, resources=Resources(cpu=1))


def unsafe_suspending(m):
    unsafe(m)
    m.suspend("t")


def unsafe_held(m):
    unsafe(m)
    m.suspend("t", holdable=True)


def again(m):
    m.policies.delays["t"] = [0]
    m.submit("t", timeout_ns=9 * SEC)
    m.fail("t")


def timing_out_and_tried_again(m):
    m.policies.delays["t"] = [5 * SEC]
    timing_out(m)


def timing_out_and_suspended(m):
    m.policies.delays["t"] = [5 * SEC]
    timing_out(m)
    m.suspend("t")


def leaked(m):
    m.submit("t", resources=Resources(cpu=2))
    m.cancel("t")
    m.after(GRACE)


def leaked_and_tried_again(m):
    m.policies.delays["t"] = [0]
    m.submit("t", timeout_ns=SEC, resources=Resources(cpu=1))
    m.after(SEC + GRACE)


def returning(m):
    m.submit("t", requires=("x",))
    m.kernel.yield_slot(m.row("t"), 1, m.now)
    m.submit("u", requires=("x",))
    m.kernel.reclaim_slot(m.row("t"), 1, m.now)


#: Situation → the state in the next incarnation, and the cause of what is told of it.
AFTER = {
    **{situation: (state, None) for situation, (state, *_) in TABLE.items()},
    running: (S.QUEUED, "interrupted"),
    yielded: (S.QUEUED, "interrupted"),
    returning: (S.QUEUED, "interrupted"),
    again: (S.QUEUED, "interrupted"),
    suspending: (S.SUSPENDED, "interrupted"),
    held: (S.SUSPENDED, "interrupted"),
    unsafe: (S.BLOCKED, "interrupted"),
    unsafe_suspending: (S.BLOCKED, "interrupted"),
    unsafe_held: (S.BLOCKED, "interrupted"),
    stopping: (S.CANCELLED, None),
    timing_out: (S.FAILED, "timeout"),
    timing_out_and_tried_again: (S.RETRYING, "timeout"),
    timing_out_and_suspended: (S.SUSPENDED, "timeout"),
    next(s for s in TABLE if s.__name__ == "missing"): (S.FAILED, "deadline"),
    leaked: (S.CANCELLED, None),
    leaked_and_tried_again: (S.QUEUED, "interrupted"),
}


@pytest.mark.parametrize("situation", AFTER, ids=lambda s: s.__name__)
def test_each_situation_to_its_end(situation):
    """In the next incarnation, every task comes to an end, and all is free."""
    machine = in_situation(situation)
    machine.restart()
    machine.policies.vetoes.clear()
    machine.reopen()
    row = machine.row("t")
    for _ in range(8):
        if row.state is S.BLOCKED:
            machine.decide("t", "complete")
        elif row.state is S.SUSPENDED:
            machine.resume("t")
        for name in machine.running():
            machine.end(name)
        machine.after(5 * SEC)
    assert row.state.is_terminal
    assert machine.kernel.running == 0
    machine.mirror()


# -- crashes of ours ---------------------------------------------------------------


def test_crashes_of_ours_are_nobodys_fault():
    """However often we crash, the task is neither charged nor taken for poison."""
    machine = twin()
    machine.submit("t", resources=Resources(cpu=1))
    for incarnation in range(2, 7):
        machine.restart()
        assert machine.kernel.epoch == incarnation
        assert machine.reopen() == ["t"]
        assert machine.row("t").attempt == incarnation
    extra = machine.extra("t")
    assert (extra.charged, extra.crashes) == (0, 0)
    assert machine.policies.elapsed == []
    assert machine.kernel.workers["local"].failed == 0
    machine.end("t")
    assert machine.state("t") is S.COMPLETED


def test_crashes_of_the_worker_are_remembered():
    """Those of earlier incarnations count: two before and one after make a poison."""
    machine = twin()
    machine.submit("t")
    machine.end("t", "lost")
    machine.end("t", "lost")
    machine.restart()
    assert machine.extra("t").crashes == 2
    machine.reopen()
    machine.end("t", "lost")
    assert machine.error("t")[2] == "poisoned"


def test_charged_attempts_are_remembered():
    """The retry handler is told of the time since the first attempt of all."""
    machine = twin()
    machine.policies.delays["t"] = [5 * SEC]
    machine.submit("t")
    machine.now += SEC
    machine.fail("t")
    machine.restart()
    machine.reopen()
    assert machine.extra("t").charged == 1
    assert machine.after(5 * SEC) == ["t"]
    machine.fail("t")
    assert machine.policies.elapsed == [SEC, 6 * SEC]
    assert machine.kernel.retries_exhausted == 1


# -- workers ------------------------------------------------------------------------


def test_workers_are_away_until_they_join():
    """Nothing goes to a worker before it joins again, or gives a sign of life."""
    machine = twin()
    machine.worker("far", "y", lease=5.0)
    machine.submit("t")
    machine.submit("u", requires=("x",))
    machine.submit("v", requires=("y",))
    machine.restart()
    machine.kernel.paused = False
    assert machine.settle() == []
    for name, worker in (("t", "local"), ("u", "a"), ("v", "far")):
        (blocker,) = machine.why(name).blockers
        assert (blocker.kind, blocker.name) == ("agent", worker)
        assert "is lost" in blocker.detail
    machine.worker("a", "x")
    assert machine.settle() == ["u"]
    assert machine.beat("far", ("v", 1)) == [("v", 1)]
    assert machine.running() == ["u", "v"]
    machine.worker("local")
    assert machine.settle() == ["t"]
    assert len(machine.told(AgentJoined)) == 3 + 2
    assert machine.told(AgentReturned) == [("far",)]


def test_a_worker_that_joins_with_other_capabilities():
    """It is what it says now that counts."""
    machine = twin()
    machine.submit("t", requires=("x",))
    machine.restart()
    machine.kernel.paused = False
    machine.worker("a", "y")
    machine.worker("b", "x")
    assert machine.settle() == ["t"]
    assert machine.worker_of("t") == "b"


def test_submissions_before_the_workers_are_back():
    """They are accepted: those who can do it are only away."""
    machine = twin()
    machine.submit("t")
    machine.restart()
    machine.kernel.paused = False
    assert machine.submit("u", requires=("x",)) == []
    assert machine.submit("v") == []
    assert machine.reopen() == ["t", "u", "v"]


# -- the fence ---------------------------------------------------------------------


def test_the_epoch_of_a_result():
    """Only a result of this incarnation counts, or one that does not say."""
    machine = twin()
    machine.submit("t")
    machine.do(EndAttempt("t", 1, "completed", epoch=2))
    assert machine.state("t") is S.RUNNING
    machine.do(EndAttempt("t", 1, "completed", epoch=1))
    assert machine.state("t") is S.COMPLETED
    machine.submit("u")
    machine.restart()
    machine.reopen()
    machine.do(EndAttempt("u", 2, "completed", epoch=1))
    assert machine.state("u") is S.RUNNING
    machine.do(EndAttempt("u", 2, "completed", epoch=2))
    assert machine.told(TaskCompleted)[-1][:2] == ("u", 2)


def test_a_result_of_what_nobody_knows():
    """The end of an attempt of a task that is not in memory is noted."""
    machine = twin(keep_finished=0)
    machine.submit("t")
    machine.end("t")
    machine.do(EndAttempt("t", 1, "failed"))
    machine.do(EndAttempt("never", 1, "failed"))
    assert machine.told(LateResultIgnored) == [
        ("t", 1, "failed"),
        ("never", 1, "failed"),
    ]


# -- recovery of a recovery --------------------------------------------------------


@pytest.mark.parametrize("situation", AFTER, ids=lambda s: s.__name__)
def test_a_crash_during_recovery(situation):
    """Recovered once or twice, the tasks are the same, and nothing is told again."""
    once = in_situation(situation)
    once.restart()
    twice = in_situation(situation)
    twice.restart()
    before = len(twice.sink)
    twice.restart()
    told = [event[0] for event, _ in twice.sink[before:]]
    assert told == [OrchestratorStarted]
    assert unlike(once.kernel, twice.kernel, once.now) == [
        f"seq: {once.kernel.seq} and {once.kernel.seq + 1}",
        "epoch: 2 and 3",
    ]


# -- every prefix ------------------------------------------------------------------


class Steps(Twin):
    """Notes how many events there are after each step."""

    def do(self, *commands):
        try:
            return super().do(*commands)
        finally:
            self.cuts = [*getattr(self, "cuts", [0]), len(self.sink)]


def tell(machine):
    """A story with something of everything."""
    machine.policies.delays.update(a=[0], b=[3 * SEC], g=[0])
    machine.worker("x", "x", max_concurrency=1)
    machine.worker("far", "y", lease=4.0)
    machine.submit("a", resources=Resources(cpu=1))
    machine.submit("b", timeout_ns=2 * SEC, resources=Resources(cpu=1))
    machine.submit("c", after=["a", "b"])
    machine.submit("d", requires=("x",), idempotent=False)
    machine.submit("e", requires=("x",), priority=1)
    machine.submit("f", requires=("y",))
    machine.submit("g", requires=("y",), idempotent=False, deadline=90 * SEC)
    machine.submit("h", not_before=9 * SEC, after=["d"])
    machine.kernel.yield_slot(machine.row("a"), 1, machine.now)
    machine.settle()
    machine.fail("a")
    machine.after(SEC)
    machine.beat("far", ("f", 1))
    machine.after(13 * SEC)
    machine.suspend("d", holdable=True)
    machine.beat("far", ("g", 1))
    machine.resume("d")
    machine.suspend("e")
    machine.end("d", "lost")
    machine.resume("e")
    machine.prioritise("e", 3)
    machine.fail("a")
    machine.decide("d", "fail")
    machine.rerun("a")
    machine.cancel("b")
    machine.after(GRACE)
    machine.end("b", attempt=1)
    machine.suspend("e")
    machine.end("e", "stopped")
    machine.cancel("a~2")


@pytest.fixture(scope="module")
def story():
    machine = Steps(policies=Policies(), pools=Resources(cpu=3))
    tell(machine)
    return machine


def test_the_story_has_something_of_everything(story):
    """So that its steps are worth a crash."""
    told = {event[0].__name__ for event, _ in story.sink}
    assert len(told) >= 20, told
    assert len(set(story.cuts)) > 25


def test_dates_that_passed_meanwhile():
    """What was due while nobody was there is done in the next incarnation."""
    machine = in_situation(retrying)
    machine.submit("dated", not_before=machine.now + 3 * SEC)
    machine.submit("overdue", requires=("x",), deadline=machine.now + 3 * SEC)
    machine.now += 99 * SEC
    machine.restart()
    assert machine.reopen() == ["t", "dated"]
    assert machine.error("overdue")[2] == "deadline"
