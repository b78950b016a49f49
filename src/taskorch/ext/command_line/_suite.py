"""`taskorch suite`: a test suite, from the command line."""

from __future__ import annotations

import argparse
import logging
import sys
from contextlib import ExitStack, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from textwrap import indent
from time import sleep
from typing import TYPE_CHECKING, Final

from taskorch.errors import InvalidTaskError, JournalTakenError
from taskorch.ext.command_line import FAILED, INTERRUPTED, NOT_NOW, OK, USAGE
from taskorch.ext.command_line._target import settings_for
from taskorch.ext.command_line._terminal import (
    LISTEN,
    add_listen,
    hosts_of,
    interrupted_at_sigterm,
    port,
    tell_listening,
)
from taskorch.ext.suites import read_report
from taskorch.ext.suites._folder import RunFolder
from taskorch.ext.suites._planning import plan
from taskorch.ext.suites._reading import line_of, load
from taskorch.ext.suites._report import SuiteReport
from taskorch.ext.suites._running import run
from taskorch.ext.suites._telling import Ended
from taskorch.ext.views import JournalReader
from taskorch.kit.interrupts import SLICE
from taskorch.kit.words import duration, first_line

if TYPE_CHECKING:
    from taskorch.api._orchestrator import TaskOrchestrator
    from taskorch.ext.service import Server

#: The folder of the files of runs, beside the first file of the configuration.
_FOLDER: Final = ".taskorch"
#: Settings that apply to runs of suites; the suite itself sets the others.
ACTING: Final = (
    *("governance", "durability", "monitor_interval", "seed", "stop_timeout"),
)
_FORMATS: Final = ("md", "json", "xml", "html")
_SHOWN: Final = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the commands."""
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, act, about in (
        ("run", _run, "run a suite, or go on with the run that was interrupted"),
        ("plan", _plan, "say what a run would do, and how long that would take"),
        ("report", _show, "show the report of the run that has ended"),
    ):
        command = commands.add_parser(name, help=about, description=f"{about}.")
        command.set_defaults(run=_do, act=act)
        command.add_argument(
            "config", nargs="+", type=Path, help="the files of the configuration"
        )
        command.add_argument(
            "--output",
            type=Path,
            metavar="DIR",
            help=f"where the run keeps its files ({_FOLDER}, beside the configuration)",
        )
        if act is _run:
            command.add_argument(
                "--failed", action="store_true", help="run again what failed, only"
            )
            command.add_argument(
                "--fresh", action="store_true", help="begin anew, whatever is there"
            )
            command.add_argument(
                "--statement",
                type=Path,
                metavar="FILE",
                help="write an in-toto statement: what was tested, and how it ended",
            )
            command.add_argument(
                "--key",
                type=Path,
                metavar="FILE",
                help="sign it with this private key (Ed25519, PEM)",
            )
            command.add_argument(
                "-q", "--quiet", action="store_true", help="say only how it ended"
            )
            command.add_argument(
                "--page",
                action="store_true",
                help="show the run in a browser, and print the address",
            )
            command.add_argument(
                "--port", type=port, metavar="N", help="of the page (a free one)"
            )
            add_listen(command)
            command.add_argument(
                "--stay",
                action="store_true",
                help="let the page stay when the run has ended, until Ctrl-C",
            )
        if act is _show:
            command.add_argument(
                "--format", choices=_FORMATS, default="md", help="how to write it"
            )


def _do(arguments: argparse.Namespace) -> int:
    """Carry out the command, and return the exit code."""
    came: list[int] = []
    try:
        with interrupted_at_sigterm() as came:
            code: int = arguments.act(arguments)
    except JournalTakenError as error:
        what_now = "wait for its end, or stop it: the same command goes on from there"
        print(f"taskorch: {error.message} ({what_now})", file=sys.stderr)
        return NOT_NOW
    except KeyboardInterrupt:
        print("stopped: the same command goes on from here", file=sys.stderr)
        return 128 + came[-1] if came else INTERRUPTED
    return code


def folder_of(arguments: argparse.Namespace) -> Path:
    """Return the folder where the runs of a configuration keep their files."""
    output: Path | None = arguments.output
    if output is not None:
        return output
    first: Path = arguments.config[0]
    return first.parent / _FOLDER / first.stem


def _run(arguments: argparse.Namespace) -> int:
    suite = load(*arguments.config)
    settings = settings_for("a suite", ACTING)
    folder = folder_of(arguments)
    is_told = False
    if suite.without_effect:
        print(line_of(suite.without_effect), file=sys.stderr)
    least = logging.getLevelNamesMapping()[suite.monitoring.log_level]

    say = partial(_say, logging.CRITICAL if arguments.quiet else least)

    def tell(event: Ended) -> None:
        nonlocal is_told
        is_told = True
        say(event.level, line(event))

    _check_page(arguments)
    if arguments.key is not None and arguments.statement is None:
        msg = "--key signs a statement, and none is asked for"
        raise InvalidTaskError(msg, hint="--statement FILE")
    with ExitStack() as stack:

        def begun(orch: TaskOrchestrator, _suite: object) -> None:
            if arguments.page:
                server = stack.enter_context(_serve(orch, folder, arguments))
                tell_listening(arguments, server.port)
                print(f"page: {server.page}")
                print(f"token: {server.token}", flush=True)

        report = run(
            suite,
            folder,
            failed=arguments.failed,
            fresh=arguments.fresh,
            answered=arguments.page,
            late=partial(print, file=sys.stderr),
            statement=arguments.statement,
            key=arguments.key,
            tell=tell,
            phase=partial(say, logging.INFO),
            begun=begun,
            **settings,
        )
        if not is_told:
            print("Nothing was left to be run.")
        print(_summary(report))
        print(f"{folder / 'report.html'} has it all", flush=True)
        if arguments.stay:
            _stay()
    return OK if report.passed else FAILED


def _say(least: int, level: int, text: str) -> None:
    """Print *text*, unless its level is below the least that is shown."""
    if level >= least:
        print(text, flush=True)


def _check_page(arguments: argparse.Namespace) -> None:
    """Fail before the run if the modules of its page are missing."""
    if arguments.page:
        import_module("taskorch.ext.service")
        return
    said = {
        "--stay": arguments.stay,
        "--port": arguments.port is not None,
        "--listen": arguments.listen != LISTEN,
        "--host": arguments.host,
    }
    if name := next((name for name, is_said in said.items() if is_said), None):
        msg = f"{name} is about the page of the run, and none is asked for"
        raise InvalidTaskError(msg, hint=f"--page {name}")


def _stay() -> None:
    """Keep the page open until Ctrl-C."""
    print("the page stays until Ctrl-C", flush=True)
    with suppress(KeyboardInterrupt):
        while True:
            sleep(SLICE)


def _serve(
    orch: TaskOrchestrator, folder: Path, arguments: argparse.Namespace
) -> Server:
    """Serve *orch*, which has a run in *folder*, to owners of the token."""
    # These modules belong to an extra.
    from taskorch.ext.service import (  # noqa: PLC0415
        create_app,
        new_token,
        serve,
    )

    token = new_token()
    journal = JournalReader(RunFolder(folder).journal)
    hosts = hosts_of(arguments)
    app = create_app(orch, token=token, journal=journal, page=True, hosts=hosts)
    server = serve(app, host=arguments.listen, port=arguments.port or 0)
    server.token = token
    return server


def line(event: Ended) -> str:
    """Return the news of a task, for people."""
    word = {"completed": "passed", "retrying": "failed, once more"}.get(
        event.state, event.state
    )
    width = len(str(event.total))
    text = f"[{event.ended:{width}}/{event.total}] {event.name:10} {word}"
    if event.attempt > 1:
        text += f" (attempt {event.attempt})"
    return f"{text}: {first_line(event.message)}".removesuffix(": ")


def _summary(report: SuiteReport) -> str:
    """Print the end of a run; failures come last, where people look."""
    lines = [""]
    if report.slowest:
        lines.append("slowest:")
        lines += [
            f"  {duration(test['seconds']):>8}  {test['id']}"
            for _, test in report.slowest[:_SHOWN]
        ]
    if report.repairs:
        lines += ["repaired:", *[f"  {first_line(line)}" for line in report.repairs]]
    if report.flaky:
        lines += ["flaky (failed, then passed unchanged):"]
        lines += [f"  {line}" for line in report.flaky_lines]
    of_history = [
        test["id"] for _, test in report.failures if test["id"] in report.over_runs
    ]
    if of_history:
        lines += ["failed tests, over runs:"]
        lines += [f"  {report.named(name)}" for name in of_history[:_SHOWN]]
        lines += [f"  and {len(of_history) - _SHOWN:,} more"] * (
            len(of_history) > _SHOWN
        )
    lines += [f"phase {name} took longer than it may" for name in report.over_time]
    bad = [task for task in report.tasks if not task.has_passed]
    held = [task for task in bad if not task.attempts]
    if held:
        lines.append("never began:")
        for task in held:
            why = (
                f"because of {', '.join(task.because)}" if task.because else task.error
            )
            lines.append(f"  {task.id}: {first_line(why) or task.in_words}")
    lost = [task for task in bad if task.attempts]
    if lost:
        lines.append("failed:")
        for task in lost:
            text = f"{task.id}: {task.error or task.in_words}"
            lines.append(indent(text, "    ")[2:])
    word = "passed" if report.passed else "FAILED"
    lines += ["", f"{report.title} {word}: {report.headline}"]
    return "\n".join(lines)


def _plan(arguments: argparse.Namespace) -> int:
    suite = load(*arguments.config)
    settings = settings_for("a suite", ACTING)
    governance = settings.get("governance")
    print(plan(suite, folder_of(arguments), governance), end="")
    return USAGE if suite.missing else OK


def _show(arguments: argparse.Namespace) -> int:
    print(read_report(folder_of(arguments), arguments.format), end="")
    return OK
