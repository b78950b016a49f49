"""Idempotency keys across deaths."""

import pytest
from tests.worlds.faults import lives
from tests.worlds.faults.tools import PATIENCE, Process

from taskorch import TaskOrchestrator

pytestmark = pytest.mark.slow("processes that are killed")


@pytest.mark.parametrize("keep", [0, 100])
def test_a_key_finds_its_task_after_a_kill_in_memory_or_not(tmp_path, keep):
    journal = tmp_path / "journal.db"
    with Process(lives.with_key, journal) as process:
        task_id = process.line()
        process.send(9)
        process.wait()

    for _ in range(2):
        with TaskOrchestrator(journal=journal, keep_finished=keep) as orch:
            again = orch.submit_task(lives.keyed())
            assert again.task_id == task_id
            assert again.result(PATIENCE) == "done"
