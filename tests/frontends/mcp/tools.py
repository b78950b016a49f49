"""Clients of the library, over the standard streams and over HTTP."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import asynccontextmanager
from typing import Literal

import pytest
from tests.integration.tools import PATIENCE

pytest.importorskip("mcp")
import httpx2
from mcp import Client, StdioServerParameters, types
from mcp.client.extension import ClientExtension, ResultClaim
from mcp.client.streamable_http import streamable_http_client
from pydantic import ConfigDict

from taskorch.frontends.mcp._waits import EXTENSION

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
