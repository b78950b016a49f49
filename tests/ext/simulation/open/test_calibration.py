"""Of ten promises of nine in ten, nine hold: on generated workloads, by fixed seeds."""

from random import Random

import attrs
import pytest

from taskorch import Task, TaskOrchestrator
from taskorch.ext.simulation._open._course import OpenRun
from taskorch.ext.simulation._open._draws import OpenChance
from taskorch.ext.simulation._open._ends import drawn
from taskorch.ext.simulation._open._work import open_work
from taskorch.model import quantile

pytestmark = pytest.mark.timeout(900)
#: How many workloads are carried out, fifty times each. Of few, shares are less certain.
TRIALS = [
    25,
    pytest.param(300, marks=pytest.mark.slow("of many, the bounds are narrow")),
]
FEW = 100


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


@pytest.fixture(scope="module", params=TRIALS)
def trials(request):
    return [trial(number) for number in range(request.param)]


def held(trials, percent):
    return sum(end <= quantile(ends, percent) for ends, end in trials) / len(trials)


def test_of_ten_promises_of_nine_in_ten_nine_hold(trials):
    doubt = 0.05 if len(trials) < FEW else 0.03
    assert abs(held(trials, 90) - 0.9) <= doubt


def test_of_two_promises_of_one_in_two_one_holds(trials):
    doubt = 0.15 if len(trials) < FEW else 0.06
    assert abs(held(trials, 50) - 0.5) <= doubt
