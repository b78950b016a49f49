"""`taskorch jobs`: adaptive jobs, here or of a service."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskorch.api._settings.configuration import SETTINGS, TOKEN_VARIABLE
from taskorch.core.inside import Inside
from taskorch.errors import InvalidTaskError, UnknownTaskError
from taskorch.ext.client import Client
from taskorch.ext.command_line import FAILED, INTERRUPTED, OK
from taskorch.ext.command_line._target import settings_for
from taskorch.ext.command_line._terminal import (
    add_json,
    add_listen,
    asked_by_sigterm,
    coloured,
    hosts_of,
    interrupted_at_sigterm,
    is_url,
    read_json,
    tell,
    tell_listening,
    token_of_environment,
)
from taskorch.kit.interrupts import SLICE
from taskorch.kit.visible import counted

if TYPE_CHECKING:
    from taskorch.ext.jobs import JobSystem


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the commands."""
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(
        name: str, run: Callable[[argparse.Namespace], int], purpose: str
    ) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=purpose, description=purpose)
        command.set_defaults(run=run)
        return command

    run = add("run", _run, "run jobs that files describe, or serve those that come")
    run.add_argument("config", metavar="CONFIG", help="the configuration, in YAML")
    run.add_argument("jobs", metavar="JOB", nargs="*", help="jobs, a JSON file each")
    run.add_argument(
        "--objective",
        action="append",
        default=[],
        metavar="NAME=MODULE:FUNCTION",
        help="what does the units of an objective, as function(unit, job); may be "
        "given again",
    )
    run.add_argument("--journal", metavar="FILE", help="keeps jobs, and what is learnt")
    run.add_argument(
        "--port", type=int, metavar="N", help="take commands over HTTP; 0: a free port"
    )
    add_listen(run)
    add_json(run)
    for name, act, purpose in (
        ("status", _status, "show how far a job of a service is"),
        ("assign", _assign, "assign a job to a service"),
        ("result", _result, "show what the units of a job of a service returned"),
        ("list", _list, "list the jobs of a service"),
        ("cancel", _cancel, "cancel a job of a service"),
        ("reward", _reward, "say how good a job of a service was"),
    ):
        command = add(name, act, purpose)
        command.add_argument(
            "url",
            metavar="URL",
            help=f"http://127.0.0.1:8080; its token is in {TOKEN_VARIABLE}",
        )
        if name == "assign":
            command.add_argument("job", metavar="JOB", help="a JSON file; - is stdin")
        elif name != "list":
            command.add_argument("job", metavar="JOB", help="its id")
        if name == "reward":
            command.add_argument("value", type=float, help="from -1 to 1")
            command.add_argument("--source", default="user", help="who says so")
        add_json(command)


def _run(args: argparse.Namespace) -> int:
    from taskorch.ext.jobs import JobSystem  # noqa: PLC0415 - help does without

    jobs = JobSystem.from_yaml(args.config)
    for objective in args.objective:
        name, _, place = objective.partition("=")
        jobs.objective(name)(_function(place))
    bodies = [_read(path) for path in args.jobs]
    if args.port is None and not bodies:
        msg = "there is no job to run"
        raise InvalidTaskError(msg, hint="name files of jobs, or --port")
    settings = settings_for("jobs", SETTINGS.keys() - {"resources", "max_queued"})
    if args.journal is not None:
        settings["journal"] = args.journal
    is_cut = False
    with interrupted_at_sigterm(), jobs.orchestrator(**settings) as orch:
        try:
            for line in () if args.json else _introduction(jobs.about()):
                print(line)
            with Inside(orch).patience():
                for body in bodies:
                    jobs.assign_job(body)
            if args.port is not None:
                _serve(jobs, orch, args)
            orch.wait()
        except KeyboardInterrupt:
            is_cut = True
            unfinished = Inside(orch).end_service()
            print(f"taskorch: interrupted; {unfinished}", file=sys.stderr)
        statuses = list(_statuses(jobs, bodies))
    for status in statuses:
        _tell(status, args)
    if is_cut:
        return INTERRUPTED
    return OK if all(one["state"] == "completed" for one in statuses) else FAILED


def _statuses(jobs: JobSystem, bodies: list[Any]) -> Iterator[dict[str, Any]]:
    for body in bodies:
        # An interrupt may have come before it was assigned.
        with suppress(UnknownTaskError):
            yield jobs.status(body["job_id"])


def _serve(jobs: JobSystem, orch: Any, args: argparse.Namespace) -> None:
    from taskorch.ext.service import create_app, new_token, serve  # noqa: PLC0415

    preset = token_of_environment(keep=False)
    token = preset or new_token()
    # A program reads standard output.
    tell = partial(print, file=sys.stderr if args.json else sys.stdout, flush=True)
    app = create_app(orch, token=token, hosts=hosts_of(args), jobs=jobs)
    with (
        asked_by_sigterm() as asked,
        serve(app, host=args.listen, port=args.port) as server,
    ):
        tell(f"jobs: {server.url}{jobs.endpoint}")
        tell_listening(args, server.port)
        if not preset:
            tell(f"token: {token}")
        for hook, bound in jobs.hooks().items():
            tell(f"hook {hook}: {bound}")
        while not asked.wait(SLICE):
            pass
        Inside(orch).end_service()


def _function(place: str) -> Callable[..., Any]:
    module, _, name = place.partition(":")
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        candidate = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        msg = f"--objective: there is no function {place!r}: {error}"
        raise InvalidTaskError(msg, hint="--objective NAME=MODULE:FUNCTION") from error
    finally:
        # The module may have put others before it, or removed it.
        with suppress(ValueError):
            sys.path.remove(here)
    if not callable(candidate):
        msg = f"--objective: {place} is no function"
        raise InvalidTaskError(msg)
    function: Callable[..., Any] = candidate
    return function


def _read(path: str) -> Any:
    document = read_json(path)
    if not isinstance(document, dict):
        msg = f"{path}: a job is a JSON object"
        raise InvalidTaskError(msg)
    return document


def _client(args: argparse.Namespace) -> Client:
    """
    Return a client of the named service.

    Raises:
        InvalidTaskError: A journal is named, or something else.
    """
    if not is_url(args.url):
        msg = f"{args.url} is no address of a service, and only one has jobs"
        hint = (
            "start it: taskorch jobs run CONFIG --port 8080, and name "
            "http://127.0.0.1:8080; the runs of a journal: taskorch runs JOURNAL"
        )
        raise InvalidTaskError(msg, hint=hint)
    return Client(args.url, token=token_of_environment(), remedies="calls")


def _status(args: argparse.Namespace) -> int:
    status = _client(args).command("job_status", job_id=args.job)
    _tell(status, args)
    return FAILED if status["state"] == "failed" else OK


def _result(args: argparse.Namespace) -> int:
    answer = _client(args).command("job_result", job_id=args.job)
    is_done = answer["state"] == "completed"
    values = enumerate(answer["result"] if is_done else ())
    lines = [f"unit {index}: {value!r}" for index, value in values]
    if not is_done:
        lines = [f"{args.job}: {coloured(answer['state'])}, it has no result"]
        lines += _errors(answer)
    tell(args, answer, *lines)
    return OK if is_done else FAILED


def _list(args: argparse.Namespace) -> int:
    answer = _client(args).command("list_jobs")
    jobs = [f"{job_id}: {coloured(state)}" for job_id, state in answer["jobs"].items()]
    lines = [*_introduction(answer["about"]), *jobs, counted(len(jobs), "job")]
    tell(args, answer, *lines)
    return OK


def _cancel(args: argparse.Namespace) -> int:
    answer = _client(args).command("cancel_job", job_id=args.job)
    tell(args, answer, "cancelled" if answer["changed"] else f"{args.job} has ended")
    return OK


def _introduction(about: dict[str, str]) -> list[str]:
    """Return whose jobs they are, by the configuration, in a line or none."""
    words = " ".join(about[name] for name in ("name", "version") if name in about)
    line = ": ".join(text for text in (words, about.get("mission", "")) if text)
    return [line] if line else []


def _assign(args: argparse.Namespace) -> int:
    _tell(_client(args).command("assign_job", **_read(args.job)), args)
    return OK


def _reward(args: argparse.Namespace) -> int:
    if not -1 <= args.value <= 1:
        msg = f"a reward is a number from -1 to 1, not {args.value:g}"
        raise InvalidTaskError(msg)
    fields = {"job_id": args.job, "value": args.value, "source": args.source}
    answer = _client(args).command("reward_job", **fields)
    text = "rewarded" if answer["changed"] else f"{args.source} has said so before"
    tell(args, answer, text)
    return OK


def _tell(status: dict[str, Any], args: argparse.Namespace) -> None:
    ended = [*status["units"].values()].count("completed")
    head = (
        f"{status['job_id']}: {coloured(status['state'])}, {ended} of "
        f"{counted(status['unit_count'], 'unit')}, "
        f"{counted(status['threads'], 'thread')} each"
    )
    measured = {k: each for k, each in status["metrics"].items() if each is not None}
    metrics = [f"  {name}: {value:.4g}" for name, value in measured.items()]
    tell(args, status, head, *_errors(status), *metrics)


def _errors(answer: dict[str, Any]) -> list[str]:
    # A service of an earlier version sends none.
    errors = answer.get("errors", {}).items()
    return [f"  unit {unit}: {error}" for unit, error in errors]
