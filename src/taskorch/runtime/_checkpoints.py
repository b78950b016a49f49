"""What a running task leaves: how far it is, and its state for the next attempt."""

from __future__ import annotations

from typing import Any, Protocol

from taskorch.errors import InvalidTaskError
from taskorch.events import TaskCheckpointed, TaskProgressed
from taskorch.model._show import show
from taskorch.runtime._committer import Keeps
from taskorch.runtime._deciders import PolicyDeciders
from taskorch.runtime._documents import document_of
from taskorch.runtime._driver import Driver
from taskorch.runtime._work import Work, extra_of


class CheckpointHost(Driver, Keeps, Protocol):
    """What checkpoints ask of a runtime."""

    deciders: PolicyDeciders


def checkpoint(rt: CheckpointHost, work: Work, attempt: int, state: Any) -> None:
    """
    A running task leaves *state* for its next attempt; that is not waited for.

    Raises:
        InvalidTaskError: The journal cannot keep it.
    """
    committer = rt.committer
    document = None
    if committer is not None:
        document = document_of(committer.journal.document, "state", state)
    row = work._row

    def change(now: int) -> None:
        if row.attempt == attempt:
            if committer is not None:
                committer.documents[work] = document
            rt.kernel.note(TaskCheckpointed, now, row.id, attempt, cargo=work)

    rt.step(change)


def progress(rt: CheckpointHost, work: Work, attempt: int, value: Any) -> None:
    """A task reported *value*."""
    row = work._row
    extra_of(work).progress = value
    if rt.committer is not None:
        try:
            rt.committer.journal.document(value)
        except InvalidTaskError:
            # The journal cannot keep it: the fact has its text, the status the value.
            value = show(value)

    if rt.kernel.sink is None:
        # Nobody listens, and no journal keeps it: the fact only takes its number.
        rt.deciders.refuse_reentry()
        with rt.lock:
            if row.attempt == attempt:
                rt.kernel.note(TaskProgressed, rt.now(), row.id, attempt)
        return

    def change(now: int) -> None:
        if row.attempt == attempt:
            rt.kernel.note(TaskProgressed, now, row.id, attempt, value, cargo=work)

    rt.step(change)
