"""
`taskorch rerun`, `restart`, `cancel`, `decide`, `approve`, `answer` and the like.

They change tasks of a journal that nobody uses, or those of a service. In a journal
nothing is run by that: the program does it that has this journal.

Decision: 0068.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any, Final, Literal

from taskorch._base._visible import counted
from taskorch._managers._records import WILD
from taskorch._orchestrator import TaskOrchestrator
from taskorch._settings._configuration import TOKEN_VARIABLE
from taskorch.cli import FAILED, OK
from taskorch.cli._terminal import (
    add_json,
    coloured,
    is_url,
    line,
    print_json,
    token_of_environment,
)
from taskorch.client import Client
from taskorch.errors import (
    InvalidTaskError,
    JournalTakenError,
    TaskorchError,
    UnknownTaskError,
)
from taskorch.model import TERMINAL, TaskState
from taskorch.model._explanation import some
from taskorch.model._ids import is_escalation, number_of, split_first, stem_of
from taskorch.reading import JournalReader

_VERDICTS: Final = ("retry", "fail", "complete")
_PASSING: Final = (TaskState.QUEUED, TaskState.PENDING, TaskState.RETRYING)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add those of the command that *parser* is for."""
    verb = parser.prog.rpartition(" ")[2]
    parser.set_defaults(run=_run, verb=verb)
    parser.add_argument(
        "journal",
        metavar="JOURNAL|URL",
        help="the file or address, while nobody uses it: runs.db, postgresql://…; or "
        "a service: "
        f"http://127.0.0.1:8080, whose token is in {TOKEN_VARIABLE}",
    )
    if verb == "approve":
        parser.add_argument(
            "tasks", metavar="RUN/PHASE", nargs=1, help="a phase that asks for it"
        )
        parser.add_argument("--by", metavar="NAME", required=True, help="who approves")
        parser.add_argument("--note", metavar="TEXT", default="", help="kept with it")
    elif verb == "answer":
        parser.add_argument(
            "tasks", metavar="TASK", nargs=1, help="its id, as `questions` shows it"
        )
        parser.add_argument("choice", metavar="CHOICE", help="one of its options")
        parser.add_argument("--by", metavar="NAME", required=True, help="who answers")
        parser.add_argument("--note", metavar="TEXT", default="", help="kept with it")
        parser.add_argument(
            "--changes", metavar="JSON", type=_json, help="what is to be changed"
        )
    elif verb == "questions":
        pass
    elif verb == "decide":
        parser.add_argument("tasks", metavar="TASK", nargs=1, help="its id")
        parser.add_argument(
            "verdict",
            choices=_VERDICTS,
            help="run it again, end it as failed, or take it for completed",
        )
        parser.add_argument(
            "--result", metavar="JSON", type=_json, help="that it completes with"
        )
        parser.add_argument("--reason", metavar="TEXT", default="", help="kept with it")
    elif verb == "emit":
        parser.add_argument("event", metavar="EVENT", help="its name")
        parser.add_argument(
            "--payload", metavar="JSON", type=_json, help="what comes with it"
        )
    elif verb == "restart":
        parser.add_argument("tasks", metavar="RUN", nargs="+", help="ids of runs")
    else:
        words = "ids of tasks"
        if verb == "rerun":
            words += ", or patterns: 'tuesday/scale/*' is what has ended of these"
        parser.add_argument("tasks", metavar="TASK", nargs="+", help=words)
    add_json(parser)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        msg = f"{text!r} is no JSON: {error} (a text has its own quotes: '\"done\"')"
        raise argparse.ArgumentTypeError(msg) from None


def _run(args: argparse.Namespace) -> int:
    is_service = is_url(args.journal)
    with at(args.journal) as orch:
        if args.verb == "emit":
            count = orch.emit(args.event, args.payload)
            document = {"event": args.event, "released": count}
            go_on = f"{counted(count, 'task')} {'goes' if count == 1 else 'go'} on"
            _tell(args, document, f"{line(args.event)}: {go_on}")
            return OK
        if args.verb == "questions":
            _show_questions(args, orch)
            return OK
        states: set[TaskState] = set()
        code = OK
        for name in _named(args, orch):
            task_id, changed = _changed(args, orch, name)
            # Neither a phase nor a run nor an escalation is a task.
            is_task = args.verb not in ("approve", "restart")
            is_task = is_task and not is_escalation(name)
            state = _state(orch, task_id) if is_task else None
            if state is not None:
                states.add(state)
            # Another answer may be needed before one decides.
            code = code if changed or args.verb == "answer" else FAILED
            document = {"task": task_id, "changed": changed, "state": state}
            _tell(args, document, _words(args.verb, task_id, state, changed=changed))
    goes_on = args.verb == "restart" or not states.isdisjoint(_PASSING)
    if not is_service and code == OK and not args.json and goes_on:
        print(f"It runs when the program is run again that has {line(args.journal)}.")
    return code


def _tell(args: argparse.Namespace, document: dict[str, Any], words: str) -> None:
    if args.json:
        print_json(
            {name: value for name, value in document.items() if value is not None}
        )
    else:
        print(words, flush=True)


def _words(verb: str, task_id: str, state: TaskState | None, *, changed: bool) -> str:
    if verb == "restart":
        return f"{line(task_id)} was restarted"
    if state is None:
        return f"{line(task_id)} {'is' if changed else 'had been'} decided on"
    text = f"{line(task_id)} is {coloured(state.value)}"
    if verb == "answer":
        return text if changed else f"{text}: it needs more answers to be decided"
    if not changed:
        return f"{text}: there is nothing to {verb}"
    if verb in ("cancel", "suspend") and state is TaskState.RUNNING:
        return f"{text}, and was asked to stop"
    return text


def _changed(args: argparse.Namespace, orch: Any, name: str) -> tuple[str, bool]:
    """The id of the task that there is then, and whether anything has changed."""
    if args.verb == "rerun":
        # Of a pattern, each is run again that is meant, and nothing else.
        is_one = name in args.tasks
        downstream = None if is_one else False
        return orch.rerun_task(name, downstream=downstream).task_id, True
    if args.verb == "restart":
        is_remote = isinstance(orch, Client)
        (orch if is_remote else orch.workflows).restart(name)
        return name, True
    if args.verb == "decide":
        verdict: Literal["retry", "fail", "complete"] = args.verdict
        return name, orch.decide(name, verdict, args.result, args.reason)
    if args.verb == "answer":
        fields = {"by": args.by, "note": args.note, "changes": args.changes}
        return name, orch.answer(name, args.choice, **fields)
    if args.verb == "approve":
        return name, _approve(orch, name, by=args.by, note=args.note)
    change: Callable[[str], bool] = getattr(orch, f"{args.verb}_task")
    return name, change(name)


def _named(args: argparse.Namespace, orch: Any) -> list[str]:
    """The tasks, or runs, that are named; of patterns to be run again, those meant."""
    names: list[str] = []
    for name in args.tasks:
        if args.verb != "rerun" or WILD.isdisjoint(name):
            names.append(name)
            continue
        meant = _ended_like(orch, name)
        if not meant:
            msg = f"nothing that has ended is called like {name!r}"
            raise UnknownTaskError(msg, hint="taskorch inspect JOURNAL --tasks")
        names += meant
    return names


def _ended_like(orch: Any, pattern: str) -> list[str]:
    """The ids of tasks that have ended in their latest runs, and match *pattern*."""
    latest: dict[str, tuple[int, bool]] = {}
    for each in orch.tasks():
        task = each if isinstance(orch, Client) else each.to_dict()
        stem, number = stem_of(task["task_id"]), number_of(task["task_id"])
        if fnmatchcase(stem, pattern) and number >= latest.get(stem, (0, False))[0]:
            latest[stem] = number, TaskState(task["state"]) in TERMINAL
    return [stem for stem, (_, has_ended) in latest.items() if has_ended]


def _show_questions(args: argparse.Namespace, orch: Any) -> None:
    is_remote = isinstance(orch, Client)
    questions = [q if is_remote else q.to_dict() for q in orch.questions()]
    if args.json:
        print_json({"questions": questions})
        return
    for asked in questions:
        _show_question(asked)
    if not questions:
        print("No question waits for an answer.")
    else:
        name = line(args.journal)
        print(f"taskorch answer {name} {line(questions[0]['id'])} CHOICE --by NAME")


def _show_question(asked: dict[str, Any]) -> None:
    print(f"{line(asked['id'])}: {line(asked['text'])}")
    due, details = asked["due"], asked["details"]
    if not isinstance(details, dict):
        details = {} if details is None else {"details": details}
    facts = {
        "choices": asked["options"],
        "who may answer": asked["who"],
        "who may not": asked["not_by"],
        "must agree": asked["quorum"] if asked["quorum"] > 1 else None,
        "due": due and f"{datetime.fromtimestamp(due, UTC):%F %T} UTC",
        **{f"{by} said": choice for by, choice in asked["votes"]},
        **{n: v for n, v in details.items() if n not in ("question", "escalation_id")},
    }
    for name, value in facts.items():
        if value not in (None, [], ""):
            print(f"  {line(name)}: {line(_short(value))}")


def _short(value: Any) -> str:
    """*value* in a line: of many texts, the first."""
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return some(value)
    if isinstance(value, dict):
        plain = {k: v for k, v in value.items() if not isinstance(v, list | dict)}
        return ", ".join(f"{name} {each}" for name, each in plain.items())
    return value if isinstance(value, str) else json.dumps(value)


def _approve(orch: Any, name: str, **answer: str) -> bool:
    """Approve RUN/PHASE: the phase may have slashes, a run has none."""
    approve: Callable[..., bool] = (
        orch.approve if isinstance(orch, Client) else orch.workflows.approve
    )
    run_id, phase = split_first(name)
    if not phase:
        msg = f"{name!r} names no phase of a run"
        raise InvalidTaskError(msg, hint="write RUN/PHASE")
    return approve(run_id, phase, **answer)


def _state(orch: Any, task_id: str) -> TaskState:
    status = orch.get_task_status(task_id)
    return TaskState(status["state"] if isinstance(orch, Client) else status.state)


def at(place: str) -> AbstractContextManager[Any]:
    """A service, or an orchestrator that has a journal and runs nothing of it."""
    return service(place) if is_url(place) else _journal(place)


@contextmanager
def _journal(path: str) -> Iterator[TaskOrchestrator]:
    """An orchestrator that has a journal, and runs nothing of what is in it."""
    # It must be there: to own one makes it.
    JournalReader(path)
    orch = TaskOrchestrator(journal=path, unknown_capability="wait")
    orch._rt.takes_up = False  # noqa: SLF001 - only a command leaves all as it is
    try:
        yield orch
    except JournalTakenError as error:
        error.hint = "stop that one first; if it is a service, name its URL here"
        raise
    finally:
        orch.stop(drain=False)


@contextmanager
def service(url: str) -> Iterator[Client]:
    """
    What asks a service, with the token of the environment.

    Raises:
        TaskorchError: It cannot be reached.
    """
    try:
        yield Client(url, token=token_of_environment())
    except OSError as error:
        msg = f"{url} cannot be reached: {error.strerror or error}"
        hint = "check the address, and whether the service runs"
        raise TaskorchError(msg, hint=hint) from error
