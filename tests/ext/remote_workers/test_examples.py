"""A worker that was written from the wire alone."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from tests.api.tools import eventually
from tests.ext.service.tools import served

from taskorch import Task, TaskOrchestrator

WORKER = Path(__file__).parents[3] / "examples" / "agent.sh"


@pytest.mark.timeout(300)
@pytest.mark.skipif(
    not (shutil.which("curl") and shutil.which("sha256sum")),
    reason="it needs curl and sha256sum",
)
def test_a_worker_in_thirty_lines_of_shell():
    lines = WORKER.read_text().splitlines()
    assert len(lines) <= 35
    texts = ["a", "b c; $(d)", "12%s"]
    orch = TaskOrchestrator(unknown_capability="wait")
    with served(orch, agents=True) as service:
        env = {
            **os.environ,
            "URL": service.server.url,
            "NAME": "agent_sh",
            "TASKORCH_TOKEN": service.token,
        }
        process = subprocess.Popen(
            ["sh", str(WORKER)], env=env, stdout=subprocess.DEVNULL
        )
        try:
            handles = orch.submit_tasks([Task("sha256", text) for text in texts])
            for text, handle in zip(texts, handles, strict=True):
                expected = hashlib.sha256(text.encode()).hexdigest()
                assert handle.result(50) == expected
            process.send_signal(signal.SIGTERM)
            assert process.wait(50) == 0
            eventually(lambda: orch.agents.is_lost("agent_sh"))
        finally:
            process.kill()
            process.wait(60)
