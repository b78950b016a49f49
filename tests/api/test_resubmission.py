"""Submitting what is known: ids, idempotency keys, and tasks that have left memory."""

import threading
from pathlib import Path

import pytest
from tests.api.tools import PATIENCE, Hold

from taskorch import (
    CycleError,
    DuplicateTaskError,
    Resources,
    RetryPolicy,
    Task,
    TaskOrchestrator,
    TaskState,
)


def double(n: int) -> int:
    return 2 * n


def shout() -> str:
    return "!"


OPTIONS = {
    "type": "other",
    "priority": 3,
    "requires": ("gpu",),
    "resources": Resources(cpu=0.5),
    "timeout": 30.0,
    "expected": 20.0,
    "deadline": 60.0,
    "not_before": 0.001,
    "retry": RetryPolicy(3),
    "idempotent": False,
    "metadata": {"who": "me"},
    "owner": "ann",
}


def test_the_same_again_is_the_same_task() -> None:
    """Same id, type, payload and options: the existing handle, live or finished."""
    with TaskOrchestrator() as orch:
        hold = Hold()
        gate = orch.submit(hold)

        def task() -> Task:
            return Task.call(double, 4, id="x", after=[gate], priority=2)

        first = orch.submit_task(task())
        assert orch.submit_task(task()) is first
        hold.release()
        assert first.result(PATIENCE) == 8
        assert orch.submit_task(task()) is first
        assert orch.get_stats().state_machine.total == 2


@pytest.mark.parametrize("what", ["payload", "function", "after", "type"])
@pytest.mark.parametrize("gone", [False, True])
def test_other_content_under_a_known_id_is_refused(what, gone) -> None:
    """Whatever differs, the id is taken, in memory or not."""
    with TaskOrchestrator(
        keep_finished=0 if gone else 10, unknown_capability="wait"
    ) as orch:
        orch.submit_task(Task.call(double, 4, id="x")).result(PATIENCE)
        other = orch.submit(int)
        other.result(PATIENCE)
        task = {
            "payload": Task.call(double, 5, id="x"),
            "function": Task.call(abs, 4, id="x", type="double"),
            "after": Task.call(double, 4, id="x", after=[other]),
            "type": Task.call(double, 4, id="x", type="other"),
        }[what]
        with pytest.raises(DuplicateTaskError) as caught:
            orch.submit_task(task)
        assert caught.value.task_id == "x"
        assert "'x'" in str(caught.value)


@pytest.mark.parametrize("what", [name for name in OPTIONS if name != "type"])
@pytest.mark.parametrize("gone", [False, True])
def test_other_options_of_what_has_ended(what, gone) -> None:
    """It keeps its result, in memory or not, and nothing is told."""
    with TaskOrchestrator(
        keep_finished=0 if gone else 10, unknown_capability="wait"
    ) as orch:
        first = orch.submit_task(Task.call(double, 4, id="x"))
        first.result(PATIENCE)
        task = Task.call(double, 4, id="x", **{what: OPTIONS[what]})
        again = orch.submit_task(task)
        assert again.task_id == "x"
        assert again.done()
        assert gone or again is first
        assert orch.get_stats().state_machine.total == 1


def test_what_cannot_be_compared_is_other_content() -> None:
    """Payloads whose comparison raises are not taken for the same."""

    class Odd:
        def __eq__(self, other: object) -> bool:
            msg = "do not compare me"
            raise ValueError(msg)

        __hash__ = None  # type: ignore[assignment]

    with TaskOrchestrator() as orch:
        odd = Odd()
        orch.submit_task(Task.call(id, odd, id="x")).result(PATIENCE)
        with pytest.raises(DuplicateTaskError):
            orch.submit_task(Task.call(id, Odd(), id="x"))


def test_many_threads_submit_the_same() -> None:
    """However many submit one id at once, it is one task."""
    with TaskOrchestrator() as orch:
        calls: list[int] = []
        start = threading.Barrier(4)
        handles: list = []

        def work() -> None:
            calls.append(1)

        def submit() -> None:
            start.wait(PATIENCE)
            handles.extend(
                orch.submit_task(Task.call(work, id=f"x{n}")) for n in range(50)
            )

        threads = [threading.Thread(target=submit) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert orch.wait(PATIENCE)
        assert len(calls) == 50
        assert len(set(handles)) == 50


# -- rings -------------------------------------------------------------------------


def test_nor_does_a_run_of_what_had_left_memory(tmp_path: Path) -> None:
    """For what it waited nobody knew when another was let wait for it."""
    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path, keep_finished=0) as orch:
        orch.submit_task(Task.call(shout, id="first", not_before=3600))
        orch.submit_task(Task.call(shout, id="second", after=["first"]))
        orch.submit_task(Task.call(shout, id="third", after=["second"]))
        orch.cancel_task("third")
        assert orch.submit(shout).result(PATIENCE) == "!"
        assert "third" not in orch._rt.kernel.tasks
        orch._rt.add_parents("second", ["third"])
        with pytest.raises(CycleError, match="third~2 → second → third~2"):
            orch.rerun_task("third")
        assert orch.get_task_status("third").state is TaskState.CANCELLED
        orch.stop(drain=False, timeout=0)
