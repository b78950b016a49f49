"""CapabilityRegistry."""

from __future__ import annotations

import subprocess
import sys

from hypothesis import given, strategies as st
from tests.core.policies.fakes import FakeContext, FakeWorker

from taskorch.model import Task
from taskorch.policies import CapabilityRegistry
from taskorch.protocols import AgentRegistry

ANN = FakeWorker("ann", ("draw", "write"))
BOB = FakeWorker("bob", ("write",))
CAPABILITIES = st.frozensets(st.sampled_from("abcd"))


def match(task, *workers):
    return CapabilityRegistry().matches(task, workers, FakeContext())


def test_it_is_a_worker_registry():
    """It has the methods of its protocol."""
    assert isinstance(CapabilityRegistry(), AgentRegistry)
    assert repr(CapabilityRegistry()) == "CapabilityRegistry()"


def test_a_task_needs_its_type_unless_it_says_otherwise():
    """Without `requires`, the capability is the type."""
    found = match(Task("draw"), BOB, ANN)

    assert found.agents == ("ann",)
    assert found.reusable
    assert found.reason == "1 of 2 workers can do 'draw'"


def test_every_required_capability_is_needed():
    """With `requires`, the type itself counts for nothing."""
    assert match(Task("x", requires={"write"}), BOB, ANN).agents == ("bob", "ann")
    assert match(Task("x", requires=["write", "draw"]), BOB, ANN).agents == ("ann",)


def test_an_empty_requirement_is_met_by_all():
    """Who needs nothing is served by anyone."""
    found = match(Task("x", requires=()), BOB, ANN)

    assert found.agents == ("bob", "ann")
    assert found.reason == "2 of 2 workers can do what needs no capability"


def test_a_busy_worker_matches_still():
    """The answer does not depend on load."""
    assert match(Task("a"), FakeWorker("x", ("a",), 1, running=1)).agents == ("x",)


def test_the_reason_says_what_nobody_can_do():
    """Capabilities that no agent has are named, and no others."""
    found = match(Task("x", requires=["write", "sing", "dance"]), ANN, BOB)

    assert found.agents == ()
    assert found.reusable
    assert found.reason == "no worker can do 'dance', 'sing'"


def test_the_reason_names_the_nearest_worker():
    """Where each capability exists but nobody has all, the nearest agent is named."""
    cat = FakeWorker("cat", ("sing",))
    found = match(Task("x", requires=["write", "draw", "sing"]), cat, ANN)

    assert found.reason == (
        "no worker can do all of 'draw', 'sing', 'write'; ann lacks 'sing'"
    )


def test_without_workers_the_reason_says_so():
    """An empty registry is a reason of its own."""
    assert match(Task("x")).reason == "there is no worker"


@given(CAPABILITIES, st.lists(CAPABILITIES, max_size=5))
def test_it_finds_exactly_those_that_have_all(needs, have):
    """The matches are the agents whose capabilities include all the needs, in order."""
    workers = [FakeWorker(f"a{i}", tuple(sorted(c))) for i, c in enumerate(have)]
    found = match(Task("t", requires=needs), *workers)

    assert found.agents == tuple(f"a{i}" for i, c in enumerate(have) if needs <= c)
    assert found == match(Task("t", requires=sorted(needs)), *workers)
    assert found.reason


def test_the_reason_does_not_depend_on_the_hash_seed():
    """A set of requirements gives the same sentence under any seed."""
    code = (
        "from taskorch.model import Task\n"
        "from taskorch.policies import CapabilityRegistry, StructuralValidator\n"
        "from tests.core.policies.fakes import FakeWorker, FakeContext\n"
        "task = Task('x', requires={'one', 'two', 'three'}, after={' a', ' b', ' c'})\n"
        "agents = [FakeWorker('ann', ('four',))]\n"
        "print(CapabilityRegistry().matches(task, agents, FakeContext()).reason)\n"
        "print(StructuralValidator().validate(task, FakeContext()).findings)\n"
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", code],
            check=True,
            capture_output=True,
            text=True,
            env={"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": str(seed)},
        ).stdout
        for seed in (1, 2, 3)
    }

    assert len(answers) == 1


# -- labels ----------------------------------------------------------------------------

HERE = ("machine:arm64", "platform:linux", "python:3.12")
EVA = FakeWorker("eva", ("draw",), labels=HERE)
MAX = FakeWorker("max", ("write",), labels=("platform:windows",))


def test_labels_narrow_and_choose_nobody():
    """On a machine as it is required, a worker that can do it."""
    assert match(Task("draw", requires=["platform:linux"]), MAX, EVA).agents == ("eva",)
    assert match(Task("x", requires=["draw", *HERE]), ANN, EVA).agents == ("eva",)
    found = match(Task("x", requires=["platform:linux"]), MAX, EVA)
    assert found.agents == ()
    assert found.reason == "no worker can do 'x'"


def test_a_program_is_for_any_worker_there():
    task = Task.program(["true"], requires=["platform:windows"])
    assert match(task, EVA, MAX).agents == ("max",)
    # Another task of this type and with these requirements is none.
    assert not match(task, EVA, MAX).reusable
    assert match(Task(task.type, 1, requires=task.requires), EVA, MAX).agents == ()
    assert match(Task("x", requires=["draw", "python:3.12"]), EVA).reusable


def test_a_capability_that_is_called_like_a_label_is_one():
    old = FakeWorker("old", ("platform:linux",))
    assert match(Task("x", requires=["platform:linux"]), old, EVA).agents == ("old",)


def test_the_reason_says_on_which_machines_there_are_workers():
    found = match(Task("draw", requires=["platform:darwin"]), EVA, MAX, ANN)
    assert found.reason == (
        "no worker is on a machine with 'platform:darwin': "
        "there is platform:linux, platform:windows"
    )
    found = match(Task("x", requires=["fly", "machine:x86_64"]), MAX)
    assert found.reason == (
        "no worker can do 'fly'; no worker is on a machine with 'machine:x86_64'"
    )
    found = match(Task("write", requires=["platform:linux"]), EVA, MAX)
    assert found.reason == (
        "no worker can do all of 'platform:linux', 'write'; eva lacks 'write'"
    )
    found = match(Task.program(["true"], requires=["machine:x86_64"]), EVA)
    assert "'program'" not in found.reason


LABELS = st.frozensets(st.sampled_from(("platform:linux", "python:3.12")))


@given(CAPABILITIES, LABELS, CAPABILITIES, LABELS)
def test_it_finds_who_can_where_it_may(can, labels, needs, where):
    worker = FakeWorker("x", tuple(sorted(can)), labels=tuple(sorted(labels)))
    task = Task("a", requires=needs | where)
    able = needs <= can and where <= labels
    if where and not needs:
        able = able and "a" in can
    assert match(task, worker).agents == (("x",) if able else ())
