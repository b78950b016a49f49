"""A simulation in which whatever can go wrong does."""

from taskorch.model import Resources, Task
from taskorch.testing import Faults, Outcome, Simulation


def run_through_disasters(seed, queue, options):
    """
    Let forty tasks run through crashes, workers that die and commits that fail.

    The watch looks at every step. Some depend on others, some are cancelled, or
    suspended and resumed.

    Args:
        seed: Of the simulation.
        queue: In which order the tasks come.
        options: Gives those of the task of a number.
    """
    faults = Faults(
        crash=0.02,
        torn_commit=0.5,
        agent_death=0.05,
        agent_hang=0.05,
        lose=0.05,
        commit_failure=0.02,
        points=0.2,
    )
    simulation = Simulation(
        seed=seed, queue=queue, resources=Resources(cpu=4), concurrency=6, faults=faults
    )
    simulation.agent("here", capabilities={"x"}, max_concurrency=5)
    simulation.agent("far", capabilities={"x"}, max_concurrency=3, lease=5.0)
    simulation.work(
        "x", lambda task, attempt, random: Outcome(random.uniform(0.1, 3.0))
    )
    tasks = [
        Task(
            "x",
            id=f"t{number}",
            after=[f"t{number - 4}"] if number % 5 == 4 else (),
            **options(number),
        )
        for number in range(40)
    ]
    simulation.submit_tasks(tasks)

    def act(at, command, number):
        # While it is down there is nobody to be told.
        simulation.at(at, lambda: simulation.is_up and command(f"t{number}"))

    for number in range(0, 40, 9):
        act(3.0 + number, simulation.cancel_task, number)
        act(4.0, simulation.suspend_task, number + 1)
        act(9.0, simulation.resume_task, number + 1)
    simulation.run(until=simulation.now + 2_000)
    assert simulation.attempts
