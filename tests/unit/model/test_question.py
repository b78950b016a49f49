"""What the votes of people come to."""

import pytest

from taskorch import Task


@pytest.mark.parametrize(
    ("votes", "outcome"),
    [
        ([], None),
        ([("ada", "approve")], None),
        ([("ada", "approve"), ("bob", "approve")], "approve"),
        ([("ada", "approve"), ("bob", "reject")], "reject"),
    ],
)
def test_a_no_stands_at_once_and_a_yes_once_enough_agree(votes, outcome):
    assert Task.question("Deploy?", quorum=2).payload.outcome(votes) == outcome


def test_where_nobody_is_left_to_agree_none_ever_stands():
    two = ("ada", "bob")
    task = Task.question("Which?", options=("a", "b"), no=(), who=two, quorum=2)
    assert task.payload.outcome([("ada", "a"), ("bob", "b")]) == ""
    assert "text='Which?', options=('a', 'b')" in repr(task.payload)
