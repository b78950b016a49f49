"""The place in the queue, counted as far as a bound."""

from random import Random

from hypothesis import given, strategies as st
from tests.core.kernel.harness import AGING, Machine, S

from taskorch.core.kernel import Bucket, TaskRow, explain
from taskorch.core.kernel._explain._holders import ahead


def looked_at(bucket: Bucket, row: TaskRow) -> int:
    """How many are counted one by one, of the plain queue or of the heap beside it."""
    place = (row.key, row.seq)
    straight = 0
    if bucket.stale:
        later = (not r.ticket and (r.key, r.seq) >= place for r in bucket.fifo)
        many = len(bucket.fifo)
        straight = next((n for n, is_later in enumerate(later) if is_later), many)
    return max(straight, sum(entry[:2] < place for entry in bucket.heap))


@given(st.integers(0, 10_000), st.integers(0, 60))
def test_it_is_the_place_in_order(seed: int, steps: int) -> None:
    """However tasks came and left, and whatever their priority."""
    dice = Random(seed)
    machine = Machine(concurrency=1, listening=False)
    machine.submit("runs")
    for number in range(steps):
        machine.now += dice.choice([0, 1, AGING])
        machine.submit(f"t{number}", priority=dice.choice([0, 0, 0, -1, 1]))
        name = f"t{dice.randint(0, number)}"
        if machine.state(name) is S.QUEUED:
            dice.choice([machine.cancel, machine.suspend, *[lambda _: None] * 2])(name)
        if machine.state(name) is S.SUSPENDED:
            dice.choice([machine.resume, lambda _: None])(name)
    bucket = machine.row("runs").bucket
    for number, row in enumerate(bucket.rows()):
        assert ahead(bucket, row) == ahead(bucket, row, None) == number
        looked = looked_at(bucket, row)
        for most in (0, 1, 2, 5):
            assert ahead(bucket, row, most) == (None if looked > most else number)
        assert explain(machine.kernel, row, machine.now).position == number + 1


def test_it_is_not_counted_for_ever() -> None:
    """Of a queue without order it is told up to a bound, and beyond it if asked for."""
    machine = Machine(concurrency=1)
    machine.submit("runs")
    for number in range(20):
        machine.submit(f"t{number}", priority=-number % 3)
    bucket = machine.row("runs").bucket
    last = bucket.rows()[-1]
    assert ahead(bucket, last, 3) is None
    assert ahead(bucket, last, None) == 19
    machine.cancel("t3")
    for number in range(20, 60):
        machine.submit(f"t{number}")
    machine.cancel("t30")
    assert ahead(bucket, machine.row("t59"), 30) is None
    assert ahead(bucket, machine.row("t59"), None) == 57
    machine.submit("last", priority=-9)
    assert ahead(bucket, machine.row("last"), None) == 58
    machine.prioritise("t50", -10)
    assert ahead(bucket, machine.row("t50"), None) == 58


def test_what_came_at_once_is_ordered_by_length_where_age_counts_only() -> None:
    machine = Machine(concurrency=1)
    machine.submit_all("runs", "a", "b")
    assert machine.why("b").order.startswith("a came at the same time")
    machine.policies.aging_ns = None
    assert machine.why("b").order == ""
