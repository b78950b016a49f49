"""
Hosts as long tasks of Dask, each pinned to one of its workers.

Decision: hosts-on-engines.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import pickle
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import suppress
from contextvars import Context, copy_context
from functools import partial
from importlib import import_module
from typing import Any, Final
from urllib.parse import urlsplit

from taskorch.core.executors.remote import RemoteEnd
from taskorch.errors import InvalidTaskError
from taskorch.ext.hosts._connection import compared, versions
from taskorch.ext.hosts._engine import (
    Asked,
    Engine,
    HostEnded,
    HostPlace,
    NoPlaceError,
)
from taskorch.ext.hosts._given import run_single
from taskorch.ext.hosts._host import RunningHost
from taskorch.kit.checks import needed
from taskorch.kit.fence import log_of
from taskorch.kit.visible import counted, said

_log = log_of(__name__)

#: The unit in millionths.
_ONE: Final = 1_000_000
_PATIENCE: Final = 20.0
_NO_WORKER: Final = "Dask has no worker"
#: The beginning of keys of hosts.
_HOST: Final = "taskorch-host-"
#: Fields of a scheduler's information with a worker's resources.
_AMOUNTS: Final = ("nthreads", "memory_limit", "resources")
#: Seconds in which a scheduler answers.
_ANSWER: Final = 10.0
#: Seconds that a try takes to find a scheduler again.
_TRY: Final = 2.0
_numbers = itertools.count(1)
#: The hosts in this Dask worker, by the keys of their tasks, with the context variables
#: by which Dask knows on any thread which worker it is in.
_running: dict[str, tuple[RunningHost, Context]] = {}


class _Task:
    """A task of Dask of ours, pinned to a worker."""

    def __init__(
        self, future: Any, where: str, lost: Callable[[str], object], *, is_host: bool
    ) -> None:
        self.future = future
        self.is_host = is_host
        self.where = where
        self.lost = lost


class _WhenLoaded:
    """
    A call that is made when it is unpickled.

    A worker unpickles functions that it is sent before it runs a task, and where one
    cannot be imported, Dask ends the worker; so our own functions go inside bytes,
    which the task itself unpickles.
    """

    def __init__(self, fn: Callable[[Any], Any], argument: Any) -> None:
        self._call = fn, (argument,)

    def __reduce__(self) -> tuple[Any, ...]:
        return self._call


class DaskEngine(Engine):
    """
    A cluster of Dask.

    Args:
        cluster: The address of its scheduler, a client, or a cluster.
        per_host: The resources of each host, in millionths; None: the threads of its
            worker.
        workers: The most workers that a cluster which can is asked for.
        options: Further arguments of the client.
    """

    name: str = "Dask"

    def __init__(
        self,
        cluster: Any,
        per_host: Mapping[str, int] | None,
        *,
        most: int | None,
        options: Mapping[str, Any],
    ) -> None:
        self._cluster, self._per_host, self._options = cluster, per_host, options
        self._most = most
        self._client: Any = None
        self._is_ours = False
        #: The beginning of keys of our hosts.
        self._host_keys = f"{_HOST}{os.getpid()}-{os.urandom(4).hex()}-"
        #: The address of the scheduler.
        self._address = ""
        #: Since when there is no scheduler; empty if there is one.
        self._gone_since = ""
        #: Names of workers that a cluster was asked for, and has.
        self._asked_for: set[Any] = set()
        #: Names of workers that have got a host, by their addresses.
        self._names: dict[str, Any] = {}
        #: When a host was placed there last, by the monotonic clock.
        self._placed_at: dict[str, float] = {}
        #: The workers that exist or did, of which some may come again.
        self._kinds: list[dict[str, Any]] = []
        #: Addresses of workers that are being given back.
        self._leaving: set[str] = set()
        self._tasks: set[_Task] = set()
        self._lock = threading.Lock()

    def open(self) -> None:
        distributed = loaded_distributed()
        if isinstance(self._cluster, distributed.Client):
            self._client = self._cluster
            if self._client.asynchronous:
                msg = "a client of Dask that is asynchronous cannot be asked from here"
                raise InvalidTaskError(msg, hint="give the address of the scheduler")
        else:
            try:
                self._connect(self._cluster, {"timeout": _PATIENCE, **self._options})
            except TypeError as error:
                # It is a tls:// address, and no security was given.
                msg = f"no client of Dask can be made: {said(error)[1]}"
                hint = "dask('tls://…', security=distributed.Security(tls_ca_file=…))"
                raise InvalidTaskError(msg, hint=hint) from error
            except (OSError, ValueError) as error:
                msg = f"there is no Dask scheduler at {self._cluster}: {said(error)[1]}"
                raise ConnectionError(msg) from error
        self._address = self._client.scheduler.address
        self._client.subscribe_topic("all", self._heard)

    def _connect(self, where: Any, options: Mapping[str, Any]) -> None:
        client = loaded_distributed().Client
        self._client = client(where, **{"set_as_default": False, **options})
        self._is_ours = True

    def _connected(self) -> Any:
        """
        Return the client; a new one, if the scheduler was lost.

        Dask's own client reconnects only to a scheduler that is gone for seconds, and
        forgets its topics.

        Raises:
            NoPlaceError: There is no scheduler.
        """
        old = self._client
        if old.status == "running":
            return old
        where, options = self._cluster, {**self._options, "timeout": _TRY}
        if isinstance(where, loaded_distributed().Client):
            # The code that has made it may have closed it.
            options = {"timeout": _TRY, "security": where.security}
            where = where.cluster or self._address
        try:
            self._connect(where, options)
        except Exception as error:
            if not self._gone_since:
                self._gone_since = time.strftime("%H:%M:%S")
                text = "taskorch: %s; what waits begins when it is there again"
                _log.warning(text, self._no_scheduler())
            raise NoPlaceError(self._no_scheduler()) from error
        self._client.subscribe_topic("all", self._heard)
        _log.warning("taskorch: Dask has a scheduler at %s again", self._address)
        self._gone_since = ""
        with suppress(Exception):
            if old is not self._cluster:
                old.close(timeout=_TRY)
        return self._client

    def _no_scheduler(self) -> str:
        return f"there is no Dask scheduler at {self._address} since {self._gone_since}"

    def addresses(self) -> Sequence[str]:
        scheduler = urlsplit(self._client.scheduler.address).hostname or ""
        workers = [urlsplit(address).hostname for address in self._workers()]
        everywhere = {scheduler, *workers}
        if everywhere <= {"127.0.0.1", "::1", "localhost", ""}:
            return ("127.0.0.1",)
        return (str(import_module("distributed.utils").get_ip(scheduler)),)

    def _workers(self) -> dict[str, Any]:
        """
        Return all workers, by their addresses.

        Raises:
            NoPlaceError: There is no scheduler, or it does not answer.
        """
        # The client's own cached identity may lack the workers.
        workers: dict[str, Any] = self._ask("identity", n_workers=-1)["workers"]
        return workers

    def _ask(self, operation: str, **options: Any) -> Any:
        client = self._connected()
        ask = getattr(client.scheduler, operation)
        try:
            return client.sync(ask, callback_timeout=_ANSWER, **options)
        except OSError as error:
            msg = f"the Dask scheduler at {self._address} does not answer"
            raise NoPlaceError(msg) from error

    def place(self, taken: Sequence[Any]) -> HostPlace:
        used = {task.where for task in taken if task is not None}
        with self._lock:
            # A host that is lost to us may still run.
            used |= {task.where for task in self._tasks if task.is_host}
            used |= self._leaving
        workers = self._workers()
        running = self._ask("processing", workers=None)
        # A worker whose host failed is not tried again before others.
        for where in sorted(workers, key=lambda at: self._placed_at.get(at, 0.0)):
            info = workers[where]
            if where in used or info.get("status", "running") != "running":
                continue
            # Hosts of other orchestrators keep their threads, too.
            if _is_held(running.get(where, ()), info):
                continue
            self._names[where] = info["name"]
            self._placed_at[where] = time.monotonic()
            threads: int = info["nthreads"] * _ONE
            amounts = dict(self._per_host or {"cpu": threads})
            for name, much in info["resources"].items():
                amounts.setdefault(name.lower(), round(much * _ONE))
            slots = max(1, amounts.get("cpu", threads) // _ONE)
            return HostPlace(slots, where, amounts)
        self._scale(len(workers))
        if workers:
            msg = f"each of the {len(workers)} workers of Dask has a host"
        else:
            msg = _NO_WORKER
            if self._client.cluster and self._most is None:
                msg += "; hosts=(0, 4) asks its cluster for up to 4"
        raise NoPlaceError(msg)

    def _scale(self, count: int) -> None:
        """Ask a cluster, if it can grow, for one more worker than there are."""
        cluster = self._client.cluster
        if self._most is None or len(self._asked_for) >= self._most or not cluster:
            return
        specified = set(getattr(cluster, "worker_spec", ()))
        # Some may be on their way.
        if len(specified) <= count and (specified or count < self._most):
            cluster.scale(count + 1)
            self._asked_for |= set(getattr(cluster, "worker_spec", ())) - specified

    def _give_back(self, where: str) -> None:
        """End a worker that was asked for, if nobody uses it; on any thread."""
        client, name = self._client, self._names[where]
        try:
            if client.processing([where]).get(where):
                return
            end = time.monotonic() + _TRY
            while time.monotonic() < end and self._has_ended_hosts(client, where):
                time.sleep(0.02)
            # Its data goes to other workers first; else it stays.
            if where in client.retire_workers([where], close_workers=False):
                self._scale_down([name])
        except Exception as error:  # noqa: BLE001 - the cluster ends it later
            if client.status == "running":
                text = "taskorch: worker %s of Dask could not be given back: %s"
                _log.warning(text, where, ": ".join(said(error)))
        finally:
            with self._lock:
                self._leaving.discard(where)

    def _give_back_all(self) -> None:
        """End such workers, at the end, that have nothing of other users."""
        tasks = [self._client.has_what(), self._client.processing()]
        unused = [
            name
            for where, name in self._names.items()
            if name in self._asked_for
            and all(
                self._host_keys in str(key) for of in tasks for key in of.get(where, ())
            )
        ]
        self._scale_down(unused)

    def _scale_down(self, names: list[Any]) -> None:
        """Tell the cluster to end workers, which takes it seconds."""
        self._asked_for.difference_update(names)
        cluster = self._client.cluster
        cluster.loop.add_callback(cluster.scale_down, names)

    def _has_ended_hosts(self, client: Any, where: str) -> bool:
        """Return whether a worker has our hosts' results, released just now."""
        keys = client.has_what([where]).get(where, ())
        return any(self._host_keys in str(key) for key in keys)

    def start(self, place: HostPlace, arguments: bytes, ended: HostEnded) -> Any:
        def over(future: Any) -> None:
            if future.status == "error":
                ended(f"{_why(future)}, on the worker {place.where}")
            elif future.status == "finished":
                ended(_why(future))
            else:
                # A worker that has lost its scheduler lets its tasks end, for as long
                # as 30 s.
                ended("its scheduler was lost, and its worker ends", is_seen=False)

        return self._submit(_run_host, arguments, place.where, over, ended)

    def _submit(
        self,
        fn: Callable[..., Any],
        argument: Any,
        where: str,
        done: Callable[[Any], object],
        lost: Callable[[str], object],
    ) -> _Task:
        # Dask replaces strings that are equal to a key by results, but not bytes. No
        # other client has the key.
        is_host = fn is _run_host
        key = _new_key(self._host_keys if is_host else "taskorch-call-")
        future = self._client.submit(
            pickle.loads,
            pickle.dumps(_WhenLoaded(fn, argument)),
            key=key,
            pure=False,
            retries=0,
            workers=[where],
            allow_other_workers=False,
        )
        task = _Task(future, where, lost, is_host=is_host)
        with self._lock:
            self._tasks.add(task)

        def forget(future: Any) -> None:
            is_given_back = task.is_host and self._names[where] in self._asked_for
            with self._lock:
                self._tasks.discard(task)
                if is_given_back:
                    self._leaving.add(where)
            done(future)
            if task.is_host and self._client.status == "running":
                # Otherwise its result would keep its worker.
                future.release()
            if is_given_back:
                self._give_back(where)

        future.add_done_callback(forget)
        return task

    def _heard(self, event: Any) -> None:
        """Hear the scheduler: end all tasks of a worker that has gone."""
        _, message = event
        if not isinstance(message, Mapping) or message.get("action") != "remove-worker":
            return
        self._gone(lambda where: where == message.get("worker"))

    def check(self) -> None:
        # The worker may have gone before it was known that a task is pinned to it.
        with suppress(NoPlaceError):
            workers = self._workers()
            self._gone(lambda where: where not in workers)

    def _gone(self, is_it: Callable[[str], bool]) -> None:
        with self._lock:
            gone = [task for task in self._tasks if is_it(task.where)]
            self._tasks.difference_update(gone)
        for task in gone:
            task.lost(f"its worker {task.where} has gone")

    def end(self, handle: Any) -> None:
        if handle is not None and handle.future.client.status == "running":
            handle.future.cancel()

    def abandon(self, handle: Any) -> None:
        """Do nothing: it ends by itself, and its worker gets no other before."""

    def keep(
        self, handle: Any, number: bytes, done: Callable[[Any, str], object]
    ) -> None:
        key = _new_key("taskorch-value-")

        async def ask() -> None:
            # The worker's client owns the value until ours does: the variable keeps it
            # meanwhile, or Dask would drop it in between.
            variable = loaded_distributed().Variable(key, self._client)
            try:
                await self._run_there(handle, _keep, number, key)
                reference = await variable.get(timeout=_PATIENCE)
            except Exception as error:  # noqa: BLE001 - it is told
                done(None, ": ".join(said(error)))
            else:
                done(reference, "")
            finally:
                variable.delete()

        self._client.loop.add_callback(ask)

    def bring(
        self,
        handle: Any,
        asked: Asked,
        reference: Any,
        failed: Callable[[str], object],
    ) -> None:
        async def ask() -> None:
            try:
                await self._run_there(handle, _bring, asked, reference.key)
            except Exception as error:  # noqa: BLE001 - it is told
                failed(_loss(reference, error))

        self._client.loop.add_callback(ask)

    def _run_there(self, handle: Any, fn: Callable[..., Any], *args: Any) -> Any:
        """Run *fn* beside the task of a host; on the loop of the client."""
        # Hosts may have taken all threads for tasks: this needs none.
        return self._client.run(fn, handle.future.key, *args, workers=[handle.where])

    def fetch(self, reference: Any) -> bytes:
        try:
            data: bytes = reference.result()
        except Exception as error:
            raise ConnectionError(_loss(reference, error)) from error
        return data

    def run_one(
        self,
        call: tuple[bytes, bytes],
        needs: Mapping[str, int],
        done: Callable[[Any, BaseException | None], object],
    ) -> Any:
        where = self._where(needs)

        def lost(why: str) -> None:
            done(None, BrokenExecutor(f"Dask says: {why}"))

        return self._submit(run_single, call, where, partial(_one_done, done), lost)

    def _where(self, needs: Mapping[str, int]) -> str:
        """Return the least busy worker among those with the needed resources."""
        workers = self._workers()
        if not workers:
            raise NoPlaceError(_NO_WORKER)
        for info in workers.values():
            kind = {name: info[name] for name in _AMOUNTS}
            if kind not in self._kinds:
                self._kinds.append(kind)
        fit = {where: info for where, info in workers.items() if _has(info, needs)}
        if not fit:
            wanted = ", ".join(f"{k}={v / _ONE:g}" for k, v in needs.items())
            if any(_has(kind, needs) for kind in self._kinds):
                msg = f"the workers of Dask that had {wanted} have gone"
                raise NoPlaceError(msg)
            msg = f"no worker of Dask has {wanted}"
            hint = "start one with more, or let the task ask for less"
            raise InvalidTaskError(msg, hint=hint)
        running = self._ask("processing", workers=None)
        free = [at for at in fit if not _is_held(running.get(at, ()), fit[at])]
        if not free:
            msg = "hosts have all threads of the workers of Dask that it could be with"
            raise NoPlaceError(msg)
        with self._lock:
            load = dict.fromkeys(free, 0.0)
            for task in self._tasks:
                if task.where in load:
                    load[task.where] += 1 / fit[task.where]["nthreads"]
        return min(load, key=lambda where: load[where])

    def cancel_one(self, handle: Any, *, force: bool) -> None:
        if not force:
            handle.future.cancel()

    def close(self) -> None:
        if self._client is None:
            return
        if self._client.status == "running":
            if self._asked_for:
                with suppress(Exception):
                    self._give_back_all()
            self._client.unsubscribe_topic("all")
        if self._is_ours:
            self._client.close(timeout=2)

    def findings(self) -> Sequence[tuple[str, str]]:
        ours = versions()
        dask = loaded_distributed()
        said_of = f"Dask {dask.__version__} at {self._address}, Python {ours['python']}"
        findings = [("ok", said_of)]
        try:
            workers = self._workers()
        except NoPlaceError as error:
            to_do = "; start one there, and workers, and what waits begins"
            return [("failed", f"{error}{to_do if self._gone_since else ''}")]
        answers = self._client.run(versions, on_error="return")
        for address, info in workers.items():
            text = f"worker {address}: {counted(info['nthreads'], 'thread')}"
            findings.append(compared(text, answers.get(address)))
        if not workers:
            findings.append(("degraded", "there is no worker"))
        return findings


def _is_held(keys: Iterable[Any], info: Mapping[str, Any]) -> bool:
    """Return whether hosts have all threads of a worker with tasks of these keys."""
    return sum(_HOST in str(key) for key in keys) >= int(info["nthreads"])


def _has(info: Mapping[str, Any], needs: Mapping[str, int]) -> bool:
    return all(_has_of(info, name, much) for name, much in needs.items())


def _has_of(info: Mapping[str, Any], name: str, much: int) -> bool:
    if name == "cpu":
        return bool(info["nthreads"] * _ONE >= much)
    if name == "memory_mb":
        limit = info["memory_limit"]
        return not limit or bool(limit / 2**20 * _ONE >= much)
    if name in {"disk_mb", "bandwidth_mbps"}:
        return True
    amounts = {key.lower(): value for key, value in info["resources"].items()}
    return bool(amounts.get(name.lower(), 0) * _ONE >= much)


def _new_key(kind: str) -> str:
    return f"{kind}{os.urandom(6).hex()}-{next(_numbers)}"


def _loss(reference: Any, error: BaseException) -> str:
    if reference.cancelled():
        return "the worker that had it has gone"
    return ": ".join(said(error))


def _run_host(arguments: bytes) -> str:
    """Be a host: the function of its task."""
    key = loaded_distributed().get_worker().get_current_task()
    host = RunningHost(arguments)
    _running[key] = host, copy_context()
    try:
        return host.run()
    finally:
        del _running[key]


async def _keep(host: str, number: bytes, key: str) -> None:
    """Make a result of a *host* a result of Dask, by a *key*; in its worker."""
    running, context = _running[host]
    data = running.kept(number)

    def scatter() -> None:
        distributed = loaded_distributed()
        client = distributed.get_client()
        future = client.scatter({key: data}, hash=False)[key]
        distributed.Variable(key, client).set(future)

    await asyncio.to_thread(context.copy().run, scatter)


async def _bring(host: str, asked: Asked, key: str) -> None:
    """Answer a process of a *host* with a result of Dask; in its worker."""
    running, context = _running[host]

    def gather() -> bytes:
        distributed = loaded_distributed()
        client = distributed.get_client()
        # The state is set: a key that is asked for again gets no message.
        future = distributed.Future(key, client, state="memory")
        data: bytes = client.gather(future)
        return data

    running.answer(asked, await asyncio.to_thread(context.copy().run, gather))


def loaded_distributed() -> Any:
    """
    Return the library `distributed`.

    Raises:
        InvalidTaskError: It is not installed.
    """
    return needed("distributed", "a host on Dask", "dask")


def _why(future: Any) -> str:
    if future.status == "finished":
        return str(future.result(timeout=_PATIENCE))
    if future.status == "error":
        return ": ".join(said(future.exception(timeout=_PATIENCE)))
    return f"its task was {future.status}"


def _one_done(done: Callable[[Any, BaseException | None], object], future: Any) -> None:
    status = future.status
    if status == "finished":
        done(future.result(timeout=_PATIENCE), None)
    elif status == "error":
        error = future.exception(timeout=_PATIENCE)
        kind, message = said(error)
        if kind == "KilledWorker":
            done(None, BrokenExecutor(f"Dask says: {message}"))
        else:
            done(RemoteEnd(None, raised=True, kind=kind, message=message), None)
    else:
        done(None, BrokenExecutor(f"Dask says: its task was {status}"))
