"""Limits that a program adds: what they keep from starting, and what is said of it."""

import threading

import pytest
from tests.integration.tools import PATIENCE, eventually

from taskorch import InvalidTaskError, Task, TaskOrchestrator
from taskorch.errors import ComponentError
from taskorch.kit.extension import Extension, Short


class Seats:
    """Some seats of a server, for tasks of one type."""

    name = "seats"

    def __init__(self, seats=1, seconds=60.0):
        self.seats, self.seconds = seats, seconds
        self.most = 0.0

    def need(self, kind):
        return 1 if kind.type in ("seated", "len") else 0

    def short(self, need, held):
        free = self.seats - held
        if need > free:
            return Short(f"{free:g} seats are free.", self.seconds, free)
        self.most = max(self.most, need + held)
        return None


class Licences(Extension):
    name = "licences"

    def __init__(self, *limits):
        self.limits = limits


def orchestrator(*limits, **options):
    orch = TaskOrchestrator(extensions=[Licences(*limits)], **options)

    @orch.agent("some", capabilities={"seated", "other"})
    def work(task, context):
        return task.payload

    return orch


def test_what_is_held_comes_back_and_wakes_the_next():
    """Nobody waits for the time that the limit has named."""
    seats = Seats(2)
    with orchestrator(seats) as orch:
        handles = [orch.submit_task(Task("seated", n)) for n in range(20)]
        assert [each.result(timeout=PATIENCE) for each in handles] == [*range(20)]
    assert 1 <= seats.most <= 2


def test_plain_functions_are_limited_as_well():
    seats = Seats(1)
    with orchestrator(seats) as orch:
        handles = [orch.submit(len, "abc") for _ in range(10)]
        assert [each.result(timeout=PATIENCE) for each in handles] == [3] * 10


def test_it_is_asked_again_in_time():
    seats = Seats(0, seconds=0.01)
    with orchestrator(seats) as orch:
        handle = orch.submit_task(Task("seated", "here"))
        other = orch.submit_task(Task("other", "there"))
        assert other.result(timeout=PATIENCE) == "there"
        assert orch.get_task_status(handle.task_id).state == "queued"
        seats.seats = 1
        assert handle.result(timeout=PATIENCE) == "here"


def test_a_wait_is_no_end_of_all_work():
    """Who waits for everything waits for what may start in time, too."""
    seats = Seats(0, seconds=0.01)
    with orchestrator(seats) as orch:
        handle = orch.submit_task(Task("seated", 1))
        assert not orch.wait(timeout=0.05)
        seats.seats = 1
        assert orch.wait(timeout=PATIENCE)
        assert handle.done()


def test_explain_has_its_words():
    with orchestrator(Seats(0)) as orch:
        handle = orch.submit_task(Task("seated"))
        eventually(lambda: not orch.explain(handle.task_id).runnable)
        [blocker] = orch.explain(handle.task_id).blockers
        assert (blocker.kind, blocker.name) == ("limit", "seats")
        assert blocker.detail == "0 seats are free."
        assert (blocker.need, blocker.have) == (1, 0)
        assert blocker.until is not None
        assert 0 < blocker.until <= 60
        assert "Limit seats must allow it" in str(blocker.remedies[0])
        handle.cancel()


def test_a_journal_has_what_it_held(tmp_path):
    """Of a life that was cut off, nothing is held."""
    path = tmp_path / "journal.db"
    for _ in range(2):
        seats = Seats(1)
        with orchestrator(seats, journal=path) as orch:
            handles = [orch.submit_task(Task("seated", n)) for n in range(3)]
            assert [each.result(timeout=PATIENCE) for each in handles] == [0, 1, 2]


class RaisesNeed(Seats):
    def need(self, kind):
        return 1 / 0


class RaisesShort(Seats):
    def short(self, need, held):
        raise LookupError("no server")


class NoNumber(Seats):
    def need(self, kind):
        return "one"


class NoShort(Seats):
    def short(self, need, held):
        return "no"


class Negative(Seats):
    def need(self, kind):
        return -1


class NoWords(Seats):
    def short(self, need, held):
        return Short("", 1.0)


class NoTime(Seats):
    def short(self, need, held):
        return Short("no seats", 0.0)


def test_a_task_that_waits_for_one_that_is_limited_is_in_no_deadlock():
    """What the limit will say later, nobody knows: the task may start then."""
    seats = Seats(0, seconds=0.01)
    with orchestrator(seats, resources={"cpu": 2}) as orch:

        def outer():
            inner = orch.submit_task(Task("seated", "inner", id="inner"))
            return inner.result(PATIENCE)

        handle = orch.submit_task(Task.call(outer, resources={"cpu": 1}))
        eventually(lambda: "inner" in [each.task_id for each in orch.tasks()])
        with pytest.raises(TimeoutError):
            handle.result(0.05)
        seats.seats = 1
        assert handle.result(PATIENCE) == "inner"


def test_what_waits_for_a_slot_is_explained_with_and_without_seats():
    go = threading.Event()
    seats = Seats(0)
    with orchestrator(seats, concurrency=1) as orch:
        orch.submit(go.wait, PATIENCE)
        eventually(lambda: orch.get_stats().state_machine.running == 1)
        handle = orch.submit_task(Task("seated", 1))
        kinds = {blocker.kind for blocker in orch.explain(handle.task_id).blockers}
        assert "limit" in kinds
        seats.seats = 1
        kinds = {blocker.kind for blocker in orch.explain(handle.task_id).blockers}
        assert "limit" not in kinds
        go.set()
        assert handle.result(PATIENCE) == 1


def test_kinds_that_nobody_has_any_more_are_forgotten():
    """Of thousands of kinds, each is limited as the first."""
    with orchestrator(Seats(1)) as orch:
        kinds = [
            Task("seated", n, metadata={}, priority=0, timeout=60 + n)
            for n in range(4_200)
        ]
        handles = [orch.submit_task(each) for each in kinds]
        assert [each.result(timeout=PATIENCE) for each in handles] == [*range(4_200)]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (Negative, "need() is 0 or more"),
        (NoWords, "the detail of a Short is a sentence"),
        (NoTime, "the seconds of a Short are more than 0"),
        (RaisesNeed, "ZeroDivisionError"),
        (RaisesShort, "no server"),
        (NoNumber, "need() is a number"),
        (NoShort, "short() is a Short or None"),
    ],
)
def test_one_that_fails_fails_the_task_and_says_which(wrong, words):
    with orchestrator(wrong()) as orch:
        handle = orch.submit_task(Task("seated"))
        error = handle.exception(timeout=PATIENCE)
        assert isinstance(error, ComponentError)
        assert "limit seats" in str(error)
        assert words in str(error)


@pytest.mark.parametrize("names", [["seats", "seats"], ["No name"], [7]])
def test_names_are_looked_at(names):
    limits = [Seats() for _ in names]
    for limit, name in zip(limits, names, strict=True):
        limit.name = name
    with pytest.raises(InvalidTaskError, match="limit"):
        orchestrator(*limits)
