"""Jobs over HTTP and from the command line."""

from __future__ import annotations

import json
import signal
import sys

import pytest
from tests.ext.command_line.tools import started, told
from tests.ext.jobs.test_jobs import EXAMPLE, body, counting

from taskorch.errors import DuplicateTaskError, InvalidTaskError, UnknownTaskError
from taskorch.ext.client import Client, ServiceError
from taskorch.ext.command_line import main
from taskorch.ext.service import create_app, new_token, serve


def test_a_service_takes_commands(tmp_path, monkeypatch, capsys):
    jobs = counting()
    token = new_token()
    monkeypatch.setenv("TASKORCH_TOKEN", token)
    with (
        jobs.orchestrator() as orch,
        serve(create_app(orch, token=token, jobs=jobs), port=0) as server,
    ):
        client = Client(server.url, token=token)
        assert client.command("assign_job", **body())["job_id"] == "j1"
        jobs.result("j1")
        assert client.command("assign_job", **body())["state"] == "completed"
        with pytest.raises(DuplicateTaskError, match="another tadpole_count"):
            client.command("assign_job", **body(tadpole_count=2))
        with pytest.raises(InvalidTaskError, match="did you mean 'objective'"):
            client.command("assign_job", **body(objektive=1))
        with pytest.raises(UnknownTaskError):
            client.command("job_status", job_id="nobody")
        with pytest.raises(InvalidTaskError, match="job_id is needed; value is needed"):
            client.command("reward_job")
        with pytest.raises(InvalidTaskError, match="is a text"):
            client.command("job_status", job_id=4, more=1)
        for said in ({"action": "asign_job"}, {}, {"action": "learned", "payload": 1}):
            with pytest.raises((InvalidTaskError, ServiceError)):
                client._ask("POST", "/commands", said, base="")
        assert client.command("reward_job", job_id="j1", value=1)["changed"]
        assert "learned" in client.command("learned")

        job = tmp_path / "job.json"
        job.write_text(json.dumps(body("j2")))
        assert main(["jobs", "assign", server.url, str(job)]) == 0
        jobs.result("j2")
        orch.wait()
        assert main(["jobs", "status", server.url, "j2"]) == 0
        assert main(["jobs", "status", server.url, "j2", "--json"]) == 0
        assert main(["jobs", "reward", server.url, "j2", "0.5"]) == 0
        assert main(["jobs", "reward", server.url, "j2", "0.5"]) == 0
        assert main(["jobs", "reward", server.url, "j2", "nan"]) == 2
    out = capsys.readouterr().out
    assert "j2: completed, 4 of 4 units" in out
    assert "has said so before" in out


def test_jobs_are_run_from_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "counts_words.py").write_text(
        "def count(unit, job):\n    return len(unit.share(job.metadata['words']))\n"
    )
    (tmp_path / "job.json").write_text(json.dumps(body()))
    run = ["jobs", "run", str(EXAMPLE), "job.json", "--objective"]
    kept = ["--journal", "jobs.db"]
    assert main([*run, "count=counts_words:count", *kept]) == 0
    assert main([*run, "count=counts_words:count", *kept, "--json"]) == 0
    assert "j1: completed, 4 of 4 units, 4 threads each" in capsys.readouterr().out
    for wrong, why in [
        ([*run, "count=counts_words:nothing"], "there is no function"),
        ([*run, "count=counts_words:__name__"], "is no function"),
        (["jobs", "run", str(EXAMPLE)], "no job to run"),
        (["jobs", "run", str(EXAMPLE), "counts_words.py"], "is no JSON"),
    ]:
        assert main(wrong) == 2
        assert why in capsys.readouterr().err


def test_what_is_printed_for_programs_is_json_alone(tmp_path):
    (tmp_path / "counts_words.py").write_text("def count(unit, job):\n    return 1\n")
    (tmp_path / "job.json").write_text(json.dumps(body()))
    words = ["jobs", "run", EXAMPLE, "job.json", "--port", 0, "--json"]
    words += ["--objective", "count=counts_words:count"]
    with started(*words, cwd=tmp_path, TASKORCH_TOKEN="") as process:
        try:
            lines = iter(process.stderr.readline, "")
            url = next(text for text in lines if text.startswith("jobs: http"))
            assert client_of(url, next(lines)).command("learned")
            process.send_signal(signal.SIGTERM)
            (status,) = told(process.stdout.read())
            assert (status["job_id"], process.wait(60)) == ("j1", 0)
        finally:
            process.kill()


def test_one_of_a_thing_is_no_more(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "counts_words.py").write_text("def count(unit, job):\n    return 1\n")
    (tmp_path / "job.json").write_text(json.dumps(body(tadpole_count=1)))
    run = ["jobs", "run", str(EXAMPLE), "job.json", "--objective"]
    assert main([*run, "count=counts_words:count"]) == 0
    assert "j1: completed, 1 of 1 unit, " in capsys.readouterr().out


def test_the_path_is_as_before_but_for_what_a_module_adds(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    before = [each for each in sys.path if each != str(tmp_path)]
    monkeypatch.setattr(sys, "path", [*before])
    monkeypatch.delitem(sys.modules, "counts_words", raising=False)
    (tmp_path / "counts_words.py").write_text(
        "import sys\nsys.path.insert(0, '/of/the/module')\n"
        "def count(unit, job):\n    return 1\n"
    )
    run = ["jobs", "run", str(EXAMPLE), "--objective", "count=counts_words:count"]
    assert main(run) == 2
    assert "no job to run" in capsys.readouterr().err
    assert sys.path == ["/of/the/module", *before]


def client_of(url, token):
    """A client of the service that has said these lines."""
    assert token.startswith("token: ")
    address = url.removeprefix("jobs: ").strip().removesuffix("/commands")
    return Client(address, token=token.removeprefix("token: ").strip())


@pytest.mark.slow("a process, for what people are told")
def test_a_token_that_is_made_is_told_though_its_variable_is_empty(tmp_path):
    words = ["jobs", "run", EXAMPLE, "--port", 0]
    with started(*words, cwd=tmp_path, TASKORCH_TOKEN="") as process:
        try:
            lines = iter(process.stdout.readline, "")
            url = next(text for text in lines if text.startswith("jobs: "))
            assert client_of(url, next(lines)).command("learned")
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        finally:
            process.kill()


def test_a_journal_has_no_jobs_and_it_is_said_which_command_reads_it(capsys):
    assert main(["jobs", "list", "runs.db"]) == 2
    said = capsys.readouterr().err
    assert "taskorch jobs run CONFIG --port" in said
    assert "taskorch runs JOURNAL" in said
    assert "Client(" not in said
