"""Finished tasks leave memory, the oldest first."""

import sys

from tests.core.kernel.harness import Machine

from taskorch.core.kernel import Spec


def test_the_room_of_those_that_have_left_is_given_back():
    machine = Machine(keep_finished=0, concurrency=1, listening=False)
    kernel = machine.kernel
    bucket = kernel.bucket(Spec("t"))
    for number in range(10_000):
        kernel.submit(f"t{number}", bucket, None, machine.now)
    large = sys.getsizeof(kernel.tasks)
    for _ in range(10_000):
        kernel.dispatch(machine.now)
        kernel.complete(kernel.starts.pop(), 1, machine.now)
    assert len(kernel.tasks) == 0
    assert len(kernel.evicted) == 10_000
    assert sys.getsizeof(kernel.tasks) < large / 4
