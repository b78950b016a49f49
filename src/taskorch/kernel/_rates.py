"""
Rates: how many attempts of a type, or of an owner, may start in a time.

A rate is a bucket of tokens. A start takes one of each rate that holds for its task,
and they come back with time, up to as many as may start at one moment. So what is left
follows from the facts of the starts and their times alone. Who finds none waits at the
rate as others do at a pool, and a timer wakes the first when the next one comes: what
waits costs nothing, and where there is no rate nothing is looked at.

Decision: 0053.
"""

from __future__ import annotations

from collections.abc import Mapping

from taskorch.kernel import _books, _parking, _timers
from taskorch.kernel._rows import TOKEN, Bucket, RateRow, Spec
from taskorch.kernel._state import KernelState
from taskorch.model import BURST, STARTS, Units

_PARTS = TOKEN // 1_000_000


def rates_of(kernel: KernelState, spec: Spec) -> tuple[RateRow, ...]:
    """The rates that hold for tasks of *spec*."""
    found = (kernel.rates.get(whose) for whose in _books.subjects(spec))
    return tuple(rate for rate in found if rate is not None)


def limits_of(kernel: KernelState, whose: tuple[str, str]) -> Units:
    """The rate of *whose*, as their quota says it; nothing, if there is none."""
    rate = kernel.rates.get(whose)
    if rate is None:
        return ()
    return (BURST, rate.total // _PARTS), (STARTS, rate.per_second)


def change(
    kernel: KernelState, whose: tuple[str, str], limits: Mapping[str, int], now: int
) -> None:
    """Set the rate of *whose* to *limits*, and keep the tokens that are left."""
    known = kernel.rates.pop(whose, None)
    if known is not None:
        known.until_ns = 0
    if STARTS not in limits:
        return
    rate = RateRow(f"{whose[0]}={whose[1]}", limits[STARTS], limits[BURST], now)
    if known is not None:
        left = known.total - known.used_at(now)
        rate.spent = max(0, rate.total - left)
    kernel.rates[whose] = rate


def take(kernel: KernelState, spec: Spec, now: int) -> None:
    """An attempt at a task of *spec* starts."""
    for rate in rates_of(kernel, spec):
        rate.spent = rate.used_at(now) + TOKEN
        rate.at_ns = rate.seen_ns = now
        if rate.short:
            _look_later(kernel, rate)


def short_of(kernel: KernelState, bucket: Bucket, now: int) -> RateRow | None:
    """The first of its rates that has no token for *bucket* yet, which is to wait."""
    for rate in bucket.rates:
        had = _has_token(rate)
        rate.seen_ns = now
        if not had:
            # The rate was looked at before the timer was due.
            _parking.wake_some(kernel, rate.short)
    for rate in bucket.rates:
        if not _has_token(rate):
            _look_later(kernel, rate)
            return rate
    return None


def wake(kernel: KernelState, rate: RateRow, now: int) -> None:
    """A token of *rate* is there, unless taken: wake the first who waits for it."""
    rate.until_ns = 0
    rate.seen_ns = now
    _parking.wake_some(kernel, rate.short)
    if rate.short:
        _look_later(kernel, rate)


def _look_later(kernel: KernelState, rate: RateRow) -> None:
    """Look when the next token of *rate* comes, unless one is there."""
    if not rate.until_ns and not _has_token(rate):
        rate.until_ns = rate.seen_ns + rate.wait(rate.seen_ns)
        _timers.arm(kernel, rate.until_ns, _timers.TOKEN, rate)


def _has_token(rate: RateRow) -> bool:
    return rate.total - rate.used >= TOKEN
