"""A fault of our own stops everything, and nobody waits for ever."""

from __future__ import annotations

import pytest

from taskorch import InternalError, TaskOrchestrator


def _break(orch, method):
    def broken(*_args, **_kwargs):
        raise AssertionError("planted")

    setattr(orch._rt.kernel, method, broken)


@pytest.mark.parametrize("method", ["complete", "dispatch"])
def test_a_fault_on_a_worker_fails_all_that_wait(method):
    """A fault in the kernel on a worker thread raises InternalError at all who wait."""
    orch = TaskOrchestrator(concurrency=1)
    first = orch.submit(lambda: 1)
    second = orch.submit(lambda: 2)
    orch.start()
    first.result(timeout=10)
    second.result(timeout=10)
    _break(orch, method)

    with pytest.raises(InternalError, match="planted"):
        orch.submit(lambda: 3).result(timeout=10)
    with pytest.raises(InternalError, match="taskorch itself failed"):
        orch.submit(lambda: 4)
    assert orch.wait(timeout=10)
    health = orch.health()
    assert health.status == "failed"
    assert not health.ready
    assert "planted" in str(health.checks)
    orch.stop(drain=False, timeout=1)


async def _five():
    return 5


def test_a_fault_at_the_end_of_a_coroutine_is_told_to_those_who_wait():
    """A fault of ours on the loop's thread does not leave a waiter waiting."""
    with TaskOrchestrator() as orch:
        assert orch.submit(_five).result(timeout=10) == 5
        _break(orch, "complete")
        with pytest.raises(InternalError, match="planted"):
            orch.submit(_five).result(timeout=10)
