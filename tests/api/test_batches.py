"""Batches: tasks that name each other, and the two ways by which they come in."""

import pytest
from hypothesis import given, settings, strategies as st
from tests.house.tools.examples import examples

from taskorch import (
    DuplicateTaskError,
    Task,
    TaskOrchestrator,
    UnknownTaskError,
    ValidationFailedError,
    current_context,
)
from taskorch.core.engine._work import after_of
from taskorch.errors import UsageError
from taskorch.model import Call
from taskorch.policies import StructuralValidator

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
