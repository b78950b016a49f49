"""What there is becomes less than what is asked for, and than what is in use."""

from __future__ import annotations

import threading
from pathlib import Path

from tests.api.tools import PATIENCE, eventually

from taskorch import Resources, Task, TaskOrchestrator

_LOCK = threading.Lock()
_NOW = [0, 0]
GO = threading.Event()


def work() -> int:
    """How many were at work at once is counted."""
    with _LOCK:
        _NOW[0] += 1
        _NOW[1] = max(_NOW)
    try:
        assert GO.wait(PATIENCE)
    finally:
        with _LOCK:
            _NOW[0] -= 1
    return 1


def test_the_next_incarnation_has_less(tmp_path: Path) -> None:
    """What was in use is not there any more: one at a time, and what cannot be waits."""
    path = tmp_path / "runs.db"
    GO.clear()
    _NOW[:] = [0, 0]
    names = [f"t{number}" for number in range(4)]
    one, two = Resources(cpu=1), Resources(cpu=2)
    orch = TaskOrchestrator(journal=path, resources=Resources(cpu=4), grace=0.01)
    orch.start()
    for name in names:
        orch.submit_task(Task.call(work, id=name, resources=one))
    orch.submit_task(Task.call(work, id="large", resources=two))
    eventually(lambda: _NOW[0] == 4)
    orch.stop(drain=False, timeout=0)
    GO.set()
    eventually(lambda: _NOW[0] == 0)
    _NOW[:] = [0, 0]
    orch = TaskOrchestrator(journal=path, resources=one)
    with orch:
        for name in names:
            assert orch.handle(name).result(PATIENCE) == 1
        assert not orch.handle("large").done()
        assert "cpu" in str(orch.explain("large"))
        assert orch.get_stats().resources["cpu"].used == 0
        assert _NOW == [0, 1]
        assert any("large" in stuck.tasks for stuck in orch.stuck())
    with TaskOrchestrator(journal=path, resources=two) as orch:
        assert orch.handle("large").result(PATIENCE) == 1
