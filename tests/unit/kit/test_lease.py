"""A lease lasts from its latest renewal on, by the clock of whoever asks."""

from __future__ import annotations

from hypothesis import given, strategies as st

from taskorch.kit.lease import Lease

times = st.integers(0, 1_000)


def test_it_is_over_once_it_was_not_renewed_for_its_length():
    lease = Lease(15, 100)
    assert not lease.is_over(114)
    assert lease.is_over(115)
    lease.renew(110)
    assert not lease.is_over(124)
    assert lease.is_over(125)
    assert lease.silence(125) == 15


@given(st.integers(1, 100), times, st.lists(times), times)
def test_it_lasts_from_the_latest_renewal_in_whatever_order_they_come(
    length, since, renewals, now
):
    lease = Lease(length, since)
    for renewal in renewals:
        lease.renew(renewal)
    assert lease.is_over(now) == (now >= max([since, *renewals]) + length)
