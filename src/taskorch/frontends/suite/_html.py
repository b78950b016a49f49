"""The final report as one page of HTML, which needs nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Final

from taskorch._base._visible import counted, visible
from taskorch.frontends.suite._markdown import first_line, headline, status
from taskorch.frontends.suite._report import SuiteReport, TaskPart
from taskorch.frontends.suite._timeline import Slice
from taskorch.workflows._words import duration, moment

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


def page(report: SuiteReport) -> str:
    """The report as a page of HTML."""
    word = "passed" if report.passed else "failed"
    kind = "good" if report.passed else "bad"
    name = _text(report.title)
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{name}: {word}</title><style>{_STYLE}</style></head><body><main>",
        f'<h1>{name}: <span class="{kind}">{word}</span></h1>',
        f"<p>{_text(headline(report))}</p>",
        f'<p class="dim">{_when(report)}</p>',
        *(
            f'<p class="bad">Phase {_text(phase)} took longer than it may.</p>'
            for phase in report.over_time
        ),
        *_failures(report),
        *_tasks(report),
        *_timeline(report),
        *_over_memory(report),
        *_flaky(report),
        *_slowest(report),
        "</main></body></html>",
    ]
    return "\n".join(parts) + "\n"


def _text(text: str) -> str:
    return escape(visible(text))


def _when(report: SuiteReport) -> str:
    if report.started is None:
        return "Nothing was begun."
    return f"Begun {moment(report.started)}"


def _failures(report: SuiteReport) -> Iterator[str]:
    lost = [task for task in report.tasks if task.error and not task.because]
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
        text = test.get("text") or test.get("message") or test["outcome"]
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
        coverage = "-" if task.coverage is None else f"{task.coverage:.1%}"
        time = duration(task.seconds) if task.attempts else "-"
        yield f"<tr><td>{_text(task.phase)}</td>"
        yield f"<td><strong>{_text(task.id)}</strong> {_name(task)}</td>"
        yield f'<td class="{_kind(task)}">{_text(status(task))}</td>'
        yield f"<td>{_text(str(task.counts)) if task.counts else '-'}</td>"
        yield f"<td>{coverage}</td><td>{_text(task.agent) or '-'}</td>"
        yield f'<td class="n">{task.attempts}</td><td class="n">{time}</td></tr>'
    yield "</tbody></table></div>"


def _name(task: TaskPart) -> str:
    return "" if task.name == task.id else _text(task.name)


def _kind(task: TaskPart) -> str:
    if task.has_passed:
        return "good"
    return "dim" if task.because else "bad"


def _over_memory(report: SuiteReport) -> Iterator[str]:
    if report.over_memory:
        yield "<h2>Used more memory than was granted</h2><ul>"
        yield from (f"<li>{_text(one)}</li>" for one in report.over_memory)
        yield "</ul>"


def _flaky(report: SuiteReport) -> Iterator[str]:
    if report.flaky:
        yield "<h2>Flaky: failed, then passed unchanged</h2><ul>"
        yield from (f"<li><code>{_text(name)}</code></li>" for name in report.flaky)
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


# -- the picture -------------------------------------------------------------------


def _timeline(report: SuiteReport) -> Iterator[str]:
    if not report.slices:
        return
    start = min(one.start for one in report.slices)
    span = max(max(one.end for one in report.slices) - start, 1e-3)
    agents = sorted({one.agent for one in report.slices})
    lanes = {agent: number for number, agent in enumerate(agents)}
    height = _LANE * len(agents) + 24
    scale = (_WIDTH - _LEFT - 10) / span
    yield f"<h2>Timeline</h2><p class=dim>{counted(len(agents), 'agent')}, "
    yield f"{counted(len(report.slices), 'attempt')}:"
    seen = {one.outcome for one in report.slices}
    for outcome, kind in _OUTCOMES.items():
        if outcome in seen:
            yield f'<span class="{kind}">\u25a0</span> {outcome}'
    yield "</p>"
    yield f'<div class="wide"><svg viewBox="0 0 {_WIDTH} {height}" role="img" '
    yield 'aria-label="Which agent ran which task when">'
    for agent, number in lanes.items():
        y = _LANE * number
        yield f"<g><title>{_text(agent)}</title>"
        yield f'<text x="0" y="{y + 15}">{_text(_fitting(agent))}</text></g>'
        yield f'<line class="lane" x1="{_LEFT}" x2="{_WIDTH}" y1="{y + _LANE - 3}" '
        yield f'y2="{y + _LANE - 3}"/>'
    yield from _marks(span, scale, height)
    for one in report.slices:
        yield _bar(one, start, scale, _LANE * lanes[one.agent])
    yield "</svg></div>"


def _fitting(agent: str) -> str:
    """The name of *agent*, cut to fit beside the bars."""
    most = _LEFT // _LETTER - 1
    return agent if len(agent) <= most else f"{agent[: most - 1]}…"


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
