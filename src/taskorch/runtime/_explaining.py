"""Why tasks do not run, or what became of them: what the runtime adds to the kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from taskorch.errors import UnknownTaskError
from taskorch.kernel import NOT_STARTED, Search, TaskRow, hold_of_starts
from taskorch.kernel import explain as explain_row
from taskorch.model import TERMINAL, Blocker, Explanation, Remedy, Stuck
from taskorch.model._ids import stem_of
from taskorch.model._places import place_of
from taskorch.runtime._earlier import earlier_of
from taskorch.runtime._late import describe_late
from taskorch.runtime._runtime import Runtime
from taskorch.runtime._stale import Cause, Staleness
from taskorch.runtime._work import is_cached

if TYPE_CHECKING:
    from taskorch.kernel import Waits

_NOT_STARTED: Final = Blocker(
    "not_started",
    "The orchestrator has not been started.",
    remedies=NOT_STARTED.remedies,
)
_STOPPED: Final = Blocker(
    "not_started", "The orchestrator stops, or has stopped: nothing starts any more."
)


def explain(runtime: Runtime, task_id: str, *, estimates: bool) -> Explanation:
    """
    Why a task does not run, or what became of it.

    Raises:
        UnknownTaskError: No task has this id in memory.
        ComponentError: A policy failed that was asked.
    """

    def ask(now: int) -> Explanation:
        return explanation(
            runtime, task_id, now, estimates=estimates, paused=_paused(runtime)
        )

    found: Explanation = runtime.step(ask)
    return found


def explanation(
    runtime: Runtime, task_id: str, now: int, *, estimates: bool, paused: Blocker
) -> Explanation:
    """
    Under the lock: as `explain`; *paused* says why nothing starts, if nothing does.

    Raises:
        UnknownTaskError: No task has this id in memory.
    """
    row = runtime.kernel.tasks.get(runtime.directory.reruns.latest(task_id))
    if row is None:
        msg = f"no task in memory has the id {task_id!r}"
        raise UnknownTaskError(msg, task_id=str(task_id))
    waits = runtime.waiting._waits.get((row.id, row.attempt), ())
    inside = {target.id: None for any_of in waits for target in any_of}
    found = explain_row(
        runtime.kernel,
        row,
        now,
        whole=True,
        estimates=estimates,
        paused=paused,
        inside=tuple(inside),
    )
    work = row.cargo
    errors = (
        (work._error, *reversed(list(earlier_of(work).values()))) if found.error else ()
    )
    where = next(filter(None, map(place_of, errors)), "")
    cause = Staleness(runtime).cause(work)
    if cause is not None:
        latest = runtime.directory.reruns.latest(stem_of(cause.had))
        found = attrs.evolve(found, stale=why_stale(found, cause, latest))
    if runtime.fleet is not None:
        why = runtime.fleet.why_none(row.bucket.spec.requires or ())
        blockers = tuple(_with_reason(blocker, why) for blocker in found.blockers)
        found = attrs.evolve(found, blockers=blockers)
    cache = ""
    if is_cached(work):
        cache = runtime.memo.said.get(row.id, "")
    place = runtime.attempts.place(row)
    late = describe_late(work)
    recovery = ""
    if runtime.strategies is not None:
        recovery = runtime.strategies.under_way(row)
    return attrs.evolve(
        found, late=late, where=where, cache=cache, place=place, recovery=recovery
    )


def _with_reason(blocker: Blocker, why: str) -> Blocker:
    """Say besides that no agent can do it, why one that could is not there."""
    if blocker.kind != "capability" or not why:
        return blocker
    return attrs.evolve(blocker, detail=f"{blocker.detail.rstrip('.')}: {why}.")


def why_stale(found: Explanation, cause: Cause, latest: str) -> str:
    """
    Why the task of an explanation is stale, and what to call, in two sentences.

    *latest* is the latest run of what the cause had an earlier run of.
    """
    if cause.by_adder:
        adder = stem_of(cause.had)
        return (
            f"It is stale: {cause.had} had added {cause.task_id}, and was run again "
            f"since, as {latest}. Call orch.rerun_task({adder!r}), which adds it again "
            "if it is still needed."
        )
    again = f"orch.rerun_task({stem_of(cause.task_id)!r}"
    if cause.task_id == found.task_id:
        why = f"it had {cause.had}, which was run again since, as {latest}"
        call = "Call" if found.state in TERMINAL else "Once it has ended, call"
        return f"It is stale: {why}. {call} {again})."
    why = f"{cause.task_id} had {cause.had}, which was run again since, as {latest}"
    return f"It is stale: {why}. Call {again}, downstream=True)."


def _paused(runtime: Runtime) -> Blocker:
    """Why nothing starts, if nothing does."""
    committer = runtime.committer
    if runtime.closed or runtime.fault is not None:
        return _STOPPED
    if committer is not None and committer.trouble:
        why = committer.trouble.rstrip(".")
        detail = f"Nothing starts while the journal cannot be written: {why}."
        words = "Let the journal be written again: that is tried all the time."
        return Blocker("journal", detail, remedies=(Remedy("journal", words),))
    held = hold_of_starts(runtime.kernel)
    return held if held and not runtime.kernel.stopped else _NOT_STARTED


def stuck(runtime: Runtime) -> tuple[Stuck, ...]:
    """
    What can never proceed as things stand, by cause.

    The lock is held for a slice at a time.

    Raises:
        ComponentError: The registry failed.
    """

    def begin(now: int) -> Search:
        waits: dict[TaskRow, Waits] = {}
        for (task_id, attempt), targets in runtime.waiting._waits.items():
            row = runtime.kernel.tasks.get(task_id)
            if row is not None and row.attempt == attempt:
                waits[row] = list(targets)
        return Search(runtime.kernel, now, waits)

    search: Search = runtime.step(begin)
    slices = search.slices()
    # At the end it gives the time instead of nothing.
    while runtime.step(lambda now: next(slices, now)) is None:
        pass
    return search.groups
