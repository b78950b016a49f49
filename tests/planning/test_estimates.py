"""What tasks take, from what was measured."""

from __future__ import annotations

import math
from random import Random

import pytest
from tests.planning.tools import do

from taskorch import Task, TaskOrchestrator, Workflow
from taskorch.planning import Estimator, TaskRequest


def test_what_is_no_duration_is_left_out_and_counted():
    found = Estimator()
    for value in (math.nan, math.inf, -1, 0, "3", True):
        assert not found.observe("build", value)

    assert found.refused == 6
    assert found.duration("build").source == "a guess: nothing is known"


def test_one_run_is_taken_with_a_margin_and_the_like_of_it_with_a_wider_one():
    found = Estimator()
    found.observe("build linux", 10)

    own, like = found.duration("build linux"), found.duration("build mac")

    assert (float(own), own.source) == (10, "history of 1 run")
    assert own.p90 > 11
    assert float(like) == 10
    assert like.p90 > own.p90
    assert like.source == "as build linux, which it is named like"


def test_nine_in_ten_are_within_what_was_foretold():
    found, random = Estimator(), Random(1)
    for _ in range(400):
        found.observe("build", random.lognormvariate(2, 0.5))

    share, count = found.calibration

    assert count == 398
    assert 0.86 <= share <= 0.94


def test_a_size_in_the_payload_is_learnt():
    found, random = Estimator(), Random(1)
    for _ in range(60):
        size = random.uniform(1e3, 1e6)
        found.observe("copy", size / 1e4, {"size": size}, memory_mb=size / 1e3)

    large = found.duration("copy", {"size": 5e5})

    assert float(large) == pytest.approx(50, rel=0.1)
    assert float(found.memory("copy", {"size": 5e5})) == pytest.approx(500, rel=0.1)


def test_a_size_that_no_float_can_hold_is_left_out():
    found = Estimator()
    assert found.observe("copy", 1.0, {"size": 10**400})
    assert float(found.duration("copy", {"size": 10**400})) == pytest.approx(1.0)


def test_a_drift_is_noticed_and_what_was_before_is_left():
    found, random = Estimator(), Random(1)
    for mean in [10] * 60 + [40] * 30:
        found.observe("build", mean * random.uniform(0.9, 1.1))

    assert found.drifted["build"] >= 1
    assert float(found.duration("build")) == pytest.approx(40, rel=0.15)


def test_a_plan_takes_what_was_measured_here_and_in_an_earlier_life(tmp_path):
    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path) as orch:
        for n in range(5):
            orch.submit_task(Task.call(do, n, type="build")).result()
        here = orch.planner.estimator
        wf = Workflow("w")
        wf.task(do, 1, id="x", type="build")
        orch.planner.template("w")(lambda: wf)
        (task,) = orch.planner.plan(TaskRequest("r", "w")).tasks
        assert task.duration.source == "history of 5 runs"
    later = TaskOrchestrator(journal=path)
    later.planner.template("w")(lambda: wf)
    (again,) = later.planner.plan(TaskRequest("r", "w")).tasks

    assert again.duration.source == "history of 5 runs"
    assert float(again.duration) == pytest.approx(
        float(here.duration("build")), rel=0.5
    )
