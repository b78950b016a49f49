"""Parts of yours that are told of what happens, or goes wrong, and their laws."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol, runtime_checkable

from taskorch.events import Event
from taskorch.model import Task
from taskorch.protocols._policies import Failure


@runtime_checkable
class Recovery(Protocol):
    """
    Tries to mend what made an attempt fail: `@orch.recover("system_error")`.

    It is called on the thread of the attempt, or on one beside it, and while it is,
    the attempt goes on. What it raises is its own fault: it has failed, and the attempt
    has the error that it had.

    Laws:
        1. It returns, in a small part of the time that an attempt may take.
        2. It answers `"retry"` or `"escalate"`, or True, False or None, which mean the
           same. Of level 2, what it answers is no matter.
        3. It changes none of its arguments.
        4. It may be called by several threads at once, and again about the same
           failure: after a crash nobody knows whether it was called.
    """

    def __call__(self, task: Task, failure: Failure, context: Any, /) -> object:
        """
        Try it.

        Args:
            task: The task.
            failure: What its attempt failed with; `failure.kind` is the class of that.
            context: The context of the attempt.
        """
        ...


@runtime_checkable
class AlertCondition(Protocol):
    """
    Says whether an alert is raised, or is over: `orch.alerts.rule(name, when=…)`.

    It is called on a thread of its own. One that raises is told by the name of its
    rule, and the other rules are watched as before.

    Laws:
        1. It answers whether it holds, whatever is measured. None as a value, and as
           the answer, says that there is no data; to compare that is no fault.
        2. It answers the same to the same: it keeps nothing.
        3. It changes nothing that it is given.
        4. It answers within a second.
        5. The one by which an alert is over does not hold while that one does by which
           it is raised: else it would flap.
    """

    def __call__(self, measured: Mapping[str, Any], /) -> object:
        """
        Say whether it holds.

        Args:
            measured: What is measured, by name.
        """
        ...


@runtime_checkable
class AlertAction(Protocol):
    """
    Does something while an alert fires: `orch.alerts.rule(name, action=…)`.

    It is called on a thread of its own, and so is what undoes it, afterwards. One that
    raises, or hangs, holds up nothing else, and is told by the name of its rule.

    Laws:
        1. It returns None, or what undoes it, which is called as it is.
        2. Once it is undone nothing of it is left: no hold of starts, no other size of
           a pool, no worker that gets no work.
        3. It may be called again without having been undone: in a new incarnation of
           the orchestrator no alert fires, and what still is so is found again.
        4. It returns within five seconds, and so does what undoes it.
    """

    def __call__(self, orchestrator: Any, alert: Any, /) -> object:
        """
        Do it.

        Args:
            orchestrator: The orchestrator, or a simulation.
            alert: The alert, see `taskorch.recovery.Alert`.
        """
        ...


@runtime_checkable
class Receiver(Protocol):
    """
    Takes messages of `orch.notify`, by HTTP; this is what answers a request.

    Messages come one after the other, and one that is not taken is sent again, longer
    and longer apart. One that never answers holds up nothing but itself, and health
    and log say what it did not get.

    Laws:
        1. It answers each kind of message with a status of 200 to 299, in time.
        2. A message that comes again, under the same number, is answered so too: after
           a restart what is still open is sent again.
        3. Fields that it does not know, and kinds of messages, do it no harm.
        4. With a secret: what nobody has signed with that, or signed otherwise than it
           has come, is refused by a status from 400 to 499 that says "never" (not 408,
           425 or 429).
    """

    def __call__(self, headers: Mapping[str, str], body: bytes, /) -> int:
        """
        Answer a message.

        Args:
            headers: Those of the request, by their names.
            body: The message, as JSON.

        Returns:
            The status of the answer.
        """
        ...


#: As many events as there are.
ALL_PAST: Final = 2**63 - 1


class Projection(Protocol):
    """
    Protocol: what follows events, each once and in order, without a gap.

    `orch.signals.follow` has it begin. A class that inherits from it writes `take`; all
    else has the defaults that stand here.

    Attributes:
        wants: The classes of events that it takes; None: all that a journal keeps.
        past: How many of the latest events before its beginning it takes at the most:
            0 is from now on. Without a durable journal there are none.
        position: The number of the last event that it has taken. It is the caller's to
            keep and to give back, for a later life to go on from there.

    What is promised to it:
        1. `take` is called with each event that is kept and that it wants, once, in the
           order of their numbers, from the one after `position` on. What retention has
           removed meanwhile is left out.
        2. It is called on one thread at a time, never under the lock of the
           orchestrator: with the past on the thread that calls `follow` or `start`, and
           then on the one that publishes.
        3. If it raises, that is logged and told by a `ReceiverFailed`, and it goes on
           with the next event.
        4. If it is slower than the events are, nobody waits for it. It reads in the
           journal what it could not take in time, and `orch.health()` says how far it
           is behind. Without a durable journal it loses what is too much: an
           `EventsLost` says so.
        5. After each event `position` is set, if `take` has not done so. What is kept
           together with the position that it belongs to has each event exactly once, in
           whichever life. Where only the position is kept, an act of `take` may be
           repeated after a crash, and is never left out.
    """

    wants: frozenset[type[Event]] | None = None
    past: int = ALL_PAST
    position: int = 0

    def take(self, event: Event, document: Any) -> object:
        """
        Take in *event*.

        Args:
            event: The event; a `TaskCompleted` has its result.
            document: Of a `TaskSubmitted` the task, if that is known still, and of an
                `EventEmitted` the payload. None of all others.
        """
        ...
