"""`taskorch tokens`, on a file and on a service."""

from __future__ import annotations

import json
import signal

import pytest
from tests.api.tools import PATIENCE
from tests.ext.command_line.tools import started, taskorch

from taskorch import TaskOrchestrator
from taskorch.ext.client import Client, ServiceError
from taskorch.ext.people import Tokens
from taskorch.ext.service import create_app, new_token, serve


@pytest.fixture(params=["file", "service"])
def place(request, tmp_path, monkeypatch):
    """Where tokens are, and what reads them."""
    tokens = Tokens(tmp_path / "tokens.json")
    if request.param == "file":
        yield tokens.path, tokens
        return
    token = new_token()
    monkeypatch.setenv("TASKORCH_TOKEN", token)
    app = create_app(TaskOrchestrator(), token=token, tokens=tokens)
    with serve(app, port=0) as server:
        yield server.url, tokens


def test_tokens_are_made_shown_changed_and_ended(place, capsys):
    at, tokens = place

    def say(*words, code=0):
        done, out, err = taskorch(capsys, "tokens", at, *words)
        assert done == code, err
        return out + err

    assert say() == "There are no tokens.\n"
    said = say("add", "ada", "--role", "operate", "--lasts", "90d", "--tenant", "acme")
    first = said.rpartition(" ")[2].strip()
    second = json.loads(say("rotate", "ada", "--grace", "1h", "--json"))["token"]
    assert tokens.find(first)[1].tenants == tokens.find(second)[1].tenants == {"acme"}
    say("role", "night", "look", "rerun_task")
    say("change", "ada", "--role", "night")
    assert tokens.find(second)[1].roles == {"night"}
    say("add", "bot", "--role", "submit", "--program")
    shown = say()
    assert [line.split()[:3] for line in shown.splitlines()[1:]] == [
        ["ada", "person", "night"],
        ["ada", "person", "night"],
        ["bot", "program", "submit"],
        ["role", "night:", "look,"],
    ]
    assert first not in shown
    listed = json.loads(say("list", "--json"))
    assert {each["kind"] for each in listed["tokens"]} == {"person", "program"}
    assert say("revoke", listed["tokens"][0]["id"]) == "revoked: 1\n"
    assert tokens.find(first) is None
    assert say("revoke", "ADA") == "revoked: 1\n"
    say("role", "night")
    assert tokens.roles == {}
    # What cannot be says why.
    assert "bot has a token already" in say("add", "Bot", "--role", "look", code=2)
    assert "there is no role" in say("add", "eve", "--role", "lok", code=2)
    assert "roles: at least one" in say("add", "eve", code=2)
    assert "there is no verb" in say("role", "own", "rerun", code=2)
    assert "one name stands behind that" in say("rotate", code=2)
    assert "no name stands behind that" in say("list", "ada", code=2)
    assert "nobody has a token" in say("revoke", "ada", code=2)


def test_a_file_is_served_with_tokens_and_makes_none_of_its_own(tmp_path):
    text = "from taskorch import TaskOrchestrator\norch = TaskOrchestrator()\n"
    (tmp_path / "app.py").write_text(text)
    tokens = Tokens(tmp_path / "tokens.json")
    ada = tokens.add("ada", ["look"])
    words = ("serve", "app.py", "--port", "0", "--tokens", tokens.path)
    with started(*words, cwd=tmp_path, TASKORCH_TOKEN="") as process:
        try:
            lines = iter(process.stdout.readline, "")
            page = next(line for line in lines if line.startswith("page: "))
            url = page.removeprefix("page: ").strip().rstrip("/")
            assert Client(url, token=ada).get_stats()
            with pytest.raises(ServiceError, match="may not do hold_starts"):
                Client(url, token=ada).hold_starts("x")
            tokens.revoke("ada")
            with pytest.raises(ServiceError, match="not that of this service"):
                Client(url, token=ada).get_stats()
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0
            assert "token: " not in process.stdout.read()
        finally:
            process.kill()


def test_no_token_and_a_file_of_tokens_are_not_both(tmp_path, capsys):
    (tmp_path / "app.py").write_text("")
    words = ("serve", tmp_path / "app.py", "--no-token", "--tokens", "x.json")
    code, _, err = taskorch(capsys, *words)
    assert code == 2
    assert "which of them" in err
