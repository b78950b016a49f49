"""
The ways of a task, counted: `python tests/house/tools/ways.py`.

Counted are the calls of functions of ours, the changes from a file to another one by a
call or a return, and the files. They are the same on every machine: there is one worker;
a thread keeps the interpreter until it waits; and only the caller and the worker are
counted, not the threads that wait for times or tell receivers of events. It prints a line
for each way, and the numbers of our modules that the facade and a plain program load.
"""

from __future__ import annotations

import gc
import itertools
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

import taskorch
from taskorch import (
    RetryPolicy,
    SqliteJournal,
    Task,
    TaskHandle,
    TaskOrchestrator,
    Workflow,
)

ROOT: Final = f"{Path(taskorch.__file__).parent}{os.sep}"
PATIENCE: Final = 60
#: How often each way is gone before it is counted, and how often it is counted.
WARM: Final = 3
ROUNDS: Final = 5
#: Seconds for which a thread keeps the interpreter that does not wait: for ever.
UNDISTURBED: Final = 10_000.0


class Walk:
    """What the caller and the worker do: a function for `sys.setprofile`."""

    def __init__(self) -> None:
        self.caller = threading.get_ident()
        self.worker = 0
        #: The thread that tells receivers, if there are any, and what it has told.
        self.publisher = 0
        self.told = threading.Semaphore(0)
        #: The functions of ours that a thread is in, the innermost last.
        self._stacks: dict[int, list[CodeType]] = defaultdict(list)
        #: The threads that wait for a lock, as far as they have come.
        self._waiting: set[int] = set()
        self._counts = False
        self._is_over = threading.Event()
        self._calls = self._changes = 0
        self._files: set[str] = set()

    def __call__(self, frame: FrameType, event: str, arg: Any) -> None:
        code = frame.f_code
        # A comprehension is a call in some versions of Python, and none in others.
        if not code.co_filename.startswith(ROOT) or code.co_name.startswith("<"):
            return
        thread = threading.get_ident()
        if self._counts and thread == self.publisher:
            # It was woken: whether before the worker goes on or after that is chance.
            self._is_over.wait(PATIENCE)
        if event == "c_call" and arg.__name__ == "acquire":
            self._waiting.add(thread)
        else:
            self._waiting.discard(thread)
        counts = self._counts and thread in {self.caller, self.worker}
        stack = self._stacks[thread]
        if event == "call":
            if counts:
                self._calls += 1
                self._files.add(code.co_filename)
                self._changes += _is_change(stack, code)
            stack.append(code)
        elif event == "return":
            if stack:
                stack.pop()
            if counts:
                self._changes += _is_change(stack, code)

    def count(self, way: Callable[[], object]) -> str:
        """Count a call of *way*, and what the worker does until it waits again."""
        self._calls = self._changes = 0
        self._files.clear()
        self._stacks[self.caller].clear()
        self._is_over.clear()
        sys.setprofile(self)
        self._counts = True
        way()
        sys.setprofile(None)
        if self.worker:
            self._await(self.worker)
        self._counts = False
        self._is_over.set()
        if self.publisher:
            self.await_publisher()
        return (
            f"{self._calls} calls, {self._changes} changes of file, "
            f"{len(self._files)} files"
        )

    def await_publisher(self) -> None:
        """Wait until the receiver was told of a task, and nobody tells anything."""
        assert self.told.acquire(timeout=PATIENCE), "the receiver was told nothing"
        self._await(self.publisher)

    def tell(self, _event: object) -> None:
        """Be a receiver of events."""
        self.publisher = threading.get_ident()
        self.told.release()

    def _await(self, thread: int) -> None:
        # It keeps the interpreter until it waits: it does not go on meanwhile.
        end = time.monotonic() + PATIENCE
        while thread not in self._waiting:
            assert time.monotonic() < end, "a thread did not come to wait"
            time.sleep(0.001)


def _is_change(stack: list[CodeType], code: CodeType) -> bool:
    """Whether *code* is in another file than the innermost function of *stack*."""
    return bool(stack) and stack[-1].co_filename != code.co_filename


# -- the ways --------------------------------------------------------------------------

TWICE: Final = RetryPolicy(max_attempts=2)
Way = Callable[[TaskOrchestrator, int], object]
WAYS: Final[dict[str, Way]] = {}


def way(name: str) -> Callable[[Way], Way]:
    return lambda function: WAYS.setdefault(name, function)


def same(value: Any) -> Any:
    return value


@way("submit(f, 1)")
def _submit(orch: TaskOrchestrator, turn: int) -> None:
    orch.submit(same, turn).result(PATIENCE)


@way("a batch of ten")
def _batch(orch: TaskOrchestrator, _turn: int) -> None:
    for handle in orch.submit_tasks([Task.call(same, n) for n in range(10)]):
        handle.result(PATIENCE)


@way("a map of ten")
def _map(orch: TaskOrchestrator, _turn: int) -> None:
    assert len([*orch.map(same, range(10))]) == 10


@way("a workflow of two")
def _workflow(orch: TaskOrchestrator, turn: int) -> None:
    flow = Workflow("flow")
    first = flow.task(same, 1, id="first")
    flow.task(same, first, id="second")
    orch.workflows.start(flow, id=f"run{turn}").result(PATIENCE)


@way("a durable call")
def _durable(orch: TaskOrchestrator, turn: int) -> None:
    orch.submit_task(Task.call(pow, 2, turn, id=f"task{turn}")).result(PATIENCE)


@way("a task with id, timeout, deadline and retry")
def _with_options(orch: TaskOrchestrator, turn: int) -> None:
    name = f"task{turn}"
    task = Task.call(same, turn, id=name, timeout=600, deadline=6000, retry=TWICE)
    orch.submit_task(task).result(PATIENCE)


@way("submit(f, 1), with a receiver")
def _with_receiver(orch: TaskOrchestrator, turn: int) -> None:
    orch.submit(same, turn).result(PATIENCE)


# -- counting --------------------------------------------------------------------------


@contextmanager
def orchestrator(name: str, walk: Walk) -> Iterator[TaskOrchestrator]:
    """An orchestrator with one worker that is parked, for the way of that *name*."""
    threading.setprofile(walk)
    try:
        with tempfile.TemporaryDirectory() as folder:
            journal = None
            if "durable" in name:
                journal = SqliteJournal(f"{folder}/journal.db", durability="process")
            with TaskOrchestrator(journal=journal, concurrency=1) as orch:
                walk.worker = orch.submit(threading.get_ident).result(PATIENCE)
                if "receiver" in name:
                    orch.signals.task_completed.connect(walk.tell)
                    orch.submit(same, 0).result(PATIENCE)
                    walk.await_publisher()
                yield orch
    finally:
        threading.setprofile(None)


def counted(name: str) -> str:
    """What a way comes to: in most of a few rounds, should one be disturbed."""
    walk = Walk()
    lines: list[str] = []
    with orchestrator(name, walk) as orch:
        for turn in range(WARM + ROUNDS):
            lines.append(walk.count(partial(WAYS[name], orch, turn)))
    return _usual(lines)


def counted_waiting() -> str:
    """What `result()` of a task comes to that is not done: on the caller's thread."""
    walk = Walk()
    lines: list[str] = []
    with orchestrator("", walk) as orch:
        walk.worker = 0
        for _ in range(WARM + ROUNDS):
            gate = Gate()
            handle = orch.submit(gate.work)
            lines.append(gate.count(walk, handle))
    return _usual(lines)


class Gate:
    """A task that ends once its caller waits for it."""

    def __init__(self) -> None:
        self._runs, self._waits, self._opens = (threading.Event() for _ in range(3))

    def work(self) -> None:
        self._runs.set()
        self._opens.wait(PATIENCE)

    def _open(self) -> None:
        self._waits.wait(PATIENCE)
        self._opens.set()

    def count(self, walk: Walk, handle: TaskHandle[None]) -> str:
        opener = threading.Thread(target=self._open)
        opener.start()
        self._runs.wait(PATIENCE)
        # The caller keeps the interpreter until it waits: only then it is opened.
        self._waits.set()
        line = walk.count(partial(handle.result, PATIENCE))
        opener.join()
        return line


def _usual(lines: list[str]) -> str:
    return Counter(lines[WARM:]).most_common(1)[0][0]


FACADE: Final = "from taskorch import TaskOrchestrator"
PLAIN: Final = f"""{FACADE}
with TaskOrchestrator() as orch:
    orch.submit(pow, 2, 10).result()
    assert sum(orch.map(abs, [1, 2])) == 3
"""


def modules(program: str) -> int:
    """How many modules of ours *program* loads."""
    code = (
        f"import sys\n{program}\n"
        "print(sum(f'{name}.'.startswith('taskorch.') for name in sys.modules))"
    )
    words = [sys.executable, "-c", code]
    return int(subprocess.run(words, check=True, capture_output=True).stdout)


def main() -> None:
    gc.disable()
    sys.setswitchinterval(UNDISTURBED)
    # Whether tasks of a type were long decides their order: each takes microseconds.
    time.monotonic_ns = itertools.count(time.monotonic_ns(), 1000).__next__
    for name in WAYS:
        print(f"{name}: {counted(name)}")
    print(f"result() of a task that is not done: {counted_waiting()}")
    print(f"{FACADE}: {modules(FACADE)} modules")
    print(f"a program of a submit and a map: {modules(PLAIN)} modules")


if __name__ == "__main__":
    main()
