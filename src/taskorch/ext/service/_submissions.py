"""
Submissions over HTTP: tasks and workflows, and their schemas.

The description of the service says the same as the schema of documents of workflows,
without its conditions and its parts that refer to each other: by it, programs make
requests.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from starlette.concurrency import run_in_threadpool

from taskorch.api._orchestrator import TaskOrchestrator
from taskorch.core.workflows import document_schema
from taskorch.core.workflows._task_documents import OF_RUNS
from taskorch.errors import UnknownTaskError
from taskorch.ext.incoming import Incoming
from taskorch.ext.service._bodies import (
    HttpProblem,
    answer,
    document,
    problem_of,
    read,
    read_object,
    refuse,
)
from taskorch.ext.service._operations import (
    RUN,
    TASK_ID,
    Operation,
    asked,
    for_one_task,
    ref,
    told,
)
from taskorch.kit.verbs import NAME, OBJECT, TEXT, listed

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from taskorch.ext.service._tenants import Tenancy


#: The kinds of work that name a function.
_CALLS: Final = ("call", "map", "reduce")
#: Parts of the schema that tasks have already, or that are written in another way.
_TAKEN_APART: Final = ("options", "task", "argument", "item")


def work_schemas(functions: Iterable[str], *, programs: bool) -> dict[str, Any]:
    """
    Return the schemas of tasks and of workflows, and of their parts, by name.

    Args:
        functions: The names of the functions that tasks may call.
        programs: Whether programs may be started, and gates look for files.
    """
    schema = document_schema()
    parts: dict[str, Any] = schema.pop("$defs")
    del schema["$schema"], schema["$id"]
    names = sorted(functions)
    options: dict[str, Any] = parts["options"]["properties"]
    kinds = [
        _object(kind, options, names)
        for untimed in _kinds(parts["task"], parts)
        for kind in _with_timers(untimed)
        if _is_allowed(kind["required"][0], names, programs=programs)
    ]
    own = {
        "id": {"anyOf": [{"$ref": "#/$defs/id"}, {"type": "null"}]},
        "idempotency_key": {"anyOf": [NAME, {"type": "null"}]},
    }
    alone = [
        {
            **kind,
            "properties": {
                name: part
                for name, part in {**kind["properties"], **own}.items()
                if name not in OF_RUNS
            },
        }
        for kind in kinds
        if not {*kind["required"]}.intersection(OF_RUNS)
    ]
    gate: dict[str, Any] = parts["phase"]["properties"]["gate"]["items"]["properties"]
    gate["call"] = {"enum": names}
    for name, is_there in (("call", bool(names)), ("file", programs)):
        if not is_there:
            del gate[name]
    schemas = {
        **{name: part for name, part in parts.items() if name not in _TAKEN_APART},
        **_arguments(parts["argument"]),
        "workflow": schema,
        "task": {"anyOf": alone},
        "nodeTask": {"anyOf": kinds},
    }
    schema["properties"]["tasks"]["additionalProperties"] = ref("NodeTask")
    # References lead to the places of the parts in the description.
    moved = re.sub(
        r'"#/\$defs/(\w)(\w*)"',
        lambda to: f'"#/components/schemas/{to[1].upper()}{to[2]}"',
        json.dumps(
            {name[0].upper() + name[1:]: part for name, part in schemas.items()}
        ),
    )
    components: dict[str, Any] = json.loads(moved)
    return components


def _kinds(part: Mapping[str, Any], parts: Mapping[str, Any]) -> Iterator[Any]:
    """Return the kinds of work in a chain of conditions of the schema."""
    while "if" in part or "$ref" in part:
        if "if" not in part:
            part = parts[part["$ref"].rpartition("/")[2]]
            continue
        kind = part["then"]
        needed = [*part["if"]["required"], *kind.get("required", ())]
        yield {**kind, "required": needed}
        part = part["else"]
    yield part


def _with_timers(kind: dict[str, Any]) -> list[dict[str, Any]]:
    """A wait for no event has an end of its own."""
    if kind["required"] != ["wait_for"]:
        return [kind]
    text, null = kind["properties"]["wait_for"]["anyOf"]
    needed = ["wait_for", "timeout", "default"]
    return [
        {**kind, "properties": {**kind["properties"], "wait_for": text}},
        {
            **kind,
            "required": needed,
            "properties": {**kind["properties"], "wait_for": null},
        },
    ]


def _is_allowed(kind: str, names: list[str], *, programs: bool) -> bool:
    return programs if kind == "program" else bool(names) or kind not in _CALLS


def _object(
    kind: Mapping[str, Any], options: Mapping[str, Any], names: list[str]
) -> dict[str, Any]:
    """The schema of a task of this *kind*, with its options."""
    properties: dict[str, Any] = {**options, **kind["properties"]}
    properties.update({name: {"enum": names} for name in _CALLS if name in properties})
    return {
        "type": "object",
        **kind,
        "additionalProperties": False,
        "properties": properties,
    }


def _arguments(argument: Mapping[str, Any]) -> dict[str, Any]:
    """An argument of a call, and an item of one that is a list."""
    others = [
        {"type": ["null", "boolean", "number", "string"]},
        {"type": "object", "properties": {"$result": False}},
        {
            "type": "object",
            "required": ["$result"],
            "additionalProperties": False,
            "properties": {"$result": {"$ref": "#/$defs/id"}},
        },
    ]
    listed = {"type": "array", "items": {"$ref": "#/$defs/item"}}
    return {
        "argument": {
            "description": argument["description"],
            "anyOf": [listed, *others],
        },
        "item": {"anyOf": [{"type": "array"}, *others]},
    }


_MAX_KEY: Final = 200
_KEY: Final = {
    "Idempotency-Key": {"type": "string", "minLength": 1, "maxLength": _MAX_KEY}
}
_TASK: Final = ref("Task")
_BATCH: Final = asked("tasks", tasks=listed(_TASK))
#: The durations of tasks: of all, or by names or types; or the failures.
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
_START: Final = asked(
    "workflow", workflow=ref("Workflow"), id=ref("Name"), parameters=OBJECT
)


class Submissions:
    """
    The operations that bring work.

    With *programs*, tasks may start programs, and gates may look for files.
    """

    def __init__(
        self,
        orch: TaskOrchestrator,
        functions: Mapping[str, Callable[..., Any]],
        tenancy: Tenancy,
        *,
        programs: bool,
    ) -> None:
        self._orch = orch
        self._incoming = Incoming(
            orch, functions, refuse, programs, tenancy.has_task, tenancy.has_run
        )

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
                "Start a workflow; under a known id, return that run.",
                self._start,
                header=_KEY,
                body=_START,
                status=202,
                answer=RUN,
                refuses=(409, 422),
            ),
            Operation(
                *("POST", "/api/v1/simulations", "simulate"),
                "A simulation of tasks or a workflow here, without running them.",
                self._simulate,
                body=_SIMULATE,
                answer=told(seconds={"type": "number"}, text=TEXT),
                refuses=(422,),
            ),
        ]

    async def _submit_one(self, request: Request) -> Response:
        ids = await for_one_task(
            self._orch, self._submit, [await read(request)], _key_of(request)
        )
        place = f"/api/v1/tasks/{ids[0].replace('/', '%2F')}"
        return answer({"task_id": ids[0]}, 202, Location=place)

    async def _submit_many(self, request: Request) -> Response:
        documents = (await read_object(request, _BATCH))["tasks"]
        ids = await run_in_threadpool(
            self._submit, documents, _key_of(request), is_batch=True
        )
        return answer({"task_ids": ids}, 202)

    def _submit(
        self, documents: list[Any], key: str | None, *, is_batch: bool = False
    ) -> list[str]:
        try:
            return self._incoming.submit(documents, key, is_batch=is_batch)
        except UnknownTaskError as error:
            # The missing task is a parent, not the task that was asked for.
            raise problem_of(error, 422) from None

    async def _start(self, request: Request) -> Response:
        body = await read_object(request, _START)
        key = _key_of(request)
        run = await run_in_threadpool(
            self._incoming.start,
            *(body["workflow"], body.get("id"), key, body.get("parameters")),
        )
        return answer(
            {"workflow_id": run.workflow_id},
            202,
            Location=f"/api/v1/workflows/{run.workflow_id}",
        )

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
