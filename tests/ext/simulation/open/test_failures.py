"""Promises hold where attempts fail and are tried again: on workloads of fixed seeds."""

from random import Random

import attrs
import pytest

from taskorch import RetryPolicy, Task, TaskOrchestrator
from taskorch.ext.simulation._open._course import NO_END, OpenRun
from taskorch.ext.simulation._open._draws import OpenChance
from taskorch.ext.simulation._open._ends import drawn
from taskorch.ext.simulation._open._work import Failing, open_work
from taskorch.model import quantile

pytestmark = pytest.mark.timeout(900)
#: How many workloads are carried out, fifty times each. Of few, shares are less certain.
TRIALS = [
    25,
    pytest.param(300, marks=pytest.mark.slow("of many, the bounds are narrow")),
]
FEW = 100
SECOND = 1_000_000_000
#: A try that fails is not the last one: few tasks fail eight times.
RETRY = RetryPolicy(8, base=5)


def fetch():
    """Read."""


def build():
    """Change."""


KINDS = {each.__name__: each for each in (fetch, build)}


class Truth:
    """What nobody knows of a type: how often it fails, and how long it takes."""

    def __init__(self, random):
        self.share = random.uniform(0.1, 0.3)
        self.scale, self.width = random.uniform(1, 60), random.uniform(0.05, 1.0)
        #: Some fail at once, some at their end.
        self.part = random.choice((0.05, 0.5, 1.0))

    def attempt(self, random):
        fails = random.random() < self.share
        length = self.scale * random.lognormvariate(0, self.width)
        return int(SECOND * length * (self.part if fails else 1)), fails


class TrueChance(OpenChance):
    """What really happens."""

    def __init__(self, work, truth, random):
        super().__init__(work, "truth")
        self.may_fail = True
        self.truth = [truth[each.spec.type] for each in work.tasks]
        self.random = random
        self.failing = {}
        self.first = [self.again(place, 1) for place in range(len(work.tasks))]

    def again(self, number, attempt):
        length, self.failing[number] = self.truth[number].attempt(self.random)
        return length

    def error(self, number, attempt):
        return OSError("down") if self.failing.pop(number) else None


def open_tasks(random):
    orch = TaskOrchestrator(concurrency=random.randint(1, 4))
    tasks = []
    for _ in range(random.randint(3, 9)):
        after = random.sample(tasks, min(len(tasks), random.choice((0, 0, 1, 2))))
        kind = KINDS[random.choice([*KINDS])]
        tasks.append(Task.call(kind, after=after, retry=RETRY))
    ids = [handle.task_id for handle in orch.submit_tasks(tasks)]
    return open_work(orch._rt), ids


def measured(work, truth, random):
    """The same work, once some attempts of each type have ended."""
    many = random.choice((5, 10, 20, 40, 100))
    lengths, failing = {}, {}
    for kind, true in truth.items():
        ended = [true.attempt(random) for _ in range(many)]
        completed = sorted(length for length, fails in ended if not fails)
        failed = sorted(length for length, fails in ended if fails)
        lengths[kind] = completed or [int(true.scale * SECOND)]
        tries = [(1, True)] * len(failed)
        failing[kind] = Failing(failed, tries, len(completed))
    return attrs.evolve(work, measured=lengths, failing=failing)


def trial(number, *, knows=True):
    """The times that are promised, and the end that comes."""
    random = Random(f"failures {number}")
    work, ids = open_tasks(random)
    truth = {kind: Truth(random) for kind in KINDS}
    work = measured(work, truth, random)
    places = [work.places[random.choice(ids)]]
    if random.random() < 0.5:
        places = list(work.places.values())
    run = OpenRun(work, TrueChance(work, truth, random), places, lambda: False)
    run.carry_out()
    known = work if knows else attrs.evolve(work, failing={})
    ends = drawn(known, places, 60.0, most=50).ends
    return ends, run.last_ns(places, of_run=False)


@pytest.fixture(scope="module", params=TRIALS)
def trials(request):
    return [trial(number) for number in range(request.param)]


def held(trials, percent):
    sure = [(ends, end) for ends, end in trials if end != NO_END]
    return sum(end <= quantile(ends, percent) for ends, end in sure) / len(sure)


def test_of_two_promises_of_one_in_two_one_holds_though_attempts_fail(trials):
    doubt = 0.02 if len(trials) < FEW else 0
    assert 0.42 - doubt <= held(trials, 50) <= 0.6 + doubt


@pytest.mark.slow("says of the workload, not the library")
def test_promises_that_know_of_no_failure_come_too_early(trials):
    """So this workload shows whether failures are counted."""
    some = trials[:FEW]
    blind = [trial(number, knows=False) for number in range(len(some))]
    assert held(blind, 90) < held(some, 90) - 0.06


def test_an_attempt_that_completes_does_not_reach_a_timeout_that_counts_as_a_failure():
    orch = TaskOrchestrator()
    orch.submit_tasks([Task.call(fetch, type="t", timeout=10)])
    failing = {"t": Failing([10 * SECOND] * 5, [(1, True)] * 5, 5)}
    lengths = {"t": [number * SECOND for number in range(5, 10)]}
    work = attrs.evolve(open_work(orch._rt), measured=lengths, failing=failing)
    draws = [OpenChance(work, str(number)) for number in range(300)]
    completing = [each.first[0] for each in draws if each.error(0, 1) is None]
    assert len(completing) > 100
    assert max(completing) < 10 * SECOND
