"""An agent: it runs test tasks in a process of its own, measures and judges them."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from taskorch._contexts import TaskContext
from taskorch.frontends.suite._criteria import Criteria
from taskorch.frontends.suite._folder import RunFolder, write_json
from taskorch.frontends.suite._judging import CriteriaNotMetError, Finding, judge
from taskorch.frontends.suite._measures import Counts, Measures
from taskorch.frontends.suite._placeholders import filled
from taskorch.frontends.suite._process import AgentProcess
from taskorch.frontends.suite._results import (
    ResultsError,
    TestRecord,
    counts_of,
    read_json,
    read_junit,
)
from taskorch.model import Task
from taskorch.model._limits import NS
from taskorch.model._program import of_attempt
from taskorch.runtime._clock import MonotonicClock

#: Of the grace, what is left to us when a task has to be killed.
_SHARE: Final = 0.8
#: What a benchmark records of itself, as a property of a test.
_RECORDED: Final = ("serial_seconds", "parallel_seconds")
#: Failed tests that an error names.
_SHOWN: Final = 5


def name_of(task_id: str) -> str:
    """The id of a task in its suite, of its id in a run, whichever run of it."""
    return (task_id.partition("/")[2] or task_id).partition("~")[0]


class Agent:
    """
    Runs one test task at a time.

    Args:
        name: Its name.
        folder: Where it leaves what it finds.
        grace: Seconds that a task has to end when it is asked to.
    """

    def __init__(self, name: str, folder: RunFolder, grace: float) -> None:
        self.name: str = name
        self.folder: RunFolder = folder
        self._grace = grace
        self._clock = MonotonicClock()
        self._processes: dict[str, AgentProcess] = {}

    def close(self) -> None:
        """End its processes, and what they run."""
        for process in self._processes.values():
            process.close()

    def __call__(self, task: Task, context: TaskContext) -> dict[str, Any]:
        """
        Run an attempt at *task*.

        Returns:
            What it came to: how many tests, and its measures.

        Raises:
            CriteriaNotMetError: It has run, and does not meet its criteria.
            ResultsError: It has left no results.
            AgentDiedError: The process of this agent has died.
        """
        attempt = _Attempt(self, task, context, self._clock.now_ns() / NS)
        process = self._process_for(attempt.payload)
        attempt.clear()
        end = process.run(
            attempt.job(),
            hear=attempt.hear,
            is_to_end=lambda: context.cancelled,
            grace=self._grace * _SHARE,
        )
        # One that is being cancelled, or is out of time, stops here.
        context.checkpoint()
        return attempt.end(end, self._clock.now_ns() / NS)

    def _process_for(self, payload: Mapping[str, Any]) -> AgentProcess:
        python = payload.get("python") or sys.executable
        if python not in self._processes:
            self._processes[python] = AgentProcess(python)
        return self._processes[python]


class _Attempt:
    """One attempt at a task, from what is asked for to what it came to."""

    def __init__(
        self, agent: Agent, task: Task, context: TaskContext, began: float
    ) -> None:
        self.agent = agent
        self.context = context
        self.began = began
        self.payload: Mapping[str, Any] = task.payload
        self.name = name_of(context.task_id)
        about = task.metadata or {}
        self.criteria = Criteria(**about.get("criteria", {}))
        # The attempts at a task that is run again have numbers of their own.
        again = context.task_id.partition("/")[2] or context.task_id
        self.log = agent.folder.log(again, context.attempt)
        #: Where it leaves its results.
        self.results = self._results()
        #: Tests that have failed in earlier attempts of this run of the task.
        self.failed_before = self._failed_before()

    def _results(self) -> Path | None:
        if "pytest" in self.payload:
            return self.agent.folder.artifacts / f"{self.name}.pytest.json"
        said = self.payload.get("results")
        if said is None:
            return None
        return Path(self.payload["cwd"], *self._filled([said]))

    def _failed_before(self) -> list[str]:
        if self.context.attempt == 1:
            return []
        try:
            text = self.agent.folder.results(self.name).read_text(encoding="utf-8")
            kept = json.loads(text)
            bad = [
                t["id"] for t in kept["tests"] if t["outcome"] in ("failed", "error")
            ]
            if kept["run"] != self.context.task_id:
                return []
            return list(dict.fromkeys([*kept["failed_before"], *bad]))
        except (OSError, ValueError, KeyError):
            return []

    def _filled(self, words: Iterable[str]) -> tuple[str, ...]:
        places = {"artifacts": str(self.agent.folder.artifacts.resolve())}
        return filled(list(words), places, None)

    def clear(self) -> None:
        """Let nothing lie there that an earlier attempt has left."""
        folder = self.agent.folder
        data = folder.coverage_data(self.name)
        started = data.parent.glob(f"{data.name}.*")
        for path in (self.results, folder.coverage(self.name), data, *started):
            if path is not None:
                path.unlink(missing_ok=True)

    def job(self) -> dict[str, Any]:
        """What the process is asked for."""
        payload, folder, context = self.payload, self.agent.folder, self.context
        kind = "pytest" if "pytest" in payload else "command"
        env = payload.get("env", {})
        return {
            "kind": kind,
            "args": self._filled(payload[kind]),
            "cwd": payload["cwd"],
            "env": {
                **dict(zip(env, self._filled(env.values()), strict=True)),
                **of_attempt(context.task_id, context.fence),
            },
            "log": str(self.log.resolve()),
            "results": str(self.results and self.results.resolve()),
            "coverage": payload.get("coverage", []),
            "coverage_data": str(folder.coverage_data(self.name).resolve()),
            "coverage_json": str(folder.coverage(self.name).resolve()),
        }

    def hear(self, event: dict[str, Any]) -> None:
        """Hand on how far it is."""
        if event["event"] not in ("collected", "test"):
            return
        done, total = event["done"], event["total"]
        now = self.agent._clock.now_ns() / NS  # noqa: SLF001 - its other half
        left = None
        if done:
            left = (now - self.began) / done * (total - done)
        self.context.progress(
            {
                "percentage": 100 * done // total if total else 0,
                "current_test": event["current"],
                "tests_completed": done,
                "tests_remaining": total - done,
                "estimated_completion": None if left is None else now + left,
                "memory_usage_mb": event["memory_mb"],
                "cpu_seconds": event["cpu_seconds"],
                "disk_usage_mb": event["disk_mb"],
            }
        )

    # -- what it came to -----------------------------------------------------------

    def end(self, event: Mapping[str, Any], now: float) -> dict[str, Any]:
        """Measure and judge it, and write that down."""
        tests, counts, said, problem = self._found()
        findings: list[Finding] = []
        if problem is not None and event["exit_code"] >= 0:
            findings.append(Finding("results", said=str(problem.message)))
        measures = self._measures(event, tests, counts, said)
        findings += judge(self.criteria, measures)
        summary = self._summary(measures, findings, event, now)
        self._write(summary, tests, event)
        bad = [finding for finding in findings if not finding.holds]
        if not bad:
            return summary
        raise CriteriaNotMetError(self._why(bad, tests), hint=f"see {self.log}")

    def _found(
        self,
    ) -> tuple[list[TestRecord], Counts | None, dict[str, float], ResultsError | None]:
        """The tests, how many, numbers that it says itself, and what is wrong."""
        path = self.results
        if path is None:
            return [], None, {}, None
        try:
            if "pytest" in self.payload:
                tests = _of_pytest(path)
            elif path.suffix == ".xml":
                tests = read_junit(path)
            else:
                return [], *read_json(path), None
        except ResultsError as error:
            return [], None, {}, error
        return tests, counts_of(tests), {}, None

    def _measures(
        self,
        event: Mapping[str, Any],
        tests: Iterable[TestRecord],
        counts: Counts | None,
        said: Mapping[str, float],
    ) -> Measures:
        found = {name: said.get(name) for name in _RECORDED}
        for test in tests:
            for name in _RECORDED:
                value = test.properties.get(name)
                if isinstance(value, int | float):
                    found[name] = (found[name] or 0.0) + value
        return Measures(
            event["seconds"],
            event["exit_code"],
            counts,
            self._covered(),
            event["memory_mb"],
            self.context.allocation.get("memory_mb") or None,
            event["cpu_seconds"],
            event["disk_mb"],
            **found,
            said=said,
            is_pytest="pytest" in self.payload,
        )

    def _covered(self) -> tuple[int, int] | None:
        try:
            text = self.agent.folder.coverage(self.name).read_text(encoding="utf-8")
            totals = json.loads(text)["totals"]
            return totals["covered_lines"], totals["num_statements"]
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _summary(
        self,
        measures: Measures,
        findings: Iterable[Finding],
        event: Mapping[str, Any],
        now: float,
    ) -> dict[str, Any]:
        counts = measures.counts
        plain = ("covered", "memory_mb", "granted_mb", "cpu_seconds", "disk_mb")
        return {
            "task_id": self.name,
            "attempt": self.context.attempt,
            "agent_id": self.agent.name,
            "started": self.began,
            "ended": now,
            "duration_seconds": event["seconds"],
            "exit_code": event["exit_code"],
            "counts": None if counts is None else attrs.asdict(counts),
            "pass_rate": measures.pass_rate,
            "coverage": measures.coverage,
            "speedup": measures.speedup,
            "memory_efficiency": measures.memory_efficiency,
            **{name: getattr(measures, name) for name in plain[1:]},
            "covered": list(measures.covered) if measures.covered else None,
            "findings": [attrs.asdict(finding) for finding in findings],
            "log": str(self.log),
            "coverage_data": str(self.agent.folder.coverage_data(self.name).resolve()),
        }

    def _write(
        self,
        summary: Mapping[str, Any],
        tests: list[TestRecord],
        event: Mapping[str, Any],
    ) -> None:
        folder = self.agent.folder
        all_tests = [test.to_dict() for test in tests]
        passed = {test.id for test in tests if test.outcome == "passed"}
        write_json(
            folder.results(self.name),
            {
                **summary,
                "run": self.context.task_id,
                "failed_before": self.failed_before,
                # Nothing has changed between the attempts, but their outcome.
                "flaky": [name for name in self.failed_before if name in passed],
                "tests": all_tests,
            },
        )
        if not folder.coverage(self.name).exists():
            write_json(folder.coverage(self.name), {"measured": False})
        write_json(
            folder.agent_report(self.name),
            {
                "agent_id": self.agent.name,
                "task_id": self.name,
                "attempt": self.context.attempt,
                "host": platform.node(),
                "allocation": dict(self.context.allocation),
                "command": list(self.job()["args"]),
                **{n: event[n] for n in ("memory_mb", "cpu_seconds", "disk_mb")},
                "log": str(self.log),
            },
        )
        if "pytest" in self.payload and self.results is not None:
            # It says the same in words of its own.
            self.results.unlink(missing_ok=True)

    def _why(self, bad: list[Finding], tests: Iterable[TestRecord]) -> str:
        """In a few lines, why it has failed."""
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


def _of_pytest(path: Path) -> list[TestRecord]:
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"pytest has left no results: {error}"
        raise ResultsError(msg) from None
    return [TestRecord.of(test) for test in said["tests"]]


def _tail(path: Path, lines: int = 5, size: int = 4_096) -> list[str]:
    """The last lines of a log."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - size))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()][-lines:]
