"""
Entries as rows of text, and back, exactly.

Each value is written by `_writing`, which looks at all of it. The facts that every task
has, and the calls of plain functions, are put together here without that: the text is
the same, and it takes a quarter of the time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from json.encoder import encode_basestring_ascii as _quoted
from typing import Any, Final, NoReturn, TypeAlias

import attrs

from taskorch.errors import JournalError, TaskorchError
from taskorch.events import (
    CATALOGUE,
    Event,
    Fact,
    TaskCompleted,
    TaskEvent,
    TaskStarted,
    TaskSubmitted,
)
from taskorch.journal._restoring import NEWER, restore
from taskorch.journal._writing import RefusedError, dumps, import_path, plain
from taskorch.model import NO_RESOURCES, NO_RETRY, Call, Task
from taskorch.protocols import Entry

__all__ = ("WIDTH", "Document", "Row", "Rows", "column", "decode", "document", "encode")

#: `(seq, kind, at_ns, task_id, body, doc)`: an entry as the journal's table has it; ""
#: stands for no task and for no document.
Row: TypeAlias = tuple[int, str, int, str, str, str]

#: How many values a row has.
WIDTH: Final = 6
_INT64: Final = 2**63
_KINDS: Final[dict[str, type[Event]]] = {cls.__name__: cls for cls in CATALOGUE}


# -- entries -----------------------------------------------------------------------


class Rows:
    """
    Entries as the table has them.

    Their values stand in one list: a tuple for each is as many more objects for the
    garbage collector while a large group waits to be written.
    """

    __slots__ = ("keys", "values")

    def __init__(self, entries: Iterable[Entry | Row] = ()) -> None:
        self.values: list[int | str] = []
        #: Idempotency keys and the ids of their tasks, in turn.
        self.keys: list[str] = []
        for entry in entries:
            if len(entry) == WIDTH:
                # Whoever stands between has taken a group apart.
                self._append_row(entry)
            else:
                self.append(entry)

    def _append_row(self, row: Row) -> None:
        self.values += row
        if row[1] == TaskSubmitted.__name__ and '"idempotency_key"' in row[5]:
            key = decode(row)[1].idempotency_key
            if key is not None:
                self.keys += (column(key), row[3])

    def append(self, entry: Entry) -> None:
        """
        Encode one more.

        Raises:
            InvalidTaskError, ValueError: See `encode`.
        """
        row = encode(entry)
        self.values += row
        value = entry[1]
        if value is not None and entry[0][0] is TaskSubmitted:
            key = getattr(value, "key", None) or getattr(value, "idempotency_key", None)
            if key is not None:
                self.keys += (column(key), row[3])

    def __len__(self) -> int:
        return len(self.values) // WIDTH

    def __iter__(self) -> Iterator[Row]:
        return zip(*[iter(self.values)] * WIDTH, strict=True)

    @property
    def numbers(self) -> list[int]:
        """Those of the facts."""
        return self.values[::WIDTH]  # type: ignore[return-value]


def encode(entry: Entry) -> Row:
    """
    *entry* as a row.

    Raises:
        InvalidTaskError: Something in it cannot be restored exactly; the message says
            where, as in `payload.items[2].when`.
        ValueError: Its number or its time does not fit into 64 bits.
    """
    fact, value = entry
    cls, seq, at_ns = fact[0], fact[1], fact[2]
    if not (0 <= seq < _INT64 and 0 <= at_ns < _INT64):
        msg = f"fact {seq} at {at_ns} ns: a number does not fit into 64 bits"
        raise ValueError(msg)
    kind, is_about_task, quick = _CLASSES[cls]
    body = None
    if quick is not None:
        try:
            body = quick(fact)
        except (IndexError, TypeError, ValueError):
            # Fields are left out, or are none that JSON has.
            body = None
    # Escaped surrogates: two that stood alone would come back as one letter.
    if body is None or "\\ud" in body:
        body = _careful(cls, fact)
    task_id = fact[3] if is_about_task else ""
    if not task_id.isascii():
        task_id = column(task_id)
    if value is None:
        return seq, kind, at_ns, task_id, body, ""
    text = value if isinstance(value, Document) else document(value)
    return seq, kind, at_ns, task_id, body, text


def decode(row: Row) -> Entry:
    """
    The entry of *row*.

    Raises:
        JournalError: A newer taskorch wrote it, or it is damaged.
    """
    seq, kind, at_ns, _, body, doc = row
    cls = _KINDS.get(kind)
    if cls is None:
        _unknown(f"fact {seq} is a {kind}, which this taskorch does not know")
    try:
        schema, *fields = _loaded(body)
        if schema > cls.schema:
            _unknown(f"fact {seq} is a {kind} of schema {schema}, not {cls.schema}")
        fact = (
            cls,
            seq,
            at_ns,
            *[
                restore(field, tuple) if type(field) in _NESTED else field
                for field in fields
            ],
        )
        return fact, restore(_loaded(doc), list) if doc else None
    except JournalError:
        raise
    except (TaskorchError, ValueError, TypeError, LookupError, AttributeError) as error:
        msg = f"fact {seq}, a {kind}, cannot be read: {error}"
        raise JournalError(msg, hint="restore the journal from a copy") from error


#: What JSON has inside of which there may be more.
_NESTED: Final = frozenset({list, dict})
_scan: Final = json.JSONDecoder().raw_decode


def _loaded(text: str) -> Any:
    """What *text* says; `json.loads` would look for white space, and there is none."""
    value, end = _scan(text)
    if end != len(text):
        msg = f"it ends after {end} of {len(text)} characters"
        raise ValueError(msg)
    return value


def _unknown(msg: str) -> NoReturn:
    raise JournalError(msg, hint=NEWER)


def column(name: str) -> str:
    """*name*, an id or a key, as it is looked up: as JSON if it is no valid text."""
    if name.isascii():
        return name
    try:
        name.encode()
    except UnicodeEncodeError:
        return dumps(name)
    return name


# -- facts -------------------------------------------------------------------------


def _careful(cls: type[Event], fact: Fact) -> str:
    names = [field.name for field in attrs.fields(cls)[2:]]
    fields: list[Any] = [cls.schema]
    for name, value in zip(names, fact[3:], strict=False):
        try:
            fields.append(plain(value, tuple, 0))
        except RefusedError as refused:
            refused.within(name)
            raise refused.told() from None
    return dumps(fields)


#: How a submission goes on and ends if nothing was said: from `after` to `idempotent`,
#: and from `not_before_ns` on.
_MIDDLE: Final = ((), None, (), None, None, True)
_ENDS: Final = {
    (None, None, None): "null,null,null]",
    (None, None, None, False): "null,null,null,false]",
    (None, None, None, True): "null,null,null,true]",
}


def _submitted(fact: Fact) -> str | None:
    priority, key, end = fact[5], fact[12], _ENDS.get(fact[13:])
    if (
        end is None
        or type(priority) is not int
        or type(key) is not int
        or fact[6:12] != _MIDDLE
    ):
        return _plain_key(fact)
    return (
        f"[1,{_quoted(fact[3])},{_quoted(fact[4])},{priority},"
        f"[],null,[],null,null,true,{key},{end}"
    )


def _plain_key(fact: Fact) -> str | None:
    """All goes into JSON as it is, if only the key does, which is the user's."""
    key = fact[12]
    parts = key if type(key) is tuple else (key,)
    return dumps((1, *fact[3:])) if _NUMBERS.issuperset(map(type, parts)) else None


def _started(fact: Fact) -> str | None:
    _, _, _, task_id, attempt, agent, allocation, reason = fact
    if type(attempt) is not int:
        return None
    held = dumps(allocation) if allocation else "[]"
    return f"[1,{_quoted(task_id)},{attempt},{_quoted(agent)},{held},{_quoted(reason)}]"


def _completed(fact: Fact) -> str | None:
    _, _, _, task_id, attempt, agent, latency = fact
    if type(attempt) is not int or type(latency) is not int:
        return None
    return f"[1,{_quoted(task_id)},{attempt},{_quoted(agent)},{latency}]"


_NUMBERS: Final = frozenset({type(None), bool, int, float})
#: The facts that every task has; None is the answer where they look out of the common.
_QUICK: Final[dict[type[Event], Callable[[Fact], str | None]]] = {
    TaskSubmitted: _submitted,
    TaskStarted: _started,
    TaskCompleted: _completed,
}


#: Of a class the name, whether its facts are about a task, and the quick way.
_CLASSES: Final = {
    cls: (cls.__name__, issubclass(cls, TaskEvent), _QUICK.get(cls))
    for cls in CATALOGUE
}


# -- documents ---------------------------------------------------------------------


class Document(str):
    """The JSON of a value, as it was when it was handed over."""

    # No slots and no dict: then the garbage collector need not look at it.
    __slots__ = ()


class KeyedDocument(Document):
    """That of a task with an idempotency key."""

    # A str has no place for another slot.
    __slots__ = ("__dict__",)

    key: str


def document(value: Any) -> Document:
    """
    *value* as it is kept.

    Raises:
        InvalidTaskError: Something in it cannot be restored exactly; the message says
            where, as in `payload.items[2].when`.
    """
    if type(value) is Task and (text := _bare_call(value)) is not None:
        return Document(text)
    try:
        text = dumps(plain(value, list, 0))
    except RefusedError as refused:
        if type(value) is not Task:
            refused.within("result")
        raise refused.told() from None
    if type(value) is Task and value.idempotency_key is not None:
        keyed = KeyedDocument(text)
        keyed.key = value.idempotency_key
        return keyed
    return Document(text)


_EMPTY: Final = ()


def _bare_call(task: Task) -> str | None:
    """A call of a plain function about which nothing more is said, or None."""
    call = task.payload
    if (
        type(call) is not Call
        or call.executor is not None
        or call.kwargs
        or type(call.kwargs) is not dict
        or not _is_bare(task)
        or (path := import_path(call.fn)) is None
    ):
        return None
    args = ""
    if call.args is not _EMPTY:
        try:
            # It stands two deep in the task.
            args = f',"args":{dumps(plain(call.args, list, 2))}'
        except RefusedError:
            # The careful way says where it is.
            return None
    name = "" if task.id is None else f',"id":{_quoted(task.id)}'
    head = f'{{"$Task":{{"type":{_quoted(task.type)},"payload":{{"$Call":{{"fn":'
    fn = f'{{"$import":{_quoted(path)}}}'
    if "\\ud" in name or "\\ud" in head or "\\ud" in fn:
        return None
    return f'{head}{fn}{args},"kwargs":{{}}}}}}{name}}}}}'


def _is_bare(task: Task) -> bool:
    """Whether it has nothing but a type, a payload and perhaps an id."""
    return (
        type(task.type) is str
        and (task.id is None or type(task.id) is str)
        and task.after is _EMPTY
        and task.requires is None
        and task.resources is NO_RESOURCES
        and task.timeout is None
        and task.retry is NO_RETRY
        and task.deadline is None
        and task.not_before is None
        and task.idempotency_key is None
        and task.idempotent is True
        and task.metadata is None
        and type(task.priority) is int
        and task.priority == 0
    )
