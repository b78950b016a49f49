"""The report on a plan: from the arguments of the user to numbers and sentences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property, partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import attrs

from taskorch.core.worlds import means_of, plan_of
from taskorch.errors import InvalidTaskError
from taskorch.ext.simulation._plans._chance import (
    Durations,
    Failures,
    history_of,
    odds_of,
)
from taskorch.ext.simulation._plans._picture import page
from taskorch.ext.simulation._plans._study import Study
from taskorch.kit.checks import built_in, check_count
from taskorch.kit.frozen import ReadOnly
from taskorch.kit.limits import NS
from taskorch.kit.visible import counted, show, visible
from taskorch.kit.words import duration, some
from taskorch.model import Agent, quantile

if TYPE_CHECKING:
    from taskorch.core.engine import Runtime
    from taskorch.model import Task


def number(value: float) -> str:
    """Return an amount with three figures, or more if it has a longer whole part."""
    if value >= 100 or value == int(value):  # noqa: PLR2004 - three figures
        return f"{round(value):,}"
    return f"{value:.3g}"


def percent(value: float) -> str:
    """Return a share in percent: `18 %`, `0.4 %`."""
    if 0 < value < 0.1:  # noqa: PLR2004 - what is shown
        return "less than 0.1 %"
    return f"{value:.2g} %" if value < 10 else f"{round(value):,} %"  # noqa: PLR2004 - two figures


_UNITS: Final = 1_000_000
#: The number of lines of one kind, and of names in one line, in a text.
_SHOWN: Final = 5
#: The group of tracks for waits, among the workers.
_WAITS: Final = "waits"
_PACE: Final = "More of anything would save nothing: the critical path sets the pace."


@attrs.frozen
class ScheduledAttempt:
    """
    One attempt of the schedule; times are seconds from the beginning.

    Attributes:
        task_id: The id of the task.
        start: When it begins, in seconds from the beginning.
        end: When it ends, in seconds from the beginning.
        agent_id: Its worker; empty for a wait.
        attempt: Counted from 1; 0 for a wait.
        outcome: `completed`, `failed` or `stopped`, as by a timeout; `waited`: it was
            no attempt, but a wait for something from outside.
    """

    task_id: str
    start: float
    end: float
    agent_id: str
    attempt: int
    outcome: str = "completed"


@attrs.frozen
class Use:
    """The use of slots and resources."""

    #: The attempts at once, in the whole orchestrator.
    slots: float
    #: The amounts in use, by resource.
    resources: Mapping[str, float]
    #: The attempts at once, by worker.
    agents: Mapping[str, float]


@attrs.frozen
class Saving:
    """The gain from one more of something; `str()` of it is a sentence."""

    #: `slot`, `resource`, `phase` or `agent`.
    kind: str
    #: The name of the resource or of the phase; for a worker, its capability.
    name: str
    #: The addition: 1, but for resources the demand of one more task.
    amount: float
    #: Seconds that the plan would then take.
    makespan: float
    #: The saving in percent of the makespan; below 0 if the plan gets longer.
    percent: float
    #: If one more saves nothing, the percent that plenty of it would save.
    plenty: float = 0.0

    @property
    def what(self) -> str:
        """The addition in words: `one more slot`, `512 more memory_mb`."""
        if self.kind == "agent":
            return f"one more worker for {self.name}"
        if self.kind == "phase":
            return f"one more at once in phase {self.name}"
        if self.amount == 1:
            return f"one more {self.name}"
        return f"{number(self.amount)} more {self.name}"

    def __str__(self) -> str:
        subject = _capital(self.what)
        if self.percent <= 0 < self.plenty:
            return f"{subject} would save nothing, but plenty {percent(self.plenty)}."
        if self.percent <= 0:
            return f"{subject} would save nothing."
        took = duration(self.makespan)
        return f"{subject} would save {percent(self.percent)}: it would take {took}."


@attrs.frozen(slots=False, eq=False, repr=False)
class SimulationReport:
    """
    A forecast of a plan, as `TaskOrchestrator.simulate` makes it.

    `str()` of it is the answer in sentences, and a notebook shows the schedule. With
    several draws, the schedule and its numbers are those of the median draw. The
    critical path and the savings take simulations of their own, which are made when
    they are first asked for.

    Attributes:
        makespan: Seconds from the beginning to the end of the last attempt or wait.
        p50: In half of the draws it takes no longer; in seconds.
        p90: In nine of ten draws it takes no longer; in seconds.
        makespans: Seconds of each draw, the shortest first.
        incomplete: Draws in which not every task completed; they end when nothing can
            go on.
        schedule: All attempts and waits, in the order in which they end.
        peak: The most in use at once.
        mean: The average use until the end.
        total: The total amounts; a worker without a limit has infinitely many slots.
        failed: Tasks that fail for good, and why.
        never: Tasks that never start, and why.
        assumed: The assumptions, in sentences.
    """

    makespan: float
    p50: float
    p90: float
    makespans: tuple[float, ...]
    incomplete: int
    schedule: tuple[ScheduledAttempt, ...]
    peak: Use
    mean: Use
    total: Use
    failed: Mapping[str, str]
    never: Mapping[str, str]
    assumed: tuple[str, ...]
    _study: Study = attrs.field(alias="study")

    @property
    def tasks(self) -> int:
        """The number of tasks in the plan."""
        return len(self._study.plan)

    @cached_property
    def _critical(self) -> tuple[tuple[str, ...], int]:
        places, length = self._study.critical_path()
        return tuple(self._study.plan.ids[place] for place in places), length

    @property
    def critical_path(self) -> tuple[str, ...]:
        """
        Ids of the chain that takes longest if nothing is scarce.

        Each begins when the one before it ends.
        """
        return self._critical[0]

    @property
    def critical_length(self) -> float:
        """Seconds that the critical path takes, with the delays in it."""
        return self._critical[1] / NS

    @cached_property
    def lower_bound(self) -> float:
        """
        Seconds that no schedule can beat with these means.

        The critical path, or all the work divided by the slots, by a resource or by
        the workers that can do it, whichever is longest.
        """
        return self._study.lower_bound(self._critical[1]) / NS

    @cached_property
    def savings(self) -> tuple[Saving, ...]:
        """The gain from one more of each scarce thing, the best first."""
        before = self._study.course.makespan
        savings = [
            Saving(
                change.kind,
                change.name,
                change.amount,
                after / NS,
                100.0 * (before - after) / before,
                0.0 if after < before else 100.0 * (before - plenty) / before,
            )
            for change, after, plenty in self._study.savings(self._critical[1])
        ]
        return tuple(sorted(savings, key=lambda s: (-s.percent, -s.plenty)))

    @property
    def bottleneck(self) -> Saving | None:
        """
        The saving that gains most.

        None if one more of anything gains nothing; then `savings` tells what plenty
        gains.
        """
        best = self.savings[0] if self.savings else None
        return best if best is not None and best.percent > 0 else None

    # -- text and pictures ---------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return its numbers as JSON has them."""
        saving = self.bottleneck
        return {
            "seconds": self.makespan,
            "p50": self.p50,
            "p90": self.p90,
            "tasks": self.tasks,
            "critical_path": [*self.critical_path],
            "lower_bound": self.lower_bound,
            "bottleneck": None if saving is None else str(saving),
        }

    def __repr__(self) -> str:
        tasks = counted(self.tasks, "task")
        return f"<SimulationReport: {tasks}, {duration(self.makespan)}>"

    def __str__(self) -> str:
        lines = [*self._length(), *self._pace()]
        if self.schedule:
            lines += self._uses()
            lines += self._advice()
        lines += _reasons(self.failed, "would fail for good")
        lines += _reasons(self.never, "could never run")
        return visible("\n".join([*lines, *self.assumed]))

    def _length(self) -> list[str]:
        tasks = counted(self.tasks, "task")
        if not self.schedule:
            return [f"{tasks}, of which none can run." if self.tasks else "No tasks."]
        took = duration(self.makespan)
        lines = [f"{tasks} would take {took}."]
        short = len(self.failed) + len(self.never)
        if short:
            done = f"{self.tasks - short:,} of {tasks}"
            lines = [f"{done} would complete; that would take {took}."]
        ran = [one.task_id for one in self.schedule if one.attempt]
        attempts = len(ran)
        again = attempts - len(dict.fromkeys(ran))
        if again:
            many = f"{again:,} are retries" if again > 1 else "1 is a retry"
            lines.append(f"Of {attempts:,} attempts, {many}.")
        draws = len(self.makespans)
        if draws > 1:
            lines.append(
                f"Of {draws:,} draws, half take at most {duration(self.p50)}, and nine "
                f"in ten at most {duration(self.p90)}."
            )
            if self.incomplete:
                lines.append(
                    f"In {self.incomplete:,} of them, not every task would complete."
                )
        return lines

    def _pace(self) -> list[str]:
        if not self.makespan:
            return []
        path, bound = self.critical_path, self.lower_bound
        names = " → ".join(path[:_SHOWN])
        if len(path) > _SHOWN:
            names += f" → … ({len(path) - _SHOWN:,} more)"
        lines = [f"Its critical path takes {duration(self.critical_length)}: {names}."]
        if self.makespan <= bound:
            lines.append("No schedule is shorter with what there is.")
        else:
            above = percent(100 * (self.makespan / bound - 1)) if bound else "far"
            lines.append(
                f"No schedule takes less than {duration(bound)} with what there is: "
                f"this one is {above} above that."
            )
        return lines

    def _uses(self) -> list[str]:
        peak, mean, total = self.peak, self.mean, self.total
        uses = [("slots", peak.slots, mean.slots, total.slots)]
        uses += [
            (name, most, mean.resources[name], total.resources[name])
            for name, most in peak.resources.items()
            if most
        ]
        busy = sorted(
            (name for name in peak.agents if name != Agent.LOCAL and peak.agents[name]),
            key=lambda name: -mean.agents[name] / total.agents[name],
        )
        uses += [
            (f"worker {name}", peak.agents[name], mean.agents[name], total.agents[name])
            for name in busy[:_SHOWN]
        ]
        rows = [
            (
                label,
                number(most)
                if limit == float("inf")
                else f"{number(most)} of {number(limit)}",
                number(usual),
            )
            for label, most, usual, limit in uses
        ]
        wide = max(len(label) for label, _, _ in rows)
        broad = max(len(most) for _, most, _ in rows)
        lines = ["In use, at the peak and on average:"]
        lines += [f"  {a:<{wide}}  {b:<{broad}}  {c}" for a, b, c in rows]
        if len(busy) > _SHOWN:
            lines.append(f"  … and {counted(len(busy) - _SHOWN, 'more worker')}")
        return lines

    def _advice(self) -> list[str]:
        if not self.savings:
            if self.makespan and self.makespan <= self.critical_length:
                return [_PACE]
            return []
        good = [s for s in self.savings if s.percent > 0 or s.plenty > 0]
        lines = [str(saving) for saving in good[:_SHOWN]]
        useless = [s.what for s in self.savings if s not in good]
        if useless:
            names = " or ".join(useless[:_SHOWN])
            alone = " by itself" if len(self.savings) > 1 else ""
            more = " or …" if len(useless) > _SHOWN else ""
            lines.append(f"{_capital(names)}{more} would save nothing{alone}.")
        return lines

    def _repr_html_(self) -> str:
        ids = self._study.plan.ids
        bars = [
            (ids[place], start, end, worker or _WAITS, attempt, outcome)
            for place, start, end, worker, attempt, outcome, _ in (
                self._study.course.spans
            )
        ]
        return page(str(self), bars, dict.fromkeys(self.critical_path))


def _reasons(reasons: Mapping[str, str], predicate: str) -> list[str]:
    if not reasons:
        return []
    count = len(reasons)
    lines = [f"{counted(count, 'task')} {predicate}:"]
    lines += [f"  {name}: {why}" for name, why in islice(reasons.items(), _SHOWN)]
    if count > _SHOWN:
        lines.append(f"  … and {count - _SHOWN:,} more")
    return lines


def report_of(study: Study) -> SimulationReport:
    """Return the report on *study*."""
    course, means, ids = study.course, study.means, study.plan.ids
    slots = 0
    held: dict[str, int] = {}
    busy: dict[str, int] = {}
    schedule: list[ScheduledAttempt] = []
    for place, start, end, worker, attempt, outcome, alloc in course.spans:
        took = end - start
        if attempt:
            slots += took
            busy[worker] = busy.get(worker, 0) + took
        for name, units in alloc:
            held[name] = held.get(name, 0) + units * took
        schedule.append(
            ScheduledAttempt(ids[place], start / NS, end / NS, worker, attempt, outcome)
        )
    whole = course.makespan or 1
    pools = [name for name, _ in means.pools]
    workers = [worker.name for worker in means.workers]
    lengths = study.makespans
    return SimulationReport(
        makespan=course.makespan / NS,
        p50=quantile(lengths, 50) / NS,
        p90=quantile(lengths, 90) / NS,
        makespans=tuple(length / NS for length in lengths),
        incomplete=study.incomplete,
        schedule=tuple(schedule),
        peak=Use(
            course.peak_slots,
            ReadOnly({n: course.peak_pools.get(n, 0) / _UNITS for n in pools}),
            ReadOnly({name: course.peak_workers.get(name, 0) for name in workers}),
        ),
        mean=Use(
            slots / whole,
            ReadOnly({name: held.get(name, 0) / _UNITS / whole for name in pools}),
            ReadOnly({name: busy.get(name, 0) / whole for name in workers}),
        ),
        total=Use(
            means.config.concurrency,
            ReadOnly({name: units / _UNITS for name, units in means.pools}),
            ReadOnly(
                {
                    worker.name: float("inf")
                    if worker.max_concurrency is None
                    else worker.max_concurrency
                    for worker in means.workers
                }
            ),
        ),
        failed=ReadOnly(course.failed),
        never=ReadOnly(course.never),
        assumed=tuple(study.plan.assumed),
        study=study,
    )


def _capital(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}"


def simulate(
    runtime: Runtime,
    work: object,
    durations: Durations,
    failures: Failures,
    draws: int,
    seed: int,
) -> SimulationReport:
    """See `TaskOrchestrator.simulate`."""
    check_count("draws", draws, least=1)
    if isinstance(seed, bool) or not isinstance(seed, int):
        msg = f"seed is an integer, not {show(seed)}"
        raise InvalidTaskError(msg)
    kernel = runtime.kernel

    def drawn(budget: str) -> frozenset[str]:
        if budget not in kernel.budgets:
            return frozenset()
        budgets = built_in("budgets._kernel", "a budget")
        return frozenset(budgets.drawn_from(kernel, budget))

    plan = plan_of(
        work,
        lambda name: name in kernel.tasks or name in kernel.evicted,
        drawn,
    )
    with runtime.lock:
        plan.assumed += _beyond_budgets(runtime, plan.tasks)
    if runtime.governor is not None:
        tasks = map(plan.task, range(len(plan)))
        plan.assumed += runtime.governor.foreseen(tasks)
    if runtime.deciders.limits:
        plan.assumed.append(
            f"The limits of the program, {some([*runtime.deciders.limits])}, hold "
            "nothing up: what they say, they say of now."
        )
    if kernel.workflows:
        plan.assumed.append(
            f"The quotas of runs, {some([*kernel.workflows])}, bound nothing: no task "
            "of a plan is of a run."
        )
    odds = odds_of(
        plan, durations, failures, partial(history_of, runtime), spread=draws > 1
    )
    return report_of(Study(means_of(runtime), plan, odds, draws, seed))


def _beyond_budgets(runtime: Runtime, tasks: Iterable[Task]) -> list[str]:
    """Return sentences on budgets of which *tasks* need more than is left."""
    budgets = runtime.kernel.budgets
    needs: dict[tuple[str, str], int] = {}
    for task in tasks if budgets else ():
        name = task.budget or ""
        units = dict(task.resources.units)
        while name in budgets:
            for resource in units.keys() & budgets[name].pools.keys():
                key = name, resource
                needs[key] = needs.get(key, 0) + units[resource]
            name = budgets[name].parent
    sentences = []
    for (name, resource), need in sorted(needs.items()):
        pool = budgets[name].pools[resource]
        rest = max(0, pool.total - pool.used)
        if need > rest and not budgets[name].is_open:
            sentences.append(
                f"Of budget {name}, {rest / 1e6:.12g} {resource} are left, and the "
                f"tasks reserve {need / 1e6:.12g}: here, that keeps none of them "
                "waiting."
            )
    return sentences
