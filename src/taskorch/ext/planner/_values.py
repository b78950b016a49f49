"""The requests and plans of the planner: frozen values, and their JSON."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Final, Self, TypeAlias

import attrs

from taskorch.core.workflows import Workflow
from taskorch.errors import InvalidTaskError, ValidationFailedError
from taskorch.kit.checks import check_seconds, is_number
from taskorch.kit.forms import (
    UNLIMITED,
    AnyNames,
    Anything,
    DocumentOf,
    Each,
    FaultList,
    Maybe,
    Moment,
    Number,
    Tagged,
    Text,
    ValueForm,
    field,
    may_be,
)
from taskorch.kit.frozen import ReadOnly
from taskorch.kit.limits import MAX_PRIORITY
from taskorch.kit.located import located
from taskorch.kit.visible import counted, is_text, show
from taskorch.kit.words import in_a_line
from taskorch.model import NO_RESOURCES, Resources
from taskorch.model.ids import check_name

Document: TypeAlias = dict[str, Any]
#: The key of the version of the format of requests and plans.
FORMAT: Final = 1
_PLAN: Final = "the plan"
_AMOUNT: Final = Number(most=UNLIMITED)
_RATE: Final = Number(most=1e12)


class Quantity(float):
    """
    An uncertain amount; as a number it is its median.

    Attributes:
        p90: The amount that it exceeds once in ten times.
        source: The source of the estimate, in words.
    """

    p90: float
    source: str

    def __new__(
        cls, p50: float, p90: float | None = None, source: str = "said"
    ) -> Self:
        """Make a quantity; without *p90* it is exact."""
        quantity = super().__new__(cls, p50)
        quantity.p90 = float(p50 if p90 is None else max(p50, p90))
        quantity.source = source
        return quantity

    @property
    def p50(self) -> float:
        """The median."""
        return float(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return Quantity, (float(self), self.p90, self.source)


# -- constraints -------------------------------------------------------------------


def _positive(name: str) -> Callable[[Any, Any, Any], None]:
    def check(_self: Any, _field: Any, value: Any) -> None:
        if not is_number(value, 0, sys.float_info.max):
            msg = f"{name} is a number from 0 on, not {show(value)}"
            raise InvalidTaskError(msg)

    return check


def _text(name: str) -> Callable[[Any, Any, Any], None]:
    def check(_self: Any, _field: Any, value: Any) -> None:
        if not is_text(value) or not value:
            msg = f"{name} is a text that is not empty, not {show(value)}"
            raise InvalidTaskError(msg)

    return check


@attrs.frozen
class Deadline:
    """
    A limit on the time until the plan has ended.

    Attributes:
        seconds: Seconds after the start of the plan.
    """

    seconds: float = attrs.field(
        validator=_positive("the seconds of a deadline"), metadata=may_be(_AMOUNT)
    )

    def __str__(self) -> str:
        return f"the deadline of {self.seconds:g} s"


@attrs.frozen
class MaxCost:
    """
    A limit on the cost of all tasks together.

    Attributes:
        amount: The limit, in the unit of your costs.
    """

    amount: float = attrs.field(
        validator=_positive("the amount of a cost"), metadata=may_be(_AMOUNT)
    )

    def __str__(self) -> str:
        return f"the cost of at most {self.amount:g}"


@attrs.frozen
class MaxPeak:
    """
    A limit on the amount of a resource in use at once.

    Attributes:
        resource: Its name.
        amount: The limit.
    """

    resource: str = attrs.field(validator=_text("a resource"), metadata=may_be(Text()))
    amount: float = attrs.field(
        validator=_positive("the amount of a resource"), metadata=may_be(_AMOUNT)
    )

    def __str__(self) -> str:
        return f"at most {self.amount:g} {self.resource} at once"


@attrs.frozen
class Before:
    """
    A rule that tasks end before others begin.

    Attributes:
        first: An id or type that ends before.
        then: An id or type that begins after.
    """

    first: str = attrs.field(
        validator=_text("what comes first"), metadata=may_be(Text())
    )
    then: str = attrs.field(validator=_text("what comes then"), metadata=may_be(Text()))

    def __attrs_post_init__(self) -> None:
        if self.first == self.then:
            msg = f"{self}: nothing ends before it begins"
            raise InvalidTaskError(msg, hint="name two tasks, or two types")

    def __str__(self) -> str:
        return f"{self.first} before {self.then}"


@attrs.frozen
class DrawsOn:
    """
    A budget on which the tasks draw, and whose rest they must not exceed.

    The cost of the tasks is `cost` there; of other resources they need their
    reservations.

    Attributes:
        budget: Its name.
    """

    budget: str = attrs.field(
        validator=_text("the name of a budget"), metadata=may_be(Text())
    )

    def __str__(self) -> str:
        return f"the budget {self.budget}"


@attrs.frozen
class BudgetLeft:
    """The rest of a resource of a budget, or of a budget above it."""

    budget: str
    resource: str
    amount: float

    def __str__(self) -> str:
        return f"the budget {self.budget} ({self.amount:.12g} {self.resource} left)"


Constraint: TypeAlias = Deadline | MaxCost | MaxPeak | Before | DrawsOn | BudgetLeft
#: The name of the cost where it is a resource: of tasks, and of budgets.
COST: Final = "cost"
#: The kinds of constraints in JSON.
KINDS: Final[Mapping[str, type[Any]]] = {
    "deadline": Deadline,
    "maxCost": MaxCost,
    "maxPeak": MaxPeak,
    "before": Before,
    "drawsOn": DrawsOn,
}


# -- the request -------------------------------------------------------------------


def _constraints(value: object) -> tuple[Constraint, ...]:
    if isinstance(value, str | Mapping) or not isinstance(value, Iterable):
        msg = f"constraints are a list, not {show(value)}"
        raise InvalidTaskError(msg, hint="constraints=[Deadline(3600), MaxCost(20)]")
    constraints = tuple(value)
    for each in constraints:
        if not isinstance(each, tuple(KINDS.values())):
            msg = f"{show(each)} is no constraint"
            names = ", ".join(cls.__name__ for cls in KINDS.values())
            raise InvalidTaskError(msg, hint=f"there are {names}")
    if sum(isinstance(each, DrawsOn) for each in constraints) > 1:
        msg = "a request draws on one budget"
        hint = "let one budget be part of the other: orch.budget(…, parent=…)"
        raise InvalidTaskError(msg, hint=hint)
    return constraints


def budget_of(constraints: Iterable[Constraint]) -> str | None:
    """Return the budget that is drawn on; None: there is none."""
    names = (each.budget for each in constraints if isinstance(each, DrawsOn))
    return next(names, None)


def _one_word(_self: Any, _field: Any, value: Any) -> None:
    check_name("the id of a request", value)


def _names(value: object) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        msg = f"requirements are a list of capabilities, not {show(value)}"
        raise InvalidTaskError(msg, hint="requirements=['python']")
    names = tuple(value)
    for each in names:
        if not is_text(each) or not each:
            msg = f"a requirement is the name of a capability, not {show(each)}"
            raise InvalidTaskError(msg)
    return names


def _context(context: object) -> Mapping[str, Any]:
    if context is not None and not isinstance(context, Mapping):
        msg = f"the context of a request is a mapping, not {show(context)}"
        raise InvalidTaskError(msg)
    return ReadOnly({} if context is None else dict(context))


@attrs.frozen
class TaskRequest:
    """
    A request for a plan, before its tasks are known.

    Attributes:
        id: One word, also the name of the plan and its run.
        type: A task of a domain, a template, or the type of one task.
        description: A description for people.
        requirements: Capabilities that each of its tasks needs.
        constraints: Limits of the plan.
        priority: The priority of its tasks.
        deadline: Its latest end: seconds from its start, or an aware datetime.
        context: `args` are arguments, `state` is the state before; a template takes
            other members by name.

    Raises:
        InvalidTaskError: A field is not well formed.
    """

    id: str = attrs.field(validator=_one_word, metadata=may_be(Text()))
    type: str = attrs.field(
        validator=_text("the type of a request"), metadata=may_be(Text())
    )
    description: str = attrs.field(default="", metadata=may_be(Text(is_any=True)))
    requirements: tuple[str, ...] = attrs.field(
        default=(),
        converter=_names,
        metadata=may_be(Each(Text(), needs="a list of capabilities")),
    )
    constraints: tuple[Constraint, ...] = attrs.field(
        default=(), converter=_constraints, metadata=may_be(Each(Tagged("kind", KINDS)))
    )
    priority: int = attrs.field(
        default=0,
        metadata=may_be(Number(-MAX_PRIORITY, MAX_PRIORITY, is_whole=True)),
    )
    deadline: float | datetime | None = attrs.field(
        default=None, metadata=may_be(Maybe(Moment()))
    )
    context: Mapping[str, Any] = attrs.field(
        default=None,
        converter=_context,
        hash=False,
        metadata=may_be(Maybe(AnyNames(Anything(), plain=True))),
    )

    def __attrs_post_init__(self) -> None:
        if type(self.priority) is not int or abs(self.priority) > MAX_PRIORITY:
            msg = f"a priority is an integer within ±{MAX_PRIORITY:,}, "
            msg += f"not {show(self.priority)}"
            raise InvalidTaskError(msg)
        if isinstance(self.deadline, datetime):
            if self.deadline.tzinfo is None:
                msg = "a deadline is seconds, or a datetime with a time zone"
                raise InvalidTaskError(msg)
        elif self.deadline is not None:
            check_seconds("deadline", self.deadline)
        if not is_text(self.description):
            msg = f"a description is a text, not {show(self.description)}"
            raise InvalidTaskError(msg)

    @classmethod
    def from_dict(cls, document: object) -> TaskRequest:
        """
        Read a request from a document, as `to_dict` makes one.

        Raises:
            ValidationFailedError: It is not well formed; all faults are named.
        """
        request: TaskRequest = _read(DocumentOf(cls, make=cls), document, "the request")
        return request

    def to_dict(self) -> Document:
        """Return the request as JSON has it, by `request_schema`."""
        deadline = self.deadline
        if isinstance(deadline, datetime):
            deadline = deadline.isoformat()  # type: ignore[assignment]
        document: Document = {
            "id": self.id,
            "type": self.type,
            "description": self.description,
            "requirements": list(self.requirements),
            "constraints": [constraint_to_dict(each) for each in self.constraints],
            "priority": self.priority,
        }
        if deadline is not None:
            document["deadline"] = deadline
        if self.context:
            document["context"] = dict(self.context)
        return document


def constraint_to_dict(constraint: Constraint) -> Document:
    """Return a constraint as JSON has it."""
    kind = next(name for name, cls in KINDS.items() if isinstance(constraint, cls))
    return {"kind": kind, **attrs.asdict(constraint)}


def _read(form: ValueForm, document: object, subject: str) -> Any:
    """
    Read *document*, which errors call *subject*.

    Raises:
        ValidationFailedError: It is not well formed; all faults are named.
    """
    faults = FaultList()
    value = form.read(located(document), "", faults)
    if document is None:
        faults.wrong(located(document), "", form.needs)
    if faults:
        raise refusal(subject, faults.findings)
    return value


def camel(name: str) -> str:
    """Return *name* as JSON has it: `estimated_cost` is `estimatedCost`."""
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)


def refusal(subject: str, faults: Iterable[tuple[str, str]]) -> ValidationFailedError:
    """Return the error that lists all faults of a document."""
    findings = tuple(faults)
    details = "; ".join(": ".join(one).removeprefix(": ") for one in findings)
    msg = f"{subject} is not well formed: {details}"
    return ValidationFailedError(msg, findings=findings)


# -- the plan ----------------------------------------------------------------------


@attrs.frozen
class PlannedTask:
    """
    A task of a plan, with its estimates.

    Attributes:
        id: Its id in the plan.
        type: Its type.
        duration: Seconds.
        cost: Its cost, in the unit of your costs.
        resources: Its resources while it runs.
        memory_mb: Its peak of memory, if that is known.
        agent: The worker that is to do it, if it can; None: the router chooses.
        after: Ids of the tasks that it waits for.
    """

    id: str
    type: str
    duration: Quantity
    cost: float = 0.0
    resources: Resources = NO_RESOURCES
    memory_mb: Quantity | None = None
    agent: str | None = None
    after: tuple[str, ...] = ()


@attrs.frozen
class Dependency:
    """
    A task that waits for another.

    Attributes:
        task: The task that waits.
        needs: The task that it waits for.
        reason: Input, constraint, or chosen order.
    """

    task: str = attrs.field(metadata=may_be(Text()))
    needs: str = attrs.field(metadata=may_be(Text()))
    reason: str = attrs.field(default="needed", metadata=may_be(Text(is_any=True)))


@attrs.frozen
class ResourceRequirement:
    """
    The use of a resource by a plan.

    Attributes:
        resource: Its name.
        peak: The most at once.
        total: Amount times seconds.
    """

    resource: str = attrs.field(metadata=may_be(Text()))
    peak: float = attrs.field(metadata=may_be(_AMOUNT))
    total: float = attrs.field(metadata=may_be(_AMOUNT))


@attrs.frozen
class Rejected:
    """
    A rejected choice, in a document.

    Attributes:
        name: Its name.
        reason: The reason against it.
    """

    name: str = attrs.field(metadata=may_be(Text(is_any=True)))
    reason: str = attrs.field(metadata=may_be(Text(is_any=True)))


_REJECTED: Final = DocumentOf(Rejected, make=lambda name, reason: (name, reason))


@attrs.frozen
class Choice:
    """
    A choice in a plan, with the reasons against others.

    Attributes:
        task: The decision.
        chosen: The choice.
        rejected: Other choices, with reasons.
    """

    task: str = attrs.field(metadata=may_be(Text(is_any=True)))
    chosen: str = attrs.field(metadata=may_be(Text(is_any=True)))
    rejected: tuple[tuple[str, str], ...] = attrs.field(
        default=(), metadata=may_be(Each(_REJECTED), is_needed=True)
    )

    def __str__(self) -> str:
        text = f"{self.task}: {self.chosen}"
        for name, why in self.rejected:
            text += f"\n  not {name}: {why}"
        return text


@attrs.frozen(eq=False)
class ExecutionPlan:
    """
    A workflow that has not been started, with its estimates and the reasons for it.

    `orch.workflows.start(plan)` runs it, `orch.simulate(plan)` carries it out in
    virtual time. It has an order and, where workers differ, workers; it has no times.

    Attributes:
        id: That of the request.
        request: The request.
        workflow: Tasks and dependencies.
        tasks: Its tasks with estimates, in the order in which they are to begin.
        dependencies: Why tasks wait for others.
        resource_requirements: Its use of each resource.
        estimated_duration: Seconds until it has ended; as a number the median.
        estimated_cost: The sum of its tasks.
        critical_path: The longest chain of tasks.
        binding: The tightest constraint, in words; None: none is near.
        choices: The choices behind it: see `explain`.
        cache: Whether it was taken from the cache, or why it was not.
        optimizer: The optimizer that chose the order.
        lower_bound: Seconds that no order can beat; None: it is unknown.
        speeds: The assumed speed, by worker; None: as measured.
        prices: The assumed cost of a second, by worker; None: nothing.
        whole: All tasks, if the plan goes on from a run; None: it does not.
        earlier: The handles of the tasks that earlier runs do, by their ids in `whole`.
    """

    id: str
    request: TaskRequest
    workflow: Workflow
    tasks: tuple[PlannedTask, ...]
    dependencies: tuple[Dependency, ...]
    resource_requirements: tuple[ResourceRequirement, ...]
    estimated_duration: Quantity
    estimated_cost: float
    critical_path: tuple[str, ...] = ()
    binding: str | None = None
    choices: tuple[Choice, ...] = ()
    cache: str = "not asked"
    optimizer: str = "by latest finish times"
    lower_bound: float | None = None
    speeds: Mapping[str, float] | None = None
    prices: Mapping[str, float] | None = None
    whole: Workflow | None = None
    earlier: Mapping[str, Any] = attrs.field(factory=dict)

    @property
    def name(self) -> str:
        """The name of its workflow."""
        return self.workflow.name

    @property
    def durations(self) -> Mapping[str, float]:
        """The median duration of each task in seconds, by its id."""
        return {task.id: float(task.duration) for task in self.tasks}

    def explain(self) -> str:
        """Explain the plan: what was chosen, what was rejected, and what binds."""
        lines = [
            (
                f"Plan {self.id}: {counted(len(self.tasks), 'task')}, "
                f"{float(self.estimated_duration):g} s (9 times in 10 at most "
                f"{self.estimated_duration.p90:g} s), cost {self.estimated_cost:g}."
            ),
            f"Critical path: {' → '.join(self.critical_path)}.",
            f"Order: {self.optimizer}. Cache: {self.cache}.",
        ]
        if self.request.description:
            lines.insert(1, f"Asked for: {in_a_line(self.request.description)}")
        if self.earlier:
            lines.append(f"By earlier runs: {', '.join(self.earlier)}.")
        if self.binding:
            lines.append(f"What binds most: {self.binding}.")
        lines += [str(choice) for choice in self.choices]
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.explain()

    def __repr__(self) -> str:
        return (
            f"<ExecutionPlan {self.id!r}: {counted(len(self.tasks), 'task')}, "
            f"{float(self.estimated_duration):g} s>"
        )

    def to_dict(
        self, functions: Mapping[str, Callable[..., Any]] | None = None
    ) -> Document:
        """
        Return the plan as JSON has it, by `plan_schema`.

        Args:
            functions: The names of the functions that its tasks call.

        Raises:
            InvalidTaskError: A task has a value that JSON cannot say; or the plan goes
                on from a run.
        """
        if self.whole is not None:
            msg = (
                f"plan {self.id!r} goes on from a run, and is of this incarnation only"
            )
            hint = "start it, and plan again from its run"
            raise InvalidTaskError(msg, hint=hint)
        document: Document = {
            "format": FORMAT,
            "id": self.id,
            "request": self.request.to_dict(),
            "tasks": [_task_to_dict(task) for task in self.tasks],
            "dependencies": [attrs.asdict(each) for each in self.dependencies],
            "resourceRequirements": [
                attrs.asdict(each) for each in self.resource_requirements
            ],
            "estimatedDuration": float(self.estimated_duration),
            "estimatedDurationP90": self.estimated_duration.p90,
            "estimatedCost": self.estimated_cost,
            "criticalPath": list(self.critical_path),
            "binding": self.binding,
            "optimizer": self.optimizer,
            "lowerBound": self.lower_bound,
            "explanation": [
                {
                    "task": each.task,
                    "chosen": each.chosen,
                    "rejected": [
                        {"name": name, "reason": why} for name, why in each.rejected
                    ],
                }
                for each in self.choices
            ],
            "workflow": self.workflow.to_dict(functions),
        }
        rates = {"speeds": self.speeds, "prices": self.prices}
        return document | {n: dict(r) for n, r in rates.items() if r is not None}

    @classmethod
    def from_dict(
        cls,
        document: object,
        functions: Mapping[str, Callable[..., Any]] | None = None,
        *,
        programs: bool = False,
    ) -> ExecutionPlan:
        """
        Read a plan from a document, as `to_dict` makes one.

        Args:
            document: The document.
            functions: The functions that its tasks may call, by name.
            programs: Whether they may start programs.

        Raises:
            ValidationFailedError: It is not well formed, or its tasks and its
                dependencies are not those of its workflow.
        """
        if isinstance(document, Mapping) and document.get("format", FORMAT) != FORMAT:
            text = f"this taskorch reads format {FORMAT}"
            raise refusal(_PLAN, [("format", text)])
        entry: PlanEntry = _read(DocumentOf(PlanEntry, make=PlanEntry), document, _PLAN)
        workflow = Workflow.from_dict(entry.workflow, functions, programs=programs)
        return _plan_of(cls, entry, workflow)


def _plan_of(
    cls: type[ExecutionPlan], entry: PlanEntry, workflow: Workflow
) -> ExecutionPlan:
    edges = {
        (name, up) for name, above in workflow.dependencies.items() for up in above
    }
    stated = {(each.task, each.needs) for each in entry.dependencies}
    ids = [each.id for each in entry.tasks]
    faults = []
    if sorted(ids) != sorted(workflow):
        odd = sorted(set(ids) ^ set(workflow)) or ids
        faults.append(("tasks", f"not those of the workflow: {', '.join(odd)}"))
    if stated != edges:
        odd = [f"{up} → {name}" for name, up in sorted(stated ^ edges)]
        faults.append(("dependencies", f"not those of the workflow: {', '.join(odd)}"))
    if faults:
        raise refusal(_PLAN, faults)
    return cls(
        id=entry.id,
        request=entry.request,
        workflow=workflow,
        tasks=tuple(each.task(workflow) for each in entry.tasks),
        dependencies=tuple(entry.dependencies),
        resource_requirements=tuple(entry.resource_requirements),
        estimated_duration=Quantity(
            entry.estimated_duration, entry.estimated_duration_p90
        ),
        estimated_cost=entry.estimated_cost,
        critical_path=tuple(entry.critical_path),
        binding=entry.binding,
        choices=tuple(entry.explanation),
        cache="read from a document",
        optimizer=entry.optimizer,
        lower_bound=entry.lower_bound,
        speeds=entry.speeds,
        prices=entry.prices,
    )


@attrs.frozen
class TaskOfPlanEntry:
    """
    A task of a plan, in a document.

    Attributes:
        id: Its id in the plan.
        type: Its type.
        duration: Seconds, the median.
        duration_p90: Seconds, the P90.
        source: Their source, in words.
        cost: Its cost, in the unit of your costs.
        memory_mb: MiB, the median.
        memory_mb_p90: MiB, the P90.
        resources: Its resources while it runs.
        agent: Its worker, if it can.
    """

    id: str = field(Text(), is_needed=True)
    type: str = field(Text(), is_needed=True)
    duration: float = field(_AMOUNT, name="estimatedDuration", is_needed=True)
    duration_p90: float | None = field(_AMOUNT, name="estimatedDurationP90")
    source: str = field(Text(is_any=True), default="said")
    cost: float = field(_AMOUNT, name="estimatedCost", default=0.0)
    memory_mb: float | None = field(_AMOUNT, name="estimatedMemoryMb")
    memory_mb_p90: float | None = field(_AMOUNT, name="estimatedMemoryMbP90")
    resources: Mapping[str, float] | None = field(AnyNames(_AMOUNT, plain=True))
    agent: str | None = field(Text())

    def task(self, workflow: Workflow) -> PlannedTask:
        """Return it as a planned task of *workflow*."""
        node, memory = workflow[self.id], self.memory_mb
        return PlannedTask(
            id=self.id,
            type=node.task.type,
            duration=Quantity(self.duration, self.duration_p90, self.source),
            cost=self.cost,
            resources=node.task.resources,
            memory_mb=None if memory is None else Quantity(memory, self.memory_mb_p90),
            agent=self.agent,
            after=node.after,
        )


def _choice(task: str, chosen: str, rejected: Iterable[tuple[str, str]]) -> Choice:
    return Choice(task, chosen, tuple(rejected))


@attrs.frozen
class PlanEntry:
    """
    A plan, as a document.

    Attributes:
        format: The version of the format.
        id: That of the request.
        request: The request.
        tasks: Each task, in the order of starts.
        dependencies: Why tasks wait for others.
        resource_requirements: Its use of each resource.
        estimated_duration: Seconds to its end, the median.
        estimated_duration_p90: Seconds, the P90.
        estimated_cost: The sum of its tasks.
        critical_path: The longest chain of tasks.
        binding: The tightest constraint, in words.
        optimizer: The optimizer that chose the order.
        lower_bound: Seconds that any order needs.
        explanation: Reasons.
        speeds: Assumed speed, by worker.
        prices: Assumed cost of a second, by worker.
        workflow: Tasks and dependencies.
    """

    id: str = field(Text(), is_needed=True)
    request: TaskRequest = field(
        DocumentOf(TaskRequest, make=TaskRequest), is_needed=True
    )
    tasks: list[TaskOfPlanEntry] = field(
        Each(DocumentOf(TaskOfPlanEntry, make=TaskOfPlanEntry)), is_needed=True
    )
    dependencies: list[Dependency] = field(
        Each(DocumentOf(Dependency, make=Dependency)), is_needed=True
    )
    workflow: Mapping[str, Any] = field(
        AnyNames(Anything(), plain=True), is_needed=True
    )
    format: int = field(Number(FORMAT, FORMAT, is_whole=True), default=FORMAT)
    resource_requirements: list[ResourceRequirement] = field(
        Each(DocumentOf(ResourceRequirement, make=ResourceRequirement)),
        name="resourceRequirements",
        default=(),
    )
    estimated_duration: float = field(_AMOUNT, name="estimatedDuration", default=0.0)
    estimated_duration_p90: float | None = field(_AMOUNT, name="estimatedDurationP90")
    estimated_cost: float = field(_AMOUNT, name="estimatedCost", default=0.0)
    critical_path: list[str] = field(Each(Text()), name="criticalPath", default=())
    binding: str | None = field(Maybe(Text(is_any=True)))
    optimizer: str = field(Text(is_any=True), default="as it was written")
    lower_bound: float | None = field(Maybe(_AMOUNT), name="lowerBound")
    explanation: list[Choice] = field(
        Each(DocumentOf(Choice, make=_choice)), default=()
    )
    speeds: dict[str, float] | None = field(
        Maybe(AnyNames(Number(most=1e12, is_above=True), plain=True))
    )
    prices: dict[str, float] | None = field(Maybe(AnyNames(_RATE, plain=True)))


def rates_of(kind: str, rates: object, *, least: float) -> dict[str, float] | None:
    """
    Return numbers by the names of workers; None: there are none.

    Raises:
        InvalidTaskError: They are no numbers.
    """
    if rates is None:
        return None
    if not isinstance(rates, Mapping):
        msg = f"{kind}s is a mapping of workers to numbers, not {show(rates)}"
        raise InvalidTaskError(msg)
    for name, rate in rates.items():
        if not is_number(rate, least, 1e12):
            above = "above 0" if least else "from 0"
            msg = f"the {kind} of {show(name)} is a number {above}, not {show(rate)}"
            raise InvalidTaskError(msg)
    return {str(name): float(rate) for name, rate in rates.items()}


def _task_to_dict(task: PlannedTask) -> Document:
    document: Document = {
        "id": task.id,
        "type": task.type,
        "estimatedDuration": float(task.duration),
        "estimatedDurationP90": task.duration.p90,
        "source": task.duration.source,
        "estimatedCost": task.cost,
        "resources": dict(task.resources),
    }
    if task.memory_mb is not None:
        document["estimatedMemoryMb"] = float(task.memory_mb)
        document["estimatedMemoryMbP90"] = task.memory_mb.p90
    if task.agent is not None:
        document["agent"] = task.agent
    return document


# -- results about a plan ------------------------------------------------------------


@attrs.frozen
class PlanFinding:
    """
    Something that is wrong with a plan, or that its reader should know.

    Attributes:
        code: A stable word.
        message: The problem, in words.
        cause: The cause.
        is_fatal: Whether it keeps the plan from being carried out.
    """

    code: str
    message: str
    cause: str = ""
    is_fatal: bool = True

    def __str__(self) -> str:
        return f"{self.message} ({self.cause})" if self.cause else self.message


@attrs.frozen
class ValidationResult:
    """
    The verdict of the simulator on a plan, here and now.

    Attributes:
        ok: Whether nothing is wrong with it.
        findings: All faults, and notes for the reader.
        makespan: Seconds that it takes in the simulator; None: it does not end.
    """

    ok: bool
    findings: tuple[PlanFinding, ...] = ()
    makespan: float | None = None

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        lines = ["The plan holds." if self.ok else "The plan does not hold."]
        return "\n".join([*lines, *map(str, self.findings)])

    def to_dict(self) -> Document:
        """Return the result as JSON has it."""
        return {
            "ok": self.ok,
            "makespan": self.makespan,
            "findings": [
                {camel(name): value for name, value in attrs.asdict(each).items()}
                for each in self.findings
            ],
        }


@attrs.frozen
class ResourceEstimate:
    """
    The estimate of a plan.

    Attributes:
        duration: Seconds of the whole plan.
        cost: The cost of the whole plan.
        memory_mb: The peak of the largest task; None: nothing is known.
        requirements: Peak and total of each resource.
        tasks: The tasks with their estimates.
        calibration: The share of the measured durations that were at most the P90
            foretold; None: there is none yet.
        calibrated: The number of these durations.
    """

    duration: Quantity
    cost: float
    memory_mb: Quantity | None
    requirements: tuple[ResourceRequirement, ...]
    tasks: tuple[PlannedTask, ...]
    calibration: float | None
    calibrated: int

    def to_dict(self) -> Document:
        """Return the estimate as JSON has it."""
        memory = self.memory_mb
        return {
            "estimatedDuration": float(self.duration),
            "estimatedDurationP90": self.duration.p90,
            "estimatedCost": self.cost,
            "estimatedMemoryMb": None if memory is None else float(memory),
            "resourceRequirements": [attrs.asdict(each) for each in self.requirements],
            "tasks": [_task_to_dict(each) for each in self.tasks],
            "calibration": self.calibration,
            "calibrated": self.calibrated,
        }
