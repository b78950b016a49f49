"""What users of other libraries write here: it works, or the error names our word."""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import pickle
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial, wraps
from pathlib import Path
from typing import Any

import pytest

import taskorch
from taskorch import (
    InvalidTaskError,
    NotRunningError,
    RetryPolicy,
    Task,
    TaskHandle,
    TaskOrchestrator,
    TaskState,
    Workflow,
    current_context,
    task,
    workflow,
)

PATIENCE = 60
MORNING = datetime(2030, 1, 1, 3, tzinfo=UTC)


@task
def square(number: int) -> int:
    return number * number


@task
async def negative(number: int) -> int:
    return -number


@task(retry=RetryPolicy(3, base=0))
def third_time(calls: list[int]) -> int:
    calls.append(1)
    if len(calls) < 3:
        raise RuntimeError
    return len(calls)


@task
def squares_of(numbers: list[int]) -> list[int]:
    handles = [square.submit(number) for number in numbers if number]
    return [each.result() for each in handles]


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


def test_what_a_function_has_by_these_names_stays() -> None:
    def fn() -> int:
        return 1

    setattr(fn, "submit", "mine")  # noqa: B010 - no attribute that checkers know
    decorated: Any = task(fn)
    assert decorated.submit == "mine"
    assert decorated() == 1


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


def test_a_function_has_the_words_of_others(orch: TaskOrchestrator) -> None:
    fn: Any = square
    assert fn.delay(3).get(timeout=PATIENCE) == 9
    assert fn.remote(3).get() == 9
    assert fn.apply_async((3,)).get() == 9
    assert fn.apply_async(kwargs={"number": 3}, countdown=0, task_id="c").get() == 9
    assert orch.get_task_status("c").state is TaskState.COMPLETED
    assert fn.options(priority=3).remote(2).result(PATIENCE) == 4
    with pytest.raises(TypeError, match="link"):
        fn.apply_async((3,), link=square)


def test_a_function_with_options_stands_for_it(orch: TaskOrchestrator) -> None:
    urgent: Any = third_time.options(priority=5)
    calls: list[int] = []
    handle = orch.submit(urgent, calls)
    assert (handle.result(PATIENCE), handle.status.priority) == (3, 5)
    both = urgent.with_options(timeout=60, retries=0)
    assert Task.call(both.options(priority=9), []).priority == 9
    task = Task.call(both, [])
    assert (task.priority, task.timeout, task.retry.max_attempts) == (5, 60, 1)
    assert task.type == "third_time"
    flow = Workflow("flow")
    assert flow.task(both, [], id="x").task.timeout == 60
    many = square.options(priority=5)
    assert list(orch.map(many, [1, 2])) == [1, 4]
    flow.map(many, [1, 2], id="many")
    results = orch.workflows.start(flow_of(many)).result(PATIENCE)
    assert results["many"] == [1, 4]
    with pytest.raises(InvalidTaskError, match=r"options\(…\)\.submit"):
        many(3)


def flow_of(fn: Any) -> Workflow:
    flow = Workflow("flow")
    flow.map(fn, [1, 2], id="many")
    return flow


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

#: A word of others and a value, and what says the same here.
SAME_OPTIONS: dict[str, tuple[Any, str, Any]] = {
    "execution_timeout": (timedelta(minutes=1), "timeout", 60),
    "timeout_seconds": (5, "timeout", 5),
    "job_timeout": (5, "timeout", 5),
    "start_to_close_timeout": (timedelta(seconds=5), "timeout", 5),
    "task_id": ("a", "id", "a"),
    "job_id": ("a", "id", "a"),
    "depends_on": (["a", "b"], "after", ["a", "b"]),
    "countdown": (60, "not_before", 60),
    "eta": (MORNING, "not_before", MORNING),
    "max_retries": (3, "retry", 4),
    "trigger_rule": ("all_done", "join", "finished"),
}


@pytest.mark.parametrize(("word", "said"), SAME_OPTIONS.items())
def test_an_option_of_others_that_means_the_same_works(
    word: str, said: tuple[Any, str, Any]
) -> None:
    value, name, ours = said
    theirs: dict[str, Any] = {word: value}
    our: dict[str, Any] = {name: ours}
    assert Task.call(pow, 2, 3, **theirs) == Task.call(pow, 2, 3, **our)
    assert Task("x", **theirs) == Task("x", **our)
    with pytest.raises(TypeError, match="say the same"):
        Task.call(pow, 2, 3, **theirs, **our)
    if name in ("id", "after"):
        with pytest.raises(InvalidTaskError, match="is for one task"):
            task(**theirs)
    else:
        fn = task(**theirs)(lambda: 1)
        assert Task.call(fn) == Task.call(fn, **our)
        flow, same = Workflow("x"), Workflow("x")
        assert flow.map(len, [], **theirs).task == same.map(len, [], **our).task


def test_such_options_work_wherever_options_are_taken(orch: TaskOrchestrator) -> None:
    options: Any = {"task_id": "one", "max_retries": 1}
    assert orch.options(**options).submit(pow, 2, 3).result(PATIENCE) == 8
    assert orch.get_task_status("one").state is TaskState.COMPLETED
    after: Any = {"depends_on": orch.handle("one")}
    assert orch.submit_task(Task.call(pow, 2, 2, **after)).result(PATIENCE) == 4
    waits: Any = {"task_id": "timer"}
    assert Task.wait_for("event", **waits).id == "timer"
    policy: Any = {"maximum_attempts": 4, "initial_interval": timedelta(seconds=2)}
    assert RetryPolicy(**policy) == RetryPolicy(4, base=2)
    counted: Any = {"max_retries": 3}
    assert RetryPolicy(**counted) == RetryPolicy(4)


@pytest.mark.parametrize(
    ("rule", "join"), [("all_success", "all"), ("one_success", "any")]
)
def test_a_trigger_rule_is_a_join_or_is_refused(rule: str, join: str) -> None:
    said: Any = {"trigger_rule": rule}
    assert Task.call(print, **said).join == join
    for other in ("none_failed", None, ["all_done"]):
        said = {"trigger_rule": other}
        with pytest.raises(TypeError, match="join= takes a function of the states"):
            Task.call(print, **said)


@pytest.mark.parametrize(
    ("delay", "seconds"),
    [(5, 10), (timedelta(seconds=5), 10), ([1, 2], 3), ([3], 6), ((1, 2, 9), 3)],
)
def test_the_delay_of_retries_is_the_same_before_each(
    delay: Any, seconds: float
) -> None:
    retries: Any = {"retries": 2, "retry_delay": delay}
    twice = Task.call(print, id="t", **retries)
    report = TaskOrchestrator().simulate(
        [twice], 1, failures=lambda _, attempt: float(attempt < 3)
    )
    assert report.makespan == 3 + seconds
    retries = {"retries": 2, "retry_delay_seconds": delay}
    assert Task.call(print, id="t", **retries) == twice


def test_a_delay_without_retries_is_refused() -> None:
    said: Any = {"retry_delay": 5}
    for take in (task, TaskOrchestrator().options, partial(Task.call, print)):
        with pytest.raises(TypeError, match="retries=3, retry_delay=5"):
            take(**said)
    both: Any = {"retries": 0, "retry_delay": 5}
    assert Task.call(print, **both).retry.max_attempts == 1


#: What is no word for the same, and what the error says of ours.
OTHER_OPTIONS = {
    "upstream": "did you mean 'after'",
    "bind": "current_context",
    "cron": r"orch\.schedules\.add",
    "schedule": r"orch\.schedules\.add",
    "on_failure": r"orch\.notify",
    "retrys": "did you mean 'retry'",
    "tenant": "did you mean 'owner'",
    "num_cpus": "resources=Resources",
    "max_workers": "concurrency=4",
}


@pytest.mark.parametrize(("name", "ours"), OTHER_OPTIONS.items())
def test_an_option_of_others_leads_to_ours(name: str, ours: str) -> None:
    with pytest.raises(TypeError, match=ours):
        Task.call(pow, 2, 3, **{name: 1})  # type: ignore[misc]


def test_a_setting_of_others_works_or_leads_to_ours(tmp_path: Path) -> None:
    for word in ("max_workers", "workers"):
        said: Any = {word: 3}
        assert TaskOrchestrator(**said).concurrency == 3
        (tmp_path / "taskorch.toml").write_text("concurrency = 7")
        made = TaskOrchestrator.from_config(tmp_path / "taskorch.toml", **said)
        assert made.concurrency == 3
        with pytest.raises(TypeError, match="say the same"):
            TaskOrchestrator(concurrency=3, **said)
    with pytest.raises(TypeError, match="did you mean 'journal'"):
        TaskOrchestrator(db="x.db")  # type: ignore[call-arg]


def in_a_step() -> int:
    power: int = current_context().step("power", pow, 2, 3)
    return power


def test_the_words_of_others_for_what_an_orchestrator_does() -> None:
    orch: Any = TaskOrchestrator()
    with orch:
        assert orch.run(pow, 2, 3) == 8
        flow = Workflow("flow")
        flow.task(pow, 2, 3, id="eight")
        assert orch.run(flow, id="first") == {"eight": 8}
        assert orch.workflows.get("first").result(0) == {"eight": 8}
        assert list(orch.starmap(pow, [(2, 3), (3, 2)])) == [8, 9]
        assert list(orch.starmap(pow, [])) == []
        assert orch.enqueue(pow, 2, 3).result(PATIENCE) == 8
        orch.submit_task(Task.call(in_a_step, id="stepped")).result(PATIENCE)
        assert orch.fork("stepped", at="power").result(PATIENCE) == 8
        assert orch.fork_workflow("stepped~2", at="power").result(PATIENCE) == 8
        assert orch.with_options(retries=3).submit(pow, 2, 3).result(PATIENCE) == 8
        orch.submit_task(Task.call(pow, 2, 3, id="a")).result(PATIENCE)
        assert orch.status("a").state is TaskState.COMPLETED
        assert orch.rerun("a").task_id == "a~2"
        for by_id in (True, False):
            waits = orch.submit_task(Task.wait_for("never"))
            assert orch.cancel(waits.task_id if by_id else waits)
            assert waits.cancelled()
        last = orch.submit(pow, 2, 4)
        with pytest.raises(TypeError, match=r"orch\.stop\(drain=False\)"):
            orch.shutdown(wait=False)
        assert orch.shutdown(wait=True).completed > 0
        assert last.result() == 16


def test_in_coroutines_they_are_awaited() -> None:
    async def main() -> Any:
        async with TaskOrchestrator() as orch:
            aio: Any = orch.aio
            await orch.submit_task(Task.call(pow, 2, 3, id="a"))
            with pytest.raises(AttributeError, match="cancel_task"):
                _ = aio.cancel
            return (await aio.status("a")).state

    assert asyncio.run(main()) is TaskState.COMPLETED


def test_a_handle_has_the_words_of_others(orch: TaskOrchestrator) -> None:
    event: Any = orch.submit_task(Task.wait_for("go"))
    failed: Any = orch.submit(divmod, 1, 0)
    assert (event.ready(), event.successful()) == (False, False)
    orch.emit("go", 7)
    assert event.get(timeout=PATIENCE) == 7
    assert (event.ready(), event.successful()) == (True, True)
    with pytest.raises(ZeroDivisionError):
        failed.get(PATIENCE)
    assert (failed.ready(), failed.successful()) == (True, False)
    # Their values are others than those of others: `"SUCCESS"`.
    for name, ours in (("traceback", r"handle\.exception"), ("state", "status")):
        with pytest.raises(AttributeError, match=ours):
            getattr(failed, name)


def test_some_handles_are_waited_for_as_futures_are(orch: TaskOrchestrator) -> None:
    ended = [orch.submit(pow, 2, n) for n in range(3)]
    waits = orch.submit_task(Task.wait_for("go"))
    failed = orch.submit_task(Task.call(divmod, 1, 0, id="failed"))
    blocked = orch.submit_task(Task.call(print, after=["failed"]))
    done, not_done = orch.wait([*ended, failed, blocked])
    assert (done, not_done) == ({*ended, failed, blocked}, set())
    outcome = orch.wait(iter([*ended, waits]), timeout=0.05)
    assert (outcome.done, outcome.not_done) == ({*ended}, {waits})
    assert orch.wait([]) == (set(), set())
    orch.emit("go")
    assert orch.wait([waits], PATIENCE).done == {waits}
    assert orch.wait(PATIENCE) is orch.wait(timeout=PATIENCE) is orch.wait() is True
    wrong: Any = [3]
    with pytest.raises(InvalidTaskError, match=r"orch\.wait\(\[one, other\]\)"):
        orch.wait(wrong)

    async def main() -> Any:
        async with TaskOrchestrator() as other:
            handles = [await other.aio.submit(pow, 2, 3)]
            return len((await other.aio.wait(handles)).done)  # type: ignore[attr-defined]

    assert asyncio.run(main()) == 1


def test_the_waits_of_others_lead_to_ours(orch: TaskOrchestrator) -> None:
    handles = [orch.submit(pow, 2, 3)]
    with pytest.raises(AttributeError, match=r"orch\.wait\(handles\)"):
        concurrent.futures.wait(handles)  # type: ignore[type-var]
    with pytest.raises(AttributeError, match=r"taskorch\.as_completed"):
        list(concurrent.futures.as_completed(handles))  # type: ignore[arg-type]
    futures = [handle.future() for handle in handles]
    assert concurrent.futures.wait(futures, PATIENCE).done == {*futures}
    with pytest.raises(AttributeError, match=r"list\(orch\.map"):
        orch.map(abs, [1]).result()  # type: ignore[attr-defined]


def test_a_schedule_is_added_or_refused() -> None:
    orch: Any = TaskOrchestrator()
    with orch:
        assert orch.schedule(square, cron="every 1h", zone="Europe/Berlin") is square
        orch.schedules.add("hourly", cron="every 1h", what=square)
        statuses = {each.name: each for each in orch.schedules.list()}
        assert {*statuses} == {"square", "hourly"}
        assert all(orch.schedules.next(name) for name in statuses)
        with pytest.raises(InvalidTaskError, match="nothing is made"):
            orch.schedule(square, every="1h")
        with pytest.raises(InvalidTaskError, match=r"orch\.schedules\.add"):
            orch.schedules.add("x", square, cron="every 1h")
        assert len(orch.schedules.list()) == 2
        for name in statuses:
            orch.schedules.remove(name)


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("flow", r"@taskorch\.workflow"),
        ("dag", r"@taskorch\.workflow"),
        ("op", r"@taskorch\.task"),
        ("mark", r"taskorch\.testing"),
        ("PythonOperator", r"Task\.call"),
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
    flow: Any = Workflow("x")
    with pytest.raises(AttributeError, match=r"orch\.workflows\.start"):
        flow.run()
    with pytest.raises(TypeError, match=r"Task\.call\(pow, …\)"):
        Task(pow, 2, 3)  # type: ignore[call-arg,arg-type,misc]


def test_streams_are_set_as_arrows_are() -> None:
    flow = Workflow("x")
    nodes: list[Any] = [flow.task(str, id=name) for name in "abcd"]
    a, b, c, d = nodes
    b.set_upstream(a)
    b.set_downstream([c, d])
    assert flow.dependencies == {"a": (), "b": ("a",), "c": ("b",), "d": ("b",)}


LEADS_ON: dict[str, tuple[Callable[[Any], object], str]] = {
    "f.expand": (lambda orch: square.expand(x=[1]), r"square\.map"),  # type: ignore[attr-defined]
    "f.s": (lambda orch: square.s(1), r"square\.submit"),  # type: ignore[attr-defined]
    "f.partial": (lambda orch: square.partial(1), "functools"),  # type: ignore[attr-defined]
    "f.apply": (lambda orch: square.apply((1,)), r"square\(…\)"),  # type: ignore[attr-defined]
    "key": (lambda orch: orch.submit(square, 1, key="k"), r"options\(id=…\)"),
    "job_timeout": (lambda orch: orch.enqueue(square, 1, job_timeout=5), "timeout=…"),
    "later": (lambda orch: orch.enqueue_in(5, square), "not_before=60"),
    "a coroutine": (lambda orch: orch.submit(negative(1)), "submit the function"),
    "flags": (lambda orch: orch.gather([], return_exceptions=True), "exception"),
    "first": (lambda orch: orch.wait([], num_returns=1), r"orch\.as_completed"),
    "pairs": (lambda orch: orch.as_completed([], with_results=True), r"result\(\)"),
    "coalesce": (
        lambda orch: orch.schedules.add("n", 60, square, coalesce=True),
        "did you mean 'catch_up'",
    ),
    "add_job": (lambda orch: orch.add_job(square), r"orch\.schedules\.add"),
    "schedules.add_job": (lambda orch: orch.schedules.add_job(1), r"schedules\.add"),
    "revoke": (lambda orch: orch.submit(square, 1).revoke(), "did you mean 'cancel'"),
    "key of a handle": (lambda orch: orch.submit(square, 1).key, "'task_id'"),
    "start_soon": (lambda orch: orch.start_soon(square), "did you mean 'submit'"),
    "pool": (lambda orch: task(pool="db"), "resources=Resources"),  # type: ignore[call-overload]
    "name": (lambda orch: task(name="a"), "did you mean 'type'"),  # type: ignore[call-overload]
}


@pytest.mark.parametrize("guess", LEADS_ON)
def test_what_means_something_else_leads_on(orch: TaskOrchestrator, guess: str) -> None:
    ask, ours = LEADS_ON[guess]
    refusals = (InvalidTaskError, TypeError, AttributeError)
    with pytest.raises(refusals, match=ours):
        ask(orch)


@workflow
def graph() -> None:
    square(3)


# -- what the page promises ------------------------------------------------------------


def _streams() -> bool:
    flow: Any = Workflow("x")
    a, b, c = (flow.task(str, id=name) for name in "abc")
    a >> b
    c.set_upstream(b)
    return dict(flow.dependencies) == {"a": (), "b": ("a",), "c": ("b",)}


async def _gathered() -> Any:
    async with TaskOrchestrator() as other:
        return await asyncio.gather(other.submit(pow, 2, 3))


def _with_block() -> bool:
    with Workflow("x") as flow:
        square(3)
    return list(flow) == ["square"]


def _policy(**options: Any) -> Any:
    return Task.call(print, **options).retry


#: Of each row of the page that says what works: that it does.
ROWS: dict[str, Callable[[Any], object]] = {
    "`@dag`, `DAG(…)`": lambda orch: _with_block(),
    '`@task`, `f.override(task_id="a")`': lambda orch: (
        square.override(task_id="a").submit(3).result() == 9  # type: ignore[attr-defined]
    ),
    "`a >> b`, `b.set_upstream(a)`": lambda orch: _streams(),
    "`task_id`, `execution_timeout`, `depends_on`": lambda orch: (
        Task.call(print, task_id="a", execution_timeout=5, depends_on=["b"])  # type: ignore[call-arg]
        == Task.call(print, id="a", timeout=5, after=["b"])
    ),
    "`retries=3, retry_delay=timedelta(minutes=5)`": lambda orch: (
        _policy(retries=3, retry_delay=timedelta(minutes=5))
        == RetryPolicy(4, wait="fixed", base=300, max_delay=300, jitter=0)
    ),
    '`trigger_rule="all_done"`': lambda orch: (
        Task.call(print, trigger_rule="all_done").join == "finished"  # type: ignore[call-arg]
    ),
    "`parallelism`": lambda orch: TaskOrchestrator(parallelism=4).concurrency == 4,  # type: ignore[call-arg]
    "`@task`, `f.submit(x)`, `f.map(items)`": lambda orch: (
        [square.submit(2).result(), *square.map([3])] == [4, 9]
    ),
    "`f.with_options(retries=3)`": lambda orch: (
        square.with_options(retries=3).submit(3).result() == 9  # type: ignore[attr-defined]
    ),
    "`timeout_seconds`, `retry_delay_seconds=[1, 10]`": lambda orch: (
        _policy(timeout_seconds=5, retries=2, retry_delay_seconds=[1, 10])
        == RetryPolicy(delays=[1, 10])
    ),
    "`RetryPolicy(max_retries=3)`": lambda orch: (
        RetryPolicy(max_retries=3) == RetryPolicy(4)  # type: ignore[call-arg]
    ),
    "`start_to_close_timeout`": lambda orch: (
        Task.call(print, start_to_close_timeout=5).timeout == 5  # type: ignore[call-arg]
    ),
    "`RetryPolicy(maximum_attempts=3, initial_interval=2)`": lambda orch: (
        RetryPolicy(maximum_attempts=3, initial_interval=2)  # type: ignore[call-arg]
        == RetryPolicy(3, base=2)
    ),
    "`retry_policy=`": lambda orch: (
        _policy(retry_policy=RetryPolicy(3)) == RetryPolicy(3)
    ),
    "`f.delay(x)`, `f.apply_async((x,), countdown=60)`": lambda orch: (
        square.delay(3).get() == 9  # type: ignore[attr-defined]
        and square.apply_async((3,), countdown=0).get() == 9  # type: ignore[attr-defined]
    ),
    "`handle.get()`, `ready()`, `successful()`": lambda orch: (
        (handle := orch.submit(square, 3)).get() == 9
        and handle.ready()
        and handle.successful()
    ),
    "`max_retries=3`": lambda orch: _policy(max_retries=3) == RetryPolicy(4),
    "`queue.enqueue(f, x)`, `job_id`, `job_timeout`": lambda orch: (
        orch.enqueue(square, 3).get() == 9
        and orch.options(job_id="j", job_timeout=5).submit(square, 3).task_id == "j"
    ),
    "`client.submit(f, x)`, `client.gather(futures)`, `as_completed`": lambda orch: (
        orch.gather([orch.submit(square, 3)])
        == [each.result() for each in orch.as_completed([orch.submit(square, 3)])]
    ),
    "`client.cancel(future)`": lambda orch: orch.cancel(
        orch.submit_task(Task.wait_for("never"))
    ),
    "`f.remote(x)`, `f.options(…)`": lambda orch: (
        square.options(priority=3).remote(3).get() == 9
    ),
    "`ThreadPoolExecutor(max_workers=4)`": lambda orch: (
        TaskOrchestrator(max_workers=4).concurrency == 4  # type: ignore[call-arg]
    ),
    "`wait(futures)`": lambda orch: (
        concurrent.futures.wait([orch.submit(square, 3).future()]).done
    ),
    "`shutdown(wait=True)`": lambda orch: orch.shutdown(wait=True),
    "`pool.starmap(f, pairs)`": lambda orch: list(orch.starmap(pow, [(2, 3)])) == [8],
    "`asyncio.run(f())`": lambda orch: orch.run(square, 3) == 9,
    "`await asyncio.gather(*handles)`": lambda orch: asyncio.run(_gathered()) == [8],
    '`scheduler.add_job(f, "cron", hour=3)`': lambda orch: (
        orch.schedule(square, cron="every 1h") and orch.schedules.remove("square")
    ),
    "`job.execute_in_process()`": lambda orch: orch.run(graph) == {"square": 9},
}


def test_the_page_says_of_all_of_them_that_they_work() -> None:
    page = Path(__file__).parents[2] / "docs/howto/from-others.md"
    row = re.compile(r"^- (.+?) → .+ \(.+\)$", re.MULTILINE)
    assert {*row.findall(page.read_text("utf-8"))} == {*ROWS}


@pytest.mark.parametrize("row", ROWS)
def test_what_the_page_says_to_work_does(orch: TaskOrchestrator, row: str) -> None:
    assert ROWS[row](orch)


def test_in_a_coroutine_it_is_the_same() -> None:
    async def main() -> int:
        async with TaskOrchestrator():
            return await square.submit(4)

    assert asyncio.run(main()) == 16
