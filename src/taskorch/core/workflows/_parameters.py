"""
The parameters of a workflow: their types, and checks of their values.

Decision: workflows.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from enum import Enum
from typing import Annotated, Any, Final, Literal, TypeAlias

from taskorch.errors import InvalidTaskError
from taskorch.kit.visible import show
from taskorch.kit.vocabulary import guess

#: The parameter that gets the scheduled time.
TICK: Final = "slot"
_EMPTY: Final = inspect.Parameter.empty
#: Parameters by name, with their types and defaults.
Parameters: TypeAlias = Mapping[str, inspect.Parameter]
#: The types that a document can name.
TYPES: Final[Mapping[str, type]] = {
    each.__name__: each for each in (bool, date, datetime, float, int, str)
}
#: Types of values that are kept with a run.
_KEPT: Final = (str, int, float, date, type(None))
#: Characters of an id that stand for parameters; more, if others have these.
DIGESTS: Final = (8, 16, 64)
_WHOLE: Final = re.compile(r"[+-]?\d+", re.ASCII)


class _OtherKindError(ValueError):
    """A value is not of a type, nor a text for one."""


_FLAGS: Final[Mapping[str, bool]] = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0"), False),
}


def declared(parameters: object) -> Parameters | None:
    """
    Return the parameters of `Workflow(parameters=…)`: a type, or a default, for each.

    Raises:
        InvalidTaskError: It is no mapping by names.
    """
    if parameters is None:
        return None
    if not isinstance(parameters, Mapping) or not all(map(_is_name, parameters)):
        msg = f"parameters is a mapping by names, not {show(parameters)}"
        raise InvalidTaskError(msg, hint="parameters={'day': date, 'shop': 'all'}")
    return {
        name: parameter_of(name, each)
        if isinstance(each, type) or typing.get_origin(each) is not None
        else parameter_of(name, default=each)
        for name, each in parameters.items()
    }


def _with_default_of_its_type(parameter: inspect.Parameter) -> inspect.Parameter:
    """
    Return *parameter* with its default converted as a given value would be.

    Raises:
        InvalidTaskError: The default is of another type, and no text for one.
    """
    kind, default = _kind_of(parameter), parameter.default
    if default is _EMPTY or default is None or kind is _EMPTY:
        return parameter
    try:
        return parameter.replace(default=_converted(kind, default))
    except ValueError:
        if kind not in TYPES.values() and typing.get_origin(kind) is not Literal:
            # A default of a class of the user's may stand for no value at all.
            return parameter
        msg = (
            f"the default of {parameter.name} is {show(default)}, "
            f"and it must be {in_words(kind)}"
        )
        raise InvalidTaskError(msg, hint="mend the default, or the type") from None


def parameter_of(
    name: str, kind: Any = _EMPTY, default: Any = _EMPTY
) -> inspect.Parameter:
    """Return a parameter from its name, its type and its default."""
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind
    )


def of_function(fn: Callable[..., Any]) -> Parameters:
    """
    Return the parameters of *fn* that can be given by name.

    Raises:
        InvalidTaskError: A default is of another type than its parameter.
    """
    try:
        signature = inspect.signature(fn, eval_str=True)
    except Exception:  # noqa: BLE001 - an annotation is any code
        signature = inspect.signature(fn)
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {
        name: _with_default_of_its_type(each)
        for name, each in signature.parameters.items()
        if each.kind in named
    }


def values_of(
    who: str,
    parameters: Parameters,
    values: object,
    tick: datetime | None = None,
) -> dict[str, Any]:
    """
    Return the value of each parameter, of its type: the given one, or its default.

    Args:
        who: The name of the owner of these parameters.
        parameters: Their types and defaults.
        values: The given values, by name. A text is converted to the type.
        tick: The scheduled time, for the parameter `tick`.

    Raises:
        InvalidTaskError: A value is of another type, or one is missing or unknown.
    """
    by_name = by_names(values)
    faults = [
        f"there is no parameter {show(name)}{guess(name, parameters)}"
        for name in by_name
        if name not in parameters
    ]
    bound: dict[str, Any] = {}
    for name, parameter in parameters.items():
        kind = _kind_of(parameter)
        if name in by_name:
            try:
                bound[name] = _converted(kind, by_name[name])
            except ValueError:
                faults.append(f"{name} is {in_words(kind)}, not {show(by_name[name])}")
        elif name == TICK and tick is not None:
            bound[name] = _tick_as(kind, tick)
        elif parameter.default is _EMPTY:
            faults.append(f"{name} is missing, which is {in_words(kind)}")
        else:
            bound[name] = parameter.default
    if faults:
        msg = f"the parameters of {who}: {'; '.join(faults)}"
        names = ", ".join(parameters)
        raise InvalidTaskError(msg, hint=f"it has {names or 'no parameters'}")
    return bound


def by_names(values: object) -> dict[str, Any]:
    """
    Return the given values, by name.

    Raises:
        InvalidTaskError: It is no mapping by names.
    """
    if values is None:
        return {}
    if not isinstance(values, Mapping) or not set(map(type, values)) <= {str}:
        msg = f"parameters is a mapping by names, not {show(values)}"
        raise InvalidTaskError(msg, hint="parameters={'shop': 'oslo'}")
    return dict(values)


def kept(values: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the values that are kept with a run: texts, numbers, flags, days and times.

    An enum is kept as its value, or as its name if that value cannot be kept. Values
    that only code can hold are for the call only.
    """
    plain = {name: _without_enums(each) for name, each in values.items()}
    return {name: each for name, each in plain.items() if _is_kept(each)}


def as_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values as JSON has them: days and times are ISO texts."""
    return {name: _with_texts(each) for name, each in values.items()}


def as_text(values: Mapping[str, Any]) -> str:
    """
    Return values as a text, which is the same for the same values, and for no others.

    Raises:
        InvalidTaskError: They are more than texts, numbers, flags and times.
    """
    try:
        return json.dumps(as_json(values), sort_keys=True, allow_nan=False)
    except (TypeError, ValueError):
        msg = "the parameters of an id are texts, numbers, flags and times"
        raise InvalidTaskError(msg) from None


def digest_of(values: Mapping[str, Any], length: int = DIGESTS[0]) -> str:
    """
    Return a word for values in an id, which is the same for the same values.

    Other values may have it, too; they differ in a longer one.

    Raises:
        InvalidTaskError: They are more than texts, numbers, flags and times.
    """
    return hashlib.sha256(as_text(values).encode()).hexdigest()[:length]


def in_words(kind: Any) -> str:
    """Return a description of a type: `a date such as 2026-11-25`."""
    if kind is _EMPTY or kind is Any:
        return "any value"
    if isinstance(kind, type) and issubclass(kind, Enum):
        return f"one of {', '.join(str(each.value) for each in kind)}"
    if typing.get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, typing.get_args(kind)))}"
    words = {
        bool: "true or false",
        date: "a date such as 2026-11-25",
        datetime: "a time such as 2026-11-25T03:00+01:00",
        float: "a number",
        int: "a whole number",
        str: "a text",
    }
    name = kind.__name__ if isinstance(kind, type) else str(kind)
    return words.get(kind, name)


def fields(parameters: Parameters, values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """
    Return the fields of a form: the name, the type and the value of each parameter.

    Args:
        parameters: The declared ones. The scheduled time is not asked for.
        values: Values that replace their defaults, also of undeclared names.
    """
    named = {each: parameter_of(each, default=values[each]) for each in values}
    asked: list[dict[str, Any]] = []
    for name, parameter in {**named, **parameters}.items():
        if name == TICK:
            continue
        value = values.get(name, parameter.default)
        kind = in_words(_kind_of(parameter))
        field: dict[str, Any] = {"name": name, "is": kind, "needed": value is _EMPTY}
        if value is not _EMPTY:
            field["value"] = as_json(kept({name: value})).get(name)
        asked.append(field)
    return asked


def write(parameters: Parameters) -> dict[str, Any]:
    """
    Return parameters as a document has them.

    Raises:
        InvalidTaskError: A document cannot represent a type, or a default.
    """
    document: dict[str, Any] = {}
    for name, parameter in parameters.items():
        kind = _kind_of(parameter)
        entry: dict[str, Any] = {}
        if typing.get_origin(kind) is Literal:
            entry["choices"] = [*typing.get_args(kind)]
        elif kind in TYPES.values():
            entry["type"] = kind.__name__
        elif kind is not _EMPTY:
            msg = f"the parameter {name} is {in_words(kind)}, which no document says"
            hint = f"types of documents: {', '.join(TYPES)}; or choices"
            raise InvalidTaskError(msg, hint=hint)
        if parameter.default is not _EMPTY:
            entry.update(as_json({"default": parameter.default}))
        document[name] = entry
    return document


def _is_name(name: object) -> bool:
    return isinstance(name, str) and name.isidentifier()


def _without_enums(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value if _is_kept(value.value) else value.name
    if isinstance(value, list | tuple):
        items = [*map(_without_enums, value)]
        return items if isinstance(value, list) else tuple(items)
    return value


def _with_texts(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [*map(_with_texts, value)]
    return value.isoformat() if isinstance(value, date) else value


def _is_kept(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_kept, value))
    return isinstance(value, _KEPT)


def _kind_of(parameter: inspect.Parameter) -> Any:
    """Return the type that a parameter declares, or that of its default."""
    kind, default = parameter.annotation, parameter.default
    while typing.get_origin(kind) is Annotated:
        kind = typing.get_args(kind)[0]
    if isinstance(kind, str):
        # The annotations of the function cannot be evaluated.
        return TYPES.get(kind.rpartition(".")[2], _EMPTY)
    if kind is _EMPTY and default is not _EMPTY and default is not None:
        return type(default)
    return kind


def _tick_as(kind: Any, tick: datetime) -> Any:
    if kind is date:
        return tick.date()
    return tick.isoformat() if kind is str else tick


def _converted(kind: Any, value: Any) -> Any:
    """
    Return *value* as one of a type, if it is of it or a text for one.

    Raises:
        ValueError: It is neither.
    """
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return _converted(args[0], value)
    if origin is Literal:
        return _chosen(args, args, value)
    if origin in (typing.Union, types.UnionType):
        return _of_union(args, value)
    cls = origin or kind
    if cls in (list, tuple):
        return _sequence(cls, args, value)
    if cls in _READERS:
        return _READERS[cls](value)
    if isinstance(cls, type) and cls is not _EMPTY and not isinstance(value, cls):
        if not issubclass(cls, Enum):
            raise _OtherKindError
        members, names = [*cls], [*cls.__members__]
        choices = [*members, *cls.__members__.values()]
        return _chosen(choices, [*(each.value for each in members), *names], value)
    return value


def _chosen(choices: Sequence[Any], values: Sequence[Any], value: Any) -> Any:
    """Return the choice whose value is *value*, or is written as that text."""
    for choice, own in zip(choices, values, strict=False):
        if type(own) is type(value) and own == value:
            return choice
    for choice, own in zip(choices, values, strict=False):
        if isinstance(value, str) and str(own) == value:
            return choice
    raise _OtherKindError


def _of_union(kinds: Sequence[Any], value: Any) -> Any:
    if value is None and type(None) in kinds:
        return None
    # A text is converted to any other type first.
    for kind in sorted(kinds, key=lambda each: each is str):
        if kind is not type(None):
            try:
                return _converted(kind, value)
            except ValueError:
                continue
    raise _OtherKindError


def _sequence(cls: type, args: tuple[Any, ...], value: Any) -> Any:
    if not isinstance(value, list | tuple):
        raise _OtherKindError
    if cls is tuple and args and args[-1] is not Ellipsis:
        if len(args) != len(value):
            raise _OtherKindError
        return tuple(_converted(k, each) for k, each in zip(args, value, strict=True))
    kind = args[0] if args else _EMPTY
    return cls(_converted(kind, each) for each in value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or isinstance(value, Enum):
        raise _OtherKindError
    return value


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    word = _FLAGS.get(value.lower()) if isinstance(value, str) else None
    if word is None:
        raise _OtherKindError
    return word


def _whole(value: Any) -> int:
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise _OtherKindError
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise _OtherKindError
    try:
        number = float(value)
    except OverflowError:
        raise _OtherKindError from None
    if not math.isfinite(number):
        raise _OtherKindError
    return number


def _day(value: Any) -> date:
    if isinstance(value, str):
        return date.fromisoformat(value)
    if isinstance(value, datetime) or not isinstance(value, date):
        raise _OtherKindError
    return value


def _time(value: Any) -> datetime:
    if isinstance(value, str):
        return datetime.fromisoformat(value)
    if not isinstance(value, datetime):
        raise _OtherKindError
    return value


#: Functions that convert a value, or a text for one, to a type.
_READERS: Final[Mapping[Any, Callable[[Any], Any]]] = {
    bool: _flag,
    date: _day,
    datetime: _time,
    float: _number,
    int: _whole,
    str: _text,
}
