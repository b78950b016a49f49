"""One attempt at a test task: what is asked for, how far it is, what it came to."""

from __future__ import annotations

import shutil
import signal
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import attrs

from taskorch.frontends.suite._criteria import Criteria
from taskorch.frontends.suite._folder import RunFolder, kept_in, write_json
from taskorch.frontends.suite._judging import (
    Counts,
    CriteriaNotMetError,
    CriterionFinding,
    Measures,
    judge,
)
from taskorch.frontends.suite._placeholders import fill
from taskorch.frontends.suite._results import (
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
from taskorch.frontends.suite._whole import totals_in
from taskorch.kit.clock import MonotonicClock
from taskorch.kit.limits import NS
from taskorch.kit.words import duration
from taskorch.model import ProgramResult, ProgramVariables, Task
from taskorch.model.ids import stem_of, without_run
from taskorch.recovery import FailureClass

#: What a benchmark records of itself, as a property of a test.
_RECORDED: Final = ("serial_seconds", "parallel_seconds")
#: Failed tests that an error names.
_SHOWN: Final = 5
#: Letters of the last line of a log.
_MOST_LINE: Final = 200
#: The file in which our plugin of pytest notes what it sees.
_OF_PYTEST: Final = "pytest.jsonl"
#: What results have beside the summary of an attempt.
_BESIDE: Final = (
    *("run", "failed_before", "flaky", "tests", "unended"),
    *("stopped", "stopped_in"),
)
#: By the names of findings, the limits that were passed.
_LIMITS: Final = {
    "memory_limit": "memory_mb",
    "disk_limit": "written_mb",
    "group_limit": "group",
}
#: What an event says of how far a task is, beside the test that is run.
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
    What an attempt is told of itself, in this process or elsewhere, and tells.

    Attributes:
        task_id: The id of the task.
        attempt: Its number.
        fence: The life of the orchestrator, and its number.
        allocation: What it holds.
        progress: Takes how far it is.
    """

    task_id: str
    attempt: int
    fence: tuple[int, int]
    allocation: Mapping[str, float]
    progress: Callable[[Any], object]


@attrs.frozen
class _Found:
    """What an attempt has left: its tests, and numbers that it says itself."""

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
        agent: str,
        folder: RunFolder,
        task: Task,
        info: AttemptInfo,
        began: float | None = None,
    ) -> None:
        self.agent = agent
        self.folder = folder
        self.told = info
        self._clock = MonotonicClock()
        #: When, in seconds since the epoch: now, if an earlier life did not begin it.
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
        #: What an agent elsewhere is asked for.
        self.request = folder.request(self.name, info.fence)
        self._coverage_data = self.place / "coverage"
        self._coverage = self.place / "coverage.json"
        #: Where it leaves its results.
        self.results = self._results()
        earlier = self._earlier()
        #: Tests that have failed in earlier attempts of this run of the task.
        self.failed_before = _failed_in(earlier)
        #: Those that have ended the attempt before, or their process.
        self._fatal = _fatal_in(earlier)

    def _results(self) -> Path | None:
        if "pytest" in self.payload:
            return self.place / _OF_PYTEST
        path = self.payload.get("results")
        if path is None:
            return None
        return Path(self.payload["cwd"], self._filled(path))

    def _earlier(self) -> dict[str, Any]:
        """What the attempt before has left; nothing if this is the first."""
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
        """What the process is asked for."""
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
            What it came to: how many tests, and its measures.

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
        results = self._found(now)
        findings: list[CriterionFinding] = []
        if results.problem is not None and event["exit_code"] >= 0:
            findings.append(
                CriterionFinding("results", said=str(results.problem.message))
            )
        if "exceeded" in event:
            (name,) = (n for n, limit in _LIMITS.items() if limit == event["limit"])
            findings.append(CriterionFinding(name, said=event["exceeded"]))
        measures = self._measures(event, results)
        findings += judge(self.criteria, measures)
        summary = self._summary(measures, findings, event, now)
        self._write(summary, results, event, stopped)
        return self._verdict(summary, findings, results.tests, results.unended)

    def end_late(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """
        As `end`, of an attempt that an earlier life of the orchestrator began.

        If that has judged it already, and could not tell anybody, that holds: what it
        was judged by may be gone.
        """
        kept = self.folder.results_of(self.name, self.told.task_id, self.told.attempt)
        if not kept or kept["stopped"]:
            return self.end(event, ended=self.began + event["seconds"])
        return self._verdict(
            {name: value for name, value in kept.items() if name not in _BESIDE},
            [CriterionFinding(**finding) for finding in kept["findings"]],
            [TestRecord.of(test) for test in kept["tests"]],
            kept["unended"],
        )

    def _verdict(
        self,
        summary: dict[str, Any],
        findings: Iterable[CriterionFinding],
        tests: Sequence[TestRecord],
        unended: Collection[str],
    ) -> dict[str, Any]:
        """
        The *summary* of an attempt that has succeeded.

        Raises:
            CriteriaNotMetError: It does not meet its criteria.
        """
        bad = [finding for finding in findings if not finding.holds]
        if not bad:
            return summary
        error = CriteriaNotMetError(self._why(bad, tests), hint=f"see {self.log}")
        seconds = summary["duration_seconds"]
        error.result = result_of(summary["exit_code"], self.log, seconds)
        passed = [_LIMITS[each.name] for each in bad if each.name in _LIMITS]
        if passed:
            error.result = attrs.evolve(error.result, exceeded=passed[0])
        error.failure_class = self._class_of(error.result, tests, unended)
        raise error

    def _class_of(
        self,
        result: ProgramResult,
        tests: Iterable[TestRecord],
        unended: Collection[str],
    ) -> FailureClass:
        """What kind of failure it is that it does not meet its criteria."""
        if result.exit_code < 0 or result.exceeded:
            return class_of_end(result)
        failed = [test for test in tests if test.is_bad and test.id not in unended]
        if failed:
            return class_of_tests(failed)
        if result.exit_code:
            return class_of_end(result)
        return FailureClass("logic_error", "its criteria")

    def cut_off(self, why: str) -> None:
        """
        Write down how far it had come when it was stopped, or its agent had died.

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

    def _measures(
        self,
        event: Mapping[str, Any],
        results: _Found,
    ) -> Measures:
        recorded = {name: results.said.get(name) for name in _RECORDED}
        for test in results.tests:
            for name in _RECORDED:
                value = test.properties.get(name)
                if isinstance(value, int | float):
                    recorded[name] = (recorded[name] or 0.0) + value
        return Measures(
            event["seconds"],
            event["exit_code"],
            results.counts,
            totals_in(self.folder.coverage(self.name)),
            event["memory_mb"],
            self.told.allocation.get("memory_mb") or None,
            event["cpu_seconds"],
            event["disk_mb"],
            **recorded,
            said=results.said,
            is_pytest="pytest" in self.payload,
        )

    def _summary(
        self,
        measures: Measures,
        findings: Iterable[CriterionFinding],
        event: Mapping[str, Any],
        now: float,
    ) -> dict[str, Any]:
        counts = measures.counts
        return {
            "task_id": self.name,
            "attempt": self.told.attempt,
            "agent_id": self.agent,
            "started": self.began,
            "ended": now,
            "duration_seconds": event["seconds"],
            "exit_code": event["exit_code"],
            "counts": None if counts is None else attrs.asdict(counts),
            "pass_rate": measures.pass_rate,
            "coverage": measures.coverage,
            "speedup": measures.speedup,
            "memory_efficiency": measures.memory_efficiency,
            "memory_mb": measures.memory_mb,
            "granted_mb": measures.granted_mb,
            "cpu_seconds": measures.cpu_seconds,
            "disk_mb": measures.disk_mb,
            "covered": list(measures.covered) if measures.covered else None,
            "findings": [attrs.asdict(finding) for finding in findings],
            "log": str(self.log),
            "coverage_data": str(self.folder.coverage_data(self.name).resolve()),
        }

    def _write(
        self,
        summary: Mapping[str, Any],
        results: _Found,
        event: Mapping[str, Any],
        stopped: str,
    ) -> None:
        folder = self.folder
        passed = {test.id for test in results.tests if test.outcome == "passed"}
        kept = kept_in(folder.results(self.name))
        if kept.get("run") == self.told.task_id and kept["attempt"] > self.told.attempt:
            # It was given up, and a later one has ended before it.
            return
        flaky = [name for name in self.failed_before if name in passed]
        flaky += [test.id for test in results.tests if test.is_flaky]
        write_json(
            folder.results(self.name),
            {
                **summary,
                "run": self.told.task_id,
                "failed_before": self.failed_before,
                # Nothing has changed between the attempts, but their outcome.
                "flaky": list(dict.fromkeys(flaky)),
                "tests": [test.to_dict() for test in results.tests],
                "unended": list(results.unended),
                "stopped": stopped,
                "stopped_in": self._stopped_in(results) if stopped else "",
            },
        )
        if not folder.coverage(self.name).exists():
            write_json(folder.coverage(self.name), {"measured": False})
        write_json(
            folder.agent_report(self.name),
            {
                "agent_id": self.agent,
                "task_id": self.name,
                "attempt": self.told.attempt,
                "host": event["host"],
                "allocation": dict(self.told.allocation),
                "command": self.job()["args"],
                **{n: event[n] for n in ("memory_mb", "cpu_seconds", "disk_mb")},
                "log": str(self.log),
            },
        )
        # What pytest has left says the same in words of its own.
        if self.request.exists():
            # Its end may have to be told again, to the next life.
            (self.place / _OF_PYTEST).unlink(missing_ok=True)
        else:
            shutil.rmtree(self.place.parent, ignore_errors=True)

    def _stopped_in(self, results: _Found) -> str:
        """Where it was when it was stopped, as far as anybody knows."""
        if "pytest" in self.payload:
            return _stopped_in(results)
        last = _tail(self.log, 1)
        return f"the last that it wrote: {last[0].strip()[:_MOST_LINE]}" if last else ""

    def _why(self, bad: list[CriterionFinding], tests: Sequence[TestRecord]) -> str:
        """Why the attempt failed, in a few lines."""
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
    if not kept:
        return []
    # A test that was stopped with the whole run has not failed.
    spared = kept["unended"] if kept["stopped"] == "cancel" else ()
    bad = [
        test["id"]
        for test in kept["tests"]
        if test["outcome"] in BAD and test["id"] not in spared
    ]
    return list(dict.fromkeys([*kept["failed_before"], *bad]))


def _fatal_in(kept: Mapping[str, Any]) -> list[str]:
    """The tests that have ended an attempt, or the process that they ran in."""
    if not kept:
        return []
    killers = [
        test["id"]
        for test in kept["tests"]
        if "process_exit_code" in test.get("properties", ())
    ]
    return [*killers, *kept["unended"]]


def are_numbers(event: Mapping[str, Any], names: Iterable[str]) -> bool:
    """Whether an event, which anybody may have sent, has numbers by these names."""
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


def _tail(path: Path, lines: int = 5, size: int = 4_096) -> list[str]:
    """The last lines of a log."""
    return [line for line in end_of(path, size).splitlines() if line.strip()][-lines:]
