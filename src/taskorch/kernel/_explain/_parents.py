"""What a task needs of others: which have not completed, and what would help."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from taskorch.kernel._dependencies import awaits, is_broken, is_lost, is_waiting, least
from taskorch.kernel._explain._holders import NAMED
from taskorch.kernel._joins import holds
from taskorch.kernel._rows import Awaited, Links, TaskRow, Terms
from taskorch.model import TERMINAL, Blocker, Remedy, TaskState
from taskorch.model._explanation import some

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from taskorch.kernel._state import KernelState

_S: Final = TaskState
#: Parents that are looked at, where there are many.
_REACH: Final = 20_000
#: Tasks on the way up to where a failure began.
HEIGHT: Final = 2_000

#: What is not said with "is" and the state.
_IN_WORDS: Final = {_S.FAILED: "has failed", _S.CANCELLED: "was cancelled"}


def wait_of(row: TaskRow) -> Awaited | None:
    """What *row* waits for, if it is no work but a wait."""
    terms = None if row.links is None else row.links.terms
    return None if terms is None else terms.wait


def waits_for(
    kernel: KernelState, row: TaskRow, now: int, height: int = HEIGHT
) -> list[Blocker]:
    """
    What *row* needs of the tasks that it depends on.

    Args:
        kernel: The state.
        row: The task.
        now: The time in ns.
        height: How many tasks to go up through to where a failure began.

    Raises:
        PolicyFault: The join is a function of the user's, and failed.
    """
    links = row.links
    if links is None or not is_waiting(row):
        return []
    terms = links.terms
    if terms is not None and (terms.join != "all" or _runs_all_the_same(row, terms)):
        if row.state is _S.SUSPENDED and holds(kernel, row, links, terms, now):
            # The join is evaluated when the task is resumed.
            return []
        return [_join(kernel, row, links, terms, height)]
    broken = {} if row.extra is None else row.extra.blocked_by
    # Parents that will not complete come first where there are too many to examine.
    parents = dict.fromkeys(islice(broken.values(), NAMED))
    reach = len(links.parents)
    if reach > NAMED:
        found = filter(_open, islice(links.parents, _REACH))
        parents.update(dict.fromkeys(islice(found, NAMED)))
    else:
        parents = dict.fromkeys(filter(_open, links.parents))
    blockers = [_need(kernel, parent, height) for parent in islice(parents, NAMED)]
    rest = links.waiting - len(blockers)
    if reach > NAMED and rest > 0:
        detail = f"It needs {rest:,} more tasks that have not completed."
        words = f"They must complete, all {rest:,}."
        remedy = Remedy("complete", words, amount=rest)
        blockers.append(
            Blocker("dependency", detail, need=rest, have=0, remedies=(remedy,))
        )
    return blockers


def _open(parent: TaskRow) -> bool:
    return parent.state is not _S.COMPLETED


def how(row: TaskRow) -> str:
    """The state of *row*, as the end of a sentence."""
    if row.state is _S.BLOCKED and awaits(row):
        return "waits for its event"
    return _IN_WORDS.get(row.state, f"is {row.state}")


def _need(kernel: KernelState, parent: TaskRow, height: int) -> Blocker:
    """*parent* must complete."""
    if not is_broken(parent):
        return Blocker(
            "dependency",
            f"It needs {parent.id}, which {how(parent)}.",
            parent.id,
            remedies=(_completion(parent),),
        )
    detail = f"It needs {parent.id}, which {how(parent)}"
    detail += ", and will not complete unless it is run again."
    return Blocker(
        "dependency", detail, parent.id, remedies=_mending(kernel, [parent], height)
    )


def _runs_all_the_same(row: TaskRow, terms: Terms) -> bool:
    """Whether the join of *row* is lost, and it only waits for all to end."""
    return terms.on_failure == "run" and is_lost(row)


def _join(
    kernel: KernelState, row: TaskRow, links: Links, terms: Terms, height: int
) -> Blocker:
    """A join that is not, or not any more, that all must complete."""
    total = len(links.parents)
    done = total - links.waiting
    broken = {} if row.extra is None else row.extra.blocked_by
    live = [p for p in islice(links.parents, _REACH) if _open(p) and p.id not in broken]
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
            # The join is not asked in advance what it would say of re-runs.
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
            # So many of the broken parents must be run again and complete.
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


def _completion(parent: TaskRow) -> Remedy:
    """*parent*, which still can, must complete."""
    name = parent.id
    if parent.state is _S.SUSPENDED:
        words = f"Call orch.resume_task({name!r}), and let it complete."
    elif awaits(parent):
        words = f"{name} must complete: orch.explain({name!r}) says what it waits for."
    elif parent.state is _S.BLOCKED:
        words = f"Decide on it, by orch.decide({name!r}, …), and let it complete."
    elif parent.state is _S.RUNNING:
        words = f"{name} must complete; it runs."
        if parent.extra is not None and parent.extra.stop not in ("", "suspend"):
            words = f"{name} was asked to stop: run it again when it has."
    else:
        words = f"{name} must complete: orch.explain({name!r}) says what it waits for."
    return Remedy("complete", words, (name,))


def _mending(
    kernel: KernelState, parents: Sequence[TaskRow], height: int, *, whole: bool = True
) -> tuple[Remedy, ...]:
    """What makes *parents* complete, which will not by themselves; or runs them."""
    again, gone = to_rerun(kernel, parents, height)
    found: list[Remedy] = []
    if not gone and again:
        calls = [f"orch.rerun_task({name!r})" for name in again]
        words = f"Run again what failed, and let it complete: {some(calls)}."
        nobody = [name for name in again if _is_hopeless(kernel, kernel.tasks[name])]
        if nobody:
            words += f" First of all, somebody must be able to do {some(nobody)}."
        found.append(Remedy("rerun", words, tuple(again)))
    held = tuple(parent.id for parent in parents if parent.state is _S.BLOCKED)
    if whole and held and len(held) == len(parents):
        calls = [f"orch.decide({name!r}, 'complete')" for name in held]
        words = f"Do without it: {some(calls)} says that it is complete."
        found.append(Remedy("decide", words, held))
    return tuple(found)


def _is_hopeless(kernel: KernelState, row: TaskRow) -> bool:
    """Whether it is known that nobody can do *row*, as things are now."""
    bucket = row.bucket
    return bucket.agents_version == kernel.agents_version and not bucket.agents


def to_rerun(
    kernel: KernelState, broken: Iterable[TaskRow], height: int = HEIGHT
) -> tuple[list[str], list[str]]:
    """
    What is to be run again so that *broken* can complete.

    Args:
        kernel: The state.
        broken: Tasks that will not complete.
        height: How many tasks to go up through: above, it began where it was known to
            when they were blocked.

    Returns:
        Ids, those that come first above; and ids of those that have left memory, and
        cannot be.
    """
    again: dict[str, None] = {}
    gone: dict[str, None] = {}
    seen: dict[str, None] = {}
    stack = [(row, False) for row in broken][::-1]
    while stack:
        row, below = stack.pop()
        if below:
            again[row.id] = None
            continue
        if row.id in seen or not is_broken(row):
            continue
        seen[row.id] = None
        if row.state in TERMINAL:
            if row.id not in kernel.tasks:
                gone[row.id] = None
                continue
            stack.append((row, True))
        if len(seen) > height and row.extra is not None:
            for name in row.extra.first_roots:
                (again if name in kernel.tasks else gone)[name] = None
            continue
        parents = [] if row.links is None else row.links.parents
        if row.state in TERMINAL:
            # A re-run waits for the latest of these.
            parents = [_newest(kernel, parent) for parent in parents]
        stack += [(p, False) for p in parents if is_broken(p)][::-1]
    return list(again), list(gone)


def _newest(kernel: KernelState, row: TaskRow) -> TaskRow:
    """The latest re-run of *row*, or itself."""
    while row.extra is not None and row.extra.rerun_id in kernel.tasks:
        row = kernel.tasks[row.extra.rerun_id]
    return row
