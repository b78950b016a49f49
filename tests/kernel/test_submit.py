"""Accepting tasks: everybody is asked first, and then everything is changed."""

import re
from contextlib import nullcontext

import pytest
from tests.kernel.commands import CancelTask, EndAttempt, SubmitTask
from tests.kernel.harness import SEC, Machine, Policies, S

from taskorch.errors import (
    InvalidTransitionError,
    QueueFullError,
    UnknownCapabilityError,
    UnsatisfiableError,
)
from taskorch.events import TaskSubmitted
from taskorch.kernel import PolicyFault, Spec, TaskRow, check_invariants
from taskorch.kernel._rows import RowExtra
from taskorch.kernel._state import KernelView
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


def test_a_task_that_needs_nothing_starts_at_once():
    """A plain task is queued and started in one step."""
    machine = Machine()
    assert machine.submit("t") == ["t"]
    assert machine.state("t") is S.RUNNING
    told = (
        "t",
        "call",
        0,
        (),
        None,
        (),
        None,
        None,
        True,
        SEC,
    )
    assert machine.told(TaskSubmitted) == [told]


def test_unknown_capability():
    """What nobody can do is refused, each time, naming what is known and near."""
    machine = Machine()
    machine.agent("a", "review", "compile")
    before = counts(machine)
    for _ in range(2):
        with pytest.raises(UnknownCapabilityError) as caught:
            machine.submit("t", requires=("reviev",))
        error = caught.value
        assert error.capability == "reviev"
        assert error.known == ("compile", "review")
        assert error.task_id == "t"
        assert "did you mean 'review'?" in str(error)
        assert "Known: compile, review" in str(error)
    assert counts(machine) == before


def test_an_unknown_capability_may_be_waited_for():
    """With `refuse_unknown=False` the task waits until somebody can do it."""
    machine = Machine(refuse_unknown=False)
    assert machine.submit("t", requires=("x",)) == []
    assert machine.kinds("t") == ["capability"]
    machine.agent("other", "y")
    assert machine.settle() == []
    machine.agent("a", "x")
    assert machine.settle() == ["t"]


def test_an_agent_that_came_later_may_be_too_small():
    """What was waited for does not start where there will never be enough."""
    machine = Machine(refuse_unknown=False)
    wants = {"requires": ("x",), "resources": Resources(gpu=2)}
    machine.submit("t", **wants)
    machine.agent("none", "x")
    machine.agent("small", "x", capacity=Resources(gpu=1))
    assert machine.settle() == []
    (first, second) = machine.why("t").blockers
    assert (first.kind, first.name, first.need, first.have) == ("resource", "gpu", 2, 0)
    assert "in any pool" in first.detail
    assert "on worker small, is 1" in second.detail
    with pytest.raises(UnsatisfiableError):
        machine.submit("u", **wants)
    machine.agent("large", "x", capacity=Resources(gpu=2))
    assert machine.settle() == ["t"]


@pytest.mark.parametrize(
    ("wants", "name", "need", "most", "where"),
    [
        (Resources(cpu=8), "cpu", 8, 4, "in the pool"),
        (Resources(gpu=1), "gpu", 1, 0, "no pool and no worker has .* that name$"),
        (Resources(cqu=1), "cqu", 1, 0, "did you mean 'cpu'"),
    ],
)
def test_unsatisfiable_by_the_pools(wants, name, need, most, where):
    """More than there will ever be is refused, with its numbers, each time."""
    machine = Machine(pools=Resources(cpu=4))
    before = counts(machine)
    for _ in range(2):
        with pytest.raises(UnsatisfiableError) as caught:
            machine.submit("t", resources=wants)
        assert re.search(where, caught.value.message)
        assert (caught.value.resource, caught.value.need) == (name, need)
        assert caught.value.most == most
    assert counts(machine) == before


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


def test_unsatisfiable_by_the_agents():
    """Of agents that are all too small, the largest is named."""
    machine = Machine()
    machine.agent("a", "x", capacity=Resources(cpu=2))
    machine.agent("b", "x", capacity=Resources(cpu=3))
    machine.agent("c", "x", capacity=Resources(cpu=1))
    with pytest.raises(UnsatisfiableError, match="on worker b, is 3") as caught:
        machine.submit("t", requires=("x",), resources=Resources(cpu=4))
    assert caught.value.most == 3


def test_a_registry_whose_answer_cannot_be_kept_is_asked_each_time():
    """Every submission and every start asks again."""
    machine = Machine()
    machine.policies.keeps_match = False
    machine.agent("a", "x")
    machine.submit("t", requires=("x",))
    asked = machine.policies.asked.count("registry")
    machine.submit("u", requires=("x",))
    assert machine.policies.asked.count("registry") == asked + 2
    machine.policies.knows = lambda row, agent: False
    with pytest.raises(UnknownCapabilityError):
        machine.submit("v", requires=("x",))


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


def test_a_machine_that_watches_all_is_asked_about_all():
    """Without a list of transitions, every one is asked about."""
    policies = Policies()
    policies.watches = None
    machine = Machine(policies=policies)
    machine.submit("t")
    assert policies.asked.count("state_machine") == 2
    assert machine.kernel.watched


@pytest.mark.parametrize(
    "component", ["registry", "queue", "admission", "state_machine"]
)
def test_a_policy_that_fails_refuses_the_task(component):
    """A fault while a task is considered reaches the caller; nothing has changed."""
    policies = Policies()
    policies.aging_ns = None
    policies.admits_all = False
    policies.watches = None
    machine = Machine(policies=policies)
    machine.agent("a", "x")
    machine.policies.broken.add(component)
    before = counts(machine)
    with pytest.raises(PolicyFault) as caught:
        machine.submit("t", requires=("x",))
    assert caught.value.component == component
    assert counts(machine) == before
    machine.policies.broken.clear()
    assert machine.submit("t", requires=("x",)) == ["t"]


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


def test_a_new_task_has_neither_begun_nor_ended():
    """Until it starts, and until it ends: what it says of that is nothing."""
    machine = Machine(concurrency=1)
    machine.submit_all("a", "b")
    row = machine.row("b")
    assert (row.started_ns, row.ended_ns, row.attempt) == (0, 0, 0)
    assert (row.submitted_ns, row.ready_ns, row.key) == (machine.now,) * 3
    assert (row.agent, row.reason, row.alloc, row.ticket) == (None, "", (), 0)
    assert (row.links, row.extra, row.named) == (None, None, False)
    row = machine.row("a")
    assert (row.started_ns, row.ended_ns, row.attempt) == (machine.now, 0, 1)


def test_what_is_unusual_of_a_task_is_nothing_at_first():
    """Whatever made room for it: no number, no time, no reason and no task."""
    extra = RowExtra()
    assert not any(getattr(extra, name) for name in extra.__slots__)
    assert extra.past is extra.error is extra.deadline_ns is None
    assert extra.rerun_of is extra.rerun_id is None


def test_a_batch_may_refer_forward():
    """Tasks that are considered together may depend on later ones of the batch."""
    machine = Machine()
    machine.submit("bad")
    machine.fail("bad")
    kernel = machine.kernel
    bucket = kernel.bucket(Spec("call"))
    rows = {
        name: type(machine.row("bad"))(name, 0, bucket, None, machine.now)
        for name in "abc"
    }
    bad = machine.row("bad")
    parents = {"a": [rows["b"]], "b": [rows["c"]], "c": [bad]}
    admitted = [
        kernel.consider(row, machine.now, parents=parents[name])
        for name, row in rows.items()
    ]
    for one in admitted:
        kernel.accept(one, machine.now)
    check_invariants(kernel)
    assert machine.states(*"abc") == [S.BLOCKED] * 3
    assert machine.extra("a").roots == ("bad",)


# -- handle ------------------------------------------------------------------------


def test_one_instant_is_applied_before_anything_starts():
    """All commands of one call are applied, and only then is something dispatched."""
    machine = Machine(concurrency=1)
    machine.submit("runs")
    starts = machine.do(
        EndAttempt("runs", 1, "completed"),
        SubmitTask("a", Spec("call")),
        SubmitTask("b", Spec("call"), priority=1),
        CancelTask("a"),
    )
    assert starts == ["b"]
    assert machine.state("a") is S.CANCELLED


def test_a_command_for_a_task_that_is_gone():
    """A command names a task in memory, or it is refused."""
    machine = Machine(keep_finished=0)
    machine.submit("t")
    machine.end("t")
    with pytest.raises(KeyError):
        machine.cancel("t")


def test_the_driver_of_commands_need_not_clear_up():
    """What only the runtime takes does not pile up for those who use `handle`."""
    machine = Machine(keep_finished=0)
    machine.submit("t", priority=1)
    machine.row("t").named = True
    machine.fail("t")
    assert machine.kernel.touched == []
    assert machine.kernel.dropped == []


def test_a_queue_that_refuses_the_first_is_asked_about_the_next():
    """That somebody can do such tasks is known by then, but not that they may come."""
    machine = Machine()
    machine.policies.admits_all = False
    machine.policies.admits = lambda row: ("it is full", None)
    bucket = machine.kernel.bucket(Spec("call"))
    for number in range(3):
        with pytest.raises(QueueFullError):
            machine.kernel.submit(f"t{number}", bucket, None, machine.now)
    assert machine.kernel.tasks == {}
    assert machine.policies.asked.count("admission") == 3


@pytest.mark.parametrize("refusal", [None, "it is full"])
def test_what_comes_with_a_task_counts_as_queued_only_while_it_is_considered(refusal):
    machine = Machine(concurrency=1)
    machine.submit_all("a", "b")
    kernel, view, seen = machine.kernel, KernelView(machine.kernel), []
    machine.policies.admits_all = False
    machine.policies.admits = lambda row: (seen.append(view.queued) or refusal, None)
    row = TaskRow("c", 0, kernel.bucket(Spec("call")), None, machine.now)
    with pytest.raises(QueueFullError) if refusal else nullcontext():
        kernel.consider(row, machine.now, beside=5)
    assert seen == [1 + 5]
    assert view.queued == 1


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
    assert bucket.checked == machine.kernel.agents_version
    machine.after(6 * SEC)
    assert machine.state("b") is (S.FAILED if option == "age" else S.QUEUED)


@pytest.mark.parametrize(
    ("needs", "missing"), [(("x", "nix"), "nix"), (("a", "x"), "a"), (("x", "y"), "x")]
)
def test_what_is_missing_is_what_no_agent_has(needs, missing):
    """Or the first, where each has an agent of its own."""
    machine = Machine()
    machine.agent("one", "x")
    machine.agent("two", "y")
    with pytest.raises(UnknownCapabilityError) as caught:
        machine.submit("t", requires=needs)
    assert caught.value.capability == missing
    has = "all of them" if missing == "x" else repr(missing)
    assert f"no worker has {has}" in str(caught.value)
