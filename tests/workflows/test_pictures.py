"""Pictures: well formed, escaped, and of bounded size."""

import re
import xml.etree.ElementTree as ET

import pytest
from tests.workflows.functions import FUNCTIONS, step, zero

from taskorch import Task, TaskOrchestrator, Workflow, WorkflowFailedError
from taskorch.workflows import _pictures


def shapes(html: str) -> list[str]:
    """The texts of the boxes; it must be well formed to have any."""
    root = ET.fromstring(html)
    space = "{http://www.w3.org/2000/svg}"
    return [text.text or "" for text in root.iter(f"{space}text")]


def diamond() -> Workflow:
    wf = Workflow("d")
    wf.chain(
        wf.task(zero, id="a"),
        [wf.task(zero, id="b"), wf.task(zero, id="c")],
        wf.task(zero, id="d"),
    )
    return wf


def test_mermaid_shows_every_task_and_dependency():
    assert diamond().to_mermaid() == (
        "flowchart TD\n"
        '    n0["a"]\n    n1["b"]\n    n2["c"]\n    n3["d"]\n'
        "    n0 --> n1\n    n0 --> n2\n    n1 --> n3\n    n2 --> n3\n"
    )
    assert Workflow("empty").to_mermaid() == "flowchart TD\n"


def test_mermaid_labels_cannot_end_early():
    text = _pictures.mermaid({'a"]; click x "#': ()})
    assert text == 'flowchart TD\n    n0["a#quot;]; click x #quot;#35;"]\n'


def test_a_workflow_in_a_notebook():
    html = diamond()._repr_html_()
    assert shapes(html) == ["a", "b", "c", "d"]
    assert html.count("<path") == 4
    assert "<Workflow" not in html
    assert shapes(Workflow("empty")._repr_html_()) == []


def test_what_comes_from_outside_is_escaped():
    evil = '<script>alert("x")</script>&'
    wf = Workflow("w")
    wf.add(Task(evil, id="a"))
    assert "<script" not in wf._repr_html_()
    html = _pictures.page(evil, {evil: ()}, {evil: evil}, {evil: evil})
    assert "<script" not in html
    assert len(shapes(html)) == 1


def test_columns_are_ordered_by_dependencies():
    html = diamond()._repr_html_()
    x = {
        name: int(
            re.search(rf"<title>{name}\n.*?<rect x=\"(\d+)\"", html, re.DOTALL)[1]
        )
        for name in "abcd"
    }
    assert x["a"] < x["b"] == x["c"] < x["d"]


@pytest.mark.parametrize("wide", [True, False])
def test_a_large_workflow_is_shown_in_part_and_says_so(wide):
    wf = Workflow("w")
    nodes = [wf.task(zero, id=f"t{i}") for i in range(500)]
    if not wide:
        wf.chain(*nodes)
    html = wf._repr_html_()
    assert len(shapes(html)) == 200
    assert "300 more tasks" in html


def test_long_names_are_cut_in_boxes_only():
    name = "/".join(["segment"] * 20)
    html = _pictures.page("t", {name: ()}, {}, {})
    (label,) = shapes(html)
    assert len(label) <= 26
    assert f"<title>{name}</title>" in html


def test_a_run_shows_its_states():
    wf = Workflow("w")
    bad = wf.task(FUNCTIONS["total"], 5, id="bad")
    wf.task(step, "x", bad, id="below")
    with TaskOrchestrator() as orch:
        run = orch.workflows.start(wf, id="x")
        with pytest.raises(WorkflowFailedError):
            run.result(20)
        html = run._repr_html_()
        assert repr(run) == "<WorkflowRun 'x': 0 of 2 tasks completed>"
    assert shapes(html) == ["bad", "below"]
    assert "bad\ntotal\nfailed" in html
    assert "below\nstep\nblocked" in html
    assert "x is failed" in html
