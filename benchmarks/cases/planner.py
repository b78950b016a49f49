"""The planner: how right, how fast, and how near to what others make of the same."""

from __future__ import annotations

import json
import math
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import fmean, median
from time import perf_counter

from benchmarks._figures import Goal, Row, Samples, Unit
from benchmarks._registry import Run, case
from taskorch import TaskOrchestrator
from taskorch.errors import InvalidTaskError
from taskorch.ext import wfformat
from taskorch.ext.planner import Estimator, Problem, TaskRequest
from taskorch.ext.planner._scheduling import heft, improve_workers

_STEPS = 1_000
#: How fast workers that differ are.
_SPEEDS = (1.0, 1.0, 1.5, 2.0, 3.0)


@case("planner-thousand")
def thousand(run: Run) -> Iterator[Row]:
    """How long a plan of a thousand steps takes, and the same from the cache."""
    made: list[float] = []
    cached: list[float] = []
    for _ in range(run.size(5, quick=1)):
        orch = TaskOrchestrator()
        domain = orch.planner.domain("count")
        domain.operator(lambda s, n: s.set("n", n), name="one", duration=1)
        domain.method("to")(
            lambda _s, n, end: [] if n == end else [("one", n), ("to", n + 1, end)]
        )
        asked = TaskRequest("r", "to", context={"args": [0, _STEPS]})
        began = perf_counter()
        found = list(next(domain.decompositions(("to", 0, _STEPS))).steps)
        made.append(perf_counter() - began)
        assert len(found) == _STEPS
        assert len(orch.planner.plan(asked, cache=True).tasks) == _STEPS
        began = perf_counter()
        assert orch.planner.plan(asked, cache=True).cache == "hit"
        cached.append(perf_counter() - began)
    for what, taken, most, aim in (
        ("a decomposition of 1,000 operators", made, 1.0, 0.1),
        ("a plan of 1,000 tasks from the cache", cached, 5e-3, 0.5e-3),
    ):
        samples = Samples.of(taken, Unit.SECONDS)
        yield Row(
            what=what,
            ours=samples,
            goal=Goal.no_more(most, Unit.SECONDS, aim=aim),
        )


@case("planner-heft", given="recorded")
def beside_heft(run: Run) -> Iterator[Row]:
    """Recorded workflows on workers that differ, beside HEFT."""
    ratios: list[float] = []
    least: list[float] = []
    for path in recorded(run):
        problem = _on_workers(wfformat.load(path))
        if problem is not None:
            found, bound = improve_workers(problem, run.size(4, quick=1) / 4, seed=1)
            theirs = heft(problem).makespan
            ratios.append(found.makespan / theirs)
            work = sum(problem.durations) / sum(_SPEEDS)
            least.append(max(bound, work) / theirs)
    mean = Samples.of(fmean(ratios), Unit.RATIO)
    yield Row(
        what="recorded workflows on agents that differ, of HEFT's makespan: mean",
        ours=mean,
        goal=Goal.no_more(1.0, aim=0.9),
        note=f"{len(ratios)} workflows, {len(_SPEEDS)} agents, a second each; from "
        f"{min(ratios):.3f} to {max(ratios):.3f}, {sum(r < 1 for r in ratios)} of them "
        f"shorter; none could be below {fmean(least):.3f} on average",
    )


def recorded(run: Run) -> list[Path]:
    assert run.recorded is not None, "it is left out otherwise"
    paths = sorted(run.recorded.glob("*.json"), key=lambda path: path.stat().st_size)
    return paths[: run.size(len(paths), quick=3)]


def _on_workers(found: wfformat.Recording) -> Problem | None:
    """The order of a recorded workflow on workers of such speeds; None: too many."""
    names = list(found.workflow)
    if len(names) > 1_000:
        return None
    place = {name: number for number, name in enumerate(names)}
    above = found.workflow.dependencies
    durations = [round(found.durations[name] * 1_000) for name in names]
    return Problem(
        durations,
        [[place[up] for up in above[name]] for name in names],
        [[] for _ in names],
        [],
        [
            {worker: round(time / speed) for worker, speed in enumerate(_SPEEDS)}
            for time in durations
        ],
    )


@case("planner-estimates", given="recorded")
def estimates(run: Run) -> Iterator[Row]:
    """Estimates of recorded tasks, each before it is known: the P90, and the loss."""
    held = counted = 0
    ours = theirs = plain = 0.0
    # One history of all runs, as a journal has it.
    estimator = Estimator()
    means: dict[str, tuple[int, float]] = {}
    latest: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=50))
    for path in recorded(run):
        for kind, size, seconds in _tasks(path):
            count, mean = means.get(kind, (0, 0.0))
            if count >= 2:
                said = estimator.duration(kind, {"bytes": size})
                held += seconds <= said.p90
                counted += 1
                # As parts of the mean: long ones count no more.
                ours += pinball(seconds, said.p50, 0.5) / mean
                ours += pinball(seconds, said.p90, 0.9) / mean
                theirs += (
                    sum(pinball(seconds, mean, share) for share in (0.5, 0.9)) / mean
                )
                recent = sorted(latest[kind])
                most = recent[min(len(recent), math.ceil(0.9 * (len(recent) + 1))) - 1]
                plain += pinball(seconds, median(recent), 0.5) / mean
                plain += pinball(seconds, most, 0.9) / mean
            estimator.observe(kind, seconds, {"bytes": size})
            latest[kind].append(seconds)
            means[kind] = count + 1, mean + (seconds - mean) / (count + 1)
    share = Samples.of(held / counted, Unit.RATIO)
    yield Row(
        what="share of recorded tasks that took no more than their P90",
        ours=share,
        goal=Goal.no_less(0.87, aim=0.89),
        note=f"{counted:,} tasks; 0.93 at the most is asked, too",
    )
    ratio = Samples.of(ours / theirs, Unit.RATIO)
    yield Row(
        what="pinball loss at P50 and P90, of that of the running mean of the type",
        ours=ratio,
        goal=Goal.no_more(0.73, aim=0.65),
        note=f"of the plain quantiles of the latest fifty of the type: {plain / theirs:.2f}",
    )


def pinball(seconds: float, said: float, share: float) -> float:
    off = seconds - said
    return share * off if off >= 0 else (share - 1) * off


def _tasks(path: Path) -> Iterator[tuple[str, int, float]]:
    """The tasks of a recorded run in its order: type, bytes of input, and seconds."""
    workflow = json.loads(path.read_text(encoding="utf-8"))["workflow"]
    said = workflow["specification"]
    sizes = {one["id"]: one.get("sizeInBytes", 0) for one in said.get("files", ())}
    inputs: Mapping[str, list[str]] = {
        one["id"]: one.get("inputFiles", []) for one in said["tasks"]
    }
    try:
        kinds = wfformat.load(path).workflow
    except InvalidTaskError:
        return
    for one in workflow["execution"]["tasks"]:
        name, seconds = one["id"], one.get("runtimeInSeconds")
        if name in inputs and name in kinds and seconds:
            size = sum(sizes.get(each, 0) for each in inputs[name])
            yield kinds[name].task.type, size, float(seconds)
