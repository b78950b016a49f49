"""
A plugin of pytest that notes of each test which lines of taskorch it reaches, and its time.

`python -m tests.house.tools.mistakes reach` uses it. What a test starts as processes of their own
counts as well, if these end by themselves. Lines that run as a module is imported are of the
test that imports it first.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

import pytest
from coverage import Coverage

FOLDER: Final = Path(os.environ.get("REACH", "."))
SETTINGS: Final = FOLDER / "settings"
DATA: Final = FOLDER / "data"
TEXT: Final = f"""
[run]
source_pkgs = taskorch
parallel = true
data_file = {DATA}
context = ${{REACHES-}}
patch = subprocess
"""

measured: list[Coverage] = []


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Measure what this process does, if it runs tests."""
    if hasattr(config, "workerinput"):
        measured.append(Coverage(config_file=str(SETTINGS)))
        measured[0].start()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Any:
    """Note what the test reaches, and how much processor time it takes."""
    os.environ["REACHES"] = item.nodeid
    measured[0].switch_context(item.nodeid)
    before = _seconds()
    try:
        return (yield)
    finally:
        with Path(FOLDER, f"{os.getpid()}.times").open("a", encoding="utf-8") as kept:
            kept.write(json.dumps([item.nodeid, round(_seconds() - before, 3)]) + "\n")


def pytest_sessionfinish() -> None:
    """Keep what was measured."""
    for coverage in measured:
        coverage.stop()
        coverage.save()


def _seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
