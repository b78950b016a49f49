"""
An adapter of taskorch for the benchmark of PostgreSQL job queues, which is not ours.

https://github.com/hardbyte/postgresql-job-queue-benchmarking drives it: its
CONTRIBUTING_ADAPTERS.md says what comes in by variables and lines, and what goes out as
JSON lines. One process submits jobs and runs them, as those of the other systems do.
"""

from __future__ import annotations

import asyncio
import json
import os
import queue
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlparse

import taskorch
from taskorch import PostgresJournal, Task, TaskOrchestrator
from taskorch.errors import TaskorchError

SYSTEM: Final = "taskorch"
#: Facts are what a journal is made of; the rest of its tables is in `adapter.json`.
TABLES: Final = ("taskorch.facts", "taskorch.groups", "taskorch.partitions")
#: Seconds for which pickups count, and how many are kept at the most.
_WINDOW: Final = 30.0
_MOST: Final = 32_768
#: Seconds between two tries to lead, after the journal was lost.
_AGAIN: Final = 0.5
#: Seconds for attempts to end after a request to end.
_GRACE: Final = 3.0
#: Threads that submit: each waits until its batch is kept.
_PRODUCERS: Final = 4
#: What all replicas see alike: only the first of them says it.
_SHARED: Final = frozenset({"queue_depth", "producer_target_rate"})


def number(name: str, usual: int) -> int:
    """A variable of the harness."""
    return int(os.environ.get(name) or usual)


INSTANCE: Final = number("BENCH_INSTANCE_ID", 0)


class Counts:
    """What this process has done since it began; jobs of all threads add to it."""

    def __init__(self) -> None:
        self.submitted = self.started = self.completed = 0
        #: When each of the latest jobs began, and its milliseconds since its submission.
        self.pickups: deque[tuple[float, float]] = deque(maxlen=_MOST)

    def percentiles(self) -> tuple[float, float, float]:
        """Of the pickups within the window: p50, p95 and p99."""
        since = time.monotonic() - _WINDOW
        found = sorted(ms for at, ms in tuple(self.pickups) if at >= since)
        if not found:
            return 0.0, 0.0, 0.0
        last = len(found) - 1
        p50, p95, p99 = (found[round(p * last)] for p in (0.50, 0.95, 0.99))
        return p50, p95, p99


COUNTS: Final = Counts()
WORK_SECONDS: Final = number("JOB_WORK_MS", 1) / 1000


async def job(submitted: float, padding: str) -> None:
    """Work for as long as the harness says."""
    del padding
    COUNTS.started += 1
    late = max(0.0, time.time() - submitted) * 1000
    COUNTS.pickups.append((time.monotonic(), late))
    if WORK_SECONDS:
        await asyncio.sleep(WORK_SECONDS)
    COUNTS.completed += 1


def emit(record: Mapping[str, Any]) -> None:
    """Say a line of JSON."""
    sys.stdout.write(json.dumps({**record, "instance_id": INSTANCE}) + "\n")
    sys.stdout.flush()


def now() -> str:
    """The time, as the harness writes it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Tokens:
    """
    How many jobs are to be submitted next: by the harness, by a rate, or up to a depth.

    Args:
        stop: Set once nothing more is wanted.
    """

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._most = number("PRODUCER_BATCH_MAX", 128)
        self._period = number("PRODUCER_BATCH_MS", 25) / 1000
        self._depth = number("TARGET_DEPTH", 1_000)
        self._is_by_depth = os.environ.get("PRODUCER_MODE") == "depth-target"
        is_paced = os.environ.get("PRODUCER_PACING", "adapter") == "harness"
        self._lines: queue.SimpleQueue[int] | None = None
        # Guards both: what is owed by now, and since when.
        self._lock = threading.Lock()
        self._credit, self._last = 0.0, time.monotonic()
        if is_paced and not self._is_by_depth:
            self._lines = queue.SimpleQueue()
            threading.Thread(target=self._listen, daemon=True).start()

    @property
    def rate(self) -> int:
        """Jobs a second that are wanted now."""
        if self._is_by_depth:
            return 0
        file = os.environ.get("PRODUCER_RATE_CONTROL_FILE")
        usual = number("PRODUCER_RATE", 800)
        if file and self._lines is None:
            try:
                return int(float(Path(file).read_text(encoding="utf-8")))
            except (OSError, ValueError):
                return usual
        return usual

    def take(self, depth: int) -> int:
        """Wait for a moment; how many are to be submitted, of which *depth* wait."""
        if self._is_by_depth:
            wanted = min(self._most, max(0, self._depth - depth))
            if not wanted:
                self._stop.wait(self._period)
            return wanted
        if self._lines is not None:
            try:
                return self._lines.get(timeout=_AGAIN)
            except queue.Empty:
                return 0
        self._stop.wait(max(0.0, self._last + self._period - time.monotonic()))
        with self._lock:
            # By the time that has passed, and not by that which should have.
            at = time.monotonic()
            self._credit += self.rate * (at - self._last)
            self._last = at
            wanted = min(self._most, int(self._credit))
            self._credit -= wanted
        return wanted

    def _listen(self) -> None:
        lines = self._lines
        # Without a buffer, whose lock an interpreter that ends would want.
        with os.fdopen(os.dup(0), "rb", buffering=0) as said:
            for line in said:
                word, _, count = line.partition(b" ")
                if word == b"ENQUEUE" and lines is not None:
                    lines.put(int(count))


class Adapter:
    """One replica: it leads, or stands by until the leader is gone."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._stop = threading.Event()
        self._tokens = Tokens(self._stop)
        self._orch: TaskOrchestrator | None = None
        self._lock = threading.Lock()
        self._workers = number("WORKER_COUNT", 32)
        self._padding = "x" * number("JOB_PAYLOAD_BYTES", 256)
        for wanted in (signal.SIGTERM, signal.SIGINT):
            signal.signal(wanted, lambda *_: self._end())

    def run(self) -> None:
        """Submit and run jobs until a signal says that it is enough."""
        samples = threading.Thread(target=self._sample, daemon=True)
        samples.start()
        while not self._stop.is_set():
            try:
                self._lead()
            except (TaskorchError, OSError) as error:
                print(f"[{SYSTEM}] begins anew: {error}", file=sys.stderr)
                self._stop.wait(_AGAIN)
        # An interpreter that ends while a thread writes is aborted.
        samples.join()

    def _end(self) -> None:
        self._stop.set()
        orch = self._orch
        if orch is not None:
            # Also one that stands by.
            threading.Thread(
                target=orch.stop, kwargs={"drain": False, "timeout": _GRACE}
            ).start()

    def _lead(self) -> None:
        journal = PostgresJournal(self._address, standby=True)
        orch = TaskOrchestrator(journal=journal, concurrency=self._workers)
        self._orch = orch
        try:
            # A signal before that found nothing to stop.
            if self._stop.is_set():
                return
            orch.start()
            lost = threading.Event()
            with ThreadPoolExecutor(_PRODUCERS) as pool:
                for each in [
                    pool.submit(self._submit, orch, lost) for _ in range(_PRODUCERS)
                ]:
                    each.result()
        finally:
            self._orch = None
            orch.stop(drain=False, timeout=_GRACE)

    def _submit(self, orch: TaskOrchestrator, lost: threading.Event) -> None:
        """Submit jobs until it is enough, or one of the producers cannot any more."""
        try:
            while not (self._stop.is_set() or lost.is_set()):
                wanted = self._tokens.take(self._depth())
                at = time.time()
                jobs = [Task.call(job, at, self._padding) for _ in range(wanted)]
                orch.submit_tasks(jobs)
                with self._lock:
                    COUNTS.submitted += wanted
        except BaseException:
            lost.set()
            raise

    def _depth(self) -> int:
        """How many jobs wait."""
        return max(0, COUNTS.submitted - COUNTS.started)

    def _sample(self) -> None:
        every = number("SAMPLE_EVERY_S", 5)
        self._stop.wait(every - time.time() % every)
        submitted, completed, at = COUNTS.submitted, COUNTS.completed, time.monotonic()
        while not self._stop.wait(every - time.time() % every):
            was, done, before = submitted, completed, at
            submitted, completed = COUNTS.submitted, COUNTS.completed
            at = time.monotonic()
            p50, p95, p99 = COUNTS.percentiles()
            for metric, value, window in (
                ("claim_p50_ms", p50, _WINDOW),
                ("claim_p95_ms", p95, _WINDOW),
                ("claim_p99_ms", p99, _WINDOW),
                ("enqueue_rate", (submitted - was) / (at - before), every),
                ("completion_rate", (completed - done) / (at - before), every),
                ("queue_depth", self._depth(), 0),
                ("producer_target_rate", self._tokens.rate, 0),
            ):
                if INSTANCE == 0 or metric not in _SHARED:
                    emit(
                        {
                            "t": now(),
                            "system": SYSTEM,
                            "kind": "adapter",
                            "subject_kind": "adapter",
                            "subject": "",
                            "metric": metric,
                            "value": float(value),
                            "window_s": float(window),
                        }
                    )


def main() -> int:
    """Be what the harness asks for; return the exit code."""
    address = os.environ["DATABASE_URL"]
    scenario = os.environ.get("SCENARIO", "long_horizon")
    if scenario == "migrate_only":
        with TaskOrchestrator(journal=PostgresJournal(address)):
            return 0
    if scenario != "long_horizon":
        print(f"[{SYSTEM}] there is no scenario {scenario!r} here", file=sys.stderr)
        return 2
    # The harness may end it as soon as it has said what it is.
    adapter = Adapter(address)
    emit(
        {
            "kind": "descriptor",
            "system": SYSTEM,
            "event_tables": list(TABLES),
            "extensions": [],
            "version": taskorch.__version__,
            "schema_version": "1",
            "db_name": urlparse(address).path.strip("/"),
            "started_at": now(),
        }
    )
    adapter.run()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
