"""The fold: the events alone lead to the state that the kernel was in."""

from contextlib import suppress
from functools import cache
from inspect import signature

import attrs
import pytest
from tests.core.kernel.commands import ChangePools, EndAttempt
from tests.core.kernel.harness import SEC, Machine, Nobody, Policies, S, Twin, unlike
from tests.core.kernel.test_control import TABLE, blocked, held, pending, retrying

from taskorch import events
from taskorch.core.kernel import Spec, TaskRow, check_invariants, differences, fold
from taskorch.core.kernel._application import APPLY
from taskorch.errors import UsageError
from taskorch.events import (
    CATALOGUE,
    AgentDraining,
    AgentJoined,
    AgentLost,
    AgentProbed,
    AgentRestored,
    AgentReturned,
    AgentTripped,
    AllocationChanged,
    AnswerRefused,
    AttemptReturned,
    AttemptStopping,
    AttemptWaiting,
    BudgetChanged,
    BudgetExhausted,
    BudgetLow,
    BudgetSpent,
    EventEmitted,
    ExtensionKept,
    OrchestratorStarted,
    PoolsChanged,
    QuestionAnswered,
    QuestionReminded,
    QuotasChanged,
    ResourcesAllocated,
    ResourcesReleased,
    SlotLeaked,
    SlotRecovered,
    StartsHeld,
    StartsReleased,
    TaskBlocked,
    TaskCancelled,
    TaskCompleted,
    TaskDue,
    TaskFailed,
    TaskOptionsChanged,
    TaskParentsAdded,
    TaskRecalled,
    TaskReleased,
    TaskRepointed,
    TaskReprioritised,
    TaskResumed,
    TaskRetrying,
    TaskStarted,
    TaskSubmitted,
    TaskSuspended,
    TaskUnblocked,
)
from taskorch.model import Breaker, Elastic, Quota, Resources

GRACE = 10 * SEC


def twin(**config):
    """A machine whose events are folded as it goes."""
    policies = Policies()
    policies.watches = frozenset({(S.QUEUED, S.RUNNING)})
    made = Twin(policies=policies, pools=Resources(cpu=2), **config)
    made.worker("a", "x", max_concurrency=1)
    return made


def in_situation(situation, **config):
    made = twin(**config)
    situation(made)
    made.mirror()
    return made


def is_over(machine):
    return all(row.state.is_terminal for row in machine.kernel.tasks.values())


def help_on(machine):
    """Let nothing wait for somebody to say what becomes of it."""
    kernel = machine.kernel
    for row in list(kernel.tasks.values()):
        if row.state is S.BLOCKED:
            machine.decide(row.id, "complete")
        elif row.state is S.SUSPENDED:
            machine.resume(row.id)
        elif row.state is S.QUEUED:
            machine.prioritise(row.id, 1)
        elif row.state is S.RUNNING:
            kernel.reclaim_slot(row, row.attempt, machine.now)
            machine.settle()


def drain(machine):
    """Let everything come to its end, whatever it needs for that."""
    machine.policies.vetoes.clear()
    kernel = machine.kernel
    for _ in range(12):
        for worker in kernel.workers.values():
            if worker.lease_ns:
                machine.beat(
                    worker.name, *((row.id, row.attempt) for row in worker.seen)
                )
        help_on(machine)
        for name in machine.running():
            machine.end(name)
        machine.after(5 * SEC)
        if is_over(machine):
            break
    assert is_over(machine)
    assert kernel.running == sum(leak.slots for leak in kernel.leaked.values())


# -- every command in every situation ----------------------------------------------


def wait_and(expire):
    def action(machine):
        machine.now += SEC
        expire(machine)

    return action


def yield_slot(machine):
    row = machine.row("t")
    machine.kernel.yield_slot(row, row.attempt, machine.now)
    machine.settle()


def reclaim_slot(machine):
    row = machine.row("t")
    machine.kernel.reclaim_slot(row, row.attempt, machine.now)
    machine.settle()


def rerun(machine):
    if machine.state("t").is_terminal:
        machine.rerun("t")


def hang_on(machine):
    """Others need it, one of them suspended; then it fails, if it can."""
    machine.submit("child", after=["t"])
    machine.submit("beside", after=["t", "child"])
    machine.submit("grandchild", after=["child", "beside"])
    machine.suspend("beside")
    machine.end("t", "failed")
    machine.cancel("t")
    machine.resume("beside")


def restart(machine):
    machine.restart()
    machine.reopen()


ACTIONS = {
    "cancel": lambda m: m.cancel("t"),
    "suspend": lambda m: m.suspend("t"),
    "hold": lambda m: m.suspend("t", holdable=True),
    "resume": lambda m: m.resume("t"),
    "prioritise": lambda m: m.prioritise("t", 3),
    "other needs": lambda m: m.change("t", requires=("y",), resources=Resources(cpu=2)),
    "other limits": lambda m: m.change(
        "t", "deadline", "priority", timeout_ns=SEC, deadline=m.now + SEC, priority=2
    ),
    "another date": lambda m: m.change("t", "not_before", not_before=m.now + SEC),
    "no dates": lambda m: m.change("t", "not_before", "deadline", idempotent=False),
    "a date gone by": lambda m: m.change("t", "deadline", deadline=m.now),
    "expire": wait_and(lambda m: m.expire(0)),
    "decide to retry": lambda m: m.decide("t", "retry"),
    "decide to fail": lambda m: m.decide("t", "fail"),
    "decide to complete": lambda m: m.decide("t", "complete"),
    "completed": lambda m: m.end("t"),
    "failed": lambda m: m.end("t", "failed"),
    "stopped": lambda m: m.end("t", "stopped"),
    "lost": lambda m: m.end("t", "lost"),
    "missing": lambda m: m.end("t", "missing"),
    "unstarted": lambda m: m.end("t", "unstarted"),
    "wait": lambda m: m.after(20 * SEC),
    "yield": yield_slot,
    "reclaim": reclaim_slot,
    "rerun": rerun,
    "dependents": hang_on,
    "restart": restart,
}


#: At once, a third: each command in six situations, each situation with eight commands.
PAIRS = [
    pytest.param(
        situation,
        action,
        marks=pytest.mark.slow("all commands in all situations")
        if (row + column) % 3
        else (),
        id=f"{situation.__name__}-{action}",
    )
    for row, situation in enumerate(TABLE)
    for column, action in enumerate(ACTIONS)
]


@pytest.mark.parametrize(("situation", "action"), PAIRS)
def test_each_command_in_each_situation(situation, action):
    """Folded after each command, and again from the first event, all is the same."""
    machine = in_situation(situation)
    with suppress(UsageError):
        ACTIONS[action](machine)
    machine.mirror()
    assert unlike(machine.kernel, machine.folded(), machine.now) == []
    drain(machine)
    assert unlike(machine.kernel, machine.folded(), machine.now) == []


@pytest.mark.parametrize("first", ["suspend", "hold", "cancel", "failed", "wait"])
@pytest.mark.parametrize("second", ["suspend", "resume", "lost", "wait", "completed"])
@pytest.mark.parametrize("retry", [None, 0, 5 * SEC])
def test_two_commands_on_a_running_task(first, second, retry):
    """What a command leaves behind for the next is in the events."""
    machine = twin()
    if retry is not None:
        machine.policies.delays["t"] = [retry]
    machine.submit("t", timeout_ns=15 * SEC, resources=Resources(cpu=1))
    for action in (first, second):
        with suppress(UsageError):
            ACTIONS[action](machine)
        machine.mirror()
    drain(machine)
    assert unlike(machine.kernel, machine.folded(), machine.now) == []


# -- each class of event ------------------------------------------------------------


def submit_with_everything(m):
    m.policies.max_age_ns = 99 * SEC
    m.submit("parent")
    m.submit(
        "t",
        type="report",
        priority=2,
        after=["parent", "parent"],
        not_before=m.now + SEC,
        deadline=m.now + 50 * SEC,
        timeout_ns=3 * SEC,
        idempotent=False,
        requires=("x",),
        resources=Resources(cpu=1),
        cargo="mine",
    )
    m.end("parent")
    m.after(SEC)


def fail_with_a_dependent(m):
    m.policies.delays["parent"] = [0]
    m.submit("parent", resources=Resources(cpu=1))
    m.submit("t", after=["parent"])
    m.fail("parent")
    m.fail("parent")


def fail_by_component(m):
    m.policies.broken.add("router")
    m.submit("u", requires=("x",))
    m.policies.broken = {"retry_handler"}
    m.submit("t")
    m.fail("t")
    m.policies.broken.clear()


def mend_by_rerun(m):
    fail_with_a_dependent(m)
    m.submit("u", after=["t"])
    m.submit("late", after=["parent", "u"])
    m.rerun("parent")


def test_who_waits_twice_for_a_task_waits_twice_for_its_rerun():
    """Each way from a dependent to a parent is turned once, in the order told."""
    made = Twin()
    made.submit("p")
    made.submit("t", after=["p", "p"])
    made.submit("u", after=["p"])
    made.fail("p")
    name = made.rerun("p")
    assert made.told(TaskRepointed) == [("p", name, ("t", "t", "u"))]
    made.mirror()
    made.end(name)
    made.mirror()
    assert made.states("t", "u") == [S.RUNNING] * 2


def complete_by_decision(m):
    blocked(m)
    m.submit("u", after=["t"])
    m.submit("v", after=["u", "parent"])
    m.decide("t", "complete")


def wait_inside(m):
    m.submit("t", resources=Resources(cpu=1))
    m.submit("child")
    yield_slot(m)
    m.end("child")
    reclaim_slot(m)


def wait_for_a_store(m):
    m.submit("t", resources=Resources(cpu=1), timeout_ns=SEC)
    row = m.row("t")
    m.kernel.yield_slot(row, row.attempt, m.now, returned=True)
    m.settle()


def leak(m):
    m.policies.delays["t"] = [0]
    m.submit("t", timeout_ns=SEC, resources=Resources(cpu=1))
    m.after(SEC + GRACE)
    yield_slot(m)
    m.after(SEC + GRACE)


def recover_leak(m):
    leak(m)
    m.end("t", attempt=1)
    m.end("t", attempt=2)


def away(m):
    m.worker("far", "y", lease=5.0)
    m.submit("t", requires=("y",))
    m.submit("u", requires=("y",), idempotent=False)
    m.submit("v", requires=("y",), timeout_ns=SEC)
    m.after(5 * SEC)


def back(m):
    away(m)
    m.beat("far")


def missing(m):
    m.worker("far", "y", lease=5.0)
    m.submit("t", requires=("y",))
    m.submit("u", requires=("y",), idempotent=False)
    for _ in range(6):
        m.after(SEC)
        m.beat("far")


def anew(m):
    m.worker("far", "y", lease=5.0)
    m.submit("t", requires=("y",))
    m.worker("far", "y", "z", lease=7.0, max_concurrency=1)
    m.submit("u", requires=("z",))


def other_options(m):
    m.submit("t", requires=("x",), not_before=m.now + 9 * SEC)
    m.submit("waits", after=["t"])
    m.change("waits", "not_before", not_before=m.now + 20 * SEC, timeout_ns=SEC)
    m.change("t", "not_before", not_before=m.now + 2 * SEC, idempotent=False)
    m.change("t", "deadline", deadline=m.now + 50 * SEC, requires=())
    m.after(SEC)
    m.change("t", "not_before", "priority", priority=3)
    m.after(0)
    m.change("t", "priority", priority=-1, timeout_ns=3 * SEC)


def hold_and_time_out(m):
    m.submit("t", timeout_ns=3 * SEC)
    m.after(SEC)
    m.suspend("t", holdable=True)
    m.after(9 * SEC)
    m.resume("t")
    m.after(2 * SEC)


def poison(m):
    m.submit("t", resources=Resources(cpu=1))
    for _ in range(3):
        m.end("t", "lost")


def expire(m):
    m.policies.max_age_ns = 2 * SEC
    m.submit_all("runs", "t", requires=("x",))
    m.after(3 * SEC)


def join_in_part(m):
    m.submit_all("p1", "p2")
    m.submit("t", after=["p1", "p2"], join="any", on_failure="skip")
    m.end("p1")


def early_event(m):
    m.emit("go", keep=9 * SEC)
    m.submit("t", wait=("go", None, False))
    m.submit("u", wait=("stop", SEC, False))


def question(m):
    m.submit("q", wait=("answer to go?", 9 * SEC, False), remind=SEC)
    m.submit("t", after=["q"])
    m.after(2 * SEC)
    m.answer("q", "ada", "yes")
    m.kernel.refuse_answer(m.row("q"), "ada", "yes", "twice", m.now)
    m.answer("q", "bob", "yes", "complete")
    m.after(2 * SEC)


def unanswered(m):
    m.submit("q", wait=("answer to go?", 3 * SEC, False), remind=SEC)
    m.after(4 * SEC)


def recall(m):
    m.submit("p")
    m.submit("t", after=["p"], join="finished", not_before=m.now + SEC)
    m.fail("p")
    m.rerun("p")


def more_to_wait_for(m):
    m.submit_all("p1", "p2")
    m.submit("t", after=["p1"])
    m.submit("late", not_before=m.now + SEC)
    m.add_parents("t", "p2", "p1")
    m.add_parents("late", "p2")


#: Of each class of event that changes something, the stories that tell it.
def less_than_is_held(m):
    m.submit_all("one", "two", "three", resources=Resources(cpu=1))
    m.change_pools(cpu=1)


def grow_and_shrink(m):
    """What is elastic changes while it runs, and then makes room for a rigid one."""
    m.do(ChangePools((("cpu", 8_000_000),)))
    held = (("cpu", 4_000_000),)
    m.policies.least = lambda request, elastic: held
    answers = iter([held, (("cpu", 8_000_000),), held])

    def allocate(_row, _agent, request, _now, least=None, _held=None):
        return next(answers, least or request), "so much", False

    m.policies.allocate = allocate
    m.submit("e", resources=Elastic({"cpu": 8}, min={"cpu": 4}))
    m.checkpoint("e")
    m.checkpoint("e")
    m.submit("rigid", resources=Resources(cpu=4))


def other_pools(m):
    m.worker("smith", "iron", capacity=Resources(anvil=1))
    m.submit("forge", requires=("iron",), resources=Resources(anvil=1))
    m.change_pools(anvil=1, coal=5)
    m.change_pools(gone=("coal", "anvil"))


def bounded(m):
    m.submit_all("one", "two", "three", resources=Resources(cpu=0.5))
    m.submit("leaks", requires=("x",))
    m.cancel("leaks")
    m.after(GRACE)
    m.allocate("lab", cpu=0.5)
    m.change_quotas(
        Quota(type="call", resources={"cpu": 1}, max_parallel=2),
        Quota(owner="ann", resources={"cpu": 1}),
    )
    m.end("one")


def bounded_otherwise(m):
    bounded(m)
    m.change_quotas(Quota(type="call", max_parallel=2), Quota(owner="ann"))


def taken_by_hand(m):
    m.allocate("lab", cpu=1)
    m.allocate("later", "bob", cpu=2)
    m.submit("t", resources=Resources(cpu=1))


def given_back(m):
    taken_by_hand(m)
    m.release("lab")
    m.end("t")


def documented(m):
    """Two extensions keep documents; one has dropped its only one."""
    kernel = m.kernel
    kernel.keep_document("rates", "a", "1", m.now)
    kernel.keep_document("rates", "b", '{"n":2}', m.now)
    kernel.keep_document("rates", "a", "3", m.now)
    kernel.keep_document("gone", "a", "1", m.now)
    kernel.keep_document("gone", "a", "", m.now)
    kernel.keep_document("gone", "a", "", m.now)
    kernel.keep_document("other", "a", "1", m.now)
    assert kernel.kept == {"rates": {"b": '{"n":2}', "a": "3"}, "other": {"a": "1"}}
    assert list(kernel.kept["rates"]) == ["b", "a"]


def tripped(m):
    """A worker of two has failed twice."""
    for name in "bc":
        m.worker(name, "z", max_concurrency=1, breaker=Breaker(failures=2, open=1))
    m.submit_all("u", "v", "w", requires=("z",))
    for name in "uvw":
        if m.state(name) is S.RUNNING and m.worker_of(name) == "b":
            m.fail(name)


def probed(m):
    tripped(m)
    m.submit("x", requires=("z",))
    m.after(SEC)
    assert m.worker_of("x") == "b"


def mended(m):
    probed(m)
    m.end("x")


def starts_held(m):
    """Ann and ben hold starts; ann has changed her mind once."""
    kernel = m.kernel
    kernel.hold_starts("ann", 0, "a freeze", m.now, lasts=True)
    kernel.hold_starts("ben", 2, "an alert", m.now, lasts=False)
    kernel.hold_starts("ann", 1, "a freeze", m.now, lasts=True)
    m.settle()


def starts_released(m):
    starts_held(m)
    m.kernel.release_starts("ann", m.now)
    m.settle()
    restart(m)
    assert m.kernel.holds == {}


def drained(m):
    m.kernel.drain("a", "for repair", m.now)
    m.settle()
    m.submit("t", requires=("x",))
    assert m.kinds("t") == ["agent"]
    m.kernel.drain("a", "", m.now)
    m.settle()


def spent(machine):
    """A budget with a part is used up, and raised."""
    from taskorch.ext.budgets._kernel import change_budget, declare_budget

    kernel, units = machine.kernel, Resources(tokens=100).units
    declare_budget(kernel, "whole", units, "", machine.now)
    declare_budget(kernel, "part", units, "whole", machine.now)
    for name in ("s1", "s2", "s3"):
        spends = Resources(tokens=45).units
        machine.submit(name, budget="part", spends=spends)
    kernel.spend(machine.row("s1"), 1, Resources(tokens=50).units, machine.now)
    machine.end("s1")
    machine.end("s2", "lost")
    machine.settle()
    units = Resources(tokens=300).units
    change_budget(kernel, "whole", units, machine.now)
    change_budget(kernel, "part", units, machine.now, is_open=True)
    machine.settle()


STORIES = {
    TaskSubmitted: [submit_with_everything],
    TaskStarted: [submit_with_everything],
    TaskCompleted: [complete_by_decision, wait_inside],
    TaskFailed: [fail_by_component, poison, expire],
    TaskRetrying: [retrying, missing, poison],
    TaskBlocked: [fail_with_a_dependent, away, missing],
    TaskUnblocked: [mend_by_rerun, complete_by_decision],
    TaskReleased: [join_in_part],
    TaskRecalled: [recall],
    TaskSuspended: [held],
    TaskResumed: [hold_and_time_out],
    TaskDue: [submit_with_everything],
    TaskCancelled: [lambda m: (pending(m), m.cancel("t"))],
    TaskReprioritised: [lambda m: (pending(m), m.prioritise("t", -1))],
    TaskOptionsChanged: [other_options],
    TaskRepointed: [mend_by_rerun],
    TaskParentsAdded: [more_to_wait_for],
    QuestionAnswered: [question],
    AnswerRefused: [question],
    QuestionReminded: [question, unanswered],
    EventEmitted: [early_event],
    AttemptStopping: [hold_and_time_out, leak],
    AttemptWaiting: [wait_inside, wait_for_a_store],
    AttemptReturned: [wait_inside],
    AllocationChanged: [grow_and_shrink],
    SlotLeaked: [leak],
    SlotRecovered: [recover_leak],
    AgentJoined: [anew],
    AgentLost: [away, anew],
    AgentReturned: [back],
    AgentTripped: [tripped],
    AgentProbed: [probed],
    AgentRestored: [mended],
    AgentDraining: [drained],
    ResourcesAllocated: [taken_by_hand, given_back],
    ResourcesReleased: [given_back],
    QuotasChanged: [bounded, bounded_otherwise],
    BudgetChanged: [spent],
    BudgetSpent: [spent],
    BudgetLow: [spent],
    BudgetExhausted: [spent],
    ExtensionKept: [documented],
    StartsHeld: [starts_held],
    StartsReleased: [starts_released],
    PoolsChanged: [less_than_is_held, other_pools],
    OrchestratorStarted: [lambda m: (wait_inside(m), restart(m))],
}


STORY_LIST = [(cls, story) for cls, stories in STORIES.items() for story in stories]


@pytest.mark.parametrize(("cls", "story"), STORY_LIST)
def test_each_class_of_event(cls, story):
    """A story that tells it, folded as it goes, from its first event to its end."""
    machine = twin()
    story(machine)
    machine.mirror()
    assert machine.told(cls)
    assert unlike(machine.kernel, machine.folded(), machine.now) == []
    drain(machine)
    assert unlike(machine.kernel, machine.folded(), machine.now) == []


def test_a_fold_asks_nobody_and_tells_nobody():
    """No policy is asked, no effect is left to be carried out, no event is made."""
    for story, *_ in STORIES.values():
        machine = twin()
        story(machine)
        policies = Nobody()
        folded = machine.folded(policies=policies)
        assert policies.asked == []
        assert (folded.starts, folded.effects, folded.touched) == ([], [], [])
        assert (folded.dropped, folded.sink, folded.deciding) == ([], None, False)
        assert folded.seq == machine.kernel.seq
        assert folded.paused


def test_cargo_is_kept():
    """What the driver keeps with a task is handed over with its submission."""
    machine = twin()
    submit_with_everything(machine)
    folded = machine.folded()
    assert folded.tasks["t"].cargo == "mine"
    assert folded.tasks["t"].bucket.spec == machine.row("t").bucket.spec


# -- parents -----------------------------------------------------------------------


def gone(task_id, state):
    """What stands for a task that has left memory, as a parent."""
    row = TaskRow(task_id, 0, Machine().kernel.bucket(Spec("")), None, SEC)
    row.state = state
    return row


@pytest.mark.parametrize("keep", [0, 2])
def test_what_leaves_memory_at_once(keep):
    """Events of tasks that are no longer kept come late, and are applied like others."""
    machine = twin(keep_finished=keep)
    machine.submit_all("t", "u", "v", resources=Resources(cpu=1))
    machine.submit("child", after=["t"])
    machine.submit("orphan", after=["u", "v"])
    machine.end("t")
    machine.cancel("u")
    machine.after(GRACE)
    machine.end("child")
    assert ("u", 1) in machine.kernel.leaked
    assert unlike(machine.kernel, machine.folded(), machine.now) == []
    machine.do(EndAttempt("u", 1, "completed"))
    machine.do(EndAttempt("child", 1, "completed"))
    drain(machine)
    assert len(machine.kernel.tasks) == keep
    assert unlike(machine.kernel, machine.folded(), machine.now) == []


@pytest.mark.parametrize("keep", [0, 1000])
def test_rerun_of_what_was_kept_and_of_what_was_not(keep):
    """A re-run knows what it runs again, whether or not that is in memory."""
    machine = twin(keep_finished=keep)
    machine.submit("t")
    row = machine.row("t")
    machine.fail("t")
    kernel = machine.kernel
    kernel.submit_general("t~2", row.bucket, None, machine.now, rerun_of=row)
    machine.settle()
    assert machine.shadow.tasks["t~2"].extra.rerun_of == "t"
    if keep:
        assert machine.shadow.tasks["t"].extra.rerun_id == "t~2"


@pytest.mark.parametrize(
    ("task_id", "event_says", "run"),
    [
        # Events of earlier versions say nothing.
        ("r/t", None, "r"),
        ("r/phase/t~2", None, "r"),
        ("t", None, ""),
        ("r/t", "", ""),
        ("t", "r", "r"),
    ],
)
def test_the_run_of_a_task_is_in_its_event_or_else_in_its_id(task_id, event_says, run):
    machine = twin()
    folded = machine.folded()
    number = machine.kernel.seq + 1
    event = TaskSubmitted(
        number, machine.now, task_id, "call", 0, key=SEC, run=event_says
    )
    fold(folded, event)
    assert folded.tasks[task_id].run == run
    assert folded.runs == ({run: [task_id]} if run else {})
    check_invariants(folded)


def test_names_of_the_users_choice():
    """Whether a task has one is in the event: it is kept when the task is evicted."""
    machine = twin()
    number = machine.kernel.seq + 1
    event = TaskSubmitted(number, machine.now, "t", "call", 0, key=SEC, named=True)
    folded = machine.folded()
    fold(folded, event)
    assert folded.tasks["t"].named
    assert [*folded.tasks] == ["t"]
    check_invariants(folded)


# -- and on ------------------------------------------------------------------------


def second(machine):
    """A machine that goes on from the events of *machine*, and from nothing else."""
    policies = Policies()
    policies.watches = machine.policies.watches
    policies.delays = {name: [*d] for name, d in machine.policies.delays.items()}
    policies.vetoes = dict(machine.policies.vetoes)
    policies.max_age_ns = machine.policies.max_age_ns
    policies.aging_ns = machine.policies.aging_ns
    made = Machine(policies=policies)
    made.kernel = policies.kernel = machine.folded(policies=policies)
    made.kernel.listen(made.sink, frozenset(CATALOGUE))
    made.sink.clear()
    made.kernel.paused = False
    made.now = machine.now
    return made


ONWARD = [*TABLE, *dict.fromkeys(story for _, story in STORY_LIST)]


@pytest.mark.parametrize("situation", ONWARD)
def test_a_folded_kernel_goes_on(situation):
    """The same commands are followed by the same events, in the same order."""
    live = in_situation(situation)
    if any(worker.lease_ns for worker in live.kernel.workers.values()):
        # When it was heard of is no event.
        live.restart()
        live.reopen()
    other = second(live)
    before = len(live.sink)
    for machine in (live, other):
        machine.submit("last", priority=1)
        drain(machine)
    assert live.sink[before:] == other.sink


@pytest.mark.parametrize("aging", [60 * SEC, None])
def test_the_order_of_a_folded_kernel(aging):
    """What was queued starts by its key, whether a number or of the user's kind."""
    machine = twin(concurrency=1)
    machine.policies.aging_ns = aging
    machine.submit("runs")
    for number, priority in enumerate((0, 2, -1, 1, 2)):
        machine.now += SEC
        machine.submit(f"t{number}", priority=priority, type=f"type{number % 2}")
    machine.prioritise("t0", 9)
    keys = [row.key for row in machine.kernel.tasks.values()]
    assert all(isinstance(key, tuple) is (aging is None) for key in keys)
    other = second(machine)
    assert other.settle() == []
    assert other.end("runs") == ["t0"]
    order = [other.end(name)[0] for name in ("t0", "t1", "t4", "t3")]
    assert order == ["t1", "t4", "t3", "t2"]


def due_at(m):
    m.submit("t", not_before=m.now + 3 * SEC)


def grace(m):
    m.submit("t")
    m.cancel("t")


def expire_later(m):
    m.policies.max_age_ns = 3 * SEC
    m.submit_all("runs", "t", requires=("x",))


def held_and_resumed(m):
    m.submit("t", timeout_ns=3 * SEC)
    m.after(2 * SEC)
    m.suspend("t", holdable=True)
    m.after(9 * SEC)
    m.resume("t")


TIMERS = [
    (lambda m: m.submit("t", timeout_ns=3 * SEC), 3 * SEC, AttemptStopping),
    (held_and_resumed, SEC, AttemptStopping),
    (grace, GRACE, SlotLeaked),
    (due_at, 3 * SEC, TaskDue),
    (retrying, 5 * SEC, TaskDue),
    (lambda m: m.submit("t", deadline=m.now + 3 * SEC), 3 * SEC, AttemptStopping),
    (expire_later, 3 * SEC, TaskFailed),
    (lambda m: m.worker("far", "y", lease=3.0), 3 * SEC, AgentLost),
]


@pytest.mark.parametrize(("story", "ns", "cls"), TIMERS)
def test_timers_of_a_folded_kernel(story, ns, cls):
    """Each kind of timer is set again, and rings when it would have."""
    machine = twin()
    story(machine)
    other = second(machine)
    other.after(ns - 1)
    assert other.told(cls) == []
    other.after(1)
    assert len(other.told(cls)) == 1


# -- differences -------------------------------------------------------------------


@cache
def state():
    machine = twin(keep_finished=2)
    machine.submit_all("gone", "failed")
    machine.end("gone")
    machine.fail("failed")
    machine.submit("t", resources=Resources(cpu=1), timeout_ns=9 * SEC)
    machine.submit("child", after=["t"])
    machine.submit("leaks", requires=("x",))
    machine.cancel("leaks")
    machine.after(GRACE)
    machine.submit("plain")
    machine.allocate("lab", cpu=1)
    return machine


COUNTERS = (
    "seq",
    "epoch",
    "running",
    "active",
    "queued",
    "pending",
    "retrying",
    "blocked",
    "suspended",
    "completed",
    "failed",
    "cancelled",
    "submissions",
    "delayed",
    "retries_scheduled",
    "retries_recovered",
    "retries_exhausted",
)
OF_A_ROW = (
    "id",
    "seq",
    "state",
    "key",
    "named",
    "submitted_ns",
    "ready_ns",
    "started_ns",
    "ended_ns",
    "attempt",
    "reason",
    "alloc",
    "run",
)
OF_MORE = (
    "suspending",
    "charged",
    "crashes",
    "deadline_ns",
    "decision",
    "due_ns",
    "error",
    "first_ns",
    "first_roots",
    "held",
    "last_delay_ns",
    "left_ns",
    "past",
    "priority",
    "rerun_id",
    "rerun_of",
    "resume_ns",
    "stop",
    "timer",
    "yielded",
)
OF_A_WORKER = ("info", "lost", "running", "completed", "failed", "leaked")
BENT = "bent"


def bend(name, where):
    """How to put something else where *where* finds it."""
    return lambda kernel: setattr(where(kernel), name, BENT)


#: How a state is bent, and what is then said of it.
BENDS = {
    **{name: (bend(name, lambda k: k), f"{name}: ") for name in COUNTERS},
    **{
        f"row {name}": (bend(name, lambda k: k.tasks["t"]), f"t.{name}: ")
        for name in OF_A_ROW
    },
    **{
        f"extra {name}": (bend(name, lambda k: k.tasks["t"].extra), f"t.{name}: ")
        for name in OF_MORE
    },
    **{
        f"worker {name}": (bend(name, lambda k: k.workers["a"]), "worker a: ")
        for name in OF_A_WORKER
    },
    "worker": (lambda k: setattr(k.tasks["t"], "worker", k.workers["a"]), "t.worker: local"),
    "worker of a plain row": (
        lambda k: setattr(k.tasks["plain"], "worker", k.workers["a"]), "plain.worker: local"
    ),
    "spec of a plain row": (
        lambda k: setattr(k.tasks["plain"], "bucket", k.tasks["t"].bucket), "plain.spec: "
    ),
    "no worker": (lambda k: setattr(k.tasks["t"], "worker", None), "t.worker: local"),
    "spec": (
        lambda k: setattr(k.tasks["t"], "bucket", k.tasks["child"].bucket), "t.spec: "
    ),
    "parents": (
        lambda k: setattr(k.tasks["child"].links, "parents", []), "child.parents: ['t']"
    ),
    "waiting": (
        lambda k: setattr(k.tasks["child"].links, "waiting", 0), "child.waiting: 1"
    ),
    "dependents": (
        lambda k: setattr(k.tasks["t"].links, "dependents", []),
        "t.dependents: ['child'] and []",
    ),
    "no links": (lambda k: setattr(k.tasks["t"], "links", None), "t.dependents: "),
    "blame": (
        lambda k: setattr(k.tasks["t"].extra, "blocked_by", {"x": None}),
        "t.blocked_by: [] and ['x']",
    ),
    "no extra": (lambda k: setattr(k.tasks["t"], "extra", None), "t.timer: "),
    "missing task": (
        lambda k: k.tasks.pop("t"), "tasks: ['t'] only here, [] only there"
    ),
    "extra task": (
        lambda k: k.tasks.update(u=k.tasks["t"]), "tasks: [] only here, ['u'] only there"
    ),
    "leak": (lambda k: k.leaked.clear(), "leaks: [('leaks', 1)] only here"),
    "evicted": (lambda k: k.evicted.clear(), "what has left memory is not the same"),
    "evicted state": (
        lambda k: k.evicted.add("gone", S.FAILED, named=True), "what has left memory is not the same"
    ),
    "pool": (bend("used", lambda k: k.pools["cpu"]), "pool cpu: "),
    "allocation": (lambda k: k.allocations.clear(), "allocation lab: "),
    "pool total": (bend("total", lambda k: k.pools["cpu"]), "pool cpu: "),
    "no pool": (lambda k: k.pools.clear(), "pool cpu: "),
    "no workers": (lambda k: k.workers.pop("a"), "worker a: "),
    "worker used": (lambda k: k.workers["a"].used.update(cpu=1), "worker a: "),
    "record": (
        lambda k: setattr(k.workers["local"].records["call"], "failed", 5), "worker local: "
    ),
    "no record": (lambda k: k.workers["local"].records.clear(), "worker local: "),
}  # fmt: skip


@pytest.mark.parametrize("name", BENDS)
def test_a_difference_is_named(name):
    """Whatever is not the same is found, from either side, and said."""
    machine = state()
    folded = machine.folded()
    assert differences(machine.kernel, folded) == []
    change, said = BENDS[name]
    change(folded)
    found = differences(machine.kernel, folded)
    assert any(text.startswith(said) for text in found), found
    assert differences(folded, machine.kernel) != []


def test_a_row_with_nothing_unusual_in_it():
    """It is the same as one whose rarer part was never made."""
    machine = state()
    folded = machine.folded()
    plain = folded.tasks["plain"]
    assert plain.extra is None
    plain.extra = type(folded.tasks["t"].extra)()
    assert differences(machine.kernel, folded) == []
    plain.extra.crashes = 1
    assert differences(machine.kernel, folded) == ["plain.crashes: 0 and 1"]
    assert differences(folded, machine.kernel) == ["plain.crashes: 1 and 0"]


def test_differences_of_some_rows():
    """Asked about some tasks, it looks at these and at the counters only."""
    machine = state()
    live, folded = machine.kernel, machine.folded()
    folded.tasks["t"].attempt = 5
    folded.workers["a"].running = 7
    assert differences(live, folded, ["child", "gone", "nobody"]) == []
    assert differences(live, folded, ["child", "t"]) == ["t.attempt: 1 and 5"]
    folded.queued = 3
    assert differences(live, folded, []) == ["queued: 0 and 3"]
    folded.queued = 0
    folded.evicted.add("gone", S.CANCELLED, named=True)
    assert differences(live, folded, ["gone"]) == ["gone: completed and cancelled"]
    row = folded.tasks.pop("child")
    assert differences(live, folded, ["child"]) == [f"child: {row} and None"]
    assert differences(folded, live, ["child"]) == [f"child: None and {row}"]


def test_each_event_about_a_task_is_applied():
    """Or it says why not: nothing in the state follows from it."""
    of_their_own = {
        events.TaskSubmitted,
        # Read as it is, since it is frequent.
        events.TaskStarted,
        events.TaskParentsAdded,
        events.TaskRepointed,
    }
    of_no_state = {
        # What follows is in documents.
        events.ResultRemembered,
        events.ResultReused,
        events.LateResultIgnored,
        events.TaskCheckpointed,
        events.TaskNoted,
        events.TaskProgressed,
        events.TaskReady,
        events.TaskRejected,
        events.TaskRenewed,
        events.RecoveryAttempted,
        events.PolicyViolated,
        events.ResultsUsed,
        events.TaskRewarded,
    }
    views = {
        events.TaskValidated,
        events.TaskRouted,
        events.TaskTimedOut,
        events.QuestionAsked,
    }
    about_tasks = {c for c in events.CATALOGUE if issubclass(c, events.TaskEvent)}
    assert about_tasks - APPLY.keys() == of_their_own | of_no_state | views
    for cls, apply in APPLY.items():
        _, _, event = signature(apply).parameters.values()
        assert event.annotation == cls.__name__


def test_an_answer_that_was_refused_of_a_task_that_has_left_memory_since():
    """A later incarnation may keep fewer tasks that have ended."""
    machine = Machine()
    machine.submit("q", wait=("answer to go?", None, False))
    machine.answer("q", "ada", "yes", "complete")
    machine.kernel.refuse_answer(machine.row("q"), "bob", "yes", "late", machine.now)
    assert machine.row("q").id == "q"
    machine.kernel.config = attrs.evolve(machine.kernel.config, keep_finished=0)
    kernel = machine.folded()
    assert "q" not in kernel.tasks
    assert kernel.seq == machine.kernel.seq
