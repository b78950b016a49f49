"""
The page that shows an orchestrator in a browser, and what it asks for.

The page is three files, given to whoever asks: they tell nothing. All that they show
they ask for with a key, which they get for the code in the part of the address that a
browser sends to nobody, `http://127.0.0.1:8080/#code=…`: see `_codes`.

Decision: 0090.
"""

from __future__ import annotations

import asyncio
from codecs import getincrementaldecoder
from collections.abc import Callable
from functools import partial
from importlib.resources import files
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Protocol

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from taskorch._base.visible import after_cut
from taskorch.frontends.service._board import Board
from taskorch.frontends.service._operations import (
    Operation,
    named,
    number,
    seconds,
    told,
)
from taskorch.frontends.service._problems import answer, document
from taskorch.frontends.service._waiter import Waiter
from taskorch.model import TEXT, Health, Stats, TaskStatus, listed

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.requests import Request

#: What the browser may do with the page: nothing from elsewhere, nothing in line.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_FILES: Final = {
    "/": ("index.html", "text/html"),
    "/page/page.js": ("page.js", "text/javascript"),
    "/page/views.js": ("views.js", "text/javascript"),
    "/page/page.css": ("page.css", "text/css"),
}
#: Seconds that an answer may wait for news, and between two answers at the least.
_MAX_WAIT: Final = 30.0
_PAUSE: Final = 0.1
#: Seconds for which an answer holds if nothing has happened.
_KEEP: Final = 1.0
#: Seconds that may be spent on each answer.
_SHORT: Final = 0.02
#: Failures that are counted one by one.
_MOST: Final = 1_000
_MAX_WIDTH: Final = 4_000
_MAX_LANES: Final = 500
#: Bytes of a log that one answer has.
_LOG: Final = 64 << 10
_MOMENT: Final = {"type": "number", "minimum": 0, "maximum": 1e11}
_WHOLE: Final = {"type": "integer", "minimum": 0}


class Shown(Protocol):
    """What is asked of an orchestrator, or of one who reads its journal."""

    def get_stats(self) -> Stats:
        """Counts and times."""
        ...

    def health(self) -> Health:
        """How each component is."""
        ...

    def get_task_status(self, task_id: str) -> TaskStatus:
        """The state of a task."""
        ...


class PageOperations:
    """
    The operations of the page.

    Args:
        orch: Whom it shows.
        board: What follows its events.
        journal: The path of a journal, if it is that which is shown, and nobody who
            does the work.
    """

    def __init__(
        self,
        orch: Callable[[], Shown],
        board: Callable[[], Board],
        *,
        journal: str | None = None,
    ) -> None:
        self._orch: Callable[[], Any] = orch
        self._board = board
        self._journal = journal
        self._live = journal is None
        self._latest: dict[str, Any] = {}
        #: When that was counted, of the monotonic clock.
        self._counted = -_KEEP
        #: How many questions there were, of so many tasks that were blocked, and when.
        self._questions = self._blocked = 0
        self._asked = -_KEEP
        #: How many failures were not mended, of so many that had ended, and when they
        #: are counted again at the earliest.
        self._broken = 0
        self._ended = (0, 0)
        self._again = 0.0
        self._is_closed = False

    def close(self) -> None:
        """Let no page wait any more: the server ends. The board wakes those that do."""
        self._is_closed = True

    def operations(self) -> list[Operation]:
        """The page's files, and what they ask for."""
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
                "What each agent did, as rectangles for a picture of `width` columns; "
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
            Operation(
                *("GET", "/api/v1/tasks/{task_id}/log", "log"),
                "What the program of a task's latest attempt has written, from a byte "
                "on; without `after`, the end of it.",
                self._log,
                query={"after": _WHOLE},
                answer=told(text=TEXT, next=_WHOLE),
                refuses=(404,),
            ),
            *(
                [
                    Operation(
                        *("GET", "/api/v1/workflows/{workflow_id}/picture", "picture"),
                        "The graph of a run, drawn with the states of its tasks.",
                        self._picture,
                        answer=told(svg=TEXT),
                        refuses=(404,),
                    )
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
            # Not more than ten answers a second, however much comes.
            await asyncio.sleep(_PAUSE)
        return answer(await run_in_threadpool(self._numbers))

    def _numbers(self) -> dict[str, Any]:
        board, orch = self._board(), self._orch()
        # Of several pages that ask at once, one is counted for.
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
            "broken": self._count_broken(orch, stats),
            "most": _MOST,
            "statistics": document(stats),
            "health": document(orch.health()),
            "rates": board.rates(at),
        }
        self._latest, self._counted = numbers, monotonic()
        return numbers

    def _count_questions(self, orch: Any, stats: Stats) -> int:
        # To count them is to list them.
        blocked, now = stats.state_machine.blocked, monotonic()
        if blocked != self._blocked or now - self._asked >= _KEEP:
            self._blocked, self._asked = blocked, now
            self._questions = len(orch.questions()) if blocked else 0
        return self._questions

    def _count_broken(self, orch: Any, stats: Stats) -> int | None:
        """How many failures no later run has mended; None: it is not counted now."""
        states, now = stats.state_machine, monotonic()
        ended = states.failed, states.completed
        if ended != self._ended:
            if now < self._again:
                return None
            self._ended = ended
            broken = orch.tasks("failed", mended=False) if states.failed else ()
            self._broken = sum(1 for _ in islice(broken, _MOST))
            took = monotonic() - now
            # What takes long is done seldom.
            self._again = now + (0.0 if took < _SHORT else took / _SHORT)
        return self._broken

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

    async def _log(self, request: Request) -> Response:
        query = request.query_params
        after = number(query, "after", 0, 10**15, 0) if "after" in query else None
        task_id = named(request, "task_id")
        status = await run_in_threadpool(self._orch().get_task_status, task_id)
        return answer(await run_in_threadpool(_read_log, status.log_path, after))

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


def _read_log(path: Path | None, after: int | None) -> dict[str, Any]:
    if path is None or not path.is_file():
        return {"text": "", "next": 0, "there": False}
    with path.open("rb") as file:
        size = file.seek(0, 2)
        is_cut = after is None or after > size
        begin = max(0, size - _LOG) if is_cut else after or 0
        file.seek(begin)
        content = file.read(_LOG)
    end = begin + len(content)
    decoder = getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(after_cut(content) if is_cut and begin else content)
    # A letter that is half written, or half in this part, begins the next one.
    return {"text": text, "next": end - len(decoder.getstate()[0]), "there": True}
