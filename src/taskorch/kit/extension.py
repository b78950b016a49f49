"""
What a program adds to its orchestrator: verbs of its own, a state, a health check.

The parts of the house that stand beside the core are such extensions, too: what they
use (`verb`, `orch.kept`, `orch.signals.follow`, `orch.drivers`) is there for all.

Decision: 0260.
"""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from typing import Any, cast

from taskorch.errors import InvalidTaskError
from taskorch.kit.visible import show


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
    """

    name: str = ""
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
