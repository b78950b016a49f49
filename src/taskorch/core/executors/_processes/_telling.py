"""Messages of workers besides the ends of calls, and errors about workers."""

from __future__ import annotations

import logging
import pickle
import signal
import threading
from concurrent.futures import BrokenExecutor
from typing import TYPE_CHECKING, Final, Protocol

from taskorch.core.executors import wire
from taskorch.errors import AttemptInterrupted, MemoryLimitError, TaskFailedError
from taskorch.kit.ends import KILLED_BY_OTHERS
from taskorch.kit.fence import hand_on, is_values, log_of
from taskorch.kit.visible import said, visible

if TYPE_CHECKING:
    from taskorch.core.executors._processes._process import Assignment, WorkerProcess
    from taskorch.core.executors._programs._governor import Hold
    from taskorch.core.executors.link import LinkedCall
    from taskorch.protocols import Attempt

_log = log_of(__name__)

#: The hint for a script that its own workers run once more.
IN_A_SCRIPT: Final = 'put what starts it under `if __name__ == "__main__":`'


class AnswerTarget(Protocol):
    """Protocol: the receiver of an answer, a worker or a process of a host."""

    def send(self, kind: int, number: bytes, *body: bytes) -> None:
        """Send a frame of the call with a *number*, without waiting."""
        ...


class Telling:
    """A message from a task through its context, with an answer if one is expected."""

    def __init__(
        self,
        worker: AnswerTarget,
        assignment: LinkedCall | None,
        number: bytes,
        body: bytes,
    ) -> None:
        self._worker = worker
        self._number = number
        task, self._what, question, self._data = pickle.loads(body)  # noqa: S301 - ours
        #: The number of the question; None if no answer is expected.
        self._question: int | None = question
        self._attempt: Attempt | None = None
        if assignment is not None:
            attempt = assignment.attempt
            # Otherwise a thread of an earlier task has sent it.
            is_of_it = task == (attempt.task_id, attempt.number)
            self._attempt = attempt if is_of_it else None

    def begin(self) -> None:
        """Handle the message, on a thread of its own if an answer is expected."""
        if self._question is None:
            self._do()
            return
        # It may have to wait until that is kept.
        thread = threading.Thread(
            target=self._do, name="taskorch-processes-told", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:
            self._answer(error)

    def _do(self) -> None:
        error: BaseException | None = None
        reply: object = None
        try:
            if self._attempt is None:
                error = AttemptInterrupted("its attempt is over")
            else:
                value = pickle.loads(self._data)  # noqa: S301 - ours
                reply = self._attempt.told(self._what, value)
        except BaseException as raised:  # noqa: BLE001 - the error is the task's
            error = raised
        if self._question is not None:
            self._answer(error, reply)
        elif error is not None and self._attempt is not None:
            name = visible(self._attempt.task_id)
            _log.warning(
                "%s() of task %s: %s", self._what, name, visible(said(error)[1])
            )

    def _answer(self, error: BaseException | None, reply: object = None) -> None:
        try:
            answer = pickle.dumps((self._question, error, reply))
            pickle.loads(answer)  # noqa: S301 - checks that it can be read
        except BaseException as unsent:
            # A class of the user's raised it.
            if not is_values(unsent):
                raise
            answer = pickle.dumps(
                (self._question, RuntimeError(said(error or unsent)[1]), None)
            )
        self._worker.send(wire.ANSWER, self._number, answer)


def handle_record(assignment: LinkedCall | None, body: bytes) -> None:
    """Pass a worker's record to our loggers, in the context of its task."""
    try:
        record = logging.makeLogRecord(pickle.loads(body))  # noqa: S301 - ours
    except BaseException as error:
        # A value in `extra` raised it.
        if not is_values(error):
            raise
        _log.warning("a record of a worker process cannot be read", exc_info=True)
        return
    logger = logging.getLogger(record.name)
    if not logger.isEnabledFor(record.levelno):
        return
    if assignment is None:
        hand_on(logger.handle, record)
        return
    assignment.attempt.told("logged", record)
    if assignment.variables is None:
        assignment.variables = assignment.attempt.variables()
    assignment.variables.run(hand_on, logger.handle, record)


def lost(assignment: Assignment, worker: WorkerProcess) -> BaseException:
    """Return the error of a call whose worker has ended."""
    if assignment.is_asked:
        return AttemptInterrupted("its worker process was killed")
    task_id = assignment.attempt.task_id
    if worker.is_garbled:
        return BrokenExecutor(
            f"the worker process of task {task_id} was killed: something in the task, "
            "or in one before it, wrote to the descriptor by which the worker speaks "
            "to taskorch"
        )
    if worker.is_mute:
        return BrokenExecutor(
            f"the worker process of task {task_id} was killed: something in the task "
            "closed the descriptor by which the worker speaks to taskorch"
        )
    if worker.hold is not None and worker.hold.exceeded:
        return _over_limit(task_id, worker.hold)
    how = _how(worker.exit_code)
    why = f"; {KILLED_BY_OTHERS}" if worker.exit_code == -signal.SIGKILL else ""
    return BrokenExecutor(f"the worker process of task {task_id} {how}{why}")


def _over_limit(task_id: str, hold: Hold) -> BaseException:
    """Return the error of a call whose worker was ended for one of its limits."""
    name, begin = hold.exceeded, f"the worker process of task {task_id}"
    limit = hold.limits.get(name, 0.0)
    if name == "memory_mb":
        used, how = hold.used.memory_mb, hold.ways[name]
        return MemoryLimitError(
            f"{begin} used {used:.0f} of {limit:g} MB of memory, and was ended",
            peak=used,
            limit=limit,
            how=how,
            hint="raise limits= of its processes, or let it use less",
            task_id=task_id,
        )
    passed = f"passed its limit, {name}" if limit else "left the group of its limits"
    return BrokenExecutor(f"{begin} {passed}, and was ended")


def tell_of_failed_start(worker: WorkerProcess) -> None:
    """Log that a worker has ended before it could be given anything."""
    text = "taskorch: a worker process %s before it could begin"
    _log.warning(text, _how(worker.exit_code))


def worker_failed_to_start(
    assignment: Assignment, worker: WorkerProcess
) -> BaseException:
    """Return the error of a call whose workers all ended at once."""
    task_id = assignment.attempt.task_id
    return TaskFailedError(
        f"a worker process for task {task_id} {_how(worker.exit_code)} before it could "
        "begin, as have those before it",
        type="BrokenExecutor",
        hint="its standard error says why, which is that of this process",
        task_id=task_id,
    )


def unreadable(task_id: str, kind: str, message: str) -> BaseException:
    """Return the error of a call that its worker could not read."""
    text = f"{kind}: {message}".removesuffix(": ")
    return TaskFailedError(
        f"task {task_id} could not be read in its worker process: {text}",
        type=kind,
        hint="its function and its arguments must be found by an interpreter that has "
        f"just been started: in modules that it can import; of a script, {IN_A_SCRIPT}",
        task_id=task_id,
    )


def _how(code: int | None) -> str:
    if code is None:
        return "ended, and somebody else has taken its exit code"
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"was ended by signal {-code} ({signal.Signals(-code).name})"
    except ValueError:
        return f"was ended by signal {-code}"
