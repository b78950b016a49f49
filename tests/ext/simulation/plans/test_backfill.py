"""
EASY backfilling, as its authors describe it, and what the simulation of a plan does.

The rule is that of A. W. Mu'alem and D. G. Feitelson, *Utilization, Predictability,
Workloads, and User Runtime Estimates in Scheduling the IBM SP2 with Reserving*, IEEE
Transactions on Parallel and Distributed Systems 12 (6), 2001, after D. A. Lifka, *The
ANL/IBM SP scheduling system*, 1995: of the first job that does not fit, the shadow time
is when enough nodes will have come free, and the extra nodes are those that it leaves
then. A job that fits now may pass it if it ends by the shadow time, or needs no more
than the extra nodes.
"""

from functools import partial

import pytest
from hypothesis import example, given, strategies as st

from taskorch import InvalidTaskError, Resources, Task, TaskOrchestrator
from taskorch.policies import (
    DeadlineQueue,
    FairShareQueue,
    FifoQueue,
    PriorityQueue,
    ScoreQueue,
)


def free(running, nodes, by=0):
    """How many nodes are free, once all has ended that ends by then."""
    return nodes - sum(size for end, size in running if end > by)


def easy(jobs, nodes):
    """When each of *jobs*, of `(arrival, nodes, length)`, starts by that rule."""
    starts = {}
    running = []
    times = sorted({arrival for arrival, _, _ in jobs})
    while times:
        now = times.pop(0)
        running = [one for one in running if one[0] > now]
        queue = [n for n, job in enumerate(jobs) if job[0] <= now and n not in starts]
        begin = []
        shadow = extra = None
        for number in queue:
            _, size, length = jobs[number]
            if shadow is not None:
                if size > free(running, nodes):
                    continue
                if now + length > shadow:
                    if size > extra:
                        continue
                    extra -= size
            elif size > free(running, nodes):
                # The first that does not fit.
                ends = (end for end, _ in running)
                shadow = min(end for end in ends if free(running, nodes, end) >= size)
                extra = free(running, nodes, shadow) - size
                continue
            begin.append(number)
            running.append((now + length, size))
        starts.update(dict.fromkeys(begin, now))
        times = sorted({*times, *(end for end, _ in running)})
    return [starts[number] for number in range(len(jobs))]


def ours(jobs, nodes, queue):
    tasks = [
        Task.call(
            print,
            id=str(number),
            # A kind of its own, since like tasks stay in their order.
            type=f"job{number}",
            resources=Resources(node=size),
            not_before=arrival or None,
            expected=length,
        )
        for number, (arrival, size, length) in enumerate(jobs)
    ]
    orch = TaskOrchestrator(
        resources=Resources(node=nodes), concurrency=64, queue=queue
    )
    report = orch.simulate(tasks)
    found = {one.task_id: one.start for one in report.schedule}
    return [round(found[str(number)], 6) for number in range(len(jobs))]


def test_the_case_of_the_docs():
    """Ten nodes; the second waits for all, and three are behind it."""
    jobs = [
        (0, 6, 10),  # runs: four nodes are left
        (0, 8, 20),  # waits until 10, and leaves two nodes then
        (0, 4, 15),  # would not have ended by then, and needs more than two
        (0, 2, 30),  # needs no more than two
        (0, 2, 10),  # ends by then
    ]
    assert easy(jobs, 10) == [0, 10, 30, 0, 0]
    assert ours(jobs, 10, FifoQueue(backfill=True)) == [0, 10, 30, 0, 0]
    # Otherwise whatever fits starts: the second waits for what came after it.
    assert ours(jobs, 10, FifoQueue()) == [0, 20, 0, 10, 10]


def test_every_queue_with_one_order_has_the_option():
    jobs = [(0, 6, 10), (0, 8, 20), (0, 4, 30)]
    makes = (
        partial(PriorityQueue, 0),
        FifoQueue,
        DeadlineQueue,
        partial(ScoreQueue, {}),
    )
    for make in makes:
        queue = make(backfill=True)
        assert repr(queue).endswith(", backfill=True)")
        assert ours(jobs, 10, queue)[1] == 10
        assert "backfill" not in repr(make())
        assert ours(jobs, 10, make())[1] == 30


def test_where_tenants_share_there_is_none():
    queue = FairShareQueue()
    queue.backfill = True
    with pytest.raises(InvalidTaskError, match="no backfill"):
        TaskOrchestrator(queue=queue)


JOBS = st.lists(
    st.tuples(st.integers(0, 12), st.integers(1, 8), st.integers(1, 9)),
    min_size=1,
    max_size=12,
)


@given(JOBS)
# The second comes when the third waits, and starts before it: the fourth may pass then.
@example([(0, 1, 2), (1, 1, 3), (0, 8, 1), (0, 1, 3)])
def test_it_is_easy_backfilling(jobs):
    assert ours(jobs, 8, FifoQueue(backfill=True)) == easy(jobs, 8)
