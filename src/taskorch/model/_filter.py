"""Filters of tasks: one value, which every face of the library takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple, TypeAlias, Unpack

from taskorch.errors import InvalidTaskError
from taskorch.kit.checks import check_exact, check_seconds
from taskorch.kit.described import Match, texts_of
from taskorch.kit.frozen import ReadOnly
from taskorch.kit.visible import as_text, is_text, show
from taskorch.kit.vocabulary import meant, unknown_option
from taskorch.model._states import TaskState
from taskorch.model._task import OPTIONS, FilterFields, Task

#: The kind of a filter: the match of an option, or a condition on the state.
How: TypeAlias = Match | Literal["state", "since", "longer", "whether"]


class Filter(NamedTuple):
    """
    A field that tasks can be filtered by.

    Attributes:
        name: Its name.
        how: The comparison.
        text: The meaning, for people.
    """

    name: str
    how: How
    text: str


def _filters() -> dict[str, Filter]:
    texts = texts_of(Task)
    of_options = [
        Filter(each.name, each.match, texts.get(each.name, ""))
        for each in OPTIONS.values()
        if each.match is not None
    ]
    filters = [
        Filter("state", "state", "Their state."),
        *of_options,
        Filter("agent", "equal", "The worker that runs them, or ran them last."),
        Filter("since", "since", "Submitted since then, or not longer ago."),
        Filter("older_than", "longer", "Seconds that they have been in their state."),
        Filter(
            "mended",
            "whether",
            "True: a later run of them has completed, or their failure is allowed.",
        ),
    ]
    return {each.name: each for each in filters}


class TaskFilter:
    """
    A filter of tasks: a task passes if all its conditions hold.

        failed = TaskFilter("failed", owner="acme", older_than=3600)
        orch.tasks(failed)

    Args:
        state: The state of the tasks; None is any.
        fields: `type`, `agent` and `owner` are exact names. `id`: a pattern of ids,
            such as `"nightly/*"`. `metadata`: names and values that the metadata
            contains. `since`: the earliest time of submission: an aware datetime, or
            how long ago, in seconds or as a timedelta. `older_than`: the time in the
            present state is longer than this, in seconds or as a timedelta. `mended`:
            True for tasks with a later run that completed, or with an allowed failure;
            `TaskFilter("failed", mended=False)` finds the failures that are still open.

    Raises:
        TypeError: There is no such filter.
        InvalidTaskError: A value is not well formed, or there is no such state.

    Attributes:
        FIELDS: All filters, by name.
    """

    __slots__ = ("fields",)

    FIELDS: Final = _filters()

    def __init__(
        self,
        state: TaskState | str | None = None,
        **fields: Unpack[FilterFields],
    ) -> None:
        conditions: dict[str, Any] = {"state": state, **fields}
        for name in conditions:
            if name not in self.FIELDS:
                raise unknown_option(type(self).__name__, name, self.FIELDS)
        #: The given fields, by name.
        self.fields: Mapping[str, Any] = ReadOnly(
            {
                name: _CHECKED[self.FIELDS[name].how](name, value)
                for name, value in conditions.items()
                if value is not None and (type(value) is not dict or value)
            }
        )

    @classmethod
    def of(
        cls, which: TaskFilter | TaskState | str | None, fields: FilterFields
    ) -> TaskFilter:
        """
        Return the filter of a caller: *which* is one, or a state beside *fields*.

        Raises:
            InvalidTaskError: See `TaskFilter`; or a filter has further fields.
        """
        if not isinstance(which, TaskFilter):
            return cls(which, **fields)
        if fields:
            msg = f"beside a TaskFilter nothing else is said, and here is {[*fields]}"
            raise InvalidTaskError(msg, hint="say all of it in the filter")
        return which

    @property
    def state(self) -> TaskState | None:
        """The state that tasks must be in; None is any."""
        return self.fields.get("state")

    def to_query(self) -> dict[str, str]:
        """Return the fields as the texts of an HTTP query."""
        return {name: _written(value) for name, value in self.fields.items()}

    @classmethod
    def from_query(cls, texts: Mapping[str, str]) -> TaskFilter:
        """
        Return the filter of an HTTP query; other names in it are ignored.

        Raises:
            InvalidTaskError: A value is not well formed.
        """
        conditions: dict[str, Any] = {
            name: _READ[each.how](name, texts[name])
            for name, each in cls.FIELDS.items()
            if name in texts
        }
        return cls(**conditions)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TaskFilter):
            return NotImplemented
        return dict(self.fields) == dict(other.fields)

    def __hash__(self) -> int:
        # Only names are hashed, since values in metadata may not be hashable.
        return hash(frozenset(self.fields))

    def __repr__(self) -> str:
        conditions = ", ".join(
            f"{name}={show(value)}" for name, value in self.fields.items()
        )
        return f"TaskFilter({conditions})"


# -- values ------------------------------------------------------------------------


def _state(_: str, value: Any) -> TaskState:
    try:
        return TaskState(as_text(value))
    except ValueError:
        names = ", ".join(TaskState)
        msg = f"there is no state {show(value)}: there are {names}"
        raise InvalidTaskError(msg, hint=meant(value, TaskState) or None) from None


def _text(name: str, value: object) -> str:
    if is_text(value):
        return value
    msg = f"{name}: a text is needed, not {show(value)}"
    raise InvalidTaskError(msg)


def _exact(name: str, value: object) -> str:
    text = _text(name, value)
    check_exact(name, text, "name one; a pattern is for ids: id='nightly/*'")
    return text


def _mapping(name: str, value: object) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    msg = f"{name}: a mapping is needed, not {show(value)}"
    raise InvalidTaskError(msg, hint=f"{name}={{'customer': 'acme'}}")


def _since(name: str, value: object) -> datetime | float:
    if not isinstance(value, datetime):
        return check_seconds(name, value)
    if value.utcoffset() is None:
        msg = f"{name}: {value} has no time zone, so nobody knows when that is"
        raise InvalidTaskError(msg, hint="datetime.now(UTC), or value.astimezone()")
    return value


def _whether(name: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    msg = f"{name}: True or False is needed, not {show(value)}"
    raise InvalidTaskError(msg)


_CHECKED: Final[dict[How, Callable[[str, Any], Any]]] = {
    "state": _state,
    "equal": _exact,
    "pattern": _text,
    "contains": _mapping,
    "since": _since,
    "longer": check_seconds,
    "whether": _whether,
}


# -- texts of a query --------------------------------------------------------------


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        import json  # noqa: PLC0415 - few filters have one

        return json.dumps(dict(value))
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _as_it_is(_: str, text: str) -> str:
    return text


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        msg = f"{name}: a number of seconds is needed, not {show(text)}"
        raise InvalidTaskError(msg) from None


def _date_or_number(name: str, text: str) -> datetime | float:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return _number(name, text)


def _object(name: str, text: str) -> Any:
    import json  # noqa: PLC0415 - few filters have one

    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = None
    if isinstance(document, dict):
        return document
    msg = f"{name}: an object of JSON is needed, not {show(text)}"
    raise InvalidTaskError(msg, hint=f'{name}={{"customer": "acme"}}')


def _yes_or_no(name: str, text: str) -> bool:
    if text in ("true", "false"):
        return text == "true"
    msg = f"{name}: true or false is needed, not {show(text)}"
    raise InvalidTaskError(msg)


_READ: Final[dict[How, Callable[[str, str], Any]]] = {
    "state": _as_it_is,
    "equal": _as_it_is,
    "pattern": _as_it_is,
    "contains": _object,
    "since": _date_or_number,
    "longer": _number,
    "whether": _yes_or_no,
}
