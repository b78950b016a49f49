"""
Connections to a PostgreSQL server, statements for its tables, and its errors.

psycopg makes the connections. The lease of a journal is here as its leader knows it.

Decision: journal-in-postgresql.
"""

from __future__ import annotations

import contextlib
import re
import select
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple
from urllib.parse import unquote

from taskorch.core.journal.tables import Session
from taskorch.errors import InvalidTaskError, JournalError, JournalUnavailableError
from taskorch.ext.postgres._silence import Patience, connect, is_silence
from taskorch.kit.address import fault_of, is_url, normal
from taskorch.kit.checks import needed
from taskorch.kit.fence import log_of
from taskorch.kit.lease import Lease
from taskorch.kit.visible import printable

if TYPE_CHECKING:
    import psycopg


_LOG: Final = log_of(__name__)
#: The share of a lease after which it is renewed.
_RENEWED: Final = 1 / 3
#: The share of a lease by which the leader takes it for over sooner: clocks differ.
_MARGIN: Final = 1 / 10
#: Seconds in which the lease can be given back at the end, if the server answers.
_PATIENCE: Final = 5.0
#: A clock that goes on while the machine sleeps, as the clock of the server does.
_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def clock() -> float:
    """Return the seconds of a clock of this machine that nobody sets."""
    return time.clock_gettime(_CLOCK)


class LeaseKeeper:
    """
    Keeps the lease in which nobody takes a journal from its leader, on a thread.

    Args:
        seconds: How long it lasts from each renewal.
        since: When it was first given, by `clock`, or earlier.
        renew: A method that renews it, and returns whether it is to be called again.
        release: A method that gives it back, called by `end`. Neither keeps its object
            in memory; without that, the thread ends.
    """

    def __init__(
        self,
        seconds: float,
        since: float,
        renew: Callable[[], bool],
        release: Callable[[], object],
    ) -> None:
        self._lease = Lease(seconds * (1 - _MARGIN), since)
        self._is_over = threading.Event()
        self._thread = threading.Thread(
            target=_keep,
            args=(
                weakref.WeakMethod(renew),
                weakref.WeakMethod(release),
                self._is_over,
                seconds * _RENEWED,
            ),
            name="taskorch-lease",
            daemon=True,
        )
        self._thread.start()

    def lasts(self) -> bool:
        """Return whether nobody can have taken the journal, by the clocks."""
        return not self._lease.is_over(clock())

    def renewed(self, since: float) -> None:
        """Note that the server renewed it, asked at *since* by `clock`."""
        self._lease.renew(since)

    def end(self) -> None:
        """Stop renewing it and give it back, if the server answers."""
        self._is_over.set()
        if self._thread is not threading.current_thread():
            self._thread.join(_PATIENCE)


def _keep(
    renew: weakref.WeakMethod[Callable[[], bool]],
    release: weakref.WeakMethod[Callable[[], object]],
    is_over: threading.Event,
    pause: float,
) -> None:
    while not is_over.wait(pause):
        renewal = renew()
        if renewal is None or not renewal():
            return
        # A reference would keep a journal in memory that nothing else needs.
        del renewal
    give_back = release()
    if give_back is not None:
        give_back()


_VALUE: Final = re.compile(r"(?<!:):([a-z][a-z0-9_]*)")
#: Looks up each item of a list by the index: with `= ANY` a planner might read the
#: whole table as long as it has no statistics.
_EACH: Final = """
    LATERAL (SELECT * FROM taskorch.facts WHERE partition = :partition AND {} OFFSET 0)
    AS facts
"""


_INTO_INCARNATION: Final = """
    UPDATE {facts} SET epoch = :epoch
    WHERE {mine}seq > :after AND seq <= :last AND epoch <> :epoch
"""
#: The incarnation of an event is that of its group; earlier versions did not write it
#: for rests.
_MISFIT: Final = """
    SELECT min(seq) FROM {groups} AS kept
    JOIN {facts} AS fact ON fact.partition = :partition
    AND fact.seq BETWEEN kept.first AND kept.last
    WHERE kept.partition = :partition
    AND (kept.form = 1 OR kept.gone IS NOT NULL) AND fact.epoch <> kept.epoch
"""


class PostgresSession(Session):
    """A connection to the tables of a partition, of the present layout."""

    WORDS: ClassVar[Mapping[str, str]] = {
        "facts": "taskorch.facts",
        "groups": "taskorch.groups",
        "snapshots": "taskorch.snapshots",
        "mine": "partition = :partition AND ",
        "column": "partition, ",
        "value": ":partition, ",
        "chain": "(SELECT chain FROM taskorch.partitions WHERE id = :partition)",
        "numbers": "unnest(:numbers::bigint[]) AS listed (value)",
        "names": "unnest(:names::text[]) AS listed (value)",
        "named": (
            "(SELECT DISTINCT unnest(:names::text[]) AS value) AS listed, "
            + _EACH.format("task_id = value")
        ),
        "ranged": (
            "unnest(:lows::bigint[], :highs::bigint[]) AS listed (low, high), "
            + _EACH.format("seq > low AND seq <= high")
        ),
        "kept": "(SELECT last FROM taskorch.partitions WHERE id = :partition)",
    }

    def __init__(self, db: psycopg.Connection[Any], name: str, partition: int) -> None:
        super().__init__(name)
        self.db = db
        self._partition = partition

    @classmethod
    @cache
    def text(cls, statement: str) -> str:
        return _VALUE.sub(r"%(\1)s", super().text(statement))

    def ask(self, statement: str, **values: Any) -> list[Any]:
        return self._run(statement, values).fetchall()

    def change(self, statement: str, **values: Any) -> int:
        return self._run(statement, values).rowcount

    def change_each(self, statement: str, each: Iterable[dict[str, Any]]) -> None:
        """Carry out *statement* with many values, in a round trip or two."""
        text: Any = self.text(statement)
        mine = {"partition": self._partition}
        self.db.cursor().executemany(text, [mine | values for values in each])

    def _run(self, statement: str, values: dict[str, Any]) -> psycopg.Cursor[Any]:
        values["partition"] = self._partition
        text: Any = self.text(statement)
        return self.db.execute(text, values)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        if self.db.info.transaction_status:
            yield
            return
        self.db.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        # After an error the connection is closed.
        yield
        self.db.execute("COMMIT")

    def id_of_key(self, key: str) -> str | None:
        rows = self.ask(
            "SELECT task_id FROM {facts} WHERE {mine}key = :key"
            " ORDER BY seq DESC LIMIT 1",
            key=key,
        )
        return rows[0][0] if rows else None

    def keys(self) -> dict[str, str]:
        statement = "SELECT key, task_id FROM {facts} WHERE {mine}key IS NOT NULL"
        return dict(self.ask(f"{statement} ORDER BY seq"))

    def put_into_incarnation(self, after: int, last: int, epoch: int) -> None:
        self.change(_INTO_INCARNATION, after=after, last=last, epoch=epoch)

    def misfit(self) -> int | None:
        ((number,),) = self.ask(_MISFIT)
        return super().misfit() if number is None else int(number)

    def leave_out(self, names: list[str]) -> None:
        self.change(
            "DELETE FROM {facts} USING {names} WHERE {mine}task_id = value", names=names
        )

    def close(self) -> None:
        self.db.close()


#: Options of an address that are ours, and not the client library's.
_OURS: Final = ("partition", "lease", "standby", "logs")
#: The number of leases for which a connection that was silent is told of.
_TOLD_LEASES: Final = 3
#: Idle connections that are kept.
_IDLE: Final = 3
#: Defaults for the client library: seconds to find out that the machine of a server is
#: gone, which may be silent for long.
_DEFAULTS: Final = {
    "tcp_user_timeout": "15000",
    "keepalives_idle": "5",
    "keepalives_interval": "3",
    "keepalives_count": "3",
}
#: Classes of errors that may pass: a lost connection, conflicts, a lack of room or
#: memory, a server that stops, errors of the system; and a server that only reads,
#: locks.
_PASSING: Final = ("08", "40", "53", "57", "58", "XX")
_PASSING_CODES: Final = frozenset({"25006", "55P03"})
_READ_ONLY: Final = "25006"
_FORBIDDEN: Final = "42501"
#: Codes for a missing table, column or schema.
_MISSING: Final = frozenset({"3F000", "42P01", "42703"})
#: Classes for a connection that is lost, or that the server ends.
_ENDED: Final = ("080", "57P")
#: The message of a pgbouncer that does not allow transactions of several statements.
_NO_TRANSACTIONS: Final = "statement pooling mode"
#: Codes for a damaged page or index.
_DAMAGE: Final = frozenset({"XX001", "XX002"})
#: The client library's message about an unknown name in an address.
_OPTION: Final = re.compile(
    r'invalid (?:URI query parameter|connection option)[: ]+"([a-z_]{1,40})"'
)
#: Messages for a role that may not connect, or an address that cannot work. These
#: errors have no code. A server with another protocol is waited for.
_REFUSALS: Final = re.compile(
    "authentication failed|no password supplied|pg_hba.conf|not permitted to log in"
    "|does not exist|no such (database|user)|not currently accepting connections"
    "|permission denied|unrecognized configuration parameter|certificate"
    "|does not support SSL|is bad: (invalid|could not parse)"
)


class PostgresAddress(NamedTuple):
    """A server, and our options for a journal there."""

    #: For the client library; it may contain a password.
    conninfo: str
    #: For people, without a password.
    name: str
    #: `partition`, `lease`, `standby` and `logs`, as far as they are given.
    said: Mapping[str, str]


def load() -> Any:
    """
    Return the module psycopg.

    Raises:
        JournalError: It is not installed, or finds no client library.
    """
    return needed("psycopg", "a journal in PostgreSQL", "postgres", JournalError)


def parse(dsn: str) -> PostgresAddress:
    """
    Return the parts of *dsn*, an address or text of `name=value`.

    Raises:
        InvalidTaskError: It is neither.
        JournalError: psycopg is not installed.
    """
    options: dict[str, str] = {}
    dsn, why = normal(dsn), ""
    if is_url(dsn):
        why = fault_of(dsn)
        # Options of libpq stay as they are written.
        dsn, _, query = dsn.partition("?")
        pairs = [pair.partition("=") for pair in query.split("&") if pair]
        options = {name: unquote(value) for name, _, value in pairs if name in _OURS}
        rest = "&".join("".join(pair) for pair in pairs if pair[0] not in _OURS)
        dsn = f"{dsn}?{rest}" if rest else dsn
    driver = load()
    parameters: dict[str, Any] = {}
    try:
        if not why:
            parameters = driver.conninfo.conninfo_to_dict(dsn)
    except driver.Error as error:
        # Any other text in its message may be a part of a password.
        option = _OPTION.search(str(error))
        why = f"it has no option {option[1]}" if option else "it cannot be read"
    if not why and not all(p.isdecimal() for p in _ports(parameters.get("port"))):
        why = "a port is no number"
    if why:
        msg = f"the address of the server is not well formed: {why}"
        hint = "postgresql://host:5432/database?user=name&partition=name"
        raise InvalidTaskError(msg, hint=hint)
    for key, value in _DEFAULTS.items():
        parameters.setdefault(key, value)
    parameters.setdefault("application_name", "taskorch")
    return PostgresAddress(
        driver.conninfo.make_conninfo(**parameters), _shown(parameters), options
    )


def _ports(text: Any) -> list[str]:
    """Return the ports that an address names."""
    return [port for port in str(text or "").split(",") if port]


def _shown(parameters: Mapping[str, Any]) -> str:
    user, host = parameters.get("user", ""), parameters.get("host", "")
    port, name = parameters.get("port", ""), parameters.get("dbname", "")
    where = f"{user}@{host}" if user else host
    return printable(f"postgresql://{where}{f':{port}' if port else ''}/{name}")


class PostgresConnections:
    """
    Connections to one server: each is used by one thread at a time.

    A connection is only expected to carry out the next transaction, so it may also lead
    to a pgbouncer that gives each transaction another session.

    Args:
        address: The server.
        lease: Seconds of the journal's lease, from which comes how long a connection
            may be silent.
    """

    def __init__(self, address: PostgresAddress, lease: float) -> None:
        self._conninfo = address.conninfo
        self._name = address.name
        self._patience = Patience(lease)
        #: Until when a silent connection is told of, by `clock`, and the words.
        self._told_until, self._said = 0.0, ""
        self._told_for = _TOLD_LEASES * lease
        self._mutex = threading.Lock()
        self._idle: list[psycopg.Connection[Any]] = []
        self._is_open = True
        weakref.finalize(self, _close, self._idle)

    @contextlib.contextmanager
    def use(
        self, first: Callable[[psycopg.Connection[Any]], Any] = lambda _: None
    ) -> Iterator[tuple[psycopg.Connection[Any], Any]]:
        """
        Yield a connection and the answer of *first*; after an error it is closed.

        If *first* finds that an idle connection was ended, as by a restart of the
        server or the pgbouncer, another is taken.
        """
        while True:
            connection, is_new = self._borrow()
            try:
                answer = first(connection)
            except BaseException as error:
                self._give_up(connection, error)
                if is_new or not has_hung_up(error):
                    raise
            else:
                break
        try:
            yield connection, answer
        except BaseException as error:
            self._give_up(connection, error)
            raise
        self._give_back(connection)

    def close(self) -> None:
        """Close idle ones; others are closed when they are given back."""
        with self._mutex:
            self._is_open = False
            _close(self._idle)

    def silence(self) -> tuple[str, ...]:
        """Return in words that a connection was silent, for some leases after it."""
        return (self._said,) if clock() < self._told_until else ()

    def leave_to_parent(self) -> list[psycopg.Connection[Any]]:
        """Return the parent's, which its child must not use or close."""
        self._mutex = threading.Lock()
        idle = self._idle.copy()
        self._idle.clear()
        return idle

    def _borrow(self) -> tuple[psycopg.Connection[Any], bool]:
        """Return a connection, and whether it was made just now."""
        while True:
            with self._mutex:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                return self._connect(), True
            if not _has_ended(connection):
                return connection, False
            connection.close()

    def _give_back(self, connection: psycopg.Connection[Any]) -> None:
        with self._mutex:
            if self._is_open and len(self._idle) < _IDLE:
                self._idle.append(connection)
                return
        connection.close()

    def _give_up(
        self, connection: psycopg.Connection[Any], error: BaseException
    ) -> None:
        """Close *connection*; if it was lost, close idle ones, too."""
        connection.close()
        if isinstance(error, load().OperationalError):
            with self._mutex:
                _close(self._idle)
        if hasattr(error, "is_silence"):
            is_known, self._told_until = self.silence(), clock() + self._told_for
            self._said = f"{self._name}: a connection was silent and given up: {error}"
            if not is_known:
                _LOG.warning("%s", self._said)

    def _connect(self) -> psycopg.Connection[Any]:
        return connect(self._conninfo, self._patience)


def _close(idle: list[psycopg.Connection[Any]]) -> None:
    while idle:
        idle.pop().close()


def _has_ended(connection: psycopg.Connection[Any]) -> bool:
    """Return whether the server has hung up, as far as can be seen without asking."""
    if connection.closed:
        return True
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def has_hung_up(error: BaseException | None) -> bool:
    """Return whether *error* is the end of a connection, so that another may work."""
    if not isinstance(error, load().OperationalError):
        return False
    code: str = getattr(error, "sqlstate", None) or ""
    return code[:3] in _ENDED if code else not is_silence(error)


def error_of(
    error: Exception, name: str, wanted: str, *, unknown: bool
) -> JournalError:
    """
    Return the error for a caller who *wanted* the journal *name*, from psycopg's.

    Args:
        error: The error of psycopg.
        name: The name of the journal, for people.
        wanted: `"read"`, `"written"`, `"claimed"` or `"changed"`.
        unknown: Whether something may have been kept, if the connection was lost.
    """
    code = getattr(error, "sqlstate", None) or ""
    why = " ".join(str(error).split()) or type(error).__name__
    if code in _DAMAGE:
        return JournalError(
            f"{name} is damaged, says the server: {why}",
            hint="restore the database from a copy",
        )
    hint: str | None = None
    if _NO_TRANSACTIONS in why:
        msg = f"{name} cannot be {wanted}: {why}"
        hint = "let the pgbouncer have pool_mode = transaction, or session"
        return JournalError(msg, hint=hint)
    if code in _MISSING:
        msg = f"{name}: tables of taskorch are missing: {why}"
        hint = "restore them from a copy, or let an orchestrator make new ones"
        return JournalError(msg, hint=hint)
    if code == _FORBIDDEN:
        msg = f"{name} cannot be {wanted}: {why}"
        hint = (
            "let its owner grant this role the schema taskorch and its tables, or make "
            "them: taskorch migrate postgresql://…"
        )
        return JournalError(msg, hint=hint)
    is_lost = not code and isinstance(error, load().OperationalError)
    if is_lost or code[:2] in _PASSING or code in _PASSING_CODES:
        if code == _READ_ONLY:
            hint = "name the primary: postgresql://a,b/db?target_session_attrs=primary"
        elif is_refusal(error):
            hint = "mend the address, or what the server grants to its user"
        elif wanted != "written":
            hint = "look whether the server runs, and whether the address is right"
        outcome = "unknown" if unknown and (is_lost or code[:2] == "57") else "refused"
        msg = f"{name} cannot be {wanted} now: {why}"
        return JournalUnavailableError(msg, outcome=outcome, hint=hint)
    return JournalError(f"{name} cannot be {wanted}: {why}")


def is_refusal(error: BaseException | None) -> bool:
    """Return whether *error* means that an address cannot work, even later."""
    is_coded = getattr(error, "sqlstate", None) is not None
    return not is_coded and _REFUSALS.search(str(error)) is not None


def truth(name: str, text: str) -> bool:
    """
    Return the value of *name* in an address, which is true or false.

    Raises:
        InvalidTaskError: It is neither.
    """
    words: dict[str, bool] = {"1": True, "true": True, "0": False, "false": False}
    if text.lower() not in words:
        msg = f"{name}={text!r} of the address is neither true nor false"
        raise InvalidTaskError(msg, hint=f"…?{name}=true")
    return words[text.lower()]


def number(name: str, text: str) -> float:
    """
    Return the number of *name* in an address.

    Raises:
        InvalidTaskError: It is none.
    """
    as_number: Callable[[str], float] = float
    try:
        return as_number(text)
    except ValueError:
        msg = f"{name}={text!r} of the address is no number"
        raise InvalidTaskError(msg, hint=f"…?{name}=5") from None
