"""
The steps of `make release` that are no commands: cut, and look at what is packed.

    python .ci/releasing.py cut 1.0.0rc1
    python .ci/releasing.py check 1.0.0rc1
"""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable
from datetime import UTC, date, datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)(?:(a|b|rc)(\d+))?")
_IN_CODE = re.compile(r'^__version__ = "(.*)"$', re.MULTILINE)
_UNRELEASED = "## [Unreleased]\n"
#: Folders of which all that git knows is in the sdist.
_FOLDERS = ("src/", "tests/", "examples/", "benchmarks/", "docs/", ".ci/")


class ReleaseError(Exception):
    """Why there is no release, and what to do."""


def order(version: str) -> tuple[int, int, int, str, int]:
    """
    The place of a version among others: `1.0.0rc1` comes before `1.0.0`.

    Raises:
        ReleaseError: It is no version.
    """
    match = _VERSION.fullmatch(version)
    if match is None:
        msg = f"{version!r} is no version: make release VERSION=1.0.0, or 1.0.0rc1"
        raise ReleaseError(msg)
    major, minor, patch, stage, number = match.groups()
    return int(major), int(minor), int(patch), stage or "z", int(number or 0)


def cut(code: str, changelog: str, version: str, today: date) -> tuple[str, str]:
    """
    The code and the changelog of a *version*.

    Raises:
        ReleaseError: There is a later one, or nothing has changed since.
    """
    had = _IN_CODE.search(code)
    if had is None:
        msg = "src/taskorch/__init__.py says no version"
        raise ReleaseError(msg)
    if order(version) <= order(had[1]):
        msg = f"{version} does not come after {had[1]}, which the code says"
        raise ReleaseError(msg)
    head, mark, rest = changelog.partition(_UNRELEASED)
    changes = rest.partition("\n## [")[0]
    if not mark or not changes.strip():
        msg = (
            "CHANGELOG.md says nothing below [Unreleased]: there is nothing to release"
        )
        raise ReleaseError(msg)
    section = f"{_UNRELEASED}\n## [{version}] - {today.isoformat()}\n"
    return _IN_CODE.sub(f'__version__ = "{version}"', code), f"{head}{section}{rest}"


def faults(version: str, dist: Path, known: Iterable[str]) -> list[str]:
    """What is wrong with the files in *dist*; *known* are those that git has."""
    wrong: list[str] = []
    sources = {each for each in known if each.startswith(_FOLDERS)}
    package = {
        each.removeprefix("src/")
        for each in sources
        if each.startswith("src/taskorch/")
    }
    sdist = dist / f"taskorch-{version}.tar.gz"
    wheels = sorted(dist.glob(f"taskorch-{version}-*.whl"))
    if not sdist.exists():
        wrong.append(f"{sdist.name} is not there")
    else:
        with tarfile.open(sdist) as archive:
            packed = {each.name.partition("/")[2] for each in archive if each.isfile()}
        wrong += [f"{sdist.name} lacks {each}" for each in sorted(sources - packed)]
    if not any(each.name.endswith("-none-any.whl") for each in wheels):
        wrong.append("the wheel for every platform is not there")
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            names = set(archive.namelist())
        info = f"taskorch-{version}.dist-info/"
        code = {each for each in names if not each.startswith(info)}
        wrong += [f"{wheel.name} lacks {each}" for each in sorted(package - code)]
        wrong += [
            f"{wheel.name} has {each}, which nobody is promised"
            for each in sorted(code - package)
            if not each.endswith((".so", ".pyd"))
        ]
        for needed in ("METADATA", "entry_points.txt", "licenses/LICENSE"):
            if info + needed not in names:
                wrong.append(f"{wheel.name} lacks {needed}")
    return wrong


def main(arguments: list[str]) -> int:
    """Do the step that is named; return the exit code."""
    step, version = arguments
    init, changelog = ROOT / "src/taskorch/__init__.py", ROOT / "CHANGELOG.md"
    try:
        if step == "cut":
            texts = cut(
                init.read_text("utf-8"),
                changelog.read_text("utf-8"),
                version,
                datetime.now(UTC).date(),
            )
            init.write_text(texts[0], "utf-8")
            changelog.write_text(texts[1], "utf-8")
            return 0
        listed = subprocess.run(
            ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        wrong = faults(version, ROOT / "dist", listed.stdout.splitlines())
    except ReleaseError as error:
        wrong = [str(error)]
    for each in wrong:
        print(each, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
