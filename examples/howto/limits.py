import sys
import tempfile

from taskorch import Task, TaskOrchestrator
from taskorch.errors import MemoryLimitError

PYTHON = [sys.executable, "-c"]

with TaskOrchestrator(resources={"memory_mb": 500}) as orch:
    hog = orch.submit_task(
        Task.program(
            [*PYTHON, "x = bytearray(200 << 20); import time; time.sleep(9)"],
            resources={"memory_mb": 80},
            enforce=True,
        )
    )
    try:
        hog.result()
    except MemoryLimitError as error:
        print(f"it had {error.peak:.0f} of {error.limit:.0f} MB, held by {error.how}")

    folder = tempfile.mkdtemp()
    build = orch.submit_task(
        Task.program(
            [*PYTHON, "open('out/page.html', 'w').write('<html>')"],
            cwd=folder,
            writes=["out/**"],
            network=False,
            enforce="if possible",
        )
    )
    print(build.result().enforced, build.result().unenforced)
