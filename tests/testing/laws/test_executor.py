"""check_executor: executors of the library pass, and each planted mistake is named."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import (
    BrokenExecutor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)
from functools import partial

import pytest
from tests.testing.laws.tools import each, violation

from taskorch.protocols import Executor
from taskorch.testing.laws import check_executor
from taskorch.testing.laws._case import laws_of
from taskorch.testing.laws._home import Home, call_home

pytestmark = pytest.mark.slow("the laws, for each executor")


class Right(ThreadPoolExecutor):
    def __init__(self):
        super().__init__(2)
        self.accepted = []

    def submit(self, fn, /, *args, **kwargs):
        future = super().submit(partial(self.run, fn), *args, **kwargs)
        self.accepted.append(future)
        return future

    def run(self, fn, /, *args, **kwargs):
        return fn(*args, **kwargs)


class Inline:
    """Makes the call at once; for laws that it does not come to otherwise."""

    def __init__(self):
        self.is_shut = False

    def submit(self, fn, /, *args, **kwargs):
        future = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future

    def shutdown(self, wait=True, *, cancel_futures=False):
        self.is_shut = True


class ReturnsTheResult(Right):
    def submit(self, fn, /, *args, **kwargs):
        return super().submit(fn, *args, **kwargs).result


class ShowsTheResult(Right):
    def run(self, fn, /, *args, **kwargs):
        result = fn(*args, **kwargs)
        return result if isinstance(result, int) else repr(result)


class WrapsTheError(Right):
    def run(self, fn, /, *args, **kwargs):
        try:
            return fn(*args, **kwargs)
        except Exception as error:
            raise RuntimeError(str(error)) from error


class ForgetsTheError(Right):
    def run(self, fn, /, *args, **kwargs):
        try:
            return fn(*args, **kwargs)
        except Exception:
            return None


class CallsTwice(Right):
    def run(self, fn, /, *args, **kwargs):
        fn(*args, **kwargs)
        return fn(*args, **kwargs)


class TriesAgain(Right):
    def run(self, fn, /, *args, **kwargs):
        try:
            return fn(*args, **kwargs)
        except Exception:
            return fn(*args, **kwargs)


class BreaksWithTheFirstFailure(Right):
    failed = False

    def run(self, fn, /, *args, **kwargs):
        if self.failed:
            raise BrokenExecutor
        try:
            return fn(*args, **kwargs)
        except Exception:
            self.failed = True
            raise


class RefusesAfterAFailure(Right):
    def submit(self, fn, /, *args, **kwargs):
        if any(future.done() and future.exception() for future in self.accepted):
            raise BrokenExecutor("broken")
        return super().submit(fn, *args, **kwargs)


class WaitsForTheCall(Right):
    def submit(self, fn, /, *args, **kwargs):
        future = super().submit(fn, *args, **kwargs)
        future.exception()
        return future


class GoesHomeEarly(Right):
    def shutdown(self, wait=True, *, cancel_futures=False):
        super().shutdown(wait=False, cancel_futures=cancel_futures)


class DropsWhatHasNotBegun(Right):
    def shutdown(self, wait=True, *, cancel_futures=False):
        while not cancel_futures and not self._work_queue.empty():
            self._work_queue.get_nowait()
        super().shutdown(wait=wait, cancel_futures=cancel_futures)


class NeverCloses(Right):
    def submit(self, fn, /, *args, **kwargs):
        if self._shutdown:
            return Inline().submit(fn, *args, **kwargs)
        return super().submit(fn, *args, **kwargs)


class ClosesAfterOneMore(Right):
    def submit(self, fn, /, *args, **kwargs):
        if self._shutdown:
            fn(*args, **kwargs)
        return super().submit(fn, *args, **kwargs)


class ClosesWithAnotherError(Right):
    def submit(self, fn, /, *args, **kwargs):
        if self._shutdown:
            raise ValueError("closed")
        return super().submit(fn, *args, **kwargs)


class CancelsNothing(Right):
    def shutdown(self, wait=True, *, cancel_futures=False):
        super().shutdown(wait=wait)


class CancelsWhatHasBegun(Right):
    def shutdown(self, wait=True, *, cancel_futures=False):
        for future in self.accepted:
            if cancel_futures and future.running():
                future.set_exception(BrokenExecutor("shut down"))
        super().shutdown(wait=wait, cancel_futures=cancel_futures)


class CallsWhatItCancelled(Right):
    """It keeps what it was given, and makes the calls all the same."""

    def __init__(self):
        super().__init__()
        self.given = []

    def submit(self, fn, /, *args, **kwargs):
        future = super().submit(fn, *args, **kwargs)
        self.given.append((future, partial(fn, *args, **kwargs)))
        return future

    def shutdown(self, wait=True, *, cancel_futures=False):
        super().shutdown(wait=wait, cancel_futures=cancel_futures)
        for future, call in self.given:
            if future.cancelled():
                call()
        self.given.clear()


PLANTED = {
    0: (ReturnsTheResult,),
    1: (ShowsTheResult, WrapsTheError, ForgetsTheError),
    2: (CallsTwice, TriesAgain),
    3: (BreaksWithTheFirstFailure, RefusesAfterAFailure),
    4: (WaitsForTheCall, Inline),
    5: (GoesHomeEarly, DropsWhatHasNotBegun),
    6: (NeverCloses, ClosesAfterOneMore, ClosesWithAnotherError),
    7: (CancelsNothing, CancelsWhatHasBegun, CallsWhatItCancelled),
}


@pytest.mark.parametrize(
    "make", [Right, ThreadPoolExecutor, partial(ThreadPoolExecutor, 1)]
)
def test_a_right_one_passes(make):
    check_executor(make)


@pytest.mark.parametrize("workers", [1, 3])
def test_processes_pass(workers):
    """The calls reach other processes, and are heard of from there."""
    # Threads are about, so nothing may be forked off this process.
    context = multiprocessing.get_context("spawn")
    check_executor(
        lambda: ProcessPoolExecutor(workers, mp_context=context), patience=25.0
    )


@pytest.mark.parametrize(("law", "made"), each(PLANTED))
def test_a_planted_mistake_is_named(law, made):
    # What it takes to see that something does not happen; right ones do not wait so.
    found = violation(check_executor, made, examples=20, patience=0.5)

    assert found.law == law


def test_every_law_has_a_planted_mistake():
    assert set(laws_of(Executor)) == set(PLANTED) - {0}


def test_an_executor_itself_is_not_enough():
    """Each law needs a new one."""
    with (
        ThreadPoolExecutor(1) as executor,
        pytest.raises(TypeError, match="what makes an Executor"),
    ):
        check_executor(executor)


def test_a_call_is_kept_while_the_door_is_shut():
    home = Home(10.0)
    with ThreadPoolExecutor(1) as executor:
        home.shut()
        future = executor.submit(call_home, home.address, 10.0, "a", "result")
        assert home.has_heard_of(["a"])
        assert not future.done()

        home.open()
        assert future.result(10.0) == "result"
    home.close()

    assert home.begun == ("a",)
