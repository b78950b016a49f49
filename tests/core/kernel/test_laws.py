"""The kernel's laws, over every schedule that hypothesis and the dice think of."""

import os
import subprocess
import sys
from pathlib import Path
from random import Random

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.core.kernel.random_run import Run, main, run
from tests.house.tools.examples import seeds

ROOT = Path(__file__).parents[3]


class Schedules(RuleBasedStateMachine):
    """Commands in any order; after each, everything must add up (`Run.check`)."""

    run: Run | None = None

    @initialize(dice=st.randoms(use_true_random=False))
    def begin(self, dice: Random) -> None:
        self.run = Run(dice)
        self.do(dice, "submit")

    def do(self, dice: Random, *names: str) -> None:
        assert self.run is not None
        self.run.dice = dice
        getattr(self.run, dice.choice(names))()
        self.run.note_starts()

    @rule(dice=st.randoms(use_true_random=False))
    def submit(self, dice: Random) -> None:
        self.do(dice, "submit")

    @rule(dice=st.randoms(use_true_random=False))
    def end(self, dice: Random) -> None:
        self.do(dice, "end", "end_and_settle", "end_again", "fault")

    @rule(dice=st.randoms(use_true_random=False))
    def control(self, dice: Random) -> None:
        self.do(dice, "cancel", "suspend", "resume", "prioritise", "whims")

    @rule(dice=st.randoms(use_true_random=False))
    def decide(self, dice: Random) -> None:
        self.do(dice, "decide", "rerun", "expire")

    @rule(dice=st.randoms(use_true_random=False))
    def yield_or_reclaim(self, dice: Random) -> None:
        self.do(dice, "slot")

    @rule(dice=st.randoms(use_true_random=False))
    def time_passes(self, dice: Random) -> None:
        self.do(dice, "wait")

    @rule(dice=st.randoms(use_true_random=False))
    def worker_joins(self, dice: Random) -> None:
        self.do(dice, "join")

    @rule(dice=st.randoms(use_true_random=False))
    def worker_elsewhere(self, dice: Random) -> None:
        self.do(dice, "beat")

    @rule(dice=st.randoms(use_true_random=False))
    def crash(self, dice: Random) -> None:
        self.do(dice, "crash")

    @rule(dice=st.randoms(use_true_random=False))
    def explain_law(self, dice: Random) -> None:
        self.do(dice, "explained")

    @invariant()
    def laws(self) -> None:
        if self.run is not None:
            self.run.check()

    def teardown(self) -> None:
        if self.run is not None:
            self.run.finish()


TestSchedules = Schedules.TestCase
TestSchedules.settings = settings(stateful_step_count=25)


@pytest.mark.parametrize("seed", seeds(8, 40))
def test_long_runs(seed):
    """A hundred random commands, the laws after each, and in the end all is free."""
    run(seed, 100)


def test_same_commands_same_events(capsys):
    """The events of a run are the same, byte for byte, under any hash seed."""
    seeds_of_runs = ["1", "2", "3", "4"]
    elsewhere = subprocess.run(
        [sys.executable, "-m", "tests.core.kernel.random_run", *seeds_of_runs],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "1"},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    main(["", *seeds_of_runs])
    assert elsewhere.count("\n") > 400
    assert capsys.readouterr().out == elsewhere
