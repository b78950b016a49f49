"""check_limit: a right one passes, and each planted mistake is named."""

from __future__ import annotations

import pytest
from tests.testing.laws.tools import violation

from taskorch.kit.extension import Kind, Limit, Short
from taskorch.testing.laws import check_limit
from taskorch.testing.laws._case import laws_of


class Right:
    """As many as there are seats."""

    name = "seats"

    def need(self, kind):
        return 1 if kind.type == "u" else 0

    def short(self, need, held):
        return None if need + held <= 5 else self.words(5 - held)

    def words(self, free):
        return Short("All seats are taken.", have=free)


class BelowNothing(Right):
    def need(self, kind):
        return -1


class ChangesItsMind(Right):
    asked = 0

    def need(self, kind):
        self.asked += 1
        return self.asked


class NoWords(Right):
    def words(self, free):
        return Short(" ")


class AtOnce(Right):
    def words(self, free):
        return Short("Not yet.", seconds=0)


class TakesAsItIsAsked(Right):
    free = True

    def short(self, need, held):
        self.free = not self.free
        return self.words(0) if self.free else None


class NoShort(Right):
    def words(self, free):
        return "no"


class Counts(Right):
    count = 0

    def started(self, need):
        self.count += 1


class SaysHowMany(Right):
    def started(self, need):
        return need


def test_a_right_one_passes():
    check_limit(Right)
    counts = Counts()
    check_limit(counts)
    assert counts.count
    check_limit(Right(), Kind("seated", None, ("x",), {}))


@pytest.mark.parametrize(
    ("wrong", "law"),
    [
        (BelowNothing, 1),
        (ChangesItsMind, 1),
        (NoWords, 2),
        (AtOnce, 2),
        (TakesAsItIsAsked, 3),
        (NoShort, 0),
        (SaysHowMany, 0),
    ],
)
def test_a_mistake_is_named(wrong, law):
    assert violation(check_limit, wrong).law == law


def test_the_laws_are_numbered():
    assert [*laws_of(Limit)] == [1, 2, 3]
