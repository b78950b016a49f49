"""Whatever people are asked, by a question or about a failure, is asked in one way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.api.tools import PATIENCE, Recorder, eventually
from tests.ext.command_line.tools import taskorch
from tests.ext.notices.test_notifying import Asks, Hook
from tests.ext.service.tools import Service

from taskorch import InvalidTaskError, Task, TaskOrchestrator, Workflow
from taskorch.api.workflows import Approval
from taskorch.errors import (
    AnswerRefusedError,
    InvalidTransitionError,
    UnknownTaskError,
)
from taskorch.ext.service import create_app, serve
from taskorch.model import Escalation, TaskState
from taskorch.protocols import Permit, Transition

ASKS: Any = Asks()
ASK = "ask"
LOAD = "escalation/load"
#: What is asked, and one of its choices that decides it.
EACH = pytest.mark.parametrize(("name", "choice"), [(ASK, "approve"), (LOAD, "skip")])


def fail() -> None:
    msg = "no table"
    raise LookupError(msg)


def asked(orch: TaskOrchestrator, *, load: str = "load") -> None:
    """Let a question and a failure wait for people, and tasks for both."""
    orch.submit_task(Task.question("Ship?", id=ASK, details={"v": 1}))
    orch.submit_task(Task.call(int, id="ship", after=[ASK]))
    orch.submit_task(Task.call(fail, id=load))
    orch.submit_task(Task.call(int, id="report", after=[load]))
    eventually(lambda: len(orch.questions()) == 2)


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()
    yield made
    made.close()


@pytest.fixture
def orch() -> Iterator[TaskOrchestrator]:
    with TaskOrchestrator(retry_handler=ASKS) as orch:
        asked(orch)
        yield orch
        orch.stop(drain=False)


def is_held(orch: TaskOrchestrator, name: str) -> bool:
    return orch.get_task_status(name).state is TaskState.BLOCKED


def test_both_are_listed_alike_with_the_tasks_that_they_hold(
    orch: TaskOrchestrator,
) -> None:
    question, failure = orch.questions()
    assert [each.kind for each in (question, failure)] == ["question", "escalation"]
    assert (question.tasks, question.blocking_tasks) == ((ASK,), ("ship",))
    assert (failure.tasks, failure.blocking_tasks) == (("load",), ("report",))
    assert question.whom == failure.whom == "anybody may answer"
    assert orch.escalations() == [failure]
    assert isinstance(failure, Escalation)
    assert failure.as_question() is failure
    # What is said of a failure alone is beside what is said of each question.
    document = failure.to_dict()
    assert document.keys() > question.to_dict().keys()
    assert document["escalation_id"] == document["id"] == LOAD
    assert document["question"] == document["text"] == "what now?"
    assert document["task_id"] == "load"
    assert document["details"]["issue_type"] == document["issue_type"]


@EACH
def test_an_answer_counts_once_and_the_second_hears_of_the_first(
    orch: TaskOrchestrator, name: str, choice: str
) -> None:
    told = Recorder(orch, "question_answered", "answer_refused")
    with pytest.raises(AnswerRefusedError, match="'maybe' is none of"):
        orch.answer(name, "maybe", by="ada")
    assert orch.answer(name, choice, by="ada", note="as agreed")
    with pytest.raises(AnswerRefusedError, match=f"too late.*'{choice}' by ada: as ag"):
        orch.answer(name, choice, by="bob")
    told.wait_for(3)
    assert told.names() == ["AnswerRefused", "QuestionAnswered", "AnswerRefused"]
    history = orch.get_task_status(told.events[0].task_id).history
    assert "'maybe' by ada does not count" in " ".join(each.detail for each in history)
    assert len(orch.questions()) == 1


@EACH
def test_an_answer_is_for_one_time_that_it_was_asked(
    orch: TaskOrchestrator, name: str, choice: str
) -> None:
    sign = "~" if name == ASK else "@"
    for number in ("2", "9"):
        with pytest.raises(UnknownTaskError):
            orch.answer(f"{name}{sign}{number}", choice, by="ada")
    (question,) = (each for each in orch.questions() if each.id == name)
    assert question.answer_to == f"{name}{sign}1"
    assert orch.answer(question.answer_to, choice, by="ada")


def test_an_escalation_that_there_is_not_is_unknown(orch: TaskOrchestrator) -> None:
    for name in ("escalation/nobody", "escalation/ship", f"{LOAD}@0", f"{LOAD}@x"):
        with pytest.raises(UnknownTaskError):
            orch.answer(name, "skip", by="ada")
    with pytest.raises(InvalidTaskError, match="open now is escalation/load"):
        orch.answer("load", "skip", by="ada")


def test_an_answer_about_what_has_left_memory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path, keep_finished=1, retry_handler=ASKS) as orch:
        asked(orch)
        assert orch.answer(LOAD, "skip", by="ada")
        for number in range(20):
            orch.submit_task(Task.call(int, id=f"n{number}"))
        orch.handle("n19").result(PATIENCE)
        with pytest.raises(AnswerRefusedError, match="has left memory"):
            orch.answer(LOAD, "skip", by="bob")
        orch.stop(drain=False)


@pytest.mark.parametrize(
    "wrong",
    [
        {"choice": "skip", "changes": {"timeout": 5}},
        {"choice": "complete"},
        {"choice": "complete", "changes": {"results": 5}},
        {"choice": "retry", "changes": {"memry_mb": 5}},
        {"choice": "retry", "changes": {"memory_mb": "many"}},
        {"choice": "retry", "changes": {"resources": 5}},
        {"choice": "retry", "changes": {"timeout": "soon"}},
        {"choice": "retry", "changes": {"memory_mb": 10**9}},
    ],
)
def test_changes_that_do_nothing_are_refused_and_nothing_changes(
    orch: TaskOrchestrator, wrong: dict[str, Any]
) -> None:
    before = orch.questions()
    with pytest.raises(InvalidTaskError):
        orch.answer(LOAD, by="ada", **wrong)
    assert orch.questions() == before


def test_a_task_may_be_called_like_an_escalation(hook: Hook) -> None:
    """It is told, listed and answered as what it is; so is the failure of the other."""
    with TaskOrchestrator(retry_handler=ASKS) as orch:
        told = orch.notify(hook.url, allow_private=True)
        orch.submit_task(Task.call(fail, id="load"))
        eventually(orch.questions)
        (shown,) = orch.questions()
        eventually(lambda: len(hook.got) == 1)
        orch.submit_task(Task.question("Ship?", id=LOAD, options=("skip", "go")))
        eventually(lambda: len(hook.got) >= 2)
        assert told.flush(PATIENCE)
        assert len(hook.got) == 2
        kinds = {json.loads(body)["message_type"] for _, body in hook.got}
        assert kinds == {"question", "escalation"}
        assert [each.id for each in orch.questions()] == [f"{LOAD}@1", LOAD]
        # Who was shown the one answers that, whatever has come since.
        assert shown.answer("skip", by="ada")
        assert orch.handle("load").result(PATIENCE) is None
        assert orch.answer(LOAD, "skip", by="ada")
        assert orch.handle(LOAD).result(PATIENCE).choice == "skip"


class Forbids:
    """A state machine by which one task does not complete by a decision."""

    def check(self, transition: Transition, _: Any) -> Permit:
        is_end = transition.before is TaskState.BLOCKED
        is_end = is_end and transition.after is TaskState.COMPLETED
        return Permit(not (is_end and transition.task_id == "load2"), "not this one")

    def label(self, state: TaskState) -> str:
        return state.value


def test_an_answer_counts_for_all_tasks_or_for_none() -> None:
    machine: Any = Forbids()
    with TaskOrchestrator(retry_handler=ASKS, state_machine=machine) as orch:
        for number in range(3):
            orch.submit_task(Task.call(fail, id=f"load{number}"))
        eventually(lambda: [len(each.tasks) for each in orch.questions()] == [3])
        (before,) = orch.questions()
        with pytest.raises(InvalidTransitionError, match="not this one"):
            before.answer("skip", by="ada")
        assert orch.questions() == [before]
        assert before.answer("abort", by="ada")
        assert orch.questions() == []


def test_what_is_asked_is_the_same_after_a_restart(tmp_path: Path, hook: Hook) -> None:
    path = tmp_path / "runs.db"
    lives: list[list[dict[str, Any]]] = []
    for _ in range(2):
        with TaskOrchestrator(journal=path, retry_handler=ASKS) as orch:
            orch.notify(hook.url, allow_private=True)
            if not lives:
                asked(orch)
            assert "anybody may answer" in str(orch.explain("ship"))
            lives.append([each.to_dict() for each in orch.questions()])
            eventually(lambda: len(hook.got) >= 2 * len(lives))
            orch.stop(drain=False)
    # How much waits and runs is of the moment.
    now = {"system_state": {}, "details": {}}
    assert [{**each, **now} for each in lives[0]] == [
        {**each, **now} for each in lives[1]
    ]
    # Each is told again, under its own number.
    numbers = [json.loads(body)["message_id"] for _, body in hook.got]
    assert sorted(numbers[:2]) == sorted(numbers[2:])


def test_what_is_put_aside_and_taken_up_again_is_what_was_asked(hook: Hook) -> None:
    with TaskOrchestrator() as orch:
        told = orch.notify(hook.url, allow_private=True)
        orch.submit_task(Task.question("Ship?", id=ASK))
        (before,) = orch.questions()
        orch.suspend_task(ASK)
        assert orch.questions() == []
        orch.resume_task(ASK)
        assert orch.questions() == [before]
        orch.submit_task(Task.question("Sure?", id="sure"))
        eventually(lambda: len(hook.got) == 2)
        assert told.flush(PATIENCE)
        said = [json.loads(body)["id"] for _, body in hook.got]
        assert said == [ASK, "sure"]
        orch.stop(drain=False)


@pytest.mark.parametrize(
    ("rules", "whom"),
    [
        ({}, "(anybody may answer)"),
        ({"not_by": "cy"}, "(anybody but cy may answer)"),
        ({"who": ("ada", "bob")}, "(ada and bob may answer)"),
        (
            {"who": ("ada", "bob", "cy"), "not_by": "cy", "quorum": 2},
            "(ada and bob may answer; 2 must agree)",
        ),
    ],
)
def test_explain_says_who_is_asked_of_what_waits_for_the_answer_too(
    rules: dict[str, Any], whom: str
) -> None:
    with TaskOrchestrator() as orch:
        orch.submit_task(Task.question("Ship?", id=ASK, **rules))
        orch.submit_task(Task.call(int, id="ship", after=[ASK]))
        wf = Workflow("w")
        wf.phase("build", gate=Approval(**rules)).task(int, id="a")
        wf.phase("ship").task(int, id="b")
        orch.workflows.start(wf, id="r")
        eventually(lambda: len(orch.questions()) == 2)
        call = "orch.answer('ask', CHOICE, by=…)"
        approve = "orch.workflows.approve('r', 'build', by=…)"
        for name, asks, remedy in (
            (ASK, f"It asks: Ship? {whom}.", call),
            ("ship", f"It needs ask, which asks: Ship? {whom}.", call),
            ("r/build/approval", f"It waits for somebody to approve {whom}.", approve),
            ("r/b", f"which waits for somebody to approve {whom}.", approve),
        ):
            text = str(orch.explain(name))
            assert asks in text
            assert f"Call {remedy}." in text
        stuck = " ".join(map(str, orch.stuck()))
        assert f"They ask: Ship? {whom}." in stuck
        assert f"They wait for somebody to approve {whom}." in stuck
        assert [each.whom for each in orch.questions()] == [whom.strip("()")] * 2
        orch.stop(drain=False)


def test_explain_says_how_a_failure_is_answered_of_what_waits_for_it_too(
    orch: TaskOrchestrator,
) -> None:
    call = "Call orch.answer('escalation/load', CHOICE, by=…), which is for all"
    assert call in str(orch.explain("load"))
    text = str(orch.explain("report"))
    assert (
        "It needs load, which has failed, and a person must decide: what now?" in text
    )
    assert call in text
    assert any(call in str(group) for group in orch.stuck())
    # What it says is what helps.
    assert orch.answer("escalation/load", "skip", by="ada")
    assert orch.handle("report").result(PATIENCE) == 0


def test_what_is_left_of_a_cause_is_asked_about_and_told(hook: Hook) -> None:
    with TaskOrchestrator(retry_handler=ASKS) as orch:
        orch.notify(hook.url, allow_private=True)
        for name in ("load1", "load2", "load3"):
            orch.submit_task(Task.call(fail, id=name))
            eventually(partial(is_held, orch, name))
        eventually(lambda: len(hook.got) == 1)
        for name in ("load1", "load3"):
            orch.submit_task(Task.call(int, id=f"after-{name}", after=[name]))
        (shown,) = orch.questions()
        assert shown.tasks == ("load1", "load2", "load3")
        assert sorted(shown.blocking_tasks) == ["after-load1", "after-load3"]
        orch.cancel_task("load1")
        (left,) = orch.questions()
        assert (left.id, left.tasks) == ("escalation/load2", ("load2", "load3"))
        with pytest.raises(AnswerRefusedError, match="comes too late"):
            shown.answer("skip", by="ada")
        # By each of its tasks it may be named.
        assert orch.answer("escalation/load3", "skip", by="ada")
        assert orch.questions() == []
        orch.submit_task(Task.question("Ship?", id=ASK))
        eventually(lambda: json.loads(hook.got[-1][1])["id"] == ASK)
        said = [json.loads(body)["id"] for _, body in hook.got]
        # Under its new id it is told, too, if somebody looks before it is answered.
        assert said in (
            ["escalation/load1", ASK],
            ["escalation/load1", "escalation/load2", ASK],
        )
        orch.stop(drain=False)


@contextmanager
def service(orch: TaskOrchestrator) -> Iterator[tuple[Service, str]]:
    with serve(create_app(orch, token=None), port=0) as server:
        yield Service(orch, server, None), f"http://127.0.0.1:{server.port}"


def test_over_http_and_at_a_command_line_both_are_one_list(
    orch: TaskOrchestrator, capsys: pytest.CaptureFixture[str]
) -> None:
    with service(orch) as (there, url):
        question, failure = there.get("/api/v1/questions")["questions"]
        assert there.get("/api/v1/escalations") == {"escalations": [failure]}
        listed = taskorch(capsys, "questions", url)[1]
        failures = taskorch(capsys, "escalations", url)[1]
        for line in (
            *("ask: Ship?", "  wait for it: ship", "  by whom: anybody may answer"),
            *("escalation/load: what now?", "  decides: load", "  wait for it: report"),
        ):
            assert line in listed.splitlines()
        about = listed.index("escalation/load: what now?")
        end = listed.index("taskorch answer")
        assert failures.startswith(listed[about:end])
        assert f"taskorch answer {url} escalation/load CHOICE --by NAME" in failures
        for name, choice in ((question["answer_to"], "approve"), (LOAD, "skip")):
            words = ("answer", url, name, choice, "--by", "ada")
            assert taskorch(capsys, *words)[0] == 0
        assert there.get("/api/v1/questions") == {"questions": []}
