"""
The plain path: tasks that need nothing but the lock, taken in many at a time.

They are of kinds that the validator has seen, and have no date, no key and no terms.
What needs more takes the general way, in `_submission`;
`tests/integration/test_quick_ways.py` holds the two equal.

Decision: 0019.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any, Final, Protocol, TypeAlias

import attrs

from taskorch._limits import MAX_ID_LENGTH, NS
from taskorch.errors import InvalidTaskError, UsageError
from taskorch.kernel import (
    Bucket,
    Kernel,
    PolicyFault,
    Spec,
    TaskRow,
    assumed,
    latest_finish_first,
    typical_ns,
)
from taskorch.model import Call, Program, Task, Wait, kind_of
from taskorch.model._ids import id_problem, ids_in_run
from taskorch.model._task import named
from taskorch.protocols import AttemptExecutor
from taskorch.runtime._committer import Keeps
from taskorch.runtime._deciders import PolicyDeciders
from taskorch.runtime._directory import Directory
from taskorch.runtime._restored import MakesWork
from taskorch.runtime._tracing import Traced
from taskorch.runtime._translation import (
    executor_for,
    is_simple,
    is_usual,
    needs_of,
    spec_of,
)
from taskorch.runtime._work import NO_KWARGS, Work, capture

__all__ = ("Batch", "Plain")


class PlainHost(MakesWork, Traced, Keeps, Protocol):
    """What the plain path asks of a runtime, or of what stands for one."""

    kernel: Kernel
    deciders: PolicyDeciders
    directory: Directory
    work_class: type[Work]

    @property
    def id_parts(self) -> tuple[str, Iterator[int]]:
        """What an id is made of."""
        ...

    def now(self) -> int:
        """The time in ns."""
        ...

    def kernel_bucket(self, spec: Spec) -> Bucket:
        """The bucket of *spec*."""
        ...

    def publish(self) -> None:
        """Under the lock: hand over the facts that have not been told."""
        ...


class Batch:
    """
    Tasks that need nothing but the lock, on their way in.

    Lists side by side: an object for each task would be one more for the garbage
    collector.
    """

    __slots__ = (
        "are_expected",
        "are_linked",
        "are_ranked",
        "are_shared",
        "buckets",
        "documents",
        "ids",
        "works",
    )

    def __init__(self) -> None:
        self.works: list[Work] = []
        self.buckets: list[Bucket] = []
        #: What a durable orchestrator keeps of them.
        self.documents: list[Any] = []
        #: Where they have ids of the user's choice, these; None for each that has not.
        self.ids: Sequence[str | None] = ()
        #: The tasks are those of a workflow, which other runs have too.
        self.are_shared: bool = False
        #: Of some it is said how long they take.
        self.are_expected: bool = False
        #: Some wait for others.
        self.are_linked: bool = False
        #: Some have a priority.
        self.are_ranked: bool = False


_set_attribute: Final = object.__setattr__
_MANY: Final = 4_096
_SLICE: Final = 512
#: Finds the works of what a task waits for; None if that needs more.
Link: TypeAlias = Callable[[Task, Sequence[Any]], tuple[Work, ...] | None]


class Plain:
    """
    The plain path into one orchestrator.

    Args:
        owner: The orchestrator.
    """

    def __init__(self, host: PlainHost) -> None:
        self._rt = host
        #: Buckets of kinds that the validator need not see again.
        self._known: dict[Any, Bucket] = {}

    def prepare(self, tasks: Sequence[Task]) -> Batch | None:
        """
        *tasks* as works, if nothing but the lock is needed to take them in.

        None if one of them needs more: a date, a key, terms, a validation.
        """
        batch = Batch()
        # A validator of the user's wants to see ids and dependencies.
        is_structural = self._rt.deciders.is_structural
        link = _BatchLinks(self._rt, tasks, batch) if is_structural else None
        return batch if self._fill(batch, tasks, link) else None

    def prepare_run(
        self,
        run_id: str,
        tasks: Mapping[str, Task],
        above: Mapping[str, Iterable[str]],
    ) -> tuple[Batch, dict[str, Work]] | None:
        """
        Prepare the tasks of a workflow, under the ids of a new run: see `prepare`.

        Args:
            run_id: The run.
            tasks: By their ids in the workflow, which they need not have themselves.
            above: Of each, the ids of those that it waits for.

        Returns:
            The batch, and its works by their ids in the workflow.
        """
        longest = max(map(len, tasks), default=0)
        is_structural = self._rt.deciders.is_structural
        if not is_structural or len(run_id) + 1 + longest > MAX_ID_LENGTH:
            return None
        batch = Batch()
        batch.are_shared = True
        batch.ids = ids_in_run(run_id, tasks)
        link = _RunLinks(tasks, above, batch)
        if not self._fill(batch, link.tasks(), link):
            return None
        return batch, link.found

    def _fill(  # noqa: C901, PLR0912, PLR0915 - the hot path, written out
        self, batch: Batch, tasks: Iterable[Task], link: Link | None
    ) -> bool:
        """Make the works of *tasks*; whether that is all that they need."""
        rt = self._rt
        context = capture(rt.spans)
        make = rt.work_class
        works, buckets, documents = batch.works, batch.buckets, batch.documents
        committer = rt.committer
        write: Callable[[tuple[Any, ...]], Any] | None = None
        # Most batches are of one function: what was found for the last is kept.
        key: Any = None
        bucket: Bucket | None = None
        fn: Any = None
        executors = rt.executors
        executor: AttemptExecutor[Any] | None = None
        for task in tasks:
            if type(task) is not Task or not is_simple(task):
                return False
            payload = task.payload
            kind = kind_of(task)
            if kind != key:
                key, bucket = kind, self._bucket_of_like(kind, task)
                fn = None
                if task.priority:
                    batch.are_ranked = True
            if bucket is None or bucket.forgotten:
                return False
            if type(payload) is Call:
                if payload.executor is not None:
                    return False
                args, kwargs = payload.args, payload.kwargs
                refers = needs_of(payload) if args or kwargs else ()
                if payload.fn is not fn:
                    fn = payload.fn
                    executor = executor_for(fn, None, executors)
                    write = None
                    if committer is not None and is_usual(task):
                        write = committer.call_documents(task.type, fn)
            else:
                if isinstance(payload, Wait):
                    return False
                args, kwargs, refers = (), NO_KWARGS, ()
                fn = write = None
                executor = executors["program"] if type(payload) is Program else None
            above: tuple[Work, ...] | None = ()
            if refers or task.id is not None or task.after != ():
                above = None if link is None else link(task, refers)
                if above is None:
                    return False
            work = make(rt, fn, args, kwargs, executor, context)
            if above:
                work._above, work._after = above, None
                batch.are_linked = True
            work._task = task
            expects = task.expected is not None
            if expects:
                batch.are_expected = True
            if committer is not None:
                try:
                    if write is not None and not work._kwargs and not expects:
                        text = write(work._args)
                    else:
                        # Its id in a run, and what it waits for, are in the fact.
                        is_bare = task.id is None and task.after == ()
                        kept = task if is_bare else named(task, None, ())
                        text = committer.journal.document(kept)
                except InvalidTaskError:
                    # The general way says which task it is.
                    return False
                documents.append(text)
            works.append(work)
            buckets.append(bucket)
        return True

    def _bucket_of_like(self, kind: Any, task: Task) -> Bucket | None:
        """The bucket of tasks like *task*, if the validator need not see them."""
        bucket = self._known.get(kind)
        if (bucket is None or bucket.forgotten) and kind is not None:
            if not self._rt.deciders.is_structural:
                return None
            # What was looked at already: see `is_simple`.
            bare = attrs.evolve(task, id=None, after=(), expected=None)
            verdict = self._rt.deciders.validate(bare, self._rt.now())
            if not (verdict.accepted and verdict.reusable):
                return None
            bucket = self._rt.kernel_bucket(spec_of(task))
            self.remember(kind, bucket)
        return bucket

    def known(self, kind: Any) -> Bucket | None:
        """The bucket of tasks of this *kind*, if the validator need not see them."""
        bucket = None if kind is None else self._known.get(kind)
        return None if bucket is None or bucket.forgotten else bucket

    def remember(self, kind: Any, bucket: Bucket) -> None:
        """The validator agrees to all tasks of this *kind*: they go to *bucket*."""
        if len(self._known) > _MANY:
            self._known.clear()
        self._known[kind] = bucket

    def admit(self, batch: Batch, now: int) -> list[Work] | None:
        """Under the lock: take in what `prepare` made; None if that is too late."""
        rt = self._rt
        kernel = rt.kernel
        works, buckets = batch.works, batch.buckets
        kinds = dict(zip(buckets, works, strict=True))
        if not self._is_agreed(kinds, now):
            return None
        known, gone = kernel.tasks.keys(), kernel.evicted
        # Any, since checkers for 3.13 and newer look for nothing but text among text.
        chosen: Any = batch.ids
        if not (known.isdisjoint(chosen) and gone.isdisjoint(chosen)):
            return None
        if rt.committer is not None:
            rt.committer.documents.update(zip(works, batch.documents, strict=True))
        submit = kernel.submit
        prefix, numbers = rt.id_parts
        ids: Iterable[str | None] = batch.ids or repeat(None)
        order = self._order_of(batch, kinds)
        if order is not None:
            works = [works[place] for place in order]
            buckets = [buckets[place] for place in order]
            if batch.ids:
                ids = [batch.ids[place] for place in order]
        elif len(kinds) == 1 and not (
            batch.ids or batch.are_linked or batch.are_ranked
        ):
            self._admit_alike(works, buckets[0], now)
            return works
        for number, (work, bucket, name) in enumerate(
            zip(works, buckets, ids, strict=False), 1
        ):
            task: Task = work._task  # type: ignore[assignment]  # set by prepare
            task_id = name or prefix + str(next(numbers))
            above = work._above
            work._row = submit(
                task_id,
                bucket,
                work,
                now,
                task.priority,
                tuple([parent._row for parent in above]) if above else (),
                named=name is not None,
            )
            if not batch.are_shared:
                _set_attribute(task, "_submitted_as", task_id)
            if not number % _SLICE:
                # So that not all of its facts are there at once.
                rt.publish()
        return batch.works

    def _admit_alike(self, works: Sequence[Work], bucket: Bucket, now: int) -> None:
        """Under the lock: as `admit`, of tasks that have nothing but a payload."""
        rt = self._rt
        prefix, numbers = rt.id_parts
        for start in range(0, len(works), _SLICE):
            some = works[start : start + _SLICE]
            ids = [prefix + str(next(numbers)) for _ in some]
            rows = rt.kernel.submit_many(ids, bucket, some, now)
            for work, row in zip(some, rows, strict=True):
                work._row = row
                _set_attribute(work._task, "_submitted_as", row.id)
            if len(some) == _SLICE:
                rt.publish()

    def _order_of(
        self, batch: Batch, kinds: Mapping[Bucket, Work]
    ) -> Sequence[int] | None:
        """The places of *batch* in the order to take it in; None: as it stands."""
        if not self._rt.kernel.deciders.aging_ns or len(batch.works) == 1:
            return None
        measured = {bucket: typical_ns(bucket.type_row) for bucket in kinds}
        works = batch.works
        known: list[float | None]
        if batch.are_expected:
            tasks = [work._task for work in works]
            said = [None if task is None else task.expected for task in tasks]
            known = [
                measured[bucket] if seconds is None else seconds * NS
                for bucket, seconds in zip(batch.buckets, said, strict=True)
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

    def _is_agreed(self, kinds: Mapping[Bucket, Work], now: int) -> bool:
        """
        Under the lock: whether nobody need be asked about any task of *kinds*.

        Our own policies are asked once about each kind of task; those of the user's
        see every task until they say that they need not.
        """
        kernel = self._rt.kernel
        for bucket, work in kinds.items():
            if bucket.forgotten:
                return False
            if kernel.plain and bucket.checked == kernel.agents_version:
                continue
            if not self._rt.deciders.is_standard:
                return False
            task: Task = work._task  # type: ignore[assignment]  # set by prepare
            probe = self._rt.new_work(
                work._fn, (), NO_KWARGS, work._executor, work._ctx
            )
            probe._task = attrs.evolve(task, id=None, after=())
            row = TaskRow("probe", 0, bucket, probe, now)
            try:
                kernel.consider(row, now, priority=task.priority)
            except (UsageError, PolicyFault):
                # It is asked about properly, and refused by its name.
                return False
        version = kernel.agents_version
        return kernel.plain and all(bucket.checked == version for bucket in kinds)


def _any_named(tasks: Iterable[Task]) -> bool:
    return any(task.id is not None for task in tasks)


class _BatchLinks:
    """Finds what tasks of a batch wait for: tasks before them in it, and others."""

    def __init__(self, host: PlainHost, tasks: Sequence[Task], batch: Batch) -> None:
        self._rt = host
        self._tasks = tasks
        self._batch = batch
        self._seen = 0
        #: Those that have come, by their ids and by those of the objects.
        self._objects: dict[int | str, Work] = {}
        #: All of the batch: what has not come yet may come later.
        self._all: set[int | str] | None = None

    def __call__(self, task: Task, refers: Sequence[Any]) -> tuple[Work, ...] | None:
        """
        The works that *task* waits for; None if it is no simple matter.

        Args:
            task: The next of the batch.
            refers: The handles and tasks among its arguments.
        """
        tasks, works = self._tasks, self._batch.works
        if not self._seen:
            self._batch.ids = [t.id for t in tasks] if _any_named(tasks) else ()
        for number in range(self._seen, len(works)):
            before = tasks[number]
            self._objects[id(before)] = works[number]
            if before.id is not None:
                self._objects[before.id] = works[number]
        self._seen = len(works)
        if task.id is not None and (task.id in self._objects or id_problem(task.id)):
            return None
        if self._rt.committer is not None and (task.id is not None or refers):
            # A journal is asked first whether it has the id; and what it keeps of the
            # arguments has the ids of the handles and tasks in them, which come later.
            return None
        after = task.after
        if type(after) is not list and type(after) is not tuple:
            return None
        found: dict[Work, None] = {}
        for ref in (*after, *refers) if refers else after:
            work = self._find(ref, task)
            if work is None:
                return None
            found[work] = None
        return tuple(found)

    def _find(self, ref: Any, task: Task) -> Work | None:
        key = ref if type(ref) is str else id(ref)
        work = self._objects.get(key)
        if work is not None:
            return work
        if self._all is None:
            self._all = {id(t) for t in self._tasks}
            self._all.update(t.id for t in self._tasks if t.id is not None)
        if key in self._all:
            return None
        try:
            work = self._rt.directory.find(ref, task)
        except UsageError:
            return None
        return self._objects.setdefault(work._row.id, work)


class _RunLinks:
    """Finds what tasks of a workflow wait for."""

    def __init__(
        self,
        tasks: Mapping[str, Task],
        above: Mapping[str, Iterable[str]],
        batch: Batch,
    ) -> None:
        self._tasks = tasks
        self._above = above
        self._works = batch.works
        #: The id in the workflow of the task that is looked at.
        self._name: str
        #: The works so far, by their ids in the workflow.
        self.found: dict[str, Work] = {}

    def tasks(self) -> Iterator[Task]:
        """The tasks: when the next is asked for, the work of the last has come."""
        for name, task in self._tasks.items():
            self._name = name
            yield task
            self.found[name] = self._works[-1]

    def __call__(self, task: Task, refers: Sequence[Any]) -> tuple[Work, ...] | None:
        """Resolve the handles that this task of a workflow depends on."""
        found = self.found
        above = self._above[self._name]
        if refers or (task.after and len(tuple(task.after)) > len(tuple(above))):
            # It waits for what is no part of the workflow, too.
            return None
        try:
            return tuple([found[name] for name in above])
        except KeyError:
            # It comes later in the workflow.
            return None
