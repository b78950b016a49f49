"""FourStateMachine."""

from __future__ import annotations

from tests.unit.policies.fakes import FakeContext

from taskorch.model import TERMINAL, TaskState
from taskorch.policies import FourStateMachine
from taskorch.protocols import Permit, StateMachine, Transition


def test_it_is_a_state_machine_that_watches_nothing():
    """It has the methods of its protocol, and is never asked."""
    machine = FourStateMachine()

    assert isinstance(machine, StateMachine)
    assert list(machine.watches) == []
    assert repr(machine) == "FourStateMachine()"
    assert machine.check(
        Transition("id", "t", None, TaskState.QUEUED), FakeContext()
    ).allowed


def test_the_nine_states_have_four_names():
    """Every state has one, and those of the ends are for the terminal states only."""
    machine = FourStateMachine()
    names = {state: machine.label(state) for state in TaskState}

    assert set(names.values()) == {"queued", "running", "completed", "failed"}
    assert [s for s in names if names[s] == "running"] == [TaskState.RUNNING]
    assert [s for s in names if names[s] == "completed"] == [TaskState.COMPLETED]
    assert {s for s in names if names[s] in ("completed", "failed")} == TERMINAL


def test_a_subclass_may_forbid():
    """It names what it wants to see, and keeps the labels."""

    class NoPause(FourStateMachine):
        watches = ((TaskState.RUNNING, TaskState.SUSPENDED),)

        def check(self, transition, context):
            return Permit(False, f"{transition.type} is never paused")

    machine = NoPause()
    pause = Transition("id", "t", TaskState.RUNNING, TaskState.SUSPENDED)

    assert machine.check(pause, FakeContext()) == Permit(False, "t is never paused")
    assert machine.label(TaskState.SUSPENDED) == "queued"
    assert repr(machine) == "NoPause()"
