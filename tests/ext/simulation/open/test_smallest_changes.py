"""
What `orch.in_time` names, on many seeded states: it works, and is the smallest that does.

The call that is named is made on the same state once more, and that is simulated; all
smaller changes of its kind are tried one by one. One in ten may not be the smallest: a
search by halves may pass over one, as more is not always better.
"""

import re
from functools import partial
from random import Random

import pytest

from taskorch import Task, TaskOrchestrator, Workflow
from taskorch.ext.simulation._open._changes import groups_of
from taskorch.ext.simulation._open._course import OpenRun, Tried
from taskorch.ext.simulation._open._draws import OpenChance
from taskorch.ext.simulation._open._work import open_work
from taskorch.kit.words import ns_of

pytestmark = [pytest.mark.slow("judges 200 states"), pytest.mark.timeout(1_800)]
#: So many states are judged, in so many parts.
STATES = 200
PARTS = 4
DRAWS, LATE = 20, 2
WHOLE = 1_000_000
PRIORITY = r"(?P<many>\d+)\)$"
POOL = r"^orch\.resources\.resize\(\{'gpu': (?P<many>\d+)\}\)$"
SLOTS = r"^TaskOrchestrator\(concurrency=(?P<many>\d+)\)$"


def work_of_time():
    """Take some time."""


class State:
    """A small state that has not begun: tasks on their own and of a run, in a queue."""

    def __init__(self, seed):
        random = Random(f"in time {seed}")
        self.slots = random.randint(1, 3)
        self.units = random.randint(2, 4)
        self.tasks = [
            self._task(random, f"t{number}") for number in range(random.randint(5, 12))
        ]
        self.flow = Workflow("flow")
        self.steps = above = []
        for number in range(random.randint(1, 4)):
            after = random.sample(above, min(len(above), random.randint(0, 2)))
            self.flow.add(self._task(random, f"s{number}", after=after))
            above.append(f"s{number}")
        self.is_first = random.random() < 0.5
        self.of = random.choice([*(each.id for each in self.tasks), "run"])
        #: The time there is, as a part of that within which it ends in nine of ten cases.
        self.part = random.uniform(0.4, 0.95)

    def _task(self, random, name, **options):
        asks = {"gpu": random.randint(1, self.units)} if random.random() < 0.7 else {}
        return Task.call(
            work_of_time,
            id=name,
            expected=random.randint(10, 90),
            priority=random.randint(0, 3),
            resources=asks,
            **options,
        )

    def made(self, slots=None):
        """The orchestrator of it, with so many slots."""
        slots = self.slots if slots is None else slots
        orch = TaskOrchestrator(concurrency=slots, resources={"gpu": self.units})
        if self.is_first:
            orch.workflows.start(self.flow, "run")
        orch.submit_tasks(self.tasks)
        if not self.is_first:
            orch.workflows.start(self.flow, "run")
        return orch

    def after(self, call):
        """The orchestrator of it, once *call* was called."""
        parts = call.split("; ")
        slots = [
            int(found["many"]) for each in parts if (found := re.search(SLOTS, each))
        ]
        orch = self.made(*slots)
        for part in parts:
            if not re.search(SLOTS, part):
                eval(part, {"orch": orch})
        return orch


def is_enough(work, places, of_run, left_ns, tried):
    """Whether it ends within so much time in nine of ten draws."""
    late = 0
    for draw in range(DRAWS):
        chance = OpenChance(work, f"0/{draw}")
        run = OpenRun(work, chance, places, lambda: False, tried)
        run.carry_out()
        late += run.last_ns(places, of_run=of_run) > work.now_ns + left_ns
    return late <= LATE


class Judged:
    """The judgement on what is named for one state."""

    def __init__(self, seed):
        state = State(seed)
        orch = state.made()
        usual = orch.when(state.of, budget=60)
        seconds = (usual.p90 - usual.at).total_seconds() * state.part
        answer = orch.in_time(state.of, deadline=seconds, budget=600)
        promise = answer.promise
        left_ns = ns_of(promise.deadline) - ns_of(promise.at)
        of_run = state.of == "run"
        work = open_work(orch._rt)
        names = [f"run/{each}" for each in state.steps] if of_run else [state.of]
        places = [work.places[each] for each in names]
        enough = partial(is_enough, work, places, of_run, left_ns)
        #: Of each change: its name, whether it works, and whether no smaller one does;
        #: None: it has no amount.
        self.changes = []
        for each in answer.changes:
            call = (seed, each.kind, each.call)
            if each.kind == "later":
                name = each.call.partition("'")[2].partition("'")[0]
                later = tuple(groups_of(work)[name])
                works = enough(Tried(later=later, until=tuple(places)))
                self.changes.append((call, works, None))
                continue
            changed = open_work(state.after(each.call)._rt)
            # The draws are those of the state that was asked about.
            assert [one.id for one in changed.tasks] == [one.id for one in work.tasks]
            works = is_enough(changed, places, of_run, left_ns, Tried())
            smaller = [*self._smaller(state, work, places, each)]
            is_least = not any(map(enough, smaller)) if each.kind in KNOBS else None
            self.changes.append((call, works, is_least))

    def _smaller(self, state, work, places, change):
        """The changes of its kind that are smaller."""
        if change.kind not in KNOBS:
            return
        many = int(re.search(KNOBS[change.kind], change.call)["many"])
        if change.kind == "priority":
            least = min(work.tasks[place].priority for place in places)
            for value in range(least + 1, many):
                yield Tried(dict.fromkeys(places, value))
        elif change.kind == "pool":
            asked = [u for e in work.tasks for n, u in e.spec.resources if n == "gpu"]
            for units in range(min(asked), (many - state.units) * WHOLE, min(asked)):
                yield Tried(more={"gpu": units})
        else:
            for more in range(1, many - state.slots):
                yield Tried(slots=more)


KNOBS = {"priority": PRIORITY, "pool": POOL, "slots": SLOTS}


@pytest.mark.parametrize("part", range(PARTS))
def test_what_is_named_works_and_is_the_smallest_that_does(part):
    changes = [
        each for seed in range(part, STATES, PARTS) for each in Judged(seed).changes
    ]
    assert len(changes) >= STATES // PARTS // 2
    assert [call for call, works, _ in changes if not works] == []
    judged = [(call, least) for call, _, least in changes if least is not None]
    larger = [call for call, least in judged if not least]
    assert len(larger) <= 0.1 * len(judged), larger
