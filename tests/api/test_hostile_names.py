"""
A name of a user's own str class, whatever its methods do, ends no orchestrator.

The law goes over all public methods of an orchestrator and its managers: a parameter for
a text is in it by itself.
"""

from __future__ import annotations

import enum
import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.api.tools import PATIENCE
from tests.house.hostile import raising

from taskorch import (
    InvalidTaskError,
    Resources,
    Task,
    TaskorchError,
    TaskOrchestrator,
    TaskTimeoutError,
    Workflow,
    current_context,
)
from taskorch.errors import UsageError
from taskorch.ext.governance import ConstitutionalRuntime, Policy, Rule

#: What is given for parameters without a default that take more than any text.
GIVEN: dict[str, Any] = {
    **dict.fromkeys(("task_id", "of", "earlier", "later", "ids", "task"), "done"),
    **dict.fromkeys(("fn", "function", "work"), abs),
    **dict.fromkeys(("value", "reward", "priority"), 1),
    **dict.fromkeys(("deadline", "expires"), 60),
    **dict.fromkeys(("capabilities", "requirements", "methods"), ("x",)),
    **dict.fromkeys(("attempts", "unbegun"), ()),
    "config": {},
    "document": {},
    "documents": {},
    "functions": {},
    "action": "cancel",
    "call": "cancel_task",
    "choice": "approve",
    "failure": "network",
    "fence": (0, 1),
    "iterable": [1],
    "pattern": "*",
    "policy_id": "policy",
    "quotas": {"type": "x", "max_parallel": 1},
    "resources": {"cpu": 1},
    "since": "2026-01-01",
    "until": "2026-01-02",
    "totals": {"tokens": 9},
    "url": "http://127.0.0.1:9",
    "verdict": "fail",
    "when": "0 3 * * *",
    "workflow": Workflow("empty"),
}
#: Parameters that take documents, paths and addresses, which others read as well: an
#: error of their methods may come through, as that of a function of the user's does.
OTHERS = {
    *("changes", "config", "document", "documents", "folder", "functions", "host"),
    *("hosts", "instructions", "mcp", "parameters", "runner", "tokens", "types"),
}
#: Methods for parts of ours and for extensions, which give no names of users.
FOR_PARTS = {
    *("awaits_end", "bring_late", "check_made", "covers", "domain", "is_asked"),
    *("method", "program_of", "say", "template"),
}
TEXT = re.compile(r"\bstr\b")
SEVERAL = re.compile(r"(Iterable|Collection|Sequence)\[")
MAPPING = re.compile(r"(Mapping|dict)\[")


class Door(NamedTuple):
    """A parameter of a public method that takes a text."""

    room: str
    method: str
    parameter: str

    def __str__(self) -> str:
        return f"{self.room}.{self.method}({self.parameter})".lstrip(".")


def rooms(thing: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """An orchestrator and the managers that it has, with their paths."""
    yield path, thing
    for name in dir(type(thing)) if not path else ():
        member = inspect.getattr_static(type(thing), name)
        # That of coroutines has the same methods.
        if name[0] == "_" or name in ("aio", "signals") or inspect.isroutine(member):
            continue
        try:
            value = getattr(thing, name)
        except InvalidTaskError:
            # It is of policies that this one has not.
            continue
        if type(value).__module__.startswith("taskorch."):
            yield name, value


def doors() -> list[Door]:
    with TaskOrchestrator(governance=ConstitutionalRuntime([])) as orch:
        return [
            Door(path, name, parameter.name)
            for path, room in rooms(orch)
            for name, method in inspect.getmembers(type(room), inspect.isroutine)
            if name[0] != "_" and name != "from_config"
            for parameter in inspect.signature(method).parameters.values()
            if TEXT.search(str(parameter.annotation))
        ]


DOORS = doors()


def hostile(error: type[BaseException], text: str) -> Any:
    """A text of a class whose methods all raise *error*."""
    methods = set(vars(str)) - {"__new__", "__doc__", "__getattribute__"}
    return raising("Hostile", (str,), error, *methods)(text)


def unwritten(error: type[BaseException], text: str) -> Any:
    """A text that can be compared, and not written."""
    return raising("Unwritten", (str,), error, "__str__", "__format__", "__repr__")(
        text
    )


def unread(error: type[BaseException], text: str) -> Any:
    """A text of which no method can be called that is no operator."""
    names = [name for name in vars(str) if name[0] != "_" and name != "maketrans"]
    return raising("Unread", (str,), error, *names)(text)


KINDS: list[tuple[Callable[[type[BaseException], str], Any], type[BaseException]]] = [
    (hostile, SystemExit),
    (unwritten, SystemExit),
    (unwritten, KeyboardInterrupt),
    (unread, SystemExit),
    (unread, RuntimeError),
]


@pytest.fixture
def orch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TaskOrchestrator]:
    """One with tasks of all kinds that a name may mean."""
    monkeypatch.chdir(tmp_path)
    rule = Rule("r", "task.payload.args[0].x", "equals", "masked")
    with TaskOrchestrator(
        governance=ConstitutionalRuntime([Policy("policy", "s", "low", rules=[rule])]),
        resources=Resources(cpu=4),
        unknown_capability="wait",
    ) as orch:
        orch.submit_task(Task.call(abs, -1, id="done")).result(PATIENCE)
        orch.submit_task(Task.wait_for("event", id="wait"))
        orch.submit_task(Task.question("go?", id="question"))
        orch.budget("purse", tokens=5)
        yield orch
        orch.stop(drain=False)


def goes_on(orch: TaskOrchestrator) -> bool:
    """It runs what is submitted."""
    for who in list(orch._rt.kernel.holds):
        orch.release_starts(who)
    return orch.submit(divmod, 7, 2).result(PATIENCE) == (3, 1)


def ask(orch: TaskOrchestrator, door: Door, value: Any) -> None:
    room: Any = getattr(orch, door.room) if door.room else orch
    args: list[Any] = []
    fields: dict[str, Any] = {}
    for each in inspect.signature(getattr(room, door.method)).parameters.values():
        kind = str(each.annotation)
        given = GIVEN.get(each.name, "x")
        if each.name == door.parameter:
            # Nobody can make a mapping of a name without a hash.
            mapped = {"x": value} if type(value).__name__ == "Hostile" else {value: 1}
            one = mapped if MAPPING.search(kind) else value
            given = [value] if SEVERAL.search(kind) else one
        elif each.default is not each.empty:
            continue
        if each.kind in (each.POSITIONAL_ONLY, each.VAR_POSITIONAL):
            args.append(given)
        elif each.kind is not each.VAR_KEYWORD:
            fields[each.name] = given
    made = getattr(room, door.method)(*args, **fields)
    if hasattr(made, "close"):
        made.close()


@pytest.mark.parametrize(
    "several",
    [
        False,
        pytest.param(True, marks=pytest.mark.slow("texts of all kinds at each door")),
    ],
)
@pytest.mark.parametrize("room", sorted({door.room for door in DOORS}))
def test_a_text_of_any_class_is_taken_or_refused_at_each_door(
    room: str, orch: TaskOrchestrator, *, several: bool
) -> None:
    for door, other in zip(DOORS, cycle(KINDS[1:])):
        if door.room != room:
            continue
        plain = GIVEN.get(door.parameter, "x")
        for make, error in KINDS if several else (KINDS[0], other):
            try:
                ask(orch, door, make(error, plain if isinstance(plain, str) else "x"))
            except TaskorchError:
                pass
            except (OSError, KeyError, TypeError, error):
                may_raise = door.parameter in OTHERS or door.method in FOR_PARTS
                assert may_raise, (door, make.__name__, error)
        assert goes_on(orch), door


def test_doors_are_found() -> None:
    found = {f"{door.method}.{door.parameter}" for door in DOORS}
    assert found > {"emit.name", "answer.by", "budget.name", "hold_starts.reason"}
    assert len(DOORS) > 150


# -- texts in values, and inside tasks --------------------------------------------------

#: What is made of a text, and submitted.
MADE: dict[str, Callable[[Any], Task[Any]]] = {
    "event": Task.wait_for,
    "question": Task.question,
    "choice": lambda text: Task.question("go?", options=[text, "no"]),
    "no": lambda text: Task.question("go?", options=["x", "y"], no=[text]),
    "who": lambda text: Task.question("go?", who=[text]),
    "not by": lambda text: Task.question("go?", not_by=[text]),
    "asker": lambda text: Task.question("go?", asked_by=text),
    "default": lambda text: Task.question("go?", default=text, due=60),
    "type": Task,
    "name of a resource": lambda text: Task.call(abs, -1, resources={text: 1}),
    "executor": lambda text: Task.call(abs, -1, executor=text),
    **{
        name: lambda text, name=name: Task.call(abs, -1, **{name: text})
        for name in ("id", "owner", "idempotency_key", "budget", "join")
    },
    **{
        name: lambda text, name=name: Task.call(abs, -1, **{name: [text]})
        for name in ("after", "requires", "writes")
    },
}
#: What a running task asks for by a text.
INSIDE: dict[str, Callable[[Any], object]] = {
    "step": lambda text: current_context().step(text, abs, -1),
    "child": lambda text: current_context().child(text, abs, -1),
    "sleep": lambda text: current_context().sleep(0, name=text),
    "event": lambda text: current_context().wait(text, timeout=0.01),
    "wait": lambda text: current_context().wait("e", timeout=0.01, name=text),
    "question": lambda text: current_context().ask(text, due=0.01),
    "name of a question": lambda text: current_context().ask("go?", text, due=0.01),
    "choice": lambda text: current_context().ask("go?", options=["a", text], due=0.01),
    "units": lambda text: current_context().units(text),
}


@pytest.mark.parametrize("place", MADE)
def test_a_text_of_any_class_is_taken_or_refused_in_each_task(
    place: str, orch: TaskOrchestrator
) -> None:
    for make, error in KINDS:
        try:
            text = make(error, "x")
            orch.submit_tasks([MADE[place](text), Task.call(abs, -2)])
        except TaskorchError:
            pass
        except error:
            # These are looked up before anybody has checked them.
            assert place in ("name of a resource", "type"), (place, make.__name__)
        assert goes_on(orch)


def work(place: str, kind: int) -> bool:
    make, error = KINDS[kind]
    with suppress(TaskorchError, KeyError, error):
        INSIDE[place](make(error, "x"))
    return True


@pytest.mark.parametrize("place", INSIDE)
def test_a_text_of_any_class_in_a_task_ends_that_task_at_most(
    place: str, orch: TaskOrchestrator
) -> None:
    for kind in range(len(KINDS)):
        assert orch.submit(work, place, kind).result(PATIENCE)
        assert goes_on(orch)


class Word(enum.StrEnum):
    EVENT = "event"


class Colour(str, enum.Enum):  # noqa: UP042 - it writes another text than it is
    RED = "red"


def test_a_word_of_an_enum_is_a_name_if_it_writes_what_it_is(tmp_path: Path) -> None:
    """
    Any other was kept as two texts: the journal was damaged in the next incarnation.
    """
    journal = tmp_path / "runs.db"
    with TaskOrchestrator(journal=journal) as orch:
        orch.submit_task(Task.wait_for(Word.EVENT, id=Word.EVENT))
        for fields in ({"id": Colour.RED}, {"type": Colour.RED}):
            with pytest.raises(UsageError, match=r"str.* not.*Colour"):
                orch.submit_task(Task.call(abs, -1, **fields))
        orch.stop(drain=False)
    with TaskOrchestrator(journal=journal) as orch:
        assert not orch.handle("event").done()
        orch.emit("event", 3)
        assert orch.handle("event").result(PATIENCE) == 3
        with pytest.raises(TaskTimeoutError):
            orch.submit_task(Task.wait_for(Word.EVENT, timeout=0.01)).result(PATIENCE)


def test_a_member_of_an_enum_that_is_no_text_is_refused_with_what_to_give() -> None:
    mixed = enum.Enum("D", {"BETA": "beta"}, type=str)
    told = "give its value, or make it a StrEnum"
    with TaskOrchestrator() as orch, pytest.raises(TaskorchError, match=told):
        orch.submit_task(Task(mixed.BETA))
