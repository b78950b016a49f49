"""
A plugin of pytest that notes what became of each test, and reports progress.

What it notes is in a file at once, a line of JSON each, so that it is known however
the process ends:

    {"collected": ["test_a.py::test_b", …], "files": {"test_a.py": ["/…/test_a.py", 1]}}
    {"began": {"id": "test_a.py::test_b", "at": 1700000000.0, "file": …}}
    {"ended": {"id": "test_a.py::test_b", "outcome": "passed", …}}
    {"exit_code": 0}

Where the tests run in other processes of xdist, it says `{"spread": true}`. It runs in
the process of the tests, perhaps in another environment than ours: it needs the
standard library alone, and nothing of taskorch.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from typing import Any, Callable, Iterable  # noqa: UP035 - so that an older Python reads it

#: Seconds between two reports of progress, but for the first and the last.
_PACE = 0.2
#: The most characters of a failure message, and of the output of a test.
_MOST = 20_000
#: Which outcome stands if a test has several: that of its parts and its teardown.
_WORSE = ("passed", "skipped", "xfailed", "xpassed", "failed", "error")
#: Bytes in a block of what `getrusage` counts as written.
_BLOCK = 512


class Word(str):  # noqa: SLOT000 - it has an attribute
    """A word of the command line that knows its *place* there."""

    place = -1


class Recorder:
    """
    Notes what became of each test in the file *path*.

    *emit* is given reports of progress, dicts. Tests by the ids *done* have begun in an
    earlier process, which one of them has ended; *bad* of them failed. Those by the ids
    *last* run behind all others, and if *only* names one, that alone runs.
    """

    def __init__(
        self,
        emit: Callable[[dict[str, Any]], object],
        path: str,
        done: Iterable[str] = (),
        bad: int = 0,
        last: Iterable[str] = (),
        only: str = "",
    ) -> None:
        self._emit = emit
        self._last = frozenset(last)
        self._only = only
        self._done = frozenset(done)
        self._bad = bad
        self._due = 0.0
        self._path = path
        #: A test may fork, and its child go on with the tests: nobody asked for that.
        self._process = os.getpid()
        self._collected: set[str] = set(self._done)
        #: The lines at which running tests failed, by the ids of the tests.
        self._failed_lines: dict[str, int] = {}
        #: The entry of each test by its id, in the order in which they ended.
        self.tests: dict[str, dict[str, Any]] = {}
        #: How many tests are to be run.
        self.total = 0
        #: Files with tests: how they begin an id, where they are, how many tests.
        self.files: dict[str, tuple[str, int]] = {}
        #: Files and folders that were read.
        self._read: list[str] = []
        #: The places of the words that name files; -1: one that is no `Word`.
        self.paths: list[int] = []
        self._ended: set[str] = set(self._done)
        self._current = ""

    # -- what pytest calls ---------------------------------------------------------

    def pytest_sessionstart(self, session: Any) -> None:
        """Register for the tests that xdist's workers find, if there is xdist."""
        if session.config.getoption("numprocesses", None):
            self._write({"spread": True})
        if hasattr(session.config.hook, "pytest_xdist_node_collection_finished"):
            session.config.pluginmanager.register(_OfWorkers(self))

    def pytest_collection_finish(self, session: Any) -> None:
        """Record the collected tests."""
        if self._only:
            items = [item for item in session.items if item.nodeid == self._only]
            session.items[:] = items[:1]
            self.total = 1
            return
        session.items.sort(key=lambda item: item.nodeid in self._last)
        if self._done:
            self._leave_out(session)
            return
        named = session.config.option.file_or_dir
        self.paths = [getattr(word, "place", -1) for word in named]
        for item in session.items:
            self._count(item.nodeid, os.fspath(item.path), 1)
        places = {
            name: os.path.join(session.config.rootpath, name)  # noqa: PTH118
            for name in (*self.tests, *self._read)
        }
        for name in self.tests:
            # A file that could not be read, or is skipped as a whole.
            self._count(name, places[name], 1)
        for name in self._read:
            # An old pytest calls a package by its file, and runs all of it for that.
            if os.path.isfile(places[name]) and "__init__.py" not in name:  # noqa: PTH113
                # It may have no tests, and run lines that count.
                self._count(name, places[name], 0)
        self.know([item.nodeid for item in session.items])

    def _leave_out(self, session: Any) -> None:
        """Leave the tests out that have begun, and as many failures."""
        options = session.config.option
        items = [item for item in session.items if item.nodeid not in self._done]
        if options.maxfail:
            options.maxfail -= self._bad
            items = items if options.maxfail > 0 else []
        session.items[:] = items
        self.total = len(items) + len(self._done)

    def know(self, names: list[str]) -> None:
        """Record the names of the tests that will run."""
        if not self._collected.issuperset(names) or not names:
            self._collected.update(names)
            self._write({"collected": names, "files": self.files, "paths": self.paths})
        self.total = len(self._collected)
        self._report("collected", now=True)

    def _count(self, name: str, path: str, tests: int) -> None:
        key = name.partition("::")[0]
        _, before = self.files.get(key, ("", 0))
        self.files[key] = path, before + tests

    def pytest_collectreport(self, report: Any) -> None:
        """A file was read, or could not be."""
        if report.failed or report.skipped:
            self._note(report, "error" if report.failed else "skipped")
        elif "::" not in report.nodeid:
            self._read.append(report.nodeid)

    def pytest_runtest_logstart(self, nodeid: str, location: Any) -> None:
        """A test begins."""
        self._current = nodeid
        now = time.time()  # noqa: TID251 - it needs nothing of ours
        self._write({"began": {"at": now, **_place(nodeid, location)}})
        self._report("test")

    def pytest_runtest_logreport(self, report: Any) -> None:
        """A part of a test has ended: its setup, the test itself, or its teardown."""
        outcome = _outcome(report)
        if outcome is not None:
            self._note(report, outcome)
        elif report.nodeid in self.tests:
            self.tests[report.nodeid]["seconds"] += report.duration
        else:
            self._entry(report)["seconds"] += report.duration

    def pytest_runtest_makereport(self, item: Any, call: Any) -> None:
        """Note the line of the test's file at which a part of the test failed."""
        path = os.fspath(item.path)
        trace = None if call.excinfo is None else call.excinfo.tb
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == path:
                self._failed_lines[item.nodeid] = trace.tb_lineno
            trace = trace.tb_next

    def pytest_runtest_logfinish(self, nodeid: str, location: Any) -> None:
        """A test has ended."""
        del location
        self._ended.add(nodeid)
        self._failed_lines.pop(nodeid, None)
        self._write_test(nodeid)
        self._report("test", now=len(self._ended) == self.total)

    # -- what is kept --------------------------------------------------------------

    def _entry(self, report: Any) -> dict[str, Any]:
        where = getattr(report, "location", None) or (report.nodeid, None, "")
        return self.tests.setdefault(
            report.nodeid,
            {"outcome": None, "seconds": 0.0, **_place(report.nodeid, where)},
        )

    def _note(self, report: Any, outcome: str) -> None:
        entry = self._entry(report)
        entry["seconds"] += getattr(report, "duration", 0.0)
        before = entry["outcome"]
        if before is not None and _WORSE.index(before) >= _WORSE.index(outcome):
            return
        entry["outcome"] = outcome
        if outcome != "passed":
            entry.update(_why(report))
        if report.outcome == "failed":
            # For a test on a worker of xdist, no failed line was noted here.
            line = self._failed_lines.get(report.nodeid) or _crash_line(report)
            entry.update({"failed_line": line} if line else {})
        for name, value in getattr(report, "user_properties", ()):
            entry.setdefault("properties", {})[str(name)] = _plain(value)

    def end(self, exit_code: int) -> None:
        """Note the tests that did not end, and that pytest has ended."""
        for name in self.tests:
            if name not in self._ended:
                self._write_test(name)
        self._write({"exit_code": exit_code})

    def _write_test(self, name: str) -> None:
        test = self.tests.get(name)
        if test is not None and test["outcome"] is not None:
            self._write({"ended": test})

    def _write(self, note: dict[str, Any]) -> None:
        if os.getpid() == self._process:
            # Opened each time: a test may close all files that it finds open.
            with open(self._path, "a", encoding="utf-8") as file:  # noqa: PTH123
                file.write(json.dumps(note) + "\n")

    def _report(self, event: str, *, now: bool = False) -> None:
        moment = time.monotonic()
        if (moment >= self._due or now) and not self._only:
            self._due = moment + _PACE
            self._emit(
                {
                    "event": event,
                    "current": self._current,
                    "done": len(self._ended),
                    "total": self.total,
                    **usage(resource.getrusage(resource.RUSAGE_SELF)),
                }
            )


class _OfWorkers:
    """Hears from xdist which tests its workers have found."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def pytest_xdist_node_collection_finished(self, node: Any, ids: Any) -> None:
        """Record the tests that a worker of xdist has found."""
        del node
        self._recorder.know(list(ids))


def _place(name: str, location: Any) -> dict[str, Any]:
    """A test with its file, line and function, for JSON."""
    file, line, function = location
    line = None if line is None else line + 1
    return {"id": name, "file": file, "line": line, "function": function}


def _outcome(report: Any) -> str | None:
    """Return the outcome that one part of a test gives the whole, or None."""
    expected = hasattr(report, "wasxfail")
    if report.outcome == "failed":
        return "failed" if report.when == "call" else "error"
    if report.outcome == "skipped":
        return "xfailed" if expected else "skipped"
    if report.outcome == "passed" and report.when == "call":
        return "xpassed" if expected else "passed"
    return None


def _crash_line(report: Any) -> Any:
    """The line that failed, if it is one of the file of the test; else None."""
    crash = getattr(report.longrepr, "reprcrash", None)
    file = getattr(report, "location", None) or ("",)
    if crash is None or not file[0] or not os.fspath(crash.path).endswith(file[0]):
        return None
    return crash.lineno


def _why(report: Any) -> dict[str, Any]:
    """Return why a test did not pass, where it failed, and its output."""
    details: dict[str, Any] = {}
    longrepr = report.longrepr
    crash = getattr(longrepr, "reprcrash", None)
    if crash is not None:
        details["message"] = _cut(str(crash.message))
    elif isinstance(longrepr, tuple):  # a file, a line and the reason of a skip
        details["message"] = _cut(str(longrepr[2]))
    elif longrepr is not None:
        details["message"] = _cut(str(longrepr)).strip()
    reason = getattr(report, "wasxfail", "")
    if reason:
        details["message"] = _cut(str(reason))
    if report.outcome == "failed":
        details["text"] = _cut(getattr(report, "longreprtext", ""))
        printed = [text for _, text in getattr(report, "sections", ())]
        if printed:
            details["output"] = _cut("\n".join(printed))
    return details


def _cut(text: str) -> str:
    half = _MOST // 2
    return text if len(text) <= _MOST else f"{text[:half]}\n…\n{text[-half:]}"


def _plain(value: Any) -> Any:
    return value if isinstance(value, (str, int, float, bool)) else str(value)


def usage(used: Any) -> dict[str, float]:
    """Return the resources that a process has used so far."""
    unit = 1 << (20 if sys.platform == "darwin" else 10)
    return {
        "memory_mb": round(used.ru_maxrss / unit, 1),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 3),
        "disk_mb": round(used.ru_oublock * _BLOCK / 1e6, 1),
    }
