"""What an attempt at a test task came to, in numbers."""

from __future__ import annotations

from collections.abc import Mapping

import attrs


@attrs.frozen
class Counts:
    """
    How many tests came to what.

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
    What was measured of an attempt; None is not known.

    Attributes:
        seconds: How long it took.
        exit_code: Of its process; negative: the signal that ended it.
        counts: Its tests.
        covered: Lines that were run, and lines that there are.
        memory_mb: MiB that its largest process had at most.
        granted_mb: MiB that it was granted.
        cpu_seconds: What its processes used of the cores.
        disk_mb: MB that they wrote.
        serial_seconds: Of a benchmark, the serial run.
        parallel_seconds: Of a benchmark, the parallel run.
        said: What a command says of itself, by the names of criteria.
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
