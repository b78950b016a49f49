"""
What an act would touch, asked before it is done; and the edit of a schedule.

The dashboard shows it to a person who is about to do something that cannot be undone.

Decision: 0213.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from starlette.concurrency import run_in_threadpool

from taskorch._managers import _foreseen
from taskorch._managers._foreseen import Foreseen, many_tasks
from taskorch.frontends.service._bodies import answer, read_object
from taskorch.frontends.service._guard import WHO
from taskorch.frontends.service._operations import (
    Current,
    Operation,
    asked,
    bad_query,
    named,
    told,
)
from taskorch.frontends.service._people import refuse_role
from taskorch.frontends.service._tenants import Tenancy, unknown
from taskorch.kit.verbs import OBJECT, TEXT, listed
from taskorch.kit.visible import counted

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

#: Ids that an answer names.
_SHOWN: Final = 50
_EDIT: Final = asked(
    when=TEXT,
    zone=TEXT,
    catch_up={"enum": ["last", "all", "none"]},
    overlap={"enum": ["skip", "queue", "cancel"]},
)


class Previews:
    """
    The operation that says what another one would touch.

    Args:
        orch: Who would do it.
        tenancy: What of it a caller may see.
    """

    def __init__(self, orch: Current, tenancy: Tenancy) -> None:
        self._orch = orch
        self._tenancy = tenancy
        self._acts: Mapping[str, Callable[[Any, str, Mapping[str, str]], Foreseen]] = {
            "cancel_task": _cancel_task,
            "rerun_task": _rerun_task,
            "decide": _decide,
            "cancel_workflow": _cancel_workflow,
            "restart_workflow": _restart_workflow,
            "trigger_schedule": _trigger_schedule,
            "backfill_schedule": _backfill_schedule,
            "remove_schedule": _remove_schedule,
            "cancel_backfill": _cancel_backfill,
            "prune": _prune,
        }

    def operations(self) -> list[Operation]:
        """The operations before and beside the verbs."""
        return [
            Operation(
                *("POST", "/api/v1/schedules/{name}/edit", "edit_schedule"),
                "Change the times of a schedule, or what becomes of its ticks. A "
                "program that declares it says them anew when it starts.",
                self._edit,
                body=_EDIT,
                answer=OBJECT,
                refuses=(404, 422),
            ),
            Operation(
                *("GET", "/api/v1/previews", "preview"),
                "What an operation would touch now, without doing it: `subject` is the "
                "task, run or schedule; `since` and `until` are those of a backfill. "
                "`parameters` are what a run of a schedule may be asked for.",
                self._preview,
                query={
                    "operation": {"enum": [*self._acts]},
                    "subject": TEXT,
                    "since": TEXT,
                    "until": TEXT,
                },
                needs=("operation", "subject"),
                answer=told(
                    text=TEXT,
                    tasks=listed(TEXT),
                    count={"type": "integer"},
                    does_something={"type": "boolean"},
                    parameters=listed(OBJECT),
                ),
                refuses=(404, 422),
            ),
        ]

    async def _edit(self, request: Request) -> Response:
        changes = await read_object(request, _EDIT)
        manager, name = self._orch().schedules, named(request, "name")
        status = await run_in_threadpool(partial(manager._edit, name, **changes))  # noqa: SLF001 - no verb
        return answer(status.to_dict())

    async def _preview(self, request: Request) -> Response:
        query = request.query_params
        act = self._acts.get(query.get("operation", ""))
        if act is None:
            text = f"there are {', '.join(self._acts)}"
            raise bad_query(name="operation", text=text)
        subject = query.get("subject", "")
        orch, who = self._orch(), request.scope[WHO]
        operation = query["operation"]
        refuse_role(who, operation)
        if who.tenants is not None:
            if operation.endswith("_schedule"):
                raise unknown(subject, is_task=True)
            is_task = not operation.endswith("_workflow")
            check = partial(self._tenancy.check_subject, who, operation)
            await run_in_threadpool(check, subject, is_task)
        foreseen = await run_in_threadpool(act, orch, subject, query)
        if who.tenants is not None:
            # What else it touches may be of others.
            foreseen = Foreseen((), "", does_something=foreseen.does_something)
        return answer(
            {
                "text": foreseen.text,
                "tasks": foreseen.task_ids[:_SHOWN],
                "count": len(foreseen.task_ids),
                "does_something": foreseen.does_something,
                "parameters": list(foreseen.parameters),
            }
        )


def _cancel_task(orch: Any, task_id: str, _: Mapping[str, str]) -> Foreseen:
    return _foreseen.cancel_of_task(orch, task_id)


def _rerun_task(orch: Any, task_id: str, _: Mapping[str, str]) -> Foreseen:
    return _foreseen.rerun_of_task(orch, task_id)


def _decide(orch: Any, task_id: str, _: Mapping[str, str]) -> Foreseen:
    waiting = _foreseen.waiting_for(orch, task_id)
    text = f"Decides on {task_id}; {many_tasks(waiting, 'waits', 'wait')} for it."
    return Foreseen((task_id, *waiting), text)


def _cancel_workflow(orch: Any, run_id: str, _: Mapping[str, str]) -> Foreseen:
    return _foreseen.cancel_of_run(orch.workflows, run_id)


def _restart_workflow(orch: Any, run_id: str, _: Mapping[str, str]) -> Foreseen:
    return _foreseen.restart_of_run(orch.workflows, run_id)


def _trigger_schedule(orch: Any, name: str, _: Mapping[str, str]) -> Foreseen:
    status = orch.schedules.status(name)
    text = f"Starts {status.makes} once, now, besides its times."
    if status.running:
        text += f" {', '.join(status.running[:3])} has not ended, and goes on."
    return Foreseen((), text, parameters=orch.schedules._parameters(name))  # noqa: SLF001 - no verb


def _backfill_schedule(orch: Any, name: str, query: Mapping[str, str]) -> Foreseen:
    since, until = query.get("since", ""), query.get("until", "")
    ids, existing = orch.schedules._foreseen(name, since, until)  # noqa: SLF001 - no verb
    new = [each for each in ids if each not in existing]
    text = f"Makes {len(new):,} of {counted(len(ids), 'tick')}."
    if existing:
        verb = "has" if len(existing) == 1 else "have"
        text += f" {len(existing):,} {verb} been made already, and stay as they are."
    return Foreseen(tuple(new), text, does_something=bool(new))


def _prune(orch: Any, schedule: str, _: Mapping[str, str]) -> Foreseen:
    pruned = orch.prune(schedule="" if schedule == "*" else schedule, dry_run=True)
    return Foreseen((), f"{pruned}", does_something=bool(pruned.tasks))


def _cancel_backfill(orch: Any, backfill_id: str, _: Mapping[str, str]) -> Foreseen:
    status = orch.schedules.backfill_status(backfill_id)
    if not status.left:
        text = f"It is {status.state}, and nothing is to come."
        return Foreseen((), text, does_something=False)
    text = f"Leaves out {counted(status.left, 'tick')}, which then never run."
    if status.running:
        text += f" {len(status.running):,} that run go on."
    return Foreseen((), text)


def _remove_schedule(orch: Any, name: str, _: Mapping[str, str]) -> Foreseen:
    running = orch.schedules.status(name).running
    text = "Removes the schedule: nothing comes of it any more."
    if running:
        text += f" What it has made goes on: {', '.join(running[:3])}."
    return Foreseen((), text)
