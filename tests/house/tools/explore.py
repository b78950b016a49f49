"""Search for seeds that break something, and for the few things that do it."""

from __future__ import annotations

import traceback
from collections.abc import Collection, Iterable
from random import Random
from typing import Final

import attrs
from tests.house.tools.rooms import Rooms, faults_of_rooms, options_of_rooms
from tests.house.tools.workflow_runs import (
    WorkflowRuns,
    faults_of_runs,
    options_of_runs,
)
from tests.house.tools.workload import Whims, Workload, options, people

from taskorch.events import TaskCompleted
from taskorch.kit.checks import check_count
from taskorch.model import TaskState
from taskorch.testing import Faults, Observer, Schedule, Simulation, minimise

#: Commands in one run.
STEPS: Final = 60
#: Runs that the search for a smaller schedule may take.
_TRIES: Final = 300


class _Exploration:
    """One run from a seed: a random world, a random workload, and random faults."""

    def __init__(
        self,
        seed: int,
        steps: int,
        faults: Faults | None,
        keep: Iterable[str] | None,
        check: bool | Observer,
        workflows: bool,
        rooms: bool,
    ) -> None:
        check_count("steps", steps, least=0)
        random = Random(f"explore {seed}")
        if faults is None:
            faults = Faults.some(random)
        if workflows:
            faults = faults_of_runs(faults)
        elif rooms:
            faults = faults_of_rooms(faults)
        self.whims = Whims()
        if rooms:
            settings = options_of_rooms(random)
        else:
            settings = (options_of_runs if workflows else options)(random, self.whims)
        self.simulation = Simulation(
            seed, faults=faults, keep=keep, check=check, **settings
        )
        pace = random.choice([0.1, 1.0, 5.0])
        self.workload: Workload | WorkflowRuns | Rooms
        if rooms:
            # Slots of schedules are whole seconds apart.
            pace = max(1.0, pace)
            self.workload = Rooms(random, self.simulation, pace, steps)
        elif workflows:
            self.workload = WorkflowRuns(random, self.simulation, pace, steps)
        else:
            people(random, self.simulation, pace)
            self.workload = Workload(random, self.simulation, pace, steps)

    def run(self) -> None:
        simulation = self.simulation
        self.workload.begin()
        self.whims.rate = 0.0
        self.workload.drain()
        _promises(simulation)
        simulation.check()


def _promises(simulation: Simulation) -> None:
    """
    What callers were told is so, and nothing is held any more.

    Raises:
        AssertionError: It is not.
    """
    incarnation = simulation.world.incarnation
    assert incarnation is not None
    kernel = incarnation.kernel
    wrong: list[str] = []
    for task_id, promised in simulation.acknowledged.items():
        row = kernel.tasks.get(task_id)
        state = kernel.evicted.get(task_id) if row is None else row.state
        if state is None:
            wrong.append(f"{task_id} was accepted, and is gone")
        elif promised is not None and state is not promised:
            wrong.append(f"{task_id} was {promised}, and is {state}")
    for event in simulation.events:
        if isinstance(event, TaskCompleted) and event.task_id in kernel.tasks:
            result = kernel.tasks[event.task_id].cargo._value
            if result != event.result:
                wrong.append(f"{event.task_id} gave {event.result}, and has {result}")
    leaks = sum(leak.slots for leak in kernel.leaked.values())
    if kernel.running != leaks:
        wrong.append(f"{kernel.running} slots are taken, and {leaks} have leaked")
    states = {TaskState.PENDING: kernel.pending, TaskState.QUEUED: kernel.queued}
    wrong += [f"{n} tasks are {state}" for state, n in states.items() if n]
    if wrong:
        raise AssertionError("; ".join(wrong))


def explore(
    seed: int,
    steps: int = STEPS,
    *,
    faults: Faults | None = None,
    keep: Iterable[str] | None = None,
    check: bool | Observer = True,
    workflows: bool = False,
    rooms: bool = False,
) -> Simulation:
    """
    Run a random world with random work to its end.

    Args:
        seed: The same gives the same.
        steps: Commands of callers.
        faults: What goes wrong; None draws that too: see `Faults.some`.
        keep: Of commands and faults, only those of these names.
        check: Whether all invariants are checked after every step.
        workflows: Whether the work is a run of a random workflow, with phases, gates,
            approvals, pauses, restarts and tasks that are added; what has become of it
            is compared with what its plan says. Else it is tasks on their own.
        rooms: Whether the world is one with schedules, questions, remembered results,
            a pool of agents, breakers, alerts, recovery and holds, whose facts are
            held against what is promised of each.

    Raises:
        AssertionError: A promise was broken, or something never ends.
        InternalError: An invariant does not hold.
        InvalidTaskError: *seed* or *steps* is no such number.
    """
    exploration = _Exploration(seed, steps, faults, keep, check, workflows, rooms)
    exploration.run()
    return exploration.simulation


@attrs.frozen
class FailedRun:
    """A seed that breaks something, and the few things that it takes."""

    seed: int
    steps: int
    #: What was raised: its type and message.
    error: str
    traceback: str
    #: What had happened, with all that makes no difference left out.
    schedule: Schedule
    #: All facts and faults of the short run.
    trace: str
    #: How much had happened in the whole run.
    before: int
    #: What was asked to go wrong; None: that was drawn.
    faults: Faults | None = None
    #: Whether the work was a run of a workflow, or the world one of all rooms.
    workflows: bool = False
    rooms: bool = False

    def __str__(self) -> str:
        faults = "" if self.faults is None else f"faults={self.faults!r}, "
        if self.workflows:
            faults += "workflows=True, "
        if self.rooms:
            faults += "rooms=True, "
        return (
            f"seed {self.seed}: {self.error}\n"
            f"{len(self.schedule)} of {self.before} things that happened are enough:\n"
            f"{self.schedule}\n"
            f"To repeat: explore({self.seed}, {self.steps}, {faults}keep={{\n    "
            + ",\n    ".join(repr(hit.name) for hit in self.schedule.hits)
            + ",\n})"
        )


def find_failure(
    seed: int,
    steps: int = STEPS,
    *,
    faults: Faults | None = None,
    check: bool | Observer = True,
    tries: int = _TRIES,
    workflows: bool = False,
    rooms: bool = False,
) -> FailedRun | None:
    """
    Run `explore`; if it fails, find the smallest schedule that fails like that.

    Args:
        seed: As for `explore`.
        steps: As for `explore`.
        faults: As for `explore`.
        check: As for `explore`; an observer of your own must bear several runs.
        tries: The most runs that the search may take.
        workflows: As for `explore`.
        rooms: As for `explore`.

    Returns:
        What was found; None: nothing fails.

    Raises:
        InvalidTaskError: *seed* or *steps* is no such number.
    """

    def attempt(
        keep: Iterable[str] | None,
    ) -> tuple[Exception | None, Simulation]:
        exploration = _Exploration(seed, steps, faults, keep, check, workflows, rooms)
        try:
            exploration.run()
        except Exception as error:
            return error, exploration.simulation
        return None, exploration.simulation

    error, simulation = attempt(None)
    if error is None:
        return None
    names = [hit.name for hit in simulation.schedule.hits]

    def fails(keep: Collection[str]) -> bool:
        other, _ = attempt(keep)
        return other is not None and _kind(other) == _kind(error)

    least = minimise(fails, names, tries)
    last, short = attempt(least)
    if last is None:
        # The failure rests on something that is no part of the schedule.
        last, short = error, simulation
    return FailedRun(
        seed=seed,
        steps=steps,
        error=f"{type(last).__name__}: {last}",
        traceback="".join(traceback.format_exception(last)),
        schedule=short.schedule,
        trace=short.trace(),
        before=len(names),
        faults=faults,
        workflows=workflows,
        rooms=rooms,
    )


def _kind(error: BaseException) -> tuple[str, str]:
    """What two failures have in common that are of one cause: where they come from."""
    frames = traceback.extract_tb(error.__traceback__)
    return type(error).__name__, frames[-1].name if frames else ""
