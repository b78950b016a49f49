"""
A random world with all that is above the kernel in it at once: for `explore`.

Schedules, questions, a pool that scales, breakers, alerts with actions, remembered
results, recovery, holds, re-runs and cancels; and a process that dies at any step of
it. What is to hold of its events is said by `Book`, which knows nothing of how.

Decision: tests-and-checks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from random import Random
from typing import Any, Final, Literal

import attrs
from tests.house.tools.book import Book, Called, HoldingAlert, Slots
from tests.house.tools.programs import Jobs, Message, tell

from taskorch.api._contexts import current_context
from taskorch.core.kernel import awaits
from taskorch.core.worlds._clockwork import BEGINNING
from taskorch.errors import UsageError
from taskorch.events import AgentProbed, Event
from taskorch.ext.jobs import JobSystem
from taskorch.ext.recovery import Alert, AlertRule, Alerts, RecoveryHandler
from taskorch.kit.limits import NS
from taskorch.model import (
    TERMINAL,
    AgentTemplate,
    Breaker,
    Cache,
    Question,
    Resources,
    RetryPolicy,
    Task,
    TaskState,
)
from taskorch.model.ids import joined, stem_of
from taskorch.policies import AgentPool, ProportionalAllocator
from taskorch.testing import Breach, Faults, Outcome, Simulation

_PEOPLE: Final = ("ann", "bob", "cy")
_PRESS: Final = AgentTemplate("press", capabilities={"press": 1}, handler=print)
_MOST_PRESSES: Final = 3
_BREAKERS: Final = {
    "b1": Breaker(failures=2, within=120.0, open=10.0, probes=1),
    "b2": Breaker(failures=2, within=60.0, open=5.0, probes=2),
}
_PAUSING: Final = "failing"
_ACTING: Final = "busy"
#: Who holds starts back for the action of an alert.
_ACTOR: Final = "the action"
#: What goes wrong with an attempt, of each class that recovery tells apart.
_ERRORS: Final = (
    *(MemoryError("too large"), ConnectionError("refused"), OSError("no disk")),
    *(TimeoutError("too slow"), ValueError("no number"), RuntimeError("broken")),
)
#: So many finished tasks stay in memory, if all do: jobs, and who is told, need them.
_ALL: Final = 10_000
_JOB: Final = "craft"
#: Commands.
_KINDS: Final = (
    *("job", "load", "press", "calc", "ask", "answer", "answer", "craft", "rerun"),
    *("cancel", "decide", "suspend", "hold", "release", "pause", "resume"),
    *("trigger", "forget", "crash"),
)
#: Schedules, and the type of what they make.
_SCHEDULES: Final = {"early": "job", "late": "press"}
_VERDICTS: Final[tuple[Literal["retry", "fail", "complete"], ...]] = (
    "retry",
    "fail",
    "complete",
)
#: How often what is left is helped, until nothing is.
_ROUNDS: Final = 60


def squared(number: Any, power: int = 2) -> tuple[Any, ...]:
    """What it was called with, and the task that called it."""
    return ("squared", number, power, current_context().task_id)


def doubled(number: Any) -> tuple[Any, ...]:
    """What it was called with, and the task that called it."""
    return ("doubled", number, current_context().task_id)


def _job_system() -> JobSystem:
    """One with one objective, whose work is the world's."""
    system = JobSystem({})
    system.objective(_JOB)(print)
    return system


def options_of_rooms(random: Random) -> dict[str, Any]:
    """What an orchestrator of such a world is made with."""
    handler = RecoveryHandler(
        max_retries=random.choice([0, 1, 2]),
        retry_delay_seconds=random.choice([0.0, 1.0, 20.0]),
        escalation_threshold=random.choice([1, 2]),
        escalate=random.random() < 0.6,
    )
    return {
        "retry_handler": handler,
        "resources": Resources(cpu=6, memory_mb=6, threads=64),
        "allocator": ProportionalAllocator({"threads": 1}),
        "concurrency": random.choice([4, 8, 32]),
        "keep_finished": random.choice([5, _ALL, _ALL]),
        "unknown_capability": "wait",
    }


class Rooms:
    """
    Such a world, with commands that are drawn beforehand.

    Args:
        random: Where they come from.
        simulation: What runs it.
        pace: Seconds, more or less, from one command to the next.
        steps: How many.
    """

    def __init__(
        self, random: Random, simulation: Simulation, pace: float, steps: int
    ) -> None:
        self._simulation = simulation
        self._random = random
        self._pace = pace
        self._questions: dict[str, Question] = {}
        self._calls: dict[str, Called] = {}
        self._ids: list[str] = []
        self._signals: dict[str, float | None] = {}
        #: Whether nothing fails any more, so that all comes to an end.
        self._is_calm = False
        # Some of them more often than others, and some never: one hides another.
        self._weights = [random.choice([0, 1, 1, 5]) for _ in _KINDS]
        for sure in ("job", "crash"):
            self._weights[_KINDS.index(sure)] += 1
        now = 0.0
        self._commands: list[tuple[float, str, str, Callable[[], object]]] = []
        for number in range(steps):
            now += random.choice([0.0, 1.0, random.random()]) * pace
            self._commands.append((now, *self._draw(number)))
        self._end = now + 10 * pace
        self._slots = self._some_schedules()
        self._people()
        #: What people were told: sent, and by its number.
        self.messages: list[Message] = []
        self._remembers = simulation.world.setup.config.keep_finished == _ALL
        if self._remembers:
            simulation.work(_JOB, self._craft)
            self._jobs = Jobs(simulation, _job_system)
            simulation.drivers.add(self._jobs)
            tell(simulation, self.messages.append)

    # -- who and what there is -----------------------------------------------------

    def _people(self) -> None:
        """Workers, the pool, and alerts."""
        random, simulation, pace = self._random, self._simulation, self._pace
        simulation.agent("desk", capabilities=["job"], max_concurrency=3)
        simulation.agent(
            "far", capabilities=["job"], max_concurrency=2, lease=10 * pace
        )
        for name, breaker in _BREAKERS.items():
            simulation.agent(
                name,
                capabilities=["load"],
                max_concurrency=random.choice([2, 4]),
                breaker=breaker,
                work=self._load(name, random.choice([0.1, 0.9, 1.0])),
            )
        simulation.agent("b3", capabilities=["load"], work=1.0)
        # There is more to do than probes, whenever one is let through.
        simulation.each_incarnation(
            lambda: simulation.signals.agent_probed.connect(self._rush)
        )
        simulation.work("job", self._job)
        simulation.work("press", lambda _t, _a, dice: 3 * pace * dice.random())
        simulation.work("calc", lambda _t, _a, dice: Outcome(dice.random(), calls=True))
        pool = AgentPool(
            _PRESS, max_agents=_MOST_PRESSES, interval=2 * pace, settle=10 * pace
        )
        simulation.drivers.add(pool)
        rules = [
            AlertRule.of(
                _PAUSING,
                "failure_rate > 0.4",
                "failure_rate < 0.3",
                over=20 * pace,
                least=3,
                hold=4 * pace,
                action="pause_new_tasks",
            ),
            AlertRule.of(
                "crowded",
                "task_queue_length > 5",
                "task_queue_length < 3",
                hold=2 * pace,
                action="reduce_parallel_tasks",
            ),
            AlertRule.of(
                _ACTING, "running > 3", hold=random.choice([0.0, 4.0]), action=self._act
            ),
        ]
        simulation.drivers.add(Alerts(interval=pace, rules=rules))
        self._alerts = {
            rule.name: HoldingAlert(
                _ACTOR if rule.name == _ACTING else f"alert {rule.name}", rule.hold
            )
            for rule in rules
        }

    def _rush(self, event: AgentProbed) -> None:
        names = [joined("rush", str(event.seq), str(part)) for part in range(14)]
        self._simulation.submit_tasks([Task("load", id=name) for name in names])

    @staticmethod
    def _act(orchestrator: Any, alert: Alert) -> Callable[[Any, Alert], object]:
        """Hold starts back, and say how that is undone."""
        orchestrator.hold_starts(alert.message, by=_ACTOR, most=2, lasts=False)
        return lambda undone, _: undone.release_starts(_ACTOR)

    def _some_schedules(self) -> list[Slots]:
        """Schedules that end in time; a program adds them in each incarnation."""
        random, begin = self._random, BEGINNING / NS
        slots: list[Slots] = []
        for name, kind in _SCHEDULES.items():
            every = random.choice([2, 5, 13]) * max(1, int(self._pace))
            end = int(begin + self._end)
            options: dict[str, Any] = {
                "overlap": random.choice(["skip", "queue", "cancel"]),
                "catch_up": random.choice(["last", "all", "none"]),
                "jitter": random.choice([0.0, 0.0, every / 3]),
                "end": float(end),
            }
            self._simulation.each_incarnation(
                partial(self._schedule, name, float(every), Task(kind), options)
            )
            # Unless it is paused, no slot of it is passed over.
            keeps = options["catch_up"] == "all" and options["overlap"] != "skip"
            slots.append(Slots(name, every, end, keeps=keeps))
        return slots

    def _schedule(
        self, name: str, every: float, task: Task, options: Mapping[str, Any]
    ) -> None:
        self._simulation.schedules.add(name, every, task, **options)

    def _job(self, _task: Task, _attempt: int, dice: Random) -> Outcome:
        """A job that may fail in each of some ways."""
        seconds = 2 * self._pace * dice.random()
        bad = not self._is_calm and dice.random() < 0.25
        return Outcome(seconds, error=dice.choice(_ERRORS) if bad else None)

    def _craft(self, task: Task, _attempt: int, dice: Random) -> Outcome:
        """A unit of a job: half of them fail."""
        payload = task.payload
        if not payload["unit"] and payload["units"] > 1:
            job_id = payload["job"]["job_id"]
            simulation = self._simulation
            simulation.at(simulation.now, lambda: self._jobs.make_others(job_id))
        bad = not self._is_calm and dice.random() < 0.5
        return Outcome(dice.random(), error=ConnectionError("refused") if bad else None)

    def _load(self, name: str, rate: float) -> Callable[[Task, int, Random], Outcome]:
        """What all work on a worker comes to: for a while it fails at a rate."""
        spell = 15 * self._pace

        def work(_task: Task, _attempt: int, dice: Random) -> Outcome:
            is_spell = self._simulation.now // spell % 3 < 2
            bad = is_spell and not self._is_calm and dice.random() < rate
            error = OSError(f"{name} has no disk") if bad else None
            return Outcome(self._pace * dice.random(), error=error)

        return work

    # -- what callers do -----------------------------------------------------------

    def _draw(self, number: int) -> tuple[str, str, Callable[[], object]]:
        (kind,) = self._random.choices(_KINDS, self._weights)
        detail, act = getattr(self, f"_{kind}_command")(number)
        return kind, detail, act

    def _submit(self, task: Task) -> tuple[str, Callable[[], object]]:
        assert task.id is not None
        self._ids.append(task.id)
        return task.id, lambda: self._simulation.submit_task(task)

    def _pick(self) -> str:
        ids = self._ids or ["t0"]
        return self._random.choice([*ids, *ids[-6:], *ids[-3:]])

    def _job_command(self, number: int) -> tuple[str, Callable[[], object]]:
        random = self._random
        task = Task(
            "job",
            id=f"t{number}",
            priority=random.choice([0, 0, 1]),
            resources=random.choice([Resources(), Resources(memory_mb=1, cpu=1)]),
            timeout=random.choice([None, self._pace]),
            retry=random.choice([RetryPolicy(), RetryPolicy(2, base=0.0)]),
            after=tuple(self._ids[-1:]) if random.random() < 0.2 else (),
        )
        return self._submit(task)

    def _load_command(self, number: int) -> tuple[str, Callable[[], object]]:
        retry = RetryPolicy(self._random.choice([1, 3]), base=0.0)
        ids = [f"t{number}-{part}" for part in range(self._random.choice([1, 6, 9]))]
        self._ids += ids
        tasks = [Task("load", id=name, retry=retry) for name in ids]
        return " ".join(ids), lambda: self._simulation.submit_tasks(tasks)

    def _press_command(self, number: int) -> tuple[str, Callable[[], object]]:
        return self._submit(Task("press", id=f"t{number}"))

    def _calc_command(self, number: int) -> tuple[str, Callable[[], object]]:
        """Calls that are alike, or nearly so, one after the other."""
        tasks = [self._calc(f"t{number}-{part}") for part in range(4)]
        self._ids += [task.id or "" for task in tasks]
        return f"t{number}", lambda: self._simulation.submit_tasks(tasks)

    def _calc(self, name: str) -> Task:
        random = self._random
        fn = random.choice([squared, squared, doubled])
        args: tuple[Any, ...] = (random.choice([1, 1, 1, 1, 2, 1.0, True]),)
        if fn is squared:
            args = (*args, random.choice([2, 2, 3]))
        version = random.choice(["1", "1", "1", "2"])
        expires = random.choice([None, 5 * self._pace, 20 * self._pace])
        self._calls[name] = Called(fn.__name__, args, version, expires)
        cache = Cache(version=version, expires=expires)
        later = random.choice([None, 2 * self._pace, 9 * self._pace])
        return Task.call(fn, *args, id=name, type="calc", cache=cache, not_before=later)

    def _craft_command(self, number: int) -> tuple[str, Callable[[], object]]:
        random, job_id = self._random, f"j{number}"
        signal = random.choice([None, 0.0, 0.5])
        self._signals[job_id] = signal
        one = {"compute_units": 1, "memory_mb": 1, "bandwidth_mbps": 1}
        body = {
            "job_id": job_id,
            "objective": _JOB,
            "tadpole_count": random.choice([1, 2, 3]),
            "requested_resources": one,
        }
        if signal is not None:
            body["reward_signal"] = signal

        def act() -> None:
            if self._remembers:
                self._jobs.system.assign_job(body)

        return job_id, act

    def _ask_command(self, number: int) -> tuple[str, Callable[[], object]]:
        random = self._random
        due = random.choice([None, None, 20 * self._pace])
        task = Task.question(
            f"go {number}?",
            id=f"t{number}",
            options=("approve", "wait", "reject"),
            who=random.choice([None, _PEOPLE, _PEOPLE[:2]]),
            quorum=random.choice([1, 2, 2]),
            not_by=random.choice([(), (), ("cy",)]),
            due=due,
            default=None if due is None else random.choice([None, "wait"]),
        )
        assert isinstance(task.payload, Question)
        self._questions[f"t{number}"] = task.payload
        return self._submit(task)

    def _answer_command(self, number: int) -> tuple[str, Callable[[], object]]:
        random = self._random
        by = random.choice([*_PEOPLE, *_PEOPLE, "eve"])
        choice = random.choice(["approve", "approve", "wait", "reject"])
        stray = self._pick()

        def act() -> None:
            open_ones = self._open_questions()
            # Now and then one that nobody asks.
            name = open_ones[number % len(open_ones)] if open_ones else stray
            self._simulation.dice.remark(name)
            self._simulation.answer(name, choice, by=by)

        return f"{choice} by {by}", act

    def _rerun_command(self, _: int) -> tuple[str, Callable[[], object]]:
        return self._on_one(self._simulation.rerun_task, *TERMINAL)

    def _cancel_command(self, _: int) -> tuple[str, Callable[[], object]]:
        states = [state for state in TaskState if state not in TERMINAL]
        return self._on_one(self._simulation.cancel_task, *states)

    def _suspend_command(self, _: int) -> tuple[str, Callable[[], object]]:
        return self._on_one(
            self._simulation.suspend_task, TaskState.RUNNING, TaskState.QUEUED
        )

    def _decide_command(self, _: int) -> tuple[str, Callable[[], object]]:
        verdict = self._random.choice(_VERDICTS)
        return self._on_one(
            lambda name: self._simulation.decide(name, verdict, "by decision"),
            TaskState.BLOCKED,
        )

    def _on_one(
        self, act: Callable[[str], object], *states: TaskState
    ) -> tuple[str, Callable[[], object]]:
        """Something is done to a task that is in one of *states*, if there is one."""
        planned, pick = self._pick(), self._random.getrandbits(16)

        def aim() -> None:
            # Questions are answered, and not decided about.
            asked = self._open_questions() if states == (TaskState.BLOCKED,) else ()
            rows = [row for row in self._rows() if row.state in states]
            # What becomes of a unit of a job is the job's.
            rows = [row for row in rows if not row.id.startswith("job-")]
            apt = [row.id for row in rows if row.id not in asked]
            name = apt[pick % len(apt)] if apt else planned
            self._simulation.dice.remark(name)
            if name not in asked:
                act(name)

        return planned, aim

    def _hold_command(self, _: int) -> tuple[str, Callable[[], object]]:
        most, lasts = self._random.choice([0, 2]), self._random.random() < 0.5
        hold = self._simulation.hold_starts
        return f"most={most}", lambda: hold("a freeze", most=most, lasts=lasts)

    def _release_command(self, _: int) -> tuple[str, Callable[[], object]]:
        return "", self._simulation.release_starts

    def _pause_command(self, _: int) -> tuple[str, Callable[[], object]]:
        name = self._random.choice(list(_SCHEDULES))
        return name, lambda: self._simulation.schedules.pause(name)

    def _resume_command(self, _: int) -> tuple[str, Callable[[], object]]:
        name = self._random.choice(list(_SCHEDULES))
        return name, lambda: self._simulation.schedules.resume(name)

    def _trigger_command(self, _: int) -> tuple[str, Callable[[], object]]:
        name = self._random.choice(list(_SCHEDULES))
        return name, lambda: self._simulation.schedules.trigger(name)

    def _crash_command(self, _: int) -> tuple[str, Callable[[], object]]:
        down = self._random.choice([0.0, 1.0, 5.0]) * self._pace
        return f"for {down:g} s", lambda: self._simulation.crash(down)

    def _forget_command(self, _: int) -> tuple[str, Callable[[], object]]:
        def act() -> None:
            memo: Any = self._simulation.world.living().memo
            memo.clear(task_id=self._pick_calc())

        return "", act

    def _pick_calc(self) -> str:
        return next(iter(self._calls), "")

    def _open_questions(self) -> list[str]:
        return [
            row.id
            for row in self._rows()
            if row.state is TaskState.BLOCKED
            and awaits(row)
            and stem_of(row.id) in self._questions
        ]

    def _rows(self) -> list[Any]:
        incarnation = self._simulation.world.incarnation
        return [] if incarnation is None else list(incarnation.kernel.tasks.values())

    # -- its course ----------------------------------------------------------------

    def begin(self) -> None:
        """Carry out the commands, each at its time."""
        for number, command in enumerate(self._commands):
            self._simulation.at(command[0], self._doing(number, command))
        self._simulation.run(until=self._end)

    def _doing(
        self, number: int, command: tuple[float, str, str, Callable[[], object]]
    ) -> Callable[[], None]:
        _, kind, detail, act = command

        def do() -> None:
            if self._simulation.dice.happens(kind, f"{kind} {number}", detail):
                with suppress(UsageError):
                    act()

        return do

    def drain(self) -> None:
        """
        Bring all to its end, in a world without faults, and read its book.

        Raises:
            AssertionError: Something does not come to an end.
            Breach: A promise was broken.
        """
        simulation, pace = self._simulation, self._pace
        simulation.nature.on = False
        self._is_calm = True
        simulation.run(until=self._end + 5 * pace)
        while simulation.world.incarnation is None:
            simulation.run(until=simulation.now + pace)
        for name in _SCHEDULES:
            simulation.schedules.resume(name)
        for _ in range(_ROUNDS):
            simulation.release_starts()
            self._push()
            simulation.run(until=simulation.now + 10 * pace)
            simulation.world.end_endless()
            if all(row.state in TERMINAL for row in self._rows()):
                break
        else:
            live = [row.id for row in self._rows() if row.state not in TERMINAL]
            texts = "\n".join(str(simulation.explain(name)) for name in live)
            msg = f"{len(live)} tasks do not come to an end:\n{texts}"
            raise AssertionError(msg)
        # Nothing fails any more: alerts are over, and the pool goes. What an alert has
        # measured does not get old, so there is something to measure.
        for number in range(_ROUNDS):
            well = [
                Task(kind, id=joined("well", str(number), str(part)))
                for part, kind in enumerate(["job"] * 2 + ["load"] * 9)
            ]
            simulation.submit_tasks(well)
            simulation.run(until=simulation.now + 10 * pace)
            if number > 1 and not simulation.world.living().kernel.holds:
                break
        simulation.run(until=simulation.now + 100 * pace)
        self._check_rest()
        self.read()

    def _push(self) -> None:
        """Help what does not go on by itself."""
        simulation = self._simulation
        open_ones = self._open_questions()
        for row in self._rows():
            if row.state is TaskState.SUSPENDED:
                simulation.resume_task(row.id)
            elif row.id in open_ones:
                for by in _PEOPLE:
                    with suppress(UsageError):
                        simulation.answer(row.id, "approve", by=by)
                if row.state is TaskState.BLOCKED:
                    simulation.cancel_task(row.id)
            elif row.state is TaskState.BLOCKED:
                simulation.decide(row.id, "fail")

    def _check_rest(self) -> None:
        """
        Nothing is held, running or too much any more.

        Raises:
            Breach: Something is.
        """
        kernel = self._simulation.world.living().kernel
        law = "rest"
        if kernel.holds:
            raise Breach(law, f"starts are held at the end: {kernel.holds}")
        busy = [n for n, worker in kernel.workers.items() if worker.running]
        if busy:
            raise Breach(law, f"{busy} run something at the end")
        presses = [
            name
            for name, worker in kernel.workers.items()
            if _PRESS.has_named(name) and not worker.lost
        ]
        if presses:
            raise Breach(law, f"{presses} were not let go, and nothing is to be done")
        # One elsewhere may hang for ever: it was given up.
        running = [
            run.task_id
            for run in self._simulation.attempts
            if run.outcome == "running" and run.worker != "far"
        ]
        if running:
            raise Breach(law, f"attempts go on at the end: {running}")

    def read(self, events: Iterable[Event] | None = None) -> Book:
        """
        Hold *events* against what is promised; None are those of this world.

        Raises:
            Breach: A promise was broken.
        """
        book = Book(
            questions=self._questions,
            calls=self._calls,
            breakers=_BREAKERS,
            slots=self._slots,
            alerts=self._alerts,
            pool=_PRESS.has_named,
            most=_MOST_PRESSES,
            signals=self._signals if self._remembers else {},
            messages=self.messages if self._remembers else None,
        )
        for event in self._simulation.events if events is None else events:
            book.take_in(event)
        book.close()
        return book


def faults_of_rooms(faults: Faults) -> Faults:
    """*faults* without those that leave work to nobody."""
    return attrs.evolve(faults, clock_jump=0.0)
