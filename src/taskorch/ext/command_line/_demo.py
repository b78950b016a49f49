"""
`taskorch demo`: a small workflow that is killed, goes on, and is explained.

It needs only taskorch: it makes a journal in a new folder, and a process that it kills.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from taskorch.api._orchestrator import TaskOrchestrator
from taskorch.core.workflows import Workflow
from taskorch.ext.command_line import FAILED, OK
from taskorch.ext.command_line._terminal import coloured, in_commands
from taskorch.ext.views import JournalReader
from taskorch.model import Task

#: The seconds of a step, which leave time to kill it.
_STEP: Final = 0.4
#: The number of completed tasks at the time of the kill.
_SOME: Final = 3
#: The seconds that the first process has for that; a busy machine takes some.
_PATIENCE: Final = 60.0
_RUN: Final = "tonight"
_JOURNAL: Final = "night.db"
_CALLS: Final = "calls.txt"
_STORES: Final = ("berlin", "lagos", "lima", "osaka")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.set_defaults(run=_run)
    parser.add_argument(
        "--stay",
        action="store_true",
        help="serve its dashboard until Ctrl-C; needs pip install 'taskorch[serve]'",
    )
    parser.add_argument("--first-life", metavar="FOLDER", help=argparse.SUPPRESS)


# -- tasks: each notes that it was called ----------------------------------------------


def extract(calls: str, store: str) -> int:
    """Return the number of orders of *store*."""
    _note(calls, f"extract {store}")
    return len(store) * 100


def load(calls: str, orders: list[int]) -> int:
    """Return the sum of all *orders*."""
    _note(calls, "load")
    return sum(orders)


def _note(calls: str, what: str) -> None:
    time.sleep(_STEP)
    with Path(calls).open("a", encoding="utf-8") as file:
        file.write(f"{what}\n")


def _night(calls: str) -> Workflow:
    night = Workflow("night")
    counts = [
        night.task(extract, calls, store, id=f"extract-{store}") for store in _STORES
    ]
    total = night.task(load, calls, counts, id="load")
    night.add(
        Task.question("Send the report?", who=["ada"], id="send", after=[total]),
    )
    return night


def _live(folder: Path) -> TaskOrchestrator:
    return TaskOrchestrator(journal=folder / _JOURNAL, concurrency=1)


def _first_incarnation(folder: Path) -> int:
    """Run the workflow in the process that is to be killed."""
    with _live(folder) as orch:
        orch.workflows.start(_night(str(folder / _CALLS)), _RUN)
        orch.wait()
    return OK


# -- output ----------------------------------------------------------------------------


def _run(args: argparse.Namespace) -> int:
    if args.first_incarnation:
        return _first_incarnation(Path(args.first_incarnation))
    folder = Path(tempfile.mkdtemp(prefix="taskorch-demo-"))
    calls = folder / _CALLS
    _head("1. A workflow runs in a process of its own, with a journal")
    _say(f"{folder / _JOURNAL}")
    command = [sys.executable, "-m", "taskorch", "demo", "--first-life", str(folder)]
    with subprocess.Popen(command) as process:  # noqa: S603 - our own
        try:
            shown = _show_some(folder, process)
        finally:
            process.kill()
    if not shown:
        _say("It has not come far enough to be killed; try it again.")
        return FAILED
    before = _lines(calls)
    _steps(before[shown:])
    _head(f"2. kill -9 {process.pid}: the process is gone, in the middle of a step")
    _head("3. The same program again: what was done is not done twice")
    with _live(folder) as orch:
        run = orch.workflows.start(_night(str(calls)), _RUN)
        run.handles["load"].result()
        after = _lines(calls)
        _steps(after[len(before) :])
        twice = len(after) - len(set(after))
        _say(f"{len(set(after))} steps in two incarnations, {twice} of them done twice")
        _head("4. Why does the night not end? orch.explain says it")
        explanation = str(orch.explain(run.handles["send"].task_id))
        if not args.stay:
            # The commands shown are about this journal, which nobody uses then.
            explanation = in_commands(explanation, str(folder / "night.db"))
        for text in explanation.splitlines():
            _say(text)
        return _dashboard(orch, folder, stay=args.stay)


def _show_some(folder: Path, process: subprocess.Popen[Any]) -> int:
    """
    Show the first steps of *process*, and return how many; 0: it failed before one.

    When this returns, the process is stopped in the middle of a step. It is not stopped
    between a step and its commit, because that step would rightly be done again.
    """
    end = time.monotonic() + _PATIENCE
    shown = 0
    while process.poll() is None and time.monotonic() < end:
        time.sleep(0.02)
        steps = _lines(folder / _CALLS)
        _steps(steps[shown:])
        shown = len(steps)
        if shown < _SOME:
            continue
        process.send_signal(signal.SIGSTOP)
        done = JournalReader(folder / _JOURNAL).get_stats().state_machine.completed
        if done == len(_lines(folder / _CALLS)):
            return shown
        process.send_signal(signal.SIGCONT)
    return 0


def _lines(calls: Path) -> list[str]:
    return calls.read_text("utf-8").splitlines() if calls.exists() else []


def _steps(steps: list[str]) -> None:
    for step in steps:
        _say(f"{coloured('completed')}  {step}")


def _head(text: str) -> None:
    print(f"\n{text}", flush=True)


def _say(text: str) -> None:
    print(f"   {text}", flush=True)


def _dashboard(orch: TaskOrchestrator, folder: Path, *, stay: bool) -> int:
    _head("5. Look at it")
    _say(f"taskorch inspect {folder / _JOURNAL}")
    if find_spec("starlette") is None or find_spec("uvicorn") is None:
        _say("A dashboard in the browser: pip install 'taskorch[serve]', then")
        _say("taskorch demo --stay")
        return FAILED if stay else OK
    if not stay:
        _say("A dashboard in the browser: taskorch demo --stay")
        return OK
    with orch.serve(port=0) as server:
        try:
            _say(f"{server.page}   until Ctrl-C")
            _say("Answer the question there, as ada: the night ends.")
            while True:
                time.sleep(3_600)
        except KeyboardInterrupt:
            return OK
