"""
Tasks and forms as they stand on the wire, by the rules of the protocol.

The extension `io.modelcontextprotocol/tasks` has a schema, which is not ours to copy.
What it asks of an answer is stated here in our own words, as checks of `follows_rules`:
which fields there are, of which kind, in which states, and with which marks; read off
its draft of September 2026 and the page of its specification. Each answer of each story
goes through these. Forms go through the models that the library has of the protocol's
own schema: those of any version, and those of the revision that is spoken here.
"""

from __future__ import annotations

import json
from datetime import datetime

import pytest

pytest.importorskip("mcp")

import mcp_types as types
from mcp_types import _v2026_07_28 as wire_types
from pydantic import TypeAdapter
from tests.api.tools import eventually
from tests.ext.mcp.tools import EXTENSION, WireBeside
from tests.ext.service.tools import orchestrator

from taskorch import Task
from taskorch.errors import JournalUnavailableError
from taskorch.ext.mcp import OrchestratorPlace
from taskorch.ext.recovery import RecoveryHandler

PRIMITIVE = TypeAdapter(wire_types.PrimitiveSchemaDefinition)
FINAL = {"completed", "failed", "cancelled"}
STATES = {"working", "input_required", *FINAL}
#: What a task has beside what all have, by its state.
MORE = {"completed": "result", "failed": "error", "input_required": "inputRequests"}
ALWAYS = {"resultType", "taskId", "status", "createdAt", "lastUpdatedAt", "ttlMs"}
SOMETIMES = {"statusMessage", "pollIntervalMs", "_meta"}


def follows_rules(answer, result_type):
    """Check a document of a task of the protocol."""
    state = answer["status"]
    assert state in STATES
    assert answer["resultType"] == result_type
    is_detailed = result_type == "complete"
    more = {MORE[state]} if is_detailed and state in MORE else set()
    assert ALWAYS | more <= answer.keys() <= ALWAYS | more | SOMETIMES
    assert type(answer["taskId"]) is str
    assert answer["taskId"]
    created, updated = (
        datetime.fromisoformat(answer[name]) for name in ("createdAt", "lastUpdatedAt")
    )
    assert created.utcoffset() is not None
    assert created <= updated
    assert answer["ttlMs"] is None or type(answer["ttlMs"]) is int
    assert type(answer.get("pollIntervalMs", 1)) is int
    assert answer.get("pollIntervalMs", 1) > 0
    assert type(answer.get("statusMessage", "")) is str
    if "result" in answer:
        types.CallToolResult.model_validate(answer["result"])
    return answer


@pytest.fixture
def orch():
    with orchestrator() as orch:
        orch.submit_task(Task.wait_for("go", id="later"))
        yield orch


@pytest.fixture
def wire(orch):
    with WireBeside(OrchestratorPlace(orch), allow=["answer"], person="Ada") as wire:
        yield wire


def begun(wire, task="later", **more):
    return follows_rules(wire.call("wait", task=task, **more), "task")["taskId"]


def state(wire, name):
    return follows_rules(wire.result("tasks/get", taskId=name), "complete")


def acknowledged(wire, verb, name, **params):
    answer = wire.result(f"tasks/{verb}", taskId=name, **params)
    assert answer["resultType"] == "complete"
    assert answer.keys() <= {"resultType", "_meta"}


# -- tasks -----------------------------------------------------------------------------


def test_a_wait_is_a_task_from_its_begin_to_its_end(orch, wire):
    name = begun(wire)
    # It is there before it is told.
    working = state(wire, name)
    assert working["status"] == "working"
    assert working["statusMessage"] == (
        "later is blocked. It waits for the event 'go'."
    )
    orch.emit("go", 7)
    orch.handle("later").result(60)
    for _ in range(2):
        completed = state(wire, name)
        assert completed["status"] == "completed"
        assert completed["result"]["structuredContent"]["result"] == 7
    assert wire.answer("wait", task="later")["result"] == 7


def test_a_wait_has_its_time(wire):
    name = begun(wire, seconds=0.05)
    eventually(lambda: state(wire, name)["status"] == "completed")
    completed = state(wire, name)
    assert completed["result"]["structuredContent"]["ended"] is False


def test_a_wait_that_was_called_off_is_so_for_good(orch, wire):
    name = begun(wire)
    acknowledged(wire, "update", name, inputResponses={"x": {"action": "accept"}})
    assert state(wire, name)["status"] == "working"
    acknowledged(wire, "cancel", name)
    assert state(wire, name)["status"] == "cancelled"
    orch.emit("go", 7)
    orch.handle("later").result(60)
    assert state(wire, name)["status"] == "cancelled"
    # And one that has come to its end stays at that.
    other = begun(wire, task=orch.submit_task(Task.wait_for("more", id="more")).task_id)
    orch.emit("more")
    orch.handle("more").result(60)
    acknowledged(wire, "cancel", other)
    assert state(wire, other)["status"] == "completed"


class Unsure(OrchestratorPlace):
    """A place that cannot be read now and then."""

    trouble = None

    def __init__(self, orch):
        super().__init__(orch)
        self.get_task_status = self.read

    def read(self, name):
        if self.trouble is not None:
            raise self.trouble
        return self._orch.get_task_status(name)


@pytest.mark.parametrize(
    "trouble", [JournalUnavailableError("it is locked"), ConnectionRefusedError("no")]
)
def test_what_cannot_be_read_for_a_moment_is_no_end(orch, trouble):
    place = Unsure(orch)
    with WireBeside(place) as wire:
        name = begun(wire)
        place.trouble = trouble
        for verb in ("get", "cancel"):
            assert wire.ask(f"tasks/{verb}", taskId=name)["error"]["message"]
        place.trouble = None
        assert state(wire, name)["status"] == "working"


@pytest.mark.parametrize("verb", ["get", "cancel", "update"])
def test_what_is_no_task_is_an_error_of_the_protocol(wire, verb):
    name = begun(wire)
    body, _, mark = name.partition(".")
    forged = ["", "x", ".", body, f"{body}.", f"x{name}", f"{body}.{mark[::-1]}", "é.é"]
    for each in [*forged, "x" * 100_000]:
        error = wire.ask(f"tasks/{verb}", taskId=each)["error"]
        assert error["code"] == types.INVALID_PARAMS
        assert error["message"]
    assert state(wire, name)["status"] == "working"


@pytest.mark.parametrize("verb", ["get", "cancel", "update"])
def test_who_does_not_know_tasks_is_told_so(wire, verb):
    name = begun(wire)
    error = wire.ask(f"tasks/{verb}", taskId=name, has={})["error"]
    assert error["code"] == -32021
    assert error["data"] == {"requiredCapabilities": {"extensions": {EXTENSION: {}}}}
    answer = wire.result(
        "tools/call", name="wait", arguments={"task": "later", "seconds": 0.01}, has={}
    )
    assert answer["resultType"] == "complete"


def test_ids_have_nothing_to_guess_by_and_belong_to_who_has_begun(orch, wire):
    names = {begun(wire) for _ in range(20)}
    assert len(names) == 20
    marks = [bytes.fromhex(name.rpartition(".")[2]) for name in names]
    assert all(len(mark) >= 16 for mark in marks)
    assert len(set(marks)) == 20
    place = OrchestratorPlace(orch)
    for options in ({}, {"secret": b"another"}, {"by": "else"}):
        with WireBeside(place, **options) as other:
            for name in names:
                error = other.ask("tasks/get", taskId=name)["error"]
                assert error["code"] == types.INVALID_PARAMS


def test_ids_are_the_same_for_the_next_incarnation_of_who_has_begun(orch):
    place = OrchestratorPlace(orch)
    with WireBeside(place, secret=b"shared", by="ada") as wire:
        name = begun(wire)
    with WireBeside(place, secret=b"shared", by="ada") as wire:
        assert state(wire, name)["status"] == "working"
    with WireBeside(place, secret=b"shared", by="bob") as wire:
        assert "error" in wire.ask("tasks/get", taskId=name)


# -- forms -----------------------------------------------------------------------------


def asked(wire, question):
    """The form by which a person is asked, by all that the library knows of forms."""
    answer = wire.call("answer", question=question)
    assert answer["resultType"] == "input_required"
    types.InputRequiredResult.model_validate(answer)
    wire_types.InputRequiredResult.model_validate(answer)
    (request,) = answer["inputRequests"].values()
    types.ElicitRequest.model_validate(request)
    wire_types.ElicitRequest.model_validate(request)
    schema = request["params"]["requestedSchema"]
    assert schema["required"] == ["choice"]
    for each in schema["properties"].values():
        PRIMITIVE.validate_python(each)
    return answer, request["params"]


def replied(wire, question, state, reply, **more):
    return wire.ask(
        "tools/call",
        name="answer",
        arguments={"question": question, **more},
        inputResponses={"form": reply},
        requestState=state,
    )


def test_a_question_is_a_form_of_the_protocol(orch, wire):
    orch.submit_task(
        Task.question("Ship it?", options=["yes", "no"], details={"v": 7}, id="q")
    )
    answer, params = asked(wire, "q")
    assert params["message"].startswith("Ship it?")
    assert params["requestedSchema"]["properties"]["choice"]["enum"] == ["yes", "no"]
    content = {"choice": "yes", "note": "so", "changes": '{"limit": 3}'}
    reply = {"action": "accept", "content": content}
    result = replied(wire, "q", answer["requestState"], reply)["result"]
    assert result["structuredContent"] == {"decided": True}
    said = orch.handle("q").result(60)
    assert (said.choice, said.by, said.note) == ("yes", ("Ada",), "so")
    assert said.changes == {"limit": 3}


@pytest.mark.parametrize(
    ("choice", "who"), [({}, ["Ada"]), ({"choice": "yes"}, ["Ada"]), ({}, ["mcp"])]
)
def test_a_client_of_an_older_protocol_is_told_that_it_is_too_old(orch, choice, who):
    """It has forms, and they are of another kind: nobody is asked, and it says why."""
    orch.submit_task(Task.question("Ship it?", options=["yes", "no"], id="q", who=who))
    with WireBeside(OrchestratorPlace(orch), allow=["answer"], person="Ada") as wire:

        def tell(**said):
            wire.outgoing.write(json.dumps({"jsonrpc": "2.0", **said}).encode() + b"\n")
            wire.outgoing.flush()

        begin = {
            "protocolVersion": "2025-11-25",
            "capabilities": {"elicitation": {}},
            "clientInfo": {"name": "old", "version": "1"},
        }
        tell(id=1, method="initialize", params=begin)
        assert "result" in json.loads(wire.incoming.readline())
        tell(method="notifications/initialized")
        call = {"name": "answer", "arguments": {"question": "q", **choice}}
        tell(id=2, method="tools/call", params=call)
        answer = json.loads(wire.incoming.readline())["result"]
    assert answer["isError"]
    said = json.loads(answer["content"][0]["text"])
    assert "this client is too old to ask Ada" in said["error"]
    assert "2025-11-25" in said["error"]
    assert "taskorch answer" in said["remedy"]
    assert len(orch.questions()) == 1


@pytest.mark.parametrize("terms", [{"who": ["Bea"]}, {"not_by": ["Ada"]}])
def test_who_may_not_answer_is_shown_no_form(orch, wire, terms):
    orch.submit_task(Task.question("Ship it?", id="q", **terms))
    result = wire.call("answer", question="q")
    assert "is not for Ada" in result["content"][0]["text"]


@pytest.mark.parametrize(
    ("reply", "word"),
    [
        ({"action": "decline"}, "has not answered"),
        ({"action": "cancel"}, "has not answered"),
        ({"action": "accept", "content": {}}, "a choice is needed"),
        ({"action": "accept", "content": {"choice": "maybe"}}, "maybe"),
        (
            {"action": "accept", "content": {"choice": "yes", "changes": "{"}},
            "the changes are no JSON",
        ),
        (
            {"action": "accept", "content": {"choice": "yes", "changes": "3"}},
            "changes: an object",
        ),
    ],
)
def test_what_is_not_filled_in_well_decides_nothing(orch, wire, reply, word):
    orch.submit_task(Task.question("Ship it?", options=["yes", "no"], id="q"))
    answer, _ = asked(wire, "q")
    result = replied(wire, "q", answer["requestState"], reply)["result"]
    assert result["isError"]
    assert word in result["content"][0]["text"]
    assert len(orch.questions()) == 1


def test_what_travels_through_the_client_is_signed_and_for_one_question(orch, wire):
    for name in ("q", "r"):
        orch.submit_task(Task.question("Ship it?", options=["yes", "no"], id=name))
    state = asked(wire, "q")[0]["requestState"]
    assert "q" not in state.split(".")
    reply = {"action": "accept", "content": {"choice": "yes"}}
    middle = len(state) // 2
    swapped = "A" if state[middle] != "A" else "B"
    forged = f"{state[:middle]}{swapped}{state[middle + 1 :]}"
    for question, each in [("q", forged), ("r", state), ("q", '["q~1", 1]')]:
        answer = replied(wire, question, each, reply)
        assert "error" in answer, answer
    without = replied(wire, "q", None, reply)
    assert "error" in without or without["result"]["isError"]
    assert len(orch.questions()) == 2


def test_what_was_asked_again_meanwhile_is_not_answered(orch, wire):
    orch.submit_task(Task.question("Ship it?", options=["yes", "no"], id="q"))
    state = asked(wire, "q")[0]["requestState"]
    orch.answer("q", "no", by="Bea")
    orch.rerun_task("q")
    reply = {"action": "accept", "content": {"choice": "yes"}}
    answer = replied(wire, "q", state, reply)
    assert "error" in answer or answer["result"]["isError"], answer
    assert [each.id for each in orch.questions()] == ["q~2"]


def test_an_escalation_is_a_form_too():
    handler = RecoveryHandler(max_retries=0)
    for row in handler.matrix.values():
        row.human = "always"
    with orchestrator(retry_handler=handler) as orch:
        orch.submit_task(Task("echo", {"raise": "no page"}, id="load"))
        eventually(orch.escalations)
        place = OrchestratorPlace(orch)
        with WireBeside(place, allow=["answer"], person="Ada") as wire:
            answer, params = asked(wire, "escalation/load")
            described = params["requestedSchema"]["properties"]["changes"]
            assert '"complete": {"result"' in described["description"]
            content = {"choice": "complete", "changes": '{"result": 7}'}
            reply = {"action": "accept", "content": content}
            state = answer["requestState"]
            result = replied(wire, "escalation/load", state, reply)["result"]
            assert result["structuredContent"] == {"decided": True}, result
            # The model by itself has not been able to.
            orch.submit_task(Task("echo", {"raise": "no page"}, id="more"))
            eventually(orch.escalations)
            refused = wire.call("answer", question="escalation/more", choice="skip")
            assert "is for people" in refused["content"][0]["text"]
        assert orch.handle("load").result(60) == 7
