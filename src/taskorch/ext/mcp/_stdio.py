"""
The server on the standard streams of a process: a line is a message.

Nothing else may be written there. So the streams are taken away before anything of the
user's own is loaded: what that prints comes out on standard error, and what it reads
is empty.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import anyio
import mcp_types as types
from mcp.server.stdio import stdio_server

from taskorch.kit.fence import log_of

if TYPE_CHECKING:
    from mcp.server.lowlevel import Server

_LOG: Final = log_of(__name__)
#: The largest number of bytes of a message; a slightly longer one gets an error.
_MOST_BYTES: Final = 64 << 20


@contextmanager
def taken_streams() -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """
    Yield the bytes of standard input and output, and keep others off them.

    What prints within the block comes out on standard error.
    """
    sys.stdout.flush()
    wires = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    # A thread may still read when all else has ended, so that these are never closed.
    incoming = os.fdopen(wires[0], "rb", closefd=False)
    outgoing = os.fdopen(wires[1], "wb", closefd=False)
    try:
        # `print` may write to another descriptor of the same stream.
        with redirect_stdout(sys.stderr):
            yield incoming, outgoing
    finally:
        os.dup2(wires[0], 0)
        os.dup2(wires[1], 1)


def serve_streams(server: Server[Any], incoming: BinaryIO, outgoing: BinaryIO) -> None:
    """
    Answer until there is nothing more to read, or a signal says to end.

    Args:
        server: The server, of `make_server`.
        incoming: The messages, a line each: at most 64 MiB.
        outgoing: What gets the answers.
    """
    asyncio.run(_serve(server, incoming, outgoing))


async def _serve(server: Server[Any], incoming: BinaryIO, outgoing: BinaryIO) -> None:
    loop = asyncio.get_running_loop()
    lines = _Lines(loop, incoming, outgoing)
    for number in (signal.SIGTERM, signal.SIGINT):
        # Only the main thread can handle signals; elsewhere the caller does it.
        with suppress(ValueError, RuntimeError):
            loop.add_signal_handler(number, lines.end)
    written: Any = _Written(outgoing)
    read: Any = lines
    async with stdio_server(read, written) as (messages, answers):
        options = server.create_initialization_options()
        await server.run(messages, answers, options)


class _Lines:
    """The lines of a stream, with a wait that can be cancelled."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        incoming: BinaryIO,
        outgoing: BinaryIO,
    ) -> None:
        self._loop = loop
        self._incoming = incoming
        self._outgoing = outgoing
        self._queue: asyncio.Queue[str | None] = asyncio.Queue()
        thread = threading.Thread(target=self._read, name="taskorch-mcp", daemon=True)
        thread.start()

    def _read(self) -> None:
        # Once the loop has ended, nobody reads the messages.
        with suppress(RuntimeError, OSError, ValueError):
            while line := self._incoming.readline(_MOST_BYTES):
                if len(line) == _MOST_BYTES:
                    # The end of the streams informs the sender.
                    _LOG.error("a message has at most %s bytes", f"{_MOST_BYTES:,}")
                    break
                text = line.decode("utf-8", "replace")
                refusal = _refusal(text)
                if refusal is None:
                    self._loop.call_soon_threadsafe(self._queue.put_nowait, text)
                else:
                    self._outgoing.write(refusal)
                    self._outgoing.flush()
            self._loop.call_soon_threadsafe(self.end)

    def end(self) -> None:
        """There is no other."""
        self._queue.put_nowait(None)

    async def __aiter__(self) -> AsyncIterator[str]:
        while (line := await self._queue.get()) is not None:
            yield line


def _refusal(text: str) -> bytes | None:
    """
    The answer to a line that is no message, which the library leaves without one.

    That is also one with half a character.
    """
    try:
        types.jsonrpc_message_adapter.validate_json(text, by_name=False)
    except ValueError:
        number, code = None, types.INVALID_REQUEST
        try:
            message = json.loads(text)
        except (ValueError, RecursionError):
            code = types.PARSE_ERROR
        else:
            number = message.get("id") if isinstance(message, dict) else None
        request = number if isinstance(number, int | str) else None
        fault = {"code": code, "message": "this line is no message of JSON-RPC"}
        answer = {"jsonrpc": "2.0", "id": request, "error": fault}
        return f"{json.dumps(answer)}\n".encode()
    return None


class _Written:
    """A writer on a thread, so that a slow reader delays nothing else."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    async def write(self, text: str) -> None:
        await anyio.to_thread.run_sync(self._stream.write, text.encode())

    async def flush(self) -> None:
        await anyio.to_thread.run_sync(self._stream.flush)
