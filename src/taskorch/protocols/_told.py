"""Protocols of user code that is called after events and failures, with their laws."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol, runtime_checkable

from taskorch.events import Event
from taskorch.model import Task
from taskorch.protocols._policies import Failure


@runtime_checkable
class Recovery(Protocol):
    """
    Repair of the cause of a failed attempt: `@orch.recover("system_error")`.

    It is called on the thread of the attempt, or on one beside it, and until it
    returns, the attempt goes on. If it raises, it has failed itself, and the attempt
    keeps its own error.

    Laws:
        1. It returns, in a small part of the time that an attempt may take.
        2. It answers `"retry"` or `"escalate"`, or True, False or None, which mean the
           same. At level 2, its answer does not matter.
        3. It changes none of its arguments.
        4. It may be called by several threads at once, and again for the same failure:
           after a crash it is unknown whether it was called.
    """

    def __call__(self, task: Task, failure: Failure, context: Any, /) -> object:
        """
        Try to mend the cause.

        Args:
            task: The task.
            failure: The failure of its attempt; `failure.kind` is its class.
            context: The context of the attempt.
        """
        ...


@runtime_checkable
class AlertCondition(Protocol):
    """
    Condition that raises or clears an alert: `orch.alerts.rule(name, when=…)`.

    It is called on a thread of its own. If it raises, an event names its rule, and the
    other rules are watched as before.

    Laws:
        1. It answers whether it holds, for any measured values. None as a value, or as
           the answer, means that there is no data; comparing it is no fault.
        2. It answers the same to the same values: it keeps no state.
        3. It changes none of its arguments.
        4. It answers within a second.
        5. The condition that clears an alert does not hold while the one that raises it
           does: else the alert would flap.
    """

    def __call__(self, measured: Mapping[str, Any], /) -> object:
        """
        Return whether it holds.

        Args:
            measured: The measured values, by name.
        """
        ...


@runtime_checkable
class AlertAction(Protocol):
    """
    Action while an alert fires: `orch.alerts.rule(name, action=…)`.

    It is called on a thread of its own, and so is its undo, afterwards. If it raises or
    hangs, nothing else waits, and an event names its rule.

    Laws:
        1. It returns None, or a function that undoes it, called without arguments.
        2. Its undo leaves no trace: no hold of starts, no other size of a pool, no
           worker without work.
        3. It may be called again without an undo: in a new incarnation of the
           orchestrator no alert fires at first, and a lasting condition raises it
           again.
        4. It returns within five seconds, and so does its undo.
    """

    def __call__(self, orchestrator: Any, alert: Any, /) -> object:
        """
        Carry out the action.

        Args:
            orchestrator: The orchestrator, or a simulation.
            alert: The alert, see `taskorch.ext.recovery.Alert`.
        """
        ...


@runtime_checkable
class Receiver(Protocol):
    """
    Receiver of messages of `orch.notify` by HTTP, which answers the requests.

    Messages come one after the other; one that is not accepted is sent again, at
    growing intervals. A receiver that never answers delays only itself, and health and
    log name the messages that it did not get.

    Laws:
        1. It answers each kind of message with a status of 200 to 299, in time.
        2. A repeated message, under the same number, gets the same answer: after a
           restart all open messages are sent again.
        3. Unknown fields, and unknown kinds of messages, do it no harm.
        4. With a secret, it refuses a message without a valid signature by a status
           from 400 to 499 that means "never" (not 408, 425 or 429).
    """

    def __call__(self, headers: Mapping[str, str], body: bytes, /) -> int:
        """
        Answer a message.

        Args:
            headers: The headers of the request, by name.
            body: The message, as JSON.

        Returns:
            The status of the answer.
        """
        ...


#: The number of all events.
ALL_PAST: Final = 2**63 - 1


class Projection(Protocol):
    """
    Protocol: a consumer of all events, each once and in order, without a gap.

    `orch.signals.follow` starts it. A class that inherits from it writes `take`; all
    else has defaults here.

    Attributes:
        wants: The classes of events that it takes; None is all that a journal keeps.
        past: The most events before its beginning that it takes, the latest ones; 0 is
            from now on. Without a durable journal there are none.
        position: The number of the last event that it has taken. Keep it and set it
            again, so that a later incarnation goes on from there.

    Promises to it:
        1. `take` is called with each event that is kept and that it wants, once, in the
           order of their numbers, from the one after `position` on. Events that
           retention has removed meanwhile are left out.
        2. It is called on one thread at a time, never under the lock of the
           orchestrator: for past events on the thread that calls `follow` or `start`,
           and then on the one that publishes.
        3. If it raises, the error is logged and reported by a `ReceiverFailed`, and the
           next event follows.
        4. If it is slower than the events, nobody waits for it. It reads late events
           from the journal, and `orch.health()` says how far it is behind. Without a
           durable journal it loses events, and an `EventsLost` says so.
        5. After each event `position` is set, if `take` has not done so. State that is
           kept in one step with its position reflects each event exactly once, across
           restarts. If only the position is kept, an act of `take` may be repeated
           after a crash, and is never left out.
    """

    wants: frozenset[type[Event]] | None = None
    past: int = ALL_PAST
    position: int = 0

    def take(self, event: Event, document: Any) -> object:
        """
        Process *event*.

        Args:
            event: The event; a `TaskCompleted` has its result.
            document: The task of a `TaskSubmitted`, if still known; the payload of an
                `EventEmitted`; None for all others.
        """
        ...
