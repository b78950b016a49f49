"""Runs on a durable orchestrator: a program that is run again means the same run."""

import time
from pathlib import Path

import pytest
from tests.integration.tools import PATIENCE, eventually, in_loop
from tests.workflows.functions import BROKEN, CALLS, add, echo, step, total
from tests.workflows.tools import failures

from taskorch import (
    DuplicateTaskError,
    NotRunningError,
    RetryPolicy,
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
from taskorch.reading import JournalReader


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


@pytest.mark.parametrize(
    ("keep_finished", "downstream", "asked_for"),
    [(100, None, True), (0, None, False), (0, True, True), (0, False, True)],
)
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
    with life(path, keep_finished=keep_finished) as orch:
        run = orch.workflows.start(with_clean_up(**terms), id="x")
        assert run.handles["last"].result(PATIENCE) == "last(sum(None))"
        assert run.handles["middle"].status.state is TaskState.BLOCKED
        assert not any(work.status.stale for work in run.handles.values())
    BROKEN.clear()
    with life(path, keep_finished=keep_finished) as orch:
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
    with life(path, keep_finished=keep_finished) as orch:
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
    with life(path, keep_finished=keep_finished) as orch:
        assert set(orch.workflows.status("x").stale) == {"sum", "last"}
        orch.workflows.restart("x")
        result = orch.workflows.get("x").result(PATIENCE)["last"]
        assert result == "last(sum(middle(first())))"


def test_it_is_so_for_what_a_person_completes(path):
    """Nothing is run again but what ran without that."""
    BROKEN.add("first")
    with life(path) as orch:
        run = orch.workflows.start(with_clean_up(join="finished"), id="x")
        run.handles["last"].result(PATIENCE)
        orch.decide("x/middle", "complete", result="by hand")
        assert orch.get_task_status("x/sum").stale
        orch.rerun_task("x/sum")
        assert orch.handle("x/last").result(PATIENCE) == "last(sum(by hand))"


@pytest.mark.parametrize("keep_finished", [100, 0], ids=["in memory", "in the journal"])
def test_what_ended_late_and_did_not_matter_makes_nothing_stale(path, keep_finished):
    BROKEN.add("first")
    wf = with_clean_up(join="finished")
    wf.task(step, "quick", id="quick")
    wf.task(step, "any", id="any", after=["quick", "middle"], join="any")
    with life(path, keep_finished=keep_finished) as orch:
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
