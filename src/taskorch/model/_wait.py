"""A wait for something outside, as a task."""

from __future__ import annotations

from enum import Enum
from typing import Any, Final

import attrs

from taskorch._base._frozen import frozen
from taskorch.errors import InvalidTaskError
from taskorch.model._checks import is_name
from taskorch.model._ids import split_first
from taskorch.model._retry_policy import check_seconds, to_seconds
from taskorch.model._show import show, shown

#: The longest name of an event, in characters.
_MAX_NAME: Final = 500


class _Raise(Enum):
    RAISE = "raise"


#: Stands for no default: a wait that takes too long fails.
RAISE: Final = _Raise.RAISE


def check_event(name: object) -> str:
    """
    Refuse what is no name of an event.

    Raises:
        InvalidTaskError: It is none.
    """
    if not is_name(name) or len(name) > _MAX_NAME:
        msg = (
            f"an event has a name that can be printed, of at most {_MAX_NAME} "
            f"characters and without a space at either end, not {show(name)}"
        )
        raise InvalidTaskError(msg)
    return name


#: How the events begin that stand for answers to questions.
ANSWER_TO: Final = "answer to "
#: How the events begin that stand for approvals; then come the run and the phase.
APPROVAL_OF: Final = "approval of "


def asked_of(event: str) -> tuple[str, str] | None:
    """The run and the phase whose approval *event* stands for, if it is such."""
    run_id, phase = split_first(event.removeprefix(APPROVAL_OF))
    return (run_id, phase) if event.startswith(APPROVAL_OF) and phase else None


def is_for_people(event: str) -> bool:
    """Whether *event* stands for what people say."""
    return event.startswith(ANSWER_TO) or asked_of(event) is not None


def check_emitted(name: object) -> str:
    """
    Refuse what is no name of an event that may be emitted.

    Raises:
        InvalidTaskError: It is none, or is for people to answer.
    """
    checked = check_event(name)
    if is_for_people(checked):
        msg = f"{show(name)} is no event: people answer a question"
        raise InvalidTaskError(msg, hint="orch.answer(id, choice, by=…)")
    return checked


@frozen
class Wait:
    """
    A wait for an event from outside, as the payload of a task: see `Task.wait_for`.

    Attributes:
        event: The name of the event; None waits for the time only.
        timeout: Seconds from when it begins to wait; None is for ever.
        default: What it completes with when the time is over; `RAISE`: it fails.

    Raises:
        InvalidTaskError: *event* is no name, *timeout* is no number of seconds, or they
            make no sense together.
    """

    event: str | None
    timeout: float | None = attrs.field(default=None, converter=to_seconds)
    default: Any = RAISE

    __repr__ = shown

    def __attrs_post_init__(self) -> None:
        if self.timeout is not None:
            check_seconds("timeout", self.timeout)
        if self.event is not None:
            check_event(self.event)
        elif self.timeout is None or self.default is RAISE:
            msg = "a wait for no event needs a timeout and a default, as a timer does"
            raise InvalidTaskError(msg)
        if self.timeout is None and self.default is not RAISE:
            msg = "a default is for when the time is over: give it a timeout"
            raise InvalidTaskError(msg)
