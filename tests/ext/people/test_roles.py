"""
Each verb, by each face, for each role, with and without a name: who may do it may.

The matrix is made of the table of verbs, so a new verb is in it. In the place of each
verb that changes something stands what notes who has come to it: a verb was done if it
was come to, and refused if it was not.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any

import pytest
from tests.ext.service.test_people import ask

pytest.importorskip("starlette")
pytest.importorskip("cronsim")

from taskorch import Task, TaskOrchestrator, Workflow
from taskorch.api.verbs.table import ROOMS, VERBS
from taskorch.api.workflows import Approval
from taskorch.errors import UnknownTaskError
from taskorch.ext.client import Client
from taskorch.ext.command_line import main
from taskorch.ext.governance import ConstitutionalRuntime
from taskorch.ext.people import Tokens, caller
from taskorch.ext.service import create_app, new_token, serve
from taskorch.kit.people import person

#: Who asks, and the roles of their tokens.
PEOPLE = {
    "lou": ["look"],
    "sue": ["submit"],
    "oda": ["operate"],
    "adm": ["administer"],
    "wen": ["worker"],
    "may": ["operate", "submit", "speak_for"],
    "own": ["night"],
}
#: A role of one's own.
NIGHT = ["look", "rerun_task", "answer", "hold_starts"]
#: What else each role may do.
ABOVE = {
    "look": {"look", "submit", "operate", "administer"},
    "submit": {"submit", "administer"},
    "operate": {"operate", "administer"},
    "administer": {"administer"},
}
ACTS = {call: verb for call, verb in VERBS.items() if verb.request and verb.changes}
LOOKS = {call: verb for call, verb in VERBS.items() if verb.method == "GET"}
#: What arguments that say who acts are called.
SAY_WHO = {"by", "requested_by", "source"}
#: Who a hold belongs to: anybody may end it.
OF_OTHERS = {"release_starts"}
POLICIES = {
    "policies": [
        {
            "id": "x",
            "principle": "safety",
            "severity": "low",
            "when": "task.type == 'danger'",
        }
    ]
}
SLOW = pytest.mark.slow("the others, by each verb")
DONE: list[tuple[str, str, dict[str, Any]]] = []


def may(who, verb):
    """Whether somebody may do what a verb does, by what the documentation says."""
    has = {*PEOPLE[who]}
    return bool(has & ABOVE[verb.role]) or ("night" in has and is_of_night(verb))


def may_not_look(who):
    return not may(who, VERBS["stuck"])


def is_of_night(verb):
    return verb.role == "look" or verb.operation in NIGHT


def names_of(verb):
    """Arguments that say who acts."""
    return [each for each in verb.arguments if each.name in SAY_WHO]


def ways(who, verb):
    """The names under which somebody may try it, and the one under which it is done."""
    yield None, who
    if names_of(verb):
        yield who.upper(), who
        speaks = "speak_for" in PEOPLE[who] or verb.operation in OF_OTHERS
        yield "zed", "zed" if speaks else None


def sample(argument):
    """What an argument may be."""
    if argument.name in ("since", "until"):
        return "2026-01-01"
    if argument.name == "quotas":
        return [{"owner": "x", "resources": {"cpu": 1}}]
    return of_form(argument.form)


def of_form(form):
    if "enum" in form:
        return form["enum"][0]
    kind = form.get("type", "string")
    kind = kind[0] if isinstance(kind, list) else kind
    return {
        "array": lambda: [of_form(form["items"])],
        "object": lambda: (
            {
                name: of_form(form["properties"][name])
                for name in form.get("required", ())
            }
            or {"cpu": 1}
        ),
        "integer": lambda: 1,
        "number": lambda: 1,
        "boolean": lambda: True,
        "string": lambda: "x",
    }[kind]()


def needed(verb, by):
    """What must be said to a verb, by the names of its arguments; and who acts."""
    said = {each.name: sample(each) for each in verb.arguments if each.is_needed}
    for each in names_of(verb):
        said.pop(each.name, None)
        if by is not None:
            said[each.name] = by
    return said


@dataclass
class House:
    app: Any
    server: Any
    tokens: dict[str, str]
    orch: TaskOrchestrator

    def client(self, who, **options):
        return Client(self.server.url, token=self.tokens[who], **options)


@contextmanager
def house_in(folder, **options):
    """A service, with one of each thing that a verb is about, called x."""
    book = Tokens(folder / "tokens.json")
    book.set_role("night", NIGHT)
    kinds = {"own": "program"}
    tokens = {
        name: book.add(name, roles, kind=kinds.get(name, "person"))
        for name, roles in PEOPLE.items()
    }
    tokens["plain"] = new_token()
    policies = ConstitutionalRuntime.from_dict(POLICIES)
    orch = TaskOrchestrator(governance=policies)
    with orch, pytest.MonkeyPatch.context() as patch:
        orch.submit_task(Task.wait_for("never", id="x"))
        orch.submit_task(Task.question("go?", id="ask", who=[*PEOPLE]))
        flow = Workflow("x")
        flow.phase("x", gate=Approval()).add(Task.wait_for("never", id="one"))
        orch.workflows.start(flow, id="x")
        orch.schedules.add("x", "0 3 * * *", Task.wait_for("never"))
        app = create_app(orch, token=tokens["plain"], tokens=book, page=True, **options)
        with serve(app, port=0) as server:
            for call, verb in ACTS.items():
                room = ROOMS[call.rpartition(".")[0]]
                patch.setattr(room, verb.name, noting(call, verb))
            yield House(app, server, tokens, orch)


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    with house_in(tmp_path_factory.mktemp("roles")) as made:
        yield made


def noting(call, verb):
    @wraps(verb.function)
    def note(self, *args, **kwargs):
        who = caller()
        said = verb.signature.bind(*args, **kwargs).arguments
        DONE.append((call, "" if who is None else who.name, dict(said)))
        msg = "it was noted"
        raise UnknownTaskError(msg)

    return note


def check(who, call, verb, by, expected, refusal):
    """What was done was done by who may, under the right name; all else is refused."""
    where = who, call, by, refusal
    done, DONE[:] = [*DONE], []
    if not may(who, verb):
        assert not done, where
        assert "may not do" in refusal, where
        # A command that says what it touches looks first.
        roles = {verb.role, "look" if may_not_look(who) else verb.role}
        assert any(f"the role {role}" in refusal for role in roles), where
        return
    if expected is None:
        assert not done, where
        assert "may not speak for others" in refusal, where
        return
    assert len(done) == 1, where
    done_call, name, said = done[0]
    assert (done_call, name) == (call, who), where
    for each in names_of(verb):
        assert person(said[each.name]) == person(expected), (where, said)


# -- HTTP, and a browser ---------------------------------------------------------------


def asked(house, verb, by, **headers):
    """The refusal of a request; "": it was done."""
    said = needed(verb, by)
    path = "/api/v1" + verb.path
    for each in verb.arguments:
        if each.in_path:
            path = path.replace(f"{{{each.key}}}", str(said.pop(each.name)))
    body = {each.key: said[each.name] for each in verb.fields if each.name in said}
    if verb.method == "GET":
        return ask(house.app, "GET", path, **headers)
    return ask(house.app, verb.method, path, said=body or None, **headers)


def refused(answer):
    if answer.status != 403:
        return ""
    problem = json.loads(answer.body)
    return f"{problem['detail']} {problem.get('hint')}"


@pytest.mark.parametrize("who", PEOPLE)
def test_over_http_each_does_what_their_roles_allow(house, who):
    for call, verb in ACTS.items():
        for by, expected in ways(who, verb):
            answer = asked(house, verb, by, token=house.tokens[who])
            check(who, call, verb, by, expected, refused(answer))
    for verb in LOOKS.values():
        answer = asked(house, verb, None, token=house.tokens[who])
        assert (answer.status == 403) != may(who, verb), (who, verb, answer)


@pytest.mark.parametrize("who", PEOPLE)
def test_the_dashboard_offers_what_it_may_do_and_does_it(house, who):
    origin = {"origin": "http://127.0.0.1:8080"}
    begun = ask(house.app, "POST", "/api/v1/login", token=house.tokens[who], **origin)
    session = {"cookie": begun.headers["set-cookie"].partition(";")[0], **origin}
    me = json.loads(ask(house.app, "GET", "/api/v1/me", **session).body)
    for call, verb in ACTS.items():
        assert (verb.operation in me["may"]) == may(who, verb), (who, call)
        for by, expected in ways(who, verb):
            answer = asked(house, verb, by, **session)
            check(who, call, verb, by, expected, refused(answer))
    for verb in LOOKS.values():
        assert (verb.operation in me["may"]) == may(who, verb), (who, verb)


# -- the command line ------------------------------------------------------------------


#: What the command asks for only where there is something to do: of x nothing failed.
WITHOUT_NEED = {"workflows.restart"}


def command(verb, url, by):
    """The words of the command of a verb, about x."""
    said = needed(verb, by)
    words = [verb.command_name, url]
    words += [verb.command_act] if verb.command_act else []
    arguments = iter(verb.arguments)
    for word in verb.command_words:
        argument = next(arguments)
        if "+" in word:
            next(arguments)
        value = sample(argument)
        value = value[0] if isinstance(value, list) else value
        value = "x/x" if "+" in word else value
        words.append(value if isinstance(value, str) else json.dumps(value))
    for each in arguments:
        if each.name in said:
            value = said[each.name]
            value = value if isinstance(value, str) else json.dumps(value)
            name = "by" if each.name == "requested_by" else each.name
            words.append(f"--{name.replace('_', '-')}={value}")
    words += ["--yes"] if verb.command_name == "runs" else []
    return words


@pytest.mark.parametrize(
    "who",
    [
        name if name in ("lou", "may") else pytest.param(name, marks=SLOW)
        for name in PEOPLE
    ],
)
def test_commands_do_what_their_roles_allow(house, who, monkeypatch, capsys):
    """Whoever is called otherwise by the system is who the token says."""
    monkeypatch.setenv("LOGNAME", "root-of-all")
    monkeypatch.setenv("TASKORCH_TOKEN", house.tokens[who])
    for call, verb in ACTS.items():
        if not verb.command or (call in WITHOUT_NEED and may(who, verb)):
            continue
        for by, expected in ways(who, verb):
            words = command(verb, house.server.url, by)
            assert main(words) != 0, words
            check(who, call, verb, by, expected, capsys.readouterr().err)


def test_with_the_plain_token_who_acts_must_be_said_and_is_asked_for(
    house, monkeypatch, capsys
):
    """Whoever has it may act under any name, and must say one where one is needed."""
    monkeypatch.setenv("TASKORCH_TOKEN", house.tokens["plain"])
    monkeypatch.setenv("LOGNAME", "root-of-all")
    for call, verb in ACTS.items():
        if not (verb.command and names_of(verb)):
            continue
        main(command(verb, house.server.url, "zed"))
        ((done, _, said),) = DONE
        DONE.clear()
        assert (done, said[names_of(verb)[0].name]) == (call, "zed")
        main(command(verb, house.server.url, None))
        err = capsys.readouterr().err
        done, DONE[:] = [*DONE], []
        is_needed = names_of(verb)[0].is_needed
        assert bool(done) != is_needed, call
        if is_needed:
            assert "this token does not say who acts (--by NAME)" in err
    assert DONE == []
    main(command(VERBS["schedules.backfill"], house.server.url, None))
    assert DONE.pop()[2]["by"] == "root-of-all"
