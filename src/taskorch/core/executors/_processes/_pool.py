"""
A pool that gives calls to worker processes: one thread looks after all of them.

Decision: worker-processes.
"""

from __future__ import annotations

import itertools
import os
import pickle
import threading
import time
from collections import deque
from concurrent.futures import BrokenExecutor
from functools import partial
from typing import Any, Final

from taskorch.core.executors import wire
from taskorch.core.executors._processes._process import Assignment, WorkerProcess
from taskorch.core.executors._processes._telling import (
    IN_A_SCRIPT,
    Telling,
    handle_record,
    lost,
    tell_of_failed_start,
    unreadable,
    worker_failed_to_start,
)
from taskorch.core.executors._programs._governor import Governor, UnheldError
from taskorch.core.executors._programs._guard import ProcessGuard
from taskorch.core.executors.remote import (
    HERE,
    RemoteEnd,
    pickled,
    unsendable,
    with_variables,
)
from taskorch.errors import AttemptInterrupted, InvalidTaskError, UnenforceableError
from taskorch.kit.ends import is_no_room
from taskorch.kit.fence import is_values, log_of
from taskorch.kit.loop import Loop
from taskorch.kit.processes import at_fork
from taskorch.model import NO_RESOURCES, Resources
from taskorch.protocols import Attempt

_log = log_of(__name__)

_numbers = itertools.count(1)
#: The workers in a row that end before they can begin, before waiting calls fail.
_MOST_FAILURES: Final = 3


class WorkerPool:
    """
    A pool of worker processes: one for each call, up to a number.

    Further calls wait here, in the order in which they came. Once all workers are busy,
    each is given one call more, to go on with at once; an idle one gets a call that
    another was given, and has not taken. Which of its calls a worker makes is not
    known, so a message about one has its number.
    """

    def __init__(
        self,
        run_id: str,
        count: int,
        surroundings: dict[str, Any] | None = None,
        limits: Resources = NO_RESOURCES,
    ) -> None:
        self._run_id = run_id
        #: The limits of each worker.
        self._limits = limits
        self._governor = Governor()
        self._count = count
        #: The settings of the program that workers get from it; None: those of this
        #: one.
        self._surroundings = surroundings
        self._loop = Loop()
        self._guard = ProcessGuard(run_id)
        # Guards all below; never held while other code is called.
        self._lock = threading.Lock()
        self._workers: set[WorkerProcess] = set()
        self._idle: list[WorkerProcess] = []
        self._waiting: deque[Assignment] = deque()
        #: The number of workers, with those that are starting; and of those that cannot
        #: begin yet.
        self._there = 0
        self._coming = 0
        #: Workers that have ended before they could begin, since the last that could.
        self._failures = 0
        self._thread: threading.Thread | None = None
        self._owner: int | None = None
        self._closed = False

    # -- from any thread -----------------------------------------------------------

    def begin(self, attempt: Attempt) -> Assignment:
        """
        Begin a call on a worker, or put it into the queue.

        Raises:
            InvalidTaskError: It cannot be sent.
            RuntimeError: The pool takes no more calls.
        """
        if HERE.is_importing_main:
            msg = "a worker process has run the script that started it, once more"
            raise InvalidTaskError(msg, hint=IN_A_SCRIPT, task_id=attempt.task_id)
        portable = attempt.portable()
        variables = attempt.told("variables", None)
        try:
            call = pickled(portable, wire.MOST_BYTES)
            if variables:
                call = pickled(partial(with_variables, dict(variables), call))
        except BaseException as error:
            if not is_values(error):
                raise
            raise unsendable(error, attempt.task_id, "process") from error
        number = next(_numbers).to_bytes(wire.NUMBER)
        return self.begin_call(attempt, number, call, is_last=bool(variables))

    def begin_call(
        self, attempt: Attempt, number: bytes, call: bytes, *, is_last: bool = False
    ) -> Assignment:
        """
        Begin *call*, which is pickled already, for *attempt*: see `begin`.

        No other call under way here has its *number*. If it *is_last*, its worker makes
        no other after it.

        Raises:
            RuntimeError: The pool takes no more calls.
        """
        assignment = Assignment(attempt, number, call, is_last=is_last)
        is_short = False
        with self._lock:
            self._check()
            if self._thread is None:
                self._launch()
            self._waiting.append(assignment)
            if self._idle:
                self._serve(self._idle.pop())
            else:
                is_short = self._order()
        if is_short:
            self._loop.call(self._start_worker)
        return assignment

    def stop(self, assignment: Assignment, seconds: float) -> None:
        """Tell a call to end, and kill its worker after *seconds*."""
        with self._lock:
            if assignment.is_over or self._is_forked():
                return
            first, assignment.is_asked = not assignment.is_asked, True
            worker = assignment.worker
            if worker is None:
                self._waiting.remove(assignment)
                assignment.is_over = True
            elif first and self._take_back(worker, assignment):
                assignment.is_over = True
                self._serve(worker)
        if assignment.is_over:
            interrupted = AttemptInterrupted("stopped before it began")
            assignment.attempt.end(error=interrupted)
            return
        assert worker is not None  # noqa: S101 - it has begun
        if first:
            worker.send(wire.STOP, assignment.number)
        when = time.monotonic() + max(0.0, seconds)
        kill = partial(self._kill_if_under_way, assignment)
        self._loop.call(partial(self._loop.at, when, kill))

    def withdraw(self, assignment: Assignment) -> bool:
        """Take back a call that no worker has begun; return False if one has."""
        with self._lock:
            worker = assignment.worker
            if assignment.is_over:
                return False
            if worker is None:
                self._waiting.remove(assignment)
            elif not self._take_back(worker, assignment):
                return False
            else:
                self._serve(worker)
            assignment.is_over = True
        return True

    def end_all(self, seconds: float) -> None:
        """Stop all calls, and kill them after *seconds*."""
        with self._lock:
            assignments = list(self._waiting)
            for worker in self._workers:
                assignments += worker.given.values()
        for assignment in assignments:
            self.stop(assignment, seconds)

    def close(self, patience: float) -> None:
        """End all workers and wait *patience* seconds; may be called again."""
        if self._is_forked():
            return
        with self._lock:
            self._closed = True
            thread = self._thread
        if thread is None or thread is threading.current_thread():
            return
        self._loop.call(self._end_workers)
        thread.join(min(patience, threading.TIMEOUT_MAX))
        if thread.is_alive():
            _log.error("taskorch: %d workers cannot be ended in time", self._there)

    def _order(self) -> bool:
        """Return whether to start one more worker, which is counted; hold the lock."""
        is_short = self._coming < len(self._waiting) and self._there < self._count
        # After one that has ended before it could begin, one at a time tries again.
        is_short = is_short and not (self._failures and self._coming)
        if is_short:
            self._coming += 1
            self._there += 1
        return is_short

    def _check(self) -> None:
        if self._is_forked():
            msg = (
                f"these worker processes belong to process {self._owner}, of which "
                "this one is a fork; make a new orchestrator here"
            )
            raise RuntimeError(msg)
        if self._closed:
            msg = "the worker processes were ended, and take no more calls"
            raise RuntimeError(msg)

    # -- on its thread -------------------------------------------------------------

    def _launch(self) -> None:
        thread = threading.Thread(
            target=self._supervise, name="taskorch-processes", daemon=True
        )
        at_fork(self)
        # Jobs that an earlier loop has left are not for this one.
        self._loop = Loop()
        self._thread, self._owner = thread, os.getpid()
        try:
            thread.start()
        except RuntimeError:
            self._thread = None
            raise

    def _supervise(self) -> None:
        problem: BaseException | None = None
        loop = self._loop
        try:
            loop.open()
            loop.run(self._is_over)
        except BaseException as error:  # noqa: BLE001 - every call must be told
            _log.exception("taskorch: what looks after worker processes has to give up")
            problem = error
        self._guard.close()
        loop.close()
        if problem is not None:
            self._give_up(problem)

    def _is_over(self) -> bool:
        return self._closed and not self._there and not self._waiting

    def _give_up(self, problem: BaseException) -> None:
        """End all calls with *problem*: no descriptors are left."""
        with self._lock:
            self._thread = None
            workers, self._workers = list(self._workers), set()
            self._idle, self._there, self._coming = [], 0, 0
        for worker in workers:
            worker.abandon()
            for assignment in list(worker.given.values()):
                self._end(assignment, error=BrokenExecutor(str(problem)))
        self._refuse_waiting(problem)

    def _refuse_waiting(self, problem: BaseException) -> None:
        with self._lock:
            waiting, self._waiting = list(self._waiting), deque()
            for assignment in waiting:
                assignment.is_over = True
        for assignment in waiting:
            assignment.attempt.unstarted(problem)

    def _end_workers(self) -> None:
        with self._lock:
            workers, self._idle = list(self._workers), []
            waiting = list(self._waiting)
        for assignment in waiting:
            self.stop(assignment, 0)
        for worker in workers:
            if not worker.given and worker.is_ready:
                worker.leave()
            else:
                worker.kill()

    def _start_worker(self) -> None:
        with self._lock:
            if self._closed or not self._waiting:
                self._there -= 1
                self._coming -= 1
                return
        mark = f"{self._run_id}.{os.getpid()}.w{next(_numbers)}"
        worker = WorkerProcess(
            self._loop,
            mark,
            self._run_id,
            self._heard,
            self._worker_ended,
            self._surroundings,
        )
        try:
            self._guard.start()
            if self._limits:
                limits = dict(self._limits)
                worker.hold, _ = self._governor.hold(limits, partly=False)
            worker.start()
        except UnheldError as error:
            self._cannot_start(UnenforceableError(str(error)))
            return
        except Exception as error:  # noqa: BLE001 - waiting calls are told
            self._cannot_start(error)
            return
        with self._lock:
            self._workers.add(worker)
        self._guard.add(worker.pid)

    def _cannot_start(self, error: Exception) -> None:
        with self._lock:
            self._there -= 1
            self._coming -= 1
            others_come = self._there > 0 and is_no_room(error)
        if not others_come:
            self._refuse_waiting(error)

    def _kill_if_under_way(self, assignment: Assignment) -> None:
        worker = assignment.worker
        if worker is not None and not assignment.is_over:
            worker.kill()

    # -- what workers say ----------------------------------------------------------

    def _heard(
        self, worker: WorkerProcess, kind: int, number: bytes, body: bytes
    ) -> None:
        assignment = worker.given.get(number)
        if kind == wire.RETURNED:
            before = wire.RETURNED_BEFORE
            used, length = before.unpack_from(body)
            begin = before.size + length
            name = body[before.size : begin].decode(errors="replace")
            end = RemoteEnd(body[begin:], raised=False, kind=name, cpu_seconds=used)
            self._answered(worker, number, end)
        elif kind == wire.END:
            self._hear_end(worker, number, body)
        elif kind == wire.LOGGED:
            handle_record(assignment, body)
        elif kind == wire.TOLD:
            Telling(worker, assignment, number, body).begin()
        elif kind == wire.READY and not worker.is_ready:
            worker.is_ready = True
            with self._lock:
                self._coming -= 1
                self._failures = 0
                is_to_leave = self._serve(worker) and self._closed
            if is_to_leave:
                worker.leave()
        elif kind == wire.UNREADABLE and assignment is not None:
            kind_of_error, message = pickle.loads(body)  # noqa: S301 - our own worker
            error = unreadable(assignment.attempt.task_id, kind_of_error, message)
            self._answered(worker, number, error=error)
        else:
            worker.give_up()

    def _hear_end(self, worker: WorkerProcess, number: bytes, body: bytes) -> None:
        try:
            value = pickle.loads(body)  # noqa: S301 - our own worker
        except BaseException as error:
            # The user's unpickling may raise anything.
            if not is_values(error):
                raise
            self._answered(worker, number, error=error)
        else:
            self._answered(worker, number, value)

    def _answered(
        self,
        worker: WorkerProcess,
        number: bytes,
        value: Any = None,
        error: BaseException | None = None,
    ) -> None:
        """Note the end of a call on *worker*, and give it the next."""
        with self._lock:
            ended = worker.given.pop(number, None)
            is_to_leave = False
            if ended is not None:
                ended.is_over = True
                # No call was given to it after its last.
                is_to_leave = ended.is_last or (self._serve(worker) and self._closed)
        if ended is None:
            # The answer belongs to no known call, and its other calls may be affected
            # as well.
            worker.give_up()
            return
        if is_to_leave:
            worker.leave()
        self._end(ended, value, error)

    def _serve(self, worker: WorkerProcess) -> bool:
        """Give *worker* calls; return whether it is idle now; hold the lock."""
        waiting, assignments = self._waiting, worker.given
        if worker.is_leaving or worker.is_garbled:
            return False
        if not assignments:
            assignment = waiting.popleft() if waiting else self._taken_from_others()
            if assignment is None:
                self._idle.append(worker)
                return True
            assignments[assignment.number], assignment.worker = assignment, worker
            worker.give(assignment)
        is_full = not self._coming and self._there >= self._count
        # No call waits behind one that cannot be taken back, nor behind a worker's
        # last.
        can_wait = len(assignments) == 1 and all(
            one.call and not one.is_last for one in assignments.values()
        )
        if is_full and waiting and can_wait and worker.give(waiting[0], ahead=True):
            assignment = waiting.popleft()
            assignments[assignment.number], assignment.worker = assignment, worker
        return False

    def _taken_from_others(self) -> Assignment | None:
        """Return a call that a busy worker has not taken; hold the lock."""
        for other in self._workers:
            if len(other.given) > 1:
                assignment = other.given.pop(other.take_one_back() or wire.NOBODY, None)
                if assignment is not None:
                    return assignment
        return None

    def _take_back(self, worker: WorkerProcess, wanted: Assignment) -> bool:
        """Take back *wanted*; return False if it was taken; hold the lock."""
        numbers = worker.take_all_back()
        for number in numbers - {wanted.number}:
            worker.give(worker.given[number])
        if wanted.number in numbers:
            del worker.given[wanted.number]
            wanted.worker = None
        return wanted.number in numbers

    def _end(
        self,
        assignment: Assignment,
        value: Any = None,
        error: BaseException | None = None,
    ) -> None:
        assignment.is_over = True
        assignment.variables = None
        assignment.call = b""
        assignment.attempt.end(value, error)

    def _worker_ended(self, worker: WorkerProcess) -> None:
        """Note that a worker and all its processes have gone."""
        self._guard.remove(worker.pid)
        unserved: list[Assignment] = []
        with self._lock:
            self._workers.discard(worker)
            self._there -= 1
            if worker in self._idle:
                self._idle.remove(worker)
            begun = self._recover(worker)
            if not worker.is_ready:
                self._coming -= 1
                self._failures += 1
                if self._failures >= _MOST_FAILURES and not self._there:
                    # Otherwise one worker after the other would end so, and no call
                    # would fail.
                    unserved += self._waiting
                    self._waiting.clear()
                    self._failures = 0
            for over in (*begun, *unserved):
                over.is_over = True
            # Otherwise the other workers do the waiting calls.
            is_tried = self._failures < _MOST_FAILURES or not self._there
            is_short = not self._closed and is_tried and self._order()
            called_off = list(self._waiting) if self._closed else []
        if not worker.is_ready and not self._closed:
            tell_of_failed_start(worker)
        if is_short:
            self._start_worker()
        for assignment in called_off:
            self.stop(assignment, 0)
        for assignment in begun:
            self._end(assignment, error=lost(assignment, worker))
        for assignment in unserved:
            self._end(assignment, error=worker_failed_to_start(assignment, worker))

    def _recover(self, worker: WorkerProcess) -> list[Assignment]:
        """
        Return calls that *worker* had taken; let the others wait again; hold the lock.

        It may have taken all its calls, if its answer to the first was no frame.
        """
        numbers = worker.take_all_back()
        worker.close_messages()
        begun: list[Assignment] = []
        for number, assignment in reversed(worker.given.items()):
            if number in numbers:
                assignment.worker = None
                self._waiting.appendleft(assignment)
            else:
                begun.append(assignment)
        worker.given.clear()
        return begun

    # -- forked --------------------------------------------------------------------

    def _is_forked(self) -> bool:
        return self._owner is not None and os.getpid() != self._owner

    def disown(self) -> None:
        """Close descriptors that would keep the parent's workers; in a child."""
        for worker in list(self._workers):
            worker.disown()
        self._guard.disown()
