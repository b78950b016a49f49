"""
The methods of an orchestrator for front ends, not for users.

Decisions: extensions, verbs-and-front-ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from taskorch.core.engine import runtime_of as _runtime_of
from taskorch.errors import InvalidTaskError as _InvalidTaskError
from taskorch.kit.checks import built_in as _built_in
from taskorch.kit.fence import is_values as _is_values, log_of as _log_of

if TYPE_CHECKING:
    from taskorch.api._orchestrator import TaskOrchestrator
    from taskorch.core.engine._committer import Committer
    from taskorch.core.handles.handles import TaskHandle
    from taskorch.model import HealthCheck, TaskStatus
    from taskorch.protocols import DurableJournal

_LOG = _log_of(__name__)


class Inside:
    """
    The inside of one orchestrator, as far as front ends need it.

    Args:
        orch: The orchestrator.
    """

    def __init__(self, orch: TaskOrchestrator) -> None:
        self._runtime = _runtime_of(orch)

    def failed_tasks(self) -> Any:
        """Return the records of failed tasks: `notices.failed.FailedTasks`."""
        return _built_in("notices.failed", "failed_tasks()").FailedTasks(self._runtime)

    def add_check(self, check: Callable[[], HealthCheck]) -> None:
        """Make *check* a part of `health()`, which says so if it raises."""
        self._runtime.health_checks.append(check)

    def statuses_of(self, handles: Iterable[TaskHandle[Any]]) -> list[TaskStatus]:
        """Return the status of each of many tasks, as read at once."""
        from taskorch.core.engine import statuses_of  # noqa: PLC0415 - for pages

        return statuses_of(self._runtime, handles)

    def latest_seq(self) -> int:
        """The number of the latest event, which may not have been told yet."""
        return self._runtime.kernel.seq

    def enter(
        self,
        extension: str,
        take: Callable[[Any, Any, Any], None],
    ) -> int:
        """
        Give *take* what there is at one moment; return the number of the latest event.

        Args:
            extension: The extension whose documents it gets.
            take: It gets them as texts, by their keys; the rows of all tasks in memory;
                and the first runs of tasks of which later ones have left memory.
        """
        rt, kernel = self._runtime, self._runtime.kernel
        with rt.lock:
            kept, left = kernel.kept.get(extension, {}), rt.directory.reruns.left
            take(kept, kernel.tasks.values(), left)
            return kernel.seq

    def makes(self, task_id: str) -> bool:
        """Return whether *task_id* is one of those that tasks without an id get."""
        return self._runtime.id_parts[0] in task_id

    def refuse_within(self, call: str) -> None:
        """
        Refuse *call*, which waits for all work, where some of it would never end.

        Raises:
            WouldBlockError: The caller is on the loop that must do the work.
            WouldDeadlockError: The caller is a task, which would wait for itself.
        """
        self._runtime.waiting.refuse_within(call)

    def is_on_loop(self) -> bool:
        """Return whether the caller is on the loop of coroutines."""
        return self._runtime.loops.is_mine()

    def is_telling(self) -> bool:
        """Return whether the caller is on the thread of listeners and callbacks."""
        return self._runtime.publisher.is_mine()

    def begin_telling(self) -> None:
        """Begin the thread of listeners and callbacks before it has work."""
        self._runtime.publisher.begin()

    def start_no_more(self) -> None:
        """Start no more tasks, as at the beginning of a stop; running ones go on."""
        self._runtime.step(lambda _: self._runtime.kernel.pause())

    def patience(
        self, is_over: Callable[[], bool] | None = None
    ) -> AbstractContextManager[None]:
        """
        Let calls in the block wait for a slow journal, as the steps of tasks do.

        They do so until *is_over*, by default until the orchestrator stops.
        """
        return self._runtime.patience(is_over)

    def end_service(self, *, with_queue: bool = False) -> str:
        """
        Stop a service within its `stop_timeout`, or else within ten seconds.

        What runs may end, and a queue without a journal, too; the log names the rest.

        Args:
            with_queue: Whether a queue that a journal keeps may end, too.

        Returns:
            The tasks that were left, with reasons, as a text.
        """
        is_kept = self._runtime.committer is not None and not with_queue
        text: str = self._runtime.lifecycle.end_service(leaves_queue=is_kept)
        return text

    @property
    def policies_hash(self) -> str:
        """The hash of the policies that are asked; "": there are none."""
        governor: Any = self._runtime.governor
        return "" if governor is None else governor.constitution.policies_hash

    def limit_service(self, timeout: float | None) -> bool:
        """Limit `end_service` to *timeout* seconds; return False if it has a limit."""
        first: bool = self._runtime.lifecycle.limit_service(timeout)
        return first

    def open_for_commands(self) -> None:
        """
        Open the journal, but take up no work of it: only commands change it.

        Raises:
            JournalError: It cannot be used.
        """
        self._runtime.takes_up = False
        self._runtime.open()

    @property
    def is_started(self) -> bool:
        """Whether the orchestrator has begun."""
        return self._runtime.started

    @property
    def epoch(self) -> int:
        """The number of this incarnation of the orchestrator in its journal."""
        return self._runtime.epoch

    def kept_journal(self) -> DurableJournal:
        """
        Return the journal, once it has all events up to now.

        Raises:
            JournalError: It cannot be used.
        """
        self._runtime.look_up()
        committer = self._committer()
        committer.wait_kept(committer.last)
        return committer.journal

    def keep_values_by(
        self, keeping: Callable[[Callable[[Any], Any]], Callable[[Any], Any]]
    ) -> None:
        """
        Have results, of steps too, kept as *keeping* says.

        Args:
            keeping: Makes of the function that makes documents of values another. What
                it returns may be a `KeptElsewhere`. If it raises, the first one is
                asked, and the log says so.

        Raises:
            InvalidTaskError: There is no durable journal that could keep them.
        """
        committer = self._committer()
        plain = committer.document
        keep = keeping(plain)

        def document(value: Any) -> Any:
            try:
                return keep(value)
            except BaseException as error:
                if not _is_values(error):
                    raise
                if not isinstance(error, _InvalidTaskError):
                    _LOG.exception("what keeps values elsewhere raised")
                return plain(value)

        committer.document = document

    def repeat(self, seconds: float, call: Callable[[], object]) -> None:
        """Call *call*, which waits for nothing, every so many *seconds* to the end."""
        self._runtime.timer.repeat(seconds, call)

    def _committer(self) -> Committer:
        committer = self._runtime.committer
        if committer is None or not committer.can_be_asked:
            msg = "results are kept elsewhere only if there is a durable journal"
            hint = 'TaskOrchestrator(journal="runs.db", …)'
            raise _InvalidTaskError(msg, hint=hint)
        return committer

    def set_apart(self, glue: tuple[str, ...], stand_ins: frozenset[str]) -> None:
        """
        Say of which types and workers `get_stats` tells apart from the others.

        Args:
            glue: Types of tasks that only hold the others together.
            stand_ins: Workers that do nothing while others can do all that they can.
        """
        self._runtime.glue, self._runtime.stand_ins = glue, stand_ins
