"""What an agent can do: programs, and functions that its owner has named."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any, Final

import attrs

from taskorch._documents.forms import keys_of
from taskorch.errors import InvalidTaskError
from taskorch.model import Program, show
from taskorch.workflows._documents import ProgramEntry

_HOLE: Final = re.compile(r"\{(\w+)\}")


@attrs.frozen
class Abilities:
    """
    What an agent does for each type of task.

    Attributes:
        names: Capabilities beyond the others: for programs that require one.
        functions: What is called with the payload of a task, by type.
        templates: The program that is run for a task, by type: `{name}` stands for
            what its payload has by this name.
    """

    names: tuple[str, ...] = ()
    functions: Mapping[str, Callable[[Any], Any]] = attrs.field(factory=dict)
    templates: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)

    @classmethod
    def of(
        cls, names: Iterable[str], calls: Iterable[str], runs: Iterable[str]
    ) -> Abilities:
        """
        What is said on a command line.

        Args:
            names: Capabilities.
            calls: Each `TYPE=MODULE:FUNCTION`.
            runs: Each `TYPE=COMMAND`, which is split as a shell does.

        Raises:
            InvalidTaskError: One is not well formed, or there is no such function.
        """
        functions = {name: _function(work) for name, work in map(_pair, calls)}
        templates = {name: _template(work) for name, work in map(_pair, runs)}
        return cls(tuple(names), functions, templates)

    def capabilities(self) -> list[str]:
        """All abilities, sorted, as names of capabilities."""
        return sorted({*self.names, *self.functions, *self.templates})

    def work_of(self, order: Mapping[str, Any]) -> Program | Callable[[], Any]:
        """
        The program, or the call, that an order asks for.

        Raises:
            InvalidTaskError: It is none that this agent can do.
        """
        kind, payload = order["type"], order.get("payload")
        if "program" in order:
            names = keys_of(ProgramEntry).items()
            options = {one.field: order[name] for name, one in names if name in order}
            return Program(**options)
        if kind in self.functions:
            function = self.functions[kind]
            return lambda: function(payload)
        if kind in self.templates:
            return Program([_filled(part, payload) for part in self.templates[kind]])
        msg = f"this agent does nothing for type {show(kind)}"
        hint = "start it with --call or --run for it, or give the task a program"
        raise InvalidTaskError(msg, hint=hint)


def _pair(text: str) -> tuple[str, str]:
    name, equals, work = text.partition("=")
    if not (name and equals and work):
        msg = f"{show(text)}: TYPE=… is needed"
        raise InvalidTaskError(msg)
    return name, work


def _function(path: str) -> Callable[[Any], Any]:
    module, _, name = path.partition(":")
    try:
        target: Any = import_module(module)
        for part in name.split("."):
            target = getattr(target, part)
    except (ImportError, AttributeError, ValueError) as error:
        msg = f"{path}: there is no such function: {error}"
        raise InvalidTaskError(msg, hint="MODULE:FUNCTION, as in json:dumps") from None
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        msg = f"{path} cannot be imported: {error!r}"
        raise InvalidTaskError(msg, hint="mend it there") from error
    if not callable(target):
        msg = f"{path} is no function"
        raise InvalidTaskError(msg)
    function: Callable[[Any], Any] = target
    return function


def _template(command: str) -> tuple[str, ...]:
    try:
        parts = tuple(shlex.split(command))
    except ValueError as error:
        msg = f"{show(command)} is no command: {error}"
        raise InvalidTaskError(msg) from None
    if not parts:
        msg = "a command is empty"
        raise InvalidTaskError(msg)
    return parts


def _filled(part: str, payload: object) -> str:
    def value_of(hole: re.Match[str]) -> str:
        name = hole[1]
        if not isinstance(payload, dict) or name not in payload:
            msg = f"the payload has no {name!r}, which the command needs"
            raise InvalidTaskError(msg)
        return str(payload[name])

    return _HOLE.sub(value_of, part)
