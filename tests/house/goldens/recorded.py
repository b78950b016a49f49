"""
A program that does what journals keep, and what later versions must find in its journal.

`python -m tests.house.goldens.making --journal NAME` keeps a journal of it as `NAME.db.gz`,
with the text of what is in it. Those that are kept stay as they are.
"""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path
from typing import Any

from taskorch import (
    Approval,
    RetryPolicy,
    Task,
    TaskOrchestrator,
    TaskState,
    Workflow,
)
from taskorch.ext.views import JournalReader
from taskorch.model import Cache

KEPT = Path(__file__).with_name("journals")
PATIENCE = 60.0


def pages() -> list[str]:
    return ["ada", "bob", "cleo"]


def measure(page: str) -> int:
    return len(page)


def add_up(numbers: list[int]) -> int:
    return sum(numbers)


def night() -> str:
    return "slept"


def workflow() -> Workflow:
    wf = Workflow("letters")
    names = wf.task(pages, id="pages")
    sizes = wf.map(measure, names, id="sizes", max_parallel=2)
    wf.task(add_up, sizes, id="sum")
    release = wf.phase("release", gate=Approval(who=("ada",)))
    release.task(night, id="ship")
    return wf


def record(path: Path) -> None:
    """Two incarnations of an orchestrator with *path* as its journal."""
    with TaskOrchestrator(journal=path) as orch:
        orch.submit_task(Task.call(add_up, [1, 2], id="plain", owner="ann", priority=3))
        orch.submit_task(Task.call(measure, "ada", id="kept", cache=Cache()))
        orch.handle("kept").result(PATIENCE)
        orch.submit_task(Task.call(measure, "ada", id="recalled", cache=Cache()))
        orch.submit_task(
            Task.call(int, "no", id="fails", retry=RetryPolicy(2, base=0.0))
        )
        orch.submit_task(Task.call(add_up, [3], id="blocked", after=["fails"]))
        orch.submit_task(
            Task.call(
                add_up, [4], id="skipped", after=["fails"], on_parent_failure="skip"
            )
        )
        orch.submit_task(Task.wait_for("green", id="waits"))
        orch.submit_task(Task.call(add_up, [5], id="later", after=["waits"]))
        orch.submit_task(Task.call(add_up, [6], id="aside", after=["waits"]))
        orch.suspend_task("aside")
        orch.submit_task(Task.call(add_up, [7], id="called-off", after=["waits"]))
        orch.cancel_task("called-off", reason="nobody needs it")
        orch.submit_task(Task.question("deploy?", id="asked", who=("ada", "bob")))
        orch.submit_task(
            Task.question("both?", id="half", who=("ada", "bob"), quorum=2)
        )
        orch.answer("half", "approve", by="ada")
        orch.schedules.add("night", "every 24h", night)
        orch.schedules.trigger("night")
        run = orch.workflows.start(workflow(), id="tuesday")
        for task_id in ("plain", "kept", "recalled", "tuesday/sum"):
            orch.handle(task_id).result(PATIENCE)
        orch.handle("fails").exception(PATIENCE)
        orch.rerun_task("plain").result(PATIENCE)
        orch.rerun_task("tuesday/sizes", downstream=True).result(PATIENCE)
        del run
        orch.wait(PATIENCE)
    with TaskOrchestrator(journal=path) as orch:
        orch.submit_task(Task.call(add_up, [8], id="second-life")).result(PATIENCE)
        orch.wait(PATIENCE)


def text(path: Path) -> str:
    """What is in a journal: each task, what came of it, and what it waits for."""
    reader = JournalReader(path)
    lines = [
        f"{each.task_id}: {each.label}, attempts {each.attempts}, result "
        f"{each.result!r}, blocked by {list(each.blocked_by)}, stale {each.stale}, "
        f"run again {each.rerun!r}, owner {each.owner}, error "
        f"{type(each.error).__name__}"
        for each in sorted(reader.tasks(), key=lambda each: each.task_id)
    ]
    return "\n".join(lines) + "\n"


def go_on(path: Path) -> dict[str, Any]:
    """Let all that waits in the journal go on, and return what it came to."""
    with TaskOrchestrator(journal=path) as orch:
        orch.schedules.add("night", "every 24h", night)
        orch.emit("green")
        orch.resume_task("aside")
        orch.answer("asked", "reject", by="bob")
        orch.answer("half", "approve", by="bob")
        orch.workflows.approve("tuesday", "release", by="ada")
        ends = {
            name: orch.handle(name).result(PATIENCE)
            for name in ("plain", "later", "aside", "second-life", "recalled")
        }
        ends["half"] = orch.handle("half").result(PATIENCE).by
        ends["asked"] = type(orch.handle("asked").exception(PATIENCE)).__name__
        results = orch.workflows.get("tuesday").result(PATIENCE)
        ends |= {f"tuesday/{name}": results[name] for name in ("sizes", "sum", "ship")}
        ends["blocked"] = orch.handle("blocked").status.state is TaskState.BLOCKED
    return ends


def keep(name: str) -> None:
    """Keep a journal as *name*, with the text of what is in it."""
    KEPT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        journal = Path(folder) / "runs.db"
        record(journal)
        (KEPT / f"{name}.txt").write_text(text(journal), encoding="utf-8")
        data = gzip.compress(journal.read_bytes(), 9, mtime=0)
        (KEPT / f"{name}.db.gz").write_bytes(data)
