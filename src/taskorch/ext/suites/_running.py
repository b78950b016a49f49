"""Runs a suite, and goes on with a run that was interrupted."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import attrs

from taskorch.api._orchestrator import TaskOrchestrator
from taskorch.core.executors.programs import Governor
from taskorch.core.inside import Inside
from taskorch.errors import (
    DuplicateTaskError,
    InvalidTaskError,
    ValidationFailedError,
    WorkflowFailedError,
)
from taskorch.events import AgentLost
from taskorch.ext.governance import signing_key
from taskorch.ext.recovery._repairs import mend_with
from taskorch.ext.suites import _report
from taskorch.ext.suites._folder import OWN, History, RunFolder, kept_in
from taskorch.ext.suites._formats import written
from taskorch.ext.suites._messages import checkers
from taskorch.ext.suites._model import RUN, Suite, parts_of
from taskorch.ext.suites._process import SuiteWorker
from taskorch.ext.suites._receiver import SuiteWebhook
from taskorch.ext.suites._report import SuiteReport
from taskorch.ext.suites._sharding import sharded
from taskorch.ext.suites._statement import Subject
from taskorch.ext.suites._telling import Ended, SuiteTeller
from taskorch.ext.suites._translation import (
    add_workers,
    declare_budgets,
    orchestrator_of,
    workflow_of,
)
from taskorch.ext.suites._watching import PhaseClock, watch
from taskorch.kit.clock import MonotonicClock
from taskorch.kit.staged import Staged
from taskorch.model import Task
from taskorch.model.ids import run_of, without_run
from taskorch.policies import Measured

#: Seconds after which a run looks again for what waits for people.
_LOOK: Final = 1.0
#: Why that ends, if nobody can answer.
_NOBODY: Final = "Nobody can be asked in this run"
#: Seconds that notifications have at the end of a run.
_PATIENCE: Final = 10.0


def run(
    suite: Suite,
    folder: str | os.PathLike[str],
    *,
    failed: bool = False,
    fresh: bool = False,
    elsewhere: bool = False,
    answered: bool = True,
    timeout: float | None = None,
    statement: str | os.PathLike[str] | None = None,
    key: str | os.PathLike[str] | None = None,
    late: Callable[[str], object] = lambda _: None,
    tell: Callable[[Ended], object] = lambda _: None,
    phase: Callable[[str], object] = lambda _: None,
    begun: Callable[[TaskOrchestrator, Suite], object] = lambda _orch, _suite: None,
    **options: Any,
) -> SuiteReport:
    """
    Run a suite to its end, or go on with the run that was interrupted.

    A statement is of the predicate type
    `https://in-toto.io/attestation/test-result/v0.1`. Its subject is the commit, if git
    has all of the templates' folders unchanged, or else the SHA-256 of each file there,
    hidden ones aside; a changed subject at the end makes no statement. It names
    templates, arguments, criteria, variables, the interpreter and all its packages. The
    outcome is `PASSED`, `FAILED`, or `WARNED`: it passed although tests failed, or only
    in a later attempt. Its lists have each test that passed, was flaky, failed, or
    never began; skipped ones are in none.

    Args:
        suite: The suite.
        folder: Where the run keeps its files. A run that has ended there is put into
            the folder `previous` beneath it, unless *failed*.
        failed: Whether to run again what failed in the run that has ended, and what
            waited for that, and nothing else.
        fresh: Whether to begin anew, whatever is there.
        elsewhere: Whether workers elsewhere may join its orchestrator, and do the work
            while they are there.
        answered: Whether people can be asked, by *begun* or a page. If not, the tasks
            that wait for them fail once nothing else goes on.
        timeout: Seconds after which what is left of it in this process is cancelled.
        statement: Where an in-toto statement on the run is written once it has ended:
            what was tested, with what, and the outcome. A run that goes on needs it
            from its beginning.
        key: The file of the private key (Ed25519, PEM) by which that is signed; None:
            it is not.
        late: Is called, with why, when that was so; or with what Ctrl-C has cut off.
        tell: Is called with each task that has ended.
        phase: Is called with a line when a phase begins, or goes on.
        begun: Is called, before anything begins, with the orchestrator that has started
            for it, and the suite with its shards.
        options: More keyword arguments of `TaskOrchestrator`.

    Raises:
        ValidationFailedError: The suite is not complete: a template is missing.
        InvalidTaskError: There is no run of which something could have failed, or the
            run that was interrupted is one of another suite; or no statement can say
            what was tested.
        JournalTakenError: It is running already.
        NotRunningError: The orchestrator was stopped: the next run goes on from there.
        ImportError: jsonschema is not installed, or what signs.
    """
    check_complete(suite)
    # A missing package raises an error now, and not in the middle of the run.
    checkers()
    signer = None if key is None else signing_key(key)
    place = _made_ready(RunFolder(folder), failed=failed, fresh=fresh)
    subject = None if statement is None else Subject(suite, place)
    suite = sharded(suite, place)
    workers: dict[str, SuiteWorker] = {}
    governor = Governor() if suite.limits.enforce else None

    def worker(name: str) -> SuiteWorker:
        workers[name] = SuiteWorker(name, place, suite.retries.grace, governor)
        return workers[name]

    def left(event: AgentLost) -> None:
        gone = workers.pop(event.agent_id, None)
        if gone is not None:
            gone.close()

    orchestrator = orchestrator_of(
        suite,
        elsewhere=elsewhere,
        journal=place.journal,
        rerun_failed=failed,
        **(_measured(suite, place) | options),
    )
    receiver = None
    if suite.monitoring.human_notification_webhook is not None:
        receiver = SuiteWebhook(orchestrator, suite, place)
    # Tasks that an earlier process left begin as soon as there are workers.
    teller = SuiteTeller(orchestrator, suite, place, tell, receiver, phase)
    tell_over = None if receiver is None else receiver.tell_over
    clock = PhaseClock(orchestrator, suite, place.phases, timeout, late, tell_over)
    try:
        with orchestrator, Inside(orchestrator).patience():
            watch(orchestrator, suite, place)
            declare_budgets(orchestrator, suite)
            mend_with(orchestrator, suite.repairs, partial(_place_of, place))
            begun(orchestrator, suite)
            orchestrator.signals.agent_lost.connect(left)
            # Tasks of an earlier incarnation begin as soon as there are workers.
            add_workers(
                orchestrator,
                suite,
                worker,
                elsewhere=elsewhere,
                is_scaled=suite.limits.is_pool,
            )
            report = _run(
                orchestrator, suite, place, teller, clock, late, answered=answered
            )
            if receiver is not None:
                receiver.tell_memory(report.over_memory)
                receiver.flush(_PATIENCE)
    finally:
        for one in list(workers.values()):
            one.close()
    if subject is not None and statement is not None:
        subject.write(statement, report, signer)
    return report


def _made_ready(place: RunFolder, *, failed: bool, fresh: bool) -> RunFolder:
    """
    Make the folder *place* ready for a run that goes on, or begins; return it.

    Raises:
        InvalidTaskError: There is no run of which something could have failed.
    """
    has_ended = place.report("json").exists()
    if failed and not has_ended:
        msg = f"there is no run in {place.path} that has ended"
        raise InvalidTaskError(msg, hint="run it without `failed` first")
    if failed:
        # The webhook hears again of a cause that fails again.
        place.told.unlink(missing_ok=True)
    if fresh or (has_ended and not failed):
        # A new run has pytest collect the tests again.
        stays = {place.history} if fresh else {place.history, place.collected}
        _put_aside(place, but=stays)
    return place.make()


def _run(
    orchestrator: TaskOrchestrator,
    suite: Suite,
    place: RunFolder,
    teller: SuiteTeller,
    clock: PhaseClock,
    late: Callable[[str], object],
    *,
    answered: bool,
) -> SuiteReport:
    place.report("json").unlink(missing_ok=True)
    since = MonotonicClock().now_ns() / 1e9
    try:
        started = orchestrator.workflows.start(workflow_of(suite), id=RUN)
    except DuplicateTaskError as error:
        msg = (
            f"the run in {place.path} is one of another configuration: {error.message}"
        )
        hint = "begin anew: --fresh"
        raise InvalidTaskError(msg, hint=hint) from error
    teller.know(started.report())
    teller.catch_up()

    def report() -> SuiteReport:
        slices = teller.timeline.slices()
        return _report.made(suite, place, started.report(), slices, clock.over)

    try:
        while not answered:
            orchestrator.wait()
            _end_waits_for_people(orchestrator)
            with suppress(TimeoutError):
                started.result(_LOOK)
                break
        else:
            started.result()
    except WorkflowFailedError:
        # The report says it all.
        pass
    except KeyboardInterrupt:
        # Nobody knows how long the process has: it reports before the drain, too.
        _write_interrupted(place, report())
        late(Inside(orchestrator).end_service())
        _write_interrupted(place, report())
        raise
    finally:
        clock.stop()
    # Receivers have been served.
    orchestrator.wait()
    shutil.rmtree(place.under_way, ignore_errors=True)
    place.phases.unlink(missing_ok=True)
    final = report()
    _learn(suite, place, since)
    _write(place, final)
    return final


def _write_interrupted(place: RunFolder, so_far: SuiteReport) -> None:
    name = f"{so_far.suite} (interrupted: the same command goes on)"
    # The report in JSON says that the run has ended.
    _write(place, attrs.evolve(so_far, suite=name), but="json")


def _write(place: RunFolder, report: SuiteReport, but: str = "") -> None:
    for suffix, text in written(report).items():
        if suffix != but:
            Staged(place.report(suffix), text, OWN).commit()


def _end_waits_for_people(orchestrator: TaskOrchestrator) -> None:
    """Fail, or cancel, the tasks of the run that only people could let go on."""
    for group in orchestrator.stuck():
        for task_id in group.tasks if group.outside or group.kind == "budget" else ():
            blocker = next(iter(orchestrator.explain(task_id).blockers), None)
            if run_of(task_id) == RUN and blocker and blocker.kind != "dependency":
                # The error of a denied start has the policies.
                why = "" if blocker.kind == "policy" else f": {blocker.detail}"
                reason = f"{_NOBODY}{why}".removesuffix(".")
                if blocker.kind in ("policy", "decision"):
                    orchestrator.decide(task_id, "fail", reason=reason)
                else:
                    orchestrator.cancel_task(task_id, reason=reason)


def _measured(suite: Suite, place: RunFolder) -> dict[str, Any]:
    """An allocator that grants the memory that a class used; in earlier runs, too."""
    if not suite.limits.measured:
        return {}
    measured, memory = Measured(), History.read(place.history).memory
    for part in parts_of(suite):
        if part.id in memory:
            measured.observe(part.kind, memory[part.id])
    return {"allocator": measured}


def _learn(suite: Suite, place: RunFolder, since: float) -> None:
    """Keep the durations of this process for later runs."""
    history = History.read(place.history)
    results = [kept_in(place.results(part.id)) for part in parts_of(suite)]
    history.learn(record for record in results if record.get("ended", 0.0) >= since)
    history.write(place.history)


def _place_of(
    folder: RunFolder, task: Task, context: Any
) -> tuple[Path, Mapping[str, str], Path] | None:
    """The folder, the variables and the log of a test task."""
    about = task.payload
    if not isinstance(about, Mapping) or "cwd" not in about:
        return None
    name = without_run(context.task_id) or context.task_id
    return Path(about["cwd"]), about.get("env", {}), folder.log(name, context.attempt)


def check_complete(suite: Suite) -> None:
    """
    Refuse a suite that cannot be run.

    Raises:
        ValidationFailedError: Something is missing; all of it is named.
    """
    missing = list(suite.missing)
    if not suite.tasks and not missing:
        missing = [
            ("the configuration", "there are no task_definitions: nothing to do")
        ]
    if missing:
        msg = "\n".join(f"{place}: {message}" for place, message in missing)
        raise ValidationFailedError(msg, findings=tuple(missing), hint="")


def _put_aside(place: RunFolder, but: Collection[Path]) -> None:
    """Make room for a new run; the one that is there becomes the previous one."""
    previous = place.path / "previous"
    if not place.path.exists():
        return
    shutil.rmtree(previous, ignore_errors=True)
    previous.mkdir()
    for path in place.path.iterdir():
        if path not in (previous, *but):
            path.rename(previous / path.name)


def read_report(folder: Path, suffix: str) -> str:
    """
    Return the final report of the run in *folder*, as a text.

    Args:
        folder: Where the run keeps its files.
        suffix: The format: `html`, `md`, `xml` (JUnit's) or `json`.

    Raises:
        InvalidTaskError: No run has ended there.
    """
    try:
        return RunFolder(folder).report(suffix).read_text(encoding="utf-8")
    except OSError as error:
        msg = f"there is no run in {folder} that has ended with a report.{suffix}"
        raise InvalidTaskError(msg, hint="run the suite first") from error
