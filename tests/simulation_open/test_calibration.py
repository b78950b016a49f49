"""Of ten promises of nine in ten, nine hold: on generated workloads, by fixed seeds."""

from random import Random

import attrs
import pytest

from taskorch import Task, TaskOrchestrator
from taskorch.model import quantile
from taskorch.simulation._open._course import OpenRun
from taskorch.simulation._open._draws import OpenChance
from taskorch.simulation._open._ends import drawn
from taskorch.simulation._open._work import open_work

#: Three hundred workloads are carried out, a hundred times each.
pytestmark = pytest.mark.timeout(900)
TRIALS = 300


def extract():
    """Read."""


def transform():
    """Change."""


def load():
    """Write."""


KINDS = {each.__name__: each for each in (extract, transform, load)}
SECOND = 1_000_000_000


class TrueChance(OpenChance):
    """What really happens: durations of the distribution that nobody knows."""

    def __init__(self, work, truth, random):
        super().__init__(work, "truth")
        self.first = [truth[each.spec.type](random) for each in work.tasks]

    def again(self, number, attempt):
        raise AssertionError("nothing fails here")


def distribution(random):
    """Seconds of one type: of one mode or of two, narrow or wide."""
    scale, width = random.uniform(1, 60), random.uniform(0.05, 1.2)
    if random.random() < 0.3:
        far = random.uniform(2, 6)
        return lambda r: int(
            SECOND
            * scale
            * (far if r.random() < 0.3 else 1)
            * r.lognormvariate(0, width / 4)
        )
    return lambda r: int(SECOND * scale * r.lognormvariate(0, width))


def open_tasks(random):
    """A few tasks, of which some wait for others, on a few slots."""
    orch = TaskOrchestrator(concurrency=random.randint(1, 4))
    tasks = []
    for _ in range(random.randint(3, 9)):
        after = random.sample(tasks, min(len(tasks), random.choice((0, 0, 1, 2))))
        tasks.append(Task.call(KINDS[random.choice([*KINDS])], after=after))
    ids = [handle.task_id for handle in orch.submit_tasks(tasks)]
    return open_work(orch._rt), ids


def trial(number):
    """The times that are promised, and the end that comes."""
    random = Random(f"calibration {number}")
    work, ids = open_tasks(random)
    truth = {kind: distribution(random) for kind in KINDS}
    many = random.choice((5, 10, 20, 40, 100))
    measured = {
        kind: sorted(draw(random) for _ in range(many)) for kind, draw in truth.items()
    }
    work = attrs.evolve(work, measured=measured)
    places = [work.places[random.choice(ids)]]
    if random.random() < 0.5:
        places = list(work.places.values())
    run = OpenRun(work, TrueChance(work, truth, random), places, lambda: False)
    run.carry_out()
    ends = drawn(work, places, 60.0, most=50).ends
    return ends, max(run.ended_ns(place) for place in places)


@pytest.fixture(scope="module")
def trials():
    return [trial(number) for number in range(TRIALS)]


def test_of_ten_promises_of_nine_in_ten_nine_hold(trials):
    held = sum(end <= quantile(ends, 90) for ends, end in trials)
    assert 0.87 <= held / TRIALS <= 0.93


def test_of_two_promises_of_one_in_two_one_holds(trials):
    held = sum(end <= quantile(ends, 50) for ends, end in trials)
    assert 0.44 <= held / TRIALS <= 0.56
