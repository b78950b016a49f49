"""The other values: tasks, states, workers, ids, answers to questions."""

from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest

from taskorch import RetryPolicy
from taskorch.errors import InvalidTaskError
from taskorch.kit.limits import MAX_ID_LENGTH
from taskorch.model import (
    TERMINAL,
    BudgetUsage,
    Call,
    Program,
    Resources,
    Task,
    TaskState,
    TaskStatus,
    call_type,
    named,
    task_of_call,
    units_in,
)
from taskorch.model.ids import check_id, id_problem


def function():
    pass


class Callable:
    def __call__(self):
        pass


# -- tasks -------------------------------------------------------------------------


def fields(value: Any) -> dict[str, Any]:
    """All of them, also those that a comparison leaves out."""
    return {
        field.name: getattr(value, field.name) for field in attrs.fields(type(value))
    }


@pytest.mark.parametrize("args", [(), (1, [2])])
@pytest.mark.parametrize("kwargs", [{}, {"a": [1]}])
@pytest.mark.parametrize("task_id", [None, "one"])
def test_the_task_of_a_plain_call_is_made_as_any_other(args, kwargs, task_id):
    plain = Task("name", Call(function, args, dict(kwargs)), id=task_id)
    made = task_of_call("name", function, args, kwargs, task_id)

    assert type(made) is Task
    assert type(made.payload) is Call
    assert fields(made.payload) == fields(plain.payload)
    assert fields(made) == fields(plain)
    assert made.payload.kwargs is not kwargs
    assert repr(made) == repr(plain)
    if not kwargs and task_id is None:
        called = Task.call(function, *args)
        assert type(called) is Task
        assert fields(called) == fields(attrs.evolve(plain, type="function"))
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        made.type = "another"


class Review(Task[Any]):
    """A task of a class of the user's."""


@pytest.mark.parametrize("cls", [Task, Review])
def test_a_task_with_another_id_is_the_same_in_all_else(cls):
    """As `attrs.evolve` makes it, in less time."""
    task = cls(
        "review",
        {"path": "a.py"},
        after=["x"],
        priority=3,
        resources={"cpu": 2},
        retry=RetryPolicy(max_attempts=2),
        metadata={"k": []},
        owner="ann",
    )
    object.__setattr__(task, "_submitted_as", "task-1")
    made = named(task, "one", ("y",))

    assert type(made) is cls
    assert fields(made) == fields(attrs.evolve(task, id="one", after=("y",)))
    assert (task.id, task.after) == (None, ["x"])
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        made.id = "another"


def test_a_task_is_a_description():
    """Nothing is checked before it is submitted; its payload need not be hashable."""
    task = Task("review", {"path": "a.py"}, after=["x"], metadata={"k": []})
    assert hash(task) == hash(Task("review"))
    assert task == Task("review", {"path": "a.py"}, after=["x"], metadata={"k": []})
    assert task != Task("review")
    assert "_submitted_as" not in repr(task)


OPTIONS: dict[str, Any] = {
    "type": "other",
    "id": "a/b",
    "priority": 2,
    "after": ["x"],
    "join": "any",
    "on_parent_failure": "skip",
    "requires": ("gpu",),
    "resources": {"cpu": 2},
    "timeout": timedelta(minutes=1),
    "expected": timedelta(seconds=3),
    "deadline": 60,
    "not_before": datetime(2030, 1, 1, tzinfo=UTC),
    "retry": RetryPolicy(max_attempts=3),
    "idempotency_key": "k",
    "idempotent": False,
    "allow_failure": True,
    "metadata": {"a": 1},
    "owner": "me",
    "cache": True,
    "writes": ["src/**"],
    "budget": "release",
}


@pytest.mark.parametrize("given", [{}, {"kwargs": {"k": 2}}, {"executor": "thread"}])
@pytest.mark.parametrize("chosen", [(), *((name,) for name in OPTIONS), (*OPTIONS,)])
def test_a_call_has_its_options_as_any_task_has(chosen, given):
    """They are put into it without the constructor, and come to the same."""
    options = {name: OPTIONS[name] for name in chosen}
    expected = {"type": "function", "payload": Call(function, (1,), **given), **options}
    assert Task.call(function, 1, **given, **options) == Task(**expected)


def test_all_options_are_among_these():
    """One that is added later has to be tried as well."""
    fields = {field.name for field in attrs.fields(Task) if field.init}
    assert fields == {"payload", *OPTIONS}


def test_the_type_of_a_call():
    """Functions have their name, other callables that of their class."""
    assert call_type(function) == "function"
    assert call_type(Callable()) == "Callable"


def test_a_program():
    """An argument list becomes a payload of the type `program`."""
    task = Task.program(["ls", "-l"], cwd="/", env={"A": "b"}, timeout=3)
    assert task.payload == Program(["ls", "-l"], cwd="/", env={"A": "b"})
    assert (task.type, task.timeout) == ("program", 3)
    assert Task.program(["ls"], type="listing").type == "listing"


# -- ids ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["", "/", "a/", "/a", "a//b", ".", "..", "a/../b", ".a", "-a", "a.", "a~2", "a b",
     "é", "a\n", "a\0", "a" * (MAX_ID_LENGTH + 1)],
)  # fmt: skip
def test_unsafe_ids(name):
    """These cannot; the message says what an id may look like."""
    with pytest.raises(InvalidTaskError):
        check_id(name)


def test_what_is_no_id():
    """An id is text."""
    assert id_problem(7) == "an id is a str, not int"


# -- states ------------------------------------------------------------------------


def test_states():
    """Three of the nine are the end."""
    assert len(TaskState) == 9
    assert {s for s in TaskState if s.is_terminal} == TERMINAL
    assert str(TaskState.QUEUED) == "queued"


def test_status():
    """A status knows whether it is the last."""
    status = TaskStatus(
        "t",
        "call",
        TaskState.FAILED,
        "failed",
        None,
        None,
        1,
        (),
        None,
        Resources(),
        (),
    )
    assert status.is_terminal


# -- answers -----------------------------------------------------------------------


def test_a_task_of_a_class_of_its_own_is_called_with_options():
    class Report(Task):
        pass

    report = Report.call(print, "x", priority=3)

    assert type(report) is Report
    assert (report.type, report.priority) == ("print", 3)


def test_a_budget_says_how_it_stands():
    def budget(spent, held=0.0, **fields):
        amounts = {"tokens": 10.0}, {"tokens": spent}, {"tokens": held}
        return BudgetUsage("release", *amounts, **fields)

    assert budget(7, 1).state == "ok"
    assert budget(8, is_low=True).state == "low"
    assert budget(8, is_low=True, question="q").state == "exhausted"
    assert budget(10, is_low=True).state == "exhausted"
    assert budget(12, is_low=True, is_open=True).state == "open"
    assert str(budget(7, 1, parent="all")) == (
        "release (part of all): ok; 7 of 10 tokens spent, 1 reserved, 2 left"
    )
    assert str(budget(12)) == "release: exhausted; 12 of 10 tokens spent, 0 left"
    assert budget(7, 1).to_dict()["left"] == {"tokens": 2}


@pytest.mark.parametrize(
    ("line", "units"),
    [
        (b'{"tokens": 1.5, "eur": 0}', (("eur", 0), ("tokens", 1_500_000))),
        (b'{"tokens": 1e-9}', (("tokens", 1),)),
        (b"{}", ()),
        (b'{"tokens": -1}', None),
        (b'{"tokens": 1e99}', None),
        (b'{"tokens": Infinity}', None),
        (b'{"tokens": {"a": 1}}', None),
        (b'{"self": "x"}', None),
        (b"\xff", None),
        (b"[1]", None),
        (b"[" * 100_000, None),
    ],
)
def test_a_line_has_amounts_or_none(line, units):
    assert units_in(line) == units
