"""Numbers, and whether all is well."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from taskorch._orchestrator import TaskOrchestrator
from taskorch.frontends.service._metrics import CONTENT_TYPE, exposition
from taskorch.frontends.service._operations import (
    OBJECT,
    REMEDIES,
    TEXT,
    Current,
    Operation,
    listed,
    told,
    with_remedies,
)
from taskorch.frontends.service._values import answer, document

if TYPE_CHECKING:
    from starlette.requests import Request


def probe(name: str, words: str, is_well: Callable[[], bool]) -> Operation:
    """What a supervisor asks, without a token: it is told nothing else."""

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
    """What Prometheus reads: *ask* says it, and may take its time."""

    async def tell(_request: Request) -> Response:
        return Response(await run_in_threadpool(ask), media_type=CONTENT_TYPE)

    return Operation(
        *("GET", "/metrics", "metrics", "What Prometheus reads."),
        tell,
        answer=TEXT,
        media="text/plain",
    )


def probes(orch: TaskOrchestrator) -> list[Operation]:
    """How an orchestrator is, for supervisors and for Prometheus."""
    return [
        probe("livez", "Whether its threads are there.", lambda: orch.health().live),
        probe(
            "readyz", "Whether it takes and starts tasks.", lambda: orch.health().ready
        ),
        metrics(lambda: exposition(orch.get_stats(), orch.health())),
    ]


class Numbers:
    """The operations that ask for the whole."""

    def __init__(self, orch: Current) -> None:
        self._orch = orch

    def operations(self) -> list[Operation]:
        """The operations on health and statistics."""
        return [
            Operation(
                *("GET", "/api/v1/health", "health", "How each component is."),
                self._health,
            ),
            Operation(
                *("GET", "/api/v1/statistics", "get_stats", "Counts and times."),
                self._stats,
            ),
            Operation(
                *("GET", "/api/v1/stuck", "stuck"),
                "What can never proceed as things stand, and why.",
                self._stuck,
                query={"remedies": REMEDIES},
                answer={"type": "object", "required": ["stuck"]},
            ),
            Operation(
                *("GET", "/api/v1/resources", "resources", "Pools and quotas."),
                self._resources,
            ),
            Operation(
                *("GET", "/api/v1/metrics", "measured"),
                "What is measured, by its names: of all, by type of task, by agent.",
                self._metrics,
            ),
            Operation(
                *("GET", "/api/v1/agents", "find_agents"),
                "All agents, and how they do.",
                self._agents,
                answer=told(agents=listed(OBJECT)),
            ),
            Operation(
                *("GET", "/api/v1/alerts", "alerts"),
                "How all rules stand; `watched` is false if there are none.",
                self._alerts,
                answer=told(watched={"type": "boolean"}, alerts=listed(OBJECT)),
            ),
        ]

    async def _health(self, _request: Request) -> Response:
        return answer(document(self._orch().health()))

    async def _stats(self, _request: Request) -> Response:
        return answer(document(await run_in_threadpool(self._orch().get_stats)))

    async def _stuck(self, request: Request) -> Response:
        groups = await run_in_threadpool(self._orch().stuck)
        documents = [{**document(one.to_dict()), "text": str(one)} for one in groups]
        return answer({"stuck": with_remedies(request, documents)})

    async def _resources(self, _request: Request) -> Response:
        manager = self._orch().resources
        usage = await run_in_threadpool(manager.usage)
        quotas = await run_in_threadpool(manager.quotas)
        return answer({"pools": document(usage), "quotas": document(quotas)})

    async def _metrics(self, _request: Request) -> Response:
        return answer(document(await run_in_threadpool(self._orch().metrics)))

    async def _agents(self, _request: Request) -> Response:
        agents = await run_in_threadpool(self._orch().agents.list)
        return answer({"agents": [document(each) for each in agents]})

    async def _alerts(self, _request: Request) -> Response:
        orch = self._orch()
        # To ask for them would have them watched.
        is_watched = "alerts" in orch.drivers.list()
        alerts = orch.alerts.list() if is_watched else ()
        documents = [document(each) for each in alerts]
        return answer({"watched": is_watched, "alerts": documents})
