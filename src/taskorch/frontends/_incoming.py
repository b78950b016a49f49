"""
Tasks and workflows that come in as documents, over HTTP or from a language model.

A key stands for the whole of what came in: under it, the same is meant when it comes
again. What is refused here is refused in the words of the front end.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, TypeAlias

import attrs

from taskorch._managers import WorkflowRun
from taskorch._orchestrator import TaskOrchestrator
from taskorch.model import Task
from taskorch.workflows import Workflow
from taskorch.workflows._task_documents import tasks_of

#: Refuses what stands at a path, by saying what is wrong with it.
Refuse: TypeAlias = Callable[[str, str], NoReturn]


@attrs.frozen
class Incoming:
    """
    What reads documents of work, and starts it.

    Attributes:
        orch: Whose work it will be.
        functions: What tasks may call, by name.
        refuse: How something is refused.
        programs: Whether tasks may start programs, and gates may look for files.
    """

    orch: TaskOrchestrator
    functions: Mapping[str, Callable[..., Any]]
    refuse: Refuse
    programs: bool = False

    def tasks(self, documents: Sequence[object]) -> list[Task[Any]]:
        """
        The tasks that *documents* describe.

        Raises:
            UsageError: One is not well formed, or not allowed.
        """
        return tasks_of(
            documents,
            self.functions,
            programs=self.programs,
            handle=self.orch.handle,
        )

    def submit(
        self, documents: Sequence[object], keys: Sequence[str] | None = None
    ) -> list[str]:
        """
        Submit tasks, all or none; their ids.

        Args:
            documents: Of the tasks.
            keys: Of each its key; None: they have none.

        Raises:
            UsageError: One was refused.
        """
        tasks = self.tasks(documents)
        if keys is not None:
            for place, (task, key) in enumerate(zip(tasks, keys, strict=True)):
                if task.idempotency_key not in (None, key):
                    path = f"tasks[{place}].idempotency_key"
                    self.refuse(path, "the key of the whole call is another")
            tasks = [
                attrs.evolve(task, idempotency_key=key)
                for task, key in zip(tasks, keys, strict=True)
            ]
        return [handle.task_id for handle in self.orch.submit_tasks(tasks)]

    def workflow(self, document: Any) -> Workflow:
        """
        The workflow that *document* describes.

        Raises:
            UsageError: It is not well formed, or not allowed.
        """
        if not self.programs:
            refuse_files(document, self.refuse)
        return Workflow.from_dict(document, self.functions, programs=self.programs)

    def start(self, document: Any, run_id: Any, key: str | None) -> WorkflowRun:
        """
        Start a workflow.

        Args:
            document: Of it.
            run_id: The id of the run; None: it follows from the key, or is new.
            key: Of the whole.

        Raises:
            UsageError: It was refused.
        """
        if isinstance(document, dict) and "schedule" in document:
            text = "a run that is asked for begins at once, and once: leave it out"
            self.refuse("workflow.schedule", text)
        workflow = self.workflow(document)
        if run_id is None and key is not None:
            digest = hashlib.sha256(key.encode()).hexdigest()[:24]
            run_id = f"{workflow.name}-{digest}"
        return self.orch.workflows.start(workflow, run_id)


def keys_of(key: str | None, documents: Sequence[object]) -> list[str] | None:
    """The keys of tasks that come in together, by that of the whole."""
    if key is None:
        return None
    return [f"{key}/{place}" for place in range(len(documents))]


def refuse_files(document: Any, refuse: Refuse) -> None:
    """A gate that looks for a file says what files there are."""
    phases = document.get("phases") if isinstance(document, dict) else None
    for name, phase in phases.items() if isinstance(phases, dict) else ():
        gate = phase.get("gate") if isinstance(phase, dict) else None
        for check in gate if isinstance(gate, list) else ():
            if isinstance(check, dict) and "file" in check:
                text = "gates that look for files are not allowed here"
                refuse(f"workflow.phases.{name}.gate", text)
