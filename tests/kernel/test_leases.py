"""Agents that live elsewhere: signs of life, and what follows when there are none."""

import hypothesis.strategies as st
import pytest
from hypothesis import given
from tests.kernel.harness import SEC, Policies, S, Twin

from taskorch.events import (
    AgentJoined,
    AgentLost,
    AgentReturned,
    SlotLeaked,
    SlotRecovered,
    TaskBlocked,
    TaskEvent,
    TaskRetrying,
)
from taskorch.kernel import check_invariants
from taskorch.kernel._queue import is_alive
from taskorch.model import Agent, Resources

LEASE = 5 * SEC
GRACE = 10 * SEC


def machine(**config):
    """One agent elsewhere, which can do `x`."""
    made = Twin(pools=Resources(cpu=4), **config)
    made.agent("far", "x", lease=5.0)
    return made


def submit(m, *ids, **options):
    return m.submit_all(*ids, requires=("x",), **options)


def far(m):
    return m.kernel.agents["far"]


def live(m, ns, *attempts):
    """So long there is a sign of life every second, which names *attempts*."""
    for _ in range(ns // SEC):
        m.after(SEC)
        m.beat("far", *attempts)


# -- silence -----------------------------------------------------------------------


@given(st.lists(st.integers(1, 3 * LEASE), max_size=12))
def test_lost_if_and_only_if_silent(gaps):
    """An agent is lost when a lease has passed since the latest sign, and only then."""
    m = machine()
    lost = 0
    for gap in gaps:
        m.after(gap)
        lost += gap >= LEASE
        assert far(m).lost is (gap >= LEASE)
        m.beat("far")
        assert not far(m).lost
    assert len(m.told(AgentLost)) == len(m.told(AgentReturned)) == lost


def test_who_could_not_be_heard_has_a_lease_from_then_on():
    """We slept: nobody is lost for that, no attempt is missing, no slot is mended."""
    m = machine()
    submit(m, "t")
    m.now += 50 * LEASE
    m.kernel.excuse(m.now)
    m.settle()
    assert not far(m).lost
    assert m.told(AgentLost, TaskRetrying) == []
    m.after(LEASE - 1)
    assert not far(m).lost
    m.after(1)
    assert far(m).lost
    m.kernel.excuse(m.now)
    assert far(m).lost


def test_what_would_not_stop_is_not_mended_for_our_sleep():
    """Its agent may run it still: it is to say so, within a lease."""
    m = machine()
    submit(m, "t")
    m.cancel("t")
    for _ in range(100):
        m.beat("far", ("t", 1))
        m.after(LEASE // 2)
        if m.kernel.leaked:
            break
    assert m.kernel.leaked
    m.now += 50 * LEASE
    m.kernel.excuse(m.now)
    m.settle()
    assert m.kernel.leaked
    m.after(LEASE)
    assert not m.kernel.leaked


def test_leases_survive_a_clean_up_of_timers():
    """The timers of leases are kept; those of agents that are lost are not."""
    m = machine()
    m.agent("other", "y", lease=1.0)
    m.after(SEC)
    m.kernel.most_timers = 0
    m.submit("t", deadline=99 * SEC)
    assert len(m.kernel.timers) == 2
    m.after(4 * SEC)
    assert far(m).lost


# -- attempts ----------------------------------------------------------------------


def test_long_work_lives_as_long_as_there_are_signs_of_life():
    """That something takes long is no reason to think it dead."""
    m = machine()
    submit(m, "t")
    live(m, 500 * SEC, ("t", 1))
    assert m.told(TaskRetrying, AgentLost) == []
    m.end("t")
    assert m.state("t") is S.COMPLETED
    live(m, 2 * LEASE)
    assert m.told(TaskRetrying, AgentLost) == []


def test_missing_attempts_make_no_poison():
    """Nothing says that the task has killed anything."""
    m = machine()
    submit(m, "t")
    live(m, 20 * LEASE)
    assert m.row("t").attempt == 21
    assert m.extra("t").crashes == 0
    m.end("t", "lost")
    m.end("t", "lost")
    assert m.state("t") is S.RUNNING


@given(st.lists(st.tuples(st.integers(1, LEASE - 1), st.booleans()), max_size=12))
def test_missing_if_and_only_if_not_named(signs):
    """An attempt is missing when a lease has passed since it was last named."""
    m = machine()
    submit(m, "t")
    seen, attempt = m.now, 1
    for gap, named in signs:
        m.after(gap)
        if m.now - seen >= LEASE:
            seen += LEASE
            attempt += 1
        assert m.row("t").attempt == attempt
        m.beat("far", *([("t", attempt)] if named else []))
        if named:
            seen = m.now
    assert m.told(AgentLost) == []


# -- a lost agent ------------------------------------------------------------------


STOPS = {
    "cancel": (S.CANCELLED, lambda m: m.cancel("t")),
    "suspend": (S.SUSPENDED, lambda m: m.suspend("t")),
    "hold": (S.SUSPENDED, lambda m: m.suspend("t", holdable=True)),
    "yield": (S.QUEUED, lambda m: m.kernel.yield_slot(m.row("t"), 1, m.now)),
    "timeout": (S.FAILED, lambda m: m.after(2 * SEC)),
}


@pytest.mark.parametrize("name", STOPS)
def test_a_lost_attempt_that_was_to_stop(name):
    """It comes to what it had been asked to stop for."""
    m = machine()
    submit(m, "t", timeout_ns=2 * SEC, resources=Resources(cpu=1))
    state, stop = STOPS[name]
    stop(m)
    m.agent("far", "x", lease=5.0)
    assert m.state("t") is state
    assert m.kernel.pools["cpu"].used == 0
    assert far(m).running == m.kernel.running == 0
    m.mirror()


# -- returning ---------------------------------------------------------------------


def test_abandoned_attempts_are_to_be_stopped():
    """A sign of life is answered with those that are not current any more."""
    m = machine()
    submit(m, "t", "u", "v")
    m.end("v")
    m.after(LEASE)
    named = [("t", 1), ("u", 1), ("v", 1), ("never", 1)]
    assert m.beat("far", *named) == named
    assert m.running() == ["t", "u"]
    assert m.beat("far", ("t", 2), ("u", 1)) == [("u", 1)]
    assert m.beat("far", ("t", 2), ("u", 2)) == []


# -- what would not stop -----------------------------------------------------------


def leak(m):
    submit(m, "t", resources=Resources(cpu=1))
    m.cancel("t")
    live(m, GRACE, ("t", 1))
    assert m.told(SlotLeaked)[-1] == ("t", 1, "far")
    assert (far(m).leaked, far(m).running) == (1, 1)
    assert far(m).seen == {}


def test_a_leak_that_is_named():
    """It holds what it holds for as long as the agent says that it runs."""
    m = machine()
    leak(m)
    live(m, 20 * LEASE, ("t", 1))
    assert m.told(SlotRecovered) == []
    assert m.kernel.pools["cpu"].used == 1_000_000
    assert m.beat("far", ("t", 1)) == [("t", 1)]


def test_leaks_of_a_lost_agent():
    """They are gone with it; those of others are not."""
    m = machine()
    m.submit("u", resources=Resources(cpu=1))
    m.cancel("u")
    leak(m)
    m.after(LEASE)
    assert m.told(SlotRecovered) == [("t", 1, "far")]
    assert [*m.kernel.leaked] == [("u", 1)]
    assert m.kernel.pools["cpu"].used == 1_000_000
    m.end("u", attempt=1)
    assert m.kernel.leaked == {}


def test_leaks_elsewhere_do_not_matter_to_a_lease():
    """What leaks in our own process is no business of an agent that lives elsewhere."""
    m = machine()
    m.submit("u")
    m.cancel("u")
    live(m, GRACE)
    assert [*m.kernel.leaked] == [("u", 1)]
    live(m, 3 * LEASE)
    assert [*m.kernel.leaked] == [("u", 1)]


def test_a_leak_that_another_agent_names():
    """Only the agent where it leaks can say that it still runs."""
    m = machine()
    m.agent("other", "y", lease=5.0)
    submit(m, "t")
    m.cancel("t")
    for second in range(30):
        m.after(SEC)
        m.beat("far", *([("t", 1)] if second < 10 else []))
        m.beat("other", ("t", 1))
    assert m.told(SlotRecovered) == [("t", 1, "far")]


# -- starting anew -----------------------------------------------------------------


def test_an_agent_that_starts_anew():
    """What it had is lost, and it is what it says now."""
    m = machine()
    submit(m, "t", "u", resources=Resources(cpu=1))
    m.now += SEC
    m.agent("far", "x", "y", lease=7.0, max_concurrency=1)
    assert m.told(AgentLost) == [("far", "it has started anew")]
    assert m.told(TaskRetrying)[0][4:6] == (
        "worker far is lost: it has started anew",
        "lost",
    )
    assert [fact[0].max_concurrency for fact in m.told(AgentJoined)][1:] == [None, 1]
    assert m.settle() == ["t"]
    assert m.kinds("u") == ["agent"]
    assert m.submit("v", requires=("y",)) == []
    m.after(7 * SEC - 1)
    assert not far(m).lost
    m.after(1)
    assert far(m).lost


def test_leaks_of_an_agent_that_starts_anew():
    """They ended with its earlier life."""
    m = machine()
    leak(m)
    m.agent("far", "x", lease=5.0)
    assert m.told(SlotRecovered) == [("t", 1, "far")]
    assert m.kernel.running == 0


def test_its_record_survives():
    """How well it has done is not forgotten."""
    m = machine()
    submit(m, "t", "u")
    m.end("t")
    m.fail("u")
    m.agent("far", "x", lease=5.0)
    assert (far(m).completed, far(m).failed) == (1, 1)
    assert far(m).view.performance("call").completed == 1


ANEW = [{"lease": 5.0}, {"max_concurrency": 1}, {"capacity": Resources(cpu=2)}]


@pytest.mark.parametrize("options", ANEW)
def test_an_agent_without_a_lease_that_starts_anew(options):
    """What it had is lost, too, and the books agree with what it says now."""
    m = Twin(pools=Resources(cpu=4))
    m.agent("near", "x")
    submit(m, "t", "u", resources=Resources(cpu=1))
    m.agent("near", "x", **options)
    check_invariants(m.kernel)
    assert [fact[0] for fact in m.told(TaskRetrying)] == ["t", "u"]


def test_an_agent_that_goes_on_says_what_it_can_do_now():
    """What it runs goes on, whatever that needs; what waits goes by what is so now."""
    m = Twin()
    m.agent("near", "x", "y", max_concurrency=1)
    submit(m, "t", "waits")
    info = Agent("near", ("y", "z"), 1)
    m.kernel.add_agent(info, m.now, goes_on=True)
    m.settle()
    m.mirror()
    m.submit("new", requires=("z",))
    assert m.states("t", "waits", "new") == [S.RUNNING, S.QUEUED, S.QUEUED]
    m.end("t")
    assert m.states("t", "waits", "new") == [S.COMPLETED, S.QUEUED, S.RUNNING]
    m.kernel.add_agent(Agent("near", ("x",), 1), m.now, goes_on=True)
    m.end("new")
    assert m.state("waits") is S.RUNNING
    assert not m.told(TaskRetrying)


# -- the law -----------------------------------------------------------------------

BENT = [
    (
        lambda m: far(m).seen.clear(),
        "far runs [<TaskRow t running attempt 1>], and is to",
    ),
    (lambda m: setattr(far(m), "lost", True), "far is lost, and runs 1"),
]


@pytest.mark.parametrize(("bend", "said"), BENT)
def test_what_is_bent_is_found(bend, said):
    """What an agent is to name, and that a lost one runs nothing, is counted again."""
    m = machine()
    submit(m, "t")
    bend(m)
    with pytest.raises(Exception, match="this is a bug") as caught:
        check_invariants(m.kernel)
    assert said in str(caught.value)


def test_a_policy_sees_a_lost_agent_not():
    """The router and the allocator are asked about agents that are there."""
    policies, offered = Policies(), []
    policies.keeps_alloc = False
    policies.refuses = lambda row, agent: offered.append(agent.name)
    m = Twin(policies=policies)
    m.agent("far", "x", lease=5.0)
    m.agent("near", "x")
    m.after(LEASE)
    submit(m, "t", "u")
    assert offered == ["near", "near"]


@pytest.mark.parametrize("lease", [None, 60.0])
def test_who_starts_anew_loses_what_runs_there_and_nothing_else(lease):
    """Not what others run, nor what has ended there, with a lease or without."""
    twin = Twin()
    for name, capability in (("a", "x"), ("b", "y")):
        twin.agent(name, capability, lease=lease)
    twin.submit_all("ended", "runs", requires=("x",))
    twin.submit("beside", requires=("y",))
    twin.submit("local")
    twin.end("ended")
    seen = len(twin.sink)
    twin.agent("a", "x", lease=lease)
    twin.settle()
    told = [fact for fact, _ in twin.sink[seen:] if issubclass(fact[0], TaskEvent)]
    assert {fact[3] for fact in told} == {"runs"}
    assert twin.states("ended", "beside", "local") == [
        S.COMPLETED,
        S.RUNNING,
        S.RUNNING,
    ]
    assert twin.row("runs").attempt == 2
    assert twin.row("beside").attempt == twin.row("local").attempt == 1


# -- leaving -----------------------------------------------------------------------


def test_what_an_agent_that_leaves_has_not_ended_is_for_others():
    """It is made again at once, costs no attempt, and speaks for no poisoned task."""
    m = machine()
    submit(m, "begun", "unbegun")

    assert m.kernel.leave("far", {("unbegun", 1)}, m.now)
    m.settle()
    check_invariants(m.kernel)

    assert m.told(AgentLost) == [("far", "it has left")]
    error = ("AttemptLostError", "worker far has left")
    begun, unbegun = m.told(TaskRetrying)
    assert begun[:7] == ("begun", 1, "far", *error, "missing", 0)
    assert unbegun[:7] == ("unbegun", 1, "far", *error, "returned", 0)
    assert not begun[7]
    assert not unbegun[7]
    assert m.row("begun").extra.crashes == m.row("unbegun").extra.crashes == 0
    assert not m.kernel.leave("far", (), m.now)
    m.agent("near", "x")
    m.do()
    assert m.row("begun").state is m.row("unbegun").state is S.RUNNING


@pytest.mark.parametrize("how", ["leaves", "is silent"])
def test_for_what_is_lost_nobody_looks_any_more(how):
    m = machine()
    assert [*filter(is_alive, m.kernel.timers)]
    m.after(LEASE - 1)
    if how == "leaves":
        m.beat("far")
        m.kernel.leave("far", (), m.now)
    else:
        m.after(1)
    assert far(m).lost
    assert not [*filter(is_alive, m.kernel.timers)]
    m.after(LEASE)
    assert m.kernel.timers == []
    m.beat("far")
    assert [*filter(is_alive, m.kernel.timers)]


def test_what_must_not_run_twice_may_be_given_back_if_it_has_not_begun():
    m = machine()
    submit(m, "begun", "unbegun", idempotent=False)

    m.kernel.leave("far", {("unbegun", 1)}, m.now)
    m.settle()

    assert [fields[0] for fields in m.told(TaskBlocked)] == ["begun"]
    assert m.row("unbegun").state is S.QUEUED


def test_a_slot_that_had_leaked_is_free_when_its_agent_leaves():
    m = machine()
    submit(m, "t")
    m.cancel("t")
    live(m, GRACE, ("t", 1))
    assert m.told(SlotLeaked)

    m.kernel.leave("far", (), m.now)
    m.settle()
    check_invariants(m.kernel)

    assert len(m.told(SlotRecovered)) == 1
    assert not m.kernel.leaked
