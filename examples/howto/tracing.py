from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

from taskorch import TaskOrchestrator

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(ConsoleSpanExporter()))
trace.set_tracer_provider(provider)

tracer = trace.get_tracer("nightly")
with TaskOrchestrator() as orch, tracer.start_as_current_span("import customers"):
    orch.submit(print, "imported").result()
provider.shutdown()
