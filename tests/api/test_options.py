"""Options: durations, resources, and names that nobody has."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial

import pytest
from tests.api.tools import PATIENCE

import taskorch
from taskorch import (
    Approval,
    InvalidTaskError,
    Resources,
    RetryPolicy,
    Task,
    TaskOrchestrator,
    Workflow,
)
from taskorch.model import Wait

SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("made", "meant"),
    [
        (Task("t", timeout=SECOND), Task("t", timeout=1.0)),
        (Task("t", deadline=2 * SECOND), Task("t", deadline=2.0)),
        (Task("t", not_before=SECOND / 2), Task("t", not_before=0.5)),
        (Task("t", resources={"cpu": 2}), Task("t", resources=Resources(cpu=2))),
        (Task.call(int, timeout=SECOND), Task.call(int, timeout=1.0)),
        (Task.wait_for("e", timeout=SECOND), Task.wait_for("e", timeout=1.0)),
        (Wait("e", SECOND), Wait("e", 1.0)),
        (Approval(timeout=SECOND), Approval(timeout=1.0)),
        (RetryPolicy(base=SECOND), RetryPolicy(base=1.0)),
        (RetryPolicy(max_delay=SECOND), RetryPolicy(max_delay=1.0)),
        (RetryPolicy(stop_after=SECOND), RetryPolicy(stop_after=1.0)),
    ],
    ids=repr,
)
def test_a_mapping_and_a_timedelta_are_taken_as_what_they_mean(made, meant):
    """They are equal, so that both have one identity, and are written alike."""
    assert made == meant
    assert repr(made) == repr(meant)


def test_durations_of_the_orchestrator_may_be_timedeltas():
    orch = TaskOrchestrator(
        resources={"cpu": 1},
        stop_timeout=60 * SECOND,
        monitor_interval=SECOND,
    )
    with orch:
        handle = orch.submit(int)
        assert handle.result(60 * SECOND) == 0
        assert handle.exception(60 * SECOND) is None
        assert list(orch.map(int, ["1"], timeout=60 * SECOND)) == [1]
        assert orch.emit("e", keep=SECOND) == 0
        assert orch.expire_tasks(SECOND) == []
        assert orch.change_tasks("cancel", older_than=SECOND, state="queued") == []
        assert orch.wait(60 * SECOND)
        assert orch.stop(timeout=60 * SECOND).drained


def test_patience_that_is_over_is_told_in_seconds():
    orch = TaskOrchestrator()
    handle = orch.submit(int)
    with pytest.raises(TimeoutError, match=r"within 0\.001 s"):
        handle.result(timedelta(milliseconds=1))
    with pytest.raises(TimeoutError):
        handle.exception(timedelta(0))
    orch.stop(drain=False)


def test_the_calls_of_a_map_take_options_in_either_form():
    orch = TaskOrchestrator(resources={"cpu": 1})
    wf = Workflow("w")
    phase = wf.phase("p", max_parallel=1)
    phase.map(str, [1, 2], resources={"cpu": 1}, timeout=60 * SECOND, id="m")
    with orch:
        assert orch.workflows.start(wf).result()["m"] == ["1", "2"]


@pytest.mark.parametrize(
    "make",
    [
        lambda **o: Task("t", **o),
        lambda **o: Task.call(int, **o),
        lambda **o: Task.call(int, "1", kwargs={}, id="x", **o),
        lambda **o: Task.program(["ls"], **o),
        lambda **o: Task.wait_for("e", deadline=1, **o),
        lambda **o: Workflow("w").task(int, **o),
        lambda **o: Workflow("w").program(["ls"], **o),
        lambda **o: Workflow("w").gather([], **o),
        lambda **o: Workflow("w").map(int, [], **o),
        lambda **o: Workflow("w").reduce(int, [], **o),
        lambda **o: Workflow("w").wait_for("e", **o),
    ],
)
def test_an_option_that_there_is_not_names_the_one_that_was_meant(make):
    with pytest.raises(
        TypeError, match=r"no option 'priorty': did you mean 'priority'"
    ):
        make(priorty=3)
    with pytest.raises(TypeError, match=r"no option 'colour': there are type, "):
        make(colour="red")


def test_an_option_of_the_function_itself_is_meant_too():
    for make in (lambda **o: taskorch.task(**o)(int), partial(Task.call, int)):
        with pytest.raises(TypeError, match="'retris': did you mean 'retries'"):
            make(retris=2)
        with pytest.raises(TypeError, match="retries, retry_delay"):
            make(colour="red")
    with pytest.raises(TypeError, match="did you mean 'max_parallel'"):
        Workflow("w").map(int, [], max_paralel=2)


def test_other_classes_suggest_too():
    with pytest.raises(
        TypeError, match=r"RetryPolicy has no option 'max_attempt': did"
    ):
        RetryPolicy(max_attempt=3)
    with pytest.raises(TypeError, match=r"TaskOrchestrator has no option 'concurency'"):
        TaskOrchestrator(concurency=3)


@pytest.mark.parametrize(
    "add", [Task.call, lambda fn, **options: Workflow("w").task(fn, **options)]
)
def test_an_argument_of_the_function_among_the_options_is_told(add):
    with pytest.raises(TypeError, match=r"'second': it .* of divide.* kwargs={'second"):
        add(divide, second=1)


def divide(first, second):
    return first / second


@pytest.mark.parametrize(
    ("thing", "name", "meant"),
    [
        ("handle", "output", "result"),
        ("handle", "id", "task_id"),
        ("handle", "state", "status"),
        ("run", "run_id", "workflow_id"),
        ("run", "id", "workflow_id"),
        ("run", "wait", "result"),
        ("wf", "add_task", "task"),
        ("wf", "step", "task"),
        ("phase", "step", "task"),
        ("workflows", "run", "start"),
        ("workflows", "submit", "start"),
    ],
)
def test_what_others_call_a_name_is_understood(thing, name, meant):
    wf = Workflow("w")
    phase = wf.phase("p")
    phase.task(abs, -1)
    with TaskOrchestrator() as orch:
        things = {
            "handle": orch.submit(abs, -1),
            "run": orch.workflows.start(wf),
            "wf": wf,
            "phase": phase,
            "workflows": orch.workflows,
        }
        with pytest.raises(AttributeError, match=f"{name!r}: did you mean '{meant}'"):
            getattr(things[thing], name)
        assert not hasattr(things[thing], "_nothing_like_it")


def test_what_is_wrong_otherwise_is_said_as_python_says_it():
    with pytest.raises(TypeError, match=r"missing 1 required positional argument"):
        Task()
    with pytest.raises(TypeError, match=r"multiple values"):
        Task("t", type="t")


# -- orch.options ------------------------------------------------------------------


def shaky(runs, times):
    runs.append(1)
    if len(runs) < times:
        raise OSError
    return len(runs)


async def echo(x):
    return x


def test_calls_have_options():
    runs = []
    with TaskOrchestrator() as orch:
        again = orch.options(timeout=PATIENCE, retry=RetryPolicy(3, base=0), id="once")
        assert again.submit(shaky, runs, times=3).result(PATIENCE) == 3
        assert orch.get_task_status("once").attempts == 3
        late = orch.options(not_before=600, priority=2, metadata={"a": 1})
        status = orch.get_task_status(late.submit(abs, 1).task_id)
        assert (status.priority, status.metadata) == (2, {"a": 1})
        orch.cancel_task(status.task_id)
        with pytest.raises(InvalidTaskError, match="executor"):
            orch.options(executor="nowhere").submit(abs, 1)
        with pytest.raises(TypeError, match="did you mean 'timeout'"):
            orch.options(tiemout=1)


@pytest.mark.parametrize("is_async", [False, True])
def test_so_calls_are_durable_and_made_once(tmp_path, is_async):
    """A program that is run again finds what it has done."""

    async def main(orch):
        options = orch.aio.options()
        numbers = [n async for n in options.map(abs, [1, 2], id="night/{}")]
        mine = await orch.aio.options(id="mine").submit(abs, -3)
        return [*numbers, await mine]

    for _ in range(2):
        with TaskOrchestrator(journal=tmp_path / "runs.db") as orch:
            if is_async:
                found = asyncio.run(main(orch))
            else:
                found = list(orch.options().map(abs, [1, 2], id="night/{}"))
                found.append(orch.options(id="mine").submit(abs, -3).result(PATIENCE))
            assert found == [1, 2, 3]
            states = {status.task_id: status.attempts for status in orch.tasks()}
            assert states == {"night/1": 1, "night/2": 1, "mine": 1}


def test_the_ids_of_a_map_are_made_of_items_and_numbers():
    with TaskOrchestrator() as orch:
        assert list(orch.options(id="p/{}-{}").map(pow, [2, 3], [3, 2])) == [8, 9]
        numbered = orch.options(id="not this").map(echo, ["a b", "a b"], id="n/{n}")
        assert list(numbered) == ["a b", "a b"]
        assert orch.get_task_status("p/3-2").result == 9
        assert orch.get_task_status("n/1").result == "a b"
        for pattern, said in (
            ("same", "id='same' is that of one task"),
            ("m/{}", "'m/a b' is no safe id"),
            ("m/{x}", "cannot be filled in"),
            (3, "id is a text"),
        ):
            with pytest.raises(InvalidTaskError, match=said):
                orch.options().map(echo, ["b", "a b"], id=pattern)


def test_a_number_of_attempts_is_a_policy():
    assert Task.call(abs, 1, retry=3).retry == RetryPolicy(3)
    assert Task("x", retry=1).retry == RetryPolicy()
    with pytest.raises(InvalidTaskError, match="from 1 to 1,000,000, not 0"):
        Task.call(abs, 1, retry=0)


@pytest.mark.parametrize(
    ("options", "meant"),
    [
        ({"timeout": 5}, "timeout"),
        ({"retry": 3}, "retry"),
        ({"executor": "x"}, "executor"),
        ({"retries": 3}, "retries"),
        ({"depends_on": ["x"]}, "after"),
        ({"retry_delay": 3}, "retry"),
        ({"cpu": 2}, "resources"),
    ],
)
def test_an_option_among_the_arguments_of_a_function_is_told(options, meant):
    def takes_it(**_options):
        return 1

    (name,) = options
    with TaskOrchestrator() as orch:
        said = f"shaky takes no argument {name}="
        with pytest.raises(InvalidTaskError, match=said) as caught:
            orch.submit(shaky, [], 1, **options)
        value = repr(options[name]) if name == meant else "…"
        assert f"orch.options({meant}={value})" in caught.value.hint
        assert orch.submit(takes_it, **options).result(PATIENCE) == 1
