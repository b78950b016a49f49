"""Batches: tasks that name each other, and the two ways by which they come in."""

import copy
import gc
import pickle
import weakref

import pytest
from hypothesis import given, settings, strategies as st
from tests.tools.examples import examples

from taskorch import (
    DuplicateTaskError,
    Task,
    TaskOrchestrator,
    UnknownTaskError,
    ValidationFailedError,
    current_context,
)
from taskorch.errors import UsageError
from taskorch.journal import register
from taskorch.model import Call
from taskorch.policies import StructuralValidator
from taskorch.runtime._work import after_of

PATIENCE = 60.0


class OwnValidator(StructuralValidator):
    """As ours, and nobody knows that: every task is shown to it."""


def seen(*args, **kwargs):
    """What a task is given, and whose results it may see."""
    return args, kwargs, dict(current_context().results)


@st.composite
def batches(draw):
    """Tasks as `(id, after, arguments)`, where a number is a task of the batch."""
    count = draw(st.integers(1, 7))
    whom = st.one_of(
        st.tuples(st.sampled_from(["object", "id"]), st.integers(0, count - 1)),
        st.just(("handle", 0)),
        st.just(("outside", 0)),
        st.just(("unknown", 0)),
    )
    likely = whom.filter(lambda ref: ref[0] != "unknown")
    refs = st.lists(st.one_of(likely, likely, likely, whom), max_size=3)
    names = st.one_of(st.none(), st.sampled_from("abcdefgh"))
    return [(draw(names), draw(refs), draw(refs)) for _ in range(count)]


def submitted(orch, batch):
    """What becomes of *batch*: results by place, or the error."""
    outside = orch.submit_task(Task.call(seen, "outside", id="outside"))
    assert orch.wait(PATIENCE)
    tasks = [Task.call(seen, id=name) for name, _, _ in batch]

    def meant(ref):
        kind, number = ref
        if kind == "object":
            return tasks[number]
        if kind == "id":
            return batch[number][0] or "outside"
        return {"handle": outside, "outside": "outside", "unknown": "nobody"}[kind]

    for task, (_, after, needs) in zip(tasks, batch, strict=True):
        args = [each for each in map(meant, needs) if not isinstance(each, str)]
        object.__setattr__(task, "after", [meant(ref) for ref in after])
        object.__setattr__(task, "payload", Call(seen, (*args, args)))
    try:
        handles = orch.submit_tasks(tasks)
    except UsageError as error:
        return type(error)
    place = {handle.task_id: number for number, handle in enumerate(handles)}
    told = []
    for handle in handles:
        args, kwargs, results = handle.result(PATIENCE)
        whose = [place.get(task_id, task_id) for task_id in results]
        after = [place.get(task_id, task_id) for task_id in after_of(handle)]
        told.append((whose, after, kwargs, repr(args).count("outside")))
    return told


@given(batches())
@settings(max_examples=examples(60))
def test_both_ways_in_come_to_the_same(batch):
    with (
        TaskOrchestrator(concurrency=2) as plain,
        TaskOrchestrator(concurrency=2, validator=OwnValidator()) as asked,
    ):
        assert submitted(plain, batch) == submitted(asked, batch)


def test_a_batch_names_tasks_by_object_id_and_handle():
    with TaskOrchestrator() as orch:
        before = orch.submit(seen)
        a = Task.call(seen, id="a")
        b = Task.call(seen, after=[a, "a", before])
        c = Task.call(seen, b, after=("a",))
        handles = orch.submit_tasks([a, b, c])
        assert set(handles[1].result(PATIENCE)[2]) == {"a", before.task_id}
        assert handles[2].result(PATIENCE)[0] == (handles[1].result(PATIENCE),)
        # Once more, it is the same.
        assert orch.submit_tasks([Task.call(seen, id="a")]) == handles[:1]


def test_of_a_batch_that_is_refused_nothing_comes_in():
    with TaskOrchestrator() as orch:
        first = orch.submit_task(Task.call(seen, id="taken"))
        with pytest.raises(DuplicateTaskError, match="taken"):
            orch.submit_tasks(
                [Task.call(seen, id="new"), Task.call(seen, 1, id="taken")]
            )
        with pytest.raises(DuplicateTaskError, match="'twice'"):
            orch.submit_tasks(
                [Task.call(seen, id="twice"), Task.call(seen, id="twice")]
            )
        with pytest.raises(UnknownTaskError, match="nobody"):
            orch.submit_tasks([Task.call(seen, id="new", after=["nobody"])])
        with pytest.raises(ValidationFailedError, match="no safe id"):
            orch.submit_tasks([Task.call(seen), Task.call(seen, id="../x")])
        with pytest.raises(ValidationFailedError, match="can be read once"):
            orch.submit_tasks([Task.call(seen, id="new", after=iter([first]))])
        with pytest.raises(UnknownTaskError):
            orch.handle("new")
        assert orch.wait(PATIENCE)
        assert [status.task_id for status in orch.tasks()] == ["taken"]


@pytest.mark.parametrize("field", ["type", "priority"])
def test_what_cannot_be_hashed_is_refused_by_its_name(field):
    task = Task(**{"type": "t", field: ["x"]})
    with TaskOrchestrator(unknown_capability="wait") as orch:
        for submit in (orch.submit_task, lambda task: orch.submit_tasks([task])):
            with pytest.raises(ValidationFailedError) as caught:
                submit(task)
            assert [path for path, _ in caught.value.findings] == [field]


class Large:
    """A result that can be watched."""


def large(_before=None):
    return Large()


def test_a_handle_does_not_keep_what_its_task_needed():
    with TaskOrchestrator(keep_finished=0) as orch:
        first = orch.submit(large)
        last = orch.submit(large, first)
        last.result(PATIENCE)
        assert orch.wait(PATIENCE)
        watch = weakref.ref(first.result())
        del first
        orch.submit(large).result(PATIENCE)
        gc.collect()
        assert watch() is None
        assert isinstance(last.result(), Large)


def test_a_call_is_copied_and_pickled_with_its_arguments():
    call = Call(seen, (1,), {"x": 2})
    bare = Task.call(seen).payload
    for each in (call, bare):
        assert copy.deepcopy(each) == pickle.loads(pickle.dumps(each)) == each
    assert repr(bare) == repr(Call(seen))
    with pytest.raises(TypeError):
        bare.kwargs["x"] = 1
    assert Task.call(seen).payload.kwargs == {}


class Noted:
    """An argument."""


def test_the_collector_of_garbage_is_left_alone(tmp_path):
    """It is that of the whole process, and others count on it."""
    found = []
    register(Noted, lambda _: found.append(gc.isenabled()), lambda _: Noted())
    with TaskOrchestrator(journal=tmp_path / "runs.db") as orch:
        orch.submit_tasks([Task.call(bool, Noted()) for _ in range(1000)])
    assert set(found) == {True}


def test_who_does_a_batch_is_decided_by_what_its_tasks_require():
    """And not by their type, which another agent would do."""
    with TaskOrchestrator() as orch:
        orch.agent("by-type", capabilities={"x"})(lambda task, context: "type")
        orch.agent("as-required", capabilities={"y"})(lambda task, context: "required")
        tasks = [Task("x", requires=["y"]) for _ in range(3)]
        handles = orch.submit_tasks(tasks)
        assert [handle.result(PATIENCE) for handle in handles] == ["required"] * 3


def test_needs_that_are_lists_are_those_of_each_task():
    """Of what cannot be a key, nothing is remembered from one task to the next."""
    ran: list[tuple[object, str]] = []
    with TaskOrchestrator(concurrency=4) as orch:
        for name in ("x", "y"):
            orch.agent(name, capabilities={name})(
                lambda task, context, name=name: ran.append((task.payload, name))
            )
        orch.submit_task(Task("t", "y", requires=("y",))).result(PATIENCE)
        needs = ["x", "y", "x", "y"]
        batch = [Task.call(int), *(Task("t", need, requires=[need]) for need in needs)]
        for _ in range(2):
            for work in orch.submit_tasks(batch):
                work.result(PATIENCE)
    assert sorted(ran) == [("x", "x")] * 4 + [("y", "y")] * 5
