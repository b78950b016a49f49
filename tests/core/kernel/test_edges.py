"""Edges that come later: what they change, and what is refused."""

from contextlib import suppress
from itertools import pairwise
from random import Random

import pytest
from tests.core.kernel.harness import Machine, S, Twin
from tests.house.tools.examples import seeds

from taskorch.core.kernel import is_waiting
from taskorch.errors import CycleError
from taskorch.kit.checks import find_ring
from taskorch.model import TERMINAL

# -- rings that a re-run would close -----------------------------------------------


def ran_beside_its_parent():
    """`late` ran while `p`, above it, was blocked; by now `p` waits again."""
    machine = Twin()
    machine.submit_all("root", "other")
    machine.submit("p", after=["root"])
    machine.submit("late", after=["p"], join="any", on_failure="run")
    machine.fail("root")
    assert machine.states("p", "late") == [S.BLOCKED, S.RUNNING]
    machine.rerun("root")
    assert machine.state("p") is S.PENDING
    return machine


@pytest.mark.parametrize("between", [0, 1, 9])
@pytest.mark.parametrize("end", ["fail", "cancel"])
def test_a_rerun_does_not_wait_for_what_waits_for_it(between, end):
    """It would wait for all that it was submitted after; nothing has changed."""
    machine = ran_beside_its_parent()
    line = ["late", *(f"m{number}" for number in range(between))]
    for above, name in pairwise(line):
        machine.submit(name, after=[above])
    machine.add_parents("p", line[-1])
    getattr(machine, end)("late")
    told = len(machine.sink)
    with pytest.raises(CycleError) as caught:
        machine.rerun("late")
    assert caught.value.cycle == ("late~2", "p", *line[:0:-1])
    assert caught.value.task_id == "late~2"
    assert len(machine.sink) == told
    waits = (*line[1:], "p")[0]
    assert f"cancel_task({waits!r})" in caught.value.hint
    machine.cancel(waits)
    assert machine.rerun("late") == "late~2"


#: In which states of a task there is something to do with it.
STATES = {
    "add_parents": {S.PENDING, S.BLOCKED},
    "rerun": {S.FAILED, S.CANCELLED},
    "cancel": set(S) - TERMINAL,
    "fail": {S.RUNNING},
    "end": {S.RUNNING},
}


@pytest.mark.parametrize("part", seeds(1, 5))
def test_nobody_ever_waits_in_a_ring(part):
    """Whatever is run again, called back, or let wait for more."""
    for seed in range(100 * part, 100 * (part + 1)):
        dice = Random(seed)
        machine = Machine(concurrency=1)
        machine.submit_all("t0", "busy")
        for above, name in pairwise(["t0", "t1", "t2", "t3"]):
            join, then = dice.choice(["any", "finished"]), dice.choice(["block", "run"])
            machine.submit(name, after=[above], join=join, on_failure=then)
        machine.fail("t0")
        latest = ["t0", "t1", "t2", "t3", "busy"]
        for _ in range(20):
            verb = dice.choice([*STATES, "add_parents", "rerun"])
            found = [name for name in latest if machine.state(name) in STATES[verb]]
            if not found:
                continue
            name = dice.choice(found)
            with suppress(CycleError):
                if verb == "rerun":
                    latest[latest.index(name)] = machine.rerun(name)
                elif verb == "add_parents":
                    machine.add_parents(name, dice.choice(latest))
                else:
                    getattr(machine, verb)(name)
            waits = {
                row.id: [parent.id for parent in row.links.parents]
                for row in machine.kernel.tasks.values()
                if row.state not in TERMINAL and is_waiting(row)
            }
            assert find_ring(waits) == (), f"seed {seed}"
