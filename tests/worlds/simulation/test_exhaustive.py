"""All that can happen in small worlds, and mistakes that such a search must find."""

from typing import Any

import pytest
from tests.worlds.simulation.exhaustive import LawBrokenError, search
from tests.worlds.simulation.scopes import SMALL
from tests.worlds.simulation.small_world import Scope, World

from taskorch.core.kernel import Kernel, _queue


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=[pytest.mark.slow("much can happen")] if transitions > 700 else [],
        )
        for name, (_, _, transitions) in SMALL.items()
    ],
)
def test_all_that_can_happen_keeps_the_laws(name):
    """Every state that can be reached is visited, and every law holds in it."""
    scope, states, transitions = SMALL[name]
    reach = search(scope)
    assert reach.states >= states
    assert reach.transitions >= transitions


@pytest.mark.slow("follows each choice in each state")
def test_states_that_count_as_the_same_have_the_same_future():
    """What the key of a state leaves out decides nothing that can still happen."""
    scope = Scope(after=((),), crashes=1, cancels=1, delay_ns=2)
    futures: dict[Any, set[Any]] = {}
    again = 0
    queue = [World(scope)]
    while queue:
        world = queue.pop()
        key, choices, saved = world.key(), list(world.choices()), world.save()
        future = {(action, _after(saved, action).key()) for action in choices}
        # To commit what makes no difference is no step.
        future.discard((("commit",), key))
        if key in futures:
            again += 1
            assert futures[key] == future
            continue
        futures[key] = future
        queue += [_after(saved, action) for action in choices]
    assert len(futures) == search(scope).states
    assert again > len(futures)


def _after(saved: Any, action: Any) -> Any:
    world = saved.load()
    world.do(action)
    return world


def test_too_many_states_are_an_error():
    """A search that does not come to its end says so."""
    with pytest.raises(ValueError, match="more than 10 states"):
        search(Scope(), most=10)


# -- planted mistakes ------------------------------------------------------------------


def accepts_results_of_another_incarnation(monkeypatch):
    """The fence does not look at the incarnation."""
    end = Kernel.end_reported

    def wrong(self, fence, *rest):
        end(self, (None, *fence[1:]), *rest)

    monkeypatch.setattr(Kernel, "end_reported", wrong)


def wakes_nobody(monkeypatch):
    """A slot that is free again is told to nobody."""
    monkeypatch.setattr(_queue, "wake", lambda kernel, place: None)


@pytest.mark.parametrize(
    ("plant", "scope", "law"),
    [
        (accepts_results_of_another_incarnation, Scope(crashes=1), "a late result"),
        (wakes_nobody, Scope(), "nothing waits that could run"),
    ],
)
def test_a_planted_mistake_is_found(monkeypatch, plant, scope, law):
    """It is told by the law that it breaks."""
    plant(monkeypatch)
    with pytest.raises(LawBrokenError, match=law):
        search(scope)


def test_the_shortest_way_to_a_bug_is_told(monkeypatch):
    """The message is a story: each step, with the events that it made."""
    accepts_results_of_another_incarnation(monkeypatch)
    with pytest.raises(LawBrokenError) as caught:
        search(Scope(after=((),), crashes=1))
    steps = [line for line in str(caught.value).splitlines() if line[:5].strip()]
    assert steps[3:] == [
        "   1. t1 is submitted",
        "   2. all events are committed",
        "   3. attempt 1 of t1, begun in incarnation 1: failed",
        "   4. the orchestrator crashes: 2 events are lost; and recovers",
        "   5. attempt 2 of t1, begun in incarnation 1: completed",
    ]
    assert "          TaskCompleted t1, 2, near, 0" in str(caught.value).splitlines()
