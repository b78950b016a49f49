"""`python -m taskorch` shows what it does, with nothing installed besides."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.api.tools import Started

from taskorch import TaskState
from taskorch.ext.views import JournalReader


@contextmanager
def demo(folder: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    with Started(
        [sys.executable, "-m", "taskorch", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "TMPDIR": str(folder), "NO_COLOR": "1"},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def output(process: subprocess.Popen[str]) -> str:
    text, _ = process.communicate(timeout=120)
    return text


@pytest.mark.slow("a demo in a process of its own")
@pytest.mark.parametrize("words", [(), ("demo",)])
def test_what_was_killed_goes_on_and_nothing_is_done_twice(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    with demo(tmp_path, *words) as process:
        text = output(process)
    assert process.returncode == 0, text
    assert "kill -9" in text
    assert "5 steps in two incarnations, 0 of them done twice" in text
    killed, _, after = text.partition("kill -9")
    steps = re.findall(r"completed  (.*)", killed)
    later = re.findall(r"completed  (.*)", after)
    assert steps
    assert later[-1] == "load"
    assert sorted(steps + later) == [
        *(f"extract {store}" for store in ("berlin", "lagos", "lima", "osaka")),
        "load",
    ]
    assert "Send the report?" in text
    (journal,) = tmp_path.glob("taskorch-demo-*/night.db")
    assert f"taskorch answer {journal} tonight/send CHOICE --by NAME" in text
    assert f"taskorch inspect {journal}" in text
    reader = JournalReader(journal)
    assert reader.get_task_status("tonight/load").state is TaskState.COMPLETED
    assert reader.get_task_status("tonight/send").state is TaskState.BLOCKED


@pytest.mark.slow("a demo in a process of its own")
def test_its_dashboard_answers_until_it_is_interrupted(tmp_path: Path) -> None:
    pytest.importorskip("starlette")
    with demo(tmp_path, "demo", "--stay") as process:
        out: Any = process.stdout
        address = next(
            match[0] for each in out if (match := re.search(r"http://\S+", each))
        )
        with urllib.request.urlopen(address, timeout=60) as answer:
            assert b"<title>" in answer.read()
        process.send_signal(signal.SIGINT)
        text = output(process)
    assert process.returncode == 0, text
    assert "Traceback" not in text
