"""What the tests of spans and metrics share."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from taskorch import TaskOrchestrator


class Tracing:
    """An SDK that keeps its spans in memory."""

    def __init__(self, **options: Any) -> None:
        self._kept = InMemorySpanExporter()
        self.provider = TracerProvider(**options)
        self.provider.add_span_processor(SimpleSpanProcessor(self._kept))
        self.tracer = self.provider.get_tracer("tests")

    def orchestrator(self, **options: Any) -> TaskOrchestrator:
        return TaskOrchestrator(tracer_provider=self.provider, **options)

    @property
    def spans(self) -> list[ReadableSpan]:
        """Those that have ended, in that order."""
        return list(self._kept.get_finished_spans())

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name == name]

    def only(self, name: str) -> ReadableSpan:
        found = self.named(name)
        assert len(found) == 1, [span.name for span in self.spans]
        return found[0]

    def under(self, parent: ReadableSpan) -> list[str]:
        """The names of the children of *parent*, in the order in which they ended."""
        return [span.name for span in self.spans if is_child(span, parent)]


def is_child(span: ReadableSpan, parent: ReadableSpan) -> bool:
    return (
        span.parent is not None
        and span.parent.span_id == parent.context.span_id
        and span.context.trace_id == parent.context.trace_id
    )


def linked(span: ReadableSpan) -> list[int]:
    return [link.context.span_id for link in span.links]


def run(code: str, **env: str) -> list[str]:
    """The lines that a program prints, in a process with these variables besides."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()
