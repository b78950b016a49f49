"""
Runs the suites of four libraries through `taskorch suite`, and by plain pytest.

blinker, h11, toolz and pluggy are downloaded as they were released. A suite is a file
of ten lines, and runs in two shards. What is compared is which tests there are, what
became of them, and how much of the library they cover.

    python examples/known_suites.py

It exits with 1 if anything differs.
"""

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from venv import EnvBuilder
from xml.etree import ElementTree as ET

from taskorch.ext import suites

HOME = Path(__file__).resolve().parents[1] / ".demo/suites"
PYTHON = HOME / "env/bin/python"
# Which release, where its tests are, and what pytest is told beside.
LIBRARIES: dict[str, tuple[str, str, list[str]]] = {
    "blinker": (
        "1.9.0",
        "tests",
        [
            "-p",
            "pytest_asyncio.plugin",
            "-o",
            "asyncio_default_fixture_loop_scope=function",
        ],
    ),
    "h11": ("0.16.0", "h11/tests", []),
    "toolz": ("1.2.0", "toolz/tests", []),
    "pluggy": ("1.7.0", "testing", []),
}
TOLERANCE = 0.1  # points of coverage
Found = tuple[list[tuple[str | None, ...]], float]
SUITE = """\
orchestrator:
  name: {name}
  task_definitions:
    unit_tests:
      - {{id: all, template: pytest, arguments: [{tests}], shards: 2}}
resource_allocation:
  unit_tests: {{cpu_cores: 1, memory_mb: 512, timeout_seconds: 600, max_parallel: 2}}
templates:
  pytest: {{pytest: {pytest}, coverage: [{name}], python: {python}}}
"""


def fetch() -> None:
    """Download and install the libraries, unless that is done already."""
    if (HOME / "ready").exists():
        return
    EnvBuilder(with_pip=True).create(HOME / "env")
    pip = [str(PYTHON), "-m", "pip", "--quiet"]
    for name, (version, *_) in LIBRARIES.items():
        release = ["--no-deps", "--no-binary", name, f"{name}=={version}"]
        subprocess.run([*pip, "download", "--dest", str(HOME), *release], check=True)
        with tarfile.open(HOME / f"{name}-{version}.tar.gz") as archive:
            archive.extractall(HOME, filter="data")
        subprocess.run([*pip, "install", "-e", str(folder_of(name))], check=True)
    # Without a configuration of its own, pytest would take this repository's.
    (folder_of("h11") / "pytest.ini").write_text("[pytest]\n")
    tools = ["pytest", "pytest-asyncio", "coverage"]
    subprocess.run([*pip, "install", *tools], check=True)
    (HOME / "ready").touch()


def folder_of(name: str) -> Path:
    return HOME / f"{name}-{LIBRARIES[name][0]}"


def through_taskorch(name: str, tests: str, options: list[str]) -> Found:
    folder = folder_of(name)
    text = SUITE.format(
        name=name, tests=tests, pytest=json.dumps(["-q", *options]), python=PYTHON
    )
    (folder / "suite.yaml").write_text(text)
    suites.run(suites.load(folder / "suite.yaml"), folder / "run", fresh=True)
    return found(folder / "run/report.xml", folder / "run/coverage.json")


def through_pytest(name: str, tests: str, options: list[str]) -> Found:
    folder = folder_of(name)
    measure = [str(PYTHON), "-m", "coverage"]
    data = f"--data-file={folder / 'plain.data'}"
    run = ["run", "-p", data, f"--source={name}", "-m", "pytest", "-q"]
    report = [*options, "--junit-xml=plain.xml", tests]
    steps = (
        [*run, *report],
        ["combine", "-q", data],
        ["json", "-q", data, "-o", "plain.json"],
    )
    for old in folder.glob("plain.*"):
        old.unlink()
    for step in steps:
        subprocess.run(
            [*measure, *step], cwd=folder, check=True, stdout=subprocess.DEVNULL
        )
    return found(folder / "plain.xml", folder / "plain.json")


def found(report: Path, coverage: Path) -> Found:
    """The tests with what became of them, and the percentage that they cover."""
    outcomes = sorted(
        (case.get("classname"), case.get("name"), *sorted(mark.tag for mark in case))
        for case in ET.parse(report).iter("testcase")
    )
    totals = json.loads(coverage.read_text())["totals"]
    return outcomes, totals["percent_covered"]


def main() -> int:
    fetch()
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    same = True
    for name, (version, tests, options) in LIBRARIES.items():
        ours = through_taskorch(name, tests, options)
        plain = through_pytest(name, tests, options)
        # What is imported a moment earlier or later may make a line of difference.
        same &= ours[0] == plain[0] and abs(ours[1] - plain[1]) <= TOLERANCE
        of = f"{name} {version}"
        for who, (cases, covered) in (("taskorch", ours), ("pytest", plain)):
            print(f"{of:15} {who:9} {len(cases):4} tests, {covered:.1f} % covered")
    print("the same" if same else "THEY DIFFER")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
