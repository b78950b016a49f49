"""A kind of policy is added to the list, and nothing else is written for it."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import attrs
import pytest
from tests.house.tools.extensions import SOURCE, told_with

from taskorch import TaskOrchestrator
from taskorch.kit.described import texts_of
from taskorch.kit.members import members_of, methods_of
from taskorch.policies._kinds import POLICIES, START_RULES, Policies, PolicySettings
from taskorch.protocols import MAY_HAVE, _optional

HOWTO = Path(__file__).parents[3] / "docs" / "howto"
CLASS = "@attrs.frozen(kw_only=True, eq=False)\nclass Policies:\n"
FIELD = "    router: TaskRouter = attrs.field(factory=PerformanceRouter)\n"
TYPE = "    router: TaskRouter | None\n"
NEW = """
from typing import Protocol

from taskorch.model import Task
from taskorch.protocols import Context, Permit


class Governor(Protocol):
    def may_start(self, task: Task, context: Context) -> Permit: ...


class Generous:
    def may_start(self, task, context):
        return Permit(True)


"""

STORY = """
from inspect import signature

import pytest

from taskorch import InvalidTaskError, TaskExecutor, TaskOrchestrator
from taskorch.testing import Simulation


class Governor:
    def may_start(self, task, context): ...


class Narrow:
    def may_start(self, task): ...


for cls in (TaskOrchestrator, TaskExecutor, Simulation):
    parameter = signature(cls).parameters["governor"]
    assert parameter.default is None
    assert parameter.annotation == "Governor | None"
    cls(governor=Governor())
    cls(governor=None)
    for part, word in {
        object(): r"governor=.* has no method may_start\\(\\)",
        Governor: "governor= takes an object, not the class Governor: call it",
        Narrow(): r"governor=.*may_start\\(\\) cannot be called with \\(task, context\\)",
    }.items():
        with pytest.raises(InvalidTaskError, match=word):
            cls(governor=part)
    with pytest.raises(TypeError, match=f"{cls.__name__} has no .* mean 'governor'"):
        cls(governer=Governor())

with TaskOrchestrator(governor=Governor()) as orch:
    assert orch.submit(pow, 2, 5).result() == 32
assert orch.simulate([], 1).makespan == 0
from taskorch.core.engine import _deciders
assert _deciders.METHODS["governor"] == ("may_start",)
print("all of it")
"""


def test_a_kind_of_policy_is_added_at_its_field_and_is_everywhere(tmp_path):
    """Signatures, typos, defaults, and what is refused, of all three constructors."""
    place = "policies/_kinds.py"
    text = (SOURCE / place).read_text()
    added = {
        CLASS: NEW + CLASS,
        FIELD: FIELD + "    governor: Governor = attrs.field(factory=Generous)\n",
        TYPE: TYPE + "    governor: Governor | None\n",
    }
    for old, new in added.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    done = told_with({place: text}, STORY, tmp_path)
    assert done.stdout == "all of it\n", done.stdout + done.stderr


#: All that is written by hand for a kind that keeps tasks from starting, with words of
#: its own, as CONTRIBUTING.md says it: by file, a line, and what comes before it.
RULE = {
    "policies/_kinds.py": [
        (FIELD, "    curfew: StartRule = attrs.field(factory=AnyStart)\n"),
        (TYPE, "    curfew: StartRule | None\n"),
        (
            "from taskorch.kit.members import has, methods_of\n",
            "from taskorch.kit.extension import StartRule\n",
        ),
    ],
    "api/_orchestrator.py": [
        (
            "        validator: Whether a task is accepted (`StructuralValidator`).\n",
            "        curfew: Which tasks do not start at this hour (`AnyStart`).\n",
        )
    ],
}
STORY_OF_RULE = r"""
import runpy
import sys
from inspect import signature

import pytest

from taskorch import InvalidTaskError, Task, TaskExecutor, TaskOrchestrator
from taskorch.errors import ComponentError
from taskorch.kit.extension import Short, StartRule
from taskorch.testing import Simulation


class Night:
    is_over = False

    def need(self, kind):
        return 1 if kind.type == "report" else 0

    def short(self, need, held):
        return None if self.is_over else Short("It is night.", seconds=0.05)


class Counted(Night):
    is_over = True
    count = 0

    def started(self, need):
        self.count += need


class Broken(Night):
    def short(self, need, held):
        raise ZeroDivisionError


assert isinstance(Night(), StartRule)
report = Task.call(pow, 2, 6, type="report")
# In words.
night = Night()
with TaskOrchestrator(curfew=night) as orch:
    assert orch.submit(pow, 2, 5).result() == 32
    handle = orch.submit_task(report)
    (blocker,) = orch.explain(handle.task_id).blockers
    assert (blocker.kind, blocker.name) == ("limit", "curfew")
    assert blocker.detail == "It is night."
    assert "curfew must allow it" in blocker.remedies[0].detail
    night.is_over = True
    assert handle.result(60) == 64
counted = Counted()
with TaskOrchestrator(curfew=counted) as orch:
    assert orch.submit(pow, 2, 5).result() == 32
    assert orch.submit_task(report).result(60) == 64
assert counted.count == 1
with TaskOrchestrator(curfew=Broken()) as orch:
    with pytest.raises(ComponentError, match="curfew"):
        orch.submit_task(report).result(60)
# Among the settings, and as an argument.
for cls in (TaskOrchestrator, TaskExecutor, Simulation):
    assert signature(cls).parameters["curfew"].annotation == "StartRule | None"
    cls(curfew=None)
    for part, words in {
        object(): r"curfew=.* has no method need\(\)",
        Night: "curfew= takes an object, not the class Night: call it",
    }.items():
        with pytest.raises(InvalidTaskError, match=words):
            cls(curfew=part)
Night.need, need = lambda self: 1, Night.need
with pytest.raises(InvalidTaskError) as refused:
    TaskOrchestrator(curfew=Night())
Night.need = need
assert refused.value.hint == "see taskorch.kit.extension.StartRule"
sim = Simulation(curfew=Night())
waiting = sim.submit_task(report)
sim.run(1)
assert sim.explain(waiting).blockers[0].detail == "It is night."
# On the pages of the reference.
pages = runpy.run_path(sys.argv[1])
assert "- `curfew`, `StartRule`: `need(kind)` → `float`" in pages["policies_page"]()
text = "Which tasks do not start at this hour (`AnyStart`)."
assert f". {text}" in pages["policies_page"]()
print("all of it")
"""


def test_a_kind_that_keeps_tasks_from_starting_says_so_itself(tmp_path):
    """
    Two files make a kind with words of its own, which are in explanations.

    Nothing of the protocols, of the kernel, of the runtime or of the explanations is written for it.
    """
    changes = {}
    for name, lines in RULE.items():
        text = (SOURCE / name).read_text()
        for place, line in lines:
            assert text.count(place) == 1, place
            text = text.replace(place, line + place)
        changes[name] = text
    reference = Path(__file__).with_name("_reference.py")
    done = told_with(changes, STORY_OF_RULE, tmp_path, reference)
    assert done.stdout == "all of it\n", done.stdout + done.stderr


def test_checkers_are_told_of_the_same_policies():
    """The types of arguments are written out, for them and for readers."""
    types = {
        name: reference.__forward_arg__
        for name, reference in PolicySettings.__annotations__.items()
    }
    assert types == {name: f"{kind.__name__} | None" for name, kind in POLICIES.items()}
    assert list(types) == [field.name for field in attrs.fields(Policies)]


def test_what_is_said_of_the_arguments_has_all_policies():
    assert POLICIES.keys() <= texts_of(TaskOrchestrator, "Args").keys()


def test_five_files_name_all_policies():
    """
    Where a kind is added: its text, its field, its name for users, its question.

    Its protocol stands with the others.
    """
    words = [*POLICIES], [kind.__name__ for kind in POLICIES.values()]
    files = {
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*.py")
        for text in [path.read_text()]
        if any(
            all(w in text and re.search(rf"\b{w}\b", text) for w in each)
            for each in words
        )
    }
    assert files - {"protocols/_policies.py"} == {
        "__init__.py",
        "api/_orchestrator.py",
        "policies/_kinds.py",
        "protocols/__init__.py",
        "core/engine/_deciders.py",
    }


def test_no_two_methods_of_policies_have_one_name():
    """By the name of a method it is known who is asked."""
    kinds = [kind for name, kind in POLICIES.items() if name not in START_RULES]
    names = [method for kind in kinds for method in methods_of(kind)]
    more = {
        member
        for optional in MAY_HAVE
        for member in members_of(optional)
        if member not in ("watches", "name")
    }
    assert len({*names, *more, "join"}) == len(names) + len(more) + 1


def test_each_default_is_an_answer_to_its_protocol():
    for name, part in attrs.asdict(Policies(), recurse=False).items():
        assert isinstance(part, POLICIES[name])


def test_all_that_a_policy_may_have_is_in_the_table():
    """Whatever protocol stands in the file, and with words for each member."""
    protocols = {
        value
        for value in vars(_optional).values()
        if inspect.isclass(value) and value.__module__ == _optional.__name__
    }
    assert protocols == set(MAY_HAVE)
    for optional, kinds in MAY_HAVE.items():
        assert kinds
        assert set(kinds) <= set(POLICIES.values())
        assert inspect.getdoc(optional)
        for member in members_of(optional):
            assert inspect.getdoc(getattr(optional, member))


@pytest.mark.parametrize("name", POLICIES)
def test_the_page_of_policies_names_the_default(name):
    """With the default; the reference, which is made from the list, has the methods."""
    protocol = POLICIES[name]
    rows = (HOWTO / "policies.md").read_text().splitlines()
    (row,) = [line for line in rows if line.startswith(f"| {protocol.__name__} |")]
    default = type(getattr(Policies(), name)).__name__
    assert row.split("|")[2].startswith(f" `{default}`")
