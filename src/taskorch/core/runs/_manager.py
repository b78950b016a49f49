"""`orch.workflows`: starts workflows, and controls their runs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from taskorch.core.engine import row_of
from taskorch.core.runs._inside import WorkflowContext
from taskorch.core.runs._known import KnownRuns
from taskorch.core.runs._members import MAX_ADDED, WILD, in_parts, is_below
from taskorch.core.runs._reruns import Restarts
from taskorch.core.runs._run import WorkflowRun
from taskorch.core.runs._starts import Starts, recipe_of
from taskorch.core.workflows import Workflow, WorkflowFunction, WorkflowStatus
from taskorch.core.workflows._functions import written
from taskorch.core.workflows._parameters import by_names
from taskorch.errors import (
    InvalidTaskError,
    InvalidTransitionError,
    UnknownTaskError,
)
from taskorch.kit.checks import built_in, check_count, check_text
from taskorch.kit.verbs import NAME, NOTE, PERSON, lacks, verb
from taskorch.kit.visible import as_text, is_text, show
from taskorch.kit.vocabulary import other_attribute
from taskorch.model import TERMINAL, MadeFor
from taskorch.model.ids import (
    check_name,
    split_first,
)

if TYPE_CHECKING:
    from taskorch.core.engine import AttemptContext, Runtime
    from taskorch.core.kernel import TaskRow
    from taskorch.core.runs._versions import RunVersion


class Planned(Protocol):
    """An `ExecutionPlan` of `orch.planner`."""

    @property
    def workflow(self) -> Workflow:
        """Its tasks and dependencies."""
        ...


#: The forms of a verdict's arguments.
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
        # Any: the public type must not import the runtime.
        runtime: Any,
    ) -> None:
        self._rt: Runtime = runtime
        self._known: KnownRuns = KnownRuns(runtime)
        self._starts: Starts = Starts(self._known)
        self._reruns: Restarts = Restarts(self._known, self._starts)

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
        workflow: Workflow | WorkflowFunction[...] | Planned,
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
            definition: The rule for an existing run, if *workflow* differs now:
                `"as_deployed"` moves it to *workflow*, as `restart` does. None: it is
                refused.

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
        more = None if rt.committer is None else recipe_of(recipe, parameters)
        if id is None:
            run_id = f"{workflow.name}-{rt.new_id()}"
            return self._starts.begin(workflow, run_id, max_added, note, more)
        if definition is not None and self._is_here(id, definition):
            from taskorch.core.runs._versions import Deployed  # noqa: PLC0415 - few need it

            return self._reruns.restart_as(
                id, Deployed("this program", None, workflow, note)
            )
        with self._starts.lock:
            if self._starts.is_new(workflow, id):
                return self._starts.begin(workflow, id, max_added, note, more)
            self._starts.refuse_others(id, values, set(by_names(parameters)))
            run = self._reruns.start_again(workflow, id, max_added, note)
            self._reruns.rerun_stale(run)
            return run

    def _start_plan(
        self,
        plan: Any,
        run_id: str | None,
        max_added: int,
        parameters: Mapping[str, Any] | None,
        definition: Literal["as_deployed", "as_it_was"] | None,
    ) -> WorkflowRun:
        """
        Start a plan, as `start` does a workflow.

        Raises:
            InvalidTaskError: It is no plan.
        """
        planner = built_in("planner") if "taskorch.ext.planner" in sys.modules else None
        if planner is not None and isinstance(plan, planner.ExecutionPlan):
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
        """Return whether the run exists, and is to move to another definition."""
        from taskorch.core.runs import _versions  # noqa: PLC0415 - when needed

        _versions.check_which(definition)
        with suppress(UnknownTaskError):
            self.get(run_id)
            return definition == _versions.AS_DEPLOYED
        return False

    @verb(
        "A run of a workflow.",
        "journal",
        lacks=lacks("`workflow_status` has it", "`inspect` shows it"),
    )
    def get(self, run_id: str) -> WorkflowRun:
        """
        Return the run with an id.

        Raises:
            UnknownTaskError: No workflow runs, or ran, under this id.
        """
        return self._known.get(run_id)

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
        Return the runs whose ids match a pattern, as in `find("nightly-*")`.

        They are those of this incarnation, and those of earlier incarnations that have
        not ended.

        Raises:
            InvalidTaskError: *pattern* is no text.
        """
        if not is_text(pattern):
            msg = f"a pattern of ids is a text, not {show(pattern)}"
            raise InvalidTaskError(msg, hint="'nightly-*'; '*' is all runs")
        self._rt.look_up()
        return self._known.matching(pattern, only_live=False)

    # -- control -------------------------------------------------------------------

    @verb(
        "The progress of a run.",
        "journal",
        "GET /workflows/{workflow_id}",
        operation="workflow_status",
        refuses=(404,),
        keys={"run_id": "workflow_id"},
        lacks=lacks(command="`inspect` shows it"),
    )
    def status(self, run_id: str) -> WorkflowStatus:
        """
        Return the progress of a run.

        Raises:
            UnknownTaskError: No workflow runs, or ran, under this id.
        """
        return self.get(run_id).status()

    @verb(
        "The definitions of a run.",
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
        Return the definitions that a run had, the first one first.

        They are known with a journal, of the latest 10,000 runs.

        Raises:
            UnknownTaskError: No workflow runs, or ran, under this id.
        """
        from taskorch.core.runs import _versions  # noqa: PLC0415 - when needed

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
            InvalidTaskError: The *reason* is no text.
        """
        rt = self._rt
        why = f"workflow {as_text(run_id)} was cancelled"
        why = why if reason is None else check_text("a reason", reason)
        done = False
        vetoes: list[InvalidTransitionError] = []
        for run, below in self._targets(run_id):
            # Read it anew: once the journal has been read, the kernel is another.
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
        checkpoint, and tasks that have not begun do not begin. Blocked ones stay so.
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
            record = self._known.record(run.workflow_id)
            if all(row_of(w).state in TERMINAL for w in run._below(below).values()):
                continue
            # This comes first, so that no added task slips in between.
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
            record = self._known.record(run.workflow_id)
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
        command="runs restart RUN...: run again what failed in runs of workflows",
        preview="restart_of_run",
    )
    def restart(
        self,
        run_id: str,
        *,
        definition: Literal["as_deployed", "as_it_was"] | None = None,
    ) -> WorkflowRun:
        """
        Run again all tasks that failed, were cancelled or skipped, as `id~2`.

        A completed or running task that had the result of one of these is stale, and
        is run again too; no other completed task is. Tasks that wait for these wait for
        the new runs from then on; a gate that is asking about one of them is cancelled,
        and asks again once the new runs have ended.

        Args:
            run_id: The run.
            definition: `"as_deployed"` moves it to today's definition: new tasks are
                added, changed ones, and those that had their results, are run again,
                and removed ones are left out. `"as_it_was"` keeps graph, arguments and
                options. None: as deployed, if a schedule or a `@workflow` function has
                a definition.

        Returns:
            The run, which is the same as before.

        Raises:
            UnknownTaskError: No workflow runs, or ran, under this id; or a task of it
                that failed has left memory, and there is no journal that has it.
        """
        return self._reruns.restart(run_id, definition)

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
            note: A comment.

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
        approvals = built_in("questions._approvals", "a verdict on a phase")
        run = self.get(run_id)
        return bool(approvals.decide(self._rt, run, gate, by, note, passed=passed))

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
        Return the runs that *pattern* means, and the part of each; "" is all of it.

        Raises:
            UnknownTaskError: It is no pattern, and there is no such run, or nothing
                of that name in it.
        """
        pattern = as_text(pattern)
        run_id, below = split_first(pattern)
        if not WILD.isdisjoint(pattern):
            self._rt.look_up()
            return [
                (run, below) for run in self._known.matching(run_id, only_live=True)
            ]
        run = self.get(pattern if not below else run_id)
        if below and not run._below(below):
            msg = f"workflow {run_id} has nothing that is called {below!r}"
            raise UnknownTaskError(msg, hint="a task, a phase, or what was included")
        return [(run, below)]

    def _each(
        self, run: WorkflowRun, below: str, act: Callable[[Any, int], bool]
    ) -> tuple[bool, list[InvalidTransitionError]]:
        """
        Call *act* on every task of a run, dependents before their parents.

        Returns:
            Whether it did something, and the errors of the state machine.
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

        chosen = run._below(below)
        rows = [row_of(work) for name, work in run._backwards() if name in chosen]
        return any(in_parts(self._rt, rows, change)), vetoes


def manager_of(runtime: Any) -> WorkflowManager:
    """Return the manager of the workflows of *runtime*; the first call makes it."""
    parts = runtime.first_made
    if "workflows" not in parts:
        # The lock makes one manager, whichever of two threads is the first.
        runtime.runs = parts.setdefault("workflows", WorkflowManager(runtime))._known
    existing: WorkflowManager = parts["workflows"]
    return existing


def within(runtime: Runtime, context: AttemptContext) -> WorkflowContext:
    """Return the run that a running task is part of, for its *context*."""
    return WorkflowContext(manager_of(runtime)._known, context)


def restarts_of(manager: WorkflowManager) -> Restarts:
    """Return the restarts of the runs of *manager*."""
    return manager._reruns
