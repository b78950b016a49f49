"""
Worker processes on other machines, where an engine places them: Ray, or Dask.

The engine runs one *host* a node for us, and no attempt. A host opens a connection to
the orchestrator and has worker processes like those of this machine, so that stops,
progress, logs and checkpoints are the same. `_hosts` gives calls to hosts, `_door` lets
these in, `_connection` is what is between them, and `_host` what runs there. `_ray` and
`_dask` say how each engine does its part. What no host can do is one task of the
engine, `_single`; large results are in its store, `_references` and `_kept`.
"""
