"""A journal as a service to read, with the operations of an orchestrator."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, cast

from taskorch.api._orchestrator import TaskOrchestrator
from taskorch.core.signals import Signals
from taskorch.errors import JournalError
from taskorch.ext.people import Identity, Tokens
from taskorch.ext.recovery import metrics_of
from taskorch.ext.service._app import make_app, tokens_of
from taskorch.ext.service._board import Board
from taskorch.ext.service._feed import Events, Feed
from taskorch.ext.service._guard import LOOPBACK, Doors
from taskorch.ext.service._page import PageOperations
from taskorch.ext.service._tasks import Tasks
from taskorch.ext.service._tenants import Tenancy
from taskorch.ext.service._verbs import operations as verbs
from taskorch.model import Health, HealthCheck

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from taskorch.ext.service._operations import Operation
    from taskorch.ext.views import JournalReader
    from taskorch.protocols import Projection

#: The seconds between two looks at a journal that its owner may write to.
_PAUSE: Final = 0.5
#: The operations on a journal.
_ASKED: Final = frozenset(
    {
        *("get_task_status", "get_stats", "failures", "explain", "stuck", "health"),
        *("measured", "log", "questions", "steps"),
    }
)


class Recorded:
    """
    A journal with the methods of an orchestrator that operations use.

    Args:
        reader: The reader of the journal.
    """

    def __init__(self, reader: JournalReader) -> None:
        self._reader = reader
        self.questions = reader._questions  # noqa: SLF001 - nobody answers them here
        self._some_tasks = reader._some_tasks  # noqa: SLF001 - as of an orchestrator
        self.steps = _Steps(reader)

    def __getattr__(self, name: str) -> Any:
        # The other methods have the meaning of those of an orchestrator.
        return getattr(self._reader, name)

    def health(self) -> Health:
        """Return whether the owner of the journal lives."""
        try:
            lives = self._reader.owner.lives
        except JournalError as error:
            check = HealthCheck("journal", "failed", error.message)
        else:
            words = {
                None: "nobody knows whether its owner lives",
                True: "its owner lives",
            }
            check = HealthCheck(
                *("journal", "ok", words.get(lives, "nobody has it open"))
            )
        return Health(status=check.status, live=True, ready=False, checks=(check,))

    def metrics(self) -> dict[str, Any]:
        """Return the metrics, as far as the journal has them."""
        return metrics_of(self)

    def _latest_coverage(self) -> dict[str, float]:
        # A result may need imports.
        return {}

    def handle(self, task_id: str) -> Any:
        """Return a handle of a task that has nothing to wait for."""
        self.get_task_status(task_id)
        return _Done()


class _Steps:
    """`orch.steps` of a journal, with its kept steps."""

    def __init__(self, reader: JournalReader) -> None:
        self._reader = reader

    def of(self, task_id: str) -> list[Any]:
        """The steps of a task, in their order."""
        status = self._reader.get_task_status(task_id)
        events = self._reader.events(status.run_id, earlier=True)
        return TaskOrchestrator.steps.room().told_by(events, status)


class _Done:
    """The end of a task that nobody waits for."""

    def done(self) -> bool:
        return True


class _Follower:
    """Has projections follow a journal, on a thread of its own."""

    def __init__(self, reader: JournalReader) -> None:
        self._reader = reader
        self._projections: list[Projection] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name="taskorch-page", daemon=True
        )

    def follow(self, projection: Projection) -> Callable[[], None]:
        """Take the present events; `begin` takes the next ones."""
        first = max(projection.position, self._reader.last - projection.past)
        projection.position = max(0, first)
        self._read(projection)
        self._projections.append(projection)
        return self.close

    def begin(self) -> None:
        """Begin to take new events."""
        self._thread.start()

    def close(self) -> None:
        """Follow no more."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(_PAUSE):
            for projection in self._projections:
                # A journal that cannot be read now may be readable later.
                with suppress(JournalError):
                    if self._reader.last > projection.position:
                        self._read(projection)

    def _read(self, projection: Projection) -> None:
        for event, document in self._reader.entries(projection.position):
            if projection.wants is None or type(event) in projection.wants:
                projection.take(event, document)
            projection.position = max(projection.position, event.seq)
            if self._ended.is_set():
                return


def recorded_app(
    reader: JournalReader,
    *,
    token: str | None,
    hosts: Iterable[str] = LOOPBACK,
    journal: str = "JOURNAL",
    tokens: Tokens | str | os.PathLike[str] | None = None,
    identity: Identity | None = None,
) -> Starlette:
    """
    The app of a journal: all that can be asked, and nothing that can be done.

    Args:
        reader: The reader of the journal, whose owner may run meanwhile.
        token: See `create_app`.
        hosts: See `create_app`.
        journal: Its name in commands, such as its path.
        tokens: See `create_app`.
        identity: See `create_app`.

    Raises:
        JournalError: It cannot be read.
        InvalidTaskError: See `create_app`.
    """
    signals, follower = Signals(lambda *_: None), _Follower(reader)
    signals.begins = follower.follow
    feed, board = Feed(signals, reader), Board()
    board.follow(signals, journal=reader)
    follower.begin()
    asked = cast("TaskOrchestrator", Recorded(reader))
    tenancy = Tenancy(lambda: asked)
    page = PageOperations(lambda: asked, lambda: board, tenancy, journal=journal)

    def close() -> None:
        follower.close()
        page.close()
        board.close()
        feed.close()

    return make_app(
        [
            *verbs(lambda: asked, tenancy, _ASKED),
            *Tasks(lambda: asked, tenancy).operations(),
            *_questions(Events(lambda: asked, lambda: feed, tenancy).operations()),
            *page.operations(),
        ],
        doors=Doors(token, tokens_of(tokens), identity),
        orch=lambda: asked,
        hosts=hosts,
        close=close,
    )


def _questions(operations: Iterable[Operation]) -> list[Operation]:
    return [each for each in operations if each.method == "GET"]
