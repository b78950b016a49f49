"""The table of tools, without a client: what each takes, answers and refuses."""

from __future__ import annotations

import importlib
import json
import math
import os
import re
import threading
import time
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from tests.ext.service.tools import orchestrator

from taskorch import InvalidTaskError, Task, TaskOrchestrator, current_context
from taskorch.api.verbs.remedies import in_tools
from taskorch.errors import AnswerRefusedError, TaskorchError, UnknownTaskError
from taskorch.ext.mcp import TOOLS, OrchestratorPlace, tools_of
from taskorch.ext.mcp._calls import MOST_SHOWN, ToolUser
from taskorch.ext.mcp._tools import Effect
from taskorch.ext.views import JournalReader
from taskorch.kit.findings import findings_of

BY_NAME = {tool.name: tool for tool in TOOLS}
CHANGING = [tool.name for tool in TOOLS if tool.effect is not Effect.NONE]
ME = ToolUser("mcp")


@pytest.fixture
def orch():
    with orchestrator() as found:
        yield found


@pytest.fixture
def place(orch):
    return OrchestratorPlace(orch, {"double": lambda n: 2 * n})


def use(place, tool_name, /, **arguments):
    """What a tool answers, which is as its row says, and JSON."""
    tool = BY_NAME[tool_name]
    answer = tool.use(place, arguments, ME)
    assert json.loads(json.dumps(answer, allow_nan=False)) == answer
    assert [*findings_of(tool.output_schema, answer, {})] == []
    return answer


# -- the table ---------------------------------------------------------------------


def test_the_library_is_there_where_all_tests_are_to_run():
    """Elsewhere, those that need it are left out."""
    if "CI" in os.environ:
        importlib.import_module("mcp")


def test_there_are_few_tools_and_their_words_are_short():
    assert len(TOOLS) == len(BY_NAME) <= 17
    words = json.dumps(
        [
            (tool.name, tool.text, tool.input_schema, tool.output_schema)
            for tool in TOOLS
        ]
    )
    # A token is some four characters of that, as a tokenizer counts it, too.
    assert len(words) / 4 < 3_000


def test_a_journal_has_no_tool_that_changes_anything(tmp_path):
    with TaskOrchestrator(journal=tmp_path / "runs.db") as orch:
        orch.submit(int).result()
    reader = JournalReader(tmp_path / "runs.db")
    assert {tool.effect for tool in tools_of(reader)} == {Effect.NONE}
    for name in CHANGING:
        with pytest.raises(InvalidTaskError, match="cannot be allowed here"):
            tools_of(reader, [name])


def test_what_changes_something_is_there_by_its_name_alone(place):
    there = {tool.name for tool in tools_of(place, ["cancel"])}
    assert there & {*CHANGING} == {"cancel"}
    assert there - {*CHANGING} == BY_NAME.keys() - {*CHANGING}


@pytest.mark.parametrize(
    ("name", "hint"), [("cancle", "did you mean 'cancel'"), ("find", "there are")]
)
def test_what_cannot_be_allowed_is_refused(place, name, hint):
    with pytest.raises(InvalidTaskError, match=hint):
        tools_of(place, [name])


@pytest.mark.parametrize(
    "kind",
    [
        "file",
        pytest.param("server", marks=pytest.mark.slow("two lives with PostgreSQL")),
    ],
)
def test_a_journal_is_known_again_in_its_next_incarnation(tmp_path, request, kind):
    """By what the ids of waits are signed with."""
    address = str(tmp_path / "runs.db")
    if kind == "server":
        address = request.getfixturevalue("postgres").address()
    uids = set()
    for _ in range(2):
        with TaskOrchestrator(journal=address) as orch:
            orch.submit(int).result(60)
            uids.add(OrchestratorPlace(orch).uid)
    assert uids == {JournalReader(address).uid}
    assert len(*uids) == 32


# -- what comes in -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("status", {}, "task: it is missing"),
        ("status", {"task": 3}, "task: a text"),
        ("status", {"task": "x", "tsak": 1}, "did you mean 'task'"),
        ("find", {"limit": 0}, "limit: a whole number from 1"),
        ("find", {"state": "gone"}, "state: "),
        ("wait", {"task": "x", "seconds": 1e9}, "seconds: "),
        ("submit", {}, "tasks, or a workflow"),
        ("submit", {"tasks": []}, "tasks: "),
        ("submit", {"tasks": [{"type": "echo"}], "id": "x"}, "id is for a workflow"),
        (
            "submit",
            {"tasks": [{"type": "echo"}], "parameters": {"a": 1}},
            "parameters is for a run of a workflow",
        ),
        ("submit", {"tasks": [{"type": "echo"}], "durations": {}}, "for a dry run"),
        ("hold", {}, "a reason is needed"),
        ("hold", {"task": "x", "reason": "y"}, "reason is for a hold of all"),
    ],
)
def test_what_is_not_well_formed_is_refused(place, name, arguments, said):
    with pytest.raises(InvalidTaskError, match=re.escape(said)):
        use(place, name, **arguments)


def test_what_a_tool_does_not_take_is_named_with_the_nearest_word(place):
    for tool in TOOLS:
        every = ", ".join(each.name for each in tool.arguments)
        named = f"there are {every}" if every else "there is none (it takes nothing)"
        refused = {"unheard_of": f"it is not known here: {named}"}
        for each in tool.arguments:
            said = f"it is not known here: did you mean {each.name!r}?"
            refused[f"{each.name}s"] = said
        for word, said in refused.items():
            with pytest.raises(InvalidTaskError) as found:
                tool.use(place, {word: 1}, ME)
            assert f"{word}: {said}" in str(found.value), tool.name


@pytest.mark.parametrize("value", [math.nan, [math.inf], {"a": -math.inf}])
def test_a_number_that_json_has_not_is_refused_wherever_it_stands(place, value):
    words = "JSON has no nan" if type(value) is float else ""
    for tool in TOOLS:
        for each in tool.arguments:
            with pytest.raises(InvalidTaskError, match=rf"{each.name}\S*: {words}"):
                tool.use(place, {each.name: value}, ME)


def test_a_number_that_json_has_not_is_refused_deep_in_a_task(place):
    task = {"type": "echo", "payload": {"a": [1, math.inf]}}
    words = re.escape("tasks[0].payload.a[1]: JSON has no inf")
    with pytest.raises(InvalidTaskError, match=words):
        use(place, "submit", tasks=[task])


@pytest.mark.parametrize(
    "name",
    ["status", "why", "when", "wait", "cancel", "rerun", "release", "reprioritise"],
)
def test_an_unknown_id_is_said_to_be_that(place, name):
    more = {"priority": 1} if name == "reprioritise" else {}
    with pytest.raises(UnknownTaskError):
        use(place, name, task="no-such-task", **more)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@st.composite
def calls(draw):
    tool = draw(st.sampled_from(TOOLS))
    names = st.sampled_from([*(each.name for each in tool.arguments), "x"])
    arguments = draw(st.dictionaries(names, JSON | st.just("there"), max_size=4))
    # Seconds that are waited are those of the test.
    return tool, arguments | ({"seconds": 0} if tool.name == "wait" else {})


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls())
def test_whatever_comes_in_is_answered_or_refused(orch, place, call):
    tool, arguments = call
    if orch.get_stats().state_machine.completed == 0:
        orch.submit_task(Task("echo", 1, id="there")).result()
    with suppress(TaskorchError):
        answer = tool.use(place, arguments, ME)
        assert [*findings_of(tool.output_schema, answer, {})] == []
        json.dumps(answer)
    orch.release_starts("mcp")


# -- what tools do -----------------------------------------------------------------


def test_tasks_are_found_a_few_at_a_time(orch, place):
    handles = orch.submit_tasks([Task("echo", n, id=f"t-{n}") for n in range(5)])
    for handle in handles:
        handle.result()
    first = use(place, "find", id="t-*", limit=3)
    assert [task["task_id"] for task in first["tasks"]] == ["t-0", "t-1", "t-2"]
    assert first["more"]
    assert not use(place, "find", id="t-*", limit=5)["more"]
    assert use(place, "find", state="failed")["tasks"] == []


def two_steps():
    context = current_context()
    return [context.step(name, str, name) for name in ("load", "total")]


def test_a_task_is_run_again_from_a_step_once_it_was_said_what_that_does(orch, place):
    orch.submit_task(Task.call(two_steps, id="a")).result()
    said = use(place, "rerun", task="a", at="total", dry_run=True)
    assert said["task_id"] is None
    assert "Keeps load#1. Calls anew total#1" in said["text"]
    assert use(place, "rerun", task="a", dry_run=True)["task_id"] is None
    assert orch.get_task_status("a").task_id == "a"
    again = use(place, "rerun", task="a", at="total")["task_id"]
    orch.handle(again).result()
    steps = [f"{each.name} {each.state}" for each in orch.steps.of("a")]
    assert steps == ["load kept", "total called"]
    with pytest.raises(TaskorchError, match="keeps no step 'x'"):
        use(place, "rerun", task="a", at="x")
    with pytest.raises(InvalidTaskError, match="not from a step"):
        use(place, "rerun", task="a", at="total", definition="as_it_was")


def test_a_long_result_is_cut_and_says_so(orch, place):
    orch.submit_task(Task("echo", "x" * (MOST_SHOWN + 5), id="long")).result()
    orch.submit_task(Task("echo", "x" * MOST_SHOWN, id="whole")).result()
    result = use(place, "status", task="long")["result"]
    assert result.endswith("… (cut: 20,005 characters in all)")
    assert use(place, "status", task="whole")["result"] == "x" * MOST_SHOWN


def test_why_has_the_cause_and_remedies_as_tools(orch, place):
    orch.submit_task(Task("echo", {"raise": "no page"}, id="broken"))
    waits = orch.submit_task(Task("echo", 1, id="waits", after=["broken"]))
    use(place, "wait", task="broken", seconds=30)

    text = use(place, "why", task=waits.task_id)["text"]
    assert "broken" in text
    assert "orch." not in text
    assert 'rerun {"task": "broken"}' in text
    whole = use(place, "why")
    assert "ValueError: no page (1)" in whole["text"]
    assert whole["failures"][0]["count"] == 1


def test_a_wait_ends_with_the_task_or_with_its_time(orch, place):
    orch.submit_task(Task.wait_for("go", id="later"))
    early = use(place, "wait", task="later", seconds=0)
    assert (early["ended"], early["state"]) == (False, "blocked")
    assert "go" in early["text"]
    threading.Timer(0.1, orch.emit, ["go", 7]).start()
    late = use(place, "wait", task="later", seconds=60)
    assert (late["ended"], late["result"]) == (True, 7)


def test_a_wait_ends_when_nobody_wants_to_know(orch, place):
    orch.submit_task(Task.wait_for("go", id="later"))
    caller = ToolUser("mcp")
    threading.Timer(0.1, caller.gone.set).start()
    before = time.monotonic()
    answer = BY_NAME["wait"].use(place, {"task": "later", "seconds": 60}, caller)
    assert not answer["ended"]
    assert time.monotonic() - before < 50


def test_what_is_submitted_with_a_key_is_there_once(orch, place):
    tasks = [{"type": "echo", "payload": n} for n in range(2)]
    first = use(place, "submit", tasks=tasks, key="night")
    assert use(place, "submit", tasks=tasks, key="night") == first
    assert len(first["ids"]) == 2
    assert len(use(place, "find")["tasks"]) == 2

    flow = {"workflow": "flow", "tasks": {"a": {"call": "double", "args": [4]}}}
    run = use(place, "submit", workflow=flow, key="k")["run"]
    assert use(place, "submit", workflow=flow, key="k")["run"] == run
    assert use(place, "wait", task=f"{run}/a", seconds=30)["result"] == 8

    declared = {**flow, "parameters": {"shop": {"type": "str", "default": "all"}}}
    run = use(place, "submit", workflow=declared, parameters={"shop": "oslo"})["run"]
    assert orch.workflows.get(run).status().parameters == {"shop": "oslo"}
    with pytest.raises(InvalidTaskError, match="there is no parameter 'shp'"):
        use(place, "submit", workflow=declared, parameters={"shp": "oslo"})


@pytest.mark.parametrize(
    "work",
    [
        {"tasks": [{"program": ["ls"]}]},
        {"tasks": [{"call": "os.system", "args": ["ls"]}]},
        {"tasks": [{"type": "echo", "idempotency_key": "a"}], "key": "b"},
        {"workflow": {"workflow": "f", "tasks": {"a": {"program": ["ls"]}}}},
        {
            "workflow": {
                "workflow": "f",
                "phases": {"p": {"gate": [{"file": "/etc/passwd"}]}},
                "tasks": {"a": {"type": "echo", "phase": "p"}},
            }
        },
    ],
)
def test_no_code_comes_in_and_nothing_of_what_is_refused_is_there(place, work):
    with pytest.raises(TaskorchError):
        use(place, "submit", **work)
    assert use(place, "find")["tasks"] == []


def test_a_dry_run_starts_nothing(orch, place):
    tasks = [{"type": "echo", "id": "a"}, {"type": "echo", "id": "b", "after": ["a"]}]
    answer = use(place, "submit", tasks=tasks, dry_run=True, durations={"echo": 3})
    assert (answer["seconds"], answer["ids"]) == (6, [])
    assert use(place, "find")["tasks"] == []


def test_holds_are_undone_by_who_made_them(orch, place):
    use(place, "hold", reason="the disk is full")
    use(place, "submit", tasks=[{"type": "echo", "id": "a"}])
    assert "the disk is full" in use(place, "why", task="a")["text"]
    assert use(place, "release")["changed"]
    assert use(place, "wait", task="a", seconds=30)["ended"]
    assert not use(place, "release")["changed"]

    orch.submit_task(Task.wait_for("go", id="b"))
    assert use(place, "hold", task="b")["changed"]
    assert use(place, "status", task="b")["state"] == "suspended"
    assert use(place, "release", task="b")["changed"]


def test_when_it_ends_is_said_and_what_would_have_to_change():
    """Of tasks that wait, since nobody has begun to work."""
    orch = TaskOrchestrator(concurrency=1)
    orch.submit_tasks(Task.call(int, id=f"t{n}", expected=60) for n in range(20))
    place = OrchestratorPlace(orch, {})
    said = use(place, "when", task="t19", deadline="300")
    assert said["text"].startswith("t19 ends within ")
    assert said["risk"] > 0.5
    said = use(place, "when", task="t19", deadline="300", changes=True)
    assert "priority" in [each["kind"] for each in said["changes"]]
    assert "It ends in time" in said["text"]
    said = use(place, "what_if", priority={"t19": 5})
    assert len(said["ends"]) == 20
    assert "t19" in said["text"]
    assert orch.get_task_status("t19").priority == 0
    with pytest.raises(InvalidTaskError, match="is over"):
        use(place, "when", task="t19", deadline="2020-01-01")
    with pytest.raises(UnknownTaskError):
        use(place, "what_if", pause=["nobody"])


def test_a_task_is_moved_and_called_off(orch, place):
    orch.submit_task(Task.wait_for("go", id="a"))
    assert use(place, "reprioritise", task="a", priority=7)["changed"]
    assert use(place, "status", task="a")["priority"] == 7
    assert use(place, "cancel", task="a") == {"changed": True, "state": "cancelled"}
    assert not use(place, "cancel", task="a")["changed"]
    assert "over MCP by mcp" in use(place, "why", task="a")["text"]


def test_only_a_question_that_names_it_is_answered(orch, place):
    for name, who in {"anybody": None, "ada": ["Ada"], "mine": ["Ada", "mcp"]}.items():
        orch.submit_task(
            Task.question("Ship it?", options=["yes", "no"], who=who, id=name)
        )
    assert len(use(place, "questions")["questions"]) == 3
    for name in ("anybody", "ada"):
        with pytest.raises(AnswerRefusedError, match="is for people"):
            use(place, "answer", question=name, choice="yes")
    with pytest.raises(TaskorchError):
        use(place, "answer", question="mine", choice="perhaps")
    assert use(place, "answer", question="mine", choice="yes")["decided"]
    assert len(use(place, "questions")["questions"]) == 2
    with pytest.raises(TaskorchError):
        use(place, "answer", question="gone", choice="yes")


@pytest.mark.parametrize("name", ["anybody~1", "anybody", "anybody~2"])
def test_no_other_id_of_a_question_is_a_way_round(orch, place, name):
    orch.submit_task(Task.question("Ship it?", options=["yes", "no"], id="anybody"))
    with pytest.raises(TaskorchError):
        use(place, "answer", question=name, choice="yes")
    orch.cancel_task("anybody")
    orch.rerun_task("anybody")
    assert [each["id"] for each in use(place, "questions")["questions"]] == [
        "anybody~2"
    ]
    with pytest.raises(TaskorchError):
        use(place, "answer", question=name, choice="yes")
    assert len(orch.questions()) == 1


def test_the_doctor_and_the_schedules(orch, place):
    assert use(place, "doctor")["health"]["ready"]
    assert use(place, "schedules") == {"schedules": []}
    orch.schedules.add("night", "@daily", Task("echo", 1))
    (one,) = use(place, "schedules", name="night")["schedules"]
    assert len(one["coming"]) == 5
    with pytest.raises(TaskorchError):
        use(place, "schedules", name="gone")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("orch.rerun_task('a/b')", 'rerun {"task": "a/b"}'),
        ("Call orch.cancel_task('x').", 'cancel {"task": "x"}'),
        ("orch.resume_task('x')", 'release {"task": "x"}'),
        ("orch.suspend_task('x')", 'hold {"task": "x"}'),
        ("orch.handle('x')", 'status {"task": "x"}'),
        ("orch.explain(TASK)", 'why {"task": "TASK"}'),
        ("orch.release_starts('user')", 'release {"by": "user"}'),
        ("orch.questions()", "questions"),
        ("orch.tasks('failed')", 'find {"state": "failed"}'),
        ("orch.agents.add(x)", "orch.agents.add(x)"),
    ],
)
def test_calls_are_said_as_tools(text, said):
    assert in_tools(text) == said
    name, _, arguments = said.partition(" ")
    if name in BY_NAME:
        schema = BY_NAME[name].input_schema
        assert [*findings_of(schema, json.loads(arguments or "{}"), {})] == []


def test_a_place_is_named_by_what_it_is(tmp_path):
    """As who runs the server has named it."""
    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path):
        pass
    with pytest.raises(
        InvalidTaskError, match=r"JournalReader\(SqliteJournal\('.*runs"
    ):
        tools_of(JournalReader(path), allow=["cancel"])
