"""Explanation of parents: the parents that have not completed, and remedies."""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING, Final

import attrs

from taskorch.core.kernel import _breakers
from taskorch.core.kernel._dependencies import (
    awaits,
    is_broken,
    is_forgiven,
    is_lost,
    is_waiting,
    least,
)
from taskorch.core.kernel._ends import holds
from taskorch.core.kernel._explain._holders import NAMED
from taskorch.core.kernel._explain._people import (
    asks,
    call_of_answer,
    is_open,
    sentence,
)
from taskorch.core.kernel._rows import Links, TaskRow, Terms
from taskorch.kit.visible import counted
from taskorch.kit.words import some
from taskorch.model import TERMINAL, Blocker, Remedy, TaskState

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from taskorch.core.kernel._state import KernelState

_S: Final = TaskState
#: The most parents that are looked at.
_REACH: Final = 20_000
#: The most tasks on the way up to where a failure began.
HEIGHT: Final = 2_000

#: Texts for states where "is" and the state would be wrong.
_IN_WORDS: Final = {_S.FAILED: "has failed", _S.CANCELLED: "was cancelled"}


def waits_for(
    kernel: KernelState, row: TaskRow, now: int, height: int = HEIGHT
) -> list[Blocker]:
    """
    Explain which parents *row* waits for.

    A failure is followed up to its origin through at most *height* tasks.

    Raises:
        PolicyFault: The join is a function of the user's, and failed.
    """
    links = row.links
    if links is None or not is_waiting(row):
        return []
    terms = links.terms
    if terms is not None and (terms.join != "all" or _runs_all_the_same(row, terms)):
        if row.state is _S.SUSPENDED and holds(kernel, row, links, terms, now):
            # The join is evaluated when the task is resumed, so it is no obstacle.
            return []
        return [_join(kernel, row, links, terms, height)]
    broken = {} if row.extra is None else row.extra.blocked_by
    many = len(links.parents) > NAMED
    # Broken parents come first where there are too many parents to examine.
    first = broken.values() if many else ()
    others = islice(_open(links), NAMED)
    parents = islice(dict.fromkeys(chain(first, others)), NAMED)
    blockers = [_need(kernel, parent, height) for parent in parents]
    rest = links.waiting - len(blockers)
    if many and rest > 0:
        have = "has" if rest == 1 else "have"
        detail = f"It needs {counted(rest, 'more task')} that {have} not completed."
        words = "It must complete."
        if rest > 1:
            words = f"They must complete, all {rest:,}."
        remedies = (Remedy("complete", words, amount=rest),)
        blockers.append(
            Blocker("dependency", detail, need=rest, have=0, remedies=remedies)
        )
    return blockers


def _open(links: Links) -> Iterator[TaskRow]:
    """Yield the parents that are still waited for, among the first few."""
    for parent in islice(links.parents, _REACH):
        if parent.state is not _S.COMPLETED and not is_forgiven(parent, links):
            yield parent


def how(kernel: KernelState, row: TaskRow) -> str:
    """Return the state of *row* as the end of a sentence."""
    if is_open(kernel, row):
        return asks(kernel, row)
    if row.state is _S.BLOCKED and awaits(row):
        return "waits for its event"
    return _IN_WORDS.get(row.state, f"is {row.state}")


def _need(kernel: KernelState, parent: TaskRow, height: int) -> Blocker:
    """Explain that *parent* must complete."""
    detail = f"It needs {parent.id}, which {how(kernel, parent)}"
    remedies: tuple[Remedy, ...] = (_completion(kernel, parent),)
    if is_broken(parent):
        detail += ", and will not complete unless it is run again"
        remedies = _mending(kernel, [parent], height)
    return Blocker("dependency", sentence(detail), parent.id, remedies=remedies)


def _runs_all_the_same(row: TaskRow, terms: Terms) -> bool:
    """Return whether *row* runs once all parents end, though its join is lost."""
    return terms.on_failure == "run" and is_lost(row)


def _join(
    kernel: KernelState, row: TaskRow, links: Links, terms: Terms, height: int
) -> Blocker:
    """Explain a join other than that all parents must complete."""
    total = len(links.parents)
    done = total - links.waiting
    broken = {} if row.extra is None else row.extra.blocked_by
    live = [parent for parent in _open(links) if parent.id not in broken]
    ids = _ids(live)
    need = total
    remedies: tuple[Remedy, ...]
    if terms.join == "finished" or _runs_all_the_same(row, terms):
        done += len(broken)
        detail = f"{_of(done, total)} ended, and all must have, however they do."
        words = f"All must end that have not: {some(ids)}."
        remedies = (Remedy("complete", words, ids, amount=len(live)),)
    elif terms.join == "asked":
        detail = f"{_of(done, total)} completed, and its join has not said yes to that."
        remedies = _completions(live, 1)
        if not live:
            # The join is not asked what it would answer after re-runs.
            remedies = _mending(kernel, [*broken.values()], height, whole=False)
            if not broken:
                words = "Its join must say yes; it is asked when it is resumed."
                remedies = (Remedy("policy", words, name="join"),)
    else:
        need = least(terms)
        what = "1 is needed" if need == 1 else f"{need:,} are needed"
        detail = f"{_of(done, total)} completed, and {what}."
        remedies = _completions(live, need - done)
        if need > total:
            detail += " That can never be."
            remedies = ()
        elif is_lost(row):
            # These broken parents must be run again and complete.
            again = [*islice(broken.values(), need - done - len(live))]
            detail += f" {len(broken):,} will not complete unless run again."
            remedies = _mending(kernel, again, height)
    return Blocker("dependency", detail, "", need, done, ids, remedies=remedies)


def _of(done: int, total: int) -> str:
    has = "has" if done == 1 else "have"
    return f"{done:,} of the {total:,} tasks that it depends on {has}"


def _ids(rows: Iterable[TaskRow]) -> tuple[str, ...]:
    return tuple(row.id for row in islice(rows, NAMED))


def _completions(live: list[TaskRow], amount: int) -> tuple[Remedy, ...]:
    ids = _ids(live)
    words = f"It is enough that {some(ids)} complete{'s' * (len(live) == 1)}."
    if len(live) > 1:
        them = f"{amount:,} of {some(ids)}"
        words = f"It is enough that {them} complete{'s' * (amount == 1)}."
    return (Remedy("complete", words, ids, amount=amount),)


def _completion(kernel: KernelState, parent: TaskRow) -> Remedy:
    """Explain that *parent*, which still can, must complete."""
    name = parent.id
    words = f"{name} must complete: orch.explain({name!r}) says what it waits for."
    if parent.state is _S.SUSPENDED:
        words = f"Call orch.resume_task({name!r}), and let it complete."
    elif is_open(kernel, parent):
        words = call_of_answer(kernel, parent)
    elif parent.state is _S.BLOCKED and not awaits(parent):
        words = f"Decide on it, by orch.decide({name!r}, …), and let it complete."
    elif parent.state is _S.RUNNING:
        words = f"{name} must complete; it runs."
        if parent.extra is not None and parent.extra.stop not in ("", "suspend"):
            words = f"{name} was asked to stop: run it again when it has."
    return Remedy("complete", words, (name,))


def _mending(
    kernel: KernelState, parents: Sequence[TaskRow], height: int, *, whole: bool = True
) -> tuple[Remedy, ...]:
    """Return the calls that make the broken *parents* complete, or run them again."""
    lead = "Run again what failed, and let it complete:"
    found = reruns(kernel, parents, height, lead)
    tasks = [name for remedy in found for name in remedy.tasks]
    nobody = [name for name in tasks if _is_hopeless(kernel, kernel.tasks[name])]
    if nobody:
        words = f" First of all, somebody must be able to do {some(nobody)}."
        found = (attrs.evolve(found[0], detail=f"{found[0].detail}{words}"),)
    held = tuple(parent.id for parent in parents if parent.state is _S.BLOCKED)
    if whole and held and len(held) == len(parents):
        calls = [f"orch.decide({name!r}, 'complete')" for name in held]
        words = f"Do without it: {some(calls)} says that it is complete."
        found += (Remedy("decide", words, held),)
    return found


def _is_hopeless(kernel: KernelState, row: TaskRow) -> bool:
    """Return whether no known worker can do *row*."""
    bucket = row.bucket
    if bucket.workers_version != kernel.workers_version or bucket.workers:
        return False
    return not _breakers.for_now(kernel, bucket)


def reruns(
    kernel: KernelState,
    broken: Iterable[TaskRow],
    height: int = HEIGHT,
    lead: str = "Call",
    known: Collection[str] = (),
) -> tuple[Remedy, ...]:
    """Return the calls that run tasks again so that *broken* can complete, in order.

    The cause is followed up through *height* tasks. Further up, the first failures
    count that were known when they were blocked. Return nothing if these have left
    memory, and are not among those that are *known* all the same.
    """
    again: dict[str, None] = {}
    seen: set[str] = set()
    stack = [(row, False) for row in broken][::-1]
    while stack:
        row, below = stack.pop()
        if below:
            again[row.id] = None
            continue
        if row.id in seen or not is_broken(row):
            continue
        seen.add(row.id)
        if row.state in TERMINAL:
            stack.append((row, True))
        if len(seen) > height and row.extra is not None:
            again.update(dict.fromkeys(row.extra.first_roots))
            continue
        parents = [] if row.links is None else row.links.parents
        if row.state in TERMINAL:
            # A re-run waits for the latest run of each parent.
            parents = [_newest(kernel, parent) for parent in parents]
        stack += [(p, False) for p in parents if is_broken(p)][::-1]
    if not again or not again.keys() <= kernel.tasks.keys() | {*known}:
        return ()
    calls = some([f"orch.rerun_task({name!r})" for name in again])
    return (Remedy("rerun", f"{lead} {calls}.", tuple(again)),)


def _newest(kernel: KernelState, row: TaskRow) -> TaskRow:
    """Return the latest re-run of *row*, or *row* itself."""
    while row.extra is not None and row.extra.rerun_id in kernel.tasks:
        row = kernel.tasks[row.extra.rerun_id]
    return row
