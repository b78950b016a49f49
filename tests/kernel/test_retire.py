"""Finished tasks leave memory, the oldest first."""

import sys

from tests.kernel.harness import SEC, Machine, S

from taskorch.events import LateResultIgnored
from taskorch.kernel import Spec
from taskorch.kernel._history import past_of


def test_the_oldest_leave_first():
    """Id and state stay; the row and its cargo go."""
    machine = Machine(keep_finished=2)
    rows = {}
    for name in "abc":
        machine.submit(name, cargo=object())
        rows[name] = machine.row(name)
        machine.end(name)
    assert dict(machine.kernel.evicted.items()) == {"a": S.COMPLETED}
    assert rows["a"].cargo is None
    assert rows["b"].cargo is not None
    assert machine.kernel.context.view.state_of("a") is S.COMPLETED
    assert machine.kernel.completed == 3


def test_nothing_is_kept():
    """With `keep_finished=0` every end leaves at once, plain or not."""
    machine = Machine(keep_finished=0)
    machine.submit_all("a", "b")
    machine.end("a")
    machine.fail("b")
    assert machine.kernel.tasks == {}
    assert dict(machine.kernel.evicted.items()) == {"a": S.COMPLETED, "b": S.FAILED}


def test_names_of_the_users_choice_are_handed_to_the_driver():
    """It needs their content to tell a repeated submission from another one."""
    machine = Machine(keep_finished=0)
    machine.submit("a", cargo="mine", priority=1)
    row = machine.row("a")
    row.named = True
    machine.kernel.complete(row, 1, machine.now)
    assert machine.kernel.dropped == [row]
    assert row.cargo == "mine"


def test_a_retired_parent():
    """What waits for a task that has left memory is released, blocked and mended."""
    machine = Machine(keep_finished=0)
    machine.submit("a")
    machine.submit("b", after=["a"])
    assert machine.end("a") == ["b"]
    machine.submit("c", after=["b"])
    machine.fail("b")
    assert machine.state("c") is S.BLOCKED
    assert machine.extra("c").roots == ("b",)


def test_a_late_result_of_a_retired_task():
    """It is noted, and changes nothing."""
    machine = Machine(keep_finished=0)
    machine.submit("a")
    row = machine.row("a")
    machine.end("a")
    assert not machine.kernel.complete(row, 1, machine.now)
    assert machine.told(LateResultIgnored) == [("a", 1, "completed")]
    assert row.extra is not None


def test_a_task_that_has_completed_plainly_is_small():
    """A timeout or a date leaves nothing behind; a priority is remembered."""
    machine = Machine()
    date = machine.now + SEC
    machine.submit("a", timeout_ns=9 * SEC, deadline=date + 9 * SEC, not_before=date)
    machine.submit("b", priority=1)
    machine.after(SEC)
    machine.end("a")
    machine.end("b")
    assert machine.row("a").extra is None
    assert machine.extra("b").priority == 1
    assert [state for state, _, _ in past_of(machine.row("a"))] == [
        S.PENDING,
        S.QUEUED,
        S.RUNNING,
        S.COMPLETED,
    ]
    machine.after(20 * SEC)


def test_touched():
    """The driver hears of each end that is not plain, with its cargo."""
    machine = Machine(keep_finished=0)
    machine.submit("a", cargo="mine")
    machine.submit("b", after=["a"], cargo="theirs")
    kernel = machine.kernel
    row = machine.row("a")
    kernel.end_attempt(row, 1, "failed", machine.now)
    assert [(r.id, cargo) for r, cargo in kernel.touched] == [
        ("a", "mine"),
        ("b", "theirs"),
    ]


def test_the_room_of_those_that_have_left_is_given_back():
    machine = Machine(keep_finished=0, concurrency=1, listening=False)
    kernel = machine.kernel
    bucket = kernel.bucket(Spec("t"))
    for number in range(10_000):
        kernel.submit(f"t{number}", bucket, None, machine.now)
    large = sys.getsizeof(kernel.tasks)
    for _ in range(10_000):
        kernel.dispatch(machine.now)
        kernel.complete(kernel.starts.pop(), 1, machine.now)
    assert len(kernel.tasks) == 0
    assert len(kernel.evicted) == 10_000
    assert sys.getsizeof(kernel.tasks) < large / 4


def test_of_a_few_no_room_is_given_back():
    """All that are there would be copied each time that one leaves."""
    machine = Machine(keep_finished=2)
    tasks = machine.kernel.tasks
    for number in range(20):
        machine.submit(f"t{number}")
        machine.end(f"t{number}")
    assert machine.kernel.tasks is tasks
    assert list(tasks) == ["t18", "t19"]


def test_what_others_depended_on_is_handed_to_the_driver():
    """It may have to record something of it; of a task alone there is nothing."""
    machine = Machine(keep_finished=0)
    kernel = machine.kernel
    machine.submit("a", cargo="of a")
    machine.submit("b", after=["a"], cargo="of b")
    machine.submit("alone", cargo="of none")
    rows = [machine.row(name) for name in ("a", "b", "alone")]
    kernel.complete(rows[0], 1, machine.now)
    assert (kernel.dropped, rows[0].cargo) == ([rows[0]], "of a")
    kernel.complete(rows[2], 1, machine.now)
    assert (kernel.dropped, rows[2].cargo) == ([rows[0]], None)
    kernel.dispatch(machine.now)
    kernel.complete(rows[1], 1, machine.now)
    assert (kernel.dropped, rows[1].cargo) == ([rows[0], rows[1]], "of b")
