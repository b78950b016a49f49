"""
Submissions of any kind: ids, existing tasks, parents, and cycles.

`_translation` says what the fields of a task mean; `_batch` has the steps before the
lock.
"""

from __future__ import annotations

from collections.abc import (
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from itertools import repeat
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import attrs

from taskorch.core.engine._batch import SOME, Batch, Entry, Preparation
from taskorch.core.engine._identity import (
    Difference,
    alike,
    changed_options,
    differences,
    digest,
    options_between,
    refusal,
    with_options,
)
from taskorch.core.engine._stale import goes_with, is_due, runs_above
from taskorch.core.engine._translation import (
    bare,
    id_of,
    needs_of_task,
    said_ns,
    terms_of,
    when,
)
from taskorch.core.engine._work import (
    NO_KWARGS,
    Work,
    after_of,
    failed_earlier,
    note_cache,
    place_under,
)
from taskorch.core.kernel import (
    PolicyFault,
    TaskRow,
    assumed,
    latest_finish_first,
    may_wait_for,
    typical_ns,
)
from taskorch.errors import (
    CycleError,
    DuplicateTaskError,
    InvalidTaskError,
    InvalidTransitionError,
    UnknownCapabilityError,
    UsageError,
)
from taskorch.kit.checks import find_ring
from taskorch.kit.limits import NS
from taskorch.kit.people import caller
from taskorch.model import (
    LOCAL,
    TERMINAL,
    Call,
    Reference,
    Task,
    Wait,
    call_type,
)
from taskorch.model.ids import earlier_ids, has_number, stem_of

if TYPE_CHECKING:
    from taskorch.core.engine._runtime import TaskEngine

__all__ = ("Entry", "Submission")

_set_attribute: Final = object.__setattr__
#: The number of tasks of a batch after which events are published.
_SLICE: Final = 512
#: The hint for two tasks that are submitted together.
_OTHER: Final = "give one of them another"
#: A stand-in for a handle where only the kind matters.
_SOME: Final = Reference("some-task")


#: A task, the existing one under its id (None if none), and the differences: of
#: identity, and of options.
Compared: TypeAlias = tuple[Task, "Work | None", list[Difference], list[Difference]]


class Renewing(Protocol):
    """Protocol: decides which existing tasks that are added again are made anew."""

    @property
    def decides(self) -> bool:
        """Whether no other task is made anew, such as one that had failed earlier."""
        ...

    def admitted(self, now: int) -> None:
        """Finish the step that has accepted them; this must not fail."""
        ...

    def is_due(self, work: Work, *, is_other: bool) -> bool:
        """Return whether it is made anew; *is_other*: the one added now differs."""
        ...

    def is_anew(self, work: Work) -> bool:
        """Return whether tasks that it has added are made anew, too."""
        ...


class Submission:
    """
    Turns tasks into rows, all or none.

    Steps that need no lock (validation, which may do I/O) come first: see
    `Preparation`. The rest is `admit`, and cannot fail half-way.
    """

    def __init__(self, rt: TaskEngine) -> None:
        self._rt = rt
        self.preparation: Preparation = Preparation(rt)

    def names(self, batch: Batch) -> list[str]:
        """Return ids of dependencies of *batch* that may have left memory."""
        names: list[str] = []
        for refs in batch.refs.values():
            named = [id_of(ref) for ref in refs if isinstance(ref, str | Task)]
            names += filter(None, named)
        if not (batch.needs_more or batch.ids or batch.have_keys):
            return names
        recovered, keys = self._rt.directory.recovered, self._rt.directory.keys
        for task in batch.tasks:
            if task.id is not None:
                names.append(task.id)
            key = task.idempotency_key
            if key is not None and recovered is not None and key not in keys:
                known = recovered.id_of_key(key)
                if known is not None:
                    keys[key] = known
                    names.append(known)
        return names

    # -- under the lock ------------------------------------------------------------

    def admit(
        self,
        batch: Batch,
        now: int,
        *,
        replace: bool = False,
        renewing: Renewing | None = None,
    ) -> list[Work]:
        """Accept all of *batch*, or none: see `admit_entries`."""
        works = self.place(batch, now)
        if works is None:
            entries = batch.entries()
            works = self.admit_entries(entries, now, replace=replace, renewing=renewing)
        return works

    def place(self, batch: Batch, now: int) -> list[Work] | None:
        """
        Accept *batch* the quick way; return None if its tasks need more.

        Most need no more: no policy must be asked about them, and their names are free.
        """
        if (
            batch.needs_more
            or not self._is_new(batch)
            or self._has_lost(batch)
            or not self._is_agreed(batch, now)
        ):
            return None
        rt, submit = self._rt, self._rt.kernel.submit
        works, buckets = batch.works, batch.buckets
        if rt.committer is not None:
            rt.committer.documents.update(zip(works, batch.documents, strict=True))
        prefix, numbers = rt.id_parts
        ids: Iterable[str | None] = batch.ids or repeat(None)
        order = self._order_of(batch)
        if order is not None:
            works = [works[place] for place in order]
            buckets = [buckets[place] for place in order]
            if batch.ids:
                ids = [batch.ids[place] for place in order]
        for number, (work, bucket, name) in enumerate(
            zip(works, buckets, ids, strict=False), 1
        ):
            task: Task = work._task  # type: ignore[assignment]  # set by prepare
            task_id = name or prefix + str(next(numbers))
            above = work._above
            key, soonest, latest = task.idempotency_key, task.not_before, task.deadline
            work._row = submit(
                task_id,
                bucket,
                work,
                now,
                task.priority,
                tuple([parent._row for parent in above]) if above else (),
                named=name is not None or key is not None,
                not_before_ns=None if soonest is None else when(soonest, now),
                deadline_ns=None if latest is None else when(latest, now),
                run=batch.run,
            )
            if key is not None:
                rt.directory.keys[key] = task_id
            if not batch.are_shared:
                _set_attribute(task, "_submitted_as", task_id)
            if not number % _SLICE:
                # So not all of its events are in memory at once.
                rt.publish()
        return batch.works

    def _is_new(self, batch: Batch) -> bool:
        """Return whether its ids and keys are all unused; hold the lock."""
        kernel = self._rt.kernel
        if batch.have_keys:
            keys = [task.idempotency_key for task in batch.tasks]
            keys = [key for key in keys if key is not None]
            known = self._rt.directory.keys
            if len({*keys}) < len(keys) or not known.keys().isdisjoint(keys):
                return False
        # Any, since checkers for 3.13 and newer accept only text to look up among text.
        ids: Any = batch.ids
        reruns = self._rt.directory.reruns
        if ids and not reruns.is_empty:
            # The run that an id means may exist, though the first has gone.
            ids = [*ids, *[reruns.latest(task_id) for task_id in ids if task_id]]
        return kernel.tasks.keys().isdisjoint(ids) and kernel.evicted.isdisjoint(ids)

    def _has_lost(self, batch: Batch) -> bool:
        """Return whether a dependency has left the journal since; hold the lock."""
        directory = self._rt.directory
        if not directory.departures:
            return False
        own = {*batch.works}
        above = {each for work in batch.works for each in work._above}
        return any(directory.is_gone(each) for each in above if each not in own)

    def _is_agreed(self, batch: Batch, now: int) -> bool:
        """
        Return whether no task of *batch* needs a policy; hold the lock.

        Our own policies are asked once about each kind of task; those of the user's
        see every task until they say that they need not.
        """
        kernel = self._rt.kernel
        kinds = dict(zip(batch.buckets, batch.works, strict=True))
        for bucket, work in kinds.items():
            if bucket.forgotten:
                return False
            if kernel.plain and bucket.checked == kernel.workers_version:
                continue
            if not self._rt.deciders.is_standard:
                return False
            task: Task = work._task  # type: ignore[assignment]  # set by prepare
            probe = self._rt.new_work(
                work._fn, (), NO_KWARGS, work._executor, work._ctx
            )
            probe._task = attrs.evolve(task, id=None, after=())
            row = TaskRow("probe", 0, bucket, probe, now)
            row.run = batch.run
            try:
                kernel.consider(row, now, priority=task.priority)
            except (UsageError, PolicyFault):
                # The usual way asks about it, and refuses it by its name.
                return False
        version = kernel.workers_version
        return kernel.plain and all(bucket.checked == version for bucket in kinds)

    def _order_of(self, batch: Batch) -> Sequence[int] | None:
        """Return the order to accept *batch* in; None for the order as it is."""
        works = batch.works
        if not self._rt.kernel.deciders.aging_ns or len(works) == 1:
            return None
        measured = {
            bucket: typical_ns(bucket.type_row)
            for bucket in dict.fromkeys(batch.buckets)
        }
        known: list[float | None]
        if batch.are_expected:
            known = [
                measured[bucket] if task.expected is None else task.expected * NS
                for bucket, task in zip(batch.buckets, batch.tasks, strict=True)
            ]
        elif not any(measured.values()) or (
            len(set(measured.values())) == 1 and not batch.are_linked
        ):
            return None
        else:
            known = [measured[bucket] for bucket in batch.buckets]
        lengths = assumed(known)
        if lengths is None:
            return None
        return latest_finish_first(works, [work._above for work in works], lengths)

    def admit_entries(  # noqa: C901 - one step, in order
        self,
        entries: Sequence[Entry],
        now: int,
        *,
        replace: bool = False,
        renewing: Renewing | None = None,
    ) -> list[Work]:
        """
        Accept all of *entries*, or none.

        Args:
            entries: The tasks.
            now: The time in ns.
            replace: Whether a task that has ended under the same name, and was another
                one, is run again as this one.
            renewing: Decides which existing tasks are made anew.

        Raises:
            UsageError: One is refused; nothing has changed.
            PolicyFault: A policy failed; nothing has changed.
        """
        self._name(entries, now)
        _refuse_others(entries)
        objects = {id(entry.given): entry for entry in entries}
        self._compare(entries, objects, replace=replace, renewing=renewing)
        is_all = renewing is not None and renewing.decides
        self._run_again(entries, now, of_earlier=self._rt.rerun_failed and not is_all)
        if self._rt.governor is not None:
            self._rt.governor.confirm(entries, now)
        self._connect(entries, objects)
        self._consider_changes(entries, now)
        kernel = self._rt.kernel
        fresh = [entry for entry in entries if entry.existing is None]
        try:
            accepted = [
                kernel.consider(
                    entry.work._row,
                    now,
                    priority=entry.task.priority,
                    parents=entry.parents,
                    not_before_ns=when(entry.task.not_before, now),
                    deadline_ns=when(entry.task.deadline, now),
                    rerun_of=None if entry.again is None else entry.again._row,
                    terms=entry.terms,
                    beside=number,
                )
                for number, entry in enumerate(fresh)
            ]
        except UnknownCapabilityError as error:
            _say_how_to_call(error, fresh)
            raise
        committer = self._rt.committer
        for entry, admitted in zip(fresh, accepted, strict=True):
            self._note_names(entry, admitted.row)
            if committer is not None:
                committer.documents[entry.work] = entry.document
        for admitted in kernel.in_order(accepted, list(map(_length, fresh))):
            kernel.accept(admitted, now)
        for entry in fresh:
            if entry.again is not None:
                old = entry.again
                succession = self._rt.succession
                rows = succession.rows_of(old)
                succession.succeed(
                    old, entry.work, entry.parents, rows, now, is_anew=entry.is_anew
                )
                succession.give_up(old, entry.work, now)
        if self._rt.governor is not None:
            self._rt.governor.admitted(entries, now)
        for entry in entries:
            if entry.change is not None:
                self._change(entry, now)
            if entry.existing is not None:
                _set_attribute(entry.given, "_submitted_as", entry.existing._row.id)
        return [entry.existing or entry.work for entry in entries]

    def _name(self, entries: Sequence[Entry], now: int) -> None:
        """Find or make ids; find the existing tasks of re-submissions."""
        rt = self._rt
        keys: dict[str, Entry] = {}
        ids: dict[str, Entry] = {}
        for entry in entries:
            task = entry.task
            key = task.idempotency_key
            known = task.id if key is None else rt.directory.keys.get(key, task.id)
            known = None if known is None else rt.directory.reruns.latest(known)
            if known is not None and rt.directory.is_known(known):
                entry.existing = rt.directory.known(known)
                if entry.run and entry.existing._row.run != entry.run:
                    msg = f"the id {known!r} is that of a task that is of no workflow"
                    hint = "choose another id for the run, or for the task"
                    raise DuplicateTaskError(msg, hint=hint, task_id=known)
                rt.directory.bring_back(entry.existing)
                self._check_id_and_key(task, known)
                continue
            if task.id is not None and task.id in ids:
                msg = f"two tasks of one batch have the id {task.id!r}"
                raise DuplicateTaskError(msg, hint=_OTHER, task_id=task.id)
            if key is not None and key in keys:
                msg = f"two tasks of one batch have the idempotency key {key!r}"
                raise DuplicateTaskError(msg, hint=_OTHER, task_id=task.id)
            entry.task_id = rt.new_id() if task.id is None else task.id
            entry.row = TaskRow(entry.task_id, 0, entry.bucket, entry.work, now)
            entry.row.run = entry.run
            entry.work._row = entry.row
            ids[entry.task_id] = entry
            if key is not None:
                keys[key] = entry

    def _check_id_and_key(self, task: Task, known: str) -> None:
        """
        Check that no other task has the id or key of *task*.

        Raises:
            DuplicateTaskError: It is.
        """
        rt, name, key = self._rt, task.id, task.idempotency_key
        if key is None or name is None or stem_of(known) == name:
            return
        if rt.directory.is_known(rt.directory.reruns.latest(name)):
            msg = (
                f"the idempotency key {key!r} is that of task {stem_of(known)}, and "
                f"the id {name!r} that of another"
            )
            hint = "use the id that belongs to the key, or another key"
            raise DuplicateTaskError(msg, hint=hint, task_id=name)

    def _run_again(
        self, entries: Sequence[Entry], now: int, *, of_earlier: bool
    ) -> None:
        """Run replaced tasks again; *of_earlier*: failed or stale ones, too."""
        rt = self._rt
        begun: dict[Work, Entry] = {}
        due = self._due(entries) if of_earlier else {}
        for entry in entries:
            old = entry.existing
            if old is None or not (entry.is_other or old in due):
                continue
            if old in begun:
                # The task is in the batch twice.
                entry.existing = begun[old].work
                continue
            begun[old] = entry
            entry.existing, entry.again = None, old
            entry.task_id = rt.directory.reruns.next_id(old._row.id)
            # The key stands for the first run, and so for all runs.
            entry.task = attrs.evolve(
                entry.stated, id=entry.task_id, idempotency_key=None
            )
            entry.work._task = entry.task
            entry.row = TaskRow(entry.task_id, 0, entry.bucket, entry.work, now)
            entry.row.named = True
            entry.work._row = entry.row

    def _due(self, entries: Sequence[Entry]) -> dict[Work, None]:
        """Return tasks of *entries* that had failed earlier, or are or get stale."""
        found = {e.existing: e.is_other for e in entries if e.existing is not None}
        below: dict[str, list[Work]] = {}
        for work in found:
            for name in runs_above(self._rt, work):
                below.setdefault(name, []).append(work)
        todo = [
            work
            for work, is_other in found.items()
            if is_other or failed_earlier(work) or is_due(self._rt, work)
        ]
        due: dict[Work, None] = {}
        while todo:
            work = todo.pop()
            if work not in due:
                due[work] = None
                children = below.get(work._row.id, ())
                todo += [child for child in children if goes_with(work, child)]
        return due

    def _connect(self, entries: Sequence[Entry], objects: Mapping[int, Entry]) -> None:
        """Find the parents; refuse cycles."""
        batch = {e.task_id: e for e in entries if e.row is not None}
        named = {stem_of(name): entry for name, entry in batch.items()}
        for entry in batch.values():
            works = self._parents(entry, named, objects)
            is_whole = len({*map(stem_of, works)}) == len(works) and not any(
                isinstance(ref, Task) for ref in entry.refs
            )
            # The arguments may be many, and others wait: most have their document.
            if entry.document is not None and (
                entry.again is not None or (not is_whole and needs_of_task(entry.task))
            ):
                entry.document = self.preparation.document(
                    entry.task, _naming(objects, frozenset(works))
                )
            if works:
                place_under(entry.work, works)
                entry.parents = [parent._row for parent in works.values()]
            task = entry.task
            if (
                task.join != "all"
                or task.on_parent_failure != "block"
                or isinstance(task.payload, Wait)
            ):
                entry.terms = terms_of(task, len(works))
        # Most batches have no dependencies.
        if any(entry.parents for entry in batch.values()):
            _refuse_rings(
                {name: entry.parents for name, entry in batch.items()},
                {e.again._row.id: name for name, e in batch.items() if e.again},
            )

    def _parents(
        self, entry: Entry, named: Mapping[str, Entry], objects: Mapping[int, Entry]
    ) -> dict[str, Work]:
        """Return the works *entry* waits for; *named*: the batch, by bare ids."""
        found: dict[str, Work] = {}
        for ref in entry.refs:
            if isinstance(ref, Task) and id(ref) in objects:
                target = objects[id(ref)]
                work = target.existing or target.work
                found[work._row.id] = work
                continue
            if isinstance(ref, str) and ref in named:
                work = named[ref].work
            else:
                work = self._rt.directory.find(ref, entry.task)
                below = named.get(stem_of(work._row.id))
                if below is not None and below.again is work:
                    # The parent is run again in this batch.
                    work = below.work
            found[work._row.id] = work
        return found

    def _compare(
        self,
        entries: Sequence[Entry],
        objects: Mapping[int, Entry],
        *,
        replace: bool,
        renewing: Renewing | None,
    ) -> None:
        """
        Compare tasks with the existing ones under the same names.

        Raises:
            DuplicateTaskError: One is another task.
            InvalidTransitionError: It is to be replaced, and has not ended.
        """
        found: dict[str, tuple[str, list[Difference]]] = {}
        kind, unended = "id", ""
        for entry in entries:
            work = entry.existing
            if work is None:
                continue
            parts = self._differences(entry, work, objects)
            entry.has_changed = parts is not None
            if renewing is not None and renewing.is_due(
                work, is_other=parts is not None
            ):
                entry.is_other = True
                entry.is_anew = parts is not None or renewing.is_anew(work)
                continue
            if parts is None:
                continue
            if replace:
                _refuse_to_replace(work)
                entry.is_other = entry.is_anew = True
                continue
            task, row = entry.task, work._row
            name = f"the id {task.id!r}"
            if task.id != stem_of(row.id):
                kind = "key"
                name = f"the idempotency key {task.idempotency_key!r}"
            found[row.id] = name, parts
            if row.state not in TERMINAL:
                unended = unended or stem_of(row.id)
        if found:
            hint = "orch.submit_task(task, replace=True) makes this the next run of it"
            if unended:
                hint = f"end that one first: orch.cancel_task({unended!r})"
            raise refusal(found, f"use another {kind}; or {hint}")

    def _differences(
        self, entry: Entry, work: Work, objects: Mapping[int, Entry]
    ) -> list[Difference] | None:
        """Return the differences of identity from *work*; None if none."""
        rt, name, after = self._rt, work._row.id, entry.refs

        def name_of(ref: Any) -> str:
            return _id_of(ref, objects)

        above = [name_of(ref) for ref in after]
        new, old = entry.stated, work._task
        if rt.governor is not None:
            # Both are compared as policies would change them: a waiver may have let one
            # of them pass unchanged, and a value that policies hide stands in no
            # message.
            new = rt.governor.changed(new)
            old = None if old is None else rt.governor.changed(old)
        news = [bare(each, name_of) for each in (new, entry.given)]
        if has_number(name):
            # The key stands for the first run, and so for all runs.
            news = [attrs.evolve(each, idempotency_key=None) for each in news]
        if old is None:
            known = rt.kernel.evicted.digest(name)
            # None is of what cannot be compared, and so of other content, too.
            given = [digest(each, above) for each in news] if known else []
            return None if known in given else []
        new, old = news[0], bare(old)
        both = given_parents(rt, work, above), above
        return differences(old, new, both, alike(rt.committer)) or None

    def compared(self, tasks: Sequence[Task], run: str) -> list[Compared]:
        """
        Return the existing tasks under the ids of *tasks*, and the differences.

        Nothing changes; *run* is the workflow run that they are of, or "".

        Raises:
            UsageError: One is no task that could be submitted.
        """
        rt: Any = self._rt
        batch = self.preparation.prepare(tasks, run)
        rt.recall(self.names(batch))
        entries = batch.entries()
        objects = {id(entry.given): entry for entry in entries}
        works: dict[str, Work] = {}
        for entry in entries:
            latest = rt.directory.reruns.latest(str(entry.task.id))
            if rt.directory.is_known(latest):
                works[str(entry.task.id)] = rt.directory.known(latest)
        gone = [work._row.id for work in works.values() if work._task is None]
        recovered = rt.directory.recovered
        again = recovered.recollect_all(gone) if gone and recovered is not None else {}
        are_alike, compared = alike(rt.committer), list[Compared]()
        for entry in entries:
            work = works.get(str(entry.task.id))
            if work is None:
                compared.append((entry.task, None, [], []))
                continue
            work = again.get(work._row.id, work)
            with rt.lock:
                parts = self._differences(entry, work, objects)
            options = list[Difference]()
            if work._task is not None:
                specs = self.preparation.spec_of(work._task), entry.bucket.spec
                options = options_between(work._task, entry.stated, specs, are_alike)
            elif parts == []:
                parts = [("", "what has left memory", "")]
            compared.append((entry.task, work, parts or [], options))
        return compared

    def _consider_changes(self, entries: Sequence[Entry], now: int) -> None:
        """
        Check whether unfinished tasks may have the options that they are given now.

        Raises:
            UsageError: No worker could do it, or the journal cannot keep them.
            PolicyFault: A policy failed.
        """
        rt = self._rt
        for entry in entries:
            work, new = entry.existing, entry.stated
            if work is None or work._task is None or entry.work is work:
                continue
            row = work._row
            if row.state in TERMINAL or row.id not in rt.kernel.tasks:
                continue
            specs = row.bucket.spec, entry.bucket.spec
            names = changed_options(work._task, new, specs, alike(rt.committer))
            first = 0 if row.extra is None else row.extra.first_timeout_ns
            if first and entry.bucket.spec.timeout_ns == first:
                # The timeout is the same as before, so the one that failures have led
                # to stays.
                names = tuple(name for name in names if name != "timeout")
            if not names:
                continue
            seen = TaskRow(row.id, row.seq, entry.bucket, entry.work, row.submitted_ns)
            seen.run = row.run
            entry.work._row = seen
            if rt.committer is not None:
                options = with_options(Task(new.type), new)
                entry.document = self.preparation.document(options, lambda _: SOME)
            entry.change = rt.kernel.consider_change(
                row,
                seen,
                now,
                names=names,
                priority=new.priority,
                not_before_ns=when(new.not_before, row.submitted_ns),
                deadline_ns=when(new.deadline, row.submitted_ns),
            )

    def _change(self, entry: Entry, now: int) -> None:
        """Apply the checked options to the existing task."""
        work, change, rt = entry.existing, entry.change, self._rt
        if work is None or work._task is None:
            return
        rt.directory.release_if_back(work._row, now)
        if change is None:
            return
        work._task = with_options(work._task, entry.given)
        note_cache(work)
        if rt.committer is not None:
            rt.committer.documents[work] = entry.document
        rt.kernel.change_options(change, now)

    def remember(self, row: TaskRow, work: Work) -> None:
        """Note the identity of *row*, which leaves memory, for its name."""
        if row.named:
            task = work._task
            assert task is not None  # noqa: S101 - its name is from the task
            payload = task.payload
            if type(payload) is not Call or payload.args or payload.kwargs:
                task = bare(task)
            found = digest(task, after_of(work))
            if found is not None:
                self._rt.kernel.evicted.note_digest(row.id, found)

    def _note_names(self, entry: Entry, row: TaskRow) -> None:
        task = entry.task
        _set_attribute(entry.given, "_submitted_as", row.id)
        if task.id is not None or task.idempotency_key is not None:
            # The identity is noted when the task leaves memory.
            row.named = True
        if task.idempotency_key is not None:
            self._rt.directory.keys[task.idempotency_key] = row.id


def _refuse_others(entries: Sequence[Entry]) -> None:
    """
    Refuse the ids of existing tasks of tenants that the caller may not see.

    Raises:
        InvalidTaskError: One is such a task's.
    """
    who = caller()
    if who is None or who.tenants is None:
        return
    for entry in entries:
        if entry.existing is None:
            continue
        tenant = entry.existing._row.bucket.spec.owner
        # A question in a run of the caller's tenant may have no tenant itself.
        if not (who.sees(tenant) or (tenant is None and entry.run)):
            msg = f"id: {entry.existing._row.id} is taken"
            raise InvalidTaskError(msg)


def _length(entry: Entry) -> float | None:
    """Return how long the task of *entry* takes, in ns, if that is known."""
    wait = None if entry.terms is None else entry.terms.wait
    if wait is None:
        said = said_ns(entry.task)
        return typical_ns(entry.bucket.type_row) if said is None else said
    # Nobody knows when an event comes; a timer has a known length.
    event, timeout, _ = wait
    return 0 if event is not None or timeout is None else timeout


def given_parents(rt: TaskEngine, work: Work, given: Collection[str]) -> Sequence[str]:
    """
    Return the ids of the parents that *work* was submitted with; hold the lock.

    A re-run depends on all parents of its task, with those added to earlier runs: these
    are no part of its identity, unless they are among those *given* now.
    """
    after = after_of(work)
    earlier = earlier_ids(work._row.id)
    stems = set(map(stem_of, given))
    if not earlier or stems.issuperset(map(stem_of, after)):
        return after
    rt.directory.recall(earlier)
    known = rt.directory.known
    added: set[str] = set()
    for name in earlier:
        extra = known(name)._extra if rt.directory.is_known(name) else None
        added.update(() if extra is None else map(stem_of, extra.added))
    added -= stems
    return [name for name in after if stem_of(name) not in added]


def _id_of(ref: Any, objects: Mapping[int, Entry]) -> str:
    """Return the id of *ref*, which may be a task of the batch."""
    target = objects.get(id(ref))
    return id_of(ref) if target is None else (target.existing or target.work)._row.id


def _naming(
    objects: Mapping[int, Entry], above: Collection[str]
) -> Callable[[Any], Reference]:
    """Return a function that names tasks in documents: by bare ids, if unique."""
    is_plain = len({stem_of(task_id) for task_id in above}) == len(above)

    def name_of(ref: Any) -> Reference:
        task_id = _id_of(ref, objects)
        return Reference(stem_of(task_id) if is_plain else task_id)

    return name_of


def _refuse_to_replace(work: Work) -> None:
    """
    Check that *work* has ended, so that another can take its place.

    Raises:
        InvalidTransitionError: It has not.
    """
    row = work._row
    if row.state not in TERMINAL:
        name = stem_of(row.id)
        msg = f"task {row.id} is {row.state}: only what has ended can be replaced"
        hint = f"orch.cancel_task({name!r}), and wait() for orch.handle({name!r})"
        raise InvalidTransitionError(msg, hint=hint, task_id=row.id)


def _refuse_rings(
    parents: Mapping[str, Iterable[TaskRow]], again: Mapping[str, str]
) -> None:
    """
    Refuse new tasks that would wait for each other in a cycle.

    Args:
        parents: The parents of each new task.
        again: The ids of the new runs, by those of the runs that they replace: tasks
            that wait for the one will wait for the other.

    Raises:
        CycleError: They would.
    """
    waits = {name: [again.get(p.id, p.id) for p in of] for name, of in parents.items()}
    # An existing task waits for a new one only if that is the next run of its parent.
    todo = [row for of in parents.values() for row in of] if again else []
    while todo:
        row = todo.pop()
        if row.id not in waits:
            above = may_wait_for(row)
            waits[row.id] = [again.get(p.id, p.id) for p in above]
            todo += above
    ring = find_ring(waits)
    if len(ring) == 1:
        msg = f"task {ring[0]!r} waits for itself: {ring[0]} → {ring[0]}"
        hint = "leave it out of its own `after` and arguments"
        raise CycleError(msg, cycle=ring, hint=hint)
    if ring:
        msg = f"tasks wait for each other in a ring: {' → '.join((*ring, ring[0]))}"
        raise CycleError(msg, cycle=ring)


def _say_how_to_call(error: UnknownCapabilityError, entries: Sequence[Entry]) -> None:
    """Add a hint to *error* if a payload is a function, perhaps meant as a call."""
    for entry in entries:
        payload = entry.task.payload
        is_its = entry.work._row.id == error.task_id
        if is_its and callable(payload) and not isinstance(payload, LOCAL):
            call = f"Task.call({call_type(payload)})"
            error.hint = f"{call} calls a function; else {error.hint}"
