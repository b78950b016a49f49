"""The results of commands: what is read, and what is refused."""

import pytest

from taskorch.ext.suites._judging import Counts
from taskorch.ext.suites._results import (
    ResultsError,
    TestRecord,
    counts_of,
    read_json,
    read_junit,
)


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "results"
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "is no XML"),
        ("<a", "is no XML"),
        ("<html/>", "is no JUnit report: it begins with <html>"),
        ("<!DOCTYPE a [<!ENTITY b 'c'>]><testsuite/>", "no document type"),
    ],
)
def test_what_is_no_junit_report(text, part, write):
    with pytest.raises(ResultsError, match=part):
        read_junit(write(text))


def test_entities_are_refused_in_any_encoding(tmp_path):
    path = tmp_path / "results"
    declared = (
        "<!DOCTYPE a [<!ENTITY b 'c'>]><testsuite><testcase name='&b;'/></testsuite>"
    )
    for encoding in ("utf-8", "utf-16", "iso-8859-1"):
        head = f'<?xml version="1.0" encoding="{encoding}"?>'
        path.write_bytes((head + declared).encode(encoding))
        with pytest.raises(ResultsError, match="declares no document type"):
            read_junit(path)


def test_what_a_test_has_printed_declares_nothing(write):
    page = "<!DOCTYPE html><!ENTITY b 'c'>"
    case = f'<testcase name="a"><system-out><![CDATA[{page}]]></system-out></testcase>'
    (test,) = read_junit(write(f"<testsuite>{case}</testsuite>"))
    assert (test.outcome, test.output) == ("passed", page)


def test_a_report_in_another_encoding_is_read(tmp_path):
    path = tmp_path / "results"
    for encoding in ("utf-16", "iso-8859-1"):
        head = f'<?xml version="1.0" encoding="{encoding}"?>'
        text = f'{head}<testsuite><testcase name="é"/></testsuite>'
        path.write_bytes(text.encode(encoding))
        assert [test.id for test in read_junit(path)] == ["é"]


def test_suites_stand_in_suites_and_cases_without_one(write):
    depth = 2_000
    inner = depth * "<testsuite>" + '<testcase name="a"/>' + depth * "</testsuite>"
    tests = read_junit(write(f'<testsuites>{inner}<testcase name="b"/></testsuites>'))
    assert [test.id for test in tests] == ["a", "b"]


def test_a_report_that_is_not_there(tmp_path):
    with pytest.raises(ResultsError, match=r"has left no results: .*No such file"):
        read_junit(tmp_path / "none.xml")


def test_a_report_that_is_too_large(write, monkeypatch):
    monkeypatch.setattr("taskorch.ext.suites._results._MAX_SIZE", 10)
    with pytest.raises(ResultsError, match="more than the 10 bytes"):
        read_junit(write("<testsuite></testsuite>"))


def test_a_junit_report_is_read(write):
    text = """<testsuite>
      <testcase classname="a.b" name="c" file="a/b.py" line="3" time="odd">
        <error type="E">trace</error></testcase>
      <testcase file="x.js" name="y"><skipped/></testcase>
    </testsuite>"""
    tests = read_junit(write(text))
    assert tests == [
        TestRecord("a.b::c", "error", 0.0, "", "trace", "", "a/b.py", 3, "c"),
        TestRecord("x.js::y", "skipped", file="x.js", function="y"),
    ]
    assert counts_of(tests) == Counts(errors=1, skipped=1)


@pytest.mark.parametrize("number", ["inf", "nan", "1e999", "-1", "odd", "9" * 5_000])
def test_a_number_in_a_report_that_can_be_none_counts_for_nothing(number, write):
    case = f'<testcase name="a" file="a.py" time="{number}" line="{number}"/>'
    (test,) = read_junit(write(f"<testsuite>{case}</testsuite>"))
    assert (test.seconds, test.line) == (0.0, None)


@pytest.mark.parametrize(
    ("case", "outcome"),
    [
        ('<testcase status="run" result="completed"/>', "passed"),
        ('<testcase status="notrun" result="suppressed"/>', "skipped"),
        ('<testcase status="Not Run"/>', "skipped"),
        ('<testcase status="disabled"/>', "skipped"),
        ('<testcase status="ignored"/>', "skipped"),
        ('<testcase executed="False"/>', "skipped"),
        ('<testcase status="fail"/>', "failed"),
        ('<testcase status="run"><skipped/></testcase>', "skipped"),
        ("<testcase><ignored/></testcase>", "skipped"),
        ("<testcase><failure/><skipped/></testcase>", "failed"),
        ("<testcase><failure/><rerunFailure/></testcase>", "failed"),
        ("<testcase><error/><failure/></testcase>", "error"),
    ],
)
def test_how_other_runners_say_an_outcome(case, outcome, write):
    (test,) = read_junit(write(f"<testsuite>{case}</testsuite>"))
    assert (test.outcome, test.id) == (outcome, "unnamed")


def test_a_test_that_passed_when_it_was_repeated_is_flaky(write):
    text = (
        '<x:testsuites xmlns:x="urn:x"><x:testsuite><x:testcase name="a">'
        '<x:flakyFailure message="once"/></x:testcase></x:testsuite></x:testsuites>'
    )
    (test,) = read_junit(write(text))
    assert (test.outcome, test.is_flaky, test.message) == ("passed", True, "once")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("{", "is no JSON"),
        ("[1]", "an object is needed, not list"),
        ('{"passed": -1}', "passed is a count, not -1"),
        ('{"passed": true}', "passed is a count, not True"),
        ('{"test_results": {"failed": "1"}}', "failed is a count, not '1'"),
        ('{"coverage": "all"}', "coverage is a number from 0, not 'all'"),
        ("[" * 100_000, "is no JSON"),
        ('{"speedup": Infinity}', "speedup is a number from 0, not inf"),
        ('{"coverage": NaN}', "coverage is a number from 0, not nan"),
        ('{"speedup": 1e999}', "speedup is a number from 0, not inf"),
        ('{"serial_seconds": 1' + 400 * "0" + "}", "serial_seconds is a number"),
        ('{"pass_rate": -0.1}', "pass_rate is a number from 0"),
    ],
)
def test_what_is_no_json_report(text, part, write):
    with pytest.raises(ResultsError, match=part):
        read_json(write(text))


def test_a_json_report_is_read(write):
    assert read_json(write('{"passed": 3, "xfailed": 1, "coverage": 0.5}')) == (
        Counts(passed=3, xfailed=1),
        {"coverage": 0.5},
    )
    assert read_json(write('{"serial_seconds": 3}')) == (None, {"serial_seconds": 3})


def test_a_record_is_written_without_what_says_nothing():
    record = TestRecord("a", "failed", 1.0, "no", properties={"x": 1})
    said = record.to_dict()
    assert said == {
        "id": "a",
        "outcome": "failed",
        "seconds": 1.0,
        "message": "no",
        "properties": {"x": 1},
    }
    assert TestRecord.of({**said, "unknown": 1}) == record
    assert record.is_bad
