"""
The eighth question: what is to be done by now, and when to ask again.

A driver is asked at the times that it names, on the orchestrator's clock, and answers
with commands that anybody could give. So what decides by time (schedules, alerts, pools
of workers) runs in a simulation as it is, in virtual time.

Decision: 0084.
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
    The orchestrator as a driver sees it: it may be asked, and not changed.

    Its methods are those of `TaskOrchestrator` and of `Simulation`.
    """

    @property
    def wall(self) -> float:
        """
        Seconds since the epoch that the system's clock shows.

        It may go back, and jump ahead; `now` does neither. In a simulation they are
        the same.
        """
        ...

    def tasks(self, *args: Any, **fields: Any) -> Iterable[TaskStatus]:
        """Tasks of which all that is said holds: see `TaskFilter`."""
        ...

    def get_task_status(self, task_id: str) -> TaskStatus:
        """The state of a task, with its history."""
        ...

    def get_stats(self) -> Stats:
        """Counts, times and resources, all of one instant."""
        ...

    def explain(self, task_id: str) -> Explanation:
        """Why a task does not run."""
        ...

    def state_of(self, task_id: str) -> TaskState | None:
        """The state of a task, or None if it is not known."""
        ...

    def agents(self) -> Sequence[AgentView]:
        """All workers that have ever joined, also those that are lost."""
        ...

    def waiting(self) -> Mapping[tuple[str, ...] | None, int]:
        """Queued tasks, by the capabilities and labels that they require."""
        ...

    def is_of(self, agent_id: str, template: AgentTemplate) -> bool:
        """Whether a worker is of a template, by an id that this makes."""
        ...

    def agent_totals(self, template: AgentTemplate) -> tuple[int, float | None]:
        """Of workers of a template: attempts that have ended, and the latency."""
        ...

    def starting(self, template: str) -> Sequence[str]:
        """Ids of workers of a template that were started and have not joined yet."""
        ...

    def given_up(self, template: str) -> str:
        """Why workers of a template are not spawned any more, or ""."""
        ...

    def kept(self, extension: str) -> Mapping[str, Any]:
        """The documents of an extension: see `TaskOrchestrator.kept`."""
        ...


class Command(Protocol):
    """
    Something that a driver wants done.

    Those here are the ordinary ones; one of your own is any object with this method.
    """

    def apply(self, orchestrator: Any, /) -> object:
        """Do it, by the methods of an orchestrator, or of a simulation."""
        ...


#: What `Driver.tick` answers: what is to be done, and when to be asked again.
Tick: TypeAlias = "tuple[Iterable[Command], float | None]"


@runtime_checkable
class Driver(Protocol):
    """
    Decides by time what is to be done: `orch.drivers.add(driver)`.

    Laws:
        1. `tick` does nothing but answer: it is called again after a crash, and in a
           simulation.
        2. Its commands may be carried out twice, if the process dies in between: let
           tasks have ids of which that does no harm.
        3. The next time is later than *now*, or None.
        4. What it must know after a restart, it finds in the view. What it keeps
           itself may be gone.
    """

    @property
    def name(self) -> str:
        """What it is called, in events and in the log."""
        ...

    @property
    def watches(self) -> Collection[type[Event]]:
        """Events after which it is asked at once, besides the times that it names."""
        return ()

    def tick(self, view: DriverView, now: float) -> Tick:
        """
        Say what is to be done by *now*.

        Args:
            view: The orchestrator.
            now: Seconds since the epoch, on a clock that never goes back.

        Returns:
            The commands, in order; and when to ask again, on the same clock: None is
            not before an event that it watches, or `orch.drivers.wake`.
        """
        ...


@frozen
class Submit:
    """
    Submit a task; one whose id is known is the task that is there.

    Attributes:
        task: The task.
    """

    task: Task

    def apply(self, orchestrator: Any, /) -> object:
        """Do it."""
        return orchestrator.submit_task(self.task)


@frozen
class Cancel:
    """
    Cancel a task, unless it has ended.

    Attributes:
        task_id: Its id.
        reason: Why; it stands in its error.
    """

    task_id: str
    reason: str

    def apply(self, orchestrator: Any, /) -> object:
        """Do it."""
        return orchestrator.cancel_task(self.task_id, reason=self.reason)


@frozen
class Suspend:
    """
    Put a task aside.

    Attributes:
        task_id: Its id.
    """

    task_id: str

    def apply(self, orchestrator: Any, /) -> object:
        """Do it."""
        return orchestrator.suspend_task(self.task_id)


@frozen
class Resume:
    """
    Resume a suspended task.

    Attributes:
        task_id: Its id.
    """

    task_id: str

    def apply(self, orchestrator: Any, /) -> object:
        """Do it."""
        return orchestrator.resume_task(self.task_id)


@frozen
class SetPriority:
    """
    Move a task in the queue.

    Attributes:
        task_id: Its id.
        priority: Its new priority.
    """

    task_id: str
    priority: int

    def apply(self, orchestrator: Any, /) -> object:
        """Do it."""
        return orchestrator.set_priority(self.task_id, self.priority)


@frozen
class ChangePools:
    """
    Set the totals of pools; those that are not named stay as they are.

    Attributes:
        resources: The pools that change, each with its new total.
    """

    resources: Resources | Mapping[str, float]

    def apply(self, orchestrator: Any, /) -> object:
        """Do it."""
        pools = getattr(orchestrator, "resources", orchestrator)
        return pools.resize(self.resources)


@frozen
class AddAgent:
    """
    Add a worker.

    Attributes:
        agent: What it is.
        handler: What does a task, called with the task and a context. A simulation
            does not call it.
        executor: Where the handler runs, as for `orch.agent`.
    """

    agent: Agent
    handler: Callable[..., Any]
    executor: str = "auto"

    def apply(self, orchestrator: Any, /) -> object:
        """Do it."""
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
    A worker gets no more work, and what it runs begins anew elsewhere.

    Attributes:
        name: Its name; it has a lease.
    """

    name: str

    def apply(self, orchestrator: Any, /) -> object:
        """Do it."""
        leave = getattr(orchestrator, "remove_agent", None)
        return (leave or orchestrator.agents.leave)(self.name)


def commands_of(answer: Any) -> tuple[list[Command], float | None]:
    """
    What `tick` has answered, taken apart.

    Raises:
        TypeError: It is no such answer.
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
