"""
What drivers of databases, clients of services and the system say, by what happened.

The errors of libraries that are not here are doubles: a class of the name, the module
and the attributes that its documentation gives it.
"""

import asyncio
import enum
import errno
import http
import os
import socket
import sqlite3
import subprocess
import types
from contextlib import closing

import psycopg
import psycopg.errors
import pytest
import requests
import urllib3

from taskorch import Task, TaskOrchestrator
from taskorch.errors import ProgramFailedError, TaskFailedError
from taskorch.model import ProgramResult
from taskorch.recovery import CLASSES, classify


def made(path, *args, bases=(Exception,), **attributes):
    """An error of the class that *path* names, with such attributes."""
    module, _, name = path.rpartition(".")
    made_of = tuple(
        type(base.rpartition(".")[2], (Exception,), {})
        if isinstance(base, str)
        else base
        for base in bases
    )
    error = type(name, made_of, {"__module__": module})(*args)
    for word, value in attributes.items():
        setattr(error, word, value)
    return error


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
        "asyncpg gone": lambda: made(
            "asyncpg.exceptions.ConnectionDoesNotExistError",
            "connection was closed in the middle of operation",
            sqlstate="08003",
        ),
        "psycopg2 gone": lambda: made(
            "psycopg2.OperationalError",
            "SSL SYSCALL error: EOF detected",
            bases=("psycopg2.DatabaseError",),
            pgcode=None,
        ),
        "pymysql refused": lambda: made(
            "pymysql.err.OperationalError",
            2003,
            "Can't connect to MySQL server on 'db' ([Errno 111] Connection refused)",
        ),
        "pymysql gone": lambda: made(
            "pymysql.err.OperationalError", 2006, "MySQL server has gone away"
        ),
        "mysql.connector lost": lambda: made(
            "mysql.connector.errors.OperationalError",
            "2013: Lost connection to MySQL server during query",
            errno=2013,
            sqlstate="HY000",
        ),
        "pyodbc link": lambda: made(
            "pyodbc.OperationalError", "08S01", "[08S01] Communication link failure"
        ),
        "oracledb refused": lambda: made(
            "oracledb.exceptions.OperationalError",
            "DPY-6005: cannot connect to database. [Errno 111] Connection refused",
        ),
        "oracledb listener": lambda: made(
            "oracledb.exceptions.DatabaseError",
            "ORA-12541: Cannot connect. No listener at host",
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
        "redis": lambda: made(
            "redis.exceptions.ConnectionError", "Error 111 connecting to localhost:6379"
        ),
        "redis loading": lambda: made(
            "redis.exceptions.BusyLoadingError",
            "Redis is loading the dataset in memory",
            bases=("redis.exceptions.ConnectionError",),
        ),
        "redis read": lambda: made(
            "redis.exceptions.TimeoutError", "Timeout reading from socket"
        ),
        "mongo": lambda: made(
            "pymongo.errors.ServerSelectionTimeoutError", "db:27017: refused"
        ),
        "mongo back": lambda: made("pymongo.errors.AutoReconnect", "not primary"),
        "kafka": lambda: made("kafka.errors.NoBrokersAvailable", "NoBrokersAvailable"),
        "rabbitmq": lambda: made("pika.exceptions.AMQPConnectionError", ""),
        "rabbitmq stream": lambda: made(
            "pika.exceptions.StreamLostError",
            "Stream connection lost: ConnectionResetError(104, 'reset')",
        ),
        "elasticsearch": lambda: made(
            "elastic_transport.ConnectionError", "Cannot connect to host"
        ),
        "boto endpoint": lambda: made(
            "botocore.exceptions.EndpointConnectionError",
            'Could not connect to the endpoint URL: "https://s3/"',
        ),
        "boto throttled": lambda: of_boto("ThrottlingException", 400, "Rate exceeded"),
        "boto table": lambda: of_boto("ProvisionedThroughputExceededException", 400),
        "boto slow down": lambda: of_boto("SlowDown", 503),
        "boto internal": lambda: of_boto("InternalError", 500),
        "google busy": lambda: made(
            "google.api_core.exceptions.ServiceUnavailable",
            "503 x",
            code=http.HTTPStatus.SERVICE_UNAVAILABLE,
        ),
        "google by status": lambda: made(
            "google.api_core.exceptions.GoogleAPICallError",
            "x",
            code=http.HTTPStatus.BAD_GATEWAY,
        ),
        "azure": lambda: made(
            "azure.core.exceptions.HttpResponseError", "x", status_code=503
        ),
        "kubernetes": lambda: made("kubernetes.client.ApiException", "x", status=429),
        "docker": lambda: made(
            "docker.errors.APIError", "x", response=replied(status_code=500)
        ),
        "openai": lambda: made("openai.RateLimitError", "x", status_code=429),
        "openai lost": lambda: made("openai.APIConnectionError", "Connection error."),
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
        "aiohttp length": lambda: made(
            "aiohttp.http_exceptions.TransferEncodingError",
            "400, message: Not enough data to satisfy transfer length header.",
            code=400,
        ),
        "aiohttp refused": lambda: made(
            "aiohttp.client_exceptions.ClientConnectorError",
            errno.ECONNREFUSED,
            "Connect call failed",
            bases=(OSError,),
        ),
        "aiohttp gone": lambda: made(
            "aiohttp.client_exceptions.ServerDisconnectedError", "Server disconnected"
        ),
        "aiohttp busy": lambda: made(
            "aiohttp.client_exceptions.ClientResponseError", "x", status=502
        ),
        "websocket": lambda: made(
            "websockets.exceptions.ConnectionClosedError", "no close frame received"
        ),
        "http2": lambda: made("h2.exceptions.StreamClosedError", 5),
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
        "smtp busy": lambda: made(
            "smtplib.SMTPResponseException", 421, b"try later", smtp_code=421
        ),
        "ftp busy": lambda: made("ftplib.error_temp", "421 Too many users"),
        "ssh": lambda: made(
            "paramiko.ssh_exception.NoValidConnectionsError", None, "Unable to connect"
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
        "asyncpg deadlock": lambda: made(
            "asyncpg.exceptions.DeadlockDetectedError", "x", sqlstate="40P01"
        ),
        "pymysql deadlock": lambda: made(
            "pymysql.err.OperationalError", 1213, "Deadlock found when trying to get"
        ),
        "pymysql wait": lambda: made(
            "pymysql.err.OperationalError", 1205, "Lock wait timeout exceeded"
        ),
        "pymysql too many": lambda: made(
            "pymysql.err.OperationalError", 1040, "Too many connections"
        ),
        "pyodbc deadlock": lambda: made(
            "pyodbc.Error", "40001", "[40001] Transaction was deadlocked (1205)"
        ),
        "sqlalchemy locked": lambda: of_sqlalchemy(
            "OperationalError", of_sqlite(5, "database is locked")
        ),
        "boto conflict": lambda: of_boto("TransactionConflictException", 400),
        "grpc aborted": lambda: of_grpc("ABORTED"),
        "grpc internal": lambda: of_grpc("INTERNAL"),
        "redis busy": lambda: made(
            "redis.exceptions.ResponseError", "BUSY Redis is busy running a script"
        ),
        "full": lambda: OSError(errno.ENOSPC, "No space left on device"),
        "files": lambda: OSError(errno.EMFILE, "Too many open files"),
        "busy": lambda: OSError(errno.EBUSY, "Device or resource busy"),
        "io": lambda: OSError(errno.EIO, "Input/output error"),
        "full below": lambda: chained(ValueError("no row was written"), _full()),
        "no words": lambda: made("app.OperationalError", "the valve is shut"),
        "threads": lambda: RuntimeError("can't start new thread"),
    },
    "timeout_error": {
        "filelock": lambda: made(
            "filelock._error.Timeout",
            "The file lock 'x' could not be acquired.",
            bases=(TimeoutError,),
        ),
        "psycopg canceled": lambda: psycopg.errors.QueryCanceled("statement timeout"),
        "asyncpg canceled": lambda: made(
            "asyncpg.exceptions.QueryCanceledError", "x", sqlstate="57014"
        ),
        "pyodbc": lambda: made("pyodbc.OperationalError", "HYT00", "[HYT00] expired"),
        "mysql": lambda: made(
            "pymysql.err.OperationalError", 3024, "maximum statement execution time"
        ),
        "mongo": lambda: made(
            "pymongo.errors.ExecutionTimeout", "operation exceeded time limit", code=50
        ),
        "grpc": lambda: of_grpc("DEADLINE_EXCEEDED"),
        "asyncio": lambda: chained(TimeoutError(), asyncio.CancelledError()),
        "celery": lambda: made("billiard.exceptions.SoftTimeLimitExceeded", ""),
        "subprocess": lambda: subprocess.TimeoutExpired(["x"], 3),
        "sqlalchemy pool": lambda: made(
            "sqlalchemy.exc.TimeoutError",
            "QueuePool limit of size 5 overflow 10 reached, connection timed out",
        ),
    },
    "permission_error": {
        "psycopg password": lambda: psycopg.errors.InvalidPassword("x"),
        "psycopg told": lambda: psycopg.OperationalError(
            'connection failed: FATAL:  password authentication failed for user "x"'
        ),
        "psycopg privilege": lambda: psycopg.errors.InsufficientPrivilege("x"),
        "pymysql": lambda: made(
            "pymysql.err.OperationalError", 1045, "Access denied for user 'x'"
        ),
        "pymysql table": lambda: made(
            "pymysql.err.ProgrammingError", 1142, "SELECT command denied to user"
        ),
        "pyodbc": lambda: made(
            "pyodbc.InterfaceError", "28000", "[28000] Login failed"
        ),
        "oracledb": lambda: made(
            "oracledb.exceptions.DatabaseError",
            "ORA-01017: invalid credential or not authorized; logon denied",
        ),
        "sqlite": lambda: of_sqlite(8, "attempt to write a readonly database"),
        "sqlite extended": lambda: of_sqlite(264, "x"),
        "mongo": lambda: made(
            "pymongo.errors.OperationFailure", "Authentication failed.", code=18
        ),
        "redis": lambda: made("redis.exceptions.AuthenticationError", "WRONGPASS"),
        "redis none": lambda: made(
            "redis.exceptions.ResponseError", "NOAUTH Authentication required."
        ),
        "boto": lambda: of_boto("AccessDenied", 403),
        "boto old": lambda: of_boto("ExpiredTokenException", 400),
        "boto none": lambda: made(
            "botocore.exceptions.NoCredentialsError", "Unable to locate credentials"
        ),
        "google": lambda: made(
            "google.api_core.exceptions.Forbidden", "403 x", code=http.HTTPStatus(403)
        ),
        "google none": lambda: made(
            "google.auth.exceptions.DefaultCredentialsError", "none was found"
        ),
        "grpc": lambda: of_grpc("PERMISSION_DENIED"),
        "grpc who": lambda: of_grpc("UNAUTHENTICATED"),
        "ssh": lambda: made(
            "paramiko.ssh_exception.AuthenticationException", "Authentication failed."
        ),
        "smtp": lambda: made(
            "smtplib.SMTPAuthenticationError", 535, b"no", smtp_code=535
        ),
        "ftp": lambda: made("ftplib.error_perm", "530 Login incorrect."),
        "file": lambda: PermissionError(errno.EACCES, "Permission denied"),
        "read-only": lambda: OSError(errno.EROFS, "Read-only file system"),
    },
    "memory_error": {
        "psycopg": lambda: psycopg.errors.OutOfMemory("x"),
        "sqlite": lambda: of_sqlite(7, "out of memory"),
        "fork": lambda: OSError(errno.ENOMEM, "Cannot allocate memory"),
        "torch": lambda: made(
            "torch.OutOfMemoryError", "CUDA out of memory.", bases=(RuntimeError,)
        ),
        "redis": lambda: made(
            "redis.exceptions.OutOfMemoryError",
            "OOM command not allowed when used memory > 'maxmemory'.",
        ),
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
        "asyncpg column": lambda: made(
            "asyncpg.exceptions.UndefinedColumnError", "x", sqlstate="42703"
        ),
        "pymysql column": lambda: made(
            "pymysql.err.OperationalError", 1054, "Unknown column 'x'"
        ),
        "pymysql base": lambda: made(
            "pymysql.err.OperationalError", 1049, "Unknown database 'x'"
        ),
        "pymysql unique": lambda: made(
            "pymysql.err.IntegrityError", 1062, "Duplicate entry '429' for key"
        ),
        "pyodbc object": lambda: made(
            "pyodbc.ProgrammingError", "42S02", "[42S02] Invalid object name"
        ),
        "mongo unique": lambda: made(
            "pymongo.errors.DuplicateKeyError", "E11000 duplicate key", code=11000
        ),
        "redis type": lambda: made(
            "redis.exceptions.ResponseError", "WRONGTYPE Operation against a key"
        ),
        "boto bucket": lambda: of_boto("NoSuchBucket", 404),
        "boto value": lambda: of_boto("ValidationException", 400),
        "boto argument": lambda: made(
            "botocore.exceptions.ParamValidationError", "Parameter validation failed"
        ),
        "google": lambda: made(
            "google.api_core.exceptions.NotFound", "404 x", code=http.HTTPStatus(404)
        ),
        "grpc": lambda: of_grpc("INVALID_ARGUMENT"),
        "grpc none": lambda: of_grpc("UNIMPLEMENTED"),
        "requests": lambda: requests.HTTPError(
            "404 Client Error", response=replied(status_code=404)
        ),
        "requests url": lambda: raised(lambda: requests.get("no address", timeout=5)),
        "requests json": lambda: requests.exceptions.JSONDecodeError("x", "", 0),
        "smtp": lambda: made(
            "smtplib.SMTPRecipientsRefused", "x", smtp_code=550, recipients={}
        ),
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
        "pydantic": lambda: made(
            "pydantic_core.ValidationError", "1 validation error for X: 503"
        ),
        "number": lambda: ValueError("there are 503 rows, and 429 were asked for"),
    },
    "calculation_error": {
        "psycopg": lambda: psycopg.errors.DivisionByZero("x"),
        "psycopg range": lambda: psycopg.errors.NumericValueOutOfRange("x"),
        "mysql": lambda: made("pymysql.err.DataError", 1365, "Division by 0"),
        "below": lambda: chained(
            made("app.Failed", "of 503"), ZeroDivisionError("division by zero")
        ),
    },
    "import_error": {
        "no program": lambda: raised(lambda: subprocess.run(["there-is-none"])),  # noqa: PLW1510
        "asyncio program": lambda: raised(
            lambda: asyncio.run(asyncio.create_subprocess_exec("there-is-none"))
        ),
        "odbc": lambda: made(
            "pyodbc.Error", "01000", "[01000] Can't open lib 'x' : file not found"
        ),
        "odbc source": lambda: made(
            "pyodbc.InterfaceError", "IM002", "[IM002] Data source name not found"
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

#: Told by a journal or another process: the class's name, and what it says.
TOLD = [
    (
        "network_error",
        "psycopg.OperationalError",
        'connection to server at "127.0.0.1", port 5432 failed: Connection refused',
    ),
    (
        "network_error",
        "OperationalError",
        "(2003, \"Can't connect to MySQL server on 'db' (timed out)\")",
    ),
    (
        "logic_error",
        "sqlalchemy.exc.ProgrammingError",
        '(psycopg2.errors.UndefinedTable) relation "x" does not exist\nLINE 1: select * from x',
    ),
    (
        "logic_error",
        "sqlalchemy.exc.OperationalError",
        "(sqlite3.OperationalError) no such table: users\n[SQL: SELECT 1]",
    ),
    (
        "system_error",
        "sqlalchemy.exc.OperationalError",
        "(sqlite3.OperationalError) database is locked\n[SQL: SELECT 1]",
    ),
    (
        "system_error",
        "sqlalchemy.exc.OperationalError",
        "(psycopg2.errors.SerializationFailure) could not serialize access due to concurrent update",
    ),
    (
        "system_error",
        "asyncpg.exceptions.DeadlockDetectedError",
        "deadlock detected\nDETAIL: Process 12 waits for ShareLock",
    ),
    (
        "logic_error",
        "IntegrityError",
        "(1062, \"Duplicate entry '503' for key 'PRIMARY'\")",
    ),
    (
        "permission_error",
        "OperationalError",
        "(1045, \"Access denied for user 'x'@'h' (using password: YES)\")",
    ),
    (
        "network_error",
        "botocore.exceptions.ClientError",
        "An error occurred (SlowDown) when calling the PutObject operation (reached max retries: 4): Please reduce your request rate.",
    ),
    (
        "permission_error",
        "botocore.exceptions.ClientError",
        "An error occurred (UnrecognizedClientException) when calling the X operation: The security token included in the request is invalid.",
    ),
    (
        "logic_error",
        "botocore.exceptions.ClientError",
        "An error occurred (NoSuchKey) when calling the GetObject operation: The specified key does not exist.",
    ),
    (
        "network_error",
        "grpc._channel._InactiveRpcError",
        '<_InactiveRpcError of RPC that terminated with:\n\tstatus = StatusCode.UNAVAILABLE\n\tdetails = "failed to connect to all addresses"\n>',
    ),
    (
        "timeout_error",
        "grpc._channel._InactiveRpcError",
        '<_InactiveRpcError of RPC that terminated with:\n\tstatus = StatusCode.DEADLINE_EXCEEDED\n\tdetails = "Deadline Exceeded"\n>',
    ),
    (
        "network_error",
        "aiohttp.client_exceptions.ClientPayloadError",
        "Response payload is not completed: <ContentLengthError: 400, message='Not enough data'>",
    ),
    (
        "logic_error",
        "FileNotFoundError",
        "[Errno 2] No such file or directory: '/data/in.csv'",
    ),
    (
        "network_error",
        "requests.exceptions.ConnectionError",
        "HTTPSConnectionPool(host='api.x', port=443): Max retries exceeded with url: /v1/400 (Caused by NewConnectionError('<urllib3.connection.HTTPSConnection object at 0x7f>: Failed to establish a new connection: [Errno 111] Connection refused'))",
    ),
    (
        "network_error",
        "requests.exceptions.HTTPError",
        "503 Server Error: Service Unavailable for url: https://x",
    ),
    (
        "network_error",
        "requests.exceptions.HTTPError",
        "429 Client Error: Too Many Requests for url: https://x",
    ),
    (
        "logic_error",
        "requests.exceptions.HTTPError",
        "404 Client Error: Not Found for url: https://x/503",
    ),
    (
        "permission_error",
        "requests.exceptions.HTTPError",
        "403 Client Error: Forbidden for url: https://x",
    ),
    ("permission_error", "urllib.error.HTTPError", "HTTP Error 401: Unauthorized"),
    ("network_error", "urllib.error.HTTPError", "HTTP Error 502: Bad Gateway"),
    (
        "network_error",
        "httpx.HTTPStatusError",
        "Server error '503 Service Unavailable' for url 'https://x'",
    ),
    (
        "logic_error",
        "httpx.HTTPStatusError",
        "Client error '422 Unprocessable Entity' for url 'https://x'",
    ),
    (
        "network_error",
        "openai.RateLimitError",
        "Error code: 429 - {'error': {'message': 'Rate limit reached'}}",
    ),
    (
        "permission_error",
        "openai.AuthenticationError",
        "Error code: 401 - {'error': {'message': 'Incorrect API key provided'}}",
    ),
    (
        "logic_error",
        "openai.BadRequestError",
        "Error code: 400 - {'error': {'message': \"This model's maximum context length is 8192 tokens\"}}",
    ),
    (
        "network_error",
        "redis.exceptions.ConnectionError",
        "Error 111 connecting to localhost:6379. Connection refused.",
    ),
    (
        "network_error",
        "pymongo.errors.ServerSelectionTimeoutError",
        "localhost:27017: [Errno 111] Connection refused, Timeout: 30s",
    ),
    ("unknown", "RuntimeError", "503 rows were skipped"),
    ("unknown", "RuntimeError", "wrote 429 of 500 lines"),
    ("logic_error", "ValueError", "could not convert string to float: '503'"),
    ("logic_error", "KeyError", "'timeout'"),
    ("logic_error", "KeyError", "'connection refused'"),
    (
        "memory_error",
        "numpy._core._exceptions._ArrayMemoryError",
        "Unable to allocate 7.45 GiB for an array",
    ),
    ("memory_error", "RuntimeError", "CUDA out of memory. Tried to allocate 2.00 GiB"),
    (
        "system_error",
        "RuntimeError",
        "CUDA error: an illegal memory access was encountered",
    ),
    ("system_error", "OSError", "[Errno 28] No space left on device: '/tmp/x'"),
    (
        "system_error",
        "concurrent.futures.process.BrokenProcessPool",
        "A process in the process pool was terminated abruptly while the future was running or pending.",
    ),
    (
        "network_error",
        "google.api_core.exceptions.ServiceUnavailable",
        "503 The service is currently unavailable.",
    ),
    (
        "network_error",
        "google.api_core.exceptions.TooManyRequests",
        "429 Quota exceeded for quota metric",
    ),
    (
        "logic_error",
        "google.api_core.exceptions.NotFound",
        "404 Not found: Table p:d.t",
    ),
    (
        "permission_error",
        "google.api_core.exceptions.Forbidden",
        "403 Access Denied: Table x",
    ),
    (
        "network_error",
        "snowflake.connector.errors.OperationalError",
        "250001 (08001): Failed to connect to DB: x.snowflakecomputing.com:443",
    ),
    (
        "logic_error",
        "snowflake.connector.errors.ProgrammingError",
        "002003 (42S02): 01a: SQL compilation error: Object 'X' does not exist or not authorized.",
    ),
    (
        "network_error",
        "urllib3.exceptions.ProtocolError",
        "('Connection aborted.', RemoteDisconnected('Remote end closed connection without response'))",
    ),
    (
        "network_error",
        "http.client.RemoteDisconnected",
        "Remote end closed connection without response",
    ),
    (
        "network_error",
        "ssl.SSLEOFError",
        "EOF occurred in violation of protocol (_ssl.c:1006)",
    ),
    ("timeout_error", "selenium.common.exceptions.TimeoutException", "Message: \n"),
    (
        "timeout_error",
        "playwright._impl._errors.TimeoutError",
        "Page.click: Timeout 30000ms exceeded.",
    ),
    (
        "network_error",
        "playwright._impl._errors.Error",
        "Page.goto: net::ERR_CONNECTION_RESET at https://x",
    ),
    ("logic_error", "jinja2.exceptions.UndefinedError", "'x' is undefined"),
    (
        "logic_error",
        "pandas.errors.ParserError",
        "Error tokenizing data. C error: Expected 3 fields in line 503, saw 4",
    ),
    (
        "import_error",
        "OSError",
        "libGL.so.1: cannot open shared object file: No such file or directory",
    ),
    ("calculation_error", "numpy.linalg.LinAlgError", "Singular matrix"),
    (
        "system_error",
        "docker.errors.APIError",
        '409 Client Error for http+docker://localhost: Conflict ("Conflict. The container name is already in use")',
    ),
    (
        "network_error",
        "docker.errors.APIError",
        '500 Server Error for http+docker://localhost: Internal Server Error ("dial unix /var/run/docker.sock")',
    ),
    (
        "system_error",
        "psycopg2.errors.AdminShutdown",
        "terminating connection due to administrator command",
    ),
    (
        "timeout_error",
        "psycopg2.errors.QueryCanceled",
        "canceling statement due to statement timeout",
    ),
    (
        "timeout_error",
        "OperationalError",
        "canceling statement due to statement timeout",
    ),
    ("network_error", "psycopg.OperationalError", "the connection is lost"),
    ("network_error", "psycopg2.InterfaceError", "connection already closed"),
    (
        "network_error",
        "clickhouse_driver.errors.NetworkError",
        "Code: 210. Connection refused (db:9000)",
    ),
    ("network_error", "elasticsearch.ConnectionTimeout", "Connection timed out"),
    (
        "network_error",
        "azure.core.exceptions.ServiceRequestError",
        "<urllib3.connection.HTTPSConnection object at 0x7f>: Failed to resolve 'x'",
    ),
    (
        "permission_error",
        "azure.core.exceptions.ClientAuthenticationError",
        "(InvalidAuthenticationToken) The access token is invalid.",
    ),
    (
        "permission_error",
        "stripe.error.AuthenticationError",
        "Invalid API Key provided",
    ),
    (
        "network_error",
        "twilio.base.exceptions.TwilioRestException",
        "HTTP 429 error: Unable to create record: Too Many Requests",
    ),
    ("network_error", "socket.timeout", "timed out"),
    (
        "network_error",
        "smtplib.SMTPServerDisconnected",
        "Connection unexpectedly closed",
    ),
    (
        "network_error",
        "paramiko.ssh_exception.SSHException",
        "Error reading SSH protocol banner",
    ),
    ("network_error", "ftplib.error_temp", "421 Too many connections (8) from this IP"),
    (
        "logic_error",
        "UnicodeDecodeError",
        "'utf-8' codec can't decode byte 0xff in position 503: invalid start byte",
    ),
    ("logic_error", "zipfile.BadZipFile", "File is not a zip file"),
]
#: The exit code of a program, and its last words.
ENDED = [
    (
        "permission_error",
        2,
        'psql: error: connection to server on socket failed: FATAL:  password authentication failed for user "x"',
    ),
    ("logic_error", 1, 'ERROR:  relation "users" does not exist\nLINE 1: select 503'),
    ("system_error", 1, "ERROR:  deadlock detected\nDETAIL:  Process 1 waits"),
    (
        "network_error",
        1,
        "ERROR 2002 (HY000): Can't connect to local MySQL server through socket '/var/run/mysqld/mysqld.sock' (2)",
    ),
    ("logic_error", 1, "ERROR 1146 (42S02) at line 1: Table 'a.b' doesn't exist"),
    (
        "permission_error",
        1,
        "ERROR 1045 (28000): Access denied for user 'root'@'localhost'",
    ),
    (
        "network_error",
        1,
        "fatal: unable to access 'https://github.com/x/y/': Could not resolve host: github.com",
    ),
    ("network_error", 255, "ssh: connect to host x port 22: Connection timed out"),
    ("permission_error", 255, "git@github.com: Permission denied (publickey)."),
    ("network_error", 22, "curl: (22) The requested URL returned error: 503"),
    ("logic_error", 22, "curl: (22) The requested URL returned error: 404"),
    ("permission_error", 22, "curl: (22) The requested URL returned error: 403"),
    (
        "network_error",
        1,
        "Unable to connect to the server: dial tcp 10.0.0.1:443: i/o timeout",
    ),
    (
        "permission_error",
        1,
        'Error from server (Forbidden): pods is forbidden: User "x" cannot list resource',
    ),
    ("logic_error", 1, 'Error from server (NotFound): pods "x" not found'),
    (
        "network_error",
        1,
        "rsync: connection unexpectedly closed (0 bytes received so far) [receiver]",
    ),
    ("system_error", 1, "Error: Error acquiring the state lock"),
    ("network_error", 1, "Error: ThrottlingException: Rate exceeded"),
    (
        "network_error",
        1,
        "2024/05/02 panic: dial tcp: lookup db on 127.0.0.11:53: server misbehaving",
    ),
    (
        "network_error",
        1,
        "Error: connect ECONNREFUSED 127.0.0.1:5432\n    at TCPConnectWrap.afterConnect [as oncomplete] (node:net:1595:16)",
    ),
    (
        "network_error",
        1,
        "thread 'main' panicked at src/main.rs:10:5:\ncalled `Result::unwrap()` on an `Err` value: Os { code: 111, kind: ConnectionRefused, message: \"Connection refused\" }",
    ),
    (
        "system_error",
        101,
        "thread 'main' panicked at src/main.rs:10:5:\ncalled `Result::unwrap()` on an `Err` value: Os { code: 28, kind: StorageFull, message: \"No space left on device\" }",
    ),
    (
        "logic_error",
        101,
        "thread 'main' panicked at src/main.rs:10:5:\nindex out of bounds: the len is 3 but the index is 503",
    ),
    (
        "network_error",
        1,
        'upload failed: ./x to s3://b/x Could not connect to the endpoint URL: "https://b.s3.amazonaws.com/x"',
    ),
    (
        "permission_error",
        255,
        "An error occurred (ExpiredToken) when calling the ListObjectsV2 operation: The provided token has expired.",
    ),
    (
        "network_error",
        254,
        "An error occurred (ThrottlingException) when calling the DescribeLogGroups operation (reached max retries: 2): Rate exceeded",
    ),
    (
        "logic_error",
        254,
        "An error occurred (ValidationException) when calling the PutItem operation: timeout must be less than 503",
    ),
    (
        "permission_error",
        1,
        "ERROR: (gcloud.storage.cp) PERMISSION_DENIED: x does not have storage.objects.get access",
    ),
    (
        "network_error",
        1,
        "ERROR: (gcloud.run.deploy) UNAVAILABLE: The service is currently unavailable.",
    ),
    (
        "network_error",
        1,
        "error: RPC failed; curl 56 GnuTLS recv error (-54): Error in the pull function.",
    ),
    (
        "network_error",
        1,
        "wget: server returned error: HTTP/1.1 503 Service Unavailable",
    ),
    (
        "network_error",
        4,
        "--2024-- Connecting to x|1.2.3.4|:443... failed: Connection timed out.",
    ),
    ("network_error", 1, "kex_exchange_identification: read: Connection reset by peer"),
    (
        "system_error",
        1,
        "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 3",
    ),
    ("system_error", 1, "fatal: Unable to create '/r/.git/index.lock': File exists."),
    ("timeout_error", 1, "error: timed out waiting for the condition on deployments/x"),
    ("system_error", 1, "0/3 nodes are available: 3 Insufficient cpu."),
    ("unknown", 1, "processed 503 rows, 429 skipped"),
]


def _full():
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


EVERY = [(name, word) for name, made_by in CASES.items() for word in made_by]


@pytest.mark.parametrize(("name", "word"), EVERY)
def test_what_a_driver_says(name, word):
    """It is judged by what happened, not by a name or a bare number."""
    found = classify(CASES[name][word]())
    assert found.name == name, found


@pytest.mark.parametrize(("name", "kind", "message"), TOLD)
def test_what_is_told_of_an_error(name, kind, message):
    """Only texts are left of it, and they say the same."""
    error = TaskFailedError(message, type=kind)
    assert classify(error).name == name, classify(error)


@pytest.mark.parametrize(("name", "code", "text"), ENDED)
def test_what_programs_say_of_services(name, code, text):
    """In the words of command lines of databases, clouds and networks."""
    error = ProgramFailedError(f"it exited with {code}")
    error.result = ProgramResult(("x",), code, "", text, None, 1.0)
    assert classify(error).name == name, classify(error)
    called = subprocess.CalledProcessError(code, ["x"], stderr=text.encode())
    assert classify(called).name == name, classify(called)


def test_what_a_repeat_helps_is_not_given_up():
    """Of all these, not one; what is not mended by it is repeated once at the most."""
    found = [
        *((name, classify(CASES[name][word]()), word) for name, word in EVERY),
        *((n, classify(TaskFailedError(m, type=k)), k) for n, k, m in TOLD),
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
