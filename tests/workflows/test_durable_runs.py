"""Runs on a durable orchestrator: a program that is run again means the same run."""

from pathlib import Path

import pytest
from tests.integration.tools import PATIENCE, eventually, in_loop
from tests.workflows.functions import BROKEN, CALLS, add, echo, step, total
from tests.workflows.tools import failures

from taskorch import (
    DuplicateTaskError,
    NotRunningError,
    Task,
    TaskOrchestrator,
    TaskState,
    UnknownTaskError,
    Workflow,
    WorkflowFailedError,
    current_context,
)
from taskorch.errors import WouldBlockError
from taskorch.model import Reference
from taskorch.policies import PerformanceRouter


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


def life(path: Path, **options) -> TaskOrchestrator:
    return TaskOrchestrator(journal=path, durability="process", **options)


def build() -> Workflow:
    wf = Workflow("sums")
    a = wf.task(step, "a", id="a")
    b = wf.task(step, "b", a, id="b")
    wf.task(step, "c", [b, a], id="c", kwargs={})
    return wf


def build_sum() -> Workflow:
    wf = Workflow("sums")
    parts = [wf.task(add, n, id=f"part{n}") for n in range(5)]
    wf.task(total, parts, id="sum", not_before=0)
    return wf


@pytest.mark.parametrize("keep_finished", [100, 0], ids=["in memory", "in the journal"])
def test_a_program_that_is_run_again_does_nothing_twice(path, keep_finished):
    for _ in range(3):
        with life(path, keep_finished=keep_finished) as orch:
            run = orch.workflows.start(build(), id="x")
            assert run.result(PATIENCE)["b"] == "b(a())"
    assert CALLS == ["a", "b", "c"]


def test_what_was_left_goes_on(path):
    """The next life has the run, and the same program finds it."""
    orch = life(path)
    run = orch.workflows.start(build_sum(), id="x")
    orch.stop()
    with pytest.raises(NotRunningError, match="workflow x has not ended"):
        run.result(0)
    with life(path) as orch:
        left = orch.workflows.get("x")
        run = orch.workflows.start(build_sum(), id="x")
        assert run is left
        assert run.result(PATIENCE)["sum"] == 10


@pytest.mark.parametrize("keep_finished", [100, 1], ids=["in memory", "in the journal"])
def test_a_run_of_an_earlier_life_is_found_and_restarted(path, keep_finished):
    BROKEN.add("b")
    with life(path, keep_finished=100) as orch, pytest.raises(WorkflowFailedError):
        orch.workflows.start(build(), id="x").result(PATIENCE)
    BROKEN.clear()
    with life(path, keep_finished=keep_finished) as orch:
        run = orch.workflows.get("x")
        assert run.status().tasks == {"a": "completed", "b": "failed", "c": "blocked"}
        assert run.status().remaining_path == ("b", "c")
        assert list(failures(run)) == ["b"]
        orch.workflows.restart("x")
        assert run.result(PATIENCE)["b"] == "b(a())"
    with life(path) as orch:
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
def test_the_router_of_the_next_life_sees_the_tasks_as_they_were_submitted(
    path, executor
):
    """Though the document of a plain one, which is that of all like it, has no id."""
    wf = Workflow("w")
    a = wf.task(echo, 1, id="a", executor=executor)
    b = wf.task(echo, id="b", after=[a], priority=3, executor=executor)
    c = wf.task(echo, a, id="c", after=[b], executor=executor)
    wf.task(echo, id="d", after=[c], kwargs={"x": 1}, expected=2.0, executor=executor)
    with life(path, concurrency=1) as orch:
        orch.submit(until_cancelled)
        orch.workflows.start(wf, id="x")
        orch.stop(drain=False)
    router = Notes()
    with life(path, concurrency=1, router=router) as orch:
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


@pytest.mark.parametrize("keep_finished", [100, 0], ids=["in memory", "in the journal"])
def test_a_map_that_has_failed_in_this_life_is_restarted(path, keep_finished):
    """With what it was to call, and for how many at once, wherever that is kept."""
    BROKEN.add("b")
    wf = Workflow("w")
    wf.map(step, wf.task(list, "ab", id="names"), id="m", max_parallel=1)
    with life(path, keep_finished=keep_finished) as orch:
        run = orch.workflows.start(wf, id="x")
        assert list(failures(run)) == ["m/1"]
        if not keep_finished:
            eventually(lambda: not orch._rt.kernel.tasks)
        BROKEN.clear()
        orch.workflows.restart("x")
        assert run.result(PATIENCE)["m"] == ["a()", "b()"]
    assert CALLS == ["a", "b", "b"]


def test_another_workflow_under_the_id_of_an_earlier_life_is_refused(path):
    with life(path) as orch:
        orch.workflows.start(build(), id="x").result(PATIENCE)
    with life(path) as orch:
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


@in_loop
async def test_on_a_running_loop(tmp_path: Path):
    BROKEN.add("b")
    async with life(tmp_path / "runs.db") as orch:
        with pytest.raises(WouldBlockError):
            orch.workflows.start(build(), id="x")
        run = await orch.aio.workflows.start(build(), id="x")
        with pytest.raises(WorkflowFailedError):
            await run
        BROKEN.clear()
        with pytest.raises(WouldBlockError):
            orch.workflows.restart("x")
        await orch.aio.workflows.restart("x")
        assert (await run)["b"] == "b(a())"
        assert not await orch.aio.workflows.cancel("x")


@pytest.mark.parametrize("keep_finished", [100, 0], ids=["in memory", "in the journal"])
@pytest.mark.parametrize("downstream", [None, True, False])
@pytest.mark.parametrize("asked_for", [True, False])
def test_a_re_run_takes_its_run_along_in_each_life(
    path, keep_finished, downstream, asked_for
):
    with life(path) as orch:
        assert orch.workflows.start(build(), id="x").result(PATIENCE)
    with life(path, keep_finished=keep_finished) as orch:
        if asked_for:
            orch.workflows.get("x")
        orch.rerun_task("x/a", downstream=downstream)
        assert orch.wait(PATIENCE)
        run = orch.workflows.get("x")
        expected = {"a": "a~2", "b": "b", "c": "c"}
        if downstream is not False:
            expected |= {"b": "b~2", "c": "c~2"}
        latest = {name: work.task_id for name, work in run.handles.items()}
        assert latest == {name: f"x/{again}" for name, again in expected.items()}
        stale = {name for name, work in run.handles.items() if work.status.stale}
        assert stale == ({"b", "c"} if downstream is False else set())
