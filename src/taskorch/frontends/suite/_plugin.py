"""
A plugin of pytest that notes what became of each test, and reports progress.

It runs in the process of the tests, perhaps in another environment than ours: it needs
the standard library alone, and nothing of taskorch.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from typing import Any, Callable  # noqa: UP035 - so that an older Python reads it

#: Seconds between two reports of progress, but for the first and the last.
_PACE = 0.2
#: Characters that are kept of why a test failed, and of what it printed.
_MOST = 20_000
#: Which outcome stands if a test has several: that of its parts and its teardown.
_WORSE = ("passed", "skipped", "xfailed", "xpassed", "failed", "error")
#: Bytes in a block of what `getrusage` counts as written.
_BLOCK = 512


class Word(str):  # noqa: SLOT000 - it has an attribute
    """A word of the command line that knows its *place* there."""

    place = -1


class Recorder:
    """Notes what became of each test, and gives *emit* reports of progress, dicts."""

    def __init__(self, emit: Callable[[dict[str, Any]], object]) -> None:
        self._emit = emit
        self._due = 0.0
        #: Of each test by its id, in the order in which they ended.
        self.tests: dict[str, dict[str, Any]] = {}
        #: How many tests are to be run.
        self.total = 0
        #: Files with tests: how they begin an id, where they are, how many tests.
        self.files: dict[str, tuple[str, int]] = {}
        #: The places of the words that name files; -1: one that is no `Word`.
        self.paths: list[int] = []
        self._ended: set[str] = set()
        self._current = ""

    # -- what pytest calls ---------------------------------------------------------

    def pytest_collection_finish(self, session: Any) -> None:
        """All tests are known."""
        self.total = len(session.items)
        named = session.config.option.file_or_dir
        self.paths = [getattr(word, "place", -1) for word in named]
        for item in session.items:
            self._count(item.nodeid, os.fspath(item.path), 1)
        for name in self.tests:
            # What could not be read, or is skipped as a whole.
            self._count(name, os.path.join(session.config.rootpath, name), 1)  # noqa: PTH118
        self._report("collected", now=True)

    def _count(self, name: str, path: str, tests: int) -> None:
        key = name.partition("::")[0]
        _, before = self.files.get(key, ("", 0))
        self.files[key] = path, before + tests

    def pytest_collectreport(self, report: Any) -> None:
        """A file was read, or could not be."""
        if report.failed or report.skipped:
            self._note(report, "error" if report.failed else "skipped")

    def pytest_runtest_logstart(self, nodeid: str, location: Any) -> None:
        """A test begins."""
        del location
        self._current = nodeid
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

    def pytest_runtest_logfinish(self, nodeid: str, location: Any) -> None:
        """A test has ended."""
        del location
        self._ended.add(nodeid)
        self._report("test", now=len(self._ended) == self.total)

    # -- what is kept --------------------------------------------------------------

    def _entry(self, report: Any) -> dict[str, Any]:
        where = getattr(report, "location", None) or (report.nodeid, None, "")
        line = where[1]
        return self.tests.setdefault(
            report.nodeid,
            {
                "id": report.nodeid,
                "outcome": None,
                "seconds": 0.0,
                "file": where[0],
                "line": None if line is None else line + 1,
                "function": where[2],
            },
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
        for name, value in getattr(report, "user_properties", ()):
            entry.setdefault("properties", {})[str(name)] = _plain(value)

    def results(self, exit_code: int) -> dict[str, Any]:
        """All that was noted."""
        ended = [test for test in self.tests.values() if test["outcome"] is not None]
        return {
            "exit_code": exit_code,
            "collected": self.total,
            "files": self.files,
            "paths": self.paths,
            "tests": ended,
        }

    def _report(self, event: str, *, now: bool = False) -> None:
        moment = time.monotonic()
        if moment >= self._due or now:
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


def _outcome(report: Any) -> str | None:
    """What a part of a test says of the whole; None if nothing yet."""
    expected = hasattr(report, "wasxfail")
    if report.outcome == "failed":
        return "failed" if report.when == "call" else "error"
    if report.outcome == "skipped":
        return "xfailed" if expected else "skipped"
    if report.outcome == "passed" and report.when == "call":
        return "xpassed" if expected else "passed"
    return None


def _why(report: Any) -> dict[str, Any]:
    """Why a test did not pass, where, and what it printed."""
    found: dict[str, Any] = {}
    longrepr = report.longrepr
    crash = getattr(longrepr, "reprcrash", None)
    if crash is not None:
        found["message"] = _cut(str(crash.message))
        found["crash"] = [os.fspath(crash.path), crash.lineno]
    elif isinstance(longrepr, tuple):  # a file, a line and the reason of a skip
        found["message"] = _cut(str(longrepr[2]))
    elif longrepr is not None:
        found["message"] = _cut(str(longrepr)).strip()
    reason = getattr(report, "wasxfail", "")
    if reason:
        found["message"] = _cut(str(reason))
    if report.outcome == "failed":
        found["text"] = _cut(getattr(report, "longreprtext", ""))
        printed = [text for _, text in getattr(report, "sections", ())]
        if printed:
            found["output"] = _cut("\n".join(printed))
    return found


def _cut(text: str) -> str:
    half = _MOST // 2
    return text if len(text) <= _MOST else f"{text[:half]}\n…\n{text[-half:]}"


def _plain(value: Any) -> Any:
    return value if isinstance(value, (str, int, float, bool)) else str(value)


def usage(used: Any) -> dict[str, float]:
    """What a process has used so far."""
    unit = 1 << (20 if sys.platform == "darwin" else 10)
    return {
        "memory_mb": round(used.ru_maxrss / unit, 1),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 3),
        "disk_mb": round(used.ru_oublock * _BLOCK / 1e6, 1),
    }
