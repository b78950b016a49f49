"""Failures are mended where they happen, tried again with more, or shown to a person."""

from __future__ import annotations

import errno
import re
import threading
import time
from pathlib import Path

import pytest

from taskorch import Permanent, Resources, RetryPolicy, Task, TaskOrchestrator
from taskorch.errors import (
    AnswerRefusedError,
    InvalidTaskError,
    TaskCancelledError,
)
from taskorch.events import RecoveryAttempted, TaskOptionsChanged
from taskorch.ext.recovery import Avoid, Grow, RecoveryHandler, Reset, Row, Rule, Times
from taskorch.model import TaskState
from taskorch.protocols import Failure

CONFIG = """
failure_handling:
  max_retries: 2
  retry_delay_seconds: 30
  escalation_threshold: 3
  timeout_grace_period: 60
---
agent_pool: {min_agents: 3}
recovery:
  max_retries: 2
  retry_delay: 30
  escalation_threshold: 3
  human_notification_webhook: "https://alerts.company.com/webhook"
"""


def handler(**options):
    return RecoveryHandler(**{"retry_delay_seconds": 0.0, **options})


def fails(error):
    def run():
        raise error

    return run


def needs(flag):
    if not Path(flag).exists():
        raise ModuleNotFoundError("No module named 'x'")
    return "mended"


async def needs_too(flag):
    return needs(flag)


def gone():
    raise ImportError("gone")


def closed():
    raise PermissionError(13, "no")


def settled(orch, *ids, patience=60.0):
    """Wait until tasks have ended, or wait for a person."""
    end = time.monotonic() + patience
    over = {*filter(lambda state: state.is_terminal, TaskState), TaskState.BLOCKED}
    while time.monotonic() < end:
        found = [orch.get_task_status(task_id) for task_id in ids]
        if all(status.state in over for status in found):
            return found[0] if len(found) == 1 else found
        orch.wait(timeout=0.01)
    raise AssertionError(found)


def test_a_configuration_is_read_as_it_stands(tmp_path):
    """Both of its sections count; the others are named."""
    path = tmp_path / "orchestrator_config.yaml"
    path.write_text(CONFIG)
    made = RecoveryHandler.from_yaml(path)
    assert (made.max_retries, made.retry_delay_seconds) == (2, 30)
    assert (made.escalation_threshold, made.timeout_grace_period) == (3, 60)
    assert made.webhook == "https://alerts.company.com/webhook"
    assert made.not_read == ("agent_pool",)
    path.write_text(
        "recovery:\n"
        "  matrix: {network: {orchestrator: {avoid: {backoff: 3}}, human: never},\n"
        "    memory: {orchestrator: {grow: {memory_mb: {times: 3, most: 900}}}}}\n"
        "  classes: [{name: memory, text: 'no quota'}, {name: logic, exit_code: [3]}]\n"
    )
    made = RecoveryHandler.from_yaml(path, max_retries=1)
    assert made.matrix["network_error"] == Row(
        "retry with backoff",
        Avoid(backoff=3),
        "never",
        ("See whether the service can be reached",),
    )
    assert made.matrix["memory"].orchestrator == Grow(memory_mb=Times(3, most=900))
    assert [rule.name for rule in made.classes] == ["memory_error", "logic_error"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("recovery: {max_retrys: 1}", "did you mean 'max_retries'"),
        ("recovery: {max_retries: -1}", "whole number from 0"),
        ("recovery: {max_retries: 1}\nfailure_handling: {max_retries: 2}", "and 1 at"),
        ("recovery: 5", "a mapping is needed"),
        ("[1, 2]", "a mapping is needed"),
        ("recovery: {matrix: {memori: {}}}", "no class of failures"),
        ("recovery: {matrix: {memory: {human: sometimes}}}", "one of never"),
        (
            "recovery: {matrix: {memory: {orchestrator: more}}}",
            "one of avoid, reset, {",
        ),
        ("recovery: {matrix: 3}", "a mapping is needed"),
        ("recovery: {classes: 3}", "a list of rules"),
        ("recovery: {classes: [{name: memory}]}", "does not say of which"),
        (
            "recovery: {matrix: {memory: {orchestrator: {grow: {}, avoid: {}}}}}",
            "one of",
        ),
        (
            "recovery: {matrix: {memory: {orchestrator: {grow: {cpu: 0.5}}}}}",
            "from 1 is",
        ),
        ("recovery: {", "c.yaml"),
    ],
)
def test_a_configuration_that_is_wrong_says_where(tmp_path, text, words):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(InvalidTaskError) as caught:
        RecoveryHandler.from_yaml(path)
    assert words in str(caught.value)
    assert "c.yaml" in str(caught.value)


def test_all_that_is_wrong_is_said_at_once_with_its_place(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(
        "recovery:\n"
        "  max_retrys: 1\n"
        "  matrix: {memory: {orchestrator: {grow: {cpu: 0}}}}\n"
        "  classes: [{name: memry, text: x}]\n"
    )
    with pytest.raises(InvalidTaskError) as caught:
        RecoveryHandler.from_yaml(path)
    lines = caught.value.message.split("; c")[0].replace(f"{path}:", "").split("; ")
    assert [line.split(": ")[0] for line in lines if line[0].isdigit()] == [
        "2:3",
        "3:48",
        "4:20",
    ]


def test_what_is_for_whoever_tells_people_is_not_read(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("recovery: {webhook_secret_env: SECRET, max_retries: 1}\n")
    made = RecoveryHandler.from_yaml(path)
    assert (made.max_retries, made.not_read) == (1, ("recovery.webhook_secret_env",))


def test_more_memory_up_to_what_there_is_and_then_a_person():
    """Cores up to four, a longer timeout, and what cannot grow further is said."""
    with TaskOrchestrator(
        retry_handler=handler(), resources=Resources(memory_mb=300, cpu=8)
    ) as orch:
        seen = []
        orch.signals.task_options_changed.connect(seen.append)
        asks = Resources(memory_mb=100, cpu=3)
        task = Task.call(fails(MemoryError()), id="t", resources=asks, timeout=60)
        orch.submit_task(task)
        below = orch.submit_task(Task.call(print, id="below", after=["t"]))
        settled(orch, "t")
        said = str(orch.explain("t"))
        assert "cpu 3 → 4, memory_mb 100 → 200, timeout 60 → 90 s" in said
        assert "memory_mb 200 → 300, all that the largest worker, local, has" in said
        assert "A person must decide: memory_error: 3 attempts have failed" in said
        assert orch.get_task_status("below").state is TaskState.PENDING
        orch.decide("t", "complete")
        below.result(60)
        orch.wait()
    assert [event.resources for event in seen] == [
        Resources(memory_mb=200, cpu=4).units,
        Resources(memory_mb=300, cpu=4).units,
    ]
    assert all(isinstance(event, TaskOptionsChanged) for event in seen)


def test_what_a_person_always_decides():
    """A wrong result is not tried again, unless nobody is to be asked."""
    with TaskOrchestrator(retry_handler=handler()) as orch:
        orch.submit_task(
            Task.call(fails(AssertionError("expected 1.5, got 1.4")), id="t")
        )
        status = settled(orch, "t")
        assert (status.state, status.attempts) == (TaskState.BLOCKED, 1)
        assert "calculation_error" in str(orch.explain("t"))
        assert orch.decide("t", "fail")
        orch.submit_task(Task.call(fails(Permanent("enough")), id="p"))
        assert settled(orch, "p").state is TaskState.FAILED
    quiet = handler(escalate=False)
    with TaskOrchestrator(retry_handler=quiet) as orch:
        own = RetryPolicy(3, base=0)
        orch.submit_task(Task.call(fails(KeyError("k")), id="t", retry=own))
        status = settled(orch, "t")
        assert (status.state, status.attempts) == (TaskState.FAILED, 3)
        orch.submit_task(Task.call(fails(KeyError("k")), id="u"))
        assert settled(orch, "u").attempts == 1


def test_a_network_that_fails_for_many_is_one_for_people():
    with TaskOrchestrator(retry_handler=handler(max_retries=0)) as orch:
        ids = ("a", "b", "c")
        for name in ids:
            orch.submit_task(Task.call(fails(ConnectionError()), id=name))
            settled(orch, name)
        states = [orch.get_task_status(name).state.value for name in ids]
        assert states == ["failed", "failed", "blocked"]


def test_rules_and_rows_of_ones_own():
    """They come before the usual ones, and may change while it runs."""
    own = handler(classes=[Rule("network", text="odd words")])
    with TaskOrchestrator(retry_handler=own) as orch:
        assert orch.recovery is own
        own.matrix["network_error"] = Row(orchestrator=None, human="always")
        orch.submit_task(Task.call(fails(ValueError("odd words")), id="t"))
        settled(orch, "t")
        assert "network_error: a person always decides" in str(orch.explain("t"))
    with pytest.raises(InvalidTaskError, match="has no matrix"):
        _ = TaskOrchestrator().recovery


def fails_until(flag):
    if not Path(flag).exists():
        raise OSError(errno.EIO, "I/O error")
    return "well"


async def fails_until_too(flag):
    return fails_until(flag)


WAYS = ("function", "coroutine", "process", "program", "agent")


@pytest.mark.parametrize("way", WAYS)
def test_an_environment_is_reset_before_each_later_attempt(tmp_path, way):
    """Wherever the attempt runs; once, and if it raises the attempt is made."""
    flag, turned_away = tmp_path / "flag", []
    script = f"test -e {flag} || {{ echo OSError: [Errno 5] Input/output error >&2; exit 1; }}"
    tasks = {
        "function": Task.call(fails_until, str(flag), id="t"),
        "coroutine": Task.call(fails_until_too, str(flag), id="t"),
        "process": Task.call(fails_until, str(flag), id="t", executor="process"),
        "program": Task.program(["sh", "-c", script], id="t"),
        "agent": Task("doing", id="t"),
    }
    with TaskOrchestrator(
        retry_handler=handler(max_retries=2), executors={"process": 1}
    ) as orch:

        @orch.agent("doer", capabilities={"doing"})
        async def do(task, context):
            return fails_until(str(flag))

        @orch.recover("system_error", level=2)
        def reset(task, failure, context):
            assert (task.id, failure.kind) == ("t", "system_error")
            if not turned_away:
                turned_away.append(task.id)
                raise RuntimeError("not now")
            flag.write_text("")

        @orch.recover("system_error")
        def again(task, failure, context):
            return "retry"

        orch.submit_task(tasks[way])
        assert settled(orch, "t").state is TaskState.COMPLETED
        tried = orch.get_task_status("t").recovery_attempts
        assert [(t.attempt, t.level, t.result) for t in tried] == [
            *((1, 1, "retry"), (2, 2, "failed"), (2, 1, "retry"), (3, 2, "done")),
        ]


def test_workers_mend_what_they_can(tmp_path):
    """Functions, coroutines and programs; once in each attempt, and it is told."""
    flag = tmp_path / "flag"
    with TaskOrchestrator(retry_handler=handler(), journal=tmp_path / "j") as orch:
        told = []
        orch.signals.recovery_attempted.connect(told.append)

        @orch.recover("import_error")
        def fix(task, failure, context):
            assert failure.kind == "import_error"
            assert context.task_id == task.id
            flag.write_text("")
            return "retry"

        @orch.recover("permission")
        def breaks(task, failure, context):
            raise RuntimeError("cannot")

        @orch.recover("permission", level=2)
        def reset(task, failure, context):
            return "ignored"

        for name, work in (("call", needs), ("async", needs_too)):
            task = Task.call(work, str(flag), id=name)
            assert orch.submit_task(task).result(60) == "mended"
            flag.unlink()
        script = f"test -e {flag} || {{ echo No module named z >&2; exit 1; }}"
        program = orch.submit_task(Task.program(["sh", "-c", script], id="program"))
        assert program.result(60).exit_code == 0
        for name in ("call", "async", "program"):
            (tried,) = orch.get_task_status(name).recovery_attempts
            assert (tried.attempt, tried.action, tried.result) == (1, "fix", "retry")
        orch.submit_task(Task.call(gone, id="never"))
        status = settled(orch, "never")
        assert [t.attempt for t in status.recovery_attempts] == [1, 2, 3]
        orch.submit_task(Task.call(closed, id="closed"))
        status = settled(orch, "closed")
        assert [(t.level, t.result) for t in status.recovery_attempts] == [
            *((1, "failed"), (2, "done"), (1, "failed"), (2, "done"), (1, "failed")),
        ]
        orch.wait()
    assert {type(event) for event in told} == {RecoveryAttempted}
    with TaskOrchestrator(journal=tmp_path / "j") as orch:
        status = orch.get_task_status("never")
        assert [t.attempt for t in status.recovery_attempts] == [1, 2, 3]


def test_a_recovery_that_is_none_is_refused():
    with TaskOrchestrator() as orch:
        with pytest.raises(InvalidTaskError, match="no class of failures"):
            orch.recover("importt")
        with pytest.raises(InvalidTaskError, match="level is 1 or 2"):
            orch.recover("import", level=3)
        with pytest.raises(InvalidTaskError, match="called with task"):
            orch.recover("import")(lambda: None)
        with pytest.raises(InvalidTaskError, match="a plain function"):
            orch.recover("import")(None)
        orch.recover("import")(lambda *_: None)
        with pytest.raises(InvalidTaskError, match="already"):
            orch.recover("import_error")(lambda *_: None)


def test_times_that_are_none_are_refused():
    for wrong in (0.5, "2", True, float("nan")):
        with pytest.raises(InvalidTaskError):
            Grow(memory_mb=wrong)
    with pytest.raises(InvalidTaskError, match="no Grow"):
        Row(orchestrator="more")
    assert Row(orchestrator=Reset()).human == "never"


# -- what lasts, and what does not --------------------------------------------------


@pytest.mark.parametrize("is_stated_again", [True, False])
def test_a_timeout_grows_to_twice_what_was_stated_in_all_incarnations_together(
    tmp_path, is_stated_again
):
    """
    Each incarnation ends after one attempt; a script may state the same task anew.
    """
    seen = []
    for incarnation in range(4):
        own = handler(max_retries=9, retry_delay_seconds=0.05)
        with TaskOrchestrator(
            retry_handler=own, journal=tmp_path / "j", grace=0.01
        ) as orch:
            ended = threading.Event()
            orch.signals.task_options_changed.connect(seen.append)
            for signal in (orch.signals.task_retrying, orch.signals.task_blocked):
                signal.connect(lambda _, ended=ended: ended.set())
            if is_stated_again or not incarnation:
                task = Task.program(["sleep", "60"], id="t", timeout=0.2)
                orch.submit_task(task)
            if not orch.escalations():
                assert ended.wait(60)
            asked = [each.question for each in orch.escalations()]
            orch.stop(drain=False)
    assert max(event.timeout_ns for event in seen) == 400_000_000
    assert len(asked) == 1
    assert "it has exceeded 0.4 s, twice its timeout of 0.2" in asked[0]


def test_a_timeout_that_a_person_states_is_the_first_of_what_follows():
    """It grows from there, and the person is asked again at twice that."""
    with TaskOrchestrator(retry_handler=handler(max_retries=9), grace=0.01) as orch:
        orch.submit_task(Task.program(["sleep", "60"], id="t", timeout=0.1))
        settled(orch, "t")
        (asked,) = orch.escalations()
        asked.answer("retry", by="ada", changes={"timeout": 0.5})
        status = settled(orch, "t")
        assert "it has exceeded 1 s, twice its timeout of 0.5" in str(orch.explain("t"))
        assert status.state is TaskState.BLOCKED


def test_what_is_unknown_is_tried_once_more_and_then_asked_about():
    """Where nothing says what it was, two attempts are enough."""
    with TaskOrchestrator(retry_handler=handler(max_retries=5)) as orch:
        orch.submit_task(Task.call(fails(RuntimeError("it went wrong")), id="t"))
        status = settled(orch, "t")
        assert (status.state, status.attempts) == (TaskState.BLOCKED, 2)
        assert "unknown: 2 attempts have failed" in str(orch.explain("t"))
        own = RetryPolicy(4, base=0)
        task = Task.call(fails(RuntimeError("it went wrong")), id="own", retry=own)
        orch.submit_task(task)
        assert settled(orch, "own").attempts == 3
    quiet = handler(max_retries=5, escalate=False)
    quiet.matrix["network"] = Row(orchestrator=Avoid(), most_retries=3)
    with TaskOrchestrator(retry_handler=quiet) as orch:
        orch.submit_task(Task.call(fails(RuntimeError("it went wrong")), id="t"))
        status = settled(orch, "t")
        assert (status.state, status.attempts) == (TaskState.FAILED, 2)
        orch.submit_task(Task.call(fails(ConnectionError()), id="n"))
        assert settled(orch, "n").attempts == 4


@pytest.mark.parametrize("raised", [SystemExit(3), KeyboardInterrupt(), Exception("x")])
def test_a_recovery_that_raises_whatever_it_is_has_failed(raised):
    """The task has its own error, and what was tried is told."""
    quiet = handler(max_retries=0, escalate=False)
    with TaskOrchestrator(retry_handler=quiet) as orch:

        @orch.recover("memory")
        def mend(task, failure, context):
            raise raised

        task = Task.call(fails(MemoryError("no more")), id="t")
        assert isinstance(orch.submit_task(task).exception(60), MemoryError)
        (tried,) = orch.get_task_status("t").recovery_attempts
        assert (tried.action, tried.result) == ("mend", "failed")
        assert type(raised).__name__ in tried.message


@pytest.mark.parametrize("work", [needs, needs_too])
def test_a_recovery_that_hangs_is_named_by_explain_until_it_ends(tmp_path, work):
    began, ends = threading.Event(), threading.Event()
    with TaskOrchestrator() as orch:

        @orch.recover("import_error")
        def install(*_):
            began.set()
            assert ends.wait(60)
            (tmp_path / "x").touch()
            return "retry"

        handle = orch.submit(work, str(tmp_path / "x"))
        assert began.wait(60)
        why = orch.explain(handle.task_id)
        pattern = r"install recovers it from import_error, since (\S+Z)\."
        assert re.fullmatch(pattern, why.recovery)
        assert why.recovery in str(why)
        ends.set()
        assert handle.result(60) == "mended"
        assert orch.explain(handle.task_id).recovery == ""


def test_a_rule_of_yours_comes_before_the_class_that_a_failure_says():
    own = handler(classes=[Rule("network", text="odd words")])
    for text, name in (("odd words", "network"), ("others", "memory_error")):
        failure = Failure(Task("job"), OSError(text), 1, 0.0, 0.0, "", "memory_error")
        assert own.classify(failure).startswith(name)


def test_a_note_has_bounds_and_a_refusal_does_not_repeat_it():
    """Ten thousand letters are the most."""
    with TaskOrchestrator() as orch:
        orch.submit_task(Task.question("deploy?", id="q"))
        with pytest.raises(InvalidTaskError, match="10,000 are the most"):
            orch.answer("q", "approve", by="ada", note="x" * 10_001)
        orch.answer("q", "approve", by="ada", note="x" * 10_000)
        with pytest.raises(AnswerRefusedError) as refused:
            orch.answer("q", "reject", by="bob")
        assert len(str(refused.value)) < 500


@pytest.mark.parametrize(
    ("how", "level"), [("thread", 1), ("coroutine", 1), ("thread", 2)]
)
def test_a_recovery_that_asks_ends_with_its_attempt(how, level):
    """One that asks whether it is to stop ends its task, and nothing else."""
    began = threading.Event()

    failing = fails(OSError(5, "input or output"))

    async def failing_later():
        failing()

    with TaskOrchestrator(retry_handler=handler(escalate=False)) as orch:

        @orch.recover("system_error", level=level)
        def waits(_task, _failure, context):
            began.set()
            while True:
                context.checkpoint()

        function = failing if how == "thread" else failing_later
        handle = orch.options(id="asks").submit(function)
        assert began.wait(60)
        orch.cancel_task("asks")
        with pytest.raises(TaskCancelledError):
            handle.result(60)
        assert orch.submit(abs, -1).result(60) == 1
        assert orch.health().status == "ok"
