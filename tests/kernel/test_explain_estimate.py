"""When a task may start: guesses that say what they rest on."""

import pytest
from tests.kernel.commands import SubmitTask
from tests.kernel.harness import SEC, Machine, Policies, S

from taskorch.kernel import Spec, Terms, explain
from taskorch.kernel._explain import _estimate as estimates
from taskorch.model import Estimate, Resources


def guess(machine: Machine, name: str) -> Estimate:
    told = explain(
        machine.kernel, machine.row(name), machine.now, whole=True, estimates=True
    )
    assert told.estimate is not None
    return told.estimate


def taught(machine: Machine, seconds: int = 10, **spec) -> Machine:
    """A machine that has seen a task of a type take so long."""
    for number in range(2):
        name = f"taught {spec} {seconds} {number}"
        machine.submit(name, **spec)
        machine.after(seconds * SEC)
        machine.end(name)
    return machine


def test_nothing_is_known() -> None:
    machine = Machine(concurrency=1)
    machine.submit_all("a", "b")
    assert guess(machine, "b") == Estimate(
        None, "no task of type call has completed yet"
    )
    text = str(explain(machine.kernel, machine.row("b"), machine.now, estimates=True))
    assert text.endswith(
        "Nobody can say when it starts: no task of type call has completed yet."
    )


def test_the_next_slot() -> None:
    """What runs takes as long as its type has taken so far."""
    machine = taught(Machine(concurrency=2))
    machine.submit("a")
    machine.after(4 * SEC)
    machine.submit_all("b", "c")
    found = guess(machine, "c")
    assert found.seconds == 6
    assert found.basis == "call takes 10 s (mean of 2); 2 are running"
    assert str(found) == (
        "It may start in about 6 s (estimated: call takes 10 s (mean of 2); 2 are "
        "running)."
    )
    machine.after(100 * SEC)
    assert guess(machine, "c").seconds == 0


def test_what_comes_before_it() -> None:
    """The work of those is shared out evenly among the slots."""
    machine = taught(Machine(concurrency=2))
    machine.submit_all("a", "b")
    machine.submit_all("c", "d", "e")
    assert guess(machine, "c").seconds == 10
    assert guess(machine, "d").seconds == 15
    assert guess(machine, "e").seconds == 20
    assert "2 tasks come before it" in guess(machine, "e").basis


def test_other_requirements_come_before_it_as_well() -> None:
    """But no more of them than their agents do at once."""
    machine = taught(taught(Machine(concurrency=1)), 30, type="other")
    machine.agent("x", "x", max_concurrency=1)
    machine.submit("a")
    machine.submit_all("b", "c", "d", type="other", requires=("x",))
    machine.submit("e")
    assert guess(machine, "e").seconds == 40
    assert "1 task comes before it" in guess(machine, "e").basis


def test_of_some_that_run_nothing_is_known() -> None:
    machine = taught(Machine(concurrency=2))
    machine.submit("a")
    machine.submit("new", type="new")
    machine.submit("b")
    found = guess(machine, "b")
    assert found.seconds == 10
    assert found.basis.endswith("2 are running, and of 1 of them nothing is known")


def test_a_busy_agent() -> None:
    """Only what runs there counts."""
    machine = taught(Machine())
    machine.agent("x", "x", max_concurrency=1)
    machine.submit("elsewhere")
    machine.after(9 * SEC)
    machine.submit("a", requires=("x",))
    machine.after(1 * SEC)
    machine.submit_all("b", "c", requires=("x",))
    assert guess(machine, "b").seconds == 9
    assert guess(machine, "c").seconds == 19


@pytest.mark.parametrize("capacity", [None, Resources(cpu=3)])
def test_a_short_resource(capacity: Resources | None) -> None:
    """It is shared by as many as fit at once."""
    pools = Resources(cpu=4)
    machine = taught(Machine(pools=pools, policies=Policies(rigid=True)))
    machine.agent("x", "x", capacity=capacity)
    each = {"requires": ("x",), "resources": Resources(cpu=1.5)}
    machine.submit("free")
    machine.submit("a", **each)
    machine.after(2 * SEC)
    machine.submit("b", **each)
    machine.submit_all("c", "d", **each)
    assert machine.states("a", "b", "c") == [S.RUNNING, S.RUNNING, S.QUEUED]
    assert guess(machine, "c").seconds == 8
    assert guess(machine, "d").seconds == 14


def test_delays_and_dependencies() -> None:
    """The longest way through what it waits for."""
    machine = taught(Machine())
    machine.submit("a")
    machine.after(4 * SEC)
    machine.submit("b", not_before=machine.now + 3 * SEC)
    machine.submit("c", after=["a", "b"])
    machine.submit("d", after=["c", "a"], not_before=machine.now + 20 * SEC)
    assert guess(machine, "b") == Estimate(3, "it waits for nothing but the clock")
    assert guess(machine, "c").seconds == 13
    assert guess(machine, "d").seconds == 23


def test_a_queued_parent_waits_for_its_turn() -> None:
    machine = taught(Machine(concurrency=1))
    machine.submit_all("a", "b")
    machine.submit("c", after=["b"])
    assert guess(machine, "c").seconds == 20


def test_joins() -> None:
    """The first, the second, the last; and of a function nobody can say."""
    machine = taught(Machine())
    machine.submit("a")
    machine.after(4 * SEC)
    machine.submit_all("b")
    machine.after(2 * SEC)
    machine.submit_all("c")
    after = ["a", "b", "c"]
    for join in ("any", 2, "finished", "asked"):
        machine.submit(f"{join}", after=after, join=join)
    assert [guess(machine, name).seconds for name in ("any", "2", "finished")] == [
        4,
        8,
        10,
    ]
    assert guess(machine, "asked") == Estimate(None, "its own join decides")
    machine.fail("b")
    assert guess(machine, "2").seconds == 10
    assert guess(machine, "finished").seconds == 10


def test_what_does_not_pass_by_itself() -> None:
    """It has no time, and the reason is in the basis."""
    machine = taught(Machine(refuse_unknown=False))
    machine.submit("s", not_before=machine.now + SEC)
    machine.submit("after s", after=["s"])
    machine.suspend("s")
    machine.submit("z", requires=("z",))
    machine.submit("dead", not_before=machine.now + 2 * SEC, deadline=machine.now + SEC)
    assert guess(machine, "s") == Estimate(None, "it is suspended")
    assert guess(machine, "after s").basis == "it needs s, which is suspended"
    assert guess(machine, "z").basis == "no agent can do it"
    assert guess(machine, "dead").basis == "its deadline comes first"
    machine.agent("far", "far", lease=1.0)
    machine.after(2 * SEC)
    machine.submit("lost", requires=("far",))
    assert guess(machine, "lost").basis.startswith("Agent far is lost")
    machine.submit("failed")
    machine.submit("blocked", after=["failed"])
    machine.fail("failed")
    assert guess(machine, "blocked").basis == "it needs failed, which has failed"


def test_too_many_come_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimates, "_MOST", 3)
    machine = taught(Machine(concurrency=1))
    machine.submit("t0")
    for number in range(1, 6):
        machine.submit(f"t{number}", after=[f"t{number - 1}"])
    assert guess(machine, "t1").seconds == 10
    assert guess(machine, "t5").basis == "more than 3 tasks come before it"


def test_many_types() -> None:
    """A few of them are named."""
    machine = Machine()
    for number in range(5):
        taught(machine, number + 1, type=f"kind{number}")
        machine.submit(f"t{number}", type=f"kind{number}")
    machine.submit("after", after=[f"t{number}" for number in range(5)])
    assert guess(machine, "after").seconds == 5
    assert guess(machine, "after").basis.endswith("; 2 more types likewise")


def test_attempts_that_wait_hold_no_slot() -> None:
    machine = taught(Machine(concurrency=1))
    machine.submit("parent")
    machine.kernel.yield_slot(machine.row("parent"), 1, machine.now)
    machine.after(5 * SEC)
    machine.submit_all("a", "b")
    assert guess(machine, "b").seconds == 10
    assert "1 is running" in guess(machine, "b").basis


def test_far_back_in_another_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be counted quickly is taken to be all before it."""
    machine = taught(Machine(concurrency=1))
    machine.submit("a")
    monkeypatch.setattr(estimates, "ahead", lambda bucket, row: None)
    machine.submit_all("b", "c")
    assert guess(machine, "c").seconds == 30


def test_work_ahead_fills_the_gaps() -> None:
    """What is free earlier takes more of the work that comes first."""
    assert estimates._pour([], 0.0, 2) == 0
    assert estimates._pour([4.0, 8.0], 0.0, 2) == 4
    assert estimates._pour([4.0, 8.0], 2.0, 2) == 6
    assert estimates._pour([4.0, 8.0], 6.0, 2) == 9
    assert estimates._pour([4.0, 8.0, 9.0], 4.0, 2) == 8
    assert estimates._pour([5.0], 5.0, 2) == 5


def test_waits_for_a_time_end() -> None:
    """It is known when; of an event, it is not."""
    machine = taught(Machine())
    machine.submit("a")
    for name, event, after in (("t", None, ()), ("u", None, ("a",)), ("e", "go", ())):
        terms = Terms(wait=(event, 5 * SEC, True))
        machine.do(SubmitTask(name, Spec("wait"), after=after, terms=terms))
    machine.after(2 * SEC)
    for name in ("t", "u", "e"):
        machine.submit(f"after {name}", after=[name])
    assert guess(machine, "after t").seconds == 3
    assert guess(machine, "after u").seconds == 13
    assert guess(machine, "after e").basis == "it needs e, which waits for its event"
    machine.suspend("t")
    assert guess(machine, "after t").basis == "it needs t, which is suspended"


def test_a_guess_in_words() -> None:
    assert str(Estimate(0.0001, "luck")) == (
        "It may start at any moment (estimated: luck)."
    )


def test_its_turn_is_now() -> None:
    machine = taught(Machine())
    machine.kernel.concurrency = 0
    machine.submit("a")
    machine.kernel.concurrency = 1
    assert guess(machine, "a") == Estimate(0, "it waits for nothing but the clock")


def test_a_capacity_without_a_pool() -> None:
    """It is shared by as many as fit on the agents."""
    machine = taught(Machine(policies=Policies(rigid=True)))
    machine.agent("x", "x", capacity=Resources(licence=2))
    each = {"requires": ("x",), "resources": Resources(licence=1)}
    machine.submit("a", **each)
    machine.after(2 * SEC)
    machine.submit_all("b", "c", **each)
    assert guess(machine, "c").seconds == 8


def test_what_runs_in_any_case_starts_when_its_parents_are_over() -> None:
    """Although its join will not hold: it does not wait for that."""
    machine = taught(Machine())
    machine.submit_all("bad", "good")
    machine.submit("runs", after=["bad", "good"], on_failure="run")
    machine.submit("fails", after=["bad", "good"], join="any")
    machine.fail("bad")
    machine.after(4 * SEC)
    assert guess(machine, "runs").seconds == 6
    machine.submit("never", after=["bad", "good"], join=2, on_failure="run")
    assert guess(machine, "never").seconds == 6
