"""How long the first that cannot start waits, where small ones may pass it."""

import pytest
from hypothesis import example, given, strategies as st
from tests.core.kernel.harness import SEC, Machine, Policies, S
from tests.worlds.simulation.disasters import run_through_disasters

from taskorch.core.kernel._reservation import reservation
from taskorch.model import Resources
from taskorch.policies import PriorityQueue

#: What a task takes at the most, and what is expected of it at the most.
LONGEST = 20
MOST = 9


def job(exact):
    """When it comes; cpu, gpu and on which workers it can run; what it takes."""
    lengths = st.integers(1, MOST)
    expected = lengths if exact else st.one_of(st.none(), lengths)
    return st.tuples(
        st.integers(0, 15),
        st.integers(0, 6),
        st.integers(0, 2),
        st.sampled_from([None, ("x",)]),
        expected,
        st.integers(1, LONGEST),
    )


class Track:
    """Runs jobs, and looks at every reservation."""

    def __init__(self, jobs, exact):
        self.exact = exact
        self.jobs = jobs
        policies = Policies(rigid=True, backfills=True)
        # First in, first out: nobody who comes later comes first.
        policies.aging_ns = 0
        self.m = Machine(
            policies=policies, pools=Resources(cpu=6, gpu=2), concurrency=5
        )
        room = Resources(cpu=4)
        self.m.worker("a", "x", capacity=room, max_concurrency=2)
        self.m.worker("b", "x", max_concurrency=1)
        #: The first that cannot start, when it was expected to start at first, and by
        #: when all had ended that ran when that time had come.
        self.first = None
        self.expected = self.bound = None
        #: When each came, and how many were queued before it then.
        self.came = {}
        self.ends = {}

    def run(self):
        m = self.m
        begun = m.now
        arrivals = sorted(
            (begun + at * SEC, number) for number, (at, *_) in enumerate(self.jobs)
        )
        while arrivals or self.ends:
            times = [at for at, _ in arrivals[:1]] + list(self.ends.values())
            m.now = min(times)
            for name in [n for n, end in self.ends.items() if end <= m.now]:
                del self.ends[name]
                m.kernel.complete(m.row(name), 1, m.now)
            self.started(m.settle())
            while arrivals and arrivals[0][0] <= m.now:
                self.submit(arrivals.pop(0)[1])
        assert all(row.state is S.COMPLETED for row in m.kernel.tasks.values())

    def submit(self, number):
        _, cpu, gpu, requires, expected, _ = self.jobs[number]
        m = self.m
        name = str(number)
        m.policies.lengths[name] = expected
        self.came[name] = m.now, m.kernel.queued
        self.started(
            m.submit(
                name,
                type=name,
                requires=requires,
                resources=Resources(cpu=min(cpu, 4) if requires else cpu, gpu=gpu),
            )
        )

    def started(self, names):
        m = self.m
        for name in names:
            *_, expected, takes = self.jobs[int(name)]
            self.ends[name] = m.now + (expected if self.exact else takes) * SEC
            came, before = self.came[name]
            assert m.now - came <= (before + 1) * (MOST + LONGEST) * SEC
            if self.first == name:
                self.check_start()
            elif self.first is not None and m.row(name).seq < m.row(self.first).seq:
                # It came before, and waited for a slot alone: it has passed nobody.
                self.expected = self.bound = None
        self.look()

    def look(self):
        m = self.m
        kept = reservation(m.kernel, m.now)
        name = None if kept is None else kept.row.id
        if name != self.first:
            self.first, self.expected, self.bound = name, None, None
        if kept is None:
            return
        if kept.start_ns is None:
            assert not self.exact
            # Nobody who is not there yet can put it off.
            return
        if self.expected is not None:
            assert kept.start_ns <= max(self.expected, m.now)
        if self.expected is None:
            self.expected = kept.start_ns
        if kept.start_ns <= m.now and self.bound is None:
            self.bound = max(self.ends.values())

    def check_start(self):
        now = self.m.now
        if self.exact and self.expected is not None:
            assert now <= self.expected
        if self.bound is not None:
            assert now <= self.bound


@given(st.lists(job(exact=False), max_size=14))
@example(
    [
        *[(0, 0, 0, None, None, 1)] * 8,
        (0, 0, 0, ("x",), None, 3),
        (0, 0, 0, ("x",), 1, 2),
        (0, 0, 0, ("x",), None, 2),
        (1, 0, 1, ("x",), None, 1),
        (0, 0, 0, ("x",), 1, 1),
    ]
)
def test_where_they_are_not_it_starts_once_all_that_ran_at_its_time_has_ended(jobs):
    """And so within the bound of the docs, whoever else comes."""
    Track(jobs, exact=False).run()


@pytest.mark.parametrize("seed", range(4))
def test_whatever_goes_wrong_all_guarantees_hold(seed):
    def options(number):
        return {
            "resources": {"cpu": (1, 4, 0.5)[number % 3]},
            "expected": (None, 2, 1, 0.5)[number % 4],
            "priority": number % 2,
        }

    run_through_disasters(seed, PriorityQueue(backfill=True), options)
