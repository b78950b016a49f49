"""`orch.workflows`: starts workflows, and controls their runs."""

from __future__ import annotations

import graphlib
import sys
import threading
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, cast

import attrs

from taskorch._handles import TaskHandle
from taskorch._managers import _limits, _members, _progress
from taskorch._managers._gates import gate, is_gate
from taskorch._managers._inside import WorkflowContext
from taskorch._managers._mapping import mapped
from taskorch._managers._meeting import Meetings
from taskorch._managers._members import MAX_ADDED, WILD, RunRecord, is_below, slices
from taskorch._managers._run import WorkflowRun
from taskorch.errors import (
    DuplicateTaskError,
    InvalidTaskError,
    InvalidTransitionError,
    UnknownTaskError,
)
from taskorch.kit.checks import check_count, check_there
from taskorch.kit.fence import log_of
from taskorch.kit.plain import GONE
from taskorch.kit.verbs import NAME, NOTE, PERSON, lacks, verb
from taskorch.kit.visible import show
from taskorch.kit.vocabulary import other_attribute
from taskorch.model import TERMINAL, Call, MadeFor, Task, TaskState
from taskorch.model.ids import (
    check_name,
    in_run,
    name_of,
    names_in_run,
    split_first,
    stem_of,
)
from taskorch.runtime import (
    added_by,
    ended_earlier,
    failed_earlier,
    is_gone,
    is_outdated,
    named_above,
    names_above,
    workflow_span,
)
from taskorch.workflows import Workflow, WorkflowFunction, WorkflowStatus, _steps
from taskorch.workflows._functions import written
from taskorch.workflows._graph import Parents, order
from taskorch.workflows._parameters import as_json, by_names, kept

if TYPE_CHECKING:
    from taskorch._managers._versions import Deployed, Move, RunVersion
    from taskorch.kernel import TaskRow
    from taskorch.planning import ExecutionPlan
    from taskorch.runtime import AttemptContext, Runtime, Work
    from taskorch.runtime._submission import Renewing

_LOG: Final = log_of(__name__)
#: What does the work of those steps of a workflow that must know their run.
_REAL: Final[dict[Any, Callable[..., Any]]] = {_steps.gate: gate, _steps.mapped: mapped}
#: Runs with limits, and attempts with names, before those that are over are forgotten.
_MANY: Final = 64
#: Names that a message shows.
_SHOWN: Final = 5
#: What to do about a run whose workflow has changed.
_OTHER_RUN: Final = (
    "choose another id for the run; tasks may be added to a workflow that has been "
    "started, and their options may change"
)
#: States of which a run that is paused has none.
_GOING_ON: Final = frozenset(
    {TaskState.PENDING, TaskState.QUEUED, TaskState.RUNNING, TaskState.RETRYING}
)


#: What is said about a gate.
#: The file by which people approve phases.
_APPROVALS: Final = "taskorch._managers._approvals"
_VERDICT: Final = {"gate": NAME, "by": {**NAME, **PERSON}, "note": NOTE}


class WorkflowManager:
    """
    `orch.workflows`: starts workflows, and controls their runs.

    The id of a run is one word; the ids of its tasks are this, a slash, and their ids
    in the workflow.

    `pause`, `resume` and `cancel` take the id of a run, or a pattern of ids
    (`"nightly-*"`; `"*"` is all runs), or, after a slash, a part of a run: what was
    included under a name, what belongs to a phase, or a task (`"tuesday/checks"`).
    """

    def __init__(
        self,
        # Any: the public type does not drag the runtime along.
        runtime: Any,
    ) -> None:
        self._rt: Runtime = runtime
        self._runs: weakref.WeakValueDictionary[str, WorkflowRun] = (
            weakref.WeakValueDictionary()
        )
        self._records: dict[str, RunRecord] = {}
        self._starting = threading.Lock()
        self._meetings: Meetings = Meetings(runtime)
        #: Runs that have pools of their own.
        self._limited: dict[str, None] = {}
        #: Of tasks that add tasks, the attempt, and the names that it has made up.
        self._counts: dict[str, tuple[int, dict[str, int]]] = {}
        #: What says what a run is today: the schedules.
        self._deployed: list[Callable[[str], Deployed | None]] = []

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            return other_attribute(self, name)

    @verb(
        "Start a workflow; under a known id, return that run.",
        "thread",
        lacks=lacks("`start_workflow` takes documents", "`run` does it"),
    )
    def start(
        self,
        workflow: Workflow | WorkflowFunction[...] | ExecutionPlan,
        id: str | None = None,  # noqa: A002 - the contract's name
        *,
        max_added: int = MAX_ADDED,
        parameters: Mapping[str, Any] | None = None,
        definition: Literal["as_deployed", "as_it_was"] | None = None,
    ) -> WorkflowRun:
        """
        Run a workflow: all its tasks are submitted, or none.

        Args:
            workflow: The workflow, as it is now; a function that `@workflow` has
                decorated, which is called with *parameters*; or a plan of
                `orch.planner`.
            id: The id of the run: the same workflow under the same id is the same run,
                in a later incarnation of a durable orchestrator too. Options of its
                tasks may be others (see `submit_task`), and tasks that are new to it
                join the run. None makes up a new id.
            max_added: How many tasks its tasks may add to it while it runs.
            parameters: Those of the workflow, by name; they are kept, and each task has
                them in `current_context().parameters`.
            definition: What becomes of a run that there is, if *workflow* is another
                now: `"as_deployed"` lets it go over to *workflow*, as `restart` does.
                None: it is refused.

        Raises:
            InvalidTaskError: It is no workflow, or *id* is no safe word; or a parameter
                is of another type, missing or unknown.
            DuplicateTaskError: *id* is that of a run of another workflow, or with other
                parameters: it has tasks that this one has not, or other tasks under the
                same ids.
            UsageError: A task was refused: see `submit_tasks`.
        """
        rt = self._rt
        if not isinstance(workflow, Workflow | WorkflowFunction):
            return self._start_plan(workflow, id, max_added, parameters, definition)
        recipe = workflow
        workflow, values = written(workflow, parameters)
        check_count("max_added", max_added, least=0)
        if id is not None:
            check_name("the id of a run", id)
        note = {MadeFor.PARAMETERS: values} if values else None
        rt.look_up()
        if id is None:
            run_id = f"{workflow.name}-{rt.new_id()}"
            if rt.committer is not None:
                self._note_begun(workflow, run_id, _recipe(recipe, parameters))
            return self._start(workflow, run_id, max_added, is_new=True, note=note)
        if definition is not None and self._is_here(id, definition):
            from taskorch._managers._versions import Deployed  # noqa: PLC0415 - few need it

            return self._restart_as(id, Deployed("this program", None, workflow, note))
        with self._starting:
            is_new = self._check_known(workflow, id)
            if not is_new:
                self._refuse_others(id, values, set(by_names(parameters)))
            elif rt.committer is not None:
                self._note_begun(workflow, id, _recipe(recipe, parameters))
            run = self._start(workflow, id, max_added, is_new=is_new, note=note)
            if not is_new:
                self._rerun_stale(run)
            return run

    def _start_plan(
        self,
        plan: object,
        run_id: str | None,
        max_added: int,
        parameters: Mapping[str, Any] | None,
        definition: Literal["as_deployed", "as_it_was"] | None,
    ) -> WorkflowRun:
        """
        `start`, of what is no workflow: a plan is.

        Raises:
            InvalidTaskError: It is none.
        """
        if "taskorch.planning" in sys.modules:
            from taskorch.planning import ExecutionPlan  # noqa: PLC0415 - is there

            if isinstance(plan, ExecutionPlan):
                run = self.start(
                    plan.workflow,
                    run_id,
                    max_added=max_added,
                    parameters=parameters,
                    definition=definition,
                )
                run.plan = plan
                return run
        msg = f"a Workflow is started, not {show(plan)}"
        raise InvalidTaskError(msg, hint="orch.submit_tasks takes single tasks")

    def _is_here(self, run_id: str, definition: object) -> bool:
        """Whether a run is there, and is to go over to another definition."""
        from taskorch._managers import _versions  # noqa: PLC0415 - when needed

        _versions.check_which(definition)
        with suppress(UnknownTaskError):
            self.get(run_id)
            return definition == _versions.AS_DEPLOYED
        return False

    def _refuse_others(
        self, run_id: str, values: Mapping[str, Any], explicit: set[str]
    ) -> None:
        """
        Refuse values other than those of the run that there is.

        Raises:
            DuplicateTaskError: One is another: one that it has, or that is *explicit*.
        """
        own = _progress.parameters_of(self.get(run_id))
        others = [
            f"{name} is {show(own.get(name))}, not {show(value)}"
            for name, value in values.items()
            if (name in own or name in explicit)
            and (name not in own or own[name] != value)
        ]
        if others:
            msg = f"the run {run_id!r} has other parameters: {', '.join(others)}"
            raise DuplicateTaskError(msg, hint="choose another id for the run")

    def _start_noted(
        self,
        workflow: Workflow,
        run_id: str,
        note: Mapping[str, Any],
        given: Mapping[str, Any] | None = None,
    ) -> WorkflowRun:
        """`start`, with *note* among the metadata of each task; *given* parameters."""
        self._rt.look_up()
        more = {"given": as_json(kept(given))} if given else None
        with self._starting:
            is_new = self._check_known(workflow, run_id)
            if is_new and (more or self._rt.committer is not None):
                self._note_begun(workflow, run_id, more)
            return self._start(workflow, run_id, MAX_ADDED, is_new=is_new, note=note)

    def _start(
        self,
        workflow: Workflow,
        run_id: str,
        max_added: int,
        *,
        is_new: bool,
        note: Mapping[str, Any] | None = None,
        renewing: Renewing | None = None,
    ) -> WorkflowRun:
        rt = self._rt
        parents = workflow._share()
        drafts = _noted(_all_real(workflow._drafts(run_id)), note)
        pools = _limits.of_tasks(drafts.values())
        if pools:
            self._limit(run_id, pools)
        # Before its tasks begin, and add some.
        record = RunRecord() if is_new else self._record(run_id)
        self._records[run_id] = record
        record.size, record.max_added = len(workflow), max_added
        had_failed = (
            not (is_new or renewing) and rt.rerun_failed and self._had_failed(run_id)
        )
        begun = workflow_span(rt, workflow.name, run_id) if is_new else nullcontext()
        try:
            with begun:
                works = rt.submit_run(run_id, drafts, parents) if is_new else None
                if works is None:
                    # A journal, or something in it, asks for more.
                    del drafts
                    tasks = [real_task(task) for task in workflow.tasks(run_id)]
                    noted = _noted(dict(zip(workflow, tasks, strict=True)), note)
                    handles = rt.submit_tasks(
                        [*noted.values()], run=run_id, renewing=renewing
                    )
                    works = dict(zip(noted, handles, strict=True))
        except BaseException as error:
            if is_new:
                del self._records[run_id]
            if isinstance(error, DuplicateTaskError):
                raise _is_another(run_id, error) from None
            raise
        run = self._runs.get(run_id)
        by_name = cast("dict[str, TaskHandle[Any]]", works)
        if run is None:
            if not is_new:
                self._recall_reruns(by_name)
            run = self._made(run_id, by_name, parents)
        else:
            with rt.lock:
                for name in by_name.keys() - run._works.keys():
                    run._enter(by_name[name])
        if had_failed:
            # The submission above has re-run the tasks of the workflow itself: what is
            # left are those that its tasks had added.
            self._restart(run, ended_earlier)
        return run

    def _note_begun(
        self, workflow: Workflow, run_id: str, more: Mapping[str, Any] | None
    ) -> None:
        """Keep what code a run begins with, and what it can be made of again."""
        from taskorch._managers import _versions  # noqa: PLC0415 - when needed

        tasks = workflow._drafts(run_id).values()
        _versions.note(self._rt, run_id, tasks, _versions.BEGUN, more=more)

    def _submittable(
        self, workflow: Workflow, run_id: str, note: Mapping[str, Any] | None
    ) -> tuple[dict[str, Task], Parents]:
        """The tasks of a workflow as submitted for a run, and their parents."""
        tasks = [real_task(task) for task in workflow.tasks(run_id)]
        by_name = dict(_noted(dict(zip(workflow, tasks, strict=True)), note))
        return by_name, workflow._share()

    def _start_part(
        self, run_id: str, tasks: Iterable[Task], values: Mapping[str, Any]
    ) -> list[TaskHandle[Any]]:
        """
        Submit some tasks of a workflow as a run, to which they may add others.

        *values* are the parameters of the run.
        """
        self._record(run_id)
        note = {MadeFor.PARAMETERS: values} if values else None
        tasks = _noted({str(task.id): task for task in tasks}, note).values()
        works = self._rt.submit_tasks(tasks, run=run_id)
        return cast("list[TaskHandle[Any]]", works)

    def _had_failed(self, run_id: str) -> bool:
        """Whether a run had failed in an earlier incarnation."""
        return any(map(failed_earlier, self.get(run_id).handles.values()))

    def _check_known(self, workflow: Workflow, run_id: str) -> bool:
        """
        Check that *workflow* has all tasks that were submitted under the id of a run.

        What they are is compared when they are submitted; what is new joins the run.

        Returns:
            Whether there is no such run.

        Raises:
            DuplicateTaskError: It lacks some; or there are tasks under these ids that
                are of no run.
        """
        rt, rows = self._rt, self._rt.kernel.tasks
        names = {in_run(run_id, name): name for name in workflow}
        rt.recall(tuple(names))
        submitted = [
            n for n in names if rt.directory.is_known(rt.directory.reruns.latest(n))
        ]
        record = self._records.get(run_id)
        size = None if record is None else record.size
        if size is None:
            # Of an earlier life: there is what was submitted then, or nothing.
            is_here = submitted or rt.committer is not None
            works = _members.find(rt, run_id) if is_here else {}
        elif len(submitted) == size:
            return size == 0 and record is None
        else:
            works = dict(self.get(run_id).handles)
        own = _members.of_run(run_id, works)
        here = {names[n]: rows.get(rt.directory.reruns.latest(n)) for n in submitted}
        alone = [name for name, row in here.items() if row and row.run != run_id]
        if not own:
            alone += [name for name in works if name not in alone]
        if alone:
            msg = (
                f"the ids of tasks that are of no workflow begin with the id "
                f"{run_id!r} of the run and a slash: {_some_of(alone)}"
            )
            raise DuplicateTaskError(msg, hint=_OTHER_RUN)
        gone = [
            name
            for name, work in own.items()
            if not (_members.is_added(work) or is_gone(work._row))
            and in_run(run_id, name) not in names
        ]
        if gone:
            msg = (
                f"the id {run_id!r} is that of a run of another workflow, with tasks "
                f"that this one has not: {_some_of(gone)}"
            )
            raise DuplicateTaskError(msg, hint=_OTHER_RUN)
        return not own and record is None

    @verb(
        "A run of a workflow.",
        "journal",
        lacks=lacks("`workflow_status` has it", "`inspect` shows it"),
    )
    def get(self, run_id: str) -> WorkflowRun:
        """
        The run with an id.

        Raises:
            UnknownTaskError: No workflow runs, or ran, under this id.
        """
        self._rt.look_up()
        run = self._runs.get(run_id)
        if run is not None:
            return run
        return self._found(str(run_id))

    def _find(self, run_id: str) -> dict[str, TaskHandle[Any]]:
        """The tasks of a run, by their ids in the workflow."""
        return _members.of_run(run_id, _members.find(self._rt, run_id))

    def _found(self, run_id: str) -> WorkflowRun:
        """
        The run that nobody keeps.

        Raises:
            UnknownTaskError: There is none.
        """
        works = self._find(run_id)
        record = self._records.get(run_id)
        if not works and (record is None or record.size != 0):
            msg = f"no workflow has been started with the id {show(run_id)}"
            raise UnknownTaskError(msg, hint="orch.workflows.start(workflow, id=…)")
        parents = {
            name: tuple(names_in_run(run_id, names_above(work)))
            for name, work in works.items()
        }
        self._recall_reruns(works)
        return self._made(run_id, works, parents)

    @verb(
        "The runs whose ids match a pattern.",
        "journal",
        "GET /workflows",
        operation="find_workflows",
        gives="workflow_ids",
        keys={"pattern": "id"},
        lacks=lacks(command="`inspect` lists them"),
    )
    def find(self, pattern: str = "*") -> list[WorkflowRun]:
        """
        The runs whose ids match a pattern, as in `find("nightly-*")`.

        They are those of this incarnation, and those of earlier incarnations that have
        not ended.

        Raises:
            InvalidTaskError: *pattern* is no text.
        """
        if not isinstance(pattern, str):
            msg = f"a pattern of ids is a text, not {show(pattern)}"
            raise InvalidTaskError(msg, hint="'nightly-*'; '*' is all runs")
        self._rt.look_up()
        return self._matching(pattern, only_live=False)

    def _matching(self, pattern: str, *, only_live: bool) -> list[WorkflowRun]:
        """The runs whose ids match *pattern*, all of them or those that go on."""
        rt = self._rt
        with rt.lock:
            rows = [row for row in rt.kernel.tasks.values() if row.run]
            live = {row.run for row in rows if row.state not in TERMINAL}
            run_ids = dict.fromkeys([*self._records, *(row.run for row in rows)])
        runs: list[WorkflowRun] = []
        for run_id in run_ids:
            if fnmatchcase(run_id, pattern) and (run_id in live or not only_live):
                # One that is just being started has no tasks yet.
                with suppress(UnknownTaskError):
                    runs.append(self._runs.get(run_id) or self._found(run_id))
        return runs

    def _recall_reruns(self, works: Mapping[str, TaskHandle[Any]]) -> None:
        """Look for ended re-runs of an earlier incarnation: the journal has them."""
        self._rt.recall(stem_of(work.task_id) for work in works.values())

    def _made(
        self, run_id: str, works: dict[str, TaskHandle[Any]], parents: Parents
    ) -> WorkflowRun:
        rt = self._rt
        run = WorkflowRun(self, run_id, works, parents)
        run = self._runs.setdefault(run_id, run)
        record = self._records.get(run_id)
        added = 0 if record is None else record.added
        if added and added > sum(map(_members.is_added, run.handles.values())):
            # Its tasks may have added others before the run was entered in `_runs`.
            handles = self._find(run_id)
            with rt.lock:
                for work in handles.values():
                    run._enter(work)
        return run

    def _limit(self, run_id: str, pools: Iterable[str]) -> None:
        """Make the pools of a run, and remove those of runs that are over."""
        rt = self._rt
        _limits.ensure(rt, pools)
        self._limited[run_id] = None
        if len(self._limited) > _MANY:
            with rt.lock:
                rows = rt.kernel.tasks.values()
                live = {row.run for row in rows if row.state not in TERMINAL}
            over = [i for i in self._limited if i not in live and i != run_id]
            del over[_MANY // 2 :]
            _limits.forget(rt, over)
            for each in over:
                del self._limited[each]

    # -- from inside ---------------------------------------------------------------

    def _inside(self, context: AttemptContext) -> WorkflowContext:
        """The run of a task, as the task's context shows it."""
        return WorkflowContext(self, context)

    def _held(self, run_id: str) -> WorkflowRun | None:
        """The run, if its object is still in use."""
        return self._runs.get(run_id)

    def _counts_of(self, inside: AttemptContext) -> dict[str, int]:
        """How often an attempt has made up a name, by the word that it begins with."""
        attempt, counts = self._counts.get(inside.task_id, (0, {}))
        if attempt != inside.attempt:
            counts = {}
            if len(self._counts) > _MANY:
                for task_id in list(self._counts):
                    row = self._rt.kernel.tasks.get(task_id)
                    if row is None or row.state in TERMINAL:
                        self._counts.pop(task_id, None)
            self._counts[inside.task_id] = inside.attempt, counts
        return counts

    def _record(self, run_id: str) -> RunRecord:
        """A run as known; one of an earlier incarnation as the journal shows it."""
        record = self._records.get(run_id)
        if record is None:
            record = RunRecord()
            works = self._find(run_id)
            record.added = sum(map(_members.is_added, works.values()))
            states = {work._row.state for work in works.values()}
            if TaskState.SUSPENDED in states and states.isdisjoint(_GOING_ON):
                record.paused.append("")
            record = self._records.setdefault(run_id, record)
        return record

    def _forget_runs(self, run_ids: Iterable[str]) -> None:
        """Under the lock: the journal has these runs no longer."""
        for run_id in run_ids:
            self._records.pop(run_id, None)
            self._runs.pop(run_id, None)

    # -- control -------------------------------------------------------------------

    def _is_paused(self, run_id: str) -> bool:
        """Whether all of a run was told to pause, and not to resume since."""
        return "" in self._record(run_id).paused

    @verb(
        "How far a run is.",
        "journal",
        "GET /workflows/{workflow_id}",
        operation="workflow_status",
        refuses=(404,),
        keys={"run_id": "workflow_id"},
        lacks=lacks(command="`inspect` shows it"),
    )
    def status(self, run_id: str) -> WorkflowStatus:
        """
        How far a run is.

        Raises:
            UnknownTaskError: No workflow runs, or ran, under this id.
        """
        return self.get(run_id).status()

    @verb(
        "Which definitions a run had.",
        "journal",
        "GET /workflows/{workflow_id}/versions",
        operation="workflow_versions",
        gives="versions",
        refuses=(404,),
        keys={"run_id": "workflow_id"},
        lacks=lacks(command="`runs show` says it"),
    )
    def versions(self, run_id: str) -> list[RunVersion]:
        """
        Which definitions a run had, the first one first.

        They are known with a journal, of the latest 10,000 runs.

        Raises:
            UnknownTaskError: No workflow runs, or ran, under this id.
        """
        from taskorch._managers import _versions  # noqa: PLC0415 - when needed

        return _versions.versions(self._rt, self.get(run_id).workflow_id)

    @verb(
        "Cancel a run.",
        "journal",
        "POST /workflows/{workflow_id}/cancel",
        operation="cancel_workflow",
        gives="changed",
        refuses=(404, 409, 422),
        keys={"run_id": "workflow_id"},
        remote={"reason": "it was cancelled over HTTP"},
        command="runs cancel RUN...: cancel runs of workflows",
        is_final=True,
        preview="cancel_of_run",
    )
    def cancel(self, run_id: str, *, reason: str | None = None) -> bool:
        """
        Cancel all tasks of runs that have not ended; False if there are none.

        Args:
            run_id: A run, a pattern of runs, or a part of them: see the class.
            reason: Why: it stands in the errors of the tasks, and in their events.

        Raises:
            UnknownTaskError: No workflow runs, or ran, under this id.
            InvalidTransitionError: The state machine forbids it for a task; those
                that it allows are cancelled.
        """
        rt = self._rt
        why = f"workflow {run_id} was cancelled" if reason is None else reason
        done = False
        vetoes: list[InvalidTransitionError] = []
        for run, below in self._targets(run_id):
            # Not the kernel of before: once the journal has been read, it is another.
            did, against = self._each(
                run, below, lambda row, now: rt.kernel.cancel(row, now, why)
            )
            done |= did
            vetoes += against
        if vetoes:
            raise vetoes[0]
        return done

    @verb(
        "Pause a run: none of its tasks begins.",
        "journal",
        "POST /workflows/{workflow_id}/pause",
        operation="pause_workflow",
        gives="changed",
        refuses=(404, 409, 422),
        keys={"run_id": "workflow_id"},
        command="runs pause RUN...: let nothing of runs begin",
    )
    def pause(self, run_id: str) -> bool:
        """
        Suspend all tasks of runs that can be; False if there are none.

        Programs are stopped where they stand, running functions at their next
        checkpoint, and what has not begun does not begin. What is blocked stays so.
        A task that is added to a paused run is suspended at once.
        `run.wait_paused()` waits until nothing runs any more.

        Args:
            run_id: A run, a pattern of runs, or a part of them: see the class.

        Raises:
            UnknownTaskError: No workflow runs, or ran, under this id.
        """
        rt = self._rt

        def suspend(row: TaskRow, now: int) -> bool:
            holdable = rt.attempts.holdable(row)
            return rt.kernel.suspend(row, now, holdable=holdable)

        done = False
        for run, below in self._targets(run_id):
            record = self._record(run.workflow_id)
            if all(w._row.state in TERMINAL for w in _some(run, below).values()):
                continue
            # First, so that nothing slips in between.
            was_paused = below in record.paused
            if not was_paused:
                record.paused.append(below)
            did = self._each(run, below, suspend)[0]
            if not (did or was_paused):
                record.paused.remove(below)
            done |= did
        return done

    @verb(
        "Let a paused run go on.",
        "journal",
        "POST /workflows/{workflow_id}/resume",
        operation="resume_workflow",
        gives="changed",
        refuses=(404, 409, 422),
        keys={"run_id": "workflow_id"},
        command="runs resume RUN...: let paused runs go on",
    )
    def resume(self, run_id: str) -> bool:
        """
        Resume all suspended tasks of runs; False if there are none.

        Args:
            run_id: A run, a pattern of runs, or a part of them: see the class.

        Raises:
            UnknownTaskError: No workflow runs, or ran, under this id.
        """
        done = False
        for run, below in self._targets(run_id):
            record = self._record(run.workflow_id)
            kept = [part for part in record.paused if not is_below(part, below)]
            done |= len(kept) < len(record.paused)
            record.paused[:] = kept
            done |= self._each(run, below, self._rt.kernel.resume)[0]
        return done

    @verb(
        "Run again what failed in a run.",
        "journal",
        "POST /workflows/{workflow_id}/restart",
        operation="restart_workflow",
        gives="workflow_id",
        status=202,
        refuses=(404, 409),
        keys={"run_id": "workflow_id"},
        command="restart RUN...: run again what failed in runs of workflows",
        preview="restart_of_run",
    )
    def restart(
        self,
        run_id: str,
        *,
        definition: Literal["as_deployed", "as_it_was"] | None = None,
    ) -> WorkflowRun:
        """
        Run again what failed, was cancelled or skipped, as `id~2`.

        What had completed, or runs, with what one of these had come to, is stale, and
        run again too; nothing else that completed is. What waits for these tasks waits
        for the new ones from then on; a gate that is asking about one of them is
        cancelled, and asks again once the new ones have ended.

        Args:
            run_id: The run.
            definition: `"as_deployed"` lets it go over to today's definition: what is
                new is added, what changed, or had the result of that, is run again, and
                what is gone is left out. `"as_it_was"` keeps graph, arguments and
                options. None: as deployed, if a schedule or a `@workflow` function says
                what that is.

        Returns:
            The run, which is the same as before.

        Raises:
            UnknownTaskError: No workflow runs, or ran, under this id; or a task of it
                that failed has left memory, and there is no journal that has it.
        """
        run, move = self.get(run_id), self._move(run_id, definition)
        if move:
            return self._restart_as(run_id, move.deployed)
        if definition is None and move is None and self._is_of_earlier(run_id):
            _LOG.info("%s is restarted as it was: nobody says what it is today", run_id)
        self._note_as_it_was(run)
        self._restart(run, lambda _work: True)
        return run

    def _is_of_earlier(self, run_id: str) -> bool:
        """Whether a run began in an earlier life, and nobody says what it is today."""
        works = self.get(run_id).handles.values()
        is_earlier = self._rt.committer is not None and any(map(ended_earlier, works))
        return is_earlier and self._move(run_id, None) is None

    def _note_as_it_was(self, run: WorkflowRun) -> None:
        """Keep with what code a run goes on that keeps its definition."""
        from taskorch._managers import _versions  # noqa: PLC0415 - when needed

        tasks = [work._task for work in run.handles.values() if work._task is not None]
        if _versions.versions(self._rt, run.workflow_id):
            how = _versions.AS_IT_WAS
            _versions.note(self._rt, run.workflow_id, tasks, how)

    def _restart_as(self, run_id: str, deployed: Deployed) -> WorkflowRun:
        """`restart`, after the run has gone over to what is *deployed*."""
        from taskorch._managers import _versions  # noqa: PLC0415 - when needed

        run = self.get(run_id)
        undone = {work._row.id for work in run.handles.values() if _is_undone(work)}
        move = _versions.Move(self, run_id, deployed)
        move.carry_out(move.due(_is_undone))
        self._restart(run, lambda work: work._row.id in undone)
        return run

    def _move(self, made_id: str, definition: str | None) -> Move | None:
        """
        The way of a run, or of a task, over to today's definition; None: as it was.

        Raises:
            InvalidTaskError: *definition* is none, or what is deployed is not known.
        """
        from taskorch._managers import _versions  # noqa: PLC0415 - when needed

        _versions.check_which(definition)
        if definition == _versions.AS_IT_WAS:
            return None
        deployed = None
        for source in self._deployed:
            deployed = deployed or source(made_id)
        deployed = deployed or _versions.of_flow(self._rt, made_id)
        return _versions.move_of(self, made_id, definition, deployed)

    def _rerun_as(
        self, task_id: str, definition: str | None, *, downstream: bool | None
    ) -> bool:
        """
        Run a task again as it is deployed, if that is another than it was.

        Returns:
            Whether it was; else nothing is done.

        Raises:
            InvalidTaskError: It is not deployed any more, or there is more to do than
                *downstream* allows; or *definition* is none, or it is not known.
        """
        rt = self._rt
        rt.recall((task_id,))
        latest = rt.directory.reruns.latest(task_id)
        work = rt.directory.known(latest) if rt.directory.is_known(latest) else None
        is_due = work is not None and work._row.state in TERMINAL
        if work is None or not (is_due and rt.directory.reruns.is_latest(latest)):
            # It is refused, and why.
            return False
        name = name_of(latest) if work._row.run else ""
        move = self._move(self._moved_with(task_id), definition)
        is_kept = move is None and definition is not None
        if name in (move.gone if move else ()) or (is_gone(work._row) and not is_kept):
            msg = f"{task_id} is not deployed any more: no definition of today has it"
            hint = "definition='as_it_was' runs it again"
            raise InvalidTaskError(msg, hint=hint)
        if not move:
            if work._row.run:
                self._note_as_it_was(self.get(work._row.run))
            return False
        due = move.due(lambda each: each._row.id == latest)
        if downstream is False and (move.new or move.gone or due.keys() - {name}):
            msg = f"today's definition changes more than {task_id}: {move}"
            hint = "leave downstream=False out; or say definition='as_it_was'"
            raise InvalidTaskError(msg, hint=hint)
        move.carry_out(due)
        # What a task has added is in no definition.
        return name in due

    def _moved_with(self, task_id: str) -> str:
        """The run that goes over if a task does; the bare id of one that is of none."""
        work: Work = _members.newest(self._rt, task_id)
        return work._row.run or stem_of(work._row.id)

    def _go_over(
        self,
        run_id: str,
        workflow: Workflow,
        note: Mapping[str, Any] | None,
        renewing: Renewing,
        gone: Sequence[Work],
    ) -> None:
        """Submit the tasks of a run anew, as those of *workflow*: see `_versions`."""
        rt, run = self._rt, self.get(run_id)
        with self._starting:
            most = self._record(run_id).max_added
            self._start(
                workflow, run_id, most, is_new=False, note=note, renewing=renewing
            )

        def leave(part: Sequence[Work], now: int) -> None:
            # A run that never begins says of what has ended that it is gone.
            rt.refuse_submission()
            for work in part:
                is_latest = rt.directory.reruns.is_latest(work._row.id)
                if is_latest and work._row.state in TERMINAL and not is_gone(work._row):
                    new = rt.succession.rerun(work._row.id, now)
                    rt.kernel.cancel(new._row, now, GONE)

        for part in slices(gone):
            rt.step(partial(leave, part), keep=True)
        handles = run.handles
        with rt.lock:
            run._parents, run._more = dict(workflow._share()), {}
            for name, work in handles.items():
                run._connect(name, tuple(names_in_run(run_id, names_above(work))))
        self._rerun_stale(run)

    def _restart(
        self, run: WorkflowRun, is_meant: Callable[[TaskHandle[Any]], bool]
    ) -> None:
        """Run again what did not complete, as far as it *is_meant*."""
        rt, run_id = self._rt, run.workflow_id
        chosen = [
            (name, work.task_id)
            for name, work in reversed(_backwards(run))
            if (is_meant(work) if _is_undone(work) else _may_ask(work))
        ]
        works: dict[str, Work] = {task_id: run._works[name] for name, task_id in chosen}
        gone = [task_id for task_id in works if task_id not in rt.kernel.tasks]
        if gone:
            if rt.directory.recovered is None:
                msg = f"task {gone[0]} has left memory, and cannot be run again"
                raise UnknownTaskError(msg, hint="raise keep_finished", task_id=gone[0])
            works |= rt.directory.recovered.recollect_all(gone)
        pools = _limits.of_tasks(
            work._task for work in works.values() if work._task is not None
        )
        if pools:
            self._limit(run_id, pools)

        def rerun(part: Sequence[tuple[str, str]], now: int) -> None:
            rt.refuse_submission()
            for name, task_id in part:
                old: Work = run._works[name]
                is_due = _is_undone(old) or _asks_too_early(old)
                # What has added it makes all anew: it is not of the run before that
                # adds it again.
                is_due = is_due and not is_outdated(rt, old)
                # Another thread may have been faster.
                if not (is_due and rt.directory.reruns.is_latest(task_id)):
                    continue
                new = rt.succession.rerun(task_id, now, live=True)
                run._works[name] = cast("TaskHandle[Any]", new)
                rt.succession.give_up(old, new, now)

        # Parents come before their dependents: else these would be skipped once more.
        for part in slices(chosen):
            rt.step(partial(rerun, part), keep=True)
        self._rerun_stale(run)

    def _rerun_below(self, work: Work) -> None:
        """Of the run of a task that was run again: run again what is stale for that."""
        self._rerun_stale(self.get(work._row.run), {stem_of(work._row.id)})

    def _rerun_stale(
        self, run: WorkflowRun, since: Collection[str] | None = None
    ) -> None:
        """
        Run again what had the results of runs that are not the latest any more.

        Of a run that stays as it was otherwise, only what is below the tasks *since*.
        """
        rt = self._rt
        below = set(since or ())

        def rerun(
            part: Sequence[tuple[str, TaskHandle[Any]]], now: int, *, every: bool
        ) -> bool:
            rt.refuse_submission()
            is_more = False
            for name, work in part:
                above = named_above(rt, cast("Work", work))
                if not (every or any(stem_of(each) in below for each in above)):
                    continue
                new = rt.succession.rerun_stale(work, now)
                if new is not None:
                    run._works[name] = cast("TaskHandle[Any]", new)
                elif every:
                    continue
                stem = stem_of(work._row.id)
                is_more |= new is not None or stem not in below
                below.add(stem)
            return is_more

        every = since is None
        is_more = True
        while is_more:
            is_more = False
            for part in slices(_backwards(run)[::-1]):
                is_more |= rt.step(partial(rerun, part, every=every), keep=True)
            # What has asked for a result may stand before the task that had it.
            every = False

    @verb(
        "Approve a gate.",
        "journal",
        "POST /workflows/{workflow_id}/approve",
        operation="approve_workflow",
        gives="changed",
        refuses=(404, 409, 422),
        keys={"run_id": "workflow_id"},
        forms=_VERDICT,
        command="approve RUN+PHASE: approve a phase of a workflow",
        is_final=True,
        preview="verdict_on_phase",
    )
    def approve(self, run_id: str, gate: str, *, by: str, note: str = "") -> bool:
        """
        Approve a phase whose gate asks for it: see `Approval`.

        Args:
            run_id: The run.
            gate: The phase; once it was asked again, with the number of the run: what
                was asked then is `build~2`.
            by: Who approves: a name, without a colon.
            note: What there is to say about it.

        Returns:
            Whether this decided it; False if it had been decided before.

        Raises:
            UnknownTaskError: There is no such run, or no such approval in it.
            InvalidTransitionError: The phase has not come to it yet.
            InvalidTaskError: *by* or *note* is not well formed.
        """
        return self._decide(run_id, gate, by, note, passed=True)

    def _decide(
        self, run_id: str, gate: str, by: str, note: str, *, passed: bool
    ) -> bool:
        check_there(_APPROVALS, "a verdict on a phase")
        from taskorch._managers import _approvals  # noqa: PLC0415 - when needed

        return _approvals.decide(self.get(run_id), gate, by, note, passed=passed)

    def _approval(self, run_id: str, gate: str) -> TaskHandle[Any]:
        check_there(_APPROVALS, "a verdict on a phase")
        from taskorch._managers import _approvals  # noqa: PLC0415 - when needed

        return _approvals.approval(self.get(run_id), gate)

    @verb(
        "Reject a gate.",
        "journal",
        "POST /workflows/{workflow_id}/reject",
        operation="reject_workflow",
        gives="changed",
        refuses=(404, 409, 422),
        keys={"run_id": "workflow_id"},
        forms=_VERDICT,
        command="reject RUN+PHASE: reject a phase of a workflow",
        is_final=True,
        preview="verdict_on_phase",
    )
    def reject(self, run_id: str, gate: str, *, by: str, note: str = "") -> bool:
        """
        Reject a phase whose gate asks for an approval: it has failed then.

        A restart asks again.

        Args:
            run_id: The run.
            gate: The phase, as for `approve`.
            by: Who rejects: a name, without a colon.
            note: Why.

        Returns:
            Whether this decided it; False if it had been decided before.

        Raises:
            UsageError: As for `approve`.
        """
        return self._decide(run_id, gate, by, note, passed=False)

    def _targets(self, pattern: str) -> list[tuple[WorkflowRun, str]]:
        """
        The runs that *pattern* means, and below which name of theirs; "" is all.

        Raises:
            UnknownTaskError: It is no pattern, and there is no such run, or nothing
                of that name in it.
        """
        run_id, below = split_first(str(pattern))
        if not WILD.isdisjoint(str(pattern)):
            self._rt.look_up()
            return [(run, below) for run in self._matching(run_id, only_live=True)]
        run = self.get(pattern if not below else run_id)
        if below and not _some(run, below):
            msg = f"workflow {run_id} has nothing that is called {below!r}"
            raise UnknownTaskError(msg, hint="a task, a phase, or what was included")
        return [(run, below)]

    def _each(
        self, run: WorkflowRun, below: str, act: Callable[[Any, int], bool]
    ) -> tuple[bool, list[InvalidTransitionError]]:
        """
        Call *act* on every task of a run, dependents before their parents.

        Returns:
            Whether it did something, and what the state machine had against it.
        """
        vetoes: list[InvalidTransitionError] = []

        def change(rows: Iterable[TaskRow], now: int) -> bool:
            done = False
            for row in rows:
                try:
                    done = act(row, now) or done
                except InvalidTransitionError as veto:
                    vetoes.append(veto)
            return done

        done = False
        chosen = _some(run, below)
        rows = [work._row for name, work in _backwards(run) if name in chosen]
        for part in slices(rows):
            done |= self._rt.step(partial(change, part), keep=True)
        return done, vetoes


def manager_of(runtime: Any) -> WorkflowManager:
    """The manager of the workflows of *runtime*, which is made when it is needed."""
    if runtime.manager is None:
        manager = WorkflowManager(runtime)
        runtime.deciders.refuse_reentry()
        with runtime.lock:
            # One, whichever of two threads is the first.
            if runtime.manager is None:
                runtime.manager = manager
    existing: WorkflowManager = runtime.manager
    return existing


def _recipe(
    flow: Workflow | WorkflowFunction[...], parameters: Mapping[str, Any] | None
) -> dict[str, Any]:
    """What a run of *flow* can be made of again: its place, and what it was given."""
    if isinstance(flow, Workflow):
        return {}
    from taskorch._managers import _versions  # noqa: PLC0415 - when needed

    values = as_json(kept(by_names(parameters)))
    return {"flow": _versions.flow_name(flow), "given": values}


def _some_of(names: Sequence[str]) -> str:
    """The first of *names*, and how many more there are."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(repr, names[:_SHOWN])) + more


def _is_another(run_id: str, error: DuplicateTaskError) -> DuplicateTaskError:
    """What is said of the tasks of a run, said of the run."""
    lines = [
        f"task {task_id!r}: {field} was {was}, and is {now}".replace(in_run(run_id), "")
        for task_id, field, was, now in error.differences
    ]
    if len(lines) > _SHOWN:
        lines[_SHOWN:] = [f"and {len(lines) - _SHOWN} more"]
    reason = "; ".join(lines) or "what that was has left memory"
    msg = f"the id {run_id!r} is that of a run of another workflow: {reason}"
    return DuplicateTaskError(
        msg, differences=error.differences, hint=_OTHER_RUN, task_id=run_id
    )


def real_task(task: Task) -> Task:
    """*task* with the function that a placeholder of its call stands for."""
    payload = task.payload
    if isinstance(payload, Call) and payload.fn in _REAL:
        return attrs.evolve(task, payload=attrs.evolve(payload, fn=_REAL[payload.fn]))
    return task


def _noted(
    tasks: Mapping[str, Task], note: Mapping[str, Any] | None
) -> Mapping[str, Task]:
    """*tasks*, each with *note* among its metadata."""
    if note is None:
        return tasks
    return {
        name: attrs.evolve(task, metadata={**(task.metadata or {}), **note})
        for name, task in tasks.items()
    }


def _all_real(tasks: Mapping[str, Task]) -> Mapping[str, Task]:
    """*tasks* with the functions that placeholders stand for; a copy only if any."""
    changed = {
        n: real for n, task in tasks.items() if (real := real_task(task)) is not task
    }
    return {**tasks, **changed} if changed else tasks


def _is_undone(work: Work) -> bool:
    """Whether *work* has ended, and did not complete."""
    return work._row.state in (TaskState.FAILED, TaskState.CANCELLED)


def _may_ask(work: Work) -> bool:
    """Whether *work* is a gate that has not ended."""
    return work._row.state not in TERMINAL and is_gate(work)


def _asks_too_early(work: Work) -> bool:
    """Whether *work*, a gate, has begun, and something before it runs after all."""
    is_latest = cast("Runtime", work._rt).directory.reruns.is_latest
    return bool(_may_ask(work) and work._row.attempt) and any(
        not is_latest(parent._row.id)
        or (parent._row.state not in TERMINAL and not _members.blockers(parent._row))
        for parent in work._above
    )


def _backwards(run: WorkflowRun) -> list[tuple[str, TaskHandle[Any]]]:
    """The tasks of *run*, each before all that it comes after, or was added by."""
    handles = run.handles
    parents = run._above(handles)
    adders = {n: name_of(added_by(work)) for n, work in handles.items()}
    with_adders = {
        name: (*above, adders[name]) if adders[name] in handles else above
        for name, above in parents.items()
    }
    # What adds once more that which it comes after is no ring.
    with suppress(graphlib.CycleError):
        return [(name, handles[name]) for name in reversed(order(with_adders))]
    return [(name, handles[name]) for name in reversed(order(parents))]


def _some(run: WorkflowRun, below: str) -> dict[str, TaskHandle[Any]]:
    """The tasks of *run* below a name, or of a phase of that name."""
    handles = run.handles
    if not below:
        return dict(handles)
    chosen = {name for name in handles if is_below(name, below)}
    for phase, members in run._phases().items():
        if is_below(phase, below):
            chosen.update(members)
    return {name: work for name, work in handles.items() if name in chosen}
