"""Events: one for each change, in order, and none made where nobody listens."""

from itertools import combinations

import pytest
from tests.core.kernel.commands import SubmitTask
from tests.core.kernel.harness import SEC, Machine, S
from tests.core.kernel.random_run import run

from taskorch.core.kernel import Spec
from taskorch.events import (
    CATALOGUE,
    AgentJoined,
    TaskCompleted,
    TaskDue,
    TaskFailed,
    TaskReady,
    TaskRetrying,
    TaskStarted,
    TaskSubmitted,
    make,
)

#: Those that most events are of.
FREQUENT = (TaskSubmitted, TaskStarted, TaskCompleted)


def test_the_plain_story():
    """Submitted, started, completed: each once, numbered without a gap."""
    machine = Machine()
    machine.submit("t", cargo="mine")
    machine.now += SEC
    machine.end("t")
    assert machine.names() == [
        "AgentJoined",
        "TaskSubmitted",
        "TaskStarted",
        "TaskCompleted",
    ]
    assert [event[1] for event, _ in machine.sink] == [1, 2, 3, 4]
    assert [cargo for _, cargo in machine.sink] == [None, "mine", "mine", "mine"]
    assert [event[2] for event, _ in machine.sink] == [SEC, SEC, SEC, 2 * SEC]


def test_nobody_listens():
    """The numbers rise all the same, and nothing is made."""
    machine = Machine(listening=False)
    machine.submit("t")
    machine.fail("t")
    assert machine.kernel.sink is None
    assert machine.kernel.seq == 4


@pytest.mark.parametrize("wanted", [TaskSubmitted, TaskStarted, TaskCompleted])
def test_the_frequent_ones_are_told_on_request(wanted):
    """Of the three frequent events only those that somebody wants are made."""
    machine = Machine(listening=False)
    sink = []
    machine.kernel.listen(sink, frozenset({wanted}))
    machine.submit_all("t", "u", priority=1)
    machine.end("t")
    machine.fail("u")
    assert {event[0] for event, _ in sink} == {wanted, TaskFailed}
    machine.kernel.listen(None, frozenset(CATALOGUE))
    machine.submit("v")
    assert machine.kernel.sink is None


@pytest.mark.parametrize("wanted", [TaskStarted, TaskCompleted])
def test_the_frequent_ones_on_the_plain_path(wanted):
    """The path that is written out for speed tells as the other one does."""
    machine = Machine(listening=False)
    machine.submit("first")
    machine.end("first")
    sink = []
    machine.kernel.listen(sink, frozenset({wanted}))
    machine.submit("t")
    machine.kernel.complete(machine.row("t"), 1, machine.now)
    assert [event[0] for event, _ in sink] == [wanted]


@pytest.mark.parametrize("seed", range(4))
def test_every_event_makes_an_event(seed):
    """Each event has the fields of its class, and its time does not go back."""
    machine = run(seed, 40)
    last = 0
    for told, _ in machine.sink:
        event = make(told)
        assert type(event) is told[0]
        assert event.at_ns >= last
        last = event.at_ns


@pytest.mark.parametrize("seed", range(8))
def test_events_tell_the_state(seed):
    """From the events alone, the state of every task that has ended can be told."""
    machine = run(seed, 60)
    ends = {
        "TaskCompleted": S.COMPLETED,
        "TaskFailed": S.FAILED,
        "TaskCancelled": S.CANCELLED,
    }
    told = {}
    for event, _ in machine.sink:
        state = ends.get(event[0].__name__)
        if state is not None:
            assert told.setdefault(event[3], state) is state
    for task_id in [*machine.kernel.tasks, *dict(machine.kernel.evicted.items())]:
        assert told[task_id] is machine.state(task_id)


def test_a_worker_that_joins_is_told():
    """With what is known of it."""
    machine = Machine()
    machine.worker("a", "x", max_concurrency=3)
    (info,) = [event[3] for event, _ in machine.sink if event[0] is AgentJoined][1:]
    assert (info.name, info.capabilities, info.max_concurrency) == ("a", ("x",), 3)


def test_commands_are_values():
    """Commands can be compared and printed."""
    assert SubmitTask("t", Spec("call")) == SubmitTask("t", Spec("call"))
    assert "t" in repr(SubmitTask("t", Spec("call")))


@pytest.mark.parametrize(
    "classes", [*combinations(FREQUENT, 1), *combinations(FREQUENT, 2)]
)
def test_of_the_frequent_events_those_are_told_that_somebody_listens_for(classes):
    """The others are always told; and each has its number, whoever hears of it."""
    machine = Machine()
    machine.kernel.listen(machine.sink, frozenset(classes))
    before = machine.kernel.seq
    machine.submit("t", priority=1)
    machine.end("t")
    machine.submit("u")
    machine.end("u")
    machine.submit("v")
    machine.fail("v")
    told = [event[0] for event, _ in machine.sink[1:]]
    frequent = [cls for cls in told if cls in FREQUENT]
    assert set(frequent) == set(classes)
    assert told.count(TaskFailed) == 1
    assert machine.kernel.seq == before + 3 + 3 + 2 + 1
    machine.kernel.listen(None, frozenset(FREQUENT))
    many = len(machine.sink)
    machine.submit("w")
    machine.end("w")
    assert len(machine.sink) == many
    assert machine.kernel.seq == before + 12


def test_that_a_task_is_ready_is_told_each_time_that_it_is_queued():
    """Once each time, with the number of the event of which it follows."""
    machine = Machine(concurrency=1)
    machine.policies.delays["put off"] = [0]
    kernel, sink = machine.kernel, machine.sink
    kernel.listen(sink, frozenset(CATALOGUE), ready=True)
    machine.submit("busy")
    machine.submit("child", after=["busy"])
    machine.submit("late", not_before=machine.now + 5 * SEC)
    machine.submit("put off", priority=1)
    machine.change("put off", "priority", priority=3)
    machine.end("busy")
    machine.after(5 * SEC)
    machine.fail("put off")
    told = {}
    for place, (event, _) in enumerate(sink):
        if event[0] is TaskReady:
            cause = next(f for f, _ in reversed(sink[:place]) if f[0] is not TaskReady)
            assert event[1] == cause[1]
            told.setdefault(event[3], []).append(cause[0])
    assert told == {
        "busy": [TaskSubmitted],
        "child": [TaskCompleted],
        "late": [TaskDue],
        "put off": [TaskSubmitted, TaskRetrying],
    }
    numbers = [event[1] for event, _ in sink if event[0] is not TaskReady]
    assert numbers == list(range(1, kernel.seq + 1))
    kernel.listen(None, frozenset(), ready=True)
    machine.submit("unheard")
