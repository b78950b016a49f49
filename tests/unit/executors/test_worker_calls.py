"""Calls in worker processes, as they are given in: what is refused, and how many."""

from __future__ import annotations

import functools
import os
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from taskorch.errors import InvalidTaskError
from taskorch.executors._processes._attempts import Processes, refuse_unsendable
from taskorch.executors._processes._pool import WorkerPool


def named() -> None:
    """A function that every interpreter finds."""


def with_a_function_of_its_own() -> None:
    """As decorators leave them: it has an attribute of that name."""


with_a_function_of_its_own.func = lambda: 1  # type: ignore[attr-defined]


class Called:
    """It has no function inside, and is none."""

    def __call__(self) -> None: ...


def has_inner() -> Any:
    def inner() -> None: ...

    return inner


@pytest.fixture(name="no_cloudpickle")
def _no_cloudpickle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only with it can be sent what has no name."""
    monkeypatch.setitem(sys.modules, "cloudpickle", None)


@pytest.mark.usefixtures("no_cloudpickle")
@pytest.mark.parametrize(
    ("fn", "why"),
    [
        (lambda: 1, "is a lambda"),
        (has_inner(), "is defined inside another function"),
        (functools.partial(has_inner(), 1), "is defined inside another function"),
        (functools.partial(functools.partial(lambda n: n), 1), "is a lambda"),
    ],
)
def test_what_no_worker_could_find_is_refused_at_once(fn: Any, why: str) -> None:
    with pytest.raises(InvalidTaskError, match=why) as got:
        refuse_unsendable(fn)
    assert "could not find it" in str(got.value)
    assert "top level of a module" in got.value.hint


@pytest.mark.parametrize(
    "fn",
    [
        named,
        with_a_function_of_its_own,
        functools.partial(named),
        pow,
        int,
        Called(),
        functools.partial(Called()),
        SimpleNamespace(func=5),
    ],
)
def test_what_may_be_found_is_not_refused(
    fn: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the script is that has been started."""
    refuse_unsendable(fn)
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))
    refuse_unsendable(fn)


@pytest.mark.usefixtures("no_cloudpickle")
@pytest.mark.parametrize(
    ("fields", "is_refused"),
    [
        ({}, True),
        ({"__file__": None}, True),
        ({"__file__": "/no/such/file.py"}, True),
        ({"__file__": os.path.dirname(__file__)}, True),  # noqa: PTH120 - text
        ({"__file__": __file__}, False),
        ({"__spec__": SimpleNamespace(name="package.module")}, False),
    ],
)
def test_what_a_script_defines_is_found_in_its_file_or_by_its_name(
    fields: dict[str, Any], is_refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session has neither."""
    main = ModuleType("__main__")
    exec("def f(): pass", main.__dict__)
    main.__dict__.update(fields)
    monkeypatch.setitem(sys.modules, "__main__", main)
    if is_refused:
        with pytest.raises(InvalidTaskError, match="in an interactive session"):
            refuse_unsendable(main.f)
    else:
        refuse_unsendable(main.f)


@pytest.mark.parametrize(("count", "there_are"), [(3, 3), (None, 7)])
def test_there_are_as_many_as_was_said_or_as_cores(
    count: int | None, there_are: int
) -> None:
    processes = Processes(count)
    processes.bind(lambda: "life", lambda: 7)
    pool: Any = processes._opened()
    assert pool._count == there_are
    assert pool._run_id == "life"
    assert processes._opened() is pool


def test_without_an_orchestrator_each_has_an_id_of_its_own() -> None:
    ids = {Processes(1)._opened()._run_id for _ in range(2)}  # type: ignore[attr-defined]
    assert len(ids) == 2
    assert all(one.startswith(f"processes-{os.getpid()}-") for one in ids)


def test_a_call_goes_to_the_pool_that_is_made_with_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[Any] = []
    monkeypatch.setattr(
        WorkerPool, "begin", lambda pool, one: given.append((pool, one)) or 7
    )
    processes = Processes(1)
    attempts: Any = [object(), object()]
    assert [processes.begin(attempt) for attempt in attempts] == [7, 7]
    pool = processes._pool
    assert given == [(pool, attempt) for attempt in attempts]


def test_of_the_grace_the_workers_know_less() -> None:
    """What is killed is read before the kernel gives it up."""
    asked: list[Any] = []
    processes = Processes(1)
    processes._pool = SimpleNamespace(  # type: ignore[assignment]
        stop=lambda *given: asked.append(("stop", *given)),
        end_all=lambda *given: asked.append(("end_all", *given)),
        close=lambda *given: asked.append(("close", *given)),
    )
    begun: Any = object()
    processes.stop(begun, 100.0)
    processes.end_all(2.0)
    processes.close(3.0)
    assert asked == [("stop", begun, 98.5), ("end_all", 1.5), ("close", 3.0)]
