"""
The results that a test task left behind, and the kind of its failure.

Decision: libraries.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree as ET

import attrs

from taskorch.errors import ProgramFailedError, TaskFailedError, TaskFailure
from taskorch.ext.recovery import FailureClass, classify
from taskorch.ext.suites._judging import Counts
from taskorch.kit.checks import is_number
from taskorch.kit.visible import after_cut, show
from taskorch.model import ProgramResult

#: The most bytes of a file of results.
_MAX_SIZE: Final = 1 << 26
#: The most digits of the number of a line: no file has more lines.
_LINE_DIGITS: Final = 12
#: The outcomes because of which a plain run fails.
BAD: Final = ("failed", "error")
#: The elements of a case in JUnit's XML that say an outcome, of which the worst counts.
_MARKS: Final = {
    "error": "error",
    "failure": "failed",
    "rerunError": "error",
    "rerunFailure": "failed",
    **dict.fromkeys(("skipped", "disabled", "ignored", "notrun"), "skipped"),
}
_WORST: Final = ("error", "failed", "skipped")
#: The elements of a test that failed, and passed when it was repeated.
_FLAKY: Final = ("flakyFailure", "flakyError")
#: Words of outcomes in attributes of a case: `status`, and `result` of googletest.
_WORDS: Final = {
    **dict.fromkeys(("error", "errored", "broken", "aborted", "crashed"), "error"),
    **dict.fromkeys(("fail", "failed", "failure", "timeout"), "failed"),
    **dict.fromkeys(
        (
            *("notrun", "notexecuted", "disabled", "ignored", "suppressed"),
            *("skip", "skipped", "filtered", "pending", "todo", "inconclusive"),
        ),
        "skipped",
    ),
}
#: The numbers of tests that a file of JSON may have.
_NAMES: Final = tuple(attrs.fields_dict(Counts))
#: The measures that a file of JSON may have.
_NUMBERS: Final = (
    *("pass_rate", "coverage", "speedup", "memory_efficiency"),
    *("serial_seconds", "parallel_seconds"),
)


class ResultsError(TaskFailure):
    """A test task has left no results, or none that can be read."""

    code = "no_results"


@attrs.frozen
class TestRecord:
    """
    The result of one test.

    Attributes:
        id: Its id, as pytest writes it.
        outcome: `passed`, `failed`, `error`, `skipped`, `xfailed`, `xpassed`, or
            `not_run` of one that was to be run and never began.
        seconds: How long it took.
        message: Why it did not pass.
        text: The same at length.
        output: The output of the test.
        file: The file that it stands in.
        line: Where, from 1.
        function: The name of the test in its file.
        properties: The properties that the test recorded.
        failed_line: The line of the file that failed.
        is_flaky: Whether it has failed, and then passed, when it was repeated at once.
        failed_again: Whether it has failed when it was repeated at once, too.
    """

    __test__ = False

    id: str
    outcome: str
    seconds: float = 0.0
    message: str = ""
    text: str = ""
    output: str = ""
    file: str = ""
    line: int | None = None
    function: str = ""
    properties: Mapping[str, Any] = attrs.field(factory=dict, hash=False)
    failed_line: int | None = None
    is_flaky: bool = False
    failed_again: bool = False

    @property
    def is_bad(self) -> bool:
        """True if a plain run would fail because of this test."""
        return self.outcome in BAD

    @classmethod
    def of(cls, note: Mapping[str, Any]) -> TestRecord:
        """A record from a file that was written by `taskorch suite`."""
        names = {field.name for field in attrs.fields(cls)}
        return cls(**{name: value for name, value in note.items() if name in names})

    def to_dict(self) -> dict[str, Any]:
        """Itself, without what says nothing."""
        return attrs.asdict(
            self,
            filter=lambda field, value: field.name in _ALWAYS or value not in _NOTHING,
        )


_ALWAYS: Final = ("id", "outcome", "seconds")
_NOTHING: Final[tuple[Any, ...]] = (None, "", {}, False)


def counts_of(tests: Iterable[TestRecord]) -> Counts:
    """Return the number of tests by outcome."""
    numbers = Counter(test.outcome for test in tests)
    numbers["errors"] = numbers.pop("error", 0)
    return Counts(**numbers)


@attrs.frozen
class PytestResults:
    """
    The notes of our pytest plugin.

    Attributes:
        tests: Each test that was to be run, and each file that could not be.
        unended: The ids of those that had begun, and not ended.
        files: The files with tests: how they begin an id, their path and their number
            of tests.
        has_ended: Whether pytest itself has come to its end.
        paths: The places of the words that name files, among those that it was given;
            -1 stands for one that it has made itself.
    """

    tests: tuple[TestRecord, ...]
    unended: tuple[str, ...] = ()
    files: Mapping[str, tuple[str, int]] = attrs.field(factory=dict, hash=False)
    has_ended: bool = False
    paths: tuple[int, ...] = ()


def read_pytest(path: Path, now: float) -> PytestResults:
    """
    Read the notes that our pytest plugin wrote to *path* until *now*.

    Raises:
        ResultsError: It has noted nothing.
    """
    collected: dict[str, None] = {}
    began: dict[str, dict[str, Any]] = {}
    records: dict[str, TestRecord] = {}
    files: dict[str, tuple[str, int]] = {}
    paths: list[int] = []
    has_ended = False
    try:
        with path.open("rb") as lines:
            for line in lines:
                with suppress(ValueError):  # the last one, of a process that was killed
                    note = json.loads(line)
                    collected.update(dict.fromkeys(note.get("collected", ())))
                    files.update(note.get("files", {}))
                    paths = note.get("paths", paths)
                    for test in (note[n] for n in ("began", "ended") if n in note):
                        began[test["id"]] = test
                    if "ended" in note:
                        records[note["ended"]["id"]] = TestRecord.of(note["ended"])
                    has_ended = has_ended or "exit_code" in note
    except OSError as error:
        msg = f"pytest has left no results: {error.strerror}"
        raise ResultsError(msg) from None
    unended = [name for name in began if name not in records]
    for name in unended:
        test = began[name]
        seconds = max(0.0, now - test["at"])
        text = "it had not ended when pytest did"
        records[name] = TestRecord.of(
            {**test, "outcome": "error", "seconds": seconds, "message": text}
        )
    for name in collected:
        records.setdefault(name, TestRecord(name, "not_run"))
    return PytestResults(
        tuple(records.values()), tuple(unended), files, has_ended, tuple(paths)
    )


class _DoctypeError(Exception):
    """A document declares a type."""


class _TreeWithoutTypes(ET.TreeBuilder):
    """
    Builds the tree of a document that declares no type, and so no entities.

    Text in the file, such as HTML that a test printed, declares nothing.
    """

    def doctype(self, *_: str | None) -> None:
        """End at a declaration: in whichever encoding, the parser has read it."""
        raise _DoctypeError


def read_junit(path: Path) -> list[TestRecord]:
    """
    The tests of a report in JUnit's XML.

    Raises:
        ResultsError: There is no such file, or it is no such report.
    """
    try:
        parser = ET.XMLParser(target=_TreeWithoutTypes())  # noqa: S314 - see there
        root = ET.fromstring(_read(path), parser)  # noqa: S314 - likewise
    except _DoctypeError:
        msg = f"{path}: a report declares no document type and no entities"
        raise ResultsError(msg) from None
    except ET.ParseError as error:
        msg = f"{path} is no XML: {error}"
        raise ResultsError(msg) from None
    for element in root.iter():
        # Whatever name space it declares.
        element.tag = element.tag.rpartition("}")[2]
    if root.tag not in ("testsuites", "testsuite"):
        msg = f"{path} is no JUnit report: it begins with <{root.tag}>"
        raise ResultsError(msg)
    broken = [
        suite
        for suite in root.iter("testsuite")
        # Outside of its cases.
        if any(mark.tag in ("error", "failure") for mark in suite)
    ]
    return [_record(case) for case in (*root.iter("testcase"), *broken)]


def _record(case: ET.Element) -> TestRecord:
    """A case, or a suite that has failed as a whole."""
    marks = [mark for mark in case if mark.tag in _MARKS]
    marks.sort(key=lambda mark: _WORST.index(_MARKS[mark.tag]))
    flaky = [mark for mark in case if mark.tag in _FLAKY]
    outcome = "passed"
    message = text = ""
    for mark in (marks or flaky)[:1]:
        outcome = _MARKS.get(mark.tag, "passed")
        message, text = mark.get("message") or "", mark.text or ""
        if mark.get("type") == "pytest.xfail":
            outcome = "xfailed"
    if outcome == "passed":
        outcome = _outcome_by_attributes(case)
    place = case.get("classname") or case.get("file") or ""
    name = case.get("name") or "unnamed"
    line = case.get("line") or ""
    return TestRecord(
        f"{place}::{name}" if place else name,
        outcome,
        _seconds(case.get("time")),
        message,
        text,
        "".join(case.findtext(tag) or "" for tag in ("system-out", "system-err")),
        case.get("file") or "",
        int(line) if line.isdecimal() and len(line) <= _LINE_DIGITS else None,
        name,
        is_flaky=bool(flaky) and outcome == "passed",
    )


def _outcome_by_attributes(case: ET.Element) -> str:
    """The outcome of a case that has no element for it."""
    outcomes = {
        _WORDS.get(re.sub("[^a-z]", "", (case.get(name) or "").lower()))
        for name in ("status", "result")
    }
    if (case.get("executed") or "").lower() in ("false", "no", "0"):
        outcomes.add("skipped")
    return next((outcome for outcome in _WORST if outcome in outcomes), "passed")


def _seconds(text: str | None) -> float:
    try:
        seconds = float((text or "0").replace(",", ""))
    except ValueError:
        return 0.0
    return seconds if is_number(seconds, 0, sys.float_info.max) else 0.0


def read_json(path: Path) -> tuple[Counts | None, dict[str, float]]:
    """
    Return the numbers of tests and the measures that a command reports in JSON.

    Raises:
        ResultsError: There is no such file, or it is no such report.
    """
    try:
        document = json.loads(_read(path))
    except (ValueError, RecursionError) as error:
        msg = f"{path} is no JSON: {error}"
        raise ResultsError(msg) from None
    if not isinstance(document, dict):
        msg = f"{path}: an object is needed, not {type(document).__name__}"
        raise ResultsError(msg)
    about = document.get("test_results", document)
    counts = None
    if isinstance(about, dict) and any(name in about for name in _NAMES):
        counts = Counts(*(_count(path, name, about.get(name, 0)) for name in _NAMES))
    numbers = {n: _number(path, n, document[n]) for n in _NUMBERS if n in document}
    return counts, numbers


def _count(path: Path, name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        msg = f"{path}: {name} is a count, not {show(value)}"
        raise ResultsError(msg)
    return value


def _number(path: Path, name: str, value: object) -> float:
    if not is_number(value, 0, sys.float_info.max):
        msg = f"{path}: {name} is a number from 0, not {show(value)}"
        raise ResultsError(msg)
    return float(value)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_SIZE + 1)
    except OSError as error:
        msg = f"it has left no results: {path}: {error.strerror}"
        raise ResultsError(msg, hint="see results: of the template") from None
    if len(text) > _MAX_SIZE:
        msg = f"{path} has more than the {_MAX_SIZE:,} bytes that are read"
        raise ResultsError(msg)
    return text


#: Classes of the failures of one attempt, of which the first counts: what a repeat
#: helps least decides, since the others would fail with it.
_FIRST: Final = (
    *("logic_error", "calculation_error", "import_error", "permission_error"),
    *("memory_error", "unknown", "system_error", "timeout_error", "network_error"),
)
#: How the message of a failed test begins: with what was raised.
_RAISED: Final = re.compile(r"\s*((?:\w+\.)*[A-Z]\w*)(?:: ?(.*))?$", re.DOTALL)
#: The most bytes of a log that are looked at.
_MOST_LOG: Final = 16_384


def result_of(exit_code: int, log: Path, seconds: float) -> ProgramResult:
    """Return the result of a test task, in the form of that of a program."""
    return ProgramResult((), exit_code, end_of(log, _MOST_LOG), "", log, seconds)


def class_of_end(result: ProgramResult) -> FailureClass:
    """Return the class of failure of a program that ended with *result*."""
    error = ProgramFailedError("it has failed")
    error.result = result
    return classify(error)


def class_of_tests(tests: Iterable[TestRecord]) -> FailureClass:
    """Return the class of failure of these failed *tests*."""
    classes = {one.name: one for one in map(_class_of_test, tests)}
    return next(classes[name] for name in _FIRST if name in classes)


def _class_of_test(test: TestRecord) -> FailureClass:
    code = test.properties.get("process_exit_code")
    if isinstance(code, int):
        return class_of_end(ProgramResult((), code, "", "", None, test.seconds))
    message = test.message or test.text
    raised = _RAISED.match(message)
    if raised is None and message.lstrip().startswith("assert "):
        name, text = "AssertionError", message
    elif raised is None:
        name, text = "", message
    else:
        name, text = raised[1], raised[2] or ""
    error = TaskFailedError(text)
    error.type = name
    if not name or name.endswith("AssertionError"):
        # For other errors the message is enough, as a trace also quotes source code.
        error.traceback = test.text
    return classify(error)


def end_of(log: Path, size: int) -> str:
    """The last *size* bytes of a log, from a whole letter on; "": it has none."""
    try:
        with log.open("rb") as file:
            begin = file.seek(max(0, log.stat().st_size - size))
            data = file.read()
    except OSError:
        return ""
    return (after_cut(data) if begin else data).decode("utf-8", "replace")
