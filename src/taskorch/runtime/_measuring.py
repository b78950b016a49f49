"""What the runtime does for metrics, if there is an SDK of OpenTelemetry."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from taskorch.errors import InvalidTaskError
from taskorch.model._show import show
from taskorch.runtime import _reports
from taskorch.runtime._runtime import Runtime

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider


def look_for_meters(rt: Runtime, given: MeterProvider | None) -> None:
    """
    Measure from now on, if an SDK is configured for this process, or *given*.

    Raises:
        InvalidTaskError: What is given is no MeterProvider.
    """
    if given is not None and not callable(getattr(given, "get_meter", None)):
        msg = f"meter_provider is a MeterProvider of OpenTelemetry, not {show(given)}"
        raise InvalidTaskError(msg, hint="opentelemetry.sdk.metrics.MeterProvider()")
    api: Any = sys.modules.get("opentelemetry.metrics")
    if rt.metrics is not None or api is None:
        return
    found = api.get_meter_provider() if given is None else given
    # The API has no public name for what stands for a provider until one is set.
    if type(found).__name__ == "_ProxyMeterProvider" or isinstance(
        found.get_meter("taskorch"), api.NoOpMeter
    ):
        return
    from taskorch.telemetry._metrics import Metrics  # noqa: PLC0415 - where it is used

    rt.metrics = Metrics(found, partial(_reports.stats, rt), partial(_type_of, rt))
    rt.metrics.connect(rt.signals)


def _type_of(rt: Runtime, task_id: str) -> str:
    row = rt.kernel.tasks.get(task_id)
    return "" if row is None else row.bucket.spec.type
