"""
The verbs that are commands: `taskorch rerun`, `cancel`, `decide`, `answer` and others.

Their arguments and help come from the table of verbs. They change tasks of a journal
that nobody uses, or those of a service. They run nothing: the program does that to
which the journal belongs.

Decisions: durable-commits, tokens-and-roles, verbs-and-front-ends.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from taskorch.api._orchestrator import TaskOrchestrator
from taskorch.api._settings.configuration import TOKEN_VARIABLE, read_configuration
from taskorch.api.verbs.remedies import in_commands
from taskorch.api.verbs.table import (
    VERBS,
    as_json,
    bound,
    commands,
    foreseen,
    previewed,
)
from taskorch.core.inside import Inside
from taskorch.core.runs._members import WILD
from taskorch.errors import (
    InvalidTaskError,
    JournalTakenError,
    TaskorchError,
    UnknownTaskError,
)
from taskorch.ext.client import Client, ServiceError
from taskorch.ext.command_line import FAILED, OK
from taskorch.ext.command_line._terminal import (
    add_json,
    coloured,
    is_url,
    line,
    print_json,
    proves_name,
    seconds,
    signature,
    tell,
    token_of_environment,
    utc,
    value_of,
)
from taskorch.ext.views import JournalReader
from taskorch.kit.verbs import SECONDS, Argument, Verb
from taskorch.kit.visible import counted
from taskorch.kit.words import some
from taskorch.model import TERMINAL, TaskState
from taskorch.model.ids import number_of, split_first, stem_of, task_of_escalation

_PASSING: Final = (TaskState.QUEUED, TaskState.PENDING, TaskState.RETRYING)
#: The help of the words behind a command, if the verb describes no arguments.
_WORDS: Final = {
    "TASK": "its id",
    "TASK...": "ids of tasks",
    "RUN+PHASE": "a phase that asks for it",
    "EVENT": "its name",
}
_UNAUTHORIZED: Final = 401
#: The act of `taskorch runs` that does to a run what a verb does to a task.
_OF_RUNS: Final = {
    "cancel_task": "cancel",
    "rerun_task": "restart",
    "suspend_task": "pause",
    "resume_task": "resume",
}
#: The metavar of an option, by its type.
_METAVARS: Final = {"string": "TEXT", "integer": "N", "number": "NUMBER"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command of *parser*."""
    command = parser.prog.rpartition(" ")[2]
    call, verb = commands()[command]
    parser.set_defaults(run=_run, call=call)
    add_place(parser)
    arguments = iter(verb.arguments)
    for word in verb.command_words:
        argument = next(arguments)
        if "+" in word:
            next(arguments)
        _add_word(parser, word, argument)
    for argument in arguments:
        _add_option(parser, argument)
    if verb.preview:
        parser.add_argument(
            "--dry-run", action="store_true", help="only say what it would touch"
        )
    add_json(parser)


def add_place(parser: argparse.ArgumentParser) -> None:
    """Add the journal or the service in which something is changed."""
    parser.add_argument(
        "journal",
        metavar="JOURNAL|URL",
        help="the file or address, while nobody uses it: runs.db, postgresql://…; or "
        "a service: "
        f"http://127.0.0.1:8080, whose token is in {TOKEN_VARIABLE}",
    )


def _add_word(parser: argparse.ArgumentParser, word: str, argument: Argument) -> None:
    several = word.endswith("...")
    words = _WORDS.get(word) or in_help(argument)
    if argument.name == "task_id" and parser.prog.endswith(" rerun"):
        words += ", or patterns: 'tuesday/scale/*' is what has ended of these"
    parser.add_argument(
        argument.name,
        metavar=None
        if "enum" in argument.form
        else word.removesuffix("...").replace("+", "/"),
        nargs="+" if several else None,
        help=words,
        **kind_of(argument),
    )


def _add_option(parser: argparse.ArgumentParser, argument: Argument) -> None:
    name = f"--{argument.name.replace('_', '-')}"
    if "boolean" in argument.form.get("type", ""):
        parser.add_argument(
            name,
            action=argparse.BooleanOptionalAction,
            default=None,
            help=in_help(argument),
        )
        return
    kind = kind_of(argument)
    if "choices" not in kind:
        metavar = (
            "NAME"
            if argument.name == "by"
            else _METAVARS.get(str(argument.form.get("type")), "JSON")
        )
        kind["metavar"] = metavar
    # At a service, a token may prove the name of the caller.
    is_needed = argument.is_needed and not argument.says_who
    parser.add_argument(name, required=is_needed, help=in_help(argument), **kind)


def kind_of(argument: Argument) -> dict[str, Any]:
    """Return the keywords with which argparse reads *argument*."""
    if "enum" in argument.form:
        return {"choices": argument.form["enum"]}
    if argument.form == SECONDS:
        return {"type": seconds}
    name = str(argument.form.get("type"))
    return {} if name == "string" else {"type": _TYPES.get(name, _json)}


def in_help(argument: Argument) -> str:
    """Return the help of *argument*, in one line."""
    text = argument.text.partition(". ")[0].partition("; None")[0].removesuffix(".")
    text = re.sub(r"\*(\w+)\*", r"\1", text.replace("%", "%%").replace("`", ""))
    is_name = len(text) > 1 and text[:2].isalpha() and text[:2].isupper()
    return text if is_name else text[:1].lower() + text[1:]


def _object(text: str) -> Any:
    """Return an object from JSON, or from `NAME=VALUE` with commas between several."""
    pairs = [each.partition("=") for each in text.split(",")]
    if text.lstrip()[:1] in {"{", "[", '"'} or not all(
        name.strip() and sign for name, sign, _ in pairs
    ):
        return _json(text, "NAME=VALUE is one, too")
    return {name.strip(): value_of(value.strip()) for name, _, value in pairs}


def _json(text: str, hint: str = "a text has its own quotes: '\"done\"'") -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        msg = f"{text!r} is no JSON: {error} ({hint})"
        raise argparse.ArgumentTypeError(msg) from None


def _run(args: argparse.Namespace) -> int:
    verb = VERBS[args.call]
    with at(args.journal, reads=args.call in _OF_A_COPY) as orch:
        subjects = ["TASK..."], ["TASK"], ["RUN+PHASE"]
        if verb.command_words[:1] in subjects and args.call not in _SHOWN:
            return _change(args, verb, orch)
        if verb.preview and args.dry_run:
            tell_foreseen(args, {}, touched(orch, args.call, _said(args, verb)))
            return OK
        result = _call(args, verb, orch)
        show = _SHOWN.get(args.call)
        document = {verb.gives: result}
        if args.json:
            print_json(_DOCUMENTS.get(args.call, _as_it_is)(args, document))
        elif show is not None:
            show(args, result)
        else:
            _show(result)
    return FAILED if result is False else OK


def _said(args: argparse.Namespace, verb: Verb, **instead: Any) -> dict[str, Any]:
    """Return the given arguments of *verb*, by their names."""
    values = {each.name: getattr(args, each.name, None) for each in verb.arguments}
    # Arguments that are not given keep the default of the method.
    return {k: each for k, each in (values | instead).items() if each is not None}


def _call(args: argparse.Namespace, verb: Verb, orch: Any, **instead: Any) -> Any:
    """Call *verb* with the given arguments, and return the answer as JSON has it."""
    return as_json(call(orch, args.call, **_said(args, verb, **instead)))


def call(orch: Any, name: str, /, *words: Any, **said: Any) -> Any:
    """
    Call the verb *name*, here or at a service, and return the answer.

    Raises:
        InvalidTaskError: Nobody has said who acts.
    """
    unsaid = [
        each.key
        for each in VERBS[name].arguments
        if each.says_who and each.is_needed and said.get(each.name) is None
    ]
    if not isinstance(orch, Client):
        if unsaid:
            raise _nobody(name, "a journal")
        return bound(orch, name)(*words, **said)
    try:
        return getattr(orch, VERBS[name].operation)(*words, **said)
    except TaskorchError as error:
        if any(f"{key}: it is missing" in error.message for key in unsaid):
            raise _nobody(name, "this token") from error
        raise


def _nobody(name: str, place: str) -> InvalidTaskError:
    verb = VERBS[name]
    command = f"{verb.command_name} {verb.command_act}".rstrip()
    return InvalidTaskError(
        f"{command}: {place} does not say who acts", hint="--by NAME"
    )


def touched(orch: Any, name: str, said: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document of what the verb *name* would touch, without a change."""
    if not isinstance(orch, Client):
        return foreseen(orch, name, said).to_dict()
    first, *others = previewed(name)
    query = {"operation": VERBS[name].operation, "subject": said.get(first.name, "*")}
    query |= {each.key: said[each.name] for each in others if each.name in said}
    return orch._ask("GET", "/previews", query=_as_query(query))  # noqa: SLF001 - no verb


def _as_query(said: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: each if isinstance(each, str) else json.dumps(each)
        for name, each in said.items()
    }


def _change(args: argparse.Namespace, verb: Verb, orch: Any) -> int:
    """Change the tasks, or the runs, that are named."""
    states: set[TaskState] = set()
    code = OK
    name_of = verb.arguments[0].name
    # A phase, a run or an escalation is no task.
    are_tasks = name_of == "task_id"
    for name in _named(args, name_of, orch):
        if verb.preview and args.dry_run:
            arguments = _said(args, verb, **_subject(args, verb, name))
            with _naming_run(args, orch, name):
                document = touched(orch, args.call, arguments)
            tell_foreseen(args, {"task": name}, document)
            continue
        with _naming_run(args, orch, name):
            task_id, changed = _changed(args, verb, orch, name)
        is_task = are_tasks and not task_of_escalation(name)[0]
        state = _state(orch, task_id) if is_task else None
        if state is not None:
            states.add(state)
        # Another answer may be needed before the decision.
        code = code if changed or verb.name == "answer" else FAILED
        document = {"task": task_id, "changed": changed, "state": state}
        _tell(args, document, _words(verb, task_id, state, changed=changed))
    goes_on = not states.isdisjoint(_PASSING)
    if not is_url(args.journal) and code == OK and not args.json and goes_on:
        print(f"It runs when the program is run again that has {line(args.journal)}.")
    return code


def tell_foreseen(
    args: argparse.Namespace, about: dict[str, str], document: dict[str, Any]
) -> None:
    """Print what a verb would touch."""
    head = ": ".join([*map(line, about.values()), line(document["text"])])
    others = [each for each in document["tasks"] if each not in about.values()]
    more = document["count"] - len(document["tasks"])
    rest = [f"  and {more:,} more"] if more else []
    tell(args, {**about, **document}, head, *(f"  {line(o)}" for o in others), *rest)


def _tell(args: argparse.Namespace, document: dict[str, Any], words: str) -> None:
    fields = {name: value for name, value in document.items() if value is not None}
    tell(args, fields, words)


def _words(verb: Verb, task_id: str, state: TaskState | None, *, changed: bool) -> str:
    command = verb.command_name
    if state is None:
        return f"{line(task_id)} {'is' if changed else 'had been'} decided on"
    text = f"{line(task_id)} is {coloured(state.value)}"
    if command in _DONE:
        words = _DONE[command] if changed else "was not changed"
        return f"{line(task_id)} {words}: it is {coloured(state.value)}"
    if command == "answer":
        return text if changed else f"{text}: it needs more answers to be decided"
    if not changed:
        return f"{text}: there is nothing to {command}"
    if command in ("cancel", "suspend") and state is TaskState.RUNNING:
        return f"{text}, and was asked to stop"
    return text


@contextmanager
def _naming_run(args: argparse.Namespace, orch: Any, name: str) -> Iterator[None]:
    """Say of an unknown task how to change the run that is called so."""
    try:
        yield
    except UnknownTaskError as error:
        act = _OF_RUNS.get(args.call)
        if act is None:
            raise
        with suppress(TaskorchError):
            call(orch, "workflows.status", name)
            words = f"{shlex.quote(args.journal)} {act} {shlex.quote(name)}"
            error.hint = f"it is a run: taskorch runs {words}"
        raise


def _changed(
    args: argparse.Namespace, verb: Verb, orch: Any, name: str
) -> tuple[str, bool]:
    """Return the new id of the task, and whether anything has changed."""
    subject = _subject(args, verb, name)
    if verb.name == "rerun_task":
        return call(orch, args.call, **_said(args, verb, **subject)).task_id, True
    answer = _call(args, verb, orch, **subject)
    return (answer, True) if verb.gives == "task_id" else (name, bool(answer))


def _subject(args: argparse.Namespace, verb: Verb, name: str) -> dict[str, Any]:
    """
    Return the arguments of *verb* for one of the named tasks or runs.

    Raises:
        InvalidTaskError: It takes a phase of a run, and *name* is none.
    """
    subject, *others = verb.arguments
    if verb.name == "rerun_task" and name not in args.task_id:
        # A pattern runs again exactly the tasks that it matches.
        return {subject.name: name, "downstream": False}
    if verb.command_words != ["RUN+PHASE"]:
        return {subject.name: name}
    # A phase may have slashes, and a run has none.
    run_id, phase = split_first(name)
    if not phase:
        msg = f"{name!r} names no phase of a run"
        raise InvalidTaskError(msg, hint="write RUN/PHASE")
    return {subject.name: run_id, others[0].name: phase}


def _named(args: argparse.Namespace, name_of: str, orch: Any) -> list[str]:
    """Return the named tasks or runs; patterns stand for the ones to run again."""
    words = getattr(args, name_of)
    names: list[str] = []
    for name in [words] if isinstance(words, str) else words:
        if args.call == "answer" and not WILD.isdisjoint(name):
            ids = [each["id"] for each in as_json(call(orch, "questions"))]
            asked = some([each for each in ids if fnmatchcase(each, name)])
            msg = f"{name!r} is a pattern, and an answer is to one question"
            hint = f"answer each of {asked}" if asked else "taskorch questions JOURNAL"
            raise InvalidTaskError(msg, hint=hint)
        if args.call != "rerun_task" or WILD.isdisjoint(name):
            names.append(name)
            continue
        meant = _ended_like(orch, name)
        if not meant:
            msg = f"nothing that has ended is called like {name!r}"
            raise UnknownTaskError(msg, hint="taskorch inspect JOURNAL --tasks")
        names += meant
    return names


def _ended_like(orch: Any, pattern: str) -> list[str]:
    """Return the ids of tasks that match *pattern* and whose latest run has ended."""
    latest: dict[str, tuple[int, bool]] = {}
    for each in orch.tasks():
        task = each if isinstance(orch, Client) else each.to_dict()
        stem, number = stem_of(task["task_id"]), number_of(task["task_id"])
        if fnmatchcase(stem, pattern) and number >= latest.get(stem, (0, False))[0]:
            latest[stem] = number, TaskState(task["state"]) in TERMINAL
    return [stem for stem, (_, has_ended) in latest.items() if has_ended]


def _as_it_is(_: argparse.Namespace, document: dict[str, Any]) -> dict[str, Any]:
    return document


def _show(result: Any) -> None:
    """Show an answer, a line for each entry; without one, that it is done."""
    if result is None:
        print("done")
        return
    for each in result if isinstance(result, list) else [result]:
        fields = each if isinstance(each, dict) else {}
        words = [
            f"{name}: {_short(value)}"
            for name, value in fields.items()
            if value not in (None, [], "")
        ]
        print(line("; ".join(words) if fields else _short(each)))


def _show_changed(_: argparse.Namespace, task_ids: Any) -> None:
    _show(task_ids or "There is no such task.")


def _show_resized(args: argparse.Namespace, _: object) -> None:
    print(", ".join(f"{line(n)}: {_short(each)}" for n, each in args.resources.items()))


def _show_forgotten(_: argparse.Namespace, count: int) -> None:
    print(f"{counted(count, 'result')} {'is' if count == 1 else 'are'} forgotten")


def _show_emitted(args: argparse.Namespace, count: int) -> None:
    go_on = f"{counted(count, 'task')} {'goes' if count == 1 else 'go'} on"
    print(f"{line(args.name)}: {go_on}")


def _show_hold(args: argparse.Namespace, _: object) -> None:
    words = f"at most {args.most} run" if args.most else "nothing new starts"
    by = "" if args.by is None else f" --by {shlex.quote(args.by)}"
    print(f"{words}, until: taskorch release {line(args.journal)}{by}")


def _show_release(args: argparse.Namespace, changed: object) -> None:
    by = args.by or ("you" if proves_name(args.journal) else "user")
    print("tasks start again" if changed else f"{line(by)} held nothing back")


def _show_questions(args: argparse.Namespace, questions: list[dict[str, Any]]) -> None:
    for asked in questions:
        _show_question(asked)
    if not questions:
        is_any = args.call == "questions"
        subject = (
            "question waits for an answer" if is_any else "failure waits for a person"
        )
        print(f"No {subject}.")
    else:
        words = f"{line(args.journal)} {line(questions[0]['id'])} CHOICE"
        print(f"taskorch answer {words}{signature(args.journal)}")


def _show_budgets(args: argparse.Namespace, budgets: list[dict[str, Any]]) -> None:
    for each in budgets:
        _show_budget(args, each)
    if not budgets:
        print("No budget is declared.")


def _show_steps(args: argparse.Namespace, steps: list[dict[str, Any]]) -> None:
    for each in steps:
        print(line(each["text"]))
    if not steps:
        print(f"{line(args.task_id)} keeps no steps.")


def _show_text(_: argparse.Namespace, document: dict[str, Any]) -> None:
    print(document["text"])


def _show_in_time(args: argparse.Namespace, document: dict[str, Any]) -> None:
    print(in_commands(document["text"], args.journal))


def _show_at_risk(_: argparse.Namespace, promises: list[dict[str, Any]]) -> None:
    for each in promises:
        first, *others = each["text"].split("\n")
        print("\n  ".join([line(first), *map(line, others)]))
    if not promises:
        print("No task that is open is likely to miss its deadline.")


def _show_dropped_steps(args: argparse.Namespace, keys: list[str]) -> None:
    if not keys:
        print(f"{line(args.task_id)} keeps no steps.")
        return
    print(f"Dropped {counted(len(keys), 'step')} of {line(args.task_id)}:")
    print(f"  {line(some(keys))}")


def _show_budget(args: argparse.Namespace, budget: dict[str, Any]) -> None:
    part = f" (part of {line(budget['parent'])})" if budget["parent"] else ""
    print(f"{line(budget['name'])}{part}: {budget['state']}")
    for name, total in budget["total"].items():
        spent, held, rest = (
            f"{budget[part][name]:.12g}" for part in ("spent", "reserved", "left")
        )
        amounts = f"{spent} of {total:.12g} spent, {held} reserved, {rest} left"
        print(f"  {line(name)}: {amounts}")
    if budget["question"]:
        name = line(args.journal)
        words = f"{name} {line(budget['question'])} raise"
        print(f"  taskorch answer {words}{signature(args.journal)}")


def _show_question(asked: dict[str, Any]) -> None:
    print(f"{line(asked['id'])}: {line(asked['text'])}")
    details = asked["details"]
    if not isinstance(details, dict):
        details = {} if details is None else {"details": details}
    entries = {
        "choices": asked["options"],
        "by whom": asked["whom"],
        "decides": asked["tasks"] if asked["tasks"] != [asked["id"]] else None,
        "wait for it": asked["blocking_tasks"],
        "due": utc(asked["due"]),
        **{f"{by} said": choice for by, choice in asked["votes"]},
        **details,
    }
    for name, value in entries.items():
        if value not in (None, [], ""):
            print(f"  {line(name)}: {line(_short(value))}")


def _short(value: Any) -> str:
    """Return *value* in a line; of many texts, the first."""
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return some(value)
    if isinstance(value, dict):
        plain = {k: v for k, v in value.items() if not isinstance(v, list | dict)}
        return ", ".join(f"{name} {each}" for name, each in plain.items())
    return value if isinstance(value, str) else json.dumps(value)


def _state(orch: Any, task_id: str) -> TaskState:
    status = orch.get_task_status(task_id)
    return TaskState(status["state"] if isinstance(orch, Client) else status.state)


#: Functions that show answers, by the name of the verb in a program.
_SHOWN: Final[Mapping[str, Callable[[argparse.Namespace, Any], None]]] = {
    "compare": _show_text,
    "in_time": _show_in_time,
    "at_risk": _show_at_risk,
    "when": _show_text,
    "emit": _show_emitted,
    "hold_starts": _show_hold,
    "release_starts": _show_release,
    "questions": _show_questions,
    "escalations": _show_questions,
    "change_tasks": _show_changed,
    "steps.fork_many": _show_changed,
    "expire_tasks": _show_changed,
    "memo.clear": _show_forgotten,
    "resources.budgets": _show_budgets,
    "resources.raise_budget": _show_budget,
    "resources.resize": _show_resized,
    "steps.of": _show_steps,
    "steps.forget": _show_dropped_steps,
}
_DOCUMENTS: Final[
    Mapping[str, Callable[[argparse.Namespace, dict[str, Any]], dict[str, Any]]]
] = {
    "emit": lambda args, document: {"event": args.name, **document},
    "hold_starts": lambda _, __: {"held": True},
}
_TYPES: Final[Mapping[str, Callable[[str], Any]]] = {
    "integer": int,
    "number": float,
    "object": _object,
}
#: The verbs that look at what is kept, in a copy of a journal that is in use.
_OF_A_COPY: Final = ("compare", "steps.of", "questions", "escalations")
#: The change of a task, where its state does not show it.
_DONE: Final = {"priority": "was moved", "reward": "was rewarded"}


@contextmanager
def at(place: str, *, reads: bool = False) -> Iterator[Any]:
    """
    Yield a service, or an orchestrator that has a journal and runs nothing.

    Args:
        place: The URL, or the journal.
        reads: Whether a copy will do of a journal in a file that is in use.
    """
    with ExitStack() as stack:
        try:
            opened = service(place) if is_url(place) else _journal(place)
            orch: Any = stack.enter_context(opened)
        except JournalTakenError:
            if not reads or not Path(place).is_file():
                raise
            copy = Path(stack.enter_context(TemporaryDirectory()), "journal.db")
            connect = sqlite3.connect
            with closing(connect(place)) as old, closing(connect(copy)) as new:
                old.backup(new)
            orch = stack.enter_context(_journal(str(copy)))
        yield orch


@contextmanager
def _journal(path: str) -> Iterator[TaskOrchestrator]:
    """Yield an orchestrator that has a journal and runs nothing."""
    # The journal must exist already, because the next call would make a new one.
    JournalReader(path)
    # Policies judge commands, too; other settings are for orchestrators that run tasks.
    named = read_configuration().settings.get("governance")
    orch = TaskOrchestrator(
        journal=path,
        unknown_capability="wait",
        governance=None if named is None else named.value,
    )
    try:
        with naming_service():
            # What is declared acts at the opening, and nobody starts this one.
            Inside(orch).open_for_commands()
            yield orch
    finally:
        orch.stop(drain=False)


@contextmanager
def naming_service() -> Iterator[None]:
    """Say of a journal that is in use how to ask the service that may have it."""
    try:
        yield
    except JournalTakenError as error:
        error.hint = "stop that one first; if it is a service, name its URL here"
        raise


@contextmanager
def service(url: str) -> Iterator[Client]:
    """
    Return a client of a service, with the token of the environment.

    Raises:
        TaskorchError: It cannot be reached.
    """
    try:
        # Remedies come as calls, and `in_commands` translates them.
        yield Client(url, token=token_of_environment(), remedies="calls")
    except ServiceError as error:
        if error.status != _UNAUTHORIZED:
            raise
        # The hint for requests over HTTP is of no use here.
        hint = f"export {TOKEN_VARIABLE}=…, with the token of {url}"
        raise TaskorchError(error.message, hint=hint) from error
    except OSError as error:
        msg = f"{url} cannot be reached: {error.strerror or error}"
        hint = "check the address, and whether the service runs"
        raise TaskorchError(msg, hint=hint) from error
