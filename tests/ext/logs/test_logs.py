"""Which task a line of a log belongs to."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from logging.handlers import QueueHandler
from queue import Queue

import pytest
from tests.ext.telemetry.tools import Tracing

from taskorch import Task, TaskOrchestrator, Workflow, current_context
from taskorch.errors import InvalidTaskError
from taskorch.ext.logs import ContextFilter, TaskLogs, add_context, log_context

LOG = logging.getLogger("users.own")
FIELDS = ["task_id", "attempt", "agent", "workflow", "step", "trace_id", "span_id"]


@pytest.fixture
def records():
    """What `users.own` has logged, on a handler with the filter."""
    found: Queue[logging.LogRecord] = Queue()
    handler = QueueHandler(found)
    handler.addFilter(ContextFilter())
    LOG.addHandler(handler)
    LOG.setLevel(logging.INFO)
    yield found
    LOG.removeHandler(handler)
    LOG.setLevel(logging.NOTSET)


@pytest.fixture
def logs():
    kept = TaskLogs()
    LOG.addHandler(kept)
    LOG.setLevel(logging.INFO)
    yield kept
    LOG.removeHandler(kept)
    LOG.setLevel(logging.NOTSET)


def fields(record: logging.LogRecord) -> list[object]:
    return [getattr(record, name) for name in FIELDS]


def say(text: str = "hello", *args: object) -> None:
    LOG.info(text, *args)


async def say_later() -> None:
    say()


def test_a_record_says_which_task_attempt_and_worker_it_is_of(records):
    orch = TaskOrchestrator()
    orch.agent("worker", capabilities={"work"})(lambda *_: say())
    with orch:
        orch.submit_task(Task("work", id="a")).result()
        orch.submit_task(Task.call(say, id="b")).result()
        orch.submit_task(Task.call(say_later, id="c")).result()
    assert [fields(records.get_nowait()) for _ in range(3)] == [
        ["a", 1, "worker", "", "", "", ""],
        ["b", 1, "local", "", "", "", ""],
        ["c", 1, "local", "", "", "", ""],
    ]


def step_and_say() -> None:
    say()
    current_context().step("greet", say)
    say()


async def step_and_say_later() -> None:
    await current_context().aio.step("greet", say_later)
    await current_context().aio.step("greet", say, timeout=60)


def test_a_record_says_which_step_it_is_in(records):
    with TaskOrchestrator() as orch:
        for function in (step_and_say, step_and_say_later):
            orch.submit(function).result(60)
    steps = [records.get_nowait().step for _ in range(5)]
    assert steps == ["", "greet", "", "greet", "greet"]


def test_a_record_says_which_workflow_it_is_of(records):
    wf = Workflow("w")
    wf.task(say, id="a")
    with TaskOrchestrator() as orch:
        orch.workflows.start(wf, id="v1").result()
    assert fields(records.get_nowait())[:4] == ["v1/a", 1, "local", "v1"]


def test_a_slash_in_an_id_makes_no_workflow(records):
    with TaskOrchestrator() as orch:
        orch.submit_task(Task.call(say, id="v1/a")).result()
    assert fields(records.get_nowait())[:4] == ["v1/a", 1, "local", ""]


def test_a_record_says_which_trace_it_is_of(records):
    tracing = Tracing()
    with tracing.orchestrator() as orch:
        orch.submit_task(Task.call(say, type="say")).result()
    span = tracing.only("say").context
    assert fields(records.get_nowait())[5:] == [
        f"{span.trace_id:032x}",
        f"{span.span_id:016x}",
    ]


def test_outside_of_tasks_the_fields_are_there_and_empty(records):
    say()
    assert fields(records.get_nowait()) == [""] * 7
    assert log_context() == {}


def test_what_a_record_has_stays(records):
    def own() -> None:
        LOG.info("x", extra={"agent": "mine"})

    with TaskOrchestrator() as orch:
        orch.submit_task(Task.call(own, id="a")).result()
    assert fields(records.get_nowait())[:3] == ["a", 1, "mine"]


def test_a_pool_of_the_users_has_the_context(records):
    with ThreadPoolExecutor(1) as pool, TaskOrchestrator(executors={"p": pool}) as orch:
        orch.submit_task(Task.call(say, id="a", executor="p")).result()
    assert fields(records.get_nowait())[:2] == ["a", 1]


@pytest.mark.slow("starts a pool of processes")
def test_another_process_knows_the_task_and_the_attempt():
    with ProcessPoolExecutor(1) as pool:
        orch = TaskOrchestrator(executors={"p": pool})
        with orch:
            wf = Workflow("w")
            wf.task(log_context, id="a", executor="p")
            found = orch.workflows.start(wf, id="w").result()["a"]
            alone = Task.call(log_context, id="v/a", executor="p")
            assert "workflow" not in orch.submit_task(alone).result()
    assert found == {"task_id": "w/a", "attempt": 1, "workflow": "w"}


def test_a_processor_of_structlog_adds_what_is_known():
    def event() -> dict:
        return dict(add_context(None, "info", {"event": "hi", "agent": "mine"}))

    with TaskOrchestrator() as orch:
        found = orch.submit_task(Task.call(event, id="a")).result()
    assert found == {"event": "hi", "agent": "mine", "task_id": "a", "attempt": 1}
    assert add_context(None, "info", {"event": "hi"}) == {"event": "hi"}


# -- by task -----------------------------------------------------------------------


def test_what_a_task_logs_is_read_by_its_id(logs):
    with TaskOrchestrator() as orch:
        orch.submit_task(Task.call(say, "one", id="a")).result()
        orch.submit_task(Task.call(say, "two", id="b")).result()
    say("of nobody")
    (line,) = logs.of("a")
    assert line.endswith("INFO users.own: one")
    assert logs.of("b")[0].endswith("two")
    assert logs.of("c") == []


def test_the_log_of_the_context_is_read_so_too(logs):
    LOG.removeHandler(logs)
    logging.getLogger().addHandler(logs)
    try:
        with TaskOrchestrator() as orch:
            task = Task.call(lambda: current_context().log.warning("low"), id="a")
            orch.submit_task(task).result()
    finally:
        logging.getLogger().removeHandler(logs)
    assert logs.of("a")[0].endswith("WARNING taskorch.task: low")


def test_control_characters_and_passwords_are_not_shown(logs):
    def shout() -> None:
        try:
            raise ValueError("\x1b[2J")
        except ValueError:
            LOG.exception("see \x1b[31m http://me:secret@host/")

    with TaskOrchestrator() as orch:
        orch.submit_task(Task.call(shout, id="a")).result()
    (text,) = logs.of("a")
    assert "\x1b" not in text
    assert r"\x1b[31m http://…@host/" in text
    assert r"ValueError: \x1b[2J" in text


def test_what_is_kept_has_bounds():
    logs = TaskLogs(tasks=2, lines=3, length=10, level=logging.WARNING)
    logs.setFormatter(logging.Formatter("%(message)s"))

    def log(task_id: str, text: str, level: int = logging.WARNING) -> None:
        record = logging.LogRecord("x", level, "", 0, text, (), None)
        record.task_id = task_id
        if level >= logs.level:
            logs.handle(record)

    for n in range(5):
        log("a", str(n))
    log("b", "x" * 20)
    log("a", "last")
    log("a", "debug", logging.DEBUG)
    log("c", "new")
    assert logs.of("a") == ["3", "4", "last"]
    assert logs.of("b") == []
    assert logs.of("c") == ["new"]
    log("c", "x" * 20)
    assert logs.of("c")[-1] == "x" * 9 + "…"


def test_what_is_kept_by_default_is_what_the_guide_says():
    """100 lines of 1,000 characters, of the 1,000 tasks that have logged last."""
    logs = TaskLogs()
    logs.setFormatter(logging.Formatter("%(message)s"))

    def log(task_id: str, text: str) -> None:
        record = logging.LogRecord("x", logging.DEBUG, "", 0, text, (), None)
        record.task_id = task_id
        logs.handle(record)

    for n in range(101):
        log("a", str(n))
    log("b", "x" * 1_000)
    log("b", "x" * 1_001)
    for n in range(999):
        log(f"more-{n}", "x")
    assert logs.of("a") == []
    assert [len(line) for line in logs.of("b")] == [1_000, 1_000]
    assert logs.of("b")[-1].endswith("x…")
    for n in range(101):
        log("b", str(n))
    assert logs.of("b") == [str(n) for n in range(1, 101)]
    assert logs.of("more-0") == ["x"]


def test_a_record_that_cannot_be_printed_harms_nobody(logs, monkeypatch):
    monkeypatch.setattr(logging, "raiseExceptions", True)
    # That of pytest would raise.
    monkeypatch.setattr(LOG, "propagate", False)
    with TaskOrchestrator() as orch:
        orch.submit_task(Task.call(say, "%d", "no number", id="a")).result()
    (record,) = logs.of("a")
    assert record.endswith("'%d' ('no number',) (it cannot be written: TypeError)")


def test_a_log_is_read_while_others_write(logs):
    go = threading.Event()

    def many() -> None:
        for n in range(200):
            say(str(n))
        go.set()

    with TaskOrchestrator() as orch:
        orch.submit_task(Task.call(many, id="a"))
        while not go.is_set():
            assert len(logs.of("a")) <= 100
    assert logs.of("a")[-1].endswith("199")


@pytest.mark.parametrize("bad", [{"tasks": 0}, {"lines": True}, {"length": "x"}])
def test_bounds_are_numbers_from_1(bad):
    with pytest.raises(InvalidTaskError, match=next(iter(bad))):
        TaskLogs(**bad)


def test_the_library_configures_no_logger():
    """In a process of its own, since commands that ran in this one may have."""
    code = """if True:
        import logging
        from taskorch import TaskOrchestrator
        with TaskOrchestrator() as orch:
            orch.submit(print, "done").result()
        loggers = logging.Logger.manager.loggerDict
        ours = [loggers[name] for name in loggers if name.startswith("taskorch")]
        for logger in ours:
            if isinstance(logger, logging.Logger):
                assert (logger.handlers, logger.level) == ([], logging.NOTSET), logger
                assert logger.propagate, logger
        print(any(isinstance(each, logging.Logger) for each in ours))
    """
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["done", "True"]
