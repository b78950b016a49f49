"""What the tests of the orchestrator share."""

import asyncio
import functools
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import attrs

from taskorch import JournalTakenError, TaskOrchestrator
from taskorch.api.journal import SqliteJournal
from taskorch.protocols import Entry

#: Seconds after which a test that should long be over fails.
PATIENCE = 60.0


@contextmanager
def uncollected() -> Iterator[None]:
    """Without the collector of garbage, what is part of a ring stays for ever."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def end(process: subprocess.Popen[Any]) -> None:
    """
    Kill a program that a test has not seen to its end.

    One of Python says before that where each of its threads stands, if it runs with
    `PYTHONFAULTHANDLER`: on its standard error, which is shown where it is a pipe.
    """
    if process.poll() is None:
        process.send_signal(signal.SIGABRT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(1)
    process.kill()


class Started(subprocess.Popen[Any]):
    """
    A program beside a test, which is killed where the test fails in its block.

    One of `subprocess` is waited for, and may wait itself for what the test would do next:
    the failure is a hang then, of which only the limit of the test is told.
    """

    def __init__(self, words: Any, **options: Any) -> None:
        given = options.get("env")
        env = dict(os.environ if given is None else given)
        super().__init__(words, **options | {"env": {**env, "PYTHONFAULTHANDLER": "1"}})

    def __exit__(self, kind: type[BaseException] | None, *failure: object) -> None:
        if kind is not None:
            end(self)
            if self.stderr is not None and not self.stderr.closed:
                # What it has started may hold the pipe, which has no end then.
                os.set_blocking(self.stderr.fileno(), False)
                with suppress(BlockingIOError):
                    said = os.read(self.stderr.fileno(), 1 << 20)
                    print(said.decode(errors="replace"), file=sys.stderr)
        super().__exit__(kind, *failure)


#: Incarnations of a program in forks of one interpreter, which starts once for all of them.
_FORKS = """
import os, signal, sys
from pathlib import Path
import program, taskorch

# What an orchestrator needs is loaded once for all of them.
taskorch.TaskOrchestrator()
for place in sys.argv[1:]:
    Path(place).mkdir()
    child = os.fork()
    if child == 0:
        try:
            {before}
            program.live(Path(place).absolute())
        finally:
            os._exit(1)
    killed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert killed == -signal.SIGKILL, (place, killed)
"""


def killed_in_forks(folder: Path, before: str, places: Sequence[str]) -> None:
    """Let the program of a *folder* live, and kill itself, in a folder for each place."""
    subprocess.run(
        [sys.executable, "-c", _FORKS.format(before=before), *places],
        cwd=folder,
        timeout=PATIENCE,
        check=True,
    )


class Hold:
    """A function that runs until it is let go, and says when it began."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.go = threading.Event()
        self.calls = 0

    def __call__(self, value: Any = None) -> Any:
        self.calls += 1
        self.began.set()
        assert self.go.wait(PATIENCE), "nobody let it go"
        return value

    def wait(self) -> None:
        assert self.began.wait(PATIENCE), "it never began"

    def release(self) -> None:
        self.go.set()


class Slow(SqliteJournal):
    """A journal whose `append` waits while it is told to."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, durability="process")
        self.go = threading.Event()
        self.go.set()
        self.waits = threading.Event()

    def append(self, epoch: int, group: Sequence[Entry]) -> None:
        if not self.go.is_set():
            self.waits.set()
            assert self.go.wait(PATIENCE)
        super().append(epoch, group)


class Recorder:
    """Receives events and keeps them, in order."""

    def __init__(self, orch: Any, *names: str) -> None:
        self.events: list[Any] = []
        self._changed = threading.Condition()
        for name in names:
            getattr(orch.signals, name).connect(self._receive)

    def _receive(self, event: Any) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def names(self) -> list[str]:
        return [type(event).__name__ for event in self.events]

    def of(self, task_id: str) -> list[str]:
        return [
            type(event).__name__ for event in self.events if event.task_id == task_id
        ]

    def wait_for(self, count: int) -> list[Any]:
        """The events, once there are so many."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.events) >= count, PATIENCE)
            return list(self.events)


def threads_since(before: set[threading.Thread]) -> list[str]:
    """The names of the threads of ours that were not there before."""
    return [
        thread.name
        for thread in threading.enumerate()
        if thread.name.startswith("taskorch") and thread not in before
    ]


def in_loop(test: Callable[..., Any]) -> Callable[..., None]:
    """Run an async test, within bounds."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(PATIENCE):
                await test(*args, **kwargs)

        asyncio.run(bounded())

    return run


def eventually(
    event: Callable[[], Any], what: str = "", patience: float = PATIENCE
) -> None:
    """Poll for a fact of the operating system's, which sends no event."""
    end = time.monotonic() + patience
    pause = 0.002
    while not event():
        assert time.monotonic() < end, what or "it never came to that"
        time.sleep(pause)
        pause = min(1.1 * pause, 0.01)


def begun(make: Callable[[], TaskOrchestrator]) -> TaskOrchestrator:
    """
    What *make* makes, started, once nobody has its journal any more.

    Who was stopped without time to end has it a moment longer.
    """
    started: list[TaskOrchestrator] = []

    def is_begun() -> bool:
        # One that has not got the journal cannot be started again.
        orch = make()
        with suppress(JournalTakenError):
            orch.start()
            started.append(orch)
        return bool(started)

    eventually(is_begun)
    return started[0]


def part(orch: Any, name: str) -> Any:
    """What the health of *orch* says of one of its parts."""
    return next(check for check in orch.health().checks if check.component == name)


def fail(error: BaseException) -> None:
    """A task that fails."""
    raise error


def pass_time(orch: Any, seconds: int) -> None:
    """Let the clock of *orch* be later, and let it notice."""
    now = orch._rt.now
    orch._rt.now = lambda: now() + seconds * 1_000_000_000
    with orch._rt.lock:
        orch._rt.timer.wake_by(0)


def short_grace(orch: Any, seconds: float = 0.05) -> Any:
    """Let *orch* give up soon on work that does not stop."""
    kernel = orch._rt.kernel
    config = attrs.evolve(kernel.config, grace_ns=int(seconds * 1e9))
    kernel.config = orch._rt._config = config
    return orch
