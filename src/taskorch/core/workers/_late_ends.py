"""
Ends of attempts of earlier incarnations, which the workers that made them bring.

Decision: test-suites.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from taskorch.core.engine import (
    document_of_end,
    keep_earlier,
    keep_late,
    outcome_of,
    row_of,
    set_error,
    set_result,
    task_of,
    usage_of,
)
from taskorch.core.kernel import awaits_end, past_of
from taskorch.errors import InvalidTaskError, InvalidTransitionError
from taskorch.events import LateResultIgnored
from taskorch.kit.visible import said
from taskorch.model import TERMINAL, Program, ProgramResult, TaskState

if TYPE_CHECKING:
    from taskorch.core.engine import Runtime
    from taskorch.core.kernel import TaskRow


class LateEnds:
    """
    Handler of ends from earlier incarnations: see `WorkerManager.bring_late`.

    Args:
        runtime: The runtime of the orchestrator.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._rt = runtime

    def bring(
        self,
        task_id: str,
        fence: tuple[int, int],
        value: Any,
        error: BaseException | None,
        *,
        worker: str,
        judged: bool,
    ) -> bool:
        """Take the end of an attempt that *worker* made; return whether it counts."""
        self.check(task_id, fence, worker)
        rt = self._rt
        number = fence[1]
        work = rt.directory.known(task_id)
        row = row_of(work)
        # A `ProgramResult` completes only a program task directly. Other tasks that run
        # as programs need their own class to judge it.
        is_of_kind = judged or isinstance(value, ProgramResult) == (
            self.program_of(task_id) is not None
        )
        committer = rt.committer
        document = None
        if committer is not None:
            document, error = document_of_end(committer.document, task_id, value, error)
        described = () if error is None else said(error)
        outcome = "completed" if error is None else "failed"

        def change(now: int) -> bool:
            counts = (
                error is None
                and is_of_kind
                and self._await_end(row, number, worker, now)
            )
            if committer is not None:
                committer.documents[work] = document
            if error is not None and judged and awaits_end(row, number):
                if row.state is TaskState.BLOCKED:
                    # The task still waits for a worker. A state machine may forbid
                    # this.
                    with suppress(InvalidTransitionError):
                        why = f"worker {worker} has ended it"
                        rt.kernel.decide(row, "retry", now, why)
                if row.state is TaskState.QUEUED:
                    _, shown, seen = outcome_of(error, task_id, asked=False)
                    set_error(work, shown)
                    used = usage_of(getattr(error, "result", None))
                    rt.kernel.fail_late(row, error, now, seen, used)
                    if row.state not in TERMINAL:
                        keep_earlier(work, number, shown, seen)
                    return True
            if counts:
                set_result(work, value)
                why = f"worker {worker} had done it while the orchestrator was away"
                # If the state machine forbids this, the task stays on hold.
                with suppress(InvalidTransitionError):
                    return rt.kernel.decide(row, "complete", now, why)
            rt.kernel.note(
                LateResultIgnored, now, task_id, number, outcome, *described, cargo=work
            )
            late = value if error is None else error
            keep_late(work, number, late, described[0] if described else "")
            return False

        counted: bool = rt.step(change, keep=True)
        return counted

    def _await_end(self, row: TaskRow, number: int, worker: str, now: int) -> bool:
        """Prepare *row* for the end of attempt *number*; return False if too late."""
        kernel = self._rt.kernel
        why = f"worker {worker} has ended attempt {number} of it"
        extra = row.extra
        if row.state is TaskState.RUNNING:
            has_lease = row.worker is not None and row.worker.lease_ns
            is_next = row.attempt == number + 1
            if not (has_lease and is_next) or (extra is not None and extra.stop):
                return False
            described = ("AttemptLostError", why)
            kernel.end_attempt(row, row.attempt, "missing", now, None, described)
        elif row.attempt != number:
            return False
        if row.state is TaskState.QUEUED:
            kernel.miss(row, why, now)
        extra = row.extra
        is_held = extra is not None and extra.decision and not extra.blocked_by
        return row.state is TaskState.BLOCKED and is_held

    def is_awaited(self, task_id: str, fence: tuple[int, int], worker: str) -> bool:
        """Return whether the outcome of an attempt of *worker* is still unknown."""
        try:
            self.check(task_id, fence, worker)
        except InvalidTaskError:
            return False
        rt = self._rt
        with rt.lock:
            return awaits_end(rt.directory.row(task_id), fence[1])

    def check(self, task_id: str, fence: tuple[int, int], worker: str) -> None:
        """Refuse an attempt that *worker* has not made in an earlier incarnation."""
        rt = self._rt
        epoch, number = fence
        if epoch >= rt.epoch:
            msg = f"attempt {number} of task {task_id} is of this incarnation"
            raise InvalidTaskError(msg, hint="Attempt.end() ends it", task_id=task_id)
        rt.look_up(task_id)
        with rt.lock:
            row = rt.directory.row(task_id)
            runs = [who for state, _, who in past_of(row) if state is TaskState.RUNNING]
            if worker not in runs or number > row.attempt:
                msg = f"worker {worker!r} made no attempt {number} of task {task_id}"
                raise InvalidTaskError(msg, task_id=task_id)

    def program_of(self, task_id: str) -> Program | None:
        """Return the program that a task is; None if it is none or has left memory."""
        self._rt.look_up(task_id)
        work = self._rt.directory.known(task_id)
        payload = task_of(row_of(work), work).payload
        return payload if isinstance(payload, Program) else None
