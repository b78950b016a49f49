"""The threads that do the work of functions: begun as they are needed, and ended."""

import threading
from typing import Any

import pytest

from taskorch.executors._threads import Worker, WorkerThreads

PATIENCE = 20.0


class Pool:
    """Threads, and what they have done; an item is a function."""

    def __init__(self):
        self.lock = threading.Lock()
        self.crashes = []
        self.parked = threading.Semaphore(0)
        self.threads = WorkerThreads(
            "test", self.run, threading.local(), 4, self.crashes.append
        )

    def run(self, worker, item):
        worker.current = (item, 1)
        try:
            item()
        finally:
            worker.current = None
        with self.lock:
            self.threads.idle.append(worker)
        self.parked.release()

    def start(self, item):
        with self.lock:
            idle = self.threads.idle
            self.threads.start(item, idle.pop() if idle else None)

    def wait(self, count=1):
        for _ in range(count):
            assert self.parked.acquire(timeout=PATIENCE)

    def end_idle(self, **options):
        with self.lock:
            self.threads.end_idle(**options)


@pytest.fixture
def pool():
    pool = Pool()
    yield pool
    pool.end_idle(unassigned=True)
    pool.threads.join(PATIENCE)


def alive():
    return {one for one in threading.enumerate() if one.name.startswith("test-")}


def test_an_idle_thread_does_what_comes_next(pool):
    done = []
    for number in range(3):
        pool.start(lambda number=number: done.append(number))
        pool.wait()
    assert done == [0, 1, 2]
    assert len(alive()) == 1


def test_what_is_begun_gets_a_thread_though_one_is_idle(pool):
    """The driver begins on one that is idle by another way."""
    done = threading.Event()
    pool.start(lambda: None)
    pool.wait()
    pool.threads.begin(done.set)
    assert done.wait(PATIENCE)
    pool.wait()
    assert len(alive()) == 2
    assert pool.threads.keep == 4


def test_those_that_are_told_to_end_have_ended_once_they_were_waited_for(pool):
    meet = threading.Barrier(3)
    for _ in range(3):
        pool.start(lambda: meet.wait(PATIENCE))
    pool.wait(3)
    assert len(alive()) == 3
    pool.end_idle()
    pool.threads.join(PATIENCE)
    assert alive() == set()
    assert pool.threads._threads == {}


def test_nobody_waits_for_a_thread_that_works_nor_for_itself(pool, monkeypatch):
    go_on, begun = threading.Event(), threading.Event()

    def work():
        begun.set()
        # Called by a thread of the pool, which cannot wait for its own end.
        pool.threads.join(PATIENCE)
        go_on.wait(PATIENCE)

    waits = []
    pool.start(work)
    assert begun.wait(PATIENCE)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "join", lambda *given: waits.append(given))
        pool.threads.join(PATIENCE)
    assert waits == []
    assert len(alive()) == 1
    go_on.set()
    pool.wait()


def test_one_that_does_not_end_is_waited_for_so_long_only(pool, monkeypatch):
    """As one that is idle, and was not told to end."""
    waits = []
    join = threading.Thread.join

    def joining(thread, timeout=None):
        waits.append(timeout)
        join(thread, 0)

    pool.start(lambda: None)
    pool.wait()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "join", joining)
        pool.threads.join(0)
        pool.threads.join(5)
    at_once, later = waits
    assert at_once == 0
    assert 0 < later <= 5


def test_one_that_was_taken_and_never_got_an_item_ends_too(pool):
    pool.start(lambda: None)
    pool.wait()
    with pool.lock:
        pool.threads.idle.pop()
    pool.end_idle()
    assert len(alive()) == 1
    pool.end_idle(unassigned=True)
    pool.threads.join(PATIENCE)
    assert alive() == set()


def test_each_has_a_number_of_its_own(pool):
    meet = threading.Barrier(2)
    for _ in range(2):
        pool.start(lambda: meet.wait(PATIENCE))
    pool.wait(2)
    assert {one.name for one in alive()} == {"test-1", "test-2"}


def test_none_keeps_the_interpreter_from_its_exit(pool):
    pool.start(lambda: None)
    pool.wait()
    assert all(one.daemon for one in alive())


def test_who_works_is_not_ended_with_those_that_never_got_an_item(pool):
    go_on, begun = threading.Event(), threading.Event()

    def work():
        begun.set()
        go_on.wait(PATIENCE)

    pool.start(work)
    assert begun.wait(PATIENCE)
    pool.end_idle(unassigned=True)
    go_on.set()
    pool.wait()
    pool.start(lambda: None)
    pool.wait()
    assert {one.name for one in alive()} == {"test-1"}


def test_who_is_told_to_end_is_not_told_twice(pool):
    worker, begins = Worker(None), Worker("an item")
    pool.threads._threads[threading.Thread()] = begins
    pool.threads._threads[threading.Thread()] = worker
    # One that was taken may get an item yet.
    pool.end_idle()
    assert worker.lock.locked()
    pool.end_idle(unassigned=True)
    assert begins.lock.locked()
    pool.end_idle(unassigned=True)
    assert not worker.lock.locked()
    # One that has not even begun is not waited for.
    pool.threads.join(PATIENCE)
    pool.threads._threads.clear()


def test_those_that_are_about_to_end_are_waited_for():
    on_the_way = threading.Event()

    class Local:
        """Keeps its thread until somebody waits for that."""

        def __setattr__(self, name, value):
            on_the_way.set()
            waited_for.wait(PATIENCE)

    class Watched(threading.Thread):
        def join(self, timeout=None):
            waited_for.set()
            assert timeout is not None
            assert timeout > PATIENCE / 2
            super().join(timeout)

    waited_for = threading.Event()
    local: Any = Local()
    threads = WorkerThreads("test", lambda worker, item: None, local, 1, print)
    # One that has not begun, which comes first, is not waited for.
    threads._threads[threading.Thread()] = Worker(None)
    thread = Watched(target=threads._loop, args=(Worker(None),))
    threads._threads[thread] = Worker(None)
    thread.start()
    assert on_the_way.wait(PATIENCE)
    threads.join(PATIENCE)
    assert waited_for.is_set()
    assert not thread.is_alive()


def test_a_thread_that_cannot_begin_is_forgotten(pool, monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="new thread"):
            pool.start(lambda: None)
    assert pool.threads._threads == {}
    pool.start(lambda: None)
    pool.wait()


def test_what_its_driver_raises_is_told():
    crashes = []
    told = threading.Event()

    def crashed(error):
        crashes.append(error)
        told.set()

    def run(worker, item):
        raise item

    threads = WorkerThreads("test", run, threading.local(), 1, crashed)
    error = ValueError("ours")
    threads.start(error, None)
    assert told.wait(PATIENCE)
    threads.join(PATIENCE)
    assert crashes == [error]
    assert Worker(1).item == 1
