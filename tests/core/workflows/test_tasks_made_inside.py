"""`task(f)` in a `@workflow` function: its calls are tasks, as those of a decorated one."""

from __future__ import annotations

import pytest

from taskorch import TaskOrchestrator, task, workflow
from taskorch.errors import UsageError

PATIENCE = 60.0
CALLS: list[int] = []


def plain(number):
    CALLS.append(number)
    return 2 * number


@task(retries=1)
def decorated(number):
    CALLS.append(number)
    return 2 * number


@workflow
def flow():
    one = task(plain)(1)
    two = task(plain, retries=3).options(id="two")(one)
    task(decorated, timeout=9.0)(two)
    task(plain, priority=2).map([4, 5])


def test_a_task_that_is_made_in_a_flow_is_a_node():
    CALLS.clear()
    written = flow()
    assert CALLS == []
    tasks = {name: written[name].task for name in written}
    assert [*tasks] == ["plain", "two", "decorated", "plain-2"]
    assert tasks["two"].retry.max_attempts == 4
    assert (tasks["decorated"].timeout, tasks["decorated"].retry.max_attempts) == (9, 2)
    # Elsewhere the functions are what they were.
    assert plain(3) == 6
    assert not hasattr(plain, "submit")
    assert decorated.options(id="x") is not None
    with TaskOrchestrator() as orch:
        results = orch.workflows.start(written, id="a").result(PATIENCE)
    assert (results["two"], results["decorated"], results["plain-2"]) == (4, 8, [8, 10])


def test_what_was_made_in_a_flow_is_called_nowhere_else():
    kept = []

    @workflow
    def keeps():
        kept.append(task(plain))
        kept[0](1)

    keeps()
    with pytest.raises(UsageError, match="this call makes none"):
        kept[0](1)
