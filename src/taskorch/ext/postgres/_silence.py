"""
Waits for a PostgreSQL server, each with a deadline of our own.

The options of the client library see a network that is dead. They do not see a server,
a pooler or a proxy that keeps a connection open and says nothing on it. So a wait that
hears nothing for some time asks over a connection of its own whether the server is
still at work on the statement, and gives the connection up if it is not.

Decision: silent-servers.
"""

from __future__ import annotations

import fcntl
import termios
import time
from array import array
from collections.abc import Generator
from functools import cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import psycopg

#: The share of a lease in which a connection may be silent before it is checked, and
#: the fewest seconds.
_QUIET: Final = 1 / 3
_LEAST_QUIET: Final = 1.0
#: The share of a lease in which a connection must be made, and the fewest seconds that
#: psycopg allows.
_MADE: Final = 2 / 3
_LEAST_MADE: Final = 2
#: The most seconds of either, however long the lease is.
_LONGEST: Final = 5
#: Seconds in which the session of a pooler must answer: the server does not know it by
#: the number that the pooler gives.
_OF_A_POOLER: Final = 60.0

#: The least bytes that count as an answer: a connection that sends fewer is too slow.
_LEAST_SAID: Final = 1_000
#: The bit by which psycopg says that a connection can be read.
_READABLE: Final = 1
_NOTHING: Final = "the server does nothing for this connection, which stays silent"
_NOBODY: Final = "the server does not answer, on a new connection either"

#: Whether the server works for a session, and does not wait for its client.
_AT_WORK: Final = """
    SELECT state = 'active' AND wait_event_type IS DISTINCT FROM 'Client'
    FROM pg_stat_activity WHERE pid = %s
"""


class Patience:
    """
    Time that a connection is waited for, from the lease of the journal.

    Args:
        lease: Seconds of the lease.
    """

    def __init__(self, lease: float) -> None:
        #: Seconds in which a connection may be silent before it is checked.
        self.quiet = min(max(_QUIET * lease, _LEAST_QUIET), _LONGEST)
        #: Seconds in which a connection must be made.
        self.made = min(max(round(_MADE * lease), _LEAST_MADE), _LONGEST)


def connect(conninfo: str, patience: Patience) -> psycopg.Connection[Any]:
    """
    Connect to a server; every wait on the connection has a deadline.

    Raises:
        psycopg.OperationalError: The server does not answer in time, or refuses.
    """
    connection: psycopg.Connection[Any] = _connect(conninfo, patience, conninfo)
    return connection


def _connect(conninfo: str, patience: Patience, address: str = "") -> Any:
    """Connect; a connection without an *address* is one that checks another."""
    from psycopg.conninfo import conninfo_to_dict  # noqa: PLC0415 - few need it

    parameters: dict[str, Any] = {"connect_timeout": patience.made}
    parameters |= conninfo_to_dict(conninfo)
    # Statements are not prepared: another session of a pooler would not know them.
    connection = _bounded().connect(
        "", autocommit=True, prepare_threshold=None, **parameters
    )
    connection.patience, connection.address = patience, address
    return connection


def is_silence(error: BaseException | None) -> bool:
    """Return whether *error* means a silent server, even on a new connection."""
    from psycopg.errors import ConnectionTimeout  # noqa: PLC0415 - as above

    return isinstance(error, ConnectionTimeout) or getattr(error, "is_silence", False)


@cache
def _bounded() -> type[Any]:
    """Return the class of connections whose waits have a deadline."""
    import psycopg  # noqa: PLC0415 - as above

    class Bounded(psycopg.Connection[Any]):
        """A connection that is given up once the server does nothing for it."""

        #: None until the connection is made.
        patience: Patience | None = None
        #: The address for a connection that checks it.
        address: str = ""

        def wait(self, gen: Any, *args: Any, **options: Any) -> Any:
            """Wait as psycopg does, until the deadline."""
            if self.patience is not None:
                gen = _until_silent(gen, self, self.patience)
            return super().wait(gen, *args, **options)

    return Bounded


def _until_silent(
    waiting: Generator[Any, Any, Any], connection: Any, patience: Patience
) -> Generator[Any, Any, Any]:
    """
    Pass on what *waiting* and psycopg send each other, until there is silence.

    Raises:
        psycopg.OperationalError: The server does nothing for this connection.
    """
    began = heard = time.monotonic()
    count, why = 0, ""
    try:
        wanted = next(waiting)
        while True:
            # psycopg sends a zero about ten times a second while nothing comes.
            ready = (yield wanted) or 0
            now = time.monotonic()
            count += _bytes_at(connection) if ready & _READABLE else ready
            if count >= _LEAST_SAID or ready & ~_READABLE:
                heard, count, why = now, 0, ""
            elif why and (not ready or now - heard > patience.quiet):
                raise _silence(why, now - began, connection)
            elif now - heard > patience.quiet:
                # If its answer came meanwhile, it is taken at the next turn.
                why = _why_silent(connection, patience, now - began)
                heard, count = time.monotonic(), 0
            wanted = waiting.send(ready)
    except StopIteration as end:
        return end.value


def _bytes_at(connection: Any) -> int:
    """Return the number of bytes that have come and were not read yet."""
    count = array("i", [0])
    fcntl.ioctl(connection.pgconn.socket, termios.FIONREAD, count)
    return count[0]


def _why_silent(connection: Any, patience: Patience, waited: float) -> str:
    """
    Explain why nobody works on the statement of *connection*; "": the server does.

    Args:
        connection: The connection that is silent.
        patience: How long another connection is waited for.
        waited: Seconds since the statement was sent.
    """
    import psycopg  # noqa: PLC0415 - as above

    if not connection.address:
        return _NOBODY
    number = connection.pgconn.backend_pid
    try:
        with _connect(connection.address, patience) as asking:
            row = asking.execute(_AT_WORK, [number]).fetchone()
    except psycopg.Error:
        return _NOBODY
    if row is None:
        return "" if waited < _OF_A_POOLER else _NOTHING
    return "" if row[0] else _NOTHING


def _silence(why: str, seconds: float, connection: Any) -> Exception:
    import psycopg  # noqa: PLC0415 - as above

    connection.close()
    error = psycopg.OperationalError(f"{why} ({seconds:.1f} s)")
    error.is_silence = why == _NOBODY  # type: ignore[attr-defined]
    return error
