"""`context.wait`, `context.ask`, `context.child`: known by name, kept over a restart."""

from __future__ import annotations

import importlib
import sys
import textwrap
from threading import Event

import pytest
from tests.api.tools import PATIENCE, eventually, killed_in_forks

from taskorch import (
    RetryPolicy,
    SqliteJournal,
    Task,
    TaskOrchestrator,
    TaskTimeoutError,
    current_context,
    workflow,
)
from taskorch.api.workflows import current_workflow
from taskorch.errors import StepError, TaskCancelledError

AGAIN = RetryPolicy(3, base=0.001)
#: What the functions below have done, in this process.
DONE: list[object] = []


@pytest.fixture(autouse=True)
def _nothing_done():
    DONE.clear()
    GO.clear()


@pytest.fixture(params=["memory", "journal"])
def settings(request, tmp_path):
    """An orchestrator in memory, and one with a journal."""
    return {} if request.param == "memory" else {"journal": tmp_path / "runs.db"}


def once(what):
    """Fail the attempt that comes here first."""
    DONE.append(what)
    if DONE.count(what) == 1:
        raise ValueError(what)


def pack(order):
    DONE.append(f"packed {order}")
    return f"box of {order}"


@workflow
def delivery(order: str = "A"):
    current_workflow().task(pack, order, id="pack")


def sell(order):
    context = current_context()
    paid = context.wait(f"paid {order}", timeout=PATIENCE)
    answer = context.ask("Ship?")
    box = context.child("pack", pack, order)
    once("sell")
    return [paid, answer.choice, box]


async def sell_on_loop(order):
    context = current_context()
    paid = await context.aio.wait(f"paid {order}", timeout=PATIENCE)
    answer = await context.aio.ask("Ship?")
    box = await context.aio.child("pack", pack, order)
    once("sell")
    return [paid, answer.choice, box]


def waits_for(orch, child, task_id="x"):
    return any(f"waits for {child}" in str(each) for each in orch.steps.of(task_id))


def answer(orch):
    eventually(lambda: [each.id for each in orch.questions()] == ["x.ask"])
    orch.answer("x.ask", "approve", by="ada")


@pytest.mark.parametrize("function", [sell, sell_on_loop])
def test_what_was_waited_for_is_not_waited_for_again(settings, function):
    with TaskOrchestrator(max_workers=1, **settings) as orch:
        handle = orch.submit_task(Task.call(function, "A", id="x", retry=AGAIN))
        eventually(
            lambda: any(s.function == "context.wait" for s in orch.steps.of("x"))
        )
        # The slot is free, though there is but one.
        assert orch.submit(int).result(PATIENCE) == 0
        orch.emit("paid A", {"by": "card"}, keep=PATIENCE)
        answer(orch)
        assert handle.result(PATIENCE) == [{"by": "card"}, "approve", "box of A"]
        assert DONE == ["packed A", "sell", "sell"]
        steps = orch.steps.of("x")
        assert [each.key for each in steps] == ["paid A#1", "ask#1", "pack#1"]
        assert {each.state for each in steps} == {"kept"}
        assert [each.child for each in steps[1:]] == ["x.ask", "x.pack"]


@pytest.mark.parametrize("function", [sell, sell_on_loop])
def test_the_next_incarnation_waits_for_the_same(tmp_path, function):
    journal = tmp_path / "runs.db"
    first = TaskOrchestrator(journal=journal)
    first.start()
    first.submit_task(Task.call(function, "A", id="x", retry=AGAIN))
    first.emit("paid A", 5, keep=PATIENCE)
    eventually(lambda: waits_for(first, "x.ask"))
    first.stop(drain=False, timeout=PATIENCE)
    with TaskOrchestrator(journal=journal) as orch:
        answer(orch)
        assert orch.handle("x").result(PATIENCE) == [5, "approve", "box of A"]
    assert DONE == ["packed A", "sell", "sell"]


INCARNATION = """
    import os, signal, sys
    from pathlib import Path
    from taskorch import Task, TaskOrchestrator, current_context

    kill_at, ledger = 0, None

    def did(what):
        with ledger.open("a") as file:
            file.write(what + "\\n")
        global kill_at
        kill_at -= 1
        if not kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return what

    def pack():
        return did("packed")

    def sell():
        context = current_context()
        context.step("begin", did, "begin")
        did("between 1")
        context.wait("paid", timeout=60)
        did("between 2")
        context.ask("Ship?", due=60)
        did("between 3")
        context.child("pack", pack)
        did("between 4")
        context.step("end", did, "end")

    def live(folder):
        global ledger
        ledger = folder / "ledger"
        with TaskOrchestrator(journal=folder / "runs.db") as orch:
            task = Task.call(sell, id="x", idempotency_key="x")
            handle = orch.submit_task(task)
            if not any(each.name == "paid" and each.state != "running"
                       for each in orch.steps.of("x")):
                orch.emit("paid", 1, keep=60)
            while not handle.done():
                for each in orch.questions():
                    each.answer("approve", by="ada")
            handle.result(60)
            return sorted(fact.task_id for fact in orch.journal.facts()
                          if type(fact).__name__ == "TaskSubmitted")
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """A program, and a folder for each line of its function at which it was killed."""
    folder = tmp_path_factory.mktemp("program")
    (folder / "program.py").write_text(textwrap.dedent(INCARNATION), "utf-8")
    killed_in_forks(folder, "program.kill_at = int(place)", [*"1234567"])
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(folder)
        yield importlib.import_module("program"), folder
    del sys.modules["program"]


@pytest.mark.parametrize("kill_at", range(1, 8))
def test_killed_between_any_two_nothing_is_done_again(program, kill_at):
    """
    A process is killed at each line of the function; the next incarnation goes on.
    """
    module, folder = program
    # None was made twice, whichever attempt has made it.
    names = [name[:6] for name in module.live(folder / str(kill_at))]
    assert names == ["x", "x.ask", "x.pack", "x.paid"] or names[1:] == [
        "x.ask-",
        "x.pack",
        "x.paid",
    ]
    lines = (folder / str(kill_at) / "ledger").read_text().splitlines()
    killed_in = lines[kill_at - 1]
    effects = [line for line in lines if not line.startswith("between")]
    twice = {each for each in effects if effects.count(each) > 1}
    assert twice <= {killed_in}
    assert {*effects} == {"begin", "packed", "end"}


GO = Event()
AWAITED = {
    "a task": lambda context: context.child("it", pack, "A"),
    "a run": lambda context: context.child("it", delivery, order="A")["pack"],
    "an event": lambda context: context.wait("paid", name="it"),
    "people": lambda context: context.ask("Ship?", name="it").choice,
}


def await_one(kind):
    GO.wait(PATIENCE)
    return AWAITED[kind](current_context())


@pytest.mark.parametrize("kind", AWAITED)
def test_what_a_step_waits_for_stays_as_long_as_its_task(tmp_path, kind):
    """Retention would take what has ended; the step would begin it once more."""
    journal = SqliteJournal(tmp_path / "runs.db")
    first = TaskOrchestrator(journal=journal)
    first.start()
    first.submit_task(Task.call(await_one, kind, id="x"))
    eventually(lambda: str(first.get_task_status("x").state) == "running")
    first.hold_starts("what is waited for is to run later")
    first.submit_task(Task.call(pack, "others", id="others"))
    GO.set()
    ended = "x.it/pack" if kind == "a run" else "x.it"
    eventually(lambda: ended in [each.task_id for each in first.tasks()])
    first.suspend_task("x")
    first.stop(drain=False, timeout=PATIENCE)
    # It ends in an incarnation in which nobody waits for it.
    with TaskOrchestrator(journal=SqliteJournal(tmp_path / "runs.db")) as second:
        assert str(second.get_task_status("x").state) == "suspended"
        second.release_starts()
        if kind == "an event":
            second.emit("paid", "by card")
        elif kind == "people":
            second.answer("x.it", "approve", by="ada")
        for name in (ended, "others"):
            second.handle(name).result(PATIENCE)
        assert second.prune(keep_latest=0).tasks == 1
    journal = SqliteJournal(tmp_path / "runs.db", keep_latest=0)
    with TaskOrchestrator(journal=journal) as third:
        third.resume_task("x")
        result = third.handle("x").result(PATIENCE)
        assert result in ("box of A", "by card", "approve")
        assert DONE.count("packed A") == (kind in ("a task", "a run"))
        # Once their task has ended, all go with it.
        assert third.prune(keep_latest=0).tasks == 2
        assert not [*third.tasks()]


@pytest.mark.parametrize("kind", ["a task", "a run"])
def test_a_stop_while_a_wait_begins_leaves_it_to_the_next_incarnation(tmp_path, kind):
    first = TaskOrchestrator(journal=tmp_path / "runs.db")
    first.start()
    first.submit_task(Task.call(await_one, kind, id="x"))
    GO.set()
    eventually(lambda: first.steps.of("x"))
    first.stop(drain=False, timeout=PATIENCE)
    with TaskOrchestrator(journal=tmp_path / "runs.db") as second:
        assert second.handle("x").result(PATIENCE) == "box of A"
    assert DONE == ["packed A"]


FUNCTIONS = {}


def do(name):
    return FUNCTIONS[name]()


def run(orch, job, **options):
    FUNCTIONS["job"] = job
    task = Task.call(do, "job", **{"id": "x", "retry": AGAIN, **options})
    return orch.submit_task(task).result(PATIENCE)


def test_a_wait_whose_failure_was_told_begins_anew_unless_the_function_went_on(
    settings,
):
    def again():
        return current_context().wait("never", timeout=0.01)

    def goes_on():
        context = current_context()
        try:
            context.wait("never", timeout=0.01)
        except TaskTimeoutError:
            context.step("instead", DONE.append, "instead")
        once("job")
        return [str(each) for each in orch.steps.of("y")]

    with TaskOrchestrator(**settings) as orch:
        with pytest.raises(TaskTimeoutError):
            run(
                orch,
                again,
                retry=RetryPolicy(3, base=0.001, retry_on=(TaskTimeoutError,)),
            )
        waits = [s for s in orch.tasks() if s.task_id.startswith("x.never")]
        assert len(waits) == 3
        first, second = run(orch, goes_on, id="y")
        assert "raised TaskTimeoutError" in first
        assert second.startswith("instead: done")
        assert DONE == ["instead", "job", "job"]


def test_a_task_that_ends_leaves_what_it_waits_for(settings):
    def job():
        current_context().wait("never")

    FUNCTIONS["job"] = job
    with TaskOrchestrator(**settings) as orch:
        handle = orch.submit_task(Task.call(do, "job", id="x"))
        eventually(lambda: waits_for(orch, "x.never"))
        assert "waits for x.never" in str(orch.explain("x"))
        handle.cancel()
        with pytest.raises(TaskCancelledError):
            handle.result(PATIENCE)
        state = lambda: str(orch.get_task_status("x.never").state)  # noqa: E731
        eventually(lambda: state() == "cancelled")
        assert "which its task has left" in str(orch.steps.of("x")[0])
        # The next run waits anew.
        again = orch.rerun_task("x")
        eventually(lambda: orch.steps.of("x")[0].state == "running")
        orch.emit("never", keep=PATIENCE)
        again.result(PATIENCE)


def test_a_suspended_task_waits_on_once_it_is_resumed(settings):
    def job():
        return current_context().wait("go")

    FUNCTIONS["job"] = job
    with TaskOrchestrator(**settings) as orch:
        handle = orch.submit_task(Task.call(do, "job", id="x"))
        eventually(lambda: waits_for(orch, "x.go"))
        orch.suspend_task("x")
        eventually(lambda: str(orch.get_task_status("x").state) == "suspended")
        orch.emit("go", 7, keep=PATIENCE)
        orch.resume_task("x")
        assert handle.result(PATIENCE) == 7


def in_process():
    context = current_context()
    return [
        context.wait("go", default=3, timeout=0.01),
        context.child("pow", pow, 2, 5),
    ]


def test_a_worker_process_waits_as_well(settings):
    with TaskOrchestrator(executors={"process": 1}, **settings) as orch:
        task = Task.call(in_process, id="x", executor="process")
        assert orch.submit_task(task).result(PATIENCE) == [3, 32]
        assert [each.key for each in orch.steps.of("x")] == ["go#1", "pow#1"]


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        (("wait", "a"), ("wait", "b"), r"\('a', .*\('b', "),
        (("ask", "Ship?"), ("ask", "Sell?"), r"Ship\?.*Sell\?"),
        (("child", int), ("child", float), "called with"),
        (
            ("wait", "a"),
            ("ask", "Ship?"),
            "context.wait, and is now to call context.ask",
        ),
    ],
)
def test_another_wait_under_a_kept_name_is_refused(settings, first, second, says):
    def job():
        context = current_context()
        kind, what = first if context.attempt == 1 else second
        if kind == "child":
            context.child("n", what)
        elif kind == "ask":
            context.ask(what, name="n", due=0.01, default="approve")
        else:
            context.wait(what, name="n", timeout=0.01, default=None)
        raise ValueError(context.attempt)

    with TaskOrchestrator(**settings) as orch, pytest.raises(StepError, match=says):
        run(orch, job)


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda c: c.wait(None, timeout=1, default=1), r"context\.sleep\(seconds\)"),
        (lambda c: c.wait(None), r"context\.sleep\(seconds\)"),
        (lambda c: c.child("n", 5), "no task, no workflow"),
        (lambda c: c.child("n", Task.call(int, id="mine")), "has no id"),
        (lambda c: c.child("n", Task.call(int), 5), "its arguments already"),
        (lambda c: c.child("n", delivery, 5), "by name"),
        (lambda c: c.step("outer", lambda: c.wait("go")), "inside step 'outer'"),
        (lambda c: c.ask("Ship?", name=""), "the name of a step"),
    ],
)
def test_what_is_no_wait_is_refused(ask, says):
    with TaskOrchestrator() as orch, pytest.raises(StepError, match=says):
        run(orch, lambda: ask(current_context()))


def test_an_unknown_option_of_a_question_names_the_one_that_was_meant():
    async def on_loop():
        await current_context().aio.ask("Ship?", duee=3)

    for job in (lambda: current_context().ask("Ship?", duee=3), on_loop):
        with TaskOrchestrator() as orch:
            error = orch.submit(job).exception(PATIENCE)
        assert "ask() got an unexpected keyword argument 'duee'" in str(error)
        assert "did you mean 'due'?" in str(error)
