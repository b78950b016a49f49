"""
Skip tests that need an extension whose folder somebody has removed: `make without NAME=views`.

The extensions that need it are gone, too, and are not imported here.
"""

import re
import sys
from pathlib import Path

import pytest

from taskorch import ext

SKIPPED = pytest.StashKey()


def needed_by(name):
    """What the files of an extension import as they are loaded."""
    files = Path(*ext.__path__, name).rglob("*.py")
    found = "".join(file.read_text("utf-8") for file in files)
    return re.findall(r"^from taskorch\.ext\.(\w+)", found, re.MULTILINE)


#: The extensions that are gone, of those that the map names.
NAMES = re.findall(r"`(\w+)`", ext.__doc__)
GONE = [name for name in NAMES if not Path(*ext.__path__, name).exists()]
assert GONE, "all extensions are there"
while more := [n for n in {*NAMES} - {*GONE} if {*needed_by(n)} & {*GONE}]:
    GONE += more
for name in GONE:
    vars(ext).pop(name, None)
    for module in [*sys.modules]:
        if f"{module}.".startswith(f"taskorch.ext.{name}."):
            sys.modules[module] = None


def pytest_ignore_collect(collection_path):
    """Leave out the tests of what is gone."""
    return (
        collection_path.parent.name == "ext" and collection_path.name in GONE
    ) or None


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    needed = {name for marker in item.iter_markers("needs") for name in marker.args}
    if needed & {*GONE}:
        pytest.skip(f"it needs {needed}")


def skip_what_is_gone(report):
    """Skip what failed since it needs an extension whose folder somebody has removed."""
    told = [text for _, text in report.sections]
    told += re.findall("^E .*", report.longreprtext, re.MULTILINE)
    names = "|".join(GONE)
    # pytest keeps modules of tests that could not be imported.
    gone = rf"(?:taskorch|tests)\.ext\.(?:{names})\b|import name '(?:{names})'"
    gone += "|import name '\\w+' from 'tests\\."
    if report.failed and (found := re.search(gone, "\n".join(told))):
        report.outcome = "skipped"
        report.longrepr = report.nodeid, 0, f"Skipped: {found[0]} is gone"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    report = skip_what_is_gone((yield))
    # What follows it expects that the test has come to its end.
    if report.failed and item.stash.get(SKIPPED, False):
        report.outcome = "skipped"
        report.longrepr = item.nodeid, 0, "Skipped: as above"
    item.stash[SKIPPED] = report.skipped
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report():
    return skip_what_is_gone((yield))
