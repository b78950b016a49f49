"""
Why a run, or the work of a schedule, is as it is: the few tasks that explain it.

The answer is the same for a journal, a service and an orchestrator. A place has `tasks`
and `explain`, and may have `schedule`. Remedies are calls, which a front end puts in
its own words.

Decision: language-models.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from glob import escape
from itertools import islice
from typing import Any, Final

from taskorch.errors import UnknownTaskError
from taskorch.kit.checks import built_in
from taskorch.kit.plain import is_left_behind
from taskorch.kit.words import some
from taskorch.model import MadeFor, TaskFilter, TaskState, TaskStatus

#: Tasks of a run, or of a schedule, that are explained, and that are searched for them.
_FEW: Final = 5
_LOOKED_AT: Final = 50


def explain_whole(place: Any, name: str) -> dict[str, Any] | None:
    """
    Explain a schedule or a run, with `text` in words.

    Args:
        place: The orchestrator, service or reader that knows its tasks.
        name: The schedule or the run. Tasks of a schedule are named as those of a run
            are, so a schedule comes first.

    Returns:
        None: there is no such schedule, and no such run.
    """
    return _of_schedule(place, name) or _of_run(place, name)


def _latest_tasks(place: Any, run_id: str) -> Iterator[TaskStatus]:
    """Yield the tasks that a run has; of one that was run again, the latest run."""
    statuses = place.tasks(TaskFilter(id=f"{escape(run_id)}/*"))
    return (each for each in statuses if not is_left_behind(each))


def waited_for(explanation: Any) -> str | None:
    """Return the first of the tasks that keep another from starting."""
    document = explanation.to_dict()
    blockers = [*document.get("blockers", ()), *document.get("then", ())]
    names = [each.get("name") for each in blockers if each["kind"] == "dependency"]
    return next(filter(None, names), None)


def _of_run(place: Any, name: str) -> dict[str, Any] | None:
    counts: Counter[str] = Counter()
    failed: deque[str] = deque(maxlen=_FEW)
    waiting: list[str] = []
    for status in _latest_tasks(place, name):
        counts[status.state.value] += 1
        if status.state is TaskState.FAILED:
            failed.append(status.task_id)
        elif not status.state.is_terminal and len(waiting) < _LOOKED_AT:
            waiting.append(status.task_id)
    if not counts:
        return None
    many = some([f"{count:,} {state}" for state, count in counts.items()])
    # Of the tasks that wait, only those at the beginning explain the others.
    causes = [*failed, *_roots(place, waiting)][:_FEW]
    texts = [f"Of the tasks of the run {name}, {many}.", *_explained(place, causes)]
    return {"text": "\n\n".join(texts), "run": name, "counts": dict(counts)}


def _of_schedule(place: Any, name: str) -> dict[str, Any] | None:
    if not hasattr(place, "schedule") or built_in("schedules") is None:
        return None
    try:
        schedule = place.schedule(name)
    except UnknownTaskError:
        return None
    broken = TaskFilter("failed", mended=False, metadata={MadeFor.SCHEDULE: name})
    failed = deque((each.task_id for each in place.tasks(broken)), maxlen=_FEW)
    live: list[str] = []
    for made_id in schedule["running"]:
        live += [made_id, *_live(place, made_id)]
    causes = [*failed, *_roots(place, live)][:_FEW]
    texts = [schedule["text"], *_explained(place, causes)]
    return {"text": "\n\n".join(texts), "schedule": name}


def _roots(place: Any, names: list[str]) -> list[str]:
    """Return the tasks that wait for no other task; if there is none, the first."""
    roots: list[str] = []
    for name in names:
        if len(roots) == _FEW:
            break
        with suppress(UnknownTaskError):
            if waited_for(place.explain(name)) is None:
                roots.append(name)
    return roots or names[:1]


def _explained(place: Any, names: Iterable[str]) -> list[str]:
    texts = []
    for name in names:
        with suppress(UnknownTaskError):
            texts.append(str(place.explain(name)))
    return texts


def _live(place: Any, run: str) -> list[str]:
    """Return the first tasks of a run that have not ended."""
    statuses = _latest_tasks(place, run)
    live = (each.task_id for each in statuses if not each.state.is_terminal)
    return [*islice(live, _LOOKED_AT)]
