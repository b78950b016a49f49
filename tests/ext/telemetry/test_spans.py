"""The spans that a run leaves: their names, attributes, parents and links."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ProcessPoolExecutor

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from tests.api.tools import eventually
from tests.ext.telemetry.tools import Tracing, is_child, linked, run

import taskorch
from taskorch import (
    Approval,
    RetryPolicy,
    Task,
    TaskOrchestrator,
    Workflow,
    current_context,
)
from taskorch.core.engine._context import inside, look_for_sdk
from taskorch.errors import InvalidTaskError, TaskCancelledError, WorkflowFailedError
from taskorch.events import TaskSubmitted
from taskorch.ext.telemetry._spans import parsed
from taskorch.model import call_type

PATIENCE = 60.0


@pytest.fixture
def tracing() -> Tracing:
    return Tracing()


def here() -> trace.SpanContext:
    return trace.get_current_span().get_span_context()


def double(n: int = 1) -> int:
    return 2 * n


def test_the_limit_of_a_phase_is_no_resource_that_an_attempt_holds(tracing):
    workflow = Workflow("nightly")
    workflow.phase("tests", max_parallel=2).task(double, id="x", resources={"cpu": 1})
    with tracing.orchestrator() as orch:
        orch.workflows.start(workflow, id="one").result()
    keys = {key for span in tracing.spans for key in span.attributes}
    assert {key for key in keys if "one" in key} == set()
    assert "taskorch.allocation.cpu" in keys
    scope = tracing.only("double").instrumentation_scope
    assert (scope.name, scope.version) == ("taskorch", taskorch.__version__)


# -- one task ----------------------------------------------------------------------


def test_a_task_has_a_span_for_its_submission_its_attempt_and_each_decision(tracing):
    with tracing.orchestrator() as orch, tracing.tracer.start_as_current_span("caller"):
        handle = orch.submit_task(Task.call(double, id="sum", resources={"cpu": 1}))
        handle.result()

    caller, submit = tracing.only("caller"), tracing.only("submit")
    attempt = tracing.only("double")
    assert is_child(submit, caller)
    assert is_child(attempt, submit)
    assert tracing.under(submit) == ["validate", "double"]
    assert tracing.under(attempt) == ["route", "allocate"]
    assert linked(attempt) == [submit.context.span_id]
    assert attempt.context.trace_flags == submit.context.trace_flags
    assert (submit.kind, attempt.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
    assert dict(submit.attributes) == {"cicd.pipeline.task.name": "double"}
    assert dict(attempt.attributes) == {
        "cicd.pipeline.task.name": "double",
        "cicd.pipeline.task.run.id": "sum:1",
        "cicd.pipeline.task.run.result": "success",
        "cicd.worker.name": "local",
        "taskorch.task.id": "sum",
        "taskorch.attempt": 1,
    }
    assert dict(tracing.only("allocate").attributes) == {"taskorch.allocation.cpu": 1.0}
    assert dict(tracing.only("route").attributes) == {
        "cicd.worker.name": "local",
        "taskorch.reason": "the only candidate",
    }


# -- failures ----------------------------------------------------------------------


def test_a_retry_is_a_decision_and_each_attempt_says_how_it_ended(tracing):
    calls = []

    def flaky() -> None:
        calls.append(1)
        if len(calls) == 1:
            msg = "not yet"
            raise ConnectionError(msg)

    with tracing.orchestrator() as orch:
        retry = RetryPolicy(2, wait="fixed", base=0.01, jitter=0)
        orch.submit_task(Task.call(flaky, type="fetch", retry=retry)).result()

    failed, passed = tracing.named("fetch")
    assert tracing.under(failed) == ["route", "allocate", "retry"]
    assert failed.status.status_code is StatusCode.ERROR
    assert failed.status.description == "not yet"
    assert failed.attributes["error.type"] == "ConnectionError"
    assert failed.attributes["cicd.pipeline.task.run.result"] == "failure"
    assert tracing.only("retry").attributes["taskorch.retry.delay"] == 0.01
    assert tracing.only("retry").attributes["taskorch.cause"] == "error"
    assert passed.status.status_code is StatusCode.UNSET
    assert passed.attributes["taskorch.attempt"] == 2
    assert passed.parent.span_id == failed.parent.span_id


def test_a_timeout_and_a_cancellation_are_told_apart_from_a_failure(tracing):
    async def endless() -> None:
        await asyncio.sleep(PATIENCE)

    with tracing.orchestrator() as orch:
        began = threading.Event()
        orch.signals.task_started.connect(lambda e: e.task_id == "b" and began.set())
        late = orch.submit_task(Task.call(endless, type="late", timeout=0.01))
        late.exception()
        off = orch.submit_task(Task.call(endless, id="b", type="off"))
        assert began.wait(PATIENCE)
        orch.cancel_task("b")
        assert isinstance(off.exception(), TaskCancelledError)

    late, off = tracing.only("late"), tracing.only("off")
    assert late.attributes["cicd.pipeline.task.run.result"] == "timeout"
    assert [event.name for event in late.events] == ["stopping: timeout"]
    assert late.status.status_code is StatusCode.ERROR
    assert off.attributes["cicd.pipeline.task.run.result"] == "cancellation"
    assert off.status.status_code is StatusCode.UNSET


def test_a_refused_submission_leaves_no_span(tracing):
    with tracing.orchestrator() as orch, pytest.raises(Exception, match="nobody"):
        orch.submit_task(Task("nobody-can"))
    assert tracing.spans == []


def test_what_is_left_at_the_end_ends_there(tracing):
    held = threading.Event()
    began = threading.Event()

    def stubborn() -> None:
        began.set()
        held.wait(PATIENCE)

    orch = tracing.orchestrator(grace=0)
    try:
        with orch:
            orch.submit_task(Task.call(stubborn, type="stubborn"))
            assert began.wait(PATIENCE)
            orch.stop(drain=False, timeout=1)
    finally:
        held.set()
    result = tracing.only("stubborn").attributes["cicd.pipeline.task.run.result"]
    assert result == "cancellation"


def test_a_program_that_is_held_says_so_and_goes_on_in_its_span(tracing, tmp_path):
    go = tmp_path / "go"
    until = f"until test -e {go}; do sleep 0.05; done"
    with tracing.orchestrator() as orch:
        task = Task.program(["sh", "-c", until], id="held")
        began = threading.Event()
        orch.signals.task_started.connect(lambda _: began.set())
        handle = orch.submit_task(task)
        assert began.wait(PATIENCE)
        eventually(lambda: orch._rt.attempts.holdable(handle._row))
        assert orch.suspend_task("held")
        assert orch.resume_task("held")
        go.touch()
        handle.result()

    names = [event.name for event in tracing.only("program").events]
    assert names == ["suspended", "resumed"]
    assert {"suspend", "resume"} <= set(tracing.under(tracing.only("program")))


def test_what_is_done_to_a_task_that_never_ran_is_below_its_submission(tracing):
    with tracing.orchestrator() as orch:
        orch.submit_task(Task.call(len, "", id="later", not_before=3_600))
        assert orch.suspend_task("later")
        assert orch.resume_task("later")
        assert orch.cancel_task("later")
        orch.wait(PATIENCE)
    assert {"suspend", "resume", "cancel"} <= set(tracing.under(tracing.only("submit")))
    span = tracing.only("cancel")
    assert span.attributes["taskorch.task.id"] == "later"
    assert span.attributes["taskorch.reason"]


# -- every way of running ----------------------------------------------------------


def remote_context() -> tuple[int, int]:
    found = here()
    return found.trace_id, found.span_id


@pytest.mark.slow("starts a pool of processes")
def test_another_process_has_the_context_too(tracing):
    with (
        ProcessPoolExecutor(1) as pool,
        tracing.orchestrator(executors={"cpu": pool}) as orch,
    ):
        task = Task.call(remote_context, type="far", executor="cpu")
        found = orch.submit_task(task).result()

    far = tracing.only("far").context
    assert found == (far.trace_id, far.span_id)


def test_a_worker_process_has_it(tracing):
    with tracing.orchestrator(executors={"process": 1}) as orch:
        task = Task.call(remote_context, type="far", executor="process")
        found = orch.submit_task(task).result()

    far = tracing.only("far").context
    assert found == (far.trace_id, far.span_id)


# -- steps -------------------------------------------------------------------------

AGAIN = RetryPolicy(2, base=0.001)


def steps_of(tracing, above):
    """The spans of the steps below *above*: name, number, whether kept, error."""
    keys = [f"taskorch.step.{key}" for key in ("name", "number", "kept")]
    return [
        (*(span.attributes[key] for key in keys), span.attributes.get("error.type"))
        for span in tracing.spans
        if is_child(span, above) and keys[0] in span.attributes
    ]


SEEN: list[int] = []


def look() -> None:
    SEEN.append(here().span_id)


def find_none() -> None:
    raise LookupError("none")


def four_steps() -> None:
    context = current_context()
    context.step("look", look)
    context.sleep(seconds=0.001)
    context.wait("paid", timeout=PATIENCE)
    context.step("fail", find_none)


@pytest.mark.parametrize("journal", [False, True])
def test_steps_are_spans_below_that_of_their_attempt(tracing, tmp_path, journal):
    SEEN.clear()
    task = Task.call(four_steps, id="x", type="job", retry=AGAIN)
    options = {"journal": tmp_path / "runs.db"} if journal else {}
    with tracing.orchestrator(**options) as orch:
        orch.emit("paid", keep=PATIENCE)
        with pytest.raises(LookupError):
            orch.submit_task(task).result(PATIENCE)
    called, again = tracing.named("job")
    names = ["look", "sleep", "paid"]
    for attempt, is_kept in ((called, False), (again, True)):
        assert steps_of(tracing, attempt) == [
            *((name, 1, is_kept, None) for name in names),
            ("fail", 1, False, "LookupError"),
        ]
    assert [tracing.named("look")[0].context.span_id] == SEEN
    for span in tracing.named("fail"):
        assert span.status.status_code is StatusCode.ERROR
        assert span.status.description == "none"
    sleep = tracing.named("sleep")[0]
    assert sleep.end_time - sleep.start_time >= 1_000_000


def test_steps_of_a_coroutine_are_spans_too(tracing):
    async def inner() -> int:
        return here().span_id

    async def job() -> list[int]:
        step = current_context().aio.step
        pauses = (current_context().aio.sleep(seconds=0.001, name=n) for n in "ab")
        await asyncio.gather(*pauses)
        return [await step("inner", inner), await step("inner", inner)]

    with tracing.orchestrator() as orch:
        found = orch.submit_task(Task.call(job, type="job")).result(PATIENCE)
    assert found == [span.context.span_id for span in tracing.named("inner")]
    steps = steps_of(tracing, tracing.only("job"))
    assert sorted(steps[:2]) == [("a", 1, False, None), ("b", 1, False, None)]
    assert steps[2:] == [("inner", 1, False, None), ("inner", 2, False, None)]


def far_steps() -> None:
    current_context().step("inner", double)
    current_context().sleep(seconds=0.001)


def test_steps_in_a_worker_process_are_spans_of_the_orchestrator(tracing):
    with tracing.orchestrator(executors={"process": 1}) as orch:
        task = Task.call(far_steps, type="far", executor="process")
        orch.submit_task(task).result(PATIENCE)
    assert steps_of(tracing, tracing.only("far")) == [
        ("inner", 1, False, None),
        ("sleep", 1, False, None),
    ]


# -- workflows ---------------------------------------------------------------------


def test_a_slash_in_an_id_makes_no_pipeline(tracing):
    with tracing.orchestrator() as orch:
        orch.submit_task(Task.call(double, 2, id="v1/unit")).result()
    assert "cicd.pipeline.run.id" not in tracing.only("double").attributes


def fail() -> None:
    msg = "it is broken"
    raise RuntimeError(msg)


def test_what_fails_beside_a_run_is_no_failure_of_it(tracing):
    wf = Workflow("release")
    wf.wait_for("go", id="go")
    with tracing.orchestrator() as orch:
        run = orch.workflows.start(wf, id="v1")
        alone = orch.submit_task(Task.call(fail, id="v1/alone"))
        with pytest.raises(RuntimeError):
            alone.result()
        orch.emit("go")
        run.result()
    span = tracing.only("RUN release")
    assert span.attributes["cicd.pipeline.result"] == "success"


def test_a_workflow_that_fails_says_for_what(tracing):
    wf = Workflow("release")
    wf.phase("tests").task(fail, id="unit")
    wf.phase("publish").task(double, id="upload")

    with tracing.orchestrator() as orch:
        run = orch.workflows.start(wf, id="v1")
        with pytest.raises(WorkflowFailedError):
            run.result()

    run, phase = tracing.only("RUN release"), tracing.only("phase tests")
    for span in (run, phase):
        assert span.status.status_code is StatusCode.ERROR
        assert span.attributes["error.type"] == "RuntimeError"
    assert run.attributes["cicd.pipeline.result"] == "failure"
    assert phase.attributes["cicd.pipeline.task.run.result"] == "failure"


def test_a_run_that_is_cancelled_left_or_refused_says_so(tracing):
    wf = Workflow("waits")
    wf.add(Task.wait_for("never", id="event"))
    with tracing.orchestrator() as orch:
        orch.workflows.start(wf, id="off")
        orch.workflows.cancel("off")
        orch.workflows.start(wf, id="left")
        bad = Workflow("bad")
        bad.add(Task("nobody-can", id="a"))
        with pytest.raises(Exception, match="nobody"):
            orch.workflows.start(bad, id="bad")
        orch.stop(drain=False)

    results = {
        span.attributes["cicd.pipeline.run.id"]: span.attributes["cicd.pipeline.result"]
        for span in tracing.spans
        if span.name.startswith("RUN")
    }
    assert results == {"off": "cancellation", "left": "cancellation", "bad": "failure"}


# -- later incarnations ----------------------------------------------------------------


def durable_task(path: str) -> str:
    return path.upper()


def test_a_task_that_runs_in_a_later_incarnation_belongs_to_its_callers_trace(tmp_path):
    before, after = Tracing(), Tracing()
    path = tmp_path / "runs.db"
    with before.tracer.start_as_current_span("caller") as caller:
        orch = before.orchestrator(journal=path)
        # Accepted and not begun: it was never started.
        orch.submit_task(Task.call(durable_task, "a", id="later"))
        orch.submit_task(Task.call(durable_task, "b", id="again"))
        orch.stop(drain=False)
    with after.orchestrator(journal=path) as orch:
        assert orch.handle("later").result() == "A"
        orch.handle("again").result()
        orch.rerun_task("again").result()

    submits = {span.context.span_id for span in before.named("submit")}
    attempts = after.named("durable_task")
    assert len(attempts) == 3
    for attempt in attempts:
        assert attempt.context.trace_id == caller.get_span_context().trace_id
        assert attempt.parent.span_id in submits
        assert linked(attempt) == [attempt.parent.span_id]


@pytest.mark.parametrize("keep", [0, 10_000])
def test_a_journal_keeps_the_trace_through_a_snapshot(tmp_path, keep):
    before, after = Tracing(), Tracing()
    path = tmp_path / "runs.db"
    with before.orchestrator(journal=path, keep_finished=keep) as orch:
        orch.submit_task(Task.wait_for("go", id="event"))
        orch.submit_task(Task.call(durable_task, "a", id="later", after=["event"]))
        orch.stop(drain=False)
    with after.orchestrator(journal=path, keep_finished=keep) as orch:
        orch.emit("go")
        assert orch.handle("later").result() == "A"

    submits = {span.context.span_id for span in before.named("submit")}
    assert after.only("durable_task").parent.span_id in submits


# -- hostile surroundings ----------------------------------------------------------


def test_processors_that_raise_fail_no_task(caplog):
    class Raises(SpanProcessor):
        def on_start(self, span, parent_context=None):
            msg = "on_start"
            raise RuntimeError(msg)

    provider = TracerProvider()
    provider.add_span_processor(Raises())
    wf = Workflow("w")
    wf.task(double, id="a")
    with TaskOrchestrator(tracer_provider=provider) as orch:
        assert orch.submit(double, 2).result() == 4
        assert orch.workflows.start(wf, id="v1").result() == {"a": 2}
    assert "a span could not be begun" in caplog.text


class Breaks(SpanExporter):
    def export(self, spans):
        msg = "the collector is gone"
        raise OSError(msg)


@pytest.mark.filterwarnings("ignore")
def test_exporters_that_raise_fail_no_task():
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(Breaks()))
    with TaskOrchestrator(tracer_provider=provider) as orch:
        assert list(orch.map(double, range(20))) == [2 * n for n in range(20)]
        assert orch.health().live


class Blocks(SpanExporter):
    def __init__(self) -> None:
        self.entered = threading.Event()
        self.go = threading.Event()

    def export(self, spans):
        self.entered.set()
        self.go.wait(PATIENCE)


def test_exporters_that_block_hold_up_no_task():
    exporter = Blocks()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    orch = TaskOrchestrator(tracer_provider=provider)
    orch._rt.publisher.slow_after = 0.05
    orch._rt.publisher.patience = 0.1
    try:
        with orch:
            assert orch.submit(double, 2).result(PATIENCE) == 4
            assert exporter.entered.wait(PATIENCE)
            # It blocks, and all goes on: submissions, attempts, and other receivers.
            heard = threading.Event()
            orch.signals.orchestrator_stopped.connect(lambda _: heard.set())
            assert list(orch.map(double, range(20), timeout=PATIENCE))
        assert heard.wait(PATIENCE)
    finally:
        exporter.go.set()


def test_events_that_come_late_begin_no_second_span(tracing):
    """A receiver that is slow hears of a start after others have heard of the end."""
    late = []
    orch = tracing.orchestrator()
    spans = orch._rt.spans
    with orch:
        orch.signals.task_started.disconnect(spans.take)
        orch.signals.task_started.connect(late.append)
        orch.submit(double).result()
        orch.wait()
        spans.take(late[0])
    assert tracing.only("double").attributes["taskorch.attempt"] == 1
    assert spans._open == {}


def test_what_a_task_says_to_the_current_span_is_in_the_span_of_its_attempt(tracing):
    left = []

    def says() -> None:
        span = trace.get_current_span()
        left.append(span)
        assert span.is_recording()
        span.set_attribute("rows", 3)
        span.set_attributes({"file": "a.csv"})
        span.add_event("read", {"seconds": 1.5})
        span.add_link(trace.SpanContext(1, 2, is_remote=True))
        span.record_exception(ValueError("one line"))
        span.end()

    with tracing.orchestrator() as orch:
        orch.submit_task(Task.call(says, type="says")).result()
    span = tracing.only("says")
    assert (span.attributes["rows"], span.attributes["file"]) == (3, "a.csv")
    assert span.attributes["cicd.pipeline.task.run.result"] == "success"
    assert [event.name for event in span.events] == ["read", "exception"]
    assert span.links[-1].context.trace_id == 1
    assert not left[0].is_recording()
    left[0].set_attribute("late", 1)


def test_each_attempt_of_a_plain_function_is_inside_its_own_span(tracing):
    """It goes the plainest way, and the next attempt is not below the one before."""
    seen = []

    def flaky() -> None:
        seen.append(trace.get_current_span().get_span_context())
        if len(seen) == 1:
            raise ConnectionError

    retry = RetryPolicy(2, wait="fixed", base=0)
    with tracing.orchestrator() as orch:
        orch.submit(double).result()
        orch.submit_task(Task.call(flaky, type="flaky", retry=retry)).result()

    attempts = tracing.named("flaky")
    assert [span.context.span_id for span in attempts] == [one.span_id for one in seen]
    assert len({span.parent.span_id for span in attempts}) == 1
    assert len({span.context.trace_id for span in attempts}) == 1


def test_a_task_that_came_before_the_sdk_belongs_to_its_callers_trace(tracing):
    """Its context was captured without a span of a submission."""
    seen = []

    def look() -> None:
        seen.append(trace.get_current_span().get_span_context())

    orch = TaskOrchestrator()
    with tracing.tracer.start_as_current_span("caller") as caller:
        handle = orch.submit(look)
    look_for_sdk(orch._rt, tracing.provider)
    with orch:
        handle.result()

    attempt = tracing.only(look.__qualname__)
    assert attempt.context.span_id == seen[0].span_id
    assert attempt.parent.span_id == caller.get_span_context().span_id


def test_no_submission_is_forgotten_before_its_event_can_be_lost(tracing):
    """Acceptances may be told late, of as many tasks as events wait for a receiver."""
    spans = tracing.orchestrator()._rt.spans
    texts = [spans.trace_in(spans.capture()) for _ in range(10_001)]
    spans.take(TaskSubmitted(1, 2, "first", "noop", 0, trace=texts[0]))
    assert [span.name for span in tracing.spans] == ["validate", "submit"]


def test_what_was_lost_is_forgotten():
    from taskorch.ext.telemetry import _spans

    kept = _spans.Latest(2)
    for n in range(5):
        kept[n] = n
    assert list(kept) == [3, 4]


# -- whether there is an SDK -------------------------------------------------------


USE = """
from taskorch import TaskOrchestrator, Task, Workflow
wf = Workflow("w")
wf.task(int, 5, id="a")
with TaskOrchestrator() as orch:
    assert orch.submit(int, 3).result() == 3
    assert list(orch.map(int, "12")) == [1, 2]
    assert orch.workflows.start(wf).result() == {"a": 5}
    assert orch.submit_task(Task.program(["true"])).result().exit_code == 0
"""


def test_all_works_where_the_api_cannot_be_imported():
    blocked = (
        "import sys\n"
        "for name in ('opentelemetry', 'opentelemetry.trace'): sys.modules[name] = None\n"
    )
    assert run(f"{blocked}{USE}print('done')") == ["done"]


def test_nothing_of_opentelemetry_is_imported_without_an_sdk():
    ask = "import sys; print([n for n in sys.modules if n.startswith('opentelemetry')])"
    assert run(USE + ask) == ["[]"]


SETUP = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
kept = InMemorySpanExporter()
provider = TracerProvider()
if hasattr(provider, "add_span_processor"):
    provider.add_span_processor(SimpleSpanProcessor(kept))
trace.set_tracer_provider(provider)
"""
ASK = "print(sorted({s.name for s in kept.get_finished_spans()}))"
EXPECTED = [
    "['RUN w', 'allocate', 'int', 'program', 'route', 'submit', 'validate']",
]


def test_an_sdk_that_is_set_for_the_process_is_found():
    assert run(SETUP + USE + ASK) == EXPECTED


def test_one_that_is_set_before_the_start_is_found():
    late = USE.replace("with TaskOrchestrator() as orch:", "with orch:")
    assert (
        run(
            f"from taskorch import TaskOrchestrator\norch = TaskOrchestrator()\n{SETUP}{late}{ASK}"
        )
        == EXPECTED
    )


def test_the_api_alone_and_a_disabled_sdk_are_none():
    ask = "print(orch._rt.spans)"
    assert run("import opentelemetry.trace\n" + USE + ask) == ["None"]
    assert run(SETUP + USE + ask + "\n" + ASK, OTEL_SDK_DISABLED="true") == [
        "None",
        "[]",
    ]


def test_the_trace_of_whoever_started_the_process_is_gone_on_with():
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    ask = "print({(hex(s.context.trace_id), hex(s.parent.span_id)) for s in kept.get_finished_spans() if s.name in ('submit', 'RUN w') and s.parent.is_remote})"
    found = run(SETUP + USE + ask, TRACEPARENT=parent)
    assert found == ["{('0xaf7651916cd43dd8448eb211c80319c', '0xb7ad6b7169203331')}"]


@pytest.mark.slow("a process for each text")
@pytest.mark.parametrize(
    "text",
    [
        "hello",
        "00-" + "0" * 32 + "-b7ad6b7169203331-01",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "x" * 100_000,
        "00-0AF7651916CD43DD8448EB211C80319C-B7AD6B7169203331-01",
        "\N{SNOWMAN}\n\x1b[31m",
    ],
    ids=["word", "zeros", "version", "long", "upper", "control"],
)
def test_a_hostile_traceparent_is_said_and_ignored(text):
    ask = "print(all(s.parent is None for s in kept.get_finished_spans() if s.name == 'submit'))"
    log = "import logging, sys; logging.basicConfig(stream=sys.stdout)\n"
    one = "from taskorch import TaskOrchestrator\nwith TaskOrchestrator() as orch: orch.submit(int).result()\n"
    found = run(log + SETUP + one + ask, TRACEPARENT=text)
    warning = (
        "WARNING:taskorch.ext.telemetry._spans:TRACEPARENT is no traceparent of W3C Trace "
        "Context: it is ignored, and traces begin here"
    )
    assert found == [warning, "True"]


def test_a_provider_is_one():
    with pytest.raises(InvalidTaskError, match="TracerProvider"):
        TaskOrchestrator(tracer_provider="otel")


def test_a_provider_that_makes_none_is_none():
    assert (
        TaskOrchestrator(tracer_provider=trace.NoOpTracerProvider())._rt.spans is None
    )


# -- runs that go other ways -------------------------------------------------------


def test_a_phase_lasts_until_somebody_has_approved(tracing):
    wf = Workflow("release")
    wf.phase("tests", gate=Approval()).task(double, id="unit")
    wf.phase("publish").task(double, id="upload")
    with tracing.orchestrator() as orch:
        run = orch.workflows.start(wf, id="v1")
        orch.wait()
        assert tracing.named("phase tests") == []
        orch.workflows.approve("v1", "tests", by="Ada")
        run.result()
        approved = orch.get_task_status("v1/tests/approval").ended

    first = tracing.only("phase tests")
    assert abs(first.end_time / 1e9 - approved.timestamp()) < 1e-3
    assert tracing.only("RUN release").attributes["cicd.pipeline.result"] == "success"


def test_what_was_run_again_counts_as_its_latest_run(tracing):
    calls = []

    def at_last() -> None:
        calls.append(1)
        if len(calls) == 1:
            fail()

    wf = Workflow("w")
    first = wf.task(at_last, id="a")
    wf.task(double, id="b", after=[first])
    wf.add(Task.wait_for("go", id="c"))
    with tracing.orchestrator() as orch:
        blocked, free = threading.Event(), threading.Event()
        orch.signals.task_blocked.connect(
            lambda event: blocked.set() if event.blocked_by else None
        )
        orch.signals.task_unblocked.connect(lambda _: free.set())
        run = orch.workflows.start(wf, id="v1")
        assert blocked.wait(PATIENCE)
        orch.rerun_task("v1/a").result()
        assert free.wait(PATIENCE)
        orch.emit("go")
        run.result()

    run = tracing.only("RUN w")
    assert run.attributes["cicd.pipeline.result"] == "success"
    assert run.status.status_code is StatusCode.UNSET
    assert len(tracing.named(call_type(at_last))) == 2


def add_one() -> None:
    current_context().workflow.task(double, id="more")


def test_what_is_added_to_a_phase_is_of_it(tracing):
    wf = Workflow("w")
    wf.phase("first").task(add_one, id="adds")
    with tracing.orchestrator() as orch:
        orch.workflows.start(wf, id="v1").result()

    added, adds = tracing.only("double"), tracing.only("add_one")
    assert added.attributes["cicd.pipeline.run.id"] == "v1"
    assert added.context.trace_id == adds.context.trace_id
    assert tracing.only("RUN w").end_time >= added.end_time


def test_in_another_process_the_trace_is_the_one_that_was_sent():
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with inside(parent):
        assert f"{here().trace_id:032x}" == parent.split("-")[1]
    for nothing in (None, "no traceparent"):
        with inside(nothing):
            assert here() == trace.INVALID_SPAN_CONTEXT


@pytest.mark.parametrize("text", [5, None, "x" * 10_000, "00-1-2-3"])
def test_what_a_journal_says_of_a_trace_may_be_anything(text):
    assert parsed(text) is None


def refuse():
    raise LookupError


async def refuse_on_a_loop():
    raise LookupError


@pytest.mark.parametrize(
    "task",
    [
        Task.call(refuse, id="lost"),
        Task.call(refuse_on_a_loop, id="lost"),
        Task.call(refuse, id="lost", executor="process"),
        Task.program(["false"], id="lost"),
        Task.call(refuse, id="lost", retry=1),
    ],
    ids=["thread", "coroutine", "process", "program", "retry"],
)
def test_a_failure_that_nobody_asks_for_is_told_while_spans_are_made(caplog, task):
    """A span keeps no error that nobody has a handle of."""
    with TaskOrchestrator(tracer_provider=TracerProvider()) as orch:
        orch.submit_task(task)
        eventually(lambda: "task lost failed, and nobody asked for" in caplog.text)
