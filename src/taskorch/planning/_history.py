"""What a planner learns of runs: what tasks took, and what came of its choices."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from taskorch._limits import NS
from taskorch.errors import NotRunningError
from taskorch.events import (
    Event,
    TaskCompleted,
    TaskRewarded,
    TaskStarted,
    TaskSubmitted,
)
from taskorch.model import Task, TaskState
from taskorch.planning._estimates import Estimator
from taskorch.planning._learning import MARK, Bandit, Choices, Chosen
from taskorch.planning._scheduling import RULES
from taskorch.protocols import DurableJournal
from taskorch.runtime._work import task_of

if TYPE_CHECKING:
    from taskorch.runtime._runtime import Runtime

#: Measurements and rewards that wait to be taken in; facts of the past that are read.
_LATEST: Final = 10_000
_PAST: Final = 200_000
_SCALE: Final = 1_000_000
_RULE: Final = "rule of "


def _task(rt: Runtime, task_id: str) -> Task | None:
    """A task that is in memory."""
    with rt.lock:
        row = rt.kernel.tasks.get(task_id)
        return None if row is None else task_of(row)


def _begin_of_past(rt: Runtime) -> int:
    """The number of the fact after which the past is read: it has an end."""
    return max(0, rt.committed - _PAST)


class Measurements:
    """
    What tasks took, in this life and in earlier ones, for an estimator.

    Args:
        runtime: Of the orchestrator.
    """

    def __init__(self, runtime: Any) -> None:
        self._rt: Runtime = runtime
        #: What attempts were seen to use of late: the type, the payload, and how much.
        self._used: deque[tuple[str, Any, dict[str, float]]] = deque(maxlen=_LATEST)
        #: Of each type, the end of the latest measurement that was taken in.
        self._learnt: dict[str, int] = {}
        self._has_read = False
        runtime.signals.task_completed.connect(self._completed)

    def _completed(self, event: Event) -> None:
        """On the thread that publishes, which waits for no planning."""
        assert isinstance(event, TaskCompleted)  # noqa: S101 - of that signal
        task = _task(self._rt, event.task_id) if event.usage else None
        if task is not None:
            self._used.append((task.type, task.payload, _amounts(event)))

    def tell(self, estimator: Estimator) -> None:
        """Tell *estimator* what was measured since one was told last."""
        rt = self._rt
        if rt.committer is not None and not self._has_read:
            self._has_read = True
            self._read_past(rt.committer.journal, estimator)
            self._used.clear()
        while self._used:
            estimator.observe_usage(*self._used.popleft())
        if not rt.opened:
            return
        fresh: list[tuple[int, int, str]] = []
        with rt.lock:
            for kind, row in rt.kernel.types.items():
                since = self._learnt.get(kind, 0)
                for *_, started, ended in reversed(row.samples):
                    if ended <= since:
                        break
                    fresh.append((ended, started, kind))
            payloads = self._payloads(fresh)
        for key in sorted(fresh):
            ended, started, kind = key
            estimator.observe(kind, (ended - started) / NS, payloads.get(key))
            self._learnt[kind] = max(self._learnt.get(kind, 0), ended)

    def _read_past(self, journal: DurableJournal, estimator: Estimator) -> None:
        """What a journal has measured, so far as it reaches back."""
        tasks: dict[str, tuple[str, Any]] = {}
        for fact, task in journal.read(_begin_of_past(self._rt)):
            if type(fact) is TaskSubmitted:
                tasks[fact.task_id] = fact.type, task.payload
            elif type(fact) is TaskCompleted and fact.attempt:
                # What a wait or a decision completes has no attempt, and no length.
                kind, payload = tasks.pop(fact.task_id, ("", None))
                if kind:
                    estimator.observe(kind, fact.latency, payload)
                    estimator.observe_usage(kind, payload, _amounts(fact))
                    self._learnt[kind] = fact.at_ns

    def _payloads(
        self, fresh: Sequence[tuple[int, int, str]]
    ) -> dict[tuple[int, int, str], Any]:
        """Under the lock: what these tasks were about, as far as it is in memory."""
        if not fresh:
            return {}
        wanted = set(fresh)
        found: dict[tuple[int, int, str], Any] = {}
        for row in self._rt.kernel.tasks.values():
            key = row.ended_ns, row.started_ns, row.bucket.spec.type
            if row.state is TaskState.COMPLETED and key in wanted:
                found[key] = task_of(row).payload
        return found


def _amounts(event: TaskCompleted) -> dict[str, float]:
    return {name: units / _SCALE for name, units in event.usage}


class Chooser:
    """
    Chooses rules and methods for plans by what came of them, once it `learns`.

    All but `note` and `learns` is called under the lock of the planner.

    Args:
        runtime: Of the orchestrator.
        lock: That of the planner.
    """

    def __init__(self, runtime: Any, lock: threading.RLock) -> None:
        self._rt: Runtime = runtime
        self._lock = lock
        #: What was learnt of the rules of order, and of the methods of each task.
        self.rules: Bandit = Bandit(list(RULES))
        self.methods: dict[str, Bandit] = {}
        #: Rewards of earlier lives, of what nobody has asked about yet.
        self._past: dict[str, list[tuple[str, float]]] = {}
        #: What is chosen for the plan that is made now; None: as without learning.
        self._chosen: list[tuple[str, Chosen]] | None = None
        self._choices: Choices | None = None
        #: Rewards that wait to be taken in: for what, the arm, and from 0 to 1.
        self._rewards: deque[tuple[str, str, float]] = deque(maxlen=_LATEST)

    # -- choosing ------------------------------------------------------------------

    @contextmanager
    def choosing(self, *, learn: bool) -> Iterator[list[tuple[str, Chosen]] | None]:
        """Note what is chosen for one plan; None: nothing is."""
        self._chosen = [] if learn and self.learns else None
        try:
            yield self._chosen
        finally:
            self._chosen = None

    def method(self, task: str, methods: Sequence[str]) -> str | None:
        """Which method of a task is tried first; None: as they stand."""
        if self._chosen is None:
            return None
        what = f"method of {task}"
        bandit = self.methods.get(what)
        if bandit is None or bandit.arms != tuple(methods):
            bandit = Bandit(methods, floor=min(0.05, 0.5 / len(methods)))
            self.methods[what] = bandit
            for arm, value in self._past.pop(what, ()):
                bandit.reward(Chosen("", arm, 1.0), value)
        chosen = bandit.choose()
        self._chosen.append((what, chosen))
        return chosen.arm

    def rule(self, context: str) -> tuple[str, Chosen]:
        """By which rule a search begins, and for what that was chosen."""
        self.take_in()
        return _RULE + context, self.rules.choose(context)

    # -- rewards -------------------------------------------------------------------

    def note(self, what: str, arm: str, value: float) -> None:
        """Note a reward from 0 to 1, for `take_in`."""
        self._rewards.append((what, arm, value))

    def take_in(self) -> None:
        """Let bandits hear of the rewards that have come."""
        while self._rewards:
            what, arm, value = self._rewards.popleft()
            if what.startswith(_RULE):
                self.rules.reward(Chosen(what.removeprefix(_RULE), arm, 1.0), value)
            elif what in self.methods:
                self.methods[what].reward(Chosen("", arm, 1.0), value)
            else:
                self._past.setdefault(what, []).append((arm, value))

    @property
    def learns(self) -> bool:
        """Whether rules and methods are chosen by what came of them."""
        return self._choices is not None

    @learns.setter
    def learns(self, learns: bool) -> None:
        rt = self._rt
        with self._lock:
            if learns and self._choices is None:
                self._choices = Choices(self.note)
                if rt.committer is not None:
                    for fact, _ in rt.committer.journal.read(_begin_of_past(rt)):
                        self._choices.hear(fact)
                with rt.lock:
                    rt.deciders.ask_of_choices(self._choice_of)
                    rt.kernel.learns = True
                for name in ("task_started", "task_rewarded"):
                    getattr(rt.signals, name).connect(self._heard)
                rt.signals.task_completed.connect(self._completed)
            elif not learns:
                self._choices = None

    def _choice_of(self, task_id: str, _attempt: int) -> tuple[str, float] | None:
        """Under the lock: what was chosen for the plan whose first task begins."""
        task = task_of(self._rt.kernel.tasks[task_id])
        mark = (task.metadata or {}).get(MARK)
        return None if mark is None else (mark["choice"], mark["chance"])

    # These two are called by the thread that publishes: it waits for no planning.

    def _heard(self, event: Event) -> None:
        choices = self._choices
        if choices is not None:
            choices.hear(event)
            if isinstance(event, TaskStarted):
                choices.ended(event, _task(self._rt, event.task_id))

    def _completed(self, event: Event) -> None:
        assert isinstance(event, TaskCompleted)  # noqa: S101 - of that signal
        choices, rt = self._choices, self._rt
        ended = None if choices is None else choices.ended(event, None)
        if ended is None:
            return
        task_id, attempt, value = ended
        row = rt.kernel.tasks.get(task_id)
        if row is not None:
            fields = task_id, attempt, value, "planner"
            # It may have stopped since: then nobody is told.
            with suppress(NotRunningError):
                rt.step(
                    lambda now: rt.kernel.note(
                        TaskRewarded, now, *fields, cargo=row.cargo
                    ),
                    keep=True,
                )
