"""Which tasks are asked for, as one value, and as a query of HTTP."""

from datetime import UTC, datetime

import pytest

from taskorch.errors import InvalidTaskError
from taskorch.model import TaskFilter

WHOLE = TaskFilter(
    "failed",
    id="night/*",
    owner="ann",
    metadata={"customer": "acme"},
    since=datetime(2026, 1, 2, tzinfo=UTC),
    older_than=60.0,
)


def test_a_filter_comes_back_from_a_query():
    assert TaskFilter.from_query({**WHOLE.to_query(), "limit": "5"}) == WHOLE
    assert TaskFilter.from_query({"since": "60"}) == TaskFilter(since=60.0)
    assert TaskFilter() != WHOLE
    assert TaskFilter() != 5
    assert len({WHOLE, TaskFilter.from_query(WHOLE.to_query()), TaskFilter()}) == 2
    assert repr(TaskFilter(owner="ann")) == "TaskFilter(owner='ann')"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("older_than", "long", "older_than: a number of seconds is needed"),
        ("since", "then", "since: a number of seconds is needed"),
        ("metadata", "[]", "metadata: an object of JSON is needed"),
        ("metadata", "{", "metadata: an object of JSON is needed"),
        ("mended", "yes", "mended: true or false is needed"),
    ],
)
def test_a_query_that_says_nothing_sensible_is_refused(name, text, words):
    with pytest.raises(InvalidTaskError, match=words):
        TaskFilter.from_query({name: text})


def test_a_filter_refuses_what_it_does_not_know():
    with pytest.raises(TypeError, match="owner"):
        TaskFilter(ownr="ann")
    with pytest.raises(InvalidTaskError, match="say all of it in the filter"):
        TaskFilter.of(WHOLE, {"owner": "ann"})


def test_whether_something_was_mended_is_true_or_false():
    for mended in (True, False):
        wanted = TaskFilter("failed", mended=mended)
        assert TaskFilter.from_query(wanted.to_query()) == wanted
    with pytest.raises(InvalidTaskError, match="mended: True or False is needed"):
        TaskFilter(mended="no")
