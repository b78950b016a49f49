"""`taskorch agent`: does the work of an orchestrator that is a service."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from pathlib import Path

from taskorch.api._settings.configuration import TOKEN_VARIABLE
from taskorch.errors import InvalidTaskError
from taskorch.ext.command_line import OK
from taskorch.ext.command_line._terminal import (
    log_format,
    on_signals,
    pairs,
    token_of_environment,
)
from taskorch.kit.checks import check_count, check_seconds
from taskorch.model.ids import check_id


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.set_defaults(run=_run)
    parser.add_argument(
        "--agent-id", required=True, metavar="ID", help="its name: no other has it"
    )
    parser.add_argument(
        "--orchestrator-endpoint",
        required=True,
        metavar="URL",
        help="where the service is, such as http://127.0.0.1:8080; the token that it "
        f"asks for is in {TOKEN_VARIABLE}",
    )
    parser.add_argument(
        "--log-file", type=Path, metavar="F", help="where it writes what it does"
    )
    parser.add_argument(
        "--can",
        action="append",
        default=[],
        metavar="NAME",
        help="a capability, for programs that require it; may be given again",
    )
    parser.add_argument(
        "--call",
        action="append",
        default=[],
        metavar="TYPE=MODULE:FUNCTION",
        help="call a function with the payload of a task of this type; likewise",
    )
    parser.add_argument(
        "--run",
        action="append",
        default=[],
        dest="commands",
        metavar="TYPE=COMMAND",
        help="run a program for a task of this type, with what its payload has by that "
        "name for each {name}; likewise",
    )
    parser.add_argument(
        "--max-concurrency",
        type=int,
        default=1,
        metavar="N",
        help="attempts at once (1)",
    )
    parser.add_argument(
        "--capacity",
        action="append",
        default=[],
        metavar="NAME=AMOUNT",
        help="what it has, such as licence=1; likewise. Not named, cpu, memory_mb, "
        "disk_mb, bandwidth_mbps and gpu are those of its machine",
    )
    parser.add_argument(
        "--lease",
        type=float,
        metavar="S",
        help="seconds of silence after which others get its work (as the service says: "
        "15, or the agent_timeout of a suite)",
    )
    parser.add_argument(
        "--drain",
        type=float,
        default=0.0,
        metavar="S",
        help="seconds that work has to end by itself after SIGTERM (0); then it is "
        "ended, and others get it",
    )


def _run(args: argparse.Namespace) -> int:
    # These imports take time, which help and completion save.
    from taskorch.ext.remote_workers import Abilities, Agent  # noqa: PLC0415

    check_id(args.agent_id)
    check_count("--max-concurrency", args.max_concurrency, least=1)
    if args.lease is not None:
        check_seconds("--lease", args.lease, zero=False)
    check_seconds("--drain", args.drain)
    if "" not in sys.path:
        # The functions that it calls are mostly in the working directory.
        sys.path.insert(0, "")
    worker = Agent(
        args.agent_id,
        args.orchestrator_endpoint,
        token=token_of_environment(keep=False),
        abilities=Abilities.of(args.can, args.call, args.commands),
        at_once=args.max_concurrency,
        lease=args.lease,
        drain=args.drain,
        capacity=pairs(args.capacity),
    )
    handler = _handler(args.log_file)
    log = logging.getLogger("taskorch.agent")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False

    def stop(*_: object) -> None:
        # This needs a thread: the interrupted one may hold a lock that `stop` needs.
        threading.Thread(target=worker.stop, daemon=True).start()

    try:
        with on_signals(stop, signal.SIGTERM, signal.SIGINT):
            worker.run()
    finally:
        log.removeHandler(handler)
        handler.close()
    return OK


def _handler(path: Path | None) -> logging.Handler:
    handler: logging.Handler = logging.StreamHandler(sys.stderr)
    if path is not None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Only the owner may read the file; an existing one keeps its rights.
            os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600))
            handler = logging.FileHandler(path, encoding="utf-8")
        except OSError as error:
            msg = f"--log-file {path}: {error.strerror}"
            raise InvalidTaskError(msg, hint="name one that can be written") from None
    handler.setFormatter(log_format())
    return handler
