"""
Logs and output of tasks, kept in files beside the journal.

Decision: dashboard-and-views.
"""

from __future__ import annotations

import copy
import logging
import threading
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from taskorch.core.engine import _written
from taskorch.core.engine._context import AttemptContext, current_or_none
from taskorch.core.journal._logs import LogFiles
from taskorch.kit.fence import log_of
from taskorch.kit.visible import show, written

if TYPE_CHECKING:
    from taskorch.core.engine._runtime import Runtime

_LOG: Final = log_of(__name__)
#: The most attempts that are noted as told of their threads.
_MOST_TOLD: Final = 1_000
_NOT_KEPT: Final = (
    "taskorch: a thread that this task has started, %s, prints and logs too. That is "
    "not kept here: print it in the task itself.\n"
)


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
    Keeps the logs and output of tasks.

    Args:
        folder: The folder of the files.
        most: Bytes of one attempt.
    """

    def __init__(self, folder: Path, most: int) -> None:
        self._files = LogFiles(folder, most)
        #: Whether the latest text could not be kept.
        self._has_failed = False
        #: The threads that tasks have started themselves, with their attempts.
        self._threads: WeakKeyDictionary[
            threading.Thread, tuple[Runtime, tuple[str, int]]
        ] = WeakKeyDictionary()
        self._told: deque[tuple[str, int]] = deque(maxlen=_MOST_TOLD)

    @property
    def most(self) -> int:
        """Bytes that are kept of one attempt."""
        return self._files.most

    def begin(self) -> None:
        """Keep all output in this process from now on."""
        _written.begin(self)

    def end(self) -> None:
        """Stop keeping output."""
        _written.end(self)

    def printed(self, text: str) -> None:
        """See `taskorch.core.engine._written.Listener`: keep the text of a task."""
        context = self._writer()
        if context is not None:
            self.keep(context.task_id, context.attempt, text)
        elif self._threads:
            self._tell_of_thread()

    def logged(self, record: logging.LogRecord) -> None:
        """See `taskorch.core.engine._written.Listener`: keep the record of a task."""
        context = self._writer()
        if record.name == __name__:
            return
        if context is not None:
            self.keep_record(context.task_id, context.attempt, record)
        elif self._threads:
            self._tell_of_thread()

    def starts(self, thread: threading.Thread) -> None:
        """See `taskorch.core.engine._written.Listener`: note the threads of tasks."""
        context = self._writer()
        whose: tuple[Runtime, tuple[str, int]] | None = None
        if context is not None:
            whose = context._rt, (context.task_id, context.attempt)
        elif self._threads:
            whose = self._threads.get(threading.current_thread())
        # A task may be the first that needs a thread of ours.
        module = getattr(getattr(thread, "_target", None), "__module__", None)
        if whose is not None and not str(module).startswith("taskorch."):
            self._threads[thread] = whose

    def _tell_of_thread(self) -> None:
        """
        Note in the log of a task that a thread which it has started writes, too.

        The text may be another task's: a thread of a pool works for many.
        """
        thread = threading.current_thread()
        if thread not in self._threads:
            return
        rt, attempt = self._threads[thread]
        # The log of a task that has left memory is closed.
        if attempt not in self._told and attempt[0] in rt.kernel.tasks:
            self._told.append(attempt)
            self.keep(*attempt, _NOT_KEPT % show(thread.name))

    def keep_record(
        self, task_id: str, attempt: int, record: logging.LogRecord
    ) -> None:
        """Keep a record as a line, with its traceback."""
        self.keep(task_id, attempt, _line_of(record))

    def keep(self, task_id: str, attempt: int, text: str) -> None:
        """Keep *text*; log once if that fails."""
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
        """Return the context of the task of ours that the caller is part of."""
        context: object = current_or_none()
        # In another process, the task has a copy of its context.
        if isinstance(context, AttemptContext) and context._rt.output is self:
            return context
        return None


def _line_of(record: logging.LogRecord) -> str:
    # A formatter writes into the record, which other handlers get, too.
    record = copy.copy(record)
    record.msg, record.args = written(record), None
    return f"{_FORMAT.format(record)}\n"
