"""What keeps a task from starting, and what would help: values and words."""

from collections.abc import Iterator
from typing import Any

import pytest
from tests.kernel.harness import SEC, Machine, Policies, S

from taskorch.kernel import Spec, TaskRow, explain
from taskorch.kernel._explain import _holders as holders
from taskorch.model import Blocker, Explanation, Resources

RIGID = pytest.mark.parametrize("rigid", [False, True])


def whole(machine: Machine, name: str) -> Explanation:
    return explain(machine.kernel, machine.row(name), machine.now, whole=True)


def only(told: Explanation) -> Blocker:
    (blocker,) = told.blockers
    return blocker


def words(blocker: Blocker) -> list[str]:
    return [str(remedy) for remedy in blocker.remedies]


def test_attempts_that_wait_to_go_on_come_first() -> None:
    """They take slots of the orchestrator, and of their agents."""
    machine = Machine(concurrency=2)
    machine.agent("a", "x", "one", max_concurrency=1)
    machine.agent("b", "x", "two", max_concurrency=1)
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
    """Agents and pools that will never have enough, and what is taken besides."""
    pools = Resources(cpu=4)
    machine = Machine(pools=pools, policies=Policies(rigid=rigid), refuse_unknown=False)
    machine.submit("holds", resources=Resources(cpu=3))
    machine.agent("a", "x", capacity=Resources(cpu=2, gpu=1))
    machine.submit("local", resources=Resources(cpu=4))
    machine.submit("t", requires=("x",), resources=Resources(cpu=2))
    kernel = machine.kernel
    kernel.pools["cpu"].total = 3_000_000
    small = kernel.agents["a"]
    small.capacity = {"cpu": 1_000_000, "gpu": 1_000_000}
    kernel.agents_version += 1
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


def test_the_request_of_an_agent_is_short() -> None:
    """What is not the same for all agents counts for one of them."""
    machine = Machine(pools=Resources(cpu=4), policies=Policies(rigid=True))
    machine.submit("holds", resources=Resources(cpu=3))
    machine.agent("a", "x", request=Resources(cpu=2))
    machine.submit("t", requires=("x",))
    blocker = only(machine.why("t"))
    assert (blocker.kind, blocker.agent, blocker.need) == ("resource", "a", 2)


def test_work_that_would_not_stop_holds_on_to_its_own_agent_only() -> None:
    """Of another agent it holds neither a slot nor a resource; others are looked for."""
    machine = Machine()
    for name in ("a", "b"):
        cpu = {"capacity": Resources(cpu=1)}
        machine.agent(name, name, max_concurrency=1, **cpu)
    for task_id, agent in (("on-a", "a"), ("on-b", "b")):
        machine.submit(task_id, requires=(agent,), resources=Resources(cpu=1))
    machine.cancel("on-a")
    machine.after(11 * SEC)
    assert machine.kernel.leaked
    kernel = machine.kernel
    told = holders.Holders(kernel)
    agents = [kernel.agents[name] for name in ("a", "b")]
    stuck = "on-a (attempt 1, which would not stop)"
    unit = Resources(cpu=1).units[0][1]
    assert [told.of(None, 1, agent) for agent in agents] == [
        [(stuck, 1)],
        [("on-b", 1)],
    ]
    assert [told.of("cpu", unit, agent) for agent in agents] == [
        [(stuck, unit)],
        [("on-b", unit)],
    ]
    assert [name for name, _ in told.of(None, 2)] == ["on-b", stuck]


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
    machine.policies.refuses = lambda row, agent: "never on a Monday"
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
    """And not one more: of slots, of a pool, and of an agent's own."""
    monkeypatch.setattr(holders, "NAMED", named)
    pools = Resources(cpu=12)
    machine = Machine(pools=pools, policies=Policies(rigid=True))
    agent = machine.agent("a", "x", capacity=Resources(gpu=6))
    each = {"requires": ("x",), "resources": Resources(cpu=2, gpu=1)}
    machine.submit_all(*"abcdef", **each)
    many = min(6, max(named, need))
    told = holders.Holders(machine.kernel)
    unit = 1_000_000
    held = [(name, 1) for name in "abcdef"[:many]]
    assert told.of(None, need) == told.of(None, need, agent) == held
    held = [(name, unit) for name in "abcdef"[:many]]
    assert told.of("gpu", need * unit, agent) == held
    many = min(6, max(named, (need + 1) // 2))
    assert told.of("cpu", need * unit) == [(name, 2 * unit) for name in "abcdef"[:many]]
    assert told.of("memory", unit) == told.of("gpu", unit, machine.agent("b")) == []


def test_holders_of_every_kind_are_found_and_nothing_else_is_looked_at() -> None:
    """Those that run, wait inside or are stopped; the search ends with the last one."""
    machine = Machine(concurrency=9, pools=Resources(cpu=9))
    each = {"resources": Resources(cpu=1)}
    machine.submit("early", not_before=machine.now + SEC)
    machine.suspend("early")
    machine.submit_all("ended", "yields", "leaks", "held", **each)
    machine.submit("asked", priority=3, **each)
    machine.end("ended")
    machine.cancel("leaks")
    machine.after(11 * SEC)
    machine.kernel.yield_slot(machine.row("yields"), 1, machine.now)
    machine.suspend("held", holdable=True)
    machine.submit("last", **each)
    machine.kernel.paused = True
    machine.submit_all(*(f"queued-{number}" for number in range(50)))
    looked = machine.kernel.tasks = Looked(machine.kernel.tasks)
    told = holders.Holders(machine.kernel)
    assert [row.id for row in told.rows()] == ["yields", "held", "asked", "last"]
    assert looked.many <= 8
    leak = "leaks (attempt 1, which would not stop)"
    assert told.of(None, 9) == [(name, 1) for name in ("held", "asked", "last", leak)]
    unit = 1_000_000
    names = ("yields", "held", "asked", "last", leak)
    assert told.of("cpu", 9 * unit) == [(name, unit) for name in names]


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


@pytest.mark.parametrize("held", [1, 2, 3])
def test_how_many_ends_are_enough_in_words(held: int) -> None:
    """Of one, of two; and where two are needed, both are named."""
    machine = Machine(concurrency=3, pools=Resources(cpu=3))
    machine.policies.rigid = machine.kernel.rigid = True
    machine.submit_all("a", "b", "c", resources=Resources(cpu=1))
    machine.submit("t", resources=Resources(cpu=held))
    slot, cpu = machine.why("t").blockers
    assert words(slot)[0] == "It is enough that one of a, b and c ends."
    ends = {1: "a ends", 2: "a and b end", 3: "a, b and c end"}[held]
    assert words(cpu)[0] == f"It is enough that {ends}."
    assert (slot.need, slot.have, slot.remedies[0].amount) == (1, 0, 1)
    assert (cpu.need, cpu.have, cpu.remedies[0].amount) == (held, 0, held)
    assert cpu.remedies[0].tasks == tuple("abc"[:held])
    assert cpu.remedies[-1].amount == 3 + held


def test_slots_that_are_short_on_one_agent_come_first() -> None:
    """Before what else is short there, since they are of the orchestrator."""
    machine = Machine(concurrency=2)
    machine.agent("a", "x", max_concurrency=1)
    machine.agent("b", "x", "y", max_concurrency=1)
    machine.submit("t", requires=("x",))
    machine.kernel.yield_slot(machine.row("t"), 1, machine.now)
    machine.submit("u", requires=("x",))
    machine.submit("v", requires=("y",))
    machine.kernel.reclaim_slot(machine.row("t"), 1, machine.now)
    machine.submit("w", requires=("x",))
    told = [(b.kind, b.agent, b.need, b.have) for b in machine.why("w").blockers]
    agent = machine.agent_of("t")
    assert ("slot", agent, 1, 0) in told
    assert told.index(("slot", agent, 1, 0)) < told.index(("agent", agent, 1, 0))


@RIGID
def test_nobody_can_do_it_and_all_else_that_is_known_besides(rigid: bool) -> None:
    """No slot is free; a pool is too small, and another one has too little."""
    pools = Resources(cpu=4, gpu=4)
    machine = Machine(
        concurrency=1,
        pools=pools,
        policies=Policies(rigid=rigid),
        refuse_unknown=False,
    )
    machine.submit("holds", resources=Resources(gpu=3))
    machine.submit("t", requires=("x",), resources=Resources(cpu=5, gpu=2))
    told = [(b.kind, b.name) for b in machine.why("t").blockers]
    assert told[:2] == [("slot", "concurrency"), ("capability", "x")]
    short = [("resource", "cpu"), ("resource", "gpu")]
    assert told[2:] == (short if rigid else short[:1])
    assert machine.why("t").more_agents == 0


def test_what_is_too_small_for_all_is_told_once() -> None:
    """And by the agent that the allocator is to be asked about."""
    machine = Machine(pools=Resources(cpu=4), refuse_unknown=False)
    machine.submit("t", resources=Resources(cpu=4))
    machine.end("t")
    machine.kernel.pools["cpu"].total = 3_000_000
    machine.kernel.paused = True
    machine.kernel.submit("u", machine.row("t").bucket, None, machine.now)
    machine.kernel.paused = False
    machine.kernel.agents_version += 1
    told = [(b.kind, b.name, b.agent) for b in machine.why("u").blockers]
    assert told.count(("resource", "cpu", "local")) == 1
    assert ("resource", "cpu", "") not in told


def test_without_the_built_in_agent_nobody_can_do_a_plain_task() -> None:
    machine = Machine()
    machine.kernel.paused = True
    machine.submit("t")
    machine.kernel.paused = False
    machine.kernel.agents.clear()
    machine.kernel.agents_version += 1
    blocker = only(machine.why("t"))
    assert (blocker.kind, blocker.name) == ("capability", "")
    assert [*words(blocker)] == [
        "Add a worker of any kind, with any capabilities, by @orch.agent(…)."
    ]


def test_a_millionth_is_missing() -> None:
    """It is short of that, and the end of any one is enough."""
    pools = Resources(cpu=2)
    machine = Machine(pools=pools, policies=Policies(rigid=True))
    machine.submit_all("a", "b", resources=Resources(cpu=0.5))
    machine.submit("t", resources=Resources(cpu=1.000001))
    blocker = only(machine.why("t"))
    assert (blocker.need, blocker.have) == (1.000001, 1)
    assert words(blocker)[0] == "It is enough that a ends."
    machine.submit("fits", resources=Resources(cpu=1))
    assert machine.state("fits") is S.RUNNING


def test_who_has_ended_while_he_waited_for_his_slot_comes_first_no_more() -> None:
    machine = Machine(concurrency=2)
    machine.submit_all("waits", "also")
    kernel = machine.kernel
    kernel.yield_slot(machine.row("waits"), 1, machine.now)
    machine.submit("a")
    assert not kernel.reclaim_slot(machine.row("waits"), 1, machine.now)
    kernel.end_attempt(machine.row("waits"), 1, "completed", machine.now)
    assert machine.row("waits") in kernel.returning
    kernel.paused = True
    kernel.submit("t", machine.row("a").bucket, None, machine.now)
    kernel.paused = False
    slot = only(machine.why("t"))
    assert slot.holders == ("also", "a")
    assert slot.remedies[0].amount == 1


def test_what_can_start_has_no_agents_left_over() -> None:
    machine = Machine()
    machine.agent("a", "x", max_concurrency=1)
    machine.agent("b", "x", max_concurrency=1)
    machine.submit("t", requires=("x",))
    machine.kernel.paused = True
    machine.submit("u", requires=("x",))
    machine.kernel.paused = False
    told = machine.why("u")
    assert told.runnable
    assert told.more_agents == 0


def test_who_has_answered_for_all_that_are_alike_is_not_asked_again() -> None:
    machine = Machine(concurrency=1)
    machine.submit_all("t", "u")
    machine.policies.asked.clear()
    assert machine.kinds("u") == ["slot"]
    assert machine.policies.asked == []
    # Of others, nothing is known.
    machine.submit("v", type="other")
    machine.policies.asked.clear()
    assert machine.kinds("v") == ["slot"]
    assert machine.policies.asked == ["allocator"]


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


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_who_is_stopped_is_found_before_or_after_who_runs(order: str) -> None:
    machine = Machine(concurrency=2)
    machine.submit_all("a", "b")
    machine.suspend(order[0], holdable=True)
    machine.submit("t")
    assert only(machine.why("t")).holders == ("a", "b")
    # And where nothing runs but what has given its slot back.
    machine.kernel.yield_slot(machine.row(order[1]), 1, machine.now)
    machine.submit("u")
    assert [row.id for row in holders.Holders(machine.kernel).rows()] == ["a", "b", "t"]


def test_a_pool_that_is_too_small_would_still_be_in_use_were_it_large_enough() -> None:
    """It is asked with as much more as it is too small by, and no more than that."""
    machine = Machine(pools=Resources(cpu=3))
    machine.submit("holds", resources=Resources(cpu=1))
    machine.submit("large", type="large", resources=Resources(cpu=3))
    machine.change_pools(cpu=2)
    free = []

    def refuse(row: Any, agent: Any) -> None:
        pool = machine.kernel.pools["cpu"]
        free.append(pool.total - pool.used)

    machine.policies.refuses = refuse
    told = [blocker.detail for blocker in machine.why("large").blockers]
    assert told == [
        "It asks for 3 cpu, and the most there is, in the pool, is 2.",
        "It needs 3 cpu, and 2 of 3 is free.",
    ]
    # With what is too little on top, that it would refuse without.
    assert set(free) == {2_000_000, 3_000_000}
