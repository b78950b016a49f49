"""What learns, and what tells in few bytes: regret, time, and bytes a message."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Any

from benchmarks._figures import Goal, Row, Samples, Unit
from benchmarks._registry import Run, case
from taskorch import TaskOrchestrator
from taskorch.adaptive import UCB1, LinUCB, Thompson
from taskorch.frontends.channel import Capabilities, Channel, can_compress, train
from taskorch.frontends.jobs import Job, JobSystem
from taskorch.frontends.jobs import Unit as Unit_

_ARMS = 10
_PULLS = 500
#: How the means of arms are drawn, and the regret that banditbench has for UCB1.
_ROWS: dict[str, tuple[Callable[[random.Random], list[float]], float]] = {
    "uniform": (lambda r: [r.random() for _ in range(_ARMS)], 86.85),
    "half": (lambda r: [r.random() / 2 for _ in range(_ARMS)], 68.09),
    "beta(1,8)": (lambda r: [r.betavariate(1, 8) for _ in range(_ARMS)], 69.61),
    "reverse": (lambda r: [r.betavariate(8, 1) for _ in range(_ARMS)], 36.12),
    "hard": (lambda r: r.sample([0.51] + [0.5] * (_ARMS - 1), _ARMS), 4.49),
}


@case("bandits")
def bandits(run: Run) -> Iterator[Row]:
    """The regret of UCB1, by known distributions, in standard errors from the known."""
    for name, (draw, known) in _ROWS.items():
        chance = random.Random(1)
        lost = [_regret(draw(chance), chance) for _ in range(run.size(400, quick=40))]
        mean = sum(lost) / len(lost)
        spread = sum((one - mean) ** 2 for one in lost) / (len(lost) - 1)
        error = (spread / len(lost)) ** 0.5
        off = Samples.of(abs(mean - known) / error, Unit.RATIO)
        yield Row(
            what=f"UCB1, arms {name}: standard errors from the known regret",
            ours=off,
            measured=off,
            goal=Goal.no_more(3),
            note=f"regret {mean:.2f} ± {error:.2f}, known {known}",
        )


def _regret(means: list[float], chance: random.Random) -> float:
    bandit, lost = UCB1(_ARMS), 0.0
    for _ in range(_PULLS):
        arm = list(bandit.chances((), chance)).index(1.0)
        lost += max(means) - means[arm]
        bandit.learn(arm, (), float(chance.random() < means[arm]))
    return lost


@case("learnt-decision")
def decision(run: Run) -> Iterator[Row]:
    """How long a decision among eight arms takes, of six features."""
    chance = random.Random(2)
    told = [chance.random() for _ in range(6)]
    for bandit in (LinUCB(8, 6), Thompson(8), UCB1(8)):
        for number in range(300):
            bandit.learn(number % 8, told, chance.random())
        times = []
        for _ in range(max(3, run.pairs)):
            began = perf_counter()
            for _ in range(1_000):
                bandit.chances(told, chance)
            times.append((perf_counter() - began) / 1_000)
        taken = Samples.of(times, Unit.SECONDS)
        yield Row(
            what=f"a learnt decision, {bandit.name}",
            ours=taken,
            measured=taken,
            goal=Goal.no_more(25e-6, Unit.SECONDS, aim=10e-6),
            note="eight arms, six features",
        )


@case("job-first-unit")
def first_unit(run: Run) -> Iterator[Row]:
    """From `assign_job` of eight units to the first that runs."""
    jobs = JobSystem({})
    begun: list[float] = []

    @jobs.objective("note")
    def note(unit: Unit_, job: Job) -> None:
        begun.append(perf_counter())

    asked = {"compute_units": 0, "memory_mb": 0, "bandwidth_mbps": 0}
    times = []
    with jobs.orchestrator() as orch:
        for number in range(1 + run.size(50, quick=3)):
            begun.clear()
            body = {"job_id": f"j{number}", "objective": "note", "tadpole_count": 8}
            began = perf_counter()
            jobs.assign_job({**body, "requested_resources": asked})
            jobs.result(f"j{number}")
            times.append(min(begun) - began)
            orch.wait()
    taken = Samples.of(times[1:], Unit.SECONDS)
    yield Row(
        what="assign_job of eight units to the first that runs",
        ours=taken,
        measured=taken,
        goal=Goal.no_more(5e-3, Unit.SECONDS, aim=1.5e-3),
    )


@case("bytes-a-message", needs=("msgpack",))
def messages(run: Run) -> Iterator[Row]:
    """Events of a run, the second half, with what was learnt from the first."""
    if not can_compress():
        return
    import msgpack  # pyright: ignore[reportMissingImports]

    from taskorch.frontends import channel

    events = _events(run.size(4_000, quick=500))
    half = len(events) // 2
    packed = sum(
        len(channel._zstd.compress(msgpack.packb(e), 3)) for e in events[half:]
    )
    here = Channel(Capabilities(("zstd",)))
    name = here.learn(train(events[:half:4]))
    here.agree(Capabilities(("zstd",), (name,)))
    single = sum(len(here.send(event)) for event in events[half:])
    stream = Channel(Capabilities(("zstd",)), streams=True)
    frames = [stream.send(event) for event in events]
    streamed = sum(map(len, frames[half:]))
    for what, size, bound, aim in (
        ("each by itself", single, 3.0, 3.6),
        ("on a connection", streamed, 5.0, 7.0),
    ):
        ratio = Samples.of(packed / size, Unit.RATIO)
        yield Row(
            what=f"bytes a message, {what}: times less than msgpack and zstd",
            ours=ratio,
            measured=ratio,
            goal=Goal.no_less(bound, aim=aim),
            note=f"{size / half:.1f} bytes, and {packed / half:.1f}",
        )


def _events(calls: int) -> list[dict[str, object]]:
    """Events of so many calls, as JSON has them."""
    found = []
    orch = TaskOrchestrator(concurrency=4)
    kinds = ("task_submitted", "task_routed", "task_started", "task_completed")

    def note(event: Any) -> None:
        names = [field.name for field in event.__attrs_attrs__]
        said = {n: getattr(event, n) for n in names if n != "_load"}
        found.append(json.loads(json.dumps({"event": type(event).__name__, **said})))

    for kind in kinds:
        getattr(orch.signals, kind).connect(note)
    with orch:
        for _ in orch.map(pow, range(calls), [2] * calls):
            pass
        orch.wait()
    return found
