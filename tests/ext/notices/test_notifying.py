"""Who is told that people are asked something."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from tests.api.tools import PATIENCE, eventually

from taskorch import InvalidTaskError, Task, TaskOrchestrator
from taskorch.errors import AnswerRefusedError
from taskorch.protocols import RetryDecision

SECRET = "0123456789abcdef-secret"


class Hook:
    """A receiver on this machine, which answers as it is told."""

    def __init__(self) -> None:
        #: The status codes of the next answers; then it is 200.
        self.answers: list[int] = []
        self.got: list[tuple[dict[str, str], bytes]] = []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                size = int(self.headers["Content-Length"])
                hook.got.append((dict(self.headers), self.rfile.read(size)))
                status = hook.answers.pop(0) if hook.answers else 200
                self.send_response(status)
                if status in range(300, 400):
                    self.send_header("Location", hook.url)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url: str = f"http://127.0.0.1:{self.server.server_port}/hook?key=private"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()
    yield made
    made.close()


class Asks:
    """Asks a person about every failure."""

    def decide(self, failure: Any, _: Any) -> RetryDecision:
        return RetryDecision(retry=False, ask="what now?", kind=failure.kind)


def fail(number: int) -> int:
    msg = f"No module named 'cashcow' in batch {number}"
    raise ModuleNotFoundError(msg)


def utc(text: str) -> datetime:
    """The moment that a timestamp says, in the one form that all have."""
    assert text.endswith("Z")
    moment = datetime.fromisoformat(text)
    assert abs(moment - datetime.now(UTC)) < timedelta(days=1)
    return moment


def notification(orch: TaskOrchestrator) -> str:
    checks = orch.health().checks
    return next(c.detail for c in checks if c.component == "notification")


@pytest.mark.parametrize("attempts", [1, 2])
def test_a_message_is_tried_as_often_as_was_said(hook: Hook, attempts: int) -> None:
    hook.answers = [500] * 9
    with TaskOrchestrator() as orch:
        orch.notify(hook.url, allow_private=True, attempts=attempts)
        orch.submit_task(Task.question("load?", id="q"))
        eventually(lambda: "1 not delivered" in notification(orch))
        assert len(hook.got) == attempts
        orch.cancel_task("q")


def test_a_webhook_is_signed_and_tried_again(hook: Hook) -> None:
    hook.answers = [503]
    with TaskOrchestrator() as orch:
        told = orch.notify(hook.url, secret=SECRET, allow_private=True)
        orch.submit_task(Task.question("deploy?", id="ask", details={"v": 1}))
        eventually(lambda: told.delivered)
        first, second = hook.got
        assert first[0]["X-Taskorch-Delivery"] == second[0]["X-Taskorch-Delivery"]
        headers, body = second
        text = f"{headers['X-Taskorch-Timestamp']}.".encode() + body
        signed = hmac.new(SECRET.encode(), text, hashlib.sha256).hexdigest()
        assert headers["X-Taskorch-Signature"] == f"sha256={signed}"
        said = json.loads(body)
        assert (said["message_type"], said["id"]) == ("question", "ask")
        assert said["details"] == {"v": 1}
        assert utc(said["timestamp"])
        assert notification(orch) == ""
        assert orch.answer("ask", "approve", by="ada")


@pytest.mark.parametrize("secret", ["é" * 15, b"x" * 15, "x" * 15, "\ud800" * 16, 16])
def test_a_secret_is_long_enough_in_characters(secret: Any) -> None:
    with TaskOrchestrator() as orch:
        with pytest.raises(InvalidTaskError, match="at least 16 characters"):
            orch.notify("https://example.com/x", secret=secret)
        for enough in ("é" * 16, b"x" * 16):
            orch.notify("https://example.com/x", secret=enough).close()


@pytest.mark.parametrize(("status", "why"), [(302, "redirect"), (403, "403")])
def test_what_is_refused_is_not_tried_again_and_health_says_so(
    hook: Hook, status: int, why: str
) -> None:
    hook.answers = [status]
    with TaskOrchestrator() as orch:
        told = orch.notify(hook.url, allow_private=True)
        orch.submit_task(Task.question("deploy?", id="ask"))
        eventually(lambda: told.lost)
        assert len(hook.got) == 1
        assert why in notification(orch)
        assert "private" not in notification(orch)
        assert orch.submit(int).result(PATIENCE) == 0
        assert orch.cancel_task("ask")


def test_a_dead_receiver_holds_up_nothing(hook: Hook) -> None:
    url = hook.url
    with TaskOrchestrator() as orch:
        hook.close()
        told = orch.notify(url, allow_private=True, attempts=1)
        orch.submit_task(Task.question("deploy?", id="ask"))
        assert orch.submit(int).result(PATIENCE) == 0
        eventually(lambda: told.lost)
        assert orch.health().status == "degraded"
        assert orch.health().ready
        assert orch.answer("ask", "approve", by="ada")
    hook.__init__()  # type: ignore[misc]


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "https://[::1]/",
        "http://[::ffff:10.0.0.1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[64:ff9b::a00:1]/",
        "http://[64:ff9b:1::808:808]/",
        "http://[2002:7f00:1::]/",
        "http://[2002:a00:1::1]/",
        "http://[2002:a9fe:a9fe::]/",
        "http://[::127.0.0.1]/",
        "http://localhost:8080/",
        "http://169.254.169.254/latest",
        "https://user:word@example.com/",
        "https://",
        "example.com",
        "http://example.com:99999/",
        "nowhere-there-is://x",
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_address_inside_or_malformed_is_refused(url: str) -> None:
    with TaskOrchestrator() as orch, pytest.raises(InvalidTaskError):
        orch.notify(url)


@pytest.mark.parametrize("host", ["64:ff9b::808:808", "2002:808:808::", "2606:4700::1"])
def test_an_address_outside_is_taken_however_it_is_written(host: str) -> None:
    with TaskOrchestrator() as orch:
        assert orch.notify(f"https://[{host}]/")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_apprise_is_told_too(hook: Hook) -> None:
    pytest.importorskip("apprise")
    with TaskOrchestrator() as orch:
        url = f"json://127.0.0.1:{hook.server.server_port}/"
        told = orch.notify(url, allow_private=True)
        orch.submit_task(Task.question("deploy?", id="ask"))
        eventually(lambda: told.delivered)
        assert json.loads(hook.got[0][1])["title"] == "question: deploy?"
        assert orch.answer("ask", "approve", by="ada")


def test_a_thousand_tasks_behind_one_cause_are_told_once(hook: Hook) -> None:
    """And are answered once; what waits for them waits on meanwhile."""
    with TaskOrchestrator(retry_handler=Asks()) as orch:
        told = orch.notify(hook.url, allow_private=True)
        handles = [orch.submit(fail, number) for number in range(1_000)]
        after = orch.submit(str, handles[0])
        assert orch.wait(PATIENCE)
        eventually(lambda: told.delivered)
        (escalation,) = orch.escalations()
        assert len(escalation.tasks) == 1_000
        assert escalation.blocking_tasks == (after.task_id,)
        assert escalation.severity == "critical"
        (asked,) = orch.questions()
        assert asked.id == escalation.id
        assert utc(escalation.timestamp).timestamp() == pytest.approx(asked.asked_at)
        with pytest.raises(InvalidTaskError, match="is no resource"):
            escalation.answer("retry", by="ada", changes={"memry_mb": 5})
        assert escalation.answer("skip", by="ada", note="not needed")
        assert after.result(PATIENCE) == "None"
        assert orch.escalations() == []
        with pytest.raises(AnswerRefusedError, match="too late"):
            escalation.answer("retry", by="bob")
    (said,) = (json.loads(body) for _, body in hook.got)
    assert said["message_type"] == "escalation"
    assert said["timestamp"] == escalation.timestamp


def test_each_reminder_is_a_message_of_its_own(hook: Hook) -> None:
    with TaskOrchestrator() as orch:
        orch.notify(hook.url, allow_private=True)
        orch.submit_task(Task.question("load?", id="q", remind=0.01))
        eventually(lambda: len(hook.got) > 3)
        told = [json.loads(body) for _, body in hook.got]
        assert [each["message_type"] for each in told[:2]] == ["question", "reminder"]
        assert {each["id"] for each in told} == {"q"}
        numbers = {headers["X-Taskorch-Delivery"] for headers, _ in hook.got}
        assert len(numbers) == len(told)
        orch.cancel_task("q")
