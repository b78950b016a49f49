"""The results of runs of a plan: its duration, its bottleneck, and possible savings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import attrs

from taskorch.core.kernel import Spec
from taskorch.core.worlds import Course, Means, PlanRun, SimulatedPlan
from taskorch.ext.simulation._plans._chance import Chance, Odds
from taskorch.model import Agent, quantile


@attrs.frozen
class Addition:
    """One addition to the means of a plan."""

    #: `slot`, `resource`, `phase` or `agent`.
    kind: str
    #: The resource or the phase; for a worker, its capability.
    name: str
    #: The amount of the addition.
    amount: float
    #: The means with that addition, and with plenty of it.
    means: Means = attrs.field(eq=False, repr=False)
    plenty: Means = attrs.field(eq=False, repr=False)


class Study:
    """A plan with its means, its durations, and the results of its runs."""

    def __init__(
        self, means: Means, plan: SimulatedPlan, odds: Odds, draws: int, seed: int
    ) -> None:
        means = attrs.evolve(means, pools=(*means.pools, *plan.pools.items()))
        self.means = means
        self.plan = plan
        self._odds = odds
        self._seed = seed
        lengths: list[int] = []
        course = None
        #: The draws in which some task did not complete.
        self.incomplete: int = 0
        for draw in range(draws):
            course = PlanRun(means, plan, self._chance(draw)).go()
            lengths.append(course.makespan)
            self.incomplete += bool(course.failed or course.never)
        #: The makespan of each draw, in ns, the shortest first.
        self.makespans: list[int] = sorted(lengths)
        median = lengths.index(quantile(self.makespans, 50))
        #: The random numbers of the draw that is shown, and its course.
        self.chance: Chance = self._chance(median)
        if course is None or draws > 1:
            # Only the seed of each draw is kept: its course would take too much memory.
            course = PlanRun(means, plan, self.chance).go()
        self.course: Course = course

    def _chance(self, draw: int) -> Chance:
        return Chance(self.plan, self._odds, f"{self._seed}/{draw}")

    # -- the critical path ---------------------------------------------------------

    def critical_path(self) -> tuple[list[int], int]:
        """
        Return the chain that takes longest if nothing is scarce, and its length in ns.

        The kernel finds it, in a run of the same plan with plenty of everything.
        """
        course = self._course(self.means.unbounded(len(self.plan)))
        if not course.spans:
            return [], 0
        starts: dict[int, int] = {}
        ends: dict[int, int] = {}
        last = course.spans[0]
        for span in course.spans:
            place, start, end = span[:3]
            starts.setdefault(place, start)
            ends[place] = end
            if end > last[2]:
                last = span
        chain: list[int] = []
        at: int | None = last[0]
        while at is not None:
            chain.append(at)
            # With plenty of everything, a task begins when its last parent has ended.
            began = starts[at]
            above = self.plan.parents[at]
            at = next((p for p in above if ends.get(p) == began), None)
        return chain[::-1], course.makespan

    def lower_bound(self, critical: int) -> int:
        """Return a bound of the makespan in ns, by critical path and by work."""
        spans, means = self.course.spans, self.means
        work: dict[Spec, int] = {}
        held: dict[str, int] = {}
        for place, start, end, _, attempt, _, alloc in spans:
            if not attempt:
                # A wait is no work.
                continue
            spec = self.plan.specs[place]
            work[spec] = work.get(spec, 0) + end - start
            for name, units in alloc:
                held[name] = held.get(name, 0) + units * (end - start)
        bounds = [critical, _share(sum(work.values()), means.config.concurrency)]
        bounds += [
            _share(held.get(name, 0), total) for name, total in means.pools if total
        ]
        by_workers: dict[tuple[str, ...], int] = {}
        for spec, amount in work.items():
            names = self.course.able.get(spec, ())
            by_workers[names] = by_workers.get(names, 0) + amount
        limits = {worker.name: worker.max_concurrency for worker in means.workers}
        for names, amount in by_workers.items():
            slots = [limits.get(name) for name in names]
            finite = [limit for limit in slots if limit is not None]
            if slots and len(finite) == len(slots):
                bounds.append(_share(amount, sum(finite)))
        # With plenty of everything, delays are drawn again, and may be longer.
        return min(max(bounds), self.course.makespan)

    # -- what more would save ------------------------------------------------------

    def savings(self, critical: int) -> list[tuple[Addition, int, int]]:
        """
        Return the makespans in ns with one more, and with plenty, of each scarce thing.

        If one more saves something, plenty is not tried. No makespan is below
        *critical*, the length of the critical path in ns.
        """
        savings: list[tuple[Addition, int, int]] = []
        before = self.course.makespan
        for change in self._changes() if before > critical else ():
            after = plenty = self._makespan(change.means)
            if after >= before:
                plenty = self._makespan(change.plenty)
            savings.append((change, after, plenty))
        return savings

    def _course(self, means: Means) -> Course:
        return PlanRun(means, self.plan, self.chance).go()

    def _makespan(self, means: Means) -> int:
        return self._course(means).makespan

    def _changes(self) -> Iterator[Addition]:
        means, course, tasks = self.means, self.course, len(self.plan)
        if course.peak_slots >= means.config.concurrency:
            more, plenty = means.more_slots(1), means.more_slots(tasks)
            yield Addition("slot", "slot", 1, more, plenty)
        requests = [spec.resources for spec in self.plan.specs]
        # Workers use so much for a task that does not state its needs.
        requests += [worker.request.units for worker in means.workers]
        for name, total in means.pools:
            asked = [n for units in requests for key, n in units if key == name]
            if not asked or course.peak_pools.get(name, 0) + max(asked) <= total:
                continue
            # The addition has room for one more task of the most frequent kind.
            step = Counter(asked).most_common(1)[0][0]
            pools = tuple(
                (key, units + step if key == name else units)
                for key, units in means.pools
            )
            more, plenty = (
                # Additional units have no names.
                attrs.evolve(
                    means,
                    pools=pools,
                    named=tuple([pair for pair in means.named if pair[0] != name]),
                ),
                means.more_of([name], tasks),
            )
            kind = "resource"
            if name in self.plan.pools:
                kind, _, name = name.partition(" ")  # noqa: PLW2901 - for people
            yield Addition(kind, name, step / 1_000_000, more, plenty)
        yield from self._more_workers()

    def _more_workers(self) -> Iterator[Addition]:
        means, course = self.means, self.course
        by_name = {worker.name: worker for worker in means.workers}
        seen: dict[tuple[str, ...], None] = {}
        for spec, names in course.able.items():
            if not names or names in seen or Agent.LOCAL in names:
                continue
            seen[names] = None
            workers = [by_name[name] for name in names]
            if all(_is_full(worker, course) for worker in workers):
                need = " and ".join(spec.needs or (spec.type,))
                twins = (*means.workers, _twin(workers[0], by_name))
                more = attrs.evolve(means, workers=twins)
                plenty = means.more_agents(names, len(self.plan))
                yield Addition("agent", need, 1, more, plenty)


def _share(work: int, among: int) -> int:
    """Return *work* divided *among* so many, rounded up."""
    return -(-work // among)


def _is_full(worker: Agent, course: Course) -> bool:
    """Return whether *worker* may have been too busy, or small, for another task."""
    limit = worker.max_concurrency
    if limit is not None and course.peak_workers.get(worker.name, 0) >= limit:
        return True
    return worker.capacity is not None


def _twin(worker: Agent, names: Iterable[str]) -> Agent:
    """Return another worker like *worker*."""
    used_names = set(names)
    number = 2
    while f"{worker.name}-{number}" in used_names:
        number += 1
    return attrs.evolve(worker, name=f"{worker.name}-{number}")
