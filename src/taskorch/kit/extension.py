"""
Extensions: verbs, state, limits and health checks that a program adds.

The library's own parts beside the core are such extensions, too: their tools (`verb`,
`orch.kept`, `orch.signals.follow`, `orch.drivers`) are public.

Decision: extensions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, MutableMapping
from inspect import iscoroutinefunction
from typing import Any, Final, Protocol, cast, runtime_checkable

import attrs

from taskorch.errors import InvalidTaskError
from taskorch.kit.visible import is_text, show


@attrs.frozen
class Kind:
    """
    The properties that like tasks have in common, for a `Limit`.

    Attributes:
        type: Their type.
        owner: Their tenant, or None.
        requires: The capabilities that their worker needs; empty for plain functions.
        resources: The resources that each asks for, by name.
    """

    type: str
    owner: str | None
    requires: tuple[str, ...]
    resources: dict[str, float]


@attrs.frozen
class Short:
    """
    Answer of a `Limit`: why a task must wait.

    Attributes:
        detail: A sentence for people: `orch.explain` shows it.
        seconds: Seconds after which to ask again, if nothing of the limit comes back
            before.
        have: The free amount, if there is one.
    """

    detail: str
    seconds: float = 1.0
    have: float = 0.0


@runtime_checkable
class StartRule(Protocol):
    """
    Protocol: keeps tasks of some kinds from starting, beside slots, workers and pools.

    It is called under the lock of the orchestrator, so it must not wait: use a thread
    of your own for remote data.

    The amounts that attempts hold are counted for it, and come back however an attempt
    ends. If a method raises, or gives an invalid answer, the task that was to start
    fails with a ComponentError that names the rule and the method.

    Laws:
        1. `need` returns the same for a kind each time: a number of 0 or more.
        2. `short` says why a task with that need must wait, in words, and when to ask
           again: in more than 0 seconds. None means that it may start.
        3. A question changes nothing: `short` is called for explanations, too.
    """

    def need(self, kind: Kind) -> float:
        """Return the amount that a task of *kind* takes; 0 for no limit."""
        ...

    def short(self, need: float, held: float) -> Short | None:
        """
        Return why a task must wait, or None.

        Args:
            need: The amount that it needs.
            held: The amount that the attempts under way hold.
        """
        ...


@runtime_checkable
class Limit(StartRule, Protocol):
    """
    A rule for starts that a program adds: name it in `Extension.limits`.

    Attributes:
        name: Its name in errors and explanations.
    """

    name: str


@runtime_checkable
class CountingLimit(Limit, Protocol):
    """
    A limit that counts starts, such as those of the last minute.

    It is asked only once a worker has room for the task, and all else is free. So it is
    not asked about tasks that could not start, and it counts real starts. It counts in
    this process alone: after a restart it begins anew.
    """

    def started(self, need: float) -> None:
        """Note that a task with *need* starts, after `short` has allowed it."""
        ...


#: The form of names of limits and extensions.
NAME: Final = re.compile(r"[a-z][a-z0-9_]*")


def named_limits(limits: object, whose: str) -> dict[str, Limit]:
    """
    Return *limits* by their names.

    Args:
        limits: The value of the argument.
        whose: The source of the value: the beginning of an error text.

    Raises:
        InvalidTaskError: It is no list of limits, two have one name, or one has no
            valid methods.
    """
    if isinstance(limits, str) or not isinstance(limits, Iterable):
        msg = f"the limits of {whose} are a list, not {show(limits)}"
        raise InvalidTaskError(msg, hint="limits = [Seats()]")
    by_name: dict[str, Limit] = {}
    for limit in limits:
        name: Any = getattr(limit, "name", None)
        if not is_text(name) or not NAME.fullmatch(name):
            msg = f"a limit has a name, a word of a-z, 0-9 and _, not {show(name)}"
            raise InvalidTaskError(msg, hint='name = "licences"')
        if name in by_name:
            msg = f"two limits have the name {name!r}"
            raise InvalidTaskError(msg, hint="name one of them otherwise")
        _check_methods(name, limit)
        by_name[name] = limit
    return by_name


def _check_methods(name: str, limit: object) -> None:
    """Refuse a limit with methods that cannot be called."""
    if isinstance(limit, type):
        msg = f"limit {name} is the class {limit.__name__}, and no object of it"
        raise InvalidTaskError(msg, hint=f"call it: {limit.__name__}()")
    is_counting = hasattr(limit, "started")
    for method in ("need", "short", "started") if is_counting else ("need", "short"):
        asked = getattr(limit, method, None)
        if not callable(asked):
            msg = f"limit {name} has no method {method}()"
            raise InvalidTaskError(msg, hint="see taskorch.kit.extension.Limit")
        if iscoroutinefunction(asked):
            msg = f"{method}() of limit {name} is a coroutine function: it is asked "
            msg += "under the lock, where nothing may wait"
            raise InvalidTaskError(msg, hint=f"def {method}, without async")


class Extension:
    """
    An extension of an orchestrator: inherit from it, and pass an object of your class.

        class Licences(Extension):
            name = "licences"

            @verb("Take a licence.", "commit", "POST /take")
            def take(self, seat: str) -> bool: ...

        orch = TaskOrchestrator(extensions=[Licences()])
        orch.licences.take("ada")

    Each method that `taskorch.kit.verbs.verb` marks is an operation over HTTP, below
    `/api/v1/extensions/NAME`, a tool of MCP, and a coroutine of `orch.aio.NAME`; roles
    and policies know it as `NAME.METHOD`.

    Attributes:
        name: Its name: a lower-case word that is no attribute of the orchestrator yet.
        orch: The orchestrator, from `attach` on.
        limits: Its limits of starts, each a `Limit`.
    """

    name: str = ""
    limits: Iterable[Limit] = ()
    # A subclass may annotate `orch: TaskOrchestrator`: the kit does not know that
    # class.
    orch: Any

    @property
    def kept(self) -> MutableMapping[str, Any]:
        """Documents of this extension: see `TaskOrchestrator.kept`."""
        documents: MutableMapping[str, Any] = self.orch.kept(self.name)
        return documents

    def attach(self, orch: Any) -> None:
        """
        Join *orch*: follow its events, add a controller, connect a listener.

        It is called once, as the orchestrator is made, and before anything starts. If
        it raises, the orchestrator is not made.
        """

    def check(self) -> str:
        """
        Return the fault of this extension, for `orch.health()`, or "".

        It is called at each request, so it must not wait.
        """
        return ""


def check_extensions(name: str, value: object) -> tuple[Extension, ...]:
    """
    Return *value*, the argument *name*, as extensions.

    Raises:
        InvalidTaskError: An item is no extension.
    """
    if isinstance(value, Extension):
        msg = f"{name} is a list, and {show(value)} is one extension"
        raise InvalidTaskError(msg, hint=f"{name}=[{type(value).__name__}()]")
    if isinstance(value, str) or not isinstance(value, Iterable):
        msg = f"{name} is a list of extensions, not {show(value)}"
        raise InvalidTaskError(msg, hint=f"{name}=[MyExtension()]")
    extensions: tuple[object, ...] = tuple(value)
    for each in extensions:
        if isinstance(each, type) and issubclass(each, Extension):
            msg = f"{name} has the class {each.__name__}, and no extension of it"
            raise InvalidTaskError(msg, hint=f"call it: {each.__name__}()")
        if not isinstance(each, Extension):
            msg = f"{name} has {show(each)}, which is no extension"
            hint = "let its class inherit from taskorch.kit.extension.Extension"
            raise InvalidTaskError(msg, hint=hint)
    return cast("tuple[Extension, ...]", extensions)
