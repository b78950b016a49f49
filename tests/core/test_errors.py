"""Errors that are a builtin's relatives behave as these do."""

import copy
import inspect
import pickle

import pytest

from taskorch import errors
from taskorch.errors import (
    TaskFailedError,
    WorkflowFailedError,
    leaves,
)

# -- a group of errors -----------------------------------------------------------------

ONE, TWO, INNER = ValueError("one"), OSError("two"), KeyError("inner")
NESTED = ExceptionGroup("nested", [INNER, ValueError("three")])


def failed() -> WorkflowFailedError:
    failures = {"a": ONE, "b": TWO, "c": NESTED}
    return WorkflowFailedError("3 failed", failures=failures, hint="h", task_id="w")


def test_a_group_survives_pickling_and_copying():
    for read in (pickle.loads(pickle.dumps(failed())), copy.copy(failed())):
        assert str(read) == str(failed())
        assert (read.message, read.task_id, read.args) == (
            "3 failed",
            "w",
            ("3 failed",),
        )
        assert repr(read.failures) == repr(failed().failures)
        assert repr(read.exceptions) == repr(failed().exceptions)


def test_what_is_no_error_is_wrapped_in_the_group_and_keeps_its_name():
    """A group of errors may hold no KeyboardInterrupt."""
    interrupt = KeyboardInterrupt()
    error = WorkflowFailedError("failed", failures={"a": interrupt, "b": ONE})
    assert error.failures["a"] is interrupt
    assert type(error.exceptions[0]) is TaskFailedError
    assert error.exceptions[0].__cause__ is interrupt
    match, rest = error.split(TaskFailedError)
    assert list(match.failures) == ["a"]
    assert list(rest.failures) == ["b"]


def test_the_leaves_of_a_group_are_what_it_holds_however_deep():
    deep: BaseException = ONE
    for _ in range(5_000):
        deep = ExceptionGroup("deep", [deep])
    assert list(leaves(deep)) == [ONE]
    assert list(leaves(TWO)) == [TWO]
    assert list(leaves(ExceptionGroup("g", [TWO, NESTED, ONE])))[0::3] == [TWO, ONE]


def test_a_signature_names_what_an_error_has():
    names = [*inspect.signature(errors.UnsatisfiableError).parameters]

    assert names == ["message", "hint", "task_id", "resource", "need", "most"]
    assert errors.UnsatisfiableError("short", need=2.0).most == 0.0
    assert "failures" in inspect.signature(errors.WorkflowFailedError).parameters


def test_what_an_error_has_not_is_refused_with_the_nearest():
    with pytest.raises(TypeError, match="no option 'cycl': did you mean 'cycle'"):
        errors.CycleError("a ring", cycl=("a",))
