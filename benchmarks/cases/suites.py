"""What a test suite takes: networkx's, which its package brings along."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from benchmarks._figures import Goal, Row, Samples, Unit
from benchmarks._registry import Run, case
from benchmarks._timing import time_once

XDIST = "pytest-xdist"

_CORES = 2
_SHARDS = 8
_QUICK = ("networkx/algorithms/tree", "networkx/utils")
#: Without the plugins of this environment, which both would load.
_ENV = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
_PYTEST = ("-q", "-p", "no:cacheprovider")


@case("suite", needs=("yaml", "xdist"))
def suite(run: Run) -> Iterator[Row]:
    """The suite of networkx on two cores, for the first time and once more."""
    where = _QUICK if run.quick else ("networkx",)
    taken: dict[str, list[float]] = {XDIST: [], "first": [], "again": []}
    with tempfile.TemporaryDirectory() as folder:
        _unpack(Path(folder))
        for number in range(1 if run.quick else 3):
            output = str(Path(folder, f"run-{number}"))
            config = _config(Path(folder), where)
            ours = [sys.executable, "-m", "taskorch", "suite", "run", config]
            for name, command in (
                (XDIST, [sys.executable, "-m", "pytest", *_xdist(where)]),
                ("first", [*ours, "--output", output]),
                ("again", [*ours, "--output", output]),
            ):
                taken[name].append(time_once(lambda c=command: _do(c, folder)))
    seconds = {name: Samples.of(each, Unit.SECONDS) for name, each in taken.items()}
    for name, what, goal in (
        ("first", "a suite, the first time", 1.25),
        ("again", "the same, with durations", 1.0),
    ):
        yield Row(
            what=what,
            ours=seconds[name],
            measured=seconds[name].over(seconds[XDIST]),
            goal=Goal.no_more(goal),
            note=f"`taskorch suite run` of {', '.join(where)} in {_SHARDS} shards on "
            f"{_CORES} cores, process and report included; measured: ratio of times to "
            f"`pytest -n {_CORES}` ({XDIST}), {seconds[XDIST].write()}",
        )


def _unpack(folder: Path) -> None:
    """Copy networkx where pytest finds no configuration of anybody else's."""
    found = find_spec("networkx")
    assert found is not None
    assert found.origin is not None
    shutil.copytree(Path(found.origin).parent, folder / "networkx")
    (folder / "pytest.ini").write_text("[pytest]\n")


def _config(folder: Path, where: tuple[str, ...]) -> str:
    task = {"id": "all", "template": "pytest", "arguments": [*where]}
    limits = {"cpu_cores": 1, "memory_mb": 512, "timeout_seconds": 600}
    config = folder / "suite.yaml"
    config.write_text(
        json.dumps(
            {
                "orchestrator": {
                    "name": "networkx",
                    "task_definitions": {"tests": [{**task, "shards": _SHARDS}]},
                },
                "resource_allocation": {"tests": {**limits, "max_parallel": _CORES}},
                "templates": {"pytest": {"pytest": [*_PYTEST]}},
            }
        )
    )
    return str(config)


def _xdist(where: tuple[str, ...]) -> list[str]:
    return [*_PYTEST, "-p", "xdist.plugin", "-n", str(_CORES), *where]


def _do(command: list[str], folder: str) -> None:
    done = subprocess.run(
        command, cwd=folder, env=_ENV, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = "\n".join([*done.stdout.splitlines()[-40:], done.stderr])
        msg = f"{command} ended with {done.returncode}:\n{said}"
        raise RuntimeError(msg)
