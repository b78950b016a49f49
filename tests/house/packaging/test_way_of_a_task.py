"""The page on the way of a task names functions, and tasks go through them."""

from __future__ import annotations

import asyncio
import re
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import taskorch
from taskorch import RetryPolicy, Task, TaskOrchestrator, Workflow

ROOT = Path(taskorch.__file__).parent
PAGE = Path(__file__).parents[3] / "docs" / "explanation" / "way-of-a-task.md"


def named() -> set[tuple[str, str]]:
    """The files of the page, each with a function that stands behind it."""
    names: set[tuple[str, str]] = set()
    file = ""
    for word in re.findall(r"`([\w/.]+)`", PAGE.read_text()):
        if word.endswith(".py"):
            file = word
        elif file and re.search(
            rf"^ *def {word}\(", (ROOT / file).read_text(), re.MULTILINE
        ):
            names.add((file, word))
    return names


def test_each_file_of_the_page_is_there_with_a_function_of_it() -> None:
    files = set(re.findall(r"`([\w/]+\.py)`", PAGE.read_text()))
    assert files == {file for file, _ in named()}


def test_each_function_of_the_page_is_there() -> None:
    """Also those that stand behind no file, or behind another one of the same file."""
    names = set(re.findall(r"`([a-z_]+)`", PAGE.read_text()))
    sources = (path.read_text(encoding="utf-8") for path in ROOT.rglob("*.py"))
    functions = {name for text in sources for name in re.findall(r"def (\w+)\(", text)}
    assert names - functions == set()


def test_tasks_go_through_all_functions_of_the_page(tmp_path: Path) -> None:
    seen: set[tuple[str, str]] = set()
    root = f"{ROOT}/"

    def note(frame: FrameType, event: str, _arg: Any) -> None:
        path = frame.f_code.co_filename
        if event == "call" and path.startswith(root):
            seen.add((path.removeprefix(root), frame.f_code.co_name))

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        for journal in (None, tmp_path / "journal.db"):
            with TaskOrchestrator(journal=journal, keep_finished=2) as orch:
                orch.agent("one", capabilities={"work"})(lambda task, _: task.payload)
                retry = RetryPolicy(max_attempts=2)
                flow = Workflow("flow")
                flow.task(abs, -1, id="first")
                assert orch.submit(abs, -1).result() == 1
                assert orch.submit(asyncio.sleep, 0.01, 1).result() == 1
                assert orch.submit(time.sleep, 0.05).result() is None
                assert [*orch.map(abs, [-1, -2, -3])] == [1, 2, 3]
                assert orch.submit_task(Task("work", 1, timeout=60)).result() == 1
                once = Task.call(abs, -1, id="once", deadline=600, retry=retry)
                assert orch.submit_task(once).result() == 1
                assert orch.submit_tasks([once, Task.call(abs, -2)])[1].result() == 2
                assert orch.submit_task(Task.call(abs, "x")).exception() is not None
                orch.workflows.start(flow).result()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]
    assert named() - seen == set()
