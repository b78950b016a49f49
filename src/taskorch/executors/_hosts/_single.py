"""Calls that are tasks of the engine itself, where no host can make them."""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import BrokenExecutor
from functools import partial
from typing import Any, Final

from taskorch.errors import AttemptInterrupted, InvalidTaskError
from taskorch.executors._hosts._engine import Engine, NoPlaceError
from taskorch.executors._hosts._given import GivenCall, text_of
from taskorch.executors._programs._loop import Loop
from taskorch.executors._remote import HERE

#: Seconds after which an engine that had no place is asked again.
_PAUSE: Final = 1.0


class Singles:
    """
    Those that the engine was given, and has not ended.

    Args:
        engine: The engine.
        ask: Does something on the thread of the engine.
        loop: Which counts the time until one is ended by force.
        open_engine: Called before the engine is asked.
        patience: Seconds in which the engine must have a place.
    """

    def __init__(
        self,
        engine: Engine,
        ask: Callable[[Callable[[], object]], object],
        loop: Loop,
        open_engine: Callable[[], object],
        patience: float,
    ) -> None:
        self._engine, self._ask, self._loop = engine, ask, loop
        self._open, self._patience = open_engine, patience
        #: Why the engine had no place for one, when it was last asked.
        self.shortage: str = ""
        #: When it is asked again, by the monotonic clock.
        self._ask_again_at = 0.0
        # Guards the calls.
        self._lock = threading.Lock()
        self._calls: set[GivenCall] = set()

    def calls(self) -> Iterable[GivenCall]:
        """All that there are."""
        with self._lock:
            return list(self._calls)

    def begin(self, call: GivenCall) -> None:
        """Let the engine have a call."""
        with self._lock:
            self._calls.add(call)
        self._ask(partial(self._run, call))

    def stop(self, call: GivenCall, seconds: float) -> bool:
        """Cancel *call*, by force after some seconds; false if it is none of these."""
        with self._lock:
            if call not in self._calls:
                return False
        call.is_asked = True
        force = partial(self._ask, partial(self._cancel, call, force=True))
        self._ask(partial(self._cancel, call, force=False))
        when = time.monotonic() + max(0.0, seconds)
        self._loop.call(partial(self._loop.at, when, force))
        return True

    def _run(self, call: GivenCall) -> None:
        done = partial(self._answered, call)
        if call.is_over:
            return
        try:
            self._open()
            if call.is_asked:
                self._ended(call, None, AttemptInterrupted("stopped before it began"))
                return
            if call.sent:
                msg = (
                    "it needs a large result, and no host has what it asks for besides"
                )
                hint = "let per_host= have that, or take the value from get()"
                raise InvalidTaskError(msg, hint=hint)  # noqa: TRY301 - as all that fails
            call.single = self._place(call, done)
        except BaseException as error:  # noqa: BLE001 - it is told
            now = time.monotonic()
            if isinstance(error, NoPlaceError) and now - call.since < self._patience:
                again = partial(self._ask, partial(self._run, call))
                self._loop.call(partial(self._loop.at, now + _PAUSE, again))
                return
            if self._remove(call):
                name = self._engine.name
                call.attempt.unstarted(call.trouble(name, text_of(error), error))

    def _place(self, call: GivenCall, done: Callable[..., object]) -> Any:
        if time.monotonic() < self._ask_again_at:
            # It was asked for another a moment ago, which may have taken seconds.
            raise NoPlaceError(self.shortage)
        try:
            handle = self._engine.run_one((call.number, call.call), call.needs, done)
        except NoPlaceError as error:
            self.shortage = str(error)
            self._ask_again_at = time.monotonic() + _PAUSE / 2
            raise
        self.shortage = ""
        return handle

    def _answered(
        self, call: GivenCall, value: Any, error: BaseException | None
    ) -> None:
        if type(value) is tuple:
            number, value = value
            if number != call.number:
                name = self._engine.name
                value, error = None, BrokenExecutor(f"{name} has mixed up two calls")
        self._ended(call, value, error)

    def _ended(self, call: GivenCall, value: Any, error: BaseException | None) -> None:
        if not self._remove(call):
            return
        if call.is_asked and (error is not None or value.raised):
            # However it was ended.
            value, error = None, AttemptInterrupted("it was cancelled")
        call.attempt.end(value, error)

    def _remove(self, call: GivenCall) -> bool:
        """Whether *call* is over just now."""
        with self._lock:
            was_over, call.is_over = call.is_over, True
            self._calls.discard(call)
        return not was_over

    def _cancel(self, call: GivenCall, *, force: bool) -> None:
        if call.single is None:
            self._ended(call, None, AttemptInterrupted("stopped before it began"))
        elif not call.is_over:
            self._engine.cancel_one(call.single, force=force)


def run_single(call: tuple[bytes, bytes]) -> tuple[bytes, Any]:
    """Make *call*, a number and what is pickled; its number, and a `RemoteEnd`."""
    number, data = call
    HERE.drops_progress = True
    function: Callable[[], Any] = pickle.loads(data)  # noqa: S301 - ours
    return number, function()
