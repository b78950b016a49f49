"""Much fails at once: what is tried again neither comes at once nor without end."""

from collections import Counter

import pytest

from taskorch.events import TaskFailed, TaskRetrying, TaskStarted
from taskorch.model import RetryPolicy, Task, TaskState
from taskorch.policies import QuotaRetryHandler
from taskorch.testing import Outcome, Simulation

COUNT = 400
DOWN = 60.0


def storm(policy, **options):
    """What all tasks call is down for a minute; nothing limits who calls."""
    simulation = Simulation(seed=7, concurrency=COUNT, **options)
    simulation.agent("near", capabilities={"x"}, max_concurrency=COUNT)

    def work(task, attempt, random):
        is_down = simulation.now < DOWN
        return Outcome(0.01, error=ConnectionError("down") if is_down else None)

    simulation.work("x", work)
    simulation.submit_tasks([Task("x", retry=policy) for _ in range(COUNT)])
    simulation.run()
    return simulation


def most_in_a_second(simulation):
    """Of the attempts after the first, how many began within one second at most."""
    began = [
        event.at_ns // 10**9
        for event in simulation.events
        if isinstance(event, TaskStarted) and event.attempt > 1
    ]
    return max(Counter(began).values())


@pytest.mark.slow("400 tasks that fail at once")
@pytest.mark.parametrize(
    ("jitter", "most"), [("full", 0.4), (0.5, 0.25), (0, 1.0)], ids=str
)
def test_chance_spreads_what_failed_at_once(jitter, most):
    """Without it all are back in the same moment, which is the storm."""
    policy = RetryPolicy(30, wait="fixed", base=8, jitter=jitter)
    simulation = storm(policy)
    assert simulation.get_stats().state_machine.completed == COUNT
    found = most_in_a_second(simulation) / COUNT
    assert found <= most
    assert found == 1.0 or jitter != 0


def test_a_quota_bounds_the_retries_of_all_together():
    """A bucket of them, and what comes back in time; the rest fails, and says why."""
    handler = QuotaRetryHandler(tokens=50, refill_per_second=1)
    simulation = storm(RetryPolicy(1_000, base=1, jitter=0), retry_handler=handler)
    retried = [e.at_ns for e in simulation.events if isinstance(e, TaskRetrying)]
    began = min(event.at_ns for event in simulation.events)
    for number, at in enumerate(retried, 1):
        assert number <= 50 + (at - began) / 1e9 + 1e-6
    failed = [e for e in simulation.events if isinstance(e, TaskFailed)]
    assert failed
    assert all("the retry budget of" in event.reason for event in failed)
    states = Counter(status.state for status in simulation.tasks())
    assert states[TaskState.COMPLETED] + states[TaskState.FAILED] == COUNT


def test_a_quota_that_waits_loses_nobody():
    """They come one after the other, as the tokens do, and all come to their end."""
    handler = QuotaRetryHandler(tokens=20, refill_per_second=5, when_empty="wait")
    simulation = storm(RetryPolicy(1_000, base=1), retry_handler=handler)
    assert simulation.get_stats().state_machine.completed == COUNT
    assert most_in_a_second(simulation) <= 20 + 5 + 1
