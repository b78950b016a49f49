"""
Calls in another process, so that nothing that a function does breaks the pool.

A `ProcessPoolExecutor` pickles the result or error of a function, and unpickles it on
the thread that manages the pool: an exception class with a constructor of its own is
enough to break the pool, and with it all other work. Here both halves are guarded:
`remote_call` makes a call there, and `end_of` reads its outcome here.

Decision: executors.
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

#: Names for authors of an executor whose calls are made in other processes.
__all__ = ("HERE", "RemoteEnd", "end_of", "pickled", "remote_call", "unsendable")

#: Characters of an error, and of its traceback, that come back where it cannot itself.
_MOST_SAID: Final = 100_000


class TaskLink(Protocol):
    """Protocol: the way of a task in a worker process to the orchestrator."""

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
    """State of a worker process; in other processes, empty."""

    #: The way of its tasks to the orchestrator.
    link: TaskLink | None = None
    #: The most bytes, pickled, of a value for another process.
    most_bytes: int | None = None
    #: Whether progress of a task is dropped, as there is no link.
    drops_progress: bool = False
    #: Whether the main module of its parent is being imported.
    is_importing_main: bool = False


HERE: Final = Here()


class TooLargeError(pickle.PicklingError):
    """A pickled value has more bytes than may go to another process."""


class _Limited:
    """A file of limited size."""

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
        # The pickler may use the buffer again.
        self.parts.append(data if isinstance(data, bytes) else bytes(data))
        return size


def by_value() -> Any:
    """
    Return the pickler of functions and classes that cannot be imported, by value.

    Raises:
        ImportError: It is not installed.
    """
    return import_module("cloudpickle")


def is_session() -> bool:
    """Return whether no other process can import the main module."""
    main = sys.modules.get("__main__")
    path = getattr(main, "__file__", None)
    return getattr(main, "__spec__", None) is None and (
        path is None or not os.path.isfile(path)  # noqa: PTH113 - loads nothing
    )


def pickled(value: Any, most: int | None = None, *, elsewhere: bool = False) -> bytes:
    """
    Return *value* pickled, for another process.

    Functions that cannot be found there by name are pickled by value, by cloudpickle,
    if that is installed: lambdas, functions inside others, and all of a session. For a
    process *elsewhere*, without the file of the main module, that is all of this
    module, too.

    It may have *most* bytes; None: the limit for values that are sent from here.

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
        # If neither can pickle it, the error is that of the first.
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
    """Return the error of a task that cannot be sent to executor *name*."""
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
    """The traceback of the other process, as text: the cause of the error here."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


@frozen
class RemoteEnd:
    """The end of a call in another process: pickled there, not yet unpickled here."""

    #: The result or error; None if that cannot be pickled.
    data: bytes | None
    #: Whether it is an error.
    raised: bool
    #: The type of the result or error.
    kind: str
    #: The message of the error, or why the result cannot be pickled.
    message: str = ""
    traceback: str = ""
    #: Whether the result is larger than may come back.
    is_too_large: bool = False
    #: Seconds of processor that its thread took there, pickling included.
    cpu_seconds: float | None = None


def remote_call(
    fn: Callable[..., Any], args: tuple[Any, ...]
) -> Callable[[], RemoteEnd]:
    """Return a call that is sent to another process, and raises nothing there."""
    # A partial is pickled fastest.
    return partial(_call, fn, args)


def with_variables(variables: Mapping[str, str], call: bytes) -> Any:
    """Make a pickled *call* in a process that has *variables* from now on."""
    # They are set before the call is read, since modules may use them when imported.
    os.environ.update(variables)
    return pickle.loads(call)()  # noqa: S301 - from our parent


def _call(fn: Callable[..., Any], args: tuple[Any, ...]) -> RemoteEnd:
    """Make the call in the other process; its outcome can always be sent back."""
    begin = time.thread_time()
    try:
        value = fn(*args)
    except BaseException as error:  # noqa: BLE001 - the caller gets it
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
    except BaseException as error:  # noqa: BLE001 - the user's __reduce__ ran
        return RemoteEnd(
            None,
            raised=False,
            kind=kind,
            message=_said(error),
            is_too_large=isinstance(error, TooLargeError),
        )


def end_of(end: RemoteEnd, task_id: str) -> tuple[Any, BaseException | None]:
    """Return value and error of a task, in the orchestrator, from the *end*."""
    try:
        value = _unpickled(end)
    except BaseException as error:  # noqa: BLE001 - the user's unpickling ran
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
    """Return the error for an outcome that cannot be unpickled, as *error* says."""
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
    """Return *error* pickled, if it can be unpickled to the same error."""
    forms: list[object] = [error]
    if isinstance(type(error).__reduce__, MethodDescriptorType):
        # It does not define itself how it is pickled.
        forms.append(_WithoutInit(error))
    alike: bytes | None = None
    for form in forms:
        try:
            data = pickled(form)
            again = pickle.loads(data)  # noqa: S301 - our own
        except BaseException:  # noqa: BLE001, S112 - the user's __reduce__ ran
            continue
        if type(again) is type(error):
            if _said(again) == _said(error):
                return data
            # The message may contain an address: the usual way is as good.
            alike = alike or data
    return alike


class _WithoutInit:
    """
    Object that is pickled instead of *error*, and makes it without its constructor.

    Exceptions are pickled as a call of their class with their `args`: one whose
    `__init__` takes other arguments than it passes on fails so, or has another message.
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
    # The base of Python's own sets state, such as the errno of an OSError.
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
