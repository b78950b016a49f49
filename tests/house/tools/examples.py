"""How many random examples a law has that needs more, or fewer, than most."""

from __future__ import annotations

from typing import Any

import pytest
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


def seeds(few: int, many: int) -> list[Any]:
    """Take the first *few* seeds each time, and *many* at length."""
    marks = [()] * few + [pytest.mark.slow("what the further seeds find is rare")] * (
        many - few
    )
    return [pytest.param(seed, marks=mark) for seed, mark in enumerate(marks)]
