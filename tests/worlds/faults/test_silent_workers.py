"""Ways to workers, receivers and runners that are silent, slow, half or closed."""

import socket
import sys

import pytest
from tests.api.tools import PATIENCE, eventually
from tests.ext.notices.test_notifying import Hook
from tests.ext.remote_workers.tools import at_work
from tests.ext.service.tools import orchestrator, served
from tests.house.peers import Peer

from taskorch import Task, TaskOrchestrator
from taskorch.ext.coding._coding_work import KeptRunner
from taskorch.ext.remote_workers import Abilities, Agent

#: A runner that says who it is, and then nothing.
GREETS = """
import json
answer = {"id": json.loads(input())["id"], "result": {"protocolVersion": 1}}
print(json.dumps(answer), flush=True)
input(), input()
"""
KINDS = ("deaf", "silent", "slow", "half", "closed")


def to(port):
    """A way to a server on this machine."""
    return Peer(lambda: socket.create_connection(("127.0.0.1", port)))


@pytest.mark.parametrize("kind", KINDS)
def test_work_of_a_worker_goes_on_once_its_service_is_heard_again(kind, monkeypatch):
    monkeypatch.setattr("taskorch.ext.remote_workers._worker._PATIENCE", 1.0)
    with (
        served(orchestrator(), agents=True) as service,
        to(service.server.port) as peer,
    ):
        worker = Agent(
            *("far", f"http://127.0.0.1:{peer.port}"),
            token=service.token,
            abilities=Abilities(functions={"negative": int.__neg__}),
            lease=3,
        )
        with at_work(worker):
            submit = service.orch.submit_task
            eventually(lambda: "far" in [a.id for a in service.orch.agents.list()])
            assert submit(Task("negative", 1, retry=9)).result(PATIENCE) == -1
            peer.become(kind)
            # Beside it, all goes on.
            assert submit(Task("echo", 2)).result(PATIENCE) == 2
            far = submit(Task("negative", 3, retry=9))
            peer.become("well")
            assert far.result(PATIENCE) == -3


@pytest.mark.parametrize("kind", KINDS[1:])
def test_a_receiver_that_is_silent_gets_all_once_it_is_heard_again(kind):
    hook = Hook()
    try:
        with to(hook.server.server_port) as peer, TaskOrchestrator() as orch:
            peer.become(kind)
            url = f"http://127.0.0.1:{peer.port}/"
            told = orch.notify(url, allow_private=True, timeout=0.5, attempts=60)
            orch.submit_task(Task.question("deploy?", id="ask"))
            eventually(lambda: told.check().status != "ok")
            assert orch.submit_task(Task.call(abs, -3)).result(PATIENCE) == 3
            peer.become("well")
            eventually(lambda: told.delivered)
            orch.cancel_task("ask")
    finally:
        hook.close()


@pytest.mark.parametrize(
    "code",
    [
        "input(); input()",
        GREETS,
        "import sys, time; sys.stdout.write('{'); sys.stdout.flush(); time.sleep(600)",
    ],
)
def test_a_runner_that_does_not_begin_is_killed_and_named(code, tmp_path, monkeypatch):
    monkeypatch.setattr("taskorch.ext.coding._coding_work._GREETING", 0.7)
    runner = KeptRunner([sys.executable, "-c", code], str(tmp_path), edits=False)
    with pytest.raises(ValueError, match=r"did not answer \S+ in 0\.7 s"):
        runner.do("work", str(tmp_path), str)
    assert runner.is_killed
