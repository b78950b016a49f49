"""Failures that are allowed: of a task, and of some calls of a map."""

from __future__ import annotations

import asyncio
import json
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.api.tools import PATIENCE, Hold, eventually

from taskorch import (
    AtLeast,
    InvalidTaskError,
    Task,
    TaskFailedError,
    TaskOrchestrator,
    TaskState,
    Workflow,
    WorkflowFailedError,
)
from taskorch.errors import TooManyFailuresError
from taskorch.events import TaskFailed
from taskorch.ext.command_line import main

BAD = "only {} of 2"


def halves(number: int) -> int:
    if number % 2:
        raise ValueError(BAD.format(number))
    return number // 2


def shape(results: Any) -> list[str]:
    """Of each result it, and of an error its class."""
    return [
        each.type if isinstance(each, TaskFailedError) else str(each)
        for each in results
    ]


def numbers() -> list[int]:
    return [0, 1, 2, 3, 4]


@pytest.fixture
def orch() -> Iterator[TaskOrchestrator]:
    with TaskOrchestrator() as orch:
        yield orch


# -- a task whose failure is allowed ---------------------------------------------------


def test_a_failure_that_is_allowed_is_not_told_and_not_broken(
    orch: TaskOrchestrator,
) -> None:
    failed: list[TaskFailed] = []
    orch.signals.task_failed.connect(failed.append)
    orch.submit_task(Task.call(halves, 1, id="may", allow_failure=True))
    orch.submit_task(Task.call(halves, 1, id="may-not"))
    orch.wait(PATIENCE)
    assert [each.task_id for each in orch.tasks("failed", mended=False)] == ["may-not"]
    assert {(each.task_id, each.allowed) for each in failed} == {
        ("may", True),
        ("may-not", False),
    }
    assert [each.tasks for each in orch.failures()] == [("may-not",)]


def test_it_is_the_same_after_a_restart(tmp_path: Path) -> None:
    journal = tmp_path / "journal.db"
    flow = Workflow("flow")
    bad = flow.task(halves, 1, id="bad", allow_failure=True)
    waits = flow.wait_for("go", id="go")
    flow.task(shape, [bad, waits], id="both")
    flow.map(halves, [0, 1], id="many", allow_failures=1)
    with TaskOrchestrator(journal=journal) as orch:
        run = orch.workflows.start(flow, id="night")
        run.handles["many"].result(PATIENCE)
        before = str(run.handles["many"].result(PATIENCE))
    with TaskOrchestrator(journal=journal) as orch:
        run = orch.workflows.get("night")
        orch.emit("go", "went")
        results = run.result(PATIENCE)
        assert results["both"] == ["ValueError", "went"]
        assert str(results["many"]) == before
        assert run.status().allowed == ("bad", "many/1")
    with TaskOrchestrator(journal=journal) as orch:
        status = orch.workflows.status("night")
        assert str(status).startswith("night is completed, 2 failures allowed:")


# -- runs ------------------------------------------------------------------------------


def test_a_run_with_failures_that_are_allowed_is_completed(
    orch: TaskOrchestrator,
) -> None:
    flow = Workflow("flow")
    bad = flow.task(halves, 1, id="bad", allow_failure=True)
    flow.task(shape, [bad], id="after")
    run = orch.workflows.start(flow)
    results = run.result(PATIENCE)
    assert results["after"] == ["ValueError"]
    assert shape([results["bad"]]) == ["ValueError"]
    status, report = run.status(), run.report()
    assert (status.state, status.allowed) == ("completed", ("bad",))
    assert status.to_dict()["allowed"] == ["bad"]
    assert status.remaining_path == ()
    assert (report.state, report.failures) == ("completed", ())
    assert [each.name for each in report.allowed] == ["bad"]
    for text in (str(status), str(report), report.to_markdown()):
        assert "completed, 1 failure allowed" in text
    assert "bad failed: ValueError" in str(report)


@pytest.mark.parametrize("rule", ["block", "fail"])
@pytest.mark.parametrize("join", ["any", AtLeast(2), "asked"])
def test_a_run_whose_join_cannot_hold_has_failed_and_its_result_raises(
    orch: TaskOrchestrator, join: Any, rule: Any
) -> None:
    """The failures are allowed, and yet too few of what it needs has completed."""
    flow = Workflow("flow")
    bad = [flow.task(halves, n, id=f"bad-{n}", allow_failure=True) for n in (1, 3)]
    options = {"join": all_well if join == "asked" else join, "on_parent_failure": rule}
    flow.task(len, bad, id="total", **options)
    flow.task(print, id="last", after=["total"])
    run = orch.workflows.start(flow, id=f"run-{rule}")
    with pytest.raises(WorkflowFailedError, match="blocked by that: 1") as failed:
        run.result(PATIENCE)
    assert list(failed.value.failures) == ["total"]
    assert run.status().state == run.report().state == "failed"


def all_well(states: dict[str, TaskState]) -> bool | None:
    return all(state == "completed" for state in states.values())


@pytest.mark.parametrize("rule", ["block", "fail", "skip"])
def test_a_run_that_waits_for_what_failed_elsewhere_raises(
    orch: TaskOrchestrator, rule: Any
) -> None:
    bad = orch.submit_task(Task.call(halves, 1, id="elsewhere"))
    flow = Workflow("flow")
    flow.task(print, id="first", after=[bad], on_parent_failure=rule)
    flow.task(print, id="last", after=["first"], on_parent_failure="skip")
    run = orch.workflows.start(flow)
    with pytest.raises(WorkflowFailedError):
        run.result(PATIENCE)
    assert run.status().state == ("cancelled" if rule == "skip" else "failed")


def test_all_faces_say_it_alike(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = tmp_path / "journal.db"
    flow = Workflow("flow")
    flow.map(halves, [0, 1, 2, 3], id="many", allow_failures="50%")
    with TaskOrchestrator(journal=journal) as orch, orch.serve(port=0) as server:
        orch.workflows.start(flow, id="night").result(PATIENCE)

        def of_service() -> Any:
            return server_run(server)["outcome"]

        said = "completed, 2 failures allowed"
        eventually(lambda: of_service() == said)
    assert main(["runs", str(journal), "list", "--json"]) == 0
    assert said in capsys.readouterr().out
    assert main(["runs", str(journal)]) == 0
    assert said in capsys.readouterr().out
    assert main(["runs", str(journal), "show", "night"]) == 0
    assert f"night is {said}" in capsys.readouterr().out


def server_run(server: Any) -> Any:
    request = urllib.request.Request(
        f"{server.url}/api/v1/runs",
        headers={"Authorization": f"Bearer {server.token}"},
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)["runs"][0]


def test_a_restart_runs_again_what_may_fail(orch: TaskOrchestrator) -> None:
    bad = {1}

    def sometimes(number: int) -> int:
        if number in bad:
            raise ValueError(number)
        return number

    flow = Workflow("flow")
    many = flow.map(sometimes, [0, 1], id="many", allow_failures=1)
    flow.task(shape, many, id="shape")
    run = orch.workflows.start(flow)
    assert run.result(PATIENCE)["shape"] == ["0", "ValueError"]
    bad.clear()
    again = orch.workflows.restart(run.workflow_id)
    assert again.result(PATIENCE)["shape"] == ["0", "1"]
    assert again.status().allowed == ()


# -- maps ------------------------------------------------------------------------------

Results = Callable[..., list[Any]]


def _plain(orch: TaskOrchestrator, fn: Any, items: Any, **options: Any) -> list[Any]:
    return list(orch.map(fn, items, timeout=PATIENCE, **options))


def _with_options(
    orch: TaskOrchestrator, fn: Any, items: Any, **options: Any
) -> list[Any]:
    return list(orch.options(priority=1).map(fn, items, timeout=PATIENCE, **options))


def _decorated(
    orch: TaskOrchestrator, fn: Any, items: Any, **options: Any
) -> list[Any]:
    return list(orch.task(fn).map(items, timeout=PATIENCE, **options))


def _later(orch: TaskOrchestrator, fn: Any, items: Any, **options: Any) -> list[Any]:
    async def collect() -> list[Any]:
        results = orch.aio.map(fn, items, timeout=PATIENCE, **options)
        return [each async for each in results]

    return asyncio.run(collect())


def _in_a_run(orch: TaskOrchestrator, fn: Any, items: Any, **options: Any) -> list[Any]:
    flow = Workflow("flow")
    flow.map(fn, list(items), id="many", **options)
    run = orch.workflows.start(flow)
    results: list[Any] = run.handles["many"].result(PATIENCE)
    return results


def _some_at_once(
    orch: TaskOrchestrator, fn: Any, items: Any, **options: Any
) -> list[Any]:
    return _in_a_run(orch, fn, items, max_parallel=2, **options)


MAPS: list[Results] = [
    *(_plain, _with_options, _decorated, _later, _in_a_run, _some_at_once),
]
every_map = pytest.mark.parametrize("results_of", MAPS)


@every_map
def test_errors_stand_in_the_places_of_results(
    orch: TaskOrchestrator, results_of: Results
) -> None:
    for limit in (2, 40, "40%", "40.0 %", "100%"):
        results = results_of(orch, halves, numbers(), allow_failures=limit)
        assert shape(results) == ["0", "ValueError", "1", "ValueError", "2"], limit


@every_map
def test_more_failures_than_that_end_the_map(
    orch: TaskOrchestrator, results_of: Results
) -> None:
    for limit in (0, 1, "0%", "39%", "39.999%"):
        with pytest.raises(TooManyFailuresError, match="more failures than it") as e:
            results_of(orch, halves, numbers(), allow_failures=limit)
        assert e.value.failed
        assert isinstance(e.value.__cause__, ValueError)
        assert "only 1 of 2" in str(e.value) or "only 3 of 2" in str(e.value)


@every_map
def test_where_nothing_fails_it_is_a_map_as_ever(
    orch: TaskOrchestrator, results_of: Results
) -> None:
    for limit in (0, "0%", 3, "5%"):
        assert results_of(orch, halves, [0, 2], allow_failures=limit) == [0, 1]
        assert results_of(orch, halves, [], allow_failures=limit) == []


@every_map
def test_what_is_no_number_and_no_share_is_refused(
    orch: TaskOrchestrator, results_of: Results
) -> None:
    # Digits of other scripts are digits.
    assert results_of(orch, halves, [0], allow_failures="٣%") == [0]
    for limit in (-1, True, 1.5, "5", "101%", "-1%", "%", "five %", "1e1%", []):
        with pytest.raises(InvalidTaskError, match="allow_failures is a number of"):
            results_of(orch, halves, [0], allow_failures=limit)


@pytest.mark.parametrize("results_of", [_plain, _later, _in_a_run, _some_at_once])
def test_it_is_told_at_once_though_others_run(
    orch: TaskOrchestrator, results_of: Results
) -> None:
    hold = Hold()

    def run(number: int) -> int:
        return hold(number) if number == 0 else halves(1)

    try:
        with pytest.raises(TooManyFailuresError, match="those that run go on"):
            results_of(orch, run, [0, 1, 2], allow_failures=1)
        running = [each.state for each in orch.tasks("running")]
        assert running
    finally:
        hold.release()


@pytest.mark.parametrize("results_of", [_plain, _later, _in_a_run])
def test_calls_that_have_not_begun_are_cancelled(results_of: Results) -> None:
    ran: list[int] = []
    is_cancelled = threading.Event()

    def run(number: int) -> int:
        ran.append(number)
        if number > 3:
            # Those before are one failure too many. Who cancels the others needs a turn
            # before all of them have run, and a map its slot: so each waits a little.
            is_cancelled.wait(0.1)
        return halves(1)

    def tell(_event: object) -> None:
        is_cancelled.set()

    with TaskOrchestrator(concurrency=1) as orch:
        orch.signals.task_cancelled.connect(tell)
        with pytest.raises(TooManyFailuresError):
            results_of(orch, run, list(range(300)), allow_failures=3)
        orch.wait(PATIENCE)
        assert len(ran) < 300
        states = {each.state for each in orch.tasks() if each.type != "map"}
        assert states <= {TaskState.FAILED, TaskState.CANCELLED}


@pytest.mark.parametrize("results_of", [_plain, _with_options, _later])
def test_a_share_of_what_has_no_length_is_judged_at_its_end(
    orch: TaskOrchestrator, results_of: Results
) -> None:
    assert len(results_of(orch, halves, iter(numbers()), allow_failures="40%")) == 5
    with pytest.raises(TooManyFailuresError, match="39%, which is 1, may"):
        results_of(orch, halves, iter(numbers()), allow_failures="39%")


def test_a_number_holds_for_what_has_no_end(orch: TaskOrchestrator) -> None:
    def endless() -> Iterator[int]:
        number = 0
        while True:
            yield number
            number += 1

    results = orch.map(halves, endless(), allow_failures=2, buffersize=4)
    with pytest.raises(TooManyFailuresError, match=r"[3-6] failed, and 2 may"):
        list(results)


def test_a_share_is_rounded_down(orch: TaskOrchestrator) -> None:
    one = [1, *[0] * 38]
    assert len(_plain(orch, halves, one, allow_failures="5%")) == 39
    with pytest.raises(TooManyFailuresError, match="2 of its 39 calls failed, and 5%"):
        _plain(orch, halves, [1, *one[:-1]], allow_failures="5%")


def test_documents_say_it(orch: TaskOrchestrator) -> None:
    functions = {"halves": halves}
    flow = Workflow("flow")
    flow.map(halves, [0, 1], id="many", allow_failures="50%")
    flow.task(halves, 1, id="bad", allow_failure=True)
    document = flow.to_dict(functions)
    assert document["tasks"]["many"]["allow_failures"] == "50%"
    assert document["tasks"]["bad"]["allow_failure"] is True
    back = Workflow.from_dict(document, functions)
    assert back.to_dict(functions) == document
    results = orch.workflows.start(back).result(PATIENCE)
    assert shape(results["many"]) == ["0", "ValueError"]
    document["tasks"]["many"]["allow_failures"] = "101%"
    with pytest.raises(Exception, match=r"many\.allow_failures"):
        Workflow.from_dict(document, functions)
