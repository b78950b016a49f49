"""Killed at every point at which the journal is written, and once more afterwards."""

import pytest
from tests.worlds.faults import workload

from taskorch.testing import for_every_crash_point

POINTS = {"claim", "claimed", "begin", "rows", "commit", "kept", "save", "saved"}


#: It takes a while on a machine that is busy.
pytestmark = [pytest.mark.slow("kills at every point"), pytest.mark.timeout(600)]


def test_nothing_is_lost_or_done_twice_wherever_it_is_killed():
    """At every point, and then at one of the points of the recovery as well."""
    seen = for_every_crash_point(workload.run, check=workload.check, recovery=1)

    assert len(seen.names) > 50


def test_nor_with_snapshots_and_tasks_that_have_left_memory():
    seen = for_every_crash_point(
        workload.run_with_snapshots, check=workload.check, recovery=1
    )

    assert set(seen.names) == POINTS


def test_what_leaves_the_journal_is_gone_or_there_wherever_it_is_killed():
    """
    Also while the file is written anew, and in the incarnation that goes on from there.
    """
    reached: set[str] = set()
    # How many points come before those that are looked for differs from run to run, and
    # on a busy machine by so much that the n-th was one of them only once.
    for _ in range(3):
        seen = for_every_crash_point(
            workload.run_with_retention, check=workload.check_retention, recovery=1
        )
        reached |= {"forget", "rests", "forgotten", "smaller"} & set(seen.names)
        if len(reached) > 1:
            break

    assert len(reached) > 1
