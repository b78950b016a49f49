"""
Random durations and failures of attempts, from the measured ones.

After *n* measured durations, the next one is equally likely to fall into each of the
*n* + 1 gaps between them, before them and after them. The probability of each gap is
drawn once in a draw: the uncertainty of few measurements is then the same for all tasks
of a type, and does not average out over them. So is the share of attempts that fail.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from math import exp, log
from random import Random
from typing import Final

from taskorch.errors import Permanent, TaskTimeoutError, UnwantedResultError
from taskorch.ext.simulation._open._work import (
    Failing,
    OpenTask,
    OpenWork,
    known_lengths,
)
from taskorch.ext.simulation._plans._chance import Chance, error_of

#: A duration that stands for an unknown end.
NEVER: Final = 1 << 61
#: Beyond the longest measured duration, durations grow by factors. If few were
#: measured, these are unknown: then the step is at least the first of these, and at
#: most the second, in logarithms.
_TAIL: Final = 0.5
_TAIL_MOST: Final = 1.0
_FEW: Final = 5
#: The shortest duration, in ns, so that even 0 has a logarithm.
_LEAST: Final = 1_000
#: The usual share of failed attempts counts as much as so many attempts of the type.
_USUAL: Final = 2.0


class Lengths:
    """The random durations of one type, in one draw."""

    def __init__(self, measured: Sequence[int], random: Random) -> None:
        self._ordered = measured
        self.longest: int = measured[-1]
        self._logs = [log(max(_LEAST, length)) for length in measured]
        gaps = [random.expovariate(1.0) for _ in range(len(measured) + 1)]
        total = sum(gaps)
        #: The probability of a duration up to each measured one.
        self._shares: list[float] = [s / total for s in accumulate(gaps[:-1])]
        self._tail = _tail_of(self._logs)

    def draw(self, random: Random, elapsed: int = 0) -> int:
        """Draw a duration in ns, of which *elapsed* are over."""
        below = self._share(elapsed) if elapsed else 0.0
        share = below + (1.0 - below) * random.random()
        # Each draw takes two numbers, so that the next one gets the same chance in any
        # case.
        beyond = -log(1.0 - random.random())
        at = bisect_left(self._shares, share)
        if at == len(self._logs):
            longest = max(self._logs[-1], log(max(_LEAST, elapsed)))
            return int(exp(longest + beyond * self._tail))
        upper = self._logs[at]
        lower = self._logs[at - 1] if at else upper - self._tail
        before = self._shares[at - 1] if at else 0.0
        part = (share - before) / ((self._shares[at] - before) or 1.0)
        return max(elapsed, int(exp(lower + (upper - lower) * part)))

    def beyond(self, elapsed: int) -> float:
        """Return the probability of a duration of more than *elapsed*."""
        return 1.0 - self._share(elapsed) if elapsed else 1.0

    def _share(self, elapsed: int) -> float:
        """Return the probability of a duration up to *elapsed*."""
        at = bisect_left(self._ordered, elapsed)
        if at == len(self._ordered):
            return self._shares[-1]
        before = self._shares[at - 1] if at else 0.0
        upper = self._logs[at]
        lower = self._logs[at - 1] if at else upper - self._tail
        part = (log(max(_LEAST, elapsed)) - lower) / ((upper - lower) or 1.0)
        return before + (self._shares[at] - before) * min(1.0, max(0.0, part))


def _tail_of(logs: Sequence[float]) -> float:
    """Return the mean step of durations beyond the longest, in logarithms."""
    many = len(logs)
    if many < _FEW:
        return min(_TAIL_MOST, max(_TAIL, logs[-1] - logs[0]))
    upper = logs[-max(_FEW, many // 10) :]
    excess = [each - upper[0] for each in upper[1:]]
    return min(_TAIL_MOST, max(0.02, sum(excess) / len(excess)))


class AttemptOdds:
    """The random attempts of one type, in one draw: their durations, and failures."""

    def __init__(
        self,
        measured: Sequence[int],
        failing: Failing | None,
        usual: float,
        random: Random,
    ) -> None:
        self._completing = Lengths(measured, random)
        self._failing = self._completing
        self._tries: Sequence[tuple[int, bool]] = ()
        #: The probability that an attempt fails.
        self._share: float = 0.0
        if usual:
            completed = len(measured) if failing is None else failing.completed
            failed = 0 if failing is None else len(failing.lengths)
            alpha, beta = failed + _USUAL * usual, completed + _USUAL * (1.0 - usual)
            self._share = random.betavariate(alpha, beta)
        if failing is not None and failing.lengths:
            self._failing = Lengths(failing.lengths, random)
            self._tries = failing.tries

    def draw(
        self, random: Random, elapsed: int, timeout: int
    ) -> tuple[int, tuple[int, bool] | None]:
        """
        Draw an attempt, of which *elapsed* ns are over; it may take *timeout* ns.

        Returns:
            Its duration in ns; and None, or how often the task of a measured failure
            had been tried, and whether it was tried again.
        """
        share = self._share
        if not share:
            return self._completing.draw(random, elapsed), None
        fails = share * self._failing.beyond(elapsed)
        completes = (1.0 - share) * self._completing.beyond(elapsed)
        if random.random() * (fails + completes) >= fails:
            length = self._completing.draw(random, elapsed)
            if self._completing.longest < timeout <= self._failing.longest:
                # Attempts that reach their timeout are among the failures already.
                length = min(length, timeout - 1)
            return length, None
        length = self._failing.draw(random, elapsed)
        return length, random.choice(self._tries) if self._tries else (1, True)


class OpenChance(Chance):
    """The random durations and failures of open work, in one draw."""

    def __init__(self, work: OpenWork, seed: str) -> None:
        self.seed = seed
        usual = _usual(work)
        random = Random(seed)  # noqa: S311 - for chance, not for secrets
        #: By type, and by what their users expect of types that nobody has measured.
        by_type: dict[tuple[str, int], AttemptOdds] = {}
        self._tasks = work.tasks
        self._attempts: list[AttemptOdds | int] = []
        #: The tries of a measured failure, by the place of a task whose attempt fails.
        self._fails: dict[int, tuple[int, bool]] = {}
        #: The places of running tasks that reach their timeout.
        self._late: dict[int, None] = {}
        self.first = []
        expected: list[int] = []
        lengths = known_lengths(work)
        for place, (each, measured) in enumerate(zip(work.tasks, lengths, strict=True)):
            attempts: AttemptOdds | int
            if not measured:
                attempts = NEVER if measured is None else 0
                self.first.append(attempts)
                expected.append(0)
            else:
                kind = each.spec.type
                of = kind, 0 if kind in work.measured else measured[0]
                if of not in by_type:
                    shared = Random(f"{seed}//{kind}")  # noqa: S311 - likewise
                    failing = work.failing.get(kind)
                    by_type[of] = AttemptOdds(measured, failing, usual, shared)
                attempts = by_type[of]
                elapsed = each.elapsed_ns
                # The time that is over says nothing of one that sleeps for long.
                over = 0 if each.sleeps_ns else elapsed
                rest = self._drawn(place, attempts, random, over) - elapsed
                rest = max(rest, each.sleeps_ns)
                if 0 < each.left_ns < rest:
                    rest = each.left_ns
                    self._late[place] = None
                self.first.append(max(0, rest))
                expected.append(measured[len(measured) // 2])
            self._attempts.append(attempts)
        self.expected: Sequence[int] = expected
        self.may_fail = usual > 0 or bool(self._late)

    def _drawn(
        self, place: int, attempts: AttemptOdds, random: Random, elapsed: int = 0
    ) -> int:
        """Draw the duration of an attempt, and note whether it fails."""
        timeout = self._tasks[place].spec.timeout_ns or NEVER
        length, tries = attempts.draw(random, elapsed, timeout)
        if tries is not None:
            self._fails[place] = tries
        return length

    def again(self, number: int, attempt: int) -> int:
        """Return the duration of a later attempt of a task, in ns."""
        attempts = self._attempts[number]
        if isinstance(attempts, int):
            return attempts
        # The chance belongs to the attempt, whatever else happens in the draw.
        random = Random(f"{self.seed}/{number}/{attempt}")  # noqa: S311 - likewise
        return self._drawn(number, attempts, random)

    def error(self, number: int, attempt: int) -> BaseException | None:
        """Return the error of a failing attempt; None if the attempt succeeds."""
        tries, each = self._fails.pop(number, None), self._tasks[number]
        if attempt == 1 and number in self._late:
            return TaskTimeoutError(f"task {each.id} reached its timeout")
        return None if tries is None else _error(each, *tries)


def _usual(work: OpenWork) -> float:
    """Return the mean share of failed attempts; each type counts once."""
    shares = [
        len(each.lengths) / (1 + len(each.lengths) + each.completed)
        for each in work.failing.values()
    ]
    return sum(shares) / max(1, len(shares))


def _error(each: OpenTask, tries: int, retried: bool) -> BaseException:
    """Return an error like a measured one, whose task was *retried* or not."""
    policy = each.task.retry
    if not retried and tries < policy.max_attempts:
        return Permanent("a failure after which there was no retry")
    if isinstance(policy.retry_on, type | tuple):
        return error_of(each.task)
    # A predicate of the user is not asked about an error that nobody has raised.
    return UnwantedResultError("a failure of the simulation's")
