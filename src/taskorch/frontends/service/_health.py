"""Numbers, for people and as Prometheus reads them, and whether all is well."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
)
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from taskorch._orchestrator import TaskOrchestrator
from taskorch.frontends.service._bodies import answer, document
from taskorch.frontends.service._operations import (
    Current,
    Operation,
    named,
    number,
    ref,
    told,
)
from taskorch.kit.plain import plain
from taskorch.kit.verbs import OBJECT, TEXT, listed
from taskorch.model import Health, Stats
from taskorch.planning._schemas import agent_schema, workflow_schema
from taskorch.recovery import Alerts
from taskorch.telemetry._metrics import AGE, COUNTERS, LEVELS, MANY, OTHER
from taskorch.verbs.table import VERBS

if TYPE_CHECKING:
    from starlette.requests import Request


CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_STATUSES: Final = ("ok", "degraded", "failed")


def exposition(
    stats: Stats | None,
    health: Health | None,
    *,
    status: str = "",
    statuses: Iterable[str] = (),
) -> bytes:
    """
    The metrics in the Prometheus text format.

    *status* is what a service does that runs a suite, one of *statuses*.
    """
    families: list[Metric] = []
    if stats is not None:
        families += _levels(stats)
    if health is not None:
        families += _health(health)
    if status:
        words = "What the service of a suite does, or has come to."
        families.append(_one_of("taskorch_suite", words, status, statuses))
    registry = CollectorRegistry()
    registry.register(_Told(families))
    return generate_latest(registry)


class _Told:
    """What was asked for already."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _levels(stats: Stats) -> Iterable[Metric]:
    of_kind = (
        *((CounterMetricFamily, each) for each in COUNTERS),
        *((GaugeMetricFamily, each) for each in (*LEVELS, AGE)),
    )
    for family_class, (name, unit, words, ask) in of_kind:
        amounts = _bounded(ask(stats))
        labels = list(amounts[0][0]) if amounts else []
        plain = name.replace(".", "_") + ("_seconds" if unit == "s" else "")
        family = family_class(plain, words, labels=[_label(label) for label in labels])
        for attributes, value in amounts:
            family.add_metric(list(attributes.values()), value)
        yield family


def _bounded(
    amounts: Iterable[tuple[Mapping[str, str], float]],
) -> list[tuple[Mapping[str, str], float]]:
    """The first of them; what comes after these is added up as `other`."""
    listed = list(amounts)
    if len(listed) <= MANY:
        return listed
    rest = dict.fromkeys(listed[0][0], OTHER)
    return [*listed[:MANY], (rest, sum(value for _, value in listed[MANY:]))]


def _label(attribute: str) -> str:
    return attribute.replace(".", "_")


def _health(health: Health) -> Iterable[Metric]:
    yield GaugeMetricFamily("taskorch_live", "Its threads are there.", health.live)
    yield GaugeMetricFamily("taskorch_ready", "It takes and starts.", health.ready)
    words = "Whether it is as it should be."
    yield _one_of("taskorch_health", words, health.status, _STATUSES)
    words = "1: a part is as it should be; 0: the health says why it is not."
    parts = GaugeMetricFamily("taskorch_part_ok", words, labels=["part"])
    checks = {check.component: check.status == "ok" for check in health.checks}
    for part, is_ok in list(checks.items())[:MANY]:
        parts.add_metric([part], is_ok)
    yield parts


def _one_of(name: str, words: str, status: str, statuses: Iterable[str]) -> Metric:
    family = GaugeMetricFamily(name, words, labels=["status"])
    for each in statuses:
        family.add_metric([each], each == status)
    return family


#: What the description names of workers and runs as documents.
INSTANCES: Final = {
    schema["title"]: {name: part for name, part in schema.items() if name != "$schema"}
    for schema in (agent_schema(), workflow_schema())
}
#: Slots of a schedule that are asked for at once.
_MOST: Final = 1_000


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


class Overviews:
    """The operations that ask for several things at once."""

    def __init__(self, orch: Current) -> None:
        self._orch = orch

    def operations(self) -> list[Operation]:
        """The operations on pools, alerts, schedules and reports."""
        return [
            Operation(
                *("GET", "/api/v1/verbs", "verbs"),
                "What can be done here, each with its request.",
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
                "All agents as documents, in the form of requests and plans.",
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
                "What became of a run.",
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
        # The first use of `orch.alerts` would have them act.
        watched = self._orch().drivers.of_class(Alerts)
        alerts = await run_in_threadpool(watched[0].list) if watched else ()
        return answer({"alerts": document(alerts)})

    async def _instances(self, _: Request) -> Response:
        agents = await run_in_threadpool(self._orch().agents.list)
        return answer({"agents": [plain(each.to_dict()) for each in agents]})

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
