"""Dependencies: who waits for whom, and what becomes of them when it fails."""

from typing import Any

import pytest
from tests.api.tools import PATIENCE, Hold

from taskorch import (
    CycleError,
    Task,
    TaskOrchestrator,
    current_context,
)
from taskorch.errors import ResultGoneError


def test_results_of_dependencies_that_left_memory() -> None:
    """A handle keeps its own result; by its id alone the result is gone, and that is said."""
    with TaskOrchestrator(keep_finished=0) as orch:
        handle = orch.submit_task(Task.call(int, "3", id="old"))
        assert handle.result(PATIENCE) == 3
        orch.submit(int).result(PATIENCE)
        assert orch.submit(abs, handle).result(PATIENCE) == 3

        def look() -> int:
            return current_context().results["old"]

        assert orch.submit_task(Task.call(look, after=[handle])).result(PATIENCE) == 3
        by_id = orch.submit_task(Task.call(look, after=["old"]))
        with pytest.raises(ResultGoneError, match="old"):
            by_id.result(PATIENCE)
        # Waiting for it without its result is no fault.
        assert orch.submit_task(Task.call(int, after=["old"])).result(PATIENCE) == 0


# -- dependencies that come later --------------------------------------------------


def add_parents(orch: TaskOrchestrator, task_id: str, *after: str) -> None:
    orch._rt.add_parents(task_id, after)


def found() -> dict[str, int]:
    """The results that a task finds of those that it waited for."""
    return dict(current_context().results)


def test_what_was_added_is_no_part_of_what_a_task_is() -> None:
    """Nor of its later runs, which come after all of it: it is submitted as before."""
    with TaskOrchestrator() as orch:
        hold = Hold()
        orch.submit_task(Task.call(hold, 1, id="a"))
        orch.submit_task(Task.call(int, 2, id="b"))
        task = Task.call(found, id="t", after=["a"])
        orch.submit_task(task)
        add_parents(orch, "t", "b")
        hold.release()
        assert orch.handle("t").result(PATIENCE) == {"a": 1, "b": 2}
        again = orch.rerun_task("t")
        assert again.result(PATIENCE) == {"a": 1, "b": 2}
        assert orch.submit_task(Task.call(found, id="t", after=["a"])) is again


def test_a_task_that_comes_after_itself_is_told_to_leave_that_out() -> None:
    with TaskOrchestrator() as orch:
        with pytest.raises(CycleError, match="task 'a' waits for itself") as caught:
            orch.submit_tasks([Task.call(abs, 1, id="a", after=["a"])])
        assert caught.value.cycle == ("a",)
        assert caught.value.hint == "leave it out of its own `after` and arguments"


def keep(value: Any, key: Any = None) -> Any:
    return value, key
