"""
Entries as rows of text, and back, exactly.

Each value is written by `_values`, which looks at all of it. Events that every task
has, and calls of plain functions, are written here without that: the text is the same,
and it takes a quarter of the time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from json.encoder import encode_basestring_ascii as _quoted
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Final, NoReturn, TypeAlias

from taskorch.core.journal._scripts import Beside
from taskorch.core.journal._values import (
    NEWER,
    RefusedError,
    ValueKind,
    dumps,
    import_path,
    load_others_with,
    plain,
    refused_result,
    restored,
)
from taskorch.errors import InvalidTaskError, JournalError, TaskorchError
from taskorch.events import (
    CATALOGUE,
    TASK_ID,
    Event,
    TaskCompleted,
    TaskEvent,
    TaskStarted,
    TaskSubmitted,
    defaults_of,
    make,
)
from taskorch.kit.limits import MAX_ID_LENGTH
from taskorch.model import Call, Task, plain_but
from taskorch.protocols import Entry

#: `(seq, kind, at_ns, task_id, body, doc)`: an entry as the journal's table has it; ""
#: stands for no task and for no document.
Row: TypeAlias = tuple[int, str, int, str, str, str]

#: The most characters of a document: SQLite does not take a thousand million, and all
#: of it is in memory a few times while it is written.
MAX_TEXT: Final = 100_000_000
#: The number of values in a row.
WIDTH: Final = 6
_INT64: Final = 2**63
#: Differs from the value of every field of an event.
_NONE: Final = object()
_KINDS: Final[dict[str, type[Event]]] = {cls.__name__: cls for cls in CATALOGUE}


def _load_classes() -> Callable[[type], ValueKind]:
    # Its imports take a while, and few tasks have values of users' classes.
    from taskorch.core.journal._classes import kind_of  # noqa: PLC0415

    return kind_of


load_others_with(_load_classes)


# -- entries -----------------------------------------------------------------------


class Rows:
    """
    Entries as the table has them.

    Their values are in one list: a tuple for each would be one more object for the
    garbage collector while a large group waits to be written.

    An attempt that begins and completes within a group is one row: that of its end,
    which contains the event of its start.
    """

    __slots__ = (
        "_begun",
        "_early",
        "_values",
        "keys",
    )

    def __init__(self, entries: Iterable[Entry | Row] = ()) -> None:
        self._values: list[int | str] = []
        #: Starts of attempts whose end may still come, by task, and their places.
        self._begun: dict[str, tuple[int, TaskStarted]] = {}
        #: Places where the start of an attempt is to be inserted.
        self._early: list[tuple[int, TaskStarted]] = []
        #: Idempotency keys and the ids of their tasks, by turns.
        self.keys: list[str] = []
        for entry in entries:
            if len(entry) == WIDTH:
                # The row is from a group that a wrapping journal has taken apart.
                self._append_row(entry)
            else:
                event, value = entry
                self.keep(make(event), _documented(value))

    def _append_row(self, row: Row) -> None:
        self._values += row
        if row[1] == TaskSubmitted.__name__ and '"idempotency_key"' in row[5]:
            key = decode(row)[1].idempotency_key
            if key is not None:
                self.keys += (column(key), row[3])

    def keep(self, fact: Event, text: str | None) -> None:
        """
        Encode one more; *text* is from `text_of` or `document`, or None.

        Raises:
            InvalidTaskError, ValueError: See `encode`.
        """
        cls = type(fact)
        begun = self._begun
        if type(fact) is TaskStarted and text is None and fact.task_id not in begun:
            begun[fact.task_id] = len(self._values), fact
            return
        row = None
        if type(fact) is TaskSubmitted:
            if text is not None and type(text) is not KeyedDocument:
                row = _submission(fact, text)
        elif begun and (cls is TaskCompleted or _CLASSES[cls][1]):
            start = begun.pop(fact[TASK_ID], None)
            if start is not None:
                if type(fact) is TaskCompleted:
                    row = _attempt(start[1], fact, text)
                if row is None:
                    self._early.append(start)
        if row is not None:
            self._values += row
            return
        row = _encode(fact, text)
        self._values += row
        if type(text) is KeyedDocument and cls is TaskSubmitted:
            self.keys += (column(text.key), row[3])

    def __len__(self) -> int:
        count = len(self._begun) + len(self._early)
        return count + len(self._values) // WIDTH

    def __iter__(self) -> Iterator[Row]:
        return zip(*[iter(self.values)] * WIDTH, strict=True)

    @property
    def values(self) -> list[int | str]:
        """The values of all rows in order, `WIDTH` for each row."""
        if self._begun or self._early:
            self._put_in()
        return self._values

    def _put_in(self) -> None:
        """Make rows of the starts that are left: as many as run at once."""
        early = sorted([*self._early, *self._begun.values()], key=_place)
        old, values, done = self._values, list[int | str](), 0
        for place, event in early:
            values += old[done:place]
            values += encode((event, None))
            done = place
        values += old[done:]
        self._begun, self._early, self._values = {}, [], values

    @property
    def numbers(self) -> list[int]:
        """The numbers of the events."""
        return self.values[::WIDTH]  # type: ignore[return-value]

    @property
    def last(self) -> int:
        """The number of the latest event."""
        return self.values[-WIDTH]  # type: ignore[return-value]

    @property
    def columns(self) -> list[list[Any]]:
        """The columns: all numbers, then all classes, and so on."""
        values: list[Any] = self.values
        return [values[place::WIDTH] for place in range(WIDTH)]


def _submission(event: TaskSubmitted, text: str) -> Row | None:
    """Return the row of a submission without options; None if it has some."""
    seq, at_ns, task_id = event.seq, event.at_ns, event.task_id
    # The types of its fields are not checked when it is made.
    usual: Any = event.priority, event.key, event.after, event.named
    priority, key, after, is_named = usual
    try:
        if (
            _unusual(event) != _USUAL
            or type(priority) is not int
            or type(key) is not int
            or type(after) is not tuple
            or type(is_named) is not bool
            or not task_id.isascii()
            or not 0 <= seq < _INT64 > at_ns >= 0
        ):
            return None
        head = f"[1,{_quoted(task_id)},{_quoted(event.type)},{priority}"
        if after == () and not is_named:
            body = f"{head},{key}]"
        else:
            above, end = ",".join(map(_quoted, after)), "true" if is_named else "false"
            middle = f"null,[],null,null,true,{key},null,null,null"
            body = f"{head},[{above}],{middle},{end}]"
    except (TypeError, ValueError):
        # It has other fields than usual, or values that JSON cannot represent.
        return None
    if "\\ud" in body:
        return None
    return seq, "TaskSubmitted", at_ns, task_id, body, _exact(text)


def _attempt(start: TaskStarted, event: TaskCompleted, text: str | None) -> Row | None:
    """
    Return the row of *event*, a completion, with that of its *start*.

    Return None if they do not belong together, or are unusual.
    """
    _, seq, at_ns, task_id, attempt, worker, latency = event[:_LATENCY]
    _, begun, begun_ns, _, number, name, allocation, reason = start[:_REASON]
    try:
        if (
            number != attempt
            or name != worker
            or event[_LATENCY:] != _NOTHING_MORE
            or start[_REASON:] != _NO_MORE_WHY
        ):
            return None
        if (
            type(attempt) is not int
            or type(latency) is not int
            or not task_id.isascii()
            or not 0 <= begun < seq < _INT64
            or not 0 <= begun_ns <= at_ns < _INT64
        ):
            return None
        held = dumps(allocation) if allocation else "[]"
        body = (
            f"[1,{_quoted(task_id)},{attempt},{_quoted(worker)},{latency},"
            f"[{begun},{begun_ns},{held},{_quoted(reason)}]]"
        )
    except (TypeError, ValueError):
        return None
    if "\\ud" in body:
        return None
    text = "" if text is None else _exact(text)
    return seq, "TaskCompleted", at_ns, task_id, body, text


def _place(start: tuple[int, TaskStarted]) -> tuple[int, int]:
    return start[0], start[1][1]


def encode(entry: Entry) -> Row:
    """
    Return *entry* as a row.

    Raises:
        InvalidTaskError: Something in it cannot be restored exactly; the message says
            where, as in `payload.items[2].when`.
        ValueError: Its number or its time does not fit into 64 bits.
    """
    event, value = entry
    return _encode(make(event), _documented(value))


def _documented(value: Any) -> Document | None:
    """Return the document of *value*; None if there is nothing to keep."""
    if value is None or isinstance(value, Document):
        return value
    return document(value)


def _exact(text: str) -> str:
    """Return *text* as a plain str: sqlite3 takes four times as long for any other."""
    return text if type(text) is str else str(text)


def _encode(event: Event, text: str | None) -> Row:
    cls, seq, at_ns = type(event), event.seq, event.at_ns
    if not (0 <= seq < _INT64 and 0 <= at_ns < _INT64):
        msg = f"event {seq} at {at_ns} ns: a number does not fit into 64 bits"
        raise ValueError(msg)
    kind, is_about_task = _CLASSES[cls]
    body = _body(cls, event)
    task_id = event[TASK_ID] if is_about_task else ""
    if not task_id.isascii():
        task_id = column(task_id)
    text = "" if text is None else _exact(text)
    return seq, kind, at_ns, task_id, body, text


def entries(rows: Iterable[Row], after: int = 0) -> list[Entry]:
    """
    Return the entries of *rows*, which are in order, with numbers above *after*.

    Raises:
        JournalError: A newer taskorch wrote one, or it is damaged.
    """
    ordered: list[Entry] = []
    for row in rows:
        entry, start = _decode(row)
        if start is not None:
            ordered.append(start)
        ordered.append(entry)
    # A start is in the row of its end, and other events may come between.
    ordered.sort(key=_number)
    if ordered and ordered[0][0].seq <= after:
        ordered = [entry for entry in ordered if entry[0].seq > after]
    return ordered


def decode(row: Row) -> Entry:
    """
    Return the entry of *row*, without a start in the same row.

    Raises:
        JournalError: See `entries`.
    """
    return _decode(row)[0]


def _number(entry: Entry) -> int:
    number: int = entry[0].seq
    return number


def _decode(row: Row) -> tuple[Entry, Entry | None]:
    """Return the entry of *row*, and that of the start in the same row."""
    seq, kind, at_ns, _, body, doc = row
    start: Entry | None = None
    cls = _KINDS.get(kind)
    if cls is None:
        _unknown(f"event {seq} is a {kind}, which this taskorch does not know")
    try:
        schema, *fields = _loaded(body)
        if schema > cls.schema:
            _unknown(f"event {seq} is a {kind} of schema {schema}, not {cls.schema}")
        if (
            cls is TaskCompleted
            and len(fields) == _WITH_START
            and type(fields[-1]) is list
        ):
            start = _start_of(fields[:3], *fields.pop())
        elif cls is TaskSubmitted and len(fields) == _SHORT:
            fields[3:3] = _MIDDLE
            fields += _END
        make: Any = cls
        event = make(
            seq,
            at_ns,
            *[
                restored(field, tuple) if type(field) in _NESTED else field
                for field in fields
            ],
        )
        return (event, restored(_loaded(doc), list) if doc else None), start
    except JournalError:
        raise
    except (TaskorchError, ValueError, TypeError, LookupError, AttributeError) as error:
        msg = f"event {seq}, a {kind}, cannot be read: {error}"
        raise JournalError(msg, hint="restore the journal from a copy") from error


#: The fields of a completion that contains its start: task, attempt, worker, latency,
#: start.
_WITH_START: Final = 5


def _start_of(
    common: Sequence[Any], seq: int, at_ns: int, allocation: Any, reason: str
) -> Entry:
    held = restored(allocation, tuple)
    task_id, attempt, worker = common
    return TaskStarted(seq, at_ns, task_id, attempt, worker, held, reason), None


#: Types of JSON values that may contain others.
_NESTED: Final = frozenset({list, dict})
_scan: Final = json.JSONDecoder().raw_decode


def _loaded(text: str) -> Any:
    """Return the value of *text*, faster than `json.loads`, which skips white space."""
    value, end = _scan(text)
    if end != len(text):
        msg = f"it ends after {end} of {len(text)} characters"
        raise ValueError(msg)
    return value


def _unknown(msg: str) -> NoReturn:
    raise JournalError(msg, hint=NEWER)


def column(name: str) -> str:
    """Return *name*, an id or a key, as the tables have it: JSON if no valid text."""
    if name.isascii():
        return name
    try:
        name.encode()
    except UnicodeEncodeError:
        return dumps(name)
    return name


def above(prefix: str) -> str:
    """Return a text that sorts after each id that begins with *prefix*."""
    return prefix + "\U0010ffff" * (MAX_ID_LENGTH + 1)


# -- events -------------------------------------------------------------------------


def _body(cls: type[Event], event: Event) -> str:
    values = _trimmed(event)[TASK_ID:]
    tuples = [value for value in values if type(value) is tuple]
    if _FLAT.issuperset(map(type, values)) and not any(tuples):
        try:
            text = dumps((cls.schema, *values))
        except ValueError:
            # JSON does not have such a number, or not one so long.
            text = None
        # Two escaped surrogates that stood alone would come back as one letter. A long
        # text may have a number that another process refuses to read.
        if text is not None and len(text) <= _DIGITS and "\\ud" not in text:
            return text
    fields: list[Any] = [cls.schema]
    names: tuple[str, ...] = cls.__match_args__
    for name, value in zip(names[2:], values, strict=False):
        try:
            fields.append(plain(value, tuple, 0))
        except RefusedError as refused:
            refused.within(name)
            raise refused.user_error() from None
    return dumps(fields)


#: Digits of a number that every Python reads by default.
_DIGITS: Final = 4_300
#: Types that JSON writes as they are; of tuples, only the empty one.
_FLAT: Final = frozenset({type(None), bool, int, float, str, tuple})
#: The usual end of a submission: from `after` to `idempotent`, and from `not_before_ns`
#: on.
_MIDDLE: Final = ((), None, (), None, None, True)
_END: Final = (None, None, None, False)
#: The fields before that: task, type, priority, key.
_SHORT: Final = 4


def _end_of(cls: type[Event], name: str) -> int:
    """Return how many items of an event of *cls* end with the field *name*."""
    return 2 + cls.__match_args__.index(name)


def _usual(cls: type[Event], since: int) -> tuple[Any, ...]:
    """Return the default items of an event of *cls* from *since* on."""
    return tuple(defaults_of(cls)[name] for name in cls.__match_args__[since - 1 :])


_LATENCY: Final = _end_of(TaskCompleted, "latency_ns")
_NOTHING_MORE: Final = _usual(TaskCompleted, _LATENCY)
_REASON: Final = _end_of(TaskStarted, "reason")
_NO_MORE_WHY: Final = _usual(TaskStarted, _REASON)
#: Fields that few submissions have: all but those that `Rows` writes out.
_RARE: Final = tuple(
    name for name in defaults_of(TaskSubmitted) if name not in ("after", "key", "named")
)
_unusual: Final = attrgetter(*_RARE)
_USUAL: Final = tuple(defaults_of(TaskSubmitted)[name] for name in _RARE)
#: The least number of items that are written of an event: of a submission so many that
#: it is not taken for a short one.
_LEAST: Final = {
    cls: len(cls.__match_args__) + 1 - len(defaults_of(cls)) for cls in CATALOGUE
} | {TaskSubmitted: _end_of(TaskSubmitted, "named")}
#: The defaults of a class, the last first.
_FROM_THE_END: Final = {
    cls: tuple(reversed(defaults_of(cls).values())) for cls in CATALOGUE
}


def _trimmed(event: Event) -> tuple[Any, ...]:
    """Return *event* without defaults at its end."""
    fields, least = list(event), _LEAST[type(event)]
    for value in _FROM_THE_END[type(event)]:
        # An equal value may be of another type: 0 is not False.
        if len(fields) == least or fields[-1] is not value:
            break
        fields.pop()
    return tuple(fields)


#: The name of each class, and whether its events are about a task.
_CLASSES: Final = {cls: (cls.__name__, issubclass(cls, TaskEvent)) for cls in CATALOGUE}


# -- documents ---------------------------------------------------------------------


class Document(str):
    """The JSON of a value, as it was when it was submitted or returned."""

    # Without slots and a dict, the garbage collector need not look at it.
    __slots__ = ()


class KeyedDocument(Document):
    """The document of a task with an idempotency key."""

    # A str has no place for another slot.
    __slots__ = ("__dict__",)

    key: str


def document(value: Any) -> Document:
    """
    Return the document that a journal keeps of *value*.

    Raises:
        InvalidTaskError: Something in it cannot be restored exactly; the message says
            where, as in `payload.items[2].when`.
    """
    text = text_of(value)
    return text if isinstance(text, Document) else Document(text)


def text_of(value: Any) -> str:
    """
    Return the document of *value* as text, for callers that know it is one.

    It is a plain str, which is made and written faster, unless there is a key.

    Raises:
        InvalidTaskError: See `document`.
    """
    cls = type(value)
    text = _simple(value)
    if text is None and cls is Task:
        text = _bare_call(value)
    if text is None:
        try:
            text = dumps(plain(value, list, 0))
        except RefusedError as refused:
            if cls is not Task:
                refused.within("result")
            raise refused.user_error() from None
    if len(text) > MAX_TEXT:
        _refuse_size(text, "payload" if cls is Task else "result")
    if cls is Task and value.idempotency_key is not None:
        keyed = KeyedDocument(text)
        keyed.key = value.idempotency_key
        return keyed
    return text


def _refuse_size(text: str, part: str) -> NoReturn:
    size = f"{len(text) / 1e6:,.0f} MB"
    msg = f"{part}: it takes {size}, and the most is {MAX_TEXT / 1e6:,.0f} MB"
    hint = "keep it in a file, and hand over the name of that"
    raise InvalidTaskError(msg, hint=hint)


def _simple(value: Any) -> str | None:
    """Return the JSON of a simple number or text; None: leave it to `plain`."""
    cls = type(value)
    if cls is int:
        return repr(value) if -_INT64 < value < _INT64 else None
    return _quoted(value) if cls is str and value.isascii() else None


_EMPTY: Final = ()
_NOWHERE: Final = Beside("")


def call_texts(
    task_type: str, fn: Callable[..., Any], beside: Beside = _NOWHERE
) -> Callable[[tuple[Any, ...]], str] | None:
    """
    Return a function that does `text_of` for calls of *fn*, by positional arguments.

    It enters *beside* where that may matter. Return None if *fn* is no plain function:
    then `text_of` looks at each call.
    """
    head = _head(task_type, fn)
    if head is None:
        return None
    end = f"{_CALL_END}}}}}"
    bare = f"{head}{end}"
    before, after = f"{head}{_ARGS}", f"{_ARGS_END}{end}"

    def write(args: tuple[Any, ...]) -> str:
        if not args:
            return bare
        simple = _simple(args[0]) if len(args) == 1 else None
        if simple is not None:
            text = f"{before}{simple}{after}"
        else:
            with beside:
                try:
                    text = f"{head}{_arguments(args)}{end}"
                except RefusedError:
                    # The slower way says which value is refused.
                    return text_of(Task(task_type, Call(fn, args)))
        if len(text) > MAX_TEXT:
            _refuse_size(text, "payload")
        return text

    return write


#: The text before and after the positional arguments of a call.
_ARGS: Final = ',"args":{"$tuple":['
_ARGS_END: Final = "]}"
#: The end of a call without keyword arguments.
_CALL_END: Final = ',"kwargs":{}}}'


#: Mappings whose only content is their items.
_PLAIN_MAPPINGS: Final = (dict, MappingProxyType)


def _bare_call(task: Task) -> str | None:
    """Return the text of a plain call without options, or None."""
    call = task.payload
    if (
        type(call) is not Call
        or call.executor is not None
        or call.kwargs
        or type(call.kwargs) not in _PLAIN_MAPPINGS
        or not _is_bare(task)
        or (head := _head(task.type, call.fn)) is None
    ):
        return None
    args = ""
    if call.args is not _EMPTY:
        try:
            args = _arguments(call.args)
        except RefusedError:
            # The slower way says which value is refused.
            return None
    name = "" if task.id is None else f',"id":{_quoted(task.id)}'
    if "\\ud" in name:
        return None
    return f"{head}{args}{_CALL_END}{name}}}}}"


def _head(task_type: str, fn: Callable[..., Any]) -> str | None:
    """Return the beginning of a task that calls *fn*, if that is a plain function."""
    path = import_path(fn)
    if path is None or refused_result(fn) is not None:
        return None
    fn_text = f'{{"$import":{_quoted(path)}}}'
    head = (
        f'{{"$Task":{{"type":{_quoted(task_type)},"payload":{{"$Call":{{"fn":{fn_text}'
    )
    # Two escaped surrogates that stood alone would come back as one letter.
    return None if "\\ud" in head else head


def _arguments(args: tuple[Any, ...]) -> str:
    """Return the text of the arguments of a call."""
    # The arguments are two levels deep in the task.
    items = [_simple(arg) or dumps(plain(arg, list, 3)) for arg in args]
    return f"{_ARGS}{','.join(items)}{_ARGS_END}"


_says_nothing_more: Final = plain_but("id")


def _is_bare(task: Task) -> bool:
    """Return whether *task* has only a type, a payload and perhaps an id."""
    return (
        type(task.type) is str
        and (task.id is None or type(task.id) is str)
        and _says_nothing_more(task)
    )
