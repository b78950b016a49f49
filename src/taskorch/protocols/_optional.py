"""
What a policy may have besides the methods of its protocol, and whether it has it.

No policy needs to inherit from these: it is asked for their members, by name, and what
is None counts as not there. What is there in another form is refused by its name when
the orchestrator, or the simulation, is made.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from inspect import iscoroutinefunction, signature
from typing import Any, Final, Protocol, runtime_checkable

from taskorch._base.members import arguments_of, members_of, methods_of
from taskorch.errors import InvalidTaskError
from taskorch.events import Event
from taskorch.model import Resources, TaskState, check_seconds, show
from taskorch.protocols._context import Context, OwnerView
from taskorch.protocols._durable_journal import DurableJournal
from taskorch.protocols._policies import (
    ResourceAllocator,
    RetryHandler,
    StateMachine,
    TaskQueue,
    TaskRouter,
    Validator,
)


@runtime_checkable
class Learns(Protocol):
    """
    A policy that learns from what becomes of tasks: it says what it has chosen.

    It needs all three methods. `taskorch.adaptive.Learned` is one. Events that it
    connects to in `attach` say what became of an attempt, and `TaskRewarded` what
    `orch.reward_task` has said of one; `orch.emit(name, payload, keep=…)` keeps what it
    has learnt for `restore`. In a `Simulation` it is neither attached nor restored, but
    asked what it has chosen; and it may hear of events there (`Hears`).
    """

    def choice_of(self, task_id: str, attempt: int) -> tuple[str, float] | None:
        """
        The name of what was chosen for an attempt, and how probable that was.

        It is asked once as an attempt begins, under the orchestrator's lock, and stands
        in `TaskStarted.choice`: so it is asked where a journal keeps that event, or
        anybody hears of it, as one does who connects to `signals.task_started` in
        `attach`. None: nothing was chosen. If it raises, the attempt begins all the
        same, and no choice is told.
        """
        ...

    def attach(self, orchestrator: Any) -> None:
        """
        Become a part of *orchestrator*, at the end of its making: hear its `signals`.

        What it raises, the constructor of the orchestrator raises, too.
        """
        ...

    def restore(self, kept: Callable[[str], Any]) -> None:
        """
        Go on with what an earlier life has learnt.

        It is called by `start`, if there is a journal. What it raises, `start` raises,
        and nothing has begun.

        Args:
            kept: Gives the payload of the latest event of a name that is kept, or None.
        """
        ...


@runtime_checkable
class Recalls(Protocol):
    """A policy that `Learns`, and reads the facts of earlier lives in their journal."""

    def recall(self, journal: DurableJournal, last: int) -> None:
        """
        Learn what the facts of earlier lives say; called by `start`, after `restore`.

        What it raises, `start` raises, and nothing has begun.

        Args:
            journal: The journal.
            last: The number of the last fact of earlier lives.
        """
        ...


@runtime_checkable
class Hears(Protocol):
    """A policy that hears of facts in a `Simulation`, where nothing is attached."""

    def hear(self, event: Event) -> None:
        """
        Take notice of *event*; called for each fact, in order, before it is kept.

        What it raises, `run` of the simulation raises.
        """
        ...


@runtime_checkable
class Named(Protocol):
    """An arm of `taskorch.adaptive.Learned` with a name; others have their class's."""

    @property
    def name(self) -> str:
        """By which what was learnt of it is known again; read as `Learned` is made."""
        ...


@runtime_checkable
class AsksOthers(Protocol):
    """A policy that asks others: what may change is lent to it as it is to them."""

    @property
    def asks(self) -> Collection[Any]:
        """
        The policies that it asks; read as the orchestrator is made.

        If one of them is of a class of yours, so is this one, as far as it concerns
        what may be changed: it is given a copy of the task.
        """
        ...


@runtime_checkable
class WaitsForBetter(Protocol):
    """A router by which a task waits for a busy agent if those with room only fail."""

    @property
    def waits_for_better(self) -> bool:
        """Whether it does; read as the orchestrator is made."""
        ...


@runtime_checkable
class WatchesTransitions(Protocol):
    """A state machine that is asked about some transitions only."""

    @property
    def watches(self) -> Collection[tuple[TaskState | None, TaskState]]:
        """
        Pairs of states before and after: `check` is asked about these; read once.

        It counts if it is said where `check` is defined, or by a class derived from it.
        """
        ...


@runtime_checkable
class RanksOwners(Protocol):
    """A queue by which owners share: it says which of them is served first."""

    def standing(self, owner: OwnerView, context: Context) -> float:
        """
        Where *owner* stands, as a number: the lowest is served first.

        Of equals, the one that was served longest ago is. It is asked under the lock,
        again when what is held for the owner has changed, or what it wants. If it
        raises, or answers no number, a task of that owner fails.
        """
        ...


@runtime_checkable
class Backfills(Protocol):
    """A queue whose first task has room kept for it; it has no method `standing`."""

    @property
    def backfill(self) -> bool:
        """
        Whether later tasks pass one that cannot start only if it is not put off by it.

        Read as the orchestrator is made.
        """
        ...


@runtime_checkable
class SetsGrace(Protocol):
    """A retry handler that says how long what is asked to stop has for that."""

    @property
    def timeout_grace_period(self) -> float | timedelta | None:
        """
        Seconds, where nothing is said by `grace=`; None: the usual.

        Read as the orchestrator is made.
        """
        ...


@runtime_checkable
class Classifies(Protocol):
    """A retry handler with rules of its own for what kind of failure something is."""

    @property
    def classes(self) -> Collection[Any]:
        """
        Rules as of `taskorch.recovery.Rule`, which come before the usual ones.

        Read at each failure, and what they say is `Failure.kind`. If one raises, the
        retry handler has failed, and so has the task.
        """
        ...


@runtime_checkable
class Recommends(Protocol):
    """A retry handler that says what people are to do about failures of a kind."""

    @property
    def matrix(self) -> Mapping[str, Any]:
        """
        By the kind of failure, rows with `actions`, a tuple of texts.

        Read when a person is asked. An empty one is the usual one, that of
        `taskorch.recovery.default_matrix`.
        """
        ...


@runtime_checkable
class GrantsWhole(Protocol):
    """An allocator that grants all of what fits, and nothing of what does not."""

    @property
    def rigid(self) -> bool:
        """
        Whether it does: then it is asked only where there is room; read once.

        It counts if it is said where `allocate` is defined, or by a class derived from
        it.
        """
        ...


@runtime_checkable
class GrantsChunks(Protocol):
    """An allocator that grants parts of elastic requests, in whole pieces."""

    @property
    def chunks(self) -> Mapping[str, float]:
        """
        The sizes of the pieces, by resource: others are granted whole; read once.

        It counts if it is said where `allocate` is defined, or by a class derived from
        it.
        """
        ...


#: Which policies may have what, in the order in which they are asked.
MAY_HAVE: Final[Mapping[type, tuple[type, ...]]] = {
    WaitsForBetter: (TaskRouter,),
    WatchesTransitions: (StateMachine,),
    RanksOwners: (TaskQueue,),
    Backfills: (TaskQueue,),
    SetsGrace: (RetryHandler,),
    Classifies: (RetryHandler,),
    Recommends: (RetryHandler,),
    GrantsWhole: (ResourceAllocator,),
    GrantsChunks: (ResourceAllocator,),
    Learns: (TaskQueue, TaskRouter, ResourceAllocator),
    Recalls: (TaskQueue, TaskRouter, ResourceAllocator),
    Hears: (TaskRouter, TaskQueue, ResourceAllocator),
    Named: (TaskRouter, TaskQueue, ResourceAllocator),
    AsksOthers: (Validator, TaskRouter, TaskQueue, RetryHandler, ResourceAllocator),
}


def check_policy(name: str, part: object, protocol: type) -> None:
    """
    Refuse what cannot be asked as *protocol*, and what it may have besides, say.

    Args:
        name: The argument that it was given by.
        part: The policy.
        protocol: Its protocol.

    Raises:
        InvalidTaskError: It is a class, it lacks a method, a method cannot be called as
            the protocol says, or an attribute is of another form: it is named.
    """
    if isinstance(part, type):
        msg = f"{name}= takes an object, not the class {part.__name__}: call it"
        raise InvalidTaskError(msg)
    for method in methods_of(protocol):
        called = _read(name, part, method)
        if not callable(called):
            msg = f"{name}={show(part)} has no method {method}()"
            raise InvalidTaskError(msg, hint="see taskorch.protocols")
        _check_call(name, part, protocol, method, called)
    for optional, kinds in MAY_HAVE.items():
        if protocol in kinds:
            _check_optional(name, part, optional)


def _check_optional(name: str, part: object, optional: type) -> None:
    methods = methods_of(optional)
    for member in members_of(optional):
        value = _read(name, part, member)
        if value is None:
            continue
        if member not in methods:
            check = _FORMS.get(member)
            if check is not None:
                check(f"{name}.{member}", value)
        elif not callable(value):
            msg = f"{name}={show(part)}: {member} is no method, but {show(value)}"
            raise InvalidTaskError(msg, hint=_see(optional))
        else:
            _check_call(name, part, optional, member, value)
            missing = [one for one in methods if _read(name, part, one) is None]
            if missing and member == methods[0]:
                # Who has the first, needs the others.
                msg = (
                    f"{name}={show(part)} has {member}(), and no method {missing[0]}()"
                )
                raise InvalidTaskError(msg, hint=_see(optional))


def _check_call(
    name: str, part: object, protocol: type, method: str, called: Callable[..., object]
) -> None:
    if str(getattr(called, "__module__", "")).startswith("taskorch."):
        # It is ours, and most are.
        return
    arguments = arguments_of(protocol, method)
    try:
        parameters = signature(called)
    except (TypeError, ValueError):
        # It does not say what it takes: it may not be written in Python.
        return
    try:
        parameters.bind(*arguments)
    except TypeError:
        given = ", ".join(arguments)
        msg = f"{name}={show(part)}: {method}() cannot be called with ({given})"
        raise InvalidTaskError(msg, hint=_see(protocol)) from None
    if iscoroutinefunction(called):
        msg = f"{name}={show(part)}: {method}() is async, and nobody awaits it"
        raise InvalidTaskError(msg, hint=_see(protocol))


def _read(name: str, part: object, member: str) -> Any:
    try:
        return getattr(part, member, None)
    except Exception as error:
        msg = f"{name}={show(part)}: {member} cannot be read: {show(error)}"
        raise InvalidTaskError(msg) from error


def _see(protocol: type) -> str:
    return f"see taskorch.protocols.{protocol.__name__}"


# -- forms of attributes -------------------------------------------------------------


def _check_flag(name: str, value: object) -> None:
    if not isinstance(value, bool):
        msg = f"{name} is True or False, not {show(value)}"
        raise InvalidTaskError(msg)


def _check_rules(name: str, value: object) -> None:
    if (
        not isinstance(value, Collection)
        or isinstance(value, str)
        or not all(callable(getattr(rule, "holds", None)) for rule in value)
    ):
        msg = f"{name} is a collection of taskorch.recovery.Rule, not {show(value)}"
        raise InvalidTaskError(msg)


def _check_matrix(name: str, value: object) -> None:
    if not isinstance(value, Mapping):
        msg = f"{name} is a mapping of kinds of failures to rows, not {show(value)}"
        raise InvalidTaskError(msg)


def _check_chunks(name: str, value: Any) -> None:
    try:
        Resources.of(value, name)
    except InvalidTaskError as error:
        if error.message.startswith(name):
            raise
        # It is about an amount, and does not say of what.
        msg = f"{name}: {error.message}"
        raise InvalidTaskError(msg, hint=error.hint) from error


def _check_parts(name: str, value: object) -> None:
    if not isinstance(value, Collection) or isinstance(value, str):
        msg = f"{name} is a collection of policies, not {show(value)}"
        raise InvalidTaskError(msg)


#: `watches` is checked by who reads it, as what it means is; and so is the name of an
#: arm, since it is nobody else's.
_FORMS: Final[Mapping[str, Callable[[str, object], object]]] = {
    "waits_for_better": _check_flag,
    "asks": _check_parts,
    "backfill": _check_flag,
    "rigid": _check_flag,
    "chunks": _check_chunks,
    "timeout_grace_period": check_seconds,
    "classes": _check_rules,
    "matrix": _check_matrix,
}
