"""Numbers, for people and as Prometheus reads them, and whether all is well."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from taskorch.api._orchestrator import TaskOrchestrator
from taskorch.api.verbs.table import VERBS
from taskorch.ext.planner._schemas import agent_schema, workflow_schema
from taskorch.ext.recovery import Alerts
from taskorch.ext.service._bodies import answer, document
from taskorch.ext.service._operations import (
    Current,
    Operation,
    named,
    number,
    ref,
    told,
)
from taskorch.ext.telemetry.prometheus import CONTENT_TYPE, exposition
from taskorch.kit.plain import plain
from taskorch.kit.verbs import OBJECT, TEXT, listed

if TYPE_CHECKING:
    from starlette.requests import Request


#: Schemas of the description for workers and runs as documents.
INSTANCES: Final = {
    schema["title"]: {name: part for name, part in schema.items() if name != "$schema"}
    for schema in (agent_schema(), workflow_schema())
}
#: The largest number of ticks of a schedule in a request.
_MOST: Final = 1_000


def probe(name: str, words: str, is_well: Callable[[], bool]) -> Operation:
    """Make a probe for supervisors, which needs no token."""

    async def tell(_request: Request) -> Response:
        if is_well():
            return answer({"status": "ok"})
        return answer({"status": "failed"}, 503)

    return Operation(
        *("GET", f"/{name}", name, words),
        tell,
        answer={"type": "object", "required": ["status"]},
        is_open=True,
    )


def metrics(ask: Callable[[], bytes]) -> Operation:
    """Make the operation for Prometheus; *ask* may take its time."""

    async def tell(_request: Request) -> Response:
        return Response(await run_in_threadpool(ask), media_type=CONTENT_TYPE)

    return Operation(
        *("GET", "/metrics", "metrics", "Metrics in the format of Prometheus."),
        tell,
        answer=TEXT,
        media="text/plain",
    )


def probes(orch: TaskOrchestrator) -> list[Operation]:
    """Return the probes of an orchestrator, for supervisors and Prometheus."""
    return [
        probe(
            "livez",
            "Success as long as its threads are there.",
            lambda: orch.health().live,
        ),
        probe(
            "readyz",
            "Success as long as it takes and starts tasks.",
            lambda: orch.health().ready,
        ),
        metrics(lambda: exposition(orch.get_stats(), orch.health())),
    ]


class Overviews:
    """The operations that ask for several things at once."""

    def __init__(self, orch: Current) -> None:
        self._orch = orch

    def operations(self) -> list[Operation]:
        """The operations on pools, alerts, schedules and reports."""
        return [
            Operation(
                *("GET", "/api/v1/verbs", "verbs"),
                "All operations, each with its request.",
                self._verbs,
                answer=told(verbs=listed(OBJECT)),
            ),
            Operation(
                *("GET", "/api/v1/resources", "resources", "Pools and quotas."),
                self._resources,
            ),
            Operation(
                *("GET", "/api/v1/alerts", "alerts", "How each alert stands."),
                self._alerts,
                answer=told(alerts=listed(OBJECT)),
            ),
            Operation(
                *("GET", "/api/v1/agent-instances", "agent_instances"),
                "All workers as documents, in the form of requests and plans.",
                self._instances,
                answer=told(agents=listed(ref("AgentInstance"))),
            ),
            Operation(
                *("GET", "/api/v1/schedules/{name}", "schedule_status"),
                "A schedule and its next tick.",
                self._schedule,
                query={"count": {"type": "integer"}},
                refuses=(404,),
            ),
            Operation(
                *("GET", "/api/v1/workflows/{workflow_id}/report", "workflow_report"),
                "The outcome of a run.",
                self._report,
                refuses=(404,),
            ),
        ]

    async def _verbs(self, _request: Request) -> Response:
        verbs = [
            {
                "operation": verb.operation,
                "text": verb.text,
                "method": verb.method,
                "path": f"/api/v1{verb.path}",
                "gives": verb.gives,
                "needs": [each.key for each in verb.fields if each.is_needed],
                "is_final": verb.is_final,
            }
            for verb in (*VERBS.values(), *self._orch().extensions.verbs.values())
            if verb.request
        ]
        return answer({"verbs": verbs})

    async def _resources(self, _request: Request) -> Response:
        manager = self._orch().resources
        usage = await run_in_threadpool(manager.usage)
        usages = await run_in_threadpool(manager.quotas)
        quotas = [{**document(each), "quota": each.quota.to_dict()} for each in usages]
        return answer({"pools": document(usage), "quotas": quotas})

    async def _alerts(self, _: Request) -> Response:
        # The first use of `orch.alerts` would switch on their actions.
        watched = self._orch().drivers.of_class(Alerts)
        alerts = await run_in_threadpool(watched[0].list) if watched else ()
        return answer({"alerts": document(alerts)})

    async def _instances(self, _: Request) -> Response:
        workers = await run_in_threadpool(self._orch().agents.list)
        return answer({"agents": [plain(each.to_dict()) for each in workers]})

    async def _schedule(self, request: Request) -> Response:
        name, manager = named(request, "name"), self._orch().schedules
        count = number(request.query_params, "count", 1, _MOST, 5)
        status = await run_in_threadpool(manager.status, name)
        coming = await run_in_threadpool(manager.next, name, count)
        moments = [moment.isoformat() for moment in coming]
        return answer({**status.to_dict(), "coming": moments})

    async def _report(self, request: Request) -> Response:
        run_id, manager = named(request, "workflow_id"), self._orch().workflows
        report = await run_in_threadpool(lambda: manager.get(run_id).report().to_dict())
        return answer(document(report))
