"""FourStateMachine."""

from __future__ import annotations

from tests.core.policies.fakes import FakeContext

from taskorch.model import TaskState
from taskorch.policies import FourStateMachine
from taskorch.protocols import Permit, Transition


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
