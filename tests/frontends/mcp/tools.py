"""Clients of the library, over the standard streams and over HTTP."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import asynccontextmanager

import pytest
from tests.integration.tools import PATIENCE

pytest.importorskip("mcp")
import httpx2
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

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
async def at_service(service, token=None):
    """A client of `/mcp` of a service."""
    token = service.token if token is None else token
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=PATIENCE) as http,
        Client(
            streamable_http_client(f"{service.server.url}/mcp", http_client=http)
        ) as client,
    ):
        yield client


async def call(client, name, **arguments):
    """What a tool answers; it must not be refused."""
    answer = await client.call_tool(name, arguments)
    assert not answer.is_error, answer
    return answer.structured_content
