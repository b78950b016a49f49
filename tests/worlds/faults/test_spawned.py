"""Processes of spawned workers, when their orchestrator is killed."""

import json
import os
import signal
import sys
from pathlib import Path

import pytest
from tests.api.tools import eventually
from tests.ext.remote_workers.tools import free_port
from tests.worlds.faults import spawned_lives
from tests.worlds.faults.tools import Process, is_alive, marked, read_words

from taskorch import TaskOrchestrator
from taskorch.ext.service import create_app, serve

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="marks are found in /proc"
)


def test_no_process_of_a_worker_outlives_its_orchestrator(tmp_path):
    """
    Nor does the next incarnation, at the same port, find one of them among its workers.
    """
    journal, port = tmp_path / "j.db", free_port()
    with Process(spawned_lives.agents, journal, port) as process:
        pids = json.loads(process.line())
        assert len(pids) == 3
        assert all(map(is_alive, pids))
        (mark,) = {
            each
            for pid in pids
            for each in read_words(pid, "environ")
            if each.startswith(b"TASKORCH_RUN=")
        }
        identity = mark.decode().partition("=")[2].split(".")[0]
        # A shell may not have begun what it leaves.
        eventually(lambda: len(marked(f"{identity}.")) >= 5)
        process.send(signal.SIGKILL)
        process.wait()
        eventually(lambda: not any(map(is_alive, pids)))
    orch = TaskOrchestrator(journal=journal, unknown_capability="wait")
    app = create_app(orch, token=spawned_lives.TOKEN, agents=True)
    with orch, serve(app, port=port):
        assert marked(f"{identity}.") == []
        assert [one.id for one in orch.agents.list() if one.status != "lost"] == [
            "local"
        ]
        orch.stop(drain=False)


@pytest.mark.slow("workers in processes, killed")
def test_nor_is_one_left_that_its_guardian_did_not_live_to_end(tmp_path):
    """The next incarnation of the journal ends it, before anything of it begins."""
    journal, port = tmp_path / "j.db", free_port()
    with Process(spawned_lives.agents, journal, port) as process:
        pids = json.loads(process.line())
        process.hold()
        for task in Path(f"/proc/{process.pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                if int(child) not in pids:
                    os.kill(int(child), signal.SIGKILL)
        process.send(signal.SIGKILL)
        process.wait()
    assert all(map(is_alive, pids))
    with TaskOrchestrator(journal=journal, unknown_capability="wait") as orch:
        assert not any(map(is_alive, pids))
        orch.stop(drain=False)
