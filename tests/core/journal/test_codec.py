"""The codec: facts and documents come back exactly, or are refused with their path."""

import math
from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import attrs
import pytest
from hypothesis import given, settings, strategies as st
from tests.house.tools.examples import examples

from taskorch.core.journal._codec import column, decode, document, encode
from taskorch.errors import InvalidTaskError, JournalError
from taskorch.events import (
    CATALOGUE,
    OrchestratorStopped,
    TaskProgressed,
    TaskReprioritised,
    TaskSubmitted,
)
from taskorch.model import (
    NO_RESOURCES,
    NO_RETRY,
    Agent,
    AgentStats,
    Call,
    Durations,
    Health,
    HealthCheck,
    NamedUnits,
    Performance,
    PoolStats,
    Program,
    ProgramResult,
    QueueStats,
    Resources,
    RetryPolicy,
    RetryStats,
    StateStats,
    Stats,
    Task,
    TypeStats,
)
from taskorch.testing import strategies

STOPPED = OrchestratorStopped(1, 2)


def same(one: Any, other: Any) -> bool:
    """Equal, and of the same classes all through."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(map(repr, one)) == list(map(repr, other)) and all(
            same(one[key], other[key]) for key in one
        )
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if attrs.has(type(one)):
        return same(
            attrs.asdict(one, recurse=False), attrs.asdict(other, recurse=False)
        )
    return one == other and repr(one) == repr(other)


def back(value):
    return decode(encode((STOPPED, value)))[1]


texts = st.text(st.characters(), max_size=8) | st.sampled_from(
    ["\ud800", "\ud83d\ude00", "😀", "a\0b", "é", "$tuple", "\u2028"]
)
numbers = st.integers() | st.floats(allow_nan=False)
scalars = st.none() | st.booleans() | numbers | texts
names = st.text("abc", min_size=1, max_size=3)
units = st.dictionaries(names, st.integers(1, 10**18)).map(
    lambda made: tuple(sorted(made.items()))
)
keys = st.recursive(
    numbers | texts, lambda inner: st.lists(inner, max_size=3).map(tuple)
)
datetimes = st.datetimes(
    timezones=st.sampled_from(
        [
            None,
            UTC,
            timezone(timedelta(hours=-3, minutes=-30)),
            ZoneInfo("Europe/Berlin"),
            ZoneInfo("UTC"),
        ]
    )
)
documents = st.recursive(
    scalars | st.binary(max_size=8) | datetimes | st.just(Path("/a/b")),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(texts | st.sampled_from(["$bytes", "$"]), inner, max_size=3)
        | st.dictionaries(st.integers() | st.tuples(texts), inner, max_size=2)
    ),
    max_leaves=8,
)

counts = st.integers(0, 9)
durations = st.none() | st.builds(Durations, st.floats(0, 9), st.floats(0, 9))
type_stats = st.builds(
    TypeStats,
    *[counts] * 3,
    *[durations] * 3,
    st.dictionaries(names, counts, max_size=2),
)
all_stats = st.builds(
    Stats,
    st.builds(QueueStats, counts, counts, st.none() | st.floats(0, 9)),
    st.builds(StateStats, *[counts] * 9),
    st.builds(RetryStats, *[counts] * 3),
    st.dictionaries(names, st.builds(PoolStats, st.floats(0, 9), st.floats(0, 9))),
    st.dictionaries(
        names,
        st.builds(
            AgentStats,
            counts,
            st.none() | counts,
            counts,
            counts,
            strategies.resources(),
            st.none() | strategies.resources(),
            st.dictionaries(
                names,
                st.builds(Performance, counts, counts, st.none() | st.floats(0, 9)),
            ),
            counts,
        ),
        max_size=2,
    ),
    st.dictionaries(names, type_stats, max_size=2),
    st.dictionaries(names, counts),
    counts,
    counts,
)
checks = st.builds(HealthCheck, names, names, texts)
ids = strategies.task_ids() | texts
pairs = st.lists(st.tuples(texts, texts), max_size=2).map(tuple)
id_lists = st.lists(ids, max_size=3).map(tuple)

unit_names = st.lists(st.sampled_from(["0", "GPU-a", "x y"]), unique=True)
named_units = st.builds(
    Resources,
    gpu=unit_names.map(lambda of: NamedUnits(*of)),
    cpu=st.integers(0, 3),
)

#: Values by the annotations that the catalogue has.
BY_TYPE = {
    "int": st.integers(),
    "str": texts,
    "bool": st.booleans(),
    "float": st.floats(allow_nan=False),
    "Any": keys,
    "Units": units,
    "UnitNames": st.lists(
        st.tuples(texts, st.lists(texts, max_size=2).map(tuple)), max_size=2
    ).map(tuple),
    "HeldUnits": st.lists(
        st.tuples(texts, texts, counts, st.booleans()), max_size=2
    ).map(tuple),
    "Agent": strategies.agents()
    | st.builds(lambda has: Agent("far", capacity=has), named_units),
    "Stats": all_stats,
    "Health": st.builds(
        Health, names, st.booleans(), st.booleans(), st.lists(checks).map(tuple)
    ),
    "dict[str, TypeStats]": st.dictionaries(names, type_stats, max_size=2),
    "str | None": st.none() | texts,
    "str | int": texts | st.integers(),
    "int | None": st.none() | st.integers(),
    "tuple[str, ...]": id_lists,
    "tuple[str, ...] | None": st.none() | id_lists,
    "tuple[tuple[str, str], ...]": pairs,
    "tuple[tuple[str, ...], ...]": st.lists(id_lists, max_size=2).map(tuple),
    "tuple[tuple[str, str, Units], ...]": st.lists(
        st.tuples(texts, texts, units), max_size=2
    ).map(tuple),
    "tuple[Units, int, str] | None": st.none()
    | st.tuples(units, st.integers(1), st.sampled_from(["best_effort", "x"])),
    "tuple[str, float] | None": st.none() | st.tuples(texts, st.floats(0, 1)),
    "tuple[Any, ...] | None": st.none()
    | st.tuples(st.none() | texts, st.none() | counts, st.booleans()),
}


def facts_of(cls):
    sizes = st.integers(0, 2**63 - 1)
    rest = [BY_TYPE[f.type] for f in attrs.fields(cls)[2:] if not f.kw_only]
    return st.builds(cls, sizes, sizes, *rest)


@pytest.mark.parametrize("cls", CATALOGUE, ids=lambda c: c.__name__)
def test_every_event_comes_back(cls):
    """With every value that its fields may have."""

    @settings(max_examples=examples(5), deadline=None)
    @given(facts_of(cls))
    def check(event):
        read, doc = decode(encode((event, None)))
        assert same(read, event)
        assert doc is None

    check()


@settings(max_examples=examples(50), deadline=None)
@given(strategies.tasks(metadata=st.none() | st.dictionaries(names, documents)))
def test_tasks_come_back(task):
    assert same(back(task), task)


def test_a_number_of_a_class_of_its_own_is_kept_in_an_event_by_its_value():
    class Cost(float):
        pass

    event = TaskReprioritised(1, 2, "t", 0, (Cost(1.5), 2))
    assert decode(encode((event, None)))[0] == event


@pytest.mark.parametrize(
    "value",
    [
        Program(
            ["ls", b"\xff"], env={"A": "b"}, inherit_env=["MINE"], stdin=b"\0", cwd="/"
        ),
        Program(["ls"], inherit_env=True, check=False),
        ProgramResult(("ls",), -9, "out", "err", Path("/tmp/log"), 1.5, ("A",), 3),
        Task("x", after=("a", "b"), requires={"gpu"}, id="t", idempotency_key="k"),
        Task("x", deadline=datetime(2026, 1, 1, tzinfo=UTC), not_before=3.5),
        Task(
            "x",
            resources=Resources(cpu=0.5),
            retry=RetryPolicy(3, base=1, jitter="full"),
        ),
        Task("x", retry=RetryPolicy(2, retry_on=(OSError, InvalidTaskError))),
        Task("x", retry=RetryPolicy(2, retry_on=math.isnan, wait=math.sqrt)),
        Task.call(math.hypot, 3, (4,), kwargs={"a": [b"x"]}, executor="thread"),
        Task.call(Fraction.from_float, 0.5),
        Task.program(["ls"], timeout=3),
        Task("x", 1, expected=2.5, owner="ann"),
        datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1),
        {"$tuple": 1},
        {"$x": 1, "y": 2},
        frozenset({1, 2}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_users_hand_over_comes_back(value):
    read = back(value)
    assert read == value
    assert repr(read) == repr(value)


@attrs.frozen
class Mine:
    x: int = 1

    @classmethod
    def one(cls):
        return cls()


# -- the quick way and the careful way ---------------------------------------------

some_ids = st.sampled_from(["t", "t~2", "a/b", "é", "😀", "\ud83d\ude00", 'a"\\\n', ""])


def double(n):
    return n


calls = st.builds(
    Call,
    st.sampled_from([double, math.hypot, len, Fraction.from_float, Mine.one, int]),
    st.lists(documents, max_size=3).map(tuple),
    st.just({}) | st.dictionaries(names, documents, max_size=1),
    st.sampled_from([None, None, None, "thread"]),
)
called = st.builds(
    Task,
    some_ids,
    calls | documents,
    id=st.none() | some_ids,
    priority=st.sampled_from([0, 0, 0, False, 1, 0.0]),
    after=st.sampled_from([(), (), (), [], ["t"]]),
    requires=st.sampled_from([None, None, (), ("gpu",)]),
    resources=st.sampled_from([NO_RESOURCES, Resources(), Resources(cpu=1)]),
    timeout=st.sampled_from([None, None, 1]),
    expected=st.sampled_from([None, None, 0, 2.5]),
    deadline=st.sampled_from([None, None, 2.5]),
    not_before=st.sampled_from([None, None, 2.5]),
    retry=st.sampled_from([NO_RETRY, NO_RETRY, RetryPolicy(2)]),
    idempotency_key=st.sampled_from([None, None, "k", "\ud800"]),
    idempotent=st.sampled_from([True, True, False, 1]),
    metadata=st.sampled_from([None, None, {}, {"a": 1}]),
    owner=st.sampled_from([None, None, "ann"]),
)


@settings(max_examples=examples(40), deadline=None)
@given(called, st.sampled_from(["type", "id", "payload", "priority", "metadata"]))
def test_the_quick_way_refuses_a_task_as_the_careful_way_does(task, field):
    task = attrs.evolve(task, **{field: object()})
    with pytest.raises(InvalidTaskError) as caught:
        document(task)
    assert caught.value.message.startswith(f"{field}: ")


def test_a_function_that_was_replaced_in_its_module_is_refused_at_once(monkeypatch):
    """However often it was kept before."""
    task = Task.call(double)
    assert document(task) == document(task)
    monkeypatch.setitem(globals(), "double", len)
    with pytest.raises(InvalidTaskError, match=r"^payload\.fn: importing"):
        document(task)


@settings(max_examples=examples(50), deadline=None)
@given(st.lists(texts, unique=True, max_size=5))
def test_names_are_looked_up_as_valid_text_and_stay_different(found):
    columns = [column(name) for name in found]
    assert len(set(columns)) == len(found)
    for name, text in zip(found, columns, strict=True):
        assert text.encode().decode() == text
        assert (text == name) == _is_text(name)


def _is_text(name):
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def closure():
    def inner():
        return None

    return inner


class Text(str):
    __slots__ = ()


def shadowed():
    return None


_first, shadowed.__qualname__ = shadowed, "closure"
loop: list[Any] = []
loop.append(loop)
TASK_PATHS = [
    (Task("x", {"items": [0, 1, {"when": object()}]}), "payload.items[2].when", "JSON"),
    (Task("x", {"a b": {1: object()}}), "payload['a b'][1]", "JSON"),
    (Task("x", metadata={"c": Text("red")}), "metadata.c", "str(…)"),
    (Task.call(lambda: 1), "payload.fn", "top level"),
    (Task.call(closure()), "payload.fn", "top level"),
    (Task.call(_first), "payload.fn", "top level"),
    (Task.call(partial(closure)), "payload.fn", "top level"),
    (Task.call([].append, 1), "payload.fn", "top level"),
    (Task.call(len, {1: [object()]}), "payload.args[0][1][0]", "JSON"),
    (Task.call(print, kwargs={"end": object()}), "payload.kwargs.end", "JSON"),
    (Task("x", after=[object()]), "after[0]", "JSON"),
    (Task("x", retry=RetryPolicy(2, retry_on=lambda e: True)), "retry.retry_on", "top"),
    (Task("x", loop), "payload[0][0]", "file"),
    (Task("x", datetime(2026, 1, 1, tzinfo=timezone(timedelta(0), "X"))), "payload", "UTC"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("task", "path", "remedy"), TASK_PATHS, ids=lambda p: str(p)[:30]
)
def test_what_cannot_be_restored_is_refused_with_its_path(task, path, remedy):
    with pytest.raises(InvalidTaskError) as caught:
        encode((STOPPED, task))
    assert caught.value.message.startswith(path)
    assert remedy in caught.value.hint


at_the_top = [lambda: 1]


def test_a_lambda_is_called_one():
    with pytest.raises(InvalidTaskError, match=r"the lambda .*:<lambda> has no import"):
        encode((STOPPED, Task.call(at_the_top[0])))


@pytest.mark.parametrize(
    ("event", "path"),
    [
        (TaskReprioritised(1, 2, "t", 0, (1, object())), "key[1]"),
        (
            TaskSubmitted(
                1,
                2,
                "t",
                "x",
                0,
                (),
                None,
                (),
                None,
                None,
                True,
                object(),
            ),
            "key",
        ),
        (TaskProgressed(1, 2, "t", 1, {"a": object()}), "value.a"),
    ],
)
def test_a_field_of_an_event_is_refused_by_its_name(event, path):
    with pytest.raises(InvalidTaskError) as caught:
        encode((event, None))
    assert caught.value.message.startswith(path)


@pytest.mark.parametrize("numbers", [(-1, 0), (2**63, 0), (1, -1), (1, 2**63)])
def test_numbers_beyond_the_table_are_refused(numbers):
    with pytest.raises(ValueError, match="64 bits"):
        encode((OrchestratorStopped(*numbers), None))


def test_what_is_no_number_comes_back_as_none():
    """JSON has no word for it; the key of a queue may be infinite."""
    kept = decode(encode((TaskReprioritised(1, 2, "t", 0, math.inf), {"x": math.nan})))
    assert kept[0][5] == math.inf
    assert math.isnan(kept[1]["x"])


def test_a_function_that_is_gone_fails_only_when_it_is_called():
    row = encode((STOPPED, Task.call(math.hypot, 3, 4)))
    gone = (*row[:5], row[5].replace("math:hypot", "no.such:function"))
    task = decode(gone)[1]
    assert isinstance(task.payload, Call)
    with pytest.raises(InvalidTaskError, match=r"no\.such:function"):
        task.payload.fn(3, 4)
    assert repr(task.payload.fn) == "<missing no.such:function>"
    # And it is kept again as it was.
    assert encode((STOPPED, task))[5] == gone[5]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ((1, "TaskMarried", 2, "", "[1]", ""), "TaskMarried, which .* not know"),
        ((1, "OrchestratorStopped", 2, "", "[99]", ""), "schema 99"),
        ((1, "OrchestratorStopped", 2, "", "[1", ""), "cannot be read"),
        ((1, "OrchestratorStopped", 2, "", "{}", ""), "cannot be read"),
        ((1, "OrchestratorStopped", 2, "", "[1] [1]", ""), "ends after 3"),
        ((1, "OrchestratorStopped", 2, "", "[1]", '{"$Wedding":{}}'), "Wedding"),
        (
            (1, "OrchestratorStopped", 2, "", "[1]", '{"$Task":{"x":1}}'),
            "cannot be read",
        ),
        ((1, "OrchestratorStopped", 2, "", "[1]", '{"$Task":1}'), "cannot be read"),
    ],
)
def test_what_is_not_known_is_said(row, words):
    with pytest.raises(JournalError, match=words):
        decode(row)
