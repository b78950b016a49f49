"""What keeps a task from starting, and what would help: values and words."""

from collections.abc import Iterator
from typing import Any

import pytest
from tests.core.kernel.harness import SEC, Machine, Policies

from taskorch.core.kernel import Spec, TaskRow, explain
from taskorch.core.kernel._explain import _holders as holders
from taskorch.model import Blocker, Explanation, Resources

RIGID = pytest.mark.parametrize("rigid", [False, True])


def only(told: Explanation) -> Blocker:
    (blocker,) = told.blockers
    return blocker


def words(blocker: Blocker) -> list[str]:
    return [str(remedy) for remedy in blocker.remedies]


def test_attempts_that_wait_to_go_on_come_first() -> None:
    """They take slots of the orchestrator, and of their workers."""
    machine = Machine(concurrency=2)
    machine.worker("a", "x", "one", max_concurrency=1)
    machine.worker("b", "x", "two", max_concurrency=1)
    machine.submit("t", requires=("one",))
    machine.submit("u", requires=("two",))
    kernel = machine.kernel
    for name in ("t", "u"):
        kernel.yield_slot(machine.row(name), 1, machine.now)
    kernel.paused = True
    machine.submit("w", requires=("x",))
    kernel.paused = False
    for name in ("t", "u", "t"):
        kernel.returning.append(machine.row(name))
    blockers = machine.why("w").blockers
    assert [(b.kind, b.agent) for b in blockers] == [
        ("slot", ""),
        ("agent", "a"),
        ("agent", "b"),
    ]
    assert blockers[0].detail == (
        "Attempts that wait to go on take all slots that are free."
    )
    assert words(blockers[0])[0] == "It is enough that one of t and u ends."
    assert blockers[1].detail == (
        "Attempts that wait to go on take the slots of worker a."
    )
    assert blockers[1].holders == ("t",)
    kernel.returning.clear()


@RIGID
def test_what_is_too_small(rigid: bool) -> None:
    """Workers and pools that will never have enough, and what is taken besides."""
    pools = Resources(cpu=4)
    machine = Machine(pools=pools, policies=Policies(rigid=rigid), refuse_unknown=False)
    machine.submit("holds", resources=Resources(cpu=3))
    machine.worker("a", "x", capacity=Resources(cpu=2, gpu=1))
    machine.submit("local", resources=Resources(cpu=4))
    machine.submit("t", requires=("x",), resources=Resources(cpu=2))
    kernel = machine.kernel
    kernel.pools["cpu"].total = 3_000_000
    small = kernel.workers["a"]
    small.capacity = {"cpu": 1_000_000, "gpu": 1_000_000}
    kernel.workers_version += 1
    first, *rest = machine.why("local").blockers
    assert (first.kind, first.need, first.have) == ("resource", 4, 3)
    assert words(first) == ["Let there be more: orch.resources.resize({'cpu': 4})."]
    if rigid:
        (second,) = rest
        assert second.detail == "It needs 4 cpu, and 1 of 4 is free."
        assert second.remedies[-1].amount == 7
    first = machine.why("t").blockers[0]
    assert (
        first.detail == "It asks for 2 cpu, and the most there is, on worker a, is 1."
    )
    (larger,) = first.remedies
    assert (larger.kind, larger.capabilities) == ("add_agent", ("x",))
    assert larger.resources == Resources(cpu=2)


def test_the_search_for_holders_ends_with_the_last_one() -> None:
    """What has leaked is no task that could be found: it is not looked for among all."""
    machine = Machine(concurrency=2)
    machine.submit_all("a", "b")
    machine.cancel("a")
    machine.after(11 * SEC)
    assert machine.kernel.leaked
    machine.submit_all(*(f"queued-{number}" for number in range(200)))
    looked = machine.kernel.tasks = Looked(machine.kernel.tasks)
    told = holders.Holders(machine.kernel)
    names = [name for name, _ in told.of(None, 2)]
    assert names == ["b", "a (attempt 1, which would not stop)"]
    assert looked.many < 10


class Looked(dict[str, TaskRow]):
    """Tasks, and how many of them somebody has looked at."""

    many = 0

    def values(self) -> Any:
        return self

    def __iter__(self) -> Iterator[Any]:
        return self._look(list(super().values()))

    def __reversed__(self) -> Iterator[Any]:
        return self._look(list(super().values())[::-1])

    def _look(self, rows: list[TaskRow]) -> Iterator[TaskRow]:
        for row in rows:
            self.many += 1
            yield row


def test_holders_that_are_too_far_to_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where not all were found, nobody says that their end is enough."""
    monkeypatch.setattr(holders, "REACH", 1)
    machine = Machine(
        concurrency=4, pools=Resources(cpu=3), policies=Policies(rigid=True)
    )
    machine.submit_all("a", "b", "c", resources=Resources(cpu=1))
    machine.submit("t", resources=Resources(cpu=3))
    blocker = only(machine.why("t"))
    assert blocker.holders == ("a",)
    assert [remedy.kind for remedy in blocker.remedies] == ["enlarge_pool"]


def test_an_allocator_that_is_asked_what_if() -> None:
    """Pools are named where it would grant it if there were more."""
    machine = Machine(pools=Resources(cpu=2, gpu=2))
    machine.submit("a", resources=Resources(cpu=2, gpu=1))
    machine.policies.grants = lambda row, request: tuple(
        pair for pair in request if pair[0] == "cpu"
    )
    machine.submit("t", resources=Resources(cpu=1, gpu=2))
    blocker = only(machine.why("t"))
    assert (blocker.kind, blocker.name) == ("resource", "cpu")
    machine.policies.refuses = lambda row, worker: "never on a Monday"
    blocker = only(machine.why("t"))
    assert blocker.detail == "The allocator puts it off: never on a Monday."
    assert [*words(blocker)] == [
        "The allocator must grant it; it is asked whenever something changes."
    ]


def test_nothing_starts_at_all() -> None:
    """The driver may know why, and better."""
    machine = Machine()
    machine.kernel.paused = True
    machine.submit("t")
    blocker = only(machine.why("t"))
    assert (blocker.kind, blocker.remedies[0].kind) == ("not_started", "start")
    paused = Blocker("journal", "No.")
    told = explain(machine.kernel, machine.row("t"), machine.now, paused=paused)
    assert told.blockers == (paused,)


def test_what_the_system_has_no_room_for() -> None:
    """To allow more attempts would not help."""
    machine = Machine(concurrency=4)
    machine.kernel.limit(1)
    machine.submit("a")
    machine.submit("b")
    blocker = only(machine.why("b"))
    assert blocker.kind == "slot"
    assert "room for 1 attempt at once, of 4" in blocker.detail
    assert [remedy.kind for remedy in blocker.remedies] == ["free"]


def test_many_holders() -> None:
    """A hundred are named."""
    machine = Machine(concurrency=120)
    for number in range(121):
        machine.kernel.submit(
            f"t{number}", machine.kernel.bucket(Spec("call")), None, machine.now
        )
    machine.settle()
    blocker = only(machine.why("t120"))
    assert len(blocker.holders) == 100
    assert words(blocker)[0] == (
        "It is enough that one of t0, t1, t2, t3, t4 and 95 more ends."
    )


@pytest.mark.parametrize("named", [2, 3, 4])
@pytest.mark.parametrize("need", [0, 1, 2, 3, 4, 5, 9])
def test_so_many_holders_as_are_named_and_are_enough(
    monkeypatch: pytest.MonkeyPatch, need: int, named: int
) -> None:
    """And not one more: of slots, of a pool, and of a worker's own."""
    monkeypatch.setattr(holders, "NAMED", named)
    pools = Resources(cpu=12)
    machine = Machine(pools=pools, policies=Policies(rigid=True))
    worker = machine.worker("a", "x", capacity=Resources(gpu=6))
    each = {"requires": ("x",), "resources": Resources(cpu=2, gpu=1)}
    machine.submit_all(*"abcdef", **each)
    many = min(6, max(named, need))
    told = holders.Holders(machine.kernel)
    unit = 1_000_000
    held = [(name, 1) for name in "abcdef"[:many]]
    assert told.of(None, need) == told.of(None, need, worker) == held
    held = [(name, unit) for name in "abcdef"[:many]]
    assert told.of("gpu", need * unit, worker) == held
    many = min(6, max(named, (need + 1) // 2))
    assert told.of("cpu", need * unit) == [(name, 2 * unit) for name in "abcdef"[:many]]
    assert told.of("memory", unit) == told.of("gpu", unit, machine.worker("b")) == []


@pytest.mark.parametrize("reach", [1, 2, 3, 4])
def test_holders_among_the_oldest_and_the_youngest(
    monkeypatch: pytest.MonkeyPatch, reach: int
) -> None:
    """Each once, although what is old may be young as well."""
    monkeypatch.setattr(holders, "REACH", reach)
    machine = Machine()
    machine.submit_all(*"abcde")
    names = [row.id for row in holders.Holders(machine.kernel).rows()]
    found = {1: "ae", 2: "abed", 3: "abced", 4: "abcde"}
    assert names == list(found[reach])


def test_what_can_start_has_no_workers_left_over() -> None:
    machine = Machine()
    machine.worker("a", "x", max_concurrency=1)
    machine.worker("b", "x", max_concurrency=1)
    machine.submit("t", requires=("x",))
    machine.kernel.paused = True
    machine.submit("u", requires=("x",))
    machine.kernel.paused = False
    told = machine.why("u")
    assert told.runnable
    assert told.more_agents == 0


def test_of_two_pools_that_are_short_the_one_that_counts_is_named() -> None:
    """The allocator is content without the others."""
    for counts in ("cpu", "gpu"):
        machine = Machine(pools=Resources(cpu=2, gpu=2))
        machine.submit("a", resources=Resources(cpu=2, gpu=2))
        machine.policies.grants = lambda row, request, counts=counts: tuple(
            pair for pair in request if pair[0] == counts
        )
        machine.submit("t", resources=Resources(cpu=1, gpu=1))
        assert only(machine.why("t")).name == counts
