"""Where a run of a suite keeps its files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

from taskorch._base._staged import Staged

#: The rights of its files: what tests print may be secret.
OWN: Final = 0o600


class RunFolder:
    """The folder of a run, and what is where in it."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path: Path = Path(path)
        #: What tasks leave behind.
        self.artifacts: Path = self.path / "artifacts"
        #: What tasks print, and the messages.
        self.logs: Path = self.path / "logs"
        #: What makes a run go on where it was.
        self.journal: Path = self.path / "journal.db"
        #: What was said to and by agents.
        self.messages: Path = self.logs / "messages.jsonl"
        #: When tasks were given out, and when they ended.
        self.events: Path = self.logs / "events.jsonl"
        #: Who did what when.
        self.attempts: Path = self.logs / "attempts.jsonl"
        #: How much of its time each phase has spent, while the run is under way.
        self.phases: Path = self.path / "phases.json"
        #: Of which causes of failures the webhook has been told.
        self.told: Path = self.path / "told.jsonl"
        #: What all runs have taught.
        self.history: Path = self.path / "history.json"
        #: The files of tasks with their numbers of tests, as pytest has found them.
        self.collected: Path = self.path / "collected.json"
        #: Which files are in which shard.
        self.shards: Path = self.path / "shards.json"
        #: What attempts leave to be judged; each task has a folder of its name.
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
        """What became of the tests of a task."""
        return self.artifacts / f"{name}_results.json"

    def results_of(self, name: str, run: str, attempt: int) -> dict[str, Any]:
        """What an attempt at a task has left; nothing, if the latest is another's."""
        results = kept_in(self.results(name))
        latest = results.get("run"), results.get("attempt")
        return results if latest == (run, attempt) else {}

    def coverage(self, name: str) -> Path:
        """Path of the report on the lines that a task has run."""
        return self.artifacts / f"{name}_coverage.json"

    def coverage_data(self, name: str) -> Path:
        """Path of the coverage data of a task, for coverage.py."""
        return self.artifacts / f"{name}.coverage"

    def agent_report(self, name: str) -> Path:
        """Path of the report on the agent of a task, and on what the task took."""
        return self.artifacts / f"{name}_agent_report.json"

    def attempt(self, name: str, fence: tuple[int, int]) -> Path:
        """Folder of one attempt alone: an abandoned one that goes on cannot harm it."""
        epoch, number = fence
        return self.under_way / name / f"{epoch}.{number}"

    def request(self, name: str, fence: tuple[int, int]) -> Path:
        """What an agent elsewhere is asked for; kept until the next attempt."""
        return self.attempt(name, fence) / "job.json"

    def log(self, name: str, attempt: int) -> Path:
        """What an attempt has printed."""
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
