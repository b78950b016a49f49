"""Questions to people, and the calls that answer: questions, approvals, failures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from taskorch.core.kernel._application import ASKING, terms_of_wait
from taskorch.core.kernel._dependencies import awaits
from taskorch.core.kernel._history import moves_of
from taskorch.model import ANSWER_TO, TaskState, asked_of, is_for_people
from taskorch.model.ids import escalation_id, tail_of

if TYPE_CHECKING:
    from taskorch.core.kernel._rows import Awaited, TaskRow
    from taskorch.core.kernel._state import KernelState

_S: Final = TaskState
#: The states in a history around a failure about which a person was asked.
_ASKED: Final = (_S.RETRYING, _S.QUEUED, _S.BLOCKED)


def wait_of(row: TaskRow) -> Awaited | None:
    """Return the event that *row* waits for, or None if it is an ordinary task."""
    terms = None if row.links is None else row.links.terms
    return None if terms is None else terms.wait


def is_open(kernel: KernelState, row: TaskRow) -> bool:
    """Return whether an answer about *row* would count now."""
    return row.state is _S.BLOCKED and row in kernel.asked


def asks(kernel: KernelState, row: TaskRow) -> str:
    """Return the question to people about *row* as the end of a sentence."""
    wait = wait_of(row)
    if wait is None:
        return f"has failed, and a person must decide: {why_held(row)}"
    event, (terms, _) = wait[0] or "", terms_of_wait(row)
    text = "waits for somebody to approve"
    if event.startswith(ANSWER_TO):
        text = f"asks: {event.removeprefix(ANSWER_TO)}"
    votes = ", ".join(f"{choice!r} by {by}" for by, choice in terms.votes)
    so_far = f"{votes}, and that does not decide it yet" if votes else ""
    more = "; ".join(filter(None, (kernel.whom(row.cargo), so_far)))
    return f"{text} ({more})" if more else text


def sentence(text: str) -> str:
    """Return *text* with a full stop, unless it is a question."""
    return text if text.endswith("?") else f"{text}."


def why_held(row: TaskRow) -> str:
    """Return why a person must decide about *row*."""
    return moves_of(row)[-1][2].removesuffix(": decide()").rstrip(".")


def asked_by_rules(row: TaskRow) -> str:
    """Return the last question of a rule about a start of *row*, or ""."""
    details = (detail for _, _, detail in reversed(moves_of(row)))
    return next((each for each in details if each.startswith(ASKING)), "")


def call_of_answer(kernel: KernelState, row: TaskRow) -> str:
    """Return the call, as text, by which a person decides about *row*."""
    if row in kernel.asked and not awaits(row):
        call = f"orch.answer({escalation_of(kernel, row)!r}, CHOICE, by=…)"
        return f"Call {call}, which is for all that failed so."
    wait = wait_of(row)
    event = "" if wait is None else wait[0] or ""
    asked = asked_of(event)
    if asked is not None:
        run_id, phase = asked
        return approve(run_id, f"{phase}{tail_of(row.id)}")
    if is_for_people(event):
        return f"Call orch.answer({row.id!r}, CHOICE, by=…)."
    return f"Call orch.decide({row.id!r}, 'complete')."


def approve(run_id: str, phase: str) -> str:
    """Return the call, as text, that approves *phase* of a run."""
    return f"Call orch.workflows.approve({run_id!r}, {phase!r}, by=…)."


def times_asked(row: TaskRow) -> int:
    """Return how often people were asked about a failure of *row*."""
    moves = moves_of(row)
    states = [state for state, _, _ in moves]
    threes = zip(states, states[1:], states[2:], strict=False)
    about_starts = sum(
        state is _S.BLOCKED and detail.startswith(ASKING) for state, _, detail in moves
    )
    # A retry that a rule asks about has all three states, too.
    twice = sum(
        state is _S.BLOCKED and detail.startswith(ASKING) and before is _S.RETRYING
        for before, (state, _, detail) in zip(states, moves[2:], strict=False)
    )
    return sum(each == _ASKED for each in threes) + about_starts - twice


def escalation_of(kernel: KernelState, row: TaskRow) -> str:
    """Return the id of the escalation of *row*, about whose failure people are asked.

    Each further escalation has a number. The first has none, unless a task has that id.
    """
    number, bare = times_asked(row), escalation_id(row.id)
    is_bare = number == 1 and bare not in kernel.tasks
    return bare if is_bare else escalation_id(row.id, number)
