"""Joins, and what follows when they cannot hold any more."""

from itertools import product

import pytest
from hypothesis import given, strategies as st
from tests.kernel.commands import AddParents
from tests.kernel.harness import SEC, Policies, S, Twin

from taskorch.events import (
    TaskBlocked,
    TaskFailed,
    TaskRecalled,
    TaskReleased,
    TaskRepointed,
    TaskSubmitted,
    make,
)
from taskorch.kernel import PolicyFault, is_unresolvable
from taskorch.kernel._deciders import PolicyGone
from taskorch.kernel._history import past_of

#: What becomes of a parent, and the state of what waits for three of them.
GOOD, BAD = "completed", "failed"
FOLLOWS = {
    "block": S.BLOCKED,
    "skip": S.CANCELLED,
    "fail": S.FAILED,
    "run": S.RUNNING,
}


def three(join, on_failure="block", **config):
    """A task that waits for three others, which run."""
    machine = Twin(**config)
    machine.submit_all("a", "b", "c")
    machine.submit("t", after="abc", join=join, on_failure=on_failure)
    return machine


def expected(join, on_failure, ends):
    """The state of the task, by the rules, when its parents have ended so far so."""
    done, broken, total = ends.count(GOOD), ends.count(BAD), 3
    over = done + broken == total
    holds = {
        "all": done == total,
        "finished": over,
        "any": done >= 1,
        "asked": broken > 0,
    }.get(join, done >= join if isinstance(join, int) else False)
    never = {
        "all": broken > 0,
        "finished": False,
        "any": broken == total,
        "asked": over,
    }.get(join, total - broken < join if isinstance(join, int) else False)
    if holds or (on_failure == "run" and never and over):
        return S.RUNNING
    if not never or on_failure == "run":
        return S.PENDING
    return FOLLOWS[on_failure]


@pytest.mark.parametrize("on_failure", FOLLOWS)
@pytest.mark.parametrize("join", ["all", "finished", "any", "asked", 1, 2, 3])
def test_every_join_in_every_case(join, on_failure):
    """Whatever becomes of three parents, the task does what the rules say."""
    for ends in product((GOOD, BAD), repeat=3):
        machine = three(join, on_failure)
        for number, (name, end) in enumerate(zip("abc", ends, strict=True), 1):
            machine.end(name, end)
            state = expected(join, on_failure, ends[:number])
            assert machine.state("t") is state, (join, on_failure, ends[:number])
            if state is not S.PENDING:
                break


@pytest.mark.parametrize("join", ["all", "finished", "any", "asked", 2])
def test_parents_that_had_ended_before(join):
    """It is decided at its submission, as it would have been later."""
    for ends in product((GOOD, BAD), repeat=3):
        machine = Twin()
        machine.submit_all("a", "b", "c")
        for name, end in zip("abc", ends, strict=True):
            machine.end(name, end)
        machine.submit("t", after="abcab", join=join, on_failure="skip")
        assert machine.state("t") is expected(join, "skip", ends)


def test_a_release_is_told_with_its_reason():
    """So that a fold asks nobody; what comes afterwards does not matter."""
    machine = three("any")
    assert machine.end("b") == ["t"]
    assert machine.told(TaskReleased) == [("t", "1 of 3 completed")]
    machine.fail("a")
    machine.end("c")
    machine.end("t")
    assert machine.told(TaskBlocked) == []
    fact = next(fact for fact, _ in machine.sink if fact[0:4:3] == (TaskSubmitted, "t"))
    assert (make(fact).join, make(fact).on_parent_failure) == ("any", "block")


# -- what follows ------------------------------------------------------------------


def test_a_message_names_some_of_many_roots():
    """The fact has them all."""
    machine = Twin()
    names = [f"p{n}" for n in range(8)]
    machine.submit_all(*names)
    machine.submit("t", after=names, join=8, on_failure="fail")
    machine.fail("p0")
    machine.submit("u", after=names, join=1, on_failure="fail")
    for name in names[1:]:
        machine.fail(name)
    assert machine.error("u")[1].endswith("p0, p1, p2, p3, p4 and 3 more")
    assert machine.told(TaskFailed)[-1][-1] == tuple(names)


def test_the_driver_learns_of_what_is_blocked_and_of_what_is_not_any_more():
    machine = Twin()
    machine.submit("a")
    machine.submit("t", after=["a"], cargo="its cargo")
    kernel, a, t = machine.kernel, machine.row("a"), machine.row("t")
    kernel.end_attempt(a, 1, "failed", machine.now, ValueError("it went wrong"))
    assert kernel.touched == [(a, None), (t, "its cargo")]
    kernel.touched.clear()
    again = kernel.submit_general("again", a.bucket, None, machine.now, rerun_of=a)
    kernel.repoint(a, again, machine.now)
    assert t.state is S.PENDING
    assert kernel.touched == [(t, "its cargo")]


# -- a function of the user's ------------------------------------------------------


def test_a_function_is_asked_when_a_parent_ends():
    """With the states of all; never before the first has ended."""
    asked = []
    policies = Policies()
    policies.joins = lambda name, states: asked.append(dict(states)) or len(asked) == 2
    machine = three("asked", policies=policies)
    assert asked == []
    machine.fail("a")
    assert machine.end("b") == ["t"]
    assert asked[0] == {"a": S.FAILED, "b": S.RUNNING, "c": S.RUNNING}
    assert asked[1]["b"] is S.COMPLETED
    machine.end("c")
    assert len(asked) == 2


def test_a_function_that_raises_fails_the_task():
    """The rest goes on."""

    def join(name, states):
        raise PolicyFault("join", RuntimeError("it broke"))

    policies = Policies()
    policies.joins = join
    machine = three("asked", policies=policies)
    machine.submit("u", after=["a"])
    assert machine.end("a") == ["u"]
    assert machine.error("t") == (
        "ComponentError",
        "the join failed: RuntimeError: it broke",
        "component",
    )
    assert "ComponentFailed" in machine.names()


@pytest.mark.parametrize("on_failure", list(FOLLOWS))
def test_a_function_that_is_gone_holds_the_task(on_failure):
    """It is asked once it is back, about what has become of the parents by then."""
    gone = [True]

    def join(name, states):
        if gone:
            raise PolicyGone("join", RuntimeError("it is gone"))
        return list(states.values()).count(S.COMPLETED) >= 2

    policies = Policies()
    policies.joins = join
    machine = three("asked", on_failure, policies=policies)
    assert machine.end("a") == []
    assert machine.state("t") is S.BLOCKED
    assert machine.error("t") == ("InvalidTaskError", "it is gone", "gone")
    machine.fail("b")
    assert machine.rerun("b") == "b~2"
    assert machine.decide("t", "retry") == []
    assert machine.state("t") is S.BLOCKED
    machine.fail("c")
    assert machine.end("b~2") == []
    assert machine.state("t") is S.BLOCKED
    gone.clear()
    assert machine.decide("t", "retry") == ["t"]
    assert machine.extra("t").error is None


def test_what_was_held_so_is_not_held_once_it_has_ended():
    def join(name, states):
        raise PolicyGone("join", RuntimeError("it is gone"))

    policies = Policies()
    policies.joins = join
    machine = three("asked", "fail", policies=policies)
    machine.end("a")
    assert is_unresolvable(machine.row("t"))
    machine.cancel("t")
    assert not is_unresolvable(machine.row("t"))


def test_a_task_that_is_held_so_may_wait_for_more():
    gone = [True]

    def join(name, states):
        if gone:
            raise PolicyGone("join", RuntimeError("it is gone"))
        return len(states) == 4 and states["d"] is S.FAILED

    policies = Policies()
    policies.joins = join
    machine = three("asked", policies=policies)
    machine.end("a")
    machine.submit("d")
    machine.fail("d")
    machine.do(AddParents("t", ("d",)))
    assert machine.state("t") is S.BLOCKED
    assert machine.extra("t").blocked_by == {}
    gone.clear()
    assert machine.decide("t", "retry") == ["t"]


@pytest.mark.parametrize("on_failure", list(FOLLOWS))
def test_a_function_that_is_back_may_say_no(on_failure):
    gone = [True]

    def join(name, states):
        if gone:
            raise PolicyGone("join", RuntimeError("it is gone"))
        return False

    policies = Policies()
    policies.joins = join
    machine = three("asked", on_failure, policies=policies)
    machine.fail("a")
    machine.end("b")
    machine.end("c")
    assert machine.state("t") is S.BLOCKED
    gone.clear()
    machine.decide("t", "retry")
    assert machine.state("t") is FOLLOWS[on_failure]


@pytest.mark.parametrize("join", ["all", "any", "finished"])
def test_what_runs_again_by_decision_waits_for_nobody_anew(join):
    """Its join has held once: in its history it is queued, and not pending again."""
    machine = Twin()
    machine.submit_all("a", "b")
    machine.submit("t", after="ab", join=join, idempotent=False)
    machine.end("a")
    machine.end("b")
    machine.end("t", "gone", error=OSError("it went away"))
    assert machine.state("t") is S.BLOCKED
    assert machine.decide("t", "retry") == ["t"]
    past = [state for state, *_ in past_of(machine.row("t"))]
    assert past[-4:] == [S.RUNNING, S.BLOCKED, S.QUEUED, S.RUNNING]


# -- together with the rest --------------------------------------------------------


@pytest.mark.parametrize("ends", list(product((GOOD, BAD), repeat=3)))
@pytest.mark.parametrize("join", ["all", "finished", "any", 2])
def test_it_is_decided_when_it_is_resumed(join, ends):
    """What becomes of its parents while it is suspended counts afterwards."""
    machine = three(join, "fail")
    machine.suspend("t")
    for name, end in zip("abc", ends, strict=True):
        machine.end(name, end)
    assert machine.state("t") is S.SUSPENDED
    machine.resume("t")
    assert machine.state("t") is expected(join, "fail", ends)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["all", "finished", "any", "asked", 1, 2]),
            st.sampled_from(list(FOLLOWS)),
            st.lists(st.integers(0, 7), max_size=3),
        ),
        min_size=1,
        max_size=8,
    ),
    st.data(),
)
def test_no_dependent_is_left_behind(tasks, data):
    """When everything that runs has ended, nothing waits but for a person."""
    machine = Twin(concurrency=100)
    for number, (join, on_failure, above) in enumerate(tasks):
        after = sorted({f"t{n % number}" for n in above}) if number else []
        machine.submit(f"t{number}", after=after, join=join, on_failure=on_failure)
    while running := machine.running():
        name = data.draw(st.sampled_from(running))
        machine.end(name, data.draw(st.sampled_from([GOOD, BAD])))
    assert machine.kernel.quiescent()
    for task_id, row in machine.kernel.tasks.items():
        if row.state is S.PENDING:
            # It waits for one that a person must decide about.
            held = [p for p in row.links.parents if p.extra and p.extra.decision]
            waits = [p for p in row.links.parents if p.state is S.PENDING]
            assert held or waits, task_id


# -- what has held, and what it was about runs again -----------------------------------


@pytest.mark.parametrize("verdict", ["end", "fail"])
@pytest.mark.parametrize("state", ["queued", "suspended", "delayed"])
def test_what_has_only_ended_parents_waits_for_what_runs_again(state, verdict):
    """Wherever it stands: it begins when that has ended too, and sees that."""
    machine = Twin(concurrency=1)
    late = machine.now + 9 * SEC if state == "delayed" else None
    machine.submit_all("a", "b", "busy")
    machine.submit("t", after=["a", "b"], join="finished", not_before=late)
    machine.fail("a")
    assert machine.end("b") == ["busy"]
    if state == "suspended":
        machine.suspend("t")
    again = machine.rerun("a")
    assert machine.told(TaskRepointed) == [("a", again, ("t",))]
    assert machine.told(TaskRecalled) == [("t", "a runs again")]
    if state == "suspended":
        machine.resume("t")
    assert machine.state("t") is S.PENDING
    assert machine.after(20 * SEC) == []
    assert machine.end("busy") == [again]
    assert getattr(machine, verdict)(again) == ["t"]
    assert [parent.id for parent in machine.row("t").links.parents] == [again, "b"]


def test_a_join_of_the_users_is_asked_when_a_parent_runs_again():
    """At once, not when the next of them ends: it may hold without that one."""
    policies = Policies()
    policies.joins = lambda _, states: S.FAILED not in states.values()
    machine = Twin(policies=policies)
    machine.submit_all("a", "b", "c")
    machine.submit("t", after=["a", "b", "c"], join="asked")
    machine.fail("a")
    machine.end("b")
    assert machine.state("t") is S.PENDING
    machine.rerun("a")
    assert machine.told(TaskReleased) == [("t", "1 of 3 completed")]
    assert machine.state("t") is S.RUNNING
