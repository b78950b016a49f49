"""Results that like tasks have: what a key is made of, and who has its result."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import partial
from hashlib import blake2b
from pathlib import PurePath
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType
from typing import Any, Final, Protocol
from uuid import UUID
from weakref import WeakKeyDictionary

import attrs

from taskorch._limits import NS
from taskorch.errors import InvalidTaskError, UnknownTaskError
from taskorch.kernel import Kernel, TaskRow
from taskorch.model import Cache, Missing, TaskState
from taskorch.model._show import show
from taskorch.runtime._work import Work

#: How deep a value may be nested.
_DEEPEST: Final = 50
#: Bytes of a key, and of the digest of an argument.
_KEY_BYTES: Final = 16
_PART_BYTES: Final = 8
#: Of how many tasks it is known what was said of their results.
_SAID: Final = 10_000


class _UnsayableError(Exception):
    """A value has no document."""


# -- documents of values ---------------------------------------------------------------


def document(value: Any, depth: int = 0) -> bytes:  # noqa: C901, PLR0911, PLR0912 - one table
    """
    Bytes that values of the same type and content have in common, and no others.

    Raises:
        _UnsayableError: It has none.
    """
    kind = type(value)
    if kind is str:
        text: bytes = value.encode("utf-8", "surrogatepass")
        return b"s%d:%b" % (len(text), text)
    if kind is int:
        return b"i%d;" % value
    if value is None or kind is bool:
        return b"n" if value is None else b"t" if value else b"f"
    if kind is float:
        # All that is no number is alike; 0.0 and -0.0 are not.
        return b"d%b;" % (b"nan" if value != value else value.hex().encode())  # noqa: PLR0124
    if kind is bytes or kind is bytearray:
        return b"%b%d:%b" % (b"b" if kind is bytes else b"B", len(value), value)
    if depth > _DEEPEST:
        raise _UnsayableError
    depth += 1
    if kind is tuple or kind is list:
        parts = [document(item, depth) for item in value]
        return b"%b%d[%b]" % (kind.__name__.encode(), len(parts), b"".join(parts))
    if kind is set or kind is frozenset:
        parts = sorted(document(item, depth) for item in value)
        return b"%b%d[%b]" % (kind.__name__.encode(), len(parts), b"".join(parts))
    if kind is dict or isinstance(value, Mapping):
        parts = sorted(
            document(key, depth) + document(item, depth) for key, item in value.items()
        )
        return b"%b{%b}" % (_named(kind), b"".join(parts))
    if kind is complex:
        return b"c" + document((value.real, value.imag), depth)
    if kind in (datetime, date, time):
        zone = getattr(value, "tzinfo", None)
        return b"m" + document((kind.__name__, value.isoformat(), str(zone)), depth)
    if kind is timedelta:
        return b"l" + document((value.days, value.seconds, value.microseconds), depth)
    if kind in (Decimal, UUID) or isinstance(value, PurePath):
        return b"x" + document((kind.__name__, str(value)), depth)
    if isinstance(value, Enum):
        return b"e" + _named(kind) + document(value.name, depth)
    if isinstance(value, type):
        return b"T" + _named(value)
    if callable(value) and not hasattr(value, "__dataclass_fields__"):
        return b"F" + identity(value, depth)
    return _document_of_fields(value, kind, depth)


def _document_of_fields(value: Any, kind: Any, depth: int) -> bytes:
    fields = getattr(kind, "__dataclass_fields__", None)
    if fields is None and attrs.has(kind):
        fields = {field.name: field for field in attrs.fields(kind)}
    if fields is None and issubclass(kind, tuple):
        # A plain one is no set of fields.
        fields = dict.fromkeys(getattr(kind, "_fields", ())) or None
    if fields is not None:
        said = [(name, getattr(value, name)) for name in fields]
        return b"o" + _named(kind) + document(said, depth)
    # An array of numpy, of pandas or of PyTorch on the processor says its bytes.
    if hasattr(value, "__array_interface__") and value.dtype.kind != "O":
        content = blake2b(value.tobytes(), digest_size=_KEY_BYTES).digest()
        return b"a" + document((str(value.dtype), tuple(value.shape), content), depth)
    raise _UnsayableError


def _named(kind: type) -> bytes:
    return b"%b;" % f"{kind.__module__}.{kind.__qualname__}".encode()


# -- which function it is --------------------------------------------------------------


@attrs.frozen
class _Known:
    """What is known of a function, besides what it closes over."""

    text: bytes
    #: The names of the arguments that may be given by their place.
    names: tuple[str, ...]
    #: Those that have a default, with its document.
    defaults: dict[str, Any]
    #: Where the other arguments go: `*args`.
    rest: str
    free: tuple[str, ...] = ()


_KNOWN: Final[WeakKeyDictionary[Any, _Known]] = WeakKeyDictionary()


def _known(fn: Any) -> _Known:
    try:
        found = _KNOWN.get(fn)
    except TypeError:
        found = None
    if found is not None:
        return found
    name = f"{getattr(fn, '__module__', '')}.{getattr(fn, '__qualname__', fn)!s}"
    names: list[str] = []
    defaults: dict[str, Any] = {}
    rest = "*"
    with suppress(TypeError, ValueError):
        for each in inspect.signature(fn).parameters.values():
            if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD):
                names.append(each.name)
            elif each.kind is each.VAR_POSITIONAL:
                rest = f"*{each.name}"
            if each.default is not each.empty:
                defaults[each.name] = each.default
    code = getattr(fn, "__code__", None)
    text = name.encode() if code is None else name.encode() + b"\0" + _source(fn, code)
    free = () if code is None else code.co_freevars
    made = _Known(text, tuple(names), defaults, rest, free)
    with suppress(TypeError):
        _KNOWN[fn] = made
    return made


def _source(fn: Any, code: CodeType) -> bytes:
    """The source of *fn* without comments and layout; if there is none, its code."""
    if code.co_name != "<lambda>":
        with suppress(OSError, TypeError, SyntaxError, ValueError, IndexError):
            tree = ast.parse(textwrap.dedent(inspect.getsource(fn)))
            made: Any = tree.body[0]
            if getattr(made, "name", "") == code.co_name:
                # What decorates it is no part of what it does.
                made.decorator_list = []
                return ast.unparse(tree).encode("utf-8", "surrogatepass")
    return _code(code)


def _code(code: CodeType) -> bytes:
    consts = [
        _code(const) if isinstance(const, CodeType) else repr(const).encode()
        for const in code.co_consts
    ]
    names = " ".join((*code.co_names, *code.co_varnames)).encode()
    return b"\0".join((code.co_code, names, *consts))


def identity(fn: Any, depth: int = 0, version: str = "") -> bytes:
    """
    Bytes that say which function *fn* is: its name, its source and what it closes over.

    With a *version*, that takes the place of source and closure.

    Raises:
        InvalidTaskError: It closes over what has no document.
    """
    if isinstance(fn, partial):
        inner = identity(fn.func, depth, version)
        return b"p" + inner + document([fn.args, fn.keywords], depth + 1)
    if isinstance(fn, MethodType):
        inner = identity(fn.__func__, depth, version)
        return b"m" + inner + document(fn.__self__, depth + 1)
    if version:
        name = f"{getattr(fn, '__module__', '')}.{getattr(fn, '__qualname__', fn)!s}"
        return b"v" + document((name, version), depth)
    if not isinstance(fn, FunctionType | BuiltinFunctionType | type):
        call = getattr(type(fn), "__call__", None)  # noqa: B004 - what is looked into
        if not isinstance(call, FunctionType):
            raise _UnsayableError
        return b"k" + identity(call, depth) + _document_of_fields(fn, type(fn), depth)
    found = _known(fn)
    if not found.free:
        return found.text
    said = [found.text]
    cells: Any = getattr(fn, "__closure__", None) or ()
    for name, cell in zip(found.free, cells, strict=True):
        try:
            value = cell.cell_contents
            same = value is fn
            said.append(b"self" if same else document(value, depth + 1))
        except (ValueError, _UnsayableError, RecursionError):
            msg = (
                f"the result of {show(fn)} cannot be remembered: it closes over "
                f"{name!r}, which has no document"
            )
            hint = 'Cache(version="1") says which function it is'
            raise InvalidTaskError(msg, hint=hint) from None
    return b"".join(said)


# -- keys ------------------------------------------------------------------------------


@attrs.frozen
class Key:
    """What like tasks have in common."""

    kind: str
    text: str
    parts: tuple[tuple[str, bytes], ...]

    def digests(self) -> tuple[tuple[str, str], ...]:
        """The parts as they are kept."""
        return tuple((name, _digest(said)) for name, said in self.parts)


def _digest(said: bytes) -> str:
    return blake2b(said, digest_size=_PART_BYTES).hexdigest()


def key_of(
    kind: str, cache: Cache, fn: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Key:
    """
    The key of a call.

    Raises:
        InvalidTaskError: Something in it has no document: it says what.
    """
    known = _known(fn)
    try:
        # Most functions close over nothing: those are known by their source.
        is_plain = type(fn) is FunctionType and not known.free and not cache.version
        said = known.text if is_plain else identity(fn, 0, cache.version)
    except (_UnsayableError, RecursionError):
        msg = f"the result of {show(fn)} cannot be remembered: it has no document"
        hint = 'Cache(version="1") says which function it is'
        raise InvalidTaskError(msg, hint=hint) from None
    given: dict[str, Any] = {**known.defaults, **kwargs}
    names = known.names
    given.update(zip(names, args, strict=False))
    if len(args) > len(names):
        given[known.rest] = args[len(names) :]
    parts: list[tuple[str, bytes]] = [("(function)", said)]
    parts += [
        (name, _part(fn, name, given[name]))
        for name in sorted(given)
        if name not in cache.ignore
    ]
    return _key(kind, parts)


def _key(kind: str, parts: list[tuple[str, bytes]]) -> Key:
    said = [b"%d:%b%d:" % (len(kind), kind.encode(), len(parts))]
    for name, part in parts:
        said.append(b"%d:%b%d:%b" % (len(name), name.encode(), len(part), part))
    text = blake2b(b"".join(said), digest_size=_KEY_BYTES).hexdigest()
    return Key(kind, text, tuple(parts))


def _part(fn: Any, name: str, value: Any) -> bytes:
    try:
        return document(value)
    except (_UnsayableError, RecursionError):
        msg = (
            f"the result of {show(fn)} cannot be remembered: its argument {name!r} "
            f"is {show(value)}, which has no document"
        )
        hint = f"Cache(ignore={{{name!r}}}) if it makes no difference"
        raise InvalidTaskError(msg, hint=hint) from None


# -- who has the result ----------------------------------------------------------------


@attrs.frozen
class Found:
    """A task that has a result, or makes it."""

    work: Work
    is_running: bool


class Step(Protocol):
    """Makes a change of the kernel."""

    def __call__(self, change: Callable[[Kernel, int], None], *, keep: bool) -> None:
        """Make *change*; with *keep*, return once it is kept."""
        ...


class Memo:
    """
    Looks for the results of like tasks, in one life of an orchestrator.

    Args:
        host: A runtime, or a life in a simulation.
        recall: Looks in the journal for a task that has left memory.
        step: Makes a change of the kernel, which may be kept before it returns.
        waits: Whether an attempt may wait for one that makes its result.
    """

    def __init__(
        self,
        host: Any,
        recall: Callable[[str], None] | None,
        step: Step,
        *,
        waits: bool = True,
    ) -> None:
        self._host = host
        self._recall = recall
        self._step = step
        self._waits = waits
        #: What was said of the results of the latest tasks.
        self.said: dict[str, str] = {}

    def call(
        self,
        row: TaskRow,
        work: Work,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Any:
        """
        The result of a like task, or what *fn* returns.

        Raises:
            Exception: What *fn* raises, or InvalidTaskError: see `key_of`.
        """
        key = self._key(row, work, fn, args, kwargs)
        while True:
            found = self.look(row, work, key)
            if found is None:
                return fn(*args, **kwargs)
            # If it fails, or its result is gone by now, somebody makes it.
            with suppress(Exception):
                return found.work.result()  # type: ignore[attr-defined]
            if not found.is_running:
                return fn(*args, **kwargs)

    async def call_async(
        self,
        row: TaskRow,
        work: Work,
        fn: Callable[..., Coroutine[Any, Any, Any]],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Any:
        """As `call`, on a loop."""
        key = self._key(row, work, fn, args, kwargs)
        while True:
            found = self.look(row, work, key)
            if found is None:
                return await fn(*args, **kwargs)
            with suppress(Exception):
                return await found.work  # type: ignore[misc]
            if not found.is_running:
                return await fn(*args, **kwargs)

    def wrapped(
        self,
        row: TaskRow,
        work: Work,
        called: tuple[Callable[..., Any], tuple[Any, ...], Mapping[str, Any]],
        *,
        elsewhere: bool,
    ) -> tuple[Callable[..., Any], tuple[Any, ...], Mapping[str, Any]]:
        """What an executor calls in the place of *called*."""
        fn, args, kwargs = called
        if elsewhere:
            key = self._key(row, work, fn, args, kwargs)
            found = self.look(row, work, key, joins=False)
            return called if found is None else (_same, (found.work._value,), {})
        if inspect.iscoroutinefunction(fn):
            return self.call_async, (row, work, fn, args, kwargs), {}
        return self.call, (row, work, fn, args, kwargs), {}

    def _key(
        self,
        row: TaskRow,
        work: Work,
        fn: Any,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Key:
        task = work._task
        assert task is not None  # noqa: S101 - it has a cache
        assert task.cache is not None  # noqa: S101
        if work._executor is None:
            # A handler: of what it is given, the payload makes the difference.
            return _key_of_handler(task.type, task.cache, fn, task.payload)
        return key_of(row.bucket.spec.type, task.cache, fn, args, kwargs)

    def look(
        self, row: TaskRow, work: Work, key: Key, *, joins: bool = True
    ) -> Found | None:
        """Who has, or makes, the result; None: *row* makes it, and that is noted."""
        task = work._task
        cache = None if task is None else task.cache
        assert cache is not None  # noqa: S101 - as in `_key`
        if self._recall is not None:
            known = self._host.kernel.remembered.get(key.text)
            if known is not None:
                self._recall(known[0])
        found: list[Found] = []

        def change(kernel: Kernel, now: int) -> None:
            why = self._find(kernel, row, key, cache, now, found, joins=joins)
            if found:
                source = found[0].work._row.id
                kernel.reuse_result(row.id, key.text, source, why, now)
                self._say(row.id, f"hit: {why}")
            else:
                entry = kernel.remembered.get(key.text)
                if entry is None or entry[0] != row.id:
                    digests = key.digests()
                    kernel.remember_result(
                        row.id, key.kind, key.text, digests, why, now
                    )
                self._say(row.id, f"miss: {why}")

        self._step(change, keep=False)
        return found[0] if found else None

    def _find(
        self,
        kernel: Kernel,
        row: TaskRow,
        key: Key,
        cache: Cache,
        now: int,
        found: list[Found],
        *,
        joins: bool,
    ) -> str:
        """Under the lock: put who has the result into *found*, and say why, or not."""
        entry = kernel.remembered.get(key.text)
        if entry is None:
            return self._nearest(kernel, key)
        source_id, _, _, at_ns = entry
        if source_id.partition("~")[0] == row.id.partition("~")[0]:
            return "it is run again"
        age = (now - at_ns) / NS
        if cache.expires is not None and age >= cache.expires:
            return f"the result of {source_id} has expired: it is {age:.3g} s old"
        try:
            source: Work = self._host.directory.known(source_id)
        except UnknownTaskError:
            return f"the result of {source_id} is not there any more"
        state = source._row.state
        if state is TaskState.COMPLETED:
            if type(source._value) is Missing or source._error is not None:
                return f"the result of {source_id} is not there any more"
            found.append(Found(source, is_running=False))
            return f"the result of {source_id}, which is {age:.3g} s old"
        if state is TaskState.RUNNING and joins and self._waits:
            found.append(Found(source, is_running=True))
            return f"{source_id} was making it already"
        return f"{source_id}, which was to make it, is {state}"

    def _nearest(self, kernel: Kernel, key: Key) -> str:
        """Why there is no result: in what the latest of the type differs."""
        mine: dict[str, str] | None = None
        best: tuple[list[str], str] | None = None
        looked = 0
        for task_id, kind, parts, _ in reversed(kernel.remembered.values()):
            if kind != key.kind:
                continue
            looked += 1
            if mine is None:
                mine = dict(key.digests())
            theirs = dict(parts)
            names = [
                name
                for name in {**mine, **theirs}
                if mine.get(name) != theirs.get(name)
            ]
            if best is None or len(names) < len(best[0]):
                best = names, task_id
            if len(best[0]) <= 1 or looked >= 10:  # noqa: PLR2004 - the latest will do
                break
        if best is None:
            return f"nothing is remembered of the type {key.kind}"
        names, task_id = best
        if names == ["(function)"] or not names:
            return f"the function, or its version, is not that of {task_id}"
        shown = ", ".join(repr(name) for name in names if name != "(function)")
        many = "arguments" if shown.count(",") else "argument"
        verb = "differ" if shown.count(",") else "differs"
        also = ", and so does the function" if "(function)" in names else ""
        return f"{many} {shown} {verb} from that of {task_id}{also}"

    def _say(self, task_id: str, text: str) -> None:
        self.said[task_id] = text
        if len(self.said) > _SAID:
            del self.said[next(iter(self.said))]

    def clear(self, kind: str | None = None, task_id: str | None = None) -> int:
        """Forget results: all, those of a type, or that of a task; how many."""
        gone: list[str] = []

        def change(kernel: Kernel, now: int) -> None:
            for key, (source, type_, _, _) in kernel.remembered.items():
                if kind in (None, type_) and task_id in (None, source):
                    gone.append(key)
            kernel.forget_results(gone, now)

        self._step(change, keep=True)
        return len(gone)


def _key_of_handler(kind: str, cache: Cache, handler: Any, payload: Any) -> Key:
    said = identity(handler, 0, cache.version)
    if isinstance(payload, Mapping) and all(isinstance(name, str) for name in payload):
        given = dict(payload)
    else:
        given = {"payload": payload}
    parts = [("(function)", said)]
    parts += [
        (name, _part(handler, name, given[name]))
        for name in sorted(given)
        if name not in cache.ignore
    ]
    return _key(kind, parts)


def _same(value: Any) -> Any:
    """The value: in another process, in the place of the function."""
    return value
