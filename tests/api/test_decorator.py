"""`@taskorch.task`: options that go with a function."""

from __future__ import annotations

import asyncio
import functools
import inspect
import pickle
import sys
import time
from datetime import timedelta

import pytest

import taskorch
from taskorch import (
    InvalidTaskError,
    Resources,
    Task,
    TaskOrchestrator,
    Workflow,
    current_context,
    task,
)

PATIENCE = 60.0
LIMIT = timedelta(minutes=10)


def seen():
    """What the task that runs was given."""
    context = current_context()
    return context.time_left is not None, context.allocation


@task(timeout=LIMIT, resources={"cpu": 1})
def plain(*args):
    return seen()


@task(timeout=LIMIT, resources={"cpu": 1})
async def later(*args):
    await asyncio.sleep(0)
    return seen()


class Shop:
    @task(timeout=LIMIT, resources={"cpu": 1})
    def method(self, *args):
        return seen()

    @staticmethod
    @task(timeout=LIMIT, resources={"cpu": 1})
    def static(*args):
        return seen()

    @classmethod
    @task(timeout=LIMIT, resources={"cpu": 1})
    def of_class(cls, *args):
        return seen()


class Shelf:
    @task(timeout=LIMIT, resources={"cpu": 1})
    def __call__(self, *args):
        return seen()


@task(resources={"cpu": 1}, priority=3)
@task(timeout=LIMIT, priority=2)
def stacked(*args):
    return seen()


FUNCTIONS = {
    "plain": plain,
    "async": later,
    "method": Shop().method,
    "static": Shop.static,
    "classmethod": Shop.of_class,
    "partial": functools.partial(plain, 1),
    "partial of partial": functools.partial(functools.partial(later, 1), 2),
    "decorated partial": task(resources={"cpu": 1})(
        functools.partial(task(timeout=LIMIT)(lambda *args: seen()))
    ),
    "object": Shelf(),
    "partial of object": functools.partial(Shelf(), 1),
    "stacked": stacked,
}


def in_workflow(orch, build):
    wf = Workflow("w")
    build(wf)
    return orch.workflows.start(wf).result(PATIENCE)["x"]


WAYS = {
    "submit": lambda orch, fn: orch.submit(fn, 1).result(PATIENCE),
    "submit with a handle": lambda orch, fn: orch.submit(fn, orch.submit(int)).result(),
    "map": lambda orch, fn: next(orch.map(fn, [1])),
    "aio.submit": lambda orch, fn: asyncio.run(_aio_submit(orch, fn)),
    "aio.map": lambda orch, fn: asyncio.run(_aio_map(orch, fn)),
    "Task.call": lambda orch, fn: orch.submit_task(Task.call(fn, 1)).result(PATIENCE),
    "wf.task": lambda orch, fn: in_workflow(orch, lambda wf: wf.task(fn, 1, id="x")),
    "phase.task": lambda orch, fn: in_workflow(
        orch, lambda wf: wf.phase("p", max_parallel=2).task(fn, 1, id="x")
    ),
    "wf.map": lambda orch, fn: in_workflow(orch, lambda wf: wf.map(fn, [1], id="x"))[0],
    "phase.map": lambda orch, fn: in_workflow(
        orch, lambda wf: wf.phase("p", max_parallel=2).map(fn, [1], id="x")
    )[0],
    "wf.reduce": lambda orch, fn: in_workflow(
        orch, lambda wf: wf.reduce(fn, [1, 2], id="x")
    ),
    "call of a document": lambda orch, fn: in_document(orch, fn, {"call": "f"}),
    "map of a document": lambda orch, fn: in_document(
        orch, fn, {"map": "f", "over": [1]}
    )[0],
    "reduce of a document": lambda orch, fn: in_document(
        orch, fn, {"reduce": "f", "over": [1, 2]}
    ),
    "context.workflow": lambda orch, fn: in_workflow(
        orch, lambda wf: wf.task(added, fn, id="x")
    ),
}


def in_document(orch, fn, said):
    wf = Workflow.from_dict({"tasks": {"x": said}}, {"f": fn})
    return orch.workflows.start(wf).result(PATIENCE)["x"]


async def _aio_submit(orch, fn):
    return await (await orch.aio.submit(fn, 1))


async def _aio_map(orch, fn):
    (result,) = [each async for each in orch.aio.map(fn, [1])]
    return result


def added(fn):
    return current_context().workflow.task(fn).result(PATIENCE)


@pytest.mark.parametrize(
    ("way", "name"),
    [
        pytest.param(
            way,
            name,
            marks=pytest.mark.slow("each kind of function in each way")
            if (row + column) % 3
            else (),
        )
        for row, way in enumerate(WAYS)
        for column, name in enumerate(FUNCTIONS)
        # A reduction calls its function itself, and awaits nothing.
        if not ("reduce" in way and name in {"async", "partial of partial"})
    ],
)
def test_the_options_are_taken_wherever_it_is_submitted(way, name):
    with TaskOrchestrator(resources={"cpu": 2}) as orch:
        timed, holds = WAYS[way](orch, FUNCTIONS[name])
    assert timed
    assert holds["cpu"] == 1


@pytest.mark.parametrize("way", ["submit", "map", "Task.call", "wf.map"])
def test_a_durable_orchestrator_takes_them_too(way, tmp_path):
    with TaskOrchestrator(journal=tmp_path / "j.db", resources={"cpu": 2}) as orch:
        timed, holds = WAYS[way](orch, plain)
    assert (timed, holds["cpu"]) == (True, 1)


def test_it_stays_the_function_that_it_was():
    def bare(a: int, *, b: str = "") -> str:
        return b * a

    decorated = task(timeout=1)(bare)
    assert inspect.isfunction(decorated)
    assert decorated(2, b="x") == "xx"
    assert str(inspect.signature(decorated)) == "(a: 'int', *, b: 'str' = '') -> 'str'"
    assert pickle.loads(pickle.dumps(plain)) is plain
    knows = inspect if sys.version_info >= (3, 12) else asyncio
    assert knows.iscoroutinefunction(later)


def test_what_a_document_says_comes_first_and_is_written_so():
    functions = {"f": stacked}
    said = {"tasks": {"x": {"call": "f", "priority": 0, "timeout": 5}}}
    read = Workflow.from_dict(said, functions)
    assert (read["x"].task.priority, read["x"].task.timeout) == (0, 5)
    assert read["x"].task.resources == Resources(cpu=1)
    again = Workflow.from_dict(read.to_dict(functions), functions)
    assert again["x"].task == read["x"].task


@pytest.mark.parametrize("add", ["task", "map", "reduce"])
def test_a_document_says_what_was_taken_back_or_is_refused(add):
    functions = {"f": stacked}
    wf = Workflow("w")
    over = () if add == "task" else ([1],)
    getattr(wf, add)(stacked, *over, priority=0, resources={}, id="x")
    document = wf.to_dict(functions)
    assert document["tasks"]["x"]["priority"] == 0
    assert document["tasks"]["x"]["resources"] == {}
    made = Workflow.from_dict(document, functions)["x"].task
    assert made.resources == wf["x"].task.resources
    assert made.priority == wf["x"].task.priority
    getattr(wf, add)(stacked, *over, timeout=None, id="y")
    with pytest.raises(InvalidTaskError, match=r"'y'.*has no timeout, which @task"):
        wf.to_dict(functions)


def test_a_type_that_was_declared_stays_in_a_document():
    @task(type="report", executor="mine")
    def report(*args):
        return args

    functions = {"f": report}
    wf = Workflow("w")
    wf.task(report, id="x")
    wf.task(report, id="y", type="other")
    wf.reduce(report, [1], id="z")
    read = Workflow.from_dict(wf.to_dict(functions), functions)
    assert [read[i].task.type for i in "xyz"] == ["report", "other", "report"]
    assert {read[i].task.payload.executor for i in "xyz"} == {"mine"}


@pytest.mark.parametrize(
    ("add", "options"),
    [("map", {"kwargs": {}}), ("map", {"executor": "x"}), ("reduce", {"kwargs": {}})],
)
def test_what_a_map_does_not_take_is_said(add, options):
    (name,) = options
    with pytest.raises(InvalidTaskError, match=f"wf.{add} takes no {name}=") as caught:
        getattr(Workflow("w"), add)(plain, [1], **options)
    assert caught.value.hint


def test_its_type_and_its_metadata_are_found_again():
    @task(type="report", metadata={"team": "a"}, priority=3)
    def report():
        return 1

    with TaskOrchestrator() as orch:
        handle = orch.submit(report)
        handle.result(PATIENCE)
        (status,) = orch.tasks(type="report", metadata={"team": "a"})
        assert (status.task_id, status.priority) == (handle.task_id, 3)


def test_a_timeout_of_a_function_ends_it():
    @task(timeout=0.01)
    def slow():
        context = current_context()
        while not context.cancelled:
            time.sleep(0.001)

    with TaskOrchestrator() as orch, pytest.raises(taskorch.TaskTimeoutError):
        orch.submit(slow).result(PATIENCE)


def test_a_workers_handler_has_none():
    """Its tasks have options of their own."""
    orch = TaskOrchestrator(resources={"cpu": 2})

    @orch.agent("a", capabilities={"x"})
    @task(timeout=5, resources={"cpu": 1})
    def do(what, context):
        return context.time_left, context.allocation

    with orch:
        assert orch.submit_task(Task("x")).result(PATIENCE) == (None, Resources())


@pytest.mark.parametrize(
    ("options", "error", "word"),
    [
        ({"timout": 3}, TypeError, "no option 'timout': did you mean 'timeout'"),
        ({"payload": 3}, TypeError, "no option 'payload'"),
        ({"timeout": 0}, InvalidTaskError, "@task: timeout"),
        ({"timeout": "3"}, InvalidTaskError, "@task: timeout"),
        ({"retry": "3"}, InvalidTaskError, "RetryPolicy is needed"),
        ({"resources": 5}, InvalidTaskError, "Resources are needed"),
        ({"priority": "high"}, InvalidTaskError, "priority"),
        ({"type": ""}, InvalidTaskError, "type"),
        ({"requires": "x"}, InvalidTaskError, "requires"),
        ({"executor": ""}, InvalidTaskError, "executor"),
        ({"id": "x"}, InvalidTaskError, "id is for one task"),
        ({"after": []}, InvalidTaskError, "after is for one task"),
        ({"idempotency_key": "x"}, InvalidTaskError, "idempotency_key is for one task"),
    ],
    ids=str,
)
def test_what_is_wrong_is_said_where_it_is_declared(options, error, word):
    with pytest.raises(error, match=word):
        task(**options)


@pytest.mark.parametrize(
    "fn", [5, "x", int, Shop, staticmethod(len), classmethod(len), len, pow]
)
def test_what_is_no_function_of_the_users_is_refused(fn):
    with pytest.raises(InvalidTaskError, match="@task") as caught:
        task(timeout=3)(fn)
    assert caught.value.hint
