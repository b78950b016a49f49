"""Approvals: a person says yes or no to a phase whose gate asks for that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taskorch._managers._members import blockers
from taskorch.errors import InvalidTaskError, InvalidTransitionError, UnknownTaskError
from taskorch.model import TERMINAL, TaskState
from taskorch.model._explanation import some
from taskorch.model._show import show
from taskorch.workflows._phases import approval_of, gate_of, phase_of, verdict_of

if TYPE_CHECKING:
    from taskorch._handles import TaskHandle
    from taskorch._managers._run import WorkflowRun


def decide(run: WorkflowRun, gate: str, by: str, note: str, *, passed: bool) -> bool:
    """
    Approve or reject a phase of *run*; False if that had been decided before.

    Raises:
        UnknownTaskError: There is no such approval.
        InvalidTransitionError: The phase has not come to it yet.
        InvalidTaskError: *by* or *note* is not well formed.
    """
    _check(by, note)
    phase = phase_of(str(gate))
    work = run.handles.get(approval_of(phase))
    if work is None:
        msg = f"no phase {phase!r} of workflow {run.workflow_id} asks for an approval"
        phases = dict.fromkeys(map(phase_of, run.handles))
        asking = [each for each in phases if approval_of(each) in run.handles]
        hint = (
            f"it is asked for: {some(asking)}"
            if asking
            else "wf.phase(name, gate=Approval())"
        )
        raise UnknownTaskError(msg, hint=hint)
    said = f"{'approved' if passed else 'rejected'} by {by}"
    _, on_failure = run._gates.get(gate_of(phase), (None, "stop"))
    if passed or on_failure == "continue":
        verdict = verdict_of(phase, by, note, passed=passed)
        return _end_approval(run, work, "complete", verdict, said)
    return _end_approval(run, work, "fail", None, f"{said}: {note}" if note else said)


def _check(by: object, note: object) -> None:
    for what, text in (("by", by), ("note", note)):
        if not isinstance(text, str) or not text.isprintable():
            msg = f"{what}: a text that can be printed is needed, not {show(text)}"
            raise InvalidTaskError(msg)
    if not by or ":" in str(by):
        msg = f"by: the name of somebody is needed, without a colon, not {show(by)}"
        raise InvalidTaskError(msg)


def _end_approval(
    run: WorkflowRun, work: TaskHandle[Any], how: str, result: Any, reason: str
) -> bool:
    rt, row = run._rt, work._row
    committer = rt.committer
    document = None if committer is None else committer.journal.document(result)

    def end(now: int) -> bool:
        if rt.is_left(row) or row.state in TERMINAL:
            return False
        if row.state is not TaskState.BLOCKED or blockers(row):
            msg = f"{row.id} is {row.state}: nobody is asked for it yet"
            hint = "its phase has not come to its gate"
            raise InvalidTransitionError(msg, hint=hint, task_id=row.id)
        if how == "complete":
            work._value = result
            if committer is not None:
                committer.documents[work] = document
        return rt.kernel.decide(row, how, now, reason)

    return bool(rt.step(end, keep=True))
