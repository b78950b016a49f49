"""check_validator: right ones pass, and each planted mistake is named."""

from __future__ import annotations

import random

import pytest
from tests.testing.laws.tools import EXAMPLES, each, violation

from taskorch.model import Task
from taskorch.policies import StructuralValidator
from taskorch.protocols import Finding, Validator, Verdict
from taskorch.testing.laws import check_validator
from taskorch.testing.laws._case import laws_of

TASKS = (
    Task("copy", {"path": "a.txt", "size": 1}, priority=1),
    Task("copy", {"path": "b.txt", "size": 20}, metadata={"tenant": "red"}),
    Task("copy", {"path": "", "size": 1}),
)


class Right:
    """A path that is not empty, a size that is not negative, and no high priority."""

    def validate(self, task, context):
        return Verdict(tuple(self.findings(task)))

    def findings(self, task):
        payload = task.payload if isinstance(task.payload, dict) else {}
        path, size = payload.get("path"), payload.get("size")
        if not isinstance(path, str) or not path:
            yield Finding("payload.path", f"a path is needed, not {path!r}")
        if not isinstance(size, int) or size < 0:
            yield Finding("payload.size", f"a size is needed, not {size!r}")
        if task.priority == 3:
            yield Finding("priority", "3 is taken")


class AnswersYes(Right):
    def validate(self, task, context):
        return not list(self.findings(task))


class FindsTexts(Right):
    def validate(self, task, context):
        return Verdict(tuple(f.message for f in self.findings(task)))


class NamesTheFirst(Right):
    def findings(self, task):
        yield from list(super().findings(task))[:1]


class NamesTheFirstUnderOnePath(Right):
    def findings(self, task):
        for finding in list(super().findings(task))[:1]:
            yield Finding("task", finding.message)


class AcceptsOnce(Right):
    def __init__(self):
        self.seen = []

    def findings(self, task):
        found = list(super().findings(task))
        if task in self.seen:
            found.append(Finding("id", "it was here before"))
        self.seen.append(task)
        return found


class DependsOnTheHour(Right):
    def validate(self, task, context):
        if context.now % 7 > 3:
            return Verdict((Finding("", "not at this hour"),))
        return super().validate(task, context)


class LooksAtSomeOnly(Right):
    def findings(self, task):
        if random.random() < 0.2:
            yield Finding("", "bad luck")
        yield from super().findings(task)


class FillsInDefaults(Right):
    def findings(self, task):
        if isinstance(task.payload, dict):
            task.payload.setdefault("mode", "rw")
        return super().findings(task)


PLANTED = {
    0: (AnswersYes, FindsTexts),
    1: (NamesTheFirst, NamesTheFirstUnderOnePath),
    2: (AcceptsOnce, DependsOnTheHour, LooksAtSomeOnly),
    3: (FillsInDefaults,),
}


@EXAMPLES
def test_a_right_one_passes(examples):
    check_validator(Right(), tasks=TASKS, examples=examples)
    check_validator(Right, seed=1, examples=20)


@pytest.mark.parametrize(("law", "made"), each(PLANTED))
def test_a_planted_mistake_is_named(law, made):
    assert violation(check_validator, made, tasks=TASKS).law == law
    assert violation(check_validator, made(), tasks=TASKS).law == law


def test_every_law_has_a_planted_mistake():
    assert set(laws_of(Validator)) == set(PLANTED) - {0}


def test_a_mistake_in_the_structure_is_found_without_tasks_of_the_users():
    """Fields are replaced by malformed values, too."""

    class NamesTheFirstFault(StructuralValidator):
        def validate(self, task, context):
            return Verdict(super().validate(task, context).findings[:1])

    found = violation(check_validator, NamesTheFirstFault())

    assert found.law == 1
    assert "a task with both" in str(found)


@EXAMPLES
def test_findings_may_say_several_things_at_once(examples):
    """One finding that names two faults names every fault."""

    class SaysAllInOne(Right):
        def findings(self, task):
            texts = [finding.message for finding in super().findings(task)]
            return [Finding("task", "; ".join(texts))] if texts else []

    check_validator(SaysAllInOne(), tasks=TASKS, examples=examples)


@EXAMPLES
def test_a_rule_over_two_values_needs_both_to_be_right(examples):
    """Where one of them is wrong by itself, there is nothing to compare."""

    class Compares(Right):
        def findings(self, task):
            found = list(super().findings(task))
            yield from found
            if not found and task.payload["size"] > len(task.payload["path"]):
                yield Finding("payload.size", "longer than the path")

    check_validator(Compares(), tasks=TASKS, examples=examples)


@EXAMPLES
def test_what_it_raises_over_replaced_values_is_passed_over(examples):
    """It was asked about a task that the orchestrator would not have shown it."""

    class Careless(Right):
        def findings(self, task):
            if not task.type.isidentifier() or task.payload["size"] < 0:
                yield Finding("type", "a name, and a size")

    check_validator(Careless(), tasks=TASKS, examples=examples)

    with pytest.raises(TypeError) as caught:
        check_validator(Careless(), tasks=[Task("copy")])
    assert "in case 1, seed 0" in caught.value.__notes__[0]
    assert "task = Task('copy')" in caught.value.__notes__[0]


def test_a_check_in_which_nothing_is_accepted_says_so():
    """It could not see what it is there to see."""
    with pytest.raises(ValueError, match="none of 20 tasks was accepted"):
        check_validator(Right(), examples=20, tasks=[Task("copy")])
