"""Budgets: what is spent does not come back, and no two spend the same."""

from random import Random

import pytest
from tests.core.kernel.harness import Machine

from taskorch.core.kernel import (
    check_invariants,
    explain,
    row_extra,
)
from taskorch.errors import InternalError
from taskorch.events import TaskFailed, make
from taskorch.ext.budgets._kernel import (
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
    return [make(event) for event, _ in machine.sink if event[0] is cls]


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


def why(machine, task_id):
    return str(explain(machine.kernel, machine.row(task_id), machine.now))


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


@pytest.mark.slow("ten thousand runs")
def test_never_overspent_in_many_runs():
    for seed in range(10_000):
        run(seed, 12)


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
