"""
Limits that a program adds: each is asked before a start, and says itself what is short.

What attempts have of one are units of a pool of its own, so they are counted in later
lives, too. Who has to wait closes it; it is open again, and the first of those who wait
is looked at, once something of it comes back, or its time has come.

Decision: 0275.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from taskorch.kernel import _queue
from taskorch.kernel._deciders import PolicyFault
from taskorch.kernel._rows import (
    UNLIMITED,
    Bucket,
    Shortage,
    StartLimit,
    TaskRow,
    WindowRow,
)
from taskorch.kernel._state import MANY, KernelState
from taskorch.kit import extension
from taskorch.kit.limits import NS
from taskorch.kit.visible import is_text, show
from taskorch.model import Resources, Units


class AddedLimit(StartLimit):
    """
    A limit of a program.

    Args:
        kernel: Whose starts it limits from now on.
        limit: What is asked.
    """

    def __init__(self, kernel: KernelState, limit: extension.Limit) -> None:
        self._limit = limit
        self._window = WindowRow(limit.name)
        #: What a task takes, by its kind; or the fault that it was to say so.
        self._needs: dict[Bucket, int | PolicyFault] = {}
        kernel.beside[self._window.name] = self._window
        _queue.add_limit(kernel, self)

    @property
    def is_timed(self) -> bool:
        places = self._window.short.values()
        return self._window.until_ns != 0 and any(
            bucket.size for place in places for bucket in place.members
        )

    def concerns(self, bucket: Bucket) -> bool:
        if len(self._needs) > MANY:
            needs = self._needs.items()
            self._needs = {b: need for b, need in needs if not b.forgotten}
        try:
            need = self._asked_for_need(bucket)
        except Exception as error:  # noqa: BLE001 - it is the user's
            self._needs[bucket] = self._fault(error)
            return True
        if need:
            self._needs[bucket] = need
        return need > 0

    def must_wait(
        self, kernel: KernelState, bucket: Bucket, row: TaskRow, now: int
    ) -> bool:
        short, need = self._short(bucket)
        window = self._window
        if short is None:
            return False
        window.total = 0
        until = now + int(short.seconds * NS)
        if not window.until_ns or until < window.until_ns:
            window.until_ns = until
            _queue.arm(kernel, until, _queue.TOKEN, window)
        _queue.wait_at(kernel, bucket, row, window, need)
        return True

    def shortages(
        self, kernel: KernelState, row: TaskRow, now: int
    ) -> Iterator[Shortage]:
        short, need = self._short(row.bucket)
        if short is not None:
            window, have = self._window, int(short.have * 1e6)
            until = now + int(short.seconds * NS)
            if any(row.bucket in place.members for place in window.short.values()):
                until = window.until_ns or until
            detail = short.detail
            yield Shortage("limit", detail, need, have, None, window, until)

    def begins(self, kernel: KernelState, row: TaskRow) -> Units:
        need = self._needs.get(row.bucket, 0)
        return ((self._window.name, need),) if isinstance(need, int) and need else ()

    def ends(self, kernel: KernelState, row: TaskRow, alloc: Units, cause: str) -> None:
        """What comes back may be enough for who waits."""
        self._window.total = UNLIMITED

    def leaves(
        self, kernel: KernelState, bucket: Bucket, taken: Mapping[str, int]
    ) -> bool:
        """See `StartLimit`; what it will say then, nobody knows."""
        return True

    # -- asking it -----------------------------------------------------------------

    def _asked_for_need(self, bucket: Bucket) -> int:
        spec = bucket.spec
        kind = extension.Kind(
            spec.type,
            spec.owner,
            spec.requires or (),
            dict(Resources.from_units(spec.resources)),
        )
        need: Any = self._limit.need(kind)
        if isinstance(need, bool) or not isinstance(need, int | float):
            msg = f"need() is a number, not {show(need)}"
            raise TypeError(msg)
        if not (math.isfinite(need) and need >= 0):
            msg = f"need() is 0 or more, not {show(need)}"
            raise ValueError(msg)
        return math.ceil(need * 1e6)

    def _short(self, bucket: Bucket) -> tuple[extension.Short | None, int]:
        """
        What it says to a task of *bucket*, and how much that needs.

        Raises:
            PolicyFault: It raised, or answered what it must not.
        """
        need = self._needs.get(bucket, 0)
        if isinstance(need, PolicyFault):
            raise need
        try:
            short: Any = self._limit.short(need / 1e6, self._window.used / 1e6)
            if short is not None:
                _check(short)
        except Exception as error:
            raise self._fault(error) from error
        return short, need

    def _fault(self, error: BaseException) -> PolicyFault:
        return PolicyFault(f"limit {self._limit.name}", error)


def _check(short: Any) -> None:
    if not isinstance(short, extension.Short):
        msg = f"short() is a Short or None, not {show(short)}"
        raise TypeError(msg)
    if not is_text(short.detail) or not short.detail:
        msg = f"the detail of a Short is a sentence, not {show(short.detail)}"
        raise TypeError(msg)
    if not (math.isfinite(short.seconds) and short.seconds > 0):
        msg = f"the seconds of a Short are more than 0, not {show(short.seconds)}"
        raise ValueError(msg)
