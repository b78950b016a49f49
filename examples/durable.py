"""
Work that survives its process: kill it in the middle, and run it again.

    python examples/durable.py                    Ctrl-C or kill -9, then the same again
    python examples/durable.py durable.db --die   kills itself before page 3 is done

Pages that were done are not done again. To begin anew, remove durable.db and
durable.db.lock.
"""

import os
import signal
import sys
import time

from taskorch import Task, TaskOrchestrator

JOURNAL = sys.argv[1] if len(sys.argv) > 1 else "durable.db"


def fetch(page: int) -> int:
    """Stands for work that takes long."""
    print(f"fetching page {page}", flush=True)
    time.sleep(0.3)
    if page == 3 and "--die" in sys.argv:
        os.kill(os.getpid(), signal.SIGKILL)
    return page * page


with TaskOrchestrator(journal=JOURNAL, concurrency=1) as orch:
    # What has an id is the same task in every run, and its handle has the result.
    pages = [Task.call(fetch, page, id=f"page/{page}") for page in range(6)]
    total = Task.call(sum, orch.submit_tasks(pages), id="total")
    print("total", orch.submit_task(total).result())
