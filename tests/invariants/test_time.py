"""Time never goes back: not in a life, nor from one to the next, whatever clocks say."""

from __future__ import annotations

import time
from contextlib import ExitStack
from random import Random

import pytest
from tests.integration.tools import PATIENCE
from tests.invariants import use

from taskorch import SqliteJournal
from taskorch.runtime import _committer

HOUR = 3600 * 10**9
LIVES = 5


@pytest.mark.parametrize("seed", range(3))
def test_time_never_goes_back(seed, tmp_path, monkeypatch):
    random = Random(seed)
    wall, heard = time.time_ns, []
    for life in range(LIVES):
        ahead = random.choice([-HOUR, HOUR, -300 * HOUR, 300 * HOUR, 0])
        monkeypatch.setattr(time, "time_ns", lambda ahead=ahead: wall() + ahead)
        # How often there is a snapshot, and how much of it is in memory.
        monkeypatch.setattr(_committer, "_SNAPSHOT_FACTS", random.choice([10, 10**6]))
        keep = random.choice([0, 0, 1000])
        with ExitStack() as stack:
            orch = use.orchestrator(stack, tmp_path, keep_finished=keep)
            for name in use.SIGNALS:
                signal = getattr(orch.signals, name)
                signal.connect(lambda event: heard.append((event.seq, event.at_ns)))
            orch.start()
            user = use.Use(orch, f"{seed}/{life}")
            for _ in range(random.randrange(6)):
                user.act()
            user.drop_all()
            report = orch.stop(drain=random.random() < 0.7, timeout=PATIENCE)
            assert report.leaked == ()
    times = [fact[2] for fact, _ in SqliteJournal(tmp_path / "runs.db").read()]
    assert len(times) > 5 * LIVES
    assert times == sorted(times)
    heard.sort()
    assert [at for _, at in heard] == sorted(at for _, at in heard)
