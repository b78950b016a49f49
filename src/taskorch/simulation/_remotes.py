"""
Remote agents as one life of an orchestrator knows them: what is said to them and heard.

Every message may be lost, doubled or late. So what matters is said again at every sign
of life: an order that an agent does not name, a wish to stop that it has not followed.
An agent does nothing twice, and a fence (epoch, task, attempt) tells what is current.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

from taskorch.kernel import TaskRow
from taskorch.model import TaskState
from taskorch.protocols import Attempt, AttemptExecutor, Entry
from taskorch.runtime._committer import Commits
from taskorch.runtime._work import task_of
from taskorch.simulation import _attempt
from taskorch.simulation._agents import RemoteAgent, Report
from taskorch.simulation._run import Fence

_RUNNING: Final = TaskState.RUNNING


class RemotesLife(_attempt.AttemptLife, Protocol):
    """What is asked of a life besides what all executors ask."""

    commits: Commits[list[Entry]] | None
    held_back: dict[tuple[str, int], TaskRow]


class _Session:
    """One instance of a remote agent."""

    __slots__ = ("agent", "instance", "sent")

    def __init__(self, agent: RemoteAgent, instance: int) -> None:
        self.agent: RemoteAgent = agent
        self.instance: int = instance
        #: Attempts that it was told to begin.
        self.sent: dict[tuple[str, int], TaskRow] = {}


class Remotes(AttemptExecutor[tuple[TaskRow, int]]):
    """
    The executor for all remote agents that one life has heard of.

    To begin an attempt there, or to stop it, is to send a message.
    """

    def __init__(self, life: RemotesLife) -> None:
        self._life = life
        self._kernel = life.kernel
        self._epoch = life.epoch
        self._send = life.world.send
        self._sessions: dict[str, _Session] = {}

    def join(self, agent: RemoteAgent, instance: int) -> _Session:
        """An instance is heard of for the first time: an earlier one is lost."""
        session = _Session(agent, instance)
        self._sessions[agent.info.name] = session
        self._kernel.add_agent(agent.info, self._life.now())
        return session

    def knows(self, name: str) -> bool:
        """Whether the agent has been heard of in this life."""
        return name in self._sessions

    # -- what is heard -------------------------------------------------------------

    def hear(self, kind: str, agent: RemoteAgent, content: Any) -> None:
        """A remote agent says something."""
        if kind == "beat":
            self._hear_beat(agent, *content)
        elif kind == "report":
            self._hear_report(agent, content)
        else:
            fence, value = content
            row = self._kernel.tasks.get(fence[1])
            if row is not None and fence[0] == self._epoch:
                self._life.note_progress(row, fence[2], value)

    def _hear_beat(
        self, agent: RemoteAgent, instance: int, named: Sequence[Fence]
    ) -> None:
        name = agent.info.name
        session = self._sessions.get(name)
        if session is None or session.instance < instance:
            session = self.join(agent, instance)
        elif session.instance > instance:
            # It was sent by an instance that has died since.
            return
        ours = [fence[1:] for fence in named if fence[0] == self._epoch]
        # It cannot name the attempts that wait for a commit before it hears of them.
        ours += [
            key
            for key, row in self._life.held_back.items()
            if row.agent is not None and row.agent.name == name
        ]
        abandoned = self._kernel.beat(name, ours, self._life.now())
        for fence in named:
            if fence[0] != self._epoch or fence[1:] in abandoned:
                self._send_stop(session, fence)
        for key, row in list(session.sent.items()):
            if row.attempt != key[1] or row.state is not _RUNNING:
                del session.sent[key]
            elif key not in ours:
                # The order may have been lost; an agent ignores one that it had before.
                self._send_begin(session, row, key[1])
            elif row.extra is not None and row.extra.stop:
                self._send_stop(session, (self._epoch, *key))

    def _hear_report(self, agent: RemoteAgent, report: Report) -> None:
        _, fence, how, result, error = report
        epoch, task_id, attempt = fence
        life, kernel = self._life, self._kernel
        row = kernel.tasks.get(task_id)
        if epoch == self._epoch and row is not None:
            life.end(row, attempt, how, result, error)
        else:
            kernel.end_reported(fence, how, life.now(), error)
        # The agent may drop its report once the end is kept.
        if life.commits is None:
            self._send_understood(agent, fence)
        else:
            life.commits.when(kernel.seq, lambda: self._send_understood(agent, fence))

    # -- what is said --------------------------------------------------------------

    def begin(self, attempt: Attempt) -> tuple[TaskRow, int]:
        """Tell the agent of its task to begin *attempt*."""
        row, number = self._kernel.tasks[attempt.task_id], attempt.number
        assert row.agent is not None  # noqa: S101 - it has been started
        session = self._sessions[row.agent.name]
        session.sent[row.id, number] = row
        self._send_begin(session, row, number)
        return row, number

    def stop(self, begun: tuple[TaskRow, int], grace: float) -> None:
        """Tell the agent of the task, if it is a remote one, to stop an attempt."""
        del grace
        row, number = begun
        session = None if row.agent is None else self._sessions.get(row.agent.name)
        if session is not None:
            self._send_stop(session, (self._epoch, row.id, number))

    def _send_begin(self, session: _Session, row: TaskRow, attempt: int) -> None:
        agent = session.agent
        fence = (self._epoch, row.id, attempt)
        order = (session.instance, fence, task_of(row))
        self._send("start", agent.info.name, fence, agent.begin, order)

    def _send_stop(self, session: _Session, fence: Fence) -> None:
        agent = session.agent
        self._send("stop", agent.info.name, fence, agent.stop, fence)

    def _send_understood(self, agent: RemoteAgent, fence: Fence) -> None:
        self._send("answer", agent.info.name, fence, agent.understood, fence)

    # -- whether there is something to wait for ------------------------------------

    def awaits_signs(self) -> bool:
        """Whether signs of life, or their absence, will still change something."""
        kernel = self._kernel
        for name, session in self._sessions.items():
            agent = session.agent
            if any(
                row.attempt == attempt
                and row.state is _RUNNING
                and self._may_end(agent, (self._epoch, task_id, attempt))
                for (task_id, attempt), row in session.sent.items()
            ):
                return True
            if kernel.queued and kernel.agents[name].lost == agent.is_there:
                # Its next beat, or the end of its lease, may let queued tasks start.
                return True
        for (task_id, attempt), leak in kernel.leaked.items():
            elsewhere = self._sessions.get(leak.agent.name)
            if elsewhere is not None and self._may_end(
                elsewhere.agent, (self._epoch, task_id, attempt)
            ):
                return True
        return False

    def _may_end(self, agent: RemoteAgent, fence: Fence) -> bool:
        """Whether an attempt ends, or the agent is lost, or does not know of it."""
        run = agent.runs.get(fence)
        return run is None or not run.is_endless or not agent.is_there
