"""
`orch.planner`: from a request to a plan that is right, estimated and in order.

Decision: planner.
"""

from __future__ import annotations

import threading
from collections.abc import (
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import attrs

from taskorch.core.engine import after_of, listed
from taskorch.core.workflows import Workflow
from taskorch.core.worlds import Means, means_of
from taskorch.errors import (
    InvalidTaskError,
    PlanningError,
)
from taskorch.events import (
    Event,
)
from taskorch.ext.learning import Learning, Value
from taskorch.ext.planner._bounds import (
    budget_left,
    refuse_past,
    refuse_strange,
    refuse_unknown,
)
from taskorch.ext.planner._domain import (
    MAX_SECONDS,
    MAX_STEPS,
    Decomposition,
    Domain,
    cost_of,
)
from taskorch.ext.planner._estimates import Estimator, Measurements
from taskorch.ext.planner._kept_plans import KeptPlans
from taskorch.ext.planner._learning import (
    Bandit,
    Chooser,
    evaluate,
    mark_of,
    worth,
)
from taskorch.ext.planner._orders import Orders, foretold, marked
from taskorch.ext.planner._patterns import Proposal, Template, proposals
from taskorch.ext.planner._problems import (
    changed,
    factors_of,
    needs_of,
    problem_of,
)
from taskorch.ext.planner._replanning import (
    Begun,
    begun_of,
    from_here,
    left_of,
    rest_of,
)
from taskorch.ext.planner._scheduling import (
    aims_of,
)
from taskorch.ext.planner._stages import (
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
from taskorch.ext.planner._timing import PlanTiming
from taskorch.ext.planner._values import (
    COST,
    Constraint,
    Deadline,
    ExecutionPlan,
    PlanFinding,
    PlannedTask,
    Quantity,
    ResourceEstimate,
    TaskRequest,
    ValidationResult,
    budget_of,
    rates_of,
)
from taskorch.ext.planner._ways import Ways
from taskorch.kit.checks import check_count, check_seconds
from taskorch.kit.digests import digest_of
from taskorch.kit.limits import NS
from taskorch.kit.visible import show
from taskorch.model import Task, TaskFilter, TaskState
from taskorch.policies import StructuralValidator
from taskorch.policies._router import PINNED

if TYPE_CHECKING:
    from taskorch.core.engine import Runtime


class Planner:
    """
    A planner, which makes plans of requests, and estimates them.

    It has five stages, each of which can be replaced by an object with its one method:
    `parser`, `decomposer`, `resolver`, `optimizer`, `validator`.

    Args:
        runtime: The orchestrator's.
    """

    def __init__(
        self,
        # Any keeps the runtime out of the public type.
        runtime: Any,
    ) -> None:
        self._rt: Runtime = runtime
        #: The five stages.
        self.parser: RequestParser = RuleParser(
            lambda: datetime.fromtimestamp(runtime.now() / NS, UTC)
        )
        self.decomposer: TaskDecomposer = LibraryDecomposer(self)
        self.resolver: DependencyResolver = InterferenceResolver()
        self.optimizer: PlanOptimizer = SearchOptimizer()
        self.validator: PlanValidator = SimulatedValidator(self)
        #: The estimates of tasks, from measurements.
        self.estimator: Estimator = Estimator()
        #: The domains and the templates, by their names.
        self.domains: dict[str, Domain] = {}
        self.templates: dict[str, Template] = {}
        self._lock = threading.RLock()
        self._measurements = Measurements(runtime)
        self._chooser = Chooser(runtime)
        self._timing = PlanTiming(runtime)
        self._orders = Orders(runtime, self._timing, self._chooser)
        self._kept = KeptPlans(self._version)
        #: The proposals whose approval is still open.
        self._asked: list[tuple[Any, Proposal, str | None]] = []

    # -- domains and templates -----------------------------------------------------

    def domain(self, name: str | Domain) -> Domain:
        """The domain *name*, which is made if there is none; or take one in."""
        if isinstance(name, Domain):
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
        workers = means_of(self._rt).workers
        names += [
            *self.templates,
            *(c for a in workers for c in sorted(a.capabilities)),
        ]
        return tuple(dict.fromkeys(names))

    def prefer(self, task: str, methods: Sequence[str]) -> str | None:
        """Return the method of a task to try first; None: keep their order."""
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

        A search also ends after ten thousand tasks without a change of the state. A
        late plan is put in another order before the next way is tried. A worker pool
        counts as many workers as it may have. The cache has the latest 256 requests; if
        only names differ from one of these, its order, waits and estimates are used.

        Args:
            request: A `TaskRequest`, a document of one, or a text.
            cache: Whether a plan that was made for the same may be given again. Other
                data that functions read, such as files and tables, is not compared.
            learn: Whether methods may be chosen by their rewards, if it `learns`.
            max_seconds: Seconds before the search is given up.
            max_steps: Steps of the search in a domain before it is given up.

        Raises:
            UsageError: The request is not well formed.
            PlanningError: No plan meets it: `conflict` has the fewest constraints that
                cannot hold together, `trace` the attempts.
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
        refuse_past(asked, self._rt.now() / NS)
        refuse_unknown(asked, means)
        key, why = self._kept.key(asked) if cache else (None, "not asked")
        if key is not None:
            plan_of_before, why = self._kept.get(key, asked)
            if plan_of_before is not None:
                return plan_of_before
        # No lock is held: a search may take long, and calls functions of the user.
        with self._chooser.choosing(learn=learn) as chosen:
            limits = {"max_steps": max_steps, "max_seconds": max_seconds}
            plan = Ways(self, asked, means, limits, cache=key is not None).plan()
            plan = marked(plan, self._chooser, chosen or ())
        if plan.cache != "hit":
            plan = attrs.evolve(plan, cache=why)
        if key is not None:
            self._kept.keep(key, plan)
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
        Plan the rest of a run; tasks that are done or still run are kept.

        Nothing is started, and nothing of the run is stopped. The tasks of the plan
        wait for those of the run that they need.

        Running tasks count as ended. The plan has no tasks if nothing is left, and its
        own run can be planned anew, too.

        Args:
            run: A run of a plan, as `orch.workflows` gives it.
            plan: The plan that it was started by; None: the one that the run knows.
            max_seconds: Seconds before a search is given up.
            max_steps: Steps of a search in a domain before it is given up.

        Raises:
            InvalidTaskError: It is no run, or *plan* is no plan.
            PlanningError: No plan leads on from there, or nobody knows the plan of the
                run.
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
        refuse_past(request, self._rt.now() / NS)
        refuse_unknown(request, means)
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
        Return the ways to go on from a run, the best first, and what they leave out.

        First come ways to all of it without the steps that have failed, then ways on
        from the present state. The last ones try the failed steps once more.
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
        Return the plan of a draft that keeps *constraints*, if possible from the cache.

        If there is none, return None, the reason, and whether that is proven.
        """
        shape = self._kept.shape(request, draft, tasks, constraints) if cache else None
        plan = None if shape is None else self._kept.like(shape, draft, request)
        if plan is not None:
            return plan, "", True
        problem = problem_of(tasks, draft.workflow, means, constraints=constraints)
        plan = self._orders.first(request, draft, tasks, problem, constraints)
        kept, why, is_sure = self._orders.keeping(plan, constraints, means)
        if shape is not None and kept is not None:
            self._kept.keep_shape(shape, draft, kept)
        return kept, why, is_sure

    def constraints_of(self, request: TaskRequest) -> tuple[Constraint, ...]:
        """
        Return the constraints of a request, its deadline, and the rest of its budget.

        Raises:
            PlanningError: There is no such budget.
        """
        deadline = request.deadline
        constraints = request.constraints
        if isinstance(deadline, datetime):
            deadline = max(0.0, deadline.timestamp() - self._rt.now() / NS)
        if deadline is not None:
            constraints = (*constraints, Deadline(float(deadline)))
        return (*constraints, *budget_left(request, self._rt))

    def refuse_strange(
        self, request: TaskRequest, tasks: Sequence[PlannedTask], means: Means
    ) -> None:
        """
        Refuse constraints that name an unknown resource or task.

        Raises:
            PlanningError: A name in a constraint is unknown.
        """
        refuse_strange(request, tasks, means, self.types)

    def with_request(self, draft: Any, request: TaskRequest) -> Draft:
        """Apply the options of *request* to all tasks of *draft*."""
        if not isinstance(draft, Draft) or not isinstance(draft.workflow, Workflow):
            msg = f"the resolver gave {show(draft)}: a Draft of a workflow is needed"
            raise PlanningError(msg)
        options: dict[str, dict[str, Any]] = {}
        budget = budget_of(request.constraints)
        for name in draft.workflow:
            task = draft.workflow[name].task
            StructuralValidator().check(task)
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
        """Return the tasks of a draft with their estimates."""
        # Another thread may add measurements meanwhile.
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

    # -- validating, optimizing, estimating ----------------------------------------

    def validate(self, plan: ExecutionPlan) -> ValidationResult:
        """
        Test in the simulator whether a plan can be carried out here and now.

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
        """Return the findings for a plan, and its seconds in the simulator."""
        findings: list[PlanFinding] = []
        try:
            refuse_past(plan.request, self._rt.now() / NS)
        except PlanningError as error:
            findings.append(PlanFinding("deadline_past", error.message, "the request"))
        constraints: Sequence[Constraint] = ()
        try:
            constraints = self.constraints_of(plan.request)
        except PlanningError as error:
            findings.append(PlanFinding("no_budget", error.message, error.hint or ""))
        more, seconds = self._timing.findings(plan, constraints)
        return findings + more, seconds

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
        Return the plan in a better order; by its aims it is never worse.

        It keeps every constraint that the plan kept.

        The result has an order, by priorities and waits, and a worker for each task
        where workers differ. It has no times, so that a wrong estimate costs little.

        Where tasks share resources, the router picks the workers. Above 500 tasks, the
        plan stays as it is if the time is too short for two simulations: see
        `optimizer` of the result.

        Args:
            plan: The plan.
            seconds: The time of the search.
            seed: The seed of random draws.
            speeds: By worker, how fast it is, where the usual is 1; None: as in the
                plan, or as measured.
            waits: Whether a task may be let wait for another that it does not need,
                where the order of priorities does not suffice. If that one fails for
                good, the other stays blocked until somebody runs it again or decides.
            aims: The amounts to make small: `makespan`, `cost` and `peak`, the share of
                the capacities that is in use at once. With numbers, the weight of each;
                an amount counts relative to the given plan.
            prices: By worker, what a second of it costs, besides the costs of tasks;
                None: as in the plan, or nothing.
            learn: Whether the rule may be chosen by its rewards, if it `learns`.

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
        return self._orders.better(
            plan,
            self.constraints_of(plan.request),
            self.optimizer,
            weights,
            seconds=seconds,
            seed=seed,
            speeds=speeds,
            prices=prices,
            waits=waits,
            learn=self.learns and learn,
        )

    def estimate(self, plan: ExecutionPlan) -> ResourceEstimate:
        """
        Estimate a plan, and say how right such estimates were so far.

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
        """The chooser of the rules of order."""
        return self._chooser.rules

    @property
    def learns(self) -> bool:
        """True if rules and methods are chosen by their rewards."""
        return self._chooser.learns

    @learns.setter
    def learns(self, learns: bool) -> None:
        self._chooser.learns = learns

    def reward(self, plan: ExecutionPlan, seconds: float) -> None:
        """
        Report the duration of a plan that ran elsewhere.

        Raises:
            InvalidTaskError: It is no plan, or *seconds* no duration.
        """
        _check_plan(plan)
        seconds = check_seconds("seconds", seconds, zero=False)
        value = worth(foretold(plan), seconds)
        for name in plan.workflow:
            mark = mark_of(plan.workflow[name].task)
            if mark is not None:
                self._chooser.reward(mark, value)

    def evaluate(self, events: Iterable[Event]) -> dict[str, dict[str, Value]]:
        """
        Estimate the reward of always choosing each rule and method.

        Args:
            events: The events of a journal, as `JournalReader(path).happened()` has
                them.

        Returns:
            By choice and by arm, an estimate from all choices that were made.
        """
        return evaluate(self._chooser.learner, events)

    def learned(self) -> tuple[Learning, ...]:
        """Return the rewards of each rule and method; `context` names the choice."""
        return self._chooser.learner.learned()

    def _learn(self) -> None:
        """Take in the measurements since the last call."""
        self._measurements.tell(self.estimator)

    def propose(self, *, least: int = 3) -> list[Proposal]:
        """
        Find parts that came back in at least *least* runs in memory, the largest first.

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
        Ask people to approve a proposal, which then becomes a template.

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

    def _version(self, request: TaskRequest, types: Sequence[str]) -> dict[str, Any]:
        """
        Return, by cause, the versions of all on which the plan of a request depends.

        Raises:
            InvalidTaskError, UndescribedError: A function has no description.
        """
        means = means_of(self._rt)
        versions: dict[str, Any] = {
            "the pools have changed": (means.pools, means.config.concurrency),
            "the workers have changed": [
                (a.name, sorted([*a.capabilities, *a.labels]), a.max_concurrency)
                for a in means.workers
            ],
            "what tasks take has changed": self.estimator.version(types),
            "how fast workers are has changed": [
                {
                    name: round(factor, 1)
                    for name, factor in factors_of(
                        kind, means.workers, means, None
                    ).items()
                }
                for kind in sorted({*types})
            ],
        }
        if budget_of(request.constraints) is not None:
            versions["what is left of its budget has changed"] = budget_left(
                request, self._rt
            )
        for domain in self.domains.values():
            if request.type in domain.tasks:
                versions["the code of its domain has changed"] = domain.version
        template = self.templates.get(request.type)
        if template is not None:
            code = digest_of(template.build)
            versions["its template has changed"] = f"{template.version}/{code}"
        versions["a stage was replaced"] = self.decomposer, self.resolver
        return versions

    def __repr__(self) -> str:
        return (
            f"<Planner: {len(self.domains)} domains, {len(self.templates)} templates, "
            f"{len(self._kept)} plans>"
        )


def _check_proposal(proposal: object) -> None:
    if not isinstance(proposal, Proposal):
        msg = f"a Proposal is accepted, not {show(proposal)}"
        raise InvalidTaskError(msg, hint="orch.planner.propose() has them")


def _check_plan(plan: object) -> None:
    if not isinstance(plan, ExecutionPlan):
        msg = f"an ExecutionPlan is needed, not {show(plan)}"
        raise InvalidTaskError(msg, hint="orch.planner.plan(request) makes one")
