"""
Output and log records of this process, as they are written.

Streams are replaced in `sys`, and records are seen where logging makes them. No handler
is added: once there is one, `logging.basicConfig` does nothing. `print` itself is left
alone: functions are pickled, and compared, by their names.

Decision: dashboard-and-views.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterable
from typing import Any, Final, Protocol, Self


class Listener(Protocol):
    """Protocol: hears each text and each record, on the thread that writes it."""

    def printed(self, text: str) -> None:
        """Take *text*, written to `sys.stdout` or `sys.stderr`, but not by logging."""
        ...

    def logged(self, record: logging.LogRecord) -> None:
        """Take a record that passes the level of its logger."""
        ...

    def starts(self, thread: threading.Thread) -> None:
        """Take note that the caller is about to start *thread*."""
        ...


class _WatchedStream:
    """A stream that passes all that is written to the listeners, too."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        count: int = self._stream.write(text)
        if _LISTENERS:
            # The interpreter writes tracebacks from C, where no frame is the writer's.
            writer = sys._getframe().f_back
            # Text that logging writes is a record, and passed on as one.
            if writer is None or writer.f_globals is not _OF_LOGGING:
                for listener in _LISTENERS:
                    listener.printed(text)
        return count

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()


_LOCK: Final = threading.Lock()
_LISTENERS: list[Listener] = []
_NAMES: Final = ("stdout", "stderr")
_OF_LOGGING: Final = vars(logging)
_FACTORY: Any = logging.LogRecord
_START: Any = threading.Thread.start
#: Whether our factory was called for a record without a name.
_is_reached: bool = False


def begin(listener: Listener) -> None:
    """Let *listener* hear all from now on."""
    global _LISTENERS, _FACTORY, _START  # noqa: PLW0603 - as in sys and logging
    with _LOCK:
        for name in _NAMES:
            stream = getattr(sys, name)
            # A program without a console has no streams.
            if stream is not None and not isinstance(stream, _WatchedStream):
                setattr(sys, name, _WatchedStream(stream))
        factory = logging.getLogRecordFactory()
        # Another factory that calls ours must not be called by ours.
        if not _calls_ours(factory):
            _FACTORY = factory
            logging.setLogRecordFactory(_made)
        if not _LISTENERS and threading.Thread.start is not _started:
            _START = threading.Thread.start
            threading.Thread.start = _started  # type: ignore[method-assign]
        # A thread that is calling listeners goes on with the earlier list.
        _LISTENERS = [*_LISTENERS, listener]


def end(listener: Listener) -> None:
    """Remove *listener*; after the last, restore the streams and factories."""
    global _LISTENERS  # noqa: PLW0603 - see `begin`
    with _LOCK:
        _LISTENERS = [each for each in _LISTENERS if each is not listener]
        if _LISTENERS:
            return
        # If other code has replaced them since, its object stays, and calls ours to no
        # effect.
        for name in _NAMES:
            stream = getattr(sys, name)
            if isinstance(stream, _WatchedStream):
                setattr(sys, name, stream._stream)
        if logging.getLogRecordFactory() is _made:
            logging.setLogRecordFactory(_FACTORY)
        if threading.Thread.start is _started:
            threading.Thread.start = _START  # type: ignore[method-assign]


def _calls_ours(factory: Any) -> bool:
    """Return whether a factory of records calls ours, however indirectly."""
    global _is_reached  # noqa: PLW0603 - see `_made`
    _is_reached = False
    # These are the arguments of `makeLogRecord`.
    factory(None, None, "", 0, "", (), None, None)
    return _is_reached


def _made(*fields: Any, **more: Any) -> logging.LogRecord:
    global _is_reached  # noqa: PLW0603 - the caller reads it
    record: logging.LogRecord = _FACTORY(*fields, **more)
    # A record of `makeLogRecord` has no name yet, and nothing in it.
    name: str | None = record.name
    if name is None:
        _is_reached = True
    else:
        for listener in _LISTENERS:
            listener.logged(record)
    return record


def _started(self: threading.Thread) -> None:
    for listener in _LISTENERS:
        listener.starts(self)
    _START(self)
