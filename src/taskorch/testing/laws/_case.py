"""
One case of a law check: a question, and the error for a wrong answer.

An object under check must not change its arguments: snapshots before and after show it.
"""

from __future__ import annotations

import dataclasses
import inspect
import random
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from enum import Enum
from random import Random
from typing import Any, Final, NoReturn, TypeVar, cast

import attrs
from attrs.exceptions import FrozenInstanceError

from taskorch.kit.visible import show, with_article
from taskorch.model import Task

_PLAIN: Final = (
    type(None),
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    datetime,
    timedelta,
    Enum,
)
#: The same classes, for a quick test: most values are of one of these themselves.
_PLAINEST: Final = frozenset(_PLAIN)


@attrs.frozen
class _Object:
    """An object that is compared by identity alone."""

    value: object = attrs.field(eq=id)


def snapshot(value: object) -> object:
    """
    Return a snapshot of *value*, which equals a later one if nothing has changed.

    It looks into mappings, lists, tuples, sets, exceptions, and the instances of attrs
    classes and dataclasses; anything else is compared by identity alone.
    """
    return _picture(value, ())


def _picture(value: object, above: tuple[int, ...]) -> object:
    if type(value) in _PLAINEST or isinstance(value, _PLAIN):
        return value
    if isinstance(value, set | frozenset):
        # Equal sets may differ in order; their members are hashable, and do not change.
        return type(value), frozenset(value)
    if id(value) in above:
        # The value contains itself, and is being read already.
        return _Object(value)
    parts = _parts(value)
    if parts is None:
        return _Object(value)
    inside = (*above, id(value))
    return type(value), tuple(_picture(part, inside) for part in parts)


def _parts(value: Any) -> list[Any] | None:
    """Return the parts of *value*, in order; None if it is taken as a whole."""
    cls = type(value)
    if attrs.has(cls):
        return [getattr(value, field.name) for field in attrs.fields(cls)]
    if dataclasses.is_dataclass(value):
        return [getattr(value, field.name) for field in dataclasses.fields(value)]
    if isinstance(value, Mapping):
        return [part for pair in value.items() for part in pair]
    if isinstance(value, list | tuple | deque):
        return list(value)
    if isinstance(value, bytearray):
        return [bytes(value)]
    if isinstance(value, BaseException):
        return [value.args, vars(value)]
    return None


T = TypeVar("T")

#: Law 0 of every protocol: an answer has the type of its annotation.
_FORM: Final = 0
_LAW: Final = re.compile(r"^    (\d+)\. (.+(?:\n {7}.+)*)", re.MULTILINE)
#: The number of characters in a message for a question.
_MAX_SHOWN: Final = 500


class LawViolation(AssertionError):  # noqa: N818 - what was found, as in Verdict
    """
    A class breaks a law of its protocol.

    Attributes:
        protocol: The name of the protocol.
        law: The number of the law in the protocol's docstring; 0 if the answer has
            not even the type that its protocol gives it.
        case: The number of the case that shows it, from 1: the same seed finds it
            again there.
    """

    def __init__(
        self, message: str, protocol: str = "", law: int = 0, case: int = 0
    ) -> None:
        super().__init__(message)
        self.protocol = protocol
        self.law = law
        self.case = case


@attrs.frozen
class Case:
    """
    A question with its own random generator, independent of earlier questions.

    Its methods raise a LawViolation that names the law, the answer and the case.
    """

    protocol: type
    #: The name of the check function.
    check: str
    #: The number of the law that forbids changes of arguments.
    unchanged: int
    number: int
    seed: int
    random: Random

    def fail(
        self, law: int, did: str, *, says: str = "", cause: Exception | None = None
    ) -> NoReturn:
        """
        Raise the error that the protocol is broken.

        Args:
            law: The number of the law.
            did: A sentence on the fault.
            says: The text of the law, if no docstring has it.
            cause: The error that shows it.
        """
        text = says or laws_of(self.protocol).get(law, "it holds.")
        name = self.protocol.__name__
        message = f"{name} law {law}: {_lower(text)} {did} ({self._where()})"
        raise LawViolation(message, name, law, self.number) from cause

    def expect(self, held: object, law: int, did: str) -> None:
        """Fail unless *held*."""
        if not held:
            self.fail(law, did)

    def ask(
        self, method: Callable[..., Any], answer: type[T], /, **question: object
    ) -> T:
        """
        Return the answer of *method* to *question*, its arguments in their order.

        Raises:
            LawViolation: It is no *answer*, or an argument was changed.
            Exception: The error of *method*, with a note that names the case.
        """
        # A context cannot be changed: see the builders.
        looked_at = {name: question[name] for name in question if name != "context"}
        before = {name: snapshot(value) for name, value in looked_at.items()}
        try:
            with self.noted(**question):
                reply = method(*question.values())
        except FrozenInstanceError as error:
            did = f"It tried to change what cannot be changed, in {_called(method)}."
            self.fail(self.unchanged, did, cause=error)
        for name, picture in before.items():
            if snapshot(question[name]) != picture:
                did = f"{_called(method)} changed {name}, which now is"
                self.fail(self.unchanged, f"{did} {brief(question[name])}.")
        if not isinstance(reply, answer):
            self.malformed(answer, reply)
        return reply

    def form(self, answer: Any, **kinds: Any) -> None:
        """Expect the attributes of *answer* to be of the types that *kinds* gives."""
        for name, kind in kinds.items():
            if not isinstance(getattr(answer, name), kind):
                self.malformed(type(answer), answer)

    def malformed(self, cls: type, reply: object) -> NoReturn:
        """Fail: *reply* is not a *cls* as its protocol describes it."""
        says = (
            f"it answers with {with_article(cls.__name__)} as its fields are annotated."
        )
        self.fail(_FORM, f"It answered {brief(reply)}.", says=says)

    @contextmanager
    def noted(self, **question: object) -> Iterator[None]:
        """Add the case and *question* to errors that pass through here."""
        try:
            yield
        except LawViolation:
            raise
        except Exception as error:
            lines = "".join(f"\n  {n} = {brief(v)}" for n, v in question.items())
            error.add_note(f"in {self._where()}{lines}")
            raise

    @contextmanager
    def chance(self, nth: int) -> Iterator[None]:
        """Give the generator of the module `random` the *nth* state of this case."""
        state = random.getstate()
        random.seed(f"{self.seed}/{self.number}/{nth}")
        try:
            yield
        finally:
            random.setstate(state)

    def _where(self) -> str:
        seed = self.seed
        return f"case {self.number}, seed {seed}: {self.check}(..., seed={seed})"


def cases(
    protocol: type, check: str, seed: int, examples: int, unchanged: int = 0
) -> Iterator[Case]:
    """Cases numbered from 1 to *examples*."""
    for number in range(1, examples + 1):
        dice = Random(f"{seed}/{number}")  # noqa: S311 - repeatable, and no secret
        yield Case(protocol, check, unchanged, number, seed, dice)


def laws_of(protocol: type) -> dict[int, str]:
    """
    The laws in the docstring of *protocol*, by number (none under `python -OO`).

    A protocol that names none has those of the one that it inherits from.
    """
    docstrings = (inspect.cleandoc(each.__doc__ or "") for each in protocol.__mro__)
    texts = (each.partition("Laws:\n")[2] for each in docstrings)
    text = next(filter(None, texts), "")
    return {
        int(match[1]): re.sub(r"[*`]", "", " ".join(match[2].split()))
        for match in _LAW.finditer(text)
    }


def maker(subject: T | Callable[[], T], protocol: type[Any]) -> Callable[[], T]:
    """
    Return a function that gives the object for a case: *subject*, or a new one.

    Raises:
        TypeError: *subject* has not the methods of *protocol*, and cannot be called.
    """
    if not isinstance(subject, type) and isinstance(subject, protocol):
        return lambda: cast("T", subject)
    return factory(cast("Callable[[], T]", subject), protocol)


def factory(make: Callable[[], T], protocol: type[Any]) -> Callable[[], T]:
    """
    *make*, of which each case needs an object of its own.

    Raises:
        TypeError: It cannot be called; or, when it is called, what it makes has not
            the methods of *protocol*.
    """
    name = with_article(protocol.__name__)
    if not callable(make):
        why = _lacks(make, protocol) or ": give its class, or a function"
        msg = f"what makes {name} is needed, not {show(make)}{why}"
        raise TypeError(msg)

    def checked() -> T:
        product = make()
        if not isinstance(product, protocol):
            why = _lacks(product, protocol)
            msg = f"{show(make)} made {show(product)}, which is not {name}{why}"
            raise TypeError(msg)
        return cast("T", product)

    return checked


def _lacks(candidate: object, protocol: type[Any]) -> str:
    """Return the missing methods of *protocol*, as the end of a sentence."""
    names = [
        name
        for base in reversed(protocol.__mro__)
        for name in vars(base)
        if not name.startswith("_") and not hasattr(candidate, name)
    ]
    return f": it has no {' and no '.join(names)}" if names else ""


def brief(value: object) -> str:
    """Return *value* for a message; of a Task only values that are not defaults."""
    if isinstance(value, Task):
        return _brief_task(value)
    if isinstance(value, list | tuple):
        inner = ", ".join(map(brief, value))
        return f"[{inner}]" if isinstance(value, list) else f"({inner})"
    return show(value, _MAX_SHOWN)


def twice(answer: object, again: object) -> str:
    """Return the message for an answer that differs from the one before."""
    return (
        f"It answered {brief(answer)}, then {brief(again)}. (If it counts what it is "
        "asked, have a new one made for each question: give the class.)"
    )


def _brief_task(task: Task) -> str:
    fields = [field for field in attrs.fields(Task) if field.init]
    shown = [
        f"{field.name}={show(getattr(task, field.name), _MAX_SHOWN)}"
        for field in fields[1:]
        if getattr(task, field.name) != field.default
    ]
    return f"Task({', '.join([show(task.type), *shown])})"


def _called(method: Callable[..., Any]) -> str:
    return f"{getattr(method, '__name__', 'it')}()"


def _lower(text: str) -> str:
    return text[0].lower() + text[1:]
