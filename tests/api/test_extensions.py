"""Extensions of a program: what they bring, where it is reached, and what is refused."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from inspect import iscoroutinefunction, signature
from pathlib import Path
from typing import Any, Literal

import pytest
from tests.api.tools import PATIENCE, eventually

import taskorch
from taskorch import InvalidTaskError, Task, TaskOrchestrator
from taskorch.api.verbs.table import ROOMS, VERBS
from taskorch.errors import ComponentError, PolicyDeniedError
from taskorch.events import TaskCompleted
from taskorch.ext.client import Client
from taskorch.ext.governance import ConstitutionalRuntime
from taskorch.ext.people import PLAIN, Tokens, caller_of, may
from taskorch.ext.service import create_app, serve
from taskorch.ext.views import JournalReader
from taskorch.kit.extension import Extension
from taskorch.kit.verbs import COUNT, verb
from taskorch.protocols import Projection

SOURCE = Path(taskorch.__file__).parent
RULE = {
    "id": "two",
    "condition": "arguments.count",
    "operator": "less_than_or_equal",
    "value": 2,
}
POLICY = {
    "id": "few",
    "principle": "There are few licences.",
    "severity": "critical",
    "at": "verb",
    "verbs": "licences.take",
    "rules": [RULE],
}
POLICIES = {"policies": [POLICY]}


class Ends(Projection):
    """Counts what has completed, by type."""

    wants = frozenset({TaskCompleted})

    def __init__(self) -> None:
        self.count = 0

    def take(self, event: Any, _document: Any) -> None:
        if event.task_id == "worse":
            raise RuntimeError("it counts no such task")
        self.count += 1


class Licences(Extension):
    """Licences that tasks of a program share."""

    name = "licences"

    def attach(self, orch: TaskOrchestrator) -> None:
        self.ends = Ends()
        self.trouble: str | Exception = ""
        orch.signals.follow(self.ends)

    def check(self) -> str:
        if isinstance(self.trouble, Exception):
            raise self.trouble
        return self.trouble

    @verb(
        "Take a licence.", "commit", "POST /seats/{seat}/take", forms={"count": COUNT}
    )
    def take(
        self, seat: str, count: int = 1, *, kind: Literal["new", "old"] = "new"
    ) -> bool:
        """
        Take a licence.

        Args:
            seat: Whose it is.
            count: How many.
            kind: Which.
        """
        if count > 10:
            raise ValueError("there are ten")
        is_free = seat not in self.kept
        self.kept[seat] = {"count": count, "kind": kind}
        return is_free

    @verb("Who has licences.", "journal", "GET /seats", gives="seats")
    def seats(self, least: int = 0) -> list[str]:
        return [seat for seat in self.kept if self.kept[seat]["count"] >= least]

    @verb("Whether a task has one.", "not", "GET /tasks/{task_id}")
    def has(self, task_id: str) -> bool:
        return task_id in self.kept

    @verb("Refuse.", "thread", "POST /refuse", needs="administer", is_final=True)
    def refuse(self, why: str) -> None:
        raise InvalidTaskError(f"refused: {why}", hint="ask for another")

    @verb("What has no request.", "not")
    def inner(self) -> object:
        return self


@pytest.fixture
def licences() -> Licences:
    return Licences()


@pytest.fixture
def orch(licences: Licences) -> Iterator[TaskOrchestrator]:
    with TaskOrchestrator(extensions=[licences]) as orch:
        yield orch


# -- beside the orchestrator -----------------------------------------------------------


def test_it_is_reached_by_its_name_and_by_its_class(orch, licences):
    assert orch.licences is licences
    assert orch.extensions["licences"] is orch.extensions[Licences] is licences
    assert [*orch.extensions] == ["licences"]
    assert licences.orch is orch
    assert [*TaskOrchestrator().extensions] == []
    with pytest.raises(AttributeError, match="licence"):
        _ = orch.licence
    with pytest.raises(KeyError):
        _ = orch.extensions["others"]


def test_its_verbs_are_coroutines(orch):
    async def use() -> tuple[Any, ...]:
        face = orch.aio.licences
        taken = await face.take("ada", kind="old"), await face.take("ada")
        return *taken, await face.seats(), await face.inner()

    assert asyncio.run(use()) == (True, False, ["ada"], orch.licences)
    with pytest.raises(AttributeError):
        _ = orch.aio.licence


def test_the_health_says_what_it_says(orch, licences):
    def check():
        return next(
            each
            for each in orch.health().checks
            if each.component == "extension licences"
        )

    assert (check().status, check().detail) == ("ok", "")
    licences.trouble = "the server of licences is away"
    assert (check().status, check().detail) == ("degraded", licences.trouble)
    assert orch.health().status == "degraded"
    licences.trouble = OSError("no route")
    assert (check().status, check().detail) == (
        "degraded",
        "its check raised OSError: no route",
    )
    licences.check = lambda: 7
    assert check().detail == "its check returned 7, and no text"


def test_a_projection_of_it_that_raises_is_told_of_and_goes_on(orch, licences):
    orch.submit_task(Task.call(len, "abc", id="worse")).result(PATIENCE)
    orch.submit_task(Task.call(len, "abc", id="better")).result(PATIENCE)
    eventually(lambda: licences.ends.count == 1)
    [said] = [each for each in orch.health().checks if each.component == "receivers"]
    assert "Ends" in said.detail
    assert "RuntimeError" in said.detail


# -- from elsewhere --------------------------------------------------------------------


def test_its_verbs_are_operations_over_http(orch):
    with orch.serve(port=0) as server:
        client = Client(server.url, token=server.token)
        assert client.call("licences.take", seat="a/b c", count=2) is True
        assert client.call("licences.take", seat="a/b c", kind="old") is False
        assert client.call("licences.seats") == ["a/b c"]
        assert client.call("licences.seats", least=9) == []
        assert asyncio.run(client.aio.call("licences.seats")) == ["a/b c"]
        assert client.call("emit", name="done") == 0

        described = client._ask("GET", "/openapi.json", base="")["paths"]
        take = described["/api/v1/extensions/licences/seats/{seat}/take"]["post"]
        assert take["operationId"] == "licences.take"
        assert take["summary"] == "Take a licence."
        schema = take["requestBody"]["content"]["application/json"]["schema"]
        assert schema["properties"]["kind"] == {"enum": ["new", "old"]}
        assert not [path for path in described if "inner" in path]


def test_what_a_verb_raises_is_told_to_who_asked(orch, caplog):
    with pytest.raises(ValueError, match="there are ten"):
        orch.licences.take("ada", 11)
    with orch.serve(port=0) as server:
        client = Client(server.url, token=server.token)
        with pytest.raises(ComponentError) as told:
            client.call("licences.take", seat="ada", count=11)
        with pytest.raises(InvalidTaskError, match="refused: late"):
            client.call("licences.refuse", why="late")
        with pytest.raises(
            InvalidTaskError, match=r"no verb 'licences\.teka'"
        ) as known:
            client.call("licences.teka")
        with pytest.raises(InvalidTaskError, match="seat is a text, not None"):
            client.call("licences.take")
        with pytest.raises(Exception, match="kind"):
            client.call("licences.take", seat="ada", kind="odd")
    message = "extension licences raised in take: ValueError: there are ten"
    assert message in str(told.value)
    assert "there are ten" in caplog.text
    assert "licences.take" in str(known.value.hint)


def test_roles_are_those_that_its_verbs_need(orch, tmp_path):
    tokens = Tokens(tmp_path / "tokens.json")
    looks = tokens.add("ada", ["look"])
    works = tokens.add("ben", ["operate"])
    bound = tokens.add("eve", ["operate"], tenants=["eve"])
    with orch.serve(port=0, tokens=tokens) as server:
        assert Client(server.url, token=works).call("licences.take", seat="ada")
        assert Client(server.url, token=looks).call("licences.seats") == ["ada"]
        me = Client(server.url, token=looks)._ask("GET", "/me")["may"]
        assert "licences.seats" in me
        assert "licences.take" not in me
        for token, call, role in (
            (looks, "licences.take", "operate"),
            (works, "licences.refuse", "administer"),
        ):
            with pytest.raises(taskorch.TaskorchError, match="may not do") as refused:
                Client(server.url, token=token).call(call, seat="ben")
            assert role in str(refused.value.hint)
        orch.submit_task(Task.call(len, "abc", id="hers", owner="eve")).result(PATIENCE)
        hers = Client(server.url, token=bound)
        assert hers.get_task_status("hers")["state"] == "completed"
        for call, more in (
            ("licences.seats", {}),
            ("licences.has", {"task_id": "hers"}),
        ):
            with pytest.raises(taskorch.TaskorchError, match="tells of all tenants"):
                hers.call(call, **more)


def test_policies_judge_its_verbs(licences):
    pytest.importorskip("yaml")
    policies = ConstitutionalRuntime.from_dict(POLICIES)
    with (
        TaskOrchestrator(extensions=[licences], governance=policies) as orch,
        orch.serve(port=0) as server,
    ):
        client = Client(server.url, token=server.token)
        with pytest.raises(PolicyDeniedError, match="few"):
            client.call("licences.take", seat="ada", count=3)
        assert client.call("licences.take", seat="ada", count=2)


def test_its_verbs_are_tools_of_language_models(orch):
    from taskorch.ext.mcp import OrchestratorPlace, tools_of
    from taskorch.ext.mcp._calls import ToolUser

    place = OrchestratorPlace(orch)
    names = {tool.name for tool in tools_of(place)}
    assert "licences_seats" in names
    assert not names & {"licences_take", "licences_refuse", "licences_inner"}
    tools = {
        tool.name: tool
        for tool in tools_of(place, ["licences_take", "licences_refuse"])
    }
    me = ToolUser("mcp")
    take = tools["licences_take"]
    assert take.use(place, {"seat": "ada"}, me) == {"result": True}
    assert tools["licences_seats"].use(place, {}, me) == {"seats": ["ada"]}
    assert take.effect.name == "UNDONE"
    assert tools["licences_refuse"].effect.name == "FINAL"
    with pytest.raises(InvalidTaskError, match="kind"):
        take.use(place, {"seat": "ada", "kind": "odd"}, me)
    with pytest.raises(ComponentError, match="extension licences raised in take"):
        take.use(place, {"seat": "ada", "count": 11}, me)
    with pytest.raises(InvalidTaskError, match="'licences_teka' is no tool"):
        tools_of(place, ["licences_teka"])


# -- as the house is -------------------------------------------------------------------

#: None of what these do waits long, so that coroutines use them as they are.
AS_IT_IS = {"memo", "schedules"}


@pytest.mark.parametrize("room", [*ROOMS, "licences"])
def test_a_room_is_reached_the_same_way_on_every_face(room, licences):
    """`orch.ROOM`, `orch.aio.ROOM`, an operation, `GET /verbs`, a method of the client."""
    pytest.importorskip("yaml")
    orch = TaskOrchestrator(
        extensions=[licences], governance=ConstitutionalRuntime.from_dict(POLICIES)
    )
    own = {} if room in ROOMS else orch.extensions.verbs
    table = {
        call: verb
        for call, verb in {**VERBS, **own}.items()
        if call.rpartition(".")[0] == room
    }
    assert table
    place = getattr(orch, room) if room else orch
    face = getattr(orch.aio, room) if room else orch.aio
    assert room not in ROOMS or isinstance(place, ROOMS[room])
    app = create_app(orch, token=None)
    operations = {each.name: each for each in app.state.operations}
    with orch, serve(app, port=0) as server:
        client = Client(server.url)
        listed = {
            each["operation"]: each for each in client._ask("GET", "/verbs")["verbs"]
        }
    for call, one in table.items():
        name = call.rpartition(".")[2]
        assert callable(getattr(place, name)), call
        assert room in AS_IT_IS or iscoroutinefunction(getattr(face, name)), call
        assert (one.operation in listed) == bool(one.request), call
        if one.request:
            described = operations[one.operation]
            assert described.method == one.method, call
            assert described.path == f"/api/v1{one.path}", call
            assert listed[one.operation]["path"] == described.path, call
            assert may(PLAIN, one.operation, described.role), call
            assert not may(caller_of("ada", []), one.operation, described.role), call
            assert room not in ROOMS or hasattr(Client, one.operation), call


# -- what is refused -------------------------------------------------------------------


def named(name: object) -> Extension:
    return type("Mine", (Extension,), {"name": name})()


def with_verb(*described: Any, method: Any = None, **more: Any) -> Extension:
    def plain_method(self: Any, seat: str) -> None: ...

    marked = verb(*described, **more)(method or plain_method)
    return type("Mine", (Extension,), {"name": "mine", "act": marked})()


class Raising(Extension):
    name = "raising"

    def attach(self, orch: TaskOrchestrator) -> None:
        raise OSError("no server of licences")


@pytest.mark.parametrize(
    ("extensions", "fault", "hint"),
    [
        (7, "a list of extensions, not 7", "extensions="),
        ("licences", "not 'licences'", "extensions="),
        (Licences(), "is one extension", r"extensions=\[Licences"),
        ([7], "has 7, which is no extension", "inherit"),
        ([Licences], "the class Licences", r"Licences\(\)"),
        ([named("mine"), named("mine")], "two extensions have the name 'mine'", "name"),
        ([named("schedules")], "'schedules' of Mine is taken", "my_schedules"),
        ([named("submit")], "'submit' of Mine is taken: orch.submit", "my_submit"),
        ([named("waivers")], "'waivers' of Mine is taken: documents", "my_waivers"),
        ([named("")], "the name of Mine is a word", "name ="),
        ([named("Two words")], "not 'Two words'", "name ="),
        ([named("a.b")], "not 'a.b'", "name ="),
        ([named("_own")], "not '_own'", "name ="),
        ([named("x" * 41)], "at most 40", "name ="),
        ([named(7)], "not 7", "name ="),
        ([Raising()], "raising raised as it was attached: OSError: no ser", "attach"),
    ],
)
def test_what_cannot_join_is_refused_with_a_remedy(extensions, fault, hint):
    with pytest.raises(InvalidTaskError, match=fault) as refused:
        TaskOrchestrator(extensions=extensions)
    assert refused.match(hint) or pytest.fail(str(refused.value))


@pytest.mark.parametrize(
    ("extension", "fault"),
    [
        (with_verb("", "not"), "has no text"),
        (with_verb("Act.", "soon"), "it waits 'soon'"),
        (with_verb("Act.", "not", "PATCH /x"), "'PATCH /x' is no request"),
        (with_verb("Act.", "not", "POST x"), "'POST x' is no request"),
        (with_verb("Act.", "not", "POST /{other}"), "{other} in its path"),
        (with_verb("Act.", "not", command="act: act"), "no commands of extensions"),
        (with_verb("Act.", "not", preview="cancel_of_task"), "has preview="),
        (with_verb("Act.", "not", operation="do"), "it is called mine.act"),
        (with_verb("Act.", "not", needs="king"), "no role 'king'"),
        (with_verb("Act.", "not", method=lambda self, x: x), "give forms="),
        (
            with_verb("Act.", "not", method=lambda self, **x: x),
            "by its name|give forms=",
        ),
        (
            with_verb(
                "Act.", "not", "GET /{x}", method=lambda self, x: x, forms={"x": COUNT}
            ),
            "plain text",
        ),
    ],
)
def test_a_verb_that_cannot_be_called_is_refused(extension, fault):
    with pytest.raises(InvalidTaskError, match="verb act of extension mine") as refused:
        TaskOrchestrator(extensions=[extension])
    assert refused.match(fault)


def test_each_option_of_a_verb_acts_for_an_extension_or_is_refused():
    acts = {"text", "waits", "request", "gives", "status", "refuses", "keys", "forms"}
    acts |= {"apart", "remote", "is_final", "needs"}
    refused = {"command", "operation", "preview"}
    # Why it has no request is said to whoever reads the code.
    assert {*signature(verb).parameters} == acts | refused | {"lacks"}

    described = {"status": 202, "refuses": (409,), "keys": {"seat": "chair"}}
    described |= {"apart": ("by",), "remote": {"kind": "new"}, "gives": "kind"}

    def act(self: Any, seat: str, by: str = "me", *, kind: str = "old") -> str:
        return f"{seat} {by} {kind}"

    extension = with_verb("Act.", "not", "POST /{chair}", method=act, **described)
    app = create_app(TaskOrchestrator(extensions=[extension]), token=None)
    [operation] = [each for each in app.state.operations if each.name == "mine.act"]
    assert operation.path == "/api/v1/extensions/mine/{chair}"
    assert (operation.status, operation.refuses) == (202, (409,))
    assert set(operation.body["properties"]) == {"kind"}
    with serve(app, port=0) as server:
        client = Client(server.url)
        assert client.call("mine.act", chair="a") == "a me new"
        assert client.call("mine.act", chair="a", kind="odd") == "a me odd"


def test_annotations_may_be_classes_as_well_as_texts():
    def act(self, seat, count=1, by=None, kind="new", names=()): ...

    act.__annotations__ = {
        "seat": str,
        "count": int,
        "by": str | None,
        "kind": Literal["new", "old"],
        "names": list[str],
    }
    orch = TaskOrchestrator(extensions=[with_verb("Act.", "not", method=act)])
    forms = {
        each.name: each.form for each in orch.extensions.verbs["mine.act"].arguments
    }
    assert forms == {
        "seat": {"type": "string"},
        "count": {"type": "integer"},
        "by": {"type": "string"},
        "kind": {"enum": ["new", "old"]},
        "names": {"type": "array", "items": {"type": "string"}},
    }


def test_a_verb_is_a_plain_method_with_a_request_of_its_own():
    async def later(self: Any) -> None: ...

    def first(self: Any, seat: str, by: str) -> None: ...

    class Twice(Extension):
        name = "mine"

        @verb("One.", "not", "GET /x/{seat}")
        def act(self, seat: str) -> None: ...

        @verb("Two.", "not", "GET /x/{other}")
        def other(self, other: str) -> None: ...

    for extension, fault in (
        (with_verb("Act.", "not", method=later), "a coroutine function"),
        (with_verb("Act.", "not", "GET /{by}", method=first), "come first"),
        (Twice(), "act has its request, too"),
    ):
        with pytest.raises(InvalidTaskError, match=fault):
            TaskOrchestrator(extensions=[extension])

    class Late(Extension):
        name = "late"

        async def attach(self, orch: Any) -> None: ...

    with pytest.raises(InvalidTaskError, match="attach is no coroutine function"):
        TaskOrchestrator(extensions=[Late()])


def test_one_that_has_an_orchestrator_is_not_given_to_another(licences):
    TaskOrchestrator(extensions=[licences])
    with pytest.raises(InvalidTaskError, match="has an orchestrator already"):
        TaskOrchestrator(extensions=[licences])


def test_documents_of_one_that_is_gone_stay_and_are_named(tmp_path, capsys):
    from taskorch.ext.command_line import main

    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path, extensions=[Licences()]) as orch:
        orch.licences.take("ada")
    with TaskOrchestrator(journal=path):
        pass
    assert [*JournalReader(path).kept()] == ["licences"]
    main(["doctor", str(path)])
    assert "licences 1" in capsys.readouterr().out


def test_no_name_of_an_extension_is_one_of_documents_of_the_house():
    """All that the package keeps by a name, as its source says it, is refused."""
    text = "\n".join(path.read_text("utf-8") for path in SOURCE.rglob("*.py"))
    kept = r"\b(?:kept|kept_by|keep_document|kept\.get)\((?:\w+\._?rt, )?(_?[A-Z]+)\b"
    values = dict(re.findall(r'^(_?[A-Z]+): Final = "(.*)"$', text, re.MULTILINE))
    names = {values[constant] for constant in {*re.findall(kept, text)}}
    assert {"waivers", "backfills", "memo"} <= names
    for name in names:
        with pytest.raises(InvalidTaskError, match=r"is taken|is a word"):
            TaskOrchestrator(extensions=[named(name)])
