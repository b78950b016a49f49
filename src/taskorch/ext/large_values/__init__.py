"""
Large values: results of tasks and of steps that are in an object store.

The journal has the place of such a value, its size and its sum, and it alone says which
there are. An object is put before the journal names it, and deleted after the journal
no longer does. Each incarnation puts its objects under its own number, and no other
names these: so nobody names later what a sweep deletes.

Decision: large-values.
"""

from __future__ import annotations

import os
import re
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from hashlib import sha256
from pathlib import Path
from time import monotonic
from typing import Any, Final, Protocol, runtime_checkable
from urllib.parse import unquote, urlsplit

import attrs

from taskorch.core.inside import Inside
from taskorch.core.journal import decode, document, encode
from taskorch.errors import (
    InvalidTaskError,
    ResultGoneError,
    StoreUnavailableError,
    TaskorchError,
)
from taskorch.kit.backoff import KeptElsewhere, silent_for
from taskorch.kit.checks import check_seconds, needed
from taskorch.kit.extension import Extension
from taskorch.kit.fence import as_errors, log_of
from taskorch.kit.frozen import frozen
from taskorch.kit.interrupts import begin_thread
from taskorch.kit.raised import told_of
from taskorch.kit.verbs import verb
from taskorch.kit.visible import counted, show, visible
from taskorch.model import Missing, Task
from taskorch.protocols import DurableJournal

__all__ = ("LargeValue", "LargeValues", "Swept", "ValueStore")

_LOG: Final = log_of(__name__)
#: After a failure of the store, values go to the journal at once for so many seconds.
_ASIDE: Final = 60.0
#: The number of objects that one request deletes.
_BATCH: Final = 500
#: The seconds that anybody waits for a store, and one more for each MB; meanwhile, as
#: many requests of one kind are under way. Then the store counts as silent.
_PATIENCE: Final = 5.0
_AT_ONCE: Final = 32
#: The most seconds of one request, and of all its tries.
_REQUEST: Final = timedelta(seconds=120)
_TRIES: Final = timedelta(seconds=10)
#: The beginning of a document that names a file beside the journal: it stays there.
_FILE: Final = '{"$file":['
#: The beginning of the name of a script, relative to the folder of the journal.
_SCRIPT: Final = '"__main__@'
#: The pattern for names of objects in the documents of a journal.
_KEYS: Final = re.compile(
    r'\["taskorch\.ext\.large_values:LargeValue",'
    r'\{"store":"(?:[^"\\]|\\.)*","key":"([^"\\]+)"'
)
#: The pattern for a name: its journal, the incarnation that has put it, and a hash.
_KEY: Final = re.compile(r"([^/]+)/(\d+)/[^/]+")
#: The fields of an error's account, which stay in the journal, because lists show them.
_ACCOUNT: Final = frozenset({"traceback", "fields", "failures"})
#: The kinds of stores, by the beginnings of their addresses.
_SCHEMES: Final = frozenset(
    (
        *("abfs", "abfss", "adl", "az", "azure", "file", "gcs", "gs"),
        *("http", "https", "memory", "s3", "s3a"),
    )
)


@runtime_checkable
class ValueStore(Protocol):
    """
    Protocol: keeps objects by their names; `LargeValues` asks it.

    It is asked from many threads. Whatever it raises means that it cannot be used now.

    Laws:
        1. What `put` has returned from, `get` gives, also after a loss of power.
        2. `put` replaces an object of the same name, whole or not at all.
        3. `get` raises FileNotFoundError for a name that has no object.

    Attributes:
        url: Where it is, for people and for the journal: without a secret.
    """

    url: str

    @as_errors()
    def put(self, key: str, data: bytes) -> None:
        """Keep *data* as the object *key*."""
        ...

    def get(self, key: str) -> bytes:
        """Return the object *key*."""
        ...

    def list(self, prefix: str) -> Iterable[str]:
        """Return the names of all objects below the folder *prefix*."""
        ...

    def delete(self, keys: Sequence[str]) -> None:
        """Delete the objects of *keys*, of which some may be gone already."""
        ...


@attrs.frozen(slots=False, repr=False)
class LargeValue(Missing):
    """
    Stands for a value that is in an object store, and read when it is asked for.

    Attributes:
        store: The address of the store.
        key: The name of the object.
        size: How many bytes it has.
        sha256: Their sum.
    """

    store: str
    key: str
    size: int
    sha256: str

    @property
    def name(self) -> str:  # type: ignore[override]  # it has no import path
        """The name of the value, for people."""
        return str(self)

    @property
    def why(self) -> str:  # type: ignore[override]  # as above
        """The place of the value, in words."""
        return f"it is {self}"

    @property
    def patience(self) -> float:
        """The seconds after which a store that has not answered counts as silent."""
        return _PATIENCE + self.size / 1e6

    def look(self) -> Any:
        """
        Read the value: each call reads it anew, on a thread of the store's own.

        Raises:
            StoreUnavailableError: The store does not answer; nothing is lost.
            ResultGoneError: It has no such object, or another one; or a class in it is
                gone.
        """
        read = partial(_store_at(self.store).get, self.key)
        asked = _READERS.setdefault(self.store, _Threads()).ask(read)
        if not wait((asked,), self.patience).done:
            asked.cancel()
            msg = f"{self} is not read: {silent_for(self.patience)}"
            raise StoreUnavailableError(msg)
        try:
            data = asked.result()
        except FileNotFoundError as error:
            msg = f"{self} is not there: the store has no object {self.key}"
            hint = "restore it from a copy of the store, or run the task again"
            raise ResultGoneError(msg, hint=hint) from error
        except TaskorchError:
            raise
        except Exception as error:
            msg = f"{self} cannot be read now: {_in_a_line(error)}"
            raise StoreUnavailableError(msg) from error
        total = sha256(data).hexdigest()
        if (len(data), total) != (self.size, self.sha256):
            msg = f"{self} is damaged: object {self.key} has {len(data):,} bytes with "
            msg += f"the sum {total}, and not {self.size:,} with {self.sha256}"
            hint = "restore it from a copy of the store, or run the task again"
            raise ResultGoneError(msg, hint=hint)
        value = decode((0, "TaskCompleted", 0, "", _NO_EVENT, data.decode()))[1]
        if issubclass(type(value), Missing):
            msg = f"{self} cannot be made again: {value.why}"
            raise ResultGoneError(msg, hint="bring that back, and ask again")
        return value

    def __str__(self) -> str:
        return f"{_in_bytes(self.size)} in {self.store} (sha256 {self.sha256[:12]}…)"

    __repr__ = __str__


#: Stands for the fields of an event, to read a document.
_NO_EVENT: Final = '[1,"",1,"",0]'


@frozen
class Swept:
    """
    The objects that a sweep has deleted, or would delete.

    Attributes:
        deleted: How many objects.
        kept: How many there are still.
        dry_run: Whether nothing was deleted, and would be.
    """

    deleted: int
    kept: int
    dry_run: bool = False

    def __str__(self) -> str:
        verb = "Would delete" if self.dry_run else "Deleted"
        objects = counted(self.deleted, "object")
        return f"{verb} {objects} that no task has; {self.kept:,} stay."


class LargeValues(Extension):
    """
    Keep large results in an object store, and their places in the journal.

        TaskOrchestrator(journal="runs.db", extensions=[LargeValues("s3://bucket/runs")])

    A result of a task, or of a step, whose document is larger than `keep_mb` is put
    into the store, and read again when it is asked for. If the store does not take it,
    the journal keeps it as it keeps others.

    Args:
        store: The address of a store, such as `s3://bucket/folder`, `gs://…`, `az://…`;
            a folder; or a `ValueStore` of your own.
        keep_mb: MB of a document above which a value goes to the store.
        grace: How long an object that no task has stays after it was put, in seconds or
            as a timedelta.
        sweep_every: How long between two sweeps, likewise; None: only `sweep` sweeps.
        options: Options beside the address, by the names of obstore: `region`,
            `endpoint`, …. Secrets do not stand here: they are read from the environment
            by who reads the journal, too.

    Raises:
        InvalidTaskError: There is no such store, or a number is invalid.
    """

    name = "large_values"

    def __init__(
        self,
        store: str | os.PathLike[str] | ValueStore,
        *,
        keep_mb: float = 1.0,
        grace: float | timedelta = 3_600.0,
        sweep_every: float | timedelta | None = 3_600.0,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        if type(keep_mb) not in (int, float) or not 0 <= keep_mb <= _MOST_MB:
            msg = f"keep_mb={show(keep_mb)} is no number of MB from 0 to {_MOST_MB}"
            raise InvalidTaskError(msg, hint="keep_mb=1")
        self._above = int(keep_mb * 1e6)
        self._sweeps: float | None = None
        if sweep_every is not None:
            self._sweeps = check_seconds(
                "sweep_every", sweep_every, zero=False, none=True
            )
        own = store if isinstance(store, ValueStore) else None
        url = _address(store) if own is None else ""
        if options and urlsplit(url).scheme in ("", "file", "memory"):
            msg = f"options: {url or 'a store of your own'} takes none"
            raise InvalidTaskError(msg, hint="s3://, gs:// and az:// have options")
        if own is not None:
            self._store = _STORES[own.url] = own
        else:
            self._store = _store_at(url, options)
        self._names = _Names(check_seconds("grace", grace))
        #: The folder for objects of this incarnation, once its journal is open.
        self._folder = ""
        #: Why values are kept in the journal for now, since when, and how many.
        self._trouble = ""
        self._failed = -_ASIDE
        self._inline = 0
        self._sweeping = threading.Lock()
        self._writers = _Threads()

    def attach(self, orch: Any) -> None:
        """
        Have the results of *orch* kept so.

        Raises:
            InvalidTaskError: It has no durable journal.
        """
        self._inside = Inside(orch)
        self._inside.keep_values_by(self._keeping)
        if self._sweeps is not None:
            self._inside.repeat(self._sweeps, self._sweep_now_and_then)

    def check(self) -> str:
        """Say why values are not in the store, if they are not."""
        if not self._trouble:
            return ""
        kept = counted(self._inline, "value")
        return f"{self._trouble}; the journal has {kept} in its place"

    @verb("Delete objects that no task has.", "thread", "POST /sweep", needs="operate")
    def sweep(self, *, dry_run: bool = False) -> Swept:
        """
        Delete what this orchestrator has put, and no task in the journal has.

        That is done from time to time, too. Objects that were put within the last
        `grace` seconds stay.

        Args:
            dry_run: Delete nothing, and say what would be.

        Raises:
            StoreUnavailableError: The store does not answer.
            JournalError: The journal cannot be read; nothing was deleted.
        """
        with self._sweeping:
            journal, incarnation = self._inside.kept_journal(), self._inside.epoch
            folder = journal.identity()
            # The list is made first, so that objects that are put later are no part of
            # it.
            keys = self._asked(lambda: [*self._store.list(folder)]) if folder else []
            ours = [key for key in keys if _is_of(key, folder, incarnation)]
            named = _named_in(journal) if ours else frozenset[str]()
            unnamed = [key for key in ours if key not in named]
            gone = 0
            for place in range(0, len(unnamed), _BATCH):
                batch = unnamed[place : place + _BATCH]
                with self._names.leaving(batch) as leaving:
                    if leaving and not dry_run:
                        self._asked(partial(self._store.delete, leaving))
                gone += len(leaving)
            return Swept(gone, len(keys) - gone, dry_run)

    # -- one value -----------------------------------------------------------------

    def _keeping(self, text_of: Callable[[Any], Any]) -> Callable[[Any], Any]:
        above = self._above

        def text(value: Any) -> Any:
            kept = text_of(value)
            if isinstance(kept, str) and len(kept) > above and _may_go(value, kept):
                return self._kept(value, kept, text_of)
            return kept

        return text

    def _kept(self, value: Any, text: str, text_of: Callable[[Any], Any]) -> Any:
        """
        The document that names where *value* is, once it is there, or else *text*.

        It is put on a thread of the store's own.
        """
        if not self._is_taken() or monotonic() - self._failed < _ASIDE:
            self._inline += 1
            return text
        # A script keeps its own path there, not the one relative to the journal.
        data = (str(document(value)) if _SCRIPT in text else text).encode()
        total = sha256(data).hexdigest()
        key = f"{self._folder}/{total}"
        place = LargeValue(self._store.url, key, len(data), total)
        kept = KeptElsewhere(text, place.patience, self._note)
        named = text_of(place)

        def put() -> None:
            if kept.done():
                return
            try:
                with self._names.coming(key):
                    self._store.put(key, data)
            except BaseException as error:  # noqa: BLE001 - whatever the store has raised
                if kept.settle(text):
                    self._note(error)
            else:
                if kept.settle(named):
                    self._trouble, self._inline = "", 0

        self._writers.ask(put)
        return kept

    def _is_taken(self) -> bool:
        """Return whether the folder for new objects is known."""
        if not self._folder:
            identity = self.orch.journal.identity()
            if not identity:
                self._trouble = "the journal has no identity() to know its objects by"
                return False
            self._folder = f"{identity}/{self._inside.epoch}"
        return True

    def _note(self, error: BaseException) -> None:
        self._inline += 1
        is_known = monotonic() - self._failed < _ASIDE
        self._failed = monotonic()
        self._trouble = f"{self._store.url} does not take values: {_in_a_line(error)}"
        if not is_known:
            _LOG.warning("%s; the journal keeps them meanwhile", self._trouble)

    # -- sweeps --------------------------------------------------------------------

    def _sweep_now_and_then(self) -> None:
        # At the end of the process, no thread can begin.
        with suppress(RuntimeError):
            begin_thread(self._sweep_quietly, "taskorch-sweep")

    def _sweep_quietly(self) -> None:
        try:
            swept = self.sweep()
        except TaskorchError as error:
            # The next sweep does it; other parts report faults of the journal.
            _LOG.info("nothing was swept: %s", error)
        else:
            if swept.deleted:
                _LOG.info("%s", swept)

    def _asked(self, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except TaskorchError:
            raise
        except Exception as error:
            msg = f"{self._store.url} cannot be swept now: {_in_a_line(error)}"
            raise StoreUnavailableError(msg) from error


#: The MB of a document that a journal accepts: values that the store refuses go there.
_MOST_MB: Final = 100


def _may_go(value: Any, text: str) -> bool:
    """Return whether a large *value*, which is *text*, may be in a store."""
    if type(value) is Task or _FILE in text:
        return False
    return not (
        type(value) is dict and "traceback" in value and value.keys() <= _ACCOUNT
    )


def _is_of(key: str, folder: str, incarnation: int) -> bool:
    """Return whether this incarnation or an earlier one of the journal has put it."""
    parts = _KEY.fullmatch(key)
    return parts is not None and parts[1] == folder and int(parts[2]) <= incarnation


def _named_in(journal: DurableJournal) -> frozenset[str]:
    """The objects that *journal* names."""
    named: set[str] = set()
    rows: Callable[[], Iterable[Any]] | None = getattr(journal, "rows", None)
    for row in map(encode, journal.read()) if rows is None else rows():
        for text in row[4:]:
            if "large_values:LargeValue" in text:
                named.update(_KEYS.findall(text))
    return frozenset(named)


class _Names:
    """
    The objects that are coming and going just now.

    A new object may be named in a moment, so that it stays for a while.
    """

    def __init__(self, grace: float) -> None:
        self._grace = grace
        self._turn = threading.Condition()
        self._coming: Counter[str] = Counter()
        self._leaving: frozenset[str] = frozenset()
        #: The times at which objects were put, the oldest first.
        self._fresh: dict[str, float] = {}

    @contextmanager
    def coming(self, key: str) -> Iterator[None]:
        """The object *key* is put, and is not deleted meanwhile and for a while."""
        with self._turn:
            self._turn.wait_for(lambda: key not in self._leaving)
            self._coming[key] += 1
        try:
            yield
        finally:
            with self._turn:
                self._coming -= Counter([key])
                self._fresh.pop(key, None)
                self._fresh[key] = monotonic()
                self._forget()

    @contextmanager
    def leaving(self, keys: Sequence[str]) -> Iterator[list[str]]:
        """Yield the *keys* that may be deleted now, and let nobody put them."""
        with self._turn:
            self._forget()
            going = [k for k in keys if not self._coming[k] and k not in self._fresh]
            self._leaving = frozenset(going)
        try:
            yield going
        finally:
            with self._turn:
                self._leaving = frozenset()
                self._turn.notify_all()

    def _forget(self) -> None:
        until = monotonic() - self._grace
        while (oldest := next(iter(self._fresh), None)) is not None:
            if self._fresh[oldest] > until:
                break
            del self._fresh[oldest]


# -- stores ----------------------------------------------------------------------------


class _Threads:
    """Threads on which one store is asked, so that nobody need wait for its answer."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._todo: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._count = 0

    def ask(self, call: Callable[[], Any]) -> Future[Any]:
        """Have *call* made, after those before it."""
        asked: Future[Any] = Future()
        with self._lock:
            self._todo.append((asked, call))
            if self._count < _AT_ONCE:
                # Without a further thread, those that there are make it.
                with suppress(RuntimeError):
                    begin_thread(self._answer, "taskorch-store")
                    self._count += 1
        return asked

    def _answer(self) -> None:
        while True:
            with self._lock:
                if not self._todo:
                    self._count -= 1
                    return
                asked, call = self._todo.popleft()
            if asked.set_running_or_notify_cancel():
                try:
                    asked.set_result(call())
                except BaseException as error:  # noqa: BLE001 - whoever asked is told
                    asked.set_exception(error)
            del asked, call


#: The threads that read from each store, by its address.
_READERS: Final[dict[str, _Threads]] = {}
#: The stores of this process, by their addresses.
_STORES: Final[dict[str, ValueStore]] = {}


def _address(store: object) -> str:
    """
    The address that *store* says: a folder is one of files.

    Raises:
        InvalidTaskError: It says none.
    """
    text = os.fspath(store) if isinstance(store, os.PathLike) else store
    if not isinstance(text, str) or not text:
        msg = f"store: an address or a folder is needed, not {show(store)}"
        raise InvalidTaskError(msg, hint='LargeValues("s3://bucket/folder")')
    if "://" not in text:
        return Path(text).absolute().as_uri()
    parts = urlsplit(text)
    if parts.scheme not in _SCHEMES:
        msg = f"store: there is no kind of store {show(parts.scheme)}"
        raise InvalidTaskError(msg, hint="s3://, gs://, az://, file:// or a folder")
    if parts.query or "@" in parts.netloc:
        msg = (
            "store: the address has what may be a secret, and the journal would keep it"
        )
        hint = "leave out what stands before @ and after ?: the environment says it"
        raise InvalidTaskError(msg, hint=hint)
    return text.rstrip("/") if parts.path.strip("/") else text


def _store_at(url: str, options: Mapping[str, Any] | None = None) -> ValueStore:
    """
    The store at *url*: what this process has, or is made now.

    Raises:
        InvalidTaskError: obstore is not installed, or cannot make it.
    """
    store = _STORES.get(url)
    if store is None or options:
        store = _STORES[url] = _Objects(url, options or {})
    return store


class _Objects:
    """The objects at an address, by obstore."""

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        obstore = needed("obstore", url, "artifacts")
        self.url = url
        self._obstore = obstore
        self._absent = (FileNotFoundError, obstore.exceptions.NotFoundError)
        from_url = obstore.store.from_url
        parts = urlsplit(url)
        #: The folder, if it has files.
        self._folder: Path | None = None
        self._store: Any
        try:
            if parts.scheme == "file":
                self._folder = Path(unquote(parts.path))
                self._store = obstore.store.LocalStore(self._folder, mkdir=True)
            elif parts.scheme == "memory":
                self._store = from_url(url)
            else:
                client = {"timeout": _REQUEST, **options.get("client_options", {})}
                retry = {"retry_timeout": _TRIES, **options.get("retry_config", {})}
                more: Any = {"client_options": client, "retry_config": retry}
                with as_errors():
                    self._store = from_url(url, **{**options, **more})
        except Exception as error:
            msg = f"{url} cannot be used as a store: {_in_a_line(error)}"
            hint = "options={'region': …, 'client_options': {'allow_http': True}}"
            raise InvalidTaskError(msg, hint=hint if options else None) from error

    def put(self, key: str, data: bytes) -> None:
        """Keep *data* as the object *key*."""
        self._obstore.put(self._store, key, data)
        if self._folder is not None:
            _sync(self._folder / key, self._folder)

    @as_errors()
    def get(self, key: str) -> bytes:
        """
        Return the object *key*.

        Raises:
            FileNotFoundError: There is none.
        """
        try:
            return bytes(self._obstore.get(self._store, key).bytes())
        except self._absent as error:
            raise FileNotFoundError(key) from error

    def list(self, prefix: str) -> Iterator[str]:
        """Return the names of all objects below *prefix*."""
        with as_errors():
            for some in self._obstore.list(self._store, prefix):
                for each in some:
                    yield each["path"]

    @as_errors()
    def delete(self, keys: Sequence[str]) -> None:
        """Delete the objects of *keys*."""
        if self._folder is None:
            self._obstore.delete(self._store, [*keys])
            return
        for key in keys:
            (self._folder / key).unlink(missing_ok=True)


def _sync(path: Path, top: Path) -> None:
    """Have a file, and the folders up to *top* that name it, on the disk."""
    while True:
        number = os.open(path, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
        if path == top:
            return
        path = path.parent


def _in_a_line(error: BaseException) -> str:
    """Return the error of a store in one line."""
    return visible(": ".join(filter(None, told_of(error))).partition("\n")[0])


def _in_bytes(size: int) -> str:
    for unit, many in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= many:
            return f"{size / many:.1f} {unit}"
    return f"{size} bytes"
