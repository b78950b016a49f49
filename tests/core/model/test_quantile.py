"""Quantiles: their definition, down to one value."""

from hypothesis import given, strategies as st

from taskorch.model._status import quantile


@given(st.lists(st.integers(0, 50), min_size=1, max_size=60), st.integers(1, 100))
def test_a_quantile_is_the_least_value_that_so_many_are_not_above(values, percent):
    ordered = sorted(values)
    found = quantile(ordered, percent)

    def are_not_above(limit: int) -> bool:
        return 100 * sum(v <= limit for v in values) >= percent * len(values)

    assert found == min(v for v in values if are_not_above(v))


def test_the_median_of_few_is_the_lower_one_in_the_middle():
    """Of two as of four: it does not go up and down with how many there are."""
    medians = [quantile(range(n), 50) for n in range(1, 9)]
    assert medians == [0, 0, 1, 1, 2, 2, 3, 3]
