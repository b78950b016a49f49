"""Whether a Driver keeps its laws."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

from taskorch.errors import TaskorchError
from taskorch.kit.checks import built_in
from taskorch.model import Task
from taskorch.protocols import Driver, commands_of
from taskorch.testing._simulation import Simulation
from taskorch.testing.laws._case import Case, brief, cases, maker

#: The number of questions in a case, and the most seconds between two of them.
_QUESTIONS: Final = 5
_LONGEST: Final = 7_200.0
_TYPE: Final = "work"


def check_driver(
    driver: Driver | Callable[[], Driver], *, seed: int = 0, examples: int = 50
) -> None:
    """
    Check the laws of Driver.

    How the laws are seen:

    - 1 and 3: it is asked at times that rise, in a simulation in which tasks wait, run
      and fail; what the view shows is the same after the question as before it.
    - 2: its commands are carried out once more: no task is there besides those of the
      first time. Errors of a command the second time do not matter.
    - 4 is not checked: for a new incarnation, use `Simulation.crash`.

    Args:
        driver: The controller, or a class or function that makes one.
        seed: The seed of the simulations.
        examples: How many of them.

    Raises:
        LawViolation: A law is broken.
    """
    view_class = built_in("controllers", "check_driver").View
    make = maker(driver, Driver)
    for case in cases(Driver, "check_driver", seed, examples, 1):
        sim = _some_simulation(case)
        view = view_class(sim, partial(_now, sim))
        one = make()
        for _ in range(_QUESTIONS):
            now = _now(sim)
            before = _shown(sim)
            with case.noted(now=now):
                answer: object = one.tick(view, now)
            case.expect(_shown(sim) == before, 1, "It changed what the view shows.")
            try:
                commands, when = commands_of(answer)
            except TypeError as error:
                case.fail(0, f"{error}.", says="it answers as its methods say.")
            did = f"At {now} it wants to be asked again at {brief(when)}."
            case.expect(when is None or when > now, 3, did)
            for command in commands:
                _apply(command, sim)
            task_ids = _shown(sim).keys()
            for command in commands:
                _apply(command, sim)
            more = sorted(_shown(sim).keys() - task_ids)
            did = f"Carried out twice, they made {brief(more)} besides."
            case.expect(not more, 2, did)
            step = case.random.uniform(0, _LONGEST)
            # A controller may sleep through its time.
            later = now + step if when is None else max(when, now + step / 10)
            sim.run(until=min(later, now + _LONGEST) - _began(sim))


def _some_simulation(case: Case) -> Simulation:
    """Return a simulation in which some tasks are done, run and wait."""
    dice = case.random
    sim = Simulation(seed=dice.getrandbits(32))
    sim.agent("some", capabilities=[_TYPE], max_concurrency=dice.randint(1, 3))
    sim.work(_TYPE, dice.uniform(1, _LONGEST))
    for number in range(dice.randint(0, 6)):
        sim.submit_task(Task(_TYPE, id=f"some/{number}"))
    sim.run(until=dice.uniform(0, _LONGEST))
    return sim


def _now(sim: Simulation) -> float:
    now: int = sim.world.living().now()
    return now / 1e9


def _began(sim: Simulation) -> float:
    return _now(sim) - sim.now


def _shown(sim: Simulation) -> dict[str, str]:
    return {
        status.task_id: f"{status.state} {status.stopping}" for status in sim.tasks()
    }


def _apply(command: Any, sim: Simulation) -> None:
    with suppress(TaskorchError):
        command.apply(sim)
