"""Calls are tasks where a workflow is written down, and calls elsewhere."""

from __future__ import annotations

import asyncio
import inspect
import pickle
import sys

from taskorch.kit.building import (
    WritesWorkflow,
    adding,
    as_workflow,
    called_in,
)


def stands(x):
    return x + 1


def local():
    def add(x, *, more=0):
        return x + more

    return add


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
