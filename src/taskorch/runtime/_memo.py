"""
Remembered results: what calls are, described, and where the result of a like one is.

Decision: 0113.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import suppress
from functools import partial
from hashlib import blake2b
from types import (
    FunctionType,
    MethodType,
)
from typing import Any, Final, NamedTuple, Protocol
from weakref import WeakKeyDictionary

import attrs

from taskorch.errors import InvalidTaskError, UnknownTaskError
from taskorch.events import ResultRemembered, ResultReused, ResultsForgotten
from taskorch.kernel import Kernel, TaskRow
from taskorch.kit.building import called_in
from taskorch.kit.digests import (
    UndescribedError,
    described,
    described_function,
    name_of,
    packed,
)
from taskorch.kit.limits import MAX_DOCUMENTS, NS
from taskorch.kit.visible import show
from taskorch.kit.vocabulary import meant
from taskorch.model import Cache, Missing, TaskState
from taskorch.model.ids import stem_of
from taskorch.runtime._translation import is_coroutine_function
from taskorch.runtime._work import Work

# -- results that like tasks have: what a key is made of, and who has its result -------


#: Bytes of a key, and of the digest of an argument.
_KEY_BYTES: Final = 16
_PART_BYTES: Final = 8
#: Of how many tasks it is known what was said of their results.
_SAID: Final = 10_000
#: The name of the documents of results, by the keys of these.
_MEMO: Final = "memo"


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
        InvalidTaskError: Something in it has no description: it says what.
    """
    if cache.key:
        return _key_that_was_said(kind, cache, fn)
    fn = called_in(fn)
    parts = [("(function)", _function(fn, cache))]
    if hasattr(fn, "__wrapped__") or hasattr(fn, "__signature__"):
        # What it says that it takes is what another takes: it sees how it is called.
        parts.append(("(call)", described((len(args), {*kwargs}))))
    arguments = _arguments(fn, args, kwargs, cache.ignore)
    return _key(kind, [*parts, *_described(fn, arguments, cache.ignore)])


def _key_of_handler(kind: str, cache: Cache, handler: Any, payload: Any) -> Key:
    if cache.key:
        return _key_that_was_said(kind, cache, handler)
    # The names are those in a payload, or that of the payload itself.
    has_names = type(payload) is dict and all(type(name) is str for name in payload)
    parts = [("(function)", _function(handler, cache))]
    parts.append(("(payload)", b"by names" if has_names else b"whole"))
    named = payload if has_names else {"payload": payload}
    return _key(kind, [*parts, *_described(handler, named, cache.ignore)])


def _key_that_was_said(kind: str, cache: Cache, fn: Any) -> Key:
    key = cache.key.encode("utf-8", "surrogatepass")
    return _key(kind, [("(function)", _function(fn, cache)), ("(key)", key)])


def _function(fn: Any, cache: Cache) -> bytes:
    """Which function it is, and what is bound to it unless a key stands for that."""
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
            # A method of Python's, or an object that is called, has a state.
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


#: Of functions, their parameters; None: nobody knows.
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
    The arguments of a call by the names of parameters, with defaults.

    Those of `*args` are one, `*args`. Those of `**kwargs` have their own names, behind
    `**` where that is the name of another.

    Raises:
        InvalidTaskError: One that is ignored is no parameter.
    """
    signature = _signature(fn)
    try:
        bound = None if signature is None else signature.bind(*args, **kwargs)
    except TypeError:
        # It will fail.
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
    text = blake2b(whole, digest_size=_KEY_BYTES).hexdigest()
    return Key(kind, text, tuple(parts))


# -- who has the result ----------------------------------------------------------------


@attrs.frozen
class Found:
    """A task that has a result, or makes it."""

    work: Work
    is_running: bool


class _Remembered(NamedTuple):
    """
    What is remembered of a result, as its document says it.

    Attributes:
        kind: The type of its task.
        task_id: The task that makes it.
        at_ns: Since when, in ns since the epoch.
        parts: The names of its arguments, each with a digest of its value.
    """

    kind: str
    task_id: str
    at_ns: int
    parts: dict[str, str]


def _entry(kernel: Kernel, key: str) -> _Remembered | None:
    """What is remembered of the result of *key*."""
    return _read(kernel.kept.get(_MEMO, {}).get(key, ""))


def _read(text: str) -> _Remembered | None:
    """The result that a document is of; None: a program has written it there."""
    try:
        kind, task_id, at_ns, parts = json.loads(text)
        return _Remembered(kind, task_id, at_ns, dict(parts))
    except (TypeError, ValueError):
        return None


def _latest(kernel: Kernel, kind: str) -> Iterator[_Remembered]:
    """The results of a type, the latest first."""
    # How their documents begin: so others need not be read.
    beginning = f"[{json.dumps(kind)},"
    for text in reversed(kernel.kept.get(_MEMO, {}).values()):
        entry = _read(text) if text.startswith(beginning) else None
        if entry is not None:
            yield entry


def _remember(kernel: Kernel, task_id: str, key: Key, why: str, now: int) -> None:
    """Note that a task makes the result of *key*; of too many, the oldest goes."""
    parts = key.digests()
    kernel.note(ResultRemembered, now, task_id, key.kind, key.text, parts, why)
    entry = _Remembered(key.kind, task_id, now, dict(parts))
    kernel.keep_document(_MEMO, key.text, json.dumps(entry, separators=(",", ":")), now)
    results = kernel.kept[_MEMO]
    if len(results) > MAX_DOCUMENTS:
        kernel.keep_document(_MEMO, next(iter(results)), "", now)


class Finds(Protocol):
    """What finds tasks by their ids."""

    def known(self, task_id: str) -> Work:
        """The work of a task."""
        ...


class Remembers(Protocol):
    """What the cache asks of the runtime, or of a simulated life."""

    kernel: Kernel

    @property
    def directory(self) -> Finds:
        """Finds tasks."""
        ...


class ChangesKernel(Protocol):
    """Makes a change of the kernel."""

    def __call__(self, change: Callable[[Kernel, int], None], *, keep: bool) -> None:
        """Make *change*; with *keep*, return once it is kept."""
        ...


class Memo:
    """
    Looks for the results of like tasks, in one life of an orchestrator.

    Args:
        rt: A runtime, or a life in a simulation.
        recall: Looks in the journal for a task that has left memory.
        step: Makes a change of the kernel, which may be kept before it returns.
        waits: Whether an attempt may wait for one that makes its result.
    """

    def __init__(
        self,
        rt: Remembers,
        recall: Callable[[str], None] | None,
        step: ChangesKernel,
        *,
        waits: bool = True,
    ) -> None:
        self._rt = rt
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
        key, number = self._key(row, work, fn, args, kwargs), row.attempt
        while True:
            found = self.look(row, work, key)
            if found is None:
                return fn(*args, **kwargs)
            # If it fails, or its result is gone by now, somebody makes it.
            with suppress(Exception):
                value = found.work.result()  # type: ignore[attr-defined]
                self._spend_nothing(row, number)
                return value
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
        key, number = self._key(row, work, fn, args, kwargs), row.attempt
        while True:
            found = self.look(row, work, key)
            if found is None:
                return await fn(*args, **kwargs)
            with suppress(Exception):
                value = await found.work  # type: ignore[misc]
                self._spend_nothing(row, number)
                return value
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
            if found is None:
                return called
            self._spend_nothing(row, row.attempt)
            return _same, (found.work._value,), {}
        if is_coroutine_function(fn):
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
            key = _key_of_handler(task.type, task.cache, fn, task.payload)
        else:
            key = key_of(row.bucket.spec.type, task.cache, fn, args, kwargs)
        if task.owner is None:
            return key
        # What one tenant has made, no other one gets.
        owner = task.owner.encode("utf-8", "surrogatepass")
        return _key(key.kind, [*key.parts, ("(tenant)", owner)])

    def _spend_nothing(self, row: TaskRow, attempt: int) -> None:
        """An attempt that has the result of another task has spent nothing."""
        if not row.bucket.spec.budget:
            return

        from taskorch.kernel import reserved_of  # noqa: PLC0415 - drawn on by few

        def change(kernel: Kernel, now: int) -> None:
            nothing = tuple([(name, 0) for name, _ in reserved_of(row) or ()])
            if nothing:
                kernel.spend(row, attempt, nothing, now)

        self._step(change, keep=False)

    def look(
        self, row: TaskRow, work: Work, key: Key, *, joins: bool = True
    ) -> Found | None:
        """Who has, or makes, the result; None: *row* makes it, and that is noted."""
        task = work._task
        cache = None if task is None else task.cache
        assert cache is not None  # noqa: S101 - as in `_key`
        if self._recall is not None:
            known = _entry(self._rt.kernel, key.text)
            if known is not None:
                self._recall(known.task_id)
        found: list[Found] = []

        def change(kernel: Kernel, now: int) -> None:
            why = self._find(kernel, row, key, cache, now, found, joins=joins)
            if found:
                source = found[0].work._row.id
                kernel.note(ResultReused, now, row.id, key.text, source, why)
                self._say(row.id, f"hit: {why}")
            else:
                entry = _entry(kernel, key.text)
                if entry is None or entry.task_id != row.id:
                    _remember(kernel, row.id, key, why, now)
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
        entry = _entry(kernel, key.text)
        if entry is None:
            return self._nearest(kernel, key)
        source_id, at_ns = entry.task_id, entry.at_ns
        if stem_of(source_id) == stem_of(row.id):
            return "it is run again"
        age = (now - at_ns) / NS
        if cache.expires is not None and age >= cache.expires:
            return f"the result of {source_id} has expired: it is {age:.3g} s old"
        try:
            source: Work = self._rt.directory.known(source_id)
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
        for looked, entry in enumerate(_latest(kernel, key.kind), 1):
            if mine is None:
                mine = dict(key.digests())
            theirs = entry.parts
            names = [
                name
                for name in {**mine, **theirs}
                if mine.get(name) != theirs.get(name)
            ]
            if best is None or len(names) < len(best[0]):
                best = names, entry.task_id
            if len(best[0]) <= 1 or looked >= 10:  # noqa: PLR2004 - the latest will do
                break
        if best is None:
            return f"nothing is remembered of the type {key.kind}"
        names, task_id = best
        shown = ", ".join(repr(name) for name in names if name[:1] != "(")
        if not shown:
            if "(function)" in names or not names:
                return f"the function, or its version, is not that of {task_id}"
            if "(key)" in names:
                return f"the key of its Cache is not that of {task_id}"
            return f"it is called in another way than {task_id}"
        many = "arguments" if shown.count(",") else "argument"
        verb = "differ" if shown.count(",") else "differs"
        also = ", and so does the function" if "(function)" in names else ""
        return f"{many} {shown} {verb} from that of {task_id}{also}"

    def _say(self, task_id: str, text: str) -> None:
        self.said[task_id] = text
        if len(self.said) > _SAID:
            del self.said[next(iter(self.said))]

    def count(self) -> int:
        """How many results are remembered."""
        return len(self._rt.kernel.kept.get(_MEMO, {}))

    def keys(self, kind: str | None = None, task_id: str | None = None) -> list[str]:
        """Keys of cached results: of all, of those of a type, or of that of a task."""
        keys: list[str] = []
        for key, text in self._rt.kernel.kept.get(_MEMO, {}).items():
            entry = _read(text)
            if entry is None or (
                kind in (None, entry.kind) and task_id in (None, entry.task_id)
            ):
                keys.append(key)
        return keys

    def clear(self, kind: str | None = None, task_id: str | None = None) -> int:
        """Forget results: all, those of a type, or that of a task; how many."""
        gone: list[str] = []

        def change(kernel: Kernel, now: int) -> None:
            gone.extend(self.keys(kind, task_id))
            if gone:
                kernel.note(ResultsForgotten, now, tuple(gone))
            for key in gone:
                kernel.keep_document(_MEMO, key, "", now)

        self._step(change, keep=True)
        return len(gone)


def _same(value: Any) -> Any:
    """The value: in another process, in the place of the function."""
    return value
