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
from types import MappingProxyType
from typing import Any, Final, NoReturn, TypeAlias

import attrs

from taskorch.errors import InvalidTaskError, JournalError, TaskorchError
from taskorch.events import (
    AT_NS,
    CATALOGUE,
    CLS,
    SEQ,
    TASK_ID,
    Event,
    Fact,
    TaskCompleted,
    TaskEvent,
    TaskStarted,
    TaskSubmitted,
    place_of,
)
from taskorch.journal._restoring import NEWER, Reader, find_other_readers, restored
from taskorch.journal._scripts import Beside
from taskorch.journal._writing import (
    RefusedError,
    Writer,
    dumps,
    find_other_writers,
    import_path,
    plain,
    refused_result,
)
from taskorch.model import Call, Task, plain_but
from taskorch.protocols import Entry

#: `(seq, kind, at_ns, task_id, body, doc)`: an entry as the journal's table has it; ""
#: stands for no task and for no document.
Row: TypeAlias = tuple[int, str, int, str, str, str]

#: Characters that a document may have: SQLite has no place for a thousand million, and
#: all of it is in memory a few times while it is written.
MAX_TEXT: Final = 100_000_000
#: How many values a row has.
WIDTH: Final = 6
_INT64: Final = 2**63
#: Is no value of any fact.
_NONE: Final = object()
_KINDS: Final[dict[str, type[Event]]] = {cls.__name__: cls for cls in CATALOGUE}


# -- values that few tasks have ----------------------------------------------------
#
# `_classes` is loaded when the first one comes: what it needs takes a while.


def _rare_writer(cls: type) -> Writer:
    from taskorch.journal._classes import writer_of  # noqa: PLC0415

    return writer_of(cls)


def _rare_reader(tag: str) -> Reader | None:
    from taskorch.journal._classes import READERS  # noqa: PLC0415

    return READERS.get(tag)


find_other_writers(_rare_writer)
find_other_readers(_rare_reader)


# -- entries -----------------------------------------------------------------------


class Rows:
    """
    Entries as the table has them.

    Their values stand in one list: a tuple for each is as many more objects for the
    garbage collector while a large group waits to be written.

    An attempt that begins and completes within a group is one row: that of its end,
    which has the fact of its start with it.
    """

    __slots__ = (
        "_agent",
        "_begun",
        "_early",
        "_end",
        "_kind",
        "_parts",
        "_reason",
        "_rest",
        "_values",
        "keys",
    )

    def __init__(self, entries: Iterable[Entry | Row] = ()) -> None:
        self._values: list[int | str] = []
        #: Starts of attempts whose end may come yet, by task, and their places.
        self._begun: dict[str, tuple[int, Fact]] = {}
        #: Places at which a start of an attempt is to be put in.
        self._early: list[tuple[int, Fact]] = []
        #: Idempotency keys and the ids of their tasks, in turn.
        self.keys: list[str] = []
        # Mostly these are the same as in the row before (of a submission its type, key
        # and priority, of an attempt its agent and reason): their text is made once.
        self._kind: tuple[Any, Any, Any] = _NONE, _NONE, _NONE
        self._rest = ""
        # Where it has parents or a name: what stands before the parents, and after.
        self._parts = "", ""
        self._agent: Any = _NONE
        self._reason: Any = _NONE
        self._end = "", ""
        for entry in entries:
            if len(entry) == WIDTH:
                # The row of a group that was taken apart, as a journal that wraps this
                # one may do.
                self._append_row(entry)
            else:
                fact, value = entry
                self.keep(fact, _documented(value))

    def _append_row(self, row: Row) -> None:
        self._values += row
        if row[1] == TaskSubmitted.__name__ and '"idempotency_key"' in row[5]:
            key = decode(row)[1].idempotency_key
            if key is not None:
                self.keys += (column(key), row[3])

    def keep(self, fact: Fact, text: str | None) -> None:
        """
        Encode one more; *text* is what `text_of` or `document` has made, or None.

        Raises:
            InvalidTaskError, ValueError: See `encode`.
        """
        cls = fact[CLS]
        begun = self._begun
        if cls is TaskStarted and text is None and fact[TASK_ID] not in begun:
            begun[fact[TASK_ID]] = len(self._values), fact
            return
        row = None
        if cls is TaskSubmitted:
            if text is not None and type(text) is not KeyedDocument:
                row = self._submission(fact, text)
        elif begun and (cls is TaskCompleted or _CLASSES[cls][1]):
            start = begun.pop(fact[TASK_ID], None)
            if start is not None:
                if cls is TaskCompleted:
                    row = self._attempt(start[1], fact, text)
                if row is None:
                    self._early.append(start)
        if row is not None:
            self._values += row
            return
        row = _encode(fact, text)
        self._values += row
        if type(text) is KeyedDocument and cls is TaskSubmitted:
            self.keys += (column(text.key), row[3])

    def _submission(self, fact: Fact, text: str) -> Row | None:
        """The row of a submission about which little is said; None if more is."""
        try:
            # Written out, it takes half the time of two slices.
            (
                _,
                seq,
                at_ns,
                task_id,
                task_type,
                priority,
                after,
                requires,
                resources,
                rerun_of,
                timeout_ns,
                idempotent,
                key,
                not_before_ns,
                deadline_ns,
                expires_ns,
                is_named,
            ) = fact
            if (
                requires is not None
                or resources != ()
                or rerun_of is not None
                or timeout_ns is not None
                or idempotent is not True
                or not_before_ns is not None
                or deadline_ns is not None
                or expires_ns is not None
                or not task_id.isascii()
                or not 0 <= seq < _INT64 > at_ns >= 0
            ):
                return None
            kind = self._kind
            if (
                task_type is not kind[0]
                or key is not kind[1]
                or priority is not kind[2]
            ):
                head = f"{_quoted(task_type)},{priority}"
                if type(priority) is not int or type(key) is not int or "\\ud" in head:
                    return None
                self._kind = task_type, key, priority
                self._rest = f"{head},{key}]"
                self._parts = (
                    f"{head},[",
                    f"],null,[],null,null,true,{key},null,null,null,",
                )
            if after == () and is_named is False:
                body = f"[1,{_quoted(task_id)},{self._rest}"
            elif type(after) is tuple and type(is_named) is bool:
                above = ",".join(map(_quoted, after))
                if "\\ud" in above:
                    return None
                head, middle = self._parts
                end = "true" if is_named else "false"
                body = f"[1,{_quoted(task_id)},{head}{above}{middle}{end}]"
            else:
                return None
        except (TypeError, ValueError):
            # It has other fields than usual, or values that JSON cannot represent.
            return None
        return seq, "TaskSubmitted", at_ns, task_id, body, _exact(text)

    def _attempt(self, start: Fact, fact: Fact, text: str | None) -> Row | None:
        """
        The row of *fact*, a completion, with that of its *start*.

        None if they do not belong together, or look out of the common.
        """
        try:
            _, seq, at_ns, task_id, attempt, agent, latency = fact
            _, begun, begun_ns, _, number, name, allocation, reason = start
            if (
                number != attempt
                or name != agent
                or type(attempt) is not int
                or type(latency) is not int
                or not task_id.isascii()
                or not 0 <= begun < seq < _INT64
                or not 0 <= begun_ns <= at_ns < _INT64
            ):
                return None
            if allocation or agent is not self._agent or reason is not self._reason:
                held = dumps(allocation) if allocation else "[]"
                end = _quoted(agent), f"{held},{_quoted(reason)}"
                if "\\ud" in end[0] or "\\ud" in end[1]:
                    return None
                self._end = end
                self._agent = _NONE if allocation else agent
                self._reason = reason
            by, because = self._end
            body = (
                f"[1,{_quoted(task_id)},{attempt},{by},{latency},"
                f"[{begun},{begun_ns},{because}]]"
            )
        except (TypeError, ValueError):
            return None
        text = "" if text is None else _exact(text)
        return seq, "TaskCompleted", at_ns, task_id, body, text

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
        """Make rows of the starts that are left: few, as many as run at once."""
        early = sorted([*self._early, *self._begun.values()], key=_place)
        old, made, done = self._values, list[int | str](), 0
        for place, fact in early:
            made += old[done:place]
            made += encode((fact, None))
            done = place
        made += old[done:]
        self._begun, self._early, self._values = {}, [], made

    @property
    def numbers(self) -> list[int]:
        """The numbers of the facts."""
        return self.values[::WIDTH]  # type: ignore[return-value]

    @property
    def last(self) -> int:
        """The number of the latest fact."""
        return self.values[-WIDTH]  # type: ignore[return-value]

    @property
    def columns(self) -> list[list[Any]]:
        """The columns: all numbers, then all classes, and so on."""
        values: list[Any] = self.values
        return [values[place::WIDTH] for place in range(WIDTH)]


def _place(start: tuple[int, Fact]) -> tuple[int, int]:
    return start[0], start[1][1]


def encode(entry: Entry) -> Row:
    """
    *entry* as a row.

    Raises:
        InvalidTaskError: Something in it cannot be restored exactly; the message says
            where, as in `payload.items[2].when`.
        ValueError: Its number or its time does not fit into 64 bits.
    """
    fact, value = entry
    return _encode(fact, _documented(value))


def _documented(value: Any) -> Document | None:
    """*value* as it is kept; None if there is nothing."""
    if value is None or isinstance(value, Document):
        return value
    return document(value)


def _exact(text: str) -> str:
    """*text* as a plain str: sqlite3 takes four times as long for any other."""
    return text if type(text) is str else str(text)


def _encode(fact: Fact, text: str | None) -> Row:
    cls, seq, at_ns = fact[CLS], fact[SEQ], fact[AT_NS]
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
    task_id = fact[TASK_ID] if is_about_task else ""
    if not task_id.isascii():
        task_id = column(task_id)
    text = "" if text is None else _exact(text)
    return seq, kind, at_ns, task_id, body, text


def entries(rows: Iterable[Row], after: int = 0) -> list[Entry]:
    """
    The entries of *rows*, which are in order, with numbers above *after*.

    Raises:
        JournalError: A newer taskorch wrote one, or it is damaged.
    """
    found: list[Entry] = []
    for row in rows:
        entry, start = _decode(row)
        if start is not None:
            found.append(start)
        found.append(entry)
    # A start stands beside its end, and others may be between.
    found.sort(key=_number)
    if found and found[0][0][SEQ] <= after:
        found = [entry for entry in found if entry[0][SEQ] > after]
    return found


def decode(row: Row) -> Entry:
    """
    The entry of *row*, without a start that came with it.

    Raises:
        JournalError: See `entries`.
    """
    return _decode(row)[0]


def _number(entry: Entry) -> int:
    number: int = entry[0][SEQ]
    return number


def _decode(row: Row) -> tuple[Entry, Entry | None]:
    """The entry of *row*, and that of the start which came with it."""
    seq, kind, at_ns, _, body, doc = row
    start: Entry | None = None
    cls = _KINDS.get(kind)
    if cls is None:
        _unknown(f"fact {seq} is a {kind}, which this taskorch does not know")
    try:
        schema, *fields = _loaded(body)
        if schema > cls.schema:
            _unknown(f"fact {seq} is a {kind} of schema {schema}, not {cls.schema}")
        if cls is TaskCompleted and len(fields) == _WITH_START:
            start = _start_of(fields[:3], *fields.pop())
        elif cls is TaskSubmitted and len(fields) == _SHORT:
            fields[3:3] = _MIDDLE
            fields += _END
        fact = (
            cls,
            seq,
            at_ns,
            *[
                restored(field, tuple) if type(field) in _NESTED else field
                for field in fields
            ],
        )
        return (fact, restored(_loaded(doc), list) if doc else None), start
    except JournalError:
        raise
    except (TaskorchError, ValueError, TypeError, LookupError, AttributeError) as error:
        msg = f"fact {seq}, a {kind}, cannot be read: {error}"
        raise JournalError(msg, hint="restore the journal from a copy") from error


#: Fields of a completion that has its start with it: task, attempt, agent, latency, it.
_WITH_START: Final = 5


def _start_of(
    common: Iterable[Any], seq: int, at_ns: int, allocation: Any, reason: str
) -> Entry:
    held = restored(allocation, tuple)
    return (TaskStarted, seq, at_ns, *common, held, reason), None


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
    for name, value in zip(names, fact[TASK_ID:], strict=False):
        try:
            fields.append(plain(value, tuple, 0))
        except RefusedError as refused:
            refused.within(name)
            raise refused.user_error() from None
    return dumps(fields)


#: How a submission goes on and ends if nothing was said: from `after` to `idempotent`,
#: and from `not_before_ns` on.
_MIDDLE: Final = ((), None, (), None, None, True)
_END: Final = (None, None, None, False)
_KEY: Final = place_of(TaskSubmitted, "key")
#: Fields of one about which that is left out: task, type, priority, key.
_SHORT: Final = 4


def _submitted(fact: Fact) -> str | None:
    """JSON of a TaskSubmitted whose key is made of numbers; None for other keys."""
    key = fact[_KEY]
    parts = key if type(key) is tuple else (key,)
    if not _NUMBERS.issuperset(map(type, parts)):
        return None
    return dumps((TaskSubmitted.schema, *fact[TASK_ID:]))


def _started(fact: Fact) -> str | None:
    _, _, _, task_id, attempt, agent, allocation, reason, *choice = fact
    if choice or type(attempt) is not int:
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
    """The document of a task with an idempotency key."""

    # A str has no place for another slot.
    __slots__ = ("__dict__",)

    key: str


def document(value: Any) -> Document:
    """
    The document that a journal keeps of *value*.

    Raises:
        InvalidTaskError: Something in it cannot be restored exactly; the message says
            where, as in `payload.items[2].when`.
    """
    text = text_of(value)
    return text if isinstance(text, Document) else Document(text)


def text_of(value: Any) -> str:
    """
    The document of *value* as text, for callers that know it is one: see `document`.

    It is a plain str, which is made and written sooner, unless there is a key.

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


def _refuse_size(text: str, what: str) -> NoReturn:
    size = f"{len(text) / 1e6:,.0f} MB"
    msg = f"{what}: it takes {size}, and the most is {MAX_TEXT / 1e6:,.0f} MB"
    hint = "keep it in a file, and hand over the name of that"
    raise InvalidTaskError(msg, hint=hint)


def _simple(value: Any) -> str | None:
    """The JSON of a number or a text, as most are; None: leave it to `plain`."""
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
    What makes, as `text_of`, those of calls of *fn*, of their positional arguments.

    It enters *beside* where that may matter.

    None if *fn* is no plain function: then `text_of` looks at each call.
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
                    # The careful way says where it is.
                    return text_of(Task(task_type, Call(fn, args)))
        if len(text) > MAX_TEXT:
            _refuse_size(text, "payload")
        return text

    return write


#: What stands before and after the positional arguments of a call.
_ARGS: Final = ',"args":{"$tuple":['
_ARGS_END: Final = "]}"
#: How a call without keyword arguments ends.
_CALL_END: Final = ',"kwargs":{}}}'


#: Of which nothing is asked but what is in them.
_PLAIN_MAPPINGS: Final = (dict, MappingProxyType)


def _bare_call(task: Task) -> str | None:
    """A call of a plain function about which nothing more is said, or None."""
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
            # The careful way says where it is.
            return None
    name = "" if task.id is None else f',"id":{_quoted(task.id)}'
    if "\\ud" in name:
        return None
    return f"{head}{args}{_CALL_END}{name}}}}}"


def _head(task_type: str, fn: Callable[..., Any]) -> str | None:
    """How the task begins that calls *fn*, if that is a plain function."""
    path = import_path(fn)
    if path is None or refused_result(fn) is not None:
        return None
    fn_text = f'{{"$import":{_quoted(path)}}}'
    head = (
        f'{{"$Task":{{"type":{_quoted(task_type)},"payload":{{"$Call":{{"fn":{fn_text}'
    )
    # Escaped surrogates: two that stood alone would come back as one letter.
    return None if "\\ud" in head else head


def _arguments(args: tuple[Any, ...]) -> str:
    """What stands between the function of a call and its end."""
    # The arguments are two levels deep in the task.
    items = [_simple(arg) or dumps(plain(arg, list, 3)) for arg in args]
    return f"{_ARGS}{','.join(items)}{_ARGS_END}"


_says_nothing_more: Final = plain_but("id")


def _is_bare(task: Task) -> bool:
    """Whether *task* has nothing but a type, a payload and perhaps an id."""
    return (
        type(task.type) is str
        and (task.id is None or type(task.id) is str)
        and _says_nothing_more(task)
    )
