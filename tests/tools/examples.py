"""How many random examples a law has that needs more, or fewer, than most."""

from __future__ import annotations

from hypothesis import settings

#: Examples of most laws in a run that has as many as CI.
USUAL = 50
#: These reach every line of what a law is about: fewer are too few.
FEW = 10


def examples(number: int) -> int:
    """
    Take the part of *number* that this run has: as with all laws, its profile decides.

    `make test` has a fifth, but no fewer than ten; `make laws` has six times as many.
    """
    return max(min(number, FEW), number * settings().max_examples // USUAL)
