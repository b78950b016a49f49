"""What the tests of law checks share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from taskorch.testing.laws import LawViolation

#: How many cases one that keeps the laws passes: some every day, all for `make at-length`.
EXAMPLES = pytest.mark.parametrize(
    "examples",
    [12, pytest.param(100, marks=pytest.mark.slow("eight times as many cases"))],
)

#: Classes that break one law each, by its number.
Planted = dict[int, tuple[Callable[[], Any], ...]]


def each(planted: Planted) -> Iterable[Any]:
    """Parameters for `@pytest.mark.parametrize(("law", "made"), …)`."""
    return [
        pytest.param(law, made, id=f"{law}-{made.__name__}")
        for law, some in planted.items()
        for made in some
    ]


def violation(check: Callable[..., None], made: Any, **options: Any) -> LawViolation:
    """How *made* is found out."""
    with pytest.raises(LawViolation) as caught:
        check(made, **options)
    return caught.value
