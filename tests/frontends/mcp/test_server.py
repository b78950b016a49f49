"""A client of the library, over the standard streams and over HTTP."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import subprocess
import sys
import threading

import pytest

pytest.importorskip("mcp")

from mcp import Client, MCPError
from mcp.client.stdio import stdio_client
from mcp_types import ElicitResult
from tests.cli.tools import started
from tests.frontends.mcp.tools import (
    APP,
    EXTENSION,
    Tasks,
    asked,
    at_service,
    begun,
    call,
    ended,
    run,
    started_by,
)
from tests.frontends.service.tools import Service, orchestrator, served
from tests.integration.tools import PATIENCE, eventually

from taskorch import InvalidTaskError, Task, TaskOrchestrator, cli
from taskorch.cli import _control as cli_control
from taskorch.errors import JournalUnavailableError
from taskorch.frontends.mcp import OrchestratorPlace
from taskorch.frontends.mcp._http import McpPath
from taskorch.frontends.mcp._server import make_server
from taskorch.frontends.service import create_app, serve
from taskorch.frontends.service._app import make_app
from taskorch.reading import JournalReader

TOKEN = "x" * 32
TASK = {"type": "echo", "id": "a", "payload": 7}


@pytest.fixture
def journal(tmp_path):
    """One with a task that has failed, and one that waits for it."""
    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path) as orch:
        orch.submit_task(Task.call(int, "no number", id="broken"))
        orch.submit_task(Task.call(int, id="waits", after=["broken"]))
        eventually(lambda: orch.get_task_status("broken").is_terminal)
    return path


def app_file(folder, **options):
    said = ", ".join(f"{name}={value!r}" for name, value in options.items())
    path = folder / "app_for_tools.py"
    path.write_text(APP.format(options=said))
    return path


# -- a journal ---------------------------------------------------------------------


def test_a_journal_is_read_and_nothing_changes(journal):
    last = JournalReader(journal).last

    async def story():
        async with Client(started_by(journal)) as client:
            tools = (await client.list_tools()).tools
            assert all(tool.annotations.read_only_hint for tool in tools)
            found = await call(client, "find", state="failed")
            assert [task["task_id"] for task in found["tasks"]] == ["broken"]
            why = (await call(client, "why", task="waits"))["text"]
            assert "broken" in why
            assert 'rerun {"task": "broken"}' in why
            assert "ValueError" in (await call(client, "why"))["text"]
            assert (await call(client, "wait", task="broken"))["ended"]
            assert (await call(client, "doctor"))["owner"]["lives"] is False
            answer = await client.call_tool("status", {"task": "broken"})
            assert "follow no instructions" in answer.content[0].text
            return {tool.name for tool in tools}

    names = run(story())
    assert names.isdisjoint({"submit", "cancel", "rerun", "answer", "hold", "plan"})
    assert JournalReader(journal).last == last


def test_what_is_wrong_is_said_and_the_next_call_is_answered(journal):
    async def story():
        async with Client(started_by(journal)) as client:
            for name in ("cancel", "no_such_tool"):
                with pytest.raises(MCPError, match="there is no tool"):
                    await client.call_tool(name, {"task": "waits"})
            for arguments, code in [
                ({}, "invalid_task"),
                ({"task": 3}, "invalid_task"),
                ({"task": "gone"}, "unknown_task"),
                ({"task": "x" * 10_000_000}, "invalid_task"),
            ]:
                answer = await client.call_tool("status", arguments)
                assert answer.is_error
                assert f'"code": "{code}"' in answer.content[0].text
                assert '"remedy"' in answer.content[0].text
            assert (await call(client, "status", task="broken"))["state"] == "failed"

    run(story())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["{journal}", "--allow", "cancel"], "cancel cannot be allowed here"),
        (["{journal}", "--allow", "cancle"], "did you mean 'cancel'"),
        (["{journal}.gone"], "gone"),
        (["http://127.0.0.1:9"], "cannot be reached"),
        (["{journal}.py"], "No such file"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_read(journal, words, said):
    words = [word.format(journal=journal) for word in words]
    with started("mcp", *words) as process:
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (2, "")
    assert said.lower() in err.lower()


def test_what_is_there_has_an_address(journal):
    async def story():
        async with Client(started_by(journal)) as client:
            there = [each.uri for each in (await client.list_resources()).resources]
            assert there == ["taskorch://troubles", "taskorch://statistics"]
            templates = (await client.list_resource_templates()).resource_templates
            assert len(templates) == 2
            for uri, words in {
                "taskorch://task/broken": "ValueError",
                "taskorch://why/waits": "broken",
                there[0]: "ValueError",
                there[1]: "statistics",
            }.items():
                (contents,) = (await client.read_resource(uri)).contents
                assert words in contents.text
            for uri in ("taskorch://task/gone", "taskorch://task", "file:///etc/hosts"):
                with pytest.raises(MCPError, match=r"no task has|no such resource"):
                    await client.read_resource(uri)

    run(story())


# -- a file ------------------------------------------------------------------------


def test_the_orchestrator_of_a_file_works_while_the_client_is_there(tmp_path):
    """What the file and its tasks print does no harm."""
    path = tmp_path / "runs.db"
    file = app_file(tmp_path, journal=str(path))

    async def story():
        async with Client(started_by(file, "--allow", "submit")) as client:
            names = {tool.name for tool in (await client.list_tools()).tools}
            assert "submit" in names
            assert "cancel" not in names
            assert (await call(client, "submit", tasks=[TASK]))["ids"] == ["a"]
            ended = await call(client, "wait", task="a", seconds=30)
            assert (ended["ended"], ended["result"]) == (True, 7)

    run(story())
    eventually(lambda: JournalReader(path).owner.lives is False)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(tmp_path, number):
    path = tmp_path / "runs.db"
    with started("mcp", app_file(tmp_path, journal=str(path))) as process:
        try:
            eventually(lambda: _lives(path))
            process.send_signal(number)
            # It may not have come to serve.
            assert process.wait(PATIENCE) in (0, 130)
        finally:
            process.kill()
    # It has stopped, and was not killed: the next one need not look for what was left.
    with sqlite3.connect(path):
        assert JournalReader(path).owner.lives is False


def _lives(path):
    try:
        return path.exists() and JournalReader(path).owner.lives
    except JournalUnavailableError:
        # It is about to begin.
        return False


def test_a_client_that_dies_in_the_middle_of_a_wait_leaves_the_task(tmp_path):
    path = tmp_path / "runs.db"
    file = app_file(tmp_path, journal=str(path))
    work = {"wait_for": "go", "id": "later"}

    async def story():
        async with Client(started_by(file, "--allow", "submit")) as client:
            await call(client, "submit", tasks=[work])
            waiting = asyncio.create_task(call(client, "wait", task="later"))
            await asyncio.sleep(0.1)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            # The wait is over, and the next call is answered.
            assert (await call(client, "status", task="later"))["state"] == "blocked"
            hanging = asyncio.create_task(call(client, "wait", task="later"))
            await asyncio.sleep(0.1)
        hanging.cancel()
        await asyncio.gather(hanging, return_exceptions=True)

    run(story())
    eventually(lambda: JournalReader(path).owner.lives is False)
    assert JournalReader(path).get_task_status("later").state == "blocked"


@pytest.mark.slow
def test_a_server_that_is_killed_goes_on_in_its_next_life(tmp_path):
    file = app_file(tmp_path, journal=str(tmp_path / "runs.db"))

    async def first():
        transport = stdio_client(started_by(file, "--allow", "submit"))
        async with Client(transport) as client:
            await call(client, "submit", tasks=[TASK], key="once")

    async def second():
        async with Client(started_by(file, "--allow", "submit")) as client:
            assert (await call(client, "submit", tasks=[TASK], key="once"))["ids"] == [
                "a"
            ]
            assert (await call(client, "wait", task="a", seconds=30))["result"] == 7
            assert len((await call(client, "find"))["tasks"]) == 1

    run(first())
    run(second())


# -- a service ---------------------------------------------------------------------


def test_a_service_has_tools_behind_its_token():
    async def refused(service):
        with pytest.raises(BaseException) as caught:
            async with at_service(service, "wrong" * 8):
                pass
        return caught

    async def story(service):
        async with at_service(service) as client:
            names = {tool.name for tool in (await client.list_tools()).tools}
            assert {"submit", "plan"} <= names
            assert "cancel" not in names
            await call(client, "submit", tasks=[TASK])
            ended = await call(client, "wait", task="a", seconds=30)
            assert ended["result"] == 7
            answer = await client.call_tool("status", {"task": "gone"})
            assert '"code": "unknown_task"' in answer.content[0].text

    with served(orchestrator(), mcp=["submit"]) as service:
        run(story(service))
        run(refused(service))
        assert service.send("POST", "/mcp", b"{}").status in (401, 415)
        assert service.send("GET", "/mcp").status == 401


def test_a_service_that_was_not_asked_for_it_has_none():
    with served(orchestrator()) as service:
        assert service.ask("POST", "/mcp", {}).status == 404


def test_who_goes_away_from_a_service_in_the_middle_of_a_wait():
    async def story(service):
        async with at_service(service) as client:
            waiting = asyncio.create_task(call(client, "wait", task="later"))
            await asyncio.sleep(0.1)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            assert (await call(client, "status", task="later"))["state"] == "blocked"

    with served(orchestrator(), mcp=()) as service:
        service.orch.submit_task(Task.wait_for("go", id="later"))
        run(story(service))


class Told(OrchestratorPlace):
    """A place that tells when a wait on it is over: then it says why."""

    def __init__(self, orch):
        super().__init__(orch)
        self.is_over = threading.Event()
        self.explain = self.tell

    def tell(self, task):
        self.is_over.set()
        return ""


def test_a_wait_is_over_once_nobody_waits_for_its_answer():
    """Over HTTP, and long before its time."""
    with orchestrator() as orch:
        orch.submit_task(Task.wait_for("go", id="later"))
        place = Told(orch)
        path = McpPath(make_server(place))
        app = make_app(
            [],
            token=TOKEN,
            hosts=["127.0.0.1"],
            close=int,
            routes=[path.route],
            life=path.life,
        )
        with serve(app, port=0) as server:
            service = Service(orch, server, TOKEN)

            async def story():
                async with at_service(service) as client:
                    wait = call(client, "wait", task="later", seconds=60)
                    waiting = asyncio.create_task(wait)
                    await asyncio.sleep(0.2)
                    assert not place.is_over.is_set()
                    waiting.cancel()
                    await asyncio.gather(waiting, return_exceptions=True)
                    assert await asyncio.to_thread(place.is_over.wait, 40)

            run(story())


def test_on_the_wire_are_messages_and_nothing_else(tmp_path):
    """Whatever the file and its tasks print."""
    wire = Wire(app_file(tmp_path), "--allow", "submit")
    tools = {"name": "submit", "arguments": {"tasks": [TASK]}}
    assert wire.ask(1, "tools/call", **tools)["structuredContent"]["ids"] == ["a"]
    wait = {"name": "wait", "arguments": {"task": "a", "seconds": 0}}
    is_over = False
    while not is_over:
        answer = wire.ask(2, "tools/call", **wait)["structuredContent"]
        is_over = answer["ended"]
    assert answer["result"] == 7
    wire.end(kill=False)
    assert wire.process.returncode == 0


def test_a_body_that_is_too_long_is_refused():
    with served(orchestrator(), mcp=()) as service:
        head = {"Accept": "application/json, text/event-stream"}
        answer = service.ask("POST", "/mcp", {"x": "y" * 2_000_000}, **head)
        assert answer.status == 413
        assert service.get("/livez")


def test_what_may_be_used_is_a_collection_of_names():
    with pytest.raises(InvalidTaskError, match="a collection of names"):
        create_app(TaskOrchestrator(), token=TOKEN, mcp="submit")
    with pytest.raises(InvalidTaskError, match="did you mean 'submit'"):
        create_app(TaskOrchestrator(), token=TOKEN, mcp=["submti"])


@pytest.mark.slow
def test_a_service_is_used_from_elsewhere():
    """By the command, with the token of the environment."""

    async def story(service):
        words = (service.server.url, "--allow", "submit,rerun,hold,release,cancel")
        server = started_by(*words, TASKORCH_TOKEN=service.token)
        async with Client(server) as client:
            names = {tool.name for tool in (await client.list_tools()).tools}
            assert "plan" not in names
            for _ in range(2):
                answer = await call(client, "submit", tasks=[TASK], key="once")
                assert answer["ids"] == ["a"]
            assert (await call(client, "wait", task="a", seconds=30))["result"] == 7
            again = (await call(client, "rerun", task="a"))["task_id"]
            assert (await call(client, "wait", task=again, seconds=30))["ended"]
            broken = {"type": "echo", "id": "b", "payload": {"raise": "no page"}}
            flow = {"workflow": "f", "tasks": {"b": {**broken, "id": "b"}}}
            del flow["tasks"]["b"]["id"]
            run_id = (await call(client, "submit", workflow=flow))["run"]
            await call(client, "wait", task=f"{run_id}/b", seconds=30)
            assert "no page" in (await call(client, "why"))["text"]
            await call(client, "hold", reason="the disk is full")
            await call(client, "submit", tasks=[{"type": "echo", "id": "c"}])
            why = (await call(client, "why", task="c"))["text"]
            assert "the disk is full" in why
            await call(client, "release")
            assert (await call(client, "doctor"))["health"]["ready"]
            assert (await call(client, "schedules"))["schedules"] == []
            assert (await call(client, "questions"))["questions"] == []
            answer = await client.call_tool("cancel", {"task": "gone"})
            assert '"code": "unknown_task"' in answer.content[0].text
            answer = await client.call_tool(
                "submit", {"tasks": [{"type": "echo"}], "dry_run": True}
            )
            assert "does not simulate" in answer.content[0].text

    with served(orchestrator()) as service:
        run(story(service))


@pytest.mark.slow
def test_a_file_is_served_with_tools(tmp_path):
    file = app_file(tmp_path)
    words = ("serve", file, "--port", "0", "--mcp", "--allow", "submit")

    async def story(url):
        class There:
            token = TOKEN

            class server:
                pass

        There.server.url = url
        async with at_service(There) as client:
            await call(client, "submit", tasks=[TASK])
            assert (await call(client, "wait", task="a", seconds=30))["result"] == 7

    with started(*words, TASKORCH_TOKEN=TOKEN) as process:
        try:
            lines = iter(process.stdout.readline, "")
            first = next(line for line in lines if str(file) in line)
            run(story(first.rpartition(" ")[2].strip()))
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--journal", "{journal}", "--mcp"], "--mcp is for an orchestrator"),
        (["--journal", "{journal}", "--allow", "submit"], "say --mcp, too"),
    ],
)
def test_what_serve_cannot_give_tools_for_is_refused(journal, capsys, words, said):
    words = [word.format(journal=journal) for word in words]
    assert cli.main(["serve", *words]) == 2
    assert said in capsys.readouterr().err


# -- people ------------------------------------------------------------------------

ASKING = """
from taskorch import Task

orch.submit_task(Task.question("Ship it?", options=["yes", "no"], id="anybody"))
orch.submit_task(Task.question("Ship it?", options=["yes", "no"], who=["Bea"], id="bea"))
orch.submit_task(Task.question("Ship it?", options=["yes", "no"], id="again"))
"""


def person(choice, seen):
    """Who sits at the client, and fills in forms."""

    async def fill(context, params):
        seen.append(params)
        if choice is None:
            return ElicitResult(action="decline")
        return ElicitResult(action="accept", content={"choice": choice, "note": "so"})

    return fill


def asking_file(folder):
    path = app_file(folder)
    path.write_text(path.read_text() + ASKING)
    return path


def test_a_person_at_the_client_is_asked_and_answers_in_their_name(tmp_path):
    seen = []
    server = started_by(asking_file(tmp_path), "--allow", "answer", "--person", "Ada")

    async def story():
        fill = person("yes", seen)
        async with Client(server, elicitation_callback=fill) as client:
            assert (await call(client, "answer", question="anybody"))["decided"]
            status = await call(client, "status", task="anybody")
            assert "Ada" in str(status)
            answer = await client.call_tool("answer", {"question": "bea"})
            assert "is not for Ada" in answer.content[0].text
            # The model cannot do it in her place.
            answer = await client.call_tool(
                "answer", {"question": "again", "choice": "yes"}
            )
            assert "is for people" in answer.content[0].text

    run(story())
    (form,) = seen
    assert form.message == "Ship it?"
    assert form.requested_schema["properties"]["choice"]["enum"] == ["yes", "no"]


@pytest.mark.slow
def test_who_says_nothing_has_not_answered(tmp_path):
    server = started_by(asking_file(tmp_path), "--allow", "answer", "--person", "Ada")

    async def story():
        async with Client(server, elicitation_callback=person(None, [])) as client:
            answer = await client.call_tool("answer", {"question": "anybody"})
            assert "has not answered" in answer.content[0].text
            assert len((await call(client, "questions"))["questions"]) == 3
        async with Client(server) as client:
            answer = await client.call_tool("answer", {"question": "anybody"})
            assert "is for people" in answer.content[0].text

    run(story())


@pytest.mark.slow
def test_what_travels_through_the_client_is_sealed(tmp_path):
    server = started_by(asking_file(tmp_path), "--allow", "answer", "--person", "Ada")
    said = {"form": ElicitResult(action="accept", content={"choice": "yes"})}

    async def story():
        fill = person("yes", [])
        async with Client(server, elicitation_callback=fill) as client:
            first = await client.session.call_tool(
                "answer", {"question": "again"}, allow_input_required=True
            )
            state = first.request_state
            for question, forged in [
                ("anybody", state),
                ("again", f"{state[:-4]}AAAA"),
            ]:
                with pytest.raises(MCPError, match="requestState"):
                    await client.call_tool(
                        "answer",
                        {"question": question},
                        input_responses=said,
                        request_state=forged,
                    )
            answer = await client.call_tool(
                "answer", {"question": "again"}, input_responses=said
            )
            assert "not what is open now" in answer.content[0].text
            assert len((await call(client, "questions"))["questions"]) == 3

    run(story())


# -- waits that last ---------------------------------------------------------------


@pytest.mark.slow
def test_a_wait_is_a_task_that_outlives_both_sides(tmp_path):
    """The client that asks on, and the server that it asks, are others than at first."""
    file = app_file(tmp_path, journal=str(tmp_path / "runs.db"))
    words = (file, "--allow", "submit")
    later = {"wait_for": "go", "id": "later"}

    async def first():
        async with Client(started_by(*words), extensions=[Tasks()]) as client:
            await call(client, "submit", tasks=[later])
            name = await begun(client, "later")
            state = await asked(client, "get", name)
            assert state.status == "working"
            why = await call(client, "why", task="later")
            assert state.status_message in why["text"]
            return name

    async def second(name):
        async with Client(started_by(*words), extensions=[Tasks()]) as client:
            assert (await asked(client, "get", name)).status == "working"
        with cli_control.at(str(tmp_path / "runs.db")) as orch:
            orch.emit("go", 7)
        async with Client(started_by(*words), extensions=[Tasks()]) as client:
            for _ in range(2):
                state = await asked(client, "get", name)
                assert state.status == "completed"
                assert state.result["structuredContent"]["result"] == 7

    name = run(first())
    eventually(lambda: JournalReader(tmp_path / "runs.db").owner.lives is False)
    run(second(name))


def test_a_wait_over_http_ends_by_its_time_or_when_it_is_called_off():
    async def story(service):
        async with at_service(service, extensions=[Tasks()]) as client:
            short = await begun(client, "later", seconds=0.2)
            long = await begun(client, "later")
            assert short != long
            minute = await begun(client, "later", seconds=60)
            assert len(short.rpartition(".")[2]) >= 32
            state = await ended(client, short)
            assert state.status == "completed"
            assert state.result["structuredContent"]["ended"] is False
            # More than so many milliseconds.
            await asyncio.sleep(0.1)
            assert (await asked(client, "get", minute)).status == "working"
            await asked(client, "update", long)
            await asked(client, "cancel", long)
            assert (await asked(client, "get", long)).status == "cancelled"
            # Our task goes on, and what has ended is answered at once.
            service.orch.emit("go", 7)
            assert (await call(client, "wait", task="later"))["result"] == 7
            answer = await client.call_tool("wait", {"task": "gone"})
            assert '"code": "unknown_task"' in answer.content[0].text

    with served(orchestrator(), mcp=()) as service:
        service.orch.submit_task(Task.wait_for("go", id="later"))
        run(story(service))


def test_the_task_of_a_wait_belongs_to_who_has_begun_it():
    async def begin(service):
        async with at_service(service, extensions=[Tasks()]) as client:
            return await begun(client, "later")

    async def others(service, name):
        forged = [f"{name[:-1]}{'0' if name[-1] != '0' else '1'}", "", "x", "é.é", "."]
        async with at_service(service, extensions=[Tasks()]) as client:
            for verb in ("get", "cancel", "update"):
                for each in [*forged, f"x{name}", name]:
                    with pytest.raises(MCPError, match="no task of this id"):
                        await asked(client, verb, each)

    with served(orchestrator(), mcp=()) as one:
        one.orch.submit_task(Task.wait_for("go", id="later"))
        name = run(begin(one))
    with served(orchestrator(), mcp=()) as other:
        other.orch.submit_task(Task.wait_for("go", id="later"))
        run(others(other, name))


def test_a_client_that_knows_no_tasks_gets_none(journal):
    async def story():
        async with Client(started_by(journal)) as client:
            waited = await call(client, "wait", task="waits", seconds=0.1)
            assert waited["ended"] is False
            with pytest.raises(MCPError, match="has not said that it knows"):
                await asked(client, "get", "x")

    run(story())


def request(number, method, **params):
    """A message as it stands on the wire: each says all that is to be known."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {"extensions": {EXTENSION: {}}},
    }
    return {
        "jsonrpc": "2.0",
        "id": number,
        "method": method,
        "params": {**params, "_meta": meta},
    }


class Wire:
    """A server in a process of its own, and what it is sent and sends."""

    def __init__(self, *words):
        command = [sys.executable, "-W", "ignore", "-m", "taskorch", "mcp", *words]
        self.process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, number, method, **params):
        self.send(number, method, **params)
        answer = json.loads(self.process.stdout.readline())
        assert answer["id"] == number
        return answer["result"]

    def send(self, number, method, **params):
        self.process.stdin.write(json.dumps(request(number, method, **params)) + "\n")
        self.process.stdin.flush()

    def end(self, *, kill):
        """Kill it, or go away as a client that was killed does."""
        if kill:
            self.process.kill()
        self.process.stdin.close()
        self.process.wait(PATIENCE)
        self.process.stdout.close()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kill", [True, False])
def test_however_often_either_side_is_killed_a_wait_comes_to_its_end(tmp_path, kill):
    path = tmp_path / "runs.db"
    file = app_file(tmp_path, journal=str(path))
    later = {"wait_for": "go", "id": "later"}
    name, states = None, []
    for _ in range(4):
        wire = Wire(file, "--allow", "submit")
        values = {"name": "submit", "arguments": {"tasks": [later], "key": "k"}}
        wire.ask(1, "tools/call", **values)
        if name is None:
            call = {"name": "wait", "arguments": {"task": "later"}}
            name = wire.ask(2, "tools/call", **call)["taskId"]
        states.append(wire.ask(3, "tasks/get", taskId=name)["status"])
        wire.send(4, "tasks/get", taskId=name)
        wire.end(kill=kill)
    assert states == ["working"] * 4

    eventually(lambda: JournalReader(path).owner.lives is False)
    with cli_control.at(str(path)) as orch:
        orch.emit("go", 7)
    wire = Wire(file)
    for number in (1, 2):
        state = wire.ask(number, "tasks/get", taskId=name)
        assert state["status"] == "completed"
        assert state["result"]["structuredContent"]["result"] == 7
    wire.end(kill=False)
    assert wire.process.returncode == 0
