"""
Values as recipes, and how they are made: what the tests of remembered results share.

A recipe is a tuple of the name of a maker and of parts, which may be recipes again. Two
values are alike if their recipes are, and differ in something that a function could
tell if they are not. As a program it prints a key for each of some recipes.
"""

from __future__ import annotations

import enum
import functools
import re
import sys
from collections import OrderedDict, defaultdict, deque, namedtuple
from dataclasses import InitVar, dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePosixPath, PureWindowsPath
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import attrs
import numpy as np


@dataclass
class Base:
    x: object


@attrs.define(slots=False)
class Attrs:
    x: object


class WithMore:
    """Has an attribute that is no field."""

    def __init__(self, x, y):
        super().__init__(x)
        self.y = y


class Undecorated(WithMore, Base):
    pass


class AttrsUndecorated(WithMore, Attrs):
    pass


@dataclass
class WithInit:
    x: int
    scale: InitVar[int]
    y: int = field(init=False, default=0)

    def __post_init__(self, scale):
        self.y = scale


class Config(dict):
    pass


class Texts(str):
    __slots__ = ("note",)


class Whole(int):
    pass


class Point(namedtuple("Point", "x")):  # noqa: PYI024, SLOT002 - what is looked for
    pass


class Slots:
    __slots__ = ("n",)

    def __init__(self, n):
        self.n = n

    def go(self):
        return self.n


class Hiding:
    """Pickles, and compares, as if it had no state."""

    def __init__(self, n):
        self.n = n

    def __eq__(self, other):
        return True

    __hash__ = None

    def __getstate__(self):
        return {}


class Perm(enum.IntFlag):
    R = 4
    W = 2


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Other(enum.Enum):
    RED = 1
    BLUE = 2


#: Has another order in each process.
RESERVED = frozenset({"this", "that", "these", "those"})


def noted(cls, *args, note):
    assert note not in RESERVED
    value = cls(*args)
    value.note = note
    return value


def closing(value):
    def inner():
        return value

    return inner


def by_default(value):
    def inner(n=value):
        return n

    return inner


def by_name(value):
    def inner(*, n=value):
        return n

    return inner


def class_of(value):
    class Local:
        kept = value

        def go(self):
            return value

    return Local


def through_class(value):
    cls = class_of(value)

    def inner():
        return cls().go()

    return inner


def evaluated(text):
    return eval(f"lambda x: x + {text}")


def masked(values, mask):
    return np.ma.array(list(values), mask=list(mask))


def listed(*items):
    return list(items)


MAKERS = {
    "plain": lambda value: value,
    "list": listed,
    "tuple": lambda *items: items,
    "set": lambda *items: set(items),
    "frozenset": lambda *items: frozenset(items),
    "dict": lambda *items: dict(enumerate(items)),
    "backwards": lambda *items: OrderedDict(reversed([*enumerate(items)])),
    "ordered": lambda *items: OrderedDict(enumerate(items)),
    "defaultdict": lambda *items: defaultdict(list, enumerate(items)),
    "defaultset": lambda *items: defaultdict(set, enumerate(items)),
    "deque": lambda *items: deque(items),
    "bounded": lambda *items: deque(items, 9),
    "bytes": lambda text: text.encode(),
    "bytearray": lambda text: bytearray(text.encode()),
    "whole": Whole,
    "texts": lambda text, note: noted(Texts, text, note=note),
    "dataclass": Base,
    "undecorated": Undecorated,
    "attrs": Attrs,
    "attrs undecorated": AttrsUndecorated,
    "init": WithInit,
    "config": lambda n, note: noted(Config, {"a": n}, note=note),
    "point": lambda n, note: noted(Point, n, note=note),
    "slots": Slots,
    "hiding": Hiding,
    "flags": Perm,
    "colour": Colour,
    "other": Other,
    "namespace": lambda x: SimpleNamespace(a=x),
    "error": ValueError,
    "late": lambda day, fold: datetime(2026, 10, day, 2, 30, fold=fold),  # noqa: DTZ001
    "zoned": lambda zone: datetime(2026, 1, 1, tzinfo=ZoneInfo(zone)),
    "offset": lambda h: datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=h))),
    "utc": lambda: datetime(2026, 1, 1, tzinfo=UTC),
    "delta": timedelta,
    "decimal": Decimal,
    "fraction": Fraction,
    "path": PurePosixPath,
    "windows": PureWindowsPath,
    "range": range,
    "slice": slice,
    "pattern": re.compile,
    "partial": lambda *args: functools.partial(pow, *args),
    "partial by name": lambda n: functools.partial(pow, exp=n),
    "upper": lambda text: text.upper,
    "get": lambda n: {"k": n}.get,
    "findall": lambda text: re.compile(text).findall,
    "index": lambda *items: list(items).index,
    "method": lambda n: Slots(n).go,
    "closure": closing,
    "default": by_default,
    "keyword": by_name,
    "class": class_of,
    "through class": through_class,
    "lambda": evaluated,
    "type": lambda name: {"int": int, "Base": Base, "Slots": Slots}[name],
    "function": lambda name: {"len": len, "noted": noted, "sub": re.sub}[name],
    "array": lambda dtype, *items: np.array(items, dtype),
    "rows": lambda dtype, *items: np.array([items, items], dtype),
    "columns": lambda dtype, *items: np.array([items, items], dtype).T,
    "masked": lambda mask, *items: masked(
        items, [c == "1" for c in mask[: len(items)]]
    ),
    "matrix": lambda *items: np.array([items]).view(np.matrix),
    "objects": lambda *items: np.array([*items, None], object),
    "number": lambda name, n: np.dtype(name).type(n),
    "fields": lambda name: np.zeros(2, [(name, "i4"), ("b", "i4")]),
}


def build(recipe):
    """The value of a recipe, made anew."""
    name, *parts = recipe
    if name == "plain":
        return parts[0]
    values = [build(p) if isinstance(p, tuple) else p for p in parts]
    return MAKERS[name](*values)


def same(value, /, *rest, **more):
    """Is called with what is built: its result is remembered."""
    return value, rest, more


if __name__ == "__main__":
    from taskorch import Task
    from taskorch.events import ResultRemembered
    from taskorch.testing import Simulation

    sim = Simulation()
    for line in sys.stdin:
        args = [build(recipe) for recipe in eval(line)]
        sim.submit_task(Task.call(same, *args, type="t", cache=True))
    sim.run()
    for event in sim.events:
        if isinstance(event, ResultRemembered):
            print(event.key)
