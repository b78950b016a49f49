"""A re-run makes anew what it is made of; an attempt finds what is there."""

from __future__ import annotations

from typing import Any

import pytest
from tests.api.tools import PATIENCE, Hold, eventually
from tests.core.workflows.functions import BROKEN
from tests.core.workflows.tools import failures, inside

from taskorch import (
    DependencyFailedError,
    Task,
    TaskOrchestrator,
    TaskState,
    Workflow,
)
from taskorch.errors import AnswerRefusedError

#: By what numbers are multiplied, and which there are.
NOW: dict[str, Any] = {}
#: What was called, in order.
CALLED: list[Any] = []


@pytest.fixture(autouse=True)
def _as_at_first():
    NOW.clear()
    NOW.update(factor=2, items=[1, 2, 3], ask="nowhere")
    CALLED.clear()


def source() -> list[int]:
    return list(NOW["items"])


def scale(n: int) -> int:
    CALLED.append(n)
    if f"scale {n}" in BROKEN:
        raise ValueError(n)
    return n * NOW["factor"]


def scaled() -> Workflow:
    wf = Workflow("w")
    numbers = wf.map(scale, wf.task(source, id="source"), id="scale")
    wf.task(list, numbers, id="all")
    return wf


def stale(orch: Any) -> set[str]:
    return {status.task_id for status in orch.tasks() if status.stale}


def value(orch: TaskOrchestrator, name: str) -> Any:
    """The result of the latest run of a task, once there is nothing left to do."""
    assert orch.wait(PATIENCE)
    return orch.handle(name).result(PATIENCE)


def answer(orch: TaskOrchestrator, choice: str = "approve") -> Any:
    """Answer the question that is open, or will be, and give it."""
    eventually(lambda: len(orch.questions()) == 1)
    (question,) = orch.questions()
    question.answer(choice, by="ada")
    return question


# ------------------------------------------------------------------------------ maps


@pytest.mark.parametrize("name", ["scale", "source"])
@pytest.mark.parametrize("downstream", [None, True, False])
def test_a_map_that_is_run_again_makes_its_calls_again(orch, name, downstream):
    """The function that it calls may be mended."""
    orch.workflows.start(scaled(), id="r").result(PATIENCE)
    for factor in (100, 1_000):
        NOW["factor"] = factor
        orch.rerun_task(f"r/{name}", downstream=downstream)
        assert orch.wait(PATIENCE)
        orch.workflows.restart("r")
        new = [factor, 2 * factor, 3 * factor]
        assert value(orch, "r/all") == value(orch, "r/scale") == new
        assert value(orch, "r/scale/0") == factor
        assert not stale(orch)


def test_calls_that_are_run_again_make_their_map_stale(orch):
    run = orch.workflows.start(scaled(), id="r")
    run.result(PATIENCE)
    NOW["factor"] = 100
    orch.change_tasks("rerun", ids="r/scale/*")
    assert value(orch, "r/scale") == [2, 4, 6]
    assert stale(orch) == {"r/scale", "r/all"}
    assert set(run.status().stale) == {"scale", "all"}
    CALLED.clear()
    orch.workflows.restart("r")
    assert value(orch, "r/all") == [100, 200, 300]
    # It was stale, and not to be made anew: it has collected what was there.
    assert CALLED == []
    assert not stale(orch)


def test_one_call_that_is_run_again_takes_its_map_along(orch):
    """And the map, once it is run again itself, makes all of them again."""
    orch.workflows.start(scaled(), id="r").result(PATIENCE)
    NOW["factor"] = 100
    orch.rerun_task("r/scale/1")
    assert value(orch, "r/all") == [2, 200, 6]
    assert sorted(CALLED) == [1, 2, 2, 3]
    orch.rerun_task("r/scale")
    assert value(orch, "r/all") == [100, 200, 300]


def test_what_a_map_does_not_make_any_more_is_no_part_of_the_run(orch):
    """A call that failed for an item that is gone does not fail it for ever."""
    BROKEN.add("scale 3")
    run = orch.workflows.start(scaled(), id="r")
    assert list(failures(run)) == ["scale/2"]
    NOW["items"] = [1, 2]
    orch.rerun_task("r/source")
    assert run.result(PATIENCE)["all"] == [2, 4]
    assert set(run.handles) == {"source", "scale", "scale/0", "scale/1", "all"}
    assert run.status().state is TaskState.COMPLETED
    # It is there still, and says so.
    assert stale(orch) == {"r/scale/2"}
    said = str(orch.explain("r/scale/2"))
    assert "r/scale had added r/scale/2, and was run again since, as r/scale~2" in said


def test_a_map_that_failed_makes_again_what_failed_and_nothing_else(orch):
    BROKEN.add("scale 2")
    run = orch.workflows.start(scaled(), id="r")
    (error,) = failures(run).values()
    assert isinstance(error, ValueError)
    CALLED.clear()
    for _ in range(2):
        # It is tried again each time, and only by that.
        orch.rerun_task("r/scale")
        assert isinstance(run.handles["scale"].exception(), DependencyFailedError)
        assert orch.wait(PATIENCE)
    assert CALLED == [2, 2]
    BROKEN.clear()
    orch.rerun_task("r/scale")
    assert run.result(PATIENCE)["all"] == [2, 4, 6]
    assert CALLED == [2, 2, 2]


# ------------------------------------------------------------------------- questions


def gate(n: int) -> Any:
    text = f"load {n}?" if NOW["ask"] == "in the text" else "load it?"
    details = {"n": n} if NOW["ask"] == "in the details" else {}
    asked = inside().add(Task.question(text, id="sign-off", details=details))
    if NOW.get("fails"):
        asked.result()
        raise OSError
    return asked


def load(n: int) -> str:
    return f"loaded {n}"


def approved() -> Workflow:
    wf = Workflow("w")
    n = wf.task(total, id="extract")
    wf.task(load, n, id="load", after=[wf.task(gate, n, id="gate")])
    return wf


def total() -> int:
    if "hold" in NOW:
        NOW["hold"]()
    return sum(NOW["items"])


@pytest.mark.parametrize("ask", ["in the text", "in the details", "nowhere"])
@pytest.mark.parametrize("name", ["extract", "gate"])
def test_who_has_approved_is_asked_again_by_a_re_run(orch, ask, name):
    """However the question says what it is about: an answer is for what was asked."""
    NOW["ask"] = ask
    orch.workflows.start(approved(), id="r")
    answer(orch)
    assert value(orch, "r/load") == "loaded 6"
    NOW["items"] = [999_999]
    orch.rerun_task(f"r/{name}")
    eventually(orch.questions)
    assert orch.get_task_status("r/load").state is not TaskState.COMPLETED
    question = answer(orch)
    assert question.id == "r/sign-off~2"
    if name == "extract":
        assert ask != "in the text" or question.text == "load 999999?"
        assert ask != "in the details" or question.details == {"n": 999_999}
        assert value(orch, "r/load") == "loaded 999999"
    assert not stale(orch)


def test_a_question_about_old_data_is_taken_back(orch):
    """What is open when its data change is not answered any more."""
    orch.workflows.start(approved(), id="r")
    eventually(orch.questions)
    (old,) = orch.questions()
    NOW["items"] = [5]
    orch.rerun_task("r/extract")
    eventually(lambda: [q.id for q in orch.questions()] == ["r/sign-off~2"])
    assert orch.get_task_status(old.id + "~1").state is TaskState.CANCELLED
    with pytest.raises(AnswerRefusedError, match="r/gate~2 runs instead"):
        # Who still has it before them does not answer the new one.
        old.answer("approve", by="ada")
    answer(orch)
    assert value(orch, "r/load") == "loaded 5"


def test_an_attempt_asks_nobody_again(tmp_path):
    """A program that was interrupted goes on: the answer is that of its question."""
    path = tmp_path / "runs.db"
    NOW["ask"] = "in the text"
    with TaskOrchestrator(journal=path) as orch:
        orch.workflows.start(approved(), id="r")
        answer(orch)
        value(orch, "r/load")
        NOW["items"] = [7]
        orch.rerun_task("r/extract")
        eventually(orch.questions)
        orch.stop(drain=False)
    with TaskOrchestrator(journal=path) as orch:
        eventually(lambda: orch.get_task_status("r/gate").attempts == 2)
        question = answer(orch)
        assert (question.id, question.text) == ("r/sign-off~2", "load 7?")
        assert value(orch, "r/load") == "loaded 7"
        assert not orch.questions()


# ------------------------------------------------------------------- what tasks add


def adds(n: int) -> list[Any]:
    """Adds a task, and one that adds another."""
    run = inside()
    handles = [run.task(scale, n, id="part"), run.task(adds_one, n, id="inner")]
    found = [handle.result() for handle in handles]
    if "adds" in BROKEN:
        raise OSError
    return found


def adds_one(n: int) -> int:
    return inside().task(scale, n + 1).result()


def adding(**options: Any) -> Workflow:
    wf = Workflow("w")
    wf.task(adds, wf.task(total, id="n"), id="adds", **options)
    return wf


def test_what_a_task_adds_is_made_again_with_it(orch):
    orch.workflows.start(adding(), id="r").result(PATIENCE)
    NOW["factor"] = 10
    orch.rerun_task("r/adds")
    assert value(orch, "r/adds") == [60, 70]
    NOW["items"] = [1]
    orch.rerun_task("r/n")
    assert value(orch, "r/adds") == [10, 20]
    assert not stale(orch)
    # What is deep below makes stale what had asked for it, and so on.
    orch.rerun_task("r/inner/scale", downstream=False)
    assert orch.wait(PATIENCE)
    assert stale(orch) == {"r/inner~3", "r/adds~3"}


def test_a_map_that_runs_collects_the_latest_run_of_each_call(orch):
    hold = NOW["hold"] = Hold()
    BROKEN.add("scale 1")
    wf = Workflow("w")
    wf.map(held, [1, 2], id="m")
    run = orch.workflows.start(wf, id="r")
    hold.wait()
    assert run.handles["m/0"].exception(PATIENCE) is not None
    BROKEN.clear()
    orch.rerun_task("r/m/0", downstream=False)
    hold.release()
    assert run.result(PATIENCE)["m"] == [2, 4]
    assert not stale(orch)


def held(n: int) -> int:
    if n == 2:
        NOW["hold"]()
    return scale(n)


def share() -> int:
    return inside().task(scale, 1, id="shared").result()


def test_two_that_add_the_same_come_to_rest(orch):
    wf = Workflow("w")
    for name in "ab":
        wf.task(share, id=name)
    run = orch.workflows.start(wf, id="r")
    run.result(PATIENCE)
    for name, factor in (("a", 10), ("b", 20), ("a", 30)):
        NOW["factor"] = factor
        orch.rerun_task(f"r/{name}")
        assert orch.wait(PATIENCE)
        orch.workflows.restart("r")
        assert value(orch, "r/a") == value(orch, "r/b") == value(orch, "r/shared")
        assert value(orch, f"r/{name}") == factor
        assert not run.status().stale


def test_what_an_earlier_taskorch_has_added_is_made_again(tmp_path):
    """It did not say who had."""
    path = tmp_path / "runs.db"
    wf = Workflow("w")
    wf.task(adds_when_told, id="a")
    with TaskOrchestrator(journal=path) as orch:
        run = orch.workflows.start(wf, id="r")
        run.result(PATIENCE)
        old = Task.call(scale, 1, id="r/added", metadata={"added": True})
        # What those have kept is of the run by its id.
        (added,) = orch._rt.submit_tasks([old], run="r")
        assert added.result(PATIENCE) == 2
    NOW.update(factor=10, adds=True)
    with TaskOrchestrator(journal=path) as orch:
        assert set(orch.workflows.get("r").handles) == {"a", "added"}
        orch.rerun_task("r/a")
        assert value(orch, "r/a") == 10
        assert value(orch, "r/added") == 10


def adds_when_told() -> int | None:
    return inside().task(scale, 1, id="added").result() if NOW.get("adds") else None


# --------------------------------------------------------- what is asked for within


def asks() -> int:
    return 1 + NOW["orch"].submit_task(Task.call(scale, 1, id="other")).result()


def returns() -> Any:
    return NOW["orch"].submit_task(Task.call(scale, 1, id="other"))


def starts_another() -> int:
    wf = Workflow("sub")
    wf.task(scale, 1, id="other")
    return NOW["orch"].workflows.start(wf, id="sub").result()["other"]


async def awaits() -> int:
    return await NOW["orch"].submit_task(Task.call(scale, 1, id="other"))


@pytest.mark.parametrize("fn", [asks, returns, starts_another, awaits])
def test_what_has_asked_for_a_result_is_stale_with_it(orch, fn):
    """And a re-run of it submits anew what it had submitted by name."""
    NOW["orch"] = orch
    name = "sub/other" if fn is starts_another else "other"
    first = orch.submit_task(Task.call(fn, id="x")).result(PATIENCE)
    orch.submit_task(Task.call(load, 1, after=["x"], id="y"))
    NOW["factor"] = 10
    orch.rerun_task(name, downstream=False)
    assert orch.wait(PATIENCE)
    assert stale(orch) == {"x", "y"}
    NOW["factor"] = 20
    orch.rerun_task("x", downstream=True)
    assert value(orch, "x") == first + 18
    assert value(orch, name) == 20
    assert orch.handle("y").task_id == "y~2"
    assert not stale(orch)


def asks_for_the_last() -> Any:
    return NOW["orch"].handle("x/last").result()


@pytest.mark.parametrize("how", ["rerun_task", "restart"])
def test_what_stands_before_the_task_that_it_asked_is_run_again(orch, how):
    NOW["orch"] = orch
    wf = Workflow("w")
    wf.task(asks_for_the_last, id="asks")
    wf.task(scale, wf.task(scale, 1, id="first"), id="last")
    assert orch.workflows.start(wf, id="x").result(PATIENCE)["asks"] == 4
    NOW["factor"] = 3
    if how == "restart":
        orch.rerun_task("x/first", downstream=False)
        orch.workflows.restart("x")
    else:
        orch.rerun_task("x/first")
    assert orch.workflows.get("x").result(PATIENCE)["asks"] == 9
    assert not stale(orch)


def test_what_others_have_submitted_is_found_as_ever(orch):
    """Only what came of an earlier run is made again by a later one."""
    NOW["orch"] = orch
    before = orch.submit_task(Task.call(scale, 1, id="other"))
    before.result(PATIENCE)
    orch.submit_task(Task.call(asks, id="x")).result(PATIENCE)
    orch.rerun_task("x").result(PATIENCE)
    assert orch.handle("other") is before
    assert CALLED == [1]


# -------------------------------------------------------------------------- of many


def test_a_restart_runs_what_was_cancelled(orch):
    wf = Workflow("w")
    wf.add(Task.wait_for("go", id="a"))
    run = orch.workflows.start(wf, id="x")
    assert orch.cancel_task("x/a")
    assert orch.wait(PATIENCE)
    orch.workflows.restart("x")
    orch.emit("go", 7)
    assert run.result(PATIENCE) == {"a": 7}
