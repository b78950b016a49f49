"""What `explain` says; that it is what happens is a law, in test_laws.py."""

import re
from pathlib import Path

import pytest
from tests.kernel.harness import SEC, Machine, Policies, S

from taskorch.kernel import _explain
from taskorch.model import Blocker, Resources, _status


def test_every_kind_is_documented():
    """The kinds that `explain` produces are those in the documentation, all of them."""
    source = Path(_explain.__file__).read_text()
    made = set(re.findall(r'Blocker\(\s*"(\w+)"', source))
    made |= {"slot", "dependency"}
    text = Path(_status.__file__).read_text()
    documented = text[text.index("class Blocker") : text.index("kind: str")]
    assert made == set(re.findall(r"`(\w+)`", documented))
    assert Blocker("slot", "x").holders == ()


def test_a_runnable_task():
    """Nothing keeps it from starting but its turn."""
    machine = Machine()
    machine.kernel.paused = True
    machine.submit_all("a", "b")
    machine.kernel.paused = False
    told = machine.why("b")
    assert told.runnable
    assert (told.position, told.blockers) == (2, ())
    assert "number 2" in str(told)


def test_slots():
    """The slots of the orchestrator: how many, and who has them."""
    machine = Machine(concurrency=7)
    machine.submit_all(*"abcdefgh")
    (blocker,) = machine.why("h").blockers
    assert blocker.kind == "slot"
    assert blocker.holders == ("a", "b", "c", "d", "e")
    assert "concurrency=7" in blocker.detail


def test_running():
    """A task that runs is kept by nothing, and its agent has a reason."""
    machine = Machine()
    machine.submit("t")
    told = machine.why("t")
    assert told.blockers == ()
    assert not told.runnable
    assert told.position is None
    assert told.routed == "first of 1"


def test_ends():
    """What has ended says how."""
    machine = Machine()
    machine.submit_all("a", "b", "c")
    machine.end("a")
    machine.fail("b")
    machine.cancel("c")
    machine.end("c", "failed")
    assert [machine.kinds(name) for name in "abc"] == [["terminal"]] * 3
    assert "it is completed" in str(machine.why("a"))
    assert "It failed (error): ValueError: it went wrong." in str(machine.why("b"))
    assert "it is cancelled" in str(machine.why("c"))


def test_a_cancelled_task_that_had_failed_before():
    """An older failure is not the reason of its end."""
    machine = Machine()
    machine.policies.delays["t"] = [SEC]
    machine.submit("t")
    machine.fail("t")
    machine.cancel("t")
    assert "it is cancelled" in str(machine.why("t"))


def test_nobody_can_do_it():
    """The registry's reason is passed on, where it has one."""
    machine = Machine(refuse_unknown=False)
    machine.submit("t", requires=("x", "y"))
    (blocker,) = machine.why("t").blockers
    assert (blocker.kind, blocker.name) == ("capability", "x, y")
    assert blocker.detail == "No agent can do it: 0 match."
    machine.row("t").bucket.match_reason = ""
    assert machine.why("t").blockers[0].detail == "No agent can do it."


def test_the_registry_is_asked_where_its_answer_is_old():
    """An agent that has joined since is taken into account."""
    machine = Machine(refuse_unknown=False)
    machine.submit("t", requires=("x",))
    machine.agent("a", "x")
    assert machine.why("t").runnable
    assert machine.settle() == ["t"]


def test_one_agent_with_room_is_enough():
    """Agents that are full are no blockers while another has room."""
    machine = Machine()
    machine.agent("a", "x", max_concurrency=1)
    machine.agent("b", "x", max_concurrency=2)
    machine.submit_all("t", "u", requires=("x",))
    machine.kernel.paused = True
    machine.submit("v", requires=("x",))
    machine.kernel.paused = False
    assert machine.why("v").runnable


@pytest.mark.parametrize("rigid", [False, True])
def test_all_that_is_short_is_named(rigid):
    """Slots and capacity of an agent, and every pool that has too little."""
    pools = Resources(cpu=2, gpu=1)
    machine = Machine(policies=Policies(rigid=rigid), pools=pools)
    room = Resources(cpu=2, gpu=1, memory=1)
    machine.agent("a", "x", max_concurrency=1, capacity=room)
    machine.submit("t", requires=("x",), resources=Resources(cpu=2, gpu=1, memory=1))
    machine.submit("u", requires=("x",), resources=Resources(cpu=1, gpu=1, memory=1))
    assert [(b.kind, b.name) for b in machine.why("u").blockers] == [
        ("agent", "a"),
        ("agent", "a"),
        ("resource", "cpu"),
        ("resource", "gpu"),
    ]


def test_an_allocator_that_is_content_with_less_is_believed():
    """Where a pool has too little and the allocator grants all the same, it can run."""
    machine = Machine(pools=Resources(cpu=2))
    machine.policies.grants = lambda row, request: ()
    machine.submit("t", resources=Resources(cpu=2))
    machine.kernel.pools["cpu"].used = 1_000_000
    machine.kernel.paused = True
    machine.kernel.submit("u", machine.row("t").bucket, None, machine.now)
    machine.kernel.paused = False
    assert machine.why("u").runnable
    machine.kernel.pools["cpu"].used = 0


def test_a_refusal_is_recalled_until_there_is_room():
    """Where an agent has got room meanwhile, the allocator is asked about that."""
    machine = Machine()
    machine.agent("a", "x", max_concurrency=1)
    machine.agent("b", "x")
    machine.policies.refuses = lambda row, agent: "no" if agent.name == "b" else None
    machine.submit_all("t", "u", requires=("x",))
    assert machine.kinds("u") == ["agent", "allocator"]
    machine.kernel.paused = True
    machine.kernel.submit_general(
        "v", machine.kernel.bucket(machine.row("u").bucket.spec), None, machine.now
    )
    machine.end("t")
    machine.kernel.paused = False
    assert machine.why("u").runnable
    assert machine.settle() == ["u"]


def test_position_of_a_task_that_is_set_aside():
    """It has its place by order, though it stands in no queue."""
    policies = Policies()
    policies.watches = frozenset({(S.QUEUED, S.RUNNING)})
    machine = Machine(policies=policies, concurrency=1)
    machine.submit("runs")
    machine.submit("a")
    policies.vetoes["a", S.RUNNING] = "no"
    machine.end("runs")
    assert machine.why("a").position == 1
