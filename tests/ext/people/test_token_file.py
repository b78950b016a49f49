"""The file of tokens, as somebody writes it by hand: all of it acts, or is refused."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, strategies as st
from tests.ext.command_line.tools import taskorch

from taskorch import TaskOrchestrator
from taskorch.errors import InvalidTaskError
from taskorch.ext.people import ROLES, Tokens
from taskorch.ext.service import create_app

NIGHT = ("look", "rerun_task")


@pytest.fixture
def tokens(tmp_path):
    tokens = Tokens(tmp_path / "tokens.json")
    tokens.set_role("night", NIGHT)
    tokens.add("ada", ["night"])
    tokens.add("ben", ["operate"], tenants=["acme"], lasts=3600)
    return tokens


def rewrite(tokens, change):
    document = json.loads(tokens.path.read_text())
    change(document)
    tokens.path.write_text(json.dumps(document))


def ada_has(**fields):
    return lambda document: document["tokens"][0].update(fields)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            ada_has(roles=["operat"]),
            r"tokens.json.*'ada'.*'operat'.*did you mean 'operate'",
        ),
        (
            ada_has(roles=["night", "qqq"]),
            r"'ada': there is no role 'qqq' \(look, submit, .*speak_for, night\)",
        ),
        (ada_has(roles=[]), r"tokens\[0\].roles: a list of at least one name"),
        (ada_has(roles="look"), r"tokens\[0\].roles: a list of .*not 'look'"),
        (ada_has(tenant=["acme"]), r"tokens\[0\].*'tenant'.*tenants"),
        (ada_has(tenants="acme"), r"tokens\[0\].tenants: a list"),
        (ada_has(kind="robot"), r"tokens\[0\].kind: one of person, program"),
        (ada_has(name=7), r"tokens\[0\].name: a text"),
        (ada_has(name="a:b"), "without a colon"),
        (ada_has(made="2026-11-28T08:00:00"), r"tokens\[0\].made: a date"),
        (ada_has(expires="never"), r"tokens\[0\].expires: a date"),
        (ada_has(expires=0), r"tokens\[0\].expires: a date"),
        (ada_has(hash="ABC"), r"tokens\[0\].hash: 64 hexadecimal digits"),
        (ada_has(id="a_b"), r"tokens\[0\].id: 12 hexadecimal digits"),
        (
            lambda d: d["tokens"][0].pop("tenants"),
            r"tokens\[0\].tenants: it is missing",
        ),
        (lambda d: d["tokens"].append(d["tokens"][0]), "is that of another, too"),
        (lambda d: d.pop("version"), "version: it is missing"),
        (lambda d: d.update(version=2), "version: it is of version 2, and 1 is read"),
        (lambda d: d.update(version=True), "version: a whole number"),
        (lambda d: d.update(role={}), "there is no 'role' here.*roles"),
        (lambda d: d["roles"].update(look=["rerun_task"]), "'look' has a meaning"),
        (lambda d: d["roles"].update(own=["rerun"]), "'own': there is no verb 'rerun'"),
        (lambda d: d["roles"].update(own=["make_token"]), "'own'.*may do all"),
        (lambda d: d["roles"].update(own="look"), "roles.own: a list"),
        (lambda d: d["roles"].clear(), "'ada': there is no role 'night'"),
    ],
)
def test_what_means_nothing_in_the_file_is_refused_by_its_name(tokens, change, words):
    rewrite(tokens, change)
    for read in (
        lambda: Tokens(tokens.path),
        lambda: create_app(TaskOrchestrator(), token=None, tokens=tokens.path),
    ):
        with pytest.raises(InvalidTaskError, match=f"(?s){words}") as caught:
            read()
        assert str(tokens.path) in str(caught.value)


def test_all_that_is_wrong_is_said_at_once_and_nobody_is_let_in_meanwhile(tmp_path):
    tokens = Tokens(tmp_path / "tokens.json")
    ada = tokens.add("ada", ["look"])
    tokens.add("ben", ["look"])
    good = tokens.path.read_text()

    def spoil(document):
        for each, role in zip(document["tokens"], ("lok", "loook"), strict=True):
            each["roles"] = [role]

    rewrite(tokens, spoil)
    with pytest.raises(InvalidTaskError, match=r"(?s)'ada'.*'lok'.*'ben'.*'loook'"):
        Tokens(tokens.path)
    assert tokens.find(ada) is None
    tokens.path.write_text(good)
    assert tokens.find(ada)


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_a_role_that_tokens_have_is_not_removed(tokens, capsys, words):
    code, _, err = taskorch(capsys, "tokens", tokens.path, "role", "night", *words)
    assert code == 2
    assert "tokens have the role 'night' still: ada" in err
    assert "change ada --role" in err
    assert Tokens(tokens.path).roles == {"night": NIGHT}
    # It may be made another, and goes once nobody has it.
    tokens.set_role("night", ["look"])
    tokens.change("ada", ["look"])
    tokens.set_role("night", ())
    assert tokens.roles == {}
    with pytest.raises(InvalidTaskError, match="no role 'night' of your own"):
        tokens.set_role("night", ())


# -- the law: what is accepted acts ----------------------------------------------------

_TEXTS = st.one_of(
    st.sampled_from(
        [
            *ROLES,
            *("operat", "night", "rerun_task", "make_token", "ada", "person", "none"),
            *("", " ", "a:b", "tko_x", "0" * 12, "f" * 64, "2030-01-01T00:00:00Z"),
        ]
    ),
    st.text(max_size=5),
)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 2) | st.floats(0, 2) | _TEXTS,
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(_TEXTS, inner, max_size=2)
    ),
    max_leaves=4,
)
#: A file that is right, with all that may stand in one.
_HASH = "ab" * 32
_RIGHT = {
    "version": 1,
    "roles": {"night": ["look", "rerun_task"]},
    "tokens": [
        {
            "id": f"{number:012x}",
            "name": name,
            "kind": kind,
            "roles": roles,
            "tenants": tenants,
            "made": "2026-11-28T08:00:00+00:00",
            "expires": expires,
            "hash": _HASH,
        }
        for number, name, kind, roles, tenants, expires in (
            (1, "ada", "person", ["night", "speak_for"], None, None),
            (2, "bot", "program", ["submit"], ["acme"], "2999-01-01T00:00:00+00:00"),
        )
    ],
}


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Each mapping or list of *value*, with a key of it."""
    if not isinstance(value, dict | list):
        return []
    keys = [*value] if isinstance(value, dict) else [*range(len(value))]
    return [(value, key) for key in keys] + [
        place for key in keys for place in _places(value[key])
    ]


@given(st.data())
def test_what_is_accepted_acts_and_everything_else_is_refused(data):
    document = deepcopy(_RIGHT)
    for _ in range(data.draw(st.integers(0, 2), "changes")):
        within, key = data.draw(st.sampled_from(_places(document)), "place")
        how = data.draw(st.sampled_from(["replace", "remove", "add"]), "how")
        if how == "replace":
            within[key] = data.draw(_VALUES, "value")
        elif how == "remove":
            del within[key]
        elif isinstance(within, dict):
            within[data.draw(_TEXTS, "name")] = data.draw(_VALUES, "value")
        else:
            within.append(data.draw(_VALUES, "value"))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "tokens.json"
        path.write_text(json.dumps(document))
        path.chmod(0o600)
        try:
            tokens = Tokens(path)
        except InvalidTaskError as error:
            assert str(path) in str(error)  # noqa: PT017 - it may be accepted, too
            assert _HASH not in str(error)  # noqa: PT017
            return
        known = {*ROLES, *tokens.roles}
        assert {*document} == {*_RIGHT}
        assert {name: list(parts) for name, parts in tokens.roles.items()} == {
            name: [*dict.fromkeys(parts)]
            for name, parts in (document["roles"] or {}).items()
        }
        listed = tokens.list()
        assert len(listed) == len(document["tokens"])
        for info, said in zip(listed, document["tokens"], strict=True):
            # Each field says what stands there, and there is none besides.
            assert {*said} == {*info.to_dict(), "hash"} - {"used"}
            for name in ("id", "name", "kind"):
                assert getattr(info, name) == said[name]
            assert list(info.roles) == [*dict.fromkeys(said["roles"])]
            assert {*info.roles} <= known
            assert info.tenants is None or [*info.tenants] == [
                *dict.fromkeys(said["tenants"])
            ]
            who = tokens.caller(info.id)
            assert (who is None) == (
                said["expires"] is not None and info.expires.year < 2100
            )
            # A role that is had lets its holder do something.
            assert who is None or who.grants
        # What was accepted is written anew, and read again as it was.
        tokens.add("somebody else", ["look"])
        again = Tokens(path)
        assert again.list()[: len(listed)] == listed
        assert again.roles == tokens.roles
