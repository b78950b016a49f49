"""Stories that are told as text: `texts/*.txt`, which `stories` plays."""

from difflib import unified_diff
from itertools import count
from typing import Any

import pytest
from tests.core.kernel.harness import Twin
from tests.core.kernel.stories import COLUMN, play, stories, texts
from tests.core.kernel.test_snapshot import both_ways

from taskorch.core.kernel import take_snapshot

#: A snapshot is taken after every third line; in stories of snapshots after each.
STORIES = [
    pytest.param(
        story,
        every,
        id=f"{path.stem}: {story.splitlines()[0]}",
        marks=pytest.mark.slow("a snapshot after each line")
        if every == 1 and path.stem != "snapshots"
        else (),
    )
    for path in texts()
    for story in stories(path)
    if not story.startswith("#")
    for every in (3, 1)
    if every == 1 or path.stem != "snapshots"
]


@pytest.mark.parametrize(("story", "every"), STORIES)
def test_it_happens_as_it_is_told(story: str, every: int) -> None:
    """
    Events after a snapshot lead from it to where all of them do; an incarnation
    follows.
    """
    lives: dict[Twin, list[Any]] = {}
    lines = count(len(story))

    def keep(machine: Twin) -> None:
        snapshots = lives.setdefault(machine, [])
        if next(lines) % every == 0:
            snapshots.append(take_snapshot(machine.kernel, machine.now))

    before, now = story.splitlines(), play(story, keep).splitlines()
    changes = list(unified_diff(before, now, "told", "happened", lineterm=""))
    assert not changes, "\n".join(changes)
    for machine, snapshots in lives.items():
        events = [event for event, _ in machine.sink]
        for snapshot in snapshots:
            both_ways(machine.kernel, snapshot, events, pools=machine.pools)
        machine.restart()
        machine.reopen()


def test_a_story_that_is_told_otherwise_is_seen() -> None:
    """A state that does not come, an event that is left out, and an invented one."""
    told = f"It runs.\n{'  submit t':<{COLUMN}} → t RUNNING"
    assert play(told) == told
    for wrong in (
        told.replace("RUNNING", "QUEUED"),
        told.split(" → ", maxsplit=1)[0].rstrip(),
        f"{told}\n    SlotLeaked t",
    ):
        assert play(wrong) == told
