"""Who asks is known while a request lasts, and to nobody afterwards."""

from __future__ import annotations

import contextvars

import pytest

from taskorch.kit.people import (
    SPEAK_FOR,
    Caller,
    act_alone,
    asking,
    caller,
    caller_name,
    may_speak_as,
    person,
)

ANA = Caller("Ana", tenants=frozenset({"north"}), grants=frozenset({"cancel_task"}))


def test_the_caller_is_known_in_the_block_and_the_one_before_after_it():
    assert caller() is None
    with asking(ANA):
        with asking(Caller("Ben")):
            assert caller_name() == "Ben"
        assert caller() is ANA
    assert caller() is None
    assert caller_name() == ""


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


def test_a_task_acts_for_itself_and_the_request_goes_on_as_before():
    def task():
        act_alone()
        return caller(), may_speak_as("Ben")

    with asking(ANA):
        assert contextvars.copy_context().run(task) == (None, True)
        assert caller() is ANA


def test_grants_and_tenants_bound_what_a_caller_may_do_and_see():
    assert ANA.may("prune", "cancel_task")
    assert not ANA.may("prune")
    assert ANA.sees("north")
    assert not ANA.sees("south")
    assert not ANA.sees(None)
    for everything in (Caller("root"), Caller("")):
        assert everything.may("prune")
        assert everything.sees(None)


@pytest.mark.parametrize(
    "typed", ["ana lópez", "  ANA   LÓPEZ ", "Ana Lo\u0301pez", "\uff21na López"]
)
def test_a_name_is_one_person_however_it_is_typed(typed):
    assert person(typed) == person("Ana López")


def test_only_who_is_granted_it_speaks_under_another_name():
    assert may_speak_as("anybody")
    with asking(ANA):
        assert may_speak_as(" ANA ")
        assert not may_speak_as("Ben")
        assert not may_speak_as(None)
    with asking(Caller("bot", grants=frozenset({SPEAK_FOR}))):
        assert may_speak_as("Ben")
    # The one plain token has no name that another could be instead of.
    with asking(Caller("", grants=frozenset())):
        assert may_speak_as("Ben")
