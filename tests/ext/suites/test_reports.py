"""The final report: the same facts in JSON, JUnit XML, Markdown and on a page."""

import json
import re
from datetime import datetime
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import pytest

from taskorch.ext.suites import load
from taskorch.ext.suites._folder import History, RunFolder
from taskorch.ext.suites._formats import junit, written
from taskorch.ext.suites._judging import Counts
from taskorch.ext.suites._report import Slice, SuiteReport, TaskPart
from taskorch.ext.suites._running import run

NASTY = "</pre><script>alert(1)</script> `a|b` \x1b[31m \x00 ]]> é \ud800"


def outcome_of(name, outcome="passed", seconds=0.1, **more):
    return {"id": name, "outcome": outcome, "seconds": seconds, **more}


REPORT = SuiteReport(
    suite="nightly",
    passed=False,
    started=1_000.0,
    seconds=100.0,
    work=150.0,
    phases={"one": False, "two": False},
    over_time=("one",),
    tasks=(
        TaskPart(
            *("A", "Model tests", "one", "completed_success", "agent_001", 2, 60.0),
            counts=Counts(passed=2, xfailed=1),
            coverage=0.5,
            tests=(
                outcome_of("t/test_a.py::test_x", seconds=9.0),
                outcome_of("t/test_a.py::K::test_y", seconds=2.0),
                outcome_of("t/test_a.py::test_z", "xfailed", message="known"),
            ),
            flaky=("t/test_a.py::test_x",),
        ),
        TaskPart(
            *("B", "B", "one", "completed_failure", "agent_002", 1, 40.0),
            counts=Counts(failed=1, errors=1, skipped=1),
            error="pass_rate is 0 (0 of 2), and at least 1 is asked for\nmore",
            tests=(
                outcome_of(
                    "t/test_b.py::test_bad", "failed", message=NASTY, text=NASTY
                ),
                outcome_of(
                    "t/test_b.py", "error", message="no module", output="printed"
                ),
                outcome_of("t/test_b.py::test_s", "skipped", message="not here"),
            ),
        ),
        TaskPart("C", "C", "two", "blocked", because=("B",)),
        TaskPart(
            *("D", "D", "two", "completed_failure", "agent_001", 1, 5.0),
            error="it exited with 3",
        ),
    ),
    slices=(
        Slice("A", 1, "agent_001", 1_000.0, 1_030.0, "retrying"),
        Slice("A", 2, "agent_001", 1_030.0, 1_060.0, "completed"),
        Slice("B", 1, "agent_002", 1_000.0, 1_040.0, "failed"),
        Slice("D", 1, "agent_001", 1_099.999, 1_100.0, "failed"),
    ),
    covered=(5, 10),
)
NOTHING = SuiteReport("none", True, None, 0.0, 0.0, {}, (), (), ())


def test_the_formats_and_their_order():
    """Whoever finds the JSON knows that the others are there."""
    assert list(written(REPORT)) == ["html", "md", "xml", "json"]


# -- JUnit -------------------------------------------------------------------------

#: The strictest schema in use, that of Apache Ant: which attributes an element has, and
#: what stands in each; then which elements are in it, in this order, and how many.
#: https://github.com/windyroad/JUnit-Schema
INT, DECIMAL, ANY, SOME = (
    r"-?[0-9]+",
    r"-?[0-9]+(\.[0-9]+)?",
    r"(?s:.*)",
    r"(?s:.*\S.*)",
)
MARK = ({"message": ANY, "type": ANY}, "")
SCHEMA = {
    "testsuites": ({}, "(testsuite )*"),
    "testsuite": (
        {
            "id": INT,
            "package": ANY,
            "name": SOME,
            "hostname": SOME,
            "timestamp": r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}",
            "tests": INT,
            "failures": INT,
            "errors": INT,
            "skipped": INT,
            "time": DECIMAL,
        },
        "properties (testcase )*system-out system-err ",
    ),
    "properties": ({}, "(property )*"),
    "property": ({"name": SOME, "value": ANY}, ""),
    "testcase": (
        {"name": ANY, "classname": ANY, "time": DECIMAL},
        "(skipped |error |failure )?",
    ),
    "skipped": ({"message": ANY}, ""),
    "error": MARK,
    "failure": MARK,
    "system-out": ({}, ""),
    "system-err": ({}, ""),
}


def check_junit(text):
    root = ET.fromstring(text)
    assert root.tag == "testsuites"
    for element in root.iter():
        attributes, children = SCHEMA[element.tag]
        assert element.attrib.keys() == attributes.keys()
        for name, value in element.attrib.items():
            assert re.fullmatch(attributes[name], value), (element.tag, name, value)
        assert re.fullmatch(children, "".join(f"{child.tag} " for child in element))
    for number, suite in enumerate(root):
        assert suite.get("id") == str(number)
        datetime.fromisoformat(suite.get("timestamp"))
        assert int(suite.get("tests")) == len(suite.findall("testcase"))
        for name in ("failure", "error", "skipped"):
            count = suite.get({"skipped": "skipped"}.get(name, f"{name}s"))
            assert int(count) == len(suite.findall(f"testcase/{name}"))
        assert all(case.get("name") for case in suite.findall("testcase"))
        assert all(case.get("classname") for case in suite.findall("testcase"))
    return root


def test_junit_xml_is_as_the_strictest_schema_wants_it():
    root = check_junit(junit(REPORT))
    names = {
        f"{case.get('classname')}.{case.get('name')}" for case in root.iter("testcase")
    }
    assert {"t.test_a.test_x", "t.test_a.K.test_y", "one.B", "two.C"} - names == {
        "one.B"
    }
    # What no test explains is a case of its own; what never began was skipped.
    by_name = {case.get("name"): case for case in root.iter("testcase")}
    assert by_name["D"].find("error").get("message") == "it exited with 3"
    assert by_name["C"].find("skipped").get("message") == "because of B"
    assert by_name["test_z"].find("skipped").get("message") == "expected to fail: known"
    bad = by_name["test_bad"].find("failure")
    assert "<script>" in bad.text
    assert "\x1b" not in bad.text
    check_junit(junit(NOTHING))


# -- Markdown ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("test", "place", "name"),
    [
        ({"id": "t/test_a.py::test_p[a::b]"}, "t.test_a", "test_p[a::b]"),
        ({"id": "t/test_a.py::K::In::test_p[[::]"}, "t.test_a.K.In", "test_p[[::]"),
        ({"id": "t[1]/test_a.py::test_p[x]"}, "t[1].test_a", "test_p[x]"),
        ({"id": "S::Foo::bar", "function": "Foo::bar"}, "S", "Foo::bar"),
    ],
)
def test_colons_in_a_name_are_part_of_it_in_junit_xml(test, place, name):
    test = {"outcome": "passed", "seconds": 0.0, **test}
    part = TaskPart("A", "A", "one", "completed_success", tests=(test,))
    xml = written(SuiteReport("s", True, None, 0.0, 0.0, {}, (), (part,), ()))["xml"]
    (case,) = ET.fromstring(xml).iter("testcase")
    assert (case.get("classname"), case.get("name")) == (place, name)


def test_markdown_says_what_matters_and_nothing_in_it_is_obeyed():
    text = written(REPORT)["md"]
    assert text.startswith("# nightly: failed\n")
    assert (
        "1 of 4 tasks succeeded: 2 passed, 1 failed, 1 error, 1 skipped, 1 xfailed"
        in text
    )
    assert "50.0% of the lines are covered; 1 min 40 s (2 min 30 s of work)." in text
    assert "| two | C | never began, because of B | - | - | 0 | - |" in text
    assert "Phase one took longer than it may." in text
    assert "- D: it exited with 3" in text
    assert "| t/test_a.py::test_x | A | 9 s |" in text
    assert "\x1b" not in text
    assert "\n    </pre><script>" in text  # a block of code, as it stands
    assert written(NOTHING)["md"].startswith("# none: passed\n")


def test_many_failures_are_shown_in_part():
    tests = tuple(outcome_of(f"t::{n}", "failed") for n in range(30))
    task = TaskPart("A", "A", "p", "completed_failure", "a", 1, tests=tests)
    report = SuiteReport("s", False, 0.0, 0.0, 0.0, {}, (), (task,), ())
    assert written(report)["md"].count("### ") == 20
    assert "… and 10 more" in written(report)["md"]


# -- HTML --------------------------------------------------------------------------


class Page(HTMLParser):
    """What a page has, and that what is opened is closed."""

    EMPTY = frozenset({"meta", "line", "rect"})

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.links, self.text = [], [], [], ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_the_colours_of_the_timeline_are_explained():
    page = Page(written(REPORT)["html"])
    assert (
        "4 attempts:\n\u25a0 completed\n\u25a0 retrying\n\u25a0 failed\n" in page.text
    )
    assert "\u25a0 cancelled" not in page.text


# -- flaky tests, coverage and what later runs learn -------------------------------

SUITE_YAML = """\
templates:
  t: {pytest: [-q], coverage: [pkg], arguments: {A: [test_a.py], B: [test_b.py]}}
failure_handling: {max_retries: 1}
agent_limits: {max_agents: 1}
orchestrator:
  task_definitions: {unit_tests: [{id: A, template: t}, {id: B, template: t}]}
"""


@pytest.fixture(scope="module")
def flaky(tmp_path_factory):
    here = tmp_path_factory.mktemp("flaky")
    (here / "suite.yaml").write_text(SUITE_YAML)
    (here / "pytest.ini").write_text("[pytest]\n")
    (here / "pkg.py").write_text(
        "def f(x):\n    if x:\n        return 1\n    return 2\n"
    )
    (here / "test_a.py").write_text(
        "import os, pkg\n"
        "def test_luck():\n"
        "    there = os.path.exists('luck')\n"
        "    open('luck', 'w').close()\n"
        "    assert there\n"
        "def test_plain():\n    assert pkg.f(1) == 1\n"
    )
    (here / "test_b.py").write_text(
        "import pkg\ndef test_b():\n    assert pkg.f(0) == 2\n"
    )
    return run(load(here / "suite.yaml"), here / "out"), RunFolder(here / "out")


@pytest.mark.slow("runs a suite of pytest")
def test_a_test_that_failed_and_then_passed_unchanged_is_named(flaky):
    report, _ = flaky
    assert report.passed
    assert report.flaky == ["test_a.py::test_luck"]
    assert "test_a.py::test_luck" in written(report)["md"].split("## Flaky")[1]


def test_coverage_is_that_of_all_tasks_together(flaky):
    report, folder = flaky
    assert [task.coverage for task in report.tasks] == [0.75, 0.75]
    assert report.covered == (4, 4)
    assert (folder.path / "coverage.json").exists()


def test_coverage_that_was_asked_for_and_not_measured_is_said(tmp_path):
    (tmp_path / "suite.yaml").write_text(SUITE_YAML.replace("[pkg]", "[elsewhere]"))
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_a.py").write_text("def test_a(): pass\n")
    (tmp_path / "test_b.py").write_text("def test_b(): pass\n")
    report = run(load(tmp_path / "suite.yaml"), tmp_path / "out")
    assert (report.passed, report.coverage) == (True, None)
    assert "2 passed; no coverage was measured of A, B; " in report.headline


def test_later_runs_know_how_long_things_took(flaky):
    _, folder = flaky
    history = History.read(folder.history)
    assert set(history.tasks) == {"A", "B"}
    assert history.recent == {
        # It failed, and then passed without a change.
        "test_a.py::test_luck": "~",
        "test_a.py::test_plain": "p",
        "test_b.py::test_b": "p",
    }


def test_the_timeline_has_every_attempt(flaky):
    report, _ = flaky
    bars = sorted((one.task, one.attempt, one.outcome) for one in report.slices)
    assert bars == [("A", 1, "retrying"), ("A", 2, "completed"), ("B", 1, "completed")]


def test_a_history_that_is_broken_is_none(tmp_path):
    path = tmp_path / "history.json"
    for text in ("", "[]", '{"tasks": 1}', '{"tasks": {"a": "x"}}'):
        path.write_text(text)
        assert History.read(path) == History()


def test_newer_times_weigh_more():
    history = History()
    found = {"task_id": "A", "tests": [outcome_of("t", seconds=1.0)]}
    history.learn([{**found, "duration_seconds": 10.0}])
    assert history.tasks == {"A": 10.0}
    history.learn([{**found, "duration_seconds": 20.0}])
    assert history.tasks == {"A": 15.0}
    for _ in range(20):
        history.learn([{**found, "duration_seconds": 20.0}])
    assert history.recent["t"] == "p" * 10


WHOLE = """\
templates:
  sh:
    command: [sh, -c, 'cp tests.json {artifacts}/$0.json; test ! -e $0.fails', "{id}"]
    results: "{artifacts}/{id}.json"
orchestrator:
  task_definitions:
    unit_tests:
      - {id: A, template: sh}
      - {id: B, template: sh, subtasks: [P, Q], dependencies: [A]}
      - {id: C, template: sh, dependencies: [B]}
"""


@pytest.mark.parametrize("fails", ["", "P", "A"])
def test_a_task_with_subtasks_has_its_report_its_message_and_its_artifacts(
    fails, tmp_path
):
    (tmp_path / "suite.yaml").write_text(WHOLE)
    (tmp_path / "tests.json").write_text('{"passed": 2, "skipped": 1}')
    if fails:
        (tmp_path / f"{fails}.fails").touch()
    out = tmp_path / "out"
    report = run(load(tmp_path / "suite.yaml"), out)
    tasks = {task.id: task for task in report.tasks}
    statuses = {
        "": ("completed_success", 4, "3 of 3"),
        "P": ("completed_failure", 3, "1 of 3"),
        "A": ("blocked", 1, "0 of 3"),
    }
    status, parts, said = statuses[fails]
    assert [*tasks] == ["A", "P", "Q", "B", "C"]
    assert tasks["B"].status == status
    assert tasks["P"].part_of == tasks["Q"].part_of == "B"
    assert report.headline.startswith(f"{said} tasks succeeded")
    # The tests of a part are counted once.
    assert report.counts.passed == 2 * parts
    lines = (out / "logs/messages.jsonl").read_text().splitlines()
    messages = [json.loads(line) for line in lines]
    ends = [m for m in messages if m["message_type"] == "task_completion"]
    (found,) = [m for m in ends if m["task_id"] == "B"] or [None]
    if fails == "A":
        # It never began: that is no end, and leaves nothing.
        assert found is None
        assert tasks["B"].because == ("A",)
        assert not (out / "artifacts/B_results.json").exists()
        return
    assert found["final_status"] == ("failed" if fails else "success")
    assert found["test_results"]["passed"] == 4
    for name in found["artifacts"]:
        assert json.loads((out / "artifacts" / name).read_text())
    assert len(found["artifacts"]) == 3
    assert tasks["B"].error == ("P did not succeed" if fails else "")
    assert tasks["B"].counts == Counts(passed=4, skipped=2)
    assert junit(report).count("<testsuite ") == 4
