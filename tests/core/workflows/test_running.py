"""Runs of workflows: results, failures, status, control, and the loop."""

import asyncio
import gc
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.api.tools import PATIENCE, Hold, Recorder, in_loop
from tests.core.workflows.functions import BROKEN, CALLS, add, echo, step, total, zero
from tests.core.workflows.tools import failures

from taskorch import (
    DependencyFailedError,
    DuplicateTaskError,
    InvalidTaskError,
    NotRunningError,
    Task,
    TaskCancelledError,
    TaskOrchestrator,
    TaskState,
    UnknownTaskError,
    Workflow,
    WorkflowFailedError,
    WorkflowRun,
    current_context,
)
from taskorch.errors import (
    InvalidTransitionError,
    ReentryError,
    UnknownCapabilityError,
    WouldBlockError,
    WouldDeadlockError,
)
from taskorch.policies import (
    PerformanceRouter,
    StandardStateMachine,
    StructuralValidator,
)
from taskorch.protocols import Permit


def diamond(name: str = "d") -> Workflow:
    """A after nothing, b and c after a, d after both."""
    wf = Workflow(name)
    a = wf.task(step, "a", id="a")
    b = wf.task(step, "b", a, id="b")
    c = wf.task(step, "c", a, id="c")
    wf.task(step, "d", b, c, id="d")
    return wf


# --------------------------------------------------------------------- canvas


def test_a_chain_hands_results_on(orch):
    wf = Workflow("w")
    last = wf.task(add, 1, id="t0")
    for i in range(1, 50):
        last = wf.task(add, last, 1, id=f"t{i}")
    assert orch.workflows.start(wf).result(PATIENCE)["t49"] == 50


def test_a_group_and_what_comes_of_it(orch):
    """A group is a list; a task that takes it has all its results, in order."""
    wf = Workflow("w")
    group = [wf.task(add, n, n) for n in range(20)]
    end = wf.task(total, group, id="end")
    each = wf.task(echo, group, id="each")
    results = orch.workflows.start(wf).result(PATIENCE)
    assert results[end.id] == 380
    assert results[each.id] == [2 * n for n in range(20)]


def test_groups_in_a_chain_keep_the_order(orch):
    wf = Workflow("w")
    groups = [[wf.task(step, f"{g}{i}") for i in range(5)] for g in range(4)]
    wf.chain(*groups)
    orch.workflows.start(wf).result(PATIENCE)
    assert [name[0] for name in CALLS] == sorted(name[0] for name in CALLS)


def test_workflows_in_workflows(orch):
    """A chord of chords, three deep."""
    leaf = Workflow("leaf")
    leaf.task(total, [leaf.task(add, n) for n in (1, 2)], id="sum")
    middle = Workflow("middle")
    halves = [middle.include(leaf, name=name)[0] for name in ("left", "right")]
    middle.task(total, halves, id="sum")
    wf = Workflow("w")
    first = wf.task(step, "first")
    end = wf.include(middle, after=[first])
    wf.task(echo, end, id="end")
    results = orch.workflows.start(wf).result(PATIENCE)
    assert results["middle/left/sum"] == 3
    assert results["end"] == [6]


def test_an_empty_workflow_is_complete(orch):
    run = orch.workflows.start(Workflow("nothing"), id="n")
    assert run.result(0) == {}
    assert run.status().state is TaskState.COMPLETED
    assert run.status().percent == 100
    assert orch.workflows.get("n") is run
    assert orch.workflows.start(Workflow("nothing"), id="n") is run
    del run
    gc.collect()
    assert orch.workflows.get("n").result() == {}
    assert not orch.workflows.cancel("n")
    assert "0 of 0 tasks" in orch.workflows.get("n")._repr_html_()


def test_workers_and_programs_are_tasks_too(orch):
    @orch.agent("reviewer", capabilities={"review"})
    def review(task, context):
        return task.payload, dict(context.results)

    wf = Workflow("w")
    a = wf.program(["echo", "hi"], id="a")
    wf.add(Task("review", "a.py", after=[a], id="r"))
    run = orch.workflows.start(wf, id="x")
    results = run.result(PATIENCE)
    assert results["a"].stdout_tail == "hi\n"
    assert results["r"] == ("a.py", {"x/a": results["a"]})


def test_a_run_within_a_task(orch):
    """A task may start a workflow and wait for it: it gives its slot back meanwhile."""

    def outer() -> int:
        inner = Workflow("inner")
        inner.task(total, [inner.task(add, 1), inner.task(add, 2)], id="sum")
        return orch.workflows.start(inner).result()["sum"]

    wf = Workflow("w")
    wf.task(total, [wf.task(outer) for _ in range(8)], id="all")
    assert orch.workflows.start(wf).result(PATIENCE)["all"] == 24


def test_a_task_that_waits_for_its_own_run_is_told(orch):
    wf = Workflow("w")
    wf.task(lambda: orch.workflows.get("x").result(), id="a")
    assert isinstance(
        failures(orch.workflows.start(wf, id="x"))["a"], WouldDeadlockError
    )


def test_a_workflow_may_be_started_often_and_grow_in_between(orch):
    wf = Workflow("w")
    a = wf.task(add, 1, id="a")
    first = orch.workflows.start(wf)
    wf.task(add, a, 1, id="b")
    second = orch.workflows.start(wf)
    assert first.result(PATIENCE) == {"a": 1}
    assert second.result(PATIENCE) == {"a": 1, "b": 2}
    assert first.workflow_id != second.workflow_id
    assert second.workflow_id.startswith("w-")


def test_submission_before_the_start_waits_for_it():
    orch = TaskOrchestrator()
    run = orch.workflows.start(diamond())
    assert run.status().counts == {TaskState.PENDING: 3, TaskState.QUEUED: 1}
    with pytest.raises(TimeoutError, match="has not ended"):
        run.result(0)
    with orch:
        assert run.result(PATIENCE)["d"] == "d(b(a()),c(a()))"
    assert run.result()["d"] == "d(b(a()),c(a()))"


# -------------------------------------------------------------------- failures


def test_failures_are_named_where_they_began_and_the_rest_goes_on(orch):
    BROKEN.add("b")
    wf = diamond()
    wf.task(step, "e", wf["c"], id="e")
    run = orch.workflows.start(wf, id="x")

    with pytest.raises(
        WorkflowFailedError, match=r"1 of its 5 tasks failed: b"
    ) as caught:
        run.result(PATIENCE)

    error = caught.value
    assert list(error.failures) == ["b"]
    assert type(error.failures["b"]) is RuntimeError
    assert error.__cause__ is error.failures["b"]
    assert (error.code, bool(error.hint)) == ("workflow_failed", True)
    status = run.status()
    assert status.state is TaskState.FAILED
    assert status.tasks == {
        "a": "completed",
        "b": "failed",
        "c": "completed",
        "d": "blocked",
        "e": "completed",
    }
    assert status.counts == {
        TaskState.COMPLETED: 3,
        TaskState.FAILED: 1,
        TaskState.BLOCKED: 1,
    }
    assert status.percent == 60
    assert status.remaining_path == ("b", "d")
    assert str(status) == (
        "x is failed: 3 of 5 tasks completed, 1 failed, 1 blocked. "
        "The longest chain left has 2 tasks: b → d."
    )
    with pytest.raises(DependencyFailedError):
        run.handles["d"].result(0)


def test_many_failures_are_all_there_and_a_few_are_shown(orch):
    wf = Workflow("w")
    for i in range(10):
        wf.task(step, f"s{i}", id=f"s{i}")
        BROKEN.add(f"s{i}")
    with pytest.raises(WorkflowFailedError, match=r"10 of its 10.*…") as caught:
        orch.workflows.start(wf).result(PATIENCE)
    assert sorted(caught.value.failures) == sorted(wf)
    assert len(str(caught.value)) < 400


def test_a_failure_outside_of_the_workflow_is_named_by_what_it_blocks(orch):
    BROKEN.add("out")
    outside = orch.submit(step, "out")
    wf = Workflow("w")
    a = wf.task(echo, outside, id="a")
    wf.task(echo, a, id="b")
    run = orch.workflows.start(wf)
    found = failures(run)
    assert list(found) == ["a"]
    assert found["a"].root_causes == (outside.task_id,)
    assert run.status().state is TaskState.FAILED


def test_a_refused_task_means_that_nothing_was_started(orch):
    wf = Workflow("w")
    wf.task(step, "a")
    wf.add(Task("nobody-can", id="b"))
    with pytest.raises(UnknownCapabilityError):
        orch.workflows.start(wf, id="x")
    with pytest.raises(UnknownTaskError):
        orch.workflows.get("x")
    assert list(orch.tasks()) == []


def test_what_the_stop_left_behind():
    """In memory it is cancelled, and the run says so."""
    hold = Hold()
    wf = Workflow("w")
    a = wf.task(hold, 5, id="a")
    wf.task(echo, a, id="b")
    orch = TaskOrchestrator()
    orch.start()
    run = orch.workflows.start(wf)
    hold.wait()
    stopping = threading.Thread(target=orch.stop, kwargs={"drain": False})
    stopping.start()
    assert isinstance(run.handles["b"].exception(PATIENCE), TaskCancelledError)
    hold.release()
    found = failures(run)
    stopping.join(PATIENCE)
    assert isinstance(found["b"], TaskCancelledError)
    with pytest.raises(NotRunningError):
        orch.workflows.start(wf)


# -------------------------------------------------------------------- same ids


def test_the_same_id_is_the_same_run(orch):
    run = orch.workflows.start(diamond(), id="x")
    assert orch.workflows.start(diamond(), id="x") is run
    assert run.result(PATIENCE)
    again = orch.workflows.start(diamond(), id="x")
    assert again is run
    assert sorted(CALLS) == ["a", "b", "c", "d"]
    assert orch.workflows.get("x") is run
    assert {h.task_id for h in run.handles.values()} == {"x/a", "x/b", "x/c", "x/d"}


def test_the_same_id_for_another_workflow_is_refused(orch):
    run = orch.workflows.start(diamond(), id="x")
    less = Workflow("d")
    a = less.task(step, "a", id="a")
    other = diamond()
    other.chain("b", "c")
    for wf in (less, other, Workflow("d")):
        with pytest.raises(DuplicateTaskError):
            orch.workflows.start(wf, id="x")
    with pytest.raises(DuplicateTaskError, match=r"'d'.*another id for the run"):
        orch.workflows.start(less, id="x")
    assert a.after == ()
    assert run.result(PATIENCE)
    assert len(list(orch.tasks())) == 4


def test_many_threads_start_the_same_run(orch):
    runs: list[WorkflowRun] = []
    barrier = threading.Barrier(6)

    def start() -> None:
        barrier.wait(PATIENCE)
        runs.append(orch.workflows.start(diamond(), id="x"))

    threads = [threading.Thread(target=start) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(runs) == 6
    assert len({id(run) for run in runs}) == 1
    runs[0].result(PATIENCE)
    assert len(CALLS) == 4


def test_a_run_that_nobody_kept_is_found_again(orch):
    orch.workflows.start(diamond(), id="x").result(PATIENCE)
    orch.workflows.start(diamond(), id="xx").result(PATIENCE)
    gc.collect()
    run = orch.workflows.get("x")
    assert run.result(0)["d"] == "d(b(a()),c(a()))"
    assert list(run.status().tasks) == ["a", "b", "c", "d"]
    assert run is orch.workflows.get("x")


def test_a_run_keeps_the_results_of_what_has_left_memory():
    with TaskOrchestrator(keep_finished=1) as orch:
        run = orch.workflows.start(diamond(), id="x")
        assert run.result(PATIENCE)["a"] == "a()"
        assert orch.workflows.start(diamond(), id="x") is run
        assert run.status().percent == 100


@pytest.mark.parametrize("bad", ["", "a/b", "x~2", "../x", 5, "a b", "ä"])
def test_the_id_of_a_run_is_one_safe_word(orch, bad):
    with pytest.raises(InvalidTaskError, match="the id of a run"):
        orch.workflows.start(diamond(), id=bad)


@pytest.mark.parametrize("bad", [diamond, "wf", None, 5, [], Workflow])
def test_only_workflows_are_started(orch, bad):
    with pytest.raises(InvalidTaskError, match="a Workflow is started"):
        orch.workflows.start(bad)


@pytest.mark.parametrize(
    "name", ["get", "status", "cancel", "pause", "resume", "restart"]
)
def test_an_unknown_run_is_an_error(orch, name):
    orch.submit_task(Task.call(zero, id="plain"))
    for bad in ("nobody", "", 5, None, "a/b", "plain"):
        with pytest.raises(UnknownTaskError, match="no workflow has been started"):
            getattr(orch.workflows, name)(bad)


# --------------------------------------------------------------------- control


def test_a_cancelled_run(orch):
    """Nothing new begins, and nothing is blocked on the way."""
    hold = Hold()
    recorder = Recorder(orch, "task_blocked", "task_started", "task_cancelled")
    wf = Workflow("w")
    first = wf.task(hold, id="first")
    wf.chain(
        first, [wf.task(step, f"s{i}") for i in range(10)], wf.task(zero, id="end")
    )
    run = orch.workflows.start(wf, id="x")
    hold.wait()

    assert orch.workflows.cancel("x")

    hold.release()
    found = failures(run)
    assert len(found) == 12
    assert "workflow x was cancelled" in str(found["end"])
    assert run.status().state is TaskState.CANCELLED
    assert CALLS == []
    assert not orch.workflows.cancel("x")
    assert orch.wait(PATIENCE)
    assert set(recorder.names()) == {"TaskStarted", "TaskCancelled"}


def test_pause_and_resume(orch):
    hold = Hold()
    wf = Workflow("w")
    first = wf.task(hold, 1, id="first")
    wf.task(echo, first, id="second")
    wf.task(add, 5, id="late", not_before=3600)
    run = orch.workflows.start(wf, id="x")
    hold.wait()

    assert orch.workflows.pause("x")

    assert run.status().tasks["second"] is TaskState.SUSPENDED
    hold.release()
    assert run.handles["first"].result(PATIENCE) == 1
    assert run.status().state is TaskState.SUSPENDED
    assert not orch.workflows.pause("x")
    with pytest.raises(TimeoutError):
        run.result(0)
    assert orch.workflows.resume("x")
    assert run.handles["second"].result(PATIENCE) == 1
    assert not orch.workflows.resume("x")
    assert run.status().state is TaskState.PENDING
    assert orch.workflows.cancel("x")


def test_a_blocked_task_is_passed_over_by_a_pause(orch):
    BROKEN.add("a")
    run = orch.workflows.start(diamond(), id="x")
    with pytest.raises(WorkflowFailedError):
        run.result(PATIENCE)
    assert not orch.workflows.pause("x")
    assert run.status().state is TaskState.FAILED


def test_a_state_machine_may_forbid_the_end_of_a_task():
    class Keep(StandardStateMachine):
        watches = ((TaskState.PENDING, TaskState.CANCELLED),)

        def check(self, transition, context):
            return Permit(transition.task_id != "x/late", "it stays")

    with TaskOrchestrator(state_machine=Keep(), stop_timeout=0) as orch:
        wf = Workflow("w")
        wf.task(zero, id="late", not_before=3600)
        wf.task(zero, id="other", not_before=3600)
        orch.workflows.start(wf, id="x")
        with pytest.raises(InvalidTransitionError, match="it stays"):
            orch.workflows.cancel("x")
        states = orch.workflows.status("x").tasks
        assert states == {"late": TaskState.PENDING, "other": TaskState.CANCELLED}


def test_a_restart_runs_again_what_failed_and_nothing_else(orch):
    BROKEN.update("bc")
    run = orch.workflows.start(diamond(), id="x")
    assert sorted(failures(run)) == ["b", "c"]
    CALLS.clear()
    BROKEN.clear()

    assert orch.workflows.restart("x") is run

    assert run.result(PATIENCE)["d"] == "d(b(a()),c(a()))"
    assert sorted(CALLS) == ["b", "c", "d"]
    assert {name: h.task_id for name, h in run.handles.items()} == {
        "a": "x/a",
        "b": "x/b~2",
        "c": "x/c~2",
        "d": "x/d",
    }
    assert run.status().state is TaskState.COMPLETED
    assert orch.workflows.restart("x") is run
    assert orch.workflows.start(diamond(), id="x") is run
    assert sorted(CALLS) == ["b", "c", "d"]


def test_a_cancelled_run_can_be_restarted(orch):
    hold = Hold()
    wf = Workflow("w")
    a = wf.task(hold, 1, id="a")
    b = wf.task(add, a, 1, id="b")
    wf.task(add, b, a, id="c")
    run = orch.workflows.start(wf, id="x")
    hold.wait()
    orch.workflows.cancel("x")
    hold.release()
    with pytest.raises(WorkflowFailedError):
        run.result(PATIENCE)
    orch.workflows.restart("x")
    assert run.result(PATIENCE)["c"] == 3
    assert {h.task_id for h in run.handles.values()} == {"x/a~2", "x/b~2", "x/c~2"}


def test_restarts_until_it_works(orch):
    """Each restart gets one task further."""
    wf = Workflow("w")
    last = wf.task(step, "a", id="a")
    for name in "bcd":
        last = wf.task(step, name, last, id=name)
    BROKEN.update("abcd")
    run = orch.workflows.start(wf, id="x")
    for name in "abcd":
        assert list(failures(run)) == [name]
        BROKEN.remove(name)
        orch.workflows.restart("x")
    assert run.result(PATIENCE)["d"] == "d(c(b(a())))"


def test_what_ran_again_is_waited_for_by_what_runs_again_later(orch):
    """B failed after its dependency had been run again: it needs the new one."""
    wf = Workflow("w")
    a = wf.task(step, "a", id="a")
    wf.task(step, "b", a, id="b")
    BROKEN.update("ab")
    run = orch.workflows.start(wf, id="x")
    for name in "ab":
        with pytest.raises(WorkflowFailedError):
            run.result(PATIENCE)
        BROKEN.remove(name)
        if name == "a":
            orch.workflows.restart("x")
    orch.workflows.cancel("x")
    orch.workflows.restart("x")
    assert run.result(PATIENCE)["b"] == "b(a())"


def test_a_rerun_by_hand_is_seen(orch):
    BROKEN.add("a")
    run = orch.workflows.start(diamond(), id="x")
    with pytest.raises(WorkflowFailedError):
        run.result(PATIENCE)
    BROKEN.clear()
    orch.rerun_task("x/a")
    assert run.result(PATIENCE)["a"] == "a()"
    assert run.handles["a"].task_id == "x/a~2"


def test_what_failed_and_left_memory_cannot_be_run_again():
    with TaskOrchestrator(keep_finished=0) as orch:
        BROKEN.add("a")
        run = orch.workflows.start(diamond(), id="x")
        with pytest.raises(WorkflowFailedError):
            run.result(PATIENCE)
        with pytest.raises(UnknownTaskError, match="keep_finished"):
            orch.workflows.restart("x")


def test_large_runs_are_controlled_in_slices(orch):
    wf = Workflow("w")
    first = wf.task(zero, id="first", not_before=3600)
    for i in range(1_200):
        wf.task(echo, first, id=f"t{i}")
    run = orch.workflows.start(wf, id="x")
    assert orch.workflows.pause("x")
    assert run.status().counts == {TaskState.SUSPENDED: 1_201}
    assert orch.workflows.resume("x")
    assert run.status().counts == {TaskState.PENDING: 1_201}
    assert orch.workflows.cancel("x")
    assert run.status().counts == {TaskState.CANCELLED: 1_201}


# -------------------------------------------------------------------- the loop


@in_loop
async def test_a_run_can_be_awaited():
    go = asyncio.Event()

    async def slow(value: int) -> int:
        await go.wait()
        return value

    async with TaskOrchestrator() as orch:
        wf = Workflow("w")
        wf.task(total, [wf.task(slow, n) for n in range(5)], id="sum")
        run = await orch.aio.workflows.start(wf, id="x")
        with pytest.raises(WouldBlockError):
            run.result()
        go.set()
        assert (await run)["sum"] == 10
        both = await asyncio.gather(run, orch.workflows.start(wf))
        assert both[0] == both[1]


@in_loop
async def test_the_manager_as_awaitables():
    BROKEN.add("b")
    async with TaskOrchestrator() as orch:
        aio = orch.aio.workflows
        run = await aio.start(diamond(), "x")
        with pytest.raises(WorkflowFailedError):
            await run
        assert await aio.get("x") is run
        assert (await aio.status("x")).state is TaskState.FAILED
        assert not await aio.pause("x")
        assert not await aio.resume("x")
        BROKEN.clear()
        assert await aio.restart("x") is run
        assert (await run)["b"] == "b(a())"
        assert not await aio.cancel("x")


@in_loop
async def test_within_a_coroutine_task():
    async with TaskOrchestrator(concurrency=2) as orch:

        async def outer() -> int:
            wf = Workflow("inner")
            wf.task(total, [wf.task(add, 1), wf.task(add, 2)], id="sum")
            run = await orch.aio.workflows.start(wf)
            return (await run)["sum"]

        wf = Workflow("w")
        wf.task(total, [wf.task(outer) for _ in range(4)], id="all")
        assert (await orch.workflows.start(wf))["all"] == 12


def test_a_policy_may_not_ask():
    """It is asked under the lock; waiting for the lock would be for ever."""
    runs: list[WorkflowRun] = []
    refused: list[int] = []

    class Asks(PerformanceRouter):
        def route(self, task, candidates, context):
            asks = (
                lambda: orch.workflows.status("x"),
                lambda: orch.workflows.start(Workflow("w")),
                *(ask for run in runs for ask in (run.status, run.report)),
            )
            for number, ask in enumerate(asks):
                try:
                    ask()
                except ReentryError:
                    refused.append(number)
            return super().route(task, candidates, context)

    orch = TaskOrchestrator(router=Asks())
    with orch:
        runs.append(orch.workflows.start(Workflow("empty"), id="x"))
        assert orch.submit(int).result(PATIENCE) == 0
    assert {*refused} == {0, 1, 2, 3}


def test_the_context_of_a_task(orch):
    wf = Workflow("w")
    wf.task(lambda: current_context().task_id, id="a")
    assert orch.workflows.start(wf, id="x").result(PATIENCE) == {"a": "x/a"}


class Looking(StructuralValidator):
    """Another thread lists the runs while a task of one is looked at."""

    def __init__(self, look):
        super().__init__()
        self._look = look

    def validate(self, task, context):
        with ThreadPoolExecutor(1) as pool:
            pool.submit(self._look).result(PATIENCE)
        return super().validate(task, context)


def test_runs_are_listed_while_others_are_started():
    """One that is just being started is listed once it has its tasks."""
    listed = []

    def look():
        listed.append([run.workflow_id for run in orch.workflows.find("r-*")])

    with TaskOrchestrator(validator=Looking(look)) as orch:
        for number in range(3):
            wf = Workflow("w")
            wf.task(int, id="a")
            orch.workflows.start(wf, id=f"r-{number}").result(PATIENCE)
    assert listed == [[], ["r-0"], ["r-0", "r-1"]]
