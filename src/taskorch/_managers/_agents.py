"""Agents that live elsewhere: `orch.agents`."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from taskorch._visible import said
from taskorch.errors import (
    InvalidTaskError,
    InvalidTransitionError,
    UnknownAgentError,
)
from taskorch.events import LateResultIgnored
from taskorch.kernel import past_of
from taskorch.model import (
    Agent,
    Program,
    ProgramResult,
    TaskState,
    check_capabilities,
    check_count,
    check_id,
    check_seconds,
)
from taskorch.model._show import show
from taskorch.protocols import AttemptExecutor
from taskorch.runtime._attempts import AgentRunner
from taskorch.runtime._documents import document_of_end
from taskorch.runtime._late import keep_late

if TYPE_CHECKING:
    from taskorch.kernel import TaskRow
    from taskorch.runtime._runtime import Runtime

__all__ = ("AgentManager",)


class AgentManager:
    """
    `orch.agents`: agents in other processes or on other machines, which have leases.

    Whoever speaks with such an agent is its executor, and says here what is heard of
    it. One that is silent for its lease is lost: what it had is made again, and what it
    brings of that later is kept, and does not count.
    """

    def __init__(
        self,
        # Any: the public type does not drag the runtime along.
        runtime: Any,
    ) -> None:
        self._rt: Runtime = runtime

    def join(self, agent: Agent, executor: AttemptExecutor[Any]) -> None:
        """
        An agent has come, or has started anew: it gets work from now on.

        Programs that need one of its capabilities (`Task.program(…, requires=…)`) are
        for it, too. Attempts that it had before are lost.

        Args:
            agent: What is known of it; it has a lease.
            executor: Begins and stops its attempts: by messages, mostly.

        Raises:
            InvalidTaskError: The name is taken by an agent that is there, or it has no
                lease, or another value that can never work.
        """
        check_id(agent.name)
        check_capabilities(agent.capabilities)
        if agent.lease is None:
            msg = f"agent {agent.name!r} has no lease: it could not be missed"
            raise InvalidTaskError(msg, hint="Agent(…, lease=15)")
        check_seconds("lease", agent.lease, zero=False)
        if agent.max_concurrency is not None:
            check_count("max_concurrency", agent.max_concurrency, least=1)
        if not isinstance(executor, AttemptExecutor):
            msg = f"an AttemptExecutor is needed, not {show(executor)}"
            raise InvalidTaskError(msg)
        self._rt.add_agent(agent, AgentRunner(agent.name, _no_handler, executor))

    def beat(
        self, name: str, attempts: Iterable[tuple[str, int]]
    ) -> list[tuple[str, int]]:
        """
        An agent is heard of.

        Args:
            name: Its name.
            attempts: Ids of tasks and numbers of attempts, of this life, of all that it
                has begun and not ended, and of all that is on its way to it. One that
                it has not named for a whole lease is made again.

        Returns:
            Those of them that do not count any more: it should stop them.

        Raises:
            UnknownAgentError: No agent of this name, with a lease, has joined.
        """
        rt = self._rt
        self._check(name)
        named = list(attempts)

        def change(now: int) -> list[tuple[str, int]]:
            there = named
            if rt.committer is not None:
                # It cannot know of what waits until its start is kept.
                held = [
                    (row.id, number)
                    for row, number in rt.committer.held
                    if row.agent is not None and row.agent.name == name
                ]
                there = [*named, *held]
            return rt.kernel.beat(name, there, now)

        asked = frozenset(named)
        abandoned: list[tuple[str, int]] = rt.step(change)
        return [attempt for attempt in abandoned if attempt in asked]

    def leave(self, name: str, unbegun: Collection[tuple[str, int]] = ()) -> bool:
        """
        An agent goes, and has ended what it had begun: all of that is made again.

        Args:
            name: Its name.
            unbegun: Of its attempts, those that it has never begun, as in `beat`: also
                what must not run twice is made again.

        Returns:
            Whether it was there: False if it counted as lost.

        Raises:
            UnknownAgentError: No agent of this name, with a lease, has joined.
        """
        rt = self._rt
        self._check(name)
        never = frozenset(unbegun)
        left: bool = rt.step(lambda now: rt.kernel.leave(name, never, now))
        return left

    def is_lost(self, name: str) -> bool:
        """
        Whether an agent counts as lost: it was silent for its lease, or has left.

        Raises:
            UnknownAgentError: No agent of this name, with a lease, has joined.
        """
        self._check(name)
        return self._rt.kernel.agents[name].lost

    def keep(self) -> None:
        """
        Wait until all that was told so far is kept, if there is a journal.

        Then an agent may forget that it has ended an attempt.

        Raises:
            JournalUnavailableError: It cannot be kept now: nobody knows whether it is.
        """
        self._rt.step(lambda _now: None, keep=True)

    def bring_late(
        self,
        task_id: str,
        fence: tuple[int, int],
        value: Any = None,
        error: BaseException | None = None,
        *,
        agent: str,
    ) -> bool:
        """
        Take what came of an attempt of an earlier life, with which its agent went on.

        What it returned completes its task, unless that has ended since, or is under
        way in this process; another agent's attempt is stopped. Anything else changes
        nothing: it is in `TaskStatus.late_results`, and told as `LateResultIgnored`.

        Args:
            task_id: The id of its task.
            fence: Its life and number, as `Attempt.fence`.
            value: What it returned.
            error: What it raised.
            agent: The name of the agent that made it.

        Returns:
            Whether it counts.

        Raises:
            InvalidTaskError: It is of this life, or the agent never had the task.
            UnknownTaskError: No task has this id.
        """
        self.check_made(task_id, fence, agent)
        rt = self._rt
        number = fence[1]
        work = rt.directory.known(task_id)
        row = work._row
        # How a program has ended is for the class that made it of the task, unless it
        # is the user's own.
        is_of_kind = isinstance(value, ProgramResult) == (
            self.program_of(task_id) is not None
        )
        committer = rt.committer
        document = None
        if committer is not None:
            document, error = document_of_end(committer.document, task_id, value, error)
        described = () if error is None else said(error)
        outcome = "completed" if error is None else "failed"

        def change(now: int) -> bool:
            counts = (
                error is None
                and is_of_kind
                and self._await_end(row, number, agent, now)
            )
            if committer is not None:
                committer.documents[work] = document
            if counts:
                work._value, work._error = value, None
                why = f"agent {agent} had done it while the orchestrator was away"
                # A state machine that forbids it leaves it held.
                with suppress(InvalidTransitionError):
                    return rt.kernel.decide(row, "complete", now, why)
            rt.kernel.note(
                LateResultIgnored, now, task_id, number, outcome, *described, cargo=work
            )
            late = value if error is None else error
            keep_late(work, number, late, described[0] if described else "")
            return False

        counted: bool = rt.step(change, keep=True)
        return counted

    def _await_end(self, row: TaskRow, number: int, agent: str, now: int) -> bool:
        """Hold *row* for the end of its attempt *number*; False if it is too late."""
        kernel = self._rt.kernel
        why = f"agent {agent} has ended attempt {number} of it"
        extra = row.extra
        if row.state is TaskState.RUNNING:
            there = row.agent is not None and row.agent.lease_ns
            is_next = row.attempt == number + 1
            if not (there and is_next) or (extra is not None and extra.stop):
                return False
            described = ("AttemptLostError", why)
            kernel.end_attempt(row, row.attempt, "missing", now, None, described)
        elif row.attempt != number:
            return False
        if row.state is TaskState.QUEUED:
            kernel.miss(row, why, now)
        extra = row.extra
        is_held = extra is not None and extra.decision and not extra.blocked_by
        return row.state is TaskState.BLOCKED and is_held

    def check_made(self, task_id: str, fence: tuple[int, int], agent: str) -> None:
        """
        Refuse what no agent of this name has made in an earlier life.

        Args:
            task_id: The id of a task.
            fence: The life and the number of an attempt, as `Attempt.fence`.
            agent: The name of the agent.

        Raises:
            InvalidTaskError: It is of this life, or the agent never had the task.
            UnknownTaskError: No task has this id.
        """
        rt = self._rt
        epoch, number = fence
        if epoch >= rt.epoch:
            msg = f"attempt {number} of task {task_id} is of this life"
            raise InvalidTaskError(msg, hint="Attempt.end() ends it", task_id=task_id)
        rt.look_up(task_id)
        with rt.lock:
            row = rt.directory.known(task_id)._row
            runs = [who for state, _, who in past_of(row) if state is TaskState.RUNNING]
            if agent not in runs or number > row.attempt:
                msg = f"agent {agent!r} made no attempt {number} of task {task_id}"
                raise InvalidTaskError(msg, task_id=task_id)

    def program_of(self, task_id: str) -> Program | None:
        """
        The program that a task is, if it is one and has not left memory.

        Raises:
            UnknownTaskError: No task has this id.
        """
        self._rt.look_up(task_id)
        task = self._rt.directory.known(task_id)._task
        payload = None if task is None else task.payload
        return payload if isinstance(payload, Program) else None

    def _check(self, name: str) -> None:
        row = self._rt.kernel.agents.get(name)
        if row is None or not row.lease_ns or name not in self._rt.runners:
            msg = f"no agent elsewhere has joined by the name {name!r}"
            raise UnknownAgentError(msg, hint="orch.agents.join(…)")


def _no_handler(_task: object, _context: object) -> None:
    """What an agent elsewhere does, it does elsewhere."""
