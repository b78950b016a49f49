"""Workers that do simulated work: in our own process, and elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol, TypeAlias

import attrs

from taskorch.core.kernel import AttemptOutcome
from taskorch.core.worlds._clockwork import Agenda
from taskorch.core.worlds._nature import Nature
from taskorch.core.worlds._run import Fence, Outcome, SimulatedRun, nanoseconds
from taskorch.model import Agent, Task

#: A lease is renewed three times before it ends, so that two beats may be lost.
_BEATS: Final = 3


class WorkerWorld(Protocol):
    """The interface of the world for workers and executors."""

    timeline: Agenda
    nature: Nature
    workers: dict[str, InProcessWorker | RemoteWorker]

    def outcome(self, task: Task, fence: Fence, worker: str = "") -> Outcome:
        """Return the outcome of an attempt."""
        ...

    def began(self, run: SimulatedRun) -> None:
        """Note that a worker has begun an attempt."""
        ...

    def send(
        self,
        kind: str,
        worker: str,
        fence: Fence | None,
        act: Callable[[Any], object],
        subject: Any,
        idle: bool = False,
    ) -> None:
        """Send a message to a worker, or from one."""
        ...

    def hear(self, message: tuple[str, RemoteWorker, Any]) -> None:
        """Give a message of a worker to the orchestrator."""
        ...


@attrs.frozen
class InProcessWorker:
    """A worker in the process of the orchestrator: it dies with it."""

    info: Agent
    speed: float = 1.0


#: `(instance, fence, outcome, result, error)`: the report of a remote worker of an end.
Report: TypeAlias = tuple[int, Fence, AttemptOutcome, Any, "BaseException | None"]


class RemoteWorker:
    """
    A worker with a lease, which lives by itself and talks by messages.

    It does not do the same attempt twice, however often it is told to; it repeats each
    report until it gets an answer; it sends a heartbeat three times in its lease. When
    it dies it forgets everything; if it comes back, it is another instance.
    """

    def __init__(self, world: WorkerWorld, info: Agent, speed: float) -> None:
        self.world = world
        self.info = info
        self.speed = speed
        self.instance: int = 1
        self.is_up: bool = True
        #: Whether it has left for good: no fate brings it back.
        self.is_gone: bool = False
        #: The time until which it hangs, in ns; None is for ever.
        self.frozen_ns: int | None = 0
        self.runs: dict[Fence, SimulatedRun] = {}
        #: The reports that have no answer yet.
        self.reports: dict[Fence, Report] = {}
        self._seen: dict[Fence, None] = {}
        self._beat_ns = max(1, nanoseconds(info.lease or 0.0) // _BEATS)
        #: The number of its latest chain of beats; the chain of a dead instance has
        #: ended.
        self._chain = 0

    def wake(self) -> None:
        """Begin to send heartbeats."""
        self._chain += 1
        self.world.timeline.at(
            self.world.timeline.now + self._beat_ns, self._beat, self._chain, idle=True
        )

    @property
    def is_there(self) -> bool:
        """True if the worker lives, and will answer at some time."""
        return self.is_up and self.frozen_ns is not None

    # -- orders to it --------------------------------------------------------------

    def begin(self, order: tuple[int, Fence, Task]) -> None:
        """Take the order to begin an attempt."""
        if self._absent(self.begin, order):
            return
        instance, fence, task = order
        if instance != self.instance or fence in self._seen:
            return
        self._seen[fence] = None
        world = self.world
        now = world.timeline.now
        run = SimulatedRun(
            self.info.name, fence, world.outcome(task, fence, self.info.name), now
        )
        run.lease_ns = _BEATS * self._beat_ns
        self.runs[fence] = run
        world.began(run)
        ns = nanoseconds(run.outcome.seconds * world.nature.pace(run) / self.speed)
        run.schedule_progress(ns, world.timeline, self._progress)
        if not run.outcome.hang:
            run.schedule_end(now + ns, world.timeline, self._over)
        fate = world.nature.fate(run, ns)
        if fate is not None:
            act = self._die if fate.kind == "dies" else self._freeze
            world.timeline.at(now + fate.after_ns, act, (self.instance, fate.back_ns))

    def stop(self, fence: Fence) -> None:
        """Take the order to stop an attempt."""
        if self._absent(self.stop, fence):
            return
        run = self.runs.get(fence)
        if run is not None and run.interrupt():
            self.cut(run)

    def understood(self, fence: Fence) -> None:
        """Take the answer that a report has been kept."""
        if not self._absent(self.understood, fence):
            self.reports.pop(fence, None)

    # -- its work ------------------------------------------------------------------

    def cut(self, run: SimulatedRun) -> None:
        """End *run* now."""
        run.schedule_end(self.world.timeline.now, self.world.timeline, self._over)

    def _over(self, run: SimulatedRun) -> None:
        run.next = 0
        if self._absent(None, run):
            if self.frozen_ns:
                run.schedule_end(self.frozen_ns, self.world.timeline, self._over)
            return
        how, result, error = run.end
        run.over(how, self.world.timeline.now)
        del self.runs[run.fence]
        report = (self.instance, run.fence, how, result, error)
        self.reports[run.fence] = report
        self._say("report", run.fence, report)

    def _progress(self, step: tuple[SimulatedRun, Any]) -> None:
        run, value = step
        if not run.how and not self._absent(self._progress, step):
            self._say("progress", run.fence, (run.fence, value))

    def _beat(self, chain: int) -> None:
        if chain != self._chain or not self.is_up or self.frozen_ns is None:
            return
        now = self.world.timeline.now
        if now < self.frozen_ns:
            self.world.timeline.at(self.frozen_ns, self._beat, chain, idle=True)
            return
        named = (*self.runs, *self.reports)
        self._say("beat", None, (self.instance, named))
        for report in self.reports.values():
            self._say("report", report[1], report)
        self.world.timeline.at(now + self._beat_ns, self._beat, chain, idle=True)

    def _say(self, kind: str, fence: Fence | None, content: Any) -> None:
        """Send a message to the orchestrator, whichever incarnation gets it."""
        idle = kind == "beat"
        message = (kind, self, content)
        self.world.send(kind, self.info.name, fence, self.world.hear, message, idle)

    def go(self) -> None:
        """Leave for good; messages may still be on their way."""
        self.is_gone = True
        self._die((self.instance, None))

    # -- faults --------------------------------------------------------------------

    def _absent(self, act: Any, subject: Any) -> bool:
        """Return whether the worker is dead or hangs; if it hangs, do *act* later."""
        if not self.is_up or self.frozen_ns is None:
            return True
        if self.world.timeline.now >= self.frozen_ns:
            return False
        if act is not None:
            self.world.timeline.at(self.frozen_ns, act, subject)
        return True

    def _die(self, fate: tuple[int, int | None]) -> None:
        instance, back_ns = fate
        if instance != self.instance or not self.is_up:
            return
        now = self.world.timeline.now
        for run in self.runs.values():
            run.over("died", now)
            run.unschedule(self.world.timeline)
        self.runs.clear()
        self.reports.clear()
        self._seen.clear()
        self.is_up = False
        if back_ns is not None:
            self.world.timeline.at(now + back_ns, self._come_back)

    def _come_back(self, _: None) -> None:
        if self.is_gone:
            return
        self.instance += 1
        self.is_up = True
        self.frozen_ns = 0
        self._chain += 1
        self._beat(self._chain)

    def _freeze(self, fate: tuple[int, int | None]) -> None:
        instance, back_ns = fate
        if instance != self.instance or not self.is_up or self.frozen_ns is None:
            return
        now = self.world.timeline.now
        if back_ns is None:
            self.frozen_ns = None
        else:
            self.frozen_ns = max(self.frozen_ns, now + back_ns)
            # This is not idle, so that a simulation goes on until the worker is back.
            self.world.timeline.at(self.frozen_ns, _nothing)


def _nothing(_: None) -> None:
    """The end of a wait."""
