"""
Worker that is one long-lived program, with a line of JSON for a task and its answer.

To the program goes `{"id", "type", "payload", "attempt"}`, with `"writes"` if the task
has write scopes, and `"units"` if it has units with names. It answers with the same id:
`{"id", "result"}` or `{"id", "error"}` ends the attempt; `{"id", "progress"}` and
`{"id", "spent": {"tokens": 5}}` do not. An error with `"last": true` makes us kill the
program and all that it has started. Output from before the task, or about another
attempt, is no answer.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, Final, NoReturn

from taskorch.errors import AgentProgramError, AttemptLostError
from taskorch.kit.processes import exit_code_of, no_fork
from taskorch.model import ProgramVariables

if TYPE_CHECKING:
    from taskorch.core.executors.programs import ProgramExecutor

#: The longest line, and the most that is read at once, in bytes.
_LONGEST: Final = 16 << 20
_CHUNK: Final = 64 << 10
#: Bytes that a pipe may hold: so much output may be older than the task.
_PIPE: Final = 1 << 20
#: Seconds between two checks whether the attempt is cancelled.
_LOOK: Final = 0.05
#: Seconds to read on after its end, if another process holds its output open.
_LAST_WORDS: Final = 0.5
_MOMENT: Final = 0.01


class LineProgram:
    """
    Handler of one worker, whose program does the tasks, one at a time.

    The program is started at once, and again for a task if it has ended. It is killed
    if a task is cancelled or out of time, since its next answer could be for that task.
    Its output is not read while it has no task, so it blocks once the pipe is full. If
    this process dies, the guardian of programs kills it.

    Args:
        agent_id: The id of the worker.
        command: Its list of arguments.
        keeper: The executor with the guardian.
        run_id: The mark of this run on processes.
        ended: Called with the reason when the program ends unexpectedly.
    """

    def __init__(
        self,
        agent_id: str,
        command: Sequence[str],
        keeper: ProgramExecutor,
        run_id: str,
        ended: Callable[[str], object],
    ) -> None:
        self._id = agent_id
        self._command = [part.replace("{id}", agent_id) for part in command]
        self._keeper = keeper
        self._run_id = run_id
        self._ended = ended
        #: Held by a thread that exchanges data with the program, or replaces it.
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        #: Its output that is no whole line yet.
        self._rest = bytearray()
        #: Whether the present line was begun before the present task was sent.
        self._is_inside = False
        #: Whether the present process has answered a task.
        self._is_proven = False
        self._is_stopped = False

    @property
    def pid(self) -> int | None:
        """Process id, while the program runs."""
        process = self._process
        return None if process is None or _code(process) is not None else process.pid

    def start(self) -> None:
        """
        Start the program, unless it runs.

        Raises:
            OSError: It cannot be started.
        """
        with self._lock:
            self._living()

    def __call__(self, task: Any, context: Any) -> Any:
        """
        Do *task*.

        Raises:
            AgentProgramError: It answered with an error, or with an invalid answer.
            AttemptLostError: It ended, so the attempt must be made again.
        """
        order = {
            "id": context.task_id,
            "type": task.type,
            "payload": task.payload,
            "attempt": context.attempt,
        }
        if task.writes is not None:
            order["writes"] = [*task.writes]
        names = {name: context.units(name) for name in context.allocation}
        if units := {name: [*some] for name, some in names.items() if some}:
            order["units"] = units
        try:
            line = json.dumps(order, allow_nan=False).encode() + b"\n"
        except (TypeError, ValueError) as error:
            msg = f"the payload of task {context.task_id} is no JSON: {error}"
            raise AgentProgramError(msg, hint="give it plain values") from None
        with self._lock:
            try:
                process = self._living()
            except OSError as error:
                why = f"{self._command[0]!r} cannot be started: {error.strerror}"
                self._ended(why)
                msg = f"worker {self._id}: {why}"
                hint = "mend start=[…] of its template"
                raise AgentProgramError(msg, hint=hint) from None
            self._skip(process)
            return self._converse(process, memoryview(line), context)

    def look(self) -> None:
        """Notice a program that ended before it did any task."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            process = self._process
            if process is None or _code(process) is None:
                return
            why = _how(process)
            is_fault = not (self._is_proven or self._is_stopped)
            self._close(process)
        finally:
            self._lock.release()
        if is_fault:
            self._ended(why)

    def stop(self) -> None:
        """End the program and all that it started, for good; from any thread."""
        self._is_stopped = True
        process = self._process
        if process is not None:
            _kill(process)
        # A thread in exchange with it notices its end, and closes its pipes.
        if self._lock.acquire(blocking=False):
            try:
                if self._process is not None:
                    self._close(self._process)
            finally:
                self._lock.release()

    # -- under the lock ------------------------------------------------------------

    def _living(self) -> subprocess.Popen[bytes]:
        process = self._process
        if process is not None:
            if _code(process) is None:
                return process
            self._close(process)
        with no_fork:
            process = subprocess.Popen(  # noqa: S603 - as the template says
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
                env={**os.environ, ProgramVariables.RUN: self._run_id},
            )
        self._keeper.watch_over(process.pid)
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None  # noqa: S101 - it is a pipe
            os.set_blocking(pipe.fileno(), False)
        self._process = process
        self._is_proven = False
        self._rest.clear()
        self._is_inside = False
        if self._is_stopped:
            _kill(process)
        return process

    def _skip(self, process: subprocess.Popen[bytes]) -> None:
        """Discard the output of the program so far."""
        skipped, last = 0, bytes(self._rest)
        while skipped < _PIPE and (data := _read(process)):
            skipped += len(data)
            last = data
        # The end of such a line still follows, and is no answer either.
        self._is_inside = bool(last) and not last.endswith(b"\n")
        self._rest.clear()

    def _converse(
        self, process: subprocess.Popen[bytes], line: memoryview, context: Any
    ) -> Any:
        """Give the program a task, and handle its output until it has answered."""
        assert process.stdin is not None  # noqa: S101 - it is a pipe
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        end = 0.0
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdin, selectors.EVENT_WRITE)
            selector.register(process.stdout, selectors.EVENT_READ)
            while True:
                ready = {key.fileobj for key, _ in selector.select(_LOOK)}
                if context.cancelled:
                    self._close(process)
                    msg = f"worker {self._id} was stopped"
                    raise AgentProgramError(msg)
                if process.stdin in ready:
                    line = _write(process, line, selector)
                if process.stdout in ready:
                    is_last, value = self._hear(process, context)
                    if is_last:
                        return value
                if _code(process) is None:
                    continue
                # Its child processes may hold its output open, and write to it.
                end = end or monotonic() + _LAST_WORDS
                if process.stdout not in ready or monotonic() > end:
                    self._lose(process, context)

    def _hear(self, process: subprocess.Popen[bytes], context: Any) -> tuple[bool, Any]:
        """Read output of the program; return whether it has answered, and what."""
        data = _read(process)
        if not data:
            self._lose(process, context)
        for line in self._lines(process, data):
            is_last, value = self._answer(process, line, context)
            if is_last:
                self._is_proven = True
                return True, value
        return False, None

    def _lines(self, process: subprocess.Popen[bytes], data: bytes) -> list[bytes]:
        """Split *data* into whole lines, and keep the rest."""
        *lines, rest = data.split(b"\n")
        if lines:
            lines[0] = bytes(self._rest) + lines[0]
            self._rest[:] = rest
        else:
            self._rest += rest
        if len(self._rest) > _LONGEST:
            self._babbles(process, bytes(self._rest))
        if lines and self._is_inside:
            self._is_inside = False
            del lines[0]
        return lines

    def _answer(
        self, process: subprocess.Popen[bytes], line: bytes, context: Any
    ) -> tuple[bool, Any]:
        """Handle one line; return whether it ends the attempt, and the result."""
        try:
            answer = json.loads(line)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict) or "id" not in answer:
            self._babbles(process, line)
        number = answer.get("attempt", context.attempt)
        if answer["id"] != context.task_id or number != context.attempt:
            # It answers an earlier attempt, which no longer counts.
            return False, None
        if "spent" in answer:
            if not isinstance(answer["spent"], dict):
                self._babbles(process, line)
            context.spent(**answer["spent"])
        if "progress" in answer:
            context.progress(answer["progress"])
            return False, None
        if "error" in answer:
            self._is_proven = True
            if answer.get("last") is True:
                self._close(process)
            raise AgentProgramError(str(answer["error"])[:2000])
        return "result" in answer or "spent" not in answer, answer.get("result")

    def _babbles(self, process: subprocess.Popen[bytes], line: bytes) -> NoReturn:
        self._close(process)
        text = line[:80].decode(errors="backslashreplace")
        msg = f"worker {self._id} answered with {text!r}, not a line of JSON"
        raise AgentProgramError(msg, hint='{"id": …, "result": …}, on one line')

    def _lose(self, process: subprocess.Popen[bytes], context: Any) -> NoReturn:
        """
        Report that the program has ended, or has closed its output.

        Raises:
            AttemptLostError: Always.
        """
        end = monotonic() + _LAST_WORDS
        while _code(process) is None and monotonic() < end:
            # A program that closes its output mostly ends.
            sleep(_MOMENT)
        why = _how(process)
        self._close(process)
        if not self._is_stopped:
            self._ended(why)
        msg = f"worker {self._id}: {why}"
        raise AttemptLostError(msg, task_id=context.task_id)

    def _close(self, process: subprocess.Popen[bytes]) -> None:
        """Kill the program with all of its group, and forget it."""
        self._process = None
        _kill(process)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
        self._keeper.watch_no_more(process.pid)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def _how(process: subprocess.Popen[bytes]) -> str:
    """Describe how a program has ended, as the end of a sentence."""
    code = _code(process)
    closed = "its program closed its output"
    return closed if code is None else f"its program ended with {code}"


def _code(process: subprocess.Popen[bytes]) -> int | None:
    """Return the exit code of an ended process, without releasing its process id."""
    if process.returncode is not None:
        return process.returncode
    try:
        return exit_code_of(process)
    except ChildProcessError:
        # Other code has waited for the process already.
        return process.poll()


def _read(process: subprocess.Popen[bytes]) -> bytes:
    """Read output of the program; empty if there is none or it has ended."""
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    try:
        return os.read(process.stdout.fileno(), _CHUNK)
    except OSError:
        return b""


def _write(
    process: subprocess.Popen[bytes], line: memoryview, selector: selectors.BaseSelector
) -> memoryview:
    """Write as much of *line* as fits; return the rest."""
    assert process.stdin is not None  # noqa: S101 - it is a pipe
    try:
        line = line[os.write(process.stdin.fileno(), line[:_CHUNK]) :]
    except BlockingIOError:
        pass
    except OSError:
        # It ends, or has closed its input and still answers: the next reads show which.
        line = line[:0]
    if not line:
        selector.unregister(process.stdin)
    return line


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that leads a group, and its group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
