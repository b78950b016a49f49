"""Whether an attempt has succeeded: its criteria, beside how it ended."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import attrs

from taskorch._base._visible import counted
from taskorch.errors import TaskFailure
from taskorch.frontends.suite._criteria import Criteria
from taskorch.frontends.suite._measures import Counts, Measures
from taskorch.model import ProgramResult
from taskorch.recovery import FailureClass

#: What pytest exits with when it has run all tests, if there were any.
_RAN: Final = (0, 1)


class CriteriaNotMetError(TaskFailure):
    """
    A test task has run, and what must hold for it does not.

    Attributes:
        failure_class: What kind of failure that is.
        result: How what it ran has ended, for rules of the user's.
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
        said: What was found and what is asked for, in a sentence.
    """

    name: str
    holds: bool = False
    said: str = ""


def judge(criteria: Criteria, measures: Measures) -> list[CriterionFinding]:
    """
    What must hold of an attempt, and whether it does.

    An attempt succeeds if all of it holds. A `pass_rate` takes the place of "no test
    fails"; all else must hold beside it.
    """
    return [*_ended(criteria, measures), *_asked(criteria, measures)]


def _ended(criteria: Criteria, measures: Measures) -> Iterator[CriterionFinding]:
    """What goes without saying: it ran to its end, and had something to run."""
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
    """Whether *measured* is at *least* or at *most* so much, if that is asked for."""
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
    """*measured* to as many figures as tell it from *limit*."""
    for figures in (3, 4, 6, 9, 12):
        text = f"{measured:.{figures}g}"
        if measured == limit or float(text) != limit:
            return f"{float(text):.{figures}g}"
    return repr(measured)
