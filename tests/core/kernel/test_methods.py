"""What is compiled, as methods; here what C has made stands for it."""

from __future__ import annotations

from operator import attrgetter, contains

from taskorch.core.kernel._deciders import bind


class Row(list):
    """A class with functions that C and Python have made."""

    has = contains
    own = attrgetter("__class__")
    _kept = len

    def first(self):
        return self[0]


def test_what_is_compiled_becomes_a_method():
    first = vars(Row)["first"]
    own, kept = vars(Row)["own"], vars(Row)["_kept"]
    bind(Row)
    row = Row([3, 4])
    assert (row.has(4), row.has(5)) == (True, False)
    assert row.has.__self__ is row
    # From the class, it takes the object.
    assert Row.has is contains
    # A method of Python's is one by itself; what is no function, or private, stays.
    assert vars(Row)["first"] is first
    assert vars(Row)["own"] is own
    assert vars(Row)["_kept"] is kept
