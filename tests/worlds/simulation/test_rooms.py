"""
Worlds with all that is above the kernel in them, killed at any step.

What is to hold of their events is `tests.house.tools.book`: a page for each promise.
That the book notices what is wrong is seen by changing an event of a world that is
right.
"""

from __future__ import annotations

from random import Random

import pytest
from tests.house.tools.explore import explore
from tests.house.tools.rooms import Rooms, options_of_rooms

from taskorch.events import (
    AgentProbed,
    AgentRestored,
    AgentTripped,
    AlertCleared,
    AlertRaised,
    QuestionAnswered,
    ResultReused,
    ScheduleFired,
    ScheduleSkipped,
    StartsHeld,
    StartsReleased,
    TaskCompleted,
    TaskFailed,
    TaskRewarded,
    TaskStarted,
)
from taskorch.testing import Breach, Faults, Simulation


@pytest.mark.parametrize("seed", range(3))
def test_worlds_of_all_rooms_keep_their_promises(seed):
    explore(seed, 40, rooms=True)


def test_with_all_faults_at_once_they_do_too():
    runs = [explore(seed, 25, rooms=True, faults=Faults.all()) for seed in range(3)]
    assert sum(run.world.crashes for run in runs) > 2


@pytest.mark.slow("what is rare among random worlds")
@pytest.mark.parametrize("seed", range(1_000, 1_025))
def test_many_worlds_of_all_rooms_keep_their_promises(seed):
    explore(seed, rooms=True)


@pytest.fixture(scope="module")
def worlds():
    """Worlds in which each of the rooms has something to do, and all is right."""
    return [quiet_world(seed) for seed in (3, 4, 13)]


def quiet_world(seed):
    random = Random(seed)
    simulation = Simulation(seed, **options_of_rooms(random))
    rooms = Rooms(random, simulation, pace=1.0, steps=60)
    rooms.begin()
    rooms.drain()
    return simulation.events, rooms


def test_each_of_the_rooms_has_something_to_do(worlds):
    kinds = {type(event).__name__ for events, _ in worlds for event in events}
    assert kinds >= {
        *("ScheduleFired", "ScheduleSkipped", "QuestionAnswered", "AnswerRefused"),
        *("ResultRemembered", "ResultReused", "ResultsForgotten", "StartsHeld"),
        *("AlertRaised", "AlertCleared", "StartsReleased", "TaskOptionsChanged"),
        *("AgentTripped", "AgentProbed", "AgentRestored", "AgentDraining"),
        *("TaskRetrying", "TaskBlocked", "TaskRepointed", "TaskRewarded"),
    }


def without(event):
    return []


def twice(event):
    return [event, event]


def to(**changes):
    return lambda event: [event.__replace__(**changes)]


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (TaskCompleted, twice),
        (TaskCompleted, without),
        (TaskFailed, twice),
        (TaskStarted, twice),
        (ScheduleFired, twice),
        (ScheduleFired, without),
        (ScheduleSkipped, without),
        (ScheduleSkipped, to(slots=7)),
        (QuestionAnswered, twice),
        (QuestionAnswered, to(by="eve")),
        (QuestionAnswered, without),
        (ResultReused, to(source_id="another")),
        (ResultReused, without),
        (AgentTripped, without),
        (AgentTripped, to(until_ns=1)),
        (AgentProbed, without),
        (AgentRestored, twice),
        (AlertRaised, twice),
        (AlertRaised, without),
        (AlertCleared, twice),
        (AlertCleared, to(seconds=215.0)),
        (TaskRewarded, twice),
        (TaskRewarded, without),
        (StartsHeld, without),
        (StartsReleased, without),
    ],
)
def test_an_event_that_is_not_as_it_was_is_noticed(worlds, kind, change):
    """One of a kind, of each world: the first that makes a difference is enough."""
    noticed = tried = 0
    for events, rooms in worlds:
        places = [n for n, event in enumerate(events) if type(event) is kind]
        for place in places[:2]:
            changed = [*events]
            changed[place : place + 1] = change(changed[place])
            tried += 1
            try:
                rooms.read(changed)
            except Breach:
                noticed += 1
    assert tried
    # What nobody had to hear of is no breach, as a hold that somebody else had, too.
    assert noticed >= tried / 4
