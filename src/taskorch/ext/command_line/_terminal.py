"""Arguments of commands, and output for people and for programs."""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TextIO

from taskorch.api._settings.configuration import TOKEN_VARIABLE
from taskorch.errors import InvalidTaskError, TaskorchError
from taskorch.kit.interrupts import interrupt
from taskorch.kit.people import NAMED_TOKEN
from taskorch.kit.plain import plain, taken_apart
from taskorch.kit.visible import cut, visible, width
from taskorch.kit.words import in_a_line
from taskorch.model import TaskStatus

_LINE: Final = "%(asctime)s.%(msecs)03dZ %(levelname)s %(message)s"
_UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
#: The space between the columns of a table.
_GAP: Final = "  "
#: The least width of a last column that is worth its place.
_NARROW: Final = 20
#: Colours by word.
_COLOURS: Final = {
    "completed": "32",
    "ok": "32",
    "failed": "31",
    "error": "31",
    "warning": "33",
    "blocked": "33",
    "running": "36",
}


def add_journal(parser: argparse.ArgumentParser, *, services: bool = False) -> None:
    """Add the argument for the journal or service of a command."""
    parser.add_argument(
        "journal",
        metavar="JOURNAL|URL" if services else "JOURNAL",
        help="the file, or the address: runs.db, postgresql://…"
        + f"; or a service: http://127.0.0.1:8080, whose token is in {TOKEN_VARIABLE}"
        * services,
    )


def token_of_environment(*, keep: bool = True) -> str | None:
    """
    Return the token in the environment; an empty one is none.

    Without *keep*, it is removed from the environment, so that child processes do not
    get it.
    """
    token = os.environ.get(TOKEN_VARIABLE)
    if not keep:
        os.environ.pop(TOKEN_VARIABLE, None)
    return token or None


def proves_name(place: str) -> bool:
    """Return whether the token of the environment names who acts in a *place*."""
    token = token_of_environment() or ""
    return is_url(place) and token.startswith(f"{NAMED_TOKEN}_")


def signature(place: str) -> str:
    """Return the option for the caller's name in a command about a *place*."""
    return "" if proves_name(place) else " --by NAME"


def in_commands(text: str, place: str) -> str:
    """Return *text* with commands about a *place* instead of calls."""
    from taskorch.api.verbs.remedies import in_commands as say  # noqa: PLC0415 - few need it

    return say(text, place, is_known=proves_name(place))


def is_url(place: str) -> bool:
    """Return whether *place* names a service, and not a journal."""
    return place.startswith(("http://", "https://"))


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add the option for JSON that every command has."""
    parser.add_argument(
        "--json", action="store_true", help="write JSON, for other programs"
    )


def add_traceback(parser: argparse.ArgumentParser) -> None:
    """Add the option of commands that report failures."""
    parser.add_argument(
        "--traceback", action="store_true", help="show the whole traceback of failures"
    )


def add_allow(parser: argparse.ArgumentParser) -> None:
    """Add the option for the tools of MCP that may change something."""
    parser.add_argument(
        "--allow",
        type=lambda text: [each for each in re.split(r"[,\s]+", text) if each],
        default=[],
        metavar="TOOL,…",
        help="tools of MCP that may change something: submit, answer, cancel, rerun, "
        "hold, release, reprioritise; by default there are none",
    )


def tracebacks(status: TaskStatus) -> list[str]:
    """Return the lines of all tracebacks of a task, the latest last."""
    from taskorch.kit.raised import told_trace  # noqa: PLC0415 - seldom asked

    errors = {f"attempt {n}": error for n, error in status.earlier_errors.items()}
    if status.error is not None:
        errors[f"attempt {status.attempts}" if errors else ""] = status.error
    lines: list[str] = []
    for name, error in errors.items():
        lines += [f"{name}:"] if name else []
        lines += map(visible, told_trace(error).splitlines())
    return lines


def print_json(value: Any) -> None:
    """Print *value* on one line."""
    print(json.dumps(plain(taken_apart(value)), ensure_ascii=True), flush=True)


def tell(args: argparse.Namespace, document: Any, *lines: str) -> None:
    """Print *document* where JSON is asked for, and *lines* elsewhere."""
    if args.json:
        print_json(document)
    elif lines:
        print("\n".join(lines), flush=True)


def is_terminal() -> bool:
    """Return whether standard output is a terminal that shows changes."""
    # A process may have been started without a standard output.
    stream: TextIO | None = sys.stdout
    if stream is None or not stream.isatty():
        return False
    return os.environ.get("TERM") != "dumb"


def is_agreed(why: str, hint: str) -> bool:
    """
    Ask a person at the terminal, and return whether they agree; no answer is no.

    Args:
        why: The effect that nobody can undo.
        hint: The way to do it without a question.

    Raises:
        InvalidTaskError: There is nobody to be asked.
    """
    stream: TextIO | None = sys.stdin
    if stream is None or not stream.isatty():
        msg = f"nobody is here to be asked, and {why}"
        raise InvalidTaskError(msg, hint=hint)
    print("Go on? [y/N] ", end="", file=sys.stderr, flush=True)
    return stream.readline().strip().lower() in ("y", "yes")


def coloured(word: str, text: str | None = None) -> str:
    """Return *text*, or *word* itself, in the colour of *word*, if there are any."""
    text = word if text is None else text
    colour = _COLOURS.get(word)
    if colour is None or os.environ.get("NO_COLOR") or not is_terminal():
        return text
    return f"\x1b[{colour}m{text}\x1b[0m"


def line(text: str) -> str:
    """Return *text* of a task or user on one line, without control characters."""
    return visible(in_a_line(text.strip()))


def error_line(error: Mapping[str, Any] | None) -> str:
    """Return an error of a document, for a line; "" for None."""
    if error is None:
        return ""
    return f"{error['type']}: {error['message']}".removesuffix(": ")


def cause_of(status: TaskStatus) -> str:
    """Return the error of a task, without its id."""
    error = status.error
    if error is None:
        return ""
    if not isinstance(error, TaskorchError):
        return f"{type(error).__name__}: {error}".removesuffix(": ")
    task = f"task {status.task_id}"
    text = error.message.partition(f" ({task})")[0]
    text = text.removeprefix(f"{task} ")
    return text.removeprefix("raised ").removeprefix(f"is {status.state}: ")


def size(number: int) -> str:
    """Return *number* of bytes in words."""
    if number < 1 << 20:
        return f"{number / 2**10:,.0f} KiB"
    return f"{number / 2**20:,.1f} MiB"


def moment(at: datetime | float | None) -> str:
    """Return a time in UTC, or in seconds since 1970, for a column; "" for None."""
    if isinstance(at, int | float):
        at = datetime.fromtimestamp(at, UTC)
    return "" if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def utc(at: datetime | float | None) -> str:
    """Return the same with its zone."""
    return "" if at is None else f"{moment(at)} UTC"


def clock(at: datetime | float) -> str:
    """Return the time of the day in UTC, to the millisecond."""
    when = datetime.fromtimestamp(at, UTC) if isinstance(at, int | float) else at
    return f"{when:%H:%M:%S.%f}"[:-3]


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], indent: str = "") -> str:
    """
    Return *rows* in columns; the caller has made control characters visible.

    In a terminal, the last column is cut to its width.
    """
    lines = [list(heads), *map(list, rows)]
    widths = [max(map(width, column)) for column in zip(*lines, strict=True)]
    before = sum(widths[:-1]) + len(_GAP) * (len(widths) - 1) + len(indent)
    room = None
    if is_terminal():
        room = max(shutil.get_terminal_size().columns - before, _NARROW)
    texts: list[str] = []
    for cells in lines:
        *first, last = cells
        padded = [
            coloured(cell) + " " * (most - width(cell))
            for cell, most in zip(first, widths, strict=False)
        ]
        if room is not None and width(last) > room:
            last = f"{cut(last, room - 1)}…"
        texts.append(f"{indent}{_GAP.join([*padded, coloured(last)])}".rstrip())
    return "\n".join(texts)


def table_of_steps(steps: Iterable[Mapping[str, Any]], indent: str = "") -> str:
    """Return a table of the steps of a task, with times and results."""
    rows = [
        (clock(datetime.fromisoformat(step["began"])), line(step["text"]))
        for step in steps
    ]
    return table(("time (UTC)", "step"), rows, indent)


def fields(pairs: Mapping[str, str], indent: str = "  ") -> str:
    """Return names and values, one on a line, without empty ones."""
    shown = {name: value for name, value in pairs.items() if value}
    most = max(map(len, shown), default=0)
    return "\n".join(f"{indent}{name:{most}}  {value}" for name, value in shown.items())


def seconds(text: str) -> float:
    """
    Read a time as it is typed: `90`, `90s`, `1h30m`, `30d`.

    Raises:
        argparse.ArgumentTypeError: It is no time.
    """
    try:
        return float(text) if float(text) >= 0 else _no_time(text)
    except ValueError:
        parts = _PART.findall(text)
        if not parts or "".join(a + b for a, b in parts) != text:
            return _no_time(text)
        return sum(float(number) * _UNITS[unit] for number, unit in parts)


def _no_time(text: str) -> float:
    msg = f"{text!r} is no time: write 90s, 15m, 1h30m or 30d"
    raise argparse.ArgumentTypeError(msg)


def since(text: str) -> float | datetime:
    """
    Read a moment: a time ago, or a date, which is local if it has no zone.

    Raises:
        argparse.ArgumentTypeError: It is neither.
    """
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError:
        return seconds(text)


def add_at(parser: argparse.ArgumentParser) -> None:
    """Add the option of commands that read a journal as it was."""
    parser.add_argument(
        "--at",
        type=_event_or_moment,
        metavar="EVENT|TIME",
        help="as of the event of this number, a date, or so long ago: 2h",
    )


def _event_or_moment(text: str) -> int | datetime:
    if text.isdecimal():
        return int(text)
    moment = since(text)
    if isinstance(moment, datetime):
        return moment
    now = time.time()  # noqa: TID251 - what was asked for is before it
    return datetime.fromtimestamp(now - moment, UTC)


def tell_left_out(reader: Any) -> None:
    """Warn that an earlier state of a journal may be incomplete, if it may."""
    if getattr(reader, "until", None) is not None and reader.has_left_out:
        text = "Retention has left out some tasks since: they are not counted here."
        print(text, file=sys.stderr)


def log_format() -> logging.Formatter:
    """Return the format of log lines of services and workers."""
    formatter = logging.Formatter(_LINE, "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    return formatter


@contextmanager
def on_signals(handle: Callable[[int, Any], object], *numbers: int) -> Iterator[None]:
    """Call *handle* in the block when one of these signals comes."""
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, each in before.items():
            signal.signal(number, each)


@contextmanager
def interrupted_at_sigterm() -> Iterator[list[int]]:
    """Let SIGTERM interrupt the block as Ctrl-C does; yield the list of those."""
    came: list[int] = []

    def note(number: int, _frame: object) -> None:
        came.append(number)
        interrupt()

    with on_signals(note, signal.SIGTERM):
        yield came


@contextmanager
def asked_by_sigterm() -> Iterator[threading.Event]:
    """Yield an event that SIGTERM sets; a second one interrupts, as Ctrl-C does."""
    asked = threading.Event()

    def ask(*_: object) -> None:
        if asked.is_set():
            interrupt()
        asked.set()

    with on_signals(ask, signal.SIGTERM):
        yield asked


def pairs(texts: Iterable[str]) -> dict[str, Any]:
    """
    Read `NAME=VALUE` of each text; a value is JSON, or else a text.

    Raises:
        InvalidTaskError: One is none.
    """
    return {name: value_of(text) for name, text in map(_named, texts)}


def value_of(text: str) -> Any:
    """Return the value of a JSON text; any other text is itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _named(text: str, option: str = "") -> tuple[str, str]:
    """Return the name and the text behind it of `NAME=VALUE`."""
    name, sign, value = text.partition("=")
    if not name or not sign:
        msg = f"{option}{text!r} says no value"
        raise InvalidTaskError(msg, hint=f"write {option}NAME=VALUE")
    return name, value


def add_parameter(parser: argparse.ArgumentParser, of: str = "") -> None:
    """Add `--parameter`, for the values of parameters."""
    parser.add_argument(
        "--parameter",
        dest="parameters",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help=f"{of}the value of a parameter; may be repeated",
    )


def parameters_of(texts: Iterable[str]) -> dict[str, str]:
    """
    Read `NAME=VALUE` of each text; values are texts.

    Raises:
        InvalidTaskError: One has no `=`, or a name is there twice.
    """
    values: dict[str, str] = {}
    for text in texts:
        name, value = _named(text, "--parameter ")
        if name in values:
            msg = f"--parameter {name} stands there twice"
            raise InvalidTaskError(msg, hint="say it once")
        values[name] = value
    return values


def read_json(name: str, hint: str = "") -> Any:
    """
    Read a file of JSON; `-` is standard input.

    Raises:
        InvalidTaskError: It has none.
        OSError: It cannot be read.
    """
    text = sys.stdin.read() if name == "-" else Path(name).read_bytes()
    try:
        return json.loads(text)
    except ValueError as error:
        msg = f"{name} is no JSON: {error}"
        raise InvalidTaskError(msg, hint=hint) from error


def port(text: str) -> int:
    """Return the port that an argument names; 0 is a free one."""
    if text.isascii() and text.isdigit() and int(text[:6]) < 1 << 16:
        return int(text)
    msg = f"{text!r} is no port"
    raise argparse.ArgumentTypeError(msg)


#: The default address of a service.
LISTEN: Final = "127.0.0.1"


def add_listen(parser: argparse.ArgumentParser) -> None:
    """Add the address at which a service listens."""
    parser.add_argument(
        "--listen",
        metavar="ADDRESS",
        default=LISTEN,
        help="the address of this machine that it listens on (127.0.0.1); others reach "
        "0.0.0.0, by a name of --host, and need a token",
    )
    parser.add_argument(
        "--host",
        action="append",
        metavar="NAME",
        help="a name by which it may be called, besides those of this machine",
    )


def hosts_of(args: argparse.Namespace) -> list[str]:
    """Return the names by which a service may be called."""
    from taskorch.ext.service._guard import names_at  # noqa: PLC0415

    return names_at(args.listen, args.host or ())


def tell_listening(args: argparse.Namespace, *ports: int) -> None:
    """Print who may call a service that others reach, and the token."""
    if args.listen in ("localhost", "::1") or args.listen.startswith("127."):
        return
    at = ", ".join(f"{args.listen} port {number}" for number in ports)
    names = ", ".join(hosts_of(args))
    text = f"it listens on {at}, is called {names}, and what is sent is not encrypted"
    print(f"taskorch: {text}: in a network of others, use TLS", file=sys.stderr)


def token_of(args: argparse.Namespace) -> tuple[str | None, bool]:
    """Return the needed token, or None, and whether it was made here."""
    from taskorch.ext.service import new_token  # noqa: PLC0415

    preset = token_of_environment(keep=False)
    if args.no_token and preset is not None:
        msg = f"--no-token, and a token in {TOKEN_VARIABLE}: which of them?"
        raise InvalidTaskError(msg)
    if args.no_token and args.tokens is not None:
        msg = "--no-token, and a file of tokens: which of them?"
        raise InvalidTaskError(msg)
    if args.no_token or (args.tokens is not None and preset is None):
        return None, False
    return (new_token(), True) if preset is None else (preset, False)


def tell_served(
    args: argparse.Namespace, name: str, server: Any, token: str | None, *, is_new: bool
) -> None:
    """Print where a service with a dashboard is, and the token if it was made here."""
    # In a terminal, the address of the dashboard has the code for signing in.
    server.token = token if is_new or is_terminal() else None
    print(f"{name}: {server.url}")
    tell_listening(args, server.port)
    print(f"page: {server.page}")
    if is_new:
        print(f"token: {token}")
    sys.stdout.flush()


@contextmanager
def logged(level: str) -> Iterator[None]:
    """Write the log from *level* on to standard error, in the block."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(log_format())
    log = logging.getLogger("taskorch")
    before = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(level)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before[0])
        log.propagate = before[1]
