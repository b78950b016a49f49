"""Random deploys, acts and kills: a run comes to what a run gives that begins now."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from tests.api.deploys import (
    DAY,
    KINDS,
    PATIENCE,
    PROGRAM,
    RUN,
    incarnation,
)

pytest.importorskip("cronsim")

#: Kinds that may be deployed together: each has its own place in the program.
TOGETHER = [
    "other code of what completed",
    "other code of what failed",
    "other code of a helper",
    "another constant",
    "an added step",
    "another edge",
    "other parameters",
    "more retries",
    "an added leaf",
]
ACTS = {
    "restart": lambda orch: orch.workflows.restart(RUN),
    "again": lambda orch: orch.schedules.backfill("night", *DAY, again=True),
    "rerun": lambda orch: orch.rerun_task(f"{RUN}/load"),
    "change": lambda orch: orch.change_tasks("rerun", ids=f"{RUN}/load*"),
}


def deployed(chance: random.Random) -> str:
    program = PROGRAM
    for name in chance.sample(TOGETHER, chance.randint(1, 4)):
        kind = KINDS[name]
        if kind.old in program:
            program = program.replace(kind.old, kind.new)
    # So that a kill may come before, within, and after the act.
    return program.replace("    CALLS.append(name)", "    time.sleep(0.002)").replace(
        "import os\n", "import os, time\n"
    )


def expected_of(folder: Path, program: str) -> object:
    with incarnation(folder, program, journal=None) as (orch, _):
        orch.schedules.backfill("night", *DAY)
        assert orch.wait(PATIENCE)
        return orch.workflows.get(RUN).result(PATIENCE)


def one_world(seed: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(seed)
    if chance.random() < 0.7:
        monkeypatch.setenv("DEPLOYED_BROKEN", "1")
    with incarnation(folder, PROGRAM) as (orch, _):
        orch.schedules.backfill("night", *DAY)
        assert orch.wait(PATIENCE)
    monkeypatch.delenv("DEPLOYED_BROKEN", raising=False)
    journal = folder / "j.db"
    program = PROGRAM
    for _ in range(chance.randint(1, 3)):
        if chance.random() < 0.8:
            program = deployed(chance)
        act = chance.choice([*ACTS])
        after = folder / f"{chance.random()}.db"
        with incarnation(folder, program, journal=journal) as (orch, _):
            if orch.workflows.status(RUN).state.value in ("completed", "failed"):
                ACTS[act](orch)
            orch.wait(chance.choice([0.0, 0.001, 0.005, 0.02]))
            if chance.random() < 0.6:
                # What a kill leaves is what the file has at that moment.
                for end in ("", "-wal"):
                    if Path(f"{journal}{end}").exists():
                        shutil.copyfile(f"{journal}{end}", f"{after}{end}")
        journal = after if after.exists() else journal
    expected = expected_of(folder, program)
    with incarnation(folder, program, journal=journal) as (orch, _):
        assert orch.wait(PATIENCE)
        orch.schedules.backfill("night", *DAY, again=True)
        assert orch.wait(PATIENCE)
        run = orch.workflows.get(RUN)
        assert run.result(PATIENCE) == expected, seed
        assert run.status().state.value == "completed"
        before = {work.task_id for work in run.handles.values()}
        # Nothing differs any more.
        assert not orch.workflows._reruns.move(RUN, None)
        orch.workflows.restart(RUN)
        assert {work.task_id for work in run.handles.values()} == before


@pytest.mark.parametrize("seed", range(3))
def test_a_run_comes_to_what_a_new_run_gives(seed, tmp_path, monkeypatch):
    one_world(seed, tmp_path, monkeypatch)


@pytest.mark.slow("nearly a hundred chances")
def test_many_runs_come_to_what_a_new_run_gives(tmp_path, monkeypatch):
    for seed in range(3, 100):
        folder = tmp_path / str(seed)
        folder.mkdir()
        one_world(seed, folder, monkeypatch)
