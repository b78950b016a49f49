"""Values of Python's own and of the user's classes come back, or are refused."""

import dataclasses
import enum
import json
import sys
from collections import Counter, OrderedDict, defaultdict, namedtuple
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import ModuleType
from typing import Any, Generic, NamedTuple, TypeVar
from uuid import UUID, SafeUUID
from zoneinfo import ZoneInfo

import attrs
import pytest
from hypothesis import given, settings, strategies as st
from tests.house.tools.examples import examples

from taskorch import Task
from taskorch.api.journal import register
from taskorch.core.journal import _beside, _classes
from taskorch.core.journal._codec import decode, document, encode
from taskorch.errors import InvalidTaskError
from taskorch.events import OrchestratorStopped, TaskProgressed
from taskorch.model import Missing, Resources, RetryPolicy

STOPPED = OrchestratorStopped(1, 2)
T = TypeVar("T")


def back(value: Any) -> Any:
    return decode(encode((STOPPED, value)))[1]


# -- what earlier versions wrote ------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (10**1500, f'{{"$int":"{hex(10**1500)}"}}'),
        (float("-inf"), '{"$float":"-inf"}'),
        ("\ud800", '{"$str":"eda080"}'),
        ([1, (2, [3])], '[1,{"$tuple":[2,[3]]}]'),
        ({1: 2}, '{"$dict":[[1,2]]}'),
        ({"$x": (1,)}, '{"$dict":[["$x",{"$tuple":[1]}]]}'),
        ({1, 2, "a"}, '{"$set":["a",1,2]}'),
        (
            frozenset({frozenset({1, (2,)})}),
            '{"$frozenset":[{"$frozenset":[1,{"$tuple":[2]}]}]}',
        ),
        (b"\x00\xff", '{"$bytes":"AP8="}'),
        (
            datetime(2026, 1, 2, tzinfo=UTC),
            '{"$datetime":["2026-01-02T00:00:00+00:00"]}',
        ),
        (
            datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1),
            '{"$datetime":["2026-10-25T02:30:00","Europe/Berlin",1]}',
        ),
        (date(2026, 1, 2), '{"$date":"2026-01-02"}'),
        (time(1, 2), '{"$time":["01:02:00"]}'),
        (timedelta(days=-1, seconds=4), '{"$timedelta":[-1,4,0]}'),
        (Decimal("1.10"), '{"$decimal":"1.10"}'),
        (UUID(int=5), '{"$uuid":"00000000-0000-0000-0000-000000000005"}'),
        (
            UUID(int=5, is_safe=SafeUUID.safe),
            '{"$uuid":["00000000-0000-0000-0000-000000000005",0]}',
        ),
        (1 + 2j, '{"$complex":[1.0,2.0]}'),
        (range(1, 9, 2), '{"$range":[1,9,2]}'),
        (PurePosixPath("/x"), '{"$purepath":["PurePosixPath","/x"]}'),
        (PurePosixPath("\udc00"), '{"$purepath":["PurePosixPath",{"$str":"edb080"}]}'),
        (Resources(cpu=1.5), '{"$Resources":[["cpu",1500000]]}'),
        (
            RetryPolicy(2, retry_on=(OSError,)),
            (
                '{"$RetryPolicy":{"max_attempts":2,"retry_on":{"$tuple":[{"$import":'
                '"builtins:OSError"}]}}}'
            ),
        ),
    ],
)
def test_a_value_has_the_text_that_it_had_in_the_first_journals(value, text):
    assert document(value) == text
    assert decode((1, "OrchestratorStopped", 2, "", "[1]", text))[1] == value


# -- classes of the user's -----------------------------------------------------------


@dataclasses.dataclass
class Point:
    x: Any = 0
    y: Any = dataclasses.field(default_factory=list)

    @cached_property
    def size(self) -> int:
        return 2


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Frozen:
    first: Any
    made: Any = dataclasses.field(init=False, default=7)
    rest: dataclasses.InitVar[int] = 0


@dataclasses.dataclass
class Below(Point):
    z: Any = None


@dataclasses.dataclass
class Strict:
    """Its constructor would change what it is given."""

    n: Any

    def __post_init__(self) -> None:
        self.n = [self.n]


@dataclasses.dataclass
class Box(Generic[T]):
    item: T


@dataclasses.dataclass
class Late:
    made: int = dataclasses.field(init=False)


@attrs.define
class Mine:
    x: Any = attrs.field(default=0, converter=lambda given: given)
    _hidden: Any = attrs.field(default=None, alias="hidden")
    made: Any = attrs.field(init=False, factory=list)


@attrs.frozen(slots=False, order=True)
class Old:
    x: Any


class Pair(NamedTuple):
    first: Any
    second: Any = 2


Bare = namedtuple("Bare", "a b")  # noqa: PYI024 - the old spelling is kept, too


class Named(Pair):
    """With methods, and a dict that has nothing in it."""

    def both(self) -> Any:
        return self.first, self.second


class Colour(enum.Enum):
    RED = 1
    BLUE = {"not": "hashable"}  # noqa: RUF012 - the value of a member
    ROT = 1  # noqa: PIE796 - another name of the same


class Level(enum.IntEnum):
    LOW = 1


class Word(enum.StrEnum):
    YES = "yes"


class Access(enum.Flag):
    READ = 1
    WRITE = 2
    BOTH = 3
    RUN = 4


class Bits(enum.IntFlag):
    A = 1
    B = 2


class Outer:
    class Inner(enum.Enum):
        ONE = 1


class Money:
    """Kept by functions of the user's."""

    def __init__(self, cents: Any) -> None:
        self.cents = cents

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Money) and same(other.cents, self.cents)

    def __hash__(self) -> int:
        return 7

    def __repr__(self) -> str:
        return f"Money({self.cents!r})"


@pytest.fixture(scope="module", autouse=True)
def _registered_money():
    """Not for the rest of the session."""
    classes, names = dict(_beside.BY_CLASS), dict(_beside.BY_NAME)
    register(Money, lambda money: (money.cents,), lambda kept: Money(*kept))
    yield
    for table, before in (
        (_beside.BY_CLASS, classes),
        (_beside.BY_NAME, names),
    ):
        table.clear()
        table.update(before)


def same(one: Any, other: Any) -> bool:
    """Equal, and of the same classes all through."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return len(one) == len(other) and all(
            same(a, b) and same(one[a], other[b])
            for a, b in zip(one, other, strict=True)
        )
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, set | frozenset):
        return sorted(map(repr, one)) == sorted(map(repr, other))
    if isinstance(one, Money):
        return same(one.cents, other.cents)
    if dataclasses.is_dataclass(one):
        names = [field.name for field in dataclasses.fields(one)]
    elif attrs.has(type(one)):
        names = [field.name for field in attrs.fields(type(one))]
    else:
        # Some are not equal to themselves, or cannot even be compared.
        return repr(one) == repr(other)
    return all(same(getattr(one, name), getattr(other, name)) for name in names)


def built(make: Any, *parts: Any, **named: Any) -> Any:
    """As `st.builds`, which would look at annotations too."""
    given = st.tuples(st.tuples(*parts), st.fixed_dictionaries(named))
    return given.map(lambda made: make(*made[0], **made[1]))


zones = st.sampled_from(
    [None, UTC, timezone(timedelta(hours=-3, seconds=7)), ZoneInfo("Europe/Berlin")]
)
members = st.sampled_from(
    [
        *(*Colour, *Level, *Word, *Access, Colour.ROT, Outer.Inner.ONE),
        *(Access(0), Access(5), Access(7), Bits(0), Bits(3)),
    ]
)
hashable = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(), max_size=5)
    | st.sampled_from(["$enum", "$dataclass", "\ud800", "\ud83d\ude00"])
    | st.binary(max_size=5)
    | st.uuids()
    | st.builds(lambda made: UUID(int=made.int, is_safe=SafeUUID.safe), st.uuids())
    | st.decimals(allow_nan=False)
    | st.dates()
    | st.times(timezones=zones)
    | st.builds(time.replace, st.times(), fold=st.just(1))
    | st.datetimes(timezones=zones)
    | st.timedeltas()
    | st.complex_numbers(allow_nan=False)
    | st.builds(range, st.integers(), st.integers(), st.integers(1))
    | st.sampled_from(
        [Path("a/b"), Path(), PurePosixPath("/x"), PureWindowsPath(r"c:\x\y")]
    )
    | members
)
keys = st.recursive(
    hashable,
    lambda inner: (
        st.tuples(inner)
        | built(Pair, inner)
        | built(Frozen, first=inner)
        | built(Old, inner)
    ),
    max_leaves=3,
)
values = st.recursive(
    keys
    | st.just(float("nan"))
    | st.just(Decimal("sNaN"))
    | st.just(complex("nan-infj")),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(keys, inner, max_size=3)
        | st.sets(keys, max_size=3)
        | st.frozensets(keys, max_size=3)
        | built(Point, inner, inner)
        | built(Frozen, first=inner)
        | built(Below, inner, z=inner)
        | built(Box, inner)
        | built(Mine, inner, hidden=inner)
        | built(Named, inner, inner)
        | built(Bare, inner, inner)
        | built(Money, inner)
    ),
    max_leaves=10,
)


@settings(max_examples=examples(300), deadline=None)
@given(values)
def test_values_come_back_as_they_went(value):
    """Nested anywhere, type included, and written again they are the same text."""
    row = encode((STOPPED, value))
    json.loads(row[5] or "null")
    read = decode(row)[1]
    assert same(read, value)
    assert encode((STOPPED, read)) == row


@settings(max_examples=examples(60), deadline=None)
@given(values, values, st.dictionaries(st.text("ab$"), values, max_size=2))
def test_they_do_in_a_task_too(payload, argument, metadata):
    for task in (
        Task("x", payload, metadata=metadata),
        Task.call(len, argument, kwargs={"k": payload}),
    ):
        assert same(back(task).payload, attrs.evolve(task).payload) or same(
            [*back(task).payload.args, dict(back(task).payload.kwargs)],
            [*task.payload.args, dict(task.payload.kwargs)],
        )
        if task.metadata is not None:
            assert same(back(task).metadata, task.metadata)


def test_no_constructor_runs_when_a_value_is_read():
    made = Strict(1)
    assert made.n == [1]
    assert back(made).n == [1]


def test_a_field_that_is_set_later_may_be_unset():
    read = back(Late())
    assert type(read) is Late
    assert not hasattr(read, "made")
    done = Late()
    done.made = 3
    assert back(done).made == 3


# -- what is refused -----------------------------------------------------------------


class Zone(tzinfo):
    def utcoffset(self, _when: Any) -> timedelta:
        return timedelta(0)


@dataclasses.dataclass
class Loaded(dict):
    """Its items are no fields."""

    x: int = 0


@dataclasses.dataclass
class Lying:
    x: int

    @property
    def x(self) -> int:
        return 1

    @x.setter
    def x(self, value: int) -> None:
        pass


class Slotted:
    __slots__ = ("beside",)


@dataclasses.dataclass(slots=True)
class WithSlot(Slotted):
    x: int = 0


class Wrong(NamedTuple):
    a: int


def local() -> Any:
    @dataclasses.dataclass
    class Local:
        x: int = 0

    return Local()


def with_more() -> Any:
    made = Point()
    made.extra = 1  # type: ignore[attr-defined]
    return made


def with_a_slot() -> Any:
    made = WithSlot()
    made.beside = 1
    return made


def without() -> Any:
    made = Frozen(first=1)
    object.__delattr__(made, "first")
    return made


class Texts(str):
    __slots__ = ()


class Numbers(int):
    pass


class Dates(date):
    pass


@pytest.mark.parametrize(
    ("value", "path", "why", "remedy"),
    [
        (Texts("a"), "", "come back as a str", "use str(…)"),
        (Numbers(1), "", "come back as a int", "use int(…)"),
        (OrderedDict(a=1), "", "come back as a dict", "use dict(…)"),
        (defaultdict(int), "", "come back as a dict", "use dict(…)"),
        (Counter(), "", "come back as a dict", "use dict(…)"),
        (Dates(2026, 1, 1), "", "cannot be restored", "register(Dates"),
        (object(), "", "cannot be restored", "keep it in a file"),
        (Zone(), "", "cannot be restored", "register(Zone, encode, decode)"),
        (len, "", "cannot be restored", "JSON values"),
        (ValueError("x"), "", "cannot be restored", "keep it in a file"),
        (Point(1, [object()]), ".y[0]", "cannot be restored", "keep it in a file"),
        (Mine(hidden=object()), "._hidden", "cannot be restored", "JSON"),
        (Pair(1, object()), ".second", "cannot be restored", "JSON"),
        (Point({Pair(1): object()}), ".x[Pair(first=1, second=2)]", "cannot", "JSON"),
        (Money(object()), "", "returned at [0] what cannot be kept: ", "JSON"),
        (with_more(), "", "no fields: extra", "make them fields"),
        (with_a_slot(), "", "no fields: beside", "make them fields"),
        (without(), "", "the field first of a tests", "set it"),
        (local(), "", "made inside a function", "move it to the top level"),
        (Loaded(), "", "come back as a dict", "use dict(…)"),
        (Lying(1), "", "cannot be restored", "register(Lying"),
        (tuple.__new__(Wrong, (1, 2)), "", "not as many items", "register(Wrong"),
        (time(1, tzinfo=Zone()), "", "has no name", "UTC"),
        (datetime(2026, 1, 1, tzinfo=Zone()), "", "has no name", "UTC"),
        ({"a": Bits(9)}, ".a", "no member of", "names"),
    ],
    ids=lambda part: part[:20] if isinstance(part, str) else type(part).__name__,
)  # fmt: skip
def test_what_cannot_come_back_is_refused_with_its_path(value, path, why, remedy):
    with pytest.raises(InvalidTaskError) as caught:
        document(Task("x", value))
    assert caught.value.message.startswith(f"payload{path}: ")
    assert why in caught.value.message
    assert remedy in caught.value.hint


def test_an_instance_of_a_class_that_was_replaced_is_refused(monkeypatch):
    """As that of a notebook's cell that was run again."""
    made = Point()
    assert back(made) == made
    monkeypatch.setitem(globals(), "Point", Below)
    with pytest.raises(InvalidTaskError, match="does not give the class"):
        document(made)
    monkeypatch.delitem(globals(), "Point")
    with pytest.raises(InvalidTaskError, match="does not give the class"):
        document(made)


def test_in_an_event_what_is_a_number_or_a_text_is_its_value():
    """They are compared there; whatever else a report of progress has, is kept."""
    event = TaskProgressed(1, 2, "t", 1, (Level.LOW, Word.YES, Pair(1, 2)))
    assert decode(encode((event, None)))[0][5] == (1, "yes", (1, 2))
    event = TaskProgressed(1, 2, "t", 1, Point(Colour.RED, [Money(1)]))
    assert same(decode(encode((event, None)))[0][5], event[5])


# -- what has changed since ------------------------------------------------------------


@pytest.fixture
def module(monkeypatch):
    """A module that can be changed from one incarnation to the next."""
    made = ModuleType("app_of_then")
    monkeypatch.setitem(sys.modules, made.__name__, made)

    def write(code: str) -> ModuleType:
        vars(made).clear()
        vars(made).update(__name__="app_of_then")
        exec("import dataclasses, enum, typing, attrs\n" + code, vars(made))
        return made

    return write


DATACLASS = "@dataclasses.dataclass\nclass P:\n    x: int\n"
ATTRS = "@attrs.define\nclass P:\n    x: int\n"
TUPLE = "class P(typing.NamedTuple):\n    x: int\n"
ENUM = "class E(enum.Enum):\n    A = 1\n    B = 2\nP = lambda _: E.A\n"
FLAG = "class E(enum.Flag):\n    A = 1\n    B = 2\nP = lambda _: E.A | E.B\n"


@pytest.mark.parametrize(
    ("then", "now", "given"),
    [
        (DATACLASS, DATACLASS + "    y: int = 2\n", "P(x=1, y=2)"),
        (
            DATACLASS,
            DATACLASS + "    y: list = dataclasses.field(default_factory=list)\n",
            "P(x=1, y=[])",
        ),
        (ATTRS, ATTRS + "    y: int = 2\n", "P(x=1, y=2)"),
        (ATTRS, ATTRS + "    y: list = attrs.Factory(list)\n", "P(x=1, y=[])"),
        (TUPLE, TUPLE + "    y: int = 2\n", "P(x=1, y=2)"),
        (ENUM, ENUM.replace("A = 1", "A = 7"), "<E.A: 7>"),
        (FLAG, FLAG.replace("B = 2", "B = 4"), "<E.A|B: 5>"),
    ],
)  # fmt: skip
def test_a_field_that_came_since_has_its_default(module, then, now, given):
    row = encode((STOPPED, module(then).P(1)))
    module(now)
    assert repr(decode(row)[1]) == given


@pytest.mark.parametrize(
    ("then", "now", "why"),
    [
        (DATACLASS, DATACLASS + "    y: int\n", "app_of_then:P has a field 'y' since"),
        (ATTRS, ATTRS + "    y: int\n", "has a field 'y' since, which has no default"),
        (
            ATTRS,
            ATTRS + "    y: int = attrs.Factory(id, takes_self=True)\n",
            "has a field 'y' since, which has no default",
        ),
        (TUPLE, TUPLE + "    y: int\n", "has a field 'y' since, which has no default"),
        (DATACLASS, DATACLASS.replace("x", "y"), "has no field 'x' any more"),
        (ATTRS, ATTRS.replace("x", "y"), "has no field 'x' any more"),
        (TUPLE, TUPLE.replace("x", "y"), "has no field 'x' any more"),
        (DATACLASS, ATTRS, "app_of_then:P is no dataclass any more"),
        (ATTRS, TUPLE, "app_of_then:P is no attrs class any more"),
        (TUPLE, DATACLASS, "app_of_then:P is no named tuple any more"),
        (DATACLASS, "import os; P = os.system", "P is no dataclass any more"),
        (DATACLASS, "class P: x: int", "app_of_then:P is no dataclass any more"),
        (DATACLASS, "", "app_of_then:P cannot be imported any more (AttributeError"),
        (ENUM, "", "app_of_then:E cannot be imported any more"),
        (ENUM, ENUM.replace("A", "C"), "app_of_then:E has no member A any more"),
        (ENUM, "E = str", "app_of_then:E is no enum any more"),
        (FLAG, ENUM, "app_of_then:E is no flag any more"),
    ],
)  # fmt: skip
def test_what_a_class_has_lost_is_said_and_kept_as_it_was(module, then, now, why):
    """In the place of the value: whoever needs it is told, and nobody else."""
    before = module(then).P(1)
    row = encode((STOPPED, [before]))
    module(now)
    lost = back_of(row)
    assert isinstance(lost, Missing)
    assert why in lost.why
    assert encode((STOPPED, lost)) == row
    # Once the class is back, so is the value.
    module(then)
    assert repr(back_of(row)) == repr([before])


def back_of(row: Any) -> Any:
    return decode(row)[1]


@pytest.mark.parametrize("name", ["a", "$a"])
def test_of_metadata_only_the_item_is_missing_that_needs_the_class(module, name):
    given = {name: module(DATACLASS).P(1), "b": 1}
    row = encode((STOPPED, Task("x", 7, metadata=given)))
    module("")
    read = back_of(row)
    assert read.payload == 7
    assert read.metadata["b"] == 1
    assert isinstance(read.metadata[name], Missing)
    assert encode((STOPPED, read)) == row


def test_a_time_zone_that_is_not_known_here_is_said():
    row = encode((STOPPED, [datetime(2026, 1, 1, tzinfo=ZoneInfo("Europe/Berlin"))]))
    lost = back_of((*row[:5], row[5].replace("Berlin", "Bonn")))
    assert "the time zone 'Europe/Bonn' is not known here" in lost.why


def test_nothing_but_such_classes_is_made_of_a_journal():
    """Whatever stands in it: a callable is not called, nor a class of another kind."""
    for name in ("os:system", "builtins:dict", "subprocess:Popen", "decimal:Decimal"):
        for tag in ("dataclass", "attrs", "namedtuple"):
            row = (
                1,
                "OrchestratorStopped",
                2,
                "",
                "[1]",
                f'{{"${tag}":["{name}",{{}}]}}',
            )
            assert "any more" in back_of(row).why


# -- registered classes ----------------------------------------------------------------


class Plain:
    def __init__(self, n: Any) -> None:
        self.n = n


class Derived(Plain):
    pass


def test_an_instance_whose_function_returns_it_is_refused_in_a_sentence():
    class Own:
        pass

    register(Own, lambda made: made, lambda kept: kept, name="own")
    with pytest.raises(InvalidTaskError) as caught:
        document([Own()])
    assert caught.value.message == (
        "result[0]: encode of own returned what cannot be kept: it is nested more than "
        "100 deep, or contains itself; the journal cannot keep it"
    )


def test_nobody_has_registered_it_any_more():
    class Once:
        pass

    register(Once, lambda _: None, lambda _: Once(), name="once")
    row = encode((STOPPED, {"a": Once()}))
    del _beside.BY_NAME["once"], _beside.BY_CLASS[Once]
    lost = back_of(row)
    assert lost.name == "once"
    assert "nothing is registered under the name 'once'" in lost.why
    assert "register before the journal is opened" in lost.why
    register(Once, lambda _: None, lambda _: Once(), name="once")
    assert type(back_of(row)["a"]) is Once


@pytest.mark.parametrize(
    ("decode_it", "why"),
    [
        (lambda _: 1 / 0, "decode of odd raised ZeroDivisionError: division by zero"),
        (lambda _: 3, "decode of odd returned a builtins.int, not a"),
        (lambda _: Odder(), "decode of odd returned"),
    ],
)
def test_a_decode_that_fails_is_named(monkeypatch, decode_it, why):
    monkeypatch.setattr(_beside, "BY_CLASS", {}, raising=True)
    register(Odd, lambda _: None, decode_it, name="odd")
    monkeypatch.setattr(_classes, "BY_CLASS", _beside.BY_CLASS)
    assert why in back(Odd()).why


class Odd:
    pass


class Odder(Odd):
    pass


def test_an_encode_that_fails_is_named():
    class Bad:
        pass

    register(Bad, lambda _: 1 / 0, lambda _: Bad(), name="bad")
    with pytest.raises(InvalidTaskError, match="encode of bad raised Zero") as caught:
        document(Task("x", [Bad()]))
    assert caught.value.message.startswith("payload[0]: ")


@pytest.mark.parametrize(
    ("arguments", "name", "words"),
    [
        ((3, vars, Plain), None, "a class is registered, not 3"),
        ((Plain, None, Plain), None, "encode: a function"),
        ((Plain, vars, None), None, "decode: a function"),
        ((Plain, vars, Plain), 3, "name: a text"),
        ((Plain, vars, Plain), "a\n", "name: a text"),
        ((Plain, vars, Plain), "another", "registered under the name 'p'"),
        ((Derived, vars, Derived), "p", "the name 'p' is taken by"),
        ((dict, vars, dict), None, "builtins:dict is kept exactly"),
        ((Decimal, str, Decimal), None, "decimal:Decimal is kept exactly"),
        ((Task, vars, Task), None, "Task is kept exactly"),
    ],
)  # fmt: skip
def test_what_cannot_be_registered_is_refused(arguments, name, words):
    register(Plain, vars, lambda kept: Plain(**kept), name="p")
    with pytest.raises(InvalidTaskError, match=words):
        register(*arguments, name=name)
