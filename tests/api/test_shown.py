"""
What is shown: every number of every face, held against the events.

A run is drawn at random: tasks that succeed, fail, wait, are tried again, time out,
cancelled, suspended and run again; maps; holds; restarts; questions that are answered, and
asked again; a pool that scales. Whenever it has
come to rest, the events of the journal are counted anew, a page long, and what the page,
the command line, health, the metrics and the readers say must be that.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections import Counter
from contextlib import suppress
from random import Random
from urllib.parse import urlencode

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.api.tools import begun, eventually

from taskorch import RetryPolicy, Task, TaskOrchestrator, Workflow, current_context
from taskorch.errors import (
    AnswerRefusedError,
    TaskorchError,
    UsageError,
)
from taskorch.events import EventEmitted, signal_name
from taskorch.ext import command_line as cli
from taskorch.ext.service import create_app
from taskorch.ext.views import JournalReader
from taskorch.model import TaskState

SLOTS = 3
STATES = [state.value for state in TaskState]
ENDED = ("completed", "failed", "cancelled")
#: Functions that run until they are let go, by the ids of their tasks.
GATES: dict[str, threading.Event] = {}
INSIDE: dict[object, str] = {}


def good(value=1):
    return value


def bad(value=None):
    raise ValueError(f"no {value}")


def second_time_good():
    if current_context().attempt == 1:
        raise ConnectionError("gone")
    return 2


def gated(name):
    key = object()
    INSIDE[key] = name
    try:
        while not GATES[name].wait(0.005):
            current_context().checkpoint()
    finally:
        del INSIDE[key]
    return name


def numbers():
    return [1, 2, 3]


def odd(number):
    if number == 2:
        raise ValueError("two")
    return number


class Counted:
    """What the events say, counted here and nowhere else."""

    def __init__(self, events):
        self.state, self.parents, self.kind = {}, {}, {}
        self.again, self.attempts, self.holds = {}, [], {}
        self.waiting, self.put_aside, self.under_way = set(), {}, {}
        self.causes, self.errors, self.retries = Counter(), Counter(), Counter()
        self.by_worker, self.charged = Counter(), Counter()
        self.asked, self.workers, self.going = Counter(), {}, set()
        for event in events:
            take = getattr(self, signal_name(type(event)), None)
            if take is not None:
                take(event)
        for name, worker in self.under_way.items():
            self.attempts.append((name, worker, "running"))

    def task_submitted(self, event):
        name = event.task_id
        self.state[name], self.parents[name] = "waits", list(event.after)
        self.kind[name] = event.type
        if event.rerun_of:
            self.again[name] = event.rerun_of

    def task_started(self, event):
        self.state[event.task_id] = "running"
        self.under_way[event.task_id] = event.agent_id

    def task_repointed(self, event):
        for child in event.dependents:
            self.parents[child] = [
                event.rerun_id if each == event.task_id else each
                for each in self.parents[child]
            ]

    def task_parents_added(self, event):
        self.parents[event.task_id] += event.after

    def task_due(self, event):
        self.state[event.task_id] = "waits"

    task_unblocked = task_due

    def task_resumed(self, event):
        name = event.task_id
        is_asked = self.kind[name] == "question"
        self.state[name] = self.put_aside[name] if is_asked else "waits"

    def attempt_waiting(self, event):
        self.waiting.add(event.task_id)

    def attempt_returned(self, event):
        self.waiting.discard(event.task_id)

    def starts_held(self, event):
        self.holds.pop(event.by, None)
        self.holds[event.by] = event

    def starts_released(self, event):
        del self.holds[event.by]

    def task_suspended(self, event):
        self.put_aside[event.task_id] = self.state[event.task_id]
        self.ended(event, "suspended")

    def task_blocked(self, event):
        self.ended(event, "blocked")
        is_asked = event.cause == "event" and self.kind[event.task_id] == "question"
        self.asked[stem(event.task_id)] += is_asked

    def agent_joined(self, event):
        self.workers[event.agent.name] = True
        self.going.discard(event.agent.name)

    def agent_lost(self, event):
        self.workers[event.agent_id] = False

    def agent_draining(self, event):
        self.going.add(event.agent_id)

    def task_cancelled(self, event):
        self.ended(event, "cancelled")

    def task_retrying(self, event):
        worker = self.ended(event, "retrying")
        self.retries["scheduled"] += event.charged
        self.charged[event.task_id] += event.charged
        self.by_worker[worker, "failed"] += event.charged
        if not event.delay_ns:
            self.state[event.task_id] = "waits"

    def task_completed(self, event):
        worker = self.ended(event, "completed")
        if worker is not None:
            self.by_worker[worker, "completed"] += 1
            self.retries["recovered"] += self.charged[event.task_id] > 0

    def task_failed(self, event):
        worker = self.ended(event, "failed")
        self.causes[event.cause] += 1
        self.errors[self.kind[event.task_id], event.error_type] += 1
        blamed = worker is not None and event.cause in ("error", "timeout")
        self.by_worker[worker, "failed"] += blamed

    def ended(self, event, state):
        """The worker of the attempt that is over, if there was one."""
        name = event.task_id
        self.state[name] = state
        self.waiting.discard(name)
        worker = self.under_way.pop(name, None)
        if worker is not None:
            self.attempts.append((name, worker, state))
        return worker

    def open(self):
        """The questions that wait for an answer."""
        kinds, states = self.kind, self.state
        return {n for n in states if (kinds[n], states[n]) == ("question", "blocked")}

    def states(self):
        """The state of each task."""
        return {
            name: self._waits(name) if state == "waits" else state
            for name, state in self.state.items()
        }

    def _waits(self, name):
        above = {self.state[each] for each in self.parents[name]}
        return "queued" if above <= {"completed"} else "pending"

    def mended(self):
        """The tasks of which a later run has completed."""
        found = set()
        for name in self.again:
            if self.state[name] == "completed":
                earlier = self.again[name]
                while earlier is not None:
                    found.add(earlier)
                    earlier = self.again.get(earlier)
        return found

    def sentences(self):
        """Who holds starts."""
        found = sorted(self.holds.values(), key=lambda each: each.most)
        return [
            f"No more than {each.most} run at once, held by {each.by}: {each.reason}."
            if each.most
            else f"Starts are held by {each.by}: {each.reason}."
            for each in found
        ]


def stem(task_id):
    return task_id.partition("~")[0]


def number_of(task_id):
    return int(task_id.partition("~")[2] or 1)


def asked(app, path, **query):
    """What the page asks for, as it is told it."""
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": urlencode(query).encode(),
        "headers": [(b"host", b"127.0.0.1")],
        "http_version": "1.1",
        "scheme": "http",
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    sent = []

    async def receive():
        return {"type": "http.request", "body": b""}

    async def send(message):
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    body = b"".join(each.get("body", b"") for each in sent)
    assert sent[0]["status"] == 200, body
    return body


class Shown:
    """One drawn run, and all that is said of it."""

    def __init__(self, seed, folder, capsys):
        self.random, self.capsys = Random(seed), capsys
        self.path = folder / "runs.db"
        self.count = self.marks = 0
        #: Tasks that are out of time soon, and those that are tried again much later.
        self.brief, self.late = set(), set()
        GATES.clear()
        INSIDE.clear()
        self.open()

    def open(self):
        self.orch = begun(
            lambda: TaskOrchestrator(
                journal=self.path,
                concurrency=SLOTS,
                resources={"cpu": 8},
                unknown_capability="wait",
            )
        )
        workers, settle = self.orch.agents, self.random.choice([0.05, 1_000])
        workers.template("worker", capabilities=["w"], handler=lambda task, _: task.id)
        workers.pool("worker", max_agents=2, interval=0.02, settle=settle)
        self.reader = JournalReader(self.path)
        self.app = create_app(
            self.orch, token=None, page=True, journal=JournalReader(self.path)
        )

    def close(self):
        # An error on the way may have left it stopped.
        with suppress(TaskorchError):
            self.orch.release_starts()
        for gate in GATES.values():
            gate.set()
        self.orch.stop(drain=False)

    # -- what is done --------------------------------------------------------------

    def name(self):
        self.count += 1
        return f"t{self.count}"

    def submit(self, task):
        self.orch.submit_task(task)

    def tasks(self, *states):
        return [each for each in self.orch.tasks() if each.state.value in states]

    def some(self, *states):
        found = self.tasks(*states)
        return self.random.choice(found) if found else None

    def add_good(self):
        self.submit(Task.call(good, id=self.name()))

    def add_bad(self):
        after = self.some(*STATES)
        above = [after.run_id] if after and self.random.random() < 0.5 else []
        fn = self.random.choice([good, bad])
        self.submit(Task.call(fn, id=self.name(), after=above))

    def add_retried(self):
        fn = self.random.choice([bad, second_time_good])
        name, delay = self.name(), self.random.choice([0.0, 0.001, 3_600.0])
        if delay > 1:
            self.late.add(name)
        policy = RetryPolicy(max_attempts=2, delays=[delay])
        self.submit(Task.call(fn, id=name, retry=policy))

    def add_gated(self):
        name = self.name()
        GATES[name] = threading.Event()
        timeout = self.random.choice([None, None, 0.01])
        if timeout:
            self.brief.add(name)
        self.submit(Task.call(gated, name, id=name, timeout=timeout))

    def add_question(self):
        self.submit(Task.question("Is it?", id=self.name()))

    def add_pooled(self):
        for _ in range(self.random.randint(1, 3)):
            self.submit(Task("pooled", id=self.name(), requires=["w"]))

    def answer(self):
        """By an id that may be that of an earlier one, or of more than one."""
        counted = Counted(self.reader.happened())
        questions = sorted(n for n in counted.kind if counted.kind[n] == "question")
        if not questions:
            return
        name = self.random.choice(questions)
        if self.random.random() < 0.5:
            name = stem(name)
        is_bare, latest = (
            "~" not in name,
            max((n for n in questions if stem(n) == stem(name)), key=number_of),
        )
        if is_bare and latest != name and self.random.random() < 0.5:
            name, is_bare = f"{name}~1", False
        choice = self.random.choice(["approve", "reject"])
        run = latest if is_bare else name.removesuffix("~1")
        known = not is_bare or counted.asked[name] <= 1
        try:
            is_taken = self.orch.answer(name, choice, by="ada")
        except AnswerRefusedError:
            is_taken = False
        assert is_taken == (known and run in counted.open()), name
        assert {each.id for each in self.orch.questions()} == counted.open() - (
            {run} if known else set()
        )

    def add_map(self):
        flow = Workflow("flow")
        source = flow.task(numbers, id="source")
        mapped = flow.map(self.random.choice([good, odd]), source, id="map")
        flow.task(sum, mapped, id="sum")
        self.orch.workflows.start(flow, id=self.name())

    def let_go(self):
        for name in list(INSIDE.values())[:1]:
            GATES[name].set()

    def cancel(self):
        found = self.some("running", "queued", "pending", "retrying", "blocked")
        if found is not None:
            self.orch.cancel_task(found.task_id)

    def suspend(self):
        found = self.some("queued", "pending", "blocked")
        if found is not None:
            self.orch.suspend_task(found.task_id)

    def resume(self):
        found = self.some("suspended")
        if found is not None:
            self.orch.resume_task(found.task_id)

    def rerun(self):
        found = self.some("failed", "failed", "completed")
        if found is not None and not found.rerun and found.type not in ("map", "wait"):
            gate = GATES.get(stem(found.task_id))
            if gate is not None:
                gate.set()
            self.orch.rerun_task(found.task_id)

    def ask_again(self):
        found = [each for each in self.tasks(*ENDED) if each.type == "question"]
        if found:
            self.orch.rerun_task(stem(self.random.choice(found).task_id))

    def hold(self):
        who = self.random.choice(["user", "alert slow"])
        most, lasts = self.random.choice([0, 1, 2]), who == "user"
        self.orch.hold_starts("a freeze", by=who, most=most, lasts=lasts)

    def release(self):
        for who in ("user", "alert slow"):
            self.orch.release_starts(who)

    def restart(self):
        self.orch.stop(drain=False, timeout=0 if self.random.random() < 0.5 else 5)
        self.open()

    # -- rest ----------------------------------------------------------------------

    def is_at_rest(self):
        """Nothing will happen by itself."""
        # What was done before is in the journal once this is.
        self.marks += 1
        self.orch.emit("looked at")
        events = list(self.reader.happened())
        if sum(isinstance(each, EventEmitted) for each in events) < self.marks:
            return False
        counted = Counted(events)
        states = counted.states()
        running = {n: stem(n) for n, state in states.items() if state == "running"}
        own = [each for n, each in running.items() if counted.kind[n] != "map"]
        inside = list(INSIDE.values())
        if Counter(own) != Counter(inside):
            return False
        if any(each in self.brief or GATES[each].is_set() for each in own):
            return False
        if any(each.stopping for each in self.tasks("running")):
            return False
        if any(s == "retrying" and stem(n) not in self.late for n, s in states.items()):
            return False
        for name in set(running) - set(own) - counted.waiting:
            if counted.kind[name] == "map":
                return False
        mosts = [each.most for each in counted.holds.values()]
        # What waits for its slot gets it, though nothing new may start.
        is_full = len(inside) >= min([SLOTS, *filter(None, mosts)])
        for name in () if is_full else counted.waiting:
            calls = [s for n, s in states.items() if n.startswith(f"{stem(name)}/")]
            if not set(calls) - set(ENDED):
                return False
        return "queued" not in states.values() or is_full or 0 in mosts

    # -- what is shown -------------------------------------------------------------

    def command(self, *words):
        code = cli.main([*words])
        said = self.capsys.readouterr()
        assert code == 0, said.err
        return said.out

    def check(self):
        """Compare all that is said."""
        self.wait_for(self.is_at_rest)
        events = list(self.reader.happened())
        counted = Counted(events)
        states = counted.states()
        many = Counter(states.values())
        expected = {state: many[state] for state in STATES}
        self.wait_for(lambda: self.has_heard(len(events)))
        # -- numbers of the whole
        page = json.loads(asked(self.app, "/api/v1/board"))
        inspected = json.loads(self.command("inspect", str(self.path), "--json"))
        for face, stats in {
            "orch": self.orch.get_stats().to_dict(),
            "reader": self.reader.get_stats().to_dict(),
            "page": page["statistics"],
            "service": json.loads(asked(self.app, "/api/v1/statistics")),
            "command": inspected["stats"],
        }.items():
            assert (face, dict(stats["state_machine"])) == (face, expected)
            self.check_stats(stats, counted, expected)
        assert sum(map(sum, page["rates"])) == many["completed"] + many["failed"]
        word = "task" if len(states) == 1 else "tasks"
        lines = str(self.orch.get_stats())
        assert f"{len(states):,} {word}" in lines or not states
        # -- each task
        for statuses in (self.orch.tasks(), self.reader.tasks()):
            assert {s.task_id: s.state.value for s in statuses} == states
        shown = self.command(
            "inspect", str(self.path), "--tasks", "--limit", "0", "--json"
        )
        rows = [json.loads(line) for line in shown.splitlines()]
        if states:
            assert {row["task_id"]: row["state"] for row in rows} == states
        mended = counted.mended()
        broken = {n for n, s in states.items() if s == "failed" and n not in mended}
        assert page["broken"] == len(broken)
        for ask in (self.orch.tasks, self.reader.tasks):
            assert {s.task_id for s in ask("failed", mended=False)} == broken
            assert {s.task_id for s in ask(mended=True)} == mended
        said = self.command("inspect", str(self.path))
        assert (f"not mended since, {len(broken):,}:" in said) == bool(broken)
        # -- health
        checks = {each.component: each for each in self.orch.health().checks}
        words = " ".join([f"{many['queued']} queued, {many['running']} running"])
        holds = counted.sentences()
        assert checks["queue"].detail == ". ".join(
            [words, *[" ".join(holds)] * bool(holds)]
        )
        assert checks["queue"].status == ("degraded" if holds else "ok")
        assert page["health"] == json.loads(asked(self.app, "/api/v1/health"))
        # -- why one waits
        for name in [n for n, s in states.items() if s == "queued"][:2]:
            for text in (
                str(self.orch.explain(name)),
                self.command("explain", str(self.path), name),
            ):
                stop = next((h for h in counted.holds.values() if not h.most), None)
                assert ("Starts are held by" in text) == (stop is not None), text
        self.check_questions(counted.open())
        self.wait_for(self.has_told_of_workers)
        assert (checks["agents"].status, checks["agents"].detail) == ("ok", "")
        self.check_metrics(counted, many, states)
        self.check_timeline(counted)
        outcomes = self.reader.outcomes(3_600)
        for kind in ENDED:
            assert sum(getattr(each, kind) for each in outcomes) == many[kind]
        self.check_runs(states)

    def wait_for(self, is_so):
        """Wait until *is_so*; an error says how all stands."""
        try:
            eventually(is_so)
        except AssertionError as error:
            events = list(self.reader.happened())
            page = json.loads(asked(self.app, "/api/v1/board"))
            stands = Counted(events).states(), sorted(INSIDE.values()), page["heard"]
            error.add_note(f"{len(events)} events lead to {stands}")
            raise

    def has_heard(self, number):
        """Whether the page knows of so many events, and has counted since."""
        page = json.loads(asked(self.app, "/api/v1/board"))
        return page["heard"] >= number and page["broken"] is not None

    def check_stats(self, stats, counted, expected):
        queue = stats["queue"]
        assert queue["queued"] == expected["queued"]
        assert queue["processing"] == expected["running"]
        assert dict(stats["failures"]) == dict(counted.causes)
        retries = stats["retries"]
        for name in ("scheduled", "recovered"):
            assert retries[name] == counted.retries[name], name
        assert list(stats["holds"]) == counted.sentences()
        states = counted.states().items()
        for kind in set(counted.kind.values()):
            ended = Counter(
                state for name, state in states if counted.kind[name] == kind
            )
            for state in ENDED:
                assert stats["types"][kind][state] == ended[state], (kind, state)
            errors = {e: n for (k, e), n in counted.errors.items() if k == kind}
            assert dict(stats["types"][kind]["failures"]) == errors
        for worker, each in stats["agents"].items():
            assert each["completed"] == counted.by_worker[worker, "completed"]
            assert each["failed"] == counted.by_worker[worker, "failed"]

    def check_questions(self, names):
        asked_of_all = json.loads(asked(self.app, "/api/v1/questions"))["questions"]
        assert {each["id"] for each in asked_of_all} == names
        assert {each.id for each in self.orch.questions()} == names
        self.wait_for(
            lambda: (
                json.loads(asked(self.app, "/api/v1/board"))["questions"] == len(names)
            )
        )
        for name in sorted(names)[:2]:
            assert f"orch.answer({name!r}, CHOICE" in str(self.orch.explain(name))
            words = f"taskorch answer {self.path} {name} CHOICE"
            assert words in self.command("explain", str(self.path), name)

    def has_told_of_workers(self):
        """Whether all say which workers there are, and why; a pool may scale."""
        counted = Counted(self.reader.happened())
        there = {name for name, is_there in counted.agents.items() if is_there}
        listed = {each.id: each for each in self.orch.agents.list()}
        told = json.loads(asked(self.app, "/api/v1/agents"))["agents"]
        stats = self.orch.get_stats().agents
        decisions = self.orch.agents.explain_scaling()
        scaled = json.loads(asked(self.app, "/api/v1/scaling"))["decisions"]
        workers = len(there - {"local"})
        return (
            {n for n, each in listed.items() if each.status != "lost"} == there
            and {each["id"]: each["status"] for each in told}
            == {name: each.status for name, each in listed.items()}
            and {name for name, each in stats.items() if not each.lost} == there
            and [each["reason"] for each in scaled] == [d.reason for d in decisions]
            and workers == (decisions[-1].after if decisions else 0)
        )

    def same_metrics(self):
        """What is measured, here and over HTTP; None: it has changed in between."""
        measured = self.orch.metrics()
        told = json.loads(asked(self.app, "/api/v1/metrics"))
        return measured if measured == {**measured, **told} else None

    def check_metrics(self, counted, many, states):
        # The pool may let a worker go between the two.
        eventually(self.same_metrics)
        measured = self.orch.metrics()
        assert measured["completed_tasks_count"] == many["completed"]
        assert measured["failed_tasks_count"] == many["failed"]
        assert measured["task_queue_length"] == many["queued"]
        assert measured["orchestrator_status"] == self.orch.health().status
        rates = {}
        for kind in set(counted.kind.values()):
            ended = [s for n, s in states.items() if counted.kind[n] == kind]
            good_ones, bad_ones = ended.count("completed"), ended.count("failed")
            if good_ones + bad_ones:
                rates[kind] = good_ones / (good_ones + bad_ones)
        assert measured["task_success_rate"] == rates
        text = asked(self.app, "/metrics").decode()
        told = {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
        for state in STATES:
            name = "taskorch_tasks_ended_total" if state in ENDED else "taskorch_tasks"
            assert told.get((name, state), 0) == many[state], state
        for kind, rate in rates.items():
            assert told["task_success_rate", kind] == pytest.approx(rate)
        for cause, count in counted.causes.items():
            assert told["taskorch_failures_total", cause] == count
        assert told["completed_tasks_count",] == many["completed"]
        assert told["task_queue_length",] == many["queued"]

    def check_timeline(self, counted):
        drawn = json.loads(asked(self.app, "/api/v1/board/timeline", width=50))
        expected = Counter((worker, outcome) for _, worker, outcome in counted.attempts)
        told = Counter()
        for worker, counts in zip(drawn["agents"], drawn["counts"], strict=True):
            for outcome, count in zip(drawn["outcomes"], counts, strict=True):
                told[worker, outcome] += count
        assert +told == +expected
        inside = sum(each[5] for each in drawn["rectangles"])
        assert inside + drawn["attempts_left_out"] == len(counted.attempts)

    def check_runs(self, states):
        latest = {}
        for name in states:
            first, number = stem(name), int(name.partition("~")[2] or 1)
            if "/" in first and number >= latest.get(first, (0,))[0]:
                latest[first] = number, states[name]
        for run in {name.partition("/")[0] for name in latest}:
            mine = [s for n, (_, s) in latest.items() if n.startswith(f"{run}/")]
            if f"{run}/map~2" in states:
                # Its calls are to be made anew: those of before are of it no more.
                continue
            status = self.orch.workflows.status(run)
            assert {k: v for k, v in status.counts.items() if v} == dict(Counter(mine))


OPERATIONS = (
    *("add_good", "add_good", "add_bad", "add_bad", "add_retried", "add_gated"),
    *("add_gated", "add_question", "add_map", "let_go", "let_go", "cancel"),
    *("suspend", "resume", "rerun", "rerun", "hold", "release", "restart"),
    *("add_pooled", "answer", "answer", "ask_again"),
)


def shown_truly(seed, folder, capsys):
    """One run, with its seed in what fails."""
    folder.mkdir()
    run = Shown(seed, folder, capsys)
    steps = []
    try:
        for _ in range(run.random.randint(5, 18)):
            steps.append(run.random.choice(OPERATIONS))
            # It may have changed meanwhile.
            with suppress(UsageError):
                getattr(run, steps[-1])()
            if run.random.random() < 0.15:
                run.check()
        run.check()
    except BaseException as error:
        error.add_note(f"seed {seed}: {' '.join(steps)}")
        raise
    finally:
        run.close()


@pytest.mark.slow("twelve random runs")
@pytest.mark.parametrize("seed", range(4))
def test_all_that_is_shown_is_what_the_events_say(seed, tmp_path, capsys):
    for number in range(3):
        shown_truly(10 * seed + number, tmp_path / str(number), capsys)


@pytest.mark.slow("thirty random runs")
def test_of_many_runs(tmp_path, capsys):
    for seed in range(100, 100 + int(os.environ.get("TASKORCH_RUNS", "30"))):
        shown_truly(seed, tmp_path / str(seed), capsys)
