"""How long it takes to say why one task among many does not run, and what is stuck."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator, Mapping
from time import perf_counter, sleep

from benchmarks._figures import Goal, Row, Samples, Unit
from benchmarks._isolated import Child
from benchmarks._registry import Run, case
from benchmarks._timing import percentile, time_calls, time_once
from benchmarks._workloads import noop
from taskorch import Task, TaskOrchestrator

_SLICE = 10_000
_WIDTH = 100
_CALLS = 100
#: The task that is asked about, by what keeps it.
_KINDS = {
    "queued": "the last of the queue",
    "pending": f"at the end of a graph of layers of {_WIDTH}",
    "joining": "after all the rest",
    "blocked": "behind one that failed",
}


def explanations(waiting: int, running: int) -> Iterator[Mapping[str, float]]:
    """Yield the percentiles of `explain` for each kind, and what `stuck` took."""
    gate = asyncio.Event()

    async def hold() -> None:
        await gate.wait()

    with TaskOrchestrator(concurrency=running + 1) as orch:
        orch.submit_task(Task.call(divmod, 1, 0, id="failed"))
        _ = orch.wait(30)
        holders = [orch.submit(hold) for _ in range(running)]
        while orch.get_stats().state_machine.running < running:
            sleep(0.01)
        orch.submit_task(Task.call(hold, id="first"))
        names = list(_KINDS)
        for kind in names:
            _submit(orch, kind, waiting // len(names))
        gc.collect()
        try:
            while True:
                yield _sample(orch)
        finally:
            for handle in holders:
                _ = orch.cancel_task(handle.task_id)
            orch.stop(drain=False)


def _submit(orch: TaskOrchestrator, kind: str, count: int) -> None:
    """Submit so many tasks of a kind; the last one is called as the kind is."""
    ids = [f"{kind}-{number}" for number in range(count - 1)] + [kind]
    tasks = []
    for number, name in enumerate(ids):
        after: list[str] = []
        if kind == "pending":
            layer = number // _WIDTH * _WIDTH
            after = ids[max(0, layer - 3) : layer] or ["first"]
        elif kind == "joining":
            after = ids[:number] if name == kind else ["first"]
        elif kind == "blocked":
            after = ["failed"] if number < _WIDTH else [ids[number - _WIDTH]]
        tasks.append(Task.call(noop, id=name, after=after))
    for start in range(0, count, _SLICE):
        _ = orch.submit_tasks(tasks[start : start + _SLICE])


def _sample(orch: TaskOrchestrator) -> dict[str, float]:
    figures = {}
    for kind in _KINDS:
        for estimates in (False, True):
            seconds = time_calls(
                lambda kind=kind, estimates=estimates: orch.explain(
                    kind, estimates=estimates
                ),
                _CALLS,
            )
            name = f"{kind} guessed" if estimates else kind
            figures[f"{name} p50"] = percentile(seconds, 50)
            figures[f"{name} p99"] = percentile(seconds, 99)
    figures["stuck"] = time_once(orch.stuck)
    figures["slice"] = _longest_slice(orch)
    return figures


def _longest_slice(orch: TaskOrchestrator) -> float:
    """For how long `stuck` holds the lock at most."""
    longest = 0.0
    step = orch._rt.step

    def timed(change, **options):
        nonlocal longest
        began = perf_counter()
        try:
            return step(change, **options)
        finally:
            longest = max(longest, perf_counter() - began)

    orch._rt.step = timed  # type: ignore[method-assign]
    try:
        _ = orch.stuck()
    finally:
        del orch._rt.step
    return longest


@case("explain")
def one_among_many(run: Run) -> Iterator[Row]:
    """`explain` of one task among 100,000, and `stuck` over all of them."""
    waiting = run.size(90_000, quick=2_000)
    running = run.size(10_000, quick=100)
    with Child(explanations, waiting=waiting, running=running) as child:
        samples = [child.sample() for _ in range(run.pairs)]

    def of(name: str) -> Samples:
        return Samples.of((sample[name] for sample in samples), Unit.SECONDS)

    for kind, what in _KINDS.items():
        yield Row(
            what=f"explain: {kind}",
            ours=of(f"{kind} p50"),
            measured=of(f"{kind} p99"),
            goal=Goal.no_more(0.005, Unit.SECONDS),
            note=f"p50 of {_CALLS} calls, {run.pairs} rounds; the task is {what}, among "
            f"{waiting + running:,}, of which {running:,} run; measured: p99; with "
            f"estimates p50 {of(f'{kind} guessed p50').write()}",
        )
    yield Row(
        what="stuck",
        ours=of("stuck"),
        measured=of("slice"),
        goal=Goal.no_more(0.05, Unit.SECONDS),
        note=f"time for {waiting + running:,} tasks, of which {waiting // len(_KINDS):,} "
        "are; measured: the longest that it holds the lock",
    )
