"""
What is printed and logged in this process, as it is written.

Streams are looked at in `sys`, and records where logging makes them. No handler is
added: once there is one, `logging.basicConfig` does nothing. `print` itself is left
alone: functions are pickled, and compared, by their names.

Decision: 0214.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterable
from typing import Any, Final, Protocol, Self


class Listener(Protocol):
    """What is told of each text and each record, on the thread that writes it."""

    def printed(self, text: str) -> None:
        """*text* was written to `sys.stdout` or `sys.stderr`, but not by logging."""
        ...

    def logged(self, record: logging.LogRecord) -> None:
        """A record was made, which the level of its logger lets pass."""
        ...

    def starts(self, thread: threading.Thread) -> None:
        """The caller is about to start *thread*."""
        ...


class _WatchedStream:
    """A stream, of which what is written is told as well."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        count: int = self._stream.write(text)
        # What logging writes is a record, and told as one.
        if _LISTENERS and sys._getframe(1).f_globals is not _OF_LOGGING:
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
#: Whether ours was called for a record without a name.
_is_reached: bool = False


def begin(listener: Listener) -> None:
    """From now on *listener* is told."""
    global _LISTENERS, _FACTORY, _START  # noqa: PLW0603 - as in sys and logging
    with _LOCK:
        for name in _NAMES:
            stream = getattr(sys, name)
            # There may be none: in a program without a console.
            if stream is not None and not isinstance(stream, _WatchedStream):
                setattr(sys, name, _WatchedStream(stream))
        factory = logging.getLogRecordFactory()
        # One of somebody else that calls ours must not be called by it.
        if not _calls_ours(factory):
            _FACTORY = factory
            logging.setLogRecordFactory(_made)
        if not _LISTENERS and threading.Thread.start is not _started:
            _START = threading.Thread.start
            threading.Thread.start = _started  # type: ignore[method-assign]
        # Who is being told goes on with the list of before.
        _LISTENERS = [*_LISTENERS, listener]


def end(listener: Listener) -> None:
    """*listener* is told no more; after the last, all is as it was."""
    global _LISTENERS  # noqa: PLW0603 - see `begin`
    with _LOCK:
        _LISTENERS = [each for each in _LISTENERS if each is not listener]
        if _LISTENERS:
            return
        # What somebody has put over it since stays, and calls it for nothing.
        for name in _NAMES:
            stream = getattr(sys, name)
            if isinstance(stream, _WatchedStream):
                setattr(sys, name, stream._stream)
        if logging.getLogRecordFactory() is _made:
            logging.setLogRecordFactory(_FACTORY)
        if threading.Thread.start is _started:
            threading.Thread.start = _START  # type: ignore[method-assign]


def _calls_ours(factory: Any) -> bool:
    """Whether a factory of records calls ours, wherever that stands."""
    global _is_reached  # noqa: PLW0603 - see `_made`
    _is_reached = False
    # As `makeLogRecord` does it.
    factory(None, None, "", 0, "", (), None, None)
    return _is_reached


def _made(*fields: Any, **more: Any) -> logging.LogRecord:
    global _is_reached  # noqa: PLW0603 - read by who has asked for the record
    record: logging.LogRecord = _FACTORY(*fields, **more)
    # What `makeLogRecord` makes has no name yet, and nothing in it.
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
