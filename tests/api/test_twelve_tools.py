"""What the public names of twelve tools come to here: counted, place by place."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from tests.api.words import names

import taskorch
from taskorch import (
    RetryPolicy,
    Task,
    TaskOrchestrator,
    Workflow,
    current_context,
    task,
)

PATIENCE = 60
#: What a question may ask: what a word of theirs means here.
RIGHT: dict[str, str] = {
    "AsyncResult": "handle",
    "acks_late": "idempotent",
    "autoretry_for": "retry",
    "cache_key_fn": "cache",
    "catchup": "catch_up",
    "close": "stop",
    "delay": "not_before",
    "expires": "deadline",
    "fetch_job": "handle",
    "get_result": "result",
    "get_status": "status",
    "id": "task_id",
    "is_finished": "done",
    "key": "task_id id",
    "launch": "start",
    "max_active_runs": "overlap",
    "max_attempts": "retry",
    "memory": "resources",
    "name": "id",
    "namespace": "owner",
    "needs": "after",
    "num_cpus": "resources",
    "num_gpus": "resources",
    "persist_result": "cache",
    "pool": "resources",
    "put": "submit_task",
    "queue": "requires",
    "results": "result",
    "retries": "retry",
    "retry": "rerun_task",
    "retry_backoff": "retry",
    "retry_delay": "retry",
    "retry_exponential_backoff": "retry",
    "return_value": "result",
    "revoke": "cancel_task cancel",
    "send_task": "submit_task",
    "sla": "deadline",
    "soft_time_limit": "timeout",
    "state": "status",
    "step": "task",
    "tags": "metadata",
    "terminate": "cancel",
    "time_limit": "timeout",
    "trigger_rule": "join",
    "wait": "result",
    "wait_for": "after",
}


@task
def decorated(number: int = 1) -> int:
    return number


def _option(name: str) -> object:
    return Task.call(pow, 2, 3, **{name: None})


def _retry(name: str) -> object:
    return RetryPolicy(**{name: 3})  # type: ignore[arg-type]


def _schedule(name: str) -> object:
    orch = TaskOrchestrator()
    return orch.schedules.add("n", "0 3 * * *", pow, **{name: None})  # type: ignore[call-overload]


def _key(name: str) -> object:
    document = {"workflow": "w", "tasks": {"a": {"call": "f", name: 1}}}
    return Workflow.from_dict(document, {"f": len})


def _root(name: str) -> object:
    return getattr(taskorch, name)


def _error(name: str) -> object:
    return getattr(importlib.import_module("taskorch.errors"), name)


@pytest.fixture(scope="module")
def places() -> Iterator[dict[str, Callable[[str], object]]]:
    with TaskOrchestrator() as orch:
        flow = Workflow("flow")
        flow.task(pow, 2, 3)
        contexts: list[Any] = []
        orch.submit(lambda: contexts.append(current_context())).result(PATIENCE)
        yield {
            "root": _root,
            "error": _error,
            "option": _option,
            "retry": _retry,
            "schedule": _schedule,
            "key": _key,
            "app": partial(getattr, orch),
            "handle": partial(getattr, orch.submit(pow, 2, 3)),
            "context": partial(getattr, contexts[0]),
            "flow": partial(getattr, flow),
            "function": partial(_of_function, orch),
        }


def _of_function(orch: TaskOrchestrator, name: str) -> object:
    del orch
    found = getattr(decorated, name)
    # What refuses does so when it is called.
    if type(found) is partial:
        found()
    return found


def judged(say: Callable[[str], object], name: str) -> tuple[str, str]:
    """How a name comes out, and what was said."""
    try:
        say(name)
    except Exception as error:
        text = str(error)
        if "did you mean" in text:
            return "asks", text
        bare = text.endswith((f"attribute {name!r}", f"keyword argument {name!r}"))
        return ("bare" if bare or "there are " in text else "leads", text)
    return "works", ""


def test_hardly_a_name_of_twelve_tools_says_nothing_and_none_misleads(
    places: dict[str, Callable[[str], object]],
) -> None:
    every = names()
    assert len({tool for tool, _, _ in every} - {"argo"}) == 12
    ends = {
        (tool, place, name): judged(places[place], name) for tool, place, name in every
    }
    counts = Counter(end for end, _ in ends.values())
    bare = [key for key, (end, _) in ends.items() if end == "bare"]
    wrong = [
        (*key, text)
        for key, (end, text) in ends.items()
        if end == "asks"
        and not any(
            f"did you mean {word!r}" in text for word in RIGHT.get(key[2], "").split()
        )
    ]
    assert wrong == [], "it misleads, or is not judged yet"
    assert len(bare) * 50 <= len(every), (counts, bare)
    assert counts["works"] > 80, counts


def test_a_context_is_no_mapping_and_says_what_has_it() -> None:
    with TaskOrchestrator() as orch:
        for name, ours in (("ds", "slot"), ("ti", "current_context")):
            handle = orch.submit(lambda name=name: current_context()[name])  # type: ignore[index]
            with pytest.raises(TypeError, match=ours):
                handle.result(PATIENCE)


def test_arrows_to_the_left_do_what_those_to_the_right_do() -> None:
    flow = Workflow("arrows")
    a, b, c, d = (flow.task(str, id=name) for name in "abcd")
    assert (d << [b, c] << a) is a
    assert flow.dependencies == {"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c")}
    with pytest.raises(TypeError, match="a >> b"):
        a | b


def test_a_name_that_cannot_be_imported_says_what_is_here() -> None:
    with pytest.raises(ImportError, match="Permanent"):
        exec("from taskorch.errors import ApplicationError")
    with pytest.raises(ImportError, match=r"@taskorch\.workflow"):
        exec("from taskorch import flow")
    with pytest.raises(ImportError, match="cannot import name 'nothing_of_it'"):
        exec("from taskorch.errors import nothing_of_it")
