"""A verb is added at its method, and nothing else is written for it."""

from __future__ import annotations

from inspect import isasyncgenfunction, iscoroutinefunction, signature
from types import FunctionType

import pytest
from tests.house.packaging._reference import BY_HAND
from tests.house.tools.extensions import SOURCE, told_with

from taskorch.api._aio import (
    AsyncOrchestrator,
    AsyncResources,
    AsyncWorkers,
    AsyncWorkflows,
)
from taskorch.api.verbs.table import ROOMS, VERBS
from taskorch.ext.client import AsyncClient, Client

METHOD = "    def set_priority("
ADDED = '''\
    @verb(
        "Paint a task.",
        "commit",
        "POST /tasks/{task_id}/colour",
        gives="changed",
        refuses=(404,),
        command="paint TASK COLOUR: paint a task",
    )
    def paint_task(self, task_id: str, colour: str, *, coats: int = 1) -> bool:
        """
        Paint a task.

        Args:
            task_id: Its id.
            colour: With what.
            coats: How often.
        """
        return self.get_task_status(task_id).task_id == task_id and coats == len(colour)

    @verb("What is asked for.", "not", "GET /rooms", gives="rooms")
    def rooms(self, most: int = 1, *, walls: bool = False, name: str = "") -> list[Any]:
        """What is asked for."""
        return [most, walls, name]

'''

STORY = """
import asyncio
import io
import sys
from contextlib import redirect_stdout

from taskorch import TaskOrchestrator
from taskorch.ext.command_line import main
from taskorch.ext.client import Client
from taskorch.ext.service import create_app, serve
from taskorch.api.verbs.remedies import in_commands, in_requests


def said(*words):
    out = io.StringIO()
    with redirect_stdout(out):
        try:
            code = main(words)
        except SystemExit as end:
            code = end.code
    return code, out.getvalue()


orch = TaskOrchestrator(journal="runs.db")
with orch, serve(create_app(orch, token=None), port=0) as server:
    orch.submit(len, "abc", ).result(60)
    orch.options(id="one").submit(len, "abc").result(60)
    assert orch.paint_task("one", "r") is True
    assert asyncio.run(orch.aio.paint_task("one", "rr", coats=2)) is True
    client = Client(server.url)
    assert client.paint_task("one", "rr", coats=2) is True
    assert client.paint_task("one", "rr") is False
    assert asyncio.run(client.aio.paint_task("one", "r")) is True
    assert client.rooms() == [1, False, ""]
    assert client.rooms(3, walls=True, name="4") == [3, True, "4"]
    try:
        client._ask("GET", "/rooms", query={"most": "many"})
    except Exception as error:
        assert "most: a whole number is needed" in str(error), error
    else:
        raise AssertionError("a number was taken that is none")
    described = client._ask("GET", "/openapi.json", base="")["paths"]
    body = described["/api/v1/tasks/{task_id}/colour"]["post"]["requestBody"]
    schema = body["content"]["application/json"]["schema"]
    assert schema["required"] == ["colour"], schema
    assert schema["properties"]["coats"] == {"type": "integer"}, schema
    code, text = said("paint", server.url, "one", "rr", "--coats", "2")
    assert (code, text) == (0, "one is completed\\n"), (code, text)
code, text = said("paint", "runs.db", "one", "r")
assert (code, text) == (0, "one is completed\\n"), (code, text)
assert "paint a task" in said("--help")[1]
help_of_it = said("paint", "--help")[1]
assert "--coats N" in help_of_it and "how often" in help_of_it, help_of_it
assert "paint" in said("completion", "bash")[1]
call = "Call orch.paint_task('one', 'red')."
assert in_commands(call, "runs.db") == "taskorch paint runs.db one red", in_commands(call, "runs.db")
assert in_requests(call) == 'POST /api/v1/tasks/one/colour {"colour": "red"}'
print("all of it")
"""


@pytest.mark.slow("a service, its clients and commands")
def test_a_verb_is_added_at_its_method_and_is_everywhere(tmp_path):
    pytest.importorskip("starlette")
    file = "api/_orchestrator.py"
    text = (SOURCE / file).read_text()
    assert text.count(METHOD) == 1
    # In front of the mark of the method that it stands before.
    place = text.rindex("    @verb(\n", 0, text.index(METHOD))
    changed = text[:place] + ADDED + text[place:]
    done = told_with({file: changed}, STORY, tmp_path)
    assert done.stdout.endswith("all of it\n"), done.stderr


def test_a_face_that_a_verb_has_not_is_listed_with_the_reason():
    for call, verb in VERBS.items():
        assert bool(verb.request) != ("http" in verb.lacks), call
        assert bool(verb.command) != ("command" in verb.lacks), call
        if verb.request:
            assert verb.method in ("GET", "POST"), call
            assert not (verb.method == "GET" and verb.is_final), call


def test_what_is_no_verb_is_listed_with_the_reason():
    """A method of the facade, or of a manager, is a verb, or is said to be none."""
    names = {
        f"{room}.{name}".lstrip(".")
        for room, cls in ROOMS.items()
        for each in cls.__mro__
        for name, value in vars(each).items()
        if not name.startswith("_")
        and isinstance(value, FunctionType | classmethod | staticmethod)
    }
    by_hand = {name for line in BY_HAND for name in line.split()} | {"from_config"}
    assert names - by_hand == set(VERBS)
    assert not by_hand - names


def test_each_verb_has_a_line_for_checkers_where_it_has_a_face():
    """`name: Final = awaited(…)` in `_aio.py`, and in `client` a line in each class."""
    rooms = {"": AsyncOrchestrator, "agents": AsyncWorkers, "workflows": AsyncWorkflows}
    rooms["resources"] = AsyncResources
    aio = (SOURCE / "api/_aio.py").read_text()
    client = (SOURCE / "ext/client/__init__.py").read_text()
    missing = []
    for call, verb in VERBS.items():
        room = call.rpartition(".")[0]
        line = f"({ROOMS[room].__name__}.{verb.name})"
        by_hand = f"async def {verb.name}("
        if room in rooms and line not in aio and by_hand not in aio:
            missing.append(f"_aio.py: {call}")
        if verb.request:
            for line in (f"    {verb.operation}: Final", f"def {verb.operation}("):
                if line in client:
                    break
            else:
                missing.append(f"client.py: {verb.operation}")
    assert not missing


@pytest.mark.parametrize("cls", [Client, AsyncClient])
def test_the_client_takes_what_the_method_takes(cls):
    for call, verb in VERBS.items():
        if not verb.request:
            continue
        method = getattr(cls, verb.operation)
        own = [*signature(method).parameters][1:]
        theirs = [*signature(verb.function).parameters][1:]
        more = {"explain": ["task_id", "remedies"], "stuck": ["remedies"]}
        assert own == more.get(verb.operation, theirs), call


def public(cls):
    """The methods and attributes of *cls* that have a name for users."""
    return {name for name in dir(cls) if not name.startswith("_")}


def test_the_client_for_coroutines_has_each_method_of_the_other():
    assert public(AsyncClient) == public(Client) - {"aio"}


def test_a_method_takes_the_same_for_coroutines_and_is_waited_for():
    for name in public(Client) - {"aio"}:
        own, theirs = (
            [
                (each.name, each.kind, each.default)
                for each in signature(getattr(cls, name)).parameters.values()
            ]
            for cls in (AsyncClient, Client)
        )
        assert own[1:] == theirs[1:], name
        method = getattr(AsyncClient, name)
        assert iscoroutinefunction(method) or isasyncgenfunction(method), name


def test_words_of_commands_are_arguments_in_order():
    for call, verb in VERBS.items():
        if not verb.command:
            continue
        count = sum(word.count("+") + 1 for word in verb.command_words)
        assert all(not each.is_keyword for each in verb.arguments[:count]), call
        assert all(each.text for each in verb.options), call
