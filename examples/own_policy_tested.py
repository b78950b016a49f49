"""
A policy of your own, and its tests: a queue that takes the shortest tasks first, by the
minutes that their payload says. Its laws are checked, and a morning is simulated
with it and without.

    python -m pytest examples/own_policy_tested.py     the tests
    python examples/own_policy_tested.py               what the policy is good for

No clock is waited for: a simulation runs the orchestrator's own kernel in virtual time.
"""

from statistics import mean

from taskorch import Task
from taskorch.policies import FifoQueue
from taskorch.protocols import Admission, Context, Order, TaskQueue
from taskorch.testing import Simulation
from taskorch.testing.laws import check_task_queue


class ShortestFirst:
    """The least size first; but a large task waits for *patience* seconds at most."""

    def __init__(self, patience: float = 8 * 3600) -> None:
        self.patience = patience

    def order(self, task: Task, context: Context) -> Order:
        size = task.payload if isinstance(task.payload, int | float) else 0.0
        # As if it had come later, by its size: what came long ago is overtaken no more.
        return Order(key=context.now + min(60.0 * size, self.patience))

    def admit(self, task: Task, context: Context) -> Admission:
        return Admission(admitted=True)


SIZES = (90, 5, 60, 10, 5, 45, 5, 30, 10, 5)  # minutes


def waits(queue: TaskQueue) -> list[float]:
    """How many minutes each task of a morning waits for the one machine."""
    simulation = Simulation(queue=queue)
    simulation.agent("mill", capabilities={"cut"}, max_concurrency=1)
    simulation.work("cut", lambda task, attempt, random: 60.0 * task.payload)
    simulation.submit_tasks(
        [Task("cut", size, id=f"{n}-{size}-min") for n, size in enumerate(SIZES)]
    )
    simulation.run()
    began = {run.task_id: run.start for run in simulation.attempts}
    return [began[f"{n}-{size}-min"] / 60 for n, size in enumerate(SIZES)]


def test_it_keeps_the_laws_of_queues() -> None:
    check_task_queue(ShortestFirst())


def test_the_short_ones_wait_less() -> None:
    assert mean(waits(ShortestFirst())) < mean(waits(FifoQueue())) / 2


def test_a_large_one_is_not_overtaken_for_ever() -> None:
    simulation = Simulation(queue=ShortestFirst(patience=1800))
    simulation.agent("mill", capabilities={"cut"}, max_concurrency=1)
    simulation.work("cut", 300.0)
    simulation.submit_tasks([Task("cut", 1, id="first"), Task("cut", 90, id="large")])
    for small in range(20):
        simulation.submit_task(Task("cut", 1, id=f"small/{small}"))
        simulation.run(until=300.0 * (small + 1))
    began = {run.task_id: run.start for run in simulation.attempts}
    assert began["large"] <= 1800 + 300


def main() -> None:
    ours, theirs = waits(ShortestFirst()), waits(FifoQueue())
    print("a task of   waits, first come first served   shortest first")
    for size, mine, other in sorted(zip(SIZES, ours, theirs, strict=True)):
        print(f"{size:5} min {other:23.0f} min {mine:21.0f} min")
    print(f"  average {mean(theirs):23.0f} min {mean(ours):21.0f} min")


if __name__ == "__main__":
    main()
