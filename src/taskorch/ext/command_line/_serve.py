"""`taskorch serve`: a test suite as a service, or a journal to look at."""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

from taskorch.api._settings.configuration import TOKEN_VARIABLE
from taskorch.errors import InvalidTaskError
from taskorch.ext.command_line import OK
from taskorch.ext.command_line._suite import ACTING, folder_of, line
from taskorch.ext.command_line._target import settings_for
from taskorch.ext.command_line._terminal import (
    add_allow,
    add_at,
    add_listen,
    asked_by_sigterm,
    hosts_of,
    is_terminal,
    logged,
    port,
    tell_left_out,
    tell_listening,
    tell_served,
    token_of,
)
from taskorch.kit.address import without_password
from taskorch.kit.fence import log_of
from taskorch.kit.interrupts import SLICE

if TYPE_CHECKING:
    from taskorch.ext.service._suites import SuiteRuns
    from taskorch.ext.suites import Ended

_LOG: Final = log_of(__name__)
_PORT: Final = 8080


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.set_defaults(run=_run)
    parser.add_argument(
        "files",
        nargs="*",
        type=Path,
        metavar="FILE.py",
        help="files, or folders of them, of which one makes an orchestrator, and the "
        "others import it: it is started, with its schedules, and can be asked over "
        "HTTP",
    )
    parser.add_argument(
        "-m",
        dest="module",
        metavar="MODULE:NAME",
        help="a module, instead of a file, and what makes the orchestrator in it",
    )
    parser.add_argument(
        "--journal",
        metavar="JOURNAL",
        help="to look at, also while its leader runs: runs.db, or postgresql://…",
    )
    parser.add_argument(
        "--config",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="the files of the configuration of a suite",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="where runs keep their files (.taskorch, beside the configuration)",
    )
    parser.add_argument(
        "--port", type=port, metavar="N", help="0: a free one (as configured: 8080)"
    )
    parser.add_argument(
        "--metrics-port",
        type=port,
        metavar="N",
        help="of the metrics alone; 0: a free one (as configured: 9090)",
    )
    parser.add_argument(
        "--functions",
        action="store_true",
        help="of FILE.py: let callers call what the files decorate with @task, by name",
    )
    parser.add_argument(
        "--agents",
        action="store_true",
        help="of FILE.py: let workers come and ask for work, as `taskorch agent` does",
    )
    add_listen(parser)
    parser.add_argument(
        "--url",
        metavar="URL",
        help="of FILE.py: where people reach the dashboard, such as "
        "https://tasks.example.org: messages have links to it",
    )
    parser.add_argument(
        "--mcp",
        action="store_true",
        help="of FILE.py: let language models ask at /mcp, with the token",
    )
    add_allow(parser)
    add_at(parser)
    parser.add_argument(
        "--tokens",
        type=Path,
        metavar="FILE",
        help="the named tokens of people and programs: see `taskorch tokens`; then no "
        "token is made",
    )
    parser.add_argument(
        "--no-token",
        action="store_true",
        help="let all who can reach the port use it; otherwise a token is needed, that "
        f"of {TOKEN_VARIABLE}, or one that is made and printed",
    )


def _run(args: argparse.Namespace) -> int:
    if args.allow and not args.mcp:
        msg = "--allow names tools of MCP, and nothing has them"
        raise InvalidTaskError(msg, hint="say --mcp, too")
    sources = args.files or None, args.module, args.config, args.journal
    if sum(each is not None for each in sources) != 1:
        msg = (
            "serve one of these: FILE.py, -m MODULE:NAME, --journal of a run, or "
            "--config of a suite"
        )
        raise InvalidTaskError(msg, hint="taskorch serve app.py")
    if args.at is not None and args.journal is None:
        msg = "--at is for a journal that nobody runs"
        raise InvalidTaskError(msg, hint="say --journal, too")
    if args.files or args.module is not None:
        _refuse_for_suites(args, "an orchestrator")
        from taskorch.ext.command_line._serve_file import serve_file  # noqa: PLC0415 - for it alone

        return serve_file(args)
    kind = "a suite" if args.journal is None else "a journal"
    for name in ("functions", "agents", "url"):
        if getattr(args, name):
            msg = f"--{name} is for an orchestrator, and not for {kind}"
            raise InvalidTaskError(msg)
    return _serve_suite(args) if args.journal is None else _serve_journal(args)


def _serve_journal(args: argparse.Namespace) -> int:
    from taskorch.ext.service import recorded_app, serve  # noqa: PLC0415
    from taskorch.ext.views import JournalReader  # noqa: PLC0415

    _refuse_for_suites(args, "a journal")
    _refuse_tools(args, "a journal")
    token, is_new = token_of(args)
    name = without_password(args.journal)
    reader = JournalReader(args.journal, at=args.at)
    tell_left_out(reader)
    app = recorded_app(
        *(reader,),
        token=token,
        hosts=hosts_of(args),
        journal=name,
        tokens=args.tokens,
    )
    number = _PORT if args.port is None else args.port
    with (
        asked_by_sigterm() as asked,
        serve(app, host=args.listen, port=number) as server,
    ):
        tell_served(args, name, server, token, is_new=is_new)
        while not asked.wait(SLICE):
            pass
    return OK


def _refuse_for_suites(args: argparse.Namespace, kind: str) -> None:
    for name in ("output", "metrics_port"):
        if getattr(args, name) is not None:
            msg = f"--{name.replace('_', '-')} is for a suite, and not for {kind}"
            raise InvalidTaskError(msg)


def _refuse_tools(args: argparse.Namespace, kind: str) -> None:
    if args.mcp:
        msg = f"--mcp is for an orchestrator, and not for {kind}"
        raise InvalidTaskError(msg, hint="taskorch mcp JOURNAL speaks it by itself")


def _serve_suite(args: argparse.Namespace) -> int:
    # These modules belong to extras and take time, which help and completion save.
    from taskorch.ext.service import serve  # noqa: PLC0415
    from taskorch.ext.service._app import tokens_of  # noqa: PLC0415
    from taskorch.ext.service._suites import (  # noqa: PLC0415
        SuiteRuns,
        metrics_app,
        suite_app,
    )
    from taskorch.ext.suites._folder import RunFolder  # noqa: PLC0415
    from taskorch.ext.suites._reading import line_of, load  # noqa: PLC0415

    _refuse_tools(args, "a suite")
    suite = load(*args.config)
    settings = settings_for("a suite", ACTING)
    folder = folder_of(args)
    # This fails now, and not in the first run, if the file cannot be written.
    tempfile.TemporaryFile(dir=RunFolder(folder).make().path).close()
    runs = SuiteRuns(suite, folder, lambda event: _tell(event, line(event)), settings)
    token, is_new = token_of(args)
    tokens = tokens_of(args.tokens)
    watch = suite.monitoring
    number = watch.api_port if args.port is None else args.port
    metrics = watch.metrics_port if args.metrics_port is None else args.metrics_port
    apps = (
        make(runs, token=token, hosts=hosts_of(args), tokens=tokens)
        for make in (suite_app, metrics_app)
    )
    with (
        # This comes before the service announces itself.
        asked_by_sigterm() as asked,
        logged(watch.log_level),
        serve(next(apps), host=args.listen, port=number) as api,
        serve(next(apps), host=args.listen, port=metrics) as numbers,
    ):
        api.token = token if is_new or is_terminal() else None
        print(f"{suite.title}: {api.url}, metrics: {numbers.url}/metrics")
        tell_listening(args, api.port, numbers.port)
        if is_new:
            print(f"token: {token}")
        print(f"page: {api.page}")
        sys.stdout.flush()
        if suite.without_effect:
            _LOG.warning("%s", line_of(suite.without_effect))
        _wait(runs, asked)
    return OK


def _tell(event: Ended, text: str) -> None:
    _LOG.log(event.level, "%s", text)


def _wait(runs: SuiteRuns, asked: threading.Event) -> None:
    """Wait for a signal to end, then give running tasks time to end."""
    try:
        # A signal just before a wait would not end an endless one.
        while not asked.wait(SLICE):
            pass
        runs.stop(drain=True)
    except BaseException:
        # Ctrl-C counts, also during the shutdown.
        runs.stop(drain=False)
        raise
