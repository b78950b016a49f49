"""When a task may start: guesses that say what they rest on."""

from dataclasses import dataclass

import pytest
from hypothesis import example, given, strategies as st
from tests.core.kernel.harness import SEC, Machine, S

from taskorch.core.kernel import TaskRow, explain
from taskorch.core.kernel._explain import _estimate as estimates, _explanation
from taskorch.model import Estimate


def guess(machine: Machine, name: str) -> Estimate:
    told = explain(
        machine.kernel, machine.row(name), machine.now, whole=True, estimates=True
    )
    assert told.estimate is not None
    return told.estimate


def taught(machine: Machine, seconds: int = 10, **spec) -> Machine:
    """A machine that has seen a task of a type take so long."""
    for number in range(2):
        name = f"taught {spec} {seconds} {number}"
        machine.submit(name, **spec)
        machine.after(seconds * SEC)
        machine.end(name)
    return machine


def test_too_many_come_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimates, "_MOST", 3)
    machine = taught(Machine(concurrency=1))
    machine.submit("t0")
    for number in range(1, 6):
        machine.submit(f"t{number}", after=[f"t{number - 1}"])
    assert guess(machine, "t1").seconds == 10
    assert guess(machine, "t5").basis == "more than 3 tasks come before it"


def test_far_back_in_another_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be counted quickly is taken to be all before it."""
    machine = taught(Machine(concurrency=1))
    machine.submit("a")
    monkeypatch.setattr(estimates, "ahead", lambda bucket, row: None)
    machine.submit_all("b", "c")
    assert guess(machine, "c").seconds == 30


def test_work_ahead_fills_the_gaps() -> None:
    """What is free earlier takes more of the work that comes first."""
    assert estimates._pour([], 0.0, 2) == 0
    assert estimates._pour([4.0, 8.0], 0.0, 2) == 4
    assert estimates._pour([4.0, 8.0], 2.0, 2) == 6
    assert estimates._pour([4.0, 8.0], 6.0, 2) == 9
    assert estimates._pour([4.0, 8.0, 9.0], 4.0, 2) == 8
    assert estimates._pour([5.0], 5.0, 2) == 5


def test_a_guess_in_words() -> None:
    assert str(Estimate(0.0001, "luck")) == (
        "It may start at any moment (estimated: luck)."
    )


def test_its_turn_is_now() -> None:
    machine = taught(Machine())
    machine.kernel.concurrency = 0
    machine.submit("a")
    machine.kernel.concurrency = 1
    assert guess(machine, "a") == Estimate(0, "it waits for nothing but the clock")


# -- with one slot, it is plain arithmetic ---------------------------------------------

#: What tasks take, in seconds.
MEAN = 10.0


@dataclass(frozen=True)
class Piece:
    """A task that is submitted: how urgent, how late, and after which of those before."""

    priority: int = 0
    #: In how many seconds it may start, if that is said.
    date: int | None = None
    after: tuple[int, ...] = ()
    join: str | int = "all"
    #: How many seconds later the next one comes.
    pause: int = 0


class Arithmetic:
    """When tasks may start that share one slot: by the rule, and by nothing else."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        rows = machine.kernel.tasks.values()
        queued = [row for row in rows if row.state is S.QUEUED]
        self.order = sorted(queued, key=lambda row: (row.key, row.seq))

    def left(self) -> float:
        """Until the slot is free."""
        (name,) = self.machine.running()
        elapsed = (self.machine.now - self.machine.row(name).started_ns) / SEC
        return max(0.0, MEAN - elapsed)

    def ready(self, row: TaskRow) -> float:
        """Until it waits for no date, and for no other task."""
        date = 0 if row.extra is None else row.extra.due_ns
        ready = max(0.0, (date - self.machine.now) / SEC)
        if row.links is None:
            return ready
        open_ones = [p for p in row.links.parents if p.state is not S.COMPLETED]
        terms = row.links.terms
        if terms is not None and terms.joined:
            return ready
        ends = sorted(self.end(parent) for parent in dict.fromkeys(open_ones))
        if terms is not None and terms.join != "finished":
            ends = ends[: 1 if terms.join == "any" else int(terms.join)]
        return max([ready, *ends])

    def turn(self, row: TaskRow) -> float:
        """Until the slot is its own, if it asked now."""
        before = self.order.index(row) if row in self.order else 0
        return self.left() + before * MEAN

    def start(self, row: TaskRow) -> float:
        return max(self.ready(row), self.turn(row))

    def end(self, row: TaskRow) -> float:
        if row.state is S.RUNNING:
            return self.left()
        begin = self.ready(row)
        if row.state is S.QUEUED:
            begin = max(begin, self.turn(row))
        return begin + MEAN


PIECES = st.lists(
    st.builds(
        Piece,
        priority=st.sampled_from([0, 0, -1, 2]),
        date=st.sampled_from([None, None, 1, 15, 40]),
        after=st.lists(st.integers(0, 5), max_size=3, unique=True).map(tuple),
        join=st.sampled_from(["all", "all", "any", "finished", 2]),
        pause=st.sampled_from([0, 1, 4]),
    ),
    min_size=1,
    max_size=7,
)


@example([Piece(date=15, pause=1)])
@example([Piece(date=1), Piece(priority=2), Piece()])
@example([Piece(), Piece(after=(0,)), Piece(after=(0, 1), join=2)])
@example([Piece(), Piece(pause=4), Piece(after=(0, 1), join="any", date=15)])
@example([Piece(date=40), Piece(date=1), Piece(after=(0, 1), join="finished")])
@given(PIECES)
def test_with_one_slot_it_is_what_is_left_and_what_comes_before(
    pieces: list[Piece],
) -> None:
    """The slot is taken by a task with a priority; what waits is of all kinds."""
    machine = taught(Machine(concurrency=1))
    machine.submit("runs", priority=3)
    machine.after(2 * SEC)
    for number, piece in enumerate(pieces):
        after = [f"t{other}" for other in piece.after if other < number]
        many = isinstance(piece.join, int) and piece.join > len(after)
        machine.submit(
            f"t{number}",
            priority=piece.priority,
            not_before=None if piece.date is None else machine.now + piece.date * SEC,
            after=after,
            join="all" if many else piece.join,
        )
        machine.after(piece.pause * SEC)
    expected = Arithmetic(machine)
    for number in range(len(pieces)):
        name = f"t{number}"
        row = machine.row(name)
        found = guess(machine, name)
        assert found.seconds == pytest.approx(expected.start(row)), name
        before = expected.order.index(row) if row in expected.order else 0
        told = "1 task comes before it" if before == 1 else f"{before} tasks come"
        assert (told in found.basis) == (before > 0)


# -- boundaries ------------------------------------------------------------------------


@pytest.mark.parametrize("bound", [2, 3, 4])
def test_exactly_so_many_may_come_before_it(
    monkeypatch: pytest.MonkeyPatch, bound: int
) -> None:
    """Itself, and two above it: with a bound of three, there is a guess."""
    monkeypatch.setattr(estimates, "_MOST", bound)
    machine = taught(Machine(concurrency=3))
    machine.submit_all("a", "b")
    machine.submit("t", after=["a", "b"])
    found = guess(machine, "t")
    assert found.seconds == (None if bound < 3 else 10)
    assert (found.basis == "more than 2 tasks come before it") == (bound < 3)


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_work_elsewhere_comes_before_it_as_far_as_its_workers_can_do_it(
    limit: int,
) -> None:
    """Of those that wait for another worker, no more than it does at once."""
    machine = taught(taught(Machine(concurrency=1)), 6, type="other")
    machine.worker("x", "x", max_concurrency=limit)
    machine.submit("runs")
    machine.submit_all(*"abc"[:limit], type="other", requires=("x",))
    machine.submit("more", type="other", requires=("x",), priority=-9)
    machine.submit("t")
    assert guess(machine, "t").seconds == 10 + 6 * limit


def test_what_has_completed_is_not_waited_for() -> None:
    """Though it is a parent still, of one that waits for another as well."""
    machine = taught(Machine())
    machine.submit_all("done", "runs")
    machine.submit("t", after=["done", "runs"])
    machine.submit("w", after=["runs"], wait=(None, SEC, True), type="wait", priority=1)
    machine.submit("u", after=["w"])
    machine.after(4 * SEC)
    machine.end("done")
    # The mean of 10, 10 and 4 is 8.
    assert guess(machine, "t").seconds == pytest.approx(4)
    assert guess(machine, "u").seconds == pytest.approx(5)


def test_how_far_back_it_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """One by one up to a bound; and to the end, for a guess."""
    monkeypatch.setattr(_explanation, "FAR", 3)
    machine = Machine(concurrency=1)
    machine.submit("runs")
    for number in range(6):
        machine.submit(f"t{number}", priority=-number % 3)
    rows = machine.row("t0").bucket.rows()
    machine.cancel(rows[-1].id)
    positions = [machine.why(row.id).position for row in rows[:-1]]
    assert positions[0] == 1
    assert positions[-1] is None
    told = [
        explain(machine.kernel, row, machine.now, estimates=True).position
        for row in rows[:-1]
    ]
    assert told == [1, 2, 3, 4, 5]


def test_what_is_missing_is_what_has_not_completed_yet() -> None:
    """Of two that are needed one is there: the next to end is enough."""
    machine = taught(Machine())
    machine.submit("done")
    for name in "abc":
        machine.submit(name)
        machine.after(2 * SEC)
    machine.submit("t", after=["done", "a", "b", "c"], join=2)
    assert guess(machine, "t").seconds == 4
    machine.end("done")
    means = (10 + 10 + 6) / 3
    assert guess(machine, "t").seconds == pytest.approx(means - 6)


def test_where_nothing_is_short_work_of_other_kinds_comes_before_it_too() -> None:
    machine = taught(taught(Machine()), 30, type="other")
    machine.kernel.concurrency = 0
    machine.submit("a", type="other")
    machine.now += 1
    machine.submit("b")
    machine.kernel.concurrency = 1
    assert guess(machine, "b").seconds == 30
