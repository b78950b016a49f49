"""The pool of workers step by step, without a process: who is given what, and told."""

# pyright: basic

import os
import pickle
import threading
import time
from concurrent.futures import BrokenExecutor
from types import SimpleNamespace

import pytest
from tests.unit.executors.tools import Thread

from taskorch.errors import AttemptInterrupted, InvalidTaskError, TaskFailedError
from taskorch.executors._processes import _pool, _wire
from taskorch.executors._processes._process import Assignment
from taskorch.executors._programs import _fork
from taskorch.executors._remote import HERE, RemoteEnd


class Told:
    """An attempt, and what is told of it."""

    def __init__(self, name="t1"):
        self.task_id, self.number, self.told_of = name, 1, []

    def portable(self):
        return "call of", self.task_id

    def end(self, value=None, error=None):
        self.told_of.append((value, error))

    def unstarted(self, error):
        self.told_of.append(("unstarted", error))

    @property
    def error(self):
        ((value, error),) = self.told_of
        assert value is None
        return error


class Hands:
    """A worker that does nothing, and what it was asked to do."""

    pid = 4711
    is_garbled = is_mute = False
    exit_code = 3

    def __init__(self, *, is_ready=True):
        self.did, self.untaken, self.looks = [], set(), 0
        self.takes_ahead = True
        self.is_ready, self.is_leaving = is_ready, False
        self.assignment = self.following = None

    def give(self, assignment, *, ahead=False):
        self.did.append(("ahead" if ahead else "give", assignment.number))
        return self.takes_ahead or not ahead

    def take_back(self):
        self.looks += 1
        return self.untaken

    def send(self, kind, *body):
        self.did.append((kind, *body))

    def __getattr__(self, name):
        return lambda: self.did.append(name)


class Started(Hands):
    """What is made in the place of a process."""

    problem = None

    def __init__(self, *given):
        super().__init__(is_ready=False)
        self.given = given

    def start(self):
        if self.problem is not None:
            raise self.problem
        self.did.append("start")


class Steps:
    """A pool, whose loop and guardian only note what they are asked for."""

    def __init__(self, count=1):
        self.pool = _pool.WorkerPool("run", count)
        self.called, self.times, self.guarded = [], [], []
        self.pool._loop = SimpleNamespace(
            call=self.called.append, at=lambda *given: self.times.append(given)
        )
        self.pool._guard = SimpleNamespace(
            start=lambda: self.guarded.append("start"),
            add=lambda pid: self.guarded.append(("add", pid)),
            remove=lambda pid: self.guarded.append(("remove", pid)),
            close=lambda: self.guarded.append("close"),
            disown=lambda: self.guarded.append("disown"),
        )
        self.pool._thread = threading.current_thread()

    def make(self, number=1):
        return Assignment(Told(f"t{number}"), bytes([number]), b"call")

    def wait(self, *numbers):
        """What waits in the pool."""
        made = [self.make(number) for number in numbers]
        self.pool._waiting.extend(made)
        return made

    def work(self, now=None, then=None, **options):
        """A worker of the pool, with what it was given."""
        worker = Hands(**options)
        self.pool._workers.add(worker)
        self.pool._there += 1
        for name, given in (("assignment", now), ("following", then)):
            setattr(worker, name, given)
            if given is not None:
                given.worker = worker
        return worker

    @property
    def counts(self):
        return self.pool._there, self.pool._coming


@pytest.fixture(autouse=True)
def no_processes(monkeypatch):
    monkeypatch.setattr(_pool, "WorkerProcess", Started)


@pytest.fixture
def steps():
    return Steps()


# -- how many there are ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("waiting", "coming", "there", "count", "is_one_more"),
    [
        (1, 0, 0, 1, True),
        (1, 0, 1, 1, False),
        (1, 0, 1, 2, True),
        (1, 1, 1, 2, False),
        (2, 1, 1, 2, True),
        (0, 0, 0, 1, False),
        (0, 0, 1, 2, False),
        (2, 0, 2, 2, False),
    ],
)
def test_one_more_is_ordered_while_more_wait_than_come(
    waiting, coming, there, count, is_one_more
):
    steps = Steps(count)
    steps.wait(*range(waiting))
    steps.pool._there, steps.pool._coming = there, coming
    assert steps.pool._order() is is_one_more
    assert steps.counts == (there + is_one_more, coming + is_one_more)


def test_a_call_goes_to_who_is_idle_and_nobody_is_started_for_it(steps):
    worker = steps.work()
    steps.pool._idle.append(worker)
    given = steps.pool.begin(Told())
    assert worker.did == [("give", given.number)]
    assert (worker.assignment, given.worker) == (given, worker)
    assert pickle.loads(given.call) == ("call of", "t1")
    assert (steps.called, steps.counts) == ([], (1, 0))
    assert not steps.pool._idle


def test_a_call_that_nobody_can_take_has_a_worker_started_or_waits(steps):
    first, second = steps.pool.begin(Told()), steps.pool.begin(Told("t2"))
    assert list(steps.pool._waiting) == [first, second]
    assert steps.called == [steps.pool._start_worker]
    assert steps.counts == (1, 1)
    assert first.number != second.number
    assert len(first.number) == _wire.NUMBER


def test_a_call_in_a_script_that_is_brought_in_is_refused(steps, monkeypatch):
    monkeypatch.setattr(HERE, "is_importing_main", True)
    with pytest.raises(InvalidTaskError, match="once more") as got:
        steps.pool.begin(Told("t7"))
    assert got.value.task_id == "t7"


def test_a_call_that_cannot_be_pickled_is_refused_by_its_name(steps):
    told = Told("t7")
    told.portable = threading.Lock
    with pytest.raises(InvalidTaskError, match="task t7 cannot be sent to") as got:
        steps.pool.begin(told)
    assert isinstance(got.value.__cause__, TypeError)
    assert not steps.pool._waiting


def test_a_worker_is_started_with_a_mark_of_its_own_and_guarded(steps):
    steps.wait(1)
    pool = steps.pool
    pool._there = pool._coming = 1
    pool._start_worker()
    pool._start_worker()
    assert steps.counts == (1, 1)
    one, other = pool._workers
    assert one.did == other.did == ["start"]
    (loop, mark, run_id, *said), (_, another, *_) = one.given, other.given
    assert (loop, run_id) == (pool._loop, "run")
    assert said == [pool._heard, pool._worker_ended]
    assert mark != another
    assert mark.startswith(f"run.{os.getpid()}.w")
    assert steps.guarded == ["start", ("add", 4711)] * 2


@pytest.mark.parametrize(("closed", "waiting"), [(True, 1), (False, 0), (True, 0)])
def test_a_worker_that_nobody_needs_any_more_is_not_started(steps, closed, waiting):
    steps.wait(*range(waiting))
    pool = steps.pool
    pool._closed, pool._there, pool._coming = closed, 4, 2
    pool._start_worker()
    assert steps.counts == (3, 1)
    assert not pool._workers
    assert not steps.guarded


@pytest.mark.parametrize(
    ("error", "there", "is_refused"),
    [
        (OSError(24, "too many open files"), 2, False),
        (OSError(24, "too many open files"), 3, False),
        (OSError(24, "too many open files"), 1, True),
        (OSError("no Python"), 2, True),
        (OSError("no Python"), 1, True),
    ],
)
def test_who_waits_is_told_unless_another_worker_can_come_to_it(
    steps, error, there, is_refused, monkeypatch
):
    monkeypatch.setattr(Started, "problem", error)
    waiting = steps.wait(1, 2)
    steps.pool._there, steps.pool._coming = there, 2
    steps.pool._start_worker()
    assert steps.counts == (there - 1, 1)
    assert not steps.pool._workers
    for one in waiting:
        assert one.is_over is is_refused
        assert one.attempt.told_of == [("unstarted", error)] * is_refused
    assert list(steps.pool._waiting) == ([] if is_refused else waiting)


# -- who is given what -----------------------------------------------------------------


def test_a_worker_takes_what_has_waited_longest(steps):
    first, second = steps.wait(1, 2)
    steps.pool._count = 2
    worker = steps.work()
    steps.pool._serve(worker)
    assert (worker.assignment, worker.following) == (first, None)
    assert first.worker is worker
    assert list(steps.pool._waiting) == [second]
    assert worker.did == [("give", b"\1")]


@pytest.mark.parametrize(
    ("coming", "count", "call", "takes", "ahead"),
    [
        (0, 1, b"call", True, True),
        (0, 2, b"call", True, False),
        (1, 1, b"call", True, False),
        (0, 1, b"", True, False),
        (0, 1, b"call", False, False),
    ],
)
def test_one_is_given_in_advance_where_nobody_else_will_come_to_it(
    coming, count, call, takes, ahead
):
    steps = Steps(count)
    steps.pool._coming = coming
    now, *_ = steps.make(), steps.wait(2, 3)
    now.call = call
    worker = steps.work(now)
    worker.takes_ahead = takes
    steps.pool._serve(worker)
    assert worker.assignment is now
    waiting = [one.number for one in steps.pool._waiting]
    if ahead:
        assert worker.following.number == b"\2"
        assert worker.following.worker is worker
        assert waiting == [b"\3"]
    else:
        assert worker.following is None
        assert waiting == [b"\2", b"\3"]
    tried = not coming and count == 1 and call
    assert worker.did == ([("ahead", b"\2")] if tried else [])


def test_with_nothing_to_do_it_is_idle(steps):
    worker = steps.work()
    steps.pool._serve(worker)
    assert steps.pool._idle == [worker]
    assert worker.did == []


def test_with_nothing_to_do_it_takes_what_another_has_not_begun():
    steps = Steps(2)
    now, then = steps.make(1), steps.make(2)
    busy, idle = steps.work(now, then), steps.work()
    busy.untaken = {then.number}
    steps.pool._serve(idle)
    assert (busy.assignment, busy.following) == (now, None)
    assert (idle.assignment, then.worker) == (then, idle)
    assert idle.did == [("give", b"\2")]
    assert busy.did == []
    # There is nothing more to be had of it.
    steps.pool._workers.discard(idle)
    assert steps.pool._given_to_others() is None
    assert busy.looks == 1


def test_taken_back_with_another_that_goes_to_the_worker_again(steps):
    """One that is stopped was to be next: what it has not begun it still is to do."""
    now, then = steps.make(1), steps.make(2)
    worker = steps.work(now, then)
    worker.untaken = {now.number, then.number}
    assert steps.pool._take_back(worker, then) is True
    assert (worker.assignment, worker.following) == (now, None)
    assert (now.worker, then.worker) == (worker, None)
    assert worker.did == [("give", b"\1")]


def test_taken_back_before_another_that_takes_its_place(steps):
    now, then = steps.make(1), steps.make(2)
    worker = steps.work(now, then)
    worker.untaken = {now.number, then.number}
    assert steps.pool._take_back(worker, now) is True
    assert (worker.assignment, worker.following) == (then, None)
    assert (now.worker, then.worker) == (None, worker)
    assert worker.did == [("give", b"\2")]


def test_not_taken_back_what_it_has_begun(steps):
    now, then = steps.make(1), steps.make(2)
    worker = steps.work(now, then)
    worker.untaken = {then.number}
    assert steps.pool._take_back(worker, now) is False
    assert (worker.assignment, worker.following) == (now, then)
    assert (now.worker, then.worker) == (worker, worker)
    # It was taken from it with the rest, and is given again.
    assert worker.did == [("give", b"\2")]


# -- stopping --------------------------------------------------------------------------


def test_what_is_over_is_not_stopped(steps):
    over = steps.make()
    worker = steps.work(over)
    over.is_over = True
    steps.pool.stop(over, 0)
    assert (worker.did, steps.called, over.attempt.told_of) == ([], [], [])
    assert not over.is_asked


def test_in_a_fork_nothing_is_stopped(steps):
    """It is the parent's."""
    (waiting,) = steps.wait(1)
    steps.pool._owner = os.getpid() + 1
    steps.pool.stop(waiting, 0)
    assert waiting.attempt.told_of == []
    assert list(steps.pool._waiting) == [waiting]


def test_what_waits_is_stopped_at_once(steps):
    waiting, other = steps.wait(1, 2)
    steps.pool.stop(waiting, 3600)
    assert isinstance(waiting.attempt.error, AttemptInterrupted)
    assert waiting.is_over
    assert list(steps.pool._waiting) == [other]
    assert steps.called == []
    assert other.attempt.told_of == []


def test_what_was_given_and_not_begun_is_stopped_at_once(steps):
    now, then = steps.make(1), steps.make(2)
    worker = steps.work(now, then)
    worker.untaken = {then.number}
    steps.pool.stop(then, 3600)
    assert isinstance(then.attempt.error, AttemptInterrupted)
    assert then.is_over
    assert worker.did == steps.called == steps.pool._idle == []


def test_whose_only_call_was_taken_back_gets_the_next(steps):
    now = steps.make(1)
    worker = steps.work(now)
    worker.untaken = {now.number}
    (waiting,) = steps.wait(2)
    steps.pool.stop(now, 3600)
    assert isinstance(now.attempt.error, AttemptInterrupted)
    assert worker.assignment is waiting
    assert worker.did == [("give", b"\2")]


@pytest.mark.parametrize(("seconds", "later"), [(3600.0, 3600.0), (0.0, 0), (-5.0, 0)])
def test_what_was_begun_is_told_once_and_killed_when_its_time_is_up(
    steps, seconds, later
):
    now = steps.make()
    worker = steps.work(now)
    before = time.monotonic()
    steps.pool.stop(now, seconds)
    assert now.is_asked
    assert not now.is_over
    assert worker.did == [(_wire.STOP, now.number)]
    assert worker.looks == 1
    (have_killed,) = steps.called
    have_killed()
    ((when, kill),) = steps.times
    assert before + later <= when <= time.monotonic() + later
    steps.pool.stop(now, seconds)
    assert worker.did == [(_wire.STOP, now.number)]
    assert worker.looks == 1
    assert len(steps.called) == 2
    kill()
    assert worker.did[1:] == ["kill"]
    assert now.attempt.told_of == []
    now.is_over = True
    kill()
    assert worker.did[1:] == ["kill"]
    now.is_over, now.worker = False, None
    kill()


def test_all_are_stopped_whoever_has_them(steps):
    now, then = steps.make(1), steps.make(2)
    worker = steps.work(now, then)
    worker.untaken = {then.number}
    steps.work()
    (waiting,) = steps.wait(3)
    steps.pool.end_all(3600)
    for one in (then, waiting):
        assert isinstance(one.attempt.error, AttemptInterrupted)
    assert now.is_asked
    assert worker.did == [(_wire.STOP, now.number)]


# -- what workers say ------------------------------------------------------------------


def test_what_a_worker_returned_ends_its_call_and_it_gets_the_next(steps):
    now, then = steps.make(1), steps.make(2)
    worker = steps.work(now, then)
    (waiting,) = steps.wait(3)
    steps.pool._heard(worker, _wire.RETURNED, b"\3int" + b"data")
    ((value, error),) = now.attempt.told_of
    assert error is None
    assert (value.kind, value.data, value.raised) == ("int", b"data", False)
    assert type(value) is RemoteEnd
    assert now.is_over
    assert now.call == b""
    assert (worker.assignment, worker.following) == (then, waiting)
    assert worker.did == [("ahead", b"\3")]


def test_what_a_call_logged_in_is_let_go_with_its_end(steps):
    now = steps.make()
    now.variables = object()
    steps.pool._end(now, 5)
    assert now.attempt.told_of == [(5, None)]
    assert (now.variables, now.call, now.is_over) == (None, b"", True)


@pytest.mark.parametrize(
    ("body", "value", "error"),
    [
        (pickle.dumps(5), 5, None),
        (b"this cannot be read", None, pickle.UnpicklingError),
    ],
)
def test_an_end_is_told_as_far_as_it_can_be_read(steps, body, value, error):
    now = steps.make()
    worker = steps.work(now)
    steps.pool._heard(worker, _wire.END, body)
    ((told, raised),) = now.attempt.told_of
    assert told == value
    assert raised is None if error is None else isinstance(raised, error)
    assert steps.pool._idle == [worker]


def test_a_worker_that_is_ready_has_come(steps):
    worker = steps.work(is_ready=False)
    steps.pool._coming = 1
    steps.pool._heard(worker, _wire.READY, b"")
    assert worker.is_ready
    assert steps.counts == (1, 0)
    assert steps.pool._idle == [worker]
    assert worker.did == []


def test_a_call_that_could_not_be_read_has_failed(steps):
    now = steps.make()
    worker = steps.work(now)
    said = pickle.dumps(("ImportError", "no module"))
    steps.pool._heard(worker, _wire.UNREADABLE, said)
    error = now.attempt.error
    assert isinstance(error, TaskFailedError)
    assert "ImportError: no module" in str(error)
    assert error.type == "ImportError"
    assert steps.pool._idle == [worker]


def test_records_and_what_is_told_go_their_way_with_their_call(steps, monkeypatch):
    heard = []
    monkeypatch.setattr(_pool, "handle_record", lambda *given: heard.append(given))

    class Telling:
        def __init__(self, *given):
            self.given = given

        def begin(self):
            heard.append(self.given)

    monkeypatch.setattr(_pool, "Telling", Telling)
    now = steps.make()
    worker, idle = steps.work(now), steps.work()
    steps.pool._heard(worker, _wire.LOGGED, b"record")
    steps.pool._heard(idle, _wire.LOGGED, b"of nobody")
    steps.pool._heard(worker, _wire.TOLD, b"said")
    steps.pool._heard(idle, _wire.TOLD, b"late")
    assert heard == [
        (now, b"record"),
        (None, b"of nobody"),
        (worker, now, b"said"),
        (idle, None, b"late"),
    ]
    assert now.attempt.told_of == []


@pytest.mark.parametrize(
    ("is_closed", "is_leaving", "does"),
    [
        (False, False, "is idle"),
        (True, False, "leaves"),
        (False, True, "nothing"),
        (True, True, "nothing"),
    ],
)
def test_at_the_end_of_its_call_a_worker_is_idle_or_leaves(
    steps, is_closed, is_leaving, does
):
    now = steps.make()
    worker = steps.work(now)
    worker.is_leaving, steps.pool._closed = is_leaving, is_closed
    steps.pool._next(worker, 5)
    assert now.attempt.told_of == [(5, None)]
    assert worker.did == (["leave"] if does == "leaves" else [])
    assert (worker in steps.pool._idle) == (does != "nothing")
    assert worker.assignment is None


def test_a_worker_that_leaves_is_given_nothing_more(steps):
    worker = steps.work(steps.make())
    waiting = steps.wait(2)
    worker.is_leaving = True
    steps.pool._next(worker, 5)
    assert worker.did == []
    assert list(steps.pool._waiting) == waiting


def test_closed_a_worker_goes_on_with_what_it_was_given(steps):
    worker = steps.work(steps.make(1), steps.make(2))
    steps.pool._closed = True
    steps.pool._next(worker, 5)
    assert worker.assignment.number == b"\2"
    assert worker.following is None
    assert worker.did == []


def test_a_call_is_over_before_its_worker_gets_the_next(steps):
    """Or it could be stopped still, and its worker be killed with the next one."""
    now, seen = steps.make(), []
    worker = steps.work(now)
    steps.pool._serve = lambda _: seen.append(now.is_over)
    steps.pool._next(worker, 5)
    assert seen == [True]


# -- when one has ended ----------------------------------------------------------------


def test_what_a_dead_worker_had_begun_is_lost_and_the_rest_waits_again(steps):
    now, then = steps.make(1), steps.make(2)
    worker = steps.work(now, then)
    worker.untaken = {then.number}
    (waiting,) = steps.wait(3)
    steps.pool._worker_ended(worker)
    assert isinstance(now.attempt.error, BrokenExecutor)
    assert "exited with code 3" in str(now.attempt.error)
    assert now.is_over
    assert not then.is_over
    assert then.worker is None
    assert list(steps.pool._waiting) == [then, waiting]
    assert (worker.assignment, worker.following) == (None, None)
    assert worker.did == ["close_messages"]
    assert worker not in steps.pool._workers
    assert steps.guarded[0] == ("remove", 4711)


def test_both_are_lost_if_it_had_begun_both(steps):
    """And over at once: nobody can stop what nobody does."""
    now, then = steps.make(1), steps.make(2)
    seen = []
    steps.pool._order = lambda: seen.append((now.is_over, then.is_over))
    steps.pool._worker_ended(steps.work(now, then))
    assert seen == [(True, True)]
    for one in (now, then):
        assert isinstance(one.attempt.error, BrokenExecutor)
        assert one.is_over
    assert steps.counts == (0, 0)


def test_what_it_had_not_begun_waits_in_the_order_in_which_it_came(steps):
    now, then = steps.make(1), steps.make(2)
    worker = steps.work(now, then)
    worker.untaken = {now.number, then.number}
    steps.pool._closed = False
    steps.pool._count = 0
    steps.pool._worker_ended(worker)
    assert list(steps.pool._waiting) == [now, then]
    assert now.worker is then.worker is None
    assert now.attempt.told_of == then.attempt.told_of == []


def test_another_is_started_in_its_place_if_somebody_waits(steps):
    worker = steps.work()
    steps.pool._idle.append(worker)
    steps.pool._worker_ended(worker)
    assert steps.counts == (0, 0)
    assert not steps.pool._idle
    assert not steps.pool._workers
    busy = steps.work(steps.make(1))
    steps.wait(2)
    steps.pool._worker_ended(busy)
    assert steps.counts == (1, 1)
    (new,) = steps.pool._workers
    assert new.did == ["start"]


def test_one_that_never_began_costs_one_of_those_that_wait(steps):
    """Or one after the other would end so, and nobody would be told."""
    first, second = steps.wait(1, 2)
    worker = steps.work(is_ready=False)
    steps.pool._coming = 1
    steps.pool._worker_ended(worker)
    assert isinstance(first.attempt.error, TaskFailedError)
    assert "before it could begin" in str(first.attempt.error)
    assert first.is_over
    assert not second.is_over
    assert second.attempt.told_of == []
    assert steps.counts == (1, 1)


def test_one_that_never_began_and_that_nobody_waits_for_is_only_counted(steps):
    worker = steps.work(is_ready=False)
    steps.pool._coming = 1
    steps.pool._worker_ended(worker)
    assert steps.counts == (0, 0)


def test_closed_what_still_waits_is_called_off_and_none_is_started(steps):
    now, then = steps.make(1), steps.make(2)
    worker = steps.work(now, then)
    worker.untaken = {then.number}
    steps.pool._closed = True
    steps.pool._worker_ended(worker)
    assert isinstance(now.attempt.error, BrokenExecutor)
    assert isinstance(then.attempt.error, AttemptInterrupted)
    assert steps.counts == (0, 0)
    assert not steps.pool._workers
    assert steps.pool._is_over()


# -- its end ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("closed", "there", "waiting", "is_over"),
    [
        (True, 0, 0, True),
        (False, 0, 0, False),
        (True, 1, 0, False),
        (True, 0, 1, False),
        (True, 1, 1, False),
    ],
)
def test_it_is_over_once_it_is_closed_and_nobody_is_left(
    steps, closed, there, waiting, is_over
):
    steps.pool._closed, steps.pool._there = closed, there
    steps.wait(*range(waiting))
    assert bool(steps.pool._is_over()) is is_over


def test_closed_the_idle_leave_and_all_others_are_killed(steps):
    (waiting,) = steps.wait(1)
    idle, busy = steps.work(), steps.work(steps.make(2))
    coming = steps.work(is_ready=False)
    steps.pool._idle.append(idle)
    steps.pool._end_workers()
    assert isinstance(waiting.attempt.error, AttemptInterrupted)
    assert (idle.did, busy.did, coming.did) == (["leave"], ["kill"], ["kill"])
    assert not steps.pool._idle
    assert not steps.pool._waiting


@pytest.mark.parametrize("is_alive", [True, False])
@pytest.mark.parametrize("patience", [0.5, 1e12])
def test_closing_waits_so_long_and_says_who_is_left(steps, is_alive, patience, caplog):
    thread = steps.pool._thread = Thread(is_alive=is_alive)
    steps.work()
    steps.work()
    steps.pool.close(patience)
    assert thread.waits == [min(patience, threading.TIMEOUT_MAX)]
    assert steps.called == [steps.pool._end_workers]
    assert ("2 workers cannot be ended in time" in caplog.text) is is_alive
    with pytest.raises(RuntimeError, match="take no more calls"):
        steps.pool.begin(Told())


def test_closing_on_its_own_thread_or_before_its_first_waits_for_nobody(steps):
    steps.pool.close(1)
    assert steps.called == []
    steps.pool._thread = None
    steps.pool.close(1)
    assert steps.called == []
    assert steps.pool._closed


def test_a_fork_neither_closes_it_nor_gives_it_calls(steps):
    steps.pool._owner = os.getpid() + 1
    steps.pool._thread = Thread()
    steps.pool.close(1)
    assert not steps.pool._closed
    assert steps.pool._thread.waits == []
    with pytest.raises(RuntimeError, match=f"belong to process {os.getpid() + 1}, "):
        steps.pool.begin(Told())
    assert not steps.pool._waiting


def test_a_forked_child_closes_what_leads_to_the_workers(steps):
    workers = [steps.work(), steps.work()]
    steps.pool.disown()
    assert [worker.did for worker in workers] == [["disown"]] * 2
    assert steps.guarded == ["disown"]


def test_its_thread_is_begun_with_a_loop_of_its_own(steps, monkeypatch):
    monkeypatch.setattr(_pool.threading, "Thread", Thread)
    before, steps.pool._thread = steps.pool._loop, None
    steps.pool._launch()
    thread = steps.pool._thread
    assert thread.started == 1
    assert thread.options["daemon"]
    assert thread.options["target"] == steps.pool._supervise
    assert steps.pool._loop is not before
    assert steps.pool._owner == os.getpid()
    assert steps.pool in _fork._owners
    assert steps.pool.begin(Told()) in steps.pool._waiting


def test_without_a_thread_the_next_call_may_find_one(steps, monkeypatch):
    problem = RuntimeError("can't start new thread")
    steps.pool._thread = None
    with monkeypatch.context() as patch:
        patch.setattr(
            _pool.threading, "Thread", lambda **given: Thread(problem=problem, **given)
        )
        with pytest.raises(RuntimeError, match="new thread"):
            steps.pool.begin(Told())
    assert steps.pool._thread is None
    assert not steps.pool._waiting
    assert steps.counts == (0, 0)


@pytest.mark.parametrize("problem", [None, OSError(24, "too many open files")])
def test_with_its_thread_goes_what_it_has_opened(steps, problem, caplog):
    did = []

    def run(until):
        assert until == steps.pool._is_over
        did.append("run")
        if problem is not None:
            raise problem

    steps.pool._loop.open = lambda: did.append("open")
    steps.pool._loop.run = run
    steps.pool._loop.close = lambda: did.append("close")
    (waiting,) = steps.wait(1)
    steps.pool._supervise()
    assert did == ["open", "run", "close"]
    assert steps.guarded == ["close"]
    gave_up = problem is not None
    assert waiting.attempt.told_of == [("unstarted", problem)] * gave_up
    assert ("has to give up" in caplog.text) is gave_up
    assert (steps.pool._thread is None) is gave_up


def test_when_it_gives_up_all_are_told_and_the_next_call_begins_anew(steps):
    now, then = steps.make(1), steps.make(2)
    busy, idle = steps.work(now, then), steps.work()
    (waiting,) = steps.wait(3)
    pool = steps.pool
    pool._idle, pool._coming = [idle], 1
    problem = OSError("too many open files")
    pool._give_up(problem)
    for one in (now, then):
        assert isinstance(one.attempt.error, BrokenExecutor)
        assert "too many open files" in str(one.attempt.error)
        assert one.is_over
    assert waiting.attempt.told_of == [("unstarted", problem)]
    assert waiting.is_over
    assert busy.did == idle.did == ["abandon"]
    assert (pool._thread, pool._workers, pool._idle) == (None, set(), [])
    assert not pool._waiting
    assert steps.counts == (0, 0)
