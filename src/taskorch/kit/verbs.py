"""
Verbs of an orchestrator, each described once, at its method.

`@verb(…)` adds to the signature and docstring of a method: how a coroutine waits for
it, its HTTP request, and its command. `taskorch.api.verbs` lists them all; `orch.aio`,
the client, the HTTP operations, commands and remedies are made from them. A face that a
verb lacks is named, with the reason.

Decision: verbs-and-front-ends.
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
#: How `orch.aio` waits: not at all; on a thread if a journal must be read; for the
#: commit, without a thread; on a thread.
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
#: A printable name without a space at either end, not only in ASCII.
NAME: Final[Schema] = {
    "type": "string",
    "minLength": 1,
    "maxLength": 500,
    "pattern": "^[!-~]([ -~]*[!-~])?$",
}
#: A name of a person, without a colon.
PERSON: Final[Schema] = {"type": "string", "pattern": "^[!-9;-~]([ -9;-~]*[!-9;-~])?$"}
#: A printable line.
NOTE: Final[Schema] = {"type": "string", "pattern": "^[ -~]*$"}
ID: Final[Schema] = {
    "type": "string",
    "maxLength": MAX_ID_LENGTH,
    "pattern": r"^[A-Za-z0-9_]([A-Za-z0-9._\-]*[A-Za-z0-9_\-])?"
    r"(/[A-Za-z0-9_]([A-Za-z0-9._\-]*[A-Za-z0-9_\-])?)*$",
}


#: Arguments that name the person who acts. At a service, a token may prove that.
_SAYS_WHO: Final = frozenset({"by", "requested_by", "source"})


def listed(items: Schema) -> Schema:
    """Return the schema of a list of these."""
    return {"type": "array", "items": items}


#: The schema of an argument over HTTP, by its annotation.
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
    """Return the reasons why a verb has no request or no command."""
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
    An argument of a verb.

    Attributes:
        name: The name in the method.
        key: The name in HTTP.
        form: The JSON Schema.
        text: The description.
        default: The default; `inspect.Parameter.empty` if it is required.
        in_path: True if it stands in the path of a request.
        is_keyword: True if it is keyword-only.
        is_many: True if it takes all positional arguments, as `*quotas`: a list.
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
        """True if it has no default."""
        return self.default is inspect.Parameter.empty

    @property
    def says_who(self) -> bool:
        """True if it names the person who acts: a named token does that, too."""
        return self.name in _SAYS_WHO


@attrs.frozen(slots=False)
class Verb:
    """
    One verb of an orchestrator.

    Attributes:
        function: The method.
        text: The effect, in a sentence.
        waits: The way in which a coroutine waits for it.
        request: Its HTTP method and path, below `/api/v1`; "" if it has none.
        operation: Its name in the client and in the description of the service.
        gives: The member of the HTTP answer with its result; "" if the result is the
            whole answer.
        status: The status of that answer.
        refuses: Statuses with which a service may refuse it.
        keys: The HTTP names of arguments that differ there.
        forms: The schemas of arguments over HTTP, if annotations are not enough.
        apart: Arguments that only a program in the same process can use.
        remote: Arguments that have another default over HTTP.
        command: The command of the command line, with its arguments and purpose:
            `"cancel TASK...: call tasks off"`; "" if it has none. A word with dots may
            be repeated; a word with a plus is two arguments. A second word in lower
            case is an act of that command: `"agents drain AGENT: …"`.
        lacks: The reasons why it has no request, or no command.
        is_final: True if its effect cannot be undone.
        needs: The role that is needed over HTTP; "" is `look`, or `operate` if it
            changes anything.
        preview: The function of `taskorch.core.runs._foreseen` that returns what it
            would touch, or "". The first argument of that is the subject of the verb.
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
        """Role that is needed over HTTP."""
        return self.needs or ("operate" if self.changes else "look")

    @property
    def name(self) -> str:
        """Name of the method."""
        return self.function.__name__

    @property
    def method(self) -> str:
        """Method of HTTP."""
        return self.request.partition(" ")[0]

    @property
    def path(self) -> str:
        """Path below `/api/v1`, with variable parts in braces."""
        return self.request.partition(" ")[2]

    @property
    def changes(self) -> bool:
        """True if it changes anything; a question may be a POST for its length."""
        return self.method != "GET" and self.needs != "look"

    @property
    def command_name(self) -> str:
        """Name of its command."""
        return self.command.partition(":")[0].partition(" ")[0]

    @property
    def command_act(self) -> str:
        """Act of its command, as the second word; "" if the command has only one."""
        words = self.command.partition(":")[0].split()[1:2]
        return words[0] if words and words[0].islower() else ""

    @property
    def command_words(self) -> list[str]:
        """Words of the command after the act: `["TASK...", "CHOICE"]`."""
        words = self.command.partition(":")[0].split()[1:]
        return words[1:] if self.command_act else words

    @property
    def purpose(self) -> str:
        """Purpose of its command, in words."""
        return self.command.partition(": ")[2]

    @property
    def options(self) -> tuple[Argument, ...]:
        """Arguments that its command takes by name, beside its words."""
        count = sum(word.count("+") + 1 for word in self.command_words)
        return self.arguments[count:]

    @cached_property
    def signature(self) -> inspect.Signature:
        """Signature of the method, without `self`."""
        signature = inspect.signature(self.function)
        _, *parameters = signature.parameters.values()
        return signature.replace(parameters=parameters)

    @cached_property
    def arguments(self) -> tuple[Argument, ...]:
        """Arguments over HTTP and at the command line."""
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
        """Arguments in the query or the body of a request."""
        return tuple(each for each in self.arguments if not each.in_path)

    @cached_property
    def body(self) -> Schema | None:
        """Schema of the body of its request; None if it has no body."""
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
    """
    Mark a method as a verb.

    Its arguments come from its signature, and their texts from `Args:` in its
    docstring. It returns what JSON can say.

    Args:
        text: What it does, in a sentence.
        waits: How `orch.aio` runs it: `"not"`, on the loop, since it never waits;
            `"journal"`, on the loop, or on a thread if there is a journal; `"commit"`,
            on the loop, and then waits until the journal has it; `"thread"`, on a
            thread.
        request: `GET` or `POST` and a path; "": it is for Python alone.
        operation: See `Verb`, as for all that is not named here.
        gives: The member of the answer that has the result; "": it is `result`.
        status: See `Verb`.
        refuses: See `Verb`.
        keys: See `Verb`.
        forms: JSON schemas of arguments whose annotations JSON does not know:
            `{"seats": {"type": "integer", "minimum": 1}}`.
        apart: See `Verb`.
        remote: See `Verb`.
        command: See `Verb`.
        lacks: See `Verb`.
        is_final: Whether nobody can undo it.
        needs: The role of who may call it; "": `look` for GET, `operate` for POST.
        preview: See `Verb`.
    """

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
    """Return the verbs of a class by name, in the order in which they stand."""
    marked = {
        name: getattr(value, "verb", None)
        for each in reversed(cls.__mro__)
        for name, value in vars(each).items()
    }
    return {name: each for name, each in marked.items() if isinstance(each, Verb)}


def argument_texts(text: str) -> dict[str, str]:
    """Return the text of each argument in the docstring of a function."""
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
    # Annotations are no texts without `from __future__ import annotations`.
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
