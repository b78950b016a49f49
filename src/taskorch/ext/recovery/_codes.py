"""
Error codes of databases and services, and the class of failures of each.

SQLSTATEs, numbers of MySQL, SQLite and MongoDB, codes of AWS, of gRPC and of SMTP. They
are read from an error's attributes, or from its text if there is no more.

Decision: failures-and-recovery.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeAlias

#: A class of failures, and the code that indicates it.
ByCode: TypeAlias = tuple[str, str]
#: Returns the class of the failure that a code in a text means.
Meaning: TypeAlias = Callable[[str], ByCode | None]


def by_code(error: BaseException) -> ByCode | None:
    """Return the class by the codes of *error*; None: no code tells it."""
    for reader in _READERS:
        judged = reader(error, type(error).__module__.partition(".")[0])
        if judged is not None:
            return judged
    return None


def by_told_code(name: str, message: str) -> ByCode | None:
    """Do as `by_code` for an error of which only class *name* and text are known."""
    wrapped = _WRAPPED.match(message)
    if wrapped is not None:
        # SQLAlchemy wraps the error of its driver in this form.
        name, message = wrapped.groups()
    word = name.rpartition(".")[2]
    state = _CONDITIONS.get(word) or _CONDITIONS.get(word.removesuffix("Error"))
    if state is not None:
        return _of_state(state)
    for pattern, mean in _TOLD:
        match = pattern.search(message)
        if match is not None:
            return mean(match[1])
    for names, pattern, mean in _TOLD_FIRST:
        match = pattern.match(message) if names.match(word) else None
        if match is not None:
            return mean(match[1])
    return None


def _of_reply(reply: int | str) -> ByCode:
    """Return the class of an SMTP or FTP reply: one below 500 is transient."""
    status = int(reply)
    name = "network_error" if status < 500 else "logic_error"  # noqa: PLR2004 - RFC 5321
    return "permission_error" if status in _NO_LOGIN else name, f"reply {status}"


# -- reading them off an error -------------------------------------------------------


def _read_state(error: BaseException, _: str) -> ByCode | None:
    for word in ("sqlstate", "pgcode"):
        state = getattr(error, word, None)
        judged = _of_state(state) if isinstance(state, str) else None
        if judged is not None:
            return judged
    # ODBC gives the state, and a text that begins with it.
    first = _argument(error)
    if isinstance(first, str) and _STATE.fullmatch(first):
        text = str(error.args[-1])
        return _of_state(first, text) if text.startswith(f"[{first}]") else None
    return None


def _read_sqlite(error: BaseException, _: str) -> ByCode | None:
    code = getattr(error, "sqlite_errorcode", None)
    if type(code) is not int:
        return None
    # An extended code has the primary one in its lowest byte.
    name = _BY_SQLITE.get(code & 0xFF)
    return None if name is None else (name, f"code {code} of SQLite")


def _read_mysql(error: BaseException, room: str) -> ByCode | None:
    if room not in _ROOMS_OF_MYSQL:
        return None
    number = getattr(error, "errno", None)
    number = _argument(error) if number is None else number
    return _of_mysql(number) if type(number) is int else None


def _read_aws(error: BaseException, _: str) -> ByCode | None:
    response = getattr(error, "response", None)
    body = response.get("Error") if isinstance(response, dict) else None
    code = body.get("Code") if isinstance(body, dict) else None
    return _of_aws(code) if isinstance(code, str) else None


def _read_grpc(error: BaseException, _: str) -> ByCode | None:
    for word in ("grpc_status_code", "code"):
        code: Any = getattr(error, word, None)
        if word == "code" and callable(code) and hasattr(error, "details"):
            code = code()
        name = getattr(code, "name", None)
        if type(code).__name__ == "StatusCode" and isinstance(name, str):
            return _of_grpc(name)
    return None


def _read_mongo(error: BaseException, room: str) -> ByCode | None:
    if room not in ("pymongo", "motor", "mongoengine"):
        return None
    code = getattr(error, "code", None)
    name = _BY_MONGO.get(code) if type(code) is int else None
    return None if name is None else (name, f"code {code} of MongoDB")


def _read_smtp(error: BaseException, _: str) -> ByCode | None:
    code = getattr(error, "smtp_code", None)
    if type(code) is not int:
        return None
    return _of_reply(code) if 400 <= code <= 599 else None  # noqa: PLR2004 - RFC 5321


def _argument(error: BaseException) -> Any:
    return error.args[0] if error.args else None


_READERS: Final = (
    *(_read_state, _read_sqlite, _read_mysql, _read_aws, _read_grpc),
    *(_read_mongo, _read_smtp),
)


# -- what they mean -----------------------------------------------------------------


def _of_state(state: str, text: str = "") -> ByCode | None:
    # ODBC's general class has no meaning, and it reports a missing driver as a warning.
    if "can't open lib" in text.lower():
        return "import_error", f"SQLSTATE {state}"
    name = _BY_STATE.get(state) or _BY_STATE.get(state[:2])
    return None if name is None else (name, f"SQLSTATE {state}")


def _of_mysql(number: int | str) -> ByCode | None:
    name = _BY_MYSQL.get(int(number))
    return None if name is None else (name, f"error {number} of MySQL")


def _of_aws(code: str) -> ByCode | None:
    for name, words in _BY_AWS:
        if re.search(words, code):
            return name, f"{code} of AWS"
    return None


def _of_grpc(name: str) -> ByCode | None:
    kind = _BY_GRPC.get(name)
    return None if kind is None else (kind, f"{name} of gRPC")


def each(table: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield each word of a table of words by class, and its class."""
    for name, words in table.items():
        for word in words.split():
            yield word, name


#: Classes of failures by SQLSTATE, or its class, the first two letters. Sources:
#: PostgreSQL's *Error
#: Codes*, which has those of the standard; ODBC's *Appendix A*.
_BY_STATE: Final[Mapping[str, str]] = dict(
    each(
        {
            "network_error": "08 57P05",
            "permission_error": "28 42501 25006 0P 0L",
            "system_error": "40 53 55 58 XX 57 72",
            "memory_error": "53200 HY001 HY013",
            "timeout_error": "57014 25P03 25P04 HYT00 HYT01 HY008",
            "calculation_error": "22003 22012 2201E 2201F 2201G",
            "import_error": "IM",
            "logic_error": "0A 0B 0F 0Z 10 20 21 22 23 24 25 26 27 2B 2D 2F 34 38 39 "
            "3B 3D 3F 42 44 54 55000 55P02 55P04 57P04 F0 HV P0 S0 07 09",
        }
    )
)
#: PostgreSQL's names for some of them, by which drivers name error classes.
_CONDITIONS: Final[Mapping[str, str]] = {
    "ConnectionException": "08000",
    "ConnectionDoesNotExist": "08003",
    "ConnectionFailure": "08006",
    "InvalidPassword": "28P01",
    "InvalidAuthorizationSpecification": "28000",
    "InsufficientPrivilege": "42501",
    "ReadOnlySqlTransaction": "25006",
    "ReadOnlySQLTransaction": "25006",
    "SerializationFailure": "40001",
    "Serialization": "40001",
    "DeadlockDetected": "40P01",
    "TransactionRollback": "40000",
    "StatementCompletionUnknown": "40003",
    "DiskFull": "53100",
    "OutOfMemory": "53200",
    "TooManyConnections": "53300",
    "LockNotAvailable": "55P03",
    "ObjectInUse": "55006",
    "QueryCanceled": "57014",
    "AdminShutdown": "57P01",
    "CrashShutdown": "57P02",
    "CannotConnectNow": "57P03",
    "IdleInTransactionSessionTimeout": "25P03",
    "IdleSessionTimeout": "57P05",
    "NumericValueOutOfRange": "22003",
    "DivisionByZero": "22012",
    "InvalidTextRepresentation": "22P02",
    "StringDataRightTruncation": "22001",
    "NotNullViolation": "23502",
    "ForeignKeyViolation": "23503",
    "UniqueViolation": "23505",
    "CheckViolation": "23514",
    "ExclusionViolation": "23P01",
    "InFailedSqlTransaction": "25P02",
    "InFailedSQLTransaction": "25P02",
    "InvalidCatalogName": "3D000",
    "UndefinedTable": "42P01",
    "UndefinedColumn": "42703",
    "UndefinedFunction": "42883",
    "UndefinedObject": "42704",
    "DuplicateTable": "42P07",
    "AmbiguousColumn": "42702",
    "DatatypeMismatch": "42804",
}
#: Classes of failures by primary result code. Source: sqlite.org, *Result and Error
#: Codes*.
_BY_SQLITE: Final[Mapping[int, str]] = {
    **dict.fromkeys((2, 4, 5, 6, 9, 10, 11, 13, 14, 15, 17, 22), "system_error"),
    **dict.fromkeys((3, 8, 23), "permission_error"),
    **dict.fromkeys((1, 18, 19, 20, 21, 25, 26), "logic_error"),
    7: "memory_error",
}
_ROOMS_OF_MYSQL: Final = frozenset(
    {"pymysql", "MySQLdb", "_mysql_exceptions", "mysql", "aiomysql", "asyncmy"}
)
#: Sources: MySQL's *Server Error* and *Client Error Message Reference*.
_BY_MYSQL: Final[Mapping[int, str]] = {
    int(word): name
    for word, name in each(
        {
            "network_error": "1042 1043 1047 1077 1081 1129 1152 1158 1159 1160 1161 "
            "1184 1189 1190 1927 2001 2002 2003 2004 2005 2006 2012 2013 2026 2055",
            "permission_error": "1044 1045 1130 1142 1143 1227 1251 1290 1370 1396 "
            "1410 1419 1698 1820 1836 1862 2049 2059 3118",
            "system_error": "1020 1021 1028 1040 1053 1079 1080 1114 1135 1180 1203 "
            "1205 1206 1213 1226 1613 1614 1637 3101 3572",
            "memory_error": "1037 1038 1041 2008",
            "timeout_error": "1317 1907 3024",
            "calculation_error": "1264 1365 1690",
            "logic_error": "1046 1048 1049 1050 1051 1052 1054 1060 1061 1062 1064 "
            "1065 1071 1072 1091 1093 1106 1109 1136 1146 1149 1153 1169 1172 1215 "
            "1216 1217 1222 1241 1242 1265 1292 1305 1318 1364 1366 1367 1406 1411 "
            "1451 1452 1525 1557 1586 2014 3140 3819",
        }
    )
}
#: Source: the lists by which botocore tries again, and AWS's *Common Errors*.
_BY_AWS: Final = (
    (
        "network_error",
        (
            r"Throttl|TooManyRequests|RequestLimitExceeded|BandwidthLimit|SlowDown"
            r"|ProvisionedThroughput|LimitExceededException|PriorRequestNotComplete"
            r"|Unavailable|Internal(?:Error|Failure|Server)|RequestTimeout(?!TooSkewed)"
        ),
    ),
    (
        "system_error",
        r"Transaction(?:Conflict|InProgress)|Insufficient\w*Capacity|OperationAborted",
    ),
    (
        "permission_error",
        (
            r"AccessDenied|Unauthorized|ExpiredToken|RequestExpired|TokenRefreshRequired"
            r"|InvalidClientTokenId|UnrecognizedClient|Signature|InvalidAccessKeyId"
            r"|AuthFailure|OptInRequired|MissingAuthenticationToken|NotAuthorized"
            r"|AuthorizationError|InvalidToken|TooSkewed|AllAccessDisabled"
        ),
    ),
    (
        "logic_error",
        (
            r"NotFound|NoSuch|Invalid|Validation|Malformed|Missing|AlreadyExists|InUse"
            r"|ConditionalCheckFailed|Unsupported"
        ),
    ),
)
#: Source: grpc.io, *Status codes*.
_BY_GRPC: Final[Mapping[str, str]] = dict(
    each(
        {
            "network_error": "UNAVAILABLE RESOURCE_EXHAUSTED",
            "system_error": "ABORTED CANCELLED INTERNAL DATA_LOSS",
            "timeout_error": "DEADLINE_EXCEEDED",
            "permission_error": "PERMISSION_DENIED UNAUTHENTICATED",
            "logic_error": "INVALID_ARGUMENT NOT_FOUND ALREADY_EXISTS OUT_OF_RANGE "
            "FAILED_PRECONDITION UNIMPLEMENTED",
        }
    )
)
#: Source: MongoDB's `error_codes.yml`, and its rules for writes that may be repeated.
_BY_MONGO: Final[Mapping[int, str]] = {
    **dict.fromkeys((6, 7, 89, 91, 189, 9001, 10107), "network_error"),
    **dict.fromkeys((11600, 11602, 13435, 13436), "network_error"),
    **dict.fromkeys((8000, 11, 13, 18), "permission_error"),
    **dict.fromkeys((50, 202, 262), "timeout_error"),
    **dict.fromkeys((24, 112, 246, 251), "system_error"),
    **dict.fromkeys((2, 9, 14, 26, 48, 121, 11000), "logic_error"),
    146: "memory_error",
}
#: Replies that refuse a login. Source: RFC 4954; RFC 959 has 530, too.
_NO_LOGIN: Final = frozenset({530, 534, 535, 538})
_STATE: Final = re.compile(r"(?=[A-Z]{0,4}\d)[0-9A-Z]{5}")
_WRAPPED: Final = re.compile(r"\(((?:\w{1,80}\.){1,8}\w{1,80})\) ([^\0]{0,4000})")
#: Codes anywhere in a text, of any program.
_TOLD: Final[tuple[tuple[re.Pattern[str], Meaning], ...]] = (
    (
        re.compile(r"\bSQLSTATE[ :=]{0,3}[\[(]?(?=[A-Z]{0,4}\d)([0-9A-Z]{5})\b"),
        _of_state,
    ),
    (re.compile(r"An error occurred \((\w{1,100})\) when calling"), _of_aws),
    (re.compile(r"\bStatusCode\.([A-Z_]{1,40})\b"), _of_grpc),
)
_OF_DATABASES: Final = re.compile(
    r"(?:Operational|Programming|Integrity|Data|Internal|Interface|Database|NotSupported)?"
    r"Error$"
)
#: Codes at the start of a text, by names of error classes.
_TOLD_FIRST: Final[tuple[tuple[re.Pattern[str], re.Pattern[str], Meaning], ...]] = (
    (
        re.compile(r"SMTP|error_temp|error_perm"),
        re.compile(r"\(?([45]\d\d)\b"),
        _of_reply,
    ),
    (
        _OF_DATABASES,
        re.compile(r"\(?['\[](?=[A-Z]{0,4}\d)([0-9A-Z]{5})['\]]"),
        _of_state,
    ),
    (
        _OF_DATABASES,
        re.compile(r"\(?(\d{4})(?: \([0-9A-Z]{5}\))?[,:]"),
        _of_mysql,
    ),
)
