"""What users of other libraries write here: it works, or the error names our word."""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import pickle
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import pytest

import taskorch
from taskorch import (
    InvalidTaskError,
    NotRunningError,
    Task,
    TaskHandle,
    TaskOrchestrator,
    Workflow,
    current_context,
    task,
)

PATIENCE = 30


@task
def square(number: int) -> int:
    return number * number


@task
async def negative(number: int) -> int:
    return -number


@task(retries=2)
def third_time(calls: list[int]) -> int:
    calls.append(1)
    if len(calls) < 3:
        raise RuntimeError
    return len(calls)


@task
def squares_of(numbers: list[int]) -> list[int]:
    handles = [square.submit(number) for number in numbers if number]
    return [each.result() for each in handles]


class Shop:
    def __init__(self, price: int) -> None:
        self.price = price

    @task
    def total(self, pieces: int) -> int:
        return self.price * pieces


@pytest.fixture
def orch() -> Iterator[TaskOrchestrator]:
    with TaskOrchestrator() as orch:
        yield orch


# -- a decorated function submits itself -----------------------------------------------


def test_a_decorated_function_is_called_as_it_was_and_submits_its_calls(
    orch: TaskOrchestrator,
) -> None:
    assert square(3) == 9
    assert inspect.isfunction(square)
    assert pickle.loads(pickle.dumps(square)) is square
    handle = square.submit(3)
    assert isinstance(handle, TaskHandle)
    assert handle.result(PATIENCE) == 9
    assert list(square.map([1, 2, 3])) == [1, 4, 9]
    assert square.submit(handle).result(PATIENCE) == 81
    assert square.submit(number=4).result(PATIENCE) == 16
    assert orch.submit(square, 5).result(PATIENCE) == 25


def test_a_coroutine_function_does_so_too(orch: TaskOrchestrator) -> None:
    assert negative.submit(3).result(PATIENCE) == -3
    assert list(negative.map([1, 2])) == [-1, -2]


def test_a_method_is_bound_as_it_was(orch: TaskOrchestrator) -> None:
    assert Shop(3).total(2) == 6
    assert orch.submit(Shop(3).total, 2).result(PATIENCE) == 6
    assert Shop.total.submit(Shop(4), 2).result(PATIENCE) == 8


def test_options_are_those_of_one_submission(orch: TaskOrchestrator) -> None:
    calls: list[int] = []
    with_options = third_time.options(id="three", priority=4)
    assert with_options.submit(calls).result(PATIENCE) == 3
    status = orch.get_task_status("three")
    assert (status.priority, status.attempts) == (4, 3)
    with pytest.raises(RuntimeError):
        third_time.options(retries=0).submit([]).result(PATIENCE)


def test_an_option_among_the_arguments_is_refused() -> None:
    with pytest.raises(InvalidTaskError, match="takes no argument timeout="):
        square.submit(3, timeout=5)


def test_a_flow_is_a_function_that_submits_and_takes_results(
    orch: TaskOrchestrator,
) -> None:
    assert squares_of.submit([1, 0, 3]).result(PATIENCE) == [1, 9]


def test_inside_a_task_it_is_the_orchestrator_of_that_task() -> None:
    with TaskOrchestrator() as one, TaskOrchestrator() as another:
        for orch in (one, another):
            before = orch.get_stats().state_machine.completed
            assert orch.submit(squares_of, [2, 3]).result(PATIENCE) == [4, 9]
            orch.wait(PATIENCE)
            assert orch.get_stats().state_machine.completed == before + 3


def test_where_none_is_open_or_several_are_it_is_refused() -> None:
    with pytest.raises(NotRunningError, match="no orchestrator is open"):
        square.submit(1)
    with TaskOrchestrator(), TaskOrchestrator():
        with pytest.raises(NotRunningError, match="several orchestrators are open"):
            square.submit(1)
        with pytest.raises(NotRunningError, match=r"orch\.submit\(.*square"):
            list(square.map([1]))


def test_one_that_has_stopped_is_not_open() -> None:
    with TaskOrchestrator():
        pass
    with TaskOrchestrator() as orch:
        assert square.submit(2).result(PATIENCE) == 4
        assert orch.get_stats().state_machine.completed == 1


def test_with_orch_task_it_is_that_orchestrator_and_no_other() -> None:
    with TaskOrchestrator() as one, TaskOrchestrator() as another:

        @one.task
        def cube(number: int) -> int:
            return number**3

        @another.task(retry=2)
        def half(number: int) -> float:
            return number / 2

        assert cube.submit(2).result(PATIENCE) == 8
        assert list(half.map([2, 4])) == [1, 2]
        assert cube.options(priority=1).submit(3).result(PATIENCE) == 27
        assert one.get_stats().state_machine.completed == 2
        assert another.get_stats().state_machine.completed == 2
        assert another.submit(cube, 1).result(PATIENCE) == 1


def test_the_orchestrator_may_come_before_the_block() -> None:
    orch = TaskOrchestrator()

    @orch.task
    def cube(number: int) -> int:
        return number**3

    with orch:
        assert cube.submit(2).result(PATIENCE) == 8


def test_what_a_function_has_by_these_names_stays() -> None:
    def fn() -> int:
        return 1

    setattr(fn, "submit", "mine")  # noqa: B010 - no attribute that checkers know
    decorated: Any = task(fn)
    assert decorated.submit == "mine"
    assert decorated is fn


def test_decorated_twice_the_outer_one_decides_who_runs_it() -> None:
    with TaskOrchestrator() as orch, TaskOrchestrator():

        @orch.task
        @task(retries=1)
        def cube(number: int) -> int:
            return number**3

        assert cube.submit(2).result(PATIENCE) == 8


def test_a_task_decorator_goes_outermost(orch: TaskOrchestrator) -> None:
    def doubled(fn: Callable[[int], int]) -> Callable[[int], int]:
        @wraps(fn)
        def call(number: int) -> int:
            return 2 * fn(number)

        return call

    @task
    @doubled
    def cube(number: int) -> int:
        return number**3

    assert cube.submit(2).result(PATIENCE) == 16


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("delay", r"square\.submit"),
        ("apply_async", r"options\(not_before=60\)"),
        ("remote", r"square\.submit"),
        ("with_options", r"square\.options"),
    ],
)
def test_what_others_call_it_leads_on(name: str, ours: str) -> None:
    with pytest.raises(InvalidTaskError, match=ours):
        getattr(square, name)(3)


# -- what an orchestrator, a handle and a node have besides ----------------------------


def test_results_are_gathered_in_order(orch: TaskOrchestrator) -> None:
    handles = [orch.submit(pow, 2, n) for n in range(5)]
    assert orch.gather(handles) == [1, 2, 4, 8, 16]
    assert orch.gather(each for each in handles[:2]) == [1, 2]
    assert orch.gather([]) == []
    assert sorted(each.result() for each in orch.as_completed(handles)) == [
        1,
        2,
        4,
        8,
        16,
    ]


def test_what_is_no_handle_is_refused(orch: TaskOrchestrator) -> None:
    one, other = orch.submit(pow, 2, 3), orch.submit(pow, 2, 4)
    wrong: list[Any] = [[one, 3], one, None]
    for handles in wrong:
        with pytest.raises(InvalidTaskError, match=r"orch\.gather\(\[one, other\]\)"):
            orch.gather(handles)
    with pytest.raises(InvalidTaskError, match=r"orch\.gather\(\[one, other\]\)"):
        orch.gather(one, other)  # type: ignore[arg-type]


def test_what_has_no_result_is_raised_and_the_others_go_on(
    orch: TaskOrchestrator,
) -> None:
    handles = [orch.submit(divmod, 1, n) for n in (0, 1)]
    with pytest.raises(ZeroDivisionError):
        orch.gather(handles)
    assert handles[1].result(PATIENCE) == (1, 0)


def test_the_time_of_a_gather_is_for_all_of_them(orch: TaskOrchestrator) -> None:
    waits = [orch.submit_task(Task.wait_for(f"event {n}")) for n in range(3)]
    ended = orch.submit(pow, 2, 3)
    ended.result(PATIENCE)
    with pytest.raises(TimeoutError) as over:
        orch.gather([ended, *waits], timeout=0.25)
    # What the first has taken is not there for the others.
    assert "within 0.25 s" not in str(over.value)
    for n in range(3):
        orch.emit(f"event {n}", n)
    assert orch.gather(waits, timeout=PATIENCE) == [0, 1, 2]


def test_nodes_are_chained_by_arrows(orch: TaskOrchestrator) -> None:
    flow = Workflow("arrows")
    a, b, c, d = (flow.task(str, id=name) for name in "abcd")
    assert (a >> [b, c] >> d) is d
    assert flow.dependencies == {"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c")}
    assert orch.workflows.start(flow).result(PATIENCE) is not None


def test_an_arrow_that_makes_a_ring_is_refused() -> None:
    flow = Workflow("ring")
    a, b = flow.task(str, id="a"), flow.task(str, id="b")
    a >> b
    with pytest.raises(taskorch.CycleError):
        b >> a
    with pytest.raises(InvalidTaskError):
        a >> Workflow("other").task(str, id="c")


@pytest.mark.parametrize("number", [True, -1, 1.5, "3"])
def test_retries_are_a_number_of_tries(number: Any) -> None:
    with pytest.raises(TypeError, match="retries= is a number of tries"):
        Task.call(print, retries=number)


def test_retries_count_what_comes_after_the_first_try() -> None:
    assert Task.call(print, retries=2).retry == Task.call(print, retry=3).retry
    assert Task("x", retries=0).retry.max_attempts == 1  # type: ignore[call-arg]
    assert Workflow("w").task(print, retries=1).task.retry.max_attempts == 2
    with pytest.raises(TypeError, match="use one of them"):
        Task.call(print, retries=2, retry=3)
    with pytest.raises(TypeError, match="use one of them"):
        task(retries=2, retry=3)


def _yields() -> Iterator[int]:
    yield 1


async def _yields_later() -> Any:
    yield 1


class _Yields:
    def __call__(self) -> Iterator[int]:
        yield 1


@pytest.mark.parametrize("fn", [_yields, _yields_later, _Yields()])
def test_a_generator_is_refused_since_nobody_would_go_through_it(
    orch: TaskOrchestrator, fn: Any
) -> None:
    with pytest.raises(
        InvalidTaskError, match="nobody would go through what it yields"
    ):
        orch.submit(fn)


# -- what is called otherwise ----------------------------------------------------------

OPTIONS = {
    "execution_timeout": "did you mean 'timeout'",
    "timeout_seconds": "did you mean 'timeout'",
    "task_id": "did you mean 'id'",
    "depends_on": "did you mean 'after'",
    "upstream": "did you mean 'after'",
    "trigger_rule": "join='finished'",
    "retry_delay": "base=5",
    "retry_delay_seconds": "base=5",
    "max_retries": "did you mean 'retry'",
    "countdown": "not_before=60",
    "bind": "current_context",
    "cron": r"orch\.schedules\.add",
    "schedule": r"orch\.schedules\.add",
    "on_failure": r"orch\.notify",
    "retrys": "did you mean 'retry'",
    "tenant": "did you mean 'owner'",
}


@pytest.mark.parametrize(("name", "ours"), OPTIONS.items())
def test_an_option_of_others_leads_to_ours(name: str, ours: str) -> None:
    with pytest.raises(TypeError, match=ours):
        Task.call(pow, 2, 3, **{name: 1})  # type: ignore[misc]


SETTINGS = {"max_workers": "concurrency", "workers": "concurrency", "db": "journal"}


@pytest.mark.parametrize(("name", "ours"), SETTINGS.items())
def test_a_setting_of_others_leads_to_ours(name: str, ours: str) -> None:
    with pytest.raises(TypeError, match=f"did you mean '{ours}'"):
        TaskOrchestrator(**{name: 1})  # type: ignore[misc]


ATTRIBUTES = {
    "cancel": "cancel_task",
    "status": "get_task_status",
    "rerun": "rerun_task",
    "shutdown": "stop",
    "with_options": "options",
    "submitt": "submit",
    "starmap": r"zip\(\*pairs\)",
    "signal": r"orch\.emit",
    "run": r"orch\.workflows\.start",
}


@pytest.mark.parametrize(("name", "ours"), ATTRIBUTES.items())
def test_an_attribute_of_others_leads_to_ours(name: str, ours: str) -> None:
    with pytest.raises(AttributeError, match=ours):
        getattr(TaskOrchestrator(), name)


OF_HANDLES = {
    "get": "result",
    "ready": r"handle\.done",
    "successful": r"handle\.exception",
    "traceback": r"handle\.exception",
    "state": "status",
}


@pytest.mark.parametrize(("name", "ours"), OF_HANDLES.items())
def test_an_attribute_of_handles_of_others_leads_to_ours(
    orch: TaskOrchestrator, name: str, ours: str
) -> None:
    with pytest.raises(AttributeError, match=ours):
        getattr(orch.submit(pow, 2, 3), name)


def test_the_waits_of_others_lead_to_ours(orch: TaskOrchestrator) -> None:
    handles = [orch.submit(pow, 2, 3)]
    with pytest.raises(AttributeError, match=r"taskorch\.as_completed"):
        concurrent.futures.wait(handles)  # type: ignore[type-var]
    with pytest.raises(AttributeError, match=r"taskorch\.as_completed"):
        list(concurrent.futures.as_completed(handles))  # type: ignore[arg-type]
    with pytest.raises(InvalidTaskError, match=r"orch\.gather"):
        orch.wait(handles)  # type: ignore[arg-type]
    with pytest.raises(AttributeError, match=r"list\(orch\.map"):
        orch.map(abs, [1]).result()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("flow", "a flow is a function"),
        ("chain", r"workflow\.chain"),
        ("group", r"orch\.map"),
        ("get_run_logger", "current_context"),
        ("sleep", "wait_for"),
    ],
)
def test_a_name_of_others_at_the_root_leads_to_ours(name: str, ours: str) -> None:
    with pytest.raises(ImportError, match=ours):
        exec(f"from taskorch import {name}")


def test_a_workflow_and_a_node_lead_on() -> None:
    with pytest.raises(TypeError, match=r"orch\.schedules\.add"):
        Workflow("x", schedule="@daily")  # type: ignore[call-arg]
    node = Workflow("x").task(str)
    with pytest.raises(AttributeError, match="a >> b"):
        node.set_upstream(node)  # type: ignore[attr-defined]


def test_in_a_coroutine_it_is_the_same() -> None:
    async def main() -> int:
        async with TaskOrchestrator():
            return await square.submit(4)

    assert asyncio.run(main()) == 16


def test_the_context_is_asked_where_others_bind() -> None:
    with TaskOrchestrator() as orch:

        @orch.task
        def who() -> str:
            return current_context().task_id

        assert who.options(id="me").submit().result(PATIENCE) == "me"
