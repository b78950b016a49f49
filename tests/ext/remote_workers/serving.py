"""A served orchestrator in a process of its own, which may be killed at any moment."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from taskorch import Task, TaskOrchestrator
from taskorch.ext.service import create_app, serve

TOKEN = "the-token-of-these-tests"


def work(n):
    """What workers do."""
    time.sleep(0.05)
    return n * n


def main() -> None:
    folder, port, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    orch = TaskOrchestrator(
        journal=folder / "runs.db", durability="process", unknown_capability="wait"
    )
    app = create_app(orch, token=TOKEN, agents=True)
    with orch, serve(app, port=port):
        tasks = [Task("work", n, id=f"t/{n}") for n in range(count)]
        results = [handle.result() for handle in orch.submit_tasks(tasks)]
        (folder / "results.new").write_text(json.dumps(results))
        (folder / "results.new").rename(folder / "results")


if __name__ == "__main__":
    main()
