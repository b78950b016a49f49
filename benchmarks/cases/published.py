"""The figures that seed 002 published, each beside ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import perf_counter

from benchmarks import _published
from benchmarks._figures import SEED, Goal, Row, Samples, Unit
from benchmarks._registry import Run, case
from benchmarks._timing import percentile, time_calls
from benchmarks._workloads import CONCURRENCY, Blockers, EventCounter
from taskorch import Task, TaskContext, TaskOrchestrator, current_context

_BEATEN = Goal.no_less(1.0)
_TASK_EVENTS = (
    "task_submitted",
    "task_validated",
    "task_routed",
    "task_started",
    "task_completed",
)


def work(task: Task, context: TaskContext) -> object:
    """Do what a worker does for a task: next to nothing."""
    return task.payload


def _orchestrator() -> TaskOrchestrator:
    """An orchestrator with one worker, so that tasks are matched and routed."""
    orch = TaskOrchestrator(concurrency=CONCURRENCY)
    orch.agent("worker", capabilities={"work"}, max_concurrency=CONCURRENCY)(work)
    return orch


def _shorter(what: str, seconds: list[float], published: float, note: str) -> Row:
    """A row for a time, where seed 002 published an upper bound."""
    ours = Samples.of(percentile(seconds, 50), Unit.SECONDS)
    theirs = Samples.of(published, Unit.SECONDS)
    return Row(
        what=what,
        ours=ours,
        peers={SEED: theirs},
        measured=theirs.over(ours),
        goal=_BEATEN,
        note=f"{note}; p50 of {len(seconds):,}, p99 "
        f"{Unit.SECONDS.write(percentile(seconds, 99))}; measured: ratio to seed 002",
    )


def _more(
    what: str, rates: list[float], published: float, unit: Unit, note: str
) -> Row:
    """A row for a rate, where seed 002 published a lower bound."""
    ours = Samples.of(rates, unit)
    theirs = Samples.of(published, unit)
    return Row(
        what=what,
        ours=ours,
        peers={SEED: theirs},
        measured=Samples.of(ours.median / published, Unit.RATIO),
        goal=_BEATEN,
        note=f"{note}; {ours.write_spread()}; measured: ratio to seed 002",
    )


@case("published-times")
def operations(run: Run) -> Iterator[Row]:
    """Each operation in the "Benchmark Results" of seed 002, call by call."""
    count = run.size(10_000, quick=500)
    with _orchestrator() as orch:
        submissions = time_calls(lambda: orch.submit_task(Task("work")), count)
        orch.wait()
        trips = time_calls(lambda: orch.submit_task(Task("work")).result(), count)
    yield _shorter(
        "task submission",
        submissions,
        _published.TASK_SUBMISSION,
        "submit_task to an agent, tasks running meanwhile",
    )
    yield _shorter(
        "task processing",
        trips,
        _published.TASK_PROCESSING,
        "from submit_task to the result, one at a time",
    )
    yield from _on_queued_tasks(run)
    yield _emission(run)


def _on_queued_tasks(run: Run) -> Iterator[Row]:
    """Operations on a queue behind running tasks: nothing else is at work."""
    count = run.size(10_000, quick=500)
    blockers = Blockers()
    with _orchestrator() as orch:
        blockers.occupy(orch.submit)
        ids = [orch.submit_task(Task("work")).task_id for _ in range(count)]

        def on_each(operation: Callable[[str], object]) -> list[float]:
            left = iter(ids)
            return time_calls(lambda: operation(next(left)), count)

        queue = {
            "get_stats": time_calls(orch.get_stats, count),
            "set_priority": on_each(lambda task_id: orch.set_priority(task_id, 1)),
        }
        suspended = on_each(orch.suspend_task)
        resumed = on_each(orch.resume_task)
        queue["cancel_task"] = on_each(orch.cancel_task)
        blockers.release()
    medians = {name: percentile(seconds, 50) for name, seconds in queue.items()}
    slowest = max(medians, key=medians.__getitem__)
    each = ", ".join(
        f"{name} {Unit.SECONDS.write(median)}" for name, median in medians.items()
    )
    yield _shorter(
        "queue operations",
        queue[slowest],
        _published.QUEUE_OPERATION,
        f"the slowest on a queue of {count:,}: {each}",
    )
    yield _shorter(
        "state transitions",
        suspended + resumed,
        _published.STATE_TRANSITION,
        "suspend_task and resume_task on a queued task, one transition each",
    )


def _emission(run: Run) -> Row:
    """
    What an event costs that nobody receives, by the call that does little else.

    `progress()` in a running task records the value and sends `task_progressed`.
    """
    batch = 100

    def report() -> list[float]:
        context = current_context()

        def emit() -> None:
            for _ in range(batch):
                context.progress(1)

        return time_calls(emit, run.size(500, quick=50))

    with _orchestrator() as orch:
        batches: list[float] = orch.submit(report).result()
    return _shorter(
        "event emission",
        [seconds / batch for seconds in batches],
        _published.EVENT_EMISSION,
        f"progress() in a running task, its step included, in batches of {batch}; the "
        "events of the plain path cost less: none is made unless somebody listens",
    )


@case("published-rates")
def rates(run: Run) -> Iterator[Row]:
    """The rates that seed 002 published, for tasks that a worker does."""
    count = run.size(10_000, quick=1_000)
    with _orchestrator() as orch:

        def submit_all() -> None:
            for _ in range(count):
                _ = orch.submit_task(Task("work"))

        submitting: list[float] = []
        processing: list[float] = []
        for _ in range(run.pairs):
            began = perf_counter()
            submit_all()
            submitting.append(perf_counter() - began)
            orch.wait()
            processing.append(perf_counter() - began)
        events = EventCounter()
        for name in _TASK_EVENTS:
            getattr(orch.signals, name).connect(events.receive)
        receiving: list[float] = []
        for _ in range(run.pairs):
            events.expect(len(_TASK_EVENTS) * count)
            began = perf_counter()
            submit_all()
            events.wait()
            receiving.append(perf_counter() - began)
    yield _more(
        "task submissions",
        [count / seconds for seconds in submitting],
        _published.SUBMISSIONS_PER_SECOND,
        Unit.PER_SECOND,
        f"submit_task, {count:,} times, tasks running meanwhile",
    )
    yield _more(
        "tasks processed",
        [count / seconds for seconds in processing],
        _published.PROCESSED_PER_SECOND,
        Unit.PER_SECOND,
        f"from the first submission to the end of {count:,} tasks",
    )
    yield _more(
        "queue throughput",
        [count / seconds * 60 for seconds in processing],
        _published.TASKS_PER_MINUTE,
        Unit.PER_MINUTE,
        "the same by the minute: every task is queued and taken from the queue",
    )
    yield _more(
        "event throughput",
        [len(_TASK_EVENTS) * count / seconds * 60 for seconds in receiving],
        _published.EVENTS_PER_MINUTE,
        Unit.PER_MINUTE,
        f"events received while {count:,} tasks run, a receiver on each of "
        f"{', '.join(_TASK_EVENTS)}",
    )
