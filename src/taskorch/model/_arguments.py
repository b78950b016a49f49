"""Tasks among the arguments of other tasks: a search for them, and their replacement.

A handle, a node of a workflow, a task and a `Reference` stand for the result of a task,
anywhere in lists, tuples, sets, mappings, named tuples, dataclasses, attrs classes,
partials and namespaces. Their classes have `stands_for_result = True`.
"""

from __future__ import annotations

from collections import ChainMap, OrderedDict, UserDict, UserList, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from functools import partial
from types import BuiltinFunctionType, FunctionType, MappingProxyType, SimpleNamespace
from typing import Any, Final, TypeAlias

import attrs

from taskorch.errors import InvalidTaskError
from taskorch.kit.frozen import frozen
from taskorch.kit.visible import said, show

#: The deepest level of containers in which a handle is found.
_DEEP: Final = 200
_DEEPEST: Final = 10_000
#: The most classes of arguments that are kept.
_MANY: Final = 4_096

_Rebuild: TypeAlias = Callable[[Any, Sequence[Any]], Any]


@frozen(eq=False)
class _Kind:
    """Functions to look into objects of a class, and to make others of their kind."""

    #: Returns the items of an object.
    items: Callable[[Any], Sequence[Any]]
    #: Returns the path of an item by its number, such as `['name'][0].field`.
    where: Callable[[Any, int], str]
    #: Makes an object with other items; None if that is impossible.
    rebuilt: _Rebuild | None = None
    #: The numbers of items that cannot be replaced.
    fixed: frozenset[int] = frozenset()
    #: The reason why no other object can be made.
    why: str = "of no known kind"


#: The kind of an object that itself stands for the result of a task.
_REFERENCE: Final = _Kind(lambda _: (), lambda _value, _number: "")


def _at(_value: Any, number: int) -> str:
    return f"[{number}]"


def _member(_value: Any, _number: int) -> str:
    return "{…}"


def _both(mapping: Any) -> list[Any]:
    return [*dict.keys(mapping), *dict.values(mapping)]


def _key(mapping: Any, number: int) -> str:
    keys = _both(mapping) if isinstance(mapping, dict) else [*mapping, *mapping]
    del keys[len(keys) // 2 :]
    if number < len(keys):
        return f" key {show(keys[number])}"
    return f"[{show(keys[number - len(keys)])}]"


def _pairs(items: Sequence[Any]) -> Iterable[tuple[Any, Any]]:
    half = len(items) // 2
    return zip(items[:half], items[half:], strict=True)


def _mapping(make: Callable[[Any, dict[Any, Any]], Any]) -> _Kind:
    return _Kind(_both, _key, lambda old, items: make(old, dict(_pairs(items))))


def _sequence(base: Any, make: _Rebuild | None) -> _Kind:
    return _Kind(lambda value: tuple(base.__iter__(value)), _at, make)


def _set(base: Any, make: _Rebuild | None) -> _Kind:
    return _Kind(lambda value: tuple(base.__iter__(value)), _member, make)


def _data(value: Any) -> Any:
    """Return the value that a `UserDict` or a `UserList` wraps, or an empty one."""
    wrapped = getattr(value, "__dict__", {}).get("data")
    return wrapped if isinstance(wrapped, dict | list) else ()


def _user_dict(make: Callable[[Any, dict[Any, Any]], Any] | None) -> _Kind:
    return _Kind(
        lambda value: _both(_data(value) or {}),
        lambda value, number: _key(_data(value), number),
        None if make is None else lambda old, items: make(old, dict(_pairs(items))),
    )


def _user_list(make: _Rebuild | None) -> _Kind:
    return _Kind(lambda value: tuple(list.__iter__(_data(value) or [])), _at, make)


def _attribute(value: Any, number: int) -> str:
    return f".{list(vars(value))[number]}"


def _in_partial(value: partial[Any], number: int) -> str:
    place = number - 1
    if place < 0:
        return ".func"
    if place < len(value.args):
        return f".args[{place}]"
    return f".keywords[{show(list(value.keywords)[place - len(value.args)])}]"


def _partial(old: partial[Any], items: Sequence[Any]) -> partial[Any]:
    end = 1 + len(old.args)
    keywords = dict(zip(old.keywords, items[end:], strict=True))
    return partial(items[0], *items[1:end], **keywords)


_ONCE: Final = "which cannot be made anew"
#: A view of a mapping, which cannot be made from its items.
_VIEW: Final = _Kind(tuple, _at, why=_ONCE)
_ITERATORS: Final[tuple[type, ...]] = (
    *(enumerate, reversed, zip, type(reversed([]))),
    *(type(iter([])), type(iter(())), type(iter({}.values())), type(iter(deque()))),
)
#: An iterator over an object in memory: pickling it gives the object and the position.
_ITERATOR: Final = _Kind(
    lambda value: tuple(value.__reduce__()[1]), lambda _value, _number: "", why=_ONCE
)

#: The kind of each class of arguments; None if it contains nothing.
KINDS: Final[dict[type, _Kind | None]] = {
    list: _sequence(list, lambda _, items: list(items)),
    tuple: _sequence(tuple, lambda _, items: tuple(items)),
    deque: _sequence(deque, lambda old, items: deque(items, old.maxlen)),
    set: _set(set, lambda _, items: set(items)),
    frozenset: _set(frozenset, lambda _, items: frozenset(items)),
    dict: _mapping(lambda _, pairs: pairs),
    OrderedDict: _mapping(lambda _, pairs: OrderedDict(pairs)),
    defaultdict: _mapping(lambda old, pairs: defaultdict(old.default_factory, pairs)),
    MappingProxyType: _Kind(
        lambda value: _both(dict(value)),
        _key,
        lambda _, items: MappingProxyType(dict(_pairs(items))),
    ),
    UserDict: _user_dict(lambda _, pairs: UserDict(pairs)),
    UserList: _user_list(lambda _, items: UserList(items)),
    ChainMap: _Kind(
        lambda value: tuple(value.maps),
        lambda _, number: f".maps[{number}]",
        lambda _, items: ChainMap(*items),
    ),
    SimpleNamespace: _Kind(
        lambda value: tuple(vars(value).values()),
        _attribute,
        lambda old, items: SimpleNamespace(**dict(zip(vars(old), items, strict=True))),
    ),
    partial: _Kind(
        lambda value: (value.func, *value.args, *value.keywords.values()),
        _in_partial,
        _partial,
    ),
    **{
        type(view): _VIEW
        for mapping in (dict[Any, Any](), OrderedDict[Any, Any]())
        for view in (mapping.keys(), mapping.values(), mapping.items())
    },
    **dict.fromkeys(_ITERATORS, _ITERATOR),
    **dict.fromkeys(
        (
            *(int, str, float, bool, bytes, bytearray, complex, range, slice),
            *(type(None), type, FunctionType, BuiltinFunctionType),
            *(date, datetime, time, timedelta),
        )
    ),
}
_KNOWN: Final = dict(KINDS)
#: The kinds of subclasses of Python's own classes: their overridden methods are not
#: called.
_BASES: Final = (
    (dict, _Kind(_both, _key)),
    (list, _sequence(list, None)),
    (tuple, _sequence(tuple, None)),
    (set, _set(set, None)),
    (frozenset, _set(frozenset, None)),
    (deque, _sequence(deque, None)),
    (UserDict, _user_dict(None)),
    (UserList, _user_list(None)),
)


def _kind_of(cls: type) -> _Kind | None:
    """Return the functions for objects of *cls*, or None if they contain nothing."""
    try:
        return KINDS[cls]
    except KeyError:
        if len(KINDS) > _MANY:
            KINDS.clear()
            KINDS.update(_KNOWN)
        kind = KINDS[cls] = _learn(cls)
        return kind


def _learn(cls: type) -> _Kind | None:
    if getattr(cls, "stands_for_result", False) is True:
        return _REFERENCE
    if issubclass(cls, tuple) and isinstance(getattr(cls, "_fields", None), tuple):
        names: tuple[str, ...] = cls._fields  # type: ignore[attr-defined]
        return _Kind(
            lambda value: tuple(tuple.__iter__(value)),
            lambda _, number: f".{names[number]}",
            lambda _, items: cls._make(items),  # type: ignore[attr-defined]
        )
    if attrs.has(cls):
        fields = {field.name: field for field in attrs.fields(cls)}
        arguments = {name: f.alias for name, f in fields.items() if f.init}
        return _record(cls, tuple(fields), arguments, attrs.evolve)
    if hasattr(cls, "__dataclass_fields__"):
        import dataclasses  # noqa: PLC0415 - somebody has loaded it

        # The type is Any, since type checkers know no dataclass here.
        record: Any = cls
        record_fields = dataclasses.fields(record)
        own = {field.name: field.name for field in record_fields if field.init}
        names = tuple(field.name for field in record_fields)
        return _record(cls, names, own, dataclasses.replace)
    return next((kind for base, kind in _BASES if issubclass(cls, base)), None)


def _record(
    cls: type,
    names: Sequence[str],
    arguments: Mapping[str, str],
    evolve: Callable[..., Any],
) -> _Kind:
    """Return a kind for objects with the fields *names*, which *evolve* copies.

    *arguments* has the constructor's names for the fields that it takes.
    """
    fields = frozenset(names)

    def attributes(value: Any) -> tuple[str, ...]:
        # The object may have attributes that are no fields.
        own = getattr(value, "__dict__", ())
        return (*names, *(name for name in own if name not in fields))

    def items(value: Any) -> list[Any]:
        return [getattr(value, name, None) for name in attributes(value)]

    def rebuilt(value: Any, replacements: Sequence[Any]) -> Any:
        changes = {}
        for name, old, new in zip(names, items(value), replacements, strict=False):
            if new is not old:
                changes[arguments[name]] = new
        another = evolve(value, **changes)
        for name, new in zip(attributes(value), replacements, strict=True):
            if name not in fields:
                object.__setattr__(another, name, new)
        return another

    fixed = frozenset(n for n, name in enumerate(names) if name not in arguments)
    kind = _Kind(
        items, lambda value, number: f".{attributes(value)[number]}", rebuilt, fixed
    )
    if _takes_more(cls, arguments.values()):
        # An argument that is no field, such as an InitVar of a dataclass, is not kept,
        # so the object cannot be rebuilt.
        why = "whose constructor takes more than its fields"
        return attrs.evolve(kind, rebuilt=None, why=why)
    return kind


def _takes_more(cls: type, names: Iterable[str]) -> bool:
    """Return whether the constructor of *cls* has parameters other than *names*."""
    # The signature is not read: its annotations may name missing objects.
    code = getattr(getattr(cls, "__init__", None), "__code__", None)
    if code is None:
        return False
    parameters = code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]
    return not set(parameters).issubset(names)


class _Level:
    """A container whose items are being searched."""

    __slots__ = ("holds", "items", "kind", "number", "value")

    def __init__(self, value: Any, kind: _Kind, items: Sequence[Any]) -> None:
        self.value = value
        self.kind = kind
        self.items = items
        #: The number of the present item.
        self.number = -1
        #: True if it contains a reference, however deep.
        self.holds = False


class _ReferenceSearch:
    """A search for references in arguments that looks into each container once."""

    def __init__(self) -> None:
        self.found: list[Any] = []
        #: For each container, by identity, whether it contains a reference; None while
        #: it is open.
        self.holds: dict[int, bool | None] = {}
        #: The objects whose identities are used, so that they stay alive.
        self._alive: list[Any] = []
        self._rings: set[int] = set()

    def visit(self, value: Any, name: str) -> None:
        """
        Find the references in an argument; *name* is its name in messages.

        Raises:
            InvalidTaskError: One is in a place where no result can replace it.
        """
        kind = _kind_of(type(value))
        if kind is None:
            return
        if kind is _REFERENCE:
            self.found.append(value)
            return
        levels: list[_Level] = []
        if id(value) not in self.holds:
            self._enter(value, kind, levels)
        while levels:
            level = levels[-1]
            if not self._visit_items(level, levels, name):
                continue
            levels.pop()
            self.holds[id(level.value)] = level.holds
            if not level.holds:
                continue
            if id(level.value) in self._rings:
                _refuse(name, levels, "is in a container that contains itself")
            if levels:
                self._note(levels, name)

    def _enter(self, value: Any, kind: _Kind, levels: list[_Level]) -> bool:
        """Open a container; return whether it needs a search."""
        self._alive.append(value)
        items = kind.items(value)
        if not may_refer(items):
            # Most containers hold only numbers and texts.
            self.holds[id(value)] = False
            return False
        self.holds[id(value)] = None
        levels.append(_Level(value, kind, items))
        return True

    def _visit_items(self, level: _Level, levels: list[_Level], name: str) -> bool:
        """Search the next items of *level*; return False if one must be opened."""
        while level.number + 1 < len(level.items):
            level.number += 1
            item = level.items[level.number]
            kind = _kind_of(type(item))
            if kind is None:
                continue
            if kind is _REFERENCE:
                self.found.append(item)
                self._note(levels, name)
            elif id(item) not in self.holds:
                if len(levels) >= _DEEPEST:
                    _refuse(name, levels[:3], f"goes {_DEEPEST:,} levels deep")
                if self._enter(item, kind, levels):
                    return False
            elif self.holds[id(item)] is None:
                self._rings.add(id(item))
            elif self.holds[id(item)]:
                self._note(levels, name)
        return True

    @staticmethod
    def _note(levels: list[_Level], name: str) -> None:
        """Note that the innermost of *levels* holds a reference."""
        level = levels[-1]
        level.holds = True
        if len(levels) > _DEEP:
            _refuse(name, levels[:3], f"has a handle {_DEEP} levels deep")
        if level.kind.rebuilt is None:
            cls = type(level.value).__name__
            why = level.kind.why
            _refuse(name, levels, f"is in an object of class {cls}, {why}")
        if level.number in level.kind.fixed:
            _refuse(name, levels, "is in a field that its constructor does not take")


def _refuse(name: str, levels: Sequence[_Level], why: str) -> None:
    steps = [level.kind.where(level.value, level.number) for level in levels]
    path = "".join(steps)
    place = f"{name} → {path.lstrip()}" if path else name
    msg = f"{place} {why}: a result could not take the place of a handle there"
    hint = "hand it over as an argument of its own, or in a list or a dict"
    raise InvalidTaskError(msg, hint=hint)


def refuse_in(fn: Callable[..., Any]) -> None:
    """
    Refuse references to results in the `functools.partial` that is to be called.

    Raises:
        InvalidTaskError: There is one.
    """
    if not isinstance(fn, partial):
        return
    for number, item in enumerate((fn.func, *fn.args, *fn.keywords.values())):
        if references((item,)):
            place = _in_partial(fn, number)
            msg = (
                f"the function, a partial, has a handle in its {place[1:]}: no result "
                "would take its place there"
            )
            hint = "hand it over beside the function, as an argument of its own"
            raise InvalidTaskError(msg, hint=hint)


def may_refer(values: Iterable[Any]) -> bool:
    """Return whether one of *values* may be, or contain, a reference."""
    kinds = KINDS
    # A generator would cost more, and this is called for every call.
    for cls in set(map(type, values)):  # noqa: SIM110
        if kinds.get(cls, kinds) is not None:
            return True
    return False


def _search(args: Sequence[Any], kwargs: Mapping[str, Any]) -> _ReferenceSearch:
    search = _ReferenceSearch()
    for number, arg in enumerate(args, 1):
        search.visit(arg, f"argument {number}")
    for name, arg in kwargs.items():
        search.visit(arg, f"argument {name!r}")
    return search


def references(
    args: Sequence[Any], kwargs: Mapping[str, Any] = MappingProxyType({})
) -> list[Any]:
    """
    Return all references to results in arguments, however deep.

    Raises:
        InvalidTaskError: One is in a place where no result can replace it; the message
            has its path.
    """
    if not (args and may_refer(args)) and not (kwargs and may_refer(kwargs.values())):
        return []
    return _search(args, kwargs).found


def replaced(
    args: Sequence[Any], kwargs: Mapping[str, Any], change: Callable[[Any], Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """
    Return arguments with each reference replaced by the result of *change*.

    A value without references is passed on as it is; others are made anew, of their
    type.

    Raises:
        InvalidTaskError: A reference is in a place where no result can replace it, or
            the constructor of the value around it refuses the result.
    """
    holds = _search(args, kwargs).holds
    replacements: dict[int, Any] = {}
    positional = tuple([_replaced(arg, change, holds, replacements) for arg in args])
    return positional, {
        k: _replaced(v, change, holds, replacements) for k, v in kwargs.items()
    }


def _replaced(
    value: Any,
    change: Callable[[Any], Any],
    holds: Mapping[int, bool | None],
    replacements: dict[int, Any],
) -> Any:
    """Return *value* with results for references; *replacements* keeps new objects."""
    kind = _kind_of(type(value))
    if kind is None:
        return value
    if kind is _REFERENCE:
        return change(value)
    key = id(value)
    if not holds.get(key):
        return value
    if key not in replacements:
        # A nested recursive function would be a cycle through its closure, which keeps
        # the results.
        items = [
            _replaced(item, change, holds, replacements) for item in kind.items(value)
        ]
        replacements[key] = _made(kind, value, items)
    return replacements[key]


def _made(kind: _Kind, value: Any, items: Sequence[Any]) -> Any:
    assert kind.rebuilt is not None  # noqa: S101 - else it was refused
    try:
        return kind.rebuilt(value, items)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        name, why = type(value).__name__, ": ".join(said(error))
        msg = f"no {name} can be made with a result in the place of a handle: {why}"
        hint = f"hand the handle over by itself, and make the {name} in the function"
        raise InvalidTaskError(msg, hint=hint) from error


@frozen
class Reference:
    """
    Stand-in for the handle of a task in the arguments of a `Call`.

    A journal keeps it in place of a handle, anywhere in the arguments. When the task
    runs, the result of the other task replaces it.

    Attributes:
        task_id: The id of the other task.
    """

    #: See `taskorch.model._arguments`.
    stands_for_result = True

    task_id: str
