"""PerformanceRouter."""

from __future__ import annotations

import re
from random import Random

import pytest
from hypothesis import given, settings, strategies as st
from tests.tools.examples import examples
from tests.unit.policies.fakes import FakeAgent, FakeContext, NoRandom

from taskorch.errors import InvalidTaskError
from taskorch.model import Performance, Task
from taskorch.policies import PerformanceRouter
from taskorch.protocols import TaskRouter

TASK = Task("t")
GREEDY = PerformanceRouter(exploration=0)

counts = st.integers(0, 50)
records = st.builds(
    Performance, counts, counts, st.none() | st.floats(0, 1e6, allow_nan=False)
)


@st.composite
def agent_lists(draw, max_size=6, least=1):
    agents = []
    for i in range(draw(st.integers(least, max_size))):
        limit = draw(st.none() | st.integers(1, 8))
        running = draw(st.integers(0, 20 if limit is None else limit - 1))
        agents.append(FakeAgent(f"a{i}", ("t",), limit, running, done=draw(records)))
    return agents


def pick(*agents, router=GREEDY):
    return router.route(TASK, agents, FakeContext(random=NoRandom())).agent


def agent(name, completed=0, failed=0, latency=None, limit=None, running=0):
    done = Performance(completed, failed, latency)
    return FakeAgent(name, ("t",), limit, running, done=done)


def test_it_is_a_task_router():
    """It has the methods of its protocol, and shows its option."""
    assert isinstance(PerformanceRouter(), TaskRouter)
    assert repr(PerformanceRouter()) == "PerformanceRouter(exploration=0.1)"


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), True, "0.1", None])
def test_an_exploration_that_is_no_probability_is_refused(value):
    """Only a number from 0 to 1 will do."""
    with pytest.raises(InvalidTaskError, match="from 0 to 1"):
        PerformanceRouter(value)


def test_a_single_candidate_needs_no_decision():
    """It is taken without a draw, for all like tasks."""
    context = FakeContext(random=NoRandom())
    route = PerformanceRouter(1).route(TASK, [agent("only")], context)

    assert (route.agent, route.reusable) == ("only", PerformanceRouter)
    assert route.reason == "the only candidate"


def test_the_reliable_agent_is_preferred():
    """More success wins, all else equal."""
    assert pick(agent("bad", 5, 5, 1.0), agent("good", 10, 0, 1.0)) == "good"


def test_the_fast_agent_is_preferred():
    """Less latency wins, all else equal."""
    assert pick(agent("slow", 9, 0, 2.0), agent("fast", 9, 0, 1.0)) == "fast"


def test_an_unknown_latency_counts_as_the_best():
    """Who was never timed is not held to be slow."""
    assert pick(agent("known", 1, 1, 5.0), agent("other", 2, 0, None)) == "other"
    assert pick(agent("slow", 9, 0, 9.0), agent("fast", 9, 0, 1.0), agent("new")) == (
        "fast"
    )


def test_a_failing_agent_that_never_completed_is_not_fast():
    """One that only fails has no latency, and a poor success rate."""
    assert pick(agent("hole", 0, 20), agent("slow", 20, 0, 60.0)) == "slow"


def test_a_fast_agent_that_fills_up_passes_work_on():
    """At a third of its slots left, an agent twice as good is as good no more."""
    slow = agent("slow", 9, 0, 2.0, limit=4)

    assert pick(slow, agent("fast", 9, 0, 1.0, limit=3, running=1)) == "fast"
    assert pick(slow, agent("fast", 9, 0, 1.0, limit=3, running=2)) == "slow"


@pytest.mark.parametrize(("ratio", "share"), [(1, 1 / 2), (2, 2 / 3), (4, 4 / 5)])
def test_agents_without_limit_share_work_by_how_good_they_are(ratio, share):
    """Filled one by one, a twice as fast agent ends up with twice the work."""
    fast = agent("fast", 99, 0, 1.0)
    slow = agent("slow", 99, 0, float(ratio))
    for _ in range(300):
        chosen = fast if pick(slow, fast) == "fast" else slow
        chosen.running += 1

    assert fast.running / 300 == pytest.approx(share, abs=0.02)


def test_an_agent_without_limit_is_weighed_against_one_with():
    """It is idle by 3/4 when it would run one of four; seven slots of nine are more."""
    free = agent("free", 9, 0, 1.0, running=1)

    assert pick(free, agent("limited", 9, 0, 1.0, limit=9, running=2)) == "limited"
    assert pick(free, agent("limited", 9, 0, 1.0, limit=7, running=2)) == "free"


def test_of_equals_the_idlest_then_the_first_is_chosen():
    """Ties are broken by what runs, then by the order of joining."""
    assert pick(agent("a"), agent("b")) == "a"
    # Equal scores: half a chance of success, and half of the slots idle.
    assert pick(agent("a", limit=4, running=2), agent("b", limit=2, running=1)) == "b"


def test_a_latency_of_zero_divides_nothing():
    """Work that takes no measurable time is no reason to fail."""
    assert pick(agent("a", 5, 0, 0.0), agent("b", 5, 0, 0.0)) == "a"
    assert pick(agent("a", 5, 0, 1.0), agent("b", 5, 0, 0.0)) == "b"


def test_the_reason_has_the_numbers():
    """Why is said with success, latency, load and the number of candidates."""
    agents = [agent("a", 10, 0, 1.34, running=2), agent("b", 0, 9), agent("c", 0, 9)]
    route = GREEDY.route(TASK, agents, FakeContext())

    assert route.reason == "success 0.92, 1.34 s, 2 running; best of 3 workers"
    assert not route.reusable


def test_an_exploring_choice_says_so():
    """The reason of a drawn agent names the exploration, and its own numbers."""
    route = PerformanceRouter(1).route(
        TASK, [agent("a"), agent("b")], FakeContext(random=Random(3))
    )

    assert route.reason == (
        "success 0.50, no latency yet, 0 running; drawn from 2 workers "
        "(exploration 100 %)"
    )
    assert not route.reusable


def test_it_explores_as_often_as_it_is_told():
    """A tenth of the choices is drawn, so a poor one of two gets a twentieth."""
    context = FakeContext(random=Random(42))
    agents = [agent("good", 99, 0, 1.0), agent("poor", 0, 99)]
    router = PerformanceRouter(0.1)
    names = [router.route(TASK, agents, context).agent for _ in range(4000)]

    assert names.count("poor") / 4000 == pytest.approx(0.05, abs=0.015)


def test_the_view_of_this_type_is_asked_for():
    """Performance at other types of task does not count."""
    asked = []

    class Asked(FakeAgent):
        def performance(self, task_type):
            asked.append(task_type)
            return Performance()

    GREEDY.route(Task("dig"), [Asked("a"), Asked("b")], FakeContext())

    assert set(asked) == {"dig"}


@given(
    agent_lists() | agent_lists(max_size=40, least=33), st.floats(0, 1), st.integers()
)
def test_the_answer_is_a_candidate_and_a_seed_repeats_it(agents, exploration, seed):
    """Laws 1 and 2 of the protocol hold for all agents, explorations and seeds."""
    router = PerformanceRouter(exploration)
    first, again = (
        [router.route(TASK, agents, FakeContext(random=random)) for _ in range(5)]
        for random in (Random(seed), Random(seed))
    )

    assert first == again
    assert {route.agent for route in first} <= {a.name for a in agents}


@settings(max_examples=examples(20))
@given(agent_lists(max_size=4))
def test_with_full_exploration_everyone_can_be_chosen(agents):
    """No candidate is out of reach of a draw."""
    names = {
        PerformanceRouter(1).route(TASK, agents, FakeContext(random=Random(i))).agent
        for i in range(60)
    }

    assert names == {a.name for a in agents}


@given(agent_lists(), counts)
def test_getting_better_never_costs_the_choice(agents, more):
    """The chosen agent stays chosen when it alone completes more."""
    chosen = next(a for a in agents if a.name == pick(*agents))
    chosen.done = Performance(
        chosen.done.completed + more, chosen.done.failed, chosen.done.latency
    )

    assert pick(*agents) == chosen.name


def crowd(many, good=(), **usual):
    """So many agents, of which some have done everything well."""
    agents = [agent(f"a{number}", **usual) for number in range(many)]
    for number in good:
        agents[number].done = Performance(99, 0, 1.0)
    return agents


def chosen(agents, times, router=GREEDY, seed=5):
    """Places of the agents that so many tasks go to, and the last reason."""
    context = FakeContext(random=Random(seed))
    routes = [router.route(TASK, agents, context) for _ in range(times)]
    return [int(route.agent[1:]) for route in routes], routes[-1]


def test_up_to_32_are_all_compared():
    """Whoever is best of them is chosen, without a draw."""
    assert pick(*crowd(32, good=[31])) == "a31"
    route = GREEDY.route(TASK, crowd(32), FakeContext(random=NoRandom()))
    assert route.reason.endswith("best of 32 workers")


def test_of_more_the_best_of_those_drawn_is_chosen():
    """The reason says how many were compared; the others have their chance, too."""
    places, route = chosen(crowd(1_000, good=range(100)), 400)

    assert re.search(r"best of 1[4-6] drawn from 1,000 workers$", route.reason)
    assert not route.reusable
    # Of the best tenth in four of five cases: 1 - 0.9 ** 16.
    assert sum(place < 100 for place in places) / 400 == pytest.approx(0.81, abs=0.06)


def test_equal_ones_share_the_work():
    """None of a thousand gets much more than any other, those that joined last too."""
    places, _ = chosen(crowd(1_000), 3_000)

    assert sum(place >= 500 for place in places) / 3_000 == pytest.approx(0.5, abs=0.04)
    assert max(map(places.count, set(places))) <= 15


def test_an_idler_one_is_preferred_among_those_drawn():
    """Half of the thousand is busy by half: it gets next to nothing."""
    agents = crowd(1_000, limit=2)
    for busy in agents[::2]:
        busy.running = 1
    places, _ = chosen(agents, 400)

    assert sum(place % 2 == 0 for place in places) < 4


def test_where_those_drawn_mostly_fail_all_are_compared():
    """One good agent among a thousand black holes is not missed."""
    agents = crowd(1_000, good=[617], failed=9)
    places, route = chosen(agents, 20)

    assert set(places) == {617}
    assert route.reason.endswith("best of 1,000 workers")


def test_a_black_hole_among_a_thousand_gets_nothing_more():
    """Once it has failed, whoever else is drawn with it is better."""
    agents = crowd(1_000, completed=1, latency=1.0)
    agents[3].done = Performance(0, 3, None)
    places, _ = chosen(agents, 2_000)

    assert 3 not in places


def test_the_agent_of_a_plan_is_found_among_thousands():
    """It need not be drawn."""
    task = Task("t", metadata={"taskorch.agent": "a4321"})
    context = FakeContext(random=NoRandom())
    route = PerformanceRouter().route(task, crowd(5_000), context)

    assert (route.agent, route.reason) == (
        "a4321",
        "the plan's choice of 5,000 workers",
    )
