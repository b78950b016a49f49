"""Functions of the user on threads of their own, so that a hang blocks nothing else."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any, Final, TypeAlias, TypeVar

from taskorch.errors import NotRunningError
from taskorch.kit.words import in_words

#: Seconds that a function may take before the health check says that it hangs.
LIMIT: Final = 5.0
#: The most calls of one label that wait behind a call that hangs.
_MOST: Final = 100

#: Seconds that a controller waits for an answer.
_PATIENCE: Final = 1.0

T = TypeVar("T")
_Calls: TypeAlias = deque[Callable[[], object]]


class Aside:
    """Caller of functions on threads, one after the other for each label."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, _Calls] = {}
        #: The start of the present call, by label.
        self._since: dict[str, float] = {}

    def call(
        self, orchestrator: Any, label: str, function: Callable[[], object]
    ) -> None:
        """Call *function* on the thread of *label*; in a simulation at once."""
        if orchestrator is None or hasattr(orchestrator, "world"):
            # In virtual time there is only one thread.
            function()
            return
        with self._lock:
            calls = self._waiting.get(label)
            if calls is not None:
                if len(calls) < _MOST:
                    calls.append(function)
                return
            self._waiting[label] = deque([function])
        name = "taskorch-alert-action"
        run = threading.Thread(
            target=self._run, args=(orchestrator, label), name=name, daemon=True
        )
        run.start()

    def ask(self, orchestrator: Any, label: str, function: Callable[[], T]) -> T | None:
        """
        Return the answer of *function*, or raise its error; None: it takes too long.

        There is no answer while a call with this *label* hangs.
        """
        with self._lock:
            if label in self._waiting:
                return None
        answers: list[Callable[[], T]] = []
        has_ended = threading.Event()

        def call() -> None:
            try:
                value = function()
            except Exception as error:  # noqa: BLE001 - the user's: raised where asked
                answers.append(partial(_raise, error))
            else:
                answers.append(lambda: value)
            finally:
                has_ended.set()

        self.call(orchestrator, label, call)
        has_ended.wait(_PATIENCE)
        return answers[0]() if answers else None

    def hanging(self) -> list[str]:
        """Describe each call that takes too long, and for how long it has run."""
        now = monotonic()
        return [
            f"{label} hangs for {in_words(now - since)}"
            for label, since in list(self._since.items())
            if now - since >= LIMIT
        ]

    def _run(self, orchestrator: Any, label: str) -> None:
        while True:
            with self._lock:
                calls = self._waiting[label]
                if not calls:
                    del self._waiting[label]
                    return
                function = calls.popleft()
                self._since[label] = monotonic()
            late = threading.Timer(LIMIT, _say, (orchestrator, f"{label} hangs"))
            late.daemon = True
            late.start()
            try:
                with orchestrator.drivers.patience():
                    function()
            except NotRunningError:
                pass
            except BaseException as error:  # noqa: BLE001 - the user's: told by its name
                _say(orchestrator, f"{label} raised {type(error).__name__}: {error}")
            finally:
                late.cancel()
                with self._lock:
                    del self._since[label]


def _raise(error: Exception) -> Any:
    raise error


class ActionError(Exception):
    """Error of an alert's action, which hangs or has raised."""


def _say(orchestrator: Any, why: str) -> None:
    orchestrator.drivers.say("alerts", ActionError(why))
