"""
Keys of calls: like ones have one key.

Decision: kept-values.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import partial
from hashlib import blake2b
from types import FunctionType, MethodType
from typing import Any, Final
from weakref import WeakKeyDictionary

import attrs

from taskorch.errors import InvalidTaskError
from taskorch.kit.building import called_in
from taskorch.kit.digests import (
    UndescribedError,
    described,
    described_function,
    name_of,
    packed,
)
from taskorch.kit.visible import show
from taskorch.kit.vocabulary import meant
from taskorch.model import Cache, Call, Task

#: Bytes of a key, and of the digest of an argument.
_KEY_BYTES: Final = 16
_PART_BYTES: Final = 8


@attrs.frozen
class Key:
    """The key of like tasks."""

    kind: str
    text: str
    parts: tuple[tuple[str, bytes], ...]

    def digests(self) -> tuple[tuple[str, str], ...]:
        """Return the parts as they are kept."""
        return tuple((name, _digest(said)) for name, said in self.parts)


def _digest(said: bytes) -> str:
    return blake2b(said, digest_size=_PART_BYTES).hexdigest()


def key_of(
    kind: str, task: Task, fn: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Key:
    """
    Return the key of *task*, of a type, which is done by a call of *fn*.

    Raises:
        InvalidTaskError: Something in it has no description: it says what.
    """
    cache = task.cache
    assert cache is not None  # noqa: S101 - only such tasks come here
    if cache.key:
        parts = _parts_that_were_said(cache, fn)
    elif isinstance(task.payload, Call):
        parts = _parts_of_call(cache, called_in(fn), args, kwargs)
    else:
        # For a handler, only the payload makes a difference among its arguments.
        parts = _parts_of_payload(cache, fn, task.payload)
    if task.owner is not None:
        # A tenant gets no result that another tenant has made.
        tenant = task.owner.encode("utf-8", "surrogatepass")
        parts = [*parts, ("(tenant)", tenant)]
    return _key(kind, parts)


def _parts_of_call(
    cache: Cache, fn: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> list[tuple[str, bytes]]:
    parts = [("(function)", _function(fn, cache))]
    if hasattr(fn, "__wrapped__") or hasattr(fn, "__signature__"):
        # The function has the signature of another one: it sees how it is called.
        parts.append(("(call)", described((len(args), {*kwargs}))))
    arguments = _arguments(fn, args, kwargs, cache.ignore)
    return parts + _described(fn, arguments, cache.ignore)


def _parts_of_payload(
    cache: Cache, handler: Any, payload: Any
) -> list[tuple[str, bytes]]:
    # The names are those in a payload, or that of the payload itself.
    has_names = type(payload) is dict and all(type(name) is str for name in payload)
    parts = [("(function)", _function(handler, cache))]
    parts.append(("(payload)", b"by names" if has_names else b"whole"))
    named = payload if has_names else {"payload": payload}
    return parts + _described(handler, named, cache.ignore)


def _parts_that_were_said(cache: Cache, fn: Any) -> list[tuple[str, bytes]]:
    key = cache.key.encode("utf-8", "surrogatepass")
    return [("(function)", _function(fn, cache)), ("(key)", key)]


def _function(fn: Any, cache: Cache) -> bytes:
    """Return a description of the function, with bound values unless the key is set."""
    parts: list[bytes] = []
    inner = fn
    try:
        while isinstance(inner, partial | MethodType):
            if isinstance(inner, partial):
                bound: Any = inner.args, inner.keywords
                inner = inner.func
            else:
                bound = inner.__self__
                inner = inner.__func__
            if not cache.key:
                parts.append(described(bound))
        is_plain = isinstance(inner, FunctionType | type)
        if not cache.version:
            parts.append(described_function(inner))
        elif not is_plain and not cache.key:
            # A built-in method, or an object that is called, has a state.
            parts.append(described(inner))
    except (UndescribedError, RecursionError) as error:
        msg = f"the result of {show(fn)} cannot be remembered: {error}"
        hint = 'Cache(version="1") says which function it is'
        if inner is not fn or not isinstance(fn, FunctionType | type):
            hint = 'Cache(version="1", key=…) says which function it is, and for what'
        raise InvalidTaskError(msg, hint=hint) from None
    plain = inner if isinstance(inner, FunctionType | type) else type(inner)
    name = name_of(plain).encode("utf-8", "surrogatepass")
    return packed(b"function", name, cache.version.encode("utf-8", "replace"), *parts)


#: Signatures of functions; None if unknown.
_SIGNATURES: Final[WeakKeyDictionary[FunctionType, inspect.Signature | None]] = (
    WeakKeyDictionary()
)


def _signature(fn: Any) -> inspect.Signature | None:
    if type(fn) is FunctionType and fn in _SIGNATURES:
        return _SIGNATURES[fn]
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):
        signature = None
    if type(fn) is FunctionType:
        _SIGNATURES[fn] = signature
    return signature


def _arguments(
    fn: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], ignore: frozenset[str]
) -> dict[str, Any]:
    """
    Return the arguments of a call by the names of parameters, with defaults.

    Those of `*args` are one, `*args`. Those of `**kwargs` have their own names, behind
    `**` where a parameter has the same name.

    Raises:
        InvalidTaskError: One that is ignored is no parameter.
    """
    signature = _signature(fn)
    try:
        bound = None if signature is None else signature.bind(*args, **kwargs)
    except TypeError:
        # The call will fail.
        bound = None
    if signature is None or bound is None:
        return {"*": args, **{f"**{name}": item for name, item in kwargs.items()}}
    bound.apply_defaults()
    arguments: dict[str, Any] = {}
    more: Mapping[str, Any] = {}
    is_open = False
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            is_open, more = True, bound.arguments[name]
        else:
            stars = "*" if parameter.kind is parameter.VAR_POSITIONAL else ""
            arguments[f"{stars}{name}"] = bound.arguments[name]
    for name, item in more.items():
        is_free = name not in arguments and name[:1] not in ("*", "(")
        arguments[name if is_free else f"**{name}"] = item
    for name in sorted(ignore):
        if not is_open and name not in arguments and f"*{name}" not in arguments:
            names = [each.lstrip("*") for each in arguments]
            msg = f"cache: {show(fn)} has no argument {name!r} that could be ignored"
            hint = meant(name, names, f"it has {', '.join(names) or 'none'}")
            raise InvalidTaskError(msg, hint=hint)
    return arguments


def _described(
    fn: Any, arguments: Mapping[str, Any], ignore: frozenset[str]
) -> list[tuple[str, bytes]]:
    parts: list[tuple[str, bytes]] = []
    for name in sorted(arguments):
        if name in ignore or (name[:1] == "*" and name[1:] in ignore):
            continue
        try:
            parts.append((name, described(arguments[name])))
        except (UndescribedError, RecursionError) as error:
            msg = (
                f"the result of {show(fn)} cannot be remembered: its argument {name!r} "
                f"is {show(arguments[name])}, which has no document: {error}"
            )
            hint = (
                f"Cache(ignore={{{name!r}}}) if it makes no difference, or "
                "Cache(key=…): a text that stands for all arguments"
            )
            raise InvalidTaskError(msg, hint=hint) from None
    return parts


def _key(kind: str, parts: list[tuple[str, bytes]]) -> Key:
    pairs = (packed(b"", name.encode(), part) for name, part in parts)
    whole = packed(b"call", kind.encode(), *pairs)
    return Key(kind, blake2b(whole, digest_size=_KEY_BYTES).hexdigest(), tuple(parts))
