"""What docs/explanation/commands.md says of each command of the kernel is so."""

import pytest
from tests.kernel.seen import VERBS, Seen, looking
from tests.kernel.verbs_page import PAGE, facts_of, groups, page
from tests.kernel.worlds import few, many

TEXT = PAGE.read_text(encoding="utf-8")
OWN, OTHERS = facts_of(TEXT)


def seen_in(worlds) -> Seen:
    with looking() as seen:
        for world in worlds:
            world()
    return seen


def test_every_command_is_on_the_page_with_its_file_and_its_function():
    """And nothing else is: python -m tests.kernel.verbs_page writes it anew."""
    assert [name for names in groups().values() for name in names] == list(VERBS)
    assert page(OWN, OTHERS) == TEXT


def test_a_command_makes_no_fact_that_the_page_does_not_name():
    seen = seen_in(few())
    for name in VERBS:
        assert seen.own[name] <= OWN[name], name
        assert seen.others[name] <= OTHERS[name], name
        assert seen.calls[name], name


@pytest.mark.slow
def test_a_command_makes_each_fact_that_the_page_names():
    seen = seen_in(many())
    for name in VERBS:
        assert seen.own[name] == OWN[name], name
        assert seen.others[name] == OTHERS[name], name
