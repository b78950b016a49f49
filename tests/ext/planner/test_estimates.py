"""What tasks take, from what was measured."""

from __future__ import annotations

import math
from random import Random
from statistics import median

import pytest
from hypothesis import given, strategies as st
from tests.ext.planner.tools import do

from taskorch import TaskOrchestrator, Workflow
from taskorch.ext.planner import Estimator, TaskRequest


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
    words = found.duration("build").source.split()
    assert words[3:] == ["runs", "since", "it", "drifted"]
    assert 12 <= int(words[2]) <= 35
    assert float(found.duration("build")) == pytest.approx(40, rel=0.15)


def off(amount, said, share):
    return max(share * (amount - said), (share - 1) * (amount - said))


def plainly(seen):
    """P50 and P90 of the latest fifty."""
    recent = sorted(seen[-50:])
    rank = math.ceil(0.9 * (len(recent) + 1))
    return median(recent), recent[min(len(recent), rank) - 1]


def modes(random, _n, _size):
    """Seven in ten are short, and the others take forty times as long."""
    return random.choice([1] * 7 + [40] * 3) * random.uniform(0.9, 1.1)


def levels(random, n, _size):
    """Every thirty runs another level."""
    return random.lognormvariate((n // 30) % 3, 0.2)


def sized(random, _n, size):
    return size / 1e4 * random.lognormvariate(0, 0.2)


def calms(random, n, _size):
    """First another level every few runs, and from then on none."""
    level = (n // 8) % 2 * 6 if n < 200 else 3
    return random.lognormvariate(level, 0.2 if n < 200 else 0.8)


def even(random, _n, _size):
    return random.lognormvariate(2, 0.6)


@pytest.mark.parametrize(
    ("world", "most"),
    [(modes, 1.05), (levels, 0.8), (sized, 0.5), (even, 1.05), (calms, 1.05)],
)
def test_what_is_foretold_is_off_no_more_than_the_plain_quantile(world, most):
    """And less where the size says something, or what was long ago says nothing."""
    found, random, seen = Estimator(), Random(3), []
    ours = theirs = held = count = 0
    for n in range(450):
        size = random.uniform(1e3, 1e6)
        amount = world(random, n, size)
        if n >= (260 if world is calms else 2):
            said = found.duration("t", {"size": size})
            for share, value, plain in zip(
                (0.5, 0.9), (float(said), said.p90), plainly(seen), strict=True
            ):
                ours += off(amount, value, share)
                theirs += off(amount, plain, share)
            held += amount <= said.p90
            count += 1
        found.observe("t", amount, {"size": size})
        seen.append(amount)
    assert ours <= most * theirs
    assert 0.85 <= held / count <= 0.95


AMOUNTS = st.floats(1e-6, 1e9)


@given(st.lists(st.tuples(AMOUNTS, st.integers(0, 10**12)), min_size=1, max_size=40))
def test_the_p90_is_no_less_than_the_p50_and_both_are_near_what_was_measured(runs):
    found = Estimator()
    for seconds, size in runs:
        found.observe("t", seconds, {"size": size})
    seen = [seconds for seconds, _ in runs]
    for size in (0, 10**6, 10**15):
        said = found.duration("t", {"size": size})
        assert min(seen) / 2.8 <= float(said) <= max(said.p90, float(said))
        assert float(said) <= said.p90 <= max(seen) * 2.8


def test_a_stated_duration_that_all_runs_contradict_is_scaled_by_them():
    found = Estimator()
    assert (float(found.stated("build", 8)), found.stated("build", 8).source) == (
        8,
        "said",
    )
    for stated in (8, 80):
        found.observe("build", stated / 40, stated=stated)
    assert float(found.stated("build", 8)) == 8
    found.observe("build", 0.3, stated=8)

    late = found.stated("build", 80)

    assert (float(late), late.p90) == (2, 3)
    assert (
        late.source
        == "80 s are stated, of which the latest 3 runs took 0.025 times as much"
    )
    found.observe("build", 8, stated=8)
    assert float(found.stated("build", 8)) == 8
    for _ in range(5):
        found.observe("build", 30, stated=10)
    assert float(found.stated("build", 8)) == 24


def test_a_plan_goes_by_what_was_measured_where_that_has_overtaken_what_is_stated(
    tmp_path,
):
    def planned(orch):
        if "w" not in orch.planner.templates:
            orch.planner.template("w")(make)
        plan = orch.planner.plan(TaskRequest("w", "w"))
        return float(plan.estimated_duration), plan.tasks[0].duration.source

    def make():
        wf = Workflow("w")
        wf.task(do, 1, id="t", type="quick", expected=800)
        return wf

    with TaskOrchestrator(journal=tmp_path / "journal") as orch:
        assert planned(orch)[0] == 800
        for _ in range(3):
            orch.workflows.start(make()).result(60)
        now, source = planned(orch)
        assert now < 400
        assert source.startswith("800 s are stated")
    with TaskOrchestrator(journal=tmp_path / "journal") as orch:
        assert planned(orch)[0] < 400
