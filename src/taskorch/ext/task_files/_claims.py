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

What tasks spend of budgets stands in the same ledger, beside their claims, so that it
outlives runners, and no two of them spend the same: what a task may spend is reserved
under the same lock, before its program begins. Of a runner that has died, all that its
tasks had reserved counts as spent.

Decisions: task-files, worker-processes.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import attrs

from taskorch.ext.budgets._declared import DeclaredBudgets
from taskorch.ext.task_files._budgets import (
    Lack,
    Tally,
    amounts_of,
    is_tally,
    plus,
    short_of,
    usages_of,
)
from taskorch.ext.task_files._layout import WorkspaceLayout
from taskorch.ext.task_files._status import Status, read_status
from taskorch.kit.staged import Staged
from taskorch.model import BudgetUsage, Units

#: A ledger is written anew if it has more lines than this for each task in it.
_MOST_LINES: Final = 4
_FEW_LINES: Final = 1_000


@attrs.frozen
class LedgerEntry:
    """
    The entry of a task in the ledger.

    Attributes:
        fence: How often it was claimed.
        runner: The runner that has claimed the task; None if none has, or it has ended.
        spent: The amounts that it spent in all, by budget and resource, in millionths.
        reserved: The amounts that the running program may still spend.
    """

    fence: int = 0
    runner: str | None = None
    spent: Tally = attrs.field(factory=dict, hash=False)
    reserved: Tally = attrs.field(factory=dict, hash=False)

    def settled(self, spent: Tally) -> LedgerEntry:
        """The entry once its program has ended, which has *spent* so much."""
        return attrs.evolve(self, spent=plus(self.spent, spent), reserved={})

    @property
    def unknown(self) -> LedgerEntry:
        """The entry with all that was reserved as spent, as nobody knows more."""
        return self.settled(self.reserved)


class Ledger:
    """
    A file that all runners append to; the last line about a task counts.

    One file for all tasks, since to make a file for each takes the system longer than
    all else that a claim is. Whoever writes holds what all runners share; whoever reads
    need not.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = -1
        self._is_writable = False
        #: Up to where it was read: the end of a line.
        self._read_to = 0
        self._lines = 0
        self._known: dict[str, LedgerEntry] = {}
        #: Budgets that were raised: the amounts declared then, and the totals since.
        self._raised: dict[str, tuple[dict[str, float], dict[str, float]]] = {}
        self._lock = threading.Lock()

    def entry(self, task_id: str) -> LedgerEntry:
        """
        The latest entry of a task.

        Raises:
            OSError: There is a ledger, and it cannot be read.
        """
        with self._lock:
            self._read()
            return self._known.get(task_id, LedgerEntry())

    def add(self, task_id: str, entry: LedgerEntry) -> None:
        """
        Say something else of a task, in one piece: who is killed has said all or none.

        Raises:
            OSError: It cannot be written; then nothing was said.
        """
        self._write(_line(task_id, entry))

    def raise_budget(
        self, name: str, declared: Mapping[str, float], total: Mapping[str, float]
    ) -> None:
        """
        Say how much there is of a budget, as long as so much is *declared*.

        Raises:
            OSError: It cannot be written; then nothing was said.
        """
        self._write(_raised_line(name, (dict(declared), dict(total))))

    def entries(self) -> dict[str, LedgerEntry]:
        """The latest entries of all tasks."""
        with self._lock:
            self._read()
            return dict(self._known)

    def total(self, name: str, declared: Mapping[str, float]) -> Mapping[str, float]:
        """Return the amounts of a budget that the file declares as *declared*."""
        with self._lock:
            before, total = self._raised.get(name, ({}, {}))
            return total if before == declared else declared

    def _write(self, line: str) -> None:
        data = line.encode()
        with self._lock:
            size = self._read()
            if not self._is_writable:
                self._open(os.O_CREAT | os.O_RDWR)
            if size > self._read_to:
                # A runner that was killed began the text behind the last line.
                os.ftruncate(self._file, self._read_to)
            if os.pwrite(self._file, data, self._read_to) < len(data):
                os.ftruncate(self._file, self._read_to)
                full = errno.ENOSPC
                raise OSError(full, os.strerror(full), str(self._path))
            self._learn(data)

    def shorten(self) -> None:
        """
        Write it anew, if most of its lines count no more.

        Nobody may be about to write to it: all that live hold what all runners share.
        """
        with self._lock:
            self._read()
            if self._lines > _FEW_LINES + _MOST_LINES * len(self._known):
                lines = [_line(name, entry) for name, entry in self._known.items()]
                lines += [_raised_line(name, row) for name, row in self._raised.items()]
                Staged(self._path, "".join(lines)).commit()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._close()

    # -- the file ------------------------------------------------------------------

    def _open(self, flags: int) -> None:
        """Open the file that is there now, in the place of one that is open."""
        file = os.open(self._path, flags | os.O_CLOEXEC, 0o644)
        if self._file >= 0:
            os.close(self._file)
        self._file, self._is_writable = file, bool(flags & os.O_RDWR)

    def _close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file, self._is_writable = -1, False
        self._read_to = self._lines = 0
        self._known, self._raised = {}, {}

    def _read(self) -> int:
        """Learn what was written since; how long the file is."""
        if self._file >= 0:
            now = os.fstat(self._file)
            if now.st_nlink:
                return self._read_up_to(now.st_size)
            # It was written anew, or removed.
            self._close()
        try:
            self._open(os.O_RDONLY)
        except FileNotFoundError:
            return 0
        return self._read_up_to(os.fstat(self._file).st_size)

    def _read_up_to(self, size: int) -> int:
        if size < self._read_to:
            # The file was cut by hand.
            self._read_to, self._known, self._raised = 0, {}, {}
        if size > self._read_to:
            self._learn(os.pread(self._file, size - self._read_to, self._read_to))
        return size

    def _learn(self, data: bytes) -> None:
        whole = data[: data.rfind(b"\n") + 1]
        self._read_to += len(whole)
        for line in whole.splitlines():
            self._lines += 1
            with suppress(ValueError):
                self._believe(json.loads(line))

    def _believe(self, record: Any) -> None:
        """Learn what a *record* says, if it is sound: anybody may edit the file."""
        match record:
            case {
                "budget": str(name),
                "declared": dict(declared),
                "total": dict(total),
            }:
                self._raised[name] = declared, total
            case {"task": str(task_id), "fence": fence} if (
                type(fence) is int and fence > 0
            ):
                runner = record.get("runner")
                spent, reserved = record.get("spent", {}), record.get("reserved", {})
                is_sound = is_tally(spent) and is_tally(reserved)
                if is_sound and (runner is None or isinstance(runner, str)):
                    entry = LedgerEntry(fence, runner, spent, reserved)
                    self._known[task_id] = entry


def _line(task_id: str, entry: LedgerEntry) -> str:
    fields = {name: value for name, value in attrs.asdict(entry).items() if value}
    return json.dumps({"task": task_id, **fields}) + "\n"


def _raised_line(name: str, row: tuple[Mapping[str, float], ...]) -> str:
    return json.dumps({"budget": name, "declared": row[0], "total": row[1]}) + "\n"


#: The variable by which a program is known that has outlived its runner: its value is
#: that of no other claim on the machine, as another workspace has tasks of its ids.
_CLAIM_VARIABLE: Final = "TASKORCH_CLAIM"


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
    """
    The claims of one runner, and the spending of tasks on *budgets*.

    Nothing is there before `open`.
    """

    def __init__(self, layout: WorkspaceLayout, budgets: DeclaredBudgets) -> None:
        self._layout = layout
        self._budgets = budgets
        self._own = layout.own
        self._ledger = Ledger(layout.own / "claims.jsonl")
        self.runner: str = ""
        self._file = -1
        # The lock that all runners share; it is opened when it is needed first.
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
                    # A runner that has died has left it.
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
                pid = self._process_of(task_id, entry)
                if pid is not None:
                    return Held(None, pid, is_ours=runner is not None)
            fence = entry.fence + 1
            entry = attrs.evolve(entry.unknown, fence=fence, runner=self.runner)
            self._ledger.add(task_id, entry)
            self._put(started)
            return TaskClaim(task_id, fence)

    def mark(self, claim: TaskClaim) -> dict[str, str]:
        """Return the variables that mark the program of a task of this runner."""
        return _mark(self.runner, claim.fence)

    def is_still(self, task_id: str, held: Held) -> bool:
        """Return whether *held* most likely still holds: a quick look, no lock."""
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
                entry = self._check(claim)
                staged.commit()
                self._ledger.add(claim.task_id, attrs.evolve(entry, runner=None))
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
            entry = self._check(claim)
            _remove(self._layout.status(claim.task_id))
            self._ledger.add(claim.task_id, attrs.evolve(entry.unknown, runner=None))

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
                # A status that is not believed keeps nobody from a new start.
                _remove(path)
                return True
            if status is None or status.status not in states:
                return False
            _remove(path)
            return True

    def status(self, task_id: str) -> Status | None:
        """
        Return the contents of a task's status file; None if there is none.

        Raises:
            StatusRefusedError: It cannot be believed.
        """
        return read_status(self._layout, task_id)

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

    # -- budgets -------------------------------------------------------------------

    def reserve(self, claim: TaskClaim, budget: str, units: Units) -> Lack | None:
        """
        Reserve *units* of a budget for the program of a task of ours.

        Returns:
            None; or why there is too little, and then nothing is reserved.

        Raises:
            FencedOffError: It is not ours any more.
        """
        with self._shared():
            entry = self._check(claim)
            short = short_of(self._budgets, self.usages(), budget, units)
            if short is None:
                entry = attrs.evolve(entry, reserved={budget: dict(units)})
                self._ledger.add(claim.task_id, entry)
            return short

    def spend(
        self, claim: TaskClaim, budget: str, units: Units, *, ended: bool
    ) -> None:
        """
        Note that the program of a task of ours has spent *units* since it began.

        While it has not *ended*, that matters only if it is more than it has reserved.

        Raises:
            FencedOffError: It is not ours any more.
        """
        spent = dict(units)
        with self._shared():
            entry = self._check(claim)
            held = dict(entry.reserved.get(budget, {}))
            most = {n: max(spent.get(n, 0), held.get(n, 0)) for n in spent | held}
            if ended:
                self._ledger.add(claim.task_id, entry.settled({budget: spent}))
            elif most != held:
                entry = attrs.evolve(entry, reserved={budget: most})
                self._ledger.add(claim.task_id, entry)

    def spent(self, task_id: str) -> dict[str, float]:
        """Return the amounts that a task has spent in all, by resource."""
        amounts = self._ledger.entry(task_id).spent.values()
        return amounts_of(plus(*({"": each} for each in amounts)).get("", {}))

    def usages(self) -> list[BudgetUsage]:
        """Return the usage of each budget, all of one instant."""
        if not self._budgets.totals:
            return []
        spent: list[Tally] = []
        reserved: list[Tally] = []
        alive: dict[str, bool] = {}
        for entry in self._ledger.entries().values():
            runner = entry.runner or ""
            if entry.reserved and runner not in alive:
                alive[runner] = self.is_alive(runner)
            counted = entry if alive.get(runner, True) else entry.unknown
            spent.append(counted.spent)
            reserved.append(counted.reserved)
        total_of = self._ledger.total
        return usages_of(self._budgets, plus(*spent), plus(*reserved), total_of)

    def raise_budget(self, name: str, totals: Mapping[str, float]) -> None:
        """Set how much there is of a budget; what is not named stays."""
        declared = self._budgets.totals[name]
        with self._shared():
            self._ledger.entries()
            total = {**self._ledger.total(name, declared), **totals}
            self._ledger.raise_budget(name, declared, total)

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

    def _check(self, claim: TaskClaim) -> LedgerEntry:
        entry = self._ledger.entry(claim.task_id)
        if (entry.fence, entry.runner) != (claim.fence, self.runner):
            msg = f"task {claim.task_id} was claimed by another runner meanwhile"
            raise FencedOffError(msg)
        return entry

    def _process_of(self, task_id: str, entry: LedgerEntry) -> int | None:
        """
        The process of a task whose runner is gone, if it lives.

        One that a runner of ours had begun has the mark of its claim.
        """
        try:
            pid = int(self._layout.pid(task_id).read_text().strip())
        except (FileNotFoundError, ValueError):
            return None
        if not _is_process(pid):
            return None
        if entry.runner is None:
            return pid
        try:
            variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            # It has ended, or is none of ours.
            return None
        ((name, value),) = _mark(entry.runner, entry.fence).items()
        # The number may belong to another process by now.
        return pid if f"{name}={value}".encode() in variables else None


def _mark(runner: str, fence: int) -> dict[str, str]:
    # The name of a runner is random, so no other claim has this value.
    return {_CLAIM_VARIABLE: f"{runner}.{fence}"}


def _remove(path: str) -> None:
    Path(path).unlink(missing_ok=True)


def _is_process(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        # The process belongs to another user, so it lives.
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
