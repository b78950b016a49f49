"""
A durable journal of your own: one file with a line for each group of facts.

Run it twice: the second time it computes nothing, for the first has kept all of it.
Kill it in the middle, and run it again: what was accepted is done.

It is for some thousand tasks. What is asked of it by id or by key is answered by the
definitions of DurableJournal, which read the whole file; a journal with an index writes
`select`, `ends`, `ids`, `submitted` and `id_of_key` anew.
"""

import fcntl
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4
from weakref import WeakSet
from zlib import crc32

from taskorch import Task, TaskOrchestrator
from taskorch.api.journal import decode, document, encode
from taskorch.errors import JournalError, JournalTakenError, JournalUnavailableError
from taskorch.protocols import DurableJournal, Entry


class LinesJournal(DurableJournal):
    """
    Keeps groups as lines of JSON, each with its checksum.

    A line that is not whole was never kept: the next owner writes over it. The owner
    holds a lock on a file beside it, which ends with the process.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        #: The descriptors of the lock and of the file; both are there, or none.
        self._lock = self._file = -1
        self._epoch = 0
        #: What is whole ends here, in bytes; the id; the latest group as rows.
        self._size, self._id = 0, ""
        self._latest: list[Any] = []
        self._is_closed = False
        _OPEN.add(self)

    # -- the owner -----------------------------------------------------------------

    def claim(self) -> int:
        if self._is_closed:
            msg = f"{self.path} was closed"
            raise JournalUnavailableError(msg, outcome="refused")
        if self._lock < 0:
            self._open()
        epoch, self._size, self._id, self._latest = 0, 0, uuid4().hex, []
        for end, (kind, *rest) in self._records():
            self._size = end
            if kind == "life":
                epoch, self._id = rest
            else:
                self._latest = rest
        # The lock keeps all others away, so this needs no other test.
        self._write(["life", epoch + 1, self._id])
        self._epoch = epoch + 1
        return self._epoch

    def _open(self) -> None:
        try:
            self._lock = _opened(f"{self.path}.lock")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._file = _opened(self.path)
            _sync_folder(self.path.parent)
        except BlockingIOError as error:
            self._let_go()
            msg = f"{self.path} is in use by another"
            raise JournalTakenError(msg) from error
        except OSError as error:
            self._let_go()
            msg = f"{self.path} cannot be opened now: {error}"
            raise JournalUnavailableError(msg, outcome="refused") from error

    def close(self) -> None:
        self._is_closed = True
        if self._lock >= 0:
            # A child that was just forked may have it open still.
            fcntl.flock(self._lock, fcntl.LOCK_UN)
        self._let_go()

    def _let_go(self) -> None:
        self._epoch = 0
        for descriptor in (self._file, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._lock = -1

    # -- writing -------------------------------------------------------------------

    def document(self, value: object) -> object:
        return None if value is None else document(value)

    def append(self, epoch: int, group: Sequence[Entry]) -> None:
        self._check_owner(epoch)
        rows: list[list[Any]] = [list(encode(entry)) for entry in group]
        numbers = [row[0] for row in rows]
        if not rows or rows == self._latest:
            # It was kept, and nobody knew.
            return
        if numbers != sorted(set(numbers)) or numbers[0] <= self._last:
            msg = f"facts {numbers[0]} to {numbers[-1]} come after fact {self._last}"
            raise ValueError(msg)
        self._write(["group", *rows])
        self._latest = rows

    def save(self, epoch: int, seq: int, state: dict[str, Any]) -> None:
        self._check_owner(epoch)
        if not 0 < seq <= self._last:
            msg = f"a snapshot at fact {seq}, and the last is {self._last}"
            raise ValueError(msg)
        new = Path(f"{self.path}.new")
        try:
            with new.open("wb") as file:
                file.write(_line([seq, state]))
                file.flush()
                os.fsync(file.fileno())
            new.replace(f"{self.path}.snapshot")
            _sync_folder(self.path.parent)
        except OSError as error:
            msg = f"{self.path}: no snapshot can be kept now: {error}"
            raise JournalUnavailableError(msg) from error

    @property
    def _last(self) -> int:
        number: int = self._latest[-1][0] if self._latest else 0
        return number

    def _check_owner(self, epoch: int) -> None:
        if epoch != self._epoch or not epoch:
            msg = f"life {self._epoch} owns {self.path} here, not life {epoch}"
            raise JournalTakenError(msg)

    def _write(self, record: list[Any]) -> None:
        line, written = _line(record), 0
        try:
            # What a write that failed has left, of ours or of a life before.
            os.ftruncate(self._file, self._size)
            while written < len(line):
                place = self._size + written
                written += os.pwrite(self._file, line[written:], place)
            os.fsync(self._file)
        except OSError as error:
            msg = f"{self.path} cannot be written now: {error}"
            raise JournalUnavailableError(msg, outcome="unknown") from error
        self._size += written

    # -- reading -------------------------------------------------------------------

    def read(self, after: int = 0) -> Iterator[Entry]:
        for _, (kind, *rows) in self._records():
            if kind == "group" and rows[-1][0] > after:
                yield from (decode(tuple(row)) for row in rows if row[0] > after)

    def snapshot(self) -> tuple[int, dict[str, Any]] | None:
        try:
            line = Path(f"{self.path}.snapshot").read_bytes()
        except OSError:
            return None
        return tuple(_content(line)) if _is_whole(line) else None

    def _records(self) -> Iterator[tuple[int, list[Any]]]:
        """All that is whole, and where it ends in the file."""
        try:
            with self.path.open("rb") as file:
                end = 0
                while _is_whole(line := file.readline()):
                    end += len(line)
                    yield end, _content(line)
                if line.endswith(b"\n") and file.readline():
                    msg = f"{self.path} is damaged after byte {end}"
                    raise JournalError(msg, hint="restore it from a copy")
        except FileNotFoundError:
            return
        except OSError as error:
            msg = f"{self.path} cannot be read now: {error}"
            raise JournalUnavailableError(msg, outcome="refused") from error

    # -- what it is ----------------------------------------------------------------

    def description(self) -> str:
        return str(self.path)

    def identity(self) -> str:
        # A copy of the file has the id too.
        return f"{self._id}-{self.path.stat().st_ino:x}"

    def logs_folder(self) -> str:
        return f"{self.path}.logs"


#: What a child of this process must not write to, nor keep locked.
_OPEN: "WeakSet[LinesJournal]" = WeakSet()


def _leave_to_parent() -> None:
    for journal in _OPEN:
        journal._let_go()  # noqa: SLF001 - it is ours


os.register_at_fork(after_in_child=_leave_to_parent)


def _opened(path: str | Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)


def _line(record: list[Any]) -> bytes:
    text = json.dumps(record).encode()
    return b"%08x %s\n" % (crc32(text), text)


def _is_whole(line: bytes) -> bool:
    return line.endswith(b"\n") and line[:9] == b"%08x " % crc32(line[9:-1])


def _content(line: bytes) -> Any:
    return json.loads(line[9:-1])


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def main() -> None:
    path = sys.argv[1] if len(sys.argv) > 1 else "runs.jsonl"
    with TaskOrchestrator(journal=LinesJournal(path)) as orch:
        squares = [Task.call(pow, n, 2, id=f"square/{n}") for n in range(9)]
        total = Task.call(sum, orch.submit_tasks(squares), id="total")
        print(orch.submit_task(total).result())


if __name__ == "__main__":
    main()
