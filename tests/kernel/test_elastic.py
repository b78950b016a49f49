"""Elastic requests in the kernel: what they wait for, and how their grants change."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st
from tests.kernel.commands import ChangePools
from tests.kernel.harness import S, Twin
from tests.kernel.sharing import MILLION, Sharing

from taskorch.events import (
    AllocationChanged,
    TaskSubmitted,
)
from taskorch.model import Elastic, Quota, Resources


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


def test_why_it_holds_less_by_now_is_told_until_it_holds_all_again():
    machine = machine_of(cpu=8)
    machine.submit_all("a", "b", resources=elastic(8))
    all_at_checkpoints(machine)
    assert cpus(machine) == {"a": 4, "b": 4}
    told = machine.why("a").granted
    why = "4 of 8 cpu: 2 requests contend"
    assert told == f"It holds 4 cpu: of 8 cpu, by the latest grant: {why}."
    machine.end("b")
    assert machine.why("a").granted == "It holds 8 cpu, as it asked for."


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


# -- changes ------------------------------------------------------------------------


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
