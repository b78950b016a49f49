"""What commands look at: a journal, or a service, which is asked the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs

from taskorch import errors
from taskorch.cli._terminal import is_url
from taskorch.errors import TaskFailedError, TaskorchError
from taskorch.events import SIGNALS, Event, TaskNoted
from taskorch.model import (
    AgentStats,
    Durations,
    FailureCause,
    HistoryEntry,
    PoolStats,
    QueueStats,
    Resources,
    RetryStats,
    StateStats,
    Stats,
    TaskFilter,
    TaskLog,
    TaskState,
    TaskStatus,
    TypeStats,
)
from taskorch.reading import JournalReader

if TYPE_CHECKING:
    from taskorch.client import Client
    from taskorch.reading._nights import RunViews

#: What both are asked.
Reader: TypeAlias = "JournalReader | ServiceReader"
RunsSource: TypeAlias = "RunViews | ServiceRuns"

#: The status with which a service refuses a cursor that is not its own.
_NO_CURSOR: Final = 400
_TIMES: Final = ("submitted", "started", "ended")


@contextmanager
def reader_of(place: str, at: int | datetime | None = None) -> Iterator[Reader]:
    """
    What reads a journal, as it was *at* some event or moment, or asks a service.

    Raises:
        TaskorchError: There is none, or it cannot be asked.
    """
    if not is_url(place):
        yield JournalReader(place, at=at)
        return
    if at is not None:
        msg = "a service says how things are, and not how they were"
        raise errors.InvalidTaskError(msg, hint="name its journal, with --at")
    # A client loads what speaks HTTP.
    from taskorch.cli._control import service  # noqa: PLC0415 - see above

    with service(place) as client:
        yield ServiceReader(client)


def runs_of(reader: Reader) -> RunsSource:
    """What says of runs what *reader* says of tasks."""
    if isinstance(reader, ServiceReader):
        return ServiceRuns(reader.client)
    # It loads zones and statistics.
    from taskorch.reading import _nights  # noqa: PLC0415 - see above

    lines = _nights.RunsOfJournal(reader)
    return _nights.RunViews(lambda: reader, lambda: lines, live=False)


def steps_of(reader: Reader, status: TaskStatus) -> list[dict[str, Any]]:
    """The documents of the steps of a task, as `orch.steps.of` lists them."""
    if not status.attempts:
        return []
    if isinstance(reader, ServiceReader):
        return _steps_there(reader.client, status)
    events = reader.events(status.run_id, earlier=True)
    if not any(isinstance(each, TaskNoted) for each in events):
        return []
    # Few tasks have steps.
    from taskorch.steps import Steps  # noqa: PLC0415 - see above

    return [step.to_dict() for step in Steps.told_by(events, status)]


def _steps_there(client: Client, status: TaskStatus) -> list[dict[str, Any]]:
    from taskorch.client import ServiceError  # noqa: PLC0415 - as that of `reader_of`

    try:
        return client.steps(status.task_id)
    except ServiceError as error:
        # A service of before has none.
        if error.problem.get("code") != "unknown_path":
            raise
        return []


class ServiceRuns:
    """
    Asks a service what `RunViews` says.

    Args:
        client: What speaks with the service.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    def nights(self, *, days: int) -> dict[str, Any]:
        """See `RunViews.nights`."""
        return self._ask("/nights", days=days)

    def page(self, **which: Any) -> dict[str, Any] | None:
        """See `RunViews.page`; a service refuses a run that is not there any more."""
        return self._ask("/runs", **which)

    def run(self, run_id: str, under: str | None = None) -> dict[str, Any]:
        """See `RunViews.run`."""
        return self._ask(f"/runs/{_quoted(run_id)}", under=under)

    def earlier(self, task_id: str) -> dict[str, Any]:
        """See `RunViews.earlier`."""
        return self._ask(f"/tasks/{_quoted(task_id)}/earlier")

    def _ask(self, path: str, **which: Any) -> dict[str, Any]:
        query = {name: str(each) for name, each in which.items() if each}
        return ask_dashboard(self._client, path, query)


def ask_dashboard(
    client: Client, path: str, query: Mapping[str, str]
) -> dict[str, Any]:
    """
    What a service tells its dashboard.

    Raises:
        TaskorchError: It has none, or refuses.
    """
    from taskorch.client import ServiceError  # noqa: PLC0415 - as that of `reader_of`

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
    """What a service says as values, and in words."""

    def to_dict(self) -> dict[str, Any]:
        """The values."""
        return {name: value for name, value in self.items() if name != "text"}

    def __str__(self) -> str:
        return str(self["text"])


class RemoteTraceback(Exception):  # noqa: N818 - as others call it
    """The traceback of an error that was raised elsewhere, or what is known of it."""


class ServiceReader:
    """
    Asks a service what `JournalReader` asks a journal.

    Args:
        client: What speaks with the service.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self._cursor = "0"
        #: Whether `news` has left out events that are not to be had any more.
        self.has_missed = False

    def get_task_status(self, task_id: str) -> TaskStatus:
        """See `JournalReader.get_task_status`."""
        return _status(self.client.get_task_status(task_id))

    def with_traceback(self, status: TaskStatus) -> TaskStatus:
        """*status*, with the traceback of its error: alone, it has the place only."""
        try:
            if status.state is TaskState.FAILED:
                self.client.result(status.run_id, timeout=0)
        except TaskFailedError as error:
            return attrs.evolve(status, error=error)
        except TaskorchError:
            # What has no traceback has been said by the status.
            pass
        return status

    def tasks(self, which: TaskFilter) -> Iterator[TaskStatus]:
        """See `JournalReader.tasks`."""
        return map(_status, self.client.tasks(which))

    def failures(self) -> tuple[FailureCause, ...]:
        """See `JournalReader.failures`."""
        return tuple(map(_cause, self.client.failures()))

    def _some_tasks(self, which: TaskFilter, most: int | None) -> Iterator[TaskStatus]:
        """See `JournalReader.tasks`; at most so many."""
        return islice(self.tasks(which), most)

    def get_stats(self) -> Stats:
        """See `JournalReader.get_stats`."""
        return _stats(self.client.get_stats())

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
        """How the service is."""
        return self.client.health()

    def log(
        self, task_id: str, *, attempt: int | None = None, after: int | None = None
    ) -> TaskLog:
        """See `JournalReader.log`."""
        return TaskLog(**self.client.log(task_id, attempt=attempt, after=after))

    def events(self, task_id: str) -> list[Event]:
        """What is known of the events of one task."""
        return [event for page in self._pages("0", task_id) for event in page]

    @property
    def last(self) -> int:
        """The number of the latest event: `news` begins behind it."""
        return max((event.seq for event in self.news()), default=0)

    def news(self, task_id: str | None = None) -> Iterator[Event]:
        """The events since it was asked last."""
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
        from taskorch.client import ServiceError  # noqa: PLC0415 - as in `reader_of`

        try:
            page = self.client.events(after, task=task_id)
        except ServiceError as error:
            if after == "0" or error.status != _NO_CURSOR:
                raise
            # It was started anew without a journal: its events are others.
            page = {**self.client.events("0", task=task_id), "missed": True}
        self.has_missed |= page["missed"] and after != "0"
        return page


def _event(document: Mapping[str, Any]) -> Event:
    cls = SIGNALS[document["event"]]
    return cls(
        **{name: document[name] for name in cls.__match_args__ if name in document}
    )


def _status(document: Mapping[str, Any]) -> TaskStatus:
    # One of before says less.
    names = [name for name in attrs.fields_dict(TaskStatus) if name in document]
    fields = {name: document[name] for name in names}
    for name in _TIMES:
        if fields[name] is not None:
            fields[name] = datetime.fromisoformat(fields[name])
    fields |= {
        "state": TaskState(document["state"]),
        "error": None if document["error"] is None else _error(document["error"]),
        "earlier_errors": {
            int(number): _error(each)
            for number, each in document["earlier_errors"].items()
        },
        "history": tuple(
            HistoryEntry(**{**each, "state": TaskState(each["state"])})
            for each in document["history"]
        ),
        "allocation": Resources(**document["allocation"]),
        "log_path": None
        if document["log_path"] is None
        else Path(document["log_path"]),
        "blocked_by": tuple(document["blocked_by"]),
        "units": {
            resource: tuple(units)
            for resource, units in document.get("units", {}).items()
        },
    }
    return TaskStatus(**fields)


def _cause(document: dict[str, Any]) -> FailureCause:
    first, last = document.get("first"), document.get("last")
    return FailureCause(
        error_type=document["error_type"],
        pattern=document["pattern"],
        message=document["message"],
        count=document["count"],
        tasks=tuple(document["tasks"]),
        runs=tuple(document.get("runs", ())),
        first=None if first is None else datetime.fromisoformat(first),
        last=None if last is None else datetime.fromisoformat(last),
    )


def _error(document: Mapping[str, Any]) -> Exception:
    """An error that is called, and says, what the one there does."""
    cls = getattr(errors, document["type"], None)
    is_ours = isinstance(cls, type) and issubclass(cls, TaskorchError)
    base = TaskorchError if is_ours else Exception
    # It is shown by its name alone.
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
    """The line of a traceback that says *where*, as in `flow.py:12 in work`."""
    place, _, function = where.rpartition(" in ")
    file, _, number = place.rpartition(":")
    return f'File "{file}", line {number}, in {function}\n' if file else ""


def _stats(document: Mapping[str, Any]) -> Stats:
    def each(name: str, cls: Any) -> dict[str, Any]:
        return {key: cls(**fields) for key, fields in document[name].items()}

    def kind(fields: Mapping[str, Any]) -> TypeStats:
        times = {
            name: None if fields[name] is None else Durations(**fields[name])
            for name in ("queued", "running", "total")
        }
        return TypeStats(**{**fields, **times})

    return Stats(
        **{
            **document,
            "queue": QueueStats(**document["queue"]),
            "state_machine": StateStats(**document["state_machine"]),
            "retries": RetryStats(**document["retries"]),
            "resources": each("resources", PoolStats),
            "agents": each("agents", AgentStats),
            "types": {name: kind(fields) for name, fields in document["types"].items()},
            "holds": tuple(document["holds"]),
        }
    )
