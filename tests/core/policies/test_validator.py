"""StructuralValidator and ValidatorChain."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

import attrs
import pytest
from hypothesis import given, strategies as st
from tests.core.policies.fakes import FakeContext

from taskorch.errors import InvalidTaskError
from taskorch.model import Call, Resources, RetryPolicy, Task
from taskorch.policies import StructuralValidator, ValidatorChain
from taskorch.protocols import Finding, Validator, Verdict

VALIDATOR = StructuralValidator()
#: For calls that type checkers would refuse.
AnyCall: Any = Call
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
NAIVE = datetime(2030, 1, 1, 12)  # noqa: DTZ001 - the fault that is to be found


def validate(task):
    return VALIDATOR.validate(task, FakeContext())


def paths(task):
    return [finding.path for finding in validate(task).findings]


def only(task):
    (finding,) = validate(task).findings
    return finding


class NoTimeZone(tzinfo):
    """A tzinfo that does not say how far it is from UTC."""

    def utcoffset(self, dt):
        return None


def test_they_are_validators():
    """Both have the methods of the protocol, and show themselves."""
    chain = ValidatorChain(VALIDATOR)

    assert isinstance(VALIDATOR, Validator)
    assert isinstance(chain, Validator)
    assert repr(chain) == "ValidatorChain(StructuralValidator())"


# ------------------------------------------------------------------- what is sound


@pytest.mark.parametrize(
    "task",
    [
        Task("t"),
        Task("t", owner="ann"),
        Task(
            "t", object(), priority=10**6, requires=["a"], timeout=1, idempotent=False
        ),
        Task("t", resources=Resources(cpu=1), retry=RetryPolicy(5)),
        Task.call(print, 1, kwargs={"end": ""}, executor="thread"),
        Task.program(["ls"]),
        Task("größe/<locals>.<lambda>"),
        Task("x" * 500, priority=-(10**6), requires=["y" * 500]),
    ],
)
def test_a_plain_task_is_accepted_for_all_like_it(task):
    """Where nothing is the task's own, the verdict can be kept."""
    assert validate(task) == Verdict(reusable=StructuralValidator)


@pytest.mark.parametrize(
    "own",
    [{"id": "x"}, {"expected": 5}, {"join": "any"}, {"on_parent_failure": "run"}],
)
def test_a_task_with_something_of_its_own_speaks_for_itself_alone(own):
    assert validate(Task("t", **own)) == Verdict()


@pytest.mark.parametrize(
    "own",
    [
        {"id": "a"},
        {"after": ["a"]},
        {"after": {"a": 1}},
        {"after": set()},
        {"deadline": 5},
        {"not_before": 0},
        {"idempotency_key": "k" * 200},
        {"id": "i" * 200},
        {"metadata": {}},
    ],
)
def test_what_is_the_tasks_own_is_checked_each_time(own):
    """Such a verdict is not kept."""
    assert validate(Task("t", **own)) == Verdict()


# ------------------------------------------------------------------- what is not


BAD = {
    "type": [
        "",
        " ",
        " a",
        "a\n",
        "a\x00b",
        "a\x7fb",
        "\ud800",
        "x" * 501,
        5,
        None,
        b"t",
    ],
    "id": ["", "../a", "a~2", "~", ".a", "a b", "x" * 201, 5, b"a"],
    "priority": [True, 1.0, "1", None, 10**6 + 1, -(10**6) - 1, 10**5000],
    "resources": [None, [("cpu", 1)], 5, 10**5000],
    "expected": [-1, float("nan"), float("inf"), 1e12, True, "5", NOON],
    "timeout": [0, -1, float("nan"), float("inf"), 1e12, 10**400, True, "5", NOON],
    "deadline": [0, -1, float("nan"), 1e12, True, "5", NAIVE, timedelta(-5)],
    "not_before": [-1, float("nan"), 1e12, True, "5", NAIVE, timedelta(-5)],
    "retry": [None, "3", {"max_attempts": 3}, RetryPolicy],
    "idempotency_key": ["", " ", "a\tb", "x" * 201, 5, b"k"],
    "idempotent": [None, 1, "yes"],
    "metadata": [5, "x", [("a", 1)]],
    "owner": ["", 5, "x" * 1000],
    "after": ["abc", b"abc", None, 5, 1.5, True, Task("x"), (x for x in ["a"])],
    "requires": ["abc", b"abc", 5, True, (x for x in ["a"])],
}
#: What is wrong inside a list is found at its place.
BAD_ITEMS = {
    "after": ["", "a b", "../a", "a~0", "a~x", "~2", None, 5, 1.5, True, b"a"],
    "requires": ["", " a", "a\n", "x" * 501, None, 5, b"a"],
}
FAULTS = [(path, value) for path, values in BAD.items() for value in values]


def replaced(path, value):
    return attrs.evolve(Task("t"), **{path: value})


@pytest.mark.parametrize(
    ("path", "value"), FAULTS, ids=[f"{p}-{i}" for i, (p, _) in enumerate(FAULTS)]
)
def test_every_fault_is_found(path, value):
    """One planted fault gives one finding, in its place, and no acceptance."""
    verdict = validate(replaced(path, value))

    assert [finding.path for finding in verdict.findings] == [path]
    assert verdict.findings[0].message
    assert not verdict.reusable
    assert not verdict.accepted


@pytest.mark.parametrize("path", BAD_ITEMS)
def test_every_fault_in_a_list_is_found_at_its_place(path):
    """Sound neighbours are not named."""
    values = ["sound", *BAD_ITEMS[path], "sound"]

    assert paths(replaced(path, values)) == [
        f"{path}[{i}]" for i in range(1, len(values) - 1)
    ]


@given(
    st.fixed_dictionaries(
        {}, optional={path: st.sampled_from(BAD[path]) for path in sorted(BAD)}
    )
)
def test_all_faults_are_found_at_once(faults):
    """Whatever is planted, exactly that is found, each once."""
    task = Task(**{"type": "t", **faults})

    assert sorted(paths(task)) == sorted(faults)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (replaced("after", "abc"), "a list of ids, handles or tasks is needed, not 'abc'"),
        (
            replaced("after", iter(["a"])),
            "a list of ids, handles or tasks is needed: this can be read once",
        ),
        (replaced("after", [None]), "an id, a handle or a task is needed, not None"),
        (replaced("requires", "gpu"), "a list of capabilities is needed, not 'gpu'"),
        (replaced("id", "a~2"), "'a~2': '~' is for re-runs, which the orchestrator names"),
        (replaced("priority", 1.5), "a whole number is needed, not 1.5"),
        (replaced("priority", 2_000_000), "it is not between -1,000,000 and 1,000,000"),
        (
            replaced("resources", [("cpu", 1)]),
            "Resources are needed, as in Resources(cpu=1), not [('cpu', 1)]",
        ),
        (
            replaced("retry", "3"),
            "a RetryPolicy is needed, as in RetryPolicy(max_attempts=3), not '3'",
        ),
        (
            replaced("timeout", 0),
            "0 seconds leaves no time at all; use None for no limit",
        ),
        (replaced("metadata", "secret"), "a mapping is needed, or None, not str"),
        (replaced("idempotent", 1), "True or False, not 1"),
        (replaced("idempotency_key", "k" * 300), "at most 200 characters are allowed, this has 300"),
        (replaced("type", " " + "x" * 500), f"' {'x' * 78}… is empty, or has a space at one end"),
        (replaced("type", "a\x00b"), r"'a\x00b' has characters that cannot be printed"),
        (replaced("resources", 10**5000), "Resources are needed, as in Resources(cpu=1), not an integer of about 5,000 digits"),
    ],
)  # fmt: skip
def test_a_finding_says_what_would_be_right(task, message):
    """The message names the value and the remedy."""
    assert only(task).message == message


@pytest.mark.parametrize("path", ["deadline", "not_before"])
@pytest.mark.parametrize("moment", [NAIVE, NOON.replace(tzinfo=NoTimeZone())])
def test_a_date_without_time_zone_is_refused_with_a_remedy(path, moment):
    """The remedy is how to give it one."""
    finding = only(replaced(path, moment))

    assert finding.path == path
    assert "no time zone" in finding.message
    assert "value.astimezone()" in finding.message


@pytest.mark.parametrize(
    ("call", "found"),
    [
        (AnyCall(5), ["payload.fn"]),
        (AnyCall(print, [1]), ["payload.args"]),
        (AnyCall(print, (), [("a", 1)]), ["payload.kwargs"]),
        (
            AnyCall(print, (), {1: 1, 2: 2, "c": 3}),
            ["payload.kwargs", "payload.kwargs"],
        ),
        (AnyCall(print, (), {}, 5), ["payload.executor"]),
        (AnyCall(print, (), {}, ""), ["payload.executor"]),
        (
            AnyCall(5, 5, 5, 5),
            ["payload.fn", "payload.args", "payload.kwargs", "payload.executor"],
        ),
    ],
)
def test_a_call_made_by_hand_is_checked(call, found):
    """All its faults are found, too."""
    assert paths(Task("t", call)) == found


def test_arguments_are_not_shown():
    """They may be secret, or very long."""
    verdict = validate(Task("t", AnyCall(print, ["secret"], ["secret"])))

    assert "secret" not in str(verdict)


@pytest.mark.parametrize("value", ["t", None, 5, print])
def test_what_is_no_task_is_one_finding(value):
    """The remedy is to wrap it."""
    finding = only(value)

    assert finding.path == ""
    assert "Task.call(function, …)" in finding.message


def test_a_function_as_type_is_told_about_call():
    """The likely mistake has its own remedy."""
    assert "Task.call(function, …)" in only(replaced("type", print)).message


# ------------------------------------------------------------------- the chain


@attrs.frozen
class Says:
    verdict: Verdict

    def validate(self, task, context):
        return self.verdict


ONE, TWO = Finding("a", "one"), Finding("b", "two")


@pytest.mark.parametrize(
    ("reusable", "together"),
    [((), True), ((True,), True), ((True, True), True), ((True, False), False)],
)
def test_a_chain_is_reusable_if_all_are(reusable, together):
    """One that must be asked again makes the chain ask again."""
    chain = ValidatorChain(*(Says(Verdict(reusable=each)) for each in reusable))

    assert chain.validate(Task("t"), FakeContext()) == Verdict(
        reusable=together and ValidatorChain
    )


@pytest.mark.parametrize("value", [print, None, StructuralValidator])
def test_a_chain_of_what_is_no_validator_is_refused(value):
    """A function, nothing, and a class instead of an object."""
    with pytest.raises(InvalidTaskError, match="a method `validate`"):
        ValidatorChain(VALIDATOR, value)


@pytest.mark.parametrize("join", ["all", "any", "finished"])
@pytest.mark.parametrize("on_parent_failure", ["block", "skip", "fail", "run", "no"])
def test_only_a_word_that_nobody_knows_is_a_finding(join, on_parent_failure):
    task = Task("t", after=["a"], join=join, on_parent_failure=on_parent_failure)
    wrong = ["on_parent_failure"] if on_parent_failure == "no" else []

    assert paths(task) == wrong


async def later(parents):
    return True


@pytest.mark.parametrize(
    ("join", "said"),
    [
        (later, "is an async def, which nobody would await"),
        (bool, "or a function is needed"),
        (3, "or a function is needed"),
    ],
)
def test_a_join_that_cannot_be_asked_is_a_finding(join, said):
    finding = only(Task("t", join=join))

    assert finding.path == "join"
    assert said in finding.message
