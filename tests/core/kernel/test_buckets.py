"""Buckets: the queued tasks with like requirements, in order."""

from random import Random

import pytest
from tests.core.kernel.harness import AGING, Machine, S

from taskorch.core.kernel import Bucket, Kernel, Spec, TaskRow, _state
from taskorch.core.kernel._rows import FEW, TypeRow


def bucket():
    return Bucket(Spec("t"), TypeRow())


def row(of, seq, key):
    made = TaskRow(f"t{seq}", seq, of, None, 1)
    made.key = key
    return made


def drain(of):
    """Take out all that is queued, from the front."""
    found = []
    while (head := of.head()) is not None:
        of.pop(head)
        head.state = S.RUNNING
        found.append(head.seq)
    return found


def test_rising_keys_stay_in_the_plain_queue():
    """Tasks that come in order need no heap."""
    b = bucket()
    assert b.push(row(b, 0, 5))
    assert not b.push(row(b, 1, 5))
    assert not b.push(row(b, 2, 6))
    assert not b.heap
    assert drain(b) == [0, 1, 2]


@pytest.mark.parametrize("key", [-1, 1])
def test_stale_entries_are_cleared_away(key):
    """Many stale entries do not pile up, in the plain queue or the heap."""
    b = bucket()
    keep = row(b, 0, 0)
    b.push(keep)
    for n in range(1, 10 * FEW):
        r = row(b, n, key * n)
        b.push(r)
        b.leave(r)
        assert len(b.fifo) + len(b.heap) <= 2 * FEW
    assert drain(b) == [0]


# -- the order of the whole queue --------------------------------------------------


def test_aging_law():
    """The key is the time of submission less priority times aging."""
    machine = Machine(concurrency=1)
    machine.submit("runs")
    machine.submit("old")
    machine.now += AGING - 1
    machine.submit("urgent", priority=1)
    machine.now += 2
    machine.submit("late", priority=1)
    assert machine.row("urgent").key == machine.row("urgent").submitted_ns - AGING
    assert machine.end("runs") == ["urgent"]
    assert machine.end("urgent") == ["old"]
    assert machine.end("old") == ["late"]


def test_types_and_records_are_bounded(monkeypatch):
    """Beyond many types, the rest is counted together; known ones keep their count."""
    monkeypatch.setattr(_state, "MANY", 2)
    machine = Machine()
    for n in range(4):
        machine.policies.delays[f"t{n}"] = [0]
        machine.submit(f"t{n}", type=f"kind{n}")
        machine.end(f"t{n}")
    machine.submit("again", type="kind0")
    machine.fail("again")
    assert set(machine.kernel.types) == {"kind0", "kind1", "(other)"}
    assert machine.kernel.types["(other)"].completed == 2
    records = machine.kernel.workers["local"].records
    assert set(records) == {"kind0", "kind1", "(other)"}
    assert (records["kind0"].completed, records["kind0"].failed) == (1, 1)


def test_kernel_needs_no_local_worker():
    """Without the built-in worker, plain calls are refused as unknown."""
    machine = Machine()
    kernel = Kernel(machine.kernel.config, machine.policies, Random(1))
    with pytest.raises(Exception, match="no worker has"):
        kernel.submit("t", kernel.bucket(Spec("t")), None, 1)
