"""Submitting what is known: ids, idempotency keys, and tasks that have left memory."""

import functools
import itertools
import threading
from pathlib import Path
from typing import Any

import networkx as nx
import pytest
from hypothesis import given, settings, strategies as st
from tests.integration.tools import PATIENCE, Hold, fail
from tests.tools.examples import examples

from taskorch import (
    CycleError,
    DuplicateTaskError,
    Resources,
    RetryPolicy,
    Task,
    TaskOrchestrator,
    TaskState,
    UnknownTaskError,
)
from taskorch.errors import ResultGoneError


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


def test_finished_badly_is_finished() -> None:
    """A failed task is not run again by submitting it again."""
    with TaskOrchestrator() as orch:
        calls: list[int] = []

        def bad() -> None:
            calls.append(1)
            fail(ValueError())

        first = orch.submit_task(Task.call(bad, id="x"))
        assert first.exception(PATIENCE) is not None
        again = orch.submit_task(Task.call(bad, id="x"))
        assert again is first
        assert calls == [1]


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


@pytest.mark.parametrize(
    "order", list(itertools.permutations(["ended", "same", "new"]))
)
def test_each_of_a_batch_has_the_options_that_it_has_now(order) -> None:
    """Whatever stands before it: what has ended, and what is the same."""
    with TaskOrchestrator() as orch:
        orch.submit_task(Task.call(double, 1, id="ended")).result(PATIENCE)
        for name in ("same", "new"):
            orch.submit_task(Task.call(double, 2, id=name, not_before=3600))
        batch = {
            "ended": Task.call(double, 1, id="ended", priority=7),
            "same": Task.call(double, 2, id="same", not_before=3600),
            "new": Task.call(double, 2, id="new", not_before=3600, priority=7),
        }
        orch.submit_tasks([batch[name] for name in order])
        found = {name: orch.get_task_status(name).priority for name in order}
        assert found == {"ended": 0, "same": 0, "new": 7}
        orch.change_tasks("cancel")


def test_other_content_in_a_batch_refuses_the_batch() -> None:
    """A known id with other content takes nothing of the batch in."""
    with TaskOrchestrator() as orch:
        orch.submit_task(Task.call(double, 4, id="x")).result(PATIENCE)
        with pytest.raises(DuplicateTaskError):
            orch.submit_tasks([Task.call(int, id="new"), Task.call(double, 5, id="x")])
        assert [s.task_id for s in orch.tasks()] == ["x"]


def test_a_batch_with_known_and_new_tasks() -> None:
    """Known ones give their handles, and new ones may depend on them."""
    with TaskOrchestrator() as orch:
        a = Task.call(double, 4, id="a")
        first = orch.submit_task(a)
        handles = orch.submit_tasks(
            [Task.call(double, 4, id="a"), Task.call(double, a, id="b")]
        )
        assert handles[0] is first
        assert handles[1].result(PATIENCE) == 16


def test_a_script_that_is_run_again_in_one_process() -> None:
    """New Task objects with known keys stand for the tasks that are there."""
    with TaskOrchestrator() as orch:
        calls: list[str] = []

        def step(name: str, *args: int) -> int:
            calls.append(name)
            return 1 + sum(args)

        def script() -> list:
            a = Task.call(step, "a", idempotency_key="a")
            b = Task.call(step, "b", a, idempotency_key="b")
            c = Task.call(step, "c", a, b, idempotency_key="c")
            return orch.submit_tasks([c, b, a])

        def one_by_one() -> list:
            a = Task.call(step, "a", idempotency_key="a")
            first = orch.submit_task(a)
            b = Task.call(step, "b", a, idempotency_key="b")
            return [orch.submit_task(b), first]

        handles = script()
        assert handles[0].result(PATIENCE) == 4
        assert [h.task_id for h in script()] == [h.task_id for h in handles]
        assert [h.task_id for h in one_by_one()] == [h.task_id for h in handles[1:]]
        assert sorted(calls) == ["a", "b", "c"]


def test_idempotency_keys() -> None:
    """The same key returns the first task, under whatever id; other content is refused."""
    with TaskOrchestrator() as orch:
        task = Task.call(double, 4, idempotency_key="order-1")
        first = orch.submit_task(task)
        assert orch.submit_task(task) is first
        again = orch.submit_task(Task.call(double, 4, idempotency_key="order-1"))
        assert again is first
        assert first.result(PATIENCE) == 8
        with pytest.raises(DuplicateTaskError, match="key 'order-1'"):
            orch.submit_task(Task.call(double, 5, idempotency_key="order-1"))
        # Without a key or an id it is new work.
        assert orch.submit_task(Task.call(double, 4)) is not first


def test_the_key_of_a_refused_batch_is_free() -> None:
    """A key stands for no id under which nothing was accepted."""
    with TaskOrchestrator() as orch:
        refused = Task.call(double, 1, id="x", idempotency_key="k")
        with pytest.raises(UnknownTaskError):
            orch.submit_tasks([refused, Task.call(double, 2, after=["nobody"])])
        other = orch.submit_task(Task.call(shout, id="x"))
        mine = orch.submit_task(Task.call(double, 3, idempotency_key="k"))
        assert other.result(PATIENCE) == "!"
        assert mine.result(PATIENCE) == 6


def test_a_known_key_after_the_task_has_left_memory() -> None:
    """The key is still known: the handle says that the result is gone."""
    both: list[dict[str, Any]] = [{"id": "x"}, {"idempotency_key": "k"}]
    for options in both:
        with TaskOrchestrator(keep_finished=0) as orch:
            first = orch.submit_task(Task.call(double, 4, **options))
            assert first.result(PATIENCE) == 8
            orch.submit(int).result(PATIENCE)
            again = orch.submit_task(Task.call(double, 4, **options))
            assert again.task_id == first.task_id
            assert again.done()
            assert not again.cancelled()
            with pytest.raises(ResultGoneError) as caught:
                again.result(PATIENCE)
            assert caught.value.task_id == first.task_id
            assert "keep" in caught.value.hint
            # The first handle keeps its own.
            assert first.result() == 8
            with pytest.raises(DuplicateTaskError):
                orch.submit_task(Task.call(double, 5, **options))
            assert orch.get_task_status(first.task_id).state == "completed"
            assert "" not in orch.get_stats().types


def test_keep_finished_keeps_the_latest() -> None:
    """The latest finished stay whole, older ones keep id and state."""
    with TaskOrchestrator(keep_finished=2, concurrency=1) as orch:
        for n in range(5):
            orch.submit_task(Task.call(double, n, id=f"t{n}")).result(PATIENCE)
        assert [s.task_id for s in orch.tasks()] == ["t3", "t4"]
        assert orch.handle("t4").result() == 8
        with pytest.raises(ResultGoneError):
            orch.handle("t0").result()
        status = orch.get_task_status("t0")
        assert (status.state, status.result, status.history) == ("completed", None, ())
        assert orch.get_stats().state_machine.completed == 5


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


def test_partials_and_closures_in_memory() -> None:
    """In memory any callable will do; the same object is the same content."""
    with TaskOrchestrator() as orch:
        fn = functools.partial(double, 4)
        task = Task.call(fn, id="x")
        first = orch.submit_task(task)
        assert orch.submit_task(task) is first
        assert orch.submit_task(Task.call(fn, id="x")) is first
        with pytest.raises(DuplicateTaskError):
            orch.submit_task(Task.call(lambda: 8, id="x", type="double"))


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


def test_a_rerun_does_not_take_the_key() -> None:
    """The key stays with the first task, and means the latest run as its id does."""
    with TaskOrchestrator() as orch:
        task = Task.call(shout, id="x", idempotency_key="k")
        first = orch.submit_task(task)
        first.result(PATIENCE)
        again = orch.rerun_task("x")
        again.result(PATIENCE)
        task = Task.call(shout, id="x", idempotency_key="k")
        assert orch.submit_task(task) is again is not first
        assert orch.submit_task(Task.call(shout, idempotency_key="k")) is again


# -- rings -------------------------------------------------------------------------


NAMES = "abcdef"


@given(st.data())
@settings(max_examples=examples(50))
def test_no_replacement_closes_a_ring(data: st.DataObject) -> None:
    """What waits for a task will wait for the next run, so that must not wait for it."""
    waits: dict[str, list[str]] = {}
    for number, name in enumerate(NAMES):
        above = st.lists(
            st.sampled_from(NAMES[:number] or "a"), unique=True, max_size=2
        )
        waits[name] = data.draw(above, f"above {name}") if number else []
    roots = [name for name, above in waits.items() if not above]
    with TaskOrchestrator() as orch:
        orch.submit_tasks(
            [Task.call(fail, id=name, after=above) for name, above in waits.items()]
        )
        for name in roots:
            assert orch.handle(name).exception(PATIENCE) is not None
        for name in data.draw(st.permutations(roots), "replaced"):
            above = data.draw(st.lists(st.sampled_from(NAMES), unique=True), name)
            wanted = {**waits, name: above}
            graph = nx.DiGraph((p, child) for child, of in wanted.items() for p in of)
            task = Task.call(shout, id=name, after=above)
            if nx.is_directed_acyclic_graph(graph):
                orch.submit_task(task, replace=True)
                waits = wanted
            else:
                with pytest.raises(CycleError):
                    orch.submit_task(task, replace=True)
                assert orch.handle(name).task_id == name
        orch.stop(drain=False, timeout=0)


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


@pytest.mark.parametrize("how", ["rerun", "replace"])
def test_a_later_run_that_has_left_memory_is_known_by_its_content(how: str) -> None:
    """As the first one is: the same is the same task, and other content is refused."""
    with TaskOrchestrator(keep_finished=1) as orch:
        orch.submit_task(Task.call(abs, 1, id="t")).result(PATIENCE)
        latest = Task.call(abs, 1, id="t")
        if how == "rerun":
            run = orch.rerun_task("t")
        else:
            latest = Task.call(abs, 2, id="t")
            run = orch.submit_task(latest, replace=True)
        run.result(PATIENCE)
        orch.submit(int).result(PATIENCE)
        assert run.task_id not in [status.task_id for status in orch.tasks()]
        assert orch.submit_task(latest).task_id == run.task_id
        with pytest.raises(DuplicateTaskError):
            orch.submit_task(Task.call(abs, 3, id="t"))
