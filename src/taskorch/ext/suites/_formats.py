"""The final report in its four forms: HTML, Markdown, JUnit's XML, and JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any, Final
from xml.etree import ElementTree as ET

from taskorch.core.workflows._report import cell
from taskorch.ext.suites._report import Slice, SuiteReport, TaskPart
from taskorch.ext.suites._results import BAD
from taskorch.kit.visible import counted, visible
from taskorch.kit.words import duration, first_line, moment

#: The most failures that Markdown shows at length, and lines of each.
_SHOWN: Final = 20
_MOST_LINES: Final = 30
#: The outcomes that XML knows as skipped.
_SKIPPED: Final = ("skipped", "xfailed", "not_run")
#: Characters that XML cannot say.
_UNSAYABLE: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_STYLE: Final = """
:root { color-scheme: light dark; --text: #1f2328; --dim: #59636e; --line: #d1d9e0;
  --back: #ffffff; --soft: #f6f8fa; --good: #1a7f37; --bad: #cf222e; --warn: #9a6700;
  --other: #6e7781; }
@media (prefers-color-scheme: dark) { :root { --text: #e6edf3; --dim: #9198a1;
  --line: #3d444d; --back: #0d1117; --soft: #151b23; --good: #3fb950; --bad: #ff7b72;
  --warn: #d29922; --other: #9198a1; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text);
  background: var(--back); max-width: 72rem; margin: 2rem auto; padding: 0 1rem;
  overflow-wrap: anywhere }
h1 { font-size: 1.6rem; margin: 0 } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem }
p { margin: .4rem 0 } .dim { color: var(--dim) }
.good { color: var(--good) } .bad { color: var(--bad) } .warn { color: var(--warn) }
.wide { overflow-x: auto }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .3rem .8rem .3rem 0; vertical-align: top;
  border-bottom: 1px solid var(--line) }
th { color: var(--dim); font-weight: 600 } td:not(.n) { min-width: 7.5rem }
th, .n { white-space: nowrap } .n { text-align: right }
summary code { word-break: break-all }
code, pre { font: 13px/1.45 ui-monospace, monospace }
pre { background: var(--soft); border: 1px solid var(--line); border-radius: 6px;
  padding: .8rem; overflow: auto; white-space: pre-wrap; max-height: 30rem }
summary { cursor: pointer; padding: .25rem 0 } details { margin: .2rem 0 }
svg { width: 100%; height: auto; min-width: 40rem; font: 12px system-ui, sans-serif }
svg text { fill: var(--text) } svg .dim { fill: var(--dim) }
svg .lane { stroke: var(--line) } svg rect { stroke: var(--back); stroke-width: 1 }
.completed { fill: var(--good) } .failed { fill: var(--bad) }
.retrying { fill: var(--warn) } .cancelled { fill: var(--other) }
svg .inside { fill: var(--back) }
"""
#: The titles of lists.
_MEMORY: Final = "Used more memory than was granted"
_SPENT: Final = "Spent of budgets"
_REPAIRS: Final = "Repaired"
_FLAKY: Final = "Flaky: failed, then passed unchanged"
#: Pixels of the picture.
_WIDTH, _LEFT, _LANE, _BAR = 1_000, 90, 26, 20
#: Pixels that a letter takes.
_LETTER: Final = 7
#: How attempts can end, with the class of their colour in a text.
_OUTCOMES: Final = {
    "completed": "good",
    "retrying": "warn",
    "failed": "bad",
    "cancelled": "dim",
}
_NICE: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1_800, 3_600, 7_200, 21_600)
_MARKS: Final = 8


def written(report: SuiteReport) -> dict[str, str]:
    """The report in each format, by the suffix of its file; JSON comes last."""
    return {
        "html": page(report),
        "md": markdown(report),
        "xml": junit(report),
        "json": json.dumps(report.to_dict(), indent=1) + "\n",
    }


# -- what people read in any of them -----------------------------------------------


def _figures(task: TaskPart) -> tuple[str, str, str]:
    """The tests, the coverage and the time of a task."""
    return (
        str(task.counts) if task.counts else "-",
        "-" if task.coverage is None else f"{task.coverage:.1%}",
        duration(task.seconds) if task.attempts else "-",
    )


def _troubles(report: SuiteReport) -> list[TaskPart]:
    """The tasks that did not succeed, through no fault of another."""
    return [task for task in report.tasks if task.error and not task.because]


def _why(test: Mapping[str, Any]) -> str:
    """Say at length why a test failed."""
    return str(test.get("text") or test.get("message") or test["outcome"])


# -- Markdown, for a summary of a build or a comment -------------------------------


def markdown(report: SuiteReport) -> str:
    """The report as Markdown."""
    return visible("\n".join(_markdown_lines(report))) + "\n"


def _markdown_lines(report: SuiteReport) -> Iterator[str]:
    yield f"# {_plain(report.title)}: {'passed' if report.passed else 'failed'}"
    yield from ("", report.headline, "")
    yield "| phase | task | status | tests | coverage | attempts | time |"
    yield "|---|---|---|---|---|---|---|"
    for task in report.tasks:
        name = task.id if task.name == task.id else f"{task.id} {task.name}"
        tests, coverage, time = _figures(task)
        cells = task.phase, name, task.in_words, tests, coverage, task.attempts, time
        yield f"| {' | '.join(_plain(str(each)) for each in cells)} |"
    for phase in report.over_time:
        yield from ("", f"Phase {_plain(phase)} took longer than it may.")
    yield from _markdown_list(_MEMORY, map(_plain, report.over_memory))
    yield from _markdown_list(_SPENT, map(_plain, report.spent_lines))
    troubles = (
        f"{task.id}: {_plain(first_line(task.error))}" for task in _troubles(report)
    )
    yield from _markdown_list("What did not succeed", troubles)
    yield from _markdown_failures(report)
    yield from _markdown_list(_REPAIRS, map(_plain, report.repairs))
    yield from _markdown_list(_FLAKY, map(_plain, report.flaky_lines))
    if report.slowest:
        yield from ("", "## Slowest tests", "")
        yield from ("| test | task | time |", "|---|---|---|")
        for task, test in report.slowest:
            time = duration(test["seconds"])
            yield f"| {_plain(test['id'])} | {task.id} | {time} |"
    yield from _markdown_list("Settings without effect", map(_plain, report.notes))


def _markdown_list(title: str, items: Iterable[str]) -> Iterator[str]:
    """A list with a title, unless it is empty."""
    lines = [f"- {item}" for item in items]
    if lines:
        yield from ("", f"## {title}", "", *lines)


def _markdown_failures(report: SuiteReport) -> Iterator[str]:
    if not report.failures:
        return
    yield from ("", f"## {counted(len(report.failures), 'failure')}")
    for task, test in report.failures[:_SHOWN]:
        yield from ("", f"### {_plain(test['id'])} ({task.id})", "")
        if test["id"] in report.over_runs:
            yield from (f"{report.over_runs[test['id']].capitalize()}.", "")
        text = _why(test)
        # Indented: there is no fence that a text could not close.
        yield from (f"    {line}" for line in text.splitlines()[-_MOST_LINES:])
    more = len(report.failures) - _SHOWN
    if more > 0:
        yield from ("", f"… and {more:,} more")


def _plain(text: str) -> str:
    """Return *text* in one line, without markup."""
    return cell(text).replace("\n", " ")


# -- one page of HTML, which needs nothing else ------------------------------------


def page(report: SuiteReport) -> str:
    """The report as a page of HTML."""
    word = "passed" if report.passed else "failed"
    kind = "good" if report.passed else "bad"
    name = _text(report.title)
    began = "Nothing was begun."
    if report.started is not None:
        began = f"Begun {moment(report.started)}"
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{name}: {word}</title><style>{_STYLE}</style></head><body><main>",
        f'<h1>{name}: <span class="{kind}">{word}</span></h1>',
        f"<p>{_text(report.headline)}</p>",
        f'<p class="dim">{began}</p>',
        *(
            f'<p class="bad">Phase {_text(phase)} took longer than it may.</p>'
            for phase in report.over_time
        ),
        *_html_failures(report),
        *_tasks(report),
        *_picture(report),
        *_html_list(_MEMORY, report.over_memory),
        *_html_list(_SPENT, report.spent_lines),
        *_html_list(_REPAIRS, report.repairs),
        *_html_list(_FLAKY, report.flaky_lines),
        *_slowest(report),
        "</main></body></html>",
    ]
    return "\n".join(parts) + "\n"


def _text(text: str) -> str:
    return escape(visible(text))


def _html_failures(report: SuiteReport) -> Iterator[str]:
    lost = _troubles(report)
    if not lost and not report.failures:
        return
    yield "<h2>What failed</h2>"
    for task in lost:
        yield _detail(
            f"<strong>{_text(task.id)}</strong> {_first(task.error)}", task.error
        )
    for task, test in report.failures:
        title = (
            f"<code>{_text(test['id'])}</code> <span class=dim>{_text(task.id)}</span>"
        )
        text = "\n\n".join(
            [*filter(None, [report.over_runs.get(test["id"])]), _why(test)]
        )
        if test.get("output"):
            text += f"\n\n--- printed ---\n{test['output']}"
        yield _detail(f"{title} {_first(test.get('message', ''))}", text)


def _detail(summary: str, text: str) -> str:
    return f"<details><summary>{summary}</summary><pre>{_text(text)}</pre></details>"


def _first(text: str) -> str:
    return _text(first_line(text)[:200])


def _tasks(report: SuiteReport) -> Iterator[str]:
    yield '<h2>Tasks</h2><div class="wide"><table><thead><tr>'
    for name in ("phase", "task", "status", "tests", "coverage", "agent"):
        yield f"<th>{name}</th>"
    yield '<th class="n">attempts</th><th class="n">time</th></tr></thead><tbody>'
    for task in report.tasks:
        tests, coverage, time = _figures(task)
        yield f"<tr><td>{_text(task.phase)}</td>"
        name = "" if task.name == task.id else _text(task.name)
        yield f"<td><strong>{_text(task.id)}</strong> {name}</td>"
        kind = "good" if task.has_passed else "dim" if task.because else "bad"
        yield f'<td class="{kind}">{_text(task.in_words)}</td>'
        yield f"<td>{_text(tests)}</td>"
        yield f"<td>{coverage}</td><td>{_text(task.agent) or '-'}</td>"
        yield f'<td class="n">{task.attempts}</td><td class="n">{time}</td></tr>'
    yield "</tbody></table></div>"


def _html_list(title: str, lines: Sequence[str]) -> Iterator[str]:
    """A list with a title, unless it is empty."""
    if lines:
        yield f"<h2>{title}</h2><ul>"
        yield from (f"<li>{_text(line)}</li>" for line in lines)
        yield "</ul>"


def _slowest(report: SuiteReport) -> Iterator[str]:
    if not report.slowest:
        return
    yield "<h2>Slowest tests</h2><div class=wide><table><tbody>"
    for task, test in report.slowest:
        yield (
            f"<tr><td><code>{_text(test['id'])}</code></td><td>{_text(task.id)}</td>"
            f'<td class="n">{duration(test["seconds"])}</td></tr>'
        )
    yield "</tbody></table></div>"


# -- its picture -------------------------------------------------------------------


def _picture(report: SuiteReport) -> Iterator[str]:
    if not report.slices:
        return
    start = min(one.start for one in report.slices)
    span = max(max(one.end for one in report.slices) - start, 1e-3)
    workers = sorted({one.agent for one in report.slices})
    lanes = {worker: number for number, worker in enumerate(workers)}
    height = _LANE * len(workers) + 24
    scale = (_WIDTH - _LEFT - 10) / span
    yield f"<h2>Timeline</h2><p class=dim>{counted(len(workers), 'worker')}, "
    yield f"{counted(len(report.slices), 'attempt')}:"
    seen = {one.outcome for one in report.slices}
    for outcome, kind in _OUTCOMES.items():
        if outcome in seen:
            yield f'<span class="{kind}">\u25a0</span> {outcome}'
    yield "</p>"
    yield f'<div class="wide"><svg viewBox="0 0 {_WIDTH} {height}" role="img" '
    yield 'aria-label="Which worker ran which task when">'
    for worker, number in lanes.items():
        y = _LANE * number
        yield f"<g><title>{_text(worker)}</title>"
        yield f'<text x="0" y="{y + 15}">{_text(_fitting(worker))}</text></g>'
        yield f'<line class="lane" x1="{_LEFT}" x2="{_WIDTH}" y1="{y + _LANE - 3}" '
        yield f'y2="{y + _LANE - 3}"/>'
    yield from _marks(span, scale, height)
    for one in report.slices:
        yield _bar(one, start, scale, _LANE * lanes[one.agent])
    yield "</svg></div>"


def _fitting(worker: str) -> str:
    """The name of *worker*, cut to fit beside the bars."""
    most = _LEFT // _LETTER - 1
    return worker if len(worker) <= most else f"{worker[: most - 1]}…"


def _marks(span: float, scale: float, height: int) -> Iterator[str]:
    step = next((s for s in _NICE if span / s <= _MARKS), span / _MARKS)
    for number in range(int(span / step) + 1):
        at = number * step
        x = _LEFT + at * scale
        label = duration(at) if at else "0"
        yield f'<text class="dim" x="{x:.1f}" y="{height - 6}">{label}</text>'


def _bar(one: Slice, start: float, scale: float, y: int) -> str:
    x = _LEFT + (one.start - start) * scale
    width = max((one.end - one.start) * scale, 1.5)
    text = f"{one.task}, attempt {one.attempt}: {one.outcome}, "
    text += duration(one.end - one.start)
    label = ""
    if width > _LETTER * (len(one.task) + 1):
        label = f'<text class="inside" x="{x + 4:.1f}" y="{y + 15}">'
        label += f"{_text(one.task)}</text>"
    return (
        f'<g><title>{_text(text)}</title><rect class="{one.outcome}" x="{x:.1f}" '
        f'y="{y + 1}" width="{width:.1f}" height="{_BAR}" rx="3"/>{label}</g>'
    )


# -- JUnit's XML, which every service for tests reads ------------------------------


def junit(report: SuiteReport) -> str:
    """
    The report as JUnit XML: a suite for each task, and a case for each test.

    A task that is a command without tests is one case, and so is a failure of a task
    that none of its tests explains. Of a task in shards the tests stand with these; it
    stands there itself only if it has failed, and none of its shards has. It follows
    the strictest schema that is in use: each suite has all attributes, and its parts
    stand in order.
    """
    root = ET.Element("testsuites")
    bad = {task.part_of for task in report.tasks if not task.has_passed}
    split = {task.part_of for task in report.tasks}
    # Its parts say it all, unless all of them have passed, and the whole has not.
    shown = [
        one
        for one in report.tasks
        if one.id not in split or not (one.has_passed or one.id in bad)
    ]
    for number, task in enumerate(shown):
        _junit_suite(root, number, task, report)
    ET.indent(root)
    text = ET.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'


def _junit_suite(
    root: ET.Element, number: int, task: TaskPart, report: SuiteReport
) -> None:
    cases = [*task.tests]
    explained = any(test["outcome"] in BAD for test in cases)
    if not cases or (not task.has_passed and not explained):
        cases.append(_as_test(task))
    kinds = [test["outcome"] for test in cases]
    began = [one.start for one in report.slices if one.task == task.id]
    moment = datetime.fromtimestamp(min(began, default=report.started or 0.0), UTC)
    suite = ET.SubElement(
        root,
        "testsuite",
        {
            "id": str(number),
            "name": _sayable(
                f"{task.id} {task.name}" if task.name != task.id else task.id
            ),
            "package": _sayable(task.phase),
            "timestamp": f"{moment:%Y-%m-%dT%H:%M:%S}",
            "hostname": "localhost",
            "tests": str(len(cases)),
            "failures": str(kinds.count("failed")),
            "errors": str(kinds.count("error")),
            "skipped": str(sum(map(kinds.count, _SKIPPED))),
            "time": f"{task.seconds:.3f}",
        },
    )
    properties = ET.SubElement(suite, "properties")
    for name, value in (("agent", task.agent), ("attempts", str(task.attempts))):
        attributes = {"name": name, "value": _sayable(value) or "none"}
        ET.SubElement(properties, "property", attributes)
    for test in cases:
        _junit_case(suite, test)
    ET.SubElement(suite, "system-out")
    ET.SubElement(suite, "system-err").text = _sayable(task.error)


def _as_test(task: TaskPart) -> Mapping[str, Any]:
    """A task as one test."""
    outcome = {"blocked": "skipped", "cancelled": "skipped"}.get(task.status, "error")
    why = f"because of {', '.join(task.because)}" if task.because else task.error
    return {
        "id": f"{task.phase}::{task.id}",
        "outcome": "passed" if task.has_passed else outcome,
        "seconds": task.seconds,
        "message": why,
        "text": task.error,
    }


def _junit_case(suite: ET.Element, test: Mapping[str, Any]) -> None:
    place, name = _parts(test["id"], test.get("function", ""))
    where = _dotted(place)
    if not place and name.endswith(".py"):
        # A file that was skipped as a whole.
        where, _, name = _dotted(name).rpartition(".")
    case = ET.SubElement(
        suite,
        "testcase",
        {
            "name": _sayable(name) or "unnamed",
            "classname": _sayable(where) or "tests",
            "time": f"{test['seconds']:.3f}",
        },
    )
    outcome, message = test["outcome"], _sayable(test.get("message", ""))
    if outcome in BAD:
        tag = "failure" if outcome == "failed" else "error"
        mark = ET.SubElement(case, tag, {"message": message, "type": outcome})
        printed = test.get("output", "")
        mark.text = _sayable("\n".join(filter(None, (test.get("text", ""), printed))))
    elif outcome in _SKIPPED:
        # The schema has no attribute for more.
        if outcome == "xfailed":
            message = f"expected to fail: {message}".removesuffix(": ")
        elif outcome == "not_run":
            message = "not run: the run has ended before"
        ET.SubElement(case, "skipped", {"message": message})


def _parts(test_id: str, function: str) -> tuple[str, str]:
    """The file or class of a test, and its name, which may contain `::`."""
    if function and test_id.endswith(f"::{function}"):
        return test_id.removesuffix(f"::{function}"), function
    file, _, inner = test_id.partition("::")
    inner, bracket, parameters = inner.partition("[")
    classes, _, name = inner.rpartition("::")
    if not name:
        return "", test_id
    place = f"{file}::{classes}" if classes else file
    return place, f"{name}{bracket}{parameters}"


def _dotted(place: str) -> str:
    """A file and a class as others write it: `tests/test_a.py::TestB` is dotted."""
    file, _, inner = place.partition("::")
    dotted = file.removesuffix(".py").replace("/", ".")
    return f"{dotted}.{inner.replace('::', '.')}" if inner else dotted


def _sayable(text: str) -> str:
    return _UNSAYABLE.sub("\ufffd", text)
