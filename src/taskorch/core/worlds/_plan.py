"""A plan to simulate, and the means to carry it out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from copy import deepcopy
from graphlib import TopologicalSorter
from itertools import count, islice
from typing import TYPE_CHECKING, Any, Final

import attrs

from taskorch.core.engine import (
    Work,
    drawing,
    is_simple,
    needs_of,
    spec_of,
    terms_of,
    when,
)
from taskorch.core.engine._deciders import _STRUCTURE
from taskorch.core.engine._translation import id_of
from taskorch.core.kernel import (
    KernelConfig,
    Spec,
    Terms,
    assumed,
    declared,
    latest_finish_first,
    limits_of,
)
from taskorch.core.workflows import Workflow, _steps
from taskorch.core.workflows._graph import refuse_rings
from taskorch.core.workflows._names import stem_of, unused
from taskorch.errors import (
    DuplicateTaskError,
    InvalidTaskError,
    UnknownTaskError,
)
from taskorch.kit.visible import show
from taskorch.kit.words import some
from taskorch.model import (
    Agent,
    Call,
    Resources,
    Task,
    UnitNames,
    Units,
    Wait,
    kind_of,
    to_units,
)
from taskorch.policies._kinds import POLICIES, Policies

if TYPE_CHECKING:
    from taskorch.core.engine import Runtime

#: Functions of the tasks that a workflow adds by itself, which do no work.
_IDLE: Final = (_steps.gate, _steps.gathered)
#: One unit, in the numbers of pools.
_WHOLE: Final = 1_000_000
#: The number of tries to copy a policy that changes meanwhile.
_TRIES: Final = 3


class SimulatedPlan:
    """Tasks in the order of their submission, side by side in lists."""

    __slots__ = (
        "assumed",
        "firsts",
        "ids",
        "is_plain",
        "outside",
        "parents",
        "pools",
        "specs",
        "tasks",
        "terms",
    )

    def __init__(self) -> None:
        self.ids: list[str] = []
        #: The tasks of the user; some have no id: see `task`.
        self.tasks: list[Task] = []
        self.specs: list[Spec] = []
        #: The place of the first task of each spec.
        self.firsts: dict[Spec, int] = {}
        #: Whether each task may begin once its parents, which all precede it, have
        #: completed.
        self.is_plain: bool = True
        #: The places of the parents of each task.
        self.parents: list[Sequence[int]] = []
        #: The ids of parents outside the plan, by the place of the task.
        self.outside: dict[int, list[str]] = {}
        #: The conditions of tasks that do not wait for all parents to complete.
        self.terms: dict[int, Terms] = {}
        #: The pools of the plan itself: by `phase NAME`, how many of its tasks may run
        #: at once.
        self.pools: dict[str, int] = {}
        #: The assumptions, in sentences.
        self.assumed: list[str] = []

    def __len__(self) -> int:
        return len(self.ids)

    def task(self, place: int) -> Task:
        """Return the task as policies see it, with its id."""
        task = self.tasks[place]
        if task.id is None:
            task = self.tasks[place] = attrs.evolve(task, id=self.ids[place])
        return task

    def times(self, place: int, now: int) -> tuple[int | None, int | None]:
        """Return before when a task does not start, and its deadline, in ns."""
        task = self.tasks[place]
        return when(task.not_before, now), when(task.deadline, now)

    def latest_finish_first(self, known: Sequence[float | None]) -> Sequence[int]:
        """
        Return the places in the order in which the default queue takes the tasks.

        *known* has their durations in ns, as far as they are known.
        """
        lengths, above, order = assumed(known), self.parents, None
        if lengths is None:
            return range(len(self))
        if not self.is_plain:
            order = TopologicalSorter(dict(enumerate(above))).static_order()
        return latest_finish_first(range(len(self)), above, lengths, order)


@attrs.frozen(eq=False)
class Means:
    """The means of a plan: all settings of an orchestrator."""

    parts: Policies
    config: KernelConfig
    pools: Units
    workers: tuple[Agent, ...]
    #: The records of workers: by worker and type, `(completed, failed, latency_ns)`.
    records: Mapping[str, Mapping[str, tuple[int, int, float]]]
    #: The beginning, in ns since the epoch, because some tasks have a date.
    begins_ns: int
    #: The quotas, each with its owner and its limits.
    quotas: tuple[tuple[str, str, Units], ...] = ()
    #: The pools whose units have names.
    named: UnitNames = ()
    #: The size of each pool, with the units that are held by hand.
    totals: Mapping[str, int] = attrs.field(factory=dict[str, int])

    def fresh_parts(self) -> Policies:
        """
        Return copies of the policies, which are thrown away after a simulation.

        A policy that cannot be copied is used itself.
        """
        parts: dict[str, Any] = {
            name: _copied(getattr(self.parts, name)) for name in POLICIES
        }
        return Policies(**parts)

    def unbounded(self, tasks: int) -> Means:
        """Return means so large that no task waits for any of them."""
        names = [name for name, _ in self.pools]
        workers = [worker.name for worker in self.workers]
        more = self.more_slots(tasks).more_of(names, tasks).more_agents(workers, tasks)
        return attrs.evolve(more, quotas=())

    def more_slots(self, count: int) -> Means:
        """Return the same means with *count* more slots."""
        concurrency = self.config.concurrency + count
        config = attrs.evolve(self.config, concurrency=concurrency)
        return attrs.evolve(self, config=config)

    def more_of(self, names: Iterable[str], times: int) -> Means:
        """Return the same means with so many times the resources *names*."""
        more = dict.fromkeys(names)
        pools = tuple(
            (name, units * (1 + times) if name in more else units)
            for name, units in self.pools
        )
        # Additional units have no names.
        named = tuple([pair for pair in self.named if pair[0] not in more])
        return attrs.evolve(self, pools=pools, named=named)

    def more_agents(self, names: Iterable[str], times: int) -> Means:
        """Return the means with so many times the workers *names*, unlimited."""
        more = dict.fromkeys(names)
        workers = tuple(
            _multiplied(worker, 1 + times) if worker.name in more else worker
            for worker in self.workers
        )
        return attrs.evolve(self, workers=workers)


def _copied(part: Any) -> Any:
    for _ in range(_TRIES):
        try:
            return deepcopy(part)
        except RuntimeError:
            # The orchestrator may have changed it during the copy.
            continue
        except Exception:  # noqa: BLE001 - a lock, a connection, or whatever it holds
            break
    return part


def _multiplied(worker: Agent, times: int) -> Agent:
    capacity = worker.capacity
    if capacity is not None:
        units = tuple((name, amount * times) for name, amount in capacity.units)
        capacity = type(capacity).from_units(units)
    return attrs.evolve(worker, max_concurrency=None, capacity=capacity)


def means_of(runtime: Runtime, *, of_runs: bool = False) -> Means:
    """
    Return the means of an orchestrator, as if it were idle, without a change to it.

    Units that are held by hand are left out: nobody knows when they are given back. All
    workers that its worker pools may have are included. Quotas of runs are left out,
    unless *of_runs*: no task of a plan belongs to a run.
    """
    kernel = runtime.kernel
    joining = _pooled(runtime)
    with runtime.lock:
        rows = [row for row in kernel.workers.values() if not row.lost]
        infos = {row.name: row.info for row in rows}
        records = {
            row.name: {
                kind: (record.completed, record.failed, record.latency_ns)
                for kind, record in row.records.items()
            }
            for row in rows
        }
        infos.update((info.name, info) for info in (*runtime.joining, *joining))
        held: Counter[str] = Counter()
        for allocation in kernel.allocations.values():
            held.update(dict(allocation.units))
        totals = {
            pool.name: declared(pool)[0]
            for pool in kernel.pools.values()
            if not pool.is_quota
        }
        remaining = {name: max(0, n - held[name]) for name, n in totals.items()}
        named = tuple(
            (pool.name, tuple(pool.units.units)[: remaining[pool.name] // _WHOLE])
            for pool in kernel.pools.values()
            if pool.units is not None
        )
        # A named unit that is held in part cannot be given to a task of a plan.
        remaining |= {name: _WHOLE * len(units) for name, units in named}
        quotas = tuple(
            (*whose, limits_of(kernel, whose))
            for whose in kernel.quotas
            if of_runs or not whose[0].endswith("workflow")
        )
    return Means(
        parts=runtime.deciders.parts,
        config=kernel.config,
        pools=tuple(remaining.items()),
        named=named,
        # A lease is for workers that may be lost, and a plan loses none.
        workers=tuple(attrs.evolve(info, lease=None) for info in infos.values()),
        records=records,
        begins_ns=runtime.now(),
        quotas=quotas,
        totals=totals,
    )


def _pooled(runtime: Runtime) -> list[Agent]:
    """Return the workers that worker pools may add to the present ones."""
    if runtime.fleet is None:
        return []
    workers: list[Agent] = []
    for name, pool in runtime.fleet.pooled().items():
        template = pool.template
        if runtime.fleet.failing.why(name):
            continue
        with runtime.lock:
            here = {row.name for row in runtime.kernel.workers.values() if not row.lost}
            here.update(info.name for info in runtime.joining)
        mine = sum(1 for each in here if template.has_named(each))
        free = (n for n in count(1) if template.id_of(n) not in here)
        numbers = islice(free, max(0, pool.max_agents - mine))
        workers += [template.agent(template.id_of(number)) for number in numbers]
    return workers


# -- reading -----------------------------------------------------------------------


def takes_no_time(task: Task) -> bool:
    """Return whether *task* does no work: a wait, or a helper of a workflow."""
    payload = task.payload
    return isinstance(payload, Wait) or (
        isinstance(payload, Call) and payload.fn in _IDLE
    )


def plan_of(
    work: object,
    knows: Callable[[str], bool],
    budgets: Callable[[str], Container[str]] = lambda _: (),
) -> SimulatedPlan:
    """
    Return the plan of a workflow or of a list of tasks.

    *knows* tells whether the orchestrator has a task of an id already, *budgets* which
    resources a budget has.

    Raises:
        InvalidTaskError: It is neither.
        ValidationFailedError: A task is not well formed.
        DuplicateTaskError: Two tasks have one id.
        UnknownTaskError: A task waits for an unknown one.
        CycleError: Tasks wait for each other.
    """
    plan = SimulatedPlan()
    if isinstance(work, Workflow):
        _read_workflow(plan, work)
    elif isinstance(work, Iterable) and not isinstance(work, str | bytes | Task):
        _read_tasks(plan, list(work), knows)
    else:
        msg = f"a Workflow or a list of tasks is simulated, not {show(work)}"
        raise InvalidTaskError(msg)
    if plan.outside:
        names = [
            f"{above} (for {plan.ids[place]})"
            for place, others in plan.outside.items()
            for above in others
        ]
        plan.assumed.append(
            f"What is waited for outside of the plan, {some(names)}, is taken to have "
            "completed at the start."
        )
    specs: dict[Any, Spec] = {}
    for number, task in enumerate(plan.tasks):
        if (
            task.join != "all"
            or task.on_parent_failure != "block"
            or isinstance(task.payload, Wait)
        ):
            count = len(plan.parents[number]) + len(plan.outside.get(number, ()))
            terms = terms_of(task, count)
            if terms is not None:
                plan.terms[number] = terms
        key = kind_of(task)
        spec = specs.get(key) if key is not None else None
        if spec is None:
            spec = _spec_of(task, budgets)
            if key is not None:
                specs[key] = spec
            plan.firsts.setdefault(spec, number)
        plan.specs.append(spec)
        above = plan.parents[number]
        if (
            task.not_before is not None
            or task.deadline is not None
            or (above and max(above) > number)
        ):
            plan.is_plain = False
    plan.is_plain = plan.is_plain and not plan.terms and not plan.outside
    return plan


def _spec_of(task: Task, budgets: Callable[[str], Container[str]]) -> Spec:
    spec = spec_of(task)
    if task.budget is None:
        return spec
    # A plan does not know how much is spent, so that this limits nothing.
    return attrs.evolve(drawing(spec, "", budgets(task.budget)), spends=())


def _read_workflow(plan: SimulatedPlan, workflow: Workflow) -> None:
    place = {name: number for number, name in enumerate(workflow)}
    for name, above in workflow.dependencies.items():
        task = workflow[name].task
        _STRUCTURE.check(task)
        limit = workflow._limits.get(name)
        if limit is not None:
            phase = f"phase {limit[0]}"
            plan.pools[phase] = to_units(phase, limit[1])
            held = task.resources + Resources(**{phase: 1})
            task = attrs.evolve(task, resources=held)
        plan.ids.append(name)
        plan.tasks.append(task)
        plan.parents.append([place[parent] for parent in above])
        if task.after:
            others = [_outside(ref, name) for ref in task.after]
            plan.outside[place[name]] = list(dict.fromkeys(others))


def _read_tasks(
    plan: SimulatedPlan, tasks: list[Any], knows: Callable[[str], bool]
) -> None:
    _check_all(tasks)
    objects = {id(task): number for number, task in enumerate(tasks)}
    place = _name(plan, tasks)
    for number, (name, task) in enumerate(zip(plan.ids, tasks, strict=True)):
        needs = needs_of(task.payload) if isinstance(task.payload, Call) else ()
        if not needs and not task.after:
            plan.parents.append(())
            continue
        above: dict[int, None] = {}
        others: dict[str, None] = {}
        for ref in (*task.after, *needs):
            parent, outside_id = objects.get(id(ref)), ""
            if parent is None:
                outside_id = ref if isinstance(ref, str) else _outside(ref, name)
                parent = place.get(outside_id)
            if parent is not None:
                above[parent] = None
            elif not isinstance(ref, str) or knows(outside_id):
                others[outside_id] = None
            else:
                msg = f"task {name!r} needs {ref!r}, which is not in the plan"
                raise UnknownTaskError(msg, task_id=name)
        if others:
            plan.outside[number] = list(others)
        plan.parents.append(tuple(above))
    _refuse_rings(plan)


def _check_all(tasks: Iterable[Any]) -> None:
    """
    Check the form of *tasks*; of tasks that differ little, check one.

    Raises:
        InvalidTaskError: One is no Task.
        ValidationFailedError: One is not well formed.
    """
    seen: dict[Any, None] = {}
    for task in tasks:
        if not isinstance(task, Task):
            msg = f"a list of tasks has {show(task)}, which is no Task"
            raise InvalidTaskError(msg)
        # Only its payload and perhaps its parents are its own; in a list of tasks these
        # are always valid.
        is_common = (
            task.id is None
            and type(task.after) in (list, tuple)
            and all(type(above) is Task for above in task.after)
            and is_simple(task)
        )
        key = kind_of(task) if is_common else None
        if key is None or key not in seen:
            _STRUCTURE.check(task)
            if key is not None:
                seen[key] = None


def _refuse_rings(plan: SimulatedPlan) -> None:
    """
    Refuse tasks that wait for each other.

    Raises:
        CycleError: Some do; the shortest cycle is named.
    """
    # If each task stands after all its parents, there is no cycle.
    if any(above and max(above) >= number for number, above in enumerate(plan.parents)):
        ids = plan.ids
        refuse_rings(
            {
                name: [ids[number] for number in above]
                for name, above in zip(ids, plan.parents, strict=True)
            }
        )


def _name(plan: SimulatedPlan, tasks: Sequence[Task]) -> dict[str, int]:
    """Enter the tasks, each with an id; return the place of each id."""
    counts: dict[str, int] = {}
    places: dict[str, int] = {}
    for number, task in enumerate(tasks):
        if task.id is not None:
            if task.id in places:
                msg = f"two tasks of the plan have the id {task.id!r}"
                hint = "give one of them another"
                raise DuplicateTaskError(msg, hint=hint, task_id=task.id)
            places[task.id] = number
    for number, task in enumerate(tasks):
        name = task.id
        if name is None:
            name = unused(stem_of(task), places, counts)
            places[name] = number
        plan.ids.append(name)
        plan.tasks.append(task)
    return places


def _outside(ref: Any, name: str) -> str:
    """
    Return the id that *ref* stands for, which the task *name* needs.

    Raises:
        UnknownTaskError: It was never submitted.
    """
    ref_id = id_of(ref) if isinstance(ref, Work | Task) else ""
    if not ref_id:
        msg = f"task {name!r} needs {show(ref)}, which is not in the plan"
        raise UnknownTaskError(msg, task_id=name)
    return ref_id
