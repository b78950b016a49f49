"""
Recovery: what the facts of earlier lives lead to, and a new life taking it up.

`Folding` gives the kernel the facts, and tasks their work; the simulation folds its
journals by it, too. `Recovery` opens the journal of a runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from taskorch.errors import (
    InternalError,
    InvalidTaskError,
    InvalidTransitionError,
    JournalUnavailableError,
    ResultGoneError,
)
from taskorch.events import (
    AT_NS,
    CATALOGUE,
    CLS,
    SEQ,
    TASK_ID,
    EventEmitted,
    Fact,
    LateResultIgnored,
    OrchestratorStarted,
    TaskCheckpointed,
    TaskCompleted,
    TaskFailed,
    TaskOptionsChanged,
    TaskParentsAdded,
    TaskReprioritised,
    TaskRetrying,
    TaskStarted,
    TaskSubmitted,
    make,
    place_of,
)
from taskorch.executors._programs._sweep import sweep
from taskorch.kernel import (
    AgentRow,
    Bucket,
    PolicyFault,
    Restoration,
    Spec,
    TaskRow,
    TypeRow,
    fold,
    is_missing,
    more_of,
    recover,
    remember,
)
from taskorch.model import (
    TERMINAL,
    Agent,
    Call,
    Missing,
    Program,
    Task,
    TaskState,
    call_type,
)
from taskorch.protocols import AttemptExecutor, DurableJournal, Entry
from taskorch.runtime._attempt import GONE
from taskorch.runtime._clock import MonotonicClock
from taskorch.runtime._identity import with_options
from taskorch.runtime._kept import kept_error
from taskorch.runtime._late import recall_late
from taskorch.runtime._translation import executor_for
from taskorch.runtime._work import (
    NEVER,
    NO_VARIABLES,
    Emitted,
    Work,
    extra_of,
    gone_of,
    set_result,
    task_of,
)

if TYPE_CHECKING:
    from taskorch.runtime._runtime import Runtime

__all__ = ("Folding", "Recollection", "Recovery", "take_up")

_ALL: Final = frozenset(CATALOGUE)
#: States of which those who wait are told.
_SETTLED: Final = frozenset(
    {TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED, TaskState.BLOCKED}
)
_AFTER: Final = place_of(TaskSubmitted, "after")
_IS_NAMED: Final = place_of(TaskSubmitted, "named")
#: Facts that change nothing but what is kept beside a task.
_BESIDE: Final = frozenset({LateResultIgnored, TaskCheckpointed})
_ENDED: Final = {
    "TaskCompleted": TaskState.COMPLETED,
    "TaskFailed": TaskState.FAILED,
    "TaskCancelled": TaskState.CANCELLED,
}


class Folding:
    """
    Applies the facts of earlier lives, and gives the tasks their work again.

    Args:
        host: A runtime, or what stands for one in a simulation: its kernel is new.
    """

    def __init__(self, host: Any) -> None:
        self._host = host
        self._kernel = host.kernel
        #: Works of tasks that the user named.
        self._named: list[Work] = []

    def work_of(self, task: Task) -> Work:
        """The work of *task*, which was submitted in an earlier life."""
        host, payload = self._host, task.payload
        work: Work
        if isinstance(payload, Call):
            fn = payload.fn
            executor: AttemptExecutor[Any] | None = GONE
            if not isinstance(fn, Missing):
                try:
                    executor = executor_for(fn, payload.executor, host.executors)
                except InvalidTaskError as error:
                    fn = Missing(call_type(fn), error.message)
            work = host.new_work(
                fn, payload.args, payload.kwargs, executor, NO_VARIABLES
            )
        elif isinstance(payload, Missing):
            work = host.new_work(payload, (), {}, GONE, NO_VARIABLES)
        else:
            is_program = isinstance(payload, Program)
            executor = host.executors["program"] if is_program else None
            work = host.new_work(None, (), {}, executor, NO_VARIABLES)
        work._task = task
        return work

    def fold(self, entry: Entry, apply: Callable[..., None] | None = None) -> None:
        """
        Apply one fact, with what was kept beside it.

        Args:
            entry: The fact, about a task that gets a row or an event from outside, and
                the document.
            apply: What gives the fact and its cargo to the kernel; None folds it.
        """
        fact, document = entry
        kernel, cls = self._kernel, fact[CLS]
        cargo: Work | None = None
        if cls is TaskSubmitted:
            cargo = self._submitted(fact, document)
        elif cls is TaskCompleted:
            set_result(kernel.tasks[fact[TASK_ID]].cargo, document)
        elif cls is TaskFailed:
            kernel.tasks[fact[TASK_ID]].cargo._error = kept_error(make(fact), document)
        elif cls is TaskOptionsChanged:
            work = kernel.tasks[fact[TASK_ID]].cargo
            work._task = with_options(work._task, document)
        elif cls is TaskParentsAdded:
            extra_of(kernel.tasks[fact[TASK_ID]].cargo).added += make(fact).after
        elif cls in _BESIDE:
            self._keep_beside(fact, document)
        given: Any = Emitted(document) if cls is EventEmitted else cargo
        if apply is None:
            fold(kernel, fact, given)
        else:
            apply(fact, given)
        if cargo is not None:
            cargo._row = kernel.tasks[fact[TASK_ID]]

    def _keep_beside(self, fact: Fact, document: Any) -> None:
        """What tells the kernel nothing, and is kept for the task and its user."""
        row = self._kernel.tasks.get(fact[TASK_ID])
        if row is None:
            return
        if fact[CLS] is LateResultIgnored:
            recall_late(row.cargo, make(fact), document)
        else:
            extra = extra_of(row.cargo)
            extra.checkpoint, extra.has_checkpoint = document, True

    def _submitted(self, fact: Fact, task: Task) -> Work:
        work = self.work_of(task)
        work._after = fact[_AFTER]
        self._host.reruns.note(fact[TASK_ID])
        if task.idempotency_key is not None:
            self._host.keys[task.idempotency_key] = fact[TASK_ID]
        if fact[_IS_NAMED] and self._host.committer is None:
            self._named.append(work)
        return work

    def reconnect(self) -> None:
        """After folding: let tasks have the work of their parents."""
        named, self._named = self._named, []
        for work in named:
            row = work._row
            if row.id not in self._kernel.tasks:
                # There is no journal that could be asked for it.
                self._host.submission.remember(row, work)
        for row in self._kernel.tasks.values():
            if row.links is not None:
                parents = row.links.parents
                row.cargo._above = tuple([self._host.known(p.id) for p in parents])


class Recollection:
    """What a journal knows of tasks that have left memory."""

    def __init__(self, runtime: Runtime, journal: DurableJournal) -> None:
        self._rt = runtime
        self._journal = journal

    def ends(self, ids: Collection[str]) -> dict[str, TaskState]:
        """How those of *ids* ended that have."""
        found = self._journal.ends(ids)
        return {task_id: _ENDED[kind] for task_id, kind in found.items()}

    def ids(self, prefix: str) -> Sequence[str]:
        """The ids that begin with *prefix*, in order."""
        return self._journal.ids(prefix)

    def id_of_key(self, key: str) -> str | None:
        """The task that was submitted with an idempotency key."""
        return self._journal.id_of_key(key)

    def submitted(self, after: int, until: int, most: int) -> Sequence[tuple[int, str]]:
        """The next submissions, by their numbers."""
        return self._journal.submitted(after, until, most)

    def last_before_life(self, task_id: str, began: int) -> int | None:
        """
        When the last fact came of the life before that which began at *began*.

        Args:
            task_id: A task that the earlier life had left, of which a fact says so.
            began: A time, in ns.

        Returns:
            The time, in ns; None if no life began then.
        """
        about = self._journal.select((task_id,), self._rt.committed)
        number = next((fact[SEQ] for fact, _ in about if fact[AT_NS] == began), 0)
        # A life begins with what became of all that was left: one fact for each, at
        # the same time.
        for many in (100, 100_000):
            first = max(0, number - many)
            facts = [fact for fact, _ in islice(self._journal.read(first), many)]
            for last, fact in pairwise(facts):
                if fact[CLS] is OrchestratorStarted and fact[AT_NS] == began:
                    at: int = last[AT_NS]
                    return at
            if not facts or facts[0][AT_NS] < began:
                # All that came at that time has been seen.
                break
        return None

    def recollect(self, task_id: str, state: TaskState) -> Work:
        """
        A handle for a task that has ended, with its result or its error.

        Raises:
            JournalUnavailableError: Its end is still on its way into the journal.
            ResultGoneError: The journal does not know it.
        """
        rt = self._rt
        work = self.recollect_all((task_id,)).get(task_id)
        ended = work is not None and work._row.state in TERMINAL
        commits = None if rt.committer is None else rt.committer.commits
        on_its_way = commits is not None and bool(commits.pending or commits.in_hand)
        if not ended and (work is not None or on_its_way):
            msg = f"task {task_id} is {state}, and its end is not kept yet"
            raise JournalUnavailableError(msg, outcome="refused", hint="ask again")
        if work is None:
            msg = f"task {task_id} is {state}, and its facts are not in the journal"
            raise ResultGoneError(msg, task_id=task_id)
        return work

    def recollect_all(self, ids: Collection[str]) -> dict[str, Work]:
        """The tasks of *ids* that the journal knows, with rows that no kernel has."""
        rt = self._rt
        folding = Folding(rt)
        works: dict[str, Work] = {}
        for fact, document in self._journal.select(ids, rt.committed):
            if fact[CLS] is TaskSubmitted:
                event: TaskSubmitted = make(fact)
                work = works[event.task_id] = folding.work_of(document)
                work._after = event.after
                bucket = Bucket(Spec(event.type), TypeRow())
                row = TaskRow(event.task_id, 0, bucket, work, event.at_ns)
                work._row = row
                more = more_of(row)
                more.priority = event.priority
                more.past = [(TaskState.QUEUED, event.at_ns, "")]
            elif (known := works.get(fact[TASK_ID])) is not None:
                _recollect(known, fact, document)
        return works


def _recollect(work: Work, fact: Fact, document: Any) -> None:
    """Note what a later *fact* says of *work*, which is in no kernel."""
    cls, row, event = fact[CLS], work._row, make(fact)
    now = event.at_ns
    state = _ENDED.get(cls.__name__)
    if cls is TaskStarted:
        row.started_ns, row.attempt = now, event.attempt
        row.agent = AgentRow(Agent(event.agent_id))
        remember(row, TaskState.RUNNING, now, event.agent_id)
    elif cls is TaskRetrying:
        remember(row, TaskState.RETRYING, now, f"{event.error_type}: {event.message}")
    elif cls is TaskReprioritised:
        more_of(row).priority = event.priority
    elif cls is TaskParentsAdded:
        extra_of(work).added += event.after
    elif cls is TaskOptionsChanged:
        work._task = with_options(task_of(row), document)
        more_of(row).priority = event.priority
        remember(row, row.state, now, f"options changed: {', '.join(event.changed)}")
    elif cls is LateResultIgnored:
        recall_late(work, event, document)
    elif state is not None:
        row.state, row.ended_ns, work._settled = state, now, event.seq
        detail = ""
        if cls is TaskCompleted:
            set_result(work, document)
        elif cls is TaskFailed:
            work._error = kept_error(event, document)
            _fail(row, event)
            detail = f"{event.error_type}: {event.message}"
        else:
            detail = more_of(row).stop_reason = event.reason
        remember(row, state, now, detail)


def _fail(row: TaskRow, event: TaskFailed) -> None:
    """Note in *row*, which is in no kernel, how it failed."""
    more = more_of(row)
    more.error = (event.error_type, event.message, event.cause)
    more.first_roots = event.root_causes


class Recovery:
    """Opens the journal of a runtime that has done nothing yet; under its lock."""

    def __init__(self, runtime: Runtime) -> None:
        assert runtime.committer is not None  # noqa: S101 - it is durable
        self._rt = runtime
        self._committer = runtime.committer
        self._journal = runtime.committer.journal
        self._folding = Folding(runtime)
        self._last = self._at_ns = 0

    def run(self) -> None:
        """
        Own the journal, fold it, and take up what is there.

        Raises:
            JournalError: It cannot be used.
        """
        rt, kernel, journal = self._rt, self._rt.kernel, self._journal
        rt.epoch = journal.claim()
        rt.name_life()
        if self._committer.can_be_asked:
            rt.recovered = Recollection(rt, journal)
        self._fold()
        now_ns = MonotonicClock(not_before=self._at_ns).now_ns
        rt.now = now_ns
        self._sweep()
        committer = self._committer
        committer.commits.committed = committer.last = rt.committed = self._last
        self._folding.reconnect()
        if rt.recovered is not None:
            # It knows them all, and takes less room.
            kernel.forget_ended()
            rt.keys = {key: i for key, i in rt.keys.items() if i in kernel.tasks}
        for row in kernel.tasks.values():
            if row.state not in _SETTLED:
                row.cargo._settled = NEVER
        # From now on, only what is kept leaves memory: see `Committer`.
        kernel.keep_finished()
        kernel.listen([], _ALL)
        recover(kernel, rt.epoch, now_ns())
        joining, rt.joining = rt.joining, []
        for info in joining:
            kernel.add_agent(info, now_ns())
        for row in list(kernel.tasks.values()):
            self._look(row, now_ns())
        rows = kernel.tasks.values()
        kinds = {row.bucket.spec: row for row in rows if row.state not in TERMINAL}
        for spec, row in kinds.items():
            if no_agent(rt, row, now_ns()):
                rt.orphans[spec] = None

    def _fold(self) -> None:
        journal = self._journal
        found = journal.snapshot()
        if found is not None and self._restore(found[1]):
            self._committer.snapshot_at = self._last
        fold = self._folding.fold
        for entry in journal.read(after=self._last):
            fold(entry)
            self._last, self._at_ns = entry[0][SEQ], max(self._at_ns, entry[0][AT_NS])

    def _restore(self, state: dict[str, Any]) -> bool:
        """Begin with a snapshot; whether that worked."""
        rt, journal = self._rt, self._journal
        try:
            restoration = Restoration(rt.kernel, state)
        except ValueError:
            return False
        until = restoration.seq
        entries: list[Entry] = list(journal.select(restoration.ids, until))
        later = (entry[0] for entry in journal.read(after=until))
        missing = restoration.missing(chain((fact for fact, _ in entries), later))
        while missing:
            more = list(journal.select(missing, until))
            entries += more
            missing = restoration.missing(fact for fact, _ in more)
        entries.sort(key=lambda entry: entry[0][SEQ])
        for entry in entries:
            if restoration.is_kept(entry[0][TASK_ID]):
                self._folding.fold(entry, restoration.fold)
            else:
                restoration.fold(entry[0])
        self._keep_events(restoration)
        try:
            restoration.finish()
        except (InternalError, LookupError):
            rt.new_kernel()
            self._folding = Folding(rt)
            return False
        self._last, self._at_ns = until, restoration.at_ns
        return True

    def _keep_events(self, restoration: Restoration) -> None:
        """Fold the events from outside that nobody had waited for."""
        numbers = dict.fromkeys(restoration.events)
        if not numbers:
            return
        # They are kept for a while only, so they are among the last.
        for entry in self._journal.read(after=min(numbers) - 1):
            number = entry[0][SEQ]
            if number > restoration.seq:
                break
            if number in numbers:
                self._folding.fold(entry, restoration.fold)

    def _sweep(self) -> None:
        """End the programs of earlier lives, before anything is run again."""
        rt, journal = self._rt, self._journal
        identity, logs = journal.identity(), journal.logs_folder()
        if identity:
            if rt.epoch > 1:
                sweep(f"{identity}.")
            rt.run_id = f"{identity}.{rt.epoch}"
        rt.attempts.programs.logs = None if logs is None else Path(logs)

    def _look(self, row: TaskRow, now: int) -> None:
        """Hold *row* if what it needs is gone; let it go if that is back."""
        kernel = self._rt.kernel
        if row.state is TaskState.QUEUED:
            why = gone_of(row.cargo) or no_agent(self._rt, row, now)
            if why:
                kernel.miss(row, why, now)
        else:
            take_up(self._rt, row, now)


def hold_orphans(runtime: Runtime, now: int) -> None:
    """Hold those whose turn has come in this life only, and whose agents are gone."""
    kernel, orphans = runtime.kernel, runtime.orphans
    for bucket in [each for each in kernel.parked if each.spec in orphans]:
        for row in bucket.rows():
            why = no_agent(runtime, row, now)
            if not why:
                orphans.pop(bucket.spec, None)
                break
            kernel.miss(row, why, now)


def take_up(runtime: Runtime, row: TaskRow, now: int) -> None:
    """Let *row* go on if it is held for what was gone, and that is back."""
    if is_missing(row) and not gone_of(row.cargo) and not no_agent(runtime, row, now):
        # A veto of the user's StateMachine leaves it where it is.
        with suppress(InvalidTransitionError, PolicyFault):
            runtime.kernel.decide(row, "retry", now)


def no_agent(runtime: Runtime, row: TaskRow, now: int) -> str:
    """Why nobody will ever do *row*, as far as is known; empty if somebody may."""
    bucket = row.bucket
    if bucket.spec.requires is None or not runtime.kernel.config.refuse_unknown:
        return ""
    try:
        runtime.kernel.match(bucket, row, now)
    except PolicyFault:
        return ""
    if any(_may_come(agent) for agent in bucket.matching):
        return ""
    needs = ", ".join(bucket.spec.requires)
    return f"no agent can do {needs} any more"


def _may_come(agent: AgentRow) -> bool:
    # One in another process comes back by itself.
    return not agent.lost or agent.info.lease is not None
