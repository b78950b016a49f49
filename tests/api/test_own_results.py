"""executor="process": each task gets its own result, whatever becomes of the others."""

from __future__ import annotations

from random import SystemRandom

import pytest
from tests.api.own_results import expect_own_results

from taskorch import TaskOrchestrator


@pytest.mark.slow("2,000 tasks, with kills")
def test_each_gets_its_own_result() -> None:
    with TaskOrchestrator(executors={"process": 4}, concurrency=20, grace=0.2) as orch:
        expect_own_results(
            orch, "process", 2_000, seed=1, kill_each=500, slow_each=1_000
        )


@pytest.mark.slow("100,000 tasks")
def test_each_of_a_hundred_thousand_gets_its_own_result() -> None:
    seed = SystemRandom().getrandbits(32)
    print(f"seed={seed}")
    with TaskOrchestrator(executors={"process": 4}, concurrency=20, grace=0.2) as orch:
        expect_own_results(
            orch, "process", 100_000, seed=seed, kill_each=5_000, slow_each=20_000
        )
