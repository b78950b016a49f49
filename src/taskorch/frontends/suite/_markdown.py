"""The final report as Markdown, for a summary of a build or a comment."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from taskorch._base._visible import counted, visible
from taskorch.frontends.suite._report import SuiteReport, TaskPart
from taskorch.workflows._report import cell
from taskorch.workflows._words import duration

#: Failures that are shown at length, and lines of each.
_SHOWN: Final = 20
_LINES: Final = 30


def headline(report: SuiteReport) -> str:
    """The report in a sentence."""
    good = sum(task.has_passed for task in report.whole)
    text = f"{good} of {counted(len(report.whole), 'task')} succeeded"
    split = {task.part_of for task in report.tasks}
    parts = [task for task in report.tasks if task.id not in split]
    if len(parts) != len(report.whole):
        done = sum(task.has_passed for task in parts)
        text += f", in {done} of {counted(len(parts), 'part')}"
    if report.counts.total:
        text += f": {report.counts}"
    if report.coverage is not None:
        text += f"; {report.coverage:.1%} of the lines are covered"
    if report.unmeasured:
        text += f"; no coverage was measured of {', '.join(report.unmeasured)}"
    if report.over_memory:
        many = counted(len(report.over_memory), "task")
        text += f"; {many} used more memory than granted ({report.over_memory[0]})"
    return f"{text}; {duration(report.seconds)} ({duration(report.work)} of work)."


def markdown(report: SuiteReport) -> str:
    """The report as Markdown."""
    return visible("\n".join(_lines(report))) + "\n"


def _lines(report: SuiteReport) -> Iterator[str]:
    yield f"# {_text(report.title)}: {'passed' if report.passed else 'failed'}"
    yield from ("", headline(report), "")
    yield "| phase | task | status | tests | coverage | attempts | time |"
    yield "|---|---|---|---|---|---|---|"
    for task in report.tasks:
        cells = (
            task.phase,
            task.id if task.name == task.id else f"{task.id} {task.name}",
            status(task),
            str(task.counts) if task.counts else "-",
            "-" if task.coverage is None else f"{task.coverage:.1%}",
            str(task.attempts),
            duration(task.seconds) if task.attempts else "-",
        )
        yield f"| {' | '.join(map(_text, cells))} |"
    for phase in report.over_time:
        yield from ("", f"Phase {_text(phase)} took longer than it may.")
    if report.over_memory:
        yield from ("", "## Used more memory than was granted", "")
        yield from (f"- {_text(one)}" for one in report.over_memory)
    troubles = [task for task in report.tasks if task.error and not task.because]
    if troubles:
        yield from ("", "## What did not succeed", "")
        yield from (
            f"- {task.id}: {_text(first_line(task.error))}" for task in troubles
        )
    yield from _failures(report)
    if report.flaky:
        yield from ("", "## Flaky: failed, then passed unchanged", "")
        yield from (f"- {_text(name)}" for name in report.flaky)
    if report.slowest:
        yield from (
            "",
            "## Slowest tests",
            "",
            "| test | task | time |",
            "|---|---|---|",
        )
        for task, test in report.slowest:
            time = duration(test["seconds"])
            yield f"| {_text(test['id'])} | {task.id} | {time} |"
    if report.notes:
        yield from ("", "## Settings without effect", "")
        yield from (f"- {_text(note)}" for note in report.notes)


def _failures(report: SuiteReport) -> Iterator[str]:
    if not report.failures:
        return
    yield from ("", f"## {counted(len(report.failures), 'failure')}")
    for task, test in report.failures[:_SHOWN]:
        yield from ("", f"### {_text(test['id'])} ({task.id})", "")
        text = test.get("text") or test.get("message") or test["outcome"]
        # Indented: there is no fence that a text could not close.
        yield from (f"    {line}" for line in text.splitlines()[-_LINES:])
    more = len(report.failures) - _SHOWN
    if more > 0:
        yield from ("", f"… and {more:,} more")


def status(task: TaskPart) -> str:
    """What became of a task, for people."""
    if task.because:
        return f"never began, because of {', '.join(task.because)}"
    words = {"completed_success": "passed", "completed_failure": "failed"}
    return words.get(task.status, task.status)


def first_line(text: str) -> str:
    """The first line of *text* that says something."""
    return (text.strip().splitlines() or [""])[0]


def _text(text: str) -> str:
    """*text* as nothing but text, in one line."""
    return cell(text).replace("\n", " ")
