"""
What tools are used on, where the orchestrator is in this process.

A place has verbs by the names of the facade, which take and give what JSON can say
where a model says it or reads it. A `JournalReader` is one as it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from taskorch._orchestrator import TaskOrchestrator
from taskorch.errors import ValidationFailedError
from taskorch.model import TaskFilter, TaskStatus
from taskorch.workflows import Workflow
from taskorch.workflows._task_documents import tasks_of

if TYPE_CHECKING:
    from taskorch import SimulationReport


class OrchestratorPlace:
    """
    An orchestrator, for tools.

    Args:
        orch: It; whoever owns it starts and stops it.
        functions: What tasks that come in may call, by name.
    """

    def __init__(
        self,
        orch: TaskOrchestrator,
        functions: Mapping[str, Callable[..., Any]] | None = None,
    ) -> None:
        self._orch = orch
        self._functions = functions or {}
        self.get_task_status = orch.get_task_status
        self.explain = orch.explain
        self.stuck = orch.stuck
        self.failures = orch.failures
        self.get_stats = orch.get_stats
        self.health = orch.health
        self.questions = orch.questions
        self.answer = orch.answer
        self.cancel_task = orch.cancel_task
        self.suspend_task = orch.suspend_task
        self.resume_task = orch.resume_task
        self.set_priority = orch.set_priority
        self.rerun_task = orch.rerun_task
        self.hold_starts = orch.hold_starts
        self.release_starts = orch.release_starts

    def __repr__(self) -> str:
        return "the orchestrator"

    @property
    def uid(self) -> str:
        """Id of the journal, which only its readers know; "": there is none."""
        committer = self._orch._rt.committer  # noqa: SLF001 - no verb says it
        return "" if committer is None else getattr(committer.journal, "uid", "")

    def tasks(self, which: TaskFilter) -> Iterator[TaskStatus]:
        """See `TaskOrchestrator.tasks`."""
        return self._orch.tasks(which)

    # -- what is to be done --------------------------------------------------------

    def submit_documents(
        self, documents: Iterable[object], *, key: str | None = None
    ) -> list[str]:
        """See `Client.submit_documents`."""
        tasks = tasks_of(
            documents, self._functions, programs=False, handle=self._orch.handle
        )
        if key is not None:
            for place, task in enumerate(tasks):
                if task.idempotency_key is not None:
                    path = f"tasks[{place}].idempotency_key"
                    _refuse(path, "the key of the call stands for it")
            tasks = [
                attrs.evolve(task, idempotency_key=f"{key}/{place}")
                for place, task in enumerate(tasks)
            ]
        return [handle.task_id for handle in self._orch.submit_tasks(tasks)]

    def start_workflow(
        self, document: object, run_id: str | None = None, *, key: str | None = None
    ) -> str:
        """See `Client.start_workflow`."""
        workflow = self._workflow(document)
        if run_id is None and key is not None:
            digest = hashlib.sha256(key.encode()).hexdigest()[:24]
            run_id = f"{workflow.name}-{digest}"
        return self._orch.workflows.start(workflow, run_id).workflow_id

    def _workflow(self, document: Any) -> Workflow:
        if isinstance(document, dict):
            if "schedule" in document:
                _refuse("workflow.schedule", "a run that is asked for begins at once")
            _refuse_files(document)
        return Workflow.from_dict(document, self._functions)

    def simulate(
        self, work: Mapping[str, Any], durations: Mapping[str, float] | None = None
    ) -> SimulationReport:
        """What `tasks`, or a `workflow`, would come to: see the facade's."""
        subject: Any = (
            self._workflow(work["workflow"])
            if "workflow" in work
            else tasks_of(
                work["tasks"],
                self._functions,
                programs=False,
                handle=self._orch.handle,
            )
        )
        return self._orch.simulate(subject, durations)

    def plan(self, request: Any) -> dict[str, Any]:
        """The plan of a request, as JSON has it: see `orch.planner.plan`."""
        return self._orch.planner.plan(request).to_dict(self._functions)

    # -- what is made again and again ----------------------------------------------

    def schedules(self) -> list[dict[str, Any]]:
        """See `Client.schedules`."""
        return [each.to_dict() for each in self._orch.schedules.list()]

    def schedule(self, name: str) -> dict[str, Any]:
        """See `Client.schedule`."""
        coming = self._orch.schedules.next(name, 5)
        moments = [moment.isoformat() for moment in coming]
        return {**self._orch.schedules.status(name).to_dict(), "coming": moments}


def _refuse(path: str, text: str) -> None:
    msg = f"{path}: {text}"
    raise ValidationFailedError(msg, findings=((path, text),))


def _refuse_files(document: Mapping[str, Any]) -> None:
    """A gate that looks for a file says what files there are."""
    phases = document.get("phases")
    for name, phase in phases.items() if isinstance(phases, dict) else ():
        gate = phase.get("gate") if isinstance(phase, dict) else None
        for check in gate if isinstance(gate, list) else ():
            if isinstance(check, dict) and "file" in check:
                text = "gates that look for files are not allowed here"
                _refuse(f"workflow.phases.{name}.gate", text)
