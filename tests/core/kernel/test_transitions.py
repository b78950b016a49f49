"""The table of states, as data."""

import pytest
from tests.core.kernel.harness import Machine, S

from taskorch.core.kernel import TRANSITIONS, diagram
from taskorch.errors import InternalError
from taskorch.model import TERMINAL


def test_every_state_is_in_the_table():
    """The table says of each state, and of the time before, what may follow."""
    assert set(TRANSITIONS) == {None, *S}
    assert {after for afters in TRANSITIONS.values() for after in afters} == set(S)


@pytest.mark.parametrize("state", sorted(TERMINAL))
def test_nothing_follows_an_end(state):
    """A terminal state has no successor."""
    assert TRANSITIONS[state] == ()
    assert state.is_terminal


def test_no_state_is_a_dead_end():
    """From every state that is no end, an end can be reached."""
    reached = set(TERMINAL)
    for _ in S:
        reached |= {
            s for s, afters in TRANSITIONS.items() if s and set(afters) & reached
        }
    assert reached == set(S)


def test_diagram_shows_the_table():
    """The diagram has an arrow for each move, from the start and to the end."""
    lines = diagram().splitlines()
    assert lines[0] == "stateDiagram-v2"
    moves = sum(map(len, TRANSITIONS.values()))
    assert len(lines) == 1 + moves + len(TERMINAL)
    assert "    [*] --> pending" in lines
    assert "    running --> completed" in lines
    assert "    failed --> [*]" in lines


def test_a_move_that_is_not_in_the_table_is_a_fault_of_ours():
    """The kernel never makes a move that the table does not have."""
    machine = Machine()
    machine.submit("t")
    with pytest.raises(InternalError, match="no transition from running to pending"):
        machine.kernel.move(machine.row("t"), S.PENDING, machine.now)
