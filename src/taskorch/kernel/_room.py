"""
Which of its agents have room for the tasks of a bucket.

That is kept, and not asked of each agent for each task. An agent that begins or ends
an attempt is noted once, for all buckets (`KernelState.moved`), and a bucket looks at
those that have been noted since it looked last, or at all of its own if these are
fewer. So a start costs the same among fifty agents and among thousands. The law, which
`check_invariants` holds: an agent that a bucket has taken into account, and that has
not been noted since, is where it belongs.

The agents without room are where a parked bucket waits. It stays entered there while
others start what it has; it is entered anew only where an agent has moved, or all over
if its head comes earlier than before.

Decision: 0156.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from taskorch.kernel import _books
from taskorch.kernel._rows import AgentRow, Bucket, Candidates, Place, Room, TaskRow
from taskorch.kernel._state import MANY, KernelState
from taskorch.model import Units

#: How much likelier another agent must be to complete a task that waits for it.
TIMES: Final = 4


def has_room(bucket: Bucket, agent: AgentRow) -> bool:
    """Whether *agent* has a slot, and enough of its own, for a task of *bucket*."""
    if agent.running >= agent.limit:
        return False
    return (
        not agent.capacity
        or _books.shortage(agent, _books.wanted(bucket, agent)) is None
    )


def success_rate(bucket: Bucket, agent: AgentRow) -> float:
    """How likely *agent* is to complete a task of *bucket*, by its record."""
    return agent.view.performance(bucket.spec.type).success_rate


def candidates(kernel: KernelState, bucket: Bucket) -> Candidates:
    """
    The agents about which the allocator is to be asked for a task of *bucket*.

    One that may grant less than is asked is asked even if a pool has too little.
    """
    room = look(kernel, bucket)
    short = _short_of_pools(kernel, bucket)
    if not short:
        return room
    if len(short) == len(bucket.needs):
        return Candidates(room.number, [], [])
    return room.without([a for a in room if (bucket.need or a.request) in short])


def needs_on(bucket: Bucket, agents: Candidates) -> tuple[Units, ...]:
    """What a task of *bucket* waits for on *agents*, as far as it differs."""
    if len(bucket.needs) == 1:
        # The same on all of them, if there are any.
        return bucket.needs if len(agents) else ()
    return tuple(dict.fromkeys([bucket.need or agent.request for agent in agents]))


def look(kernel: KernelState, bucket: Bucket) -> Room:
    """The agents with room for tasks of *bucket*, up to date."""
    room, moved = bucket.room, kernel.moved
    unread = room.read - kernel.moved_before
    if room.read < 0 and len(room.number) > 1:
        for agent in room.number:
            agent.watched = True
    if unread < 0 or len(moved) - unread > len(room.number):
        for agent in room.number:
            _weigh(kernel, bucket, agent)
    elif unread < len(moved):
        for agent in moved[unread:]:
            if agent in room.number:
                _weigh(kernel, bucket, agent)
    # A single one is looked at each time: then nobody need note it.
    if len(room.number) > 1:
        room.read = kernel.moved_before + len(moved)
    return room


def forget(kernel: KernelState) -> None:
    """Drop what has moved, once it is much: who has not read it looks at all agents."""
    many = len(kernel.moved) > MANY
    if many or (kernel.points is not None and kernel.points.hit("moved.forget")):
        kernel.moved_before += len(kernel.moved)
        kernel.moved.clear()


def _weigh(kernel: KernelState, bucket: Bucket, agent: AgentRow) -> None:
    """*agent*, which matches *bucket*, may have room now, or none any more."""
    room = bucket.room
    room.places.pop(agent, None)
    if has_room(bucket, agent):
        room.unplaced.pop(agent, None)
        room.enter(agent)
    else:
        room.unplaced[agent] = None
        room.leave(agent)
    if kernel.config.waits_for_better and agent.failed:
        if success_rate(bucket, agent) * TIMES < 1:
            room.failing[agent] = None
        else:
            room.failing.pop(agent, None)


def worse(bucket: Bucket, among: Candidates) -> list[AgentRow]:
    """
    Those *among* the candidates to which a task of *bucket* does not go.

    It waits for a busy agent instead: see `_dispatch.better_than`, for each of them.
    """
    room = bucket.room
    rates = {a: success_rate(bucket, a) for a in room.failing if a in among}
    if not rates:
        return []
    enough, best = TIMES * max(rates.values()), 0.0
    for busy in (room.places, room.unplaced):
        for agent in busy:
            if best <= enough and agent.limit <= agent.running > agent.leaked:
                best = max(best, success_rate(bucket, agent))
    return [agent for agent, rate in rates.items() if best > TIMES * rate]


def wait_at_agents(
    bucket: Bucket, row: TaskRow, *, above: bool
) -> Mapping[AgentRow, Place]:
    """
    Where *bucket*, whose head is *row*, waits at those of its agents without room.

    It is entered there; whether *above* a soft quota.
    """
    room = bucket.room
    head = (row.key, row.seq)
    if room.since is not None and (head < room.since or above != room.above):
        room.unplaced.update(dict.fromkeys(room.places))
    for agent in room.unplaced:
        place = _books.place_on(bucket, agent, above=above)
        place.add(bucket, row)
        room.places[agent] = place
    room.unplaced.clear()
    room.since, room.above = head, above
    return room.places


def wait_at_pools(kernel: KernelState, bucket: Bucket, *, above: bool) -> list[Place]:
    """Where *bucket* waits for what pools lack of the needs on agents with room."""
    short = _short_of_pools(kernel, bucket)
    if short:
        needs = needs_on(bucket, bucket.room)
        short = [need for need in short if need in needs]
    return [_books.place_at_pool(kernel, bucket, need, above=above) for need in short]


def _short_of_pools(kernel: KernelState, bucket: Bucket) -> list[Units]:
    """Of what its tasks wait for, by agents, that of which pools lack something."""
    return [need for need in bucket.needs if _books.lacks(kernel, bucket, need)]
