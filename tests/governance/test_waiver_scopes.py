"""Which waivers count, as a fold over what has happened: no orchestrator is needed."""

import re
import time
from fnmatch import fnmatchcase

import pytest
from hypothesis import example, given, strategies as st

from taskorch.governance import Operation
from taskorch.governance._waivers import WaiverBook, WaiverRequest, matcher
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


def test_a_waiver_covers_its_policy_and_no_other():
    made = book(("p", "*", ()))
    assert covers(made, "p", "x") == "w0"
    assert covers(made, "q", "x") is None
    assert covers(made, "", "x") is None


def test_a_pattern_means_the_whole_id_and_is_no_part_of_everything():
    made = book(
        ("p", "maintenance/*", ()), ("p", "load", ()), ("q", "maintenance_*", ())
    )
    assert covers(made, "p", "maintenance/x")
    assert covers(made, "p", "load")
    assert covers(made, "p", "load~2"), "all runs of a task have its id"
    assert covers(made, "q", "maintenance_x")
    for other in (
        "xmaintenance/x",
        "maintenance",
        "x/maintenance/x",
        "loads",
        "reload",
    ):
        assert covers(made, "p", other) is None
    # What the operation says elsewhere is not looked at.
    operation = Operation(type="load", id="a", payload={"text": "load maintenance/x"})
    assert made.covers("p", operation, 10.0) is None


def test_types_narrow_it():
    made = book(("p", "*", ("deploy", "maintenance_*")))
    assert covers(made, "p", "x", "deploy")
    assert covers(made, "p", "x", "maintenance_night")
    assert covers(made, "p", "x", "deployment") is None
    assert covers(made, "p", "x") is None


def test_it_counts_until_it_expires_and_not_at_that_moment():
    made = book(("p", "*", ()), expires=50)
    assert covers(made, "p", "x", at=49.999)
    assert covers(made, "p", "x", at=50.0) is None
    assert made.at("w0", 49 * S).state == "active"
    assert made.at("w0", 50 * S).state == "expired"


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


@given(
    st.text("ab/*?[]-~2", min_size=1, max_size=8),
    st.text("ab/-2", min_size=0, max_size=8),
)
@example("*[!a]b", "xxcb")
@example("a]b*", "a]bc")
def test_the_index_finds_what_the_pattern_matches(pattern, name):
    made = book(("p", pattern, ()))
    assert bool(covers(made, "p", name)) == fnmatchcase(name, pattern)


def test_no_pattern_explodes():
    match = matcher("*a" * 60 + "b")
    began = time.thread_time()
    assert match("a" * 10_000) is None
    assert time.thread_time() - began < 5
    assert re.fullmatch("(a+)+b", "a" * 10 + "b")


@pytest.mark.parametrize(
    "pattern",
    [
        lambda n: f"nightly/{n}/load",
        lambda n: f"maintenance/{n}/*",
        lambda n: f"*-x{n}",
        lambda n: "batch/*/x?",
    ],
)
def test_a_thousand_waivers_cost_little(pattern):
    """Of a thousand, few are compared: as many times more would take as much longer."""

    def seconds(many):
        made = WaiverBook()
        for number in range(many):
            put_in_force(made, f"w{number}", f"p{number % 10}", pattern(number))
        operation = Operation(id="batch/77/y9", type="t")
        times = []
        for _ in range(5):
            began = time.thread_time()
            for policy in range(10):
                made.covers(f"p{policy}", operation, 5.0)
            times.append(time.thread_time() - began)
        return min(times)

    assert seconds(1_000) < 20 * seconds(10) + 1e-3
