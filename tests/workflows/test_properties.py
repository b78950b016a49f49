"""Laws of workflows, over random ones."""

import threading

from hypothesis import given, settings, strategies as st
from tests.integration.tools import PATIENCE
from tests.tools.examples import examples

from taskorch import Task, TaskOrchestrator, TaskState, Workflow, WorkflowFailedError


class Log:
    """Functions that say when they began and ended."""

    def __init__(self, broken: frozenset[int] = frozenset()) -> None:
        self.events: list[tuple[str, int]] = []
        self._broken = broken
        self._lock = threading.Lock()

    def run(self, number: int, *_values: object) -> int:
        with self._lock:
            self.events.append(("begin", number))
        if number in self._broken:
            raise ValueError(number)
        with self._lock:
            self.events.append(("end", number))
        return number

    def place(self, what: str, number: int) -> int:
        return self.events.index((what, number))


@st.composite
def dags(draw, most: int = 12):
    """Of each number, the smaller ones that it needs."""
    size = draw(st.integers(0, most))
    return {
        n: sorted(draw(st.sets(st.integers(0, n - 1), max_size=3))) if n else []
        for n in range(size)
    }


def build(dag: dict[int, list[int]], log: Log, how: list[int]) -> Workflow:
    """The edges as arguments, in `after`, or made by `chain` at the end."""
    wf = Workflow("w")
    nodes = {}
    for n, needs in dag.items():
        kinds = [how[(n + need) % len(how)] for need in needs]
        args = [
            nodes[need] for need, kind in zip(needs, kinds, strict=True) if kind == 0
        ]
        after = [
            f"n{need}" for need, kind in zip(needs, kinds, strict=True) if kind == 1
        ]
        nodes[n] = wf.task(log.run, n, *args, id=f"n{n}", after=after)
    for n, needs in dag.items():
        wf.chain([nodes[need] for need in needs], nodes[n])
    return wf


HOW = st.lists(st.integers(0, 2), min_size=1, max_size=3)


@given(dags(), HOW)
@settings(max_examples=examples(40))
def test_every_task_runs_once_and_after_all_that_it_needs(dag, how):
    log = Log()
    wf = build(dag, log, how)
    with TaskOrchestrator(concurrency=3) as orch:
        results = orch.workflows.start(wf).result(PATIENCE)
    assert results == {f"n{n}": n for n in dag}
    assert len(log.events) == 2 * len(dag)
    for n, needs in dag.items():
        assert all(log.place("end", need) < log.place("begin", n) for need in needs)


@given(dags(), st.sets(st.integers(0, 11)))
@settings(max_examples=examples(40))
def test_what_does_not_need_a_failure_completes_and_what_does_never_begins(dag, bad):
    log = Log(frozenset(bad))
    wf = build(dag, log, [0, 1])
    broken: set[int] = set()
    for n, needs in dag.items():
        if n in bad or broken.intersection(needs):
            broken.add(n)
    roots = {n for n in dag if n in bad and not broken.intersection(dag[n])}
    with TaskOrchestrator(concurrency=3) as orch:
        run = orch.workflows.start(wf)
        try:
            run.result(PATIENCE)
            failures = set()
        except WorkflowFailedError as error:
            failures = set(error.failures)
        status = run.status()
    assert failures == {f"n{n}" for n in roots}
    for n in dag:
        expected = "failed" if n in roots else "blocked" if n in broken else "completed"
        assert status.tasks[f"n{n}"] == expected
    assert status.state is (TaskState.FAILED if roots else TaskState.COMPLETED)
    assert {n for what, n in log.events if what == "begin"} == set(dag) - broken | roots


@given(dags(), HOW)
def test_networkx_there_and_back(dag, how):
    wf = build(dag, Log(), how)
    back = Workflow.from_networkx(wf.to_networkx(), name="w")
    assert list(back) == list(wf)
    for name in wf:
        assert set(back.dependencies[name]) == set(wf.dependencies[name])
        assert back[name].task == wf[name].task
    names = [{t.id for t in w.tasks("r")} for w in (wf, back)]
    assert names[0] == names[1]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(dags(), HOW, st.lists(JSON, min_size=1, max_size=4))
def test_documents_there_and_back(dag, how, values):
    log = Log()
    functions = {"run": log.run}
    wf = build(dag, log, how)
    for i, value in enumerate(values):
        wf.add(Task("kind", value, id=f"kind{i}", after=list(wf)[:2]))
        if not (isinstance(value, dict) and "$result" in value):
            wf.task(log.run, i, [value, 1] if i % 2 else value)
    document = wf.to_dict(functions)
    back = Workflow.from_dict(document, functions)
    assert back.to_dict(functions) == document
    for name in wf:
        assert set(back.dependencies[name]) == set(wf.dependencies[name])
        assert repr(back[name].task) == repr(wf[name].task)


@given(dags(), dags(), HOW)
def test_including_is_a_copy_under_another_name(outer, inner, how):
    wf, other = build(outer, Log(), how), build(inner, Log(), how)
    before = dict(wf.dependencies)
    first = [wf[name] for name in list(wf)[-1:]]
    last = wf.include(other, name="in", after=first)
    for name, above in other.dependencies.items():
        expected = [f"in/{parent}" for parent in above] or [node.id for node in first]
        assert wf.dependencies[f"in/{name}"] == tuple(expected)
    assert {k: v for k, v in wf.dependencies.items() if k in before} == before
    needed = {parent for above in other.dependencies.values() for parent in above}
    ends = [f"in/{name}" for name in other if name not in needed]
    assert [node.id for node in last] == (ends or [node.id for node in first])
