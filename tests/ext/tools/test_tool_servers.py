"""Workers that are servers of tools, which do as they should, or do not."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from random import Random

import pytest
from tests.api.tools import PATIENCE, eventually
from tests.ext.service.tools import orchestrator, served

pytest.importorskip("mcp")

from taskorch import InvalidTaskError, RetryPolicy, Task, TaskOrchestrator
from taskorch.errors import (
    TaskCancelledError,
    TaskTimeoutError,
    ToolCallError,
    ToolError,
    UnknownCapabilityError,
)
from taskorch.events import TaskProgressed
from taskorch.model import Cache

SERVER = str(Path(__file__).parents[2] / "house/tool_server.py")


class Shop:
    """An orchestrator with the worker `shop`, and the folder of its server."""

    def __init__(self, folder, *words, agent=None, **options):
        self.folder = folder
        self.orch = TaskOrchestrator(**options)
        self.capabilities = self.orch.agents.mcp(
            "shop", command=[sys.executable, SERVER, str(folder), *words], **agent or {}
        )

    def __enter__(self):
        self.orch.__enter__()
        return self

    def __exit__(self, *error):
        return self.orch.__exit__(*error)

    def task(self, name, _id=None, *, options=None, **arguments):
        requires = [f"shop.{name}"]
        return Task(name, arguments, requires=requires, id=_id, **options or {})

    def submit(self, name, _id=None, *, options=None, **arguments):
        return self.orch.submit_task(self.task(name, _id, options=options, **arguments))

    def call(self, name, **arguments):
        return self.submit(name, **arguments).result(PATIENCE)

    def log(self):
        path = self.folder / "log"
        return path.read_text("utf-8").splitlines() if path.exists() else []

    def count(self, line):
        return self.log().count(line)

    def wait_for(self, line):
        eventually(lambda: line in self.log())


def test_a_coroutine_waits_for_a_server_without_holding_up_its_loop(tmp_path):
    async def main():
        async with TaskOrchestrator() as orch:
            capabilities = await orch.aio.agents.mcp(
                "shop", command=[sys.executable, SERVER, str(tmp_path)]
            )
            assert "shop.read" in capabilities
            task = Task("read", {"text": "x"}, requires=["shop.read"])
            return await (await orch.aio.submit_task(task))

    assert asyncio.run(main()) == "read did it"


@pytest.fixture
def shop(tmp_path):
    with Shop(tmp_path) as shop:
        yield shop


def is_held(orch, task_id):
    return orch.get_task_status(task_id).state == "blocked"


# -- what it is for --------------------------------------------------------------------


def test_tools_are_capabilities_and_calls_are_tasks(shop):
    assert "shop.add" in shop.capabilities
    assert "shop.note" in shop.capabilities
    assert shop.call("add", a=2, b=3) == {"sum": 5}
    assert shop.call("note", text="hello") == "note did it"
    assert shop.count("note hello") == 1
    names = shop.orch.agents.get("shop").capabilities
    assert {*names} == {*shop.capabilities}
    by_type = shop.orch.submit_task(Task("shop.note", {"text": "by its type"}))
    assert by_type.result(PATIENCE) == "note did it"


def test_a_server_of_the_version_before_does_as_well(tmp_path):
    with Shop(tmp_path, "--old") as shop:
        assert shop.call("add", a=2, b=3) == {"sum": 5}
        with pytest.raises(ToolError, match="no such issue"):
            shop.call("fail")
        shop.call("change", new=["grown"], gone=[])
        names = shop.orch.agents
        eventually(lambda: "shop.grown" in names.get("shop").capabilities)


def test_progress_of_a_tool_is_that_of_its_task(shop):
    seen = []
    shop.orch.signals.task_progressed.connect(seen.append, weak=False)
    handle = shop.submit("note", "slow", how="progress")
    eventually(lambda: shop.orch.get_task_status("slow").progress is not None)
    (shop.folder / "go").touch()
    handle.result(PATIENCE)
    eventually(lambda: seen)
    assert isinstance(seen[0], TaskProgressed)
    assert seen[0].value == {"progress": 1.0, "total": 3.0, "message": "one"}


def test_a_result_is_remembered_if_that_is_asked_for(shop):
    options = {"cache": Cache(version="1")}
    for _ in range(2):
        handle = shop.submit("read", options=options, text="once")
        assert handle.result(PATIENCE) == "read did it"
    assert shop.count("read once") == 1


def test_results_of_one_server_are_not_those_of_another(shop):
    again = [sys.executable, SERVER, str(shop.folder), "--again"]
    shop.orch.agents.mcp("mall", command=again)
    for name in ("shop", "mall", "mall"):
        cache = Cache(version="1")
        task = Task("r", {"text": "x"}, requires=[f"{name}.read"], cache=cache)
        shop.orch.submit_task(task).result(PATIENCE)
    assert shop.count("read x") == 2


def test_a_server_has_of_our_environment_what_every_shell_has(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET_OF_OURS", "1")
    with Shop(tmp_path, agent={"env": {"TOKEN": "1"}}) as shop:
        names = shop.call("note", how="env").split()
    assert {"PATH", "TOKEN"} <= {*names}
    assert "SECRET_OF_OURS" not in names


def test_a_task_that_is_cancelled_tells_the_server(shop):
    handle = shop.submit("note", how="hang")
    shop.wait_for("note hang")
    handle.cancel()
    with pytest.raises(TaskCancelledError):
        handle.result(PATIENCE)
    shop.wait_for("told notifications/cancelled")
    assert shop.call("add", a=1, b=1) == {"sum": 2}


# -- what may be called again, and what may not ----------------------------------------


def test_what_may_be_repeated_is_when_its_server_dies(shop):
    assert shop.call("read", how="die once") == "read did it"
    assert shop.count("read die once") == 2
    assert shop.count("started") == 2


def test_what_may_not_is_left_to_a_person_who_may_let_it(shop):
    handle = shop.submit("note", "n", how="die once")
    eventually(lambda: is_held(shop.orch, "n"))
    assert shop.count("note die once") == 1
    text = str(shop.orch.explain("n"))
    assert "shop.note: its server did not answer" in text
    assert "out of ink, and it is not safe to run twice" in text
    shop.orch.decide("n", "retry")
    assert handle.result(PATIENCE) == "note did it"
    assert shop.count("note die once") == 2


def test_its_owner_may_say_what_may_be_repeated(tmp_path):
    with Shop(tmp_path, agent={"repeatable": "no*"}) as shop:
        assert shop.call("note", how="die once") == "note did it"
        assert shop.count("note die once") == 2


def test_what_a_task_says_itself_holds_for_a_tool_that_may_be_repeated(shop):
    options = {"idempotent": False, "retry": RetryPolicy(max_attempts=2, base=0)}
    shop.submit("read", "r", options=options, how="die once")
    eventually(lambda: is_held(shop.orch, "r"))
    assert shop.count("read die once") == 1
    # After a task of the server's own, too, during which it might be made again.
    (shop.folder / "go").touch()
    how = {"end": "failed", "how": "then die"}
    shop.submit("steady", "s", options=options, **how)
    eventually(lambda: is_held(shop.orch, "s"))
    assert shop.count("created t1") == 1
    assert shop.count("steady then die") == 2


def test_what_is_out_of_time_is_not_called_again_by_itself(shop):
    retry = RetryPolicy(max_attempts=3, base=0)
    options = {"timeout": 0.3, "retry": retry}
    shop.submit("note", "n", options=options, how="hang")
    eventually(lambda: is_held(shop.orch, "n"))
    assert shop.count("note hang") == 1
    assert "out of time" in str(shop.orch.explain("n"))
    handle = shop.submit("read", "r", options=options, how="hang")
    with pytest.raises(TaskTimeoutError):
        handle.result(PATIENCE)
    assert shop.count("read hang") == 3


def test_a_tool_that_says_that_it_failed_may_be_tried_again(shop):
    options = {"retry": RetryPolicy(max_attempts=2, base=0)}
    handle = shop.submit("fail", options=options)
    with pytest.raises(ToolError, match=r"shop\.fail: no such issue") as caught:
        handle.result(PATIENCE)
    assert caught.value.result == "no such issue"
    assert shop.count("fail ") == 2


# -- servers that misbehave ------------------------------------------------------------


def test_arguments_are_looked_at_before_the_call(shop):
    options = {"retry": RetryPolicy(max_attempts=3, base=0)}
    for name, arguments, what in (
        ("add", {"a": "x", "b": 1}, r"\['a'\]: 'x' is not of type 'integer'"),
        ("add", {"a": 1}, "'b' is a required property"),
        ("none", {}, "the schema that its server gives is none"),
        ("far", {}, "the schema that its server gives is none"),
    ):
        handle = shop.submit(name, options=options, **arguments)
        with pytest.raises(ToolCallError, match=what):
            handle.result(PATIENCE)
        assert shop.orch.get_task_status(handle.task_id).attempts == 1
    handle = shop.orch.submit_task(Task("t", [1], requires=["shop.add"]))
    with pytest.raises(ToolCallError, match="called with a mapping"):
        handle.result(PATIENCE)
    handle = shop.orch.submit_task(Task("t", requires=["shop.add", "shop.note"]))
    with pytest.raises(ToolCallError, match="2 tools"):
        handle.result(PATIENCE)
    assert [line for line in shop.log() if line.startswith("add")] == []


def test_an_answer_that_its_schema_does_not_allow_is_said_and_not_lost(shop):
    with pytest.raises(ToolCallError, match="'much' is not of type 'integer'") as lie:
        shop.call("lie")
    assert lie.value.result == {"sum": "much"}
    assert "much" in str(lie.value)
    with pytest.raises(ToolCallError, match="no structured content"):
        shop.call("blank")
    with pytest.raises(ToolCallError, match="no object"):
        shop.call("note", how="wrong")
    with pytest.raises(ToolCallError, match="not like that"):
        shop.call("note", how="refuse")
    with pytest.raises(ToolCallError, match="asks for input"):
        shop.call("ask")


def test_what_it_prints_and_says_twice_does_no_harm(shop, caplog):
    assert shop.call("note", how="print") == "note did it"
    assert shop.call("note", how="twice") == "note did it"
    assert shop.call("add", a=2, b=2) == {"sum": 4}
    assert "a word of no protocol" in caplog.text


def test_a_list_of_tools_that_changes_is_followed(shop):
    running = shop.submit("note", "running", how="progress")
    shop.wait_for("note progress")
    with pytest.raises(UnknownCapabilityError):
        shop.submit("grown")
    # The server reads one call after the other.
    change = shop.submit("change", new=["grown"], gone=["read"])
    (shop.folder / "go").touch()
    change.result(PATIENCE)
    workers = shop.orch.agents
    eventually(lambda: "shop.grown" in workers.get("shop").capabilities)
    assert shop.call("grown") == "grown did it"
    assert "shop.read" not in workers.get("shop").capabilities
    with pytest.raises(UnknownCapabilityError):
        shop.submit("read")
    assert running.result(PATIENCE) == "note did it"
    assert shop.orch.get_task_status("running").attempts == 1


def test_a_tool_may_become_another_by_its_name(shop):
    tool = {"name": "read", "inputSchema": {"type": "object", "required": ["page"]}}
    shop.call("change", new=["grown"], gone=[], other={"read": tool})
    names = shop.orch.agents
    eventually(lambda: "shop.grown" in names.get("shop").capabilities)
    with pytest.raises(ToolCallError, match="'page' is a required property"):
        shop.call("read")
    tool["inputSchema"] = {"type": "object"}
    shop.call("change", new=[], gone=[], other={"read": tool})

    def is_as_before():
        try:
            return shop.call("read") == "read did it"
        except ToolCallError:
            return False

    eventually(is_as_before)


def test_a_task_that_waits_for_a_tool_that_went_says_so(tmp_path):
    with Shop(tmp_path, unknown_capability="wait") as shop:
        shop.call("change", new=[], gone=["read"])
        names = shop.orch.agents
        eventually(lambda: "shop.read" not in names.get("shop").capabilities)
        handle = shop.submit("read", "r")
        eventually(lambda: "shop.read" in str(shop.orch.explain("r")))
        shop.call("change", new=["read"], gone=[])
        assert handle.result(PATIENCE) == "read did it"


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("import sys; sys.exit('no licence')", "no licence"),
        ("print('hello', flush=True); input(); input()", "no tools in .* s.*hello"),
    ],
)
def test_a_server_that_is_none_is_said(tmp_path, code, what):
    """On a busy machine it may say nothing within the first times."""
    orch = TaskOrchestrator()
    command = [sys.executable, "-c", code]
    for patience in (0.001, 0.5, 4, PATIENCE):
        with pytest.raises(ToolError) as refused:
            orch.agents.mcp("shop", command=command, connect_timeout=patience)
        if re.search(what, str(refused.value)):
            break
    assert re.search(what, str(refused.value))
    with orch:
        assert "shop" not in [each.id for each in orch.agents.list()]


def test_a_list_of_tools_that_is_none_is_said(tmp_path):
    with pytest.raises(ToolError, match="inputSchema"):
        Shop(tmp_path, "--worse")


def test_a_list_of_tools_without_an_end_is_said(tmp_path):
    with pytest.raises(ToolError, match="cursor 'same' comes again"):
        Shop(tmp_path, "--endless")


@pytest.mark.parametrize("how", ["big first", "big last"])
def test_an_answer_that_is_too_long_fails_its_call_alone(shop, how):
    """Another one, which may not be called twice, is answered all the same."""
    held = shop.submit("note", "held", how="hold")
    shop.wait_for("note hold")
    with pytest.raises(ToolCallError, match="a line of 17 MiB; it may have 16 MiB"):
        shop.call("read", how=how)
    assert shop.call("read", how="release") == "read did it"
    assert held.result(PATIENCE) == "was held"
    assert (shop.count("started"), shop.count(f"read {how}")) == (1, 1)


def test_an_answer_that_is_too_long_and_to_nobody_is_waited_for_by_nobody(shop):
    call = shop.submit("note", "big", how="big nobody")
    eventually(lambda: is_held(shop.orch, "big"))
    assert "a line of 17 MiB" in str(shop.orch.explain("big"))
    shop.orch.decide("big", "fail", reason="too long")
    assert call.exception(PATIENCE) is not None
    assert shop.call("read", text="again") == "read did it"


def test_what_cannot_be_is_refused(shop):
    mcp = shop.orch.agents.mcp
    with pytest.raises(InvalidTaskError, match="a command or a URL"):
        mcp("x")
    with pytest.raises(InvalidTaskError, match="list of arguments"):
        mcp("x", command="server --now")
    with pytest.raises(InvalidTaskError, match="already"):
        mcp("shop", command=["true"])
    with pytest.raises(InvalidTaskError, match="headers with a URL"):
        mcp("x", command=["true"], headers={"a": "b"})
    with pytest.raises(ToolError, match="cannot be started"):
        mcp("x", command=["/no/such/server"])
    with pytest.raises(ToolError, match="x"):
        mcp("x", url="http://127.0.0.1:1/mcp")


def test_a_stop_of_what_was_never_started_ends_its_servers(tmp_path):
    shop = Shop(tmp_path, journal=tmp_path / "runs.db")
    shop.orch.stop()
    assert processes(tmp_path) == []


def test_a_stop_ends_a_server_that_hears_nothing(tmp_path):
    shop = Shop(tmp_path)
    shop.orch.start()
    handle = shop.submit("note", how="deaf")
    shop.wait_for("note deaf")
    shop.orch.stop(drain=False, timeout=5)
    assert not handle.done() or handle.exception() is not None
    assert processes(tmp_path) == []


# -- tasks of the server's own ---------------------------------------------------------


def test_a_tool_with_a_task_of_its_own_is_waited_for(shop):
    handle = shop.submit("long", "l")
    shop.wait_for("asked t1")
    eventually(lambda: shop.orch.get_task_status("l").progress is not None)
    assert shop.orch.get_task_status("l").progress == {"message": "half of it"}
    (shop.folder / "go").touch()
    assert handle.result(PATIENCE) == "long did it"
    assert shop.count("created t1") == 1


def test_a_server_that_is_killed_meanwhile_is_asked_again(shop):
    handle = shop.submit("long", kill="server")
    eventually(lambda: shop.count("started") == 2)
    (shop.folder / "go").touch()
    assert handle.result(PATIENCE) == "long did it"
    assert shop.count("created t1") == 1
    assert shop.count("created t2") == 0


def test_an_end_of_its_time_does_not_call_it_again(shop):
    options = {"timeout": 0.5, "retry": RetryPolicy(max_attempts=20, base=0)}
    handle = shop.submit("long", "l", options=options)
    eventually(lambda: shop.orch.get_task_status("l").attempts >= 2)
    (shop.folder / "go").touch()
    assert handle.result(PATIENCE) == "long did it"
    assert shop.count("created t1") == 1
    assert shop.count("created t2") == 0


def test_a_task_that_is_cancelled_cancels_that_of_the_server(shop):
    handle = shop.submit("long")
    shop.wait_for("asked t1")
    handle.cancel()
    with pytest.raises(TaskCancelledError):
        handle.result(PATIENCE)
    shop.wait_for("cancel t1")


def test_one_that_fails_is_called_anew_if_it_is_tried_again(shop):
    (shop.folder / "go").touch()
    options = {"retry": RetryPolicy(max_attempts=2, base=0)}
    handle = shop.submit("long", options=options, end="failed")
    with pytest.raises(ToolError, match="it broke"):
        handle.result(PATIENCE)
    assert shop.count("created t2") == 1


def test_one_of_which_the_server_knows_nothing_more_is_left_to_a_person(shop):
    shop.submit("long", "l")
    shop.wait_for("asked t1")
    (shop.folder / "t1.json").unlink()
    eventually(lambda: is_held(shop.orch, "l"))
    assert "does not know" in str(shop.orch.explain("l"))
    (shop.folder / "go").touch()
    shop.orch.decide("l", "retry")
    assert shop.orch.handle("l").result(PATIENCE) == "long did it"
    assert shop.count("created t1") == 2


def test_over_http_it_is_the_same_and_our_own_waits_are_such_tasks():
    with served(orchestrator(), mcp=()) as service, TaskOrchestrator() as orch:
        service.orch.submit_task(Task.wait_for("go", id="later"))
        url = f"http://127.0.0.1:{service.server.port}/mcp"
        with pytest.raises(ToolError):
            orch.agents.mcp("other", url=url)
        headers = {"Authorization": f"Bearer {service.token}"}
        orch.agents.mcp("other", url=url, headers=headers)

        def call(name, **arguments):
            task = Task(name, arguments, requires=[f"other.{name}"])
            return orch.submit_task(task)

        assert call("status", task="later").result(PATIENCE)["state"] == "blocked"
        with pytest.raises(ToolError, match="nobody"):
            call("status", task="nobody").result(PATIENCE)
        waits = call("wait", task="later", seconds=PATIENCE)
        eventually(lambda: waits.status.progress is not None)
        service.orch.emit("go", 7)
        assert waits.result(PATIENCE)["result"] == 7


def test_a_stop_leaves_a_call_that_may_not_be_repeated_to_a_person(tmp_path):
    journal = tmp_path / "runs.db"
    with Shop(tmp_path, journal=journal) as shop:
        shop.submit("note", "n", how="hang")
        shop.wait_for("note hang")
        shop.orch.stop(drain=False)
    seen = []
    orch = TaskOrchestrator(journal=journal)

    @orch.agent("own", capabilities={"shop.note"})
    def note(task, _context):
        seen.append(task.idempotent)
        return "by hand"

    with orch:
        assert is_held(orch, "n")
        orch.decide("n", "retry")
        assert orch.handle("n").result(PATIENCE) == "by hand"
    assert seen == [False]


# -- kills -----------------------------------------------------------------------------

INCARNATION = """
import sys
import time
from pathlib import Path

sys.path[:0] = {path!r}
from taskorch import Task, TaskOrchestrator

orch = TaskOrchestrator(journal={journal!r})
orch.agents.mcp("shop", command={command!r})
with orch:
    task = Task("call", {arguments!r}, requires=["shop.{name}"], id="t")
    handle = orch.submit_task(task)
    while {again!r} and not (Path({folder!r}) / "log").read_text().count("{name} "):
        time.sleep(0.01)
    orch.submit_task(task)
    (Path({folder!r}) / "again").touch()
    print(handle.result())
"""


def incarnation(folder, name, **arguments):
    """A life of an orchestrator that its server kills."""
    code = INCARNATION.format(
        path=sys.path,
        journal=str(folder / "runs.db"),
        command=[sys.executable, SERVER, str(folder)],
        arguments=arguments,
        name=name,
        folder=str(folder),
        again=arguments.get("how") == "kill later",
    )
    process = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        timeout=2 * PATIENCE,
        check=False,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    assert process.returncode == -9
    # The guardian ends the server.
    eventually(lambda: processes(folder) == [])


def processes(folder):
    """Processes of servers of this folder."""
    listed = subprocess.run(
        ["pgrep", "-f", f"tool_server.py {folder}"],
        capture_output=True,
        text=True,
        check=False,
    )
    return listed.stdout.split()


def test_after_a_kill_the_same_task_of_the_server_is_waited_for(tmp_path):
    incarnation(tmp_path, "long", kill="after")
    with Shop(tmp_path, journal=tmp_path / "runs.db") as shop:
        eventually(lambda: shop.count("asked t1") >= 2)
        (tmp_path / "go").touch()
        assert shop.orch.handle("t").result(PATIENCE) == "long did it"
        assert shop.count("created t1") == 1
        assert shop.count("created t2") == 0


@pytest.mark.slow("a process that is killed")
@pytest.mark.parametrize(
    ("name", "arguments", "line"),
    [
        ("note", {"how": "kill"}, "note kill"),
        ("note", {"how": "kill later"}, "note kill later"),
        ("long", {"kill": "before"}, "long "),
    ],
)
def test_after_a_kill_in_a_call_a_person_decides(tmp_path, name, arguments, line):
    incarnation(tmp_path, name, **arguments)
    with Shop(tmp_path, journal=tmp_path / "runs.db") as shop:
        eventually(lambda: is_held(shop.orch, "t"))
        time.sleep(0.2)
        assert shop.count(line) == 1
        shop.orch.decide("t", "complete", result="it is there")
        assert shop.orch.handle("t").result(PATIENCE) == "it is there"


@pytest.mark.slow("a process that is killed")
@pytest.mark.parametrize(
    ("name", "arguments", "line"),
    [("read", {"how": "kill"}, "read kill"), ("steady", {"kill": "before"}, "steady ")],
)
def test_after_a_kill_what_may_be_repeated_is(tmp_path, name, arguments, line):
    incarnation(tmp_path, name, **arguments)
    (tmp_path / "go").touch()
    with Shop(tmp_path, journal=tmp_path / "runs.db") as shop:
        assert shop.orch.handle("t").result(PATIENCE).endswith("did it")
        assert shop.count(line) == 2


MANY = """
import sys
sys.path[:0] = {path!r}
from taskorch import Task, TaskOrchestrator

orch = TaskOrchestrator(journal={journal!r}, stop_timeout=1)
orch.agents.mcp("shop", command={command!r})
with orch:
    for number in range({count}):
        for name in ("note", "long", "read"):
            arguments = dict(text=name + str(number), how="slow")
            task = Task(name, arguments, requires=["shop." + name], id=name + str(number))
            orch.submit_task(task)
    orch.wait()
"""


@pytest.mark.slow("eight kills")
def test_however_often_it_is_killed_nothing_is_called_twice_that_may_not_be(tmp_path):
    count, random = 30, Random(1)
    (tmp_path / "go").touch()
    log = tmp_path / "log"
    log.touch()
    code = MANY.format(
        path=sys.path,
        journal=str(tmp_path / "runs.db"),
        command=[sys.executable, SERVER, str(tmp_path)],
        count=count,
    )
    for _ in range(8):
        most = log.read_text("utf-8").count("\n") + random.randrange(2, 25)
        process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", code])
        try:
            while process.poll() is None and log.read_text("utf-8").count("\n") < most:
                time.sleep(0.01)
        finally:
            process.kill()
            process.wait(PATIENCE)
        eventually(lambda: processes(tmp_path) == [])
    with Shop(tmp_path, journal=tmp_path / "runs.db") as shop:
        names = [
            f"{name}{n}" for name in ("note", "long", "read") for n in range(count)
        ]
        for task_id in names:
            if task_id not in [status.task_id for status in shop.orch.tasks()]:
                name = task_id.rstrip("0123456789")
                shop.submit(name, task_id, text=task_id, how="slow")

        def is_over():
            for status in shop.orch.tasks("blocked"):
                assert not status.task_id.startswith("read")
                shop.orch.decide(status.task_id, "complete", result="it is there")
            return all(shop.orch.get_task_status(name).is_terminal for name in names)

        eventually(is_over)
        states = {shop.orch.get_task_status(name).state.value for name in names}
    assert states == {"completed"}
    for name in names:
        kind = name.rstrip("0123456789")
        called = shop.count(f"{kind} {name}")
        assert called >= 1 if kind == "read" else called <= 1, name
    assert len(list(tmp_path.glob("t*.json"))) <= count
