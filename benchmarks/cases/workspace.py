"""What a folder of task files costs: reading it, and running its tasks."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks._figures import THREADS, Goal, Row, Samples, Unit
from benchmarks._registry import Run, case
from benchmarks._timing import interleave, time_once

#: Agents at once, as the limits of a workspace have it by default.
_AGENTS = 10
_HEAD = """---
title: Task number {number}
dependencies: [{after}]
inputs: []
outputs:
  - result.json
  - notes.md
timeout: 2h
priority: high
resources: {{cpu: 2, memory_gb: 4}}
---
# Task {number}
"""


@case("task-files", needs=("yaml",))
def task_files(run: Run) -> Iterator[Row]:
    """No-op task files that are run, over starting their processes alone."""
    from taskorch.ext.task_files import Workspace

    count = run.size(1_000, quick=20)

    def ours() -> None:
        # A folder for each round: what is done is not done again. All go at the end,
        # since where ext4 has no journal, as in small virtual machines, it looks at
        # each inode that was freed in the last minutes whenever a file is made.
        folder = tempfile.mkdtemp(dir=folders)
        tasks = Path(folder, "tasks/01-all")
        tasks.mkdir(parents=True)
        for number in range(count):
            (tasks / f"t{number}.md").write_text("---\noutputs: []\n---\n")
        workspace = Workspace(folder, agent="true", tell=None)
        taken.append(time_once(workspace.run))
        assert workspace.check_all_complete()

    def start(_: int) -> None:
        with tempfile.TemporaryFile() as log:
            subprocess.run(["true"], stdout=log, stderr=log, check=True)

    def bare() -> None:
        with ThreadPoolExecutor(_AGENTS) as threads:
            list(threads.map(start, range(count)))

    taken: list[float] = []
    with tempfile.TemporaryDirectory() as folders:
        rounds = interleave({"taskorch": ours, THREADS: bare}, rounds=min(run.pairs, 5))
    each = Samples.of((one / count for one in taken[1:]), Unit.SECONDS)
    processes = rounds.each(THREADS, count)
    pairs = zip(each.values, processes.values, strict=True)
    over = Samples.of((one - other for one, other in pairs), Unit.SECONDS)
    yield Row(
        what="a task file",
        ours=each,
        peers={THREADS: processes},
        measured=over,
        goal=Goal.no_more(0.003, Unit.SECONDS),
        note=f"{count:,} files whose agent is `true`, {_AGENTS} at once; beside threads "
        "that start the same processes with a log each; measured: seconds more for each",
    )


@case("task-files-read", needs=("yaml",))
def read(run: Run) -> Iterator[Row]:
    """Ten thousand task files that are checked, and planned without being run."""
    from taskorch.ext.task_files import Workspace

    phases, count = 10, run.size(1_000, quick=10)
    with tempfile.TemporaryDirectory() as folder:
        for phase in range(phases):
            tasks = Path(folder, f"tasks/{phase:02}-phase")
            tasks.mkdir(parents=True)
            for number in range(count):
                after = f"{phase:02}-phase/t{number - 1}" if number % 10 else ""
                text = _HEAD.format(number=number, after=after)
                (tasks / f"t{number}.md").write_text(text)

        def lint() -> None:
            assert Workspace(folder).lint() == []

        def dry_run() -> None:
            assert len(Workspace(folder).dry_run().steps) == phases * count

        rounds = interleave({"lint": lint, "dry": dry_run}, rounds=min(run.pairs, 5))
        for name, what in (("lint", "lint"), ("dry", "--dry-run")):
            seconds = rounds.each(name, 1)
            yield Row(
                what=what,
                ours=seconds,
                goal=Goal.no_more(3.0, Unit.SECONDS),
                note=f"{phases * count:,} files in {phases} phases, all read",
            )
