"""Who contends for what is divided: elastic requests, like ones counted together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from taskorch.kernel._rows import UNLIMITED, Bucket, PoolRow, Spec, TaskRow
from taskorch.model import TASKS, Resources, Units
from taskorch.protocols import Contender

_SCALE: Final = 1_000_000


def contenders(
    buckets: Iterable[Bucket],
    holders: Iterable[TaskRow],
    pools: Mapping[str, PoolRow],
    slots: int,
) -> list[Contender]:
    """
    The kinds of elastic requests that contend; of those that wait, the first first.

    Of those that wait, only as many contend as there are *slots*, and slots of the
    agents that may run them: what nobody could start takes nothing from others.

    Args:
        buckets: Those of elastic requests.
        holders: The tasks whose attempts hold what was granted of elastic ones.
        pools: The pools.
        slots: How many more attempts may run at once.
    """
    divided = {name for name, pool in pools.items() if not pool.is_quota}
    held: dict[Bucket, list[Units]] = {}
    for row in holders:
        held.setdefault(row.bucket, []).append(row.alloc)
    queue: list[tuple[Any, int, Bucket]] = []
    for bucket in buckets:
        head = bucket.head() if bucket.size else None
        if head is not None:
            queue.append((head.key, head.seq, bucket))
    queue.sort()
    able = [b for _, _, b in queue if not _is_bounded(b, pools)]
    kinds: dict[Spec, tuple[Bucket, int, list[Units]]] = {}
    for bucket, count in _apportion(able, slots):
        kinds[bucket.spec] = bucket, count, []
    # A bucket that was forgotten while its tasks ran may have a like one by now.
    for bucket, allocs in held.items():
        kinds.setdefault(bucket.spec, (bucket, 0, []))[2].extend(allocs)
    # Many hold the same, and have the same least.
    made: dict[Units, Resources] = {}

    def of_pools(units: Units) -> Resources:
        if units not in made:
            own = tuple([pair for pair in units if pair[0] in divided])
            made[units] = Resources.from_units(own)
        return made[units]

    found = []
    for bucket, waiting, allocs in kinds.values():
        spec = bucket.spec
        assert spec.elastic is not None  # noqa: S101 - only such contend
        _, weight, fallback = spec.elastic
        wanted, least = of_pools(spec.resources), of_pools(bucket.need)
        held_now = tuple(map(of_pools, allocs))
        found.append(
            Contender(wanted, least, weight / _SCALE, fallback, waiting, held_now)
        )
    return found


def _is_bounded(bucket: Bucket, pools: Mapping[str, PoolRow]) -> bool:
    """Whether a quota keeps the tasks of *bucket* from having their least."""
    # One task is as much of a quota for tasks.
    need = {TASKS: _SCALE, **dict(bucket.need)}
    return any(
        need.get(resource, 0) > pools[pool].total - pools[pool].used
        for pool, resource in bucket.bounds
        if pool in pools
    )


def _apportion(buckets: list[Bucket], slots: int) -> list[tuple[Bucket, int]]:
    """How many of each may start, as far as slots go: in turns, the first first."""
    most = {bucket: min(bucket.size, _room(bucket)) for bucket in buckets}
    counts = dict.fromkeys(buckets, 0)
    open_to_more = [bucket for bucket in buckets if most[bucket]]
    while slots > 0 and open_to_more:
        turn = max(1, slots // len(open_to_more))
        for bucket in open_to_more:
            more = min(turn, most[bucket] - counts[bucket], slots)
            counts[bucket] += more
            slots -= more
        open_to_more = [b for b in open_to_more if counts[b] < most[b]]
    return [(bucket, count) for bucket, count in counts.items() if count]


def _room(bucket: Bucket) -> int:
    """How many of *bucket* its agents have slots for; no limit if none is known yet."""
    if bucket.checked < 0:
        return UNLIMITED
    return sum(max(0, agent.limit - agent.running) for agent in bucket.agents)
