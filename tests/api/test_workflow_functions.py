"""A function writes down a workflow: calls of task functions in it are its tasks."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, strategies as st

from taskorch import (
    InvalidTaskError,
    Task,
    TaskOrchestrator,
    Workflow,
    current_context,
    task,
    workflow,
)
from taskorch.api.workflows import Node, WorkflowFunction
from taskorch.model import Cache

PATIENCE = 60


@task
def numbers(count: int) -> list[int]:
    return list(range(count))


@task(timeout=60)
def add(values: list[int], more: int = 0) -> int:
    return sum(values) + more


@task
async def later(value: int) -> int:
    await asyncio.sleep(0)
    return value


@task
def double(value: int) -> int:
    return 2 * value


class Shop:
    def __init__(self, price: int) -> None:
        self.price = price

    @task
    def total(self, pieces: int) -> int:
        return self.price * pieces


@workflow
def night(
    count: int = 3, regions: tuple[str, ...] = ("eu", "us"), *, mail: bool = False
) -> None:
    """What is done every night."""
    values, last = numbers(count), cast("Any", None)
    for number, region in enumerate(regions):
        load = add.options(id=f"load/{region}", priority=number)
        last = load(values, more=number)
    if mail:
        node: Any = last
        node >> later(last)


@pytest.fixture
def orch() -> Iterator[TaskOrchestrator]:
    with TaskOrchestrator() as orch:
        yield orch


def test_for_and_if_make_the_graph_and_the_parameters_decide() -> None:
    flow = night()
    assert (type(flow), flow.name) == (Workflow, "night")
    assert dict(flow.dependencies) == {
        "numbers": (),
        "load/eu": ("numbers",),
        "load/us": ("numbers",),
    }
    assert flow["load/us"].task.priority == 1
    assert flow["load/us"].task.timeout == 60
    mailed = night(1, ("eu",), mail=True)
    assert dict(mailed.dependencies)["later"] == ("load/eu",)
    assert night() is not flow
    assert list(night()) == list(flow)
    with pytest.raises(TypeError, match="unexpected keyword argument 'days'"):
        night(days=3)  # type: ignore[call-arg]


def test_it_says_what_its_parameters_are() -> None:
    assert isinstance(night, WorkflowFunction)
    assert [*night.parameters] == ["count", "regions", "mail"]
    assert night.parameters["regions"].default == ("eu", "us")
    assert inspect.signature(night) == inspect.signature(night.fn)
    assert (night.name, night.__doc__) == ("night", "What is done every night.")
    assert pickle.loads(pickle.dumps(night)) is night
    assert "night" in repr(night)

    @workflow(name="nightly-load")
    def other() -> None:
        numbers(1)

    assert other().name == "nightly-load"


def test_it_stands_for_its_workflow_where_one_is_taken(
    orch: TaskOrchestrator, tmp_path: Path
) -> None:
    results = {"numbers": [0, 1, 2], "load/eu": 3, "load/us": 4}
    assert orch.workflows.start(night, "one").result(PATIENCE) == results
    assert orch.workflows.start(night(2), "two").result(PATIENCE)["load/us"] == 2
    anyhow: Any = orch
    assert anyhow.run(night, count=1)["load/eu"] == 0
    assert orch.simulate(night, 1).makespan == 2
    orch.schedules.add("nightly", "every 24h", night)
    made = orch.schedules.trigger("nightly")
    assert orch.workflows.get(made).result(PATIENCE) == results
    asked: list[Callable[[], object]] = [
        lambda: orch.submit(night),
        lambda: orch.submit_task(Task.call(night)),
    ]
    for ask in asked:
        with pytest.raises(InvalidTaskError, match="writes down a workflow"):
            ask()
    with pytest.raises(InvalidTaskError, match=r"wf\.include\(night\(…\)\)"):
        Workflow("other").include(night)  # type: ignore[arg-type]
    whole = Workflow("whole")
    whole.include(night(1, ("eu",)), name="part")
    assert list(whole) == ["part/numbers", "part/load/eu"]


def test_the_same_call_goes_on_in_the_next_incarnation(tmp_path: Path) -> None:
    for _ in range(2):
        with TaskOrchestrator(journal=tmp_path / "runs.db") as orch:
            run = orch.workflows.start(night(2), "monday")
            assert run.result(PATIENCE)["load/us"] == 2
            assert orch.get_task_status("monday/load/us").attempts == 1


def test_submit_and_map_are_tasks_of_it_as_calls_are(orch: TaskOrchestrator) -> None:
    @workflow
    def flow() -> list[Any]:
        anyhow: Any = add
        values: Any = numbers.submit(3)
        doubled: Any = double.map(values)
        urgent: Any = double.options(priority=7, id="urgent").map([5])
        return [add(doubled), anyhow.delay(urgent), Shop(2).total(later(4))]  # type: ignore[arg-type]

    made = flow()
    assert made["urgent"].task.payload is not None
    results = orch.workflows.start(made).result(PATIENCE)
    assert results["double"] == [0, 2, 4]
    assert (results["add"], results["add-2"]) == (6, 10)
    assert orch.get_stats().state_machine.failed == 0
    assert 8 in results.values()


def test_elsewhere_a_call_is_a_call(orch: TaskOrchestrator) -> None:
    """On other threads, in a running task, before and after, and in a coroutine."""
    seen: list[Any] = []

    @workflow
    def flow() -> None:
        thread = threading.Thread(target=lambda: seen.append(double(2)))
        thread.start()
        thread.join(PATIENCE)
        seen.append(orch.submit(lambda: double(3)).result(PATIENCE))
        assert isinstance(double(4), Node)

    assert double(1) == 2
    flow()
    assert seen == [4, 6]
    assert double(5) == 10
    assert asyncio.run(later(3)) == 3


def test_what_fails_while_it_is_written_down_leaves_calls_as_they_are() -> None:
    @workflow
    def flow() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        flow()
    assert double(1) == 2


USES: dict[str, Callable[[Any], object]] = {
    "if": lambda node: 1 if node else 2,
    "not": lambda node: not node,
    "==": lambda node: node == 3,
    "!=": lambda node: node != 3,
    "in": lambda node: node in (1, 2),
    "<": lambda node: node < 3,
    "for": lambda node: [each for each in node],  # noqa: C416
    "[]": lambda node: node[0],
    "+": lambda node: node + 1,
    "len": len,
    "int": int,
    "text": lambda node: f"at {node}",
    "format": "{}".format,
    "call": lambda node: node(),
    "with": lambda node: node.__enter__(),
}


@pytest.mark.parametrize("use", USES)
def test_a_result_that_is_not_there_yet_is_not_used(use: str) -> None:
    @workflow
    def flow() -> None:
        USES[use](numbers(3))

    with pytest.raises((TypeError, AttributeError)) as refused:
        flow()
    if refused.type is TypeError:
        notes = getattr(refused.value, "__notes__", [])
        assert any("known when the workflow runs" in each for each in notes)
    node = Workflow("x").task(len, "a")
    assert node
    assert (f"{node}", node == 3, node is None) == (str(node), False, False)


def test_nodes_that_may_be_missing_are_told_from_none() -> None:
    @workflow
    def flow(early: bool = False) -> None:
        first: Any = numbers(3) if early else None
        if first is not None:
            add(first)
        assert (first == None) == (not early)  # noqa: E711

    assert (len(flow()), len(flow(early=True))) == (0, 2)


def test_it_returns_nodes_or_nothing() -> None:
    @workflow
    def returns(value: Any) -> Any:
        return value

    @workflow
    def nodes() -> Any:
        return numbers(3), [], None

    for value in (3, "x", [3], {"a": 1}):
        with pytest.raises(InvalidTaskError, match="goes nowhere"):
            returns(value)
    with pytest.raises(InvalidTaskError, match="goes nowhere"):
        nodes()
    assert len(returns(None)) == 0


def test_what_cannot_write_one_down_is_refused() -> None:
    async def coroutine() -> None: ...

    def generator() -> Iterator[int]:
        yield 1

    unfit: list[Any] = [coroutine, generator, len, Shop, 3]
    for fn in unfit:
        with pytest.raises(InvalidTaskError, match="@workflow is for plain functions"):
            workflow(fn)
    with pytest.raises(InvalidTaskError, match="name of a workflow"):
        workflow(name="a/b")(lambda: None)

    @workflow
    def outer() -> None:
        night()

    with pytest.raises(InvalidTaskError, match="another is being written down"):
        outer()
    assert len(night()) == 3

    @workflow
    def pairs() -> None:
        add.map([[1]], [2])

    with pytest.raises(InvalidTaskError, match="one list, or one node"):
        pairs()


def test_a_plain_function_may_be_a_part_of_several() -> None:
    def part(values: Any) -> Any:
        return add(double.map(values))  # type: ignore[arg-type]

    @workflow
    def flow() -> None:
        part(part([1, 2]))

    assert list(flow()) == ["double", "add", "double-2", "add-2"]


def test_calls_in_the_block_of_a_workflow_or_a_phase_are_its_tasks() -> None:
    with Workflow("blocks") as flow:
        values = numbers(3)
        with flow.phase("sums"):
            add(values)
        double(3)
    assert {*flow} == {"numbers", "double", "sums/gate", "add"}
    assert flow.phases["sums"].tasks == ["add"]
    assert double(1) == 2
    with pytest.raises(LookupError), Workflow("fails"):
        raise LookupError
    assert double(1) == 2


@given(
    st.lists(
        st.tuples(st.sampled_from(["call", "submit", "wf"]), st.sets(st.integers(0, 9)))
    )
)
def test_it_is_the_graph_that_the_methods_of_a_workflow_make(
    steps: list[tuple[str, set[int]]],
) -> None:
    by_hand = Workflow("w")

    def build(make: Callable[[str, list[Any]], Any]) -> None:
        nodes: list[Any] = []
        for way, places in steps:
            above = [nodes[place] for place in sorted(places) if place < len(nodes)]
            nodes.append(make(way, above))

    ways: dict[str, Callable[[Any], Any]] = {"call": add, "submit": add.submit}

    @workflow(name="w")
    def written() -> None:
        build(lambda way, above: ways.get(way, add)(above))

    build(lambda _, above: by_hand.task(add, above))
    made = written()
    assert made.dependencies == by_hand.dependencies
    assert [made[name].task for name in made] == [
        by_hand[name].task for name in by_hand
    ]


# -- a decorated function is the function that it was ----------------------------------


@task
def in_process(value: int) -> tuple[int, str]:
    return value, current_context().task_id


def test_in_a_process_and_a_journal_it_is_found_by_its_name(tmp_path: Path) -> None:
    with TaskOrchestrator(journal=tmp_path / "runs.db"):
        sent = in_process.options(executor="process", id="sent")
        assert sent.submit(3).result(PATIENCE) == (3, "sent")


def test_what_it_does_decides_about_its_cache(orch: TaskOrchestrator) -> None:
    def made(text: str) -> Any:
        scope: dict[str, Any] = {"__name__": __name__, "calls": []}
        exec(text, scope)
        return scope["fn"]

    one, same, other = (
        task(cache=Cache(expires=60), type="made")(made(f"def fn(x): return x + {n}"))
        for n in (1, 1, 2)
    )
    assert one.submit(1).result(PATIENCE) == 2
    assert other.submit(1).result(PATIENCE) == 3
    assert same.submit(x=1).result(PATIENCE) == 2


RATES = """
from taskorch import task

@task
def rate():
    return {rate}

def price(value):
    return value * rate()
"""


def test_so_does_what_it_calls(
    orch: TaskOrchestrator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    prices = []
    for rate in (10, 2000):
        (tmp_path / "rates_of_a_shop.py").write_text(RATES.format(rate=rate))
        importlib.invalidate_caches()
        monkeypatch.delitem(sys.modules, "rates_of_a_shop", raising=False)
        module = importlib.import_module("rates_of_a_shop")
        cached = orch.options(cache=Cache(expires=60))
        prices.append(cached.submit(module.price, 3).result(PATIENCE))
    assert prices == [30, 6000]


def test_what_stands_in_its_module_already_is_left_there() -> None:
    decorated = task(priority=3)(found_by_its_name)
    assert pickle.loads(pickle.dumps(decorated)) is decorated
    assert Task.call(found_by_its_name).priority == 3
    with Workflow("x") as flow:
        decorated.submit(1)
    assert list(flow) == ["found_by_its_name"]


def found_by_its_name(value: int) -> int:
    return value


# -- from the command line -------------------------------------------------------------

FILE = """
from taskorch import task, workflow

@task
def say(word):
    return word

@workflow
def night(words=("one", "two")):
    for word in words:
        say.options(id=word)(word)
"""


@pytest.mark.parametrize("name", ["", ":night"])
def test_the_command_line_runs_it(name: str, tmp_path: Path) -> None:
    file = tmp_path / "flow_of_functions.py"
    file.write_text(FILE)
    ran = subprocess.run(
        [sys.executable, "-m", "taskorch", "run", f"{file}{name}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "2" in ran.stdout + ran.stderr
