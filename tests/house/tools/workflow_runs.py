"""Random runs of workflows, and what is done to them: for `explore`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING, Any, Final

import attrs
from tests.house.tools.opinion import (
    Gate,
    Hearing,
    Known,
    ScriptedPhase,
    ScriptedTask,
    ScriptedWorkflow,
    passes,
    predict,
)
from tests.house.tools.workload import Whims, options

from taskorch.api._contexts import current_context
from taskorch.api.workflows import Approval, Workflow
from taskorch.core.workflows._graph import order
from taskorch.core.workflows._phases import approval_of, gate_of, phase_of
from taskorch.errors import (
    DuplicateTaskError,
    InvalidTransitionError,
    NotRunningError,
    QueueFullError,
    UsageError,
)
from taskorch.model import TERMINAL, Task, TaskState
from taskorch.model.ids import (
    has_segments,
    in_run,
    is_below,
    joined,
    name_of,
    number_of,
    split_first,
    tail_of,
    without_last,
)
from taskorch.policies import FifoQueue, PriorityQueue
from taskorch.testing import Breach, Faults, Outcome, Simulation

if TYPE_CHECKING:
    from taskorch.core.kernel import TaskRow
    from taskorch.core.runs import WorkflowManager, WorkflowRun

_RUN: Final = "run"
#: The type of all tasks but gates and approvals.
_TYPE: Final = "work"
_S: Final = TaskState
_FAILURES: Final = ("stop", "stop", "continue", "skip")
#: Restarts after which every run of a task that was to fail has failed.
_RESTARTS: Final = 4
#: How often what is asked for is decided until nothing is.
_ROUNDS: Final = 40
#: What callers do, each as often as it stands here.
_KINDS: Final = (
    *("start", "pause", "resume", "resume", "decide", "decide"),
    *("restart", "look", "look"),
)


def draw_plan(random: Random) -> ScriptedWorkflow:
    """A random workflow."""
    phases: list[ScriptedPhase] = []
    for number in range(random.choice([1, 2, 2, 3])):
        names = [f"t{number}{letter}" for letter in "abcd"[: random.randint(1, 4)]]
        tasks = tuple(
            ScriptedTask(
                name,
                tuple(random.sample(names[:i], min(i, random.choice([0, 0, 1, 2])))),
                random.choice([0, 0, 0, 0, 1, 2]),
                random.choice([(0, 0), (0, 0), (1, 0), (2, 1), (1, 2)]),
            )
            for i, name in enumerate(names)
        )
        least = random.choice([None, None, 1, len(names)])
        gate = Gate(
            least,
            0 if least is None else random.choice([0, 0, 1]),
            random.random() < 0.4,
            random.random() < 0.6,
        )
        phases.append(
            ScriptedPhase(
                f"p{number}",
                tasks,
                gate,
                random.choice(_FAILURES),
                random.choice([None, None, 1, 2]),
            )
        )
    return ScriptedWorkflow(tuple(phases), random.choice([1, 2, 3, 100]))


def options_of_runs(random: Random, whims: Whims) -> dict[str, Any]:
    """What an orchestrator for runs is made with: none of its parts refuses a task."""
    settings = options(random, whims)
    return {
        **{name: settings[name] for name in ("registry", "concurrency")},
        "queue": random.choice([None, FifoQueue(), PriorityQueue(aging=1.0)]),
    }


def faults_of_runs(faults: Faults) -> Faults:
    """*faults* without those that end tasks, so that a plan says what comes of it."""
    return attrs.evolve(faults, agent_death=0.0, agent_hang=0.0, zombie=0.0)


class WorkflowRuns:
    """
    A run of a random workflow, with commands that are drawn beforehand.

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
        self._plan = plan = draw_plan(random)
        self._workflow = self._build()
        #: The incarnation in which the run was started, or started again.
        self._epoch = 0
        #: What went wrong where nobody can raise it: inside tasks.
        self._breaches: list[Breach] = []
        #: Of runs of approvals, what was decided.
        self._decided: dict[str, bool] = {}
        #: What was added when the gate of its phase had given its verdict.
        self._late: set[str] = set()
        #: Whether that is done in each incarnation.
        self._starts_again = random.random() < 0.5
        self._is_paused = False
        for type_, times in ((_TYPE, [0.5, 2.0, 5.0]), ("gate", [0.0, 2.0])):
            simulation.work(type_, _up_to(pace * random.choice(times)))
        parts = ["", *(phase.name for phase in plan.phases), *self._workflow]
        now = 0.0
        self._commands: list[tuple[float, str, str, Callable[[], object]]] = []
        for _ in range(steps):
            now += random.choice([0.0, 1.0, random.random()]) * pace
            self._commands.append((now, *self._draw(random, parts)))

    def _build(self) -> Workflow:
        workflow = Workflow("drawn")
        for planned in self._plan.phases:
            checks: list[Any] = []
            if planned.gate.least is not None:
                checks.append(self._asked(planned))
            if planned.gate.approval:
                checks.append(Approval())
            on_failure: Any = planned.on_failure
            phase = workflow.phase(
                planned.name,
                max_parallel=planned.max_parallel,
                gate=checks,
                on_failure=on_failure,
            )
            for task in planned.tasks:
                phase.task(self._work, id=task.name, after=task.after, type=_TYPE)
        return workflow

    # -- what its tasks do ---------------------------------------------------------

    def _work(self) -> str:
        """
        The work of a task: it adds tasks, or fails, or both, as was planned.

        Raises:
            ValueError: It was to fail.
        """
        context = current_context()
        name, run = _named(context.task_id)
        task = self._plan.task(name)
        number = 0
        for many in task.adds:
            names = [joined(name, str(number + i)) for i in range(many)]
            number += many
            if names:
                self._add(context.workflow, names)
        if run <= task.fails:
            msg = "it was to fail"
            raise ValueError(msg)
        return name

    def _add(self, workflow: Any, names: list[str]) -> None:
        """Add tasks, and see that there is room for them just if there is."""
        added = {name_of(row.id) for row in self._rows() if _is_added(row)}
        fresh = set(names) - added
        phase = self._plan.phases[self._plan.index(names[0])]
        gate = self._latest()[gate_of(phase.name)]
        is_late = gate.state in (_S.COMPLETED, _S.FAILED, _S.RUNNING, _S.QUEUED)
        epoch = current_context().fence[0]
        # An incarnation knows `max_added` once the run has been started again in it.
        most = self._plan.max_added if epoch == self._epoch else 100_000
        has_room = not fresh or len(added) + len(fresh) <= most
        try:
            workflow.add_all([Task.call(self._work, id=n, type=_TYPE) for n in names])
        except QueueFullError:
            if has_room:
                self._note("room", f"{names} are refused beside {len(added)}")
        else:
            if is_late:
                self._late |= fresh
            else:
                self._late.difference_update(names)
            if not has_room:
                self._note("room", f"{names} are added beside {len(added)}")

    def _asked(self, phase: ScriptedPhase) -> Callable[[dict[str, Any]], bool]:
        """What the gate of *phase* asks: it sees just what has completed."""
        plan = self._plan
        number = plan.phases.index(phase)
        ours = (gate_of(phase.name), approval_of(phase.name))

        def enough(results: dict[str, Any]) -> bool:
            rows, task_id = self._latest(), current_context().task_id
            done = {
                name
                for name, row in rows.items()
                if plan.index(name) == number
                and name not in ours
                and name not in self._late
                and row.state is _S.COMPLETED
            }
            # A gate that a restart has asked again may not have heard of it yet.
            if rows[ours[0]].id == task_id and set(results) != done:
                self._note("gates", f"{ours[0]} is told of {set(results)}, not {done}")
            return passes(phase, len(results), number_of(task_id))

        return enough

    def _note(self, law: str, message: str) -> None:
        self._breaches.append(Breach(law, message))

    # -- what callers do -----------------------------------------------------------

    def _draw(
        self, random: Random, parts: list[str]
    ) -> tuple[str, str, Callable[[], object]]:
        """A command: its kind, detail, and what to do."""
        part = random.choice(parts)
        target = random.choice([_RUN, "*", "r*"]) if not part else in_run(_RUN, part)
        phase = random.choice(self._plan.phases).name
        yes = random.random() < 0.5
        kind = random.choice(_KINDS)
        detail = {
            "pause": target,
            "resume": target,
            "decide": f"{phase} {'yes' if yes else 'no'}",
        }
        acts: dict[str, Callable[[], object]] = {
            "start": self._start,
            "pause": lambda: self._pause(target, part),
            "resume": lambda: self._resume(target, part),
            "decide": lambda: self._decide(phase, yes=yes),
            "restart": self._restart,
            "look": self._ask_status,
        }
        return kind, detail.get(kind, ""), acts[kind]

    @property
    def _manager(self) -> WorkflowManager:
        return self._simulation.workflows

    def _start(self) -> None:
        """Start it: as a script does when it is run, and when it is run again."""
        manager, plan = self._manager, self._plan
        try:
            manager.start(self._workflow, _RUN, max_added=plan.max_added)
        except DuplicateTaskError as error:
            law = "kept"
            raise Breach(law, f"it cannot be started again: {error}") from error
        incarnation = self._simulation.world.living()
        self._epoch = incarnation.epoch

    def _pause(self, target: str, part: str) -> None:
        self._is_paused = True
        manager = self._manager
        # A pause leaves blocked tasks as they are, and what came too late for the gate
        # of its phase is of no phase.
        is_phase = any(phase.name == part for phase in self._plan.phases)
        names = [
            name
            for name, row in self._latest().items()
            if row.state is not _S.BLOCKED and not (is_phase and name in self._late)
        ]
        if manager.pause(target):
            self._say("paused", part, names)

    def _resume(self, target: str, part: str) -> None:
        manager = self._manager
        self._say("resumed", part, list(self._latest()))
        manager.resume(target)
        if not part:
            self._is_paused = False
            status = manager.status(_RUN)
            if status.pause or status.counts.get(_S.SUSPENDED):
                law = "paused"
                raise Breach(law, f"all was resumed, and {status}")

    def _say(self, kind: str, part: str, names: Iterable[str]) -> None:
        chosen = [name for name in names if self._plan.is_in(name, part)]
        self._simulation.world.log.append(f"{kind} {part}: {' '.join(chosen)}")

    def _decide(self, phase: str, *, yes: bool) -> None:
        """Say yes or no: the first one counts, and only once it is asked for."""
        manager = self._manager
        row = self._latest().get(approval_of(phase))
        was = None if row is None else row.state
        if row is not None and _is_asked(row):
            # Even if it dies of it: then that may be kept, or it is asked again.
            self._decided[row.id] = yes
        act = manager.approve if yes else manager.reject
        # What was asked again is another question.
        number = "" if row is None else tail_of(row.id)
        try:
            did = act(_RUN, f"{phase}{number}", by="ann", note="as drawn")
        except InvalidTransitionError:
            if was in TERMINAL or (row is not None and _is_asked(row)):
                law = "approvals"
                raise Breach(law, f"{phase} is {was}, and nobody may decide") from None
            raise
        assert row is not None
        if did == (was in TERMINAL):
            law = "approvals"
            raise Breach(law, f"{row.id} was {was}: it was decided {did}")

    def _restart(self) -> None:
        """Run again what did not complete, what is stale for that, and nothing else."""
        manager = self._manager
        if self._is_paused:
            return
        rows = self._latest()
        before = {name: (row.id, row.state, row.attempt) for name, row in rows.items()}
        status = self._simulation.get_task_status
        # What is to be added again is, by what has added it and runs already.
        to_be_added = {n for n, row in rows.items() if self._is_to_be_added(row, rows)}
        due = {name for name, (i, _, _) in before.items() if status(i).stale}
        due -= to_be_added
        above = {name: self._above(name) for name in before}
        manager.restart(_RUN)
        after = self._latest()
        for name in order(above):
            if name in to_be_added:
                continue
            task_id, state, attempt = before[name]
            begun = state in TERMINAL or attempt > 0
            is_due = state in (_S.FAILED, _S.CANCELLED)
            if state not in TERMINAL and begun and phase_of(name) != name:
                # It has begun, and what it asks about may be to run after all.
                is_due = any(map(_goes_on, self._asked_about(name)))
            # What has not begun goes on to the new run of what has not completed.
            is_due |= any(
                parent in due and (begun or before[parent][1] is _S.COMPLETED)
                for parent in above[name]
            )
            if is_due:
                due.add(name)
            now = after[name].id
            if (name in due) != (now != task_id):
                law = "kept"
                raise Breach(law, f"{name} was {state}; after a restart it is {now}")

    def _above(self, name: str) -> list[str]:
        """What a task, gate or approval comes after."""
        plan = self._plan
        number = plan.index(name)
        phase = plan.phases[number]
        if name == gate_of(phase.name):
            return [name_of(row.id) for row in self._asked_about(name)]
        if name == phase.end:
            return [gate_of(phase.name)]
        if has_segments(name):
            # It was added.
            return []
        before = [plan.phases[number - 1].end] if number else []
        return [*plan.task(name).after, *before]

    def _asked_about(self, gate: str) -> list[TaskRow]:
        """What a gate comes after: the tasks of its phase, and the phase before."""
        plan, rows = self._plan, self._latest()
        number = plan.index(gate)
        members = {name for name in rows if plan.index(name) == number}
        members -= {gate, plan.phases[number].end, *self._late}
        before = {plan.phases[number - 1].end} if number else set()
        return [rows[name] for name in members | before]

    def _ask_status(self) -> None:
        """Ask for the status, and compare the counts in it with the tasks."""
        manager = self._manager
        self._count(manager.get(_RUN))

    # -- the run -------------------------------------------------------------------

    def begin(self) -> None:
        """
        Start the run, and do the commands, each when it is time.

        Raises:
            Breach: A law did not hold.
        """
        simulation = self._simulation
        self._try("start", "start", "", self._start)
        for number, (at, kind, detail, act) in enumerate(self._commands):
            simulation.run(until=at)
            self._again()
            self._try(kind, f"command {number}", detail, act)
            self._judge()

    def drain(self) -> None:
        """
        Bring it to its end in a perfect world, and hold it against its plan.

        Raises:
            Breach: It is not what must have become of it.
        """
        simulation = self._simulation
        simulation.nature.on = False
        simulation.run()
        for _ in range(_RESTARTS):
            self._finish()
            self._compare()
            self._restart()
        self._finish()
        self._compare()
        hearing = Hearing(self._plan)
        hearing.hear(simulation.world.log)
        for row in self._rows():
            passed = hearing.verdicts.get(row.id)
            if passed is not None and _verdict_of(row)["passed"] is not passed:
                law = "gates"
                raise Breach(law, f"{row.id} says {_verdict_of(row)}, not {passed}")

    def _try(
        self, kind: str, name: str, detail: str, act: Callable[[], object]
    ) -> None:
        if self._simulation.dice.happens(kind, name, detail):
            # Refused, or the orchestrator is dead, or has died of it.
            with suppress(UsageError, NotRunningError):
                act()

    def _again(self) -> None:
        """In a new incarnation, the script that had started it is run again."""
        incarnation = self._simulation.world.incarnation
        if incarnation is None or incarnation.epoch == self._epoch:
            return
        if self._starts_again or not self._rows():
            with suppress(NotRunningError):
                self._start()

    def _judge(self) -> None:
        if self._breaches:
            raise self._breaches[0]

    def _finish(self) -> None:
        """Resume what is paused, and decide what is asked, until all has ended."""
        simulation = self._simulation
        self._again()
        for _ in range(_ROUNDS):
            self._resume(_RUN, "")
            simulation.run()
            asked = [row for row in self._latest().values() if _is_asked(row)]
            if not asked:
                break
            for row in asked:
                name = name_of(row.id)
                phase = self._plan.phases[self._plan.index(name)]
                # A restart asks again, and then it is approved.
                yes = phase.gate.approves or _named(row.id)[1] > 1
                self._decide(phase.name, yes=yes)
            simulation.run()
        self._judge()

    # -- the second opinion --------------------------------------------------------

    def _rows(self) -> list[TaskRow]:
        incarnation = self._simulation.world.living()
        return [r for r in incarnation.kernel.tasks.values() if is_below(r.id, _RUN)]

    def _latest(self) -> dict[str, TaskRow]:
        """The latest run of each task."""
        latest: dict[str, TaskRow] = {}
        for row in self._rows():
            name, number = _named(row.id)
            if name not in latest or number > _named(latest[name].id)[1]:
                latest[name] = row
        return latest

    def _compare(self) -> None:
        """
        Compare what has become of it with what must have.

        Raises:
            Breach: A task is in another state.
        """
        rows = self._latest()
        happened = Known(
            [name for name, row in rows.items() if _is_added(row)],
            {name: _named(row.id)[1] for name, row in rows.items()},
            {
                name_of(i): yes
                for i, yes in self._decided.items()
                if i in self._ids(rows)
            },
        )
        expected = predict(self._plan, happened)
        states = {name: row.state for name, row in rows.items()}
        if states != expected:
            wrong = [
                f"{name} is {states.get(name)}, not {expected.get(name)}"
                for name in {**states, **expected}
                if states.get(name) is not expected.get(name)
            ]
            law = "verdict"
            raise Breach(law, "; ".join(wrong))
        for name, row in rows.items():
            if row.id not in self._decided or row.state is not _S.COMPLETED:
                continue
            verdict = _verdict_of(row)
            if verdict["passed"] is not self._decided[row.id]:
                law = "approvals"
                raise Breach(law, f"{name} says {verdict}, and that was not decided")
        self._count(self._manager.get(_RUN))

    def _count(self, run: WorkflowRun) -> None:
        """
        What is counted is what there is.

        Raises:
            Breach: It is not.
        """
        plan, rows = self._plan, self._latest()
        status, report = run.status(), run.report()
        if {n: row.state for n, row in rows.items()} != dict(status.tasks):
            law = "counted"
            raise Breach(law, f"{status} is not what there is")
        reported = {phase.name: phase for phase in report.phases}
        for number, phase in enumerate(plan.phases):
            members = {name for name in rows if plan.index(name) == number}
            ours = [
                rows[name]
                for name in members - self._late
                if not self._is_to_be_added(rows[name], rows)
            ]
            done = sum(row.state is _S.COMPLETED for row in ours)
            phase_status, phase_report = status.phases[phase.name], reported[phase.name]
            counts = {
                (phase_status.completed, phase_status.total),
                (phase_report.completed, phase_report.total),
            }
            if counts != {(done, len(ours))}:
                law = "counted"
                raise Breach(
                    law, f"{done} of {len(ours)} completed, not {phase_status}"
                )
            verdict = self._verdict(phase, rows)
            if verdict and phase_status.verdict != verdict:
                law = "counted"
                raise Breach(
                    law, f"{phase.name} is {verdict}, not {phase_status.verdict!r}"
                )

    def _is_to_be_added(self, row: TaskRow, rows: dict[str, TaskRow]) -> bool:
        """Whether what has added *row* is to do so again, and has not yet."""
        if not _is_added(row) or not self._simulation.get_task_status(row.id).stale:
            return False
        return rows[without_last(name_of(row.id))].state is not _S.COMPLETED

    def _verdict(self, phase: ScriptedPhase, rows: dict[str, TaskRow]) -> str:
        """What is to be said of a phase that has ended; "" if it has not."""
        gate, end = rows[gate_of(phase.name)], rows[phase.end]
        if gate.state is _S.CANCELLED:
            return "skipped"
        if end.state is not _S.COMPLETED:
            return ""
        passed = [_verdict_of(row)["passed"] for row in (gate, end)]
        return "" if all(passed) else "failed"

    def _ids(self, rows: dict[str, TaskRow]) -> set[str]:
        return {row.id for row in rows.values()}


def _up_to(longest: float) -> Callable[[Task, int, Random], Outcome]:
    """Work of random length that calls its function."""
    return lambda _task, _attempt, dice: Outcome(longest * dice.random(), calls=True)


def _named(task_id: str) -> tuple[str, int]:
    """The id in the workflow of a run of a task, and the number of the run."""
    return name_of(task_id), number_of(task_id)


def _verdict_of(row: TaskRow) -> dict[str, Any]:
    """What a gate, or an approval, has said."""
    verdict: dict[str, Any] = row.cargo._value
    return verdict


def _is_added(row: TaskRow) -> bool:
    """Whether a task of the run has added *row*, by its name."""
    first, rest = split_first(name_of(row.id))
    return bool(rest) and first.startswith("t")


def _goes_on(row: TaskRow) -> bool:
    """Whether *row* has not ended, nor is blocked by what did not complete."""
    blocked = row.state is _S.BLOCKED and not _is_asked(row)
    return row.state not in TERMINAL and not blocked


def _is_asked(row: TaskRow) -> bool:
    """Whether *row* waits for a decision."""
    extra = row.extra
    return row.state is _S.BLOCKED and (extra is None or not extra.blocked_by)
