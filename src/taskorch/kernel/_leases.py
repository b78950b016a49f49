"""
Agents that live elsewhere: signs of life, and what follows when there are none.

An agent with a lease names, in every sign of life, the attempts that it runs. One
that is silent for its lease is lost, and all its attempts with it; an attempt that a
living agent has not named for as long is missing. The lease is renewed for as long as
there are signs of life: that something takes long is no reason to think it dead.

Decisions: 0011, 0142.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from taskorch.events import AgentJoined, AgentLost, AgentReturned
from taskorch.kernel import _attempts, _queue, _timers
from taskorch.kernel._application import is_under_way
from taskorch.kernel._rows import GOING, AgentRow, AttemptOutcome, TaskRow
from taskorch.kernel._state import KernelState
from taskorch.model import Agent


def add(kernel: KernelState, info: Agent, now: int) -> AgentRow:
    """
    An agent joins; what nobody could do before may start now.

    One whose name is known has started anew: what it had is lost.
    """
    row = kernel.agents.get(info.name)
    if row is None:
        row = kernel.agents[info.name] = AgentRow(info)
    else:
        lose(kernel, row, now, "it has started anew")
    kernel.note(AgentJoined, now, info)
    row.describe(info)
    row.round_trip = None
    if row.draining == GOING:
        row.draining = ""
    heard(kernel, row, now)
    return row


def heard(kernel: KernelState, agent: AgentRow, now: int) -> None:
    """*agent* is there, for the first time or again."""
    agent.lost = False
    agent.heard_ns = now
    agent.lease_due_ns = 0
    kernel.agents_version += 1
    if agent.lease_ns:
        _check_at(kernel, agent, now + agent.lease_ns)
    _queue.unpark_all(kernel)


def go(kernel: KernelState, agent: AgentRow) -> None:
    """*agent* gets no work from now on."""
    agent.lost = True
    kernel.agents_version += 1
    _queue.unpark_all(kernel)


def beat(
    kernel: KernelState,
    name: str,
    attempts: Iterable[tuple[str, int]],
    now: int,
    round_trip: float | None = None,
) -> list[tuple[str, int]]:
    """
    An agent with a lease gives a sign of life, and names all *attempts* that it runs.

    They are of this epoch, each a task and a number. Those that are not current any
    more are returned: it is to stop them. *round_trip*: how many seconds an earlier
    sign took there and back, if it says that.
    """
    agent = kernel.agents[name]
    agent.heard_ns = now
    if round_trip is not None:
        agent.round_trip = round_trip
    if agent.lost:
        kernel.note(AgentReturned, now, agent.name)
        heard(kernel, agent, now)
    abandoned = []
    for task_id, attempt in attempts:
        row = kernel.tasks.get(task_id)
        leak = kernel.leaked.get((task_id, attempt))
        if leak is not None and leak.agent is agent:
            leak.seen_ns = now
        if row is None or row.attempt != attempt or row not in agent.seen:
            abandoned.append((task_id, attempt))
        else:
            agent.seen[row] = now
    return abandoned


def excuse(kernel: KernelState, now: int) -> None:
    """
    Time has passed in which nobody could be heard: each agent has a lease from now.

    The driver says so, before `tick`, when it has not run for a while: it was stopped,
    or something held it up. Those that are lost already stay so.
    """
    for agent in kernel.agents.values():
        if agent.lease_ns and not agent.lost:
            agent.heard_ns = now
            # What it runs, or would not stop, is not looked at before that either.
            _check_at(kernel, agent, now + agent.lease_ns)


def check(kernel: KernelState, agent: AgentRow, now: int) -> None:
    """The lease of *agent*, or of an attempt there, may be over."""
    lease = agent.lease_ns
    if now - agent.heard_ns >= lease:
        lose(kernel, agent, now, f"no sign of life for {lease / 1e9:g} s")
        return
    for row, seen in list(agent.seen.items()):
        if now - seen >= lease:
            why = f"agent {agent.name} has not named it for {lease / 1e9:g} s"
            described = ("AttemptLostError", why)
            _attempts.end(kernel, row, row.attempt, "missing", now, None, described)
    oldest = min([agent.heard_ns, *agent.seen.values()])
    for (_, attempt), leak in list(kernel.leaked.items()):
        if leak.agent is agent and now - leak.seen_ns >= lease:
            _attempts.mend_leak(kernel, leak, attempt, now)
        elif leak.agent is agent:
            oldest = min(oldest, leak.seen_ns)
    _check_at(kernel, agent, oldest + lease)


def _check_at(kernel: KernelState, agent: AgentRow, when: int) -> None:
    agent.lease_due_ns = when
    _timers.arm(kernel, when, _timers.LEASE, agent)


def lose(kernel: KernelState, agent: AgentRow, now: int, why: str) -> None:
    """*agent* is lost: so is all that it ran, and nothing new goes there."""
    if not agent.lost:
        _end_all(kernel, agent, now, why, f"is lost: {why}", lambda _: "lost")


def leave(
    kernel: KernelState, name: str, unbegun: Collection[tuple[str, int]], now: int
) -> bool:
    """
    An agent with a lease says that it goes; whether it was there.

    What it has not ended is for others. Of this epoch, it has never begun the attempts
    *unbegun*, each a task and a number.
    """
    agent = kernel.agents[name]
    if agent.lost:
        return False

    def how(row: TaskRow) -> AttemptOutcome:
        # It has ended what it had begun, as it should: that killed no worker.
        return "returned" if (row.id, row.attempt) in unbegun else "missing"

    _end_all(kernel, agent, now, "it has left", "has left", how)
    return True


def _end_all(
    kernel: KernelState,
    agent: AgentRow,
    now: int,
    why: str,
    told: str,
    how: Callable[[TaskRow], AttemptOutcome],
) -> None:
    """*agent* is away: *how* the attempts ended that were under way there."""
    described = ("AttemptLostError", f"agent {agent.name} {told}")
    kernel.note(AgentLost, now, agent.name, why)
    go(kernel, agent)
    there = agent.seen if agent.lease_ns else kernel.tasks.values()
    for row in [row for row in there if row.agent is agent and is_under_way(row)]:
        _attempts.end(kernel, row, row.attempt, how(row), now, None, described)
    for (_, attempt), leak in list(kernel.leaked.items()):
        if leak.agent is agent:
            _attempts.mend_leak(kernel, leak, attempt, now)
