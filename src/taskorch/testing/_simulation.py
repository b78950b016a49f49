"""
An orchestrator in virtual time, with everything around it in your hands.

Decision: options-and-settings.
"""

from __future__ import annotations

from collections.abc import (
    Callable,
    Collection,
    Iterable,
    Iterator,
    MutableMapping,
    Sequence,
)
from contextlib import suppress
from functools import partial
from random import Random
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    Literal,
    Protocol,
    Self,
    TypeAlias,
    Unpack,
    cast,
)

from taskorch.api._contexts import TaskContext
from taskorch.api._orchestrator import SpelledOut
from taskorch.api._settings.fields import SIMULATED, Settings, SimulatedSettings
from taskorch.core.engine import (
    AttemptContext,
    PolicyDeciders,
    Work,
    _reports,
    listed,
    task_of,
)
from taskorch.core.handles.handles import TaskHandle
from taskorch.core.kernel import Kernel, PolicyFault, explain as explain_row
from taskorch.core.runs import WorkflowManager, _limits, manager_of
from taskorch.core.signals import Signals
from taskorch.core.worlds._clockwork import BEGINNING
from taskorch.core.worlds._incarnation import Incarnation, Setup
from taskorch.core.worlds._journal import SimulatedJournal
from taskorch.core.worlds._nature import Nature
from taskorch.core.worlds._run import Attempt, Fence, SimulatedRun, What, as_what
from taskorch.core.worlds._world import World
from taskorch.errors import (
    AnswerRefusedError,
    InvalidTaskError,
    NotRunningError,
    UnknownAgentError,
    UnknownTaskError,
    UsageError,
)
from taskorch.events import (
    Event,
    TaskCompleted,
    TaskFailed,
    TaskOptionsChanged,
    TaskReady,
    TaskRetrying,
    TaskStarted,
    TaskSubmitted,
    details_of,
)
from taskorch.kit.checks import (
    built_in,
    check_count,
    check_seconds,
    check_word,
)
from taskorch.kit.extension import Limit, named_limits
from taskorch.kit.kept import kept_by
from taskorch.kit.limits import (
    KEEP_EVENTS,
    NS,
)
from taskorch.kit.visible import show
from taskorch.kit.vocabulary import meant
from taskorch.model import (
    Agent,
    Breaker,
    Explanation,
    FilterFields,
    OpenQuestion,
    Resources,
    Stats,
    Task,
    TaskFilter,
    TaskState,
    TaskStatus,
    check_breaker,
    check_event,
    check_labels,
)
from taskorch.model.ids import check_id
from taskorch.protocols import Entry, Hears
from taskorch.testing._arguments import (
    check_capabilities,
    check_kind,
    check_names,
    check_resources,
    check_speed,
)
from taskorch.testing._faults import Chaos, Dice, Faults, Hit, Schedule
from taskorch.testing._watch import Breach, Watch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from taskorch.core.engine import Runtime
    from taskorch.ext.comparing import Comparison
    from taskorch.ext.controllers import SimulatedControllers
    from taskorch.ext.schedules import ScheduleManager

#: The default resources.
_POOLS: Final = Resources(cpu=4, memory_mb=8_192)
_BY_USER: Final = "cancelled by the user"
#: More attempts of a task than this count as an endless loop.
_MOST_ATTEMPTS: Final = 10_000
#: A run with more steps than this counts as endless.
_MOST_STEPS: Final = 1_000_000
_STAGES: Final = ("made", "sent", "kept", "told")


class Observer(Protocol):
    """An observer of every step, which raises an error when something is wrong."""

    def step(
        self, kernel: Kernel, items: Sequence[tuple[Event, Any]], now: int
    ) -> None:
        """Look at a step with these events, of which nobody has been told."""
        ...

    def crashed(self, acknowledged: Mapping[str, TaskState | None]) -> None:
        """
        The orchestrator has died.

        Args:
            acknowledged: The answers to callers so far: the id of each accepted task,
                with the state in which it ended, if it has.
        """
        ...

    def recovered(self, kernel: Kernel, now: int) -> None:
        """Look at a new incarnation, before its workers have joined."""
        ...

    def finished(self, kernel: Kernel) -> None:
        """Look at the end of the run."""
        ...


#: What is done to the row of a task at a time.
_Act: TypeAlias = Callable[[Incarnation, Any, int], bool]


class _WatchedWorld(World):
    """A world that keeps a log, and has an observer."""

    work_class: type[Work] = TaskHandle
    context_class: type[AttemptContext] = TaskContext

    def __init__(self, setup: Setup, nature: Nature, check: bool | Observer) -> None:
        journal = SimulatedJournal()
        #: Events, faults and remarks, in the order in which they came.
        self.log: list[Event | Hit | str] = []
        #: The attempts of all workers, in the order of their starts.
        self.runs: dict[Fence, SimulatedRun] = {}
        #: The kept tasks, with whether they are idempotent, and the kept attempts.
        self._safe: dict[str | tuple[str, int], bool] = {}
        self.drivers: SimulatedControllers | None = None
        #: The starts of programs, for each incarnation, and their listeners to kept
        #: events, which are lost with the incarnation.
        self.programs: list[Callable[[], object]] = []
        self.signals: Signals = Signals(_nothing)
        #: Parts that learn from events, as beside a real orchestrator.
        self._hearers = [part.hear for part in setup.parts.having(Hears)]
        self.observer: Observer | None = None if isinstance(check, bool) else check
        if check is True:
            self.observer = Watch(
                lambda: _bystander(setup),
                journal.read,
                self._has_completed,
                lambda: self.runs,
            )
        super().__init__(setup, nature=nature, journal=journal, listens=True)

    def began(self, run: SimulatedRun) -> None:
        """
        See `World.began`.

        Raises:
            Breach: It began before its events were in the journal; or it goes on for
                ever.
        """
        self.runs[run.fence] = run
        _, task_id, attempt = run.fence
        if attempt > _MOST_ATTEMPTS:
            law = "ends"
            raise Breach(
                law,
                f"{task_id} begins {attempt:,} times: its retry handler "
                "never gives up (law 2 of RetryHandler)",
            )
        if self.observer is None:
            return
        if task_id not in self._safe:
            law = "committed"
            raise Breach(law, f"{task_id} begins before its submission is kept")
        if not self._safe[task_id] and (task_id, attempt) not in self._safe:
            law = "committed"
            raise Breach(law, f"{task_id} begins before its start is kept")

    def kept(self, group: list[Entry]) -> None:
        """See `World.kept`."""
        super().kept(group)
        if self.observer is not None:
            self._note_safe(group)
        receivers = self.signals.connected()
        events = [entry for entry in group if type(entry[0]) in receivers]
        if events:
            # Listeners act in a step of their own, so that their acts are no part of a
            # commit.
            self.timeline.at(
                self.timeline.now, self._publish, (self.incarnation, events)
            )

    def _publish(self, batch: tuple[Incarnation | None, list[Entry]]) -> None:
        incarnation, events = batch
        for event, cargo in events:
            _, receivers = self.signals.connected().get(type(event), ("", ()))
            for receiver in receivers:
                # After a listener that crashes the orchestrator, no other is called.
                if self.incarnation is incarnation:
                    receiver(_event(event, cargo))

    def _note_safe(self, group: Iterable[Entry]) -> None:
        safe = self._safe
        for event, _ in group:
            if type(event) is TaskStarted:
                safe[event.task_id, event.attempt] = True
            elif type(event) is TaskSubmitted or type(event) is TaskOptionsChanged:
                safe[event.task_id] = event.idempotent

    def _has_completed(self, epoch: int, task_id: str, attempt: int) -> bool:
        run = self.runs.get((epoch, task_id, attempt))
        return run is not None and run.how == "completed"

    def stepped(self, incarnation: Incarnation, items: list[tuple[Event, Any]]) -> None:
        """See `World.stepped`."""
        if items and self.drivers is not None:
            self.drivers.told({type(item[0]) for item in items})
            # This event is only told, and the journal does not keep it.
            items = [item for item in items if type(item[0]) is not TaskReady]
        if items:
            self.log += [item[0] for item in items]
            for hear in self._hearers:
                for event, _ in items:
                    hear(event)
        if self.observer is not None:
            for event, _ in items:
                if type(event) is TaskRetrying or type(event) is TaskFailed:
                    self._check_end(incarnation, event)
            # Draws of the observer must not change the run.
            points, incarnation.kernel.points = incarnation.kernel.points, None
            self.observer.step(incarnation.kernel, items, incarnation.now())
            incarnation.kernel.points = points
        if items and self.is_mortal:
            self.maybe_crash("made", items[-1][0])

    def _check_end(
        self, incarnation: Incarnation, event: TaskRetrying | TaskFailed
    ) -> None:
        """Check that an attempt that ended by an error or a stop really did."""
        task_id, attempt = event.task_id, event.attempt
        run = self.runs.get((incarnation.epoch, task_id, attempt))
        if event.cause in ("error", "stopped") and run is not None and not run.how:
            law = "fence"
            raise Breach(
                law, f"{task_id}: attempt {attempt} of this incarnation goes on"
            )

    def died(self) -> None:
        """See `World.died`."""
        self.signals = Signals(_nothing)
        self.log.append(f"crash {self.crashes}")
        if self.observer is not None:
            self.observer.crashed(self.acknowledged)

    def recovered(self, incarnation: Incarnation) -> None:
        """See `World.recovered`."""
        self.log.append(
            f"incarnation {incarnation.epoch}, from event {incarnation.kernel.seq}"
        )
        self._safe.clear()
        if self.journal is not None:
            self._note_safe(self.journal.read())
        if self.observer is not None:
            self.observer.recovered(incarnation.kernel, incarnation.now())
        _limits.restore(cast("Runtime", incarnation))
        if self.drivers is not None:
            self.drivers.begin()
        # From here on it is an incarnation like any other.
        for act in self.programs:
            self.timeline.at(self.timeline.now, self.begin_program, (incarnation, act))

    def begin_program(self, begun: tuple[Incarnation, Callable[[], object]]) -> None:
        """Run the start of a program, which may crash in it."""
        incarnation, act = begun
        if self.incarnation is incarnation:
            with suppress(NotRunningError):
                act()

    def refused(self, ids: Sequence[str], error: UsageError) -> None:
        """See `World.refused`."""
        self.log.append(f"{', '.join(ids)} again: refused: {error}")


class Simulation:
    """
    An orchestrator in a simulated world: time, workers, journal, and their faults.

    Names and meanings are those of `TaskOrchestrator`. Nothing waits, no work is really
    done (but functions without another outcome are called), and the same seed gives the
    same run in any process. Tasks are submitted at once; all else happens in `run`. It
    takes the policies that an orchestrator takes, by their names.

    Args:
        seed: The seed of all random choices: of the policies, of the work, of the
            faults.
        resources: The pools; None is 4 `cpu` and 8,192 `memory_mb`.
        concurrency: Attempts that run at once.
        keep_finished: Finished tasks that stay in memory.
        unknown_capability: Whether a task that no worker can do is refused
            (`"refuse"`) or waits for one (`"wait"`).
        grace: Seconds that an attempt has to end when it is asked to.
        faults: The faults; None is none.
        check: Whether the guarantees are checked after every step; or an observer of
            your own, which does that.
        keep: Only random faults with these names happen: `schedule.names` of another
            run, or some of them.
        limits: Limits that hold back starts, as `limits` of an `Extension`. A limit
            that needs a clock uses `now`; its own counts survive a crash, as the object
            does.

    Raises:
        InvalidTaskError: A policy lacks a method, or an argument has an invalid value.
    """

    __signature__: Any = SpelledOut()

    def __init__(
        self,
        seed: int = 0,
        *,
        faults: Faults | None = None,
        check: bool | Observer = True,
        keep: Iterable[str] | None = None,
        limits: Iterable[Limit] = (),
        **settings: Unpack[SimulatedSettings],
    ) -> None:
        check_kind("seed", seed, int)
        options = Settings.of(Simulation, settings, SIMULATED)
        if faults is not None:
            check_kind("faults", faults, Faults)
        if keep is not None:
            check_names("keep", keep)
        _check_observer(check)
        pools = _POOLS if options.resources is None else options.resources
        self.seed = seed
        self.dice: Dice = Dice(seed, keep)
        self.nature: Chaos = Chaos(
            Faults.none() if faults is None else faults, self.dice
        )
        named = named_limits(limits, "a simulation")
        setup = Setup(options, options.of_kernel(), pools, seed, named)
        self.world: _WatchedWorld = _WatchedWorld(setup, self.nature, check)
        self._schedules: ScheduleManager | None = None
        self.dice.clock = self._clock
        self.dice.tell = self.world.log.append

    # -- the world -----------------------------------------------------------------

    def agent(
        self,
        name: str,
        *,
        capabilities: Iterable[str] = (),
        max_concurrency: int | None = 1,
        capacity: Resources | None = None,
        request: Resources | None = None,
        speed: float = 1.0,
        lease: float | None = None,
        executor: str = "auto",
        breaker: Breaker | None = None,
        work: What | None = None,
        labels: Iterable[str] = (),
        host: str = "",
    ) -> Agent:
        """
        Add a worker.

        Args:
            name: Its name.
            capabilities: Its capabilities.
            max_concurrency: Attempts that it runs at once; None is without limit.
            capacity: Its own resources; None: only the pools limit it.
            request: The resources of a task there that states none.
            speed: Work takes its seconds divided by this.
            lease: Seconds after which it counts as lost without a heartbeat;
                None: it lives in the process of the orchestrator.
            executor: Not used: nothing is really run.
            breaker: The rule for when it gets no more work because it fails; None:
                never.
            work: The outcome of all work there, as for `work`; None: as elsewhere.
            labels: Labels of its machine, such as `platform:linux`.
            host: The name of its machine; "" if unknown.

        Raises:
            InvalidTaskError: The name is taken, or an argument has an invalid value.
        """
        del executor
        check_resources("capacity", capacity)
        check_resources("request", request)
        if max_concurrency is not None:
            check_count("max_concurrency", max_concurrency, least=1)
        if lease is not None:
            check_seconds("lease", lease, zero=False, none=True)
        check_speed(speed)
        check_kind("host", host, str)
        info = Agent(
            check_id(name),
            check_capabilities(capabilities),
            max_concurrency,
            capacity,
            request or Resources(),
            lease,
            check_breaker(breaker),
            check_labels(labels),
            host,
        )
        outcome = None if work is None else as_what(work)
        self.world.add_worker(info, speed)
        if outcome is not None:
            self.world.by_worker[info.name] = outcome
        return info

    def remove_agent(self, name: str) -> bool:
        """
        Remove a worker; its attempts are made again. Return False if it has left.

        Raises:
            UnknownAgentError: There is none of this name.
        """
        return self._of_worker(name, lambda kernel, now: kernel.leave(name, (), now))

    def drain_agent(self, name: str, reason: str = "it is to go") -> bool:
        """
        Give a worker no new work; return False if it gets none already.

        Raises:
            UnknownAgentError: There is none of this name.
        """
        return self._of_worker(
            name, lambda kernel, now: kernel.drain(name, reason, now)
        )

    def _of_worker(self, name: str, change: Callable[[Kernel, int], bool]) -> bool:
        if name not in self.world.workers:
            msg = f"there is no worker {name!r}"
            hint = meant(name, self.world.workers) or None
            raise UnknownAgentError(msg, hint=hint)

        def act() -> bool:
            incarnation = self._incarnation()
            if name not in incarnation.kernel.workers:
                msg = f"the worker {name!r} has not been heard of since the crash"
                raise UnknownAgentError(msg, hint="let time pass with run()")
            return change(incarnation.kernel, incarnation.now())

        return self.world.do(act)

    def terminate(self, name: str) -> bool:
        """
        Give a worker no new work, and remove it when it has none.

        Raises:
            UnknownAgentError: There is none of this name.
        """
        drained = self.drain_agent(name)

        def look() -> None:
            incarnation = self.world.incarnation
            row = None if incarnation is None else incarnation.kernel.workers.get(name)
            if incarnation is None or row is None or row.lost:
                return
            if row.running:
                self.at(self._clock() + 1.0, look)
            else:
                self.world.do(
                    lambda: incarnation.kernel.leave(name, (), incarnation.now())
                )
                self.world.remove_agent(name)

        look()
        return drained

    def work(self, type: str, what: What) -> None:  # noqa: A002 - as Task calls it
        """
        Set the outcome of the work of a type of task.

        Args:
            type: The type.
            what: Seconds; an `Outcome`; or a function of the task, the number of the
                attempt and a random source that returns either. Without it, work takes
                a second; a function is called, and takes no time.

        Raises:
            InvalidTaskError: *what* is none of these.
        """
        check_kind("type", type, str)
        self.world.by_type[type] = as_what(what)

    def at(self, seconds: float, act: Callable[[], object]) -> None:
        """
        Call *act* at that time, counted from the beginning; at once if it is past.

        Raises:
            InvalidTaskError: It is no such time, or *act* cannot be called.
        """
        if not callable(act):
            msg = f"at() calls a function without arguments, not {show(act)}"
            raise InvalidTaskError(
                msg, hint="as in at(5.0, lambda: simulation.crash())"
            )
        when = BEGINNING + int(check_seconds("seconds", seconds) * NS)
        self.world.timeline.at(max(when, self.world.timeline.now), _call, act)

    def set_clock(self, ahead: float) -> None:
        """
        Set the system's clock, by which schedules go.

        Another clock, which nobody sets, measures how much time passes. So a machine
        that slept has a system's clock that is ahead when it wakes.

        Args:
            ahead: How many seconds it is ahead of the time of the simulation from now
                on; fewer than 0: behind.

        Raises:
            InvalidTaskError: *ahead* is no number of seconds.
        """
        number: object = ahead
        sign = -1 if isinstance(number, int | float) and number < 0 else 1
        self.world.set_clock(sign * int(check_seconds("ahead", ahead * sign) * NS))
        if self.world.drivers is not None and self.is_up:
            self.world.drivers.wake_all()

    def each_incarnation(self, act: Callable[[], object]) -> None:
        """
        Call *act* now, if the orchestrator lives, and whenever it starts again.

        A program does so when it is started again: it adds its schedules, and connects
        its listeners to `signals`.

        Raises:
            InvalidTaskError: *act* cannot be called.
        """
        if not callable(act):
            msg = f"each_incarnation() calls what takes no arguments, not {show(act)}"
            raise InvalidTaskError(msg)
        self.world.programs.append(act)
        if self.world.incarnation is not None:
            self.world.begin_program((self.world.incarnation, act))

    @property
    def signals(self) -> Signals:
        """
        The signals that call listeners with kept events, as `orch.signals`.

        Listeners are lost with the incarnation: see `each_incarnation`.
        Events that the journal does not keep are not told.
        """
        return self.world.signals

    def crash(self, downtime: float = 1.0) -> None:
        """
        Crash the orchestrator, which starts again after so many seconds.

        Uncommitted changes are lost; workers without a lease are gone until then.

        Raises:
            InvalidTaskError: *downtime* is no number of seconds.
            NotRunningError: It has crashed already, and is not up again.
        """
        self.world.crash(int(check_seconds("downtime", downtime) * NS))

    def crash_at(
        self,
        fact: int,
        stage: Literal["made", "sent", "kept", "told"] = "made",
        downtime: float = 1.0,
    ) -> None:
        """
        Let the orchestrator die at the event of this number.

        Args:
            fact: The number.
            stage: When it is `made`, in memory only; when its orders were `sent` to
                workers; when it is `kept` in the journal, and nobody was told; or when
                everybody was `told`.
            downtime: Seconds until it starts again.

        Raises:
            InvalidTaskError: There is no such number, stage or downtime.
        """
        check_count("fact", fact, least=1)
        check_word("stage", stage, _STAGES)
        ns = int(check_seconds("downtime", downtime) * NS)
        self.world.crash_at(fact, stage, ns)

    def run(self, until: float | None = None, *, steps: int = _MOST_STEPS) -> Self:
        """
        Run the simulation.

        Args:
            until: Seconds since the beginning; a past time does nothing. None: until
                nothing changes any more by itself.
            steps: Instants at which something happens, at most; with *until*, only
                those between which no time passes are counted.

        Raises:
            Breach: A guarantee did not hold.
            InvalidTaskError: *until* is no number of seconds.
            UsageError: It does not end; or it is called from `at` or from the work of a
                task, while time passes already.
        """
        check_count("steps", steps, least=1)
        span = None if until is None else int(check_seconds("until", until) * NS)
        self.world.run(None if span is None else BEGINNING + span, steps)
        return self

    def check(self) -> None:
        """
        Tell the observer that the run is over.

        Raises:
            InternalError: Something does not add up.
        """
        if self.world.observer is not None:
            self.world.observer.finished(self._incarnation().kernel)

    # -- submitting and control ----------------------------------------------------

    def submit_task(self, task: Task, work: What | None = None) -> str:
        """
        Submit a task, and return its id.

        Args:
            task: The task.
            work: The outcome of its work; None: the outcome for its type.

        Raises:
            UsageError: It was refused: see the subclasses.
        """
        return self.world.submit((task,), work)[0]

    def submit_tasks(self, tasks: Iterable[Task]) -> list[str]:
        """
        Submit tasks, all or none, and return their ids.

        Raises:
            UsageError: One was refused, and so none was accepted.
        """
        return self.world.submit(tasks)

    def cancel_task(self, task_id: str, *, reason: str = _BY_USER) -> bool:
        """Cancel a task, for a *reason*; return False if it has ended."""
        return self._control(
            task_id, lambda its, row, now: its.kernel.cancel(row, now, reason)
        )

    def suspend_task(self, task_id: str) -> bool:
        """Suspend a task; False if it has ended or is suspended already."""

        def act(incarnation: Incarnation, row: Any, now: int) -> bool:
            holdable = incarnation.in_process.holdable(row)
            return incarnation.kernel.suspend(row, now, holdable=holdable)

        return self._control(task_id, act)

    def resume_task(self, task_id: str) -> bool:
        """Resume a suspended task; return False if it is not suspended."""
        return self._control(
            task_id, lambda incarnation, row, now: incarnation.kernel.resume(row, now)
        )

    def set_priority(self, task_id: str, priority: int) -> bool:
        """Move a task in the queue; return False if it has ended."""
        return self._control(
            task_id, lambda its, row, now: its.kernel.set_priority(row, priority, now)
        )

    def decide(
        self,
        task_id: str,
        verdict: Literal["retry", "fail", "complete"],
        result: Any = None,
        reason: str = "",
    ) -> bool:
        """Decide about a blocked or waiting task; return False if it has ended."""

        def act(incarnation: Incarnation, row: Any, now: int) -> bool:
            if verdict == "complete" and row.state is TaskState.BLOCKED:
                row.cargo._value = result  # noqa: SLF001 - one record a task
                row.cargo._error = None  # noqa: SLF001
            return incarnation.kernel.decide(row, verdict, now, reason)

        return self._control(task_id, act)

    def questions(self) -> list[OpenQuestion]:
        """Return the open questions: see `TaskOrchestrator.questions`."""
        ask = built_in("questions", "questions()").open_questions
        return cast("list[OpenQuestion]", ask(self._runtime, self.answer))

    def answer(
        self, task_id: str, choice: str, *, by: str, note: str = "", changes: Any = None
    ) -> bool:
        """
        Answer a question, and return whether that decided it: see `orch.answer`.

        Raises:
            AnswerRefusedError: It does not count.
            InvalidTaskError: The task is no question.
        """
        ext = built_in("questions", "answer()")

        def step() -> Any:
            incarnation, now = self._incarnation(), self._incarnation().now()
            try:
                return ext.vote(self._runtime, task_id, choice, by, note, changes, now)
            except PolicyFault as fault:
                raise incarnation.component_error(fault, task_id) from fault.error

        decided: bool | AnswerRefusedError = self.world.do(step)
        if isinstance(decided, AnswerRefusedError):
            raise decided
        return decided

    def emit(self, name: str, payload: Any = None, *, keep: float = KEEP_EVENTS) -> int:
        """
        Emit an event, and return how many tasks completed that waited for it.

        Args:
            name: Its name.
            payload: The result of these tasks.
            keep: For how many seconds it is kept if no task waits for it.

        Raises:
            InvalidTaskError: *name* is no name, or *keep* no number of seconds.
            NotRunningError: The orchestrator is dead at the moment.
        """
        check_event(name)
        ns = int(check_seconds("keep", keep) * NS)
        return self.world.do(lambda: self._incarnation().emit(name, payload, ns))

    def add_parents(self, task_id: str, after: Sequence[str]) -> bool:
        """
        Make a waiting task wait for more tasks; False if it has ended.

        Raises:
            UsageError: It does not wait any more, or they wait for it.
        """
        self.world.do(lambda: self._incarnation().add_parents(task_id, after))
        return True

    def rerun_task(self, task_id: str) -> str:
        """Run a finished task again; return the id of the new one."""
        again = self.world.do(lambda: self._incarnation().rerun(task_id))
        return cast("TaskHandle[Any]", again).task_id

    def expire_tasks(self, older_than: float) -> list[str]:
        """Fail every task that has been queued for longer; return their ids."""
        ns = int(check_seconds("older_than", older_than) * NS)

        def act() -> list[str]:
            incarnation = self._incarnation()
            return [row.id for row in incarnation.kernel.expire(ns, incarnation.now())]

        return self.world.do(act)

    def resize(self, resources: Resources | Mapping[str, Any]) -> None:
        """
        Set the totals of the named pools; the others stay as they are.

        Raises:
            InvalidTaskError: They are no resources.
            NotRunningError: The orchestrator is dead at the moment.
        """
        pools = Resources.of(resources, named=True)

        def act() -> None:
            incarnation = self._incarnation()
            kernel = incarnation.kernel
            kernel.change_pools(
                pools.totals(), incarnation.now(), named=pools.unit_names
            )

        self.world.do(act)

    def _control(self, task_id: str, act: _Act) -> bool:
        def step() -> bool:
            incarnation = self._incarnation()
            return incarnation.control(task_id, partial(act, incarnation))

        return self.world.do(step)

    @property
    def workflows(self) -> WorkflowManager:
        """
        The manager of workflows, as `orch.workflows`.

        It belongs to one incarnation of the orchestrator: after a crash, ask for it
        again. Its methods return at once, before the journal has their changes; waiting
        for the result of a run lets time pass.

        Raises:
            NotRunningError: The orchestrator is dead at the moment.
        """
        return manager_of(self._incarnation())

    def hold_starts(
        self, reason: str, *, by: str = "user", most: int = 0, lasts: bool = True
    ) -> None:
        """See `TaskOrchestrator.hold_starts`."""
        incarnation = self._incarnation()
        hold = incarnation.kernel.hold_starts
        self.world.do(lambda: hold(by, most, reason, incarnation.now(), lasts=lasts))

    def release_starts(self, by: str = "user") -> bool:
        """See `TaskOrchestrator.release_starts`."""
        incarnation = self._incarnation()
        release = incarnation.kernel.release_starts
        released: bool = self.world.do(lambda: release(by, incarnation.now()))
        return released

    def note_event(self, event: type[Event], *fields: Any) -> None:
        """Record *event*, which is about no task, with its *fields* after the time."""
        incarnation = self._incarnation()
        note = incarnation.kernel.note
        self.world.do(lambda: note(event, incarnation.now(), *fields))

    def kept(self, extension: str) -> MutableMapping[str, Any]:
        """Return the documents of an extension, as `orch.kept`."""
        return kept_by(self._runtime, extension)

    @property
    def schedules(self) -> ScheduleManager:
        """The schedules, as `orch.schedules`."""
        if self._schedules is None:
            self._schedules = _schedules_in(self)
        return self._schedules

    @property
    def drivers(self) -> SimulatedControllers:
        """
        The controllers, as `orch.drivers`.

        A crash resets them to the state in which they were added.
        """
        if self.world.drivers is None:
            self.world.drivers = _controllers_in(self)
        return self.world.drivers

    # -- asking --------------------------------------------------------------------

    @property
    def now(self) -> float:
        """The seconds since the beginning."""
        return (self.world.timeline.now - BEGINNING) / NS

    @property
    def is_up(self) -> bool:
        """True while the orchestrator lives."""
        return self.world.incarnation is not None

    @property
    def acknowledged(self) -> Mapping[str, TaskState | None]:
        """The answers to callers: ids of accepted tasks, and how they ended."""
        return self.world.acknowledged

    @property
    def events(self) -> list[Event]:
        """The events so far, as the journal has them."""
        return [_event(event, cargo) for event, cargo in self._journal.read()]

    @property
    def attempts(self) -> list[Attempt]:
        """The attempts that workers made, in the order of their starts."""
        return [
            Attempt(
                task_id=run.task_id,
                attempt=run.attempt,
                worker=run.worker,
                start=(run.began_ns - BEGINNING) / NS,
                end=(run.ended_ns - BEGINNING) / NS if run.how else None,
                outcome=run.how or "running",
                epoch=run.epoch,
            )
            for run in self.world.runs.values()
        ]

    @property
    def schedule(self) -> Schedule:
        """The random faults and commands so far."""
        return self.dice.schedule

    def trace(self) -> str:
        """
        All events and faults as text, one line each, to compare two runs.

        An event has its seconds, its number, its class, and the fields with unusual
        values.
        """
        return "\n".join(map(_line, self.world.log))

    def get_task_status(self, task_id: str) -> TaskStatus:
        """
        The state of a task, with its history.

        Raises:
            UnknownTaskError: No task has this id.
        """
        return _reports.status(self._runtime, task_id)

    def tasks(
        self,
        state: TaskFilter | TaskState | str | None = None,
        **fields: Unpack[FilterFields],
    ) -> list[TaskStatus]:
        """
        Return the tasks in memory that match all arguments, the first submitted first.

        Raises:
            InvalidTaskError: An argument is not well formed, or there is no such state.
        """
        return list(listed(self._runtime, TaskFilter.of(state, fields)))

    def get_stats(self) -> Stats:
        """Counts, times and resources, all of one instant."""
        return _reports.stats(self._runtime)

    def handle(self, task_id: str) -> TaskHandle[Any]:
        """
        Return the handle of a task, of its latest run: see `TaskOrchestrator.handle`.

        Raises:
            UnknownTaskError: No task has this id.
        """
        return cast("TaskHandle[Any]", self._runtime.directory.latest(task_id))

    def compare(self, earlier: str, later: str) -> Comparison:
        """
        Compare two runs of workflows: see `TaskOrchestrator.compare`.

        Raises:
            UnknownTaskError: There is no such run.
        """
        extension = built_in("comparing", "compare()")
        workers = [row.info for row in self._incarnation().kernel.workers.values()]
        difference: Comparison = extension.comparison_of(
            self, earlier, later, self._told, workers
        )
        return difference

    def explain(self, task_id: str) -> Explanation:
        """
        Explain why a task does not run.

        Raises:
            UnknownTaskError: No task in memory has this id.
        """
        incarnation = self._incarnation()
        row = incarnation.kernel.tasks.get(task_id)
        if row is None:
            msg = f"no task in memory has the id {task_id!r}"
            raise UnknownTaskError(msg, task_id=str(task_id))
        return explain_row(incarnation.kernel, row, incarnation.now())

    def __repr__(self) -> str:
        return f"<Simulation seed={self.seed} at {self.now:g} s>"

    # -- inside --------------------------------------------------------------------

    def _told(
        self, classes: Collection[type[Event]], until_ns: int, _most: int
    ) -> Iterator[Event]:
        for event, _ in self._journal.read():
            if type(event) in classes and event.at_ns <= until_ns:
                yield event

    def _clock(self) -> float:
        return self.now

    def _incarnation(self) -> Incarnation:
        return self.world.living()

    @property
    def _runtime(self) -> Runtime:
        """The incarnation of the orchestrator, as the runtime for reports."""
        return cast("Runtime", self._incarnation())

    @property
    def _journal(self) -> SimulatedJournal:
        journal = self.world.journal
        assert journal is not None  # noqa: S101 - a watched world has one
        return journal


def _check_observer(check: object) -> None:
    methods = ("step", "crashed", "recovered", "finished")
    if not isinstance(check, bool) and not all(
        callable(getattr(check, method, None)) for method in methods
    ):
        msg = f"check is True, False or an Observer, not {show(check)}"
        raise InvalidTaskError(msg, hint=f"it has the methods {', '.join(methods)}")


def _bystander(setup: Setup) -> Kernel:
    """Return a kernel like that of an orchestrator, for folding events."""
    deciders = PolicyDeciders(setup.parts, task_of)
    random = Random(0)  # noqa: S311 - never drawn from
    pools = setup.pools
    kernel = Kernel(setup.config, deciders, random, pools.units, pools.unit_names)
    deciders.bind(kernel)
    for name, limit in setup.limits.items():
        deciders.add_limit(name, limit)
    return kernel


def _call(act: Callable[[], object]) -> None:
    act()


def _nothing() -> None:
    """Do nothing."""


def _event(event: Event, cargo: Any) -> Event:
    if type(event) is TaskCompleted:
        return event.with_result(lambda: cargo)
    return event


def _line(item: Event | Hit | str) -> str:
    if isinstance(item, str):
        return f"--- {item}"
    if isinstance(item, Hit):
        return f"*** {item}"
    cls = type(item)
    seconds = (item.at_ns - BEGINNING) / NS
    # The first two fields of every event are its number and its time.
    fields = (f" {name}={value!r}" for name, value in details_of(item).items())
    return f"{seconds:>14.6f} {item.seq:>6} {cls.__name__}{''.join(fields)}"


def _schedules_in(simulation: Simulation) -> ScheduleManager:
    extension = built_in("schedules", "schedules")
    host = extension.SimulationHost(simulation)
    return cast("ScheduleManager", extension.schedules_of(host))


def _controllers_in(simulation: Simulation) -> SimulatedControllers:
    make = built_in("controllers", "drivers").SimulatedControllers
    return cast("SimulatedControllers", make(simulation))
