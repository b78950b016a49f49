"""
The app: what the facade can do, by its own names, as paths.

Decision: 0057.
"""

from __future__ import annotations

import os
from collections.abc import (
    AsyncIterator,
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
)
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Route

from taskorch._base.verbs import TEXT
from taskorch._orchestrator import TaskOrchestrator
from taskorch.errors import InvalidTaskError, TaskorchError
from taskorch.frontends.service._agents import Agents, schemas
from taskorch.frontends.service._artifacts import Artifacts, ArtifactsOfTasks
from taskorch.frontends.service._bodies import (
    HttpProblem,
    answer,
    on_fault,
    on_http_error,
    on_problem,
    read_object,
)
from taskorch.frontends.service._feed import Events, Feed, kept_by
from taskorch.frontends.service._guard import (
    LOOPBACK,
    Codes,
    RequestGuard,
    check_hosts,
    check_token,
    sends_body,
)
from taskorch.frontends.service._health import Overviews, probes
from taskorch.frontends.service._operations import (
    Current,
    Operation,
    asked,
    check,
    description,
    told,
)
from taskorch.frontends.service._page import Board, PageOperations
from taskorch.frontends.service._plans import Commands, Plans
from taskorch.frontends.service._run_operations import earlier_of
from taskorch.frontends.service._submissions import Submissions, work_schemas
from taskorch.frontends.service._tasks import Tasks
from taskorch.frontends.service._verbs import operations as verbs
from taskorch.reading import JournalReader

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Scope

    from taskorch.frontends.jobs import JobSystem
    from taskorch.frontends.mcp._http import McpPath

_CODE: Final = asked("code", code=TEXT)


def create_app(
    orch: TaskOrchestrator,
    *,
    token: str | None,
    functions: Mapping[str, Callable[..., Any]] | None = None,
    programs: bool = False,
    hosts: Iterable[str] = LOOPBACK,
    journal: JournalReader | None = None,
    agents: bool = False,
    artifacts: str | os.PathLike[str] | None = None,
    page: bool = False,
    jobs: JobSystem | None = None,
    mcp: Collection[str] | None = None,
) -> Starlette:
    """
    Make an ASGI app through which other programs use an orchestrator.

    `GET /openapi.json` describes it. The orchestrator is started and stopped by its
    owner; the app follows its events from now on, until it is shut down.

    Args:
        orch: The orchestrator.
        token: What every request must have, as `Authorization: Bearer …`: see
            `new_token`. None: nothing, and so whoever reaches the app may use it.
        functions: What tasks that come in may call, by name. Beside these, tasks may be
            of any type that an agent does.
        programs: Whether they may start programs. Who may submit then is who may do
            anything on this machine as this user.
        hosts: The names by which the app may be called.
        journal: Of a durable orchestrator, what reads its journal: whoever follows
            events may begin before those that are kept in memory, and in earlier lives.
        agents: Whether agents may come and ask for work, as `taskorch agent` does. Who
            has the token then is told the payloads of the tasks that an agent may have,
            and believed what came of them.
        artifacts: The folder for the files that these send, where they can be asked
            for; None takes none.
        page: Whether `GET /` is the page that shows the orchestrator in a browser. The
            page itself is given to all; what it shows needs the token.
        jobs: Adaptive jobs, whose orchestrator this is: commands that assign them are
            taken at the path that their configuration names, `/commands`.
        mcp: The tools that language models may use at `/mcp`, by name, beside those
            that change nothing: see `taskorch.frontends.mcp`. None: there is no such
            path.

    Raises:
        ImportError: *mcp* needs `pip install 'taskorch[mcp]'`.
        InvalidTaskError: The token is too short, *hosts* is no collection, or *mcp* has
            a name that is none.
    """
    orch._teller()  # noqa: SLF001 - whoever is served has nobody to ask
    keep = kept_by(orch)
    feed = Feed(orch.signals, journal, keep)
    brought = Submissions(orch, functions or {}, programs=programs)
    kept = None if artifacts is None else Artifacts(Path(artifacts))
    remote_agents = Agents(orch, kept)
    earlier = earlier_of(orch) if journal is None else None
    board = Board(orch.signals, journal, keep, earlier) if page else None
    shown = None if board is None else PageOperations(lambda: orch, lambda: board)

    path = None
    if mcp is not None:
        path = _path_of_tools(orch, functions or {}, mcp, token)

    def close() -> None:
        if board is not None and shown is not None:
            shown.close()
            board.close()
        feed.close()
        remote_agents.close()

    return make_app(
        [
            *probes(orch),
            *brought.operations(),
            *Plans(orch, functions or {}, programs=programs).operations(),
            *existing(lambda: orch, lambda: feed),
            *(remote_agents.operations() if agents else ()),
            *(() if kept is None else ArtifactsOfTasks(orch, kept).operations()),
            *(() if shown is None else shown.operations()),
            *(() if jobs is None else Commands(jobs).operations()),
        ],
        token=token,
        hosts=hosts,
        close=close,
        schemas={
            **work_schemas(functions or {}, programs=programs),
            **(schemas() if agents else {}),
        },
        routes=() if path is None else [path.route],
        life=nullcontext if path is None else path.life,
    )


def _path_of_tools(
    orch: TaskOrchestrator,
    functions: Mapping[str, Callable[..., Any]],
    allow: Collection[str],
    token: str | None,
) -> McpPath:
    # They are of an extra.
    from taskorch.frontends.mcp import OrchestratorPlace  # noqa: PLC0415
    from taskorch.frontends.mcp._http import McpPath  # noqa: PLC0415
    from taskorch.frontends.mcp._server import make_server  # noqa: PLC0415

    if isinstance(allow, str):
        msg = f"mcp is a collection of names, not {allow!r}"
        raise InvalidTaskError(msg, hint=f"mcp=[{allow!r}]")
    secret = None if token is None else token.encode()
    place = OrchestratorPlace(orch, functions)
    return McpPath(make_server(place, allow=allow, secret=secret))


def existing(orch: Current, feed: Callable[[], Feed]) -> list[Operation]:
    """The operations on what an orchestrator has, and on its events."""
    return [
        *verbs(orch, apart=("schedule_status",)),
        *Overviews(orch).operations(),
        *Tasks(orch).operations(),
        *Events(orch, feed).operations(),
    ]


def make_app(
    operations: Iterable[Operation],
    *,
    token: str | None,
    hosts: Iterable[str],
    close: Callable[[], None],
    schemas: Mapping[str, Any] | None = None,
    refused: Callable[[Scope, HttpProblem], Mapping[str, Any]] = lambda *_: {},
    routes: Iterable[Route] = (),
    life: Callable[[], AbstractAsyncContextManager[None]] = nullcontext,
) -> Starlette:
    """
    The app of these operations, guarded, and with a description of itself.

    *close* is called when it is shut down, before its last answers have ended;
    *schemas* are named by the operations; *refused* is told what was refused, and has
    more members for its answer; *routes* are guarded as the operations are, and not
    described; *life* is entered as long as the app lives. For the rest see
    `create_app`.

    Raises:
        InvalidTaskError: See `create_app`.
    """
    # Middleware is made late; what is wrong with it is said now.
    check_token(token)
    names = check_hosts(hosts)
    every = [*operations]
    codes = None if token is None else Codes(token)
    if codes is not None and any(each.path == "/" for each in every):
        every.append(_key_of(codes))
    opened = frozenset(each.path for each in every if each.is_open)
    text = description(every, schemas or {})

    async def openapi(request: Request) -> Response:
        _refuse_body(request)
        return answer(text)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with life():
            yield
            close()

    is_key = _none if codes is None else codes.is_key
    guarded = partial(
        RequestGuard, token=token, hosts=names, opened=opened, is_key=is_key
    )
    app = Starlette(
        routes=[
            Route("/openapi.json", openapi, methods=["GET"]),
            *_routes(every),
            *routes,
        ],
        middleware=[Middleware(guarded)],
        exception_handlers={
            HttpProblem: on_problem,
            TaskorchError: on_problem,
            HTTPException: on_http_error,
            Exception: on_fault,
        },
        lifespan=lifespan,
    )
    # A path with a slash too many is another path.
    app.router.redirect_slashes = False
    app.state.close = close
    app.state.codes = codes
    app.state.operations = every
    app.state.refused = refused
    return app


def _routes(operations: Iterable[Operation]) -> Iterator[Route]:
    """A route for each path; for a wrong method, the path says the right ones."""
    paths: dict[str, dict[str, Operation]] = {}
    for each in operations:
        paths.setdefault(each.path, {})[each.method] = each
    for path, methods in paths.items():
        yield Route(path, partial(_by_method, methods), methods=[*methods])


def _none(_key: str) -> bool:
    """Without a token there is nothing that is as good."""
    return False


def _key_of(codes: Codes) -> Operation:
    """The operation that gives the page a key for the code of its address."""

    async def give(request: Request) -> Response:
        body = await read_object(request, _CODE)
        key = codes.key_for(body["code"])
        if key is None:
            text = "the code of the link was used, or is of another life"
            raise HttpProblem(
                401, "no_code", text, hint="take another link, or the token"
            )
        return answer({"key": key})

    return Operation(
        *("POST", "/api/v1/page/key", "page_key"),
        "What a browser sends in the place of the token, for the code of a link.",
        give,
        body=_CODE,
        answer=told(key=TEXT),
        refuses=(401,),
        is_open=True,
    )


def _refuse_body(request: Request) -> None:
    """
    Refuse a body of a request that reads.

    Raises:
        HttpProblem: There is one.
    """
    if sends_body(request.headers):
        raise HttpProblem(400, "unwanted_body", f"{request.method} has no body")


async def _by_method(
    methods: Mapping[str, Operation], request: Request
) -> Response | ASGIApp:
    operation = methods["GET" if request.method == "HEAD" else request.method]
    if operation.method == "GET":
        _refuse_body(request)
    if not operation.is_open:
        await check(operation, request)
    return await operation.endpoint(request)
