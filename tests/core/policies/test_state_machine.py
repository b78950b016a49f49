"""StandardStateMachine."""

from __future__ import annotations

import pytest
from tests.core.policies.fakes import FakeContext

from taskorch.model import TaskState
from taskorch.policies import StandardStateMachine
from taskorch.protocols import StateMachine, Transition


def test_it_is_a_state_machine_that_watches_nothing():
    """It has the methods of its protocol, and is never asked."""
    machine = StandardStateMachine()

    assert isinstance(machine, StateMachine)
    assert list(machine.watches) == []
    assert repr(machine) == "StandardStateMachine()"


@pytest.mark.parametrize("after", TaskState)
def test_it_allows_everything_and_labels_by_name(after):
    """If it is asked nevertheless, the answer is yes."""
    machine = StandardStateMachine()

    for before in (None, *TaskState):
        transition = Transition("id", "t", before, after)
        assert machine.check(transition, FakeContext()).allowed
    assert machine.label(after) == after.value


def test_a_subclass_may_watch():
    """What it forbids is a matter of two lines."""

    class Careful(StandardStateMachine):
        watches = ((TaskState.RUNNING, TaskState.SUSPENDED),)

    assert len(Careful().watches) == 1
    assert repr(Careful()) == "Careful()"
