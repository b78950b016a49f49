"""Tasks of earlier lives that need what is gone: they are held until it is back."""

from __future__ import annotations

from typing import Protocol

from taskorch.kernel import AgentRow, Kernel, PolicyFault, Spec, TaskRow


class OrphansHost(Protocol):
    """What looking for lost functions and agents asks of a runtime."""

    kernel: Kernel
    orphans: dict[Spec, None]


def hold_orphans(host: OrphansHost, now: int) -> None:
    """Hold those whose turn has come in this life only, and whose agents are gone."""
    kernel, orphans = host.kernel, host.orphans
    for bucket in [each for each in kernel.parked if each.spec in orphans]:
        for row in bucket.rows():
            why = no_agent(kernel, row, now)
            if not why:
                orphans.pop(bucket.spec, None)
                break
            kernel.miss(row, why, now)


def no_agent(kernel: Kernel, row: TaskRow, now: int) -> str:
    """Why no agent will ever be able to do *row*, as far as is known; "" if one may."""
    bucket = row.bucket
    if bucket.spec.requires is None or not kernel.config.refuse_unknown:
        return ""
    try:
        kernel.match(bucket, row, now)
    except PolicyFault:
        return ""
    if any(_may_come(agent) for agent in bucket.matching):
        return ""
    needs = ", ".join(bucket.spec.requires)
    return f"no agent can do {needs} any more"


def _may_come(agent: AgentRow) -> bool:
    # An agent in another process, which has a lease, may register again.
    return not agent.lost or agent.info.lease is not None
