"""
The tasks that have or make cached results, and the lookup of those.

Decisions: kept-values, reruns.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Generator, Iterator, Mapping
from contextlib import suppress
from typing import Any, ClassVar, Final, NamedTuple, Protocol

import attrs

from taskorch.core.kernel import Kernel, TaskRow
from taskorch.events import ResultRemembered, ResultReused, ResultsForgotten
from taskorch.ext.memo._keys import Key, key_of
from taskorch.kit.checks import built_in
from taskorch.kit.limits import MAX_DOCUMENTS, NS
from taskorch.model import Cache, Missing, Task, TaskState
from taskorch.model.ids import stem_of

#: The most tasks whose remarks on their results are kept.
_SAID: Final = 10_000
#: The extension of the documents of results, by their keys.
_MEMO: Final = "memo"


class HasResult(Protocol):
    """Protocol: a handle of a task."""

    def result(self) -> Any:
        """Return the result of the task, once it has one."""
        ...

    def __await__(self) -> Generator[Any, None, Any]:
        """Do as `result`, on a loop."""
        ...


@attrs.frozen
class _Maker:
    """A task that has a result, or makes it."""

    task_id: str
    handle: HasResult
    value: Any
    is_running: bool


class _Remembered(NamedTuple):
    """
    A cached result, as its document describes it.

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
    """Return the cached result of *key*, if there is one."""
    return _read(kernel.kept.get(_MEMO, {}).get(key, ""))


def _read(text: str) -> _Remembered | None:
    """Return the cached result of a document; None if a program has written it."""
    try:
        kind, task_id, at_ns, parts = json.loads(text)
        return _Remembered(kind, task_id, at_ns, dict(parts))
    except (TypeError, ValueError):
        return None


def _latest(kernel: Kernel, kind: str) -> Iterator[_Remembered]:
    """Yield the cached results of a type, the latest first."""
    # The beginning of their documents, so that others need not be read.
    beginning = f"[{json.dumps(kind)},"
    for text in reversed(kernel.kept.get(_MEMO, {}).values()):
        entry = _read(text) if text.startswith(beginning) else None
        if entry is not None:
            yield entry


def _remember(kernel: Kernel, task_id: str, key: Key, why: str, now: int) -> None:
    """Note that a task makes the result of *key*; of too many, drop the oldest."""
    parts = key.digests()
    kernel.note(ResultRemembered, now, task_id, key.kind, key.text, parts, why)
    entry = _Remembered(key.kind, task_id, now, dict(parts))
    kernel.keep_document(_MEMO, key.text, json.dumps(entry, separators=(",", ":")), now)
    results = kernel.kept[_MEMO]
    if len(results) > MAX_DOCUMENTS:
        kernel.keep_document(_MEMO, next(iter(results)), "", now)


class Remembers(Protocol):
    """Protocol: what the cache asks of the runtime, or of a simulated one."""

    kernel: Kernel
    #: Looks in the journal for tasks of some names that have left memory.
    recall: ClassVar[Callable[..., None]]

    def step(self, change: Callable[[int], Any], *, keep: bool = False) -> Any:
        """Make *change*; with *keep*, return once it is kept."""
        ...

    def made(self, task_id: str) -> tuple[Any, Any] | None:
        """Return a handle of a task and its result; None if unknown; hold the lock."""
        ...


class Memo:
    """Looks for cached results, in one incarnation of an orchestrator."""

    def __init__(self, rt: Remembers) -> None:
        self._rt = rt
        #: The remarks on the results of the latest tasks.
        self.said: dict[str, str] = {}

    def call(
        self,
        row: TaskRow,
        task: Task,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Any:
        """
        Return the result of a like task, or of *fn*.

        Raises:
            Exception: An error of *fn*, or InvalidTaskError: see `key_of`.
        """
        key, number = key_of(row.bucket.spec.type, task, fn, args, kwargs), row.attempt
        while True:
            source = self._look(row, task, key)
            if source is None:
                return fn(*args, **kwargs)
            # If that task fails, or its result is gone by now, another task makes it.
            with suppress(Exception):
                value = source.handle.result()
                self._spend_nothing(row, number)
                return value
            if not source.is_running:
                return fn(*args, **kwargs)

    async def call_async(
        self,
        row: TaskRow,
        task: Task,
        fn: Callable[..., Coroutine[Any, Any, Any]],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Any:
        """Do as `call`, on a loop."""
        key, number = key_of(row.bucket.spec.type, task, fn, args, kwargs), row.attempt
        while True:
            source = self._look(row, task, key)
            if source is None:
                return await fn(*args, **kwargs)
            with suppress(Exception):
                value = await source.handle
                self._spend_nothing(row, number)
                return value
            if not source.is_running:
                return await fn(*args, **kwargs)

    def elsewhere(
        self,
        row: TaskRow,
        task: Task,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> tuple[Callable[..., Any], tuple[Any, ...], Mapping[str, Any]]:
        """Return the call for another process, which waits for no other task."""
        key = key_of(row.bucket.spec.type, task, fn, args, kwargs)
        source = self._look(row, task, key, joins=False)
        if source is None:
            return fn, args, kwargs
        value = source.value
        if issubclass(type(value), Missing):
            # It is in a store, and read here, if it can be.
            try:
                value = source.handle.result()
            except Exception:  # noqa: BLE001 - another task makes it
                return fn, args, kwargs
        self._spend_nothing(row, row.attempt)
        return _same, (value,), {}

    def _spend_nothing(self, row: TaskRow, attempt: int) -> None:
        """Note that an attempt with a cached result has spent nothing."""
        if not row.bucket.spec.budget:
            return
        reserved_of = built_in("budgets._kernel", "a budget").reserved_of

        def change(now: int) -> None:
            nothing = tuple([(name, 0) for name, _ in reserved_of(row) or ()])
            if nothing:
                self._rt.kernel.spend(row, attempt, nothing, now)

        self._rt.step(change)

    def _look(
        self, row: TaskRow, task: Task, key: Key, *, joins: bool = True
    ) -> _Maker | None:
        """Return the task that has or makes the result; None if *row* makes it."""
        kernel = self._rt.kernel
        known = _entry(kernel, key.text)
        if known is not None:
            self._rt.recall((known.task_id,))

        def change(now: int) -> _Maker | None:
            source, why = self._find(row, key, task.cache, now, joins=joins)
            if source is not None:
                kernel.note(ResultReused, now, row.id, key.text, source.task_id, why)
            else:
                entry = _entry(kernel, key.text)
                if entry is None or entry.task_id != row.id:
                    _remember(kernel, row.id, key, why, now)
            self._say(row.id, f"{'miss' if source is None else 'hit'}: {why}")
            return source

        source: _Maker | None = self._rt.step(change)
        return source

    def _find(
        self, row: TaskRow, key: Key, cache: Cache | None, now: int, *, joins: bool
    ) -> tuple[_Maker | None, str]:
        """Return the task that has or makes the result, and why; hold the lock."""
        kernel = self._rt.kernel
        entry = _entry(kernel, key.text)
        if entry is None:
            return None, self._nearest(kernel, key)
        source_id, at_ns = entry.task_id, entry.at_ns
        if stem_of(source_id) == stem_of(row.id):
            return None, "it is run again"
        age = (now - at_ns) / NS
        expires = None if cache is None else cache.expires
        if expires is not None and age >= expires:
            return None, f"the result of {source_id} has expired: it is {age:.3g} s old"
        its_row = kernel.tasks.get(source_id)
        state = kernel.evicted.get(source_id) if its_row is None else its_row.state
        is_running = state is TaskState.RUNNING
        if state not in (None, TaskState.COMPLETED) and not (is_running and joins):
            return None, f"{source_id}, which was to make it, is {state}"
        pair = self._rt.made(source_id)
        if pair is None:
            return None, f"the result of {source_id} is not there any more"
        why = f"the result of {source_id}, which is {age:.3g} s old"
        if is_running:
            why = f"{source_id} was making it already"
        return _Maker(source_id, *pair, is_running), why

    def _nearest(self, kernel: Kernel, key: Key) -> str:
        """Return how the latest result of the type differs, as there is none."""
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
        """Return the number of cached results."""
        return len(self._rt.kernel.kept.get(_MEMO, {}))

    def keys(self, kind: str | None = None, task_id: str | None = None) -> list[str]:
        """Return keys of cached results: all, those of a type, or that of a task."""
        keys: list[str] = []
        for key, text in self._rt.kernel.kept.get(_MEMO, {}).items():
            entry = _read(text)
            if entry is None or (
                kind in (None, entry.kind) and task_id in (None, entry.task_id)
            ):
                keys.append(key)
        return keys

    def clear(self, kind: str | None = None, task_id: str | None = None) -> int:
        """Clear cached results: all, of a type, or of a task; return how many."""

        def change(now: int) -> list[str]:
            kernel, gone = self._rt.kernel, self.keys(kind, task_id)
            if gone:
                kernel.note(ResultsForgotten, now, tuple(gone))
            for key in gone:
                kernel.keep_document(_MEMO, key, "", now)
            return gone

        return len(self._rt.step(change, keep=True))


def _same(value: Any) -> Any:
    """Return *value*: in another process, it takes the place of the function."""
    return value
