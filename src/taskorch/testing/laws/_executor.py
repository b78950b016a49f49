"""Whether an Executor keeps its laws."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, wait
from contextlib import contextmanager, suppress
from typing import Any, Final

import attrs

from taskorch.protocols import Executor
from taskorch.testing.laws._case import Case, brief, cases, factory
from taskorch.testing.laws._home import (
    Home,
    call_home,
    elsewhere,
    kind_of,
    some_error,
    some_value,
)

#: The seconds in which `shutdown` may return too early: one that waits costs that much.
_TOO_EARLY: Final = 0.2
#: Seconds between checks of futures that may begin to run, which nobody is told of.
_PAUSE: Final = 0.01
#: Calls that are kept waiting, so that most executors have some left to begin.
_MANY: Final = 40


def check_executor(
    make: Callable[[], Executor],
    *,
    seed: int = 0,
    examples: int = 200,
    patience: float = 10.0,
) -> None:
    """
    Check the laws of Executor, with seven executors.

    The calls can be pickled and say over a socket of this machine when they begin, so
    executors of other processes can be checked as well as threads. Errors are of the
    builtin classes: whether those with constructors of their own come back is a
    question of pickle. What ends a process is left out, and so are errors outside
    `Exception`. The check has threads, so executors of processes had better not fork
    theirs off this one: `mp_context=get_context("spawn")`.

    How the laws are seen:

    - 1: in this process the results and errors must be the very objects.
    - 4, 5, 7: a call is kept waiting, and what may not wait for it must return; what
      must wait for it must not. To tell a broken executor from a slow one takes
      *patience*.

    Args:
        make: Makes an executor, each time a new one.
        seed: The seed of the calls' results.
        examples: How many calls to make, about.
        patience: Seconds to wait before something counts as never happening.

    Raises:
        LawViolation: A law is broken.
        TypeError: *make* cannot be called, or makes no executor.
    """
    checks = (
        # This comes first: an executor that makes calls in `submit` would block all
        # others.
        _check_submit,
        _check_results,
        _check_failure,
        _check_mixed,
        _check_shutdown,
        _check_closed,
        _check_cancelled,
    )
    new_executor = factory(make, Executor)
    numbered = cases(Executor, "check_executor", seed, len(checks))
    for case, check in zip(numbered, checks, strict=True):
        with case.noted(), _site(case, new_executor(), examples, patience) as site:
            check(site)


@attrs.define(eq=False)
class _ExecutorSite:
    """One executor under check, and the calls that it was given."""

    case: Case
    executor: Executor
    home: Home
    examples: int
    patience: float
    futures: dict[str, Future[Any]] = attrs.Factory(dict)

    def submit(self, value: Any = None, error: Exception | None = None) -> Future[Any]:
        """Submit one more call."""
        name = f"c{len(self.futures)}"
        # These are names that a careless executor takes for its own.
        future = self.executor.submit(
            call_home,
            self.home.address,
            self.patience * 4,
            name,
            value=value,
            error=error,
            fn=1,
            self=2,
        )
        if not isinstance(future, Future):
            self.case.malformed(Future, future)
        self.futures[name] = future
        return future

    def expect_resolved(self, future: Future[Any], law: int) -> None:
        """Expect that *future* is resolved within our patience."""
        # `wait` does not see that a future was cancelled.
        with suppress(TimeoutError, CancelledError):
            future.exception(self.patience)
        did = f"A call was not resolved within {self.patience:g} s."
        self.case.expect(future.done(), law, did)

    def shut_down(self, **options: bool) -> Future[None]:
        """Shut the executor down, from another thread."""
        return elsewhere(lambda: self.executor.shutdown(**options))


@contextmanager
def _site(
    case: Case, executor: Executor, examples: int, patience: float
) -> Iterator[_ExecutorSite]:
    home = Home(patience)
    site = _ExecutorSite(case, executor, home, examples, patience)
    try:
        yield site
    finally:
        home.open()
        # No call may be left that would use this address when others have it.
        wait([site.shut_down(wait=True)], patience)
        home.close()


# ----------------------------------------------------------------- laws 1, 2 and 3


def _check_results(site: _ExecutorSite) -> None:
    """Check law 1 with results, and law 2 with calls that end well."""
    here = _is_here(site)
    values = [some_value(site.case.random) for _ in range(max(1, site.examples // 2))]
    for value, future in [(value, site.submit(value)) for value in values]:
        _check_result(site, future, value, 1, here=here)
    _check_counts(site)


def _check_failure(site: _ExecutorSite) -> None:
    """Check law 1 with an error, and law 2 with a call that fails."""
    error = some_error(site.case.random, StopIteration(3))
    here = _is_here(site)
    _check_error(site, site.submit(error=error), error, here=here)
    _check_counts(site)


def _check_mixed(site: _ExecutorSite) -> None:
    """Check law 3 with a failing call beside one that runs, and among many others."""
    here, dice = _is_here(site), site.case.random
    site.home.shut()
    under_way = site.submit("under way")
    site.home.has_heard_of(["c0"])
    error = some_error(dice, StopIteration(3))
    failing = site.submit(error=error)
    site.home.open()
    _check_result(site, under_way, "under way", 3, here=here)
    _check_error(site, failing, error, here=here)
    for _ in range(max(1, site.examples // 4)):
        value, error = some_value(dice), some_error(dice, StopIteration(3))
        try:
            before, failing = site.submit(value), site.submit(error=error)
            after = site.submit(value)
        except Exception as refusal:  # noqa: BLE001 - whatever it says
            did = f"After a call had failed, submit() raised {refusal!r}."
            site.case.fail(3, did, cause=refusal)
        _check_result(site, before, value, 3, here=here)
        _check_error(site, failing, error, here=here)
        _check_result(site, after, value, 3, here=here)
    _check_counts(site)


def _is_here(site: _ExecutorSite) -> bool:
    """Return whether calls are made in this process."""
    future = site.executor.submit(os.getpid)
    site.expect_resolved(future, 1)
    return bool(future.result() == os.getpid())


def _check_result(
    site: _ExecutorSite, future: Future[Any], value: Any, law: int, *, here: bool
) -> None:
    site.expect_resolved(future, law)
    if future.cancelled():
        site.case.fail(law, "It cancelled a call by itself.")
    error = future.exception()
    if error is not None:
        did = f"A call that returned {brief(value)} was resolved with {error!r}."
        site.case.fail(law, did)
    result = future.result()
    same = result is value if here else result == value
    did = f"A call that returned {brief(value)} was resolved with {brief(result)}."
    site.case.expect(same, law, did)


def _check_error(
    site: _ExecutorSite, future: Future[Any], error: Exception, *, here: bool
) -> None:
    site.expect_resolved(future, 1)
    got = None if future.cancelled() else future.exception()
    same = got is error if here else kind_of(got) == kind_of(error)
    did = f"A call that raised {error!r} was resolved with {got!r}."
    site.case.expect(same, 1, did)


def _check_counts(site: _ExecutorSite) -> None:
    down = site.shut_down(wait=True)
    wait([down], site.patience)
    counts = Counter(site.home.begun)
    for name, future in site.futures.items():
        if not future.cancelled():
            did = f"One of its calls was made {counts[name]} times."
            site.case.expect(counts[name] == 1, 2, did)


# ------------------------------------------------------------------ laws 4, 5 and 6


def _check_submit(site: _ExecutorSite) -> None:
    """Check law 4: `submit` returns while the call still runs."""
    site.home.shut()
    submission = elsewhere(site.submit)
    wait([submission], site.patience)
    did = f"It did not return within {site.patience:g} s, while the call was kept."
    site.case.expect(submission.done(), 4, did)
    submission.result()


def _check_shutdown(site: _ExecutorSite) -> None:
    """Check law 5: `shutdown` waits for accepted calls, and resolves them."""
    site.home.shut()
    futures = [site.submit(i) for i in range(5)]
    site.home.has_heard_of(site.futures)
    down = site.shut_down(wait=True)
    wait([down], _TOO_EARLY)
    if down.done():
        down.result()
        site.case.fail(5, "It returned while a call was under way.")
    site.home.open()
    wait([down], site.patience)
    did = f"It did not return within {site.patience:g} s of the end of the calls."
    site.case.expect(down.done(), 5, did)
    down.result()
    unresolved = sum(not future.done() for future in futures)
    did = f"It returned, and {unresolved} of {len(futures)} futures were not resolved."
    site.case.expect(not unresolved, 5, did)


def _check_closed(site: _ExecutorSite) -> None:
    """Check law 6: nothing is accepted after `shutdown`."""
    site.executor.shutdown(wait=True)
    try:
        site.submit()
    except RuntimeError:
        pass
    except Exception as error:  # noqa: BLE001 - it is the wrong one
        site.case.fail(6, f"It raised {error!r}.", cause=error)
    else:
        site.case.fail(6, "It accepted a call.")
    site.case.expect(not site.home.begun, 6, "It raised, but it made the call.")


# ---------------------------------------------------------------------------- law 7


def _check_cancelled(site: _ExecutorSite) -> None:
    """Check law 7: of many waiting calls, those not yet begun are cancelled."""
    site.home.shut()
    for i in range(_MANY):
        site.submit(i)
    site.home.has_heard_of(site.futures)
    down = site.shut_down(wait=True, cancel_futures=True)
    # While the door is shut no call ends, so a future is resolved by being cancelled.
    checks = range(max(1, round(site.patience / _PAUSE)))
    if not any(_none_is_pending(site) for _ in checks):
        did = "A call that had not begun was neither cancelled nor begun"
        site.case.fail(7, f"{did} within {site.patience:g} s.")
    site.home.open()
    not_cancelled = [
        future for future in site.futures.values() if not future.cancelled()
    ]
    wait([down, *not_cancelled], site.patience)
    begun = set(site.home.begun)
    for i, (name, future) in enumerate(site.futures.items()):
        if future.cancelled():
            site.case.expect(name not in begun, 7, "It made a call that it cancelled.")
        elif not future.done() or future.exception() or future.result() != i:
            end = brief(future.exception()) if future.done() else "no end"
            site.case.fail(7, f"A call that had begun came to {end}.")
    site.case.expect(down.done(), 5, "It did not return after the last call ended.")
    down.result()


def _none_is_pending(site: _ExecutorSite) -> bool:
    """Return whether each call has begun or is cancelled; pause if not."""
    begun = set(site.home.begun)
    pending = [
        future
        for name, future in site.futures.items()
        if name not in begun and not future.running() and not future.done()
    ]
    if pending:
        time.sleep(_PAUSE)
    return not pending
