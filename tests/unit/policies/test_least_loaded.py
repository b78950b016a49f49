"""LeastLoadedRouter."""

from __future__ import annotations

from fractions import Fraction
from random import Random

import pytest
from hypothesis import given, strategies as st
from tests.unit.policies.fakes import FakeAgent, FakeContext, NoRandom

from taskorch.errors import InvalidTaskError
from taskorch.model import Task
from taskorch.policies import LeastLoadedRouter
from taskorch.protocols import TaskRouter

TASK = Task("t")


def agent(name, running=0, limit=None):
    return FakeAgent(name, ("t",), limit, running)


bounded = st.integers(1, 8)


@st.composite
def agent_lists(draw, limits):
    agents = []
    for i in range(draw(st.integers(1, 6))):
        limit = draw(limits)
        running = draw(st.integers(0, 20 if limit is None else limit - 1))
        agents.append(agent(f"a{i}", running, limit))
    return agents


def route(*agents, choices=None, random=None):
    random = NoRandom() if random is None else random
    router = LeastLoadedRouter(choices=choices)
    return router.route(TASK, agents, FakeContext(random=random))


def test_it_is_a_task_router():
    """It has the methods of its protocol, and shows its option."""
    assert isinstance(LeastLoadedRouter(), TaskRouter)
    assert repr(LeastLoadedRouter(choices=2)) == "LeastLoadedRouter(choices=2)"


@pytest.mark.parametrize("value", [0, -1, True, 2.0, "2"])
def test_choices_that_are_no_number_of_agents_are_refused(value):
    """A whole number from 1, or None."""
    with pytest.raises(InvalidTaskError, match="1 or more"):
        LeastLoadedRouter(choices=value)


def test_a_single_candidate_needs_no_decision():
    """It is taken without a draw, for all like tasks."""
    chosen = route(agent("only"), choices=1)

    assert (chosen.agent, chosen.reusable) == ("only", LeastLoadedRouter)
    assert chosen.reason == "the only candidate"


def test_the_share_of_busy_slots_counts():
    """Four of ten is less than one of two."""
    chosen = route(agent("small", 1, 2), agent("large", 4, 10))

    assert chosen.agent == "large"
    assert chosen.reason == "4 running of 10; least of 2 workers"
    assert not chosen.reusable


def test_of_equal_loads_the_fewest_then_the_first():
    """Ties are broken by what runs, then by who joined first."""
    assert route(agent("a", 2, 4), agent("b", 1, 2)).agent == "b"
    assert route(agent("a", 1, 2), agent("b", 1, 2)).agent == "a"


def test_agents_without_limit_go_by_what_they_run():
    """The one that runs least; an idle one is always the least loaded."""
    chosen = route(agent("a", 3), agent("b", 2), agent("c", 2))

    assert (chosen.agent, chosen.reason) == (
        "b",
        "2 running without limit; least of 3 workers",
    )
    assert route(agent("a", 1, 100), agent("b", 0)).agent == "b"


def test_with_choices_the_least_of_those_drawn_is_chosen():
    """The reason says how many were compared."""
    agents = [agent(f"a{i}", i, 10) for i in range(5)]
    chosen = route(*agents, choices=2, random=Random(1))

    assert chosen.reason.endswith("least of 2 drawn from 5 workers")
    assert chosen.agent != "a4"
    assert route(*agents, choices=5).agent == "a0"


def test_two_choices_balance_much_better_than_one():
    """Of 1,000 tasks on 100 agents, none gets many more than its ten."""

    def fullest(choices):
        agents = [agent(f"a{i}") for i in range(100)]
        named = {a.name: a for a in agents}
        random = Random(7)
        for _ in range(1000):
            named[route(*agents, choices=choices, random=random).agent].running += 1
        return max(a.running for a in agents)

    assert fullest(2) <= 13 < fullest(1)


@given(agent_lists(bounded))
def test_nobody_is_less_loaded_than_the_chosen(agents):
    """In exact fractions, whatever the floats are."""
    chosen = next(a for a in agents if a.name == route(*agents).agent)

    assert all(
        (Fraction(chosen.running, chosen.max_concurrency), chosen.running)
        <= (Fraction(a.running, a.max_concurrency), a.running)
        for a in agents
    )


@given(agent_lists(st.none() | bounded), st.none() | st.integers(1, 6), st.integers())
def test_the_answer_is_a_candidate_and_a_seed_repeats_it(agents, choices, seed):
    """Laws 1 and 2 of the protocol hold for all agents, choices and seeds."""
    one, two = (
        [route(*agents, choices=choices, random=random) for _ in range(5)]
        for random in (Random(seed), Random(seed))
    )

    assert one == two
    assert {chosen.agent for chosen in one} <= {a.name for a in agents}


def test_an_agent_without_limit_is_weighed_against_those_compared():
    """What others run than those that were drawn does not matter."""
    drawn = [agent("a", 3), agent("b", 1, 2)]
    context = FakeContext(random=Random(1))
    router = LeastLoadedRouter(choices=2)
    alone = router.route(TASK, drawn, context).agent

    class Drawn(Random):
        def sample(self, population, k):
            return [0, 1]

    beside = FakeContext(random=Drawn(1))
    busy = [*drawn, *(agent(f"c{number}", 900) for number in range(9))]
    assert router.route(TASK, busy, beside).agent == alone == "b"
