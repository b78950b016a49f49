"""Breakers: a worker that fails gets no work for a while, and then a few probes."""

import pytest
from tests.core.kernel.harness import SEC, S, Twin

from taskorch.core.kernel import Search
from taskorch.events import AgentProbed, AgentRestored, AgentTripped
from taskorch.model import Breaker, Resources

BREAKER = Breaker(failures=2, within=60, open=30, probes=1)


def machine(*names, breaker=BREAKER, can=("x",), slots=1, **config):
    made = Twin(pools=Resources(cpu=4), **config)
    for name in names or ("a", "b"):
        made.worker(name, *can, max_concurrency=slots, breaker=breaker)
    return made


def fail_on(m, worker, count, requires=("x",)):
    """So many tasks fail on *worker*; what starts elsewhere meanwhile goes on."""
    done = 0
    for number in range(50):
        if done == count:
            return
        name = f"{worker}-{requires}-{len(m.kernel.tasks)}-{number}"
        m.submit(name, requires=requires)
        if m.state(name) is S.RUNNING and m.worker_of(name) == worker:
            m.fail(name)
            done += 1
    raise AssertionError(m.names())


def state(m, worker, capability=""):
    one = m.kernel.workers[worker].breakers.get(capability)
    return "closed" if one is None else one.state


def tripped(**config):
    m = machine(**config)
    fail_on(m, "a", 2)
    assert state(m, "a") == "open"
    return m


def test_who_waits_for_a_probe_to_end_is_told_so():
    m = tripped()
    m.after(30 * SEC)
    m.submit_all("p", "q", "r", requires=("x",))
    waits = next(name for name in "pqr" if m.state(name) is S.QUEUED)
    said = "The breaker of worker a is half-open, and all its probes are under way."
    (told,) = (one for one in m.why(waits).blockers if one.detail == said)
    assert told.until is None
    assert "Wait for a probe on a that ends well." in str(told.remedies[0])


def test_a_probe_that_ends_well_closes_it():
    m = tripped()
    m.after(30 * SEC)
    assert m.told(AgentProbed) == [("a", "")]
    for name in m.running():
        m.end(name)
    m.submit_all("p", "q", requires=("x",))
    probe = next(name for name in "pq" if m.worker_of(name) == "a")
    m.end(probe)
    assert m.told(AgentRestored) == [("a", "", "1 of 1 probes ended well")]
    assert state(m, "a") == "closed"


def test_a_probe_whose_function_has_returned_has_ended_well():
    m = tripped()
    m.after(30 * SEC)
    for name in m.running():
        m.end(name)
    m.submit_all("p", "q", requires=("x",))
    probe = next(name for name in "pq" if m.worker_of(name) == "a")
    m.kernel.yield_slot(m.row(probe), 1, m.now, returned=True)
    assert m.told(AgentRestored) == [("a", "", "1 of 1 probes ended well")]
    m.end(probe)
    assert len(m.told(AgentRestored)) == 1


def test_only_so_many_probes_are_let_through():
    m = machine(slots=None, breaker=Breaker(failures=2, open=30, probes=2))
    fail_on(m, "a", 2)
    m.after(30 * SEC)
    names = [f"t{number}" for number in range(9)]
    m.submit_all(*names, requires=("x",))
    probes = [name for name in names if m.worker_of(name) == "a"]
    assert len(probes) == 2
    # One that says nothing about the worker makes room for another.
    m.cancel(probes[0])
    m.end(probes[0], "stopped")
    m.submit_all("more", "yet", requires=("x",))
    assert "a" in (m.worker_of("more"), m.worker_of("yet"))
    m.end(probes[1])
    assert state(m, "a") == "half-open"
    # One that ended well and one that runs are all that there may be.
    others = [f"o{number}" for number in range(9)]
    m.submit_all(*others, requires=("x",))
    begun = [name for name in others if m.state(name) is S.RUNNING]
    assert "a" not in map(m.worker_of, begun)


def test_a_probe_that_fails_opens_it_for_longer():
    m = tripped()
    for wait in (60, 120):
        m.after((wait // 2) * SEC)
        fail_on(m, "a", 1)
        *_, (_, _, until, why) = m.told(AgentTripped)
        assert until == m.now + wait * SEC
        assert why == "a probe has failed"


def test_what_began_before_does_not_count():
    m = machine(slots=None)
    names = [f"t{number}" for number in range(8)]
    m.submit_all(*names, requires=("x",))
    there = [name for name in names if m.worker_of(name) == "a"]
    m.fail(there[0])
    m.fail(there[1])
    assert state(m, "a") == "open"
    m.after(30 * SEC)
    # Neither a failure nor a success of before is a probe.
    m.fail(there[2])
    m.end(there[3])
    assert state(m, "a") == "half-open"


@pytest.mark.parametrize("others", [1, 3])
def test_one_opens_though_it_alone_has_a_breaker(others):
    m = machine("a")
    for number in range(others):
        m.worker(f"good{number}", "x", max_concurrency=1)
    fail_on(m, "a", 2)
    assert state(m, "a") == "open"


@pytest.mark.parametrize("why", ["lost", "draining"])
def test_one_whose_only_like_gets_no_work_does_not_open(why):
    m = machine("a")
    m.worker("b", "x", max_concurrency=1)
    if why == "lost":
        m.kernel.leave("b", (), m.now)
    else:
        m.kernel.drain("b", "its disk is full", m.now)
    fail_on(m, "a", 5)
    assert state(m, "a") == "closed"


def test_a_task_that_fails_on_those_without_breakers_too_opens_none():
    """And what they did before it came does not speak for them."""
    m = machine("a")
    for name in "bcd":
        m.worker(name, "x", max_concurrency=1)
    good = [f"g{number}" for number in range(12)]
    m.submit_all(*good, requires=("x",))
    while m.running():
        for name in m.running():
            m.end(name)
    for round_ in range(6):
        names = [f"t{round_}-{number}" for number in range(4)]
        m.submit_all(*names, requires=("x",))
        # That with the breaker ends last.
        for name in sorted(names, key=lambda name: m.worker_of(name) == "a"):
            m.fail(name)
    assert m.told(AgentTripped) == []
    # Once they do better, and it does not, it is the fault of the worker.
    m.after(61 * SEC)
    fail_on(m, "a", 2)
    assert state(m, "a") == "open"


def test_one_capability_alone():
    m = machine(can=("x", "y"))
    fail_on(m, "a", 2, ("y",))
    assert (state(m, "a", "y"), state(m, "a")) == ("open", "closed")
    for name in m.running():
        m.end(name)
    m.submit_all("p", "q", requires=("x",))
    assert {m.worker_of("p"), m.worker_of("q")} == {"a", "b"}


def test_a_restart_knows_it():
    m = tripped()
    m.restart()
    m.reopen()
    assert state(m, "a") == "open"
    m.submit_all("t", "u", "v", requires=("x",))
    assert all(m.row(n).worker is None or m.worker_of(n) == "b" for n in "tuv")
    m.after(30 * SEC)
    assert state(m, "a") == "half-open"


def test_a_retry_goes_elsewhere():
    """Where most fails, a task that has failed waits for another worker."""
    m = machine()
    m.submit_all("t", "u", requires=("x",))
    first = m.worker_of("t")
    m.policies.delays["t"] = [0]
    m.fail("t")
    assert m.state("t") is S.QUEUED
    details = [blocker.detail for blocker in m.why("t").blockers]
    assert any(f"has failed on worker {first}" in detail for detail in details)
    m.end("u")
    assert m.worker_of("t") != first


def test_no_worker_but_its_probes_come():
    """A task for which there is none but that worker waits, and is not stuck."""
    m = tripped()
    m.worker("b2", "x", breaker=BREAKER)
    m.worker("c", "y", max_concurrency=1)
    for name in ("b", "b2"):
        m.kernel.drain(name, "repair", m.now)
    m.settle()
    m.submit("t", requires=("x",))
    assert m.state("t") is S.QUEUED
    search = Search(m.kernel, m.now, {})
    assert list(search.slices()) is not None
    assert search.groups == ()
    m.after(30 * SEC)
    assert m.worker_of("t") == "a"


def test_of_two_breakers_of_a_worker_each_has_its_time():
    breaker = Breaker(failures=1, open=30, most_open=1.0)
    m = machine("a", can=("x", "y"), breaker=breaker)
    fail_on(m, "a", 1, ("x",))
    m.after(10 * SEC)
    fail_on(m, "a", 1, ("y",))
    assert (state(m, "a", "x"), state(m, "a", "y")) == ("open", "open")
    m.after(20 * SEC)
    assert (state(m, "a", "x"), state(m, "a", "y")) == ("half-open", "open")
