"""
Runs the whole test suite of networkx, 265 files, as `taskorch suite run` does.

`networkx.yaml` beside this file says what is run: three phases, each of which begins
when all of the one before has passed, as tasks in long-lived pytest processes. The
second run deals the tests by what they took in the first.

    python examples/test_suite.py              progress and a page, then a report
    python examples/test_suite.py --stay       the page stays until Ctrl-C
    python examples/test_suite.py --compare    then a plain pytest run to compare with

Stop it with Ctrl-C, or kill it with `kill -9`: the next run goes on where it was.
It exits with 1 if a test failed, or if what became of any is not as in the plain run.
"""

import hashlib
import os
import subprocess
import sys
import time
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree as ET
from zipfile import ZipFile

from taskorch.ext.command_line import main as taskorch

CONFIG = Path(__file__).with_name("networkx.yaml")
HOME = Path(__file__).resolve().parents[1] / ".demo"
SITE = HOME / "networkx-3.6.1"  # the unpacked wheel: it brings its tests along
RUN = HOME / "run"  # the reports, the logs, and the journal of a run that is under way
SHA256 = "d47fbf302e7d9cbbb9e2555a0d267983d2aa476bac30e90dfbe5669bd57f3762"
NAMES = {"failure": "failed", "error": "error", "skipped": "skipped"}
PLAIN = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]


def fetch() -> None:
    """Download and unpack the pinned wheel, unless that is done already."""
    if (SITE / "pytest.ini").exists():
        return
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--dest", str(HOME), "networkx==3.6.1"], check=True)
    wheel = HOME / "networkx-3.6.1-py3-none-any.whl"
    if hashlib.sha256(wheel.read_bytes()).hexdigest() != SHA256:
        sys.exit(f"{wheel} is not the file that was published")
    ZipFile(wheel).extractall(SITE)
    # Without a configuration of its own, pytest would take this repository's.
    (SITE / "pytest.ini").write_text("[pytest]\n")


def outcomes(report: Path) -> dict[str, str]:
    """What became of each test, by a report in JUnit's XML."""
    found: dict[str, str] = {}
    for case in ET.parse(report).iter("testcase"):
        marks = [NAMES[mark.tag] for mark in case if mark.tag in NAMES]
        names = case.get("classname"), case.get("name")
        found[".".join(filter(None, names))] = ", ".join(marks) or "passed"
    return found


def compare(seconds: float) -> bool:
    """Whether a plain run of pytest comes to the same, test by test."""
    report = HOME / "plain.xml"
    start = time.monotonic()
    subprocess.run(
        [*PLAIN, f"--junit-xml={report}", "networkx"],
        cwd=SITE,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        check=False,
    )
    runs = {
        f"taskorch, {seconds:.0f} s": outcomes(RUN / "report.xml"),
        f"plain pytest, {time.monotonic() - start:.0f} s": outcomes(report),
    }
    for name, found in runs.items():
        print(f"{name}: {len(found):,} tests, {dict(Counter(found.values()))}")
    ours, plain = runs.values()
    for test in sorted(ours.keys() | plain.keys()):
        if ours.get(test) != plain.get(test):
            print(f"{test}: {ours.get(test)}, and plainly {plain.get(test)}")
    return ours == plain


def main() -> int:
    fetch()
    start = time.monotonic()
    # The page needs the extra `serve`.
    page = ["--page"] if find_spec("uvicorn") else []
    page += [word for word in sys.argv[1:] if word == "--stay"]
    code = taskorch(["suite", "run", str(CONFIG), "--output", str(RUN), *page])
    if code == 0 and "--compare" in sys.argv:
        return 0 if compare(time.monotonic() - start) else 1
    return code


if __name__ == "__main__":
    sys.exit(main())
