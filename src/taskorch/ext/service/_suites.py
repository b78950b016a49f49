"""
A test suite as a service: it is run on request, one run at a time.

Decisions: dashboard-and-views, test-suites.
"""

from __future__ import annotations

import copy
import json
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs
from starlette.concurrency import run_in_threadpool

from taskorch.api._orchestrator import TaskOrchestrator
from taskorch.core.inside import Inside
from taskorch.errors import (
    InvalidTaskError,
    NotRunningError,
    TaskorchError,
    UnknownTaskError,
)
from taskorch.events import AgentLost, AgentReturned
from taskorch.ext.service._app import existing, make_app
from taskorch.ext.service._board import Board
from taskorch.ext.service._bodies import HttpProblem, answer, read_object, refuse
from taskorch.ext.service._feed import Feed
from taskorch.ext.service._guard import LOOPBACK, Doors
from taskorch.ext.service._health import metrics, probe
from taskorch.ext.service._operations import PROBLEM, Operation, asked
from taskorch.ext.service._page import PageOperations
from taskorch.ext.service._tenants import Tenancy
from taskorch.ext.service._workers import Workers, schemas
from taskorch.ext.suites import read_report
from taskorch.ext.suites._elsewhere import OWN, EndsKept, admit, join
from taskorch.ext.suites._folder import RunFolder
from taskorch.ext.suites._model import RUN, Suite, parts_of
from taskorch.ext.suites._report import SuiteReport
from taskorch.ext.suites._running import check_complete, run
from taskorch.ext.suites._telling import Ended
from taskorch.ext.suites._words import STATUS
from taskorch.ext.telemetry.prometheus import exposition
from taskorch.ext.views import JournalReader
from taskorch.kit.checks import check_seconds
from taskorch.kit.fence import log_of
from taskorch.kit.limits import MAX_SECONDS
from taskorch.kit.verbs import TEXT, listed
from taskorch.kit.visible import counted, visible
from taskorch.kit.vocabulary import meant
from taskorch.model import TERMINAL, Agent, Resources, TaskState
from taskorch.protocols import AttemptExecutor

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Scope

    from taskorch.ext.people import Tokens

_LOG: Final = log_of(__name__)
#: The states of the service.
STATUSES: Final = ("idle", "running", "completed", "failed", "interrupted")
_EXECUTE: Final = "/api/v1/execute-suite"
#: A field of every refusal: a script that only reads `status` stops waiting.
_REFUSAL: Final = {"status": "failed"}
#: Refusals of callers who may not ask here at all, or not so often.
_OF_STRANGERS: Final = (401, 403, 421, 429)
#: The state of a task by its status in the report.
_STATES: Final = {STATUS[state]: state for state in TERMINAL} | {
    "blocked": TaskState.BLOCKED
}
_T = TypeVar("_T")
#: The errors of an operation on a run if there is none, or one that begins.
_NO_RUN: Final = (409, 503)
_MB_OF_GB: Final = 1024.0
_SEPARATOR: Final = re.compile(r"[\W_]+")

_POSITIVE: Final = {"type": "number", "exclusiveMinimum": 0}
_FLAG: Final = {"type": "boolean"}
_LIMITS: Final = {"max_memory_gb": "memory_mb", "max_cpu_cores": "cpu"}
_REQUEST: Final = asked(
    suite_name={**TEXT, "minLength": 1},
    phases={**listed(TEXT), "minItems": 1},
    timeout_seconds={**_POSITIVE, "maximum": MAX_SECONDS},
    resource_limits=asked(**dict.fromkeys(_LIMITS, _POSITIVE)),
    failed=_FLAG,
    fresh=_FLAG,
)
_STATUS: Final = {
    "type": "object",
    "required": ["status", "suite_name", "name", "version", "agents", "error"],
    "properties": {
        "status": {"enum": [*STATUSES]},
        "agents": listed(TEXT),
    },
}


@attrs.frozen
class RunRequest:
    """
    The request for a run.

    Attributes:
        suite: The suite, with the tasks to run, and their limits.
        name: The name that the caller gave it.
        timeout: Seconds after which unfinished tasks are cancelled; None is for ever.
        failed: Whether only what failed is run again.
        fresh: Whether it begins anew, whatever is there.
    """

    suite: Suite
    name: str
    timeout: float | None = None
    failed: bool = False
    fresh: bool = False


class SuiteRuns:
    """
    The runs of a suite, one at a time, and how far they are.

    *tell* is called with each task that has ended; the *settings* are more arguments of
    the orchestrator of each run.

    Raises:
        ValidationFailedError: The suite is not complete.
    """

    def __init__(
        self,
        suite: Suite,
        folder: Path,
        tell: Callable[[Ended], object] = lambda _: None,
        settings: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        check_complete(suite)
        self._settings = settings
        self.suite = suite
        self.folder = folder
        self._tell = tell
        self._lock = threading.Lock()
        self._status = "idle"
        self._name = suite.name
        self._error: Mapping[str, str] | None = None
        self._thread: threading.Thread | None = None
        #: An orchestrator for workers between two runs, where they wait with their
        #: leases.
        self._idle = self._between_runs()
        #: Attempts of earlier incarnations that workers have ended.
        self._ends = EndsKept(RunFolder(folder))
        self.workers = Workers(
            self._idle,
            None,
            partial(_await_run, self._idle),
            suite.monitoring.agent_timeout,
            self._ends,
        )
        #: The present run, or the last one of this incarnation.
        self._orch: TaskOrchestrator | None = None
        self._feed: Feed | None = None
        self._board: Board | None = None
        self._names: frozenset[str] = frozenset()
        self._report: SuiteReport | None = None
        self._is_ending = False

    # -- running -------------------------------------------------------------------

    def start(self, wanted: RunRequest) -> None:
        """
        Begin a run, or go on with the one that was interrupted.

        Raises:
            HttpProblem: One is running, the service ends, or there is no thread for it.
        """
        with self._lock:
            if self._is_ending:
                raise HttpProblem(503, "not_running", "the service ends")
            if self._thread is not None:
                raise HttpProblem(
                    *(409, "suite_running", "the suite is running already"),
                    hint="GET /api/v1/progress says how far it is",
                )
            thread = threading.Thread(
                target=self._run, args=(wanted,), name="taskorch-suite"
            )
            # The thread reports nothing of the run before it has the lock.
            try:
                thread.start()
            except RuntimeError as error:
                raise HttpProblem(
                    503, "no_room", f"no run can begin: {error}"
                ) from None
            self._thread = thread
            self._status, self._name, self._error = "running", wanted.name, None
            self._report, self._names = None, frozenset()
            before = self._board
            self._orch, self._feed, self._board = None, None, None
        if before is not None:
            # Pages that wait for news of the earlier run look for this one.
            before.close()

    def refuse(self, problem: HttpProblem) -> None:
        """Note, for requests of the status, that a run was refused."""
        with self._lock:
            if self._thread is None:
                self._status = "failed"
                self._error = _error(problem.code, problem.detail, problem.hint)

    def _between_runs(self) -> TaskOrchestrator:
        """An orchestrator in which workers elsewhere wait."""
        orch = TaskOrchestrator()
        self._watch(orch)
        return orch

    def _watch(self, orch: TaskOrchestrator) -> None:
        """Log which workers elsewhere *orch* loses while it has them."""

        def lost(event: AgentLost) -> None:
            if self._host is orch and not event.agent_id.startswith(OWN):
                _LOG.warning("worker %s: %s", visible(event.agent_id), event.reason)

        def returned(event: AgentReturned) -> None:
            if self._host is orch:
                _LOG.info("worker %s is there again", visible(event.agent_id))

        orch.signals.agent_lost.connect(lost)
        orch.signals.agent_returned.connect(returned)
        self._host = orch

    def _run(self, wanted: RunRequest) -> None:
        late: list[str] = []

        def begun(orch: TaskOrchestrator, suite: Suite) -> None:
            journal = JournalReader(RunFolder(self.folder).journal)
            feed, board = Feed(orch.signals, journal), Board()
            board.follow(orch.signals)
            with self._lock:
                self._orch, self._feed, self._board = orch, feed, board
                self._names = frozenset(part.id for part in parts_of(suite))
                is_ending = self._is_ending
            if is_ending:
                msg = "the service has ended before the run began"
                raise NotRunningError(msg)
            self._watch(orch)
            count = counted(len(parts_of(suite)), "task")
            _LOG.info("a run of %s begins, or goes on: %s", wanted.name, count)
            self._ends.begin(orch, lambda: self._is_ending)
            self.workers.move(orch, partial(join, orch, suite, RunFolder(self.folder)))

        status = "failed"
        error: Mapping[str, str] | None = None
        report: SuiteReport | None = None
        try:
            report = run(
                wanted.suite,
                self.folder,
                failed=wanted.failed,
                fresh=wanted.fresh,
                elsewhere=True,
                timeout=wanted.timeout,
                late=late.append,
                begun=begun,
                tell=self._tell,
                phase=partial(_LOG.info, "%s"),
                **self._settings,
            )
            status = "completed" if report.passed else "failed"
            _LOG.info("the run has ended: %s. %s", status, report.headline)
            _LOG.info("its report: %s", RunFolder(self.folder).report("html"))
            if late and not report.passed:
                hint = "ask for more timeout_seconds"
                error = _error("run_timed_out", late[0], hint)
        except TaskorchError as caught:
            if isinstance(caught, NotRunningError):
                status = "interrupted"
            error = _error(caught.code, caught.message, caught.hint)
        except Exception as caught:  # noqa: BLE001 - the status reports it
            _LOG.exception("a run of a suite could not go on")
            error = _error("error", f"the run could not go on: {caught}")
        finally:
            self._over(status, error, report)

    def _over(
        self,
        status: str,
        error: Mapping[str, str] | None,
        report: SuiteReport | None,
    ) -> None:
        """Note that the run has ended with *status*, and because of *error*, if any."""
        if error is not None:
            _LOG.error("the run is %s: %s", status, error["message"])
        # All events have been told, so that the streams end.
        self.close()
        self._ends.end()
        before, self._idle = self._idle, self._between_runs()
        self.workers.move(self._idle, partial(_await_run, self._idle))
        before.stop(drain=False)
        with self._lock:
            self._thread = None
            self._status, self._error, self._report = status, error, report

    def stop(self, *, drain: bool) -> None:
        """
        End: no run begins any more, and the one that there is is stopped.

        Args:
            drain: Whether tasks that can proceed may end, within `stop_timeout`.
                Unfinished ones go on in the next incarnation of the service.
        """
        with self._lock:
            self._is_ending = True
            orch, thread = self._orch, self._thread
        if orch is not None and drain:
            Inside(orch).end_service(with_queue=True)
        elif orch is not None:
            orch.stop(drain=False)
        if thread is not None:
            thread.join()
        self._idle.stop(drain=False)

    def close(self) -> None:
        """End the streams of those who follow the run."""
        with self._lock:
            feed, board = self._feed, self._board
        if feed is not None:
            feed.close()
        if board is not None:
            board.close()

    # -- questions -----------------------------------------------------------------

    def orchestrator(self) -> TaskOrchestrator:
        """
        The orchestrator of the present or the latest run, which still answers.

        Raises:
            HttpProblem: No run has begun since the service started, or one begins now.
        """
        with self._lock:
            return self._begun(self._orch)

    def check_not_over(self) -> None:
        """
        Refuse to change a run that has ended.

        Raises:
            HttpProblem: It has.
        """
        with self._lock:
            if self._orch is not None and self._thread is None:
                raise HttpProblem(
                    *(409, "not_running", "the run has ended: it is changed no more"),
                    hint='POST /api/v1/execute-suite, with {"failed": true} to run '
                    "again what failed",
                )

    def feed(self) -> Feed:
        """
        The events of the same run.

        Raises:
            HttpProblem: No run has begun since the service started, or one begins now.
        """
        with self._lock:
            return self._begun(self._feed)

    def board(self) -> Board:
        """
        Return the board of the same run, for the dashboard.

        Raises:
            HttpProblem: No run has begun since the service started, or one begins now.
        """
        with self._lock:
            return self._begun(self._board)

    def _begun(self, of_run: _T | None) -> _T:
        if of_run is None and self._thread is not None:
            raise HttpProblem(
                *(503, "run_begins", "the run begins, and has no tasks yet"),
                hint="ask again in a second",
                headers={"Retry-After": "1"},
            )
        if of_run is None:
            raise HttpProblem(
                *(_NO_RUN[0], "no_run", "no run of the suite has begun yet"),
                hint="POST /api/v1/execute-suite begins one",
            )
        return of_run

    @property
    def is_ready(self) -> bool:
        """True if a run may begin, or is under way."""
        return not self._is_ending

    def status(self) -> dict[str, Any]:
        """State and outcome of the run, and the workers elsewhere that are there."""
        workers = self.workers.names()
        with self._lock:
            return {
                "status": self._status,
                "suite_name": self._name,
                "name": self.suite.name,
                "version": self.suite.version,
                "agents": workers,
                "error": self._error,
            }

    def progress(self) -> dict[str, Any]:
        """Return the progress of the present run, or of the last one."""
        with self._lock:
            orch, names, report = self._orch, self._names, self._report
            is_running = self._thread is not None
        states: Mapping[str, TaskState] = {}
        doers: Mapping[str, str] = {}
        if report is not None:
            parts = [part for part in report.tasks if part.id in names]
            states = {part.id: _STATES[part.status] for part in parts}
            doers = {part.id: part.agent for part in parts if part.agent}
        elif orch is not None and is_running:
            try:
                all_states = orch.workflows.status(RUN).tasks
            except (UnknownTaskError, NotRunningError):
                # The run has not begun yet, or has just ended.
                all_states = dict.fromkeys(names, TaskState.PENDING)
            states = {
                name: state for name, state in all_states.items() if name in names
            }
            doers = _doers_of(orch, states)
        # A cancelled task may have begun, or not.
        idle = {
            name
            for name, state in states.items()
            if state is TaskState.BLOCKED
            or (state is TaskState.CANCELLED and name not in doers)
        }
        ended = sum(states[name] in TERMINAL for name in states.keys() - idle)

        def those(*wanted: TaskState) -> list[str]:
            return [
                n for n, state in states.items() if state in wanted and n not in idle
            ]

        return {
            "overall_progress": 100 * ended // len(states) if states else 0,
            "active_tasks": those(TaskState.RUNNING),
            "completed_tasks": those(TaskState.COMPLETED),
            "failed_tasks": those(TaskState.FAILED, TaskState.CANCELLED),
            "never_began": [name for name in states if name in idle],
            "total_tasks": len(states),
            "agents": dict(doers),
        }

    def metrics(self) -> bytes:
        """Return the metrics for Prometheus."""
        with self._lock:
            orch, status = self._orch, self._status
            is_running = self._thread is not None
        stats = None if orch is None else orch.get_stats()
        health = orch.health() if orch is not None and is_running else None
        return exposition(stats, health, status=status, statuses=STATUSES)


def _error(code: str, message: str, hint: str = "") -> dict[str, str]:
    return {"code": code, "message": message, "hint": hint}


def _await_run(
    idle: TaskOrchestrator, worker: Agent, executor: AttemptExecutor[Any]
) -> None:
    """Start *idle*, an orchestrator without tasks, and let a worker wait in it."""
    idle.start()
    admit(idle, worker, executor)


def _doers_of(orch: TaskOrchestrator, names: Iterable[str]) -> dict[str, str]:
    """The worker of the latest attempt of each of the tasks *names* that has begun."""
    doers = {}
    for name in names:
        with suppress(UnknownTaskError):
            worker = orch.get_task_status(f"{RUN}/{name}").agent_id
            if worker is not None:
                doers[name] = worker
    return doers


# -- the app ---------------------------------------------------------------------------


def suite_app(
    runs: SuiteRuns,
    *,
    token: str | None,
    hosts: Iterable[str] = LOOPBACK,
    tokens: Tokens | None = None,
) -> Starlette:
    """
    An ASGI app that runs a suite when it is asked to, and answers for its run.

    It has all operations of `create_app` but submissions: the work is the suite's.
    """
    tenancy = Tenancy(runs.orchestrator)
    of_run = existing(runs.orchestrator, runs.feed, tenancy)
    page = PageOperations(runs.orchestrator, runs.board, tenancy)
    operations = [
        *_Api(runs).operations(),
        *runs.workers.operations(),
        metrics(runs.metrics),
        *(_of_run(runs, operation) for operation in of_run),
        *(each if each.is_open else _of_run(runs, each) for each in page.operations()),
    ]

    def close() -> None:
        page.close()
        runs.close()
        runs.workers.close()

    def refused(scope: Scope, problem: HttpProblem) -> Mapping[str, Any]:
        is_run = (scope["method"], scope["path"]) == ("POST", _EXECUTE)
        if is_run and problem.status not in _OF_STRANGERS:
            runs.refuse(problem)
        return _REFUSAL

    problem: dict[str, Any] = copy.deepcopy(PROBLEM)
    problem["properties"]["status"] = {"const": "failed"}
    return make_app(
        operations,
        doors=Doors(token, tokens),
        orch=runs.orchestrator,
        hosts=hosts,
        close=close,
        schemas={**schemas(), "Problem": problem},
        refused=refused,
    )


def _of_run(runs: SuiteRuns, operation: Operation) -> Operation:
    """Return *operation* for the current run; it refuses to change an ended run."""
    refusing = attrs.evolve(operation, refuses=(*operation.refuses, *_NO_RUN))
    if operation.method != "POST":
        return refusing

    async def change(request: Request) -> Response | ASGIApp:
        runs.check_not_over()
        return await operation.endpoint(request)

    return attrs.evolve(refusing, endpoint=change)


def metrics_app(
    runs: SuiteRuns,
    *,
    token: str | None,
    hosts: Iterable[str] = LOOPBACK,
    tokens: Tokens | None = None,
) -> Starlette:
    """An ASGI app that has the metrics only, for a port of their own."""
    return make_app(
        [metrics(runs.metrics)],
        doors=Doors(token, tokens),
        orch=runs.orchestrator,
        hosts=hosts,
        close=lambda: None,
    )


class _Api:
    def __init__(self, runs: SuiteRuns) -> None:
        self._runs = runs

    def operations(self) -> list[Operation]:
        return [
            probe("livez", "Success as long as it is there.", lambda: True),
            probe(
                "readyz",
                "Success as long as it takes a run.",
                lambda: self._runs.is_ready,
            ),
            Operation(
                *("POST", _EXECUTE, "execute_suite"),
                "Run the suite, or go on with the run that was interrupted.",
                self._execute,
                body=_REQUEST,
                is_body_needed=False,
                status=202,
                answer=_STATUS,
                refuses=(409,),
            ),
            Operation(
                *(
                    "GET",
                    "/api/v1/status",
                    "status",
                    "Its present state, or its outcome.",
                ),
                self._status,
                answer=_STATUS,
            ),
            Operation(
                *("GET", "/api/v1/progress", "progress", "How far the run is."),
                self._progress,
            ),
            Operation(
                *("GET", "/api/v1/final-report", "final_report"),
                "The outcome of the run that has ended.",
                self._report,
                refuses=(404,),
            ),
        ]

    async def _execute(self, request: Request) -> Response:
        body = await read_object(request, _REQUEST, is_needed=False)
        self._runs.start(requested(self._runs.suite, body))
        status = await run_in_threadpool(self._runs.status)
        return answer(status, 202, Location="/api/v1/status")

    async def _status(self, _request: Request) -> Response:
        return answer(await run_in_threadpool(self._runs.status))

    async def _progress(self, _request: Request) -> Response:
        return answer(await run_in_threadpool(self._runs.progress))

    async def _report(self, _request: Request) -> Response:
        try:
            text = await run_in_threadpool(read_report, self._runs.folder, "json")
        except InvalidTaskError:
            error = (await run_in_threadpool(self._runs.status))["error"]
            why = "" if error is None else f": {error['message']}"
            raise HttpProblem(
                *(404, "no_report", f"no run has ended here{why}"),
                hint="GET /api/v1/status says whether one is under way",
            ) from None
        return answer(json.loads(text))


def requested(suite: Suite, body: Mapping[str, Any]) -> RunRequest:
    """
    The run that a request asks for, once it was checked by its description.

    Raises:
        HttpProblem: It makes no sense.
    """
    name = body.get("suite_name", suite.name)
    # A suite without a name of its own accepts every name.
    if suite.name != Suite().name and name not in names_of(suite):
        refuse("suite_name", f"there are {' and '.join(names_of(suite))}")
    timeout = None
    if "timeout_seconds" in body:
        timeout = _positive("timeout_seconds", body["timeout_seconds"])
    if "phases" in body:
        suite = _with_phases(suite, body["phases"])
    if "resource_limits" in body:
        suite = _with_limits(suite, body["resource_limits"])
    flags = {key: body.get(key, False) for key in ("failed", "fresh")}
    return RunRequest(suite, name, timeout, **flags)


def names_of(suite: Suite) -> list[str]:
    """Return the names of the suite in requests: its own, and by its first word."""
    first = _SEPARATOR.split(suite.name)[0]
    return [suite.name, f"{first}_full_suite"]


def _positive(path: str, value: object) -> float:
    try:
        return check_seconds(path, value, zero=False)
    except InvalidTaskError as error:
        refuse(path, error.message.removeprefix(f"{path}: "))


def _with_phases(suite: Suite, names: list[str]) -> Suite:
    path = "phases"
    all_names = [phase.name for phase in suite.phases]
    for i, name in enumerate(names):
        if name not in all_names:
            every = f"there are {', '.join(all_names)}"
            text = f"there is no such phase: {meant(name, all_names, every)}"
            refuse(f"{path}[{i}]", text)
    chosen = tuple(phase for phase in suite.phases if phase.name in names)
    chosen_ids = {task.id for phase in chosen for task in phase.tasks}
    for phase in chosen:
        for task in phase.tasks:
            for other in task.dependencies:
                if other not in chosen_ids:
                    text = f"{task.id} of {phase.name} needs {other}, which is in none"
                    refuse(path, f"{text} of these")
    return attrs.evolve(suite, phases=chosen)


def _with_limits(suite: Suite, limits: Mapping[str, float]) -> Suite:
    amounts = dict(suite.limits.resources)
    for name, value in limits.items():
        path = f"resource_limits.{name}"
        amount = _positive(path, value)
        if name == "max_memory_gb":
            amount *= _MB_OF_GB
        pool = _LIMITS[name]
        amounts[pool] = min(amount, amounts.get(pool, amount))
        for part in parts_of(suite):
            if part.resources.get(pool, 0.0) > amounts[pool]:
                refuse(path, f"{part.id} needs more than that")
    lowered = attrs.evolve(suite.limits, resources=Resources(**amounts))
    return attrs.evolve(suite, limits=lowered)
