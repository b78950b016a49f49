"""Chains, groups and chords, nested and empty, with errors inside; and sorting."""

from tests.core.workflows.functions import BROKEN, CALLS, step, zero
from tests.core.workflows.tools import failures

from taskorch import Workflow
from taskorch.core.workflows import _graph


def failures_of(orch, wf: Workflow) -> list[str]:
    return sorted(failures(orch.workflows.start(wf)))


# ----------------------------------------------------------------------- canvas


def test_chains_of_groups_and_empty_groups():
    wf = Workflow("w")
    a, b, c, d = [wf.task(zero, id=n) for n in "abcd"]
    wf.chain([a, b], [], [c], d)
    wf.chain()
    wf.chain([])
    assert dict(wf.dependencies) == {"a": (), "b": (), "c": ("a", "b"), "d": ("c",)}


def test_an_error_callback_is_a_task_that_runs_when_another_has_failed(orch):
    BROKEN.add("work")
    wf = Workflow("w")
    work = wf.task(step, "work", id="work")
    wf.task(step, "clean up", id="clean-up", after=[work], join="finished")
    wf.task(step, "if it went well", id="ok", after=[work], on_parent_failure="skip")
    assert failures_of(orch, wf) == ["work"]
    assert CALLS == ["work", "clean up"]


# ---------------------------------------------------------------------- sorting


def test_the_order_of_the_same_graph_is_the_same():
    """Whatever the order in which its edges were said, as long as its tasks were not."""
    one = _graph.order({"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c")})
    two = _graph.order({"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c", "b")})
    assert one == two == ["a", "b", "c", "d"]
