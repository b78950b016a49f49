"""The page in a browser, and what is due of schedules and remembered results."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from benchmarks._figures import Goal, Row, Samples, Unit
from benchmarks._registry import Run, case
from benchmarks._workloads import identity, noop
from taskorch import Task, TaskOrchestrator
from taskorch.model import Cache

#: Counts frames, and gives their number a second, once so many seconds are over.
_FRAMES = """seconds => new Promise(done => {
  let frames = 0;
  const began = performance.now();
  const next = () => {
    frames += 1;
    const over = (performance.now() - began) / 1000;
    over < seconds ? requestAnimationFrame(next) : done(frames / over);
  };
  requestAnimationFrame(next);
})"""
_PATHS = (
    *("/", "/page/page.css"),
    *(
        f"/page/{name}.js"
        for name in (
            *("page", "views", "parts", "overview", "runs", "run", "graph"),
            *("tasks", "workers", "people", "commands"),
        )
    ),
)


@case("page", needs=("starlette", "uvicorn", "prometheus_client", "playwright"))
def page(run: Run) -> Iterator[Row]:
    """The page of many tasks: until it can be read, and while much happens."""
    browser = shutil.which("chromium")
    if browser is None:
        return
    from playwright.sync_api import sync_playwright

    count = run.size(100_000, quick=1_000)
    seconds = run.size(10, quick=1)
    with (
        TaskOrchestrator() as orch,
        orch.serve(port=0) as server,
        sync_playwright() as driver,
    ):
        orch.submit_tasks([Task.call(noop) for _ in range(count)])
        orch.wait()
        found = driver.chromium.launch(
            executable_path=browser, args=["--no-sandbox"], timeout=120_000
        )
        taken = list[float]()
        for _ in range(min(run.pairs, 5)):
            context = found.new_context()
            shown = context.new_page()
            began = time.perf_counter()
            shown.goto(server.page)
            shown.wait_for_selector("#count-completed", timeout=120_000)
            taken.append(time.perf_counter() - began)
            context.close()
        paint = Samples.of(taken, Unit.SECONDS)
        yield Row(
            what="page: the numbers are there",
            ours=paint,
            goal=Goal.no_more(1.0, Unit.SECONDS, aim=0.4),
            note=f"{count:,} tasks; from the address to the counts, in Chromium",
        )
        shown = found.new_page()
        shown.goto(server.page)
        shown.wait_for_selector("#count-completed", timeout=120_000)
        over = threading.Event()
        feed = threading.Thread(target=_feed, args=(orch, over))
        feed.start()
        frames = Samples.of(float(shown.evaluate(_FRAMES, seconds)), Unit.PER_SECOND)
        over.set()
        feed.join()
        orch.wait()
        yield Row(
            what="page: frames a second",
            ours=frames,
            note="while some 1,000 events a second come; the overview is shown",
        )
        before = time.process_time()
        time.sleep(seconds)
        idle = 100 * (time.process_time() - before) / seconds
        busy = Samples.of(idle, Unit.PER_CENT)
        yield Row(
            what="page: the server, with a page that is open and idle",
            ours=busy,
            goal=Goal.no_more(1.0, Unit.PER_CENT, aim=0.2),
            note=f"processor time of the process of the orchestrator, {seconds} s",
        )
        found.close()
    size = Samples.of(float(_bytes()), Unit.BYTES)
    yield Row(
        what="page: its files",
        ours=size,
        goal=Goal.no_more(150_000, Unit.BYTES, aim=100_000),
        note=f"{len(_PATHS)} files, as they are sent",
    )


def _feed(orch: TaskOrchestrator, over: threading.Event) -> None:
    """Three events for each task, until it is over."""
    while not over.wait(0.03):
        orch.submit_tasks([Task.call(noop) for _ in range(10)])


def _bytes() -> int:
    from urllib.request import urlopen

    with TaskOrchestrator() as orch, orch.serve(port=0) as server:
        return sum(len(urlopen(server.url + path).read()) for path in _PATHS)


@case("schedules", needs=("cronsim",))
def schedules(run: Run) -> Iterator[Row]:
    """Many schedules that are due at one moment: how late the last of them begins."""
    count = run.size(10_000, quick=100)
    began = list[float]()
    lateness = list[float]()
    with TaskOrchestrator() as orch:
        # The moment is far enough that all are there before it.
        due = datetime.now(UTC) + timedelta(seconds=3 + count / 200)
        when = f"{due.second} {due.minute} {due.hour} * * *"
        due_s = due.replace(microsecond=0).timestamp()

        def note() -> None:
            began.append(time.time())

        for number in range(count):
            orch.schedules.add(f"s{number}", when, note)
        if time.time() >= due_s:
            msg = "the machine is too busy: they were due before all were added"
            raise RuntimeError(msg)
        while len(began) < count:
            time.sleep(0.1)
        lateness = sorted(each - due_s for each in began)
    late = Samples.of(lateness[int(0.99 * (count - 1))], Unit.SECONDS)
    yield Row(
        what="schedules: 99 of 100 begin within",
        ours=late,
        goal=Goal.no_more(1.0, Unit.SECONDS, aim=0.2),
        note=f"{count:,} schedules due in one second, by the system's clock",
    )


@case("remembered")
def remembered(run: Run) -> Iterator[Row]:
    """A result that is remembered: what that takes beside a call without."""
    count = run.size(2_000, quick=50)
    cache = Cache(expires=3_600.0)
    more = list[float]()
    for _ in range(run.pairs):
        hit, plain = _each(count, cache=cache), _each(count)
        more.append(hit - plain)
    figure = Samples.of(more, Unit.SECONDS)
    yield Row(
        what="remembered: a hit, in memory, beside a plain call",
        ours=figure,
        goal=Goal.no_more(20e-6, Unit.SECONDS, aim=8e-6),
        note=f"{count:,} tasks, submitted together; processor time",
    )


def _each(count: int, **options: Any) -> float:
    """Processor seconds of a task, of many that call the same."""
    with TaskOrchestrator(concurrency=1) as orch:
        orch.submit_task(Task.call(identity, 1, **options)).result()
        before = time.process_time()
        orch.submit_tasks([Task.call(identity, 1, **options) for _ in range(count)])
        orch.wait()
        return (time.process_time() - before) / count
