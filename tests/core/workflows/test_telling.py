"""What a status and a report say to people."""

import pytest
from hypothesis import given, strategies as st

from taskorch import TaskState
from taskorch.api.workflows import PhaseReport, TaskReport, WorkflowReport
from taskorch.core.workflows._status import PhaseStatus, WorkflowStatus, state_of
from taskorch.kit.words import duration

_S = TaskState


def status(states, path=(), eta=None):
    tasks = {f"t{n}": state for n, state in enumerate(states)}
    counts = {state: states.count(state) for state in sorted(set(states))}
    return str(WorkflowStatus("w", _S.RUNNING, tasks, counts, tuple(path), eta=eta))


def test_a_status_counts_in_words():
    assert status([_S.COMPLETED]) == "w is running: 1 of 1 task completed."
    assert status([_S.COMPLETED, _S.PENDING], ["a"], 61) == (
        "w is running: 1 of 2 tasks completed, 1 pending. The longest chain left has "
        "1 task: a. About 1 min 1 s left, by estimate."
    )
    assert str(PhaseStatus("p", _S.COMPLETED, 1, 1, 0)) == (
        "p: completed, 1 of 1 task completed"
    )


def test_the_share_that_has_completed():
    for done in range(4):
        states = [_S.COMPLETED] * done + [_S.PENDING] * (3 - done)
        tasks = {f"t{n}": state for n, state in enumerate(states)}
        counts = {state: states.count(state) for state in set(states)}
        found = WorkflowStatus("w", _S.RUNNING, tasks, counts, ())
        assert found.percent == pytest.approx(100 * done / 3)
    assert WorkflowStatus("w", _S.COMPLETED, {}, {}, ()).percent == 100


@given(
    counts=st.dictionaries(st.sampled_from(list(_S)), st.integers(0, 3)),
    stuck=st.integers(0, 3),
    skipped=st.integers(0, 3),
)
def test_the_state_of_many_is_that_of_what_moves_first(counts, stuck, skipped):
    """Who works says that all do, who waits for people comes next, and the end last."""
    stuck = min(stuck, counts.get(_S.BLOCKED, 0))
    skipped = min(skipped, counts.get(_S.CANCELLED, 0))
    counted = counts | {
        _S.BLOCKED: counts.get(_S.BLOCKED, 0) - stuck,
        _S.CANCELLED: counts.get(_S.CANCELLED, 0) - skipped,
    }
    order = {
        **dict.fromkeys((_S.RUNNING, _S.QUEUED, _S.RETRYING), _S.RUNNING),
        **{
            state: state
            for state in (_S.SUSPENDED, _S.BLOCKED, _S.PENDING, _S.FAILED, _S.CANCELLED)
        },
    }
    said = [name for state, name in order.items() if counted.get(state)]
    last = _S.FAILED if stuck else _S.COMPLETED
    assert state_of(counts, stuck, skipped) is (said or [last])[0]


def test_only_what_was_tried_more_than_once_says_so():
    tasks = tuple(
        TaskReport(f"t{n}", f"w/t{n}", "x", _S.FAILED, attempts=n) for n in range(4)
    )
    text = str(WorkflowReport("w", _S.FAILED, None, 0.0, (), tasks, {"failed": 4}))
    lines = [line.strip() for line in text.splitlines()]
    for line in (
        "t0 failed",
        "t1 failed",
        "t2 failed after 2 attempts",
        "t3 failed after 3 attempts",
    ):
        assert any(said.endswith(line) for said in lines), text


@pytest.mark.parametrize("seconds", [59.96, 119.7, 3_599.6, 7_199.9, 86_399.0])
def test_no_unit_is_full(seconds):
    """Not `1 min 60 s`, and not `60 s`."""
    text = duration(seconds)
    assert "60" not in text
    assert "24 h" not in text


def report(*states, took=None):
    tasks = [
        TaskReport(f"t{n}", f"w/t{n}", "x", state) for n, state in enumerate(states)
    ]
    totals = {str(state): states.count(state) for state in sorted(set(states))}
    phases = (PhaseReport("p", _S.PENDING, 0, len(tasks), took),) if tasks else ()
    return WorkflowReport("w", _S.FAILED, took, 0.25, phases, tuple(tasks), totals)


def test_a_report_counts_in_words():
    assert str(report()) == "w is failed: no tasks"
    assert str(report(_S.COMPLETED, took=0.5)) == (
        "w is failed: 1 task, 1 completed, in 500 ms (250 ms of work)\n"
        "  phase p is pending: 0 of 1 task, 500 ms"
    )
    assert str(report(_S.COMPLETED, _S.BLOCKED, _S.COMPLETED)) == (
        "w is failed: 3 tasks, 2 completed, 1 blocked\n  phase p is pending: 0 of 3 tasks"
    )


def test_an_error_is_nothing_but_text_in_markdown():
    error = "TypeError: f(*a, **k) | [x](y) `z` <b> & \\ ~~no~~"
    task = TaskReport("t_1_2", "w/t", "x", _S.FAILED, error=error)
    text = WorkflowReport("w", _S.FAILED, None, 0.0, (), (task,), {"failed": 1})
    assert (
        r"- t_1_2 failed: TypeError: f(\*a, \*\*k) \| \[x\](y) \`z\` &lt;b> &amp; \\ "
        r"\~\~no\~\~"
    ) in text.to_markdown().splitlines()
    assert error in str(text)
