"""
`taskorch runs`: the runs of workflows and schedules, listed, shown and changed.

Decision: dashboard-and-views.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final, TypeAlias
from zoneinfo import ZoneInfo

import attrs

from taskorch.api.verbs.table import VERBS, previewed
from taskorch.core.runs._members import WILD
from taskorch.errors import InvalidTaskError, UnknownTaskError
from taskorch.ext.command_line import FAILED, OK
from taskorch.ext.command_line._control import at, call, tell_foreseen, touched
from taskorch.ext.command_line._explain import tell_changes
from taskorch.ext.command_line._source import (
    LEFT,
    Reader,
    RunsSource,
    is_left,
    reader_of,
    runs_of,
)
from taskorch.ext.command_line._terminal import (
    add_journal,
    add_json,
    coloured,
    error_line,
    fields,
    in_commands,
    is_agreed,
    is_url,
    line,
    moment,
    print_json,
    since,
    table,
    tell,
    utc,
)
from taskorch.ext.views._nights import PAGE
from taskorch.ext.views._runs import SEVERITY
from taskorch.kit.clock import MonotonicClock
from taskorch.kit.visible import counted, show
from taskorch.kit.vocabulary import meant
from taskorch.kit.words import in_words
from taskorch.model import TaskState

#: The default number of runs in the list.
_MANY: Final = 50
#: The number of waiting tasks of a run that are explained.
_EXPLAINED: Final = 3
#: The number of calls of a map in the output, failed and running ones first.
CALLS: Final = 3
#: A run that waited for at least this part of its time has both times in the output.
_WAITED: Final = 0.1
#: A function that says a moment, in seconds since 1970, in a column.
At: TypeAlias = "Callable[[float | None], str]"
_WAITS: Final = frozenset(
    {TaskState.BLOCKED, TaskState.PENDING, TaskState.QUEUED, TaskState.SUSPENDED}
)


@attrs.frozen
class RunAct:
    """
    A change of a run: the verbs that make it.

    Attributes:
        of_workflow: The verb of a run of a workflow.
        of_task: The verb of a single task, which a schedule has made.
        which: The states of runs that a pattern matches.
        done: The text after the change.
        asks: Whether a person must agree, because it cannot be undone.
    """

    of_workflow: str
    of_task: str
    which: str
    done: str
    asks: bool = False


ACTS: Final[Mapping[str, RunAct]] = {
    "restart": RunAct(
        *("workflows.restart", "rerun_task", "broken", "was restarted"), asks=True
    ),
    "cancel": RunAct(
        *("workflows.cancel", "cancel_task", "open", "was cancelled"), asks=True
    ),
    "pause": RunAct("workflows.pause", "suspend_task", "open", "is paused"),
    "resume": RunAct("workflows.resume", "resume_task", "open", "goes on"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.set_defaults(run=_run)
    add_journal(parser, services=True)
    parser.add_argument(
        "verb",
        choices=("list", "show", *ACTS),
        nargs="?",
        default="list",
        help="what to do (list); all but `list` and `show` change a service, or a "
        "journal that nobody uses",
    )
    parser.add_argument(
        "names",
        metavar="RUN",
        nargs="*",
        help="ids of runs, or patterns: 'sales-*' is what failed of these for "
        "`restart`, and what has not ended for the others",
    )
    which = parser.add_argument_group("list the runs of which all that is said holds")
    which.add_argument("--id", metavar="PATTERN", help="a pattern of their ids")
    which.add_argument("--schedule", metavar="NAME", help="what has made them")
    which.add_argument(
        "--state",
        choices=(*SEVERITY, "open", "broken"),
        help="`open` has not ended; `broken` failed, was cancelled or is blocked",
    )
    which.add_argument("--day", metavar="DATE", help="a night: 2026-11-25")
    which.add_argument(
        "--since",
        type=since,
        metavar="TIME",
        help="scheduled not before, or submitted, without a schedule: 1d, 2026-11-25",
    )
    which.add_argument("--until", type=since, metavar="TIME", help="not after")
    which.add_argument("--after", metavar="RUN", help="go on behind this run")
    which.add_argument(
        "--limit",
        type=int,
        default=_MANY,
        metavar="N",
        help=f"no more than so many; 0: all (default: {_MANY})",
    )
    parser.add_argument(
        "--yes", action="store_true", help="of `restart` and `cancel`: do not ask"
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="of `restart` and `cancel`: only say what it would touch",
    )
    parser.add_argument(
        "--definition",
        choices=("as_deployed", "as_it_was"),
        help="of `restart`: today's definition, where one is known, or that of the run",
    )
    parser.add_argument("--reason", metavar="TEXT", help="of `cancel`: why")
    parser.add_argument(
        "--by",
        metavar="TIME",
        help="of `show`: say, too, when it ends, and what would have to change for it "
        "to end by then: 18:00, or seconds from now",
    )
    add_json(parser)


def _run(args: argparse.Namespace) -> int:
    if args.by and args.verb != "show":
        msg = "--by is said of one run, as it stands now"
        raise InvalidTaskError(msg, hint="taskorch runs JOURNAL show RUN --by 18:00")
    if args.verb == "list":
        if args.names:
            msg = f"runs list: {' '.join(args.names)!r} is one word too many"
            raise InvalidTaskError(msg, hint="--id PATTERN says which runs are listed")
        if args.limit < 0:
            msg = f"--limit {args.limit}: a number of runs is needed"
            raise InvalidTaskError(msg, hint="0 is all")
        with reader_of(args.journal) as reader:
            return _list(args, reader)
    if not args.names:
        msg = f"runs {args.verb}: which run?"
        raise InvalidTaskError(msg, hint="its id stands behind that")
    if args.verb == "show":
        if args.by and args.json:
            return max(tell_changes(args, name) for name in args.names)
        with reader_of(args.journal) as reader:
            runs = runs_of(reader)
            for place, name in enumerate(args.names):
                _show(args, reader, runs.run(name), after_another=place > 0)
        for name in args.names if args.by else ():
            tell_changes(args, name)
        return OK
    return _change(args, ACTS[args.verb])


# -- the list --------------------------------------------------------------------------


def _list(args: argparse.Namespace, reader: Reader) -> int:
    runs = runs_of(reader)
    which = _which(args)
    rows: list[dict[str, Any]] = []
    more, page = _pages(runs, which, args.limit or None, rows)
    if args.schedule and not rows:
        _check_schedule(args.schedule, runs)
    if args.json:
        for row in rows:
            print_json(row)
        return OK
    if page["is_reading"]:
        print(
            "The service still reads its journal: there may be more.", file=sys.stderr
        )
    if not rows:
        print("No run is like that." if which else "There is no run.")
        return OK
    heads = ("run", "state", "started (UTC)", "at work", "began by", "tasks", "")
    print(table(heads, [run_row(row, moment) for row in rows]))
    if more:
        print(f"There are more: --after {line(rows[-1]['id'])} goes on, --limit 0: all")
    return OK


def _check_schedule(name: str, runs: RunsSource) -> None:
    """
    Refuse the *name* of a schedule that has no run and is not there.

    Raises:
        UnknownTaskError: There is no such schedule.
    """
    names = [each["name"] for each in runs.nights(days=1)["schedules"]]
    if name not in names:
        msg = f"there is no schedule {show(name)}"
        hint = meant(name, names, f"there are {', '.join(names) or 'none at all'}")
        raise UnknownTaskError(msg, hint=hint)


def _which(args: argparse.Namespace) -> dict[str, Any]:
    """Return the filters of the list of runs."""
    names = ("id", "schedule", "state", "day", "after")
    which = {name: getattr(args, name) for name in names}
    times = {"since": args.since, "until": args.until}
    which |= {name: _seconds(each) for name, each in times.items()}
    return {name: each for name, each in which.items() if each}


def _seconds(at: float | datetime | None) -> float | None:
    """Return a moment, or a time ago, as seconds since 1970."""
    if at is None or isinstance(at, datetime):
        return None if at is None else at.timestamp()
    return _now() - at


def _now() -> float:
    return MonotonicClock().now_ns() / 1e9


def _pages(
    runs: RunsSource,
    which: Mapping[str, Any],
    most: int | None,
    rows: list[dict[str, Any]],
) -> tuple[bool, dict[str, Any]]:
    """Add the runs to *rows*; return whether there are more, and the last page."""
    wanted = dict(which)
    while True:
        limit = PAGE if most is None else min(PAGE, most - len(rows))
        page = runs.page(**wanted, limit=limit)
        if page is None:
            msg = f"there is no run {show(wanted['after'])} any more"
            raise UnknownTaskError(msg, hint="leave out --after")
        rows += page["runs"]
        if page["next"] is None or len(rows) == most:
            return page["next"] is not None, page
        wanted["after"] = page["next"]


def run_row(row: Mapping[str, Any], at: At) -> tuple[str, ...]:
    """Return the cells of a run in a list; *at* says when it began."""
    return (
        line(row["id"]),
        row["outcome"],
        at(row["started"] or row["submitted"]),
        took(row),
        line(row["began_by"]),
        f"{row['completed']:,}/{row['total']:,}",
        line(error_line(row["error"])),
    )


def took(row: Mapping[str, Any]) -> str:
    """Return how long a run or a task was at work, or is so far."""
    return "" if row["seconds"] is None else in_words(row["seconds"])


def _at_work(run: Mapping[str, Any]) -> str:
    """Return how long a run was at work, and of how long if it waited in between."""
    if not run["ended"] or run["seconds"] is None:
        return took(run)
    whole = run["ended"] - run["started"]
    waited = whole - run["seconds"] > _WAITED * whole
    return f"{took(run)} of {in_words(whole)}" if waited else took(run)


# -- one run ---------------------------------------------------------------------------


def _show(
    args: argparse.Namespace,
    reader: Reader,
    whole: dict[str, Any],
    *,
    after_another: bool,
) -> None:
    blocked = [*explained(reader, whole)]
    if args.json:
        rows = [{"task": task, "text": text} for task, text in blocked]
        print_json({**whole, "blocked": rows})
        return
    if after_another:
        print()
    first, *rest = in_lines(reader, whole)
    state = whole["run"].get("state", "")
    print(first.replace(f" is {state}", f" is {coloured(state)}"), *rest, sep="\n")
    heads = ("task", "state", "attempts", "started (UTC)", "took", "")
    print(f"\n{table(heads, _task_rows(whole), indent='  ')}")
    if whole["left_out"]:
        print(f"  and {counted(whole['left_out'], 'more task')}")
    for _, text in blocked:
        print(f"\n{in_commands(text, args.journal)}")


def in_lines(reader: Reader, whole: Mapping[str, Any]) -> list[str]:
    """Return the details of a run, a line each."""
    run = whole["run"]
    if "state" not in run:
        # A service may have forgotten the row of an old run, and still know its tasks.
        counts = ", ".join(f"{n:,} {state}" for state, n in whole["states"].items())
        return [f"{line(run['id'])}: {counts}"]
    first = f"{line(run['id'])} is {run['outcome']}"
    if not run["ended"] and is_left(reader):
        first += LEFT
    parameters = (f"{name}={show(each)}" for name, each in whole["parameters"].items())
    entries = {
        "began by": run["began_by"],
        "schedule": run["schedule"],
        "scheduled": _local(run["slot"], run["zone"]),
        "parameters": ", ".join(parameters),
        "submitted": utc(run["submitted"]),
        "started": utc(run["started"]),
        "ended": utc(run["ended"]),
        "at work": _at_work(run),
        "tasks": _counts(run),
        "definition": run.get("definition", ""),
        "error": error_line(run["error"]),
        "last good": whole["last_good"] or "",
    }
    return [first, fields({name: line(text) for name, text in entries.items()})]


def _local(at: float | None, zone: str) -> str:
    """Return a scheduled time in the zone of its schedule."""
    if at is None:
        return ""
    return f"{datetime.fromtimestamp(at, ZoneInfo(zone)):%Y-%m-%d %H:%M} {zone}"


def _counts(run: Mapping[str, Any]) -> str:
    words = [f"{run['completed']:,} of {run['total']:,} completed"]
    words += [f"{run[name]:,} {name}" for name in ("failed", "stuck") if run[name]]
    if run["allowed"]:
        words.append(f"{counted(run['allowed'], 'failure')} allowed")
    if run["reruns"]:
        words.append(f"{counted(run['reruns'], 'task')} run again")
    return ", ".join(words)


def _task_rows(whole: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Return the tasks of a run, with the calls of a map below it."""
    for task in whole["tasks"]:
        yield task_row(task, task["name"], moment)
        calls = whole["maps"].get(task["name"])
        if calls is not None:
            yield calls_row(calls, moment)
            for call in calls["first"][:CALLS]:
                if call["state"] != TaskState.COMPLETED:
                    yield task_row(call, f"  {call['name']}", moment)


def task_row(task: Mapping[str, Any], name: str, at: At) -> tuple[str, ...]:
    """Return the cells of a task of a run; *at* says when it began."""
    text = line(error_of(task))
    return (
        f"{' ' * (len(name) - len(name.lstrip()))}{line(name)}",
        task["state"],
        str(task["attempts"]),
        at(task["started"]),
        took(task),
        f"stale{'; ' * bool(text)}{text}" if task["stale"] else text,
    )


def error_of(task: Mapping[str, Any]) -> str:
    """Return the error of a task, without its id."""
    error = task["error"]
    if error is None:
        return ""
    # The explanation names the remedy.
    message: str = error["message"].partition(" (orch.")[0]
    before = f"task {task['id']} is {task['state']}: "
    if message.startswith(before):
        return message.removeprefix(before)
    return error_line({**error, "message": message})


def calls_row(calls: Mapping[str, Any], at: At) -> tuple[str, ...]:
    """Return the cells of all calls of a map; *at* says when the first began."""
    states = ", ".join(f"{n:,} {state}" for state, n in calls["states"].items())
    longest = calls["longest"]
    return (
        f"  {counted(sum(calls['states'].values()), 'call')}",
        "",
        str(calls["attempts"]),
        at(calls["started"]),
        "" if longest is None else f"≤ {in_words(longest)}",
        states,
    )


def explained(reader: Reader, whole: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the first tasks of a run that do not go on, each with the reason."""
    waiting = {t["id"]: t for t in whole["tasks"] if t["state"] in _WAITS}
    # Tasks that wait for one of these would add nothing new.
    first = [t for t in waiting.values() if waiting.keys().isdisjoint(t["blocked_by"])]
    for task in first[:_EXPLAINED]:
        yield task["id"], str(reader.explain(task["id"]))


# -- acts ------------------------------------------------------------------------------


def _change(args: argparse.Namespace, act: RunAct) -> int:
    if args.dry_run and not act.asks:
        msg = f"--dry-run is of restart and cancel, and {args.verb} can be undone"
        raise InvalidTaskError(msg, hint="leave it out")
    if args.definition is not None and args.verb != "restart":
        msg = f"--definition is of restart, and {args.verb} makes nothing anew"
        raise InvalidTaskError(msg, hint="leave it out")
    names = _named(args, act)
    with at(args.journal) as orch:
        previews = {name: foreseen(orch, act, name, args.definition) for name in names}
        previews = {
            name: each
            for name, each in previews.items()
            # A pattern stands for the runs that the act can change.
            if each[2] or name in args.names
        }
        if args.dry_run:
            for name, (verb, _, _) in previews.items():
                document = _touched(orch, verb, name, args.definition)
                tell_foreseen(args, {"run": name}, document)
            return OK
        if act.asks and not args.yes:
            texts = {name: text for name, (_, text, does) in previews.items() if does}
            if texts and not _agrees(args, texts):
                print("Nothing was done.")
                return FAILED
        code = OK
        for name, (verb, text, does) in previews.items():
            changed = does and do(
                orch, verb, name, reason=args.reason, definition=args.definition
            )
            code = code if changed else FAILED
            words = act.done if changed else f"has nothing to {args.verb}"
            sentence = f"{line(name)} {words}{': ' * bool(text)}{line(text)}"
            tell(args, {"run": name, "changed": changed, "text": text}, sentence)
    goes_on = args.verb in ("restart", "resume") and code == OK
    if goes_on and not is_url(args.journal) and not args.json:
        print(f"It runs when the program is run again that has {line(args.journal)}.")
    return code


def _named(args: argparse.Namespace, act: RunAct) -> list[str]:
    """Return the named runs; a pattern stands for the runs that it matches."""
    if all(WILD.isdisjoint(name) for name in args.names):
        return list(dict.fromkeys(args.names))
    names: dict[str, None] = {}
    with reader_of(args.journal) as reader:
        runs = runs_of(reader)
        for name in args.names:
            if WILD.isdisjoint(name):
                names[name] = None
                continue
            rows: list[dict[str, Any]] = []
            _pages(runs, {"id": name, "state": act.which}, None, rows)
            if not rows:
                msg = f"no run that is {act.which} is called like {name!r}"
                raise UnknownTaskError(msg, hint="taskorch runs JOURNAL lists all")
            names |= dict.fromkeys(row["id"] for row in rows)
    return [*names]


def foreseen(
    orch: Any, act: RunAct, name: str, definition: str | None = None
) -> tuple[str, str, bool]:
    """
    Return the verb of a run, a preview in words, and whether it changes anything.

    Raises:
        UnknownTaskError: There is no such run.
    """
    try:
        text, does = _preview(orch, act.of_workflow, name, definition)
        return act.of_workflow, text, does
    except UnknownTaskError:
        # A single task that a schedule has made is a run, too.
        try:
            text, does = _preview(orch, act.of_task, name, definition)
            return act.of_task, text, does
        except UnknownTaskError as error:
            msg = f"there is no run {show(name)}"
            hint = "taskorch runs JOURNAL lists all"
            raise UnknownTaskError(msg, hint=hint, task_id=name) from error


def _preview(
    orch: Any, verb: str, name: str, definition: str | None
) -> tuple[str, bool]:
    if VERBS[verb].preview:
        document = _touched(orch, verb, name, definition)
        return document["text"], document["does_something"]
    # It can be undone, so that it is enough that the run exists.
    is_run = verb.startswith("workflows.")
    call(orch, "workflows.status" if is_run else "get_task_status", name)
    return "", True


def _touched(orch: Any, verb: str, name: str, definition: str | None) -> dict[str, Any]:
    about = previewed(verb)[0].name
    which = {} if definition is None else {"definition": definition}
    return touched(orch, verb, {about: name, **which})


def do(
    orch: Any,
    verb: str,
    name: str,
    *,
    reason: str | None = None,
    definition: str | None = None,
) -> bool:
    """Call the verb, and return whether anything has changed."""
    is_cancel = verb in ("workflows.cancel", "cancel_task")
    more = {"reason": reason} if reason is not None and is_cancel else {}
    if definition is not None:
        more["definition"] = definition
    return call(orch, verb, name, **more) is not False


def _agrees(args: argparse.Namespace, texts: Mapping[str, str]) -> bool:
    """
    Show a person the preview, and return whether they agree.

    Raises:
        InvalidTaskError: Nobody can be asked.
    """
    for name, text in texts.items():
        print(f"{line(name)}: {line(text)}", file=sys.stderr)
    why, hint = f"a {args.verb} cannot be undone", f"runs … {args.verb} … --yes"
    if args.json:
        msg = f"a program is not asked, and {why}"
        raise InvalidTaskError(msg, hint=hint)
    return is_agreed(why, hint)
