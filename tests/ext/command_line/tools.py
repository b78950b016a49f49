"""What the tests of the commands share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.api.tools import Started

from taskorch.ext import command_line as cli

FLOW = """
import time
from taskorch import RetryPolicy, Workflow

flow = Workflow("flow")


def fetch(n):
    if n == 3:
        raise ValueError("no page \\x1b[31m3")
    return n


def flaky():
    raise ConnectionError("gone")


pages = [flow.task(fetch, n, id=f"page-{n}") for n in range(5)]
flow.task(sum, pages, id="total")
flow.program(["sh", "-c", "echo said; exit 3"], id="prog")
flow.task(flaky, id="flaky", retry=RetryPolicy(max_attempts=2, delays=[0.001]))
"""


def taskorch(capsys, *words):
    """The exit code, the output and the errors of a command, in this process."""
    try:
        code = cli.main([str(word) for word in words])
    except SystemExit as stop:
        code = stop.code
    said = capsys.readouterr()
    return code, said.out, said.err


def forget(folder):
    """What was imported from *folder*, as in another process."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file is not None and Path(file).is_relative_to(folder):
            del sys.modules[name]


def told(text):
    """The JSON of each line."""
    return [json.loads(line) for line in text.splitlines()]


def started(*words: object, cwd: Path | None = None, **env: str):
    """A command in a process of its own."""
    return Started(
        [sys.executable, "-W", "ignore", "-m", "taskorch", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **env},
    )


def read_until(process: subprocess.Popen[str], said: str) -> None:
    """Read what a command prints, to a line that has *said*; it may have ended before."""
    assert process.stdout is not None
    assert process.stderr is not None
    for line in process.stdout:
        if said in line:
            return
    raise AssertionError(process.stderr.read())
