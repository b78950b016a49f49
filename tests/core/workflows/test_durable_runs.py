"""Runs on a durable orchestrator: a program that is run again means the same run."""

import time
from pathlib import Path

import pytest
from tests.api.tools import PATIENCE, eventually
from tests.core.workflows.functions import BROKEN, CALLS, add, echo, step
from tests.core.workflows.tools import failures

from taskorch import (
    DuplicateTaskError,
    RetryPolicy,
    Task,
    TaskOrchestrator,
    TaskState,
    UnknownTaskError,
    Workflow,
    WorkflowFailedError,
    current_context,
)
from taskorch.ext.views import JournalReader
from taskorch.model import Reference
from taskorch.policies import PerformanceRouter


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


def incarnation(path: Path, **options) -> TaskOrchestrator:
    return TaskOrchestrator(journal=path, durability="process", **options)


def build() -> Workflow:
    wf = Workflow("sums")
    a = wf.task(step, "a", id="a")
    b = wf.task(step, "b", a, id="b")
    wf.task(step, "c", [b, a], id="c", kwargs={})
    return wf


@pytest.mark.parametrize("keep_finished", [100, 1], ids=["in memory", "in the journal"])
def test_a_run_of_an_earlier_incarnation_is_found_and_restarted(path, keep_finished):
    BROKEN.add("b")
    with (
        incarnation(path, keep_finished=100) as orch,
        pytest.raises(WorkflowFailedError),
    ):
        orch.workflows.start(build(), id="x").result(PATIENCE)
    BROKEN.clear()
    with incarnation(path, keep_finished=keep_finished) as orch:
        run = orch.workflows.get("x")
        assert run.status().tasks == {"a": "completed", "b": "failed", "c": "blocked"}
        assert run.status().remaining_path == ("b", "c")
        assert list(failures(run)) == ["b"]
        orch.workflows.restart("x")
        assert run.result(PATIENCE)["b"] == "b(a())"
    with incarnation(path) as orch:
        run = orch.workflows.start(build(), id="x")
        assert run.status().state is TaskState.COMPLETED
        assert run.handles["b"].task_id == "x/b~2"
        assert run.result(PATIENCE)["b"] == "b(a())"
    assert CALLS == ["a", "b", "b", "c"]


def until_cancelled() -> None:
    eventually(lambda: current_context().cancelled)


class Notes(PerformanceRouter):
    """What it is asked about."""

    def __init__(self) -> None:
        super().__init__()
        self.tasks: list[Task] = []

    def route(self, task, candidates, context):
        self.tasks.append(task)
        return super().route(task, candidates, context)


@pytest.mark.parametrize("executor", [None, "thread"], ids=["quick", "general"])
def test_the_router_of_the_next_incarnation_sees_the_tasks_as_they_were_submitted(
    path, executor
):
    """Though the document of a plain one, which is that of all like it, has no id."""
    wf = Workflow("w")
    a = wf.task(echo, 1, id="a", executor=executor)
    b = wf.task(echo, id="b", after=[a], priority=3, executor=executor)
    c = wf.task(echo, a, id="c", after=[b], executor=executor)
    wf.task(echo, id="d", after=[c], kwargs={"x": 1}, expected=2.0, executor=executor)
    with incarnation(path, concurrency=1) as orch:
        orch.submit(until_cancelled)
        orch.workflows.start(wf, id="x")
        orch.stop(drain=False)
    router = Notes()
    with incarnation(path, concurrency=1, router=router) as orch:
        run = orch.workflows.start(wf, id="x")
        results = run.result(PATIENCE)
    assert results == {"a": 1, "b": None, "c": 1, "d": (None, {"x": 1})}
    seen = {task.id: task for task in router.tasks}
    assert [*seen] == ["x/a", "x/b", "x/c", "x/d"]
    assert [task.priority for task in seen.values()] == [0, 3, 0, 0]
    assert [task.expected for task in seen.values()] == [None, None, None, 2.0]
    calls = [task.payload for task in seen.values()]
    assert [(*call.args, *call.kwargs.items()) for call in calls] == [
        (1,),
        (),
        (Reference("x/a"),),
        (("x", 1),),
    ]


def test_another_workflow_under_the_id_of_an_earlier_incarnation_is_refused(path):
    with incarnation(path) as orch:
        orch.workflows.start(build(), id="x").result(PATIENCE)
    with incarnation(path) as orch:
        less = Workflow("sums")
        less.task(step, "a", id="a")
        other = build()
        other.chain("a", "c")
        changed = Workflow("sums")
        changed.chain(*(changed.task(step, n, id=n) for n in "abc"))
        disjoint = Workflow("sums")
        disjoint.task(add, 1, id="z")
        for wf in (less, changed, disjoint):
            with pytest.raises(DuplicateTaskError, match="run of another") as caught:
                orch.workflows.start(wf, id="x")
            # It speaks of what the user has named.
            assert "x/" not in str(caught.value)
            assert caught.value.hint.startswith("choose another id for the run")
        with pytest.raises(UnknownTaskError):
            orch.workflows.get("y")
    assert CALLS == ["a", "b", "c"]


def with_clean_up(**terms) -> Workflow:
    """What runs though `middle` is blocked, and a task after it."""
    wf = Workflow("w")
    first = wf.task(step, "first", id="first")
    middle = wf.task(step, "middle", first, id="middle")
    wf.task(step, "last", wf.task(step, "sum", middle, id="sum", **terms), id="last")
    return wf


@pytest.mark.parametrize(
    ("keep_finished", "terms", "again"),
    [
        (100, {"join": "finished"}, "restart"),
        (100, {"on_parent_failure": "run"}, "rerun_task"),
        (0, {"on_parent_failure": "run"}, "restart"),
        (0, {"join": "finished"}, "rerun_task"),
    ],
)
def test_what_ran_without_a_blocked_task_runs_again_with_it(
    path, keep_finished, terms, again
):
    BROKEN.add("first")
    with incarnation(path, keep_finished=keep_finished) as orch:
        run = orch.workflows.start(with_clean_up(**terms), id="x")
        assert run.handles["last"].result(PATIENCE) == "last(sum(None))"
        assert run.handles["middle"].status.state is TaskState.BLOCKED
        assert not any(work.status.stale for work in run.handles.values())
    BROKEN.clear()
    with incarnation(path, keep_finished=keep_finished) as orch:
        if again == "restart":
            orch.workflows.restart("x")
        else:
            orch.rerun_task("x/first")
        results = orch.workflows.get("x").result(PATIENCE)
        assert results["last"] == "last(sum(middle(first())))"
        works = orch.workflows.get("x").handles.values()
        assert {work.task_id for work in works} == {
            "x/first~2",
            "x/middle",
            "x/sum~2",
            "x/last~2",
        }
        assert not any(work.status.stale for work in works)


@pytest.mark.parametrize("keep_finished", [100, 0], ids=["in memory", "in the journal"])
def test_what_ran_without_a_blocked_task_is_stale_once_that_goes_on(
    path, keep_finished
):
    BROKEN.add("first")
    with incarnation(path, keep_finished=keep_finished) as orch:
        run = orch.workflows.start(with_clean_up(join="finished"), id="x")
        run.handles["last"].result(PATIENCE)
        BROKEN.discard("first")
        orch.rerun_task("x/first", downstream=False)
        assert orch.handle("x/middle").result(PATIENCE)
        assert set(orch.workflows.status("x").stale) == {"sum", "last"}
        assert orch.get_task_status("x/sum").stale
        if keep_finished:
            assert "it began while x/middle was blocked" in str(orch.explain("x/sum"))
            why = str(orch.explain("x/last"))
            assert "x/sum began while x/middle was blocked" in why
    reader = JournalReader(path)
    stale = {status.task_id for status in reader.tasks() if status.stale}
    assert stale == {"x/sum", "x/last"}
    assert "it began while x/middle was blocked" in str(reader.explain("x/sum"))
    with incarnation(path, keep_finished=keep_finished) as orch:
        assert set(orch.workflows.status("x").stale) == {"sum", "last"}
        orch.workflows.restart("x")
        result = orch.workflows.get("x").result(PATIENCE)["last"]
        assert result == "last(sum(middle(first())))"


@pytest.mark.parametrize("keep_finished", [100, 0], ids=["in memory", "in the journal"])
def test_what_ended_late_and_did_not_matter_makes_nothing_stale(path, keep_finished):
    BROKEN.add("first")
    wf = with_clean_up(join="finished")
    wf.task(step, "quick", id="quick")
    wf.task(step, "any", id="any", after=["quick", "middle"], join="any")
    with incarnation(path, keep_finished=keep_finished) as orch:
        run = orch.workflows.start(wf, id="x")
        run.handles["any"].result(PATIENCE)
        run.handles["last"].result(PATIENCE)
        BROKEN.clear()
        orch.rerun_task("x/first", downstream=False)
        assert orch.handle("x/middle").result(PATIENCE)
        assert set(orch.workflows.status("x").stale) == {"sum", "last"}
    stale = {each.task_id for each in JournalReader(path).tasks() if each.stale}
    assert stale == {"x/sum", "x/last"}


def stops() -> None:
    """Run until it is cancelled."""
    CALLS.append("stops")
    while True:
        current_context().checkpoint()
        time.sleep(0.005)


def any_one(states: dict[str, TaskState]) -> bool:
    return TaskState.COMPLETED in states.values()


@pytest.mark.parametrize("journal", [True, False], ids=["journal", "no journal"])
@pytest.mark.parametrize("keep_finished", [100, 1])
def test_what_did_not_run_without_it_is_not_stale(path, keep_finished, journal):
    """One was cancelled, one let go by a function, and one waits to be tried again."""
    BROKEN.update(("first", "tries"))
    wf = with_clean_up(join="finished")
    wf.task(stops, id="stops", after=["middle"], join="finished")
    wf.task(step, "asks", id="asks", after=["quick", "middle"], join=any_one)
    wf.task(step, "quick", id="quick")
    retry = RetryPolicy(max_attempts=2, delays=(3_600,))
    wf.task(step, "tries", id="tries", after=["middle"], join="finished", retry=retry)
    options = {"journal": path, "durability": "process"} if journal else {}
    with TaskOrchestrator(keep_finished=keep_finished, **options) as orch:
        run = orch.workflows.start(wf, id="x")
        eventually(lambda: "stops" in CALLS)
        orch.cancel_task("x/stops")
        for name, state in (("tries", "retrying"), ("stops", "cancelled")):
            eventually(lambda n=name, s=state: orch.handle(f"x/{n}").status.state == s)
        for name in ("asks", "last"):
            run.handles[name].result(PATIENCE)
        BROKEN.clear()
        if journal:
            orch.rerun_task("x/first", downstream=False)
            assert orch.handle("x/middle").result(PATIENCE)
            assert set(orch.workflows.status("x").stale) == {"sum", "last"}
        else:
            orch.decide("x/middle", "complete")
            # What has left memory, nobody knows.
            stale = {"sum"} if keep_finished > 1 else set()
            assert set(orch.workflows.status("x").stale) == stale
        orch.cancel_task("x/tries")
