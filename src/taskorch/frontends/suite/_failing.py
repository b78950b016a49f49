"""What kind of failure an attempt at a test task was: by its tests, or by its end."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from taskorch._base._visible import after_cut
from taskorch.errors import ProgramFailedError, TaskFailedError
from taskorch.frontends.suite._results import TestRecord
from taskorch.model import ProgramResult
from taskorch.recovery import FailureClass, classify

#: Classes of the failures of one attempt, of which the first counts: what a repeat
#: helps least decides, since the others would fail with it.
_FIRST: Final = (
    *("logic_error", "calculation_error", "import_error", "permission_error"),
    *("memory_error", "unknown", "system_error", "timeout_error", "network_error"),
)
#: How the message of a failed test begins: with what was raised.
_RAISED: Final = re.compile(r"\s*((?:\w+\.)*[A-Z]\w*)(?:: ?(.*))?$", re.DOTALL)
#: Bytes of a log that are looked at.
_MOST_LOG: Final = 16_384


def result_of(exit_code: int, log: Path, seconds: float) -> ProgramResult:
    """What a test task has left behind, as of any program."""
    return ProgramResult((), exit_code, end_of(log, _MOST_LOG), "", log, seconds)


def class_of_end(result: ProgramResult) -> FailureClass:
    """What kind of failure it is that a program ended with *result*."""
    error = ProgramFailedError("it has failed")
    error.result = result
    return classify(error)


def class_of_tests(tests: Iterable[TestRecord]) -> FailureClass:
    """What kind of failure it is that these *tests* have failed."""
    classes = {one.name: one for one in map(_class_of_test, tests)}
    return next(classes[name] for name in _FIRST if name in classes)


def _class_of_test(test: TestRecord) -> FailureClass:
    message = test.message or test.text
    raised = _RAISED.match(message)
    if raised is None and message.lstrip().startswith("assert "):
        name, text = "AssertionError", message
    elif raised is None:
        name, text = "", message
    else:
        name, text = raised[1], raised[2] or ""
    error = TaskFailedError(text)
    error.type = name
    if not name or name.endswith("AssertionError"):
        # What else was raised has said it; a trace has the words of its sources, too.
        error.traceback = test.text
    return classify(error)


def end_of(log: Path, size: int) -> str:
    """The last *size* bytes of a log, from a whole letter on; "": it has none."""
    try:
        with log.open("rb") as file:
            begin = file.seek(max(0, log.stat().st_size - size))
            data = file.read()
    except OSError:
        return ""
    return (after_cut(data) if begin else data).decode("utf-8", "replace")
