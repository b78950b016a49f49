"""`taskorch jobs`: adaptive jobs, here or of a service."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskorch._settings.configuration import SETTINGS, TOKEN_VARIABLE
from taskorch.cli import FAILED, OK
from taskorch.cli._target import settings_for
from taskorch.cli._terminal import (
    add_json,
    add_listen,
    coloured,
    hosts_of,
    is_url,
    on_signals,
    print_json,
    tell_listening,
    token_of_environment,
)
from taskorch.client import Client
from taskorch.errors import InvalidTaskError
from taskorch.kit.limits import SIGNAL_SECONDS
from taskorch.kit.visible import counted
from taskorch.runtime import SLICE

if TYPE_CHECKING:
    from taskorch.frontends.jobs import JobSystem


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
    from taskorch.frontends.jobs import JobSystem  # noqa: PLC0415 - help does without

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
    with jobs.orchestrator(**settings) as orch:
        if not args.json:
            _introduce(jobs.about())
        for body in bodies:
            jobs.assign_job(body)
        if args.port is not None:
            _serve(jobs, orch, args)
        orch.wait()
        statuses = [jobs.status(body["job_id"]) for body in bodies]
    for status in statuses:
        _tell(status, args)
    return OK if all(one["state"] == "completed" for one in statuses) else FAILED


def _serve(jobs: JobSystem, orch: Any, args: argparse.Namespace) -> None:
    from taskorch.frontends.service import create_app, new_token, serve  # noqa: PLC0415

    preset = token_of_environment(keep=False)
    token = preset or new_token()
    # What is on standard output is read by a program.
    tell = partial(print, file=sys.stderr if args.json else sys.stdout, flush=True)
    asked = threading.Event()
    app = create_app(orch, token=token, hosts=hosts_of(args), jobs=jobs)
    with (
        on_signals(lambda *_: asked.set(), signal.SIGTERM),
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
        orch.stop(drain=True, timeout=SIGNAL_SECONDS)


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
        # The module may have put others in front of it, or taken it out.
        with suppress(ValueError):
            sys.path.remove(here)
    if not callable(candidate):
        msg = f"--objective: {place} is no function"
        raise InvalidTaskError(msg)
    function: Callable[..., Any] = candidate
    return function


def _read(path: str) -> Any:
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_bytes()
        document = json.loads(text)
    except ValueError as error:
        msg = f"{path} is no JSON: {error}"
        raise InvalidTaskError(msg) from error
    if not isinstance(document, dict):
        msg = f"{path}: a job is a JSON object"
        raise InvalidTaskError(msg)
    return document


def _client(args: argparse.Namespace) -> Client:
    """
    What asks the service that is named.

    Raises:
        InvalidTaskError: A journal is named, or another thing.
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
    if args.json:
        print_json(answer)
    elif answer["state"] == "completed":
        for index, value in enumerate(answer["result"]):
            print(f"unit {index}: {value!r}")
    else:
        print(f"{args.job}: {coloured(answer['state'])}, it has no result")
        _tell_errors(answer)
    return OK if answer["state"] == "completed" else FAILED


def _list(args: argparse.Namespace) -> int:
    answer = _client(args).command("list_jobs")
    if args.json:
        print_json(answer)
        return OK
    _introduce(answer["about"])
    for job_id, state in answer["jobs"].items():
        print(f"{job_id}: {coloured(state)}")
    print(counted(len(answer["jobs"]), "job"))
    return OK


def _cancel(args: argparse.Namespace) -> int:
    answer = _client(args).command("cancel_job", job_id=args.job)
    if args.json:
        print_json(answer)
    else:
        print("cancelled" if answer["changed"] else f"{args.job} has ended")
    return OK


def _introduce(about: dict[str, str]) -> None:
    """Say whose jobs they are, as the configuration says it."""
    words = " ".join(about[name] for name in ("name", "version") if name in about)
    line = ": ".join(text for text in (words, about.get("mission", "")) if text)
    if line:
        print(line)


def _assign(args: argparse.Namespace) -> int:
    _tell(_client(args).command("assign_job", **_read(args.job)), args)
    return OK


def _reward(args: argparse.Namespace) -> int:
    if not -1 <= args.value <= 1:
        msg = f"a reward is a number from -1 to 1, not {args.value:g}"
        raise InvalidTaskError(msg)
    fields = {"job_id": args.job, "value": args.value, "source": args.source}
    answer = _client(args).command("reward_job", **fields)
    if args.json:
        print_json(answer)
    else:
        print("rewarded" if answer["changed"] else f"{args.source} has said so before")
    return OK


def _tell(status: dict[str, Any], args: argparse.Namespace) -> None:
    if args.json:
        print_json(status)
        return
    units = list(status["units"].values())
    ended = units.count("completed")
    print(
        f"{status['job_id']}: {coloured(status['state'])}, {ended} of "
        f"{counted(len(units), 'unit')}, {counted(status['threads'], 'thread')} each"
    )
    _tell_errors(status)
    for name, value in status["metrics"].items():
        if value is not None:
            print(f"  {name}: {value:.4g}")


def _tell_errors(answer: dict[str, Any]) -> None:
    # A service of an earlier version says none.
    for unit, error in answer.get("errors", {}).items():
        print(f"  unit {unit}: {error}")
