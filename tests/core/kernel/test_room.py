"""Who has room: what a router is asked about, and what it costs to know."""

from contextlib import suppress
from random import Random
from time import process_time

from hypothesis import given, settings, strategies as st
from tests.core.kernel.harness import SEC, Machine, Policies, S

from taskorch.core.kernel import Spec, shut_out, wanted
from taskorch.errors import UsageError
from taskorch.model import Agent, Quota, Resources

KINDS = {
    "slots": {},
    "own capacity": {"capacity": Resources(disk=2)},
    "own request": {"request": Resources(cpu=1)},
    "both": {"capacity": Resources(disk=3), "request": Resources(disk=1, cpu=1)},
}
NEEDS = [
    Resources(),
    Resources(),
    Resources(disk=1),
    Resources(disk=2),
    Resources(cpu=1),
    Resources(cpu=2, disk=1),
]


def has_room(kernel, row, worker):
    """By the definition: a slot, and of all that the task takes, enough."""
    if worker.running >= worker.limit:
        return False
    return all(
        (name in worker.capacity or name in kernel.pools)
        and units <= (worker.free(name) if name in worker.capacity else units)
        and (
            name not in kernel.pools
            or units <= kernel.pools[name].total - kernel.pools[name].used
        )
        for name, units in wanted(row.bucket, worker)
    )


class Asked(Policies):
    """A router that is asked about exactly those who match and have room."""

    def __init__(self, dice):
        super().__init__(rigid=True)
        self.dice = dice
        self.backwards = dice.random() < 0.3
        self.knows = lambda row, worker: "x" in worker.info.capabilities

    def match(self, row, workers, now):
        names, reason, keeps = super().match(row, workers, now)
        return names[::-1] if self.backwards else names, reason, keeps

    def able(self, row):
        """By asking all workers: in the order of the registry."""
        kernel = self.kernel
        able = [
            worker
            for worker in kernel.workers.values()
            if "x" in worker.info.capabilities
            and not shut_out(worker, row.bucket.spec.requires)
            and has_room(kernel, row, worker)
        ]
        return able[::-1] if self.backwards else able

    def route(self, row, candidates, now):
        able = self.able(row)
        assert list(candidates) == able
        assert candidates.views == [worker.view for worker in able]
        assert len(candidates) == len(able)
        assert all(worker in candidates for worker in able)
        others = [
            worker for worker in self.kernel.workers.values() if worker not in able
        ]
        assert not any(worker in candidates for worker in others)
        return self.dice.choice(able), "drawn", False


@settings(deadline=None)
@given(
    st.integers(0, 2**32), st.sampled_from([list(KINDS), *([kind] for kind in KINDS)])
)
def test_a_router_is_asked_about_exactly_those_with_room(seed, kinds):
    """Whatever has begun, ended, come, gone, shrunk and been forgotten since."""
    dice = Random(seed)
    machine = Machine(
        policies=Asked(dice),
        pools=Resources(cpu=6),
        refuse_unknown=False,
        concurrency=99,
    )
    kernel = machine.kernel
    kernel.points = Forgetful(dice)
    for number in range(dice.randint(1, 8)):
        limit = dice.choice([1, 1, 2, None])
        machine.worker(
            f"a{number}", "x", max_concurrency=limit, **KINDS[dice.choice(kinds)]
        )
    for number in range(40):
        running = [row.id for row in kernel.tasks.values() if row.state is S.RUNNING]
        what = dice.random()
        if what < 0.5 or not running:
            # What nobody could ever have is refused.
            with suppress(UsageError):
                machine.submit(
                    f"t{number}",
                    type=dice.choice("pq"),
                    requires=("x",),
                    resources=dice.choice(NEEDS),
                    priority=dice.choice([0, 0, 1]),
                )
        elif what < 0.85:
            machine.end(dice.choice(running), dice.choice(["completed", "failed"]))
        elif what < 0.9:
            machine.change_pools(cpu=dice.randint(0, 6))
        elif what < 0.95:
            many = dice.choice([1, 3, 9])
            machine.change_quotas(Quota(type="p", max_parallel=many))
        else:
            machine.worker(
                f"n{number}", "x", max_concurrency=1, **KINDS[dice.choice(kinds)]
            )
            machine.settle()
        # And who waits is not asked about, since nobody has room.
        for bucket in kernel.parked:
            assert machine.policies.able(bucket.head()) == []


class Forgetful:
    """Forgets now and then what has moved."""

    def __init__(self, dice):
        self.dice = dice

    def hit(self, name):
        return name == "moved.forget" and self.dice.random() < 0.3


def test_what_an_attempt_gives_back_while_it_waits_is_known():
    """Its slot is a candidate's, and is taken again when it goes on."""
    machine = Machine()
    for name in "ab":
        machine.worker(name, "x", max_concurrency=1)
    machine.submit_all("t", "u", requires=("x",))
    assert machine.submit("v", requires=("x",)) == []
    kernel, row = machine.kernel, machine.row("t")
    kernel.yield_slot(row, row.attempt, machine.now)
    assert machine.settle() == ["v"]
    assert machine.worker_of("v") == "a"
    machine.end("v")
    # It is looked at while the slot is free, and again once that is taken.
    machine.policies.refuses = lambda row, worker: "not now"
    assert machine.submit("w", requires=("x",)) == []
    kernel.reclaim_slot(row, row.attempt, machine.now)
    machine.settle()
    machine.policies.refuses = lambda row, worker: None
    machine.submit("call")
    assert machine.end("call") == []
    assert machine.end("t") == ["w"]


def cost(workers, tasks=300):
    """Seconds of the processor for a start and an end among so many busy workers."""

    class First(Policies):
        def route(self, row, candidates, now):
            return candidates[0], "the first", False

    machine = Machine(policies=First(), listening=False, concurrency=2 * workers)
    kernel, now = machine.kernel, machine.now
    for number in range(workers):
        kernel.add_worker(Agent(f"a{number}", ("x",), max_concurrency=1), now)
    bucket = kernel.bucket(Spec("t", ("x",)))
    for number in range(workers):
        kernel.submit(f"r{number}", bucket, None, now)
    kernel.dispatch(now)
    running = kernel.starts[:]
    kernel.starts.clear()
    began = process_time()
    for number in range(tasks):
        kernel.submit(f"t{number}", bucket, None, now)
        kernel.dispatch(now)
        kernel.complete(running.pop(0), 1, now)
        kernel.dispatch(now)
        running += kernel.starts
        kernel.starts.clear()
    assert len(running) == workers
    return process_time() - began


def test_a_start_among_many_busy_workers_costs_what_it_costs_among_few():
    """Among a thousand it would take forty times as long, if all were asked."""
    few = min(cost(20) for _ in range(2))
    many = min(cost(1_000) for _ in range(2))
    assert many < 8 * few


def test_nobody_waits_for_a_worker_whose_slots_are_lost():
    """It would do better, and never has a slot again: the task goes where it fails."""
    machine = Machine(waits_for_better=True, grace_ns=SEC)
    machine.worker("good", "x", max_concurrency=1)
    machine.submit("done", requires=("x",))
    machine.end("done")
    machine.submit("stuck", requires=("x",))
    machine.worker("bad", "x", max_concurrency=1)
    for number in range(7):
        if machine.submit(f"t{number}", requires=("x",)):
            machine.fail(f"t{number}")
    waiting = machine.submit("last", requires=("x",))
    assert waiting == []
    machine.cancel("stuck")
    assert machine.after(2 * SEC)
    assert machine.kernel.workers["good"].leaked == 1
    assert machine.kernel.workers["bad"].running == 1
