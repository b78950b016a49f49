"""
A recovery, an action of an alert and a receiver of messages, each held to its laws.

The recovery tries again what could not connect, and leaves the rest to people; the
action lets two tasks start at once while the alert fires; the receiver keeps only
messages that are signed with the secret.
"""

import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from typing import Any

from taskorch import Task
from taskorch.ext.recovery import AlertRule
from taskorch.protocols import Failure
from taskorch.testing.laws import check_alert_rule, check_receiver, check_recovery

SECRET = "0123456789abcdef-secret"  # noqa: S105 - a made-up one
messages: dict[str, Any] = {}


def mend(task: Task, failure: Failure, context: object) -> str:
    return "retry" if isinstance(failure.error, ConnectionError) else "escalate"


def slow_down(orch: Any, alert: Any) -> Callable[[Any, Any], object]:
    orch.hold_starts(alert.message, by="slow down", most=2, lasts=False)
    return lambda orch, alert: orch.release_starts("slow down")


def receive(headers: Mapping[str, str], body: bytes) -> int:
    """Answer a message of a webhook; *headers* are those of the request."""
    signed = f"{headers['X-Taskorch-Timestamp']}.".encode() + body
    mac = hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
    signature = headers.get("X-Taskorch-Signature", "")
    if not hmac.compare_digest(signature, f"sha256={mac}"):
        return 401
    messages[headers["X-Taskorch-Delivery"]] = json.loads(body)
    return 204


def main() -> None:
    check_recovery(mend)
    rule = AlertRule.of("crowded", "task_queue_length > 99", action=slow_down)
    check_alert_rule(rule)
    check_receiver(receive, secret=SECRET)
    print("they keep their laws")


if __name__ == "__main__":
    main()
