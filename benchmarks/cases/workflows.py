"""
What dependencies cost: a layered graph of no-ops, beside the same without its edges.

Processor time of all threads is what is measured here: all is submitted at once, and
then only waited for, so nothing of it is idle.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from threading import Event, Thread
from time import perf_counter, process_time, sleep
from typing import TypeVar

from benchmarks._figures import Goal, Row, Samples, Unit
from benchmarks._isolated import Child, Steps
from benchmarks._memory import peak_bytes
from benchmarks._registry import Run, case
from benchmarks._timing import percentile, time_once
from benchmarks._workflow_peers import MOST_PARENTS, WIDTH, dask_get, layered
from benchmarks._workloads import CONCURRENCY, Blockers, noop
from taskorch import Task, TaskOrchestrator, Workflow

Made = TypeVar("Made")
Graph = Iterable[tuple[int, ...]]
"""Of each task, the numbers of those that it waits for."""

EDGELESS = "without edges"
DASK = "dask.threaded.get"

_WARM = 1_000
_SLICE = 10_000
_TRIES = 3
"""A sample beside blocked tasks is the fastest of these: a run takes hundredths of a
second only."""

_PAUSE = 0.001

GRAPH = f"layers of {WIDTH}, 1 to {MOST_PARENTS} parents"
_CLOCK = "processor time of all threads"


# -- the graph, both ways, in a process of its own -------------------------------------


def workflow_of(graph: Graph, edges: bool) -> Workflow:
    """The graph as a `Workflow`, with its edges or without."""
    made = Workflow("layered")
    for number, above in enumerate(graph):
        after = [f"t{parent}" for parent in above] if edges else ()
        made.task(noop, id=f"t{number}", after=after)
    return made


def tasks_of(graph: Graph, edges: bool) -> list[Task]:
    """The graph as tasks that name each other, with its edges or without."""
    made: list[Task] = []
    for above in graph:
        after = [made[parent] for parent in above] if edges else ()
        made.append(Task.call(noop, after=after))
    return made


def through_workflow(count: int, edges: bool) -> Iterator[Mapping[str, float]]:
    """Time the graph as a workflow: built, then started and waited for."""

    def run(orch: TaskOrchestrator, made: Workflow) -> None:
        orch.workflows.start(made).result()

    yield from _timed(workflow_of, run, count, edges)


def through_tasks(count: int, edges: bool) -> Iterator[Mapping[str, float]]:
    """Time the graph as tasks: made, then submitted and waited for."""

    def run(orch: TaskOrchestrator, made: list[Task]) -> None:
        for handle in orch.submit_tasks(made):
            handle.result()

    yield from _timed(tasks_of, run, count, edges)


def _timed(
    build: Callable[[Graph, bool], Made],
    run: Callable[[TaskOrchestrator, Made], None],
    count: int,
    edges: bool,
) -> Iterator[Mapping[str, float]]:
    graph = list(layered(count))
    with TaskOrchestrator(concurrency=CONCURRENCY) as orch:
        run(orch, build(graph[:_WARM], edges))
        while True:
            gc.collect()
            began = process_time()
            made = build(graph, edges)
            building = process_time() - began
            gc.collect()
            began, wall = process_time(), perf_counter()
            run(orch, made)
            taken = {"cpu": process_time() - began, "wall": perf_counter() - wall}
            del made
            yield {**taken, "building": building}


def once_each(count: int) -> Iterator[Mapping[str, float]]:
    """Time the graph as a workflow, each time through an orchestrator of its own."""
    graph = list(layered(count))
    while True:
        with TaskOrchestrator(concurrency=CONCURRENCY) as orch:
            orch.workflows.start(workflow_of(graph[:_WARM], edges=True)).result()
        gc.collect()
        began = process_time()
        made = workflow_of(graph, edges=True)
        building = process_time() - began
        gc.collect()
        began = process_time()
        with TaskOrchestrator(concurrency=CONCURRENCY) as orch:
            orch.workflows.start(made).result()
        yield {"cpu": process_time() - began, "building": building}


def stage_by_stage(count: int) -> Iterator[Mapping[str, float]]:
    """Build a workflow, start it, and wait for its end: a sample for each."""
    with TaskOrchestrator(concurrency=CONCURRENCY) as orch:
        orch.workflows.start(workflow_of(layered(_WARM), edges=True)).result()
        gc.collect()
        began, wall = process_time(), perf_counter()

        def sample() -> dict[str, float]:
            taken = {"cpu": process_time() - began, "wall": perf_counter() - wall}
            return {**taken, "peak": peak_bytes() / 1e6}

        # Drawn as it is built: a list of it would be in the peak.
        made = workflow_of(layered(count), edges=True)
        yield sample()
        run = orch.workflows.start(made)
        yield sample()
        done = len(run.result())
        yield {**sample(), "done": done}


# -- beside other tasks ----------------------------------------------------------------


def beside_blocked(waiting: int, runnable: int) -> Iterator[Mapping[str, float]]:
    """Time no-ops beside tasks that all wait for one, which runs."""
    blockers = Blockers()
    with TaskOrchestrator(concurrency=CONCURRENCY) as orch:
        first = orch.submit(blockers.block)
        blockers.wait_started(1)
        try:
            for start in range(0, waiting, _SLICE):
                some = range(min(_SLICE, waiting - start))
                orch.submit_tasks([Task.call(noop, after=[first]) for _ in some])

            def run_them() -> None:
                for handle in [orch.submit(noop) for _ in range(runnable)]:
                    handle.result()

            while True:
                yield {"seconds": min(time_once(run_them) for _ in range(_TRIES))}
        finally:
            blockers.release()
            orch.stop(drain=False)


def beside_a_start(count: int) -> Iterator[Mapping[str, float]]:
    """Time what one thread submits now and then while another starts a workflow."""
    with TaskOrchestrator(concurrency=CONCURRENCY) as orch:
        orch.workflows.start(workflow_of(layered(_WARM), edges=True)).result()
        while True:
            made = workflow_of(layered(count), edges=True)
            alone = _submissions(orch, lambda: sleep(1.0))
            gc.collect()
            began = perf_counter()
            beside = _submissions(orch, lambda made=made: orch.workflows.start(made))
            taken = perf_counter() - began
            orch.wait()
            yield {
                "longest": max(beside),
                "p99": percentile(beside, 99.0),
                "alone": percentile(alone, 99.0),
                "start": taken,
            }


def _submissions(
    orch: TaskOrchestrator, meanwhile: Callable[[], object]
) -> list[float]:
    """The seconds of each call of `submit` that another thread makes meanwhile."""
    stop = Event()
    seconds: list[float] = []

    def submit() -> None:
        while not stop.wait(_PAUSE):
            began = perf_counter()
            _ = orch.submit(noop)
            seconds.append(perf_counter() - began)

    thread = Thread(target=submit)
    thread.start()
    try:
        meanwhile()
    finally:
        stop.set()
        thread.join()
    return seconds


# -- rows ------------------------------------------------------------------------------


def _in_turn(
    contestants: Mapping[str, tuple[Steps, Mapping[str, float]]], rounds: int
) -> dict[str, list[dict[str, float]]]:
    """Samples of each, asked in turn, after one round of warming up."""
    with ExitStack() as stack:
        children = {
            name: stack.enter_context(Child(steps, **arguments))
            for name, (steps, arguments) in contestants.items()
        }
        samples: dict[str, list[dict[str, float]]] = {name: [] for name in children}
        for _ in range(rounds + 1):
            for name, child in children.items():
                samples[name].append(child.sample())
    return {name: taken[1:] for name, taken in samples.items()}


def _each(taken: list[dict[str, float]], count: int, *keys: str) -> Samples:
    """Seconds a task: the sum of some figures of each sample."""
    return Samples.of(
        (sum(sample[key] for key in keys) / count for sample in taken), Unit.SECONDS
    )


def _beside_edgeless(way: Steps, what: str, count: int, run: Run, goal: Goal | None):
    """A way of submitting, beside the same without edges; the row, and time a task."""
    rounds = run.pairs if count <= _SLICE else max(3, run.pairs // 3)
    taken = _in_turn(
        {
            "with": (way, {"count": count, "edges": True}),
            EDGELESS: (way, {"count": count, "edges": False}),
        },
        rounds,
    )
    ours, theirs = (
        _each(taken["with"], count, "cpu"),
        _each(taken[EDGELESS], count, "cpu"),
    )
    built = _each(taken["with"], count, "cpu", "building")
    wall = _each(taken["with"], count, "wall")
    with_building = _each(taken[EDGELESS], count, "cpu", "building").over(built)
    row = Row(
        what=f"{what}, {count:,}",
        ours=ours,
        peers={EDGELESS: theirs},
        measured=theirs.over(ours),
        goal=goal,
        note=f"time a task, built beforehand; {GRAPH}; {_CLOCK}, {rounds} rounds; "
        f"measured: ratio of speeds to the same without its edges; with building "
        f"{built.write()}, and that ratio {with_building.write()}; wall time "
        f"{wall.write()}",
    )
    return row, ours


@case("workflows")
def graphs(run: Run) -> Iterator[Row]:
    """Layered graphs of no-ops, beside the same tasks without dependencies."""
    few = run.size(10_000, quick=1_000)
    many = run.size(100_000, quick=5_000)
    goal = Goal.no_less(0.5, aim=0.7)
    small, of_few = _beside_edgeless(through_workflow, "workflow", few, run, goal)
    yield small
    large, of_many = _beside_edgeless(through_workflow, "workflow", many, run, goal)
    yield large
    yield Row(
        what="a larger workflow",
        ours=of_many,
        measured=Samples.of(of_many.median / of_few.median, Unit.RATIO),
        goal=Goal.no_more(2.5),
        note=f"time a task of {many:,}; measured: ratio of times to one of {few:,}, "
        f"which was {of_few.write()}",
    )
    for count in (few, many):
        yield _beside_edgeless(through_tasks, "submit_tasks", count, run, None)[0]


@case("workflows-peers", needs=("dask",))
def against_dask(run: Run) -> Iterator[Row]:
    """The same graph beside `dask.threaded.get`."""
    count = run.size(10_000, quick=1_000)
    taken = _in_turn(
        {
            "ours": (once_each, {"count": count}),
            DASK: (dask_get, {"count": count}),
        },
        run.pairs,
    )
    ours, theirs = _each(taken["ours"], count, "cpu"), _each(taken[DASK], count, "cpu")
    built = _each(taken["ours"], count, "cpu", "building")
    yield Row(
        what="with building",
        ours=built,
        peers={DASK: theirs},
        measured=theirs.over(built),
        goal=Goal.no_less(5.0, aim=10.0),
        note=f"time a task, {count:,} tasks, from the first wf.task to the last result, "
        f"of which building {_each(taken['ours'], count, 'building').write()}; dask's "
        "graph is built beforehand; measured: ratio of speeds to dask",
    )
    yield Row(
        what="against dask",
        ours=ours,
        peers={DASK: theirs},
        measured=theirs.over(ours),
        goal=Goal.no_less(5.0),
        note=f"time a task, {count:,} tasks, {CONCURRENCY} threads each, graphs built "
        f"beforehand; ours starts and stops an orchestrator for each; {GRAPH}; "
        f"{_CLOCK}, {run.pairs} rounds; measured: ratio of speeds to dask",
    )


@case("workflows-beside")
def beside_workflows(run: Run) -> Iterator[Row]:
    """Other tasks, beside many that are blocked, and while a workflow is started."""
    runnable = run.size(5_000, quick=500)
    many = run.size(100_000, quick=5_000)
    taken = _in_turn(
        {
            "none": (beside_blocked, {"waiting": 0, "runnable": runnable}),
            "many": (beside_blocked, {"waiting": many, "runnable": runnable}),
        },
        run.pairs,
    )
    ours = _each(taken["many"], runnable, "seconds")
    alone = _each(taken["none"], runnable, "seconds")
    yield Row(
        what="beside blocked tasks",
        ours=ours,
        measured=ours.over(alone),
        goal=Goal.no_more(1.2),
        note=f"time a task of {runnable:,} runnable no-ops beside {many:,} that wait "
        f"for one, {run.pairs} rounds (best of {_TRIES} runs), two processes in turn; "
        f"measured: ratio to the time without those, which was {alone.write()}",
    )
    rounds = 3
    starts = _in_turn({"start": (beside_a_start, {"count": many})}, rounds)["start"]
    longest, p99, alone, start = (
        Samples.of((sample[key] for sample in starts), Unit.SECONDS)
        for key in ("longest", "p99", "alone", "start")
    )
    yield Row(
        what="submit beside a start",
        ours=longest,
        measured=longest.over(start),
        note=f"the longest call of submit on another thread, one every "
        f"{Unit.SECONDS.write(_PAUSE)}, while a workflow of {many:,} is started, which "
        f"takes {start.write()} of wall time, {rounds} rounds; measured: ratio to that; "
        f"p99 {p99.write()}, without the start {alone.write()}",
    )


@case("workflows-million")
def a_million(run: Run) -> Iterator[Row]:
    """One workflow of a million tasks: built, started and ended."""
    few = run.size(10_000, quick=1_000)
    many = run.size(1_000_000, quick=10_000)
    small = _stages(few)[2]
    built, started, ended = _stages(many)
    if ended["done"] != many:
        raise RuntimeError(f"{many} tasks were to complete, and {ended['done']} did")
    cost = Samples.of(ended["cpu"] / many, Unit.SECONDS)
    yield Row(
        what="a million tasks",
        ours=cost,
        measured=cost.over(Samples.of(small["cpu"] / few, Unit.SECONDS)),
        goal=Goal.no_more(3.0),
        note=f"time a task of {many:,}, from building to the last result, once; "
        f"{GRAPH}; {_CLOCK}; measured: ratio of times to one of {few:,}, which was "
        f"{Unit.SECONDS.write(small['cpu'] / few)}; wall time: built after "
        f"{built['wall']:.0f} s, started {started['wall']:.0f} s, ended "
        f"{ended['wall']:.0f} s",
    )
    peak = Samples.of(ended["peak"], Unit.MEGABYTES)
    yield Row(
        what="memory of a million",
        ours=peak,
        goal=Goal.no_more(1_500.0, Unit.MEGABYTES),
        note=f"the peak of resident memory; {built['peak']:,.0f} MB once built, "
        f"{started['peak']:,.0f} MB once started",
    )


def _stages(count: int) -> list[dict[str, float]]:
    with Child(stage_by_stage, count=count) as child:
        return [child.sample() for _ in range(3)]
