"""What the shops took yesterday: extract, transform, load, report."""

import csv
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from taskorch import Task, TaskOrchestrator, Workflow, current_context


def extract():
    """List the files of the day before, one for each shop."""
    night = current_context().slot or datetime.now(UTC)
    day = (night - timedelta(days=1)).date()
    return [str(file) for file in sorted(Path("sales", str(day)).glob("*.csv"))]


def transform(name):
    """Add up what one shop took."""
    file = Path(name)
    rows = csv.DictReader(file.read_text(encoding="utf-8").splitlines())
    euros = 0.0
    for row in rows:
        euros += int(row["pieces"]) * float(row["price"].replace(",", "."))
    return {"day": file.parent.name, "shop": file.stem, "euros": euros}


def load(takings):
    """Write them to a table; the same day again takes the place of the old rows."""
    with closing(sqlite3.connect("shops.db")) as db, db:
        columns = "(day, shop, euros, PRIMARY KEY (day, shop))"
        db.execute(f"CREATE TABLE IF NOT EXISTS takings {columns}")
        db.executemany("REPLACE INTO takings VALUES (:day, :shop, :euros)", takings)
    return takings


def report(takings):
    """Let a worker print them."""
    run = current_context().workflow
    assert run is not None  # it is called in a run
    run.add(Task("print", takings, id="print"))


night = Workflow("night")
takings = night.map(transform, night.task(extract), id="transform")
approval = night.add(
    Task.question("Load these takings?", id="approval", who=["ada"], after=[takings])
)
loaded = night.task(load, takings, after=[approval])
night.task(report, loaded)

orch = TaskOrchestrator(journal="night.db", unknown_capability="wait")
orch.schedules.add("nightly", "0 3 * * *", night)
