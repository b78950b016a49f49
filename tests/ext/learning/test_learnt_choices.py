"""What was chosen by what learns, and how good it was, stands in the events."""

from __future__ import annotations

import pytest

from taskorch import TaskOrchestrator
from taskorch.errors import InvalidTaskError, UnknownTaskError
from taskorch.events import TaskRewarded, TaskStarted
from taskorch.ext.views import JournalReader
from taskorch.policies import PerformanceRouter, PriorityQueue


class Chooser:
    """A part that learns, as far as the orchestrator asks it."""

    said = ("first", 0.5)

    def attach(self, orchestrator):
        pass

    def restore(self, kept):
        self.kept = kept("nothing")

    def choice_of(self, task_id, attempt):
        if task_id == "broken":
            raise ValueError("no choice")
        return None if task_id == "plain" else self.said


class ChoosingRouter(Chooser, PerformanceRouter):
    pass


class ChoosingQueue(Chooser, PriorityQueue):
    said = ("second", 0.25)


def test_a_choice_and_a_reward_are_events_that_a_journal_keeps(tmp_path):
    path = tmp_path / "runs.db"
    orch = TaskOrchestrator(
        journal=path, router=ChoosingRouter(), queue=ChoosingQueue(), keep_finished=0
    )
    with orch:
        for name in ("chosen", "plain", "broken"):
            orch.options(id=name).submit(len, "ab").result()
        assert orch.reward_task("chosen", 0.5)
        assert orch.reward_task("chosen", -1, attempt=1, source="test")
        assert not orch.reward_task("chosen", 0, attempt=2)
    events = list(JournalReader(path).happened())
    starts = {e.task_id: e.choice for e in events if isinstance(e, TaskStarted)}
    assert starts == {
        "chosen": ("second + first", 0.125),
        "plain": None,
        "broken": None,
    }
    rewards = [e for e in events if isinstance(e, TaskRewarded)]
    assert [(e.task_id, e.attempt, e.value, e.source) for e in rewards] == [
        ("chosen", 1, 0.5, "user"),
        ("chosen", 1, -1.0, "test"),
    ]
    with TaskOrchestrator(journal=path) as again:
        assert again.get_task_status("chosen").result == 2


@pytest.mark.parametrize("value", [float("nan"), 1.1, -2, "1", True, None])
def test_what_is_no_reward_is_refused(value):
    with TaskOrchestrator() as orch:
        handle = orch.submit(len, "ab")
        handle.result()
        with pytest.raises(InvalidTaskError, match="-1 to 1"):
            orch.reward_task(handle.task_id, value)


def test_who_gives_a_reward_and_for_what_is_said_well():
    with TaskOrchestrator() as orch:
        handle = orch.submit(len, "ab")
        handle.result()
        with pytest.raises(InvalidTaskError, match="source"):
            orch.reward_task(handle.task_id, 1, source="")
        with pytest.raises(InvalidTaskError, match="attempt"):
            orch.reward_task(handle.task_id, 1, attempt=0)
        with pytest.raises(UnknownTaskError):
            orch.reward_task("nobody", 1)
