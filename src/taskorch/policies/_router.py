"""
The choice of a worker: mostly the one with the best record.

Decision: queue-and-routing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from taskorch.kit.checks import check_count, check_fraction
from taskorch.kit.visible import counted
from taskorch.kit.words import seconds, share
from taskorch.protocols import AgentView, Context, Route

if TYPE_CHECKING:
    from taskorch.model import Performance, Task


#: The key in the metadata of a task that names a worker, which is used if it can.
PINNED: Final = "taskorch.agent"
#: The number of candidates above which a sample is drawn, and the size of the sample.
_FEW: Final = 32
_DRAWN: Final = 16
#: The success rate below which the best of a sample is not chosen.
_POOR: Final = 0.25


class PerformanceRouter:
    """
    TaskRouter that chooses by performance, and keeps exploring.

    The worker with the highest score is chosen. The score is the product of:

    - its success rate at tasks of this type, by Laplace's rule of succession, so that a
      worker without attempts has one half;
    - the best latency among the candidates divided by its own; an unknown latency
      counts as the best;
    - the share of it that is idle. For a worker with a limit, that is the share of its
      free slots. A worker without a limit is as busy as its share of all attempts of
      the candidates, which splits the work among such workers by their quality.

    Of equals the worker with the fewest attempts is chosen, then the one that joined
    first.

    Of more than 32 candidates, 16 are drawn with equal chances, and the best of them is
    chosen (of equals with as many attempts, the one drawn first). So a choice among
    thousands takes no longer than one among a few, and in four of five cases it is in
    the best tenth. Only if even that one mostly fails, all are compared.

    With probability *exploration*, any candidate is drawn instead, with equal chances:
    so a new worker, or one that has recovered, gets attempts. It costs about that share
    of the gain; 0 never explores. A single candidate needs no decision, and the answer
    holds for all like tasks.

    A worker that fails at once is always free, so it would get every task for which the
    others have no room. So a task waits for a busy worker, rather than use a free one,
    if the success rate there is more than four times as high; `explain` says so
    (`waits_for_better`).

    If the metadata of a task names a candidate under `"taskorch.agent"`, as a plan
    does, that one is chosen.

    Source: epsilon-greedy action selection and, for the unknown latency, optimistic
    initial values; R. S. Sutton and A. G. Barto, *Reinforcement Learning: An
    Introduction*, 2nd ed., 2018, sections 2.2 and 2.6.

    Args:
        exploration: The probability of a random choice, from 0 to 1.

    Raises:
        InvalidTaskError: *exploration* is not a number from 0 to 1.
    """

    #: It lets tasks wait for better workers: see the class.
    waits_for_better = True

    def __init__(self, exploration: float = 0.1) -> None:
        check_fraction("exploration", exploration)
        self.exploration = exploration

    def route(
        self, task: Task, candidates: Sequence[AgentView], context: Context
    ) -> Route:
        """Return the worker for the next attempt of *task*."""
        if len(candidates) == 1:
            name = candidates[0].name
            return Route(name, "the only candidate", reusable=PerformanceRouter)
        total = counted(len(candidates), "worker")
        pinned = task.metadata.get(PINNED) if task.metadata else None
        if pinned is not None and any(worker.name == pinned for worker in candidates):
            return Route(str(pinned), f"the plan's choice of {total}")
        # An unneeded draw would change all later draws of the same seed.
        if self.exploration and context.random.random() < self.exploration:
            worker = candidates[context.random.randrange(len(candidates))]
            done = worker.performance(task.type)
            return Route(
                worker.name,
                f"{_describe(done, worker.running)}; drawn from {total} "
                f"(exploration {share(self.exploration)})",
            )
        if len(candidates) > _FEW:
            draw, many = context.random.random, len(candidates)
            places = dict.fromkeys([int(draw() * many) for _ in range(_DRAWN)])
            drawn = [candidates[place] for place in places]
            worker, done = _best(task.type, drawn)
            if done.success_rate >= _POOR:
                how = f"best of {len(drawn)} drawn from {total}"
                return Route(worker.name, f"{_describe(done, worker.running)}; {how}")
        worker, done = _best(task.type, candidates)
        return Route(worker.name, f"{_describe(done, worker.running)}; best of {total}")

    def __repr__(self) -> str:
        return f"PerformanceRouter(exploration={self.exploration!r})"


def _best(
    task_type: str, candidates: Sequence[AgentView]
) -> tuple[AgentView, Performance]:
    records = []
    running, fastest = 0, math.inf
    for worker in candidates:
        done, runs = worker.performance(task_type), worker.running
        running += runs
        if done.latency is not None and done.latency < fastest:
            fastest = done.latency
        records.append((worker, done, runs))
    best, best_score, fewest = records[0][:2], -1.0, 0
    for worker, done, runs in records:
        # The attempt that is to start counts too, so that no worker is wholly busy.
        slots = worker.max_concurrency or running + 1
        score = done.success_rate
        if done.latency is not None and done.latency > fastest:
            score *= fastest / done.latency
        score *= 1 - runs / slots
        # Of equals the first is taken, which joined first.
        if score > best_score or (score == best_score and runs < fewest):
            best, best_score, fewest = (worker, done), score, runs
    return best


def _describe(done: Performance, running: int) -> str:
    latency = "no latency yet" if done.latency is None else seconds(done.latency)
    return f"success {done.success_rate:.2f}, {latency}, {running:,} running"


class LeastLoadedRouter:
    """
    TaskRouter that chooses by load alone.

    The load of a worker is the share of its slots that are busy. A worker without a
    limit is as busy as its share of all attempts of the compared workers. The least
    load is chosen; of equals the worker with the fewest attempts, then the one that
    joined first.

    With *choices*, so many candidates are drawn with equal chances, and the least
    loaded of them is chosen; of equals the one drawn first. Two are enough to come
    close to the best balance. That is the better rule if several orchestrators share
    their workers: each sees its own load only, and if all chose the least loaded, they
    would choose the same one. It takes no longer among thousands. Source: M.
    Mitzenmacher, *The Power of Two Choices in Randomized Load Balancing*, IEEE
    Transactions on Parallel and Distributed Systems 12 (10), 2001.

    A single candidate needs no decision, and the answer holds for all like tasks.

    Args:
        choices: How many candidates to compare, 1 or more; None compares all.

    Raises:
        InvalidTaskError: *choices* is no whole number above 0.
    """

    def __init__(self, *, choices: int | None = None) -> None:
        if choices is not None:
            check_count("choices", choices, least=1)
        self.choices = choices

    def route(
        self, task: Task, candidates: Sequence[AgentView], context: Context
    ) -> Route:
        """Return the worker for the next attempt of *task*."""
        if len(candidates) == 1:
            name = candidates[0].name
            return Route(name, "the only candidate", reusable=LeastLoadedRouter)
        total = counted(len(candidates), "worker")
        compared, how = candidates, f"least of {total}"
        # An unneeded draw would change all later draws of the same seed.
        if self.choices is not None and self.choices < len(candidates):
            places = context.random.sample(range(len(candidates)), self.choices)
            compared = [candidates[place] for place in places]
            how = f"least of {self.choices:,} drawn from {total}"
        running = sum(worker.running for worker in compared)

        def load(worker: AgentView) -> tuple[float, int]:
            # The attempt that is to start counts too, so that nothing divides by 0.
            limit = worker.max_concurrency
            slots = running + 1 if limit is None else limit
            return worker.running / slots, worker.running

        # Of equals `min` takes the first.
        worker = min(compared, key=load)
        limit = worker.max_concurrency
        slots = "without limit" if limit is None else f"of {limit:,}"
        return Route(worker.name, f"{worker.running:,} running {slots}; {how}")

    def __repr__(self) -> str:
        return f"LeastLoadedRouter(choices={self.choices!r})"
