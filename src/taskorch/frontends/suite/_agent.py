"""An agent: it runs test tasks in a process of its own, measures and judges them."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

from taskorch._contexts import TaskContext
from taskorch.errors import AttemptInterrupted
from taskorch.frontends.suite._attempt import AttemptInfo, SuiteAttempt
from taskorch.frontends.suite._folder import RunFolder
from taskorch.frontends.suite._judging import CriteriaNotMetError
from taskorch.frontends.suite._process import AgentDiedError, AgentProcess
from taskorch.model import Task

#: Of the grace, what is left to us when a task has to be killed.
_SHARE: Final = 0.8


class SuiteAgent:
    """Runs one test task at a time; one that is to end has *grace* seconds for that."""

    def __init__(self, name: str, folder: RunFolder, grace: float) -> None:
        self.name: str = name
        self.folder: RunFolder = folder
        self._grace = grace
        self._processes: dict[str, AgentProcess] = {}

    def close(self) -> None:
        """End the agent's processes, and what they run."""
        for process in self._processes.values():
            process.close()

    def __call__(self, task: Task, context: TaskContext) -> dict[str, Any]:
        """
        Run an attempt at *task*.

        Returns:
            What it came to: how many tests, and its measures.

        Raises:
            CriteriaNotMetError: It has run, and does not meet its criteria.
            ResultsError: It has left no results.
            AgentDiedError: The process of this agent has died.
        """
        info = AttemptInfo(
            *(context.task_id, context.attempt, context.fence, context.allocation),
            context.progress,
        )
        attempt = SuiteAttempt(self.name, self.folder, task, info)
        process = self._process_for(attempt.python)
        attempt.clear()
        try:
            end = process.run(
                attempt.job(),
                hear=attempt.hear,
                is_to_end=lambda: context.cancelled,
                grace=self._grace * _SHARE,
            )
        except AgentDiedError:
            attempt.cut_off("died")
            raise
        try:
            # One that is being cancelled, or is out of time, stops here.
            context.checkpoint()
        except AttemptInterrupted as why:
            with suppress(CriteriaNotMetError):
                attempt.end(end, stopped=str(why))
            raise
        return attempt.end(end)

    def _process_for(self, python: str) -> AgentProcess:
        if python not in self._processes:
            self._processes[python] = AgentProcess(python)
        return self._processes[python]
