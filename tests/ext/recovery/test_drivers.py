"""
What drivers of databases, clients of services and the system say, by what happened.

The errors of libraries that are not here are doubles: a class of the name, the module
and the attributes that its documentation gives it. They stand in `data/drivers.txt`, what
is told of errors in `data/told.txt`, and the ends of programs in `data/ended.txt`.
"""

import ast
import asyncio
import builtins
import enum
import errno
import os
import socket
import sqlite3
import subprocess
import types
from contextlib import closing
from functools import partial
from pathlib import Path

import psycopg
import psycopg.errors
import pytest
import requests
import urllib3

from taskorch import Task, TaskOrchestrator
from taskorch.errors import ProgramFailedError, TaskFailedError
from taskorch.ext.recovery import CLASSES, classify
from taskorch.model import ProgramResult


def made(path, *args, bases=(Exception,), **attributes):
    """An error of the class that *path* names, with such attributes."""
    module, _, name = path.rpartition(".")
    made_of = tuple(
        getattr(builtins, base, type(base.rpartition(".")[2], (Exception,), {}))
        if isinstance(base, str)
        else base
        for base in bases
    )
    error = type(name, made_of, {"__module__": module})(*args)
    for word, value in attributes.items():
        setattr(error, word, value)
    return error


def double(line):
    """An error as a line of `drivers.txt` says that it is made."""
    call = ast.parse(line, mode="eval").body
    options = {word.arg: ast.literal_eval(word.value) for word in call.keywords}
    bases = (options.pop("base", "Exception"),)
    args = map(ast.literal_eval, call.args)
    return made(ast.unparse(call.func), *args, bases=bases, **options)


def chained(outer, cause=None, *, context=None, is_hidden=False):
    """*outer* as it is raised from *cause*, or while *context* is handled."""
    outer.__cause__, outer.__context__ = cause, context or cause
    outer.__suppress_context__ = is_hidden or cause is not None
    return outer


def raised(act):
    with pytest.raises(BaseException) as caught:
        act()
    return caught.value


def replied(**attributes):
    return types.SimpleNamespace(**attributes)


def of_boto(code, status, words="x"):
    response = {
        "Error": {"Code": code, "Message": words},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    text = f"An error occurred ({code}) when calling the Do operation: {words}"
    return made("botocore.exceptions.ClientError", text, response=response)


def of_grpc(name):
    # As grpc.StatusCode: a number, and a word.
    code = enum.Enum("StatusCode", {name: (14, name.lower())})[name]
    text = f'<AioRpcError of RPC that terminated with:\n\tstatus = {code}\n\tdetails = "x"\n>'
    return made("grpc.aio._call.AioRpcError", text, code=lambda: code)


def of_sqlalchemy(name, orig, bases=("sqlalchemy.exc.DBAPIError",)):
    text = f"({type(orig).__module__}.{type(orig).__name__}) {orig}\n[SQL: select 503]"
    return chained(made(f"sqlalchemy.exc.{name}", text, bases=bases, orig=orig), orig)


def of_sqlite(code, text):
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code
    return error


def on_sqlite(*orders):
    with closing(sqlite3.connect(":memory:")) as base:
        for order in orders:
            base.execute(order)


def connected_to_nobody(act):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    return raised(lambda: act(port))


def pool(error):
    """As `requests` raises what `urllib3` raised."""
    most = urllib3.exceptions.MaxRetryError(None, "/x", error)
    return chained(requests.ConnectionError(most), context=most)


REFUSED = ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('::1', 80)")
RESET = ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
UNREACHABLE = OSError(errno.ENETUNREACH, "Network is unreachable")

#: By class: what the error is of, and how it is made.
CASES = {
    "network_error": {
        "psycopg refused": lambda: connected_to_nobody(
            lambda port: psycopg.connect(f"host=127.0.0.1 port={port} dbname=x")
        ),
        "psycopg terminated": lambda: psycopg.errors.ConnectionFailure("gone"),
        "psycopg lost": lambda: psycopg.OperationalError(
            "consuming input failed: server closed the connection unexpectedly"
        ),
        "sqlalchemy refused": lambda: of_sqlalchemy(
            "OperationalError",
            made("psycopg2.OperationalError", "connection refused", pgcode=None),
        ),
        "sqlalchemy by errno": lambda: of_sqlalchemy(
            "InterfaceError", chained(made("x.InterfaceError", "lost"), RESET)
        ),
        "django refused": lambda: chained(
            made("django.db.utils.OperationalError", "could not"),
            psycopg.errors.ConnectionException("x"),
        ),
        "boto throttled": lambda: of_boto("ThrottlingException", 400, "Rate exceeded"),
        "boto table": lambda: of_boto("ProvisionedThroughputExceededException", 400),
        "boto slow down": lambda: of_boto("SlowDown", 503),
        "boto internal": lambda: of_boto("InternalError", 500),
        "docker": lambda: made(
            "docker.errors.APIError", "x", response=replied(status_code=500)
        ),
        "grpc away": lambda: of_grpc("UNAVAILABLE"),
        "grpc spent": lambda: of_grpc("RESOURCE_EXHAUSTED"),
        "requests refused": lambda: connected_to_nobody(
            lambda port: requests.get(f"http://127.0.0.1:{port}/400", timeout=5)
        ),
        "requests name": lambda: raised(
            lambda: requests.get("http://there-is-none.invalid/", timeout=5)
        ),
        "requests reset": lambda: pool(urllib3.exceptions.ProtocolError("x", RESET)),
        "requests cut": lambda: requests.exceptions.ChunkedEncodingError("x"),
        "requests late": lambda: requests.ReadTimeout("Read timed out."),
        "requests busy": lambda: requests.HTTPError(
            "503 Server Error", response=replied(status_code=503)
        ),
        "aiohttp cut": lambda: chained(
            made(
                "aiohttp.client_exceptions.ClientPayloadError",
                "Response payload is not completed: <ContentLengthError: 400, "
                "message='Not enough data to satisfy content length header.'>",
            ),
            made(
                "aiohttp.http_exceptions.ContentLengthError",
                "400, message: Not enough data",
                bases=("aiohttp.http_exceptions.PayloadEncodingError",),
                code=400,
            ),
        ),
        "aiohttp refused": lambda: made(
            "aiohttp.client_exceptions.ClientConnectorError",
            errno.ECONNREFUSED,
            "Connect call failed",
            bases=(OSError,),
        ),
        "group": lambda: ExceptionGroup("unhandled errors", [REFUSED, RESET]),
        "group of groups": lambda: ExceptionGroup(
            "x", [ExceptionGroup("y", [UNREACHABLE]), TimeoutError()]
        ),
        "anyio": lambda: chained(
            OSError("All connection attempts failed"),
            ExceptionGroup("multiple connection attempts failed", [REFUSED]),
        ),
        "asyncio both": lambda: OSError(
            "Multiple exceptions: [Errno 111] Connect call failed ('::1', 80, 0, 0), "
            "[Errno 111] Connect call failed ('127.0.0.1', 80)"
        ),
        "while handled": lambda: chained(
            RuntimeError("the sync did not end"), context=REFUSED
        ),
        "value from": lambda: chained(ValueError("no price of 404 items"), REFUSED),
        "deep": lambda: chained(
            made("app.Failed", "a"), chained(made("app.Worse", "b"), RESET)
        ),
        "broken pipe": lambda: BrokenPipeError(errno.EPIPE, "Broken pipe"),
        "socket.gaierror": lambda: socket.gaierror(-2, "Name or service not known"),
    },
    "system_error": {
        "sqlite locked": lambda: of_sqlite(5, "database is locked"),
        "sqlite disk": lambda: of_sqlite(13, "database or disk is full"),
        "sqlite io": lambda: of_sqlite(778, "disk I/O error"),
        "psycopg deadlock": lambda: psycopg.errors.DeadlockDetected("x"),
        "psycopg serial": lambda: psycopg.errors.SerializationFailure("x"),
        "psycopg too many": lambda: psycopg.errors.TooManyConnections("sorry"),
        "psycopg locked": lambda: psycopg.errors.LockNotAvailable("x"),
        "psycopg shut": lambda: psycopg.errors.AdminShutdown("x"),
        "psycopg starts": lambda: psycopg.errors.CannotConnectNow("x"),
        "psycopg full": lambda: psycopg.errors.DiskFull("x"),
        "sqlalchemy locked": lambda: of_sqlalchemy(
            "OperationalError", of_sqlite(5, "database is locked")
        ),
        "boto conflict": lambda: of_boto("TransactionConflictException", 400),
        "grpc aborted": lambda: of_grpc("ABORTED"),
        "grpc internal": lambda: of_grpc("INTERNAL"),
        "full": lambda: OSError(errno.ENOSPC, "No space left on device"),
        "files": lambda: OSError(errno.EMFILE, "Too many open files"),
        "busy": lambda: OSError(errno.EBUSY, "Device or resource busy"),
        "io": lambda: OSError(errno.EIO, "Input/output error"),
        "full below": lambda: chained(ValueError("no row was written"), _full()),
        "threads": lambda: RuntimeError("can't start new thread"),
    },
    "timeout_error": {
        "psycopg canceled": lambda: psycopg.errors.QueryCanceled("statement timeout"),
        "grpc": lambda: of_grpc("DEADLINE_EXCEEDED"),
        "asyncio": lambda: chained(TimeoutError(), asyncio.CancelledError()),
        "subprocess": lambda: subprocess.TimeoutExpired(["x"], 3),
    },
    "permission_error": {
        "psycopg password": lambda: psycopg.errors.InvalidPassword("x"),
        "psycopg told": lambda: psycopg.OperationalError(
            'connection failed: FATAL:  password authentication failed for user "x"'
        ),
        "psycopg privilege": lambda: psycopg.errors.InsufficientPrivilege("x"),
        "sqlite": lambda: of_sqlite(8, "attempt to write a readonly database"),
        "sqlite extended": lambda: of_sqlite(264, "x"),
        "boto": lambda: of_boto("AccessDenied", 403),
        "boto old": lambda: of_boto("ExpiredTokenException", 400),
        "grpc": lambda: of_grpc("PERMISSION_DENIED"),
        "grpc who": lambda: of_grpc("UNAUTHENTICATED"),
        "file": lambda: PermissionError(errno.EACCES, "Permission denied"),
        "read-only": lambda: OSError(errno.EROFS, "Read-only file system"),
    },
    "memory_error": {
        "psycopg": lambda: psycopg.errors.OutOfMemory("x"),
        "sqlite": lambda: of_sqlite(7, "out of memory"),
        "fork": lambda: OSError(errno.ENOMEM, "Cannot allocate memory"),
        "killed": lambda: subprocess.CalledProcessError(-9, ["convert"]),
        "group": lambda: ExceptionGroup("x", [MemoryError()]),
    },
    "logic_error": {
        "sqlite table": lambda: raised(lambda: on_sqlite("select * from t")),
        "sqlite syntax": lambda: raised(lambda: on_sqlite("selekt 503")),
        "sqlite unique": lambda: raised(
            lambda: on_sqlite(
                "create table t (x unique)", *["insert into t values (1)"] * 2
            )
        ),
        "sqlalchemy table": lambda: of_sqlalchemy(
            "OperationalError", raised(lambda: on_sqlite("select * from t"))
        ),
        "psycopg table": lambda: psycopg.errors.UndefinedTable("x"),
        "psycopg unique": lambda: psycopg.errors.UniqueViolation("503"),
        "psycopg syntax": lambda: psycopg.errors.SyntaxError("x"),
        "psycopg value": lambda: psycopg.errors.InvalidTextRepresentation("x"),
        "psycopg base": lambda: psycopg.OperationalError(
            'connection failed: FATAL:  database "x" does not exist'
        ),
        "boto bucket": lambda: of_boto("NoSuchBucket", 404),
        "boto value": lambda: of_boto("ValidationException", 400),
        "grpc": lambda: of_grpc("INVALID_ARGUMENT"),
        "grpc none": lambda: of_grpc("UNIMPLEMENTED"),
        "requests": lambda: requests.HTTPError(
            "404 Client Error", response=replied(status_code=404)
        ),
        "requests url": lambda: raised(lambda: requests.get("no address", timeout=5)),
        "requests json": lambda: requests.exceptions.JSONDecodeError("x", "", 0),
        "no file": lambda: raised(lambda: open("/there/is/none")),  # noqa: PTH123, SIM115
        "a folder": lambda: raised(lambda: open("/")),  # noqa: PTH123, SIM115
        "no folder": lambda: NotADirectoryError(errno.ENOTDIR, "Not a directory"),
        "is there": lambda: FileExistsError(errno.EEXIST, "File exists"),
        "argument": lambda: OSError(errno.EINVAL, "Invalid argument"),
        "name": lambda: OSError(errno.ENAMETOOLONG, "File name too long"),
        "key": lambda: chained(KeyError("price"), context=REFUSED),
        "group": lambda: ExceptionGroup("x", [KeyError("k"), TypeError("t")]),
        "group of both": lambda: ExceptionGroup("x", [KeyError("k"), REFUSED]),
        "hidden": lambda: chained(
            ValueError("no price"), context=REFUSED, is_hidden=True
        ),
        "number": lambda: ValueError("there are 503 rows, and 429 were asked for"),
    },
    "calculation_error": {
        "psycopg": lambda: psycopg.errors.DivisionByZero("x"),
        "psycopg range": lambda: psycopg.errors.NumericValueOutOfRange("x"),
        "below": lambda: chained(
            made("app.Failed", "of 503"), ZeroDivisionError("division by zero")
        ),
    },
    "import_error": {
        "no program": lambda: raised(lambda: subprocess.run(["there-is-none"])),  # noqa: PLW1510
        "asyncio program": lambda: raised(
            lambda: asyncio.run(asyncio.create_subprocess_exec("there-is-none"))
        ),
        "shell": lambda: subprocess.CalledProcessError(127, "there-is-none"),
        "below": lambda: chained(
            RuntimeError("no plugin"), ModuleNotFoundError("No module named 'x'")
        ),
    },
    "unknown": {
        "words": lambda: RuntimeError("it went wrong"),
        "number": lambda: RuntimeError("503 rows were not enough"),
        "group": lambda: ExceptionGroup("x", [RuntimeError("it went wrong")]),
    },
}


def _full():
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def rows(name):
    """The class that a text of `data` gives to each of its lines, and the line."""
    found, kind = [], ""
    for line in (Path(__file__).parent / "data" / name).read_text("utf-8").splitlines():
        if line.startswith("  "):
            found.append((kind, line[2:]))
        else:
            kind = line
    return found


def said(line):
    """Who says it, and the words, in which two letters stand for a new line or a tab."""
    head, _, words = line.partition(": ")
    return head, words.replace(r"\n", "\n").replace(r"\t", "\t")


def told(line):
    """What is left of an error where only texts are."""
    kind, message = said(line)
    return TaskFailedError(message, type=kind)


EVERY = [
    *((name, word, make) for name, by in CASES.items() for word, make in by.items()),
    *((name, line, partial(double, line)) for name, line in rows("drivers.txt")),
]


def test_what_a_controller_says():
    """It is judged by what happened, not by a name or a bare number."""
    judged = [(name, word, classify(make())) for name, word, make in EVERY]
    assert [each for each in judged if each[2].name != each[0]] == []


def test_what_is_told_of_an_error():
    """Only texts are left of it, and they say the same."""
    judged = [(name, line, classify(told(line))) for name, line in rows("told.txt")]
    assert [each for each in judged if each[2].name != each[0]] == []


def test_what_programs_say_of_services():
    """In the words of command lines of databases, clouds and networks."""
    for name, line in rows("ended.txt"):
        code, text = said(line)
        error = ProgramFailedError(f"it exited with {code}")
        error.result = ProgramResult(("x",), int(code), "", text, None, 1.0)
        assert classify(error).name == name, line
        called = subprocess.CalledProcessError(int(code), ["x"], stderr=text.encode())
        assert classify(called).name == name, line


def test_what_a_repeat_helps_is_not_given_up():
    """Of all these, not one; what is not mended by it is repeated once at the most."""
    found = [
        *((name, classify(make()), word) for name, word, make in EVERY),
        *((name, classify(told(line)), line) for name, line in rows("told.txt")),
    ]
    given_up = [word for name, f, word in found if CLASSES[name] and not f.transient]
    assert given_up == []
    repeated = [
        word
        for name, f, word in found
        if not CLASSES[name] and f.transient and f.name != "unknown"
    ]
    assert repeated == []


def test_each_number_of_the_system_has_a_class():
    """None is judged by chance: those that are not in the table are the system's."""
    passing = {"EAGAIN", "ECONNRESET", "ENOSPC", "EIO", "EBUSY", "EPIPE", "EINTR"}
    for number, word in errno.errorcode.items():
        found = classify(OSError(number, "status 404"))
        assert found.name != "unknown", word
        assert found.transient or word not in passing, word
        # The class that Python makes of a number says nothing else.
        told = TaskFailedError(f"[Errno {number}] x", type="OSError")
        assert CLASSES[classify(told).name] == found.transient, word


def test_each_sqlstate_of_postgresql_has_a_class():
    """By itself where one says something else than its class, and by its class."""
    states = {
        each.sqlstate: each
        for each in vars(psycopg.errors).values()
        if isinstance(each, type)
        and issubclass(each, psycopg.Error)
        and each.sqlstate is not None
    }
    assert len(states) > 200
    for state, each in states.items():
        if state[:2] in ("00", "01", "02", "03"):
            continue
        assert classify(each("503")).sure, state
        found = classify(made("asyncpg.exceptions.PostgresError", "x", sqlstate=state))
        assert found == classify(each("")), state


def test_an_error_that_is_reached_by_a_circle_is_looked_at_once():
    """A cause may be the error itself, or one above it."""
    one, other = RuntimeError("a"), RuntimeError("b")
    one.__cause__, other.__cause__ = other, one
    assert classify(one).name == "unknown"
    other.args = (one, RESET)
    assert classify(one).name == "network_error"


def test_a_program_that_the_work_starts_is_judged_as_one_of_ours():
    """By its signal, its code, and what it wrote, if that was kept."""
    with pytest.raises(subprocess.CalledProcessError) as caught:
        subprocess.run(
            ["sh", "-c", "echo 'write: No space left on device' >&2; exit 1"],
            check=True,
            capture_output=True,
        )
    assert classify(caught.value).name == "system_error"
    assert classify(subprocess.CalledProcessError(1, ["x"])).name == "unknown"


def test_a_traceback_says_what_an_error_came_of():
    """Where the last line is a guess, and Python says that there was another before."""
    first = "ConnectionRefusedError: [Errno 111] Connection refused"
    link = "The above exception was the direct cause of the following exception:"
    for last in ("ValueError: no prices", "RuntimeError: no prices"):
        for between, name in ((link, "network_error"), ("", "logic_error")):
            trace = f"{first}\n\n{between}\n\nTraceback:\n{last}"
            kind, _, message = last.partition(": ")
            found = classify(TaskFailedError(message, type=kind, traceback=trace))
            assert found.name == name or (not between and kind == "RuntimeError")


def finds_no_price():
    try:
        raise REFUSED
    except OSError as error:
        text = "no price"
        raise ValueError(text) from error


def test_what_a_worker_process_tells_of_an_error():
    """Only a traceback is left of where it was raised, and of its cause."""
    with TaskOrchestrator() as orch:
        for work, name in (
            ((subprocess.run, ["there-is-none"]), "import_error"),
            ((finds_no_price,), "network_error"),
        ):
            for where in ("thread", "process"):
                task = Task.call(*work, executor=where)
                error = orch.submit_task(task).exception()
                assert classify(error).name == name, where


def test_a_group_of_errors_in_a_traceback():
    """The lines of each are indented, and have a bar before them."""
    group = "  + Exception Group Traceback (most recent call last):\n"
    group += "  | ExceptionGroup: x (1 sub-exception)\n  +-+--- 1 ---\n"
    group += "    | ConnectionResetError: [Errno 104] Connection reset by peer\n"
    told = TaskFailedError(
        "x (1 sub-exception)", type="ExceptionGroup", traceback=group
    )
    assert classify(told).name == "network_error"
