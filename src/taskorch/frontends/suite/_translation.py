"""
A suite in our words: a workflow, and an orchestrator with a fleet of workers.

Decisions: 0043, 0249.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Collection, Iterator
from typing import Any, Final, TypeAlias

import attrs

from taskorch._contexts import TaskContext
from taskorch._orchestrator import TaskOrchestrator
from taskorch.door import Door
from taskorch.frontends.suite._elsewhere import OWN, OthersFirst, room_for_any
from taskorch.frontends.suite._model import (
    GLUE,
    Suite,
    SuitePhase,
    SuiteTask,
    parts_of,
    template_of,
)
from taskorch.frontends.suite._placeholders import arguments_of, fill, filled
from taskorch.frontends.suite._sharding import about_of, judged
from taskorch.governance._runtime import joined
from taskorch.model import Agent, AgentTemplate, Resources, RetryPolicy, Task
from taskorch.policies import AgentPool, PerformanceRouter
from taskorch.policies._agent_pool import Spawn
from taskorch.recovery import RecoveryHandler
from taskorch.runtime import machine_resources
from taskorch.workflows import Phase, Workflow

#: What an agent does with a task.
Handler: TypeAlias = Callable[[Task, TaskContext], Any]
#: What begins the name of an agent.
_AGENT: Final = "agent_"
_NUMBER: Final = "{number:03}"
#: Attempts at once where others may come: each of these has a limit of its own.
_ELSEWHERE: Final = 10_000
#: Attempts that are no tests: gates, and what keeps tasks in order.
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
    """What others come after has ended."""


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
    """What is complete when the parts of *task* are; shards are judged as a whole."""
    parts = [workflow[part.id] for part in task.subtasks]
    about = {"name": task.name}
    if task.shards == 1:
        added.gather(parts, id=task.id, metadata=about)
        return
    payload = about_of(task, template_of(suite, task))
    added.task(judged, parts, payload, id=task.id, type="shards", metadata=about)


def _end_of(workflow: Workflow, task: SuiteTask) -> str:
    """What comes when all that is run for *task* has ended, however that was."""
    name = f"{task.id}/ended"
    after = [part.id for part in task.run]
    workflow.task(ended, id=name, type="order", after=after, join="finished")
    return name


def _in_order(tasks: tuple[SuiteTask, ...]) -> Iterator[SuiteTask]:
    """*tasks* as they stand, but each after what it depends on."""
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
                n: task.resources[n]
                for n in task.resources
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
    """What an agent needs to know to run *task*."""
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


def agents_of(suite: Suite) -> list[str]:
    """The names of the agents: as many as there may be, and work for."""
    most = suite.limits.max_agents
    if most is None:
        most = max(suite.limits.min_agents, math.ceil(machine_resources()["cpu"]))
    parts = len(parts_of(suite))
    many = max(1, min(most, parts))
    return [f"{_AGENT}{_NUMBER}".format(number=n) for n in range(1, many + 1)]


def pools_of(suite: Suite) -> Resources:
    """
    What the agents may hold together.

    What the configuration does not limit is as much as this machine has, or as the
    largest task needs, if that is more.
    """
    has = room_for_any(suite, machine_resources())
    return Resources(**{**(has or {}), **suite.limits.resources})


class _AlikeRouter(PerformanceRouter):
    """Of agents that are alike: tests that fail on one make no other better."""

    waits_for_better = False


def orchestrator_of(
    suite: Suite, *, elsewhere: bool = False, **options: Any
) -> TaskOrchestrator:
    """
    An orchestrator for the suite, still without agents.

    *elsewhere*: agents elsewhere may join, and do the work while they are there. The
    *options* are more arguments of `TaskOrchestrator`.
    """
    own = own_agents(suite, elsewhere=elsewhere)
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
    Door(orch).set_apart(GLUE, frozenset(stand_ins))
    return orch


def declare_budgets(orchestrator: TaskOrchestrator, suite: Suite) -> None:
    """Declare the budgets of *suite*: its tasks draw on them."""
    for name, amounts in suite.budgets.totals.items():
        parent = suite.budgets.parents.get(name, "")
        orchestrator.budget(name, parent=parent, **amounts)


def _recovery_of(suite: Suite) -> RecoveryHandler:
    """What follows failures: nobody is asked, and tests are run again as it says."""
    retries = suite.retries
    return RecoveryHandler(
        max_retries=retries.max_retries,
        retry_delay_seconds=retries.delay,
        escalation_threshold=retries.escalation_threshold or 1,
        matrix=suite.matrix,
        classes=suite.classes,
        escalate=False,
    )


def own_agents(suite: Suite, *, elsewhere: bool) -> list[str]:
    """The names of the agents of this process; *elsewhere*: others may come, too."""
    first = OWN if elsewhere else _AGENT
    return [first + name.removeprefix(_AGENT) for name in agents_of(suite)]


def add_agents(
    orchestrator: TaskOrchestrator,
    suite: Suite,
    handler_of: Callable[[str], Handler],
    *,
    elsewhere: bool = False,
    is_scaled: bool = False,
) -> None:
    """
    Add the agents of this process to *orchestrator*.

    *handler_of* gives what the agent of a name does with a task; *elsewhere* is as it
    was said to `orchestrator_of`. *is_scaled*: the fewest at first, and then as many as
    there is work for; else all that there may be.
    """
    kinds = {phase.kind for phase in suite.phases}

    def add(name: str) -> None:
        orchestrator.agent(name, capabilities=kinds, max_concurrency=1)(
            handler_of(name)
        )

    names = own_agents(suite, elsewhere=elsewhere)
    if not is_scaled:
        for name in names:
            add(name)
        return
    form = f"{OWN if elsewhere else _AGENT}{_NUMBER}"
    pool = SuitePool(suite, len(names), form, kinds, add)
    # Work that is there already needs one from the beginning.
    for name in names[: pool.min_agents]:
        add(name)
    orchestrator.drivers.add(pool)


#: Seconds between two looks.
_LOOK: Final = 1.0
#: Adds an agent, by its name.
Add: TypeAlias = Callable[[str], object]


@attrs.frozen
class _Another:
    """Command: there is one agent more."""

    name: str
    add: Add

    def apply(self, orchestrator: Any, /) -> object:
        """Do it."""
        del orchestrator
        return self.add(self.name)


class SuitePool(AgentPool):
    """
    A driver: adds agents of this process, and lets them go.

    Args:
        suite: The suite: its limits say how many there may be.
        most: How many there are at the most: no more than it has tasks.
        names: How their ids are made.
        kinds: What they can do.
        add: Adds one.
    """

    def __init__(
        self, suite: Suite, most: int, names: str, kinds: Collection[str], add: Add
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
        self._add = add

    def tick(self, view: Any, now: float) -> tuple[list[Any], float | None]:
        """See `AgentPool.tick`."""
        commands, again = super().tick(view, now)
        return [self._command(one) for one in commands], again

    def _command(self, command: Any) -> Any:
        if isinstance(command, Spawn):
            return _Another(command.agent_id, self._add)
        return command
