"""LeastLoadedRouter."""

from __future__ import annotations

from random import Random

from tests.core.policies.fakes import FakeContext, FakeWorker, NoRandom

from taskorch.model import Task
from taskorch.policies import LeastLoadedRouter
from taskorch.protocols import TaskRouter

TASK = Task("t")


def agent(name, running=0, limit=None):
    return FakeWorker(name, ("t",), limit, running)


def route(*workers, choices=None, random=None):
    random = NoRandom() if random is None else random
    router = LeastLoadedRouter(choices=choices)
    return router.route(TASK, workers, FakeContext(random=random))


def test_it_is_a_task_router():
    """It has the methods of its protocol, and shows its option."""
    assert isinstance(LeastLoadedRouter(), TaskRouter)
    assert repr(LeastLoadedRouter(choices=2)) == "LeastLoadedRouter(choices=2)"


def test_a_single_candidate_needs_no_decision():
    """It is taken without a draw, for all like tasks."""
    chosen = route(agent("only"), choices=1)

    assert (chosen.agent, chosen.reusable) == ("only", LeastLoadedRouter)
    assert chosen.reason == "the only candidate"


def test_with_choices_the_least_of_those_drawn_is_chosen():
    """The reason says how many were compared."""
    workers = [agent(f"a{i}", i, 10) for i in range(5)]
    chosen = route(*workers, choices=2, random=Random(1))

    assert chosen.reason.endswith("least of 2 drawn from 5 workers")
    assert chosen.agent != "a4"
    assert route(*workers, choices=5).agent == "a0"
