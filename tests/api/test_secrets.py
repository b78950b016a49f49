"""What may be secret: where it may be, and that it is nowhere else."""

from __future__ import annotations

import logging
import sqlite3
import sys
import traceback
from contextlib import closing, suppress
from pathlib import Path

import pytest
from tests.api.tools import PATIENCE

from taskorch import RetryPolicy, Task, TaskorchError, TaskOrchestrator, Workflow
from taskorch.events import SIGNALS

CANARY = "s3cr3t-canary"
URL = f"https://ann:{CANARY}@example.org/data"
TOKEN = f"https://{CANARY}@example.org/data"
ENDS = [sys.executable, "-c", "raise SystemExit(3)"]


def fails(*values, **options):
    raise ConnectionError(f"nobody answers at {URL}, and not at {TOKEN}")


def takes(*values, **options):
    return None


def tasks():
    """Tasks that have it wherever a task may; none is to tell of it."""
    header = {"Authorization": f"Bearer {CANARY}"}
    again = RetryPolicy(max_attempts=9, base=PATIENCE)
    return [
        Task.call(fails, CANARY, URL, id="argument"),
        Task.call(fails, kwargs={"headers": header}, id="header"),
        Task("x", {"token": CANARY}, id="payload"),
        Task.program(ENDS, env={"TOKEN": CANARY}, id="variable"),
        Task.program(ENDS, inherit_env={"CANARY"}, id="inherited"),
        Task.program(ENDS, inherit_env=True, id="all"),
        Task.program(ENDS, stdin=CANARY, id="input"),
        Task.program([*ENDS, URL], id="program"),
        Task.program(["./is-not-there", URL], env={"A": CANARY}, id="no-program"),
        Task.call(takes, CANARY, id="below", after=["argument"]),
        Task.call(fails, CANARY, id="again", retry=again),
        Task.call(takes, CANARY, id="later", not_before=PATIENCE),
    ]


def said_by(orch, events, caplog):
    """`(where, text)` of all that leaves the process but the values that were given."""
    with orch:
        handles = orch.submit_tasks(tasks())
        for task in tasks()[:4]:
            yield "handle", repr(orch.handle(task.id))
        workflow = Workflow("w")
        step = workflow.task(fails, URL, id="step")
        workflow.task(takes, step, CANARY, kwargs={"k": CANARY}, id="next")
        run = orch.workflows.start(workflow)
        orch.emit("event", CANARY)
        for handle in handles[:9]:
            error = handle.exception(PATIENCE)
            if isinstance(error, TaskorchError):
                yield "error", "".join(traceback.format_exception(error))
                yield "error", f"{error!r}"
        with suppress(TaskorchError):
            run.result(PATIENCE)
        while orch.get_task_status("again").state != "retrying":
            pass
        for status in orch.tasks():
            yield "status", repr(status.history) + str(status.state)
            explanation = orch.explain(status.task_id)
            yield "explanation", f"{explanation}{explanation!r}{explanation.to_dict()}"
        stuck = orch.stuck()
        yield "stuck", "".join(map(str, stuck)) + repr(stuck)
        yield "health", f"{orch.health()}{orch.health()!r}"
        yield "stats", f"{orch.get_stats()}{orch.get_stats()!r}"
        yield "run", f"{run!r}{run.status()}{run.status()!r}"
        report = run.report()
        yield "report", f"{report}{report.to_markdown()}{report.to_dict()}"
        yield "picture", run._repr_html_() + workflow.to_mermaid()
        yield "picture", workflow._repr_html_()
        report = orch.simulate(workflow, 1.0)
        yield "simulation", f"{report}{report._repr_html_()}"
        for task in (
            Task.call(takes, object(), CANARY),
            Task.call(takes, {"a": [CANARY, object()]}),
            Task.call(takes, CANARY, after=["is-not-there"]),
            Task.call(takes, CANARY, requires={"cannot"}),
            Task.program(["a", URL], env={"A": CANARY}, timeout=-1),
        ):
            with pytest.raises(TaskorchError) as caught:
                orch.submit_task(task)
            yield "refusal", f"{caught.value}{caught.value!r}"
        other = Task.call(fails, CANARY, TOKEN.replace("org", "net"), id="argument")
        with pytest.raises(TaskorchError) as caught:
            orch.submit_task(other)
        # It says what differs: values, but no password of a URL.
        yield "duplicate", str(caught.value)
        yield "stop", str(orch.stop(drain=False))
    for event in events:
        yield "event", f"{event!r}"
    for record in caplog.records:
        yield "log", logging.Formatter().format(record)


def test_it_is_in_nothing_that_we_tell(tmp_path, monkeypatch, caplog):
    """Events, the log, errors, explanations, reports and pictures."""
    monkeypatch.setenv("CANARY", CANARY)
    events = []
    orch = TaskOrchestrator(journal=tmp_path / "runs.db", grace=0.1)
    for name in SIGNALS:
        getattr(orch.signals, name).connect(events.append)

    @orch.agent("a", capabilities={"x"})
    def worker(task, context):
        raise ConnectionError(f"nobody answers at {URL}")

    found = list(said_by(orch, events, caplog))
    leaks = [(where, text) for where, text in found if CANARY in text]
    assert not leaks
    assert events
    together = "".join(text for _, text in found)
    assert "https://…@example.org/data" in together


@pytest.mark.parametrize(
    "text",
    ["//user:hunter2@host/x", "at //hunter2@host", "a://b:hunter2@c, //hunter2@d"],
)
def test_a_password_of_an_address_without_its_scheme_is_in_nothing_either(text):
    with TaskOrchestrator() as orch:

        def fail():
            raise ConnectionError(text)

        handle = orch.submit(fail)
        with pytest.raises(ConnectionError):
            handle.result()
        told = []
        orch.signals.task_failed.connect(told.append)
        task_id = orch.submit(fail).task_id
        orch.wait()
        assert "…@" in told[-1].message
        for said in (f"{told}", str(orch.explain(task_id))):
            assert "hunter2" not in said


def test_a_journal_has_it_where_it_is_needed_and_nowhere_else(tmp_path, monkeypatch):
    """
    In what was handed over, which the next incarnation needs; not in the events'
    bodies.
    """
    monkeypatch.setenv("CANARY", CANARY)
    journal = tmp_path / "runs.db"
    with TaskOrchestrator(journal=journal, grace=0.1) as orch:
        for task in tasks():
            if task.id != "payload":
                orch.submit_task(task)
        for task in tasks()[:2] + tasks()[3:9]:
            orch.handle(task.id).exception(PATIENCE)
        orch.stop(drain=False)
    with closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as db:
        rows = db.execute("SELECT kind, task_id, body, doc FROM facts").fetchall()
    assert rows
    for kind, task_id, body, doc in rows:
        assert CANARY not in str(body), (kind, task_id)
        if CANARY in str(doc):
            # What a program was called with is a part of its result.
            program = (kind, task_id) == ("TaskFailed", "program")
            assert kind == "TaskSubmitted" or program, (kind, task_id)
            assert task_id not in ("inherited", "all"), "only names are kept"
    for log in Path(f"{journal}.logs").rglob("*"):
        assert log.is_dir() or CANARY not in log.read_text()


def test_the_repr_of_a_task_masks_urls():
    """It shows what it was made with, but for variables, input and who is in a URL."""
    assert CANARY not in repr(Task.call(takes, URL, kwargs={"url": TOKEN}))
    assert CANARY not in repr(Task("x", [URL, TOKEN]))
    assert CANARY not in repr(Task.program(["a", URL], env={"A": CANARY}, stdin=CANARY))
