"""What is the same task under the same name, and what is said of what differs."""

import os
from functools import partial
from types import SimpleNamespace
from typing import Any

import attrs
import pytest

from taskorch import Program, Task
from taskorch.core.engine._identity import (
    alike,
    changed_options,
    differences,
    refusal,
)
from taskorch.model import Call, Missing, Reference

SAME = alike(None)


def between(one: Any, other: Any) -> list[tuple[str, str, str]]:
    """In what two tasks of one type differ, by their payloads."""
    return differences(Task("t", one), Task("t", other), ((), ()), SAME)


# -- values ----------------------------------------------------------------------------


class Uncertain:
    """What is the same if *answer* says so; no journal keeps it."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def __eq__(self, other: object) -> bool:
        if isinstance(self.answer, Exception):
            raise self.answer
        return bool(self.answer)

    def __hash__(self) -> int:
        return 0

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1),
        ("a", str(b"a", "ascii")),
        (b"a", bytes([97])),
        (None, None),
        (1.5, 1.5),
        ([1, "a"], [1, "a"]),
        ((1, (2,)), (1, (2,))),
        ({"a": 1, "b": [2]}, {"b": [2], "a": 1}),
        ({1, 2}, {2, 1}),
        (Call(abs, (1,), {"x": 2}), Call(abs, (1,), {"x": 2})),
        (Uncertain(answer=True), Uncertain(answer=True)),
    ],
)
def test_what_is_equal_and_of_one_type_is_the_same(one: Any, other: Any) -> None:
    assert SAME(one, other) is True
    assert SAME(one, one) is True


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (1, True),
        (0, False),
        (1, 2),
        ("a", b"a"),
        (None, 0),
        ([1], [True]),
        ([1], (1,)),
        ([1], [1, 2]),
        ([1, 2], [1]),
        ((), (1,)),
        ({"a": 1}, {"a": 2}),
        ({"a": 1}, {"a": 1, "b": 2}),
        ({"a": 1, "b": 2}, {"a": 1}),
        ({1: "x"}, {True: "x"}),
        ({"a": None}, {"b": None}),
        (Call(abs, (1,)), Call(abs, (2,))),
        (Call(abs, (1,)), Call(len, (1,))),
        (Call(abs, (1,)), Call(abs, (1,), {"x": 1})),
        (Call(abs, (1,), {"x": 1}), Call(abs, (1,), {"x": True})),
        (Call(abs, (1,), executor="thread"), Call(abs, (1,))),
        (Uncertain(answer=False), Uncertain(answer=False)),
        (Uncertain(answer=ValueError()), Uncertain(answer=ValueError())),
    ],
)
def test_what_is_of_another_type_or_value_is_another(one: Any, other: Any) -> None:
    assert SAME(one, other) is False
    assert SAME(other, one) is False
    assert SAME(one, one) is True


# -- options ---------------------------------------------------------------------------


def test_options_that_are_others_are_named() -> None:
    """Of some of them, what the kernel has made of them is compared."""
    old, new = Task("t"), Task("t", priority=1, metadata={"a": 1}, owner="o")
    as_before: Any = attrs.make_class(
        "Spec",
        [
            *("requires", "resources", "elastic", "spends"),
            *("timeout_ns", "idempotent", "owner"),
        ],
    )((), (), None, (), None, True, "")
    other = attrs.evolve(as_before, elastic=((), 1, ""), owner="o")
    assert changed_options(old, new, (as_before, as_before), SAME) == (
        "priority",
        "metadata",
    )
    assert changed_options(old, old, (as_before, other), SAME) == (
        "resources",
        "owner",
    )
    assert changed_options(old, old, (as_before, as_before), SAME) == ()


# -- what differs ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ([1, 2, 3], [1, 5, 4], [("payload[1]", "2", "5"), ("payload[2]", "3", "4")]),
        ((1,), (2,), [("payload[0]", "1", "2")]),
        ([1], [1, 2], [("payload", "[1]", "[1, 2]")]),
        ([1], (1,), [("payload", "[1]", "(1,)")]),
        (
            {"a": 1, "b": 2},
            {"b": 3, "c": 4},
            [
                ("payload['a']", "1", "missing"),
                ("payload['b']", "2", "3"),
                ("payload['c']", "missing", "4"),
            ],
        ),
        ([[[[1]]]], [[[[2]]]], [("payload[0][0][0][0]", "1", "2")]),
        ([[[[[1]]]]], [[[[[2]]]]], [("payload[0][0][0][0]", "[1]", "[2]")]),
        ({1}, {2}, [("payload", "{1}", "{2}")]),
        ("a  b\nc", "d", [("payload", r"'a b\nc'", "'d'")]),
        (
            Reference("x"),
            Reference("y"),
            [("payload", "the result of x", "the result of y")],
        ),
        (
            Call(abs, (1,), {"k": 1}),
            Call(len, (2,), {"k": 2}, "thread"),
            [
                ("function", "builtins.abs", "builtins.len"),
                ("args[0]", "1", "2"),
                ("kwargs['k']", "1", "2"),
                ("executor", "None", "'thread'"),
            ],
        ),
        (
            Call(Missing("m:f"), ()),
            Call(os.getcwd, ()),
            [
                (
                    "function",
                    "m.f, which is gone: m:f cannot be imported any more",
                    f"{os.getcwd.__module__}.getcwd",
                )
            ],
        ),
        (Call(abs), 5, [("payload", "a call of builtins.abs", "5")]),
    ],
)
def test_of_values_the_parts_that_differ_are_said(
    one: Any, other: Any, said: Any
) -> None:
    assert between(one, other) == said
    swapped = [(place, is_now, was) for place, was, is_now in said]
    assert sorted(between(other, one)) == sorted(swapped)
    assert between(one, one) == []


def test_what_has_no_name_is_shown() -> None:
    """A name is a text, of something that can be called."""
    [(_, was, _)] = between(partial(abs), 5)
    assert was.startswith("functools.partial(")
    named = SimpleNamespace(__qualname__="named")
    [(_, was, _)] = between(named, 5)
    assert was == "namespace(__qualname__='named')"


def test_of_a_program_nothing_is_said_that_may_be_secret() -> None:
    """But that it differs, and of the variables, which."""
    one = Program(["a", "b"], env={"A": "one", "B": "same"}, stdin="secret one")
    other = Program(["a", "c"], env={"B": "same", "C": "two"}, stdin="secret two")
    hidden = "a value that is not shown"
    assert between(one, other) == [
        ("args[1]", "'b'", "'c'"),
        ("env['A']", hidden, "missing"),
        ("env['C']", "missing", hidden),
        ("stdin", hidden, hidden),
    ]
    assert between(one, Program(["a", "b"], env={"A": "one", "B": "same"})) == [
        ("stdin", hidden, hidden)
    ]


# -- the refusal -----------------------------------------------------------------------


@pytest.mark.parametrize(("many", "said"), [(6, 6), (7, 6), (9, 6)])
def test_of_many_differences_and_tasks_six_are_said(many: int, said: int) -> None:
    parts = [(f"p{n}", "1", "2") for n in range(many)]
    alone = refusal({"x": ("the id 'x'", parts)}, None)
    assert alone.message.count(" was 1") == said
    assert alone.message.endswith(f"; and {many - 6} more") is (many > 6)
    assert len(alone.differences) == many
    together = refusal({f"x{n}": (f"id {n}", []) for n in range(many)}, None)
    assert together.message.count(" is taken ") == said
    more = f". and so are {many - 6} more"
    assert together.message.endswith(more) is (many > 6)
