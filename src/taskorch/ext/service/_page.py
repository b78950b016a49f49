"""
The dashboard of an orchestrator in a browser, and its data.

The page is some files, given to whoever asks: they tell nothing. All that they show
they ask for in a session, which begins with a token, or with the code in the part of
the address that a browser sends to nobody, `http://127.0.0.1:8080/#code=…`.

Decision: dashboard-and-views.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from importlib.resources import files
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Protocol

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from taskorch.ext.service._board import Board
from taskorch.ext.service._bodies import WHO, answer, document
from taskorch.ext.service._operations import (
    Operation,
    named,
    number,
    seconds,
    told,
)
from taskorch.ext.service._previews import edit_schedule
from taskorch.ext.service._run_operations import RunOperations
from taskorch.ext.service._waiting import Waiter
from taskorch.ext.views._runs import BROKEN
from taskorch.kit.verbs import TEXT, listed
from taskorch.model import Health, Stats, TaskStatus

if TYPE_CHECKING:
    from starlette.requests import Request

    from taskorch.ext.service._tenants import Tenancy
    from taskorch.kit.people import Caller


#: The rules for the browser: nothing from other sites, no inline code.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_FILES: Final = {
    "/": ("index.html", "text/html"),
    "/page/page.css": ("page.css", "text/css"),
    **{
        f"/page/{name}.js": (f"{name}.js", "text/javascript")
        for name in (
            *("page", "views", "parts", "overview", "runs", "run", "graph"),
            *("tasks", "workers", "people", "commands", "ends"),
        )
    },
}
#: The seconds that an answer may wait for news, and the least between two answers.
_MAX_WAIT: Final = 30.0
_PAUSE: Final = 0.1
#: The seconds for which an answer holds if nothing happens.
_KEEP: Final = 1.0
_MAX_WIDTH: Final = 4_000
_MAX_LANES: Final = 500
_MOMENT: Final = {"type": "number", "minimum": 0, "maximum": 1e11}
_WHOLE: Final = {"type": "integer", "minimum": 0}


class Shown(Protocol):
    """An orchestrator, or a reader of its journal, for the dashboard."""

    def get_stats(self) -> Stats:
        """Counts and times."""
        ...

    def health(self) -> Health:
        """The health of each component."""
        ...

    def get_task_status(self, task_id: str) -> TaskStatus:
        """The state of a task."""
        ...


class PageOperations:
    """
    The operations of the page.

    Args:
        orch: Whom it shows.
        board: The board that follows its events.
        tenancy: The tasks that a caller may see.
        journal: The path of a journal, if it is that which is shown, and nobody who
            does the work.
    """

    def __init__(
        self,
        orch: Callable[[], Shown],
        board: Callable[[], Board],
        tenancy: Tenancy,
        *,
        journal: str | None = None,
    ) -> None:
        self._orch: Callable[[], Any] = orch
        self._board = board
        self._tenancy = tenancy
        self._journal = journal
        self._live = journal is None
        self._latest: dict[str, Any] = {}
        #: The time of that count, by the monotonic clock.
        self._counted = -_KEEP
        #: The number of questions, the number of blocked tasks then, and the time.
        self._questions = self._blocked = 0
        self._asked = -_KEEP
        self._is_closed = False

    def close(self) -> None:
        """Let no page wait any more, because the server ends."""
        self._is_closed = True

    def operations(self) -> list[Operation]:
        """Return the operations for the page's files and data."""
        return [
            *(
                Operation(
                    *(
                        "GET",
                        path,
                        f"page_{name.replace('.', '_')}",
                        "A file of the page.",
                    ),
                    partial(_file, name, media),
                    answer=TEXT,
                    media=media,
                    is_open=True,
                )
                for path, (name, media) in _FILES.items()
            ),
            Operation(
                *("GET", "/api/v1/board", "board"),
                "The whole in numbers. With `after`, once there is something new, or "
                "after `wait` s; at once if `board` is not that of this life.",
                self._whole,
                query={
                    "board": TEXT,
                    "after": _WHOLE,
                    "wait": {"type": "number", "minimum": 0, "maximum": _MAX_WAIT},
                },
                answer=told(heard=_WHOLE, now={"type": "number"}),
            ),
            Operation(
                *("GET", "/api/v1/board/timeline", "timeline"),
                "Attempts by worker, as rectangles for a picture of `width` columns; "
                "`since` and `until` are seconds since 1970.",
                self._timeline,
                query={
                    "since": _MOMENT,
                    "until": _MOMENT,
                    "width": {"type": "integer", "minimum": 10, "maximum": _MAX_WIDTH},
                    "lanes": {"type": "integer", "minimum": 1, "maximum": _MAX_LANES},
                },
                answer=told(rectangles=listed({"type": "array"})),
            ),
            *RunOperations(self._orch, self._board, live=self._live).operations(),
            *(
                [
                    edit_schedule(self._orch),
                    Operation(
                        *("GET", "/api/v1/workflows/{workflow_id}/picture", "picture"),
                        "The graph of a run, drawn with the states of its tasks.",
                        self._picture,
                        answer=told(svg=TEXT),
                        refuses=(404,),
                    ),
                ]
                if self._live
                else []
            ),
        ]

    async def _whole(self, request: Request) -> Response:
        query = request.query_params
        after = number(query, "after", 0, 10**15, 0) if "after" in query else None
        wait = seconds(query, "wait", _MAX_WAIT) or 0.0
        board = self._board()
        is_known = query.get("board", board.name) == board.name
        may_wait = wait and is_known and not self._is_closed
        if may_wait and after == board.heard:
            waiter = Waiter()
            board.followers.add(waiter)
            try:
                if after == board.heard and not self._is_closed:
                    await waiter.wait(wait)
            finally:
                board.followers.discard(waiter)
            # There are at most ten answers a second, however many events come.
            await asyncio.sleep(_PAUSE)
        who = request.scope[WHO]
        if who.tenants is not None:
            return answer(await run_in_threadpool(self._numbers_for, who))
        return answer(await run_in_threadpool(self._numbers))

    def _numbers_for(self, who: Caller) -> dict[str, Any]:
        """Return the news for a caller bound to tenants."""
        board, orch = self._board(), self._orch()
        asked = orch.questions() if self._live else ()
        return {
            "board": board.name,
            "heard": board.heard,
            "now": board.now() / 1e9,
            "live": self._live,
            "journal": self._journal,
            "questions": len(self._tenancy.questions(who, asked)),
            "health": {"live": orch.health().live, "status": "ok"},
        }

    def _numbers(self) -> dict[str, Any]:
        board, orch = self._board(), self._orch()
        # Of several pages that ask at once, only one counts.
        heard, latest = board.heard, self._latest
        is_same = (latest.get("board"), latest.get("heard")) == (board.name, heard)
        if is_same and monotonic() - self._counted < _KEEP:
            return latest
        at, stats = board.now(), orch.get_stats()
        numbers = {
            "board": board.name,
            "heard": heard,
            "now": at / 1e9,
            "live": self._live,
            "journal": self._journal,
            "questions": self._count_questions(orch, stats) if self._live else 0,
            "broken": self._count_broken(),
            "most": BROKEN,
            "statistics": document(stats),
            "health": document(orch.health()),
            "rates": board.rates(at),
        }
        self._latest, self._counted = numbers, monotonic()
        return numbers

    def _count_questions(self, orch: Any, stats: Stats) -> int:
        # Counting them means listing them.
        blocked, now = stats.state_machine.blocked, monotonic()
        if blocked != self._blocked or now - self._asked >= _KEEP:
            self._blocked, self._asked = blocked, now
            self._questions = len(orch.questions()) if blocked else 0
        return self._questions

    def _count_broken(self) -> int | None:
        """Return how many failed tasks are not repaired; None: unknown yet."""
        board = self._board()
        if board.is_reading:
            return None
        with board.runs() as index:
            return index.unmended

    async def _timeline(self, request: Request) -> Response:
        query = request.query_params
        since = seconds(query, "since", 1e11) or 0.0
        until = seconds(query, "until", 1e11) or 0.0
        width = number(query, "width", 10, _MAX_WIDTH, 1_000)
        lanes = number(query, "lanes", 1, _MAX_LANES, 100)
        board = self._board()
        ask = partial(
            board.timeline,
            *(int(since * 1e9), int(until * 1e9), width, lanes, board.now()),
        )
        return answer(await run_in_threadpool(ask))

    async def _picture(self, request: Request) -> Response:
        run_id = named(request, "workflow_id")

        def draw() -> str:
            run = self._orch().workflows.get(run_id)
            drawn: str = run.picture()
            return drawn

        return answer({"svg": await run_in_threadpool(draw)})


async def _file(name: str, media: str, _request: Request) -> Response:
    text = files(__package__ or "").joinpath("page", name).read_text("utf-8")
    headers = {"content-security-policy": _POLICY, "cache-control": "no-cache"}
    return Response(text, 200, headers, media_type=f"{media}; charset=utf-8")
