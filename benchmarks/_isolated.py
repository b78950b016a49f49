"""
Measurements in a process of their own, one sample at a time.

A generator function of a case runs in a child and yields mappings of figures. The
parent asks for the next one when it wants it, so that two children can be measured
in turn, and neither shares memory, garbage collector or affinity with the other.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Self

Steps = Callable[..., Iterator[Mapping[str, float]]]

_LIMIT = 120.0
"""Seconds that a sample may take before its process says where it hangs, and ends."""

_ROOT = Path(__file__).resolve().parents[1]


class Child:
    """
    A child process that takes samples when asked.

    Args:
        steps: A generator function at the top of a module.
        **arguments: What to call it with; numbers, strings and booleans.
    """

    def __init__(self, steps: Steps, **arguments: float | str) -> None:
        self._name = f"{steps.__module__}:{steps.__qualname__}"
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, self._name, json.dumps(arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=_ROOT,
            text=True,
        )
        self._questions = _opened(self._process.stdin)
        self._answers = _opened(self._process.stdout)

    def __enter__(self) -> Self:
        """Give the child to a `with` block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let the child finish, or end it."""
        with contextlib.suppress(BrokenPipeError):
            self._questions.close()
        try:
            self._process.wait(10.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._answers.close()

    def sample(self) -> dict[str, float]:
        """Ask for the next sample and wait for it."""
        reply = ""
        with contextlib.suppress(BrokenPipeError):
            self._questions.write("next\n")
            self._questions.flush()
            reply = self._answers.readline()
        if not reply:
            raise RuntimeError(f"the process that measures {self._name} ended early")
        figures: dict[str, float] = json.loads(reply)
        return figures


def _opened(stream: IO[str] | None) -> IO[str]:
    """The pipe that was asked for."""
    if stream is None:
        raise RuntimeError("a pipe to the measuring process is missing")
    return stream


def once(steps: Steps, **arguments: float | str) -> dict[str, float]:
    """Take one sample in a process of its own."""
    with Child(steps, **arguments) as child:
        return child.sample()


def _serve(name: str, arguments: dict[str, float | str]) -> None:
    """Answer each line of standard input with the next sample, as JSON."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the measured code prints must not look like an answer
    module, _, function = name.partition(":")
    steps = getattr(importlib.import_module(module), function)(**arguments)
    try:
        for _ in sys.stdin:
            faulthandler.dump_traceback_later(_LIMIT, exit=True)
            answers.write(json.dumps(dict(next(steps))) + "\n")
            answers.flush()
            faulthandler.cancel_dump_traceback_later()
    finally:
        steps.close()


if __name__ == "__main__":
    _serve(sys.argv[1], json.loads(sys.argv[2]))
