"""
What agents try themselves when an attempt has failed, before it counts as failed.

Of functions that ran on a thread of ours, that is done on this very thread; of all
else, on one of its own. Each strategy has one try in each attempt, so that none goes
round for ever, and the timeout of the attempt goes on: it bounds one that hangs.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from taskorch.errors import AttemptInterrupted, InvalidTaskError
from taskorch.events import RecoveryAttempted
from taskorch.kernel import TaskRow, describe, row_extra
from taskorch.model import RecoveryAttempt, TaskState
from taskorch.model._plain import stamp
from taskorch.model._show import show
from taskorch.protocols import Failure
from taskorch.runtime._context import context_of
from taskorch.runtime._deciders import PolicyDeciders
from taskorch.runtime._driver import Driver, Finishes
from taskorch.runtime._work import Work, control_of, extra_of, task_of

#: What a strategy is called with: the task, the failure and the context.
Strategy = Callable[..., Any]
#: Of one task, as many are kept as this; the earliest go first.
_MOST: Final = 20
_NS: Final = 1e9


class Performs(Protocol):
    """What runs the function of an attempt."""

    def perform(
        self, row: TaskRow, number: int, work: Work, /
    ) -> tuple[bool, Any, BaseException | None]:
        """On a thread: run it, once more."""
        ...

    def begin(self, row: TaskRow, number: int, work: Work) -> None:
        """Begin the attempt where it runs."""
        ...


class StrategyHost(Driver, Finishes, Protocol):
    """What strategies ask of a runtime."""

    deciders: PolicyDeciders

    @property
    def attempts(self) -> Performs:
        """What runs attempts."""
        ...


class Strategies:
    """Strategies by class of failures, and what came of them."""

    def __init__(self, rt: StrategyHost) -> None:
        self._rt = rt
        #: By level and class.
        self._known: dict[tuple[int, str], Strategy] = {}
        #: Those that had their try, by task and attempt.
        self._tried: dict[tuple[str, int], tuple[str, ...]] = {}
        #: Attempts that nobody runs while one of them is mended, by task and number.
        self.mending: dict[tuple[str, int], TaskRow] = {}
        #: What is called now, from which class and since when, by task and number.
        self._called: dict[tuple[str, int], tuple[str, str, int]] = {}

    def add(self, kind: str, strategy: Strategy, level: int) -> None:
        """
        Add one.

        Raises:
            InvalidTaskError: There is one, or it cannot be called with three arguments.
        """
        given: object = strategy
        if not callable(given) or inspect.iscoroutinefunction(strategy):
            msg = f"a recovery is a plain function, not {show(strategy)}"
            raise InvalidTaskError(msg, hint="def recover(task, failure, context): …")
        try:
            inspect.signature(strategy).bind(None, None, None)
        except TypeError as error:
            msg = f"{show(strategy)} is called with task, failure, context: {error}"
            raise InvalidTaskError(msg) from error
        except ValueError:
            # It is written in C, and nobody knows.
            pass
        if (level, kind) in self._known:
            msg = f"there is a recovery from {kind} on level {level} already"
            raise InvalidTaskError(msg, hint="let one function do both")
        self._known[level, kind] = strategy

    @property
    def known(self) -> Mapping[tuple[int, str], Strategy]:
        """Those that there are, by level and class."""
        return dict(self._known)

    def under_way(self, row: TaskRow) -> str:
        """What tries to mend the attempt of *row* now, in a sentence; or ""."""
        call = self._called.get((row.id, row.attempt))
        if call is None:
            return ""
        name, kind, since_ns = call
        return f"{name} recovers it from {kind}, since {stamp(since_ns / _NS)}."

    # -- on the thread of an attempt -------------------------------------------------

    def mend(
        self, row: TaskRow, number: int, work: Work, error: BaseException
    ) -> tuple[bool, Any, BaseException | None]:
        """
        Try to recover from *error*, and run the attempt again as long as that says so.

        Returns:
            As `perform`: whether it goes on elsewhere, the value, and the error.
        """
        left: BaseException | None = error
        handed, value = False, None
        while left is not None and self.has_tried(row, number, work, left):
            handed, value, left = self._rt.attempts.perform(row, number, work)
        if left is None:
            self._tried.pop((row.id, number), None)
        return handed, value, left

    def takes(
        self, row: TaskRow, number: int, work: Work, error: BaseException
    ) -> bool:
        """Whether one will try to recover from *error*: then the end is told later."""
        if self._find(row, number, work, error) is None:
            return False

        def go_on() -> None:
            try:
                is_again = self.has_tried(row, number, work, error)
                # Its agent may have been lost meanwhile: then another attempt is made.
                goes_on = row.attempt == number and row.state is TaskState.RUNNING
                if is_again and goes_on:
                    self._rt.attempts.begin(row, number, work)
                else:
                    self._rt.finish(row, number, work, None, error)
            finally:
                self.mending.pop((row.id, number), None)

        name = f"{self._rt.name}-recovery"
        self.mending[row.id, number] = row
        try:
            threading.Thread(target=go_on, name=name, daemon=True).start()
        except RuntimeError:
            # There is no room for one more thread.
            self.mending.pop((row.id, number), None)
            return False
        return True

    def reset(self, row: TaskRow, number: int, work: Work) -> None:
        """Before a later attempt: reset its environment, if that is what helps."""
        kind = row_extra(row).failure_class
        strategy = self._known.get((2, kind))
        if strategy is not None and number > 1:
            failure = work._error if isinstance(work._error, Exception) else None
            self._call(2, kind, strategy, row, number, work, failure)

    def has_tried(
        self, row: TaskRow, number: int, work: Work, error: BaseException
    ) -> bool:
        """Try the strategy for *error*; whether the attempt is to be run again."""
        found = self._find(row, number, work, error)
        if found is None:
            return False
        kind, strategy = found
        tried = self._tried.get((row.id, number), ())
        self._tried[row.id, number] = (*tried, kind)
        while len(self._tried) > 1_000:  # noqa: PLR2004 - of attempts that have ended
            self._tried.pop(next(iter(self._tried)), None)
        return self._call(1, kind, strategy, row, number, work, error) == "retry"

    def _find(
        self, row: TaskRow, number: int, work: Work, error: BaseException
    ) -> tuple[str, Strategy] | None:
        if isinstance(error, AttemptInterrupted) or not self._known:
            return None
        if row.attempt != number or control_of(work, number).is_to_end:
            return None
        try:
            kind = self._rt.deciders.kind_of(error)
        except Exception:  # noqa: BLE001 - a rule of the user's: it is asked again
            return None
        strategy = self._known.get((1, kind))
        if strategy is None or kind in self._tried.get((row.id, number), ()):
            return None
        return kind, strategy

    def _call(
        self,
        level: int,
        kind: str,
        strategy: Strategy,
        row: TaskRow,
        number: int,
        work: Work,
        error: BaseException | None,
    ) -> str:
        """Call *strategy*, note what came of it, and say whether to run it again."""
        extra = row_extra(row)
        failure = Failure(
            task_of(row),
            error if error is not None else RuntimeError(kind),
            extra.charged + 1,
            max(0, self._rt.now() - row.started_ns) / _NS,
            extra.last_delay_ns / _NS,
            "" if row.agent is None else row.agent.name,
            kind,
        )
        name = getattr(strategy, "__name__", type(strategy).__name__)
        message = ""
        self._called[row.id, number] = name, kind, self._rt.now()
        try:
            answer = strategy(failure.task, failure, context_of(work, number))
        except AttemptInterrupted:
            raise
        except BaseException as wrong:  # noqa: BLE001 - it is the user's
            result, message = "failed", describe(wrong)
        else:
            result = "retry" if answer in ("retry", True) else "escalate"
            if level != 1:
                result = "done"
            elif answer not in ("retry", "escalate", True, False, None):
                message = f"it answered {show(answer)}, neither 'retry' nor 'escalate'"
        finally:
            self._called.pop((row.id, number), None)
        rt, fact = self._rt, (number, level, kind, name, result, message)
        known = extra_of(work).recoveries
        extra_of(work).recoveries = (*known, RecoveryAttempt(*fact))[-_MOST:]

        def note(now: int) -> None:
            rt.kernel.note(RecoveryAttempted, now, row.id, *fact, cargo=work)

        rt.step(note)
        return result
