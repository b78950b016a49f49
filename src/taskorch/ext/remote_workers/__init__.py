"""
A worker of a service: it asks for work, does it, and tells what came of it.

It runs programs, and functions that its owner has named. It needs nothing but taskorch:
`taskorch agent --agent-id agent_001 --orchestrator-endpoint URL`. It knows attempts,
and no tasks: the service decides on retries, waits and cancelling.

- `_worker`: asks for work, renews its leases, and tells how attempts have ended.
- `_line`: the connection to the service, made again whenever it has broken.
- `_runs`: the attempts under way, and its abilities: programs, and functions that its
  owner has named.
"""

from taskorch.ext.remote_workers._runs import (
    Abilities as Abilities,
    progress as progress,
    spent as spent,
    units as units,
)
from taskorch.ext.remote_workers._worker import Agent as Agent
