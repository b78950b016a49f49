"""Recovery acts in a suite as it does in Python, and people are told what is true."""

import json
import os
import subprocess
import sys

import pytest
from tests.api.tools import Started, eventually
from tests.ext.notices.test_notifying import Hook

from taskorch.ext.suites import _formats, _running, load
from taskorch.ext.suites._folder import (
    History,
    JsonLines,
    RunFolder,
    kept_in,
)
from taskorch.ext.suites._results import TestRecord, class_of_tests

pytestmark = pytest.mark.timeout(300)

#: What each test does, by the class that it is to have, and how often it is tried.
TESTS = {
    "import": ("import there_is_no_such_module", "import_error", 3),
    "perm": ("raise PermissionError(13, 'no')", "permission_error", 3),
    "mem": ("raise MemoryError()", "memory_error", 3),
    "net": ("raise ConnectionRefusedError(111, 'refused')", "network_error", 3),
    "calc": (
        "assert 2083.34 == 2083.33, 'Expected 2083.33, got 2083.34'",
        "calculation_error",
        1,
    ),
    "logic": ("assert [] == [1]", "logic_error", 1),
    "sys": ("raise OSError(28, 'No space left on device')", "system_error", 3),
    "killed": ("import os; os.kill(os.getpid(), 9)", "memory_error", 3),
    "crashed": ("import os; os.kill(os.getpid(), 11)", "system_error", 3),
    "odd": ("raise RuntimeError('it went wrong')", "unknown", 2),
}
COMMANDS = {
    "cmem": ("raise MemoryError()", "memory_error", 3),
    "ckill": ("import os; os.kill(os.getpid(), 9)", "memory_error", 3),
    "cnet": ("raise ConnectionRefusedError(111, 'no')", "network_error", 3),
    "ccalc": ("1 / 0", "calculation_error", 1),
    "codd": ("raise RuntimeError('it went wrong')", "unknown", 2),
}


@pytest.fixture
def hook():
    made = Hook()
    yield made
    made.close()


def said_by(hook):
    return [json.loads(body) for _, body in hook.got]


def section(hook, retries=2, threshold=3, more=""):
    return (
        f"recovery: {{max_retries: {retries}, escalation_threshold: {threshold}, "
        f"timeout_grace_period: 20, human_notification_webhook: '{hook.url}', "
        f"webhook_may_be_private: true{more}}}\n"
    )


def write(here, text):
    (here / "suite.yaml").write_text(text)
    return load(here / "suite.yaml")


def messages(here, kind):
    log = JsonLines(RunFolder(here / "out").messages, 1 << 30, 1)
    return [each for each in log.read() if each["message_type"] == kind]


@pytest.mark.parametrize(
    "of",
    [
        ("cmem", "ccalc", "codd"),
        pytest.param((), marks=pytest.mark.slow("all classes, in place of three")),
    ],
)
def test_one_class_decides_what_is_told_and_what_is_tried(tmp_path, hook, of):
    """Message, webhook and matrix say the same; memory grows, and cores to four."""
    every = {k: v for k, v in {**TESTS, **COMMANDS}.items() if not of or k in of}
    for name, (body, _, _) in TESTS.items():
        (tmp_path / f"test_{name}.py").write_text(f"def test_x():\n    {body}\n")
    commands = ", ".join(
        f"{name}: {{command: [{sys.executable}, -c, {json.dumps(body)}]}}"
        for name, (body, _, _) in COMMANDS.items()
    )
    held = "resources: {memory_mb: 512, cpu_cores: 1, timeout: 120}"
    tasks = "".join(
        f"      - {{id: {name}, template: {name if name in COMMANDS else 'py'}, {held}}}\n"
        for name in every
    )
    suite = write(
        tmp_path,
        f"templates: {{py: {{pytest: [-q, 'test_{{id}}.py']}}, {commands}}}\n"
        "agent_limits: {max_agents: 2, total_memory_mb: 8192, total_cpu_cores: 8}\n"
        + section(hook)
        + "orchestrator:\n  name: shop\n  version: '1.2'\n  task_definitions:\n"
        "    unit_tests:\n" + tasks,
    )
    report = _running.run(suite, tmp_path / "out")
    assert {task.id: task.attempts for task in report.tasks} == {
        name: attempts for name, (_, _, attempts) in every.items()
    }
    told = {}
    for each in messages(tmp_path, "failure_notification"):
        told.setdefault(each["task_id"], set()).add(
            each["failure_details"]["error_type"]
        )
    assert told == {name: {kind} for name, (_, kind, _) in every.items()}
    hooked = {each["task_id"].partition("/")[2]: each for each in said_by(hook)}
    # Two that are killed in the same way are one cause.
    assert set(every) - set(hooked) <= {"cmem", "ckill", "cnet"} - set(of)
    for name, each in hooked.items():
        if name in ("odd", "codd"):
            # It was given up before the threshold: nothing says that more would help.
            assert each["context"]["attempts"] == 2
        assert each["issue_type"] == every[name][1]
        assert each["suite"] == "shop 1.2"
        assert each["system_state"]["failed_tasks"] <= len(every)
        assert not any("gate" in other for other in each["blocking_tasks"])
    for name in {"mem", "killed", "cmem", "ckill"} & set(every):
        given = [
            each["task_details"]["resources"]["memory_mb"]
            for each in messages(tmp_path, "task_assignment")
            if each["task_details"]["task_id"] == name
        ]
        assert given == [512, 1024, 2048]


@pytest.mark.parametrize(
    ("messages", "kind"),
    [
        (["MemoryError", "KeyError: 'k'"], "logic_error"),
        (["KeyError: 'k'", "MemoryError"], "logic_error"),
        (["ConnectionRefusedError: [Errno 111] no", "MemoryError"], "memory_error"),
        (["ConnectionRefusedError: [Errno 111] no"], "network_error"),
        (["RuntimeError: odd", "OSError: [Errno 28] full"], "unknown"),
        (["assert 2083.34 == 2083.33"], "calculation_error"),
        (["RuntimeError: it went wrong"], "unknown"),
    ],
)
def test_of_several_tests_the_one_that_a_repeat_helps_least_counts(messages, kind):
    """Since it would fail again with the others mended."""
    tests = [
        TestRecord("t", "failed", 0.0, said, f"test_x.py:2: in test\nE   {said}")
        for said in messages
    ]
    assert class_of_tests(tests).name == kind


def test_each_task_that_hangs_is_told(tmp_path, hook):
    """Two are two, and the advice names the timeout that it had."""
    suite = write(
        tmp_path,
        "templates: {sh: {command: [sleep, '600']}}\n"
        + section(hook, retries=0, threshold=1)
        + "orchestrator:\n  task_definitions:\n    unit_tests:\n"
        "      - {id: search, template: sh, resources: {timeout: 1}}\n"
        "      - {id: login, template: sh, resources: {timeout: 2}}\n",
    )
    _running.run(suite, tmp_path / "out")
    eventually(lambda: len(hook.got) == 2)
    told = {each["task_id"]: each for each in said_by(hook)}
    assert sorted(told) == ["suite/login", "suite/search"]
    advice = {
        each["task_id"]: each["recommended_actions"]
        for each in messages(tmp_path, "failure_notification")
    }
    assert "Give login more than 2 s, or see where it hangs" in advice["login"]


def test_the_end_of_a_log_begins_with_a_whole_letter(tmp_path):
    code = "print('é' * 4000, end='x'); raise SystemExit(1)"
    suite = write(
        tmp_path,
        f"templates:\n  sh: {{command: ['{sys.executable}', '-Xutf8', -c, \"{code}\"]}}\n"
        "orchestrator:\n  task_definitions:\n    unit_tests: [{id: A, template: sh}]\n",
    )
    (task,) = _running.run(suite, tmp_path / "out").tasks
    assert "éééx" in task.error
    assert "\ufffd" not in task.error


@pytest.mark.slow("waits for timeouts of twenty seconds")
def test_which_test_hung_is_told(tmp_path, hook):
    """By its name, wherever it is told; of a command, the last that it wrote."""
    (tmp_path / "test_h.py").write_text(
        "import time\ndef test_quick(): pass\ndef test_hung(): time.sleep(600)\n"
    )
    suite = write(
        tmp_path,
        "templates:\n  py: {pytest: [-q, test_h.py]}\n"
        "  sh: {command: [sh, -c, 'echo waiting for the door; exec sleep 600']}\n"
        + section(hook, retries=0, threshold=1)
        + "orchestrator:\n  task_definitions:\n    unit_tests:\n"
        "      - {id: A, template: py, resources: {timeout: 20}}\n"
        "      - {id: B, template: sh, resources: {timeout: 20}}\n",
    )
    report = _running.run(suite, tmp_path / "out")
    told = {each["task_id"]: each["context"]["error_message"] for each in said_by(hook)}
    assert "under way: test_h.py::test_hung" in told["suite/A"]
    assert "under way: test_h.py::test_hung" in report.tasks[0].error
    assert "the last that it wrote: waiting for the door" in told["suite/B"]


def test_how_long_it_had_is_what_it_was_given_last(tmp_path, hook):
    """Not what the configuration says."""
    suite = write(
        tmp_path,
        "templates: {sh: {command: [sleep, '600']}}\n"
        + section(hook)
        + "orchestrator:\n  task_definitions:\n    unit_tests:\n"
        "      - {id: A3, template: sh, resources: {timeout: 0.4}}\n",
    )
    _running.run(suite, tmp_path / "out")
    advice = [
        each["recommended_actions"][0]
        for each in messages(tmp_path, "failure_notification")
    ]
    assert advice == [
        f"Give A3 more than {seconds} s, or see where it hangs"
        for seconds in ("0.4", "0.6", "0.8")
    ]
    assert [
        each["task_details"]["timeout_seconds"]
        for each in messages(tmp_path, "task_assignment")
    ] == [0.4, 0.6, 0.8]


def test_what_was_cancelled_before_it_began_is_named_as_a_cause_too(tmp_path):
    """With its phase, whose time was over."""
    suite = write(
        tmp_path,
        "templates: {sh: {command: [sleep, '600']}}\n"
        "agent_limits: {max_agents: 1}\n"
        "phases: {FIRST: {tests: unit_tests, timeout_seconds: 1},"
        " SECOND: {tests: integration_tests}}\n"
        "orchestrator:\n  task_definitions:\n"
        "    unit_tests: [{id: A, template: sh}, {id: B, template: sh}]\n"
        "    integration_tests: [{id: C, template: sh, dependencies: [B]}]\n",
    )
    report = _running.run(suite, tmp_path / "out")
    tasks = {task.id: task for task in report.tasks}
    assert [tasks[name].attempts for name in "ABC"] == [1, 0, 0]
    assert tasks["C"].because == ("B",)


@pytest.mark.slow("waits until the time is over")
@pytest.mark.parametrize("of", ["phase", "run"])
def test_time_that_is_over_is_told(tmp_path, hook, of):
    """Of a phase and of the run, with the tasks that were cancelled."""
    limit = ", timeout_seconds: 1" if of == "phase" else ""
    suite = write(
        tmp_path,
        "templates: {sh: {command: [sleep, '600']}, quick: {command: ['true']}}\n"
        + section(hook)
        + f"phases: {{FIRST: {{tests: unit_tests{limit}}}}}\n"
        "agent_limits: {max_agents: 3}\n"
        "orchestrator:\n  task_definitions:\n    unit_tests: "
        "[{id: A, template: sh}, {id: B, template: sh}, {id: C, template: quick}]\n",
    )
    late = []
    limits = {"timeout": 1, "late": late.append} if of == "run" else {}
    report = _running.run(suite, tmp_path / "out", **limits)
    (told,) = said_by(hook)
    name = "FIRST" if of == "phase" else "suite"
    assert (told["task_id"], told["issue_type"]) == (name, "timeout_error")
    # A machine that is busy may not come to the third in time.
    cancelled = [f"suite/{task.id}" for task in report.tasks if not task.has_passed]
    assert told["tasks"] == cancelled
    assert set(cancelled) >= {"suite/A", "suite/B"}
    assert "longer than its timeout" in told["context"]["error_message"]
    assert len(late) == (of == "run")


KILLED = """
import os, sys
from taskorch.ext.suites import _running, load
from taskorch.ext.suites import _receiver

def kill(*_):
    os.kill(os.getpid(), 9)

if sys.argv[1] == "before":
    _receiver.Notifier.tell = kill
else:
    write = _receiver.JsonLines.write
    def written(self, value):
        write(self, value)
        if "cause" in value:
            kill()
    _receiver.JsonLines.write = written
_running.run(load("suite.yaml"), "out")
"""


@pytest.mark.slow("kills a run")
@pytest.mark.parametrize("when", ["before", "after"])
def test_what_a_crash_kept_from_being_told_is_told_when_the_run_goes_on(
    tmp_path, hook, when
):
    """And nothing that was taken is told twice."""
    # B is under way, so that the run has not ended when its process dies.
    suite = write(
        tmp_path,
        "templates:\n  sh: {command: [sh, -c, 'echo no such table; exit 3']}\n"
        f"  wait: {{command: [sh, -c, 'test -e {tmp_path}/go || sleep 1000']}}\n"
        + section(hook, retries=0, threshold=1)
        + "orchestrator:\n  task_definitions:\n"
        "    unit_tests: [{id: A, template: sh}, {id: B, template: wait}]\n",
    )
    (tmp_path / "kill.py").write_text(KILLED)
    ended = subprocess.run(
        [sys.executable, "kill.py", when],
        check=False,
        cwd=tmp_path,
        capture_output=True,
    )
    assert ended.returncode == -9, ended.stderr
    assert len(hook.got) == (when == "after")
    (tmp_path / "go").touch()
    _running.run(suite, tmp_path / "out")
    assert [each["task_id"] for each in said_by(hook)] == ["suite/A"]
    # What fails again is news again.
    _running.run(suite, tmp_path / "out", failed=True)
    assert len(hook.got) == 2


def test_a_threshold_that_nobody_reaches_is_said(tmp_path, hook):
    """With one that is reached, and with none, there is nothing to say."""
    rest = "templates: {t: {command: [x]}}\n"
    for retries, threshold, is_noted in ((1, 3, True), (2, 3, False), (0, 1, False)):
        suite = write(tmp_path, rest + section(hook, retries, threshold))
        noted = [what for _, what in suite.without_effect if "threshold" in what]
        assert bool(noted) == is_noted


def test_who_uses_more_memory_than_was_granted_is_told(tmp_path, hook):
    """In each form of the report, and by the webhook; though it has passed."""
    body = "held = bytearray(60_000_000); held[::4096] = b'x' * len(held[::4096])"
    tasks = ", ".join(
        f"{{id: {name}, template: t, resources: {{memory_mb: {granted}}}}}"
        for name, granted in (("small", 20), ("large", 2_000), ("other", 20))
    )
    suite = write(
        tmp_path,
        f"templates: {{t: {{command: [{sys.executable}, -c, {json.dumps(body)}]}}}}\n"
        "agent_limits: {total_memory_mb: 4096}\n"
        + section(hook)
        + "orchestrator:\n  name: shop\n  task_definitions:\n"
        f"    unit_tests: [{tasks}]\n",
    )
    report = _running.run(suite, tmp_path / "out")
    assert report.passed
    used = {task.id: task.memory_mb for task in report.tasks}
    assert 57 < used["small"] < 2_000
    line = f"small: {used['small']:,.0f} of 20 MB"
    assert report.over_memory == report.to_dict()["over_memory"]
    assert report.over_memory[0] == line
    texts = _formats.written(report)
    assert line in texts["md"]
    assert line in texts["html"]
    assert json.loads(texts["json"])["over_memory"] == report.over_memory
    assert f"2 tasks used more memory than granted ({line})" in report.headline
    (told,) = said_by(hook)
    # One message for all of them, and no failure: they have passed.
    assert told["message_type"] == "over_memory"
    others = [one for one in report.over_memory if one.startswith("other: ")]
    assert told["tasks"] == [line, *others]
    assert f"2 tasks used more memory than was granted: {line}" == told["text"]
    assert told["how_to_answer"].startswith("It waits for no answer")
    # Whoever stays within it is not worth a word.
    assert "2,000 MB" not in "".join(texts.values())


@pytest.mark.slow("processes that take much memory")
@pytest.mark.parametrize("way", ["group", "off"])
def test_who_is_held_to_what_it_reserved_is_ended_above_it(tmp_path, monkeypatch, way):
    """A command and a test of pytest; that fails, as want of memory."""
    if way == "off":
        monkeypatch.setenv("TASKORCH_CGROUP", "off")
    body = "import time; held = bytearray(90 << 20); time.sleep(600)"
    (tmp_path / "test_large.py").write_text(f"def test_x():\n    {body}\n")
    tasks = ", ".join(
        f"{{id: {name}, template: {name}, resources: {{memory_mb: {granted}}}}}"
        for name, granted in (("small", 400), ("command", 40), ("tests", 60))
    )
    suite = write(
        tmp_path,
        f"templates: {{small: {{command: [{sys.executable}, -c, pass]}}, "
        f"command: {{command: [{sys.executable}, -c, {json.dumps(body)}]}}, "
        "tests: {pytest: [test_large.py]}}\n"
        "agent_limits: {total_memory_mb: 4096, enforce: true}\n"
        "recovery: {max_retries: 0}\n"
        "orchestrator:\n  name: shop\n  task_definitions:\n"
        f"    unit_tests: [{tasks}]\n",
    )
    report = _running.run(suite, tmp_path / "out")
    ended = {task.id: task for task in report.tasks}
    assert ended["small"].has_passed
    for name, granted in (("command", 40), ("tests", 60)):
        assert f"of {granted} MB of memory, and was ended" in ended[name].error
        assert ended[name].memory_mb >= granted - 1
    told = [
        each["failure_details"]["error_type"]
        for each in messages(tmp_path, "failure_notification")
    ]
    assert told == ["memory_error", "memory_error"]


@pytest.mark.skipif(sys.platform != "linux", reason="limits are of Linux")
def test_what_another_suite_runs_under_the_same_name_is_left_alone(tmp_path):
    """As the first, it is the task `suite/large`; the second ends its own alone."""
    body = "held = bytearray(90 << 20); import time; time.sleep(600)"
    suite = write(
        tmp_path,
        f"templates: {{large: {{command: [{sys.executable}, -c, {json.dumps(body)}]}}}}\n"
        "agent_limits: {total_memory_mb: 4096, enforce: true}\n"
        "recovery: {max_retries: 0}\n"
        "orchestrator:\n  name: shop\n  task_definitions:\n"
        "    unit_tests: [{id: large, template: large, resources: {memory_mb: 40}}]\n",
    )
    theirs = {**os.environ, "TASKORCH_TASK": "suite/large"}
    with Started(["sleep", "600"], env=theirs, start_new_session=True) as other:
        try:
            (large,) = _running.run(suite, tmp_path / "out").tasks
            assert "of 40 MB of memory, and was ended" in large.error
            assert other.poll() is None
        finally:
            other.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="limits are of Linux")
def test_a_test_task_is_held_to_its_disk(on_disk):
    """Seen while it writes, or told by the system at its end; it wants no memory."""
    body = "open('large', 'wb').write(bytes(30 << 20))"
    (on_disk / "test_large.py").write_text(f"def test_x():\n    {body}\n")
    tasks = ", ".join(
        f"{{id: {name}, template: {name.partition('-')[0]}, "
        f"resources: {{disk_mb: {granted}}}}}"
        for name, granted in (
            *(("command", 10), ("command-more", 100), ("tests", 20)),
            ("quick", 15),
        )
    )
    # No look may see what is there for some milliseconds.
    quick = "dd if=/dev/zero of=big bs=1M count=30; rm big"
    suite = write(
        on_disk,
        f"templates: {{command: {{command: [{sys.executable}, -c, {body!r}]}}, "
        f"quick: {{command: [sh, -c, {quick!r}]}}, "
        "tests: {pytest: [test_large.py]}}\n"
        "agent_limits: {enforce: true}\n"
        "recovery: {max_retries: 0}\n"
        "orchestrator:\n  name: shop\n  task_definitions:\n"
        f"    unit_tests: [{tasks}]\n",
    )
    report = _running.run(suite, on_disk / "out")
    ended = {task.id: task for task in report.tasks}
    assert ended["command-more"].has_passed
    for name, granted in (("command", 10), ("tests", 20), ("quick", 15)):
        assert f"of {granted} MB of disk, and was ended" in ended[name].error
    told = [
        each["failure_details"]["error_type"]
        for each in messages(on_disk, "failure_notification")
    ]
    assert len(told) == 3
    assert "memory_error" not in told


@pytest.mark.slow("runs of processes that take memory")
@pytest.mark.skipif(sys.platform != "linux", reason="limits are of Linux")
def test_a_test_task_reserves_what_others_of_its_class_have_used(tmp_path):
    """In this run and in those before; one that needs more is run again with all."""
    body = "held = bytearray(30 << 20)"
    large = "held = bytearray(200 << 20)"
    names = [f"t{number}" for number in range(7)]

    def run(last):
        tasks = ", ".join(
            f"{{id: {name}, template: {'large' if name in last else 'small'}, "
            "resources: {memory_mb: 1000}}"
            for name in (*names, *last)
        )
        suite = write(
            tmp_path,
            f"templates: {{small: {{command: [{sys.executable}, -c, '{body}']}}, "
            f"large: {{command: [{sys.executable}, -c, '{large}']}}}}\n"
            "agent_limits: {total_memory_mb: 1500, enforce: true, measured: true}\n"
            "recovery: {max_retries: 0}\n"
            "orchestrator:\n  name: shop\n  task_definitions:\n"
            f"    unit_tests: [{tasks}]\n",
        )
        report = _running.run(suite, tmp_path / "out")
        assert all(task.has_passed for task in report.tasks)
        found = RunFolder(tmp_path / "out")
        return {
            task.id: (record["attempt"], record["granted_mb"])
            for task in report.tasks
            for record in [kept_in(found.results(task.id))]
        }

    first = run([])
    assert first["t0"] == (1, 1000)
    assert 64 <= first["t6"][1] < 150
    second = run(["big"])
    assert second["t0"][1] < 150
    assert second["big"] == (2, 1000)
    # It has needed more, so that more is granted from then on.
    assert max(History.read(RunFolder(tmp_path / "out").history).memory.values()) > 100
