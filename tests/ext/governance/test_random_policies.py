"""Random operations, lives and clocks: nothing starts that no rule allowed."""

from __future__ import annotations

import math
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.api.tools import PATIENCE

from taskorch import Task, TaskorchError, TaskOrchestrator
from taskorch.errors import PolicyDeniedError
from taskorch.events import (
    Event,
    TaskBlocked,
    TaskCancelled,
    TaskCompleted,
    TaskFailed,
    TaskRetrying,
    TaskStarted,
    TaskSuspended,
)
from taskorch.ext.governance import (
    ConstitutionalRuntime,
    HistoryRule,
    Operation,
    Past,
    Policy,
    Rule,
)
from taskorch.ext.views import JournalReader

WINDOW = 0.3
MOST = 2
ENDS = (
    *(TaskBlocked, TaskCancelled, TaskCompleted, TaskFailed),
    *(TaskRetrying, TaskSuspended),
)


def policies() -> list[Policy]:
    count = HistoryRule(
        "n", count=Past("started", "b"), at_most=MOST, within=WINDOW, same="owner"
    )
    never = HistoryRule("v", never_after=Past("failed", "d"), same="owner")
    size = [Rule("r", "task.payload.args[0]", "less_than", 7)]
    return [
        Policy("size", "safety", "critical", rules=size, at="start"),
        Policy("no-c", "safety", "critical", when="task.type == 'c'"),
        Policy(
            "asks",
            "safety",
            "high",
            types="e",
            rules=size[:0],
            when="true || task.id == ''",
        ),
        Policy("rate", "fairness", "critical", types="b", at="start", history=[count]),
        Policy("after", "safety", "critical", types="a", at="start", history=[never]),
    ]


def work(size: int, kind: str) -> int:
    if kind == "d" and size % 2:
        raise OSError
    return size


def parts_of(task_id: str) -> tuple[str, str, int]:
    kind, tenant, size, _ = task_id.partition("~")[0].split("-")
    return kind, tenant, int(size)


def unauthorised(events: list[Event], answered: set[str]) -> list[Event]:
    """The starts that a person who reads all events would not have allowed."""
    wrong: list[Event] = []
    starts: list[tuple[str, int, str]] = []
    running: set[str] = set()
    failed: set[str] = set()
    for event in events:
        task_id = getattr(event, "task_id", "")
        if isinstance(event, ENDS):
            running.discard(task_id)
        if isinstance(event, TaskFailed) and parts_of(task_id)[0] == "d":
            failed.add(parts_of(task_id)[1])
        if not isinstance(event, TaskStarted):
            continue
        kind, tenant, size = parts_of(task_id)
        # Times of verdicts are floats of seconds, which are right to a microsecond.
        since = event.at_ns - int(WINDOW * 1e9) + 1_000
        recent = [
            name
            for name, at, whose in starts
            if whose == tenant and (at > since or name in running)
        ]
        is_wrong = (
            size >= 7
            or kind == "c"
            or (kind == "e" and task_id not in answered)
            or (kind == "b" and len(recent) >= MOST)
            or (kind == "a" and tenant in failed)
        )
        if is_wrong:
            wrong.append(event)
        if kind == "b":
            starts.append((task_id, event.at_ns, tenant))
            running.add(task_id)
    return wrong


def lived(path: Path, draw: random.Random, tasks: int, lives: int) -> set[str]:
    """
    Submit random tasks in several incarnations, and meddle; the tasks that people let
    go.
    """
    answered: set[str] = set()
    number = 0
    for _ in range(lives):
        with TaskOrchestrator(
            journal=path,
            durability="process",
            governance=ConstitutionalRuntime(policies()),
            concurrency=draw.choice([1, 3, 10]),
            keep_finished=draw.choice([0, 100]),
        ) as orch:
            ids: list[str] = []
            for _batch in range(tasks // lives // 10):
                batch = []
                for _ in range(10):
                    kind = draw.choice("aabbde")
                    tenant = draw.choice(["x", "y", "z"])
                    size = draw.choice([1, 2, 3, 4, 6, 7, 9])
                    name = f"{kind}-{tenant}-{size}-{number}"
                    number += 1
                    ids.append(name)
                    batch.append(
                        Task.call(work, size, kind, id=name, type=kind, owner=tenant)
                    )
                orch.submit_tasks(batch)
                with pytest.raises(PolicyDeniedError):
                    orch.submit_task(Task.call(work, 1, "c", type="c"))
                with suppress(TaskorchError):
                    name = draw.choice(ids)
                    draw.choice([orch.cancel_task, orch.rerun_task, orch.suspend_task])(
                        name
                    )
                with suppress(TaskorchError):
                    # Whatever a person decides, what is denied does not start.
                    orch.decide(draw.choice(ids), "retry")
            if draw.random() < 0.5:
                for question in orch.questions():
                    answered.update(question.tasks)
                    assert question.answer("retry", by="ada")
                    break
            with suppress(TaskorchError):
                orch.governance.replace(policies())
            orch.wait(0.2)
            orch.stop(drain=False, timeout=PATIENCE)
    return answered


def check_world(path: Path, seed: int, tasks: int, lives: int) -> None:
    draw = random.Random(seed)
    answered = lived(path, draw, tasks, lives)
    events = list(JournalReader(path).happened())
    starts = [event for event in events if isinstance(event, TaskStarted)]
    # A decision by hand to go on is an answer, too.
    decided = {
        event.task_id
        for event in starts
        if any("~people" in part for part in event.permit)
    }
    assert len(starts) > tasks // 20
    assert unauthorised(events, answered | decided) == []
    replay = ConstitutionalRuntime(policies()).replay(path)
    assert replay.differences == ()


def test_nothing_starts_that_no_rule_allowed(tmp_path: Path) -> None:
    check_world(tmp_path / "runs.db", 1, 120, 2)


@pytest.mark.slow("2,000 tasks in five lives")
def test_nothing_starts_that_no_rule_allowed_in_many_incarnations(
    tmp_path: Path,
) -> None:
    check_world(tmp_path / "runs.db", 2, 2_000, 5)


def fuzzed(draw: random.Random) -> Operation:
    values: list[Any] = [
        None,
        True,
        0,
        3,
        8,
        1e300,
        math.nan,
        "7",
        "a",
        [],
        [7],
        {"x": 1},
    ]
    values += [object(), b"x", {"args": [draw.randrange(9)]}, "x" * 20_000]
    payload = draw.choice([draw.choice(values), {"args": [draw.choice(values)]}])
    return Operation(
        type=draw.choice("abcde"),
        id=draw.choice(["", "t-1", "e"]),
        moment=draw.choice(["submit", "start", "progress", "result", "verb"]),
        owner=draw.choice([None, "x", "y"]),
        payload=payload,
        metadata=draw.choice([{}, {"args": draw.choice(values)}]),
        resources=draw.choice([{}, {"cpu": draw.random()}]),
    )


def check_verdicts(seed: int, number: int) -> None:
    """Equal policies say the same of an operation, at any time, in another process."""
    draw = random.Random(seed)
    one = ConstitutionalRuntime(policies())
    other = ConstitutionalRuntime.from_dict(
        {"policies": [policy.to_dict() for policy in one.policies]}
    )
    for _ in range(number):
        operation = fuzzed(draw)
        now = draw.choice([0.0, 1.0, draw.random() * 1e9])
        verdict = one.validate_operation(operation, now=now)
        again = other.validate_operation(operation, now=now)
        assert verdict.to_dict() == again.to_dict()
        args = (
            operation.payload.get("args")
            if isinstance(operation.payload, dict)
            else None
        )
        size = args[0] if isinstance(args, list) and args else None
        is_number = isinstance(size, int | float) and not isinstance(size, bool)
        is_small = is_number and size < 7
        if operation.moment == "start":
            assert (verdict.decision == "deny") >= (
                not is_small or operation.type == "c"
            )
            if is_small and operation.type in "bd":
                assert verdict.compliant
        if operation.moment in ("progress", "result", "verb"):
            assert verdict.evaluations == ()


def test_the_same_policies_say_the_same_of_anything() -> None:
    check_verdicts(1, 500)


@pytest.mark.slow("a hundred thousand operations")
@pytest.mark.timeout(1_800)
def test_the_same_policies_say_the_same_of_a_hundred_thousand_operations() -> None:
    check_verdicts(2, 100_000)
