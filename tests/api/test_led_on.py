"""Guesses: what works elsewhere leads on to what is here, wherever it is written."""

import itertools

import pytest

import taskorch
from taskorch import Task, TaskOrchestrator, Workflow, current_context
from taskorch.errors import UsageError


@taskorch.task
def double(x):
    return 2 * x


@pytest.mark.parametrize(
    ("guess", "said"),
    [
        (lambda orch: orch.options(allow_failures=2), r"map\(…, allow_failures=2\)"),
        (lambda _: double.options(allow_failures=2), r"map\(…, allow_failures=2\)"),
        (lambda _: taskorch.task(allow_failures=2), r"map\(…, allow_failures=2\)"),
        (lambda orch: orch.map(double, [1], id="n/{}"), r"options\(id='n/{}'\)"),
        (lambda _: double.map([1], id="n/{}"), r"options\(id='n/{}'\)\.map\(items"),
        (lambda orch: orch.map(double, [1], retries=2), r"orch\.options\("),
        (lambda _: double.map([1], retries=2), r"f\.options\("),
        (lambda _: taskorch.task.branch(), "a task that is not needed"),
        (lambda _: taskorch.task.short_circuit(double), "a task that is not needed"),
        (lambda _: taskorch.task.sensor(poke_interval=6), "wait"),
        (lambda _: taskorch.task.bash(double), r"Task\.program\("),
        (lambda _: taskorch.task.virtualenv(requirements=["x"]), r"Task\.program\("),
        (lambda _: Workflow("w").task(double, 1).as_teardown(), "parts of a workflow"),
        (
            lambda _: Task.program(["ls"], executor="process"),
            r"Task\.call\(f, executor=",
        ),
        (
            lambda _: Workflow("w").program(["ls"], executor="process"),
            "a process of its",
        ),
        (
            lambda orch: orch.submit(
                lambda: current_context().child("ship", Workflow("w"), {"a": 1})
            ).result(),
            r"context\.child\('ship', workflow, \*\*parameters\)",
        ),
        (lambda _: taskorch.DeadlineAlert, "deadline= is for all|deadline="),
    ],
)
def test_a_guess_leads_on(guess, said):
    errors = (UsageError, TypeError, AttributeError, ImportError)
    with TaskOrchestrator() as orch, pytest.raises(errors, match=said):
        guess(orch)


def test_what_the_guesses_lead_to_works():
    with TaskOrchestrator() as orch:
        assert list(orch.options(id="n/{}").map(double, [1, 2])) == [2, 4]
        assert list(double.map([1, 2], allow_failures=1)) == [2, 4]
        assert list(orch.map(pow, [1, 2], itertools.repeat(2))) == [1, 4]
        with pytest.raises(TypeError) as caught:
            orch.map(pow, [1, 2], 2)
        assert "itertools.repeat" in caught.value.__notes__[0]
        assert orch.submit_task(Task.call(double, 2)).result() == 4
