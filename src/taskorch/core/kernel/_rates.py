"""Rates: how many attempts of a type, a tenant or a run may start in a time.

A rate is a bucket of tokens. A start takes one token of each rate that holds for its
task. Tokens come back with time, up to as many as may start at one moment. So the
tokens that are left follow from the events of the starts and their times alone. A task
asks for a token only once a worker has room, so that no token is spent on a task that
does not start. A task without a token waits at the rate as others do at a pool, and a
timer wakes the first when the next token comes: waiting costs nothing.

Decisions: quotas-and-budgets, start-decisions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from taskorch.core.kernel import _limits, _queue
from taskorch.core.kernel._rows import (
    TOKEN,
    Bucket,
    Place,
    RateRow,
    Shortage,
    TaskRow,
    TimedLimit,
    WindowRow,
)
from taskorch.core.kernel._state import KernelState
from taskorch.kit.limits import NS
from taskorch.kit.words import in_words
from taskorch.model import BURST, STARTS, Blocker, Remedy, Units

_PARTS: Final = TOKEN // 1_000_000


class Rates(TimedLimit):
    """Limit of starts by the rates in quotas."""

    #: A token is taken only by a task that starts.
    waits_for_room: bool = True

    def __init__(self) -> None:
        #: The rate of each holder whose quota has one. Checked: `check_limits`.
        self.by_subject: dict[tuple[str, str], RateRow] = {}

    @property
    def is_timed(self) -> bool:
        return any(rate.is_awaited() for rate in self.by_subject.values())

    def concerns(self, bucket: Bucket) -> bool:
        return bool(self._of(bucket))

    def must_wait(
        self, kernel: KernelState, bucket: Bucket, row: TaskRow, now: int
    ) -> bool:
        """Park the bucket at the first of its rates that has no token."""
        rates = self._of(bucket)
        for rate in rates:
            if not rate.look(now):
                # A timer of the rate was not due yet, so waiting tasks are woken here.
                _queue.wake_some(kernel, rate.short)
        without = [rate for rate in rates if not rate.has_token()]
        if not without:
            return False
        rate = without[0]
        _look_later(kernel, rate)
        beyond = _limits.places(kernel, bucket)
        place = Place(pool=rate, name=rate.name, need=TOKEN, above=bool(beyond))
        place = _queue.among(rate.short, place, bucket.share)
        # Every worker is the same here, since only the token is missing.
        _queue.park(kernel, bucket, row, (place, *beyond))
        if bucket.workers_version < 0:
            kernel.parked_any[bucket] = None
        return True

    def shortages(
        self, kernel: KernelState, row: TaskRow, now: int
    ) -> Iterator[Shortage]:
        for rate in self._of(row.bucket):
            free = rate.total - rate.used_at(now)
            if free < TOKEN:
                until = now + rate.wait(now)
                yield Shortage("rate", rate.name, TOKEN, free, None, rate, until)

    def begins(self, kernel: KernelState, row: TaskRow) -> Units:
        """Take a token of each rate; tokens return with time, not with the end."""
        now = row.started_ns
        for rate in self._of(row.bucket):
            rate.spent = rate.used_at(now) + TOKEN
            rate.at_ns = now
            rate.look(now)
            if rate.short:
                _look_later(kernel, rate)
        return ()

    def leaves(
        self, kernel: KernelState, bucket: Bucket, taken: Mapping[str, int]
    ) -> bool:
        """Return True: a token comes by itself (see `StartLimit`)."""
        return True

    def wake(self, kernel: KernelState, window: WindowRow, now: int) -> None:
        """Wake waiting tasks, since a token has come, unless it is taken."""
        assert isinstance(window, RateRow)  # noqa: S101 - it has no others
        window.until_ns = 0
        window.look(now)
        _queue.wake_some(kernel, window.short)
        if window.short:
            _look_later(kernel, window)

    def words(self, short: Shortage, now: int, holders: tuple[str, ...]) -> Blocker:
        rate = short.pool
        assert isinstance(rate, RateRow)  # noqa: S101 - see `shortages`
        kind, _, who = rate.name.partition("=")
        burst, seconds = rate.total // TOKEN, (short.until_ns - now) / NS
        more = f" ({burst:,} at one moment)" if burst > 1 else ""
        left = in_words(seconds)
        detail = (
            f"The quota of {kind} {who!r} lets {rate.per_second / 1e6:g} start "
            f"in a second{more}: the next may in {left}."
        )
        remedy = Remedy("wait", f"Wait for {left}.", seconds=seconds)
        return Blocker("rate", detail, rate.name, until=seconds, remedies=(remedy,))

    def waits(self, bucket: Bucket, many: int, now: int) -> Iterator[tuple[int, str]]:
        for rate in self._of(bucket):
            words = f"{rate.per_second / 1e6:g} may start in a second"
            yield rate.wait(now, many), words

    def out(self) -> dict[str, Any]:
        rates = [[*of, rate.spent, rate.at_ns] for of, rate in self.by_subject.items()]
        return {"rates": rates} if rates else {}

    def back(self, told: Mapping[str, Any]) -> None:
        for kind, subject, spent, at_ns in told.get("rates", ()):
            rate = self.by_subject[kind, subject]
            rate.spent, rate.at_ns = spent, at_ns

    def check(self, faults: list[str]) -> None:
        for rate in self.by_subject.values():
            if rate.spent > rate.total:
                faults.append(f"{rate.name}: more has started than its rate allows")
            if rate.is_awaited() and rate.wait(rate.seen_ns) and not rate.until_ns:
                faults.append(f"{rate.name}: no timer wakes who waits for a token")

    def change(
        self, whose: tuple[str, str], limits: Mapping[str, int], now: int
    ) -> None:
        """Set the rate of *whose* to *limits*, and keep the tokens that are left."""
        known = self.by_subject.pop(whose, None)
        if known is not None:
            known.until_ns = 0
        if STARTS not in limits:
            return
        name = f"{whose[0]}={whose[1]}"
        rate = RateRow(self, name, limits[STARTS], limits[BURST], now)
        if known is not None:
            left = known.total - known.used_at(now)
            rate.spent = max(0, rate.total - left)
        self.by_subject[whose] = rate

    def _of(self, bucket: Bucket) -> list[RateRow]:
        """Return the rates that hold for tasks of *bucket*."""
        rates = map(self.by_subject.get, _limits.subjects(bucket.spec))
        return [rate for rate in rates if rate is not None]


def of_kernel(kernel: KernelState) -> Rates | None:
    """Return the rates of *kernel*; None if no quota has had one."""
    for limit in kernel.limits:
        if isinstance(limit, Rates):
            return limit
    return None


def change(
    kernel: KernelState,
    quotas: Iterable[tuple[tuple[str, str], Mapping[str, int]]],
    now: int,
) -> None:
    """Set the rates of *quotas*, each a holder and its limits."""
    known = of_kernel(kernel)
    rates = known or Rates()
    for whose, limits in quotas:
        rates.change(whose, limits, now)
    if known is not None:
        _queue.look_whom(kernel, rates)
    elif rates.by_subject:
        _queue.add_limit(kernel, rates)


def limits_of(kernel: KernelState, whose: tuple[str, str]) -> Units:
    """Return the rate of *whose* as their quota has it, or nothing."""
    rates = of_kernel(kernel)
    rate = None if rates is None else rates.by_subject.get(whose)
    if rate is None:
        return ()
    return (BURST, rate.total // _PARTS), (STARTS, rate.per_second)


def _look_later(kernel: KernelState, rate: RateRow) -> None:
    """Look when the next token of *rate* comes, unless one is there."""
    if not rate.until_ns and not rate.has_token():
        rate.until_ns = rate.seen_ns + rate.wait(rate.seen_ns)
        _queue.arm(kernel, rate.until_ns, _queue.TOKEN, rate)
