"""The thirteen operators: what satisfies them, and what they cannot judge."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import attrs
import pytest
from hypothesis import given, strategies as st

from taskorch import InvalidTaskError, Program, Task
from taskorch.ext.governance import ConstitutionalRuntime, Policy, Rule

ABSENT = object()


def outcome(
    operator: str, expected: Any, actual: Any, missing: Any = "violates"
) -> str:
    """What comes of a rule about `payload.x`."""
    rule = Rule("r", "task.payload.x", operator, expected, missing=missing)
    policy = Policy("p", "safety", "critical", rules=[rule])
    payload = {} if actual is ABSENT else {"x": actual}
    verdict = ConstitutionalRuntime([policy]).validate_operation(Task("t", payload))
    (evaluation,) = verdict.evaluations
    assert verdict.compliant == (evaluation.outcome == "held")
    assert verdict.decision == ("allow" if verdict.compliant else "deny")
    return evaluation.outcome


@pytest.mark.parametrize(
    ("operator", "expected", "satisfies", "does_not"),
    [
        ("equals", "a", ["a"], ["b", "", None]),
        ("equals", 1, [1, 1.0], [2, None]),
        ("equals", True, [True], [False, None]),
        ("equals", None, [None], ["a", 0, False]),
        (
            "equals",
            [1, {"a": 2}],
            [[1, {"a": 2}], (1, {"a": 2})],
            [[1], [1, {"a": True}]],
        ),
        ("equals", {"a": [1]}, [{"a": [1]}], [{"a": [1], "b": 2}, {"a": ["1"]}]),
        ("not_equals", "a", ["b", None], ["a"]),
        ("contains", "b", [["a", "b"], "abc", {"b": 1}], [["a"], "ac", {"a": 1}, []]),
        ("contains", 2, [[1, 2]], [[1], []]),
        ("not_contains", "b", [["a"], "ac", []], [["a", "b"], "abc"]),
        ("greater_than", 2, [3, 2.5, math.inf], [2, 1]),
        ("less_than", 2, [1, -math.inf], [2, 3]),
        ("greater_than_or_equal", 2, [2, 3], [1]),
        ("less_than_or_equal", 2, [2, 1], [3]),
        ("exists", None, ["a", 0, False, []], [None, ABSENT]),
        ("not_exists", None, [None, ABSENT], ["a", 0, False]),
        ("in", ["a", "b"], ["a"], ["c", None]),
        ("in", [1, "a"], [1, "a", 1.0], [2, "b"]),
        ("not_in", ["a", "b"], ["c", None], ["a"]),
        ("regex_match", "^rel-[0-9]+$", ["rel-12"], ["rel-", "x rel-1"]),
    ],
)
def test_an_operator_is_satisfied_by_these_values_and_by_no_others(
    operator: str, expected: Any, satisfies: list[Any], does_not: list[Any]
) -> None:
    for actual in satisfies:
        assert outcome(operator, expected, actual) == "held", actual
    for actual in does_not:
        assert outcome(operator, expected, actual) == "violated", actual


@pytest.mark.parametrize(
    ("operator", "expected", "actual"),
    [
        ("equals", 1, "1"),
        ("equals", 1, True),
        ("equals", "true", True),
        ("not_equals", 1, "1"),
        ("not_equals", "a", ["a"]),
        ("contains", "1", [1, 2]),
        ("contains", 1, "12"),
        ("not_contains", "a", 5),
        ("greater_than", 1, "2"),
        ("less_than", 1, True),
        ("less_than_or_equal", 1, [0]),
        ("in", ["1", "2"], 1),
        ("not_in", [1, 2], "1"),
        ("not_in", [1, 2], True),
        ("regex_match", "1", 1),
        ("regex_match", "a", "a" * 10_001),
        ("equals", "a", object()),
        ("not_equals", "a", object()),
        *((operator, 1, math.nan) for operator in ("equals", "not_equals")),
        *((operator, 1, math.nan) for operator in ("less_than", "greater_than")),
        ("not_in", [1, 2], math.nan),
        ("not_contains", 1, [math.nan]),
    ],
)
def test_what_cannot_be_compared_is_an_error_and_passes_nothing(
    operator: str, expected: Any, actual: Any
) -> None:
    assert outcome(operator, expected, actual) == "error"


@pytest.mark.parametrize("operator", ["equals", "not_equals", "not_contains", "not_in"])
def test_a_path_that_leads_nowhere_is_what_the_rule_says(operator: str) -> None:
    expected: Any = ["a"] if operator == "not_in" else "a"
    assert outcome(operator, expected, ABSENT) == "violated"
    assert outcome(operator, expected, ABSENT, "passes") == "held"
    assert outcome(operator, expected, ABSENT, "error") == "error"


@pytest.mark.parametrize(
    ("operator", "expected"),
    [
        ("equal", 1),
        ("greater_than", "1"),
        ("less_than", True),
        ("less_than", math.nan),
        ("equals", math.nan),
        ("equals", object()),
        ("in", "abc"),
        ("in", []),
        ("not_in", [math.nan]),
        ("regex_match", "("),
        ("regex_match", 5),
        ("regex_match", r"(a+)+\1"),
        ("exists", "a"),
    ],
)
def test_a_rule_that_could_never_be_evaluated_is_refused(
    operator: str, expected: Any
) -> None:
    with pytest.raises(InvalidTaskError):
        Rule("r", "task.type", operator, expected)


PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.floats(allow_infinity=False, width=16),
    st.text("ab1", max_size=2),
)
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text("ab"), inner),
)
OPPOSITES = [("equals", "not_equals"), ("contains", "not_contains"), ("in", "not_in")]


@given(st.sampled_from(OPPOSITES), VALUES, VALUES)
def test_of_two_opposites_one_holds_or_neither_can_be_evaluated(
    pair: tuple[str, str], expected: Any, actual: Any
) -> None:
    operator, opposite = pair
    if operator == "in":
        expected = [expected]
    try:
        outcomes = {outcome(name, expected, actual) for name in (operator, opposite)}
    except InvalidTaskError:
        with pytest.raises(InvalidTaskError):
            outcome(opposite, expected, actual)
        return
    # A null is missing to those that compare no null, and violates both.
    is_missing = actual is None and operator not in ("equals", "in")
    assert outcomes in (
        [{"violated"}] if is_missing else [{"held", "violated"}, {"error"}]
    )


@given(VALUES)
def test_a_value_equals_itself_unless_it_has_no_number_in_it(value: Any) -> None:
    def has_nan(part: Any) -> bool:
        if isinstance(part, dict):
            return any(map(has_nan, part.values()))
        if isinstance(part, list):
            return any(map(has_nan, part))
        return isinstance(part, float) and math.isnan(part)

    try:
        came = outcome("equals", value, value)
    except InvalidTaskError:
        came = "refused"
    assert came in (("refused", "error") if has_nan(value) else ("held",))


@attrs.frozen
class Ordered:
    item: str
    _price: int = 3


@dataclass
class Counted:
    number: int


def call(*args: Any, **kwargs: Any) -> None:
    """Nothing."""


@pytest.mark.parametrize(
    ("payload", "path", "value"),
    [
        ({"a": {"b": [{"c": 1}, {"c": 2}]}}, "task.payload.a.b[1].c", 2),
        ({"a": ({"c": 3},)}, "operation.payload.a[0].c", 3),
        (Ordered("tea"), "payload.item", "tea"),
        (Counted(4), "task.payload.number", 4),
        (Program(["ls", "-l"]), "task.payload.args[1]", "-l"),
        (Task.call(call, 1, kwargs={"x": 2}).payload, "task.payload.args[0]", 1),
        (Task.call(call, 1, kwargs={"x": 2}).payload, "task.payload.kwargs.x", 2),
        (Task.call(call).payload, "task.payload.function", "call"),
    ],
)
def test_a_dotted_path_leads_to_a_value(payload: Any, path: str, value: Any) -> None:
    rule = Rule("r", path, "equals", value)
    rt = ConstitutionalRuntime([Policy("p", "safety", "critical", rules=[rule])])
    assert rt.validate_operation(Task("t", payload)).compliant


@pytest.mark.parametrize(
    "path",
    ["", "task", "task.tpye", "tpye", "task..type", "task.payload[a]", "payload[1"],
)
def test_a_path_that_no_operation_can_have_is_refused(path: str) -> None:
    with pytest.raises(InvalidTaskError):
        Rule("r", path, "exists")
