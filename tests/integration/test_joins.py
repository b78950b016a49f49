"""Joins of the user's choice, and what follows when they cannot hold any more."""

import threading
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.integration.tools import PATIENCE, Hold, Recorder, fail, in_loop

from taskorch import (
    AtLeast,
    CycleError,
    DependencyFailedError,
    DuplicateTaskError,
    InvalidTaskError,
    Task,
    TaskCancelledError,
    TaskOrchestrator,
    TaskState,
    UnknownTaskError,
    ValidationFailedError,
    Workflow,
    WorkflowFailedError,
    current_context,
)
from taskorch.errors import ComponentError, WouldDeadlockError


def echo(*values: Any) -> Any:
    return list(values)


def found() -> dict[str, Any]:
    """The results that a task finds of those that it waited for."""
    return dict(current_context().results)


def one_failed(states: Mapping[str, TaskState]) -> bool:
    return TaskState.FAILED in states.values()


def raises(states: Mapping[str, TaskState]) -> bool:
    raise RuntimeError(", ".join(states))


# -- what holds --------------------------------------------------------------------


def test_the_first_of_several_is_enough() -> None:
    """`any` goes on with the first result; what comes later changes nothing."""
    with TaskOrchestrator() as orch:
        slow = Hold()
        orch.submit_task(Task.call(slow, id="slow"))
        orch.submit_task(Task.call(int, "7", id="quick"))
        got = orch.submit_task(
            Task.call(found, id="got", after=["slow", "quick"], join="any")
        )
        assert got.result(PATIENCE) == {"quick": 7}
        slow.release()


def test_at_least_so_many() -> None:
    """A failure is no hindrance while enough others can complete."""
    with TaskOrchestrator() as orch:
        orch.submit_task(Task.call(fail, ValueError(), id="bad"))
        orch.submit_tasks([Task.call(int, id=name) for name in "ab"])
        enough = orch.submit_task(
            Task.call(found, after=["bad", "a", "b"], join=AtLeast(2))
        )
        assert enough.result(PATIENCE) == {"a": 0, "b": 0}


def test_when_all_have_finished_however() -> None:
    """A result that is not there is None as an argument, and no result in the context."""
    with TaskOrchestrator() as orch:
        bad = orch.submit_task(Task.call(fail, ValueError(), id="bad"))
        good = orch.submit_task(Task.call(int, "3", id="good"))
        both = Task.call(echo, bad, [good, bad], id="both", join="finished")
        assert orch.submit_task(both).result(PATIENCE) == [None, [3, None]]
        looked = Task.call(found, after=[good, bad], join="finished")
        assert orch.submit_task(looked).result(PATIENCE) == {"good": 3}


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


def test_a_function_decides() -> None:
    """It sees the states by id; a clean-up that is not needed is skipped."""
    seen: list[Mapping[str, TaskState]] = []

    def join(states: Mapping[str, TaskState]) -> bool:
        seen.append(states)
        return one_failed(states)

    with TaskOrchestrator() as orch:
        orch.submit_task(Task.call(fail, ValueError(), id="bad"))
        orch.submit_task(Task.call(int, id="good"))
        needed = Task.call(int, "5", after=["bad"], join=join)
        assert orch.submit_task(needed).result(PATIENCE) == 5
        unneeded = orch.submit_task(
            Task.call(int, after=["good"], join=one_failed, on_parent_failure="skip")
        )
        with pytest.raises(TaskCancelledError):
            unneeded.result(PATIENCE)
    assert seen == [{"bad": TaskState.FAILED}]


# -- what follows ------------------------------------------------------------------


def test_skipped_and_failed_tasks_say_why() -> None:
    """A skipped one is cancelled with that reason; a failed one names the roots."""
    with TaskOrchestrator() as orch:
        told = Recorder(orch, "task_cancelled", "task_failed")
        orch.submit_task(Task.call(fail, ValueError(), id="bad"))
        skipped = orch.submit_task(
            Task.call(int, id="skipped", after=["bad"], on_parent_failure="skip")
        )
        failed = orch.submit_task(
            Task.call(int, id="failed", after=["skipped"], on_parent_failure="fail")
        )
        with pytest.raises(TaskCancelledError) as cancelled:
            skipped.result(PATIENCE)
        assert cancelled.value.reason == "skipped"
        with pytest.raises(DependencyFailedError, match="began with bad") as caught:
            failed.result(PATIENCE)
        assert caught.value.root_causes == ("bad",)
        assert orch.wait(PATIENCE)
        assert orch.get_stats().failures["dependency"] == 1
        assert [event.task_id for event in told.events] == ["bad", "skipped", "failed"]


def test_a_run_of_which_all_was_skipped_has_no_results() -> None:
    """What came before it failed: its result says so, as its state does."""
    with TaskOrchestrator() as orch:
        bad = orch.submit_task(Task.call(fail, ValueError()))
        flow = Workflow("flow")
        flow.task(int, id="skipped", after=[bad], on_parent_failure="skip")
        run = orch.workflows.start(flow)
        with pytest.raises(WorkflowFailedError, match="was cancelled: skipped"):
            run.result(PATIENCE)
        assert run.status().state == "cancelled"


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


def test_a_function_that_raises_fails_its_task_only() -> None:
    """The error names the part; what it raised is in it."""
    with TaskOrchestrator() as orch:
        told = Recorder(orch, "component_failed")
        orch.submit_task(Task.call(int, id="a"))
        broken = orch.submit_task(Task.call(int, after=["a"], join=raises))
        with pytest.raises(ComponentError, match="RuntimeError: a") as caught:
            broken.result(PATIENCE)
        assert caught.value.component == "join"
        assert orch.submit(int).result(PATIENCE) == 0
        assert told.wait_for(1)[0].component == "join"


@pytest.mark.parametrize("answer", [None, 1, "yes"])
def test_a_function_that_answers_nonsense(answer: Any) -> None:
    """Only True and False are answers."""
    with TaskOrchestrator() as orch:
        first = orch.submit(int)
        task = Task.call(int, after=[first], join=lambda _: answer)
        with pytest.raises(ComponentError, match="not True or False"):
            orch.submit_task(task).result(PATIENCE)


def test_a_function_that_calls_the_orchestrator() -> None:
    """It is refused, and the task fails with that."""
    with TaskOrchestrator() as orch:
        task = Task.call(
            int, after=[orch.submit(int)], join=lambda _: bool(orch.tasks())
        )
        with pytest.raises(ComponentError, match="ReentryError"):
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


@pytest.mark.parametrize("join", ["any", AtLeast(1), AtLeast(3), one_failed])
def test_more_than_there_are(join: Any) -> None:
    """A join that could never hold is refused; of a batch, nothing is accepted."""
    after = ["a"] if join == AtLeast(3) else []
    with TaskOrchestrator() as orch:
        with pytest.raises(InvalidTaskError, match="waits for"):
            orch.submit_tasks(
                [Task.call(int, id="a"), Task.call(int, after=after * 5, join=join)]
            )
        assert list(orch.tasks()) == []


@pytest.mark.parametrize("join", ["all", "finished"])
def test_a_join_of_nothing(join: Any) -> None:
    """There is nothing to wait for."""
    with TaskOrchestrator() as orch:
        assert orch.submit_task(Task.call(int, join=join)).result(PATIENCE) == 0


def test_joins_that_wait_for_each_other() -> None:
    """A ring is refused, whatever its joins would make of it."""
    with TaskOrchestrator() as orch:
        tasks = [
            Task.call(int, id="a", after=["b", "c"], join="any"),
            Task.call(int, id="b", after=["a"], join="finished"),
            Task.call(int, id="c"),
        ]
        with pytest.raises(CycleError) as caught:
            orch.submit_tasks(tasks)
        assert set(caught.value.cycle) == {"a", "b"}
        with pytest.raises(CycleError, match="'me' waits for itself"):
            orch.submit_task(Task.call(int, id="me", after=["me"]))
        with pytest.raises(UnknownTaskError, match="nobody"):
            orch.submit_task(Task.call(int, after=["nobody"], join="any"))


def test_the_same_again_is_the_same_task() -> None:
    """The join belongs to what is compared."""
    with TaskOrchestrator() as orch:
        hold = Hold()
        orch.submit_task(Task.call(hold, id="a"))
        first = orch.submit_task(Task.call(int, id="b", after=["a"], join=AtLeast(1)))
        again = Task.call(int, id="b", after=["a"], join=AtLeast(1))
        assert orch.submit_task(again) is first
        with pytest.raises(DuplicateTaskError):
            orch.submit_task(Task.call(int, id="b", after=["a"], join="any"))
        hold.release()


# -- elsewhere ---------------------------------------------------------------------


def open_at(path: Path) -> TaskOrchestrator:
    return TaskOrchestrator(journal=path, durability="process")


def test_joins_outlive_the_process(tmp_path: Path) -> None:
    """What waited goes on by its own terms; what has ended is not asked about again."""
    path = tmp_path / "runs.db"
    orch = open_at(path)
    orch.submit_task(Task.call(fail, 1, id="a", not_before=60))
    orch.submit_tasks(
        [
            Task.call(echo, id="asked", after=["a"], join=one_failed),
            Task.call(echo, id="skips", after=["a"], on_parent_failure="skip"),
            Task.call(found, id="found", after=["skips", "a"], join="finished"),
            Task.call(echo, id="fails", after=["skips"], on_parent_failure="fail"),
            Task.call(echo, id="least", after=["a", "asked"], join=AtLeast(1)),
        ]
    )
    orch.stop(drain=False)
    with open_at(path) as orch:
        orch.cancel_task("a")
        assert orch.handle("found").result(PATIENCE) == {}
        assert orch.get_task_status("skips").state == "cancelled"
        # It was cancelled, and that is no failure: nobody but a person can say more.
        assert orch.wait(PATIENCE)
        assert orch.get_task_status("asked").state == "blocked"
        with pytest.raises(DependencyFailedError) as caught:
            orch.handle("fails").result(PATIENCE)
        assert caught.value.root_causes == ("a",)
    with open_at(path) as orch:
        assert orch.handle("found").result(PATIENCE) == {}
        with pytest.raises(DependencyFailedError) as caught:
            orch.handle("fails").result(PATIENCE)
        assert caught.value.root_causes == ("a",)
        with pytest.raises(DependencyFailedError):
            orch.handle("asked").result(PATIENCE)
        assert orch.get_task_status("least").blocked_by == ("a", "asked")


def test_a_failure_that_has_left_memory(tmp_path: Path) -> None:
    """Its root causes come from the journal."""
    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path, durability="process", keep_finished=0) as orch:
        orch.submit_task(Task.call(fail, 1, id="a"))
        orch.submit_task(Task.call(echo, id="b", after=["a"], on_parent_failure="fail"))
        assert orch.wait(PATIENCE)
    with TaskOrchestrator(journal=path, durability="process", keep_finished=0) as orch:
        with pytest.raises(DependencyFailedError) as caught:
            orch.handle("b").result(PATIENCE)
        assert caught.value.root_causes == ("a",)


def test_a_task_with_a_join_goes_to_another_process() -> None:
    """The function of the join stays here."""
    with (
        ProcessPoolExecutor(1) as pool,
        TaskOrchestrator(executors={"other": pool}) as orch,
    ):
        orch.agent("far", capabilities=["see"], executor="other")(join_of)
        first = orch.submit(int)
        task = Task("see", after=[first], join=is_there)
        assert orch.submit_task(task).result(PATIENCE) == "all"


def is_there(states: Mapping[str, TaskState]) -> bool:
    return bool(states)


def join_of(task: Task, _: Any) -> Any:
    return task.join


@in_loop
async def test_joins_from_a_coroutine() -> None:
    """As awaitables."""
    async with TaskOrchestrator() as orch:
        gate = threading.Event()
        slow = await orch.aio.submit(gate.wait, PATIENCE)
        quick = await orch.aio.submit(int)
        first = await orch.aio.submit_task(Task.call(echo, quick, slow, join="any"))
        assert await first == [0, None]
        gate.set()


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
