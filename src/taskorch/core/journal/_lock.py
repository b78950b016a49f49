"""The lock of the journal's leader, on a file beside the journal."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from pathlib import Path
from typing import Any, Final

from taskorch.errors import JournalTakenError
from taskorch.kit.machine import host
from taskorch.kit.processes import is_process

#: Seconds to wait for a lock whose holder has died: a process that it was about to
#: start holds it, too, until it has begun its program.
_PATIENCE: Final = 5.0
_PAUSE: Final = 0.01


class Lock:
    """
    The lock file that the leader of a journal holds while its process lives.

    The file stays when the lock is released: it tells that there was a journal.
    """

    def __init__(self, name: Path, file: int, owner: dict[str, Any]) -> None:
        self._name = name
        self._file = file
        #: The entry of the earlier leader in it; empty if there was none.
        self.known = owner

    @classmethod
    def acquire(cls, path: Path, take_over: bool) -> Lock:
        """
        Acquire the lock of the journal at *path*.

        Raises:
            JournalTakenError: A living process has it, and *take_over* is not set.
        """
        name = Path(f"{path}.lock")
        end = time.monotonic() + _PATIENCE
        while True:
            file = os.open(name, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # A takeover puts another file in its place.
                lock = cls(name, file, _known(file))
                if lock.is_current():
                    return lock
            except BlockingIOError:
                try:
                    owner = _known(file)
                finally:
                    os.close(file)
                if not take_over:
                    if _is_dead(owner) and time.monotonic() < end:
                        time.sleep(_PAUSE)
                        continue
                    raise _taken(path, owner) from None
                # The old leader keeps its lock, on a file that has no name any more.
                return cls(name, _put_another(name, owner), owner)
            except BaseException:
                os.close(file)
                raise
            os.close(file)

    def check(self, path: Path) -> None:
        """
        Check that other processes still find this lock.

        Raises:
            JournalTakenError: Another has put a lock of its own in its place since.
        """
        if not self.is_current():
            msg = f"{path} was taken over by another process at the same moment"
            hint = "let that one have it, or take it over again"
            raise JournalTakenError(msg, hint=hint)

    def is_current(self) -> bool:
        """Return whether the lock is on the file that other processes would find."""
        try:
            return os.path.samestat(self._name.stat(), os.fstat(self._file))
        except FileNotFoundError:
            return False

    def sign(self, pid: int, host: str, since: str, epoch: int) -> None:
        """Write the leader into the file: process, host, start and incarnation."""
        self.known = {"pid": pid, "host": host, "since": since, "epoch": epoch}
        _write(self._file, self.known)

    def discard(self) -> None:
        """Remove the file, if it is still this lock's; other processes look again."""
        if self.is_current():
            self._name.unlink()

    def release(self) -> None:
        os.close(self._file)


def _is_dead(owner: dict[str, Any]) -> bool:
    """Return whether the holder has died; its lock goes with its last child."""
    return owner.get("host") == host() and not is_process(owner["pid"])


def _put_another(name: Path, owner: dict[str, Any]) -> int:
    """Put a new file in the place of *name*, locked before others can find it."""
    import tempfile  # noqa: PLC0415 - readers need none

    # It has a name of its own, since others may take over at the same moment, even in
    # this process.
    file, fresh = tempfile.mkstemp(prefix=f"{name.name}.", dir=name.parent)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _write(file, owner)
        Path(fresh).replace(name)
    except BaseException:
        os.close(file)
        with contextlib.suppress(OSError):
            Path(fresh).unlink()
        raise
    return file


def _write(file: int, owner: dict[str, Any]) -> None:
    text = json.dumps(owner).encode()
    os.pwrite(file, text, 0)
    os.ftruncate(file, len(text))


def _known(file: int) -> dict[str, Any]:
    text = os.pread(file, 4096, 0)
    if not text:
        return {}
    with contextlib.suppress(ValueError):
        owner = json.loads(text)
        if isinstance(owner, dict):
            return owner
    # Its leader died while it wrote its entry; still, there was one.
    return {"pid": None}


def _taken(path: Path, owner: dict[str, Any]) -> JournalTakenError:
    pid, at = owner.get("pid"), owner.get("host")
    if pid is None:
        msg = f"{path} belongs to a process that has not said yet which one it is"
        hint = f"try again, or stop it: `fuser {path}.lock` names it"
        return JournalTakenError(msg, hint=hint)
    msg = f"{path} belongs to process {pid} on {at}, since {owner['since']}"
    hint = "stop that one first"
    if at != host() or _is_dead(owner):
        # Nobody knows whether it lives, or a process that it has started has the lock.
        hint += ", or take it over once it is gone: SqliteJournal(path, take_over=True)"
    return JournalTakenError(msg, hint=hint)
