"""
Connection to a server of the Model Context Protocol.

One task of an event loop holds it: it begins the server, lists its tools, lists them
again when they change, and ends it. A call without a connection waits for a new one.
Nothing here knows our tasks or attempts.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    suppress,
)
from typing import TYPE_CHECKING, Any, Final

import anyio
import attrs
import httpx2
import mcp_types as types
from mcp import Client
from mcp.client.extension import advertise
from mcp.client.stdio import get_default_environment
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp.shared.message import SessionMessage
from pydantic import TypeAdapter, ValidationError

from taskorch.errors import ToolCallError, ToolError, leaves
from taskorch.kit.fence import log_of
from taskorch.kit.processes import no_fork
from taskorch.kit.visible import said, show, visible
from taskorch.model import ProgramVariables

if TYPE_CHECKING:
    from taskorch.core.executors.programs import ProgramExecutor

_LOG: Final = log_of(__name__)

#: The extension by which a server answers a call with a task of its own.
_TASKS: Final = "io.modelcontextprotocol/tasks"
#: The longest line that is read, in bytes.
_LONGEST: Final = 16 << 20
#: The most characters of a server's words that an error has.
_MOST_SAID: Final = 500
#: The most pages of a list of tools.
_MOST_PAGES: Final = 100
#: Seconds: between two lists of tools; between two checks of its process; for its end
#: after its input ends, and after a kill; between two checks of that; for the answer to
#: the cancellation of a task.
_SETTLE: Final = 0.2
_WATCH: Final = 0.5
_GOODBYE: Final = 1.0
_GONE: Final = 5.0
_LOOK: Final = 0.01
_LAST_WORD: Final = 5.0
#: Seconds to connect, and to send.
_HTTP_SECONDS: Final = 30.0
#: Seconds without a byte after which a call over HTTP is given up, since a lost network
#: gives no signal. The timeout of the task may be shorter.
_HTTP_SILENCE: Final = 3_600.0
#: Bytes that are read at a time, and that remain of each end of an overlong line.
_PART: Final = 1 << 16
#: The number of the answered call, which stands before the result or after it.
_ID: Final = rb'"id"\s*:\s*(-?\d+|"(?:[^"\\]|\\.)*")\s*'
_VERSION: Final = rb'"jsonrpc"\s*:\s*"2\.0"\s*'
_NUMBER_FIRST: Final = re.compile(
    rb"\s*\{\s*(?:"
    + _VERSION
    + rb",\s*)?"
    + _ID
    + rb',\s*(?:"jsonrpc"|"result"|"error")'
)
_NUMBER_LAST: Final = re.compile(rb",\s*" + _ID + rb"(?:,\s*" + _VERSION + rb")?\}\s*$")
#: Answers are not parsed here: the caller checks them.
_ANSWER: Final[Any] = TypeAdapter(dict[str, Any])
#: Error codes of a transport for a missing answer.
_NO_ANSWER: Final = frozenset({types.CONNECTION_CLOSED, types.REQUEST_TIMEOUT})
#: Error codes that over HTTP may come from a proxy instead of the server.
_NO_SURE_ANSWER: Final = _NO_ANSWER | {types.INTERNAL_ERROR, types.PARSE_ERROR}


#: Requests with a header that names their task, as the extension requires.
_NAMED: Final = {"name_param": "taskId"}
_GetTask: Final[Any] = type("_GetTask", (types.GetTaskRequest,), _NAMED)
_CancelTask: Final[Any] = type("_CancelTask", (types.CancelTaskRequest,), _NAMED)


class UnansweredError(Exception):
    """Lack of an answer: it is unknown what the server has done."""


@attrs.frozen
class OfferedTool:
    """Tool, as its server describes it."""

    name: str
    arguments: Mapping[str, Any]
    answer: Mapping[str, Any] | None
    #: Whether a second call has no further effect.
    repeatable: bool


@attrs.frozen
class ServerPlace:
    """Place of a tool server: a command to start, or a URL."""

    command: tuple[str, ...] = ()
    env: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    url: str = ""
    headers: Mapping[str, str] = attrs.field(factory=dict, repr=False)


class ToolServer:
    """
    Tool server, which is connected when needed, and again after a loss.

    Only `open` may be called outside of the thread of *loop*.

    Args:
        name: Its name in messages.
        place: Its command or URL.
        patience: Seconds that it has to connect, and to list its tools.
        loop: The event loop of its connection.
        keeper: The executor with the guardian, which ends its process if we die.
        run_id: The mark of this run on processes.
        changed: Called with its tools whenever they may have changed.
    """

    def __init__(
        self,
        name: str,
        place: ServerPlace,
        patience: float,
        loop: asyncio.AbstractEventLoop,
        keeper: Callable[[], ProgramExecutor],
        run_id: str,
        changed: Callable[[dict[str, OfferedTool]], object],
    ) -> None:
        self._name = name
        self._place = place
        self._patience = patience
        self._loop = loop
        self._keeper = keeper
        self._run_id = run_id
        self._changed = changed
        self._holder: asyncio.Task[None] | None = None
        self._opened: asyncio.Future[Client] | None = None
        #: Set when the connection is to end, or has ended.
        self._over = asyncio.Event()
        #: Set when its tools may have changed.
        self._stale = asyncio.Event()
        self._is_closed = False
        #: Its last output that was no message, on standard error or standard output.
        self._last_words = ""

    # -- for other threads ---------------------------------------------------------

    def open(self) -> None:
        """
        Connect, and wait until its tools are known.

        Raises:
            ToolError: It cannot be reached, or violates the protocol.
        """
        asyncio.run_coroutine_threadsafe(self.connected(), self._loop).result()

    # -- what is asked -------------------------------------------------------------

    async def call(
        self,
        tool: str,
        arguments: dict[str, Any],
        on_progress: Callable[[float, float | None, str | None], Awaitable[None]],
    ) -> dict[str, Any]:
        """
        Call a tool, and return the unparsed answer.

        If the caller is cancelled meanwhile, the server is notified.

        Raises:
            ToolError: It answered with an error.
            UnansweredError: It did not answer.
        """
        params = types.CallToolRequestParams(name=tool, arguments=arguments)
        request = types.CallToolRequest(params=params)
        return await self._ask(request, tool, on_progress)

    async def state(self, task_id: str, tool: str) -> dict[str, Any]:
        """
        Return the state of a task of the server.

        Raises:
            ToolError: It answered with an error, mostly because it does not know the
            task.
            UnansweredError: It did not answer.
        """
        params = types.GetTaskRequestParams(task_id=task_id)
        try:
            async with asyncio.timeout(self._patience):
                return await self._ask(_GetTask(params=params), tool)
        except TimeoutError:
            msg = f"its server did not answer in {self._patience:g} s"
            raise UnansweredError(msg) from None

    async def cancel(self, task_id: str, tool: str) -> None:
        """Ask the server to end a task of its own, without waiting for the end."""
        params = types.CancelTaskRequestParams(task_id=task_id)
        with suppress(ToolError, UnansweredError, TimeoutError):
            async with asyncio.timeout(_LAST_WORD):
                await self._ask(_CancelTask(params=params), tool)

    async def _ask(
        self,
        request: types.Request[Any, Any],
        tool: str,
        on_progress: Any = None,
    ) -> dict[str, Any]:
        client = await self.connected()
        session = client.session
        try:
            answer: dict[str, Any] = await session.send_request(
                request, _ANSWER, progress_callback=on_progress
            )
        except MCPError as error:
            code, text = error.error.code, error.error.message
            if code == types.CONNECTION_CLOSED or (
                self._place.url and code == types.INVALID_REQUEST
            ):
                # A new connection negotiates with the server anew.
                self._over.set()
            if code in (_NO_SURE_ANSWER if self._place.url else _NO_ANSWER):
                msg = f"its server did not answer: {self._why(text)}"
                raise UnansweredError(msg) from error
            msg = f"tool {tool}: {visible(text)[:_MOST_SAID]} ({code})"
            kind = ToolCallError if code == types.INVALID_PARAMS else ToolError
            raise kind(msg) from error
        except ValidationError as error:
            msg = f"tool {tool} answered what the protocol does not allow: "
            raise ToolCallError(msg + visible(str(error))[:_MOST_SAID]) from error
        except (OSError, httpx2.HTTPError, anyio.ClosedResourceError) as error:
            text = said(error)[1] or said(error)[0]
            msg = f"its server is not there: {text}"
            raise UnansweredError(msg) from error
        return answer

    # -- the connection ------------------------------------------------------------

    async def connected(self) -> Client:
        """
        Return the present connection, or a new one.

        Raises:
            ToolError: There is none.
        """
        while True:
            if self._holder is not None and self._over.is_set():
                await asyncio.wait([self._holder])
            if self._is_closed:
                msg = f"the connection to {self._name} was ended with its orchestrator"
                raise ToolError(msg)
            if self._opened is None or self._over.is_set():
                self._over = asyncio.Event()
                self._stale = asyncio.Event()
                self._opened = self._loop.create_future()
                holding = self._hold(self._opened, self._over)
                self._holder = self._loop.create_task(holding)
            # A cancelled waiter must not cancel the connection of the others.
            client = await asyncio.shield(self._opened)
            if not self._over.is_set():
                return client

    async def _hold(self, opened: asyncio.Future[Client], over: asyncio.Event) -> None:
        """Connect, and stay until the connection ends."""
        self._last_words = ""
        try:
            with anyio.fail_after(self._patience) as limit:
                async with AsyncExitStack() as stack:
                    transport = await stack.enter_async_context(self._transport(over))
                    client = await stack.enter_async_context(
                        Client(
                            transport,
                            message_handler=self._heard,
                            extensions=[advertise(_TASKS)],
                            cache=None,
                        )
                    )
                    self._changed(await self._list(client))
                    limit.deadline = math.inf
                    opened.set_result(client)
                    listens = self._loop.create_task(self._listen(client))
                    try:
                        await self._follow(client, over)
                    finally:
                        listens.cancel()
                        # The next caller waits for this end, so it has a limit.
                        limit.deadline = anyio.current_time() + _GOODBYE + _GONE
        except BaseException as error:
            if not opened.done():
                # Perhaps nobody waits for this exception, so it is marked as retrieved
                # below.
                opened.set_exception(self._unreachable(error))
                opened.exception()
            elif not over.is_set():
                _LOG.warning(
                    "the connection to %s broke: %s", self._name, visible(repr(error))
                )
            if not isinstance(error, Exception | asyncio.CancelledError):
                raise
        finally:
            over.set()

    def _unreachable(self, error: BaseException) -> ToolError:
        first = next(leaves(error), error)
        text = said(first)[1] or said(first)[0]
        if isinstance(first, TimeoutError):
            text = f"it listed no tools in {self._patience:g} s"
        elif isinstance(first, FileNotFoundError | PermissionError):
            text = f"{self._place.command[0]!r} cannot be started: {first.strerror}"
        msg = f"tool server {self._name}: {self._why(text)}"
        failed = ToolError(msg, hint="see that its command, or its URL, is right")
        failed.__cause__ = ConnectionError(text)
        return failed

    def _why(self, text: str) -> str:
        """Return *text* with the last other output of the server."""
        words = f"{text}; it wrote: {self._last_words}" if self._last_words else text
        return visible(words)

    async def end(self) -> None:
        """End the connection and the server's process for good."""
        self._is_closed = True
        self._over.set()
        if self._holder is not None:
            await asyncio.wait([self._holder])

    @asynccontextmanager
    async def _transport(
        self, over: asyncio.Event
    ) -> AsyncIterator[AbstractAsyncContextManager[Any]]:
        place = self._place
        if place.command:
            yield _Pipes(self, over)
            return
        times = httpx2.Timeout(_HTTP_SECONDS, read=_HTTP_SILENCE)
        async with httpx2.AsyncClient(headers=place.headers, timeout=times) as http:
            yield streamable_http_client(place.url, http_client=http)

    # -- its tools -----------------------------------------------------------------

    async def _list(self, client: Client) -> dict[str, OfferedTool]:
        tools: dict[str, OfferedTool] = {}
        cursor: str | None = None
        cursors: set[str] = set()
        for _ in range(_MOST_PAGES):
            page = await client.list_tools(cursor=cursor)
            for tool in page.tools:
                hints = tool.annotations
                tools[tool.name] = OfferedTool(
                    tool.name,
                    tool.input_schema,
                    tool.output_schema,
                    hints is not None
                    and bool(hints.read_only_hint or hints.idempotent_hint),
                )
            cursor = page.next_cursor
            if not cursor:
                return tools
            if cursor in cursors:
                msg = f"its list of tools has no end: cursor {show(cursor)} comes again"
                raise ToolError(msg)
            cursors.add(cursor)
        msg = f"its list of tools has more than {_MOST_PAGES} pages"
        raise ToolError(msg)

    async def _heard(self, message: Any) -> None:
        if isinstance(message, types.ToolListChangedNotification):
            self._stale.set()

    async def _listen(self, client: Client) -> None:
        """Subscribe to changes at a server that reports them only to subscribers."""
        has = client.server_capabilities.tools
        if has is None or not has.list_changed:
            return
        # Servers of earlier versions notify all clients, and no call depends on this.
        with suppress(Exception):
            async with client.listen(tools_list_changed=True) as changes:
                async for _ in changes:
                    self._stale.set()

    async def _follow(self, client: Client, over: asyncio.Event) -> None:
        """List the tools anew on each change, until the connection ends."""
        while not over.is_set():
            waits = [
                self._loop.create_task(each.wait()) for each in (over, self._stale)
            ]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
            if over.is_set():
                return
            self._stale.clear()
            try:
                with anyio.fail_after(self._patience):
                    tools = await self._list(client)
            except (MCPError, ToolError, ValidationError, TimeoutError) as error:
                text = f"{type(error).__name__}: {error}"
                _LOG.warning(
                    "%s changed its tools and does not say to what: %s",
                    self._name,
                    visible(text)[:_MOST_SAID],
                )
            else:
                self._changed(tools)
            await asyncio.sleep(_SETTLE)

    def note_words(self, words: bytes, *, beside: bool) -> None:
        """Keep other output, *words*, of the server; *beside*: on standard output."""
        text = words.decode("utf-8", "replace").strip()[:_MOST_SAID]
        if not text:
            return
        if beside:
            _LOG.warning(
                "%s wrote on its standard output what is no message: %s",
                self._name,
                visible(text),
            )
        else:
            _LOG.debug("%s: %s", self._name, visible(text))
        self._last_words = text


class _Pipes:
    """Process that is a server: each line on its standard streams is a message."""

    def __init__(self, server: ToolServer, over: asyncio.Event) -> None:
        self._server = server
        self._over = over
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Any:
        try:
            return await self._stack.enter_async_context(self._open())
        except BaseException:
            await self._stack.aclose()
            raise

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[Any]:
        server = self._server
        place = server._place
        keeper = server._keeper()
        with no_fork:
            process = subprocess.Popen(  # noqa: S603, ASYNC220 - as its owner says
                place.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
                env={
                    **get_default_environment(),
                    **place.env,
                    ProgramVariables.RUN: server._run_id,
                },
            )
        keeper.watch_over(process.pid)
        pipes: list[asyncio.BaseTransport] = []
        tasks: list[asyncio.Task[None]] = []
        heard, incoming = anyio.create_memory_object_stream[Any](0)
        outgoing, sent = anyio.create_memory_object_stream[SessionMessage](0)
        try:
            output = await self._reader(process.stdout, pipes)
            words = await self._reader(process.stderr, pipes)
            loop = asyncio.get_running_loop()
            wire, protocol = await loop.connect_write_pipe(
                asyncio.streams.FlowControlMixin, process.stdin
            )
            pipes.append(wire)
            writer = asyncio.StreamWriter(wire, protocol, None, loop)
            tasks += [
                loop.create_task(self._hear(output, heard)),
                loop.create_task(self._send(writer, sent)),
                loop.create_task(self._overhear(words)),
                loop.create_task(self._watch(process)),
            ]
            yield incoming, outgoing
        finally:
            # The clean-up must finish even after a timeout.
            with anyio.CancelScope(shield=True):
                for task in tasks:
                    task.cancel()
                if tasks:
                    await asyncio.wait(tasks)
                for stream in (heard, incoming, outgoing, sent):
                    stream.close()
                await self._kill(process, pipes)
            keeper.watch_no_more(process.pid)

    async def _reader(
        self, pipe: Any, pipes: list[asyncio.BaseTransport]
    ) -> asyncio.StreamReader:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=_PART)
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await loop.connect_read_pipe(lambda: protocol, pipe)
        pipes.append(transport)
        return reader

    async def _hear(self, output: asyncio.StreamReader, heard: Any) -> None:
        """Pass on each message until the output ends; then end the connection."""
        try:
            with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                line, length = bytearray(), 0
                while part := await output.read(_PART):
                    *ends, rest = part.split(b"\n")
                    for end in ends:
                        await self._hear_line(line + end, length + len(end), heard)
                        line, length = bytearray(), 0
                    length += len(rest)
                    line += rest
                    if length > _LONGEST:
                        # The number of the call stands at one end of the line.
                        del line[_PART:-_PART]
                await self._hear_line(line, length, heard)
        finally:
            heard.close()
            self._over.set()

    async def _hear_line(self, line: bytearray, length: int, heard: Any) -> None:
        message = self._message(bytes(line), length) if length else None
        if message is not None:
            await heard.send(message)

    def _message(self, line: bytes, length: int) -> SessionMessage | None:
        """The message of a line, of which a long one has its ends alone."""
        if length > _LONGEST:
            return self._too_long(line, length)
        try:
            return SessionMessage(
                types.jsonrpc_message_adapter.validate_json(line, by_name=False)
            )
        except ValueError:
            self._server.note_words(line, beside=True)
        # It may be an invalid answer, whose caller would wait for ever.
        try:
            document = json.loads(line)
        except (ValueError, RecursionError):
            return None
        number = document.get("id") if isinstance(document, dict) else None
        if not isinstance(number, int | str) or "method" in document:
            return None
        text = f"it answered what is no message: {show(document)[:_MOST_SAID]}"
        return self._refused(number, text)

    def _too_long(self, line: bytes, length: int) -> SessionMessage | None:
        """Fail the call that a line answers which is too long to be read."""
        text = f"a line of {length >> 20} MiB; it may have {_LONGEST >> 20} MiB"
        self._server.note_words(text.encode(), beside=True)
        number = _NUMBER_FIRST.match(line) or _NUMBER_LAST.search(line)
        if number is None:
            # The call is unknown, and its caller would wait for ever.
            self._over.set()
            return None
        return self._refused(json.loads(number[1]), f"its answer is {text}")

    def _refused(self, number: int | str, text: str) -> SessionMessage:
        error = types.ErrorData(code=types.INVALID_PARAMS, message=text)
        return SessionMessage(types.JSONRPCError(jsonrpc="2.0", id=number, error=error))

    async def _send(self, writer: asyncio.StreamWriter, sent: Any) -> None:
        try:
            with suppress(OSError):
                async for message in sent:
                    document = message.message
                    text = document.model_dump_json(by_alias=True, exclude_unset=True)
                    writer.write(text.encode() + b"\n")
                    await writer.drain()
        finally:
            # The server reads no more input, so no caller should wait for it.
            sent.close()
            self._over.set()

    async def _watch(self, process: subprocess.Popen[bytes]) -> None:
        """Close the connection when the process ends, even with its output open."""
        while process.poll() is None:  # noqa: ASYNC110 - no event tells it
            await asyncio.sleep(_WATCH)
        await asyncio.sleep(_WATCH)
        self._over.set()

    async def _overhear(self, words: asyncio.StreamReader) -> None:
        """Read standard error, so that the server never blocks on it."""
        rest = b""
        while data := await words.read(1 << 16):
            *lines, rest = (rest + data).split(b"\n")
            rest = rest[-_MOST_SAID:]
            for line in lines:
                self._server.note_words(line, beside=False)
        self._server.note_words(rest, beside=False)

    async def _kill(
        self, process: subprocess.Popen[bytes], pipes: Sequence[asyncio.BaseTransport]
    ) -> None:
        """End the process: close its input, and kill what is left."""
        for pipe in pipes:
            # Input that it has not read by now is dropped.
            if not pipe.is_closing():
                getattr(pipe, "abort", pipe.close)()
        # After an early timeout, some of these have no transport that closes them.
        for end in (process.stdin, process.stdout, process.stderr):
            if end is not None:
                end.close()
        await self._gone(process, _GOODBYE)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        await self._gone(process, _GONE)

    async def _gone(self, process: subprocess.Popen[bytes], patience: float) -> None:
        end = self._server._loop.time() + patience
        while process.poll() is None and self._server._loop.time() < end:  # noqa: ASYNC110 - no event tells it
            await asyncio.sleep(_LOOK)
