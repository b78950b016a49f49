"""Timers: timeouts, graces, delays, deadlines, expiry; and what they cost."""

from tests.core.kernel.harness import SEC, Machine

from taskorch.core.kernel import Spec
from taskorch.core.kernel._queue import FEW_TIMERS

GRACE = 10 * SEC


def test_timers_that_are_alive_are_not_looked_at_again_and_again():
    """With many live timers, a clean-up comes only when there are twice as many."""
    machine = Machine(concurrency=1, listening=False)
    machine.submit("runs")
    kernel = machine.kernel
    bucket = kernel.bucket(Spec("call"))
    for n in range(3 * FEW_TIMERS):
        kernel.submit_general(
            f"t{n}", bucket, None, machine.now, deadline_ns=10**9 * SEC
        )
    assert len(kernel.timers) == 3 * FEW_TIMERS
    assert kernel.most_timers > 3 * FEW_TIMERS
