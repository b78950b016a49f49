"""A server of tools that lives and says nothing, says it slowly, or says half."""

import socket

import pytest
from tests.api.tools import PATIENCE
from tests.ext.service.tools import orchestrator, served
from tests.house.peers import Peer

pytest.importorskip("mcp")

from taskorch import Task, TaskOrchestrator
from taskorch.errors import TaskTimeoutError, ToolError

KINDS = ("deaf", "silent", "slow", "half", "closed")


@pytest.mark.parametrize("kind", KINDS)
def test_no_wait_for_a_server_of_tools_outlasts_its_deadline(kind):
    with served(orchestrator(), mcp=()) as service:

        def connect():
            return socket.create_connection(("127.0.0.1", service.server.port))

        with Peer(connect) as peer, TaskOrchestrator(stop_timeout=2) as orch:
            url = f"http://127.0.0.1:{peer.port}/mcp"
            headers = {"Authorization": f"Bearer {service.token}"}

            def call(**options):
                task = Task("find", {}, requires=["there.find"], **options)
                return orch.submit_task(task)

            orch.agents.mcp("there", url=url, headers=headers)
            assert call().result(PATIENCE)
            peer.become(kind)
            # One that is repeated is not the last: the next is made at once.
            lost = call(timeout=2, id="lost")
            error = lost.exception(PATIENCE)
            if kind in ("silent", "slow", "half"):
                assert isinstance(error, TaskTimeoutError)
            if kind not in ("deaf", "closed"):
                with pytest.raises(ToolError, match=r"no tools in 0\.5 s"):
                    orch.agents.mcp("new", url=url, connect_timeout=0.5)
            peer.become("well")
            assert call(timeout=PATIENCE, retry=3).result(PATIENCE)
