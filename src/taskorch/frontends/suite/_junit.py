"""The final report as JUnit XML, which every service for tests reads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from xml.etree import ElementTree as ET

from taskorch.frontends.suite._report import SuiteReport, TaskPart
from taskorch.frontends.suite._results import BAD

#: The outcomes that XML knows as skipped.
_SKIPPED: Final = ("skipped", "xfailed", "not_run")
#: Characters that XML cannot say.
_UNSAYABLE: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(report: SuiteReport) -> str:
    """
    The report as JUnit XML: a suite for each task, and a case for each test.

    A task that is a command without tests is one case, and so is a failure of a task
    that none of its tests explains. Of a task in shards the tests stand with these; it
    stands there itself only if it has failed, and none of its shards has. It follows
    the strictest schema that is in use: each suite has all attributes, and its parts
    stand in order.
    """
    root = ET.Element("testsuites")
    bad = {task.part_of for task in report.tasks if not task.has_passed}
    split = {task.part_of for task in report.tasks}
    # Its parts say it all, unless all of them have passed, and the whole has not.
    shown = [
        one
        for one in report.tasks
        if one.id not in split or not (one.has_passed or one.id in bad)
    ]
    for number, task in enumerate(shown):
        _suite(root, number, task, report)
    ET.indent(root)
    text = ET.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'


def _suite(root: ET.Element, number: int, task: TaskPart, report: SuiteReport) -> None:
    cases = [*task.tests]
    explained = any(test["outcome"] in BAD for test in cases)
    if not cases or (not task.has_passed and not explained):
        cases.append(_whole(task))
    kinds = [test["outcome"] for test in cases]
    began = [one.start for one in report.slices if one.task == task.id]
    moment = datetime.fromtimestamp(min(began, default=report.started or 0.0), UTC)
    suite = ET.SubElement(
        root,
        "testsuite",
        {
            "id": str(number),
            "name": _said(
                f"{task.id} {task.name}" if task.name != task.id else task.id
            ),
            "package": _said(task.phase),
            "timestamp": f"{moment:%Y-%m-%dT%H:%M:%S}",
            "hostname": "localhost",
            "tests": str(len(cases)),
            "failures": str(kinds.count("failed")),
            "errors": str(kinds.count("error")),
            "skipped": str(sum(map(kinds.count, _SKIPPED))),
            "time": f"{task.seconds:.3f}",
        },
    )
    properties = ET.SubElement(suite, "properties")
    for name, value in (("agent", task.agent), ("attempts", str(task.attempts))):
        attributes = {"name": name, "value": _said(value) or "none"}
        ET.SubElement(properties, "property", attributes)
    for test in cases:
        _case(suite, test)
    ET.SubElement(suite, "system-out")
    ET.SubElement(suite, "system-err").text = _said(task.error)


def _whole(task: TaskPart) -> Mapping[str, Any]:
    """A task as one test."""
    outcome = {"blocked": "skipped", "cancelled": "skipped"}.get(task.status, "error")
    why = f"because of {', '.join(task.because)}" if task.because else task.error
    return {
        "id": f"{task.phase}::{task.id}",
        "outcome": "passed" if task.has_passed else outcome,
        "seconds": task.seconds,
        "message": why,
        "text": task.error,
    }


def _case(suite: ET.Element, test: Mapping[str, Any]) -> None:
    place, name = _parts(test["id"], test.get("function", ""))
    where = _dotted(place)
    if not place and name.endswith(".py"):
        # A file that was skipped as a whole.
        where, _, name = _dotted(name).rpartition(".")
    case = ET.SubElement(
        suite,
        "testcase",
        {
            "name": _said(name) or "unnamed",
            "classname": _said(where) or "tests",
            "time": f"{test['seconds']:.3f}",
        },
    )
    outcome, message = test["outcome"], _said(test.get("message", ""))
    if outcome in BAD:
        tag = "failure" if outcome == "failed" else "error"
        mark = ET.SubElement(case, tag, {"message": message, "type": outcome})
        printed = test.get("output", "")
        mark.text = _said("\n".join(filter(None, (test.get("text", ""), printed))))
    elif outcome in _SKIPPED:
        # The schema has no attribute for what is more than that.
        if outcome == "xfailed":
            message = f"expected to fail: {message}".removesuffix(": ")
        elif outcome == "not_run":
            message = "not run: the run has ended before"
        ET.SubElement(case, "skipped", {"message": message})


def _parts(test_id: str, function: str) -> tuple[str, str]:
    """The file or class of a test, and its name, which may contain `::`."""
    if function and test_id.endswith(f"::{function}"):
        return test_id.removesuffix(f"::{function}"), function
    file, _, inner = test_id.partition("::")
    inner, bracket, parameters = inner.partition("[")
    classes, _, name = inner.rpartition("::")
    if not name:
        return "", test_id
    place = f"{file}::{classes}" if classes else file
    return place, f"{name}{bracket}{parameters}"


def _dotted(place: str) -> str:
    """A file and a class as others write it: `tests/test_a.py::TestB` is dotted."""
    file, _, inner = place.partition("::")
    dotted = file.removesuffix(".py").replace("/", ".")
    return f"{dotted}.{inner.replace('::', '.')}" if inner else dotted


def _said(text: str) -> str:
    return _UNSAYABLE.sub("\ufffd", text)
