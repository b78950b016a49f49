"""A read-only mapping is a copy that nobody changes, and a value like others."""

from __future__ import annotations

import copy
import pickle

import pytest
from hypothesis import given, strategies as st

from taskorch.kit.read_only import ReadOnly

mappings = st.dictionaries(st.text(max_size=3), st.integers(), max_size=5)


@given(mappings)
def test_it_is_what_it_was_made_of_and_so_is_each_copy(items):
    made = ReadOnly(items)
    for one in (made, pickle.loads(pickle.dumps(made)), copy.deepcopy(made)):
        assert one == items
        assert [*one] == [*items]
        assert len(one) == len(items)
    assert repr(made) == repr(items)


def test_nothing_changes_it():
    items = {"a": 1}
    made = ReadOnly(items)
    items["a"] = 2
    assert made["a"] == 1
    with pytest.raises(TypeError):
        made["a"] = 3
    with pytest.raises(TypeError):
        del made["a"]
    with pytest.raises(KeyError):
        made["b"]
