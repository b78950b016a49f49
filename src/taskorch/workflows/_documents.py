"""
Workflows as documents: plain lists and dicts, which JSON and YAML can say.

A document is data. It names functions, and whoever reads it says which functions these
are; it can start programs only where that was allowed.

Decision: 0014.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Any, Final, NoReturn, TypeAlias

from taskorch.model import OPTIONS, Task
from taskorch.model._describe import texts_of
from taskorch.model._show import show

#: What stands in the place of the result of another task.
RESULT: Final = "$result"
#: What may stand beside a program.
PROGRAM: Final = (
    "env",
    "inherit_env",
    "cwd",
    "stdin",
    "check",
    "log",
    "pid_file",
)
#: What is said of resources that may be granted in part; the first must be.
ELASTIC: Final = ("elastic", "min", "weight", "fallback")
#: What a retry policy is made of, as far as a document can say it.
RETRY: Final = (
    *("max_attempts", "wait", "base", "max_delay", "jitter", "stop_after"),
    "delays",
)
#: What a wait for an event may say.
WAIT: Final = ("wait_for", "timeout", "default")
#: What a question may say.
QUESTION: Final = (
    *("question", "options", "no", "who", "quorum", "not_by", "asked_by"),
    *("due", "default", "remind", "details"),
)
#: What an approval may say, if it is more than the seconds that it waits.
APPROVAL: Final = ("timeout", "who", "quorum", "not_by", "remind")
#: What may be said of remembering results.
CACHE: Final = ("expires", "version", "ignore", "key")
#: What a phase may say of itself.
PHASE: Final = ("max_parallel", "gate", "gate_timeout", "on_failure")
#: What may be said of when it runs.
SCHEDULE: Final = ("when", "zone", "catch_up", "overlap", "jitter", "start", "end")
#: Options of a task that say when it goes on.
JOINING: Final = ("join", "on_parent_failure")
#: How a join says that so many must have completed.
AT_LEAST: Final = "at_least"
#: Characters of a value that a message shows.
MAX_SHOWN: Final = 80
#: How deep a value may be nested.
_MAX_DEPTH: Final = 50

Functions: TypeAlias = Mapping[str, Callable[..., Any]]


def document_schema() -> dict[str, Any]:
    """The JSON Schema of a workflow as a document."""
    text = files("taskorch.workflows").joinpath("schema-parts.json").read_text()
    schema: dict[str, Any] = json.loads(text)
    # What a value of each form may be; the options of a task have such values.
    forms, texts = schema.pop("forms"), texts_of(Task)
    schema["$defs"]["options"]["properties"] |= {
        name: {"description": texts.get(name, ""), **forms[each.form]}
        for name, each in OPTIONS.items()
        if each.place != "submission"
    }
    return schema


def object_of(members: list[tuple[str, Any]]) -> dict[str, Any]:
    """
    For a decoder of JSON: an object. What is there twice is read differently by others.

    Raises:
        ValueError: A name is.
    """
    by_name = dict(members)
    if len(by_name) < len(members):
        ((twice, _),) = Counter(name for name, _ in members).most_common(1)
        msg = f"the name {show(twice)} stands twice in an object"
        raise ValueError(msg)
    return by_name


def refuse_constant(name: str) -> NoReturn:
    """For a decoder of JSON: refuse what Python's own takes for a number."""
    msg = f"{name} is no number of JSON"
    raise ValueError(msg)


def plain(
    path: str,
    value: Any,
    findings: list[tuple[str, str]],
    depth: int,
    *,
    exact: bool,
) -> Any:
    """
    A copy of *value* as JSON has it.

    What is no JSON is added to *findings*, with its place; that is, if *exact*, all
    that would not come back as it went.
    """
    kind = type(value)
    if value is None or kind in (str, bool, int):
        return value
    if kind is float:
        if not math.isfinite(value):
            findings.append((path, f"a finite number is needed, not {value}"))
        return value
    if depth >= _MAX_DEPTH:
        findings.append((path, f"it is nested more than {_MAX_DEPTH} levels deep"))
        return None
    if kind is dict or (isinstance(value, Mapping) and not exact):
        copy: dict[str, Any] = {}
        for name, item in value.items():
            if type(name) is str:
                copy[name] = plain(
                    f"{path}.{name}", item, findings, depth + 1, exact=exact
                )
            else:
                text = f"a name is text, not {show(name, MAX_SHOWN)}"
                findings.append((path, text))
        return copy
    if kind is list or (isinstance(value, list) and not exact):
        return [
            plain(f"{path}[{i}]", item, findings, depth + 1, exact=exact)
            for i, item in enumerate(value)
        ]
    findings.append((path, f"what JSON can say is needed, not {kind.__name__}"))
    return None
