"""Readers for commands: of a journal, or of a service with the same methods."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from functools import cache, partial
from itertools import islice
from pathlib import Path
from types import UnionType
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    TypeAlias,
    get_args,
    get_origin,
    get_type_hints,
)

import attrs

from taskorch import errors
from taskorch.errors import TaskFailedError, TaskorchError
from taskorch.events import SIGNALS, Event, TaskNoted
from taskorch.ext.command_line._terminal import is_url
from taskorch.ext.views import JournalReader
from taskorch.model import (
    FailureCause,
    Resources,
    Stats,
    TaskFilter,
    TaskLog,
    TaskState,
    TaskStatus,
)

if TYPE_CHECKING:
    from taskorch.ext.client import Client
    from taskorch.ext.views._nights import RunViews

#: Either reader.
Reader: TypeAlias = "JournalReader | ServiceReader"
RunsSource: TypeAlias = "RunViews | ServiceRuns"

#: The status with which a service refuses a cursor that is not its own.
_NO_CURSOR: Final = 400
#: A note on what was under way in such a journal.
LEFT: Final = ", as far as is kept: its orchestrator is gone"


@contextmanager
def reader_of(place: str, at: int | datetime | None = None) -> Iterator[Reader]:
    """
    Return a reader of a service, or of a journal as it was *at* an event or moment.

    Raises:
        TaskorchError: There is none, or it cannot be asked.
    """
    if not is_url(place):
        yield JournalReader(place, at=at)
        return
    if at is not None:
        msg = "a service says how things are, and not how they were"
        raise errors.InvalidTaskError(msg, hint="name its journal, with --at")
    # A client loads the modules for HTTP.
    from taskorch.ext.command_line._control import service  # noqa: PLC0415 - see above

    with service(place) as client:
        yield ServiceReader(client)


def is_left(reader: Reader) -> bool:
    """Return whether *reader* is of a journal whose orchestrator is gone."""
    return isinstance(reader, JournalReader) and reader.owner.lives is False


def runs_of(reader: Reader) -> RunsSource:
    """Return the source of runs that belongs to *reader*."""
    if isinstance(reader, ServiceReader):
        return ServiceRuns(reader.client)
    # This module loads zones and statistics.
    from taskorch.ext.views import _nights  # noqa: PLC0415 - see above

    lines = _nights.RunsOfJournal(reader)
    return _nights.RunViews(lambda: reader, lambda: lines, live=False)


def steps_of(reader: Reader, status: TaskStatus) -> list[dict[str, Any]]:
    """Return the documents of the steps of a task, as `orch.steps.of` lists them."""
    if not status.attempts:
        return []
    if isinstance(reader, ServiceReader):
        return _steps_there(reader.client, status)
    events = reader.events(status.run_id, earlier=True)
    if not any(isinstance(each, TaskNoted) for each in events):
        return []
    # Few tasks have steps.
    from taskorch.ext.steps import Steps  # noqa: PLC0415 - see above

    return [step.to_dict() for step in Steps.told_by(events, status)]


def _steps_there(client: Client, status: TaskStatus) -> list[dict[str, Any]]:
    from taskorch.ext.client import ServiceError  # noqa: PLC0415 - as that of `reader_of`

    try:
        return client.steps(status.task_id)
    except ServiceError as error:
        # A service of an earlier version has none.
        if error.problem.get("code") != "unknown_path":
            raise
        return []


class ServiceRuns:
    """
    The views of `RunViews`, asked of a service.

    Args:
        client: The client of the service.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    def nights(self, *, days: int) -> dict[str, Any]:
        """
        See `RunViews.nights`.

        Raises:
            TaskorchError: The service is of an earlier version, which has no verdict.
        """
        view = self._ask("/nights", days=days)
        if "verdict" not in view:
            msg = "the service is of an earlier version, and sends no verdict for `top`"
            hint = "taskorch runs URL lists its runs; or update taskorch there"
            raise TaskorchError(msg, hint=hint)
        return view

    def page(self, **which: Any) -> dict[str, Any] | None:
        """See `RunViews.page`; a service refuses a run that is not there any more."""
        page = self._ask("/runs", **which)
        return {**page, "runs": [*map(_row, page["runs"])]}

    def run(self, run_id: str, under: str | None = None) -> dict[str, Any]:
        """See `RunViews.run`."""
        whole = self._ask(f"/runs/{_quoted(run_id)}", under=under)
        return {**whole, "run": _row(whole["run"])}

    def earlier(self, task_id: str) -> dict[str, Any]:
        """See `RunViews.earlier`."""
        return self._ask(f"/tasks/{_quoted(task_id)}/earlier")

    def _ask(self, path: str, **which: Any) -> dict[str, Any]:
        query = {name: str(each) for name, each in which.items() if each}
        return ask_dashboard(self._client, path, query)


def _row(run: Mapping[str, Any]) -> Mapping[str, Any]:
    # A service of an earlier version does not say in words who has begun a run.
    return {"began_by": run["by"], **run} if "by" in run else run


def ask_dashboard(
    client: Client, path: str, query: Mapping[str, str]
) -> dict[str, Any]:
    """
    Return the data that a service gives its dashboard.

    Raises:
        TaskorchError: It has none, or refuses.
    """
    from taskorch.ext.client import ServiceError  # noqa: PLC0415 - as that of `reader_of`

    try:
        return client._ask("GET", path, query=query)  # noqa: SLF001 - no verb
    except ServiceError as error:
        if error.problem.get("code") != "unknown_path":
            raise
        msg = "the service has no dashboard, so it keeps no list of runs"
        hint = "orch.serve(), taskorch serve, or create_app(page=True) has one"
        raise TaskorchError(msg, hint=hint) from error


def _quoted(name: str) -> str:
    from urllib.parse import quote  # noqa: PLC0415 - only services need it

    return quote(name, safe="")


class InWords(dict[str, Any]):
    """An answer of a service, with its values and its text."""

    def to_dict(self) -> dict[str, Any]:
        """Return the values."""
        return {name: value for name, value in self.items() if name != "text"}

    def __str__(self) -> str:
        return str(self["text"])


class RemoteTraceback(Exception):  # noqa: N818 - as others call it
    """The traceback of an error that was raised elsewhere, as far as known."""


class ServiceReader:
    """
    The reader of a service, with the methods of `JournalReader`.

    Args:
        client: The client of the service.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self._cursor = "0"
        #: Whether `news` has left out events that no longer exist.
        self.has_missed = False

    def get_task_status(self, task_id: str) -> TaskStatus:
        """See `JournalReader.get_task_status`."""
        status: TaskStatus = _read(TaskStatus, self.client.get_task_status(task_id))
        return status

    def with_traceback(self, status: TaskStatus) -> TaskStatus:
        """Return *status* with the whole traceback of its error."""
        try:
            if status.state is TaskState.FAILED:
                self.client.result(status.run_id, timeout=0)
        except TaskFailedError as error:
            return attrs.evolve(status, error=error)
        except TaskorchError:
            # An error without a traceback is complete in the status.
            pass
        return status

    def tasks(self, which: TaskFilter) -> Iterator[TaskStatus]:
        """See `JournalReader.tasks`."""
        return map(partial(_read, TaskStatus), self.client.tasks(which))

    def failures(self) -> tuple[FailureCause, ...]:
        """See `JournalReader.failures`."""
        return tuple(map(partial(_read, FailureCause), self.client.failures()))

    def _some_tasks(self, which: TaskFilter, most: int | None) -> Iterator[TaskStatus]:
        """See `JournalReader.tasks`; at most so many."""
        return islice(self.tasks(which), most)

    def get_stats(self) -> Stats:
        """See `JournalReader.get_stats`."""
        stats: Stats = _read(Stats, self.client.get_stats())
        return stats

    def explain(self, task_id: str) -> InWords:
        """See `JournalReader.explain`."""
        return InWords(self.client.explain(task_id, remedies="calls"))

    def schedule(self, name: str) -> dict[str, Any]:
        """See `Client.schedule`."""
        return self.client.schedule(name)

    def stuck(self) -> tuple[InWords, ...]:
        """See `JournalReader.stuck`."""
        return tuple(map(InWords, self.client.stuck(remedies="calls")))

    def health(self) -> dict[str, Any]:
        """Return the health of the service."""
        return self.client.health()

    def log(
        self, task_id: str, *, attempt: int | None = None, after: int | None = None
    ) -> TaskLog:
        """See `JournalReader.log`."""
        return TaskLog(**self.client.log(task_id, attempt=attempt, after=after))

    def events(self, task_id: str) -> list[Event]:
        """Return the known events of one task."""
        return [event for page in self._pages("0", task_id) for event in page]

    @property
    def last(self) -> int:
        """The number of the latest event: `news` begins behind it."""
        return max((event.seq for event in self.news()), default=0)

    def news(self, task_id: str | None = None) -> Iterator[Event]:
        """Yield the events since the last call."""
        for page in self._pages(self._cursor, task_id):
            yield from page

    def _pages(self, after: str, task_id: str | None) -> Iterator[list[Event]]:
        while True:
            page = self._page(after, task_id)
            yield [_event(document) for document in page["events"]]
            is_last, after = page["next"] == after, page["next"]
            self._cursor = after
            if is_last:
                return

    def _page(self, after: str, task_id: str | None) -> dict[str, Any]:
        from taskorch.ext.client import ServiceError  # noqa: PLC0415 - as in `reader_of`

        try:
            page = self.client.events(after, task=task_id)
        except ServiceError as error:
            if after == "0" or error.status != _NO_CURSOR:
                raise
            # The service was started anew without a journal, so that its events are
            # others.
            page = {**self.client.events("0", task=task_id), "missed": True}
        self.has_missed |= page["missed"] and after != "0"
        return page


def _event(document: Mapping[str, Any]) -> Event:
    cls = SIGNALS[document["event"]]
    return cls(
        **{name: document[name] for name in cls.__match_args__ if name in document}
    )


def _read(kind: Any, value: Any) -> Any:
    """
    Return a *value* of a document, by the type that its field has.

    A service of an earlier version may send fewer fields.
    """
    if value is None or kind is Any:
        return value
    if isinstance(kind, UnionType):
        kind = get_args(kind)[0]
    of, origin = get_args(kind), get_origin(kind)
    if origin is tuple:
        return tuple(_read(of[0], each) for each in value)
    if origin is Mapping:
        return {_read(of[0], key): _read(of[1], each) for key, each in value.items()}
    if attrs.has(kind) and kind not in _READS:
        fields = _fields(kind).items()
        return kind(**{n: _read(each, value[n]) for n, each in fields if n in value})
    return _READS.get(kind, kind)(value)


@cache
def _fields(cls: type) -> dict[str, Any]:
    """Return the types of the fields of a class, by their names."""
    return get_type_hints(cls, None, {"Path": Path})


def _error(document: Mapping[str, Any]) -> Exception:
    """Return an error with the class name and the message of a remote one."""
    cls = getattr(errors, document["type"], None)
    is_ours = isinstance(cls, type) and issubclass(cls, TaskorchError)
    base = TaskorchError if is_ours else Exception
    # A traceback shows the class without a module.
    named = type(document["type"], (base,), {"__module__": "builtins"})
    message, hint = document["message"], document.get("hint", "")
    error: Exception
    if is_ours:
        error = named(message.removesuffix(f" ({hint})"), hint=hint)
    else:
        error = named(message)
    error.__cause__ = RemoteTraceback(_frame(document.get("where", "")))
    return error


def _frame(where: str) -> str:
    """Return the line of a traceback for *where*, as in `flow.py:12 in work`."""
    place, _, function = where.rpartition(" in ")
    file, _, number = place.rpartition(":")
    return f'File "{file}", line {number}, in {function}\n' if file else ""


#: Functions that read values whose class does not take a document.
_READS: Final[Mapping[Any, Callable[[Any], Any]]] = {
    datetime: datetime.fromisoformat,
    BaseException: _error,
    Resources: lambda amounts: Resources(**amounts),
}
