"""
The extensions of one orchestrator: their checks, and their parts.

Faults of an extension are reported when the orchestrator is made. What it raises later
is told with its name: in a verb, to who asked; in its check, by the health; and a
projection or a controller of it is told of as all others are.

Decision: extensions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial, wraps
from inspect import (
    Parameter,
    getattr_static,
    iscoroutinefunction,
    isfunction,
    signature,
)
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar, get_args, overload

import attrs

from taskorch.core.handles.handles import TaskHandle
from taskorch.errors import ComponentError, InvalidTaskError, TaskorchError
from taskorch.kit.extension import NAME, Extension, named_limits
from taskorch.kit.fence import is_values, log_of
from taskorch.kit.plain import plain, taken_apart
from taskorch.kit.raised import told_of
from taskorch.kit.verbs import Verb, Waits, verbs_of
from taskorch.kit.visible import is_text, show
from taskorch.model import HealthCheck

if TYPE_CHECKING:
    from taskorch.core.engine import Runtime

E = TypeVar("E", bound=Extension)

_LOG: Final = log_of(__name__)
#: The largest number of characters in the name of an extension.
_LONGEST: Final = 40
#: Names under which our own parts keep documents, beside those of the facade.
_OF_HOUSE: Final = frozenset(
    {"adaptive_jobs", "backfills", "foresight", "promises", "versions", "waivers"}
)
_REQUEST: Final = re.compile(r"(GET|POST) (/(?:[\w-]+|\{\w+\}))+", re.ASCII)
#: The roles that a verb may need, and the ways to wait for it.
_ROLES: Final = ("look", "submit", "operate", "administer", "worker")
_WAITS: Final = get_args(Waits)
#: The key in an answer for the result of a verb, unless the verb has another.
_RESULT: Final = "result"


class Extensions(Mapping[str, Extension]):
    """
    `orch.extensions`: the extensions of an orchestrator, by their names or classes.

    `orch.extensions[Licences]` is of the class `Licences` for a checker, too.

    Args:
        rt: The runtime of the orchestrator.
        facade: Its class: what that has is no name for an extension.
        extensions: Its extensions, in order.

    Raises:
        InvalidTaskError: One cannot be its, and why.
    """

    def __init__(
        self, rt: Runtime, facade: type, extensions: Iterable[Extension] = ()
    ) -> None:
        self._runtime = rt
        self._by_name: dict[str, Extension] = {}
        #: The verbs of all extensions, by their names in a program: `licences.take`.
        self.verbs: dict[str, Verb] = {}
        for each in extensions:
            self._check_name(facade, each)
            self._by_name[each.name] = each
            self.verbs |= _verbs_of(each)

    @overload
    def __getitem__(self, key: type[E], /) -> E: ...

    @overload
    def __getitem__(self, key: str, /) -> Extension: ...

    def __getitem__(self, key: str | type[Extension], /) -> Extension:
        if isinstance(key, str):
            return self._by_name[key]
        for each in self._by_name.values():
            if isinstance(each, key):
                return each
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def __repr__(self) -> str:
        return f"<extensions: {', '.join(self) or 'none'}>"

    def attach(self, orch: object) -> list[Callable[[], HealthCheck]]:
        """
        Have all of them join *orch*, in order; return their health checks.

        Raises:
            InvalidTaskError: One has raised: no orchestrator is made.
        """
        attached: list[Extension] = []
        for each in self._by_name.values():
            try:
                each.orch = orch
                attached.append(each)
                each.attach(orch)
                self._limit(each)
            except BaseException as error:
                for other in attached:
                    del other.orch
                if not is_values(error):
                    raise
                own_hint = getattr(error, "hint", None)
                hint = own_hint or "mend its attach(), or leave it out of extensions="
                # The text of an error of ours ends with its hint.
                why = _of(error).removesuffix(f" ({own_hint})")
                msg = f"{_called(each)} raised as it was attached: {why}"
                raise InvalidTaskError(msg, hint=hint) from error
        return [partial(_checked, each) for each in self._by_name.values()]

    def method(self, call: str) -> Callable[..., Any]:
        """
        The method of a verb, for somebody who asks for it from elsewhere.

        It returns what JSON can say; a handle is the id of its task. It raises a
        PolicyDeniedError if policies deny it, and a ComponentError for what is not
        taskorch's.
        """
        name, _, verb = call.partition(".")
        extension = self._by_name[name]
        method: Callable[..., Any] = getattr(extension, verb)

        @wraps(method)
        def fenced(*args: Any, **fields: Any) -> Any:
            governor = self._runtime.governor
            if governor is not None:
                named = signature(method).bind(*args, **fields).arguments
                governor.refuse_verb(call, named)
            try:
                result = method(*args, **fields)
                if isinstance(result, TaskHandle):
                    return result.task_id
                return plain(taken_apart(result))
            except TaskorchError:
                raise
            except BaseException as error:
                if not is_values(error):
                    raise
                _LOG.exception("%s raised in %s", _called(extension), verb)
                msg = f"{_called(extension)} raised in {verb}: {_of(error)}"
                hint = "the log of the program has where; its author mends it"
                failure = ComponentError(msg, hint=hint)
                failure.component = _called(extension)
                raise failure from error

        return fenced

    def _limit(self, extension: Extension) -> None:
        """Ask the limits of an extension before starts, from now on."""
        deciders = self._runtime.deciders
        for name, limit in named_limits(extension.limits, _called(extension)).items():
            if name in deciders.limits:
                msg = f"two limits have the name {name!r}"
                raise InvalidTaskError(msg, hint="name one of them otherwise")
            with self._runtime.lock:
                deciders.add_limit(name, limit)

    def _check_name(self, facade: type, extension: Extension) -> None:
        name: Any = extension.name
        cls = type(extension).__name__
        if type(name) is not str or not NAME.fullmatch(name) or len(name) > _LONGEST:
            msg = f"the name of {cls} is a word of a-z, 0-9 and _, which begins with a "
            msg += f"letter and has at most {_LONGEST} characters, not {show(name)}"
            raise InvalidTaskError(msg, hint=f'name = "{cls.lower()}"')
        if name in self._by_name:
            other = type(self._by_name[name]).__name__
            msg = f"two extensions have the name {name!r}: {other} and {cls}, which "
            msg += "would have the same documents and paths"
            raise InvalidTaskError(msg, hint="name one of them otherwise")
        if name in _OF_HOUSE or hasattr(facade, name):
            owner = f"orch.{name}" if hasattr(facade, name) else "documents"
            msg = f"the name {name!r} of {cls} is taken: {owner} of taskorch itself"
            raise InvalidTaskError(msg, hint=f'name = "my_{name}"')
        if getattr(extension, "orch", None) is not None:
            msg = f"{_called(extension)} has an orchestrator already"
            raise InvalidTaskError(msg, hint=f"make one for each: {cls}()")
        for method in ("attach", "check"):
            if iscoroutinefunction(getattr(extension, method, None)):
                msg = f"{_called(extension)}: {method} is no coroutine function"
                raise InvalidTaskError(msg, hint=f"def {method}(self, …)")


def none(rt: Runtime, orch: object) -> Extensions:
    """The extensions of an orchestrator that was given none."""
    return Extensions(rt, type(orch))


# -- verbs -----------------------------------------------------------------------------


def _verbs_of(extension: Extension) -> dict[str, Verb]:
    """
    The verbs of an extension, as the table of verbs has them.

    Raises:
        InvalidTaskError: One is not as a verb must be.
    """
    verbs: dict[str, Verb] = {}
    requests: dict[str, str] = {}
    for name, verb in verbs_of(type(extension)).items():
        _check_verb(extension, name, verb)
        shape = f"{verb.method} {re.sub(r'{[^}]*}', '{}', verb.path)}"
        if verb.request and requests.setdefault(shape, name) != name:
            _refuse(extension, name, f"{requests[shape]} has its request, too")
        place = f"/extensions/{extension.name}{verb.path}"
        verbs[f"{extension.name}.{name}"] = attrs.evolve(
            verb,
            request=f"{verb.method} {place}" if verb.request else "",
            operation=f"{extension.name}.{name}",
            gives=verb.gives or _RESULT,
        )
    return verbs


def _check_verb(extension: Extension, name: str, verb: Verb) -> None:
    if not isfunction(getattr_static(type(extension), name)):
        _refuse(extension, name, "it is no plain method")
    if name.startswith("_"):
        _refuse(extension, name, "its name begins with _, and so nobody may call it")
    if iscoroutinefunction(verb.function):
        _refuse(extension, name, "it is a coroutine function", "def, and no async def")
    if not is_text(verb.text) or not verb.text:
        _refuse(extension, name, "it has no text", '@verb("Take a licence.", …)')
    if verb.waits not in _WAITS:
        words = ", ".join(map(repr, _WAITS))
        _refuse(extension, name, f"it waits {show(verb.waits)}", f"say one of {words}")
    if verb.needs and verb.needs not in _ROLES:
        text = f"there is no role {show(verb.needs)}"
        _refuse(extension, name, text, f"say one of {', '.join(_ROLES)}")
    if verb.request and not _REQUEST.fullmatch(verb.request):
        text = f"{show(verb.request)} is no request"
        hint = 'say GET or POST and a path: "POST /take/{seat}"'
        _refuse(extension, name, text, hint)
    _refuse_of_house(extension, name, verb)
    _check_arguments(extension, name, verb)


def _refuse_of_house(extension: Extension, name: str, verb: Verb) -> None:
    """Refuse options of a verb that have no effect in an extension."""
    if verb.command:
        text = "it has command=, and there are no commands of extensions"
        _refuse(extension, name, text, "leave it out: client.call has it, too")
    if verb.preview:
        text = "it has preview=, which names a function of taskorch itself"
        _refuse(extension, name, text, "leave it out: another verb can say it")
    if verb.operation not in (name, verb.function.__name__):
        text = f"it is called {extension.name}.{name}, and not as operation= says"
        _refuse(extension, name, text, "leave operation= out")


def _check_arguments(extension: Extension, name: str, verb: Verb) -> None:
    try:
        arguments = verb.arguments
    except (TypeError, ValueError) as error:
        _refuse(extension, name, str(error), "give forms=, or an annotation")
    kinds = {each.kind for each in verb.signature.parameters.values()}
    if not kinds <= {Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY}:
        text = "an argument of it cannot be told by its name"
        _refuse(extension, name, text, "leave out *, ** and /")
    for word in re.findall(r"{(\w+)}", verb.path):
        if word not in {each.key for each in arguments}:
            _refuse(extension, name, f"{{{word}}} in its path is no argument of it")
    in_path = [each.in_path for each in arguments]
    if in_path != sorted(in_path, reverse=True):
        _refuse(extension, name, "the arguments in its path come first")
    for each in arguments:
        if each.in_path and (each.is_keyword or each.form.get("type") != "string"):
            text = f"{each.name} stands in its path, and so it is a plain text"
            _refuse(extension, name, text, f"{each.name}: str")


def _refuse(extension: Extension, name: str, text: str, hint: str = "") -> NoReturn:
    msg = f"the verb {name} of {_called(extension)}: {text}"
    raise InvalidTaskError(msg, hint=hint or None)


# -- the description of an extension ---------------------------------------------------


def _checked(extension: Extension) -> HealthCheck:
    """Return the health of an extension: the result or the error of its check."""
    try:
        text: Any = extension.check()
    except BaseException as error:
        if not is_values(error):
            raise
        text = f"its check raised {_of(error)}"
    if not is_text(text):
        text = f"its check returned {show(text)}, and no text"
    return HealthCheck(_called(extension), "degraded" if text else "ok", text)


def _called(extension: Extension) -> str:
    return f"extension {extension.name}"


def _of(error: BaseException) -> str:
    return ": ".join(filter(None, told_of(error)))
