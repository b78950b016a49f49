"""
Controllers: code that decides by time, and when it is asked again.

A controller (class `Driver`) is asked at the times that it names, on the orchestrator's
clock, and answers with ordinary commands. So schedules, alerts and worker pools run
unchanged in a simulation, in virtual time.

Decision: schedules.
"""

from __future__ import annotations

from collections.abc import (
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

from taskorch.kit.frozen import frozen
from taskorch.model import Agent, Resources, Task, TaskState

if TYPE_CHECKING:
    from taskorch.events import Event
    from taskorch.model import AgentTemplate, Explanation, Stats, TaskStatus
    from taskorch.protocols._context import AgentView


class DriverView(Protocol):
    """
    The orchestrator as a controller sees it: read only.

    Its methods are those of `TaskOrchestrator` and of `Simulation`.
    """

    @property
    def wall(self) -> float:
        """
        Time of the system's clock, in seconds since the epoch.

        It may go back, and jump ahead; `now` does neither. In a simulation they are
        the same.
        """
        ...

    def tasks(self, *args: Any, **fields: Any) -> Iterable[TaskStatus]:
        """Return the tasks that fulfil all criteria: see `TaskFilter`."""
        ...

    def get_task_status(self, task_id: str) -> TaskStatus:
        """Return the state of a task, with its history."""
        ...

    def get_stats(self) -> Stats:
        """Return counts, times and resources, all of one instant."""
        ...

    def explain(self, task_id: str) -> Explanation:
        """Explain why a task does not run."""
        ...

    def state_of(self, task_id: str) -> TaskState | None:
        """Return the state of a task, or None if it is not known."""
        ...

    def agents(self) -> Sequence[AgentView]:
        """Return all workers that have ever joined, with those that are lost."""
        ...

    def waiting(
        self, template: AgentTemplate | None = None
    ) -> Mapping[tuple[str, ...] | None, int]:
        """
        Return the queued tasks, by the capabilities and labels that they require.

        With a *template*, tasks are left out that ask for more resources than its
        workers, or the resource pools, ever have.
        """
        ...

    def is_of(self, agent_id: str, template: AgentTemplate) -> bool:
        """Return whether the id of a worker is one that *template* makes."""
        ...

    def agent_totals(self, template: AgentTemplate) -> tuple[int, float | None]:
        """Return how many attempts ended on workers of a template, and the latency."""
        ...

    def starting(self, template: str) -> Sequence[str]:
        """Return ids of workers of a template that were started but have not joined."""
        ...

    def given_up(self, template: str) -> str:
        """Return why workers of a template are not spawned any more, or ""."""
        ...

    def kept(self, extension: str) -> Mapping[str, Any]:
        """Return the documents of an extension: see `TaskOrchestrator.kept`."""
        ...


class Command(Protocol):
    """
    A command of a controller.

    This module has the usual ones; your own is any object with this method.
    """

    def apply(self, orchestrator: Any, /) -> object:
        """Carry out the command with methods of an orchestrator or a simulation."""
        ...


#: The answer of `Driver.tick`: the commands, and the time of the next call.
Tick: TypeAlias = "tuple[Iterable[Command], float | None]"


@runtime_checkable
class Driver(Protocol):
    """
    A controller, which decides by time: `orch.drivers.add(driver)`.

    Laws:
        1. `tick` only answers, without side effects: it is called again after a crash,
           and in a simulation.
        2. Its commands may be carried out twice, if the process dies in between: give
           tasks ids, so that this does no harm.
        3. The next time is later than *now*, or None.
        4. It reads its state after a restart from the view. Its own attributes may be
           gone.
    """

    @property
    def name(self) -> str:
        """Name of the controller in events and in the log."""
        ...

    @property
    def watches(self) -> Collection[type[Event]]:
        """Events after which it is asked at once, beside the times that it names."""
        return ()

    def tick(self, view: DriverView, now: float) -> Tick:
        """
        Return the commands that are due by *now*.

        Args:
            view: The orchestrator.
            now: Seconds since the epoch, on a clock that never goes back.

        Returns:
            The commands, in order; and the time of the next call, on the same clock, or
            None to wait for an event that it watches, or for `orch.drivers.wake`.
        """
        ...


@frozen
class Submit:
    """
    Command: submit a task; a known id refers to the existing task.

    Attributes:
        task: The task.
    """

    task: Task

    def apply(self, orchestrator: Any, /) -> object:
        """Submit the task."""
        return orchestrator.submit_task(self.task)


@frozen
class Cancel:
    """
    Command: cancel a task, unless it has ended.

    Attributes:
        task_id: Its id.
        reason: The reason, for its error.
    """

    task_id: str
    reason: str

    def apply(self, orchestrator: Any, /) -> object:
        """Cancel the task."""
        return orchestrator.cancel_task(self.task_id, reason=self.reason)


@frozen
class Suspend:
    """
    Command: suspend a task.

    Attributes:
        task_id: Its id.
    """

    task_id: str

    def apply(self, orchestrator: Any, /) -> object:
        """Suspend the task."""
        return orchestrator.suspend_task(self.task_id)


@frozen
class Resume:
    """
    Command: resume a suspended task.

    Attributes:
        task_id: Its id.
    """

    task_id: str

    def apply(self, orchestrator: Any, /) -> object:
        """Resume the task."""
        return orchestrator.resume_task(self.task_id)


@frozen
class SetPriority:
    """
    Command: move a task in the queue.

    Attributes:
        task_id: Its id.
        priority: Its new priority.
    """

    task_id: str
    priority: int

    def apply(self, orchestrator: Any, /) -> object:
        """Set the priority."""
        return orchestrator.set_priority(self.task_id, self.priority)


@frozen
class ChangePools:
    """
    Command: set the totals of pools; other pools stay as they are.

    Attributes:
        resources: The pools that change, each with its new total.
    """

    resources: Resources | Mapping[str, float]

    def apply(self, orchestrator: Any, /) -> object:
        """Change the pools."""
        pools = getattr(orchestrator, "resources", orchestrator)
        return pools.resize(self.resources)


@frozen
class AddAgent:
    """
    Command: add a worker.

    Attributes:
        agent: The description of the worker.
        handler: The function that carries out a task, called with the task and a
            context. A simulation does not call it.
        executor: The executor of the handler, as for `orch.agent`.
    """

    agent: Agent
    handler: Callable[..., Any]
    executor: str = "auto"

    def apply(self, orchestrator: Any, /) -> object:
        """Add the worker."""
        info = self.agent
        add = orchestrator.agent(
            info.name,
            capabilities=info.capabilities,
            max_concurrency=info.max_concurrency,
            capacity=info.capacity,
            request=info.request,
            executor=self.executor,
            breaker=info.breaker,
        )
        return add(self.handler) if callable(add) else add


@frozen
class RemoveAgent:
    """
    Command: remove a worker; its attempts begin anew elsewhere.

    Attributes:
        name: The name of a worker with a lease.
    """

    name: str

    def apply(self, orchestrator: Any, /) -> object:
        """Remove the worker."""
        leave = getattr(orchestrator, "remove_agent", None)
        return (leave or orchestrator.agents.leave)(self.name)


def commands_of(answer: Any) -> tuple[list[Command], float | None]:
    """
    Return the commands and the next time in an answer of `tick`.

    Raises:
        TypeError: The answer has another form.
    """
    match answer:
        case (commands, None | int() | float() as when) if not isinstance(when, bool):
            pass
        case _:
            msg = (
                "tick() answers with commands and the next time, as in "
                f"`return [], now + 60`, not with {type(answer).__name__}"
            )
            raise TypeError(msg)
    listed: list[Command] = list(commands)
    for command in listed:
        if not callable(getattr(command, "apply", None)):
            msg = f"a command has a method `apply`, and {command!r} has none"
            raise TypeError(msg)
    return listed, when
