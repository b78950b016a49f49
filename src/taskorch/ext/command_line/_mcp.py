"""`taskorch mcp`: tools for language models, on the standard streams."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from taskorch.api._settings.configuration import TOKEN_VARIABLE
from taskorch.core.inside import Inside
from taskorch.ext.command_line import OK
from taskorch.ext.command_line._control import touched
from taskorch.ext.command_line._source import ServiceReader
from taskorch.ext.command_line._terminal import (
    add_allow,
    interrupted_at_sigterm,
    is_url,
    logged,
    token_of_environment,
)
from taskorch.ext.views import JournalReader

if TYPE_CHECKING:
    from taskorch.ext.client import Client


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
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
    # These modules belong to an extra.
    from taskorch.ext.mcp import (  # noqa: PLC0415
        make_server,
        serve_streams,
        taken_streams,
    )

    with (
        # Loaded modules may print, so that the streams are taken over before.
        taken_streams() as (incoming, outgoing),
        # Interrupts end the command before it is served and afterwards.
        interrupted_at_sigterm(),
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


def _secret(place: Any) -> bytes | None:
    """Return a secret that only readers of *place* know, if there is one."""
    if isinstance(place, ServicePlace):
        token = token_of_environment()
        return None if token is None else token.encode()
    return place.uid.encode() or None


@contextmanager
def _opened(name: str) -> Iterator[Any]:
    """Yield the place for tools: a journal, a service, or a file's orchestrator."""
    if is_url(name):
        # The import is late, since it loads the modules for HTTP.
        from taskorch.ext.command_line._control import service  # noqa: PLC0415 - see above

        with service(name) as client:
            # This fails now if the service is not there, or the token is wrong.
            client.health()
            yield ServicePlace(client)
    elif Path(name).suffix == ".py":
        from taskorch.ext.command_line._serve_file import orchestrator_of  # noqa: PLC0415
        from taskorch.ext.command_line._target import check_settings  # noqa: PLC0415
        from taskorch.ext.mcp import OrchestratorPlace  # noqa: PLC0415

        orch, _ = orchestrator_of([Path(name)])
        check_settings(orch, name)
        try:
            orch.start()
            yield OrchestratorPlace(orch)
        finally:
            Inside(orch).end_service()
    else:
        yield JournalReader(name)


#: The methods of a client that tools use as they are.
_VERBS: Final = (
    *("answer", "cancel_task", "fork", "hold_starts", "questions", "release_starts"),
    *("rerun_task", "resume_task", "schedules", "set_priority", "simulate"),
    *("start_workflow", "submit_documents", "suspend_task"),
)


class ServicePlace(ServiceReader):
    """
    A service, for tools: see `taskorch.ext.mcp.OrchestratorPlace`.

    Args:
        client: The client of the service.
    """

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self.foresee = partial(touched, client)
        for name in _VERBS:
            setattr(self, name, getattr(client, name))

    def __repr__(self) -> str:
        return "the service"
