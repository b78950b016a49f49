"""
Programs that repair the environment of an attempt, by the class of its failure.

Decision: test-suites.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final

import attrs

from taskorch.errors import ProgramFailedError
from taskorch.ext.recovery._classes import class_of
from taskorch.kit.forms import AnyNames, Each, Text
from taskorch.kit.visible import after_cut

#: The form of the programs, by classes of failures.
REPAIRS: Final = AnyNames(
    Each(Text(is_any=True), least=1, needs="a list, a program and its arguments,"),
    check=class_of,
)
#: Seconds between two checks whether the attempt is to end.
_LOOK: Final = 0.1
#: The most bytes of a program's output that are read.
_MOST: Final = 4_096
#: Function of a task and its context that returns the folder for repair programs,
#: variables to set, and the log of the attempt; None: programs do not repair this task.
Place = Callable[[Any, Any], tuple[Path, Mapping[str, str], Path] | None]


@attrs.frozen
class ProgramRepair:
    """
    Repair by a program, which `orch.recover` calls with a failed attempt.

    Only one repair runs at a time, since they share what they mend. If the attempt is
    to end, the program and all that it has started are ended. The log of the failure
    is kept in `NAME.log.repair`, with the output of the program.

    Attributes:
        args: The program, and its arguments.
        place: The function that says where: see `Place`.
    """

    args: tuple[str, ...]
    place: Place
    _lock: threading.Lock = attrs.field(factory=threading.Lock, eq=False)

    @property
    def __name__(self) -> str:
        """Name of the repair in events."""
        return " ".join(self.args)

    def __call__(self, task: Any, failure: Any, context: Any) -> str:
        """
        Repair the environment of *task*.

        Raises:
            ProgramFailedError: The program has failed.
            OSError: It cannot be started.
        """
        place = self.place(task, context)
        if place is None:
            return "escalate"
        cwd, env, log = place
        while not self._lock.acquire(timeout=_LOOK):
            context.checkpoint()
        try:
            with Path(f"{log}.repair").open("ab+") as output:
                with suppress(OSError), log.open("rb") as source:
                    shutil.copyfileobj(source, output)
                title = f"\ntaskorch: {failure.kind}: {self.__name__}\n"
                output.write(title.encode("utf-8", "replace"))
                output.flush()
                self._run(cwd, env, output, context)
        finally:
            self._lock.release()
        return "retry"

    def _run(
        self, cwd: Path, env: Mapping[str, str], output: IO[bytes], context: Any
    ) -> None:
        begun = output.tell()
        process = subprocess.Popen(  # noqa: S603 - the document's
            self.args,
            cwd=cwd,
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            while process.poll() is None:
                context.checkpoint()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_LOOK)
        finally:
            with suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if process.returncode:
            output.seek(max(begun, output.seek(0, os.SEEK_END) - _MOST))
            lines = after_cut(output.read()).decode("utf-8", "replace").split("\n")
            last = next((line for line in reversed(lines) if line.strip()), "")
            msg = f"{self.__name__} exited with {process.returncode}: {last.strip()}"
            raise ProgramFailedError(msg.removesuffix(": "))


def mend_with(
    orchestrator: Any, repairs: Mapping[str, Sequence[str]], place: Place
) -> None:
    """Have *orchestrator* try these programs, by classes, inside failed attempts."""
    for kind, args in repairs.items():
        orchestrator.recover(kind)(ProgramRepair(tuple(args), place))
