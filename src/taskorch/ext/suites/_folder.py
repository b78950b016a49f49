"""Where a run of a suite keeps its files: its folder, logs of JSON, and the history."""

from __future__ import annotations

import json
import math
import os
import re
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import attrs

from taskorch.kit.clock import MonotonicClock
from taskorch.kit.limits import NS
from taskorch.kit.staged import Staged
from taskorch.kit.visible import counted

#: The rights of its files: what tests print may be secret.
OWN: Final = 0o600


class RunFolder:
    """The folder of a run, and the places of its files."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path: Path = Path(path)
        #: The folder of the files that tasks leave behind.
        self.artifacts: Path = self.path / "artifacts"
        #: The folder of the output of tasks, and of the messages.
        self.logs: Path = self.path / "logs"
        #: The journal, from which an interrupted run goes on.
        self.journal: Path = self.path / "journal.db"
        #: The messages to and from workers.
        self.messages: Path = self.logs / "messages.jsonl"
        #: When tasks were given out, and when they ended.
        self.events: Path = self.logs / "events.jsonl"
        #: Who did what when.
        self.attempts: Path = self.logs / "attempts.jsonl"
        #: How much of its time each phase has spent, while the run is under way.
        self.phases: Path = self.path / "phases.json"
        #: The causes of failures that were sent to the webhook.
        self.told: Path = self.path / "told.jsonl"
        #: The history of all runs: see `History`.
        self.history: Path = self.path / "history.json"
        #: The files of tasks with their numbers of tests, as pytest has found them.
        self.collected: Path = self.path / "collected.json"
        #: Which files are in which shard.
        self.shards: Path = self.path / "shards.json"
        #: The tested commits or files, if a statement is to name them.
        self.subject: Path = self.path / "subject.json"
        #: The files by which attempts are judged; each task has a folder of its name.
        self.under_way: Path = self.path / "attempts"

    def make(self) -> RunFolder:
        """Make the folder of the run, with its folders; the same object."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (self.artifacts, self.logs):
            folder.mkdir(parents=True, exist_ok=True)
        return self

    def report(self, suffix: str) -> Path:
        """The final report, in the format of *suffix*."""
        return self.path / f"report.{suffix}"

    def results(self, name: str) -> Path:
        """Path of the results of the tests of a task."""
        return self.artifacts / f"{name}_results.json"

    def results_of(self, name: str, run: str, attempt: int) -> dict[str, Any]:
        """Return the results of an attempt; empty if the latest is another."""
        results = kept_in(self.results(name))
        latest = results.get("run"), results.get("attempt")
        return results if latest == (run, attempt) else {}

    def verdict(self, name: str, run: str, attempt: int) -> dict[str, Any]:
        """Return the results of an attempt that was judged; empty if there are none."""
        results = self.results_of(name, run, attempt)
        return {} if results.get("stopped") else results

    def coverage(self, name: str) -> Path:
        """Path of the report on the lines that a task has run."""
        return self.artifacts / f"{name}_coverage.json"

    def coverage_data(self, name: str) -> Path:
        """Path of the coverage data of a task, for coverage.py."""
        return self.artifacts / f"{name}.coverage"

    def worker_report(self, name: str) -> Path:
        """Return the path of a task's report on its worker and its usage."""
        return self.artifacts / f"{name}_agent_report.json"

    def attempt(self, name: str, fence: tuple[int, int]) -> Path:
        """Folder of one attempt alone: an abandoned one that goes on cannot harm it."""
        epoch, number = fence
        return self.under_way / name / f"{epoch}.{number}"

    def request(self, name: str, fence: tuple[int, int]) -> Path:
        """Path of the request to a worker elsewhere, kept until the next attempt."""
        return self.attempt(name, fence) / "job.json"

    def log(self, name: str, attempt: int) -> Path:
        """Path of the output of an attempt."""
        return self.logs / f"{name}.{attempt}.log"


def kept_in(path: Path) -> dict[str, Any]:
    """The object that stands in *path*; nothing, if there is none that can be read."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def write_json(path: Path, value: Any) -> None:
    """Write *value* to *path*: a reader finds all of it, or what was there before."""
    Staged(path, json.dumps(value, indent=1) + "\n", OWN).commit()


_DAY: Final = 86_400


class JsonLines:
    """
    A log of JSON, a line each.

    When a line would make it larger than *max_bytes*, it is put aside under its time
    (`messages.20310102T030405-000.jsonl`), and begun anew. What was put aside longer
    than *keep_days* ago is removed.
    """

    def __init__(
        self, path: Path, max_bytes: int = sys.maxsize, keep_days: float = math.inf
    ) -> None:
        self.path: Path = path
        self._max_bytes = max_bytes
        self._keep_days = keep_days
        self._clock = MonotonicClock()
        self._lock = threading.Lock()
        self._is_whole = False

    def write(self, value: Any) -> None:
        """Add *value* as a line."""
        line = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        with self._lock:
            size = self._size()
            if size and size + len(line) > self._max_bytes:
                self._put_aside()
            if not self._is_whole:
                # A line that a crash cut off stays a line of its own.
                self._is_whole = True
                line = self._cut_off() + line
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            with os.fdopen(os.open(self.path, flags, 0o600), "ab", 0) as file:
                file.write(line)

    def read(self) -> Iterator[Any]:
        """All lines of the files, the oldest first, but for one that was cut off."""
        for path in [*self.put_aside(), self.path]:
            with suppress(FileNotFoundError), path.open("rb") as file:
                for line in file:
                    with suppress(ValueError):
                        yield json.loads(line)

    def put_aside(self) -> list[Path]:
        """The files that were put aside, the oldest first."""
        name = f"{self.path.stem}.*{self.path.suffix}"
        return sorted(self.path.parent.glob(name))

    def _size(self) -> int:
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def _cut_off(self) -> bytes:
        with suppress(OSError), self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return b"" if file.read() == b"\n" else b"\n"
        return b""

    def _put_aside(self) -> None:
        now = self._clock.now_ns() / NS
        moment = datetime.fromtimestamp(now, UTC)
        for number in range(1_000):
            name = (
                f"{self.path.stem}.{moment:%Y%m%dT%H%M%S}-{number:03}{self.path.suffix}"
            )
            target = self.path.with_name(name)
            if not target.exists():
                self.path.rename(target)
                break
        for path in self.put_aside():
            with suppress(OSError):
                if path.stat().st_mtime < now - self._keep_days * _DAY:
                    path.unlink()


#: Weight of the newest time beside the ones before.
_WEIGHT: Final = 0.5
#: The most outcomes of a test that are kept.
_RECENT: Final = 10
#: What a history keeps, and the kind of its values.
_KINDS: Final = {"tasks": float, "tests": float, "recent": str, "memory": float}
#: The letter of a test that failed, and then passed, without a change.
_FLAKY: Final = "~"
#: The letters of outcomes that say nothing of whether a test is broken.
_SAY_NOTHING: Final = re.compile("[^pxfe~]")


@attrs.define
class History:
    """
    The history of earlier runs: durations, outcomes and memory.

    Attributes:
        tasks: Seconds that a task took, by id: newer ones weigh more.
        tests: The same of each test.
        recent: Of each test, the first letters of its latest outcomes, the newest last;
            `~` is flaky.
        memory: MB that a task had at its peak the last time, by id.
    """

    tasks: dict[str, float] = attrs.field(factory=dict[str, float])
    tests: dict[str, float] = attrs.field(factory=dict[str, float])
    recent: dict[str, str] = attrs.field(factory=dict[str, str])
    memory: dict[str, float] = attrs.field(factory=dict[str, float])

    @classmethod
    def read(cls, path: Path) -> History:
        """Read the history in *path*; empty if there is none, or it is broken."""
        document = kept_in(path)
        try:
            return cls(
                **{
                    name: {str(n): kind(v) for n, v in document.get(name, {}).items()}
                    for name, kind in _KINDS.items()
                }
            )
        except (ValueError, AttributeError, TypeError):
            # It is a help, and no more.
            return cls()

    def write(self, path: Path) -> None:
        """Write the history to *path*."""
        write_json(path, attrs.asdict(self))

    def learn(self, results: Iterable[Mapping[str, Any]]) -> None:
        """Add the results of tasks, except attempts that were stopped."""
        for record in results:
            if record.get("stopped"):
                continue
            _mix(self.tasks, record["task_id"], record["duration_seconds"])
            if record.get("memory_mb"):
                self.memory[record["task_id"]] = record["memory_mb"]
            for test in record["tests"]:
                if test["outcome"] == "not_run":
                    continue
                name = test["id"]
                _mix(self.tests, name, test["seconds"])
                letters = self.recent.get(name, "") + _letter(record, test)
                self.recent[name] = letters[-_RECENT:]

    def over_runs(self, record: Mapping[str, Any], test: Mapping[str, Any]) -> str:
        """
        Whether a *test* is flaky or broken, by its latest runs and that of *record*.

        Only what failed and then passed without a change is surely flaky: between two
        runs, something may have been changed. "" is said of a test that has no earlier
        run.
        """
        letters = self.recent.get(test["id"], "") + _letter(record, test)
        letters = _SAY_NOTHING.sub("", letters)[-_RECENT:]
        runs, bad = len(letters), letters.count("f") + letters.count("e")
        if runs == 1:
            return ""
        flaky = letters.count(_FLAKY)
        if flaky:
            also = f", and failed in {bad}" if bad else ""
            return f"flaky: in {flaky} of {runs} runs it failed, then passed{also}"
        latest = runs - len(letters.rstrip("fe"))
        if bad == runs:
            return f"broken: it failed in each of {runs} runs"
        if bad > latest:
            return f"flaky, or broken more than once: it failed in {bad} of {runs} runs"
        times = "this run" if latest == 1 else f"each of the latest {latest} runs"
        before = counted(runs - latest, "run")
        return f"broken since: it failed in {times}, and passed in {before} before"


def _letter(record: Mapping[str, Any], test: Mapping[str, Any]) -> str:
    """Return the letter for the outcome of a *test* in the *record* of a task."""
    return _FLAKY if test["id"] in record.get("flaky", ()) else str(test["outcome"])[0]


def _mix(times: dict[str, float], name: str, seconds: float) -> None:
    before = times.get(name, seconds)
    times[name] = round(before + _WEIGHT * (seconds - before), 4)
