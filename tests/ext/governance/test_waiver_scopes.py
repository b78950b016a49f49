"""Which waivers count, as a fold over what has happened: no orchestrator is needed."""

from taskorch.ext.governance import Operation
from taskorch.ext.governance._waivers import WaiverBook, WaiverRequest
from taskorch.model import Answer

S = 1_000_000_000


def book(*scopes, expires=100):
    """A book with waivers in force, each of `(policy, pattern, types)`."""
    made = WaiverBook()
    for number, (policy, pattern, types) in enumerate(scopes):
        put_in_force(made, f"w{number}", policy, pattern, types, expires)
    return made


def put_in_force(made, name, policy, pattern, types=(), expires=100, since=1):
    request = WaiverRequest(
        "answer to it",
        text="it?",
        asked_by="ada",
        policy_id=policy,
        pattern=pattern,
        types=types,
        expires_ns=int(expires * S),
        reason="why",
    )
    made.ask(name, request)
    kept = request.keeps(name, Answer("approve", ("bob",)), since * S)
    if kept is not None:
        made.take_in(*kept[1:])


def covers(made, policy, task_id="", kind="", at=10.0):
    return made.covers(policy, Operation(id=task_id, type=kind), at)


def test_an_approval_that_comes_when_it_has_expired_puts_nothing_in_force():
    made = WaiverBook()
    put_in_force(made, "w", "p", "*", expires=50, since=50)
    assert covers(made, "p", "x", at=10.0) is None
    assert made.at("w", 50 * S).state == "expired"


def test_what_is_revoked_covers_nothing_in_whatever_order_it_is_told():
    for order in (1, -1):
        request = WaiverRequest(
            "answer to it", text="it?", policy_id="p", expires_ns=100 * S
        )
        _, *kept = request.keeps("w", Answer("approve", ("bob",)), 1)
        revoked = "w revoked", {"by": "cyd", "reason": "done", "at_ns": 5 * S}
        made = WaiverBook()
        for name, value in [kept, revoked][::order]:
            made.take_in(name, value)
        assert covers(made, "p", "x") is None
        waiver = made.at("w", 10 * S)
        assert (waiver.state, waiver.ended_by, waiver.ended_for) == (
            "revoked",
            "cyd",
            "done",
        )


def test_of_several_another_still_covers():
    made = book(("p", "a*", ()), ("p", "*b", ()), ("p", "ab", ()))
    for name in ("w0", "w2"):
        made.take_in(f"{name} revoked", {"by": "c", "reason": "r", "at_ns": S})
    assert covers(made, "p", "ab") == "w1"
    assert covers(made, "p", "ac") is None
