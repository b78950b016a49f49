"""Whose question an answer is for: of what was asked again, the one that was shown."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.api.tools import PATIENCE, eventually
from tests.ext.command_line.tools import taskorch
from tests.ext.notices.test_notifying import Asks, Hook
from tests.ext.service.tools import Service

from taskorch import InvalidTaskError, Task, TaskOrchestrator, Workflow, current_context
from taskorch.api.workflows import Approval
from taskorch.errors import AnswerRefusedError, UnknownTaskError
from taskorch.ext.service import create_app, serve

#: What is loaded: each re-run may find other data.
TOTAL: list[int] = []
#: What the next attempts fail with.
WORDS: list[str] = []
SIGN_OFF = "r/sign-off"
ASKS: Any = Asks()


def extract() -> int:
    return TOTAL[-1]


def gate(total: int) -> Any:
    asked = Task.question("Load it?", id="sign-off", details={"total": total})
    run: Any = current_context().workflow
    return run.add(asked)


def load(total: int) -> str:
    return f"loaded {total}"


def flow() -> Workflow:
    wf = Workflow("load")
    total = wf.task(extract, id="extract")
    wf.task(load, total, id="load", after=[wf.task(gate, total, id="gate")])
    return wf


def is_asked(orch: TaskOrchestrator, total: int) -> bool:
    return [each.details for each in orch.questions()] == [{"total": total}]


def ask_again(orch: TaskOrchestrator, total: int) -> None:
    """Run all of it with other data, and wait for what is asked of that."""
    TOTAL.append(total)
    orch.rerun_task("r/extract", downstream=True)
    eventually(lambda: is_asked(orch, total))


@pytest.fixture
def asked_twice() -> Iterator[TaskOrchestrator]:
    """Somebody has approved 100; now 999,999 waits for an answer."""
    TOTAL[:] = [100]
    with TaskOrchestrator() as orch:
        orch.workflows.start(flow(), id="r")
        eventually(lambda: is_asked(orch, 100))
        assert orch.answer(SIGN_OFF, "approve", by="ada")
        orch.wait(PATIENCE)
        ask_again(orch, 999_999)
        yield orch
        orch.stop(drain=False)


def refused(answer: Callable[[], object]) -> str:
    """All that the refusal of an answer says."""
    with pytest.raises(AnswerRefusedError) as caught:
        answer()
    return f"{caught.value.message} {caught.value.hint}"


def test_an_answer_to_the_bare_id_lets_nothing_in_that_was_not_shown(
    asked_twice: TaskOrchestrator,
) -> None:
    orch = asked_twice
    for answer in (
        lambda: orch.answer(SIGN_OFF, "approve", by="bob"),
        lambda: orch.decide(SIGN_OFF, "complete"),
    ):
        said = refused(answer)
        assert "asked 2 times" in said
        # It shows what is open now, and how that is answered.
        assert "r/sign-off~2: Load it? ({'total': 999999})" in said
        assert "orch.answer('r/sign-off~2', CHOICE, by=…)" in said
    assert is_asked(orch, 999_999)
    assert "orch.answer('r/sign-off~2'" in str(orch.explain(SIGN_OFF))
    (question,) = orch.questions()
    assert question.id == "r/sign-off~2"
    assert orch.answer(question.id, "approve", by="bob")
    assert orch.handle("r/load").result(PATIENCE) == "loaded 999999"


def test_an_answer_to_an_earlier_one_is_refused_with_the_open_one(
    asked_twice: TaskOrchestrator,
) -> None:
    orch = asked_twice
    (second,) = orch.questions()
    ask_again(orch, 5)
    for said in (
        refused(lambda: orch.answer("r/sign-off~1", "approve", by="eve")),
        refused(lambda: second.answer("approve", by="eve")),
    ):
        assert "comes too late" in said
        assert "run again since, as r/sign-off~3" in said
        assert "open now is r/sign-off~3: Load it? ({'total': 5})" in said
    # The history of what was asked says so, too.
    assert "too late" in orch.get_task_status("r/sign-off~1").history[-1].detail
    with pytest.raises(UnknownTaskError):
        orch.answer("r/sign-off~4", "approve", by="eve")
    assert is_asked(orch, 5)


def test_a_question_that_is_put_aside_waits_for_no_answer() -> None:
    with TaskOrchestrator() as orch:
        orch.submit_task(Task.question("Ship?", id="ask"))
        orch.suspend_task("ask")
        assert orch.questions() == []
        assert "it is suspended" in refused(
            lambda: orch.answer("ask", "approve", by="ada")
        )
        orch.resume_task("ask")
        (question,) = orch.questions()
        assert question.answer("approve", by="ada")


def approvals() -> Workflow:
    wf = Workflow("release")
    wf.phase("build", gate=Approval()).task(int, id="a")
    wf.phase("ship").task(int, id="b")
    return wf


def test_of_an_approval_that_is_asked_again_the_phase_says_which(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path) as orch:
        orch.workflows.start(approvals(), id="r")
        eventually(orch.questions)
        (first,) = orch.questions()
        assert orch.workflows.reject("r", "build", by="ada")
        orch.wait(PATIENCE)
        orch.workflows.restart("r")
        eventually(orch.questions)
        for answer in (
            lambda: orch.workflows.approve("r", "build", by="bob"),
            lambda: orch.workflows.reject("r", "build", by="bob"),
            lambda: orch.workflows.approve("r", "build~1", by="bob"),
            lambda: orch.answer("r/build/approval", "approve", by="bob"),
            lambda: first.answer("approve", by="bob"),
        ):
            assert "open now is r/build/approval~2: approve build" in refused(answer)
        (asked,) = orch.questions()
        assert asked.id == "r/build/approval~2"
        words = "orch.workflows.approve('r', 'build~2', by=…)"
        assert words in str(orch.explain("r/build/approval"))
        orch.stop(drain=False)
    # What explain says of it can be typed as it stands; the bare name can not.
    told = taskorch(capsys, "explain", path, "r/build/approval")[1]
    assert f"taskorch approve {path} r/build~2 --by NAME" in told
    code, _, wrong = taskorch(capsys, "approve", path, "r/build", "--by", "bob")
    assert code == 2
    assert f"taskorch answer {path} r/build/approval~2 CHOICE" in wrong
    for name in ("r/build/approval~1", "r/build~1"):
        assert taskorch(capsys, "approve", path, name, "--by", "bob")[0] == 2
    assert taskorch(capsys, "approve", path, "r/build~2", "--by", "bob")[0] == 0
    assert taskorch(capsys, "questions", path)[1].startswith("No question")


@contextmanager
def service(orch: TaskOrchestrator) -> Iterator[tuple[Service, str]]:
    app = create_app(orch, token=None)
    with serve(app, port=0) as server:
        yield Service(orch, server, None), f"http://127.0.0.1:{server.port}"


def test_over_http_and_at_a_command_line_it_is_the_same(
    asked_twice: TaskOrchestrator, capsys: pytest.CaptureFixture[str]
) -> None:
    orch = asked_twice
    with service(orch) as (there, url):
        said = {"choice": "approve", "by": "bob"}
        for name in ("r%2Fsign-off", "r%2Fsign-off~1"):
            answer = there.post(f"/api/v1/tasks/{name}/answer", said)
            assert (answer.status, answer.said["code"]) == (409, "answer_refused")
            assert "POST /api/v1/tasks/r%2Fsign-off~2/answer" in answer.said["hint"]
            assert "999999" in answer.said["hint"]
        answer = there.post(
            "/api/v1/tasks/r%2Fsign-off/decision", {"verdict": "complete"}
        )
        assert (answer.status, answer.said["code"]) == (409, "answer_refused")
        code, _, wrong = taskorch(
            *(capsys, "answer", url, SIGN_OFF, "approve", "--by", "bob")
        )
        assert (code, "r/sign-off~2" in wrong) == (2, True)
        _, listed, _ = taskorch(capsys, "questions", url)
        assert listed.startswith("r/sign-off~2: Load it?")
        assert f"taskorch answer {url} r/sign-off~2 CHOICE --by NAME" in listed
        assert is_asked(orch, 999_999)
        (asked,) = there.get("/api/v1/questions")["questions"]
        name = asked["id"].replace("/", "%2F")
        answer = there.post(f"/api/v1/tasks/{name}/answer", said)
        assert answer.said == {"decided": True}
        assert orch.handle("r/load").result(PATIENCE) == "loaded 999999"


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()
    yield made
    made.close()


def messages(hook: Hook, kind: str) -> list[dict[str, Any]]:
    said = [json.loads(body) for _, body in hook.got]
    return [each for each in said if each["message_type"] == kind]


def test_a_message_names_what_it_shows(hook: Hook) -> None:
    TOTAL[:] = [1]
    with TaskOrchestrator() as orch:
        orch.notify(hook.url, allow_private=True, about=["question"])
        orch.workflows.start(flow(), id="r")
        eventually(lambda: len(messages(hook, "question")) == 1)
        first = messages(hook, "question")[0]
        assert orch.answer(first["id"], "approve", by="ada")
        orch.wait(PATIENCE)
        ask_again(orch, 2)
        eventually(lambda: len(messages(hook, "question")) == 2)
        second = messages(hook, "question")[1]
        assert [each["details"] for each in (first, second)] == [
            {"total": 1},
            {"total": 2},
        ]
        refused(lambda: orch.answer(first["id"], "approve", by="bob"))
        assert orch.answer(second["id"], "approve", by="bob")


def fail() -> None:
    raise LookupError(WORDS[-1])


def test_an_answer_to_a_failure_is_for_the_one_that_was_shown(hook: Hook) -> None:
    """Of what fails once more, another person may be asked about something else."""
    WORDS[:] = ["no table"]
    with TaskOrchestrator(retry_handler=ASKS) as orch:
        orch.notify(hook.url, allow_private=True, about=["escalation"])
        orch.submit_task(Task.call(fail, id="load"))
        eventually(orch.escalations)
        (first,), (shown,) = orch.escalations(), orch.questions()
        assert first.id == shown.id == "escalation/load"
        WORDS.append("no disk")
        # What is answered before it was sent is not sent any more.
        eventually(lambda: len(messages(hook, "escalation")) == 1)
        assert orch.answer("escalation/load", "retry", by="ada")
        eventually(lambda: len(messages(hook, "escalation")) == 2)
        (second,) = orch.escalations()
        assert second.id == "escalation/load@2"
        for answer in (
            lambda: orch.answer("escalation/load", "skip", by="bob"),
            lambda: first.answer("skip", by="bob"),
            lambda: shown.answer("skip", by="bob"),
        ):
            said = refused(answer)
            assert "failed once more" in said
            assert "orch.answer('escalation/load@2', CHOICE, by=…)" in said
        # Once more for the same cause: somebody is told of that, too.
        assert second.answer("retry", by="ada")
        eventually(lambda: len(messages(hook, "escalation")) == 3)
        (third,) = orch.questions()
        assert third.id == messages(hook, "escalation")[-1]["escalation_id"]
        assert third.answer("skip", by="ada")
        eventually(lambda: orch.get_task_status("load").state == "completed")


@pytest.mark.parametrize(
    "said",
    [
        {"changes": {"a": "x" * 10_000}},
        {"changes": {"a": ["x"] * 3_000}},
        {"note": "x" * 10_001},
        {"by": "x" * 201},
        {"choice": "x" * 201},
    ],
)
def test_what_an_answer_says_is_bounded(said: dict[str, Any]) -> None:
    """It is kept for good, and of an escalation with each of its tasks."""
    with TaskOrchestrator(retry_handler=ASKS) as orch:
        WORDS[:] = ["no table"]
        orch.submit_task(Task.question("Ship?", id="ask"))
        orch.submit_task(Task.call(fail, id="load"))
        eventually(orch.escalations)
        for name, choice in (("ask", "approve"), ("escalation/load", "skip")):
            with pytest.raises(InvalidTaskError) as caught:
                orch.answer(name, **{"choice": choice, "by": "ada", **said})
            assert len(str(caught.value)) < 1_000
        assert len(orch.questions()) == 2
        at_most = {"changes": {"a": "x" * 9_991}, "note": "x" * 10_000}
        assert orch.answer("ask", "approve", by="x" * 200, **at_most)
        assert orch.answer("escalation/load", "skip", by="ada")
