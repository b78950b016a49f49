"""
What front ends ask of an orchestrator, and no user.

Decisions: 0260, 0295.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from taskorch.kit.fence import is_values as _is_values
from taskorch.kit.visible import show as _show
from taskorch.model import HealthCheck as _HealthCheck

if TYPE_CHECKING:
    from taskorch._orchestrator import TaskOrchestrator
    from taskorch._telling.failed import FailedTasks
    from taskorch.model import HealthCheck


class Door:
    """
    The inside of one orchestrator, as far as front ends need it.

    Args:
        orch: The orchestrator.
    """

    def __init__(self, orch: TaskOrchestrator) -> None:
        self._runtime = orch._rt  # noqa: SLF001 - the one way in

    def failed_tasks(self) -> FailedTasks:
        """Return what is known of the tasks that have failed."""
        from taskorch._telling.failed import FailedTasks  # noqa: PLC0415 - when needed

        return FailedTasks(self._runtime)

    def add_check(self, check: Callable[[], HealthCheck]) -> None:
        """Make *check* a part of `health()`, which says so if it raises."""

        def tell() -> HealthCheck:
            try:
                health: object = check()
            except BaseException as error:
                if not _is_values(error):
                    raise
                health = error
            if isinstance(health, _HealthCheck):
                return health
            text = f"the check of a front end gave {_show(health)}"
            return _HealthCheck("front end", "degraded", text)

        self._runtime.health_checks.append(tell)

    def latest_seq(self) -> int:
        """The number of the latest fact, which may not have been told yet."""
        return self._runtime.kernel.seq

    def refuse_within(self, call: str) -> None:
        """
        Refuse *call*, which waits for all work, where some of it would never end.

        Raises:
            WouldBlockError: The caller is on the loop that must do the work.
            WouldDeadlockError: The caller is a task, which would wait for itself.
        """
        self._runtime.waiting.refuse_within(call)

    def is_on_loop(self) -> bool:
        """Whether the caller is on the loop that does the work of coroutines."""
        return self._runtime.loops.is_mine()

    def is_telling(self) -> bool:
        """Whether the caller is on the thread of receivers and callbacks."""
        return self._runtime.publisher.is_mine()

    def begin_telling(self) -> None:
        """Begin the thread of receivers and callbacks before it has anything to do."""
        self._runtime.publisher.begin()

    def start_no_more(self) -> None:
        """Start no more tasks, as at the beginning of a stop; those that run go on."""
        self._runtime.step(lambda _: self._runtime.kernel.pause())

    def only_command(self) -> None:
        """Leave what is in the journal as it is, but for what is commanded."""
        self._runtime.takes_up = False

    def set_apart(self, glue: tuple[str, ...], stand_ins: frozenset[str]) -> None:
        """
        Say of which types and workers `get_stats` tells apart from the others.

        Args:
            glue: Types of tasks that only hold the others together.
            stand_ins: Workers that do nothing while others can do all that they can.
        """
        self._runtime.glue, self._runtime.stand_ins = glue, stand_ins
