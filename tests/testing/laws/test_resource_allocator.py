"""check_resource_allocator: right ones pass, and each planted mistake is named."""

from __future__ import annotations

from types import MappingProxyType

import pytest
from tests.testing.laws.tools import EXAMPLES, each, violation

from taskorch.model import Resources, Task
from taskorch.policies import ProportionalAllocator
from taskorch.protocols import Allocation, ResourceAllocator
from taskorch.testing.laws import check_resource_allocator
from taskorch.testing.laws._case import laws_of


class Right:
    """All that is asked for, where it is free."""

    def allocate(self, request, pools, context):
        fits = all(
            self.has(pools[name], need) for name, need in request.resources.items()
        )
        return Allocation(self.grant(request) if fits else None, "so")

    def has(self, pool, need):
        return need <= pool.free

    def grant(self, request):
        return request.resources


class Rigid(Right):
    rigid = True


class Halves(Right):
    """Half of it, if not a whole is needed."""

    def grant(self, request):
        half = {name: units // 2 for name, units in request.resources.units}
        return Resources.from_units(tuple((n, u) for n, u in sorted(half.items()) if u))


class TakesTurns(Right):
    """Grants at the third time only."""

    def __init__(self):
        self.asked = 0

    def allocate(self, request, pools, context):
        self.asked += 1
        if self.asked % 3:
            return Allocation(None, "others are first")
        return super().allocate(request, pools, context)


class WaitsAnHour(Right):
    def allocate(self, request, pools, context):
        # Another question may come from another time.
        self.start = min(getattr(self, "start", context.now), context.now)
        if context.now - self.start < 3_600:
            return Allocation(None, "in an hour")
        return super().allocate(request, pools, context)


class GrantsNumbers(Right):
    def grant(self, request):
        return dict(request.resources)


class SaysItIsRigid(Halves):
    rigid = True


class LooksAtTheTotal(Right):
    def has(self, pool, need):
        return need <= pool.total


class ForgetsThatLessThanNothingIsNothing(Right):
    def has(self, pool, need):
        return need <= abs(pool.free)


class GrantsMore(Right):
    def allocate(self, request, pools, context):
        cpu = pools["cpu"]
        if request.resources["cpu"] < cpu.free:
            return Allocation(Resources(cpu=cpu.free))
        return super().allocate(request, pools, context)


class KeepsAReserve(Right):
    def has(self, pool, need):
        return need <= pool.free / 2


class RefusesTheUrgent(Right):
    def allocate(self, request, pools, context):
        if request.task.priority > 5:
            return Allocation(None, "no")
        return super().allocate(request, pools, context)


class TakesPoolsAway(Right):
    def allocate(self, request, pools, context):
        answer = super().allocate(request, pools, context)
        pools.pop("gpu")
        return answer


class BooksIt(Right):
    def allocate(self, request, pools, context):
        answer = super().allocate(request, pools, context)
        if answer.granted is not None:
            for name, amount in answer.granted.items():
                pools[name].free -= amount
        return answer


# -- elastic requests -----------------------------------------------------------------


class Parts(Right):
    """Of an elastic request its least; of all others all."""

    chunks = MappingProxyType({"cpu": 1, "memory_mb": 256})

    def has(self, pool, need):
        return need <= max(0, pool.free)

    def grant(self, request):
        return request.resources if request.least is None else self.part(request)

    def part(self, request):
        return request.least


def InOtherPieces():
    return ProportionalAllocator({"cpu": 0.5, "gpu": 2, "licence": 0.000_001})


class GrantsNoneOfIt(Parts):
    def part(self, request):
        return Resources()


class GrantsOneMillionthMore(Parts):
    def part(self, request):
        asked = dict(request.resources.units)
        units = [(n, min(asked[n], u + 1)) for n, u in request.least.units]
        return Resources.from_units(tuple(units))


class GrantsSomethingElse(Parts):
    def part(self, request):
        return request.least + Resources(bandwidth_mbps=1)


class GrantsWhatOthersHold(Parts):
    def has(self, pool, need):
        return True


PLANTED = {
    0: (GrantsNumbers, SaysItIsRigid),
    1: (
        LooksAtTheTotal,
        ForgetsThatLessThanNothingIsNothing,
        GrantsWhatOthersHold,
    ),
    2: (GrantsMore, GrantsNoneOfIt),
    3: (KeepsAReserve, RefusesTheUrgent),
    4: (TakesPoolsAway, BooksIt),
    5: (GrantsOneMillionthMore,),
}


@EXAMPLES
@pytest.mark.parametrize(
    "made", [Right, Rigid, Halves, TakesTurns, WaitsAnHour, Parts, InOtherPieces]
)
def test_a_right_one_passes(made, examples):
    check_resource_allocator(made(), examples=examples)
    check_resource_allocator(made, seed=1, examples=examples // 4)


@pytest.mark.parametrize(("law", "made"), each(PLANTED))
def test_a_planted_mistake_is_named(law, made):
    assert violation(check_resource_allocator, made).law == law
    assert violation(check_resource_allocator, made()).law == law


def test_every_law_has_a_planted_mistake():
    assert set(laws_of(ResourceAllocator)) == set(PLANTED) - {0}


def test_there_is_a_pool_for_whatever_the_users_tasks_ask():
    seen = set()

    class Watching(Right):
        def allocate(self, request, pools, context):
            seen.update(pools)
            assert dict(context.view.pools()) == pools
            return super().allocate(request, pools, context)

    check_resource_allocator(Watching, tasks=[Task("x", resources=Resources(tape=2))])

    assert "tape" in seen


def test_a_part_has_nothing_that_was_not_asked_for():
    assert violation(check_resource_allocator, GrantsSomethingElse).law in (1, 2)
