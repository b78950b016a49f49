"""What traces cost: all spans of every task, made by OpenTelemetry's own SDK."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from benchmarks._figures import Goal, Row, Samples, Unit
from benchmarks._isolated import Child
from benchmarks._registry import Run, case
from benchmarks._workloads import CONCURRENCY, identity, noop
from taskorch import TaskOrchestrator


class Traced:
    """An SDK whose exporter keeps every span in memory."""

    def __init__(self) -> None:
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import (
            InMemorySpanExporter,
        )

        self._kept = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._kept))

    def take(self) -> int:
        """Forget the spans that have ended, and say how many they were."""
        count = len(self._kept.get_finished_spans())
        self._kept.clear()
        return count

    def same_alone(self, count: int, at_once: int) -> None:
        """Make the spans of *count* tasks, *at_once* a submission, and nothing else."""
        from opentelemetry import context, trace
        from opentelemetry.trace import Link, SpanKind

        tracer = self.provider.get_tracer("alone")
        nothing = context.Context()
        worker = {"cicd.worker.name": "local", "taskorch.reason": "the only candidate"}
        submit = trace.INVALID_SPAN
        above = nothing
        for number in range(count):
            name = f"1cf5f69390-{number}"
            if not number % at_once:
                submit = tracer.start_span("submit", kind=SpanKind.PRODUCER)
                above = trace.set_span_in_context(submit, nothing)
                submit.set_attribute("cicd.pipeline.task.name", "noop")
                submit.end()
            tracer.start_span("validate", above).end()
            attempt = tracer.start_span(
                "noop",
                above,
                SpanKind.CONSUMER,
                {
                    "cicd.pipeline.task.name": "noop",
                    "cicd.pipeline.task.run.id": f"{name}:1",
                    "taskorch.task.id": name,
                    "taskorch.attempt": 1,
                    "cicd.worker.name": "local",
                },
                [Link(submit.get_span_context())],
            )
            within = trace.set_span_in_context(attempt, nothing)
            tracer.start_span("route", within, attributes=worker).end()
            tracer.start_span("allocate", within).end()
            attempt.set_attribute("cicd.pipeline.task.run.result", "success")
            attempt.end()


def _one_by_one(orch: TaskOrchestrator, count: int) -> None:
    for handle in [orch.submit(noop) for _ in range(count)]:
        handle.result()


def _map(orch: TaskOrchestrator, count: int) -> None:
    for _ in orch.map(identity, range(count)):
        pass


_WAYS = {"one by one": _one_by_one, "map": _map}


def orchestrated(way: str, count: int, sdk: bool) -> Iterator[Mapping[str, float]]:
    """Run no-ops from the start of an orchestrator to its end: all spans have ended."""
    traced = Traced() if sdk else None
    options: dict[str, Any] = {}
    if traced is not None:
        options["tracer_provider"] = traced.provider

    def run() -> None:
        with TaskOrchestrator(concurrency=CONCURRENCY, **options) as orch:
            _WAYS[way](orch, count)

    while True:
        yield {**_cost(run), "spans": 0 if traced is None else traced.take()}


def same_alone(count: int, at_once: int) -> Iterator[Mapping[str, float]]:
    """Make the spans of *count* tasks, and nothing else."""
    traced = Traced()
    while True:
        cost = _cost(lambda: traced.same_alone(count, at_once))
        yield {**cost, "spans": traced.take()}


def _cost(act: Callable[[], object]) -> dict[str, float]:
    """What *act* costs; the collector runs before, and stays on."""
    gc.collect()
    processors, clock = time.process_time(), time.perf_counter()
    act()
    return {
        "cpu": time.process_time() - processors,
        "wall": time.perf_counter() - clock,
    }


@case("spans", needs=("opentelemetry.sdk",))
def spans(run: Run) -> Iterator[Row]:
    """No-ops with all spans, in an SDK that keeps them in memory; and without."""
    count = run.size(2_000, quick=200)
    for way, at_once in {"one by one": 1, "map": count}.items():
        turns: list[tuple[dict[str, float], ...]] = []
        with (
            Child(orchestrated, way=way, count=count, sdk=True) as on,
            Child(orchestrated, way=way, count=count, sdk=False) as off,
            Child(same_alone, count=count, at_once=at_once) as alone,
        ):
            for turn in range(run.pairs + 1):
                taken = on.sample(), off.sample(), alone.sample()
                if turn:
                    turns.append(taken)
        rate = Samples.of((count / on["cpu"] for on, _, _ in turns), Unit.PER_SECOND)
        clock = Samples.of((count / on["wall"] for on, _, _ in turns), Unit.PER_SECOND)
        with_them, without, by_hand = (
            Samples.of((each["cpu"] / count for each in costs), Unit.SECONDS).write()
            for costs in zip(*turns, strict=True)
        )
        yield Row(
            what=f"all spans, {way}",
            ours=rate,
            goal=Goal(8_000, Unit.PER_SECOND, at_least=True),
            note=f"tasks a second of processor time, {count:,} tasks, start to stop, "
            f"{turns[-1][0]['spans'] / count:.2f} spans a task, {run.pairs} rounds; by "
            f"the clock {clock.write()}; {with_them} a task, without an SDK {without}; a "
            f"loop that makes the same spans and nothing else: {by_hand}",
        )
