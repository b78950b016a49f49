"""`taskorch migrate`: make the tables of journals in PostgreSQL."""

from __future__ import annotations

import argparse
from inspect import cleandoc

from taskorch.errors import InvalidTaskError
from taskorch.ext.command_line import OK
from taskorch.kit.address import is_address, without_password


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.set_defaults(run=_run)
    parser.add_argument(
        "journal", metavar="ADDRESS", help="the database: postgresql://host/database"
    )
    parser.add_argument(
        "--print", action="store_true", help="only print the statements that make them"
    )


def _run(args: argparse.Namespace) -> int:
    from taskorch.ext.postgres._tables import MAKE  # noqa: PLC0415 - when needed

    if not is_address(args.journal):
        msg = f"{without_password(args.journal)} is no address of a database"
        hint = "postgresql://host/database; the tables of a file are made with it"
        raise InvalidTaskError(msg, hint=hint)
    if args.print:
        for statement in ("BEGIN", *MAKE, "COMMIT"):
            print(f"{cleandoc(statement)};")
        return OK
    from taskorch import PostgresJournal  # noqa: PLC0415 - it needs psycopg

    layout = PostgresJournal(args.journal).migrate()
    print(f"{without_password(args.journal)} has layout {layout}.")
    return OK
