"""
Where the time went: a workflow's spans, in a collector of the program's own.

    python examples/spans.py

A real collector is one more package and two lines: see docs/howto/tracing.md.
"""

from collections.abc import Sequence

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    SpanExporter,
    SpanExportResult,
)

from taskorch import RetryPolicy, Task, TaskOrchestrator, Workflow

tracer = trace.get_tracer("release")
refused = iter([True, False])


class Collector(SpanExporter):
    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.spans += spans
        return SpanExportResult.SUCCESS

    def under(self, parent: int | None) -> list[ReadableSpan]:
        children = [
            span
            for span in self.spans
            if (span.parent.span_id if span.parent else None) == parent
        ]
        return sorted(children, key=lambda span: (span.start_time, span.name))

    def show(self, parent: int | None = None, indent: str = "") -> None:
        for span in self.under(parent):
            attributes = span.attributes or {}
            ended = attributes.get("cicd.pipeline.task.run.result", "")
            task = attributes.get("cicd.pipeline.task.run.id", "")
            print(f"{indent}{span.name} {task} {ended}".rstrip())
            if span.context is not None:
                self.show(span.context.span_id, f"{indent}  ")


def compile_wheel() -> str:
    with tracer.start_as_current_span("read sources"):
        return "taskorch.whl"


def upload(wheel: str) -> str:
    if next(refused):
        msg = "503 from the index"
        raise ConnectionError(msg)
    return f"uploaded {wheel}"


collector = Collector()
provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(collector))
trace.set_tracer_provider(provider)

wf = Workflow("release")
wheel = wf.task(compile_wheel, id="wheel")
retry = RetryPolicy(2, wait="fixed", base=0.01)
wf.add(Task.call(upload, wheel, id="upload", retry=retry))

with TaskOrchestrator() as orch, tracer.start_as_current_span("nightly"):
    print(orch.workflows.start(wf, id="v1").result()["upload"])

provider.shutdown()
collector.show()
