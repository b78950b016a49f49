"""Later runs of tasks of a run: of failed, stale and otherwise deployed ones."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from taskorch.core.engine import (
    Staleness,
    added_by,
    ended_earlier,
    failed_earlier,
    goes_with,
    is_due,
    is_gone,
    is_outdated,
    may_run_without,
    named_above,
    names_above,
    row_of,
    runs_above,
    runtime_of,
)
from taskorch.core.kernel import hangs_on
from taskorch.core.runs import _limits, _members
from taskorch.core.runs._gates import is_gate
from taskorch.core.runs._members import MAX_ADDED, in_parts, slices
from taskorch.core.workflows import _parameters
from taskorch.errors import InvalidTaskError, UnknownTaskError
from taskorch.kit.fence import log_of
from taskorch.kit.plain import GONE
from taskorch.model import TERMINAL, TaskState
from taskorch.model.ids import name_of, names_in_run, stem_of

if TYPE_CHECKING:
    from taskorch.core.engine import Runtime, Work
    from taskorch.core.engine._stale import Known
    from taskorch.core.engine._submission import Renewing
    from taskorch.core.engine._succession import Succession
    from taskorch.core.handles.handles import TaskHandle
    from taskorch.core.runs._known import KnownRuns
    from taskorch.core.runs._run import WorkflowRun
    from taskorch.core.runs._starts import Starts
    from taskorch.core.runs._versions import Deployed, Move
    from taskorch.core.workflows import Workflow

_LOG: Final = log_of(__name__)


class _Again:
    """The choice of tasks of a run that run again: those of *ids*; see `Renewing`."""

    decides: bool = True

    def __init__(self, ids: Collection[str]) -> None:
        self._ids = ids

    def is_due(self, work: Work, *, is_other: bool) -> bool:
        """Return whether *work* runs again; *is_other*: another task is submitted."""
        return not is_other and row_of(work).id in self._ids

    def is_anew(self, work: Work) -> bool:  # noqa: ARG002 - see `Renewing`
        """Return whether the tasks that it has added are made again, too."""
        return False

    def admitted(self, now: int) -> None:
        """Do nothing."""


class Restarts:
    """
    The restarts of runs.

    Attributes:
        known: The known runs.
        starts: The starts of runs.
        rt: The runtime that has their tasks.
        deployed: Returns the deployed definition of a run, which the schedules know.
    """

    def __init__(self, known: KnownRuns, starts: Starts) -> None:
        self.known: KnownRuns = known
        self.starts: Starts = starts
        self.rt: Runtime = known.rt
        self.deployed: list[Callable[[str], Deployed | None]] = []

    def start_again(
        self,
        workflow: Workflow,
        run_id: str,
        max_added: int,
        note: Mapping[str, Any] | None,
    ) -> WorkflowRun:
        """Submit missing tasks, and re-run those that failed earlier."""
        renewing = None
        before = self.known.get(run_id)
        if self.rt.rerun_failed and any(map(failed_earlier, before.handles.values())):
            again = to_run_again(before, partial(_is_first, ended_earlier))
            renewing = _Again({*again.values()})
        run = self.starts.submit(
            workflow, run_id, max_added, is_new=False, note=note, renewing=renewing
        )
        if renewing is not None:
            # The submission has re-run the tasks of the workflow itself; only those
            # that its tasks had added are left.
            with self.rt.patience():
                self._restart(run, ended_earlier)
        return run

    def start_noted(
        self,
        workflow: Workflow,
        run_id: str,
        note: Mapping[str, Any],
        given: Mapping[str, Any],
    ) -> WorkflowRun:
        """Start a run with *note* in the metadata of each task."""
        self.rt.look_up()
        more = (
            {"given": _parameters.as_json(_parameters.kept(given))} if given else None
        )
        submission = workflow, run_id, MAX_ADDED, note
        with self.starts.lock:
            if self.starts.is_new(workflow, run_id):
                return self.starts.begin(*submission, more)
            return self.start_again(*submission)

    def repeat_as(self, made_id: str, deployed: Deployed, since_ns: int) -> bool:
        """
        Repeat a run by its *deployed* definition, without tasks run since *since_ns*.

        Returns:
            Whether the definition has changed; else nothing is done.
        """
        from taskorch.core.runs import _versions  # noqa: PLC0415 - when needed

        move = _versions.Move(self, made_id, deployed)
        if move:
            move.carry_out(move.due(lambda work: row_of(work).submitted_ns < since_ns))
        else:
            self.note_kept(made_id, "" if deployed.task else made_id, move)
        return bool(move)

    def restart(self, run_id: str, definition: str | None) -> WorkflowRun:
        """See `WorkflowManager.restart`."""
        run, move = self.known.get(run_id), self.move(run_id, definition)
        if move:
            return self.restart_as(run_id, move.deployed)
        if definition is None and move is None and self.is_of_earlier(run_id):
            _LOG.info("%s is restarted as it was: nobody says what it is today", run_id)
        self.note_kept(run_id, run.workflow_id, move)
        self._restart(run, lambda _work: True)
        return run

    def is_of_earlier(self, run_id: str) -> bool:
        """Return whether a run began earlier, and has no deployed definition."""
        works = self.known.get(run_id).handles.values()
        is_earlier = self.rt.committer is not None and any(map(ended_earlier, works))
        return is_earlier and self.move(run_id, None) is None

    def note_kept(self, made_id: str, run_id: str, move: Move | None) -> None:
        """Note the code of a run, or of a task, whose definition has no difference."""
        from taskorch.core.runs import _versions  # noqa: PLC0415 - when needed

        is_deployed = move is not None
        how = _versions.AS_DEPLOYED if is_deployed else _versions.AS_IT_WAS
        name, works = run_id or _versions.single(made_id), list[Any]()
        if run_id:
            works += self.known.get(run_id).handles.values()
        else:
            works.append(_members.newest(self.rt, made_id))
        tasks = [work._task for work in works if work._task is not None]
        if _versions.versions(self.rt, name) or (is_deployed and not run_id):
            _versions.note(self.rt, name, tasks, how)

    def restart_as(self, run_id: str, deployed: Deployed) -> WorkflowRun:
        """Restart a run after it has moved to the *deployed* definition."""
        from taskorch.core.runs import _versions  # noqa: PLC0415 - when needed

        run = self.known.get(run_id)
        undone = {row_of(work).id for work in run.handles.values() if is_undone(work)}
        move = _versions.Move(self, run_id, deployed)
        move.carry_out(move.due(is_undone))
        with self.rt.patience():
            self._restart(run, lambda work: row_of(work).id in undone)
        return run

    def move(self, made_id: str, definition: str | None) -> Move | None:
        """
        Return the change of a run or task to today's definition; None: as it was.

        Raises:
            InvalidTaskError: *definition* is unknown, or no deployed one is known.
        """
        from taskorch.core.runs import _versions  # noqa: PLC0415 - when needed

        _versions.check_which(definition)
        if definition == _versions.AS_IT_WAS:
            return None
        deployed = None
        for source in self.deployed:
            deployed = deployed or source(made_id)
        deployed = deployed or _versions.of_flow(self.rt, made_id)
        return _versions.move_of(self, made_id, definition, deployed)

    def rerun_as(
        self, task_id: str, definition: str | None, *, downstream: bool | None
    ) -> bool:
        """
        Run a task again with its deployed definition, if that differs.

        Returns:
            Whether it differs; else nothing is done.

        Raises:
            InvalidTaskError: It is not deployed any more, or there is more to do than
                *downstream* allows; or *definition* is unknown, or no deployed one is
                known.
        """
        rt = self.rt
        rt.recall((task_id,))
        latest = rt.directory.reruns.latest(task_id)
        work = rt.directory.known(latest) if rt.directory.is_known(latest) else None
        row = None if work is None else row_of(work)
        is_due = row is not None and row.state in TERMINAL
        if row is None or not (is_due and rt.directory.reruns.is_latest(latest)):
            # The state machine refuses it, with the reason.
            return False
        name = name_of(latest) if row.run else ""
        move = self.move(self.moved_with(task_id), definition)
        is_kept = move is None and definition is not None
        if name in (move.gone if move else ()) or (is_gone(row) and not is_kept):
            msg = f"{task_id} is not deployed any more: no definition of today has it"
            hint = "definition='as_it_was' runs it again"
            raise InvalidTaskError(msg, hint=hint)
        if not move:
            self.note_kept(task_id, row.run, move)
            return False
        due = move.due(lambda each: row_of(each).id == latest)
        if downstream is False and (move.new or move.gone or due.keys() - {name}):
            msg = f"today's definition changes more than {task_id}: {move}"
            hint = "leave downstream=False out; or say definition='as_it_was'"
            raise InvalidTaskError(msg, hint=hint)
        move.carry_out(due)
        # No definition contains the tasks that a task has added.
        return name in due

    def moved_with(self, task_id: str) -> str:
        """Return the run that moves with a task; for a single task, its bare id."""
        row = row_of(_members.newest(self.rt, task_id))
        return row.run or stem_of(row.id)

    def go_over(
        self,
        run_id: str,
        workflow: Workflow,
        note: Mapping[str, Any] | None,
        renewing: Renewing,
        gone: Sequence[Work],
    ) -> None:
        """Submit the tasks of a run anew, as those of *workflow*: see `_versions`."""
        rt, run = self.rt, self.known.get(run_id)
        with self.starts.lock:
            most = self.known.record(run_id).max_added
            self.starts.submit(
                workflow, run_id, most, is_new=False, note=note, renewing=renewing
            )

        # It is loaded before the lock is held.
        succession = rt.succession

        def leave(part: Sequence[Work], now: int) -> None:
            # A run that never begins records that its ended parents are gone.
            rt.refuse_submission()
            for row in map(row_of, part):
                is_latest = rt.directory.reruns.is_latest(row.id)
                if is_latest and row.state in TERMINAL and not is_gone(row):
                    new = succession.rerun(row.id, now)
                    rt.kernel.cancel(row_of(new), now, GONE)

        with rt.patience():
            in_parts(rt, gone, leave)
        handles = run.handles
        with rt.lock:
            run._parents, run._more = dict(workflow.dependencies), {}
            for name, work in handles.items():
                run._connect(name, tuple(names_in_run(run_id, names_above(work))))
        self.rerun_stale(run)

    def to_run_again(
        self, run_id: str, is_first: Callable[[Staleness, Work], bool]
    ) -> dict[str, str]:
        """Return tasks of a run: see the function `to_run_again`."""
        return to_run_again(self.known.get(run_id), is_first)

    def _restart(self, run: WorkflowRun, is_meant: Callable[[Any], bool]) -> None:
        """
        Run again all tasks that did not complete and that *is_meant* accepts.

        Those that had a result of one of them run again in the same step: else some
        would begin with an earlier result, and then once more.
        """
        rt, run_id = self.rt, run.workflow_id
        chosen = to_run_again(run, partial(_is_first, is_meant))
        works: dict[str, Work] = {
            task_id: run._works[name] for name, task_id in chosen.items()
        }
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
            self.starts.limit(run_id, pools)

        # It is loaded before the lock is held.
        succession = rt.succession

        def rerun(part: Sequence[tuple[str, str]], now: int) -> None:
            rt.refuse_submission()
            for name, task_id in part:
                self._replace(run, name, task_id, succession, now)

        # Parents come before their dependents: else these would be skipped once more.
        in_parts(rt, [*chosen.items()], rerun)
        self.rerun_stale(run)

    def _replace(
        self,
        run: WorkflowRun,
        name: str,
        task_id: str,
        succession: Succession,
        now: int,
    ) -> None:
        """Run again a task, which may not have ended, of a run; hold the lock."""
        rt = self.rt
        old: Work = run._works[name]
        # Another thread may have been faster; or the task that added it has begun
        # anew, and adds it again.
        if rt.directory.reruns.is_latest(task_id) and not is_outdated(rt, old):
            new = succession.rerun(task_id, now, live=True)
            run._works[name] = cast("TaskHandle[Any]", new)
            succession.give_up(old, new, now)

    def rerun(self, task_id: str, *, downstream: bool) -> Work:
        """
        Run a task again, and in its run those that had its result.

        Those that have added it come first, in the same step: after it, they would make
        it once more if it had failed by then.

        Raises:
            UsageError: As `Runtime.rerun`.
        """
        rt = self.rt
        rt.recall((task_id,))
        latest = rt.directory.reruns.latest(task_id)
        old = rt.directory.known(latest) if rt.directory.is_known(latest) else None
        above: dict[str, str] = {}
        run: WorkflowRun | None = None
        if old is not None and row_of(old).run and added_by(old):
            run = self.known.get(row_of(old).run)
            again = to_run_again(run, lambda _, each: row_of(each).id == latest)
            for name, each in again.items():
                if each == latest:
                    break
                above[name] = each
        # It is loaded before the lock is held.
        succession = rt.succession

        def before(now: int) -> None:
            if run is not None and old is not None and row_of(old).state in TERMINAL:
                for name, each in above.items():
                    self._replace(run, name, each, succession, now)

        new = rt.rerun(task_id, downstream=downstream, before=before)
        if row_of(new).run:
            stems = {stem_of(each) for each in (latest, *above.values())}
            self.rerun_stale(self.known.get(row_of(new).run), stems)
        return new

    def rerun_stale(
        self, run: WorkflowRun, since: Collection[str] | None = None
    ) -> None:
        """
        Run again the tasks that had results of runs that are not the latest any more.

        In a run that otherwise stays as it was, only those below the tasks *since*.
        """
        rt = self.rt
        below = set(since or ())
        succession = rt.succession

        def rerun(
            part: Sequence[tuple[str, TaskHandle[Any]]], now: int, *, every: bool
        ) -> bool:
            rt.refuse_submission()
            staleness = Staleness(rt)
            staleness.look(work for _, work in part)
            is_more = False
            for name, work in part:
                above = named_above(staleness, cast("Work", work))
                if not (every or any(stem_of(each) in below for each in above)):
                    continue
                new = succession.rerun_stale(work, now, staleness)
                if new is not None:
                    run._works[name] = cast("TaskHandle[Any]", new)
                elif every:
                    continue
                stem = stem_of(row_of(work).id)
                is_more |= new is not None or stem not in below
                below.add(stem)
            return is_more

        every = since is None
        is_more = True
        while is_more:
            # What this follows from is kept, and must not stay half done.
            with rt.patience():
                again = partial(rerun, every=every)
                is_more = any(in_parts(rt, run._backwards()[::-1], again))
            # A task that has asked for a result may come before the task that had it.
            every = False


def to_run_again(
    run: WorkflowRun, is_first: Callable[[Staleness, Work], bool]
) -> dict[str, str]:
    """
    Return the first tasks, and those that have used a result of one of these.

    Returns:
        The ids of the latest runs by name; parents, and tasks that add others, come
        first.
    """
    again: dict[str, str] = {}
    renewed: set[str] = set()
    #: A blocked task goes on as the same run.
    freed: set[str] = set()
    ordered = cast("Sequence[tuple[str, Work]]", run._backwards()[::-1])
    size = -1
    # A task that has asked for a result may come before the task that had it.
    while size < len(again) + len(freed):
        size = len(again) + len(freed)
        for part in slices(ordered):
            with run._rt.lock:
                # What the journal has about these is read at once.
                staleness = Staleness(run._rt)
                staleness.look(work for _, work in part)
                for name, work in part:
                    if name not in again:
                        had = {name_of(each) for each in runs_above(staleness, work)}
                        _foresee(
                            run,
                            name,
                            work,
                            had,
                            partial(is_first, staleness),
                            again,
                            renewed,
                            freed,
                        )
    return {name: again[name] for name, _ in ordered if name in again}


def _foresee(
    run: WorkflowRun,
    name: str,
    work: Work,
    had: set[str],
    is_first: Callable[[Work], bool],
    again: dict[str, str],
    renewed: set[str],
    freed: set[str],
) -> None:
    """
    Enter the future of a task, from that of others; hold the lock.

    Args:
        run: Its run.
        name: Its name.
        work: The task.
        had: The names of those whose results it had.
        is_first: Whether a task is among the first that run again.
        again: Tasks that run again: the ids of their latest runs, by name.
        renewed: Tasks that add all their tasks anew, or are added anew.
        freed: Blocked tasks that go on as the same run.
    """
    if name_of(added_by(work)) in renewed:
        # The task that has added it makes all its tasks anew.
        renewed.add(name)
        return
    row = row_of(work)
    above = again.keys() & had
    lacked = bool(row.attempt) and may_run_without(work) and not freed.isdisjoint(had)
    if (
        is_first(work)
        or any(goes_with(cast("Work", run._works[each]), work) for each in above)
        or (lacked and not hangs_on(row))
    ):
        again[name] = row.id
        freed.discard(name)
        if row.state is TaskState.COMPLETED:
            renewed.add(name)
    elif hangs_on(row) and not (above or freed).isdisjoint(had):
        freed.add(name)


def is_undone(work: Work) -> bool:
    """Return whether *work* has ended, and did not complete."""
    return row_of(work).state in (TaskState.FAILED, TaskState.CANCELLED)


def _is_first(
    is_meant: Callable[[Any], bool], staleness: Staleness, work: Work
) -> bool:
    """Return whether a restart of what *is_meant* begins with a task."""
    is_chosen = not is_undone(work) or is_meant(work)
    return (is_chosen and is_restarted(staleness, work)) or is_due(staleness, work)


def is_restarted(rt: Known, work: Work) -> bool:
    """Return whether a restart of its run begins with *work*; hold the lock."""
    # Its adder may make all its tasks anew, and then adds another run of it.
    is_to_be = is_undone(work) or asks_too_early(work)
    return is_to_be and not is_outdated(rt, work)


def _may_ask(work: Work) -> bool:
    """Return whether *work* is a gate that has not ended."""
    return row_of(work).state not in TERMINAL and is_gate(work)


def asks_too_early(work: Work) -> bool:
    """Return whether *work*, a gate, has begun before an earlier task ended."""
    is_latest = runtime_of(work).directory.reruns.is_latest
    return bool(_may_ask(work) and row_of(work).attempt) and any(
        not is_latest(row.id)
        or (row.state not in TERMINAL and not _members.blockers(row))
        for row in map(row_of, work._above)
    )
