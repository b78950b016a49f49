"""
Elastic tasks: who held how many of sixteen cores, and when.

    python examples/elastic.py

`render` could use all sixteen; it begins alone, and has them. Then `index` and `totals`
come: at its next checkpoint `render` goes down to its share. What each of them leaves
when it ends goes to those that still run. `backup` is rigid: it takes four cores or
none, waits until four are free, and nothing is taken from it.
"""

from __future__ import annotations

import threading
import time

from taskorch import Elastic, Resources, Task, TaskOrchestrator, current_context

CORES = 16
#: Core-seconds of work, by task, in the order in which they come.
WORK = {"render": 12.0, "index": 5.0, "totals": 6.0, "backup": 2.0}
#: Seconds between two checkpoints, and two looks at who holds what.
PIECE = 0.05
LOOK = 0.1


def work(core_seconds: float) -> float:
    """So much work, in pieces: each is as large as the cores allow."""
    context = current_context()
    left = core_seconds
    while left > 0:
        cores = context.allocation["cpu"]
        time.sleep(PIECE)  # stands for the work of `cores` cores
        left -= cores * PIECE
        context.checkpoint(left)  # here it gives back what is no longer its share
    return core_seconds


def task(name: str) -> Task:
    """The task of that name."""
    wants = {
        "render": Elastic(Resources(cpu=CORES)),
        "index": Elastic(Resources(cpu=8), min={"cpu": 2}),
        "totals": Elastic(Resources(cpu=8), weight=2),
        "backup": Resources(cpu=4),
    }
    return Task.call(work, WORK[name], id=name, resources=wants[name])


def watch(
    orch: TaskOrchestrator, done: threading.Event, seen: list[dict[str, int]]
) -> None:
    """Note who holds how many cores, again and again."""
    while not done.wait(LOOK):
        statuses = {status.task_id: status for status in orch.tasks()}
        seen.append(
            {
                name: int(statuses[name].allocation["cpu"]) if name in statuses else 0
                for name in WORK
            }
        )


def picture(seen: list[dict[str, int]]) -> str:
    """A line for each look: a letter for each core that a task holds."""
    letters = {name: name[0].upper() for name in WORK}
    lines = ["  ".join(f"{letter} {name}" for name, letter in letters.items()), ""]
    for number, held in enumerate(seen):
        bar = "".join(letters[name] * held[name] for name in WORK)
        lines.append(f"{(number + 1) * LOOK:4.1f} s  |{bar:.<{CORES}}|")
    return "\n".join(lines)


def main() -> None:
    """Let them come one after the other, and show what they held."""
    done = threading.Event()
    seen: list[dict[str, int]] = []
    with TaskOrchestrator(resources=Resources(cpu=CORES)) as orch:
        watcher = threading.Thread(target=watch, args=(orch, done, seen))
        watcher.start()
        handles = []
        for name in WORK:
            handles.append(orch.submit_task(task(name)))
            looks = len(seen) + 2
            while len(seen) < looks:
                time.sleep(LOOK / 10)
        for handle in handles:
            handle.result()
        done.set()
        watcher.join()
    print(picture(seen))


if __name__ == "__main__":
    main()
