"""Rates: how many attempts of a type, or of an owner, may start in a time."""

import pytest
from tests.core.kernel.harness import SEC, Machine, Policies, rates_of
from tests.core.kernel.test_snapshot import with_snapshot

from taskorch.core.kernel import check_invariants, explain
from taskorch.core.kernel._explain import _stuck
from taskorch.core.kernel._rows import TOKEN
from taskorch.errors import InternalError
from taskorch.events import QuotasChanged, TaskStarted, make
from taskorch.model import Quota

#: What the tables below count time in.
D = SEC // 10
CALL = ("type", "call")


@pytest.fixture
def machine():
    return Machine(concurrency=1_000)


def per_second(starts, burst=1, **more):
    return Quota(**more or {"type": "call"}, starts_per_second=starts, burst=burst)


def starts(machine):
    """What has started, and when after the first second."""
    events = [make(event) for event, _ in machine.sink if event[0] is TaskStarted]
    return [(event.task_id, (event.at_ns - SEC) / SEC) for event in events]


# -- reference cases: Go's golang.org/x/time/rate, what it allows and when -------------


#: `(when it is asked for, how many, when it may act)`: reservations, which wait.
RESERVATIONS = {
    "simple": (10, 2, [(0, 2, 0), (0, 2, 2), (3, 2, 4)]),
    "mixed": (10, 2, [(0, 2, 0), (1, 2, 2), (3, 1, 3)]),
    "in turn": (10, 2, [(0, 2, 0), (0, 1, 1), (0, 1, 2), (0, 1, 3)]),
}


@pytest.mark.parametrize("case", RESERVATIONS)
def test_what_go_reserves_starts_when_go_says(machine, case):
    limit, burst, table = RESERVATIONS[case]
    machine.change_quotas(per_second(limit, burst))
    for step, (when, many, _) in enumerate(table):
        machine.at(SEC + when * D)
        machine.submit_all(*(f"{step}/{number}" for number in range(many)))
    machine.after(20 * SEC)
    begun = dict(starts(machine))
    last = [begun[f"{step}/{many - 1}"] for step, (_, many, _) in enumerate(table)]
    assert last == [act / 10 for _, _, act in table]


def test_over_a_long_time_it_is_the_rate_and_the_burst(machine):
    """10 a second, and as many at first; five times as many ask, for 5 s."""
    machine.change_quotas(per_second(10, 10))
    for number in range(250):
        machine.after(SEC // 50)
        machine.submit(f"t{number}")
    # Until it was asked first, nothing came: it was full.
    assert len(starts(machine)) == 10 + 49


# -- who waits -------------------------------------------------------------------------


def test_one_after_the_other_as_the_tokens_come(machine):
    machine.change_quotas(per_second(2))
    machine.submit_all("a", "b", "c", "d")
    machine.after(10 * SEC)
    assert starts(machine) == [("a", 0), ("b", 0.5), ("c", 1), ("d", 1.5)]
    # Nobody waits: no timer is left that means something.
    assert all(not rate.until_ns for rate in rates_of(machine.kernel).values())


def test_others_go_on_and_are_not_asked_about_it(machine):
    machine.change_quotas(per_second(1, type="fetch"))
    machine.submit_all(*"abcdefgh", type="fetch")
    asked = len(machine.policies.asked)
    for name in ("x", "y"):
        assert machine.submit(name) == [name]
        machine.end(name)
    told = machine.policies.asked[asked:]
    # Theirs is the quick way: router and allocator are asked once.
    assert told.count("router") == told.count("allocator") == 1
    assert machine.kernel.row("b").bucket.route is None


def test_where_the_registrys_word_does_not_hold_it_is_asked_again(machine):
    machine.policies.keeps_match = False
    machine.worker("ann", "x", max_concurrency=None)
    machine.change_quotas(per_second(1))
    machine.submit_all("a", "b", requires=("x",))
    assert machine.row("b").bucket in machine.kernel.parked_any
    assert machine.end("a") == []
    assert machine.after(SEC) == ["b"]


def test_tenants_that_share_wait_at_places_of_their_own():
    machine = Machine(policies=Policies(ranks=True), concurrency=100)
    machine.change_quotas(per_second(1))
    machine.submit_all("a", "b", "c", owner="ann")
    machine.submit_all("d", "e", owner="bob")
    machine.after(10 * SEC)
    begun = [name for name, _ in starts(machine)]
    assert sorted(begun) == ["a", "b", "c", "d", "e"]
    # Bob had nothing: he is served before ann has two.
    assert begun.index("d") == 1
    assert [when for _, when in starts(machine)] == [0, 1, 2, 3, 4]


# -- what is said ----------------------------------------------------------------------


def test_explain_says_when_the_next_token_comes(machine):
    machine.change_quotas(per_second(0.2, 2))
    machine.submit_all("a", "b", "c", "d")
    machine.after(SEC)
    told = explain(machine.kernel, machine.row("c"), machine.now)
    (blocker,) = told.blockers
    assert (blocker.kind, blocker.name, blocker.until) == ("rate", "type=call", 4)
    assert blocker.detail == (
        "The quota of type 'call' lets 0.2 start in a second (2 at one moment): the "
        "next may in 4 s."
    )
    (remedy,) = blocker.remedies
    assert (remedy.kind, remedy.seconds) == ("wait", 4)
    for name, when in (("c", 4), ("d", 9)):
        row = machine.row(name)
        guess = explain(machine.kernel, row, machine.now, estimates=True).estimate
        if guess.seconds is not None:
            assert guess.seconds == when
    # It passes by itself.
    search = _stuck.Search(machine.kernel, machine.now, {})
    for _ in search.slices():
        pass
    assert search.groups == ()


def test_an_estimate_counts_the_tokens_of_those_before_it(machine):
    machine.submit("taught")
    machine.after(SEC)
    machine.end("taught")
    machine.change_quotas(per_second(0.1))
    machine.submit_all("a", "b", "c", "later", after=())
    machine.submit("child", after=("later",))
    guesses = {
        name: explain(machine.kernel, machine.row(name), machine.now, estimates=True)
        for name in ("b", "c", "later")
    }
    assert {name: told.estimate.seconds for name, told in guesses.items()} == {
        "b": 10,
        "c": 20,
        "later": 30,
    }
    assert "0.1 may start in a second" in guesses["c"].estimate.basis


def test_where_a_token_is_there_nothing_is_said_of_it():
    machine = Machine(concurrency=1)
    machine.submit("taught")
    machine.after(SEC)
    machine.end("taught")
    machine.change_quotas(per_second(5, 2))
    machine.submit_all("a", "b")
    told = explain(machine.kernel, machine.row("b"), machine.now, estimates=True)
    assert [blocker.kind for blocker in told.blockers] == ["slot"]
    assert told.estimate.seconds == 1
    assert "start in a second" not in told.estimate.basis


def test_the_event_is_that_of_quotas_and_says_what_has_changed(machine):
    machine.change_quotas(per_second(2.5, 4))
    machine.change_quotas(per_second(2.5, 4))
    told = [
        make(event).quotas for event, _ in machine.sink if event[0] is QuotasChanged
    ]
    limits = (("burst", 4_000_000), ("starts_per_second", 2_500_000))
    assert told == [(("type", "call", limits),)]


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda rate: setattr(rate, "until_ns", 0), "no timer wakes who waits"),
        (lambda rate: setattr(rate, "spent", rate.spent + 1), "more has started"),
    ],
)
def test_what_is_wrong_with_a_rate_is_noticed(machine, spoil, told):
    machine.change_quotas(per_second(1))
    machine.submit_all("a", "b")
    spoil(rates_of(machine.kernel)[CALL])
    with pytest.raises(InternalError, match=told):
        check_invariants(machine.kernel)


# -- other incarnations ----------------------------------------------------------------


def test_what_is_left_is_left_in_the_next_incarnation(machine):
    machine.change_quotas(per_second(0.1, 2))
    machine.submit_all("a", "b", "c")
    machine.end("a")
    machine.end("b")
    machine.after(4 * SEC)
    machine.restart()
    assert machine.reopen() == []
    assert machine.after(6 * SEC - 1) == []
    assert machine.after(1) == ["c"]


def test_a_snapshot_has_what_is_left():
    def before(machine):
        machine.change_quotas(per_second(0.1, 2))
        machine.submit_all("a", "b", "c")
        machine.end("a")
        machine.after(3 * SEC)

    def after(machine):
        machine.after(8 * SEC)
        machine.change_quotas(per_second(1))

    _, state, _ = with_snapshot(before, after, keep_finished=0)
    assert state["rates"] == [["type", "call", 2 * TOKEN, SEC]]
