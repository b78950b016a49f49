"""Whether an AttemptExecutor keeps its laws."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import wait
from contextlib import contextmanager
from contextvars import Context, copy_context
from functools import partial
from typing import Any, Final, Literal, TypeAlias

import attrs

from taskorch.core.executors.remote import RemoteEnd, end_of, remote_call
from taskorch.model import Call, Program, Task
from taskorch.protocols import AttemptExecutor
from taskorch.testing.laws._case import Case, brief, cases, factory
from taskorch.testing.laws._home import (
    Address,
    Home,
    call_home,
    elsewhere,
    kind_of,
    some_error,
    some_value,
)

Work: TypeAlias = Literal["call", "coroutine", "program"]

#: The seconds in which a forbidden event gets its chance: each check costs that much.
_TOO_EARLY: Final = 0.2
#: The seconds of grace, within which an attempt that can be stopped should end.
_GRACE: Final = 1.0
#: The number of short attempts that are begun at once.
_AT_ONCE: Final = 8
_FAILED: Final = OSError("its exit code is not 0")
#: A program that calls home; its last argument is its exit code.
_PROGRAM: Final = """\
import socket, sys
_, host, port, name, code = sys.argv
with socket.create_connection((host, int(port))) as line:
    line.sendall(f"{name}\\n".encode())
    line.recv(1)
sys.exit(int(code))
"""


def check_attempt_executor(
    make: Callable[[], AttemptExecutor[Any]],
    *,
    work: Work = "call",
    seed: int = 0,
    examples: int = 20,
    patience: float = 10.0,
) -> None:
    """
    Check the laws of AttemptExecutor, with an executor for each.

    The work of attempts reports its start over a socket of this machine, and waits for
    the answer, so that it may run in another process. Errors are of the builtin
    classes. The executors are not ended: *make* may hand out the same one again.

    How the laws are checked:

    - 1: the work waits for its answer, and `begin` must return; and the report of an
      end begins the next attempt, on whatever thread it comes.
    - 2: each attempt has one call of `end`, and within a moment no second one; many
      short ones at once, some of them stopped, each get their own.
    - 3: attempts whose attributes raise errors: either `begin` raises, or `end` is
      called.
    - 5, 6: an attempt is stopped, or paused, while it waits, and stopped right after
      its start. To tell a broken executor from a slow one takes *patience*.

    Args:
        make: Makes an executor.
        work: The kind of its attempts: calls of a plain function, of an `async def`, or
            programs.
        seed: The seed of the results.
        examples: How many attempts to make, about.
        patience: Seconds to wait before something counts as never happening.

    Raises:
        LawViolation: A law is broken.
        TypeError: *make* cannot be called, or makes no such executor.
    """
    checks: tuple[Callable[[_AttemptSite], object], ...] = (
        _check_begin,
        _check_ends,
        _check_own,
        _check_refused,
        _check_chain,
        _check_others,
        _check_stop,
        _check_hold,
        _check_ended,
        partial(_check_own, most_stopped=3),
    )
    new_executor = factory(make, AttemptExecutor)
    numbered = cases(AttemptExecutor, "check_attempt_executor", seed, len(checks))
    for case, check in zip(numbered, checks, strict=True):
        with (
            case.noted(),
            _site(case, new_executor(), work, examples, patience) as site,
        ):
            check(site)


async def call_home_async(
    address: Address,
    patience: float,
    name: str,
    value: Any = None,
    error: Exception | None = None,
) -> Any:
    """Call home from an event loop: see `call_home`."""
    opening = asyncio.open_connection(*address)
    reader, writer = await asyncio.wait_for(opening, patience)
    try:
        writer.write(f"{name}\n".encode())
        await writer.drain()
        await reader.read(1)
    finally:
        writer.close()
    if error is not None:
        raise error
    return value


class _Refused(Exception):  # noqa: N818 - what a check raises itself
    """An attribute was read that these attempts do not have."""


class Try:
    """An attempt under check, and the reports of its executor."""

    number: int = 1
    fence: tuple[int, int] = (1, 1)

    def __init__(
        self, task: Task[Any], on_end: Callable[[], object] | None = None
    ) -> None:
        self._task = task
        self._on_end = on_end
        self.cancelled: bool = False
        #: Whether reading its attributes raises an error.
        self.is_refused: bool = False
        #: The result of `begin`.
        self.begun: Any = None
        #: The reported ends, each a value and an error.
        self.ends: list[tuple[Any, BaseException | None]] = []
        self._ended = threading.Event()

    def does(self, payload: Any) -> None:
        """Give it another payload."""
        self._task = attrs.evolve(self._task, payload=payload)

    @property
    def task_id(self) -> str:
        return self._task.id or ""

    @property
    def task(self) -> Task[Any]:
        if self.is_refused:
            raise _Refused
        return self._task

    def run(self) -> None:
        try:
            fn, args, kwargs = self.call()
            value = self.variables().run(fn, *args, **kwargs)
        except BaseException as error:  # noqa: BLE001 - it is the end's
            self.end(error=error)
        else:
            self.end(value)

    def call(
        self, *, elsewhere: bool = False
    ) -> tuple[Callable[..., Any], tuple[Any, ...], Mapping[str, Any]]:
        del elsewhere
        payload = self.task.payload
        return payload.fn, payload.args, payload.kwargs

    def variables(self) -> Context:
        return copy_context()

    def portable(self) -> Callable[[], Any]:
        fn, args, _ = self.call()
        return remote_call(fn, args)

    def told(self, what: str, value: Any) -> None:
        """Ignore a report of the function."""

    def end(self, value: Any = None, error: BaseException | None = None) -> None:
        if isinstance(value, RemoteEnd):
            value, error = end_of(value, self.task_id)
        self.ends.append((value, error))
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end()
        self._ended.set()

    def end_soon(self, value: Any = None, error: BaseException | None = None) -> None:
        threading.Thread(target=self.end, args=(value, error), daemon=True).start()

    def unstarted(self, error: BaseException) -> None:
        self.end(error=error)

    def wait(self, seconds: float) -> bool:
        """Wait at most *seconds* for the end, and return whether it came."""
        return self._ended.wait(seconds)


@attrs.define(eq=False)
class _AttemptSite:
    """One executor under check, and the attempts that it was given."""

    case: Case
    executor: AttemptExecutor[Any]
    home: Home
    work: Work
    examples: int
    patience: float
    tries: dict[str, Try] = attrs.Factory(dict)
    expected: dict[Try, tuple[Any, Exception | None]] = attrs.Factory(dict)

    def make(
        self,
        value: Any = None,
        error: Exception | None = None,
        on_end: Callable[[], object] | None = None,
    ) -> Try:
        """Return a new attempt, not begun."""
        name = f"t{len(self.tries)}"
        attempt = Try(Task("law", self._payload(name, value, error), id=name), on_end)
        self.tries[name] = attempt
        self.expected[attempt] = value, error
        return attempt

    def make_short(self, number: int) -> Try:
        """A new attempt that ends at once, and does not call home; not begun."""
        attempt = self.make(number)
        payload: Any = Call(own if self.work == "call" else own_async, (number,))
        if self.work == "program":
            # A program reports nothing but its exit code.
            self.expected[attempt] = None, _FAILED if number % 2 else None
            payload = Program((sys.executable, "-c", f"raise SystemExit({number % 2})"))
        attempt.does(payload)
        return attempt

    def _payload(self, name: str, value: Any, error: Exception | None) -> Any:
        host, port = self.home.address
        if self.work == "program":
            code = "0" if error is None else "3"
            command = (sys.executable, "-c", _PROGRAM, host, str(port), name, code)
            return Program(command)
        args = (self.home.address, 4 * self.patience, name, value, error)
        return Call(call_home if self.work == "call" else call_home_async, args)

    def begin(self, attempt: Try) -> Try:
        """Begin *attempt* on the executor, which must return."""
        error = self.in_time(partial(self.begin_here, attempt), "begin()", 1)
        if error is not None:
            raise error
        return attempt

    def begin_here(self, attempt: Try) -> None:
        """Begin *attempt* on this thread."""
        attempt.begun = self.executor.begin(attempt)

    def in_time(
        self, act: Callable[[], object], name: str, law: int
    ) -> BaseException | None:
        """Call *act*, which must return; return the error that was raised."""
        done = elsewhere(act)
        wait([done], self.patience)
        did = f"{name} did not return within {self.patience:g} s."
        self.case.expect(done.done(), law, did)
        return done.exception()

    def start(self, value: Any = None, error: Exception | None = None) -> Try:
        """Return a new attempt, begun."""
        return self.begin(self.make(value, error))

    def expect_begun(self, attempt: Try) -> None:
        """Expect that the attempt has called home and waits for the answer."""
        begun = self.home.has_heard_of([attempt.task_id])
        did = f"An attempt had not begun within {self.patience:g} s."
        self.case.expect(begun, 2, did)

    def ask(self, method: str, attempt: Try, law: int) -> None:
        """Call *method* of the executor about *attempt*; it must return."""
        attempt.cancelled |= method == "stop"
        grace = (_GRACE,) if method == "stop" else ()
        act = partial(getattr(self.executor, method), attempt.begun, *grace)
        error = self.in_time(act, f"{method}()", law)
        if error is not None:
            self.case.fail(7 if attempt.ends else law, f"{method}() raised {error!r}.")

    def expect_end(self, attempt: Try, law: int) -> None:
        """Expect that *attempt* ends."""
        ended = attempt.wait(self.patience)
        did = f"An attempt's end was not told within {self.patience:g} s."
        self.case.expect(ended, law, did)

    def expect_right_end(self, attempt: Try, law: int, *, here: bool = False) -> None:
        """Expect that *attempt* ends in the right way."""
        self.expect_end(attempt, law)
        value, error = self.expected[attempt]
        got, raised = attempt.ends[0]
        did = f"was told with {brief(got)} and {raised!r}."
        if self.work == "program":
            right = (raised is None) == (error is None)
            right = right and (error is not None or got.exit_code == 0)
        elif error is not None:
            right = raised is error if here else kind_of(raised) == kind_of(error)
            did = f"that raised {error!r} {did}"
        else:
            right = raised is None and (got is value if here else got == value)
            did = f"that returned {brief(value)} {did}"
        self.case.expect(right, law, f"An attempt {did}")

    def expect_once(self) -> None:
        """Expect one end of each attempt that was begun, and one call."""
        time.sleep(_TOO_EARLY)
        for attempt in self.tries.values():
            did = f"It told {len(attempt.ends)} ends of an attempt."
            self.case.expect(len(attempt.ends) <= 1, 2, did)
            times = self.home.begun.count(attempt.task_id)
            self.case.expect(times <= 1, 2, f"It did one {times} times.")

    def is_here(self) -> bool:
        """Return whether attempts are made in this process."""
        if self.work != "call":
            return self.work == "coroutine"
        attempt = Try(Task("law", Call(os.getpid, ()), id="pid"))
        self.begin(attempt)
        self.expect_end(attempt, 2)
        return bool(attempt.ends[0][0] == os.getpid())


@contextmanager
def _site(
    case: Case,
    executor: AttemptExecutor[Any],
    work: Work,
    examples: int,
    patience: float,
) -> Iterator[_AttemptSite]:
    home = Home(patience)
    site = _AttemptSite(case, executor, home, work, examples, patience)
    try:
        yield site
        home.open()
        site.expect_once()
    finally:
        home.open()
        # No attempt may be left that would call this address when others have it.
        end = time.monotonic() + patience
        for attempt in site.tries.values():
            if attempt.begun is not None:
                attempt.wait(max(0.0, end - time.monotonic()))
        home.close()


# ------------------------------------------------------------------------ laws 1 to 4


def _check_begin(site: _AttemptSite) -> None:
    """Check law 1: an attempt that waits does not delay `begin`."""
    site.home.shut()
    attempt = site.make()
    site.begin(attempt)
    site.expect_begun(attempt)
    site.case.expect(not attempt.ends, 2, "An end was told while the attempt was kept.")
    site.home.open()
    site.expect_right_end(attempt, 2)


def _check_ends(site: _AttemptSite) -> None:
    """Check law 2 for values and errors."""
    here, dice = site.is_here(), site.case.random
    for _ in range(max(1, site.examples // 4)):
        for attempt in (
            site.start(some_value(dice)),
            site.start(None, some_error(dice)),
        ):
            site.expect_right_end(attempt, 2, here=here)


def own(number: int) -> int:
    """Return *number* at once."""
    return number


async def own_async(number: int) -> int:
    """Return *number* at once, on an event loop."""
    return number


def _check_own(site: _AttemptSite, most_stopped: int = 0) -> None:
    """Check law 2 for many short ones, until there are none, again and again."""
    for _ in range(max(1, site.examples // 4)):
        numbers = range(len(site.tries), len(site.tries) + _AT_ONCE)
        batch = [site.make_short(number) for number in numbers]
        begin = partial(_begin_all, site, batch)
        error = site.in_time(begin, "begin()", 1)
        if error is not None:
            raise error
        count = site.case.random.randint(0, most_stopped)
        for attempt in site.case.random.sample(batch, count):
            site.ask("stop", attempt, 5)
        for attempt in batch:
            site.expect_end(attempt, 5 if attempt.cancelled else 2)
            if not attempt.cancelled or attempt.ends[0][1] is None:
                site.expect_right_end(attempt, 2)


def _begin_all(site: _AttemptSite, batch: list[Try]) -> None:
    for attempt in batch:
        site.begin_here(attempt)


def _check_refused(site: _AttemptSite) -> None:
    """Check law 3: either `begin` raises, or the end is reported."""
    attempt = site.make()
    attempt.is_refused = True
    try:
        site.begin(attempt)
    except _Refused:
        attempt.wait(_TOO_EARLY)
        did = f"It raised, and told {brief(attempt.ends)}."
        site.case.expect(not attempt.ends, 3, did)
    else:
        site.expect_end(attempt, 2)
        error = attempt.ends[0][1]
        did = f"The attempt raised, and was told to have ended with {error!r}."
        site.case.expect(isinstance(error, _Refused), 2, did)
    after = site.start("after")
    site.expect_right_end(after, 4)


def _check_chain(site: _AttemptSite) -> None:
    """Check law 1: the end of one begins the next."""
    last = site.make("last")
    chain = [last]
    for n in range(3):
        after = chain[-1]
        chain.append(site.make(n, on_end=partial(site.begin_here, after)))
    site.begin(chain[-1])
    for attempt in reversed(chain):
        if not attempt.wait(site.patience):
            did = "An attempt that was begun from within `end` came to no end within"
            site.case.fail(1, f"{did} {site.patience:g} s.")
    site.expect_right_end(last, 2)


def _check_others(site: _AttemptSite) -> None:
    """Check law 4: beside a running one, one fails and one is stopped."""
    here, dice = site.is_here(), site.case.random
    site.home.shut()
    under_way = site.start("under way")
    site.expect_begun(under_way)
    failing = site.start(None, some_error(dice))
    stopped = site.start("stopped")
    site.ask("stop", stopped, 5)
    after = site.start("after")
    site.home.open()
    site.expect_right_end(under_way, 4, here=here)
    site.expect_right_end(failing, 4, here=here)
    site.expect_end(stopped, 5)
    site.expect_right_end(after, 4, here=here)


# ------------------------------------------------------------------------ laws 5 to 7


def _check_stop(site: _AttemptSite) -> None:
    """Check law 5: stop a waiting one, and others right after their start."""
    site.home.shut()
    attempt = site.start("stopped")
    site.expect_begun(attempt)
    site.ask("stop", attempt, 5)
    # An attempt that cannot be stopped goes on once it gets its answer.
    attempt.wait(_GRACE)
    site.home.open()
    site.expect_end(attempt, 5)
    for _ in range(max(1, site.examples // 2)):
        attempt = site.start("stopped")
        site.ask("stop", attempt, 5)
        site.expect_end(attempt, 5)
    site.expect_right_end(site.start("after"), 4)


def _check_hold(site: _AttemptSite) -> None:
    """Check law 6: while it is paused, it does not notice its answer."""
    if not site.executor.can_hold():
        return
    site.home.shut()
    held, killed = site.start("held"), site.start("stopped")
    site.expect_begun(held)
    site.expect_begun(killed)
    for attempt in (held, killed):
        site.ask("hold", attempt, 6)
    site.ask("stop", killed, 6)
    site.expect_end(killed, 6)
    site.home.open()
    held.wait(_TOO_EARLY)
    site.case.expect(not held.ends, 6, "An attempt that was held came to its end.")
    site.ask("resume", held, 6)
    site.expect_right_end(held, 6)


def _check_ended(site: _AttemptSite) -> None:
    """Check law 7: ended or stopped attempts are left alone."""
    attempt = site.start("ended")
    site.expect_right_end(attempt, 2)
    site.home.shut()
    stopped = site.start("stopped")
    asked = ["stop", "stop"]
    if site.executor.can_hold():
        asked += ["hold", "resume", "resume", "stop"]
    for method in asked:
        site.ask(method, attempt, 7)
        site.ask(method, stopped, 7)
    site.home.open()
    site.expect_end(stopped, 7)
    for method in asked:
        site.ask(method, stopped, 7)
    site.expect_right_end(site.start("after"), 7)
