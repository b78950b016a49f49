"""Parts of the present state that no draw simulates: each is named in the answer."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from time import sleep
from typing import TYPE_CHECKING, Final

from taskorch.core.engine import task_of
from taskorch.core.kernel import Bucket, PolicyFault, TaskRow
from taskorch.kit.visible import counted
from taskorch.kit.words import some
from taskorch.model import TERMINAL, MadeFor, TaskState
from taskorch.model.ids import stem_of

if TYPE_CHECKING:
    from taskorch.core.engine import Runtime

_S: Final = TaskState
#: The most queued tasks about whose start policies are asked.
_JUDGED: Final = 1_000
#: The number of them that are judged under the lock at once: about a millisecond.
_AT_ONCE: Final = 16


def stopped(
    runtime: Runtime, rows: Sequence[TaskRow], now: int, denials: Mapping[str, str]
) -> dict[str, str]:
    """Return why queued tasks do not go on by themselves, by id; see `denied`."""
    reasons = _short_of_budgets(runtime, rows, now)
    for row in rows if denials else ():
        if row.state is _S.QUEUED and row.id in denials:
            reasons[row.id] = denials[row.id]
    return reasons


def _short_of_budgets(
    runtime: Runtime, rows: Iterable[TaskRow], now: int
) -> dict[str, str]:
    kernel = runtime.kernel
    shorts: dict[Bucket, bool] = {}
    reasons: dict[str, str] = {}
    for row in rows if kernel.budgets else ():
        bucket = row.bucket
        if row.state is not _S.QUEUED or not bucket.spec.budget:
            continue
        if bucket not in shorts:
            shorts[bucket] = False
            with suppress(PolicyFault):
                shorts[bucket] = any(
                    short.kind == "budget"
                    for limit in bucket.limits
                    for short in limit.shortages(kernel, row, now)
                )
        if shorts[bucket]:
            reasons[row.id] = f"waits for budget {bucket.spec.budget!r}"
    return reasons


def denied(runtime: Runtime) -> dict[str, str]:
    """Return why policies deny the start of queued tasks; do not hold the lock."""
    kernel, deciders = runtime.kernel, runtime.deciders
    if not kernel.judged:
        return {}
    with runtime.lock:
        rows = [
            row
            for row in kernel.tasks.values()
            if row.state is _S.QUEUED and deciders.is_judged(row.bucket.spec.type)
        ]
    rows.sort(key=lambda row: row.seq)
    reasons: dict[str, str] = {}
    for first in range(0, min(len(rows), _JUDGED), _AT_ONCE):
        with runtime.lock:
            now = runtime.now()
            for row in rows[first : min(first + _AT_ONCE, _JUDGED)]:
                # Meanwhile, it may have started.
                if row.state is _S.QUEUED:
                    reasons |= _denial(runtime, row, now)
        # Whoever waits for the lock has it before the next tasks are judged.
        sleep(0)
    return reasons


def _denial(runtime: Runtime, row: TaskRow, now: int) -> dict[str, str]:
    """Return why policies deny the start of *row*, by its id, if they do."""
    with suppress(PolicyFault):
        ruling = runtime.deciders.judge(row, now)
        if ruling.denied:
            why = ruling.shown or ruling.denied
            return {row.id: f"may not start by the policies ({why.rstrip('.')})"}
    return {}


def asking(runtime: Runtime, going: Mapping[TaskRow, int]) -> dict[str, str]:
    """
    Return which attempts wait inside for a task that does not go on by itself.

    Such a task may be a question to a person; *going* are the tasks that do go on.
    """
    questions: dict[str, str] = {}
    for row in going:
        if row.state is _S.RUNNING and row.extra is not None and row.extra.yielded:
            for any_of in runtime.waiting.waits_of(row):
                if (
                    isinstance(any_of, tuple)
                    and any_of
                    and not any(
                        each in going or each.state in TERMINAL for each in any_of
                    )
                ):
                    questions[row.id] = any_of[0].id
    return questions


def unforeseen(
    runtime: Runtime,
    rows: Sequence[TaskRow],
    inside: Mapping[str, str],
    sleeping: Collection[str],
) -> tuple[str, ...]:
    """
    Return the parts of the unfinished tasks *rows* that no draw simulates.

    For *inside*, see `asking`; *sleeping* are the tasks that sleep inside.
    """
    return (
        *_of_program(runtime),
        *_of_starts(runtime, rows),
        *_of_attempts(runtime, rows, inside, sleeping),
        *_of_added(runtime, rows),
    )


def _of_program(runtime: Runtime) -> Iterator[str]:
    """Yield why nothing starts now, although a draw starts tasks."""
    committer = runtime.committer
    if committer is not None and committer.trouble:
        yield (
            "Nothing starts while the journal cannot be written: it is taken as if it "
            "could be from now on."
        )
    elif runtime.kernel.stopped and runtime.takes_up:
        yield "The orchestrator starts nothing: it is taken as if it were started now."


def _of_starts(runtime: Runtime, rows: Sequence[TaskRow]) -> Iterator[str]:
    """Yield the rules that may keep tasks from starting, and that no draw asks."""
    kernel, deciders = runtime.kernel, runtime.deciders
    buckets = {row.bucket: None for row in rows}
    budgets = sorted({each.spec.budget for each in buckets} - {""})
    if budgets:
        yield f"What tasks spend is left out: they draw on budget {some(budgets)}."
    if deciders.limits:
        concern = {
            getattr(limit, "name", "") for each in buckets for limit in each.limits
        }
        limits = [name for name in deciders.limits if name in concern]
        if limits:
            yield f"Limits that the program adds are left out: {some(limits)}."
    if kernel.judged:
        types = {each.spec.type for each in buckets}
        judged = sorted(filter(deciders.is_judged, types))
        if judged:
            yield f"Policies are taken to allow all other starts of {some(judged)}."
    if kernel.claims:
        many = counted(len(kernel.claims), "request")
        yield f"Resources by hand are left out: {many} for them wait."


def _of_attempts(
    runtime: Runtime,
    rows: Sequence[TaskRow],
    asked: Mapping[str, str],
    sleeping: Collection[str],
) -> Iterator[str]:
    """Yield the acts of attempts that no draw simulates."""
    kernel = runtime.kernel
    leaked = sorted({leak.row.id for leak in kernel.leaked.values()})
    held = [row.id for row in rows if row.extra is not None and row.extra.held]
    kept = [*leaked, *held]
    if kept:
        yield f"The slots that {some(kept)} did not give back are taken to be free."
    running = [row for row in rows if row.state is _S.RUNNING and row.extra is not None]
    stopping = [row.id for row in running if row.extra is not None and row.extra.stop]
    if stopping:
        yield f"Of {some(stopping)}, asked to stop, it is taken that it goes on."
    if asked:
        yield (
            f"Of {some([*asked])}, which waits for {some([*asked.values()])} inside, "
            "it is taken that it keeps what it holds."
        )
    if sleeping:
        yield f"{some([*sleeping])} ends no earlier than its `context.sleep`."
    inside = [
        row.id
        for row in running
        if row.extra is not None and row.extra.yielded and row.id not in asked
        if row.id not in sleeping
    ]
    if inside:
        yield (
            f"Of {some(inside)}, which waits for other tasks inside, it is taken that "
            "it lasts as long as others of its type."
        )


def _of_added(runtime: Runtime, rows: Iterable[TaskRow]) -> Iterator[str]:
    """Yield which types have added open tasks while they ran: more may come."""
    tasks = runtime.kernel.tasks
    types: dict[str, None] = {}
    for row in rows:
        metadata = task_of(row).metadata
        adder = MadeFor(metadata).adder if metadata else ""
        adding_row = tasks.get(adder) or tasks.get(stem_of(adder))
        if adding_row is not None:
            types[adding_row.bucket.spec.type] = None
    if types:
        yield f"What tasks of type {some([*types])} add while they run is left out."
