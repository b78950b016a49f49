"""What a task logs may raise anything while it is written; no task fails by it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from tests.api.tools import PATIENCE
from tests.house.hostile import VALUES

from taskorch import Task, TaskOrchestrator
from taskorch.ext.logs import TaskLogs

LOG = logging.getLogger("tests.fenced")


def record_of(*fields: Any) -> bool:
    """Whether logging itself takes them, before anybody of ours hears of it."""
    try:
        logging.LogRecord("x", logging.INFO, "x", 1, *fields, None)
    except BaseException:
        return False
    return True


#: How a value comes into a record.
WAYS: dict[str, Any] = {
    "argument": lambda value: LOG.info("user %s", value),
    "message": LOG.info,
    "another": lambda value: LOG.info("%d of %s", value, value),
    "extra": lambda value: LOG.info("x", extra={"y": value}),
    "error": lambda value: LOG.info("x", exc_info=ValueError(value)),
}


def log(way: str, name: str) -> int:
    value = VALUES[name]()
    if way != "argument" or record_of("%s", (value,)):
        WAYS[way](value)
    return 1


@pytest.mark.parametrize("executor", [None, "process"])
def test_no_record_fails_its_task(
    executor: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As in production; and pytest's own handler raises what cannot be formatted.
    monkeypatch.setattr(logging, "raiseExceptions", False)
    monkeypatch.setattr(LOG, "propagate", executor == "process")
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    LOG.setLevel(logging.INFO)
    logs = TaskLogs()
    LOG.addHandler(logs)
    try:
        with TaskOrchestrator(
            journal=tmp_path / "runs.db", executors={"process": 1}
        ) as orch:
            names = {
                f"{way}/{number}": (way, name)
                for way in WAYS
                for number, name in enumerate(VALUES)
                # Beside others in a process of its own, each value in one way.
                if executor is None or way == [*WAYS][number % len(WAYS)]
            }
            handles = orch.submit_tasks(
                Task.call(log, *pair, id=task_id, executor=executor)
                for task_id, pair in names.items()
            )
            for handle in handles:
                assert handle.result(PATIENCE) == 1, names[handle.task_id]
            if executor is None:
                unwritten = list(VALUES).index("no __repr__")
                assert (
                    "cannot be written: RuntimeError"
                    in orch.log(f"argument/{unwritten}").text
                )
    finally:
        LOG.removeHandler(logs)
