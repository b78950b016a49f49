"""
The next incarnation tells the same.

A program uses all rooms; what can be told of it by public names is written down, it
stops or is killed, and the next life of it tells the same, but for what is named here.
"""

from __future__ import annotations

import inspect
import json
import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.api.tools import PATIENCE
from tests.house.tools import lives

from taskorch import TaskOrchestrator
from taskorch.api.verbs.table import ROOMS
from taskorch.ext.jobs import JobSystem

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/explanation/durability.md"
#: What is of one incarnation, by forms of its names; the page says why, by the same
#: words.
OF_ONE_INCARNATION = {
    "progress": r".*\.progress",
    "workers that a pool has spawned": r".*(press|active_agents).*|agents\.(match|explain_scaling)\(.*",
    "counts and alarms of violations": r".*violations.*|health\(\)\.checks\[policies\].*",
    # One that fires may hold starts back, until its incarnation ends.
    "since when alerts are watched": r"alerts\.list\(\).*|concurrency",
    "what was looked up in the cache": r"explain\(.*\)\.cache",
    "runs that have ended, in `workflows.find`": r"workflows\.find\(\).*",
    "the order of controllers": r"drivers\.list\(\).*",
    "how busy the threads of jobs were": r"jobs\..*thread_utilisation.*|jobs\.(about|ledger)\(\).*",
    "ages": r".*\.oldest",
    "how much memory is in use": r"metrics\(\)\[total_memory_usage\]",
    "when it is": r"what_if\(\).*|at_risk\(\).*\.at",
}


def differing(first: dict[str, str], later: dict[str, str]) -> list[str]:
    """What two incarnations tell differently that is not named."""
    named = re.compile("|".join(OF_ONE_INCARNATION.values()))
    return [
        f"{name}: {first.get(name, 'nothing')}, and then {later.get(name, 'nothing')}"
        for name in {**first, **later}
        if first.get(name) != later.get(name) and not named.fullmatch(name)
    ]


def test_after_an_orderly_end_the_next_incarnation_tells_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "taskorch")
    with lives.incarnation(tmp_path / "j.db") as (orch, jobs):
        lives.live(orch, jobs, seed=1)
        names = lives.names_of(orch, jobs)
        first = lives.tell(orch, jobs, names)
    with lives.incarnation(tmp_path / "j.db") as (orch, jobs):
        assert orch.wait(PATIENCE)
        later = lives.tell(orch, jobs, names)
    assert len(first) > 5_000
    assert differing(first, later) == []


@pytest.mark.slow("two long lives of each seed")
@pytest.mark.parametrize("seed", range(2, 8))
def test_after_a_kill_the_next_incarnation_tells_the_same(
    tmp_path: Path, seed: int
) -> None:
    assert differing(*(lived(tmp_path, seed, each) for each in ("first", "next"))) == []


def lived(folder: Path, seed: int, which: str) -> dict[str, str]:
    file = folder / "told.json"
    args = [str(seed), str(folder / "j.db"), str(file), which]
    args = [sys.executable, "-m", "tests.house.tools.lives", *args]
    subprocess.run(args, cwd=ROOT, check=False, capture_output=True, timeout=150)
    told: dict[str, str] = json.loads(file.read_text())["told"]
    return told


@pytest.mark.needs("governance", "memo", "schedules", "steps")
def test_each_public_method_tells_or_acts() -> None:
    """One that is new is asked by itself; one that is no more is not named any more."""
    classes = {**ROOMS, "jobs": JobSystem, "": TaskOrchestrator}
    public = {
        f"{room}.{name}".lstrip(".")
        for room, cls in classes.items()
        for name, _ in inspect.getmembers(cls)
        if not name.startswith("_")
    }
    rooms = tuple(f"{room}." for room in classes if room)
    gone = {
        each
        for each in lives.ACTS
        if ("." not in each or each.startswith(rooms)) and each not in public
    }
    assert {each for each in gone if not each.startswith("governance.")} == set()


def test_what_is_of_one_incarnation_stands_on_the_page() -> None:
    text = " ".join(PAGE.read_text(encoding="utf-8").split())
    assert [words for words in OF_ONE_INCARNATION if words not in text] == []
