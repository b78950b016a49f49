"""
Worker processes on other machines, which an engine places: Ray, or Dask.

The engine runs one *host* a node for us, and no attempt. A host opens a connection to
the orchestrator and has worker processes like those of this machine, so that stops,
progress, logs and checkpoints are the same. A call that no host can take is one task of
the engine. This package never decides which task runs, or when.

- `_hosts`: the executor: attempts that are calls in processes of hosts.
- `_given`: calls that hosts or the engine have been given; hosts, for the orchestrator.
- `_door`, `_certificate`: the port that hosts connect to, each once; how they know the
  orchestrator.
- `_connection`: the connection before there is a link: TLS, and proofs of identity.
- `_host`: the host on its node: worker processes, at the other end of the connection.
- `_engine`: the protocol of engines: placing hosts, running single attempts; stand-ins
  for results in its store.
- `_dask`, `_ray`: hosts as long tasks of Dask; as actors of Ray.
- `_references`: large results that stay in the engine's store.
- `_engines`: `ray(…)` and `dask(…)`, by which users name these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskorch.kit import load_late as _load_late

if TYPE_CHECKING:
    from taskorch.ext.hosts._engine import RemoteValue as RemoteValue
    from taskorch.ext.hosts._engines import dask as dask, ray as ray

__all__ = ("RemoteValue", "dask", "ray")

#: The file of each name, which is loaded when the name is asked for.
_LATE = {"RemoteValue": "_engine", "dask": "_engines", "ray": "_engines"}

if not TYPE_CHECKING:
    __getattr__, __dir__ = _load_late(__name__, _LATE)
