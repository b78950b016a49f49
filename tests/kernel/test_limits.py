"""A limit that the kernel does not name is asked, taken, given back and explained."""

import pytest
from tests.kernel.harness import Machine, Policies, S

from taskorch.kernel import shortages
from taskorch.kernel._queue import add_limit, wait_at
from taskorch.kernel._rows import LIMIT, PoolRow, Shortage, StartLimit
from taskorch.model import Agent, Quota

SEATS = f"{LIMIT}seats"


class Seats(StartLimit):
    """Two seats, and each task of a type "seated" takes one."""

    def __init__(self, kernel):
        self.pool = kernel.beside[SEATS] = PoolRow(SEATS, 2)
        self.told = []

    def concerns(self, bucket):
        return bucket.spec.type == "seated"

    def must_wait(self, kernel, bucket, row, now):
        if self.pool.used < self.pool.total:
            return False
        wait_at(kernel, bucket, row, self.pool, 1)
        return True

    def shortages(self, kernel, row, now):
        free = self.pool.total - self.pool.used
        return [Shortage("too little", SEATS, 1, free)] if free < 1 else []

    def begins(self, kernel, row):
        return ((SEATS, 1),)

    def ends(self, kernel, row, alloc, cause):
        self.told.append((row.id, "ends", cause))

    def stays(self, kernel, row, attempt):
        self.told.append((row.id, "stays", attempt))

    def goes_on(self, kernel, row, attempt):
        self.told.append((row.id, "goes on", attempt))

    def leaves(self, kernel, bucket, taken):
        return taken.get(SEATS, 0) < self.pool.total


@pytest.fixture
def machine():
    machine = Machine(concurrency=8, policies=Policies())
    machine.limit = Seats(machine.kernel)
    add_limit(machine.kernel, machine.limit)
    return machine


def seated(machine, *names):
    return machine.submit_all(*names, type="seated")


def test_no_more_start_than_there_is_room_for(machine):
    assert seated(machine, *"abcd") == ["a", "b"]
    assert machine.submit_all("other") == ["other"]
    assert machine.end("b") == ["c"]
    assert machine.limit.pool.used == 2
    assert machine.end("a") == ["d"]
    machine.end("c")
    machine.end("d")
    assert machine.limit.pool.used == 0
    ends = [told for told in machine.limit.told if told[1] == "ends"]
    assert ends == [(name, "ends", "") for name in "bacd"]


def test_what_is_short_is_known_and_costs_others_nothing(machine):
    seated(machine, *"abc")
    machine.submit("other")
    [short] = shortages(machine.kernel, machine.row("c"), machine.now)
    assert (short.name, short.missing) == (SEATS, 1)
    assert not machine.row("other").bucket.limits
    machine.end("other")
    assert machine.limit.told == []


@pytest.mark.parametrize("how", ["cancel", "fail", "retry", "leak"])
def test_it_comes_back_however_an_attempt_ends(machine, how):
    machine.policies.delays = {"a": [1] if how == "retry" else []}
    seated(machine, *"abc")
    row = machine.row("a")
    if how in ("cancel", "leak"):
        machine.kernel.cancel(row, machine.now, "")
        if how == "leak":
            machine.kernel.give_up(row, machine.now)
            assert machine.settle() == []
            assert ("a", "stays", 1) in machine.limit.told
    assert machine.end("a", "failed") == ["c"]
    assert [told[:2] for told in machine.limit.told].count(("a", "ends")) == 1
    assert machine.limit.pool.used == 2


def test_who_waits_for_another_keeps_what_it_has(machine):
    seated(machine, *"abc")
    machine.kernel.yield_slot(machine.row("a"), 1, machine.now)
    assert machine.settle() == []
    assert machine.kernel.reclaim_slot(machine.row("a"), 1, machine.now)
    assert machine.limit.told == [("a", "stays", 1), ("a", "goes on", 1)]
    assert machine.end("b") == ["c"]


def test_one_that_is_added_late_is_asked_of_those_that_wait():
    machine = Machine(concurrency=1)
    assert seated(machine, *"abcd") == ["a"]
    assert machine.end("a") == ["b"]
    # Where it goes to is known by now.
    assert machine.row("c").bucket.route is not None
    limit = Seats(machine.kernel)
    limit.pool.total = 0
    add_limit(machine.kernel, limit)
    assert machine.end("b") == []
    assert machine.row("c").state is S.QUEUED
    limit.pool.total = 2
    machine.kernel.add_agent(Agent("new"), machine.now)
    assert machine.submit_all("other") == ["c"]


def test_the_latest_is_asked_first(machine):
    later = Seats(machine.kernel)
    add_limit(machine.kernel, later)
    machine.submit("a", type="seated")
    assert machine.row("a").bucket.limits == (later, machine.limit)


def test_what_passes_by_itself_is_named_first():
    """However late the other limit came: it is asked at another moment."""
    machine = Machine(concurrency=8)
    machine.change_quotas(Quota(type="seated", starts_per_second=1, burst=1))
    limit = Seats(machine.kernel)
    limit.pool.total = 1
    add_limit(machine.kernel, limit)
    assert seated(machine, "a", "b") == ["a"]
    kinds = [s.kind for s in shortages(machine.kernel, machine.row("b"), machine.now)]
    assert kinds == ["rate", "too little"]


def test_where_a_quota_changes_other_limits_are_not_asked_whom_they_concern(machine):
    seated(machine, "a")
    machine.limit.concerns = None
    machine.change_quotas(Quota(type="seated", starts_per_second=1, burst=1))
    assert machine.end("a") == []
    assert seated(machine, "b", "c") == ["b"]
    assert machine.change_quotas(Quota(type="seated")) == ["c"]
    # Its end is that of a task without a rate again.
    assert machine.row("c").bucket.limits == (machine.limit,)
