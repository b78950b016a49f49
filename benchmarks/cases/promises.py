"""When recorded workflows end, asked while they run, beside when they did end."""

from __future__ import annotations

import math
from bisect import insort
from collections import defaultdict
from collections.abc import Iterator
from itertools import chain
from random import Random
from statistics import fmean

import attrs

from benchmarks._figures import Goal, Row, Samples, Unit
from benchmarks._registry import Run, case
from benchmarks.cases.planner import pinball, recorded
from taskorch import TaskOrchestrator
from taskorch.ext import wfformat
from taskorch.ext.simulation._open._course import OpenRun
from taskorch.ext.simulation._open._draws import Lengths, OpenChance
from taskorch.ext.simulation._open._ends import NO_END, each_drawn
from taskorch.ext.simulation._open._work import OpenWork, open_work
from taskorch.model import quantile

_NS = 1_000_000_000
_SLOTS = (2, 4, 8)
#: The shares of its tasks that have ended when a workflow is asked about.
_CUTS = (0.25, 0.5, 0.75)
_DRAWS = 60


class _Recorded(OpenChance):
    """The durations that were recorded, in ns."""

    def __init__(self, work: OpenWork, lengths: list[int]) -> None:
        super().__init__(work, "recorded")
        self.first = lengths

    def again(self, number: int, attempt: int) -> int:
        """Refuse a second attempt: nothing fails."""
        raise AssertionError(number, attempt)


@case("promises-recorded", given="recorded")
def promises(run: Run) -> Iterator[Row]:
    """The share of tasks of recorded workflows that end by their P50 and their P90."""
    held, halves, asked = 0, 0, 0
    for path in recorded(run):
        for slots in _SLOTS:
            for pairs in _asked(wfformat.load(path), slots):
                for ends, end in pairs:
                    asked += 1
                    held += end <= quantile(ends, 90)
                    halves += end <= quantile(ends, 50)
    yield Row(
        what="share of open tasks of recorded workflows that end by their P90",
        ours=Samples.of(held / asked, Unit.RATIO),
        goal=Goal.no_less(0.87),
        note=f"{asked:,} answers, at a quarter, half and three quarters, on "
        f"{', '.join(map(str, _SLOTS))} slots; 0.93 at the most is asked, too; by their "
        f"P50: {halves / asked:.2f}",
    )


def _asked(
    found: wfformat.Recording, slots: int
) -> Iterator[list[tuple[list[int], int]]]:
    """Yield, at each cut, the drawn ends and the real end of each task that is open."""
    orch = TaskOrchestrator(concurrency=slots)
    flow = found.workflow
    bare = [attrs.evolve(flow[name].task, expected=None, resources={}) for name in flow]
    orch.submit_tasks(
        attrs.evolve(each, id=name, after=[*flow.dependencies[name]])
        for name, each in zip(flow, bare, strict=True)
    )
    whole = open_work(orch._rt)
    lengths = [max(1, int(found.durations[each.id] * _NS)) for each in whole.tasks]
    every = range(len(whole.tasks))
    real = OpenRun(whole, _Recorded(whole, lengths), every, lambda: False)
    real.carry_out()
    starts = [real.rows[place].started_ns for place in every]
    ends = [real.ended_ns(place) or 0 for place in every]
    for cut in _CUTS:
        now = sorted(ends)[int(cut * len(ends))]
        work, left = _cut(whole, starts, ends, lengths, now)
        places = range(len(left))
        draws = [times for times, _ in each_drawn(work, places, math.inf, _DRAWS)]
        drawn = {place: sorted(each[place] for each in draws) for place in places}
        yield [
            (drawn[place], ends[left[place]] - now + whole.now_ns)
            for place in places
            if quantile(drawn[place], 90) != NO_END
        ]


def _cut(
    whole: OpenWork, starts: list[int], ends: list[int], lengths: list[int], now: int
) -> tuple[OpenWork, list[int]]:
    """Return what is open at *now*, as *whole* begins, and the places it has there."""
    left = [place for place, end in enumerate(ends) if end > now]
    places = {place: number for number, place in enumerate(left)}
    tasks = [
        attrs.evolve(
            whole.tasks[place],
            parents=tuple(
                places[above]
                for above in whole.tasks[place].parents
                if isinstance(above, int) and above in places
            ),
            agent="local" if starts[place] <= now else "",
            elapsed_ns=max(0, now - starts[place]) if starts[place] <= now else 0,
        )
        for place in left
    ]
    measured: defaultdict[str, list[int]] = defaultdict(list)
    for each, end, length in zip(whole.tasks, ends, lengths, strict=True):
        if end <= now:
            insort(measured[each.spec.type], length)
    ids = {each.id: number for number, each in enumerate(tasks)}
    return attrs.evolve(whole, tasks=tasks, places=ids, measured=measured), left


@case("promises-lengths", given="recorded")
def durations(run: Run) -> Iterator[Row]:
    """The pinball loss of drawn durations, beside the quantiles of the task's name."""
    runs = [[*_ended(wfformat.load(path))] for path in recorded(run)]
    means: defaultdict[str, list[int]] = defaultdict(list)
    for kind, length in chain.from_iterable(runs):
        means[kind].append(length)
    ours = theirs = 0.0
    held = counted = 0
    seen: defaultdict[str, list[int]] = defaultdict(list)
    for kind, length in chain.from_iterable(runs):
        ordered, mean = seen[kind], fmean(means[kind])
        if len(ordered) > 1:
            randoms = (Random(f"{kind}/{counted}/{draw}") for draw in range(100))
            drawn = sorted(Lengths(ordered, random).draw(random) for random in randoms)
            for share in (50, 90):
                said = quantile(drawn, share), quantile(ordered, share)
                loss = (pinball(length, each, share / 100) / mean for each in said)
                ours, theirs = map(sum, zip((ours, theirs), loss, strict=True))
            held += length <= quantile(drawn, 90)
            counted += 1
        insort(ordered, length)
    yield Row(
        what="pinball loss of durations at P50 and P90, of that of the name's quantiles",
        ours=Samples.of(ours / theirs, Unit.RATIO),
        goal=Goal.no_more(0.95, aim=0.85),
        note=f"{counted:,} recorded tasks, each before it is known; {held / counted:.2f} "
        "took no more than their P90",
    )


def _ended(found: wfformat.Recording) -> Iterator[tuple[str, int]]:
    """Yield the type and the duration in ns of each task that took time."""
    for name, seconds in found.durations.items():
        if seconds > 0:
            yield found.workflow[name].task.type, int(seconds * _NS)
