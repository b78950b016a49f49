"""The JSON Schemas of requests, plans and agents, as they are written and read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, get_args

from taskorch._base._limits import MAX_PRIORITY
from taskorch.model._agent import AgentState
from taskorch.workflows import document_schema

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


def _constraint(kind: str, **members: Any) -> Schema:
    return _object("kind", *members, kind={"const": kind}, **members)


def _request() -> Schema:
    return _object(
        *("id", "type"),
        id=_NAME,
        type=_NAME,
        description=_TEXT,
        requirements=_listed(_NAME),
        constraints=_listed(
            {
                "anyOf": [
                    _constraint("deadline", seconds=_AMOUNT),
                    _constraint("maxCost", amount=_AMOUNT),
                    _constraint("maxPeak", resource=_NAME, amount=_AMOUNT),
                    _constraint("before", first=_NAME, then=_NAME),
                ]
            }
        ),
        priority={
            "type": "integer",
            "minimum": -MAX_PRIORITY,
            "maximum": MAX_PRIORITY,
        },
        deadline={
            "anyOf": [_AMOUNT, {"type": "string", "format": "date-time"}],
        },
        context={"type": "object"},
    )


def request_schema() -> Schema:
    """The JSON Schema of a `TaskRequest` as a document."""
    return {"$schema": _DIALECT, "title": "TaskRequest", **_request()}


def plan_schema() -> Schema:
    """The JSON Schema of an `ExecutionPlan` as a document."""
    workflow = document_schema()
    del workflow["$schema"]
    requirement = _object(
        *("resource", "peak", "total"), resource=_NAME, peak=_AMOUNT, total=_AMOUNT
    )
    task = _object(
        *("id", "type", "estimatedDuration"),
        id=_NAME,
        type=_NAME,
        estimatedDuration=_AMOUNT,
        estimatedDurationP90=_AMOUNT,
        source=_TEXT,
        estimatedCost=_AMOUNT,
        estimatedMemoryMb=_AMOUNT,
        estimatedMemoryMbP90=_AMOUNT,
        resources={"type": "object", "additionalProperties": _AMOUNT},
        agent=_NAME,
    )
    choice = _object(
        *("task", "chosen", "rejected"),
        task=_TEXT,
        chosen=_TEXT,
        rejected=_listed(_object("name", "reason", name=_TEXT, reason=_TEXT)),
    )
    plan = _object(
        *("id", "request", "tasks", "dependencies", "workflow"),
        format={"const": 1},
        id=_NAME,
        request=_request(),
        tasks=_listed(task),
        dependencies=_listed(
            _object("task", "needs", task=_NAME, needs=_NAME, reason=_TEXT)
        ),
        resourceRequirements=_listed(requirement),
        estimatedDuration=_AMOUNT,
        estimatedDurationP90=_AMOUNT,
        estimatedCost=_AMOUNT,
        criticalPath=_listed(_NAME),
        binding={"type": ["string", "null"]},
        optimizer=_TEXT,
        lowerBound={"anyOf": [_AMOUNT, {"type": "null"}]},
        explanation=_listed(choice),
        speeds={"type": "object", "additionalProperties": _AMOUNT},
        prices={"type": "object", "additionalProperties": _AMOUNT},
        workflow=workflow,
    )
    return {"$schema": _DIALECT, "title": "ExecutionPlan", **plan}


def agent_schema() -> Schema:
    """The JSON Schema of an `AgentInstance` as a document."""
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
    agent = _object(
        *("id", "type", "kind", "capabilities", "status", "health", "allocation"),
        *("workload", "maxConcurrency", "pid"),
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
    )
    return {"$schema": _DIALECT, "title": "AgentInstance", **agent}
