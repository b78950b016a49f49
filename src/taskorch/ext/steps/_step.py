"""Steps: the record of a step, a request for one, and the note of its end."""

from __future__ import annotations

import builtins
import json
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from hashlib import blake2b
from importlib import import_module
from types import FunctionType, MethodType
from typing import Any, Final, Literal, NamedTuple, TypeAlias, cast
from weakref import WeakKeyDictionary

import attrs

from taskorch.core.journal import document
from taskorch.errors import InvalidTaskError, StepError, TaskFailedError
from taskorch.kit.checks import is_name
from taskorch.kit.digests import described_function, digest_of as named_digest
from taskorch.kit.ends import strip
from taskorch.kit.fence import is_values
from taskorch.kit.limits import MAX_ID_LENGTH, NS
from taskorch.kit.plain import plain
from taskorch.kit.visible import masked, said, show

#: The origin of its result: an earlier attempt, or the latest one; or it has none yet,
#: or never will, because its task has ended.
StepState: TypeAlias = Literal["kept", "called", "running", "left"]

#: The name in place of a function where a step is a sleep.
SLEEP: Final = "context.sleep"
_DIGEST: Final = 16
#: The code of functions that close over nothing.
_CODES: Final[WeakKeyDictionary[Any, str]] = WeakKeyDictionary()
_MAX_ARGUMENTS: Final = 200
_MAX_TRACE: Final = 20_000


@attrs.frozen
class Step:
    """
    A step of a task.

    Attributes:
        name: Its name.
        number: How often the name had been asked for in the attempt, this time
            included.
        function: The function that it calls; of a sleep or a wait, the method of the
            context.
        arguments: The arguments of the function, for people.
        state: `kept` if an earlier attempt has called it, `called` if the latest one
            has, `running` while that does; `left` if its task has ended meanwhile.
        task_id: The run of the task in which it was called.
        attempt: The number of the attempt that has called it.
        began: When that began, in UTC.
        seconds: How long it took, with all tries; None while it runs. Of a sleep, how
            long it is.
        tries: How often the function was called.
        error: The error that it raised, as in `ValueError: …`; "" if it returned.
        child: The id of the task or of the run that it waits for; "" of others.
    """

    name: str
    number: int
    function: str
    arguments: str
    state: StepState
    task_id: str
    attempt: int
    began: datetime
    seconds: float | None = None
    tries: int = 1
    error: str = ""
    child: str = ""

    @property
    def key(self) -> str:
        """The name and the number: `charge#1`."""
        return f"{self.name}#{self.number}"

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        began = self.began.isoformat()
        fields = {**attrs.asdict(self), "began": began, "key": self.key}
        document: dict[str, Any] = plain({**fields, "text": str(self)})
        return document

    def __str__(self) -> str:
        which = self.name if self.number == 1 else f"{self.name} ({self.number})"
        took = "" if self.seconds is None else f" in {self.seconds:.3g} s"
        tries = f", {self.tries} tries" if self.tries > 1 else ""
        how = f"raised {self.error}" if self.error else "done"
        if self.seconds is None:
            does = f"waits for {self.child}" if self.child else "runs"
            end = ", which its task has left" if self.state == "left" else ""
            return f"{which}: {does} since {self.began:%H:%M:%S}{end}"
        where = "called" if self.state == "called" else f"kept from {self._source}"
        if self.function == SLEEP:
            until = self.began + timedelta(seconds=self.seconds or 0)
            return f"{which}: sleeps until {until:%Y-%m-%d %H:%M:%S} UTC, {where}"
        return f"{which}: {how}{took}{tries}, {where}"

    @property
    def _source(self) -> str:
        return f"attempt {self.attempt} of {self.task_id}"


class Asked(NamedTuple):
    """
    A request for a step: its name, and the function to call.

    Attributes:
        name: The name of the step.
        function: The name of the function.
        arguments: Its arguments, for people.
        digest: A digest of the arguments, which one run of a task compares.
        same: A digest of the function and its arguments, with the values that it is
            bound to or closes over, which other runs compare; "" if there is none.
        code: A digest of its code, which runs as deployed compare; "" if there is none.
    """

    name: str
    function: str
    arguments: str
    digest: str
    same: str
    code: str = ""


class Ran(NamedTuple):
    """The result of a step: its seconds, None if it waits; its tries; its child."""

    seconds: float | None
    tries: int = 1
    child: str = ""


def asked_for(
    name: Any, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Asked:
    """
    Return the request for a step.

    Raises:
        StepError: The name is none, or there is no function.
    """
    if callable(name) and not isinstance(name, str):
        msg = f"a step has a name before its function, not {show(name)}"
        raise StepError(msg, hint=f'context.step("{name_of(name)}", …)')
    check_name(name)
    if not callable(function):
        msg = f"step {name!r} is to call {show(function)}, which is no function"
        hint = f'context.step("{name}", function, argument): it is not called before'
        raise StepError(msg, hint=hint)
    named = ", ".join(
        [*map(show, args), *(f"{key}={show(value)}" for key, value in kwargs.items())]
    )
    digest = digest_of(*args, *kwargs, *kwargs.values())
    same, code = same_of((function, args, dict(kwargs))), code_of(function)
    shown = shown_arguments(named)
    return Asked(str(name), name_of(function), shown, digest, same, code)


def shown_arguments(text: str) -> str:
    """The *text* of arguments in parentheses, cut where it is too long for people."""
    return f"({text[:_MAX_ARGUMENTS]}{'…' * (len(text) > _MAX_ARGUMENTS)})"


def digest_of(*values: Any) -> str:
    """Return a digest that differs for other arguments."""
    texts = "\n".join(map(_text, values))
    return blake2b(texts.encode(), digest_size=_DIGEST).hexdigest()


def same_of(work: Any) -> str:
    """Return a digest by which other work can be told from *work*; "" if none can."""
    try:
        return named_digest(work, by_name=True)
    except BaseException as error:
        # A value of the user's may raise anything where it is looked at.
        if not is_values(error):
            raise
        return ""


def code_of(function: Any) -> str:
    """Return the Python and a digest of the code of *function*; "" if none is known."""
    while isinstance(function, partial | MethodType):
        inner: Any = function
        function = inner.func if isinstance(inner, partial) else inner.__func__
    if not isinstance(function, FunctionType | type):
        function = type(function)
    is_kept = isinstance(function, FunctionType) and not function.__closure__
    code = _CODES.get(function) if is_kept else None
    if code is None:
        try:
            text = described_function(function)
        except BaseException as error:
            if not is_values(error):
                raise
            return ""
        digest = blake2b(text, digest_size=_DIGEST).hexdigest()
        code = f"{sys.implementation.cache_tag}:{digest}"
        if is_kept:
            _CODES[function] = code
    return code


def code_of_all(functions: Iterable[Any]) -> str:
    """Return as `code_of` that of all *functions*; "" if none is known."""
    codes = [*map(code_of, functions)]
    if len(codes) < 2:  # noqa: PLR2004 - there is nothing to put together
        return "".join(codes)
    text = "".join(codes).encode()
    digest = blake2b(text, digest_size=_DIGEST).hexdigest()
    return f"{sys.implementation.cache_tag}:{digest}"


def is_other_code(now: str, before: str) -> bool:
    """Return whether code has changed; that of another Python counts as unchanged."""
    python = now.partition(":")[0]
    return bool(now) and now != before and before.partition(":")[0] == python


def check_name(name: Any) -> None:
    """
    Refuse what cannot be the name of a step.

    Raises:
        StepError: It is none.
    """
    if not is_name(name) or len(name) > MAX_ID_LENGTH:
        msg = f"the name of a step is a text of at most {MAX_ID_LENGTH} characters "
        msg += f"that can be printed, not {show(name)}"
        raise StepError(msg)


def name_of(function: Callable[..., Any]) -> str:
    """Return the name of *function*, or of the function in a partial."""
    inner = getattr(function, "func", None)
    if inner is not None and callable(inner) and not hasattr(function, "__qualname__"):
        return name_of(inner)
    name = getattr(function, "__qualname__", None)
    return name if isinstance(name, str) else type(function).__qualname__


def _text(value: Any) -> str:
    """Return a text that differs for other values; by class if no JSON exists."""
    try:
        return document(value)
    except InvalidTaskError:
        return f"<{type(value).__module__}.{type(value).__qualname__}>"


# -- its note --------------------------------------------------------------------------


class KeptStep(NamedTuple):
    """
    A step with a kept end, or a wait with a kept beginning.

    Attributes:
        step: The step.
        digest: See `Asked`.
        same: A digest of the work of its run, with that of `Asked`; "" if none.
        code: See `Asked`.
        run: The run of the task that has it: a later one than that of the step, once it
            was given to that.
        value: Its result, or the document of its error.
    """

    step: Step
    digest: str
    same: str
    code: str
    run: str
    value: Any

    @property
    def is_over(self) -> bool:
        """True if its end is kept."""
        return self.step.seconds is not None


def moment_of(at_ns: int) -> datetime:
    """The time *at_ns*, in ns since the epoch."""
    return datetime.fromtimestamp(at_ns / NS, UTC)


def note_of(asked: Asked, number: int, ran: Ran, error: str, same: str) -> str:
    """The note of a step."""
    fields = {
        "name": asked.name,
        "number": number,
        "function": asked.function,
        "arguments": asked.arguments,
        "digest": asked.digest,
        "same": same,
        "code": asked.code,
        "seconds": None if ran.seconds is None else round(ran.seconds, 6),
        "tries": ran.tries,
        "error": error,
    }
    if ran.child:
        fields["child"] = ran.child
    return json.dumps(fields, separators=(",", ":"))


def kept_of(task_id: str, attempt: int, at_ns: int, note: str, value: Any) -> KeptStep:
    """Read a step from a note, and the time of the note."""
    fields = json.loads(note)
    digest, code = fields.pop("digest"), fields.pop("code", "")
    same = fields.pop("same", "")
    # A sleep is kept at its beginning; a wait, too, and again at its end.
    took = 0 if fields["function"] == SLEEP else fields["seconds"] or 0
    began = moment_of(at_ns - round(took * NS))
    state: StepState = "running" if fields["seconds"] is None else "kept"
    step = Step(**fields, state=state, task_id=task_id, attempt=attempt, began=began)
    return KeptStep(step, digest, same, code, task_id, value)


# -- errors ----------------------------------------------------------------------------


def document_of_error(error: Exception) -> dict[str, Any]:
    """Return *error* as a document, from which it can be made again."""
    strip(error)
    kind, message = said(error)
    trace = "".join(traceback.format_exception(error, limit=-30))
    return {
        "module": type(error).__module__,
        "type": type(error).__qualname__,
        **_parts_of(error),
        "bases": [c.__name__ for c in type(error).__mro__ if _is_builtin(c)],
        "text": f"{kind}: {message}",
        "message": message,
        "traceback": masked(trace)[-_MAX_TRACE:],
    }


def _is_builtin(cls: type) -> bool:
    """Return whether *cls* is a class of exceptions of Python itself."""
    return issubclass(cls, Exception) and vars(builtins).get(cls.__name__) is cls


def _parts_of(error: Exception) -> dict[str, Any]:
    """Return what *error* is made of, as it is pickled; no `args`: it cannot be."""
    members: list[dict[str, Any]] = []
    args: Iterable[Any] = error.args
    state = vars(error)
    try:
        reduced: Any = error.__reduce_ex__(2)
        if isinstance(error, ExceptionGroup):
            members = [document_of_error(each) for each in error.exceptions]
            args = [error.message]
        elif reduced[0] is type(error):
            # Behind them there may be a state.
            args, state = reduced[1], (*reduced, None)[2]
        parts = {"args": list(args), "state": state or {}, "members": members}
        document(parts)
    except Exception:  # noqa: BLE001 - its values are the user's
        return {"args": None}
    return parts


def error_of(kept: KeptStep) -> BaseException:
    """Return the error of a kept step, or one that names it."""
    step = kept.step
    error = _error_of(kept.value, f"step {step.name!r} raised {kept.value['text']}")
    error.add_note(
        f"step {step.name!r} raised it in attempt {step.attempt} of {step.task_id}, "
        "and is not called again"
    )
    return error


def _error_of(said_of: Mapping[str, Any], msg: str) -> Exception:
    error: Exception | None = None
    if said_of["args"] is not None:
        with suppress(Exception):
            error = _made_anew(said_of)
    if error is not None:
        return error
    kind, trace = said_of["type"].rpartition(".")[2], said_of["traceback"]
    hint = "its class is gone, or its attributes cannot be kept: catch "
    hint += "TaskFailedError, or a class of Python from which it inherits"
    for name in said_of.get("bases", ()):
        with suppress(TypeError):
            cls = _caught_as(name)
            return cls(msg, type=kind, traceback=trace, hint=hint)
    return TaskFailedError(msg, type=kind, traceback=trace, hint=hint)


@cache
def _caught_as(name: str) -> type[TaskFailedError]:
    """The class of a TaskFailedError that `except` of a built-in class catches."""
    base = vars(builtins)[name]
    if issubclass(TaskFailedError, base):
        return TaskFailedError
    methods = {
        "__module__": TaskFailedError.__module__,
        "__reduce__": lambda error: (_stand_in, (name, error.message), vars(error)),
    }
    return type(TaskFailedError.__name__, (TaskFailedError, base), methods)


def _stand_in(name: str, message: str) -> TaskFailedError:
    return _caught_as(name)(message)


def _made_anew(said_of: Mapping[str, Any]) -> Exception | None:
    cls: Any = import_module(said_of["module"])
    for name in said_of["type"].split("."):
        cls = getattr(cls, name)
    args, state = said_of["args"], said_of.get("state", {})
    members = said_of.get("members", ())
    if members:
        args = [*args, [_error_of(each, each["text"]) for each in members]]
    # A class whose arguments by name are gone is made as a copy of it would be.
    for make in (cls, partial(cls.__new__, cls)):
        try:
            error = make(*args)
            error.__setstate__(state)
            if type(error) is cls and said(error)[1] == said_of["message"]:
                return cast("Exception", error)
        except BaseException as raised:
            if not is_values(raised):
                raise
    return None
