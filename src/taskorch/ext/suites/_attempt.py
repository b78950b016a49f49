"""One attempt at a test task: what is asked for, how far it is, what it came to."""

from __future__ import annotations

import shutil
import signal
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import attrs

from taskorch.ext.recovery import FailureClass
from taskorch.ext.suites._criteria import Criteria
from taskorch.ext.suites._folder import RunFolder, kept_in, write_json
from taskorch.ext.suites._judging import (
    Counts,
    CriteriaNotMetError,
    CriterionFinding,
    Measures,
    judge,
)
from taskorch.ext.suites._results import (
    BAD,
    ResultsError,
    TestRecord,
    class_of_end,
    class_of_tests,
    counts_of,
    end_of,
    read_json,
    read_junit,
    read_pytest,
    result_of,
)
from taskorch.ext.suites._whole import totals_in
from taskorch.kit.clock import MonotonicClock
from taskorch.kit.limits import NS
from taskorch.kit.words import duration, fill
from taskorch.model import ProgramVariables, Task
from taskorch.model.ids import stem_of, without_run

#: The measurements that a benchmark records as properties of a test.
_RECORDED: Final = ("serial_seconds", "parallel_seconds")
#: Failed tests that an error names.
_SHOWN: Final = 5
#: The most letters of the last line of a log.
_MOST_LINE: Final = 200
#: The file in which our plugin of pytest notes what it sees.
_OF_PYTEST: Final = "pytest.jsonl"
#: The keys of results that are not in the summary of an attempt.
_BESIDE: Final = (
    *("run", "failed_before", "flaky", "tests", "unended"),
    *("stopped", "stopped_in"),
)
#: The measures in the summary of an attempt, beside its tests and its duration.
_SUMMED: Final = (
    *("pass_rate", "coverage", "speedup", "memory_efficiency"),
    *("memory_mb", "granted_mb", "cpu_seconds", "disk_mb"),
)
#: By the names of findings, the limits that were passed.
_LIMITS: Final = {
    "memory_limit": "memory_mb",
    "disk_limit": "written_mb",
    "group_limit": "group",
}
#: The numbers of an event of progress; it also names the running test.
_NUMBERS: Final = ("done", "total", "memory_mb", "cpu_seconds", "disk_mb")


def name_of(task_id: str) -> str:
    """The id of a task in its suite, of its id in a run, whichever run of it."""
    return stem_of(without_run(task_id) or task_id)


def with_stop(message: str, results: Mapping[str, Any]) -> str:
    """*message*, that an attempt was stopped, and where that was by its results."""
    stopped_in = results.get("stopped_in")
    return f"{message}: {stopped_in}" if stopped_in else message


@attrs.frozen
class AttemptInfo:
    """
    The data of an attempt, in this process or elsewhere, and its progress callback.

    Attributes:
        task_id: The id of the task.
        fence: The incarnation of the orchestrator, and the number of the attempt.
        allocation: The resources that it holds.
        progress: Takes how far it is.
    """

    task_id: str
    fence: tuple[int, int]
    allocation: Mapping[str, float]
    progress: Callable[[Any], object]

    @property
    def attempt(self) -> int:
        """The number of the attempt."""
        return self.fence[1]


@attrs.frozen
class _Found:
    """Tests of an attempt, and the numbers that it says itself."""

    tests: tuple[TestRecord, ...] = ()
    counts: Counts | None = None
    unended: tuple[str, ...] = ()
    said: Mapping[str, float] = attrs.field(factory=dict, hash=False)
    #: Why there is nothing, or not all.
    problem: ResultsError | None = None


class SuiteAttempt:
    """An attempt at a test task, from the request to the verdict."""

    def __init__(
        self,
        worker: str,
        folder: RunFolder,
        task: Task,
        info: AttemptInfo,
        began: float | None = None,
    ) -> None:
        self.worker = worker
        self.folder = folder
        self.told = info
        self._clock = MonotonicClock()
        #: Its begin, in seconds since 1970: now, if this incarnation began it.
        self.began = self._now() if began is None else began
        self.payload: Mapping[str, Any] = task.payload
        self.name = name_of(info.task_id)
        about = task.metadata or {}
        self.criteria = Criteria(**about.get("criteria", {}))
        # The attempts at a task that is run again have numbers of their own.
        again = without_run(info.task_id) or info.task_id
        self.log = folder.log(again, info.attempt)
        #: Where it puts what is judged, and no other attempt does.
        self.place = folder.attempt(self.name, info.fence)
        #: The file with the request to a worker elsewhere.
        self.request = folder.request(self.name, info.fence)
        self._coverage_data = self.place / "coverage"
        self._coverage = self.place / "coverage.json"
        #: Where it leaves its results.
        self.results = self._results()
        earlier = self._earlier()
        #: Tests that have failed in earlier attempts of this run of the task.
        self.failed_before = _failed_in(earlier)
        #: Tests that ended the earlier attempt, or its process.
        self._fatal = _fatal_in(earlier)

    def _results(self) -> Path | None:
        if "pytest" in self.payload:
            return self.place / _OF_PYTEST
        path = self.payload.get("results")
        if path is None:
            return None
        return Path(self.payload["cwd"], self._filled(path))

    def _earlier(self) -> dict[str, Any]:
        """Return the results of the attempt before; empty if this is the first."""
        if self.told.attempt == 1:
            return {}
        kept = kept_in(self.folder.results(self.name))
        return kept if kept.get("run") == self.told.task_id else {}

    def _filled(self, text: str) -> str:
        return fill(text, {"artifacts": str(self.folder.artifacts.resolve())})

    def _now(self) -> float:
        return self._clock.now_ns() / NS

    def clear(self) -> None:
        """Remove what earlier attempts left in the folder."""
        folder = self.folder
        shutil.rmtree(self.place.parent, ignore_errors=True)
        self.place.mkdir(parents=True)
        for path in (
            self.results,
            folder.coverage(self.name),
            folder.coverage_data(self.name),
        ):
            if path is not None:
                path.unlink(missing_ok=True)

    @property
    def python(self) -> str:
        """Path of the interpreter that runs the tests."""
        return self.payload.get("python") or sys.executable

    def job(self) -> dict[str, Any]:
        """Return the request to the process that runs the tests."""
        payload, info = self.payload, self.told
        kind = "pytest" if "pytest" in payload else "command"
        env = payload.get("env", {})
        return {
            "kind": kind,
            "again": payload.get("again", False),
            "last": self._fatal,
            "args": [self._filled(word) for word in payload[kind]],
            "cwd": payload["cwd"],
            "env": {name: self._filled(text) for name, text in env.items()},
            "attempt": ProgramVariables.of_attempt(info.task_id, info.fence),
            "log": str(self.log.resolve()),
            "results": str(self.results and self.results.resolve()),
            "coverage": payload.get("coverage", []),
            "coverage_data": str(self._coverage_data.resolve()),
            "coverage_json": str(self._coverage.resolve()),
        }

    def hear(self, event: Mapping[str, Any]) -> None:
        """Hand on how far it is; what says nothing of that is left out."""
        if event.get("event") not in ("collected", "test"):
            return
        if not are_numbers(event, _NUMBERS) or not isinstance(
            event.get("current"), str
        ):
            return
        done, total = event["done"], event["total"]
        now = self._now()
        remaining = None
        if done:
            remaining = (now - self.began) / done * (total - done)
        self.told.progress(
            {
                "percentage": 100 * done // total if total else 0,
                "current_test": event["current"],
                "tests_completed": done,
                "tests_remaining": total - done,
                "estimated_completion": None if remaining is None else now + remaining,
                "memory_usage_mb": event["memory_mb"],
                "cpu_seconds": event["cpu_seconds"],
                "disk_usage_mb": event["disk_mb"],
            }
        )

    # -- what it came to -----------------------------------------------------------

    def end(
        self,
        event: Mapping[str, Any],
        stopped: str = "",
        ended: float | None = None,
    ) -> dict[str, Any]:
        """
        Measure and judge it by the *event* of its end, and write that down.

        *stopped* says why it was stopped before its end: `timeout`, `cancel` or `died`.
        *ended* is when it ended, in seconds since the epoch; None: now.

        Returns:
            Its results: the numbers of tests, and its measures.

        Raises:
            CriteriaNotMetError: It does not meet its criteria.
        """
        for source, kept in (
            (self._coverage_data, self.folder.coverage_data(self.name)),
            (self._coverage, self.folder.coverage(self.name)),
        ):
            with suppress(FileNotFoundError):
                source.replace(kept)
        now = self._now() if ended is None else ended
        record = self._record(event, self._found(now), now, stopped)
        self._write(record, event)
        return self._verdict(record)

    def end_late(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """
        End an attempt that an earlier incarnation of the orchestrator began: see `end`.

        If that has judged it already, and could not tell anybody, that holds: what it
        was judged by may be gone.
        """
        kept = self.folder.verdict(self.name, self.told.task_id, self.told.attempt)
        if not kept:
            return self.end(event, ended=self.began + event["seconds"])
        return self._verdict(kept)

    def _verdict(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """
        The summary in the *record* of an attempt, if that has succeeded.

        Raises:
            CriteriaNotMetError: It does not meet its criteria.
        """
        findings = [CriterionFinding(**finding) for finding in record["findings"]]
        bad = [finding for finding in findings if not finding.holds]
        if not bad:
            return {n: value for n, value in record.items() if n not in _BESIDE}
        tests = [TestRecord.of(test) for test in record["tests"]]
        error = CriteriaNotMetError(self._why(bad, tests), hint=f"see {self.log}")
        result = result_of(record["exit_code"], self.log, record["duration_seconds"])
        passed = [_LIMITS[each.name] for each in bad if each.name in _LIMITS]
        result = attrs.evolve(result, exceeded=passed[0] if passed else "")
        was_cut_off = result.exit_code < 0 or result.exceeded
        failed = [t for t in tests if t.is_bad and t.id not in record["unended"]]
        if failed and not was_cut_off:
            error.failure_class = class_of_tests(failed)
        elif result.exit_code or was_cut_off:
            error.failure_class = class_of_end(result)
        else:
            error.failure_class = FailureClass("logic_error", "its criteria")
        error.result = result
        raise error

    def cut_off(self, why: str) -> None:
        """
        Write down how far it had come when it was stopped, or its worker had died.

        Nobody has told of its end: nothing is known but what pytest has noted.
        """
        event = {
            **dict.fromkeys(("memory_mb", "cpu_seconds", "disk_mb"), 0.0),
            "exit_code": -signal.SIGKILL,
            "seconds": self._now() - self.began,
            "host": "",
        }
        with suppress(CriteriaNotMetError, OSError):
            self.end(event, why)

    def _found(self, now: float) -> _Found:
        path = self.results
        if path is None:
            return _Found()
        try:
            if "pytest" in self.payload:
                seen = read_pytest(path, now)
                problem = None
                if not seen.has_ended:
                    msg = "its process has ended before pytest had"
                    problem = ResultsError(msg)
                counts = counts_of(seen.tests)
                return _Found(seen.tests, counts, seen.unended, problem=problem)
            if path.suffix == ".xml":
                tests = tuple(read_junit(path))
                return _Found(tests, counts_of(tests))
            said_counts, numbers = read_json(path)
            return _Found((), said_counts, said=numbers)
        except ResultsError as error:
            return _Found(problem=error)

    def _measures(self, event: Mapping[str, Any], found: _Found) -> Measures:
        recorded = {name: found.said.get(name) for name in _RECORDED}
        for test in found.tests:
            for name in _RECORDED:
                value = test.properties.get(name)
                if isinstance(value, int | float):
                    recorded[name] = (recorded[name] or 0.0) + value
        return Measures(
            event["seconds"],
            event["exit_code"],
            found.counts,
            totals_in(self.folder.coverage(self.name)),
            event["memory_mb"],
            self.told.allocation.get("memory_mb") or None,
            event["cpu_seconds"],
            event["disk_mb"],
            **recorded,
            said=found.said,
            is_pytest="pytest" in self.payload,
        )

    def _record(
        self, event: Mapping[str, Any], found: _Found, now: float, stopped: str
    ) -> dict[str, Any]:
        """All that is known of the attempt: its summary, and more for its file."""
        measures, counts = self._measures(event, found), found.counts
        findings: list[CriterionFinding] = []
        if found.problem is not None and event["exit_code"] >= 0:
            message = str(found.problem.message)
            findings.append(CriterionFinding("results", said=message))
        if "exceeded" in event:
            (name,) = (n for n, limit in _LIMITS.items() if limit == event["limit"])
            findings.append(CriterionFinding(name, said=event["exceeded"]))
        findings += judge(self.criteria, measures)
        # Nothing has changed between the attempts, but their outcome.
        passed = {test.id for test in found.tests if test.outcome == "passed"}
        flaky = [name for name in self.failed_before if name in passed]
        flaky += [test.id for test in found.tests if test.is_flaky]
        return {
            "task_id": self.name,
            "attempt": self.told.attempt,
            "agent_id": self.worker,
            "started": self.began,
            "ended": now,
            "duration_seconds": event["seconds"],
            "exit_code": event["exit_code"],
            "counts": None if counts is None else attrs.asdict(counts),
            **{name: getattr(measures, name) for name in _SUMMED},
            "covered": list(measures.covered) if measures.covered else None,
            "findings": [attrs.asdict(finding) for finding in findings],
            "log": str(self.log),
            "coverage_data": str(self.folder.coverage_data(self.name).resolve()),
            "run": self.told.task_id,
            "failed_before": self.failed_before,
            "flaky": list(dict.fromkeys(flaky)),
            "tests": [test.to_dict() for test in found.tests],
            "unended": list(found.unended),
            "stopped": stopped,
            "stopped_in": self._stopped_in(found) if stopped else "",
        }

    def _write(self, record: Mapping[str, Any], event: Mapping[str, Any]) -> None:
        folder = self.folder
        kept = kept_in(folder.results(self.name))
        if kept.get("run") == self.told.task_id and kept["attempt"] > self.told.attempt:
            # It was given up, and a later one has ended before it.
            return
        write_json(folder.results(self.name), record)
        if not folder.coverage(self.name).exists():
            write_json(folder.coverage(self.name), {"measured": False})
        write_json(
            folder.worker_report(self.name),
            {
                **{n: record[n] for n in ("agent_id", "task_id", "attempt")},
                "host": event["host"],
                "allocation": dict(self.told.allocation),
                "command": self.job()["args"],
                **{n: event[n] for n in ("memory_mb", "cpu_seconds", "disk_mb")},
                "log": record["log"],
            },
        )
        # The file of pytest says the same in words of its own.
        if self.request.exists():
            # Its end may have to be told again, to the next incarnation.
            (self.place / _OF_PYTEST).unlink(missing_ok=True)
        else:
            shutil.rmtree(self.place.parent, ignore_errors=True)

    def _stopped_in(self, results: _Found) -> str:
        """Return the test or line where the attempt stopped, if known."""
        if "pytest" in self.payload:
            return _stopped_in(results)
        last = _tail(self.log, 1)
        return f"the last that it wrote: {last[0].strip()[:_MOST_LINE]}" if last else ""

    def _why(self, bad: list[CriterionFinding], tests: Sequence[TestRecord]) -> str:
        """Say why the attempt failed, in a few lines."""
        lines = ["; ".join(finding.said for finding in bad)]
        failed = [test for test in tests if test.is_bad]
        for test in failed[:_SHOWN]:
            first = (test.message or test.outcome).strip().splitlines()[:1]
            lines.append(f"{test.id}: {''.join(first)}")
        if len(failed) > _SHOWN:
            lines.append(f"and {len(failed) - _SHOWN:,} more")
        if not failed:
            lines += _tail(self.log)
        return "\n".join(lines)


def _failed_in(kept: Mapping[str, Any]) -> list[str]:
    """The tests that have failed in an attempt, and in those before it."""
    # A test that was stopped with the whole run has not failed.
    spared = kept.get("unended", ()) if kept.get("stopped") == "cancel" else ()
    bad = [
        test["id"]
        for test in kept.get("tests", ())
        if test["outcome"] in BAD and test["id"] not in spared
    ]
    return list(dict.fromkeys([*kept.get("failed_before", ()), *bad]))


def _fatal_in(kept: Mapping[str, Any]) -> list[str]:
    """The tests that have ended an attempt, or the process that they ran in."""
    killers = [
        test["id"]
        for test in kept.get("tests", ())
        if "process_exit_code" in test.get("properties", ())
    ]
    return [*killers, *kept.get("unended", ())]


def are_numbers(event: Mapping[str, Any], names: Iterable[str]) -> bool:
    """Return whether an event, which anybody may send, has numbers by these names."""
    return all(type(event.get(name)) in (int, float) for name in names)


def _stopped_in(results: _Found) -> str:
    """A sentence about the tests that ran when pytest was stopped."""
    running = [test for test in results.tests if test.id in results.unended]
    names = [f"{test.id} (for {duration(test.seconds)})" for test in running]
    others = [test for test in results.tests if test not in running]
    before = counts_of(test for test in others if test.outcome != "not_run")
    not_run = sum(test.outcome == "not_run" for test in others)
    text = f"under way: {', '.join(names) or 'no test'}; before that: {before}"
    return f"{text}; {not_run:,} not run" if not_run else text


def _tail(path: Path, lines: int = 5) -> list[str]:
    """The last lines of a log."""
    return [line for line in end_of(path, 4_096).splitlines() if line.strip()][-lines:]
