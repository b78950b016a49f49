"""Whether a StateMachine keeps its laws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from taskorch.kernel import TRANSITIONS
from taskorch.model import TaskState
from taskorch.protocols import Permit, StateMachine, Transition
from taskorch.protocols._reuse import said_of
from taskorch.testing.laws._case import Case, brief, cases, maker
from taskorch.testing.laws._worlds import Tasks, agent_source, some_world, task_source

_Pair: TypeAlias = tuple[TaskState | None, TaskState]

#: The fixed table: what it does not have is never asked about.
POSSIBLE: Final = {before: some for before, some in TRANSITIONS.items() if some}
_WATCHES: Final = "it watches a collection of (before, after) pairs of states."


def check_state_machine(
    machine: StateMachine | Callable[[], StateMachine],
    *,
    seed: int = 0,
    examples: int = 200,
    tasks: Tasks | None = None,
) -> None:
    """
    Check the laws of StateMachine.

    A machine without an attribute `watches` watches every transition: law 1 then asks
    nothing of it. Only transitions of the fixed table are asked about. Labels need not
    differ from each other, but each must be a text that is not empty.

    Args:
        machine: The state machine, or what makes one.
        seed: Of the questions.
        examples: How many transitions.
        tasks: Tasks whose ids and types to ask about, or what makes one of a
            `random.Random`.

    Raises:
        LawViolation: A law is broken.
    """
    make, draw = maker(machine, StateMachine), task_source(tasks)
    draw_agents = agent_source(None)
    pairs = [(before, after) for before, some in POSSIBLE.items() for after in some]
    labels: dict[TaskState, str] = {}
    for case in cases(StateMachine, "check_state_machine", seed, examples, 3):
        asked = make()
        before, after = pairs[case.number % len(pairs)]
        world = some_world(case.random, draw, draw_agents)
        reason = case.random.choice(("", "the user asked for it"))
        transition = Transition(
            world.task.id or "t-1", world.task.type, before, after, reason
        )
        with case.noted():
            watches = _watched(case, asked)
        permit = case.ask(
            asked.check, Permit, transition=transition, context=world.context()
        )
        case.form(permit, allowed=bool, reason=str)
        if watches is not None and (before, after) not in watches:
            did = f"It answered {brief(permit)} for {brief(transition)}."
            case.expect(permit.allowed, 1, did)
        _check_labels(case, asked, labels)


def _watched(case: Case, machine: StateMachine) -> set[_Pair] | None:
    watches: object = said_of(machine, "check", "watches")
    if watches is None:
        return None
    try:
        return {
            (None if before is None else TaskState(before), TaskState(after))
            for before, after in watches  # type: ignore[attr-defined]
        }
    except (TypeError, ValueError) as error:
        did = f"Its watches are {brief(watches)}."
        case.fail(0, did, says=_WATCHES, cause=error)


def _check_labels(
    case: Case, machine: StateMachine, labels: dict[TaskState, str]
) -> None:
    """Ask for each state's label, and compare it with the first one, in *labels*."""
    for state in TaskState:
        with case.noted(state=state), case.chance(1):
            label: object = machine.label(state)
        if not isinstance(label, str) or not label:
            case.fail(2, f"It calls {state.name} {brief(label)}.")
        first = labels.setdefault(state, label)
        did = f"It called {state.name} {first!r}, and then {label!r}."
        case.expect(label == first, 2, did)
