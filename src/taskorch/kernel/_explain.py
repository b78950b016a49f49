"""Why a task does not run: pure questions, to the predicates that schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from taskorch.kernel import _books
from taskorch.kernel._attempts import GONE
from taskorch.kernel._dependencies import is_broken
from taskorch.kernel._dispatch import in_pools, match, vetoed
from taskorch.kernel._state import AgentRow, Bucket, More, TaskRow
from taskorch.model import TERMINAL, Blocker, Explanation, TaskState, Units

if TYPE_CHECKING:
    from taskorch.kernel._kernel import Kernel

_S: Final = TaskState
#: Holders and tasks named in one answer.
_SOME: Final = 5

#: What is not said with "is" and the state.
_IN_WORDS: Final = {_S.FAILED: "has failed", _S.CANCELLED: "was cancelled"}


def explain(kernel: Kernel, row: TaskRow, now: int) -> Explanation:
    """
    What keeps *row* from running now.

    A QUEUED task without blockers starts as soon as it is first in its order.

    A QUEUED task is asked about as it will be when it is its turn, except that the
    router has no say: any agent with room is good enough.

    Raises:
        PolicyFault: A policy failed that was asked.
    """
    blockers: list[Blocker] = []
    position = None
    if row.state in TERMINAL:
        blockers.append(_terminal(row))
    elif row.state is _S.SUSPENDED:
        blockers.append(Blocker("suspended", "It waits for resume_task()."))
    elif row.state is _S.RUNNING:
        blockers += _running(kernel, row)
    elif row.state is _S.BLOCKED and row.more is not None and row.more.decision:
        blockers.append(_held(row.more))
    elif row.state is _S.QUEUED:
        blockers += _queued(kernel, row, now)
        position = _position(row)
    else:
        blockers += _dependencies(row)
        blockers += _delay(row, now)
    return Explanation(row.id, row.state, tuple(blockers), position, row.reason)


def _held(more: More) -> Blocker:
    choice = "decide(id, 'retry' | 'fail' | 'complete')"
    if more.error is not None and more.error[2] == GONE:
        why = f"What it needs is gone: {more.error[1]}."
        return Blocker(
            "decision", f"{why} It goes on when that is back, or by {choice}."
        )
    return Blocker(
        "decision",
        "A person must decide: nobody knows how its attempt ended, and it is not safe "
        f"to run twice. Call {choice}.",
    )


def _terminal(row: TaskRow) -> Blocker:
    detail = f"It has ended: it is {row.state}."
    if row.more is not None and row.more.error is not None:
        kind, message, cause = row.more.error
        if row.state is _S.FAILED:
            detail = f"It failed ({cause}): {kind}: {message}."
    return Blocker("terminal", detail)


def _running(kernel: Kernel, row: TaskRow) -> list[Blocker]:
    name = "" if row.agent is None else row.agent.name
    more = row.more
    if more is not None and more.stop:
        detail = f"It runs on {name}, and was asked to stop: {more.stop_reason}."
        return [Blocker("stopping", detail, name=name)]
    if more is not None and more.yielded:
        detail = "It has given its slot back, and waits for "
        if row in kernel.returning:
            return [Blocker("slot", f"{detail}a free one to go on.", name=name)]
        return [Blocker("dependency", f"{detail}another task.")]
    return []


def _dependencies(row: TaskRow) -> list[Blocker]:
    if row.links is None:
        return []
    found: list[Blocker] = []
    for parent in dict.fromkeys(row.links.parents):
        if parent.state is _S.COMPLETED:
            continue
        how = _IN_WORDS.get(parent.state, f"is {parent.state}")
        if is_broken(parent):
            how += ", and will not complete unless it is run again"
        detail = f"It needs {parent.id}, which {how}."
        found.append(Blocker("dependency", detail, name=parent.id))
    return found


def _delay(row: TaskRow, now: int) -> list[Blocker]:
    if row.more is None or row.more.due_ns <= now:
        return []
    left = (row.more.due_ns - now) / 1e9
    why = "Its next attempt" if row.state is _S.RETRYING else "It"
    detail = f"{why} may not start for another {left:.3g} s."
    return [Blocker("delay", detail, until=left)]


def _queued(kernel: Kernel, row: TaskRow, now: int) -> list[Blocker]:
    found = _slot(kernel)
    veto = None if row.more is None else row.more.veto or None
    if veto is None:
        veto = vetoed(kernel, row, _S.QUEUED, _S.RUNNING, "dispatched", now)
    if veto is not None:
        detail = f"The state machine does not let it start: {veto}."
        found.append(Blocker("veto", detail))
    bucket = row.bucket
    if bucket.agents_version != kernel.agents_version:
        match(kernel, bucket, row, now)
    if not bucket.agents:
        found += _nobody(kernel, bucket)
        return found
    short = [_short_on(kernel, row, agent, now) for agent in bucket.agents]
    if all(short):
        found += dict.fromkeys(blocker for blockers in short for blocker in blockers)
    return found


def _nobody(kernel: Kernel, bucket: Bucket) -> list[Blocker]:
    """No agent matches, or those that do are too small, or lost."""
    if not bucket.matching:
        reason = f": {bucket.match_reason}" if bucket.match_reason else ""
        needs = bucket.spec.requires or ()
        detail = f"No agent can do it{reason}."
        return [Blocker("capability", detail, name=", ".join(needs))]
    found: list[Blocker] = []
    for agent in bucket.matching:
        short = _books.too_small(kernel, bucket, agent)
        if short is None:
            detail = f"Agent {agent.name} is lost: it is to be heard of again first."
            found.append(Blocker("agent", detail, agent.name))
            continue
        name, need, most, where = short
        detail = (
            f"It asks for {need / 1e6:g} {name}, and the most there is, {where}, "
            f"is {most / 1e6:g}."
        )
        found.append(Blocker("resource", detail, name, need / 1e6, most / 1e6))
    return found


def _slot(kernel: Kernel) -> list[Blocker]:
    if kernel.paused:
        detail = "The orchestrator starts nothing: it is not started, or it stops."
        return [Blocker("not_started", detail)]
    if kernel.running < kernel.concurrency:
        return []
    detail = (
        f"All {kernel.concurrency} slots are taken (concurrency={kernel.concurrency})."
    )
    holders = tuple(row.id for row in kernel.tasks.values() if row.state is _S.RUNNING)[
        :_SOME
    ]
    return [Blocker("slot", detail, "concurrency", 1, 0, holders)]


def _short_on(kernel: Kernel, row: TaskRow, agent: AgentRow, now: int) -> list[Blocker]:
    """What keeps *row* from running on *agent*."""
    found: list[Blocker] = []
    if not _books.has_slot(agent):
        detail = f"Agent {agent.name} runs {agent.running} of {agent.limit} already."
        holders = _holders(kernel, agent, "")
        found.append(Blocker("agent", detail, agent.name, 1, 0, holders))
    need = _books.wanted(row.bucket, agent)
    short = _books.shortage(agent, need)
    if short is not None:
        name, units, free = short
        detail = (
            f"It needs {units / 1e6:g} {name}, and agent {agent.name} has "
            f"{free / 1e6:g} free."
        )
        holders = _holders(kernel, agent, name)
        found.append(
            Blocker("agent", detail, agent.name, units / 1e6, free / 1e6, holders)
        )
    if not found and not kernel.rigid:
        # The allocator decides, and it may be content with less.
        refusal = _refusal(kernel, row, agent, now)
        if refusal is None:
            return []
        if _books.pool_shortage(kernel, need) is None:
            return [Blocker("allocator", f"The allocator puts it off: {refusal}.")]
    found += _short_pools(kernel, need)
    if not found:
        refusal = _refusal(kernel, row, agent, now)
        if refusal is not None:
            found.append(Blocker("allocator", f"The allocator puts it off: {refusal}."))
    return found


def _refusal(kernel: Kernel, row: TaskRow, agent: AgentRow, now: int) -> str | None:
    """Why the allocator grants *row* nothing on *agent*, or None if it does."""
    bucket = row.bucket
    if bucket.route is agent and bucket.route_version == kernel.agents_version:
        # It has said that it need not be asked.
        return None
    if bucket.refusal and not any(place.has_room() for place in bucket.parked or ()):
        # It is not asked again before something changes.
        return bucket.refusal
    need = in_pools(kernel, _books.wanted(row.bucket, agent))
    granted, reason, _ = kernel.deciders.allocate(row, agent, need, now)
    return None if granted is not None else reason or "no reason given"


def _short_pools(kernel: Kernel, need: Units) -> list[Blocker]:
    found: list[Blocker] = []
    for name, units in need:
        pool = kernel.pools.get(name)
        if pool is not None and pool.total - pool.used < units:
            free = pool.total - pool.used
            detail = (
                f"It needs {units / 1e6:g} {name}, and {free / 1e6:g} of "
                f"{pool.total / 1e6:g} is free."
            )
            holders = _holders(kernel, None, name)
            found.append(
                Blocker("resource", detail, name, units / 1e6, free / 1e6, holders)
            )
    return found


def _holders(kernel: Kernel, agent: AgentRow | None, name: str) -> tuple[str, ...]:
    held = [
        row.id
        for row in kernel.tasks.values()
        if row.state in (_S.RUNNING, _S.SUSPENDED)
        and row.agent is not None
        and (agent is None or row.agent is agent)
        and (not name or any(pair[0] == name for pair in row.alloc))
    ]
    held += [
        f"{task_id} (attempt {attempt}, which would not stop)"
        for (task_id, attempt), leak in kernel.leaked.items()
        if (agent is None or leak.agent is agent)
        and (not name or any(pair[0] == name for pair in leak.alloc))
    ]
    return tuple(held[:_SOME])


def _position(row: TaskRow) -> int:
    place = (row.key, row.seq)
    return 1 + sum((r.key, r.seq) < place for r in row.bucket.rows())
