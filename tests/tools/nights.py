"""
Nights of several schedules, as a team has them: most go well, some do not.

    python -m tests.tools.nights --nights 30 --schedules 20 --journal /tmp/nights.db

makes them and serves them until Ctrl-C. The nights are made by backfills, so the ticks
lie in the past and the attempts do not.
"""

from __future__ import annotations

import argparse
import threading
import time
from datetime import UTC, datetime, timedelta

from taskorch import Task, TaskOrchestrator, Workflow, current_context

NAMES = (
    *("sales", "orders", "clicks", "stock", "invoices", "returns", "prices", "users"),
    *("search", "mails", "ads", "fraud", "ledger", "payroll", "carts", "reviews"),
    *("images", "geo", "backup", "metrics"),
)


def day_of() -> int:
    """The day of the tick of which this is a task."""
    slot = current_context().slot
    return 0 if slot is None else slot.toordinal()


def extract(source: str) -> list[int]:
    if source == "orders" and day_of() % 9 == 0 and current_context().attempt == 1:
        msg = "orders API: 502 bad gateway"
        raise ConnectionError(msg)
    time.sleep(0.002)
    return list(range(8))


def partition(*tables: list[int]) -> list[int]:
    return [number for table in tables for number in table][:17]


def transform(number: int) -> int:
    if number == 5 and day_of() % 11 == 0:
        raise KeyError("amount_eur")
    return number * 2


def join(parts: list[int]) -> int:
    return sum(parts)


def load(total: int) -> int:
    return total


def pipeline(name: str) -> Workflow:
    flow = Workflow(name)
    tables = [
        flow.task(extract, source, id=f"extract-{source}", retry=2)
        for source in ("orders", "users", "clicks")
    ]
    parts = flow.task(partition, *tables, id="partition")
    done = flow.map(transform, parts, id="transform")
    total = flow.task(join, done, id="join")
    flow.task(load, total, id="load")
    return flow


def sync() -> str:
    if day_of() % 13 == 0:
        msg = "the disk is full"
        raise OSError(msg)
    return "well"


def make(orch: TaskOrchestrator, nights: int, schedules: int) -> None:
    """Add *schedules*, and make their latest *nights*; returns once they have ended."""
    until = datetime.now(UTC)
    since = until - timedelta(days=nights)
    for number, name in enumerate(NAMES[:schedules]):
        work = pipeline(name) if number % 2 == 0 else Task.call(sync)
        when = f"{number * 3 % 60} {1 + number % 5} * * *"
        orch.schedules.add(name, when, work, zone="Europe/Berlin")
        orch.schedules.backfill(name, since, until, limit=1_000)
    orch.schedules.pause(NAMES[1], "the supplier moves house")
    orch.submit_task(
        Task.question("The total is odd: load it?", who=["ada", "ben"], id="sign-off")
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nights", type=int, default=30)
    parser.add_argument("--schedules", type=int, default=len(NAMES))
    parser.add_argument("--journal")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--token", default="a-token-for-a-look")
    args = parser.parse_args()
    options = {} if args.journal is None else {"journal": args.journal}
    with TaskOrchestrator(concurrency=4, **options) as orch:
        make(orch, args.nights, args.schedules)
        with orch.serve(port=args.port, token=args.token) as server:
            print(f"{server.url}, with the token {args.token}", flush=True)
            threading.Event().wait()


if __name__ == "__main__":
    main()
