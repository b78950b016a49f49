"""Who asks is known while a request lasts, and to nobody afterwards."""

from __future__ import annotations

import contextvars

import pytest

from taskorch.kit.people import (
    Caller,
    asking,
    caller,
    caller_name,
)

ANA = Caller("Ana", tenants=frozenset({"north"}), grants=frozenset({"cancel_task"}))


def test_who_keeps_the_variables_of_a_request_acts_for_nobody_after_it():
    with asking(ANA):
        kept = contextvars.copy_context()
        assert kept.run(caller) is ANA
    assert kept.run(caller) is None
    assert kept.run(caller_name) == ""


def test_a_block_that_raises_leaves_no_caller():
    with pytest.raises(ZeroDivisionError), asking(ANA):
        raise ZeroDivisionError
    assert caller() is None
