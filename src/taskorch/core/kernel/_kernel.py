"""The class with the state and all commands and questions of the kernel.

Each command is a function of its own, of `KernelState`; the class lists them. A driver
holds a lock around every call.

Decisions: kernel, rooms-and-loading.
"""

from __future__ import annotations

from typing import ClassVar, Final

from taskorch.core.kernel import (
    _admission,
    _application,
    _attempts,
    _breakers,
    _control,
    _dispatch,
    _ends,
    _limits,
    _queue,
    _quick,
    _shortages,
    _standing,
)
from taskorch.core.kernel._deciders import bind
from taskorch.core.kernel._rows import StartLimit
from taskorch.core.kernel._scopes import Scopes
from taskorch.core.kernel._state import KernelState


class Kernel(KernelState):
    """
    The state machine of one orchestrator: its state, and all commands on it.

    Not thread-safe: the driver holds a lock around every call. After a call, the driver
    reads and empties `starts`, `effects`, `touched`, `dropped` and the sink; it writes
    no other part of the state.
    """

    _first_limits: ClassVar[tuple[type[StartLimit], ...]] = (Scopes,)

    # The usual path of a task.
    submit: Final = _quick.submit
    dispatch: Final = _quick.dispatch
    complete: Final = _quick.complete
    complete_for_next: Final = _quick.complete_for_next

    # Submissions and further parents.
    bucket: Final = _queue.bucket_of
    consider: Final = _admission.consider
    in_order: Final = _admission.in_order
    accept: Final = _admission.accept
    submit_general: Final = _admission.submit
    add_parents: Final = _control.add_parents
    repoint: Final = _control.repoint

    # Waits and ends of attempts.
    end_attempt: Final = _attempts.end
    end_reported: Final = _attempts.end_reported
    fail_late: Final = _attempts.fail_late
    yield_slot: Final = _attempts.yield_slot
    reclaim_slot: Final = _attempts.reclaim_slot
    forgo_slot: Final = _attempts.forgo_slot
    give_up: Final = _attempts.give_up
    too_much: Final = _attempts.too_much
    change_held: Final = _attempts.change
    adjust: Final = _dispatch.adjust

    # Commands of users.
    cancel: Final = _control.cancel
    suspend: Final = _control.suspend
    resume: Final = _control.resume
    set_priority: Final = _control.set_priority
    decide: Final = _control.decide
    release_denied: Final = _control.release_denied
    judge_starts: Final = _control.judge_starts
    answer: Final = _control.answer
    refuse_answer: Final = _control.refuse_answer
    emit: Final = _control.emit
    expire: Final = _control.expire
    miss: Final = _control.miss
    consider_change: Final = _admission.consider_change
    change_options: Final = _admission.apply

    # Workers, time and memory.
    add_worker: Final = _control.add
    match: Final = _shortages.match
    note_fault: Final = _ends.note_fault
    beat: Final = _control.beat
    leave: Final = _control.leave
    drain: Final = _breakers.drain
    restore_breakers: Final = _breakers.restore
    excuse: Final = _control.excuse
    tick: Final = _control.tick
    evict: Final = _application.evict
    evict_rows: Final = _application.evict_rows

    # Resource pools, quotas, and allocations by hand.
    change_pools: Final = _limits.change_pools
    change_quotas: Final = _standing.change_quotas
    spend: Final = _attempts.spend
    claimed: Final = _limits.need_of
    too_small: Final = _limits.too_small_for
    allocate: Final = _limits.allocate
    await_allocation: Final = _limits.wait
    withdraw: Final = _limits.withdraw
    serve_claims: Final = _limits.serve
    release_allocation: Final = _limits.release_by_hand

    # Documents of extensions.
    keep_document: Final = _standing.keep

    # Schedules.

    # The state of the runtime.
    act_for: Final = _standing.act_for
    pause: Final = _standing.pause
    unpause: Final = _standing.unpause
    limit: Final = _standing.limit
    hold_starts: Final = _standing.hold
    release_starts: Final = _standing.release
    stop_attempt: Final = _standing.stop_attempt
    own_event: Final = _standing.own_event
    keep_finished: Final = _standing.keep_finished
    remember_ended: Final = _standing.remember_ended
    forget_ended: Final = _standing.forget_ended
    forget_tasks: Final = _standing.forget_tasks
    fail_everything: Final = _standing.fail_everything


bind(Kernel)
