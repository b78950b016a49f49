"""
What can be done with an orchestrator, each verb once: at the method that does it.

`@verb(…)` says beside a method what its signature and its text do not: how it is waited
for, where it is over HTTP, and which command it is. `taskorch.verbs` lists them all;
`orch.aio`, the client, the operations of HTTP, commands and remedies are made of it. A
face that a verb has not is named, with the reason.

Decision: 0190.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Final, Literal, TypeAlias, TypeVar

import attrs

from taskorch.kit.limits import MAX_ID_LENGTH, MAX_PRIORITY, MAX_SECONDS

Schema: TypeAlias = Mapping[str, Any]
F = TypeVar("F", bound=Callable[..., Any])
#: How `orch.aio` waits: not at all; on a thread if there is a journal to look into; for
#: the commit, without a thread; on a thread.
Waits: TypeAlias = Literal["not", "journal", "commit", "thread"]
Face: TypeAlias = Literal["http", "command"]

ANYTHING: Final[Schema] = {}
TEXT: Final[Schema] = {"type": "string"}
OBJECT: Final[Schema] = {"type": "object"}
FLAG: Final[Schema] = {"type": "boolean"}
PRIORITY: Final[Schema] = {
    "type": "integer",
    "minimum": -MAX_PRIORITY,
    "maximum": MAX_PRIORITY,
}
COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
SECONDS: Final[Schema] = {"type": "number", "minimum": 0, "maximum": MAX_SECONDS}
#: A name that can be printed, without a space at either end. Not only ASCII is taken.
NAME: Final[Schema] = {
    "type": "string",
    "minLength": 1,
    "maxLength": 500,
    "pattern": "^[!-~]([ -~]*[!-~])?$",
}
#: A name of somebody, which has no colon.
PERSON: Final[Schema] = {"type": "string", "pattern": "^[!-9;-~]([ -9;-~]*[!-9;-~])?$"}
#: A line that can be printed.
NOTE: Final[Schema] = {"type": "string", "pattern": "^[ -~]*$"}
ID: Final[Schema] = {
    "type": "string",
    "maxLength": MAX_ID_LENGTH,
    "pattern": r"^[A-Za-z0-9_]([A-Za-z0-9._\-]*[A-Za-z0-9_\-])?"
    r"(/[A-Za-z0-9_]([A-Za-z0-9._\-]*[A-Za-z0-9_\-])?)*$",
}


#: Arguments that say who acts. At a service, a token may have proved that.
_SAYS_WHO: Final = frozenset({"by", "requested_by", "source"})


def listed(items: Schema) -> Schema:
    """A list of these."""
    return {"type": "array", "items": items}


#: What an argument is over HTTP, by what its annotation says.
_FORMS: Final[Mapping[str, Schema]] = {
    "Any": ANYTHING,
    "bool": FLAG,
    "dict[str, Any]": OBJECT,
    "float": {"type": "number"},
    "float | timedelta": SECONDS,
    "int": {"type": "integer"},
    "Iterable[str]": listed(NAME),
    "list[str]": listed(TEXT),
    "Mapping[str, Any]": OBJECT,
    "str": TEXT,
}
_NOTHING: Final[Mapping[str, Any]] = {}


def lacks(http: str = "", command: str = "") -> Mapping[Face, str]:
    """Why a verb has no request, and why it has no command."""
    reasons: dict[Face, str] = {}
    if http:
        reasons["http"] = http
    if command:
        reasons["command"] = command
    return reasons


_ALL_FACES: Final = lacks()
_ALONE: Final = "it is for the program that has the orchestrator"
FOR_PROGRAMS: Final = lacks(_ALONE, _ALONE)


@attrs.frozen
class Argument:
    """
    What a verb is told.

    Attributes:
        name: As the method has it.
        key: As HTTP has it.
        form: What it is, as JSON has it.
        text: What it is, in words.
        default: What stands for it, if it is not said; `inspect.Parameter.empty`: it
            must be said.
        in_path: Whether it stands in the path of a request.
        is_keyword: Whether it is told by its name alone.
        is_many: Whether it is all that stands in the call, as of `*quotas`: a list.
    """

    name: str
    key: str
    form: Schema
    text: str
    default: Any
    in_path: bool
    is_keyword: bool
    is_many: bool = False

    @property
    def is_needed(self) -> bool:
        """Whether it must be said."""
        return self.default is inspect.Parameter.empty

    @property
    def says_who(self) -> bool:
        """Whether it says who acts: a named token says that, too."""
        return self.name in _SAYS_WHO


@attrs.frozen(slots=False)
class Verb:
    """
    One thing that can be done with an orchestrator.

    Attributes:
        function: The method that does it.
        text: What it does, in a sentence.
        waits: How a coroutine waits for it.
        request: Its method and path of HTTP, below `/api/v1`; "": it has none.
        operation: What the client, and the description of the service, call it.
        gives: The member of the answer of HTTP that holds what it returns; "": what it
            returns is the answer.
        status: Of that answer.
        refuses: Statuses with which a service may refuse it.
        keys: What HTTP calls arguments that have other names there.
        forms: What arguments are over HTTP, where annotations do not say enough.
        apart: Arguments that are for programs beside the orchestrator alone.
        remote: Arguments that have another default over HTTP.
        command: The command of the command line, with its arguments, and what it is
            for: `"cancel TASK...: call tasks off"`; "": it has none. Of a word with
            dots there may be several; one with a plus is two arguments. A second word
            in small letters is an act of that command: `"agents drain AGENT: …"`.
        lacks: Why it has no request, or no command.
        is_final: Whether it ends what nobody can bring back.
        needs: The role of who may do it over HTTP; "": `look`, and `operate` if it
            changes anything.
        preview: The function of `taskorch.runs._foreseen` that says what it would
            touch. Its first argument is what the verb is about. "": there is none.
    """

    function: Callable[..., Any] = attrs.field(repr=False)
    text: str
    waits: Waits
    request: str = ""
    operation: str = ""
    gives: str = ""
    status: int = 200
    refuses: tuple[int, ...] = ()
    keys: Mapping[str, str] = attrs.field(factory=dict)
    forms: Mapping[str, Schema] = attrs.field(factory=dict)
    apart: tuple[str, ...] = ()
    remote: Mapping[str, Any] = attrs.field(factory=dict)
    command: str = ""
    lacks: Mapping[Face, str] = attrs.field(factory=dict)
    is_final: bool = False
    needs: str = ""
    preview: str = ""

    @property
    def role(self) -> str:
        """The role of who may do it over HTTP."""
        return self.needs or ("operate" if self.changes else "look")

    @property
    def name(self) -> str:
        """The name of the method."""
        return self.function.__name__

    @property
    def method(self) -> str:
        """The method of HTTP."""
        return self.request.partition(" ")[0]

    @property
    def path(self) -> str:
        """The path below `/api/v1`, with what varies in braces."""
        return self.request.partition(" ")[2]

    @property
    def changes(self) -> bool:
        """Whether it changes anything."""
        return self.method != "GET"

    @property
    def command_name(self) -> str:
        """The name of its command."""
        return self.command.partition(":")[0].partition(" ")[0]

    @property
    def command_act(self) -> str:
        """Which act of that it is; "": it is the only one."""
        words = self.command.partition(":")[0].split()[1:2]
        return words[0] if words and words[0].islower() else ""

    @property
    def command_words(self) -> list[str]:
        """What stands behind that: `["TASK...", "CHOICE"]`."""
        words = self.command.partition(":")[0].split()[1:]
        return words[1:] if self.command_act else words

    @property
    def purpose(self) -> str:
        """What its command is for."""
        return self.command.partition(": ")[2]

    @property
    def options(self) -> tuple[Argument, ...]:
        """What is said to its command by name: what is not among its words."""
        count = sum(word.count("+") + 1 for word in self.command_words)
        return self.arguments[count:]

    @cached_property
    def signature(self) -> inspect.Signature:
        """That of the method, without `self`."""
        signature = inspect.signature(self.function)
        _, *parameters = signature.parameters.values()
        return signature.replace(parameters=parameters)

    @cached_property
    def arguments(self) -> tuple[Argument, ...]:
        """What can be said to it over HTTP and at the command line."""
        texts = argument_texts(self.function.__doc__ or "")
        return tuple(
            Argument(
                each.name,
                self.keys.get(each.name, each.name),
                self.forms.get(each.name) or _form(each),
                texts.get(each.name, ""),
                each.default,
                f"{{{self.keys.get(each.name, each.name)}}}" in self.path,
                each.kind is inspect.Parameter.KEYWORD_ONLY,
                each.kind is inspect.Parameter.VAR_POSITIONAL,
            )
            for each in self.signature.parameters.values()
            if each.name not in self.apart
        )

    @cached_property
    def fields(self) -> tuple[Argument, ...]:
        """Those that stand in the query of a request, or in its body."""
        return tuple(each for each in self.arguments if not each.in_path)

    @cached_property
    def body(self) -> Schema | None:
        """What the body of its request says; None: it has none."""
        if self.method == "GET" or not self.fields:
            return None
        return {
            "type": "object",
            "required": [each.key for each in self.fields if each.is_needed],
            "additionalProperties": False,
            "properties": {each.key: each.form for each in self.fields},
        }


def verb(
    text: str,
    waits: Waits,
    request: str = "",
    *,
    operation: str = "",
    gives: str = "",
    status: int = 200,
    refuses: tuple[int, ...] = (),
    keys: Mapping[str, str] = _NOTHING,
    forms: Mapping[str, Schema] = _NOTHING,
    apart: tuple[str, ...] = (),
    remote: Mapping[str, Any] = _NOTHING,
    command: str = "",
    lacks: Mapping[Face, str] = _ALL_FACES,
    is_final: bool = False,
    needs: str = "",
    preview: str = "",
) -> Callable[[F], F]:
    """Mark a method as a verb: see `Verb`."""

    def mark(function: F) -> F:
        marked: Any = function
        marked.verb = Verb(
            function,
            text,
            waits,
            request,
            operation or function.__name__,
            gives,
            status,
            refuses,
            keys,
            forms,
            apart,
            remote,
            command,
            lacks,
            is_final,
            needs,
            preview,
        )
        return function

    return mark


def verbs_of(cls: type) -> dict[str, Verb]:
    """The verbs of a class, by their names, in the order in which they stand."""
    marked = {
        name: getattr(value, "verb", None)
        for each in reversed(cls.__mro__)
        for name, value in vars(each).items()
    }
    return {name: each for name, each in marked.items() if isinstance(each, Verb)}


def argument_texts(text: str) -> dict[str, str]:
    """What the text of a function says of each of its arguments."""
    lines = inspect.cleandoc(text).partition("\nArgs:\n")[2].splitlines()
    texts: dict[str, str] = {}
    name = ""
    for line in lines:
        if line and not line.startswith(" "):
            break
        head = re.match(r"    (\w+): (.*)", line)
        if head:
            name = head[1]
            texts[name] = head[2]
        elif name and line.strip():
            texts[name] += f" {line.strip()}"
    return texts


def _form(parameter: inspect.Parameter) -> Schema:
    # Where annotations are no texts, as without `from __future__ import annotations`.
    kind: Any = parameter.annotation
    kind = kind if isinstance(kind, str) else inspect.formatannotation(kind)
    kind = kind.removesuffix(" | None") if parameter.default is None else kind
    words = re.fullmatch(r"Literal\[(.*)\]", kind, re.DOTALL)
    if words:
        return {"enum": _words(words[1])}
    try:
        return _FORMS[kind]
    except KeyError:
        msg = f"{parameter}: nothing says what it is over HTTP: say it in forms="
        raise TypeError(msg) from None


def _words(listing: str) -> list[str]:
    return [word.strip(" \n\"'") for word in listing.split(",") if word.strip()]
