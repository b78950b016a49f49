"""How long what is asked to end has for it, whatever it runs on."""

import pytest

from taskorch.executors._ends import until_kill


@pytest.mark.parametrize(
    ("grace", "until"), [(0.0, 0.0), (2.0, 1.5), (6.0, 4.5), (100.0, 98.5)]
)
def test_of_a_grace_some_is_left_for_what_was_killed(
    grace: float, until: float
) -> None:
    """A quarter of it, but no more than what is killed may need to be read."""
    assert until_kill(grace) == until
