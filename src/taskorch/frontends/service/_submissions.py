"""Work that comes in: tasks and workflows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from starlette.concurrency import run_in_threadpool

from taskorch._orchestrator import TaskOrchestrator
from taskorch.errors import UnknownTaskError
from taskorch.frontends._incoming import Incoming, keys_of
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
        self._incoming = Incoming(orch, functions, refuse, programs)

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
        keys = keys_of(_key_of(request), documents)
        ids = await run_in_threadpool(self._submit, documents, keys)
        return answer({"task_ids": ids}, 202)

    def _submit(self, documents: list[Any], keys: list[str] | None) -> list[str]:
        try:
            return self._incoming.submit(documents, keys)
        except UnknownTaskError as error:
            # What is not there is not what was asked for, but what that waits for.
            raise problem_of(error, 422) from None

    async def _start(self, request: Request) -> Response:
        body = await read_object(request, _START)
        key = _key_of(request)
        run = await run_in_threadpool(
            self._incoming.start, body["workflow"], body.get("id"), key
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
        work: Any = (
            self._incoming.tasks(body.pop("tasks"))
            if "tasks" in body
            else self._incoming.workflow(body.pop("workflow"))
        )
        report = self._orch.simulate(work, body.pop("durations", None), **body)
        return {**document(report.to_dict()), "text": str(report)}


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
