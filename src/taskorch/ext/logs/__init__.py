"""
The task of each line of a log, for `logging` and for structlog.

Nothing here is set up by itself: put a `ContextFilter` on your handlers, `add_context`
among structlog's processors, or a `TaskLogs` beside your handlers.
"""

from __future__ import annotations

import copy
import logging
import sys
from collections import OrderedDict, deque
from collections.abc import MutableMapping
from typing import Any, Final

from taskorch.core.engine import current_or_none
from taskorch.kit.checks import check_count
from taskorch.kit.fence import is_values
from taskorch.kit.place import PLACE
from taskorch.kit.visible import visible, written

__all__ = ("ContextFilter", "TaskLogs", "add_context", "log_context")

#: All fields that a context may have, in this order.
_FIELDS: Final = (
    "task_id",
    "attempt",
    "agent",
    "workflow",
    "step",
    "trace_id",
    "span_id",
)
#: The format of a line of `TaskLogs` without a formatter of its own.
_FORMAT: Final = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")


def log_context() -> dict[str, Any]:
    """
    Return the fields of the task to which the caller belongs.

    `task_id` and `attempt`; `agent`, except in another process; `workflow`, the id of
    the run, if it is part of one; `step`, the name of the step that it is in, if any;
    and the `trace_id` and `span_id` of the current OpenTelemetry span, if there is one,
    outside of tasks too, in hexadecimal digits.

    Threads of taskorch, coroutines, workers, your pools and the executor of the loop
    know their task. A thread that a task starts knows it in a copy of its context, by
    `contextvars.copy_context().run`, if the task is a coroutine or in a pool. Without,
    one line of the task's log says that the thread writes.
    """
    fields: dict[str, Any] = {}
    task = current_or_none()
    if task is not None:
        fields["task_id"], fields["attempt"] = task.task_id, task.attempt
        row = getattr(task, "_row", None)
        if row is not None and row.worker is not None:
            fields["agent"] = row.worker.name
        run_id = task._run_id  # noqa: SLF001 - a word for users it is not
        if run_id:
            fields["workflow"] = run_id
        if step := PLACE.get():
            fields["step"] = step
    api = sys.modules.get("opentelemetry.trace")
    if api is not None:
        span = api.get_current_span().get_span_context()
        if span.is_valid:
            fields["trace_id"] = f"{span.trace_id:032x}"
            fields["span_id"] = f"{span.span_id:016x}"
    return fields


class ContextFilter(logging.Filter):
    """
    Gives every record the fields of `log_context`; "" stands for what there is not.

        handler.addFilter(ContextFilter())
        handler.setFormatter(logging.Formatter("%(task_id)s %(message)s"))

    Put it on handlers: a filter of a logger does not see what the loggers below it
    hand up. With a `QueueHandler`, put it on that one, which is called by the task. It
    lets all records pass, and overwrites nothing that they have.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the fields to *record*."""
        context = log_context()
        for name in _FIELDS:
            if not hasattr(record, name):
                setattr(record, name, context.get(name, ""))
        return True


def add_context(
    logger: object, method_name: str, event_dict: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """
    Add the fields of `log_context` to an event of structlog's; a processor.

        structlog.configure(processors=[add_context, JSONRenderer()])

    It overwrites nothing that was said or bound.
    """
    del logger, method_name
    for name, value in log_context().items():
        event_dict.setdefault(name, value)
    return event_dict


class TaskLogs(logging.Handler):
    r"""
    Keeps the latest of what each task logs, to be read by the id of the task.

        logs = TaskLogs()
        logging.getLogger().addHandler(logs)
        ...
        print(*logs.of("build"), sep="\n")

    It ignores lines that are logged outside of tasks. Control characters, in tracebacks
    too, are shown as Python writes them (`\x1b`), and passwords in URLs are left out.
    Programs log to a file of their own: `TaskStatus.log_path`.

    Args:
        tasks: The number of tasks whose lines are kept, those that have logged last.
        lines: How many lines of each.
        length: How many characters of each line, at the most.
        level: The least that it keeps.

    Raises:
        InvalidTaskError: An argument is not a number from 1.
    """

    def __init__(
        self,
        *,
        tasks: int = 1_000,
        lines: int = 100,
        length: int = 1_000,
        level: int | str = logging.NOTSET,
    ) -> None:
        for name, count in (("tasks", tasks), ("lines", lines), ("length", length)):
            check_count(name, count, least=1)
        super().__init__(level)
        self._tasks = tasks
        self._lines = lines
        self._length = length
        self._kept: OrderedDict[str, deque[str]] = OrderedDict()
        self.addFilter(ContextFilter())
        self.setFormatter(_FORMAT)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep *record*, if a task has logged it."""
        task_id = getattr(record, "task_id", "")
        if not task_id:
            return
        try:
            # Other handlers get the record unchanged.
            mine = copy.copy(record)
            mine.msg, mine.args = written(record), None
            line = visible(self.format(mine))
        except BaseException as error:
            # The formatter may belong to the user, so that errors are handled as
            # logging does.
            if not is_values(error):
                raise
            self.handleError(record)
            return
        if len(line) > self._length:
            line = f"{line[: self._length - 1]}…"
        kept = self._kept.setdefault(task_id, deque(maxlen=self._lines))
        kept.append(line)
        self._kept.move_to_end(task_id)
        if len(self._kept) > self._tasks:
            self._kept.popitem(last=False)

    def of(self, task_id: str) -> list[str]:
        """Return the log of a task, the latest line last; empty if none is kept."""
        self.acquire()
        try:
            return list(self._kept.get(task_id, ()))
        finally:
            self.release()
