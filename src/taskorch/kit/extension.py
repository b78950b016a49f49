"""
What a program adds to its orchestrator: verbs of its own, a state, a health check.

The parts of the house that stand beside the core are such extensions, too: what they
use (`verb`, `orch.kept`, `orch.signals.follow`, `orch.drivers`) is there for all.

Decision: 0260.
"""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from typing import Any, Protocol, cast, runtime_checkable

import attrs

from taskorch.errors import InvalidTaskError
from taskorch.kit.visible import show


@attrs.frozen
class Kind:
    """
    What like tasks have in common, for a `Limit`.

    Attributes:
        type: Their type.
        owner: For whom they are done; None: for nobody.
        requires: What their worker must be able to do; empty for plain functions.
        resources: What each asks for, by name.
    """

    type: str
    owner: str | None
    requires: tuple[str, ...]
    resources: dict[str, float]


@attrs.frozen
class Short:
    """
    Why a task must wait at a `Limit`.

    Attributes:
        detail: A sentence for people: `orch.explain` shows it.
        seconds: When to ask again, if nothing of the limit comes back before.
        have: How much is free, if that is an amount.
    """

    detail: str
    seconds: float = 1.0
    have: float = 0.0


@runtime_checkable
class Limit(Protocol):
    """
    Keeps tasks of some kinds from starting, beside slots, workers and pools.

    Name it in `Extension.limits`. It is asked under the lock of the orchestrator, so it
    must not wait: let a thread of your own look at what is far away.

    What attempts hold is counted for it, and comes back however an attempt ends. If a
    method raises, or answers what it must not, the task that was to start fails with a
    ComponentError that names the limit and the method.

    Laws:
        1. `need` says the same of a kind each time: a number of 0 and more.
        2. `short` says why one that needs that much must wait, in words, and when to
           ask again: in more than 0 seconds. None says that it may start.
        3. To be asked changes nothing: `short` is asked for explanations, too.
    """

    name: str

    def need(self, kind: Kind) -> float:
        """Return how much a task of *kind* takes; 0: it is not limited."""
        ...

    def short(self, need: float, held: float) -> Short | None:
        """
        Say why a task must wait.

        Args:
            need: How much it takes.
            held: How much the attempts under way hold.
        """
        ...


@runtime_checkable
class CountingLimit(Limit, Protocol):
    """
    A limit that counts starts, such as those of the last minute.

    It is asked only once a worker has room for the task, and all else is there. So it
    is not asked about tasks that could not start, and what it counts is what starts.
    It counts in this process alone: after a restart it begins anew.
    """

    def started(self, need: float) -> None:
        """Note that a task which takes *need* starts: `short` has let it."""
        ...


class Extension:
    """
    An extension of an orchestrator: inherit from it, and give an object of your class.

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
        name: What it is called: a word in small letters, which nothing of the
            orchestrator has yet.
        orch: The orchestrator, from `attach` on.
        limits: What keeps tasks from starting until it allows it: each a `Limit`.
    """

    name: str = ""
    limits: Iterable[Limit] = ()
    # A subclass may say `orch: TaskOrchestrator`: the kit knows no facade.
    orch: Any

    @property
    def kept(self) -> MutableMapping[str, Any]:
        """The documents of this extension: see `TaskOrchestrator.kept`."""
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
        Say what is wrong with this extension, for `orch.health()`; "": nothing is.

        It is called each time that somebody asks, so it must not wait.
        """
        return ""


def check_extensions(name: str, value: object) -> tuple[Extension, ...]:
    """
    Return *value*, which is given as the argument *name*, as extensions.

    Raises:
        InvalidTaskError: Something in it is none.
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
