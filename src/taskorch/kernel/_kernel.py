"""
The door of the kernel: the state, and all that can be asked of it.

Each verb is a function of its own, of `KernelState`; here stands which one. A driver
holds a lock around every call.

Decisions: 0036, 0044.
"""

from __future__ import annotations

from typing import Final

from taskorch.kernel import (
    _admission,
    _allocations,
    _application,
    _attempts,
    _breakers,
    _control,
    _dispatch,
    _driving,
    _edges,
    _faults,
    _grants,
    _holds,
    _latest_finish,
    _leases,
    _options,
    _pools,
    _queue,
    _quick,
    _quotas,
    _remembered,
    _schedules,
    _tick,
)
from taskorch.kernel._methods import bind
from taskorch.kernel._state import KernelState


class Kernel(KernelState):
    """
    The state machine of one orchestrator: its state, and what can be done to it.

    Not thread-safe: the driver holds a lock around every call. After a call the
    driver takes what is in `starts`, `effects`, `touched`, `dropped` and the sink, and
    empties them; nothing else of the state is written from outside.
    """

    # The path of nearly every task.
    submit: Final = _quick.submit
    dispatch: Final = _quick.dispatch
    complete: Final = _quick.complete
    complete_for_next: Final = _quick.complete_for_next

    # A task comes, or is to wait for more.
    bucket: Final = _queue.bucket_of
    consider: Final = _admission.consider
    in_order: Final = _latest_finish.in_order
    accept: Final = _admission.accept
    submit_general: Final = _admission.submit
    add_parents: Final = _edges.add_parents
    repoint: Final = _edges.repoint

    # An attempt waits, or ends.
    end_attempt: Final = _attempts.end
    end_reported: Final = _attempts.end_reported
    fail_late: Final = _attempts.fail_late
    yield_slot: Final = _attempts.yield_slot
    reclaim_slot: Final = _attempts.reclaim_slot
    forgo_slot: Final = _attempts.forgo_slot
    give_up: Final = _attempts.give_up
    too_much: Final = _attempts.too_much
    change_held: Final = _attempts.change
    adjust: Final = _grants.adjust

    # Control by the user.
    cancel: Final = _control.cancel
    suspend: Final = _control.suspend
    resume: Final = _control.resume
    set_priority: Final = _control.set_priority
    decide: Final = _control.decide
    answer: Final = _control.answer
    refuse_answer: Final = _control.refuse_answer
    emit: Final = _control.emit
    expire: Final = _control.expire
    miss: Final = _control.miss
    consider_change: Final = _options.consider
    change_options: Final = _options.apply

    # Agents, time, and what leaves memory.
    add_agent: Final = _leases.add
    match: Final = _dispatch.match
    note_fault: Final = _faults.note_fault
    beat: Final = _leases.beat
    leave: Final = _leases.leave
    drain: Final = _breakers.drain
    excuse: Final = _leases.excuse
    tick: Final = _tick.tick
    evict: Final = _application.evict

    # How much there is, and what people take of it by hand.
    change_pools: Final = _pools.change
    change_quotas: Final = _quotas.change
    claimed: Final = _allocations.need_of
    allocate: Final = _allocations.allocate
    await_allocation: Final = _allocations.wait
    withdraw: Final = _allocations.withdraw
    serve_claims: Final = _allocations.serve
    release_allocation: Final = _allocations.release

    # What is known of schedules after a restart.
    change_schedule: Final = _schedules.change
    fire_schedule: Final = _schedules.fire
    queue_schedule: Final = _schedules.queue
    skip_schedule: Final = _schedules.skip

    # Whose result is that of a like task.
    remember_result: Final = _remembered.remember
    reuse_result: Final = _remembered.reuse
    forget_results: Final = _remembered.forget

    # The state of the driver itself.
    pause: Final = _driving.pause
    unpause: Final = _driving.unpause
    limit: Final = _driving.limit
    hold_starts: Final = _holds.hold
    release_starts: Final = _holds.release
    stop_attempt: Final = _driving.stop_attempt
    own_fact: Final = _driving.own_fact
    keep_finished: Final = _driving.keep_finished
    remember_ended: Final = _driving.remember_ended
    forget_ended: Final = _driving.forget_ended
    fail_everything: Final = _driving.fail_everything


bind(Kernel)
