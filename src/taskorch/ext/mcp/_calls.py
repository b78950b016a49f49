"""
The work of each tool, given a place, the checked arguments, and the caller.

Decision: language-models.
"""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from glob import escape
from time import monotonic
from typing import Any, Final

import attrs

from taskorch.api.verbs.remedies import all_in_tools, in_tools
from taskorch.errors import AnswerRefusedError, InvalidTaskError, UnknownTaskError
from taskorch.events import Event, fields_of, signal_name
from taskorch.ext.views._why import explain_whole, waited_for
from taskorch.kit.backoff import Backoff
from taskorch.kit.checks import built_in
from taskorch.kit.people import is_among
from taskorch.kit.plain import is_left_behind, plain, taken_apart
from taskorch.kit.verbs import Verb
from taskorch.kit.visible import visible
from taskorch.kit.words import NOBODY_GOES_ON, in_a_line, some
from taskorch.model import TaskFilter, TaskState
from taskorch.model.ids import stem_of, task_of_escalation

#: The default number of tasks in an answer of `find`, and the largest.
ROWS: Final = 20
MOST_ROWS: Final = 200
#: The default seconds of `wait`, and the most.
SECONDS: Final = 20.0
MOST_SECONDS: Final = 60.0
#: The number of characters of a value in an answer; a longer one is cut, with a note.
MOST_SHOWN: Final = 20_000
#: The same for a value in a list of tasks.
_MOST_IN_ROWS: Final = 300
#: The fields of a task in a list; `status` has the result.
_ROW: Final = (
    *("task_id", "type", "state", "agent_id", "owner", "attempts", "priority"),
    *("submitted", "started", "ended", "error", "mended_by"),
)
#: Waiting tasks in a row are followed so far to the first cause.
_DEEP: Final = 30
#: The number of events in a resource.
_EVENTS: Final = 100
#: Advice for a model with a question that is not for it.
_TO_PEOPLE: Final = (
    "tell a person that it waits: they answer on the dashboard, or by `taskorch answer "
    "URL ID CHOICE --by NAME`"
)
_HALVES: Final = re.compile("[\ud800-\udfff]")
#: The seconds between two looks: the first, and the longest.
_PAUSES: Final = Backoff(0.02, 1.0)


@attrs.frozen
class ToolUser:
    """
    The user of a tool.

    Attributes:
        by: The name that acts carry.
        person: The name of the person at the client, who can be asked there; None:
            nobody can be asked.
        cannot_ask: Why nobody can be asked there, though a person is named; "": it is
            not so.
        is_person: Whether that person has decided the act.
        gone: Is set if nobody waits for the answer any more.
    """

    by: str
    person: str | None = None
    cannot_ask: str = ""
    is_person: bool = False
    gone: threading.Event = attrs.field(factory=threading.Event, repr=False, eq=False)


@attrs.frozen
class Form:
    """
    A form for a person, before a tool goes on.

    Attributes:
        person: Who is asked.
        text: The question, in words.
        fields: The fields of the form, as JSON Schema has it; their values are
            arguments.
        state: The question, and its time: the reply must be about the same.
        read: Reads the filled-in values as arguments.
    """

    person: str
    text: str
    fields: Mapping[str, Any]
    state: str
    read: Callable[[Mapping[str, Any]], dict[str, Any]] = attrs.field(repr=False)


# -- questions ---------------------------------------------------------------------


def find(place: Any, values: Mapping[str, Any], _: ToolUser) -> dict[str, Any]:
    """The tasks that pass the filter."""
    conditions: Any = {
        name: values[name] for name in TaskFilter.FIELDS if name in values
    }
    limit = values.get("limit", ROWS)
    # One more shows whether there are more.
    statuses = [*place._some_tasks(TaskFilter(**conditions), limit + 1)]  # noqa: SLF001
    return {
        "tasks": [*map(_row, statuses[:limit])],
        "more": len(statuses) > limit,
    }


def _row(status: Any) -> dict[str, Any]:
    document = status.to_dict()
    # The bare id of an earlier run stands for the latest one.
    row = {**{n: document[n] for n in _ROW}, "task_id": document["run_id"]}
    return _shortened(row, _MOST_IN_ROWS)


def run(place: Any, name: str) -> dict[str, Any]:
    """
    The tasks of a run, and how many are in which state.

    Raises:
        UnknownTaskError: There is no run of this name.
    """
    counts: Counter[str] = Counter()
    rows: list[dict[str, Any]] = []
    for status in place.tasks(TaskFilter(id=f"{escape(name)}/*")):
        if is_left_behind(status):
            continue
        counts[status.state.value] += 1
        if len(rows) < MOST_ROWS:
            rows.append(_row(status))
    if not counts:
        msg = f"there is no run {visible(name)!r}"
        raise UnknownTaskError(msg, hint="find lists tasks", task_id=name)
    return {"run": name, "counts": dict(counts), "tasks": rows}


def events(place: Any) -> dict[str, Any]:
    """The latest events, in order."""
    return {"events": [_event(each) for each in place.latest_events(_EVENTS)]}


def _event(event: Event) -> dict[str, Any]:
    at = event.timestamp.isoformat()
    fields = _shortened(_document(fields_of(event)), _MOST_IN_ROWS)
    return {"event": signal_name(type(event)), "at": at, **fields}


def status(place: Any, values: Mapping[str, Any], _: ToolUser) -> dict[str, Any]:
    """The state of a task."""
    return _shortened(place.get_task_status(values["task"]).to_dict(), MOST_SHOWN)


def why(place: Any, values: Mapping[str, Any], _: ToolUser) -> dict[str, Any]:
    """Explain a task, a run or a schedule; or list all troubles."""
    if "task" not in values:
        return _troubles(place)
    name = values["task"]
    try:
        explanation = place.explain(name)
    except UnknownTaskError as error:
        whole = explain_whole(place, name)
        if whole is None:
            error.hint = error.hint or "find lists tasks"
            raise
        answer: dict[str, Any] = all_in_tools(whole)
        return answer
    answer = _in_words(explanation)
    root = _root(place, explanation)
    if root is not None:
        behind = _in_words(root)
        answer |= {"behind": behind}
        answer["text"] += f"\n\nBehind that:\n{behind['text']}"
    return answer


def when(place: Any, values: Mapping[str, Any], _: ToolUser) -> dict[str, Any]:
    """Forecast the end of a task or run, or changes that make it earlier."""
    ask = place.in_time if values.get("changes", False) else place.when
    return _in_words(ask(values["task"], deadline=values.get("deadline")))


def what_if(place: Any, values: Mapping[str, Any], _: ToolUser) -> dict[str, Any]:
    """Forecast the effect of changes on all open work."""
    return _in_words(place.what_if(**values))


def _root(place: Any, explanation: Any) -> Any:
    """
    Return the explanation of the task that another waits for in the end, or None.

    Of several parents, it follows the first: the explanation names the others.
    """
    root: Any = None
    seen: set[str] = set()
    while len(seen) < _DEEP:
        waits = waited_for(explanation)
        if waits is None or waits in seen:
            break
        seen.add(waits)
        try:
            root = explanation = place.explain(waits)
        except UnknownTaskError:
            # The task has left memory.
            break
    return root


def brief(explanation: Any) -> str:
    """The sentence that says how a task stands, and that which says why."""
    document = explanation.to_dict()
    blockers = document.get("blockers", ())
    first = str(explanation).partition("\n")[0]
    # The answer has the result already, which is long.
    causes = [each["detail"] for each in blockers if each["kind"] != "terminal"]
    sentences = [first, *causes[:1]]
    return in_tools(in_a_line(visible(" ".join(sentences))))


def _troubles(place: Any) -> dict[str, Any]:
    """Return all troubles: holds, stuck tasks, and failures."""
    groups = [_in_words(group) for group in place.stuck()]
    failures = [_document(each) for each in place.failures()]
    stats = place.get_stats()
    state = stats.state_machine
    texts = [in_tools(each) for each in stats.holds]
    is_left = hasattr(place, "owner") and place.owner.lives is False
    if is_left and state.pending + state.queued + state.running + state.retrying:
        texts.append(NOBODY_GOES_ON)
    if hasattr(place, "schedules") and built_in("schedules") is not None:
        texts += [
            in_tools(each["text"])
            for each in place.schedules()
            if each["trouble"] or each["paused"] or each["failing"]
        ]
    texts += [str(group["text"]) for group in groups]
    if not texts:
        texts.append("Nothing is stuck.")
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


def wait(place: Any, values: Mapping[str, Any], caller: ToolUser) -> dict[str, Any]:
    """Wait until a task has ended, the time is over, or nobody waits any more."""
    task = values["task"]
    end = monotonic() + values.get("seconds", SECONDS)
    pauses = _PAUSES.pauses()
    while True:
        now = place.get_task_status(task)
        rest = end - monotonic()
        if now.is_terminal or rest <= 0:
            break
        if caller.gone.wait(min(next(pauses), rest)):
            break
    document = _shortened(now.to_dict(), MOST_SHOWN)
    try:
        text = all_in_tools(str(place.explain(task)))
    except UnknownTaskError:
        # The task has ended and left memory; its state stands beside this.
        text = f"{task} is {now.state.value}."
    return {**document, "ended": now.is_terminal, "text": text}


def questions(place: Any, _: Mapping[str, Any], __: ToolUser) -> dict[str, Any]:
    """The open questions."""
    documents = [_document(each) for each in place.questions()]
    return {"questions": [_shortened(each, MOST_SHOWN) for each in documents]}


def schedules(place: Any, values: Mapping[str, Any], _: ToolUser) -> dict[str, Any]:
    """All schedules, or one with the times that come."""
    if "name" in values:
        return {"schedules": [place.schedule(values["name"])]}
    return {"schedules": place.schedules()}


def plan(place: Any, values: Mapping[str, Any], _: ToolUser) -> dict[str, Any]:
    """The plan of a request."""
    return {"plan": place.plan(values["request"])}


def doctor(place: Any, _: Mapping[str, Any], __: ToolUser) -> dict[str, Any]:
    """Return the health of the whole, as far as the place knows."""
    answer = {"statistics": _document(place.get_stats())}
    if hasattr(place, "health"):
        answer["health"] = all_in_tools(_document(place.health()))
    if hasattr(place, "owner"):
        answer["owner"] = _document(place.owner)
    return answer


# -- changes -----------------------------------------------------------------------


def submit(place: Any, values: Mapping[str, Any], _: ToolUser) -> dict[str, Any]:
    """Submit tasks or a workflow; or return a forecast."""
    if ("tasks" in values) == ("workflow" in values):
        msg = "submit: tasks, or a workflow, is needed, and not both"
        raise InvalidTaskError(msg, hint='submit {"tasks": [{"type": "build"}]}')
    misplaced = ["id", "parameters"] if "tasks" in values else []
    misplaced += ["parameters"] if values.get("dry_run") else ["durations"]
    for name in misplaced:
        if name in values:
            place_of = {"id": "workflow", "parameters": "run of a workflow"}
            msg = f"submit: {name} is for a {place_of.get(name, 'dry run')}"
            raise InvalidTaskError(msg, hint="leave it out")
    if values.get("dry_run"):
        return _simulated(place, values)
    key = values.get("key")
    if "tasks" in values:
        ids = place.submit_documents(values["tasks"], key=key)
        return {"ids": ids, "run": None, "text": f"Submitted: {some(ids)}."}
    run = place.start_workflow(
        values["workflow"],
        values.get("id"),
        key=key,
        parameters=values.get("parameters"),
    )
    return {"ids": [], "run": run, "text": f"The run {run} has begun."}


def _simulated(place: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    work = values["tasks"] if "tasks" in values else values["workflow"]
    report = place.simulate(work, values.get("durations"))
    return {"ids": [], "run": None, **all_in_tools(plain(report))}


def form(place: Any, values: Mapping[str, Any], caller: ToolUser) -> Form | None:
    """Return the form for the person at the client, if they are to choose."""
    person, name = caller.person, values["question"]
    if "choice" in values or person is None:
        return None
    asked = _open(place, name)
    if asked is None:
        # The answer is refused then, with the right error.
        return None
    who, not_by = asked["who"], asked["not_by"]
    if (who and not is_among(person, who)) or is_among(person, not_by or ()):
        msg = f"question {name} is not for {person}"
        raise AnswerRefusedError(msg, hint="tell a person that it waits", task_id=name)
    details = asked["details"]
    more = "" if details in (None, {}) else f"\n\n{json.dumps(details)}"[:MOST_SHOWN]
    changes = "What is to be changed, as JSON; mostly nothing."
    if asked["kind"] == "escalation":
        changes = 'As JSON. Of "retry": {"timeout": 60}; of "complete": {"result": 7}.'
    fields: dict[str, Any] = {
        "choice": {"type": "string", "enum": [*asked["options"]]},
        "note": {"type": "string", "description": "Is kept with the answer."},
        "changes": {"type": "string", "description": changes},
    }
    state = json.dumps([asked["answer_to"], asked["asked_at"]])
    return Form(person, f"{asked['text']}{more}", fields, state, _filled_in)


def _filled_in(content: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the values of a form as arguments, without empty ones.

    Raises:
        InvalidTaskError: The changes are no JSON.
    """
    values = {name: value for name, value in content.items() if value not in (None, "")}
    if "changes" in values:
        try:
            values["changes"] = json.loads(values["changes"])
        except (TypeError, ValueError) as error:
            msg = f"answer: the changes are no JSON: {error}"
            hint = "call it again: the person is asked again"
            raise InvalidTaskError(msg, hint=hint) from None
    return values


def _open(place: Any, name: str) -> dict[str, Any] | None:
    """
    The open question that *name* means; None: there is none.

    A name without a number means the latest asking, as it does where it is answered.
    """
    for document in map(_document, place.questions()):
        if name in (*_names(document), stem_of(document["id"])):
            return document
    return None


def _names(asked: dict[str, Any]) -> tuple[str, str]:
    """Return both ids of the open question: its own, and the one for answers."""
    return asked["id"], asked["answer_to"]


def answer(place: Any, values: Mapping[str, Any], caller: ToolUser) -> dict[str, Any]:
    """Answer a question that is for the caller by name, or as a person has said."""
    name = values["question"]
    asked = _open(place, name)
    if asked is None:
        # An unknown id has an error of its own.
        place.get_task_status(task_of_escalation(name)[0] or name)
        msg = f"question {name} is not open"
        names = [_document(each)["id"] for each in place.questions()]
        hint = f"open are {some(names)}" if names else "no question is open"
        raise AnswerRefusedError(msg, hint=hint)
    why = f"; {caller.cannot_ask}" if caller.cannot_ask else ""
    if not caller.is_person and not is_among(caller.by, asked["who"] or ()):
        # Where anybody may answer, a person means any person.
        msg = f"question {name} is for people: its `who` does not name {caller.by}{why}"
        raise AnswerRefusedError(msg, hint=_TO_PEOPLE, task_id=name)
    if "choice" not in values:
        msg = f"answer: a choice is needed, and nobody can be asked for it here{why}"
        raise InvalidTaskError(msg, hint=_TO_PEOPLE)
    if caller.is_person or name in _names(asked):
        # The question that was looked at is answered, not one that came later.
        name = asked["answer_to"]
    decided = place.answer(
        name,
        values["choice"],
        by=caller.by,
        note=values.get("note", ""),
        changes=values.get("changes"),
    )
    return {"decided": decided}


def cancel(place: Any, values: Mapping[str, Any], caller: ToolUser) -> dict[str, Any]:
    """Cancel a task."""
    changed = place.cancel_task(
        values["task"], reason=f"cancelled over MCP by {caller.by}"
    )
    return {"changed": changed, "state": _state(place, values["task"])}


def _state(place: Any, task: str) -> str:
    try:
        return str(TaskState(place.get_task_status(task).state).value)
    except UnknownTaskError:
        # The task has left memory by now.
        return "ended"


def rerun(place: Any, values: Mapping[str, Any], _: ToolUser) -> dict[str, Any]:
    """Run a task again, or from one of its steps; or return a preview."""
    options = {**values}
    task, is_dry = options.pop("task"), options.pop("dry_run", False)
    if "at" in options and "definition" in options:
        msg = "rerun: definition is for a run of the whole task, and not from a step"
        raise InvalidTaskError(msg, hint="leave it out")
    if is_dry:
        call = "steps.fork" if "at" in options else "rerun_task"
        touched = place.foresee(call, {"task_id": task, **options})
        return {"task_id": None, "text": touched["text"]}
    again = (place.fork if "at" in options else place.rerun_task)(task, **options)
    task_id = again if isinstance(again, str) else again.task_id
    return {"task_id": task_id, "text": f"Runs again as {task_id}."}


def hold(place: Any, values: Mapping[str, Any], caller: ToolUser) -> dict[str, Any]:
    """Suspend a task, or hold back starts."""
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


def release(place: Any, values: Mapping[str, Any], caller: ToolUser) -> dict[str, Any]:
    """Resume a task, or let tasks start again."""
    if "task" in values:
        return {"changed": place.resume_task(values["task"])}
    return {"changed": place.release_starts(values.get("by", caller.by))}


def reprioritise(place: Any, values: Mapping[str, Any], _: ToolUser) -> dict[str, Any]:
    """Move a task in the queue."""
    return {"changed": place.set_priority(values["task"], values["priority"])}


# -- documents ---------------------------------------------------------------------


def _document(value: Any) -> dict[str, Any]:
    """Return *value* as a JSON object."""
    if not isinstance(value, Mapping) and hasattr(value, "to_dict"):
        value = value.to_dict()
    document: dict[str, Any] = plain(taken_apart(value))
    return document


def as_json(document: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """
    Return *document* as a JSON text, and the document that this text stands for.

    Halves of characters, which a task may have written, cannot be sent: they are
    replaced.
    """
    text = json.dumps(document, ensure_ascii=False)
    whole = _HALVES.sub("\ufffd", text)
    return whole, document if whole == text else json.loads(whole)


def _in_words(value: Any) -> dict[str, Any]:
    """
    An answer as JSON has it, with `text` in words, and tools as remedies.

    The document of a service has its text.
    """
    # The text comes first, because models read that.
    words: dict[str, Any] = all_in_tools({"text": str(value), **_document(value)})
    return words


def _shortened(document: dict[str, Any], most: int) -> dict[str, Any]:
    """
    Return *document* with each value that is too long cut to a text.

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


def of_extension(
    call: str, verb: Verb, place: Any, values: Mapping[str, Any], _caller: ToolUser
) -> dict[str, Any]:
    """Call a verb of an extension, and return its result."""
    return {verb.gives: place.call(call, values)}
