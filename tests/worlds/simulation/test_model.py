"""
The kernel against a dictionary.

The model knows nothing of buckets, timers, counters and links: a dictionary of tasks,
and a few rules in the words of the documentation. After every command both must agree
on every state, on every count and on what runs. Which worker a task goes to is read
from the kernel, and the model says whether it could have.
"""

from copy import deepcopy
from random import Random
from typing import Any

import attrs
import hypothesis.strategies as st
import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.core.kernel.commands import (
    CancelTask,
    Command,
    DecideTask,
    EndAttempt,
    ExpireTasks,
    ResumeTask,
    SetPriority,
    SuspendTask,
)
from tests.core.kernel.harness import AGING, SEC, Machine, Policies
from tests.house.tools.examples import examples
from tests.worlds.simulation.test_exhaustive import (
    accepts_results_of_another_incarnation,
    wakes_nobody,
)

from taskorch.core.kernel import (
    Again,
    Kernel,
    TaskRow,
    check_invariants,
    differences,
    fold,
    recover,
)
from taskorch.errors import InternalError, InvalidTransitionError
from taskorch.events import CATALOGUE
from taskorch.model import TERMINAL, Resources, TaskState

S = TaskState
#: Workers, and how many attempts each runs at once.
LIMITS = {"near": 1, "far": 2}
CPUS = 2
CONCURRENCY = 3
FAILURES = 2
DELAY = 5 * SEC
LEASE = 7 * SEC
GRACE = 10 * SEC
POISON = 3

LIVE = tuple(state for state in S if state not in TERMINAL)

WHICH = st.integers(0, 99)
OUTCOME = st.sampled_from(["completed", "failed", "failed", "stopped", "lost"])
#: What it waits for, its priority, its type, and whether it may be run twice.
TASK = st.tuples(
    st.lists(WHICH, max_size=2),
    st.sampled_from([0, 0, 0, 1, -1]),
    st.sampled_from("pq"),
    st.sampled_from([True, True, False]),
)


@attrs.define
class Model:
    """All that the rules are about."""

    now: int
    tasks: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    #: Workers that take work, and when each was last heard of.
    workers: dict[str, int] = attrs.field(factory=dict)
    #: Where the attempts are that would not stop.
    leaks: dict[tuple[str, int], str] = attrs.field(factory=dict)
    draining: bool = False

    # -- questions -----------------------------------------------------------------

    def are(self, *states: TaskState) -> list[str]:
        return [name for name, task in self.tasks.items() if task["state"] in states]

    def busy(self, worker: str) -> int:
        runs = [self.tasks[name]["agent"] == worker for name in self.are(S.RUNNING)]
        return sum(runs) + list(self.leaks.values()).count(worker)

    def has_room(self, worker: str) -> bool:
        held = len(self.are(S.RUNNING)) + len(self.leaks)
        return (
            not self.draining
            and held < min(CPUS, CONCURRENCY)
            and worker in self.workers
            and self.busy(worker) < LIMITS[worker]
        )

    def next_in_order(self) -> str | None:
        def place(name: str) -> tuple[int, int]:
            task = self.tasks[name]
            return task["submitted"] - task["priority"] * AGING, task["number"]

        return min(self.are(S.QUEUED), key=place, default=None)

    def is_broken(self, name: str) -> bool:
        """Whether it will not complete unless somebody does something."""
        task = self.tasks[name]
        by_parents = task["state"] is S.BLOCKED and not task["decision"]
        return task["state"] in (S.FAILED, S.CANCELLED) or by_parents

    def waiting(self, name: str) -> TaskState:
        """What a task is that is kept by nothing but its parents."""
        parents = self.tasks[name]["parents"]
        if any(self.is_broken(parent) for parent in parents):
            return S.BLOCKED
        if any(self.tasks[parent]["state"] is not S.COMPLETED for parent in parents):
            return S.PENDING
        return S.QUEUED

    # -- changes -------------------------------------------------------------------

    def enter(self, name: str, state: TaskState) -> None:
        task = self.tasks[name]
        task["state"] = state
        if state is S.QUEUED:
            task["queued"] = self.now
        if state is not S.RUNNING:
            task["stop"] = ""

    def follow(self) -> None:
        """Let those that only wait for parents be what these make of them."""
        for name, task in self.tasks.items():
            waits = task["state"] is S.PENDING or self.is_held_by_parents(name)
            if waits and (state := self.waiting(name)) is not task["state"]:
                self.enter(name, state)

    def is_held_by_parents(self, name: str) -> bool:
        task = self.tasks[name]
        return task["state"] is S.BLOCKED and not task["decision"]

    def submit(self, name: str, parents: list[str], priority: int, safe: bool) -> None:
        self.tasks[name] = {
            "state": S.PENDING,
            "attempt": 0,
            "parents": parents,
            "priority": priority,
            "number": len(self.tasks),
            "submitted": self.now,
            "queued": self.now,
            "safe": safe,
            "agent": "",
            "failures": 0,
            "lost": 0,
            "due": 0,
            "left": 0,
            "aside": False,
            "stop": "",
            "give_up": 0,
            "decision": False,
        }
        self.follow()

    def start(self, name: str, worker: str) -> None:
        task = self.tasks[name]
        assert name == self.next_in_order()
        assert self.has_room(worker)
        task["attempt"] += 1
        task["agent"] = worker
        self.enter(name, S.RUNNING)

    def retry(self, name: str, due: int) -> None:
        task = self.tasks[name]
        task["due"] = due
        if task["aside"]:
            task["aside"] = False
            task["left"] = max(0, due - self.now)
            self.enter(name, S.SUSPENDED)
        else:
            self.enter(name, S.RETRYING if due > self.now else S.QUEUED)

    def end(self, name: str, outcome: str) -> None:
        """The current attempt ends."""
        task = self.tasks[name]
        if task["stop"] == "cancel":
            self.enter(name, S.CANCELLED)
        elif outcome == "completed":
            self.enter(name, S.COMPLETED)
        elif outcome == "failed":
            task["failures"] += 1
            if task["failures"] < FAILURES:
                self.retry(name, self.now + DELAY)
            else:
                self.enter(name, S.FAILED)
        elif outcome == "stopped":
            self.retry(name, 0)
        else:
            self.vanish(name, outcome)
        self.follow()

    def vanish(self, name: str, outcome: str) -> None:
        """Nobody knows what became of the attempt."""
        task = self.tasks[name]
        task["lost"] += outcome == "lost"
        if task["lost"] >= POISON:
            self.enter(name, S.FAILED)
        elif task["safe"]:
            self.retry(name, 0)
        else:
            task["decision"], task["aside"] = True, False
            self.enter(name, S.BLOCKED)

    def cancel(self, name: str) -> None:
        task = self.tasks[name]
        if task["state"] is S.RUNNING:
            if task["stop"] != "cancel":
                task["stop"], task["give_up"] = "cancel", self.now + GRACE
        elif task["state"] not in TERMINAL:
            self.enter(name, S.CANCELLED)
        self.follow()

    def suspend(self, name: str) -> None:
        task = self.tasks[name]
        if task["state"] is S.RUNNING:
            if not task["stop"]:
                task["aside"], task["stop"] = True, "suspend"
        elif task["state"] in (S.PENDING, S.QUEUED, S.RETRYING):
            if task["state"] is S.RETRYING:
                # Its delay stops.
                task["left"] = max(1, task["due"] - self.now)
            self.enter(name, S.SUSPENDED)
        self.follow()

    def resume(self, name: str) -> None:
        task = self.tasks[name]
        if task["state"] is S.RUNNING:
            task["aside"] = False
            if task["stop"] == "suspend":
                task["stop"] = ""
        elif task["state"] is S.SUSPENDED:
            state = self.waiting(name)
            late = state is S.QUEUED and task["left"] > 0
            task["due"], task["left"] = self.now + task["left"], 0
            self.enter(name, S.RETRYING if late else state)
        self.follow()

    def decide(self, name: str, verdict: str) -> None:
        task = self.tasks[name]
        if task["state"] is S.BLOCKED:
            task["decision"] = False
            after = {"retry": S.QUEUED, "fail": S.FAILED, "complete": S.COMPLETED}
            self.enter(name, after[verdict])
        self.follow()

    def expire(self, older_than: int) -> None:
        for name in self.are(S.QUEUED):
            if self.now - self.tasks[name]["queued"] > older_than:
                self.enter(name, S.FAILED)
        self.follow()

    def lose(self, worker: str) -> None:
        self.workers.pop(worker, None)
        for name in self.are(S.RUNNING):
            if self.tasks[name]["agent"] == worker:
                self.end(name, "lost")
        self.leaks = {
            key: where for key, where in self.leaks.items() if where != worker
        }

    def pass_time(self, now: int) -> None:
        """Do what is due at *now*; the caller stops wherever something is."""
        self.now = now
        if self.workers.get("far", now) + LEASE <= now:
            self.lose("far")
        for name in self.are(S.RUNNING):
            task = self.tasks[name]
            if task["stop"] == "cancel" and task["give_up"] <= now:
                self.leaks[name, task["attempt"]] = task["agent"]
                self.end(name, "stopped")
        for name in self.are(S.RETRYING):
            if self.tasks[name]["due"] <= now:
                self.enter(name, S.QUEUED)

    def recover(self) -> None:
        """A new incarnation: what ran is interrupted, and no worker is there."""
        self.leaks.clear()
        self.workers.clear()
        self.draining = False
        for name in self.are(S.RUNNING):
            self.end(name, "interrupted")

    def dues(self) -> list[int]:
        """When something is due."""
        found = [self.tasks[name]["due"] for name in self.are(S.RETRYING)]
        for name in self.are(S.RUNNING):
            if self.tasks[name]["stop"] == "cancel":
                found.append(self.tasks[name]["give_up"])
        if "far" in self.workers:
            found.append(self.workers["far"] + LEASE)
        return found


class Rules(Policies):
    """One more try, later; whoever is there can do everything."""

    def retry(
        self,
        row: TaskRow,
        error: BaseException | None,
        cause: str,
        elapsed_ns: int,
        now: int,
    ) -> Again:
        charged = 1 + (0 if row.extra is None else row.extra.charged)
        return Again(charged < FAILURES, DELAY)


class Both(RuleBasedStateMachine):
    """Every rule is told to the kernel and to the model."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = Machine(
            policies=Rules(rigid=True),
            pools=Resources(cpu=CPUS),
            concurrency=CONCURRENCY,
            poison_attempts=POISON,
            grace_ns=GRACE,
            refuse_unknown=False,
        )
        self.machine.worker("near", max_concurrency=LIMITS["near"])
        self.machine.worker("far", max_concurrency=LIMITS["far"], lease=LEASE / SEC)
        now = self.machine.now
        self.model = Model(now, workers={"near": now, "far": now})
        #: Attempts of which somebody may still say something, by life.
        self.old: list[tuple[int, str, int]] = []
        self.commit()

    # -- choices -------------------------------------------------------------------

    def pick(self, which: int, *states: TaskState) -> str | None:
        found = self.model.are(*states)
        return found[which % len(found)] if found else None

    def do(self, *commands: Command) -> None:
        """The kernel handles *commands*, which the model knows of."""
        epoch = self.machine.kernel.epoch
        self.machine.do(*commands)
        started, self.machine.started = self.machine.started, []
        for name, attempt in started:
            self.model.start(name, self.machine.worker_of(name))
            assert self.model.tasks[name]["attempt"] == attempt
            self.old.append((epoch, name, attempt))

    # -- tasks ---------------------------------------------------------------------

    @initialize(tasks=st.lists(TASK, min_size=2, max_size=6))
    def begin(self, tasks: list[Any]) -> None:
        self.submit(tasks)

    @rule(tasks=st.lists(TASK, min_size=1, max_size=4))
    def submit(self, tasks: list[Any]) -> None:
        for parents, priority, kind, safe in tasks:
            name = f"t{len(self.model.tasks)}"
            after = [self.pick(which, *S) for which in parents]
            unique = [parent for parent in dict.fromkeys(after) if parent is not None]
            self.model.submit(name, unique, priority, safe)
            self.machine.submit(
                name,
                after=unique,
                priority=priority,
                type=kind,
                requires=(),
                resources=Resources(cpu=1),
                idempotent=safe,
            )
            self.do()

    @rule(ends=st.lists(st.tuples(WHICH, OUTCOME), min_size=1, max_size=3))
    def end(self, ends: list[tuple[int, str]]) -> None:
        """Current attempts end, all at one instant."""
        commands = []
        for which, outcome in ends:
            if name := self.pick(which, S.RUNNING):
                attempt = self.model.tasks[name]["attempt"]
                self.model.end(name, outcome)
                commands.append(EndAttempt(name, attempt, outcome))
        self.do(*commands)

    @rule(which=WHICH)
    def complete(self, which: int) -> None:
        """By the path that is written out for speed."""
        if name := self.pick(which, S.RUNNING):
            attempt = self.model.tasks[name]["attempt"]
            self.model.end(name, "completed")
            self.machine.end(name, attempt=attempt)
            self.do()

    @precondition(lambda self: self.old)
    @rule(which=WHICH, outcome=OUTCOME)
    def late(self, which: int, outcome: str) -> None:
        """Somebody reports an attempt that is over for us, perhaps again."""
        incarnation, running = self.machine.kernel.epoch, self.model.are(S.RUNNING)
        current = [
            (incarnation, name, self.model.tasks[name]["attempt"]) for name in running
        ]
        old = [fence for fence in self.old if fence not in current]
        # Best of what runs again: the same attempt in another incarnation, or the same
        # task.
        again = {fence[1:] for fence in current}
        old = (
            [fence for fence in old if fence[1:] in again]
            or [fence for fence in old if fence[1] in running]
            or old
        )
        if old:
            epoch, name, attempt = old[which % len(old)]
            if epoch == incarnation:
                self.model.leaks.pop((name, attempt), None)
            self.do(EndAttempt(name, attempt, outcome, epoch=epoch))

    @rule(
        which=WHICH,
        what=st.sampled_from(["cancel", "suspend", "suspend", "resume", "resume"]),
        busy=st.booleans(),
    )
    def control(self, which: int, what: str, busy: bool) -> None:
        busier = self.pick(which, S.RUNNING, S.SUSPENDED) if busy else None
        name = busier or self.pick(which, *LIVE)
        if name is None:
            return
        if what == "suspend" and self.model.tasks[name]["state"] is S.BLOCKED:
            with pytest.raises(InvalidTransitionError):
                self.machine.do(SuspendTask(name))
            return
        getattr(self.model, what)(name)
        commands = {"cancel": CancelTask, "suspend": SuspendTask, "resume": ResumeTask}
        self.do(commands[what](name))

    @rule(which=WHICH)
    def control_what_has_ended(self, which: int) -> None:
        """Nothing comes of it."""
        if name := self.pick(which, *TERMINAL):
            self.do(CancelTask(name), SuspendTask(name), ResumeTask(name))
            self.do(SetPriority(name, 3), DecideTask(name, "complete"))

    @rule(which=WHICH, priority=st.integers(-2, 2))
    def set_priority(self, which: int, priority: int) -> None:
        if name := self.pick(which, *LIVE):
            self.model.tasks[name]["priority"] = priority
            self.do(SetPriority(name, priority))

    @rule(which=WHICH, verdict=st.sampled_from(["retry", "fail", "complete"]))
    def decide(self, which: int, verdict: str) -> None:
        if not (name := self.pick(which, S.BLOCKED)):
            return
        if verdict == "retry" and self.model.is_held_by_parents(name):
            with pytest.raises(InvalidTransitionError):
                self.machine.do(DecideTask(name, verdict))
            return
        self.model.decide(name, verdict)
        self.do(DecideTask(name, verdict))

    # -- time, workers, and ourselves -----------------------------------------------

    @rule(seconds=st.sampled_from([1, 4, 9, 12]), beats=st.booleans())
    def wait(self, seconds: int, beats: bool) -> None:
        self.pass_time(seconds, beats)

    def pass_time(self, seconds: int, beats: bool) -> None:
        until = self.machine.now + seconds * SEC
        while True:
            due = min(self.model.dues(), default=until)
            self.machine.now = max(self.machine.now, min(due, until))
            if beats and "far" in self.model.workers:
                self.beat()
            self.model.pass_time(self.machine.now)
            self.do()
            if due >= until:
                return

    @rule(which=WHICH, outcome=st.none() | OUTCOME, beats=st.booleans())
    def call_off(self, which: int, outcome: str | None, beats: bool) -> None:
        """What runs is called off; it ends, or goes on for longer than its grace."""
        if not (name := self.pick(which, S.RUNNING)):
            return
        self.model.cancel(name)
        self.do(CancelTask(name))
        if outcome is None:
            self.pass_time(11, beats)
        else:
            self.model.end(name, outcome)
            self.do(EndAttempt(name, self.model.tasks[name]["attempt"], outcome))

    @rule()
    def far_is_heard_of(self) -> None:
        """It may have been lost before."""
        self.beat()
        self.do()

    def beat(self) -> None:
        """The worker elsewhere names all that it runs for us."""
        names = [
            (name, self.model.tasks[name]["attempt"])
            for name in self.model.are(S.RUNNING)
            if self.model.tasks[name]["agent"] == "far"
        ]
        names += [key for key, where in self.model.leaks.items() if where == "far"]
        abandoned = self.machine.kernel.beat("far", names, self.machine.now)
        assert all(key in self.model.leaks for key in abandoned)
        self.model.workers["far"] = self.machine.now
        self.model.now = self.machine.now

    @rule()
    def commit(self) -> None:
        self.kept = deepcopy(self.model.tasks)
        self.committed = len(self.machine.sink)

    @precondition(lambda self: self.old)
    @rule(which=WHICH, outcome=OUTCOME)
    def hear_of_the_last_incarnation(self, which: int, outcome: str) -> None:
        """We die, and what the last incarnation had begun reports to this one."""
        self.crash(0)
        self.late(which, outcome)

    @rule(
        what=st.sampled_from(["expire", "drain", "start_anew", "restart", "crash"]),
        seconds=st.sampled_from([0, 3, 20]),
    )
    def trouble(self, what: str, seconds: int) -> None:
        getattr(self, what)(seconds)

    def expire(self, seconds: int) -> None:
        self.model.expire(seconds * SEC)
        self.do(ExpireTasks(seconds * SEC))

    def drain(self, _: int) -> None:
        """Nothing starts while what runs goes on; or that is over."""
        self.model.draining = self.machine.kernel.paused = not self.model.draining
        self.do()

    def start_anew(self, _: int) -> None:
        """The worker elsewhere has lost all that it did."""
        info = self.machine.kernel.workers["far"].info
        self.model.lose("far")
        self.machine.kernel.add_worker(info, self.machine.now)
        self.model.workers["far"] = self.machine.now
        self.do()

    def restart(self, seconds: int) -> None:
        self.commit()
        self.crash(seconds)

    def crash(self, seconds: int) -> None:
        """We die, and begin anew with what was committed."""
        machine, old = self.machine, self.machine.kernel
        del machine.sink[self.committed :]
        kernel = self.folded(machine.policies)
        machine.kernel = machine.policies.kernel = kernel
        kernel.listen(machine.sink, frozenset(CATALOGUE))
        machine.now += seconds * SEC
        self.model.tasks, self.model.now = deepcopy(self.kept), machine.now
        recover(kernel, old.epoch + 1, machine.now)
        self.model.recover()
        for name, limit in LIMITS.items():
            assert kernel.workers[name].limit == limit
            kernel.add_worker(old.workers[name].info, machine.now)
            self.model.workers[name] = machine.now
        kernel.paused = False
        self.model.pass_time(machine.now)
        self.do()
        self.commit()

    def folded(self, policies: Policies) -> Kernel:
        """What the events lead to."""
        live = self.machine.kernel
        pools = tuple((pool.name, pool.total) for pool in live.pools.values())
        kernel = Kernel(live.config, policies, Random(0), pools)
        for event, cargo in self.machine.sink:
            fold(kernel, event, cargo)
        return kernel

    # -- agreement -----------------------------------------------------------------

    @invariant()
    def both_agree(self) -> None:
        kernel, model = self.machine.kernel, self.model
        check_invariants(kernel)
        assert {name: row.state for name, row in kernel.tasks.items()} == {
            name: task["state"] for name, task in model.tasks.items()
        }
        assert {name: row.attempt for name, row in kernel.tasks.items()} == {
            name: task["attempt"] for name, task in model.tasks.items()
        }
        counts = {state: len(model.are(state)) for state in S}
        assert kernel.queued == counts[S.QUEUED]
        assert kernel.active == counts[S.RUNNING]
        for state in set(S) - {S.QUEUED, S.RUNNING}:
            assert getattr(kernel, state.value) == counts[state]
        assert kernel.running == counts[S.RUNNING] + len(model.leaks)
        assert kernel.pools["cpu"].used == kernel.running * 1_000_000
        for name in LIMITS:
            assert kernel.workers[name].running == model.busy(name)
            assert kernel.workers[name].lost == (name not in model.workers)
        assert set(kernel.leaked) == set(model.leaks)

    @invariant()
    def nothing_waits_that_could_run(self) -> None:
        first = self.model.next_in_order()
        assert first is None or not any(map(self.model.has_room, LIMITS))

    def teardown(self) -> None:
        """The events alone lead to the same state."""
        assert differences(self.machine.kernel, self.folded(Rules())) == []


class TestTheModel(Both.TestCase):  # type: ignore[name-defined]
    """A run for every day."""

    settings = settings(stateful_step_count=30)


@pytest.mark.slow("many steps in one order")
class TestTheModelAtLength(Both.TestCase):  # type: ignore[name-defined]
    """Longer runs, and more of them."""

    settings = settings(max_examples=examples(75), stateful_step_count=60)


@pytest.mark.parametrize(
    "plant", [accepts_results_of_another_incarnation, wakes_nobody]
)
def test_a_planted_mistake_is_found(monkeypatch, plant):
    """Kernel and model disagree, or the kernel with itself."""
    plant(monkeypatch)
    # The first find ends it.
    search = settings(
        max_examples=2_000,
        stateful_step_count=40,
        phases=[Phase.generate],
        derandomize=True,
        database=None,
        deadline=None,
    )
    with pytest.raises((AssertionError, LookupError, InternalError)):
        run_state_machine_as_test(Both, settings=search)
