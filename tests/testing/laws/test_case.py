"""What all law checks share: cases, messages, and pictures of arguments."""

from __future__ import annotations

import dataclasses
import inspect
import pickle
import random
from random import Random

import attrs
import pytest

from taskorch import protocols
from taskorch.model import Call, Resources, Task
from taskorch.policies import StructuralValidator
from taskorch.protocols import Route, TaskRouter
from taskorch.testing import laws
from taskorch.testing._builders import make_context
from taskorch.testing.laws import LawViolation, check_task_router
from taskorch.testing.laws._case import cases, laws_of, snapshot
from taskorch.testing.laws._worlds import some_task


class First:
    def route(self, task, candidates, context):
        return Route(candidates[0].name)


# ------------------------------------------------------------------------ violations


def test_a_violation_can_be_pickled_with_its_notes():
    """Test runners hand it from process to process."""
    violation = LawViolation("it broke", "TaskRouter", 2, 17)
    violation.add_note("a note")
    copy = pickle.loads(pickle.dumps(violation))

    assert isinstance(copy, AssertionError)
    assert (str(copy), copy.protocol, copy.law, copy.case) == (
        "it broke",
        "TaskRouter",
        2,
        17,
    )
    assert copy.__notes__ == ["a note"]


def test_there_is_a_check_for_every_protocol_with_laws():
    names = {
        "check_" + "".join(f"_{c.lower()}" if c.isupper() else c for c in name)[1:]
        for name, cls in vars(protocols).items()
        if inspect.isclass(cls) and laws_of(cls)
    }

    # The parts of a rule are checked together.
    names -= {"check_alert_condition", "check_alert_action"}
    # What a program adds as a limit is an object of its own, and no policy.
    names |= {"check_alert_rule", "check_limit"}
    assert names == {name for name in vars(laws) if name.startswith("check_")}


def test_the_laws_are_read_from_the_docstring_whole():
    assert laws_of(TaskRouter) == {
        1: "The worker of the answer is one of candidates.",
        2: (
            "Randomness comes from context.random only: the same seed and the same "
            "questions give the same answers."
        ),
        3: "It changes none of its arguments.",
    }


def test_what_a_policy_raises_passes_through_with_the_question():
    class Broken:
        def route(self, task, candidates, context):
            raise LookupError("no route")

    with pytest.raises(LookupError) as caught:
        check_task_router(Broken(), seed=5, tasks=[Task("x", priority=3)])

    (note,) = caught.value.__notes__
    assert note.startswith(
        "in case 1, seed 5: check_task_router(..., seed=5)\n"
        "  task = Task('x', priority=3)\n"
        "  candidates = [<worker "
    )


def test_a_protocol_is_needed_or_what_makes_one():
    with pytest.raises(TypeError, match="what makes a TaskRouter is needed, not 'x'"):
        check_task_router("x")
    with pytest.raises(TypeError, match=r"which is not a TaskRouter: it has no route$"):
        check_task_router(object)
    with pytest.raises(TypeError, match=r"needed, not <object .*>: it has no route$"):
        check_task_router(object())


# ------------------------------------------------------------------------- the cases


def test_the_same_seed_asks_the_same_questions():
    def asked(seed):
        seen = []

        class Watching(First):
            def route(self, task, candidates, context):
                seen.append(repr((task, candidates, context, context.random.random())))
                return super().route(task, candidates, context)

        check_task_router(Watching(), seed=seed, examples=20)
        return seen

    assert asked(1) == asked(1)
    assert asked(1) != asked(2)


def test_a_case_is_the_same_whatever_came_before_it():
    few, many = (list(cases(TaskRouter, "check", 0, n)) for n in (3, 9))
    few[0].random.random()

    assert few[2].number == 3
    assert few[2].random.random() == many[2].random.random()


def test_a_check_leaves_the_global_generator_as_it_was():
    random.seed(1)
    expected = random.random()
    random.seed(1)
    check_task_router(First(), examples=5)

    assert random.random() == expected


def test_the_tasks_that_are_asked_about_are_well_formed():
    dice, context = Random(0), make_context()
    tasks = [some_task(dice) for _ in range(500)]

    assert {
        StructuralValidator().validate(task, context).findings for task in tasks
    } == {()}
    assert len({task.priority for task in tasks}) > 5
    assert any(not task.resources for task in tasks)
    assert any(task.requires == () for task in tasks)
    assert any(task.priority < 0 for task in tasks)


# ----------------------------------------------------------------------- the pictures


@attrs.define
class Thing:
    name: str
    parts: list


@dataclasses.dataclass
class Record:
    value: object


class Opaque:
    def __init__(self):
        self.value = 1


CHANGES = [
    (lambda: [1], lambda value: value.append(2)),
    (lambda: {"a": 1}, lambda value: value.update(a=2)),
    (lambda: {"a": 1, "b": 2}, lambda value: value.update(a=value.pop("a"))),
    (lambda: {1, 2}, lambda value: value.add(3)),
    (lambda: bytearray(b"a"), lambda value: value.append(0)),
    (lambda: Thing("a", []), lambda value: setattr(value, "name", "b")),
    (lambda: Thing("a", []), lambda value: value.parts.append(1)),
    (lambda: Record([]), lambda value: value.value.append(1)),
    (lambda: Task("x", {"a": [{}]}), lambda task: task.payload["a"][0].update(b=1)),
    (
        lambda: Task("x", Call(print, ([],))),
        lambda task: task.payload.args[0].append(1),
    ),
    (lambda: ValueError("a"), lambda value: value.add_note("b")),
    (lambda: ValueError("a"), lambda value: setattr(value, "args", ("b",))),
    (lambda: [Opaque()], lambda value: value.__setitem__(0, Opaque())),
]


@pytest.mark.parametrize(("make", "change"), CHANGES)
def test_a_change_is_seen(make, change):
    value = make()
    before = snapshot(value)
    assert snapshot(value) == before

    change(value)

    assert snapshot(value) != before


def test_a_picture_is_taken_of_what_contains_itself():
    value = [1]
    value.append(value)
    before = snapshot(value)
    assert snapshot(value) == before

    value.append(2)

    assert snapshot(value) != before


def test_objects_that_are_not_looked_into_stay_themselves():
    """Their attributes may be caches: they are compared by identity."""
    value = [Opaque(), float("nan"), print, Resources(cpu=1)]
    before = snapshot(value)

    value[0].value = 2

    assert snapshot(value) == before
