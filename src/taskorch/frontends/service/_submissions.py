"""Work that comes in: tasks and workflows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import attrs
from starlette.concurrency import run_in_threadpool

from taskorch._managers import WorkflowRun
from taskorch._orchestrator import TaskOrchestrator
from taskorch.errors import UnknownTaskError
from taskorch.frontends.service._bodies import read, read_object, refuse
from taskorch.frontends.service._operations import (
    RUN,
    TASK_ID,
    Operation,
    asked,
    for_one_task,
    ref,
    told,
)
from taskorch.frontends.service._problems import HttpProblem, problem_of
from taskorch.frontends.service._values import answer, document
from taskorch.model._verbs import TEXT, listed
from taskorch.workflows import Workflow
from taskorch.workflows._task_documents import tasks_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

_MAX_KEY: Final = 200
_KEY: Final = {
    "Idempotency-Key": {"type": "string", "minLength": 1, "maxLength": _MAX_KEY}
}
_TASK: Final = ref("Task")
_BATCH: Final = asked("tasks", tasks=listed(_TASK))
#: How long tasks take: all of them, or by their names or types; or what fails.
_BY_NAME: Final = {
    "anyOf": [
        {"type": "number", "minimum": 0},
        {"type": "object", "additionalProperties": {"type": "number", "minimum": 0}},
    ]
}
_SIMULATE: Final = asked(
    tasks=listed(_TASK),
    workflow=ref("Workflow"),
    durations=_BY_NAME,
    failures=_BY_NAME,
    draws={"type": "integer", "minimum": 1, "maximum": 100},
    seed={"type": "integer", "minimum": 0},
)
_START: Final = asked("workflow", workflow=ref("Workflow"), id=ref("Name"))


class Submissions:
    """
    The operations that bring work.

    With *programs*, tasks may start programs, and gates may look for files.
    """

    def __init__(
        self,
        orch: TaskOrchestrator,
        functions: Mapping[str, Callable[..., Any]],
        *,
        programs: bool,
    ) -> None:
        self._orch = orch
        self._functions = functions
        self._programs = programs

    def operations(self) -> list[Operation]:
        """The operations that submit tasks."""
        return [
            Operation(
                *("POST", "/api/v1/tasks", "submit_task", "Submit one task."),
                self._submit_one,
                header=_KEY,
                body=_TASK,
                status=202,
                answer=TASK_ID,
                refuses=(409, 422),
            ),
            Operation(
                *("POST", "/api/v1/tasks/batch", "submit_tasks"),
                "Submit tasks, all or none.",
                self._submit_many,
                header=_KEY,
                body=_BATCH,
                status=202,
                answer=told(task_ids=listed(TEXT)),
                refuses=(409, 422),
            ),
            Operation(
                *("POST", "/api/v1/workflows", "start_workflow"),
                "Start a workflow; under an id that is known, it is the run there is.",
                self._start,
                header=_KEY,
                body=_START,
                status=202,
                answer=RUN,
                refuses=(409, 422),
            ),
            Operation(
                *("POST", "/api/v1/simulations", "simulate"),
                "What tasks, or a workflow, would come to here, without running them.",
                self._simulate,
                body=_SIMULATE,
                answer=told(seconds={"type": "number"}, text=TEXT),
                refuses=(422,),
            ),
        ]

    async def _submit_one(self, request: Request) -> Response:
        document = await read(request)
        key = _key_of(request)
        keys = None if key is None else [key]
        ids = await for_one_task(self._orch, self._submit, [document], keys)
        place = f"/api/v1/tasks/{ids[0].replace('/', '%2F')}"
        return answer({"task_id": ids[0]}, 202, Location=place)

    async def _submit_many(self, request: Request) -> Response:
        documents = (await read_object(request, _BATCH))["tasks"]
        key = _key_of(request)
        keys = None
        if key is not None:
            keys = [f"{key}/{place}" for place in range(len(documents))]
        ids = await run_in_threadpool(self._submit, documents, keys)
        return answer({"task_ids": ids}, 202)

    def _submit(self, documents: list[Any], keys: list[str] | None) -> list[str]:
        tasks = tasks_of(
            documents,
            self._functions,
            programs=self._programs,
            handle=self._orch.handle,
        )
        if keys is not None:
            for i, (task, key) in enumerate(zip(tasks, keys, strict=True)):
                if task.idempotency_key not in (None, key):
                    path = f"tasks[{i}].idempotency_key"
                    refuse(path, "the header Idempotency-Key has another")
            tasks = [
                attrs.evolve(task, idempotency_key=key)
                for task, key in zip(tasks, keys, strict=True)
            ]
        try:
            return [handle.task_id for handle in self._orch.submit_tasks(tasks)]
        except UnknownTaskError as error:
            # What is not there is not what was asked for, but what that waits for.
            raise problem_of(error, 422) from None

    async def _start(self, request: Request) -> Response:
        body = await read_object(request, _START)
        key = _key_of(request)
        run = await run_in_threadpool(
            self._begin, body["workflow"], body.get("id"), key
        )
        place = f"/api/v1/workflows/{run.workflow_id}"
        return answer({"workflow_id": run.workflow_id}, 202, Location=place)

    async def _simulate(self, request: Request) -> Response:
        body = await read_object(request, _SIMULATE)
        if ("tasks" in body) == ("workflow" in body):
            refuse("", "tasks, or a workflow: one of the two")
        report = await run_in_threadpool(self._simulated, body)
        return answer(report)

    def _simulated(self, body: dict[str, Any]) -> dict[str, Any]:
        if "tasks" in body:
            work: Any = tasks_of(
                body.pop("tasks"),
                self._functions,
                programs=self._programs,
                handle=self._orch.handle,
            )
        else:
            work = self._workflow_of(body.pop("workflow"))
        report = self._orch.simulate(work, body.pop("durations", None), **body)
        return {**document(report.to_dict()), "text": str(report)}

    def _workflow_of(self, description: Any) -> Workflow:
        if not self._programs:
            refuse_files(description)
        return Workflow.from_dict(description, self._functions, programs=self._programs)

    def _begin(self, description: Any, run_id: Any, key: str | None) -> WorkflowRun:
        if isinstance(description, dict) and "schedule" in description:
            text = "a run that is asked for begins at once, and once: leave it out"
            refuse("workflow.schedule", text)
        workflow = self._workflow_of(description)
        if run_id is None and key is not None:
            digest = hashlib.sha256(key.encode()).hexdigest()[:24]
            run_id = f"{workflow.name}-{digest}"
        return self._orch.workflows.start(workflow, run_id)


def _key_of(request: Request) -> str | None:
    """
    The key under which a request may come again.

    Raises:
        HttpProblem: It is no text of a fair length.
    """
    keys = request.headers.getlist("idempotency-key")
    if not keys:
        return None
    if len(keys) > 1 or not 0 < len(keys[0]) <= _MAX_KEY:
        raise HttpProblem(
            400,
            "invalid_key",
            f"an Idempotency-Key is one text of at most {_MAX_KEY} characters",
        )
    return keys[0]


def refuse_files(document: Any) -> None:
    """A gate that looks for a file says what files there are."""
    phases = document.get("phases") if isinstance(document, dict) else None
    for name, phase in phases.items() if isinstance(phases, dict) else ():
        gate = phase.get("gate") if isinstance(phase, dict) else None
        for check in gate if isinstance(gate, list) else ():
            if isinstance(check, dict) and "file" in check:
                text = "gates that look for files are not allowed here"
                refuse(f"workflow.phases.{name}.gate", text)
