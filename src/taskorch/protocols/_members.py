"""What protocols ask of a policy, read from them; and whether a policy has it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import cache
from inspect import iscoroutinefunction, isfunction, signature
from typing import Any, Final, TypeGuard, get_type_hints

from taskorch.errors import InvalidTaskError
from taskorch.model import Resources, check_seconds, show
from taskorch.protocols._optional import MAY_HAVE


@cache
def members_of(protocol: type) -> tuple[str, ...]:
    """The names of the methods and attributes of *protocol*, in order."""
    return tuple(name for name in vars(protocol) if not name.startswith("_"))


@cache
def methods_of(protocol: type) -> tuple[str, ...]:
    """The names of the methods of *protocol*, in order."""
    members = vars(protocol)
    return tuple(name for name in members_of(protocol) if isfunction(members[name]))


def arguments_of(protocol: type, method: str) -> tuple[str, ...]:
    """The names of what *method* of *protocol* is given, in order."""
    return tuple(signature(vars(protocol)[method]).parameters)[1:]


def answer_of(protocol: type, method: str) -> Any:
    """What *method* of *protocol* returns: a class."""
    return get_type_hints(vars(protocol)[method])["return"]


def has(part: object, protocol: type) -> TypeGuard[Any]:
    """
    Whether *part* has the members of *protocol*; what is None, it has not.

    Unlike `isinstance`, it sees what a part hands on that has none of its own.
    """
    return all(getattr(part, name, None) is not None for name in members_of(protocol))


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
