"""Phases and gates: what begins when, what a verdict says, and what a failure does."""

import json
import threading
from pathlib import Path

import pytest
from tests.api.tools import PATIENCE, Hold
from tests.core.workflows.functions import BROKEN, CALLS, echo, step, zero
from tests.core.workflows.tools import failures

from taskorch import (
    Approval,
    AtLeast,
    DuplicateTaskError,
    InvalidTaskError,
    NotRunningError,
    Resources,
    Task,
    TaskOrchestrator,
    TaskState,
    UnknownTaskError,
    Workflow,
    current_context,
)
from taskorch.core.runs import _gates
from taskorch.core.workflows import _steps
from taskorch.errors import (
    GateFailedError,
    TaskCancelledError,
)


@pytest.fixture
def orch():
    with TaskOrchestrator(concurrency=8) as orch:
        yield orch


def at_least_two(results: dict) -> bool:
    return len(results) >= 2


def never(results: dict) -> bool:
    return False


def breaks(results: dict) -> bool:
    raise LookupError("no such thing")


def suite(**options) -> Workflow:
    """Three phases: A1 to A3; B1 of three parts, then B2 and B3; C1."""
    wf = Workflow("suite")
    unit = wf.phase("unit", max_parallel=3, **options)
    for name in ("A1", "A2", "A3"):
        unit.task(step, name, id=name)
    integration = wf.phase("integration", max_parallel=2)
    parts = [integration.task(step, n, id=n) for n in ("B1a", "B1b", "B1c")]
    b1 = integration.gather(parts, id="B1")
    for name in ("B2", "B3"):
        integration.task(step, name, id=name, after=[b1])
    performance = wf.phase("performance")
    performance.task(step, "C1", id="C1")
    return wf


# ------------------------------------------------------------------------ order


def test_phases_come_one_after_another(orch):
    run = orch.workflows.start(suite(), id="x")
    results = run.result(PATIENCE)
    assert [{c[0] for c in CALLS[a:b]} for a, b in ((0, 3), (3, 8), (8, 9))] == [
        {"A"},
        {"B"},
        {"C"},
    ]
    assert set(CALLS[3:6]) == {"B1a", "B1b", "B1c"}
    assert results["B1"] == ["B1a()", "B1b()", "B1c()"]
    assert results["unit/gate"] == {
        "phase": "unit",
        "passed": True,
        "by": "gate",
        "note": "",
        "checks": [["all completed", True, "3 tasks"]],
    }
    phases = run.status().phases
    assert list(phases) == ["unit", "integration", "performance"]
    assert phases["unit"].verdict == "passed"
    assert phases["integration"].total == 7
    assert phases["integration"].percent == 100
    assert str(phases["unit"]) == "unit: passed, 4 of 4 tasks completed"


def test_a_limit_holds_and_nothing_else_is_held_up(orch):
    """Two of the limited phase at once, while what has no phase runs."""
    running, most = [0], [0]
    lock = threading.Lock()
    both, held, go = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
            if running[0] == 2:
                both.set()
        assert go.wait(PATIENCE)
        with lock:
            running[0] -= 1

    wf = Workflow("w")
    phase = wf.phase("p", max_parallel=2)
    for _ in range(6):
        phase.task(work)
    wf.task(held.set, id="other")
    run = orch.workflows.start(wf, id="x")
    assert both.wait(PATIENCE)
    assert held.wait(PATIENCE)
    assert run.status().phases["p"].running == 2
    assert "2 running" in str(run.status().phases["p"])
    assert orch.get_stats().resources["x/p:2"].used == 2
    go.set()
    run.result(PATIENCE)
    assert most == [2]


def test_pools_of_runs_that_are_over_are_forgotten(orch):
    for n in range(70):
        wf = Workflow("w")
        wf.phase("p", max_parallel=1).task(zero)
        orch.workflows.start(wf, id=f"r{n}").result(PATIENCE)
    pools = [name for name in orch.get_stats().resources if ":" in name]
    assert len(pools) < 50
    assert "r69/p:1" in pools


def test_limits_go_with_what_is_included(orch):
    inner = Workflow("inner")
    inner.phase("p", max_parallel=1).task(zero, id="z")
    wf = Workflow("w")
    outer = wf.phase("outer")
    outer.include(inner, name="one")
    later = wf.phase("later")
    later.include(inner, name="two")
    run = orch.workflows.start(wf, id="x")
    assert run.result(PATIENCE)["two/z"] == 0
    assert {"x/one/p:1", "x/two/p:1"} < set(orch.get_stats().resources)
    assert list(run.status().phases) == ["one/p", "outer", "two/p", "later"]
    assert {p.verdict for p in run.status().phases.values()} == {"passed"}


def test_a_limit_comes_beside_what_a_task_asks_for(orch):
    wf = Workflow("w")
    wf.phase("p", max_parallel=3).task(zero, resources=Resources(cpu=1), id="z")
    (task, _gate) = wf.tasks("x")
    assert dict(task.resources) == {"cpu": 1, "x/p:3": 1}


# ------------------------------------------------------------------------ gates


def test_a_file_must_be_there(orch, tmp_path: Path):
    path = tmp_path / "report.json"
    wf = Workflow("w")
    first = wf.phase("first", gate=str(path))
    first.task(zero, id="a")
    wf.phase("second").task(zero, id="b")
    run = orch.workflows.start(wf, id="x")
    found = failures(run)
    assert list(found) == ["first/gate"]
    gate = found["first/gate"]
    assert isinstance(gate, GateFailedError)
    assert gate.findings[1] == (f"{path} exists", False, f"{path} does not exist")
    assert "report.json does not exist" in str(gate)
    path.touch()
    orch.workflows.restart("x")
    assert run.result(PATIENCE)["b"] == 0
    assert run.status().phases["first"].verdict == "passed"


@pytest.mark.parametrize(
    ("gate", "why"),
    [
        (never, "never said no"),
        (breaks, "breaks raised LookupError: no such thing"),
        (at_least_two, "at_least_two said no"),
    ],
)
def test_a_function_that_says_no_or_raises(orch, gate, why):
    wf = Workflow("w")
    wf.phase("first", gate=[Path(__file__), gate]).task(zero)
    wf.phase("second").task(zero, id="b")
    run = orch.workflows.start(wf)
    findings = failures(run)["first/gate"].findings
    assert [holds for _, holds, _ in findings] == [True, True, False]
    assert findings[2][2] == why
    assert run.status().tasks["b"] is TaskState.BLOCKED


def test_a_path_that_cannot_be_looked_at_is_not_there(orch):
    wf = Workflow("w")
    wf.phase("first", gate=Path("x" * 5_000)).task(zero)
    findings = failures(orch.workflows.start(wf))["first/gate"].findings
    assert findings[1][1] is False


def test_a_gate_that_never_answers_fails_in_time(orch):
    hold = Hold()
    wf = Workflow("w")
    wf.phase("first", gate=[hold, never], gate_timeout=0.05).task(zero)
    run = orch.workflows.start(wf)
    error = failures(run)["first/gate"]
    hold.release()
    assert [why for _, holds, why in error.findings if not holds] == [
        "Hold has not answered within 0.05 s",
        "never has not answered within 0.05 s",
    ] or error.findings[2][2] == "never said no"


def takes_a_moment(results: dict) -> bool:
    return not threading.Event().wait(0.05)


def test_each_function_of_a_gate_has_time_of_its_own(orch):
    """One that has used up its own takes nothing from those behind it."""
    hold = Hold()
    wf = Workflow("w")
    gate = [hold, takes_a_moment, takes_a_moment]
    wf.phase("first", gate=gate, gate_timeout=4.0).task(zero)
    findings = failures(orch.workflows.start(wf))["first/gate"].findings
    hold.release()
    assert [holds for _, holds, _ in findings] == [True, False, True, True]


@pytest.mark.parametrize("refusals", [1, 3])
def test_a_function_of_a_gate_is_asked_once_there_is_a_thread(
    orch, monkeypatch, refusals
):
    """The system may have had none."""
    left, asked = [None] * refusals, []

    def begin(run, name):
        if left:
            left.pop()
            msg = "can't start new thread"
            raise RuntimeError(msg)
        begin_thread(run, name)

    def fine(results: dict) -> bool:
        asked.append(sorted(results))
        return True

    begin_thread = _gates.begin_thread
    monkeypatch.setattr(_gates, "begin_thread", begin)
    monkeypatch.setattr(_gates, "_LOOK", 0.01)
    wf = Workflow("w")
    wf.phase("first", gate=fine).task(zero, id="a")
    assert orch.workflows.start(wf).result(PATIENCE)["first/gate"]["passed"]
    assert asked == [["a"]]
    assert not left


def test_a_gate_that_never_answers_can_be_cancelled(orch):
    hold = Hold()
    wf = Workflow("w")
    wf.phase("first", gate=hold).task(zero)
    run = orch.workflows.start(wf, id="x")
    hold.wait()
    assert orch.workflows.cancel("x/first/gate")
    assert run.handles["first/gate"].exception(PATIENCE) is not None
    hold.release()
    assert run.status().tasks["first/gate"] is TaskState.CANCELLED


def test_a_gate_may_not_be_called_alone():
    for step_of_ours in (_steps.gate, _steps.mapped):
        with pytest.raises(NotRunningError, match="run of its workflow"):
            step_of_ours(*[None] * step_of_ours.__code__.co_argcount)


# --------------------------------------------------------------------- failures


def test_a_phase_that_goes_on_does_not_go_on_over_one_that_stops(orch):
    BROKEN.add("a")
    wf = Workflow("w")
    wf.phase("one").task(step, "a", id="a")
    wf.phase("two", on_failure="continue").task(step, "b", id="b")
    wf.phase("three").task(step, "c", id="c")
    run = orch.workflows.start(wf, id="x")
    assert list(failures(run)) == ["a"]
    assert CALLS == ["a"]
    BROKEN.clear()
    orch.workflows.restart("x")
    assert run.result(PATIENCE)["c"] == "c()"


def test_a_gate_that_asks_while_a_restart_comes_asks_again(orch):
    """What it was told of before is not what its phase comes to."""
    asks, told = Hold(), []

    def enough(results: dict) -> bool:
        told.append(sorted(results))
        return asks(value=len(results) == 2)

    BROKEN.add("a")
    wf = Workflow("w")
    first = wf.phase("first", gate=enough, on_failure="continue")
    for name in "ab":
        first.task(step, name, id=name)
    wf.phase("second").task(step, "c", id="c")
    run = orch.workflows.start(wf, id="x")
    asks.wait()
    old = run.handles["first/gate"]
    BROKEN.clear()
    orch.workflows.restart("x")
    assert run.handles["first/gate"].task_id == "x/first/gate~2"
    with pytest.raises(TaskCancelledError, match="first/gate~2 runs instead"):
        old.result(PATIENCE)
    asks.release()
    assert run.result(PATIENCE)["c"] == "c()"
    assert told == [["b"], ["a", "b"]]
    assert run.handles["first/gate"].result()["passed"] is True
    assert run.status().phases["first"].verdict == "passed"
    orch.workflows.restart("x")
    assert run.handles["first/gate"].task_id == "x/first/gate~2"


def test_what_runs_with_what_has_failed_begins_anew_after_a_restart(orch):
    """It would end with what is not so any more: it is cancelled, and runs again."""
    BROKEN.add("a")
    cleans, seen = Hold(), []

    def clean() -> int:
        seen.append(sorted(current_context().results))
        return cleans(len(seen))

    wf = Workflow("w")
    first = wf.task(step, "a", id="a")
    wf.task(clean, id="clean", after=[first], join="finished")
    run = orch.workflows.start(wf, id="x")
    cleans.wait()
    BROKEN.clear()
    orch.workflows.restart("x")
    assert run.handles["a"].result(PATIENCE) == "a()"
    cleans.release()
    assert run.result(PATIENCE)["clean"] == 2
    assert seen == [[], ["x/a"]]
    assert run.handles["clean"].task_id == "x/clean~2"


@pytest.mark.parametrize(("many", "end"), [(5, "s4 failed)"), (8, "and 3 more)")])
def test_many_that_did_not_complete_are_counted(orch, many, end):
    wf = Workflow("w")
    phase = wf.phase("p", on_failure="continue")
    for n in range(many):
        BROKEN.add(f"s{n}")
        phase.task(step, f"s{n}", id=f"s{n}")
    run = orch.workflows.start(wf)
    failures(run)
    (check,) = run.handles["p/gate"].result()["checks"]
    said = f"{many} of {many} tasks did not complete (s0 failed, "
    assert check[2].startswith(said)
    assert check[2].endswith(end)
    assert "s4 failed" in check[2]


# --------------------------------------------------------------------- building


def test_joins_within_phases(orch):
    """A join of its own chooses among tasks of its phase, never past the gate."""
    wf = Workflow("w")
    one = wf.phase("one")
    a = one.task(zero, id="a")
    two = wf.phase("two")
    b, c = two.task(step, "b", id="b"), two.task(step, "c", id="c")
    two.task(step, "d", id="d", after=[b, c], join=AtLeast(1))
    for after in ([], [a]):
        with pytest.raises(InvalidTaskError, match="must come after tasks of that"):
            two.task(zero, join="any", after=after)
    BROKEN.add("b")
    run = orch.workflows.start(wf)
    assert list(failures(run)) == ["b"]
    assert "d" in CALLS


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "a/b"},
        {"name": ""},
        {"max_parallel": 0},
        {"max_parallel": "many"},
        {"gate": 5},
        {"gate": [None]},
        {"gate": Approval},
        {"gate": [Approval(), Approval()]},
        {"gate_timeout": -1},
        {"on_failure": "explode"},
    ],
)
def test_a_phase_that_is_not_well_formed_is_refused(wrong):
    wf = Workflow("w")
    name = wrong.pop("name", "p")
    with pytest.raises(InvalidTaskError):
        wf.phase(name, **wrong)
    assert list(wf) == []
    assert dict(wf.phases) == {}


def test_what_is_taken_is_refused():
    wf = Workflow("w")
    phase = wf.phase("p")
    with pytest.raises(DuplicateTaskError, match="a phase 'p' already"):
        wf.phase("p")
    wf.task(zero, id="q/gate")
    with pytest.raises(DuplicateTaskError):
        wf.phase("q")
    with pytest.raises(InvalidTaskError):
        phase.add("task")
    with pytest.raises(InvalidTaskError):
        Approval(timeout=0)
    assert repr(phase) == "<Phase 'p' of 'w': 0 tasks>"


# ---------------------------------------------------------------------- durable


# ----------------------------------------------------------------------- report


def test_the_report_is_text_and_plain_values(orch):
    BROKEN.add("A2")
    run = orch.workflows.start(suite(), id="x")
    failures(run)
    report = run.report()

    text = str(report)
    assert text.startswith("x is failed: 13 tasks, 2 completed, 1 failed, 10 blocked, ")
    assert "  phase unit is failed: 2 of 4 tasks, " in text
    assert "What failed:\n  A2 failed: RuntimeError: A2 (at /" in text
    assert "  B1 blocked, because of A2\n" in text
    document = json.loads(json.dumps(report.to_dict()))
    assert document["workflow_id"] == "x"
    assert document["state"] == "failed"
    assert document["totals"] == {"blocked": 10, "completed": 2, "failed": 1}
    assert document["tasks"][1]["error"] == "RuntimeError: A2"
    assert document["phases"][0]["verdicts"] == []
    assert [phase.completed for phase in report.phases] == [2, 0, 0]
    assert report.work >= 0
    markdown = report.to_markdown()
    assert "| unit | failed | 2 of 4 | " in markdown
    assert "## What failed\n\n- A2 failed: RuntimeError: A2 (at " in markdown


def test_the_report_of_nothing(orch):
    report = orch.workflows.start(Workflow("w"), id="n").report()
    assert str(report) == "n is completed: no tasks"
    assert report.duration is None
    assert report.to_markdown().startswith("# n: completed\n\nno tasks.\n")


def test_the_report_is_short_and_harmless(orch):
    """Long errors, many failures, and what Markdown would take for markup."""

    def fail() -> None:
        raise ValueError("<b>|" + "x" * 1_000 + "\nnext")

    wf = Workflow("w")
    for _ in range(60):
        wf.task(fail)
    wf.task(Task.call, fail, type="t", retry=wf["fail"].task.retry, id="odd")
    run = orch.workflows.start(wf, id="x")
    failures(run)
    text = str(run.report())
    assert "… and 10 more" in text
    assert max(len(line.partition(" (at ")[0]) for line in text.splitlines()) < 260
    assert "&lt;b>\\|xxx" in run.report().to_markdown()


def test_a_verdict_of_a_gate_says_when_and_why(orch):
    wf = Workflow("w")
    wf.phase("p", gate=never).task(zero)
    run = orch.workflows.start(wf)
    failures(run)
    (phase,) = run.report().phases
    (verdict,) = phase.verdicts
    assert (verdict.passed, verdict.by) == (False, "gate")
    assert verdict.at > 1e9
    assert "    not passed by gate at 20" in str(run.report())
    assert str(run.report()).count("never said no") == 2


# -------------------------------------------------------------------- approvals


def asks(timeout: float | None = None, **options) -> Workflow:
    wf = Workflow("w")
    one = wf.phase("one", gate=[at_least_two, Approval(timeout)], **options)
    one.task(zero, id="a")
    one.task(zero, id="b")
    wf.phase("two").task(zero, id="c")
    return wf


def asked(orch, wf: Workflow, run_id: str = "x"):
    run = orch.workflows.start(wf, id=run_id)
    assert orch.wait(PATIENCE)
    return run


def test_somebody_must_approve(orch):
    run = asked(orch, asks())
    status = run.status()
    assert status.state is TaskState.BLOCKED
    assert status.asks == ("one/approval",)
    assert "From outside it waits for: one/approval." in str(status)
    assert status.phases["one"].verdict == "waiting for approval"
    assert status.eta_unknown == "one/approval is blocked"
    assert run.report().phases[0].verdicts[0].passed
    with pytest.raises(UnknownTaskError, match="it is asked for: one"):
        orch.workflows.approve("x", "on", by="Ada")
    assert orch.workflows.approve("x", "one", by="Ada", note="fine")
    assert not orch.workflows.approve("x", "one/gate", by="Bob")
    assert not orch.workflows.reject("x", "one/approval", by="Bob")
    assert run.result(PATIENCE)["one/approval"] == {
        "phase": "one",
        "passed": True,
        "by": "Ada",
        "note": "fine",
        "checks": [],
    }
    gate, approval = run.report().phases[0].verdicts
    assert (gate.by, approval.by, approval.note) == ("gate", "Ada", "fine")
    assert approval.at >= gate.at
    assert "    approved by Ada at 20" in str(run.report())


@pytest.mark.parametrize("result", ["fine", None, {}, {"ok": True}, {"by": "Ada"}])
def test_an_approval_that_is_decided_by_hand_has_no_verdict(orch, result):
    """Whatever was given for its result: that says not who has approved."""
    run = asked(orch, asks())
    assert orch.decide("x/one/approval", "complete", result)
    assert run.result(PATIENCE)["one/approval"] == result
    (verdict,) = run.report().phases[0].verdicts
    assert verdict.by == "gate"
    assert run.status().phases["one"].verdict == "passed"


@pytest.mark.parametrize("on_failure", ["stop", "skip", "continue"])
def test_somebody_may_reject(orch, on_failure):
    run = asked(orch, asks(on_failure=on_failure))
    assert orch.workflows.reject("x", "one", by="Ada", note="too slow")
    if on_failure == "continue":
        assert run.result(PATIENCE)["c"] == 0
    else:
        assert list(failures(run)) == ["one/approval"]
        state = TaskState.BLOCKED if on_failure == "stop" else TaskState.CANCELLED
        assert run.status().tasks["c"] is state
        assert run.report().phases[1].state is not TaskState.COMPLETED
    verdict = run.report().phases[0].verdicts[1]
    assert (verdict.passed, verdict.by, verdict.note) == (False, "Ada", "too slow")
    assert run.status().phases["one"].verdict == "failed"


@pytest.mark.parametrize("on_failure", ["stop", "continue"])
def test_nobody_approves_in_time(orch, on_failure):
    run = orch.workflows.start(asks(0.02, on_failure=on_failure), id="x")
    if on_failure == "continue":
        assert run.result(PATIENCE)["c"] == 0
    else:
        assert list(failures(run)) == ["one/approval"]
    verdict = run.report().phases[0].verdicts[1]
    assert (verdict.passed, verdict.by) == (False, "nobody")
    assert "within 0.02 s" in verdict.note
    assert "    not passed at 20" in str(run.report())


def test_an_approval_stands_behind_its_phase():
    wf = asks()
    wf.phases["one"].task(zero, id="late")
    names = list(wf)
    assert names.index("late") < names.index("one/gate") < names.index("one/approval")
    assert wf["one/approval"].after == ("one/gate",)
    assert wf["c"].after == ("one/approval",)
    wf.task(zero, id="free/approval")
    with pytest.raises(DuplicateTaskError):
        wf.phase("free", gate=Approval())
    assert "free/gate" not in wf


def test_other_runs_are_waited_for(orch):
    """A workflow comes after a run of another one: after all of it."""
    hold = Hold()
    first = Workflow("first")
    a = first.task(hold, 1, id="a")
    first.task(echo, a, id="b")
    first.task(zero, id="c")
    before = orch.workflows.start(first, id="before")
    assert [handle.task_id for handle in before.last] == ["before/b", "before/c"]
    second = Workflow("second")
    second.task(step, "z", id="z", after=[before])
    run = orch.workflows.start(second, id="then")
    hold.wait()
    assert run.status().tasks["z"] is TaskState.PENDING
    hold.release()
    assert run.result(PATIENCE) == {"z": "z()"}


#: That a task of a phase is to fail, that another one has begun, and that it may end.
FAIL, BEGUN, END = threading.Event(), threading.Event(), threading.Event()


def test_what_comes_after_a_gate_that_says_no_may_be_skipped(orch, tmp_path):
    wf = Workflow("w")
    missing = tmp_path / "missing"
    wf.phase("one", gate=missing, on_failure="skip").task(zero, id="a")
    wf.phase("two").task(zero, id="b")
    run = orch.workflows.start(wf, id="x")
    assert list(failures(run)) == ["one/gate"]
    assert run.status().tasks["b"] == "cancelled"
    assert run.status().phases["two"].verdict == "skipped"


def test_a_gate_waits_for_an_answer_as_long_as_it_is_said(orch):
    """The function answers later, and what it says counts no more."""
    over = threading.Event()

    def slow(_results):
        return over.wait(6) is not None

    wf = Workflow("w")
    wf.phase("one", gate=slow, gate_timeout=0.7).task(zero, id="a")
    run = orch.workflows.start(wf, id="x")
    try:
        assert "has not answered within 0.7 s" in str(failures(run)["one/gate"])
    finally:
        over.set()


def test_a_report_shows_no_password_of_an_address(orch):
    def fetch():
        msg = "https://ann:s3cr3t@example.org/x cannot be reached"
        raise OSError(msg)

    wf = Workflow("w")
    wf.phase("one").task(fetch, id="a")
    run = orch.workflows.start(wf, id="x")
    failures(run)
    report = run.report()
    for said in (str(report), report.to_markdown(), str(report.to_dict())):
        assert "example.org" in said
        assert "s3cr3t" not in said
