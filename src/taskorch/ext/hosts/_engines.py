"""`ray(…)` and `dask(…)`: worker processes that an engine places."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from taskorch.errors import InvalidTaskError
from taskorch.kit.limits import MAX_SECONDS
from taskorch.kit.visible import show
from taskorch.model import Resources

if TYPE_CHECKING:
    from taskorch.ext.hosts._hosts import Hosts

#: Seconds after which a host with nothing to do is ended.
_IDLE: Final = 300.0
#: Seconds of silence after which a host is lost, as for a worker.
_LEASE: Final = 15.0
#: Seconds in which a host, or its node, must come, where the engine has to start one.
_PATIENCE: Final = 120.0
#: The most MB of a result.
_MOST_MB: Final = 256


def ray(
    address: str | None = None,
    *,
    per_host: Resources | Mapping[str, float] | None = None,
    hosts: tuple[int, int | None] = (0, None),
    idle: float = _IDLE,
    lease: float = _LEASE,
    patience: float = _PATIENCE,
    tls: tuple[str, str] | None = None,
    keep_mb: float | None = None,
    labels: Mapping[str, str] | None = None,
    **init: Any,
) -> Hosts:
    """
    Return an executor of worker processes on the nodes of a Ray cluster.

    It is for one orchestrator, which ends it: `executors={"cluster": ray()}`. Nothing
    is started, and Ray is not imported, before the first call.

    Args:
        address: The address of the cluster, as for `ray.init`: `"auto"` is the one that
            runs here. None: the one that this process is connected to, or that
            `RAY_ADDRESS` names, or else a new one.
        per_host: The resources that each host (node worker) reserves: `cpu` is its
            number of processes; `gpu`, `memory_mb` and other names are Ray's. None:
            the cores of the smallest node.
        hosts: The least and the largest number of hosts; None: as many as there is room
            for now. With a number, one may wait until the cluster has grown. (0, 0):
            none, and each attempt is a task of Ray.
        idle: Seconds after which a host that has nothing to do is given back.
        lease: Seconds of silence after which a host is lost, and ends what it runs.
        patience: Seconds in which a host must come.
        tls: Files of a certificate and its key, for hosts on other machines. None: they
            are made anew.
        keep_mb: MB above which a result stays in the store of Ray, as a `RemoteValue`.
            None: all come at once, as they do to an orchestrator with a journal.
        labels: The labels that the nodes of hosts must have.
        init: Further arguments of `ray.init`, such as `runtime_env`.

    Raises:
        InvalidTaskError: An argument is out of its range.
    """
    # The import waits until it is asked for.
    from taskorch.ext.hosts._hosts import Hosts  # noqa: PLC0415
    from taskorch.ext.hosts._ray import RayEngine  # noqa: PLC0415

    raw: Any = address
    if raw is not None and (not isinstance(raw, str) or not raw):
        msg = f"ray: the address of a cluster is a str, not {show(address)}"
        raise InvalidTaskError(msg, hint="ray(), ray('auto'), or ray('10.0.0.5:6379')")
    least, most = _checked_hosts("ray", hosts, keep_mb)
    engine = RayEngine(
        address,
        _amounts("ray", per_host),
        _checked_labels(labels),
        may_wait=most is not None,
        options=init,
    )
    return Hosts(
        engine,
        hosts=(least, most),
        idle=_seconds("ray: idle", idle),
        lease=_seconds("ray: lease", lease),
        patience=_seconds("ray: patience", patience),
        tls=tls,
        keeps_above=None if keep_mb is None else _bytes(keep_mb),
    )


def _checked_labels(labels: object) -> dict[str, str] | None:
    if labels is None:
        return None
    if not isinstance(labels, Mapping) or not all(
        isinstance(word, str) for each in labels.items() for word in each
    ):
        msg = f"ray: labels={show(labels)} are no names with values that are str"
        raise InvalidTaskError(msg, hint="labels={'accelerator': 'a100'}")
    return dict(labels)


def dask(
    cluster: Any,
    *,
    per_host: Resources | Mapping[str, float] | None = None,
    hosts: tuple[int, int | None] = (0, None),
    idle: float = _IDLE,
    lease: float = _LEASE,
    patience: float = _PATIENCE,
    tls: tuple[str, str] | None = None,
    keep_mb: float | None = None,
    **client: Any,
) -> Hosts:
    """
    Return an executor of worker processes beside the workers of a Dask cluster.

    It is for one orchestrator, which ends it. Nothing is started, and Dask is not
    imported, before the first call. `dask(LocalCluster(n_workers=0), hosts=(0, 20))`
    has no worker without work. A worker of Dask goes back only if this has requested
    it, nobody else uses it, and others can take its data. The cluster must end workers
    by name, as `LocalCluster` does, or dask-jobqueue with one worker a job.

    Args:
        cluster: The address of its scheduler, a `Client`, or a cluster such as a
            `LocalCluster`; the orchestrator ends neither.
        per_host: The resources of each host (node worker): `cpu` is its number of
            processes, by default the threads of a Dask worker; other names are its
            resources.
        hosts: The least and the largest number of hosts; None: one beside each worker
            of Dask. With a number, a cluster that can is asked for as many workers, and
            gets those back that have nothing to do. (0, 0): none, and each attempt is a
            task of Dask, which cannot be stopped.
        idle: Seconds after which a host that has nothing to do is given back.
        lease: Seconds of silence after which a host is lost, and ends what it runs.
        patience: Seconds in which a host must come.
        tls: Files of a certificate and its key, for hosts on other machines. None: they
            are made anew.
        keep_mb: MB above which a result stays with a worker of Dask: see `ray`.
        client: Further arguments of the `Client` that is made for an address or a
            cluster, such as `security`.

    Raises:
        InvalidTaskError: An argument is out of its range.
    """
    # The import waits until it is asked for.
    from taskorch.ext.hosts._dask import DaskEngine  # noqa: PLC0415
    from taskorch.ext.hosts._hosts import Hosts  # noqa: PLC0415

    if isinstance(cluster, type) or not (
        (isinstance(cluster, str) and cluster)
        or hasattr(cluster, "scheduler_address")
        or hasattr(cluster, "scheduler_info")
    ):
        msg = f"dask: {show(cluster)} is no cluster"
        hint = "dask('tcp://scheduler:8786'), dask(client), or dask(LocalCluster())"
        raise InvalidTaskError(msg, hint=hint)
    least, most = _checked_hosts("dask", hosts, keep_mb)
    engine = DaskEngine(cluster, _amounts("dask", per_host), most=most, options=client)
    return Hosts(
        engine,
        hosts=(least, most),
        idle=_seconds("dask: idle", idle),
        lease=_seconds("dask: lease", lease),
        patience=_seconds("dask: patience", patience),
        tls=tls,
        keeps_above=None if keep_mb is None else _bytes(keep_mb),
    )


def _amounts(
    name: str, value: Resources | Mapping[str, float] | None
) -> dict[str, int] | None:
    if value is None:
        return None
    amounts = dict(Resources.of(value, f"{name}: per_host").units)
    if amounts.setdefault("cpu", 1_000_000) % 1_000_000:
        msg = f"{name}: per_host: cpu is the number of workers of a host"
        raise InvalidTaskError(msg, hint="say a whole number: per_host={'cpu': 4}")
    return amounts


def _checked_hosts(name: str, value: Any, keep_mb: Any) -> tuple[int, int | None]:
    if value == (0, 0) and keep_mb is not None:
        msg = f"{name}: keep_mb={show(keep_mb)} without hosts: they alone keep results"
        raise InvalidTaskError(msg, hint="hosts=(0, 1) or more; or keep_mb=None")
    match value:
        case (int(least), None | int() as most) if (
            not isinstance(least, bool)
            and not isinstance(most, bool)
            and least >= 0
            and (most is None or least <= most)
        ):
            return least, most
    msg = f"{name}: hosts={show(value)} is not how many there are"
    hint = "the least and the most: hosts=(0, 20), or (1, None)"
    raise InvalidTaskError(msg, hint=hint)


def _bytes(megabytes: Any) -> int:
    is_number = isinstance(megabytes, int | float) and not isinstance(megabytes, bool)
    if not is_number or not 0 <= megabytes <= _MOST_MB:
        msg = f"keep_mb={show(megabytes)} is no number of MB from 0 to {_MOST_MB}"
        raise InvalidTaskError(msg, hint="keep_mb=1, or None: all results come at once")
    return int(megabytes * 2**20)


def _seconds(name: str, value: Any) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 < value <= MAX_SECONDS:
        msg = f"{name}={show(value)} is no number of seconds above 0"
        raise InvalidTaskError(msg)
    return float(value)
