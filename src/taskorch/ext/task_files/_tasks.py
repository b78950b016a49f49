"""Translation of task files for the orchestrator: tasks, agents, pools for limits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from taskorch.api._orchestrator import TaskOrchestrator
from taskorch.ext.task_files._budgets import Lack, short_of
from taskorch.ext.task_files._config import AgentProgram, WorkspaceConfig
from taskorch.ext.task_files._task_file import TaskFile
from taskorch.kit.machine import machine_amounts
from taskorch.model import BudgetUsage, Program, Resources, Task, Units
from taskorch.policies import Measured

#: The number of attempts besides tasks: each runs its program as a task of its own.
_SPARE: Final = 16
_NO_LIMIT: Final = 1e6
#: The budget of programs in one run. It keeps none from starting, and settles what each
#: has spent: how much there is, is known to the ledger that all runners share.
SPENDING: Final = "spending"
_NO_END: Final = 1e12


def orchestrator_for(config: WorkspaceConfig) -> TaskOrchestrator:
    """An orchestrator whose pools are the limits of the workspace."""
    limits = config.limits
    agents = limits.max_concurrent_agents
    pools: dict[str, float] = {
        "agents": agents,
        "cpu": limits.max_cpu_per_agent * agents,
        "memory_mb": limits.max_memory_mb * agents,
    }
    if limits.measured:
        # Tasks may ask for more memory than there is; none is granted more.
        memory_mb = machine_amounts().get("memory_mb", pools["memory_mb"])
        pools["memory_mb"] = max(memory_mb, limits.max_memory_mb)
    for name, rule in config.phases.items():
        if rule.limit is not None:
            pools[f"phase {name}"] = rule.limit
    orch = TaskOrchestrator(
        resources=Resources(**pools),
        concurrency=2 * agents + _SPARE,
        grace=config.grace,
        allocator=Measured() if limits.measured else None,
    )
    if config.repairs:
        # Few workspaces have repairs: only these load the code that mends.
        from taskorch.ext.recovery._repairs import mend_with  # noqa: PLC0415

        mend_with(orch, config.repairs, _place_of)
    spent = {name for total in config.budgets.totals.values() for name in total}
    if spent:
        orch.budget(SPENDING, parent="", **dict.fromkeys(spent, _NO_END))
    return orch


def _place_of(
    task: Task[Any], _context: object
) -> tuple[Path, Mapping[str, str], Path] | None:
    """The folder and the log of the program of a task file."""
    program = task.payload
    if not isinstance(program, Program) or not program.cwd or not program.log:
        return None
    return Path(program.cwd), {}, Path(program.log)


def judged(config: WorkspaceConfig, task: TaskFile) -> tuple[str | None, str | None]:
    """Return why policies deny a task, or None, and their finding, or None."""
    if config.governance is None:
        return None, None
    # Few workspaces have policies: only these load the code that judges.
    from taskorch.ext.task_files import _policies  # noqa: PLC0415

    return _policies.judged(
        config.governance,
        task,
        task_for(config, task),
        timeout=config.timeout_of(task),
        budget=config.budget_of(task),
    )


def lacking(
    config: WorkspaceConfig, task: TaskFile, usages: Iterable[BudgetUsage]
) -> Iterator[Lack]:
    """Yield what keeps a task from starting, though all that it waits for is there."""
    denied, _ = judged(config, task)
    if denied is not None:
        yield Lack(denied, denied, is_hopeless=True)
    short = short_of(config.budgets, usages, config.budget_of(task), spends(task))
    if short is not None:
        yield short


def spends(task: TaskFile) -> Units:
    """Return the amounts that a task reserves of its budget."""
    return Resources(**task.resources.spends).units


def add_agent(orch: TaskOrchestrator, agent: AgentProgram, handler: Any) -> None:
    """Add *agent* to the orchestrator, with *handler* for its tasks."""
    orch.agent(
        f"agent/{agent.name}",
        capabilities=[_by(agent.name), *map(_can, agent.capabilities)],
        max_concurrency=agent.limit,
        executor="thread",
    )(handler)


def task_for(
    config: WorkspaceConfig, task: TaskFile, after: Iterable[Any] = ()
) -> Task[Any]:
    """The task of a task file, which comes *after* what it waits for."""
    name, rule = config.rule(task.phase)
    needs: dict[str, float] = {"agents": 1}
    if rule.limit is not None and task.phase:
        needs[f"phase {name}"] = 1
    if task.cpu:
        needs["cpu"] = task.cpu
    if task.memory_mb and not config.limits.measured:
        needs["memory_mb"] = task.memory_mb
    return Task(
        "task file",
        task.task_id,
        id=task.task_id,
        after=after,
        priority=task.priority,
        requires=_requires(config, task),
        resources=Resources(**needs),
        writes=task.writes,
    )


def _requires(config: WorkspaceConfig, task: TaskFile) -> list[str]:
    """The capabilities for a task: its agent's name, or what the task asks for."""
    wanted = [_can(name) for name in task.capability]
    if task.agent is not None or not wanted:
        wanted.append(_by(task.agent or config.agent.name))
    return wanted


def _by(name: str) -> str:
    return f"by {name}"


def _can(name: str) -> str:
    return f"can {name}"
