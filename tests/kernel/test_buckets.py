"""Buckets: the queued tasks with like requirements, in order."""

from random import Random

import hypothesis.strategies as st
import pytest
from hypothesis import given
from tests.kernel.harness import AGING, SEC, Machine, S

from taskorch.kernel import Bucket, Kernel, Spec, TaskRow, _queue, _state
from taskorch.kernel._rows import FEW, TypeRow


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


def test_what_comes_out_of_order_goes_to_the_heap():
    """A lower key overtakes, a middle one goes in between; `push` tells the first."""
    b = bucket()
    assert b.push(row(b, 0, 10))
    assert b.push(row(b, 1, 5))
    assert not b.push(row(b, 2, 7))
    assert not b.push(row(b, 3, 20))
    assert [r.seq for r in b.rows()] == [1, 2, 0, 3]
    assert drain(b) == [1, 2, 0, 3]


def test_before_what_has_come_back_a_new_one_may_be_the_first():
    """What left the queue and is in it again is in the heap, and the other is empty."""
    b = bucket()
    back = row(b, 0, 9)
    b.push(back)
    b.leave(back)
    assert b.head() is None
    assert b.push(back)
    assert not b.fifo
    assert b.push(row(b, 1, 5))
    assert b.push(row(b, 2, 4))
    assert not b.push(row(b, 3, 9))
    assert drain(b) == [2, 1, 0, 3]


def test_what_comes_after_what_has_come_back_is_not_the_first():
    b = bucket()
    back = row(b, 0, 5)
    b.push(back)
    b.leave(back)
    assert b.head() is None
    assert b.push(back)
    assert not b.push(row(b, 1, 9))
    assert drain(b) == [0, 1]


def test_equal_keys_keep_the_order_of_submission():
    """Of equal keys the earlier submission is first, however it came in."""
    b = bucket()
    b.push(row(b, 5, 10))
    b.push(row(b, 3, 10))
    b.push(row(b, 6, 10))
    assert drain(b) == [3, 5, 6]


def test_an_empty_queue_beside_a_heap():
    """A row may be first in the plain queue and yet behind one of the heap."""
    b = bucket()
    first = row(b, 0, 10)
    b.push(first)
    b.push(row(b, 1, 5))
    b.leave(first)
    assert b.head() is b.rows()[0]
    assert not b.push(row(b, 2, 6))
    assert drain(b) == [1, 2]


def test_stale_entries_are_skipped():
    """What left by the side door is not served, wherever its entry stands."""
    b = bucket()
    rows = [row(b, seq, key) for seq, key in enumerate([10, 11, 3, 4, 12])]
    for r in rows:
        b.push(r)
    for r in (rows[0], rows[2], rows[4]):
        b.leave(r)
    assert b.size == 2
    assert b.stale == 3
    assert drain(b) == [3, 1]
    assert b.stale == 0


def test_a_row_that_comes_back_counts_once():
    """A task that left and came back has one place, the new one."""
    b = bucket()
    r = row(b, 0, 10)
    b.push(r)
    b.push(row(b, 1, 11))
    b.leave(r)
    r.key = 20
    b.push(r)
    assert drain(b) == [1, 0]


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


@given(
    st.lists(
        st.tuples(st.sampled_from(["push", "pop", "leave", "back"]), st.integers(0, 9)),
        max_size=60,
    )
)
def test_order_law(steps):
    """Whatever comes and goes, the first is the least by key and submission."""
    b = bucket()
    queued = {}
    gone = []
    for n, (what, key) in enumerate(steps):
        if what == "push":
            r = row(b, n, key)
            before = min(queued.values(), key=lambda r: (r.key, r.seq), default=None)
            queued[n] = r
            first = b.push(r)
            if before is None or (r.key, r.seq) < (before.key, before.seq):
                # Behind stale entries it may not be said; see `Kernel.enqueue`.
                assert first or b.stale
            else:
                assert not first
        elif what == "leave" and queued:
            r = queued.pop(sorted(queued)[key % len(queued)])
            b.leave(r)
            gone.append(r)
        elif what == "back" and gone:
            r = gone.pop()
            r.key = key
            b.push(r)
            queued[r.seq] = r
        elif what == "pop" and queued:
            r = b.rows()[0]
            assert b.head() is r
            b.pop(r)
            assert queued.pop(r.seq) is r
            r.state = S.RUNNING
        assert b.size == len(queued)
        head = b.head()
        assert head is min(queued.values(), key=lambda r: (r.key, r.seq), default=None)


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


def test_fifo_over_buckets():
    """Tasks of different kinds start in the order of their submission."""
    machine = Machine(concurrency=1)
    machine.submit("runs")
    for n in range(9):
        machine.submit(f"t{n}", type=f"kind{n % 3}")
    order = [*machine.end("runs")]
    while machine.running():
        order += machine.end(order[-1])
    assert order == [f"t{n}" for n in range(9)]


def test_a_key_of_the_users():
    """Without a rule the queue is asked for each key; lower keys start first."""
    machine = Machine(concurrency=1)
    machine.policies.aging_ns = None
    machine.policies.key = lambda row, priority, now: (-priority, row.bucket.spec.type)
    machine.submit("runs")
    machine.submit("b", type="b")
    machine.submit("a", type="a")
    machine.submit("first", type="z", priority=1)
    assert machine.end("runs") == ["first"]
    assert machine.end("first") == ["a"]
    assert machine.row("b").key == (0, "b")


def test_a_lowered_head_is_not_ahead_of_other_buckets():
    """A task whose priority sank is looked at by its new key, even when first again."""
    machine = Machine(concurrency=1)
    machine.submit("runs")
    machine.submit("sinks", type="a")
    machine.now += SEC
    machine.submit("between", type="a")
    machine.now += SEC
    machine.submit("other", type="b")
    machine.prioritise("sinks", -1)
    machine.cancel("between")
    assert machine.end("runs") == ["other"]


def test_entries_of_buckets_do_not_pile_up():
    """Raising the first task again and again leaves no trail behind."""
    machine = Machine(concurrency=1)
    machine.submit("runs")
    machine.submit("t")
    for n in range(10 * FEW):
        machine.kernel.set_priority(machine.row("t"), n, machine.now)
    machine.submit_all("u", "v", priority=9999)
    for n in range(10 * FEW):
        machine.kernel.submit(f"w{n}", machine.row("t").bucket, None, machine.now, n)
    assert len(machine.kernel.open) <= 3 * FEW
    machine.settle()
    assert machine.end("runs") == ["u"]


def test_idle_buckets_are_forgotten(monkeypatch):
    """Of a great many kinds of task, those with nothing queued leave memory."""
    monkeypatch.setattr(_queue, "MANY", 8)
    machine = Machine(concurrency=1)
    machine.kernel.most_buckets = 8
    for n in range(50):
        machine.submit(f"t{n}", type=f"kind{n}")
        machine.end(f"t{n}")
    assert len(machine.kernel.buckets) < 20
    machine.submit("runs")
    for n in range(50):
        machine.submit(f"u{n}", type=f"kind{n}")
    assert len(machine.kernel.buckets) >= 50


def test_a_row_outlives_its_forgotten_bucket(monkeypatch):
    """A task that runs while its bucket is forgotten can be queued again."""
    monkeypatch.setattr(_queue, "MANY", 2)
    machine = Machine()
    machine.kernel.most_buckets = 2
    machine.policies.delays["t"] = [0]
    machine.submit("t", type="rare")
    for n in range(5):
        machine.submit(f"u{n}", type=f"kind{n}")
        machine.end(f"u{n}")
    assert machine.row("t").bucket not in machine.kernel.buckets.values()
    assert machine.fail("t") == ["t"]


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
    records = machine.kernel.agents["local"].records
    assert set(records) == {"kind0", "kind1", "(other)"}
    assert (records["kind0"].completed, records["kind0"].failed) == (1, 1)


def test_kernel_needs_no_local_agent():
    """Without the built-in agent, plain calls are refused as unknown."""
    machine = Machine()
    kernel = Kernel(machine.kernel.config, machine.policies, Random(1))
    with pytest.raises(Exception, match="no worker has"):
        kernel.submit("t", kernel.bucket(Spec("t")), None, 1)
