"""Hosts as long tasks of Dask, each pinned to one of its workers."""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from contextvars import Context, copy_context
from functools import partial
from importlib import import_module
from typing import Any, Final
from urllib.parse import urlsplit

from taskorch._visible import said
from taskorch.errors import InvalidTaskError
from taskorch.executors._hosts._connection import compared, versions
from taskorch.executors._hosts._engine import Engine, Place
from taskorch.executors._hosts._host import RunningHost
from taskorch.executors._hosts._single import run_single
from taskorch.executors._remote import RemoteEnd

#: In whole millionths.
_ONE: Final = 1_000_000
_PATIENCE: Final = 20.0
#: Seconds for which the first worker is waited for.
_FIRST: Final = 10.0
_numbers = itertools.count(1)
#: In a worker of Dask: the hosts that run there, by the keys of their tasks, and with
#: what makes others of its threads do as the task could.
_running: dict[str, tuple[RunningHost, Context]] = {}


class _Task:
    """A task of Dask that is ours, and pinned to a worker."""

    def __init__(
        self, future: Any, where: str, lost: Callable[[str], object], *, is_host: bool
    ) -> None:
        self.future = future
        self.is_host = is_host
        self.where = where
        self.lost = lost


class DaskEngine(Engine):
    """
    A cluster of Dask.

    Args:
        cluster: The address of its scheduler, a client, or a cluster.
        per_host: What each host has, in millionths; None: the threads of its worker.
        workers: How many workers a cluster that can is asked for, at the most.
        options: What else the client is given.
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
            options = {"timeout": _PATIENCE, "set_as_default": False, **self._options}
            try:
                self._client = distributed.Client(self._cluster, **options)
            except (OSError, ValueError) as error:
                msg = f"there is no Dask scheduler at {self._cluster}: {said(error)[1]}"
                raise ConnectionError(msg) from error
            self._is_ours = True
        self._client.subscribe_topic("all", self._heard)

    def addresses(self) -> Sequence[str]:
        scheduler = urlsplit(self._client.scheduler.address).hostname or ""
        workers = [urlsplit(address).hostname for address in self._workers()]
        everywhere = {scheduler, *workers}
        if everywhere <= {"127.0.0.1", "::1", "localhost", ""}:
            return ("127.0.0.1",)
        utils = import_module("distributed.utils")
        return (str(utils.get_ip(scheduler)),)

    def _workers(self) -> dict[str, Any]:
        found: dict[str, Any] = self._client.scheduler_info(n_workers=-1)["workers"]
        return found

    def place(self, taken: Sequence[Any]) -> Place | None:
        used = {task.where for task in taken if task is not None}
        with self._lock:
            # One that is lost to us may still be there.
            used |= {task.where for task in self._tasks if task.is_host}
        workers = self._workers()
        for where, info in workers.items():
            if where in used or info.get("status", "running") != "running":
                continue
            threads: int = info["nthreads"] * _ONE
            amounts = dict(self._per_host or {"cpu": threads})
            for name, much in info["resources"].items():
                amounts.setdefault(name.lower(), round(much * _ONE))
            slots = max(1, amounts.get("cpu", threads) // _ONE)
            return Place(slots, where, amounts)
        self._scale(len(used) + 1, len(workers))
        return None

    def _scale(self, wanted: int, there: int) -> None:
        """Ask a cluster that can for one more worker, up to the number that is said."""
        cluster = getattr(self._client, "cluster", None)
        if self._most is not None and there < wanted <= self._most and cluster:
            cluster.scale(wanted)

    def start(
        self, place: Place, arguments: bytes, ended: Callable[[str], object]
    ) -> Any:
        return self._submit(
            _run_host, arguments, place.where, lambda f: ended(_why(f)), ended
        )

    def _submit(
        self,
        fn: Callable[..., Any],
        argument: bytes,
        where: str,
        done: Callable[[Any], object],
        lost: Callable[[str], object],
    ) -> _Task:
        # Dask puts results in the place of strings that are equal to a key: bytes are
        # none. The key is nobody else's.
        key = _new_key()
        future = self._client.submit(
            fn,
            argument,
            key=key,
            pure=False,
            retries=0,
            workers=[where],
            allow_other_workers=False,
        )
        task = _Task(future, where, lost, is_host=fn is _run_host)
        with self._lock:
            self._tasks.add(task)

        def forget(future: Any) -> None:
            with self._lock:
                self._tasks.discard(task)
            done(future)

        future.add_done_callback(forget)
        return task

    def _heard(self, event: Any) -> None:
        """What the scheduler says: who waits for a worker that has gone is told."""
        _, message = event
        if not isinstance(message, Mapping) or message.get("action") != "remove-worker":
            return
        self._gone(lambda where: where == message.get("worker"))

    def check(self) -> None:
        # One that has gone before it was known that something is pinned to it.
        workers = self._workers()
        self._gone(lambda where: where not in workers)

    def _gone(self, is_it: Callable[[str], bool]) -> None:
        with self._lock:
            gone = [task for task in self._tasks if is_it(task.where)]
            self._tasks.difference_update(gone)
        for task in gone:
            task.lost(f"its worker {task.where} has gone")

    def end(self, handle: Any) -> None:
        if handle is not None and self._client.status == "running":
            handle.future.cancel()

    def abandon(self, handle: Any) -> None:
        """It ends by itself; its worker is not asked for another before that."""

    def keep(
        self, handle: Any, number: bytes, done: Callable[[Any, str], object]
    ) -> None:
        key = _new_key()

        async def ask() -> None:
            # By a variable its owner changes, and at no time there is none.
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
        worker: tuple[int, int],
        reference: Any,
        failed: Callable[[str], object],
    ) -> None:
        async def ask() -> None:
            try:
                await self._run_there(handle, _bring, worker, reference.key)
            except Exception as error:  # noqa: BLE001 - it is told
                failed(_loss(reference, error))

        self._client.loop.add_callback(ask)

    def _run_there(self, handle: Any, fn: Callable[..., Any], *args: Any) -> Any:
        """On the loop of the client: run *fn* beside the task of a host."""
        # All threads for tasks may be taken by hosts: this needs none.
        return self._client.run(fn, handle.future.key, *args, workers=[handle.where])

    def fetch(self, reference: Any) -> bytes:
        try:
            data: bytes = reference.result()
        except Exception as error:
            raise ConnectionError(_loss(reference, error)) from error
        return data

    def run_one(
        self,
        call: bytes,
        needs: Mapping[str, int],
        done: Callable[[Any, BaseException | None], object],
    ) -> Any:
        where = self._where(needs)

        def lost(why: str) -> None:
            done(None, BrokenExecutor(f"Dask says: {why}"))

        return self._submit(run_single, call, where, partial(_one_done, done), lost)

    def _where(self, needs: Mapping[str, int]) -> str:
        """The worker that has the least to do, of those that have what is needed."""
        end = time.monotonic() + _FIRST
        while True:
            workers = self._workers()
            fit = {
                where: info
                for where, info in workers.items()
                if all(_has(info, name, much) for name, much in needs.items())
            }
            if fit:
                break
            if workers or time.monotonic() > end:
                wanted = ", ".join(f"{k}={v / _ONE:g}" for k, v in needs.items())
                msg = (
                    f"no worker of Dask has {wanted}"
                    if workers
                    else "Dask has no worker"
                )
                hint = "start one with more, or let the task ask for less"
                raise InvalidTaskError(msg, hint=hint)
            time.sleep(0.1)
        with self._lock:
            load = dict.fromkeys(fit, 0.0)
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
            self._client.unsubscribe_topic("all")
        if self._is_ours:
            self._client.close(timeout=2)

    def findings(self) -> Sequence[tuple[str, str]]:
        ours = versions()
        dask = loaded_distributed()
        where = self._client.scheduler.address
        said_of = f"Dask {dask.__version__} at {where}, Python {ours['python']}"
        found = [("ok", said_of)]
        workers = self._workers()
        answers = self._client.run(versions, on_error="return")
        for address, info in workers.items():
            text = f"worker {address}: {info['nthreads']} threads"
            found.append(compared(text, answers.get(address)))
        if not workers:
            found.append(("degraded", "there is no worker"))
        return found


def _has(info: Mapping[str, Any], name: str, much: int) -> bool:
    if name == "cpu":
        return bool(info["nthreads"] * _ONE >= much)
    if name == "memory_mb":
        limit = info["memory_limit"]
        return not limit or bool(limit / 2**20 * _ONE >= much)
    if name in {"disk_mb", "bandwidth_mbps"}:
        return True
    amounts = {key.lower(): value for key, value in info["resources"].items()}
    return bool(amounts.get(name.lower(), 0) * _ONE >= much)


def _new_key() -> str:
    return f"taskorch-{os.getpid()}-{os.urandom(4).hex()}-{next(_numbers)}"


def _loss(reference: Any, error: BaseException) -> str:
    if reference.cancelled():
        return "the worker that had it has gone"
    return ": ".join(said(error))


def _run_host(arguments: bytes) -> str:
    """The task that a host is."""
    key = loaded_distributed().get_worker().get_current_task()
    host = RunningHost(arguments)
    _running[key] = host, copy_context()
    try:
        return host.run()
    finally:
        del _running[key]


async def _keep(host: str, number: bytes, key: str) -> None:
    """In the worker of a *host*: what it has becomes a result of Dask, by a *key*."""
    running, context = _running[host]
    data = running.kept(number)

    def scatter() -> None:
        distributed = loaded_distributed()
        client = distributed.get_client()
        future = client.scatter({key: data}, hash=False)[key]
        distributed.Variable(key, client).set(future)

    await asyncio.to_thread(context.copy().run, scatter)


async def _bring(host: str, worker: tuple[int, int], key: str) -> None:
    """In the worker of a *host*: answer one of its own with a result of Dask."""
    running, context = _running[host]

    def gather() -> bytes:
        distributed = loaded_distributed()
        client = distributed.get_client()
        # It is there: of a key that is asked for anew, nobody would be told.
        future = distributed.Future(key, client, state="memory")
        data: bytes = client.gather(future)
        return data

    running.answer(worker, await asyncio.to_thread(context.copy().run, gather))


def loaded_distributed() -> Any:
    """
    The library.

    Raises:
        InvalidTaskError: It is not installed.
    """
    try:
        return import_module("distributed")
    except ImportError as error:
        msg = "hosts on Dask need distributed, which is not installed"
        raise InvalidTaskError(msg, hint="pip install 'taskorch[dask]'") from error


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
