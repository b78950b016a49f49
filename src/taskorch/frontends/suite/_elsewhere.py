"""
Agents of other processes: each task is a program for them, and is judged here.

They need no part of ours: they run a program, and tell what it printed. It reads what
is to be run from the folder of the run, and leaves there what is to be judged. So an
agent that does not see this folder runs nothing, and cannot be believed by accident.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeVar, cast

import attrs

from taskorch._orchestrator import TaskOrchestrator
from taskorch.errors import AttemptInterrupted, InvalidTaskError, TaskFailure
from taskorch.frontends.suite._attempt import Attempt, AttemptInfo, are_numbers
from taskorch.frontends.suite._folder import RunFolder, write_json
from taskorch.frontends.suite._model import Suite
from taskorch.frontends.suite._process import WORKER, AgentDiedError
from taskorch.model import Agent, Program, ProgramResult, Resources, Task, TaskState
from taskorch.policies import CapabilityRegistry
from taskorch.protocols import AgentView, AttemptExecutor, Context, Match
from taskorch.protocols import Attempt as AnyAttempt

B = TypeVar("B")
#: What begins the names of the agents of this process, where others may come.
OWN: Final = "local_"
#: What the last event of an attempt says, beside that it has ended, and where.
_END: Final = ("exit_code", "seconds", "memory_mb", "cpu_seconds", "disk_mb")


class NotSharedError(TaskFailure):
    """An agent does not see what it needs to run a task of the suite."""

    code = "not_shared"
    #: Another agent may see it.
    failure_class = "system_error"


class OthersFirst:
    """
    The AgentRegistry by which agents elsewhere do what they can while they are there.

    Who can do a task is said by its capabilities; what no other can do is for the
    agents of this process, its *own*.
    """

    def __init__(self, own: Collection[str]) -> None:
        self._own = frozenset(own)
        self._capable = CapabilityRegistry()

    def matches(
        self, task: Task, agents: Sequence[AgentView], context: Context
    ) -> Match:
        """The agents elsewhere that can do *task*, or else those of this process."""
        there = [a for a in agents if a.name not in self._own and not a.is_lost]
        match = self._capable.matches(task, there, context)
        if not match.agents:
            own = [agent for agent in agents if agent.name in self._own]
            match = self._capable.matches(task, own, context)
        return attrs.evolve(match, reusable=OthersFirst)

    def __repr__(self) -> str:
        return f"OthersFirst({sorted(self._own)})"


def admit(
    orchestrator: TaskOrchestrator, agent: Agent, executor: AttemptExecutor[Any]
) -> None:
    """
    Add an agent elsewhere to an orchestrator, by a name no local agent has.

    Raises:
        InvalidTaskError: One of ours may have it; or see `AgentManager.join`.
    """
    if agent.name.startswith(OWN):
        msg = f"agents of the service itself have names that begin with {OWN!r}"
        raise InvalidTaskError(msg, hint="give it another name")
    orchestrator.agents.join(agent, executor)


def join(
    orchestrator: TaskOrchestrator,
    suite: Suite,
    folder: RunFolder,
    agent: Agent,
    executor: AttemptExecutor[Any],
) -> None:
    """
    Add an agent elsewhere to an orchestrator, for tasks of a run.

    One that can do classes of tests, by name, does only these; else it does all.

    Raises:
        InvalidTaskError: See `admit`.
    """
    kinds = {phase.kind for phase in suite.phases}
    does = kinds.intersection(agent.capabilities) or kinds
    admit(
        orchestrator,
        attrs.evolve(agent, capabilities=tuple(sorted(does))),
        Elsewhere(orchestrator, folder, agent.name, executor),
    )


class Elsewhere(AttemptExecutor[B]):
    """Runs test tasks as programs of an agent elsewhere, and judges the results."""

    def __init__(
        self,
        orchestrator: TaskOrchestrator,
        folder: RunFolder,
        name: str,
        executor: AttemptExecutor[B],
    ) -> None:
        self._orchestrator = orchestrator
        self._folder = folder
        self._name = name
        self._executor = executor

    def begin(self, attempt: AnyAttempt) -> B:
        """Give the agent the program."""
        told = AttemptInfo(
            *(attempt.task_id, attempt.number, attempt.fence),
            Resources.from_units(attempt.told("allocation", None)),
            partial(attempt.told, "progress"),
        )
        made = Attempt(self._name, self._folder, attempt.task, told)
        made.clear()
        given = _Given(attempt, made, self._counts)
        return self._executor.begin(cast("AnyAttempt", given))

    def stop(self, begun: B, grace: float) -> None:
        """Have the agent end the program."""
        self._executor.stop(begun, grace)

    def _counts(self, attempt: AnyAttempt) -> bool:
        """Whether the attempt is still wanted: an abandoned one is not judged."""
        status = self._orchestrator.get_task_status(attempt.task_id)
        return status.state is TaskState.RUNNING and status.attempts == attempt.number


class _Given:
    """An attempt as the executor of the agent sees it: as a program."""

    def __init__(self, attempt: AnyAttempt, made: Attempt, counts: Any) -> None:
        self._attempt = attempt
        self._made = made
        self._counts = counts
        #: Stands in this file alone. One of another run may lie there on a machine
        #: that does not share the folder.
        self._mark = secrets.token_hex(8)
        job = made.place / "job.json"
        write_json(job, {**made.job(), "mark": self._mark})
        args = [made.python, str(WORKER), str(job.resolve())]
        program = Program(args, inherit_env=True, check=False)
        self.task: Task = attrs.evolve(attempt.task, payload=program)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._attempt, name)

    def told(self, what: str, value: Any) -> Any:
        if what != "progress":
            return self._attempt.told(what, value)
        if isinstance(value, Mapping):
            self._made.hear(value)
        return None

    def end(self, value: Any = None, error: BaseException | None = None) -> None:
        attempt = self._attempt
        if attempt.cancelled:
            if self._counts(attempt):
                # Its agent says that it has stopped it, and no more.
                self._made.cut_off("cancel")
        elif not isinstance(error, AttemptInterrupted) and self._counts(attempt):
            try:
                value, error = self._judged(value, error), None
            except Exception as raised:  # noqa: BLE001 - it is the end of the attempt
                value, error = None, raised
        attempt.end(value, error)

    def _judged(self, result: object, error: BaseException | None) -> dict[str, Any]:
        """
        The result of the test task, from the *result* of its program.

        Raises:
            CriteriaNotMetError: It does not meet its criteria.
            AgentDiedError: It was killed.
            NotSharedError: It could not be run there.
        """
        if not isinstance(result, ProgramResult):
            raise self._not_shared(str(error or "it has run no program"))
        event = _last_event(result.stdout_tail)
        if event is not None and event.get("mark") == self._mark:
            return self._made.end(event)
        if result.exit_code < 0:
            number = -result.exit_code
            msg = (
                f"what ran it on agent {self._made.agent} was ended by signal {number}"
            )
            raise AgentDiedError(msg)
        said = result.stderr_tail.strip() or f"it exited with {result.exit_code}"
        raise self._not_shared(said)

    def _not_shared(self, why: str) -> NotSharedError:
        made = self._made
        folder = made.folder.path.resolve()
        msg = f"agent {made.agent} cannot run tasks of this suite: {why}"
        hint = (
            f"an agent needs the folders {folder} and {made.payload['cwd']}, {WORKER} "
            f"and {made.python}, by these paths: run it on the machine of the service, "
            "or share them"
        )
        return NotSharedError(msg, hint=hint)


def _last_event(text: str) -> dict[str, Any] | None:
    """The last event in the output of the program; None if there is none."""
    try:
        event = json.loads(text)
    except ValueError:
        return None
    if not isinstance(event, dict) or event.get("event") != "ended":
        return None
    is_whole = are_numbers(event, _END) and isinstance(event.get("host"), str)
    return event if is_whole else None
