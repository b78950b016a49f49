"""What tests have done in worker processes, which find it by the name of this module."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from taskorch import current_context
from taskorch.api.executors.remote import HERE
from taskorch.errors import AttemptInterrupted
from taskorch.ext.logs import log_context

_LOG = logging.getLogger("tests.workers")


def until(path: str) -> None:
    """Wait until there is a file."""
    while not Path(path).exists():
        time.sleep(0.002)


def began() -> None:
    """Say so, with the number of this process."""
    current_context().progress(os.getpid())


def wait_for(path: str) -> int:
    began()
    until(path)
    return os.getpid()


def sleep(seconds: float = 3600.0) -> None:
    began()
    time.sleep(seconds)


def about() -> dict[str, Any]:
    context = current_context()
    return {
        "pid": os.getpid(),
        "task_id": context.task_id,
        "attempt": context.attempt,
        "fence": context.fence,
        "results": dict(context.results),
        "allocation": dict(context.allocation),
        "restored": context.restored,
        "cancelled": context.cancelled,
        "time_left": context.time_left,
        "workflow": context.workflow,
        "log": log_context(),
    }


def asks_for_its_workflow() -> Any:
    return current_context().workflow


def handler(task: Any, context: Any) -> tuple[Any, ...]:
    return task.type, task.payload, context.task_id, current_context() is context


def asks_until_cancelled(path: str) -> str:
    context = current_context()
    began()
    while not context.cancelled:
        time.sleep(0.002)
    Path(path).write_text("was told", encoding="utf-8")
    return "returned"


def counts(to: int) -> tuple[int, int]:
    """Go on where the last attempt stopped, and fail once in the middle."""
    context = current_context()
    begin = context.restored or 0
    for number in range(begin + 1, to + 1):
        context.checkpoint(number)
        if number == to // 2 and context.attempt == 1:
            raise OSError
    return begin, context.restored


def checkpoints(path: str) -> str:
    """Checkpoint until told to stop."""
    began()
    context = current_context()
    try:
        while not Path(path).exists():
            context.checkpoint(os.getpid())
    except AttemptInterrupted as error:
        context.log.info("stopped: %s", error)
        raise
    return str(context.restored)


def checkpoints_what_cannot_be_sent() -> None:
    current_context().checkpoint(threading.Lock())


def logs(text: str) -> None:
    _LOG.debug("quiet")
    _LOG.warning("%s of %s", text, "tests")
    current_context().log.info("adapted")
    _LOG.warning("strange", extra={"lock": threading.Lock(), "number": 5})
    try:
        raise ValueError(text)
    except ValueError:
        _LOG.exception("caught")


def prints(text: str) -> None:
    print(text)
    os.write(1, b"raw\n")
    print(text, file=sys.stderr)


def on_all_descriptors(act: str) -> None:
    for fd in range(3, 256):
        try:
            if act == "write":
                os.write(fd, b"this is no frame, and long enough to be taken for one")
            else:
                os.close(fd)
        except OSError:
            continue
    time.sleep(3600)


def writes_rubbish(go: str, rubbish: bytes, done: str) -> None:
    """Over every descriptor, once it may; then say so."""
    until(go)
    for fd in range(3, 256):
        with suppress(OSError):
            os.write(fd, rubbish)
    Path(done).touch()


def writes_rubbish_and_sleeps(go: str, rubbish: bytes) -> None:
    writes_rubbish(go, rubbish, go)
    time.sleep(3600)


def is_cancelled() -> tuple[int, bool]:
    """Who makes the call, and whether it is told to end."""
    return os.getpid(), current_context().cancelled


def wait_and_return(path: str, value: Any) -> Any:
    until(path)
    return value


def says_and_sleeps(path: str) -> None:
    Path(path).touch()
    time.sleep(3600)


def leave(code: int) -> None:
    os._exit(code)


def kill_self(number: int = signal.SIGKILL) -> None:
    os.kill(os.getpid(), number)
    time.sleep(3600)


def exit_politely() -> None:
    sys.exit(4)


def returns_lock() -> Any:
    return threading.Lock()


def returns_bytes(size: int) -> bytes:
    return bytes(size)


def size_of(data: bytes) -> int:
    return len(data)


class OwnInitError(ConnectionError):
    """As many are: it cannot be unpickled."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(111, f"{host}:{port} refuses")
        self.port = port


def raises_own_init(attempts: int) -> int:
    """Until the last of *attempts*, whose number it returns."""
    if current_context().attempt < attempts:
        raise OwnInitError("db", 5432) from KeyError("cause")
    return attempts


class Plain:
    """Its text has its address."""


def raises_an_object() -> None:
    raise ValueError(Plain())


class LockedError(Exception):
    """Holds what cannot be sent."""

    def __init__(self) -> None:
        super().__init__("no entry")
        self.lock = threading.Lock()


def raises_locked() -> None:
    raise LockedError


class LargeError(Exception):
    pass


def raises_bytes(size: int) -> None:
    raise LargeError("x" * size)


class Explodes:
    """Cannot be unpickled anywhere."""

    def __reduce__(self) -> Any:
        return _explode, ()


def _explode() -> None:
    msg = "not here"
    raise RuntimeError(msg)


class LeavesAsItComes:
    def __reduce__(self) -> Any:
        return leave, (7,)


def forks() -> int:
    """The child comes to the end of the call as well."""
    if os.fork() == 0:
        return 13
    os.wait()
    return 12


def forks_a_sleeper() -> int:
    pid = os.fork()
    if pid == 0:
        time.sleep(3600)
    return pid


def ignores_the_end() -> None:
    began()
    while True:
        try:
            time.sleep(3600)
        except BaseException:
            continue


def speaks_late(path: str) -> None:
    """A thread goes on after the end, and speaks of it."""
    context = current_context()

    def late() -> None:
        until(path)
        context.progress("late")
        try:
            context.checkpoint("late")
        except AttemptInterrupted as error:
            # Who waits for the file finds it whole.
            said = Path(f"{path}.part")
            said.write_text(str(error), encoding="utf-8")
            said.rename(f"{path}.said")

    threading.Thread(target=late, daemon=True).start()


def tells(task_id: str, attempt: int, path: str | None = None) -> str:
    """As a context does, of which an attempt of a test has none."""
    link = HERE.link
    assert link is not None
    if path is not None:
        until(path)
    else:
        link.tell("progress", (task_id, attempt), 5)
    try:
        link.ask("checkpoint", (task_id, attempt), 6)
    except RuntimeError as error:
        return f"RuntimeError: {error}"
    return ""


def logs_later(path: str) -> None:
    _LOG.info("cannot be read", extra={"thing": Explodes()})

    def late() -> None:
        until(path)
        _LOG.info("after the end")

    threading.Thread(target=late, daemon=True).start()


def works(fails: bool) -> int:
    """Some hundredths of a second of processor."""
    total = sum(n * n for n in range(300_000))
    if fails:
        raise ValueError("no")
    return total
