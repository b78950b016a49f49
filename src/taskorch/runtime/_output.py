"""
What the tasks of an orchestrator log and print, kept in files beside its journal.

Decision: 0214.
"""

from __future__ import annotations

import copy
import logging
import time
from pathlib import Path
from typing import Final

from taskorch.journal._logs import LogFiles
from taskorch.kit.visible import written
from taskorch.runtime import _written
from taskorch.runtime._context import AttemptContext, current_or_none

_LOG: Final = logging.getLogger(__name__)


class _LogLine(logging.Formatter):
    """A record as a line: its moment in UTC, its level, its logger and its message."""

    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    @staticmethod
    def converter(seconds: float | None) -> time.struct_time:
        return time.gmtime(seconds)


_FORMAT: Final = _LogLine("%(asctime)s %(levelname)s %(name)s: %(message)s")


class KeptOutput:
    """
    Keeps what tasks log and print.

    Args:
        folder: Where the files are.
        most: Bytes of one attempt.
    """

    def __init__(self, folder: Path, most: int) -> None:
        self._files = LogFiles(folder, most)
        #: Whether the latest text could not be kept.
        self._has_failed = False

    @property
    def most(self) -> int:
        """Bytes that are kept of one attempt."""
        return self._files.most

    def begin(self) -> None:
        """Keep what is written in this process from now on."""
        _written.begin(self)

    def end(self) -> None:
        """Keep it no more."""
        _written.end(self)

    def printed(self, text: str) -> None:
        """See `taskorch.runtime._written.Listener`: of a task of ours, it is kept."""
        context = self._writer()
        if context is not None:
            self.keep(context.task_id, context.attempt, text)

    def logged(self, record: logging.LogRecord) -> None:
        """See `taskorch.runtime._written.Listener`: of a task of ours, it is kept."""
        context = self._writer()
        if context is not None and record.name != __name__:
            self.keep_record(context.task_id, context.attempt, record)

    def keep_record(
        self, task_id: str, attempt: int, record: logging.LogRecord
    ) -> None:
        """Keep a record, as a line, with its traceback."""
        self.keep(task_id, attempt, _line_of(record))

    def keep(self, task_id: str, attempt: int, text: str) -> None:
        """Keep *text*; if that cannot be, the log says so once."""
        try:
            self._files.write(task_id, attempt, text)
        except OSError as error:
            is_first, self._has_failed = not self._has_failed, True
            if is_first:
                message = "what task %s logs and prints is not kept: %s"
                _LOG.warning(message, task_id, error)
        else:
            self._has_failed = False

    def _writer(self) -> AttemptContext | None:
        """The task of ours that the caller is part of."""
        context: object = current_or_none()
        # In another process, the task has a copy of its context.
        if isinstance(context, AttemptContext) and context._rt.output is self:
            return context
        return None


def _line_of(record: logging.LogRecord) -> str:
    # What formats it writes into it what other handlers would take over.
    record = copy.copy(record)
    record.msg, record.args = written(record), None
    return f"{_FORMAT.format(record)}\n"
