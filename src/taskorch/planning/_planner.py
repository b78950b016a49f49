"""
`orch.planner`: from a request to a plan that is right, estimated and in order.

Decisions: 0086, 0114.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import (
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import suppress
from datetime import UTC, datetime
from numbers import Real
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast, overload

import attrs

from taskorch.adaptive import Chosen, Learning, Value
from taskorch.errors import (
    InvalidTaskError,
    PlanningError,
    TaskorchError,
)
from taskorch.events import (
    Event,
)
from taskorch.kit.checks import check_count, check_seconds
from taskorch.kit.limits import NS
from taskorch.kit.visible import show
from taskorch.kit.vocabulary import guess
from taskorch.model import Resources, Task, TaskFilter, TaskState
from taskorch.planning._domain import (
    MAX_SECONDS,
    MAX_STEPS,
    Decomposition,
    Domain,
    cost_of,
)
from taskorch.planning._estimates import Estimator, Measurements
from taskorch.planning._feasibility import (
    DEFAULT_RULE,
    fits,
    in_time,
    limit_of,
    named_by,
    need_of,
    rounded,
    seconds_of,
    soonest,
    ticks,
)
from taskorch.planning._gtpyhop import GtpyhopDomain
from taskorch.planning._learning import (
    MARK,
    Bandit,
    Chooser,
    evaluate,
    mark_of,
    worth,
)
from taskorch.planning._patterns import Proposal, Template, proposals
from taskorch.planning._problems import (
    changed,
    critical_path,
    dependencies_of,
    factors_of,
    like,
    needs_of,
    problem_of,
    requirements_of,
    shape_of,
)
from taskorch.planning._replanning import (
    Begun,
    begun_of,
    from_here,
    left_of,
    rest_of,
)
from taskorch.planning._scheduling import (
    RULES,
    Aim,
    Problem,
    Schedule,
    aims_of,
    improve_agents,
    in_order,
    parallel,
    topological,
)
from taskorch.planning._stages import (
    DependencyResolver,
    Draft,
    Given,
    InterferenceResolver,
    LibraryDecomposer,
    PlanOptimizer,
    PlanValidator,
    RequestParser,
    RuleParser,
    SearchOptimizer,
    SimulatedValidator,
    TaskDecomposer,
    task_of,
)
from taskorch.planning._values import (
    COST,
    Before,
    BudgetLeft,
    Constraint,
    Deadline,
    ExecutionPlan,
    MaxCost,
    MaxPeak,
    PlanFinding,
    PlannedTask,
    Quantity,
    ResourceEstimate,
    TaskRequest,
    ValidationResult,
    budget_of,
    rates_of,
)
from taskorch.planning._waits import few_waits, peaks_to_keep, waits_that_keep
from taskorch.planning._ways import Ways
from taskorch.policies._router import PINNED
from taskorch.runtime import after_of, listed
from taskorch.runtime._memo import UndescribedError, digest_of
from taskorch.simulation._plans._plan import Means, means_of
from taskorch.simulation._plans._report import simulate
from taskorch.workflows import Workflow

if TYPE_CHECKING:
    from taskorch.runtime import Runtime

#: Plans that are kept.
_KEPT: Final = 256
#: Of a normal distribution, how far the P90 is from the median.
_Z90: Final = 1.2816
#: Tasks from which on a plan stays as it was if there is no time to look for another.
_LARGE: Final = 500
#: When a limit is near: this share of it is taken.
_NEAR: Final = 0.8


D = TypeVar("D", Domain, GtpyhopDomain)


class Planner:
    """
    Makes plans of requests, and says what they take.

    It has five stages, each of which can be replaced by an object with its one method:
    `parser`, `decomposer`, `resolver`, `optimizer`, `validator`.

    Args:
        runtime: The orchestrator's.
    """

    def __init__(
        self,
        # Any: the public type does not drag the runtime along.
        runtime: Any,
    ) -> None:
        self._rt: Runtime = runtime
        #: The stages.
        self.parser: RequestParser = RuleParser(
            lambda: datetime.fromtimestamp(runtime.now() / NS, UTC)
        )
        self.decomposer: TaskDecomposer = LibraryDecomposer(self)
        self.resolver: DependencyResolver = InterferenceResolver()
        self.optimizer: PlanOptimizer = SearchOptimizer()
        self.validator: PlanValidator = SimulatedValidator(self)
        #: What tasks take, from what was measured.
        self.estimator: Estimator = Estimator()
        #: The domains and the templates by their names.
        self.domains: dict[str, Domain | GtpyhopDomain] = {}
        self.templates: dict[str, Template] = {}
        self._lock = threading.RLock()
        self._measurements = Measurements(runtime)
        self._chooser = Chooser(runtime)
        self._cache: OrderedDict[str, tuple[dict[str, Any], ExecutionPlan]] = (
            OrderedDict()
        )
        #: By their shapes, plans with the drafts that they were made of.
        self._shapes: OrderedDict[str | None, tuple[Draft, ExecutionPlan]] = (
            OrderedDict()
        )
        #: Questions about proposals that nobody has answered yet.
        self._asked: list[tuple[Any, Proposal, str | None]] = []

    # -- what is known -------------------------------------------------------------

    @overload
    def domain(self, name: str) -> Domain: ...

    @overload
    def domain(self, name: D) -> D: ...

    def domain(self, name: str | Domain | GtpyhopDomain) -> Any:
        """The domain *name*, which is made if there is none; or take one in."""
        if isinstance(name, Domain | GtpyhopDomain):
            self.domains[name.name] = name
            return name
        if name not in self.domains:
            self.domains[name] = Domain(name)
        return self.domains[name]

    def template(
        self, name: str, *, version: str = "1"
    ) -> Callable[[Callable[..., Workflow]], Callable[..., Workflow]]:
        """
        Decorate a function that makes the workflow of requests of the type *name*.

        Args:
            name: The type. One that is known is replaced if the version is another.
            version: The version.

        Raises:
            InvalidTaskError: There is one of this name and version.
        """

        def add(build: Callable[..., Workflow]) -> Callable[..., Workflow]:
            if not callable(build):
                msg = f"a template is a function, not {show(build)}"
                raise InvalidTaskError(msg)
            existing = self.templates.get(name)
            if existing is not None and existing.version == version:
                msg = f"there is a template {name!r} of version {version} already"
                raise InvalidTaskError(msg, hint="say another version=")
            self.templates[name] = Template(name, version, build)
            return build

        return add

    def types(self) -> tuple[str, ...]:
        """The types of requests that can be planned."""
        names = [name for domain in self.domains.values() for name in domain.tasks]
        agents = means_of(self._rt).agents
        names += [*self.templates, *(c for a in agents for c in sorted(a.capabilities))]
        return tuple(dict.fromkeys(names))

    def prefer(self, task: str, methods: Sequence[str]) -> str | None:
        """Which method of a task is tried first; None: as they stand."""
        return self._chooser.method(task, methods)

    # -- planning ------------------------------------------------------------------

    def plan(
        self,
        request: Given,
        *,
        cache: bool = False,
        learn: bool = True,
        max_seconds: float = MAX_SECONDS,
        max_steps: int = MAX_STEPS,
    ) -> ExecutionPlan:
        """
        The plan of a request; nothing is started.

        Args:
            request: A `TaskRequest`, a document of one, or a text.
            cache: Whether a plan that was made for the same may be given again. What
                functions look at besides, such as files and tables, is not looked at.
            learn: Whether methods may be chosen by what was learnt, if it `learns`.
            max_seconds: Seconds before the search is given up.
            max_steps: Steps of the search in a domain before it is given up.

        Raises:
            UsageError: The request is not well formed.
            PlanningError: No plan meets it: `conflict` has the fewest constraints that
                cannot hold together, `trace` what was tried.
        """
        max_seconds = check_seconds("max_seconds", max_seconds, zero=False)
        check_count("max_steps", max_steps, least=1)
        with self._lock:
            self._take_answers()
            self._learn()
        asked = self.parser.parse(request, self.types())
        if not isinstance(asked, TaskRequest):
            msg = f"the parser gave {show(asked)}: a TaskRequest is needed"
            raise PlanningError(msg)
        means = means_of(self._rt)
        self._refuse_past(asked)
        self._refuse_unknown(asked, means)
        key, why = self._key(asked) if cache else (None, "not asked")
        if key is not None:
            plan_of_before, why = self._cached(key, asked)
            if plan_of_before is not None:
                return plan_of_before
        # Nobody waits for a search: it may take long, and calls what is the user's.
        with self._chooser.choosing(learn=learn) as chosen:
            limits = {"max_steps": max_steps, "max_seconds": max_seconds}
            plan = Ways(self, asked, means, limits, cache=key is not None).plan()
            plan = self._marked(plan, chosen or ())
        if plan.cache != "hit":
            plan = attrs.evolve(plan, cache=why)
        if key is not None:
            self._keep(key, plan)
        return plan

    def replan(
        self,
        run: Any,
        plan: ExecutionPlan | None = None,
        *,
        max_seconds: float = MAX_SECONDS,
        max_steps: int = MAX_STEPS,
    ) -> ExecutionPlan:
        """
        The plan of what is left of a run: what it has done, or goes on with, stays.

        Nothing is started, and nothing of the run is stopped. The tasks of the plan
        wait for those of the run that they need.

        Args:
            run: A run of a plan, as `orch.workflows` gives it.
            plan: The plan that it was started by; None: the one that the run knows.
            max_seconds: Seconds before a search is given up.
            max_steps: Steps of a search in a domain before it is given up.

        Raises:
            InvalidTaskError: It is no run, or *plan* is no plan.
            PlanningError: No plan leads on from there, or it is not known by which plan
                the run was started.
        """
        max_seconds = check_seconds("max_seconds", max_seconds, zero=False)
        check_count("max_steps", max_steps, least=1)
        if not hasattr(run, "workflow_id") or not hasattr(run, "handles"):
            msg = f"a run of a plan is planned anew, not {show(run)}"
            raise InvalidTaskError(msg, hint="orch.workflows.get(id) gives a run")
        plan = getattr(run, "plan", None) if plan is None else plan
        if plan is None:
            msg = f"it is not known by which plan run {run.workflow_id} was started"
            raise PlanningError(msg, hint="say it: replan(run, plan)")
        _check_plan(plan)
        with self._lock:
            self._learn()
        means = means_of(self._rt)
        begun = begun_of(plan, run, self._rt.now())
        request = rest_of(plan.request, plan, begun)
        self._refuse_past(request)
        self._refuse_unknown(request, means)
        limits = {"max_steps": max_steps, "max_seconds": max_seconds}
        failure: PlanningError | None = None
        for ways, rest in self._ways_on(request, plan, begun, limits):
            try:
                new_plan = Ways(
                    self, request, means, limits, ways=ways, rest=rest
                ).plan()
                return attrs.evolve(new_plan, cache="not asked")
            except PlanningError as error:
                failure = failure if failure and failure.conflict else error
        assert failure is not None  # noqa: S101 - there is a way to try at least
        raise failure

    def _ways_on(
        self,
        request: TaskRequest,
        plan: ExecutionPlan,
        begun: Begun,
        limits: dict[str, Any],
    ) -> Iterator[tuple[Iterable[Any], Callable[[Draft], Draft | None]]]:
        """
        Ways to go on from a run, the best kind first, and what is left of each.

        First the same with other steps in place of what has failed, then from where it
        is now. Then what has failed is done once more, and other ways with it.
        """
        library: Any = self.decomposer
        is_ours = isinstance(library, LibraryDecomposer)
        domain = library.domain_of(request) if is_ours else None
        if domain is None:
            ways = library.decompose(request, **(limits if is_ours else {}))
            yield (
                ways,
                lambda draft: left_of(draft, begun.same_in(draft.workflow), begun),
            )
            return
        task, state = task_of(domain, request)
        for refused in (begun.refused(), ()) if begun.failed else ((),):
            if not refused:
                yield (
                    [begun.as_it_stands(plan)],
                    lambda draft: left_of(draft, begun.same_in(draft.workflow), begun),
                )

            def onward(state: Any, refused: Any = refused) -> Iterator[Decomposition]:
                yield from domain.decompositions(task, state, without=refused, **limits)

            def beside(draft: Draft, is_first: bool = bool(refused)) -> Draft | None:
                same = begun.same_in(draft.workflow)
                again = [
                    name
                    for name in begun.failed
                    if name in draft.workflow and begun.is_same(name, draft.workflow)
                ]
                if len(same) < len(begun.kept) or (is_first and again):
                    return None
                remaining = left_of(draft, same, begun)
                return remaining if len(remaining.earlier) == len(same) else None

            def after(draft: Draft) -> Draft | None:
                done = list(draft.workflow)[: len(begun.kept)]
                return left_of(draft, dict(zip(done, begun.kept, strict=True)), begun)

            yield onward(state), beside
            yield from_here(begun, domain, state, onward), after

    def in_order(
        self,
        request: TaskRequest,
        draft: Draft,
        tasks: Sequence[PlannedTask],
        means: Means,
        constraints: Sequence[Constraint],
        cache: bool,
    ) -> tuple[ExecutionPlan | None, str, bool]:
        """
        The plan of a draft that keeps its *constraints*, or of one of its shape.

        None if there is none; then why, and whether that is sure.
        """
        shape = self._shape(request, draft, tasks, constraints) if cache else None
        with self._lock:
            of_shape = self._shapes.get(shape)
        if of_shape is not None:
            return like(*of_shape, draft, request), "", True
        problem = problem_of(tasks, draft.workflow, means, constraints=constraints)
        plan = self._plan_of(request, draft, tasks, problem, constraints)
        kept, why, is_sure = self._keeping(plan, constraints, means)
        if shape is not None and kept is not None:
            with self._lock:
                _remember(self._shapes, shape, (draft, kept))
        return kept, why, is_sure

    def _keeping(
        self, plan: ExecutionPlan, constraints: Sequence[Constraint], means: Means
    ) -> tuple[ExecutionPlan | None, str, bool]:
        """*plan* in an order that keeps *constraints*; None: why not, and if sure."""
        tasks = plan.tasks
        problem = problem_of(tasks, plan.workflow, means, constraints=constraints)
        limit = limit_of(constraints)
        aim = Aim({"makespan": 1.0}, problem, plan)
        peaks = peaks_to_keep(constraints, tasks, dict(means.pools))
        is_paced = problem.lengths is not None and limit < math.inf
        was = self._timed(plan, constraints, aim, problem)
        if not (was.breaks or peaks or is_paced):
            return plan, "", True
        most = ticks(limit) if limit < math.inf else limit
        timely = in_time(problem, most, rounded(tasks))
        schedule = timely.schedule
        if schedule is None and limit == math.inf:
            # It never runs here: whoever validates it is told so.
            return plan, "", True
        if schedule is None:
            seconds = seconds_of(soonest(problem, math.inf, looks=False))
            return None, f"it takes {seconds:g} s", timely.is_sure
        why = ""
        for waits in waits_that_keep(
            problem, schedule, peaks, self._loose(plan, means)
        ):
            ordered = self._made_of(plan, problem, schedule, waits)
            timed = self._timed(ordered, constraints, aim, problem, schedule)
            if not timed.breaks:
                return timed.plan, "", True
            why = f"{timed.breaks[0]} does not hold in virtual time"
        return None, why, False

    def _loose(self, plan: ExecutionPlan, means: Means) -> Problem:
        """The problem of a plan as the orchestrator has it, whatever may be used."""
        return problem_of(plan.tasks, plan.workflow, means)

    def constraints_of(self, request: TaskRequest) -> tuple[Constraint, ...]:
        """
        Those of a request, with its deadline, and what is left of its budget.

        Raises:
            PlanningError: There is no such budget.
        """
        deadline = request.deadline
        constraints = request.constraints
        if isinstance(deadline, datetime):
            deadline = max(0.0, deadline.timestamp() - self._rt.now() / NS)
        if deadline is not None:
            constraints = (*constraints, Deadline(float(deadline)))
        return (*constraints, *self._left(request))

    def _left(self, request: TaskRequest) -> list[BudgetLeft]:
        """What is left of the budget that a request draws on, and of those above."""
        name = budget_of(request.constraints)
        rt = self._rt
        rt.look_up()
        amounts = []
        with rt.lock:
            budgets = rt.kernel.budgets
            if name is not None and name not in budgets:
                msg = f"request {request.id!r}: there is no budget {show(name)}"
                hint = f"orch.budget({show(name)}, cost=…) declares it"
                near = guess(name, budgets)
                raise PlanningError(
                    msg + near, conflict=(f"the budget {name}",), hint=hint
                )
            while name in budgets:
                row = budgets[name]
                if not row.is_open:
                    amounts += [
                        BudgetLeft(name, resource, max(0, each.total - each.used) / 1e6)
                        for resource, each in row.pools.items()
                    ]
                name = row.parent
        return amounts

    def _refuse_past(self, request: TaskRequest) -> None:
        deadline = request.deadline
        if isinstance(deadline, datetime):
            seconds_left = deadline.timestamp() - self._rt.now() / NS
            if seconds_left <= 0:
                msg = f"the deadline of request {request.id!r} was "
                msg += f"{-seconds_left:.0f} s ago"
                raise PlanningError(
                    msg, conflict=("the deadline",), hint="say a later one"
                )

    def _refuse_unknown(self, request: TaskRequest, means: Means) -> None:
        """
        Refuse what no worker has, where there are workers.

        Raises:
            PlanningError: A requirement is unknown.
        """
        capabilities = sorted({c for agent in means.agents for c in agent.capabilities})
        labels = {label for agent in means.agents for label in agent.labels}
        offered = labels.union(capabilities)
        missing = [need for need in request.requirements if need not in offered]
        if missing and capabilities:
            near = guess(missing[0], capabilities)
            msg = f"no agent has what request {request.id!r} requires: "
            msg += f"{', '.join(map(repr, missing))}{near}"
            raise PlanningError(
                msg,
                conflict=tuple(f"the requirement {need}" for need in missing),
                hint=f"agents have {', '.join(capabilities)}",
            )

    def refuse_strange(
        self, request: TaskRequest, tasks: Sequence[PlannedTask], means: Means
    ) -> None:
        """
        Refuse constraints of what is nowhere: a resource, a task.

        Raises:
            PlanningError: A name in a constraint is unknown.
        """
        for each in request.constraints:
            if isinstance(each, MaxPeak):
                names = {
                    *dict(means.pools),
                    *(r for task in tasks for r in task.resources),
                }
                names.update(r for agent in means.agents for r in agent.capacity or ())
                self._refuse_name(request, each, "resource", each.resource, names)
            elif isinstance(each, Before):
                names = {one for task in tasks for one in (task.id, task.type)}
                # Another way may have it.
                names.update(self.types())
                for name in (each.first, each.then):
                    self._refuse_name(request, each, "task", name, names)

    def _refuse_name(
        self,
        request: TaskRequest,
        constraint: Constraint,
        what: str,
        name: str,
        known: Collection[str],
    ) -> None:
        if name not in known:
            msg = f"request {request.id!r}: {constraint}: there is no {what} {name!r}"
            raise PlanningError(
                msg + guess(name, known),
                conflict=(str(constraint),),
                hint=f"there are {', '.join(sorted(known)) or 'none'}",
            )

    def with_request(self, draft: Any, request: TaskRequest) -> Draft:
        """What a request says of all its tasks."""
        if not isinstance(draft, Draft) or not isinstance(draft.workflow, Workflow):
            msg = f"the resolver gave {show(draft)}: a Draft of a workflow is needed"
            raise PlanningError(msg)
        options: dict[str, dict[str, Any]] = {}
        budget = budget_of(request.constraints)
        for name in draft.workflow:
            task = draft.workflow[name].task
            changes: dict[str, Any] = {}
            if request.priority:
                changes["priority"] = task.priority + request.priority
            needs = needs_of(task)
            if request.requirements and needs is not None:
                changes["requires"] = tuple(sorted(needs | {*request.requirements}))
            if request.deadline is not None and task.deadline is None:
                changes["deadline"] = request.deadline
            if budget is not None and task.budget is None:
                changes["budget"] = budget
            if changes:
                options[name] = changes
        if not options:
            return draft
        return attrs.evolve(draft, workflow=changed(draft.workflow, options))

    def tasks_of(self, draft: Draft) -> list[PlannedTask]:
        """What is known of the tasks of a draft."""
        # What is known may be added to meanwhile.
        with self._lock:
            return self._tasks_of(draft)

    def _tasks_of(self, draft: Draft) -> list[PlannedTask]:
        tasks = []
        for name, above in draft.workflow.dependencies.items():
            task = draft.workflow[name].task
            cost = cost_of(task.type, draft.costs.get(name, 0.0))
            cost = cost or task.resources.get(COST, 0.0)
            measured = None if cost else self.estimator.cost(task.type, task.payload)
            tasks.append(
                PlannedTask(
                    id=name,
                    type=task.type,
                    duration=self._duration(task),
                    cost=cost if measured is None else float(measured),
                    resources=task.resources,
                    memory_mb=self.estimator.memory(task.type, task.payload),
                    agent=(task.metadata or {}).get(PINNED),
                    after=above,
                )
            )
        return tasks

    def _duration(self, task: Task) -> Quantity:
        if task.expected is not None:
            return self.estimator.stated(task.type, task.expected)
        return self.estimator.duration(task.type, task.payload)

    def _plan_of(
        self,
        request: TaskRequest,
        draft: Draft,
        tasks: Sequence[PlannedTask],
        problem: Problem,
        constraints: Sequence[Constraint],
    ) -> ExecutionPlan:
        order = topological(problem.parents, RULES[DEFAULT_RULE](problem))
        starts, ends = parallel(problem, order)
        options: dict[str, dict[str, Any]] = {
            task.id: {"expected": float(task.duration)}
            for task in tasks
            if draft.workflow[task.id].task.expected is None
        }
        for task in tasks:
            own = draft.workflow[task.id].task
            if task.cost and _bounds_cost(constraints, own.budget):
                more = _with_cost(own.resources, task.cost)
                options.setdefault(task.id, {})["resources"] = more
        plan = ExecutionPlan(
            id=request.id,
            request=request,
            workflow=changed(draft.workflow, options),
            tasks=tuple(tasks[n] for n in order),
            dependencies=dependencies_of(draft.workflow, draft.reasons),
            resource_requirements=requirements_of(problem, starts, tasks),
            estimated_duration=Quantity(max(ends, default=0) / 1000),
            estimated_cost=round(math.fsum(task.cost for task in tasks), 9),
            critical_path=critical_path(problem, tasks),
            choices=draft.choices,
            whole=draft.whole,
            earlier=draft.earlier,
        )
        aim = Aim({"makespan": 1.0}, problem, plan)
        return self._timed(plan, constraints, aim, problem).plan

    def _timed(
        self,
        plan: ExecutionPlan,
        constraints: Sequence[Constraint],
        aim: Aim,
        problem: Problem,
        schedule: Schedule | None = None,
    ) -> _Timed:
        """
        *plan* with what the simulator says of its duration, and what binds.

        The simulator knows no workers that differ: of these the *schedule* says it.
        """
        seconds, source = float(plan.estimated_duration), "simulated"
        cost = math.fsum(task.cost for task in plan.tasks)
        peak = 1.0
        peaks: Mapping[str, float] = {}
        has_ended = False
        with suppress(TaskorchError):
            report = self._simulated(plan)
            if not report.never and not report.failed:
                seconds = report.makespan
                peaks = report.peak.resources
                peak = aim.peak_of(report.peak.slots, peaks)
                has_ended = True
        value = aim.worth(seconds * 1000, 0.0, peak)
        if schedule is not None and problem.lengths is not None:
            seconds, source = schedule.makespan / 1000, "scheduled"
            cost += problem.cost(schedule)
            value = aim.value(schedule)
        by_id = {task.id: task.duration for task in plan.tasks}
        spread = math.fsum(
            ((by_id[name].p90 - float(by_id[name])) / _Z90) ** 2
            for name in plan.critical_path
        )
        high = seconds + _Z90 * math.sqrt(spread)
        plan = attrs.evolve(
            plan,
            estimated_duration=Quantity(seconds, high, source),
            estimated_cost=round(cost, 9),
        )
        limits = _limits(constraints, plan.tasks, seconds, cost, peaks)
        breaks = tuple(each for each, used, limit in limits if used > limit + 1e-6)
        plan = attrs.evolve(plan, binding=_binding(plan, constraints))
        return _Timed(plan, breaks, len(breaks) + (not has_ended), value)

    def _simulated(self, plan: ExecutionPlan) -> Any:
        return simulate(self._rt, plan.workflow, dict(plan.durations), None, 1, 0)

    # -- the rest of what the seed asks --------------------------------------------

    def validate(self, plan: ExecutionPlan) -> ValidationResult:
        """
        Whether a plan can be carried out here and now: the simulator says so.

        Raises:
            InvalidTaskError: It is no plan.
            PlanningError: A validator of the user's gives something else.
        """
        _check_plan(plan)
        answer: object = self.validator.validate(plan)
        if not isinstance(answer, ValidationResult):
            msg = f"the validator gave {show(answer)}: a ValidationResult is needed"
            raise PlanningError(msg, hint="mend the validator")
        return answer

    def look(self, plan: ExecutionPlan) -> tuple[list[PlanFinding], float | None]:
        """What is wrong with a plan, and how long it takes in the simulator."""
        findings: list[PlanFinding] = []
        try:
            self._refuse_past(plan.request)
        except PlanningError as error:
            findings.append(PlanFinding("deadline_past", error.message, "the request"))
        constraints: Sequence[Constraint] = ()
        try:
            constraints = self.constraints_of(plan.request)
        except PlanningError as error:
            findings.append(PlanFinding("no_budget", error.message, error.hint or ""))
        names = {agent.name for agent in means_of(self._rt).agents}
        for name in sorted({t.agent for t in plan.tasks if t.agent} - names):
            text = f"agent {name} is not there: the router chooses another"
            why = "pins of the plan"
            findings.append(PlanFinding("agent_gone", text, why, is_fatal=False))
        if plan.request.requirements and all(
            needs_of(plan.workflow[name].task) is None for name in plan.workflow
        ):
            text = "its requirements do nothing: its tasks are calls and programs"
            findings.append(
                PlanFinding("no_effect", text, "requirements", is_fatal=False)
            )
        try:
            report = self._simulated(plan)
        except TaskorchError as error:
            findings.append(PlanFinding(error.code, error.message, error.hint or ""))
            return findings, None
        findings += [
            PlanFinding("never", f"{name} would never run", why)
            for name, why in report.never.items()
        ]
        findings += [
            PlanFinding("failed", f"{name} would fail", why)
            for name, why in report.failed.items()
        ]
        findings += [
            PlanFinding("assumed", text, "the simulator", is_fatal=False)
            for text in report.assumed
        ]
        ended = not report.never and not report.failed
        seconds = report.makespan if ended else 0.0
        paced = self._paced(plan)
        if ended and paced is not None:
            # The simulator takes all agents for equally fast.
            is_said = all(task.agent for task in plan.tasks)
            seconds = paced if is_said else max(seconds, paced)
        findings += self._broken(plan, report, seconds, constraints)
        return findings, seconds if ended else None

    def _paced(self, plan: ExecutionPlan) -> float | None:
        """How long a plan takes with workers that differ; None: they do not."""
        problem = problem_of(
            plan.tasks,
            plan.workflow,
            means_of(self._rt),
            speeds=plan.speeds,
            prices=plan.prices,
        )
        if problem.lengths is None:
            return None
        return in_order(problem, [task.agent for task in plan.tasks]).makespan / 1000

    def _broken(
        self,
        plan: ExecutionPlan,
        report: Any,
        seconds: float,
        constraints: Sequence[Constraint],
    ) -> Iterator[PlanFinding]:
        """The *constraints* that do not hold in the simulator."""
        cost, peaks = plan.estimated_cost, report.peak.resources
        for each, used, limit in _limits(constraints, plan.tasks, seconds, cost, peaks):
            if used > limit + 1e-6:
                code, sentence, cause = _BROKEN[type(each)]
                resource = getattr(each, "resource", "")
                text = f"{sentence.format(used, resource)} {each}"
                path = " → ".join(plan.critical_path)
                yield PlanFinding(code, text, cause.format(path))
        ends = {one.task_id: one.end for one in report.schedule}
        starts = {one.task_id: one.start for one in reversed(report.schedule)}
        for each in constraints:
            if isinstance(each, Before):
                late = [
                    (a, b)
                    for a in named_by(plan.tasks, each.first)
                    for b in named_by(plan.tasks, each.then)
                    if a != b and starts.get(b, 0.0) < ends.get(a, 0.0) - 1e-9
                ]
                for first, then in late[:3]:
                    text = f"{then} would begin before {first} has ended"
                    yield PlanFinding("before", text, str(each))

    def optimize(
        self,
        plan: ExecutionPlan,
        *,
        seconds: float = 1.0,
        seed: int = 0,
        speeds: Mapping[str, float] | None = None,
        waits: bool = True,
        aims: Mapping[str, float] | Iterable[str] = ("makespan",),
        prices: Mapping[str, float] | None = None,
        learn: bool = True,
    ) -> ExecutionPlan:
        """
        The plan in a better order; by its aims never worse than it was.

        No constraint is broken by it that the plan kept.

        What comes of it is an order, by priorities and by waits, and which worker is to
        do what, where they differ: no times, so that a wrong estimate costs little.

        Args:
            plan: The plan.
            seconds: How long is looked for a better one.
            seed: Repeats what is drawn.
            speeds: By worker, how fast it is, where the usual is 1; None: as in the
                plan, or as measured.
            waits: Whether a task may be let wait for another that it does not need,
                where the order of priorities does not suffice. If that one fails for
                good, the other stays blocked until somebody runs it again or decides.
            aims: What is to be small: `makespan`, `cost` and `peak`, which is how much
                of all that there is is in use at once; with numbers, how much each
                counts, of what it is in the plan that was given.
            prices: By worker, what a second of it costs, besides the costs of tasks;
                None: as in the plan, or nothing.
            learn: Whether the rule may be chosen by what was learnt, if it `learns`.

        Raises:
            InvalidTaskError: An argument is not well formed.
        """
        _check_plan(plan)
        seconds = check_seconds("seconds", seconds)
        if seconds > 3600:  # noqa: PLR2004 - an hour
            msg = f"seconds is at most 3,600, not {seconds:g}"
            raise InvalidTaskError(msg)
        speeds = rates_of(
            "speed", plan.speeds if speeds is None else speeds, least=1e-9
        )
        prices = plan.prices if prices is None else rates_of("price", prices, least=0.0)
        weights = aims_of(aims)
        if not plan.tasks:
            return plan
        now = monotonic()
        end = now + seconds
        means = means_of(self._rt)
        constraints = self.constraints_of(plan.request)
        problem = problem_of(
            plan.tasks,
            plan.workflow,
            means,
            constraints=constraints,
            speeds=speeds,
            prices=prices,
        )
        if not fits(problem):
            return attrs.evolve(plan, optimizer="as it was: it does not fit here")
        aim = Aim(weights, problem, plan, limit_of(constraints) * 1000)
        own = [task.agent for task in plan.tasks]
        begin = None if problem.lengths is None else in_order(problem, own)
        was = self._timed(plan, constraints, aim, problem, begin)
        best: _Timed | None = None
        searched = aim.problems()
        loose = self._loose(plan, means)
        # What is found is looked at once more, which takes about as long.
        end -= (monotonic() - now) * len(searched)
        is_said = problem.lengths is None or all(own)
        is_large = len(problem) > _LARGE and monotonic() > end
        if is_said and is_large:
            how = f"{plan.optimizer}; {seconds:g} s are too short for so many tasks"
            return attrs.evolve(was.plan, optimizer=how, speeds=speeds, prices=prices)
        chosen: list[Chosen] = []
        for number, each in enumerate(searched):
            budget = max(0.0, end - monotonic()) / (len(searched) - number)
            schedule, bound = self._search(
                each,
                budget,
                seed,
                aim,
                chosen if self.learns and learn else None,
                begin,
            )
            is_asked = waits and each.lengths is None
            edges = few_waits(each, schedule, loose) if is_asked else ()
            ordered = self._made_of(plan, each, schedule, edges)
            timed = self._timed(ordered, constraints, aim, each, schedule)
            timed.plan = attrs.evolve(timed.plan, lower_bound=bound / 1000)
            if best is None or timed.is_better_than(best):
                best = timed
        assert best is not None  # noqa: S101 - there is a problem at least
        ordered = attrs.evolve(best.plan, speeds=speeds, prices=prices)
        idle = aim.idle()
        if idle:
            ordered = attrs.evolve(ordered, optimizer=f"{ordered.optimizer}; {idle}")
        if is_said and not best.is_better_than(was):
            how = f"{plan.optimizer}; nothing better was found"
            least = ordered.lower_bound or 0.0
            span = float(was.plan.estimated_duration)
            if aim.is_makespan and least >= span - 1e-9:
                how = f"{plan.optimizer}: as good as can be"
            how = f"{how}; {idle}" if idle else how
            return attrs.evolve(
                was.plan,
                optimizer=how,
                lower_bound=ordered.lower_bound,
                speeds=speeds,
                prices=prices,
            )
        return self._marked(ordered, chosen)

    def _search(
        self,
        problem: Problem,
        seconds: float,
        seed: int,
        aim: Aim,
        chosen: list[Chosen] | None,
        begin: Schedule | None,
    ) -> tuple[Schedule, float]:
        end = monotonic() + seconds
        bound: float
        optimizer = self.optimizer
        if problem.lengths is not None:
            # Agents that differ are ours to choose, whoever orders the rest.
            schedule, bound = improve_agents(problem, seconds, seed, aim.value, begin)
        elif chosen is not None and isinstance(optimizer, SearchOptimizer):
            rule = self._chooser.rule(_context_of(problem))
            chosen.append(rule)
            answer = optimizer.optimize(problem, seconds, seed, [rule.arm])
            schedule, bound = _checked_schedule(problem, answer)
            span = schedule.makespan
            near = min(1.0, bound / span) if span else 1.0
            self._chooser.learner.learn(rule, near)
        else:
            answer = optimizer.optimize(problem, seconds, seed)
            schedule, bound = _checked_schedule(problem, answer)
        if monotonic() > end + 10:
            how = f"{schedule.how}, {monotonic() - end:.0f} s too late"
            schedule = attrs.evolve(schedule, how=how)
        return schedule, bound

    def _made_of(
        self,
        plan: ExecutionPlan,
        problem: Problem,
        best: Schedule,
        waits: Iterable[tuple[int, int]],
    ) -> ExecutionPlan:
        """*plan* with the order of a schedule, and its workers and *waits*."""
        tasks = plan.tasks
        order = best.order()
        edges = [(tasks[first].id, tasks[then].id) for first, then in waits]
        base = plan.request.priority
        options: dict[str, dict[str, Any]] = {}
        planned = []
        for place, number in enumerate(order):
            task = tasks[number]
            own = plan.workflow[task.id].task
            priority = base + len(order) - 1 - place
            options[task.id] = {"priority": min(priority, 1_000_000)}
            slot = best.agents[number]
            agent = task.agent if slot is None else problem.agents[slot]
            if agent is not None:
                options[task.id]["metadata"] = {**(own.metadata or {}), PINNED: agent}
            planned.append(attrs.evolve(task, agent=agent))
        reasons = {(d.task, d.needs): d.reason for d in plan.dependencies}
        reasons |= {(then, first): "the order" for first, then in edges}
        workflow = changed(plan.workflow, options, edges)
        return attrs.evolve(
            plan,
            workflow=workflow,
            tasks=tuple(
                attrs.evolve(task, after=workflow[task.id].after) for task in planned
            ),
            dependencies=dependencies_of(workflow, reasons),
            resource_requirements=requirements_of(problem, best.starts, tasks),
            optimizer=best.how,
        )

    def estimate(self, plan: ExecutionPlan) -> ResourceEstimate:
        """
        What a plan takes, and how right such estimates were so far.

        Raises:
            InvalidTaskError: It is no plan.
        """
        _check_plan(plan)
        with self._lock:
            self._learn()
            share, count = self.estimator.calibration
        memory = [task.memory_mb for task in plan.tasks if task.memory_mb is not None]
        return ResourceEstimate(
            duration=plan.estimated_duration,
            cost=plan.estimated_cost,
            memory_mb=max(memory, key=lambda each: each.p90, default=None),
            requirements=plan.resource_requirements,
            tasks=plan.tasks,
            calibration=share,
            calibrated=count,
        )

    # -- learning ------------------------------------------------------------------

    @property
    def rules(self) -> Bandit:
        """What was learnt of the rules of order."""
        return self._chooser.rules

    @property
    def learns(self) -> bool:
        """Whether rules and methods are chosen by what came of them."""
        return self._chooser.learns

    @learns.setter
    def learns(self, learns: bool) -> None:
        self._chooser.learns = learns

    def reward(self, plan: ExecutionPlan, seconds: float) -> None:
        """
        Say how long a plan took that was not run here: runs are rewarded as they end.

        Raises:
            InvalidTaskError: It is no plan, or *seconds* no duration.
        """
        _check_plan(plan)
        seconds = check_seconds("seconds", seconds, zero=False)
        value = worth(_foretold(plan), seconds)
        for name in plan.workflow:
            mark = mark_of(plan.workflow[name].task)
            if mark is not None:
                self._chooser.reward(mark, value)

    def evaluate(self, events: Iterable[Event]) -> dict[str, dict[str, Value]]:
        """
        What each rule and method would have come to, chosen always.

        Args:
            events: Those of a journal, as `JournalReader(path).happened()` has them.

        Returns:
            By what was to be chosen, and by arm: an estimate from what others chose.
        """
        return evaluate(self._chooser.learner, events)

    def _marked(self, plan: ExecutionPlan, chosen: Sequence[Chosen]) -> ExecutionPlan:
        """*plan*, which says what was chosen for it, if anything was."""
        return _marked(plan, self._chooser.learner.choice(chosen)) if chosen else plan

    def learned(self) -> tuple[Learning, ...]:
        """What was learnt of each rule and method: `context` says for what it was."""
        return self._chooser.learner.learned()

    def _learn(self) -> None:
        """Take in what was measured since."""
        self._measurements.tell(self.estimator)

    def propose(self, *, least: int = 3) -> list[Proposal]:
        """
        Parts of the runs in memory that came back at least so often, the largest first.

        Raises:
            InvalidTaskError: *least* is below 2.
        """
        rt = self._rt
        rt.look_up()
        with rt.lock:
            above = {
                row.id: after_of(row.cargo)
                for row in rt.kernel.tasks.values()
                if row.run
            }
        every = listed(rt, TaskFilter())
        statuses = [status for status in every if status.task_id in above]
        return proposals(statuses, lambda name: above.get(name, ()), least=least)

    def ask(
        self,
        proposal: Proposal,
        name: str | None = None,
        *,
        who: Iterable[str] | None = None,
    ) -> str:
        """
        Ask people whether a proposal shall be a template; it is, once they approve.

        Args:
            proposal: The proposal.
            name: The type of the requests of which it makes plans.
            who: Who may answer; None is anybody.

        Returns:
            The id of the question, for `orch.answer`.

        Raises:
            UsageError: An argument is not well formed, or the orchestrator has stopped.
        """
        _check_proposal(proposal)
        asked = Task.question(
            f"Shall {proposal} be a template?",
            who=who,
            details={"types": list(proposal.types), "runs": proposal.runs},
        )
        (handle,) = self._rt.submit_tasks((asked,))
        with self._lock:
            self._asked.append((handle, proposal, name))
        return str(cast("Any", handle).task_id)

    def _take_answers(self) -> None:
        """Make templates of the proposals that were approved since."""
        unanswered = []
        for handle, proposal, name in self._asked:
            if not handle.done():
                unanswered.append((handle, proposal, name))
            elif handle.status.state is TaskState.COMPLETED:
                self.accept(proposal, name)
        self._asked = unanswered

    def accept(self, proposal: Proposal, name: str | None = None) -> Template:
        """Make a template of a proposal, for requests of the type *name*."""
        _check_proposal(proposal)
        template = proposal.template(name)
        self.templates[template.name] = template
        return template

    # -- the cache -----------------------------------------------------------------

    def _key(self, request: TaskRequest) -> tuple[str | None, str]:
        """
        What is the same for requests of which the plans are alike.

        None if a plan of it is not kept, and why.
        """
        deadline = request.deadline
        parts = (
            request.type,
            request.requirements,
            request.constraints,
            request.priority,
            dict(request.context),
            deadline if deadline is None else str(deadline),
        )
        try:
            return digest_of(parts), ""
        except (UndescribedError, RecursionError) as error:
            return None, f"not kept: the context has no description: {error}"

    def _version(self, request: TaskRequest, types: Sequence[str]) -> dict[str, Any]:
        """
        By cause, what makes a plan another although the request is the same.

        Raises:
            InvalidTaskError, UndescribedError: A function has no description.
        """
        means = means_of(self._rt)
        versions: dict[str, Any] = {
            "the pools have changed": (means.pools, means.config.concurrency),
            "the agents have changed": [
                (a.name, sorted([*a.capabilities, *a.labels]), a.max_concurrency)
                for a in means.agents
            ],
            "what tasks take has changed": self.estimator.version(types),
            "how fast agents are has changed": [
                {
                    name: round(factor, 1)
                    for name, factor in factors_of(
                        kind, means.agents, means, None
                    ).items()
                }
                for kind in sorted({*types})
            ],
        }
        if budget_of(request.constraints) is not None:
            versions["what is left of its budget has changed"] = self._left(request)
        for domain in self.domains.values():
            if request.type in domain.tasks:
                versions["the code of its domain has changed"] = domain.version
        template = self.templates.get(request.type)
        if template is not None:
            code = digest_of(template.build)
            versions["its template has changed"] = f"{template.version}/{code}"
        versions["a stage was replaced"] = self.decomposer, self.resolver
        return versions

    def _shape(
        self,
        request: TaskRequest,
        draft: Draft,
        tasks: Sequence[PlannedTask],
        constraints: Sequence[Constraint],
    ) -> str | None:
        """What plans of the same tasks by other names share; None: nothing does."""
        try:
            versions = self._version(request, [task.type for task in tasks])
            # The stages before this one have done their part.
            del versions["a stage was replaced"]
            versions["the priority"] = request.priority
            return shape_of(draft, tasks, constraints, versions)
        except (UndescribedError, InvalidTaskError, RecursionError):
            return None

    def _cached(
        self, key: str, request: TaskRequest
    ) -> tuple[ExecutionPlan | None, str]:
        with self._lock:
            kept = self._cache.get(key)
        if kept is None:
            return None, "missed: no such request was planned yet"
        version, plan = kept
        try:
            now = self._version(request, [task.type for task in plan.tasks])
        except (UndescribedError, InvalidTaskError):
            now = {}
        for cause, value in version.items():
            if now.get(cause) != value:
                with self._lock:
                    self._cache.pop(key, None)
                return None, f"missed: {cause}"
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
        return attrs.evolve(plan, id=request.id, request=request, cache="hit"), "hit"

    def _keep(self, key: str, plan: ExecutionPlan) -> None:
        types = [task.type for task in plan.tasks]
        try:
            version = self._version(plan.request, types)
        except (UndescribedError, InvalidTaskError):
            # Nobody could say whether it is good.
            return
        with self._lock:
            _remember(self._cache, key, (version, plan))

    def __repr__(self) -> str:
        return (
            f"<Planner: {len(self.domains)} domains, {len(self.templates)} templates, "
            f"{len(self._cache)} plans>"
        )


@attrs.define(eq=False)
class _Timed:
    """
    A plan, and what the simulator says of it.

    The constraints that it breaks, how much is wrong with it, and what it is worth by
    an aim: the less, the better.
    """

    plan: ExecutionPlan
    breaks: tuple[Constraint, ...]
    broken: int
    worth: float

    def is_better_than(self, other: _Timed) -> bool:
        """Whether it breaks less, or as much and is worth more."""
        if self.broken != other.broken:
            return self.broken < other.broken
        return self.worth < other.worth - 1e-9


def _remember(table: OrderedDict[Any, Any], key: str, value: Any) -> None:
    """Put a value into a table, from which the one longest unused leaves."""
    table[key] = value
    table.move_to_end(key)
    while len(table) > _KEPT:
        table.popitem(last=False)


def _marked(plan: ExecutionPlan, choice: tuple[str, float]) -> ExecutionPlan:
    """*plan* whose first task says what was chosen for it, now and before."""
    first = plan.tasks[0].id
    options: dict[str, dict[str, Any]] = {}
    arms, chance = choice
    for name in plan.workflow:
        metadata = dict(plan.workflow[name].task.metadata or {})
        earlier = metadata.pop(MARK, None)
        if earlier is not None:
            arms, chance = f"{earlier['choice']} + {arms}", earlier["chance"] * chance
            options[name] = {"metadata": metadata}
    own = dict(plan.workflow[first].task.metadata or {})
    own[MARK] = {
        "choice": arms,
        "chance": chance,
        "tasks": len(plan.tasks),
        "seconds": _foretold(plan),
    }
    options[first] = {"metadata": own}
    return attrs.evolve(plan, workflow=changed(plan.workflow, options))


def _foretold(plan: ExecutionPlan) -> float:
    """
    Seconds that a plan was to take by what its tasks state.

    A way whose tasks take longer than they state is a worse one, although it is known.
    """
    path = [task for task in plan.tasks if task.id in plan.critical_path]
    estimated = math.fsum(float(task.duration) for task in path)
    stated = math.fsum(
        plan.workflow[task.id].task.expected or float(task.duration) for task in path
    )
    return float(plan.estimated_duration) * (stated / estimated if estimated else 1.0)


def _bounds_cost(constraints: Sequence[Constraint], budget: str | None) -> bool:
    """Whether the cost of a task that draws on *budget* is bounded by that."""
    drawn_on = budget_of(constraints)
    return any(
        isinstance(each, BudgetLeft)
        and each.resource == COST
        and budget in (each.budget, drawn_on)
        for each in constraints
    )


def _with_cost(resources: Resources, cost: float) -> Resources:
    """*resources*, with the *cost* that is reserved of a budget if none is said."""
    if COST in resources or resources.is_elastic:
        return resources
    return Resources(**dict(resources), cost=cost)


def _limits(
    constraints: Iterable[Constraint],
    tasks: Sequence[PlannedTask],
    seconds: float,
    cost: float,
    peaks: Mapping[str, float],
) -> Iterator[tuple[Constraint, float, float]]:
    """The constraints on an amount, each with what is used and what may be."""
    for each in constraints:
        if isinstance(each, Deadline):
            yield each, seconds, each.seconds
        elif isinstance(each, MaxCost):
            yield each, cost, each.amount
        elif isinstance(each, MaxPeak):
            yield each, peaks.get(each.resource, 0.0), each.amount
        elif isinstance(each, BudgetLeft):
            yield each, need_of(tasks, each.resource, cost), each.amount


#: Of a constraint that is broken: the code, what is said of it, and the cause.
_BROKEN: Final = {
    Deadline: ("deadline", "it takes {0:g} s, and misses", "critical path: {0}"),
    MaxCost: ("cost", "it costs {0:g}, and breaks", "the costs of its tasks"),
    MaxPeak: (
        "peak",
        "{0:g} {1} are in use at once: it breaks",
        "optimize puts it in order",
    ),
    BudgetLeft: (
        "budget",
        "{0:.12g} {1} is needed: it breaks",
        "orch.resources.raise_budget sets how much there is",
    ),
}


def _binding(plan: ExecutionPlan, constraints: Sequence[Constraint]) -> str | None:
    """The constraint of which the largest share is taken, if it is near."""
    peaks = {each.resource: each.peak for each in plan.resource_requirements}
    seconds, cost = float(plan.estimated_duration), plan.estimated_cost
    shares = [
        (used / limit, f"{each}: {used:g} is taken")
        for each, used, limit in _limits(constraints, plan.tasks, seconds, cost, peaks)
        if limit
    ]
    share, text = max(shares, default=(0.0, ""))
    return text if share >= _NEAR else None


def _context_of(problem: Problem) -> str:
    """Size, width and tightness, roughly: where another rule may be best."""
    count = len(problem)
    edges = sum(map(len, problem.parents))
    both = zip(problem.work(), problem.capacities, strict=True)
    most = max((work / (capacity or 1) for work, capacity in both), default=0)
    tight = most > 0.7 * max(sum(problem.durations) / 4, 1)
    size = "small" if count < 50 else "medium" if count < 200 else "large"  # noqa: PLR2004
    width = "dense" if edges > 2 * count else "loose"
    return f"{size}/{width}/{'tight' if tight else 'free'}"


def _checked_schedule(problem: Problem, answer: object) -> tuple[Schedule, float]:
    """
    What an optimizer gave: one of the user's may be wrong.

    Raises:
        PlanningError: It is no schedule of all tasks, or no bound of it.
    """
    schedule: Any = None
    bound: Any = None
    if isinstance(answer, tuple) and len(answer) == 2:  # noqa: PLR2004 - two
        schedule, bound = answer
    count = len(problem)
    hint = "mend the optimizer"
    starts = _numbers(getattr(schedule, "starts", None), count)
    ends = _numbers(getattr(schedule, "ends", None), count)
    if not isinstance(schedule, Schedule) or starts is None or ends is None:
        msg = f"the optimizer gave {show(answer)}: a Schedule of all tasks, and a bound"
        raise PlanningError(msg, hint=hint)
    for number, above in enumerate(problem.parents):
        for parent in above:
            if starts[number] < ends[parent]:
                msg = "the optimizer let a task begin before what it waits for"
                raise PlanningError(msg, hint=hint)
    slots: object = schedule.agents
    agents: list[Any] = [*slots] if isinstance(slots, Iterable) else [slots]
    agents = agents or [None] * count
    named = [slot for slot in agents if slot is not None]
    slots_there = range(len(problem.agents))
    if len(agents) != count or any(slot not in slots_there for slot in named):
        msg = f"the optimizer gave the agents {show(slots)}: of each task the number "
        msg += f"of one, of {len(problem.agents)} that there are, or None"
        raise PlanningError(msg, hint=hint)
    schedule = attrs.evolve(schedule, starts=starts, ends=ends, agents=agents)
    span = schedule.makespan
    # It may be beside the end by less than a unit, where it is reckoned in floats.
    if _numbers([bound], 1) is None or bound > span + 1:
        msg = (
            f"the optimizer gave the bound {show(bound)}, and a schedule that ends at "
        )
        msg += f"{span:g}: none ends before its bound"
        raise PlanningError(msg, hint=hint)
    return schedule, min(bound, span)


def _numbers(values: object, count: int) -> list[Any] | None:
    """*values*, if they are so many numbers from 0 on."""
    numbers = [*values] if isinstance(values, Iterable) else []
    is_fit = all(
        isinstance(each, Real) and 0 <= cast("float", each) < math.inf
        for each in numbers
    )
    return numbers if is_fit and len(numbers) == count else None


def _check_proposal(proposal: object) -> None:
    if not isinstance(proposal, Proposal):
        msg = f"a Proposal is accepted, not {show(proposal)}"
        raise InvalidTaskError(msg, hint="orch.planner.propose() has them")


def _check_plan(plan: object) -> None:
    if not isinstance(plan, ExecutionPlan):
        msg = f"an ExecutionPlan is needed, not {show(plan)}"
        raise InvalidTaskError(msg, hint="orch.planner.plan(request) makes one")
