"""What the shops took yesterday: extract, transform, load, report."""

import csv
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from taskorch import Task, TaskOrchestrator, current_context, task, workflow
from taskorch.api.workflows import current_workflow


@task
def extract():
    """List the files of the day before, one for each shop."""
    night = current_context().slot or datetime.now(UTC)
    day = (night - timedelta(days=1)).date()
    return [str(file) for file in sorted(Path("sales", str(day)).glob("*.csv"))]


@task
def transform(name):
    """Add up what one shop took."""
    file = Path(name)
    rows = csv.DictReader(file.read_text(encoding="utf-8").splitlines())
    euros = 0.0
    for row in rows:
        euros += int(row["pieces"]) * float(row["price"].replace(",", "."))
    return {"day": file.parent.name, "shop": file.stem, "euros": euros}


@task
def load(takings):
    """Write them to a table; the same day again takes the place of the old rows."""
    with closing(sqlite3.connect("shops.db")) as db, db:
        columns = "(day, shop, euros, PRIMARY KEY (day, shop))"
        db.execute(f"CREATE TABLE IF NOT EXISTS takings {columns}")
        db.executemany("REPLACE INTO takings VALUES (:day, :shop, :euros)", takings)
    return takings


@task
def report(takings):
    """Let a worker print them."""
    run = current_context().workflow
    assert run is not None  # it is called in a run
    run.add(Task("print", takings, id="print"))


@workflow
def night():
    """Say what is done each night, and after what."""
    takings = transform.map(extract())
    question = "Load these takings?"
    approval = current_workflow().add(
        Task.question(question, id="approval", who=["ada"], after=[takings])
    )
    report(load.options(after=[approval])(takings))


orch = TaskOrchestrator(journal="night.db", unknown_capability="wait")
orch.schedules.add("nightly", "0 3 * * *", night)
