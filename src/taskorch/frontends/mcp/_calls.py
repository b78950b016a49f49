"""What each tool does: of a place, the arguments, which were checked, and who asks."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from itertools import islice
from time import monotonic
from typing import Any, Final

import attrs

from taskorch._base._remedies import all_in_tools
from taskorch.errors import AnswerRefusedError, InvalidTaskError, UnknownTaskError
from taskorch.model import FILTERS, TaskFilter, TaskState
from taskorch.model._explanation import some
from taskorch.model._plain import plain, taken_apart

#: Tasks that `find` lists, and the most that it does.
ROWS: Final = 20
MOST_ROWS: Final = 200
#: Seconds that `wait` waits, and the most that it does.
SECONDS: Final = 20.0
MOST_SECONDS: Final = 60.0
#: Characters of one value of a task in an answer; a longer one is cut, and it says so.
MOST_SHOWN: Final = 20_000
#: Of a value in a list of tasks.
_MOST_IN_ROWS: Final = 300
#: What a list has of each task: what it came to is for `status`.
_ROW: Final = (
    *("task_id", "type", "state", "agent_id", "owner", "attempts", "priority"),
    *("submitted", "started", "ended", "error", "mended_by"),
)
#: Seconds between two looks: at first, and at the most.
_SOON: Final = 0.02
_PAUSE: Final = 1.0


@attrs.frozen
class Caller:
    """
    Who uses a tool.

    Attributes:
        by: The name under which what is done is done.
        person: The name of the person at the client, who can be asked there; None:
            nobody can be asked.
        is_person: Whether what is done is what that person has said.
        gone: Is set if nobody waits for the answer any more.
    """

    by: str
    person: str | None = None
    is_person: bool = False
    gone: threading.Event = attrs.field(factory=threading.Event, repr=False, eq=False)


@attrs.frozen
class Form:
    """
    What a person is asked before a tool goes on.

    Attributes:
        person: Who is asked.
        text: The question, in words.
        fields: Of the form, as JSON Schema has it; those that come back are arguments.
        state: What is asked, and when: what comes back must be about the same.
    """

    person: str
    text: str
    fields: Mapping[str, Any]
    state: str


# -- asking ------------------------------------------------------------------------


def find(place: Any, values: Mapping[str, Any], _: Caller) -> dict[str, Any]:
    """The tasks that pass the filter."""
    conditions: Any = {name: values[name] for name in FILTERS if name in values}
    limit = values.get("limit", ROWS)
    statuses = [*islice(place.tasks(TaskFilter(**conditions)), limit + 1)]
    rows = [status.to_dict() for status in statuses[:limit]]
    # The bare id of an earlier run means the latest.
    brief = [
        {**{name: row[name] for name in _ROW}, "task_id": row["run_id"]} for row in rows
    ]
    return {
        "tasks": [_shortened(row, _MOST_IN_ROWS) for row in brief],
        "more": len(statuses) > limit,
    }


def status(place: Any, values: Mapping[str, Any], _: Caller) -> dict[str, Any]:
    """The state of a task."""
    return _shortened(place.get_task_status(values["task"]).to_dict(), MOST_SHOWN)


def why(place: Any, values: Mapping[str, Any], _: Caller) -> dict[str, Any]:
    """Why a task is as it is; or all that is wrong."""
    if "task" in values:
        explanation = place.explain(values["task"])
        return _in_words(explanation)
    groups = [_in_words(group) for group in place.stuck()]
    failures = [_document(each) for each in place.failures()]
    texts = [str(group["text"]) for group in groups] or ["Nothing is stuck."]
    if failures:
        texts.append(f"What failed and was not mended: {_causes(failures)}.")
    return {
        "text": "\n\n".join(texts),
        "stuck": groups,
        "failures": [_shortened(each, MOST_SHOWN) for each in failures],
    }


def _causes(failures: list[dict[str, Any]]) -> str:
    return some(
        [
            f"{each['error_type']}: {each['message']} ({each['count']})"
            for each in failures
        ]
    )


def wait(place: Any, values: Mapping[str, Any], caller: Caller) -> dict[str, Any]:
    """Wait until a task has ended, or the time is over, or nobody wants to know."""
    task = values["task"]
    end = monotonic() + values.get("seconds", SECONDS)
    pause = _SOON
    while True:
        now = place.get_task_status(task)
        rest = end - monotonic()
        if now.is_terminal or rest <= 0:
            break
        if caller.gone.wait(min(pause, rest)):
            break
        pause = min(pause * 2, _PAUSE)
    document = _shortened(now.to_dict(), MOST_SHOWN)
    try:
        text = all_in_tools(str(place.explain(task)))
    except UnknownTaskError:
        # It has ended, and left memory; what became of it stands beside this.
        text = f"{task} is {now.state.value}."
    return {**document, "ended": now.is_terminal, "text": text}


def questions(place: Any, _: Mapping[str, Any], __: Caller) -> dict[str, Any]:
    """The open questions."""
    documents = [_document(each) for each in place.questions()]
    return {"questions": [_shortened(each, MOST_SHOWN) for each in documents]}


def schedules(place: Any, values: Mapping[str, Any], _: Caller) -> dict[str, Any]:
    """All schedules, or one with the times that come."""
    if "name" in values:
        return {"schedules": [place.schedule(values["name"])]}
    return {"schedules": place.schedules()}


def plan(place: Any, values: Mapping[str, Any], _: Caller) -> dict[str, Any]:
    """The plan of a request."""
    return {"plan": place.plan(values["request"])}


def doctor(place: Any, _: Mapping[str, Any], __: Caller) -> dict[str, Any]:
    """How the whole is, as far as the place knows."""
    answer = {"statistics": _document(place.get_stats())}
    if hasattr(place, "health"):
        answer["health"] = all_in_tools(_document(place.health()))
    if hasattr(place, "owner"):
        answer["owner"] = _document(place.owner)
    return answer


# -- changing ----------------------------------------------------------------------


def submit(place: Any, values: Mapping[str, Any], _: Caller) -> dict[str, Any]:
    """Submit tasks or a workflow; or say what would come of it."""
    if ("tasks" in values) == ("workflow" in values):
        msg = "submit: tasks, or a workflow, is needed, and not both"
        raise InvalidTaskError(msg, hint='submit {"tasks": [{"type": "build"}]}')
    misplaced = ["id"] if "tasks" in values else []
    misplaced += [] if values.get("dry_run") else ["durations"]
    for name in misplaced:
        if name in values:
            msg = f"submit: {name} is for a {'workflow' if name == 'id' else 'dry run'}"
            raise InvalidTaskError(msg, hint="leave it out")
    if values.get("dry_run"):
        return _simulated(place, values)
    key = values.get("key")
    if "tasks" in values:
        ids = place.submit_documents(values["tasks"], key=key)
        return {"ids": ids, "run": None, "text": f"Submitted: {some(ids)}."}
    run = place.start_workflow(values["workflow"], values.get("id"), key=key)
    return {"ids": [], "run": run, "text": f"The run {run} has begun."}


def _simulated(place: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    if not hasattr(place, "simulate"):
        msg = "submit: a service does not simulate"
        raise InvalidTaskError(msg, hint="leave dry_run out, or ask where the file is")
    work = {name: values[name] for name in ("tasks", "workflow") if name in values}
    report = place.simulate(work, values.get("durations"))
    return {
        "ids": [],
        "run": None,
        "text": all_in_tools(str(report)),
        "seconds": plain(report.makespan),
        "p50": plain(report.p50),
        "p90": plain(report.p90),
        "failed": plain(report.failed),
        "never": plain(report.never),
        "assumed": plain(report.assumed),
    }


def form(place: Any, values: Mapping[str, Any], caller: Caller) -> Form | None:
    """What the person at the client is asked, if the choice is to be theirs."""
    person, name = caller.person, values["question"]
    if "choice" in values or person is None:
        return None
    asked = _open(place, name)
    if asked is None:
        # What is not open, the place refuses in its own words.
        return None
    if person not in (asked["who"] or [person]) or person in asked["not_by"]:
        msg = f"question {name} is not for {person}"
        raise AnswerRefusedError(msg, hint="tell a person that it waits", task_id=name)
    details = asked["details"]
    more = "" if details in (None, {}) else f"\n\n{json.dumps(details)}"[:MOST_SHOWN]
    fields: dict[str, Any] = {
        "choice": {"type": "string", "enum": [*asked["options"]]},
        "note": {"type": "string", "description": "Is kept with the answer."},
    }
    state = json.dumps([asked["id"], asked["asked_at"]])
    return Form(person, f"{asked['text']}{more}", fields, state)


def _open(place: Any, name: str) -> dict[str, Any] | None:
    documents = (_document(each) for each in place.questions())
    return next((each for each in documents if each["id"] == name), None)


def answer(place: Any, values: Mapping[str, Any], caller: Caller) -> dict[str, Any]:
    """Answer a question that is for the caller by name, or as a person has said."""
    name = values["question"]
    asked = None if caller.is_person else _open(place, name)
    if asked is not None and caller.by not in (asked["who"] or ()):
        # Where anybody may answer, any person is meant.
        msg = f"question {name} is for people: its `who` does not name {caller.by}"
        hint = "tell a person that it waits; they answer where they are asked"
        raise AnswerRefusedError(msg, hint=hint, task_id=name)
    if "choice" not in values:
        msg = "answer: a choice is needed, and nobody can be asked for it here"
        raise InvalidTaskError(msg, hint="tell a person that it waits")
    decided = place.answer(
        name, values["choice"], by=caller.by, note=values.get("note", "")
    )
    return {"decided": decided}


def cancel(place: Any, values: Mapping[str, Any], caller: Caller) -> dict[str, Any]:
    """Cancel a task."""
    changed = place.cancel_task(
        values["task"], reason=f"cancelled over MCP by {caller.by}"
    )
    return {"changed": changed, "state": _state(place, values["task"])}


def _state(place: Any, task: str) -> str:
    try:
        return str(TaskState(place.get_task_status(task).state).value)
    except UnknownTaskError:
        # It has left memory by now.
        return "ended"


def rerun(place: Any, values: Mapping[str, Any], _: Caller) -> dict[str, Any]:
    """Run a task again."""
    downstream = values.get("downstream")
    handle = place.rerun_task(values["task"], downstream=downstream)
    return {"task_id": handle.task_id}


def hold(place: Any, values: Mapping[str, Any], caller: Caller) -> dict[str, Any]:
    """Suspend a task, or hold what would start."""
    if "task" in values:
        for name in ("reason", "most"):
            if name in values:
                msg = f"hold: {name} is for a hold of all, and not of one task"
                raise InvalidTaskError(msg, hint="leave it out")
        return {"changed": place.suspend_task(values["task"])}
    if "reason" not in values:
        msg = "hold: a reason is needed where nothing is to start"
        raise InvalidTaskError(msg, hint='hold {"reason": "the disk is full"}')
    place.hold_starts(values["reason"], by=caller.by, most=values.get("most", 0))
    return {"changed": True}


def release(place: Any, values: Mapping[str, Any], caller: Caller) -> dict[str, Any]:
    """Resume a task, or let tasks start again."""
    if "task" in values:
        return {"changed": place.resume_task(values["task"])}
    return {"changed": place.release_starts(values.get("by", caller.by))}


def reprioritise(place: Any, values: Mapping[str, Any], _: Caller) -> dict[str, Any]:
    """Move a task in the queue."""
    return {"changed": place.set_priority(values["task"], values["priority"])}


# -- documents ---------------------------------------------------------------------


def _document(value: Any) -> dict[str, Any]:
    """*value* as JSON has it."""
    if not isinstance(value, Mapping) and hasattr(value, "to_dict"):
        value = value.to_dict()
    document: dict[str, Any] = plain(taken_apart(value))
    return document


def _in_words(value: Any) -> dict[str, Any]:
    """What explains, as JSON has it, with `text` in words, and tools as remedies."""
    document = plain(taken_apart(value.to_dict()))
    # The words come first: that is what is read.
    words: dict[str, Any] = all_in_tools({"text": str(value), **document})
    return words


def _shortened(document: dict[str, Any], most: int) -> dict[str, Any]:
    """
    *document* with texts in the place of values that are too long.

    Each says how much of it is there: nobody takes it for the whole.
    """
    short = dict(document)
    for name, value in document.items():
        if isinstance(value, str):
            text = value
        elif isinstance(value, dict | list):
            text = json.dumps(value)
        else:
            continue
        if len(text) > most:
            short[name] = f"{text[:most]}… (cut: {len(text):,} characters in all)"
    return short
