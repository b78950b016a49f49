"""Steps inside a function: named, kept with the task, and not called again."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import pickle
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from shutil import copytree

import pytest
from tests.api.tools import PATIENCE, Recorder, eventually, pass_time
from tests.ext.steps import test_sleeps, test_waits_in_functions

from taskorch import (
    Permanent,
    RetryPolicy,
    Task,
    TaskOrchestrator,
    TaskTimeoutError,
    current_context,
)
from taskorch.errors import (
    InvalidTaskError,
    InvalidTransitionError,
    StepError,
    TaskFailedError,
    UnknownTaskError,
)
from taskorch.ext.client import Client
from taskorch.ext.command_line import main
from taskorch.ext.steps import step

PAGE = Path(__file__).parents[3] / "docs" / "howto" / "steps.md"
AGAIN = RetryPolicy(3, base=0.001)
#: What was called, of the functions below, in this process.
CALLS: Counter[object] = Counter()
#: Functions inside tests.
FUNCTIONS: dict[str, Callable[[], object]] = {}


class DeclinedError(Exception):
    """A payment was declined."""


@pytest.fixture(autouse=True)
def _no_calls():
    CALLS.clear()


@pytest.fixture(params=["memory", "journal"])
def settings(request, tmp_path):
    """An orchestrator in memory, and one with a journal."""
    return {} if request.param == "memory" else {"journal": tmp_path / "runs.db"}


def note(what, value=None):
    CALLS[what] += 1
    return value


def fail_once(what, error=ValueError):
    """Raise at the first call in this process, and return at those that follow."""
    CALLS[what] += 1
    if CALLS[what] == 1:
        raise error(what)
    return what


def once(what):
    """Fail the attempt that comes here first, outside any step."""
    fail_once(f"attempt {what}")


def do(name):
    """A function that can be imported, for one inside a test."""
    return FUNCTIONS[name]()


async def do_on_loop(name):
    return await FUNCTIONS[name]()


def submit(orch, function, **options):
    name = f"{function.__qualname__} {len(FUNCTIONS)}"
    FUNCTIONS[name] = function
    calls = do_on_loop if inspect.iscoroutinefunction(function) else do
    return orch.submit_task(Task.call(calls, name, **{"retry": AGAIN, **options}))


def run(orch, function, **options):
    return submit(orch, function, **options).result(PATIENCE)


def keys(orch, task_id):
    return [each.key for each in orch.steps.of(task_id)]


# -- what is kept ----------------------------------------------------------------------


def test_a_step_whose_result_is_kept_is_not_called_again_by_a_retry(settings):
    def job():
        context = current_context()
        value = context.step("charge", note, "charge", {"paid": 3})
        value["paid"] += 1
        once("job")
        return value

    with TaskOrchestrator(**settings) as orch:
        assert run(orch, job) == {"paid": 4}
    assert CALLS["charge"] == 1
    assert CALLS["attempt job"] == 2


def test_a_coroutine_awaits_its_steps_of_either_kind_of_function(settings):
    async def wait(value):
        await asyncio.sleep(0)
        return note("wait", value)

    async def job():
        steps = current_context().aio
        values = [await steps.step("wait", wait, 1)]
        values.append(await steps.step("plain", note, "plain", 2))
        assert await steps.step("where", threading.get_ident) != threading.get_ident()
        once("job")
        return values

    with TaskOrchestrator(**settings) as orch:
        assert run(orch, job) == [1, 2]
    assert CALLS == {"wait": 1, "plain": 1, "attempt job": 2}


def test_a_rerun_of_the_task_has_what_the_run_before_has_kept(settings):
    def job():
        return current_context().step("draw", drawn)

    def same(orch):
        first = run(orch, job, id="x")
        again = orch.rerun_task("x")
        assert again.result(PATIENCE) == first
        assert [each.state for each in orch.steps.of("x")] == ["kept"]
        assert [each.task_id for each in orch.steps.of("x")] == ["x"]

    def drawn():
        return note("draw", time.monotonic())

    with TaskOrchestrator(**settings) as orch:
        same(orch)
    assert CALLS["draw"] == 1


def test_a_loop_asks_for_one_name_again_and_again(settings):
    def job():
        context = current_context()
        values = []
        for number in range(3):
            values.append(context.step("add", note, ("add", number), number))
            if number == 1:
                once("job")
        return values

    with TaskOrchestrator(**settings) as orch:
        run(orch, job, id="x")
        assert keys(orch, "x") == ["add#1", "add#2", "add#3"]
        assert [s.state for s in orch.steps.of("x")] == ["kept", "kept", "called"]
    assert [CALLS["add", number] for number in range(3)] == [1, 1, 1]


def in_worker(path):
    """A function for a worker process, whose calls are lines of a file."""
    context = current_context()
    value = context.step("draw", line, path, "draw")
    try:
        context.step("decline", decline, path)
    except DeclinedError as error:
        value = [value, *error.args]
        context.step("mail", line, path, "mail")
    if context.attempt == 1:
        raise ValueError
    return value


def line(path, text):
    with Path(path).open("a") as file:
        file.write(f"{text}\n")
    return [text]


def decline(path):
    line(path, "decline")
    raise DeclinedError(7)


def test_a_worker_process_asks_the_orchestrator_for_its_steps(settings, tmp_path):
    path = tmp_path / "lines"
    with TaskOrchestrator(**settings) as orch:
        task = Task.call(in_worker, str(path), executor="process", retry=AGAIN)
        assert orch.submit_task(task).result(PATIENCE) == [["draw"], 7]
    assert path.read_text().split() == ["draw", "decline", "mail"]


def test_a_marked_function_is_a_step_inside_a_task_and_itself_elsewhere(settings):
    @step
    def plain(value, more=1):
        return note("plain", value + more)

    @step(name="other", retry=RetryPolicy(2, base=0.0))
    async def waits(value):
        return fail_once(value)

    def job():
        first = plain(1, more=2)
        once("job")
        return first

    async def coroutine():
        first = await waits("waits")
        once("coroutine")
        return first

    assert plain(1) == 2
    CALLS.clear()
    with TaskOrchestrator(**settings) as orch:
        assert run(orch, job, id="x") == 3
        assert run(orch, coroutine, id="y") == "waits"
        assert [str(s.key) for s in orch.steps.of("x")] == [f"{plain.__qualname__}#1"]
        assert [(s.key, s.tries) for s in orch.steps.of("y")] == [("other#1", 2)]
    assert CALLS["plain"] == 1
    assert CALLS["waits"] == 2


def test_a_marked_function_that_is_given_to_a_step_keeps_its_options(settings):
    @step(retry=RetryPolicy(2, base=0.0))
    def fails(what):
        return fail_once(what)

    def job():
        return current_context().step("own", fails, "a")

    async def coroutine():
        return await current_context().aio.step("own", fails, "b")

    with TaskOrchestrator(**settings) as orch:
        assert run(orch, job, id="x", retry=1) == "a"
        assert run(orch, coroutine, retry=1) == "b"
        assert [(s.key, s.tries) for s in orch.steps.of("x")] == [("own#1", 2)]


def test_inside_a_step_a_marked_function_is_a_part_of_it(settings):
    @step
    def inner():
        return note("inner", 1)

    def outer():
        return inner() + 1

    def job():
        return current_context().step("outer", outer)

    with TaskOrchestrator(**settings) as orch:
        assert run(orch, job, id="x") == 2
        assert keys(orch, "x") == ["outer#1"]


# -- what raises -----------------------------------------------------------------------


def test_a_step_that_has_failed_its_attempt_is_called_again(settings):
    def job():
        return current_context().step("fail", fail_once, "fail")

    with TaskOrchestrator(**settings) as orch:
        assert run(orch, job, id="x") == "fail"
        (only,) = orch.steps.of("x")
        assert (only.key, only.attempt, only.error) == ("fail#1", 2, "")


def test_a_failure_after_which_the_function_asks_for_another_step_is_kept(settings):
    seen = []

    def job():
        context = current_context()
        try:
            context.step("pay", fail_once, "pay", DeclinedError)
        except DeclinedError as error:
            seen.append((error.args, getattr(error, "__notes__", [])))
            context.step("mail", note, "mail")
        once("job")

    with TaskOrchestrator(**settings) as orch:
        run(orch, job, id="x")
        told = [str(each) for each in orch.steps.of("x")]
    assert CALLS["pay"] == CALLS["mail"] == 1
    assert seen[0] == (("pay",), [])
    assert seen[1][0] == ("pay",)
    assert seen[1][1][-1] == (
        "step 'pay' raised it in attempt 1 of x, and is not called again"
    )
    assert re.fullmatch(
        r"pay: raised DeclinedError: pay in \S+ s, kept from attempt 1 of x", told[0]
    )


def made_by_a_function(text):
    """Stand where an earlier version of this module had a class of errors."""
    return ValueError(text)


@pytest.mark.parametrize("place", ["nowhere.LocalError", "made_by_a_function"])
def test_an_error_whose_class_is_gone_says_which_it_was(settings, place):
    class LocalError(Exception):
        __qualname__ = place

    kinds = []

    def job():
        context = current_context()
        try:
            context.step("pay", fail_once, "pay", LocalError)
        except LocalError:
            kinds.append("itself")
        except TaskFailedError as error:
            kinds.append((error.type, error.message))
        context.step("mail", note, "mail")
        once("job")

    with TaskOrchestrator(**settings) as orch:
        run(orch, job)
    name = place.rpartition(".")[2]
    assert kinds == ["itself", (name, "step 'pay' raised LocalError: pay")]


def test_a_step_is_tried_again_as_its_own_policy_says(settings):
    def job():
        context = current_context()
        context.step("twice", fail_once, "twice", retry=2)
        return context.step(
            "poll", note, "poll", 5, retry=RetryPolicy(3, base=0, retry_if_result=odd)
        )

    def odd(value):
        return value % 2 and CALLS["poll"] < 3

    quick = RetryPolicy(2, base=0.0)
    with TaskOrchestrator(**settings) as orch:

        def quickly():
            return current_context().step("a", fail_once, "a", retry=quick)

        assert run(orch, quickly, retry=1) == "a"
        assert run(orch, job, id="x", retry=1) == 5
        assert [(s.key, s.tries) for s in orch.steps.of("x")] == [
            ("twice#1", 2),
            ("poll#1", 3),
        ]


def test_an_error_that_is_permanent_is_not_tried_again(settings):
    class WrongError(Permanent):
        pass

    def job():
        current_context().step("a", fail_once, "a", WrongError, retry=5)

    with TaskOrchestrator(**settings) as orch, pytest.raises(WrongError):
        run(orch, job)
    assert CALLS["a"] == 1


def test_a_step_ends_with_its_time(settings):
    go = threading.Event()

    def job():
        current_context().step("wait", go.wait, PATIENCE, timeout=0.01)

    async def coroutine():
        context = current_context()
        await context.aio.step("sleep", asyncio.sleep, PATIENCE, timeout=0.01)

    def inside():
        context = current_context()
        return context.step("ask", task_id_of_current, timeout=PATIENCE)

    def task_id_of_current():
        return current_context().task_id

    try:
        with TaskOrchestrator(**settings) as orch:
            with pytest.raises(TaskTimeoutError, match="'wait' took longer"):
                run(orch, job, retry=1)
            with pytest.raises(TaskTimeoutError, match="'sleep' took longer"):
                run(orch, coroutine, retry=1)
            assert run(orch, inside, id="x") == "x"
    finally:
        go.set()


# -- what is refused -------------------------------------------------------------------


def differing(settings, first, second):
    """The error of a task whose second attempt asks for *second*."""

    def job():
        context = current_context()
        (first if context.attempt == 1 else second)(context)
        once("job")

    with TaskOrchestrator(**settings) as orch, pytest.raises(StepError) as caught:
        run(orch, job, id="x")
    return caught.value


def test_another_function_under_a_kept_name_is_refused(settings):
    error = differing(
        settings,
        lambda context: context.step("a", note, "a"),
        lambda context: context.step("a", fail_once, "a"),
    )
    assert error.message == (
        "step 'a' (1) called note, and is now to call fail_once: its result is kept "
        "from attempt 1 of x"
    )
    assert error.hint == (
        "give the step another name, or drop what is kept from it on: "
        "orch.steps.forget('x', at='a#1')"
    )
    assert CALLS == {"a": 1, "attempt job": 1}


def test_other_arguments_under_a_kept_name_are_refused(settings):
    error = differing(
        settings,
        lambda context: context.step("a", note, "a", value=[1]),
        lambda context: context.step("a", note, "a", value=[True]),
    )
    assert "was called with ('a', value=[1]), and is now with ('a', value=[True])" in (
        error.message
    )


def test_arguments_that_no_journal_keeps_count_by_their_class(settings):
    class Connection:
        pass

    def ask(_):
        return note("ask", 1)

    def job():
        value = current_context().step("a", ask, Connection())
        once("job")
        return value

    with TaskOrchestrator(**settings) as orch:
        assert run(orch, job) == 1
    assert CALLS["ask"] == 1


def test_one_name_at_once_is_refused(settings):
    began, go = threading.Event(), threading.Event()

    def wait():
        began.set()
        go.wait(PATIENCE)

    def job():
        context = current_context()
        other = threading.Thread(target=context.step, args=("a", wait))
        other.start()
        began.wait(PATIENCE)
        try:
            context.step("a", note, "a")
        finally:
            go.set()
            other.join()

    async def coroutine():
        steps = current_context().aio
        sleeps = (steps.step("a", asyncio.sleep, 0) for _ in range(2))
        await asyncio.gather(*sleeps)

    with TaskOrchestrator(**settings) as orch:
        for function in (job, coroutine):
            with pytest.raises(StepError, match="another of this name runs") as caught:
                run(orch, function)
            assert caught.value.hint == "give each a name of its own, such as 'a/A'"


def test_other_names_at_once_are_steps(settings):
    async def coroutine():
        steps = current_context().aio
        calls = (steps.step(f"a/{n}", note, n, n) for n in range(3))
        values = await asyncio.gather(*calls)
        once("coroutine")
        return values

    with TaskOrchestrator(**settings) as orch:
        assert run(orch, coroutine) == [0, 1, 2]
    assert [CALLS[number] for number in range(3)] == [1, 1, 1]


def test_a_step_inside_a_step_is_refused(settings):
    def outer():
        current_context().step("inner", note, "inner")

    def job():
        current_context().step("outer", outer)

    says = "'inner' is asked for inside step 'outer'"
    with TaskOrchestrator(**settings) as orch, pytest.raises(StepError, match=says):
        run(orch, job)
    assert not CALLS


def test_a_result_that_cannot_be_kept_is_refused(tmp_path):
    def job():
        current_context().step("a", note, "a", threading.Lock())

    with (
        TaskOrchestrator(journal=tmp_path / "runs.db") as orch,
        pytest.raises(StepError, match="returned what cannot be kept") as caught,
    ):
        run(orch, job)
    assert "It was called, and will be called again" in caught.value.message
    assert CALLS["a"] == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((note, 1), 'context.step\\("note", …\\)'),
        (("a", 1), "is to call 1, which is no function"),
        (("", note), "the name of a step is a text"),
        (("a\nb", note), "the name of a step is a text"),
        (("a" * 201, note), "at most 200 characters"),
        (("a", asyncio.sleep, 1), "await context.aio.step"),
    ],
)
def test_what_is_no_step_is_refused(arguments, says):
    def job():
        current_context().step(*arguments)

    with TaskOrchestrator() as orch, pytest.raises(StepError, match=says):
        run(orch, job)


def test_options_that_are_none_are_refused():
    def takes(timeout=None):
        return timeout

    def ambiguous():
        current_context().step("a", takes, timeout=3)

    def negative():
        current_context().step("a", note, "a", timeout=-1)

    def none():
        current_context().step("a", note, "a", retry=0)

    def elsewhere():
        current_context().step("a", note, "a", executor="process")

    def named_so():
        return current_context().step("a", dict, executor="process", id=1)

    with TaskOrchestrator() as orch:
        with pytest.raises(StepError, match="timeout is an option of the step, and"):
            run(orch, ambiguous)
        for function in (negative, none):
            with pytest.raises(InvalidTaskError):
                run(orch, function)
        with pytest.raises(StepError, match="executor is an option of a task") as error:
            run(orch, elsewhere)
        assert (
            "context.child('a', Task.call(function, …, executor=…))" in error.value.hint
        )
        assert run(orch, named_so) == {"executor": "process", "id": 1}
    with pytest.raises(StepError, match="@step stands above a function"):
        step(3)
    assert not CALLS


def test_more_than_ten_thousand_steps_are_refused():
    def job():
        context = current_context()
        for _ in range(10_001):
            context.step("a", int)

    says = "more than 10,000 steps"
    with TaskOrchestrator() as orch, pytest.raises(StepError, match=says):
        run(orch, job)


def test_what_a_step_returns_after_the_time_of_its_task_is_kept(settings):
    """It was done, and is not done again by the next attempt."""
    began = threading.Event()

    def slow():
        began.set()
        eventually(lambda: current_context().cancelled)
        return note("slow", 1)

    def job():
        context = current_context()
        value = context.step("slow", slow)
        return context.step("next", note, "next", value)

    with TaskOrchestrator(**settings, grace=PATIENCE) as orch:
        handle = submit(orch, job, id="x", timeout=3600)
        assert began.wait(PATIENCE)
        pass_time(orch, 3600)
        assert handle.result(PATIENCE) == 1
    assert CALLS == {"slow": 1, "next": 1}


def test_what_a_step_of_an_attempt_returns_that_was_given_up_is_kept(settings):
    """The first result counts, for the attempt that has called it meanwhile, too."""
    late = threading.Event()
    values = []

    def slow():
        CALLS["slow"] += 1
        if CALLS["slow"] == 1:
            late.wait(PATIENCE)
            return "first"
        late.set()
        eventually(lambda: bool(current_steps()))
        return "second"

    def current_steps():
        return [s for s in orch.steps.of("x") if s.state != "running"]

    def job():
        values.append(current_context().step("slow", slow))
        return values[-1]

    with TaskOrchestrator(**settings, grace=0.01) as orch:
        # On a busy machine later attempts may be out of time as well.
        assert (
            run(orch, job, id="x", timeout=0.05, retry=RetryPolicy(100, base=0.001))
            == "first"
        )


# -- crashes ---------------------------------------------------------------------------


TEN = ["begin", *(f"add {n}" for n in range(4)), "refuse", "instead", "x", "y", "z"]


def program(context, done):
    """A function of ten steps, with a loop and a branch, which notes what it did."""
    total = context.step("begin", done, "begin", 1)
    for number in range(4):
        total += context.step("add", done, f"add {number}", number)
    try:
        context.step("refuse", done, "refuse", DeclinedError("no"))
    except DeclinedError:
        total += context.step("instead", done, "instead", 10)
    for name in ("x", "y", "z"):
        total += context.step(name, done, name, 100)
    return total


def run_killed(path, kill_at):
    """
    Run the program, and again as if killed in its *kill_at*th step; what each did.

    A copy of the journal, as the kill would leave it, is what the next life opens.
    """
    done = []

    def incarnation(journal, stop_at):
        def do_step(name, value):
            done.append(name)
            if len(done) == stop_at:
                copytree(journal.parent, path / "left")
            if isinstance(value, Exception):
                raise value
            return value

        def job():
            return program(current_context(), do_step)

        FUNCTIONS["killed"] = job
        with TaskOrchestrator(journal=journal) as orch:
            if stop_at:
                orch.submit_task(Task.call(do, "killed", id="x"))
            return orch.handle("x").result(PATIENCE)

    (path / "first").mkdir(parents=True)
    incarnation(path / "first" / "runs.db", kill_at)
    before = done[:kill_at]
    done.clear()
    result = incarnation(path / "left" / "runs.db", 0)
    return result, before, list(done)


@pytest.mark.parametrize("kill_at", range(1, 11))
def test_killed_anywhere_no_step_is_done_again(tmp_path, kill_at):
    """Only the one under way is, of whose result nobody was told."""
    result, before, after = run_killed(tmp_path, kill_at)
    assert result == 317
    assert before == TEN[:kill_at]
    assert after == TEN[kill_at - 1 :]


# -- what is said ----------------------------------------------------------------------


def test_of_says_which_steps_run_and_which_were_kept(settings):
    began, go = threading.Event(), threading.Event()

    def wait(_):
        began.set()
        go.wait(PATIENCE)

    def job():
        context = current_context()
        context.step("first", note, "first")
        once("job")
        context.step("wait", wait, 5)

    with TaskOrchestrator(**settings) as orch:
        handle = submit(orch, job, id="x")
        assert began.wait(PATIENCE)
        first, last = orch.steps.of("x")
        assert (first.state, first.attempt) == ("kept", 1)
        assert (last.state, last.attempt, last.seconds) == ("running", 2, None)
        assert last.arguments == "(5)"
        assert abs((datetime.now(UTC) - last.began).total_seconds()) < PATIENCE
        lines = str(orch.explain("x")).splitlines()[-2:]
        assert re.fullmatch(
            r"Step first: done in \S+ s, kept from attempt 1 of x\.", lines[0]
        )
        assert lines[1].startswith("Step wait: runs since ")
        go.set()
        handle.result(PATIENCE)
        assert [each.state for each in orch.steps.of("x")] == ["kept", "called"]
        with pytest.raises(UnknownTaskError):
            orch.steps.of("nobody")


def test_an_explanation_shows_the_latest_steps():
    def job():
        context = current_context()
        for number in range(12):
            context.step("a", note, "a", number)

    with TaskOrchestrator() as orch:
        run(orch, job, id="x")
        first, *others = orch.explain("x").notes
        assert first == "Of 12 steps, the latest:"
        assert [each.partition(":")[0] for each in others] == [
            f"Step a ({number})" for number in range(3, 13)
        ]


def test_forget_drops_a_step_and_what_came_after_it(settings):
    def job():
        context = current_context()
        return [context.step(name, note, name, name) for name in "abc"]

    with TaskOrchestrator(**settings) as orch:
        run(orch, job, id="x")
        with pytest.raises(StepError, match="keeps no step 'd'") as caught:
            orch.steps.forget("x", at="d")
        assert "orch.steps.of('x')" in caught.value.hint
        assert orch.steps.forget("x", at="b") == ["b#1", "c#1"]
        assert keys(orch, "x") == ["a#1"]
        orch.rerun_task("x").result(PATIENCE)
        assert CALLS == {"a": 1, "b": 2, "c": 2}
        assert orch.steps.forget("x") == ["a#1", "b#1", "c#1"]
        assert orch.steps.of("x") == []
        assert orch.steps.forget("x") == []


def test_forget_waits_for_no_attempt(settings):
    began, go = threading.Event(), threading.Event()

    def job():
        began.set()
        go.wait(PATIENCE)

    with TaskOrchestrator(**settings) as orch:
        submit(orch, job, id="x")
        began.wait(PATIENCE)
        with pytest.raises(InvalidTransitionError, match="its attempt knows its steps"):
            orch.steps.forget("x")
        go.set()


def test_all_faces_say_the_steps(tmp_path, capsys):
    path = tmp_path / "runs.db"

    def job():
        context = current_context()
        context.step("a", note, "a", 1)
        context.step("b", note, "b", 2)

    with TaskOrchestrator(journal=path) as orch:
        run(orch, job, id="x")
        with orch.serve(port=0) as server:
            client = Client(server.url, token=server.token)
            assert [each["key"] for each in client.steps("x")] == ["a#1", "b#1"]
            assert client.forget_steps("x", at="b") == ["b#1"]

        async def ask():
            return await orch.aio.steps.of("x")

        assert [each.key for each in asyncio.run(ask())] == ["a#1"]
    assert main(["steps", str(path), "x"]) == 0
    assert re.fullmatch(r"a: done in \S+ s, called\n", capsys.readouterr().out)
    assert main(["forget-steps", str(path), "x"]) == 0
    assert capsys.readouterr().out == "Dropped 1 step of x:\n  a#1\n"
    assert main(["steps", str(path), "x"]) == 0
    assert capsys.readouterr().out == "x keeps no steps.\n"


def test_each_step_is_an_event_that_goes_with_its_task(tmp_path):
    def job():
        current_context().step("a", note, "a", 1)

    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path) as orch:
        recorder = Recorder(orch, "task_noted")
        run(orch, job, id="x")
        (event,) = recorder.wait_for(1)
        assert (event.task_id, event.attempt, event.key) == ("x", 1, "a#1")
        assert event.extension == "steps"
        run(orch, job, id="y")
        orch.prune(keep_latest=1)
        assert keys(orch, "y") == ["a#1"]
        with pytest.raises(UnknownTaskError):
            orch.steps.of("x")
        assert not [f for f in orch.journal.facts() if getattr(f, "task_id", "") == "x"]


# -- the page --------------------------------------------------------------------------


#: Of each sentence of the page, by its beginning, the tests that hold it.
PROMISES = {
    "A step whose result was returned to the function": (
        test_a_step_whose_result_is_kept_is_not_called_again_by_a_retry,
        test_a_rerun_of_the_task_has_what_the_run_before_has_kept,
        test_a_coroutine_awaits_its_steps_of_either_kind_of_function,
        test_a_worker_process_asks_the_orchestrator_for_its_steps,
    ),
    "With a journal, a step returns once": (
        test_killed_anywhere_no_step_is_done_again,
    ),
    "A step is known by its name and its number": (
        test_a_loop_asks_for_one_name_again_and_again,
    ),
    "A step that was being called": (test_killed_anywhere_no_step_is_done_again,),
    "A result is given back as it was kept": (
        test_a_step_whose_result_is_kept_is_not_called_again_by_a_retry,
    ),
    "If a run asks for a step": (
        test_another_function_under_a_kept_name_is_refused,
        test_other_arguments_under_a_kept_name_are_refused,
    ),
    "An argument that no journal can keep": (
        test_arguments_that_no_journal_keeps_count_by_their_class,
    ),
    "A step that has failed its attempt": (
        test_a_step_that_has_failed_its_attempt_is_called_again,
    ),
    "A wait for an event, a question or a child": (
        test_waits_in_functions.test_what_was_waited_for_is_not_waited_for_again,
        test_waits_in_functions.test_the_next_incarnation_waits_for_the_same,
        test_waits_in_functions.test_killed_between_any_two_nothing_is_done_again,
    ),
    "A sleep ends": (
        test_sleeps.test_who_runs_again_waits_for_the_rest_alone,
        test_sleeps.test_the_next_incarnation_waits_for_the_rest_alone,
        test_sleeps.test_another_time_under_a_kept_name_is_refused,
    ),
    "A failure after which": (
        test_a_failure_after_which_the_function_asks_for_another_step_is_kept,
        test_an_error_whose_class_is_gone_says_which_it_was,
    ),
    "A result counts that comes after": (
        test_what_a_step_returns_after_the_time_of_its_task_is_kept,
        test_what_a_step_of_an_attempt_returns_that_was_given_up_is_kept,
    ),
    "Steps are events": (test_each_step_is_an_event_that_goes_with_its_task,),
    "two steps of one name at once": (
        test_one_name_at_once_is_refused,
        test_other_names_at_once_are_steps,
    ),
    "a step inside a step": (
        test_a_step_inside_a_step_is_refused,
        test_inside_a_step_a_marked_function_is_a_part_of_it,
    ),
    "a result that the journal cannot keep": (
        test_a_result_that_cannot_be_kept_is_refused,
    ),
    "more than 10,000 steps": (test_more_than_ten_thousand_steps_are_refused,),
}


def test_each_promise_of_the_page_is_held_by_tests():
    text = PAGE.read_text("utf-8")
    _, _, rest = text.partition("## What is promised\n")
    sentences = rest.partition("## Limits")[0].split("\n- ")[1:]
    held = [
        [begin for begin in PROMISES if sentence.startswith(begin)]
        for sentence in sentences
    ]
    assert [each for [each] in held] == [*PROMISES]


# -- what is made anew is the same ------------------------------------------------------


class RefusedError(Exception):
    """An error with arguments by name, as many libraries have them."""

    def __init__(self, code, *, why):
        super().__init__(f"{code} {why}")
        self.code, self.why = code, why


class ParsedError(ValueError):
    def __init__(self, place):
        self.place = place
        super().__init__(f"wrong at {place}")


class UnkeptError(ConnectionError):
    def __init__(self, text):
        super().__init__(text)
        self.reply = threading.Lock()


ERRORS = {
    "missing": lambda: Path("/no/such/file").read_text("utf-8"),
    "parsed": lambda: json.loads("{"),
    "decoded": b"\xff".decode,
    "program": lambda: subprocess.run(["false"], check=True),
    "imported": lambda: importlib.import_module("no_such_module"),
    "compiled": lambda: compile("a b", "x.py", "exec"),
    "key": lambda: {}["k"],
    "by name": lambda: raised(RefusedError(409, why="taken")),
    "of its own arguments": lambda: raised(ParsedError(7)),
    "with a note": lambda: raised(noted(ValueError("a"))),
    "ours": lambda: raised(TaskTimeoutError("late", hint="wait", task_id="x")),
    "group": lambda: raised(
        ExceptionGroup(
            "g", [RefusedError(1, why="a"), ExceptionGroup("h", [OSError(2, "b")])]
        )
    ),
}


def raised(error):
    raise error


def noted(error):
    error.add_note("a note")
    return error


def look_at(error):
    """All that a program can see of an error."""
    own = {name: value for name, value in vars(error).items() if name != "__notes__"}
    of_c = ("errno", "filename", "strerror", "name", "path", "lineno", "text", "start")
    members = error.exceptions if isinstance(error, ExceptionGroup) else ()
    return (
        type(error),
        str(error),
        own,
        {name: getattr(error, name) for name in of_c if hasattr(error, name)},
        [each for each in getattr(error, "__notes__", []) if each[:6] != "step '"],
        [look_at(each) for each in members],
    )


@pytest.mark.parametrize("name", ERRORS)
def test_a_kept_error_is_the_same_in_the_next_attempt(settings, name):
    seen = []

    def call():
        CALLS["called"] += 1
        ERRORS[name]()

    def job():
        context = current_context()
        try:
            context.step("try", call)
        except Exception as error:
            seen.append(look_at(error))
        context.step("after", note, "after")
        once("job")

    with TaskOrchestrator(**settings) as orch:
        run(orch, job)
    assert seen[0] == seen[1]
    assert CALLS["called"] == 1


def test_an_error_that_cannot_be_made_anew_is_caught_as_its_nearest_class(settings):
    seen = []

    class LocalError(RefusedError, KeyError):
        pass

    def job():
        context = current_context()
        for make in (
            lambda: raised(UnkeptError("cut")),
            lambda: raised(LocalError(1, why="gone")),
            lambda: raised(ExceptionGroup("g", [UnkeptError("cut"), ValueError("b")])),
        ):
            name = f"step {len(seen) % 3}"
            try:
                context.step(name, counted, make)
            except* ConnectionError as group:
                seen.append([str(each) for each in group.exceptions])
            except* KeyError as group:
                seen.append([str(each) for each in group.exceptions])
            except* ValueError:
                pass
        context.step("after", note, "after")
        once("job")

    def counted(make):
        CALLS["called"] += 1
        make()

    with TaskOrchestrator(**settings) as orch:
        run(orch, job)
    first, second = seen[:3], seen[3:]
    assert len(first) == len(second) == 3
    assert "step 'step 0' raised UnkeptError: cut" in second[0][0]
    assert "step 'step 1' raised LocalError: '1 gone'" in second[1][0]
    assert "UnkeptError: cut" in second[2][0]
    assert CALLS["called"] == 3


def test_a_stand_in_of_an_error_can_be_pickled():
    kept = []

    def job():
        context = current_context()
        try:
            context.step("one", raised, UnkeptError("cut"))
        except ConnectionError as error:
            kept.append(error)
        context.step("after", note, "after")
        once("job")

    with TaskOrchestrator() as orch:
        run(orch, job)
    back = pickle.loads(pickle.dumps(kept[1]))
    assert isinstance(back, TaskFailedError)
    assert isinstance(back, ConnectionError)
    assert (back.message, back.type) == (kept[1].message, "UnkeptError")


@pytest.mark.parametrize(
    "make",
    [
        lambda: (each for each in "abc"),
        lambda: iter([1, 2]),
        lambda: map(abs, [1]),
        lambda: sys.__stderr__,
        threading.Lock,
        lambda: [iter("ab"), (each for each in "ab")],
    ],
    ids=["generator", "iterator", "map", "file", "lock", "in a list"],
)
def test_what_one_attempt_uses_up_is_no_value_of_a_step(settings, make):
    def job():
        current_context().step("one", make)

    match = "step 'one' returned what cannot be kept"
    with TaskOrchestrator(**settings) as orch, pytest.raises(StepError, match=match):
        run(orch, job)
