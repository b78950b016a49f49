"""Scripts that are mended, changed and run again: what their ids mean by then."""

import re
from pathlib import Path
from typing import Any

import pytest
from tests.integration.tools import PATIENCE, fail

from taskorch import (
    DependencyFailedError,
    InvalidTaskError,
    InvalidTransitionError,
    ProgramFailedError,
    Task,
    TaskFailedError,
    TaskOrchestrator,
    TaskTimeoutError,
    UnknownTaskError,
    Workflow,
    WorkflowFailedError,
    current_context,
)
from taskorch.runtime import _committer

BROKEN: set[str] = set()
CALLS: list[str] = []


@pytest.fixture(autouse=True)
def _clean() -> None:
    """Nothing is broken, and nothing was called."""
    BROKEN.clear()
    CALLS.clear()


@pytest.fixture(name="path")
def fixture_path(tmp_path: Path) -> Path:
    """A journal that is not there yet."""
    return tmp_path / "runs.db"


@pytest.fixture(name="keep", params=["snapshot", "facts", "journal"])
def fixture_keep(request: Any, monkeypatch: pytest.MonkeyPatch) -> int:
    """The next life has what ended from the snapshot, all facts, or the journal only."""
    if request.param == "facts":
        monkeypatch.setattr(_committer.Committer, "_save_last", lambda _: None)
    return 0 if request.param == "journal" else 100


def life(path: Path, **options: Any) -> TaskOrchestrator:
    """One run of a script."""
    return TaskOrchestrator(journal=path, durability="process", **options)


def step(name: str, *values: Any) -> str:
    """Say that it was called; fail while it is broken."""
    CALLS.append(name)
    if name in BROKEN:
        raise ZeroDivisionError(name)
    return f"{name}({','.join(map(str, values))})"


def needs(*ids: str) -> dict[str, Any]:
    """What it waited for, by the ids that were given."""
    results = current_context().results
    assert all(results[name] == results.get(name) for name in ids)
    return dict(results)


# -- an id means the latest run -------------------------------------------------------


@pytest.mark.parametrize("durable", [False, True])
def test_an_id_means_its_latest_run_everywhere(durable: bool, path: Path) -> None:
    """Submissions, handles, questions, dependencies and controls; `x~1` is the first."""
    with life(path) if durable else TaskOrchestrator() as orch:
        BROKEN.add("x")
        first = orch.submit_task(Task.call(step, "x", id="x"))
        assert isinstance(first.exception(PATIENCE), ZeroDivisionError)
        BROKEN.clear()
        again = orch.rerun_task("x")
        assert again.result(PATIENCE) == "x()"
        assert orch.submit_task(Task.call(step, "x", id="x")) is again
        assert orch.handle("x") is again
        assert orch.handle("x~2") is again
        assert orch.handle("x~1") is first
        assert orch.get_task_status("x").state == "completed"
        assert orch.get_task_status("x").task_id == "x~2"
        assert orch.get_task_status("x~1").state == "failed"
        assert "completed" in str(orch.explain("x"))
        assert "failed" in str(orch.explain("x~1"))
        # What failed is worth nothing to those who come later: they get the latest.
        given = Task.call(step, "x", id="x")
        orch.submit_task(given)
        below = [
            orch.submit_task(Task.call(needs, "x", id="by-id", after=["x"])),
            orch.submit_task(Task.call(needs, "x", id="by-task", after=[given])),
            orch.submit_task(Task.call(needs, "x", id="by-handle", after=[first])),
        ]
        for handle in below:
            assert handle.result(PATIENCE) == {"x": "x()"}
        assert orch.submit(str, first).result(PATIENCE) == "x()"
        assert CALLS == ["x", "x"]


def test_controls_act_on_the_latest_run(path: Path) -> None:
    """A re-run that has not begun is suspended, resumed, moved and cancelled by the id."""
    with life(path) as orch:
        orch.submit_task(Task.call(step, "x", id="x")).result(PATIENCE)
    orch = life(path)
    orch.rerun_task("x")
    assert orch.set_priority("x", 4)
    assert orch.get_task_status("x").priority == 4
    assert orch.suspend_task("x")
    assert orch.get_task_status("x").state == "suspended"
    assert orch.resume_task("x")
    assert not orch.cancel_task("x~1")
    with pytest.raises(InvalidTransitionError, match="x~2 is queued"):
        orch.decide("x", "fail")
    with pytest.raises(InvalidTransitionError, match="x~2 is queued"):
        orch.rerun_task("x")
    assert orch.cancel_task("x")
    assert orch.get_task_status("x").state == "cancelled"
    orch.stop()


def test_only_the_latest_run_is_run_again() -> None:
    """Runs are one line: an earlier one is there to be looked at."""
    with TaskOrchestrator() as orch:
        orch.submit_task(Task.call(step, "x", id="x")).result(PATIENCE)
        for number in (2, 3):
            again = orch.rerun_task("x")
            assert again.task_id == f"x~{number}"
            again.result(PATIENCE)
        for name in ("x~1", "x~2"):
            with pytest.raises(InvalidTransitionError, match="as x~3") as caught:
                orch.rerun_task(name)
            assert "orch.rerun_task('x')" in caught.value.hint
        assert orch.rerun_task("x~3").task_id == "x~4"
        with pytest.raises(UnknownTaskError):
            orch.handle("x~9")


def test_the_latest_run_of_earlier_lives(path: Path, keep: int) -> None:
    """It is found wherever it is, and so are the earlier ones."""
    BROKEN.add("x")
    with life(path) as orch:
        key = Task.call(step, "x", id="x", idempotency_key="a key")
        orch.submit_task(key)
        orch.submit_task(Task.call(needs, "x", id="below", after=["x"]))
        assert orch.wait(PATIENCE)
        for _ in range(2):
            orch.rerun_task("x")
            assert orch.wait(PATIENCE)
        BROKEN.clear()
        orch.rerun_task("x").result(PATIENCE)
        assert orch.handle("below").result(PATIENCE) == {"x": "x()"}
    calls = len(CALLS)
    for _ in range(2):
        with life(path, keep_finished=keep) as orch:
            task = Task.call(step, "x", id="x", idempotency_key="a key")
            assert orch.submit_task(task).result(PATIENCE) == "x()"
            assert orch.submit_task(task).task_id == "x~4"
            other = Task.call(step, "x", idempotency_key="a key")
            assert orch.submit_task(other).result(PATIENCE) == "x()"
            assert orch.get_task_status("x").result == "x()"
            assert orch.get_task_status("x~3").state == "failed"
            assert isinstance(orch.handle("x~1").exception(), TaskFailedError)
            below = Task.call(needs, "x", id="below", after=["x"])
            assert orch.submit_task(below).result(PATIENCE) == {"x": "x()"}
            more = orch.submit_task(Task.call(needs, "x", after=["x"]))
            assert more.result(PATIENCE) == {"x": "x()"}
            assert not orch.cancel_task("x")
    assert len(CALLS) == calls


def test_what_has_left_memory_is_run_again(path: Path) -> None:
    """The journal has it, with what it needs; who waits for it waits for the new run."""
    BROKEN.add("x")
    with life(path) as orch:
        above = orch.submit_task(Task.call(step, "above", id="above"))
        orch.submit_task(Task.call(step, "x", above, id="x", priority=3))
        orch.submit_task(Task.call(needs, "x", id="below", after=["x"]))
        orch.submit_task(Task.call(step, "also", orch.handle("x"), id="also"))
        assert orch.wait(PATIENCE)
    BROKEN.clear()
    with life(path, keep_finished=0) as orch:
        again = orch.rerun_task("x")
        assert again.task_id == "x~2"
        assert again.result(PATIENCE) == "x(above())"
        assert orch.handle("below").result(PATIENCE) == {"x": "x(above())"}
        assert orch.handle("also").result(PATIENCE) == "also(x(above()))"
    with life(path, keep_finished=0) as orch:
        assert orch.handle("x").result(PATIENCE) == "x(above())"
        assert orch.handle("also").result(PATIENCE) == "also(x(above()))"


# -- what failed in an earlier life ---------------------------------------------------


def test_a_failure_of_an_earlier_life_says_when_and_what_to_do(
    path: Path, keep: int
) -> None:
    """The time, `rerun_task` and `rerun_failed`, whatever the failure was."""
    tasks = {
        "x": (Task.call(step, "x", id="x"), TaskFailedError),
        "false": (Task.program(["false"], id="false"), ProgramFailedError),
        "below": (
            Task.call(step, "", after=["x"], on_parent_failure="fail", id="below"),
            DependencyFailedError,
        ),
    }
    late = Task.program(["sleep", "60"], id="late", timeout=0.01)
    tasks["late"] = late, TaskTimeoutError
    BROKEN.add("x")
    with life(path) as orch:
        for task, _ in tasks.values():
            orch.submit_task(task)
        assert orch.wait(PATIENCE)
        assert "earlier" not in str(orch.handle("late").exception())
    BROKEN.clear()
    with life(path, keep_finished=keep) as orch:
        for name, (task, kind) in tasks.items():
            error: Any = orch.submit_task(task).exception(PATIENCE)
            assert type(error) is kind
            when = r"in an earlier life, on 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC: "
            assert re.match(when, str(error)), error
            assert f"orch.rerun_task('{name}')" in error.hint
            assert "rerun_failed=True" in error.hint
            assert str(error).count("earlier life") == 1
            again: Any = orch.handle(name).exception(PATIENCE)
            assert str(again) == str(error)
    assert CALLS == ["x"]


def test_what_failed_earlier_runs_again_when_it_is_submitted_again(
    path: Path, keep: int
) -> None:
    """Once a life, and nothing else does; a failure of this life stays one."""

    def script(orch: TaskOrchestrator) -> list[Any]:
        x = Task.call(step, "x", id="x")
        return orch.submit_tasks(
            [
                Task.call(step, "ok", id="ok"),
                Task.call(step, "below", x, id="below"),
                Task.call(
                    step, "skipped", after=["x"], id="skipped", on_parent_failure="skip"
                ),
                x,
                Task.call(step, "key", x, idempotency_key="k"),
                Task.call(step, "again", x, after=[x, "below"], id="again"),
            ]
        )

    BROKEN.add("x")
    with life(path) as orch:
        script(orch)
        called_off = orch.submit_task(Task.call(step, "off", id="off", not_before=999))
        called_off.cancel()
        orch.wait(PATIENCE)
    assert CALLS == ["ok", "x"]
    with life(path, keep_finished=keep) as orch:
        # Nobody has asked for it.
        x = script(orch)[3]
        assert isinstance(x.exception(PATIENCE), TaskFailedError)
    assert CALLS == ["ok", "x"]
    with life(path, keep_finished=keep, rerun_failed=True) as orch:
        x = script(orch)[3]
        assert x.task_id == "x~2"
        assert isinstance(x.exception(PATIENCE), ZeroDivisionError)
        assert script(orch)[3].task_id == "x~2"
        assert orch.submit_task(Task.call(step, "off", id="off", not_before=999)).done()
        assert orch.wait(PATIENCE)
    assert CALLS == ["ok", "x", "x"]
    BROKEN.clear()
    with life(path, keep_finished=keep, rerun_failed=True) as orch:
        handles = script(orch)
        assert [h.result(PATIENCE) for h in handles] == [
            "ok()",
            "below(x())",
            "skipped()",
            "x()",
            "key(x())",
            "again(x())",
        ]
        names = ["ok", "below", "skipped~3", "x~3"]
        assert [handle.task_id for handle in handles[:4]] == names
    assert sorted(CALLS[3:]) == ["again", "below", "key", "skipped", "x"]
    with life(path, keep_finished=keep, rerun_failed=True) as orch:
        assert [h.result(PATIENCE) for h in script(orch)] == [
            h.result() for h in handles
        ]
    assert len(CALLS) == 8


def test_a_task_that_is_twice_in_a_batch_runs_again_once(path: Path) -> None:
    """Both handles are those of the one new run."""
    BROKEN.add("x")
    with life(path) as orch:
        orch.submit_task(Task.call(step, "x", id="x"))
    BROKEN.clear()
    with life(path, rerun_failed=True) as orch:
        one, other = orch.submit_tasks([Task.call(step, "x", id="x") for _ in "12"])
        assert one is other
        assert one.result(PATIENCE) == "x()"
        assert orch.get_stats().state_machine.total == 2


def test_in_memory_nothing_is_of_an_earlier_life() -> None:
    """`rerun_failed` changes nothing there."""
    with TaskOrchestrator(rerun_failed=True) as orch:
        task = Task.call(fail, ValueError(), id="x")
        first = orch.submit_task(task)
        assert isinstance(first.exception(PATIENCE), ValueError)
        assert orch.submit_task(task) is first


def test_rerun_failed_is_yes_or_no() -> None:
    """Anything else is refused."""
    with pytest.raises(InvalidTaskError, match="rerun_failed"):
        TaskOrchestrator(rerun_failed="yes")  # type: ignore[arg-type]


# -- workflows ------------------------------------------------------------------------


def wf() -> Workflow:
    """Two that need one, of which one is skipped if it fails."""
    flow = Workflow("sums")
    a = flow.task(step, "a", id="a")
    flow.task(step, "b", a, id="b")
    flow.task(step, "c", after=[a], id="c", on_parent_failure="skip")
    return flow


def test_a_workflow_that_failed_earlier_runs_again(path: Path, keep: int) -> None:
    """What failed and what was skipped; without being asked for, it says what to do."""
    BROKEN.add("a")
    with life(path) as orch, pytest.raises(WorkflowFailedError) as caught:
        orch.workflows.start(wf(), id="x").result(PATIENCE)
    assert "earlier life" not in str(caught.value)
    BROKEN.clear()
    for _ in range(2):
        with life(path, keep_finished=keep) as orch:
            with pytest.raises(WorkflowFailedError) as caught:
                orch.workflows.start(wf(), id="x").result(PATIENCE)
            assert re.search(r"in an earlier life, on 20\d\d-", str(caught.value))
            for way in ("restart('x')", "orch.rerun_task(", "rerun_failed=True"):
                assert way in caught.value.hint
    with life(path, keep_finished=keep, rerun_failed=True) as orch:
        run = orch.workflows.start(wf(), id="x")
        assert run.result(PATIENCE) == {"a": "a()", "b": "b(a())", "c": "c()"}
        assert run.handles["a"].task_id == "x/a~2"
        assert orch.workflows.start(wf(), id="x") is run
    assert sorted(CALLS) == ["a", "a", "b", "c"]
    with life(path, keep_finished=keep, rerun_failed=True) as orch:
        assert orch.workflows.start(wf(), id="x").result(PATIENCE)["b"] == "b(a())"
        assert orch.workflows.get("x").result(PATIENCE)["c"] == "c()"
    assert sorted(CALLS) == ["a", "a", "b", "c"]


def test_a_workflow_that_failed_in_this_life_stays_failed(path: Path) -> None:
    """A second start in the same life is the same run, as it is."""
    BROKEN.add("a")
    with life(path, rerun_failed=True) as orch:
        for _ in range(2):
            with pytest.raises(WorkflowFailedError):
                orch.workflows.start(wf(), id="x").result(PATIENCE)
    assert CALLS == ["a"]


def test_a_workflow_that_was_called_off_stays_so(path: Path) -> None:
    """Nothing of it had failed: somebody had decided."""
    orch = life(path)
    orch.workflows.start(wf(), id="x")
    orch.workflows.cancel("x")
    orch.stop()
    with life(path, rerun_failed=True) as orch, pytest.raises(WorkflowFailedError):
        orch.workflows.start(wf(), id="x").result(PATIENCE)
    assert CALLS == []


def grow(name: str) -> str:
    """Add a task that fails while it is broken."""
    run = current_context().workflow
    assert run is not None
    run.add(Task.call(step, name, id=name))
    return "grown"


def test_what_was_added_and_what_was_cancelled_run_again_too(
    path: Path, keep: int
) -> None:
    """As `restart` does: all that did not complete."""

    def growing() -> Workflow:
        flow = Workflow("growing")
        flow.task(grow, "new", id="grow")
        flow.task(step, "off", id="off", not_before=999)
        return flow

    BROKEN.add("new")
    with life(path) as orch:
        run = orch.workflows.start(growing(), id="x")
        orch.cancel_task("x/off")
        with pytest.raises(WorkflowFailedError):
            run.result(PATIENCE)
    BROKEN.clear()
    with life(path, keep_finished=keep, rerun_failed=True) as orch:
        run = orch.workflows.start(growing(), id="x")
        assert run.handles["new"].result(PATIENCE) == "new()"
        assert run.handles["off"].task_id == "x/off~2"
        run.handles["off"].cancel()
    assert CALLS == ["new", "new"]


def test_a_restarted_run_is_found_by_its_id(path: Path, keep: int) -> None:
    """After a restart, the run and its tasks are what came of it, in every life."""
    BROKEN.add("a")
    with life(path) as orch:
        with pytest.raises(WorkflowFailedError):
            orch.workflows.start(wf(), id="x").result(PATIENCE)
        BROKEN.clear()
        orch.workflows.restart("x").result(PATIENCE)
        assert orch.workflows.start(wf(), id="x").result(PATIENCE)["a"] == "a()"
    with life(path, keep_finished=keep) as orch:
        assert orch.workflows.start(wf(), id="x").result(PATIENCE)["a"] == "a()"
        assert orch.handle("x/a").result(PATIENCE) == "a()"
