"""Calls are tasks where a workflow is written down, and calls elsewhere."""

from __future__ import annotations

import asyncio
import inspect
import pickle
import sys
import threading

from taskorch.kit.building import (
    WritesWorkflow,
    adding,
    as_workflow,
    begin_building,
    called_in,
    end_building,
    workflow_in_building,
)


class Paper:
    """It notes what it is given as tasks."""

    def __init__(self):
        self.tasks = []

    def task(self, fn, *args, kwargs=None):
        self.tasks.append((fn, args, kwargs))
        return len(self.tasks)


def stands(x):
    return x + 1


def local():
    def add(x, *, more=0):
        return x + more

    return add


def test_a_call_is_a_task_while_one_is_written_down_and_only_on_that_thread():
    add, paper = adding(local()), Paper()
    assert add(1, more=2) == 3
    begin_building(paper)
    try:
        inner = Paper()
        begin_building(inner)
        assert add(1) == 1
        assert workflow_in_building() is inner
        end_building()
        assert add(2, more=3) == 1
        elsewhere = []
        thread = threading.Thread(target=lambda: elsewhere.append(add(5, more=1)))
        thread.start()
        thread.join()
        assert elsewhere == [6]
    finally:
        end_building()
    assert inner.tasks == [(add, (1,), None)]
    assert paper.tasks == [(add, (2,), {"more": 3})]
    assert workflow_in_building() is None


def test_a_function_is_wrapped_once_and_one_of_a_module_never():
    fn = local()
    add = adding(fn)
    assert adding(add) is add
    assert called_in(add) is fn
    assert called_in(fn) is fn
    assert adding(stands) is stands
    assert pickle.loads(pickle.dumps(adding(stands)))(1) == 2


def test_what_is_made_of_a_coroutine_function_is_one():
    async def fetch():
        return 1

    # Before Python 3.12 only `asyncio` can be told so.
    known_by = inspect if sys.version_info >= (3, 12) else asyncio
    assert known_by.iscoroutinefunction(adding(fetch))


def test_what_writes_a_workflow_down_is_called_and_all_else_is_as_it_is():
    class Writing(WritesWorkflow):
        def __call__(self):
            return "the workflow"

    assert as_workflow(Writing()) == "the workflow"
    assert as_workflow(stands) is stands
