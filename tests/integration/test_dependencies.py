"""Dependencies: who waits for whom, and what becomes of them when it fails."""

import gc
import random
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest
from tests.integration.tools import PATIENCE, Hold, Recorder, fail

from taskorch import (
    CycleError,
    DependencyFailedError,
    InvalidTaskError,
    NotRunningError,
    RetryPolicy,
    Task,
    TaskCancelledError,
    TaskOrchestrator,
    UnknownTaskError,
    current_context,
)
from taskorch.errors import InvalidTransitionError, ResultGoneError


def test_a_random_graph_runs_in_topological_order() -> None:
    """Submitted in any order in one batch, every edge is kept."""
    rng = random.Random(7)
    edges = {
        n: sorted(rng.sample(range(n), min(n, rng.randrange(4)))) for n in range(60)
    }
    with TaskOrchestrator(concurrency=4) as orch:
        lock = threading.Lock()
        order: list[int] = []

        def run(n: int) -> None:
            with lock:
                order.append(n)

        tasks = [
            Task.call(run, n, id=f"n{n}", after=[f"n{m}" for m in above])
            for n, above in edges.items()
        ]
        rng.shuffle(tasks)
        orch.submit_tasks(tasks)
        assert orch.wait(PATIENCE)
        place = {n: i for i, n in enumerate(order)}
        assert len(place) == 60
        for n, above in edges.items():
            assert all(place[m] < place[n] for m in above)


def test_a_failed_dependency_blocks_what_is_submitted_later() -> None:
    """Blocked from the beginning, with the same error."""
    with TaskOrchestrator() as orch:
        bad = orch.submit_task(Task.call(fail, ValueError(), id="bad"))
        assert bad.exception(PATIENCE) is not None
        late = orch.submit_task(Task.call(abs, bad, id="late"))
        with pytest.raises(DependencyFailedError) as caught:
            late.result(PATIENCE)
        assert caught.value.root_causes == ("bad",)
        assert orch.get_task_status("late").state == "blocked"
        last = orch.submit_task(Task.call(abs, after=["late"]))
        with pytest.raises(DependencyFailedError) as caught:
            last.result(PATIENCE)
        assert caught.value.root_causes == ("bad",)


def test_blockades_reach_all_descendants_and_name_all_roots() -> None:
    """Two failures above one task are both named."""
    with TaskOrchestrator() as orch:
        hold = Hold()
        gate = orch.submit(hold)
        orch.submit_tasks(
            [
                Task.call(fail, ValueError(), id="x", after=[gate]),
                Task.call(fail, ValueError(), id="y", after=[gate]),
                Task.call(int, id="below-x", after=["x"]),
                Task.call(int, id="both", after=["below-x", "y"]),
                Task.call(int, id="free", after=[gate]),
            ]
        )
        hold.release()
        assert orch.wait(PATIENCE)
        error = orch.handle("both").exception(PATIENCE)
        assert isinstance(error, DependencyFailedError)
        assert set(error.root_causes) == {"x", "y"}
        assert set(orch.get_task_status("both").blocked_by) == {"below-x", "y"}
        assert orch.handle("free").result() == 0
        stats = orch.get_stats().state_machine
        assert (stats.completed, stats.failed, stats.blocked) == (2, 2, 2)


def test_mending_one_of_two_failures_is_not_enough() -> None:
    """A task with two failed dependencies waits for both re-runs."""
    with TaskOrchestrator() as orch:
        good: list[int] = []

        def flaky() -> int:
            if not good:
                fail(ValueError())
            return 1

        x = orch.submit_task(Task.call(flaky, id="x"))
        y = orch.submit_task(Task.call(flaky, id="y"))
        both = orch.submit(lambda *args: sum(args), x, y)
        with pytest.raises(DependencyFailedError):
            both.result(PATIENCE)
        assert orch.wait(PATIENCE)
        good.append(1)
        orch.rerun_task("x").result(PATIENCE)
        with pytest.raises(DependencyFailedError) as caught:
            both.result(PATIENCE)
        assert caught.value.root_causes == ("y",)
        orch.rerun_task("y")
        assert both.result(PATIENCE) == 2


def test_a_retried_dependency_does_not_block() -> None:
    """Only the final failure counts."""
    with TaskOrchestrator() as orch:
        recorder = Recorder(orch, "task_blocked")
        attempts: list[int] = []

        def flaky() -> int:
            attempts.append(1)
            if len(attempts) < 3:
                fail(ValueError())
            return 9

        policy = RetryPolicy(3, base=0.01, jitter=0)
        parent = orch.submit_task(Task.call(flaky, retry=policy))
        assert orch.submit(abs, parent).result(PATIENCE) == 9
        assert recorder.events == []


def test_a_cancelled_task_blocks_with_its_own_name() -> None:
    """Cancelled upstream is a root cause like a failure."""
    with TaskOrchestrator() as orch:
        orch.submit_task(Task.call(int, id="a", not_before=60))
        child = orch.submit_task(Task.call(int, id="b", after=["a"]))
        orch.cancel_task("a")
        with pytest.raises(DependencyFailedError) as caught:
            child.result(PATIENCE)
        assert caught.value.root_causes == ("a",)
        assert isinstance(orch.handle("a").exception(PATIENCE), TaskCancelledError)


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


def test_a_long_chain_is_blocked_and_mended() -> None:
    """A thousand tasks in a row: nothing recurses, as it fails or is mended."""
    with TaskOrchestrator(concurrency=2) as orch:
        good: list[int] = []

        def flaky() -> None:
            if not good:
                fail(ValueError())

        tasks = [Task.call(flaky, id="t0")]
        tasks += [
            Task.call(int, id=f"t{n}", after=[f"t{n - 1}"]) for n in range(1, 1200)
        ]
        handles = orch.submit_tasks(tasks)
        with pytest.raises(DependencyFailedError) as caught:
            handles[-1].result(PATIENCE)
        assert caught.value.root_causes == ("t0",)
        good.append(1)
        orch.rerun_task("t0")
        assert handles[-1].result(PATIENCE) == 0


def test_a_chain_of_results_is_let_go_of() -> None:
    """Holding the last handle of a long chain holds none of the first ones."""
    with TaskOrchestrator(keep_finished=2) as orch:
        handle = orch.submit(int)
        first = weakref.ref(handle)
        for _ in range(10):
            handle = orch.submit(abs, handle)
            handle.result(PATIENCE)
        assert orch.wait(PATIENCE)
        gc.collect()
        assert first() is None


def test_a_wide_fan_out_and_in() -> None:
    """One task releases hundreds, and one waits for them all."""
    with TaskOrchestrator() as orch:
        hold = Hold()
        root = orch.submit(hold, 1)
        middle = [orch.submit(abs, root) for _ in range(300)]
        total = orch.submit(sum, middle)
        hold.release()
        assert total.result(PATIENCE) == 300


# -- dependencies that come later --------------------------------------------------


def add_parents(orch: TaskOrchestrator, task_id: str, *after: str) -> None:
    orch._rt.add_parents(task_id, after)


def found() -> dict[str, int]:
    """The results that a task finds of those that it waited for."""
    return dict(current_context().results)


def test_a_task_waits_for_more() -> None:
    """Their results are in its context; re-runs take their place, and are waited for."""
    with TaskOrchestrator() as orch:
        hold = Hold()
        good: list[int] = []
        orch.submit_task(Task.call(hold, 1, id="a"))
        orch.submit_task(Task.call(found, id="t", after=["a"]))
        orch.submit_task(
            Task.call(lambda: 2 if good else fail(ValueError()), id="b", after=["a"])
        )
        add_parents(orch, "t", "b", "a")
        hold.release()
        assert isinstance(orch.handle("t").exception(PATIENCE), DependencyFailedError)
        good.append(1)
        orch.rerun_task("b")
        assert orch.handle("t").result(PATIENCE) == {"a": 1, "b": 2}
        assert orch.rerun_task("t").result(PATIENCE) == {"a": 1, "b": 2}


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


def test_dependencies_that_are_refused() -> None:
    """Rings, unknown tasks, and tasks that do not wait any more; nothing has changed."""
    with TaskOrchestrator(keep_finished=0) as orch:
        hold = Hold()
        orch.submit_task(Task.call(hold, id="a"))
        orch.submit_task(Task.call(int, id="b", after=["a"]))
        orch.submit_task(Task.call(int, id="c", after=["b"]))
        with pytest.raises(CycleError) as caught:
            add_parents(orch, "b", "c")
        assert caught.value.cycle == ("b", "c")
        with pytest.raises(UnknownTaskError, match="nobody"):
            add_parents(orch, "b", "a", "nobody")
        with pytest.raises(UnknownTaskError, match="nobody"):
            add_parents(orch, "nobody", "a")
        with pytest.raises(InvalidTransitionError, match="a is running"):
            add_parents(orch, "a", "b")
        hold.release()
        assert orch.handle("c").result(PATIENCE) == 0
        orch.submit(int).result(PATIENCE)
        with pytest.raises(UnknownTaskError, match="in memory"):
            add_parents(orch, "a", "b")


def test_a_stop_leaves_the_dependencies_to_the_next_life(tmp_path: Path) -> None:
    orch = TaskOrchestrator(journal=tmp_path / "runs.db")
    orch.submit_task(Task.wait_for("go", id="go"))
    orch.submit_task(Task.call(int, id="t", after=["go"]))
    orch.submit_task(Task.wait_for("more", id="more"))
    orch.stop(drain=False)
    with pytest.raises(NotRunningError):
        add_parents(orch, "t", "more")


def test_later_dependencies_outlive_the_process(tmp_path: Path) -> None:
    """With their results; submitting the task again still names it as it was."""
    path = tmp_path / "runs.db"
    orch = TaskOrchestrator(journal=path, durability="process")
    orch.submit_task(Task.call(int, "1", id="a"))
    orch.submit_task(Task.call(int, "2", id="b"))
    orch.submit_task(Task.call(found, id="t", after=["a"]))
    add_parents(orch, "t", "b")
    orch.stop(drain=False)
    with TaskOrchestrator(journal=path, durability="process") as orch:
        task = orch.submit_task(Task.call(found, id="t", after=["a"]))
        assert task.result(PATIENCE) == {"a": 1, "b": 2}


def test_a_dependent_says_what_its_root_cause_raised() -> None:
    """As its cause, however far above that is, and in each way of asking."""
    error = ZeroDivisionError("far above")
    with TaskOrchestrator() as orch:
        root = orch.submit_task(Task.call(fail, error, id="root"))
        middle = orch.submit_task(Task.call(abs, root, id="middle"))
        low = orch.submit_task(Task.call(abs, middle, id="low"))
        last = Task.call(abs, 1, after=[middle], on_parent_failure="fail", id="last")
        for handle in (low, middle, orch.submit_task(last)):
            with pytest.raises(DependencyFailedError) as caught:
                handle.result(PATIENCE)
            assert caught.value.root_causes == ("root",)
            assert caught.value.__cause__ is error
        assert orch.get_task_status("low").error.__cause__ is error
        cut = orch.submit_task(Task.call(abs, 1, not_before=3600, id="cut"))
        below = orch.submit_task(Task.call(abs, cut))
        cut.cancel()
        with pytest.raises(DependencyFailedError) as caught:
            below.result(PATIENCE)
        assert isinstance(caught.value.__cause__, TaskCancelledError)


def test_a_root_cause_that_has_left_memory_is_known_by_its_id_alone() -> None:
    with TaskOrchestrator(keep_finished=0) as orch:
        root = orch.submit(fail, ZeroDivisionError("gone"))
        assert root.exception(PATIENCE) is not None
        middle = orch.submit_task(Task.call(abs, 1, after=[root]))
        low = orch.submit_task(Task.call(abs, 1, after=[middle]))
        with pytest.raises(DependencyFailedError) as caught:
            low.result(PATIENCE)
        assert caught.value.root_causes == (root.task_id,)


def test_a_task_that_comes_after_itself_is_told_to_leave_that_out() -> None:
    with TaskOrchestrator() as orch:
        with pytest.raises(CycleError, match="task 'a' waits for itself") as caught:
            orch.submit_tasks([Task.call(abs, 1, id="a", after=["a"])])
        assert caught.value.cycle == ("a",)
        assert caught.value.hint == "leave it out of its own `after` and arguments"


def keep(value: Any, key: Any = None) -> Any:
    return value, key


def test_handles_deep_in_the_arguments_come_back_from_a_journal(tmp_path) -> None:
    """What waits for them in one life gets their results in the next."""
    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path, stop_timeout=0.01) as orch:
        one = orch.submit_task(Task.call(int, "1", id="one", not_before=0.5))
        value = {"x": [one, ({"y": one},)]}
        orch.submit_task(Task.call(keep, value, kwargs={"key": (one,)}, id="two"))
    with TaskOrchestrator(journal=path) as orch:
        # The script is run again, and names the same task.
        one = orch.handle("one")
        again = Task.call(
            keep, {"x": [one, ({"y": one},)]}, kwargs={"key": (one,)}, id="two"
        )
        handle = orch.submit_task(again)
        expected = ({"x": [1, ({"y": 1},)]}, (1,))
        assert handle.result(PATIENCE) == expected
        assert orch.rerun_task("two").result(PATIENCE) == expected


def test_a_task_deep_in_the_arguments_of_another_of_its_batch() -> None:
    """Forward references inside the batch are found there, too."""
    one = Task.call(int, "1")
    two = Task.call(keep, [{"x": one}])
    with TaskOrchestrator() as orch:
        handle, _ = orch.submit_tasks([two, one])
        assert handle.result(PATIENCE) == ([{"x": 1}], None)


def test_a_map_over_containers_of_handles() -> None:
    """Each call waits for those in its own arguments."""
    with TaskOrchestrator() as orch:
        ones = [orch.submit(int, "1") for _ in range(3)]
        found = list(orch.map(keep, [{"x": one} for one in ones], ones))
        assert found == [({"x": 1}, 1)] * 3


def test_a_handle_that_could_not_be_replaced_is_refused_with_its_path() -> None:
    """Nothing is submitted then."""

    class Own(list):
        pass

    with TaskOrchestrator() as orch:
        one = orch.submit(int, "1")
        for submit in (
            lambda: orch.submit(keep, 0, key={"x": Own([one])}),
            lambda: list(orch.map(keep, [0], [{"x": Own([one])}])),
            lambda: orch.submit_task(
                Task.call(keep, kwargs={"key": {"x": Own([one])}})
            ),
        ):
            with pytest.raises(InvalidTaskError, match=r"\['x'\]\[0\] is in an object"):
                submit()
    assert orch.get_stats().state_machine.completed == 1
