"""Runs programs: one thread starts them all, reads their output and ends them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from taskorch.core.executors._programs._family import Family, Leftovers, MemoryKills
from taskorch.core.executors._programs._governor import Governor
from taskorch.core.executors._programs._guard import ProcessGuard
from taskorch.core.executors._programs._output import LogFolder
from taskorch.core.executors._programs._process import ProgramEnd, ProgramProcess
from taskorch.core.executors._programs._run import AttemptHolding, Common, ProgramRun
from taskorch.kit.fence import log_of
from taskorch.kit.loop import Loop
from taskorch.kit.processes import at_fork
from taskorch.model import ProgramVariables

if TYPE_CHECKING:
    from taskorch.model import Program

_log = log_of(__name__)

# Seconds that closing may take beyond its grace: killed processes need a moment to go,
# and the last callbacks to return.
_CLOSE_MARGIN = 5.0


class ProgramExecutor:
    """
    Runs programs, each in a session and process group of its own.

    One daemon thread, the supervisor, serves them all: it starts them, reads their
    output, waits for their ends and keeps the times. The constructor starts nothing.

    A program is over when its process has ended and its output has been read to the
    end, or nothing has come for `drain_quiet` seconds, or `drain_limit` seconds have
    passed: a child that keeps the pipe open does not delay the end. Processes that the
    program leaves in its process group are ended then: SIGTERM, and SIGKILL after
    `leftover_grace` seconds. If the program was ended by us, the same happens to
    processes that have left the group (Linux).

    If this process is killed, a guardian process kills the programs' groups and then,
    on Linux, every process that has `TASKORCH_RUN` with the id of this run in its
    environment. `close` ends those too. A daemon that is meant to outlive the run
    is started without that variable (`env -u TASKORCH_RUN …`) and in a session of its
    own (`setsid`).

    Args:
        run_id: The unique id of this incarnation of the orchestrator.
        logs: The folder for the logs; None keeps them in a temporary one that stays
            until the interpreter exits.
        max_log_bytes: The most output of a program in its log; later output is read
            and counted, so that the program can go on.
        tail_bytes: Bytes of the end of each stream in the result.
        drain_quiet: Seconds, see above.
        drain_limit: Seconds, see above.
        leftover_grace: Seconds, see above.

    Raises:
        ValueError: The run id cannot be part of an environment.
    """

    def __init__(
        self,
        *,
        run_id: str,
        logs: Path | None = None,
        max_log_bytes: int = 64 * 2**20,
        tail_bytes: int = 64 * 2**10,
        drain_quiet: float = 0.5,
        drain_limit: float = 1.0,
        leftover_grace: float = 0.5,
    ) -> None:
        if not run_id or "\0" in run_id:
            msg = f"run_id: {run_id!r} cannot mark processes; give a short text"
            raise ValueError(msg)
        # The process in which the thread is; None as long as there is no thread.
        self._owner: int | None = None
        self._common = Common(
            run_id=run_id,
            loop=Loop(),
            guard=ProcessGuard(run_id),
            logs=LogFolder(logs),
            memory_kills=MemoryKills(),
            governor=Governor(),
            max_log_bytes=max_log_bytes,
            tail_bytes=tail_bytes,
            drain_quiet=drain_quiet,
            drain_limit=drain_limit,
            leftover_grace=leftover_grace,
        )
        # Guards the three below; never held while other code is called.
        self._lock = threading.Lock()
        self._runs: set[ProgramRun] = set()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._close_by = float("inf")

    def start(
        self,
        program: Program,
        *,
        name: str,
        env: Mapping[str, str],
        on_end: Callable[[ProgramEnd], object],
        holding: AttemptHolding | None = None,
        on_spent: Callable[[list[bytes]], object] | None = None,
    ) -> ProgramProcess:
        """
        Start a program; for any thread, and without waiting for it.

        Args:
            program: The program.
            name: The name of its log: safe path segments joined by "/", such as the id
                of a task and the number of the attempt.
            env: Variables that replace the program's own.
            on_end: Called once, on the supervisor's thread, when the program is over
                or could not be started. While it runs no other program is served, so
                it should only pass the end on. An error that it raises is logged.
            holding: The allocation of the attempt, if that may change while it runs:
                then it is in a file, and the program may report a checkpoint. Called
                on the supervisor's thread.
            on_spent: Called there with the lines in which the program reports its
                spending, the last of them before *on_end*; None: it cannot report any.

        Returns:
            The process, at once; its `pid` is known a little later.

        Raises:
            RuntimeError: The executor is closed, belongs to the process that forked
                this one, or cannot have a thread.
        """
        self._check_owner()
        run = ProgramRun(
            self._common,
            program,
            name=name,
            env=env,
            on_end=on_end,
            on_over=self._forget,
            holding=holding,
            on_spent=on_spent,
        )
        with self._lock:
            if self._closed:
                msg = "the executor of programs is closed and starts no more"
                raise RuntimeError(msg)
            if self._thread is None:
                self._launch()
            self._runs.add(run)
        self._common.loop.call(partial(self._begin, run))
        return run.process

    def watch_over(self, group: int) -> None:
        """
        Let the guardian kill a process group that other code has started, if we die.

        That code gives it the mark of the run, `TASKORCH_RUN`, so that processes which
        leave the group are found, too. For any thread; after `close` it does nothing.
        """
        self._check_owner()
        with self._lock:
            if self._closed:
                return
            if self._thread is None:
                self._launch()
        self._common.loop.call(partial(self._guard_group, group))

    def watch_no_more(self, group: int) -> None:
        """Stop watching a group whose number may be used again."""
        if self._thread is not None and not self._is_forked():
            self._common.loop.call(partial(self._common.guard.remove, group))

    def terminate(self, grace: float) -> None:
        """
        Ask all programs to end, and kill after *grace* seconds those that have not.

        It does not wait, and others may be started.
        """
        with self._lock:
            runs = list(self._runs)
        for run in runs:
            run.process.terminate(grace)

    def close(self, grace: float, patience: float = _CLOSE_MARGIN) -> None:
        """
        End all programs and their processes, and wait until they are gone.

        They have *grace* seconds from SIGTERM to SIGKILL. Each `on_end` has been called
        when it returns. It returns in any case *patience* seconds after that; processes
        that have not ended until then are left to the guardian. It can be called again,
        also to shorten the grace. In `on_end` it does not wait.
        """
        if self._is_forked():
            return
        grace = max(grace, 0.0)
        with self._lock:
            self._closed = True
            self._close_by = min(self._close_by, time.monotonic() + grace)
            runs, thread = list(self._runs), self._thread
        for run in runs:
            run.process.terminate(grace)
        if thread is None or thread is threading.current_thread():
            return
        self._common.loop.call(self._begin_all)
        thread.join(min(grace + patience, threading.TIMEOUT_MAX))
        if thread.is_alive():
            with self._lock:
                runs = list(self._runs)
            for run in runs:
                run.process.kill()
            _log.error("taskorch: %d programs cannot be ended in time", len(runs))

    # ------------------------------------------------------- the supervisor's thread

    def _launch(self) -> None:
        thread = threading.Thread(
            target=self._supervise, name="taskorch-programs", daemon=True
        )
        at_fork(self)
        self._thread = thread
        self._owner = os.getpid()
        try:
            thread.start()
        except RuntimeError:
            self._thread = None
            raise

    def _supervise(self) -> None:
        loop = self._common.loop
        problem: BaseException | None = None
        try:
            loop.open()
            loop.run(self._is_over)
            self._end_strays()
        except BaseException as error:  # noqa: BLE001 - every program must be told
            _log.exception("taskorch: the supervisor of programs has to give up")
            problem = error
        self._common.guard.close()
        loop.close()
        if problem is not None:
            # From here on a next supervisor may start, which uses both again.
            self._give_up(problem)

    def _begin_all(self) -> None:
        # An interrupt may have come between the two steps of `start`.
        for run in list(self._runs):
            self._begin(run)

    def _begin(self, run: ProgramRun) -> None:
        if self._closed:
            run.refuse()
        else:
            run.start()

    def _guard_group(self, group: int) -> None:
        try:
            self._common.guard.start()
        except OSError as error:
            _log.warning("the guardian of our programs cannot be started: %s", error)
        self._common.guard.add(group)

    def _is_over(self) -> bool:
        return self._closed and not self._runs

    def _end_strays(self) -> None:
        """End processes with the mark of the run that belong to no program."""
        mark = os.fsencode(f"{ProgramVariables.RUN}={self._common.run_id}")
        leftovers = Leftovers(Family(None, mark), None)
        while (when := leftovers.end(self._close_by)) is not None:
            self._common.loop.at(when, _nothing)
            self._common.loop.run(partial(_is_past, when))

    def _give_up(self, error: BaseException) -> None:
        # There are no descriptors left, or other code has closed ours. The next program
        # may find better times.
        with self._lock:
            self._thread = None
            runs = list(self._runs)
        for run in runs:
            run.fail(error)

    def _forget(self, run: ProgramRun) -> None:
        with self._lock:
            self._runs.discard(run)

    # -------------------------------------------------------------------- forked

    def _is_forked(self) -> bool:
        return self._owner is not None and os.getpid() != self._owner

    def _check_owner(self) -> None:
        if self._is_forked():
            msg = (
                f"this executor of programs belongs to process {self._owner}, of which "
                "this one is a fork; make a new one here"
            )
            raise RuntimeError(msg)

    def disown(self) -> None:
        """Close descriptors that would keep the parent's programs, in a child."""
        for run in list(self._runs):
            run.disown()
        self._common.guard.disown()


def _nothing() -> None:
    """Do nothing: the call wakes the loop, which checks whether to run on."""


def _is_past(when: float) -> bool:
    return time.monotonic() >= when
