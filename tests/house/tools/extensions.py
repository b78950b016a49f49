"""
The extensions that there are, and copies of the package without them.

The core takes tasks in, starts them within limits, ends them, and keeps the facts. All
else is an extension: whoever does not use it could delete its files. Each is
a folder of `ext`, and `tests/house/packaging/test_extensions.py` deletes them.

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
    **{
        folder.parent.name: (f"ext/{folder.parent.name}",)
        for folder in sorted(SOURCE.glob("ext/*/__init__.py"))
    },
    "command_line": ("ext/command_line", "__main__.py"),
    "testing": ("testing",),
    "verbs": ("api/verbs",),
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
