"""
The life of one program, from its start to the report of its end.

Its process id is in a file for observers outside, and its allocation, if its task is
elastic, in another. Such a program asks for its share by writing a line into a pipe:
that is its checkpoint. The file is then rewritten, with the number of checkpoints so
far in it, so that the program knows when the answer to its own is there. Into another
pipe a program writes how much it has spent of a budget.
"""

from __future__ import annotations

import enum
import itertools
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, Protocol

import attrs

from taskorch.core.executors._programs._family import Family, Leftovers, MemoryKills
from taskorch.core.executors._programs._governor import (
    WATCH,
    Governor,
    Hold,
    UnheldError,
)
from taskorch.core.executors._programs._guard import ProcessGuard
from taskorch.core.executors._programs._output import (
    Input,
    LogFolder,
    Output,
    OutputLog,
)
from taskorch.core.executors._programs._process import ProgramEnd, ProgramProcess
from taskorch.core.executors._programs._spawn import (
    Child,
    ReapedUsage,
    check_startable,
    environment,
    explain,
    reap,
    spawn,
)
from taskorch.kit.fence import log_of
from taskorch.kit.loop import Action, LinePipe, Loop
from taskorch.kit.processes import exit_code_of
from taskorch.kit.staged import Staged
from taskorch.kit.temporary import make_temporary, remove_tree
from taskorch.model import Program, ProgramResult, ProgramVariables, Resources

_log = log_of(__name__)


class PidFile:
    """A file with the process id of a running program; never raises."""

    def __init__(self, path: str | None) -> None:
        self._path = None if path is None else str(Path(path).absolute())
        #: The present path of the file.
        self._written: str | None = None

    def write(self, pid: int) -> None:
        """Write the file in one step, so that a reader finds the whole number."""
        path = self._path
        if path is None:
            return
        try:
            Staged(path, f"{pid}\n").commit()
            self._written = path
        except OSError as error:
            _log.warning("taskorch: %s could not be written: %s", path, error)

    def remove(self) -> None:
        """Remove it, as the number may be reused from now on."""
        written, self._written = self._written, None
        if written is not None:
            with suppress(OSError):
                os.unlink(written)  # noqa: PTH108


class AttemptHolding(Protocol):
    """Protocol: the allocation of an attempt."""

    def held(self) -> Mapping[str, float]:
        """Return the resources that the program holds now."""
        ...

    def reach_checkpoint(self) -> Mapping[str, float]:
        """Return the resources from this checkpoint on."""
        ...


class ProgramGrant:
    """The file and the pipe of one program; for the supervisor's thread only."""

    def __init__(
        self,
        loop: Loop,
        holding: AttemptHolding,
        *,
        safe: Callable[[Action], Action],
        before: Callable[[Mapping[str, float]], object] | None = None,
    ) -> None:
        #: Called with the new allocation, before the program can know it.
        self._before = before
        self._holding = holding
        self._pipe = LinePipe(loop, self._reach, safe=safe)
        #: The number of checkpoints so far, and the content of the file.
        self._count = 0
        self._written = ""

    def open(self) -> dict[str, str]:
        """
        Make both; return the variables that name them.

        Raises:
            OSError: There is no room for them.
        """
        pipe = self._pipe.open("checkpoint")
        self._file = pipe.with_name("allocation.json")
        self._write(self._holding.held())
        return {
            ProgramVariables.ALLOCATION: str(self._file),
            ProgramVariables.CHECKPOINT: str(pipe),
        }

    def close(self) -> None:
        """Remove both, if they are there."""
        self._pipe.close()

    def _reach(self, lines: list[bytes]) -> None:
        """Note as many checkpoints as lines have come, and write the file."""
        self._count += len(lines)
        self._rewrite(self._holding.reach_checkpoint())

    def refresh(self) -> None:
        """Rewrite the file if the allocation has changed."""
        self._rewrite(self._holding.held())

    def _rewrite(self, held: Mapping[str, float]) -> None:
        try:
            self._write(held)
        except OSError as error:
            _log.warning("taskorch: %s could not be written: %s", self._file, error)

    def _write(self, held: Mapping[str, float]) -> None:
        amounts = {
            name: int(much) if much == int(much) else much
            for name, much in held.items()
        }
        text = f"{json.dumps({'checkpoints': self._count, 'allocation': amounts})}\n"
        if text != self._written:
            if self._before is not None:
                self._before(held)
            Staged(self._file, text).commit()
            self._written = text


# Seconds between checks for the end of a program where the system cannot tell.
_POLL_SECONDS = 0.02
# Seconds between checks whether a group is empty.
_MOMENT = 0.002
# Seconds to wait for a program that is given up and killed.
_KILL_SECONDS = 1.0

_numbers = itertools.count(1)

#: The factor, and the MiB besides, by which a process must be above its limit to have
#: passed it for sure.
_SURELY: Final = 1.1
_SHARED_MB: Final = 16.0
#: Limits that the system reports by a signal.
_LIMIT_BY_SIGNAL: Final = {
    -signal.SIGXCPU: "cpu_seconds",
    -signal.SIGXFSZ: "written_mb",
}

#: Exit codes after signal 9, and of a shell whose child it has ended.
_KILLED: Final = (-signal.SIGKILL, 128 + signal.SIGKILL)


@attrs.frozen
class Common:
    """Objects and settings that the programs of one executor share."""

    run_id: str
    loop: Loop
    guard: ProcessGuard
    logs: LogFolder
    memory_kills: MemoryKills
    governor: Governor
    #: The most bytes of output in a log.
    max_log_bytes: int
    #: Bytes of each stream that are kept in memory.
    tail_bytes: int
    #: After the end of a program, seconds without output until no more is awaited …
    drain_quiet: float
    #: … and seconds until no more is awaited in any case.
    drain_limit: float
    #: Seconds from SIGTERM to SIGKILL for processes that a program leaves running.
    leftover_grace: float


class _RunPhase(enum.Enum):
    WAITING = enum.auto()
    RUNNING = enum.auto()
    #: The program has ended; its output may still be on its way.
    DRAINING = enum.auto()
    #: The processes that it left running are being ended.
    CLEARING = enum.auto()
    OVER = enum.auto()


class ProgramRun:
    """
    One program; all methods but the constructor are for the supervisor thread.

    Its arguments are those of `ProgramExecutor.start`; *on_over* is called after
    *on_end*, which is called once. Its spending is reported before that.
    """

    def __init__(
        self,
        common: Common,
        program: Program,
        *,
        name: str,
        env: Mapping[str, str],
        on_end: Callable[[ProgramEnd], object],
        on_over: Callable[[ProgramRun], object],
        holding: AttemptHolding | None = None,
        on_spent: Callable[[list[bytes]], object] | None = None,
    ) -> None:
        self.process = ProgramProcess(partial(common.loop.call, self._safe(self._tick)))
        self._common = common
        self._program = program
        self._name = name
        mark = f"{common.run_id}.{os.getpid()}.{next(_numbers)}"
        self._mark = os.fsencode(f"{ProgramVariables.PROGRAM}={mark}")
        own = {ProgramVariables.RUN: common.run_id, ProgramVariables.PROGRAM: mark}
        self._env, self._withheld = environment(program, os.environ, {**env, **own})
        self._on_end = on_end
        self._on_over = on_over
        self._phase = _RunPhase.WAITING
        self._child: Child | None = None
        #: The resources that it used, once it has ended.
        self._used = ReapedUsage()
        self._hold: Hold | None = None
        #: The means that hold its limits, and the limits that are not held.
        self._enforced: tuple[str, ...] = ()
        self._unenforced: tuple[str, ...] = ()
        self._temporary: Path | None = None
        self._holding = holding
        #: The limits that are the allocation of an elastic task, and grow with it.
        self._growing: tuple[str, ...] = ()
        self._pidfd = -1
        self._log = OutputLog(common.max_log_bytes)
        self._pid_file = PidFile(program.pid_file)
        self._output = Output(
            common.loop,
            self._log,
            tail_bytes=common.tail_bytes,
            on_end=self._see_end_of_output,
            safe=self._safe,
        )
        data = (
            program.stdin.encode() if isinstance(program.stdin, str) else program.stdin
        )
        self._input = Input(common.loop, data or b"", safe=self._safe)
        self._grant: ProgramGrant | None = None
        if holding is not None:
            self._grant = ProgramGrant(
                common.loop, holding, safe=self._safe, before=self._grow
            )
        self._spent: LinePipe | None = None
        if on_spent is not None:
            self._spent = LinePipe(common.loop, on_spent, safe=self._safe)
        self._exit_code: int | ChildProcessError = 0
        self._began = self._ended = 0.0
        self._killed = self._was_asked = self._oom_killed = False
        #: Kills by the system before it began.
        self._memory_kills = 0
        self._leftovers: Leftovers | None = None
        self._clear_by = self._next_check = self._next_tick = math.inf

    def start(self) -> None:
        """Start the program, or report why it cannot be; once."""
        if self._phase is _RunPhase.WAITING:
            self._safe(self._start)()

    def refuse(self) -> None:
        """End a program that has not been started, with an error."""
        if self._phase is _RunPhase.WAITING:
            msg = f"the program of {self._name!r} was ended before it was started"
            self._finish(ProgramEnd(None, CancelledError(msg)))

    def fail(self, error: BaseException) -> None:
        """Give the program up: kill it, and report *error* instead of a result."""
        if self._phase is _RunPhase.OVER:
            return
        self.process.kill_group()
        if self._child is not None:
            if isinstance(error, OSError):
                # An OSError would say that the program never began.
                error = _given_up(self._name, error)
            self._common.guard.remove(self._child.process.pid)
            # It has been killed; a process that cannot die must not block us.
            with suppress(subprocess.TimeoutExpired):
                self._child.process.wait(_KILL_SECONDS)
        self._finish(ProgramEnd(None, error))

    def disown(self) -> None:
        """Close descriptors that would keep the program, in a forked child."""
        self._input.disown()

    def _safe(self, action: Action) -> Action:
        def act() -> None:
            try:
                action()
            except Exception as error:  # noqa: BLE001 - it ends this program only
                _log.exception("taskorch: program %r is given up", self._name)
                self.fail(error)

        return act

    # ---------------------------------------------------------------- beginning

    def _start(self) -> None:
        if self.process.kill_at is not None:
            self.refuse()
            return
        if self.process.is_stopped:
            return  # `resume` calls `_tick`
        try:
            check_name(self._name)
            self._common.guard.start()
            self._memory_kills = self._common.memory_kills.count()
            if self._grant is not None:
                self._env |= self._grant.open()
            if self._spent is not None:
                self._env[ProgramVariables.SPENT] = str(self._spent.open("spent"))
            stdin = None if self._program.stdin is None else self._input
            prefix = self._held() if self._program.enforced(None) else ()
            child = spawn(self._program, self._env, stdin, prefix)
        except UnheldError as error:
            self._finish(ProgramEnd(None, error))
            return
        except OSError as error:
            self._finish(ProgramEnd(None, explain(error, self._program)))
            return
        except ValueError as error:
            self._finish(ProgramEnd(None, error))
            return
        self._began = time.monotonic()
        self._phase = _RunPhase.RUNNING
        self._child = child
        if self._hold is not None:
            self._hold.begin(self._family(everywhere=True))
        self._common.guard.add(child.process.pid)
        self._pid_file.write(child.process.pid)
        self.process.attach(child.process.pid)
        self._connect(child)
        self._schedule()

    def _held(self) -> tuple[str, ...]:
        """
        Return the words before those of the program that hold its limits.

        Raises:
            UnheldError: A limit cannot be held.
            OSError: It could not be started anyhow.
        """
        program = self._program
        partly = program.enforce == "if possible"
        check_startable(program, self._env)
        prefix: tuple[str, ...] = ()
        if program.limits:
            limits = dict(program.limits)
            hold, unheld = self._common.governor.hold(limits, partly=partly)
            self._hold, prefix = hold, hold.prefix(self._env)
            self._enforced, self._unenforced = tuple(hold.ways.values()), unheld
            if self._holding is not None:
                held = self._holding.held()
                same = (name for name in limits if held.get(name) == limits[name])
                self._growing = tuple(same)
        if program.reads is None and program.writes is None and program.network is None:
            return prefix
        # The module is large, and few programs have scopes.
        from taskorch.core.executors._programs._isolation import confine  # noqa: PLC0415

        if program.writes is not None:
            self._temporary = make_temporary()
            self._env["TMPDIR"] = str(self._temporary)
        confined = confine(
            program,
            self._env,
            temporary=self._temporary,
            partly=partly,
        )
        self._enforced += confined.enforced
        self._unenforced += confined.unenforced
        return prefix + confined.prefix

    def _connect(self, child: Child) -> None:
        if self._program.stdin is not None:
            self._input.start()
        self._log.open(self._common.logs, self._name, self._program.log)
        self.process.log_path = self._log.path
        self._output.start(child.stdout, child.stderr)
        if sys.platform == "linux":
            try:
                self._pidfd = os.pidfd_open(child.process.pid)
            except OSError:  # an old kernel, or no descriptors: we ask now and then
                return
            self._common.loop.watch(self._pidfd, self._safe(self._see_exit))

    # ------------------------------------------------------------------ waiting

    def _tick(self) -> None:
        """Start the program, or kill it when its time is over."""
        if self._phase is _RunPhase.WAITING:
            self._start()
            return
        now = time.monotonic()
        if self._phase in (_RunPhase.RUNNING, _RunPhase.DRAINING):
            self._look(now)
            self._kill_if_due(now)
        if self._phase is _RunPhase.RUNNING and self._grant is not None:
            self._grant.refresh()
        if self._phase is _RunPhase.RUNNING and self._pidfd < 0:
            self._see_exit()
        if self._phase is _RunPhase.DRAINING and now >= self._drained_at():
            self._clear()
        elif self._phase is _RunPhase.CLEARING:
            self._end_leftovers()
        self._schedule()

    def _look(self, now: float) -> None:
        """Measure its use, and kill it if that is too much."""
        hold = self._hold
        if hold is None or now < hold.next_look or hold.exceeded:
            return
        if hold.look():
            hold.kill()
            self.process.kill_group()

    def _grow(self, held: Mapping[str, float]) -> None:
        """Raise the limits, before the program hears that it holds more."""
        if self._hold is not None:
            self._hold.raise_to({name: held.get(name, 0.0) for name in self._growing})

    def _schedule(self) -> None:
        when = self._due()
        if when < self._next_tick:
            self._next_tick = when
            self._common.loop.at(when, self._safe(self._timed_tick))

    def _timed_tick(self) -> None:
        self._next_tick = math.inf
        self._tick()

    def _due(self) -> float:
        """Return when `_tick` has something to do, if nothing happens before."""
        if self._phase is _RunPhase.CLEARING:
            return self._next_check
        if self._phase not in (_RunPhase.RUNNING, _RunPhase.DRAINING):
            return math.inf
        kill_at = self.process.kill_at
        due = math.inf if self._killed or kill_at is None else kill_at
        if self._hold is not None and not self._hold.exceeded:
            due = min(due, self._hold.next_look)
        if self._phase is _RunPhase.DRAINING:
            return min(due, self._drained_at())
        if self._pidfd < 0:
            return min(due, time.monotonic() + _POLL_SECONDS)
        return due

    def _drained_at(self) -> float:
        common = self._common
        quiet = max(self._output.last, self._ended) + common.drain_quiet
        return min(quiet, self._ended + common.drain_limit)

    def _kill_if_due(self, now: float) -> None:
        kill_at = self.process.kill_at
        if self._killed or kill_at is None or now < kill_at:
            return
        self._killed = True
        self.process.kill_group()
        family = self._family(everywhere=True)
        for pid in family.find():
            family.signal(pid, signal.SIGKILL)

    def _family(self, *, everywhere: bool) -> Family:
        return Family(self._running().process.pid, self._mark if everywhere else None)

    def _running(self) -> Child:
        if self._child is None:
            msg = f"the program of {self._name!r} has not been started"
            raise RuntimeError(msg)
        return self._child

    # ------------------------------------------------------------------- ending

    def _see_exit(self) -> None:
        try:
            exit_code = exit_code_of(self._running().process)
        except ChildProcessError as error:
            self._exit_code = _lost(self._name, error)
            self.process.release()
        else:
            if exit_code is None:
                return
            self._exit_code = exit_code
            self._was_asked = self.process.kill_at is not None
            self._oom_killed = (
                exit_code in _KILLED
                and not self._was_asked
                and self._hold is None
                and self._common.memory_kills.claim(self._memory_kills)
            )
        self._ended = time.monotonic()
        self._phase = _RunPhase.DRAINING
        self._close_pidfd()
        self.process.note_exit()
        if self._output.is_open:
            self._schedule()
        else:
            self._clear()

    def _see_end_of_output(self) -> None:
        if self._phase is _RunPhase.DRAINING:
            self._clear()

    def _clear(self) -> None:
        """End the processes that the program leaves running."""
        self._phase = _RunPhase.CLEARING
        child = self._running().process
        self._pid_file.remove()
        # The order matters: no signal may be sent to a number that is free.
        self._common.guard.remove(child.pid)
        self.process.release()
        self._used = reap(child)
        # A program that ends by itself may leave processes outside its group; one that
        # is ended may not.
        everywhere = self.process.kill_at is not None
        if self._hold is not None:
            everywhere = not self._hold.knows_all
        family = self._family(everywhere=everywhere)
        self._leftovers = Leftovers(family, self.process.asked_at)
        self._clear_by = time.monotonic() + self._common.leftover_grace
        self._end_leftovers()
        self._schedule()

    def _end_leftovers(self) -> None:
        if self._leftovers is None:
            return
        kill_at = self.process.kill_at
        again = self._leftovers.end(self._clear_by if kill_at is None else kill_at)
        if again is None and (self._hold is None or self._hold.end()):
            self._conclude()
        else:
            self._next_check = again or time.monotonic() + _MOMENT

    def _conclude(self) -> None:
        self._output.finish()
        self._log.close()
        if not isinstance(self._exit_code, int):
            self._finish(ProgramEnd(None, self._exit_code))
            return
        stdout_tail, stderr_tail = self._output.tails()
        result = ProgramResult(
            args=self._program.args,
            exit_code=self._exit_code,
            stdout_tail=stdout_tail,
            stderr_tail=stderr_tail,
            log_path=self._log.path,
            duration=self._ended - self._began,
            withheld_env=self._withheld,
            truncated_bytes=self._log.dropped,
            log_error=self._log.error,
            oom_killed=self._oom_killed,
            memory_mb=self._used.memory_mb,
            cpu_seconds=self._used.cpu_seconds,
            written_mb=self._used.written_mb,
            enforced=", ".join(dict.fromkeys(self._enforced)),
            unenforced=self._unenforced,
        )
        if self._hold is not None:
            result = self._with_held(result, self._hold)
        self._finish(ProgramEnd(result, None, self._was_asked))

    def _with_held(self, result: ProgramResult, hold: Hold) -> ProgramResult:
        """Return *result* with the findings of the hold."""
        used, limits = hold.used, Resources(**hold.limits)
        seconds, written = result.cpu_seconds or 0.0, result.written_mb or 0.0
        hold.count(cpu_seconds=seconds, written_mb=written)
        exceeded = hold.exceeded
        if not exceeded and not self._was_asked:
            by_signal = _LIMIT_BY_SIGNAL.get(result.exit_code, "")
            exceeded = by_signal if by_signal in hold.limits else ""
            exceeded = exceeded or _unseen(hold, result.memory_mb)
        hold.exceeded = exceeded
        memory = hold.most_memory(result.memory_mb)
        if hold.oom_killed:
            # Version 2 may count them for the groups above, too, so this one is
            # claimed.
            self._common.memory_kills.claim(self._memory_kills)
        return attrs.evolve(
            result,
            oom_killed=hold.oom_killed,
            memory_mb=memory,
            cpu_seconds=used.cpu_seconds,
            written_mb=used.written_mb,
            processes=used.processes or None,
            limits=limits,
            exceeded=exceeded,
        )

    def _finish(self, end: ProgramEnd) -> None:
        self._phase = _RunPhase.OVER
        try:
            self._release()
        except Exception:  # noqa: BLE001 - the end must be reported in any case
            _log.exception("taskorch: program %r leaves something open", self._name)
        # The user's function is called once, and not kept alive by the handle.
        on_end, self._on_end = self._on_end, _ignore
        try:
            on_end(end)
        except BaseException:  # noqa: BLE001 - the other programs must go on
            _log.exception("taskorch: on_end of program %r failed", self._name)
        finally:
            self._on_over(self)

    def _release(self) -> None:
        self.process.release()
        self._close_pidfd()
        self._pid_file.remove()
        if self._grant is not None:
            self._grant.close()
        if self._spent is not None:
            try:
                self._spent.read(is_last=True)
            finally:
                self._spent.close()
        if self._hold is not None and self._child is None:
            self._hold.end()
        if self._temporary is not None:
            remove_tree(self._temporary)
        self._input.close()
        self._output.close()
        self._log.close()
        # The handle may live for long: large or secret data is dropped now.
        self._env = {}
        self._output.forget()

    def _close_pidfd(self) -> None:
        fd, self._pidfd = self._pidfd, -1
        if fd >= 0:
            self._common.loop.unwatch(fd)
            os.close(fd)


def _unseen(hold: Hold, largest: float | None) -> str:
    """Return the limit that was passed between two looks, by the *largest* process."""
    limit = hold.limits.get("memory_mb", math.inf)
    # It shares some of that with other processes, such as libraries.
    surely = largest is not None and largest > _SURELY * limit + _SHARED_MB
    return "memory_mb" if surely and hold.ways.get("memory_mb") == WATCH else ""


def _ignore(end: ProgramEnd) -> None:
    """Do nothing, as the end was reported already."""


def check_name(name: str) -> None:
    """
    Check that *name* can become part of a path.

    Raises:
        ValueError: It could lead elsewhere.
    """
    if "\0" in name or any(part in ("", ".", "..") for part in name.split("/")):
        msg = f"the name {name!r} is no safe path: use segments joined by single '/'"
        raise ValueError(msg)


def _given_up(name: str, error: OSError) -> RuntimeError:
    given_up = RuntimeError(f"the program of {name!r} was given up: {error}")
    given_up.__cause__ = error
    return given_up


def _lost(name: str, error: ChildProcessError) -> ChildProcessError:
    text = (
        f"the exit code of the program of {name!r} is lost: something else in this "
        "process has waited for it, or SIGCHLD is ignored; leave SIGCHLD at its "
        "default and wait for children by their own process ids only"
    )
    lost = ChildProcessError(error.errno, text)
    lost.__cause__ = error
    return lost
