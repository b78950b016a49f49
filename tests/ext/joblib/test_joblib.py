"""joblib runs its calls as tasks."""

from __future__ import annotations

import threading

import pytest

joblib = pytest.importorskip("joblib")

from joblib import Parallel, delayed, effective_n_jobs, parallel_config  # noqa: E402

from taskorch import TaskOrchestrator  # noqa: E402
from taskorch.ext.joblib import register  # noqa: E402

register()


def square(n):
    return n * n


def test_a_generator_of_results():
    with parallel_config(backend="taskorch", n_jobs=2):
        found = Parallel(return_as="generator")(delayed(square)(n) for n in range(20))
        assert list(found) == [n * n for n in range(20)]


def test_they_are_tasks_of_the_orchestrator_that_is_given():
    with TaskOrchestrator(concurrency=3) as orch:
        with parallel_config(backend="taskorch", orchestrator=orch):
            assert effective_n_jobs(-1) == 3
            Parallel(n_jobs=2)(delayed(square)(n) for n in range(20))
        assert orch.get_stats().state_machine.completed == 20
        assert orch.submit(abs, -1).result() == 1


def test_the_first_error_is_raised_and_the_rest_called_off():
    called = []

    def fail_at(n):
        called.append(n)
        if n > 5:
            # It takes longer to make all calls than to hear of the one that failed.
            threading.Event().wait(0.02)
        return 1 // (5 - n)

    with (
        parallel_config(backend="taskorch", n_jobs=2),
        pytest.raises(ZeroDivisionError),
    ):
        Parallel(pre_dispatch="all")(delayed(fail_at)(n) for n in range(500))
    assert len(called) < 500


def test_no_thread_stays_behind():
    with parallel_config(backend="taskorch", n_jobs=2):
        Parallel()(delayed(square)(n) for n in range(5))
    assert not [t for t in threading.enumerate() if "caretaker" in t.name]


def test_no_jobs_have_no_meaning():
    with (
        parallel_config(backend="taskorch"),
        pytest.raises(ValueError, match="no meaning"),
    ):
        Parallel(n_jobs=0)(delayed(square)(n) for n in range(5))
