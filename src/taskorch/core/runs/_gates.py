"""
Gates: whether a phase has passed, and why.

Decision: workflows.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextvars import copy_context
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from taskorch.core.engine import (
    copy_containers,
    current_context,
    result_of,
    row_of,
    work_of,
    works_above,
)
from taskorch.core.workflows import _phases
from taskorch.errors import DependencyFailedError, GateFailedError
from taskorch.kit.interrupts import begin_thread
from taskorch.kit.visible import counted, said, show
from taskorch.model import Call, TaskState
from taskorch.model.ids import name_of

if TYPE_CHECKING:
    from taskorch.core.engine import AttemptContext, Work

#: Seconds between two checks whether the gate itself is to stop, while a function runs.
_LOOK: Final = 0.2
#: The most names that a verdict shows.
_SHOWN: Final = 5
#: A check, whether it holds, and the reason if not.
Finding = tuple[str, bool, str]


def is_gate(work: Work) -> bool:
    """Return whether a task is a gate."""
    return _call_of(work) is not None


def rules_of(work: Work) -> tuple[str | None, str] | None:
    """Return the phase before that of a gate and the effect of a failure, or None."""
    call = _call_of(work)
    return None if call is None else (call.args[4], call.args[2])


def _call_of(work: Work) -> Call | None:
    payload = None if work._task is None else work._task.payload
    return payload if isinstance(payload, Call) and payload.fn is gate else None


def gate(
    phase: str,
    checks: Sequence[Any],
    on_failure: str,
    timeout: float | None,
    before: str | None,
) -> dict[str, Any]:
    """
    Return the verdict on *phase*, or raise if it has not passed.

    *before* is the gate, or the approval, of the phase before. Each function among the
    *checks* may take *timeout* seconds.

    Raises:
        GateFailedError: It has not passed, and later phases are not to go on.
        DependencyFailedError: A phase before has not, so this one has not begun.
    """
    context = current_context()
    parents = works_above(work_of(context))
    members = {name_of(name): work for name, work in parents.items()}
    for name in list(members):
        if before is not None and _phases.is_same_end(name, before):
            work = members.pop(name)
            if row_of(work).state is not TaskState.COMPLETED:
                msg = f"phase {phase} has not begun: {name} did not open"
                ids = (row_of(work).id,)
                raise DependencyFailedError(
                    msg, root_causes=ids, task_id=context.task_id
                )
    findings = [_all_completed(members)]
    for check in checks:
        if isinstance(check, Path):
            findings.append(_exists(check))
        else:
            findings.append(_says(context, check.fn, members, timeout))
    passed = all(holds for _, holds, _ in findings)
    if not passed and on_failure != "continue":
        reasons = "; ".join(why for _, holds, why in findings if not holds)
        msg = f"phase {phase} has not passed: {reasons}"
        raise GateFailedError(msg, findings=tuple(findings), task_id=context.task_id)
    return {
        "phase": phase,
        "passed": passed,
        "by": "gate",
        "note": "",
        "checks": [list(finding) for finding in findings],
    }


def _all_completed(members: dict[str, Work]) -> Finding:
    bad = {
        name: row_of(work).state
        for name, work in members.items()
        if row_of(work).state is not TaskState.COMPLETED
    }
    shown = ", ".join(f"{n} {state}" for n, state in list(bad.items())[:_SHOWN])
    if len(bad) > _SHOWN:
        shown += f" and {len(bad) - _SHOWN} more"
    asked = counted(len(members), "task")
    detail = f"{len(bad)} of {asked} did not complete ({shown})" if bad else asked
    return "all completed", not bad, detail


def _exists(path: Path) -> Finding:
    try:
        exists = path.is_file()
    except OSError as error:
        return f"{path} exists", False, f"{path} cannot be looked at: {error}"
    return f"{path} exists", exists, "" if exists else f"{path} does not exist"


def _says(
    context: AttemptContext,
    predicate: Callable[[dict[str, Any]], Any],
    members: dict[str, Work],
    timeout: float | None,
) -> Finding:
    """Call a function of the user's; it may raise, or never return."""
    name = getattr(predicate, "__qualname__", type(predicate).__qualname__)
    results = {
        name: copy_containers(result_of(work))
        for name, work in members.items()
        if row_of(work).state is TaskState.COMPLETED
    }
    answers: list[Any] = []
    errors: list[BaseException] = []
    answered = threading.Event()

    def ask() -> None:
        try:
            answers.append(bool(predicate(results)))
        except BaseException as error:  # noqa: BLE001 - it is the user's: anything
            errors.append(error)
        finally:
            answered.set()

    # The call has its own thread: the attempt goes on without it when the time is over.
    run = partial(copy_context().run, ask)
    end = None if timeout is None else monotonic() + timeout
    begun = _begun(run, name)
    while not answered.wait(_patience(end)):
        # The thread may not have started, as the system had none.
        begun = begun or _begun(run, name)
        if context.cancelled:
            context.checkpoint()
        if end is not None and monotonic() >= end:
            return name, False, f"{name} has not answered within {timeout:g} s"
    if errors:
        error = errors[0]
        kind, message = said(error)
        message = show(message).strip("'")
        return name, False, f"{name} raised {kind}: {message}"
    return name, answers[0], "" if answers[0] else f"{name} said no"


def _begun(run: Callable[[], object], name: str) -> bool:
    """Start the thread of the call; return whether the system has one."""
    try:
        begin_thread(run, f"taskorch-gate-{name}")
    except RuntimeError:
        return False
    return True


def _patience(end: float | None) -> float:
    return _LOOK if end is None else max(0.0, min(_LOOK, end - monotonic()))
