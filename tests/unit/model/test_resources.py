"""Resources: named amounts, exact to a millionth."""

import math
import pickle
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from taskorch.errors import InvalidTaskError
from taskorch.kit.limits import MAX_AMOUNT
from taskorch.model import Agent, Resources, Task, to_units

amounts = st.dictionaries(
    st.sampled_from(["cpu", "gpu", "memory_mb", "licence"]),
    st.integers(0, 10**9).map(lambda n: n / 1_000),
)


def test_a_mapping():
    """A resource that is not named is 0, and is not among the names."""
    r = Resources(memory_mb=512, cpu=1.5, gpu=0)
    assert dict(r) == {"cpu": 1.5, "memory_mb": 512}
    assert list(r) == ["cpu", "memory_mb"]
    assert list(r.items()) == [("cpu", 1.5), ("memory_mb", 512)]
    assert len(r) == 2
    assert (r["gpu"], r["licence"]) == (0, 0)
    assert "cpu" in r
    assert "gpu" not in r
    assert repr(r) == "Resources(cpu=1.5, memory_mb=512)"


def test_values():
    """Equal amounts are equal and have one hash; they survive pickling."""
    assert Resources(cpu=1, gpu=0) == Resources(cpu=1)
    assert hash(Resources(cpu=1)) == hash(Resources(cpu=1.0))
    assert pickle.loads(pickle.dumps(Resources(cpu=1))) == Resources(cpu=1)
    frozen: Any = Resources(cpu=1)
    with pytest.raises(AttributeError):
        frozen.units = ()


def test_sums_are_exact():
    """Ten tasks of 0.1 cpu fill one cpu."""
    total = Resources()
    for _ in range(10):
        total += Resources(cpu=0.1)
    assert total == Resources(cpu=1)


@given(amounts, amounts)
def test_addition(a, b):
    """Sums are by name, in any order, and each part fits in the whole."""
    left, right = Resources(**a), Resources(**b)
    assert left + right == right + left
    assert left.fits_in(left + right)
    assert Resources.from_units((left + right).units) == left + right
    if any(right.values()):
        assert not (left + right).fits_in(left)


@pytest.mark.parametrize(
    ("amount", "said"),
    [
        (-1, "not between 0 and"),
        (math.nan, "not between 0 and"),
        (math.inf, "not between 0 and"),
        (MAX_AMOUNT * 2, "not between 0 and"),
        (1e-9, "below the smallest amount"),
        (True, "an amount is a number"),
        ("1", "an amount is a number"),
    ],
)
def test_what_is_no_amount(amount, said):
    """It is refused, naming the resource."""
    with pytest.raises(InvalidTaskError, match=said) as caught:
        Resources(cpu=amount)
    assert "'cpu'" in str(caught.value)


def test_units():
    """Amounts are whole millionths inside."""
    assert to_units("cpu", 0.5) == 500_000
    assert to_units("cpu", 0) == 0


def test_a_zero_that_is_named_is_remembered_for_capacities():
    """Of a request it says nothing, and of a capacity that there is none."""
    said = Resources(cpu=1, gpu=0)
    assert said == Resources(cpu=1)
    assert hash(said) == hash(Resources(cpu=1))
    assert said.zeros == ("gpu",)
    assert Agent("a", capacity=said).capacity.units == (("cpu", 1_000_000), ("gpu", 0))


def test_other_words_mean_the_same():
    """A GB is 1,024 MB; one resource by two names is a mistake."""
    found = Resources.of({"cpus": 2, "memory_gb": 1.5, "gpus": 1, "disk_gb": 0})
    assert found == Resources(cpu=2, memory_mb=1536, gpu=1)
    assert found.zeros == ("disk_mb",)
    assert (found["cores"], found["memory_gb"], found["memory"]) == (2, 1.5, 0)
    assert Resources(memory=1)["memory"] == 1
    with pytest.raises(InvalidTaskError, match="'cpu' and 'cores' are the same") as got:
        Resources(cpu=2, cores=2)
    assert "'cpu' alone" in got.value.hint


@pytest.mark.parametrize(
    ("word", "ours"),
    [
        ("max_attempts", "retry=RetryPolicy"),
        ("cpus", "resources=Resources"),
        ("needs", "'after'"),
        ("priorty", "'priority'"),
    ],
)
def test_other_words_for_options_are_named(word, ours):
    given: dict[str, Any] = {word: 1}
    with pytest.raises(TypeError, match=ours):
        Task("x", **given)
