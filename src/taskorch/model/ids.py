"""
The form of ids, and all functions that compose and parse them.

An id becomes part of file names, so it is a safe path: segments joined by "/". That of
a task of a run of a workflow is `RUN/NAME`: RUN is one segment, NAME is its id in the
workflow, of one or more (`build`, `PHASE/gate`, `INCLUDED/build`, `ADDER/ADDED`). Every
run of a task but the first has a number, from 2 on, at the end: `RUN/NAME~2`. A task on
its own may have an id with "/" as well, so the id alone does not tell whether there is
such a run.

Ids that the orchestrator makes itself, and that users may not give:

- `RUN/NAME`, of an existing run; with a number, `~2`, which is no safe id;
- `SCHEDULE/TICK` and `SCHEDULE-TICK`, of an existing schedule;
- `waiver/NUMBER`, `escalation/TASK`, `budget-NAME/NUMBER`, of questions to people;
- `PREFIX-NUMBER`, of all other tasks, with the prefix of this incarnation.

A program may give its own tasks any ids: if one of these is taken, the next number is
used.

Decision: documents.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Final

from taskorch.errors import InvalidTaskError
from taskorch.kit.limits import MAX_ID_LENGTH
from taskorch.kit.visible import is_text, show

__all__ = (
    "PHASE_LIMIT",
    "asked_form",
    "beginnings_of_ticks",
    "budget_question_id",
    "check_id",
    "check_name",
    "escalation_id",
    "first_of",
    "folder_of",
    "folders_of",
    "has_number",
    "has_segments",
    "id_of_waiver",
    "id_problem",
    "ids_in_run",
    "in_run",
    "is_below",
    "joined",
    "last_of",
    "made_id",
    "makers_of",
    "name_of",
    "names_in_run",
    "next_id",
    "number_of",
    "numbered",
    "run_by",
    "run_id_of",
    "run_of",
    "segments_of",
    "split_first",
    "split_last",
    "stem_of",
    "tail_of",
    "task_of_escalation",
    "without_last",
    "without_run",
)

# One segment: no leading dot or dash (hidden files, options), no trailing dot.
_SEGMENT: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9._\-]*[A-Za-z0-9_\-])?"
_ID: Final = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT})*")

#: The name of a pool that limits a phase of a run, with how many run at once.
PHASE_LIMIT: Final = re.compile(r"[^/:]+/(?P<phase>[^:]+):[1-9][0-9]*")
#: The beginning of ids of escalations, before the id of the first task.
_ESCALATION: Final = "escalation/"

#: The forms of ids of questions to people, each with its subject.
_ASKED: Final = (
    (r"escalation/.+", "escalations"),
    (r"waiver/.+", "waivers"),
    (r"budget-[^/]+/\d[^/]*", "questions about budgets"),
)

_SLASH: Final = "/"
_TILDE: Final = "~"
_FIRST: Final = "1"
# The form of a tick in ids: see `tick_name`.
_TICK: Final = r"\d{4}-\d\d-\d\dT\d{4}(?:\d\d(?:\.\d{6})?)?Z"
_MADE_RUN: Final = rf"(.+)-({_TICK})"


# -- the form of ids -------------------------------------------------------------------


def id_problem(value: object) -> str | None:
    """Return why *value* is no valid id, or None."""
    if type(value) is not str and not is_text(value):
        return f"an id is a str, not {type(value).__name__}"
    if len(value) > MAX_ID_LENGTH:
        return f"an id has at most {MAX_ID_LENGTH} characters, this has {len(value)}"
    if _ID.fullmatch(value) is None:
        return (
            f"{value!r} is no safe id: use segments of letters, digits, '.', '_' and "
            "'-', joined by '/', none beginning with '.' or '-' or ending with '.'"
        )
    return None


def check_id(value: str) -> str:
    """
    Return *value* if it is a safe id.

    Raises:
        InvalidTaskError: It is not; the message describes safe ids.
    """
    problem = id_problem(value)
    if problem is not None:
        raise InvalidTaskError(problem)
    return value


def check_name(subject: str, name: object) -> str:
    """
    Return *name* if it can be the name or the id of a workflow: one segment of an id.

    Raises:
        InvalidTaskError: It cannot.
    """
    problem = id_problem(name)
    if problem is None and isinstance(name, str) and not has_segments(name):
        return name
    msg = f"{subject}: {problem or f'{show(name)} has a slash'}"
    hint = "one word: the ids of its tasks are this, a slash and the id of the task"
    raise InvalidTaskError(msg, hint=hint)


def check_task_id(name: object) -> str:
    """
    Return *name* if it is a safe id.

    Raises:
        InvalidTaskError: It is not.
    """
    problem = id_problem(name)
    if problem is not None or not isinstance(name, str):
        msg = f"id: {problem}"
        raise InvalidTaskError(msg)
    return name


def escalation_id(task_id: str, number: int = 0) -> str:
    """Return the id of the escalation of a task, for one time that people are asked."""
    return f"{_ESCALATION}{task_id}" + (f"@{number}" if number else "")


def task_of_escalation(name: str) -> tuple[str, int]:
    """Return the task and the number in an escalation id, or ("", 0)."""
    if not name.startswith(_ESCALATION):
        return "", 0
    task_id, at, number = name.removeprefix(_ESCALATION).partition("@")
    return task_id, int(number) if number.isdecimal() else int(not at)


def id_of_waiver(number: str = "") -> str:
    """Return the id of the question for a waiver, or the prefix of all of them."""
    return f"waiver/{number}"


def budget_question_id(budget: str, number: int, again: int = 0) -> str:
    """
    Return the id of a question about a budget.

    Args:
        budget: The name of the budget.
        number: How often people were asked about it, including this time.
        again: How many of its ids other tasks have taken.
    """
    return f"budget-{budget}/{number}" + (f"-{again + 1}" if again else "")


def asked_form(name: str) -> str:
    """Return the subject that ids like *name* ask people about, or ""."""
    return next((of for form, of in _ASKED if re.fullmatch(form, name)), "")


def file_name(task_id: str) -> str:
    """
    Return the name for an id that is safe for files, folders and git branches.

    No two ids have the same name, even if case does not count: the name is in lower
    case, and a number at its end has a bit for each upper-case letter.
    """
    great = sum(1 << place for place, c in enumerate(task_id) if c.isupper())
    # A plus and an equals sign are in no id, and mean nothing to git.
    name = task_id.lower().replace("/", "+").replace(".", "=").replace("~", "@")
    return f"{name},{great:x}" if great else name


def folders_of(task_id: str) -> list[str]:
    """
    Return the nested folder names that stand for an id.

    The folder of `a` may contain a file `1.log`: no other id has a folder of that name.
    """
    return [
        file_name(part) if part.endswith(".log") or part != part.lower() else part
        for part in segments_of(task_id)
    ]


# -- segments --------------------------------------------------------------------------


def joined(*parts: str) -> str:
    """Return a path of these parts, such as `PHASE/gate`."""
    return _SLASH.join(parts)


def segments_of(path: str) -> list[str]:
    """Return the segments of a path, the inverse of `joined`."""
    return path.split(_SLASH)


def has_segments(path: str) -> bool:
    """Return whether a path has more than one segment."""
    return _SLASH in path


def first_of(path: str) -> str:
    """Return the first segment of a path."""
    return path.partition(_SLASH)[0]


def folder_of(path: str) -> str:
    """Return the first segment of a path that has more than one, or ""."""
    first, slash, _ = path.partition(_SLASH)
    return first if slash else ""


def last_of(path: str) -> str:
    """Return the last segment of a path."""
    return path.rpartition(_SLASH)[2]


def without_last(path: str) -> str:
    """Return a path without its last segment; "" if it has only one."""
    return path.rpartition(_SLASH)[0]


def split_first(path: str) -> tuple[str, str]:
    """Return the first segment of a path, and the rest, or ""."""
    first, _, rest = path.partition(_SLASH)
    return first, rest


def split_last(path: str) -> tuple[str, str]:
    """Return the segments of a path before the last, or "", and the last."""
    before, _, last = path.rpartition(_SLASH)
    return before, last


def is_below(path: str, top: str) -> bool:
    """Return whether a path begins with the segments of *top*, and has more."""
    return path.startswith(f"{top}{_SLASH}")


# -- runs of workflows -----------------------------------------------------------------


def in_run(run_id: str, name: str = "") -> str:
    """Return the id of a task of a run from its workflow id; "" for the prefix."""
    return f"{run_id}{_SLASH}{name}"


def ids_in_run(run_id: str, names: Iterable[str]) -> list[str]:
    """Return the ids of tasks of a run, from their ids in the workflow."""
    return [f"{run_id}{_SLASH}{name}" for name in names]


def run_of(task_id: str) -> str:
    """Return the id of the run in a task's id, or "" if it has none."""
    return folder_of(task_id)


def run_by(task_id: str, run: str | None) -> str:
    """Return the run of a task whose `TaskSubmitted` has *run*, or ""."""
    return folder_of(task_id) if run is None else run


def run_beside(task_id: str, run: str) -> str | None:
    """Return the run that a `TaskSubmitted` must name, or None if the id has it."""
    if not run and _SLASH not in task_id:
        return None
    return None if run == folder_of(task_id) else run


def names_in_run(run_id: str, task_ids: Iterable[str]) -> list[str]:
    """Return the workflow ids of those *task_ids* that are of a run, each once."""
    names = (name_of(task_id) for task_id in task_ids if run_of(task_id) == run_id)
    return list(dict.fromkeys(names))


def without_run(task_id: str) -> str:
    """Return the part of an id after the run, with the number; "" without a run."""
    return task_id.partition(_SLASH)[2]


def name_of(task_id: str) -> str:
    """Return the id in the workflow of a task of a run, for any run of the task."""
    return stem_of(without_run(task_id))


# -- ids of schedules ------------------------------------------------------------------


def made_id(schedule: str, slot: str, *, is_run: bool) -> str:
    """Return the id of the run or task that a schedule makes for a tick."""
    return f"{schedule}-{slot}" if is_run else joined(schedule, slot)


def beginnings_of_ticks(schedule: str, now: datetime) -> Iterator[tuple[str, str]]:
    """
    Yield how the ids of a schedule begin in the latest months and years.

    These are the month of *now*, the month before, this year and the year before. The
    first of each pair is the beginning of ids of tasks, and the other one of runs.
    """
    before = now.replace(day=1) - timedelta(days=1)
    months = f"{now:%Y-%m-}", f"{before:%Y-%m-}"
    for tick in (*months, f"{now.year}-", f"{now.year - 1}-"):
        of_tasks = made_id(schedule, tick, is_run=False)
        yield of_tasks, made_id(schedule, tick, is_run=True)


def makers_of(task_id: str) -> list[tuple[str, str, str]]:
    """
    Return the schedules that may have made a task or its run.

    The id alone does not tell whether such a schedule exists.

    Returns:
        At most two, each with its name, the name of the tick, and the id of the run or
        task that it made.
    """
    task = stem_of(task_id)
    run_id, name = split_first(task)
    makers = [(run_id, name, task)] if re.fullmatch(_TICK, name) else []
    of_run = re.fullmatch(_MADE_RUN, run_id) if has_segments(task) else None
    return makers if of_run is None else [*makers, (of_run[1], of_run[2], run_id)]


# -- runs of a task --------------------------------------------------------------------


def stem_of(task_id: str) -> str:
    """Return the id that the task was given at first, without the number of its run."""
    return task_id.partition(_TILDE)[0]


def number_of(task_id: str) -> int:
    """Return the number of the run in *task_id*, from 1."""
    return int(task_id.partition(_TILDE)[2] or _FIRST)


def has_number(task_id: str) -> bool:
    """Return whether *task_id* names one run of its task by number."""
    return _TILDE in task_id


def tail_of(task_id: str) -> str:
    """Return the number in *task_id* with its sign, as `~2`, or ""."""
    _, tilde, number = task_id.partition(_TILDE)
    return tilde + number


def numbered(stem: str, number: int | str = "") -> str:
    """Return the id of one run of a task, `x~2`; without a number, the prefix."""
    return f"{stem}{_TILDE}{number}"


def run_id_of(task_id: str) -> str:
    """Return the id of the run that a numbered id means: `x` for `x~1`."""
    stem, _, number = task_id.partition(_TILDE)
    return stem if number == _FIRST else task_id


def next_id(task_id: str) -> str:
    """Return the id of the run after this one."""
    return numbered(stem_of(task_id), number_of(task_id) + 1)


def earlier_ids(task_id: str) -> list[str]:
    """Return the ids of the runs before this one."""
    stem, number = stem_of(task_id), number_of(task_id)
    return [stem, *(numbered(stem, n) for n in range(2, number))][: number - 1]
