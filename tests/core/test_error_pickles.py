"""Errors cross process borders: every class survives pickling with all it carries."""

from __future__ import annotations

import inspect
import pickle
from typing import Any

import pytest

from taskorch import errors

ONE = ValueError("one")
CLASSES = [
    cls
    for name in errors.__all__
    if isinstance(cls := getattr(errors, name), type)
    and issubclass(cls, errors.TaskorchError)
]


def sample(cls: type[errors.TaskorchError]) -> errors.TaskorchError:
    """An instance of *cls* with a value of its own for every keyword."""
    parameters = inspect.signature(cls).parameters.values()
    keywords: dict[str, Any] = {
        p.name: (p.name, p.default)
        for p in parameters
        if p.kind is inspect.Parameter.KEYWORD_ONLY
    }
    keywords.update(hint="do this", task_id="t-1")
    if issubclass(cls, errors.WorkflowFailedError):
        # It is a group of them.
        keywords.update(failures={"a": ONE, "b": errors.TaskFailedError("no")})
    return cls("what happened", **keywords)


@pytest.mark.parametrize("protocol", [2, pickle.HIGHEST_PROTOCOL])
def test_each_error_survives_pickling(protocol):
    for cls in CLASSES:
        error = sample(cls)
        copy = pickle.loads(pickle.dumps(error, protocol))
        assert type(copy) is cls
        assert str(copy) == str(error)
        assert copy.args == error.args
        assert repr(vars(copy)) == repr(vars(error))
        assert (copy.code, copy.hint) == (cls.code, "do this")


def test_every_error_class_of_the_module_is_public():
    defined = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, BaseException)
        if not name.startswith("_")
    }

    # `leaves` says what an exception is made of.
    assert defined == {*errors.__all__} - {"leaves"}


def test_codes_are_stable_names_and_no_two_classes_share_one():
    codes = [cls.code for cls in CLASSES]

    assert len(set(codes)) == len(codes)
    assert all(code.isidentifier() and code.islower() for code in codes)


def test_no_error_can_be_mistaken_for_a_builtin_timeout_or_cancellation():
    import asyncio
    import concurrent.futures

    builtin = (
        TimeoutError,
        asyncio.CancelledError,
        concurrent.futures.CancelledError,
    )

    assert [cls for cls in CLASSES if issubclass(cls, builtin)] == []
