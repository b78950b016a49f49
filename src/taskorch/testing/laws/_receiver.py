"""Whether what takes the messages of `orch.notify` keeps its laws."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Mapping
from concurrent.futures import wait
from functools import partial
from random import Random
from typing import Any, Final
from urllib.parse import urlsplit

from taskorch._telling.notifying import KINDS, headers_of
from taskorch.protocols import Receiver
from taskorch.testing.laws._case import Case, brief, cases
from taskorch.testing.laws._home import elsewhere

_GOOD: Final = range(200, 300)
_BAD: Final = range(400, 500)
#: A message that is answered so is sent again.
_AGAIN: Final = (408, 425, 429)
_TIME: Final = "2026-01-01T03:00:00.000000Z"
#: What people are asked, in a message of a question and of an escalation.
_ASKED: Final[Mapping[str, Any]] = {
    "id": "approval",
    "text": "deploy to production?",
    "options": ["approve", "reject"],
    "who": ["ada", "bob"],
    "quorum": 2,
    "not_by": [],
    "asked_at": 1_767_236_400.0,
    "due": None,
    "votes": [["ada", "approve"]],
    "details": {"version": "1.2"},
    "kind": "question",
    "tasks": ["approval"],
    "blocking_tasks": ["deploy"],
    "whom": "ada and bob may answer; 2 must agree",
    "answer_to": "approval~1",
}
#: What is known of a failure.
_FAILURE: Final[Mapping[str, Any]] = {
    "issue_type": "import_error",
    "severity": "high",
    "context": {"error_type": "ModuleNotFoundError", "attempts": 3},
    "system_state": {"queued_tasks": 1, "running_tasks": 0},
    "recommended_actions": ["Abort it"],
}
#: Beside its kind, number and time, what a message of each kind says.
_FIELDS: Final[Mapping[str, Mapping[str, Any]]] = {
    "question": _ASKED,
    "escalation": {
        **_ASKED,
        **_FAILURE,
        "id": "escalation/load",
        "escalation_id": "escalation/load",
        "answer_to": "escalation/load@1",
        "kind": "escalation",
        "text": "import_error: 3 attempts have failed.",
        "question": "import_error: 3 attempts have failed.",
        "task_id": "load",
        "tasks": ["load"],
        "options": ["retry", "skip", "abort", "complete"],
        "who": None,
        "quorum": 1,
        "votes": [],
        "whom": "anybody may answer",
        "details": _FAILURE,
    },
    "failure": {
        "id": "nightly/2026-01-01T0300Z",
        "text": "task nightly/2026-01-01T0300Z failed: OSError: no disk",
        "task_id": "nightly/2026-01-01T0300Z",
        "schedule": "nightly",
        "run": "",
    },
    "recovered": {
        "id": "nightly/2026-01-02T0300Z",
        "text": "schedule nightly is well again after 1 failure",
        "task_id": "nightly/2026-01-01T0300Z",
        "schedule": "nightly",
    },
    "blocked": {
        "id": "load",
        "text": "task load is blocked, and a person must decide",
        "task_id": "load",
        "schedule": None,
        "run": "",
    },
    "skipped": {
        "id": "nightly/2026-01-01T0300Z",
        "text": "schedule nightly: the slot did not happen",
        "schedule": "nightly",
        "slots": 2,
        "reason": "the one before has not ended",
    },
    "alert": {
        "id": "high_failure_rate/raised",
        "text": "alert high_failure_rate: failure_rate is 0.5; no new task starts",
        "name": "high_failure_rate",
        "severity": "critical",
        "action": "pause_new_tasks",
        "state": "raised",
    },
}


def check_receiver(
    receiver: Receiver | str,
    *,
    secret: str | bytes | None = None,
    timeout: float = 10.0,
    seed: int = 0,
    examples: int = 30,
) -> None:
    """
    Check the laws of Receiver.

    It gets messages of all kinds, some of them twice, some with fields and kinds that
    there are not yet; and with a *secret*, such as somebody else might send. So it is
    to be one that does no harm with them: that of a test.

    Args:
        receiver: What answers a request, given its headers and its body; or the URL of
            a server that runs.
        secret: What `orch.notify` is given as its `secret`.
        timeout: Seconds in which an answer comes.
        seed: Of the messages.
        examples: How many.

    Raises:
        LawViolation: A law is broken.
        Exception: What it raised, with a note.
    """
    answer = (
        partial(_post, receiver, timeout) if isinstance(receiver, str) else receiver
    )
    key = secret.encode() if isinstance(secret, str) else secret
    for case in cases(Receiver, "check_receiver", seed, examples):
        kind = KINDS[case.number % len(KINDS)]
        message = _some_message(case.random, kind)
        ask = partial(_answer, case, answer, timeout)
        _expect_taken(case, ask(message, key), message, 1)
        if case.number % 2:
            _expect_taken(case, ask(message, key), message, 2)
        newer = {**message, "message_id": f"{case.number:032x}", "colour": {"a": [1]}}
        if case.random.random() < 0.5:  # noqa: PLR2004 - a half
            newer["message_type"] = "greeting"
        _expect_taken(case, ask(newer, key), newer, 3)
        if key is not None:
            _check_signed(case, ask, message, key)


def _some_message(dice: Random, kind: str) -> dict[str, Any]:
    fields = _FIELDS["question" if kind == "reminder" else kind]
    number = f"{dice.getrandbits(128):032x}"
    start = {"message_id": number, "message_type": kind, "timestamp": _TIME}
    return {**start, **fields}


def _expect_taken(case: Case, status: int, message: object, law: int) -> None:
    case.expect(status in _GOOD, law, f"It answered {status} to {brief(message)}.")


def _check_signed(
    case: Case, ask: Callable[..., int], message: dict[str, Any], key: bytes
) -> None:
    """What nobody has signed, or not so, is refused for good."""
    forged = {
        "without a signature": ask(message, None),
        "signed with another secret": ask(message, key + b"?"),
        "with another body": ask(message, key, body=b" "),
        "with another time": ask(message, key, at=1.0),
        "with an empty signature": ask(message, None, signature=""),
    }
    for how, status in forged.items():
        is_right = status in _BAD and status not in _AGAIN
        case.expect(is_right, 4, f"It answered {status} to a message {how}.")


def _answer(
    case: Case,
    answer: Receiver,
    timeout: float,
    message: dict[str, Any],
    key: bytes | None,
    *,
    body: bytes = b"",
    at: float | None = None,
    signature: str | None = None,
) -> int:
    """The status of the answer to *message*, which is forged if the others say so."""
    whole = json.dumps(message).encode()
    headers = headers_of(whole, message["message_id"], 1_767_236_400.0, key)
    if at is not None:
        headers["X-Taskorch-Timestamp"] = str(int(at))
    if signature is not None:
        headers["X-Taskorch-Signature"] = signature
    asked = elsewhere(partial(answer, headers, whole + body))
    wait([asked], timeout)
    case.expect(asked.done(), 1, f"It did not answer within {timeout:g} s.")
    with case.noted(message=message):
        status: object = asked.result()
    if not isinstance(status, int):
        says = "it answers with the status of an answer of HTTP."
        case.fail(0, f"It answered {brief(status)}.", says=says)
    return status


def _post(url: str, timeout: float, headers: Mapping[str, str], body: bytes) -> int:
    parts = urlsplit(url)
    is_safe = parts.scheme == "https"
    kind = http.client.HTTPSConnection if is_safe else http.client.HTTPConnection
    connection = kind(parts.netloc, timeout=timeout)
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", path, body, dict(headers))
        return connection.getresponse().status
    finally:
        connection.close()
