"""
What `map` has submitted, and how far that is ahead of the results.

Decision: 0066.
"""

from __future__ import annotations

import threading
from _thread import start_new_thread
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import suppress
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from taskorch._futures import cancel_pending, is_free
from taskorch.errors import TaskorchError
from taskorch.model import check_count, to_patience
from taskorch.runtime._interrupts import defers_interrupts, takes_interrupts
from taskorch.runtime._work import size_of

if TYPE_CHECKING:
    from datetime import timedelta

    from taskorch._handles import TaskHandle
    from taskorch.runtime._runtime import Runtime

T = TypeVar("T")

#: Calls that are ahead at first, and at the most; and the bytes that their results may
#: come to, about, as far as the latest one tells.
_FIRST: Final = 64
_MOST: Final = 4_096
_BYTES: Final = 16 << 20


class Ahead(Generic[T]):
    """
    Submits calls as results are taken, so that what they are made of may be endless.

    Args:
        runtime: Who runs them.
        submit: Takes some of the arguments, and gives the handles.
        iterables: One for each argument; the shortest ends it.
        most: Calls that are submitted before their results are taken; None is some
            thousand, or fewer if the results are large.

    Raises:
        InvalidTaskError: *most* is no number of 1 or more.
    """

    def __init__(
        self,
        runtime: Runtime,
        submit: Callable[[list[tuple[Any, ...]]], list[TaskHandle[T]]],
        iterables: tuple[Iterable[Any], ...],
        most: int | None,
    ) -> None:
        if most is not None:
            check_count("buffersize", most, least=1)
        self.runtime = runtime
        self.handles: deque[TaskHandle[T]] = deque()
        self._submit = submit
        self._calls = zip(*iterables, strict=False)
        self._is_adapting = most is None
        self._most = _FIRST if most is None else most
        #: It has an end: all of it can be submitted.
        self.has_end = most is None and all(
            isinstance(each, Sized) for each in iterables
        )
        #: What a journal has accepted is made, whatever becomes of this life.
        self.is_accepted_at_once = self.has_end and runtime.committer is not None
        #: All calls have been submitted, or nobody wants the others.
        self.is_over = False
        # A drain submits the rest, beside the consumer of results.
        self._lock = threading.Lock()
        if self.has_end:
            runtime.maps[id(self)] = self

    def wants_more(self) -> bool:
        """Whether there are too few ahead, and more may come."""
        enough = self._most >> 1 if self._is_adapting else self._most - 1
        return len(self.handles) <= enough and not self.is_over

    def fill(self, *, whole: bool = False) -> None:
        """Submit what may be ahead now, or the *whole* rest."""
        with self._lock:
            if self.is_over or not (whole or self.wants_more()):
                return
            most = None if whole else self._most - len(self.handles)
            some = _take(self._calls, most)
            self.is_over = most is None or len(some) < most
            self.handles += self._submit(some)

    def taken(self, result: T) -> None:
        """The first of the handles has brought *result*, and goes."""
        self.handles.popleft()
        if not (self._is_adapting and self.wants_more()):
            return
        size = size_of(result) * self._most
        if size < _BYTES:
            self._most = min(_MOST, self._most * 2)
        elif size > 2 * _BYTES:
            self._most = max(1, self._most >> 1)

    def leave(self) -> None:
        """Cancel the calls that have not begun, as their results are not asked for."""
        self.is_over = True
        handles = list(self.handles)
        self.handles.clear()
        for handle in handles:
            handle._rt.notices.ask(handle)
        # The journal is not waited for: were it out of order, that error would take the
        # place of the one that ended the map.
        cancel_pending(handles, keep=False)
        # Else there would be a cycle: an error has frames, these have such a list, and
        # the list has the handle with the error.
        handles.clear()


class MapResults(Iterator[T]):
    """
    The results of a `map`, in order.

    If no result was asked for when the iterator goes, the calls were wanted: they are
    made, all of them. Otherwise, calls that have not begun are cancelled.
    """

    def __init__(self, ahead: Ahead[T], end: float | None) -> None:
        self._ahead = ahead
        self._end = end
        self._is_asked = False

    @defers_interrupts
    def __next__(self) -> T:
        self._is_asked = True
        try:
            return self._next()
        except BaseException:
            self.close()
            raise

    def _next(self) -> T:
        ahead = self._ahead
        ahead.fill()
        if not ahead.handles:
            raise StopIteration
        result = _first_result(ahead.handles, self._end)
        ahead.taken(result)
        return result

    def close(self) -> None:
        """Cancel what has not begun; there are no more results."""
        self._is_asked = True
        self._ahead.leave()

    @defers_interrupts
    def __del__(self) -> None:
        # As it goes Python prints what is raised, and forgets it.
        with suppress(TaskorchError, RuntimeError, AttributeError):
            if self._is_asked:
                self._ahead.leave()
            elif self._ahead.has_end and not self._ahead.is_over:
                # The collector comes by anywhere, in the midst of a step, too.
                if is_free(self._ahead.runtime.lock):
                    self._ahead.fill(whole=True)
                else:
                    start_new_thread(_submit_after_step, (self._ahead,))


def map_calls(
    runtime: Runtime,
    submit: Callable[[list[tuple[Any, ...]]], list[TaskHandle[T]]],
    iterables: tuple[Iterable[Any], ...],
    timeout: float | timedelta | None,
    buffersize: int | None,
) -> MapResults[T]:
    """
    The results of calls that *submit* submits, some at a time; see `Ahead`.

    Raises:
        InvalidTaskError: An argument is out of its range.
    """
    seconds = to_patience(timeout)
    end = None if seconds is None else monotonic() + seconds
    ahead = Ahead(runtime, submit, iterables, buffersize)
    ahead.fill(whole=ahead.is_accepted_at_once)
    return MapResults(ahead, end)


def _submit_after_step(ahead: Ahead[Any]) -> None:
    # Nobody would hear of an error.
    with suppress(TaskorchError):
        ahead.fill(whole=True)


@takes_interrupts
def _take(calls: Iterator[tuple[Any, ...]], most: int | None) -> list[tuple[Any, ...]]:
    return list(islice(calls, most))


@takes_interrupts
def _first_result(handles: deque[TaskHandle[T]], end: float | None) -> T:
    # The handle is in no variable: the frame of an error would keep it.
    seconds_left = None if end is None else max(0.0, end - monotonic())
    return handles[0].result(seconds_left)
