"""Writing a workflow down: nodes, ids, groups, chains, and workflows in workflows."""

import itertools
from inspect import signature
from types import SimpleNamespace

import pytest
from tests.core.workflows.functions import add, echo, total, zero

from taskorch import (
    CycleError,
    DuplicateTaskError,
    InvalidTaskError,
    Task,
    TaskOrchestrator,
    Workflow,
    WorkflowContext,
)
from taskorch.errors import UsageError
from taskorch.model import Reference

SLOW = pytest.mark.slow("20,000 tasks")


def edges(wf: Workflow) -> set[tuple[str, str]]:
    return {(p, name) for name, above in wf.dependencies.items() for p in above}


def test_nodes_as_arguments_are_dependencies():
    """Alone, in a list, and by keyword."""
    wf = Workflow("w")
    a, b, c, d = (wf.task(zero, id=name) for name in "abcd")

    last = wf.task(echo, a, [b, 1, c], kwargs={"x": d}, id="last")

    assert last.after == ("a", "b", "c", "d")
    assert wf["last"] == last
    assert "last" in wf
    assert list(wf) == ["a", "b", "c", "d", "last"]
    assert len(wf) == 5


def test_nodes_are_equal_if_they_are_the_same_task():
    wf, other = Workflow("w"), Workflow("w")
    a = wf.task(zero, id="a")
    assert a == wf["a"]
    assert hash(a) == hash(wf["a"])
    assert a != other.task(zero, id="a")
    assert a != "a"
    assert {a, wf["a"], wf.task(zero, id="b")} == {wf["a"], wf["b"]}


def test_after_takes_nodes_ids_and_tasks_with_repeats():
    wf = Workflow("w")
    a = wf.task(zero, id="a")
    added = Task("kind", id="b")
    wf.add(added)

    node = wf.task(zero, after=[a, "a", added, "b"])

    assert node.after == ("a", "b")


def test_a_task_that_was_added_can_be_an_argument():
    wf = Workflow("w")
    task = Task.call(zero, id="a")
    wf.add(task)

    assert wf.task(echo, task).after == ("a",)


@pytest.mark.parametrize("way", ["call", "program", "wait_for"])
def test_what_is_not_said_is_as_for_a_task(way):
    def defaults(function):
        return {
            name: parameter.default
            for name, parameter in signature(function).parameters.items()
            if parameter.default is not parameter.empty
        }

    known = defaults(getattr(Task, way))
    assert defaults(getattr(Workflow, "task" if way == "call" else way)) == known
    if way != "wait_for":
        # From within a run, too.
        inside = getattr(WorkflowContext, "task" if way == "call" else way)
        assert defaults(inside) == {**known, "before": ()}


def test_including_is_a_copy_of_what_was_there():
    inner = Workflow("inner")
    x = inner.task(zero, id="x")
    wf = Workflow("w")
    wf.include(inner)

    inner.task(echo, x, id="later")

    assert list(wf) == ["inner/x"]
    assert list(wf.include(wf, name="self")) == [wf["self/inner/x"]]


# ------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    "name", ["", "a b", "a/b", "../x", ".x", "x~2", "ä", None, 5, "x" * 201]
)
def test_a_name_is_one_safe_word(name):
    with pytest.raises(InvalidTaskError, match="the name of a workflow"):
        Workflow(name)


@pytest.mark.parametrize(
    "bad", ["", "a b", "../x", "/x", "x/", "x~2", "ä", 5, b"a", "x" * 201]
)
def test_an_id_is_a_safe_path(bad):
    wf = Workflow("w")
    with pytest.raises(InvalidTaskError, match=r"^id: "):
        wf.task(zero, id=bad)
    assert len(wf) == 0


def test_an_id_is_taken_once():
    wf = Workflow("w")
    wf.task(zero, id="a")
    with pytest.raises(DuplicateTaskError, match="has a task 'a' already"):
        wf.task(zero, id="a")
    inner = Workflow("i")
    inner.task(zero, id="x")
    wf.include(inner)
    with pytest.raises(DuplicateTaskError, match=r"i/x already.*name="):
        wf.include(inner)
    assert list(wf) == ["a", "i/x"]


def test_nodes_of_another_workflow_are_refused_with_a_hint():
    wf, other = Workflow("w"), Workflow("other")
    a, foreign = wf.task(zero, id="a"), other.task(zero)
    for build in (
        lambda: wf.task(echo, foreign),
        lambda: wf.task(total, [a, foreign]),
        lambda: wf.task(zero, after=[foreign]),
        lambda: wf.chain(a, foreign),
        lambda: wf.chain([foreign], a),
        lambda: wf.include(other, after=[foreign]),
    ):
        with pytest.raises(InvalidTaskError, match=r"not of workflow 'w'.*wf\.include"):
            build()
    assert list(wf) == ["a"]
    assert edges(wf) == set()


def test_unknown_names_are_refused_with_a_guess():
    wf = Workflow("w")
    wf.task(zero, id="download")
    with pytest.raises(InvalidTaskError, match="does not have"):
        wf.chain("download", "nowhere")
    with pytest.raises(KeyError, match="did you mean 'download'"):
        wf["downlod"]
    with pytest.raises(KeyError):
        wf[["x"]]
    assert list(wf) == ["download"]
    wf.task(zero, after=["downlaod"], id="unpack")
    for use in (wf.to_dict, wf.to_networkx, lambda: wf.tasks("run")):
        with pytest.raises(
            InvalidTaskError, match=r"'unpack'.*did you mean 'download'"
        ):
            use()
    with TaskOrchestrator() as orch, pytest.raises(InvalidTaskError, match="downlaod"):
        orch.workflows.start(wf)


def test_a_task_may_name_another_that_comes_later():
    wf = Workflow("w")
    wf.task(sum, [Reference("a"), Reference("b")], id="total")
    wf.task(pow, Reference("b"), 2, id="a", after=["gate/keeper"])
    wf.task(int, 3, id="b", after=["gate/keeper"])
    wf.task(zero, id="gate/keeper")
    assert edges(wf) == {
        *(("a", "total"), ("b", "total"), ("b", "a")),
        *(("gate/keeper", "a"), ("gate/keeper", "b")),
    }
    with TaskOrchestrator() as orch:
        assert orch.workflows.start(wf).result()["total"] == 12


#: Whichever is first: a ring looks the same from each.
@pytest.mark.parametrize("order", list(itertools.permutations("abcd"))[:6])
def test_a_ring_is_refused_by_the_task_that_closes_it(order):
    """Whichever comes last: the workflow is as it was before, and goes on."""
    wf = Workflow("w")
    after = dict(zip("abcd", "bcda", strict=True))
    for name in order[:3]:
        wf.task(zero, id=name, after=[after[name]])
    with pytest.raises(CycleError, match="ring") as caught:
        wf.task(zero, id=order[3], after=[after[order[3]]])
    assert sorted(caught.value.cycle) == ["a", "b", "c", "d"]
    wf.task(zero, id=order[3])
    with TaskOrchestrator() as orch:
        assert len(orch.workflows.start(wf).result()) == 4


def test_a_task_of_a_phase_waits_for_one_of_the_phase_that_comes_later():
    wf = Workflow("w")
    one, two = wf.phase("one"), wf.phase("two")
    one.task(zero, id="a", after=["b"])
    with pytest.raises(CycleError):
        two.task(zero, id="b")
    one.task(zero, id="b")
    assert ("b", "a") in edges(wf)
    with TaskOrchestrator() as orch:
        orch.workflows.start(wf).result()


@pytest.mark.parametrize(
    "after", ["a", b"a", 5, None, [5], [None], [["a"]], [("a",)], {"a": 1}.items()]
)
def test_after_is_a_list_of_names(after):
    wf = Workflow("w")
    wf.task(zero, id="a")
    with pytest.raises(InvalidTaskError, match="after"):
        wf.task(zero, after=after)


def test_a_single_node_as_after_is_refused_with_a_hint():
    wf = Workflow("w")
    a = wf.task(zero)
    with pytest.raises(InvalidTaskError, match=r"put it in a list: after=\[…\]"):
        wf.task(zero, after=a)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda n: (n,),
        lambda n: {n},
        lambda n: {"x": n},
        lambda n: [[n]],
        lambda n: [{"x": n}],
    ],
)
def test_a_node_anywhere_in_the_arguments_is_a_dependency(wrap):
    """Never would it reach the function as a node."""
    wf = Workflow("w")
    a = wf.task(zero, id="a")
    node = wf.task(echo, wrap(a))
    assert node.after == ("a",)
    with TaskOrchestrator() as orch:
        assert orch.workflows.start(wf).result()["echo"] == wrap(0)


def test_a_node_where_no_result_could_take_its_place_is_refused():
    class Own(list):
        pass

    wf = Workflow("w")
    a = wf.task(zero, id="a")
    with pytest.raises(
        InvalidTaskError, match=r"argument 1 → \['x'\]\[0\] .*class Own"
    ):
        wf.task(echo, {"x": Own([a])})
    assert list(wf) == ["a"]


def test_a_node_is_no_argument_outside_its_workflow():
    node = Workflow("w").task(zero, id="a")
    with (
        TaskOrchestrator() as orch,
        pytest.raises(InvalidTaskError, match="part of a workflow"),
    ):
        orch.submit(echo, {"x": node})


@pytest.mark.parametrize("wrap", [lambda n: n, lambda n: {"x": n}, lambda n: [n]])
def test_a_node_in_a_payload_is_refused(wrap):
    wf = Workflow("w")
    a = wf.task(zero, id="a")
    with pytest.raises(InvalidTaskError, match=r"its payload.*context\.results"):
        wf.add(Task("kind", wrap(a)))


def test_what_is_no_task_no_function_no_workflow_and_no_node():
    wf = Workflow("w")
    for build, match in (
        (lambda: wf.task(5), "can be called"),
        (lambda: wf.add(zero), "a Task is added"),
        (lambda: wf.include("other"), "a Workflow is included"),
        (lambda: wf.include(Workflow("o"), name="a/b"), "name: 'a/b' has a slash"),
        (lambda: wf.chain(5), "no node and no id"),
        (lambda: wf.chain([zero]), "no node and no id"),
        (lambda: wf.task(echo, Task("kind")), "was not added"),
        (lambda: wf.task(zero, after=[Task("kind")]), "was not added"),
        (lambda: wf.tasks("a/b"), "id of a run"),
    ):
        with pytest.raises(InvalidTaskError, match=match):
            build()
    with pytest.raises(TypeError, match="'retry'"):
        wf.task(zero, max_tries=3)
    with pytest.raises(InvalidTaskError, match="idempotency key"):
        wf.task(zero, idempotency_key="k")
    assert len(wf) == 0


def test_handles_and_submitted_tasks_are_dependencies_from_outside():
    wf = Workflow("w")
    with TaskOrchestrator() as orch:
        handle = orch.submit(int, "4")
        task = Task.call(int, "5")
        orch.submit_task(task)
        node = wf.task(add, handle, task, after=[handle])
        assert node.after == ()
        assert orch.workflows.start(wf).result(60) == {"add": 9}


# -------------------------------------------------------------- rings, at once


def test_a_task_cannot_come_after_itself():
    wf = Workflow("w")
    a = wf.task(zero, id="a")
    with pytest.raises(CycleError, match="'a' waits for itself") as caught:
        wf.chain(a, a)
    assert caught.value.cycle == ("a",)
    with pytest.raises(CycleError) as caught:
        wf.task(zero, id="b", after=["b"])
    assert caught.value.cycle == ("b",)
    assert list(wf) == ["a"]


def test_a_chain_that_closes_a_ring_names_the_shortest_and_changes_nothing():
    wf = Workflow("w")
    a, b, c, d, e = (wf.task(zero, id=name) for name in "abcde")
    wf.chain(a, b, c, d)
    wf.chain(b, d)
    before = edges(wf)

    with pytest.raises(CycleError, match="in a ring: d → b → d") as caught:
        wf.chain(e, d, b)

    assert caught.value.cycle == ("d", "b")
    assert caught.value.hint
    assert edges(wf) == before
    wf.chain(a, e)
    with pytest.raises(CycleError) as caught:
        wf.chain(d, a)
    ring = caught.value.cycle
    after = wf.dependencies
    assert len(ring) == 3
    assert all(
        needed in after[name] or (name, needed) == ("a", "d")
        for name, needed in zip(ring, ring[1:] + ring[:1], strict=True)
    )


def test_what_is_added_after_a_search_for_rings_is_searched_too():
    wf = Workflow("w")
    a, b, c = (wf.task(zero, id=name) for name in "abc")
    wf.chain(a, b)
    wf.chain(b, c)
    with pytest.raises(CycleError):
        wf.chain(c, a)
    d = wf.task(echo, c, id="d")
    with pytest.raises(CycleError, match="b → a") as caught:
        wf.chain(d, a)
    assert set(caught.value.cycle) == set("abcd")
    assert isinstance(caught.value, UsageError)


# ------------------------------------------------------------------- long ones


#: Far more than may call each other.
LONG = 20_000
LAST = f"t{LONG - 1}"


@pytest.fixture(scope="module")
def long_chain() -> Workflow:
    wf = Workflow("long")
    last = wf.task(zero, id="t0")
    for i in range(1, LONG):
        last = wf.task(echo, last, id=f"t{i}")
    return wf


@SLOW
def test_a_long_chain_is_flat(long_chain):
    """Nothing recurses: repr, pictures, conversions, tasks."""
    assert repr(long_chain) == "<Workflow 'long': 20,000 tasks, 19,999 dependencies>"
    assert repr(long_chain[LAST].task).startswith("Task(")
    assert "19,800 more" in long_chain._repr_html_()
    assert long_chain.to_mermaid().count("-->") == LONG - 1
    assert len(long_chain.tasks("r")) == LONG
    with pytest.raises(CycleError) as caught:
        long_chain.chain(LAST, "t0")
    assert len(caught.value.cycle) == LONG
    assert len(str(caught.value)) < 400


@SLOW
def test_a_long_chain_converts(long_chain):
    functions = {"zero": zero, "echo": echo}
    document = long_chain.to_dict(functions)
    copy = Workflow.from_dict(document, functions)
    assert copy.dependencies[LAST] == (f"t{LONG - 2}",)
    graph = copy.to_networkx()
    assert Workflow.from_networkx(graph).dependencies == copy.dependencies
    graph.add_edge(LAST, "t0")
    with pytest.raises(CycleError) as caught:
        Workflow.from_networkx(graph)
    assert len(caught.value.cycle) == LONG


@SLOW
def test_chaining_many_nodes_one_by_one():
    wf = Workflow("w")
    nodes = [wf.add(Task("kind", id=f"t{i}")) for i in range(LONG)]
    for one, two in itertools.pairwise(nodes):
        wf.chain(one, two)
    assert wf[LAST].after == (f"t{LONG - 2}",)


def test_a_chain_that_is_refused_leaves_what_was_there_before():
    """Also the dependencies that it names once more."""
    wf = Workflow("w")
    a, b = wf.task(zero, id="a"), wf.task(zero, id="b")
    wf.chain(a, b)
    with pytest.raises(CycleError):
        wf.chain(a, b, a)
    with pytest.raises(CycleError):
        wf.chain(b, a)


@pytest.mark.parametrize("name", ["workflow_id", "last"])
def test_what_only_looks_like_a_run_is_refused(name):
    wf = Workflow("w")
    thing = SimpleNamespace(**{name: "x"})
    with pytest.raises(InvalidTaskError, match="which is no node, id or handle"):
        wf.task(zero, id="a", after=[thing])
