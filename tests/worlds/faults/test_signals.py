"""Ended by a signal at any stage: the next incarnation goes on, and nothing is lost."""

import signal

import pytest
from tests.worlds.faults import ledger, stages
from tests.worlds.faults.tools import Process

pytestmark = pytest.mark.slow("sixteen processes that are ended")


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    "stage", [stages.submission, stages.running, stages.drain, stages.stop]
)
def test_the_next_incarnation_goes_on(tmp_path, monkeypatch, stage, number, times):
    """Twice is what people do who find that it takes too long."""
    monkeypatch.setattr(stages, "over", stages.threading.Event())
    journal = tmp_path / "journal.db"

    with Process(stage, journal) as process:
        assert process.line() == (
            "stopping" if stage is stages.stop else stage.__name__
        )
        for _ in range(times):
            process.send(number)
        assert process.wait() == -number, process.errors()

    accepted = {task_id for (task_id,) in ledger.of(journal, "accepted")}
    assert {"task-0", "long", "next"} <= accepted
    assert ("task-3" in accepted) == (stage is stages.submission)
    told = {task_id for (task_id,) in ledger.of(journal, "told")}
    before = [task_id for task_id, *_ in ledger.of(journal, "effect")]

    found = stages.go_on(journal)

    assert accepted <= set(found)
    assert {status.state for status in found.values()} == {"completed"}
    effects = [task_id for task_id, *_ in ledger.of(journal, "effect")]
    assert set(effects) == set(found)
    again = effects[len(before) :]
    assert not told & set(again), "it was told that they are completed"
    # A task that was submitted, and of which nobody was told, is there or is not.
    assert len(set(found) - accepted) <= 1
