"""
The code of a worker process: it takes calls from the wire, one at a time.

The output of a task goes where ours goes; the wire is a descriptor of its own. It is
read between two calls, and when a task waits for an answer.
"""

from __future__ import annotations

import itertools
import logging
import os
import pickle
import runpy
import select
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from types import ModuleType
from typing import Any, Final, NoReturn, TypeVar

from taskorch.core.executors import wire
from taskorch.core.executors.remote import HERE, RemoteEnd, pickled
from taskorch.errors import NotRunningError
from taskorch.kit.fence import is_values
from taskorch.kit.visible import said, show, written

T = TypeVar("T")

#: The names of the main module, here and there.
_MAIN: Final = "__mp_main__"
#: The part that both names share.
_IN_NAMES: Final = b"_main__"
_CHUNK: Final = 2**16
_LARGEST: Final = wire.HEAD + wire.SMALL + wire.TAIL


def main(stream: int, messages: int) -> None:
    """Take calls from the sockets with these descriptors until *wire* is closed."""
    for fd in (stream, messages):
        os.set_inheritable(fd, False)  # noqa: FBT003 - it takes no name
    worker = _Worker(socket.socket(fileno=stream), socket.socket(fileno=messages))
    worker.run()


class _Worker:
    """The state of a worker process, and the link of its tasks to the orchestrator."""

    def __init__(self, stream: socket.socket, messages: socket.socket) -> None:
        self._wire = stream
        self._messages = messages
        self._poll = select.poll()
        self._poll.register(stream, select.POLLIN)
        self._poll.register(messages, select.POLLIN)
        self._pid = os.getpid()
        self._frames = wire.Frames()
        self._sending = threading.Lock()
        self._receiving = threading.Lock()
        self._calls: deque[tuple[bytes, bytes]] = deque()
        #: Answers to questions, by the numbers of their calls and their own.
        self._answers: dict[tuple[bytes, int], Any] = {}
        self._questions = itertools.count(1)
        #: The numbers of the current call, and of the last that is to end.
        self._current = wire.NOBODY
        self._stopped = b""
        self._main: tuple[str | None, str | None] | None = None
        self._old_main: Any = None
        os.register_at_fork(after_in_child=self._forked)

    def run(self) -> None:
        # No code of ours can fail before the first message.
        _, begin = self._await(lambda: self._calls.popleft() if self._calls else None)
        self._begin(pickle.loads(begin))  # noqa: S301 - from our parent
        HERE.link, HERE.most_bytes = self, wire.MOST_BYTES
        self._send(wire.READY, wire.NOBODY)
        while True:
            self._current, call = self._next_call()
            self._do(call)
            del call

    def _next_call(self) -> tuple[bytes, bytes]:
        """Return the next call, as its number and bytes; wait if there is none."""
        while True:
            with self._receiving:
                if self._calls:
                    return self._calls.popleft()
            for fd, _ in self._poll.poll():
                if fd == self._wire.fileno():
                    with self._receiving:
                        self._receive(socket.MSG_DONTWAIT)
                    continue
                try:
                    whole = self._messages.recv(_LARGEST, socket.MSG_DONTWAIT)
                    return wire.call_in(whole)
                except BlockingIOError:
                    # The call was taken back.
                    pass
                except OSError:
                    # A task has closed it, and so the wire as well.
                    self._lose()

    def _begin(self, settings: dict[str, Any]) -> None:
        sys.argv[:] = settings["argv"]
        self._main = settings["main_name"], settings["main_path"]
        root = logging.getLogger()
        for name, level in settings["levels"].items():
            logging.getLogger(name).setLevel(level)
        root.manager.disable = settings["disabled"]
        root.addHandler(_Forward(self))

    def _do(self, call: bytes) -> None:
        """Make one *call*, the current one; send its outcome."""
        try:
            if self._main is not None and _IN_NAMES in call:
                self._import_main(*self._main)
            function: Callable[[], Any] = pickle.loads(call)  # noqa: S301 - from our parent
            del call
        except BaseException as error:  # noqa: BLE001 - an import may raise anything
            self._say(wire.UNREADABLE, pickle.dumps(said(error)))
            return
        try:
            end = function()
            if type(end) is RemoteEnd and end.data is not None and not end.raised:
                # Mostly so: the rest of the end is its time and its type.
                kind = end.kind.encode()[:255]
                rest = wire.RETURNED_BEFORE.pack(end.cpu_seconds or 0, len(kind))
                self._say(wire.RETURNED, rest, kind, end.data)
                return
            end = pickle.dumps(end)
        except BaseException as error:  # noqa: BLE001 - the result may raise anything
            self._say(wire.UNREADABLE, pickle.dumps(said(error)))
            return
        self._say(wire.END, end)

    def _say(self, kind: int, *body: bytes) -> None:
        """Send the outcome of a call, which is the last message about it."""
        for stream in (sys.stdout, sys.stderr):
            try:  # noqa: SIM105 - `suppress` is slower than the rest
                stream.flush()
            except Exception:  # noqa: BLE001, S110 - closed, or another's
                pass
        if os.getpid() != self._pid:
            # The task has forked, and this is the child, which has come to its end.
            os._exit(0)
        self._send(kind, self._current, *body)

    # -- the main module -----------------------------------------------------------

    def _import_main(self, name: str | None, path: str | None) -> None:
        """
        Import the main module of the parent, as multiprocessing does.

        It is run under another name, so that the code below `if __name__ ==
        "__main__":` is not run again. Only calls that need it import it.
        """
        if name is not None and name.rpartition(".")[2] == "__main__":
            # Such a module of a package has no such condition.
            return
        HERE.is_importing_main = True
        try:
            if name is not None:
                content = runpy.run_module(name, run_name=_MAIN, alter_sys=True)
            elif path is not None:
                content = runpy.run_path(path, run_name=_MAIN)
            else:
                return
        finally:
            HERE.is_importing_main = False
        module = ModuleType(_MAIN)
        module.__dict__.update(content)
        # Another thread may still need the earlier one.
        self._old_main = sys.modules["__main__"]
        sys.modules["__main__"] = sys.modules[_MAIN] = module
        self._main = None

    # -- the wire ------------------------------------------------------------------

    def _send(self, kind: int, number: bytes, *body: bytes) -> None:
        with self._sending:
            try:
                self._wire.sendall(wire.frame(kind, number, *body))
            except OSError:
                self._lose()

    def _await(self, take: Callable[[], T | None]) -> T:
        """Read on until *take* finds something."""
        while True:
            with self._receiving:
                arrived = take()
                if arrived is not None:
                    return arrived
                self._receive(0)

    def _receive(self, flags: int) -> None:
        """Read the data that has come; hold `_receiving`."""
        try:
            data = self._wire.recv(_CHUNK, flags)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lose()
        for kind, number, body in self._frames.feed(data):
            if kind == wire.STOP:
                self._stopped = number
            elif kind == wire.ANSWER:
                question, *answer = pickle.loads(body)  # noqa: S301 - from our parent
                self._answers[number, question] = answer
            else:
                self._calls.append((number, body))
        if self._frames.is_garbled:
            self._lose()

    def _lose(self) -> NoReturn:
        """End the process, as the parent has gone, or wants that."""
        if threading.current_thread() is threading.main_thread():
            sys.exit(0)
        os._exit(1)

    def _forked(self) -> None:
        """Close the parent's wire, in a child that a task has forked."""
        for sock in (self._wire, self._messages):
            with suppress(OSError):
                sock.close()
        HERE.link = None

    # -- what a task asks: see taskorch.api.executors.remote.TaskLink --

    @property
    def is_to_end(self) -> bool:
        if self._stopped != self._current and self._receiving.acquire(blocking=False):
            try:
                self._receive(socket.MSG_DONTWAIT)
            finally:
                self._receiving.release()
        return self._stopped == self._current

    def tell(self, what: str, task: tuple[str, int], value: Any) -> None:
        self._send(wire.TOLD, self._current, _sendable(what, task, None, value))

    def ask(self, what: str, task: tuple[str, int], value: Any) -> Any:
        number, question = self._current, next(self._questions)
        self._send(wire.TOLD, number, _sendable(what, task, question, value))
        error, reply = self._await(lambda: self._answers.pop((number, question), None))
        if error is not None:
            raise error
        return reply

    def log(self, record: bytes) -> None:
        """Send a record to the orchestrator, pickled."""
        if os.getpid() == self._pid:
            self._send(wire.LOGGED, self._current, record)


def _sendable(
    kind: str, task: tuple[str, int], question: int | None, value: Any
) -> bytes:
    try:
        return pickled((task, kind, question, pickled(value)))
    except BaseException as error:
        if not is_values(error):
            raise
        msg = f"context.{kind}() cannot be sent from a worker process: {said(error)[1]}"
        raise NotRunningError(msg, hint="give it what can be pickled") from error


class _Forward(logging.Handler):
    """Passes all records to the loggers of the parent."""

    def __init__(self, worker: _Worker) -> None:
        super().__init__()
        self._worker = worker

    def emit(self, record: logging.LogRecord) -> None:
        try:
            fields = {**record.__dict__, "msg": written(record), "args": None}
            if record.exc_info and not record.exc_text:
                formatter = self.formatter or logging.Formatter()
                fields["exc_text"] = formatter.formatException(record.exc_info)
            fields["exc_info"] = None
            self._worker.log(_record(fields))
        except BaseException as error:
            # Values in `extra` are the user's, so errors are handled as logging does.
            if not is_values(error):
                raise
            self.handleError(record)


def _record(fields: dict[str, Any]) -> bytes:
    try:
        return pickled(fields)
    except BaseException as error:
        # A value in `extra` raised it.
        if not is_values(error):
            raise
        return pickled({name: _plain(value) for name, value in fields.items()})


def _plain(value: Any) -> Any:
    kept = value is None or type(value) in (str, int, float, bool)
    return value if kept else show(value)
