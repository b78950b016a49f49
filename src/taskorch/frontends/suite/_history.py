"""What earlier runs have taught: how long tasks and tests take."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from taskorch.frontends.suite._folder import write_json

#: Weight of the newest time beside the ones before.
_WEIGHT: Final = 0.5
#: Outcomes of a test that are kept.
_RECENT: Final = 10


@attrs.define
class History:
    """
    What earlier runs have taught.

    Attributes:
        tasks: Seconds that a task took, by id: newer ones weigh more.
        tests: The same of each test.
        recent: Of each test, the first letters of its latest outcomes, the newest last.
    """

    tasks: dict[str, float] = attrs.field(factory=dict[str, float])
    tests: dict[str, float] = attrs.field(factory=dict[str, float])
    recent: dict[str, str] = attrs.field(factory=dict[str, str])

    @classmethod
    def read(cls, path: Path) -> History:
        """What stands in *path*; nothing, if there is no such file, or a broken one."""
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            return cls(
                {str(n): float(v) for n, v in document["tasks"].items()},
                {str(n): float(v) for n, v in document["tests"].items()},
                {str(n): str(v) for n, v in document["recent"].items()},
            )
        except (OSError, ValueError, KeyError, AttributeError, TypeError):
            # It is a help, and no more.
            return cls()

    def write(self, path: Path) -> None:
        """Write the history to *path*."""
        write_json(path, attrs.asdict(self))

    def learn(self, results: Iterable[Mapping[str, Any]]) -> None:
        """Take in what tasks have found; of what was stopped nothing is known."""
        for record in results:
            if record.get("stopped"):
                continue
            _mix(self.tasks, record["task_id"], record["duration_seconds"])
            for test in record["tests"]:
                if test["outcome"] == "not_run":
                    continue
                name = test["id"]
                _mix(self.tests, name, test["seconds"])
                letters = self.recent.get(name, "") + test["outcome"][0]
                self.recent[name] = letters[-_RECENT:]


def _mix(times: dict[str, float], name: str, seconds: float) -> None:
    before = times.get(name, seconds)
    times[name] = round(before + _WEIGHT * (seconds - before), 4)
