"""
Claims: which of the runners of a workspace does a task.

A runner holds a lock on a file of its own as long as it lives, and so do the programs
that it starts; the system lets go of it when the last of these processes has ended,
however it did. A claim names a runner, and counts: it is alive as long as its runner
is, and nobody else can claim the task until then. So a task is run again only if its
runner died, however long that one was stopped or busy, and only once nothing of it is
left.

What decides is done under a lock that all runners share, for a fraction of a
millisecond: who claims, and whose outcome counts. An outcome whose claim is no longer
the latest one is refused: that is the fence.

Decision: 0040.
"""

from __future__ import annotations

import fcntl
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import attrs

from taskorch._base._staged import Staged
from taskorch.frontends.workspace._layout import WorkspaceLayout
from taskorch.frontends.workspace._ledger import Ledger, LedgerEntry
from taskorch.frontends.workspace._status import Status, read_status

#: The variable by which a program is found that has outlived its runner.
TASK_VARIABLE: Final = "TASK_ID"


class FencedOffError(Exception):
    """The claim is no longer the latest one: its outcome does not count."""


@attrs.frozen
class TaskClaim:
    """
    A task that is ours.

    Attributes:
        task_id: The task.
        fence: Rises with every claim of the task.
    """

    task_id: str
    fence: int


@attrs.frozen
class Held:
    """
    A task that another does.

    Attributes:
        runner: The runner, if it lives.
        pid: The process that must end first: another tool has begun it, or a runner
            that has died.
        is_ours: Whether it was a runner that began it.
    """

    runner: str | None = None
    pid: int | None = None
    is_ours: bool = True


class Claims:
    """The claims of one runner. Nothing is there before `open`."""

    def __init__(self, layout: WorkspaceLayout) -> None:
        self._layout = layout
        self._own = layout.own
        self._ledger = Ledger(layout.own / "claims.jsonl")
        self.runner: str = ""
        self._file = -1
        # What all runners lock; opened when it is needed first.
        self._shared_file = -1
        # A lock of the system is between processes; this one is between our threads.
        self._mutex = threading.Lock()

    def open(self) -> None:
        """Become one of the runners."""
        (self._own / "runners").mkdir(parents=True, exist_ok=True)
        self.runner = f"{os.getpid()}-{os.urandom(4).hex()}"
        path = self._lock_of(self.runner)
        with self._shared():
            is_alone = True
            for other in (self._own / "runners").iterdir():
                if _is_locked(other):
                    is_alone = False
                else:
                    # What a dead one has left.
                    other.unlink(missing_ok=True)
            if is_alone:
                self._ledger.shorten()
            self._file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            # A process that looks whether it is locked holds it for an instant.
            fcntl.flock(self._file, fcntl.LOCK_EX)

    @property
    def files(self) -> tuple[int, ...]:
        """Descriptor of this runner's lock: an open descriptor holds the lock."""
        return (self._file,) if self._file >= 0 else ()

    def close(self) -> None:
        """Be no runner any more, once the programs have ended that hold the lock."""
        if self._file >= 0:
            # The file goes when the next one comes: its lock may still be held.
            os.close(self._file)
            self._file = -1
        self._ledger.close()
        with self._mutex:
            if self._shared_file >= 0:
                os.close(self._shared_file)
                self._shared_file = -1

    def runners(self) -> list[str]:
        """The runners that live, this one included."""
        folder = self._own / "runners"
        if not folder.is_dir():
            return []
        return sorted(p.stem for p in folder.iterdir() if _is_locked(p))

    def claim(self, started: Status) -> TaskClaim | Held | Status:
        """
        Claim a task, whose status file is to say *started* then.

        Returns:
            The claim; or who has it; or what became of it, if it has ended.

        Raises:
            StatusRefusedError: Its status file cannot be believed.
            OSError: Whether another does it cannot be told; or nothing can be written.
        """
        task_id = started.task_id
        with self._shared():
            status = self.status(task_id)
            if status is not None and status.has_ended:
                return status
            entry = self._ledger.entry(task_id)
            runner = entry.runner
            if runner and runner != self.runner and self.is_alive(runner):
                return Held(runner)
            if status is not None and status.status == "running":
                pid = self._process_of(task_id, ours=runner is not None)
                if pid is not None:
                    return Held(None, pid, is_ours=runner is not None)
            fence = entry.fence + 1
            self._ledger.add(task_id, LedgerEntry(fence, self.runner))
            self._put(started)
            return TaskClaim(task_id, fence)

    def is_still(self, task_id: str, held: Held) -> bool:
        """Whether a task is most likely held as it was: a quick look, and no lock."""
        if held.runner is None or not self.is_alive(held.runner):
            return False
        return self._ledger.entry(task_id).runner == held.runner

    def finish(self, claim: TaskClaim, status: Status) -> None:
        """
        Tell what became of a task of ours.

        Raises:
            FencedOffError: It is not ours any more.
        """
        path = self._layout.status(claim.task_id)
        staged = Staged(path, status.to_json())
        try:
            with self._shared():
                self._check(claim)
                staged.commit()
                self._ledger.add(claim.task_id, LedgerEntry(claim.fence))
        except BaseException:
            staged.discard()
            raise

    def give_back(self, claim: TaskClaim) -> None:
        """
        Release a task that has not ended, for any runner to claim.

        Raises:
            FencedOffError: It is not ours any more.
        """
        with self._shared():
            self._check(claim)
            _remove(self._layout.status(claim.task_id))
            self._ledger.add(claim.task_id, LedgerEntry(claim.fence))

    def block(self, task_id: str, by: str) -> None:
        """Mark a task as blocked, unless it is claimed or has ended."""
        with self._shared():
            status = self.status(task_id)
            if status is None or (
                status.status == "blocked" and status.blocked_by != by
            ):
                self._put(Status(task_id, "blocked", blocked_by=by))

    def reset(self, task_id: str, *states: str) -> bool:
        """Reset a task to waiting, if its status is one of *states*."""
        with self._shared():
            path = self._layout.status(task_id)
            try:
                status = self.status(task_id)
            except ValueError:
                # What cannot be believed is in nobody's way.
                _remove(path)
                return True
            if status is None or status.status not in states:
                return False
            _remove(path)
            return True

    def status(self, task_id: str) -> Status | None:
        """
        What the status file of a task says.

        Raises:
            StatusRefusedError: It cannot be believed.
        """
        return read_status(self._layout.status(task_id), task_id)

    def holder(self, task_id: str) -> str | None:
        """
        The living runner that has claimed a task, or None.

        Raises:
            OSError: That cannot be told.
        """
        runner = self._ledger.entry(task_id).runner
        return runner if runner and self.is_alive(runner) else None

    def is_alive(self, runner: str) -> bool:
        """
        Whether a runner lives.

        Raises:
            OSError: That cannot be told.
        """
        return _is_locked(self._lock_of(runner))

    # -- files ---------------------------------------------------------------------

    @contextmanager
    def _shared(self) -> Iterator[None]:
        """Hold what all runners share."""
        with self._mutex:
            if self._shared_file < 0:
                self._own.mkdir(parents=True, exist_ok=True)
                path = self._own / "lock"
                flags = os.O_CREAT | os.O_RDWR | os.O_CLOEXEC
                self._shared_file = os.open(path, flags, 0o600)
            try:
                fcntl.flock(self._shared_file, fcntl.LOCK_EX)
                yield
            finally:
                fcntl.flock(self._shared_file, fcntl.LOCK_UN)

    def _lock_of(self, runner: str) -> Path:
        return self._own / "runners" / f"{runner}.lock"

    def _put(self, status: Status) -> None:
        Staged(self._layout.status(status.task_id), status.to_json()).commit()

    def _check(self, claim: TaskClaim) -> None:
        if self._ledger.entry(claim.task_id) != LedgerEntry(claim.fence, self.runner):
            msg = f"task {claim.task_id} was claimed by another runner meanwhile"
            raise FencedOffError(msg)

    def _process_of(self, task_id: str, *, ours: bool) -> int | None:
        """
        The process of a task whose runner is gone, if it lives.

        One that a runner of ours had begun has our mark.
        """
        try:
            pid = int(self._layout.pid(task_id).read_text().strip())
        except (FileNotFoundError, ValueError):
            return None
        if not _is_process(pid):
            return None
        if not ours:
            return pid
        try:
            variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            # It has ended, or is none of ours.
            return None
        # The number may belong to another process by now.
        return pid if f"{TASK_VARIABLE}={task_id}".encode() in variables else None


def _remove(path: str) -> None:
    Path(path).unlink(missing_ok=True)


def _is_process(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        # Another runner's.
        return True
    except (OSError, OverflowError):
        return False
    # 0 and less would be groups.
    return pid > 1


def kill_group(pid: int) -> None:
    """End what a dead runner has left: its guardian ought to have done it."""
    with suppress(OSError):
        os.killpg(pid, signal.SIGKILL)


def _is_locked(path: Path) -> bool:
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False
