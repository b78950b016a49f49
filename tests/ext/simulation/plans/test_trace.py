"""The trace of what ran: a file that Perfetto and chrome://tracing open."""

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings, strategies as st
from tests.house.tools.examples import examples

from taskorch import (
    Approval,
    Resources,
    RetryPolicy,
    SqliteJournal,
    Task,
    TaskOrchestrator,
    TaskState,
    TaskStatus,
    Workflow,
)
from taskorch.events import (
    OrchestratorStarted,
    TaskCancelled,
    TaskCompleted,
    TaskParentsAdded,
    TaskProgressed,
    TaskResumed,
    TaskStarted,
    TaskSubmitted,
    TaskSuspended,
    make,
)
from taskorch.ext.telemetry import Slice, Trace
from taskorch.ext.telemetry._trace import write_slices
from taskorch.kit.drawing import lanes
from taskorch.model import HistoryEntry

_PHASES = {"X": {"ts", "dur", "name", "cat"}, "M": {"name", "ts"}}


def read(path):
    """
    The slices of a trace, once it is seen to be one.

    The rules are those of the Trace Event Format: an object with `traceEvents`; each
    event has a phase, a process and a thread; complete events last from `ts` for `dur`
    microseconds; those of one thread do not overlap.
    """
    document = json.loads(path.read_text(encoding="utf-8"))
    assert document["displayTimeUnit"] in ("ms", "ns")
    tracks = {}
    names = {}
    for event in document["traceEvents"]:
        assert event.keys() >= {"ph", "pid", "tid", "args", *_PHASES[event["ph"]]}
        assert isinstance(event["pid"], int)
        assert isinstance(event["tid"], int)
        track = event["pid"], event["tid"]
        if event["ph"] == "M":
            names[track, event["name"]] = event["args"]
            continue
        assert isinstance(event["ts"], int)
        assert isinstance(event["dur"], int)
        assert event["ts"] >= 0
        assert event["dur"] >= 0
        tracks.setdefault(track, []).append(event)
    slices = []
    for track, events in tracks.items():
        process = names[(track[0], 0), "process_name"]["name"]
        thread = names[track, "thread_name"]["name"]
        events.sort(key=lambda event: (event["ts"], event["ts"] + event["dur"]))
        for one, following in pairwise(events):
            assert one["ts"] + one["dur"] <= following["ts"]
        slices += [{**event, "process": process, "thread": thread} for event in events]
    return slices, document


def of(slices, process):
    return {one["name"]: one for one in slices if one["process"] == process}


# -- from events -------------------------------------------------------------------


def test_what_runs_is_recorded(tmp_path):
    orch = TaskOrchestrator(resources={"cpu": 2})
    orch.agent("reviewer", capabilities={"review"})(lambda task, context: None)
    trace = Trace(orch.signals)
    failures = [OSError("no luck")]

    def flaky():
        if failures:
            raise failures.pop()

    with orch:
        orch.submit_task(Task.call(flaky, id="a", retry=RetryPolicy(2, base=0)))
        orch.submit_task(
            Task("review", id="b", after=["a"], resources=Resources(cpu=1))
        )
        orch.wait()
        trace.close()
        orch.submit(int).result(timeout=30)
    trace.write(tmp_path / "run.json")

    slices, document = read(tmp_path / "run.json")
    assert document["otherData"]["critical_path"] == ["a", "b"]
    assert sorted(one["name"] for one in slices) == ["a", "a", "a", "a", "b", "b"]
    b = of(slices, "reviewer")["b"]
    assert b["cat"] == "task,critical"
    assert b["args"] == {
        "task": "b",
        "type": "review",
        "attempt": 1,
        "state": "completed",
        "holds": {"cpu": 1.0},
        "routed": "the only candidate",
        "critical": True,
    }
    tries = {
        one["args"]["attempt"]: one["args"]
        for one in slices
        if one["name"] == "a" and one["process"] == "local"
    }
    assert [tries[n]["state"] for n in (1, 2)] == ["retrying", "completed"]
    assert tries[1]["error"] == "OSError: no luck"
    assert len(trace) == 3


def test_a_failure_says_what_was_raised():
    orch = TaskOrchestrator()
    trace = Trace(orch.signals)
    with orch:
        orch.submit_task(Task.call(int, "x", id="c"))
        orch.wait()
    (one,) = trace.slices()
    assert one.state == "failed"
    assert one.details["error"].startswith("ValueError: invalid literal")


def test_closing_twice_does_no_harm():
    trace = Trace(TaskOrchestrator().signals)
    trace.close()
    trace.close()
    assert trace.slices() == []


def test_what_is_under_way_lasts_until_the_latest_event(tmp_path):
    trace = Trace()
    trace.take(TaskStarted(1, 1_000, "a", 1, "local"))
    trace.take(TaskProgressed(2, 9_000, "a", 1, 0.5))
    trace.take(TaskCompleted(3, 9_000, "unknown", 1, "local", 5))
    assert len(trace) == 1
    trace.write(tmp_path / "run.json")
    (one,), _ = read(tmp_path / "run.json")
    assert (one["ts"], one["dur"], one["args"]["state"]) == (0, 8, "running")


def test_a_program_that_is_stopped_where_it_stands_goes_on():
    trace = Trace()
    trace.take(TaskStarted(1, 1_000, "a", 1, "local"))
    trace.take(TaskSuspended(2, 2_000, "a", True))
    trace.take(TaskResumed(3, 3_000, "a", True))
    trace.take(TaskCancelled(4, 4_000, "a", "enough"))
    (one,) = trace.slices()
    assert (one.end_ns, one.state, one.details) == (
        4_000,
        "cancelled",
        {"reason": "enough"},
    )


def test_what_a_crash_has_cut_short_is_not_shown():
    trace = Trace()
    trace.take(TaskStarted(1, 1_000, "a", 1, "local"))
    trace.take(OrchestratorStarted(2, 9_000, 2))
    assert trace.slices() == []


def test_a_journal_is_a_recording_too(tmp_path):
    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path, durability="process") as orch:
        orch.submit_task(Task.call(int, id="a"))
        orch.submit_task(Task.call(int, id="b", after=["a"]))
        orch.wait()
    trace = Trace()
    for event, _ in SqliteJournal(path).read():
        trace.take(make(event))
    assert trace.critical_path() == ("a", "b")
    assert [one.type for one in trace.slices()] == ["int", "int"]


def test_the_critical_path_is_the_chain_that_ran_longest():
    trace = Trace()
    submitted = {"a": (), "b": (), "c": ("a", "b", "gone"), "d": ("a",)}
    for name, after in submitted.items():
        trace.take(TaskSubmitted(1, 0, name, "x", 0, after))
    for name, start, end in (("a", 0, 5), ("b", 0, 9), ("c", 9, 20), ("d", 20, 29)):
        trace.take(TaskStarted(2, start, name, 1, "local"))
        trace.take(TaskCompleted(3, end, name, 1, "local", end - start))
    assert trace.critical_path() == ("b", "c")


def test_the_critical_path_goes_on_behind_an_approval_and_a_restart(tmp_path):
    """What ran again comes after its first run, and what made no attempt is no break."""
    broken = [True]

    def check():
        if broken:
            raise ValueError

    wf = Workflow("release")
    wf.phase("tests", gate=Approval()).task(check, id="unit")
    wf.phase("publish").task(int, id="upload")
    orch = TaskOrchestrator()
    trace = Trace(orch.signals)
    with orch:
        run = orch.workflows.start(wf, id="v1")
        orch.wait()
        broken.clear()
        orch.workflows.restart("v1")
        orch.wait()
        orch.workflows.approve("v1", "tests", by="Ada")
        run.result(timeout=30)
    ran_again = ("v1/unit", "v1/unit~2")
    path = (*ran_again, "v1/tests/gate", "v1/upload", "v1/publish/gate")
    assert trace.critical_path() == path
    trace.write(tmp_path / "run.json")
    slices, _ = read(tmp_path / "run.json")
    assert list(of(slices, "critical path")) == list(path)


def test_the_critical_path_knows_what_was_waited_for_later():
    trace = Trace()
    for name in ("a", "b", "c"):
        trace.take(TaskSubmitted(1, 0, name, "x", 0, ("a",) if name == "b" else ()))
    trace.take(TaskParentsAdded(2, 0, "b", ("c",)))
    for name, start, end in (("a", 0, 5), ("c", 0, 9), ("b", 9, 20)):
        trace.take(TaskStarted(3, start, name, 1, "local"))
        trace.take(TaskCompleted(4, end, name, 1, "local", end - start))
    assert trace.critical_path() == ("c", "b")


def test_what_waits_for_what_and_never_ran_has_no_critical_path():
    trace = Trace()
    trace.take(TaskSubmitted(1, 0, "a", "x", 0, ("b",)))
    assert trace.critical_path() == ()


def test_a_trace_of_nothing_is_one(tmp_path):
    Trace().write(tmp_path / "run.json")
    assert read(tmp_path / "run.json")[0] == []


# -- from histories ----------------------------------------------------------------


def test_histories_are_recordings_too(tmp_path):
    orch = TaskOrchestrator()
    failures = [OSError("no")]

    def flaky():
        if failures:
            raise failures.pop()

    with orch:
        orch.submit_task(Task.call(flaky, id="a", retry=RetryPolicy(2, base=0)))
        orch.wait()
        statuses = list(orch.tasks())
    trace = Trace()
    trace.add(statuses)
    trace.write(tmp_path / "run.json")
    slices, _ = read(tmp_path / "run.json")
    assert [(one["args"]["attempt"], one["args"]["state"]) for one in slices] == [
        (1, "retrying"),
        (2, "completed"),
    ]
    assert {one["process"] for one in slices} == {"local"}
    assert trace.critical_path() == ()


def test_a_history_with_a_stop_in_the_middle_is_one_attempt():
    states = ["queued", "running", "suspended", "running"]
    history = tuple(
        HistoryEntry(TaskState(state), state, float(at), "local" if at == 1 else "why")
        for at, state in enumerate(states)
    )
    status = TaskStatus(
        "a", "program", TaskState.RUNNING, "running", None, None, 1, history, "local",
        Resources(), (),
    )  # fmt: skip
    trace = Trace()
    trace.add([status])
    found = [(one.attempt, one.worker, one.state) for one in trace.slices()]
    assert found == [(1, "local", "suspended"), (1, "local", "running")]


# -- lanes -------------------------------------------------------------------------


@settings(max_examples=examples(40))
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9)), max_size=30))
def test_lanes_never_overlap_and_are_as_few_as_can_be(pairs):
    spans = [(start, start + length) for start, length in pairs]
    found = lanes(spans)
    by_lane = {}
    for span, lane in zip(spans, found, strict=True):
        by_lane.setdefault(lane, []).append(span)
    for members in by_lane.values():
        for one, following in pairwise(sorted(members)):
            assert one[1] <= following[0]
    long = [span for span in spans if span[0] < span[1]]
    most = max((sum(s <= start < e for s, e in long) for start, _ in long), default=0)
    assert len(by_lane) <= most + 1


@settings(max_examples=examples(25))
@given(
    st.lists(
        st.tuples(st.integers(0, 5_000), st.integers(0, 3_000), st.sampled_from("ab")),
        max_size=12,
    )
)
def test_times_in_nanoseconds_never_overlap_in_the_file(tmp_path_factory, spans):
    path = tmp_path_factory.getbasetemp() / "spans.json"
    slices = [
        Slice(f"t{n}", "x", worker, 1, start, start + length, "completed")
        for n, (start, length, worker) in enumerate(spans)
    ]
    write_slices(path, slices)
    assert len(read(path)[0]) == len(spans)


def test_what_failed_and_what_is_critical_stand_out(tmp_path):
    states = ("completed", "failed", "retrying", "stopped", "cancelled")
    slices = [Slice(state, "x", "a", 1, 0, 1_000, state) for state in states]
    slices.append(Slice("slow", "x", "a", 1, 0, 9_000, "completed"))
    write_slices(tmp_path / "x", slices, ["slow", "failed"])
    found, _ = read(tmp_path / "x")
    colours = {name: one.get("cname") for name, one in of(found, "a").items()}
    red = dict.fromkeys(("failed", "retrying", "stopped"), "terrible")
    assert colours == {"completed": None, "cancelled": None, "slow": "bad", **red}


@pytest.mark.parametrize("name", ['"quoted"', "<b>", "ünï\n"])
def test_names_are_written_as_they_are(tmp_path, name):
    write_slices(
        tmp_path / "x", [Slice(name, name, name, 1, 0, 1, "completed")], [name]
    )
    slices, _ = read(tmp_path / "x")
    assert {one["name"] for one in slices} == {name}
