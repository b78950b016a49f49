"""Approvals: a person says yes or no to a phase whose gate asks for that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taskorch.core.engine import question_in
from taskorch.core.runs._run import is_stopped_by
from taskorch.core.workflows import _phases
from taskorch.errors import (
    AnswerRefusedError,
    UnknownTaskError,
)
from taskorch.ext.questions import check, vote, why_unsure
from taskorch.kit.words import some
from taskorch.model import TERMINAL
from taskorch.model.ids import stem_of, tail_of

if TYPE_CHECKING:
    from taskorch.core.engine import Runtime
    from taskorch.core.handles.handles import TaskHandle
    from taskorch.core.runs._run import WorkflowRun


def approval(run: WorkflowRun, gate: str) -> TaskHandle[Any]:
    """
    Return the latest run of the task that asks for the approval of a phase.

    Raises:
        UnknownTaskError: The phase asks for none.
    """
    phase = _phases.phase_of(stem_of(str(gate)))
    work = run.handles.get(_phases.approval_of(phase))
    if work is None:
        msg = f"no phase {phase!r} of workflow {run.workflow_id} asks for an approval"
        phases = dict.fromkeys(map(_phases.phase_of, run.handles))
        asking = [each for each in phases if _phases.approval_of(each) in run.handles]
        hint = (
            f"it is asked for: {some(asking)}"
            if asking
            else "wf.phase(name, gate=Approval())"
        )
        raise UnknownTaskError(msg, hint=hint)
    if question_in(work) is None:
        msg = f"{work.task_id} is no approval any more"
        raise UnknownTaskError(msg)
    return work


def decide(
    rt: Runtime,
    run: WorkflowRun,
    gate: str,
    by: str,
    note: str,
    changes: dict[str, Any] | None = None,
    *,
    passed: bool,
) -> bool:
    """
    Approve or reject a phase of *run*; False if that had been decided before.

    Raises:
        UnknownTaskError: There is no such approval.
        InvalidTransitionError: The phase has not come to it yet; or *by* may not, or
            has answered before, or *gate* means what was asked before, which is an
            AnswerRefusedError.
        InvalidTaskError: *by* or *note* is not well formed.
    """
    check(by, note, changes)
    phase = _phases.phase_of(stem_of(str(gate)))
    latest = approval(run, gate).task_id
    named = f"{stem_of(latest)}{tail_of(str(gate))}"
    goes_on = passed or not is_stopped_by(run, phase)
    choice = "approve" if passed else "reject"

    def outcomes(who: tuple[str, ...]) -> tuple[str, Any, str]:
        name = " and ".join(who)
        sentence = f"{'approved' if passed else 'rejected'} by {name}"
        if goes_on:
            verdict = _phases.verdict_of(phase, name, note, passed=passed)
            return "complete", verdict, sentence
        return "fail", None, f"{sentence}: {note}" if note else sentence

    def end(now: int) -> bool | AnswerRefusedError:
        is_latest = rt.directory.reruns.latest(named) == latest
        is_meant = is_latest and not why_unsure(rt, named)
        row = rt.kernel.tasks.get(latest)
        # One that has left memory has ended.
        is_open = row is not None and not (rt.is_left(row) or row.state in TERMINAL)
        decided = vote(rt, named, choice, by, note, changes, now, outcome=outcomes)
        return False if is_meant and not is_open else decided

    decided = rt.step(end, keep=True)
    if isinstance(decided, AnswerRefusedError):
        raise decided
    return bool(decided)
