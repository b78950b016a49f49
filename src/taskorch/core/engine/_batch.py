"""
Submissions before the lock is taken: what they are, who checks them, who runs them.

What tasks of one kind have in common is looked up once: where they wait, whether the
validator has agreed to all of them, who calls their function.

Decision: kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs

from taskorch.core.engine._context import current_budget
from taskorch.core.engine._translation import (
    drawing,
    executor_for,
    is_simple,
    is_usual,
    needs_of,
    portable,
    spec_of,
)
from taskorch.core.engine._work import NO_KWARGS, Work, capture, note_cache
from taskorch.core.kernel import (
    Bucket,
    Change,
    PolicyFault,
    Spec,
    TaskRow,
    Terms,
    budgeting,
)
from taskorch.errors import (
    InvalidTaskError,
    TaskorchError,
    UsageError,
    ValidationFailedError,
)
from taskorch.events import TaskRejected
from taskorch.kit.fence import is_values
from taskorch.kit.limits import MAX_ID_LENGTH
from taskorch.kit.visible import as_text, show
from taskorch.model import (
    Call,
    Program,
    Reference,
    Task,
    Wait,
    is_plain,
    kind_of,
    named,
)
from taskorch.model.ids import ids_in_run, stem_of
from taskorch.policies._validator import is_own_well_formed
from taskorch.protocols import AttemptExecutor

if TYPE_CHECKING:
    from taskorch.core.engine._governs import Governs
    from taskorch.core.engine._runtime import TaskEngine

__all__ = ("Batch", "Entry", "Preparation")


@attrs.define(eq=False)
class Entry:
    """One task of a batch that needs more than a place in it."""

    task: Task
    work: Work
    bucket: Bucket
    #: The ids, handles and tasks that it depends on.
    refs: tuple[Any, ...]
    #: The document that a durable orchestrator keeps of it.
    document: Any = None
    task_id: str = ""
    row: TaskRow | None = None
    parents: list[TaskRow] = attrs.field(factory=list)
    #: The condition under which it starts, if not once all parents have completed.
    terms: Terms | None = None
    existing: Work | None = None
    #: The earlier run of the same task, which has ended, and which this one follows.
    again: Work | None = None
    #: The run of a workflow that it joins; "" if none.
    run: str = ""
    #: Whether it replaces that run, as another task or as the same one made anew.
    is_other: bool = False
    #: Whether what it adds to its run is made anew: see `TaskRenewed`.
    is_anew: bool = False
    #: Whether that run had other content.
    has_changed: bool = False
    #: The change of the options of the task that exists already.
    change: Change | None = None
    #: The verdict of the policies on a new task; None: there is nothing to report.
    verdict: Any = None
    #: The task as it was submitted.
    given: Task = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.given = self.task

    @property
    def stated(self) -> Task:
        """The task as it was submitted, or as policies have changed it."""
        return self.given if self.verdict is None else self.task

    @property
    def is_new(self) -> bool:
        """Whether the task did not exist before, neither as it is nor as a re-run."""
        return self.existing is None and (self.again is None or self.is_other)


class Batch:
    """
    Tasks of one submission, of which all are accepted or none.

    Lists side by side: an object for each task would be one more for the garbage
    collector.
    """

    __slots__ = (
        "are_expected",
        "are_linked",
        "are_shared",
        "buckets",
        "documents",
        "have_keys",
        "ids",
        "needs_more",
        "refs",
        "run",
        "verdicts",
        "works",
    )

    def __init__(self, run: str = "") -> None:
        #: The run of a workflow that they join; "" if none.
        self.run: str = run
        self.works: list[Work] = []
        self.buckets: list[Bucket] = []
        #: The documents that a durable orchestrator keeps of them.
        self.documents: list[Any] = []
        #: The ids that the user chose, None for each task without one; empty if there
        #: is none.
        self.ids: Sequence[str | None] = ()
        #: The ids, handles and tasks that some depend on, by the places of these.
        self.refs: dict[int, tuple[Any, ...]] = {}
        #: Whether some have idempotency keys.
        self.have_keys: bool = False
        #: Whether one has terms, or depends on a task that is not found as easily.
        self.needs_more: bool = False
        #: Whether the tasks are those of a workflow, which other runs have too.
        self.are_shared: bool = False
        #: Whether an expected duration is known of some.
        self.are_expected: bool = False
        #: Whether some depend on others.
        self.are_linked: bool = False
        #: The task as it was submitted, and the verdict, by the places of the tasks
        #: that policies have something to tell about.
        self.verdicts: dict[int, tuple[Task, Any]] = {}

    @property
    def tasks(self) -> Iterator[Task]:
        """The tasks."""
        for work in self.works:
            task = work._task
            assert task is not None  # noqa: S101 - `prepare` has set it
            yield task

    def entries(self) -> list[Entry]:
        """Return an entry for each task, for work that needs more than its place."""
        self.needs_more = True
        entries = []
        documents: Iterable[Any] = self.documents or repeat(None)
        for place, (task, work, bucket, document) in enumerate(
            zip(self.tasks, self.works, self.buckets, documents, strict=False)
        ):
            work._above, work._after = (), ()
            refs = self.refs.get(place, ())
            entry = Entry(task, work, bucket, refs, document)
            entry.run = self.run
            if place in self.verdicts:
                entry.given, entry.verdict = self.verdicts[place]
            entries.append(entry)
        return entries


_MANY: Final = 4_096
_set_attribute: Final = object.__setattr__
#: A stand-in for a handle where only the kind matters.
SOME: Final = Reference("some-task")


def _named_ahead(ref: Any) -> Reference:
    """Return the reference for *ref* in most documents, as far as it is known."""
    return Reference(stem_of(ref._row.id)) if isinstance(ref, Work) else SOME


#: Function that finds the works a task waits for; None if that needs more than a place.
Link: TypeAlias = Callable[[Task, Sequence[Any]], tuple[Work, ...] | None]


class Preparation:
    """
    Checks of a submission before the lock is taken, since a validator may do I/O.

    Args:
        rt: The orchestrator.
    """

    def __init__(self, rt: TaskEngine) -> None:
        self._rt = rt
        #: Buckets of kinds that the validator need not see again.
        self._known: dict[Any, Bucket] = {}

    def prepare(self, tasks: Sequence[Task], run: str = "") -> Batch:
        """
        Check *tasks* and make their works; *run* is the workflow run, or "".

        Raises:
            InvalidTaskError: One is no task, names no executor, or cannot be kept.
            ValidationFailedError: The validator refuses one.
            ComponentError: The validator failed.
        """
        batch = Batch(run)
        try:
            self._fill(batch, tasks, _BatchLinks(self._rt, tasks, batch))
        except TaskorchError:
            raise
        except BaseException as error:
            raise self._unread(error, tasks) from error
        return batch

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
            The batch, and its works by their ids in the workflow; None if one needs
            more than a place.
        """
        longest = max(map(len, tasks), default=0)
        is_structural = self._rt.deciders.is_structural
        if not is_structural or len(run_id) + 1 + longest > MAX_ID_LENGTH:
            return None
        if not all(map(is_simple, tasks.values())):
            return None
        governor = self._rt.governor
        if governor is not None and any(
            governor.is_asked("submit", str(task.type)) for task in tasks.values()
        ):
            # Policies judge tasks by their ids in the run.
            return None
        batch = Batch(run_id)
        batch.are_shared = True
        batch.ids = ids_in_run(run_id, tasks)
        links = _RunLinks(tasks, above, batch)
        try:
            self._fill(batch, links.tasks(), links)
        except InvalidTaskError:
            # The id in the run is too long or no id: the usual way refuses it with its
            # name.
            return None
        except TaskorchError:
            raise
        except BaseException as error:
            raise self._unread(error, [*tasks.values()]) from error
        return None if batch.needs_more else (batch, links.works)

    def _fill(  # noqa: C901, PLR0912, PLR0915 - one loop, in order
        self, batch: Batch, tasks: Iterable[Any], link: Link
    ) -> None:
        """Make the works of *tasks*, which may be anything."""
        rt = self._rt
        context = capture(rt.spans)
        make = rt.work_class
        works, buckets, documents = batch.works, batch.buckets, batch.documents
        committer = rt.committer
        write: Callable[[tuple[Any, ...]], Any] | None = None
        executors = rt.executors
        # Most batches are of one function, so the findings about the last one are kept.
        kind: Any = None
        bucket: Bucket | None = None
        fn: Any = None
        called: Callable[..., Any] | None
        executor: AttemptExecutor[Any] | None = None
        governor = rt.governor
        budget = current_budget()
        for task in tasks:
            if governor is not None:
                task = self._judged(batch, task, governor)  # noqa: PLW2901
            key = kind_of(task) if isinstance(task, Task) else None
            if budget and key is not None and task.budget is None:
                key = (budget, key)
            if bucket is None or key is None or key != kind:
                bucket, fn = self._bucket_of(key, task), None
                # A validator that wants to see each task of a kind is asked each time.
                kind = key if key in self._known else None
            elif not is_plain(task) and not self._is_agreed(task):
                self.validate(task)
            payload = task.payload
            if type(payload) is Call:
                args, kwargs = payload.args, payload.kwargs
                refers = needs_of(payload) if args or kwargs else ()
                if payload.fn is not fn or payload.executor is not None:
                    fn = payload.fn
                    executor = executor_for(fn, payload.executor, executors)
                    write = None
                    if committer is not None:
                        write = committer.call_documents(task.type, fn)
                    if payload.executor is not None:
                        # Another call of the function may have another executor.
                        fn, write = None, None
                called = payload.fn
            else:
                args, kwargs, refers = (), NO_KWARGS, ()
                called = fn = write = None
                executor = (
                    executors["program"] if isinstance(payload, Program) else None
                )
                if isinstance(payload, Call):
                    called, args, kwargs = payload.fn, payload.args, payload.kwargs
                    refers = needs_of(payload)
                    executor = executor_for(called, payload.executor, executors)
            work = make(rt, called, args, kwargs, executor, context)
            work._task = task
            if refers or task.id is not None or task.after != ():
                above = link(task, refers)
                if refers or task.after != ():
                    batch.refs[len(works)] = (*task.after, *refers)
                if above is None:
                    batch.needs_more = True
                    if rt.deciders.is_structural and not batch.are_shared:
                        # The validator has not seen the dependencies of further tasks
                        # of the kind.
                        self.validate(task)
                elif above:
                    work._above, work._after = above, None
                    batch.are_linked = True
            if not is_plain(task):
                self._note_own(batch, task, work)
            if isinstance(payload, Wait) or type(task) is not Task:
                batch.needs_more = True
            if committer is not None:
                is_bare = task.id is None and is_usual(task) and task.expected is None
                if write is not None and is_bare and not (kwargs or refers):
                    try:
                        documents.append(write(args))
                    except InvalidTaskError:
                        # The error names the task.
                        documents.append(self.document(task))
                else:
                    # The event of the submission has the dependencies, so the document
                    # leaves them out.
                    is_whole = refers or task.after == ()
                    kept = task if is_whole else named(task, task.id, ())
                    documents.append(self.document(kept))
            works.append(work)
            buckets.append(bucket)

    def _judged(self, batch: Batch, task: Any, governor: Governs) -> Any:
        """
        Return *task*, which may be anything, as policies change it.

        A task with a name may be there already. It is refused once that is known.

        Raises:
            PolicyDeniedError: Policies deny it, and it has no name.
        """
        is_task = isinstance(task, Task) and isinstance(task.type, str)
        if not is_task or not governor.is_asked("submit", task.type):
            return task
        # A malformed task is refused without being judged.
        self.validate(task)
        changed, verdict = governor.admit(task)
        is_named = task.id is not None or task.idempotency_key is not None
        if verdict is not None and verdict.decision == "deny" and not is_named:
            governor.refuse(verdict)
        if verdict is not None:
            batch.verdicts[len(batch.works)] = task, verdict
            batch.needs_more = True
        return changed

    def _unread(self, error: BaseException, tasks: Iterable[Any]) -> BaseException:
        """
        Return the error to raise for *tasks*, in which a value has raised *error*.

        Raises:
            ValidationFailedError: The validator knows which value it is.
        """
        # A MemoryError may be the machine's, so it is raised as it is.
        if isinstance(error, MemoryError) or not is_values(error):
            return error
        for task in tasks:
            if isinstance(task, Task):
                self.validate(task)
        msg = f"a value in the task cannot be read: it raised {type(error).__name__}"
        return InvalidTaskError(msg, hint="hand over plain values, or copies of them")

    def _note_own(self, batch: Batch, task: Task, work: Work) -> None:
        """Note the options of a single task that matter to the whole *batch*."""
        metadata = task.metadata
        if metadata is not None and type(metadata) is not dict:
            # A mapping of the user's may change later, so it is copied.
            _set_attribute(task, "metadata", dict(metadata))
        if task.expected is not None:
            batch.are_expected = True
        if task.idempotency_key is not None:
            batch.have_keys = True
        if task.join != "all" or task.on_parent_failure != "block":
            batch.needs_more = True
        if task.cache is not None:
            note_cache(work)

    def document(
        self, task: Task, name_of: Callable[[Any], Reference] = _named_ahead
    ) -> Any:
        """
        Return the document of *task*, with references of *name_of* for handles.

        Raises:
            InvalidTaskError: It cannot be restored exactly.
        """
        assert self._rt.committer is not None  # noqa: S101 - the callers looked
        try:
            return self._rt.committer.journal.document(portable(task, name_of))
        except InvalidTaskError as refused:
            name = f"task {task.id!r}" if task.id else f"a task of type {task.type!r}"
            msg = f"{name} cannot be kept: {refused.message}"
            raise InvalidTaskError(msg, hint=refused.hint, task_id=task.id) from None

    def _bucket_of(self, kind: Any, task: Task) -> Bucket:
        """
        Return the bucket for tasks of the *kind* of *task*.

        Raises:
            InvalidTaskError: It is no task.
            ValidationFailedError: The validator refuses it.
        """
        if not isinstance(task, Task):
            msg = f"a Task is submitted, not {show(task)}"
            raise InvalidTaskError(
                msg, hint="use Task(…), Task.call(…) or orch.submit(function, …)"
            )
        bucket = None if kind is None else self._known.get(kind)
        if bucket is not None and not bucket.forgotten:
            if not (is_plain(task) or self._is_agreed(task)):
                self.validate(task)
            return bucket
        is_reusable = self.validate(task)
        bucket = self._rt.kernel_bucket(self.spec_of(task))
        if kind is not None and (is_reusable or self._rt.deciders.is_structural):
            if len(self._known) > _MANY:
                self._known.clear()
            self._known[kind] = bucket
        return bucket

    def spec_of(self, task: Task) -> Spec:
        """
        Return the spec of *task* in the queue, with the budget that it draws on.

        Raises:
            InvalidTaskError: There is no such budget.
        """
        spec, name = spec_of(task), task.budget or current_budget()
        if not name:
            return spec
        kernel = self._rt.kernel
        if name not in kernel.budgets:
            msg = f"there is no budget {show(name)}"
            hint = f"orch.budget({show(name)}, tokens=…) makes it, before its tasks"
            raise InvalidTaskError(msg, hint=hint, task_id=task.id)
        return drawing(spec, name, budgeting().drawn_from(kernel, name))

    def _is_agreed(self, task: Task) -> bool:
        """
        Return whether the validator agrees to *task*, as it does to its kind.

        A validator of the user's wants to see ids, dates and dependencies.
        """
        return self._rt.deciders.is_structural and is_own_well_formed(task)

    def validate(self, task: Task, *, formed: bool = False) -> bool:
        """
        Ask the validator; return whether its consent holds for like tasks.

        Raises:
            ValidationFailedError: It refuses *task*.
        """
        rt = self._rt
        try:
            verdict = rt.deciders.validate(task, rt.now(), formed=formed)
        except PolicyFault as fault:
            raise rt.component_error(fault, _word(task.id)) from fault.error
        if verdict.accepted:
            return bool(verdict.reusable)
        findings = tuple((f.path, f.message) for f in verdict.findings)
        task_id = _word(task.id)
        rt.note(TaskRejected, task_id or "", _word(task.type), findings)
        lines = "; ".join(f"{path}: {message}" for path, message in findings)
        name = f"task {task_id!r}" if task_id else f"a task of type {show(task.type)}"
        msg = f"{name} was refused: {lines}"
        raise ValidationFailedError(msg, findings=findings, task_id=task_id)


def _word(value: Any) -> Any:
    """Return *value* as events may have it: as text, or shown as text."""
    return None if value is None else as_text(value)


def _any_named(tasks: Iterable[Task]) -> bool:
    return any(task.id is not None for task in tasks)


class _BatchLinks:
    """Finds the works that tasks of a batch wait for, in the batch or elsewhere."""

    def __init__(self, rt: TaskEngine, tasks: Sequence[Task], batch: Batch) -> None:
        self._rt = rt
        self._tasks = tasks
        self._batch = batch
        self._seen = 0
        #: The tasks so far, by their ids and by those of the Python objects.
        self._objects: dict[int | str, Work] = {}
        #: All tasks of the batch, since a dependency may come later in it.
        self._all: set[int | str] | None = None

    def __call__(self, task: Task, refers: Sequence[Any]) -> tuple[Work, ...] | None:
        """
        Return the works that *task* waits for; None if that needs more.

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
        if task.id is not None and task.id in self._objects:
            return None
        if self._rt.committer is not None and refers:
            # The document of the arguments has the ids of handles and tasks in them,
            # which are chosen later.
            return None
        after = task.after
        if type(after) is not list and type(after) is not tuple:
            return None
        above: dict[Work, None] = {}
        for ref in (*after, *refers) if refers else after:
            work = self._find(ref, task)
            if work is None:
                return None
            above[work] = None
        return tuple(above)

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
    """Finds the works that tasks of a workflow wait for."""

    def __init__(
        self,
        tasks: Mapping[str, Task],
        above: Mapping[str, Iterable[str]],
        batch: Batch,
    ) -> None:
        self._tasks = tasks
        self._above = above
        self._batch = batch
        #: The id in the workflow of the task that is prepared now.
        self._name: str
        #: The works so far, by their ids in the workflow.
        self.works: dict[str, Work] = {}

    def tasks(self) -> Iterator[Task]:
        """Yield the tasks; asking for the next notes the work of the last."""
        for name, task in self._tasks.items():
            self._name = name
            yield task
            self.works[name] = self._batch.works[-1]

    def __call__(self, task: Task, refers: Sequence[Any]) -> tuple[Work, ...] | None:
        """Resolve the handles that this task of a workflow depends on."""
        works = self.works
        above = self._above[self._name]
        if refers or (task.after and len(tuple(task.after)) > len(tuple(above))):
            # The task waits for others than those of the workflow, too.
            return None
        try:
            return tuple(map(works.__getitem__, above))
        except KeyError:
            # The parent comes later in the workflow.
            return None
