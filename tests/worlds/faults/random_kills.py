"""
The workload, ended at moments of chance until that has happened often enough.

As a program, with a folder, a seed, the number of a signal, and how often it is sent:
it has no thread, and forks a child for each life. It prints how much had been done at
each end, and how many journals there were.
"""

import importlib
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from random import Random

from tests.worlds.faults import ledger, workload

#: How an incarnation ends that was interrupted.
INTERRUPTED = 130


def live(journal: Path, number: int, delay: float | None) -> int | None:
    """
    One incarnation, and a signal after *delay* seconds; how it ended, None: by that.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, [number])
    pid = os.fork()
    if not pid:
        code = 1
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            workload.run(journal)
            code = 0
        except BaseException:
            story = traceback.format_exc()
            if "KeyboardInterrupt" in story:
                # Or what came of it.
                code = INTERRUPTED
            else:
                print(story, file=sys.stderr, flush=True)
        finally:
            os._exit(code)
    if delay is not None:
        time.sleep(delay)
        os.kill(pid, number)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return None if code in (-number, INTERRUPTED) else code


def main(folder: Path, seed: int, number: int, wanted: int) -> None:
    # Whoever runs the tests may ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in ("asyncio", "taskorch.api._orchestrator"):
        # What every incarnation would load again.
        importlib.import_module(name)
    random = Random(seed)
    #: About as long as an incarnation takes: how long that is depends on what else
    #: runs.
    whole = 0.0
    kills: list[int] = []
    journals = 0
    while len(kills) < wanted:
        journal = folder / str(journals) / "journal.db"
        journal.parent.mkdir()
        done = 0
        began = time.monotonic()
        while (code := live(journal, number, random.uniform(0, whole) or None)) is None:
            before, done = done, len(ledger.lines(journal))
            kills.append(done)
            if done == before:
                whole *= 1.1
        if code:
            sys.exit(f"it failed, seed {seed}: {journal}")
        workload.check(journal)
        # The first one is let be.
        whole = 0.9 * whole or time.monotonic() - began
        journals += 1
    print(json.dumps({"kills": kills, "journals": journals}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
