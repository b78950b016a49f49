"""A restart runs each task once: with what those before it have brought this time."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest
from tests.house.tools.examples import seeds

from taskorch import TaskOrchestrator, Workflow
from taskorch.core.runs._foreseen import restart_of_run
from taskorch.model.ids import stem_of

#: How often each body began, and which of them fail.
BEGUN: Counter[str] = Counter()
FAILING: set[str] = set()


@pytest.fixture(autouse=True)
def _as_at_first():
    BEGUN.clear()
    FAILING.clear()


def body(name: str) -> None:
    BEGUN[name] += 1
    if name in FAILING:
        raise ConnectionError(name)


def items(name: str, *_above: Any) -> list[str]:
    body(name)
    return [f"{name}-{number}" for number in range(3)]


def call(item: str) -> str:
    body(item)
    return item


def last(name: str, *above: Any) -> int:
    """Return the number of errors among the results *above*."""
    body(name)
    rows = [row for each in above if isinstance(each, list) for row in each]
    return sum(isinstance(row, Exception) for row in rows)


def mailed() -> Workflow:
    workflow = Workflow("w")
    rows = workflow.map(
        call, workflow.task(items, "i", id="i"), id="m", allow_failures=1
    )
    workflow.task(last, "mail", rows, id="mail")
    return workflow


#: Acts that run what failed again.
ACTS = {
    "restart": lambda orch: orch.workflows.restart("r"),
    "as it was": lambda orch: orch.workflows.restart("r", definition="as_it_was"),
    "as deployed": lambda orch: orch.workflows.start(
        mailed(), id="r", definition="as_deployed"
    ),
}


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("is_mended", [True, False])
def test_an_allowed_failure_runs_before_what_had_its_error(
    act: str, *, is_mended: bool
) -> None:
    FAILING.update({"i-1", "mail"})
    with TaskOrchestrator() as orch:
        run = orch.workflows.start(mailed(), id="r")
        orch.wait()
        FAILING.clear()
        FAILING.update([] if is_mended else ["i-1"])
        BEGUN.clear()
        told = restart_of_run(orch, "r")
        ACTS[act](orch)
        orch.wait()
        assert BEGUN == {"i-1": 1, "mail": 1}
        assert run.handles["mail"].result() == (0 if is_mended else 1)
        assert sorted(told.task_ids) == ["r/m", "r/m/1", "r/mail"]


@pytest.mark.parametrize("is_mended", [True, False])
def test_a_run_that_is_started_again_runs_each_task_once(
    tmp_path: Path, *, is_mended: bool
) -> None:
    FAILING.update({"i-1", "mail"})
    journal = tmp_path / "journal.db"
    with TaskOrchestrator(journal=journal) as orch:
        orch.workflows.start(mailed(), id="r")
        orch.wait()
    FAILING.clear()
    FAILING.update([] if is_mended else ["i-1"])
    BEGUN.clear()
    with TaskOrchestrator(journal=journal, rerun_failed=True) as orch:
        run = orch.workflows.start(mailed(), id="r")
        orch.wait()
        assert run.handles["mail"].result() == (0 if is_mended else 1)
    assert BEGUN == {"i-1": 1, "mail": 1}


def random_workflow(random: Random) -> tuple[Workflow, list[str]]:
    """Return a workflow of maps and tasks, and the names of all bodies."""
    workflow = Workflow("w")
    made: list[Any] = []
    bodies: list[str] = []
    for number in range(random.randint(3, 6)):
        name = f"t{number}"
        above = random.sample(made, min(len(made), random.randint(0, 2)))
        bodies.append(name)
        if random.random() < 0.5:
            source = workflow.task(items, name, *above, id=name)
            made.append(workflow.map(call, source, id=f"m{number}", allow_failures=2))
            bodies += [f"{name}-{each}" for each in range(3)]
        else:
            options: dict[str, Any] = {}
            if above:
                options["join"] = random.choice(["all", "finished"])
            made.append(workflow.task(last, name, id=name, after=above, **options))
    return workflow, bodies


@pytest.mark.parametrize("seed", seeds(6, 25))
def test_no_task_runs_twice_in_one_restart(seed: int) -> None:
    random = Random(seed)
    workflow, bodies = random_workflow(random)
    FAILING.update(random.sample(bodies, len(bodies) // 3))
    with TaskOrchestrator() as orch:
        run = orch.workflows.start(workflow, id="r")
        orch.wait()
        for _ in range(3):
            FAILING.difference_update(random.sample(bodies, len(bodies) // 2))
            BEGUN.clear()
            told = {stem_of(each) for each in restart_of_run(orch, "r").task_ids}
            had = {name: handle.task_id for name, handle in run.handles.items()}
            orch.workflows.restart("r")
            orch.wait()
            assert not [name for name, times in BEGUN.items() if times > 1]
            now = {name: handle.task_id for name, handle in run.handles.items()}
            again = {f"r/{name}" for name in had if now[name] != had[name]}
            # A map over a result that is made anew makes its calls anew.
            assert told <= again
            assert {each.rpartition("/")[0] for each in again - told} <= told - {"r"}
            assert not any(each.stale for each in orch.tasks(id="r/*"))
