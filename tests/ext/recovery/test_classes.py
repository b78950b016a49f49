"""What kind of failure it is, over failures that are really made."""

import asyncio
import concurrent.futures
import importlib
import json
import math
import os
import queue
import re
import resource
import signal
import socket
import sqlite3
import ssl
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from taskorch import Permanent, Task, TaskOrchestrator
from taskorch.errors import InvalidTaskError, ProgramFailedError, TaskFailedError
from taskorch.ext.recovery import CLASSES, FailureClass, Rule, class_of, classify
from taskorch.ext.recovery._words import TABLE, searched_words
from taskorch.model import ProgramResult


def _nobody_listens():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def _reset_by_peer():
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
    ):
        there, _ = server.accept()
        there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        there.close()
        client.recv(1)


def _silent_server():
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname(), timeout=0.01) as client,
    ):
        client.recv(1)


def _not_tls():
    one, other = socket.socketpair()
    with one, other:
        other.sendall(b"this is no handshake\n" * 10)
        ssl.create_default_context().wrap_socket(one, server_hostname="localhost")


def _too_large(tmp_path):
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, limit[1]))
    held = []
    try:
        while True:
            held.append((tmp_path / "f").open("w"))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
        for file in held:
            file.close()


def _cycle(depth=0):
    return _cycle(depth + 1) + 1


async def _waits():
    async with asyncio.timeout(0.001):
        await asyncio.sleep(60)


def _group():
    try:
        int("x")
    except ValueError as error:
        raise ExceptionGroup("both", [error, KeyError("k")]) from None


def _close_to(one, other):
    assert one == other, f"Expected {one}, got {other}"


def _is_sorted(values):
    assert values == sorted(values), "they are not in order"


RAISED = {
    "import_error": [
        lambda _: importlib.import_module("there_is_no_such_module"),
        lambda _: exec("from math import there_is_no_such_name"),
        lambda _: exec("import json.nothing"),
        lambda _: importlib.metadata.version("there-is-no-such-package"),
    ],
    "permission_error": [
        lambda path: _refused(path),  # noqa: PLW0108 - it stands below
        lambda _: _errno(PermissionError, 1),
        lambda _: _errno(OSError, 30),
        lambda _: _status(403),
    ],
    "memory_error": [
        lambda _: bytearray(1 << 60),
        lambda _: [0] * (1 << 58),
        lambda _: _errno(OSError, 12),
    ],
    "timeout_error": [
        lambda _: asyncio.run(_waits()),
        lambda _: concurrent.futures.Future().result(timeout=0.001),
        lambda _: subprocess.run(
            [sys.executable, "-c", "import time; time.sleep(60)"],
            timeout=0.01,
            check=True,
        ),
        lambda _: asyncio.run(asyncio.wait_for(asyncio.sleep(60), 0.001)),
    ],
    "calculation_error": [
        lambda _: 1 / 0,
        lambda _: math.exp(1e9),
        lambda _: math.sqrt(-1),
        lambda _: Decimal(1) / Decimal(0),
        lambda _: statistics.mean([]),
        lambda _: _close_to(2083.33, 2083.34),
        lambda _: 10**400 * 1.0,
    ],
    "logic_error": [
        lambda path: (path / "is missing").read_text(),
        lambda path: path.read_text(),
        lambda _: {}["k"],
        lambda _: [][1],  # noqa: PLE0643
        lambda _: None.attribute,
        lambda _: int("x"),
        lambda _: len(5),
        lambda _: json.loads("{"),
        lambda _: exec("x = (", {}),
        lambda _: exec("undefined_name", {}),
        lambda _: _is_sorted([2, 1]),
        lambda _: _cycle(),
        lambda _: _group(),
        lambda _: b"\xff".decode(),
        lambda _: next(iter(())),
    ],
    "system_error": [
        _too_large,
        lambda _: os.kill(2**22 + 5, 0),
        lambda _: _errno(OSError, 28),
        lambda _: _locked(),
        lambda _: os.waitpid(2**22 + 5, 0),
    ],
    "network_error": [
        lambda _: socket.create_connection(("127.0.0.1", _nobody_listens())),
        lambda _: _reset_by_peer(),
        lambda _: _silent_server(),
        lambda _: _not_tls(),
        lambda _: socket.getaddrinfo("there-is-no-such-host.invalid", 80),
        lambda _: urllib.request.urlopen(
            f"http://127.0.0.1:{_nobody_listens()}", timeout=5
        ),
        lambda _: _status(503),
    ],
    "unknown": [
        lambda _: _raise(RuntimeError("it went wrong")),
        lambda _: _raise(Exception()),
        lambda _: queue.Queue().get_nowait(),
        lambda _: _raise(Permanent("enough")),
    ],
}


def _raise(error):
    raise error


def _errno(cls, number):
    raise cls(number, os.strerror(number))


def _refused(path):
    """A folder that nobody may write to; root may all the same."""
    folder = path / "closed"
    folder.mkdir(mode=0o500)
    try:
        (folder / "x").write_text("")
    finally:
        folder.chmod(0o700)
    raise PermissionError(13, "we are root")


def _locked():
    one = sqlite3.connect("file:locked?mode=memory&cache=shared", uri=True)
    other = sqlite3.connect("file:locked?mode=memory&cache=shared", uri=True)
    try:
        one.execute("create table t (x)")
        one.execute("begin exclusive")
        one.execute("insert into t values (1)")
        other.execute("pragma busy_timeout = 0")
        other.execute("select * from t")
    finally:
        one.close()
        other.close()


def _status(code):
    with urllib.error.HTTPError("http://x", code, "no", None, None) as error:
        raise error


@pytest.mark.parametrize(
    ("name", "number"),
    [(name, n) for name, made in RAISED.items() for n in range(len(made))],
)
def test_what_is_raised(name, number, tmp_path):
    """Each failure is made, and is of its class; in another process too."""
    with pytest.raises(BaseException) as caught:
        RAISED[name][number](tmp_path)
    error = caught.value
    found = classify(error)
    assert found.name == name, found
    assert (found.evidence == "") == (name == "unknown")
    if not isinstance(error, BaseExceptionGroup):
        # As a journal, or another process, tells of it.
        told = TaskFailedError(f"task t raised {error}", type=type(error).__name__)
        assert classify(told).name in (name, "unknown", "timeout_error", "system_error")


def _python(code):
    return [sys.executable, "-c", code]


PROGRAMS = {
    "import_error": [
        _python("import there_is_no_such_module"),
        ["sh", "-c", "there-is-no-such-program-here"],
        ["there-is-no-such-program-here"],
    ],
    "permission_error": [
        _python("exit(77)"),
        ["sh", "-c", "echo 'cp: cannot open x: Permission denied' >&2; exit 1"],
    ],
    "memory_error": [
        _python("bytearray(1 << 60)"),
        _python("import os; os.kill(os.getpid(), 9)"),
        ["sh", "-c", "exit 137"],
        ["sh", "-c", "echo 'terminate called: std::bad_alloc' >&2; exit 1"],
    ],
    "timeout_error": [
        ["timeout", "0.01", "sleep", "9"],
        _python("import os; os.kill(os.getpid(), 24)"),
    ],
    "calculation_error": [
        _python("1 / 0"),
        _python("import os; os.kill(os.getpid(), 8)"),
    ],
    "logic_error": [
        _python("{}['k']"),
        _python("assert [1] == [2]"),
        _python("print('fixing ImportError: no module named x'); {}['k']"),
        _python("print('\\x1b[31mMemoryError\\x1b[0m, says a log'); None.x"),
    ],
    "system_error": [
        _python("import os; os.abort()"),
        _python("import os; os.kill(os.getpid(), 15)"),
        ["sh", "-c", "echo 'write: No space left on device' >&2; exit 1"],
    ],
    "network_error": [
        _python("import socket; socket.create_connection(('127.0.0.1', 1))"),
        ["sh", "-c", "echo 'curl: (6) Could not resolve host: x' >&2; exit 6"],
    ],
    "unknown": [["false"], ["sh", "-c", "echo hello; exit 3"]],
}


def test_how_programs_end():
    """By signal, exit code and the end of what they wrote."""
    with TaskOrchestrator() as orch:
        handles = [
            (name, args, orch.submit_task(Task.program(args)))
            for name, every in PROGRAMS.items()
            for args in every
        ]
        orch.wait()
        wrong = []
        for name, args, handle in handles:
            with pytest.raises(ProgramFailedError) as caught:
                handle.result()
            found = classify(caught.value)
            if found.name != name:
                wrong.append((args, name, str(found)))
    assert wrong == []


def test_a_timeout_of_ours():
    """It is one whatever the work said meanwhile."""
    with TaskOrchestrator() as orch:
        task = Task.program(["sh", "-c", "echo MemoryError; sleep 60"], timeout=0.5)
        error = orch.submit_task(task).exception()
    assert classify(error) == FailureClass("timeout", "its own timeout")


def test_rules_of_the_user_come_first():
    """By class, text, exit code or a predicate."""
    error = KeyError("no quota left")
    for rule in (
        Rule("resource_exhaustion", text="no quota"),
        Rule("memory", error="LookupError"),
        Rule("memory_error", when=lambda raised: raised.args == ("no quota left",)),
    ):
        assert classify(error, rules=[rule]).name == "memory_error"
        assert classify(ValueError(), rules=[rule]).name == "logic_error"
    with TaskOrchestrator() as orch:
        failed = orch.submit_task(Task.program(["sh", "-c", "exit 3"])).exception()
    assert (
        classify(failed, rules=[Rule("network", exit_code=3)]).name == "network_error"
    )


def test_other_words_for_classes():
    """Those of the matrix, and those that people use."""
    assert {class_of(name) for name in CLASSES} == set(CLASSES)
    assert class_of("timeout") == class_of("Timeout Error") == "timeout_error"
    assert class_of("resource_exhaustion") == "memory_error"
    assert FailureClass("network").transient
    with pytest.raises(InvalidTaskError, match="'memorry_error' is no class") as caught:
        class_of("memorry_error")
    assert "memory_error" in caught.value.hint


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "does not say of which"),
        ({"text": "("}, "text="),
        ({"text": 5}, "text="),
        ({"text": r"(a+)+\1"}, "for ever"),
        ({"text": r"(?=(a+)+)b"}, "for ever"),
        ({"text": r"(x)?(?(1)b|(a+)+$)"}, "for ever"),
        ({"text": "(?=a)" + 30 * "a?" + 30 * "a"}, "many choices, and looks around"),
        ({"text": "((((a{1,99}){1,99}){1,99}){1,99})+"}, "for ever"),
        ({"exit_code": [1.5]}, "exit_code"),
        ({"exit_code": True}, "exit_code"),
    ],
)
def test_a_rule_that_is_wrong(fields, words):
    """It is refused where it is made."""
    with pytest.raises(InvalidTaskError, match=words):
        Rule("memory", **fields)


def test_ten_megabytes_of_text():
    """The end counts, and it takes no time that matters."""
    text = "Error: " * 1_500_000 + "\nMemoryError: no more"
    assert classify(RuntimeError("x"), output=text).name == "memory_error"
    assert classify(RuntimeError(text)).name == "memory_error"


# -- how tools say it ----------------------------------------------------------------


def _endings():
    """Ends of logs: the class that people give them, the exit code, and the text."""
    for path in sorted((Path(__file__).parent / "data").glob("endings_*.txt")):
        for block in path.read_text().split("%%% ")[1:]:
            head, _, text = block.partition("\n")
            name, code, tool = head.split(" ", 2)
            yield name, int(code), tool, text


def _ended(code, text, errors=""):
    error = ProgramFailedError(f"it exited with {code}")
    error.result = ProgramResult(("x",), code, text, errors, None, 1.0)
    return error


@pytest.fixture(scope="module")
def judged():
    """Each of these ends, with what we make of it."""
    return [
        (name, classify(_ended(code, text)), tool)
        for name, code, tool, text in _endings()
    ]


def test_the_logs_of_six_hundred_tools(judged):
    """Nearly all are what people call them, and no class is left behind."""
    assert len(judged) > 630
    wrong = [
        (tool, name, str(found)) for name, found, tool in judged if found.name != name
    ]
    assert len(wrong) < len(judged) / 20, wrong
    for each in CLASSES:
        right = sum(name == found.name == each for name, found, _ in judged)
        other = sum((name == each) != (found.name == each) for name, found, _ in judged)
        assert 2 * right / (2 * right + other) > 0.85, each


def test_what_a_repeat_helps_is_not_given_up_and_what_it_does_not_is(judged):
    """Of logs, too: what is permanent is run again once at the most."""
    given_up = [t for name, f, t in judged if CLASSES[name] and not f.transient]
    repeated = [
        t
        for name, f, t in judged
        if not CLASSES[name] and f.transient and f.name != "unknown"
    ]
    assert len(given_up) < len(judged) / 50, given_up
    assert len(repeated) < len(judged) / 50, repeated


@pytest.mark.parametrize(
    "text",
    [
        "+ ./sync --timeout=30 --connect-timeout 5\nexit status 1",
        "tests/test_net.py::test_connection_refused PASSED\ndone: 3 of 4",
        "test net::connection_reset_is_survived ... ok\nexit status 3",
        "[       OK ] Socket.TimedOut (2 ms)\nnot finished",
        "warning: connection timed out, trying the next mirror\nnot finished",
        "read_timeout: 30\ntimeout: 10\nnot finished",
    ],
)
def test_a_word_that_speaks_of_no_failure_is_none(text):
    """A flag, a setting, a test that passed, a warning."""
    assert classify(_ended(1, text)) == FailureClass("unknown", sure=False)


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("system_error", ["write: No space left on device", "AssertionError: no file"]),
        ("memory_error", ["Killed", "make: *** [all] Error 137", "1 failed"]),
        (
            "logic_error",
            ["connection refused, next try", "a.c:1:2: error: no such member"],
        ),
        ("network_error", ["a.c:1:2: error: x", "curl: (6) Could not resolve host: y"]),
        ("timeout_error", ["AssertionError", "Job timed out", "1 failed"]),
    ],
)
def test_a_cause_comes_before_what_came_of_it_and_the_last_error_before_others(
    name, lines
):
    """A full disk explains what failed after it; else the end of the text counts."""
    for dress in ("", "2024-05-02T09:11:12.0000000Z ", "\x1b[31m"):
        text = "\n".join(dress + line for line in lines)
        assert classify(_ended(1, text)).name == name
        assert classify(_ended(1, "", text)).name == name


_CACHE = "adding /home/ci/.cache/objects/3f to the cache\n"


@pytest.mark.parametrize(
    ("name", "far", "near"),
    [
        ("logic_error", "src/a.c:1:2: error: no such member", ""),
        ("logic_error", "src/a.c:1:2: error: no such member", "2 failed"),
        ("import_error", "ModuleNotFoundError: No module named 'x'", "make: failed"),
        ("network_error", "a.c:1:2: error: x", "curl: (6) Could not resolve host: y"),
        ("logic_error", "saving the results", "2 failed"),
        ("logic_error", "dial tcp 1.2.3.4: connection refused", "2 failed"),
    ],
)
def test_what_clears_up_after_a_failure_does_not_hide_it(name, far, near):
    """Where the end says little, more of the text is read; an error there counts."""
    text = f"{far}\n{400 * _CACHE}{near}\n"
    assert classify(_ended(1, text)).name == name
    assert classify(RuntimeError("x"), output=text).name == name


def test_what_stands_too_far_above_the_end_is_not_read():
    text = f"src/a.c:1:2: error: no such member\n{4000 * _CACHE}"
    assert classify(_ended(1, text)).name == "unknown"


def test_a_hint_counts_only_where_there_is_nothing_else():
    """Many lines have its words; what failed is said by others, before or after it."""
    hint = "the old report was not found"
    assert classify(_ended(1, hint)).name == "import_error"
    for other, name in (
        ("2 failed, 3 passed", "logic_error"),
        ("a.c:1:2: error: no such member", "logic_error"),
        ("dial tcp 1.2.3.4: i/o timeout", "network_error"),
    ):
        assert classify(_ended(1, f"{other}\n{hint}")).name == name
        assert classify(_ended(1, f"{hint}\n{other}")).name == name
        assert classify(_ended(1, f"{other}\n{400 * _CACHE}{hint}")).name == name
    assert classify(_ended(139, hint)).name == "system_error"


@pytest.mark.parametrize(
    "line",
    [
        "1 failed, 3 passed in 0.2s",
        "Tests:       1 failed, 2 passed, 3 total",
        "Failed!  - Failed:     1, Passed:    20, Skipped:     0",
        "Tests run: 9, Failures: 0, Errors: 2, Skipped: 0",
        "FAIL! -- 2 Passed | 1 Failed | 0 Pending",
    ],
)
def test_how_many_passed_does_not_hide_how_many_failed(line):
    """Tests are counted in one line; without a failure it says nothing."""
    assert classify(_ended(1, line)).name == "logic_error"
    passed = re.sub(r"(?i)(fail\w*[!:]? *[-|]*|errors: )", "", line)
    passed = re.sub(r"[1-9]", "0", passed)
    assert classify(_ended(1, passed)).name == "unknown"


@pytest.mark.parametrize("lost", ["W: Failed to fetch http://x/y", "dial tcp 1.2.3.4"])
@pytest.mark.parametrize(
    "missing", ["E: Unable to locate package x", "No matching distribution found for x"]
)
def test_what_a_network_has_not_brought_is_its_failure(lost, missing):
    """It is missing some lines later; many lines later it has come, or never was."""
    for lines, name in ((1, "network_error"), (19, "network_error"), (30, "import")):
        text = f"{lost}\n{lines * _CACHE}{missing}"
        assert classify(_ended(1, text)).name == class_of(name)
    assert classify(_ended(1, f"{missing}\n{lost}")).name == "network_error"


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("logic_error", 'The command "npm run lint" exited with 2.'),
        ("logic_error", "make: *** [Makefile:12: test] Error 1"),
        ("logic_error", "npm ERR! Failed at the x@1.0.0 check-types script."),
        ("logic_error", "> Execution failed for task ':app:testDebug'."),
        ("logic_error", "[ERROR] Failed to execute goal a.b:surefire:2.1:test (x)"),
        ("unknown", 'The command "./deploy" exited with 2.'),
        ("unknown", 'The command "./latest" exited with 2.'),
        ("unknown", "make: *** [Makefile:12: install] Error 1"),
        ("memory_error", "make: *** [Makefile:12: test] Error 137"),
        ("memory_error", "the process exited with code 137"),
        ("timeout_error", "the process exited with status 124"),
        ("import_error", 'The command "./deploy" exited with 127.'),
        ("system_error", "child: exit status 139"),
        ("unknown", "child: exit status 1390"),
        ("unknown", "child: exit status 1370"),
        ("unknown", "make: *** [Makefile:12: checkout] Error 1"),
    ],
)
def test_the_command_that_failed_and_its_status_are_told_in_words(name, line):
    """Where nothing else is: what tests or checks has found what it looks for."""
    assert classify(_ended(1, f"{line}\nDone.")).name == name


@pytest.mark.parametrize(
    "dress",
    [
        "2024-05-02T09:11:12.000000Z 00O ",
        "2024-05-02T09:11:12.000000Z 01E+",
        "    [junit] ",
        "  [javac] ",
        "[09:11:12] ",
        "##[error]",
    ],
)
def test_what_runners_put_before_a_line_does_not_hide_it(dress):
    """A time, a stream, the name of a step."""
    text = f"{dress}Traceback (most recent call last):\n{dress}KeyError: 'x'"
    assert classify(_ended(1, text)).name == "logic_error"


def test_an_error_that_only_says_that_a_program_failed_is_none():
    """What the program said before counts; without it nothing is known."""
    last = "subprocess.CalledProcessError: Command 'x' returned non-zero exit status 3."
    assert classify(_ended(1, last)).name == "unknown"
    text = f"curl: (6) Could not resolve host: y\nTraceback:\n{last}"
    assert classify(_ended(1, text)).name == "network_error"


def test_how_sure_it_is():
    """What was raised, a signal and a cause leave little doubt, words leave some."""
    assert classify(MemoryError()).sure
    assert classify(_ended(1, "OSError: No space left on device")).sure
    assert not classify(_ended(1, "2 failed, 3 passed")).sure
    assert not classify(_ended(1, "hello")).sure


def test_of_a_large_group_each_class_of_errors_counts_wherever_it_stands():
    """The last of a hundred is one that no repeat helps."""
    group = ExceptionGroup("many", [ConnectionResetError()] * 99 + [ImportError("x")])
    assert classify(group).name == "import_error"


def test_a_group_of_which_not_all_is_read_is_not_sure():
    """Of few classes of errors, one each is enough to be sure."""
    for kinds in (2, 99):
        errors = [type(f"E{n}", (ConnectionResetError,), {})() for n in range(kinds)]
        found = classify(ExceptionGroup("many", errors * 20))
        assert (found.name, found.sure) == ("network_error", kinds == 2)


def test_an_exit_code_counts_where_words_say_little():
    """A summary, or nothing at all."""
    assert classify(_ended(139, "1 test failed")).name == "system_error"
    assert classify(_ended(124, "AssertionError")).name == "timeout_error"
    assert classify(_ended(137, "Job timed out")).name == "timeout_error"


def test_each_row_of_the_table_names_its_source():
    """Whose words they are, and where its documentation is."""
    for row in TABLE:
        assert row.tool
        assert row.source.startswith("https://")
        assert row.name in CLASSES


def test_a_long_output_is_read_in_no_time():
    """Lines that nearly match, a single line, and ten thousand lines."""
    started = time.process_time()
    for text in ("error: " * 200_000, "expected x got\n" * 20_000, "a (" * 300_000):
        classify(_ended(1, text))
    assert time.process_time() - started < 2


def test_words_that_are_repeated_take_no_longer_than_their_number():
    """Each part of the table, again and again in a line, and in lines."""
    parts = [part for _, part, _ in searched_words()]
    # Each is compiled when it is needed: none may be wrong.
    assert all(re.compile(pattern) for *_, pattern in searched_words())
    spent = {}
    for times in (1, 4):
        started = time.process_time()
        for part in parts[::20]:
            classify(_ended(1, f"{part} " * 40 * times + "\n"))
            classify(_ended(1, f"{part} x\n" * 40 * times))
        spent[times] = time.process_time() - started
    assert spent[4] < 12 * spent[1] + 0.5


@pytest.mark.parametrize(
    "text",
    [
        r"(a+)+$",
        r"(a|aa)+$",
        r"^(\w+\s?)*$",
        r"(.*a){20}x",
        r"(x+x+)+y",
        r".*.*.*=",
        r"(?i)(?:A|b+)*c",
        30 * "a?" + 29 * "a" + "b",
        r"(?:a?){10}(?:a?){10}(?:a?){10}a{29}b",
        r"(?:a|aa|aaa){9}(?:a|aa|aaa){9}b",
    ],
)
def test_a_rule_takes_no_longer_than_its_text_is_long(text):
    """One that would be tried again and again from each place of it: hours, not seconds."""
    rule = Rule("memory", text=text)
    started = time.process_time()
    classify(ValueError("a" * 20_000 + "!"), rules=[rule])
    assert time.process_time() - started < 5


@given(
    st.sampled_from(
        [
            *(r"(a+)+$", r"(a|ab)*c", r"^(a?b){2,5}c", r"(?i)(A|b)+$", r"\b(a+b*)+\b"),
            *(r"[^a]+b+c*$", r"(?m)^(a|b)+$", r"(?s)a.*b.*c", r"a{0,3}b{2,}(c|)+d*"),
            *(r"(ab*?)+c", r"[a-b\d_]+[^\w]+", r"(?:(?i:A)|b)+1", r"(a{2}){1,}b+"),
            *(r"^(a+b?){1,3}$", r"^(?:a*b){0,2}1", r"^(?:a?b?){5}a{0,9}c"),
        ]
    ),
    st.text("abcA \n1", max_size=12),
)
def test_a_rule_holds_where_its_expression_is_found(pattern, text):
    """However it is searched for."""
    holds = classify(ValueError(text), rules=[Rule("memory", text=pattern)])
    # As it is shown to a rule: the message, a trace and the output, each in a line.
    assert (holds.name == "memory_error") == bool(re.search(pattern, f"{text}\n\n\n"))


@pytest.mark.parametrize(
    ("text", "holds"),
    [("c", True), ("abc", True), ("aabab" + "c", True), ("ababab" + "c", False)],
)
def test_a_rule_counts_repetitions(text, holds):
    """As many as it says, and no more."""
    rule = Rule("memory", text=r"^(?:a+b+){0,2}c")
    assert (classify(RuntimeError(text), rules=[rule]).name == "memory_error") == holds


class Interrupting(Exception):
    """Ctrl-C comes while it is looked at."""

    def __str__(self):
        signal.raise_signal(signal.SIGINT)
        return "x"

    failure_class = property(lambda self: str(self) and None)


@pytest.mark.parametrize("is_handler", [False, True])
def test_ctrl_c_ends_what_looks_at_an_error(is_handler):
    """Also if a handler of the user's ends the process."""
    handler = (lambda *_: sys.exit(3)) if is_handler else signal.default_int_handler
    before = signal.signal(signal.SIGINT, handler)
    try:
        with pytest.raises(SystemExit if is_handler else KeyboardInterrupt):
            classify(Interrupting())
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit, ValueError])
def test_what_an_error_raises_on_another_thread_is_no_signal(raised):
    class Hostile(Exception):
        def __str__(self):
            raise raised

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        assert pool.submit(classify, Hostile()).result(60).name == "unknown"
    if raised is ValueError:
        assert classify(Hostile()).name == "unknown"
