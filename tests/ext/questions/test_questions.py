"""Questions: tasks that wait for people."""

from __future__ import annotations

from typing import Any

import pytest
from tests.api.tools import PATIENCE, Recorder, eventually

from taskorch import (
    InvalidTaskError,
    Task,
    TaskFailedError,
    TaskOrchestrator,
    TaskTimeoutError,
    ValidationFailedError,
    Workflow,
)
from taskorch.api.workflows import Approval
from taskorch.errors import AnswerRefusedError
from taskorch.model import Answer


def ask(**options: Any) -> Task[Answer]:
    return Task.question("deploy?", id="ask", **options)


@pytest.mark.parametrize(
    ("by", "choice", "why"),
    [
        ("zed", "approve", "none of those who may: ada, bob"),
        ("cy", "approve", "cy asks, and may not answer it"),
        ("ada", "maybe", "none of approve and reject"),
    ],
)
def test_an_answer_that_does_not_count_stands_in_the_history(
    by: str, choice: str, why: str
) -> None:
    with TaskOrchestrator() as orch:
        told = Recorder(orch, "answer_refused")
        asked = ask(who=("ada", "bob", "cy"), owner="cy", not_by="requester")
        orch.submit_task(asked)
        with pytest.raises(AnswerRefusedError, match=why):
            orch.answer("ask", choice, by=by)
        assert orch.wait(PATIENCE)
        assert [(e.by, e.choice) for e in told.events] == [(by, choice)]
        assert why in orch.get_task_status("ask").history[-1].detail
        assert len(orch.questions()) == 1


def test_the_end_of_its_time_is_no_no() -> None:
    with TaskOrchestrator() as orch:
        nobody = orch.submit_task(Task.question("a?", due=0.01))
        otherwise = orch.submit_task(
            Task.question("b?", options=("go", "stay"), due=0.01, default="stay")
        )
        with pytest.raises(TaskTimeoutError):
            nobody.result(PATIENCE)
        said = otherwise.result(PATIENCE)
        assert (said.choice, said.by, said.timed_out) == ("stay", (), True)


def test_a_question_that_nobody_can_decide_any_more_fails() -> None:
    with TaskOrchestrator() as orch:
        handle = orch.submit_task(
            ask(options=("left", "right"), who=("ada", "bob"), quorum=2)
        )
        assert not orch.answer("ask", "left", by="ada")
        assert orch.answer("ask", "right", by="bob")
        with pytest.raises(TaskFailedError, match="no choice can have 2"):
            handle.result(PATIENCE)


def test_it_is_brought_to_mind_until_it_is_answered() -> None:
    with TaskOrchestrator() as orch:
        told = Recorder(orch, "question_asked", "question_reminded")
        orch.submit_task(ask(remind=0.01))
        told.wait_for(3)
        asked, first, second = told.events[:3]
        assert asked.text == "deploy?"
        assert (first.times, second.times) == (1, 2)
        assert orch.answer("ask", "approve", by="ada")


def test_nobody_gets_round_the_rules() -> None:
    with TaskOrchestrator() as orch:
        orch.submit_task(ask(quorum=2))
        with pytest.raises(InvalidTaskError, match="not everybody may complete it"):
            orch.decide("ask", "complete")
        with pytest.raises(InvalidTaskError, match="people answer a question"):
            orch.emit("answer to deploy?")
        with pytest.raises(InvalidTaskError, match="people answer a question"):
            orch.emit("approval of release/build")
        assert orch.cancel_task("ask")
        with pytest.raises(InvalidTaskError, match="is no question"):
            orch.answer(orch.submit(int).task_id, "approve", by="ada")


@pytest.mark.parametrize(
    "wrong",
    [
        {"options": ()},
        {"quorum": 0},
        {"quorum": 2, "who": "ada"},
        {"who": ("ada",), "not_by": ("ada",)},
        {"not_by": "requester"},
        {"no": ("never",)},
        {"default": "reject", "due": 5},
        {"default": "maybe", "due": 5},
        {"default": "approve"},
        {"due": "tomorrow"},
        {"remind": 0},
        {"who": 5},
        {"who": ("ada", "")},
        {"asked_by": "a:da"},
        {"asked_by": "a\nda"},
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidTaskError):
        ask(**wrong)


@pytest.mark.parametrize("text", ["", " ", 5, "two\nlines", "x" * 401])
def test_what_is_no_question_is_refused(text: Any) -> None:
    with pytest.raises(InvalidTaskError):
        Task.question(text)


def test_what_cannot_be_printed_in_a_question_is_named() -> None:
    with pytest.raises(InvalidTaskError, match=r"cannot be printed: 'Ok .ud800"):
        Task.question("Ok \ud800?")


def test_an_answer_that_is_not_well_formed_is_refused() -> None:
    with TaskOrchestrator() as orch:
        orch.submit_task(ask())
        wrong: list[dict[str, Any]] = [
            {"by": ""},
            {"by": 5},
            {"by": "ada", "note": "a\x1b[0m"},
            {"by": "ada", "changes": {"a": {1, 2}}},
            {"by": "ada", "changes": [1]},
        ]
        for each in wrong:
            with pytest.raises(InvalidTaskError):
                orch.answer("ask", "approve", **each)
        with pytest.raises(InvalidTaskError):
            orch.answer("ask", 5, by="ada")  # type: ignore[arg-type]
        assert orch.questions()[0].answer("approve", by="ada", changes={"a": [1]})


def test_an_approval_has_the_rules_of_a_question() -> None:
    with TaskOrchestrator() as orch:
        told = Recorder(orch, "question_asked")
        wf = Workflow("release")
        gate = Approval(who=("ada", "bob", "cy"), quorum=2, not_by="cy")
        wf.phase("build", gate=gate).task(int, id="a")
        wf.phase("ship").task(int, id="b")
        run = orch.workflows.start(wf, id="r1")
        assert orch.wait(PATIENCE)
        with pytest.raises(AnswerRefusedError, match="cy may not"):
            orch.workflows.approve("r1", "build", by="cy")
        assert not orch.workflows.approve("r1", "build", by="ada")
        (question,) = orch.questions()
        assert question.votes == (("ada", "approve"),)
        assert question.answer("approve", by="bob")
        assert run.result(PATIENCE)["b"] == 0
        assert [event.text for event in told.events] == ["approve build of r1?"]


@pytest.mark.parametrize(
    ("result", "verdicts"),
    [
        ({"passed": True, "by": "x"}, [("x", True)]),
        ({"passed": False, "by": "x", "note": "no", "checks": []}, [("x", False)]),
        ({"passed": True, "by": "x", "checks": [["a", True, ""]]}, [("x", True)]),
        *(
            ({"passed": True, "by": "x"} | wrong, [])
            for wrong in (
                *({"passed": "no"}, {"passed": 1}, {"by": None}, {"note": 5}),
                *({"checks": 5}, {"checks": [5]}, {"checks": "abc"}),
                *({"checks": {"a": 1}}, {"checks": [["a", "yes", ""]]}),
                *({"checks": [["a", True]]}, {"checks": [["a", False, None]]}),
            )
        ),
        ({"passed": True}, []),
        (5, []),
    ],
)
def test_an_approval_with_a_result_of_the_callers_is_no_verdict_unless_it_says_one(
    result: object, verdicts: list[tuple[str, bool]]
) -> None:
    with TaskOrchestrator() as orch:
        wf = Workflow("w")
        wf.phase("p", gate=Approval()).task(int, id="a")
        run = orch.workflows.start(wf, id="r")
        eventually(orch.questions)
        orch.decide("r/p/approval", "complete", result)
        is_passed = [passed for _, passed in verdicts] != [False]
        status = run.status().phases["p"]
        assert status.verdict == ("passed" if is_passed else "failed")
        report = run.report()
        (phase,) = report.phases
        said = [(each.by, each.passed) for each in phase.verdicts if each.by != "gate"]
        assert said == verdicts
        assert report.to_markdown()
        assert report.to_dict()


DOCUMENT = """
workflow: release
phases:
  ship: {gate: [{approval: {who: [ada, bob], quorum: 2, timeout: 60, remind: 9}}]}
tasks:
  ready:
    question: deploy?
    options: [go, "no", later]
    who: [ada, bob, cy]
    quorum: 2
    owner: cy
    not_by: requester
    due: 600
    default: later
    remind: 60
    details: {version: "1.2"}
  ship: {type: t, payload: 1, after: [ready], phase: ship}
"""


def test_a_question_in_a_document() -> None:
    pytest.importorskip("yaml")
    workflow = Workflow.from_yaml(DOCUMENT)
    said = workflow.to_dict()
    assert said == Workflow.from_dict(said).to_dict()
    assert said["phases"]["ship"]["gate"] == [
        {"approval": {"timeout": 60, "who": ["ada", "bob"], "quorum": 2, "remind": 9}}
    ]
    asked = said["tasks"]["ready"]
    assert (asked["not_by"], asked["default"]) == (["cy"], "later")
    with TaskOrchestrator(unknown_capability="wait") as orch:
        orch.agent("a", capabilities=["t"])(lambda task, _context: task.payload)
        run = orch.workflows.start(workflow, id="r")
        eventually(orch.questions)
        (question,) = orch.questions()
        assert (question.text, question.quorum) == ("deploy?", 2)
        assert question.details == {"version": "1.2"}
        with pytest.raises(AnswerRefusedError, match="cy"):
            question.answer("go", by="cy")
        assert not question.answer("go", by="ada")
        assert question.answer("go", by="bob")
        eventually(orch.questions)
        for name in ("ada", "bob"):
            assert orch.answer("r/ship/approval", "approve", by=name) == (name == "bob")
        run.result(PATIENCE)


@pytest.mark.parametrize(
    ("said", "path", "words"),
    [
        ({"question": "x?", "optoins": ["a"]}, "tasks.q", "did you mean 'options'"),
        ({"question": "x?", "timeout": 3}, "tasks.q.timeout", "due"),
        ({"question": "x?", "quorum": 0}, "tasks.q.quorum", "from 1"),
        ({"question": "", "due": 3}, "tasks.q.question", "a text is needed"),
        ({"question": "x?", "due": "soon"}, "tasks.q.due", "a number above 0"),
        (
            {"question": "x?", "default": "z", "due": 1},
            "tasks.q.question",
            "default: 'z'",
        ),
        (
            {"question": "x?", "default": "approve"},
            "tasks.q.question",
            "there is no due",
        ),
    ],
)
def test_a_question_that_a_document_says_wrongly(
    said: dict[str, Any], path: str, words: str
) -> None:
    with pytest.raises(ValidationFailedError) as caught:
        Workflow.from_dict({"tasks": {"q": said}})
    ((where, what),) = caught.value.findings
    assert where == path
    assert words in what


@pytest.mark.parametrize("by", ["Cy", " cy", "CY ", "\uff43\uff59"])
def test_who_may_not_answer_may_not_under_a_name_that_looks_alike(by):
    with TaskOrchestrator() as orch:
        orch.submit_task(Task.question("go?", id="q", not_by="cy"))
        with pytest.raises(AnswerRefusedError, match="may not answer"):
            orch.answer("q", "approve", by=by)
        orch.answer("q", "approve", by="ada")


def test_one_person_is_no_quorum_under_two_names():
    with TaskOrchestrator() as orch:
        asked = orch.submit_task(Task.question("go?", id="q", quorum=2))
        orch.answer("q", "approve", by="ada")
        with pytest.raises(AnswerRefusedError, match="answered before"):
            orch.answer("q", "approve", by="Ada")
        orch.answer("q", "approve", by="bob")
        assert asked.result(PATIENCE).by == ("ada", "bob")
