"""What learns, and what tells in few bytes: regret, time, and bytes a message."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from time import perf_counter, process_time
from typing import Any

from benchmarks._figures import Goal, Row, Samples, Unit
from benchmarks._registry import Run, case
from taskorch import TaskOrchestrator
from taskorch.ext.channel import Capabilities, Channel, can_compress, train
from taskorch.ext.jobs import Job, JobSystem, Unit as Unit_
from taskorch.ext.learning import UCB1, Learned, LinUCB, Thompson

_ARMS = 10
_PULLS = 500
#: How the means of arms are drawn, and the regret that banditbench has for UCB1, and
#: for chance.
_ROWS: dict[str, tuple[Callable[[random.Random], list[float]], float, float]] = {
    "uniform": (lambda r: [r.random() for _ in range(_ARMS)], 86.85, 204.0),
    "half": (lambda r: [r.random() / 2 for _ in range(_ARMS)], 68.09, 102.0),
    "beta(1,8)": (lambda r: [r.betavariate(1, 8) for _ in range(_ARMS)], 69.61, 93.1),
    "reverse": (lambda r: [r.betavariate(8, 1) for _ in range(_ARMS)], 36.12, 49.3),
    "hard": (lambda r: r.sample([0.51] + [0.5] * (_ARMS - 1), _ARMS), 4.49, 4.50),
}


class _Chance(UCB1):
    """Pulls any arm."""

    def chances(self, features: Sequence[float], random: random.Random) -> list[float]:
        arm = random.randrange(_ARMS)
        return [float(one == arm) for one in range(_ARMS)]


@case("bandits")
def bandits(run: Run) -> Iterator[Row]:
    """The regret of UCB1, by known distributions, in standard errors from the known."""
    for what, make, place in (("UCB1", UCB1, 1), ("chance", _Chance, 2)):
        for name, row in _ROWS.items():
            chance = random.Random(1)
            lost = [
                _regret(make(_ARMS), row[0](chance), chance)
                for _ in range(run.size(400, quick=40))
            ]
            known = row[place]
            mean = sum(lost) / len(lost)
            spread = sum((one - mean) ** 2 for one in lost) / (len(lost) - 1)
            error = (spread / len(lost)) ** 0.5
            assert isinstance(known, float)
            off = Samples.of(abs(mean - known) / (error or 0.01), Unit.RATIO)
            yield Row(
                what=f"{what}, arms {name}: standard errors from the known regret",
                ours=off,
                goal=Goal.no_more(3),
                note=f"regret {mean:.2f} ± {error:.2f}, known {known}",
            )


def _regret(bandit: UCB1, means: list[float], chance: random.Random) -> float:
    lost = 0.0
    for _ in range(_PULLS):
        arm = list(bandit.chances((), chance)).index(1.0)
        lost += max(means) - means[arm]
        bandit.learn(arm, (), float(chance.random() < means[arm]))
    return lost


@case("learnt-mix")
def mix(run: Run) -> Iterator[Row]:
    """What learning costs: where the best arm changes half way, and where none does."""
    pulls = run.size(2_000, quick=400)
    for what, swaps, goal in (
        (
            "the best arm changes half way: loss, of that of the best fixed arm",
            True,
            Goal.no_more(1.15, aim=1.05),
        ),
        (
            "the default stays the best: reward, of that of the default",
            False,
            Goal.no_less(0.95, aim=0.98),
        ),
    ):
        parts = []
        for seed in range(run.size(40, quick=5)):
            gained, fixed = _mixed(seed, pulls, swaps=swaps)
            best = max(fixed)
            parts.append(
                (pulls - gained) / (pulls - best) if swaps else gained / fixed[0]
            )
        mean = Samples.of(sum(parts) / len(parts), Unit.RATIO)
        yield Row(
            what=what,
            ours=mean,
            goal=goal,
            note=f"three arms, {pulls:,} rewards, {len(parts)} runs: "
            f"{min(parts):.3f} to {max(parts):.3f}",
        )


def _mixed(seed: int, pulls: int, *, swaps: bool) -> tuple[float, list[float]]:
    """The rewards of what learns, from 0 to 1 each; and those of each arm."""
    chance = random.Random(seed)
    learned = Learned([1, 2, 3], reward="given", memory=200, floor=0.05)
    gained, fixed = 0.0, [0.0, 0.0, 0.0]
    for number in range(pulls):
        means = [0.7, 0.55, 0.4]
        if swaps and number >= pulls // 2:
            means.reverse()
        rewards = [mean + chance.uniform(-0.25, 0.25) for mean in means]
        arm = int(learned.pick(str(number), "job", chance)) - 1
        learned.give(str(number), 2 * rewards[arm] - 1)
        gained += rewards[arm]
        fixed = [one + more for one, more in zip(fixed, rewards, strict=True)]
    return gained, fixed


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
        goal=Goal.no_more(5e-3, Unit.SECONDS, aim=1.5e-3),
    )


@case("many-jobs")
def many(run: Run) -> Iterator[Row]:
    """The processor time of a small job, of three types, from its body to its end."""
    number = run.size(10_000, quick=300)
    jobs = JobSystem({"resource_pools": {"compute_units_total": 256}})
    for kind in range(3):
        jobs.objective(f"type-{kind}")(lambda unit, job: unit.index)
    asked = {"compute_units": 2, "memory_mb": 0, "bandwidth_mbps": 0}
    with jobs.orchestrator(concurrency=2) as orch:
        began = process_time()
        for place in range(number):
            body = {"job_id": f"j{place}", "objective": f"type-{place % 3}"}
            body |= {"tadpole_count": 1, "reward_signal": 0.5}
            jobs.assign_job({**body, "requested_resources": asked})
        orch.wait()
        taken = Samples.of((process_time() - began) / number, Unit.SECONDS)
    yield Row(
        what="a job of one unit, from assign_job to its reward: processor time",
        ours=taken,
        goal=Goal.no_more(0.8e-3, Unit.SECONDS, aim=0.6e-3),
        note=f"{number:,} jobs of three types on two workers",
    )


@case("unit-message")
def told(run: Run) -> Iterator[Row]:
    """From `unit.tell` to its return, when the message was heard."""
    jobs = JobSystem({})
    times: list[float] = []

    @jobs.objective("tell")
    def tell(unit: Unit_, job: Job) -> None:
        for number in range(run.size(5_000, quick=100)):
            began = perf_counter()
            unit.tell({"words": number, "part": "index"})
            times.append(perf_counter() - began)

    asked = {"compute_units": 0, "memory_mb": 0, "bandwidth_mbps": 0}
    body = {"job_id": "j", "objective": "tell", "tadpole_count": 1}
    with jobs.orchestrator():
        jobs.assign_job({**body, "requested_resources": asked})
        jobs.result("j")
    taken = Samples.of(times, Unit.SECONDS)
    yield Row(
        what="a message of a unit, until it was heard",
        ours=taken,
        goal=Goal.no_more(0.3e-3, Unit.SECONDS, aim=0.1e-3),
    )


@case("bytes-a-message", needs=("msgpack",))
def messages(run: Run) -> Iterator[Row]:
    """Events of a run, the second half, with what was learnt from the first."""
    if not can_compress():
        return
    import msgpack  # pyright: ignore[reportMissingImports]

    from taskorch.ext import channel

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


#: Rewards of two types by three arms, before and after they swap.
_SWAPPED = ((-0.52, 0.12, 0.32), (-0.04, -0.12, -0.28))


def _world(
    means: Callable[[int, str], Sequence[float]],
    pulls: int,
    chance: random.Random,
    *,
    late: int = 0,
    scatter: float | None = None,
    kinds: str = "x",
    **options: Any,
) -> tuple[float, float]:
    """The mean reward of what learns, and of what is best at each moment."""
    arms = len(means(0, kinds[0]))
    learned = Learned(range(arms), reward="given", context=["type"], **options)
    under_way: list[tuple[str, float]] = []
    gained = best = 0.0
    for number in range(pulls):
        kind = chance.choice(kinds)
        worth = means(number, kind)
        mean = worth[int(learned.pick(f"j{number}", kind, chance))]
        best += max(worth)
        if scatter is None:
            value = 1.0 if chance.random() < (mean + 1) / 2 else -1.0
        else:
            value = max(-1.0, min(1.0, mean + chance.gauss(0, scatter)))
        gained += value
        under_way.append((f"j{number}", value))
        if len(under_way) > late:
            learned.give(*under_way.pop(0))
    return gained / pulls, best / pulls


@case("learnt-worlds")
def worlds(run: Run) -> Iterator[Row]:
    """The table by which the default is chosen: change, lateness, scatter, arms."""
    rounds = run.size(20, quick=2)

    def row(what: str, parts: list[float], goal: Goal | None = None) -> Row:
        mean = Samples.of(sum(parts) / len(parts), Unit.RATIO)
        note = f"{rounds} runs: {min(parts):.3f} to {max(parts):.3f}"
        return Row(what=what, ours=mean, goal=goal, note=note)

    for pulls, memory in ((420, 200), (420, 1_000), (1_600, 200)):
        parts = []
        for seed in range(rounds):

            def swapped(number: int, kind: str, half: int = pulls // 2) -> Any:
                return _SWAPPED[(kind == "c") is not (number < half)]

            options: dict[str, Any] = {"memory": memory, "baseline": 1, "kinds": "cp"}
            chance = random.Random(500 + seed)
            parts.append(_world(swapped, pulls, chance, scatter=0.1, **options)[0])
        what = f"two types swap half way, {pulls:,} jobs, memory {memory:,}: reward"
        yield row(what, parts, Goal.no_less(0.065, aim=0.08))
    for arms, late, pulls in (
        *((10, late, 2_000) for late in (0, 20, 100, 200)),
        *((100, 100, 2_000), (10, 0, 100)),
    ):
        parts = []
        for seed in range(rounds):
            chance = random.Random(600 + seed)
            drawn = [chance.uniform(-1, 1) for _ in range(arms)]
            came, best = _world(lambda *_, d=drawn: d, pulls, chance, late=late)
            parts.append((came + 1) / (best + 1))
        goal = Goal.no_less(0.93, aim=0.95) if (arms, late) == (10, 100) else None
        what = f"{arms} arms, {pulls:,} pulls, rewards {late} late: of the best arm"
        yield row(what, parts, goal)
    for scatter in (0.05, 0.2):
        parts = []
        for seed in range(rounds):
            chance = random.Random(700 + seed)
            drawn = [0.3 + chance.uniform(-0.05, 0.05) for _ in range(10)]
            came, best = _world(lambda *_, d=drawn: d, 2_000, chance, scatter=scatter)
            usual = sum(drawn) / len(drawn)
            parts.append((came - usual) / (best - usual))
        what = f"ten arms that differ by 0.1, scatter {scatter}: of what is to gain"
        yield row(what, parts)
