"""Explanations as sentences, whatever the errors in them look like."""

import pytest

from taskorch import TaskState
from taskorch.kit.words import in_a_line
from taskorch.model import Blocker, Explanation, Remedy, Stuck


def test_what_has_completed_says_so_once():
    done = Blocker("terminal", "It has ended.")
    told = Explanation("t", TaskState.COMPLETED, (done,), routed="it is idle")
    assert str(told) == "t is completed.\nIts worker was chosen because: it is idle."
    told = Explanation("t", TaskState.CANCELLED, (done,))
    assert str(told) == "t is cancelled.\nIt has ended."


def test_where_a_cluster_has_it_is_a_sentence_of_its_own():
    told = Explanation(
        "t", TaskState.RUNNING, (), place="It waits for Dask: no worker."
    )
    assert str(told) == "t is running.\nIt waits for Dask: no worker."


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n\t", "\v", "\x85", "\u2028"])
def test_an_error_of_many_lines_is_one_in_a_sentence(end):
    error = f"ValueError: no table{end}<prices>"
    flat = "ValueError: no table <prices>"
    remedy = Remedy("rerun", "Run it again.")
    failed = Blocker("terminal", f"It failed: {error}.", remedies=(remedy,))
    told = str(Explanation("t", TaskState.FAILED, (failed,)))
    assert told == f"t is failed.\nIt failed: {flat}.\n  → Run it again."
    told = Explanation("t", TaskState.RETRYING, (), error=error, cause="error")
    assert str(told) == f"t is retrying.\nIts latest failure (error): {flat}."
    stuck = Stuck("dependency", f"They need t: {error}.", ("u",), (remedy,))
    assert str(stuck).splitlines() == [
        "1 task stuck: u.",
        f"  They need t: {flat}.",
        "    → Run it again.",
    ]
    assert error in stuck.detail


def test_an_error_of_many_words_is_cut_and_keeps_its_end():
    line = in_a_line(f"It failed: {'x' * 5_000}. Its retry policy allowed no more.")
    assert len(line) < 1_010
    assert line.startswith("It failed: xxx")
    assert line.endswith("xxx. Its retry policy allowed no more.")
    assert in_a_line("x" * 1_000) == "x" * 1_000


def test_of_many_tasks_that_are_to_complete_a_few_are_named():
    wait = (Remedy("complete", "It must complete."),)
    needs = [
        Blocker("dependency", f"It needs p{n}.", f"p{n}", remedies=wait)
        for n in range(1, 12)
    ]
    rerun = (Remedy("rerun", "Run it again."),)
    failed = Blocker("dependency", "It needs f.", "f", remedies=rerun)
    rest = Blocker("dependency", "It needs 7 more.", need=7, have=0, remedies=wait)
    told = str(
        Explanation("t", TaskState.BLOCKED, (*needs[:8], failed, *needs[8:], rest))
    )
    lines = told.splitlines()
    assert [line for line in lines if line.startswith("It needs")] == [
        *(f"It needs p{n}." for n in range(1, 6)),
        "It needs 13 more tasks that have not completed.",
        "It needs f.",
    ]
    assert "  → Run it again." in lines
    assert "p10" in str(Explanation("t", TaskState.PENDING, tuple(needs[:10])))
