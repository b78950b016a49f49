"""A remedy that is printed can be typed by who reads it, or says whose it is."""

from __future__ import annotations

import pytest
from tests.api.tools import eventually

pytest.importorskip("starlette")

from taskorch import Task, TaskOrchestrator, TaskState
from taskorch.ext.client import Client
from taskorch.ext.command_line import main
from taskorch.ext.people import Tokens
from taskorch.ext.service import create_app, new_token, serve


@pytest.fixture
def failed(tmp_path):
    """A service with a task that has failed, what waits behind it, and a question."""
    book = Tokens(tmp_path / "tokens.json")
    tokens = {"lou": book.add("lou", ["look"]), "oda": book.add("oda", ["operate"])}
    tokens["plain"] = new_token()
    with TaskOrchestrator() as orch:
        orch.options(id="bad").submit(int, "x")
        orch.options(id="behind", after=["bad"]).submit(int)
        orch.submit_task(Task.question("go?", id="ask"))
        eventually(lambda: orch.get_task_status("bad").state == TaskState.FAILED)
        app = create_app(orch, token=tokens["plain"], tokens=book)
        with serve(app, port=0) as server:
            yield orch, server.url, tokens
        orch.stop(drain=False)


def told(capsys, *words):
    capsys.readouterr()
    main([*words])
    return "".join(capsys.readouterr())


def test_a_remedy_can_be_typed_by_who_reads_it_or_says_whose_it_is(
    failed, monkeypatch, capsys
):
    orch, url, tokens = failed
    rerun, answer = f"taskorch rerun {url} bad", f"taskorch answer {url} ask "
    for who, is_theirs, signature in (
        ("plain", True, " --by NAME"),
        ("oda", True, ""),
        ("lou", False, ""),
    ):
        monkeypatch.setenv("TASKORCH_TOKEN", tokens[who])
        for command, subject in ((rerun, "behind"), (answer, "ask")):
            said = told(capsys, "explain", url, subject)
            of_others = f"{command}" in said and "(it takes the role operate)" in said
            assert command in said
            assert of_others != is_theirs, (who, said)
        assert f"{answer}CHOICE{signature}" in told(capsys, "explain", url, "ask")
        text = Client(url, token=tokens[who]).explain("behind")["text"]
        assert "POST /api/v1/tasks/bad/rerun" in text
        assert ("(it takes the role operate)" in text) != is_theirs
        text = Client(url, token=tokens[who]).explain("behind", remedies="calls")[
            "text"
        ]
        assert "orch.rerun_task('bad')" in text
        assert ("(it takes the role operate)" in text) != is_theirs
        said = told(capsys, "questions", url)
        assert f"{answer}CHOICE{signature}\n" in said
    monkeypatch.setenv("TASKORCH_TOKEN", tokens["oda"])
    (command,) = [
        line.partition("taskorch ")[2]
        for line in told(capsys, "explain", url, "ask").splitlines()
        if f"{answer}CHOICE" in line
    ]
    assert main(command.replace("CHOICE", "approve").split()) == 0
    assert "oda" in str(orch.get_task_status("ask").history)


def test_a_journal_proves_no_name_and_says_so(tmp_path, capsys):
    path = str(tmp_path / "runs.db")
    with TaskOrchestrator(journal=path) as orch:
        orch.submit_task(Task.question("go?", id="ask"))
        orch.stop(drain=False)
    said = told(capsys, "answer", path, "ask", "approve")
    assert "answer: a journal does not say who acts (--by NAME)" in said
    assert main(["answer", path, "ask", "approve", "--by", "ada"]) == 0
