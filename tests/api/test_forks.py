"""`orch.steps.fork`: a new run with what was kept before a step, and anew from there."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from shutil import copytree

import pytest
from tests.api.tools import PATIENCE, Started, eventually, pass_time
from tests.ext.service.tools import recorded

from taskorch import RetryPolicy, Task, TaskOrchestrator, current_context, workflow
from taskorch.api.workflows import current_workflow
from taskorch.errors import InvalidTaskError, InvalidTransitionError, StepError
from taskorch.ext.client import Client
from taskorch.ext.command_line import main
from taskorch.ext.views import JournalReader

#: What was called, of the functions below, in this process.
CALLS: Counter[str] = Counter()
#: What the second of the steps returns today.
TODAY = {"b": "B"}


@pytest.fixture(autouse=True)
def _no_calls():
    CALLS.clear()
    TODAY["b"] = "B"


@pytest.fixture(params=["memory", "journal"])
def settings(request, tmp_path):
    """An orchestrator in memory, and one with a journal."""
    return {} if request.param == "memory" else {"journal": tmp_path / "runs.db"}


def note(name):
    CALLS[name] += 1
    return TODAY.get(name, name)


def three():
    context = current_context()
    return "".join([context.step(name, note, name) for name in "abc"])


def loop():
    context = current_context()
    return [context.step("page", note, f"page {n}") for n in range(3)]


def run(orch, function, task_id="x"):
    return orch.submit_task(Task.call(function, id=task_id)).result(PATIENCE)


def keys(orch, task_id, state):
    return [each.key for each in orch.steps.of(task_id) if each.state == state]


def test_what_was_kept_before_the_step_stays_and_the_rest_is_called_anew(settings):
    with TaskOrchestrator(**settings) as orch:
        assert run(orch, three) == "aBc"
        TODAY["b"] = "!"
        again = orch.steps.fork("x", at="b")
        assert again.task_id == "x~2"
        assert again.result(PATIENCE) == "a!c"
        assert CALLS == {"a": 1, "b": 2, "c": 2}
        assert keys(orch, "x", "kept") == ["a#1"]
        assert keys(orch, "x", "called") == ["b#1", "c#1"]
        # The run before has its own.
        assert keys(orch, "x~1", "called") == ["a#1", "b#1", "c#1"]
        assert orch.get_task_status("x~1").result == "aBc"


def test_a_fork_of_a_fork_and_a_rerun_of_it_have_what_it_has_kept(settings):
    with TaskOrchestrator(**settings) as orch:
        run(orch, three)
        orch.steps.fork("x", at="b").result(PATIENCE)
        orch.steps.fork("x", at="c#1").result(PATIENCE)
        assert CALLS == {"a": 1, "b": 2, "c": 3}
        orch.rerun_task("x").result(PATIENCE)
        assert CALLS == {"a": 1, "b": 2, "c": 3}
        orch.steps.fork("x", at="a").result(PATIENCE)
        assert CALLS == {"a": 2, "b": 3, "c": 4}


def test_one_of_several_steps_of_a_name_is_told_by_its_key(settings):
    with TaskOrchestrator(**settings) as orch:
        run(orch, loop)
        with pytest.raises(StepError, match="several steps 'page': page#1, page#2"):
            orch.steps.fork("x", at="page")
        orch.steps.fork("x", at="page#2").result(PATIENCE)
        assert CALLS == {"page 0": 1, "page 1": 2, "page 2": 2}


def test_a_next_attempt_of_a_fork_calls_nothing_anew_that_the_fork_has_kept(settings):
    def fails_once():
        context = current_context()
        context.step("a", note, "a")
        context.step("b", note, "b")
        if context.task_id == "x~2" and context.attempt == 1:
            raise ValueError
        return context.step("c", note, "c")

    FUNCTIONS["job"] = fails_once
    with TaskOrchestrator(**settings) as orch:
        task = Task.call(do, "job", id="x", retry=RetryPolicy(3, base=0.001))
        orch.submit_task(task).result(PATIENCE)
        orch.steps.fork("x", at="b").result(PATIENCE)
        assert CALLS == {"a": 1, "b": 2, "c": 2}


FUNCTIONS = {}


def do(name):
    return FUNCTIONS[name]()


def test_what_an_earlier_run_keeps_after_the_fork_is_not_the_forks(settings):
    """A step of the run before returns after the fork was made."""
    go, began = threading.Event(), threading.Event()

    def late():
        began.set()
        go.wait(PATIENCE)
        return note("late")

    def job():
        context = current_context()
        if context.task_id != "x":
            # It reads what is kept at its first step.
            forked.wait(PATIENCE)
        context.step("a", note, "a")
        context.step("late", late)

    forked = threading.Event()
    FUNCTIONS["job"] = job
    with TaskOrchestrator(**settings) as orch:
        handle = orch.submit_task(Task.call(do, "job", id="x", timeout=3600))
        assert began.wait(PATIENCE)
        pass_time(orch, 3600)
        eventually(handle.done)
        fork = orch.steps.fork("x", at="a")
        go.set()
        eventually(lambda: keys(orch, "x~1", "called") == ["a#1", "late#1"])
        forked.set()
        eventually(fork.done)
        assert CALLS == {"a": 2, "late": 2}


def test_a_wait_before_the_step_is_over_and_one_after_it_begins_anew(settings):
    def job():
        context = current_context()
        first = context.wait("first", timeout=PATIENCE)
        context.step("a", note, "a")
        return first, context.wait("second", timeout=PATIENCE)

    FUNCTIONS["job"] = job
    with TaskOrchestrator(**settings) as orch:
        handle = orch.submit_task(Task.call(do, "job", id="x"))
        for name in ("first", "second"):
            orch.emit(name, name, keep=PATIENCE)
        assert handle.result(PATIENCE) == ("first", "second")
        fork = orch.steps.fork("x", at="a")
        orch.emit("second", "anew", keep=PATIENCE)
        assert fork.result(PATIENCE)[0] == "first"
        children = [each.child for each in orch.steps.of("x") if each.child]
        assert children[0] == "x.first"
        assert children[1] != "x.second"


def test_what_cannot_be_forked_says_what_to_do(settings):
    go = threading.Event()
    FUNCTIONS["job"] = lambda: go.wait(PATIENCE)
    with TaskOrchestrator(**settings) as orch:
        run(orch, three)
        with pytest.raises(StepError, match="it keeps a#1, b#1 and c#1") as caught:
            orch.steps.fork("x", at="z")
        assert "orch.rerun_task('x')" in caught.value.hint
        with pytest.raises(StepError, match="keeps no step 'c1'") as caught:
            orch.steps.fork("x", at="c1")
        assert caught.value.hint == "did you mean 'c#1'?"
        with pytest.raises(InvalidTaskError, match="downstream is"):
            orch.steps.fork("x", at="a", downstream="yes")
        assert orch.submit_task(Task.call(pow, 2, 3, id="p")).result(PATIENCE) == 8
        with pytest.raises(StepError, match="keeps no step 'a', nor any other"):
            orch.steps.fork("p", at="a")
        orch.submit_task(Task.call(do, "job", id="r"))
        with pytest.raises(InvalidTransitionError, match="a fork begins") as caught:
            orch.steps.fork("r", at="a")
        assert "wait for its end" in caught.value.hint
        go.set()
        orch.rerun_task("x").result(PATIENCE)
        with pytest.raises(InvalidTransitionError, match="run again since"):
            orch.steps.fork("x~1", at="a")
        assert CALLS == {"a": 1, "b": 1, "c": 1}


def test_many_are_forked_by_a_filter(settings):
    with TaskOrchestrator(**settings) as orch:
        for name in ("n1", "n2", "other"):
            run(orch, three, name)
        orch.submit_task(Task.call(pow, 2, 3, id="n3")).result(PATIENCE)
        assert orch.steps.forkable("b", ids="n*") == ["n1", "n2"]
        assert orch.steps.fork_many("b", ids="n*") == ["n1~2", "n2~2"]
        for name in ("n1", "n2"):
            assert orch.handle(name).result(PATIENCE) == "aBc"
        assert CALLS == {"a": 3, "b": 5, "c": 5}
        assert orch.steps.fork_many("b", state="failed") == []
        assert orch.steps.fork_many("b", type="none") == []
        with pytest.raises(InvalidTaskError):
            orch.steps.fork_many("b", state="nowhere")


@workflow
def delivery():
    here = current_workflow()
    first = here.task(three, id="first")
    here.task(note, first, id="second")
    here.task(note, "apart", id="apart")


@pytest.mark.parametrize("downstream", [None, True, False])
def test_what_had_its_result_is_run_again_as_by_a_rerun(settings, downstream):
    with TaskOrchestrator(**settings) as orch:
        orch.workflows.start(delivery, "d").result(PATIENCE)
        TODAY["b"] = "!"
        orch.steps.fork("d/first", at="b", downstream=downstream).result(PATIENCE)
        assert orch.handle("d/second").result(PATIENCE)
        wanted = {"aBc": 1, "apart": 1}
        if downstream is not False:
            wanted["a!c"] = 1
        assert {name: CALLS[name] for name in wanted} == wanted
        assert CALLS["a!c"] == wanted.get("a!c", 0)


def test_all_faces_fork(tmp_path, capsys):
    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path) as orch:
        run(orch, three)
        with orch.serve(port=0) as server:
            client = Client(server.url, token=server.token)
            assert client.fork("x", at="b") == "x~2"
            orch.handle("x").result(PATIENCE)
            assert client.fork_many("c", ids="x") == []
            assert client.fork_many("c", ids="x*") == ["x~3"]
            orch.handle("x").result(PATIENCE)

        async def fork():
            return await orch.aio.steps.fork("x", at="b")

        assert asyncio.run(fork()).result(PATIENCE) == "aBc"
    capsys.readouterr()
    assert main(["fork", str(path), "x", "--at", "c", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "Keeps a#1, b#1. Calls anew c#1, and what follows." in said
    assert main(["fork", str(path), "x", "--at", "c"]) == 0
    assert capsys.readouterr().out.startswith("x~5 is queued\n")
    assert main(["steps", str(path), "x"]) == 0
    assert [line[0] for line in capsys.readouterr().out.splitlines()] == ["a", "b"]
    with TaskOrchestrator(journal=path) as orch:
        assert orch.handle("x").result(PATIENCE) == "aBc"
    assert CALLS == {"a": 1, "b": 3, "c": 5}


def test_commands_show_the_steps_of_a_journal_that_nobody_has_open(
    tmp_path, capsys, monkeypatch
):
    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path) as orch:
        run(orch, three)
        orch.steps.fork("x", at="b").result(PATIENCE)
        orch.submit_task(Task.call(pow, 2, 3, id="plain")).result(PATIENCE)

    def said(*words):
        capsys.readouterr()
        assert main([*words]) == 0
        return capsys.readouterr().out

    steps = said("steps", str(path), "x").splitlines()
    assert [line.rpartition(", ")[2] for line in steps] == [
        "kept from attempt 1 of x",
        "called",
        "called",
    ]
    explained = said("explain", str(path), "x").splitlines()
    assert explained[-3:] == [f"Step {line}." for line in steps]
    inspected = said("inspect", str(path), "x").splitlines()
    assert [line.split("  ")[2] for line in inspected[-3:]] == steps
    first = said("inspect", str(path), "x~1").splitlines()
    assert all(line.endswith(", called") for line in first[-3:])
    document = json.loads(said("inspect", str(path), "x", "--json"))
    assert [each["key"] for each in document["steps"]] == ["a#1", "b#1", "c#1"]
    with recorded(path) as service:
        monkeypatch.setenv("TASKORCH_TOKEN", service.token)
        assert said("inspect", service.server.url, "x").splitlines()[-3:] == [
            *inspected[-3:]
        ]
        path_of_steps = "/api/v1/tasks/x/steps"
        assert [each["key"] for each in service.get(path_of_steps)["steps"]] == [
            "a#1",
            "b#1",
            "c#1",
        ]
    for command in ("explain", "inspect"):
        assert "tep" not in said(command, str(path), "plain")
    assert "steps" not in json.loads(said("inspect", str(path), "plain", "--json"))


INCARNATION = """
    import gc, importlib, json, os, signal, sys, traceback
    from pathlib import Path
    from taskorch import Task, TaskOrchestrator, current_context
    from taskorch.api.journal import SqliteJournal

    path, kill_at = "", 0
    is_forking = False

    def tick():
        global kill_at
        kill_at -= is_forking
        if is_forking and not kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    class Journal(SqliteJournal):
        def append(self, epoch, group):
            tick()
            super().append(epoch, group)
            tick()

    def did(what):
        with Path(path).with_name("ledger").open("a") as file:
            file.write(f"{what} {current_context().task_id}\\n")
        tick()

    def job():
        context = current_context()
        for name in ("a", "b", "c"):
            context.step(name, did, name)
            tick()

    def main():
        global is_forking
        with TaskOrchestrator(journal=Journal(path)) as orch:
            task = Task.call(job, id="x", idempotency_key="x")
            orch.submit_task(task).result(60)
            if kill_at < 0:
                return
            is_forking = True
            if orch.get_task_status("x").task_id == "x":
                orch.steps.fork("x", at="b")
            orch.handle("x").result(60)

    if __name__ == "__main__":
        # Each incarnation is a process; what it imports is imported once for all.
        for line in sys.stdin:
            path, kill_at = json.loads(line)
            incarnation = os.fork()
            if not incarnation:
                try:
                    main()
                    used = [name for name in sys.modules if name != "__main__"]
                    Path(path).with_name("modules").write_text("\\n".join(used))
                except BaseException:
                    traceback.print_exc()
                    os._exit(1)
                os._exit(0)
            code = os.waitstatus_to_exitcode(os.waitpid(incarnation, 0)[1])
            for name in Path(path).with_name("modules").read_text().splitlines():
                importlib.import_module(name)
            gc.freeze()
            print(code, flush=True)
"""


@pytest.mark.parametrize(
    ("first", "pace"),
    [
        (2, 3),
        pytest.param(1, 1, marks=pytest.mark.slow("killed in each of sixteen places")),
    ],
)
def test_killed_between_any_two_there_is_a_whole_fork_or_none(tmp_path, first, pace):
    """A process is killed before and after each commit, and in each step."""
    program = tmp_path / "life.py"
    program.write_text(textwrap.dedent(INCARNATION), "utf-8")
    before = tmp_path / "before"
    before.mkdir()
    halves, kill_at, code = 0, first - pace, -9
    with Started(
        [sys.executable, str(program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as incarnations:

        def live(journal, at):
            print(json.dumps([str(journal), at]), file=incarnations.stdin, flush=True)
            return int(incarnations.stdout.readline())

        assert live(before / "runs.db", -1) == 0
        while code == -9:
            kill_at += pace
            journal = tmp_path / str(kill_at) / "runs.db"
            copytree(before, journal.parent)
            code = live(journal, kill_at)
            halves += _has_half_a_fork(journal)
            if code == -9:
                assert live(journal, 0) == 0
            lines = (journal.parent / "ledger").read_text().splitlines()
            # The one that was killed may be twice there; "a" is the first run's alone.
            assert len(lines) - len({*lines}) <= 1
            assert {*lines} == {"a x", "b x", "c x", "b x~2", "c x~2"}
    assert code == 0
    assert kill_at > 8
    assert halves == 0


def _has_half_a_fork(journal):
    reader = JournalReader(journal)
    events = [
        each for each in reader.happened() if getattr(each, "task_id", "") == "x~2"
    ]
    kinds = [type(each).__name__ for each in events]
    return bool(events) and kinds[:2] != ["TaskSubmitted", "TaskNoted"]
