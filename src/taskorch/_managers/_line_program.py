"""
An agent that is one long-lived program: a task is a line of JSON, and so is its answer.

To the program goes `{"id", "type", "payload", "attempt"}`. It answers with the same id:
`{"id", "result"}` or `{"id", "error"}` ends the attempt, and `{"id", "progress"}` does
not.
"""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import threading
from collections.abc import Callable, Sequence
from typing import IO, Any, Final

from taskorch.errors import AgentProgramError, AttemptLostError

#: The longest line that is read, in bytes.
_LONGEST: Final = 16 << 20
#: Seconds between two looks at whether the attempt is cancelled.
_LOOK: Final = 0.05


class LineProgram:
    """
    Does the tasks of one agent, one at a time; called as its handler.

    The program is started with the first task, and again if it has ended. It is killed
    if a task is cancelled, or out of time: nobody knows what it would answer next.

    Args:
        agent_id: The id of the agent.
        command: Its list of arguments.
        ended: Called with why, each time the program ends that should not.
    """

    def __init__(
        self, agent_id: str, command: Sequence[str], ended: Callable[[str], object]
    ) -> None:
        self._id = agent_id
        self._command = [part.replace("{id}", agent_id) for part in command]
        self._ended = ended
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

    @property
    def pid(self) -> int | None:
        """The process, while there is one."""
        process = self._process
        return None if process is None or process.poll() is not None else process.pid

    def __call__(self, task: Any, context: Any) -> Any:
        """
        Do *task*.

        Raises:
            AgentProgramError: It answered with an error, or with what is none.
            AttemptLostError: It ended.
        """
        with self._lock:
            process = self._living()
            said = {
                "id": context.task_id,
                "type": task.type,
                "payload": task.payload,
                "attempt": context.attempt,
            }
            try:
                line = json.dumps(said, allow_nan=False).encode() + b"\n"
            except (TypeError, ValueError) as error:
                msg = f"the payload of task {context.task_id} is no JSON: {error}"
                raise AgentProgramError(msg, hint="give it plain values") from None
            try:
                assert process.stdin is not None  # noqa: S101 - it is a pipe
                process.stdin.write(line)
                process.stdin.flush()
            except OSError:
                self._lost(process)
            return self._answer(process, context)

    def _answer(self, process: subprocess.Popen[bytes], context: Any) -> Any:
        while True:
            try:
                line = self._lines.get(timeout=_LOOK)
            except queue.Empty:
                if context.cancelled:
                    self.stop()
                    msg = f"agent {self._id} was stopped"
                    raise AgentProgramError(msg) from None
                continue
            if line is None:
                self._lost(process)
            try:
                said = json.loads(line or b"")
            except ValueError:
                said = None
            if not isinstance(said, dict) or "id" not in said:
                self.stop()
                text = (line or b"")[:80].decode(errors="backslashreplace")
                msg = f"agent {self._id} answered with {text!r}, not a line of JSON"
                raise AgentProgramError(msg, hint='{"id": …, "result": …}, on one line')
            if said["id"] != context.task_id:
                # An answer to what does not count any more.
                continue
            if "progress" in said:
                context.progress(said["progress"])
            elif "error" in said:
                raise AgentProgramError(str(said["error"])[:2000])
            else:
                return said.get("result")

    def _living(self) -> subprocess.Popen[bytes]:
        process = self._process
        if process is not None and process.poll() is None:
            return process
        try:
            process = subprocess.Popen(  # noqa: S603 - as the template says
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            why = f"{self._command[0]!r} cannot be started: {error.strerror or error}"
            self._ended(why)
            msg = f"agent {self._id}: {why}"
            raise AgentProgramError(
                msg, hint="mend start=[…] of its template"
            ) from None
        self._process = process
        self._lines = queue.SimpleQueue()
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        reader = threading.Thread(
            target=_read,
            args=(process.stdout, self._lines),
            name=f"taskorch-lines-{self._id}",
            daemon=True,
        )
        reader.start()
        return process

    def _lost(self, process: subprocess.Popen[bytes]) -> None:
        """
        Say that the program has ended.

        Raises:
            AttemptLostError: Always.
        """
        self.stop()
        why = f"its program ended with {process.returncode}"
        self._ended(why)
        msg = f"agent {self._id}: {why}"
        raise AttemptLostError(msg)

    def stop(self) -> None:
        """End the program, and what it has started."""
        process, self._process = self._process, None
        if process is None:
            return
        end_group(process, soft=False)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def _read(pipe: IO[bytes], lines: queue.SimpleQueue[bytes | None]) -> None:
    """Read *pipe* to its end, which is told as None."""
    with contextlib.suppress(OSError, ValueError):
        while line := pipe.readline(_LONGEST):
            lines.put(line)
    lines.put(None)


def end_group(process: subprocess.Popen[bytes], *, soft: bool) -> None:
    """End *process*, which leads a group, and all of its group."""
    import os  # noqa: PLC0415 - only here
    import signal  # noqa: PLC0415

    with contextlib.suppress(ProcessLookupError, PermissionError):
        if soft:
            process.terminate()
            return
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(5)
