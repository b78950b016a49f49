"""A peer is waited for until the deadline, and nobody waits for ever by mistake."""

from __future__ import annotations

import pytest

from taskorch.kit.deadline import PeerDeadline


@pytest.mark.parametrize("seconds", [0, -1])
def test_when_the_time_is_over_it_is_an_error_that_says_how_long_it_was(seconds):
    deadline = PeerDeadline()
    deadline.set(seconds)
    with pytest.raises(TimeoutError, match=f"not answered in {seconds} s"):
        deadline.left()
