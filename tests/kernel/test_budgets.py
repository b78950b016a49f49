"""Budgets: what is spent does not come back, and no two spend the same."""

from random import Random

import pytest
from tests.kernel.harness import SEC, Machine

from taskorch.errors import InternalError
from taskorch.events import BudgetExhausted, BudgetLow, TaskFailed, make
from taskorch.kernel import (
    Restoration,
    check_invariants,
    explain,
    row_extra,
    take_snapshot,
)
from taskorch.kernel._budgets import (
    change_budget,
    declare_budget,
    recall_spent,
    reserved_of,
)
from taskorch.model import Resources, TaskState

S = TaskState
MILLION = 1_000_000


@pytest.fixture
def machine():
    machine = Machine(concurrency=20)
    budget(machine, "release", tokens=100)
    return machine


def budget(machine, name, *, parent="", is_open=False, **amounts):
    units, kernel = Resources(**amounts).units, machine.kernel
    if name in kernel.budgets:
        change_budget(kernel, name, units, machine.now, is_open=is_open)
    else:
        declare_budget(kernel, name, units, parent, machine.now)
    return machine.settle()


def draw(machine, task_id, tokens=0, name="release", **options):
    spends = Resources(tokens=tokens).units if tokens else ()
    return machine.submit(task_id, budget=name, spends=spends, **options)


def spend(machine, task_id, attempt=1, **amounts):
    units = Resources(**amounts).units
    row = machine.row(task_id)
    return machine.kernel.spend(row, attempt, units, machine.now)


def state(machine, name="release", what="tokens"):
    """What is spent, and what is reserved beside."""
    row = machine.kernel.budgets[name]
    spent = row.spent[what]
    return spent / MILLION, (row.pools[what].used - spent) / MILLION


def told(machine, cls):
    return [make(fact) for fact, _ in machine.sink if fact[0] is cls]


@pytest.mark.parametrize(
    ("outcome", "spent"),
    [
        ("completed", 5),
        ("failed", 5),
        ("stopped", 5),
        ("lost", 20),
        ("unstarted", 5),
    ],
)
def test_an_attempt_that_is_cut_off_has_spent_what_it_reserved(machine, outcome, spent):
    draw(machine, "a", 20)
    spend(machine, "a", tokens=5)
    machine.policies.delays["a"] = []
    machine.end("a", outcome)
    row = machine.kernel.budgets["release"]
    assert row.spent["tokens"] / MILLION == spent


def test_what_would_not_stop_counts_until_it_ends(machine):
    draw(machine, "a", 20, timeout_ns=SEC)
    spend(machine, "a", tokens=5)
    machine.after(SEC)
    machine.after(60 * SEC)
    assert state(machine) == (5, 15)
    machine.end("a", attempt=1)
    assert state(machine) == (20, 0)


def test_tasks_that_reserve_nothing_wait_once_it_is_used_up(machine):
    assert draw(machine, "a") == ["a"]
    spend(machine, "a", tokens=100)
    assert draw(machine, "b") == []
    assert "Of budget 'release', 0 of 100 tokens are left" in why(machine, "b")
    assert budget(machine, "release", tokens=101) == ["b"]


def why(machine, task_id):
    return str(explain(machine.kernel, machine.row(task_id), machine.now))


def test_little_left_is_told_once(machine):
    for name in "abcd":
        draw(machine, name, 20)
        machine.end(name)
    draw(machine, "e", 5)
    machine.end("e")
    machine.settle()
    (low,) = told(machine, BudgetLow)
    assert (low.budget, low.resource) == ("release", "tokens")
    assert (low.spent, low.total) == (80 * MILLION, 100 * MILLION)
    budget(machine, "release", tokens=200)
    draw(machine, "f", 90)
    spend(machine, "f", tokens=80)
    machine.settle()
    assert len(told(machine, BudgetLow)) == 2


def test_people_are_asked_once_it_is_used_up(machine):
    draw(machine, "a", 80)
    draw(machine, "b", 30)
    # What is reserved may come back.
    assert told(machine, BudgetExhausted) == []
    machine.end("a")
    draw(machine, "c", 90)
    (asked,) = told(machine, BudgetExhausted)
    assert (asked.spent, asked.need, asked.number) == (80 * MILLION, 30 * MILLION, 1)
    assert budget(machine, "release", tokens=120) == ["b"]
    # For another one it is still too little.
    (_, again) = told(machine, BudgetExhausted)
    assert (again.total, again.need, again.number) == (120 * MILLION, 90 * MILLION, 2)
    machine.end("b")
    assert len(told(machine, BudgetExhausted)) == 2
    assert budget(machine, "release", is_open=True) == ["c"]
    machine.end("c")
    assert state(machine) == (200, 0)
    assert draw(machine, "d", 500) == ["d"]


def test_a_part_draws_on_the_whole(machine):
    budget(machine, "agents", parent="release", tokens=50, eur=1)
    budget(machine, "other", parent="agents", tokens=500)
    assert draw(machine, "a", 40, "agents") == ["a"]
    assert state(machine) == (0, 40)
    assert draw(machine, "b", 20, "agents") == []
    assert draw(machine, "c", 20, "other") == []
    assert draw(machine, "d", 60) == ["d"]
    spend(machine, "a", tokens=10)
    machine.end("a")
    assert machine.row("b").state is S.RUNNING
    assert state(machine) == (10, 80)
    # The parent stays, whatever is said later.
    units = Resources(tokens=60).units
    declare_budget(machine.kernel, "agents", units, "", machine.now)
    assert machine.kernel.budgets["agents"].parent == "release"
    assert machine.settle() == []


def test_what_was_raised_stays_raised_when_it_is_declared_again(machine):
    budget(machine, "release", tokens=150)
    units = Resources(tokens=100).units
    declare_budget(machine.kernel, "release", units, "", machine.now)
    assert draw(machine, "a", 150) == ["a"]
    declare_budget(machine.kernel, "release", units[:0], "", machine.now)
    units = Resources(tokens=90).units
    declare_budget(machine.kernel, "release", units, "", machine.now)
    assert draw(machine, "b", 1) == []


def test_it_is_the_same_after_a_restart(machine):
    draw(machine, "a", 20)
    draw(machine, "b", 20)
    spend(machine, "a", tokens=5)
    machine.end("b")
    budget(machine, "parts", parent="release", tokens=5)
    machine.restart()
    # What the attempt had reserved when it was cut off, counts.
    assert state(machine) == (40, 0)
    machine.reopen()
    assert state(machine) == (40, 20)


def test_a_snapshot_leads_to_the_same():
    machine = Machine(keep_finished=0)
    budget(machine, "release", tokens=100)
    draw(machine, "gone", 10)
    machine.end("gone")
    draw(machine, "a", 20)
    draw(machine, "b", 20)
    spend(machine, "a", tokens=5)
    machine.end("b")
    snapshot = take_snapshot(machine.kernel, machine.now)
    kernel = machine.folded(0)
    restoration = Restoration(kernel, snapshot)
    facts = [(fact, cargo) for fact, cargo in machine.sink]
    list(restoration.missing(fact for fact, _ in facts))
    for fact, cargo in facts:
        named = fact[0].__name__.startswith("Task") or fact[0].__name__ == "BudgetSpent"
        if named and fact.task_id in restoration.ids:
            restoration.fold(fact, cargo)
    restoration.finish()
    row = kernel.budgets["release"]
    assert row.spent == machine.kernel.budgets["release"].spent
    pool = machine.kernel.budgets["release"].pools["tokens"]
    assert row.pools["tokens"].used == pool.used


def test_more_of_it_is_asked_for_by_another_attempt(machine):
    draw(machine, "a", 20)
    machine.end("a")
    draw(machine, "b", 90)
    assert machine.change("b", spends=Resources(tokens=30).units) == ["b"]
    assert state(machine) == (20, 30)


def test_what_is_bent_is_noticed(machine):
    draw(machine, "a", 10)
    machine.kernel.budgets["release"].spent["tokens"] = 5
    with pytest.raises(InternalError, match="of tokens of release"):
        check_invariants(machine.kernel)


def run(seed, steps):
    """Random work: what is reserved and spent is never more than there is."""
    dice = Random(seed)
    machine = Machine(concurrency=5, listening=False)
    machine.policies.delays = {}
    total = dice.randint(50, 300)
    budget(machine, "all", tokens=total)
    budget(machine, "part", parent="all", tokens=dice.randint(20, 200))
    count = 0
    for _ in range(steps):
        what = dice.choice(
            ["submit", "submit", "spend", "end", "end", "lost", "cancel"]
        )
        running = [r for r in machine.kernel.tasks.values() if r.state is S.RUNNING]
        if what == "submit":
            count += 1
            draw(
                machine, f"t{count}", dice.randint(0, 40), dice.choice(["all", "part"])
            )
        elif running:
            row = dice.choice(running)
            left = dict(row.alloc).get("quota:budget=all:tokens", 0)
            if what == "spend":
                # It keeps to what it has reserved.
                units = (("tokens", dice.randint(0, left)),)
                machine.kernel.spend(row, row.attempt, units, machine.now)
            elif what == "cancel":
                machine.cancel(row.id)
            else:
                machine.end(row.id, "completed" if what == "end" else "lost")
        for name in ("all", "part"):
            pool = machine.kernel.budgets[name].pools["tokens"]
            assert (
                machine.kernel.budgets[name].spent["tokens"] <= pool.used <= pool.total
            )


@pytest.mark.parametrize("seed", range(5))
def test_never_overspent(seed):
    run(seed, 60)


@pytest.mark.slow("ten thousand runs")
def test_never_overspent_in_many_runs():
    for seed in range(10_000):
        run(seed, 12)


def test_that_it_is_low_is_said_once_until_there_is_more_or_less(machine):
    draw(machine, "a", 80)
    machine.end("a")
    budget(machine, "release", is_open=True)
    budget(machine, "release")
    assert len(told(machine, BudgetLow)) == 1
    budget(machine, "release", tokens=99)
    assert len(told(machine, BudgetLow)) == 2
    budget(machine, "release", tokens=200)
    assert not machine.kernel.budgets["release"].is_low


def test_what_is_still_reserved_is_known(machine):
    budget(machine, "part", parent="release", tokens=50)
    draw(machine, "a", 20, name="part")
    assert reserved_of(machine.row("a")) == Resources(tokens=20).units
    spend(machine, "a", tokens=15)
    assert reserved_of(machine.row("a")) == Resources(tokens=5).units
    spend(machine, "a", tokens=15)
    assert reserved_of(machine.row("a")) == ()
    machine.submit("free")
    assert reserved_of(machine.row("free")) is None


def test_who_keeps_a_task_out_is_who_does_not_give_back(machine):
    """If more is needed than there will be, people are asked: nobody keeps it out."""
    draw(machine, "a", 70)
    draw(machine, "b", 40)
    draw(machine, "c", 150)
    kernel, reserved = machine.kernel, dict(machine.row("a").alloc)
    buckets = [machine.row(task_id).bucket for task_id in "bc"]
    [limit] = buckets[0].limits
    assert [limit.leaves(kernel, each, reserved) for each in buckets] == [False, True]
    assert [limit.leaves(kernel, each, {}) for each in buckets] == [True, True]


@pytest.mark.parametrize("spent", [None, {}], ids=["none began", "one began"])
def test_an_attempt_that_never_began_spends_nothing_of_what_was_reserved(spent):
    """Nor is that counted for a task that only a journal has."""
    machine = Machine()
    machine.submit("t")
    row = machine.row("t")
    row.alloc = (("tokens", 5),)
    extra = row_extra(row)
    extra.spent = extra.paid = spent
    recall_spent(row, TaskFailed(9, 9, "t", 1, "local", "OSError", "gone", "gone"))
    assert extra.paid == spent
