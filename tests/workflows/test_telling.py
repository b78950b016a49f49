"""What a status and a report say to people."""

import pytest
from hypothesis import given, strategies as st
from tests.workflows.functions import zero

from taskorch import TaskOrchestrator, TaskState, Workflow
from taskorch.kit.visible import counted
from taskorch.kit.words import duration
from taskorch.workflows import PhaseReport, TaskReport, WorkflowReport
from taskorch.workflows._status import PhaseStatus, WorkflowStatus, listed, state_of

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


def test_how_it_ended_comes_before_what_goes_on():
    text = status([_S.BLOCKED, _S.CANCELLED, _S.COMPLETED, _S.FAILED, _S.QUEUED])
    assert text.endswith("1 failed, 1 cancelled, 1 blocked, 1 queued.")
    every = dict.fromkeys(_S, 2)
    assert len(listed(every)) == len(_S)
    assert listed(every)[:3] == ["2 completed", "2 failed", "2 cancelled"]
    assert listed({"failed": 1_000, "pending": 0}) == ["1,000 failed"]


def test_a_long_chain_is_cut_short():
    text = status([_S.PENDING], [f"s{n}" for n in range(20)])
    assert text.endswith(
        "has 20 tasks: s0 → s1 → s2 → s3 → s4 → s5 → s6 → s7 → … (12 more)."
    )


def test_a_chain_that_is_shown_whole_is_not_cut():
    text = status([_S.PENDING], [f"s{n}" for n in range(8)])
    assert text.endswith("has 8 tasks: s0 → s1 → s2 → s3 → s4 → s5 → s6 → s7.")


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


@pytest.mark.parametrize(
    ("attempts", "said"),
    [((3, 1), "2 tasks, 2 completed, 4 attempts"), ((1, 1), "2 tasks, 2 completed")],
)
def test_a_report_counts_attempts_if_some_failed(attempts, said):
    """Also where all went well in the end, and no task is named."""
    tasks = tuple(
        TaskReport(f"t{n}", f"w/t{n}", "x", _S.COMPLETED, attempts=each)
        for n, each in enumerate(attempts)
    )
    report = WorkflowReport("w", _S.COMPLETED, None, 0.0, (), tasks, {"completed": 2})
    assert str(report) == f"w is completed: {said}"


@pytest.mark.parametrize("seconds", [59.96, 119.7, 3_599.6, 7_199.9, 86_399.0])
def test_no_unit_is_full(seconds):
    """Not `1 min 60 s`, and not `60 s`."""
    text = duration(seconds)
    assert "60" not in text
    assert "24 h" not in text


def test_numbers_of_things():
    assert [counted(n, "task") for n in (0, 1, 2_000)] == [
        "0 tasks",
        "1 task",
        "2,000 tasks",
    ]


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


def test_one_task_in_a_real_run():
    wf = Workflow("one")
    wf.task(zero, id="only")
    with TaskOrchestrator() as orch:
        run = orch.workflows.start(wf)
        run.result(60)
        assert ": 1 of 1 task completed." in str(run.status())
        assert ": 1 task, 1 completed, in " in str(run.report())


def test_an_error_is_nothing_but_text_in_markdown():
    error = "TypeError: f(*a, **k) | [x](y) `z` <b> & \\ ~~no~~"
    task = TaskReport("t_1_2", "w/t", "x", _S.FAILED, error=error)
    text = WorkflowReport("w", _S.FAILED, None, 0.0, (), (task,), {"failed": 1})
    assert (
        r"- t_1_2 failed: TypeError: f(\*a, \*\*k) \| \[x\](y) \`z\` &lt;b> &amp; \\ "
        r"\~\~no\~\~"
    ) in text.to_markdown().splitlines()
    assert error in str(text)
