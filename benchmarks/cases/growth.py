"""What is kept, and what it costs a task that has nothing to do with it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from time import process_time

from benchmarks._figures import Goal, Row, Samples, Unit
from benchmarks._isolated import Child
from benchmarks._registry import Run, case
from benchmarks._workloads import CONCURRENCY, noop
from taskorch import SqliteJournal, Task, TaskOrchestrator, Workflow
from taskorch.ext.governance import ConstitutionalRuntime, Policy, Rule

_SLICE = 10_000
_TRIES = 3
"""A sample is the least of these."""
_FAR = 30 * 86_400.0


def _calls(orch: TaskOrchestrator, count: int) -> None:
    """End *count* tasks, which stay in memory."""
    for start in range(0, count, _SLICE):
        size = min(_SLICE, count - start)
        for handle in orch.submit_tasks([Task.call(noop) for _ in range(size)]):
            handle.result()


def _schedules(orch: TaskOrchestrator, count: int) -> None:
    for number in range(count):
        orch.schedules.add(f"s{number}", "0 3 1 1 *", Task.call(noop))


def _budgets(orch: TaskOrchestrator, count: int) -> None:
    for number in range(count):
        orch.budget(f"b{number}", tokens=1_000)


def _scopes(orch: TaskOrchestrator, count: int) -> None:
    """Let *count* tasks wait for a date, each with a scope of its own."""
    for start in range(0, count, _SLICE):
        orch.submit_tasks(
            [
                Task.call(noop, not_before=_FAR, writes=[f"d{n % 100}/f{n}"])
                for n in range(start, min(start + _SLICE, count))
            ]
        )


def _questions(orch: TaskOrchestrator, count: int) -> None:
    for start in range(0, count, _SLICE):
        size = min(_SLICE, count - start)
        orch.submit_tasks([Task.question("Now?", due=_FAR) for _ in range(size)])


def _runs(orch: TaskOrchestrator, count: int) -> None:
    flow = Workflow("nightly")
    flow.task(noop, id="only")
    for start in range(0, count, 1_000):
        size = min(1_000, count - start)
        for run in [orch.workflows.start(flow) for _ in range(size)]:
            run.result()


def _nothing(orch: TaskOrchestrator, count: int) -> None:
    """Keep nothing."""
    del orch, count


_KINDS: Mapping[str, tuple[Callable[[TaskOrchestrator, int], None], int]] = {
    "finished tasks": (_calls, 100_000),
    "schedules": (_schedules, 1_000),
    "budgets": (_budgets, 1_000),
    "scopes that tasks wait with": (_scopes, 10_000),
    "policies about other types": (_nothing, 1_000),
    "open questions": (_questions, 10_000),
    "runs": (_runs, 100_000),
}


def beside(kind: str, kept: int, runnable: int) -> Iterator[Mapping[str, float]]:
    """Keep *kept* things of a *kind*, then end no-ops, again and again."""
    governance = None
    if kind.startswith("policies"):
        rule = Rule("size", "task.payload.size", "less_than", 1_000)
        governance = ConstitutionalRuntime(
            [
                Policy(f"p{n}", "safety", "medium", types=f"deploy{n}", rules=[rule])
                for n in range(kept)
            ]
        )
    orch = TaskOrchestrator(
        concurrency=CONCURRENCY,
        keep_finished=max(kept, _SLICE),
        keep_finished_mb=None,
        governance=governance,
    )
    orch.start()
    try:
        _KINDS[kind][0](orch, kept)
        while True:
            yield {"seconds": min(_once(orch, runnable) for _ in range(_TRIES))}
    finally:
        # What is kept may wait for ever.
        orch.stop(drain=False)


def beside_events(facts: int, runnable: int) -> Iterator[Mapping[str, float]]:
    """End durable no-ops on a journal of so many *facts*, again and again."""
    with (
        tempfile.TemporaryDirectory() as folder,
        TaskOrchestrator(
            concurrency=CONCURRENCY,
            journal=SqliteJournal(f"{folder}/journal.db", durability="process"),
        ) as orch,
    ):
        for start in range(0, facts // 3, _SLICE):
            count = min(_SLICE, facts // 3 - start)
            for handle in orch.submit_tasks([Task.call(noop) for _ in range(count)]):
                handle.result()
        while True:
            yield {"seconds": min(_once(orch, runnable) for _ in range(_TRIES))}


def _once(orch: TaskOrchestrator, count: int) -> float:
    """Processor seconds of *count* no-ops, each submitted by itself."""
    began = process_time()
    for handle in [orch.submit(noop) for _ in range(count)]:
        handle.result()
    return process_time() - began


def _row(what: str, light: Child, full: Child, runnable: int, run: Run) -> Row:
    light.sample()
    full.sample()
    pairs = [
        (light.sample()["seconds"], full.sample()["seconds"]) for _ in range(run.pairs)
    ]
    alone = Samples.of((pair[0] / runnable for pair in pairs), Unit.SECONDS)
    ours = Samples.of((pair[1] / runnable for pair in pairs), Unit.SECONDS)
    return Row(
        what=f"beside {what}",
        ours=ours,
        measured=ours.over(alone),
        goal=Goal.no_more(1.25, aim=1.1),
        note=f"processor time a task of {runnable:,} no-ops, {run.pairs} rounds (best "
        f"of {_TRIES}), two processes in turn; measured: ratio to that beside one, "
        f"{alone.write()}",
    )


@case("growth")
def growth(run: Run) -> Iterator[Row]:
    """No-ops beside much of each thing that is kept, and beside one of them."""
    runnable = run.size(5_000, quick=500)
    for kind, (_, most) in _KINDS.items():
        count = most if run.size(1, quick=0) else most // 20
        with (
            Child(beside, kind=kind, kept=1, runnable=runnable) as light,
            Child(beside, kind=kind, kept=count, runnable=runnable) as full,
        ):
            yield _row(f"{count:,} {kind}", light, full, runnable, run)
    facts = run.size(1_000_000, quick=10_000)
    with (
        Child(beside_events, facts=3, runnable=runnable) as light,
        Child(beside_events, facts=facts, runnable=runnable) as full,
    ):
        yield _row(f"a journal of {facts:,} facts", light, full, runnable, run)
