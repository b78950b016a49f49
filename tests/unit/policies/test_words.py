"""How numbers stand in a reason."""

from __future__ import annotations

import pytest

from taskorch.policies import _words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 s"),
        (1, "1 s"),
        (1.4142, "1.41 s"),
        (60.0, "60 s"),
        (1234.5, "1,230 s"),
        (3.15e9, "3,150,000,000 s"),
        (0.25, "250 ms"),
        (0.999, "999 ms"),
        (0.9999, "1,000 ms"),
        (0.0000123, "0.0123 ms"),
    ],
)
def test_durations_are_short(value, text):
    """Three figures and a unit that fits, without powers of ten."""
    assert _words.seconds(value) == text


def test_shares_and_amounts():
    """Percent, amounts in full, and a plural where it belongs."""
    assert _words.share(0.5) == "50 %"
    assert _words.share(1 / 3) == "33.3 %"
    assert _words.amount(1.000001) == "1.000001"
    assert _words.amount(65536.0) == "65,536"
