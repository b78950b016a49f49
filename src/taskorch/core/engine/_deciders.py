"""
The user's policies, guarded: what the kernel asks, and what they are lent.

Decision: start-decisions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from copy import copy
from functools import wraps
from threading import current_thread, get_ident, main_thread
from time import monotonic
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol, TypeVar, cast

import attrs

from taskorch.core.kernel import (
    LESS,
    LOCAL,
    Again,
    Candidates,
    DecisionContext,
    Kernel,
    PolicyFault,
    PolicyGone,
    Ruling,
    Share,
    ShareView,
    Spec,
    TaskRow,
    WorkerRow,
    row_extra,
    shortage,
)
from taskorch.errors import (
    AttemptLostError,
    InvalidTaskError,
    NotRunningError,
    ReentryError,
    TaskFailedError,
    TaskTimeoutError,
    UnkeptResultError,
)
from taskorch.kit.checks import built_in, check_seconds
from taskorch.kit.fence import is_values
from taskorch.kit.frozen import ReadOnly, draft_of
from taskorch.kit.interrupts import (
    INTERRUPTS,
    defer_error,
    defers_interrupts,
    is_of_handler,
    takes_interrupts,
)
from taskorch.kit.limits import BLOCKING_SECONDS, NS, SLOW_POLICY_SECONDS
from taskorch.kit.members import answer_of, has, methods_of
from taskorch.kit.visible import is_text, show, with_article
from taskorch.model import (
    NO_RESOURCES,
    Call,
    Elastic,
    Elasticity,
    Missing,
    Program,
    Resources,
    Task,
    TaskState,
    Units,
    elasticity_of,
)
from taskorch.policies import (
    CapabilityRegistry,
    PriorityQueue,
    StandardStateMachine,
    StructuralValidator,
)
from taskorch.policies._allocator import DEFAULT_CHUNKS
from taskorch.policies._kinds import POLICIES, START_RULES, Policies
from taskorch.protocols import (
    AllocationRequest,
    AsksOthers,
    Backfills,
    Classifies,
    Failure,
    Finding,
    Learns,
    PoolView,
    RanksOwners,
    ResourceAllocator,
    RetryDecision,
    StateMachine,
    Transition,
    Verdict,
)
from taskorch.protocols._policies import Reuse, said_of, trusted

if TYPE_CHECKING:
    from taskorch.kit.extension import StartRule

# -- what policies of the user's are given to look at: what they change is their own ---

# Containers of Python's own are copied, and their elements are not: an array, a file or
# an object of the user's is the same for the task, its caller and every policy.


#: The most levels of containers that are copied; deeper ones are shared.
_MAX_DEPTH: Final = 20


def is_foreign(part: object) -> bool:
    """Return whether the class of *part* is the user's; ours change nothing."""
    return not type(part).__module__.startswith("taskorch.")


def _has_foreign(part: object) -> bool:
    if is_foreign(part):
        return True
    return has(part, AsksOthers) and any(map(_has_foreign, part.asks))


def lent_task(task: Task) -> Task:
    """Return *task* for a policy of the user's: a copy if it could be changed."""
    payload = task.payload
    changed: dict[str, object] = {}
    if type(payload) is Call:
        for arg in payload.args:
            if type(arg) in _MAKERS:
                break
        else:
            # Nearly every task needs no copy.
            kwargs = payload.kwargs
            if not task.metadata and not (kwargs and _can_change(kwargs.values())):
                return task
        args, kwargs = (
            copy_containers(payload.args),
            copy_containers(dict(payload.kwargs)),
        )
        changed["payload"] = Call(payload.fn, args, kwargs, payload.executor)
    else:
        changed["payload"] = copy_containers(payload)
    if task.metadata:
        changed["metadata"] = ReadOnly(copy_containers(dict(task.metadata)))
    # The copy keeps its checked fields, and knows what it was submitted as.
    copied = copy(task)
    for name, value in changed.items():
        object.__setattr__(copied, name, value)
    return copied


def _can_change(values: Iterable[Any]) -> bool:
    return not _MAKERS.keys().isdisjoint(map(type, values))


def copy_containers(value: Any) -> Any:
    """Return *value* with copies in the place of containers."""
    return _lent(value, {}, _MAX_DEPTH)


def _lent(value: Any, known: dict[int, Any], depth: int) -> Any:
    kind = type(value)
    make = _MAKERS.get(kind)
    if make is None or not depth:
        return value
    found = known.get(id(value))
    return make(value, known, depth - 1) if found is None else found


def _dict(value: dict[Any, Any], known: dict[int, Any], depth: int) -> Any:
    made: dict[Any, Any] = {}
    known[id(value)] = made
    for key, item in value.items():
        made[key] = _lent(item, known, depth)
    return made


def _list(value: list[Any], known: dict[int, Any], depth: int) -> Any:
    made: list[Any] = []
    known[id(value)] = made
    made += [_lent(item, known, depth) for item in value]
    return made


def _tuple(value: tuple[Any, ...], known: dict[int, Any], depth: int) -> Any:
    return tuple([_lent(item, known, depth) for item in value])


def _flat(value: Any, known: dict[int, Any], _depth: int) -> Any:
    made = known[id(value)] = value.copy()
    return made


_MAKERS: Final[dict[type, Callable[[Any, dict[int, Any], int], Any]]] = {
    dict: _dict,
    list: _list,
    tuple: _tuple,
    set: _flat,
    bytearray: _flat,
}


# -- the user's policies, guarded: what the kernel asks, as calls of the seven ---------

# A policy that raises or answers nonsense becomes a `PolicyFault`; one that calls the
# orchestrator is refused; one that is slow is reported.


T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

#: The one empty tuple, with which a Verdict begins.
_NO_FINDINGS: Final[tuple[()]] = ()
#: How often a policy is asked again after a signal handler has cut it short.
_ASKED_AGAIN: Final = 8
#: The resources that a task holds which is to start: none.
_NOTHING_HELD: Final[Mapping[str, int]] = MappingProxyType({})
#: The request for the allocator, which is made at every start.
_Request: Final = draft_of(AllocationRequest)
#: The rules that every task must satisfy, whatever a validator of the user's says.
_STRUCTURE: Final = StructuralValidator()
#: The methods of each of the seven policies.
METHODS: Final = {name: methods_of(protocol) for name, protocol in POLICIES.items()}


class _Questions(dict[str, tuple[str, Any]]):
    """The policy that has each method, and the class of its answer."""

    def __missing__(self, part: str) -> tuple[str, Any]:
        """Return *part* and any class: the caller checks such an answer itself."""
        return part, object


_QUESTIONS: Final = _Questions(
    {
        method: (name, answer_of(POLICIES[name], method))
        for name, methods in METHODS.items()
        if name not in START_RULES
        for method in methods
    }
)
# It is no method of the protocol.
_QUESTIONS["standing"] = ("queue", object)


def _watches(machine: StateMachine) -> Any:
    watches = said_of(machine, "check", "watches")
    if watches is None:
        return None
    pairs = []
    try:
        for pair in watches:
            before, after = pair
            before = None if before is None else TaskState(before)
            pairs.append((before, TaskState(after)))
    except (TypeError, ValueError) as error:
        msg = (
            "state_machine.watches is a collection of (before, after) pairs of "
            f"TaskState, not {show(watches)}"
        )
        raise InvalidTaskError(msg) from error
    return frozenset(pairs)


def _blame(component: str, error: BaseException) -> NoReturn:
    """
    Raise *error*, which reading an answer of *component* raised, as its fault.

    Attributes of an answer may be of any kind, and comparing or showing them may raise.
    """
    if isinstance(error, PolicyFault):
        raise error
    raise PolicyFault(component, error) from error


def _guarded(component: str) -> Callable[[F], F]:
    """Decorate a method: its exceptions are faults of *component*."""

    def wrap(method: F) -> F:
        @wraps(method)
        def ask(*args: Any) -> Any:
            try:
                return method(*args)
            except BaseException as error:
                # The fault is the component's.
                if not is_values(error):
                    raise
                _blame(component, error)

        return cast("F", ask)

    return wrap


_RULED: Final = Ruling()


class JudgesStarts(Protocol):
    """Protocol: has starts judged; see `taskorch.core.engine._governs`."""

    def is_asked(self, moment: str, name: str) -> bool:
        """Return whether a policy judges tasks of a type at *moment*."""
        ...

    def rule(self, row: TaskRow, now: int) -> Ruling:
        """Return the ruling of the policies on a start of *row*."""
        ...


class PolicyDeciders:
    """Answers the kernel's questions by the seven policies."""

    def __init__(self, parts: Policies, task_of: Callable[[TaskRow], Task]) -> None:
        self.parts = parts
        self.task_of = task_of
        self.kernel: Kernel
        self.context: DecisionContext
        self._outside: DecisionContext
        #: The thread that is inside a policy, or 0.
        self.asking: int = 0
        #: The mark of a copy in the child of a fork; 0 elsewhere.
        self.forked: int = 0
        #: Whether this machine, not a worker, runs a task, as far as is known.
        self.is_here: Callable[[TaskRow], bool] = lambda _: True
        #: Judges starts, if there are policies as data.
        self.governor: JudgesStarts | None = None
        #: Rules and limits of the program, which are asked before each start.
        self.limits: dict[str, StartRule] = dict(parts.start_rules())
        #: `(component, seconds)` of slow calls, for the runtime to report.
        self.slow: list[tuple[str, float]] = []
        #: Classes of the errors of attempts that end now, by the `id()` of the error.
        self._judged: dict[int, str] = {}
        self.aging_ns: int | None = None
        self.admits_all: bool = False
        self.max_age_ns: int | None = None
        self.watches: Any = _watches(parts.state_machine)
        #: Whether the allocator grants whatever fits, and nothing else.
        self.rigid: bool = bool(said_of(parts.allocator, "allocate", "rigid"))
        #: The sizes, in millionths, in which it grants parts of elastic requests.
        self._chunks: dict[str, int] = _chunks_of(parts.allocator)
        #: Whether the queue decides which tenant is served first.
        self.ranks: bool = has(parts.queue, RanksOwners)
        #: Whether later tasks may pass one that cannot start, without putting it off.
        self.backfills: bool = has(parts.queue, Backfills) and parts.queue.backfill
        #: Functions of the policies that learn: the arm that they chose for a task.
        self._choosers: tuple[Callable[[str, int], tuple[str, float] | None], ...] = (
            tuple(part.choice_of for part in parts.having(Learns))
        )
        self.learns: bool = bool(self._choosers)
        #: The values of `reusable` in an answer that are trusted, by method.
        self._trusted: dict[str, frozenset[Reuse]] = {
            method: trusted(getattr(parts, name), method)
            for name, methods in METHODS.items()
            for method in methods
        }
        #: Whether the validator looks only at the form of tasks. If other components
        #: that see submissions are our own, too, asking again does no harm, nor does
        #: asking about a task that is never submitted.
        self.is_structural: bool = (
            type(parts.validator) is StructuralValidator
            and StructuralValidator in self._trusted["validate"]
        )
        self.is_standard: bool = (
            type(parts.queue) is PriorityQueue
            and type(parts.state_machine) is StandardStateMachine
            and type(parts.registry) is CapabilityRegistry
        )
        #: The policies of the user's classes, and those that ask one.
        self._foreign: frozenset[str] = frozenset(
            name for name in POLICIES if _has_foreign(getattr(parts, name))
        )
        #: Whether all policies are our own, so that answers under the lock take no
        #: time.
        self.are_own: bool = not self._foreign
        self._first_key: Any = None
        #: The pools of the kernel, and their views for the allocator.
        self._pools: tuple[Mapping[str, object], Mapping[str, PoolView]] = ({}, {})
        #: The threads that are inside the validator, and since when.
        self._validating: dict[int, float] = {}
        #: The policy that is asked under the lock, and since when.
        self._asked: tuple[str, float] = ("", 0.0)

    def bind(self, kernel: Kernel) -> None:
        """Answer questions of *kernel* from now on."""
        self.kernel = kernel
        self.context = kernel.context
        # The validator has a context of its own: the kernel's is used under the lock.
        self._outside = DecisionContext(kernel, kernel.context.random)
        for name, limit in self.limits.items():
            self.add_limit(name, limit)

    def add_limit(self, name: str, limit: StartRule) -> None:
        """Have *limit* asked before starts, of this kernel and of later ones."""
        from taskorch.core.kernel import AddedLimit  # noqa: PLC0415 - few have any

        self.limits[name] = limit
        AddedLimit(self.kernel, name, limit)

    def refuse_reentry(self) -> None:
        """
        Raise if user code may not enter the orchestrator here.

        Raises:
            ReentryError: The caller is inside a policy.
            NotRunningError: The caller is a child of the process that began it.
        """
        if self.forked:
            self.refuse_forked()
        if self.asking == get_ident():
            msg = "a policy called the orchestrator that is asking it"
            raise ReentryError(msg)

    def asked(self) -> list[tuple[str, float, int]]:
        """Return the policies being asked: name, since when, and the thread."""
        ident, (component, since) = self.asking, self._asked
        found = [(component, since, ident)] if ident > 0 else []
        validating = self._validating.copy().items()
        return found + [("validator", since, ident) for ident, since in validating]

    def refuse_forked(self) -> None:
        """
        Raise in the child of a fork.

        Raises:
            NotRunningError: The caller is a child of the process that began it.
        """
        if self.forked:
            msg = "this orchestrator belongs to the process that forked this one"
            raise NotRunningError(msg, hint="make a new one in the child")

    @defers_interrupts
    def _ask(
        self,
        question: str,
        ask: Callable[..., T],
        now: int,
        about: Any,
        given: Any = None,
    ) -> T:
        component, cls = _QUESTIONS[question]
        context = self.context
        context.now_ns = now
        cut_short = 0
        while True:
            began = monotonic()
            self._asked = component, began
            self.asking = get_ident()
            try:
                if given is None:
                    answer = ask(about, context)
                else:
                    answer = ask(about, given, context)
                break
            except BaseException as error:
                if _is_from_outside(error):
                    if not isinstance(error, INTERRUPTS) and cut_short < _ASKED_AGAIN:
                        # The error of a signal handler waits for the end of the step.
                        defer_error(error)
                        cut_short += 1
                        continue
                    if not isinstance(error, Exception):
                        raise
                raise PolicyFault(component, error) from error
            finally:
                self.asking = 0
                took = monotonic() - began
                if took > SLOW_POLICY_SECONDS:
                    self.slow.append((component, took))
        if type(answer) is not cls and not isinstance(answer, cls):
            wanted = with_article(cls.__name__)
            _refuse(component, f"it returned {show(answer)}, not {wanted}")
        # The reason stands in events, which the journal keeps, and in explanations.
        reason: object = getattr(answer, "reason", "")
        if type(reason) is not str and reason is not None:
            _check_text(component, "reason", reason)
        return answer

    def _task_for(self, component: str, row: TaskRow) -> Task:
        """Return the task of *row*; a copy if *component* could change it."""
        task = self.task_of(row)
        return lent_task(task) if component in self._foreign else task

    def _is_trusted(self, method: str, said: Any) -> bool:
        """Return whether *said*, the `reusable` of an answer, can be trusted."""
        return said in self._trusted[method]

    # -- the seven -----------------------------------------------------------------

    def validate(self, task: Task, now: int, *, formed: bool = False) -> Verdict:
        """
        Return the answer of the validator; it is asked outside the lock.

        A malformed task is refused before a validator of the user's sees it. *formed*
        says that the task was made by us, and is well formed.
        """
        if not formed and type(self.parts.validator) is not StructuralValidator:
            verdict = _STRUCTURE.validate(task, self.context)
            if not verdict.accepted:
                return verdict
        asked: Any = task.resources
        # To ask a value of the user's for its class may raise.
        if issubclass(type(asked), Elastic):
            why = self._undivided(asked)
            if why:
                return Verdict((Finding("resources", why),))
        verdict = self._ask_unlocked(task, now)
        if not isinstance(verdict, Verdict):
            _refuse("validator", f"it returned {show(verdict)}, not a Verdict")
        said = verdict.reusable
        if said is not False and not self._is_trusted("validate", said):
            verdict = attrs.evolve(verdict, reusable=False)
        findings: object = verdict.findings
        if findings is _NO_FINDINGS:
            return verdict
        if not isinstance(findings, tuple | list) or not all(
            isinstance(finding, Finding) for finding in findings
        ):
            _refuse(
                "validator",
                f"its findings are {show(findings)}, not a tuple of Finding",
            )
        for finding in findings:
            _check_text("validator", "path", finding.path)
            _check_text("validator", "message", finding.message)
        return verdict

    @takes_interrupts
    def _ask_unlocked(self, task: Task, now: int) -> Verdict:
        ident = get_ident()
        if ident in self._validating:
            msg = "the validator submitted a task, for which it would be asked again"
            raise ReentryError(msg)
        context = self._outside
        context.now_ns = now
        component = "validator"
        began = monotonic()
        try:
            self._validating[ident] = began
            if "validator" in self._foreign:
                task = lent_task(task)
            return self.parts.validator.validate(task, context)
        except INTERRUPTS:
            # The validator may take long, so an interrupt can end the wait for it.
            raise
        except BaseException as error:
            if _is_from_outside(error):
                raise
            raise PolicyFault(component, error) from error
        finally:
            self._validating.pop(ident, None)
            took = monotonic() - began
            if took > BLOCKING_SECONDS:
                # Only this caller has waited for it.
                self.slow.append((component, took))

    @_guarded("registry")
    def match(
        self, row: TaskRow, workers: Sequence[WorkerRow], now: int
    ) -> tuple[tuple[str, ...], str, bool]:
        """See `Deciders.match`."""
        # The built-in worker has no handler: it does tasks that need none, unasked.
        local = [worker for worker in workers if worker.name == LOCAL]
        workers = [worker for worker in workers if worker.name != LOCAL]
        views = [worker.view for worker in workers]
        task = self._task_for("registry", row)
        if local and _is_for_here(task, local[0], workers) and self.is_here(row):
            return (LOCAL,), "the machine of the local worker is as it requires", False
        answer = self._ask("matches", self.parts.registry.matches, now, task, views)
        named: object = answer.agents
        if not isinstance(named, tuple | list):
            _refuse("registry", f"its workers are {show(named)}, not a tuple of names")
        names = tuple(dict.fromkeys(answer.agents))
        known = {worker.name: None for worker in workers}
        for name in names:
            if name not in known:
                _refuse("registry", f"it named {name!r}, which is no worker")
        return names, answer.reason, self._is_trusted("matches", answer.reusable)

    def route(
        self, row: TaskRow, candidates: Candidates, now: int
    ) -> tuple[WorkerRow, str, bool]:
        """See `Deciders.route`."""
        task = self._task_for("router", row)
        # Our routers neither keep the views nor change them.
        views = (
            candidates.views.copy() if "router" in self._foreign else candidates.views
        )
        try:
            answer = self._ask("route", self.parts.router.route, now, task, views)
            chosen: object = answer.agent
            said = answer.reusable
            workers = self.kernel.workers
            worker = workers.get(chosen) if isinstance(chosen, str) else None
            if worker is not None and worker in candidates:
                reusable = said is not False and self._is_trusted("route", said)
                return worker, answer.reason, reusable
            names = ", ".join(worker.name for worker in candidates)
            _refuse("router", f"it chose {show(chosen)}, not one of {names}")
        except BaseException as error:
            # The error is the router's.
            if not is_values(error):
                raise
            _blame("router", error)

    def order(self, row: TaskRow, priority: int, now: int) -> Any:
        """See `Deciders.order`."""
        task = self._task_for("queue", row)
        if task.priority != priority:
            task = attrs.evolve(task, priority=priority)
        try:
            answer = self._ask("order", self.parts.queue.order, now, task)
            if answer.aging is None:
                key = answer.key
                is_number = type(key) is int and self._first_key == "number"
                return key if is_number else self._check_key(key)
            aging = int(check_seconds("aging", answer.aging) * NS)
            key = self._check_key(now - priority * aging)
            if self._is_trusted("order", answer.reusable):
                self.aging_ns = aging
        except BaseException as error:
            # The error is the queue's.
            if not is_values(error):
                raise
            _blame("queue", error)
        return key

    def _check_key(self, key: Any) -> Any:
        shape = _shape(key)
        if shape is None:
            _refuse("queue", f"{show(key)} is no key: use a number, or a tuple of them")
        if self._first_key is None:
            self._first_key = shape
        elif self._first_key != shape:
            _refuse(
                "queue", f"the key {show(key)} cannot be compared with earlier ones"
            )
        return key

    @_guarded("queue")
    def standing(self, share: Share, now: int) -> float:
        """See `Deciders.standing`."""
        queue: Any = self.parts.queue
        view = ShareView(self.kernel, share)
        answer: object = self._ask("standing", queue.standing, now, view)
        if isinstance(answer, bool) or not isinstance(answer, int | float):
            _refuse("queue", f"a standing is a number, not {show(answer)}")
        if math.isnan(answer):
            _refuse("queue", "a standing is a number, not NaN")
        return answer

    def ask_of_choices(
        self, choice_of: Callable[[str, int], tuple[str, float] | None]
    ) -> None:
        """Have *choice_of* asked, as an attempt begins, which arm was chosen."""
        self._choosers += (choice_of,)
        self.learns = True

    def choice(self, row: TaskRow) -> tuple[str, float] | None:
        """See `Deciders.choice`; the choices of several policies are joined."""
        try:
            found = [choose(row.id, row.attempt) for choose in self._choosers]
            said = [choice for choice in found if choice is not None]
            if not said:
                return None
            arms = " + ".join(str(arm) for arm, _ in said)
            return arms, math.prod(float(probable) for _, probable in said)
        except BaseException as error:
            # The attempt has begun: it goes on without a probability.
            if not is_values(error):
                raise
            return None

    def expected(self, row: TaskRow) -> int | None:
        """See `Deciders.expected`."""
        seconds = self.task_of(row).expected
        return None if seconds is None else int(seconds * NS)

    def admit(self, row: TaskRow, now: int) -> tuple[str | None, int | None]:
        """See `Deciders.admit`."""
        task = self._task_for("queue", row)
        try:
            answer = self._ask("admit", self.parts.queue.admit, now, task)
            max_age = None
            if answer.max_age is not None:
                max_age = int(check_seconds("max_age", answer.max_age) * NS)
            if answer.admitted is not True:
                _check_flag("queue", "admitted", answer.admitted)
                return answer.reason or "no reason given", max_age
            said = answer.reusable
            if said is not False and self._is_trusted("admit", said):
                self.admits_all = True
                self.max_age_ns = max_age
        except BaseException as error:
            # The error is the queue's.
            if not is_values(error):
                raise
            _blame("queue", error)
        return None, max_age

    @_guarded("state_machine")
    def check(
        self,
        row: TaskRow,
        before: TaskState | None,
        after: TaskState,
        reason: str,
        now: int,
    ) -> str | None:
        """See `Deciders.check`."""
        transition = Transition(row.id, row.bucket.spec.type, before, after, reason)
        answer = self._ask("check", self.parts.state_machine.check, now, transition)
        _check_flag("state_machine", "allowed", answer.allowed)
        return None if answer.allowed else answer.reason or "no reason given"

    @defers_interrupts
    def label(self, state: TaskState) -> str:
        """Return the user's name of *state*; ours if theirs fails."""
        asking, self.asking = self.asking, get_ident()
        try:
            return str(self.parts.state_machine.label(state))
        except BaseException as error:
            if _is_from_outside(error):
                raise
            # A label is not worth a failure.
            return state.value
        finally:
            self.asking = asking

    def ask_program(self, part: str, ask: Callable[[], T]) -> T:
        """See `Deciders.ask_program`."""
        return self._ask(part, lambda _, __: ask(), self.context.now_ns, None)

    def is_judged(self, task_type: str) -> bool:
        """See `Deciders.is_judged`."""
        governor = self.governor
        return governor is not None and governor.is_asked("start", task_type)

    @_guarded("governance")
    def judge(self, row: TaskRow, now: int) -> Ruling:
        """See `Deciders.judge`."""
        governor = self.governor
        return _RULED if governor is None else governor.rule(row, now)

    @_guarded("join")
    def join(self, row: TaskRow, states: dict[str, TaskState], now: int) -> bool:
        """See `Deciders.join`."""
        predicate: Any = self.task_of(row).join
        if isinstance(predicate, Missing):
            component = "join"
            raise PolicyGone(component, InvalidTaskError(predicate.why))
        answer = self._ask("join", lambda about, _: predicate(about), now, states)
        _check_flag("join", "its answer", answer)
        return answer is True

    @_guarded("retry_handler")
    def retry(
        self,
        row: TaskRow,
        error: BaseException | None,
        cause: str,  # noqa: ARG002 - the row has the error, too
        elapsed_ns: int,
        now: int,
    ) -> Again:
        """See `Deciders.retry`."""
        if isinstance(error, UnkeptResultError) and error.task_id == row.id:
            return Again(retry=False, reason="what it returned cannot be kept")
        error = failure_of(row) if error is None else error
        kind_of_failure = self.kind_of(error)
        less = _less(row) if kind_of_failure == "memory_error" else ""
        if less:
            reason = f"now it gets all that it asked for; it had less than that: {less}"
            return Again(
                retry=True, reason=reason, kind=kind_of_failure, blameless="undersized"
            )
        extra = row_extra(row)
        task = self._task_for("retry_handler", row)
        usage = Resources.from_units(extra.usage) if extra.usage else NO_RESOURCES
        failure = Failure(
            task,
            error,
            extra.charged + 1,
            elapsed_ns / NS,
            extra.last_delay_ns / NS,
            "" if row.worker is None else row.worker.name,
            kind_of_failure,
            usage,
            extra.first_timeout_ns / NS if extra.first_timeout_ns else None,
            self._rules(),
        )
        answer = self._ask("decide", self.parts.retry_handler.decide, now, failure)
        _check_flag("retry_handler", "retry", answer.retry)
        if answer.ask and answer.retry:
            _refuse("retry_handler", "it asks a person, and there is another attempt")
        delay = int(check_seconds("delay", answer.delay) * NS)
        kind, ask = str(answer.kind or failure.kind), str(answer.ask)
        spec, changed = changed_by(answer, self.task_of(row), row.bucket.spec)
        return Again(answer.retry, delay, answer.reason, kind, spec, ask, changed)

    def kind_of(self, error: BaseException) -> str:
        """
        Return the class of failure of *error*, by the retry handler's rules first.

        Without the extension for classes of failures, each is `unknown`.
        """
        if (name := self._judged.get(id(error))) is not None:
            return name
        # The module is loaded before: see `load_failures`.
        recovery = built_in("recovery")
        if recovery is None:
            return "unknown"
        return str(recovery.classify(error, rules=self._rules()).name)

    def _rules(self) -> Collection[Any]:
        handler = self.parts.retry_handler
        return handler.classes if has(handler, Classifies) else ()

    def judge_ahead(self, error: BaseException) -> None:
        """Note the class of *error* until `forget_ahead`, while nobody waits."""
        try:
            self._judged[id(error)] = self.kind_of(error)
        except BaseException as raised:
            # A rule of the user's raised it, and raises it again where that is told.
            if not is_values(raised):
                raise

    def forget_ahead(self, error: BaseException) -> None:
        """Forget the class of *error*, whose attempt has ended."""
        self._judged.pop(id(error), None)

    def changed(self, row: TaskRow, answer: Again) -> None:
        """See `Deciders.changed`."""
        if answer.cargo is not None:
            row.cargo._task = answer.cargo

    def least(self, request: Units, elastic: Elasticity) -> Units:
        """See `Deciders.least`."""
        named, chunks = dict(elastic[0]), self._chunks
        found = []
        for name, need in request:
            chunk = chunks.get(name, need)
            # The amount is rounded up to whole chunks.
            least = max(1, -(-named.get(name, 0) // chunk)) * chunk
            found.append((name, min(need, least)))
        return tuple(found)

    def _undivided(self, wanted: Elastic) -> str:
        """
        Return why the allocator would not grant *wanted* from its `min` up, or "".

        It has no chunk for a resource that `min` names. An allocator that divides
        nothing at all grants all requests whole, which somebody chose.
        """
        chunks, asked = self._chunks, dict(wanted.units)
        for name, units in wanted.min.units:
            if chunks and name not in chunks and units < asked[name]:
                sizes = {known: size / 1e6 for known, size in chunks.items()} | {
                    name: 1
                }
                said = ", ".join(f"{part!r}: {size:g}" for part, size in sizes.items())
                return (
                    f"{name} is granted whole, since the allocator has no chunk of it: "
                    f"allocator=ProportionalAllocator({{{said}}}) divides it"
                )
        return ""

    def allocate(
        self,
        row: TaskRow,
        worker: WorkerRow,
        request: Units,
        now: int,
        least: Units | None = None,
        held: Units | None = None,
    ) -> tuple[Units | None, str, bool]:
        """See `Deciders.allocate`."""
        question = _Request()
        question.task = self._task_for("allocator", row)
        question.agent = worker.view
        question.resources = Resources.from_units(request) if request else NO_RESOURCES
        question.least = question.held = None
        question.attempt = row.attempt + 1
        question.weight, question.fallback = 1.0, "best_effort"
        elastic = row.bucket.spec.elastic
        if elastic is not None and least is not None:
            question.least = Resources.from_units(least)
            question.weight, question.fallback = elastic[1] / 1_000_000, elastic[2]
            if held is not None:
                question.held = Resources.from_units(held)
                question.attempt = row.attempt
        question.__class__ = AllocationRequest
        known, pools = self._pools
        if known is not self.kernel.pools:
            known = self.kernel.pools
            pools = MappingProxyType(self.kernel.context.view.pools())
            self._pools = known, pools
        try:
            ask = self.parts.allocator.allocate
            answer = self._ask("allocate", ask, now, question, pools)
            granted, reason = answer.granted, answer.reason
            if granted is None:
                return None, reason, False
            if type(granted) is not Resources and not isinstance(granted, Resources):
                _refuse("allocator", f"it granted {show(granted)}, not Resources")
            if granted.units:
                own = dict(held) if held else _NOTHING_HELD
                self._check_grant(granted.units, dict(request), own)
            if least is not None:
                _check_part(dict(granted.units), worker, least, dict(held or ()))
            said = answer.reusable
            reusable = said is not False and self._is_trusted("allocate", said)
        except BaseException as error:
            # The error is the allocator's.
            if not is_values(error):
                raise
            _blame("allocator", error)
        return granted.units, reason, reusable

    def _check_grant(
        self, granted: Units, asked: Mapping[str, int], own: Mapping[str, int]
    ) -> None:
        for name, units in granted:
            pool = self.kernel.pools.get(name)
            free = 0 if pool is None else max(0, pool.total - pool.used)
            if units > free + own.get(name, 0):
                _refuse("allocator", f"it granted more {name} than is free")
            if units > asked.get(name, 0):
                _refuse("allocator", f"it granted more {name} than was asked")


def _less(row: TaskRow) -> str:
    """
    Return why the first attempt of *row* had less than it asked for, or "".

    It is "" for a task that is not idempotent, too, since it is not attempted again,
    and for an elastic one, since that may get less again.
    """
    spec = row.bucket.spec
    is_first = row.attempt == 1 and spec.idempotent and spec.elastic is None
    return row.reason.partition(LESS)[2] if is_first else ""


def _chunks_of(allocator: ResourceAllocator) -> dict[str, int]:
    """
    Return the sizes in which it grants parts of elastic requests, in millionths.

    Raises:
        InvalidTaskError: Its chunks are no mapping of names to amounts.
    """
    chunks = said_of(allocator, "allocate", "chunks")
    if chunks is None:
        return {}
    found = dict(Resources.of(chunks, "allocator.chunks").units)
    if len(found) < len(chunks):
        msg = f"allocator.chunks: a chunk is more than 0, not in {show(chunks)}"
        raise InvalidTaskError(msg, hint="leave out what is not to be divided")
    return found


def check_chunks(allocator: ResourceAllocator, pools: Units) -> None:
    """
    Refuse chunks that the user has chosen and that are larger than the *pools*.

    Raises:
        InvalidTaskError: A chunk is larger, so no part of that pool could be granted.
    """
    if said_of(allocator, "allocate", "chunks") is DEFAULT_CHUNKS:
        return
    chunks = _chunks_of(allocator)
    for name, total in pools:
        if chunks.get(name, 0) > total:
            chunk = f"{chunks[name] / 1e6:g}"
            msg = f"a chunk of {name} is {chunk}, and the pool has {total / 1e6:g}"
            hint = f"a chunk of at most {total / 1e6:g}, or a pool of {chunk} or more"
            raise InvalidTaskError(msg, hint=hint)


def _check_part(
    granted: Mapping[str, int],
    worker: WorkerRow,
    least: Units,
    own: Mapping[str, int],
) -> None:
    """Refuse a granted part that is too small, or too large for *worker*."""
    for name, units in least:
        if granted.get(name, 0) < units:
            _refuse("allocator", f"it granted less {name} than its least")
    if shortage(worker, tuple([(n, units - own.get(n, 0)) for n, units in least])):
        # The task could not start there, and `explain` asks why.
        return
    for name, units in granted.items():
        if name in worker.capacity and units > worker.free(name) + own.get(name, 0):
            _refuse("allocator", f"it granted more {name} than {worker.name} has free")


def _shape(key: object) -> object:
    """Return the kind of keys that *key* compares with; None if with none."""
    kind = type(key)
    if kind is int or kind is float:
        return "number" if key == key else None  # noqa: PLR0124 - all but NaN
    if isinstance(key, bool):
        return None
    if isinstance(key, int | float):
        return None if math.isnan(key) else "number"
    if isinstance(key, str):
        return "text"
    if isinstance(key, tuple):
        parts = tuple(_shape(part) for part in key)
        return None if not parts or None in parts else parts
    return None


def _is_for_here(task: Task, local: WorkerRow, workers: Iterable[WorkerRow]) -> bool:
    """
    Return whether *task*, for which no worker is named, is to run on *local*.

    It is if it is a function or program that requires only labels of its machine,
    unless a worker has a capability of the same name.
    """
    if task.requires is None or not isinstance(task.payload, (Call, Program)):
        return False
    needs = set(task.requires)
    return (
        bool(needs)
        and needs.issubset(local.info.labels)
        and all(needs.isdisjoint(worker.info.capabilities) for worker in workers)
    )


def _refuse(component: str, what: str) -> NoReturn:
    raise PolicyFault(component, ValueError(what))


def _check_text(component: str, name: str, value: object) -> None:
    if not is_text(value):
        _refuse(component, f"its {name} is {show(value)}, not a text")


def _check_flag(component: str, name: str, value: object) -> None:
    if value is not True and value is not False:
        _refuse(component, f"{name} is {show(value)}, not True or False")


def _is_from_outside(error: BaseException) -> bool:
    """Return whether a signal, not the policy, raised *error*."""
    if current_thread() is not main_thread():
        return False
    return isinstance(error, INTERRUPTS) or is_of_handler(error)


def changed_by(
    answer: RetryDecision, task: Task, spec: Spec
) -> tuple[Spec | None, Task | None]:
    """Return *spec* and *task* as *answer* changes them; None for what it does not."""
    resources, timeout = answer.resources, answer.timeout
    workers: Any = answer.avoid
    workers = () if workers is None else workers
    if isinstance(workers, str) or not isinstance(workers, Iterable):
        _refuse("retry_handler", f"avoid is a list of workers, not {show(workers)}")
    avoid = [*workers]
    for name in avoid:
        _check_text("retry_handler", "worker to avoid", name)
    if resources is None and timeout is None and not avoid:
        return None, None
    changes: dict[str, Any] = {}
    if resources is not None:
        if not isinstance(resources, Resources | Elastic):
            _refuse("retry_handler", f"resources: {show(resources)} are none")
        changes["resources"] = resources
    if timeout is not None:
        changes["timeout"] = check_seconds("timeout", timeout, zero=False, none=True)
    changed = attrs.evolve(task, **changes)
    names = dict(spec.spends)
    units = changed.resources.units
    spec = attrs.evolve(
        spec,
        resources=tuple(pair for pair in units if pair[0] not in names),
        spends=tuple(pair for pair in units if pair[0] in names),
        elastic=elasticity_of(changed.resources),
        avoid=tuple(sorted({*spec.avoid, *avoid})),
    )
    if timeout is not None:
        spec = attrs.evolve(spec, timeout_ns=max(1, int(timeout * NS)))
    return spec, changed if changes else None


def failure_of(row: TaskRow) -> BaseException:
    """Return the error of a failure that no code raised, such as a timeout."""
    extra = row.extra
    kind, message, cause = (extra.error if extra is not None else None) or (
        "TaskFailedError",
        "it failed",
        "error",
    )
    if cause in ("timeout", "deadline"):
        return TaskTimeoutError(f"task {row.id}: {message}", task_id=row.id)
    if cause == "lost":
        return AttemptLostError(f"task {row.id}: {message}", task_id=row.id)
    return TaskFailedError(f"task {row.id}: {message}", type=kind, task_id=row.id)
