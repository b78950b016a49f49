"""The wall clock jumps, within an incarnation and between two."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from tests.api.tools import PATIENCE, Hold, eventually

from taskorch import Task, TaskOrchestrator

HOUR, YEAR = 3600.0, 365 * 86_400.0


def jump(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """From now on the wall clock says something else; the monotonic one does not."""
    ns, now = time.time_ns, time.time
    monkeypatch.setattr(time, "time_ns", lambda: ns() + int(seconds * 1e9))
    monkeypatch.setattr(time, "time", lambda: now() + seconds)


@pytest.mark.parametrize("seconds", [-HOUR, YEAR])
def test_a_jump_within_an_incarnation_moves_nothing(
    seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No delay, timeout or deadline ends early or late, and events do not go back."""
    hold, times = Hold(), []
    with TaskOrchestrator(concurrency=4) as orch:
        orch.signals.task_started.connect(lambda event: times.append(event.at_ns))
        options = {"timeout": HOUR, "deadline": HOUR}
        running = orch.submit_task(Task.call(hold, 7, **options))
        delayed = orch.submit_task(Task.call(int, not_before=HOUR))
        hold.wait()
        jump(monkeypatch, seconds)
        soon = orch.submit_task(Task.call(int, not_before=0.02))
        assert soon.result(PATIENCE) == 0
        orch.submit(int).result(PATIENCE)
        assert not running.done()
        assert not delayed.done()
        assert orch.get_task_status(running.task_id).state == "running"
        (blocker,) = [b for b in orch.explain(delayed.task_id).blockers if b]
        assert blocker.kind == "delay"
        hold.release()
        assert running.result(PATIENCE) == 7
        delayed.cancel()
        eventually(lambda: len(times) == 3)
    assert times == sorted(times)
    assert times[-1] - times[0] < HOUR * 1e9


def test_between_two_incarnations_it_may_go_on_a_year(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was due meanwhile is done, once, and what was too late is said to be."""
    path = tmp_path / "runs.db"
    orch = TaskOrchestrator(journal=path)
    orch.start()
    orch.submit_task(Task.call(int, id="delayed", not_before=HOUR))
    orch.submit_task(Task.call(int, id="late", not_before=HOUR, deadline=2 * HOUR))
    orch.stop(drain=False)
    jump(monkeypatch, YEAR)
    with TaskOrchestrator(journal=path) as orch:
        assert orch.handle("delayed").result(PATIENCE) == 0
        late = orch.handle("late").exception(PATIENCE)
        assert "deadline" in str(late)
        assert orch.get_task_status("delayed").attempts == 1
