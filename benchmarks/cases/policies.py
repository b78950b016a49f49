"""What policies as data cost: a verdict, and a task that no policy is about."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks._figures import Goal, Row, Samples, Unit
from benchmarks._registry import Run, case
from benchmarks._timing import interleave, time_once
from benchmarks._workloads import noop
from taskorch import Task, TaskOrchestrator
from taskorch.ext.governance import (
    ConstitutionalRuntime,
    HistoryRule,
    Past,
    Policy,
    Rule,
)

_POLICIES = 100
_VERDICTS = 1_000


def _policies(*, breach: bool = False, condition: bool = False) -> list[Policy]:
    """A hundred about one type of task; one more than another is violated, if so."""
    policies = [
        Policy(
            f"policy-{number}",
            "safety",
            "medium",
            types="deploy",
            rules=[Rule("size", "task.payload.size", "less_than", 1_000 + number)],
            when=f"task.priority < {1_000 + number}" if condition else None,
        )
        for number in range(_POLICIES - 1)
    ]
    last = Rule("size", "task.payload.size", "less_than", 1 if breach else 1_000)
    return [*policies, Policy("last", "safety", "medium", types="deploy", rules=[last])]


@case("verdicts", needs=("cel",))
def verdicts(run: Run) -> Iterator[Row]:
    """The time of one verdict with a hundred policies about the type of the task."""
    task = Task("deploy", {"size": 5}, id="a")
    limit = HistoryRule("h", count=Past("started", "deploy"), at_most=5, within=60)
    counted = Policy("count", "safety", "low", types="deploy", history=[limit])
    sets = {
        "all hold": _policies(),
        "one is violated": _policies(breach=True),
        "one is a history rule": [*_policies()[1:], counted],
    }
    for what, policies in sets.items():
        judge = ConstitutionalRuntime(policies).validate_operation
        taken = [
            time_once(lambda judge=judge: [judge(task) for _ in range(_VERDICTS)])
            for _ in range(run.size(9, quick=3))
        ]
        yield Row(
            what=f"verdict, {_POLICIES} policies, {what}",
            ours=Samples.of((each / _VERDICTS for each in taken), Unit.SECONDS),
            goal=Goal.no_more(50e-6, Unit.SECONDS, aim=15e-6),
        )
    judge = ConstitutionalRuntime(_policies(condition=True)).validate_operation
    taken = [
        time_once(lambda: [judge(task) for _ in range(_VERDICTS // 10)])
        for _ in range(run.size(9, quick=3))
    ]
    yield Row(
        what=f"verdict, {_POLICIES} policies with conditions in CEL, all true",
        ours=Samples.of((each * 10 / _VERDICTS for each in taken), Unit.SECONDS),
    )


@case("ungoverned")
def ungoverned(run: Run) -> Iterator[Row]:
    """What policies add to a submission of a task that none of them is about."""
    count = run.size(5_000, quick=1_000)
    governed = TaskOrchestrator(governance=ConstitutionalRuntime(_policies()))
    with TaskOrchestrator() as plain, governed:
        plain.hold_starts("only submissions are measured")
        governed.hold_starts("only submissions are measured")

        def submit(orch: TaskOrchestrator) -> None:
            for _ in range(count):
                _ = orch.submit(noop)

        rounds = interleave(
            {"plain": lambda: submit(plain), "governed": lambda: submit(governed)},
            rounds=run.pairs,
        )
        plain.stop(drain=False)
        governed.stop(drain=False)
    pairs = zip(rounds.seconds["governed"], rounds.seconds["plain"], strict=True)
    yield Row(
        what="added to a plain submission when no policy names its type",
        ours=Samples.of(
            (max(0.0, ours - theirs) / count for ours, theirs in pairs), Unit.SECONDS
        ),
        goal=Goal.no_more(2e-6, Unit.SECONDS, aim=0.5e-6),
        note=f"{count:,} submissions, {run.pairs} rounds",
    )
