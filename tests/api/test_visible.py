"""What tasks, programs and users say does not reach a terminal or a page as commands."""

from __future__ import annotations

import logging
import re
import sys
import unicodedata

import pytest
from tests.api.tools import PATIENCE

from taskorch import (
    ProgramFailedError,
    RetryPolicy,
    Task,
    TaskFailedError,
    TaskOrchestrator,
    Workflow,
    WorkflowFailedError,
)
from taskorch.kit.visible import visible
from taskorch.policies import PerformanceRouter, StandardStateMachine
from taskorch.protocols import Permit, Route

#: Clears the screen, turns what follows around, and begins a line of its own.
NASTY = "\x1b[2J\x9b1m\r\u202egnp.exe\u2066\u200f\x07\x00\ud800\u2028end"
_SAFE = {"\n", "\t"}


def is_obeyed(letter):
    return letter not in _SAFE and (
        unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp")
        or unicodedata.bidirectional(letter)
        in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
        or letter in "\u200e\u200f\u061c\ufeff"
    )


def assert_plain(text):
    obeyed = sorted({letter for letter in text if is_obeyed(letter)})
    assert not obeyed, (obeyed, text)


def test_all_letters_are_told_apart():
    """Those that are obeyed, of all that there are."""
    every = "".join(map(chr, range(sys.maxunicode + 1)))
    assert_plain(visible(every))
    kept = set(visible(every))
    assert all(is_obeyed(letter) for letter in every if letter not in kept)


class Router(PerformanceRouter):
    def route(self, task, candidates, context):
        return Route(candidates[0].name, NASTY)


class Machine(StandardStateMachine):
    def check(self, transition, context):
        if transition.type == "vetoed" and transition.after == "running":
            return Permit(False, NASTY)
        return super().check(transition, context)


def fail():
    raise LookupError(NASTY)


def texts_of(orch, caplog):
    """All that we make for people of what happens here."""

    @orch.agent("a", capabilities={"x", "vetoed"})
    def worker(task, context):
        raise LookupError(NASTY)

    nasty = NASTY.replace("\x00", "").replace("\ud800", "")
    script = "import sys; sys.stderr.write(sys.argv[1]); sys.exit(3)"
    program = [sys.executable, "-c", script, nasty]
    with orch:
        works = [
            orch.submit_task(Task("x", NASTY, id="agent")),
            orch.submit_task(Task.call(fail, id="fails")),
            orch.submit_task(Task.program(program, id="program")),
        ]
        orch.submit_task(Task.call(fail, id="below", after=["fails"]))
        orch.submit_task(Task("vetoed", id="vetoed"))
        again = RetryPolicy(max_attempts=9, base=PATIENCE)
        orch.submit_task(Task.call(fail, id="again", retry=again))
        workflow = Workflow("w")
        step = workflow.task(fail, id="step")
        workflow.task(fail, id="step2", after=[step])
        run = orch.workflows.start(workflow)
        for work in works:
            error = work.exception(PATIENCE)
            yield from (
                (str(error), repr(error))
                if isinstance(error, ProgramFailedError | TaskFailedError)
                else ()
            )
        with pytest.raises(WorkflowFailedError) as caught:
            run.result(PATIENCE)
        yield str(caught.value)
        while (
            orch.get_task_status("again").attempts < 1
            or orch.explain("again").state == "running"
        ):
            pass
        for status in orch.tasks():
            explanation = orch.explain(status.task_id)
            yield str(explanation)
            yield from map(str, explanation.blockers)
            yield repr(status)
            yield repr(explanation)
        yield from map(str, orch.stuck())
        yield str(orch.health())
        yield str(orch.get_stats())
        yield str(run.status())
        report = run.report()
        yield str(report)
        yield report.to_markdown()
        yield workflow.to_mermaid()
        yield run._repr_html_()
        yield repr(run)
        yield str(orch.stop(drain=False))
    for record in caplog.records:
        yield logging.Formatter().format(record)


def test_no_text_of_ours_has_any_of_it(caplog):
    """Errors, explanations, reports, pictures and the log."""
    orch = TaskOrchestrator(router=Router(), state_machine=Machine())
    found = list(texts_of(orch, caplog))
    for text in found:
        assert_plain(text)
    # It is there, as what it is.
    together = "\n".join(found)
    for what in ("program .* exited", "Its latest failure", "What failed", "vetoed"):
        lines = [line for line in together.splitlines() if re.search(what, line)]
        assert lines, what
    assert together.count(r"\x1b[2J") > 10


def test_values_are_as_they_were():
    """A program that reads them has every letter."""
    with TaskOrchestrator() as orch:
        error = orch.submit(fail).exception(PATIENCE)
        assert str(error) == NASTY
        with pytest.raises(LookupError, match=re.escape(NASTY)):
            orch.submit(fail).result(PATIENCE)
