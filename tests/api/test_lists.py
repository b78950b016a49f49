"""Lists find their tasks by an index, or by events: no status is made in vain."""

from __future__ import annotations

import json
from contextlib import ExitStack
from datetime import timedelta
from urllib.parse import urlencode

import attrs
import pytest
from tests.ext.command_line.tools import taskorch
from tests.ext.service.tools import Service

from taskorch import SqliteJournal, Task, TaskOrchestrator
from taskorch.ext.mcp import TOOLS, OrchestratorPlace
from taskorch.ext.mcp._calls import ToolUser
from taskorch.ext.service import create_app, recorded_app, serve
from taskorch.ext.views import JournalReader
from taskorch.model import TaskFilter, TaskStatus

FIND = next(tool for tool in TOOLS if tool.name == "find")
PATIENCE = 60.0
IN_WORDS = ("state", "type", "id", "agent", "owner")
MANY = 90
LIMIT = 4
#: Of each field, what few tasks pass.
ASKED = {
    "state": "failed",
    "type": "rare",
    "id": "b/3*",
    "agent": "ben",
    "owner": "acme",
    "metadata": {"rare": True},
    "since": timedelta(hours=1),
    "older_than": timedelta(0),
    "mended": False,
}
LISTS = [{}, *({name: value} for name, value in ASKED.items())]
LISTS += [
    {"state": state} for state in ("completed", "cancelled", "running", "blocked")
]
LISTS += [{"state": "failed", name: value} for name, value in ASKED.items()]
LISTS += [
    {"state": "completed", "id": "*/30"},
    {"id": "b/30"},
    {"state": "failed", "mended": True},
]


def make(path, keep):
    orch = TaskOrchestrator(journal=path, keep_finished=keep)

    @orch.agent("ann", capabilities={"usual"})
    def ann(task, context):
        if task.payload % 9 == 4 and context.task_id != "a/4~2":
            raise ValueError(f"row {task.payload} has no price")

    @orch.agent("ben", capabilities={"rare"})
    def ben(task, context):
        if task.payload % 2:
            raise ConnectionError(f"host {task.payload} does not answer")

    return orch


def task(n):
    is_rare = n % 30 in (7, 8)
    return Task(
        "rare" if is_rare else "usual",
        n,
        id=f"{'ab'[n % 3 == 0]}/{n}",
        metadata={"rare": is_rare},
        owner="acme" if is_rare else None,
    )


@pytest.fixture(scope="module", params=[1_000, 7], ids=["memory", "left memory"])
def shop(request, tmp_path_factory):
    """An orchestrator, its journal, and services that answer from each."""
    path = tmp_path_factory.mktemp("lists") / "runs.db"
    with make(path, request.param) as orch, ExitStack() as stack:
        orch.submit_tasks([task(n) for n in range(MANY)])
        orch.wait(PATIENCE)
        orch.rerun_task("a/4")
        orch.submit_task(Task("usual", 4, id="c/4"))
        orch.submit_task(Task("usual", 5, id="c/5", after=["c/4"]))
        orch.wait(PATIENCE)
        reader = JournalReader(path)
        apps = create_app(orch, token=None), recorded_app(reader, token=None)
        served = [stack.enter_context(serve(app, port=0)) for app in apps]
        services = [Service(None, server, None) for server in served]
        yield orch, path, services, list(orch.tasks()), OrchestratorPlace(orch)


@pytest.fixture
def made(monkeypatch):
    """How many statuses were made."""
    count = []
    real = TaskStatus.__init__

    def counting(self, *args, **kwargs):
        count.append(None)
        real(self, *args, **kwargs)

    monkeypatch.setattr(TaskStatus, "__init__", counting)
    return count


def names(statuses):
    return [status.run_id for status in statuses]


def test_each_field_has_a_list_here():
    assert ASKED.keys() == TaskFilter.FIELDS.keys()


@pytest.fixture(params=LISTS, ids=str)
def asked(request, shop):
    """A filter, and the tasks that pass it, looked at one by one."""
    return request.param, [s for s in shop[3] if passes(s, request.param)]


def test_a_page_of_a_service_makes_no_more_statuses_than_rows(shop, made, asked):
    """Of an orchestrator and of a journal; the pages are the whole, in its order."""
    which, wanted = asked
    limit = max(LIMIT, len(wanted) // 5)
    for number, service in enumerate(shop[2], LISTS.index(which)):
        # Each filter is asked for the first and for the newest, in turn.
        newest = number % 2 == 1
        query = TaskFilter(**which).to_query() | {"limit": limit}
        query |= {"newest": "true"} if newest else {}
        found, cursor, most = [], {}, 0
        while cursor is not None:
            made.clear()
            address = f"/api/v1/tasks?{urlencode(query | cursor)}"
            page = service.send("GET", address).said
            # One more tells whether there is a next page.
            most = max(most, len(made) - len(page["tasks"]))
            found += page["tasks"]
            cursor = page["next"] and {"cursor": page["next"]}
        assert most <= 1
        ids = [status["run_id"] for status in found]
        assert ids == [status.run_id for status in wanted][:: -1 if newest else 1]


def test_a_command_makes_no_more_statuses_than_rows(shop, made, asked, capsys):
    """One more tells whether there are more."""
    which, wanted = asked
    words = [f"--{name}={value}" for name, value in which.items() if name in IN_WORDS]
    if "mended" in which:
        words.append("--mended" if which["mended"] else "--no-mended")
    if len(words) < len(which):
        pytest.skip("the command has another way to write it")
    made.clear()
    status, out, _ = taskorch(
        capsys, "inspect", shop[1], "--tasks", f"--limit={LIMIT}", "--json", *words
    )
    found = [json.loads(line)["run_id"] for line in out.splitlines()]
    assert (status, found) == (0, [each.run_id for each in wanted][:LIMIT])
    assert len(made) <= len(found) + 1


def test_a_tool_makes_no_more_statuses_than_rows(shop, made, asked):
    which, wanted = asked
    made.clear()
    found = FIND.call(shop[4], {**which, "limit": LIMIT}, ToolUser("a model"))
    assert len(found["tasks"]) == min(LIMIT, len(wanted))
    assert len(made) <= len(found["tasks"]) + 1


def passes(status, asked):
    """What the filter says, of a status that is whole."""
    is_mended = bool(status.mended_by)
    return all(
        {
            "state": status.state == value,
            "type": status.type == value,
            "id": status.task_id.startswith(str(value).rstrip("*"))
            if str(value).startswith("b")
            else status.task_id.endswith("/30"),
            "agent": status.agent_id == value,
            "owner": status.owner == value,
            "metadata": status.metadata.get("rare") is True,
            "since": True,
            "older_than": True,
            "mended": is_mended is value,
        }[name]
        for name, value in asked.items()
    )


class Counting(SqliteJournal):
    """It notes of which tasks it was asked for all that it keeps."""

    def __init__(self, path):
        super().__init__(path)
        self.looked_at = []

    def about(self, ids, until):
        self.looked_at += ids
        return super().about(ids, until)


#: What few tasks pass, or none, and how it shows in a status.
RARE = [
    ({"type": "rare"}, lambda s: s.type == "rare"),
    ({"agent": "ben"}, lambda s: s.agent_id == "ben"),
    ({"metadata": {"rare": True, "number": 37}}, lambda s: s.task_id == "a/37"),
    ({"metadata": {"number": 37.0}}, lambda s: s.task_id == "a/37"),
    ({"id": "?/3[78]"}, lambda s: s.task_id in ("a/37", "a/38")),
    (
        {"state": "completed", "owner": "acme"},
        lambda s: s.state == "completed" and s.owner == "acme",
    ),
    ({"older_than": timedelta(days=1)}, lambda s: False),
    ({"mended": True}, lambda s: bool(s.mended_by)),
]


@pytest.fixture(scope="module")
def counted(tmp_path_factory):
    """An orchestrator whose tasks have left memory, and its journal."""
    journal = Counting(tmp_path_factory.mktemp("lists") / "runs.db")
    with make(journal, 1) as orch:
        for n in range(150):
            metadata = {"rare": n % 30 in (7, 8), "number": n, "word": f"ex/{n}"}
            orch.submit_task(attrs.evolve(task(n), metadata=metadata))
        orch.wait(PATIENCE)
        orch.rerun_task("a/4")
        orch.wait(PATIENCE)
        yield orch, journal, list(orch.tasks())


@pytest.mark.parametrize(("which", "passes"), RARE, ids=[str(w) for w, _ in RARE])
def test_what_a_filter_passes_over_is_not_read(counted, which, passes):
    """The journal is asked for few tasks besides those that are given out."""
    orch, journal, every = counted
    wanted = [status.run_id for status in every if passes(status)]
    journal.looked_at.clear()
    assert names(orch.tasks(**which)) == wanted
    assert len(journal.looked_at) <= 2 * len(wanted) + 30


def found(place, **which):
    return [status.task_id for status in place.tasks(**which)]


def test_a_task_is_found_by_what_it_has_since_it_was_submitted_again(tmp_path):
    """In memory, out of memory, and by who reads the journal; its status says it."""
    path = tmp_path / "journal.db"
    first = Task.call(len, "a", id="x", owner="ada", metadata={"n": 1})
    again = attrs.evolve(first, owner="bob", metadata={"n": 2}, timeout=60)

    def check(place):
        assert found(place, owner="bob") == found(place, metadata={"n": 2}) == ["x"]
        assert found(place, owner="ada") == found(place, metadata={"n": 1}) == []
        status = place.get_task_status("x")
        assert (status.owner, status.metadata) == ("bob", {"n": 2})

    with TaskOrchestrator(journal=path, keep_finished=1) as orch:
        orch.hold_starts("it is submitted again")
        orch.submit_task(first)
        orch.submit_task(again)
        check(orch)
        orch.release_starts()
        orch.wait()
        list(orch.map(len, ["a"] * 9))
        check(orch)
    with TaskOrchestrator(journal=path) as orch:
        check(orch)
    check(JournalReader(path))
