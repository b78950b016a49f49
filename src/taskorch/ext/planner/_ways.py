"""
The ways in which a request can be done, and which of its constraints each can keep.

The first that keeps all of them becomes the plan. If there is provably none, it
searches for the fewest constraints that conflict, over all ways. If nobody knows, the
error says that the search was given up.

Decision: planner.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from time import monotonic
from typing import Any, Final, cast

import attrs

from taskorch.core.worlds import Means
from taskorch.errors import PlanningError, TaskorchError
from taskorch.ext.planner._feasibility import (
    PathBounds,
    Possibility,
    befores,
    failing,
    in_time,
    least_seconds,
    limit_of,
    rounded,
    seconds_of,
    smallest_conflict,
    soonest,
    ticks,
)
from taskorch.ext.planner._problems import changed, factors_of, problem_of
from taskorch.ext.planner._stages import Draft, InterferenceResolver, LibraryDecomposer
from taskorch.ext.planner._values import (
    BudgetLeft,
    Choice,
    Constraint,
    Deadline,
    ExecutionPlan,
    MaxCost,
    PlannedTask,
    TaskRequest,
)
from taskorch.kit.visible import counted, show

#: If no way is in time, the earliest end of so many is searched for longer.
_LOOKED: Final = 3
#: The faults of so many ways are found out in full.
_WHOLE: Final = 64
#: The number of reasons in an error.
_TOLD: Final = 3


class Ways:
    """
    The ways in which a request can be done.

    Args:
        planner: The planner, which estimates tasks and makes plans.
        request: The request.
        means: The workers and resources.
        limits: `max_seconds` and `max_steps` of a search.
        cache: Whether cached plans of the same shape may be used.
        ways: The ways; None: those of the decomposer.
        rest: Leaves out the part of a way that is done; it returns None if it leads
            nowhere.
    """

    def __init__(
        self,
        # Any avoids a cycle of imports: the planner imports this module.
        planner: Any,
        request: TaskRequest,
        means: Means,
        limits: dict[str, Any],
        *,
        cache: bool = False,
        ways: Iterable[Any] | None = None,
        rest: Callable[[Draft], Draft | None] | None = None,
    ) -> None:
        self._planner = planner
        self._request = request
        self._means = means
        self._limits = limits
        self._cache = cache
        self._rest = rest
        self._end = monotonic() + limits["max_seconds"]
        self._constraints = planner.constraints_of(request)
        decomposer = planner.decomposer
        self._is_ours = ways is None and isinstance(decomposer, LibraryDecomposer)
        if ways is None and not self._is_ours:
            # A decomposer of the user has bounds of its own.
            ways = decomposer.decompose(request)
            if not isinstance(ways, Iterable):
                msg = f"the decomposer gave {show(ways)}: ways in which it can be done"
                raise PlanningError(msg, hint="mend the decomposer")
        self._given = None if ways is None else iter(ways)
        #: The ways that were found so far.
        self._kept: list[Any] = []
        #: The reasons why another way may exist.
        self._unsure: list[str] = []
        #: Whether one reason is that the time was over.
        self._is_late = False

    def plan(self) -> ExecutionPlan:
        """
        Return the plan by the first way that keeps all constraints.

        Raises:
            PlanningError: There is none, or none was found in time.
        """
        rejected: list[str] = []
        for each in self._each(self._constraints):
            draft = self._drawn(each, self._constraints)
            if draft is None:
                rejected.append("it is no way to go on from what the run has done")
                continue
            plan, why = self._planned(draft)
            if plan is not None:
                return _chosen_after(plan, rejected)
            rejected.append(why)
        if self._unsure:
            raise self._given_up(rejected)
        raise self._refused(rejected)

    def _each(self, wanted: Sequence[Constraint]) -> Iterator[Any]:
        """Yield the ways; after some, only those that can still keep *wanted*."""
        bounds = self._bounds(wanted) if wanted else None
        for number, each in enumerate(self._source(bounds)):
            if number and monotonic() > self._end:
                most = f"{self._limits['max_seconds']:g} s"
                self._unsure.append(f"after {counted(number, 'way')} and {most}")
                self._is_late = True
                return
            if bounds is not None and number >= _WHOLE:
                bounds.cuts = True
            yield each

    def _source(self, bounds: PathBounds | None) -> Iterator[Any]:
        if self._given is None:
            yield from self._decomposed(bounds)
            return
        yield from self._kept
        for each in self._given:
            self._kept.append(each)
            yield each

    def _decomposed(self, bounds: PathBounds | None) -> Iterable[Any]:
        decomposer: Any = self._planner.decomposer
        ways = decomposer.decompose(self._request, **self._limits, bounds=bounds)
        return cast("Iterable[Any]", ways)

    def _bounds(self, wanted: Sequence[Constraint]) -> PathBounds | None:
        """Return bounds for ways; None: another resolver may change them."""
        planner, means = self._planner, self._means
        if type(planner.resolver) is not InterferenceResolver:
            return None
        capacities = {name: units / 1e6 for name, units in means.pools}

        def fastest(kind: str) -> float:
            return min([1.0, *factors_of(kind, means.workers, means, None).values()])

        stated = planner.estimator.stated
        return PathBounds(wanted, capacities, least_seconds(stated, fastest))

    def _drawn(self, each: Any, wanted: Sequence[Constraint]) -> Draft | None:
        """Return the draft of a way, with the waits that *wanted* asks for."""
        planner, request = self._planner, self._request
        draft = planner.with_request(planner.resolver.resolve(each, request), request)
        draft = _ordered(draft, wanted, planner.tasks_of(draft))
        return draft if self._rest is None else self._rest(draft)

    def _planned(self, draft: Draft) -> tuple[ExecutionPlan | None, str]:
        """Return the plan of a draft that keeps all constraints, or why not."""
        planner, constraints = self._planner, self._constraints
        tasks = planner.tasks_of(draft)
        planner.refuse_strange(self._request, tasks, self._means)
        why = self._failing(constraints, draft, tasks)
        if why is not None:
            return None, why
        plan, why, is_sure = planner.in_order(
            self._request, draft, tasks, self._means, constraints, self._cache
        )
        if plan is None and not is_sure:
            self._unsure.append(why)
        return plan, why

    def _failing(
        self, wanted: Sequence[Constraint], draft: Draft, tasks: Sequence[PlannedTask]
    ) -> str | None:
        """Return why these tasks cannot keep *wanted*, if that is sure."""
        why = failing(wanted, tasks, problem_of(tasks, draft.workflow, self._means))
        if why is not None or limit_of(wanted) == math.inf:
            return why
        pools = dict(self._means.pools)
        for task in tasks:
            units = () if task.resources.is_elastic else task.resources.units
            for name, much in units:
                if much > pools.get(name, much):
                    why = f"{task.id} alone needs {much / 1e6:g} {name}, and there "
                    return f"{why}is no more than {pools[name] / 1e6:g}"
        return None

    # -- if there is none --------------------------------------------------------------

    def _given_up(self, rejected: Sequence[str]) -> PlanningError:
        why = self._unsure[-1]
        ways = counted(len(rejected), "way")
        msg = f"request {self._request.id!r} was given up after {ways}: whether it can "
        msg += f"be done is not known ({why})"
        hint = "loosen a constraint: more time looks for no other order"
        if self._is_late:
            hint = "allow more: max_seconds=, max_steps=; or loosen a constraint"
        return PlanningError(msg, trace=tuple(rejected[:8]), hint=hint)

    def _refused(self, rejected: Sequence[str]) -> PlanningError:
        """Return the error that no way meets the request."""
        whole = Possibility(why=_words(rejected))
        constraints, why, is_smallest = smallest_conflict(
            self._constraints, self._held, whole, self._end
        )
        if not constraints:
            msg = f"the decomposer found no way to do {self._request.type!r}"
            return PlanningError(msg, trace=tuple(dict.fromkeys(rejected)))
        names = tuple(map(str, constraints))
        verb = "cannot hold together" if len(names) > 1 else "cannot hold"
        msg = f"request {self._request.id!r}: {' and '.join(names)} {verb}: {why}"
        if not is_smallest:
            msg += " (fewer may conflict: that is not known)"
        if any(isinstance(one, Deadline) for one in constraints):
            msg += self._earliest(constraints)
        return PlanningError(msg, conflict=names, trace=tuple(rejected[:8]))

    def _held(self, wanted: tuple[Constraint, ...]) -> Possibility:
        """Return whether all *wanted* can hold together, by any way."""
        reasons: list[str] = []
        was_unsure = len(self._unsure)
        is_sure = True
        try:
            for each in self._each(wanted):
                draft = self._drawn(each, wanted)
                if draft is None:
                    continue
                held = self._held_by(draft, wanted)
                if held.why is None:
                    return held
                reasons.append(held.why)
                is_sure = is_sure and held.is_sure
        except PlanningError:
            is_sure = False
        is_sure = is_sure and len(self._unsure) == was_unsure
        del self._unsure[was_unsure:]
        return Possibility(why=_words(reasons), is_sure=is_sure)

    def _held_by(self, draft: Draft, wanted: tuple[Constraint, ...]) -> Possibility:
        """Return whether all *wanted* can hold together by this way."""
        tasks = self._planner.tasks_of(draft)
        why = self._failing(wanted, draft, tasks)
        if why is not None:
            return Possibility(why=why)
        # Without a deadline, tasks may wait as long as they want.
        limit = limit_of(wanted)
        if limit < math.inf:
            problem = problem_of(tasks, draft.workflow, self._means, constraints=wanted)
            timely = in_time(problem, ticks(limit), rounded(tasks))
            if timely.schedule is None:
                end = seconds_of(soonest(problem, math.inf, looks=False))
                return Possibility(why=f"it takes {end:g} s", is_sure=timely.is_sure)
        cheap = [
            each
            for each in self._constraints
            if isinstance(each, MaxCost | BudgetLeft)
            and self._failing((each,), draft, tasks) is None
        ]
        return Possibility(frozenset(cheap))

    def _earliest(self, conflict: tuple[Constraint, ...]) -> str:
        """Return in words the earliest end, alone and with the other constraints."""
        end = self._soonest(())
        if end == math.inf:
            return ""
        text = f"; the earliest end that was found is {end:g} s after it begins"
        others = tuple(one for one in conflict if not isinstance(one, Deadline))
        if others:
            end = self._soonest(others)
            if end < math.inf:
                text += f", and {end:g} s with {' and '.join(map(str, others))}"
        return text

    def _soonest(self, wanted: tuple[Constraint, ...]) -> float:
        """Return the earliest end of the ways that keep *wanted*, in seconds."""
        best = math.inf
        ways = 0
        bounds = self._bounds(wanted)
        if bounds is not None:
            bounds.cuts = True
        try:
            for each in self._source(bounds):
                ways += 1
                draft = self._drawn(each, wanted)
                if draft is None:
                    continue
                tasks = self._planner.tasks_of(draft)
                problem = problem_of(
                    tasks, draft.workflow, self._means, constraints=wanted
                )
                if failing(wanted, tasks, problem) is None:
                    end = soonest(problem, best * 1000, looks=ways <= _LOOKED)
                    best = min(best, seconds_of(end))
                    if bounds is not None:
                        # An end that is earlier by a rounding error only is no gain.
                        bounds.limit = best - seconds_of(len(tasks) + 2)
                if monotonic() > self._end:
                    break
        except PlanningError:
            pass
        return best


def _words(reasons: Iterable[str]) -> str:
    """Return the first reasons in words."""
    words = [*dict.fromkeys(reasons)]
    return ", or ".join(words[:_TOLD]) or "there is no way"


def _chosen_after(plan: ExecutionPlan, rejected: Sequence[str]) -> ExecutionPlan:
    """Return *plan* with the reasons against the ways before it."""
    if not rejected:
        return plan
    first = tuple((f"way {n}", why) for n, why in enumerate(rejected[:_WHOLE], 1))
    way = Choice(plan.request.type, f"way {len(rejected) + 1}", first)
    return attrs.evolve(plan, choices=(way, *plan.choices))


def _ordered(
    draft: Draft, constraints: Sequence[Constraint], tasks: Sequence[PlannedTask]
) -> Draft:
    """Return the draft with the waits of Before constraints, if without a cycle."""
    edges: list[tuple[str, str]] = []
    reasons = dict(draft.reasons)
    for each in constraints:
        for first, then in befores((each,), tasks):
            edges.append((first, then))
            reasons.setdefault((then, first), f"the constraint {each}")
    if not edges:
        return draft
    try:
        workflow = changed(draft.workflow, {}, edges)
    except TaskorchError:
        # The search for conflicts names it later.
        return draft
    return attrs.evolve(draft, workflow=workflow, reasons=reasons)
