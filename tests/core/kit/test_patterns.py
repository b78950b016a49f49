"""A search of ours finds what `re` finds, in a time that the text bounds."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, strategies as st

from taskorch.errors import InvalidTaskError
from taskorch.kit.patterns import searcher

#: Bounded everywhere, so that `re` itself ends; some go the other way, by places.
pieces = st.sampled_from(
    [
        *("a", "b", "[ab]", "[^a]", ".", r"\d", r"\w", r"\b", "^", "$", "(?:a|b)"),
        *("a?", "b*", "(?:ab)+", "(?:a|bb)*", "(?:a*b)*", "(a+|b)+", "a{2,3}"),
    ]
)
patterns = st.lists(pieces, min_size=1, max_size=4).map("".join)
texts = st.text("ab1 \n", max_size=8)


@given(patterns, texts)
def test_what_is_found_is_what_re_finds(pattern, text):
    assert searcher(pattern)(text) == (re.search(pattern, text) is not None)


def test_it_may_begin_where_another_beginning_was_in_vain():
    assert searcher("x(y+)+z")("xyxyz")
    assert not searcher("x(y+)+z")("xyxy")


@pytest.mark.parametrize("pattern", [r"(a+)+\1$", "(?=(a+)+)b"])
def test_what_can_be_searched_in_neither_way_is_refused(pattern):
    with pytest.raises(InvalidTaskError, match="could take for ever"):
        searcher(pattern)
    with pytest.raises(re.error):
        searcher("(")
