"""
The app: the methods of the facade, by their names, as paths.

Decision: service.
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
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Route

from taskorch.api._orchestrator import TaskOrchestrator
from taskorch.api.verbs.table import VERBS
from taskorch.errors import InvalidTaskError, TaskorchError
from taskorch.ext.people import Identity, Tokens
from taskorch.ext.service._artifacts import Artifacts, ArtifactsOfTasks
from taskorch.ext.service._board import Board
from taskorch.ext.service._bodies import (
    WHO,
    HttpProblem,
    answer,
    on_fault,
    on_http_error,
    on_problem,
)
from taskorch.ext.service._feed import Events, Feed
from taskorch.ext.service._guard import (
    LOOPBACK,
    Doors,
    RequestGuard,
    check_hosts,
    host_of,
    sends_body,
)
from taskorch.ext.service._health import INSTANCES, Overviews, probe, probes
from taskorch.ext.service._operations import (
    Current,
    Operation,
    check,
    description,
)
from taskorch.ext.service._page import PageOperations
from taskorch.ext.service._people import (
    Sessions,
    TokenOperations,
    refuse_role,
)
from taskorch.ext.service._plans import Commands, Plans
from taskorch.ext.service._previews import preview
from taskorch.ext.service._run_operations import follow_from
from taskorch.ext.service._submissions import Submissions, work_schemas
from taskorch.ext.service._tasks import Tasks
from taskorch.ext.service._tenants import Tenancy
from taskorch.ext.service._verbs import operations as verbs
from taskorch.ext.service._workers import Workers, schemas
from taskorch.ext.views import JournalReader
from taskorch.kit.people import asking

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

    from taskorch.ext.jobs import JobSystem
    from taskorch.ext.mcp import McpApp
    from taskorch.kit.verbs import Verb


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
    tokens: Tokens | str | os.PathLike[str] | None = None,
    identity: Identity | None = None,
    url: str | None = None,
) -> Starlette:
    """
    Make an ASGI app through which other programs use an orchestrator.

    `GET /openapi.json` describes it. The orchestrator is started and stopped by its
    owner; the app follows its events from now on, until it is shut down.

    Args:
        orch: The orchestrator.
        token: The token that every request must have, as `Authorization: Bearer …`: see
            `new_token`. Who has it may do all, under any name. None: nothing, and so
            whoever reaches the app may use it, unless there are *tokens* or an
            *identity*.
        functions: The functions that submitted tasks may call, by name. Beside these,
            tasks may be of any type that a worker does.
        programs: Whether they may start programs. Who may submit then is who may do
            anything on this machine as this user.
        hosts: The names by which the app may be called.
        journal: A reader of the journal of a durable orchestrator: whoever follows
            events may begin before those that are kept in memory, and in earlier
            incarnations.
        agents: Whether workers may come and ask for work, as `taskorch agent` does. Who
            has the token then is told the payloads of the tasks that a worker may have,
            and believed what came of them.
        artifacts: The folder for the files that these send, where they can be asked
            for; None takes none.
        page: Whether `GET /` is the page that shows the orchestrator in a browser. The
            page itself is given to all; what it shows needs the token.
        jobs: Adaptive jobs, whose orchestrator this is: commands that assign them are
            taken at the path that their configuration names, `/commands`.
        mcp: The tools that language models may use at `/mcp`, by name, beside those
            that change nothing: see `taskorch.ext.mcp`. None: there is no such
            path.
        tokens: Named tokens, or the path of their file: each request has one of these,
            or *token*, and may do what the roles of its holder allow.
        identity: Another way to know who asks, such as a `ProxyHeader`.
        url: Where people reach the dashboard, such as `https://orders.example.org`.
            Messages of `orch.notify` have links to it, and the app may be called by
            this name. None: links begin with the address of the server.

    Raises:
        ImportError: *mcp* needs `pip install 'taskorch[mcp]'`.
        InvalidTaskError: The token is too short, *hosts* is no collection, *mcp* has
            a name that is none, or the file of *tokens* is damaged.
    """
    # A caller over HTTP has no person to ask here.
    teller = orch._teller("a service")  # noqa: SLF001 - see above
    if url is not None:
        hosts = [*check_hosts(hosts), host_of(url)]
        teller.page = url

    def served_at(address: str) -> None:
        teller.page = teller.page if url is not None or not page else address

    feed = Feed(orch.signals, journal)
    tenancy = Tenancy(lambda: orch)
    brought = Submissions(orch, functions or {}, tenancy, programs=programs)
    kept = None if artifacts is None else Artifacts(Path(artifacts))
    remote_workers = Workers(orch, kept)
    board = Board() if page else None
    shown = None
    if board is not None:
        if journal is None:
            follow_from(orch, board)
        else:
            board.follow(orch.signals, journal=journal)
        shown = PageOperations(lambda: orch, lambda: board, tenancy)

    tools = None
    if mcp is not None:
        tools = _served_tools(orch, functions or {}, mcp, token)

    def close() -> None:
        if board is not None and shown is not None:
            shown.close()
            board.close()
        feed.close()
        remote_workers.close()

    app = make_app(
        [
            *probes(orch),
            *brought.operations(),
            *Plans(orch, functions or {}, programs=programs).operations(),
            *existing(
                lambda: orch, lambda: feed, tenancy, {**VERBS, **orch.extensions.verbs}
            ),
            *(remote_workers.operations() if agents else ()),
            *(() if kept is None else ArtifactsOfTasks(orch, kept).operations()),
            *(() if shown is None else shown.operations()),
            *(() if jobs is None else Commands(jobs).operations()),
        ],
        doors=Doors(token, tokens_of(tokens), identity),
        orch=lambda: orch,
        hosts=hosts,
        close=close,
        schemas={
            **work_schemas(functions or {}, programs=programs),
            **(schemas() if agents else {}),
        },
        routes=() if tools is None else [Route("/mcp", Tools(tools))],
        life=nullcontext if tools is None else tools.life,
    )
    app.state.served_at = served_at
    return app


def _served_tools(
    orch: TaskOrchestrator,
    functions: Mapping[str, Callable[..., Any]],
    allow: Collection[str],
    token: str | None,
) -> McpApp:
    # These modules belong to an extra.
    from taskorch.ext.mcp import (  # noqa: PLC0415
        McpApp,
        OrchestratorPlace,
        make_server,
    )

    if isinstance(allow, str):
        msg = f"mcp is a collection of names, not {allow!r}"
        raise InvalidTaskError(msg, hint=f"mcp=[{allow!r}]")
    secret = None if token is None else token.encode()
    place = OrchestratorPlace(orch, functions)
    return McpApp(make_server(place, allow=allow, secret=secret))


class Tools:
    """
    The tools for language models, for who is bound to no tenants: they show all data.

    Args:
        answers: What answers requests.
    """

    def __init__(self, answers: McpApp) -> None:
        self._answers = answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        who = scope[WHO]
        if who.tenants is not None:
            problem = HttpProblem(403, "not_for_tenants", "tools are of all tenants")
            await problem.response(scope)(scope, receive, send)
            return
        with asking(who):
            await self._answers(scope, receive, send)


def existing(
    orch: Current,
    feed: Callable[[], Feed],
    tenancy: Tenancy,
    table: Mapping[str, Verb] = VERBS,
) -> list[Operation]:
    """Return the operations by the verbs of an orchestrator, and on its events."""
    return [
        *verbs(orch, tenancy, apart=("schedule_status",), table=table),
        preview(orch, tenancy),
        *Overviews(orch).operations(),
        *Tasks(orch, tenancy).operations(),
        *Events(orch, feed, tenancy).operations(),
    ]


def tokens_of(tokens: Tokens | str | os.PathLike[str] | None) -> Tokens | None:
    """Named tokens, or those in the file of a path."""
    return tokens if tokens is None or isinstance(tokens, Tokens) else Tokens(tokens)


def make_app(
    operations: Iterable[Operation],
    *,
    doors: Doors,
    orch: Current,
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
    described; *life* is entered as long as the app lives; *doors* say who may ask, and
    *orch* whose tasks are. For the rest see `create_app`.

    Raises:
        InvalidTaskError: See `create_app`.
    """
    # Middleware is made late; this call reports its errors now.
    names = check_hosts(hosts)
    every = [*operations]
    if not any(each.path == "/livez" for each in every):
        words = "Success as long as it is there."
        every += [probe(name, words, lambda: True) for name in ("livez", "readyz")]
    if any(each.path == "/" for each in every):
        every += Sessions(doors, lambda: every).operations()
    if doors.tokens is not None:
        every += TokenOperations(doors.tokens).operations()
    opened = frozenset(each.path for each in every if each.is_open)
    text = description(every, {**INSTANCES, **(schemas or {})})

    async def openapi(request: Request) -> Response:
        _refuse_body(request)
        return answer(text)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with life():
            yield
            close()

    guarded = partial(
        RequestGuard,
        doors=doors,
        hosts=names,
        opened=opened,
        streams=frozenset(each.path for each in routes),
    )
    gate = Gate(Tenancy(orch))
    app = Starlette(
        routes=[
            Route("/openapi.json", openapi, methods=["GET"]),
            *_routes(every, gate),
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
    # A path with one slash too many is another path.
    app.router.redirect_slashes = False
    app.state.close = close
    app.state.doors = doors
    app.state.is_open = doors.is_open
    app.state.operations = every
    app.state.refused = refused
    return app


def _routes(operations: Iterable[Operation], gate: Gate) -> Iterator[Route]:
    """A route for each path; for a wrong method, the path says the right ones."""
    paths: dict[str, dict[str, Operation]] = {}
    for each in operations:
        paths.setdefault(each.path, {})[each.method] = each
    for path, methods in paths.items():
        yield Route(path, partial(_by_method, methods, gate), methods=[*methods])


def _refuse_body(request: Request) -> None:
    """
    Refuse a body of a request that reads.

    Raises:
        HttpProblem: There is one.
    """
    if sends_body(request.headers):
        raise HttpProblem(400, "unwanted_body", f"{request.method} has no body")


class Gate:
    """Lets an operation through to who may do it, with whom it concerns."""

    def __init__(self, tenancy: Tenancy) -> None:
        self._tenancy = tenancy

    async def check(self, operation: Operation, request: Request) -> None:
        """
        Refuse a request whose sender may not send it.

        Raises:
            HttpProblem: They may not.
        """
        who = request.scope[WHO]
        refuse_role(who, operation.name, operation.role)
        await check(operation, request)
        await self._tenancy.check(who, operation, request)


async def _by_method(
    methods: Mapping[str, Operation], gate: Gate, request: Request
) -> Response | ASGIApp:
    operation = methods["GET" if request.method == "HEAD" else request.method]
    if operation.method == "GET":
        _refuse_body(request)
    if operation.is_open:
        return await operation.endpoint(request)
    await gate.check(operation, request)
    with asking(request.scope[WHO]):
        return await operation.endpoint(request)
