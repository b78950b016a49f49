"""
The description of the service: OpenAPI 3.1, made of its operations.

Decision: 0069.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final

import taskorch
from taskorch.frontends.service._operations import Operation, ref
from taskorch.model._verbs import ID, TEXT

#: What any operation may answer, and what that means.
_ALWAYS: Final = (400, 403, 421, 503)
_BODY: Final = (408, 413, 415, 422)
_TOKEN: Final = (401, 429)
PROBLEM: Final[dict[str, Any]] = {
    "type": "object",
    "description": "What is wrong, by RFC 9457.",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": TEXT,
        "title": TEXT,
        "status": {"type": "integer"},
        "detail": TEXT,
        "code": {"type": "string", "description": "A stable name for programs."},
        "hint": {"type": "string", "description": "What to do about it."},
    },
}


def description(
    operations: Iterable[Operation], schemas: Mapping[str, Any]
) -> dict[str, Any]:
    """The document; *schemas* are those that the operations name, by their names."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _of(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "taskorch",
            "version": taskorch.__version__,
            "description": "An orchestrator as a service.",
        },
        "paths": paths,
        "components": {
            "schemas": {"Problem": PROBLEM, **schemas},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


def _of(operation: Operation) -> dict[str, Any]:
    parameters = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": ID if name == "agent_id" else TEXT,
        }
        for name in re.findall(r"{(\w+)}", operation.path)
    ]
    for place, schemas in (("query", operation.query), ("header", operation.header)):
        parameters += [
            {
                "name": name,
                "in": place,
                "schema": schema,
                **({"required": True} if name in operation.needs else {}),
            }
            for name, schema in schemas.items()
        ]
    refused = {*_ALWAYS, *operation.refuses}
    if not operation.is_open:
        refused |= {*_TOKEN}
    if operation.method == "POST":
        refused |= {*_BODY}
    content = {operation.media: {"schema": operation.answer}}
    description: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "responses": {
            str(operation.status): {"description": "Done.", "content": content},
            **{str(status): _refusal(status) for status in sorted(refused)},
        },
    }
    if operation.name == "result":
        description["responses"]["202"] = {
            "description": "Not ended.",
            "content": content,
        }
    if parameters:
        description["parameters"] = parameters
    if operation.body is not None:
        description["requestBody"] = {
            "required": operation.is_body_needed,
            "content": {"application/json": {"schema": operation.body}},
        }
    if operation.is_open:
        description["security"] = []
    return description


def _refusal(status: int) -> dict[str, Any]:
    return {
        "description": HTTPStatus(status).phrase,
        "content": {"application/problem+json": {"schema": ref("Problem")}},
    }
