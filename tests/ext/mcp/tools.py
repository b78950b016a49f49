"""Clients of the library, over the standard streams and over HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from contextlib import asynccontextmanager
from typing import Literal

import pytest
from tests.api.tools import PATIENCE

pytest.importorskip("mcp")
import httpx2
from mcp import Client, StdioServerParameters, types
from mcp.client.extension import ClientExtension, ResultClaim
from mcp.client.streamable_http import streamable_http_client
from pydantic import ConfigDict

from taskorch.ext.mcp import make_server, serve_streams
from taskorch.ext.mcp._waits import EXTENSION

APP = """
from taskorch import TaskOrchestrator

print("loaded")
orch = TaskOrchestrator({options})


@orch.agent("echo", capabilities={{"echo"}})
def echo(task, context):
    print("a line that is no message")
    if isinstance(task.payload, dict) and "raise" in task.payload:
        raise ValueError(task.payload["raise"])
    return task.payload
"""


def run(story):
    """What a coroutine comes to, within a test's patience."""
    return asyncio.run(asyncio.wait_for(story, 2 * PATIENCE))


def started_by(*words, **env):
    """How a client starts a server, as it stands in its configuration."""
    return StdioServerParameters(
        command=sys.executable,
        args=["-W", "ignore", "-m", "taskorch", "mcp", *map(str, words)],
        env={**os.environ, **env},
    )


@asynccontextmanager
async def at_service(service, token=None, **how):
    """A client of `/mcp` of a service."""
    token = service.token if token is None else token
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=PATIENCE) as http,
        Client(
            streamable_http_client(f"{service.server.url}/mcp", http_client=http),
            **how,
        ) as client,
    ):
        yield client


class Tasks(ClientExtension):
    """A client that knows tasks of the protocol, and leaves them to the test."""

    identifier = EXTENSION

    def claims(self):
        async def resolve(result, context):
            raise AssertionError

        return [ResultClaim(result_type="task", model=TaskHandle, resolve=resolve)]


class TaskHandle(types.Result):
    """What a call is answered by that lasts."""

    result_type: Literal["task"] = "task"
    task_id: str
    status: str
    status_message: str | None = None


class TaskState(types.Result):
    """What is said of it."""

    model_config = ConfigDict(extra="allow")
    task_id: str
    status: str
    status_message: str | None = None


class TaskRequest(types.Request[types.GetTaskRequestParams, str]):
    method: str
    params: types.GetTaskRequestParams


async def begun(client, task, **more):
    """The id of the task by which a wait is answered."""
    handle = await client.session.call_tool(
        "wait", {"task": task, **more}, allow_claimed=True
    )
    assert handle.result_type == "task", handle
    return handle.task_id


async def asked(client, verb, name):
    """What is said of a task of the protocol: `get`, `cancel` or `update`."""
    params = types.GetTaskRequestParams(task_id=name)
    request = TaskRequest(method=f"tasks/{verb}", params=params)
    kind = TaskState if verb == "get" else types.EmptyResult
    return await client.session.send_request(request, kind)


async def ended(client, name):
    """What is said of a task of the protocol once it works no more."""
    state = await asked(client, "get", name)
    if state.status != "working":
        return state
    await asyncio.sleep(0.05)
    return await ended(client, name)


async def call(client, name, **arguments):
    """What a tool answers; it must not be refused."""
    answer = await client.call_tool(name, arguments)
    assert not answer.is_error, answer
    return answer.structured_content


def beside(place, *, extensions=(), fill=None, **options):
    """A client in this process, of a server of *place*; *fill* fills in its forms."""
    server = make_server(place, **options)
    return Client(server, extensions=[*extensions], elicitation_callback=fill)


# -- what stands on the wire -----------------------------------------------------------

CAPABILITIES = {"extensions": {EXTENSION: {}}, "elicitation": {"form": {}}}


def message(number, method, has, params):
    """A request as it stands on the wire: each says all that is to be known."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": has,
    }
    return {
        "jsonrpc": "2.0",
        "id": number,
        "method": method,
        "params": {**params, "_meta": meta},
    }


class Wire:
    """Streams to a server, and the messages on them as they are."""

    def __init__(self, outgoing, incoming):
        self.outgoing, self.incoming = outgoing, incoming
        self.number = 0

    def tell(self, method, *, has=CAPABILITIES, **params):
        """Ask, and wait for no answer."""
        self.number += 1
        request = message(self.number, method, has, params)
        self.outgoing.write(json.dumps(request).encode() + b"\n")
        self.outgoing.flush()

    def ask(self, method, **params):
        """The answer, which may be an error."""
        self.tell(method, **params)
        answer = json.loads(self.incoming.readline())
        assert (answer["jsonrpc"], answer["id"]) == ("2.0", self.number), answer
        return answer

    def result(self, method, **params):
        """The result of what is not refused."""
        answer = self.ask(method, **params)
        assert "error" not in answer, answer
        return answer["result"]

    def call(self, name, /, **arguments):
        """The result of a call of a tool."""
        return self.result("tools/call", name=name, arguments=arguments)

    def answer(self, name, /, **arguments):
        """What a tool answers; it must not be refused."""
        result = self.call(name, **arguments)
        assert not result.get("isError"), result
        return result["structuredContent"]


class WireBeside(Wire):
    """A server on a thread of this process."""

    def __init__(self, place, **options):
        server = make_server(place, **options)
        theirs, ours = os.pipe(), os.pipe()
        streams = os.fdopen(theirs[0], "rb"), os.fdopen(ours[1], "wb")
        self.thread = threading.Thread(
            target=serve_streams, args=(server, *streams), daemon=True
        )
        self.streams = streams
        self.thread.start()
        super().__init__(os.fdopen(theirs[1], "wb"), os.fdopen(ours[0], "rb"))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.outgoing.close()
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()
        for each in (*self.streams, self.incoming):
            each.close()


class WireElsewhere(Wire):
    """A server in a process of its own."""

    def __init__(self, *words):
        command = [sys.executable, "-W", "ignore", "-m", "taskorch", "mcp", *words]
        self.process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        super().__init__(self.process.stdin, self.process.stdout)

    def end(self, *, kill=False):
        """Kill it, or go away as a client that was killed does."""
        if kill:
            self.process.kill()
        self.outgoing.close()
        self.process.wait(PATIENCE)
        self.incoming.close()
