"""
Previews of the effect of an act; and the edit of a schedule.

The dashboard and the command line show a preview to a person before an act that cannot
be undone. Each verb names the function for its preview: see `Verb.preview`.

Decisions: dashboard-and-views, verbs-and-front-ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from starlette.concurrency import run_in_threadpool

from taskorch.api.verbs.table import VERBS, foreseen, previewed
from taskorch.ext.service._bodies import WHO, answer, read_object
from taskorch.ext.service._operations import (
    Current,
    Operation,
    asked,
    bad_query,
    named,
    told,
)
from taskorch.ext.service._people import refuse_role
from taskorch.ext.service._tenants import Tenancy, unknown
from taskorch.ext.service._verbs import queried
from taskorch.kit.verbs import OBJECT, TEXT, listed

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

#: The verbs with a preview, by their names over HTTP.
_CALLS: Final = {verb.operation: call for call, verb in VERBS.items() if verb.preview}
#: Stands for a subject where none is needed.
_ALL: Final = "*"
_EDIT: Final = asked(
    when=TEXT,
    zone=TEXT,
    catch_up={"enum": ["last", "all", "none"]},
    overlap={"enum": ["skip", "queue", "cancel"]},
)


def preview(orch: Current, tenancy: Tenancy) -> Operation:
    """
    Return the operation that previews the effect of another one.

    Args:
        orch: Returns the orchestrator.
        tenancy: The tasks that a caller may see.
    """
    more = {each.key: each.form for call in _CALLS.values() for each in _more(call)}
    return Operation(
        *("GET", "/api/v1/previews", "preview"),
        "A preview of what an operation touches now: `subject` is the "
        "task, run or schedule; `since` and `until` are those of a backfill. "
        "`parameters` are what a run of a schedule may be asked for.",
        partial(_preview, orch, tenancy),
        query={"operation": {"enum": [*_CALLS]}, "subject": TEXT, **more},
        needs=("operation", "subject"),
        answer=told(
            text=TEXT,
            tasks=listed(TEXT),
            count={"type": "integer"},
            does_something={"type": "boolean"},
            parameters=listed(OBJECT),
        ),
        refuses=(404, 422),
    )


def edit_schedule(orch: Current) -> Operation:
    """The operation that changes the times of a schedule of *orch*."""
    return Operation(
        *("POST", "/api/v1/schedules/{name}/edit", "edit_schedule"),
        "Change the times of a schedule, or what becomes of its ticks. A "
        "program that declares it says them anew when it starts.",
        partial(_edit, orch),
        body=_EDIT,
        answer=OBJECT,
        refuses=(404, 422),
    )


async def _edit(orch: Current, request: Request) -> Response:
    changes = await read_object(request, _EDIT)
    manager, name = orch().schedules, named(request, "name")
    status = await run_in_threadpool(partial(manager._edit, name, **changes))  # noqa: SLF001 - no verb
    return answer(status.to_dict())


async def _preview(orch: Current, tenancy: Tenancy, request: Request) -> Response:
    query, who = request.query_params, request.scope[WHO]
    operation = query.get("operation", "")
    call = _CALLS.get(operation)
    if call is None:
        raise bad_query(name="operation", text=f"there are {', '.join(_CALLS)}")
    refuse_role(who, operation)
    subject = query.get("subject", "")
    if who.tenants is not None:
        is_task = "{task_id}" in VERBS[call].path
        if not (is_task or "{workflow_id}" in VERBS[call].path):
            raise unknown(subject, is_task=True)
        check = partial(tenancy.check_subject, who, operation)
        await run_in_threadpool(check, subject, is_task)
    touched = await run_in_threadpool(foreseen, orch(), call, _told(call, query))
    document = touched.to_dict()
    if who.tenants is not None:
        # Other parts that it touches may belong to other tenants.
        document |= {"text": "", "tasks": [], "count": 0, "parameters": []}
    return answer(document)


def _more(call: str) -> list[Any]:
    """Return the further arguments of a preview, after its subject."""
    return previewed(call)[1:]


def _told(call: str, query: Mapping[str, str]) -> dict[str, Any]:
    """
    Return the arguments in the query for the preview of a verb.

    Raises:
        HttpProblem: It says what the verb does not take, or too little.
    """
    first, *others = previewed(call)
    texts: dict[str, str] = dict(query)
    del texts["operation"]
    subject = texts.pop("subject", "")
    if first.is_needed or subject not in ("", _ALL):
        texts[first.key] = subject
    arguments = queried([first, *others], texts)
    for name in texts.keys() - {each.key for each in (first, *others)}:
        raise bad_query(name, f"{VERBS[call].operation} does not take it")
    for each in others:
        if each.is_needed and each.name not in arguments:
            raise bad_query(each.key, "it is missing")
    return arguments
