"""Who listens to what: the facts that receivers want are noted, and no others."""

from __future__ import annotations

import threading
from typing import Final, Protocol

from taskorch._visible import said
from taskorch.events import (
    CATALOGUE,
    VIEWS,
    Event,
    HealthReported,
    PerformanceReported,
    ReceiverFailed,
    StatsReported,
    TaskReady,
)
from taskorch.journal import MemoryJournal
from taskorch.runtime._deciders import PolicyDeciders
from taskorch.runtime._driver import Driver
from taskorch.runtime._interrupts import defers_interrupts
from taskorch.runtime._notices import Notices
from taskorch.runtime._publisher import Publisher, Receiver
from taskorch.runtime._timer import TimerThread
from taskorch.signals import Signals

#: Events that are reported at an interval, if they have receivers.
MONITORING: Final = (StatsReported, HealthReported, PerformanceReported)


class ListeningHost(Driver, Protocol):
    """What listening asks of a runtime."""

    deciders: PolicyDeciders
    #: Keeps events in memory, if asked to.
    memory: MemoryJournal | None
    notices: Notices
    #: Whether the journal has been read.
    opened: bool
    publisher: Publisher
    signals: Signals
    timer: TimerThread
    #: What those who listen want to hear of.
    wanted: frozenset[type[Event]]

    _changing: threading.Lock


def receivers_changed(rt: ListeningHost) -> None:
    """A receiver came or went: listen for what is wanted, and for no more."""
    rt.deciders.refuse_reentry()
    with rt._changing:
        _listen(rt)


@defers_interrupts
def _listen(rt: ListeningHost) -> None:
    old = {
        (cls, id(receiver.call)): receiver
        for cls, receivers in rt.publisher.receivers.items()
        for receiver in receivers
    }
    wanted = {
        cls: tuple(old.get((cls, id(call))) or Receiver(name, call) for call in calls)
        for cls, (name, calls) in rt.signals.connected().items()
    }
    facts = {
        fact: None
        for fact, views in VIEWS.items()
        if any(view in wanted for view in views)
    }
    keep = rt.memory is None or rt.memory.keep_events
    with rt.lock:
        rt.publisher.receivers = wanted
        rt.wanted = frozenset(facts)
        if not rt.opened:
            # The facts of earlier lives are told to nobody.
            return
        sink = rt.kernel.sink
        if sink is None and (facts or keep):
            sink = []
        elif not (facts or keep):
            sink = None
        classes = frozenset(CATALOGUE if keep else facts)
        rt.kernel.listen(sink, classes, ready=TaskReady in facts)
    rt.timer.monitor(any(cls in wanted for cls in MONITORING))


def receiver_failed(
    rt: ListeningHost, receiver: Receiver, error: BaseException
) -> None:
    """A receiver raised."""
    rt.notices.receiver_failed(receiver, error)
    described = said(error)
    rt.step(
        lambda now: rt.kernel.note(
            ReceiverFailed, now, receiver.signal, receiver.name, *described
        )
    )
