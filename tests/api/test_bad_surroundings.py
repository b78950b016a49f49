"""
What comes from outside, and is bad: each has a clear answer, and harms nothing else.

`TABLE` says which test shows it, here or elsewhere; that each of them is there is a test, too.
"""

from __future__ import annotations

import importlib
import os
import sqlite3
import sys
import threading
from concurrent.futures import BrokenExecutor
from pathlib import Path

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    MetricExporter,
    MetricExportResult,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from tests.api.tools import PATIENCE
from tests.ext.command_line.tools import taskorch
from tests.ext.telemetry.tools import Tracing

from taskorch import Task, TaskFailedError, TaskOrchestrator, TaskTimeoutError
from taskorch.core.journal import _file, _layout
from taskorch.ext.telemetry._spans import parsed

ROOT = Path(__file__).parents[1]
HERE = "api/test_bad_surroundings.py"

#: What is bad, and the tests that show the answer.
TABLE = {
    "an exporter of spans raises": "ext/telemetry/test_spans.py::test_exporters_that_raise_fail_no_task",
    "one blocks": "ext/telemetry/test_spans.py::test_exporters_that_block_hold_up_no_task",
    "a processor raises at the start of a span": "ext/telemetry/test_spans.py::test_processors_that_raise_fail_no_task",
    "at its end": f"{HERE}::test_a_processor_that_raises_at_the_end_of_spans_fails_no_task",
    "an exporter of metrics raises, or blocks": f"{HERE}::test_an_exporter_of_metrics_holds_up_nothing",
    "an instrument raises": "ext/telemetry/test_metrics.py::test_a_histogram_that_raises_loses_no_commit",
    "a hostile TRACEPARENT": "ext/telemetry/test_spans.py::test_a_hostile_traceparent_is_said_and_ignored",
    "a hostile TRACESTATE": f"{HERE}::test_a_hostile_tracestate_costs_no_trace",
    "a hostile trace in a journal": "ext/telemetry/test_spans.py::test_what_a_journal_says_of_a_trace_may_be_anything",
    "a journal of another version, torn, or none, for JournalReader": "ext/views/test_journal_reader.py::test_what_is_no_journal_is_refused_with_what_to_do",
    "one that is locked, for JournalReader": "ext/views/test_journal_reader.py::test_one_that_is_locked_says_what_to_do",
    "one of somebody else's": "ext/views/test_journal_reader.py::test_a_journal_of_somebody_elses_is_refused",
    "all of that for the commands": f"{HERE}::test_a_journal_that_cannot_be_read_ends_a_command_with_what_to_do",
    "a locked one for them": f"{HERE}::test_a_locked_journal_ends_a_command_for_now",
    "one with an event of a newer version": "api/test_damaged.py::test_an_event_of_a_newer_version",
    "a configuration file with wrong types": "api/test_configuration.py::test_what_is_wrong_in_a_file_is_said_with_its_line",
    "a variable with a wrong type": "api/test_configuration.py::test_what_is_wrong_in_a_variable_is_said_with_its_name",
    "a configuration file that is no text": "api/test_configuration.py::test_what_is_no_text",
    "a worker cannot begin": "core/executors/test_processes.py::test_where_none_can_begin_all_that_wait_are_told",
    "a worker dies at the import of a task's module": f"{HERE}::test_a_worker_that_dies_at_an_import",
    "that import fails, or never ends": f"{HERE}::test_an_import_that_fails_in_a_worker_fails_its_task",
    "arguments cannot be pickled": "core/executors/test_processes.py::test_arguments_that_cannot_be_sent_fail_the_task",
    "a worker cannot unpickle": f"{HERE}::test_a_worker_that_cannot_unpickle_goes_on",
    "unpickling kills it; it writes to its pipe, or closes it": "core/executors/test_processes.py::test_a_worker_is_replaced",
    "it prints": "core/executors/test_processes.py::test_what_it_prints_goes_where_ours_goes",
    "it returns 1 GB, or what cannot be pickled": "core/executors/test_processes.py::test_a_worker_goes_on",
    "what it returns cannot be unpickled here": f"{HERE}::test_a_result_that_cannot_be_unpickled_fails_its_task",
}  # fmt: skip


@pytest.mark.parametrize("what", TABLE)
def test_each_has_its_test(what):
    file, _, test = TABLE[what].partition("::")
    assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8")


# -- telemetry ------------------------------------------------------------------------


def test_a_processor_that_raises_at_the_end_of_spans_fails_no_task():
    class Raises(SpanProcessor):
        def on_end(self, span):
            raise RuntimeError

    provider = TracerProvider()
    provider.add_span_processor(Raises())
    with TaskOrchestrator(tracer_provider=provider) as orch:
        heard = threading.Event()
        orch.signals.orchestrator_stopped.connect(lambda _: heard.set())
        assert list(orch.map(abs, range(20), timeout=PATIENCE)) == list(range(20))
        failing = orch.submit(divmod, 1, 0)
        assert isinstance(failing.exception(PATIENCE), ZeroDivisionError)
        assert orch.health().live
    assert heard.wait(PATIENCE)


class Bad(MetricExporter):
    """Raises, or does not return before it may."""

    def __init__(self, go):
        super().__init__()
        self.entered = threading.Event()
        self.go = go

    def export(self, metrics_data, timeout_millis=0, **kwargs):
        self.entered.set()
        if self.go is None:
            raise OSError
        self.go.wait(PATIENCE)
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis=0):
        return True

    def shutdown(self, timeout_millis=0, **kwargs):
        pass


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("blocks", [False, True], ids=["raises", "blocks"])
def test_an_exporter_of_metrics_holds_up_nothing(blocks, tmp_path):
    exporter = Bad(threading.Event() if blocks else None)
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=5)
    provider = MeterProvider([reader], shutdown_on_exit=False)
    try:
        journal = tmp_path / "runs.db"
        with TaskOrchestrator(journal=journal, meter_provider=provider) as orch:
            assert orch.submit(abs, -1).result(PATIENCE) == 1
            assert exporter.entered.wait(PATIENCE)
            assert list(orch.map(abs, range(20), timeout=PATIENCE)) == list(range(20))
            assert orch.health().live
        assert blocks is False or not exporter.go.is_set()
    finally:
        if blocks:
            exporter.go.set()
        provider.shutdown()


TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE_ID}-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    "state", ["=,=,,", "x" * 10_000, "a=1," * 2_000, "\N{SNOWMAN}\n\x1b[31m=1"]
)
def test_a_hostile_tracestate_costs_no_trace(state, monkeypatch):
    """What vendors say beside it is theirs: without it, it is the same trace."""
    assert format(parsed(PARENT, state).trace_id, "032x") == TRACE_ID
    monkeypatch.setenv("TRACEPARENT", PARENT)
    monkeypatch.setenv("TRACESTATE", state)
    tracing = Tracing()
    with tracing.orchestrator() as orch:
        assert orch.submit(abs, -1).result(PATIENCE) == 1
    assert {format(s.context.trace_id, "032x") for s in tracing.spans} == {TRACE_ID}


# -- journals, for the commands ---------------------------------------------------------


def a_journal(path):
    with TaskOrchestrator(journal=path) as orch:
        orch.submit_task(Task.call(len, "abc", id="one")).result(PATIENCE)


def newer(path):
    a_journal(path)
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version = {_layout.LAYOUT + 9}")
    db.close()


def torn(path):
    a_journal(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def of_something_else(path):
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE t (x)")
    db.commit()
    db.close()


READERS = {
    "inspect": ("inspect",),
    "a task": ("inspect", "PATH", "one"),
    "a list": ("inspect", "PATH", "--tasks"),
    "over time": ("inspect", "PATH", "--over-time", "1h"),
    "follow": ("inspect", "PATH", "--follow"),
    "explain": ("explain",),
    "prune": ("prune", "PATH", "--keep", "0"),
    "verify": ("doctor", "--verify"),
}


def command(capsys, name, path):
    words = [path if word == "PATH" else word for word in READERS[name]]
    words += [] if path in words else [path]
    code, out, err = taskorch(capsys, *words)
    assert "Traceback" not in err
    return code, out if name == "verify" else err


BAD = {
    "newer": (newer, "of a newer taskorch"),
    "torn": (torn, "is damaged"),
    "other": (of_something_else, "of something else"),
    "noise": (lambda path: path.write_bytes(os.urandom(9_000)), "is no journal"),
    "empty": (lambda path: path.touch(), "is empty"),
    "absent": (lambda path: None, "no journal"),
}


@pytest.mark.parametrize(
    ("reader", "bad"),
    [
        pytest.param(
            reader,
            bad,
            marks=pytest.mark.slow("each reader of each bad journal")
            if (row + column) % 3
            else (),
        )
        for row, reader in enumerate(READERS)
        for column, bad in enumerate(BAD)
    ],
)
def test_a_journal_that_cannot_be_read_ends_a_command_with_what_to_do(
    reader, bad, tmp_path, capsys
):
    path = tmp_path / "runs.db"
    make, says = BAD[bad]
    make(path)
    before = {each.name: each.read_bytes() for each in tmp_path.iterdir()}
    code, said = command(capsys, reader, path)
    assert code == (1 if reader == "verify" else 2)
    assert says in said
    assert str(path) in said
    assert len(said.splitlines()) == 1 or reader == "verify"
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == before


@pytest.mark.parametrize("reader", READERS)
def test_a_locked_journal_ends_a_command_for_now(reader, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(_file, "_PATIENCE", 0.05)
    path = tmp_path / "runs.db"
    a_journal(path)
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA locking_mode = EXCLUSIVE")
    db.execute("CREATE TABLE other (x)")
    # Its log is there, and it lets nobody in.
    Path(f"{path}-shm").touch()
    try:
        code, said = command(capsys, reader, path)
    finally:
        db.close()
    assert code == (1 if reader == "verify" else 75)
    assert "locked" in said
    assert "another program has locked it" in said


# -- worker processes -------------------------------------------------------------------

#: A module that a worker imports, and is not what it is here.
MODULE = """
import os, sys, time
if os.getpid() != {pid}:
    {act}

def work(n=1):
    return 2 * n

class Value:
    pass

def make():
    return Value()
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Make a module that does *act* where a worker imports it."""
    monkeypatch.syspath_prepend(tmp_path)
    made = []

    def make(act):
        text = MODULE.format(pid=os.getpid(), act=act)
        (tmp_path / "bad_in_workers.py").write_text(text, encoding="utf-8")
        importlib.invalidate_caches()
        made.append("bad_in_workers")
        return importlib.import_module("bad_in_workers")

    yield make
    for name in made:
        sys.modules.pop(name, None)


def in_worker(fn, *args, **options):
    return Task.call(fn, *args, executor="process", **options)


@pytest.mark.parametrize(
    ("act", "says"),
    [
        pytest.param(
            "os._exit(5)",
            "exited with code 5",
            marks=pytest.mark.slow("starts workers, as the other does"),
        ),
        ("os.kill(os.getpid(), 9)", "signal 9 (SIGKILL)"),
    ],
)
def test_a_worker_that_dies_at_an_import(act, says, module):
    """Only the task that it was for has failed; the others have another worker."""
    work = module(act).work
    with TaskOrchestrator(executors={"process": 1}) as orch:
        before = orch.submit_task(in_worker(abs, -1))
        broken = orch.submit_task(in_worker(work))
        after = orch.submit_task(in_worker(abs, -2))
        error = broken.exception(2 * PATIENCE)
        assert isinstance(error, BrokenExecutor)
        assert says in str(error)
        assert broken.task_id in str(error)
        assert (before.result(PATIENCE), after.result(PATIENCE)) == (1, 2)


@pytest.mark.slow("workers for each bad import")
@pytest.mark.parametrize(
    ("act", "says"),
    [
        ("raise ImportError('no such library')", "ImportError: no such library"),
        ("raise SystemExit(4)", "SystemExit: 4"),
        ("sys.modules[__name__] = None", "could not be read in its worker process"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("time.sleep(3600)", None),
    ],
    ids=["error", "exit", "other", "interrupt", "never"],
)
def test_an_import_that_fails_in_a_worker_fails_its_task(act, says, module):
    work = module(act).work
    with TaskOrchestrator(executors={"process": 1}) as orch:
        limit = {"timeout": 0.5} if says is None else {}
        broken = orch.submit_task(in_worker(work, **limit))
        after = orch.submit_task(in_worker(abs, -2))
        error = broken.exception(PATIENCE)
        if says is None:
            assert isinstance(error, TaskTimeoutError)
        else:
            assert isinstance(error, TaskFailedError)
            assert says in str(error)
        assert after.result(PATIENCE) == 2


def test_a_worker_that_cannot_unpickle_goes_on(module):
    """The argument is of a class that the module does not have there."""
    made = module("pass")
    Path(made.__file__).write_text("", encoding="utf-8")
    with TaskOrchestrator(executors={"process": 1}) as orch:
        pid = orch.submit_task(in_worker(os.getpid)).result(PATIENCE)
        error = orch.submit_task(in_worker(id, made.make())).exception(PATIENCE)
        assert isinstance(error, TaskFailedError)
        assert "could not be read in its worker process" in str(error)
        assert "Value" in str(error)
        assert orch.submit_task(in_worker(os.getpid)).result(PATIENCE) == pid


def test_a_result_that_cannot_be_unpickled_fails_its_task(module):
    """It is of a class that the module does not have here."""
    made = module("pass")
    del made.Value
    with TaskOrchestrator(executors={"process": 1}) as orch:
        pid = orch.submit_task(in_worker(os.getpid)).result(PATIENCE)
        error = orch.submit_task(in_worker(made.make)).exception(PATIENCE)
        assert isinstance(error, TaskFailedError)
        assert "Value" in str(error)
        assert orch.submit_task(in_worker(os.getpid)).result(PATIENCE) == pid
