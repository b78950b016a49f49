import random

from taskorch import Task, TaskOrchestrator


def price(seed):
    chance = random.Random(seed)
    return 100 + sum(chance.gauss(0, 1) for _ in range(250))


if __name__ == "__main__":
    with TaskOrchestrator(executors={"process": 2}) as orch:
        runs = [Task.call(price, seed, executor="process") for seed in range(100)]
        prices = [handle.result() for handle in orch.submit_tasks(runs)]
        print(f"half of the prices are below {sorted(prices)[50]:.0f}")
