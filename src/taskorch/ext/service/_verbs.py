"""
The operations of an orchestrator, made of the table of its verbs.

What an answer has beyond what the method returns stands here, and nothing else.

Decisions: documents, verbs-and-front-ends.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from starlette.concurrency import run_in_threadpool

from taskorch.api.verbs.table import VERBS, as_json, bound
from taskorch.ext.incoming import faults_of_arguments
from taskorch.ext.service._bodies import (
    WHO,
    HttpProblem,
    answer,
    document,
    read_object,
    refuse,
)
from taskorch.ext.service._operations import (
    CHANGED,
    REMEDIES,
    RUN,
    TASK_ID,
    Current,
    Operation,
    bad_query,
    for_one_task,
    named,
    ref,
    told,
    with_remedies,
)
from taskorch.ext.service._tenants import LEFT, Tenancy
from taskorch.kit.fence import log_of
from taskorch.kit.findings import findings_of
from taskorch.kit.people import may_speak_as, person
from taskorch.kit.verbs import ANYTHING, OBJECT, TEXT, Schema, listed
from taskorch.kit.visible import visible

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from taskorch.kit.people import Caller
    from taskorch.kit.verbs import Argument, Verb

_WORKER: Final = told(
    id=TEXT, status=TEXT, health=OBJECT, instance=ref("AgentInstance")
)
_STATUS: Final = {"type": "object", "required": ["task_id", "state"]}
#: Functions that write an answer, by the member with the returned value.
_MEMBERS: Final[Mapping[str, Schema]] = {
    "agents": listed(_WORKER),
    "budget": OBJECT,
    "allocation_id": TEXT,
    "changed": CHANGED["properties"]["changed"],
    "comparison": OBJECT,
    "count": {"type": "integer"},
    "decided": {"type": "boolean"},
    "ids": listed(TEXT),
    "in_time": OBJECT,
    "promise": OBJECT,
    "promises": listed(OBJECT),
    "what_if": OBJECT,
    "matches": listed(told(agent=_WORKER, matches={"type": "boolean"}, reason=TEXT)),
    "released": {"type": "integer"},
    "resources": OBJECT,
    "task_id": TASK_ID["properties"]["task_id"],
    "task_ids": listed(TEXT),
    "workflow_id": RUN["properties"]["workflow_id"],
    "workflow_ids": listed(TEXT),
}
#: The schemas of answers that are the whole value, or have more members.
_ANSWERS: Final[Mapping[str, Schema]] = {
    "agent": _WORKER,
    "allocate_resources": told(id=TEXT, owner=TEXT, resources=OBJECT, since=TEXT),
    "backfill_schedule": told(ids=listed(TEXT), already=listed(TEXT), backfill_id=TEXT),
    "get_task_status": _STATUS,
    "hold_starts": OBJECT,
    "spawn_agent": _WORKER,
    "stuck": {"type": "object", "required": ["stuck"]},
    "terminate_agent": OBJECT,
    "workflow_status": told(
        workflow_id=TEXT, state=TEXT, instance=ref("WorkflowInstance")
    ),
}
#: The header in which the dashboard names the caller, and the longest name.
BY: Final = "x-taskorch-by"
_NAME: Final = 100
_LOG: Final = log_of(__name__)
#: Verbs that explain, and so name remedies: as requests, or as calls.
_EXPLAINS: Final = frozenset({"explain", "stuck"})


def operations(
    orch: Current,
    tenancy: Tenancy,
    names: Collection[str] | None = None,
    *,
    apart: Collection[str] = (),
    table: Mapping[str, Verb] = VERBS,
) -> list[Operation]:
    """
    Return the operations for the verbs of *orch*.

    Args:
        orch: Returns the orchestrator.
        tenancy: The tasks that a caller may see.
        names: The verbs to offer; None: all.
        apart: The verbs that other operations offer.
        table: The verbs, by how a program calls them.
    """
    return [
        _operation(orch, tenancy, call, verb)
        for call, verb in table.items()
        if verb.request
        and (names is None or verb.operation in names)
        and verb.operation not in apart
    ]


def _operation(orch: Current, tenancy: Tenancy, call: str, verb: Verb) -> Operation:
    is_asked = verb.method == "GET"
    query = {each.key: each.form for each in verb.fields} if is_asked else {}
    if verb.operation in _EXPLAINS:
        query["remedies"] = REMEDIES
    otherwise = listed(OBJECT) if call in VERBS else ANYTHING
    whole = told(**{verb.gives: _MEMBERS.get(verb.gives, otherwise)})
    return Operation(
        verb.method,
        f"/api/v1{verb.path}",
        verb.operation,
        verb.text,
        partial(_carry_out, orch, tenancy, call, verb),
        query=query,
        body=verb.body,
        is_body_needed=_needs_body(verb),
        status=verb.status,
        answer=_ANSWERS.get(verb.operation, whole if verb.gives else OBJECT),
        refuses=verb.refuses,
        role="" if call in VERBS else verb.role,
    )


def _needs_body(verb: Verb) -> bool:
    # A verb without a form needs no field.
    return verb.body is None or any(each.is_needed for each in verb.fields)


async def _carry_out(
    orch: Current, tenancy: Tenancy, call: str, verb: Verb, request: Request
) -> Response:
    who: Caller = request.scope[WHO]
    arguments = {each.name: named(request, each.key) for each in _in_path(verb)}
    body: Mapping[str, Any]
    if verb.body is not None:
        form = _form_for(who, verb)
        is_needed = bool(form["required"])
        body = await read_object(request, form, is_needed=is_needed)
    else:
        values = queried(verb.fields, request.query_params)
        keys = {each.name: each.key for each in verb.fields}
        body = {keys[name]: value for name, value in values.items()}
    if who.tenants is not None:
        for path, text in faults_of_arguments(who, orch(), body):
            refuse(path, text)
    fields = {each.name: body[each.key] for each in verb.fields if each.key in body}
    fields = {**verb.remote, **fields}
    if who.name:
        fields = _as_proved(who, verb, fields)
    current = orch()
    method = bound(current, call)

    def perform() -> Any:
        # This is part of the call, because a long list takes time to be written.
        values = {**fields}
        # A value that may stand there several times has no name in a call.
        many = [values.pop(each.name) for each in verb.fields if each.is_many]
        result = method(*arguments.values(), *chain(*many), **values)
        if verb.operation in LEFT:
            result = LEFT[verb.operation](tenancy, who, result)
        return _members(verb, result, arguments | fields)

    members = await (
        for_one_task(current, perform)
        if verb.waits == "journal" and "{task_id}" in verb.path and not verb.changes
        else run_in_threadpool(perform)
    )
    if verb.changes:
        _note_who(request, who, verb, arguments)
    if verb.operation in _EXPLAINS:
        members = with_remedies(request, members)
    return answer(members, verb.status)


#: The operation that needs the owner of a hold, who alone may release it.
_WHOSE: Final = "release_starts"


def _form_for(who: Caller, verb: Verb) -> Schema:
    """Return the form of a body; a known caller need not give a name."""
    form = verb.body or {}
    if not who.name:
        return form
    needed = [each for each in verb.fields if each.is_needed and not each.says_who]
    return {**form, "required": [each.key for each in needed]}


def _as_proved(who: Caller, verb: Verb, fields: Mapping[str, Any]) -> dict[str, Any]:
    """
    The arguments, with the name that was proved.

    Raises:
        HttpProblem: They say another, and *who* may not speak for others.
    """
    proved = dict(fields)
    for each in verb.fields:
        if each.says_who and verb.operation != _WHOSE:
            proved[each.name] = name_for(who, proved.get(each.name))
    if verb.operation == _WHOSE:
        proved.setdefault("by", who.name)
    reason = proved.get("reason")
    if reason is not None and reason == verb.remote.get("reason"):
        proved["reason"] = reason.replace("over HTTP", f"by {who.name}")
    return proved


def name_for(who: Caller, name: str | None) -> str:
    """
    The name under which *who* does something.

    Args:
        who: The caller.
        name: The name that was said, if one was.

    Raises:
        HttpProblem: It is that of another, and they may not speak for others.
    """
    if name is None or person(name) == person(who.name):
        return who.name
    if may_speak_as(name):
        return name
    raise HttpProblem(
        *(403, "not_your_name", f"{who.name} may not speak for others"),
        hint="leave the name out: the token says it",
    )


def _note_who(
    request: Request, who: Caller, verb: Verb, arguments: Mapping[str, Any]
) -> None:
    """Say in the log who has done something, if a token or the dashboard says it."""
    name = " ".join(unquote(request.headers.get(BY, ""))[:_NAME].split())
    name = who.name or name
    if name:
        subject = ", ".join(map(str, arguments.values()))
        _LOG.info("%s", visible(f"{name}: {verb.operation} {subject}".rstrip()))


def _in_path(verb: Verb) -> list[Argument]:
    return [each for each in verb.arguments if each.in_path]


def queried(fields: Iterable[Argument], query: Mapping[str, str]) -> dict[str, Any]:
    """
    Read *fields* from a query, by their names: texts, or else JSON.

    Raises:
        HttpProblem: The verb does not take a value.
    """
    values: dict[str, Any] = {}
    for each in fields:
        value: Any = query.get(each.key)
        if value is None:
            continue
        if each.form.get("type") != "string":
            # A value that is no JSON gets an error of its own.
            with suppress(ValueError):
                value = json.loads(value)
        for _, fault in findings_of(each.form, value, {}):
            raise bad_query(each.key, fault)
        values[each.name] = value
    return values


def _members(verb: Verb, result: Any, arguments: Mapping[str, Any]) -> Any:
    """Return the members of an answer for a returned value."""
    shape = _SHAPES.get(verb.operation)
    if shape is not None:
        return shape(result)
    if not verb.gives:
        return as_json(result)
    if result is None:
        # Without a result, the answer names the subject of the verb.
        for each in verb.arguments:
            if each.key == verb.gives:
                result = arguments.get(each.name, each.default)
    return {verb.gives: as_json(result)}


def _explained(value: Any) -> dict[str, Any]:
    return {**document(value.to_dict()), "text": str(value)}


def _status(status: Any) -> dict[str, Any]:
    more = {"percent": status.percent, "text": str(status)}
    return {**document(status), **more, "instance": document(status.to_dict())}


_SHAPES: Final[Mapping[str, Callable[[Any], Any]]] = {
    "backfill_schedule": lambda ids: {
        "ids": [*ids],
        "already": [*ids.already],
        "backfill_id": ids.backfill_id,
    },
    "explain": _explained,
    "stuck": lambda groups: {"stuck": [_explained(each) for each in groups]},
    "trigger_schedule": lambda made_id: {"ids": [made_id]},
    "workflow_status": _status,
}
