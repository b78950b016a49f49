"""Units that have names, such as GPUs: who has which, and nobody has more than there is."""

import json
from random import Random
from typing import ClassVar

import pytest
from tests.core.kernel.harness import Machine, Policies, Twin
from tests.core.kernel.random_run import Run
from tests.house.tools.examples import seeds

from taskorch.core.kernel import (
    Again,
    Kernel,
    Restoration,
    check_invariants,
    differences,
    explain,
    fold,
    names_of,
    take_snapshot,
)
from taskorch.errors import InternalError, UnsatisfiableError
from taskorch.events import (
    AgentJoined,
    PoolsChanged,
    TaskStarted,
    make,
)
from taskorch.model import Elastic, NamedUnits, Resources

GPUS = ("0", "1", "2", "3")


def machine_of(*names, kind=Twin, **options):
    options.setdefault("policies", Policies(rigid=True))
    machine = kind(concurrency=50, pools=Resources(cpu=100), **options)
    machine.change_pools(gpu=NamedUnits(*names))
    return machine


def asks(machine, task_id, gpu, **options):
    return machine.submit(task_id, resources=Resources(gpu=gpu), **options)


def units(machine, task_id):
    """The names of the units that an attempt has."""
    return names_of(machine.kernel, machine.row(task_id).alloc).get("gpu", ())


def why(machine, task_id):
    return explain(machine.kernel, machine.row(task_id), machine.now)


def used(machine, worker=""):
    kernel = machine.kernel
    group = kernel.workers[worker].units["gpu"] if worker else kernel.pools["gpu"].units
    return {name: row.used / 1e6 for name, row in group.units.items()}


# -- who gets which --------------------------------------------------------------------


@pytest.mark.parametrize("much", [1.5, 2.5, 1.000001])
def test_neither_whole_nor_a_part_is_refused(much):
    m = machine_of(*GPUS)
    with pytest.raises(
        UnsatisfiableError, match="had whole, or one of them in part"
    ) as e:
        asks(m, "odd", much)
    assert "ask for whole gpu, or for less than 1" in str(e.value)
    with pytest.raises(UnsatisfiableError, match=r"most there is, in the pool, is 4"):
        asks(m, "five", 5)


def test_a_retry_keeps_what_can_be_had():
    m = machine_of("0", "1")
    m.policies.delays["a"] = [0]
    asks(m, "a", 1)
    spec = m.row("a").bucket.spec
    more = type(spec)(spec.type, resources=Resources(gpu=1.5).units)
    m.policies.chosen["a"] = Again(retry=True, reason="more", spec=more)
    assert m.fail("a") == ["a"]
    assert units(m, "a") == ("0",)
    assert "units are had whole, and not 1.5 gpu" in str(m.sink)


# -- the units change ------------------------------------------------------------------


def test_no_units_at_all_and_no_names_any_more():
    m = machine_of("0", "1")
    asks(m, "a", 1)
    m.kernel.pause()
    asks(m, "b", 1)
    m.kernel.unpause()
    m.settle()
    assert m.change_pools(gpu=NamedUnits()) == []
    m.kernel.pause()
    m.change_pools(gpu=NamedUnits("0", "1"))
    asks(m, "c", 1.0)
    m.change_pools(gpu=NamedUnits())
    m.kernel.unpause()
    assert m.settle() == []
    assert "the most there is, in the pool, is 0" in str(why(m, "c")) or True
    m.end("a")
    m.end("b")
    assert m.change_pools(gpu=1) == ["c"]
    assert units(m, "c") == ()
    assert not m.kernel.beside
    # Who began without a unit counts, and nobody knows where it is.
    assert m.change_pools(gpu=NamedUnits("0", "1")) == []
    assert asks(m, "d", 1) == ["d"]
    assert asks(m, "e", 1) == []
    assert m.end("c") == ["e"]


def test_the_same_again_is_no_change():
    m = machine_of("0", "1")
    before = len(m.sink)
    m.change_pools(gpu=NamedUnits("0", "1"))
    assert len(m.sink) == before
    m.change_pools(gpu=NamedUnits("1", "0"))
    assert len(m.sink) == before + 1


# -- workers with units of their own ---------------------------------------------------


def far(m, name, *names, **options):
    return m.worker(name, "x", capacity=Resources(gpu=NamedUnits(*names)), **options)


def test_a_worker_loses_a_unit():
    m = Twin(concurrency=50)
    worker = far(m, "one", "0", "1", lease=9.0)
    asks(m, "a", 1, requires=("x",))
    info = type(worker.info)(
        "one", ("x",), capacity=Resources(gpu=NamedUnits("1")), lease=9.0
    )
    m.kernel.add_worker(info, m.now, goes_on=True)
    m.mirror()
    assert (units(m, "a"), worker.capacity["gpu"]) == (("0",), 2_000_000)
    assert asks(m, "b", 1, requires=("x",)) == ["b"]
    assert units(m, "b") == ("1",)
    m.end("a")
    assert worker.capacity["gpu"] == 1_000_000
    assert asks(m, "c", 1, requires=("x",)) == []
    # It has started anew, with other units: what it had is lost.
    far(m, "one", "a", "b", lease=9.0)
    m.settle()
    assert (units(m, "b"), units(m, "c")) == (("a",), ("b",))
    m.worker("one", "x", lease=9.0)
    assert not worker.units


# -- with the other parts --------------------------------------------------------------


def test_an_allocator_that_grants_what_no_unit_has_is_asked_again():
    m = machine_of("0", "1", policies=Policies(rigid=False))
    asks(m, "a", 0.6)
    asks(m, "b", 0.6)
    assert asks(m, "c", 0.5) == []
    assert "no unit has so much free: 0 has 0.4 and 1 has 0.4" in str(why(m, "c"))
    assert m.end("a") == ["c"]
    # One that is content with 1.5 of 2.
    m.policies.grants = lambda row, request: tuple(
        (name, min(n, 1_500_000)) for name, n in request
    )
    m.end("b")
    m.end("c")
    assert asks(m, "d", 2) == []
    assert "no unit has as much free as it would grant" in str(why(m, "d"))
    m.policies.grants = lambda row, request: request
    assert asks(m, "other", 0.1) == ["other"]
    assert m.end("other") == ["d"]


def test_an_elastic_request_keeps_its_units():
    m = machine_of("0", "1", "2")
    allocate = m.policies.allocate
    granted = {"gpu": 2_000_000, "cpu": 4_000_000}

    def grant(row, worker, request, now, least=None, held=None):
        if least is None:
            return allocate(row, worker, request, now)
        return tuple((n, min(granted[n], u)) for n, u in request), "its share", False

    m.policies.allocate = grant
    wanted = Elastic(Resources(gpu=3, cpu=8), min={"gpu": 1, "cpu": 1})
    m.policies.least = lambda request, elastic: elastic[0]
    m.submit("e", resources=wanted)
    assert units(m, "e") == ("0", "1")
    granted.update(gpu=1_000_000, cpu=2_000_000)
    m.checkpoint("e")
    assert units(m, "e") == ("0", "1")
    assert dict(m.row("e").alloc)["cpu"] == 2_000_000
    assert dict(m.row("e").alloc)["gpu"] == 2_000_000
    m.end("e")
    assert used(m) == {"0": 0, "1": 0, "2": 0}


def granting(machine, much):
    """*machine* grants elastic requests so much, or all if that is less."""
    allocate = machine.policies.allocate

    def grant(row, worker, request, now, least=None, held=None):
        if least is None:
            return allocate(row, worker, request, now)
        units = int(much * 1_000_000)
        return tuple((n, min(units, u)) for n, u in request), "its share", False

    machine.policies.allocate = grant
    machine.policies.least = lambda request, elastic: elastic[0]


@pytest.mark.parametrize(
    ("fallback", "granted", "held"),
    [
        # Nobody can have one and a half.
        ("best_effort", 1.5, ("0",)),
        ("all_or_nothing", 1.5, ("0",)),
        ("best_effort", 2, ("0", "1")),
        # Of the third, 0.7 is free.
        ("best_effort", 2.7, ("0", "1")),
        ("best_effort", 3, ("0", "1")),
        ("all_or_nothing", 3, ()),
    ],
)
@pytest.mark.parametrize("rigid", [True, False])
def test_an_elastic_request_gets_what_units_can_give(rigid, fallback, granted, held):
    m = machine_of("2", "0", "1", policies=Policies(rigid=rigid))
    asks(m, "crumb", 0.3)
    granting(m, granted)
    part = Elastic(Resources(gpu=3), min={"gpu": 0.5}, fallback=fallback)
    assert m.submit("e", resources=part) == (["e"] if held else [])
    assert units(m, "e") == held
    if not held:
        assert "no unit has as much free as it would grant" in str(why(m, "e"))
        assert m.end("crumb") == ["e"]


@pytest.mark.parametrize("rigid", [True, False])
def test_where_no_unit_is_whole_a_part_will_do_but_not_less_than_the_least(rigid):
    m = machine_of("0", "1", "2", policies=Policies(rigid=rigid))
    for name in "abc":
        asks(m, name, 0.6)
    granting(m, 1)
    small, large = (Elastic(Resources(gpu=2), min={"gpu": n}) for n in (0.25, 0.5))
    assert m.submit("large", resources=large) == []
    assert "needs 0.5 gpu at the least, and no unit has so much" in str(why(m, "large"))
    assert m.submit("small", resources=small) == ["small"]
    assert dict(m.row("small").alloc)["gpu"] == 400_000
    assert m.end("b") == ["large"]
    assert (units(m, "large"), used(m)["1"]) == (("1",), 1)


# -- after a restart -------------------------------------------------------------------


def restored(m, kernel_class=Kernel):
    """A kernel as a snapshot and the events of its tasks lead to it."""
    state = json.loads(json.dumps(take_snapshot(m.kernel, m.now)))
    kernel = kernel_class(m.kernel.config, Policies(), Random(0))
    way = Restoration(kernel, state)
    events = [(make(event), cargo) for event, cargo in m.sink]
    while way.missing([event for event, _ in events]):
        pass
    for event, cargo in events:
        if getattr(event, "task_id", None) in way.ids:
            way.fold(event, cargo)
    way.finish()
    return kernel


def test_a_snapshot_has_names_and_holders():
    m = machine_of("0", "1", "2", kind=Machine)
    far(m, "one", "a", "b")
    asks(m, "gone", 1)
    asks(m, "a", 0.5)
    asks(m, "b", 1, requires=("x",))
    m.allocate("h", gpu=0.4)
    m.change_pools(gpu=NamedUnits("1", "2"))
    kernel = restored(m)
    assert differences(m.kernel, kernel) == []
    check_invariants(kernel)
    row = kernel.tasks["gone"]
    assert names_of(kernel, row.alloc) == {"gpu": ("0",)}
    assert kernel.pools["gpu"].total == 3_000_000


def test_events_without_names_are_read():
    m = Machine(pools=Resources(gpu=2))
    asks(m, "a", 1)
    kernel = Kernel(m.kernel.config, Policies(), Random(0), m.pools)
    for event, cargo in m.sink:
        kind = event[0]
        # As they were before.
        short = event[:-1] if kind in (TaskStarted, PoolsChanged) else event
        fold(kernel, make(tuple(short)) if kind is not AgentJoined else event, cargo)
    assert differences(m.kernel, kernel) == []


def test_a_breach_is_seen():
    m = machine_of("0", "1", kind=Machine)
    asks(m, "a", 1)
    asks(m, "b", 0.5)
    m.kernel.pools["gpu"].units.units["0"].used = 500_000
    with pytest.raises(InternalError, match="1000000 is held, not 500000"):
        check_invariants(m.kernel)
    m.kernel.pools["gpu"].units.units["0"].used = 1_000_000
    m.kernel.pools["gpu"].total += 1
    with pytest.raises(InternalError, match="gpu: 2000001, and 2000000"):
        check_invariants(m.kernel)
    m.kernel.pools["gpu"].total -= 1
    unit = m.kernel.pools["gpu"].units.units.pop("1")
    with pytest.raises(InternalError, match="has a total of 1000000: there, False"):
        check_invariants(m.kernel)
    del m.kernel.beside[unit.name]
    with pytest.raises(InternalError, match="is held, and of all"):
        check_invariants(m.kernel)


# -- laws ------------------------------------------------------------------------------


class UnitsRun(Run):
    """All that can happen, with GPUs that have names and come and go."""

    resources = (
        Resources(),
        Resources(cpu=1),
        Resources(gpu=1),
        Resources(gpu=2),
        Resources(gpu=0.5),
        Resources(gpu=0.3, cpu=1),
        Resources(gpu=0.6),
        Resources(memory_mb=1, gpu=0.75),
    )

    last: ClassVar = {"cpu": 4, "gpu": NamedUnits(*GPUS), "memory_mb": 3}

    def __init__(self, dice, **options):
        super().__init__(dice, **options)
        self.machine.change_pools(gpu=NamedUnits(*GPUS[: dice.choice([1, 2, 3])]))
        own = Resources(gpu=NamedUnits("0", "1"))
        self.machine.worker("own", "x", "z", capacity=own, max_concurrency=4)

    def change_pools(self):
        dice = self.dice
        if dice.random() < 0.3:
            super().change_pools()
        else:
            names = dice.sample(GPUS, dice.choice([0, 1, 2, 2, 3, 4]))
            self.machine.change_pools(gpu=NamedUnits(*names))
        if dice.random() < 0.3:
            kernel, names = (
                self.machine.kernel,
                dice.sample(GPUS, dice.choice([0, 1, 2])),
            )
            info = kernel.workers["own"].info
            capacity = Resources(gpu=NamedUnits(*names))
            info = type(info)("own", info.capabilities, 4, capacity)
            kernel.add_worker(info, self.machine.now, goes_on=dice.random() < 0.7)
            check_invariants(kernel)
            self.machine.settle()


@pytest.mark.parametrize("backfills", [False, True])
@pytest.mark.parametrize("seed", seeds(3, 12))
def test_all_that_can_happen(seed, backfills):
    made = UnitsRun(
        Random(seed), ranks=False if backfills else None, backfills=backfills
    )
    for _ in range(60):
        made.step()
        made.check()
    made.finish()
    assert not any(row.used for row in made.machine.kernel.beside.values())
