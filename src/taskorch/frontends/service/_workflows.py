"""Runs of workflows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from starlette.concurrency import run_in_threadpool

from taskorch._managers import WorkflowManager, WorkflowRun
from taskorch.frontends.service._bodies import read_object, refuse
from taskorch.frontends.service._operations import (
    CHANGED,
    NAME,
    RUN,
    TEXT,
    Current,
    Operation,
    asked,
    changed,
    listed,
    named,
    told,
)
from taskorch.frontends.service._values import answer, document
from taskorch.workflows import WorkflowStatus

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

_VERDICT: Final = asked(
    *("gate", "by"),
    gate=NAME,
    by={**NAME, "pattern": "^[!-9;-~]([ -9;-~]*[!-9;-~])?$"},
    note={"type": "string", "pattern": "^[ -~]*$"},
)


class Workflows:
    """
    The operations on runs of workflows.

    Args:
        orch: Who runs them.
    """

    def __init__(self, orch: Current) -> None:
        self._orch = orch

    def operations(self) -> list[Operation]:
        """The operations on runs of workflows."""
        every, one = "/api/v1/workflows", "/api/v1/workflows/{workflow_id}"
        changes = {
            "cancel": ("Cancel a run.", _cancel),
            "pause": ("Let nothing of a run begin.", WorkflowManager.pause),
            "resume": ("Let a paused run go on.", WorkflowManager.resume),
        }
        verdicts = {
            "approve": ("Approve what a gate asks.", WorkflowManager.approve),
            "reject": ("Reject what a gate asks.", WorkflowManager.reject),
        }
        return [
            Operation(
                *("GET", every, "find_workflows"),
                "The runs whose ids match a pattern.",
                self._find,
                query={"id": TEXT},
                answer=told(workflow_ids=listed(TEXT)),
            ),
            Operation(
                *("GET", one, "workflow_status", "How far a run is."),
                partial(self._ask, _status),
                refuses=(404,),
            ),
            Operation(
                *("GET", f"{one}/report", "workflow_report", "What became of a run."),
                partial(self._ask, _report),
                refuses=(404,),
            ),
            *(
                Operation(
                    *("POST", f"{one}/{verb}", f"{verb}_workflow", words),
                    partial(changed, self._manager, change, "workflow_id"),
                    answer=CHANGED,
                    refuses=(404, 409, 422),
                )
                for verb, (words, change) in changes.items()
            ),
            *(
                Operation(
                    *("POST", f"{one}/{verb}", f"{verb}_workflow", words),
                    partial(self._decide, change),
                    body=_VERDICT,
                    answer=CHANGED,
                    refuses=(404, 409, 422),
                )
                for verb, (words, change) in verdicts.items()
            ),
            Operation(
                *("POST", f"{one}/restart", "restart_workflow"),
                "Run again what failed in a run.",
                self._restart,
                status=202,
                answer=RUN,
                refuses=(404, 409),
            ),
        ]

    def _manager(self) -> WorkflowManager:
        return self._orch().workflows

    async def _find(self, request: Request) -> Response:
        pattern = request.query_params.get("id", "*")
        runs = await run_in_threadpool(self._manager().find, pattern)
        return answer({"workflow_ids": [run.workflow_id for run in runs]})

    async def _ask(
        self, ask: Callable[[WorkflowRun], dict[str, Any]], request: Request
    ) -> Response:
        run_id = named(request, "workflow_id")
        return answer(
            await run_in_threadpool(lambda: document(ask(self._manager().get(run_id))))
        )

    async def _decide(self, change: Callable[..., bool], request: Request) -> Response:
        body = await read_object(request, _VERDICT)
        for name, value in body.items():
            if not isinstance(value, str):
                refuse(name, "a text is needed")
        run_id, gate = named(request, "workflow_id"), body.pop("gate")
        call = partial(change, self._manager(), run_id, gate, **body)
        return answer({"changed": await run_in_threadpool(call)})

    async def _restart(self, request: Request) -> Response:
        run_id = named(request, "workflow_id")
        run = await run_in_threadpool(self._manager().restart, run_id)
        return answer({"workflow_id": run.workflow_id}, 202)


def _status(run: WorkflowRun) -> dict[str, Any]:
    status: WorkflowStatus = run.status()
    return {**document(status), "percent": status.percent, "text": str(status)}


def _report(run: WorkflowRun) -> dict[str, Any]:
    return run.report().to_dict()


def _cancel(manager: WorkflowManager, run_id: str) -> bool:
    return manager.cancel(run_id, reason=f"workflow {run_id} was cancelled over HTTP")
