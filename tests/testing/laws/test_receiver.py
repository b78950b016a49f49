"""check_receiver: right ones pass, and each planted mistake is named."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from tests.testing.laws.tools import violation

from taskorch.protocols import Receiver
from taskorch.testing.laws import check_receiver
from taskorch.testing.laws._case import laws_of

SECRET = "0123456789abcdef-secret"


def is_signed(headers, body):
    signed = f"{headers['X-Taskorch-Timestamp']}.".encode() + body
    mac = hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
    return hmac.compare_digest(headers.get("X-Taskorch-Signature", ""), f"sha256={mac}")


class Right:
    """It keeps each message once."""

    def __init__(self):
        self.messages = {}

    def __call__(self, headers, body):
        if not is_signed(headers, body):
            return 401
        self.messages[headers["X-Taskorch-Delivery"]] = json.loads(body)
        return 204


class KnowsNoAlerts(Right):
    def __call__(self, headers, body):
        kind = json.loads(body).get("message_type")
        return super().__call__(headers, body) if kind != "alert" else 500


class OnceOnly(Right):
    def __call__(self, headers, body):
        is_known = headers["X-Taskorch-Delivery"] in self.messages
        return 409 if is_known else super().__call__(headers, body)


class Strict(Right):
    def __call__(self, headers, body):
        is_new = "colour" in json.loads(body)
        return 400 if is_new else super().__call__(headers, body)


class Trusts(Right):
    def __call__(self, headers, body):
        return 200


class SignsNoTime(Right):
    """Whoever has heard a message may send it again at any time."""

    def __call__(self, headers, body):
        self.messages.setdefault(body, is_signed(headers, body))
        return 200 if self.messages[body] else 401


class AsksAgain(Right):
    def __call__(self, headers, body):
        return 429 if not is_signed(headers, body) else 200


def test_a_right_one_passes_and_has_a_message_of_each_kind():
    receiver = Right()
    check_receiver(receiver, secret=SECRET)
    kinds = {message["message_type"] for message in receiver.messages.values()}
    assert kinds >= {"question", "escalation", "failure", "recovered", "skipped"}


@pytest.mark.parametrize(
    ("made", "law"),
    [
        (KnowsNoAlerts, 1),
        (OnceOnly, 2),
        (Strict, 3),
        (Trusts, 4),
        (SignsNoTime, 4),
        (AsksAgain, 4),
    ],
)
def test_each_mistake_is_named(made, law):
    assert violation(check_receiver, made(), secret=SECRET).law == law


def test_one_that_is_slow_or_says_nothing_is_named():
    is_over = threading.Event()
    slow = violation(check_receiver, lambda *_: is_over.wait(), timeout=0.05)
    assert slow.law == 1
    is_over.set()
    assert violation(check_receiver, lambda *_: "OK").law == 0


def test_a_server_is_asked_by_its_address():
    receiver = Right()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(receiver(self.headers, body))
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/hook?key=private"
        check_receiver(url, secret=SECRET, examples=3)
        server.shutdown()
    assert receiver.messages


def test_its_laws_are_those_of_the_protocol():
    assert sorted(laws_of(Receiver)) == [1, 2, 3, 4]
