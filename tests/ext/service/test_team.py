"""What a team needs of a service: an address, roles that answer, links, and why."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from tests.api.tools import PATIENCE, eventually
from tests.ext.notices.test_notifying import Hook

pytest.importorskip("cronsim")

from taskorch import Approval, Task, TaskOrchestrator, TaskState, Workflow
from taskorch.errors import (
    AnswerRefusedError,
    InvalidTaskError,
    ValidationFailedError,
)
from taskorch.ext.client import Client
from taskorch.ext.command_line import main
from taskorch.ext.people import Tokens
from taskorch.ext.service import create_app, new_token, serve
from taskorch.ext.views import JournalReader
from taskorch.model import Question


def fail():
    msg = "no such column"
    raise ValueError(msg)


# -- where it listens ------------------------------------------------------------------


def test_others_reach_an_address_only_if_they_need_a_token(tmp_path):
    orch = TaskOrchestrator()
    with orch, pytest.raises(InvalidTaskError, match="asks nobody for a token"):
        serve(create_app(orch, token=None), host="0.0.0.0", port=0)
    token = new_token()
    for options in ({"token": token}, {"token": None, "tokens": tmp_path / "t.json"}):
        orch = TaskOrchestrator()
        app = create_app(orch, **options)
        with orch, serve(app, host="0.0.0.0", port=0) as server:
            assert server.url == f"http://127.0.0.1:{server.port}"
            if options["token"]:
                assert Client(server.url, token=token).get_stats()
    with pytest.raises(InvalidTaskError, match="no address"):
        serve(app, host="somewhere", port=0)


def test_an_orchestrator_serves_where_others_reach_it_by_a_name():
    """A token is made if none is said; without it nobody is let in."""
    orch = TaskOrchestrator()
    names = {"host": "0.0.0.0", "hosts": ["tasks.example.org"]}
    with orch, orch.serve(port=0, **names) as server:

        def ask(name, token):
            head = {"Host": name, "Authorization": f"Bearer {token}"}
            address = f"{server.url}/api/v1/statistics"
            try:
                with urlopen(Request(address, headers=head), timeout=PATIENCE) as got:
                    return got.status
            except HTTPError as refused:
                return refused.code

        assert ask("tasks.example.org", server.token) == 200
        assert ask("tasks.example.org", "x" * 32) == 401
        assert ask("another.example.org", server.token) in (400, 403, 421)
    with TaskOrchestrator() as orch, pytest.raises(InvalidTaskError, match="address"):
        orch.serve(host="somewhere", port=0)


def test_a_command_refuses_to_be_open_to_others(tmp_path, capsys):
    path = str(tmp_path / "runs.db")
    with TaskOrchestrator(journal=path) as orch:
        orch.options(id="one").submit(int).result(PATIENCE)
    words = "--journal", path, "--port", "0", "--no-token"
    assert main(["serve", *words, "--listen", "0.0.0.0"]) == 2
    assert "asks nobody for a token" in capsys.readouterr().err


# -- roles that answer -----------------------------------------------------------------


def test_a_role_answers_by_whoever_has_a_token_with_it(tmp_path):
    tokens = Tokens(tmp_path / "tokens.json")
    tokens.set_role("approver", ["look", "answer"])
    holders = {
        "ada": tokens.add("ada", ["approver"]),
        "bob": tokens.add("bob", ["operate"]),
        "may": tokens.add("may", ["approver", "speak_for"]),
        "plain": new_token(),
    }
    orch = TaskOrchestrator()
    app = create_app(orch, token=holders["plain"], tokens=tokens)
    with orch, serve(app, port=0) as server:
        who = ["role:approver", "zed"]
        orch.submit_task(Task.question("go?", id="ask", who=who, quorum=3))
        (asked,) = orch.questions()
        assert asked.whom.startswith("anybody with the role approver and zed may")

        def answer(token, **by):
            return Client(server.url, token=holders[token]).answer(
                "ask", "approve", **by
            )

        # Nobody proves the role of another, and a program proves none.
        for token, by in (
            ("bob", {}),
            ("plain", {"by": "ada"}),
            ("may", {"by": "ada"}),
        ):
            with pytest.raises(AnswerRefusedError, match="with the role approver"):
                answer(token, **by)
        with pytest.raises(AnswerRefusedError, match="proves a role"):
            orch.answer("ask", "approve", by="ada")
        assert not answer("ada")
        assert not answer("may")
        assert answer("plain", by="zed")
        assert orch.handle("ask").result(PATIENCE).by == ("ada", "may", "zed")


def test_roles_are_no_people_that_can_be_counted_or_left_out():
    asked = Task.question("go?", who=["role:x"], quorum=5).payload
    assert isinstance(asked, Question)
    assert asked.outcome([("ada", "approve")]) is None
    with pytest.raises(InvalidTaskError, match="people are named there"):
        Task.question("go?", not_by=["role:x"])


def some_tokens():
    return Tokens(Path(tempfile.mkdtemp()) / "tokens.json")


def answer_by(name):
    with TaskOrchestrator() as orch:
        orch.submit_task(Task.question("go?", id="ask"))
        try:
            orch.answer("ask", "approve", by=name)
        finally:
            orch.cancel_task("ask")


NO_ROLES = ["role:", "role: ", "role: x", "Role:x", "role:x:y", "ada:x"]
PLACES = {
    "a question": lambda name: Task.question("go?", who=["ada", name]),
    "one alone": lambda name: Task.question("go?", who=name),
    "left out": lambda name: Task.question("go?", not_by=[name]),
    "an approval": lambda name: Approval(who=[name]),
    "a document": lambda name: Workflow.from_dict(
        {"workflow": "night", "tasks": {"go": {"question": "go?", "who": [name]}}}
    ),
    "by": answer_by,
    "a role": lambda name: some_tokens().set_role(name, ["look"]),
    "a token": lambda name: some_tokens().add(name, ["look"]),
    "a token's role": lambda name: some_tokens().add("ada", [name]),
}


@pytest.mark.parametrize("name", NO_ROLES)
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_a_role_has_a_name_wherever_one_stands(place, name):
    """Nobody could ever have it, and nothing would say so."""
    with pytest.raises((InvalidTaskError, ValidationFailedError)) as refused:
        place(name)
    assert repr(name) in str(refused.value)


# -- links -----------------------------------------------------------------------------


@pytest.mark.parametrize("url", [None, "https://tasks.example.org"])
def test_each_message_has_a_link_to_what_it_is_about(url):
    hook = Hook()
    orch = TaskOrchestrator()
    app = create_app(orch, token=new_token(), page=True, url=url)
    try:
        with orch, serve(app, port=0) as server:
            orch.notify(hook.url, allow_private=True)
            flow = Workflow("night")
            flow.task(fail, id="load")
            orch.workflows.start(flow, id="night-1")
            orch.options(id="a/b").submit(fail)
            orch.submit_task(Task.question("go?", id="ask"))
            eventually(lambda: len(hook.got) >= 2)
            base = url or server.url
            eventually(
                lambda: (
                    {json.loads(body).get("link") for _, body in hook.got}
                    >= {f"{base}/#/questions", f"{base}/#/runs/night-1"}
                )
            )
            assert all("link" in json.loads(body) for _, body in hook.got)
            orch.stop(drain=False)
    finally:
        hook.close()


# -- why -------------------------------------------------------------------------------


def test_a_run_and_a_schedule_are_explained_as_a_task_is(tmp_path, monkeypatch, capsys):
    path = str(tmp_path / "runs.db")
    with TaskOrchestrator(journal=path) as orch, orch.serve(port=0) as server:
        monkeypatch.setenv("TASKORCH_TOKEN", server.token)
        flow = Workflow("night")
        flow.task(fail, id="load")
        flow.task(int, id="report", after=["load"])
        orch.schedules.add("nightly", "0 3 * * *", flow)
        run = orch.schedules.trigger("nightly")
        eventually(
            lambda: orch.get_task_status(f"{run}/load").state == TaskState.FAILED
        )
        for place in (server.url, path):
            assert main(["explain", place, run]) == 0
            said = capsys.readouterr().out
            assert f"Of the tasks of the run {run}, 1 failed and 1 blocked" in said
            assert "no such column" in said
            assert f"taskorch rerun {place} {run}/load" in said
            assert f"taskorch runs {place} show {run}" in said
        assert main(["explain", server.url, "nightly"]) == 0
        said = capsys.readouterr().out
        assert "no such column" in said
        assert f"taskorch schedules {server.url} show nightly" in said
        assert main(["explain", server.url, "nobody"]) == 2
        orch.stop(drain=False)
    assert JournalReader(path).get_task_status(f"{run}/load")
