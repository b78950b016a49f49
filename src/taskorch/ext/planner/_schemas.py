"""The JSON Schemas of requests, plans, workers and runs in documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, get_args

from taskorch.core.workflows import document_schema
from taskorch.core.workflows._status import PAUSES, STATES
from taskorch.ext.planner._values import PlanEntry, TaskRequest
from taskorch.kit.forms import DocumentOf
from taskorch.model import AgentState, TaskState

Schema = dict[str, Any]
_TEXT: Final[Mapping[str, Any]] = {"type": "string"}
_NAME: Final[Mapping[str, Any]] = {"type": "string", "minLength": 1}
_AMOUNT: Final[Mapping[str, Any]] = {"type": "number", "minimum": 0}
_AMOUNT_OR_NONE: Final[Mapping[str, Any]] = {"type": ["number", "null"], "minimum": 0}
_COUNT_OR_NONE: Final[Mapping[str, Any]] = {"type": ["integer", "null"], "minimum": 1}
_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def _object(*needed: str, **members: Any) -> Schema:
    return {
        "type": "object",
        "required": [*needed],
        "additionalProperties": False,
        "properties": members,
    }


def _listed(items: Any) -> Schema:
    return {"type": "array", "items": items}


def request_schema() -> Schema:
    """Return the JSON Schema of a `TaskRequest` as a document."""
    request = DocumentOf(TaskRequest).schema()
    return {"$schema": _DIALECT, "title": "TaskRequest", **request}


def plan_schema() -> Schema:
    """Return the JSON Schema of an `ExecutionPlan` as a document."""
    plan = DocumentOf(PlanEntry).schema()
    plan["properties"]["workflow"] = document_schema()
    del plan["properties"]["workflow"]["$schema"]
    return {"$schema": _DIALECT, "title": "ExecutionPlan", **plan}


def agent_schema() -> Schema:
    """Return the JSON Schema of an `AgentInstance` as a document."""
    status = {"enum": [*get_args(AgentState)]}
    capability = _object(
        *("name", "level"), name=_NAME, level={"type": "integer", "minimum": 1}
    )
    health = _object(
        *("status", "healthy", "reasons", "heartbeatAge", "successRate", "latency"),
        "breakers",
        status=status,
        healthy={"type": "boolean"},
        reasons=_listed(_TEXT),
        heartbeatAge=_AMOUNT_OR_NONE,
        successRate={**_AMOUNT_OR_NONE, "maximum": 1},
        latency=_AMOUNT_OR_NONE,
        breakers={"type": "object", "additionalProperties": _TEXT},
    )
    worker = _object(
        *("id", "type", "kind", "capabilities", "status", "health", "allocation"),
        *("workload", "maxConcurrency", "pid", "labels", "capacity", "units"),
        id=_NAME,
        type={"type": ["string", "null"]},
        kind=_NAME,
        capabilities=_listed(capability),
        status=status,
        health=health,
        allocation={"type": "object", "additionalProperties": _AMOUNT},
        workload=_listed(_object("id", id=_NAME)),
        maxConcurrency=_COUNT_OR_NONE,
        pid=_COUNT_OR_NONE,
        labels={"type": "object", "additionalProperties": _TEXT},
        capacity={"type": "object", "additionalProperties": _AMOUNT},
        units={
            "type": "object",
            "additionalProperties": {"type": "object", "additionalProperties": _AMOUNT},
        },
    )
    return {"$schema": _DIALECT, "title": "AgentInstance", **worker}


def workflow_schema() -> Schema:
    """Return the JSON Schema of a `WorkflowStatus` as a document."""
    percent = {**_AMOUNT, "maximum": 100}
    tasks = _object(
        *("id", "status"),
        id=_NAME,
        status={"enum": [state.value for state in TaskState]},
    )
    states = [state.value for state in STATES]
    phase = _object(
        *("id", "status", "percent"), id=_NAME, status={"enum": states}, percent=percent
    )
    run = _object(
        *("id", "status", "percent", "tasks", "running", "waitsFor"),
        *("remainingPath", "estimatedRemaining", "phases", "parameters"),
        id=_NAME,
        status={"enum": [*states, *PAUSES]},
        percent=percent,
        tasks=_listed(tasks),
        allowed=_listed(_NAME),
        running={"type": "integer", "minimum": 0},
        waitsFor=_listed(_NAME),
        remainingPath=_listed(_NAME),
        estimatedRemaining=_AMOUNT_OR_NONE,
        phases=_listed(phase),
        parameters={"type": "object"},
    )
    return {"$schema": _DIALECT, "title": "WorkflowInstance", **run}
