"""Resources: named amounts, exact to a millionth."""

import hypothesis.strategies as st
import pytest

from taskorch.errors import InvalidTaskError
from taskorch.model import Resources

amounts = st.dictionaries(
    st.sampled_from(["cpu", "gpu", "memory_mb", "licence"]),
    st.integers(0, 10**9).map(lambda n: n / 1_000),
)


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
