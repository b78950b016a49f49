"""Whether a function of `orch.recover` keeps its laws."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import wait
from functools import partial
from random import Random
from typing import Any, Final

import attrs

from taskorch._contexts import current_context
from taskorch._orchestrator import TaskOrchestrator
from taskorch.protocols import Failure, Recovery
from taskorch.recovery import classify
from taskorch.testing._builders import make_failure
from taskorch.testing.laws._case import Case, brief, cases, maker, snapshot
from taskorch.testing.laws._home import elsewhere
from taskorch.testing.laws._worlds import Tasks, task_source

#: Calls at once.
_AT_ONCE: Final = 4
_ANSWERS: Final = ("retry", "escalate", True, False, None)
#: One of each class of failures.
_ERRORS: Final[tuple[Callable[[], Exception], ...]] = (
    lambda: ModuleNotFoundError("No module named 'cashcow'", name="cashcow"),
    lambda: PermissionError(13, "Permission denied", "/etc/shadow"),
    lambda: MemoryError("the table is too large"),
    lambda: TimeoutError("it took too long"),
    lambda: ZeroDivisionError("division by zero"),
    lambda: AssertionError("1 is not 2"),
    lambda: FileNotFoundError(2, "No such file or directory", "table"),
    lambda: ConnectionRefusedError(111, "Connection refused"),
    lambda: RuntimeError("it failed"),
)


def check_recovery(
    recovery: Recovery | Callable[[], Recovery],
    *,
    errors: Iterable[Callable[[], Exception]] = _ERRORS,
    level: int = 1,
    patience: float = 10.0,
    seed: int = 0,
    examples: int = 20,
    tasks: Tasks | None = None,
) -> None:
    """
    Check the laws of Recovery.

    How the laws are seen:

    - 1: it is called inside of attempts, and waited for so long as *patience* says.
    - 3: its arguments are the same after the call as before it.
    - 4: four attempts call it at once, each twice about the same failure.

    Args:
        recovery: The function.
        errors: What make the errors that it is called about: those of the classes that
            it is for. Each call has a new one.
        level: 1 is inside a failed attempt; 2 is before the next one.
        patience: Seconds that one call may take.
        seed: Of the questions.
        examples: How many failures.
        tasks: Tasks to ask about, or what makes one of a `random.Random`.

    Raises:
        LawViolation: A law is broken.
        Exception: What it raised, with a note that says about what.
    """
    draw, make_errors = task_source(tasks), tuple(errors)
    make = maker(recovery, Recovery) if isinstance(recovery, type) else lambda: recovery
    with TaskOrchestrator(concurrency=_AT_ONCE) as orch:
        waiting: list[tuple[Case, Any]] = []
        for case in cases(Recovery, "check_recovery", seed, examples, 3):
            failure = _some_failure(case.random, draw, make_errors)
            called = _Called(case, make(), failure, level)
            waiting.append((case, called))
            if len(waiting) == _AT_ONCE:
                _expect_ends(orch, waiting, patience)
        _expect_ends(orch, waiting, patience)


def _some_failure(
    dice: Random,
    draw: Callable[[Random], Any],
    errors: tuple[Callable[[], Exception], ...],
) -> Failure:
    error = dice.choice(errors)()
    attempts = dice.choice((1, 1, 2, 5))
    failure = make_failure(error, attempts, task=draw(dice), elapsed=dice.random())
    return attrs.evolve(failure, kind=classify(error).name)


@attrs.frozen(eq=False)
class _Called:
    """What an attempt does: it calls the function twice."""

    case: Case
    recovery: Any
    failure: Failure
    level: int

    def __call__(self) -> None:
        """
        Call it.

        Raises:
            LawViolation: A law is broken.
        """
        failure, context = self.failure, current_context()
        for _ in range(2):
            before = snapshot((failure.task, failure))
            with self.case.noted(task=failure.task, failure=failure):
                answer: object = self.recovery(failure.task, failure, context)
            is_same = snapshot((failure.task, failure)) == before
            self.case.expect(is_same, 3, "It changed the task, or the failure.")
            is_answer = any(answer is each or answer == each for each in _ANSWERS)
            if self.level == 1:
                self.case.expect(is_answer, 2, f"It answered {brief(answer)}.")


def _expect_ends(
    orch: TaskOrchestrator, waiting: list[tuple[Case, Any]], patience: float
) -> None:
    """Have attempts call, and wait for them; what one raised is raised."""
    handles = [(case, orch.submit(called)) for case, called in waiting]
    waiting.clear()
    for case, handle in handles:
        end = elsewhere(partial(handle.exception, None))
        # Twice, each within its time.
        wait([end], 2 * patience)
        if not end.done():
            orch.stop(drain=False, timeout=0)
            case.fail(1, f"It did not return within {patience:g} s.")
        error = end.result()
        if error is not None:
            raise error
