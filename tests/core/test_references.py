"""What stands for a result is found anywhere in arguments, and replaced there."""

from __future__ import annotations

from collections import (
    ChainMap,
    OrderedDict,
    UserDict,
    UserList,
    deque,
)
from dataclasses import InitVar, dataclass, field
from functools import partial
from types import MappingProxyType, SimpleNamespace
from typing import Any, NamedTuple

import attrs
import pytest

from taskorch import InvalidTaskError
from taskorch.model import Reference, _arguments as walker
from taskorch.model._arguments import references, refuse_in, replaced

A, B = Reference("a"), Reference("b")


class Pair(NamedTuple):
    left: Any
    right: Any


@attrs.frozen
class Frozen:
    value: Any
    _hidden: Any = None


@attrs.define
class Derived:
    value: Any
    twice: Any = attrs.field(init=False, default=0)


@dataclass(frozen=True, slots=True)
class Data:
    value: Any
    more: Any = field(default=None, kw_only=True)


@dataclass
class Adds:
    more: Any

    def __call__(self, value):
        return value + self.more


@dataclass
class Late:
    value: Any
    made: Any = field(default=None, init=False)


@dataclass
class Asks:
    value: Any
    factor: InitVar[int]
    more: Any = None

    def __post_init__(self, factor):
        self.factor_seen = factor


@dataclass
class AsksMaybe:
    value: Any
    factor: InitVar[int] = 2


@dataclass
class Positive:
    value: Any

    def __post_init__(self):
        if isinstance(self.value, int) and self.value < 5:
            raise ValueError("too small")


class OwnUserDict(UserDict):
    pass


class OwnUserList(UserList):
    pass


class Own(list):
    """Nobody knows what it takes to make one."""

    def __iter__(self):
        raise AssertionError("what a subclass overrides is not asked")

    __len__ = __reversed__ = __getitem__ = __iter__


class OwnDict(dict):
    def __iter__(self):
        raise AssertionError("what a subclass overrides is not asked")

    keys = values = items = __getitem__ = __len__ = __iter__


def result(reference):
    return {"a": 1, "b": "two"}[reference.task_id]


def change(*args, **kwargs):
    return replaced(args, kwargs, result)


WRAPS: list[Any] = [
    lambda x: [x, 0],
    lambda x: (x, 0),
    lambda x: {x, 0},
    lambda x: frozenset({x, 0}),
    lambda x: {"key": x},
    lambda x: {x: "value"},
    lambda x: OrderedDict(first=x),
    lambda x: MappingProxyType({"key": x}),
    lambda x: deque([x, 0], maxlen=5),
    lambda x: Pair(0, x),
    Frozen,
    lambda x: Frozen(0, hidden=x),
    Data,
    lambda x: Data(0, more=x),
    Derived,
    Late,
    lambda x: UserDict({"key": x}),
    lambda x: UserList([x, 0]),
    lambda x: ChainMap({"key": x}, {"other": 0}),
    lambda x: SimpleNamespace(first=0, second=x),
    lambda x: [{"deep": (Frozen([Data({"deeper": x})]),)}],
]


@pytest.mark.parametrize("wrap", WRAPS)
def test_it_is_found_and_replaced_in_a_container_of_the_same_type(wrap):
    given_ = wrap(A)
    assert references((given_,)) == [A]
    (made,), _ = change(given_)
    assert made == wrap(1)
    assert type(made) is type(given_)
    # The caller's is as it was.
    assert references((given_,)) == [A]


def test_one_that_is_in_two_places_is_one_afterwards():
    shared = [A]
    (left, right), _ = change({"x": shared}, shared)
    assert left["x"] is right


def test_many_levels_of_shared_containers_take_no_time():
    value: Any = [A]
    for _ in range(100):
        value = [value, value]
    (made,), _ = change(value)
    assert references((value,)) == [A]
    for _ in range(100):
        made = made[0]
    assert made == [1]


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"x": Own([A])}, r"argument 2 → \['x'\]\[0\] is in an object of class Own"),
        (
            [0, OwnDict(k=A)],
            r"argument 2 → \[1\]\['k'\] is in an object of class OwnDict",
        ),
        ([OwnDict({A: 0})], r"argument 2 → \[0\] key Reference\("),
        (Own([[A]]), r"argument 2 → \[0\] is in an object of class Own"),
        (OwnUserDict(k=A), r"argument 2 → \['k'\] is in an object of class OwnUserD"),
        (OwnUserList([0, A]), r"argument 2 → \[1\] is in an object of class OwnUserL"),
        (ChainMap({}, OwnDict(k=A)), r"→ .maps\[1\]\['k'\] is in .* OwnDict"),
        (SimpleNamespace(a=0, b=Own([A])), r"argument 2 → .b\[0\] is in .* Own,"),
        (partial(pow, 1, Own([A])), r"argument 2 → .args\[1\]\[0\] is in .* Own,"),
        (partial(pow, 1, a=0, b=Own([A])), r"→ .keywords\['b'\]\[0\] is in"),
        (Asks(A, 2), r"→ .value is in .* Asks, whose constructor takes more"),
        (
            AsksMaybe(A),
            r"argument 2 → .value is in an object of class AsksMaybe, whose",
        ),
        ({0: A}.values(), r"argument 2 → \[0\] is in .* dict_values, which cannot be"),
        ({({0: A}.values(),)}, r"argument 2 → \{…\}\[0\]\[0\] is in .* dict_values"),
        ({A: 0}.keys(), r"argument 2 → \[0\] is in .* dict_keys"),
        ({0: A}.items(), r"argument 2 → \[0\] is in .* dict_items"),
        (OrderedDict({0: A}).values(), r"argument 2 → \[0\] is in .* odict_values"),
        (iter([A]), r"argument 2 is in an object of class list_iterator, which cannot"),
        ([iter((A,))], r"argument 2 → \[0\] is in an object of class tuple_iterator"),
        (zip([0], [A], strict=True), "argument 2 is in an object of class .*iterator"),
        (enumerate([A]), "argument 2 is in an object of class list_iterator"),
        (reversed((A,)), "argument 2 is in an object of class reversed"),
        (reversed([A]), "argument 2 is in an object of class list_reverseiterator"),
    ],
)
def test_it_is_refused_with_its_path_in_what_nobody_can_make(value, path):
    with pytest.raises(InvalidTaskError, match=path) as refused:
        references((0, value))
    assert "argument of its own" in refused.value.hint


def test_it_is_refused_in_a_field_that_the_constructor_does_not_take():
    for value in (Late(0), Derived(0)):
        setattr(value, "made" if isinstance(value, Late) else "twice", A)
        with pytest.raises(
            InvalidTaskError, match=r"argument 'it' → \[0\]\.\w+ is in a f"
        ):
            references((), {"it": [value]})


def test_one_in_an_attribute_that_is_no_field_is_replaced():
    value = Late(1)
    value.note = [A]
    (same,), _ = replaced((value,), {}, lambda _: 5)
    assert (same.value, same.note) == (1, [5])
    assert value.note == [A]

    value.value = B
    (other,), _ = replaced((value,), {}, {A: 5, B: 6}.get)
    assert (other.value, other.note) == (6, [5])

    class Undecorated(Frozen):
        def __init__(self, note):
            super().__init__(1)
            object.__setattr__(self, "note", note)

    with pytest.raises(InvalidTaskError, match="note is in an object of class Undec"):
        references((Undecorated(A),))


def test_one_in_a_partial_is_replaced():
    (made,), _ = change(partial(max, A, [0], default=B, key=len))
    assert (made.func, made.args) == (max, (1, [0]))
    assert made.keywords == {"default": "two", "key": len}
    (made,), _ = change(partial(partial(pow, 7), [A]))
    assert made.args == (7, [1])


@pytest.mark.parametrize(
    ("fn", "place"),
    [
        (partial(Adds(A), 2), "func"),
        (partial(pow, 2, A), r"args\[1\]"),
        (partial(pow, 2, mod=[A]), r"keywords\['mod'\]"),
    ],
)
def test_one_in_the_partial_that_is_called_is_refused(fn, place):
    with pytest.raises(InvalidTaskError, match=f"a handle in its {place}") as refused:
        refuse_in(fn)
    assert "beside the function" in refused.value.hint
    refuse_in(partial(pow, 2))
    refuse_in(pow)


def test_what_wraps_nothing_is_left_alone():
    bare = UserDict.__new__(UserDict)
    assert references((bare, UserList.__new__(UserList), A)) == [A]


def test_a_constructor_that_refuses_the_result_says_so():
    with pytest.raises(InvalidTaskError, match="no Positive can be made") as refused:
        change([Positive(A)])
    assert "ValueError: too small" in str(refused.value)
    assert isinstance(refused.value.__cause__, ValueError)
    assert "make the Positive in the function" in refused.value.hint


def test_a_ring_that_holds_one_is_refused_and_any_other_is_not():
    ring: list[Any] = [1]
    ring.append({"again": ring})
    assert references((ring, A)) == [A]
    args, _ = change(ring, [A, ring])
    assert args[0] is ring
    assert args[1][1] is ring
    ring.append((A,))
    with pytest.raises(
        InvalidTaskError, match=r"argument 1 → \['x'\] .*contains itself"
    ):
        references(({"x": ring},))


def test_a_ring_through_another_that_was_seen_before():
    inner: list[Any] = []
    outer = [inner, A]
    inner.append(outer)
    with pytest.raises(InvalidTaskError, match="contains itself"):
        references((outer,))


def nested(depth, innermost):
    value = innermost
    for _ in range(depth):
        value = [value]
    return value


def test_deep_containers():
    assert references((nested(5_000, 0),)) == []
    assert references((nested(150, A),)) == [A]
    with pytest.raises(InvalidTaskError, match="200 levels deep"):
        references((nested(300, A),))
    with pytest.raises(InvalidTaskError, match="10,000 levels deep"):
        references((nested(10_001, [object()]),))


def test_what_makes_containers_without_end_does_not_hang():
    @attrs.define(slots=False, init=False)
    class Endless:
        more: Any

    Endless.more = property(lambda _: Endless())
    with pytest.raises(InvalidTaskError, match="levels deep"):
        references((Endless(),))


def test_classes_of_arguments_are_forgotten_when_they_are_too_many(monkeypatch):
    monkeypatch.setattr(walker, "_MANY", len(walker.KINDS))
    known = dict(walker.KINDS)
    try:
        for number in range(3):
            assert references((type(f"C{number}", (), {})(), [A])) == [A]
        assert len(walker.KINDS) <= len(known) + 2
    finally:
        walker.KINDS.update(known)
