"""
Each sentence of a summary equals what a fold of all events by another model says.

The worlds have schedules with rates from a minute to a month, failures, re-runs, skips
and deaths of the orchestrator. The model is slow and plain: it looks at all events anew.
Beside the lines of runs, which the dashboard, `top`, `runs` and MCP read, it judges what
the health says of schedules, what `schedules` says, and what people are sent.
"""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from random import Random
from statistics import median

import pytest
from tests.house.tools.programs import tell

from taskorch import Task, Workflow
from taskorch.events import (
    AttemptReturned,
    OrchestratorStarted,
    ScheduleFired,
    TaskBlocked,
    TaskCancelled,
    TaskCompleted,
    TaskFailed,
    TaskRetrying,
    TaskStarted,
    TaskSubmitted,
    TaskSuspended,
)
from taskorch.ext.views._runs import RunIndex
from taskorch.model.ids import number_of, run_of, stem_of
from taskorch.testing import Outcome, Simulation

MINUTE, DAY = 60.0, 86_400.0
RATES = (MINUTE, 10 * MINUTE, 60 * MINUTE, DAY, 7 * DAY, 30 * DAY)
ENDS = (
    *(TaskCompleted, TaskFailed, TaskRetrying, TaskBlocked, TaskCancelled),
    *(TaskSuspended, AttemptReturned),
)
USUAL = 20


def world(seed):  # noqa: C901 - one world
    """
    A world of chance.

    Returns:
        What happened in it; how its health was, and what people had been sent, at
        random moments, of each with the number of events before; and its source.
    """
    random = Random(seed)
    rate = random.choice(RATES)
    sim = Simulation()
    sim.agent("able", capabilities=["job", "step"], max_concurrency=4)

    def comes_to(task, attempt, source):
        seconds = source.uniform(0.05, 1.3) * rate / 2
        if source.random() < 0.25:
            return Outcome(seconds, error=ValueError(f"row {seed} has no price"))
        return seconds

    sim.work("job", comes_to)
    sim.work("step", comes_to)
    flow = Workflow("flow")
    flow.add(Task("step", id="a"))
    flow.add(Task("step", id="b"))
    flow.add(Task("step", id="c", after=["a"]))
    sim.schedules.add("single", timedelta(seconds=rate), Task("job"))
    sim.schedules.add("flow", timedelta(seconds=3 * rate), flow)

    def again():
        failed = sim.tasks("failed", mended=False) if sim.is_up else []
        failed = [status for status in failed if not status.rerun]
        if failed:
            sim.rerun_task(stem_of(random.choice(failed).task_id))

    def dies():
        if sim.is_up:
            sim.crash(random.uniform(0.1, 2.5) * rate)

    messages, looks = [], []
    health = tell(sim, messages.append)

    def look_at_health():
        if sim.is_up:
            looks.append((len(sim.events), health("schedules"), list(messages)))

    length = 14 * rate
    for _ in range(random.randrange(8)):
        sim.at(random.uniform(0, length), again)
    for _ in range(random.randrange(3)):
        sim.at(random.uniform(0, length), dies)
    for _ in range(12):
        sim.at(random.uniform(0, length), look_at_health)
    sim.run(until=length)
    look_at_health()
    return sim.events, looks, random


class Model:
    """What is so after some events, from all of them."""

    def __init__(self, events):  # noqa: C901 - one pass, one branch a kind
        self.spans, self.cut, running = {}, set(), {}
        self.latest, self.last, self.failures, self.runs = {}, {}, {}, {}
        #: All failed runs of these tasks.
        self.failed = {}
        before = 0
        for event in events:
            kind = type(event)
            if kind is OrchestratorStarted:
                for task_id, start in running.items():
                    self.spans.setdefault(key_of(task_id), []).append((start, before))
                    self.cut.add(key_of(task_id))
                running = {}
            before = event.at_ns
            if kind is ScheduleFired:
                ticks = self.runs.setdefault(event.name, [])
                ticks.append((event.slot_ns, len(ticks), stem_of(event.task_id)))
                continue
            task_id = getattr(event, "task_id", None)
            if not task_id:
                continue
            if kind is TaskStarted:
                running[task_id] = event.at_ns
            elif kind in ENDS and task_id in running:
                span = running.pop(task_id), event.at_ns
                self.spans.setdefault(key_of(task_id), []).append(span)
            stem = stem_of(task_id)
            if kind is TaskSubmitted:
                self.latest[stem] = max(self.latest.get(stem, 0), number_of(task_id))
            if number_of(task_id) == self.latest.get(stem):
                self.last[stem] = kind
            if kind is TaskFailed:
                self.failures.pop(stem, None)
                self.failures[stem] = event
                self.failed.setdefault(stem, []).append(event)
            elif kind is TaskCompleted:
                self.failures.pop(stem, None)
                self.failed.pop(stem, None)
        self.running = running

    def stems(self, key):
        return [stem for stem in self.latest if key_of(stem) == key]

    def is_good(self, key):
        return all(self.last[stem] is TaskCompleted for stem in self.stems(key))

    def is_mended(self, key):
        return any(self.latest[stem] > 1 for stem in self.stems(key))

    def seconds(self, key, now):
        spans = list(self.spans.get(key, ()))
        spans += [(at, now) for name, at in self.running.items() if key_of(name) == key]
        points = sorted({point for span in spans for point in span})
        worked = sum(
            high - low
            for low, high in pairwise(points)
            if any(start <= low and high <= end for start, end in spans)
        )
        return worked / 1e9 if spans else None

    def usual(self, name, now):
        ticks = sorted(self.runs.get(name, ()), reverse=True)
        good = [
            key
            for _, _, key in ticks
            if self.is_good(key) and not self.is_mended(key) and key not in self.cut
        ]
        took = [self.seconds(key, now) for key in good[:USUAL]]
        return median(took) if took else None

    def bad(self, name):
        """The runs of the latest ticks in which something failed, the latest first."""
        bad = []
        for _, _, key in sorted(self.runs.get(name, ()), reverse=True):
            if self.open(key):
                bad.append(key)
            elif self.is_good(key):
                break
        return bad

    def failing(self, name):
        """The sentence on a schedule that is not well; "": it is."""
        bad = self.bad(name)
        if not bad:
            return ""
        *_, last = [
            each for stem, each in self.failures.items() if key_of(stem) == bad[0]
        ]
        text = f"{last.task_id} failed: {last.error_type}: {last.message}"
        return text + f" ({len(bad):,} in a row)" * (len(bad) > 1)

    def open(self, key):
        return {stem for stem in self.failures if key_of(stem) == key}


def key_of(task_id):
    """The run of a workflow, or the task that a schedule has made."""
    stem = stem_of(task_id)
    run = run_of(stem)
    return run if run.startswith("flow-") else stem


def compare(events, moments, random):
    index, taken = RunIndex(), 0
    for moment in moments:
        for event in events[taken:moment]:
            index.take(event)
        taken = moment
        now = events[moment - 1].at_ns + random.randrange(10**9)
        model = Model(events[:moment])
        failed = [event for some in model.failed.values() for event in some]
        assert index.unmended == len(failed)
        assert {*index.broken} == {*model.failures}
        (*causes,) = index.causes
        assert sum(cause.count for cause in causes) == len(failed)
        assert len(causes) == bool(model.failures)
        for cause in causes:
            ends = [event.at_ns / 1e9 for event in failed]
            assert cause.first.timestamp() == pytest.approx(min(ends))
            assert cause.last.timestamp() == pytest.approx(max(ends))
            assert {*map(stem_of, cause.tasks)} <= {*model.failures}
            assert cause.tasks[0] in {e.task_id for e in model.failures.values()}
        for name, ticks in model.runs.items():
            assert str(index.standing(name)) == model.failing(name)
            latest = index.latest(name)
            assert latest is not None
            assert latest.run_id == max(ticks)[2], name
            assert index.schedules[name].usual() == pytest.approx(
                model.usual(name, now)
            ), name
            for _, _, key in ticks:
                line = index.lines[key]
                row = line.to_dict(now)
                good = row["state"] in ("completed", "mended")
                assert good is model.is_good(key), key
                assert (row["state"] == "mended") is (good and model.is_mended(key))
                assert row["seconds"] == pytest.approx(model.seconds(key, now)), key
                own = [stem for stem in model.failures if stem in model.open(key)]
                assert (row["error"] is None) is (not own), key
                if own:
                    assert stem_of(row["error"]["task"]) == own[-1]


def compare_health(events, looks):
    """The health, and whom people were told of, beside the model."""
    for moment, check, messages in looks:
        model = Model(events[:moment])
        texts = {name: model.failing(name) for name in model.runs}
        bad = [f"{name}: {text}" for name, text in texts.items() if text]
        said = [
            part for part in check.detail.split("; ") if " did not happen" not in part
        ]
        assert sorted(filter(None, said)) == sorted(bad)
        assert check.status == ("degraded" if check.detail else "ok")
        open_ones = {}
        for message in messages:
            if message["message_type"] == "failure":
                open_ones[message["schedule"]] = message
            elif message["message_type"] == "recovered":
                assert open_ones.pop(message["schedule"])
        assert {name for name in texts if texts[name]} <= {*open_ones}


def look(seeds, each):
    looked = 0
    for seed in seeds:
        events, looks, random = world(seed)
        count = min(each, len(events))
        moments = sorted(random.sample(range(1, len(events) + 1), count))
        try:
            compare(events, moments, random)
            compare_health(events, looks)
        except AssertionError as error:
            error.add_note(f"world {seed}")
            raise
        looked += count
    return looked


def test_summaries_are_what_the_events_say():
    assert look(range(6), 15) == 90


@pytest.mark.slow("what is rare among random worlds")
def test_summaries_are_what_the_events_say_at_length():
    assert look(range(1_000, 1_100), 20) == 2_000
