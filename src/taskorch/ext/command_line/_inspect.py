"""`taskorch inspect`: the tasks of a journal or a service."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from taskorch.errors import (
    InvalidTaskError,
    JournalUnavailableError,
    TaskorchError,
)
from taskorch.events import Event, OrchestratorStopped, TaskEvent, details_of, fields_of
from taskorch.ext.command_line import OK
from taskorch.ext.command_line._source import (
    LEFT,
    Reader,
    ServiceReader,
    is_left,
    reader_of,
    steps_of,
)
from taskorch.ext.command_line._terminal import (
    add_at,
    add_journal,
    add_json,
    add_traceback,
    cause_of,
    clock,
    coloured,
    fields,
    in_commands,
    line,
    moment,
    pairs,
    print_json,
    seconds,
    since,
    table,
    table_of_steps,
    tell_left_out,
    tracebacks,
    utc,
)
from taskorch.ext.views import JournalOwner, JournalReader
from taskorch.kit.address import without_password
from taskorch.kit.visible import counted, show, visible
from taskorch.kit.words import in_words
from taskorch.model import FailureCause, Missing, TaskFilter, TaskState, TaskStatus

#: The default number of tasks in the list.
_MANY: Final = 50
#: The number of causes of failures in the output.
_CAUSES: Final = 10
#: A journal may be disturbed so often in succession while it is followed.
_MOST_REFUSALS: Final = 20
#: Fields of an event that are shown elsewhere, or only of use to programs.
_SAID: Final = frozenset({"seq", "at_ns", "task_id", "key", "named", "trace"})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.set_defaults(run=_run)
    add_journal(parser, services=True)
    parser.add_argument("task", metavar="TASK", nargs="?", help="the id of one task")
    which = parser.add_argument_group("list the tasks of which all that is said holds")
    which.add_argument("--tasks", action="store_true", help="all")
    for name, each in TaskFilter.FIELDS.items():
        which.add_argument(
            f"--{name.replace('_', '-')}",
            help=each.text.rstrip(".").replace("%", "%%"),
            **_FLAGS[each.how],
        )
    which.add_argument(
        "--limit",
        type=int,
        default=_MANY,
        metavar="N",
        help=f"no more than so many; 0: all (default: {_MANY})",
    )
    parser.add_argument(
        "--over-time", type=seconds, metavar="TIME", help="how many ended in each: 1h"
    )
    parser.add_argument(
        "--follow",
        action="store_true",
        help="go on with what happens, until its orchestrator, or TASK, has ended",
    )
    parser.add_argument(
        "--every", type=seconds, default=0.5, metavar="TIME", help="(default: 0.5s)"
    )
    add_at(parser)
    add_traceback(parser)
    add_json(parser)


#: The options of the command line for each filter of tasks.
_FLAGS: Final[dict[str, dict[str, Any]]] = {
    "state": {"choices": [state.value for state in TaskState]},
    "equal": {"metavar": "NAME"},
    "pattern": {"metavar": "PATTERN"},
    "contains": {"metavar": "NAME=VALUE", "action": "append"},
    "since": {"metavar": "TIME", "type": since},
    "longer": {"metavar": "TIME", "type": seconds},
    "whether": {"action": argparse.BooleanOptionalAction},
}


def _filter_of(args: argparse.Namespace) -> TaskFilter:
    conditions = {name: getattr(args, name) for name in TaskFilter.FIELDS}
    for name, each in TaskFilter.FIELDS.items():
        if each.how == "contains" and conditions[name] is not None:
            conditions[name] = pairs(conditions[name])
    return TaskFilter(**conditions)


def _run(args: argparse.Namespace) -> int:
    if args.follow and args.at is not None:
        msg = "--follow goes on with what happens, and --at stops before"
        raise InvalidTaskError(msg, hint="leave one of them out")
    with reader_of(args.journal, args.at) as reader:
        tell_left_out(reader)
        return _answer(args, reader)


def _answer(args: argparse.Namespace, reader: Reader) -> int:
    # Events after the answer are followed, so that its number is asked first.
    last = reader.last if args.follow else 0
    if args.task is not None:
        _show_task(args, reader)
    elif args.over_time is not None:
        _show_over_time(args, reader)
    elif _lists(args):
        _list(args, reader)
    elif not (args.follow and args.json):
        _show_all(args, reader)
    if args.follow:
        _follow(args, reader, last)
    return OK


def _lists(args: argparse.Namespace) -> bool:
    return bool(
        args.tasks or any(getattr(args, name) is not None for name in TaskFilter.FIELDS)
    )


# -- one task ------------------------------------------------------------------------


def _show_task(args: argparse.Namespace, reader: Reader) -> None:
    status = reader.get_task_status(args.task)
    if args.traceback and isinstance(reader, ServiceReader):
        status = reader.with_traceback(status)
    steps = steps_of(reader, status)
    if args.json:
        happened = [_plain(event) for event in reader.events(status.task_id)]
        more: dict[str, Any] = {"steps": steps} if steps else {}
        if args.traceback:
            more["traceback"] = tracebacks(status)
        print_json({**status.to_dict(), "events": happened, **more})
        return
    state = coloured(status.state.value)
    print(f"{line(status.run_id)} is {state}" + _reservation(reader, status))
    took = "" if status.duration is None else f" ({in_words(status.duration)})"
    metadata = [f"{name}={show(value)}" for name, value in status.metadata.items()]
    completed = status.state is TaskState.COMPLETED
    error = _cause_and_remedy(status, args.journal)
    entries = {
        "type": status.type,
        "agent": status.agent_id or "",
        "holds": ", ".join(_held(status)),
        "attempts": str(status.attempts) if status.attempts > 1 else "",
        "priority": str(status.priority or ""),
        "submitted": utc(status.submitted),
        "started": utc(status.started),
        "ended": utc(status.ended) + took,
        "metadata": ", ".join(metadata),
        "result": _result(status.result) if completed else "",
        "error": error,
        "where": status.where if error else "",
        "log": str(status.log_path or ""),
    }
    print(fields({name: line(text) for name, text in entries.items()}))
    rows = [
        (
            clock(entry.at),
            entry.state.value,
            # Lines above have said this already.
            "" if _says(error, status.error, entry.detail) else line(entry.detail),
        )
        for entry in status.history
    ]
    print()
    print(table(("time (UTC)", "state", ""), rows, indent="  "))
    if steps:
        print(f"\n{table_of_steps(steps, indent='  ')}")
    if args.traceback:
        print("\n".join(["", *tracebacks(status)]))


def _held(status: TaskStatus) -> Iterator[str]:
    """Yield the resources that a task holds, with the names of units."""
    for name, much in status.allocation.items():
        units = status.units.get(name)
        yield f"{much:g} {name}" + (f" ({', '.join(units)})" if units else "")


def _cause_and_remedy(status: TaskStatus, place: str) -> str:
    """Return the cause of a state, and the commands about *place* that help."""
    error = status.error
    hint = error.hint if isinstance(error, TaskorchError) else ""
    text = cause_of(status)
    return in_commands(f"{text} ({hint})" if hint else text, place)


def _says(told: str, error: BaseException | None, detail: str) -> bool:
    """Return whether *told* contains *detail*, or the reverse."""
    message = error.message if isinstance(error, TaskorchError) else told
    return detail in told or (message != "" and message in detail)


def _result(value: Any) -> str:
    return f"{value!r}: {value.why}" if type(value) is Missing else show(value)


def _reservation(reader: Reader, status: TaskStatus) -> str:
    """Return a note on the state of a task, such as a later repair."""
    if status.mended_by:
        return f", and mended since by {line(status.mended_by)}"
    if status.rerun:
        return f", and run again since: {line(status.rerun)}"
    if status.stale:
        return ", and stale: what it depends on was run again since"
    return LEFT if status.state is TaskState.RUNNING and is_left(reader) else ""


# -- many tasks ----------------------------------------------------------------------


def _list(args: argparse.Namespace, reader: Reader) -> None:
    most = args.limit + 1 if args.limit else None
    which = _filter_of(args)
    some = list(reader._some_tasks(which, most))  # noqa: SLF001
    shown = some[: args.limit or None]
    if args.json:
        for status in shown:
            print_json(status.to_dict())
        return
    if not shown:
        print("No task is like that.")
        return
    rows = (_row(status, args.journal) for status in shown)
    print(table(("task", "state", "submitted (UTC)", "took", ""), rows))
    if len(some) > len(shown):
        print(f"There are more than {args.limit}: --limit 0 shows all.")


def _row(status: TaskStatus, place: str) -> tuple[str, ...]:
    detail = cause_of(status)
    if not detail and status.attempts > 1:
        detail = f"attempt {status.attempts}"
    mark = "stale" if status.stale else ""
    if status.rerun:
        mark = f"run again as {status.rerun}"
    if status.mended_by:
        mark = f"mended since by {status.mended_by}"
    detail = "; ".join(filter(None, (mark, detail)))
    took = "" if status.duration is None else in_words(status.duration)
    return (
        line(status.run_id),
        status.state.value,
        moment(status.submitted),
        took,
        line(in_commands(detail, place)),
    )


def _show_all(args: argparse.Namespace, reader: Reader) -> None:
    stats, stuck = reader.get_stats(), reader.stuck()
    about: dict[str, Any]
    if isinstance(reader, ServiceReader):
        about = {"health": reader.health()}
        who = _how(about["health"])
    else:
        owner = reader.owner
        about, who = {"owner": owner}, _who(owner)
    if args.json:
        print_json(
            {
                "journal": without_password(args.journal),
                **about,
                "stats": stats,
                "stuck": [group.to_dict() for group in stuck],
            }
        )
        return
    print(f"{without_password(args.journal)}: {who}")
    print(stats)
    if isinstance(reader, JournalReader):
        kept = reader.count()
        gone = stats.state_machine.total - kept
        if gone > 0:
            print(f"{gone:,} of them have left the journal: it has {kept:,}")
    types = [
        (
            line(name),
            *(f"{count:,}" for count in (kind.completed, kind.failed, kind.cancelled)),
            *(
                ("", "")
                if kind.running is None
                else (in_words(kind.running.p50), in_words(kind.running.p95))
            ),
        )
        for name, kind in stats.types.items()
    ]
    if types:
        heads = ("type", "completed", "failed", "cancelled", "median", "95 % in")
        print(f"\n{table(heads, types)}")
    for group in stuck:
        print(f"\n{in_commands(str(group), args.journal)}")
    if stats.state_machine.failed:
        print(f"\n{_still(reader, without_password(args.journal))}")


def _still(reader: Reader, place: str) -> str:
    """Return the failures that are not repaired, by cause, and the next command."""
    causes = reader.failures()
    many = sum(cause.count for cause in causes)
    if not many:
        return (
            "Nothing that is kept is still broken: each failure is allowed, or was "
            "mended by a later run."
        )
    command = f"taskorch inspect {shlex.quote(place)} --state failed --no-mended"
    rows = [
        (f"{cause.count:,}", line(_said_by(cause, place))) for cause in causes[:_CAUSES]
    ]
    if len(causes) > _CAUSES:
        rows.append(("", f"and {counted(len(causes) - _CAUSES, 'more cause')}"))
    text = table(("failures", "cause"), rows)
    return f"{text}\n\nFailed, and not mended since, {many:,}: {command}"


def _said_by(cause: FailureCause, place: str) -> str:
    return in_commands(f"{cause.error_type}: {cause.message}", place)


def _who(owner: JournalOwner) -> str:
    if not owner.epoch:
        return "no orchestrator has opened it yet" if owner.lives is False else "open"
    if owner.pid is None:
        is_open = "somebody" if owner.lives else "nobody"
        return f"{is_open} had it open; last opened {owner.since}"
    who = f"process {owner.pid} on {owner.host}, since {owner.since}"
    if owner.lives:
        return visible(f"in use by {who}")
    if owner.lives is None:
        return visible(f"last opened by {who}")
    return visible(f"nobody has it open; last opened by {who}")


def _how(health: Mapping[str, Any]) -> str:
    """Return the health of a service in a line, and its problems in others."""
    wrong = [
        f"  {each['component']} {each['status']}: {line(each['detail'])}"
        for each in health["checks"]
        if each["status"] != "ok"
    ]
    return "\n".join([f"a service, {health['status']}", *wrong])


def _show_over_time(args: argparse.Namespace, reader: Reader) -> None:
    if isinstance(reader, ServiceReader):
        msg = "--over-time reads a journal, and not a service"
        raise InvalidTaskError(msg, hint="name the journal that the service has")
    periods = reader.outcomes(args.over_time)
    if args.json:
        for one in periods:
            print_json(one)
        return
    rows = [
        (
            moment(one.begin),
            f"{one.completed:,}",
            f"{one.failed:,}",
            f"{one.cancelled:,}",
        )
        for one in periods
    ]
    print(table(("from (UTC)", "completed", "failed", "cancelled"), rows))


# -- following events ----------------------------------------------------------------


def _follow(args: argparse.Namespace, reader: Reader, last: int) -> None:
    if isinstance(reader, ServiceReader):
        is_over = False
        while not is_over:
            is_over = _is_over(args, reader)
            _tell_all(args, reader.news(args.task))
            if reader.has_missed:
                text = "Some events are missing here: the service has them no more."
                print(text, file=sys.stderr, flush=True)
                reader.has_missed = False
            time.sleep(0 if is_over else args.every)
        return
    _follow_journal(args, reader, last)


def _tell_all(args: argparse.Namespace, events: Iterable[Event]) -> None:
    for event in events:
        if isinstance(event, TaskEvent):
            _tell(args, event)


def _follow_journal(args: argparse.Namespace, reader: JournalReader, last: int) -> None:
    has_stopped: bool | None = None
    refusals = 0
    while True:
        try:
            if has_stopped is None:
                has_stopped = any(map(_is_stop, reader.happened(max(0, last - 1))))
            # This is asked before the news, so that the last events are still shown.
            lives = reader.owner.lives
            is_over = lives is False or has_stopped or _is_over(args, reader)
            for event in _news(args, reader, last):
                last = event.seq
                # The journal may seem in use while another process reads it; this event
                # is sure.
                has_stopped = _is_stop(event)
                if isinstance(event, TaskEvent):
                    _tell(args, event)
            refusals = 0
        except JournalUnavailableError:
            # Its owner came or went during the read, which is an error only if it goes
            # on.
            refusals += 1
            if refusals > _MOST_REFUSALS:
                raise
            is_over = False
        if is_over:
            return
        time.sleep(args.every)


def _is_stop(event: Event) -> bool:
    return isinstance(event, OrchestratorStopped)


def _news(
    args: argparse.Namespace, reader: JournalReader, last: int
) -> Iterable[Event]:
    if args.task is None:
        return reader.happened(last)
    return [event for event in reader.events(args.task) if event.seq > last]


def _is_over(args: argparse.Namespace, reader: Reader) -> bool:
    return args.task is not None and reader.get_task_status(args.task).is_terminal


def _tell(args: argparse.Namespace, event: TaskEvent) -> None:
    if args.json:
        print_json(_plain(event))
        return
    values = [f"{name}={show(value)}" for name, value in _said(event).items()]
    at = clock(event.timestamp)
    name = type(event).__name__.removeprefix("Task").lower()
    words = f"{at}  {line(event.task_id)}  {coloured(name)}  {line(' '.join(values))}"
    print(words.rstrip(), flush=True)


def _said(event: Event) -> dict[str, Any]:
    """Return the details of an event that are not shown for every event."""
    return {
        name: value
        for name, value in details_of(event).items()
        if name not in _SAID and value not in ((), "", None)
    }


def _plain(event: Event) -> dict[str, Any]:
    return {"event": type(event).__name__, **fields_of(event)}
