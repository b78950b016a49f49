"""Where a run of a suite keeps its files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs

from taskorch._staged import Staged


@attrs.frozen
class RunFolder:
    """
    The folder of a run, and what is where in it.

    Attributes:
        path: The folder.
    """

    path: Path = attrs.field(converter=Path)

    def make(self) -> RunFolder:
        """Itself, with all its folders."""
        for folder in (self.artifacts, self.logs):
            folder.mkdir(parents=True, exist_ok=True)
        return self

    @property
    def artifacts(self) -> Path:
        """What tasks leave behind."""
        return self.path / "artifacts"

    @property
    def logs(self) -> Path:
        """What tasks print, and the messages."""
        return self.path / "logs"

    @property
    def journal(self) -> Path:
        """What makes a run go on where it was."""
        return self.path / "journal.db"

    @property
    def messages(self) -> Path:
        """What was said to and by agents."""
        return self.logs / "messages.jsonl"

    @property
    def events(self) -> Path:
        """When tasks were given out, and when they ended."""
        return self.logs / "events.jsonl"

    @property
    def attempts(self) -> Path:
        """Who did what when."""
        return self.logs / "attempts.jsonl"

    @property
    def history(self) -> Path:
        """What all runs have taught."""
        return self.path / "history.json"

    @property
    def collected(self) -> Path:
        """The files of tasks with their numbers of tests, as pytest has found them."""
        return self.path / "collected.json"

    @property
    def shards(self) -> Path:
        """Which files are in which shard."""
        return self.path / "shards.json"

    def report(self, suffix: str) -> Path:
        """The final report, in the format of *suffix*."""
        return self.path / f"report.{suffix}"

    def results(self, name: str) -> Path:
        """What became of the tests of a task."""
        return self.artifacts / f"{name}_results.json"

    def coverage(self, name: str) -> Path:
        """Which lines a task has run."""
        return self.artifacts / f"{name}_coverage.json"

    def coverage_data(self, name: str) -> Path:
        """The same, as coverage.py combines it."""
        return self.artifacts / f"{name}.coverage"

    def agent_report(self, name: str) -> Path:
        """Who ran a task, and what that took."""
        return self.artifacts / f"{name}_agent_report.json"

    @property
    def under_way(self) -> Path:
        """What attempts leave to be judged; each task has a folder of its name."""
        return self.path / "attempts"

    def attempt(self, name: str, fence: tuple[int, int]) -> Path:
        """One attempt's own: another that was given up, and goes on, harms it not."""
        epoch, number = fence
        return self.under_way / name / f"{epoch}.{number}"

    def log(self, name: str, attempt: int) -> Path:
        """What an attempt has printed."""
        return self.logs / f"{name}.{attempt}.log"


def kept_in(path: Path) -> dict[str, Any]:
    """The object that stands in *path*; nothing, if there is none that can be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_json(path: Path, value: Any) -> None:
    """Write *value* to *path*: a reader finds all of it, or what was there before."""
    Staged(path, json.dumps(value, indent=1) + "\n").commit()
