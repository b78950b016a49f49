"""Laws of workflows, over random ones."""

import threading

from hypothesis import given, strategies as st

from taskorch import Workflow


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
def test_networkx_there_and_back(dag, how):
    wf = build(dag, Log(), how)
    back = Workflow.from_networkx(wf.to_networkx(), name="w")
    assert list(back) == list(wf)
    for name in wf:
        assert set(back.dependencies[name]) == set(wf.dependencies[name])
        assert back[name].task == wf[name].task
    names = [{t.id for t in w.tasks("r")} for w in (wf, back)]
    assert names[0] == names[1]
