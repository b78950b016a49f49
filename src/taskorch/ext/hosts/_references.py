"""
Large results that stay with the engine, which this process owns by reference.

Decision: hosts-on-engines.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final
from weakref import WeakValueDictionary

from taskorch.core.executors import wire
from taskorch.errors import ResultGoneError
from taskorch.ext.hosts._engine import (
    ASKS,
    Engine,
    KeptEnd,
    RemoteValue,
    StoredValue,
)
from taskorch.ext.hosts._given import GivenCall, RemoteHost, text_of
from taskorch.kit.fence import log_of
from taskorch.kit.loop import Loop
from taskorch.kit.visible import visible

#: Seconds that the engine may take to keep a value.
_PATIENCE: Final = 120.0
_log = log_of(__name__)


class References:
    """
    The values that the engine keeps for us.

    Args:
        engine: The engine.
        ask: Does something on the thread of the engine.
        loop: The loop on whose thread all methods but `fetch` run.
        ended: Called with the outcome of a call, once the engine has its result.
    """

    def __init__(
        self,
        engine: Engine,
        ask: Callable[[Callable[[], object]], object],
        loop: Loop,
        ended: Callable[[RemoteHost, bytes, Any], object],
    ) -> None:
        self._engine = engine
        self._ask, self._loop, self._ended = ask, loop, ended
        self._there: WeakValueDictionary[bytes, StoredValue] = WeakValueDictionary()
        #: Results that the engine is taking now.
        self._keeping: dict[bytes, tuple[RemoteHost, GivenCall, KeptEnd]] = {}
        self._is_over = False

    def keep(self, host: RemoteHost, call: GivenCall, end: KeptEnd) -> None:
        """
        Let the engine take the result of *call*, which *host* still has.

        The call has not ended before that: if the host is lost, so is the attempt.
        """
        number = call.number
        self._keeping[number] = host, call, end
        self._let_be_silent(host)

        def done(found_by: Any, why: str) -> None:
            self._loop.call(partial(self._kept, number, found_by, why))

        def ask() -> None:
            try:
                self._engine.keep(host.handle, number, done)
            except Exception as error:  # noqa: BLE001 - the value comes at once
                done(None, text_of(error))

        self._ask(ask)
        late = partial(done, None, f"it has taken longer than {_PATIENCE:g} s")
        self._loop.at(time.monotonic() + _PATIENCE, late)

    def _let_be_silent(self, host: RemoteHost) -> None:
        if host.link is not None:
            # As long as its store is full, Ray lets no other thread of a host run.
            is_keeping = any(keeper is host for keeper, *_ in self._keeping.values())
            host.link.may_be_silent = is_keeping

    def _kept(self, number: bytes, found_by: Any, why: str) -> None:
        if number not in self._keeping:
            # It was too late, and the value comes at once.
            return
        host, call, end = self._keeping.pop(number)
        self._let_be_silent(host)
        task_id = call.attempt.task_id
        if call.is_over:
            return
        if why:
            _log.warning(
                "taskorch: %s cannot keep the result of task %s, which comes here: %s",
                self._engine.name,
                visible(task_id),
                visible(why),
            )
            host.send(wire.TAKE, number)
            return
        host.send(wire.FORGET, number)
        reference = self._there[number] = StoredValue(number, task_id, found_by)
        value = RemoteValue(reference, end, str(host), self.fetch)
        self._ended(host, number, value)

    def close(self) -> None:
        """Drop all values at the end of the orchestrator, whoever has them."""
        self._is_over = True
        for reference in list(self._there.values()):
            reference.found_by = None

    def fetch(self, reference: StoredValue) -> bytes:
        """
        Return the value of *reference*, pickled; for any thread.

        Raises:
            ResultGoneError: The engine has lost it, or the orchestrator has ended.
        """
        if self._is_over:
            raise _gone(reference, "its orchestrator has ended")
        try:
            return self._engine.fetch(reference.found_by)
        except ConnectionError as error:
            raise _gone(reference, f"{self._engine.name} says: {error}") from error

    def answer(
        self, host: RemoteHost, call: GivenCall | None, pid: int, message: bytes
    ) -> bool:
        """Return whether *host* asks for a value that *call* needs, and send it."""
        _, kind, question, data = pickle.loads(message)  # noqa: S301 - our own host
        if kind != ASKS:
            return False
        reference = self._there.get(pickle.loads(data))  # noqa: S301 - our own host
        if call is None or reference is None:
            # The call that needs it is over.
            return True

        def failed(why: str) -> None:
            call.gone = _gone(reference, f"{self._engine.name} says: {why}")
            body = pickle.dumps((question, call.gone, None))
            host.send(wire.ANSWER, call.number, pid.to_bytes(wire.PID), body)

        def ask() -> None:
            try:
                asked = pid, call.number, question
                self._engine.bring(host.handle, asked, reference.found_by, failed)
            except Exception as error:  # noqa: BLE001 - the host is told
                failed(text_of(error))

        self._ask(ask)
        return True


def _gone(reference: StoredValue, why: str) -> ResultGoneError:
    task_id = reference.task_id
    msg = f"task {task_id} has completed, and its result is lost: {why}"
    hint = f"run it again: orch.rerun_task({task_id!r})"
    return ResultGoneError(msg, hint=hint, task_id=task_id)
