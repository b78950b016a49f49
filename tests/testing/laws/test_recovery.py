"""check_recovery: right ones pass, and each planted mistake is named."""

from __future__ import annotations

import threading

import pytest
from tests.testing.laws.tools import violation

from taskorch.protocols import Recovery
from taskorch.testing.laws import check_recovery
from taskorch.testing.laws._case import laws_of


def right(task, failure, context):
    is_table = isinstance(failure.error, FileNotFoundError)
    return "retry" if is_table and not context.cancelled else "escalate"


class Right:
    def __call__(self, task, failure, context):
        return None


def changes_the_failure(task, failure, context):
    failure.error.args = ("mended",)
    return "retry"


def says_text(task, failure, context):
    return "again"


class OnceOnly:
    """It makes what it has made already."""

    def __init__(self):
        self.seen = set()

    def __call__(self, task, failure, context):
        if failure.error in self.seen:
            raise FileExistsError(str(failure.error))
        self.seen.add(failure.error)
        return "retry"


@pytest.mark.parametrize("made", [right, Right, Right()])
def test_right_ones_pass(made):
    check_recovery(made)


def test_before_the_next_attempt_any_answer_will_do():
    check_recovery(says_text, level=2)


@pytest.mark.parametrize(("made", "law"), [(says_text, 2), (changes_the_failure, 3)])
def test_each_mistake_is_named(made, law):
    assert violation(check_recovery, made).law == law


def test_one_that_hangs_is_named():
    is_over = threading.Event()

    def hangs(task, failure, context):
        is_over.wait()

    assert violation(check_recovery, hangs, patience=0.05, examples=1).law == 1
    is_over.set()


def test_what_it_raises_passes_through_with_the_failure():
    with pytest.raises(FileExistsError) as caught:
        check_recovery(OnceOnly, errors=[lambda: OSError("no table")])
    assert "no table" in caught.value.__notes__[0]


def test_it_is_asked_about_errors_of_yours():
    seen = set()

    def notes(task, failure, context):
        seen.add((str(failure.error), failure.kind))

    check_recovery(notes, errors=[lambda: MemoryError("of mine")], examples=3)
    assert seen == {("of mine", "memory_error")}


def test_its_laws_are_those_of_the_protocol():
    assert sorted(laws_of(Recovery)) == [1, 2, 3, 4]
