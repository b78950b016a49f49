"""`taskorch mcp`: tools for language models, on the standard streams."""

from __future__ import annotations

import argparse
import signal
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskorch._settings.configuration import TOKEN_VARIABLE
from taskorch.cli import OK
from taskorch.cli._control import touched
from taskorch.cli._source import ServiceReader
from taskorch.cli._terminal import (
    add_allow,
    is_url,
    logged,
    on_signals,
    token_of_environment,
)
from taskorch.kit.limits import SIGNAL_SECONDS
from taskorch.reading import JournalReader

if TYPE_CHECKING:
    from taskorch.client import Client


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add them."""
    parser.set_defaults(run=_run)
    parser.add_argument(
        "place",
        metavar="JOURNAL|URL|FILE.py",
        help="a journal, which is read only: runs.db, postgresql://…; or a service: "
        f"http://127.0.0.1:8080, whose token is in {TOKEN_VARIABLE}; or a file that "
        "makes an orchestrator, which is started",
    )
    add_allow(parser)
    parser.add_argument(
        "--by",
        metavar="NAME",
        default="mcp",
        help="the name under which it does what it does (mcp): it answers a question "
        "whose `who` has it",
    )
    parser.add_argument(
        "--person",
        metavar="NAME",
        help="who sits at the client: they are asked there what is for them, if "
        "`answer` is allowed and the client can ask",
    )


def _run(args: argparse.Namespace) -> int:
    # They are of an extra.
    from taskorch.frontends.mcp._server import make_server  # noqa: PLC0415
    from taskorch.frontends.mcp._stdio import (  # noqa: PLC0415
        serve_streams,
        taken_streams,
    )

    with (
        # What is loaded may print: before it is, the streams are ours.
        taken_streams() as (incoming, outgoing),
        # Until it is served, and once it is not any more.
        on_signals(_interrupt, signal.SIGTERM),
        logged("WARNING"),
        _opened(args.place) as place,
    ):
        server = make_server(
            place,
            allow=args.allow,
            by=args.by,
            person=args.person,
            secret=_secret(place),
        )
        serve_streams(server, incoming, outgoing)
    return OK


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _secret(place: Any) -> bytes | None:
    """What is known to who may read *place*, and to nobody else, if there is that."""
    if isinstance(place, ServicePlace):
        token = token_of_environment()
        return None if token is None else token.encode()
    return place.uid.encode() or None


@contextmanager
def _opened(name: str) -> Iterator[Any]:
    """What tools are used on: a journal, a service, or the orchestrator of a file."""
    if is_url(name):
        # A client loads what speaks HTTP.
        from taskorch.cli._control import service  # noqa: PLC0415 - see above

        with service(name) as client:
            # Whether it is there, and the token is right, is said now.
            client.health()
            yield ServicePlace(client)
    elif Path(name).suffix == ".py":
        from taskorch.cli._serve_file import orchestrator_of  # noqa: PLC0415
        from taskorch.cli._target import check_settings  # noqa: PLC0415
        from taskorch.frontends.mcp import OrchestratorPlace  # noqa: PLC0415

        orch, _ = orchestrator_of([Path(name)])
        check_settings(orch, name)
        try:
            orch.start()
            yield OrchestratorPlace(orch)
        finally:
            orch.stop(drain=False, timeout=SIGNAL_SECONDS)
    else:
        yield JournalReader(name)


class ServicePlace(ServiceReader):
    """
    A service, for tools: see `taskorch.frontends.mcp.OrchestratorPlace`.

    Args:
        client: What speaks with it.
    """

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self._client = client
        self.simulate = client.simulate
        self.questions = client.questions
        self.answer = client.answer
        self.cancel_task = client.cancel_task
        self.suspend_task = client.suspend_task
        self.resume_task = client.resume_task
        self.set_priority = client.set_priority
        self.rerun_task = client.rerun_task
        self.fork = client.fork
        self.foresee = partial(touched, client)
        self.hold_starts = client.hold_starts
        self.release_starts = client.release_starts
        self.schedules = client.schedules

    def __repr__(self) -> str:
        return "the service"

    def submit_documents(
        self, documents: Iterable[Mapping[str, Any]], *, key: str | None = None
    ) -> list[str]:
        """See `Client.submit_documents`."""
        return self._client.submit_documents(documents, key=key)

    def start_workflow(
        self,
        document: Mapping[str, Any],
        run_id: str | None = None,
        *,
        key: str | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> str:
        """See `Client.start_workflow`."""
        return self._client.start_workflow(
            document, run_id, key=key, parameters=parameters
        )
