"""
A suite in our words: a workflow, and an orchestrator with a fleet of workers.

Decisions: policies-as-data, test-suites.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Collection, Iterator
from typing import Any, Final, TypeAlias

from taskorch.api._contexts import TaskContext
from taskorch.api._orchestrator import TaskOrchestrator
from taskorch.core.engine import machine_resources
from taskorch.core.inside import Inside
from taskorch.core.workflows import Phase, Workflow
from taskorch.ext.governance._runtime import joined
from taskorch.ext.recovery import RecoveryHandler
from taskorch.ext.suites._elsewhere import OWN, OthersFirst, room_for_any
from taskorch.ext.suites._model import (
    GLUE,
    Suite,
    SuitePhase,
    SuiteTask,
    parts_of,
    template_of,
)
from taskorch.ext.suites._placeholders import arguments_of, filled
from taskorch.ext.suites._sharding import about_of, judged
from taskorch.kit.words import fill
from taskorch.model import Agent, AgentTemplate, Resources, RetryPolicy, Task
from taskorch.policies import AgentPool, PerformanceRouter
from taskorch.policies._agent_pool import Spawn
from taskorch.protocols import AddAgent

#: The function with which a worker does a task.
Handler: TypeAlias = Callable[[Task, TaskContext], Any]
#: The names of the workers of this process: others may come, too, or not.
_NAMES: Final = {False: "agent_{number:03}", True: OWN + "{number:03}"}
#: Attempts at once where others may come: each of these has a limit of its own.
_ELSEWHERE: Final = 10_000
#: The number of attempts that are no tests: gates, and tasks that keep the order.
_OTHERS: Final = 2


def workflow_of(suite: Suite) -> Workflow:
    """
    The suite as a workflow.

    Its phases are those of the suite, and its tasks have their ids; one with subtasks
    is complete when these are. `B2/ended` lets a task wait until B2 has ended, however
    that was.
    """
    workflow = Workflow("suite")
    pools = pools_of(suite)
    for phase in suite.phases:
        _add_phase(workflow, suite, phase, pools)
    return workflow


def ended() -> None:
    """Do nothing: the end of a task that others come after."""


def _add_phase(
    workflow: Workflow, suite: Suite, phase: SuitePhase, pools: Resources
) -> None:
    added = workflow.phase(
        phase.name, max_parallel=phase.max_parallel, on_failure=phase.on_failure
    )
    before: SuiteTask | None = None
    for task in _in_order(phase.tasks):
        after = list(task.dependencies)
        if phase.mode != "parallel" and before and before.id not in after:
            after.append(_end_of(workflow, before))
        before = task
        for part in task.run:
            added.add(_task(suite, phase, part, after, pools))
            if phase.mode == "sequential" and part is not task.run[-1]:
                after = [*task.dependencies, _end_of(workflow, part)]
        if task.subtasks:
            _add_whole(workflow, suite, added, task)


def _add_whole(workflow: Workflow, suite: Suite, added: Phase, task: SuiteTask) -> None:
    """Add the node of *task*, which joins its parts or judges its shards."""
    parts = [workflow[part.id] for part in task.subtasks]
    about = {"name": task.name}
    if task.shards == 1:
        added.gather(parts, id=task.id, metadata=about)
        return
    payload = about_of(task, template_of(suite, task))
    added.task(judged, parts, payload, id=task.id, type="shards", metadata=about)


def _end_of(workflow: Workflow, task: SuiteTask) -> str:
    """Add the node that follows once all parts of *task* ended in any way."""
    name = f"{task.id}/ended"
    after = [part.id for part in task.run]
    workflow.task(ended, id=name, type="order", after=after, join="finished")
    return name


def _in_order(tasks: tuple[SuiteTask, ...]) -> Iterator[SuiteTask]:
    """Yield *tasks* in their order, but each after the tasks that it depends on."""
    remaining = {task.id: task for task in tasks}
    owners = {part.id: task.id for task in tasks for part in task.subtasks}

    def take(task: SuiteTask) -> Iterator[SuiteTask]:
        # A ring was refused when the suite was read.
        if remaining.pop(task.id, None) is None:
            return
        for name in task.dependencies:
            above = remaining.get(owners.get(name, name))
            if above is not None:
                yield from take(above)
        yield task

    for task in tasks:
        yield from take(task)


def _task(
    suite: Suite,
    phase: SuitePhase,
    task: SuiteTask,
    after: list[str],
    pools: Resources,
) -> Task:
    retries = suite.retries
    # With a matrix, that says how often, by the kind of failure.
    retry = RetryPolicy()
    spends = suite.budgets.resources(task.budget)
    if retries.max_retries and not suite.recovery:
        retry = RetryPolicy(
            1 + retries.max_retries,
            wait="fixed",
            base=retries.delay,
            max_delay=retries.delay,
            jitter=0,
        )
    return Task(
        task.kind,
        _payload(suite, task),
        id=task.id,
        priority=task.priority,
        after=after,
        resources=Resources(
            **{
                n: much
                for n, much in task.resources.items()
                if n in pools or n in spends
            }
        ),
        budget=task.budget,
        timeout=task.timeout,
        writes=task.writes,
        retry=retry,
        metadata={
            "name": task.name,
            "phase": phase.name,
            "criteria": task.criteria.said(),
        },
    )


def _payload(suite: Suite, task: SuiteTask) -> dict[str, Any]:
    """Return the data that a worker needs to run *task*."""
    template = template_of(suite, task)
    if template is None:
        return {"template": task.template}
    names = {"id": task.id, "name": task.name}
    how = "pytest" if template.command is None else "command"
    words = template.pytest if template.command is None else template.command
    payload: dict[str, Any] = {
        "template": template.name,
        how: filled(words or (), names, arguments_of(task, template)),
        "cwd": str(template.cwd),
    }
    if template.python != sys.executable:
        payload["python"] = template.python
    if template.env:
        payload["env"] = {n: fill(text, names) for n, text in template.env.items()}
    if suite.retries.tests_again and template.pytest is not None:
        payload["again"] = True
    if template.coverage:
        payload["coverage"] = list(template.coverage)
    if template.results is not None:
        payload["results"] = fill(template.results, names)
    return payload


# -- who does it -------------------------------------------------------------------


def workers_of(suite: Suite, *, elsewhere: bool = False) -> list[str]:
    """
    The names of the workers of this process: as many as there may be, and work for.

    *elsewhere*: workers of other processes may come, too.
    """
    most = suite.limits.max_agents
    if most is None:
        most = max(suite.limits.min_agents, math.ceil(machine_resources()["cpu"]))
    many = max(1, min(most, len(parts_of(suite))))
    return [_NAMES[elsewhere].format(number=n) for n in range(1, many + 1)]


def pools_of(suite: Suite) -> Resources:
    """
    Return the resources that the workers may hold together.

    What the configuration does not limit is as much as this machine has, or as the
    largest task needs, if that is more.
    """
    has = room_for_any(suite, machine_resources())
    return Resources(**{**(has or {}), **suite.limits.resources})


class _AlikeRouter(PerformanceRouter):
    """Router among workers that are alike: no failed test makes one worse."""

    waits_for_better = False


def orchestrator_of(
    suite: Suite, *, elsewhere: bool = False, **options: Any
) -> TaskOrchestrator:
    """
    An orchestrator for the suite, still without workers.

    *elsewhere*: workers elsewhere may join, and do the work while they are there. The
    *options* are more arguments of `TaskOrchestrator`.
    """
    own = workers_of(suite, elsewhere=elsewhere)
    concurrency = len(own) + _OTHERS
    if elsewhere:
        concurrency = _ELSEWHERE
        options["registry"] = OthersFirst(own)
    else:
        options.setdefault("router", _AlikeRouter())
    if suite.recovery:
        options.setdefault("retry_handler", _recovery_of(suite))
    options["governance"] = joined(suite.policies, options.get("governance"))
    orch = TaskOrchestrator(
        resources=pools_of(suite),
        concurrency=concurrency,
        grace=suite.retries.grace,
        **options,
    )
    stand_ins = {Agent.LOCAL, *own} if elsewhere else {Agent.LOCAL}
    # Who writes the workflow, and the registry, knows it.
    Inside(orch).set_apart(GLUE, frozenset(stand_ins))
    return orch


def declare_budgets(orchestrator: TaskOrchestrator, suite: Suite) -> None:
    """Declare the budgets of *suite*: its tasks draw on them."""
    for name, amounts in suite.budgets.totals.items():
        parent = suite.budgets.parents.get(name, "")
        orchestrator.budget(name, parent=parent, **amounts)


def _recovery_of(suite: Suite) -> RecoveryHandler:
    """Return the recovery of a suite: it asks nobody, and runs tests again."""
    retries = suite.retries
    return RecoveryHandler(
        max_retries=retries.max_retries,
        retry_delay_seconds=retries.delay,
        escalation_threshold=retries.escalation_threshold or 1,
        matrix=suite.matrix,
        classes=suite.classes,
        escalate=False,
    )


def add_workers(
    orchestrator: TaskOrchestrator,
    suite: Suite,
    handler_of: Callable[[str], Handler],
    *,
    elsewhere: bool = False,
    is_scaled: bool = False,
) -> None:
    """
    Add the workers of this process to *orchestrator*.

    *handler_of* gives what the worker of a name does with a task; *elsewhere* is as it
    was said to `orchestrator_of`. *is_scaled*: the fewest at first, and then as many as
    there is work for; else all that there may be.
    """
    kinds = tuple(sorted({phase.kind for phase in suite.phases}))

    def another(name: str) -> AddAgent:
        return AddAgent(Agent(name, kinds, 1), handler_of(name))

    names = workers_of(suite, elsewhere=elsewhere)
    # Work that is there already needs one from the beginning.
    first = names[: suite.limits.min_agents] if is_scaled else names
    for name in first:
        another(name).apply(orchestrator)
    if is_scaled:
        pool = SuitePool(suite, len(names), _NAMES[elsewhere], kinds, another)
        orchestrator.drivers.add(pool)


#: Seconds between two looks.
_LOOK: Final = 1.0


class SuitePool(AgentPool):
    """
    A driver: adds workers of this process, and lets them go.

    Args:
        suite: The suite: its limits say how many there may be.
        most: How many there are at the most: no more than it has tasks.
        names: How their ids are made.
        kinds: The classes of tests that the workers can do.
        another: Makes the command that adds one, of its name.
    """

    def __init__(
        self,
        suite: Suite,
        most: int,
        names: str,
        kinds: Collection[str],
        another: Callable[[str], AddAgent],
    ) -> None:
        limits = suite.limits
        super().__init__(
            AgentTemplate("agent", names=names),
            min_agents=min(limits.min_agents, most),
            max_agents=most,
            scale_up_threshold=limits.scale_up,
            scale_down_threshold=limits.scale_down,
            settle=limits.settle,
            interval=_LOOK,
        )
        # Classes of tests may have names that no template could name.
        self._names = frozenset(kinds)
        self._another = another

    def tick(self, view: Any, now: float) -> tuple[list[Any], float | None]:
        """See `AgentPool.tick`."""
        commands, again = super().tick(view, now)
        return [
            self._another(one.agent_id) if isinstance(one, Spawn) else one
            for one in commands
        ], again
