"""What is said of the kernel's commands, and of the moves of tasks, is what is seen."""

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from types import CodeType

import pytest
from tests.core.kernel.harness import Machine
from tests.core.kernel.seen import VERBS, Move, Seen, looking, moves_in
from tests.core.kernel.verbs_page import PAGE, facts_of, groups, page
from tests.core.kernel.worlds import World, few, many

from taskorch.core.kernel import TRANSITIONS, _application, _quick
from taskorch.core.kernel._table import MOVES
from taskorch.model import TaskState

TEXT = PAGE.read_text(encoding="utf-8")
OWN, OTHERS = facts_of(TEXT)


#: The moves of the table, each with the function that makes it.
TABLE: dict[Move, Callable[..., object]] = {
    (before, each.event, each.of_dependent, after): each.function
    for each in MOVES
    for before, afters in each.after.items()
    for after in afters
}
#: Moves of the table that no world makes, and why not.
NEVER_TAKEN: dict[Move, str] = {}
#: Changes that the StateMachine is asked about, and that no single event makes.
OF_NO_EVENT = {
    (None, TaskState.BLOCKED): "it is PENDING first: TaskSubmitted, then TaskBlocked",
}


@cache
def lived(worlds: Callable[[], Iterable[World]]) -> tuple[Seen, list[Machine]]:
    """The worlds, once they have come to their ends, and what their verbs have done."""
    with looking() as seen:
        machines = [world() for world in worlds()]
    return seen, machines


def moves_of(worlds: Callable[[], Iterable[World]]) -> dict[Move, set[CodeType]]:
    """
    The moves that are made in *worlds*, and the code that ran.

    Of a move to another state, that which ran each time; else, at any time.
    """
    moves: dict[Move, set[CodeType]] = {}
    for machine in lived(worlds)[1]:
        for move, code in moves_in(machine):
            ran = {*code}
            if _quick.complete.__code__ in ran:
                # Written out for speed, of a row with nothing unusual about it.
                ran.add(_application.completed.__code__)
            before, _, _, after = move
            earlier = moves.setdefault(move, ran)
            moves[move] = earlier | ran if before is after else earlier & ran
    return moves


def unlisted(moves: Iterable[Move]) -> Iterator[Move]:
    """Those of *moves* that are made by events of the table, and do not stand there."""
    events = {each.event for each in MOVES}
    return (move for move in moves if move[1] in events and move not in TABLE)


def test_every_command_is_on_the_page_with_its_file_and_its_function():
    """And nothing else is: python -m tests.core.kernel.verbs_page writes it anew."""
    assert [name for names in groups().values() for name in names] == list(VERBS)
    assert page(OWN, OTHERS) == TEXT


def test_a_command_makes_no_event_that_the_page_does_not_name():
    seen, _ = lived(few)
    for name in VERBS:
        assert seen.own[name] <= OWN[name], name
        assert seen.others[name] <= OTHERS[name], name
        assert seen.calls[name], name


def test_each_move_of_the_table_is_made_by_its_function_and_no_other_is():
    """In small worlds; one that is never made stands in `NEVER_TAKEN`."""
    moves = moves_of(few)
    assert [move for move in TABLE if move not in moves] == list(NEVER_TAKEN)
    assert [move for move in moves if move in NEVER_TAKEN] == []
    assert list(unlisted(moves)) == []
    for move, ran in moves.items():
        assert move not in TABLE or TABLE[move].__code__ in ran, move


def test_a_change_of_state_without_a_move_of_the_table_is_none():
    """Whatever event changes the state of a task, the table says so."""
    events = {each.event for each in MOVES}
    others = {move for move in moves_of(few) if move[1] not in events}
    assert [move for move in others if move[0] is not move[3]] == []


def test_the_two_tables_say_the_same():
    """What may follow a state, by which event; QUEUED at once, RETRYING is passed."""
    changes = {(move[0], move[3]) for move in TABLE if move[0] is not move[3]}
    changes -= {(TaskState.RUNNING, TaskState.QUEUED)}
    possible = {(b, after) for b, afters in TRANSITIONS.items() for after in afters}
    assert changes | OF_NO_EVENT.keys() == possible
    assert not changes & OF_NO_EVENT.keys()


def test_what_a_verb_and_a_fold_call_stands_in_the_table():
    named = {each.event: each.function for each in MOVES if not each.of_dependent}
    assert {event: named[event] for event in _application.APPLY} == _application.APPLY


@pytest.mark.slow("many random worlds")
def test_at_length_each_event_of_the_page_is_made_and_no_other_move():
    seen, _ = lived(many)
    for name in VERBS:
        assert seen.own[name] == OWN[name], name
        assert seen.others[name] == OTHERS[name], name
    assert list(unlisted(moves_of(many))) == []
