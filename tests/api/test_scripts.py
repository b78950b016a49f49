"""Scripts that are mended, changed and run again: what their ids mean by then."""

import re
import threading
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
from tests.api.tools import PATIENCE, Hold, begun, fail

from taskorch import (
    CycleError,
    DependencyFailedError,
    DuplicateTaskError,
    InvalidTaskError,
    ProgramFailedError,
    Resources,
    RetryPolicy,
    Task,
    TaskFailedError,
    TaskOrchestrator,
    TaskState,
    TaskTimeoutError,
    UnknownTaskError,
    Workflow,
    WorkflowFailedError,
    current_context,
)
from taskorch.core.engine import _committer
from taskorch.core.engine._identity import (
    digest,
)
from taskorch.core.engine._work import task_of
from taskorch.errors import InvalidTransitionError, UnsatisfiableError

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
    """
    The next incarnation has what ended from a snapshot, all events, or the journal
    only.
    """
    if request.param == "facts":
        monkeypatch.setattr(_committer.Snapshots, "save_last", lambda *_: None)
    return 0 if request.param == "journal" else 100


def incarnation(path: Path, **options: Any) -> TaskOrchestrator:
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
    with incarnation(path) if durable else TaskOrchestrator() as orch:
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
    with incarnation(path) as orch:
        orch.submit_task(Task.call(step, "x", id="x")).result(PATIENCE)
    orch = incarnation(path)
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


def test_the_latest_run_of_earlier_incarnations(path: Path, keep: int) -> None:
    """It is found wherever it is, and so are the earlier ones."""
    BROKEN.add("x")
    with incarnation(path) as orch:
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
        with incarnation(path, keep_finished=keep) as orch:
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
    with incarnation(path) as orch:
        above = orch.submit_task(Task.call(step, "above", id="above"))
        orch.submit_task(Task.call(step, "x", above, id="x", priority=3))
        orch.submit_task(Task.call(needs, "x", id="below", after=["x"]))
        orch.submit_task(Task.call(step, "also", orch.handle("x"), id="also"))
        assert orch.wait(PATIENCE)
    BROKEN.clear()
    with incarnation(path, keep_finished=0) as orch:
        again = orch.rerun_task("x")
        assert again.task_id == "x~2"
        assert again.result(PATIENCE) == "x(above())"
        assert orch.handle("below").result(PATIENCE) == {"x": "x(above())"}
        assert orch.handle("also").result(PATIENCE) == "also(x(above()))"
    with incarnation(path, keep_finished=0) as orch:
        assert orch.handle("x").result(PATIENCE) == "x(above())"
        assert orch.handle("also").result(PATIENCE) == "also(x(above()))"


# -- what failed in an earlier incarnation ---------------------------------------------


def test_a_failure_of_an_earlier_incarnation_says_when_and_what_to_do(
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
    with incarnation(path) as orch:
        for task, _ in tasks.values():
            orch.submit_task(task)
        assert orch.wait(PATIENCE)
        assert "earlier" not in str(orch.handle("late").exception())
    BROKEN.clear()
    with incarnation(path, keep_finished=keep) as orch:
        for name, (task, kind) in tasks.items():
            error: Any = orch.submit_task(task).exception(PATIENCE)
            assert type(error) is kind
            when = (
                r"in an earlier incarnation, on 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC: "
            )
            assert re.match(when, str(error)), error
            assert f"orch.rerun_task('{name}')" in error.hint
            assert "rerun_failed=True" in error.hint
            assert str(error).count("earlier incarnation") == 1
            again: Any = orch.handle(name).exception(PATIENCE)
            assert str(again) == str(error)
    assert CALLS == ["x"]


def test_what_failed_earlier_runs_again_when_it_is_submitted_again(
    path: Path, keep: int
) -> None:
    """
    Once an incarnation, and nothing else does; a failure of this incarnation stays one.
    """

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
    with incarnation(path) as orch:
        script(orch)
        called_off = orch.submit_task(Task.call(step, "off", id="off", not_before=999))
        called_off.cancel()
        orch.wait(PATIENCE)
    assert CALLS == ["ok", "x"]
    with incarnation(path, keep_finished=keep) as orch:
        # Nobody has asked for it.
        x = script(orch)[3]
        assert isinstance(x.exception(PATIENCE), TaskFailedError)
    assert CALLS == ["ok", "x"]
    with incarnation(path, keep_finished=keep, rerun_failed=True) as orch:
        x = script(orch)[3]
        assert x.task_id == "x~2"
        assert isinstance(x.exception(PATIENCE), ZeroDivisionError)
        assert script(orch)[3].task_id == "x~2"
        assert orch.submit_task(Task.call(step, "off", id="off", not_before=999)).done()
        assert orch.wait(PATIENCE)
    assert CALLS == ["ok", "x", "x"]
    BROKEN.clear()
    with incarnation(path, keep_finished=keep, rerun_failed=True) as orch:
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
    with incarnation(path, keep_finished=keep, rerun_failed=True) as orch:
        assert [h.result(PATIENCE) for h in script(orch)] == [
            h.result() for h in handles
        ]
    assert len(CALLS) == 8


def test_a_task_that_is_twice_in_a_batch_runs_again_once(path: Path) -> None:
    """Both handles are those of the one new run."""
    BROKEN.add("x")
    with incarnation(path) as orch:
        orch.submit_task(Task.call(step, "x", id="x"))
    BROKEN.clear()
    with incarnation(path, rerun_failed=True) as orch:
        one, other = orch.submit_tasks([Task.call(step, "x", id="x") for _ in "12"])
        assert one is other
        assert one.result(PATIENCE) == "x()"
        assert orch.get_stats().state_machine.total == 2


def test_what_comes_after_one_that_is_twice_in_a_batch_runs_again(path: Path) -> None:
    """It is in the batch, too."""
    BROKEN.update("xy")
    names = "xxy"
    with incarnation(path) as orch:
        orch.submit_tasks([Task.call(step, name, id=name) for name in "xy"])
    BROKEN.clear()
    with incarnation(path, rerun_failed=True) as orch:
        handles = orch.submit_tasks([Task.call(step, n, id=n) for n in names])
        assert [handle.task_id for handle in handles] == ["x~2", "x~2", "y~2"]
        assert [handle.result(PATIENCE) for handle in handles] == ["x()", "x()", "y()"]


def test_in_memory_nothing_is_of_an_earlier_incarnation() -> None:
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
    with incarnation(path) as orch, pytest.raises(WorkflowFailedError) as caught:
        orch.workflows.start(wf(), id="x").result(PATIENCE)
    assert "earlier incarnation" not in str(caught.value)
    BROKEN.clear()
    for _ in range(2):
        with incarnation(path, keep_finished=keep) as orch:
            with pytest.raises(WorkflowFailedError) as caught:
                orch.workflows.start(wf(), id="x").result(PATIENCE)
            assert re.search(
                r"in an earlier incarnation, on 20\d\d-", str(caught.value)
            )
            for way in ("restart('x')", "orch.rerun_task(", "rerun_failed=True"):
                assert way in caught.value.hint
    with incarnation(path, keep_finished=keep, rerun_failed=True) as orch:
        run = orch.workflows.start(wf(), id="x")
        assert run.result(PATIENCE) == {"a": "a()", "b": "b(a())", "c": "c()"}
        assert run.handles["a"].task_id == "x/a~2"
        assert orch.workflows.start(wf(), id="x") is run
    assert sorted(CALLS) == ["a", "a", "b", "c"]
    with incarnation(path, keep_finished=keep, rerun_failed=True) as orch:
        assert orch.workflows.start(wf(), id="x").result(PATIENCE)["b"] == "b(a())"
        assert orch.workflows.get("x").result(PATIENCE)["c"] == "c()"
    assert sorted(CALLS) == ["a", "a", "b", "c"]


def test_a_workflow_that_failed_in_this_incarnation_stays_failed(path: Path) -> None:
    """A second start in the same incarnation is the same run, as it is."""
    BROKEN.add("a")
    with incarnation(path, rerun_failed=True) as orch:
        for _ in range(2):
            with pytest.raises(WorkflowFailedError):
                orch.workflows.start(wf(), id="x").result(PATIENCE)
    assert CALLS == ["a"]


def test_a_workflow_that_was_called_off_stays_so(path: Path) -> None:
    """Nothing of it had failed: somebody had decided."""
    orch = incarnation(path)
    orch.workflows.start(wf(), id="x")
    orch.workflows.cancel("x")
    orch.stop()
    with (
        incarnation(path, rerun_failed=True) as orch,
        pytest.raises(WorkflowFailedError),
    ):
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
    with incarnation(path) as orch:
        run = orch.workflows.start(growing(), id="x")
        orch.cancel_task("x/off")
        with pytest.raises(WorkflowFailedError):
            run.result(PATIENCE)
    BROKEN.clear()
    with incarnation(path, keep_finished=keep, rerun_failed=True) as orch:
        run = orch.workflows.start(growing(), id="x")
        assert run.handles["new"].result(PATIENCE) == "new()"
        assert run.handles["off"].task_id == "x/off~2"
        run.handles["off"].cancel()
    assert CALLS == ["new", "new"]


#: What tasks are held by, in this incarnation of the script.
HOLDS: dict[str, Hold] = {}


def held(name: str) -> str:
    """Stay until somebody lets it go."""
    HOLDS[name]()
    return name


def grow_and_stay(name: str) -> str:
    """Add a task, and stay until somebody lets it go."""
    grow(name)
    return held("grow")


def test_what_failed_earlier_runs_again_when_it_is_added_again(
    path: Path, keep: int
) -> None:
    """Nobody starts the run again: the task that had added it goes on, and adds it."""
    earlier = HOLDS["grow"] = Hold()
    BROKEN.add("new")
    flow = Workflow("growing")
    flow.task(grow_and_stay, "new", id="grow")
    orch = incarnation(path)
    orch.start()
    orch.workflows.start(flow, id="x")
    earlier.wait()
    assert orch.handle("x/new").exception(PATIENCE) is not None
    orch.stop(drain=False, timeout=0)
    BROKEN.clear()
    later = HOLDS["grow"] = Hold()
    with begun(
        lambda: incarnation(path, keep_finished=keep, rerun_failed=True)
    ) as orch:
        later.wait()
        again = orch.handle("x/new")
        earlier.release()
        later.release()
        assert (again.task_id, again.result(PATIENCE)) == ("x/new~2", "new()")
        assert orch.workflows.get("x").result(PATIENCE)["new"] == "new()"
    assert CALLS == ["new", "new"]


def test_what_runs_is_given_up_where_it_runs_again(path: Path) -> None:
    """It had begun without what failed: what goes on after that is the later run."""

    def script(orch: TaskOrchestrator) -> list[Any]:
        x = Task.call(step, "x", id="x")
        y = Task.call(held, "y", id="y", after=[x], on_parent_failure="run")
        return list(orch.submit_tasks([x, y]))

    earlier = HOLDS["y"] = Hold()
    BROKEN.add("x")
    orch = incarnation(path)
    orch.start()
    script(orch)
    earlier.wait()
    orch.stop(drain=False, timeout=0)
    BROKEN.clear()
    goes_on = HOLDS["y"] = Hold()
    with begun(lambda: incarnation(path, rerun_failed=True)) as orch:
        goes_on.wait()
        last = HOLDS["y"] = Hold()
        x, y = script(orch)
        assert [x.task_id, y.task_id] == ["x~2", "y~2"]
        for hold in (earlier, goes_on, last):
            hold.release()
        assert [x.result(PATIENCE), y.result(PATIENCE)] == ["x()", "y"]
        assert orch.wait(PATIENCE)
        assert orch.get_task_status("y~1").state is TaskState.CANCELLED


def test_a_restarted_run_is_found_by_its_id(path: Path, keep: int) -> None:
    """
    After a restart, the run and its tasks are what came of it, in every incarnation.
    """
    BROKEN.add("a")
    with incarnation(path) as orch:
        with pytest.raises(WorkflowFailedError):
            orch.workflows.start(wf(), id="x").result(PATIENCE)
        BROKEN.clear()
        orch.workflows.restart("x").result(PATIENCE)
        assert orch.workflows.start(wf(), id="x").result(PATIENCE)["a"] == "a()"
    with incarnation(path, keep_finished=keep) as orch:
        assert orch.workflows.start(wf(), id="x").result(PATIENCE)["a"] == "a()"
        assert orch.handle("x/a").result(PATIENCE) == "a()"


# -- options that change --------------------------------------------------------------


def test_other_options_are_those_of_what_is_run_again_from_the_journal(
    path: Path,
) -> None:
    """They hold for the next run, also if the task has left memory meanwhile."""
    orch = incarnation(path, keep_finished=0)
    orch.submit_task(Task.call(step, "x", id="x"))
    orch.submit_task(Task.call(step, "x", id="x", timeout=50))
    with orch:
        assert orch.wait(PATIENCE)
        assert "x" not in orch._rt.kernel.tasks
        again = orch.rerun_task("x")
        assert task_of(again._row).timeout == 50
        assert again.result(PATIENCE) == "x()"


def test_options_of_an_attempt_that_runs_hold_from_the_next(path: Path) -> None:
    """A retry policy that comes while the first attempt runs lets there be a second."""
    began, go_on = HELD["began"], HELD["go on"]
    with incarnation(path) as orch:
        first = orch.submit_task(Task.call(hold_and_fail_once, id="x"))
        assert began.wait(PATIENCE)
        orch.submit_task(
            Task.call(hold_and_fail_once, id="x", retry=RetryPolicy(2, base=0))
        )
        go_on.set()
        assert first.result(PATIENCE) == "at last"
        assert orch.get_task_status("x").attempts == 2


HELD = {"began": threading.Event(), "go on": threading.Event()}


def hold_and_fail_once() -> str:
    """Wait to be let go; the first attempt fails."""
    HELD["began"].set()
    HELD["go on"].wait(PATIENCE)
    if current_context().attempt == 1:
        raise ConnectionError
    return "at last"


def test_priorities_take_effect_at_once() -> None:
    """A queued task moves; one that somebody has moved by hand stays there."""
    with TaskOrchestrator(concurrency=1) as orch:
        hold = Hold()
        orch.submit(hold)
        hold.wait()
        for name in "abc":
            orch.submit_task(Task.call(step, name, id=name))
        orch.submit_task(Task.call(step, "c", id="c", priority=5))
        orch.set_priority("b", 9)
        orch.submit_task(Task.call(step, "b", id="b", timeout=60))
        hold.release()
        assert orch.wait(PATIENCE)
    assert CALLS == ["b", "c", "a"]


def test_options_that_nobody_could_meet_are_refused_whole() -> None:
    """With them the batch, and nothing has changed."""
    with TaskOrchestrator(resources={"cpu": 1}) as orch:
        hold = Hold()
        orch.submit(hold)
        x = Task.call(step, "x", id="x", after=[orch.submit(hold)])
        orch.submit_task(x)
        too_much = attrs.evolve(x, resources=Resources(cpu=9), timeout=3)
        with pytest.raises(UnsatisfiableError):
            orch.submit_tasks([Task.call(step, "new", id="new"), too_much])
        with pytest.raises(UnknownTaskError):
            orch.handle("new")
        assert len(orch.get_task_status("x").history) == 1
        hold.release()


def test_a_deadline_that_has_passed_ends_it(path: Path) -> None:
    """Seconds count from the first submission."""
    orch = incarnation(path)
    orch.submit_task(Task.call(step, "x", id="x"))
    x = Task.call(step, "x", id="x", deadline=1e-6)
    with pytest.raises(TaskTimeoutError):
        orch.submit_task(x).result(PATIENCE)
    orch.stop()
    with incarnation(path) as orch:
        assert isinstance(orch.submit_task(x).exception(PATIENCE), TaskTimeoutError)
    assert CALLS == []


def both(name: str, *tasks: Task[Any]) -> list[Any]:
    """An option of several."""
    return [getattr(task, name) for task in tasks]


# -- other content --------------------------------------------------------------------


def script_of_differences() -> list[tuple[Task[Any], Task[Any], list[str]]]:
    """What was submitted, what is, and what the error says."""
    program = partial(Task.program, id="x")
    return [
        (
            Task.call(step, "a", 1, id="x"),
            Task.call(step, "a", 2, id="x"),
            ["args[1] was 1, and is 2"],
        ),
        (
            Task.call(step, "a", id="x"),
            Task.call(step, "a", 2, id="x"),
            ["args was ('a',), and is ('a', 2)"],
        ),
        (
            Task.call(step, kwargs={"name": "a"}, id="x"),
            Task.call(needs, kwargs={"other": "a"}, id="x"),
            [
                "type was 'step', and is 'needs'",
                "function was ",
                ".needs",
                "kwargs['name'] was 'a', and is missing",
            ],
        ),
        (
            Task("t", {"path": ["a", {"b": 1}], "same": 0}, id="x"),
            Task("t", {"path": ["a", {"b": "1\n" * 99}], "same": 0}, id="x"),
            [r"payload['path'][1]['b'] was 1, and is '1\n1\n", "…"],
        ),
        (
            program(["ls"], env={"TOKEN": "secret", "A": "1"}, stdin="secret"),
            program(["ls", "-l"], env={"TOKEN": "other", "A": "1"}, stdin="none"),
            [
                "args was ('ls',), and is ('ls', '-l')",
                "env['TOKEN'] was a value that",
                "stdin was a value that is not shown, and is a value that is not shown",
            ],
        ),
        (
            Task("t", id="x", after=["above"]),
            Task("t", id="x", on_parent_failure="skip", idempotency_key="k"),
            [
                "after was ['above'], and is []",
                "on_parent_failure was 'block', and is",
                "idempotency_key was None, and is 'k'",
            ],
        ),
        (
            Task("t", list(range(20)), id="x"),
            Task("t", list(range(1, 21)), id="x"),
            ["payload[0] was 0, and is 1", "and 14 more"],
        ),
    ]


@pytest.mark.parametrize("number", range(7))
@pytest.mark.parametrize("durable", [False, True])
def test_other_content_is_told_by_its_fields(
    number: int, durable: bool, path: Path
) -> None:
    """What it was and what it is, in a line each; no values of an environment."""
    old, new, said = script_of_differences()[number]
    with incarnation(path) if durable else TaskOrchestrator() as orch:
        orch.agent("a", capabilities={"t"})(lambda task, context: task.payload)
        orch.submit_task(Task.call(step, "above", id="above"))
        orch.submit_task(old)
        assert orch.wait(PATIENCE)
    if durable:
        orch = incarnation(path, keep_finished=0)
        orch.agent("a", capabilities={"t"})(lambda task, context: task.payload)
    with orch if durable else TaskOrchestrator() as orch:
        if not durable:
            orch.agent("a", capabilities={"t"})(lambda task, context: task.payload)
            orch.submit_task(Task.call(step, "above", id="above"))
            orch.submit_task(old)
        with pytest.raises(DuplicateTaskError) as caught:
            orch.submit_task(new)
        text = str(caught.value)
        assert text.startswith("the id 'x' is taken by a task with other content: ")
        for part in said:
            assert part in text
        assert "secret" not in text
        assert "\n" not in text
        # Only what has ended can be replaced.
        hints = ("replace=True", "orch.cancel_task('x')")
        assert any(each in caught.value.hint for each in hints)
        assert "another id" in caught.value.hint
        assert {row[0] for row in caught.value.differences} == {"x"}
        assert caught.value.differences[0][1:]


def test_another_task_replaces_what_has_ended(path: Path, keep: int) -> None:
    """As its next run, with what waits for it; said again, it is the same."""
    with incarnation(path) as orch:
        orch.submit_task(Task.call(step, "x", id="x", idempotency_key="k"))
        BROKEN.add("y")
        orch.submit_task(Task.call(step, "y", id="y"))
        orch.submit_task(Task.call(needs, "y", id="below", after=["y"]))
        assert orch.wait(PATIENCE)
    for number in range(3):
        with incarnation(path, keep_finished=keep) as orch:
            x = Task.call(step, "x", 2, id="x", idempotency_key="k")
            y = Task.call(step, "z", Task.call(step, id="x"), id="y")
            if not number:
                with pytest.raises(DuplicateTaskError):
                    orch.submit_task(x)
            again = orch.submit_task(x, replace=True)
            assert again.task_id == "x~2"
            assert again.result(PATIENCE) == "x(2)"
            orch.submit_task(y, replace=True)
            assert orch.handle("y").result(PATIENCE) == "z(x(2))"
            assert orch.handle("below").result(PATIENCE) == {"y": "z(x(2))"}
            assert orch.submit_task(x).result(PATIENCE) == "x(2)"
            key = Task.call(step, "x", 2, idempotency_key="k")
            assert orch.submit_task(key).task_id == "x~2"
            with pytest.raises(DuplicateTaskError, match=r"args was \('x', 2\)"):
                orch.submit_task(Task.call(step, "x", id="x"))
            assert orch.get_task_status("x~1").result == "x()"
    assert CALLS == ["x", "y", "x", "z"]


def test_what_has_left_memory_is_replaced_too() -> None:
    """Without a journal, it is known only that it was another."""
    with TaskOrchestrator(keep_finished=0) as orch:
        orch.submit_task(Task.call(step, "x", id="x")).result(PATIENCE)
        other = Task.call(step, "x", 2, id="x")
        with pytest.raises(DuplicateTaskError, match="left memory") as caught:
            orch.submit_task(other)
        assert caught.value.differences == ()
        again = orch.submit_task(other, replace=True)
        assert again.result(PATIENCE) == "x(2)"
        assert orch.submit_task(other).task_id == "x~2"


def test_what_has_not_ended_is_not_replaced() -> None:
    """It says to cancel it first; then it is."""
    with TaskOrchestrator() as orch:
        orch.submit_task(Task.call(step, "x", id="x", not_before=999))
        other = Task.call(step, "y", id="x")
        with pytest.raises(InvalidTransitionError, match="x is pending") as caught:
            orch.submit_task(other, replace=True)
        assert "orch.cancel_task('x')" in caught.value.hint
        orch.cancel_task("x")
        assert orch.submit_task(other, replace=True).result(PATIENCE) == "y()"


def test_all_that_differs_in_a_batch_is_told() -> None:
    """Not the first only."""
    with TaskOrchestrator() as orch:
        for number in range(9):
            orch.submit_task(Task.call(step, "x", number, id=f"x{number}"))
        other = [Task.call(step, "y", n, id=f"x{n}") for n in range(9)]
        with pytest.raises(DuplicateTaskError) as caught:
            orch.submit_tasks(other)
        assert "the id 'x0' is taken" in str(caught.value)
        assert "and so are 3 more" in str(caught.value)
        assert caught.value.differences[8] == ("x8", "args[0]", "'x'", "'y'")
        assert caught.value.differences[0][0] == caught.value.task_id == "x0"


# -- workflows that change ------------------------------------------------------------


def test_a_workflow_that_has_changed(path: Path, keep: int) -> None:
    """Options are taken, new tasks join, others are named; what is gone is refused."""

    def build(**options: Any) -> Workflow:
        flow = Workflow("sums")
        a = flow.task(step, "a", id="a")
        flow.task(step, "b", a, id="b", **options)
        return flow

    orch = incarnation(path)
    orch.workflows.start(build(), id="x")
    orch.stop()
    with incarnation(path, keep_finished=keep) as orch:
        run = orch.workflows.start(build(priority=3, timeout=9), id="x")
        assert run.result(PATIENCE)["b"] == "b(a())"
        more = build(priority=3, timeout=9)
        more.task(step, "c", more["b"], id="c")
        assert orch.workflows.start(more, id="x") is run
        assert run.result(PATIENCE)["c"] == "c(b(a()))"
        assert run.status().tasks["c"] == "completed"
    with incarnation(path, keep_finished=keep) as orch:
        other = Workflow("sums")
        a = other.task(step, "A", id="a")
        other.task(step, "b", a, 2, id="b")
        other.task(step, "c", other["b"], id="c")
        with pytest.raises(DuplicateTaskError) as caught:
            orch.workflows.start(other, id="x")
        text = str(caught.value)
        assert text.startswith("the id 'x' is that of a run of another workflow: ")
        assert "task 'a': args[0] was 'a'" in text
        assert "task 'b': args was" in text
        assert "'c'" not in text
        with pytest.raises(DuplicateTaskError, match="this one has not: 'c'") as caught:
            orch.workflows.start(build(), id="x")
        assert "another id for the run" in caught.value.hint
    assert CALLS == ["a", "b", "c"]


def test_other_options_are_no_move(path: Path) -> None:
    """What a history and an explanation say of a task that is held is still the reason."""
    orch = incarnation(path)
    with orch:
        orch.submit_task(Task.wait_for("never", id="x"))
        assert orch.get_task_status("x").state == "blocked"
        before = str(orch.explain("x", estimates=False))
        orch.submit_task(Task.wait_for("never", id="x", metadata={"n": 1}))
        assert str(orch.explain("x", estimates=False)) == before
        history = orch.get_task_status("x").history
        assert history[-1].detail == "options changed: metadata"
        assert history[-1].state == history[-2].state
        assert [s.task_id for s in orch.tasks(older_than=0)] == ["x"]
        orch.cancel_task("x")


def test_a_task_does_not_wait_for_a_run_of_its_own() -> None:
    """The run after that would wait for the one that it replaces, and so for itself."""
    with TaskOrchestrator() as orch:
        first = orch.submit_task(Task.call(int, "1", id="t"))
        assert first.result(PATIENCE) == 1
        assert orch.rerun_task("t").result(PATIENCE) == 1
        for own in ("t", "t~1", "t~2", first):
            with pytest.raises(CycleError, match="waits for itself"):
                orch.submit_task(Task.call(int, "2", id="t", after=[own]), replace=True)
        with pytest.raises(CycleError, match="waits for itself"):
            orch.submit_task(Task.call(abs, first, id="t"), replace=True)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, True),
        (1, 1.0),
        (0.0, -0.0),
        ("1", 1),
        ((1, 2), [1, 2]),
        ({1}, {True}),
        ({1: 0}, {True: 0}),
        ({"a": [1]}, {"a": [1.0]}),
        (frozenset({1}), {1}),
    ],
)
@pytest.mark.parametrize("keeps", [True, False])
def test_what_python_takes_for_equal_may_be_another_payload(
    path: Path, one: Any, other: Any, keeps: bool
) -> None:
    with TaskOrchestrator(journal=path if keeps else None) as orch:
        first = orch.submit_task(Task.call(repr, one, id="t"))
        assert orch.submit_task(Task.call(repr, one, id="t")) is first
        assert first.result(PATIENCE) == repr(one)
        with pytest.raises(DuplicateTaskError, match="args"):
            orch.submit_task(Task.call(repr, other, id="t"))
        again = orch.submit_task(Task.call(repr, other, id="t"), replace=True)
        assert again.result(PATIENCE) == repr(other)


def test_the_order_of_names_is_no_other_payload() -> None:
    with TaskOrchestrator() as orch:
        first = orch.submit_task(Task.call(dict, {"a": 1, "b": 2}, id="t"))
        again = Task.call(dict, {"b": 2, "a": 1}, id="t")
        assert orch.submit_task(again) is first


def test_an_id_beside_a_key_that_are_of_two_tasks() -> None:
    with TaskOrchestrator() as orch:
        orch.submit_task(Task.call(abs, 1, idempotency_key="k"))
        orch.submit_task(Task.call(abs, 2, id="two"))
        with pytest.raises(DuplicateTaskError, match="'two'"):
            orch.submit_task(Task.call(abs, 1, id="two", idempotency_key="k"))


def test_what_is_blocked_by_an_earlier_failure_says_when_that_was(path: Path) -> None:
    def tasks() -> list[Task]:
        boom = Task.call(divmod, 1, 0, id="boom")
        return [boom, Task.call(abs, boom, id="low")]

    with TaskOrchestrator(journal=path) as orch:
        orch.submit_tasks(tasks())
        orch.wait(PATIENCE)
    with TaskOrchestrator(journal=path) as orch:
        _, low = orch.submit_tasks(tasks())
        error = low.exception(PATIENCE)
        assert isinstance(error, DependencyFailedError)
        assert "in an earlier incarnation, on 20" in error.hint
        assert "rerun_task('boom')" in error.hint
        assert "rerun_failed=True" in error.hint


def of_module(*_args: object) -> None:
    """Found by its name, as most functions of tasks."""


def test_of_calls_each_part_makes_them_another():
    """Those without arguments are not pickled each time; with them, they are."""
    calls = [
        Task.call(fn, *args, executor=executor, **options)
        for fn in (of_module, both)
        for args in ((), (1,), (True,))
        for executor in (None, "thread")
        for options in ({}, {"type": "t"}, {"join": "any"}, {"idempotency_key": "k"})
    ]
    above = [(), ("a",), ("a", "b")]

    found = [digest(task, after) for task in calls for after in above]

    assert len(set(found)) == len(found)
    assert found == [digest(task, after) for task in calls for after in above]
    assert digest(calls[0], ("b", "a~2", "a")) == digest(calls[0], ("a", "b"))


def test_calls_of_functions_that_nothing_can_find_are_never_the_same():
    """Two of the same name may be two functions, with arguments and without."""
    here = [Task.call(lambda *_: None, *args) for args in ((), (1,))]

    assert [digest(task, ()) for task in here] == [None, None]
