"""What is run again makes stale what depended on the run before."""

from __future__ import annotations

from typing import Any

import pytest
from tests.api.tools import PATIENCE, Hold

from taskorch import (
    AtLeast,
    InvalidTaskError,
    SqliteJournal,
    Task,
    TaskCancelledError,
    TaskOrchestrator,
    Workflow,
    current_context,
)
from taskorch.ext.views import JournalReader
from taskorch.ext.views._nights import RunsOfJournal, RunViews

#: What fails, and what sources bring.
BAD: set[str] = set()
VALUE = {"now": 1}


@pytest.fixture(autouse=True)
def _mended():
    BAD.clear()
    VALUE["now"] = 1


def part(name: str) -> int:
    if name in BAD:
        msg = "poison"
        raise ValueError(msg)
    return VALUE["now"]


def total() -> int:
    return sum(current_context().results.values())


def stale(orch: Any) -> list[str]:
    return [status.task_id for status in orch.tasks() if status.stale]


def script(orch: TaskOrchestrator, batches: int) -> int:
    tasks = [Task.call(part, name, id=name) for name in "abc"]
    middle = Task.call(total, id="middle", after=tasks, join="finished")
    end = Task.call(total, id="end", after=["middle"])
    # The last first: an order of the caller's.
    whole = [end, middle, *tasks]
    if batches == 1:
        return orch.submit_tasks(whole)[0].result(PATIENCE)
    return [orch.submit_task(task) for task in reversed(whole)][-1].result(PATIENCE)


@pytest.mark.parametrize("keep_finished", [100, 0])
@pytest.mark.parametrize("batches", [1, 5])
def test_a_mended_script_ends_with_a_new_result(tmp_path, batches, keep_finished):
    path = tmp_path / "runs.db"
    BAD.add("b")
    options = {"journal": path, "rerun_failed": True, "keep_finished": keep_finished}
    with TaskOrchestrator(**options) as orch:
        assert script(orch, batches) == 2
    BAD.clear()
    for _ in range(2):
        with TaskOrchestrator(**options) as orch:
            assert script(orch, batches) == 3
            assert stale(orch) == []
    assert JournalReader(path).get_task_status("end").task_id == "end~2"


def test_a_task_of_a_workflow_takes_what_follows_along(caplog):
    wf = Workflow("w")
    wf.task(total, id="end", after=[wf.task(part, "a", id="a")])
    with TaskOrchestrator() as orch:
        run = orch.workflows.start(wf, id="x")
        assert run.result(PATIENCE)["end"] == 1
        VALUE["now"] = 2
        orch.rerun_task("x/a")
        assert run.result(PATIENCE)["end"] == 2
        VALUE["now"] = 3
        orch.rerun_task("x/a", downstream=False)
        assert not caplog.records
        assert run.result(PATIENCE)["end"] == 2
        assert "stale, of end" in caplog.text
        assert run.status().stale == ("end",)
        assert "end is stale" in str(run.status())
        assert "stale" in str(run.report())
        orch.workflows.start(wf, id="x")
        assert run.result(PATIENCE)["end"] == 3


@pytest.mark.parametrize("max_parallel", [None, 1])
def test_a_map_over_what_is_other_now_makes_its_calls_anew(max_parallel):
    items = ["a", "b"]
    wf = Workflow("w")
    source = wf.task(lambda: list(items), id="source")
    wf.task(len, wf.map(str.upper, source, id="up", max_parallel=max_parallel), id="n")
    with TaskOrchestrator() as orch:
        run = orch.workflows.start(wf, id="x")
        assert run.result(PATIENCE)["up"] == ["A", "B"]
        items[:] = ["a", "c", "d"]
        orch.rerun_task("x/source")
        assert run.result(PATIENCE)["up"] == ["A", "C", "D"]
        assert run.result(PATIENCE)["n"] == 3
        # Though its item is the same: what it calls may not be.
        assert run.handles["up/0"].task_id == "x/up/0~2"


@pytest.mark.parametrize("keep_finished", [100, 0])
def test_others_are_stale_until_they_are_asked_for(tmp_path, keep_finished):
    """In the next incarnation, and where the tasks have left memory, too."""
    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path) as orch:
        first = orch.submit_task(Task.call(part, "a", id="a"))
        then = orch.submit_task(Task.call(total, id="b", after=[first]))
        orch.submit_task(Task.call(total, id="c", after=[then]))
        orch.submit_task(Task.call(part, "d", id="d"))
        orch.wait(PATIENCE)
        assert stale(orch) == []
        VALUE["now"] = 2
        orch.rerun_task("a").result(PATIENCE)
        assert stale(orch) == ["b", "c"]
        said = str(orch.explain("b"))
        assert "It is stale: it had a, which was run again since, as a~2." in said
        assert "Call orch.rerun_task('b', downstream=True)." in str(orch.explain("c"))
        assert "stale" not in str(orch.explain("d"))
    reader = JournalReader(path)
    assert stale(reader) == ["b", "c"]
    assert [n for n in "abcd" if reader.get_task_status(n).stale] == ["b", "c"]
    assert "It is stale" in str(reader.explain("c"))
    with TaskOrchestrator(journal=path, keep_finished=keep_finished) as orch:
        assert stale(orch) == ["b", "c"]
        assert [n for n in "abcd" if orch.get_task_status(n).stale] == ["b", "c"]
        assert orch.get_task_status("c").to_dict()["stale"] is True
    if not keep_finished:
        # What has left memory is not known to depend on anything.
        return
    with TaskOrchestrator(journal=path) as orch:
        orch.rerun_task("b", downstream=True)
        assert orch.handle("c").result(PATIENCE) == 2
        assert stale(orch) == []


def test_downstream_of_what_lives():
    """What waits goes on to the new run, or begins anew; what runs begins anew."""
    with TaskOrchestrator() as orch:
        hold, runs = Hold(), Hold()
        late = orch.submit_task(Task.call(hold, 0, id="late"))
        first = orch.submit_task(Task.call(part, "a", id="a"))
        waits = orch.submit_task(Task.call(total, id="waits", after=[first, late]))
        end = orch.submit_task(Task.call(total, id="end", after=[waits]))
        going = orch.submit_task(Task.call(runs, first, id="going", executor="thread"))
        runs.wait()
        VALUE["now"] = 2
        assert orch.rerun_task("a", downstream=True).result(PATIENCE) == 2
        hold.release()
        runs.release()
        assert orch.handle("going").result(PATIENCE) == 2
        assert orch.handle("end").result(PATIENCE) == end.result(PATIENCE) == 2
        for old in (waits, going):
            with pytest.raises(TaskCancelledError, match=f"{old.task_id}~2 runs"):
                old.result(PATIENCE)
        assert stale(orch) == []


@pytest.mark.parametrize(
    ("join", "again", "is_stale"),
    [
        ("any", "a", True),
        ("any", "b", False),
        (AtLeast(1), "b", False),
        ("finished", "b", True),
        ("finished", "a", True),
    ],
)
def test_what_a_join_did_not_go_by_makes_nothing_stale(join, again, is_stale):
    BAD.add("b")
    with TaskOrchestrator() as orch:
        above = orch.submit_tasks([Task.call(part, n, id=n) for n in "ab"])
        orch.wait(PATIENCE)
        orch.submit_task(Task.call(total, id="c", after=above, join=join))
        orch.wait(PATIENCE)
        orch.rerun_task(again)
        orch.wait(PATIENCE)
        assert stale(orch) == ["c"] * is_stale


def test_what_waited_for_the_new_run_is_not_stale(tmp_path):
    """Nor is what was given an earlier run on purpose, or was cancelled."""
    BAD.add("a")
    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path) as orch:
        orch.submit_task(Task.call(part, "a", id="a"))
        orch.submit_task(Task.call(total, id="b", after=["a"]))
        gone = orch.submit_task(Task.call(total, id="gone", after=["a"]))
        skipped = Task.call(total, id="skip", after=["a"], on_parent_failure="skip")
        orch.submit_task(skipped)
        orch.wait(PATIENCE)
        orch.cancel_task(gone.task_id)
        BAD.clear()
        orch.rerun_task("a")
        assert orch.handle("b").result(PATIENCE) == 1
        orch.submit_task(Task.call(total, id="old", after=["a~1"], join="finished"))
        orch.wait(PATIENCE)
        assert stale(orch) == ["skip"]
    reader = JournalReader(path)
    names = ("a", "b", "gone", "skip", "old")
    assert [n for n in names if reader.get_task_status(n).stale] == ["skip"]
    for keep in (100, 0):
        with TaskOrchestrator(journal=path, keep_finished=keep) as orch:
            assert stale(orch) == ["skip"]


def test_downstream_is_a_yes_or_a_no():
    with TaskOrchestrator() as orch:
        orch.submit(part, "a")
        with pytest.raises(InvalidTaskError, match="downstream is True, False or None"):
            orch.rerun_task("a", downstream="yes")


class Asked(SqliteJournal):
    """It counts the questions that it is asked about tasks."""

    many = 0

    def __getattribute__(self, name):
        Asked.many += name in ("about", "select", "ends", "began", "ids")
        return super().__getattribute__(name)


@pytest.mark.parametrize("is_again", [False, True])
@pytest.mark.parametrize(
    "act",
    [
        lambda orch: orch.workflows.status("r"),
        lambda orch: orch.workflows.get("r").report(),
        lambda orch: orch.workflows.restart("r"),
        lambda orch: list(orch.tasks(id="r/*")),
        lambda orch: RunViews(
            lambda: orch, lambda: RunsOfJournal(JournalReader(orch.journal)), live=True
        ).run("r"),
    ],
)
def test_a_run_that_has_left_memory_costs_few_questions(tmp_path, act, is_again):
    """However many tasks it has."""
    asked = []
    for many in 3, 60:
        journal = Asked(tmp_path / f"{many}.db")
        with TaskOrchestrator(journal=journal, keep_finished=0) as orch:
            flow = Workflow("flow")
            flow.task(int, id="a")
            for n in range(many):
                flow.task(int, id=f"t{n}", after=["a"])
            orch.workflows.start(flow, id="r").result(PATIENCE)
            if is_again:
                orch.rerun_task("r/a")
                orch.wait(PATIENCE)
            Asked.many = 0
            act(orch)
            asked.append(Asked.many)
    assert asked[0] == asked[1] <= 40
