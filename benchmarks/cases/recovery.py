"""Workers that fail, pools that follow the load, and what follows a failure."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from time import perf_counter, process_time
from typing import Any

from benchmarks._figures import Goal, Row, Samples, Unit
from benchmarks._registry import Run, case
from taskorch import Resources, RetryPolicy, Task, TaskOrchestrator
from taskorch.ext.recovery import RecoveryHandler
from taskorch.model import AgentTemplate, Breaker
from taskorch.policies import AgentPool
from taskorch.testing import Outcome, Simulation

_SKILLS = 50
_LONG = 60.0


def _row(what: str, value: Samples, goal: Goal, note: str = "") -> Row:
    return Row(what=what, ours=value, measured=value, goal=goal, note=note)


@case("route-agents")
def route(run: Run) -> Iterator[Row]:
    """What a task costs more among 1,000 workers of 50 capabilities than among 50."""
    many = run.size(1_000, quick=100)
    workers = run.size(1_000, quick=100)
    extra = []
    for _ in range(run.pairs):
        few, much = _routed(_SKILLS, many), _routed(workers, many)
        extra.append(max(1e-9, (much - few) / many))
    taken = Samples.of(extra, Unit.SECONDS)
    goal = Goal.no_more(20e-6, Unit.SECONDS, aim=8e-6)
    yield _row(f"route a task among {workers:,} agents, beside 50", taken, goal)


def _routed(workers: int, tasks: int) -> float:
    """Seconds to submit so many tasks, and run them one after another."""
    sim = Simulation(1, check=False, concurrency=workers)
    for number in range(workers):
        sim.agent(f"a{number}", capabilities=[f"c{number % _SKILLS}"])
    work = [Task("t", requires=[f"c{number % _SKILLS}"]) for number in range(tasks)]
    began = perf_counter()
    for task in work:
        sim.submit_task(task)
        sim.run()
    return perf_counter() - began


#: How busy equal workers are before the tasks come that are measured.
_BUSY = {"idle": 0.0, "half of them busy": 0.5, "all of them busy": 1.0}


@case("route-equal")
def equal(run: Run) -> Iterator[Row]:
    """What a task costs among 1,000 equal workers, and 5,000, beside 50."""
    tasks = run.size(2_000, quick=50)
    rounds = min(run.pairs, 5)
    for how, share in _BUSY.items():
        for workers in (1, run.size(1_000, quick=100), run.size(5_000, quick=200)):
            ratios, beside = [], []
            for _ in range(rounds):
                beside.append(_among(_SKILLS, share, tasks))
                ratios.append(_among(workers, share, tasks) / beside[-1])
            taken = Samples.of(ratios, Unit.RATIO)
            goal = Goal.no_more(1.5, aim=1.1)
            cost = Samples.of(beside, Unit.SECONDS).write()
            note = f"{tasks:,} tasks in virtual time, agents with one slot; 50: {cost}"
            what = f"a task among {workers:,} equal agents, {how}, beside 50"
            yield _row(what, taken, goal, note)
    for breaker in (None, Breaker()):
        workers = run.size(1_000, quick=50)
        failed, wasted = _with_a_hole(breaker, 5 * workers, workers)
        share_of_it = Samples.of(100 * wasted / (5 * workers), Unit.PER_CENT)
        kind = "without breakers" if breaker is None else "with breakers"
        what = f"black hole among {workers:,} agents, {kind}: tasks that it gets"
        note = f"of {5 * workers:,}, of which {failed:,} fail"
        goal = Goal.no_more(0.5, Unit.PER_CENT, aim=0.1)
        yield _row(what, share_of_it, goal, note)


def _among(workers: int, busy: float, tasks: int) -> float:
    """Seconds of the processor for one of so many tasks on workers that are so busy."""
    sim = Simulation(1, check=False, concurrency=workers)
    for number in range(workers):
        sim.agent(f"a{number}", capabilities=["x"])
    sim.work("long", 1e6)
    sim.work("short", 0.01)
    # In a backlog, the ends of others give the slots free.
    sim.submit_tasks(
        [Task("long", requires=["x"])] * min(int(workers * busy), workers - 1)
    )
    sim.submit_task(Task("short", requires=["x"]))
    at = 1.0
    sim.run(at)
    began = process_time()
    for number in range(tasks):
        sim.submit_task(Task("short", requires=["x"]))
        if busy < 1 or number % 10 == 9:
            at += 0.1
            sim.run(at)
    return (process_time() - began) / tasks


@case("black-hole")
def black_hole(run: Run) -> Iterator[Row]:
    """Of eight workers, one fails at once: tasks of three attempts that it costs."""
    tasks = run.size(5_000, quick=300)
    failed, wasted = _with_a_hole(Breaker(), tasks)
    before = _with_a_hole(None, tasks)
    lost = Samples.of(float(failed), Unit.RATIO)
    note = f"of {tasks:,} tasks; without breakers {before[0]}"
    yield _row("black hole: tasks that fail", lost, Goal.no_more(0), note)
    share = Samples.of(100 * wasted / tasks, Unit.PER_CENT)
    goal = Goal.no_more(1.0, Unit.PER_CENT, aim=0.3)
    note = f"without breakers {100 * before[1] / tasks:.2g} %"
    yield _row("black hole: attempts that it wastes", share, goal, note)


def _with_a_hole(
    breaker: Breaker | None, tasks: int, workers: int = 8
) -> tuple[int, int]:
    sim = Simulation(seed=1, check=False, concurrency=4 * workers)
    for number in range(workers):
        work = Outcome(0.001, error=OSError("no disk")) if number == 1 else 0.05
        sim.agent(
            f"a{number}",
            capabilities=["x"],
            max_concurrency=4,
            breaker=breaker,
            work=work,
        )
    retry = RetryPolicy(max_attempts=3, wait="fixed", base=0)
    sim.submit_tasks([Task("t", requires=["x"], retry=retry) for _ in range(tasks)])
    sim.run()
    stats = sim.get_stats()
    return stats.state_machine.failed, sum(a.failed for a in stats.agents.values())


@case("square-wave")
def square_wave(run: Run) -> Iterator[Row]:
    """A pool of workers under a square wave, in virtual time: how many, how often."""
    hours = run.size(24, quick=8)
    starts, there = _scaled(hours)
    often = Samples.of(starts, Unit.RATIO)
    note = f"{hours} virtual hours"
    goal = Goal.no_more(1.5, aim=1.05)
    yield _row("square wave: agents started over those needed", often, goal, note)
    much = Samples.of(there, Unit.RATIO)
    goal = Goal.no_more(1.25, aim=1.1)
    yield _row("square wave: agent-hours over the ideal", much, goal, note)


def _scaled(hours: int) -> tuple[float, float]:
    """Starts over those that the wave needs, and agent-hours over the ideal."""
    sim = Simulation(seed=1, check=False, concurrency=1_000, unknown_capability="wait")
    sim.work("t", _LONG)
    template = AgentTemplate("worker", capabilities={"x": 1}, handler=print)
    pool = AgentPool(template, min_agents=1, max_agents=99)
    pool.decisions = deque()  # all of them
    sim.drivers.add(pool)
    at, end, ideal = 0.0, hours * 3_600.0, 0.0
    while at < end:
        sim.at(at, lambda: sim.submit_task(Task("t", requires=["x"])))
        at += 3 if at // 7_200 % 2 == 1 else 30
        ideal += _LONG
    sim.run(end)
    first, there, since, workers = pool.decisions[0].at, 0.0, pool.decisions[0].at, 0
    for decision in pool.decisions:
        there += workers * (decision.at - since)
        since, workers = decision.at, decision.after
    there += workers * (first + end - since)
    starts = sum(max(0, one.after - one.before) for one in pool.decisions)
    return starts / (2 + 18 * (hours // 4)), there / ideal


# -- what follows a failure ------------------------------------------------------------

#: Of so many tasks in a hundred, what goes wrong with them.
_MIX = {
    "well": 40,
    "network": 20,
    "memory": 15,
    "timeout": 10,
    "there": 10,
    "logic": 5,
}


@case("failure-mix")
def failure_mix(run: Run) -> Iterator[Row]:
    """A seeded mix of failures: what ends well without a person, and what is wasted."""
    tasks = run.size(10_000, quick=400)
    blind = _mixed(None, tasks)
    ours = _mixed(RecoveryHandler(retry_delay_seconds=1, escalate=False), tasks)
    points = Samples.of(100 * (ours[0] - blind[0]), Unit.PER_CENT)
    note = f"{100 * ours[0]:.1f} % end well, and {100 * blind[0]:.1f} % by three blind retries"
    goal = Goal.no_less(25.0, Unit.PER_CENT, aim=40.0)
    yield _row("mix of failures: points more that end well", points, goal, note)
    less = Samples.of(100 * (1 - ours[1] / blind[1]), Unit.PER_CENT)
    note = f"{ours[1]:,} attempts after a first failure fail, and {blind[1]:,}"
    goal = Goal.no_less(50.0, Unit.PER_CENT, aim=75.0)
    yield _row("mix of failures: attempts less that are wasted", less, goal, note)


def _done(task: Task[Any], attempt: int, chance: random.Random) -> Outcome:
    """What comes of a task of the mix, where it can be done."""
    kind = task.payload
    if kind == "network" and chance.random() < 0.5 ** min(attempt, 2):
        return Outcome(0.1, error=ConnectionError("reset by peer"))
    if kind == "memory" and task.resources["memory_mb"] < 300:
        return Outcome(0.5, error=MemoryError("out of memory"))
    if kind == "logic":
        return Outcome(0.2, error=AssertionError("expected 3, got 4"))
    return Outcome(2.5 if kind == "timeout" else 0.2)


def _half_done(task: Task[Any], attempt: int, chance: random.Random) -> Outcome:
    """The same on a worker on which some tasks cannot be done."""
    if task.payload == "there":
        return Outcome(0.01, error=PermissionError("/dev/gpu"))
    return _done(task, attempt, chance)


def _mixed(handler: RecoveryHandler | None, tasks: int) -> tuple[float, int]:
    """Which share of the tasks that fail at first ends well; attempts wasted."""
    pools = Resources(cpu=1_000, memory_mb=1_000_000)
    sim = Simulation(
        3, check=False, concurrency=64, resources=pools, retry_handler=handler
    )
    for number in range(8):
        sim.agent(
            f"a{number}",
            capabilities=["t"],
            max_concurrency=8,
            work=_half_done if number < 4 else _done,
        )
    retry: dict[str, Any] = {}
    if handler is None:
        retry["retry"] = RetryPolicy(max_attempts=4, wait="fixed", base=1)
    for kind in random.Random(3).choices([*_MIX], [*_MIX.values()], k=tasks):
        resources = {"memory_mb": 100}
        sim.submit_task(Task("t", kind, resources=resources, timeout=2, **retry))
    sim.run()
    hit = well = wasted = 0
    for status in sim.tasks():
        if status.attempts > 1 or status.state == "failed":
            ends_well = status.state == "completed"
            hit += 1
            well += ends_well
            wasted += status.attempts - 1 - ends_well
    return well / hit, wasted


@case("failed-attempt")
def failed_attempt(run: Run) -> Iterator[Row]:
    """From the end of an attempt that fails to the start of the next one."""
    begun: list[float] = []
    ended: list[float] = []

    def fail(_task: Task[Any], _context: Any) -> None:
        begun.append(perf_counter())
        ended.append(perf_counter())
        msg = "reset by peer"
        raise ConnectionError(msg)

    handler = RecoveryHandler(max_retries=2, retry_delay_seconds=0, escalate=False)
    many = run.size(300, quick=20)
    with TaskOrchestrator(retry_handler=handler, concurrency=1) as orch:
        orch.agent("a", capabilities=["t"], max_concurrency=1)(fail)
        times = []
        for _ in range(many):
            begun.clear()
            ended.clear()
            handle = orch.submit_task(Task("t"))
            handle.exception(60)
            times += [start - end for start, end in zip(begun[1:], ended, strict=False)]
    taken = Samples.of(times, Unit.SECONDS)
    goal = Goal.no_more(200e-6, Unit.SECONDS, aim=50e-6)
    yield _row("a failed attempt to the next start, through the matrix", taken, goal)
