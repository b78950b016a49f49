"""What is loaded when it is first asked for is not loaded while the lock is held."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import taskorch

#: Says which modules of ours are loaded by somebody who holds the lock.
WATCH = """
import os, sys, threading
from taskorch import Task, TaskOrchestrator

PATIENCE = 10
found = []


class Finder:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] != "taskorch":
            return
        # Others let it go in a moment; whoever loads this does not meanwhile.
        if orch._rt.lock.acquire(timeout=PATIENCE):
            orch._rt.lock.release()
        else:
            found.append(name)


def fail():
    raise ValueError


# Each child has loaded what a program has that has asked for nothing yet.
TaskOrchestrator()
for asked in sys.argv[1:]:
    if os.fork():
        os.wait()
        continue
    orch = TaskOrchestrator(concurrency=1)
    sys.meta_path.insert(0, Finder())
    orch.start()
    exec(asked)
    orch.stop(drain=False)
    print(found, flush=True)
    os._exit(0)
"""
ASKED = {
    "status": "orch.submit(pow, 2, 2).status",
    "explain": "orch.submit_task(Task.call(pow, 2, 2, id='one')); orch.explain('one')",
    "stuck": "orch.stuck()",
    "health": "orch.health()",
    "get_stats": "orch.get_stats()",
    "tasks": "list(orch.tasks())",
    "hold_starts": "orch.hold_starts('why'); orch.release_starts()",
    "questions": "orch.questions()",
    "rerun": (
        "orch.submit_task(Task.call(pow, 2, 2, id='one')).result(60); "
        "orch.rerun_task('one')"
    ),
    "rerun of a run": (
        "from taskorch import Workflow; flow = Workflow('flow'); "
        "flow.task(fail, id='one'); orch.workflows.start(flow, id='run'); "
        "orch.wait(60); orch.workflows.restart('run')"
    ),
    "failure": (
        "from taskorch.ext.questions import failure_of; "
        "orch.submit_task(Task.call(fail, id='one')).exception(60); "
        "failure_of(orch._rt, 'one')"
    ),
    "failures": "orch.submit(fail).exception(60); orch.failures()",
    "left at the end": (
        "gate = threading.Event(); orch.submit(gate.wait, 60); "
        "orch.submit(pow, 2, 2); threading.Timer(0.1, gate.set).start(); "
        "orch.stop(drain=False)"
    ),
}


def test_nothing_is_loaded_under_the_lock():
    ended = subprocess.run(
        [sys.executable, "-c", WATCH, *ASKED.values()],
        capture_output=True,
        text=True,
        check=True,
    )
    found = dict(zip(ASKED, ended.stdout.splitlines(), strict=True))
    assert found == dict.fromkeys(ASKED, "[]"), ended.stderr


#: An import of ours, with how far it is indented; or another line that begins a block.
LINE = re.compile(r"^( *)from (taskorch[.\w]+) import|^(\w.*)", re.MULTILINE)


def late_imports():
    """Files of other rooms that code of ours may be the first to import: room, file."""
    root = Path(taskorch.__file__).parent
    # Commands and documents are read by one thread.
    alone = {
        *("channel", "command_line", "incoming", "joblib", "jobs", "mcp", "people"),
        *("pools", "remote_workers", "service", "suites", "task_files", "wfformat"),
    }
    # These are loaded late as a whole, by whichever thread is the first.
    late = {"views", "runs"}
    for path in root.rglob("*.py"):
        first, *parts = path.relative_to(root).parts
        place = parts[0] if parts and first in {"api", "core", "ext"} else first
        if place in alone:
            continue
        own = ".".join(("taskorch", *path.relative_to(root).parts[:-1]))
        block, imported = "", set()
        for indent, name, other in LINE.findall(path.read_text()):
            block = other or block
            room, _, file = name.rpartition(".")
            if not indent:
                imported.add(name)
            is_late = bool(indent) or place in late
            if not name or not is_late or "TYPE_CHECKING" in (indent and block):
                continue
            # In a module, the room stands before its files.
            is_first = bool(indent) or room not in imported
            is_other = room.startswith("taskorch.") and not own.startswith(room)
            if is_first and is_other:
                yield room, file


def test_two_threads_that_need_a_room_for_the_first_time_do_not_wait_for_each_other():
    """
    Whoever imports a room waits for its files, and whoever imports a file for its room.

    So a room that loads a file at once is imported before that: `from room import _file`.
    """
    used = """
import sys
from taskorch import TaskOrchestrator
with TaskOrchestrator() as orch:
    orch.submit(pow, 2, 2).result(60)
known = set(sys.modules)
for place in sys.argv[1:]:
    room, _, file = place.rpartition(".")
    if room not in known:
        __import__(room)
        if place in sys.modules:
            print(place)
"""
    places = sorted({f"{room}.{file}" for room, file in late_imports()})
    assert places

    ended = subprocess.run(
        [sys.executable, "-c", used, *places],
        capture_output=True,
        text=True,
        check=True,
    )

    assert ended.stdout == ""
