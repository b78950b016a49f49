"""
The extensions that there are, and copies of the package without them.

The core takes tasks in, starts them within limits, ends them, and keeps the facts. All
else is an extension: whoever does not use it could delete its files. The table says
which files those are, and `tests/packaging/test_extensions.py` deletes them.

Decision: extensions.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Final

import taskorch

SOURCE: Final = Path(taskorch.__file__).parent
ACTS: Final = Path(__file__).with_name("acts.py")
#: Seconds that fifteen acts may take, beside much else.
PATIENCE: Final = 170

#: The files of each extension, folders with all that is in them.
EXTENSIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "budgets": ("budgets", "kernel/_budgets.py"),
    "channel": ("frontends/channel.py",),
    "client": ("client.py",),
    "comparing": ("comparing",),
    "coding": ("fleet/_coding.py", "fleet/_coding_work.py"),
    "command_line": ("cli", "__main__.py"),
    "drivers": ("_drivers.py",),
    "fleet": ("fleet/_spawned.py", "fleet/_failing.py", "fleet/_line_program.py"),
    "governance": ("governance",),
    "hosts": ("executors/_hosts", "executors/_engines.py"),
    "jobs": ("frontends/jobs",),
    "joblib": ("frontends/joblib.py",),
    "json_schema": ("policies/_json_schema.py",),
    "large_values": ("large_values.py",),
    "learning": ("adaptive",),
    "logs": ("logs.py",),
    "mcp": ("frontends/mcp",),
    "memo": ("memo",),
    "notices": ("_telling",),
    "people": ("frontends/people.py", "frontends/_whose.py"),
    "planner": ("planning",),
    "pools": ("frontends/resource_pools.py",),
    "postgres": (
        "journal/_postgres.py",
        "journal/_postgres_reading.py",
        "journal/_postgres_session.py",
        "journal/_postgres_silence.py",
        "journal/_postgres_tables.py",
    ),
    "proofs": ("proofs",),
    "questions": (
        "runs/_approvals.py",
        "questions",
    ),
    "reading": ("reading",),
    "recovery": ("recovery",),
    "retention": ("journal/_forgetting.py", "retention"),
    "schedules": ("schedules",),
    "service": ("frontends/service", "frontends/_incoming.py"),
    "simulation": ("simulation",),
    "steps": ("steps",),
    "suites": ("frontends/suite",),
    "task_files": ("frontends/workspace",),
    "telemetry": ("telemetry",),
    "testing": ("testing",),
    "tools": ("fleet/_tools.py", "fleet/_tool_server.py"),
    "verbs": ("verbs",),
    "wfformat": ("frontends/wfformat.py",),
    "workers": ("frontends/agent",),
}


@cache
def extension_of(place: str) -> str:
    """The extension that the file at *place*, below the package, belongs to; or ""."""
    for name, places in EXTENSIONS.items():
        if any(place == each or place.startswith(f"{each}/") for each in places):
            return name
    return ""


def copy_without(extensions: Iterable[str], folder: Path) -> Path:
    """
    Copy the package into *folder*, without the files of *extensions*.

    The files are links, those of compiled modules too, which need not be compiled anew.
    """
    gone = {SOURCE / place for name in extensions for place in EXTENSIONS[name]}
    modules = {(str(path.parent / "__pycache__"), path.stem) for path in gone}

    def is_gone(folder: str, name: str) -> bool:
        return Path(folder, name) in gone or (folder, name.partition(".")[0]) in modules

    package = folder / "taskorch"
    shutil.copytree(
        SOURCE,
        package,
        copy_function=os.symlink,
        ignore=lambda at, names: [name for name in names if is_gone(str(at), name)],
    )
    return package


def environment(package: Path) -> dict[str, str]:
    """The variables of a process that is to import *package* in the place of ours."""
    # What measures the coverage of our own children would come along.
    kept = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_")}
    return kept | {"PYTHONPATH": str(package.parent)}


def faults_of_acts(package: Path) -> dict[str, str]:
    """
    Which acts fail with *package*, and with what.

    "import" stands for all of them, and "log" for a module that only a thread missed.
    """
    done = subprocess.run(
        [sys.executable, "-P", str(ACTS)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        env=environment(package),
    )
    if not done.stdout:
        return {"import": done.stderr.strip().rpartition("\n")[2]}
    document = json.loads(done.stdout.splitlines()[-1])
    used = Path(document["package"]).parent
    assert used == package, f"the acts used {used} in the place of {package}"
    faults: dict[str, str] = document["failed"]
    missed = re.search("No module named 'taskorch[^']*'", done.stderr)
    return faults if faults or not missed else {"log": missed[0]}


def told_with(
    changes: Mapping[str, str], story: str, folder: Path, *words: object
) -> subprocess.CompletedProcess[str]:
    """Run the program *story* with a copy in *folder* in which files have other texts."""
    package = copy_without((), folder)
    for compiled in package.rglob("*.so"):
        compiled.unlink()
    for place, text in changes.items():
        (package / place).unlink()
        (package / place).write_text(text, "utf-8")
    script = folder / "story.py"
    script.write_text(story, "utf-8")
    ours = {k: v for k, v in os.environ.items() if not k.startswith("TASKORCH_")}
    return subprocess.run(
        [sys.executable, script, *map(str, words)],
        cwd=folder,
        env={**ours, "PYTHONPATH": f"{folder}{os.pathsep}{SOURCE.parents[1]}"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
