"""Joins of the user's choice, and what follows when they cannot hold any more."""

from collections.abc import Mapping
from typing import Any

import pytest
from tests.api.tools import PATIENCE, fail, in_loop

from taskorch import (
    AtLeast,
    InvalidTaskError,
    Task,
    TaskOrchestrator,
    TaskState,
    ValidationFailedError,
    current_context,
)
from taskorch.errors import ComponentError, WouldDeadlockError


def echo(*values: Any) -> Any:
    return list(values)


def found() -> dict[str, Any]:
    """The results that a task finds of those that it waited for."""
    return dict(current_context().results)


def raises(states: Mapping[str, TaskState]) -> bool:
    raise RuntimeError(", ".join(states))


# -- what holds --------------------------------------------------------------------


def test_a_context_without_a_result() -> None:
    """Asking for it by its name is a KeyError; it is not counted either."""

    def look() -> tuple[int, str]:
        results = current_context().results
        with pytest.raises(KeyError, match="bad"):
            results["bad"]
        return len(results), repr(results)

    with TaskOrchestrator() as orch:
        orch.submit_task(Task.call(fail, ValueError(), id="bad"))
        task = Task.call(look, after=["bad"], on_parent_failure="run")
        assert orch.submit_task(task).result(PATIENCE) == (0, "Results()")


# -- what follows ------------------------------------------------------------------


def test_a_skipped_task_is_run_again() -> None:
    """First the root cause, then what was skipped for it; it waits for the re-run."""
    good: list[int] = []

    def flaky() -> int:
        return 4 if good else fail(ValueError())  # type: ignore[func-returns-value]

    with TaskOrchestrator() as orch:
        orch.submit_task(Task.call(flaky, id="a"))
        orch.submit_task(
            Task.call(found, id="b", after=["a"], on_parent_failure="skip")
        )
        assert orch.wait(PATIENCE)
        good.append(1)
        orch.rerun_task("a")
        assert orch.rerun_task("b").result(PATIENCE) == {"a": 4}
        assert orch.get_task_status("b~1").state == "cancelled"


# -- a function that fails ---------------------------------------------------------


@pytest.mark.parametrize("answer", [None, 1, "yes"])
def test_a_function_that_answers_nonsense(answer: Any) -> None:
    """Only True and False are answers."""
    with TaskOrchestrator() as orch:
        first = orch.submit(int)
        task = Task.call(int, after=[first], join=lambda _: answer)
        with pytest.raises(ComponentError, match="not True or False"):
            orch.submit_task(task).result(PATIENCE)


# -- what is refused ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"join": "some"}, "'all', 'finished', 'any', AtLeast"),
        ({"join": 2}, "AtLeast"),
        ({"join": int}, "AtLeast"),
        ({"join": in_loop}, None),
        ({"on_parent_failure": "ignore"}, "'block', 'skip', 'fail', 'run'"),
        ({"on_parent_failure": None}, "'block'"),
    ],
)
def test_unknown_words(options: dict[str, Any], says: str | None) -> None:
    """The words that there are stand in the error."""
    with TaskOrchestrator() as orch:
        first = orch.submit(int)
        task = Task.call(int, after=[first], **options)
        if says is None:
            orch.submit_task(task)
            return
        with pytest.raises(ValidationFailedError, match=says.replace("(", r"\(")):
            orch.submit_task(task)


def test_an_async_function_is_no_join() -> None:
    """Nobody would await it."""

    async def later(states: Mapping[str, TaskState]) -> bool:
        raise NotImplementedError

    with (
        TaskOrchestrator() as orch,
        pytest.raises(ValidationFailedError, match="await"),
    ):
        orch.submit_task(Task.call(int, after=[orch.submit(int)], join=later))


@pytest.mark.parametrize("count", [0, -1, 1.5, True, "2"])
def test_a_count_that_is_none(count: Any) -> None:
    """Refused where it is written down."""
    with pytest.raises(InvalidTaskError, match="1 or more"):
        AtLeast(count)


# -- elsewhere ---------------------------------------------------------------------


def test_a_task_waits_inside_for_one_that_needs_not_wait_for_it() -> None:
    """No deadlock: another parent lets that one go; of all, it is one."""
    with TaskOrchestrator() as orch:
        orch.submit_task(Task.call(int, "5", id="x", not_before=0.02))

        def ask(join: Any) -> Any:
            me = current_context().task_id
            other = Task.call(found, after=["x", me], join=join)
            return orch.submit_task(other).result(PATIENCE)

        assert orch.submit(ask, "any").result(PATIENCE) == {"x": 5}
        # It has been let go by the time that it is waited for.
        assert orch.submit(ask, AtLeast(1)).result(PATIENCE) == {"x": 5}
        with pytest.raises(WouldDeadlockError):
            orch.submit(ask, "finished").result(PATIENCE)
