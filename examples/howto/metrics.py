from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    ConsoleMetricExporter,
    PeriodicExportingMetricReader,
)

from taskorch import TaskOrchestrator

reader = PeriodicExportingMetricReader(ConsoleMetricExporter())
provider = MeterProvider([reader])
metrics.set_meter_provider(provider)
with TaskOrchestrator() as orch:
    orch.submit(print, "loaded oslo").result()
    provider.force_flush()
provider.shutdown()
