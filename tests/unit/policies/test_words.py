"""How numbers stand in a reason."""

from __future__ import annotations

from taskorch.policies import _words


def test_shares_and_amounts():
    """Percent, amounts in full, and a plural where it belongs."""
    assert _words.share(0.5) == "50 %"
    assert _words.share(1 / 3) == "33.3 %"
    assert _words.amount(1.000001) == "1.000001"
    assert _words.amount(65536.0) == "65,536"
