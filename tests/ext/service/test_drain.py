"""The end of a served orchestrator: what is under way ends, and nothing new comes."""

from __future__ import annotations

import threading

import pytest
from tests.api.tools import PATIENCE, Hold, eventually
from tests.ext.service.tools import orchestrator, served

from taskorch import NotRunningError, Task
from taskorch.ext.client import Client

TASKS = "/api/v1/tasks"


def test_a_drain_answers_503_to_new_work_and_is_not_ready():
    """What runs ends, and can be asked for meanwhile."""
    hold = Hold()
    document = {"workflow": "w", "tasks": {"a": {"type": "echo"}}}
    with served(orchestrator(unknown_capability="wait")) as service:
        assert service.get("/readyz") == {"status": "ok"}
        service.orch.submit_task(Task.call(hold, 7, id="held"))
        hold.wait()
        stopping = threading.Thread(target=service.orch.stop)
        stopping.start()
        try:
            eventually(lambda: service.ask("GET", "/readyz").status == 503)
            for path, said in (
                (TASKS, {"type": "echo", "id": "late"}),
                (f"{TASKS}/batch", {"tasks": [{"type": "echo", "id": "late"}]}),
                ("/api/v1/workflows", {"workflow": document, "id": "late"}),
            ):
                refused = service.post(path, said)
                assert (refused.status, refused.said["code"]) == (503, "not_running")
                assert "draining" in refused.said["detail"]
            client = Client(service.server.url, token=service.token)
            with pytest.raises(NotRunningError, match="draining"):
                client.submit_task(Task("echo"))
            checks = service.get("/api/v1/health")["checks"]
            assert any(check["detail"].startswith("draining") for check in checks)
            assert service.get("/livez") == {"status": "ok"}
            assert service.ask("GET", f"{TASKS}/late").status == 404
            assert service.get(f"{TASKS}/held")["state"] == "running"
        finally:
            hold.release()
            stopping.join(PATIENCE)
        assert service.result("held")["result"] == 7
