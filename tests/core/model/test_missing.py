"""What stands for a function that is gone, and what a slot of nobody's is."""

import pytest

from taskorch.errors import InvalidTaskError
from taskorch.model import MadeFor
from taskorch.model._missing import Missing


def test_what_is_gone_says_so_when_it_is_called():
    with pytest.raises(InvalidTaskError, match="flow:work was kept in the journal"):
        Missing("flow:work")()


def test_what_is_back_is_called():
    here = {}
    gone = Missing("flow:work", look=lambda: here["work"])
    with pytest.raises(InvalidTaskError, match="cannot be imported any more"):
        gone(3)
    here["work"] = abs
    assert gone(-3) == 3


def test_a_tick_that_is_a_text_of_the_users_is_none():
    made_for = MadeFor({MadeFor.SCHEDULE: "night", MadeFor.TICK: "tonight"})
    assert (made_for.schedule, made_for.slot) == ("night", None)
