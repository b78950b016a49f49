"""
Metrics and the health of an orchestrator, in the text that Prometheus reads.

A service has them at `/metrics`; a server of yours can use `exposition`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from taskorch.ext.telemetry._metrics import AGE, COUNTERS, LEVELS, MANY, OTHER
from taskorch.kit.visible import printable
from taskorch.model import Health, Stats

__all__ = ("CONTENT_TYPE", "exposition")

#: The type of the text, for the header of an answer.
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
    Return the metrics in the Prometheus text format.

    Args:
        stats: The result of `orch.get_stats()`; None: leave it out.
        health: The result of `orch.health()`; None: leave it out.
        status: The state of a service that runs a suite.
        statuses: The possible states.
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
    """A collector of metrics that are known already."""

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
            # A journal may have names from before they were checked.
            family.add_metric([*map(printable, attributes.values())], value)
        yield family


def _bounded(
    amounts: Iterable[tuple[Mapping[str, str], float]],
) -> list[tuple[Mapping[str, str], float]]:
    """Return the first amounts; the rest is added up as `other`."""
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
        parts.add_metric([printable(part)], is_ok)
    yield parts


def _one_of(name: str, words: str, status: str, statuses: Iterable[str]) -> Metric:
    family = GaugeMetricFamily(name, words, labels=["status"])
    for each in statuses:
        family.add_metric([each], each == status)
    return family
