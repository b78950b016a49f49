"""`taskorch serve`: an orchestrator of a module, and a journal, to look at."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import urllib.error
import urllib.request
import uuid

import pytest
from tests.api.tools import PATIENCE, Started, eventually
from tests.ext.command_line.tools import forget, started, taskorch
from tests.ext.remote_workers.tools import free_port

from taskorch import Task, TaskOrchestrator
from taskorch.errors import UsageError
from taskorch.ext import command_line as cli
from taskorch.ext.client import Client

APP = """\
from taskorch import Task, TaskOrchestrator

def make():
    orch = TaskOrchestrator()
    orch.submit_task(Task.call(int, id="there"))
    return orch

orch = make()
number = 3
"""


def ask(page, path):
    address, token = page
    request = urllib.request.Request(address + path)
    request.add_header("Authorization", f"Bearer {token}")
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return json.load(answer)


def page_of(process):
    """The address of the page, and the token."""
    lines = iter(process.stdout.readline, "")
    page = next(x for x in lines if x.startswith("page: ")).removeprefix("page: ")
    token = next(x for x in lines if x.startswith("token: "))
    return page.partition("/#code=")[0], token.removeprefix("token: ").strip()


@pytest.mark.slow("a service in a process, for each name")
@pytest.mark.parametrize("name", ["app", "app:orch", "app:make"])
def test_the_orchestrator_of_a_module_is_served(tmp_path, name):
    (tmp_path / "app.py").write_text(APP)
    with started("serve", "-m", name, "--port", "0", cwd=tmp_path) as process:
        try:
            page = page_of(process)
            eventually(lambda: ask(page, "/api/v1/tasks/there")["state"] == "completed")
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-m", "gone_for_good:orch"], "no module 'gone_for_good'"),
        (["-m", "app_for_faults:number"], "is no orchestrator, and no function"),
        (["-m", "app_for_faults:nothing"], "is no orchestrator, and no function"),
        (["-m", ":orch"], "MODULE:NAME"),
        (["-m", "app_for_faults", "--output", "x"], "--output is for a suite"),
        (["-m", "app_for_faults", "--journal", "runs.db"], "serve one of these"),
        ([], "serve one of these"),
        (["--journal", "runs.db", "--agents"], "--agents is for an orchestrator"),
        (["--config", "suite.yaml", "--url", "x"], "--url is for an orchestrator"),
    ],
)
def test_what_cannot_be_served_is_refused(tmp_path, monkeypatch, capsys, words, said):
    (tmp_path / "app_for_faults.py").write_text(APP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    assert cli.main(["serve", *words]) == 2
    assert said in capsys.readouterr().err


HEAD = "from taskorch import TaskOrchestrator\norch = TaskOrchestrator()\n"


@pytest.mark.parametrize("is_file", [True, False])
@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("orch.notify('https://example.com/x', secret='x')", 3, "at least 16"),
        ("\nimport pandass_for_faults", 4, "No module named 'pandass_for_faults'"),
        ("orch.alerts.rule('x', when='running > 1', severity='bad')", 3, "severity"),
        ("orch.add(", 3, "SyntaxError"),
        ("import json\njson.loads('{')", 4, "JSONDecodeError"),
        ("orch.schedule(int)", 3, "orch.schedules.add('int'"),
        ("orch.schedule('0 3 * * *', zon='UTC')", 3, "'zon' is no option"),
    ],
)
def test_what_is_wrong_in_a_file_has_its_place(
    tmp_path, monkeypatch, capsys, is_file, text, line, said
):
    """That of the user's own line, whatever raised it below."""
    name = f"app_{abs(hash((text, is_file))):x}"
    path = tmp_path / f"{name}.py"
    path.write_text(f"{HEAD}{text}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    words = [str(path)] if is_file else ["-m", f"{name}:orch"]
    assert cli.main(["serve", *words, "--port", "0", "--no-token"]) == 2
    told = capsys.readouterr().err
    assert f"{path}:{line}: " in told
    assert said in told


TEAM = {
    "app.py": """\
from taskorch import TaskOrchestrator
orch = TaskOrchestrator(journal="team.db")
""",
    "sales.py": """\
from app import orch
from taskorch import task

@task(retries=1)
def report(day):
    return f"report of {day}"

@orch.schedule("every 24h", name="sales")
def nightly():
    return report("today")
""",
    "stock.py": """\
import sales
from _tools import inside
from app import orch
from sales import report
orch.schedules.add("stock", "every 12h", sales.nightly)
""",
    "_part.py": "import sales  # it is a part of others, and not loaded by itself\nx = 1 / 0",
    "_tools.py": """\
from taskorch import task

@task
def inside(day):
    return day
""",
}


def test_a_folder_of_files_is_one_service(tmp_path):
    flows = tmp_path / "flows"
    flows.mkdir()
    for name, text in TEAM.items():
        (flows / name).write_text(text)
    words = ["flows", "--port", "0", "--functions", "--agents", "--host", "orch.test"]
    # An empty token is none: one is made.
    with started("serve", *words, cwd=tmp_path, TASKORCH_TOKEN="") as process:
        try:
            address, token = page = page_of(process)
            names = {
                each["name"] for each in ask(page, "/api/v1/schedules")["schedules"]
            }
            assert names == {"sales", "stock"}
            client = Client(address, token=token, functions={"report": str})
            task = Task.call(str, "monday", id="one")
            assert client.submit_task(task).result(PATIENCE) == "report of monday"
            # It is decorated, but not in a file that is served.
            client = Client(address, token=token, functions={"inside": str})
            with pytest.raises(UsageError, match="inside"):
                client.submit_task(Task.call(str, "monday", id="two"))
            ask(page, "/api/v1/agents")
            request = urllib.request.Request(f"{address}/livez")
            request.add_header("Host", "orch.test")
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                assert answer.status == 200
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"a.py": HEAD, "b.py": HEAD}, "2 orchestrators"),
        ({"a.py": "", "b.py": ""}, "no orchestrator"),
        ({"a.py": HEAD, "queue.py": ""}, "that of a module of Python"),
        ({"a.py": HEAD, "x/a.py": ""}, "its name is that of"),
        ({"readme.md": ""}, "no file of Python"),
        ({"a.py": f"{HEAD}import gone_in_a"}, "a.py:3: "),
    ],
)
def test_files_that_make_no_one_service_are_refused(
    tmp_path, monkeypatch, capsys, files, said
):
    for name, text in files.items():
        path = tmp_path / "flows" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    folders = sorted({str((tmp_path / "flows" / name).parent) for name in files})
    code, _, err = taskorch(capsys, "serve", *folders, "--port", "0", "--no-token")
    forget(tmp_path)
    assert code == 2
    assert said in err


def test_an_empty_token_is_none_that_is_needed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TASKORCH_TOKEN", "")
    assert cli.main(["serve", "gone.py", "--no-token"]) == 2
    error = capsys.readouterr().err
    assert "gone.py" in error
    assert "TASKORCH_TOKEN" not in error


SLIPS = """
from taskorch import workflow

@workflow
def night(slot: str):
    raise KeyError("a slip of the new version")

@workflow
def leaves():
    raise SystemExit("no data")

@workflow
def good():
    pass

orch.schedules.add("nightly", "every 24h", night)
orch.schedules.add("leaves", "every 24h", leaves)
orch.schedules.add("paused", "every 24h", leaves)
orch.schedules.pause("paused")
orch.schedules.add("good", "every 24h", good)

def load():
    raise ValueError("no rows tonight")

orch.schedules.add("loads", 0.5, load)
"""


def test_a_workflow_that_raises_is_found_at_the_start_and_what_fails_is_logged(
    tmp_path,
):
    (tmp_path / "night.py").write_text(f"{HEAD}{SLIPS}")
    with started("serve", "night.py", "--port", "0", cwd=tmp_path) as process:
        try:
            page = page_of(process)
            lines = iter(process.stdout.readline, "")
            said = [next(lines) for _ in range(4)]
            refused = [x for x in said if "will be refused" in x]
            assert [x.partition(" ")[0] for x in refused] == ["leaves", "nightly"]
            assert "leaves raises SystemExit: no data" in refused[0]
            assert "night raises KeyError: 'a slip of the new version'" in refused[1]
            heard = ["schedule leaves: the tick"]
            heard += ["of the schedule loads failed", "no rows tonight"]
            for line in iter(process.stderr.readline, ""):
                heard = [each for each in heard if each not in line]
                if not heard:
                    break

            def detail():
                checks = ask(page, "/api/v1/health")["checks"]
                parts = {each["component"]: each["detail"] for each in checks}
                return parts["schedules"]

            eventually(lambda: "no rows tonight" in detail())
            assert ask(page, "/api/v1/health")["status"] == "degraded"
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()


@pytest.mark.needs("service")
def test_who_starts_it_in_a_terminal_is_let_in(tmp_path):
    """With the token of the environment, too, which nobody has to type."""
    (tmp_path / "app.py").write_text(HEAD)
    terminal, end = os.openpty()
    with Started(
        [sys.executable, "-m", "taskorch", "serve", "app.py", "--port", "0"],
        stdout=end,
        stderr=end,
        cwd=tmp_path,
        env={**os.environ, "TASKORCH_TOKEN": "one-that-nobody-types", "TERM": "xterm"},
    ) as process:
        os.close(end)
        try:
            text = ""
            while not (match := re.search(r"page: (\S+)#code=(\S+)\r\n", text)):
                text += os.read(terminal, 1_000).decode()
            assert "one-that" not in text
            request = urllib.request.Request(
                f"{match[1]}api/v1/page/key",
                json.dumps({"code": match[2]}).encode(),
                {"Content-Type": "application/json"},
            )
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                assert answer.status == 200
        finally:
            process.kill()
            os.close(terminal)


def test_a_journal_is_served_while_its_owner_runs(tmp_path):
    with TaskOrchestrator(journal=tmp_path / "runs.db") as orch:
        orch.submit_task(Task.call(int, id="before")).result(PATIENCE)
        with started(
            "serve", "--journal", "runs.db", "--port", "0", cwd=tmp_path
        ) as process:
            try:
                page = page_of(process)
                assert ask(page, "/api/v1/board")["journal"] == "runs.db"
                orch.submit_task(Task.call(int, id="after")).result(PATIENCE)

                def completed():
                    said = ask(page, "/api/v1/board")["statistics"]
                    return said["state_machine"]["completed"]

                eventually(lambda: completed() == 2)
                process.send_signal(signal.SIGTERM)
                assert process.wait(PATIENCE) == 0
            finally:
                process.kill()


# -- one that waits for its turn, and one that has lost it -----------------------------

OWNED = """\
from taskorch import PostgresJournal, TaskOrchestrator

orch = TaskOrchestrator(
    journal=PostgresJournal({address!r}, partition={partition!r}, lease=2, standby=True)
)
orch.schedules.add("beat", "every 1h", int)
"""


def answers(port, path):
    """The status of an answer without a token; None: there is none."""
    try:
        with urllib.request.urlopen(
            f"http://127.0.0.1:{port}{path}", timeout=5
        ) as said:
            return said.status
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    except OSError:
        return None


@pytest.fixture
def owner_and_standby(tmp_path, postgres):
    """Two processes that serve one journal, and the port of the one that waits."""
    name = f"p{uuid.uuid4().hex[:12]}"
    text = OWNED.format(address=postgres.address(), partition=name)
    (tmp_path / "app.py").write_text(text)
    port = free_port()
    with started("serve", "app.py", "--port", "0", cwd=tmp_path) as owner:
        page_of(owner)
        with started("serve", "app.py", "--port", str(port), cwd=tmp_path) as other:
            try:
                yield owner, other, port
            finally:
                other.kill()
                owner.kill()


@pytest.mark.slow("two services in processes")
def test_a_standby_says_that_it_waits_and_a_fenced_owner_ends_with_an_error(
    owner_and_standby,
):
    """Its supervisor starts it anew: it is the standby then."""
    owner, other, port = owner_and_standby
    lines = iter(other.stderr.readline, "")
    assert next(line for line in lines if "waits" in line)
    eventually(lambda: answers(port, "/livez") == 200)
    assert answers(port, "/readyz") == 503
    os.kill(owner.pid, signal.SIGSTOP)
    page_of(other)
    eventually(lambda: answers(port, "/readyz") == 200)
    os.kill(owner.pid, signal.SIGCONT)
    assert owner.wait(PATIENCE) == 1
    assert "has ended by itself" in owner.stderr.read()
    other.send_signal(signal.SIGTERM)
    assert other.wait(PATIENCE) == 0


@pytest.mark.slow("two services in processes")
def test_a_standby_that_waits_ends_when_it_is_asked_to(owner_and_standby):
    _, other, port = owner_and_standby
    eventually(lambda: answers(port, "/livez") == 200)
    other.send_signal(signal.SIGTERM)
    assert other.wait(PATIENCE) == 0
