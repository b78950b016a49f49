"""Workers over HTTP: how many tasks eight of them do, each a process of its own."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from benchmarks._figures import Goal, Row, Samples, Unit
from benchmarks._registry import Run, case
from benchmarks._timing import time_once
from taskorch import Task, TaskOrchestrator

_WORKERS = 8
#: Attempts that each has at once: so many ends fit into one message.
_AT_ONCE = 32
_NEEDS = ("starlette", "uvicorn", "prometheus_client")


def nothing(payload: object) -> None:
    """What the workers do."""


def _agent(number: int, url: str, token: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "taskorch", "agent"]
    command += ["--agent-id", f"agent_{number}", "--orchestrator-endpoint", url]
    command += ["--log-file", os.devnull, "--max-concurrency", str(_AT_ONCE)]
    command += ["--call", f"noop={__name__}:nothing"]
    env = {**os.environ, "TASKORCH_TOKEN": token}
    return subprocess.Popen(command, cwd=Path(__file__).parents[2], env=env)


@case("http-agents", needs=_NEEDS)
def agents(run: Run) -> Iterator[Row]:
    """Tasks that do nothing, through eight workers on loopback."""
    from taskorch.ext.service import create_app, serve

    token = secrets.token_urlsafe(32)
    count = run.size(10_000, quick=200)
    rounds = min(run.pairs, 5)
    rates: list[float] = []
    orch = TaskOrchestrator(unknown_capability="wait", concurrency=_WORKERS * _AT_ONCE)
    app = create_app(orch, token=token, agents=True)
    with orch, serve(app, port=0) as server, ExitStack() as stack:
        for number in range(_WORKERS):
            process = _agent(number, server.url, token)
            stack.callback(process.wait)
            stack.callback(process.terminate)

        def work() -> None:
            orch.submit_tasks([Task("noop") for _ in range(count)])
            orch.wait()

        _await_workers(orch)
        for _ in range(rounds + 1):
            rates.append(count / time_once(work))
    rate = Samples.of(rates[1:], Unit.PER_SECOND)
    yield Row(
        what=f"HTTP: tasks through {_WORKERS} agents",
        ours=rate,
        goal=Goal(1_500, Unit.PER_SECOND, at_least=True),
        note=f"{count:,} that do nothing, through processes on this machine, each with "
        f"{_AT_ONCE} at once; from the submission to the last end",
    )


def _await_workers(orch: TaskOrchestrator) -> None:
    """Until all have come: each has done something."""
    while len(orch.get_stats().agents) <= _WORKERS:
        orch.submit_tasks([Task("noop") for _ in range(_WORKERS)])
        orch.wait()
