"""A plan comes to what the simulated orchestrator, whole, makes of it."""

from hypothesis import example, given, settings, strategies as st
from tests.house.tools.examples import examples

from taskorch import Resources, RetryPolicy, Task, TaskOrchestrator
from taskorch.policies import FifoQueue, LeastLoadedRouter
from taskorch.testing import Outcome, Simulation

_TWICE = RetryPolicy(3, wait="fixed", base=2.0, jitter=0)


@st.composite
def plans(draw):
    """Tasks of several kinds, how long they take, and which fail the first time."""
    tasks, lengths, flaky = [], {}, {}
    for n in range(draw(st.integers(1, 9))):
        name = f"t{n}"
        lengths[name] = float(draw(st.integers(0, 5)))
        above = draw(st.sets(st.integers(0, n - 1), max_size=2)) if n else []
        tasks.append(
            Task(
                draw(st.sampled_from(["x", "y"])),
                id=name,
                after=[f"t{parent}" for parent in sorted(above)],
                priority=draw(st.integers(-1, 1)),
                resources=Resources(cpu=draw(st.integers(0, 2))),
                timeout=draw(st.sampled_from([None, 3.0])),
                retry=_TWICE,
                join=draw(st.sampled_from(["all", "finished"])),
                not_before=draw(st.sampled_from([None, None, 4.0])),
                # What a simulation is told, the orchestrator has to know, too.
                expected=lengths[name],
            )
        )
        flaky[name] = draw(st.booleans())
    return tasks, lengths, flaky


def two_ends_at_once():
    """A task completes at the moment at which the time of another is over."""
    lengths = {"t0": 4.0, "t1": 4.0, "t2": 0.0, "t3": 0.0}
    tasks = [
        Task("x", id="t0", not_before=3.0),
        Task("x", id="t1", timeout=3.0, retry=RetryPolicy(1), not_before=4.0),
        Task("y", id="t2", after=["t1"], join="finished"),
        Task("x", id="t3", after=["t0"]),
    ]
    return tasks, lengths, dict.fromkeys(lengths, False)


@settings(max_examples=examples(40))
@example(plan=two_ends_at_once(), slots=2, fifo=False)
@given(plans(), st.integers(1, 4), st.booleans())
def test_the_schedule_is_that_of_the_whole_orchestrator(plan, slots, fifo):
    """Attempt by attempt: workers, starts, ends and outcomes."""
    tasks, lengths, flaky = plan
    queue = FifoQueue() if fifo else None
    options = {
        "concurrency": slots,
        "resources": Resources(cpu=3),
        "router": LeastLoadedRouter(),
        "queue": queue,
    }
    orch = TaskOrchestrator(**options)
    whole = Simulation(seed=1, **options)
    for name, can in (("a", {"x", "y"}), ("b", {"y"})):
        orch.agent(name, capabilities=can, max_concurrency=2)(lambda task, c: None)
        whole.agent(name, capabilities=can, max_concurrency=2)

    def work(task, attempt, random):
        error = OSError("no") if flaky[task.id] and attempt == 1 else None
        return Outcome(lengths[task.id], error=error)

    for kind in ("x", "y"):
        whole.work(kind, work)
    whole.submit_tasks(tasks)
    whole.run()

    report = orch.simulate(
        tasks, lengths, failures=lambda task, attempt: flaky[task.id] and attempt == 1
    )

    expected = sorted(
        (run.task_id, run.attempt, run.worker, run.start, run.end, run.outcome)
        for run in whole.attempts
    )
    assert expected == sorted(
        (one.task_id, one.attempt, one.agent_id, one.start, one.end, one.outcome)
        for one in report.schedule
    )
