"""The measures of an attempt, and the verdict on it by its criteria."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import attrs

from taskorch.errors import TaskFailure
from taskorch.ext.recovery import FailureClass
from taskorch.ext.suites._criteria import Criteria
from taskorch.kit.visible import counted
from taskorch.model import ProgramResult


@attrs.frozen
class Counts:
    """
    The number of tests with each outcome.

    Attributes:
        passed: Tests that passed.
        failed: Tests that failed; one that passed although it must not, too.
        errors: Tests, or files, that broke outside of the test itself.
        skipped: Tests that are not to be run.
        xfailed: Tests that failed as expected.
        xpassed: Tests that passed although they were expected to fail, and may.
        not_run: Tests that were to be run, and never began: the run has ended before.
    """

    passed: int = 0
    failed: int = 0
    errors: int = 0
    skipped: int = 0
    xfailed: int = 0
    xpassed: int = 0
    not_run: int = 0

    @property
    def total(self) -> int:
        """Number of all tests."""
        return sum(attrs.astuple(self))

    @property
    def judged(self) -> int:
        """Number of the tests that must pass: without skipped and xfailed ones."""
        return self.total - self.skipped - self.xfailed

    @property
    def bad(self) -> int:
        """Number of the tests that make a plain run fail."""
        return self.failed + self.errors

    @property
    def pass_rate(self) -> float | None:
        """
        The share of those judged that passed; None if there was no test at all.

        Where all were skipped, nothing has failed: 1.
        """
        if self.judged:
            return (self.passed + self.xpassed) / self.judged
        return 1.0 if self.total else None

    def __add__(self, other: Counts) -> Counts:
        pairs = zip(attrs.astuple(self), attrs.astuple(other), strict=True)
        return Counts(*(mine + its for mine, its in pairs))

    def __str__(self) -> str:
        parts = [
            f"{n:,} {name.replace('_', ' ')}"
            for name, n in attrs.asdict(self).items()
            if n
        ]
        if self.errors == 1:
            parts[parts.index("1 errors")] = "1 error"
        return ", ".join(parts) or "no tests"


def share_of(covered: tuple[int, int]) -> float:
    """The share of lines that were run, of all; 1 where there are none."""
    run, lines = covered
    return run / lines if lines else 1.0


@attrs.frozen
class Measures:
    """
    The measures of an attempt; None: the value is not known.

    Attributes:
        seconds: How long it took.
        exit_code: The exit code of its process; negative: the signal that ended it.
        counts: Its tests.
        covered: Lines that were run, and lines that there are.
        memory_mb: MiB that its largest process had at most.
        granted_mb: MiB that it was granted.
        cpu_seconds: The processor time that its processes used, in seconds.
        disk_mb: MB that they wrote.
        serial_seconds: The seconds of the serial run of a benchmark.
        parallel_seconds: The seconds of the parallel run of a benchmark.
        said: The measures that a command reports of itself, by the names of criteria.
        is_pytest: Whether it was pytest, whose exit codes are known.
    """

    seconds: float
    exit_code: int
    counts: Counts | None = None
    covered: tuple[int, int] | None = None
    memory_mb: float | None = None
    granted_mb: float | None = None
    cpu_seconds: float | None = None
    disk_mb: float | None = None
    serial_seconds: float | None = None
    parallel_seconds: float | None = None
    said: Mapping[str, float] = attrs.field(factory=dict, hash=False)
    is_pytest: bool = False

    @property
    def pass_rate(self) -> float | None:
        """The share of tests that passed."""
        measured = None if self.counts is None else self.counts.pass_rate
        return self.said.get("pass_rate") if measured is None else measured

    @property
    def coverage(self) -> float | None:
        """The share of lines that were run; 1 where there are none."""
        if self.covered is None:
            return self.said.get("coverage")
        return share_of(self.covered)

    @property
    def speedup(self) -> float | None:
        """Seconds of the serial run over those of the parallel one."""
        if self.serial_seconds is None or not self.parallel_seconds:
            return self.said.get("speedup")
        return self.serial_seconds / self.parallel_seconds

    @property
    def memory_efficiency(self) -> float | None:
        """The share of the memory granted that was used."""
        used = None
        if self.memory_mb is not None and self.granted_mb:
            used = self.memory_mb / self.granted_mb
        return self.said.get("memory_efficiency", used)


#: Exit codes of pytest after it has run all tests.
_RAN: Final = (0, 1)


class CriteriaNotMetError(TaskFailure):
    """
    A test task has run, and does not meet its criteria.

    Attributes:
        failure_class: The class of the failure.
        result: The end of its program, for rules of the user's.
    """

    code = "criteria_not_met"

    failure_class: FailureClass | None = None
    result: ProgramResult | None = None


@attrs.frozen
class CriterionFinding:
    """
    A criterion, and whether it holds.

    Attributes:
        name: The criterion, or `exit_code` or `tests`.
        holds: Whether it does.
        said: The found and the required value, in a sentence.
    """

    name: str
    holds: bool = False
    said: str = ""


def judge(criteria: Criteria, measures: Measures) -> list[CriterionFinding]:
    """
    Return each criterion of an attempt, and whether the attempt meets it.

    An attempt succeeds if all of it holds. A `pass_rate` takes the place of "no test
    fails"; all else must hold beside it.
    """
    return [*_ended(criteria, measures), *_asked(criteria, measures)]


def _ended(criteria: Criteria, measures: Measures) -> Iterator[CriterionFinding]:
    """Yield the findings that need no criterion: it ended, and had tests to run."""
    code, counts = measures.exit_code, measures.counts
    if counts is not None:
        yield CriterionFinding("tests", counts.total > counts.not_run, str(counts))
        if criteria.pass_rate is None:
            sentence = f"{counts.bad:,} of {counted(counts.judged, 'test')} failed"
            yield CriterionFinding("failures", not counts.bad, sentence)
            if counts.not_run:
                verb = "was" if counts.not_run == 1 else "were"
                tests = counted(counts.total, "test")
                sentence = f"{counts.not_run:,} of {tests} {verb} not run"
                yield CriterionFinding("not_run", said=sentence)
    # A runner of tests says by its code that some have failed: that is counted. But
    # pytest says by all codes above 1 that it did not run them all.
    explained = counts is not None and bool(counts.bad) and code > 0
    if measures.is_pytest and code not in _RAN:
        explained = False
    if code < 0:
        yield CriterionFinding("exit_code", said=f"it was ended by signal {-code}")
    elif not (explained or (counts is not None and not counts.total)):
        yield CriterionFinding("exit_code", not code, _exited(code, counts))


def _exited(code: int, counts: Counts | None) -> str:
    if counts is None or not code:
        return f"it exited with {code}"
    if counts.bad:
        return f"it exited with {code}: not all tests were run"
    return f"it exited with {code}, and no test has failed"


def _asked(criteria: Criteria, measures: Measures) -> Iterator[CriterionFinding]:
    rate = measures.pass_rate
    counts = measures.counts
    of = ""
    if counts is not None and counts.judged:
        of = f" ({counts.passed + counts.xpassed:,} of {counts.judged:,})"
    yield from _compared("pass_rate", rate, least=criteria.pass_rate, of=of)
    lines = measures.covered
    of = "" if lines is None else f" ({lines[0]:,} of {lines[1]:,} lines)"
    yield from _compared("coverage", measures.coverage, least=criteria.coverage, of=of)
    most = criteria.execution_time_max
    yield from _compared("execution_time", measures.seconds, most=most, unit=" s")
    most = criteria.memory_max
    yield from _compared("memory", measures.memory_mb, most=most, unit=" MiB")
    yield from _compared("speedup", measures.speedup, least=criteria.speedup_min)
    least = criteria.memory_efficiency
    yield from _compared("memory_efficiency", measures.memory_efficiency, least=least)


def _compared(
    name: str,
    measured: float | None,
    *,
    least: float | None = None,
    most: float | None = None,
    unit: str = "",
    of: str = "",
) -> Iterator[CriterionFinding]:
    """Compare *measured* with the bound *least* or *most*, if there is one."""
    limit = least if most is None else most
    if limit is None:
        return
    asked = f"at {'least' if most is None else 'most'} {limit:g}{unit} is asked for"
    if measured is None:
        yield CriterionFinding(name, said=f"{name} was not measured, and {asked}")
        return
    sentence = f"{name} is {_near(measured, limit)}{unit}{of}, and {asked}"
    yield CriterionFinding(
        name, measured >= limit if most is None else measured <= limit, sentence
    )


def _near(measured: float, limit: float) -> str:
    """Write *measured* with as many figures as tell it from *limit*."""
    for figures in (3, 4, 6, 9, 12):
        text = f"{measured:.{figures}g}"
        if measured == limit or float(text) != limit:
            return f"{float(text):.{figures}g}"
    return repr(measured)
