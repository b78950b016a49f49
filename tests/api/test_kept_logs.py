"""What tasks log and print is kept with them, and can be read by their ids."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import io
import logging
import os
import re
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings, strategies as st
from tests.api.tools import PATIENCE, Started

from taskorch import (
    PostgresJournal,
    RetryPolicy,
    SqliteJournal,
    Task,
    TaskOrchestrator,
    current_context,
)
from taskorch.api.journal import MemoryJournal
from taskorch.errors import InvalidTaskError
from taskorch.ext.client import Client
from taskorch.ext.command_line import main
from taskorch.ext.views import JournalReader

LOG = logging.getLogger("tests.kept_logs")
LOG.setLevel("INFO")


def speak(name: str) -> str:
    print(f"{name} prints")
    LOG.info("%s logs", name)
    LOG.debug("this its level keeps out")
    try:
        raise ValueError(name)
    except ValueError:
        LOG.exception("%s fails", name)
    print(f"{name} complains", "twice", sep=", ", file=sys.stderr)
    return name


async def speak_in_a_coroutine(name: str) -> str:
    print(f"{name} prints")
    await asyncio.sleep(0)
    return speak(name)


def fail_once() -> None:
    print("attempt", current_context().attempt)
    if current_context().attempt == 1:
        raise OSError


def say(texts: list[str]) -> None:
    for text in texts:
        print(text, end="")


def log_badly() -> None:
    # pytest's own handlers raise what they cannot write.
    alone = LOG.getChild("alone")
    alone.propagate = False
    alone.addHandler(logging.NullHandler())
    alone.info("%d of them", "many")
    # As who unpacks records of other processes does.
    logging.makeLogRecord({"msg": "unpacked"})


def meet(name: int) -> None:
    TOGETHER.wait(60)
    for number in range(50):
        print(name, number)


def speak_twice() -> None:
    if current_context().attempt == 2:
        print("three")
        return
    print("one")
    IS_READ.wait(60)
    print("two")
    raise OSError


TOGETHER = threading.Barrier(4)
IS_READ = threading.Event()


def lines_of(text: str) -> list[str]:
    """The lines, without the moments of records."""
    return [
        line.partition(" ")[2] if line[:2] == "20" and line[10:11] == "T" else line
        for line in text.splitlines()
    ]


@pytest.mark.parametrize(
    ("fn", "executor"),
    [(speak, None), (speak_in_a_coroutine, None), (speak, "process")],
    ids=["thread", "loop", "process"],
)
def test_what_a_task_logs_and_prints_is_kept_with_it(tmp_path, capfd, fn, executor):
    with TaskOrchestrator(
        journal=tmp_path / "runs.db", executors={"process": 1}
    ) as orch:
        for name in ("one", "a/two"):
            task = Task.call(fn, name, id=name, executor=executor)
            orch.submit_task(task).result()
        print("this is no task's")
        now = {name: str(orch.log(name)) for name in ("one", "a/two")}
    reader = JournalReader(tmp_path / "runs.db")
    for name, text in now.items():
        assert reader.log(name).text == text
        lines = lines_of(text)
        assert lines[-2:] == [f"ValueError: {name}", f"{name} complains, twice"]
        first = lines[lines.index(f"INFO tests.kept_logs: {name} logs") - 1]
        assert first == f"{name} prints"
        assert f"ERROR tests.kept_logs: {name} fails" in lines
        assert "keeps out" not in text
    shown = capfd.readouterr()
    assert shown.out.count("one prints") >= 1
    assert "one complains, twice" in shown.err


def test_each_attempt_has_its_own(tmp_path):
    with TaskOrchestrator(journal=tmp_path / "runs.db") as orch:
        retry = RetryPolicy(max_attempts=2, base=0)
        orch.submit_task(Task.call(fail_once, id="twice", retry=retry)).result()
        orch.submit_task(Task.call(len, "", id="silent")).result()
        assert orch.log("twice").text == "attempt 2\n"
        assert orch.log("twice", attempt=1).text == "attempt 1\n"
        assert not orch.log("twice", attempt=3).exists
        assert not orch.log("silent").exists
        assert orch.log("silent").text == ""


@given(
    texts=st.lists(st.text(st.characters(codec="utf-8"), max_size=80), max_size=20),
    size=st.integers(0, 400),
)
@example(texts=["12345", "67890"], size=10)
@example(texts=["x" * 400], size=10)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_parts_are_the_whole_and_no_more_than_its_limit(tmp_path, texts, size):
    """By any limit, what is kept is the beginning, and parts follow each other."""
    limit = size / 2**20
    with TaskOrchestrator(
        journal=tmp_path / f"{os.urandom(8).hex()}.db",
        durability="process",
        keep_logs_mb=limit,
    ) as orch:
        orch.submit_task(Task.call(say, texts, id="say")).result()
        whole = "".join(texts).encode()
        kept, after = "", 0
        while (part := orch.log("say", after=after)).next != after:
            kept, after = kept + part.text, part.next
    if int(size) == 0 or not whole:
        assert kept == ""
    elif len(whole) <= size:
        assert kept.encode() == whole
    else:
        begin = whole[:size].decode(errors="ignore")
        assert kept.startswith(begin)
        assert f"full at {size} bytes" in kept
        # The note, and what stands for a letter that was cut.
        assert len(kept.encode()) < size + 66


def test_tasks_that_write_at_once_keep_their_own(tmp_path):
    with TaskOrchestrator(journal=tmp_path / "runs.db", concurrency=4) as orch:
        handles = [orch.submit_task(Task.call(meet, n, id=f"t{n}")) for n in range(4)]
        for handle in handles:
            handle.result()
        for number in range(4):
            expected = "".join(f"{number} {each}\n" for each in range(50))
            assert orch.log(f"t{number}").text == expected


LEFT = []
MAY_WRITE = threading.Event()


def leave(name):
    """Leave a thread behind, which writes later."""

    def write():
        MAY_WRITE.wait(60)
        print("it writes")

    LEFT.append(threading.Thread(target=write, name=f"left by {name}"))
    LEFT[-1].start()


def in_threads():
    for _ in range(3):
        thread = threading.Thread(target=print, args=("in a thread",))
        thread.start()
        thread.join()
        with ThreadPoolExecutor(1) as pool:
            pool.submit(LOG.info, "in a pool").result()
    return "in a thread", "in a pool"


def in_a_thread_of_a_thread():
    thread = threading.Thread(target=in_threads)
    thread.start()
    thread.join()
    return "in a thread", "in a pool"


async def in_executors_of_the_loop():
    loop = asyncio.get_running_loop()
    await asyncio.to_thread(print, "to_thread")
    await loop.run_in_executor(None, LOG.info, "run_in_executor")
    with ThreadPoolExecutor(1) as pool:
        await loop.run_in_executor(pool, copy_context().run, print, "a copy")
    return "to_thread", "run_in_executor", "a copy"


async def in_a_pool_of_its_own():
    with ThreadPoolExecutor(1) as pool:
        await asyncio.get_running_loop().run_in_executor(pool, print, "in a pool")
    return ("in a pool",)


@pytest.mark.parametrize(
    ("fn", "executor", "is_kept"),
    [
        (in_threads, None, False),
        (in_threads, "process", True),
        (in_a_thread_of_a_thread, None, False),
        (in_a_thread_of_a_thread, "process", True),
        (in_executors_of_the_loop, None, True),
        (in_a_pool_of_its_own, None, False),
    ],
)
def test_what_the_threads_of_a_task_write_is_kept_or_said_not_to_be(
    tmp_path, fn, executor, is_kept
):
    with TaskOrchestrator(
        journal=tmp_path / "runs.db", executors={"process": 1}
    ) as orch:
        written = orch.submit_task(Task.call(fn, id="x", executor=executor)).result()
        print("this is no task's")
        text = orch.log("x").text
    assert "this is no task's" not in text
    # Of those that are not kept there is one line, however many there are.
    assert text.count("a thread that this task has started") == (not is_kept)
    for each in written:
        assert (each in text) == is_kept


def test_a_thread_that_outlives_its_task_is_told_of_in_the_log_of_that(tmp_path):
    """And nowhere else: a thread that the program starts is of no task."""
    with TaskOrchestrator(journal=tmp_path / "runs.db") as orch:
        orch.submit_task(Task.call(leave, "one", id="one")).result()
        leave("the program")
        orch.submit_task(Task.call(print, "two", id="two")).result()
        MAY_WRITE.set()
        while LEFT:
            LEFT.pop().join()
        assert "has started, 'left by one', prints" in orch.log("one").text
        assert orch.log("two").text == "two\n"


def test_without_a_journal_and_with_nothing_to_keep_there_is_none(tmp_path):
    for journal in (None, MemoryJournal()):
        with TaskOrchestrator(journal=journal) as orch:
            orch.submit_task(Task.call(print, "x", id="x")).result()
            assert not orch.log("x").exists
        with pytest.raises(InvalidTaskError, match="keep_logs_mb= is for a journal"):
            TaskOrchestrator(journal=MemoryJournal(), keep_logs_mb=2)
    with TaskOrchestrator(journal=tmp_path / "runs.db", keep_logs_mb=0) as orch:
        orch.submit_task(Task.call(print, "x", id="x")).result()
        assert not orch.log("x").exists
    assert not (tmp_path / "runs.db.logs").exists()


def test_print_and_logging_are_what_they_were(tmp_path):
    def now():
        streams = sys.stdout, sys.stderr
        made = logging.getLogRecordFactory(), threading.Thread.start
        return *streams, *made, logging.root.handlers[:]

    before, printing = now(), print
    with (
        TaskOrchestrator(journal=tmp_path / "one.db") as one,
        TaskOrchestrator(journal=tmp_path / "two.db") as two,
    ):
        assert builtins.print is printing
        assert logging.root.handlers == before[-1]
        one.submit_task(Task.call(speak, "x", id="x")).result()
        two.stop()
        one.submit_task(Task.call(speak, "y", id="y")).result()
        assert "x prints" in one.log("x").text
        assert "y prints" in one.log("y").text
        assert not (tmp_path / "two.db.logs").exists()
    assert now() == before


class OwnFormatter(logging.Formatter):
    def formatException(self, ei):
        return "a traceback of its own"


def test_a_record_that_a_handler_shows_is_kept_once(tmp_path, capfd):
    with TaskOrchestrator(journal=tmp_path / "runs.db") as orch:
        # As `logging.basicConfig` in a program that has started already.
        handler = logging.StreamHandler()
        handler.setFormatter(OwnFormatter())
        LOG.addHandler(handler)
        try:
            orch.submit_task(Task.call(speak, "x", id="x")).result()
        finally:
            LOG.removeHandler(handler)
        assert orch.log("x").text.count("x logs") == 1
    shown = capfd.readouterr().err
    assert "x logs" in shown
    assert "a traceback of its own" in shown


def test_a_stream_that_somebody_puts_in_its_place_stays(tmp_path):
    with TaskOrchestrator(journal=tmp_path / "runs.db") as orch:
        with contextlib.redirect_stdout(io.StringIO()) as theirs:
            orch.submit_task(Task.call(print, "theirs", id="x")).result()
            sys.stdout.writelines(["and ", "ours"])
        assert theirs.getvalue() == "theirs\nand ours"
        orch.submit_task(Task.call(print, "seen", id="y")).result()
        assert orch.log("y").text == "seen\n"
        assert sys.stdout.isatty() == sys.__stdout__.isatty()


def test_a_record_that_cannot_be_written_out_is_kept_as_far_as_it_can(tmp_path):
    with TaskOrchestrator(journal=tmp_path / "runs.db") as orch:
        orch.submit_task(Task.call(log_badly, id="log")).result()
        assert lines_of(orch.log("log").text) == [
            (
                "INFO tests.kept_logs.alone: '%d of them' ('many',) "
                "(it cannot be written: TypeError)"
            )
        ]


def test_what_cannot_be_kept_is_told_once_and_harms_no_task(tmp_path, caplog):
    (tmp_path / "runs.db.logs").write_text("no folder")
    with TaskOrchestrator(journal=SqliteJournal(tmp_path / "other.db")) as orch:
        (tmp_path / "other.db.logs").write_text("no folder")
        for name in ("a", "b"):
            orch.submit_task(Task.call(speak, name, id=name)).result()
    warnings = [r.getMessage() for r in caplog.records if "not kept" in r.getMessage()]
    assert len(warnings) == 1
    assert "what task a logs and prints is not kept" in warnings[0]


def test_what_is_forgotten_takes_its_logs_along(tmp_path):
    def journal(**keep):
        return SqliteJournal(tmp_path / "runs.db", **keep)

    with TaskOrchestrator(journal=journal()) as orch:
        for name in ("old", "run", "run/old", "run/old/deep"):
            orch.submit_task(Task.call(print, name, id=name)).result()
        orch.submit_task(Task.call(print, "new", id="run/new")).result()
    with TaskOrchestrator(journal=journal(keep_latest=1)) as orch:
        assert orch.log("run/new").text == "new\n"
    logs = tmp_path / "runs.db.logs"
    assert [p.relative_to(logs) for p in logs.rglob("*.log")] == [Path("run/new/1.log")]
    assert [p.name for p in logs.iterdir()] == ["run"]


def test_a_new_journal_has_none_of_one_that_was_removed(tmp_path, caplog):
    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path) as orch:
        orch.submit_task(Task.call(print, "old", id="x")).result()
    for each in tmp_path.glob("runs.db*"):
        if each.is_file():
            each.unlink()
    with TaskOrchestrator(journal=path) as orch:
        orch.submit_task(Task.call(len, "", id="x")).result()
        assert orch.log("x").text == ""
        orch.rerun_task("x").result()
    assert (tmp_path / "runs.db.logs.1/x/1.log").read_text() == "old\n"
    assert "the logs of the one before it are in" in caplog.text


KILLED = """
import os, signal, sys
from taskorch import Task, TaskOrchestrator

def work():
    print("before the kill")
    if "first" in sys.argv:
        os.kill(os.getpid(), signal.SIGKILL)
    print("after it")

with TaskOrchestrator(journal="runs.db") as orch:
    orch.submit_task(Task.call(work, id="work", idempotent=True)).result()
"""


def test_a_kill_takes_nothing_that_was_written(tmp_path, capsys):
    (tmp_path / "program.py").write_text(KILLED)
    codes = [
        subprocess.run(
            [sys.executable, "program.py", word], cwd=tmp_path, check=False, timeout=120
        ).returncode
        for word in ("first", "second")
    ]
    assert codes == [-signal.SIGKILL, 0]
    place = str(tmp_path / "runs.db")
    assert main(["logs", place, "work", "--attempt", "1"]) == 0
    assert capsys.readouterr().out == "before the kill\n"
    assert main(["logs", place, "work"]) == 0
    assert capsys.readouterr().out == "before the kill\nafter it\n"


def test_the_command_says_why_there_is_nothing(tmp_path, capsys):
    place = str(tmp_path / "runs.db")
    with TaskOrchestrator(journal=place) as orch:
        orch.submit_task(Task.call(len, "", id="silent")).result()
        orch.submit_task(Task.call(len, "", id="late", not_before=3600))
        orch.stop(drain=False)
    for words, answer in (
        (["silent"], "Attempt 1 of silent has logged nothing."),
        (["silent", "--attempt", "4"], "silent has 1 attempt."),
        (["late"], "late has not begun: it has logged nothing."),
        (["silent", "--follow", "--attempt", "1"], "do not go together"),
    ):
        assert main(["logs", place, *words]) != 0
        assert answer in capsys.readouterr().err


def test_it_is_followed_while_it_is_written(tmp_path):
    place = str(tmp_path / "runs.db")
    with TaskOrchestrator(journal=place) as orch:
        retry = RetryPolicy(max_attempts=2, base=0)
        handle = orch.submit_task(Task.call(speak_twice, id="work", retry=retry))
        words = [sys.executable, "-m", "taskorch", "logs", place, "work", "-f"]
        with Started(
            [*words, "--every", "0.05"], stdout=subprocess.PIPE, text=True
        ) as command:
            assert command.stdout is not None
            assert command.stdout.readline() == "one\n"
            IS_READ.set()
            handle.result()
            assert command.stdout.read() == "two\n--- attempt 2 ---\nthree\n"
        assert command.returncode == 0


def test_a_service_tells_the_same(tmp_path, capsys):
    with TaskOrchestrator(journal=tmp_path / "runs.db") as orch:
        orch.submit_task(Task.call(speak, "x", id="x")).result()
        with orch.serve(port=0, token="a-token-of-sixteen-letters") as server:
            client = Client(server.url, token="a-token-of-sixteen-letters")
            assert client.log("x") == orch.log("x").to_dict()
            assert client.log("x", attempt=1, after=3)["text"] == orch.log("x").text[3:]
            assert not client.log("x", attempt=2)["exists"]
            os.environ["TASKORCH_TOKEN"] = "a-token-of-sixteen-letters"
            try:
                assert main(["logs", server.url, "x"]) == 0
            finally:
                del os.environ["TASKORCH_TOKEN"]
            assert capsys.readouterr().out.endswith(orch.log("x").text)
        assert asyncio.run(orch.aio.log("x")) == orch.log("x")


def test_with_postgresql_standbys_share_a_folder(postgres, tmp_path):
    address = f"{postgres.address()}&logs={tmp_path}"
    with TaskOrchestrator(journal=PostgresJournal(address)) as orch:
        orch.submit_task(Task.call(print, "one", id="x")).result()
    other = postgres.address()
    with TaskOrchestrator(journal=PostgresJournal(other, logs=tmp_path)) as orch:
        orch.submit_task(Task.call(print, "other", id="x")).result()
        assert orch.log("x").text == "other\n"
    assert JournalReader(address).log("x").text == "one\n"
    with TaskOrchestrator(journal=PostgresJournal(address, keep_latest=0)):
        pass
    assert len([*tmp_path.rglob("*.log")]) == 1
    assert JournalReader(f"{other}&logs={tmp_path}").log("x").text == "other\n"
    assert not JournalReader(other).log("x").exists


def test_a_factory_of_records_that_wraps_ours_is_not_wrapped_again(tmp_path):
    """As libraries set one, that calls the one before it."""
    before = logging.getLogRecordFactory()
    try:
        with TaskOrchestrator(journal=tmp_path / "one.db"):
            inner = logging.getLogRecordFactory()
            logging.setLogRecordFactory(partial(inner))
        with TaskOrchestrator(journal=tmp_path / "two.db") as orch:
            orch.submit_task(Task.call(logging.error, "once", id="x")).result()
            assert orch.log("x").text.count("once") == 1
        logging.setLogRecordFactory(before)
        with TaskOrchestrator(journal=tmp_path / "three.db") as orch:
            orch.submit_task(Task.call(logging.error, "once", id="x")).result()
            assert orch.log("x").text.count("once") == 1
    finally:
        logging.setLogRecordFactory(before)


#: Ways in which Python itself writes to standard error, mostly from C.
SAID_BY_PYTHON = {
    "an uncaught error": "raise LookupError('told')",
    "a group": "raise ExceptionGroup('told', [ValueError(1), KeyError(2)])",
    "an error that was raised while another was handled": (
        "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n"
        "    raise LookupError('told') from error"
    ),
    "an error without a traceback": "compile('told told', 'told.py', 'exec')",
    "the text of an exit": "sys.exit('told')",
    "an interrupt": "raise KeyboardInterrupt('told')",
    "a thread": "thread = threading.Thread(target=int, args=['told'], name='of a test')\n"
    "thread.start()\nthread.join()",
    "a thread without a frame": (
        "done = threading.Lock()\ndone.acquire()\n"
        "sys.unraisablehook = lambda e, h=sys.unraisablehook: (h(e), done.release())\n"
        "_thread.start_new_thread(int, ('told',))\n"
        "done.acquire()"
    ),
    "a finalizer": "class Told:\n    def __del__(self):\n        raise LookupError('told')\n"
    "Told()",
    "a warning": "warnings.warn('told')",
    "an exit function": "atexit.register(int, 'told')",
    "the last resort of logging": "logging.error('told')",
    "a hook that fails": "sys.excepthook = lambda *_: int('told')\nraise LookupError('told')",
    "a dump": "def told():\n    faulthandler.dump_traceback(sys.stderr, all_threads=False)\ntold()",
}


@pytest.mark.parametrize("way", SAID_BY_PYTHON)
def test_what_python_itself_writes_is_shown_as_without_an_orchestrator(tmp_path, way):
    """Its own errors have no frame of a caller, and must reach a person all the same."""
    program = tmp_path / "program.py"
    program.write_text(
        "import _thread, atexit, faulthandler, logging, sys, threading, warnings\n"
        "from taskorch import TaskOrchestrator\n"
        "orch = TaskOrchestrator(journal='runs.db')\n"
        f"sys.argv[1:] and orch.start()\n{SAID_BY_PYTHON[way]}\n"
    )
    plain, started = (
        subprocess.run(
            [sys.executable, program, *more],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        for more in ([], ["start"])
    )
    assert "told" in plain.stderr
    assert started.returncode == plain.returncode
    # At the end comes a warning that nobody has stopped it.
    said = started.stderr.splitlines()
    assert "never stopped" in "".join(said[-2:])
    at = re.compile(r"0x[0-9a-f]+")
    assert at.sub("0x", "\n".join(said[:-2])) == at.sub("0x", plain.stderr.rstrip("\n"))
