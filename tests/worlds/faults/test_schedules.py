"""Programs with schedules that are killed in the middle of a job, and start again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from datetime import datetime
from random import Random

import pytest

from taskorch.events import ScheduleFired, ScheduleSkipped
from taskorch.ext.views import JournalReader

NS = 10**9

#: What the job does: in the first incarnation it lasts, later it ends at once.
JOB = """
    open("began", "a").write("x")
    time.sleep(60 if os.environ.get("FIRST") else 0.01)
    return 1
"""
HEAD = """
import os, time
from taskorch import Task, TaskOrchestrator, Workflow
from taskorch.model import Quota
"""
WAIT = "    while True: time.sleep(0.1)\n"


def indented(text):
    return textwrap.indent(text, "    ")


#: Each layout of the pages, by what stands where.
LAYOUTS = {
    "with, decorator": "with TaskOrchestrator(journal='j.db') as orch:\n"
    "    @orch.schedule('every 1s')\n    def look():" + indented(JOB) + WAIT,
    "orchestrator, decorator, with": "orch = TaskOrchestrator(journal='j.db')\n"
    "@orch.schedule('every 1s')\ndef look():" + JOB + "with orch:\n" + WAIT,
    "orchestrator, quotas, function, add": "orch = TaskOrchestrator(journal='j.db')\n"
    "orch.resources.set_quotas(Quota(owner='a', max_parallel=1))\n"
    "def look():" + JOB + "orch.schedules.add('look', 'every 1s', look)\n"
    "with orch:\n" + WAIT,
    "with, function, workflow": "with TaskOrchestrator(journal='j.db') as orch:\n"
    "    def look():" + indented(JOB) + "    flow = Workflow('flow')\n"
    "    flow.task(look, id='a')\n"
    "    orch.schedules.add('look', 'every 1s', flow, overlap='queue')\n" + WAIT,
    "with, function, a task of its own": "with TaskOrchestrator(journal='j.db') as orch:\n"
    "    def look():"
    + indented(JOB)
    + "    orch.submit_task(Task.call(look, id='look/own'))\n"
    + WAIT,
    "with, a class, a task with it": "with TaskOrchestrator(journal='j.db') as orch:\n"
    "    import attrs\n    @attrs.frozen\n    class Night:\n        number: int\n"
    "    def look(night):" + indented(JOB) + "    if os.environ.get('FIRST'):\n"
    "        orch.submit_task(Task.call(look, Night(1), id='look/own'))\n" + WAIT,
}


class Incarnation:
    """A process that runs the script."""

    def __init__(self, folder, words, *, first):
        environ = {key: v for key, v in os.environ.items() if key != "FIRST"}
        if first:
            environ["FIRST"] = "1"
        self.process = subprocess.Popen(
            [sys.executable, *words],
            cwd=folder,
            env=environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stderr.close()

    def until(self, holds):
        end = time.monotonic() + 120
        while not holds():
            assert self.process.poll() is None, self.process.stderr.read()
            assert time.monotonic() < end
            time.sleep(0.05)


def ends_again(tmp_path, words):
    began, journal = tmp_path / "began", tmp_path / "j.db"
    with Incarnation(tmp_path, words, first=True) as incarnation:
        incarnation.until(began.exists)

    def completed():
        first = min(JournalReader(journal).tasks(), key=lambda each: each.submitted)
        return str(first.state) == "completed"

    with Incarnation(tmp_path, words, first=False) as incarnation:
        incarnation.until(completed)


QUICK = {"with, decorator", "with, a class, a task with it"}


@pytest.mark.parametrize(
    "layout",
    [
        pytest.param(
            name,
            marks=[]
            if name in QUICK
            else pytest.mark.slow("the other layouts, each killed"),
        )
        for name in LAYOUTS
    ],
)
def test_a_job_that_a_kill_cuts_off_runs_again_wherever_its_function_stands(
    tmp_path, layout
):
    (tmp_path / "script.py").write_text(HEAD + LAYOUTS[layout])
    ends_again(tmp_path, ["script.py"])


@pytest.mark.slow("kills a service")
@pytest.mark.parametrize("named", ["night.py", "-m night:orch"])
def test_so_does_one_of_a_file_that_is_served(tmp_path, named):
    pytest.importorskip("uvicorn")
    text = HEAD + "orch = TaskOrchestrator(journal='j.db')\n"
    for name in ("look", "see"):
        text += f"@orch.schedule('every 1s')\ndef {name}():" + JOB
    (tmp_path / "night.py").write_text(text)
    words = ["-m", "taskorch", "serve", *named.split(), "--port", "0"]
    ends_again(tmp_path, words)


def halves_of(task_id):
    """Half seconds since 1970 of a slot, by the name of its task."""
    text = task_id.partition("/")[2].removesuffix("Z")
    day, _, clock = text.partition("T")
    seconds = datetime.fromisoformat(f"{day}T{clock:0<13}+00:00").timestamp()
    return round(seconds * 2)


@pytest.mark.slow("four kills")
def test_a_kill_between_the_submission_of_a_tick_and_its_note_loses_nothing(tmp_path):
    # Killed as soon as the task of a slot begins: that is before anybody has noted it,
    # or just after.
    text = """
    import os, sys, time
    from taskorch import TaskOrchestrator

    def look():
        if os.environ.get("FIRST"):
            os.kill(os.getpid(), 9)

    with TaskOrchestrator(journal="j.db") as orch:
        orch.schedules.add(
            "look", "every 0.5s", look, overlap="cancel", catch_up="all"
        )
        while True: time.sleep(0.1)
    """
    (tmp_path / "script.py").write_text(textwrap.dedent(text))
    for _ in range(4):
        incarnation = Incarnation(tmp_path, ["script.py"], first=True)
        assert incarnation.process.wait(60) == -signal.SIGKILL
        incarnation.process.stderr.close()

    def all_ended():
        reader = JournalReader(tmp_path / "j.db")
        states = [str(status.state) for status in reader.tasks()]
        return states.count("completed") > 3

    with Incarnation(tmp_path, ["script.py"], first=False) as incarnation:
        incarnation.until(all_ended)
    reader = JournalReader(tmp_path / "j.db")
    ids = sorted(status.task_id for status in reader.tasks())
    # From the first half second to the last, none is left out.
    halves = [halves_of(name) for name in ids]
    assert sorted(halves) == [*range(min(halves), max(halves) + 1)]


#: Schedules with each overlap, a run that asks a question, and remembered results.
SERVICE = """
import os, sys, threading, time, uuid
from taskorch import Task, TaskOrchestrator, Workflow

def note(line):
    out = os.open("ledger", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(out, (line + "\\n").encode())
    os.close(out)

orch = TaskOrchestrator(journal="j.db", concurrency=8)

@orch.schedule("every 0.5s", overlap="queue", catch_up="all")
def queue():
    time.sleep(0.05)

@orch.schedule("every 0.7s", overlap="cancel", catch_up="all")
def cancel():
    time.sleep(0.4)

def remember(number):
    return number, uuid.uuid4().hex

@orch.schedule("every 0.5s", overlap="queue", catch_up="all")
def memo():
    return 1

flow = Workflow("flow")
flow.add(Task.question("go on?", id="ask", options=("a", "b")))
flow.add(Task.call(remember, 7, id="value", after=["ask"], cache=True))
orch.schedules.add("ask", "every 1s", flow, overlap="queue", catch_up="all")

def answer():
    while True:
        for each in orch.questions():
            choice = "ab"[hash(each.id) % 2]
            try:
                orch.answer(each.id, choice, by="ada")
            except Exception as error:
                note(f"REFUSED {each.id} {error}")
            else:
                note(f"ANSWER {each.id} {choice}")
        time.sleep(0.05)

with orch:
    threading.Thread(target=answer, daemon=True).start()
    end = float(sys.argv[1])
    time.sleep(end)
    if end < 60:
        names = ("queue", "cancel", "memo", "ask")
        for name in names:
            orch.schedules.pause(name)
        while any(orch.schedules.status(name).running for name in names):
            time.sleep(0.1)
        orch.wait(100)
        os._exit(0)
"""


def nothing_is_lost(folder):
    """
    Hold what the incarnations of a service have left against what they are to leave.
    """
    reader = JournalReader(folder / "j.db")
    statuses = {status.task_id: status for status in reader.tasks()}
    fired = [each for each in reader.happened() if isinstance(each, ScheduleFired)]
    skipped = [each for each in reader.happened() if isinstance(each, ScheduleSkipped)]
    slots = {name: [] for name in ("queue", "cancel", "memo", "ask")}
    for each in fired:
        slots[each.name].append(each.slot_ns)
    for name, distance in (("queue", 5), ("cancel", 7), ("memo", 5), ("ask", 10)):
        marks = [round(ns / NS * 10) for ns in slots[name]]
        # Each once, in order, and none between two of them left out.
        assert marks == [*range(marks[0], marks[-1] + 1, distance)]
    # What was due as they were paused is not there; nothing else was skipped.
    assert [each.reason for each in skipped] == []
    made = {each.task_id for each in fired}
    assert {
        name.partition("/")[0] if "ask-" in name else name for name in statuses
    } == made
    for name, status in statuses.items():
        states = {"completed", "cancelled"} if "cancel" in name else {"completed"}
        assert str(status.state) in states, status
    # An answer that was acknowledged is the one that counts, and there is one.
    told = [line.split() for line in (folder / "ledger").read_text().splitlines()]
    answers = {words[1]: words[2] for words in told if words[0] == "ANSWER"}
    assert len(answers) == sum(words[0] == "ANSWER" for words in told)
    for name, choice in answers.items():
        assert statuses[name].result.choice == choice
    values = {s.result for name, s in statuses.items() if name.endswith("/value")}
    assert len(values) == 1


@pytest.mark.slow("five kills, seconds apart")
def test_over_many_kills_no_tick_no_answer_and_no_remembered_result_is_lost_or_doubled(
    tmp_path,
):
    (tmp_path / "service.py").write_text(textwrap.dedent(SERVICE))
    kills = int(os.environ.get("KILLS", "5"))
    random = Random(kills)
    for _ in range(kills):
        incarnation = Incarnation(tmp_path, ["service.py", "1000"], first=False)
        time.sleep(random.uniform(0.6, 2.5))
        with incarnation:
            assert incarnation.process.poll() is None, incarnation.process.stderr.read()
    last = Incarnation(tmp_path, ["service.py", "2"], first=False)
    assert last.process.wait(300) == 0
    last.process.stderr.close()
    nothing_is_lost(tmp_path)
