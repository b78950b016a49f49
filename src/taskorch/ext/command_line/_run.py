"""`taskorch run`: a workflow or tasks that a file defines, to their end."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any, Final

from taskorch.api._orchestrator import TaskOrchestrator
from taskorch.api._settings.configuration import read_configuration
from taskorch.core.inside import Inside
from taskorch.core.runs import restarts_of
from taskorch.core.workflows._functions import written
from taskorch.core.workflows._parameters import digest_of
from taskorch.errors import InvalidTaskError, ProgramFailedError
from taskorch.ext.command_line import FAILED, INTERRUPTED, OK
from taskorch.ext.command_line._target import (
    Target,
    add_limits,
    add_target,
    check_settings,
    limits_of,
    load,
    needed_for,
)
from taskorch.ext.command_line._terminal import (
    add_json,
    add_traceback,
    cause_of,
    coloured,
    is_terminal,
    line,
    on_signals,
    print_json,
    tracebacks,
)
from taskorch.kit.address import without_password
from taskorch.kit.clock import MonotonicClock
from taskorch.kit.limits import NS
from taskorch.kit.visible import counted
from taskorch.kit.words import in_words, outcome, some
from taskorch.model import StopReport, TaskState, TaskStatus
from taskorch.model.ids import without_run

_S: Final = TaskState
_SLOWEST: Final = 5
#: The number of last lines of a failed program that are shown, if no file has them.
_OUTPUT: Final = 10
#: The seconds between two checks for the end, or for Ctrl-C.
_LOOK: Final = 0.1
#: The texts at each Ctrl-C.
_SAID: Final = (
    "Nothing new starts; what runs is finished. Ctrl-C again stops that, too.",
    "What runs is asked to stop. Ctrl-C once more kills it.",
    "What runs is killed.",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.set_defaults(run=_run)
    add_target(parser)
    parser.add_argument(
        "--journal",
        metavar="PATH",
        help="keep all in this file: the same command goes on where it was, and runs "
        "again what failed",
    )
    parser.add_argument(
        "--only",
        metavar="TASK",
        action="append",
        default=[],
        help="only this one, and what it needs; may be repeated",
    )
    add_limits(parser)
    parser.add_argument("--id", metavar="ID", help="of the run (default: its name)")
    parser.add_argument(
        "--schedules",
        action="store_true",
        help="let the schedules of the file, or of the journal, make what is due, too",
    )
    parser.add_argument(
        "-q", "--quiet", action="store_true", help="say only how it ended"
    )
    add_traceback(parser)
    add_json(parser)


def _run(args: argparse.Namespace) -> int:
    target = load(args)
    if target.workflow.schedule is not None:
        print(
            "This is one run, now. To follow its schedule: taskorch schedules JOURNAL "
            f"add {line(target.workflow.name)} --workflow {line(args.target)}",
            file=sys.stderr,
        )
    only = needed_for(target.workflow, args.only) if args.only else None
    orch = _orchestrator(args, target)
    orch.schedules.rests = not args.schedules
    args.is_durable = orch.journal is not None
    progress = _Progress(orch, args)
    with _interrupts() as presses:
        began = datetime.fromtimestamp(MonotonicClock().now_ns() / NS, UTC)
        orch.start()
        try:
            if orch.schedules.rests and orch.schedules.list():
                text = "Schedules make nothing meanwhile: --schedules lets them."
                print(text, file=sys.stderr)
            with Inside(orch).patience(lambda: bool(presses)):
                names = _submit(args, orch, target, only)
            # Without a journal, no earlier run is known.
            before = _done_before(orch, names(), began) if args.is_durable else []
            progress.show(names, before)
            stopped = _wait(orch, presses)
            progress.end()
            statuses = {
                name: orch.get_task_status(task) for task, name in names().items()
            }
        except BaseException:
            orch.stop(drain=False, timeout=0)
            raise
        report = stopped or orch.stop()
    _tell_end(args, statuses, interrupted=bool(presses))
    if presses:
        _tell_rest(args, report)
        return INTERRUPTED
    return OK if _all_well(statuses) else FAILED


def _orchestrator(args: argparse.Namespace, target: Target) -> TaskOrchestrator:
    if target.orchestrator is not None:
        limits = {
            f"--{name}": getattr(args, name)
            for name in ("journal", "concurrency", "resources")
        }
        ignored = [name for name, value in limits.items() if value]
        if ignored:
            msg = f"{args.target} defines an orchestrator: {ignored[0]} is not for that"
            hint = f"write it there: TaskOrchestrator({ignored[0].lstrip('-')}=…)"
            raise InvalidTaskError(msg, hint=hint)
        check_settings(target.orchestrator, args.target)
        return target.orchestrator
    options = limits_of(args)
    if args.journal is not None:
        options["journal"] = args.journal
    arguments = read_configuration().arguments(options)
    arguments.setdefault("rerun_failed", arguments.get("journal") is not None)
    return TaskOrchestrator(**arguments)


def _submit(
    args: argparse.Namespace,
    orch: TaskOrchestrator,
    target: Target,
    only: set[str] | None,
) -> Callable[[], dict[str, str]]:
    """
    Submit the tasks to run.

    Returns:
        A function that returns the names in the workflow, by the ids of the tasks, with
        later tasks such as the calls of a map.
    """
    workflow = target.workflow
    run_id = args.id
    _, values = written(workflow, target.parameters)
    if run_id is None and (args.is_durable or only is not None):
        # Other parameters make another run; the same command goes on with its own.
        apart = f"-{digest_of(values)}" if args.parameters else ""
        run_id = f"{workflow.name}{apart}"
    if only is not None:
        assert run_id is not None  # noqa: S101 - see above
        tasks = [
            task
            for task in workflow.tasks(run_id)
            if without_run(task.id or "") in only
        ]
        # A part of a workflow is a run, too.
        handles = restarts_of(orch.workflows).starts.begin_part(run_id, tasks, values)
        names = {
            handle.task_id: without_run(task.id or "")
            for handle, task in zip(handles, tasks, strict=True)
        }
        return lambda: names
    run = orch.workflows.start(workflow, id=run_id, parameters=target.parameters)
    return lambda: {handle.task_id: name for name, handle in run.handles.items()}


def _done_before(
    orch: TaskOrchestrator, names: Iterable[str], began: datetime
) -> list[str]:
    """Return the ids of tasks that an earlier run has completed."""
    statuses = ((task_id, orch.get_task_status(task_id)) for task_id in names)
    return [
        task_id
        for task_id, status in statuses
        if status.state is _S.COMPLETED and status.ended and status.ended < began
    ]


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Count Ctrl-C; SIGTERM counts twice, as its sender does not wait."""
    presses: list[int] = []

    def note(number: int, _frame: object) -> None:
        presses.append(number)
        if number == signal.SIGTERM:
            presses.append(number)

    with on_signals(note, signal.SIGINT, signal.SIGTERM):
        yield presses


def _wait(orch: TaskOrchestrator, presses: list[int]) -> StopReport | None:
    """Wait until nothing can proceed; return the report if Ctrl-C stopped it."""
    while not orch.wait(_LOOK):
        if presses:
            return _stop(orch, presses)
    return None


def _stop(orch: TaskOrchestrator, presses: list[int]) -> StopReport:
    """Stop the run: wait for running tasks until a second Ctrl-C."""
    Inside(orch).start_no_more()
    if len(presses) == 1:
        _say(1)
    pause = threading.Event()
    while len(presses) == 1 and orch.get_stats().queue.processing:
        pause.wait(_LOOK)
    reports: list[StopReport] = []
    stopping = threading.Thread(target=lambda: reports.append(orch.stop(drain=False)))
    stopping.start()
    sent = 1
    while stopping.is_alive() or sent < min(len(presses), len(_SAID)):
        if sent < min(len(presses), len(_SAID)):
            sent += 1
            _say(sent)
        stopping.join(_LOOK)
        if len(presses) >= len(_SAID):
            orch.stop(drain=False, timeout=0)
    return reports[0] if reports else orch.stop(drain=False, timeout=0)


def _say(press: int) -> None:
    print(f"\ntaskorch: {_SAID[press - 1]}", file=sys.stderr, flush=True)


class _Progress:
    """The output of a run: a line for each end, and in a terminal a bar below."""

    def __init__(self, orch: TaskOrchestrator, args: argparse.Namespace) -> None:
        self._orch = orch
        self._args = args
        self._names: Mapping[str, str] = {}
        self._ask: Callable[[], Mapping[str, str]] = dict
        self._ended: dict[str, str] = {}
        self._mutex = threading.Lock()
        self._early: list[Any] = []
        self._is_over = False
        self._bar = is_terminal() and not args.json
        for kind in ("completed", "failed", "cancelled", "retrying"):
            getattr(orch.signals, f"task_{kind}").connect(self._heard)
        orch.signals.question_asked.connect(self._asked)

    def show(
        self, names: Callable[[], Mapping[str, str]], before: Iterable[str]
    ) -> None:
        """Show the tasks that end; tasks in *before* completed in earlier programs."""
        with self._mutex:
            self._ask = names
            self._names = names()
            self._ended = dict.fromkeys(before, "completed")
            if self._ended and not (self._args.quiet or self._args.json):
                done = f"{len(self._ended):,} of {counted(len(self._names), 'task')}"
                print(f"{done} had completed before: what is left is run.", flush=True)
            early, self._early = self._early, []
        for event in early:
            self._heard(event)

    def end(self) -> None:
        """Remove the bar, and draw no more."""
        with self._mutex:
            if self._bar:
                print("\r\x1b[K", end="", flush=True)
            self._is_over = True

    def _heard(self, event: Any) -> None:
        try:
            self._take(event)
        except OSError:
            # Nobody reads the output any more, or the disk is full: the work goes on,
            # and the last block reports it.
            self._is_over = True

    def _asked(self, event: Any) -> None:
        """Tell on standard error that people are asked, and how to answer."""
        how = "without a journal, nobody can answer: run it again with --journal PATH"
        if self._args.is_durable:
            place = line(without_password(self._args.journal or "JOURNAL"))
            how = (
                f"press Ctrl-C twice, then: taskorch answer {place} "
                f"{line(event.task_id)} CHOICE --by NAME; and run the same again"
            )
        start = "\r\x1b[K" if self._bar else ""
        asked = f"{start}taskorch: {line(event.task_id)} asks: {line(event.text)}"
        with suppress(OSError):
            print(f"{asked}\n  → {how}", file=sys.stderr, flush=True)

    def _take(self, event: Any) -> None:
        with self._mutex:
            if self._is_over:
                return
            if not self._names:
                self._early.append(event)
                return
            if event.task_id not in self._names:
                self._names = self._ask()
            name = self._names.get(event.task_id)
            if name is None:
                return
            word = type(event).__name__.removeprefix("Task").lower()
            if word != "retrying":
                self._ended[event.task_id] = word
            if not self._args.quiet:
                self._tell(event, name, word)
            if self._bar:
                ended, all_ = len(self._ended), len(self._names)
                text = f"{ended} of {all_} ended"
                for state in ("failed", "cancelled"):
                    count = sum(word == state for word in self._ended.values())
                    text += f", {count} {state}" if count else ""
                print(f"\r\x1b[K{text}", end="", flush=True)

    def _tell(self, event: Any, name: str, word: str) -> None:
        why = ""
        if word in ("failed", "retrying"):
            why = f"{event.error_type}: {event.message}".removesuffix(": ")
            # The rest of the message is shown at the end, or is the same for each task.
            why = why.partition(f" (task {event.task_id})")[0]
        elif word == "cancelled":
            why = event.reason
        if self._args.json:
            print_json({"task": name, "event": word, "at": event.timestamp, "why": why})
            return
        start = "\r\x1b[K" if self._bar else ""
        detail = f": {line(why)}" if why else ""
        print(f"{start}{coloured(word)} {line(name)}{detail}", flush=True)


# -- the last block ------------------------------------------------------------------


def _all_well(statuses: Mapping[str, TaskStatus]) -> bool:
    return all(s.state is _S.COMPLETED or s.allowed for s in statuses.values())


def _tell_end(
    args: argparse.Namespace, statuses: Mapping[str, TaskStatus], *, interrupted: bool
) -> None:
    """Print the slowest and unfinished tasks, and at last the failed ones."""
    failed = {n: s for n, s in statuses.items() if s.state is _S.FAILED}
    unfinished = {
        name: _why_left(status, statuses)
        for name, status in statuses.items()
        if not status.is_terminal
    }
    counts = {
        state.value: sum(status.state is state for status in statuses.values())
        for state in TaskState
    }
    slow = sorted(
        (
            (status.duration, name)
            for name, status in statuses.items()
            if status.duration
        ),
        reverse=True,
    )[:_SLOWEST]
    if args.json:
        print_json(
            {
                "counts": {name: count for name, count in counts.items() if count},
                "slowest": [{"task": name, "seconds": took} for took, name in slow],
                "left": unfinished,
                "failed": {
                    name: {**status.to_dict(), "repeat": _repeat(args, name)}
                    for name, status in failed.items()
                },
                "interrupted": interrupted,
            }
        )
        return
    blocks = [] if args.quiet else [""]
    if slow:
        times = [f"  {in_words(took or 0.0):>8}  {line(name)}" for took, name in slow]
        blocks.append("\n".join(["slowest:", *times]))
    by_reason: dict[str, list[str]] = {}
    for name, why in unfinished.items():
        by_reason.setdefault(why, []).append(name)
    if by_reason:
        reasons = [f"  {line(some(n))}: {line(why)}" for why, n in by_reason.items()]
        if args.journal is not None:
            reasons.append(
                f"  → taskorch explain {shlex.quote(without_password(args.journal))}"
            )
        blocks.append("\n".join(["not done:", *reasons]))
    if failed:
        for title, is_allowed in (("failed:", False), ("failed, and may:", True)):
            failures = [
                _failure(args, name, status)
                for name, status in failed.items()
                if status.allowed is is_allowed
            ]
            blocks += ["\n".join([title, *failures])] if failures else []
    parts = [f"{count:,} {word}" for word, count in counts.items() if count]
    word = "completed" if _all_well(statuses) else "failed"
    allowed = sum(status.allowed for status in statuses.values())
    head = outcome(word, allowed) if word == "completed" else "FAILED"
    sums = ", ".join(parts) or "there was nothing to do"
    print("\n\n".join([*blocks, f"{coloured(word, head)}: {sums}"]).removeprefix("\n"))


def _why_left(status: TaskStatus, statuses: Mapping[str, TaskStatus]) -> str:
    if not status.blocked_by:
        return f"it is {status.state}"
    names = {other.task_id: name for name, other in statuses.items()}
    return f"waits for {some([names.get(one, one) for one in status.blocked_by])}"


def _failure(args: argparse.Namespace, name: str, status: TaskStatus) -> str:
    """Return the details of a failed task for a person."""
    error = status.error
    rows = [f"  {coloured('failed', line(name))}"]
    if error is not None:
        rows.append(f"    cause   {line(cause_of(status))}")
    if status.where:
        rows.append(f"    where   {line(status.where)}")
    if args.traceback:
        rows += [f"    {text}" for text in tracebacks(status)]
    if status.attempts > 1:
        rows.append(f"    tried   {status.attempts} times")
    if status.log_path is not None and args.is_durable:
        rows.append(f"    log     {line(str(status.log_path))}")
    elif isinstance(error, ProgramFailedError) and error.result is not None:
        # Without a journal, the log of the program is gone by now.
        output = error.result.stderr_tail or error.result.stdout_tail
        lines = output.splitlines()[-_OUTPUT:]
        rows += [f"    output  {line(text)}" for text in lines]
    return "\n".join([*rows, f"    repeat  {_repeat(args, name)}"])


def _repeat(args: argparse.Namespace, name: str) -> str:
    """Return the command that repeats the run."""
    words = ["taskorch", "run", *(["-m"] * args.is_module), args.target]
    for option in ("functions", "journal", "id"):
        if getattr(args, option) is not None:
            words += [f"--{option}", getattr(args, option)]
    for parameter in args.parameters:
        words += ["--parameter", parameter]
    for resource in args.resources:
        words += ["--resources", resource]
    return shlex.join([*words, "--only", name])


def _tell_rest(args: argparse.Namespace, report: StopReport) -> None:
    if report.leaked:
        print(f"taskorch: given up: {line(some(report.leaked))}", file=sys.stderr)
    message = "interrupted"
    if args.is_durable:
        message += "; the same command goes on from here"
    print(f"taskorch: {message}", file=sys.stderr)
