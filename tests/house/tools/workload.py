"""Random worlds, and what is done in them: for `explore`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from itertools import count
from random import Random
from typing import Any, Final, Literal, TypeAlias

import attrs

from taskorch.core.engine._work import after_of
from taskorch.core.kernel import GOING, Claim
from taskorch.errors import UsageError
from taskorch.model import (
    TERMINAL,
    AtLeast,
    Breaker,
    Elastic,
    Join,
    OnParentFailure,
    Program,
    Quota,
    Resources,
    RetryPolicy,
    Task,
    TaskState,
    Wait,
)
from taskorch.model.ids import has_number, in_run
from taskorch.policies import (
    CapabilityRegistry,
    DeadlineQueue,
    FifoQueue,
    FourStateMachine,
    LeastLoadedRouter,
    PerformanceRouter,
    PoolAllocator,
    PriorityQueue,
    ProportionalAllocator,
    QuotaRetryHandler,
)
from taskorch.protocols import (
    Allocation,
    AllocationRequest,
    Context,
    Match,
    Permit,
    PoolView,
    Transition,
)
from taskorch.testing import Outcome, Simulation

TYPES: Final = ("p", "q", "r", "s")
#: The run that some of the tasks are of.
_RUN: Final = "w"
NEEDS: Final = (("x",), ("x",), ("y",), ("z",), ("x", "y"), ())
RESOURCES: Final = (
    Resources(),
    Resources(),
    Resources(cpu=1),
    Resources(cpu=2),
    Resources(cpu=3, gpu=1),
    Resources(memory_mb=2),
    Resources(cpu=1, licence=1),
    Elastic(Resources(cpu=4, memory_mb=3), min={"cpu": 2}, weight=2),
    Elastic(Resources(cpu=3)),
    Elastic(Resources(cpu=4, licence=1), fallback="all_or_nothing"),
)
_POOLS: Final = Resources(cpu=4, gpu=1, memory_mb=3)
_PLENTY: Final = Resources(cpu=9, gpu=9, licence=9, memory_mb=9)
_QUEUED: Final = TaskState.QUEUED
_LIVE: Final = tuple(state for state in TaskState if not state.is_terminal)
_ENDED: Final = tuple(state for state in TaskState if state.is_terminal)
_PROGRAM: Final = Program(("true",))
_EVENTS: Final = ("go", "stop")
_WAITS: Final = (
    *(Wait(name) for name in _EVENTS),
    Wait("go", 9.0),
    Wait("stop", 20.0, "nobody came"),
    Wait(None, 5.0, None),
    Wait("go", 0.0, None),
)
_FAILURES: Final[tuple[OnParentFailure, ...]] = (
    "block",
    "block",
    "skip",
    "fail",
    "run",
)
_VERDICTS: Final[tuple[Literal["retry", "fail", "complete"], ...]] = (
    "retry",
    "fail",
    "complete",
)


def _some_failed(states: Mapping[str, TaskState]) -> bool:
    """A join that says no if nothing goes wrong."""
    return TaskState.FAILED in states.values()


_JOINS: Final[tuple[Join, ...]] = (
    *("all", "all", "all", "all", "finished", "any"),
    AtLeast(1),
    AtLeast(2),
    _some_failed,
)


# -- policies with moods ---------------------------------------------------------------


@attrs.define
class Whims:
    """How likely a policy says no; 0 when the run is to come to its end."""

    rate: float = 0.2


class _PuttingOff(PoolAllocator):
    """An allocator that now and then puts off what would fit."""

    rigid = False

    def __init__(self, whims: Whims) -> None:
        self._whims = whims

    def allocate(
        self,
        request: AllocationRequest,
        pools: Mapping[str, PoolView],
        context: Context,
    ) -> Allocation:
        if context.random.random() < self._whims.rate:
            return Allocation(None, "not in the mood")
        answer = super().allocate(request, pools, context)
        return attrs.evolve(answer, reusable=False)


class _Vetoing(FourStateMachine):
    """A state machine that now and then does not let a task start, or be moved."""

    watches = ((_QUEUED, TaskState.RUNNING), (_QUEUED, TaskState.SUSPENDED))

    def __init__(self, whims: Whims) -> None:
        self._whims = whims

    def check(
        self,
        transition: Transition,
        context: Context,
    ) -> Permit:
        if context.random.random() < self._whims.rate:
            return Permit(allowed=False, reason="not now")
        return Permit(allowed=True)


class _Picky(CapabilityRegistry):
    """A registry whose answers hold for one task only."""

    def matches(self, task: Task, agents: Any, context: Context) -> Match:
        answer = super().matches(task, agents, context)
        return attrs.evolve(answer, reusable=False)


class _Moody(PerformanceRouter):
    """A router that now and then fails."""

    def __init__(self, whims: Whims) -> None:
        super().__init__(0.3)
        self._whims = whims

    def route(self, task: Task, candidates: Any, context: Context) -> Any:
        if context.random.random() < self._whims.rate / 10:
            msg = "it broke"
            raise RuntimeError(msg)
        return super().route(task, candidates, context)


def options(random: Random, whims: Whims) -> dict[str, Any]:
    """What an orchestrator of a random kind is made with."""
    queue = random.choice(
        [
            PriorityQueue(),
            PriorityQueue(),
            PriorityQueue(aging=1.0, max_age=random.choice([None, 50.0])),
            FifoQueue(max_queued=random.choice([None, 20])),
            DeadlineQueue(default=random.choice([None, 30.0])),
        ]
    )
    return {
        "registry": random.choice([None, None, _Picky()]),
        "router": random.choice([None, LeastLoadedRouter(), _Moody(whims)]),
        "state_machine": random.choice([None, None, _Vetoing(whims)]),
        "queue": queue,
        "retry_handler": random.choice([None, None, QuotaRetryHandler(tokens=5)]),
        "allocator": random.choice(
            [None, ProportionalAllocator({"cpu": 2.0}), _PuttingOff(whims)]
        ),
        "resources": _POOLS,
        "concurrency": random.choice([1, 2, 4, 8]),
        "keep_finished": random.choice([0, 3, 1_000]),
        "unknown_capability": random.choice(["refuse", "wait", "wait"]),
    }


def people(random: Random, simulation: Simulation, pace: float) -> None:
    """
    Workers of both kinds, and what they make of their work.

    Args:
        random: Where it comes from.
        simulation: Where they join.
        pace: Seconds, more or less, from one command of callers to the next.
    """
    limit = random.choice([1, 2])
    simulation.agent("a", capabilities={"x", "y"}, max_concurrency=limit)
    simulation.agent(
        "b",
        capabilities={"x"},
        capacity=Resources(cpu=3, gpu=1, licence=1, memory_mb=3),
        request=random.choice(RESOURCES[:3]),
        speed=random.choice([0.5, 1.0, 3.0]),
    )
    lease = pace * random.choice([2.0, 10.0, 60.0])
    for name in ("c", "d")[: random.choice([0, 1, 2, 2])]:
        simulation.agent(
            name,
            capabilities=set(random.choice(["x", "xy", "yz"])),
            max_concurrency=random.choice([1, 3, None]),
            lease=lease,
        )
    for name in TYPES:
        simulation.work(name, _work(random, pace))


def _work(random: Random, pace: float) -> Callable[[Task, int, Random], Outcome]:
    """What the work of a type comes to: for each attempt something else."""
    longest = pace * random.choice([0.0, 1.0, 5.0, 20.0])
    fails = random.choice([0.0, 0.1, 0.5])
    crashes = random.choice([0.0, 0.0, 0.2])
    hangs = random.choice([0.0, 0.0, 0.1])
    stubborn = random.choice([0.0, 0.0, 0.3])
    waits = random.choice([0.0, 0.0, 0.3])
    whole = random.random() < 0.5

    def work(task: Task, attempt: int, dice: Random) -> Outcome:
        seconds = longest * dice.random()
        if whole:
            seconds = float(round(seconds))
        roll = dice.random()
        return Outcome(
            seconds=seconds,
            result=f"{task.id} {attempt}",
            error=ValueError("it went wrong") if roll < fails else None,
            crash=fails <= roll < fails + crashes,
            hang=dice.random() < hangs,
            stubborn=dice.random() < stubborn,
            progress=(0.5,) if dice.random() < 0.1 else (),
            waits=seconds / 2 if dice.random() < waits else 0.0,
        )

    return work


# -- what is done ----------------------------------------------------------------------


@attrs.frozen
class TimedCommand:
    """An action of a caller."""

    number: int
    at: float
    kind: str
    detail: str
    act: Callable[[], object]

    @property
    def name(self) -> str:
        """Name of the command among the random draws."""
        return f"command {self.number}"


#: Kind, detail, and what to do.
Made: TypeAlias = tuple[str, str, Callable[[], object]]
Maker: TypeAlias = Callable[[], Made]


class Workload:
    """
    Commands that are drawn beforehand: leaving one out changes no other.

    Args:
        random: Where they come from.
        simulation: What they are for.
        pace: Seconds, more or less, from one to the next.
        steps: How many.
    """

    def __init__(
        self, random: Random, simulation: Simulation, pace: float, steps: int
    ) -> None:
        self._random = random
        self._simulation = simulation
        self._ids: list[str] = []
        self._agents = 0
        self._pace = pace
        self._asks = random.choice([RESOURCES[:1], RESOURCES[:3], RESOURCES])
        makers = (
            [self._submit] * 4
            + [self._submit_plainly] * 2
            + [self._cancel, self._suspend, self._suspend, self._resume]
            + [self._prioritise, self._decide, self._rerun, self._expire]
            + [self._join, self._again]
        )
        #: Whether tasks have terms of their own: in the other half of all worlds, what
        #: is rare without them is less rare.
        self._has_terms = random.random() < 0.5
        if self._has_terms:
            makers += [*[self._add_parents] * 3, self._emit, self._emit]
        now = 0.0
        self.commands: list[TimedCommand] = []
        #: What is to be done soon, because of what was done.
        self._soon: list[Maker] = []
        for number in range(steps):
            # Often several at one instant.
            now += random.choice([0.0, 0.0, 1.0, random.random()]) * pace
            self._number = number
            maker = random.choice(makers)
            if self._soon and random.random() < 0.3:
                maker = self._soon.pop(0)
            kind, detail, act = maker()
            self.commands.append(TimedCommand(number, now, kind, detail, act))
        if random.random() < 0.5:
            self._change_pools(steps)
        if random.random() < 0.5:
            self._reach_checkpoints(steps)
        self._look_after(steps)

    def _change_pools(self, steps: int) -> None:
        """
        Plan changes of pools, often while tasks wait, and allocations by hand.

        Allocations by hand are made and released, too.
        """
        random, end = self._random, self.end
        for number in range(steps, steps + max(1, steps // 10)):
            name, amount = random.choice([*_POOLS]), random.choice([0, 1, 2, 4])
            act = partial(self._simulation.resize, {name: amount})
            kind = "resize"
            if amount and random.random() < 0.5:
                kind, act = "take", partial(self._take, f"h{number}", name, amount)
                later = random.random() * end
                give = partial(self._give_back, f"h{number}")
                release = TimedCommand(-number, later, "give back", f"h{number}", give)
                self.commands.append(release)
            elif random.random() < 0.3:
                # Of some, and without a draw of its own: the others stay what they are.
                rate = (None, None, 0.5)[number % 3]
                kind = random.choice(TYPES)
                whose = {"type": kind} if number % 4 else {"workflow": _RUN}
                quota = Quota(
                    **whose,
                    resources={name: amount},
                    max_parallel=random.choice([None, 0, 1, 3]),
                    starts_per_second=rate,
                    burst=1 if rate is None else 1 + 2 * (number % 2),
                    soft=rate is None and number % 2 == 0,
                )
                kind, act = "bound", partial(self._bound, quota)
            when = random.random() * end
            self.commands.append(
                TimedCommand(number, when, kind, f"{name} {amount}", act)
            )
        self.commands.sort(key=lambda command: command.at)

    def _look_after(self, steps: int) -> None:
        """
        Plan what those do who look after workers, and who are asked.

        Workers have breakers, are drained, get work again, and go; people answer, or
        are silent. All of it is drawn beside the rest, which stays what it is.
        """
        random = Random(f"look after {self._simulation.seed}")
        if random.random() < 0.5:
            return
        simulation, end = self._simulation, self.end
        for number in range(random.choice([0, 2])):
            simulation.agent(
                f"w{number}",
                capabilities={"x", "y"},
                breaker=Breaker(failures=random.choice([1, 2]), open=self._pace),
                lease=random.choice([None, 20 * self._pace]),
                work=random.choice([None, Outcome(0.0, error=OSError("no disk"))]),
            )
        planned: list[tuple[str, str, Callable[[], object]]] = []
        for number in range(max(1, steps // 6)):
            name = random.choice(["a", "b", "c", "w0", "w1"])
            act: Callable[[], object] = partial(self._drain_one, name, on=True)
            planned.append(("drain", name, act))
            planned.append(("undrain", name, partial(self._drain_one, name, on=False)))
            task_id = f"q{number}"
            due = random.choice([None, self._pace, 30 * self._pace])
            question = Task.question(
                "go on?",
                id=task_id,
                options=("yes", "no", "later"),
                quorum=random.choice([1, 2]),
                due=due,
                default=None if due is None else random.choice([None, "later"]),
            )
            planned.append(
                ("ask", task_id, partial(simulation.submit_tasks, [question]))
            )
            for by in random.sample(["ada", "bob", "cy"], random.choice([0, 1, 3])):
                choice = random.choice(["yes", "yes", "no", "later"])
                answer = partial(simulation.answer, task_id, choice, by=by)
                planned.append(("answer", f"{task_id} {choice} {by}", answer))
        if random.random() < 0.3:
            planned.append(("terminate", "w1", partial(simulation.terminate, "w1")))
        for number, (kind, detail, act) in enumerate(planned, 4 * steps):
            when = random.random() * end
            self.commands.append(TimedCommand(number, when, kind, detail, act))
        self.commands.sort(key=lambda command: command.at)

    def _drain_one(self, name: str, *, on: bool) -> None:
        """A worker gets no new work, or does again, if it is there and stays."""

        def act() -> None:
            incarnation = self._simulation.world.incarnation
            row = None if incarnation is None else incarnation.kernel.workers.get(name)
            if incarnation is not None and row is not None and row.draining != GOING:
                incarnation.kernel.drain(
                    name, "repair" if on else "", incarnation.now()
                )

        self._simulation.world.do(act)

    def _bound(self, quota: Quota) -> None:
        """A type of task may have more or less at once than before."""

        def act() -> None:
            incarnation = self._simulation.world.incarnation
            if incarnation is not None:
                change = (*quota.subject, quota.limits)
                incarnation.kernel.change_quotas([change], incarnation.now())

        self._simulation.world.do(act)

    def _reach_checkpoints(self, steps: int) -> None:
        """What runs, and was granted a part of what it asks for, is at a checkpoint."""
        random, end = self._random, self.end
        for number in range(2 * steps, 2 * steps + max(1, steps // 4)):
            act = partial(self._reach_checkpoint, random.getrandbits(16))
            when = random.random() * end
            self.commands.append(TimedCommand(number, when, "checkpoint", "", act))
        self.commands.sort(key=lambda command: command.at)

    def _reach_checkpoint(self, pick: int) -> None:
        """Have one running elastic task reach a checkpoint."""

        def act() -> None:
            incarnation = self._simulation.world.incarnation
            rows = [] if incarnation is None else list(incarnation.kernel.holders)
            if incarnation is not None and rows:
                row = rows[pick % len(rows)]
                incarnation.kernel.adjust(row, row.attempt, incarnation.now())

        self._simulation.world.do(act)

    def _take(self, allocation_id: str, name: str, amount: int) -> None:
        """Allocate from a pool by hand, if there is enough."""
        claim = Claim(allocation_id, "ann", ((name, amount * 1_000_000),))

        def act() -> None:
            incarnation = self._simulation.world.incarnation
            if (
                incarnation is not None
                and allocation_id not in incarnation.kernel.allocations
            ):
                incarnation.kernel.allocate(claim, incarnation.now())

        self._simulation.world.do(act)

    def _give_back(self, allocation_id: str) -> None:
        """Release such an allocation, if it was granted; after a crash, too."""

        def act() -> None:
            incarnation = self._simulation.world.incarnation
            row = (
                None
                if incarnation is None
                else incarnation.kernel.allocations.get(allocation_id)
            )
            if incarnation is not None and row is not None:
                incarnation.kernel.release_allocation(row, incarnation.now())

        self._simulation.world.do(act)

    @property
    def end(self) -> float:
        """When the last of them comes, in seconds."""
        return self.commands[-1].at if self.commands else 0.0

    def begin(self) -> None:
        """Carry out the commands, each at its time."""
        for command in self.commands:
            self._simulation.at(command.at, partial(self._do, command))
        self._simulation.run(until=self.end)

    def _do(self, command: TimedCommand) -> None:
        dice = self._simulation.dice
        if dice.happens(command.kind, command.name, command.detail):
            with suppress(UsageError):
                command.act()

    # Each of these draws all that it needs at once, and gives kind, detail and act.

    def _submit(self) -> Made:
        random = self._random
        tasks: list[Task] = []
        first = len(self._ids)
        many = random.choice([1, 1, 2, 6, 12])
        # Half of them are of a run.
        run = _RUN if first % 2 else ""
        start = in_run(run) if run else ""
        ids = [f"{start}t{first + i}" for i in range(many)]
        rings = random.random() < 0.1
        for number, task_id in enumerate(ids):
            # Later ones of the same batch may be named as well as earlier ones.
            candidates = self._ids[-8:] + ids[number + 1 :] + ids[: number * rings]
            most = random.choice([0, 0, 1, 2, 3])
            after = random.sample(candidates, min(len(candidates), most))
            tasks.append(self._task(task_id, after))
        self._ids += ids
        return "submit", ", ".join(map(_shown, tasks)), lambda: self._send(tasks, run)

    def _submit_plainly(self) -> Made:
        """Tasks without names, dependencies and dates: they take the fast path."""
        random = self._random
        prefix = f"c{self._number}-"
        many = random.choice([1, 2, 6])
        resources = random.choice([*RESOURCES[:1], *self._asks])
        kind = random.choice(TYPES)
        tasks = [Task(kind, requires=("x",), resources=resources) for _ in range(many)]
        self._ids += [f"{prefix}{number}" for number in range(1, many + 1)]

        def act() -> None:
            # Their ids do not depend on what was left out.
            self._simulation.world.id_parts = (prefix, count(1))
            self._simulation.submit_tasks([attrs.evolve(task) for task in tasks])

        return "submit", f"{prefix}1 to {many}: {_shown(tasks[0])}", act

    def _task(self, task_id: str, after: list[str]) -> Task:
        random = self._random
        task = Task(
            random.choice(TYPES),
            id=task_id,
            after=tuple(after),
            requires=random.choice(NEEDS),
            priority=random.choice([0, 0, 0, 1, -1]),
            resources=random.choice(self._asks),
            timeout=random.choice([None, None, 1.0, 10.0]),
            deadline=random.choice([None] * 6 + [0.5, 30.0]),
            not_before=random.choice([None] * 5 + [0.0, 9.0]),
            retry=random.choice(
                [RetryPolicy(), RetryPolicy(3), RetryPolicy(2, base=0.0, jitter=0.0)]
            ),
            idempotent=random.random() < 0.8,
            idempotency_key=random.choice([None] * 5 + [f"key-{task_id}"]),
        )
        if self._has_terms:
            task = attrs.evolve(
                task,
                join=random.choice(_JOINS),
                on_parent_failure=random.choice(_FAILURES),
            )
        if random.random() < 0.2:
            # One that can be stopped where it stands.
            task = attrs.evolve(task, payload=_PROGRAM, requires=None)
        elif self._has_terms and random.random() < 0.15:
            task = attrs.evolve(task, payload=random.choice(_WAITS), requires=None)
        return task

    def _send(self, tasks: list[Task], run: str) -> None:
        """Submit *tasks*, without the dependencies that were never accepted."""
        simulation = self._simulation
        incarnation = simulation.world.incarnation
        if incarnation is not None:
            here = {task.id: None for task in tasks}
            accepted = (incarnation.kernel.tasks, incarnation.kernel.evicted, here)
            tasks = [
                attrs.evolve(
                    task,
                    after=tuple(n for n in task.after if any(n in k for k in accepted)),
                )
                for task in tasks
            ]
        simulation.world.submit(tasks, run=run)

    def _pick(self) -> str:
        """A task that may be there: mostly a late one."""
        ids = self._ids or ["t0"]
        return self._random.choice([*ids, *ids[-8:], *ids[-4:], *ids[-4:]])

    def _on_one(
        self, kind: str, act: Callable[[str], object], *states: TaskState, say: str = ""
    ) -> Made:
        """
        Plan an action on a task that is in one of *states*.

        Mostly one is drawn now; if it is not then, another that is.
        """
        planned, number = self._pick(), self._number

        def aim() -> None:
            incarnation = self._simulation.world.incarnation
            rows = {} if incarnation is None else incarnation.kernel.tasks
            row = rows.get(planned)
            task_id = planned
            if row is None or row.state not in states:
                apt = [row.id for row in rows.values() if row.state in states]
                if apt:
                    task_id = apt[number % len(apt)]
                    self._simulation.dice.remark(f"rather {task_id}")
            act(task_id)

        return kind, f"{planned} {say}".strip(), aim

    def _cancel(self) -> Made:
        return self._on_one("cancel", self._simulation.cancel_task, *_LIVE)

    def _suspend(self) -> Made:
        state = self._random.choice([*_LIVE, TaskState.RUNNING, TaskState.RETRYING])
        self._soon.append(self._resume)
        return self._on_one("suspend", self._simulation.suspend_task, state)

    def _resume(self) -> Made:
        return self._on_one("resume", self._simulation.resume_task, TaskState.SUSPENDED)

    def _rerun(self) -> Made:
        return self._on_one("rerun", self._simulation.rerun_task, *_ENDED)

    def _prioritise(self) -> Made:
        priority = self._random.randint(-3, 3)
        return self._on_one(
            "prioritise",
            lambda task_id: self._simulation.set_priority(task_id, priority),
            *_LIVE,
            say=str(priority),
        )

    def _decide(self) -> Made:
        verdict = self._random.choice(_VERDICTS)
        return self._on_one(
            "decide",
            lambda task_id: self._simulation.decide(task_id, verdict, "by decision"),
            TaskState.BLOCKED,
            say=verdict,
        )

    def _emit(self) -> Made:
        random = self._random
        name, keep = random.choice(_EVENTS), random.choice([0.0, 1.0, 30.0])
        return (
            "emit",
            f"{name} keep={keep}",
            lambda: self._simulation.emit(name, f"{name} came", keep=keep),
        )

    def _add_parents(self) -> Made:
        count = self._random.choice([1, 1, 2])
        # Those that came last, which may wait for it: rings are to be refused.
        latest = self._ids[-6:] or [self._pick()]
        after = tuple(self._random.choice(latest) for _ in range(count))
        return self._on_one(
            "add parents",
            lambda task_id: self._simulation.add_parents(task_id, after),
            TaskState.PENDING,
            say=f"after {', '.join(after)}",
        )

    def _expire(self) -> Made:
        seconds = self._random.choice([1.0, 30.0])
        return "expire", f"{seconds} s", lambda: self._simulation.expire_tasks(seconds)

    def _join(self) -> Made:
        self._agents += 1
        name = f"n{self._agents}"
        random = self._random
        skill, limit = random.choice("xz"), random.choice([1, 2, None])
        lease = random.choice([None, 10 * self._pace])
        return (
            "join",
            f"{name} {skill} lease={lease}",
            lambda: self._simulation.agent(
                name, capabilities=set(skill), max_concurrency=limit, lease=lease
            ),
        )

    def _again(self) -> Made:
        """
        Submit a task again, as a caller would that got no answer.

        The options may have changed since.
        """
        task_id = self._pick()
        random, pace = self._random, self._pace
        others: dict[str, Any] = {
            "priority": random.randint(-2, 2),
            "timeout": random.choice([None, pace, 10 * pace]),
            "deadline": random.choice([None, None, pace, 60 * pace]),
            "not_before": random.choice([None, pace, 5 * pace]),
            "retry": RetryPolicy(random.randint(1, 3), base=pace),
            "idempotent": random.random() < 0.8,
        }
        names = random.sample(list(others), random.choice([0, 0, 1, 3]))
        options = {name: others[name] for name in names}

        def act() -> None:
            incarnation = self._simulation.world.incarnation
            row = None if incarnation is None else incarnation.kernel.tasks.get(task_id)
            if row is not None and row.cargo is not None and not has_number(task_id):
                job = row.cargo
                after = after_of(job)
                task = attrs.evolve(job._task, id=task_id, after=after)
                task = attrs.evolve(task, **options)
                # The id means the latest run.
                latest = incarnation.directory.reruns.latest(task_id)  # type: ignore[union-attr]
                assert self._simulation.submit_task(task) == latest

        say = " ".join([task_id, *names])
        return "resubmit", say, act

    # -- the end -------------------------------------------------------------------

    def drain(self) -> None:
        """
        End all work in a world without faults, with enough of everything.

        Raises:
            AssertionError: Something that was accepted does not come to an end.
        """
        simulation = self._simulation
        simulation.nature.on = False
        simulation.run()
        simulation.resize(_POOLS)
        incarnation = simulation.world.incarnation
        for kind in TYPES:
            self._bound(Quota(type=kind))
        self._bound(Quota(workflow=_RUN))
        for allocation_id in (
            [] if incarnation is None else list(incarnation.kernel.allocations)
        ):
            self._give_back(allocation_id)
        simulation.agent(
            "all",
            capabilities={"x", "y", "z"},
            max_concurrency=None,
            capacity=_PLENTY,
        )
        simulation.run()
        for _ in range(200):
            if not self._push():
                return
            simulation.run()
            simulation.world.end_endless()
            simulation.run()
        stuck = [str(simulation.explain(row.id)) for row in self._live()]
        msg = f"{len(stuck)} tasks do not come to an end:\n" + "\n".join(stuck)
        raise AssertionError(msg)

    def _live(self) -> list[Any]:
        incarnation = self._simulation.world.incarnation
        rows = [] if incarnation is None else list(incarnation.kernel.tasks.values())
        return [row for row in rows if row.state not in TERMINAL]

    def _push(self) -> bool:
        """Help what does not go on by itself; whether anything is left."""
        simulation = self._simulation
        live = [(row, row.state) for row in self._live()]
        for row, state in live:
            if state is TaskState.RUNNING:
                self._check_running(row)
        for row, state in live:
            if state is TaskState.SUSPENDED:
                simulation.resume_task(row.id)
            elif state is TaskState.BLOCKED and row.state is state:
                simulation.decide(row.id, "fail")
            elif state is TaskState.RUNNING:
                simulation.cancel_task(row.id)
        return bool(live)

    def _check_running(self, row: Any) -> None:
        """
        Check that *row*, still running, hangs by plan and was not forgotten.

        Raises:
            AssertionError: It was forgotten.
        """
        world = self._simulation.world
        incarnation = world.incarnation
        assert incarnation is not None
        run = world.runs.get((incarnation.epoch, row.id, row.attempt))
        if run is None or not run.is_endless or row.worker.lost:
            msg = f"{row.id} is running on {row.worker.name}, and nobody runs it"
            raise AssertionError(msg)


def _shown(task: Task) -> str:
    """*task* in a line: its id, and what is not as usual."""
    plain = Task("")
    parts = [
        f"{field.name}={getattr(task, field.name)!r}"
        # The repr of a function has its address, which differs from run to run.
        if task.join is not _some_failed or field.name != "join"
        else "join=some failed"
        for field in attrs.fields(Task)
        if field.name not in ("type", "id", "retry", "_submitted_as")
        and getattr(task, field.name) != getattr(plain, field.name)
    ]
    if task.retry != plain.retry:
        parts.append(f"attempts={task.retry.max_attempts}")
    return f"{task.id}: {task.type}({', '.join(parts)})"
