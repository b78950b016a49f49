"""
Worker processes on other machines, where an engine places them: Ray, or Dask.

The engine runs one *host* a node for us, and no attempt. A host opens a connection to
the orchestrator and has worker processes like those of this machine, so that stops,
progress, logs and checkpoints are the same. What no host can do is one task of the
engine. Which task runs, and when, is never decided here.

- `_hosts`: the executor: attempts that are calls in processes of hosts.
- `_given`: calls that are given to hosts, or to the engine itself; hosts, as the
  orchestrator knows them.
- `_door`, `_certificate`: where hosts come in, each once; and how they know the
  orchestrator.
- `_connection`: before there is a link: TLS, and who it is.
- `_host`: what runs on a node: worker processes, at the other end of the connection.
- `_engine`: what hosts ask of an engine: to place them, to run single attempts; what
  stands for results in its store.
- `_dask`, `_ray`: hosts as long tasks of Dask; as actors of Ray.
- `_references`: large results that stay in the engine's store.
"""
