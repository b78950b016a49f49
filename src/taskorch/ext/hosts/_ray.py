"""
Hosts as actors of Ray.

Decision: hosts-on-engines.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import suppress
from functools import partial
from importlib import import_module
from typing import Any, Final

from taskorch.core.executors.remote import RemoteEnd
from taskorch.errors import AttemptInterrupted, InvalidTaskError
from taskorch.ext.hosts._connection import compared, versions
from taskorch.ext.hosts._engine import Asked, Engine, HostPlace, NoPlaceError
from taskorch.ext.hosts._given import run_single
from taskorch.ext.hosts._host import RunningHost
from taskorch.kit.fence import log_of
from taskorch.kit.visible import said

_log = log_of(__name__)

#: The unit in millionths.
_ONE: Final = 1_000_000
_MB: Final = 2**20
#: Seconds in which a node describes itself.
_PATIENCE: Final = 20.0
#: Methods of a host that run at the same time: `run`, and those for large results.
_AT_ONCE: Final = 5
#: Seconds in which an answer comes that is ready.
_SOON: Final = 1.0
#: Seconds between two checks whether the head of the cluster answers.
_LOOK: Final = 2.0
#: The seconds that Ray lets a process look for a head, before it ends the process.
_GRACE: Final = "RAY_gcs_rpc_server_reconnect_timeout_s"


_NO_NODE: Final = "Ray has no node that is alive"


class RayHost:
    """The actor of a host."""

    _host: RunningHost

    def run(self, arguments: bytes) -> str:
        """Be a host."""
        self._host = RunningHost(arguments)
        return self._host.run()

    def take(self, number: bytes) -> tuple[bytes, bool]:
        """Return the value that the driver owns from now on, and a receipt."""
        return self._host.kept(number), True

    def bring(self, asked: Asked, data: bytes) -> None:
        """Answer a process of the host, see `RunningHost.answer`."""
        self._host.answer(asked, data)


class RayEngine(Engine):
    """
    A cluster of Ray, to which this process connects, or which it starts.

    Args:
        address: The address of the cluster; None: the one that this process is
            connected to, or else one of this machine alone, that is started.
        per_host: The resources of each host, in millionths; None: its node's cores.
        may_wait: Whether a host may wait for a node that is not there yet.
        labels: The labels that a node must have.
        options: Further arguments of `ray.init`.
    """

    name: str = "Ray"

    def __init__(
        self,
        address: str | None,
        per_host: Mapping[str, int] | None,
        labels: Mapping[str, str] | None,
        *,
        may_wait: bool,
        options: Mapping[str, Any],
    ) -> None:
        self._address, self._per_host, self._labels = address, per_host, labels
        self._may_wait, self._options = may_wait, options
        self._ray: Any = None
        self._is_ours = False
        #: Host and port of the head; None if it cannot be reached from here.
        self._head: str | None = None
        #: The resources of nodes with our labels, of which some may come again.
        self._kinds: list[dict[str, float]] = []
        #: Set once the latest connection to it has been left.
        self._is_left = threading.Event()
        # Held while the cluster is left.
        self._lock = threading.Lock()

    def open(self) -> None:
        self._ray = loaded_ray()
        if not self._ray.is_initialized():
            self._connect()
        if not self._is_client():
            self._head = str(self._ray.get_runtime_context().gcs_address)
            # The thread that watches an earlier connection ends.
            self._is_left.set()
            self._is_left = threading.Event()
            watch = partial(self._watch, self._head, self._is_left)
            name = "taskorch-ray-head"
            threading.Thread(target=watch, name=name, daemon=True).start()

    def _connect(self) -> None:
        options: dict[str, Any] = {"logging_level": "ERROR", **self._options}
        address = self._address
        where = "this machine" if address == "auto" else address
        if address is None and not os.environ.get("RAY_ADDRESS"):
            # The cluster is our own, whatever else runs on this machine.
            address = "local"
            options.setdefault("include_dashboard", False)
        if address is None or "://" not in address:
            options.setdefault("log_to_driver", False)
        try:
            if address is not None and address.rpartition(":")[2].isdigit():
                # Where nobody listens, Ray would end this process after a minute.
                _reach(address.partition("://")[2] or address)
            self._ray.init(address=address, **options)
        except ImportError as error:
            msg = f"{address} needs the client of Ray: {_first_line(error)}"
            raise InvalidTaskError(msg, hint="pip install 'ray[client]'") from error
        except OSError as error:
            if self._head is not None and _answers(self._head):
                raise NoPlaceError(_NO_NODE) from error
            msg = f"there is no Ray cluster at {where}: {_first_line(error)}"
            raise ConnectionError(msg) from error
        self._is_ours = True

    def _is_client(self) -> bool:
        """Return whether this process is connected to a cluster by `ray://`."""
        with suppress(ImportError, AttributeError):
            return bool(import_module("ray.util.client").ray.is_connected())
        return False

    def _watch(self, head: str, is_left: threading.Event) -> None:
        """Leave a cluster whose head has gone, before Ray ends this process."""
        # To leave takes some seconds.
        patience = float(os.environ.get(_GRACE) or 60) / 2
        since: float | None = None
        while not is_left.wait(_LOOK) and self._ray.is_initialized():
            if _answers(head):
                since = None
                if not self._has_its_node():
                    _log.error("taskorch: the node of Ray that this process is on died")
                    self._leave()
                continue
            now = time.monotonic()
            if since is None:
                since = now
                consequence = (
                    f"after {patience:.0f} s of that this process leaves the cluster"
                    if self._is_ours
                    else f"Ray ends this process after {patience * 2:.0f} s of that"
                )
                _log.warning("taskorch: %s; %s", _gone(head), consequence)
            if self._is_ours and now - since > patience:
                _log.error("taskorch: %s: the cluster is left", _gone(head))
                self._leave()

    def _has_its_node(self) -> bool:
        """Return whether the node through which this process reaches Ray is alive."""
        try:
            ours = self._ray.get_runtime_context().get_node_id()
            return any(node["NodeID"] == ours for node in self._nodes())
        except Exception:  # noqa: BLE001 - it was left, or its head has gone
            return True

    def _leave(self) -> None:
        self._is_left.set()
        with self._lock:
            if self._is_ours and self._ray.is_initialized():
                self._ray.shutdown()

    def _is_headless(self) -> bool:
        """
        Return whether the head does not answer, so that calls of Ray would wait.

        Raises:
            ConnectionError: This process has left the cluster, and there is no other.
        """
        if not self._ray.is_initialized():
            if not self._is_ours:
                msg = "this process has left its Ray cluster: ray.shutdown() was called"
                raise ConnectionError(msg)
            self.open()
        return self._head is not None and not _answers(self._head)

    def addresses(self) -> Sequence[str]:
        ours = str(self._ray.util.get_node_ip_address())
        nodes = self._nodes()
        if all(node["NodeManagerAddress"] == ours for node in nodes):
            return ("127.0.0.1",)
        return (ours,)

    def _nodes(self) -> list[dict[str, Any]]:
        return [node for node in self._ray.nodes() if node["Alive"]]

    def _wanted(self) -> dict[str, int]:
        if self._per_host is not None:
            return dict(self._per_host)
        cores = [int(n["Resources"].get("CPU", 0)) for n in self._nodes()]
        return {"cpu": max(1, min(filter(None, cores), default=1)) * _ONE}

    def place(self, taken: Sequence[Any]) -> HostPlace:
        try:
            if self._is_headless():
                raise NoPlaceError(_gone(self._head))
        except ConnectionError as error:
            if taken:
                # They go on without it.
                raise NoPlaceError(str(error)) from error
            raise
        if not self._nodes():
            raise NoPlaceError(_NO_NODE)
        wanted = self._wanted()
        request = _flat(_request(wanted))
        if not self._may_wait:
            self._check_fits(request)
            free = self._ray.available_resources()
            # Free resources are known with a delay, so our hosts are counted as well.
            if len(taken) >= self._most(request) or any(
                free.get(name, 0) < much for name, much in request.items()
            ):
                msg = f"no node of Ray has {_text(request)} free"
                raise NoPlaceError(msg)
        cpu = wanted.get("cpu", _ONE)
        return HostPlace(max(1, cpu // _ONE), "", wanted)

    def _labelled(self) -> list[dict[str, float]]:
        """Return the resources of nodes with our labels, if these are plain."""
        plain = {k: v for k, v in (self._labels or {}).items() if v.isidentifier()}
        nodes = [
            (set(n.get("Labels", {}).items()), n["Resources"]) for n in self._nodes()
        ]
        return [has for labels, has in nodes if labels >= plain.items()]

    def _most(self, flat: Mapping[str, float]) -> int:
        """Return how many hosts fit on all present nodes."""
        nodes = self._labelled()
        wanted = [(name, much) for name, much in flat.items() if much]
        return sum(min(int(n.get(k, 0) // much) for k, much in wanted) for n in nodes)

    def _check_fits(self, flat: Mapping[str, float]) -> None:
        """
        Check that some node is large enough, whatever else it does now.

        Raises:
            NoPlaceError: There was one.
            InvalidTaskError: All nodes that there are or were are smaller.
        """
        nodes = self._labelled()
        for has in nodes:
            kind = {name: much for name, much in has.items() if ":" not in name}
            if kind not in self._kinds:
                self._kinds.append(kind)
        if _fits_one(flat, nodes):
            return
        if _fits_one(flat, self._kinds):
            msg = f"the nodes of Ray that had {_text(flat)} have gone"
            raise NoPlaceError(msg)
        sizes = "; ".join(map(_text, nodes)) or "none"
        labels = ", ".join(f"{k}={v}" for k, v in (self._labels or {}).items())
        where = f" with the labels {labels}" if labels else ""
        msg = f"no node of Ray{where} has {_text(flat)}: there is {sizes}"
        raise InvalidTaskError(msg, hint="let per_host= or the task ask for less")

    def start(
        self, place: HostPlace, arguments: bytes, ended: Callable[[str], object]
    ) -> Any:
        request = _request(place.amounts) | self._selector()
        actor = (
            self._ray.remote(RayHost)
            .options(
                max_restarts=0,
                max_task_retries=0,
                max_concurrency=_AT_ONCE,
                scheduling_strategy="SPREAD",
                **request,
            )
            .remote()
        )
        reference = actor.run.remote(arguments)
        future = reference.future()
        future.add_done_callback(lambda future: ended(_why(future)))
        return actor

    def _selector(self) -> dict[str, Any]:
        return {"label_selector": dict(self._labels)} if self._labels else {}

    def end(self, handle: Any) -> None:
        # A host has ended by itself by then, unless it hangs.
        is_there = handle is not None and self._ray.is_initialized()
        if is_there and not self._is_headless():
            # In a cluster that was left meanwhile there is nothing to kill.
            with suppress(self._ray.exceptions.RayError, ValueError):
                self._ray.kill(handle, no_restart=True)

    def keep(
        self, handle: Any, number: bytes, done: Callable[[Any, str], object]
    ) -> None:
        # The second is small, and comes here: the first is in the store by then.
        data, receipt = handle.take.options(num_returns=2).remote(number)

        def tell(future: Any) -> None:
            error = future.exception()
            done(data, "" if error is None else _first_line(error))

        receipt.future().add_done_callback(tell)

    def bring(
        self,
        handle: Any,
        asked: Asked,
        reference: Any,
        failed: Callable[[str], object],
    ) -> None:
        def tell(future: Any) -> None:
            error = future.exception()
            if error is not None:
                failed(_first_line(error))

        # An argument that is a reference arrives as its value.
        handle.bring.remote(asked, reference).future().add_done_callback(tell)

    def fetch(self, reference: Any) -> bytes:
        if not self._ray.is_initialized():
            # The call would start a cluster.
            msg = "this process has left the cluster"
            raise ConnectionError(msg)
        try:
            data: bytes = self._ray.get(reference)
        except Exception as error:
            raise ConnectionError(_first_line(error)) from error
        return data

    def run_one(
        self,
        call: tuple[bytes, bytes],
        needs: Mapping[str, int],
        done: Callable[[Any, BaseException | None], object],
    ) -> Any:
        if self._is_headless():
            raise NoPlaceError(_gone(self._head))
        if not self._nodes():
            raise NoPlaceError(_NO_NODE)
        request = _request(needs)
        if "cpu" not in needs and len(request) > 1:
            # Its other resources limit it: hosts may have all cores.
            request["num_cpus"] = 0
        if not self._may_wait:
            self._check_fits(_flat(request))
        task = self._ray.remote(run_single).options(
            max_retries=0, retry_exceptions=False, **request, **self._selector()
        )
        reference = task.remote(call)
        reference.future().add_done_callback(partial(_one_done, done))
        return reference

    def cancel_one(self, handle: Any, *, force: bool) -> None:
        if self._ray.is_initialized():
            self._ray.cancel(handle, force=force, recursive=False)

    def close(self) -> None:
        self._leave()

    def findings(self) -> Sequence[tuple[str, str]]:
        if self._is_headless():
            return [("failed", _gone(self._head))]
        ours = versions()
        findings = [("ok", f"Ray {self._ray.__version__}, Python {ours['python']}")]
        nodes = self._nodes()
        strategy = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        asked = [
            self._ray.remote(versions)
            .options(
                num_cpus=0,
                max_retries=0,
                scheduling_strategy=strategy(node_id=node["NodeID"], soft=False),
            )
            .remote()
            for node in nodes
        ]
        self._ray.wait(asked, num_returns=len(asked), timeout=_PATIENCE)
        for node, answer in zip(nodes, asked, strict=True):
            name = node["NodeManagerHostname"]
            cores = node["Resources"].get("CPU", 0)
            try:
                theirs = self._ray.get(answer, timeout=_SOON)
            except Exception as error:  # noqa: BLE001 - it is a finding
                text = f"node {name}: {_first_line(error)}"
                findings.append(("failed", text))
                continue
            findings.append(compared(f"node {name}: {cores:g} cores", theirs))
        return findings


def loaded_ray() -> Any:
    """
    Return the library `ray`.

    Raises:
        InvalidTaskError: It is not installed.
    """
    try:
        return import_module("ray")
    except ImportError as error:
        msg = "hosts on Ray need ray, which is not installed"
        hint = "pip install 'taskorch[ray]'"
        if sys.version_info >= (3, 15):
            hint = "it has no wheel for this Python yet: use 3.14 or older, or Dask"
        raise InvalidTaskError(msg, hint=hint) from error


def _reach(address: str) -> None:
    """Raise OSError if nobody listens at *address*."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), timeout=_LOOK).close()


def _answers(address: str) -> bool:
    try:
        _reach(address)
    except OSError:
        return False
    return True


def _gone(head: str | None) -> str:
    return (
        f"the head of the Ray cluster at {head} does not answer: what runs on hosts "
        "goes on, and no host can be started"
    )


def _request(amounts: Mapping[str, int]) -> dict[str, Any]:
    """Return the arguments for Ray that ask for *amounts*."""
    rest = {name: much / _ONE for name, much in amounts.items()}
    request: dict[str, Any] = {"num_cpus": rest.pop("cpu", 1)}
    if gpu := rest.pop("gpu", 0):
        request["num_gpus"] = gpu
    if memory := rest.pop("memory_mb", 0):
        request["memory"] = int(memory * _MB)
    rest.pop("disk_mb", None)
    rest.pop("bandwidth_mbps", None)
    if rest:
        request["resources"] = rest
    return request


def _flat(request: Mapping[str, Any]) -> dict[str, float]:
    """Return *request* in the names that nodes use."""
    amounts = dict(request.get("resources", {}))
    for name, theirs in (
        ("num_cpus", "CPU"),
        ("num_gpus", "GPU"),
        ("memory", "memory"),
    ):
        if name in request:
            amounts[theirs] = request[name]
    return amounts


def _fits_one(flat: Mapping[str, float], nodes: Sequence[Mapping[str, float]]) -> bool:
    return any(all(n.get(k, 0) >= much for k, much in flat.items()) for n in nodes)


def _text(amounts: Mapping[str, float]) -> str:
    return ", ".join(f"{k}={v:g}" for k, v in amounts.items() if ":" not in k)


def _why(future: Any) -> str:
    error = future.exception()
    return str(future.result()) if error is None else _first_line(error)


def _first_line(error: BaseException) -> str:
    cause = getattr(error, "cause", None)
    if isinstance(cause, BaseException):
        return ": ".join(said(cause))
    kind, message = said(error)
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return f"{kind}: {' '.join(lines)[:500]}"


def _one_done(done: Callable[[Any, BaseException | None], object], future: Any) -> None:
    # This is a thread of Ray's, which may have to answer the calls that follow.
    def tell() -> None:
        error = future.exception()
        if error is None:
            done(future.result(), None)
            return
        kind = type(error).__name__
        text = f"Ray says: {_first_line(error)}"
        if kind == "RayTaskError" or hasattr(error, "as_instanceof_cause"):
            cause = getattr(error, "cause", error)
            end = RemoteEnd(None, raised=True, kind=type(cause).__name__, message=text)
            done(end, None)
        elif kind == "TaskCancelledError":
            done(None, AttemptInterrupted(text))
        else:
            done(None, BrokenExecutor(text))

    threading.Thread(target=tell, name="taskorch-ray-end", daemon=True).start()
