"""
Notes of an extension: it keeps one with a task inside an attempt, and finds it.

A note is an event, `TaskNoted`, with a value beside it that the journal keeps. The
state has no notes: they are found by reading the events of the task, and leave the
journal with them.

Decision: steps.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import attrs

from taskorch.core.engine._asyncio import resolve_on
from taskorch.core.engine._context import current_or_none, resolved, stop_if_asked
from taskorch.core.engine._documents import document_of
from taskorch.core.engine._loops import Latch
from taskorch.core.engine._stale import dependents
from taskorch.core.engine._work import extra_of
from taskorch.core.kernel import is_under_way
from taskorch.errors import AttemptInterrupted, ResultGoneError
from taskorch.events import TaskNoted
from taskorch.kit.backoff import KeptElsewhere
from taskorch.kit.limits import NS
from taskorch.model import TERMINAL, Call
from taskorch.model.ids import earlier_ids

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from taskorch.core.engine._context import AttemptContext
    from taskorch.core.engine._runtime import Runtime
    from taskorch.core.engine._work import Work
    from taskorch.model import Task


T_co = TypeVar("T_co", covariant=True, bound="Own")
#: Seconds after which a pause looks again: no call wakes it when the clock is set or
#: its task suspended.
_LOOK: Final = 1.0


class Own(Protocol):
    """Protocol: data that an extension keeps with a task while that is in memory."""

    def words(self) -> Iterable[str]:
        """Return the lines that it adds to an explanation; this must not block."""
        ...


class Noted:
    """
    Notes that an extension keeps with tasks.

    Args:
        rt: The runtime.
        extension: The name of the extension.
    """

    def __init__(self, rt: Runtime, extension: str) -> None:
        self._rt = rt
        self.extension: str = extension

    @property
    def is_durable(self) -> bool:
        """Whether the notes outlive the process."""
        return self._rt.committer is not None

    def of(self, task_id: str) -> list[tuple[TaskNoted, Any]]:
        """
        Return the notes on a task and its earlier runs in the journal, in order.

        Raises:
            JournalError: It cannot be read.
        """
        committer = self._rt.committer
        if committer is None:
            return []
        ids = (*earlier_ids(task_id), task_id)
        until = committer.commits.committed
        return [
            (event, value)
            for event, value in committer.journal.select(ids, until)
            if isinstance(event, TaskNoted) and event.extension == self.extension
        ]

    def works(self, task_id: str) -> list[Work]:
        """Return the runs of a task that are in memory, up to this one."""
        tasks = self._rt.kernel.tasks
        rows = map(tasks.get, (*earlier_ids(task_id), task_id))
        return [row.cargo for row in rows if row is not None and row.cargo is not None]

    def own(self, work: Work, make: Callable[[], T_co]) -> T_co:
        """Return the extension's data of a task in memory; *make* makes it first."""
        own = extra_of(work).own
        with self._rt.lock:
            if self.extension not in own:
                own[self.extension] = make()
            kept: T_co = own[self.extension]
            return kept

    def take_back(self, task_id: str, keys: list[str]) -> None:
        """Take back the notes of *keys*; a durable orchestrator keeps that."""
        rt = self._rt

        def change(now: int) -> None:
            for key in keys:
                rt.kernel.note(TaskNoted, now, task_id, 0, self.extension, key, "")

        rt.durable()
        rt.step(change, keep=True)

    def run_again(
        self,
        task_id: str,
        key: str,
        note: str,
        own: Own,
        *,
        downstream: bool | None,
    ) -> str:
        """
        Run a finished task again, with a note for the new run: both or none.

        Args:
            task_id: The id of the task.
            key: The key of the note.
            note: The note.
            own: The data that the extension keeps of the new run in memory.
            downstream: Whether tasks that had the result of the earlier run are run
                again, too; None: only those of the same run of a workflow.

        Returns:
            The id of the new run.

        Raises:
            UnknownTaskError: No task has this id, also not in the journal.
            InvalidTransitionError: It has not ended, or there is a later run.
        """
        rt = self._rt
        rt.durable()
        rt.recall((task_id,))
        below: list[Work] = []
        # It is loaded before the lock is held.
        succession = rt.succession

        def change(now: int) -> str:
            rt.refuse_new()
            again = succession.rerun(task_id, now, anew=True)
            row = again._row
            rt.kernel.note(TaskNoted, now, row.id, 0, self.extension, key, note)
            extra_of(again).own[self.extension] = own
            if downstream is not False:
                below.extend(
                    each.cargo
                    for each in dependents(rt, row)
                    if downstream or (row.run and each.run == row.run)
                )
            new_id: str = row.id
            return new_id

        def go_on(work: Work, now: int) -> None:
            rt.refuse_submission()
            succession.rerun_stale(work, now)

        again: str = rt.step(change, keep=True)
        with rt.patience():
            for work in below:
                rt.step(partial(go_on, work), keep=True)
        return again


def _has_ended(work: Work) -> bool:
    return work._row.state in TERMINAL


class InsideAttempt:
    """
    An attempt, seen by an extension that was called in it.

    Args:
        context: The context of the attempt.
        extension: The name of the extension.
    """

    def __init__(self, context: AttemptContext, extension: str) -> None:
        self._context = context
        self._rt: Runtime = context._rt
        self.noted: Noted = Noted(self._rt, extension)
        self.task_id: str = context.task_id
        self.attempt: int = context.attempt

    @property
    def work(self) -> Work:
        """The work of the task while that is in memory."""
        return self._context._work

    def content(self) -> tuple[Any, ...]:
        """Return all that the function of the task can see: its work."""
        work, context = self.work, self._context
        task, called = work._task, resolved(work)
        if task is not None and not isinstance(task.payload, Call):
            called = task.type, (task.payload,), {}
        results = {}
        for name in context.results:
            # One that has left memory cannot be seen in the function either.
            with suppress(ResultGoneError):
                results[name] = context.results[name]
        return called, results, context.schedule, context.slot, dict(context.parameters)

    def is_as_deployed(self, began: datetime) -> bool:
        """Return whether the task went over to what is deployed since *began*."""
        return self._context._deployed_since(began)

    def now(self) -> int:
        """Return the time of the orchestrator, in ns since the epoch."""
        return self._rt.now()

    def stop_if_asked(self) -> None:
        """
        Stop here if the attempt is to stop, as at a checkpoint.

        Raises:
            AttemptInterrupted: It is.
        """
        stop_if_asked(self._context)
        if self._is_to_end():
            # Its process has died.
            msg = "its attempt is over"
            raise AttemptInterrupted(msg)

    def _is_to_end(self) -> bool:
        row, why = self._context._row, self._context._control.why
        return bool(why) or row.attempt != self.attempt or not is_under_way(row)

    def note(
        self, key: str, note: str, value: Any = None, needs: tuple[str, ...] = ()
    ) -> int:
        """
        Keep *note* and *value* with the task, also after the end of the attempt.

        The tasks and runs that it *needs* leave the journal with the task, and not
        before.

        Returns:
            The number to `wait` for.

        Raises:
            InvalidTaskError: The journal cannot keep *value*.
        """
        rt, work, committer = self._rt, self.work, self._rt.committer
        document = None
        if committer is not None:
            document = document_of(committer.document, "result", value)
            if type(document) is KeptElsewhere:
                document = document.wait()

        def change(now: int) -> None:
            if committer is not None:
                committer.documents[work] = document
            about = self.task_id, self.attempt, self.noted.extension
            rt.kernel.note(TaskNoted, now, *about, key, note, needs, cargo=work)

        rt.step(change)
        return 0 if committer is None else committer.last

    def span(self, name: str, number: int, *, is_kept: bool) -> Any:
        """Begin the span of a step, a `StepSpan`; None: nothing is traced."""
        spans = self._rt.spans
        if spans is None:
            return None
        attempt, here = (self.task_id, self.attempt), current_or_none()
        is_here = here is not None and (here.task_id, here.attempt) == attempt
        return spans.step(attempt, name, number, is_kept=is_kept, is_here=is_here)

    def wait(self, seq: int) -> None:
        """Wait until the note with the number *seq* is kept."""
        committer = self._rt.committer
        if committer is not None:
            committer.refuse_to_block()
            committer.wait_kept_unless(seq, lambda: self._context.cancelled)

    async def wait_async(self, seq: int) -> None:
        """Wait on the running loop until the note with the number *seq* is kept."""
        committer = self._rt.committer
        if committer is not None:
            await committer.wait_kept_async([seq])

    def sleeps(self, until_ns: int, *, is_over: bool = False) -> None:
        """Note that the attempt sleeps until a time, in ns, or does no longer."""
        self._rt.waiting.sleeps(self._context, until_ns, is_over=is_over)

    def pause(self, until_ns: int) -> None:
        """
        Wait until *until_ns* without the slot of the attempt, then take it again.

        Raises:
            AttemptInterrupted: The attempt is to stop.
        """
        stopped = threading.Event()
        with self._rt.waiting.holding(self._context, (), stopped.set):
            while rest := self._rest(until_ns):
                stopped.wait(rest)
        self.stop_if_asked()

    async def pause_async(self, until_ns: int) -> None:
        """Do as `pause` does, on the running loop."""
        waiting = self._rt.waiting
        waiting.enter(self._context, ())
        try:
            while rest := self._rest(until_ns):  # noqa: ASYNC110 - it is for a time
                await asyncio.sleep(rest)
        finally:
            await waiting.leave_async(self._context, ())
        self.stop_if_asked()

    def begin(self, task: Task[Any]) -> Work:
        """Submit *task*, which has an id; it gets the tenant of the attempt's task."""
        tenant = self._context._row.bucket.spec.owner
        if task.owner is None and tenant is not None:
            task = attrs.evolve(task, owner=tenant)
        return self._rt.submit_tasks((task,))[0]

    def begin_run(
        self, workflow: Any, run_id: str, parameters: Mapping[str, Any]
    ) -> tuple[Any, Callable[[str], bool]]:
        """Begin a run of *workflow*, or find it; return it and how to cancel a run."""
        begun: tuple[Any, Callable[[str], bool]] = self._context._begin_run(
            workflow, run_id, parameters
        )
        return begun

    def at_end(self, tell: Callable[[str], object]) -> None:
        """Call *tell* with the task's id once it ended, on the listeners' thread."""
        put, item = self._rt.publisher.put, (tell, self.task_id)
        self._rt.waiting.when(self.work, _has_ended, lambda: put([item]))

    def until(self, work: Work) -> None:
        """
        Wait without the slot of the attempt until *work* is settled.

        Raises:
            AttemptInterrupted: The attempt is to stop.
            WouldDeadlockError: It could never be.
        """
        self.stop_if_asked()
        waiting, latch = self._rt.waiting, Latch()
        with waiting.holding(self._context, (work._row,), latch.set):
            # No call wakes it when its task is suspended, so it looks at that, too.
            while not self._is_to_end() and waiting.add(work, latch.set):
                try:
                    latch.wait(_LOOK)
                finally:
                    waiting.remove(work, latch.set)
        self.stop_if_asked()

    async def until_async(self, work: Work) -> None:
        """Do as `until` does, on the running loop."""
        self.stop_if_asked()
        waiting, context, targets = self._rt.waiting, self._context, (work._row,)
        loop = asyncio.get_running_loop()
        stopped: asyncio.Future[None] = loop.create_future()
        wake = partial(resolve_on, loop, [stopped])
        waiting.enter(context, targets)
        waiting.note(context, wake)
        settled = asyncio.ensure_future(waiting.until_settled(work))
        try:
            while not (context._control.why or settled.done()):
                either = {settled, stopped}
                first = asyncio.FIRST_COMPLETED
                await asyncio.wait(either, timeout=_LOOK, return_when=first)
        finally:
            settled.cancel()
            waiting._forget((context.task_id, context.attempt), wake)
            await waiting.leave_async(context, targets)
        self.stop_if_asked()

    def _rest(self, until_ns: int) -> float:
        """Return the seconds to the next look; 0 if it is over or is to stop."""
        if self._is_to_end():
            return 0
        return min(max(0.0, (until_ns - self.now()) / NS), _LOOK)
