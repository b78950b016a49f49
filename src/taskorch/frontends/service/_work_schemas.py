"""
What may be submitted, for the description of the service.

It says the same as the schema of documents of workflows, without its conditions and its
parts that refer to each other: by this one, programs make requests.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from taskorch.frontends.service._operations import ref
from taskorch.model._verbs import NAME
from taskorch.workflows import document_schema
from taskorch.workflows._task_documents import OF_RUNS

#: The kinds of work that name a function.
_CALLS: Final = ("call", "map", "reduce")
#: The parts of the schema that are in those of the tasks, or are put otherwise.
_TAKEN_APART: Final = (
    *("options", "task", "work", "step", "asked", "whole", "argument", "item"),
)


def work_schemas(functions: Iterable[str], *, programs: bool) -> dict[str, Any]:
    """
    The schemas of tasks and of workflows, and of what they name, by their names.

    Args:
        functions: The names of what may be called.
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
        "text": NAME,
        "workflow": schema,
        "task": {"anyOf": alone},
        "nodeTask": {"anyOf": kinds},
    }
    schema["properties"]["tasks"]["additionalProperties"] = ref("NodeTask")
    # References, to where the parts are in the description.
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
    """The kinds of work that are told apart by a chain of conditions."""
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
