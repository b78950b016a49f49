"""
Calls in another process, so that nothing that a function does breaks the pool.

A `ProcessPoolExecutor` pickles what a function returns or raises, and unpickles it on
the thread that manages the pool: an exception class with a constructor of its own is
enough to break the pool, and with it all other work. Here both halves are guarded:
`remote_call` makes a call there, and `end_of` reads what came of it here.

Decision: 0293.
"""

from __future__ import annotations

import os
import pickle
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from importlib import import_module
from types import MethodDescriptorType
from typing import Any, Final, Protocol

from taskorch.errors import InvalidTaskError, TaskFailedError
from taskorch.kit.ends import strip
from taskorch.kit.frozen import frozen
from taskorch.kit.visible import said, with_article

#: For who writes an executor whose calls are made in other processes.
__all__ = ("HERE", "RemoteEnd", "end_of", "pickled", "remote_call", "unsendable")

#: Characters of an error, and of its traceback, that come back where it cannot itself.
_MOST_SAID: Final = 100_000


class TaskLink(Protocol):
    """How a task in a worker process reaches the orchestrator."""

    @property
    def is_to_end(self) -> bool:
        """Whether the attempt that runs here was told to end."""
        ...

    def tell(self, what: str, task: tuple[str, int], value: Any) -> None:
        """Send message *what* with *value*, without an answer: see `Attempt.told`."""
        ...

    def ask(self, what: str, task: tuple[str, int], value: Any) -> Any:
        """Send message *what*; return what its handler returns, or raise its error."""
        ...


class Here:
    """What a worker process says of itself; in other processes, nothing."""

    #: How its tasks reach the orchestrator.
    link: TaskLink | None = None
    #: Bytes that something may have, pickled, which goes to another process.
    most_bytes: int | None = None
    #: It has no link, and what a task says of its progress is dropped.
    drops_progress: bool = False
    #: The main module of its parent is being brought in.
    is_importing_main: bool = False


HERE: Final = Here()


class TooLargeError(pickle.PicklingError):
    """A pickled value has more bytes than may go to another process."""


class _Limited:
    """A file of so many bytes at most."""

    def __init__(self, most: int) -> None:
        self._left = most
        self._most = most
        self.parts: list[bytes] = []

    def write(self, data: bytes | memoryview | pickle.PickleBuffer) -> int:
        size = memoryview(data).nbytes
        self._left -= size
        if self._left < 0:
            msg = f"it has more than {self._most / 2**20:g} MiB, pickled"
            raise TooLargeError(msg)
        # The pickler may use it again.
        self.parts.append(data if isinstance(data, bytes) else bytes(data))
        return size


def by_value() -> Any:
    """
    What pickles functions and classes that nobody can import, by what they are.

    Raises:
        ImportError: It is not installed.
    """
    return import_module("cloudpickle")


def is_session() -> bool:
    """Whether the main module is one that no other process can bring in."""
    main = sys.modules.get("__main__")
    path = getattr(main, "__file__", None)
    return getattr(main, "__spec__", None) is None and (
        path is None or not os.path.isfile(path)  # noqa: PTH113 - loads nothing
    )


def pickled(value: Any, most: int | None = None, *, elsewhere: bool = False) -> bytes:
    """
    *value* pickled, for another process.

    What cannot be found there by its name is pickled by value, by cloudpickle, if that
    is installed: lambdas, functions inside others, and all of a session.
    For one that is *elsewhere*, and has no file of the main module, all of that, too.

    It may have *most* bytes; None: as many as what is sent from here.

    Raises:
        TooLargeError: It has more: it is not even made.
        Exception: It cannot be pickled.
    """
    most = HERE.most_bytes if most is None else most
    try:
        data = _pickled_by(pickle.Pickler, value, most)
    except TooLargeError:
        raise
    except Exception:
        # What it is that no pickle takes is said by the first of them.
        with suppress(Exception):
            return _pickled_by(by_value().Pickler, value, most)
        raise
    if b"__main__" in data and (elsewhere or is_session()):
        with suppress(ImportError):
            return _pickled_by(by_value().Pickler, value, most)
    return data


def _pickled_by(pickler: Any, value: Any, most: int | None) -> bytes:
    file = _Limited(sys.maxsize if most is None else most)
    pickler(file, pickle.HIGHEST_PROTOCOL).dump(value)
    return b"".join(file.parts)


def unsendable(error: BaseException, task_id: str, name: str) -> InvalidTaskError:
    """What to say of a task that cannot be sent to executor *name*, as *error* says."""
    kind, message = said(error)
    wrapped = InvalidTaskError(
        f"task {task_id} cannot be sent to executor {name!r}: {kind}: {message}",
        hint="what goes to another process is pickled: use a function of a module, "
        "and arguments that can be pickled"
        if not isinstance(error, TooLargeError)
        else "write it to a file, and send its path",
        task_id=task_id,
    )
    wrapped.__cause__ = error
    return wrapped


class RemoteTraceback(Exception):  # noqa: N818 - it is the cause of one
    """The traceback of the other process, as text: the cause of what was raised."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


@frozen
class RemoteEnd:
    """How a call ended in another process: pickled there, not yet unpickled here."""

    #: What it returned or raised; None if that cannot be pickled.
    data: bytes | None
    #: Whether it raised.
    raised: bool
    #: The type of what it returned or raised.
    kind: str
    #: What it said, or why it cannot be pickled.
    message: str = ""
    traceback: str = ""
    #: What it returned is larger than what may come back.
    is_too_large: bool = False
    #: Seconds of processor that its thread took there, pickling included.
    cpu_seconds: float | None = None


def remote_call(
    fn: Callable[..., Any], args: tuple[Any, ...]
) -> Callable[[], RemoteEnd]:
    """A call that is sent to another process, and made there: it raises nothing."""
    # Nothing is pickled faster.
    return partial(_call, fn, args)


def with_variables(variables: Mapping[str, str], call: bytes) -> Any:
    """Make a pickled *call* in a process that is to have *variables* from now on."""
    # Before it is read: what its modules open as they are imported, is opened so.
    os.environ.update(variables)
    return pickle.loads(call)()  # noqa: S301 - from our parent


def _call(fn: Callable[..., Any], args: tuple[Any, ...]) -> RemoteEnd:
    """In the other process: whatever comes of the call can be sent back."""
    begin = time.thread_time()
    try:
        value = fn(*args)
    except BaseException as error:  # noqa: BLE001 - it is the caller's
        strip(error)
        return RemoteEnd(
            _error_data(error),
            raised=True,
            kind=type(error).__name__,
            message=_said(error),
            traceback="".join(_lines(error))[-_MOST_SAID:],
            cpu_seconds=time.thread_time() - begin,
        )
    kind = type(value).__name__
    try:
        data = pickled(value)
        used = time.thread_time() - begin
        return RemoteEnd(data, raised=False, kind=kind, cpu_seconds=used)
    except BaseException as error:  # noqa: BLE001 - whatever its __reduce__ does
        return RemoteEnd(
            None,
            raised=False,
            kind=kind,
            message=_said(error),
            is_too_large=isinstance(error, TooLargeError),
        )


def end_of(end: RemoteEnd, task_id: str) -> tuple[Any, BaseException | None]:
    """Value and error of a task, in the orchestrator, from the worker's *end*."""
    try:
        value = _unpickled(end)
    except BaseException as error:  # noqa: BLE001 - whatever its unpickling does
        return None, _failure(end, task_id, error)
    return (None, value) if end.raised else (value, None)


def _unpickled(end: RemoteEnd) -> Any:
    if end.data is None:
        raise pickle.PicklingError(end.message)
    value = pickle.loads(end.data)  # noqa: S301 - from a process of our own
    if end.raised:
        value.__cause__ = RemoteTraceback(end.traceback)
    return value


def _failure(end: RemoteEnd, task_id: str, error: BaseException) -> TaskFailedError:
    """In the place of what cannot be unpickled, as *error* says."""
    if end.raised:
        failed = TaskFailedError(
            f"task {task_id} raised {end.kind}: {end.message}",
            type=end.kind,
            traceback=end.traceback,
            hint="what is raised in another process comes back pickled, which this "
            "cannot be: retry_on and except see a TaskFailedError",
            task_id=task_id,
        )
        failed.__cause__ = RemoteTraceback(end.traceback)
        return failed
    why = end.message or said(error)[1]
    problem = "that cannot be pickled"
    hint = "what is returned in another process comes back pickled"
    if end.is_too_large:
        problem = "that is too large to come back from a worker process"
        hint = "write it to a file, and return its path"
    failed = TaskFailedError(
        f"task {task_id} returned {with_article(end.kind)} {problem}: {why}",
        type="PicklingError",
        hint=hint,
        task_id=task_id,
    )
    failed.__cause__ = error
    return failed


def _error_data(error: BaseException) -> bytes | None:
    """*error* pickled, if what comes out of that is *error* again."""
    forms: list[object] = [error]
    if isinstance(type(error).__reduce__, MethodDescriptorType):
        # It does not say itself how it is pickled.
        forms.append(_WithoutInit(error))
    alike: bytes | None = None
    for form in forms:
        try:
            data = pickled(form)
            again = pickle.loads(data)  # noqa: S301 - our own
        except BaseException:  # noqa: BLE001, S112 - whatever its __reduce__ does
            continue
        if type(again) is type(error):
            if _said(again) == _said(error):
                return data
            # What it says may have an address in it: the usual way is as good.
            alike = alike or data
    return alike


class _WithoutInit:
    """
    Pickled instead of *error*, makes it again, but without its constructor.

    Exceptions are pickled as a call of their class with their `args`: one whose
    `__init__` takes other arguments than it passes on fails so, or says something else.
    """

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __reduce__(self) -> tuple[Any, ...]:
        error = self._error
        return _made_again, (type(error), error.args, error.__dict__)


def _made_again(
    kind: type[BaseException], args: tuple[Any, ...], fields: dict[str, Any]
) -> BaseException:
    error = kind.__new__(kind)
    # What Python has of its own, such as the errno of an OSError.
    builtin: Any = next(cls for cls in kind.__mro__ if cls.__module__ == "builtins")
    builtin.__init__(error, *args)
    error.__dict__.update(fields)
    return error


def _lines(error: BaseException) -> list[str]:
    try:
        return traceback.format_exception(error)
    except BaseException:  # noqa: BLE001 - its __str__ is the user's
        return traceback.format_tb(error.__traceback__)


def _said(error: BaseException) -> str:
    try:
        return str(error)[:_MOST_SAID]
    except BaseException:  # noqa: BLE001 - its __str__ is the user's
        return "(it cannot be printed)"
