"""In which order tasks run, and whether there is room for one more."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from taskorch._base.frozen import frozen
from taskorch.model import Task
from taskorch.protocols._context import Context
from taskorch.protocols._reuse import Reuse


@frozen
class Order:
    """
    The place of a task in the queue.

    Lower keys start first, equal ones in the order of submission. It is either a
    *key*, or a rule: with `aging`, the key is the time of submission less priority
    times `aging` seconds; with `aging=0` that is first in, first out. Under the rule
    tasks of one batch have equal keys, and come in the order of their latest finish
    times, where it is known how long they take; but not with `aging=0`.

    Attributes:
        key: A number, or a tuple of numbers and strings; all keys of one queue must be
            comparable with each other.
        aging: Seconds of waiting that one level of priority is worth.
        reusable: Whether the rule holds for every task; a key never does.
    """

    key: Any = None
    aging: float | None = None
    reusable: Reuse = False


@frozen
class Admission:
    """
    Whether a task may join the queue.

    Attributes:
        admitted: Whether it may join the queue.
        reason: Why.
        max_age: Seconds that it may wait before it expires (FAILED,
            `TaskExpiredError`); None is for ever.
        reusable: Whether it holds for every task, whatever the length of the queue.
    """

    admitted: bool
    reason: str = ""
    max_age: float | None = None
    reusable: Reuse = False


@runtime_checkable
class TaskQueue(Protocol):
    """
    Protocol: decides the order and the admission; the kernel keeps the tasks.

    It is asked under the orchestrator's lock: it must be fast and do no I/O.

    A queue may have one more method (`RanksOwners`), `standing(owner, context)`, which
    says of an `OwnerView` with a number where it stands: of the owners whose tasks can
    start, the one that stands lowest is served first, and of equals the one that was
    served longest ago. The keys then order the tasks of one owner. It is asked again
    when what is held for the owner has changed, or what it wants.

    A queue may have a true attribute `backfill` (`Backfills`): then the first task in
    order that cannot start has a reservation, and later ones pass it only if that does
    not put it off, as far as is known how long tasks take. It has no method `standing`
    then. One that learns has what `Learns` says.

    Laws:
        1. The key of a task depends on the task and the time of its submission only:
           it never changes while the task waits, except by `set_priority`.
        2. Keys can be compared with each other: a total order.
        3. It changes none of its arguments.
        4. A standing is a number, and follows from the owner and the sizes of the pools
           only: it is kept while these are the same, whatever the time.
    """

    def order(self, task: Task, context: Context) -> Order:
        """The place of *task*; `context.now` is the time of its submission."""
        ...

    def admit(self, task: Task, context: Context) -> Admission:
        """Whether *task* may join; `context.view.queued` is the queue's length."""
        ...
