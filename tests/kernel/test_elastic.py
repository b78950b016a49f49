"""Elastic requests in the kernel: what they wait for, and how their grants change."""

from __future__ import annotations

from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.kernel.commands import ChangePools
from tests.kernel.harness import SEC, Policies, S, Twin

from taskorch.errors import UnsatisfiableError
from taskorch.events import (
    AllocationChanged,
    TaskOptionsChanged,
    TaskSubmitted,
)
from taskorch.kernel import AgentRow, TaskRow
from taskorch.model import Elastic, Elasticity, Fallback, Quota, Resources, Task, Units
from taskorch.policies import ProportionalAllocator
from taskorch.protocols import AllocationRequest, PoolView

MILLION = 1_000_000


class Sharing(Policies):
    """Policies whose allocator is the one that comes with the library."""

    def __init__(self, chunk: int = 1) -> None:
        super().__init__(rigid=True)
        self.allocator = ProportionalAllocator({"cpu": chunk})
        self.chunk = chunk * MILLION
        #: Tasks that were asked about.
        self.about: list[str] = []
        #: What is granted instead, by task.
        self.instead: dict[str, Units] = {}

    def least(self, request: Units, elastic: Elasticity) -> Units:
        named = dict(elastic[0])
        found = []
        for name, units in request:
            chunks = max(1, -(-named.get(name, 0) // self.chunk))
            found.append((name, min(units, chunks * self.chunk)))
        return tuple(pair for pair in found if pair[0] == "cpu")

    def allocate(
        self,
        row: TaskRow,
        agent: AgentRow,
        request: Units,
        now: int,
        least: Units | None = None,
        held: Units | None = None,
    ) -> tuple[Units | None, str, bool]:
        self._ask("allocator")
        self.about.append(row.id)
        if row.id in self.instead:
            return self.instead[row.id], "instead", False
        weight, fallback = 1.0, "best_effort"
        if row.bucket.spec.elastic is not None:
            weight, fallback = (
                row.bucket.spec.elastic[1] / 1e6,
                row.bucket.spec.elastic[2],
            )
        question = AllocationRequest(
            Task("t"),
            agent.view,
            Resources.from_units(request),
            None if least is None else Resources.from_units(least),
            weight,
            cast("Fallback", fallback),
            None if held is None else Resources.from_units(held),
        )
        pools: dict[str, PoolView] = {n: p.view for n, p in self.kernel.pools.items()}
        answer = self.allocator.allocate(question, pools, self.kernel.context)
        granted = answer.granted
        return None if granted is None else granted.units, answer.reason, False


def machine_of(cpu=16, chunk=1, **options):
    return Twin(pools=Resources(cpu=cpu, gpu=4), policies=Sharing(chunk), **options)


def cpus(machine):
    """The cpus that each task holds that runs."""
    return {
        name: Resources.from_units(machine.row(name).alloc)["cpu"]
        for name in machine.running()
    }


def all_at_checkpoints(machine):
    """All that run are at one: from now on they learn what they hold."""
    for name in machine.running():
        machine.checkpoint(name)


def elastic(cpu=16, least=None, **options):
    return Elastic(
        {"cpu": cpu}, min=None if least is None else {"cpu": least}, **options
    )


def test_why_it_holds_what_it_holds_is_told_while_it_runs():
    """How much it was is known of none that has ended."""
    machine = machine_of(cpu=8)
    machine.submit("half", resources=elastic(16))
    told = machine.why("half").granted
    assert told == "It holds 8 cpu: of 16 cpu, that is what was granted."
    machine.end("half")
    assert machine.why("half").granted == ""


# -- waiting ------------------------------------------------------------------------


def test_it_waits_for_its_least_and_the_first_is_woken():
    """A rigid one holds all; what is then released wakes one, and asks about it only."""
    machine = machine_of()
    machine.submit("rigid", resources=Resources(cpu=16))
    machine.submit_all("a", "b", resources=elastic(8, 4))
    machine.submit("c", type="other", resources=elastic(8, 2))
    policies = machine.policies
    assert policies.about == ["rigid"]
    assert machine.kinds("a") == ["resource"]
    assert "It needs 4 cpu at the least, and 0 of 16 is free." in str(machine.why("a"))

    assert machine.end("rigid") == ["a", "b", "c"]
    assert cpus(machine) == {"a": 6, "b": 5, "c": 5}
    assert policies.about == ["rigid", "a", "b", "c"]


def test_a_release_asks_about_one_of_many_that_wait():
    machine = machine_of(cpu=4)
    for number in range(4):
        machine.submit(f"r{number}", resources=Resources(cpu=1))
    for number in range(30):
        machine.submit(f"e{number}", type=f"kind{number % 10}", resources=elastic(4))
    policies = machine.policies
    policies.about.clear()

    assert machine.end("r0") == ["e0"]
    assert policies.about == ["e0"]


def test_its_least_is_asked_for_once_for_all_that_are_alike():
    machine = machine_of()
    asked = []
    sizes = machine.policies.least

    def least(request, elasticity):
        asked.append(request)
        return sizes(request, elasticity)

    machine.policies.least = least
    for number in range(20):
        machine.submit(f"t{number}", resources=elastic(8))
    assert len(asked) == 1


def test_what_is_below_a_chunk_or_in_no_pool_is_whole():
    machine = machine_of(chunk=4)
    machine.agent("w", "x", capacity=Resources(cpu=8, licence=2))
    wants = Elastic(Resources(cpu=3, licence=2))
    machine.submit("a", requires=("x",), resources=wants)

    assert Resources.from_units(machine.row("a").alloc) == Resources(cpu=3, licence=2)
    machine.submit("b", requires=("x",), resources=wants)
    assert machine.why("b").blockers[0].resource == "licence"


def test_a_request_is_refused_whose_least_is_more_than_there_is():
    machine = machine_of(cpu=4)

    with pytest.raises(UnsatisfiableError, match="asks for 5 cpu, and the most"):
        machine.submit("a", resources=elastic(8, 5))
    machine.submit("b", resources=elastic(8, 4))
    assert cpus(machine) == {"b": 4}


def test_only_those_contend_that_have_slots():
    """Two slots: each of two has half, however many wait."""
    machine = machine_of(concurrency=2)
    machine.submit("hold", resources=Resources(cpu=16))
    for number in range(10):
        machine.submit(f"t{number}", resources=elastic())

    machine.end("hold")
    assert cpus(machine) == {"t0": 8, "t1": 8}


def test_only_those_contend_whose_agents_have_slots():
    machine = machine_of()
    machine.agent("w", "x", max_concurrency=1)
    machine.submit("hold", resources=Resources(cpu=16))
    for number in range(10):
        machine.submit(f"t{number}", requires=("x",), resources=elastic())
    machine.submit("u", resources=elastic())

    machine.end("hold")
    assert cpus(machine) == {"t0": 8, "u": 8}


def test_slots_go_to_kinds_in_turns():
    """Three slots are left, and two kinds wait: the first has two of them."""
    machine = machine_of(cpu=12, concurrency=4)
    machine.submit("hold", resources=Resources(cpu=12))
    machine.submit_all("a", "b", "c", resources=elastic(12))
    machine.submit("d", type="other", resources=elastic(12))
    found = machine.kernel.context.view.contenders()
    assert [(kind.waiting, kind.held) for kind in found] == [(2, ()), (1, ())]


@pytest.mark.parametrize(
    ("slots", "kinds", "found"),
    [
        (2, (2, 2, 2), [1, 1]),
        (3, (2, 2, 2), [1, 1, 1]),
        (20, (1, 1, 1, 6, 30), [1, 1, 1, 6, 11]),
        (20, (1, 2), [1, 2]),
    ],
)
def test_of_each_kind_as_many_contend_as_it_has_tasks(slots, kinds, found):
    machine = machine_of(concurrency=1 + slots)
    machine.submit("hold", resources=Resources(cpu=16))
    for number, many in enumerate(kinds):
        for task in range(many):
            kind = f"kind{number}"
            machine.submit(f"{kind}.{task}", type=kind, resources=elastic())
    waiting = [kind.waiting for kind in machine.kernel.context.view.contenders()]
    assert waiting == found


def test_the_first_in_order_contends_whichever_kind_came_first():
    machine = machine_of(concurrency=2)
    machine.submit("hold", resources=Resources(cpu=16))
    machine.submit("late", type="late", resources=elastic())
    machine.submit("urgent", type="urgent", resources=elastic(12), priority=1)
    (found,) = machine.kernel.context.view.contenders()
    assert found.resources == Resources(cpu=12)


def test_all_or_nothing_starts_with_its_whole_share():
    machine = machine_of()
    machine.submit("a", resources=elastic(16))
    machine.submit("b", resources=elastic(16, fallback="all_or_nothing"))
    machine.submit("r", resources=Resources(gpu=1))
    assert cpus(machine) == {"a": 16, "r": 0}
    machine.policies.grants = lambda row, request: request
    machine.checkpoint("a")
    assert cpus(machine) == {"a": 8, "b": 8, "r": 0}


def test_all_or_nothing_is_explained_where_its_least_is_free():
    machine = machine_of()
    machine.submit("r", resources=Resources(cpu=8))
    machine.submit("a", resources=elastic(16, 8))
    machine.submit("b", resources=elastic(16, 2, fallback="all_or_nothing"))
    machine.end("r")
    machine.checkpoint("a")
    assert set(cpus(machine)) == {"a", "b"}
    machine.submit("c", resources=elastic(16, 2, fallback="all_or_nothing", weight=3))
    text = str(machine.why("c"))
    assert "at the least" in text


# -- changes ------------------------------------------------------------------------


def test_a_grant_shrinks_at_a_checkpoint_and_those_who_wait_start():
    machine = machine_of()
    machine.submit("a", resources=elastic())
    machine.submit_all("b", "c", "d", resources=elastic())
    assert cpus(machine) == {"a": 16}

    assert machine.checkpoint("a") == ["b", "c", "d"]
    assert cpus(machine) == {"a": 4, "b": 4, "c": 4, "d": 4}
    ((task_id, attempt, before, after, reason),) = machine.told(AllocationChanged)
    assert (task_id, attempt) == ("a", 1)
    assert (dict(before), dict(after)) == ({"cpu": 16 * MILLION}, {"cpu": 4 * MILLION})
    assert reason == "4 of 16 cpu: 4 requests contend"


def test_what_a_grant_gives_back_of_an_agents_own_is_for_who_waits_there():
    """Of two agents with 16 of their own, one has some of it again."""
    machine = machine_of(cpu=32)
    for name in "ab":
        machine.agent(name, "x", capacity=Resources(cpu=16))
    spec = {"requires": ("x",)}
    machine.submit("grows", resources=elastic(16, 4), **spec)
    machine.submit("rigid", resources=Resources(cpu=16), **spec)
    assert machine.submit("waits", resources=elastic(16, 8), **spec) == []

    assert machine.checkpoint("grows") == ["waits"]
    assert machine.agent_of("grows") == machine.agent_of("waits") == "a"
    assert sum(cpus(machine).values()) == 32


def test_grants_grow_when_nobody_who_waits_could_use_it():
    machine = machine_of()
    machine.submit("hold", resources=Resources(cpu=16))
    machine.submit_all("a", "b", "c", resources=elastic())
    machine.end("hold")
    all_at_checkpoints(machine)
    assert cpus(machine) == {"a": 6, "b": 5, "c": 5}

    machine.effects.clear()
    machine.end("c")
    assert cpus(machine) == {"a": 8, "b": 8}
    # They are told, since they are at no checkpoint; who is at one asks by itself.
    told = [(effect.row.id, effect.attempt) for effect in machine.effects]
    assert told == [("a", 1), ("b", 1)]
    assert machine.effect_names() == ["TellAllocation"] * 2
    machine.effects.clear()
    machine.checkpoint("a")
    assert machine.effects == []
    machine.cancel("b")
    machine.end("b", "stopped")
    assert cpus(machine) == {"a": 16}


def test_one_who_waits_comes_before_one_who_runs():
    machine = machine_of()
    machine.submit("hold", resources=Resources(cpu=12))
    machine.submit("a", resources=elastic())
    machine.submit("r", resources=Resources(cpu=12))
    all_at_checkpoints(machine)
    assert cpus(machine) == {"hold": 12, "a": 4}

    assert machine.end("hold") == ["r"]
    assert cpus(machine) == {"a": 4, "r": 12}
    machine.end("r")
    assert cpus(machine) == {"a": 16}


def test_who_never_comes_to_a_checkpoint_keeps_what_it_began_with():
    """It would not give back what it got, and may not even know of it."""
    machine = machine_of()
    machine.submit("hold", resources=Resources(cpu=8))
    machine.submit_all("a", "b", resources=elastic())
    machine.checkpoint("a")
    machine.end("hold")
    assert cpus(machine) == {"a": 8, "b": 4}
    machine.end("a")
    assert cpus(machine) == {"b": 4}

    machine.checkpoint("b")
    assert cpus(machine) == {"b": 16}
    # With other options it is still the same attempt.
    machine.change("b", resources=elastic(12))
    assert list(machine.kernel.holders.values()) == [True]


def test_what_leaves_the_queue_leaves_its_part_to_the_others():
    """It waits for more than there is free, and so keeps the other from growing."""
    machine = machine_of()
    machine.submit("hold", resources=Resources(cpu=8))
    machine.submit("a", resources=elastic())
    machine.submit("b", resources=elastic(16, 8, fallback="all_or_nothing"))
    machine.end("hold")
    assert cpus(machine) == {"a": 8, "b": 8}
    machine.submit("c", resources=elastic(16, 4, weight=6))
    machine.checkpoint("a")
    assert cpus(machine)["a"] < 8
    machine.cancel("c")
    machine.end("c", "stopped")
    assert sum(cpus(machine).values()) == 16


def test_rigid_grants_never_change():
    machine = machine_of()
    machine.submit("r", resources=Resources(cpu=4))
    machine.submit("a", resources=elastic())
    machine.checkpoint("r")

    assert cpus(machine) == {"r": 4, "a": 12}
    assert machine.told(AllocationChanged) == []


def test_a_checkpoint_of_another_attempt_changes_nothing():
    machine = machine_of()
    machine.policies.delays["a"] = [0]
    machine.submit("a", resources=elastic())
    machine.fail("a")
    machine.submit("b", resources=elastic())
    machine.checkpoint("a", attempt=1)
    assert cpus(machine) == {"a": 16}

    machine.suspend("a", holdable=True)
    machine.checkpoint("a", attempt=2)
    assert machine.told(AllocationChanged) == []


def test_a_task_that_is_to_stop_does_not_grow():
    machine = machine_of()
    machine.submit("hold", resources=Resources(cpu=12))
    machine.submit("a", resources=elastic())
    machine.checkpoint("a")
    machine.cancel("a")
    machine.end("hold")

    assert machine.told(AllocationChanged) == []


def test_who_could_not_use_what_came_free_is_not_asked_about():
    machine = machine_of()
    machine.submit("gpu", resources=Resources(gpu=1))
    machine.submit("hold", resources=Resources(cpu=4))
    machine.submit("a", resources=elastic())
    machine.checkpoint("a")
    machine.policies.about.clear()
    machine.end("gpu")
    assert machine.policies.about == []
    machine.end("hold")
    assert machine.policies.about == ["a"]
    # Where nothing has come free, although there is some, nobody is.
    machine.policies.instead["a"] = Resources(cpu=2).units
    machine.checkpoint("a")
    machine.policies.about.clear()
    machine.submit("plain")
    assert machine.policies.about == ["plain"]


@pytest.mark.parametrize("kind", ["call", "other"])
def test_who_is_kept_by_how_many_may_run_at_once_takes_nothing_from_others(kind):
    machine = machine_of()
    machine.change_quotas(Quota(type="call", max_parallel=1))
    if kind == "other":
        machine.submit("runs")
    machine.submit("a", type=kind, resources=elastic())
    assert machine.submit("b", resources=elastic()) == []
    machine.checkpoint("a")
    assert cpus(machine)["a"] == 16
    # Once it may start, its part is there at the next checkpoint.
    if kind == "other":
        machine.end("runs")
        machine.checkpoint("a")
        assert cpus(machine) == {"a": 8, "b": 8}


def test_a_quota_of_what_it_does_not_ask_for_keeps_nobody():
    machine = machine_of()
    machine.change_quotas(Quota(type="call", resources={"gpu": 0}))
    machine.submit("a", type="other", resources=elastic())
    machine.submit("b", resources=elastic())
    machine.checkpoint("a")
    assert cpus(machine) == {"a": 8, "b": 8}


def test_a_task_that_is_suspended_does_not_grow():
    machine = machine_of(cpu=8)
    machine.submit("hold", resources=Resources(cpu=4))
    machine.submit("a", resources=elastic(8, 1))
    machine.checkpoint("a")
    held = machine.row("a").alloc
    machine.suspend("a", holdable=True)
    machine.end("hold")
    assert machine.row("a").alloc == held == Resources(cpu=4).units


def test_nothing_grows_while_nothing_may_start():
    machine = machine_of()
    machine.submit("hold", resources=Resources(cpu=12))
    machine.submit("a", resources=elastic())
    machine.checkpoint("a")
    machine.kernel.pause()
    machine.end("hold")
    assert cpus(machine) == {"a": 4}

    machine.kernel.unpause()
    machine.settle()
    assert cpus(machine) == {"a": 16}


def test_a_pool_that_grows_lets_grants_grow_and_one_that_shrinks_takes_nothing():
    machine = machine_of(cpu=8)
    machine.submit_all("a", "b", resources=elastic())
    all_at_checkpoints(machine)
    machine.checkpoint("b")
    assert cpus(machine) == {"a": 4, "b": 4}

    machine.do(ChangePools((("cpu", 12 * MILLION),)))
    assert cpus(machine) == {"a": 6, "b": 6}
    machine.do(ChangePools((("cpu", 6 * MILLION),)))
    assert cpus(machine) == {"a": 6, "b": 6}
    machine.checkpoint("a")
    assert cpus(machine) == {"a": 3, "b": 6}
    machine.checkpoint("b")
    assert cpus(machine) == {"a": 3, "b": 3}


def test_an_allocator_that_fails_leaves_a_running_task_what_it_has():
    machine = machine_of()
    machine.submit("a", resources=elastic())
    machine.policies.broken.add("allocator")
    machine.checkpoint("a")

    assert cpus(machine) == {"a": 16}
    assert machine.names()[-1] == "ComponentFailed"
    machine.policies.broken.clear()


def test_while_it_runs_only_more_counts():
    """An allocator that takes something back is heard at the next checkpoint."""
    machine = machine_of()
    machine.submit("hold", resources=Resources(cpu=8))
    machine.submit("a", resources=elastic(16, 4))
    # Since then it can be told.
    machine.checkpoint("a")
    instead = machine.policies.instead
    instead["a"] = (("cpu", 4 * MILLION),)
    asked = len(machine.policies.about)
    machine.end("hold")
    assert machine.policies.about[asked:] == ["a"]
    assert cpus(machine) == {"a": 8}
    machine.checkpoint("a")
    assert cpus(machine) == {"a": 4}
    instead["a"] = None
    machine.checkpoint("a")
    assert len(machine.told(AllocationChanged)) == 1


# -- options, facts, and other lives --------------------------------------------------


def test_the_facts_say_what_is_elastic():
    machine = machine_of()
    machine.submit("a", resources=elastic(8, 2, weight=3))
    machine.submit("b", resources=elastic(8), join="any", on_failure="run")
    machine.submit("c", resources=Resources(cpu=1))
    told = [fact for fact, _ in machine.sink if type(fact) is TaskSubmitted]

    assert [fact.join for fact in told] == ["all", "any", "all"]
    assert told[0].elastic == ((("cpu", 2 * MILLION),), 3 * MILLION, "best_effort")
    assert told[1].elastic is not None
    assert told[2].elastic is None
    # They are folded after every command: the tasks have their terms, and are elastic.
    shadow = machine.shadow
    assert [shadow.row(name).bucket.spec for name in "abc"] == [
        machine.row(name).bucket.spec for name in "abc"
    ]


def test_a_task_may_become_elastic_and_rigid_while_it_waits_and_while_it_runs():
    machine = machine_of()
    machine.submit("hold", resources=Resources(cpu=10))
    machine.submit("a", resources=Resources(cpu=8))
    assert machine.change("a", resources=elastic(8, 2)) == ["a"]
    assert cpus(machine) == {"hold": 10, "a": 6}
    assert machine.told(TaskOptionsChanged)[0][-1] == (
        (("cpu", 2 * MILLION),),
        MILLION,
        "best_effort",
    )
    machine.change("a", resources=Resources(cpu=8))
    machine.end("hold")
    # Rigid now: what it holds does not change any more.
    assert cpus(machine) == {"a": 6}
    assert not machine.kernel.holders
    machine.change("a", resources=elastic(8, 2))
    machine.checkpoint("a")
    assert cpus(machine) == {"a": 8}


def test_after_a_crash_shares_are_made_anew():
    """What ran begins again; the kinds are known from the facts alone."""
    machine = machine_of()
    machine.submit("a", resources=elastic())
    machine.submit("b", type="other", resources=elastic())
    machine.checkpoint("a")
    assert cpus(machine) == {"a": 8, "b": 8}

    machine.restart()
    assert not machine.kernel.holders
    machine.reopen()
    assert cpus(machine) == {"a": 8, "b": 8}


def test_what_would_not_stop_is_held_by_nobody_who_contends():
    machine = machine_of(grace_ns=SEC)
    machine.submit("a", resources=elastic())
    machine.submit("b", resources=elastic())
    machine.checkpoint("a")
    machine.cancel("a")
    machine.after(2 * SEC)
    assert machine.state("a") is S.CANCELLED
    assert list(machine.kernel.holders) == [machine.row("b")]
    assert cpus(machine) == {"b": 8}


def test_idle_kinds_are_forgotten():
    machine = machine_of()
    machine.submit("a", resources=elastic())
    machine.end("a")
    assert len(machine.kernel.elastic) == 1
    machine.kernel.most_buckets = 0
    machine.submit("b")
    assert len(machine.kernel.elastic) == 0
    machine.submit("c", resources=elastic())
    assert cpus(machine) == {"b": 0, "c": 16}


# -- at random ------------------------------------------------------------------------

REQUESTS = [
    elastic(16),
    elastic(8, 4, weight=3),
    elastic(7, 2),
    elastic(12, fallback="all_or_nothing"),
    elastic(1),
    Resources(cpu=3),
    Resources(gpu=1),
]
steps = st.lists(
    st.tuples(
        st.sampled_from(["submit", "submit", "end", "checkpoint", "cancel", "pools"]),
        st.integers(0, 30),
    ),
    max_size=40,
)


@given(steps, st.integers(1, 3))
def test_whatever_happens_grants_are_whole_chunks_and_nothing_is_idle(steps, chunk):
    """After every command all is counted again, and the facts are folded."""
    machine = machine_of(chunk=chunk, concurrency=6, keep_finished=3)
    number = 0
    for what, dice in steps:
        running = machine.running()
        if what == "submit":
            number += 1
            request = REQUESTS[dice % len(REQUESTS)]
            machine.submit(f"t{number}", resources=request)
        elif what == "pools":
            machine.do(ChangePools((("cpu", (12 + dice % 9) * MILLION),)))
        elif running:
            name = running[dice % len(running)]
            if what == "cancel":
                machine.cancel(name)
                machine.end(name, "stopped")
            else:
                (machine.end if what == "end" else machine.checkpoint)(name)
        check_grants(machine, chunk * MILLION)
    for _ in range(4):
        for name in machine.running():
            machine.checkpoint(name)
    check_rest(machine, chunk * MILLION)
    for name in machine.running():
        machine.end(name)
    # Nothing is forgotten: what waits is let start by what ends.
    while machine.running():
        machine.end(machine.running()[0])
    assert not machine.kernel.queued


def check_grants(machine, chunk):
    """What is held of an elastic request is a part of it: whole chunks, or all."""
    for row in machine.kernel.holders:
        asked, least = dict(row.bucket.spec.resources), dict(row.bucket.need)
        for name, units in row.alloc:
            assert least[name] <= units <= asked[name]
            assert units % chunk == 0 or units == asked[name]


def check_rest(machine, chunk):
    """Nobody who runs could use a chunk that nobody has, if nobody waits for it."""
    waits = [row for row in machine.kernel.tasks.values() if row.state is S.QUEUED]
    pool = machine.kernel.pools["cpu"]
    if waits or pool.total - pool.used < chunk:
        return
    for row in machine.kernel.holders:
        assert dict(row.alloc) == dict(row.bucket.spec.resources)
