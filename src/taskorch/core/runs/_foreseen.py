"""
Previews of verbs, for whoever asks a person first.

A verb names its function here: `@verb(…, preview="cancel_of_task")`. The function
takes an orchestrator and those arguments of the verb that matter for it, by their
names; the first is the id that the verb acts on. A preview is true at the moment of the
question, and binds nothing.

Decisions: dashboard-and-views, verbs-and-front-ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import attrs

from taskorch.core.engine import (
    added_by,
    is_due,
    is_gone,
    row_of,
)
from taskorch.core.kernel import LOCAL
from taskorch.core.runs import _bulk
from taskorch.core.runs._manager import WorkflowManager
from taskorch.core.runs._reruns import is_restarted, is_undone, to_run_again
from taskorch.errors import UnknownTaskError
from taskorch.kit.checks import built_in, check_seconds
from taskorch.kit.limits import NS
from taskorch.kit.visible import counted
from taskorch.kit.words import in_words, some
from taskorch.model import TERMINAL, TaskFilter, TaskState
from taskorch.model.ids import name_of, stem_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from taskorch.core.runs._run import WorkflowRun
    from taskorch.core.runs._versions import Move


#: The most ids that a document names.
_SHOWN: Final = 50
#: The most steps that a sentence names.
_NAMED: Final = 10
#: Scheduled times that a preview of a backfill compares with the deployed definition,
#: the latest.
_COMPARED: Final = 20


@attrs.frozen
class Foreseen:
    """
    The preview of a verb.

    Attributes:
        task_ids: The tasks, or the runs, or what would be made, in their order.
        text: What would become of them, in a sentence or two.
        does_something: Whether there is anything to do.
        parameters: What a form asks for: `name`, what it `is`, whether it is `needed`,
            else its `value`.
    """

    task_ids: tuple[str, ...]
    text: str
    does_something: bool = True
    parameters: Sequence[Mapping[str, Any]] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the document for a service's answer, with the first of the ids."""
        return {
            "text": self.text,
            "tasks": [*self.task_ids[:_SHOWN]],
            "count": len(self.task_ids),
            "does_something": self.does_something,
            "parameters": [*self.parameters],
        }


def restarted(manager: WorkflowManager, run_id: str) -> list[str]:
    """
    Return the tasks that `manager.restart` would run again, parents first.

    Raises:
        UnknownTaskError: There is no such run.
    """
    run = manager.get(run_id)
    again = to_run_again(
        run, lambda at, work: is_restarted(at, work) or is_due(at, work)
    )
    return [*again.values()]


def many_tasks(ids: Collection[str], one: str, many: str) -> str:
    """Return the number of tasks with its verb, in the singular or the plural."""
    return f"{counted(len(ids), 'task')} {one if len(ids) == 1 else many}"


def restart_of_run(orch: Any, run_id: str, definition: str | None = None) -> Foreseen:
    """
    Return the preview of `orch.workflows.restart`.

    Raises:
        UnknownTaskError: There is no such run.
        InvalidTaskError: What is deployed is not known, or *definition* is none.
    """
    ids = restarted(orch.workflows, run_id)
    move = orch.workflows._reruns.move(run_id, definition)
    if move:
        due, run = move.due(is_undone), orch.workflows.get(run_id)
        ids = [*dict.fromkeys([*due.values(), *_not_of(run, move, due, ids)])]
        text = _over(move, ids) + _about_steps(orch, ids, move)
        return Foreseen(tuple(ids), text)
    if not ids:
        text = "Nothing of it failed or was cancelled."
        return Foreseen((), text, does_something=False)
    opened = {*open_of(orch.workflows.get(run_id))}.difference(ids)
    text = f"Runs {counted(len(ids), 'task')} again."
    if definition is None and orch.workflows._reruns.is_of_earlier(run_id):
        text += " As it was: nobody says here what it is today."
    if opened:
        text += f" {many_tasks(opened, 'that waited goes', 'that waited go')} on."
    text += _about_steps(orch, ids, move)
    return Foreseen(tuple(ids), text)


def cancel_of_run(orch: Any, run_id: str) -> Foreseen:
    """
    Return the preview of `orch.workflows.cancel`.

    Raises:
        UnknownTaskError: There is no such run.
    """
    ids = open_of(orch.workflows.get(run_id))
    if not ids:
        return Foreseen((), "All its tasks have ended.", does_something=False)
    return Foreseen(tuple(ids), f"Cancels {counted(len(ids), 'task')}.")


def cancel_of_task(orch: Any, task_id: str) -> Foreseen:
    """
    Return the preview of `orch.cancel_task`.

    Raises:
        UnknownTaskError: There is no such task.
    """
    status = orch.get_task_status(task_id)
    if status.state in TERMINAL:
        text = f"It has ended already: it is {status.state}."
        return Foreseen((), text, does_something=False)
    waiting = waiting_for(orch, task_id)
    text = f"Cancels {status.task_id}, which is {status.state}."
    if waiting:
        text += f" {many_tasks(waiting, 'waits', 'wait')} for it, and will lack it."
    return Foreseen((status.task_id,), text)


def _not_of(
    run: WorkflowRun, move: Move, due: Mapping[str, str], ids: Iterable[str]
) -> Iterator[str]:
    """Yield those of *ids* that stay in a run, and that no *due* task makes anew."""
    handles = {
        name: work for name, work in run.handles.items() if name not in move.gone
    }
    anew = move.anew(due)
    for each in ids:
        work = handles.get(name_of(each))
        if work is not None and name_of(added_by(work)) not in anew:
            yield each


def _over(move: Move, ids: Sequence[str]) -> str:
    """Return the sentence about a run that moves to today's definition."""
    text = f"Runs {counted(len(ids), 'task')} again"
    if move.new:
        text += f", and {len(move.new):,} for the first time"
    said_by = move.deployed.said_by
    return f"{text}, as deployed ({said_by}). Today's definition differs: {move}."


def _about_steps(orch: Any, ids: Iterable[str], move: Move | None) -> str:
    """Return a sentence about the kept steps of tasks that run again; "" if none."""
    if built_in("steps") is None:
        return ""
    keeping = [each for each in [*ids][:_COMPARED] if orch.steps.of(each)]
    if not keeping:
        return ""
    which = "work, whatever their code," if move is None else "work and code"
    text = f" Kept steps of {some(keeping)} are used if they are of the same {which}"
    return f"{text} and all are called anew from the first other one on."


def rerun_of_task(
    orch: Any,
    task_id: str,
    *,
    downstream: bool | None = None,
    definition: str | None = None,
) -> Foreseen:
    """
    Return the preview of `orch.rerun_task`.

    Raises:
        UnknownTaskError: There is no such task.
    """
    status = orch.get_task_status(task_id)
    if status.state not in TERMINAL:
        text = f"It has not ended: it is {status.state}."
        return Foreseen((), text, does_something=False)
    move = orch.workflows._reruns.move(
        orch.workflows._reruns.moved_with(task_id), definition
    )
    is_over = move is not None and name_of(status.task_id) in move.gone
    if is_over or (definition is None and is_gone(row_of(orch.handle(task_id)))):
        text = "It is not deployed any more: definition='as_it_was' runs it again."
        return Foreseen((), text, does_something=False)
    if move:
        ids = [*move.due(lambda work: work.task_id == status.task_id).values()]
        text = _over(move, ids) + _about_steps(orch, ids, move)
        return Foreseen(tuple(ids), text)
    ids = [status.task_id] if downstream is False else rerun(orch, task_id)
    text = f"Runs {counted(len(ids), 'task')} again."
    if len(ids) > 1:
        text += " The others had its earlier result."
    if downstream:
        text += " What depends on it elsewhere, of the tasks in memory, is run again."
    waiting = [i for i in waiting_for(orch, task_id) if i not in ids]
    if waiting:
        text += f" {many_tasks(waiting, 'waits', 'wait')} for what it comes to."
    text += _about_steps(orch, ids, move)
    return Foreseen(tuple(ids), text)


def decision(orch: Any, task_id: str) -> Foreseen:
    """
    Return the preview of `orch.decide`.

    Raises:
        UnknownTaskError: There is no such task.
    """
    status = orch.get_task_status(task_id)
    if status.state is not TaskState.BLOCKED:
        text = f"It is {status.state}: there is nothing to decide."
        return Foreseen((), text, does_something=False)
    waiting = waiting_for(orch, task_id)
    text = f"Decides on {task_id}; {many_tasks(waiting, 'waits', 'wait')} for it."
    return Foreseen((task_id, *waiting), text)


def answer_of_question(orch: Any, task_id: str) -> Foreseen:
    """
    Return the preview of `orch.answer`.

    Raises:
        UnknownTaskError: There is no such question.
    """
    for asked in (*orch.questions(), *orch.escalations()):
        if asked.id == task_id:
            waiting = asked.blocking_tasks
            text = f"Answers {task_id}; {many_tasks(waiting, 'waits', 'wait')} for it."
            return Foreseen((*asked.tasks, *waiting), text)
    text = f"No answer is waited for: it is {orch.get_task_status(task_id).state}."
    return Foreseen((), text, does_something=False)


def verdict_on_phase(orch: Any, run_id: str, gate: str) -> Foreseen:
    """
    Return the preview of `orch.workflows.approve` and `reject`.

    Raises:
        UnknownTaskError: There is no such run, or no such approval in it.
    """
    approvals = built_in("questions._approvals", "a verdict on a phase")
    work = approvals.approval(orch.workflows.get(run_id), gate)
    return answer_of_question(orch, work.task_id)


def change_of_tasks(
    orch: Any,
    action: str,
    ids: str = "*",
    type: str | None = None,  # noqa: A002 - as the verb has it
    state: TaskState | str | None = None,
    older_than: float | None = None,
) -> Foreseen:
    """Return the preview of `orch.change_tasks`."""
    task_ids = _bulk.touched(
        orch._rt,
        action,
        ids=ids,
        type=type,
        state=TaskFilter(state).state,
        older_than=older_than,
    )
    words = _ACTIONS[action].format(counted(len(task_ids), "task"))
    return Foreseen(tuple(task_ids), words, does_something=bool(task_ids))


_ACTIONS: Final[Mapping[str, str]] = {
    "cancel": "Cancels {}.",
    "suspend": "Suspends {}.",
    "resume": "Resumes {}.",
    "rerun": "Runs {} again.",
    "set_priority": "Moves {} in the queue.",
}


def expiry_of_tasks(orch: Any, older_than: float) -> Foreseen:
    """Return the preview of `orch.expire_tasks`."""
    rt = orch._rt
    rt.look_up()
    with rt.lock:
        limit = rt.now() - int(check_seconds("older_than", older_than) * NS)
        ids = [
            row.id
            for row in rt.kernel.tasks.values()
            if row.state is TaskState.QUEUED and row.ready_ns < limit
        ]
    text = f"Fails {counted(len(ids), 'task')}."
    return Foreseen(tuple(ids), text, does_something=bool(ids))


def clearing_of_memo(
    orch: Any,
    task: str | None = None,
    type: str | None = None,  # noqa: A002 - as the verb has it
) -> Foreseen:
    """Return the preview of `orch.memo.clear`."""
    rt = orch._rt
    rt.look_up()
    with rt.lock:
        many = len(rt.memo.keys(type, task))
    text = f"Forgets {counted(many, 'result')}."
    return Foreseen((), text, does_something=bool(many))


def forgetting_of_steps(orch: Any, task_id: str, at: str | None = None) -> Foreseen:
    """
    Return the preview of `orch.steps.forget`.

    Raises:
        UnknownTaskError: No task has this id.
    """
    steps = [each for each in orch.steps.of(task_id) if each.state != "running"]
    places = [n for n, each in enumerate(steps) if at in (None, each.key, each.name)]
    dropped = steps[places[0] :] if places else []
    text = f"Forgets {counted(len(dropped), 'step')} of {task_id}"
    if dropped:
        text += f", which the next attempt or run calls again: {_named_steps(dropped)}"
    return Foreseen((task_id,), f"{text}.", does_something=bool(dropped))


def fork_of_task(orch: Any, task_id: str, at: str) -> Foreseen:
    """
    Return the preview of `orch.steps.fork`.

    Raises:
        UnknownTaskError: No task has this id.
        StepError: It keeps no such step, or several of that name.
    """
    status = orch.get_task_status(task_id)
    if status.state not in TERMINAL:
        text = f"It has not ended: it is {status.state}."
        return Foreseen((), text, does_something=False)
    kept, anew = orch.steps.split(status.task_id, at=at)
    text = f"Runs {status.task_id} again from {anew[0].key}. Keeps "
    text += f"{_named_steps(kept)}. Calls anew {_named_steps(anew)}, and what follows."
    return Foreseen((status.task_id,), text)


def _named_steps(steps: Sequence[Any]) -> str:
    named = ", ".join(each.key for each in steps[:_NAMED])
    more = len(steps) - _NAMED
    return (f"{named} and {more} more" if more > 0 else named) or "no step"


def fork_of_tasks(
    orch: Any,
    at: str,
    ids: str = "*",
    type: str | None = None,  # noqa: A002 - as the verb has it
    state: TaskState | str | None = None,
) -> Foreseen:
    """Return the preview of `orch.steps.fork_many`."""
    task_ids = orch.steps.forkable(at, ids=ids, type=type, state=state)
    text = f"Runs {counted(len(task_ids), 'task')} again from the step {at}."
    return Foreseen(tuple(task_ids), text, does_something=bool(task_ids))


def end_of_worker(orch: Any, agent_id: str, grace: float = 30.0) -> Foreseen:
    """
    Return the preview of `orch.agents.terminate`.

    Raises:
        UnknownAgentError: There is none of this id.
    """
    ids = orch.agents.get(agent_id).tasks
    if agent_id == LOCAL:
        return Foreseen((), "It is built in, and stays.", does_something=False)
    text = f"Ends {agent_id}, which gets no new work."
    if ids:
        runs = many_tasks(ids, "that it runs has", "that it runs have")
        text += f" {runs} {in_words(grace)} to end; then they begin anew elsewhere."
    return Foreseen(ids, text)


def pruning(
    orch: Any,
    schedule: str = "",
    older_than: float | None = None,
    keep_latest: int | None = None,
) -> Foreseen:
    """Return the preview of `orch.prune`."""
    pruned = orch.prune(
        schedule=schedule,
        older_than=older_than,
        keep_latest=keep_latest,
        dry_run=True,
    )
    return Foreseen((), f"{pruned}", does_something=bool(pruned.tasks))


# -- schedules -------------------------------------------------------------------------


def trigger_of_schedule(orch: Any, name: str) -> Foreseen:
    """
    Return the preview of `orch.schedules.trigger`.

    Raises:
        UnknownTaskError: There is no such schedule.
    """
    status = orch.schedules.status(name)
    text = f"Starts {status.makes} once, now, besides its times."
    if status.running:
        text += f" {', '.join(status.running[:3])} has not ended, and goes on."
    return Foreseen((), text, parameters=orch.schedules._parameters(name))


def backfill_of_schedule(
    orch: Any,
    name: str,
    since: str,
    until: str,
    *,
    again: bool = False,
    definition: str | None = None,
) -> Foreseen:
    """
    Return the preview of `orch.schedules.backfill`.

    Raises:
        UnknownTaskError: There is no such schedule.
    """
    ids, existing = orch.schedules._foreseen(name, since, until)
    new = [each for each in ids if again or each not in existing]
    text = f"Makes {len(new):,} of {counted(len(ids), 'tick')}."
    if existing:
        verb = "has" if len(existing) == 1 else "have"
        fate = "are made again" if again else "stay as they are"
        text += f" {len(existing):,} {verb} been made already, and {fate}."
    if existing and again:
        text += _differences_of(orch, existing, definition)
    return Foreseen(tuple(new), text, does_something=bool(new))


def _differences_of(orch: Any, made: Iterable[str], definition: str | None) -> str:
    """Return the differences of today's definition from those of runs, as sentences."""
    different: dict[str, list[str]] = {}
    move: Move | None = None
    latest = sorted(made)[-_COMPARED:]
    for each in latest:
        move = orch.workflows._reruns.move(each, definition)
        if move:
            different.setdefault(str(move), []).append(each)
    steps = _about_steps(orch, _tasks_of(orch, latest[-1]), move)
    if definition == "as_it_was":
        return f" They keep their own graph, arguments and options.{steps}"
    if not different:
        return steps
    sentences = [
        f" For {each[-1]}"
        + f" and {len(each) - 1} more" * (len(each) > 1)
        + f": {text}."
        for text, each in different.items()
    ]
    return f" Today's definition differs, and is taken.{''.join(sentences)}{steps}"


def _tasks_of(orch: Any, made_id: str) -> list[str]:
    """Return the ids of the tasks of a run, or that of the task itself."""
    with suppress(UnknownTaskError):
        return [each.task_id for each in orch.workflows.get(made_id).handles.values()]
    return [made_id]


def cancel_of_backfill(
    orch: Any, backfill_id: str, *, running: bool = False
) -> Foreseen:
    """
    Return the preview of `orch.schedules.cancel_backfill`.

    Raises:
        UnknownTaskError: There is no such backfill.
    """
    status = orch.schedules.backfill_status(backfill_id)
    if not (status.left or (running and status.running)):
        text = f"It is {status.state}, and nothing is to come."
        return Foreseen((), text, does_something=False)
    text = f"Leaves out {counted(status.left, 'tick')}, which then never run."
    if status.running:
        fate = "are cancelled" if running else "go on"
        text += f" {len(status.running):,} that run {fate}."
    return Foreseen((), text)


def removal_of_schedule(orch: Any, name: str) -> Foreseen:
    """
    Return the preview of `orch.schedules.remove`.

    Raises:
        UnknownTaskError: There is no such schedule.
    """
    running = orch.schedules.status(name).running
    text = "Removes the schedule: nothing comes of it any more."
    if running:
        text += f" What it has made goes on: {', '.join(running[:3])}."
    return Foreseen((), text)


# -- how that is found -----------------------------------------------------------------


def rerun(orch: Any, task_id: str) -> list[str]:
    """
    Return the tasks that `orch.rerun_task` would run again now, itself first.

    Raises:
        UnknownTaskError: There is no such task.
    """
    work = orch.handle(task_id)
    if not row_of(work).run:
        return [work.task_id]
    stem = stem_of(work.task_id)
    run = orch.workflows.get(row_of(work).run)
    again = to_run_again(run, lambda _, each: stem_of(row_of(each).id) == stem)
    return [*again.values()]


def open_of(run: WorkflowRun) -> list[str]:
    """Return the tasks of a run that have not ended."""
    return [
        work.task_id
        for work in run.handles.values()
        if row_of(work).state not in TERMINAL
    ]


def waiting_for(orch: Any, task_id: str) -> list[str]:
    """Return the tasks in memory that wait for a task, however indirectly."""
    rt = orch._rt
    with rt.lock:
        row = rt.kernel.tasks.get(rt.directory.reruns.latest(task_id))
        ids: dict[str, None] = {}
        todo = [] if row is None else [row]
        while todo:
            links = todo.pop().links
            for each in () if links is None else links.dependents:
                if each.state not in TERMINAL and each.id not in ids:
                    ids[each.id] = None
                    todo.append(each)
    return [*ids]
