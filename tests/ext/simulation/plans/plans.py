"""Plans for the tests, and what a schedule must satisfy whatever it is."""

from hypothesis import strategies as st

from taskorch import Resources, Task, Workflow

NS = 1_000_000_000


def ns(seconds):
    return round(seconds * NS)


def work():
    raise AssertionError("a simulation runs no task")


def chain(*ids):
    """Tasks of which each waits for the one before."""
    above = None
    tasks = []
    for name in ids:
        tasks.append(Task.call(work, id=name, after=[above] if above else []))
        above = name
    return tasks


@st.composite
def workflows(draw, most=10, resources=False):
    """A workflow with lengths in ms, some of them 0."""
    wf = Workflow("random")
    lengths = {}
    for n in range(draw(st.integers(1, most))):
        above = sorted(draw(st.sets(st.integers(0, n - 1), max_size=3))) if n else []
        cpu = draw(st.integers(0, 2)) if resources else 0
        wf.task(
            work,
            id=f"t{n}",
            after=[f"t{parent}" for parent in above],
            resources=Resources(cpu=cpu),
        )
        lengths[f"t{n}"] = draw(st.integers(0, 5_000)) / 1_000
    return wf, lengths


def critical_ns(wf, lengths):
    """The longest chain, the plain way."""
    ends = {}
    for name, above in wf.dependencies.items():
        ends[name] = max((ends[p] for p in above), default=0) + ns(lengths[name])
    return max(ends.values(), default=0)


def check_schedule(report, wf, lengths):
    """Every task ran once, for as long as it takes, after all that it waits for."""
    spans = {one.task_id: one for one in report.schedule}
    assert len(spans) == len(report.schedule) == len(wf)
    for name, above in wf.dependencies.items():
        one = spans[name]
        assert ns(one.end) - ns(one.start) == ns(lengths[name])
        for parent in above:
            assert spans[parent].end <= one.start
    assert report.makespan == max(one.end for one in report.schedule)
