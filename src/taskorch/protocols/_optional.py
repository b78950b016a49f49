"""
Optional members of policies, and a check whether one has them.

No policy needs to inherit from these protocols: their members are looked up by name,
and None counts as missing. A member of another form is refused by name when the
orchestrator, or the simulation, is made.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from inspect import iscoroutinefunction, signature
from typing import Any, Final, Protocol, runtime_checkable

from taskorch.errors import InvalidTaskError
from taskorch.events import Event
from taskorch.kit.checks import check_seconds
from taskorch.kit.members import arguments_of, has, members_of, methods_of
from taskorch.kit.visible import show
from taskorch.model import Resources, TaskState
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
    A policy that learns from outcomes, and reports its choices.

    It needs all three methods. `taskorch.ext.learning.Learned` is one. It connects to
    events in `attach`: they have the outcomes of attempts, and `TaskRewarded` the
    rewards. `orch.kept(name)` keeps its state for `restore`. A `Simulation` neither
    attaches nor restores it, but asks for its choices; there it may hear events
    (`Hears`).
    """

    def choice_of(self, task_id: str, attempt: int) -> tuple[str, float] | None:
        """
        Return the choice for an attempt, and its probability; None for no choice.

        It is called once as an attempt begins, under the orchestrator's lock, for
        `TaskStarted.choice`: only if a journal keeps that event or somebody listens,
        such as after `signals.task_started.connect` in `attach`. If it raises, the
        attempt begins without a choice.
        """
        ...

    def attach(self, orchestrator: Any) -> None:
        """
        Connect to the `signals` of *orchestrator*, at the end of its constructor.

        The constructor passes on its errors.
        """
        ...

    def restore(self, kept: Callable[[str], Mapping[str, Any]]) -> None:
        """
        Load the state of an earlier incarnation.

        `start` calls it before any attempt begins, if there is a journal, and passes on
        its errors.

        Args:
            kept: The function `orch.kept`, which returns the documents for its name.
        """
        ...


@runtime_checkable
class Recalls(Protocol):
    """A policy that `Learns`, and reads earlier incarnations in the journal."""

    def recall(self, journal: DurableJournal, last: int) -> None:
        """
        Learn from the events of earlier incarnations.

        `start` calls it after `restore`, before any attempt begins, and passes on its
        errors.

        Args:
            journal: The journal.
            last: The number of the last event of earlier incarnations.
        """
        ...


@runtime_checkable
class Hears(Protocol):
    """A policy that hears events in a `Simulation`."""

    def hear(self, event: Event) -> None:
        """
        Take *event*; called for each, in order, before it is kept.

        `run` of the simulation passes on its errors.
        """
        ...


@runtime_checkable
class Named(Protocol):
    """An arm of `taskorch.ext.learning.Learned` with a name of its own."""

    @property
    def name(self) -> str:
        """Key under which its results are kept; read as `Learned` is made."""
        ...


@runtime_checkable
class AsksOthers(Protocol):
    """A policy that asks other policies."""

    @property
    def asks(self) -> Collection[Any]:
        """
        Policies that it asks; read as the orchestrator is made.

        If one of them is of your class, this one gets a copy of the task too.
        """
        ...


@runtime_checkable
class WaitsForBetter(Protocol):
    """A router that waits for a busy worker if those with room only fail."""

    @property
    def waits_for_better(self) -> bool:
        """True if tasks wait for a better worker; read as the orchestrator is made."""
        ...


@runtime_checkable
class WatchesTransitions(Protocol):
    """A state machine that is asked about some transitions only."""

    @property
    def watches(self) -> Collection[tuple[TaskState | None, TaskState]]:
        """
        Pairs of states before and after that `check` is asked about; read once.

        A class that overrides `check` must set it again.
        """
        ...


@runtime_checkable
class RanksOwners(Protocol):
    """A queue that says which tenant is served first."""

    def standing(self, owner: OwnerView, context: Context) -> float:
        """
        Return a number for the tenant *owner*: the lowest is served first.

        Of equals, the one that was served longest ago is first. It is called under the
        lock, again when the tenant's resources or demand change. If it raises, or
        returns no number, a task of that tenant fails.
        """
        ...


@runtime_checkable
class Backfills(Protocol):
    """A queue that keeps room for its first task; it has no method `standing`."""

    @property
    def backfill(self) -> bool:
        """
        True if later tasks pass the first waiting one only if that does not delay it.

        Read as the orchestrator is made.
        """
        ...


@runtime_checkable
class SetsGrace(Protocol):
    """A retry handler with a grace of its own."""

    @property
    def timeout_grace_period(self) -> float | timedelta | None:
        """
        Grace in seconds, unless `grace=` sets one; None for the default.

        Read as the orchestrator is made.
        """
        ...


@runtime_checkable
class Classifies(Protocol):
    """A retry handler with rules of its own for classes of failures."""

    @property
    def classes(self) -> Collection[Any]:
        """
        Rules such as `taskorch.ext.recovery.Rule`, before the default ones.

        They are read at each failure, for `Failure.kind`. If one raises, the task
        fails, and the error names the retry handler.
        """
        ...


@runtime_checkable
class Recommends(Protocol):
    """A retry handler with advice for people."""

    @property
    def matrix(self) -> Mapping[str, Any]:
        """
        Rows with `actions`, a tuple of texts, by the kind of failure.

        Read when a person is asked. An empty one means
        `taskorch.ext.recovery.default_matrix`.
        """
        ...


@runtime_checkable
class GrantsWhole(Protocol):
    """An allocator that grants a request whole or not at all."""

    @property
    def rigid(self) -> bool:
        """
        True if it is asked only when there is room; read once.

        A class that overrides `allocate` must set it again.
        """
        ...


@runtime_checkable
class GrantsChunks(Protocol):
    """An allocator that grants parts of elastic requests, in whole pieces."""

    @property
    def chunks(self) -> Mapping[str, float]:
        """
        Sizes of the pieces, by resource; others are granted whole; read once.

        A class that overrides `allocate` must set it again.
        """
        ...


#: The protocols that may have each optional protocol, in the order in which they are
#: asked.
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
    Refuse a policy that does not fulfil *protocol*, or has wrong optional members.

    Args:
        name: The name of the argument.
        part: The policy.
        protocol: Its protocol.

    Raises:
        InvalidTaskError: It is a class, lacks a method, has a method with other
            arguments, or an attribute of another form; the message names it.
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


def check_asked(name: str, part: object, protocol: type) -> None:
    """
    Refuse an invalid policy that another policy asks, also one that learns.

    An orchestrator tells only its own policies how tasks end, and none that these ask.

    Raises:
        InvalidTaskError: As for `check_policy`; or the policy learns.
    """
    check_policy(name, part, protocol)
    if has(part, Learns):
        msg = f"{name}: {show(part)} learns by itself, and would be told of nothing"
        hint = "give its own arms, or what it asks, instead"
        raise InvalidTaskError(msg, hint=hint)


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
                # A policy with the first method needs the others, too.
                msg = (
                    f"{name}={show(part)} has {member}(), and no method {missing[0]}()"
                )
                raise InvalidTaskError(msg, hint=_see(optional))


def _check_call(
    name: str, part: object, protocol: type, method: str, called: Callable[..., object]
) -> None:
    if str(getattr(called, "__module__", "")).startswith("taskorch."):
        # The method is ours, as most are.
        return
    arguments = arguments_of(protocol, method)
    try:
        parameters = signature(called)
    except (TypeError, ValueError):
        # The method does not list its parameters: it may not be written in Python.
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
    room = protocol.__module__.partition("._")[0]
    return f"see {room}.{protocol.__name__}"


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
        msg = f"{name} is a collection of taskorch.ext.recovery.Rule, not {show(value)}"
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
        # The error is about an amount, without its name.
        msg = f"{name}: {error.message}"
        raise InvalidTaskError(msg, hint=error.hint) from error


def _check_parts(name: str, value: object) -> None:
    if not isinstance(value, Collection) or isinstance(value, str):
        msg = f"{name} is a collection of policies, not {show(value)}"
        raise InvalidTaskError(msg)


#: The checks of optional attributes. The code that reads `watches` checks it, since it
#: knows the meaning; and so it is for the name of an arm.
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
