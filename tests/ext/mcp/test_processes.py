"""
Servers and clients in processes of their own: what they print, how they end, and kills.

`KILLS=200` kills each side so often in the middle of `wait`; 20 times otherwise.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading

import pytest

pytest.importorskip("mcp")

from mcp import Client
from tests.api.tools import PATIENCE, eventually
from tests.ext.command_line.tools import started
from tests.ext.mcp.tools import (
    APP,
    CAPABILITIES,
    Wire,
    WireElsewhere,
    at_service,
    call,
    message,
    run,
    started_by,
)
from tests.ext.service.tools import orchestrator, served

from taskorch import Task, TaskOrchestrator
from taskorch.errors import JournalUnavailableError
from taskorch.ext.views import JournalReader

SLOW = pytest.mark.slow("a server, or a client, in a process")

TOKEN = "x" * 32
TASK = {"type": "echo", "id": "a", "payload": 7}
KILLS = int(os.environ.get("KILLS", "20"))


def app_file(folder, **options):
    said = ", ".join(f"{name}={value!r}" for name, value in options.items())
    path = folder / "app_for_tools.py"
    path.write_text(APP.format(options=said))
    return path


def lives(path):
    try:
        return path.exists() and JournalReader(path).owner.lives
    except JournalUnavailableError:
        # It is about to begin.
        return False


# -- streams ---------------------------------------------------------------------------


def test_a_journal_by_the_command(tmp_path):
    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path) as orch:
        orch.submit_task(Task.call(int, id="a")).result(PATIENCE)
    wire = WireElsewhere(path)
    assert wire.answer("status", task="a")["state"] == "completed"
    wire.end()
    assert wire.process.returncode == 0


def test_on_the_wire_are_messages_and_nothing_else(tmp_path):
    """Whatever the file and its tasks print; and when the client goes, all ends."""
    path = tmp_path / "runs.db"
    wire = WireElsewhere(app_file(tmp_path, journal=str(path)), "--allow", "submit")
    assert wire.answer("submit", tasks=[TASK])["ids"] == ["a"]
    answer = wire.answer("wait", task="a", seconds=0)
    while not answer["ended"]:
        answer = wire.answer("wait", task="a", seconds=0)
    assert answer["result"] == 7
    wire.end()
    assert wire.process.returncode == 0
    assert JournalReader(path).owner.lives is False


@SLOW
def test_a_message_without_an_end_ends_the_server(tmp_path):
    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path):
        pass
    wire = WireElsewhere(path)
    assert "statistics" in wire.answer("doctor")
    with pytest.raises(BrokenPipeError):
        write_for_ever(wire.outgoing.fileno())
    assert wire.process.wait(PATIENCE) == 0
    wire.outgoing.close()
    wire.incoming.close()


def write_for_ever(descriptor):
    letters = b"x" * (1 << 16)
    while True:
        os.write(descriptor, letters)


@SLOW
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(tmp_path, number):
    path = tmp_path / "runs.db"
    with started("mcp", app_file(tmp_path, journal=str(path))) as process:
        try:
            eventually(lambda: lives(path))
            process.send_signal(number)
            # It may not have come to serve.
            assert process.wait(PATIENCE) in (0, 130)
        finally:
            process.kill()
    # It has stopped, and was not killed: the next one need not look for what was left.
    with sqlite3.connect(path):
        assert JournalReader(path).owner.lives is False


@SLOW
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


# -- a service -------------------------------------------------------------------------


class There:
    """A service of which only the address is known."""

    def __init__(self, url):
        self.server, self.token = self, TOKEN
        self.url = url


@SLOW
def test_a_file_is_served_with_tools(tmp_path):
    file = app_file(tmp_path)
    words = ("serve", file, "--port", "0", "--mcp", "--allow", "submit")

    async def story(url):
        async with at_service(There(url)) as client:
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


@SLOW
def test_a_service_is_used_from_elsewhere_by_the_command():
    """With the token of the environment."""

    async def story(service):
        words = (service.server.url, "--allow", "submit")
        server = started_by(*words, TASKORCH_TOKEN=service.token)
        async with Client(server) as client:
            names = {tool.name for tool in (await client.list_tools()).tools}
            assert "plan" not in names
            await call(client, "submit", tasks=[TASK])
            assert (await call(client, "wait", task="a", seconds=30))["result"] == 7

    with served(orchestrator()) as service:
        run(story(service))


# -- kills -----------------------------------------------------------------------------


#: Loads what a server needs, once, and forks one for each line.
FORKING = """
import os, signal, sys
from taskorch.ext import command_line as cli
import taskorch.ext.mcp._server, taskorch.ext.mcp._stdio

signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for line in sys.stdin:
    if os.fork() == 0:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        streams = [os.open(*each) for each in zip(line.split(), (os.O_RDONLY, os.O_WRONLY))]
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        print("server", os.getpid(), file=sys.stderr, flush=True)
        sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)
        os._exit(cli.main(sys.argv[1:]))
"""


class Forking:
    """Servers in processes of their own, without the second that each takes to load."""

    def __init__(self, folder, *words):
        self.streams = [folder / name for name in ("in", "out")]
        for stream in self.streams:
            os.mkfifo(stream)
        command = [sys.executable, "-W", "ignore", "-c", FORKING, "mcp", *words]
        self.process = subprocess.Popen(
            [*map(str, command)],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        # A server that is left has the other end of it, and ends with its wire.
        self.process.stdin.close()
        self.process.stderr.close()

    def server(self):
        """A wire to a new one, and its number."""
        print(*self.streams, file=self.process.stdin, flush=True)
        wire = Wire(self.streams[0].open("wb"), self.streams[1].open("rb"))
        # What its file prints comes there, too.
        said = iter(self.process.stderr.readline, "")
        return wire, next(int(line[7:]) for line in said if line.startswith("server "))


def kill(wire, number):
    """Kill a server, and wait until it is no more."""
    os.kill(number, signal.SIGKILL)
    wire.incoming.read()
    wire.incoming.close()
    wire.outgoing.close()


@pytest.mark.slow("twenty kills of the server")
@pytest.mark.timeout(3_000)
def test_what_a_killed_server_was_asked_to_wait_for_is_told_by_the_next(tmp_path):
    """
    Each incarnation tells what the one before was killed over, and is killed in its
    turn.
    """
    path = tmp_path / "runs.db"
    words = (app_file(tmp_path, journal=str(path)), "--allow", "submit")
    delivered, name = [], None
    with Forking(tmp_path, *words) as forking:
        for number in range(KILLS + 1):
            wire, process = forking.server()
            if name is not None:
                delivered.append(result_of(wire, name))
            # It is not done before the kill: the next incarnation does it.
            work = {"type": "echo", "id": f"t{number}", "payload": number}
            wire.answer("submit", tasks=[{**work, "not_before": 0.3}], key=f"k{number}")
            name = wire.call("wait", task=f"t{number}")["taskId"]
            wait = {"name": "wait", "arguments": {"task": f"t{number}"}}
            wire.tell("tools/call", has={}, **wait)
            kill(wire, process)
    assert delivered == [*range(KILLS)]
    reader = JournalReader(path)
    for number in range(KILLS):
        status = reader.get_task_status(f"t{number}")
        assert (status.result, status.attempts) == (number, 1)


def result_of(wire, name):
    """What a wait comes to, asked until it does; a second time it is the same."""
    answer = wire.result("tasks/get", taskId=name)
    while answer["status"] == "working":
        answer = wire.result("tasks/get", taskId=name)
    assert answer["status"] == "completed"
    assert wire.result("tasks/get", taskId=name)["result"] == answer["result"]
    return answer["result"]["structuredContent"]["result"]


#: A client that begins a wait, tells what it was told, and waits on until it is killed.
DYING = """
import http.client, json, sys

def ask(body, headers):
    connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
    connection.request("POST", "/mcp", json.dumps(body), headers)
    return connection

print(ask(*json.loads(sys.argv[2])).getresponse().read().decode(), flush=True)
connection = ask(*json.loads(sys.argv[3]))
print("it waits", flush=True)
connection.getresponse().read()
print("it was told", flush=True)
"""


def request(service, number, method, *, has=CAPABILITIES, **params):
    """A body, and its headers."""
    headers = {
        "Authorization": f"Bearer {service.token}",
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": "2026-07-28",
        "Mcp-Method": method,
        "Mcp-Name": params.get("name") or params["taskId"],
    }
    return message(number, method, has, params), headers


def result_in(text):
    """The result in a stream of one answer."""
    lines = [line[5:] for line in text.splitlines() if line.startswith("data:")]
    return json.loads(lines[-1] if lines else text)["result"]


def post(service, *request):
    connection = http.client.HTTPConnection(
        "127.0.0.1", service.server.port, timeout=PATIENCE
    )
    try:
        connection.request("POST", "/mcp", json.dumps(request[0]), request[1])
        return result_in(connection.getresponse().read().decode())
    finally:
        connection.close()


@pytest.mark.slow("twenty kills of the client")
@pytest.mark.timeout(3_000)
def test_what_a_killed_client_has_waited_for_is_told_to_the_next():
    """Over HTTP; and a service holds nothing for clients that were killed."""
    chance, delivered = random.Random(7), []
    with served(orchestrator(), mcp=()) as service:
        for number in range(KILLS):
            service.orch.submit_task(Task.wait_for(f"go{number}", id=f"t{number}"))
            wait = {"name": "wait", "arguments": {"task": f"t{number}"}}
            words = [
                str(service.server.port),
                json.dumps(request(service, 1, "tools/call", **wait)),
                json.dumps(request(service, 2, "tools/call", has={}, **wait)),
            ]
            client = subprocess.Popen(
                [sys.executable, "-S", "-c", DYING, *words], stdout=subprocess.PIPE
            )
            lines = iter(client.stdout.readline, b"")
            first = ""
            for line in lines:
                if line == b"it waits\n":
                    break
                first += line.decode()
            name = result_in(first)["taskId"]
            threading.Event().wait(chance.random() * 0.05)
            client.kill()
            client.wait(PATIENCE)
            assert client.stdout.read() == b""
            client.stdout.close()
            if number % 2:
                service.orch.emit(f"go{number}", number)
            states = post(service, *request(service, 3, "tasks/get", taskId=name))
            if not number % 2:
                assert states["status"] == "working"
                service.orch.emit(f"go{number}", number)
            service.orch.handle(f"t{number}").result(PATIENCE)
            for _ in range(2):
                state = post(service, *request(service, 4, "tasks/get", taskId=name))
                assert state["status"] == "completed"
            delivered.append(state["result"]["structuredContent"]["result"])
        assert delivered == [*range(KILLS)]
