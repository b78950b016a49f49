"""Accepting tasks: everybody is asked first, and then everything is changed."""

import pytest
from tests.core.kernel.harness import SEC, Machine, Policies, S

from taskorch.core.kernel import Spec, check_invariants
from taskorch.core.kernel._rows import RowExtra
from taskorch.errors import (
    InvalidTransitionError,
    QueueFullError,
    UnsatisfiableError,
)
from taskorch.model import Resources


def counts(machine):
    kernel = machine.kernel
    return (kernel.seq, kernel.submissions, kernel.queued, len(kernel.tasks))


def test_the_plain_path_asks_nobody_again():
    """Once the policies have said that they need not be asked, submitting is free."""
    machine = Machine()
    bucket = machine.kernel.bucket(Spec("call"))
    machine.kernel.submit("a", bucket, None, machine.now)
    assert machine.kernel.plain
    machine.policies.asked.clear()
    machine.kernel.submit("b", bucket, None, machine.now)
    machine.kernel.submit("c", bucket, None, machine.now, priority=2)
    assert machine.policies.asked == []
    check_invariants(machine.kernel)
    assert machine.settle() == ["c", "a", "b"]
    assert machine.extra("c").priority == 2


def test_a_worker_that_came_later_may_be_too_small():
    """What was waited for does not start where there will never be enough."""
    machine = Machine(refuse_unknown=False)
    wants = {"requires": ("x",), "resources": Resources(gpu=2)}
    machine.submit("t", **wants)
    machine.worker("none", "x")
    machine.worker("small", "x", capacity=Resources(gpu=1))
    assert machine.settle() == []
    (first, second) = machine.why("t").blockers
    assert (first.kind, first.name, first.need, first.have) == ("resource", "gpu", 2, 0)
    assert "in any pool" in first.detail
    assert "on worker small, is 1" in second.detail
    with pytest.raises(UnsatisfiableError):
        machine.submit("u", **wants)
    machine.worker("large", "x", capacity=Resources(gpu=2))
    assert machine.settle() == ["t"]


def test_what_is_said_of_a_resource_whose_amount_nobody_knows():
    """Until somebody says how much there is: then it is too little, as elsewhere."""
    machine = Machine(pools=Resources(cpu=4), unknown=frozenset({"gpu"}))
    with pytest.raises(UnsatisfiableError, match="the most there is") as caught:
        machine.submit("t", resources=Resources(gpu=2))
    assert "how much gpu this machine has is unknown" in str(caught.value)
    for known, hint in (
        (Resources(cpu=5), "ask for less"),
        (Resources(licence=1), "of your own"),
    ):
        with pytest.raises(UnsatisfiableError, match=hint):
            machine.submit("t", resources=known)
    machine.change_pools(gpu=1)
    with pytest.raises(UnsatisfiableError, match="is 1") as caught:
        machine.submit("t", resources=Resources(gpu=2))
    assert "ask for less" in str(caught.value)
    assert "unknown" not in str(caught.value)


def test_admission_refused():
    """The queue may refuse a task, and says why."""
    machine = Machine()
    machine.policies.admits_all = False
    machine.policies.admits = lambda row: ("full", None)
    before = counts(machine)
    with pytest.raises(QueueFullError, match="not admitted: full"):
        machine.submit("t")
    assert counts(machine) == before
    machine.policies.admits = lambda row: (None, None)
    assert machine.submit("t") == ["t"]
    assert not machine.kernel.plain


def test_the_state_machine_may_refuse_a_submission():
    """A vetoed submission is an error for the caller, and changes nothing."""
    machine = Machine()
    machine.policies.watches = frozenset({(None, S.QUEUED), (None, S.BLOCKED)})
    machine.kernel.watched = True
    machine.policies.vetoes["t", S.QUEUED] = "not on a Sunday"
    before = counts(machine)
    with pytest.raises(InvalidTransitionError, match="not on a Sunday"):
        machine.submit("t")
    assert counts(machine) == before
    machine.submit("parent")
    machine.cancel("parent")
    machine.end("parent", "stopped")
    machine.policies.vetoes["child", S.BLOCKED] = "no blocked ones"
    with pytest.raises(InvalidTransitionError, match="no blocked ones"):
        machine.submit("child", after=["parent"])
    assert machine.submit("u") == ["u"]


class Asked(Policies):
    """Notes what the StateMachine is asked about."""

    def __init__(self):
        super().__init__()
        self.watches = None
        self.about = {}

    def check(self, row, before, after, reason, now):
        if before is None:
            self.about[row.id] = (after, reason)
        return super().check(row, before, after, reason, now)


@pytest.mark.parametrize("early", [None, -1, 0, 1])
@pytest.mark.parametrize(
    "parents", [[], ["done"], ["waits"], ["done", "waits"], ["bad"], ["bad", "done"]]
)
def test_the_state_machine_is_asked_about_the_first_state_that_it_has(parents, early):
    """Whatever it waits for: a task or a date, which may have come or be over."""
    policies = Asked()
    machine = Machine(policies=policies, concurrency=3)
    machine.submit_all("done", "bad", "waits")
    machine.end("done")
    machine.fail("bad")
    machine.kernel.paused = True
    date = None if early is None else machine.now + early
    machine.submit("t", after=parents, not_before=date)
    assert policies.about["t"] == (machine.state("t"), "submitted")
    waits = "waits" in parents or early == 1
    expected = S.PENDING if waits else S.QUEUED
    assert machine.state("t") is (S.BLOCKED if "bad" in parents else expected)


def test_what_is_unusual_of_a_task_is_nothing_at_first():
    """Whatever made room for it: no number, no time, no reason and no task."""
    extra = RowExtra()
    assert not any(getattr(extra, name) for name in extra.__slots__)
    assert extra.past is extra.error is extra.deadline_ns is None
    assert extra.rerun_of is extra.rerun_id is None


# -- handle ------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["", "aging", "admission", "age", "watches"])
def test_a_submission_is_plain_where_nobody_is_to_be_asked(option):
    """Any one policy with a say is asked about the second task as about the first."""
    policies = Policies()
    if option == "aging":
        policies.aging_ns = None
    elif option == "admission":
        policies.admits_all = False
    elif option == "age":
        policies.max_age_ns = 5 * SEC
    elif option == "watches":
        policies.watches = frozenset({(None, S.QUEUED)})
    machine = Machine(policies=policies, concurrency=1)
    bucket = machine.kernel.bucket(Spec("call"))
    machine.kernel.paused = True
    for name in ("a", "b"):
        policies.asked.clear()
        machine.kernel.submit(name, bucket, None, machine.now)
        asked = {"aging": ["queue"], "admission": ["admission"]}
        asked |= {"watches": ["state_machine"]}
        assert policies.asked == asked.get(option, [])
    assert machine.kernel.plain is (option == "")
    # That somebody can do it is known from then on.
    assert bucket.checked == machine.kernel.workers_version
    machine.after(6 * SEC)
    assert machine.state("b") is (S.FAILED if option == "age" else S.QUEUED)
