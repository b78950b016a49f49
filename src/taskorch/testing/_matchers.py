"""
Partial matchers for events, and one assertion over lists of them.

A matcher is equal to every event with the wanted fields, so it works in `==`, in `in`
and inside lists, and pytest shows it as it was written.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

import attrs

from taskorch.events import CATALOGUE, Event, details_of, fields_of
from taskorch.kit.visible import show
from taskorch.kit.vocabulary import meant

Arrangement: TypeAlias = Literal["strict", "subsequence", "any"]

_MISSING: Final = object()
#: The number of characters in a report for one event, and for each of its values.
_WIDTH: Final = 120
_VALUE: Final = 40
#: The largest width of its left column.
_COLUMN: Final = 60
#: Of like rows in succession, a report shows so many before and after the ones that it
#: leaves out.
_SHOWN: Final = 3
#: The number of pairs of an expectation and an event that a report compares closely.
_MANY: Final = 100_000
#: Beyond that, it looks at so many events and expectations after the first difference.
_WINDOW: Final = 300
#: The number of rows in a report.
_ROWS: Final = 60
#: The points for a field that fits; a field that exists and differs has 1.
_FITS: Final = 2
#: The weight of a pair that matches, against pairs that nearly do.
_FULL: Final = 1_000_000
_SAID: Final[dict[Arrangement, str]] = {
    "strict": "in this order, and no others",
    "subsequence": "in this order, others may stand between",
    "any": "in any order, others may be there",
}


class EventMatcher:  # noqa: PLW1641 - equal things would need equal hashes
    """The result of `event`: equal to every event of a class with these fields."""

    __slots__ = ("_cls", "_fields")

    def __init__(self, cls: type[Event], fields: Mapping[str, Any]) -> None:
        self._cls = cls
        self._fields = dict(fields)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Event):
            return NotImplemented
        return isinstance(other, self._cls) and all(
            _holds(wanted, getattr(other, name, _MISSING))
            for name, wanted in self._fields.items()
        )

    def __repr__(self) -> str:
        parts = [] if self._cls is Event else [self._cls.__name__]
        parts += [f"{name}={_say(wanted)}" for name, wanted in self._fields.items()]
        return f"event({', '.join(parts)})"

    def differences(self, other: Event) -> list[str]:
        """Return why *other* is no such event, a phrase for each reason."""
        phrases = [phrase for _, phrase in self._judge(other) if phrase]
        if not isinstance(other, self._cls):
            phrases.insert(0, f"it is a {type(other).__name__}")
        return phrases

    def likeness(self, other: Event) -> int:
        """Return how similar *other* is; 0 is not at all. The class counts most."""
        points = [point for point, _ in self._judge(other)]
        if isinstance(other, self._cls):
            return _FITS * len(points) + 1 + sum(points)
        return sum(points) if _FITS in points else 0

    def _judge(self, other: Event) -> Iterator[tuple[int, str]]:
        """Yield the points of each field, and why it does not fit."""
        for name, wanted in self._fields.items():
            value = getattr(other, name, _MISSING)
            if value is _MISSING:
                yield 0, f"it has no {name}"
                continue
            try:
                fits, but = _holds(wanted, value), ""
            except Exception as error:  # noqa: BLE001 - a report shows whatever comes
                fits, but = False, f" ({type(error).__name__}: {error})"
            if fits:
                yield _FITS, ""
            else:
                yield 1, f"{name} is {show(value)}, not {_say(wanted)}{but}"


class TextMatcher:  # noqa: PLW1641 - equal things would need equal hashes
    """The result of `matching`: equal to every text that has a pattern."""

    __slots__ = ("_pattern",)

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self._pattern = pattern

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, str):
            return NotImplemented
        return self._pattern.search(other) is not None

    def __repr__(self) -> str:
        return f"matching({self._pattern.pattern!r})"


def event(cls: type[Event] = Event, /, **fields: Any) -> EventMatcher:
    """
    A matcher that equals every event of *cls*, or of a subclass, with *fields*.

    Args:
        cls: The class; all events if it is left out.
        fields: Fields or properties of the event, each with a value that it equals,
            a class of which it is an instance, or a predicate that holds of it. A
            value may be anything whose `==` answers: `unittest.mock.ANY`,
            `pytest.approx(0.5)`, `matching("refused")`.

    Raises:
        TypeError: *cls* is no class of events, or none of its events has such a
            field.
    """
    candidate: Any = cls
    if not (isinstance(candidate, type) and issubclass(candidate, Event)):
        msg = f"event() takes a class of events first, not {show(candidate)}"
        raise TypeError(msg)
    kinds = [cls, *(kind for kind in CATALOGUE if issubclass(kind, cls))]
    for name in fields:
        # A matcher that fits no event at all would go unnoticed in `not in`.
        if not any(name in _names(kind) for kind in kinds):
            names = ", ".join(sorted({n for kind in kinds for n in _names(kind)}))
            msg = f"{cls.__name__} has no field {name!r}; there are {names}"
            raise TypeError(msg)
    return EventMatcher(cls, fields)


def matching(pattern: str | re.Pattern[str]) -> TextMatcher:
    """
    A matcher that equals every text in which *pattern* is found (`re.search`).

    Raises:
        re.error: *pattern* is not a regular expression.
    """
    return TextMatcher(re.compile(pattern))


def assert_events(
    events: Iterable[Event],
    expected: Iterable[Any],
    *,
    order: Arrangement = "strict",
) -> None:
    """
    Assert that *events* are the *expected* ones.

    Args:
        events: The events.
        expected: Matchers, classes of events (short for `event(cls)`), or events.
        order: `"strict"`: these, in this order, and no others. `"subsequence"`:
            in this order, and others may stand between. `"any"`: in any order, and
            others may be there. One event never serves two expectations.

    Raises:
        AssertionError: They are not; it shows both side by side, and for each event
            that is missing the one that came nearest, with the fields that differ.
        TypeError: *events* or *expected* is no collection, or has other values than
            events.
        ValueError: There is no such *order*.
    """
    __tracebackhide__ = True
    if order not in _SAID:
        msg = f"order: {order!r} is none of {', '.join(map(repr, _SAID))}"
        near = meant(order, _SAID)
        msg = f"{msg}: {near}" if near else msg
        raise ValueError(msg)
    both: dict[str, object] = {"events": events, "expected": expected}
    for name, argument in both.items():
        if not isinstance(argument, Iterable) or isinstance(argument, type):
            msg = f"{name} is a list, as in [event(TaskStarted)], not {show(argument)}"
            raise TypeError(msg)
    happened = list(events)
    for item in happened:
        each: object = item
        if not isinstance(each, Event):
            msg = f"events are what happened, as in simulation.events, not {show(item)}"
            raise TypeError(msg)
    wanted = [_wanted(item) for item in expected]
    if order == "strict":
        if len(happened) == len(wanted) and all(map(operator.eq, wanted, happened)):
            return
        pairs = None
    else:
        pairs = (_assign if order == "any" else _in_turn)(happened, wanted)
        if None not in pairs:
            return
    raise AssertionError(_report(happened, wanted, pairs, order))


# -- comparing ---------------------------------------------------------------------


@attrs.frozen(eq=False)
class _Exactly:
    """A whole event, or another value with `==`, as an expectation."""

    item: Any

    def __eq__(self, other: object) -> bool:
        return bool(self.item == other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return _brief(self.item) if isinstance(self.item, Event) else show(self.item)

    def differences(self, other: Event) -> list[str]:
        if self.item == other:
            return []
        near = self._matcher()
        return (near and near.differences(other)) or [f"it is not {show(self.item)}"]

    def likeness(self, other: Event) -> int:
        near = self._matcher()
        return near.likeness(other) if near else int(self.item == other)

    def _matcher(self) -> EventMatcher | None:
        item = self.item
        if not isinstance(item, Event):
            return None
        return EventMatcher(type(item), fields_of(item))


_Wanted: TypeAlias = EventMatcher | _Exactly


def _wanted(item: Any) -> _Wanted:
    if isinstance(item, EventMatcher):
        return item
    if isinstance(item, type):
        return event(item)
    return _Exactly(item)


def _holds(wanted: Any, value: object) -> bool:
    if value is _MISSING:
        return False
    if wanted == value:
        return True
    if isinstance(wanted, type):
        return isinstance(value, wanted)
    return callable(wanted) and bool(wanted(value))


def _names(cls: type[Event]) -> set[str]:
    """Return the fields and the properties of *cls*."""
    fields = set(cls.__match_args__)
    return {
        name
        for name in fields.union(*(vars(base) for base in cls.__mro__))
        if not name.startswith("_")
        and (name in fields or isinstance(getattr(cls, name, None), property))
    }


def _in_turn(happened: Sequence[Event], wanted: Sequence[_Wanted]) -> list[int | None]:
    """Give each expectation the first event after the one before it, or None."""
    pairs: list[int | None] = []
    start = 0
    for want in wanted:
        place = next(
            (i for i in range(start, len(happened)) if want == happened[i]), None
        )
        pairs.append(place)
        start = start if place is None else place + 1
    return pairs


def _assign(happened: Sequence[Event], wanted: Sequence[_Wanted]) -> list[int | None]:
    """Give as many expectations as possible an event of their own."""
    fits = [[i for i, e in enumerate(happened) if want == e] for want in wanted]
    owners: dict[int, int] = {}
    for first in range(len(wanted)):
        # The search is breadth first over expectations that would have to move, so that
        # it does not recurse.
        came: dict[int, int] = {}
        waiting = [first]
        for who in waiting:
            free = None
            for place in fits[who]:
                if place in came:
                    continue
                came[place] = who
                if place not in owners:
                    free = place
                    break
                waiting.append(owners[place])
            if free is not None:
                _move(free, first, came, owners)
                break
    places: list[int | None] = [None] * len(wanted)
    for place, who in owners.items():
        places[who] = place
    return places


def _move(place: int, first: int, came: dict[int, int], owners: dict[int, int]) -> None:
    """Give *place* to the last one to ask, and shift the earlier takers back by one."""
    had = {who: place for place, who in owners.items()}
    while True:
        who = came[place]
        owners[place] = who
        if who == first:
            return
        place = had[who]


# -- reporting ---------------------------------------------------------------------


@attrs.frozen
class _Row:
    mark: str
    left: str = ""
    right: str = ""
    note: str = ""


def _report(
    happened: list[Event],
    wanted: list[_Wanted],
    pairs: list[int | None] | None,
    order: Arrangement,
) -> str:
    """Events and expectations side by side, with the nearest to each missing one."""
    lines = [
        f"{len(happened)} events happened, {len(wanted)} were expected: {_SAID[order]}",
        "(= as expected, ! differs, - missing, + not expected)",
    ]
    cut = False
    if pairs is None:
        same = 0
        for want, item in zip(wanted, happened, strict=False):
            if want.differences(item):
                break
            same += 1
        if (len(wanted) - same) * (len(happened) - same) > _MANY:
            wanted, happened = wanted[: same + _WINDOW], happened[: same + _WINDOW]
            cut = True
        near = _align(happened[same:], wanted[same:])
        pairs = [*range(same), *(None if i is None else same + i for i in near)]
    elif order != "any" and len(wanted) * len(happened) <= _MANY:
        pairs = _align(happened, wanted)
    rows = list(_shortened(_Sides(happened, wanted, pairs, order).rows()))
    width = min(_COLUMN, max((len(row.left) for row in rows), default=0))
    lines.append(f"    {'expected':{width}} | happened")
    for row in rows[:_ROWS]:
        lines.append(f"  {row.mark} {row.left:{width}} | {row.right}".rstrip())
        if row.note:
            lines.append(f"      {row.note}")
    if cut or len(rows) > _ROWS:
        lines.append("… and so on")
    return "\n".join(lines)


@attrs.frozen
class _Sides:
    """Expectations and events, and which of them belong together."""

    happened: list[Event]
    wanted: list[_Wanted]
    pairs: list[int | None]
    order: Arrangement

    def rows(self) -> Iterator[_Row]:
        """A row for each, in order."""
        paired = set(self.pairs)
        others = [i for i in range(len(self.happened)) if i not in paired]
        for want, place in zip(self.wanted, self.pairs, strict=True):
            if place is None:
                yield self._missing(want, paired)
                continue
            while self.order != "any" and others and others[0] < place:
                yield self._other(others.pop(0))
            note = "; ".join(want.differences(self.happened[place]))
            yield _Row("!" if note else "=", repr(want), self._say(place), note)
        yield from map(self._other, others)

    def _other(self, place: int) -> _Row:
        return _Row("+" if self.order == "strict" else " ", "", self._say(place))

    def _missing(self, want: _Wanted, paired: set[int | None]) -> _Row:
        # It takes the nearest event; of equally near ones a free one; of those the
        # first.
        nearest, _, place = max(
            (
                (want.likeness(item), i not in paired, -i)
                for i, item in enumerate(self.happened)
            ),
            default=(0, False, 0),
        )
        if not nearest:
            return _Row("-", repr(want), "(nothing like it)")
        why = "; ".join(want.differences(self.happened[-place]))
        if not why:
            other = self.order == "any"
            why = "another one needs it" if other else "not where it should be"
        return _Row("-", repr(want), "", f"nearest is {self._say(-place)}: {why}")

    def _say(self, place: int) -> str:
        return f"{place}: {_brief(self.happened[place])}"


def _align(happened: Sequence[Event], wanted: Sequence[_Wanted]) -> list[int | None]:
    """Pair expectations with events, in order, so that as much as can be agrees."""
    weights = [
        [want.likeness(item) if want.differences(item) else _FULL for item in happened]
        for want in wanted
    ]
    # best[i][j] is the best score of the expectations from i and the events from j.
    best = [[0] * (len(happened) + 1) for _ in range(len(wanted) + 1)]
    for i in reversed(range(len(wanted))):
        for j in reversed(range(len(happened))):
            both = weights[i][j] and weights[i][j] + best[i + 1][j + 1]
            best[i][j] = max(best[i + 1][j], best[i][j + 1], both)
    pairs: list[int | None] = [None] * len(wanted)
    i = j = 0
    while i < len(wanted) and j < len(happened):
        if weights[i][j] and best[i][j] == weights[i][j] + best[i + 1][j + 1]:
            pairs[i] = j
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            i += 1
        else:
            j += 1
    return pairs


def _shortened(all_rows: Iterable[_Row]) -> Iterator[_Row]:
    """Return the rows without the middle of long runs of like rows."""
    rows = list(all_rows)
    start = 0
    while start < len(rows):
        end = start + 1
        mark = rows[start].mark
        while mark != "!" and end < len(rows) and rows[end].mark == mark:
            end += 1
        run = rows[start:end]
        if len(run) > 2 * _SHOWN + 1:
            yield from run[:_SHOWN]
            yield _Row(mark, "", f"… {len(run) - 2 * _SHOWN} more …")
            run = run[-_SHOWN:]
        yield from run
        start = end


def _brief(item: Event) -> str:
    """Return *item* without its number, its time, and default values."""
    parts = [
        f"{name}={show(value, _VALUE)}" for name, value in details_of(item).items()
    ]
    text = f"{type(item).__name__}({', '.join(parts)})"
    return text if len(text) <= _WIDTH else f"{text[:_WIDTH]}…"


def _say(wanted: object) -> str:
    """Return *wanted* as it was written, as far as possible."""
    name = getattr(wanted, "__name__", None)
    if isinstance(wanted, type):
        return wanted.__name__
    return name if callable(wanted) and isinstance(name, str) else show(wanted)
