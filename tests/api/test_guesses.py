"""What is called as another library would have it is refused in words, or told."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from tests.api.tools import PATIENCE, in_loop

from taskorch import InvalidTaskError, Task, TaskOrchestrator
from taskorch.errors import UnknownCapabilityError, UnknownTaskError
from taskorch.kit.checks import called_as


def f(number: int = 1) -> int:
    return number


def raises(_: int) -> int:
    msg = "of the function's own"
    raise TypeError(msg)


GUESSES: dict[str, tuple[Callable[[Any], object], str]] = {
    "an option of a map": (
        lambda orch: list(orch.map(f, [1], retry=3)),
        r"orch.options(id='n/{}').map(f",
    ),
    "cron=": (
        lambda orch: orch.schedules.add("n", f, cron="0 3 * * *"),
        "orch.schedules.add('nightly', '0 3 * * *', f",
    ),
    "cron= alone": (
        lambda orch: orch.schedules.add("n", cron="0 3 * * *"),
        "orch.schedules.add('nightly', '0 3 * * *', f",
    ),
    "no function": (
        lambda orch: orch.schedules.add("n", "0 3 * * *"),
        "missing 1 required positional argument: 'what'",
    ),
    "a function of schedule": (
        lambda orch: orch.schedule("0 3 * * *", f),
        "orch.schedules.add('nightly', '0 3 * * *', f)",
    ),
}


@pytest.mark.parametrize("guess", GUESSES)
def test_a_call_with_other_arguments_says_how_it_is_called(guess: str) -> None:
    call, words = GUESSES[guess]
    with TaskOrchestrator() as orch:
        with pytest.raises(InvalidTaskError) as caught:
            call(orch)
        assert words in str(caught.value)
        assert orch.schedules.list() == []


@in_loop
async def test_so_does_a_map_in_a_coroutine() -> None:
    async with TaskOrchestrator() as orch:
        aio: Any = orch.aio
        with pytest.raises(
            InvalidTaskError, match=r"orch.aio.options\(id='n/\{\}'\).map"
        ):
            aio.map(f, [1], retry=3)


@pytest.mark.parametrize(
    "verb", ["explain", "get_task_status", "cancel_task", "rerun_task", "handle"]
)
def test_a_handle_in_the_place_of_an_id_is_told(verb: str, tmp_path: Any) -> None:
    for journal in (None, tmp_path / "runs.db"):
        with TaskOrchestrator(journal=journal) as orch:
            handle = orch.submit(f)
            with pytest.raises(UnknownTaskError, match=r"no id \(handle.task_id\)"):
                getattr(orch, verb)(handle)
            assert handle.result(PATIENCE) == 1


def test_a_function_in_the_place_of_a_payload_is_told() -> None:
    with TaskOrchestrator() as orch:
        for tasks in ([Task("x", f)], [Task("call"), Task("x", f)]):
            with pytest.raises(UnknownCapabilityError) as caught:
                orch.submit_tasks(tasks)
            is_meant = caught.value.capability == "x"
            assert ("Task.call(f) calls a function" in str(caught.value)) == is_meant
        # A worker may want one.
        orch.agent("a", capabilities=["x"])(lambda task, _: task.payload())
        assert orch.submit_task(Task("x", f)).result(PATIENCE) == 1


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if "schedules" in each.name]


def test_schedules_that_end_with_their_block_are_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING), TaskOrchestrator() as orch:
        orch.schedules.add("nightly", 3_600, f)
    (line,) = lines(caplog)
    assert "schedules have made nothing (nightly), and end with the block" in line
    assert "threading.Event().wait()" in line


def test_an_error_of_python_within_a_method_stays_what_it_is():
    class Thing:
        @called_as("thing.act(1)")
        def act(self, number):
            return number + "1"

    with pytest.raises(TypeError, match="unsupported operand"):
        Thing().act(1)
    with pytest.raises(InvalidTaskError, match="number") as refused:
        Thing().act()
    assert refused.value.hint == "thing.act(1)"
